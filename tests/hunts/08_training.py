"""Suspects for lesson 08, Algorithm 1. What a hunt is: see 03_reverse.py."""

TRAIN = "train.train"
LABELS = "drop_labels(labels[i], run.model.classes, p_drop, rng)"

HUNTS = {
    "hunt_training": {
        "A": (TRAIN, "rng.integers(1, s.T + 1, size=batch)", "rng.integers(s.T, size=batch)", 2),
        "B": (TRAIN, LABELS, LABELS.replace("labels[i]", "labels[:batch]"), 1),
        "C": (TRAIN, None, None, 0),
        "D": (
            TRAIN,
            "diffusion.q_sample(s, x0, t, eps)",
            "diffusion.q_sample(s, x0, t - 1, eps)",
            4,
        ),
        "E": (TRAIN, LABELS, "labels[i]", 6),
    },
}
