"""Suspects for lesson 06, one step of Adam. What a hunt is: see 03_reverse.py."""

ADAM = "kernels.reference.adam_step"

HUNTS = {
    "hunt_optimiser": {
        "A": (ADAM, "v / (1 - beta2**k)", "v", 3),
        "B": (ADAM, "(np.sqrt(v_hat) + eps)", "np.sqrt(v_hat + eps)", 4),
        "C": (ADAM, None, None, 0),
        "D": (
            ADAM,
            "m[:] = beta1 * m",
            "g, decay = g + decay * theta, 0.0\n    m[:] = beta1 * m",
            5,
        ),
        "E": (ADAM, "(1 - beta2) * g * g", "(1 - beta2) * m * m", 2),
    },
}
