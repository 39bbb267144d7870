"""Normalisation on the CPU: alone, with SiLU, and in one piece with the convolution that follows.

Arithmetic is cheap beside memory: an image is taken from there once, and what is made of it stays
in a core's cache as long as something is still to be done with it. A residual block then takes two
passes over memory instead of six; on the way back what is added to a gradient comes with it.
"""

from math import exp

import numpy as np
from numba import prange, types
from numba.extending import overload

from .cpu_microkernel import jit, parallel
from .cpu_winograd import TILES, conv_images, grid, scratch

u, ONE = np.uint64, np.float32(1)


def _exp(x):
    """Give e^x inside compiled loops: in float64 the C library's, in float32 the one below.

    That one LLVM vectorises: about 4 times faster.
    """


@overload(_exp)
def _exp_overload(x):
    if x == types.float64:
        return lambda x: exp(x)

    def exp32(x):
        # e^x = 2^k e^r with whole k and |r| <= ln(2) / 2.
        # Coefficients of the polynomial for e^r: Cephes library, expf.
        f = np.float32
        x = min(max(x, f(-87.0)), f(88.0))
        k = np.floor(x * f(1.44269504) + f(0.5))
        r = x - k * f(0.693359375) + k * f(2.12194440e-4)
        p = (f(1.9875691500e-4) * r + f(1.3981999507e-3)) * r + f(8.3334519073e-3)
        p = ((p * r + f(4.1665795894e-2)) * r + f(1.6666665459e-1)) * r
        p = (p + f(5.0000001201e-1)) * r * r + r + f(1)
        exponent = np.int32((np.int32(k) + np.int32(127)) << np.int32(23))
        return p * exponent.view(np.float32)  # times 2^k

    return exp32


@parallel
def norm(x, scale, shift, eps, with_silu, y, mean, rstd):
    """Fill y, (N, L, C), mean and rstd, (N, G), from x, (N, L, C): reference.group_norm -> None"""
    for n in prange(len(x)):
        _norm(x[n], scale, shift, eps, with_silu, y[n], mean[n], rstd[n])


@jit
def _norm(x, scale, shift, eps, with_silu, y, mean, rstd):
    L, C = x.shape
    # Of arrays made here LLVM knows that they overlap no other, and vectorises.
    m, r = np.zeros(C, x.dtype), np.zeros(C, x.dtype)
    for i in range(L):
        for c in range(C):
            m[u(c)] += x[u(i), u(c)]
    _per_group(m, mean, L)
    for i in range(L):
        for c in range(C):
            r[u(c)] += (x[u(i), u(c)] - m[u(c)]) ** 2
    _per_group(r, rstd, L)
    for k in range(len(rstd)):
        rstd[k] = 1 / np.sqrt(rstd[k] + eps)
    for c in range(C):
        r[c] = scale[c] / np.sqrt(r[c] + eps)
        m[c] = shift[c] - m[c] * r[c]  # y = silu(r x + m)
    for i in range(L):
        for c in range(C):
            v = r[u(c)] * x[u(i), u(c)] + m[u(c)]
            y[u(i), u(c)] = v / (ONE + _exp(-v)) if with_silu else v


@jit
def _per_group(per_channel, out, count):
    """Average sums over channels into means over groups, and give each channel its group's."""
    G, size = out.size, per_channel.size // out.size
    for k in range(G):
        total = per_channel[k * size]
        for c in range(1, size):
            total += per_channel[k * size + c]
        out[k] = total / (count * size)
        per_channel[k * size : (k + 1) * size] = out[k]


@parallel
def norm_grad(g, x, scale, shift, mean, rstd, with_silu, add, y, gx, gscale, gshift):
    """Fill gx, (N, L, C), gscale and gshift, (N, C): reference.group_norm_grad per image -> None

    Beside it: add `add`, (N, L or 1, C), to gx; fill y, (N, L or 0, C), with the norm's output.
    """
    for n in prange(len(x)):
        of_n = g[n], x[n], scale, shift, mean[n], rstd[n]
        _norm_grad(*of_n, with_silu, add[n], y[n], gx[n], gscale[n], gshift[n])


@jit
def _norm_grad(g, x, scale, shift, mean, rstd, with_silu, add, y, gx, gscale, gshift):
    L, C = x.shape
    size = C // len(mean)
    m, r = np.empty(C, x.dtype), np.empty(C, x.dtype)
    w, b = np.empty(C, x.dtype), np.empty(C, x.dtype)
    sum_g, sum_gx = np.zeros(C, x.dtype), np.zeros(C, x.dtype)
    group = np.empty(len(mean), x.dtype)
    for c in range(C):
        m[c], r[c], w[c], b[c] = mean[c // size], rstd[c // size], scale[c], shift[c]
    for i in range(L):  # gx holds the gradient at silu's input until the last pass
        for c in range(C):
            x_hat = (x[u(i), u(c)] - m[u(c)]) * r[u(c)]
            v = x_hat * w[u(c)] + b[u(c)]
            sigma = ONE / (ONE + _exp(-v))
            gv = g[u(i), u(c)] * (sigma * (ONE + v * (ONE - sigma)) if with_silu else ONE)
            gx[u(i), u(c)] = gv
            sum_g[u(c)] += gv
            sum_gx[u(c)] += gv * x_hat
            if y.size:
                y[u(i), u(c)] = v * sigma
    for c in range(C):
        gshift[c], gscale[c] = sum_g[c], sum_gx[c]
        sum_g[c] *= w[c]
        sum_gx[c] *= w[c]
    _per_group(sum_g, group, L)
    _per_group(sum_gx, group, L)
    for i in range(L):
        a = u(i if len(add) > 1 else 0)
        for c in range(C):
            x_hat = (x[u(i), u(c)] - m[u(c)]) * r[u(c)]
            g_hat = w[u(c)] * gx[u(i), u(c)]
            gv = r[u(c)] * (g_hat - sum_g[u(c)] - x_hat * sum_gx[u(c)])
            gx[u(i), u(c)] = gv + add[a, u(c)]


@jit
def _images(H, W):
    """Count the images that a task takes at once: whole ones, together about TILES tiles."""
    rows, columns = grid(H, W)
    return max(1, TILES // max(1, rows * columns))


def has_work(N, H, W):
    """Say whether norm_conv finds tasks for several cores: number and sides of images -> bool"""
    return N // _images(H, W) >= 8


@parallel
def norm_conv(x, scale, shift, eps, w, add, y, mean, rstd):
    """Fill y, (N, H, W, O), mean and rstd, (N, G): reference.norm_conv with zeros outside -> None

    x: (N, H, W, C), C a multiple of V; w: at the points, as cpu_winograd.weights_to_points gives it
    """
    N, H, W, C = x.shape
    images = _images(H, W)
    for task in prange((N + images - 1) // images):
        first, count = task * images, min(images, N - task * images)
        z = scratch(images * H * W * C, x.dtype)[: count * H * W * C].reshape(count, H, W, C)
        for k in range(count):
            n = first + k
            of_n = x[n].reshape(H * W, C), scale, shift, eps, True, z[k].reshape(H * W, C)
            _norm(*of_n, mean[n], rstd[n])
        conv_images(z, w, add[first : first + count], y[first : first + count])
