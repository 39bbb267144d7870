"""Suspects for lesson 02: see 03_reverse.py."""

HUNTS = {
    "hunt_step_back": {
        "A": ("diffusion.q_posterior", "c0 * x0 + ct * x_t", "c0 * x0 + (1 - c0) * x_t", 3),
        "B": ("diffusion.q_posterior", None, None, 0),
        "C": (
            "diffusion.q_posterior",
            "at(s.beta_tilde, t, x_t)",
            "at(s.beta_tilde, t - 1, x_t)",
            4,
        ),
        "D": ("diffusion.q_posterior", "shaped(c, x_t)", "shaped(np.mean(c), x_t)", 2),
    },
}
