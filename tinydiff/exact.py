"""Perfect denoisers: what an ideal network would answer, for data with a known distribution.

Each function but gaussian_variance returns an eps_model, a callable (x_t, t int) -> eps_hat, exact
to rounding. The samplers are taught and tested with these before any network exists: with a perfect
model, whatever is still wrong is the sampler's fault. All rest on one fact: the best guess of x0 in
the mean-square sense is the posterior mean E[x0 | x_t].
"""

import numpy as np

from . import kernels
from .diffusion import posterior_weights, predict_eps


def point(s, x0):
    """Denoise data that is one single image.

    E[x0 | x_t] = x0, whatever x_t is; eps_hat is the noise that leads from there to x_t
    x0: (...) one image
    -> eps_model: (x_t (N, ...), t int 1 .. T) -> eps_hat (N, ...) in x_t's precision
    """
    return lambda x_t, t: predict_eps(s, x_t, t, np.asarray(x0, dtype=x_t.dtype))


def gaussian(s, mean, var):
    """Denoise data distributed as N(mean, var), each value independent of the others.

    eps_hat is the noise that leads from E[x0 | x_t] to x_t, where x0 ~ N(mean, var) before x_t is
    seen
    mean, var >= 0: numbers or (...) one image
    -> eps_model: (x_t (N, ...), t int 1 .. T) -> eps_hat (N, ...) in x_t's precision
    """

    def eps_model(x_t, t):
        root = np.sqrt(s.alpha_bar[t])
        gain = root * var / (s.alpha_bar[t] * var + 1 - s.alpha_bar[t])
        x0_hat = mean + gain * (x_t - root * mean)
        return predict_eps(s, x_t, t, np.asarray(x0_hat, dtype=x_t.dtype))

    return eps_model


def gaussian_variance(s, var):
    """Give the variance with which ancestral sampling of N(mean, var) data is exact for any T.

    Entry t is Var[x_{t-1} | x_t]: x_t is known, x0 ~ N(mean, var) is not
    var: number >= 0, the variance of the data -> (T + 1,) variances for sample.ddpm; entry 0 is 0
    Source: Bao et al. 2022 (Analytic-DPM), in the Gaussian case.
    """
    t = np.arange(1, s.T + 1)
    var_x0 = var * (1 - s.alpha_bar[t]) / (s.alpha_bar[t] * var + 1 - s.alpha_bar[t])
    c0, _ = posterior_weights(s, t)
    return np.concatenate([[0.0], s.beta_tilde[t] + c0**2 * var_x0])


def mixture(s, weight, mean, var):
    """Denoise data drawn from M round Gaussians.

    total[m] = alpha_bar[t] var[m] + 1 - alpha_bar[t];  away[m] = x_t - sqrt(alpha_bar[t]) mean[m]
    r[m] proportional to weight[m] N(away[m]; 0, total[m] I), with sum 1
    E[x0 | x_t] = sum_m r[m] (mean[m] + sqrt(alpha_bar[t]) var[m] / total[m] away[m])
    weight, var: (M,), weight > 0 with sum 1, var >= 0; mean: (M, ...)
    -> eps_model: (x_t (N, ...), t int 1 .. T) -> eps_hat (N, ...) in x_t's precision
    """
    weight, var = np.asarray(weight, dtype=np.float64), np.asarray(var, dtype=np.float64)
    mean = np.asarray(mean, dtype=np.float64)
    flat = mean.reshape(len(mean), -1)  # (M, D)

    def eps_model(x_t, t):
        root, total = np.sqrt(s.alpha_bar[t]), s.alpha_bar[t] * var + 1 - s.alpha_bar[t]
        x = x_t.reshape(len(x_t), -1)  # (N, D)
        away = x[:, None] - root * flat  # (N, M, D)
        widths = 0.5 * flat.shape[1] * np.log(total)
        logits = np.log(weight) - widths - 0.5 * (away**2).sum(-1) / total
        r = np.exp(logits - logits.max(1, keepdims=True))
        r /= r.sum(1, keepdims=True)  # (N, M)
        x0_hat = (r[:, :, None] * (flat + (root * var / total)[:, None] * away)).sum(1)
        return predict_eps(s, x_t, t, x0_hat.reshape(x_t.shape).astype(x_t.dtype))

    return eps_model


def dataset(s, data):
    """Denoise data drawn from a finite set, like a network that has memorised its training set.

    r[m] proportional to exp( -|x_t - sqrt(alpha_bar[t]) data[m]|^2 / (2 (1 - alpha_bar[t])) ),
    with sum 1
    E[x0 | x_t] = sum_m r[m] data[m]
    data: (M, ...), each image equally likely
    -> eps_model: (x_t (N, ...), t int 1 .. T) -> eps_hat (N, ...) in x_t's precision
    """

    def eps_model(x_t, t):
        points = data.reshape(len(data), -1).astype(x_t.dtype, copy=False)
        x0_hat = kernels.posterior_mean(x_t.reshape(len(x_t), -1), points, float(s.alpha_bar[t]))
        return predict_eps(s, x_t, t, x0_hat.reshape(x_t.shape))

    return eps_model
