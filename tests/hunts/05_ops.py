"""Suspects for lesson 05, the gradient of group norm. What a hunt is: see 03_reverse.py."""

NORM_GRAD = "kernels.reference.group_norm_grad"

HUNTS = {
    "hunt_layer": {
        "A": (
            NORM_GRAD,
            "(g_hat * x_hat).mean((1, 3), keepdims=True)",
            "(g_hat * x_hat).mean((0, 1, 3), keepdims=True)",
            4,
        ),
        "B": (NORM_GRAD, None, None, 0),
        "C": (NORM_GRAD, "(_grouped(x, G) - m) * r", "_grouped(x, G) * r", 1),
        "D": (NORM_GRAD, "_grouped(g * scale, G)", "_grouped(g, G)", 2),
        "E": (NORM_GRAD, "gx = r * (", "gx = r * r * (", 5),
    },
}
