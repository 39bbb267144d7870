"""Suspects for lesson 11: Fréchet distances. What a hunt is: 03_reverse.py."""

HUNTS = {
    "hunt_frechet": {
        # divided by N: hardly seen with many images
        "A": ("measure.metrics.frechet", "np.sqrt(len(x) - 1)", "np.sqrt(len(x))", 3),
        # the gap is not squared: right where it is 0 or 1
        "B": ("measure.metrics.frechet", "gap @ gap", "np.sqrt(gap @ gap)", 5),
        "C": ("measure.metrics.frechet", None, None, 0),
        # axis by axis: right where covariances are diagonal
        "D": (
            "measure.metrics.frechet",
            "np.linalg.svd(R_r @ R_f.T, compute_uv=False).sum()",
            "np.sqrt((R_r**2).sum(0) * (R_f**2).sum(0)).sum()",
            4,
        ),
    },
}
