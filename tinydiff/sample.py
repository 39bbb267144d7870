"""The reverse process: noise becomes data. Each sampler is one function, a generator that yields every step.

    *_, x0 = sample.ddpm(eps_model, s, shape, rng)        # the result
    for x_t in sample.ddpm(eps_model, s, shape, rng): ... # an animation

A model is any callable (x_t (N, ...), t int) -> eps_hat (N, ...). Every update here has one form,
c0 x0_hat + ct x_t + std z with x0_hat = predict_x0(s, x_t, t, eps_hat); the kernel denoise_step does that in one pass.
"""

from itertools import pairwise

import numpy as np

from . import kernels
from .diffusion import posterior_weights


def _start(shape, rng, x_T):
    """Take x_T if it is given, else draw it; samplers work in x_T's precision (float32 when drawn)."""
    return rng.standard_normal(shape, dtype=np.float32) if x_T is None else x_T


def _noise(x, std, rng):
    """Draw z like x, standard normal (not yet multiplied by std); where std is 0 draw nothing and give zeros."""
    return rng.standard_normal(x.shape, dtype=x.dtype) if std > 0 else np.zeros_like(x)


def ddpm(eps_model, s, shape, rng, x_T=None, var=None, clip=np.inf):
    """Sample by ancestral sampling: at each step guess x0, then draw x_{t-1} from the posterior around that guess.

    x_{t-1} = c0 x0_hat + ct x_t + sqrt(var[t]) z,  x0_hat = predict_x0(s, x_t, t, eps_model(x_t, t)),  (c0, ct) = posterior_weights(s, t)
    shape: (N, ...); x_T: (N, ...) or None to draw it; var: (T + 1,) variances, None = s.beta_tilde, which adds no noise at t = 1
    (DDPM's other choice is s.beta with no noise at t = 1; the best one depends on the data, see exact.gaussian_variance);
    clip: x0_hat is kept within [-clip, clip] -> yields x_T, ..., x_0, each (N, ...)
    Source: Ho et al. 2020, algorithm 2 with the mean written as in equation 7.
    """
    var = s.beta_tilde if var is None else var
    x = _start(shape, rng, x_T)
    yield x
    for t in range(s.T, 0, -1):
        c0, ct = posterior_weights(s, t)
        std = np.sqrt(var[t])
        x = kernels.denoise_step(x, eps_model(x, t), _noise(x, std, rng), s.alpha_bar[t], c0, ct, std, clip)
        yield x


def ddim(eps_model, s, shape, rng, times=None, eta=0.0, x_T=None, clip=np.inf):
    """Sample along any sub-sequence of times; with eta = 0 no noise is added and x_T decides everything.

    For each visited pair (t, u), u < t: sigma = eta sqrt((1 - alpha_bar[u]) / (1 - alpha_bar[t]) (1 - alpha_bar[t] / alpha_bar[u]))
    x_u = sqrt(alpha_bar[u]) x0_hat + sqrt(1 - alpha_bar[u] - sigma^2) eps_hat + sigma z
    times: decreasing ints from at most T down to 0, None = T, T-1, ..., 0; x_T (N, ...) lives at times[0]; 0 <= eta <= 1, eta = 1 over
    all steps is ddpm; clip: x0_hat is kept within [-clip, clip], eps_hat follows; rng may be None where nothing is drawn (eta = 0 and
    x_T given) -> yields len(times) arrays (N, ...), last x_0
    Raises ValueError when times do not decrease to 0. Source: Song et al. 2021 (DDIM), equations 12 and 16.
    """
    times = range(s.T, -1, -1) if times is None else [int(t) for t in times]
    if len(times) < 2 or times[-1] != 0 or times[0] > s.T or any(t <= u for t, u in pairwise(times)):
        raise ValueError(f"times must decrease from at most T = {s.T} to 0; got {list(times)}")
    x = _start(shape, rng, x_T)
    yield x
    for t, u in pairwise(times):
        ab_t, ab_u = s.alpha_bar[t], s.alpha_bar[u]
        sigma = eta * np.sqrt((1 - ab_u) / (1 - ab_t) * (1 - ab_t / ab_u))
        ct = np.sqrt(max(1 - ab_u - sigma**2, 0.0) / (1 - ab_t))  # eps_hat = (x_t - sqrt(ab_t) x0_hat) / sqrt(1 - ab_t)
        c0 = np.sqrt(ab_u) - ct * np.sqrt(ab_t)
        x = kernels.denoise_step(x, eps_model(x, t), _noise(x, sigma, rng), ab_t, c0, ct, sigma, clip)
        yield x


def even_times(s, steps):
    """Choose times for a fast sampler, spread evenly over 0 .. T.

    times[i] = round(T (steps - i) / steps), i = 0 .. steps
    steps: int, 1 .. T -> list of steps + 1 decreasing ints from T to 0
    Raises ValueError for another number of steps.
    """
    if not 1 <= steps <= s.T:
        raise ValueError(f"steps is a whole number from 1 to T = {s.T}; got {steps}")
    return [round(s.T * (steps - i) / steps) for i in range(steps + 1)]
