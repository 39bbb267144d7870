"""Guidance against closed forms: with Gaussian classes a guided score is that of a Gaussian again.

score = -eps_hat / sqrt(1 - alpha_bar); for x_t of data N(m, v) it is
-(x_t - sqrt(alpha_bar) m) / V, V = alpha_bar v + 1 - alpha_bar
"""

import math

import numpy as np
import pytest
from test_sample import LONG, T8, law, rejects

from tinydiff import diffusion, exact, guide, sample, schedule

TIMES = [(T8, t) for t in range(1, 9)] + [(LONG, t) for t in (1, 20, 300, 1000)]
X = np.random.default_rng(5).normal(0.2, 1.3, (6, 2, 2, 3))
CLASSES = np.random.default_rng(6).normal(0.3, 0.8, (3, 2, 2, 3))  # the middles of three classes
VARS, WEIGHTS = np.array([0.3, 0.7, 0.15]), np.array([0.2, 0.5, 0.3])
PRECISIONS = ((np.float64, 1e-10), (np.float32, 2e-4))


def agree(got, want, dtype, tol, what):
    assert np.shape(got) == want.shape, (
        f"{what}: the answer has the shape {np.shape(got)}, expected {want.shape}, that of x_t"
    )
    assert got.dtype == dtype, (
        f"{what}: the answer is {got.dtype}, expected {np.dtype(dtype)}, the precision of x_t"
    )
    away = np.abs(np.nan_to_num(got - want, nan=np.inf))
    worst = np.unravel_index(np.argmax(away), want.shape)
    there = f"at {[int(i) for i in worst]} expected {want[worst]:.6g}, got {got[worst]:.6g}"
    if f"{want[worst]:.6g}" == f"{got[worst]:.6g}":
        there = f"it must be the same bit for bit, and is off by up to {away[worst]:.3g}"
    assert np.allclose(got, want, rtol=tol, atol=tol), f"{what}: {there}"


def score(s, x_t, t, mean, var):
    """The score of x_t when the data is N(mean, var)."""
    return -(x_t - math.sqrt(s.alpha_bar[t]) * mean) / (s.alpha_bar[t] * var + 1 - s.alpha_bar[t])


def eps_of(s, t, score):
    return -math.sqrt(1 - s.alpha_bar[t]) * score


class Noted:
    """A model with some answer to everything, which notes the times at which it was called."""

    def __init__(self, a):
        self.a, self.times = a, []

    def __call__(self, x_t, t):
        self.times.append(t)
        return np.cos(self.a * x_t + t)


# --- classifier_free ---


def check_one_and_zero(classifier_free):
    """w = 1 is cond alone, bit for bit; w = 0 is uncond."""
    for dtype, _ in PRECISIONS:
        x, cond, uncond = X.astype(dtype), Noted(0.7), Noted(1.9)
        got = classifier_free(cond, uncond, 1.0)(x, 3)
        agree(got, cond(x, 3), dtype, 1e-5, "w = 1, where the answer is cond's")
        assert uncond.times == [], (
            "w = 1 needs cond only; uncond was called too, which costs as much again"
        )
        agree(got, cond(x, 3), dtype, 0, "w = 1, where the answer is cond's")
        got = classifier_free(cond, uncond, 0.0)(x, 3)
        agree(got, uncond(x, 3), dtype, 1e-6, "w = 0, where the answer is uncond's")


def check_equation(classifier_free):
    """Both answers, mixed with the weights w and 1 - w, in x_t's precision."""
    for dtype, tol in PRECISIONS:
        x, cond, uncond = X.astype(dtype), Noted(0.7), Noted(1.9)
        for w in (0.3, 2.5, -1.5, np.float64(4)):
            want = w * np.cos(0.7 * X + 3) + (1 - w) * np.cos(1.9 * X + 3)
            agree(classifier_free(cond, uncond, w)(x, 3), want, dtype, tol, f"w = {w}")
        assert np.array_equal(x, X.astype(dtype)), (
            "x_t was changed in place: the sampler still needs it"
        )


def check_interval(classifier_free):
    """The interval includes both ends; outside the answer is cond's."""
    cond, uncond = Noted(0.7), Noted(1.9)
    guided = classifier_free(cond, uncond, 2.5, interval=(3, 6))
    for t in range(8, 0, -1):
        want, tol, place = cond(X, t), 0, "outside"
        if 3 <= t <= 6:
            want = want + 1.5 * (np.cos(0.7 * X + t) - np.cos(1.9 * X + t))
            tol, place = 1e-12, "inside"
        what = f"t = {t}, {place} the interval (3, 6), w = 2.5"
        agree(guided(X, t), want, np.float64, tol, what)
    assert uncond.times == [6, 5, 4, 3], (
        f"uncond is called inside the interval (3, 6) only; it was called at t = {uncond.times}"
    )


def check_gaussian_classes(classifier_free):
    """Guided score = w score(cond) + (1 - w) score(uncond).

    Where the variances are equal that is a Gaussian with its mean moved on.
    """
    m, m0, v, v0 = CLASSES[0], CLASSES[1], *VARS[:2]
    for s, t in TIMES:
        for w in (1.0, 3.0, -0.5):
            moved, case = exact.gaussian(s, m0 + w * (m - m0), v), f"T = {s.T}, t = {t}, w = {w}"
            mixed = w * score(s, X, t, m, v) + (1 - w) * score(s, X, t, m0, v0)
            for dtype, tol in PRECISIONS:
                x, cond = X.astype(dtype), exact.gaussian(s, m, v)
                got = classifier_free(cond, exact.gaussian(s, m0, v), w)(x, t)
                agree(got, moved(X, t), dtype, 5 * tol, case)
                got = classifier_free(cond, exact.gaussian(s, m0, v0), w)(x, t)
                agree(got, eps_of(s, t, mixed), dtype, 5 * tol, f"{case}, two variances")


def drawn(classifier_free, cond, uncond, w, var=0.25, times=(8, 7, 3, 1, 0)):
    """Mean and standard deviation of what ddim draws with two guided Gaussian models.

    It starts from the x_T of the mean at which they are to end.
    """
    target = uncond + w * (cond - uncond)
    x_T = math.sqrt(T8.alpha_bar[8]) * target, T8.alpha_bar[8] * var + 1 - T8.alpha_bar[8]

    def run(model):
        return law(lambda rng, shape, x: sample.ddim(model, T8, shape, rng, times, x_T=x), T8, x_T)

    guided = classifier_free(exact.gaussian(T8, cond, var), exact.gaussian(T8, uncond, var), w)
    return *run(guided), run(exact.gaussian(T8, target, var))[1]


def check_drawn(classifier_free):
    """ddim ends at uncond + w (cond - uncond): w times as far from a negative prompt."""
    for cond, uncond, w in ((2.0, 0.5, 1.0), (2.0, 0.5, 3.0), (-0.4, 0.3, 2.5), (0.3, -0.4, 2.5)):
        mean, std, want = drawn(classifier_free, cond, uncond, w)
        assert abs((mean - uncond) - w * (cond - uncond)) < 1e-10, (
            f"cond {cond}, uncond {uncond}, w = {w}: drawn at {mean:.6g}"
        )
        assert abs(std - want) < 1e-10, (
            "equal variances: guidance moves the mean alone; "
            f"the spread is {std:.6g}, expected {want:.6g}"
        )


def test_what_is_drawn_is_neither_the_conditional_nor_the_sharpened_law():
    """Given a label N(0, v), without N(0, v0): ddim draws the variance v^w v0^(1-w).

    Not v, and not that of p(x | y)^w p(x)^(1-w).
    """
    v, v0, w, s = 0.25, 1.0, 3.0, schedule.cosine(2000)
    guided = guide.classifier_free(exact.gaussian(s, 0.0, v), exact.gaussian(s, 0.0, v0), w)
    run = lambda rng, shape, x_T: sample.ddim(guided, s, shape, rng, x_T=x_T)
    _, std = law(run, s, (0.0, 1.0))
    assert abs(std**2 / (v**w * v0 ** (1 - w)) - 1) < 0.01
    assert abs(std**2 * (w / v + (1 - w) / v0) - 1) > 0.8 and abs(std**2 / v - 1) > 0.9


MIXED = (check_equation, check_interval, check_gaussian_classes)


@pytest.mark.exercise("guide.classifier_free")
@pytest.mark.parametrize("check", [check_equation, check_one_and_zero, *MIXED[1:]])
def test_classifier_free(check):
    check(guide.classifier_free)


def test_classifier_free_in_a_sampler():
    check_drawn(guide.classifier_free)


def included(t, first, last):
    return first <= t <= last


def cond_alone(cond, uncond):
    return cond


def free_with(mix, inside=included, alone=cond_alone):
    """A whole classifier_free around its line: mix(cond, uncond, w), of both answers."""

    def classifier_free(cond, uncond, w, interval=None):
        def eps_model(x_t, t):
            if w == 1 or (interval and not inside(t, *interval)):
                return alone(cond, uncond)(x_t, t)
            return mix(cond(x_t, t), uncond(x_t, t), x_t.dtype.type(w))

        return eps_model

    return classifier_free


def right(cond, uncond, w):
    return uncond + w * (cond - uncond)


@pytest.mark.parametrize("check", [check_one_and_zero, *MIXED, check_drawn])
def test_the_plain_classifier_free_is_right(check):
    """So what the checks reject below is the slip and not the plain style."""
    check(free_with(right))


WRONG_MIXES = {
    "the paper's w, 0 for no guidance": lambda cond, uncond, w: cond + w * (cond - uncond),
    "away from what was asked for": lambda cond, uncond, w: cond + w * (uncond - cond),
    "weights that do not add up to 1": lambda cond, uncond, w: cond - w * uncond,
}


@pytest.mark.parametrize("check", [*MIXED, check_drawn])
@pytest.mark.parametrize("mix", WRONG_MIXES.values(), ids=WRONG_MIXES)
def test_wrong_mixes(check, mix):
    rejects(check, free_with(mix))


def calls_both(cond, uncond, w):
    return lambda x_t, t: right(cond(x_t, t), uncond(x_t, t), w)


def calls_both_outside(cond, uncond):
    return lambda x_t, t: cond(x_t, t) + 0 * uncond(x_t, t)


def in_float64(cond, uncond, w):
    return right(cond, uncond, np.float64(w))


def uncond_alone(cond, uncond):
    return uncond


WRONG_INTERVALS = {
    "without its last time": lambda t, first, last: first <= t < last,
    "without its first time": lambda t, first, last: first < t <= last,
    "the others": lambda t, first, last: not first <= t <= last,
    "always": lambda t, first, last: True,
}


@pytest.mark.parametrize("inside", WRONG_INTERVALS.values(), ids=WRONG_INTERVALS)
def test_wrong_intervals(inside):
    rejects(check_interval, free_with(right, inside))


@pytest.mark.parametrize(
    "check, wrong",
    [
        (check_one_and_zero, calls_both),
        (check_one_and_zero, free_with(right, alone=uncond_alone)),
        (check_equation, free_with(in_float64)),
        (check_interval, free_with(right, alone=uncond_alone)),
        (check_interval, free_with(right, alone=calls_both_outside)),
    ],
)
def test_other_slips_of_classifier_free(check, wrong):
    rejects(check, wrong)


# --- negative_prompt ---


def check_negative_equation(negative_prompt):
    """The three answers with the weights w, 1 - w + away and -away, in x_t's precision."""
    for dtype, tol in PRECISIONS:
        x = X.astype(dtype)
        for w, away in ((2.5, 1.25), (1.0, 0.5), (1.0, 0.0), (np.float64(3), np.float64(2.5))):
            models = Noted(0.7), Noted(1.9), Noted(1.2)
            got = negative_prompt(*models, w, away)(x, 3)
            cond, uncond, unwanted = (np.cos(a * X + 3) for a in (0.7, 1.9, 1.2))
            want = w * cond + (1 - w + away) * uncond - away * unwanted
            agree(got, want, dtype, tol, f"w = {w}, away = {away}")
            assert np.array_equal(x, X.astype(dtype)), (
                "x_t was changed in place: the sampler still needs it"
            )
            for name, model in zip(("cond", "uncond", "unwanted"), models, strict=True):
                times = model.times
                assert times == [3], f"each model is called once, at t = 3; {name} at {times}"


def check_negative_gaussians(negative_prompt):
    """With equal variances the score asked for is that of a Gaussian whose mean has moved.

    By w times the way to what is wanted, and away times the way from what is not.
    """
    m, m0, bad = CLASSES
    for s, t in TIMES:
        for w, away in ((1.0, 1.0), (3.0, 0.5)):
            moved = exact.gaussian(s, m0 + w * (m - m0) - away * (bad - m0), 0.3)
            models = (exact.gaussian(s, mean, 0.3) for mean in CLASSES)
            what = f"T = {s.T}, t = {t}, w = {w}, away = {away}, three Gaussians of one variance"
            got = negative_prompt(*models, w, away)(X, t)
            agree(got, moved(X, t), np.float64, 1e-9, what)


@pytest.mark.exercise("guide.negative_prompt")
@pytest.mark.parametrize("check", [check_negative_equation, check_negative_gaussians])
def test_negative_prompt(check):
    check(guide.negative_prompt)


# --- what all of them leave alone ---

GUIDED = {  # made of three models
    "classifier_free": lambda a, b, c: guide.classifier_free(a, b, 2.5, (2, 6)),
    "negative_prompt": lambda a, b, c: guide.negative_prompt(a, b, c, 2.5, 1.25),
    "by_gradient": lambda a, b, c: guide.by_gradient(a, T8, b, 0.7),
    "threshold": lambda a, b, c: guide.threshold(a, T8, 0.6),
}
EACH = [pytest.param(name, marks=pytest.mark.exercise(f"guide.{name}")) for name in GUIDED]


@pytest.mark.parametrize("name", EACH)
def test_a_guided_model_keeps_and_changes_nothing(name):
    """Called again and again it answers as a new one would; what it is given stays as it is."""
    model = lambda a: lambda x_t, t: np.cos(a * x_t + t)
    models, given = (model(0.7), model(1.9), model(1.2)), []
    guided = GUIDED[name](*models)
    calls = [(8, 3.0, 6), (5, 0.1, 6), (5, 2.0, 2), (3, 1.0, 6), (7, 1.0, 1), (8, 3.0, 6)]
    for k, (t, size, n) in enumerate(calls, start=1):
        x = size * X[:n]
        x_t = x.copy()
        got, fresh = guided(x_t, t), GUIDED[name](*models)(x.copy(), t)
        given.append((got, got.copy()))
        agree(got, fresh, np.float64, 1e-12, f"call {k} of one model, beside a new one's first")
        assert np.array_equal(x_t, x), "x_t was changed in place: the sampler still needs it"
    assert all(np.array_equal(now, before) for now, before in given), (
        "a later call changed what this one had returned"
    )


# --- blend ---


def check_blend(blend):
    """Between Gaussians of one variance is the Gaussian of the mean between.

    With two variances precisions are mixed, and means weighted by them.
    """
    each = np.linspace(0, 1, len(X)).reshape(-1, 1, 1, 1)
    a, b, _ = CLASSES
    for s, t in TIMES:
        for share in (0.3, each):
            what = "one share per image" if np.ndim(share) else f"share {share}"
            what = f"T = {s.T}, t = {t}, {what}, two Gaussians"
            want = eps_of(s, t, score(s, X, t, (1 - share) * a + share * b, 0.3))
            for dtype, tol in PRECISIONS:
                model = blend(exact.gaussian(s, a, 0.3), exact.gaussian(s, b, 0.3), share)
                agree(model(X.astype(dtype), t), want, dtype, tol, f"{what} of one variance")
            p = (1 - share) / (s.alpha_bar[t] * 0.3 + 1 - s.alpha_bar[t])
            q = share / (s.alpha_bar[t] * 0.7 + 1 - s.alpha_bar[t])
            middle = math.sqrt(s.alpha_bar[t]) * (p * a + q * b) / (p + q)
            want = eps_of(s, t, (middle - X) * (p + q))
            model = blend(exact.gaussian(s, a, 0.3), exact.gaussian(s, b, 0.7), share)
            agree(model(X, t), want, np.float64, 1e-10, f"{what} of two variances")


def test_blend():
    check_blend(guide.blend)


def weighted(of_a, of_b):
    """A whole blend, in float64: of_a and of_b make weights of the share."""
    return lambda a, b, share: lambda x, t: of_a(share) * a(x, t) + of_b(share) * b(x, t)


WRONG_BLENDS = {
    "exchanged": lambda a, b, share: guide.blend(b, a, share),
    "one share for all": lambda a, b, share: guide.blend(a, b, np.mean(share)),
    "a root": weighted(lambda share: 1 - np.sqrt(share), np.sqrt),
    "two roots": weighted(lambda share: np.sqrt(1 - share), np.sqrt),
    "float64 where x is float32": weighted(lambda share: 1 - share, lambda share: share),
}


@pytest.mark.parametrize("wrong", WRONG_BLENDS.values(), ids=WRONG_BLENDS)
def test_slips_of_blend(wrong):
    rejects(check_blend, wrong)


# --- by_gradient ---

LABELS = np.array([0, 1, 2, 2, 0, 1])  # one for each row of X


def bayes(s):
    """The perfect classifier of noisy images.

    grad log p(label | x_t) = score of the label's class - score of the whole mixture
    """

    def log_p_gradient(x_t, t):
        classes = zip(CLASSES, VARS, strict=True)
        scores = np.stack([score(s, x_t, t, m, v) for m, v in classes])  # (M, N, ...)
        V = s.alpha_bar[t] * VARS + 1 - s.alpha_bar[t]
        square = (scores**2).sum((2, 3, 4)) * V[:, None]  # |x_t - sqrt(alpha_bar) mean|^2 / V
        p = WEIGHTS[:, None] * V[:, None] ** (-X[0].size / 2) * np.exp((square.min(0) - square) / 2)
        p /= p.sum(0)  # (M, N): p(label | x_t)
        mixture = (p[:, :, None, None, None] * scores).sum(0)
        return (scores[LABELS, np.arange(len(LABELS))] - mixture).astype(x_t.dtype)

    return log_p_gradient


def check_bayes(by_gradient):
    """p(x_t) p(label | x_t) is p(x_t | label) times a constant.

    So the guided mixture is the perfect denoiser of each row's class.
    """
    for s, t in TIMES:
        rows = zip(X, LABELS, strict=True)
        scores = np.stack([score(s, x, t, CLASSES[k], VARS[k]) for x, k in rows])
        guided = by_gradient(exact.mixture(s, WEIGHTS, CLASSES, VARS), s, bayes(s))
        what = f"T = {s.T}, t = {t}, strength 1, a perfect classifier of three Gaussian classes"
        for dtype, tol in PRECISIONS:
            agree(guided(X.astype(dtype), t), eps_of(s, t, scores), dtype, 5 * tol, what)


def check_strength(by_gradient):
    """eps_hat is linear in the strength: each unit of it subtracts sqrt(1 - alpha_bar) gradient."""
    for dtype, tol in PRECISIONS:
        x, model = X.astype(dtype), Noted(0.7)
        for strength in (0.0, 0.5, 3.0, np.float64(-2)):
            got = by_gradient(model, T8, lambda x_t, t: t * x_t**2, strength)(x, 5)
            want = np.cos(0.7 * X + 5) - strength * math.sqrt(1 - T8.alpha_bar[5]) * 5 * X**2
            agree(got, want, dtype, tol, f"t = 5 of T = 8, strength {strength}")


def check_draws_the_class(by_gradient):
    """A run of ddim: guided by the classifier, the mixture draws what each class alone draws."""

    def alone(x, k):
        model = exact.gaussian(T8, CLASSES[k], VARS[k])
        return sample.ddim(model, T8, None, None, x_T=x[None])

    rows = map(alone, X, LABELS)
    guided = by_gradient(exact.mixture(T8, WEIGHTS, CLASSES, VARS), T8, bayes(T8))
    run = sample.ddim(guided, T8, None, None, x_T=X)
    for t, x_t, *want in zip(range(8, -1, -1), run, *rows, strict=True):
        agree(x_t, np.concatenate(want), np.float64, 1e-10, f"x_t at t = {t}")


BY_GRADIENT = (check_bayes, check_strength, check_draws_the_class)


@pytest.mark.exercise("guide.by_gradient")
@pytest.mark.parametrize("check", BY_GRADIENT[:-1])
def test_by_gradient(check):
    check(guide.by_gradient)


def test_by_gradient_in_a_sampler():
    check_draws_the_class(guide.by_gradient)


def gradient_with(pull):
    """A whole by_gradient around its factor: pull(alpha_bar, strength)"""

    def by_gradient(eps_model, s, log_p_gradient, strength=1.0):
        def guided(x_t, t):
            factor = x_t.dtype.type(pull(s.alpha_bar[t], strength))
            return eps_model(x_t, t) - factor * log_p_gradient(x_t, t)

        return guided

    return by_gradient


@pytest.mark.parametrize("check", BY_GRADIENT)
def test_the_plain_by_gradient_is_right(check):
    check(gradient_with(lambda alpha_bar, strength: strength * math.sqrt(1 - alpha_bar)))


WRONG_PULLS = {
    "downhill": lambda alpha_bar, strength: -strength * math.sqrt(1 - alpha_bar),
    "no root": lambda alpha_bar, strength: strength * (1 - alpha_bar),
    "eps_hat taken for the score": lambda alpha_bar, strength: strength,
    "turned over": lambda alpha_bar, strength: strength / math.sqrt(1 - alpha_bar),
    "the signal's factor": lambda alpha_bar, strength: strength * math.sqrt(alpha_bar),
    "that of x_t / sqrt(alpha_bar)": lambda alpha_bar, strength: (
        strength * math.sqrt(1 - alpha_bar) / math.sqrt(alpha_bar)
    ),
}


@pytest.mark.parametrize("check", BY_GRADIENT)
@pytest.mark.parametrize("pull", WRONG_PULLS.values(), ids=WRONG_PULLS)
def test_wrong_pulls(check, pull):
    rejects(check, gradient_with(pull))


def in_float64_too(model, s, up, k=1.0):
    return lambda x_t, t: model(x_t, t) - k * np.sqrt(1 - s.alpha_bar[t]) * up(x_t, t)


def at_the_next_time(model, s, up, k=1.0):
    return lambda x_t, t: guide.by_gradient(model, s, up, k)(x_t, t - 1)


WRONG_STRENGTHS = {
    "forgotten": gradient_with(lambda alpha_bar, strength: math.sqrt(1 - alpha_bar)),
    "squared": gradient_with(lambda alpha_bar, k: k**2 * math.sqrt(1 - alpha_bar)),
    "float64": in_float64_too,
    "the next time": at_the_next_time,
}


@pytest.mark.parametrize("wrong", WRONG_STRENGTHS.values(), ids=WRONG_STRENGTHS)
def test_wrong_strengths(wrong):
    rejects(check_strength, wrong)


# --- threshold ---

# the first image is within [-1, 1], the last far outside
LOUD = X * np.array([0.2, 0.5, 1.0, 2.0, 4.0, 9.0]).reshape(-1, 1, 1, 1)
LIMITS = (0.2, 3.0, 1.0, 0.9, 9.0, 1.5)  # the quantiles of six images


def with_limits(share, shape):
    """Make six images of which a share of the |values| lies below the number in LIMITS.

    Sorted, the value at place share (D - 1) of D is 1; between two places, in proportion. All that
    is times the limit, in another order, with signs.
    share: 0 .. 1; shape: of an image -> x0_hat, and what should become of it, both (6, *shape)
    """
    rng, D = np.random.default_rng(7), math.prod(shape)
    low, part = divmod(share * (D - 1), 1)
    u = np.where(np.arange(D) < low, rng.uniform(0.1, 0.4, (6, D)), rng.uniform(1.6, 3, (6, D)))
    u[:, int(low)] = 1 - part / 2
    if part:
        u[:, int(low) + 1] = 1 + (1 - part) / 2
    u = rng.permuted(u, axis=1) * rng.choice([-1, 1], u.shape)
    want = [np.clip(v * min(limit, 1), -1, 1) for v, limit in zip(u, LIMITS, strict=True)]
    x0_hat = u * np.reshape(LIMITS, (6, 1))
    return x0_hat.reshape(6, *shape), np.reshape(want, (6, *shape))


def by_hand(image, share):
    """The definition for one image, by sorting: a quantile is between two neighbours there."""
    sizes = sorted(abs(v) for v in image.ravel())
    place = share * (len(sizes) - 1)
    low = min(int(place), len(sizes) - 2)
    limit = max(1.0, sizes[low] + (place - low) * (sizes[low + 1] - sizes[low]))
    values = [min(max(v, -limit), limit) / limit for v in image.ravel()]
    return np.reshape(values, image.shape)


def guess(threshold, s, t, x0_hat, dtype=np.float64, **share):
    """What becomes of a guess x0_hat made at x_t = X."""
    x = X.reshape(x0_hat.shape).astype(dtype)
    model = lambda x_t, t: diffusion.predict_eps(s, x_t, t, x0_hat.astype(dtype))
    eps_hat = threshold(model, s, **share)(x, t)
    assert eps_hat.dtype == dtype, (
        f"the answer is {eps_hat.dtype}, expected {np.dtype(dtype)}, the precision of x_t"
    )
    return diffusion.predict_x0(s, x, t, eps_hat)


def check_quiet_images_stay(threshold):
    """x0_hat within [-1, 1] is not touched: not clipped, not stretched."""
    quiet = X / np.abs(X).max() * np.array([1.0, 0.9, 0.3, 0.5, 0.99, 0.01]).reshape(-1, 1, 1, 1)
    for s, t in TIMES:
        for share in (0.0, 0.5, 0.995, 1.0):
            what = f"T = {s.T}, t = {t}, share {share}: x0_hat is within [-1, 1] and should stay"
            agree(guess(threshold, s, t, quiet, share=share), quiet, np.float64, 1e-10, what)


def check_loud_images_shrink(threshold):
    """Each image by its own quantile; nothing is left outside [-1, 1]."""
    for s, t in TIMES:
        for share in (0.0, 0.85, 0.5, 1.0):
            loud, want = with_limits(share, X[0].shape)
            what = f"T = {s.T}, t = {t}, share {share}: x0_hat, computed from the answer"
            agree(guess(threshold, s, t, loud, share=share), want, np.float64, 1e-10, what)
        loud, want = with_limits(0.995, X[0].shape)
        agree(guess(threshold, s, t, loud), want, np.float64, 1e-10, "share 0.995")
    for shape in ((12,), (3, 4), (2, 2, 3)):
        loud, want = with_limits(0.5, shape)
        what = f"x_t of shape {loud.shape}, share 0.5"
        agree(guess(threshold, T8, 3, loud, share=0.5), want, np.float64, 1e-10, what)
        got = guess(threshold, T8, 3, loud, np.float32, share=0.5)
        agree(got, want, np.float32, 1e-5, f"{what}, float32")
    largest = np.maximum(np.abs(LOUD).max((1, 2, 3), keepdims=True), 1)
    agree(guess(threshold, T8, 3, LOUD, share=1.0), LOUD / largest, np.float64, 1e-12, "share 1")


def check_threshold_in_samplers(threshold):
    """Guided from one known image past another, every sampler draws the thresholded image.

    On the way it is where a model of that image alone would be.
    """
    cond, uncond = CLASSES[0], CLASSES[1]
    guided = guide.classifier_free(exact.point(T8, cond), exact.point(T8, uncond), 6.0)
    want = by_hand(uncond + 6 * (cond - uncond), 0.85)
    models = threshold(guided, T8, share=0.85), exact.point(T8, want)
    for sampler in (sample.ddim, sample.ddpm, sample.heun, sample.dpmpp_2m):
        seed = np.random.default_rng
        paths = (sampler(model, T8, X.shape, seed(1), x_T=X) for model in models)
        for x_t, alone in zip(*paths, strict=True):
            agree(x_t, alone, np.float64, 1e-10, sampler.__name__)
        result = f"{sampler.__name__}, the result"
        agree(x_t, np.broadcast_to(want, X.shape), np.float64, 1e-10, result)


OF_A_GUESS = (check_quiet_images_stay, check_loud_images_shrink)
THRESHOLD = (*OF_A_GUESS, check_threshold_in_samplers)


@pytest.mark.exercise("guide.threshold")
@pytest.mark.parametrize("check", OF_A_GUESS)
def test_threshold(check):
    check(guide.threshold)


def test_threshold_in_samplers():
    check_threshold_in_samplers(guide.threshold)


def quantile(axis=(1, 2, 3), size=np.abs, least=1.0):
    def limit(x0_hat, share):
        axes = axis and axis[: x0_hat.ndim - 1]
        return np.maximum(np.quantile(size(x0_hat), share, axis=axes, keepdims=True), least)

    return limit


def clip_and_divide(x0_hat, limit):
    return np.clip(x0_hat, -limit, limit) / limit


def threshold_with(limit=None, shrink=clip_and_divide):
    """A whole threshold around its two lines: limit(x0_hat, share) and shrink(x0_hat, limit)"""
    limit = limit or quantile()

    def threshold(eps_model, s, share=0.995):
        def thresholded(x_t, t):
            x0_hat = diffusion.predict_x0(s, x_t, t, eps_model(x_t, t))
            largest = limit(x0_hat, share).astype(x_t.dtype)
            return diffusion.predict_eps(s, x_t, t, shrink(x0_hat, largest))

        return thresholded

    return threshold


@pytest.mark.parametrize("check", THRESHOLD)
def test_the_plain_threshold_is_right(check):
    check(threshold_with())


def eps_hat_clipped(eps_model, s, share=0.995):
    return lambda x_t, t: np.clip(eps_model(x_t, t), -1, 1)


def share_forgotten(eps_model, s, share=0.995):
    return threshold_with()(eps_model, s)


def share_from_above(eps_model, s, share=0.995):
    return threshold_with()(eps_model, s, 1 - share)


def nothing_done(eps_model, s, share=0.995):
    return eps_model


limit_not_used = threshold_with(shrink=lambda x0_hat, limit: np.clip(x0_hat, -1, 1))
not_divided = threshold_with(shrink=lambda x0_hat, limit: np.clip(x0_hat, -limit, limit))
not_clipped = threshold_with(shrink=lambda x0_hat, limit: x0_hat / limit)
with_the_sign = threshold_with(quantile(size=lambda x0_hat: x0_hat))
one_for_all_images = threshold_with(quantile(axis=None))
one_for_each_channel = threshold_with(quantile(axis=(1, 2)))  # colours shift
stretched = threshold_with(quantile(least=0))


@pytest.mark.parametrize(
    "check, wrong",
    [
        (check_quiet_images_stay, stretched),
        (check_quiet_images_stay, eps_hat_clipped),
        (check_loud_images_shrink, one_for_all_images),
        (check_loud_images_shrink, one_for_each_channel),
        (check_loud_images_shrink, with_the_sign),
        (check_loud_images_shrink, limit_not_used),
        (check_loud_images_shrink, not_divided),
        (check_loud_images_shrink, not_clipped),
        (check_loud_images_shrink, share_forgotten),
        (check_loud_images_shrink, share_from_above),
        (check_threshold_in_samplers, nothing_done),
        (check_threshold_in_samplers, limit_not_used),
    ],
)
def test_slips_of_threshold(check, wrong):
    rejects(check, wrong)
