"""Flow matching: a second bridge between network and samplers, on straight lines to the noise.

Against train.py little changes: the path (signal and noise change linearly), the target (a
velocity), and t, here a real number in [0, 1]. t = 0 is clean data and t = 1 pure noise, as
everywhere in this package; the papers count from noise to data.
The line from one image to its noise is straight. The velocity that a network learns is the mean
over all lines through x_t, so the way it shows from noise to data is bent: see `straightness`.
"""

from itertools import pairwise

import numpy as np

from .. import ops
from ..train import drop_labels, repeat

# Networks get TIME * t: the fastest wave of nn.time_embedding has length 2 pi, so that numbers in
# [0, 1] would look alike.
TIME = 1000


def path(x0, t, eps):
    """Go the share t of the straight way from an image to noise.

    x_t = (1 - t) x0 + t eps
    x0, eps: (N, ...), eps standard normal; t: number or (N,) numbers in [0, 1]
    -> x_t (N, ...), x0's precision
    Source: Liu et al. 2023 (rectified flow); Lipman et al. 2023, the optimal transport path with
    sigma_min = 0; t reversed in both.
    """
    t = np.asarray(t, dtype=x0.dtype).reshape((-1,) + (1,) * (x0.ndim - 1))
    return (1 - t) * x0 + t * eps


def velocity_target(x0, eps):
    """Compute how x_t moves along the path, the same at every t.

    u = dx_t / dt = eps - x0
    x0, eps: (N, ...) -> u (N, ...)
    """
    return eps - x0


def train(run, images, labels=None, batch=64, lr=lambda step: 1e-3, p_drop=0.1):
    """Train a network without end to predict the velocity; only t, x_t and the target are new.

    x_t = path(x0, t, eps), t uniform in [0, 1)
    loss = mean |eps - x0 - model(x_t, 1000 t, labels)|^2
    run: a train.Training; images: (M, H, W, C) in [-1, 1]; labels, batch, lr, p_drop: as for
    train.train -> yields `run` after each step. Raises FloatingPointError as train.train_step does.
    """

    def next_loss(rng):
        i = rng.integers(len(images), size=batch)
        x0 = images[i]
        t = rng.random(batch)
        eps = rng.standard_normal(x0.shape, dtype=np.float32)
        x_t, target = path(x0, t, eps), velocity_target(x0, eps)
        cond = None if labels is None else drop_labels(labels[i], run.model.classes, p_drop, rng)
        return lambda model: ops.mse(model(x_t, TIME * t, cond), target)

    return repeat(run, lr, next_loss)


def as_velocity(model, labels=None):
    """Make a network into a velocity, which `euler` follows: a function from (x_t, t) to u_hat.

    model: called as model(x_t, 1000 t (N,), labels); labels: (N, number of labels) ints or None
    -> velocity: (x_t (N, ...), t) -> u_hat (N, ...), where x_t moves
    """
    return lambda x_t, t: model(x_t, np.full(len(x_t), TIME * t), labels)


def euler(velocity, shape, rng, times, x_1=None):
    """Sample by following a velocity from noise to data in straight pieces.

    x_u = x_t + (u - t) velocity(x_t, t) for each pair of neighbours t > u in times
    shape: (N, ...); times: decreasing numbers from 1 to 0; x_1: (N, ...), or None to draw it (else
    rng may be None) -> yields len(times) arrays (N, ...), last x_0
    """
    x = rng.standard_normal(shape, dtype=np.float32) if x_1 is None else x_1
    yield x
    for t, u in pairwise(map(float, times)):
        x = x + (u - t) * velocity(x, t)
        yield x


def heun(velocity, shape, rng, times, x_1=None):
    """Sample by following a velocity in steps whose error falls as the square of their length.

    Each step is taken again, with the mean velocity of its two ends:
    x_u' = x_t + (u - t) velocity(x_t, t)
    x_u = x_t + (u - t) (velocity(x_t, t) + velocity(x_u', u)) / 2;  at u = 0 x_u' stays
    Arguments and results (N, ...) as for euler -> yields len(times) arrays
    This is not sample.heun in another scaling: that one takes the mean along sigma, which grows
    without end towards noise, so that its first steps can be far too long; t ends at 1.
    """
    x = rng.standard_normal(shape, dtype=np.float32) if x_1 is None else x_1
    yield x
    for t, u in pairwise(map(float, times)):
        slope = velocity(x, t)
        there = x + (u - t) * slope
        x = there if u == 0 else x + (u - t) * (slope + velocity(there, u)) / 2
        yield x


def flow_time(s, t):
    """Find the flow time with the same ratio of noise to signal as time t of a schedule.

    flow_t / (1 - flow_t) = sqrt(1 - alpha_bar[t]) / sqrt(alpha_bar[t])
    t: ints 0 .. T, any shape (...) -> flow_t in [0, 1), (...)
    """
    signal, noise = np.sqrt(s.alpha_bar[t]), np.sqrt(1 - s.alpha_bar[t])
    return noise / (signal + noise)


def as_eps_model(velocity, s):
    """Make a velocity into an eps_model, so that every sampler of sample.py can draw with it.

    x_t = sqrt(alpha_bar[t]) x0 + sqrt(1 - alpha_bar[t]) eps, divided by the sum of the two roots,
    is the point x_flow = (1 - flow_t) x0 + flow_t eps of the path at flow_t = flow_time(s, t).
    eps_hat is the eps with which this point moves at velocity(x_flow, flow_t) = eps - x0.
    velocity: (x (N, ...), t in [0, 1]) -> u_hat (N, ...)
    -> eps_model: (x_t (N, ...), t int 1 .. T) -> eps_hat (N, ...)
    sample.ddim with it takes the steps of `euler` along flow_time(s, times): one method in two
    scalings of x.
    """

    def eps_model(x_t, t):
        flow_t = float(flow_time(s, t))
        x_flow = x_t / float(np.sqrt(s.alpha_bar[t]) + np.sqrt(1 - s.alpha_bar[t]))
        return x_flow + (1 - flow_t) * velocity(x_flow, flow_t)

    return eps_model


def straightness(chain, times):
    """Measure how far a way from noise to data bends: 0 is straight.

    Where it is 0, one step of `euler` does what n did.
    sum_i h mean |(x[i] - x[i+1]) / h - (x[0] - x[n])|^2, h = times[i] - times[i+1], i = 0 .. n - 1
    chain: what `euler` yields, n + 1 arrays (N, ...); times: (n + 1,) from 1 to 0 -> float
    Source: Liu et al. 2023, their S, as a mean over the values of an image.
    """
    x, total = list(chain), 0.0
    for (a, b), (t, u) in zip(pairwise(x), pairwise(times), strict=True):
        total += (t - u) * np.mean(((a - b) / (t - u) - (x[0] - x[-1])) ** 2)
    return float(total)
