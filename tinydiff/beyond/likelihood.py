"""How likely is an image? The variational bound of DDPM, and the exact density along the flow.

Both give -log p(x0) in nats, divided by the D values of an image: lower is better. For data drawn
from p the mean of -log p is the entropy, and no model gets below that. p is a density: narrow data
have negative nats. The flow is the probability-flow ODE. A model is any callable
(x_t, t int) -> eps_hat.
"""

from itertools import pairwise

import numpy as np

from .. import plot
from ..diffusion import at, predict_x0, q_posterior, q_sample


def bits_per_dim(nats, step=2 / 255):
    """Turn nats per value, of a density, into bits per value, of data on a grid.

    bits = nats / log(2) - log2(step): a cell of the grid has probability p(x0) step
    nats: (...); step: width of a cell, 2/255 for 8-bit images in [-1, 1] (it adds
    log2(127.5) = 6.99 bits; noise uniform over the cell is to be added to x0 first), 1 for the bits
    of the density itself -> (...)
    """
    return nats / np.log(2) - np.log2(step)


# --- the variational bound ---


def positive_beta_tilde(s):
    """Copy beta_tilde, with beta_tilde[2] in place of the zero at t = 1.

    With variance 0 no density has a finite logarithm.
    s: a Schedule; where T = 1, entry 1 is beta[1] -> (T + 1,) variances; entry 0 is 0
    Source: Nichol & Dhariwal 2021 (improved DDPM), whose learned variance starts there too.
    """
    var = s.beta_tilde.copy()
    var[1] = var[2] if s.T > 1 else s.beta[1]
    return var


def learned_variance(s, t, mix):
    """Place a variance between DDPM's two choices, in the logarithm: what a network can learn.

    log var = share log(beta[t]) + (1 - share) log(beta_tilde[t]), share = (mix + 1) / 2,
    beta_tilde from positive_beta_tilde
    t: int or (N,) int, 1 .. T; mix: (N, ...), -1 gives beta_tilde and 1 beta, other values go
    beyond them -> var (N, ...)
    Source: Nichol & Dhariwal 2021, equation 15; mix is 2 v - 1 there.
    """
    low, high = np.log(at(positive_beta_tilde(s), t, mix)), np.log(at(s.beta, t, mix))
    return np.exp(low + (mix + 1) / 2 * (high - low))


def bound_term(s, t, square, var):
    """Compute one step's term of the bound when the model's p(x_{t-1} | x_t) is N(mean_hat, var).

    t > 1: KL(q || p) of two Gaussians, value by value; q has the variance beta_tilde[t]
    t = 1: -log p(x0 | x_1), of the density
    t: int or (N,) int, 1 .. T; square: (N, ...), (mean - mean_hat)^2 with the mean of q_posterior,
    x0 itself at t = 1; var: variances > 0 that broadcast to (N, ...) -> (N, ...) nats
    Source: Ho et al. 2020, equation 5.
    """
    fixed = np.full(s.T + 1, np.log(2 * np.pi))
    fixed[2:] = -np.log(s.beta_tilde[2:]) - 1
    var = np.asarray(var, dtype=square.dtype)
    return (at(fixed, t, square) + np.log(var) + (at(s.beta_tilde, t, square) + square) / var) / 2


def bound(eps_model, s, x0, rng, var=None):
    """Estimate the variational bound on -log p(x0) for ancestral sampling, from one x_t for each t.

    -log p(x0) <= sum of L; the terms, see bound_term, are
    L[0] = -log p(x0 | x_1)
    L[t-1] = KL(q(x_{t-1} | x_t, x0) || p(x_{t-1} | x_t)), t = 2 .. T, with mean_hat that of
    q_posterior around x0_hat
    L[T] = KL(N(sqrt(alpha_bar[T]) x0, 1 - alpha_bar[T]) || N(0, 1))
    x0: (N, ...); rng draws the noise, from t = 1 to T; var: (T + 1,) variances > 0 from t = 1 on,
    or a function (x_t, t) -> (N, ...); None = positive_beta_tilde(s)
    -> L (T + 1,) nats per value, averaged over the batch
    Source: Ho et al. 2020, equation 5.
    """
    var = positive_beta_tilde(s) if var is None else var
    nats = np.zeros(s.T + 1)
    for t in range(1, s.T + 1):
        x_t = q_sample(s, x0, t, rng.standard_normal(x0.shape, dtype=x0.dtype))
        x0_hat = predict_x0(s, x_t, t, eps_model(x_t, t))
        square = (q_posterior(s, x0, x_t, t)[0] - q_posterior(s, x0_hat, x_t, t)[0]) ** 2
        nats[t - 1] = bound_term(s, t, square, var(x_t, t) if callable(var) else var[t]).mean()
    ab = s.alpha_bar[s.T]
    nats[s.T] = 0.5 * (ab * np.mean(x0**2) - ab - np.log1p(-ab))
    return nats


# --- the probability-flow ODE ---


def ode_nats(eps_model, s, x0, rng, times=None, probes=1):
    """Measure -log p(x0) along the flow of ddim: walk it from image to noise, count the stretching.

    With the angle theta, cos(theta) = sqrt(alpha_bar[t]), the flow is
    dx/dtheta = v, v = (eps_hat - sin(theta) x) / cos(theta), and
    -log p(x0) = -log N(x_T; 0, 1) - integral of div v dtheta,
    by Heun's method (second order); see velocity for v and div v
    x0: (N, ...); rng draws the probes, of which more make less noise; times: as for sample.ddim,
    decreasing from T to 0, None = all; they are walked backwards -> (N,) nats per value
    A visited time calls eps_model 4 probes times.
    Raises ValueError when times do not decrease from T to 0.
    Source: Song et al. 2021 (score SDE), section 4.3; the angle: Salimans & Ho 2022.
    """
    times = list(range(s.T, -1, -1) if times is None else times)
    falling = all(t > u for t, u in pairwise(times))
    if len(times) < 2 or times[0] != s.T or times[-1] != 0 or not falling:
        raise ValueError(f"times must decrease from T = {s.T} to 0; got {times}")
    theta = np.arctan2(np.sqrt(1 - s.alpha_bar), np.sqrt(s.alpha_bar)).tolist()
    x, stretch = x0, 0.0
    for u, t in pairwise(reversed(times)):
        h = theta[t] - theta[u]
        v, div = velocity(eps_model, theta[u], x, u, rng, probes)
        v_next, div_next = velocity(eps_model, theta[t], x + h * v, t, rng, probes)
        x = x + h / 2 * (v + v_next)
        stretch = stretch + h / 2 * (div + div_next)
    return 0.5 * (float(np.log(2 * np.pi)) + (x.reshape(len(x), -1) ** 2).mean(1)) - stretch


def velocity(eps_model, theta, x, t, rng, probes):
    """Compute v of ode_nats and the mean of its D derivatives dv[i]/dx[i], from the same calls.

    Each probe z of random signs adds (v(x + h z) + v(x - h z)) / 2, which is v, and
    z (v(x + h z) - v(x - h z)) / (2 h), whose mean over z is the derivative (Hutchinson)
    x: (N, ...); theta, t: of this time -> v (N, ...), derivative (N,)
    At t = 0 there is no noise to find: eps_hat = 0, and the model is not called.
    """
    if t == 0:
        return np.zeros_like(x), 0.0
    # in units of the noise: no smaller detail is left in x_t
    h = float(np.cbrt(np.finfo(x.dtype).eps)) * np.sin(theta)
    v, div = 0.0, 0.0
    for _ in range(probes):
        step = (h * rng.choice([-1, 1], x.shape)).astype(x.dtype)
        ahead, behind = (
            (eps_model(y, t) - float(np.sin(theta)) * y) / float(np.cos(theta))
            for y in (x + step, x - step)
        )
        v = v + (ahead + behind) / (2 * probes)
        div = div + ((ahead - behind) * step).reshape(len(x), -1).mean(1) / (2 * h * h * probes)
    return v, div


def draw_bound(nats):
    """Draw how much each term of the variational bound contributes.

    Left the terms L_0 .. L_T themselves, right what has added up from t = 0 to there.
    nats: (T + 1,) per value, as bound gives -> matplotlib Figure
    """
    figure = plot.figure(figsize=(9, 3.4), dpi=120, layout="constrained")
    terms, total = figure.subplots(1, 2)
    t = np.arange(len(nats))
    terms.plot(t, nats, ".-", markersize=4, linewidth=0.8)
    terms.set(xlabel="t", ylabel="$L_t$, nats per value", title="Each step's share of the bound")
    terms.set_yscale("symlog", linthresh=max(float(np.median(np.abs(nats))), 1e-9))
    total.plot(t, np.cumsum(nats))
    sum_of = f"Sum: {nats.sum():.4g} nats per value"
    total.set(xlabel="t", ylabel="$L_0 + ... + L_t$", title=sum_of)
    return figure
