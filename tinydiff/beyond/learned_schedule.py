"""A noise schedule that is learned: gamma(t) = -log snr as a small network that can only rise.

Between two fixed ends the diffusion loss (a bound on the likelihood, in continuous time) does not
depend on how gamma gets from one to the other: with gamma as the variable t cancels,

    mean of L(t) over t = integral of 1/2 gamma'(t) error(gamma(t)) dt
                        = integral of 1/2 error(gamma) d gamma

What does depend on it is how much L(t) varies with t, and so how noisy a loss is that is measured
at random times. gamma is trained to lower that variance; it is 0 where L(t) is the same at every t.
Source: Kingma et al. 2021 (Variational Diffusion Models, VDM).
"""

import numpy as np

from .. import schedule
from ..autodiff import gradient, op
from ..nn import Module
from ..optim import Adam, require_finite


@op
def sigmoid(x):
    """Squeeze numbers into (0, 1): y = 1 / (1 + exp(-x)); gx = g y (1 - y). (...) -> (...)"""
    y = 0.5 + 0.5 * np.tanh(0.5 * x)  # the same, and nothing overflows
    return y, lambda g: (g * y * (1 - y),)


@op
def exp(x):
    """Make numbers positive: y = exp(x); gx = g y. (...) -> (...)"""
    y = np.exp(x)
    return y, lambda g: (g * y,)


class Gamma(Module):
    """A rising function from [0, 1] to [start, end], and its derivative, as a network.

    One hidden layer, whose weights are exponentials and so positive:
    h = sigmoid(exp(w1) (t - centre))
    rise(t) = t + h exp(w2);  rise'(t) = 1 + (h (1 - h) exp(w1)) exp(w2)
    gamma(t) = start + scale (rise(t) - rise(0));  gamma'(t) = scale rise'(t)
    scale = (end - start) / (rise(1) - rise(0))
    called on t (N, 1) -> gamma, gamma': (N, 1); parameters w1, centre: (1, K), w2: (K, 1); at first
    nearly a straight line
    Source: Kingma et al. 2021 (VDM), the appendix on the noise schedule, which has more layers;
    here the ends are fixed.
    """

    def __init__(self, start, end, K=16):
        self.start, self.end = start, end
        self.w1, self.w2 = np.full((1, K), np.log(K)), np.full((K, 1), -3.0)
        self.centre = (np.arange(K) + 0.5)[None] / K

    def __call__(self, t):
        w1, w2 = exp(self.w1), exp(self.w2)

        def rise(t):
            h = sigmoid(w1 * (t - self.centre))
            return t + h @ w2, 1 + (h * (1 - h) * w1) @ w2

        (low, _), (high, _), (here, slope) = rise(np.zeros((1, 1))), rise(np.ones((1, 1))), rise(t)
        scale = (self.end - self.start) / (high - low)
        return self.start + scale * (here - low), scale * slope


def gaussian_error(var):
    """Make the smallest mean square error of the noise, for independent Gaussian directions.

    error(gamma) = E|eps - eps_hat|^2 = sum_d var[d] snr / (1 + var[d] snr)
    = sum_d sigmoid(log var[d] - gamma), snr = exp(-gamma)
    var: (D,) variances > 0, such as the eigenvalues of a data set's covariance
    -> error: gamma (N, 1) -> (N, 1)
    """
    log_var, ones = np.log(var)[None], np.ones((len(var), 1))
    return lambda gamma: sigmoid(log_var - gamma) @ ones


def bound(gamma, error, t):
    """Compute the diffusion loss at times t.

    L(t) = 1/2 gamma'(t) error(gamma(t)); its mean over t uniform in [0, 1] is the diffusion part of
    the bound on -log p, in nats per image
    gamma: a Gamma; error: gamma (N, 1) -> E|eps - eps_hat|^2 (N, 1), the mean or one draw of it;
    t: (N, 1) in [0, 1] -> L (N, 1)
    Source: Kingma et al. 2021 (VDM), the loss in continuous time.
    """
    at, slope = gamma(t)
    return 0.5 * slope * error(at)


def train(gamma, error, rng, batch=256, lr=lambda step: 0.02):
    """Train gamma without end, so that the loss varies less: downhill on E[L^2].

    E[L^2] = Var[L] + E[L]^2, and gamma cannot move E[L].
    t[i] = (u + i) / batch, i = 0 .. batch - 1, one u uniform in [0, 1) for all
    E[L^2] = mean_i bound(gamma, error, t)[i]^2
    gamma: a Gamma, changed in place; error: as for bound, of Tensors (N, 1); lr: steps done ->
    learning rate -> yields E[L^2] (float), from before the step, after each step
    Raises FloatingPointError, before gamma changes, when the loss or its gradient is not finite.
    Source: Kingma et al. 2021 (VDM), where one pass trains the network and gamma alike.
    """
    adam = Adam(gamma.flatten(np.float64))
    while True:
        t = (rng.random() + np.arange(batch)[:, None]) / batch
        with gamma.variables() as params:
            L = bound(gamma, error, t)
            loss = np.full((1, batch), 1 / batch) @ (L * L)
            g = np.concatenate([g.ravel() for g in gradient(loss, params)])
        require_finite(adam.k + 1, loss.value.item(), adam.step(g, lr(adam.k)))
        yield loss.value.item()


def as_schedule(gamma, T):
    """Cut gamma into T steps, which every sampler can take.

    snr[t] = exp(-gamma(t / T)), t = 1 .. T, and alpha_bar[0] = 1
    gamma: a Gamma; T: int >= 1 -> Schedule with arrays (T + 1,)
    """
    at, _ = gamma(np.arange(1, T + 1)[:, None] / T)
    alpha_bar = np.concatenate([[1.0], sigmoid(-at[:, 0])])
    return schedule.from_betas(1 - alpha_bar[1:] / alpha_bar[:-1])
