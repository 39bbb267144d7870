"""Suspects for lesson 10. What a hunt is: see 03_reverse.py."""

HUNTS = {
    "hunt_guidance": {
        "A": ("guide.classifier_free", "if w == 1 or", "if w <= 1 or", 2),
        "B": ("guide.classifier_free", "uncond(x_t, t)\n", "uncond(x_t, max(t - 1, 1))\n", 3),
        "C": ("guide.classifier_free", "return without +", "return eps_hat +", 4),
        "D": ("guide.classifier_free", None, None, 0),
    },
}
