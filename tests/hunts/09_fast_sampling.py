"""Suspects for lesson 09. What a hunt is: see 03_reverse.py."""

HUNTS = {
    "hunt_solver": {
        "A": ("sample.dpmpp_2m", "before = x0_hat, lam", "before = D, lam", 5),
        "B": ("sample.dpmpp_2m", None, None, 0),
        "C": ("sample.dpmpp_2m", "r = (lam - before[1]) / (", "r = 1.0 + 0 * (", 3),
        "D": ("sample.dpmpp_2m", "1 / (2 * r)", "1 / r", 4),
    },
}
