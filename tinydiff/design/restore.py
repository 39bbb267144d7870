"""Restoration: a picture is small, grey, blurred or noisy; draw what it may have been.

It must be known how it became so. One model that draws such pictures serves for all degradations:
nothing is trained for the task. A degradation is linear, y = A(x0) + sigma_y noise, and here A is
three small matrices, one for each axis of an image: `shrink`, `blur` and `grey` make them,
`degrade` multiplies by them. `project` holds to a y without noise; `log_p_gradient`, used by
guide.by_x0_hat, weighs a noisy y against what the model believes.
"""

import math
from functools import reduce

import numpy as np

from .. import guide
from ..diffusion import predict_eps, predict_x0


def shrink(size, channels, k):
    """Make the matrices that shrink a picture: every block of k x k pixels becomes its mean.

    rows[i, j] = columns[i, j] = 1 / k if j // k == i else 0
    size: pixels per side, H = W, divisible by k; k = 1 leaves the picture as it is, k = size leaves
    one pixel -> rows (H/k, H), columns (W/k, W), channels (C, C)
    """
    means = np.repeat(np.eye(size // k), k, axis=1) / k
    return means, means, np.eye(channels)


def blur(size, channels, std):
    """Make the matrices that blur with a Gaussian window, first down, then across.

    y[i] = sum_j w[j] x[i + j], w[j] = exp(-j^2 / (2 std^2)) / their sum, j = -size .. size
    Beyond the edge the picture is mirrored, the edge pixel included.
    size: pixels per side, H = W; std: in pixels, > 0
    -> rows (H, H), columns (W, W), channels (C, C)
    """
    j = np.arange(-size, size + 1)
    w = np.exp(-(j**2) / (2 * std**2))
    # row i + size of `mirrored` says which pixel stands at i
    mirrored = np.pad(np.eye(size), ((size, size), (0, 0)), "symmetric")
    rows = np.stack([w @ mirrored[i : i + len(j)] for i in range(size)]) / w.sum()
    return rows, rows, np.eye(channels)


def grey(size, channels, weights=None):
    """Make the matrices that take the colour away: a weighted mean of the channels is left.

    size: pixels per side, H = W; weights: one per channel, adding up to 1; None = equal weights
    -> rows (H, H), columns (W, W), channels (1, C)
    """
    mean = np.full((1, channels), 1 / channels) if weights is None else np.array([weights])
    return np.eye(size), np.eye(size), mean


def enlarge(y, size, channels):
    """Repeat pixels and channels until a degraded picture is as large as a whole one.

    y: (N, h, w, c), h and w dividing size, c dividing channels -> (N, H, W, C), H = W = size
    """
    for axis, length in ((1, size), (2, size), (3, channels)):
        y = y.repeat(length // y.shape[axis], axis)
    return y


def degrade(A, x):
    """Multiply an image by one matrix along each axis, as a degradation does.

    y[n, h, w, c] = sum_{i, j, k} rows[h, i] columns[w, j] channels[c, k] x[n, i, j, k]
    A: three matrices, rows (h, H), columns (w, W), channels (c, C); x: (N, H, W, C)
    -> y (N, h, w, c), x's precision
    With [M.T for M in A] in A's place it is the adjoint, with [pinv(M) for M in A] the
    pseudo-inverse.
    """
    return np.einsum("hi,wj,ck,nijk->nhwc", *A, x, optimize=True).astype(x.dtype)


def covariance(images):
    """Measure how the values of an image vary together, over a set: what guidance takes for `cov`.

    cov[i, j] = sum_m (x[m, i] - mean_i) (x[m, j] - mean_j) / (M - 1), x[m] an image as one row
    images: (M, ...), M >= 2 -> (D, D)
    """
    return np.cov(images.reshape(len(images), -1).T)


def principal(images, most=512):
    """Measure the covariance of images that have too many values for (D, D): its largest part.

    The directions are those in which the images vary most; in all others the variance counts as
    the same, the mean of what is left (probabilistic principal component analysis). Directions in
    which they do not vary, as where pictures repeat, are left out.
    images: (M, ...), M >= 2; most: directions, at most half of M
    -> lam (r,), Q (D, r), rest, as guide.principal has them
    Source: Tipping & Bishop 1999, equations 7 and 8.
    """
    x = images.reshape(len(images), -1).astype(np.float64)
    x -= x.mean(0)
    M, D = x.shape
    lam, u = np.linalg.eigh(x @ x.T / (M - 1))  # x^T x has the same
    total, some = lam.sum(), np.flatnonzero(lam > 1e-6 * lam[-1])[-min(most, M // 2, D - 1) :]
    lam, u = lam[some], u[:, some]
    Q = x.T @ u / np.sqrt((M - 1) * lam)
    return lam, Q, max(0.0, total - lam.sum()) / (D - len(lam))


def log_p_gradient(s, y, A, sigma_y, cov):
    """Make what guide.by_x0_hat wants of a degraded picture y: the gradient of log p(y | x_t).

    It is taken with respect to x0_hat. As if x0 were N(x0_hat, C) given x_t,
    C = (1 - alpha_bar[t]) cov (alpha_bar[t] cov + (1 - alpha_bar[t]) I)^-1,
    y is N(A x0_hat, A C A^T + sigma_y^2 I), and the gradient
    A^T (A C A^T + sigma_y^2 I)^-1 (y - A x0_hat)
    y: (N, h, w, c), or (1, h, w, c) for all; A: rows (h, H), columns (w, W), channels (c, C);
    sigma_y > 0: standard deviation of y's noise; cov: the data's, as in guide.assume_gaussian
    -> (x0_hat (N, H, W, C), t int) -> (N, H, W, C)
    Exact for Gaussian data with that cov; the first step then makes ridge regression's guess of x0
    from y. Source: Song et al. 2023 (pseudo-inverse guidance), where cov is a number.
    """
    whole = [M.shape[1] for M in A]
    lam, Q, rest = guide.principal(cov, math.prod(whole))
    turns, lengths = zip(*[np.linalg.svd(M, full_matrices=False)[:2] for M in A], strict=True)
    A = [turn.T @ M for turn, M in zip(turns, A, strict=True)]  # y turned, too: A A^T is diagonal
    y = degrade([turn.T for turn in turns], np.asarray(y, np.float64))
    squares = reduce(np.kron, [length**2 for length in lengths])  # (m,), its diagonal
    seen = degrade(A, Q.T.reshape(len(lam), *whole)).reshape(len(lam), len(squares)).T  # (m, r)

    def uphill(x0_hat, t):
        x0_hat = np.asarray(x0_hat)  # copied from the GPU, if the kernels run there
        C = lambda var: (1 - s.alpha_bar[t]) * var / (s.alpha_bar[t] * var + 1 - s.alpha_bar[t])
        more = np.maximum(C(lam) - C(rest), 0)
        away = y - degrade(A, x0_hat)
        flat = away.reshape(len(away), -1).T
        pull = _solve(C(rest) * squares + sigma_y**2, seen * np.sqrt(more), flat)
        return degrade([M.T for M in A], pull.T.reshape(away.shape)).astype(x0_hat.dtype)

    return uphill


def _solve(diagonal, B, v):
    """Solve (diag(diagonal) + B B^T) z = v. diagonal: (m,); B: (m, r); v: (m, N) -> z (m, N)

    With fewer columns than rows by Woodbury's formula, which solves for r unknowns.
    """
    m, r = B.shape
    if m <= r:
        return np.linalg.solve(B @ B.T + np.diag(diagonal), v)
    scaled, z = B / diagonal[:, None], v / diagonal[:, None]
    return z - scaled @ np.linalg.solve(np.eye(r) + B.T @ scaled, B.T @ z)


def project(eps_model, s, y, A, A_pinv):
    """Make a model whose images agree with a degraded picture y without noise, for any sampler.

    x0_hat <- x0_hat + A_pinv(y - A(x0_hat)), x0_hat = predict_x0(s, x_t, t, eps_model(x_t, t));
    eps_hat follows from the new x0_hat
    A: a linear map of images (N, ...); A_pinv: its pseudo-inverse, so that only what A sees is
    changed: where A takes the mean of 2 x 2 pixels, or of the channels, A_pinv repeats it;
    y: A(images) without noise
    -> eps_model: (x_t (N, ...), t int 1 .. T) -> eps_hat (N, ...); the last step of a sampler
    returns x0_hat, so A(x0) = y to rounding
    Like a single round of inpaint this is not exact conditioning: the rest feels y only through
    x_t. Source: Wang et al. 2023 (DDNM).
    """

    def agreeing(x_t, t):
        x0_hat = predict_x0(s, x_t, t, eps_model(x_t, t))
        return predict_eps(s, x_t, t, x0_hat + A_pinv(y - A(x0_hat)))

    return agreeing
