"""Wrong answers to lesson 06, time embedding and optimiser. What a mutant is: 01_forward.py."""

IN_PLACE = """m[:] = beta1 * m + (1 - beta1) * g
    v[:] = beta2 * v + (1 - beta2) * g * g
    m_hat, v_hat = m / (1 - beta1**k), v / (1 - beta2**k)
    theta -= lr * ("""

MUTANTS = {
    "nn.time_embedding": [
        (
            "    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)",
            "    return np.squeeze(np.concatenate([np.sin(angle), np.cos(angle)], axis=1))",
            "a single time loses its axis: N = 1 gives (1, E)",
        ),
        (
            "np.asarray(t, dtype=np.float64)[:, None]",
            "np.unique(t)[:, None]",
            "the times come out sorted, each once; row n belongs to t[n]",
        ),
        (
            "np.asarray(t, dtype=np.float64)[:, None]",
            "abs(np.asarray(t, dtype=np.float64))[:, None]",
            "the sign of t is lost: sin(-a) = -sin(a)",
        ),
        (
            "np.asarray(t, dtype=np.float64)[:, None]",
            "(np.asarray(t, dtype=np.float64) % 1000)[:, None]",
            "t is taken modulo 1000; a number may be larger",
        ),
        (
            "np.sin(angle), np.cos(angle)",
            "np.sin(angle), np.sin(angle)",
            "there are only sines, and a sine alone cannot tell t from half a wavelength minus t; "
            "the second half is cosines",
        ),
        (
            "np.sin(angle), np.cos(angle)",
            "np.cos(angle), np.sin(angle)",
            "the halves are swapped: the sines come first",
        ),
        (
            ".astype(np.float32)",
            "",
            "the result is float64: return float32, the network's precision",
        ),
        (
            "longest ** (-np",
            "longest ** (np",
            "the exponent lacks its minus sign: the frequencies must fall, from 1 to nearly 1 / "
            "longest",
        ),
        (
            "/ (E // 2))",
            "/ E)",
            "the exponent is -i / (E / 2), so that the wavelengths reach nearly 2 pi longest; "
            "with -i / E they reach only 2 pi sqrt(longest)",
        ),
        (
            "np.arange(E // 2) / (E // 2))",
            "np.arange(E // 2) / max(E // 2 - 1, 1))",
            "the exponent is divided by E/2 - 1; some papers do that, here it is E/2",
        ),
        (
            "np.concatenate([np.sin(angle), np.cos(angle)], axis=1)",
            "np.stack([np.sin(angle), np.cos(angle)], axis=2).reshape(len(angle), -1)",
            "sines and cosines alternate, as in the Transformer paper of 2017; here all sines "
            "come first, then all cosines",
        ),
    ],
    "kernels.reference.adam_step": [
        (
            "theta -= lr * (m_hat / (np.sqrt(v_hat) + eps) + decay * theta)",
            "theta -= lr * (np.clip(m_hat / (np.sqrt(v_hat) + eps), -1, 1) + decay * theta)",
            "the step is cut off at lr; where gradients grow it is longer",
        ),
        (
            "m / (1 - beta1**k), v / (1 - beta2**k)",
            "(m, v) if k > 5 else (m / (1 - beta1**k), v / (1 - beta2**k))",
            "the bias correction ends after a few steps; it is needed in all of them",
        ),
        (
            "    theta -= lr * (",
            "    flat = theta.ravel()\n    flat -= lr * (",
            "ravel copies an array that has gaps in memory, and the caller's theta stays as it "
            "was; theta -= ...",
        ),
        (
            "m / (1 - beta1**k), v / (1 - beta2**k)",
            "m, v",
            "the bias correction is missing: m and v start at 0 and are too small at first; "
            "divide by 1 - beta1^k and 1 - beta2^k",
        ),
        (
            "(np.sqrt(v_hat) + eps)",
            "np.sqrt(v_hat + eps)",
            "eps is inside the root, where it acts as its root, 1e-4 instead of 1e-8; add it "
            "outside the root",
        ),
        (
            "m / (1 - beta1**k), v / (1 - beta2**k)",
            "m / (1 - beta1 ** (k - 1)), v / (1 - beta2 ** (k - 1))",
            "k is counted from 0: the first correction divides by zero; k is 1 at the first step",
        ),
        (
            "m[:] = beta1 * m + (1 - beta1) * g",
            "g = g + decay * theta\n    decay = 0\n    m[:] = beta1 * m + (1 - beta1) * g",
            "the decay is added to the gradient and so goes through m and v (L2 regularisation); "
            "AdamW subtracts lr decay theta separately",
        ),
        (
            "(1 - beta2) * g * g",
            "(1 - beta2) * g",
            "v is the running mean of g squared, not of g",
        ),
        (
            "m[:] = beta1 * m + (1 - beta1) * g\n    v[:] = ",
            "m = beta1 * m + (1 - beta1) * g\n    v = ",
            "m and v are new arrays, and the caller's stay as they were, so the means never "
            "accumulate; write into them, m[:] = ...",
        ),
        (
            IN_PLACE,
            IN_PLACE.replace("[:]", "").replace("theta -= lr * (", "theta = theta - lr * ("),
            "nothing changed for the caller: m = ... and theta = theta - ... make new arrays; "
            "write m[:] = ..., v[:] = ..., theta -= ...",
        ),
        (
            "beta1 * m + (1 - beta1) * g",
            "(1 - beta1) * m + beta1 * g",
            "beta1 and 1 - beta1 are swapped: beta1 is the weight of the old mean",
        ),
        (
            "theta -= lr * (",
            "theta = theta - lr * (",
            "theta = theta - ... makes a new array, and the caller's stays as it was: update it "
            "in place, theta -= ...",
        ),
        (
            "theta -= lr * (m_hat / (np.sqrt(v_hat) + eps) + decay * theta)",
            "theta -= lr * m_hat / (np.sqrt(v_hat) + eps)\n    theta -= lr * decay * theta",
            "the decay is applied after the step, to the new theta; both terms use theta as it "
            "was before this step",
        ),
    ],
    "kernels.reference.clip_norm": [
        (
            "    if norm > largest:",
            "    if norm > 1.01 * largest:",
            "a gradient that is a little too long is left as it is; longer than `largest` is too "
            "long",
        ),
        (
            "largest / norm",
            "largest / (norm + 1e-6)",
            "you divide by |g| + 1e-6, so that the gradient comes out a little too short; inside "
            "the `if` |g| is not 0",
        ),
        (
            "    if norm > largest:\n        g *= g.dtype.type(largest / norm)",
            "    g *= g.dtype.type(largest / max(norm, largest))",
            "inf / inf is nan: with largest = inf nothing is to be clipped",
        ),
        (
            "    if norm > largest:",
            "    if norm > 0:",
            "short gradients are made longer: scale only those that are longer than largest",
        ),
        (
            "np.sqrt(np.dot(g, g))",
            "np.dot(g, g)",
            "that is the squared length: the root is missing",
        ),
        (
            "np.sqrt(np.dot(g, g))",
            "np.abs(g).sum()",
            "that is the sum of the absolute values; |g| is the root of the sum of squares",
        ),
        (
            "g *= g.dtype.type(largest / norm)",
            "np.clip(g, -largest, largest, out=g)",
            "each value is clipped separately, which changes the gradient's direction; scale the "
            "whole gradient by one factor",
        ),
        (
            "g *= g.dtype",
            "g = g * g.dtype",
            "you made a new array, and the caller's g stays as long as it was; scale it in place, "
            "g *= ...",
        ),
        (
            "    return norm",
            "    return min(norm, largest)",
            "return the length before clipping: the length afterwards would hide an explosion",
        ),
    ],
    "optim.warmup_cosine": [
        ("last=0.02", "last=0.0", "by default last is 0.02"),
        ("warmup=0.05", "warmup=0.1", "by default warmup is 0.05"),
        (
            "    angle = ",
            "    if done > 1:\n        return 0.0\n    angle = ",
            "beyond done = 1 it falls to 0; it is to stay at `last`",
        ),
        (
            "(min(done, 1.0) - warmup) / (1 - warmup)",
            "min(done, 1.0)",
            "the cosine spans the whole training, which makes a jump at the end of the warm-up; "
            "let it begin there",
        ),
        (
            "min(done, 1.0)",
            "done",
            "beyond done = 1 the cosine goes on, and up again; it is to stay at `last`",
        ),
        ("last + (1 - last) * (1 + math", "(1 + math", "it falls to 0: it should end at `last`"),
        (
            "last + (1 - last) * (1 + math",
            "(1 - last) * (1 + math",
            "`+ last` is missing: scaled to 1 - last, the cosine must be raised by last",
        ),
        ("last + (1 - last) *", "last +", "it begins at 1 + last: scale the cosine by (1 - last)"),
        (
            "return done / warmup",
            "return done",
            "the warm-up does not reach 1: divide by its share of the training",
        ),
        ("(1 + math.cos", "(1 - math.cos", "the cosine rises: 1 + cos falls from 2 to 0"),
        (
            "math.pi * (min",
            "2 * math.pi * (min",
            "a whole period falls and rises again: use half a period, pi",
        ),
    ],
    "optim.ema_decay": [
        ("longest=0.999", "longest=0.9999", "by default longest is 0.999"),
        (
            "min(longest, (1 + step) / (10 + step))",
            "longest if step > 1000 else min(longest, (1 + step) / (10 + step))",
            "keep is `longest` from some step on, long before the rule reaches it",
        ),
        ("min(longest", "min(longest, 0.999", "no more than 0.999, although `longest` allows it"),
        (
            "(1 + step) / (10 + step)",
            "(1 + step - 9) / (1 + step)",
            "you took 1 / (1 - keep) for the mean age; the newest value has age 0, so that it is "
            "keep / (1 - keep)",
        ),
        (
            "min(longest, (1 + step) / (10 + step))",
            "(1 + step) / (10 + step)",
            "the limit is missing: late in a training keep stays at `longest`",
        ),
        (
            "min(longest",
            "max(longest",
            "keep is at most `longest`, so the smaller of the two; you took the larger",
        ),
        (
            "(1 + step) / (10 + step)",
            "step / (9 + step)",
            "your mean age is step / 9; it should be (1 + step) / 9",
        ),
        (
            "(1 + step) / (10 + step)",
            "9 / (10 + step)",
            "that is 1 - keep, the weight of the newest value; `keep` is the weight of the old "
            "average",
        ),
        (
            "(1 + step) / (10 + step)",
            "0.5 ** (9 / (1 + step))",
            "you gave the average that half-life; the mean age is the mean of the ages 0, 1, 2, "
            "..., each with its weight",
        ),
    ],
    "hunts.hunt_optimiser": [
        (
            '"A": 3',
            '"A": 2',
            "look at A again, with beta1 = 0, and with beta2 = 0: in which is the first step lr?",
        ),
        (
            '"B": 4',
            '"B": 0',
            "look at B again, with gradients a million times smaller",
        ),
        (
            '"C": 0',
            '"C": 6',
            "look at C again: is there any setting in which it leaves the right path?",
        ),
        (
            '"D": 5',
            '"D": 0',
            "look at D again, with a decay that is not 0",
        ),
        (
            '"E": 2',
            '"E": 3',
            "look at E again, with beta1 = 0, and with beta2 = 0: in which is the first step lr?",
        ),
    ],
}
