"""Suspects for lesson 12: fillers of holes. What a hunt is: 03_reverse.py."""

HUNTS = {
    "hunt_inpaint": {
        # right where no time is skipped
        "A": ("design.edit.inpaint", "s.alpha_bar[t] / s.alpha_bar[u]", "s.alpha[t]", 5),
        # the level is right, the noise is the same at every time
        "B": (
            "design.edit.inpaint",
            "noise_like(x0, 1 - s.alpha_bar[u], rng)",
            "noise_like(x0, 1 - s.alpha_bar[u], np.random.default_rng(7))",
            3,
        ),
        "C": ("design.edit.inpaint", None, None, 0),
        "D": (
            "design.edit.inpaint",
            "put_back(start(x0.shape, rng, x_T), times[0])",
            "start(x0.shape, rng, x_T)",
            1,
        ),
    },
}
