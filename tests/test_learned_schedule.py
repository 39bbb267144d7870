"""A learned schedule can only rise; its loss keeps its mean and loses its variance.

For Gaussian data the optimum is known: where directions are independent 1/2 error(gamma) d gamma is
the derivative of -1/2 sum_d log(1 + var[d] snr). So the mean of L(t) is a difference of logarithms,
and L(t) is the same at every t where their sum falls in a straight line.
"""

import math
from itertools import islice, pairwise

import numpy as np
import pytest

from tinydiff import exact, sample, schedule
from tinydiff.beyond import learned_schedule
from tinydiff.gradcheck import gradcheck

VAR = np.array([4.0, 0.25, 0.01])
START, END = -8.0, 3.0
# the middles of 20,000 equal parts of [0, 1]: a mean over them is an integral
T = ((np.arange(20000) + 0.5) / 20000)[:, None]


def information(gamma):
    """Compute what x_t tells about x0, in nats: 1/2 sum_d log(1 + var[d] snr)."""
    return 0.5 * np.log1p(VAR * np.exp(-np.reshape(gamma, (-1, 1)))).sum(1)


BOUND = (information(START) - information(END)).item()


def random_gamma(rng, spread, start=START, end=END):
    gamma = learned_schedule.Gamma(start, end, K=5)
    theta = gamma.flatten(np.float64)
    theta += spread * rng.standard_normal(theta.shape)
    return gamma


def best_gamma(t):
    """Look up where the information has fallen in a straight line: there L(t) is constant."""
    fine = np.linspace(START, END, 200_001)
    wanted = information(START) + t * (information(END) - information(START))
    return np.interp(-wanted, -information(fine), fine)


# --- the network ---


def test_gamma_by_hand():
    """Two hidden units, one by one."""
    gamma = learned_schedule.Gamma(-3.0, 5.0, K=2)
    gamma.w1, gamma.centre = np.array([[0.5, 1.5]]), np.array([[0.2, 0.9]])
    gamma.w2 = np.array([[-0.3], [0.7]])

    def rise(t):
        first = math.exp(-0.3) / (1 + math.exp(-math.exp(0.5) * (t - 0.2)))
        return t + first + math.exp(0.7) / (1 + math.exp(-math.exp(1.5) * (t - 0.9)))

    got, _ = gamma(np.array([[0.0], [0.3], [1.0]]))
    want = [-3 + 8 * (rise(t) - rise(0)) / (rise(1) - rise(0)) for t in (0.0, 0.3, 1.0)]
    assert np.abs(got.ravel() - want).max() < 1e-12


@pytest.mark.parametrize("spread", (0.3, 3.0))
def test_gamma_rises_between_its_ends_whatever_the_parameters(spread, rng):
    for _ in range(20):
        gamma = random_gamma(rng, spread)
        at, slope = gamma(np.linspace(0, 1, 501)[:, None])
        assert abs(at[0, 0] - START) < 1e-12 and abs(at[-1, 0] - END) < 1e-10
        assert np.all(np.diff(at[:, 0]) > 0) and np.all(slope > 0)


def test_slope_is_the_derivative(rng):
    for _ in range(5):
        gamma, t, h = random_gamma(rng, 0.5), np.linspace(0.05, 0.95, 19)[:, None], 1e-5
        numeric = (gamma(t + h)[0] - gamma(t - h)[0]) / (2 * h)
        assert np.abs(numeric / gamma(t)[1] - 1).max() < 1e-6


def test_gradients(rng):
    """Of the two new operations, and of the loss in every parameter, through slope and error."""
    x = rng.normal(0.3, 1, (4, 3))
    gradcheck(learned_schedule.sigmoid, [x], rng)
    gradcheck(learned_schedule.exp, [x], rng)
    gamma, t = random_gamma(rng, 0.5), rng.random((7, 1))

    def loss(w1, centre, w2):
        gamma.w1, gamma.centre, gamma.w2 = w1, centre, w2
        return learned_schedule.bound(gamma, learned_schedule.gaussian_error(VAR), t)

    gradcheck(loss, [gamma.w1, gamma.centre, gamma.w2], rng)


def test_sigmoid_by_hand():
    """Far out too, without overflow."""
    with np.errstate(all="raise"):
        y = learned_schedule.sigmoid(np.array([-1e4, -1.3, 0.0, 2.0, 1e4]))
    assert np.abs(y - [0, 1 / (1 + math.exp(1.3)), 0.5, 1 / (1 + math.exp(-2)), 1]).max() < 1e-15


# --- the loss ---


def test_gaussian_error_is_that_of_the_exact_denoiser():
    """eps - eps_hat is affine in x0 and eps: its coefficients give the mean square, no draws."""
    s = schedule.linear(1000)
    for t in (1, 40, 400, 1000):
        want = 0
        for var in VAR:
            x0, eps = np.array([[2.0], [3.0], [2.0]]), np.array([[0.0], [0.0], [1.0]])
            x_t = np.sqrt(s.alpha_bar[t]) * x0 + np.sqrt(1 - s.alpha_bar[t]) * eps
            # at the mean; one off in x0; one off in eps
            away = eps - exact.gaussian(s, 2.0, var)(x_t, t)
            assert abs(away[0, 0]) < 1e-10
            want += away[1, 0] ** 2 * var + away[2, 0] ** 2
        got = learned_schedule.gaussian_error(VAR)(np.array([[-np.log(s.snr[t])]])).item()
        assert abs(got / want - 1) < 1e-9


def test_the_mean_of_the_loss_depends_on_the_ends_only(rng):
    error = learned_schedule.gaussian_error(VAR)
    for _ in range(5):
        L = learned_schedule.bound(random_gamma(rng, 0.5), error, T)
        assert abs(L.mean() / BOUND - 1) < 1e-6


# --- training ---


def descend(gamma, error, rng, steps=500):
    """Train gamma in place, with a learning rate that falls in a straight line."""
    lr = lambda step: 0.05 * (1 - step / steps)
    for _ in islice(learned_schedule.train(gamma, error, rng, lr=lr), steps):
        pass


def test_the_first_loss_by_hand():
    """One time in each of five equal parts, all shifted alike; the mean of the squares."""
    gamma, error = learned_schedule.Gamma(START, END), learned_schedule.gaussian_error(VAR)
    t = (np.random.default_rng(6).random() + np.arange(5)) / 5
    want = np.mean(learned_schedule.bound(gamma, error, t[:, None]) ** 2)
    steps = learned_schedule.train(gamma, error, np.random.default_rng(6), batch=5)
    assert abs(next(steps) - want) < 1e-10


def test_training_keeps_the_mean_takes_the_variance_and_finds_the_best_schedule():
    """Against the exact optimum. Measured: variance 24.9, then 0.003; distance 2.63, then 0.02."""
    gamma, error = learned_schedule.Gamma(START, END), learned_schedule.gaussian_error(VAR)
    before, (at, _) = learned_schedule.bound(gamma, error, T), gamma(T)
    descend(gamma, error, np.random.default_rng(0))
    after, (now, _) = learned_schedule.bound(gamma, error, T), gamma(T)
    assert abs(before.mean() / BOUND - 1) < 1e-6 and abs(after.mean() / BOUND - 1) < 1e-6
    assert before.var() / after.var() > 2000
    best = best_gamma(T[:, 0])
    assert np.abs(at[:, 0] - best).max() > 2 and np.abs(now[:, 0] - best).max() < 0.06


def test_training_on_single_draws_lowers_the_variance_too():
    """64 Gaussian directions of variance 4: a draw of the sum of squares is error chi^2."""
    rng = np.random.default_rng(1)
    one = lambda gamma: learned_schedule.sigmoid(math.log(4.0) - gamma)
    draw = lambda gamma: one(gamma) * rng.chisquare(64, gamma.shape)
    gamma = learned_schedule.Gamma(START, END)
    error = learned_schedule.gaussian_error(np.full(64, 4.0))
    before = learned_schedule.bound(gamma, error, T).var()
    descend(gamma, draw, rng)
    assert before / learned_schedule.bound(gamma, error, T).var() > 50


@pytest.mark.parametrize("where", ["everywhere", "in one of 256 times"])
def test_an_error_that_is_nan_stops_training_before_gamma_changes(where):
    """Adam changes nothing where the gradient is NaN: gamma would stay as it is for ever."""
    gamma, error = learned_schedule.Gamma(START, END), learned_schedule.gaussian_error(VAR)
    factor = np.full((256, 1), np.nan)
    factor[1:] = np.nan if where == "everywhere" else 1.0
    steps = learned_schedule.train(gamma, lambda at: error(at) * factor, np.random.default_rng(0))
    with pytest.raises(FloatingPointError, match="^the loss at step 1 is nan"):
        next(steps)
    fresh = learned_schedule.Gamma(START, END)
    for name, value in gamma.params().items():
        assert np.array_equal(value, fresh.params()[name])


def test_a_learning_rate_that_is_far_too_high_stops_training():
    """Exponentials of the weights overflow."""
    gamma, error = learned_schedule.Gamma(START, END), learned_schedule.gaussian_error(VAR)
    steps = learned_schedule.train(gamma, error, np.random.default_rng(0), lr=lambda step: 1e4)
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="at step [2-9] is nan"):
        list(islice(steps, 9))


# --- as a schedule ---


@pytest.mark.exercise("learned.as_schedule")
def test_as_schedule_has_the_snr_that_gamma_says(rng):
    for steps in (50, 8, 2, 1):
        gamma = random_gamma(rng, 0.5, end=6.0)
        s = learned_schedule.as_schedule(gamma, steps)
        said = f"a Schedule is wanted, as schedule.from_betas gives; came {type(s).__name__}"
        assert isinstance(s, schedule.Schedule), said
        assert s.T == steps, f"T = {steps}: the schedule has {s.T} steps"
        want = -gamma(np.arange(1, steps + 1)[:, None] / steps)[0][:, 0]
        got = np.log(s.snr[1:])
        t = int(np.argmax(np.abs(got - want)))
        said = f"t = {t + 1} of T = {steps}:"
        said += f" log snr is {got[t]:.6g}, expected -gamma(t / T) = {want[t]:.6g}"
        assert abs(got[t] - want[t]) < 1e-9, said


@pytest.mark.exercise("learned.as_schedule")
@pytest.mark.parametrize("T", [1, 2, 1000])
def test_as_schedule_has_all_five_arrays(T, rng):
    """They belong together as in any Schedule, where steps are steep and where they are flat."""
    gamma, asked = random_gamma(rng, 0.5, start=-20.0, end=9.0), []

    def listening(t):
        asked.append(np.shape(t))
        return gamma(t)

    s = learned_schedule.as_schedule(listening, T)
    assert all(len(shape) == 2 for shape in asked), f"a Gamma takes times (N, 1); it got {asked}"
    want = schedule.from_betas(s.beta[1:])
    for name in ("beta", "alpha", "alpha_bar", "snr", "beta_tilde"):
        ours, theirs = getattr(want, name), getattr(s, name)
        said = f"T = {T}: {name} is {theirs[:3]} ..., expected {ours[:3]} ..., from the betas"
        assert np.shape(theirs) == (T + 1,), f"T = {T}: {name} has shape {np.shape(theirs)}"
        assert np.allclose(theirs, ours, rtol=1e-6, atol=1e-12), said
    level = -gamma(np.arange(1, T + 1)[:, None] / T)[0][:, 0]
    k = int(np.argmax(np.abs(np.log(s.snr[1:]) - level)))
    said = f"T = {T}, t = {k + 1}: log snr is {np.log(s.snr[k + 1]):.6g}, expected {level[k]:.6g}"
    assert abs(np.log(s.snr[k + 1]) - level[k]) < 1e-5, said


def test_a_sampler_draws_with_it(rng):
    """ddim with the exact denoiser of N(2, 0.5^2), against mean and std carried along gamma."""
    gamma = random_gamma(rng, 0.5, end=6.0)
    level = np.concatenate([gamma(np.arange(8, 0, -1)[:, None] / 8)[0][:, 0], [-np.inf]])
    a, b = 1 / np.sqrt(1 + np.exp(level)), 1 / np.sqrt(1 + np.exp(-level[:-1]))
    b = np.append(b, 0.0)
    mean, std = 0.0, 1.0
    for (a_t, b_t), (a_u, b_u) in pairwise(zip(a, b, strict=True)):
        slope = (a_t * a_u * 0.25 + b_t * b_u) / (a_t**2 * 0.25 + b_t**2)
        mean, std = a_u * 2 + slope * (mean - a_t * 2), slope * std
    s, x_T = learned_schedule.as_schedule(gamma, 8), np.array([[0.0], [1.0], [-0.7]])
    *_, x0 = sample.ddim(exact.gaussian(s, 2.0, 0.25), s, x_T.shape, None, x_T=x_T)
    assert np.abs(x0 - (mean + std * x_T)).max() < 1e-9
