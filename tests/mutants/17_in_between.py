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
        (
            "arc = np.sin(angle) > 1e-6",
            "arc = np.all(np.sin(angle) > 1e-6)",
            "one parallel pair makes a straight line of every pair in the batch: whether there "
            "is an arc is each pair's own question",
        ),
        (
            "arc = np.sin(angle) > 1e-6",
            "arc = (np.sin(angle) > 1e-6) & (angle < 3.1)",
            "you go straight where a and b are nearly opposite: only where sin(angle) <= 1e-6 "
            "is there no arc",
        ),
        (
            "axes = tuple(range(1, a.ndim))",
            "axes = tuple(range(1, a.ndim)) if a.ndim == 4 else 0",
            "you sum over the right axes for images (N, H, W, C) only: all axes but the first "
            "count, however many there are",
        ),
        (
            "axes = tuple(range(1, a.ndim))",
            "axes = tuple(range(1, a.ndim))\n    b = b * np.sqrt((a**2).sum(axes, "
            "keepdims=True) / np.maximum((b**2).sum(axes, keepdims=True), 1e-12))",
            "you made b as long as a; b comes as long as it is",
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
        (
            "return ddim(rolled, s, shape, rng, times,",
            "times = times if times is None else sorted({int(t) for t in times}, "
            "reverse=True)\n    return ddim(rolled, s, shape, rng, times,",
            "you put the times in order; a list that does not decrease is a ValueError",
        ),
        (
            "return ddim(rolled",
            "x_T = np.random.default_rng(0).standard_normal(shape, dtype=np.float32) if x_T is "
            "None else x_T\n    return ddim(rolled",
            "you drew x_T from a generator of your own; it comes from rng",
        ),
        (
            "times, eta, x_T, clip)",
            "times, eta, x_T, clip if x_T is None or x_T.dtype == np.float64 else np.inf)",
            "you pass clip on for float64 only; it is kept whatever the precision",
        ),
    ],
}
