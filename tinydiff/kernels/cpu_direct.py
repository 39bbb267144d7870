"""Convolution straight from its definition, its sums done by the microkernel.

The sums over the window are sums of outer products. A block of the microkernel has P rows, pixels
(forward) or input channels (gradient of the weights), and V columns, output channels.

In a tiny image, up to 2 x 2, most of the window lies outside. There a convolution is one matrix
product, of all pixels and channels in with all out: 16 products where the window takes 36.
"""

import numpy as np
from numba import prange

from .cpu_microkernel import P, V, inline, jit, parallel, sum_outer_products, whole_blocks

u = np.uint64
PARTS = 16  # of conv2d_grad_w: enough for many cores to share
# Multiply-adds: below, about 30 microseconds, waking the other threads costs more than they save.
ALONE = 1 << 21
TINY = 4  # pixels of an image


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


def conv2d(x, w):
    """Convolve, as reference.conv2d, one float type.

    x: (N, H + K - 1, W + K - 1, C), padded; w: (K, K, C, O) -> (N, H, W, O)
    """
    (N, H2, W2, C), K, O = x.shape, w.shape[0], w.shape[3]
    w = whole_blocks(w).reshape(K, K * C, -1, V)
    panels = np.ascontiguousarray(w.transpose(2, 0, 1, 3))
    y = np.empty((N, H2 - K + 1, W2 - K + 1, len(panels) * V), x.dtype)
    _convolve(np.ascontiguousarray(x), panels, y)
    return np.ascontiguousarray(y[..., :O])


def _convolve(x, panels, y):
    """Fill y, (N, H, W, O), from padded x and the weights in the order in which they are read.

    panels: (O / V, K, K C, V)
    """
    K, C = panels.shape[1], x.shape[3]
    if K == 1:  # pixels know no neighbours: rows of one length do for all images
        pixels = y.size // y.shape[3]
        W = next((W for W in (2 * P, P, 4, 2) if pixels % W == 0), pixels)
        x, y = x.reshape(-1, 1, W, C), y.reshape(-1, 1, W, y.shape[3])
    conv = _conv_alone if y.size * K * K * C < ALONE else _conv_together
    conv(x.reshape(*x.shape[:2], -1), panels, y)


def conv2d_grad_w(x, g):
    """Correlate, as reference.conv2d_grad_w, one float type.

    x: (N, H + K - 1, W + K - 1, C), padded; g: (N, H, W, O) -> (K, K, C, O)
    """
    K, C, O = x.shape[1] - g.shape[1] + 1, x.shape[3], g.shape[3]
    g = whole_blocks(g)
    parts = np.zeros((min(PARTS, len(x)), K, K, C, g.shape[3]), x.dtype)
    _grad_w(np.ascontiguousarray(x), g, parts)
    return parts.sum(0)[..., :O]


def is_tiny(H, W, K, O):
    """Say whether one matrix product does for images of these sizes: ints -> bool"""
    return H * W <= TINY and K > 1 and O % V == 0


@jit
def _spread(w, H, W, circular, panels):
    """Write what pixel and channel (h, w, c) adds to (i, j, o), as the panels of a 1 x 1 window.

    w: (K, K, C, O); panels: (H W O / V, H W C, V), zeros at first
    """
    K, C, O = w.shape[1], w.shape[2], w.shape[3]
    for i in range(H):
        for j in range(W):
            for k in range(K):
                for q in range(K):
                    h, v = i + k - K // 2, j + q - K // 2
                    if circular or (0 <= h < H and 0 <= v < W):
                        row, column = (h % H * W + v % W) * C, (i * W + j) * O // V
                        for ob in range(O // V):
                            for c in range(C):
                                for o in range(V):
                                    to = u(column + ob), u(row + c), u(o)
                                    panels[to] += w[u(k), u(q), u(c), u(ob * V + o)]


@jit
def _gather(gw, H, W, circular, out):
    """Add up, for each weight, the gradients of what _spread made of it.

    gw: (H W C, H W O); out: (K, K, C, O), zeros at first
    """
    K, C, O = out.shape[1], out.shape[2], out.shape[3]
    for i in range(H):
        for j in range(W):
            for k in range(K):
                for q in range(K):
                    h, v = i + k - K // 2, j + q - K // 2
                    if circular or (0 <= h < H and 0 <= v < W):
                        row, column = (h % H * W + v % W) * C, (i * W + j) * O
                        for c in range(C):
                            for o in range(O):
                                g = gw[u(row + c), u(column + o)]
                                out[u(k), u(q), u(c), u(o)] += g


@parallel
def _transposed_product(a, b, y):
    """Fill y with a^T b. a: (N, C); b: (N, O), O a multiple of V; y: (C, O)"""
    (N, C), O = a.shape, b.shape[1]
    for block in prange((C + P - 1) // P):
        first, last = block * P, min(C, block * P + P)
        for o in range(0, O, V):
            if last - first == P:
                _sum_over_images(P, a, first, C, b, o, N, y, first * O + o, O)
            else:
                for c in range(first, last):
                    _sum_over_images(1, a, c, C, b, o, N, y, c * O + o, O)


@inline
def _sum_over_images(channels, a, a0, C, b, b0, N, y, y0, O):
    sum_outer_products(
        channels, V, fresh=1, I=1, n=N, y=y, y0=y0, y_p=O,
        a=a, a0=a0, a_p=1, a_i=0, a_k=C, b=b, b0=b0, b_i=0, b_k=O,
    )  # fmt: skip


def conv2d_tiny(x, w, padding):
    """Convolve, as reference.conv2d, one float type, sizes for which is_tiny holds.

    x: (N, H, W, C); w: (K, K, C, O) -> (N, H, W, O)
    """
    (N, H, W, C), O = x.shape, w.shape[3]
    panels = np.zeros((H * W * O // V, 1, H * W * C, V), x.dtype)
    _spread(np.ascontiguousarray(w), H, W, padding == "circular", panels[:, 0])
    y = np.empty((N, H, W, O), x.dtype)
    flat = np.ascontiguousarray(x).reshape(N, 1, 1, -1)
    _convolve(flat, panels, y.reshape(N, 1, 1, -1))
    return y


def conv2d_grad_w_tiny(x, g, K, padding):
    """Correlate, as reference.conv2d_grad_w, one float type, sizes for which is_tiny holds.

    x: (N, H, W, C); g: (N, H, W, O) -> (K, K, C, O)
    """
    (N, H, W, C), O = x.shape, g.shape[3]
    gw, out = np.empty((H * W * C, H * W * O), x.dtype), np.zeros((K, K, C, O), x.dtype)
    flat = [np.ascontiguousarray(a).reshape(N, -1) for a in (x, g)]
    _transposed_product(*flat, gw)
    _gather(gw, H, W, padding == "circular", out)
    return out
