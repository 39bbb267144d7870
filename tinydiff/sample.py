"""The reverse process: noise becomes data. Each sampler is a generator that yields every step.

    *_, x0 = sample.ddpm(eps_model, s, shape, rng)        # the result
    for x_t in sample.ddpm(eps_model, s, shape, rng): ... # an animation

A model is any callable (x_t (N, ...), t int) -> eps_hat (N, ...). Every step down but dpmpp_2m's,
which also uses the x0_hat of the step before, has one form, c0 x0_hat + ct x_t + std z with
x0_hat = predict_x0(s, x_t, t, eps_hat); the kernel denoise_step computes that in one pass.

    ddpm          visits every t and adds noise      ddim       any times, noise or none
    euler, heun   follow the flow, orders 1 and 2    dpmpp_2m   order 2, one model call per step
    ddim_invert   goes upwards: from an image to the noise from which ddim makes it
"""

from itertools import pairwise

import numpy as np

from . import kernels
from .diffusion import ddim_weights, posterior_weights, predict_x0


def start(shape, rng, x_T):
    """Take x_T if it is given, else draw it in float32; samplers work in the precision of x_T.

    shape: (N, ...); x_T: (N, ...) or None -> (N, ...)
    """
    return kernels.normal(rng, shape, np.float32) if x_T is None else x_T


def noise_like(x, std, rng):
    """Draw standard normal z, not yet multiplied by std; where std is 0 draw nothing and give 0.

    x: (N, ...); std: number or (N, ...) -> (N, ...) in x's precision, or () where std is 0
    """
    return kernels.normal(rng, x.shape, x.dtype) if np.any(std > 0) else x.dtype.type(0)


def visited(s, times):
    """List the times that a sampler visits.

    times: decreasing ints from at most T down to 0, None = T, T-1, ..., 0 -> list of ints (steps,)
    Raises ValueError for another list.
    """
    times = range(s.T, -1, -1) if times is None else [int(t) for t in times]
    falling = all(t > u for t, u in pairwise(times))
    if len(times) < 2 or times[-1] != 0 or times[0] > s.T or not falling:
        raise ValueError(f"times must decrease from at most T = {s.T} to 0; got {list(times)}")
    return times


def ddim_step(s, x, eps_hat, t, u, clip):
    """Go from t to u along the line to which eps_hat points: DDIM's step without noise.

    x0_hat and eps_hat stay the same, only their shares change: see ddim_weights with eta = 0
    x, eps_hat: (N, ...); t, u: ints, t > u; clip: x0_hat is kept within [-clip, clip] -> (N, ...)
    """
    c0, ct, _ = ddim_weights(s, t, u)
    return kernels.denoise_step(x, eps_hat, x.dtype.type(0), s.alpha_bar[t], c0, ct, 0.0, clip)


def sigma(s, t):
    """Give the noise per unit of signal at t: sqrt((1 - alpha_bar[t]) / alpha_bar[t]), 0 at t = 0.

    t: int or (N,) ints, 0 .. T -> float64, of t's shape () or (N,)
    """
    return np.sqrt((1 - s.alpha_bar[t]) / s.alpha_bar[t])


def ddpm(eps_model, s, shape, rng, x_T=None, var=None, clip=np.inf):
    """Sample by ancestral sampling: guess x0, draw x_{t-1} from the posterior around that guess.

    x_{t-1} = c0 x0_hat + ct x_t + sqrt(var[t]) z,  (c0, ct) = posterior_weights(s, t)
    x0_hat = predict_x0(s, x_t, t, eps_model(x_t, t)), kept within [-clip, clip]
    shape: (N, ...); x_T: (N, ...) or None to draw it
    var: (T + 1,) variances, None = s.beta_tilde, which is 0 at t = 1: the last step adds no noise.
    DDPM's other choice is s.beta with its entry 1 set to 0: whatever var[1] holds is added. The
    best choice depends on the data, see exact.gaussian_variance. Or a function (x_t, t) -> variance
    (N, ...), for a network that has learned it, called after eps_model with the same x_t and t
    -> yields x_T, ..., x_0, each (N, ...)
    Source: Ho et al. 2020, algorithm 2 with the mean written as in equation 7.
    """
    var = s.beta_tilde if var is None else var
    x = start(shape, rng, x_T)
    yield x
    for t in range(s.T, 0, -1):
        c0, ct = posterior_weights(s, t)
        eps_hat = eps_model(x, t)
        std = np.sqrt(var(x, t) if callable(var) else var[t])
        z = np.asarray(std, x.dtype) * noise_like(x, std, rng)
        # std z and 1.0 where ddim gives z and sigma: a learned std differs from value to value
        x = kernels.denoise_step(x, eps_hat, z, s.alpha_bar[t], c0, ct, 1.0, clip)
        yield x


def ddim(eps_model, s, shape, rng, times=None, eta=0.0, x_T=None, clip=np.inf):
    """Sample along any sub-sequence of times; with eta = 0 no noise is added: x_T decides all.

    For each visited pair (t, u), u < t, with eps_hat = eps_model(x_t, t):
    sigma = eta sqrt((1 - alpha_bar[u]) / (1 - alpha_bar[t]) (1 - alpha_bar[t] / alpha_bar[u]))
    x_u = sqrt(alpha_bar[u]) x0_hat + sqrt(1 - alpha_bar[u] - sigma^2) eps_hat + sigma z
    times: decreasing ints from at most T down to 0, None = T, T-1, ..., 0; x_T: (N, ...) at
    times[0], or None to draw it; eta: 0 .. 1, 1 over all times is ddpm; clip: x0_hat is kept within
    [-clip, clip], and eps_hat follows; rng: may be None where nothing is drawn (eta = 0, x_T given)
    -> yields len(times) arrays (N, ...), last x_0
    Raises ValueError when times do not decrease to 0.
    Source: Song et al. 2021 (DDIM), equations 12 and 16.
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
    """Find the noise from which ddim (eta = 0) makes an image: walk ddim's path up from x0 to x_T.

    Going up from u to t, x_t is what ddim's step from t down to u turns into x_u. Its eps_hat
    depends on x_t, so this is solved by rounds: each calls the model at time t, with the x_t found
    so far (in the first round with x_u), and takes the x_t that the step with this eps_hat turns
    into x_u
    x0: (N, ...); times: as for ddim, None = all; rounds: int >= 1, the more, the closer ddim comes
    back to x0
    -> yields len(times) arrays (N, ...), first x_0, last the one at times[0]
    Raises ValueError when times do not decrease to 0.
    Source: Song et al. 2021 (DDIM), section 4.3, where rounds = 1.
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
    """Take a few steps of the forward process, so that sigma grows by at most the factor 1 + churn.

    up = the last time with sigma[up] <= (1 + churn) sigma[t]
    x: (N, ...) at t -> x_up (N, ...) ~ q(x_up | x_t), up: int; where up = t, x itself
    """
    up = t
    while churn > 0 and up < s.T and sigma(s, up + 1) <= (1 + churn) * sigma(s, t):
        up += 1
    if up == t:
        return x, t
    keep = s.alpha_bar[up] / s.alpha_bar[t]
    z = x.dtype.type(np.sqrt(1 - keep)) * noise_like(x, 1.0, rng)
    return x.dtype.type(np.sqrt(keep)) * x + z, up


def euler(eps_model, s, shape, rng, times=None, x_T=None, churn=0.0, clip=np.inf):
    """Sample by Euler steps along the probability flow, each after a little fresh noise: churn.

    In x_bar = x / sqrt(alpha_bar) and sigma = sqrt((1 - alpha_bar) / alpha_bar) the flow is
    d x_bar / d sigma = eps_hat. From t to u:
    up = the last time with sigma[up] <= (1 + churn) sigma[t];  x_up ~ q(x_up | x_t), forwards
    x_bar_u = x_bar_up + (sigma[u] - sigma[up]) eps_model(x_up, up)
    times, x_T, clip, rng: as for ddim; churn: >= 0, 0 = none: then this is ddim with eta = 0
    -> yields len(times) arrays (N, ...), last x_0
    Raises ValueError when times do not decrease to 0.
    Source: Karras et al. 2022 (EDM), algorithm 2 without its correction; churn is their gamma,
    limited here to times that exist.
    """
    times = visited(s, times)
    x = start(shape, rng, x_T)
    yield x
    for t, u in pairwise(times):
        x, t = add_churn(s, x, t, churn, rng)
        x = ddim_step(s, x, eps_model(x, t), t, u, clip)
        yield x


def heun(eps_model, s, shape, rng, times=None, x_T=None, churn=0.0, clip=np.inf):
    """Sample by Heun's method along the probability flow: Euler's step, with both ends' mean slope.

    x_u' = euler's step from t to u with eps_hat = eps_model(x_t, t)
    x_u = the step from the same x_t with eps_hat = (eps_model(x_t, t) + eps_model(x_u', u)) / 2
    At u = 0 x_u' stays. times, x_T, churn, clip, rng: as for euler
    -> yields len(times) arrays (N, ...), last x_0; calls the model 2 (len(times) - 1) - 1 times
    The error falls as the square of the step in sigma: where sigma[T] is huge (schedule.cosine) the
    first steps are long, and it takes ten or more before the second call is worth its price.
    Raises ValueError when times do not decrease to 0.
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
    """Sample by DPM-Solver++(2M): ddim's step, with x0_hat extrapolated to the middle of the step.

    lam = log(sqrt(alpha_bar) / sqrt(1 - alpha_bar));  h = lam[u] - lam[t]
    r = (lam[t] - lam of the time before t) / h
    D = x0_hat + (x0_hat - the last x0_hat) / (2 r);  in the first step, and in the last one, where
    h is infinite, D = x0_hat
    x_u = sqrt(1 - alpha_bar[u]) / sqrt(1 - alpha_bar[t]) x_t + sqrt(alpha_bar[u]) (1 - exp(-h)) D
    times, x_T: as for ddim; rng: only draws x_T; clip: x0_hat is kept within [-clip, clip]
    -> yields len(times) arrays (N, ...), last x_0; one model call per step
    Raises ValueError when times do not decrease to 0.
    Source: Lu et al. 2022 (DPM-Solver++), algorithm 2.
    """
    times = visited(s, times)
    x = start(shape, rng, x_T)
    yield x
    before = None  # the last x0_hat, and its lam
    for t, u in pairwise(times):
        x0_hat = predict_x0(s, x, t, eps_model(x, t)).clip(-clip, clip)
        ct = np.sqrt((1 - s.alpha_bar[u]) / (1 - s.alpha_bar[t]))
        # sqrt(alpha_bar[u]) (1 - exp(-h)), written so that it also holds where h is infinite
        c0 = np.sqrt(s.alpha_bar[u]) - ct * np.sqrt(s.alpha_bar[t])
        D, lam = x0_hat, -np.log(sigma(s, t))
        if before and u > 0:
            r = (lam - before[1]) / (-np.log(sigma(s, u)) - lam)
            D = x0_hat + (x0_hat - before[0]) * x.dtype.type(1 / (2 * r))
        before = x0_hat, lam
        x = x.dtype.type(ct) * x + x.dtype.type(c0) * D
        yield x


def even_times(s, steps):
    """Choose times for a fast sampler, spread evenly over 0 .. T.

    Each is the whole number nearest to where steps equal gaps from T to 0 would put it
    steps: int, 1 .. T -> list of steps + 1 decreasing ints from T to 0
    Raises ValueError for another number of steps.
    """
    require_steps(s, steps)
    return [round(s.T * (steps - i) / steps) for i in range(steps + 1)]


def quadratic_times(s, steps):
    """Choose times for a fast sampler, denser towards the clean image.

    times[i] = T ((steps - i) / steps)^2, i = 0 .. steps, rounded to different whole numbers
    steps: int, 1 .. T -> list of steps + 1 decreasing ints from T to 0
    Raises ValueError for another number of steps. Source: Song et al. 2021 (DDIM), appendix.
    """
    require_steps(s, steps)
    return _whole(s.T * np.linspace(1, 0, steps + 1) ** 2)


def snr_times(s, steps, sigma_max=80.0):
    """Choose times for a fast sampler, evenly spaced in the logarithm of the signal-to-noise ratio.

    steps times with log snr as evenly spaced as whole numbers allow, from the last one with
    sigma <= sigma_max down to 1, then 0; sigma = snr^(-1/2). Beyond sigma_max images are pure
    noise, and steps there are wasted.
    steps: int, 1 .. T -> list of steps + 1 decreasing ints to 0
    Raises ValueError for another number of steps. Source: Lu et al. 2022 (DPM-Solver).
    """
    require_steps(s, steps)
    high = min(sigma(s, s.T), sigma_max)
    return times_at_sigma(s, np.exp(np.linspace(np.log(high), np.log(sigma(s, 1)), steps)))


def karras_times(s, steps, rho=7.0, sigma_max=80.0):
    """Choose times for a fast sampler at which the rho-th root of sigma falls evenly.

    sigma = sqrt((1 - alpha_bar) / alpha_bar) takes `steps` values, the first min(sigma[T],
    sigma_max), the last sigma[1]; after them comes t = 0. steps = 1: only the first of them.
    rho: > 0; 1 is even in sigma, and the larger rho, the more nearly even in log sigma
    steps: int, 1 .. T -> list of steps + 1 decreasing ints to 0
    Raises ValueError for another number of steps. Source: Karras et al. 2022 (EDM), equation 5.
    """
    require_steps(s, steps)
    high = min(sigma(s, s.T), sigma_max)
    return times_at_sigma(s, np.linspace(high ** (1 / rho), sigma(s, 1) ** (1 / rho), steps) ** rho)


def bend_times(s, steps, levels, bend):
    """Choose times for a fast sampler that give each step the same share of a measured bend.

    The bend above a level is the integral of `bend` over log sigma, from levels[0] down to that
    level: between two neighbours of `levels` the mean of their bends times the difference of their
    log sigma, which grows evenly in log sigma. times[i] is where it is i / steps of the whole,
    i = 0 .. steps - 1; then comes 0.
    levels: (M,) values of sigma, falling, from at most sigma[T], M >= 2; bend: (M,), > 0: how much
    the path bends there per unit of log sigma, such as |d x0_hat / d log sigma|
    steps: int, 1 .. T -> list of steps + 1 decreasing ints to 0
    Raises ValueError for another number of steps.
    """
    require_steps(s, steps)
    depth, bend = -np.log(levels), np.asarray(bend)
    above = np.concatenate([[0], np.cumsum(np.diff(depth) * (bend[1:] + bend[:-1]) / 2)])
    shares = above[-1] * np.arange(steps) / steps
    return times_at_sigma(s, np.exp(-np.interp(shares, above, depth)))


def times_at_sigma(s, levels):
    """Find the times at which sigma has falling levels, rounded to different ints, and append 0.

    levels: (steps,), falling -> list of steps + 1 decreasing ints to 0
    """
    t = np.arange(1, s.T + 1)
    return _whole([*np.interp(np.log(levels), np.log(sigma(s, t)), t), 0])


def _whole(times):
    """Round falling real times to whole ones, all different.

    Where two would meet, the earlier in the list moves up; the first moves only to make room.
    """
    times = np.round(times).astype(int)
    times[0] = max(times[0], len(times) - 1)
    for i in range(len(times) - 2, 0, -1):  # from the clean end
        room = times[0] - i  # for those before it in the list
        times[i] = min(max(times[i], times[i + 1] + 1), room)
    return times.tolist()


def require_steps(s, steps):
    """Refuse a number of steps that a fast sampler cannot take. steps: int, shape () -> None

    Raises ValueError unless it is from 1 to T.
    """
    if not 1 <= steps <= s.T:
        raise ValueError(f"steps is a whole number from 1 to T = {s.T}; got {steps}")
