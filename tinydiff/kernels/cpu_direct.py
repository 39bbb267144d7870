"""Convolution straight from its definition: the sums over the window are blocks of outer products, done by the microkernel.

Rows of a block are pixels (forward) or input channels (gradient of the weights), columns are output channels. P and V are here
the sizes of a block.
"""

import numpy as np
from llvmlite.binding import get_host_cpu_features
from numba import prange

from .cpu_microkernel import jit, parallel, sum_outer_products

V = 16  # columns of a block of the microkernel
P = 8 if get_host_cpu_features().get("avx512f") else 4  # rows: together with V, 8 vector registers
PARTS = 16  # of conv2d_grad_w: enough for many cores to share
ALONE = (
    1 << 21
)  # multiply-adds: below, about 30 microseconds, waking the other threads costs more than they save


def _conv(decorate, name):
    """Compile a convolution that makes P pixels x V channels at a time."""

    def conv(x, w, y):
        (N, H, W, O), (_, H2, row) = (
            y.shape,
            x.shape,
        )  # a row of x: its W + K - 1 pixels' channels, one after the other
        K, KC = (
            w.shape[1],
            w.shape[2],
        )  # the K pixels under one row of the window are K * C contiguous numbers of x
        C = KC // K
        for strip in prange(N * H):
            x0, y0 = (strip // H * H2 + strip % H) * row, strip * W * O
            for o in range(w.shape[0]):
                w0, yo = o * K * KC * V, y0 + o * V
                for p in range(0, W - W % P, P):
                    sum_outer_products(
                        P, V, 1, y, yo + p * O, O, x, x0 + p * C, C, row, 1, w, w0, KC * V, V, K, KC
                    )
                for p in range(W - W % P, W - W % 2, 2):
                    sum_outer_products(
                        2, V, 1, y, yo + p * O, O, x, x0 + p * C, C, row, 1, w, w0, KC * V, V, K, KC
                    )
                for p in range(W - W % 2, W):
                    sum_outer_products(
                        1, V, 1, y, yo + p * O, O, x, x0 + p * C, C, row, 1, w, w0, KC * V, V, K, KC
                    )

    conv.__qualname__ = name  # Numba's cache tells functions apart by name, line and closure, but not by parallel=True
    return decorate(conv)


_conv_together, _conv_alone = _conv(parallel, "_conv_together"), _conv(jit, "_conv_alone")


@parallel
def _grad_w(x, g, parts):
    """Sum P input channels x V output channels at a time over a few rows of an image.

    Each part is the sum over some of the images, made by one task: the parts don't depend on the number of threads.
    """
    (S, K, _, C, O), (N, H, W, _), (H2, W2) = parts.shape, g.shape, x.shape[1:3]
    rows = max(
        1, 64 // W
    )  # of an image: as much as the nearest cache holds while all weights visit it
    for s in prange(S):
        for n in range(s, N, S):
            for h in range(0, H, rows):
                I, g0 = min(rows, H - h), (n * H + h) * W * O
                for i in range(K):
                    for j in range(K):
                        x0, y0 = ((n * H2 + h + i) * W2 + j) * C, ((s * K + i) * K + j) * C * O
                        for o in range(0, O, V):
                            for c in range(0, C - C % P, P):
                                at = y0 + c * O + o
                                sum_outer_products(
                                    P,
                                    V,
                                    0,
                                    parts,
                                    at,
                                    O,
                                    x,
                                    x0 + c,
                                    1,
                                    W2 * C,
                                    C,
                                    g,
                                    g0 + o,
                                    W * O,
                                    O,
                                    I,
                                    W,
                                )
                            for c in range(C - C % P, C):
                                at = y0 + c * O + o
                                sum_outer_products(
                                    1,
                                    V,
                                    0,
                                    parts,
                                    at,
                                    O,
                                    x,
                                    x0 + c,
                                    1,
                                    W2 * C,
                                    C,
                                    g,
                                    g0 + o,
                                    W * O,
                                    O,
                                    I,
                                    W,
                                )


def _whole_blocks(a):
    """Give a's last axis a length of whole blocks, by appending zeros: (..., O) -> contiguous (..., multiple of V)"""
    missing = -a.shape[-1] % V
    return np.ascontiguousarray(
        np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, missing)]) if missing else a
    )


def conv2d(x, w):
    """Convolve, as reference.conv2d, one float type. x: (N, H + K - 1, W + K - 1, C), padded; w: (K, K, C, O) -> (N, H, W, O)"""
    (N, H2, W2, C), K, O = x.shape, w.shape[0], w.shape[3]
    w = _whole_blocks(w)
    panels = np.ascontiguousarray(
        w.reshape(K, K * C, -1, V).transpose(2, 0, 1, 3)
    )  # (O / V, K, K C, V): read in this order
    y = np.empty((N, H2 - K + 1, W2 - K + 1, w.shape[3]), x.dtype)
    conv = _conv_alone if y.size * K * K * C < ALONE else _conv_together
    conv(np.ascontiguousarray(x).reshape(N, H2, W2 * C), panels, y)
    return np.ascontiguousarray(y[..., :O])


def conv2d_grad_w(x, g):
    """Correlate, as reference.conv2d_grad_w, one float type. x: (N, H + K - 1, W + K - 1, C), padded; g: (N, H, W, O) -> (K, K, C, O)"""
    K, C, O = x.shape[1] - g.shape[1] + 1, x.shape[3], g.shape[3]
    g = _whole_blocks(g)
    parts = np.zeros((min(PARTS, len(x)), K, K, C, g.shape[3]), x.dtype)
    _grad_w(np.ascontiguousarray(x), g, parts)
    return parts.sum(0)[..., :O]
