"""Convolution straight from its definition, its sums done by the microkernel.

The sums over the window are sums of outer products. A block of the microkernel has P rows, pixels
(forward) or input channels (gradient of the weights), and V columns, output channels.
"""

import numpy as np
from numba import prange

from .cpu_microkernel import P, V, inline, jit, parallel, sum_outer_products

PARTS = 16  # of conv2d_grad_w: enough for many cores to share
# Multiply-adds: below, about 30 microseconds, waking the other threads costs more than they save.
ALONE = 1 << 21


@inline
def _sum_over_window(pixels, x, x0, row, C, w, w0, K, y, y0, O):
    """Make `pixels` neighbours x V channels of y: under each of K rows of the window, K C terms."""
    sum_outer_products(
        pixels, V, fresh=1, I=K, n=K * C, y=y, y0=y0, y_p=O,
        a=x, a0=x0, a_p=C, a_i=row, a_k=1, b=w, b0=w0, b_i=K * C * V, b_k=V,
    )  # fmt: skip


def _conv(decorate, name):
    """Compile a convolution that makes P pixels x V channels at a time.

    x: (N, H + K - 1, row), a row being the channels of its W + K - 1 pixels, one after the other,
    so that the K pixels under one row of the window are K C contiguous numbers;
    w: (O / V, K, K C, V); y: (N, H, W, O)
    """

    def conv(x, w, y):
        (N, H, W, O), (_, H2, row) = y.shape, x.shape
        K, C = w.shape[1], w.shape[2] // w.shape[1]
        for strip in prange(N * H):
            x0, y0 = (strip // H * H2 + strip % H) * row, strip * W * O
            for o in range(w.shape[0]):
                w0, yo = o * K * K * C * V, y0 + o * V
                for p in range(0, W - W % P, P):
                    _sum_over_window(P, x, x0 + p * C, row, C, w, w0, K, y, yo + p * O, O)
                for p in range(W - W % P, W - W % 2, 2):
                    _sum_over_window(2, x, x0 + p * C, row, C, w, w0, K, y, yo + p * O, O)
                for p in range(W - W % 2, W):
                    _sum_over_window(1, x, x0 + p * C, row, C, w, w0, K, y, yo + p * O, O)

    # Numba's cache tells functions apart by name, line and closure, but not by parallel=True.
    conv.__qualname__ = name
    return decorate(conv)


_conv_together, _conv_alone = _conv(parallel, "_conv_together"), _conv(jit, "_conv_alone")


@inline
def _sum_over_rows(channels, x, x0, W2, C, g, g0, rows, W, O, parts, at):
    """Add to `channels` x V weights the sum over `rows` rows of W pixels."""
    sum_outer_products(
        channels, V, fresh=0, I=rows, n=W, y=parts, y0=at, y_p=O,
        a=x, a0=x0, a_p=1, a_i=W2 * C, a_k=C, b=g, b0=g0, b_i=W * O, b_k=O,
    )  # fmt: skip


@parallel
def _grad_w(x, g, parts):
    """Sum P input channels x V output channels at a time over a few rows of an image.

    Each part is the sum over some of the images, made by one task: the parts do not depend on the
    number of threads.
    """
    (S, K, _, C, O), (N, H, W, _), (H2, W2) = parts.shape, g.shape, x.shape[1:3]
    few = max(1, 64 // W)  # rows: what the nearest cache holds while all weights visit them
    for s in prange(S):
        for n in range(s, N, S):
            for h in range(0, H, few):
                rows, g0 = min(few, H - h), (n * H + h) * W * O
                for i in range(K):
                    for j in range(K):
                        x0, w0 = ((n * H2 + h + i) * W2 + j) * C, ((s * K + i) * K + j) * C * O
                        for o in range(0, O, V):
                            go, wo = g0 + o, w0 + o
                            for c in range(0, C - C % P, P):
                                at = wo + c * O
                                _sum_over_rows(P, x, x0 + c, W2, C, g, go, rows, W, O, parts, at)
                            for c in range(C - C % P, C):
                                at = wo + c * O
                                _sum_over_rows(1, x, x0 + c, W2, C, g, go, rows, W, O, parts, at)


def _whole_blocks(a):
    """Pad a's last axis with zeros to whole blocks: (..., O) -> contiguous (..., multiple of V)"""
    missing = -a.shape[-1] % V
    if missing:
        a = np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, missing)])
    return np.ascontiguousarray(a)


def conv2d(x, w):
    """Convolve, as reference.conv2d, one float type.

    x: (N, H + K - 1, W + K - 1, C), padded; w: (K, K, C, O) -> (N, H, W, O)
    """
    (N, H2, W2, C), K, O = x.shape, w.shape[0], w.shape[3]
    w = _whole_blocks(w).reshape(K, K * C, -1, V)
    panels = np.ascontiguousarray(w.transpose(2, 0, 1, 3))  # (O / V, K, K C, V), as they are read
    y = np.empty((N, H2 - K + 1, W2 - K + 1, len(panels) * V), x.dtype)
    conv = _conv_alone if y.size * K * K * C < ALONE else _conv_together
    conv(np.ascontiguousarray(x).reshape(N, H2, W2 * C), panels, y)
    return np.ascontiguousarray(y[..., :O])


def conv2d_grad_w(x, g):
    """Correlate, as reference.conv2d_grad_w, one float type.

    x: (N, H + K - 1, W + K - 1, C), padded; g: (N, H, W, O) -> (K, K, C, O)
    """
    K, C, O = x.shape[1] - g.shape[1] + 1, x.shape[3], g.shape[3]
    g = _whole_blocks(g)
    parts = np.zeros((min(PARTS, len(x)), K, K, C, g.shape[3]), x.dtype)
    _grad_w(np.ascontiguousarray(x), g, parts)
    return parts.sum(0)[..., :O]
