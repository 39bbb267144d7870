"""The reverse process: noise becomes data. Each sampler is one function, a generator that yields every step.

    *_, x0 = sample.ddpm(eps_model, s, shape, rng)        # the result
    for x_t in sample.ddpm(eps_model, s, shape, rng): ... # an animation

A model is any callable (x_t (N, ...), t int) -> eps_hat (N, ...). Every update here has one form,
c0 x0_hat + ct x_t + std z with x0_hat = predict_x0(s, x_t, t, eps_hat); the kernel denoise_step does that in one pass.

    ddpm          visits every t and adds noise         ddim         any times, noise or none
    euler, heun   follow the flow, orders 1 and 2       dpmpp_2m     order 2, one question a step
    ddim_invert   goes backwards: from an image to the noise that ddim makes it of
"""

from itertools import pairwise

import numpy as np

from . import kernels
from .diffusion import ddim_weights, posterior_weights, predict_x0


def start(shape, rng, x_T):
    """Take x_T if it is given, else draw it; samplers work in x_T's precision (float32 when drawn)."""
    return kernels.normal(rng, shape, np.float32) if x_T is None else x_T


def noise_like(x, std, rng):
    """Draw z like x, standard normal (not yet multiplied by std); where std is 0 draw nothing and give 0."""
    return kernels.normal(rng, x.shape, x.dtype) if np.any(std > 0) else x.dtype.type(0)


def visited(s, times):
    """List the times that a sampler visits, None = every time from T to 0, and refuse a list that does not decrease to 0."""
    times = range(s.T, -1, -1) if times is None else [int(t) for t in times]
    if (
        len(times) < 2
        or times[-1] != 0
        or times[0] > s.T
        or any(t <= u for t, u in pairwise(times))
    ):
        raise ValueError(f"times must decrease from at most T = {s.T} to 0; got {list(times)}")
    return times


def ddim_step(s, x, eps_hat, t, u, clip):
    """Go from t to u along the straight line that eps_hat points out: x0_hat and eps_hat stay, their shares change."""
    c0, ct, _ = ddim_weights(s, t, u)
    return kernels.denoise_step(x, eps_hat, x.dtype.type(0), s.alpha_bar[t], c0, ct, 0.0, clip)


def sigma(s, t):
    """How much noise to a unit of signal at t: sqrt((1 - alpha_bar[t]) / alpha_bar[t]), 0 at t = 0."""
    return np.sqrt((1 - s.alpha_bar[t]) / s.alpha_bar[t])


def ddpm(eps_model, s, shape, rng, x_T=None, var=None, clip=np.inf):
    """Sample by ancestral sampling: at each step guess x0, then draw x_{t-1} from the posterior around that guess.

    x_{t-1} = c0 x0_hat + ct x_t + sqrt(var[t]) z,  x0_hat = predict_x0(s, x_t, t, eps_model(x_t, t)),  (c0, ct) = posterior_weights(s, t)
    shape: (N, ...); x_T: (N, ...) or None to draw it; var: (T + 1,) variances, None = s.beta_tilde, which adds no noise at t = 1
    (DDPM's other choice is s.beta with no noise at t = 1; the best one depends on the data, see exact.gaussian_variance); or a
    function (x_t, t) -> variance (N, ...), for a network that has learned it, asked after eps_model at the same x_t and t;
    clip: x0_hat is kept within [-clip, clip] -> yields x_T, ..., x_0, each (N, ...)
    Source: Ho et al. 2020, algorithm 2 with the mean written as in equation 7.
    """
    var = s.beta_tilde if var is None else var
    x = start(shape, rng, x_T)
    yield x
    for t in range(s.T, 0, -1):
        c0, ct = posterior_weights(s, t)
        eps_hat = eps_model(x, t)
        std = np.sqrt(var(x, t) if callable(var) else var[t])
        z = np.asarray(std, x.dtype) * noise_like(x, std, rng)  # a learned std differs by pixel
        x = kernels.denoise_step(x, eps_hat, z, s.alpha_bar[t], c0, ct, 1.0, clip)
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
    times = visited(s, times)
    x = start(shape, rng, x_T)
    yield x
    for t, u in pairwise(times):
        c0, ct, std = ddim_weights(s, t, u, eta)
        eps_hat, z = eps_model(x, t), noise_like(x, std, rng)
        x = kernels.denoise_step(x, eps_hat, z, s.alpha_bar[t], c0, ct, std, clip)
        yield x


def ddim_invert(eps_model, s, x0, times, rounds=1):
    """Find the noise that ddim (eta = 0) makes an image of: walk ddim's path upwards, from x0 to x_T.

    Going up from u to t, ddim's step from t down to u is solved for x_t, which its eps_hat depends on, by rounds of
    x_t = sqrt(alpha_bar[t] / alpha_bar[u]) x_u + (sqrt(1 - alpha_bar[t]) - sqrt(alpha_bar[t] (1 - alpha_bar[u]) / alpha_bar[u])) eps_hat
    with eps_hat = eps_model(x_t so far, t), at first x_u in the place of x_t
    x0: (N, ...); times: as for ddim, decreasing to 0; rounds: int >= 1; with more of them ddim comes back ever nearer to x0
    -> yields len(times) arrays (N, ...), x_0 first, last the one that lives at times[0]
    Raises ValueError when times do not decrease to 0. Source: Song et al. 2021 (DDIM), section 4.3, where rounds = 1.
    """
    times = visited(s, times)
    x = x0
    yield x
    for u, t in pairwise(times[::-1]):
        x_t = x
        for _ in range(rounds):
            shrink = np.sqrt(s.alpha_bar[t] / s.alpha_bar[u])
            along = np.sqrt(1 - s.alpha_bar[t]) - shrink * np.sqrt(1 - s.alpha_bar[u])
            x_t = x.dtype.type(shrink) * x + x.dtype.type(along) * eps_model(x_t, t)
        x = x_t
        yield x


def add_churn(s, x, t, churn, rng):
    """Take a few steps of the forward process, so that noise grows by at most the factor 1 + churn -> x at the new time, that time."""
    up = t
    while churn > 0 and up < s.T and sigma(s, up + 1) <= (1 + churn) * sigma(s, t):
        up += 1
    if up == t:
        return x, t
    keep = s.alpha_bar[up] / s.alpha_bar[t]
    return x.dtype.type(np.sqrt(keep)) * x + x.dtype.type(np.sqrt(1 - keep)) * noise_like(
        x, 1.0, rng
    ), up


def euler(eps_model, s, shape, rng, times=None, x_T=None, churn=0.0, clip=np.inf):
    """Sample by Euler steps along the probability flow, each after a little fresh noise: churn.

    In x_bar = x / sqrt(alpha_bar), sigma = sqrt((1 - alpha_bar) / alpha_bar) the flow is d x_bar / d sigma = eps_hat. From t to u:
    up = the last time with sigma[up] <= (1 + churn) sigma[t];  x_up ~ q(x_up | x_t), as the forward process would
    x_bar_u = x_bar_up + (sigma[u] - sigma[up]) eps_model(x_up, up)
    times, x_T, clip, rng: as for ddim; churn >= 0, 0 = none: then this is ddim with eta = 0
    -> yields len(times) arrays (N, ...), last x_0. Raises ValueError when times do not decrease to 0.
    Source: Karras et al. 2022 (EDM), algorithm 2 without its correction; churn is their gamma, limited here to times that exist.
    """
    times = visited(s, times)
    x = start(shape, rng, x_T)
    yield x
    for t, u in pairwise(times):
        x, t = add_churn(s, x, t, churn, rng)
        x = ddim_step(s, x, eps_model(x, t), t, u, clip)
        yield x


def heun(eps_model, s, shape, rng, times=None, x_T=None, churn=0.0, clip=np.inf):
    """Sample by Heun's method along the probability flow: an Euler step, then the same step again with the mean of both ends' slopes.

    x_u' = euler's step from t to u with eps_hat = eps_model(x_t, t)
    x_u = the step from the same x_t with eps_hat = (eps_model(x_t, t) + eps_model(x_u', u)) / 2;  at u = 0 x_u' stays
    times, x_T, churn, clip, rng: as for euler; asks the model 2 (len(times) - 1) - 1 times; the error falls as the square of the step,
    in sigma: where sigma[T] is huge (schedule.cosine) the first steps are long, and it takes ten or more to be worth their price
    -> yields len(times) arrays (N, ...), last x_0. Raises ValueError when times do not decrease to 0.
    Source: Karras et al. 2022 (EDM), algorithms 1 and 2.
    """
    times = visited(s, times)
    x = start(shape, rng, x_T)
    yield x
    for t, u in pairwise(times):
        x, t = add_churn(s, x, t, churn, rng)
        slope = eps_model(x, t)
        there = ddim_step(s, x, slope, t, u, clip)
        x = there if u == 0 else ddim_step(s, x, (slope + eps_model(there, u)) / 2, t, u, clip)
        yield x


def dpmpp_2m(eps_model, s, shape, rng, times=None, x_T=None, clip=np.inf):
    """Sample by DPM-Solver++(2M): ddim's step, with x0_hat carried on to the middle of the step along its last change.

    lam = log(sqrt(alpha_bar) / sqrt(1 - alpha_bar));  h = lam[u] - lam[t];  r = (lam[t] - lam of the time before t) / h
    D = x0_hat + (x0_hat - the last x0_hat) / (2 r);  in the first step, and in the last one (h infinite), D = x0_hat
    x_u = sqrt(1 - alpha_bar[u]) / sqrt(1 - alpha_bar[t]) x_t + sqrt(alpha_bar[u]) (1 - exp(-h)) D
    times, x_T: as for ddim, rng only draws x_T; clip: x0_hat is kept within [-clip, clip]; one question to the model a step
    -> yields len(times) arrays (N, ...), last x_0. Raises ValueError when times do not decrease to 0.
    Source: Lu et al. 2022 (DPM-Solver++), algorithm 2.
    """
    times = visited(s, times)
    x = start(shape, rng, x_T)
    yield x
    before = None  # the last x0_hat, and its lam
    for t, u in pairwise(times):
        x0_hat = predict_x0(s, x, t, eps_model(x, t)).clip(-clip, clip)
        ct = np.sqrt((1 - s.alpha_bar[u]) / (1 - s.alpha_bar[t]))
        c0 = np.sqrt(s.alpha_bar[u]) - ct * np.sqrt(
            s.alpha_bar[t]
        )  # = sqrt(alpha_bar[u]) (1 - exp(-h)), also where h is infinite
        D, lam = x0_hat, -np.log(sigma(s, t))
        if before and u > 0:
            r = (lam - before[1]) / (-np.log(sigma(s, u)) - lam)
            D = x0_hat + (x0_hat - before[0]) * x.dtype.type(1 / (2 * r))
        before = x0_hat, lam
        x = x.dtype.type(ct) * x + x.dtype.type(c0) * D
        yield x


def even_times(s, steps):
    """Choose times for a fast sampler, spread evenly over 0 .. T.

    times[i] = round(T (steps - i) / steps), i = 0 .. steps
    steps: int, 1 .. T -> list of steps + 1 decreasing ints from T to 0
    Raises ValueError for another number of steps.
    """
    require_steps(s, steps)
    return [round(s.T * (steps - i) / steps) for i in range(steps + 1)]


def quadratic_times(s, steps):
    """Choose times for a fast sampler, denser towards the clean image.

    times[i] = T ((steps - i) / steps)^2, i = 0 .. steps, rounded to different whole numbers
    steps: int, 1 .. T -> list of steps + 1 decreasing ints from T to 0. Raises ValueError for another number of steps.
    Source: Song et al. 2021 (DDIM), appendix.
    """
    require_steps(s, steps)
    return _whole(s.T * np.linspace(1, 0, steps + 1) ** 2)


def snr_times(s, steps, sigma_max=80.0):
    """Choose times for a fast sampler, evenly spaced in the logarithm of the signal-to-noise ratio.

    steps times with log snr as evenly spaced as whole numbers allow, from the last one with sigma <= sigma_max to 1, then 0;
    sigma = snr^(-1/2): beyond sigma_max images are pure noise, and steps there are wasted
    steps: int, 1 .. T -> list of steps + 1 decreasing ints to 0. Raises ValueError for another number of steps.
    Source: Lu et al. 2022 (DPM-Solver).
    """
    require_steps(s, steps)
    high = min(sigma(s, s.T), sigma_max)
    return times_at_sigma(s, np.exp(np.linspace(np.log(high), np.log(sigma(s, 1)), steps)))


def karras_times(s, steps, rho=7.0, sigma_max=80.0):
    """Choose times for a fast sampler so that a power of the noise level falls evenly: most of them at small noise.

    sigma[i] = (high^(1/rho) + i / (steps - 1) (low^(1/rho) - high^(1/rho)))^rho, i = 0 .. steps - 1, then 0;
    sigma = sqrt((1 - alpha_bar) / alpha_bar), low = sigma[1], high = min(sigma[T], sigma_max), where the first time lies
    steps: int, 1 .. T -> list of steps + 1 decreasing ints to 0. Raises ValueError for another number of steps.
    Source: Karras et al. 2022 (EDM), equation 5.
    """
    require_steps(s, steps)
    high = min(sigma(s, s.T), sigma_max)
    return times_at_sigma(s, np.linspace(high ** (1 / rho), sigma(s, 1) ** (1 / rho), steps) ** rho)


def times_at_sigma(s, levels):
    """Find the times at which sigma has falling levels, rounded to different whole numbers, and put 0 behind them."""
    t = np.arange(1, s.T + 1)
    return _whole([*np.interp(np.log(levels), np.log(sigma(s, t)), t), 0])


def _whole(times):
    """Round falling real times to whole ones, none twice: where two meet, the earlier one moves up, or makes room if it is the first."""
    times = np.round(times).astype(int)
    times[0] = max(times[0], len(times) - 1)
    for i in range(
        len(times) - 2, 0, -1
    ):  # from the clean end: at least one above the next, and leave room for those before
        times[i] = min(max(times[i], times[i + 1] + 1), times[0] - i)
    return times.tolist()


def require_steps(s, steps):
    if not 1 <= steps <= s.T:
        raise ValueError(f"steps is a whole number from 1 to T = {s.T}; got {steps}")
