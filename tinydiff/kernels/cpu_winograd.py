"""Convolution with a 3 x 3 window by Winograd's method: 36 multiplications instead of 144.

The idea, in one dimension: the product of two polynomials, one with 3 coefficients w and one with
4, g, has 6 coefficients, so its values at 6 points (0, 1, -1, 2, -2 and "infinity") determine it.
Evaluate both there, multiply the values, and go back: B [ (G w) * (A g) ], with three small
constant matrices. To convolve 6 pixels d into 4 is the transpose of this map with respect to g.
Along rows and along columns, for a tile of 4 x 4 output pixels and its patch d of 6 x 6 input
pixels, that is

    y = A^T [ (G w G^T) * (B^T d B) ] A         * element by element, at 6 x 6 points

Over channels, * becomes a matrix product at each of the 36 points, which the microkernel does. The
gradient of the weights goes the same way backwards:

    gw = G^T [ sum over tiles (B^T d B) * (A g A^T) ] G

Rounding errors grow by a factor of about 10 against the plain sum (1e-5 instead of 1e-6, relative,
in float32).
Source: Lavin & Gray 2016, F(4 x 4, 3 x 3), with its matrices.
"""

import numpy as np
from numba import prange

from .cpu_microkernel import (
    P,
    V,
    aligned,
    copy_row,
    empty,
    inline,
    jit,
    on_rows,
    parallel,
    sum_outer_products,
    whole_blocks,
)

# V channels lie side by side: arrays at the points are (C / V blocks, 36 points, TILES + 1, V). The
# last block is filled up with zeros; of its results what lies past the last channel is left out.
u = np.uint64
TILES = 16  # of 4 x 4 pixels, that a task takes to the points at once
S = TILES * V + V  # stride from point to point: the multiples of 2^k would share places in cache
ROW = 6 * V  # stride from row to row of a patch
PARTS = 8  # of conv2d_grad_w over many tiles: sums that tasks make side by side, however many cores
MANY = 64  # groups of tiles from which on such parts cost less than moving all points between cores


def _G(w0, w1, w2):
    """Multiply G by a column of a window: its values, as a quadratic polynomial, at the points.

    3 -> 6 numbers, scaled so that A and B stay whole.
    """
    ends, middle = (w0 + w2) * (-1 / 6), w1 * (1 / 6)
    ends2, middle2 = w0 * (1 / 24) + w2 * (1 / 6), w1 * (1 / 12)
    return w0 * (1 / 4), ends - middle, ends + middle, ends2 + middle2, ends2 - middle2, w2


def _G_back(m0, m1, m2, m3, m4, m5):
    """Multiply G^T by a column of values at the points: 6 -> 3 numbers."""
    sum1, sum2 = (m1 + m2) * (1 / 6), m3 + m4
    return (
        m0 * (1 / 4) - sum1 + sum2 * (1 / 24),
        (m2 - m1) * (1 / 6) + (m3 - m4) * (1 / 12),
        sum2 * (1 / 6) - sum1 + m5,
    )


def _B(d0, d1, d2, d3, d4, d5):
    """Multiply B^T by a column of a patch: 6 -> 6 numbers."""
    even, odd, even2, odd2 = d4 - 4 * d2, d3 - 4 * d1, d4 - d2, 2 * (d3 - d1)
    return (
        4 * d0 - 5 * d2 + d4,
        even + odd,
        even - odd,
        even2 + odd2,
        even2 - odd2,
        4 * d1 - 5 * d3 + d5,
    )


def _A(g0, g1, g2, g3):
    """Multiply A by a column of a tile: its values, as a cubic polynomial, at the points.

    4 -> 6 numbers.
    """
    even, odd, even2, odd2 = g0 + g2, g1 + g3, g0 + 4 * g2, 2 * g1 + 8 * g3
    return g0, even + odd, even - odd, even2 + odd2, even2 - odd2, g3


def _A_back(m0, m1, m2, m3, m4, m5):
    """Multiply A^T by a column of values at the points: 6 -> 4 numbers."""
    sum1, difference1, sum2, difference2 = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    return (
        m0 + sum1 + sum2,
        difference1 + 2 * difference2,
        sum1 + 4 * sum2,
        difference1 + 8 * difference2 + m5,
    )


_G_rows, _G_back_rows, _B_rows = on_rows(_G, 3), on_rows(_G_back, 6), on_rows(_B, 6)
_A_rows, _A_back_rows = on_rows(_A, 4), on_rows(_A_back, 6)

# The functions below handle V channels of a patch or tile as one flat array of pixels, (6, 6, V),
# where they apply a transform along the rows, then along the columns.


@jit
def scratch(size, dtype):
    """Make a flat array for a task's own use, which begins with a line of the cache."""
    return aligned(np.empty(size + 64 // 4, dtype))


@jit
def _span(first, size, all):
    """Find which of `size` places from `first` on lie within 0 .. all - 1: begin, end"""
    return max(0, -first), min(size, all - first)


@jit
def _patch_to_points(x, n, i, j, c0, patch, out, start):
    """Do B^T d B for the 6 x 6 pixels d of x from row i and column j on, 0 outside.

    The value at point p goes to out[start + p S + channel]. patch: place for 6 x 6 pixels
    """
    _, H, W, C = x.shape
    for r in range(6):
        first, last = _span(j, 6, W if 0 <= i + r < H else 0)
        x0 = ((n * H + i + r) * W + j) * C + c0
        _B_rows(V, patch, r * ROW, V, 6, x, x0, C, first, last)
    for k in range(6):
        _B_rows(V, out, start + k * S, 6 * S, 6, patch, k * V, ROW, 0, 6)


@jit
def _tile_to_points(g, n, i, j, o0, patch, out, start):
    """Do A g A^T for the 4 x 4 pixels of g from row i and column j on, 0 outside.

    The value at point p goes to out[start + p S + channel]. patch: place for 4 x 6 pixels
    """
    _, H, W, O = g.shape
    for r in range(4):
        first, last = _span(j, 4, W if i + r < H else 0)
        if O - o0 >= V:
            g0 = ((n * H + i + r) * W + j) * O + o0
            _A_rows(V, patch, r * ROW, V, 6, g, g0, O, first, last)
        else:
            patch[r * ROW : (r + 1) * ROW] = 0
            for q in range(first, last):
                for o in range(O - o0):
                    patch[r * ROW + q * V + o] = g[n, i + r, j + q, o0 + o]
            _A_rows(V, patch, r * ROW, V, 6, patch, r * ROW, V, 0, 4)
    for k in range(6):
        _A_rows(V, out, start + k * S, 6 * S, 6, patch, k * V, ROW, 0, 4)


@jit
def _points_to_tile(values, start, tile, add, y, n, i, j, o0):
    """Do A^T m A for the values at the points, a tile of 4 x 4 pixels.

    What lies inside the image is written to y from (n, i, j) on, plus add, unless that is empty.
    tile: place for 4 x 6 pixels
    """
    _, H, W, O = y.shape
    for k in range(6):
        _A_back_rows(V, tile, k * V, ROW, 4, values, start + k * S, 6 * S, 0, 6)
    columns = min(4, W - j)
    for r in range(min(4, H - i)):
        if O - o0 >= V:
            y0 = ((n * H + i + r) * W + j) * O + o0
            _A_back_rows(V, y, y0, O, columns, tile, r * ROW, V, 0, 6)
        else:
            _A_back_rows(V, tile, r * ROW, V, 4, tile, r * ROW, V, 0, 6)
            for q in range(columns):
                for o in range(O - o0):
                    y[n, i + r, j + q, o0 + o] = tile[r * ROW + q * V + o]
        for q in range(columns if add.size else 0):
            h, w = (i + r, j + q) if add.shape[1] == H else (0, 0)
            for o in range(min(V, O - o0)):
                y[u(n), u(i + r), u(j + q), u(o0 + o)] += add[u(n), u(h), u(w), u(o0 + o)]


@jit
def _blocks(channels):
    """Count the blocks of V channels, the last one filled up with zeros."""
    return (channels + V - 1) // V


@jit
def grid(H, W):
    """Count the rows and columns of tiles that cover an image, also beyond its last pixels."""
    return (H + 3) // 4, (W + 3) // 4


@jit
def _place(tile, H, W):
    """Find a tile: image, first row, first column."""
    rows, columns = grid(H, W)
    return tile // (rows * columns), 4 * (tile // columns % rows), 4 * (tile % columns)


@inline
def _sum_over_channels(tiles, d, d0, CB, w, w0, m, m0):
    """At a point, make `tiles` x V numbers of m: sums over CB blocks of V input channels."""
    sum_outer_products(
        tiles, V, fresh=1, I=CB, n=V, y=m, y0=m0, y_p=V,
        a=d, a0=d0, a_p=V, a_i=36 * S, a_k=1, b=w, b0=w0, b_i=V * V, b_k=V,
    )  # fmt: skip


@parallel
def _conv2d(x, border, w, tiles, y):
    """Convolve. x: (N, H + 2 border, W + 2 border, C); w: as weights_to_points gives it"""
    for task in prange((tiles + TILES - 1) // TILES):
        first, add = task * TILES, np.empty((0, 0, 0, 0), x.dtype)
        _conv_tiles(x, border, w, first, min(TILES, tiles - first), add, y)


@jit
def conv_images(x, w, add, y):
    """Convolve a few images within one task, and add something.

    x: (N, H, W, C); w: as weights_to_points gives it; add: (N, H, W, O) or (N, 1, 1, O)
    y: (N, H, W, O), which is filled -> None
    """
    N, H, W, _ = x.shape
    rows, columns = grid(H, W)
    tiles = N * rows * columns
    for first in range(0, tiles, TILES):
        _conv_tiles(x, 0, w, first, min(TILES, tiles - first), add, y)


@jit
def _conv_tiles(x, border, w, first, count, add, y):
    """Convolve up to TILES tiles, from `first` on."""
    (_, H, W, O), C = y.shape, x.shape[3]
    CB, OB, first_pixel = C // V, _blocks(O), border - 1
    d, m = scratch(CB * 36 * S, x.dtype), scratch(OB * 36 * S, x.dtype)
    patch = scratch(6 * ROW, x.dtype)
    for q in range(count):
        n, i, j = _place(first + q, H, W)
        for cb in range(CB):
            d0 = cb * 36 * S + q * V
            _patch_to_points(x, n, i + first_pixel, j + first_pixel, cb * V, patch, d, d0)
    for point in range(36):
        for ob in range(OB):
            w0 = point * w.shape[1] + ob * CB * V * V
            d0, m0 = point * S, (ob * 36 + point) * S
            for q in range(0, count - count % P, P):
                _sum_over_channels(P, d, d0 + q * V, CB, w, w0, m, m0 + q * V)
            for q in range(count - count % P, count):
                _sum_over_channels(1, d, d0 + q * V, CB, w, w0, m, m0 + q * V)
    for q in range(count):
        n, i, j = _place(first + q, H, W)
        for ob in range(OB):
            _points_to_tile(m, ob * 36 * S + q * V, patch, add, y, n, i, j, ob * V)


@jit
def _both_to_points(x, border, g, tiles, group, patch, d, d0, e, e0):
    """Take a group of TILES tiles to the points.

    Patches of x go to d from d0 on, tiles of g to e from e0 on.
    """
    (_, H, W, O), C = g.shape, x.shape[3]
    CB, OB, first_pixel = C // V, _blocks(O), border - 1
    count = min(TILES, tiles - group * TILES)
    if count < TILES:  # places without a tile must not count
        d[d0 : d0 + CB * 36 * S], e[e0 : e0 + OB * 36 * S] = 0, 0
    for q in range(count):
        n, i, j = _place(group * TILES + q, H, W)
        for cb in range(CB):
            to = d0 + cb * 36 * S + q * V
            _patch_to_points(x, n, i + first_pixel, j + first_pixel, cb * V, patch, d, to)
        for ob in range(OB):
            to = e0 + ob * 36 * S + q * V  # where g is 0 it adds nothing
            _tile_to_points(g, n, i, j, ob * V, patch, e, to)


@jit
def _sum_over_tiles(d, e, point, groups, CB, OB, gw, gw0):
    """Add to gw at a point, (C, OB, 36, V) from gw0 on, the sum over all tiles of d times e."""
    for ob in range(OB):
        e0 = (ob * 36 + point) * S
        for c in range(0, CB * V, P):
            d0, at = (c // V * 36 + point) * S + c % V, gw0 + ((c * OB + ob) * 36 + point) * V
            sum_outer_products(
                P, V, fresh=0, I=groups, n=TILES, y=gw, y0=at, y_p=OB * 36 * V,
                a=d, a0=d0, a_p=1, a_i=CB * 36 * S, a_k=V,
                b=e, b0=e0, b_i=OB * 36 * S, b_k=V,
            )  # fmt: skip


@parallel
def _grad_w_of_few(x, border, g, tiles, groups, d, e, gw):
    """Share the tiles among tasks, then the points: one sum for each weight."""
    CB, OB = x.shape[3] // V, _blocks(g.shape[3])
    for group in prange(groups):
        patch = scratch(6 * ROW, x.dtype)
        d0, e0 = group * CB * 36 * S, group * OB * 36 * S
        gw[0, group * CB * V // groups : (group + 1) * CB * V // groups] = 0
        _both_to_points(x, border, g, tiles, group, patch, d, d0, e, e0)
    for point in prange(36):
        _sum_over_tiles(d, e, point, groups, CB, OB, gw, 0)


@parallel
def _grad_w_of_many(x, border, g, tiles, groups, gw):
    """Share the tiles among tasks, each with sums of its own.

    What is at the points stays in a core's cache.
    """
    CB, OB = x.shape[3] // V, _blocks(g.shape[3])
    for part in prange(len(gw)):
        d, e = scratch(CB * 36 * S, x.dtype), scratch(OB * 36 * S, x.dtype)
        patch = scratch(6 * ROW, x.dtype)
        gw[part] = 0
        for group in range(part, groups, len(gw)):
            _both_to_points(x, border, g, tiles, group, patch, d, 0, e, 0)
            for point in range(36):
                _sum_over_tiles(d, e, point, 1, CB, OB, gw, part * CB * V * OB * 36 * V)


@parallel
def _weights_to_points(w, start, steps, C, O, out):
    """Do G w G^T for every pair of channels.

    w: flat, the element i, j, c, o at start + i steps[0] + j steps[1] + c steps[2] + o steps[3]
    out: (36, stride), of which _conv2d reads (blocks of O, C, V) in whole blocks
    """
    CB, OB = _blocks(C), _blocks(O)
    for c in prange(CB * V):
        window, half = scratch(3 * ROW, w.dtype), scratch(6 * ROW, w.dtype)
        for ob in range(OB):
            channels = min(V, O - ob * V) if c < C else 0
            w0, to = start + c * steps[2] + ob * V * steps[3], (ob * CB * V + c) * V
            for i in range(3):
                for j in range(3):
                    at, m = w0 + i * steps[0] + j * steps[1], i * ROW + j * V
                    if channels == V and steps[3] == 1:
                        copy_row(V, window, m, w, at)
                    else:
                        for v in range(V):
                            window[m + v] = w[at + v * steps[3]] if v < channels else 0
            for j in range(3):
                _G_rows(V, half, j * V, ROW, 6, window, j * V, ROW, 0, 3)
            for i in range(6):
                step = out.shape[1]
                _G_rows(V, out, 6 * i * step + to, step, 6, half, i * ROW, V, 0, 3)


@parallel
def _points_to_weights(gw, out):
    """Do G^T gw G for every pair of channels, gw being the sum of its parts.

    gw: (parts, C, blocks of O, 36 V) in whole blocks -> out: (3, 3, C, O)
    """
    _, _, C, O = out.shape
    for c in prange(C):
        full, half = scratch(6 * ROW, gw.dtype), scratch(3 * ROW, gw.dtype)
        for ob in range(gw.shape[2]):
            for k in range(6 * ROW):
                full[u(k)] = gw[u(0), u(c), u(ob), u(k)]
            for part in range(1, gw.shape[0]):
                for k in range(6 * ROW):
                    full[u(k)] += gw[u(part), u(c), u(ob), u(k)]
            for j in range(6):
                _G_back_rows(V, half, j * V, ROW, 3, full, j * V, ROW, 0, 6)
            for i in range(3):
                to = i * ROW
                _G_back_rows(V, half, to, V, 3, half, to, V, 0, 6)
                for j in range(3):
                    for v in range(min(V, O - ob * V)):
                        out[u(i), u(j), u(c), u(ob * V + v)] = half[u(to + j * V + v)]


def fits(C, O, K, H, W):
    """Say whether the method pays, given the sizes of a convolution. ints -> bool

    It takes a 3 x 3 window, a block of channels to sum over, and few pixels added to make tiles
    whole.
    """
    rows, columns = grid(H, W)
    return K == 3 and C >= V and 16 * rows * columns < 1.4 * H * W


def _in_memory(w):
    """Find the numbers of w (3, 3, C, O), also of a window that was turned: flat, start, steps"""
    (_, _, C, O) = w.shape
    turned = w[::-1, ::-1].swapaxes(2, 3)
    if turned.flags.c_contiguous and not w.flags.c_contiguous:
        return turned.reshape(-1), 8 * C * O, (-3 * C * O, -C * O, 1, C)
    return np.ascontiguousarray(w).reshape(-1), 0, (3 * C * O, C * O, O, 1)


def conv2d(x, w, padding):
    """Convolve, as reference.conv2d, one float type.

    x: (N, H, W, C), with "zeros" outside, or (N, H + 2, W + 2, C) where padding is "done";
    w: (3, 3, C, O) -> (N, H, W, O)
    """
    border = int(padding == "done")
    N, H, W = x.shape[0], x.shape[1] - 2 * border, x.shape[2] - 2 * border
    (rows, columns), y = grid(H, W), empty((N, H, W, w.shape[3]), x.dtype)
    _conv2d(whole_blocks(x), border, weights_to_points(w), N * rows * columns, y)
    return y


def weights_to_points(w):
    """Do G w G^T for every pair of channels, in the order in which a convolution reads them.

    w: (3, 3, C, O) -> (36, numbers per point)
    """
    C, O = w.shape[2:]
    # A line more between the points: at a distance of 2^k they would drive one another out of cache
    points = empty((36, (_blocks(O) * _blocks(C) * V + 1) * V), w.dtype)
    _weights_to_points(*_in_memory(w), C, O, points)
    return points


def conv2d_grad_w(x, g, padding):
    """Correlate, as reference.conv2d_grad_w, one float type.

    x and padding: as for conv2d; g: (N, H, W, O) -> (3, 3, C, O)
    """
    C, O, (rows, columns) = x.shape[3], g.shape[3], grid(*g.shape[1:3])
    tiles, CB, OB = len(g) * rows * columns, _blocks(C), _blocks(O)
    groups = (tiles + TILES - 1) // TILES
    gw = empty((PARTS if groups >= MANY else 1, CB * V, OB, 36 * V), x.dtype)
    args = whole_blocks(x), int(padding == "done"), np.ascontiguousarray(g), tiles, groups
    if not tiles:
        gw[:] = 0
    if groups >= MANY:
        _grad_w_of_many(*args, gw)
    else:
        d, e = (empty((groups * blocks * 36 * S,), x.dtype) for blocks in (CB, OB))
        _grad_w_of_few(*args, d, e, gw)
    out = np.empty((3, 3, C, O), x.dtype)
    _points_to_weights(gw, out)
    return out
