"""The perfect denoisers against integrals, brute force and each other, in both precisions."""

import math
import warnings

import numpy as np
import pytest

from tinydiff import exact, kernels, schedule

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "terminal SNR")
    T8 = schedule.from_betas(np.linspace(0.02, 0.6, 8))  # short and loud
    ONE = schedule.from_betas([0.64])  # T = 1: x_1 = 0.6 x0 + 0.8 eps
LONG = schedule.from_betas(np.linspace(1e-4, 0.02, 1000))
CASES = [(T8, t) for t in range(1, 9)] + [(LONG, t) for t in (1, 20, 300, 1000)]
PRECISIONS = ((np.float64, 1e-10), (np.float32, 1e-3))  # float32: 1 - alpha_bar[1] keeps 4 digits
# Var[x_(t-1) | x_t] for T, t and three variances of the data, computed with 60 digits, by adding
# precisions, and rounded
WIDTHS = 0.25, 3.0, 100.0
VARIANCES = """
   1    1     0.21917808219178     1.1162790697674     1.7467248908297
   8    1    0.018867924528302    0.02027027027027    0.02040399918384
   8    2    0.080026843385622    0.11037454424925    0.11451573750871
   8    3     0.13660062565172     0.2106529564915    0.22748088495803
   8    4     0.20479416529408    0.31901839120909    0.36532121314972
   8    5     0.28634823863579    0.42845280441979     0.5363502738341
   8    6      0.3781574459701    0.52683193733055    0.75102445283628
   8    7     0.47572442258585    0.60382424016843     1.0166218145254
   8    8     0.57423488401982    0.66218000369684     1.3074336171936
1000    1  9.9970008997301e-05 0.00010000666711114  0.0001000099009802
1000    2  0.00011987681031301 0.00011992950755826 0.00011993415857542
1000   57   0.0012116661730005  0.0012164892936552  0.0012169794392965
1000  500    0.010033662554811    0.01005387049475   0.010130267599942
1000 1000    0.019999987645045    0.02000003294289   0.020001624314777
"""


@pytest.fixture(autouse=True, params=("reference", "cpu"))
def kernel_set(request):
    """Run every test once for each kernel set, and leave the choice as it was."""
    before = kernels._active  # not active(): that would load numba, which grading does without
    kernels.use(request.param)
    yield request.param
    kernels._active = before


def grades(name):
    """Mark a test of an exercise: graded on the reference kernels, otherwise run on every set."""
    graded = pytest.param("reference", marks=pytest.mark.exercise(name))
    return pytest.mark.parametrize("kernel_set", [graded, "cpu"], indirect=True)


def rejects(check, wrong):
    """The check that the right function passes must stop a wrong one."""
    with pytest.raises(AssertionError):
        check(wrong)


def agree(eps_model, x_t, t, want, tol32=1e-3):
    """The denoiser gives want (float64), in x_t's shape and precision, and leaves x_t as it is."""
    for dtype, tol in (PRECISIONS[0], (np.float32, tol32)):
        x = x_t.astype(dtype)
        eps_hat = eps_model(x, t)
        assert eps_hat.shape == x.shape, (
            f"t = {t}: eps_hat has shape {eps_hat.shape}, expected the shape {x.shape} of x_t"
        )
        assert eps_hat.dtype == dtype, (
            f"t = {t}: eps_hat is {eps_hat.dtype}, expected {np.dtype(dtype)}, the precision of x_t"
        )
        assert np.array_equal(x, x_t.astype(dtype)), (
            f"t = {t}: x_t was changed in place; the sampler still needs it"
        )
        far = np.abs(eps_hat - want).max()
        assert np.allclose(eps_hat, want, rtol=tol, atol=tol * (1 + np.abs(want).max())), (
            f"t = {t}, {np.dtype(dtype)}: the noise found is wrong by up to {far:.4g}"
        )


def eps_of(s, x_t, t, x0_hat):
    return (x_t - math.sqrt(s.alpha_bar[t]) * x0_hat) / math.sqrt(1 - s.alpha_bar[t])


GRID = np.linspace(-10, 12, 8001)


def by_quadrature(s, density, x_t, t, x0=GRID):
    """E[x0 | x_t] for one number x0 with any density, as the ratio of two sums over a fine grid."""
    prior, guess = density(x0), []
    for x in x_t:
        logs = -((x - math.sqrt(s.alpha_bar[t]) * x0) ** 2) / (2 * (1 - s.alpha_bar[t]))
        weight = prior * np.exp(logs - logs.max())
        guess.append((weight * x0).sum() / weight.sum())
    return np.array(guess)


def normal(x, mean, var):
    return np.exp(-((x - mean) ** 2) / (2 * var)) / math.sqrt(2 * math.pi * var)


# points x_t that data N(2, 0.5^2) and its neighbours reach
X = np.array([-1.0, 0.3, 0.9, 1.7, 2.5, 3.1])
IMAGES = np.random.default_rng(1).normal(0.3, 0.6, (5, 2, 3, 1))  # asymmetric


# --- the checks: each takes the function under test ---


def check_kept(eps_model, x_t, t):
    """What it answers stays as it is when it is asked again."""
    first = eps_model(x_t, t)
    kept = first.copy()
    eps_model(x_t + 1, t)
    assert np.array_equal(first, kept), "the next call changed what this one had returned"


def check_point(point):
    """Noise that was put on the one image by hand is found again, to the last digit."""
    x_t = np.array([[1.5], [-0.5]])
    agree(point(T8, 2.0), x_t, 3, eps_of(T8, x_t, 3, 2.0))
    agree(point(T8, 2.0), x_t[:, 0], 3, eps_of(T8, x_t[:, 0], 3, 2.0))
    agree(point(T8, np.float32(2)), x_t, 3, eps_of(T8, x_t, 3, 2.0))
    check_kept(point(T8, 2.0), x_t, 3)
    rng = np.random.default_rng(2)
    worlds = [(s, IMAGES[k].reshape(shape)) for s in (T8, LONG, ONE) for k, shape in PLACES]
    models = [point(s, image) for s, image in worlds]  # all at once: each knows its own image
    for (s, image), model in zip(worlds, models, strict=True):
        for t in (t for other, t in (*CASES, (ONE, 1)) if other is s):
            for N in (4, 1, 4):
                eps = 2 * rng.normal(size=(N, *image.shape))
                x_t = math.sqrt(s.alpha_bar[t]) * image + math.sqrt(1 - s.alpha_bar[t]) * eps
                agree(model, x_t, t, eps)


PLACES = (0, (2, 3, 1)), (1, (2, 3)), (2, (6,)), (3, (3, 2))  # an image, and its shape


def by_pixels(s, mean, var, x_t, t):
    """E[x0 | x_t] for images, where each pixel has a mean and a variance of its own."""
    guess = np.empty_like(x_t)
    for i in np.ndindex(mean.shape):
        density = lambda x0, i=i: normal(x0, mean[i], var[i])
        guess[(slice(None), *i)] = by_quadrature(s, density, x_t[(slice(None), *i)], t)
    return guess


def check_gaussian(gaussian):
    """Against the integral over all clean images; data of no width, far away, and very wide."""
    narrow = {s: gaussian(s, 2.0, 0.25) for s in (T8, LONG, ONE)}
    far, wide = gaussian(T8, 100.0, 0.25), gaussian(T8, 2.0, 36.0)
    for s, t in (*CASES, (ONE, 1)):
        x0_hat = by_quadrature(s, lambda x0: normal(x0, 2, 0.25), X, t)
        want = eps_of(s, X, t, x0_hat)
        agree(narrow[s], X[:, None], t, want[:, None])
        agree(narrow[s], X[::-1, None], t, want[::-1, None])
    check_kept(narrow[T8], X[:, None], 3)
    for t in (1, 5):
        x0_hat = by_quadrature(T8, lambda x0: normal(x0, 2, 0.25), X, t)
        moved = X + math.sqrt(T8.alpha_bar[t]) * 98  # the data, and with them x_t
        agree(far, moved, t, eps_of(T8, X, t, x0_hat), tol32=0.01)
        grid = np.linspace(-90, 94, 16001)
        x0_hat = by_quadrature(T8, lambda x0: normal(x0, 2, 36), 8 * X, t, grid)
        agree(wide, 8 * X, t, eps_of(T8, 8 * X, t, x0_hat))
    for k, shape in PLACES:
        mean, var = IMAGES[k].reshape(shape), 0.1 + IMAGES[4].reshape(shape) ** 2
        x_t = np.random.default_rng(2).normal(size=(4, *shape))
        model, single = gaussian(T8, mean, var), gaussian(T8, mean, 0.0)
        for t in (1, 5):
            agree(model, x_t, t, eps_of(T8, x_t, t, by_pixels(T8, mean, var, x_t, t)))
            agree(single, x_t, t, eps_of(T8, x_t, t, mean))  # a single image
            agree(model, x_t[:1], t, eps_of(T8, x_t, t, by_pixels(T8, mean, var, x_t, t))[:1])


def check_mixture(mixture):
    """Against integrals in one dimension and in two, where the widths enter with a power."""
    weight, var = np.array([0.5, 0.2, 0.3]), np.array([0.25, 0.04, 1.0])
    mean = np.array([2.0, -1.0, 0.5])

    def density(x0):
        return sum(w * normal(x0, m, v) for w, m, v in zip(weight, mean, var, strict=True))

    for s, t in CASES:
        want = eps_of(s, X, t, by_quadrature(s, density, X, t))
        agree(mixture(s, weight, mean[:, None], var), X[:, None], t, want[:, None])
    mean = np.array([[2.0, 0.0], [-1.0, 0.7], [0.5, 1.5]])
    axis = np.linspace(-10, 12, 401)
    a, b = np.meshgrid(axis, axis, indexing="ij")
    parts = zip(weight, mean, var, strict=True)
    prior = sum(w * normal(a, m[0], v) * normal(b, m[1], v) for w, m, v in parts)
    x_t = np.array([[1.0, 0.5], [0.2, 0.6], [-0.5, 0.9]])
    for t in (2, 5, 8):
        root, noise = math.sqrt(T8.alpha_bar[t]), 1 - T8.alpha_bar[t]
        x0_hat = []
        for x in x_t:
            p = prior * normal(x[0], root * a, noise) * normal(x[1], root * b, noise)
            x0_hat.append([(p * a).sum() / p.sum(), (p * b).sum() / p.sum()])
        want = eps_of(T8, x_t, t, np.array(x0_hat))
        agree(mixture(T8, weight, mean, var), x_t, t, want)
        images = mixture(T8, weight, mean.reshape(3, 1, 2), var)
        agree(images, x_t.reshape(3, 1, 2), t, want.reshape(3, 1, 2))


def check_dataset(dataset):
    """Against the definition in plain Python, one image at a time."""
    x_t = np.random.default_rng(2).normal(0.2, 0.8, (3, 2, 3, 1))
    for s, t in CASES:
        root, noise = math.sqrt(s.alpha_bar[t]), 1 - s.alpha_bar[t]
        want = []
        for x in x_t:
            logs = [-(float(((x - root * image) ** 2).sum())) / (2 * noise) for image in IMAGES]
            r = [math.exp(value - max(logs)) for value in logs]
            x0_hat = sum(p * image for p, image in zip(r, IMAGES, strict=True)) / sum(r)
            want.append(eps_of(s, x, t, x0_hat))
        agree(dataset(s, IMAGES), x_t, t, np.array(want))


def check_gaussian_variance(gaussian_variance):
    """Stored numbers; a single image leaves beta_tilde, data of variance 1 beta, at every t."""
    rows = [line.split() for line in VARIANCES.strip().splitlines()]
    for s in (T8, LONG, ONE):
        known = {int(t): map(float, many) for T, t, *many in rows if int(T) == s.T}
        for var, *want in zip(WIDTHS, *known.values(), strict=True):
            got, case = gaussian_variance(s, var), f"T = {s.T}, var = {var}"
            assert isinstance(got, np.ndarray), f"{case}: got {type(got).__name__}, not an array"
            assert np.shape(got) == (s.T + 1,), (
                f"{case}: got shape {np.shape(got)}, expected {(s.T + 1,)}: entry t is for the "
                "step from t to t - 1, entry 0 is 0"
            )
            assert got.dtype == np.float64 and got[0] == 0, f"{case}: entry 0 is 0, no step"
            for t, right in zip(known, want, strict=True):
                assert math.isclose(got[t], right, rel_tol=1e-8, abs_tol=1e-13), (
                    f"{case}: Var[x_{t - 1} | x_{t}] is {got[t]:.6g}, expected {right:.6g}"
                )
        for var, right, name in ((0.0, s.beta_tilde, "beta_tilde"), (1.0, s.beta, "beta")):
            assert np.allclose(gaussian_variance(s, var), right, rtol=1e-8, atol=1e-13), (
                f"T = {s.T}, var = {var}: expected {name} at every t"
            )
        rising = np.array([gaussian_variance(s, var)[1:] for var in (0, 0.1, 0.5, 1, 2, 9)])
        assert np.all(np.diff(rising, axis=0) > 0), (
            f"T = {s.T}: the wider the data, the more is in doubt, at every t"
        )


# --- the package passes them ---


@grades("exact.point")
def test_point():
    check_point(exact.point)


@grades("exact.gaussian")
def test_gaussian():
    check_gaussian(exact.gaussian)


def test_mixture():
    check_mixture(exact.mixture)


def test_dataset():
    check_dataset(exact.dataset)


@grades("exact.gaussian_variance")
def test_gaussian_variance():
    check_gaussian_variance(exact.gaussian_variance)


def test_the_denoisers_are_special_cases_of_one_another():
    """One component is a Gaussian; components of no width are a data set; one image is a point."""
    x_t = np.random.default_rng(4).normal(0.2, 0.8, (3, 2, 3, 1))
    for s, t in CASES:
        gaussian, dataset = exact.gaussian(s, IMAGES[0], 0.25), exact.dataset(s, IMAGES)
        agree(exact.mixture(s, [1.0], IMAGES[:1], [0.25]), x_t, t, gaussian(x_t, t))
        no_width = exact.mixture(s, np.full(5, 0.2), IMAGES, np.zeros(5))
        agree(no_width, x_t, t, dataset(x_t, t))
        agree(exact.dataset(s, IMAGES[:1]), x_t, t, exact.point(s, IMAGES[0])(x_t, t))
        twice = np.concatenate([IMAGES, IMAGES])
        agree(exact.dataset(s, twice), x_t, t, dataset(x_t, t))


def test_far_from_all_data_the_answer_stays_finite():
    """Every likelihood underflows there; only the differences of their logarithms count."""
    x_t = np.full((2, 2, 3, 1), 50.0)
    x_t[1] = -50
    for dtype, tol in PRECISIONS:
        x = x_t.astype(dtype)
        mixture = exact.mixture(T8, np.full(5, 0.2), IMAGES, np.full(5, 0.1))
        for t in (1, 8):
            assert np.isfinite(exact.dataset(T8, IMAGES)(x, t)).all()
            assert np.isfinite(mixture(x, t)).all()
        nearest = [IMAGES[np.argmax(np.sign(x.flat[0]) * IMAGES.sum((1, 2, 3)))] for x in x_t]
        want = np.stack([eps_of(T8, a, 1, b) for a, b in zip(x_t, nearest, strict=True)])
        assert np.allclose(exact.dataset(T8, IMAGES)(x, 1), want, rtol=tol)


def test_data_may_be_stored_in_another_precision():
    """A float32 data set serves a float64 x_t and the other way round; x_t decides."""
    x_t = np.random.default_rng(4).normal(0.2, 0.8, (3, 2, 3, 1))
    stored = IMAGES.astype(np.float32)
    agree(exact.dataset(T8, stored), x_t, 4, exact.dataset(T8, stored.astype(np.float64))(x_t, 4))


@pytest.mark.parametrize("s", (T8, LONG), ids=["T8", "T1000"])
def test_the_best_variance_is_that_of_the_joint_gaussian(s):
    """By conditioning x_{t-1} on x_t, at every t."""
    for var in (0.25, 0.0, 3.0):
        of_x_t = s.alpha_bar * var + 1 - s.alpha_bar
        before, now = of_x_t[:-1], of_x_t[1:]
        want = before - (1 - s.beta[1:]) * before**2 / now
        assert np.allclose(exact.gaussian_variance(s, var)[1:], want, rtol=1e-8, atol=1e-13)


@pytest.mark.parametrize("s", (T8, LONG), ids=["T8", "T1000"])
def test_the_best_variance_lies_between_ddpms_two_choices(s):
    """beta_tilde is best for a single point, beta for data of variance 1."""
    assert np.allclose(exact.gaussian_variance(s, 0.0), s.beta_tilde, rtol=0, atol=1e-15)
    assert np.allclose(exact.gaussian_variance(s, 1.0), s.beta, rtol=1e-10)
    between = exact.gaussian_variance(s, 0.25)[1:]
    assert np.all(s.beta_tilde[1:] < between) and np.all(between < s.beta[1:])


# --- errata: wrong denoisers are stopped ---


def test_errata_point():
    """The image not shrunk before it is taken away; the noise divided by its variance."""

    def not_shrunk(s, x0):
        return lambda x, t: ((x - x0) / np.sqrt(1 - s.alpha_bar[t])).astype(x.dtype)

    def by_variance(s, x0):
        return lambda x, t: (exact.point(s, x0)(x, t) / np.sqrt(1 - s.alpha_bar[t])).astype(x.dtype)

    for wrong in (not_shrunk, by_variance):
        rejects(check_point, wrong)


def test_errata_gaussian():
    """The score for the noise, alpha_bar shifted by one, the data taken for a single point."""

    def score(s, mean, var):
        noise = exact.gaussian(s, mean, var)
        return lambda x, t: (-noise(x, t) / np.sqrt(1 - s.alpha_bar[t])).astype(x.dtype)

    def shifted(s, mean, var):
        return lambda x, t: exact.gaussian(s, mean, var)(x, max(t - 1, 1))

    def no_prior(s, mean, var):
        return lambda x, t: exact.point(s, np.broadcast_to(mean, x.shape[1:]))(x, t)

    for wrong in (score, shifted, no_prior):
        rejects(check_gaussian, wrong)


def test_errata_mixture():
    """Weights forgotten, or the widths of the components."""
    alike = lambda values: np.full(len(values), np.mean(values))
    for wrong in (
        lambda s, weight, mean, var: exact.mixture(s, alike(weight), mean, var),
        lambda s, weight, mean, var: exact.mixture(s, weight, mean, alike(var)),
    ):
        rejects(check_mixture, wrong)


def test_errata_dataset():
    """The nearest image for the average; twice the variance in the exponent."""

    def nearest(s, data):
        def eps_model(x, t):
            away = ((x[:, None] - np.sqrt(s.alpha_bar[t]) * data) ** 2).sum((2, 3, 4))
            return eps_of(s, x, t, data[away.argmin(1)]).astype(x.dtype)

        return eps_model

    def wide(s, data):
        def eps_model(x, t):
            away = ((x[:, None] - np.sqrt(s.alpha_bar[t]) * data) ** 2).sum((2, 3, 4))
            away = away / (4 * (1 - s.alpha_bar[t]))
            r = np.exp(away.min(1, keepdims=True) - away)
            r /= r.sum(1, keepdims=True)
            return eps_of(s, x, t, np.tensordot(r, data, 1)).astype(x.dtype)

        return eps_model

    for wrong in (nearest, wide):
        rejects(check_dataset, wrong)


def test_errata_variance():
    rejects(check_gaussian_variance, lambda s, var: s.beta_tilde)
    rejects(check_gaussian_variance, lambda s, var: s.beta)
