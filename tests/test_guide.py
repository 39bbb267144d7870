"""Guidance against closed forms: with Gaussian classes a guided score is again the score of a Gaussian, or that of one class, to rounding.

score = -eps_hat / sqrt(1 - alpha_bar); for x_t of data N(m, v) it is -(x_t - sqrt(alpha_bar) m) / V, V = alpha_bar v + 1 - alpha_bar.
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
    worst = np.unravel_index(np.argmax(np.abs(np.nan_to_num(got - want, nan=np.inf))), want.shape)
    assert np.allclose(got, want, rtol=tol, atol=tol), (
        f"{what}: at {[int(i) for i in worst]} expected {want[worst]:.6g}, came {got[worst]:.6g}"
    )


def score(s, x_t, t, mean, var):
    """The score of x_t when the data is N(mean, var)."""
    return -(x_t - math.sqrt(s.alpha_bar[t]) * mean) / (s.alpha_bar[t] * var + 1 - s.alpha_bar[t])


def eps_of(s, t, score):
    return -math.sqrt(1 - s.alpha_bar[t]) * score


class Asked:
    """A model with some answer to everything, which remembers the times at which it was asked."""

    def __init__(self, a):
        self.a, self.times = a, []

    def __call__(self, x_t, t):
        self.times.append(t)
        return np.cos(self.a * x_t + t)


# --- classifier_free ---


def check_one_and_zero(classifier_free):
    """w = 1 is told alone, w = 0 untold: bit for bit."""
    for dtype, _ in PRECISIONS:
        x, told, untold = X.astype(dtype), Asked(0.7), Asked(1.9)
        agree(
            classifier_free(told, untold, 1.0)(x, 3),
            told(x, 3),
            dtype,
            0,
            "w = 1, where told answers alone",
        )
        assert untold.times == [], (
            "w = 1 needs told only; untold was asked too, which costs as much again"
        )
        agree(
            classifier_free(told, untold, 0.0)(x, 3),
            untold(x, 3),
            dtype,
            0,
            "w = 0, where untold answers alone",
        )


def check_equation(classifier_free):
    """Both answers, mixed with the weights w and 1 - w, in x_t's precision."""
    for dtype, tol in PRECISIONS:
        x, told, untold = X.astype(dtype), Asked(0.7), Asked(1.9)
        for w in (0.3, 2.5, -1.5, np.float64(4)):
            want = w * np.cos(0.7 * X + 3) + (1 - w) * np.cos(1.9 * X + 3)
            agree(classifier_free(told, untold, w)(x, 3), want, dtype, tol, f"w = {w}")
        assert np.array_equal(x, X.astype(dtype)), (
            "x_t was changed in place: the sampler still needs it"
        )


def check_interval(classifier_free):
    """Both ends belong to the interval; outside told answers alone."""
    told, untold = Asked(0.7), Asked(1.9)
    guided = classifier_free(told, untold, 2.5, interval=(3, 6))
    for t in range(8, 0, -1):
        want = told(X, t) + (
            1.5 * (np.cos(0.7 * X + t) - np.cos(1.9 * X + t)) if 3 <= t <= 6 else 0
        )
        place = "inside" if 3 <= t <= 6 else "outside"
        agree(
            guided(X, t),
            want,
            np.float64,
            1e-12 if 3 <= t <= 6 else 0,
            f"t = {t}, {place} the interval (3, 6), w = 2.5",
        )
    assert untold.times == [6, 5, 4, 3], (
        f"untold is asked inside the interval (3, 6) only; it was asked at t = {untold.times}"
    )


def check_gaussian_classes(classifier_free):
    """Guided score = w score(told) + (1 - w) score(untold); where the variances are equal, a Gaussian with its mean moved on."""
    m, m0, v, v0 = CLASSES[0], CLASSES[1], *VARS[:2]
    for s, t in TIMES:
        for w in (1.0, 3.0, -0.5):
            for dtype, tol in PRECISIONS:
                x, told = X.astype(dtype), exact.gaussian(s, m, v)
                got = classifier_free(told, exact.gaussian(s, m0, v), w)(x, t)
                agree(
                    got,
                    exact.gaussian(s, m0 + w * (m - m0), v)(X, t),
                    dtype,
                    5 * tol,
                    f"T = {s.T}, t = {t}, w = {w}",
                )
                got = classifier_free(told, exact.gaussian(s, m0, v0), w)(x, t)
                want = eps_of(s, t, w * score(s, X, t, m, v) + (1 - w) * score(s, X, t, m0, v0))
                agree(got, want, dtype, 5 * tol, f"T = {s.T}, t = {t}, w = {w}, two variances")


def drawn(classifier_free, told, untold, w, var=0.25, times=(8, 7, 3, 1, 0)):
    """Mean and standard deviation of what ddim makes of two Gaussian models, from the x_T of the mean they are to end at."""
    target = untold + w * (told - untold)
    x_T = math.sqrt(T8.alpha_bar[8]) * target, T8.alpha_bar[8] * var + 1 - T8.alpha_bar[8]

    def run(model):
        return law(lambda rng, shape, x: sample.ddim(model, T8, shape, rng, times, x_T=x), T8, x_T)

    guided = classifier_free(exact.gaussian(T8, told, var), exact.gaussian(T8, untold, var), w)
    return *run(guided), run(exact.gaussian(T8, target, var))[1]


def check_drawn(classifier_free):
    """ddim ends at untold + w (told - untold); against a negative wish: w times as far from it as what was wished for."""
    for told, untold, w in ((2.0, 0.5, 1.0), (2.0, 0.5, 3.0), (-0.4, 0.3, 2.5), (0.3, -0.4, 2.5)):
        mean, std, want = drawn(classifier_free, told, untold, w)
        assert abs((mean - untold) - w * (told - untold)) < 1e-10, (
            f"told {told}, untold {untold}, w = {w}: drawn at {mean:.6g}"
        )
        assert abs(std - want) < 1e-10, (
            f"equal variances: guidance moves the mean alone; the spread is {std:.6g}, expected {want:.6g}"
        )


def test_what_is_drawn_is_neither_the_conditional_nor_the_sharpened_law():
    """Told N(0, v), untold N(0, v0): ddim draws the variance v^w v0^(1-w), not v, and not that of p(x | y)^w p(x)^(1-w)."""
    v, v0, w, s = 0.25, 1.0, 3.0, schedule.cosine(2000)

    def run(rng, shape, x_T):
        return sample.ddim(
            guide.classifier_free(exact.gaussian(s, 0.0, v), exact.gaussian(s, 0.0, v0), w),
            s,
            shape,
            rng,
            x_T=x_T,
        )

    _, std = law(run, s, (0.0, 1.0))
    assert abs(std**2 / (v**w * v0 ** (1 - w)) - 1) < 0.01
    assert abs(std**2 * (w / v + (1 - w) / v0) - 1) > 0.8 and abs(std**2 / v - 1) > 0.9


CLASSIFIER_FREE = (
    check_one_and_zero,
    check_equation,
    check_interval,
    check_gaussian_classes,
    check_drawn,
)


@pytest.mark.exercise("guide.classifier_free")
@pytest.mark.parametrize("check", CLASSIFIER_FREE[:-1])
def test_classifier_free(check):
    check(guide.classifier_free)


def test_classifier_free_in_a_sampler():
    check_drawn(guide.classifier_free)


def free_with(
    mix, inside=lambda t, first, last: first <= t <= last, alone=lambda told, untold: told
):
    """A whole classifier_free, written plainly around its line: mix(told, untold, w), both answers at hand."""

    def classifier_free(told, untold, w, interval=None):
        def eps_model(x_t, t):
            if w == 1 or (interval and not inside(t, *interval)):
                return alone(told, untold)(x_t, t)
            return mix(told(x_t, t), untold(x_t, t), x_t.dtype.type(w))

        return eps_model

    return classifier_free


def right(told, untold, w):
    return untold + w * (told - untold)


@pytest.mark.parametrize("check", CLASSIFIER_FREE)
def test_the_plain_classifier_free_is_right(check):
    """So what the checks reject below is the slip and not the plain style."""
    check(free_with(right))


@pytest.mark.parametrize(
    "check", [check_equation, check_interval, check_gaussian_classes, check_drawn]
)
@pytest.mark.parametrize(
    "mix",
    [
        lambda told, untold, w: (
            told + w * (told - untold)
        ),  # the paper's w, which is 0 for no guidance
        lambda told, untold, w: told + w * (untold - told),  # towards what was not asked for
        lambda told, untold, w: told - w * untold,  # weights that do not add up to 1
    ],
)
def test_wrong_mixes(check, mix):
    rejects(check, free_with(mix))


@pytest.mark.parametrize(
    "check, wrong",
    [
        (
            check_one_and_zero,
            lambda told, untold, w: lambda x_t, t: right(told(x_t, t), untold(x_t, t), w),
        ),  # asks both at w = 1
        (check_one_and_zero, free_with(right, alone=lambda told, untold: untold)),
        (
            check_equation,
            free_with(lambda told, untold, w: right(told, untold, np.float64(w))),
        ),  # float32 becomes float64
        (check_interval, free_with(right, inside=lambda t, first, last: first <= t < last)),
        (check_interval, free_with(right, inside=lambda t, first, last: first < t <= last)),
        (check_interval, free_with(right, inside=lambda t, first, last: not first <= t <= last)),
        (check_interval, free_with(right, inside=lambda t, first, last: True)),
        (check_interval, free_with(right, alone=lambda told, untold: untold)),
        (
            check_interval,
            free_with(
                right, alone=lambda told, untold: lambda x_t, t: told(x_t, t) + 0 * untold(x_t, t)
            ),
        ),
    ],
)
def test_other_slips_of_classifier_free(check, wrong):
    rejects(check, wrong)


# --- blend ---


def check_blend(blend):
    """Between Gaussians of one variance lies the Gaussian of the mean between; else precisions are mixed, and means weighed by them."""
    shares = np.linspace(0, 1, len(X)).reshape(-1, 1, 1, 1)
    for s, t in TIMES:
        for share in (0.3, shares):
            between = (1 - share) * CLASSES[0] + share * CLASSES[1]
            for dtype, tol in PRECISIONS:
                got = blend(*(exact.gaussian(s, mean, 0.3) for mean in CLASSES[:2]), share)(
                    X.astype(dtype), t
                )
                what = f"T = {s.T}, t = {t}, {'a share for each image' if np.ndim(share) else f'share {share}'}, two Gaussians"
                agree(
                    got,
                    eps_of(s, t, score(s, X, t, between, 0.3)),
                    dtype,
                    tol,
                    f"{what} of one variance",
                )
            p, q = (
                (weight / (s.alpha_bar[t] * var + 1 - s.alpha_bar[t]))
                for weight, var in ((1 - share, 0.3), (share, 0.7))
            )
            middle = math.sqrt(s.alpha_bar[t]) * (p * CLASSES[0] + q * CLASSES[1]) / (p + q)
            got = blend(
                exact.gaussian(s, CLASSES[0], 0.3), exact.gaussian(s, CLASSES[1], 0.7), share
            )(X, t)
            agree(
                got,
                eps_of(s, t, (middle - X) * (p + q)),
                np.float64,
                1e-10,
                f"{what} of two variances",
            )


@pytest.mark.exercise("guide.blend")
def test_blend():
    check_blend(guide.blend)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a, b, share: guide.blend(b, a, share),
        lambda a, b, share: guide.blend(a, b, np.mean(share)),
        lambda a, b, share: lambda x, t: (1 - np.sqrt(share)) * a(x, t) + np.sqrt(share) * b(x, t),
        lambda a, b, share: lambda x, t: np.sqrt(1 - share) * a(x, t) + np.sqrt(share) * b(x, t),
        lambda a, b, share: (
            lambda x, t: (1 - share) * a(x, t) + share * b(x, t)
        ),  # float64 where x is float32
    ],
)
def test_slips_of_blend(wrong):
    rejects(check_blend, wrong)


# --- by_gradient ---

LABELS = np.array([0, 1, 2, 2, 0, 1])  # one for each row of X


def bayes(s):
    """The perfect classifier of noisy images: grad log p(label | x_t) = score of the label's class - score of the whole mixture."""

    def log_p_gradient(x_t, t):
        scores = np.stack(
            [score(s, x_t, t, m, v) for m, v in zip(CLASSES, VARS, strict=True)]
        )  # (M, N, ...)
        V = s.alpha_bar[t] * VARS + 1 - s.alpha_bar[t]
        square = (scores**2).sum((2, 3, 4)) * V[:, None]  # |x_t - sqrt(alpha_bar) mean|^2 / V
        p = WEIGHTS[:, None] * V[:, None] ** (-X[0].size / 2) * np.exp((square.min(0) - square) / 2)
        p /= p.sum(0)  # (M, N): p(label | x_t)
        return (
            scores[LABELS, np.arange(len(LABELS))] - (p[:, :, None, None, None] * scores).sum(0)
        ).astype(x_t.dtype)

    return log_p_gradient


def check_bayes(by_gradient):
    """p(x_t) p(label | x_t) is p(x_t | label) times a constant: the guided mixture is the perfect denoiser of each row's class."""
    for s, t in TIMES:
        for dtype, tol in PRECISIONS:
            got = by_gradient(exact.mixture(s, WEIGHTS, CLASSES, VARS), s, bayes(s))(
                X.astype(dtype), t
            )
            want = eps_of(
                s,
                t,
                np.stack(
                    [score(s, x, t, CLASSES[k], VARS[k]) for x, k in zip(X, LABELS, strict=True)]
                ),
            )
            agree(
                got,
                want,
                dtype,
                5 * tol,
                f"T = {s.T}, t = {t}, strength 1, a perfect classifier of three Gaussian classes",
            )


def check_strength(by_gradient):
    """eps_hat is a straight line in the strength: 0 changes nothing, and each further unit subtracts sqrt(1 - alpha_bar) gradient."""
    for dtype, tol in PRECISIONS:
        x, model = X.astype(dtype), Asked(0.7)
        for strength in (0.0, 0.5, 3.0, np.float64(-2)):
            got = by_gradient(model, T8, lambda x_t, t: t * x_t**2, strength)(x, 5)
            want = np.cos(0.7 * X + 5) - strength * math.sqrt(1 - T8.alpha_bar[5]) * 5 * X**2
            agree(got, want, dtype, tol, f"t = 5 of T = 8, strength {strength}")


def check_draws_the_class(by_gradient):
    """A whole run of ddim: told by the classifier, the mixture draws what the model of each class alone would draw."""
    rows = [
        sample.ddim(exact.gaussian(T8, CLASSES[k], VARS[k]), T8, None, None, x_T=x[None])
        for x, k in zip(X, LABELS, strict=True)
    ]
    guided = by_gradient(exact.mixture(T8, WEIGHTS, CLASSES, VARS), T8, bayes(T8))
    for t, x_t, *want in zip(
        range(8, -1, -1), sample.ddim(guided, T8, None, None, x_T=X), *rows, strict=True
    ):
        agree(x_t, np.concatenate(want), np.float64, 1e-10, f"x_t at t = {t}")


BY_GRADIENT = (check_bayes, check_strength, check_draws_the_class)


@pytest.mark.exercise("guide.by_gradient")
@pytest.mark.parametrize("check", BY_GRADIENT[:-1])
def test_by_gradient(check):
    check(guide.by_gradient)


def test_by_gradient_in_a_sampler():
    check_draws_the_class(guide.by_gradient)


def gradient_with(pull):
    """A whole by_gradient, written plainly around the factor: pull(alpha_bar, strength)."""

    def by_gradient(eps_model, s, log_p_gradient, strength=1.0):
        return lambda x_t, t: (
            eps_model(x_t, t)
            - x_t.dtype.type(pull(s.alpha_bar[t], strength)) * log_p_gradient(x_t, t)
        )

    return by_gradient


@pytest.mark.parametrize("check", BY_GRADIENT)
def test_the_plain_by_gradient_is_right(check):
    check(gradient_with(lambda alpha_bar, strength: strength * math.sqrt(1 - alpha_bar)))


@pytest.mark.parametrize("check", BY_GRADIENT)
@pytest.mark.parametrize(
    "pull",
    [
        lambda alpha_bar, strength: -strength * math.sqrt(1 - alpha_bar),  # downhill
        lambda alpha_bar, strength: strength * (1 - alpha_bar),  # no root
        lambda alpha_bar, strength: strength,  # as if eps_hat were the score
        lambda alpha_bar, strength: strength / math.sqrt(1 - alpha_bar),  # the factor turned over
        lambda alpha_bar, strength: (
            strength * math.sqrt(alpha_bar)
        ),  # the signal's root, not the noise's
        lambda alpha_bar, strength: (
            strength * math.sqrt(1 - alpha_bar) / math.sqrt(alpha_bar)
        ),  # x_t / sqrt(alpha_bar) in mind
    ],
)
def test_wrong_pulls(check, pull):
    rejects(check, gradient_with(pull))


@pytest.mark.parametrize(
    "wrong",
    [
        gradient_with(lambda alpha_bar, strength: math.sqrt(1 - alpha_bar)),  # strength forgotten
        gradient_with(lambda alpha_bar, strength: strength**2 * math.sqrt(1 - alpha_bar)),
        lambda model, s, up, k=1.0: (
            lambda x_t, t: model(x_t, t) - k * np.sqrt(1 - s.alpha_bar[t]) * up(x_t, t)
        ),  # float64
        lambda model, s, up, k=1.0: lambda x_t, t: guide.by_gradient(model, s, up, k)(x_t, t - 1),
    ],
)
def test_wrong_strengths(wrong):
    rejects(check_strength, wrong)


# --- threshold ---

LOUD = X * np.array([0.2, 0.5, 1.0, 2.0, 4.0, 9.0]).reshape(
    -1, 1, 1, 1
)  # the first image lies within [-1, 1], the last far outside


def by_hand(image, share):
    """The definition for one image, by sorting: a quantile lies between two neighbours of the sorted list."""
    sizes = sorted(abs(v) for v in image.ravel())
    place = share * (len(sizes) - 1)
    low = min(int(place), len(sizes) - 2)
    limit = max(1.0, sizes[low] + (place - low) * (sizes[low + 1] - sizes[low]))
    return np.array([min(max(v, -limit), limit) / limit for v in image.ravel()]).reshape(
        image.shape
    )


def guess(threshold, s, t, x0_hat, dtype=np.float64, **share):
    """What becomes of a guess x0_hat made at x_t = X."""
    x = X.astype(dtype)
    eps_hat = threshold(
        lambda x_t, t: diffusion.predict_eps(s, x_t, t, x0_hat.astype(dtype)), s, **share
    )(x, t)
    assert eps_hat.dtype == dtype, (
        f"the answer is {eps_hat.dtype}, expected {np.dtype(dtype)}, the precision of x_t"
    )
    return diffusion.predict_x0(s, x, t, eps_hat)


def check_quiet_images_stay(threshold):
    """x0_hat within [-1, 1] is not touched: not clipped, not stretched."""
    quiet = X / np.abs(X).max() * np.array([1.0, 0.9, 0.3, 0.5, 0.99, 0.01]).reshape(-1, 1, 1, 1)
    for s, t in TIMES:
        for share in (0.0, 0.5, 0.995, 1.0):
            what = f"T = {s.T}, t = {t}, share {share}: x0_hat lies within [-1, 1] and should stay"
            agree(guess(threshold, s, t, quiet, share=share), quiet, np.float64, 1e-10, what)


def check_loud_images_shrink(threshold):
    """Each image by its own quantile; nothing is left outside [-1, 1]; share = 1 divides by the largest number."""
    for s, t in TIMES:
        for share in (0.85, 0.5, 0.0, 1.0):
            got = guess(threshold, s, t, LOUD, share=share)
            what = f"T = {s.T}, t = {t}, share {share}: x0_hat read off the answer"
            agree(got, np.stack([by_hand(x, share) for x in LOUD]), np.float64, 1e-10, what)
            assert np.abs(got).max() <= 1 + 1e-10
        agree(
            guess(threshold, s, t, LOUD),
            np.stack([by_hand(x, 0.995) for x in LOUD]),
            np.float64,
            1e-10,
            "share 0.995",
        )
    largest = np.maximum(np.abs(LOUD).max((1, 2, 3), keepdims=True), 1)
    agree(guess(threshold, T8, 3, LOUD, share=1.0), LOUD / largest, np.float64, 1e-12, "share 1")
    agree(
        guess(threshold, T8, 3, LOUD, np.float32, share=0.5),
        np.stack([by_hand(x, 0.5) for x in LOUD]),
        np.float32,
        1e-5,
        "float32",
    )


def check_threshold_in_samplers(threshold):
    """Guidance from one known image past another: every sampler draws the thresholded image, along the path of a model of it alone."""
    told, untold = CLASSES[0], CLASSES[1]
    guided = guide.classifier_free(exact.point(T8, told), exact.point(T8, untold), 6.0)
    want = by_hand(untold + 6 * (told - untold), 0.85)
    for sampler in (sample.ddim, sample.ddpm, sample.heun, sample.dpmpp_2m):
        paths = [
            sampler(model, T8, X.shape, np.random.default_rng(1), x_T=X)
            for model in (threshold(guided, T8, share=0.85), exact.point(T8, want))
        ]
        for x_t, alone in zip(*paths, strict=True):
            agree(x_t, alone, np.float64, 1e-10, sampler.__name__)
        agree(
            x_t,
            np.broadcast_to(want, X.shape),
            np.float64,
            1e-10,
            f"{sampler.__name__}, the result",
        )


THRESHOLD = (check_quiet_images_stay, check_loud_images_shrink, check_threshold_in_samplers)


@pytest.mark.exercise("guide.threshold")
@pytest.mark.parametrize("check", THRESHOLD[:-1])
def test_threshold(check):
    check(guide.threshold)


def test_threshold_in_samplers():
    check_threshold_in_samplers(guide.threshold)


def quantile(axis=(1, 2, 3), size=np.abs, least=1.0):
    return lambda x0_hat, share: np.maximum(
        np.quantile(size(x0_hat), share, axis=axis, keepdims=True), least
    )


def threshold_with(limit, shrink=lambda x0_hat, limit: np.clip(x0_hat, -limit, limit) / limit):
    """A whole threshold, written plainly around its two lines: limit(x0_hat, share) and shrink(x0_hat, limit)."""

    def threshold(eps_model, s, share=0.995):
        def thresholded(x_t, t):
            x0_hat = diffusion.predict_x0(s, x_t, t, eps_model(x_t, t))
            return diffusion.predict_eps(
                s, x_t, t, shrink(x0_hat, limit(x0_hat, share).astype(x_t.dtype))
            )

        return thresholded

    return threshold


@pytest.mark.parametrize("check", THRESHOLD)
def test_the_plain_threshold_is_right(check):
    check(threshold_with(quantile()))


@pytest.mark.parametrize(
    "check, wrong",
    [
        (check_quiet_images_stay, threshold_with(quantile(least=0))),  # stretches quiet images
        (
            check_quiet_images_stay,
            lambda eps_model, s, share=0.995: lambda x_t, t: np.clip(eps_model(x_t, t), -1, 1),
        ),  # of eps_hat
        (check_loud_images_shrink, threshold_with(quantile(axis=None))),  # one limit for all images
        (
            check_loud_images_shrink,
            threshold_with(quantile(axis=(1, 2))),
        ),  # one for each channel: colours shift
        (
            check_loud_images_shrink,
            threshold_with(quantile(size=lambda x0_hat: x0_hat)),
        ),  # without the sign taken off
        (
            check_loud_images_shrink,
            threshold_with(quantile(), lambda x0_hat, limit: np.clip(x0_hat, -1, 1)),
        ),  # the limit not used
        (
            check_loud_images_shrink,
            threshold_with(quantile(), lambda x0_hat, limit: np.clip(x0_hat, -limit, limit)),
        ),  # not divided
        (
            check_loud_images_shrink,
            threshold_with(quantile(), lambda x0_hat, limit: x0_hat / limit),
        ),  # not clipped
        (
            check_loud_images_shrink,
            lambda eps_model, s, share=0.995: threshold_with(quantile())(eps_model, s),
        ),  # share forgotten
        (
            check_loud_images_shrink,
            lambda eps_model, s, share=0.995: threshold_with(quantile())(eps_model, s, 1 - share),
        ),
        (
            check_threshold_in_samplers,
            lambda eps_model, s, share=0.995: eps_model,
        ),  # eps_hat does not follow
        (
            check_threshold_in_samplers,
            threshold_with(quantile(), lambda x0_hat, limit: np.clip(x0_hat, -1, 1)),
        ),
    ],
)
def test_slips_of_threshold(check, wrong):
    rejects(check, wrong)
