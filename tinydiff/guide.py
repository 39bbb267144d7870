"""Guidance: make a model draw what is asked for, or more of it. Each function gives a new model.

A model is a callable (x_t (N, ...), t int) -> eps_hat (N, ...), for any sampler. The score of x_t
is -eps_hat / sqrt(1 - alpha_bar[t]), so a term that is added to the score is subtracted from
eps_hat.
"""

import numpy as np

from .diffusion import predict_eps, predict_x0


def classifier_free(cond, uncond, w, interval=None):
    """Guide without a classifier: extrapolate from the unconditional past the conditional model.

    eps_hat = uncond(x_t, t) + w (cond(x_t, t) - uncond(x_t, t));  outside the interval cond(x_t, t)
    cond, uncond: eps_models, the same network given its labels, and given none; or, for uncond,
    given labels to lead away from: a negative prompt
    w: 1 = no guidance, above 1 = more than asked for (the paper's w is this one minus 1)
    interval: (lowest, highest) time at which to guide, both included, None = always
    -> eps_model: (x_t (N, ...), t int) -> eps_hat (N, ...) in x_t's precision; it calls both
    models, or only cond where that is enough
    Source: Ho & Salimans 2022, equation 6; the interval: Kynkaanniemi et al. 2024.
    """

    def eps_model(x_t, t):
        eps_hat = cond(x_t, t)
        if w == 1 or (interval and not interval[0] <= t <= interval[1]):
            return eps_hat
        without = uncond(x_t, t)
        return without + x_t.dtype.type(w) * (eps_hat - without)

    return eps_model


def negative_prompt(cond, uncond, unwanted, w, away):
    """Guide towards what is asked for and away from what is not wanted.

    The answer is the eps_hat of the score of p(x_t) p(asked for | x_t)^w / p(unwanted | x_t)^away.
    By Bayes' rule p(y | x_t) is p(x_t | y) / p(x_t), up to a factor that x_t does not change; and a
    score is -eps_hat / sqrt(1 - alpha_bar[t]).
    cond, uncond, unwanted: eps_models, the same network given what is asked for, given nothing, and
    given what is not wanted: those of p(x_t | asked for), p(x_t), p(x_t | unwanted)
    w: as for classifier_free; away: >= 0, 0 = lead away from nothing
    -> eps_model: (x_t (N, ...), t int) -> eps_hat (N, ...) in x_t's precision; it calls each of
    the three once
    Source: Liu et al. 2022 (composable diffusion), its negation.
    """

    def eps_model(x_t, t):
        nothing = uncond(x_t, t)
        wanted = x_t.dtype.type(w) * (cond(x_t, t) - nothing)
        return nothing + wanted - x_t.dtype.type(away) * (unwanted(x_t, t) - nothing)

    return eps_model


def blend(a, b, share):
    """Mix two models, or one model given two labels, such as a red and a blue hat.

    eps_hat = (1 - share) a(x_t, t) + share b(x_t, t)
    Where classifier_free extrapolates past cond, this stays between the two.
    share: 0 .. 1, or an array that fits x_t, such as (N, 1, 1, 1), one share per image: with the
    same x_T for all N, ddim then draws the way from a to b in N pictures
    -> eps_model: (x_t (N, ...), t int) -> eps_hat (N, ...) in x_t's precision
    """

    def eps_model(x_t, t):
        towards = np.asarray(share, x_t.dtype)
        return (1 - towards) * a(x_t, t) + towards * b(x_t, t)

    return eps_model


def by_gradient(eps_model, s, log_p_gradient, strength=1.0):
    """Guide by a classifier, or by anything that rates noisy images: follow its gradient uphill.

    The score of x_t, -eps_hat / sqrt(1 - alpha_bar[t]), grows by strength log_p_gradient(x_t, t).
    log_p_gradient: (x_t (N, ...), t int) -> (N, ...), the gradient of log p(label | x_t) with
    respect to x_t; strength: 1 = Bayes' rule
    -> eps_model: (x_t (N, ...), t int) -> eps_hat (N, ...) in x_t's precision
    Source: Dhariwal & Nichol 2021, algorithm 2.
    """

    def guided(x_t, t):
        pull = x_t.dtype.type(strength * np.sqrt(1 - s.alpha_bar[t]))
        return eps_model(x_t, t) - pull * log_p_gradient(x_t, t)

    return guided


def by_x0_hat(eps_model_vjp, s, log_p_gradient, strength=1.0):
    """Guide by what the clean image should be like: a gradient in x0_hat, carried back to x_t.

    x0_hat = predict_x0(s, x_t, t, eps_hat);  g = log_p_gradient(x0_hat, t)
    by the chain rule the gradient in x_t is
    (g - sqrt(1 - alpha_bar[t]) J^T g) / sqrt(alpha_bar[t]),  J = d eps_hat / d x_t
    eps_hat <- eps_hat - strength sqrt(1 - alpha_bar[t]) (that gradient)
    eps_model_vjp: (x_t, t) -> eps_hat (N, ...) and the function g -> J^T g, from train.with_vjp,
    exact, or assume_gaussian, cheap
    log_p_gradient: (x0_hat (N, ...), t int) -> (N, ...), the gradient with respect to x0_hat of
    log p(what is asked for | x_t); strength: 1 = Bayes' rule
    -> eps_model: (x_t (N, ...), t int) -> eps_hat (N, ...)
    Source: Chung et al. 2023 (DPS); Song et al. 2023 (pseudo-inverse guidance).
    """

    def guided(x_t, t):
        precision = x_t.dtype.type
        eps_hat, vjp = eps_model_vjp(x_t, t)
        signal = precision(np.sqrt(s.alpha_bar[t]))
        noise = precision(np.sqrt(1 - s.alpha_bar[t]))
        g = log_p_gradient(predict_x0(s, x_t, t, eps_hat), t)
        return eps_hat - precision(strength) * noise / signal * (g - noise * vjp(g))

    return guided


def principal(cov, D=1):
    """Write a covariance by its directions: cov = Q diag(lam - rest) Q^T + rest I.

    cov: number, the variance of each of D values; (D, D); or lam, Q, rest themselves, for images of
    so many values that (D, D) would be too large
    -> lam (r,), variances; Q (D, r), orthonormal columns; rest, the variance in every other one
    """
    if isinstance(cov, tuple):
        return cov
    if np.ndim(cov) == 0:
        return np.zeros(0), np.zeros((D, 0)), float(cov)
    return *np.linalg.eigh(cov), 0.0


def assume_gaussian(eps_model, s, cov):
    """Replace a model's derivative by that of the perfect one for Gaussian data: no backward pass.

    J = d eps_hat / d x_t = sqrt(1 - alpha_bar[t]) (alpha_bar[t] cov + (1 - alpha_bar[t]) I)^-1,
    whatever the mean. With it by_x0_hat is the step x0_hat <- x0_hat + strength C g, where
    C = (1 - alpha_bar[t]) cov (alpha_bar[t] cov + (1 - alpha_bar[t]) I)^-1 is the covariance of x0
    given x_t.
    cov: number >= 0, the variance of every value in an image, or (D, D), the covariance of all D,
    or as `principal` gives it
    -> (x_t (N, ...), t int) -> eps_hat (N, ...) and the function g (N, ...) -> J^T g (N, ...)
    """
    lam, Q, rest = principal(cov)

    def eps_model_vjp(x_t, t):
        along = lambda var: (
            np.sqrt(1 - s.alpha_bar[t]) / (s.alpha_bar[t] * var + 1 - s.alpha_bar[t])
        )

        def vjp(g):  # J, which is symmetric, is never made: that would take D^3 multiplications
            flat = g.reshape(-1, len(Q))
            turned = flat @ Q * (along(lam) - along(rest)) @ Q.T + along(rest) * flat
            return turned.reshape(g.shape).astype(g.dtype)

        return eps_model(x_t, t), vjp

    return eps_model_vjp


def threshold(eps_model, s, share=0.995):
    """Keep strong guidance from burning out: scale each x0_hat back into [-1, 1].

    limit = max(1, the share-quantile of |x0_hat| in each image)
    x0_hat <- clip(x0_hat, -limit, limit) / limit;  eps_hat <- predict_eps(s, x_t, t, x0_hat)
    So an image of which only a few values exceed 1 has these clipped, and is otherwise unchanged.
    share: 0 .. 1, of the values in an image, all axes but the first
    -> eps_model: (x_t (N, ...), t int 1 .. T) -> eps_hat (N, ...) in x_t's precision
    Source: Saharia et al. 2022 (Imagen), dynamic thresholding.
    """

    def thresholded(x_t, t):
        x0_hat = predict_x0(s, x_t, t, eps_model(x_t, t))
        limit = np.quantile(np.abs(x0_hat), share, axis=tuple(range(1, x_t.ndim)), keepdims=True)
        limit = np.maximum(limit, 1).astype(x_t.dtype)
        return predict_eps(s, x_t, t, np.clip(x0_hat, -limit, limit) / limit)

    return thresholded
