"""The forward process q, stepwise and in closed form; the algebra of eps, x0, v and the posterior.

x_t = sqrt(alpha_bar[t]) x0 + sqrt(1 - alpha_bar[t]) eps is one equation in x0, eps and x_t: any two
of them give the third. A batch of images is (N, ...), with any number of axes after N.
t is one int for all images, or (N,) ints; 1 <= t <= T unless another range is given.
"""

import numpy as np


def at(values, t, x):
    """Pick values[t], in the precision of x (float64 for integers) and shaped to multiply x.

    values: (T + 1,); t: int or (N,) ints; x: (N, ...) -> () for an int t, (N, 1, ...) for (N,)
    """
    return shaped(values[t], x)


def shaped(picked, x):
    """Give one number for all images, or one per image, the precision and shape to multiply x.

    picked: () or (N,); x: (N, ...) -> () or (N, 1, ...), in the precision of x (integers: float64)
    """
    picked = np.asarray(picked, dtype=np.result_type(x.dtype, np.float32))
    return picked.reshape(picked.shape + (1,) * (x.ndim - 1)) if picked.ndim else picked


def rates(s, t, x):
    """Give sqrt(alpha_bar[t]) and sqrt(1 - alpha_bar[t]): how much signal, how much noise.

    t: int or (N,) ints; x: (N, ...) -> two arrays () or (N, 1, ...), shaped to multiply x
    """
    return at(np.sqrt(s.alpha_bar), t, x), at(np.sqrt(1 - s.alpha_bar), t, x)


def q_step(s, x_prev, t, eps):
    """Add one step of noise: draw x_t from q(x_t | x_{t-1}).

    q(x_t | x_prev) = N(sqrt(alpha[t]) x_prev, beta[t]); its mean, plus eps at its strength
    x_prev, eps: (N, ...), eps standard normal; t: int or (N,) int, 1 .. T -> x_t (N, ...)
    Source: Ho et al. 2020, equation 2.
    """
    return at(np.sqrt(s.alpha), t, x_prev) * x_prev + at(np.sqrt(s.beta), t, x_prev) * eps


def q_sample(s, x0, t, eps):
    """Jump from clean data to time t in one step: draw x_t from q(x_t | x0).

    q(x_t | x0) = N(sqrt(alpha_bar[t]) x0, 1 - alpha_bar[t]); its mean, plus eps at its strength
    x0, eps: (N, ...), eps standard normal; t: int or (N,) int, 0 .. T -> x_t (N, ...)
    Source: Ho et al. 2020, equation 4.
    """
    signal, noise = rates(s, t, x0)
    return signal * x0 + noise * eps


def predict_x0(s, x_t, t, eps_hat):
    """Compute the clean image from a noisy one and (a guess of) its noise: q_sample solved for x0.

    x0_hat is the x0 with q_sample(s, x0, t, eps_hat) = x_t
    x_t, eps_hat: (N, ...); t: int or (N,) int, 0 .. T -> x0_hat (N, ...)
    Source: Ho et al. 2020, equation 15.
    """
    signal, noise = rates(s, t, x_t)
    return (x_t - noise * eps_hat) / signal


def predict_eps(s, x_t, t, x0_hat):
    """Compute the noise from a noisy image and (a guess of) the clean one: q_sample solved for eps.

    eps_hat = (x_t - sqrt(alpha_bar[t]) x0_hat) / sqrt(1 - alpha_bar[t])
    x_t, x0_hat: (N, ...); t: int or (N,) int, 1 .. T -> eps_hat (N, ...)
    """
    signal, noise = rates(s, t, x_t)
    return (x_t - signal * x0_hat) / noise


def v_target(s, x0, t, eps):
    """Give the "velocity" v at which x_t moves from the image to the noise, per angle.

    x_t = cos(phi) x0 + sin(phi) eps with cos(phi) = sqrt(alpha_bar[t]), 0 <= phi <= pi/2
    v = d x_t / d phi, while x0 and eps stay
    x0, eps: (N, ...); t: int or (N,) int, 0 .. T -> v (N, ...)
    Source: Salimans & Ho 2022 (progressive distillation), section 4.
    """
    signal, noise = rates(s, t, x0)
    return signal * eps - noise * x0


def x0_from_v(s, x_t, t, v):
    """Compute the clean image from a noisy one and (a guess of) v.

    x0_hat is the x0 with q_sample(s, x0, t, eps) = x_t and v_target(s, x0, t, eps) = v for some eps
    x_t, v: (N, ...); t: int or (N,) int, 0 .. T -> x0_hat (N, ...)
    """
    signal, noise = rates(s, t, x_t)
    return signal * x_t - noise * v


def eps_from_v(s, x_t, t, v):
    """Compute the noise from a noisy image and (a guess of) v.

    The eps_hat that, with some x0, makes both q_sample(s, x0, t, eps_hat) = x_t and
    v_target(s, x0, t, eps_hat) = v.
    x_t, v: (N, ...); t: int or (N,) int, 0 .. T -> eps_hat (N, ...)
    """
    signal, noise = rates(s, t, x_t)
    return signal * v + noise * x_t


def posterior_weights(s, t):
    """Weigh x0 against x_t in the mean of q(x_{t-1} | x_t, x0).

    That mean is c0 x0 + ct x_t, by Bayes' rule for x_{t-1} from
    q(x_{t-1} | x0) = N(sqrt(alpha_bar[t-1]) x0, 1 - alpha_bar[t-1]), what is known before, and
    q(x_t | x_{t-1}) = N(sqrt(alpha[t]) x_{t-1}, beta[t]), what is seen
    t: int or (N,) int, 1 .. T -> c0, ct: float64, of t's shape
    At t = 1 they are 1 and 0: the last step returns x0.
    Source: Ho et al. 2020, equation 7.
    """
    c0 = np.sqrt(s.alpha_bar[t - 1]) * s.beta[t] / (1 - s.alpha_bar[t])
    ct = np.sqrt(s.alpha[t]) * (1 - s.alpha_bar[t - 1]) / (1 - s.alpha_bar[t])
    return c0, ct


def q_posterior(s, x0, x_t, t):
    """Undo one step of noise when the clean image is known: the Gaussian q(x_{t-1} | x_t, x0).

    The mean weighs x0 and x_t by posterior_weights(s, t); the variance is beta_tilde[t]
    x0, x_t: (N, ...); t: int or (N,) int, 1 .. T -> mean (N, ...), var: () or (N, 1, ...)
    At t = 1 they are x0 and 0.
    Source: Ho et al. 2020, equations 6 and 7.
    """
    c0, ct = (shaped(c, x_t) for c in posterior_weights(s, t))
    return c0 * x0 + ct * x_t, at(s.beta_tilde, t, x_t)


def ddim_weights(s, t, u, eta=0.0):
    """Weigh x0_hat, x_t and fresh noise in DDIM's step from t to an earlier u.

    sigma = eta sqrt((1 - alpha_bar[u]) / (1 - alpha_bar[t]) (1 - alpha_bar[t] / alpha_bar[u]))
    ct = sqrt((1 - alpha_bar[u] - sigma^2) / (1 - alpha_bar[t]))
    c0 = sqrt(alpha_bar[u]) - ct sqrt(alpha_bar[t])
    so that c0 x0_hat + ct x_t + sigma z is the paper's
    sqrt(alpha_bar[u]) x0_hat + sqrt(1 - alpha_bar[u] - sigma^2) eps_hat + sigma z,
    where eps_hat = predict_eps(s, x_t, t, x0_hat)
    t, u: ints, T >= t > u >= 0; eta: 0 = no noise .. 1 = as much as ddpm
    -> c0, ct, sigma: float64, ()
    Source: Song et al. 2021 (DDIM), equations 12 and 16.
    """
    ab_t, ab_u = s.alpha_bar[t], s.alpha_bar[u]
    sigma = eta * np.sqrt((1 - ab_u) / (1 - ab_t) * (1 - ab_t / ab_u))
    ct = np.sqrt(max(1 - ab_u - sigma**2, 0.0) / (1 - ab_t))
    return np.sqrt(ab_u) - ct * np.sqrt(ab_t), ct, sigma
