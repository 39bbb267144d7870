"""The perfect denoisers against integrals, brute force and each other, in both precisions."""

import math
import warnings

import numpy as np
import pytest

from tinydiff import exact, kernels, schedule

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "terminal SNR")
    T8 = schedule.from_betas(np.linspace(0.02, 0.6, 8))  # short and loud
LONG = schedule.from_betas(np.linspace(1e-4, 0.02, 1000))
CASES = [(T8, t) for t in range(1, 9)] + [(LONG, t) for t in (1, 20, 300, 1000)]
PRECISIONS = ((np.float64, 1e-10), (np.float32, 1e-3))  # float32: 1 - alpha_bar[1] keeps 4 digits


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


def agree(eps_model, x_t, t, want):
    """The denoiser gives want (float64), in x_t's shape and precision, and leaves x_t as it is."""
    for dtype, tol in PRECISIONS:
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


def by_quadrature(s, density, x_t, t):
    """E[x0 | x_t] for one number x0 with any density, as the ratio of two sums over a fine grid."""
    x0 = np.linspace(-10, 12, 40001)
    guess = []
    for x in x_t:
        logs = -((x - math.sqrt(s.alpha_bar[t]) * x0) ** 2) / (2 * (1 - s.alpha_bar[t]))
        weight = density(x0) * np.exp(logs - logs.max())
        guess.append((weight * x0).sum() / weight.sum())
    return np.array(guess)


def normal(x, mean, var):
    return np.exp(-((x - mean) ** 2) / (2 * var)) / math.sqrt(2 * math.pi * var)


# points x_t that data N(2, 0.5^2) and its neighbours reach
X = np.array([-1.0, 0.3, 0.9, 1.7, 2.5, 3.1])
IMAGES = np.random.default_rng(1).normal(0.3, 0.6, (5, 2, 3, 1))  # asymmetric


# --- the checks: each takes the function under test ---


def check_point(point):
    """Noise that was put on the one image by hand is found again, to the last digit."""
    eps = np.random.default_rng(2).normal(size=(4, 2, 3, 1))
    for s, t in CASES:
        x_t = math.sqrt(s.alpha_bar[t]) * IMAGES[0] + math.sqrt(1 - s.alpha_bar[t]) * eps
        agree(point(s, IMAGES[0]), x_t, t, eps)
    x_t = np.array([[1.5], [-0.5]])
    agree(point(T8, 2.0), x_t, 3, eps_of(T8, x_t, 3, 2.0))


def check_gaussian(gaussian):
    """Against the integral over all clean images; for images also against regression on x_t."""
    for s, t in CASES:
        x0_hat = by_quadrature(s, lambda x0: normal(x0, 2, 0.25), X, t)
        agree(gaussian(s, 2.0, 0.25), X[:, None], t, eps_of(s, X, t, x0_hat)[:, None])
    mean, var = IMAGES[0], IMAGES[1] ** 2
    x_t = np.random.default_rng(2).normal(size=(4, 2, 3, 1))
    for t in (1, 5):
        ab = T8.alpha_bar[t]  # Cov(eps, x_t) / Var(x_t) is the slope of the best guess of eps
        want = math.sqrt(1 - ab) / (ab * var + 1 - ab) * (x_t - math.sqrt(ab) * mean)
        agree(gaussian(T8, mean, var), x_t, t, want)
        agree(gaussian(T8, mean, 0.0), x_t, t, eps_of(T8, x_t, t, mean))  # a single image


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
    """Var[x_{t-1} | x_t] by conditioning the joint Gaussian of x_{t-1} and x_t."""
    for s in (T8, LONG):
        for var in (0.25, 0.0, 3.0):
            of_x_t = s.alpha_bar * var + 1 - s.alpha_bar
            before, now = of_x_t[:-1], of_x_t[1:]
            want = before - (1 - s.beta[1:]) * before**2 / now
            got, case = gaussian_variance(s, var), f"T = {s.T}, var = {var}"
            assert np.shape(got) == (s.T + 1,), (
                f"{case}: got shape {np.shape(got)}, expected {(s.T + 1,)}: entry t is for the "
                "step from t to t - 1, entry 0 is 0"
            )
            assert got.dtype == np.float64 and got[0] == 0, f"{case}: entry 0 is 0, no step"
            for t in (3, 2, 8, 1):
                assert math.isclose(got[t], want[t - 1], rel_tol=1e-8, abs_tol=1e-13), (
                    f"{case}: Var[x_{t - 1} | x_{t}] is {got[t]:.6g}, expected {want[t - 1]:.6g}"
                )
            assert np.allclose(got[1:], want, rtol=1e-8, atol=1e-13), f"{case}: wrong at other t"


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
