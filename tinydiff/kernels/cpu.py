"""The reference with its hot kernels replaced by Numba: compiled loops, spread over all cores.

What is not redefined here is NumPy's, because a measurement said that NumPy is as good. Four habits
repeat below:
- work is split over images or rows (`prange`), each task writing its own part of the result: no
  races, and the same bits whatever the order of the tasks;
- indices in inner loops are unsigned (`u`): Numba wraps negative indices, and that test would keep
  LLVM from vectorising;
- sizes of blocks are constants, so that LLVM unrolls the loops over a block;
- constants beside float32 numbers are float32 (`ONE`): with a Python integer Numba would go on in
  float64, half as fast.
Compiled loops do not check their indices, so each kernel checks its shapes first (`_require`).
Convolutions are in files of their own: cpu_microkernel.py, the innermost loop; cpu_direct.py;
cpu_winograd.py, with fewer multiplications.
"""

import ctypes
import sys
from math import inf

import numpy as np
from numba import prange

from . import cpu_direct, cpu_microkernel, cpu_norm, cpu_winograd
from .cpu_microkernel import V, jit, parallel
from .cpu_norm import _exp
from .reference import *  # noqa: F403
from .reference import _require

# A training step frees what the next one allocates again. By default the C library gives freed
# memory back to the system, and getting it again costs a page fault for each 4 KB: a third of the
# time of a step. Where it is glibc, tell it not to.
if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 32 << 20)  # its largest value; bytes
    ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, 1 << 30)

u, ONE = np.uint64, np.float32(1)
MANY = 1 << 19  # numbers: to copy fewer, waking the other threads takes longer
PIECES = 64  # of a long sum, however many cores

# --- convolution ---


def pad(x, p, padding):
    if p == 0:
        return x
    N, H, W, C = x.shape
    _require(min(H, W) > 0, "pad", x)
    y = np.empty((N, H + 2 * p, W + 2 * p, C), x.dtype)
    _pad(np.ascontiguousarray(x), p, padding == "circular", y)
    return y


@parallel
def _pad(x, p, circular, y):
    (N, H, W, C), (_, H2, W2, _) = x.shape, y.shape
    for n in prange(N):
        for h in range(H2):
            for w in range(W2):
                inside = p <= h < H + p and p <= w < W + p
                i, j = (h - p) % H, (w - p) % W
                if inside or circular:
                    for c in range(C):
                        y[u(n), u(h), u(w), u(c)] = x[u(n), u(i), u(j), u(c)]
                else:
                    for c in range(C):
                        y[u(n), u(h), u(w), u(c)] = 0


def conv2d(x, w, padding):
    (_, H, W, C), K, O = x.shape, len(w), w.shape[-1]
    _require(w.shape[:-1] == (K, K, C) and K % 2 == 1, "conv2d", x, w)
    x, w = _alike(x, w)
    if cpu_direct.is_tiny(H, W, K, O):
        return cpu_direct.conv2d_tiny(x, w, padding)
    if cpu_winograd.fits(C, O, K, H, W):
        if padding == "circular":
            x, padding = pad(x, 1, padding), "done"
        return cpu_winograd.conv2d(x, w, padding)
    return cpu_direct.conv2d(pad(x, K // 2, padding), w)


def conv2d_grad_w(x, g, K, padding):
    (_, H, W, C), O = x.shape, g.shape[-1]
    _require(g.shape[:-1] == x.shape[:-1] and K % 2 == 1, "conv2d_grad_w", x, g)
    x, g = _alike(x, g)
    if cpu_direct.is_tiny(H, W, K, O):
        return cpu_direct.conv2d_grad_w_tiny(x, g, K, padding)
    if cpu_winograd.fits(C, O, K, H, W):
        if padding == "circular":
            x, padding = pad(x, 1, padding), "done"
        return cpu_winograd.conv2d_grad_w(x, g, padding)
    return cpu_direct.conv2d_grad_w(pad(x, K // 2, padding), g)


def _alike(a, b):
    """Bring two arrays to one type: the microkernel would read the bits of one as the other's."""
    dtype = np.result_type(a, b)
    return a.astype(dtype, copy=False), b.astype(dtype, copy=False)


def matmul(a, b):
    _require(b.ndim > 1 and a.shape[-1] == b.shape[-2] > 0, "matmul", a, b)
    if b.ndim > 2:
        return a @ b
    # As a 1 x 1 convolution: NumPy's threads would fight with Numba's.
    x, w = _alike(a.reshape(1, 1, -1, a.shape[-1]), b[None, None])
    return cpu_direct.conv2d(x, w).reshape(*a.shape[:-1], b.shape[1])


def down(x):
    N, H, W, C = x.shape
    _require(H % 2 == W % 2 == 0, "down", x)
    y = np.empty((N, H // 2, W // 2, C), x.dtype)
    _down(np.ascontiguousarray(x), y)
    return y


@parallel
def _down(x, y):
    N, H, W, C = y.shape
    for n in prange(N):
        for h in range(H):
            for w in range(W):
                for c in range(C):
                    i, j = u(2 * h), u(2 * w)
                    four = x[u(n), i, j, u(c)] + x[u(n), i, j + u(1), u(c)]
                    four = four + x[u(n), i + u(1), j, u(c)] + x[u(n), i + u(1), j + u(1), u(c)]
                    y[u(n), u(h), u(w), u(c)] = four / 4


def up(x):
    N, H, W, C = x.shape
    y = np.empty((N, 2 * H, 2 * W, C), x.dtype)
    _up(np.ascontiguousarray(x), y)
    return y


@parallel
def _up(x, y):
    N, H, W, C = y.shape
    for n in prange(N):
        for h in range(H):
            for w in range(W):
                for c in range(C):
                    y[u(n), u(h), u(w), u(c)] = x[u(n), u(h // 2), u(w // 2), u(c)]


# --- normalisation and non-linearities ---


def silu(x):
    y = np.empty_like(x, order="C")
    _silu(np.ascontiguousarray(x).reshape(-1), y.reshape(-1))
    return y


@jit
def _silu(x, y):
    for i in range(x.size):
        y[i] = x[i] / (ONE + _exp(-x[i]))


def silu_grad(g, x):
    _require(g.shape == x.shape, "silu_grad", g, x)
    y = np.empty_like(x, order="C")
    flat = [np.ascontiguousarray(a).reshape(-1) for a in (g, x)]
    _silu_grad(*flat, y.reshape(-1))
    return y


@jit
def _silu_grad(g, x, y):
    for i in range(x.size):
        sigma = ONE / (ONE + _exp(-x[i]))
        y[i] = g[i] * sigma * (ONE + x[i] * (ONE - sigma))


def group_norm(x, scale, shift, G, eps):
    return _norm("group_norm", x, scale, shift, G, eps)


def norm_silu(x, scale, shift, G, eps):
    return _norm("norm_silu", x, scale, shift, G, eps)


def _norm(name, x, scale, shift, G, eps):
    N, C = x.shape[0], x.shape[-1]
    _require(scale.shape == shift.shape == (C,) and C % G == 0, name, x, scale, shift)
    y = np.empty_like(x, order="C")
    mean, rstd = (np.empty((N, G), x.dtype) for _ in range(2))
    flat, y_flat = np.ascontiguousarray(x).reshape(N, -1, C), y.reshape(N, -1, C)
    eps, with_silu = x.dtype.type(eps), name == "norm_silu"
    cpu_norm.norm(flat, scale, shift, eps, with_silu, y_flat, mean, rstd)
    return y, mean, rstd


def group_norm_grad(g, x, scale, mean, rstd):
    return _norm_grad("group_norm_grad", g, x, scale, np.zeros_like(scale), mean, rstd)


def norm_silu_grad(g, x, scale, shift, mean, rstd):
    return _norm_grad("norm_silu_grad", g, x, scale, shift, mean, rstd)


def _norm_grad(name, g, x, scale, shift, mean, rstd, add=0, y=None):
    """Call the kernel of both gradients. add: (N, 1, 1, C) or as x, or 0; y: as x, or None"""
    N, C, G = x.shape[0], x.shape[-1], mean.shape[-1]
    fits = g.shape == x.shape and scale.shape == shift.shape == (C,)
    fits = fits and mean.shape == rstd.shape == (N, G) and G > 0 and C % G == 0
    _require(fits, name, g, x, scale, shift, mean, rstd)
    gx = np.empty_like(x, order="C")
    gscale, gshift = (np.empty((N, C), x.dtype) for _ in range(2))  # of each image
    add = np.zeros((N, 1, C), x.dtype) if np.ndim(add) == 0 else add
    y = np.empty((N, 0, C), x.dtype) if y is None else y
    flat = [np.ascontiguousarray(a).reshape(N, a.size // max(1, N * C), C) for a in (g, x, add, y)]
    g, x, add, y = flat
    args = scale, shift, mean, rstd, name == "norm_silu_grad", add, y
    cpu_norm.norm_grad(g, x, *args, gx.reshape(x.shape), gscale, gshift)
    return gx, gscale.sum(0), gshift.sum(0)


def norm_conv(x, scale, shift, w, add, padding, G, eps):
    (N, H, W, C), K, O = x.shape, len(w), w.shape[-1]
    fits = scale.shape == shift.shape == (C,) and C % G == 0 and w.shape == (K, K, C, O)
    fits = fits and K % 2 == 1 and add.shape in ((N, H, W, O), (N, 1, 1, O))
    _require(fits, "norm_conv", x, scale, shift, w, add)
    if padding != "zeros" or not _in_one_pass(x, w, add):
        y, mean, rstd = norm_silu(x, scale, shift, G, eps)
        return conv2d(y, w, padding) + add, mean, rstd
    y, (mean, rstd) = cpu_microkernel.empty((N, H, W, O), x.dtype), np.empty((2, N, G), x.dtype)
    arrays = np.ascontiguousarray(x), scale, shift, x.dtype.type(eps)
    points, add = cpu_winograd.weights_to_points(w), np.ascontiguousarray(add)
    cpu_norm.norm_conv(*arrays, points, add, y, mean, rstd)
    return y, mean, rstd


def norm_conv_grad(g, x, scale, shift, mean, rstd, w, add, padding, G, eps):
    (N, H, W, C), K, O = x.shape, len(w), w.shape[-1]
    fits = scale.shape == shift.shape == (C,) and w.shape == (K, K, C, O) and K % 2 == 1
    fits = fits and mean.shape == rstd.shape == (N, G) and C % G == 0
    add = np.zeros((N, 1, 1, C), x.dtype) if np.ndim(add) == 0 else add
    fits = fits and g.shape == (N, H, W, O) and add.shape in ((N, H, W, C), (N, 1, 1, C))
    _require(fits, "norm_conv_grad", g, x, scale, shift, mean, rstd, w, add)
    gy, y = conv2d(g, w[::-1, ::-1].swapaxes(2, 3), padding), np.empty(x.shape, x.dtype)
    norm = x, scale, shift, mean, rstd
    gx, gscale, gshift = _norm_grad("norm_silu_grad", gy, *norm, add, y)
    return gx, gscale, gshift, conv2d_grad_w(y, g, K, padding)


def _in_one_pass(x, w, other):
    """Say whether a norm and a convolution pay as one kernel: three arrays -> bool"""
    (N, H, W, C), K, O = x.shape, len(w), w.shape[-1]
    fits = cpu_winograd.fits(C, O, K, H, W) and not cpu_direct.is_tiny(H, W, K, O) and C % V == 0
    return x.dtype == w.dtype == other.dtype and fits and cpu_norm.has_work(N, H, W)


def attention(q, k, v):
    _require(q.shape == k.shape == v.shape and q.ndim == 3, "attention", q, k, v)
    out, root = np.empty_like(q, order="C"), q.dtype.type(q.shape[2] ** -0.5)
    _attention(*map(np.ascontiguousarray, (q, k, v)), root, out)
    return out


@jit
def _weights(q, kT, i, root, p):
    """Fill p, (L,), with softmax(q[i] k^T root)."""
    p[:] = 0
    for c in range(q.shape[1]):
        for j in range(p.size):
            p[u(j)] += q[i, u(c)] * kT[u(c), u(j)]
    top, total = p[0], q.dtype.type(0)
    for j in range(p.size):
        top = max(top, p[j])
    for j in range(p.size):
        p[j] = _exp(root * (p[j] - top))
        total += p[j]
    for j in range(p.size):
        p[j] /= total


@parallel
def _attention(q, k, v, root, out):
    N, L, C = q.shape
    for n in prange(N):
        kT = k[n].T.copy()
        p = np.empty(L, q.dtype)  # an image's weights, row by row: nothing of size (N, L, L)
        for i in range(L):
            _weights(q[n], kT, u(i), root, p)
            out[n, i] = 0
            for j in range(L):
                for c in range(C):
                    out[u(n), u(i), u(c)] += p[u(j)] * v[u(n), u(j), u(c)]


def attention_grad(g, q, k, v):
    fits = g.shape == q.shape == k.shape == v.shape and q.ndim == 3
    _require(fits, "attention_grad", g, q, k, v)
    gq, gk, gv = (np.zeros_like(q, order="C") for _ in range(3))
    root = q.dtype.type(q.shape[2] ** -0.5)
    _attention_grad(*map(np.ascontiguousarray, (g, q, k, v)), root, gq, gk, gv)
    return gq, gk, gv


@parallel
def _attention_grad(g, q, k, v, root, gq, gk, gv):
    N, L, C = q.shape
    for n in prange(N):
        kT, vT, p, gs = k[n].T.copy(), v[n].T.copy(), np.empty(L, q.dtype), np.empty(L, q.dtype)
        for i in range(L):
            _weights(q[n], kT, u(i), root, p)
            gs[:] = 0
            for c in range(C):
                for j in range(L):
                    gs[u(j)] += g[u(n), u(i), u(c)] * vT[u(c), u(j)]
            mean = q.dtype.type(0)
            for j in range(L):
                mean += p[j] * gs[j]
            for j in range(L):
                s = root * p[j] * (gs[j] - mean)
                for c in range(C):
                    gq[u(n), u(i), u(c)] += s * k[u(n), u(j), u(c)]
                    gk[u(n), u(j), u(c)] += s * q[u(n), u(i), u(c)]
                    gv[u(n), u(j), u(c)] += p[u(j)] * g[u(n), u(i), u(c)]


# --- joining ---


def concat(*xs):
    rows, size = xs[0].shape[:-1], sum(x.size for x in xs)
    if len(xs) != 2 or size < MANY or xs[0].dtype != xs[1].dtype or xs[1].shape[:-1] != rows:
        return np.concatenate(xs, axis=-1)
    flat = [np.ascontiguousarray(x).reshape(-1, x.shape[-1]) for x in xs]
    y = np.empty((len(flat[0]), size // len(flat[0])), xs[0].dtype)
    _concat(*flat, y)
    return y.reshape(*rows, -1)


@parallel
def _concat(a, b, y):
    for i in prange(len(y)):
        for c in range(a.shape[1]):
            y[u(i), u(c)] = a[u(i), u(c)]
        for c in range(b.shape[1]):
            y[u(i), u(a.shape[1] + c)] = b[u(i), u(c)]


# --- the optimiser ---


def update(theta, g, m, v, ema, k, lr, beta1, beta2, eps, decay, largest, keep):
    fits = theta.shape == g.shape == m.shape == v.shape == ema.shape and theta.ndim == 1
    _require(fits, "update", theta, g, m, v, ema)
    f, norm = theta.dtype.type, np.sqrt(_squares(g).sum())
    if np.isfinite(norm):
        scale = min(1, largest / max(norm, 1e-30))
        rates = scale, lr, beta1, beta2, eps, decay, keep
        rests = 1 - beta1, 1 - beta2, 1 - keep, 1 / (1 - beta1**k), 1 / (1 - beta2**k)
        _update(theta, g, m, v, ema, *(f(a) for a in (*rates, *rests)))
    return f(norm)


@parallel
def _squares(g):
    parts = np.zeros(PIECES)  # the same for any number of threads; a sum of them here would not be
    for piece in prange(PIECES):
        first, last = piece * g.size // PIECES, (piece + 1) * g.size // PIECES
        sums = np.zeros(8)  # side by side in vector registers: one sum would wait for each addition
        for i in range((last - first) // 8):
            for k in range(8):
                sums[k] += g[u(first + 8 * i) + u(k)] ** 2
        for i in range(last - (last - first) % 8, last):
            sums[0] += g[i] ** 2
        parts[piece] = sums.sum()
    return parts


@parallel
def _update(theta, g, m, v, ema, *rates):
    scale, lr, beta1, beta2, eps, decay, keep, rest1, rest2, rest, unbias1, unbias2 = rates
    for i in prange(theta.size):
        g[i] *= scale
        m[i] = beta1 * m[i] + rest1 * g[i]
        v[i] = beta2 * v[i] + rest2 * g[i] * g[i]
        theta[i] -= lr * (m[i] * unbias1 / (np.sqrt(v[i] * unbias2) + eps) + decay * theta[i])
        ema[i] = keep * ema[i] + rest * theta[i]


# --- the diffusion tower's own ---


def denoise_step(x_t, eps_hat, z, alpha_bar, c0, ct, std, clip):
    f, out = x_t.dtype.type, np.empty_like(x_t, order="C")
    arrays = [np.broadcast_to(a, x_t.shape) for a in (x_t, eps_hat, z)]  # refuses what doesn't fit
    flat = [np.ascontiguousarray(a, dtype=x_t.dtype).reshape(-1) for a in arrays]
    numbers = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar), c0, ct, std, clip
    _denoise_step(*flat, *(f(a) for a in numbers), out.reshape(-1))
    return out


@jit
def _denoise_step(x_t, eps_hat, z, root, sigma, c0, ct, std, clip, out):
    for i in range(x_t.size):
        x0_hat = (x_t[i] - sigma * eps_hat[i]) / root
        out[i] = c0 * min(max(x0_hat, -clip), clip) + ct * x_t[i] + std * z[i]


def posterior_mean(x_t, data, alpha_bar):
    fits = x_t.ndim == 2 and x_t.shape[1:] == data.shape[1:] and len(data) > 0
    _require(fits, "posterior_mean", x_t, data)
    f, out = x_t.dtype.type, np.empty_like(x_t, order="C")
    arrays = np.ascontiguousarray(x_t), np.ascontiguousarray(data, dtype=x_t.dtype)
    _posterior_mean(*arrays, f(np.sqrt(alpha_bar)), f(0.5 / (1 - alpha_bar)), out)
    return out


@jit
def _distance2(x_t, n, data, m, root, sums):
    D = x_t.shape[1]
    sums[:] = 0  # side by side in vector registers, as in _squares
    for d in range(D // 8):
        for k in range(8):
            i = u(8 * d) + u(k)
            sums[u(k)] += (x_t[n, i] - root * data[m, i]) ** 2
    for d in range(D // 8 * 8, D):
        sums[0] += (x_t[n, u(d)] - root * data[m, u(d)]) ** 2
    return sums.sum()


@parallel
def _posterior_mean(x_t, data, root, inverse, out):
    N, D = x_t.shape
    for n in prange(N):
        logits, sums = np.empty(len(data), x_t.dtype), np.empty(8, x_t.dtype)
        top = x_t.dtype.type(-inf)
        for m in range(len(data)):
            logits[m] = -_distance2(x_t, u(n), data, u(m), root, sums) * inverse
            top = max(top, logits[m])
        total = top * 0
        for d in range(D):
            out[n, d] = 0
        for m in range(len(data)):
            r = np.exp(logits[m] - top)
            if r > 0:
                total += r
                for d in range(D):
                    out[u(n), u(d)] += r * data[u(m), u(d)]
        for d in range(D):
            out[n, d] /= total
