"""The two likelihoods against closed forms: no Monte Carlo.

For Gaussian data and the perfect denoiser each term of the bound is a quadratic in x0 and eps. Its
expectation is then the plain mean over four points, x0 = mean -+ std with eps = -+1: a stand-in for
the generator deals those out.
"""

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest

from tinydiff import exact, sample, schedule
from tinydiff.beyond import likelihood

MEAN, VAR = 2.0, 0.25  # asymmetric
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "terminal SNR")
    T8 = schedule.from_betas(np.linspace(0.02, 0.6, 8))  # short and loud
    ONE = schedule.from_betas([0.7])
LONG, COSINE = schedule.linear(1000), schedule.cosine(1000)


def entropy(var):
    """Average -log N(x; mean, var) over that same Gaussian, in nats."""
    return 0.5 * np.log(2 * np.pi * np.e * np.asarray(var))


def four(mean, var):
    """Place x0 at mean -+ std, each twice: for eps = +1 and, in the last two rows, -1. -> (4, D)"""
    return np.asarray(mean) + np.multiply.outer([-1, 1, -1, 1], np.sqrt(np.atleast_1d(var)))


class Signs:
    """Stand in for a generator: the noise of four(...), the same at each draw."""

    def standard_normal(self, size, dtype=np.float64):
        return np.broadcast_to(np.array([[1], [1], [-1], [-1]], dtype), size)


def conditioned(s, var):
    """Compute Var[x_{t-1} | x_t] of Gaussian data by conditioning the pair on x_t, and Var[x_T].

    This does not go through the posterior. -> (T,), number
    """
    total = s.alpha_bar * var + 1 - s.alpha_bar
    return total[:-1] - s.alpha[1:] * total[:-1] ** 2 / total[1:], total[-1]


def end(s, mean, var):
    """Compute KL(q(x_T) || N(0, 1)) of the data, and the mean of KL(q(x_T | x0) || N(0, 1))."""
    ab, total = s.alpha_bar[-1], conditioned(s, var)[1]
    square = ab * mean**2 + total - 1
    return 0.5 * (square - np.log(total)), 0.5 * (square - np.log(1 - ab))


# --- units ---


def test_bits_of_uniform_8_bit_images():
    """256 cells of width 2/255, all alike: density 255/512, and 8 bits to name one."""
    assert abs(likelihood.bits_per_dim(math.log(512 / 255)) - 8) < 1e-12
    of_density = likelihood.bits_per_dim(np.array([0.0, math.log(2)]), step=1)
    np.testing.assert_allclose(of_density, [0, 1], atol=1e-15)
    assert abs(likelihood.bits_per_dim(0.0) - math.log2(127.5)) < 1e-12


# --- variances ---


def test_positive_beta_tilde():
    got = likelihood.positive_beta_tilde(T8)
    assert got[1] == T8.beta_tilde[2] > 0
    assert T8.beta_tilde[1] == 0, "the schedule itself is left alone"
    np.testing.assert_array_equal(got[2:], T8.beta_tilde[2:])
    assert likelihood.positive_beta_tilde(ONE)[1] == ONE.beta[1]


@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-12), (np.float32, 1e-6)])
def test_learned_variance_goes_from_beta_tilde_to_beta(dtype, tol):
    t, mix = np.array([1, 2, 5, 8]), np.ones((4, 3), dtype) * np.array([-1, 0, 1], dtype)
    low, high = likelihood.positive_beta_tilde(T8)[t], T8.beta[t]
    got = likelihood.learned_variance(T8, t, mix)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, np.stack([low, np.sqrt(low * high), high], 1), rtol=tol)
    np.testing.assert_allclose(likelihood.learned_variance(T8, 5, mix[2:3]), got[2:3], rtol=tol)
    between = likelihood.learned_variance(T8, 5, np.full(2, 0.5))
    np.testing.assert_allclose(between, low[2] ** 0.25 * high[2] ** 0.75, rtol=1e-12)


# --- the bound ---


def one_term(s, t, square, var, want, what):
    """Compare one term, with all arguments as a student meets them."""
    got = likelihood.bound_term(s, t, np.array([square]), var)
    said = f"square (1,): one term for each value of it; came shape {np.shape(got)}"
    assert np.shape(got) == (1,), said
    said = f"t = {t}, square = {square:.4g}, var = {var:.4g}:"
    assert abs(got[0] - want) < 1e-9, f"{said} {got[0]:.6g}, expected {want:.6g}, {what}"


@pytest.mark.exercise("likelihood.bound_term")
def test_bound_term_against_the_integral():
    """KL = integral q log(q / p), on a fine grid; at t = 1 the density itself."""
    cases = [(T8, 5, -0.4, 0.5), (T8, 2, 0.3, 0.05), (T8, 8, 1.1, 0.2)]
    cases += [(LONG, 2, 0.01, 1e-4), (LONG, 500, 0.1, 0.02), (LONG, 1000, -0.05, 0.01)]
    for s, t, miss, var in cases:
        bt = s.beta_tilde[t]
        x = np.linspace(-12, 12, 2001) * math.sqrt(bt)
        log_q = -0.5 * np.log(2 * np.pi * bt) - x**2 / (2 * bt)
        log_p = -0.5 * np.log(2 * np.pi * var) - (x - miss) ** 2 / (2 * var)
        want = np.sum(np.exp(log_q) * (log_q - log_p)) * (x[1] - x[0])
        one_term(s, t, miss**2, var, want, "the integral of q log(q / p)")
    one_term(T8, 2, 0.0, T8.beta_tilde[2], 0.0, "two equal Gaussians")
    density = 0.5 * math.log(2 * math.pi * 0.04) + 0.09 / 0.08
    for s in (T8, LONG, ONE):
        one_term(s, 1, 0.09, 0.04, density, f"-log of a density (T = {s.T})")
    squares = np.array([[0.09, 0.01], [0.09, 0.04]], np.float32)
    got = likelihood.bound_term(T8, np.array([1, 2]), squares, np.array([[0.04], [0.05]]))
    alone = lambda t, var, square: likelihood.bound_term(T8, t, np.array([square], float), var)[0]
    rows = ((1, 0.04, squares[0]), (2, 0.05, squares[1]))
    want = [[alone(t, var, square) for square in row] for t, var, row in rows]
    said = "t (2,), square (2, 2), var (2, 1):"
    assert np.shape(got) == (2, 2), f"{said} one term for each value; came shape {np.shape(got)}"
    said = f"t = [1, 2], each row with its own t and var: {got.tolist()}, expected {want}"
    assert np.allclose(got, want, rtol=1e-5), said
    assert got.dtype == np.float32, f"square is float32, and so is the result; came {got.dtype}"


@pytest.mark.exercise("likelihood.bound_term")
@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 2, 3), (4, 2, 3, 2)], ids=str)
def test_bound_term_of_any_shape(shape, rng):
    """One t for all or one per image, var a number or of any shape that fits: each value alone."""
    square, wide = rng.random(shape), rng.uniform(1e-4, 0.6, shape)
    each = (4, *[1] * (len(shape) - 1))
    for s, times in ((LONG, [1, 2, 500, 1000]), (T8, [8, 1, 8, 3]), (ONE, [1, 1, 1, 1])):
        for t in (np.array(times), times[0], times[-1]):
            of_images = np.broadcast_to(np.reshape(t, each) if np.ndim(t) else t, shape)
            for var in (wide, wide[:1], wide.reshape(4, -1)[:, 0].reshape(each), 0.003):
                got = likelihood.bound_term(s, t, square, var)
                said = f"T = {s.T}, t = {t}, square {shape}, var {np.shape(var)}:"
                assert np.shape(got) == shape, f"{said} came shape {np.shape(got)}"
                for n in range(4):
                    at = n, *(size - 1 for size in shape[1:])
                    v = float(np.broadcast_to(var, shape)[at])
                    alone = likelihood.bound_term(s, int(of_images[at]), square[at][None], v)
                    why = f"{said} {got[at]:.6g} at {list(at)}, but for that value by itself"
                    assert abs(got[at] - alone[0]) < 1e-9 * (1 + abs(alone[0])), f"{why} {alone}"


@pytest.mark.parametrize("s", [T8, LONG, ONE], ids=["T8", "T1000", "T1"])
@pytest.mark.parametrize("choice", ["best", "beta", "beta_tilde"])
def test_each_term_of_the_bound(s, choice):
    """E KL = (log(var / beta_tilde) + Var[x_{t-1} | x_t] / var - 1) / 2: law of total variance."""
    best = conditioned(s, VAR)[0]
    var = {"best": exact.gaussian_variance(s, VAR), "beta": s.beta, "beta_tilde": None}[choice]
    used = (likelihood.positive_beta_tilde(s) if var is None else var)[1:]
    want = np.zeros(s.T + 1)
    want[: s.T] = 0.5 * (np.log(used) + best / used)
    want[0] += 0.5 * math.log(2 * math.pi)
    want[1 : s.T] -= 0.5 * (1 + np.log(s.beta_tilde[2:]))
    want[s.T] = end(s, MEAN, VAR)[1]
    got = likelihood.bound(exact.gaussian(s, MEAN, VAR), s, four(MEAN, VAR), Signs(), var)
    assert got.shape == (s.T + 1,)
    np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("s", [T8, LONG, ONE], ids=["T8", "T1000", "T1"])
def test_with_the_best_variance_the_bound_is_the_entropy(s):
    """p(x_{t-1} | x_t) is then q(x_{t-1} | x_t) itself; what is left is where x_T starts."""
    x0, model = four(MEAN, VAR), exact.gaussian(s, MEAN, VAR)
    want = entropy(VAR) + end(s, MEAN, VAR)[0]
    got = likelihood.bound(model, s, x0, Signs(), exact.gaussian_variance(s, VAR)).sum()
    assert abs(got - want) < 1e-10
    for worse in (None, s.beta):
        assert likelihood.bound(model, s, x0, Signs(), worse).sum() > want + 1e-3


def test_a_variance_for_each_value():
    """Two values of different width; the variance is a function, as sample.ddpm takes one.

    Terms are averaged over values, not added up.
    """
    mean, var = np.array([2.0, -0.5]), np.array([0.25, 0.04])
    best = np.stack([exact.gaussian_variance(T8, v) for v in var], 1)  # (T + 1, 2)
    model = exact.gaussian(T8, mean, var)
    asked = []

    def eps_model(x_t, t):
        asked.append((x_t, t))
        return model(x_t, t)

    def each(x_t, t):
        said = "the variance is called after the noise, with the same array"
        assert asked[-1][0] is x_t and asked[-1][1] == t, said
        return np.broadcast_to(best[t], x_t.shape)

    got = likelihood.bound(eps_model, T8, four(mean, var), Signs(), each).sum()
    want = [entropy(v) + end(T8, m, v)[0] for m, v in zip(mean, var, strict=True)]
    assert abs(got - np.mean(want)) < 1e-10


def test_new_noise_is_drawn_for_each_t_in_the_precision_of_the_images():
    seen, x0 = [], np.zeros((2, 3), np.float32)

    def eps_model(x_t, t):
        seen.append(x_t / np.sqrt(1 - T8.alpha_bar[t]))
        assert x_t.dtype == np.float32
        return x_t

    likelihood.bound(eps_model, T8, x0, np.random.default_rng(5))
    drawn = np.random.default_rng(5).standard_normal((8, 2, 3), dtype=np.float32)
    np.testing.assert_allclose(seen, drawn, rtol=1e-6)


# --- the probability-flow ODE ---


def flow_nats(s, x0, mean, var):
    """Compute what the exact flow gives, which stretches N(mean, var) into q(x_T)."""
    stretch = np.sqrt(conditioned(s, var)[1] / var)
    x_T = np.sqrt(s.alpha_bar[-1]) * mean + stretch * (x0 - mean)
    return 0.5 * np.log(2 * np.pi) + 0.5 * x_T**2 - np.log(stretch)


@pytest.mark.parametrize("s", [LONG, COSINE], ids=["linear", "cosine"])
def test_the_flow_gives_the_bits_of_a_gaussian(s):
    """-log p is quadratic: its mean over mean -+ std is the entropy; and point by point."""
    x0 = four(MEAN, VAR)[:2]
    got = likelihood.ode_nats(exact.gaussian(s, MEAN, VAR), s, x0, np.random.default_rng(0))
    assert got.shape == (2,)
    bits = likelihood.bits_per_dim(got.mean(), step=1)
    assert abs(bits - likelihood.bits_per_dim(entropy(VAR), step=1)) < 2e-4
    np.testing.assert_allclose(got, flow_nats(s, x0[:, 0], MEAN, VAR), rtol=0, atol=2e-5)


def test_the_flow_gives_the_density_of_a_wide_and_a_narrow_value():
    mean, var = np.array([2.0, -0.5]), np.array([1.5, 0.04])
    x0 = np.array([[2.3, -0.6], [0.9, -0.2]])
    model = exact.gaussian(COSINE, mean, var)
    got = likelihood.ode_nats(model, COSINE, x0, np.random.default_rng(0))
    want = (0.5 * np.log(2 * np.pi * var) + (x0 - mean) ** 2 / (2 * var)).mean(1)
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-4)


MIX = np.array([0.7, 0.3]), np.array([[2.0, 0.5], [-1.0, -0.3]]), np.array([0.25, 0.09])


def mixture_nats(x0, weight, mean, var):
    d = mean.shape[1]
    away = ((x0[:, None] - mean) ** 2).sum(2)
    return -np.log((weight * np.exp(-away / (2 * var)) / (2 * np.pi * var) ** (d / 2)).sum(1)) / d


class Axes:
    """Stand in for a generator: probes (1, 1) and (1, -1) in turn, of mean z z^T = 1."""

    def __init__(self, first=0, change=1):
        self.k, self.change = first, change

    def choice(self, values, size):
        assert sorted(values) == [-1, 1]
        z = np.array([[1, 1], [1, -1]])[self.k % 2]
        self.k += self.change
        return np.broadcast_to(z, size)


STEEP = schedule.linear(1000, beta_T=0.04)


@pytest.mark.parametrize("s", [STEEP, COSINE], ids=["linear", "cosine"])
def test_the_flow_gives_the_density_of_a_mixture(s):
    """At points in both humps, between them and outside; first one value, then two that depend.

    Linear betas up to 0.02 would leave x_T 0.7 % of the data's mean, and the density off by as much
    where x_T is far out.
    """
    weight, mean, var = MIX
    x0 = np.array([[2.4], [1.2], [0.4], [-0.7], [-1.3]])
    model = exact.mixture(s, weight, mean[:, :1], var)
    got = likelihood.ode_nats(model, s, x0, np.random.default_rng(0))
    np.testing.assert_allclose(got, mixture_nats(x0, weight, mean[:, :1], var), rtol=0, atol=1e-3)
    x0 = np.array([[2.4, 0.1], [0.5, 0.3], [-0.7, -0.6]])
    model, times = exact.mixture(s, *MIX), sample.even_times(s, 500)
    got = likelihood.ode_nats(model, s, x0, Axes(), times, probes=2)
    np.testing.assert_allclose(got, mixture_nats(x0, *MIX), rtol=0, atol=1e-3)


def test_hutchinsons_probes_average_to_the_divergence():
    """One probe errs by the off-diagonal derivatives; the two that cancel them give both's mean."""
    x0, times = np.array([[0.4, 0.2], [1.9, 0.8]]), sample.even_times(COSINE, 40)
    model = exact.mixture(COSINE, *MIX)
    one, two = (likelihood.ode_nats(model, COSINE, x0, Axes(k, change=0), times) for k in (0, 1))
    both = likelihood.ode_nats(model, COSINE, x0, Axes(), times, probes=2)
    assert np.abs(one - two).min() > 0.01
    np.testing.assert_allclose((one + two) / 2, both, rtol=0, atol=1e-8)


def test_second_order_on_even_and_uneven_times():
    """Halving the steps divides the error by 4; uneven grids are halved between their own times."""
    bar = np.cos(np.linspace(0, 1.53, 961)) ** 2
    s = schedule.from_betas(1 - bar[1:] / bar[:-1])
    x0 = np.array([[1.2]])
    model, want = exact.gaussian(s, MEAN, VAR), flow_nats(s, x0[:, 0], MEAN, VAR)
    uneven = [960, 896, 880, 800, 720, 688, 560, 480, 464, 336, 304, 192, 128, 96, 32, 16, 0]
    for points in (range(960, -1, -48), uneven):
        errors, times = [], list(points)
        for _ in range(4):
            got = likelihood.ode_nats(model, s, x0, np.random.default_rng(0), times)
            errors.append(abs((got - want).item()))
            middles = [(a + b) // 2 for a, b in pairwise(times)]
            times = sorted({*times, *middles}, reverse=True)
        orders = np.log2(np.array(errors[:-1]) / errors[1:])
        assert np.all(np.abs(orders - 2) < 0.05), f"orders {orders}, errors {errors}"


def test_float32_stays_float32():
    """A network works in float32: so does what it is called with; the answer loses only digits."""
    x0 = four(MEAN, VAR)[:2]
    model = exact.gaussian(COSINE, MEAN, VAR)

    def single(x_t, t):
        assert x_t.dtype == np.float32
        return model(x_t, t)

    draws, times = np.random.default_rng, sample.even_times(COSINE, 250)
    got = likelihood.ode_nats(single, COSINE, x0.astype(np.float32), draws(0), times)
    want = likelihood.ode_nats(model, COSINE, x0, draws(0), times)
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-3)


def test_the_model_is_called_at_all_visited_times_but_not_at_t_0():
    asked = []

    def eps_model(x_t, t):
        asked.append(t)
        return x_t * 0.5

    x0, times = np.ones((1, 2)), [8, 5, 2, 0]
    likelihood.ode_nats(eps_model, T8, x0, np.random.default_rng(0), times, probes=3)
    assert asked == [2] * 12 + [5] * 12 + [8] * 6  # at the last time the flow only arrives


@pytest.mark.parametrize("times", [[0, 4, 8], [8, 4], [7, 0], [8, 4, 4, 0], [0]])
def test_times_in_the_wrong_order_are_refused(times):
    with pytest.raises(ValueError, match="decrease from T = 8 to 0") as e:
        likelihood.ode_nats(None, T8, np.ones((1, 1)), None, times)
    assert "\n" not in str(e.value)


def test_nan_has_no_likelihood(rng):
    """NaN in an image, or from a model, is NaN in the bound, and in that image's density."""
    x0, model = four(MEAN, VAR), exact.gaussian(T8, MEAN, VAR)
    broken = np.where(np.arange(4)[:, None] == 2, np.nan, x0)
    assert np.isnan(likelihood.bound(model, T8, broken, Signs())).all()
    assert np.isnan(likelihood.bound(lambda x_t, t: x_t * np.nan, T8, x0, Signs())[:-1]).all()
    got = likelihood.ode_nats(model, T8, broken, rng)
    assert np.isnan(got).tolist() == [False, False, True, False]


def test_the_bound_is_drawn_term_by_term_and_added_up():
    nats = np.array([3.0, 0.5, 0.25, 0.0])
    terms, total = likelihood.draw_bound(nats).axes
    assert np.asarray(terms.lines[0].get_xydata()).tolist() == [[0, 3], [1, 0.5], [2, 0.25], [3, 0]]
    assert np.asarray(total.lines[0].get_ydata()).tolist() == [3, 3.5, 3.75, 3.75]
    assert "3.75" in total.get_title()
