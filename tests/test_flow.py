"""flow.py, against the exact velocity of Gaussian data, and against the samplers of sample.py.

For data N(2, 0.5^2) the velocity is affine in x_t, so a chain of steps is affine in x_1: two
starts, 0 and 1, tell its mean and its standard deviation exactly.
"""

import math
import warnings
from itertools import islice, pairwise

import numpy as np
import pytest

from tinydiff import exact, sample, schedule
from tinydiff.autodiff import op
from tinydiff.beyond import flow
from tinydiff.nn import Module
from tinydiff.train import Training, drop_labels

MEAN, VAR = 2.0, 0.25
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "terminal SNR")
    T8 = schedule.from_betas(np.linspace(0.02, 0.6, 8))
LONG = schedule.linear(1000)
EVEN, UNEVEN = (lambda n: np.linspace(1, 0, n + 1)), (lambda n: np.linspace(1, 0, n + 1) ** 2)
STARTS = np.array([[0.0], [1.0], [-0.7]])


def exact_velocity(mean, var):
    """Make E[u | x_t] for data N(mean, var), where u = eps - x0 and x_t are both Gaussian.

    E[u] + cov(u, x_t) / var(x_t) (x_t - E[x_t])
    """
    slope = lambda t: (t - (1 - t) * var) / ((1 - t) ** 2 * var + t**2)
    return lambda x, t: -mean + slope(t) * (x - (1 - t) * mean)


VELOCITY = exact_velocity(MEAN, VAR)


def last(chain):
    *_, x0 = chain
    return x0


# --- path and target ---


def test_path_by_hand():
    """One t for all and one for each image; t = 0 is the data, t = 1 the noise, to the bit."""
    x0, eps = np.array([[1.0, -2.0], [3.0, 0.5]]), np.array([[0.25, 1.0], [-1.0, 2.0]])
    assert np.array_equal(flow.path(x0, 0.25, eps), [[0.8125, -1.25], [2.0, 0.875]])
    each = flow.path(x0, np.array([0.25, 0.75]), eps)
    assert np.array_equal(each, [[0.8125, -1.25], [0.0, 1.625]])
    assert np.array_equal(flow.path(x0, 0, eps), x0)
    assert np.array_equal(flow.path(x0, np.ones(2), eps), eps)
    single = flow.path(x0.astype(np.float32), np.array([0.1, 0.2]), eps.astype(np.float32))
    assert single.dtype == np.float32


def test_the_target_is_the_derivative_of_the_path(rng):
    x0, eps = rng.standard_normal((2, 3, 4, 5, 2))
    for t in (0.25, np.array([0.125, 0.5, 0.75])):
        slope = (flow.path(x0, t + 0.125, eps) - flow.path(x0, t - 0.125, eps)) / 0.25
        assert np.abs(flow.velocity_target(x0, eps) - slope).max() < 1e-13


# --- samplers ---


def same_noise(got, want, case, tol):
    why = f"{case}: the answer has shape {np.shape(got)}, expected that of x_t, {np.shape(want)}"
    assert np.shape(got) == np.shape(want), why
    far = np.abs(got - want).max()
    why = f"{case}: eps_hat is off by {far:.3g};"
    why += f" the first one is {np.ravel(got)[0]:.6g}, expected {np.ravel(want)[0]:.6g}"
    assert far < tol, why


@pytest.mark.exercise("flow.as_eps_model")
@pytest.mark.parametrize("s", (T8, LONG), ids=["T8", "T1000"])
def test_as_eps_model_on_the_exact_velocity_is_the_exact_denoiser(s, rng):
    """Two exact answers, derived apart: for a Gaussian, and a point with (x - x0) / t."""
    x_t = rng.normal(1, 1, (4, 3, 2, 1))
    point = np.array([[[2.0], [-1.0]], [[0.5], [0.1]], [[0.0], [3.0]]])
    for t in (s.T, s.T // 2, 2, 1):
        case = f"t = {t} of T = {s.T}"
        got, want = flow.as_eps_model(VELOCITY, s)(x_t, t), exact.gaussian(s, MEAN, VAR)(x_t, t)
        same_noise(got, want, f"{case}, the exact velocity of N(2, 0.5^2)", 1e-12)
        got = flow.as_eps_model(lambda x, t: (x - point) / t, s)(x_t, t)
        same_noise(got, exact.point(s, point)(x_t, t), f"{case}, the velocity of one image", 1e-10)
    kind = flow.as_eps_model(VELOCITY, s)(x_t.astype(np.float32), 3).dtype
    assert kind == np.float32, f"x_t is float32, and so is eps_hat; came {kind}"


@pytest.mark.exercise("flow.as_eps_model")
def test_one_eps_model_serves_all_times_and_shapes(rng):
    """It remembers nothing, asks the velocity at flow times only, and leaves x_t as it is."""
    asked = []

    def velocity(x, t):
        asked.append(t)
        assert np.ndim(t) == 0, f"velocity takes one time for all images; it got {np.shape(t)}"
        return VELOCITY(x, t)

    eps_model, want = flow.as_eps_model(velocity, T8), exact.gaussian(T8, MEAN, VAR)
    for shape in ((3,), (2, 5), (4, 3, 2), (1, 2, 2, 3)):
        for t in (8, 3, 1, 3, 8):
            x_t = rng.normal(1, 1, shape)
            kept = x_t.copy()
            same_noise(eps_model(x_t, t), want(kept, t), f"x_t {shape}, t = {t}", 1e-12)
            assert np.array_equal(x_t, kept), "it changes x_t, which the sampler still needs"
    times = [float(flow.flow_time(T8, t)) for t in (1, 3, 8)]
    found = [t for t in asked if np.abs(np.subtract(times, t)).min() > 1e-9]
    assert not found, f"velocity is asked at {found[:3]}, which is not the flow time of any t"


SAMPLERS = sample.ddpm, sample.ddim, sample.euler, sample.heun, sample.dpmpp_2m


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda f: f.__name__)
def test_every_sampler_draws_from_a_flow(sampler):
    """The same x_0 from the velocity as from the denoiser it belongs to."""
    x_T = np.random.default_rng(7).standard_normal((5, 2))
    draw = lambda model: last(sampler(model, T8, x_T.shape, np.random.default_rng(8), x_T=x_T))
    got, want = draw(flow.as_eps_model(VELOCITY, T8)), draw(exact.gaussian(T8, MEAN, VAR))
    assert np.abs(got - want).max() < 1e-12


def test_flow_time_holds_the_same_noise_for_its_signal():
    for s in (T8, LONG):
        t = np.arange(1, s.T + 1)
        at = flow.flow_time(s, t)
        assert np.allclose(((1 - at) / at) ** 2, s.snr[1:], rtol=1e-11)
        assert flow.flow_time(s, 0) == 0 and flow.flow_time(s, int(t[-1])) == at[-1]


@pytest.mark.parametrize(
    "s, times", [(T8, [8, 7, 3, 1, 0]), (T8, [5, 2, 0]), (LONG, [1000, 999, 400, 30, 2, 0])]
)
def test_ddim_is_euler_in_another_scaling(s, times):
    """Each array of one chain is one of the other, rescaled; no closed form cancels by luck."""
    velocity = lambda x, t: np.sin(3 * x + t) - t * x**2
    k = (np.sqrt(s.alpha_bar) + np.sqrt(1 - s.alpha_bar))[times]
    x_T, eps_model = STARTS * k[0], flow.as_eps_model(velocity, s)
    ddim = np.stack([*sample.ddim(eps_model, s, x_T.shape, None, times, x_T=x_T)])
    flow_times = flow.flow_time(s, times)
    euler = np.stack([*flow.euler(velocity, STARTS.shape, None, flow_times, STARTS)])
    assert np.abs(ddim / k[:, None, None] - euler).max() < 1e-12


@pytest.mark.parametrize("grid", (EVEN, UNEVEN), ids=["even", "uneven"])
def test_euler_carries_mean_and_standard_deviation(grid):
    """Carried by hand: the covariance of x_t and x_u, on one line, over the variance of x_t."""
    for n in (1, 2, 5, 8):
        mean, std = 0.0, 1.0
        for t, u in pairwise(grid(n)):
            slope = ((1 - t) * (1 - u) * VAR + t * u) / ((1 - t) ** 2 * VAR + t**2)
            mean, std = (1 - u) * MEAN + slope * (mean - (1 - t) * MEAN), slope * std
        chain = list(flow.euler(VELOCITY, (3, 1), None, grid(n), STARTS))
        assert len(chain) == n + 1 and np.array_equal(chain[0], STARTS)
        assert np.abs(chain[-1] - (mean + std * STARTS)).max() < 1e-12


@pytest.mark.parametrize("grid", (EVEN, UNEVEN), ids=["even", "uneven"])
@pytest.mark.parametrize("sampler, order", [(flow.euler, 1), (flow.heun, 2)], ids=["euler", "heun"])
def test_order_of_convergence(sampler, order, grid):
    """Towards the exact flow x_0 = mean + standard deviation x_1."""
    draw = lambda n: last(sampler(VELOCITY, (3, 1), None, grid(n), STARTS))
    error = [np.abs(draw(n) - (MEAN + 0.5 * STARTS)).max() for n in (200, 400, 800)]
    for coarse, fine in pairwise(error):
        assert abs(math.log2(coarse / fine) - order) < 0.03


def test_heun_by_hand():
    """Two steps on u = t + 3 x, the last one Euler's."""
    chain = list(flow.heun(lambda x, t: t + 3 * x, (1,), None, [1, 0.75, 0], np.array([2.0])))
    there = 2 - 0.25 * 7
    middle = 2 - 0.25 * (7 + 0.75 + 3 * there) / 2
    want = [2, middle, middle - 0.75 * (0.75 + 3 * middle)]
    assert np.allclose(np.ravel(chain), want, rtol=1e-15)


@pytest.mark.parametrize("sampler", (flow.euler, flow.heun), ids=["euler", "heun"])
def test_noise_is_drawn_only_when_none_is_given(sampler):
    times = np.linspace(1, 0, 5)  # of np.float64, which must not spread to the images
    drawn = list(sampler(VELOCITY, (3, 2), np.random.default_rng(5), times))
    x_1 = np.random.default_rng(5).standard_normal((3, 2), dtype=np.float32)
    given = list(sampler(VELOCITY, (3, 2), None, times, x_1))
    assert np.array_equal(drawn, given) and {x.dtype for x in drawn} == {np.dtype(np.float32)}


@pytest.mark.exercise("flow.straightness")
def test_straightness_by_hand():
    """Uneven pieces, two images of two values: all can be worked out on paper."""
    x = np.array([[[4.0, 0.0], [1.0, 0.0]], [[3.0, 2.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 2.0]]])
    # times 1, 3/4, 0. Velocities 4 -8 0 0, then 4 8/3 4/3 -8/3; the straight way 4 0 1 -2. Squares
    # of the differences: 0 64 1 4, of mean 69/4, for 1/4 of the time; 0 64/9 1/9 4/9, of mean
    # 23/12, for 3/4: 69/16 + 23/16 = 23/4
    got = flow.straightness(x, [1.0, 0.75, 0.0])
    assert isinstance(got, float), f"one number is wanted, a float; came {type(got).__name__}"
    assert abs(got - 5.75) < 1e-12, f"three points, times 1, 3/4, 0: {got:.6g}, expected 5.75"
    for n in (1, 2, 5):
        line = [np.array([[2.0, -1.0]]) * t + 3 for t in UNEVEN(n)]
        got = flow.straightness(line, UNEVEN(n))
        assert abs(got) < 1e-20, f"a straight line in {n} uneven pieces has 0; came {got:.3g}"


@pytest.mark.exercise("flow.straightness")
def test_straightness_of_any_chain(rng):
    """What euler yields as it comes, lists and arrays; any shape, of which each value counts."""
    for shape in ((3,), (2, 4), (2, 3, 2), (2, 2, 3, 1)):
        start = rng.normal(size=shape)
        x = [start, start + rng.normal(size=shape), rng.normal(size=shape)]
        # velocities over 1/4 and 3/4 of the time
        first, second, whole = (x[0] - x[1]) * 4, (x[1] - x[2]) / 0.75, x[0] - x[2]
        want = np.mean((first - whole) ** 2) / 4 + np.mean((second - whole) ** 2) * 0.75
        # an iterator can be walked through once, as a generator
        for chain, times in ((iter(x), [1, 0.75, 0]), (tuple(x), np.array([1, 0.75, 0]))):
            got = flow.straightness(chain, times)
            said = f"three points {shape}, a {type(chain).__name__}, times {times}: {got:.6g}"
            assert math.isclose(got, want, rel_tol=1e-12), f"{said}, expected {want:.6g}"


@pytest.mark.exercise("flow.straightness")
def test_straightness():
    """0 for a point, whose lines never cross; a closed form for N(mean, var).

    x_1^2 (integral of (d std_t / dt)^2 - (1 - std)^2)
    """
    point = lambda x, t: (x - MEAN) / t
    got = flow.straightness(list(flow.euler(point, (3, 1), None, UNEVEN(7), STARTS)), UNEVEN(7))
    assert got < 1e-28, f"the flow to a single image is straight: 0; came {got:.3g}"
    t = (np.arange(20000) + 0.5) / 20000
    rise = (t - (1 - t) * VAR) / np.sqrt((1 - t) ** 2 * VAR + t**2)
    want = np.mean(STARTS**2) * (np.mean(rise**2) - (1 - 0.5) ** 2)
    times = UNEVEN(1000)
    std = lambda t: np.sqrt((1 - t) ** 2 * VAR + t**2)
    along = [(1 - t) * MEAN + std(t) * STARTS for t in times]  # the exact flow
    got = flow.straightness(along, times)
    why = f"the exact flow to N(2, 0.5^2), 1000 uneven pieces: {got:.6g}, expected {want:.6g}"
    assert abs(got / want - 1) < 1e-5, why


# --- training ---


class Affine(Module):
    """u_hat = w0 a(t) (x - (1 - t) mean) - w1; w = (1, mean) is right for this mean and variance.

    It notes what it is called with.
    """

    classes = (3,)

    def __init__(self, dtype=np.float32):
        self.slope, self.offset, self.calls = np.zeros(1, dtype), np.zeros(1, dtype), []

    def __call__(self, x, t, labels=None):
        self.calls.append((x, t, labels))
        t = np.reshape(t, (-1, 1, 1, 1)) / 1000
        feature = (t - (1 - t) * VAR) / ((1 - t) ** 2 * VAR + t**2) * (x - (1 - t) * MEAN)
        return self.slope * feature.astype(x.dtype) - self.offset

    def _slots(self, prefix=""):
        yield from (("slope", self, "slope"), ("offset", self, "offset"))


# of mean 2 and variance 0.25, all that the best affine answer knows of
TWO = np.array([1.5, 2.5], np.float32).reshape(2, 1, 1, 1)


def test_one_step_of_training_by_hand():
    """Batch, t, noise, dropped labels in this order; the network gets 1000 t, aims at eps - x0."""
    labels = np.array([[0], [2]])
    run = Training(Affine(), np.random.default_rng(3))
    run.theta[:] = 0.5, 1.5
    seen = []
    run.adam.step = lambda g, lr, wait: seen.append((g, lr)) or np.float32(1.0)
    steps = flow.train(run, TWO, labels, batch=32, lr=lambda step: 0.1 + step, p_drop=0.4)
    assert next(steps) is run and run.step == 1

    rng = np.random.default_rng(3)
    i, t = rng.integers(2, size=32), rng.random(32)
    eps = rng.standard_normal((32, 1, 1, 1), dtype=np.float32)
    dropped = drop_labels(labels[i], (3,), 0.4, rng)
    x, got_t, cond = run.model.calls[0]
    assert np.allclose(x.ravel(), (1 - t) * TWO[i].ravel() + t * eps.ravel(), atol=1e-6)
    assert np.allclose(got_t, 1000 * t, rtol=1e-15)
    assert np.array_equal(cond, dropped) and {0, 2, 3} == set(dropped.ravel())
    run.model.slope, run.model.offset = run.theta[:1].copy(), run.theta[1:].copy()
    away = run.model(x, got_t) - (eps - TWO[i])
    feature = (run.model(x, got_t) + 1.5) / 0.5
    g, rate = seen[0]
    assert abs(run.loss - np.mean(away**2)) < 1e-5 and rate == 0.1
    assert np.allclose(g, [2 * np.mean(away * feature), -2 * np.mean(away)], atol=1e-5)


def test_training_finds_the_exact_velocity():
    """Data with the moments of N(2, 0.5^2) have the weights 1 and 2; other seeds end 0.005 away."""
    run, n = Training(Affine(), np.random.default_rng(0)), 400
    steps = flow.train(run, TWO, batch=512, lr=lambda step: 0.05 * (1 - step / n))
    for _ in islice(steps, n):
        pass
    assert np.abs(run.theta - [1, 2]).max() < 0.02
    x = np.linspace(-1, 3, 5, dtype=np.float32).reshape(5, 1, 1, 1)
    for t in (0.1, 0.5, 0.9):
        assert np.abs(flow.as_velocity(run.model)(x, t) - VELOCITY(x, t)).max() < 0.05


@op
def endless(w):
    """Give infinity, with a gradient that looks harmless."""
    return w * 0 + np.inf, lambda g: (np.ones_like(w),)


def test_a_loss_or_gradient_that_is_not_finite_stops_training(monkeypatch):
    """Before anything changes: NaN images; a loss that is infinite though its gradient is not."""
    run, bad = Training(Affine(), np.random.default_rng(0)), np.full_like(TWO, np.nan)
    with pytest.raises(FloatingPointError, match="the loss at step 1 is nan"):
        next(flow.train(run, bad))
    infinite = lambda self, x, t, labels=None: endless(self.offset) + 0 * x
    monkeypatch.setattr(Affine, "__call__", infinite)
    with pytest.raises(FloatingPointError, match="the loss at step 1 is inf"):
        next(flow.train(run, TWO))
    assert run.step == 0 and np.array_equal(run.theta, [0, 0])


def test_as_velocity_gives_the_network_the_time_and_the_labels():
    model, labels = Affine(), np.array([[1], [3]])
    model.slope, model.offset = np.float32([1]), np.float32([2])
    got = flow.as_velocity(model, labels)(TWO, 0.25)
    _, t, cond = model.calls[0]
    assert np.abs(got - VELOCITY(TWO, 0.25)).max() < 1e-6
    assert np.array_equal(t, [250, 250]) and cond is labels


def test_a_bend_of_nan_is_nan():
    chain = [np.array([[1.0, 2.0]]), np.array([[np.nan, 1.0]]), np.array([[0.0, 0.0]])]
    assert np.isnan(flow.straightness(chain, [1.0, 0.5, 0.0]))
