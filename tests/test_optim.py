"""Adam against the paper in plain Python; clipping; the learning rate; the running average."""

import math

import numpy as np
import pytest

from tinydiff import kernels, optim


def adamw(theta, gradients, lr, beta1, beta2, eps, decay):
    """Kingma & Ba's algorithm 1 with decoupled decay, one number at a time."""
    theta = list(theta)
    for i in range(len(theta)):
        m = v = 0.0
        for k, g in enumerate(gradients, start=1):
            m = beta1 * m + (1 - beta1) * g[i]
            v = beta2 * v + (1 - beta2) * g[i] ** 2
            step = (m / (1 - beta1**k)) / (math.sqrt(v / (1 - beta2**k)) + eps)
            theta[i] = theta[i] - lr * step - lr * decay * theta[i]
    return theta


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_adam_equals_the_paper(dtype, tolerance, kernel_set, rng):
    theta = rng.standard_normal(7).astype(dtype)
    gradients = rng.standard_normal((6, 7)).astype(dtype)
    settings = {"beta1": 0.8, "beta2": 0.95, "eps": 1e-3, "decay": 0.3}
    expected = adamw(theta.tolist(), gradients.tolist(), lr=0.05, **settings)
    adam = optim.Adam(theta, **settings)
    for g in gradients:
        before = g.copy()
        adam.step(g, 0.05)
        np.testing.assert_array_equal(g, before)
    assert adam.theta is theta and adam.k == 6
    np.testing.assert_allclose(theta, expected, rtol=tolerance, atol=tolerance)


def test_the_first_step_has_size_lr(kernel_set):
    """Bias correction: without it the first step would be 0.1 / sqrt(0.001) = 3.2 times as long."""
    theta, g = np.zeros(4), np.array([1e-3, -5.0, 200.0, 0.0])
    optim.Adam(theta).step(g, 0.01)
    np.testing.assert_allclose(theta, [-0.01, 0.01, -0.01, 0], rtol=1e-4)


def test_weight_decay_is_decoupled(kernel_set):
    """Without a gradient weights shrink by lr decay; the running means stay 0."""
    theta = np.array([1.0, -2.0])
    adam = optim.Adam(theta, decay=0.1)
    for k in (1, 2):
        adam.step(np.zeros(2), 0.5)
        np.testing.assert_allclose(theta, np.array([1.0, -2.0]) * 0.95**k, rtol=1e-14)
    assert not adam.m.any() and not adam.v.any()


def test_adam_finds_the_bottom_of_a_bowl(kernel_set):
    theta = np.array([5.0, -3.0])
    adam = optim.Adam(theta)
    for step in range(600):
        adam.step(2 * np.array([1, 100]) * (theta - [1, 2]), 0.1 * optim.warmup_cosine(step / 600))
    np.testing.assert_allclose(theta, [1, 2], atol=1e-2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clip_norm(dtype):
    g = np.array([3, -4], dtype)
    assert kernels.clip_norm(g, 2) == 5.0
    np.testing.assert_allclose(g, [1.2, -1.6], rtol=1e-6)
    for largest in (2.1, 100):
        before = g.copy()
        np.testing.assert_allclose(kernels.clip_norm(g, largest), 2, rtol=1e-6)
        np.testing.assert_array_equal(g, before)
    zero = np.zeros(3, dtype)
    assert kernels.clip_norm(zero, 1) == 0 and not zero.any()


exercise = pytest.mark.exercise("optim.warmup_cosine")


BY_HAND = [  # done, warmup, last, expected
    (0.0, 0.05, 0.02, 0.0),  # the first step of a training
    (0.025, 0.05, 0.02, 0.5),
    (0.2, 0.2, 0.1, 1.0),  # the top
    (0.6, 0.2, 0.1, 0.55),  # half way down: the mean of 1 and last
    (1 / 3, 0.0, 0.2, 0.8),  # a third of the way: the cosine is 1/2
    (1.0, 0.05, 0.02, 0.02),  # the end
    (1.3, 0.2, 0.1, 0.1),  # beyond the end it stays there
    (0.0, 0.0, 0.02, 1.0),  # no warm-up
    (0.15, 0.2, 0.1, 0.75),
    (0.4, 0.2, 0.0, 0.5 + math.sqrt(0.125)),
    (0.8, 0.2, 0.0, 0.5 - math.sqrt(0.125)),
    (11 / 12, 0.5, 0.1, 0.55 - 0.45 * math.sqrt(0.75)),
]


@exercise
def test_warmup_cosine_by_hand():
    values = [optim.warmup_cosine(*given) for *given, _ in BY_HAND]  # all: one cannot tell a slip
    for (done, warmup, last, expected), got in zip(BY_HAND, values, strict=True):
        assert np.shape(got) == (), f"expected one number, got {got!r}"
        assert abs(got - expected) < 1e-12, (
            f"done = {done:.4g}, warmup = {warmup}, last = {last}: got {got:.6g}, expected "
            f"{expected:.6g}"
        )


@exercise
def test_warmup_cosine_by_default():
    values = [optim.warmup_cosine(done) for done in (0.01, 0.05, 0.525, 1.0)]
    assert np.allclose(values, [0.2, 1, 0.51, 0.02], rtol=1e-12, atol=0), (
        f"done = 0.01, 0.05, 0.525, 1: got {values}, expected 0.2, 1, 0.51, 0.02; by default "
        "warmup is 0.05 and last 0.02"
    )


@exercise
def test_warmup_cosine_rises_then_falls():
    values = [optim.warmup_cosine(i / 1000, warmup=0.2) for i in range(1001)]
    slopes = np.diff(values)
    assert np.allclose(slopes[:200], 1 / 200), "up to done = warmup it rises in a straight line"
    assert np.all(slopes[200:] < 0), "from done = warmup to 1 it falls all the time"
    assert np.abs(slopes).max() < 0.0051, "there is a jump: both pieces are 1 where they meet"


@pytest.mark.exercise("optim.ema_decay")
def test_ema_decay_gives_a_mean_age():
    """Weights (1 - keep) keep^j, summed: the mean of the ages j is (1 + step) / 9."""
    steps, ages = (4000, 1000, 100, 8, 3, 0), np.arange(20_000)
    keeps = [optim.ema_decay(step) for step in steps]  # all of them: one cannot tell a slip
    for step, keep in zip(steps[::-1], keeps[::-1], strict=True):  # the last one is shown
        assert np.shape(keep) == (), f"expected one number, got {keep!r}"
        assert 0 < keep < 1, f"step {step}: keep is {keep:.6g}, which is not between 0 and 1"
        age = float(np.sum(ages * keep**ages) / np.sum(keep**ages))
        want = (1 + step) / 9
        unequal = f"step {step}: keep = {keep:.6g} has the mean age {age:.6g}, expected {want:.6g}"
        assert abs(age - want) < 1e-6 * want, unequal


@pytest.mark.exercise("optim.ema_decay")
def test_ema_decay_is_at_most_longest():
    for step, longest in [(10**6, 0.999), (10**6, 0.9), (100, 0.5), (10**8, 0.99999)]:
        got = optim.ema_decay(step, longest)
        assert got == longest, f"step {step}, longest = {longest}: got {got:.6g}"
    got = optim.ema_decay(10**6)
    assert got == 0.999, f"step {10**6}: got {got:.6g}; by default longest is 0.999"


def test_ema_decay():
    decay = [optim.ema_decay(step) for step in range(20_000)]
    assert decay[0] == 0.1 and decay[8] == 0.5
    assert np.all(np.diff(decay) >= 0)
    assert decay[8000] < 0.999 and decay[-1] == 0.999
    assert optim.ema_decay(10**6, longest=0.9) == 0.9


def test_ema_step_by_hand(kernel_set):
    ema, theta = np.array([1.0, 2.0]), np.array([3.0, -2.0])
    assert kernels.ema_step(ema, theta, 0.75) is None
    np.testing.assert_allclose(ema, [1.5, 1.0], rtol=1e-15)
    np.testing.assert_array_equal(theta, [3, -2])


def test_ema_with_ema_decay_forgets_where_it_began():
    ema = np.array([1000.0])
    for step in range(100):
        kernels.ema_step(ema, np.array([1.0]), optim.ema_decay(step))
    assert abs(ema[0] - 1) < 1e-3


def test_a_step_that_is_not_finite_does_not_count_unless_nobody_waits_for_it():
    adam = optim.Adam(np.ones(2))
    waited = [([1.0, 2.0], True, 1), ([np.nan, 0.0], True, 1), ([3.0, 4.0], True, 2)]
    for g, wait, k in [*waited, ([np.inf, 0.0], False, 3)]:
        before = adam.theta.copy()
        norm = adam.step(np.array(g), 0.1, wait)
        assert adam.k == k and (not wait or isinstance(norm, float))
        assert np.isclose(norm, np.linalg.norm(g), equal_nan=True)
        assert np.array_equal(adam.theta, before) != np.isfinite(norm)


def test_readback_gives_what_was_pushed_and_forgets_it(kernel_set):
    readback = optim.Readback()
    assert readback.fetch() == []
    for loss, length in ((1.5, 2.0), (0.5, np.inf)):
        readback.push(np.array(loss), np.array(length))
    assert readback.fetch() == [[1.5, 2.0], [0.5, np.inf]]
    assert readback.fetch() == []


def test_readback_stops_adam_after_a_step_that_was_not_finite():
    """nan_unless_finite is NaN where this loss is, or the gradient norm before, not yet fetched."""
    readback = optim.Readback()
    assert readback.nan_unless_finite(np.array(3.0)) == 0
    assert np.isnan(readback.nan_unless_finite(np.array(np.nan)))
    with np.errstate(invalid="ignore"):
        assert np.isnan(readback.nan_unless_finite(np.array(np.inf)))
        readback.push(np.array(1.0), np.array(np.inf))
        assert np.isnan(readback.nan_unless_finite(np.array(3.0)))
    readback.fetch()
    assert readback.nan_unless_finite(np.array(3.0)) == 0


@pytest.mark.parametrize("loss, length", [(np.nan, 1.0), (1.0, np.inf), (-np.inf, np.nan)])
def test_what_is_not_finite_is_refused_with_the_step(loss, length):
    optim.require_finite(7, 1.0, 2.0)
    with pytest.raises(FloatingPointError, match="lower the learning rate") as e:
        optim.require_finite(7, loss, length)
    assert f"the loss at step 7 is {loss}, its gradient norm {length}:" in str(e.value)
    assert "\n" not in str(e.value)
