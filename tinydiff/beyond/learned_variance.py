"""Learn the variance of the reverse step too: a network with twice the channels, a hybrid loss.

The first half of the channels is eps (or v) as ever. The second half, called mix here, places the
variance of each value between DDPM's two choices, see likelihood.learned_variance. Only the
variational bound can teach it: the squared error does not depend on it.
"""

import numpy as np

from .. import diffusion, kernels, ops
from ..autodiff import op, value_of
from ..diffusion import at
from ..train import drop_labels, repeat
from . import likelihood


@op
def half(x, i=0):
    """Take the first half of the channels (i = 0) or the second (i = 1).

    x: (N, ..., 2 C) -> (N, ..., C)
    """
    C = x.shape[-1] // 2

    def vjp(g):
        return (kernels.concat(g * 0, g) if i else kernels.concat(g, g * 0),)

    return x[..., i * C : (i + 1) * C], vjp


@op
def bound_of_mix(mix, s=None, t=None, square=None):
    """Average likelihood.bound_term as a function of the variance alone, for autodiff.

    square, by which the mean misses, is a constant.
    var = learned_variance(s, t, mix)
    d term / d mix = (1 - (beta_tilde[t] + square) / var) / 2 * d log var / d mix
    d log var / d mix = log(beta[t] / positive_beta_tilde[t]) / 2
    mix, square: (N, ...); t: (N,) ints, 1 .. T -> (), in nats
    """
    mix = np.asarray(mix)  # copied from the GPU, if the kernels run there
    var = likelihood.learned_variance(s, t, mix)
    slope = np.log(at(s.beta, t, mix) / at(likelihood.positive_beta_tilde(s), t, mix)) / 2
    excess = 1 - (at(s.beta_tilde, t, mix) + square) / var
    term = likelihood.bound_term(s, t, square, var).mean()
    return term, lambda g: (g / mix.size * excess / 2 * slope,)


def hybrid_loss(out, s, x0, t, eps, predict="v", weight=1e-3):
    """Score a network that predicts both noise and variance: simple loss, plus the bound.

    loss = mean |target - out_1|^2
    + weight T mean bound_term(t, (mean - mean_hat)^2, learned_variance(s, t, out_2))
    mean_hat follows from out_1 but is held constant in the second term, so that the bound teaches
    the variance only. T times the mean over a uniform t is the sum over t: the bound, here in nats
    per value.
    out: Tensor (N, ..., 2 C), its halves out_1 and out_2, for x_t = q_sample(s, x0, t, eps);
    x0, eps: (N, ..., C); t: (N,) ints; predict: "eps" or "v" -> Tensor ()
    Source: Nichol & Dhariwal 2021, equation 16.
    """
    x_t, said = diffusion.q_sample(s, x0, t, eps), half(out, i=0)
    target = diffusion.v_target(s, x0, t, eps) if predict == "v" else eps
    x0_from = diffusion.x0_from_v if predict == "v" else diffusion.predict_x0
    x0_hat = x0_from(s, x_t, t, np.asarray(value_of(said)))
    mean, _ = diffusion.q_posterior(s, x0, x_t, t)
    mean_hat, _ = diffusion.q_posterior(s, x0_hat, x_t, t)
    bound = bound_of_mix(half(out, i=1), s=s, t=t, square=(mean - mean_hat) ** 2)
    return ops.mse(said, target) + weight * s.T * bound


def train_hybrid(
    run,
    s,
    images,
    labels=None,
    predict="v",
    batch=64,
    lr=lambda step: 1e-3,
    p_drop=0.1,
    weight=1e-3,
):
    """Train a network with 2 C channels out without end, as train.train does, on the hybrid loss.

    run: a Training whose model is a UNet(..., out=2 C); images: (M, H, W, C) in [-1, 1]; weight:
    see hybrid_loss; the others: see train.train -> yields `run` after each step
    Raises FloatingPointError as train.train_step does.
    """

    def next_loss(rng):
        i = rng.integers(len(images), size=batch)
        x0, t = images[i], rng.integers(1, s.T + 1, size=batch)
        eps = rng.standard_normal(x0.shape, dtype=np.float32)
        cond = None if labels is None else drop_labels(labels[i], run.model.classes, p_drop, rng)
        x_t = diffusion.q_sample(s, x0, t, eps)
        return lambda model: hybrid_loss(model(x_t, t, cond), s, x0, t, eps, predict, weight)

    return repeat(run, lr, next_loss)


def denoiser(model, s, labels=None, predict="v"):
    """Make a network with 2 C channels out into an eps_model and a variance, for sample.ddpm.

    likelihood.bound takes them too. model: called as model(x_t, t (N,), labels); labels: (N, number
    of labels) ints or None; predict: what the model was trained to predict, "eps" or "v"
    -> eps_model and var, both (x_t (N, ..., C), t int 1 .. T) -> (N, ..., C). Where both are called
    with the same x_t and t, one after the other, the network runs once; x_t must not change in
    between.
    """
    last = [None, None, None]  # x_t, t, answer

    def ask(x_t, t):
        if last[0] is not x_t or last[1] != t:
            last[:] = x_t, t, model(x_t, np.full(len(x_t), t), labels)
        return np.split(np.asarray(last[2]), 2, axis=-1)

    def eps_model(x_t, t):
        said = ask(x_t, t)[0]
        return diffusion.eps_from_v(s, x_t, t, said) if predict == "v" else said

    return eps_model, lambda x_t, t: likelihood.learned_variance(s, t, ask(x_t, t)[1])
