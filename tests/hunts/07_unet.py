"""Suspects for lesson 07. What a hunt is: see 03_reverse.py."""

HUNTS = {
    "hunt_unet": {
        "A": ("unet.run_unet", "skips.append(h)", 'skips.append(getattr(h, "value", h))', 2),
        "B": (
            "unet.run_unet",
            "skips.pop()",
            "skips.pop(-1 if len(skips) % 2 else -2)",
            5,
        ),
        "C": ("unet.run_unet", None, None, 0),
        "D": ("unet.run_unet", "skips.pop()), e)", "skips.pop()), e[::-1])", 6),
    },
}
