"""Learned variance: its derivative, and that it finds the best variance, known for Gaussian data.

The expected loss is the plain mean over four points at each t (see test_likelihood), so learning
has no noise in it either.
"""

import numpy as np
import pytest
from test_likelihood import MEAN, T8, VAR, Signs, entropy, four
from test_sample import forward, law

from tinydiff import diffusion, exact, ops, sample, train
from tinydiff.autodiff import Tensor, gradient, op
from tinydiff.beyond import learned_variance, likelihood
from tinydiff.gradcheck import gradcheck
from tinydiff.nn import Embedding, Module
from tinydiff.optim import Adam
from tinydiff.unet import UNet

T_ALL = np.array([1, 2, 5, 8])


class Table(Module):
    """The perfect denoiser of N(MEAN, VAR) beside one learned number per t; it counts its runs."""

    def __init__(self, s, rng):
        self.s, self.mix, self.runs = s, Embedding(s.T + 1, 1, rng=rng), 0

    def __call__(self, x_t, t, labels=None):
        self.runs += 1
        ab = self.s.alpha_bar[t][:, None]  # the slope is Cov(eps, x_t) / Var(x_t)
        eps_hat = np.sqrt(1 - ab) / (ab * VAR + 1 - ab) * (x_t - np.sqrt(ab) * MEAN)
        return ops.concat(eps_hat.astype(x_t.dtype), self.mix(t))


# --- the two operations ---


def test_halves_and_their_gradients(rng):
    x = rng.standard_normal((2, 3, 6))
    halves = [learned_variance.half(x), learned_variance.half(x, i=1)]
    np.testing.assert_array_equal(np.concatenate(halves, -1), x)
    for i in (0, 1):
        gradcheck(lambda a, i=i: learned_variance.half(a, i=i), [x], rng)


def test_bound_of_mix(rng):
    """The value is the mean of the terms; the gradient is zero exactly at the best variance."""
    mix, square = rng.standard_normal((4, 3)), rng.uniform(0.01, 0.3, (4, 3))
    options = {"s": T8, "t": T_ALL, "square": square}
    var = likelihood.learned_variance(T8, T_ALL, mix)
    want = np.mean([likelihood.bound_term(T8, t, square[n], var[n]) for n, t in enumerate(T_ALL)])
    assert abs(learned_variance.bound_of_mix(mix, **options) - want) < 1e-12
    gradcheck(lambda a: learned_variance.bound_of_mix(a, **options), [mix], rng, tolerance=1e-8)
    var = likelihood.learned_variance(T8, T_ALL, mix)
    # the square for which var would be the best variance
    best = var - T8.beta_tilde[T_ALL][:, None]
    leaf = Tensor(mix)
    (g,) = gradient(learned_variance.bound_of_mix(leaf, s=T8, t=T_ALL, square=best), [leaf])
    assert np.abs(g).max() < 1e-15


# --- the hybrid loss ---


def example(rng, dtype=np.float64):
    x0, eps = rng.standard_normal((2, 4, 3, 2)).astype(dtype)
    return rng.standard_normal((4, 3, 4)).astype(dtype), x0, eps


@pytest.mark.parametrize("predict", ["eps", "v"])
def test_hybrid_loss_by_hand(predict, rng):
    out, x0, eps = example(rng)
    simple, bound = [], []
    for n, t in enumerate(T_ALL):
        signal, noise = np.sqrt(T8.alpha_bar[t]), np.sqrt(1 - T8.alpha_bar[t])
        x_t, said, mix = signal * x0[n] + noise * eps[n], out[n, :, :2], out[n, :, 2:]
        target = eps[n] if predict == "eps" else signal * eps[n] - noise * x0[n]
        simple.append((said - target) ** 2)
        x0_hat = (x_t - noise * said) / signal if predict == "eps" else signal * x_t - noise * said
        square = (diffusion.posterior_weights(T8, t)[0] * (x0[n] - x0_hat)) ** 2
        bound.append(likelihood.bound_term(T8, t, square, likelihood.learned_variance(T8, t, mix)))
    loss = lambda *how: learned_variance.hybrid_loss(Tensor(out), T8, x0, T_ALL, eps, *how).value
    want = np.mean(simple) + 0.01 * 8 * np.mean(bound)
    np.testing.assert_allclose(loss(predict, 0.01), want, rtol=1e-12)
    assert loss() == loss("v", 0.001)  # the paper's lambda


@pytest.mark.parametrize("predict", ["eps", "v"])
def test_the_bound_teaches_the_variance_only(predict, rng):
    """Stop-gradient: the first half feels the simple loss alone, the second the bound alone."""
    out, x0, eps = example(rng)
    leaf = Tensor(out)
    loss = lambda out: learned_variance.hybrid_loss(out, T8, x0, T_ALL, eps, predict, weight=10.0)
    (g,) = gradient(loss(leaf), [leaf])
    target = eps if predict == "eps" else diffusion.v_target(T8, x0, T_ALL, eps)
    np.testing.assert_allclose(g[..., :2], 2 * (out[..., :2] - target) / target.size, rtol=1e-12)
    said = out[..., :2].copy()
    gradcheck(lambda mix: loss(ops.concat(said, mix)), [out[..., 2:].copy()], rng)
    assert np.abs(g[..., 2:]).min() > 1e-4


# --- it learns ---


def learned(rng, steps=400):
    """Descend the expected hybrid loss: four points at each t, all in one batch. -> the model"""
    model = Table(T8, rng)
    theta = model.flatten(np.float64)
    adam = Adam(theta, clip=np.inf)
    t = np.repeat(np.arange(1, 9), 4)
    x0, eps = np.tile(four(MEAN, VAR), (8, 1)), np.tile(Signs().standard_normal((4, 1)), (8, 1))
    x_t = diffusion.q_sample(T8, x0, t, eps)
    for step in range(steps):
        with model.variables() as params:
            loss = learned_variance.hybrid_loss(model(x_t, t), T8, x0, t, eps, "eps")
            g = gradient(loss, params)
        adam.step(np.concatenate([a.ravel() for a in g]), 0.1 * (1 - step / steps))
    model.runs = 0
    return model


def test_it_finds_the_best_variance_and_samples_are_then_exact(rng):
    """Eight steps: beta gives std 0.5444, beta_tilde 0.3681, the learned variance the data's 0.5.

    The bound is then the entropy.
    """
    model = learned(rng)
    eps_model, var = learned_variance.denoiser(model, T8, predict="eps")
    best = exact.gaussian_variance(T8, VAR)
    got = np.array([var(np.zeros((1, 1)), t).item() for t in range(1, 9)])
    np.testing.assert_allclose(np.log(got), np.log(best[1:]), rtol=0, atol=1e-3)

    def chain(var):
        run = lambda rng, shape, x: sample.ddpm(eps_model, T8, shape, rng, x_T=x, var=var)
        return law(run, T8, forward(T8, 8))[1]

    model.runs = 0
    assert abs(chain(var) - 0.5) < 1e-3
    assert model.runs == 8, "one run of the network per step gives both noise and variance"
    first = np.where(np.arange(9) > 1, T8.beta, 0)  # no noise at t = 1
    assert abs(chain(first) - 0.5444) < 5e-5 and abs(chain(None) - 0.3681) < 5e-5
    mean_T, var_T = forward(T8, 8)
    want = entropy(VAR) + 0.5 * (var_T + mean_T**2 - 1 - np.log(var_T))
    assert abs(likelihood.bound(eps_model, T8, four(MEAN, VAR), Signs(), var).sum() - want) < 1e-6


def test_the_pair_remembers_the_last_answer_only(rng):
    model = Table(T8, rng)
    eps_model, var = learned_variance.denoiser(model, T8, predict="v")
    a, b = rng.standard_normal((2, 3, 1))
    for x_t, t in [(a, 5), (b, 5), (b, 4), (a, 5)]:
        out = model(x_t, np.full(3, t))
        runs = model.runs
        eps_hat = diffusion.eps_from_v(T8, x_t, t, out[:, :1])
        np.testing.assert_array_equal(eps_model(x_t, t), eps_hat)
        np.testing.assert_array_equal(var(x_t, t), likelihood.learned_variance(T8, t, out[:, 1:]))
        assert model.runs == runs + 1


# --- training ---


def images(M=20):
    """Make flat images, from dark to light."""
    return np.repeat(np.linspace(-0.2, 0.9, M, dtype=np.float32), 16).reshape(M, 4, 4, 1)


def start(lr):
    rng, sizes = np.random.default_rng(1), {"width": 8, "multipliers": (1,), "depth": 1}
    run = train.Training(UNet(4, **sizes, classes=(3,), out=2, rng=rng), np.random.default_rng(2))
    labels, how = np.arange(20)[:, None] % 3, {"batch": 8, "lr": lambda step: lr}
    return run, learned_variance.train_hybrid(run, T8, images(), labels, **how)


def test_a_network_learns_noise_and_variance():
    """Its first loss is that of an answer of zeros, from the same draws; then both parts fall."""
    run, training = start(5e-3)
    first = next(training).loss
    rng = np.random.default_rng(2)
    x0, t = images()[rng.integers(20, size=8)], rng.integers(1, 9, size=8)
    eps = rng.standard_normal(x0.shape, dtype=np.float32)
    zeros = Tensor(np.zeros((8, 4, 4, 2), np.float32))
    want = learned_variance.hybrid_loss(zeros, T8, x0, t, eps).value
    np.testing.assert_allclose(first, want, rtol=1e-6)
    for _ in range(60):
        next(training)
    assert run.step == 61
    t, eps = np.arange(160) % 8 + 1, rng.standard_normal((160, 4, 4, 1), dtype=np.float32)
    x0 = np.tile(images(), (8, 1, 1, 1))
    out = run.model(diffusion.q_sample(T8, x0, t, eps), t)
    # the noise as learned, the variance as at first
    kept = np.concatenate([out[..., :1], out[..., 1:] * 0], -1)
    loss = lambda a: learned_variance.hybrid_loss(Tensor(a), T8, x0, t, eps, weight=1.0).value
    before, noise_only, both = map(loss, (np.zeros_like(out), kept, out))
    assert noise_only < 0.8 * before and both < noise_only - 0.01


@pytest.mark.parametrize("value, slope", [(np.inf, 0), (0, np.nan)], ids=["loss", "gradient"])
def test_a_loss_or_gradient_that_is_not_finite_stops_before_the_parameters_change(
    value, slope, monkeypatch
):
    @op
    def broken(mix, s=None, t=None, square=None):
        return np.float32(value), lambda g: (np.full_like(mix, slope),)

    monkeypatch.setattr(learned_variance, "bound_of_mix", broken)
    run, training = start(1e-3)
    before = run.theta.copy()
    with pytest.raises(FloatingPointError, match="step 1"):
        next(training)
    np.testing.assert_array_equal(run.theta, before)
    assert run.step == 0
