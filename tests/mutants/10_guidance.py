"""Wrong answers to lesson 10: how students miss guidance. What a mutant is: see 01_forward.py."""

MIX = "without + x_t.dtype.type(w) * (eps_hat - without)"
ROOT = "np.sqrt(1 - s.alpha_bar[t])"
GUIDED = f"""\
        eps_hat = cond(x_t, t)
        if w == 1 or (interval and not interval[0] <= t <= interval[1]):
            return eps_hat
        without = uncond(x_t, t)
        return {MIX}"""
ALWAYS_BOTH = f"""\
        eps_hat, without = cond(x_t, t), uncond(x_t, t)
        if interval and not interval[0] <= t <= interval[1]:
            return eps_hat
        return {MIX}"""
SHRUNK = "np.clip(x0_hat, -limit, limit) / limit"

MUTANTS = {
    "guide.by_gradient": [
        (
            "- pull",
            "+ pull",
            "you walk downhill: what is added to the score is subtracted from eps_hat, which is "
            "minus the score",
        ),
        (
            ROOT,
            "(1 - s.alpha_bar[t])",
            "the root is missing: score = -eps_hat / sqrt(1 - alpha_bar)",
        ),
        (
            f"strength * {ROOT}",
            "strength",
            "you treat eps_hat as if it were minus the score; they differ by the factor sqrt(1 - "
            "alpha_bar)",
        ),
        (
            f"strength * {ROOT}",
            f"strength / {ROOT}",
            "the factor is turned over: eps_hat is the score times -sqrt(1 - alpha_bar)",
        ),
        (
            ROOT,
            "np.sqrt(s.alpha_bar[t])",
            "this is the factor of the image, sqrt(alpha_bar); the factor is that of the noise",
        ),
        (f"strength * {ROOT}", ROOT, "the strength is not used"),
    ],
    "guide.classifier_free": [
        (
            MIX,
            MIX.replace("without +", "eps_hat +"),
            "this is the w of the paper, 0 for no guidance; here w = 1 is cond alone: start from "
            "uncond",
        ),
        (
            MIX,
            MIX.replace("(eps_hat - without)", "(without - eps_hat)"),
            "the difference has the wrong sign: you lead away from what was asked for",
        ),
        (
            MIX,
            "x_t.dtype.type(w) * eps_hat - without",
            "the weights of cond and uncond must add up to 1: w and 1 - w",
        ),
        (
            "x_t.dtype.type(w) *",
            "w *",
            "a w of float64 makes your answer float64; a model answers in the precision of x_t",
        ),
        ("t <= interval[1]", "t < interval[1]", "the interval includes its highest time"),
        (
            "return eps_hat\n",
            "return uncond(x_t, t)\n",
            "where there is no guidance (w = 1, or t outside the interval) the answer is cond's; "
            "you called uncond",
        ),
    ],
    "guide.threshold": [
        (
            "np.maximum(limit, 1)",
            "limit",
            "quiet images are stretched: the limit is never less than 1",
        ),
        (
            "axis=tuple(range(1, x_t.ndim))",
            "axis=None",
            "one limit for the whole batch; each image has its own",
        ),
        (
            SHRUNK,
            SHRUNK.removesuffix(" / limit"),
            "you clip at the limit but do not divide by it: x0_hat still leaves [-1, 1]",
        ),
        (
            SHRUNK,
            "x0_hat / limit",
            "you divide but do not clip: the few values beyond the limit still leave [-1, 1]",
        ),
        (
            SHRUNK,
            "np.clip(x0_hat, -1, 1)",
            "you clip at 1 whatever the limit is: the static kind, which makes all that sticks "
            "out alike",
        ),
        (
            "np.abs(x0_hat)",
            "x0_hat",
            "the quantile is that of |x0_hat|: dark values stick out as bright ones do",
        ),
        (
            "axis=tuple(range(1, x_t.ndim))",
            "axis=(1, 2, 3) if x_t.ndim == 4 else 1",
            "all axes but the first belong to an image, however many there are",
        ),
        (
            SHRUNK,
            "np.minimum(x0_hat, limit) / limit",
            "you cut off what is too bright; what is too dark, below -limit, still leaves [-1, 1]",
        ),
    ],
    "guide.negative_prompt": [
        (
            "- x_t.dtype.type(away)",
            "+ x_t.dtype.type(away)",
            "you lead towards what is not wanted: its probability stands in the denominator",
        ),
        (
            "(unwanted(x_t, t) - nothing)",
            "unwanted(x_t, t)",
            "p(unwanted | x_t) is p(x_t | unwanted) / p(x_t): the difference from uncond counts",
        ),
        (
            "nothing = uncond(x_t, t)",
            "nothing = unwanted(x_t, t)",
            "you put unwanted in uncond's place, as drawing programs do: that is another score, "
            "and away has no part in it",
        ),
        (
            "(unwanted(x_t, t) - nothing)",
            "(unwanted(x_t, t) - cond(x_t, t))",
            "you lead from unwanted to cond; both differences are taken from uncond",
        ),
        (
            "x_t.dtype.type(w)",
            "x_t.dtype.type(1 + w)",
            "your w counts from 0, as in the paper: here w = 1 is Bayes' rule, so it is the factor",
        ),
        (
            "x_t.dtype.type(w)",
            "w",
            "a w of float64 makes your answer float64; a model answers in the precision of x_t",
        ),
    ],
    "hunts.hunt_guidance": [
        (
            '"A": 2',
            '"A": 0',
            "A: equation (7) holds for any w; try one below 1 as well",
        ),
        (
            '"B": 3',
            '"B": 0',
            "B: note the times at which it asks the two models",
        ),
        (
            '"C": 4',
            '"C": 2',
            "C: which w would, by (7), give the variance that it draws?",
        ),
        (
            '"D": 0',
            '"D": 4',
            "D: which instrument says so? Not every suspect has a slip",
        ),
    ],
}
