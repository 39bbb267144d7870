"""Wrong answers to lesson 12: how students miss an edit. What a mutant is: 01_forward.py."""

NOISED = "q_sample(s, x0, start, noise_like(x0, 1 - s.alpha_bar[start], rng))"
PUT_BACK = "mask * q_sample(s, x0, u, noise_like(x0, 1 - s.alpha_bar[u], rng)) + (1 - mask) * x"
HOLE = "(1 - mask) * q_sample(s, x0, u, noise_like(x0, 1 - s.alpha_bar[u], rng)) + mask * x"
STEP_UP = "x_t = x.dtype.type(shrink) * x + x.dtype.type(along) * eps_model(x_t, t)"
SHIFT = "    def rolled(x_t, t):\n        shift = rng.integers(0, x_t.shape[1:3])"
ROLLED = "np.roll(eps_model(np.roll(x_t, shift, (1, 2)), t), -shift, (1, 2))"
COSINE = "(a * b).sum(axes, keepdims=True) / np.maximum(length_a * length_b, 1e-9)"

MUTANTS = {
    "edit.image_to_image": [
        (
            NOISED,
            "noise_like(x0, 1 - s.alpha_bar[start], rng)",
            "you start from plain noise: the photo is nowhere in it, and below T the model takes "
            "noise for a picture; start from q_sample",
        ),
        (
            "noise_like(x0, 1 - s.alpha_bar[start], rng)",
            "0 * x0",
            "you shrink the photo and add no noise: nothing is hidden, and the model finds less "
            "noise than there should be at this t",
        ),
        (
            "round(strength * s.T)",
            "round((1 - strength) * s.T)",
            "your strength runs the wrong way: 0 leaves the photo as it is, 1 hides all of it",
        ),
        (
            "round(strength * s.T)",
            "int(strength * s.T)",
            "you cut off the decimals of strength T; the start is the nearest whole number",
        ),
        (
            "*(t for t in times if t < start)",
            "*range(start - 1, -1, -1)",
            "you visit every time below the start; where `times` are given, only those of them "
            "that lie below it",
        ),
        (
            "below, eta, x, clip)",
            "below, 0.0, x, clip)",
            "you don't pass eta on: what comes after the start is ddim with this eta",
        ),
        (
            "x = q_sample(s, x0, start,",
            "x = q_sample(s, x0, max(start - 1, 0),",
            "the photo gets the noise of start - 1, and the model gets start: it finds too little "
            "noise",
        ),
        (
            "start = visited(s, times), round(strength * s.T)",
            "start = visited(s, times), min(visited(s, times), key=lambda t: abs(t - strength * "
            "s.T))",
            "you start at the visited time nearest to strength T; the start is round(strength T), "
            "and of `times` those below it follow",
        ),
    ],
    "edit.inpaint": [
        (
            "clip), u)",
            "clip), t)",
            "the known part gets the noise of t, which the sample has just left; after the step "
            "all of it lives at u",
        ),
        (
            "noise_like(x0, 1 - s.alpha_bar[u], rng)",
            "noise_like(x0, 0.0, rng)",
            "you put the known part back without noise, sqrt(alpha_bar) x0: the model gets u, and "
            "expects the noise of u everywhere",
        ),
        (
            "q_sample(s, x0, u, noise_like(x0, 1 - s.alpha_bar[u], rng))",
            "x0",
            "you put x0 itself back; what lies beside the sample at u is q_sample(s, x0, u, noise)",
        ),
        (
            "x = put_back(start(x0.shape, rng, x_T), times[0])",
            "x = start(x0.shape, rng, x_T)",
            "x_T lacks its known part: put it in before the first step, at times[0]",
        ),
        (
            f"return {PUT_BACK}",
            f"return {HOLE}",
            "you keep the hole and draw the rest: mask = 1 means keep",
        ),
        (
            "            if again:",
            "            if False:",
            "your further rounds step down from x_u as if it were x_t: go back up first, by one "
            "step of noise",
        ),
        (
            "x.dtype.type(np.sqrt(1 - leap)) * noise_like",
            "x.dtype.type(1 - leap) * noise_like",
            "on the way up the noise lacks its root: 1 - leap is a variance",
        ),
        (
            "leap = s.alpha_bar[t] / s.alpha_bar[u]",
            "leap = s.alpha[t]",
            "alpha[t] leads from t - 1 to t; where times are skipped the way up from u to t is "
            "alpha_bar[t] / alpha_bar[u]",
        ),
        (
            "rounds if u > 0 else 1",
            "rounds",
            "you go back up from u = 0 too: the last step is taken once",
        ),
        (
            "rng, eta, wide, clip), u)\n        yield x",
            "rng, eta, wide, clip), u)\n            yield x",
            "you yield every round; one array per visited time, after the last round",
        ),
        (
            "noise_like(x0, 1 - s.alpha_bar[u], rng)",
            "vars(put_back).setdefault('z', None if 'z' in vars(put_back) else "
            "noise_like(x0, 1 - s.alpha_bar[u], rng))",
            "you draw one noise for the known part and keep it; each time it is put back, its "
            "noise is fresh",
        ),
    ],
    "sample.ddim_invert": [
        (
            "eps_model(x_t, t)",
            "eps_model(x_t, max(u, 1))",
            "you call the model at u, the time you leave; ddim's step down from t called it at t",
        ),
        (
            "x.dtype.type(shrink) * x +",
            "x.dtype.type(shrink) * x_t +",
            "each of your rounds starts where the last one ended, and climbs further; start every "
            "round from x_u",
        ),
        (
            "* eps_model(x_t, t)",
            "* eps_model(x, t)",
            "your rounds all give the model x_u, so that the second gives what the first gave; "
            "give it the x_t found so far",
        ),
        (
            "np.sqrt(1 - s.alpha_bar[t]) - shrink * np.sqrt(1 - s.alpha_bar[u])",
            "np.sqrt(1 - s.alpha_bar[t]) - np.sqrt(1 - s.alpha_bar[u])",
            "the noise in x_u shrinks along with it: sqrt(1 - alpha_bar[u]) goes with "
            "sqrt(alpha_bar[t] / alpha_bar[u])",
        ),
        (
            "x.dtype.type(along) * eps_model",
            "-x.dtype.type(along) * eps_model",
            "you take noise away on the way up: the sign is +",
        ),
        (
            "pairwise(times[::-1])",
            "[(u, t) for t, u in pairwise(times)]",
            "you walk the pairs from T down; the inversion begins at 0 with x0 and ends at "
            "times[0]",
        ),
        (
            STEP_UP,
            STEP_UP + "\n            yield x_t",
            "you yield every round; one array a visited time, after the last round",
        ),
        (
            "x.dtype.type(along)",
            "np.asarray([along])",
            "float32 goes in, float64 comes out: NumPy's float64 scalars make the result float64",
        ),
    ],
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

TESTS = {"sample.ddim_invert": "test_solvers.py"}
