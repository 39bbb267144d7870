"""Wrong answers to lesson 17: beside the arc, across the seam. What a mutant is: 01_forward.py."""

SHIFT = "    def rolled(x_t, t):\n        shift = rng.integers(0, x_t.shape[1:3])"
ROLLED = "np.roll(eps_model(np.roll(x_t, shift, (1, 2)), t), -shift, (1, 2))"
COSINE = "(a * b).sum(axes, keepdims=True) / np.maximum(length_a * length_b, 1e-9)"

MUTANTS = {
    "edit.slerp": [
        (
            "arc = np.sin(angle) > 1e-6",
            "arc = np.sin(angle) > 9",
            "that is the straight line: half way it is too short, where a and b are at right "
            "angles by the factor sqrt(1/2)",
        ),
        (
            "axes = tuple(range(1, a.ndim))",
            "axes = tuple(range(a.ndim))",
            "one angle for the whole batch: each image has its own, so sum over all axes but the "
            "first",
        ),
        (
            "return to_a * a + to_b * b",
            "return to_b * a + to_a * b",
            "a and b are exchanged: share 0 is a",
        ),
        (
            "2 * np.arctan2(apart, together)",
            "np.arctan2(apart, together)",
            "half the angle: |a - b| / |a + b| is the tangent of half of it, for a and b of equal "
            "length",
        ),
        (
            "2 * np.arctan2(apart, together)",
            f"np.arccos(np.clip({COSINE}, -1, 1))",
            "an arccos loses half of its digits where a and b are nearly parallel: use the arctan2 "
            "of the docstring",
        ),
        (
            "whole = np.where(arc, np.sin(angle), 1)",
            "whole = 1",
            "you left out the division by sin(angle): at share 0 it must be a itself",
        ),
    ],
    "edit.tile": [
        (
            "-shift, (1, 2))",
            "0 * shift, (1, 2))",
            "the answer is not shifted back: its noise belongs to other pixels than those of x_t",
        ),
        (
            "-shift, (1, 2))",
            "shift, (1, 2))",
            "the answer is shifted again in the same direction; it has to go back, by -shift",
        ),
        (
            f"{SHIFT}",
            "    shift = rng.integers(0, shape[1:3])\n\n    def rolled(x_t, t):",
            "one shift for all steps: then the edge only lies elsewhere; draw a new one for each "
            "call of the model",
        ),
        (
            ROLLED,
            "np.roll(eps_model(np.roll(x_t, shift, (0, 1)), t), -shift, (0, 1))",
            "you shift images within the batch and rows: H and W are axes 1 and 2",
        ),
        (
            "ddim(rolled",
            "ddim(eps_model",
            "the model sees the tile where it lies, never shifted: that is the ordinary sampler",
        ),
        (
            "rng.integers(0, x_t.shape[1:3])",
            "rng.integers(0, x_t.shape[1:3]) * np.array([0, 1])",
            "shifted across only: the seam between the upper and the lower edge stays",
        ),
    ],
}
