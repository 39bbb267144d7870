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

from .cpu_microkernel import P, V, copy_row, inline, jit, parallel, sum_outer_products

# V channels lie side by side: arrays at the points are (C / V blocks, 36 points, TILES, V).
u = np.uint64
TILES = 16  # of 4 x 4 pixels, that a task takes to the points at once
S = TILES * V  # stride from point to point
ROW = 6 * V  # stride from row to row of a patch
PARTS = 8  # of conv2d_grad_w over many tiles: sums that tasks make side by side, however many cores
MANY = 64  # groups of tiles from which on such parts cost less than moving all points between cores
# Constants beside float32 numbers are float32: with a Python integer Numba would go on in float64.
TWO, FOUR, FIVE, SIX, EIGHT, TWELVE, TWENTY_FOUR = map(np.float32, (2, 4, 5, 6, 8, 12, 24))


@inline
def _G(w0, w1, w2):
    """Multiply G by a column of a window: its values, as a quadratic polynomial, at the points.

    3 -> 6 numbers, scaled so that A and B stay whole.
    """
    ends, ends2 = -(w0 + w2) / SIX, w0 / TWENTY_FOUR + w2 / SIX
    return w0 / FOUR, ends - w1 / SIX, ends + w1 / SIX, ends2 + w1 / TWELVE, ends2 - w1 / TWELVE, w2


@inline
def _G_back(m0, m1, m2, m3, m4, m5):
    """Multiply G^T by a column of values at the points: 6 -> 3 numbers."""
    sum1, sum2 = m1 + m2, m3 + m4
    return (
        m0 / FOUR - sum1 / SIX + sum2 / TWENTY_FOUR,
        (m2 - m1) / SIX + (m3 - m4) / TWELVE,
        (sum2 - sum1) / SIX + m5,
    )


@inline
def _B(d0, d1, d2, d3, d4, d5):
    """Multiply B^T by a column of a patch: 6 -> 6 numbers."""
    even, odd, even2, odd2 = d4 - FOUR * d2, d3 - FOUR * d1, d4 - d2, TWO * (d3 - d1)
    return (
        FOUR * d0 - FIVE * d2 + d4,
        even + odd,
        even - odd,
        even2 + odd2,
        even2 - odd2,
        FOUR * d1 - FIVE * d3 + d5,
    )


@inline
def _A_back(m0, m1, m2, m3, m4, m5):
    """Multiply A^T by a column of values at the points: 6 -> 4 numbers."""
    sum1, difference1, sum2, difference2 = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    return (
        m0 + sum1 + sum2,
        difference1 + TWO * difference2,
        sum1 + FOUR * sum2,
        difference1 + EIGHT * difference2 + m5,
    )


@inline
def _A(g0, g1, g2, g3):
    """Multiply A by a column of a tile: its values, as a cubic polynomial, at the points.

    4 -> 6 numbers.
    """
    even, odd, even2, odd2 = g0 + g2, g1 + g3, g0 + FOUR * g2, TWO * g1 + EIGHT * g3
    return g0, even + odd, even - odd, even2 + odd2, even2 - odd2, g3


# The functions below handle V channels of a patch or tile as one flat array of pixels, (6, 6, V),
# where they apply a transform along the rows, then along the columns. They read and write at
# constant distances: only then does LLVM see that nothing overlaps.


@inline
def _six(a, i, step):
    """Read six numbers of a, `step` apart, from i on."""
    s = u(step)
    return a[i], a[i + s], a[i + u(2) * s], a[i + u(3) * s], a[i + u(4) * s], a[i + u(5) * s]


@inline
def _put_six(a, i, step, values):
    """Write six numbers to a, `step` apart, from i on."""
    s = u(step)
    a[i], a[i + s], a[i + u(2) * s] = values[0], values[1], values[2]
    a[i + u(3) * s], a[i + u(4) * s], a[i + u(5) * s] = values[3], values[4], values[5]


@jit
def _cut(x, n, i, j, c0, size, circular, patch):
    """Copy size x size pixels of x, from row i and column j on, into patch.

    Outside the image are zeros, or the image again.
    """
    _, H, W, C = x.shape
    for r in range(size):
        for q in range(size):
            h, w, m = i + r, j + q, r * ROW + q * V
            inside = 0 <= h < H and 0 <= w < W
            if circular and not inside:
                h, w, inside = h % H, w % W, True
            if inside:
                copy_row(V, y=patch, y0=m, a=x, a0=((n * H + h) * W + w) * C + c0)
            else:
                for c in range(V):
                    patch[u(m) + u(c)] = 0


@jit
def _patch_to_points(patch, out, start):
    """Do B^T d B for a patch of 6 x 6 pixels, changing it.

    The value at point p goes to out[start + p S + channel].
    """
    for r in range(6):
        for c in range(V):
            m = u(r * ROW) + u(c)
            d0, d1, d2, d3, d4, d5 = _six(patch, m, V)
            _put_six(patch, m, V, _B(d0, d1, d2, d3, d4, d5))
    for k in range(6):
        for c in range(V):
            m, o = u(k * V) + u(c), start + u(k * S) + u(c)
            d0, d1, d2, d3, d4, d5 = _six(patch, m, ROW)
            _put_six(out, o, 6 * S, _B(d0, d1, d2, d3, d4, d5))


@jit
def _tile_to_points(tile, out, start):
    """Do A g A^T for a tile of 4 x 4 pixels, changing it.

    The value at point p goes to out[start + p S + channel].
    """
    for r in range(4):
        for c in range(V):
            m = u(r * ROW) + u(c)
            a = _A(tile[m], tile[m + u(V)], tile[m + u(2 * V)], tile[m + u(3 * V)])
            _put_six(tile, m, V, a)
    for k in range(6):
        for c in range(V):
            m, o = u(k * V) + u(c), start + u(k * S) + u(c)
            a = _A(tile[m], tile[m + u(ROW)], tile[m + u(2 * ROW)], tile[m + u(3 * ROW)])
            _put_six(out, o, 6 * S, a)


@jit
def _points_to_tile(values, start, tile, y, n, i, j, o0):
    """Do A^T m A for the values at the points, a tile of 4 x 4 pixels.

    What lies inside the image is written to y from (n, i, j) on.
    """
    _, H, W, O = y.shape
    for k in range(6):
        for c in range(V):
            m, o = u(k * V) + u(c), start + u(k * S) + u(c)
            m0, m1, m2, m3, m4, m5 = _six(values, o, 6 * S)
            a = _A_back(m0, m1, m2, m3, m4, m5)
            tile[m], tile[m + u(ROW)], tile[m + u(2 * ROW)], tile[m + u(3 * ROW)] = a
    for r in range(min(4, H - i)):
        for c in range(V):
            m = u(r * ROW) + u(c)
            m0, m1, m2, m3, m4, m5 = _six(tile, m, V)
            a = _A_back(m0, m1, m2, m3, m4, m5)
            tile[m], tile[m + u(V)], tile[m + u(2 * V)], tile[m + u(3 * V)] = a
        for q in range(min(4, W - j)):
            yo = ((n * H + i + r) * W + j + q) * O + o0
            copy_row(V, y=y, y0=yo, a=tile, a0=r * ROW + q * V)


@jit
def _grid(H, W):
    """Count the rows and columns of tiles that cover an image, also beyond its last pixels."""
    return (H + 3) // 4, (W + 3) // 4


@jit
def _place(tile, H, W):
    """Find a tile: image, first row, first column."""
    rows, columns = _grid(H, W)
    return tile // (rows * columns), 4 * (tile // columns % rows), 4 * (tile % columns)


@inline
def _sum_over_channels(tiles, d, d0, CB, w, w0, m, m0):
    """At a point, make `tiles` x V numbers of m: sums over CB blocks of V input channels."""
    sum_outer_products(
        tiles, V, fresh=1, I=CB, n=V, y=m, y0=m0, y_p=V,
        a=d, a0=d0, a_p=V, a_i=36 * S, a_k=1, b=w, b0=w0, b_i=V * V, b_k=V,
    )  # fmt: skip


@parallel
def _conv2d(x, w, circular, tiles, y):
    (_, H, W, C), O = x.shape, y.shape[3]
    CB, OB = C // V, O // V
    for task in prange((tiles + TILES - 1) // TILES):
        first, count = task * TILES, min(TILES, tiles - task * TILES)
        d, m = np.empty(CB * 36 * S, x.dtype), np.empty(OB * 36 * S, x.dtype)
        patch = np.empty(6 * ROW, x.dtype)
        for q in range(count):
            n, i, j = _place(first + q, H, W)
            for cb in range(CB):
                _cut(x, n, i - 1, j - 1, cb * V, 6, circular, patch)
                _patch_to_points(patch, d, u(cb * 36 * S + q * V))
        for point in range(36):
            for ob in range(OB):
                w0, d0, m0 = (point * OB + ob) * C * V, point * S, (ob * 36 + point) * S
                for q in range(0, count - count % P, P):
                    _sum_over_channels(P, d, d0 + q * V, CB, w, w0, m, m0 + q * V)
                for q in range(count - count % P, count):
                    _sum_over_channels(1, d, d0 + q * V, CB, w, w0, m, m0 + q * V)
        for q in range(count):
            n, i, j = _place(first + q, H, W)
            for ob in range(OB):
                _points_to_tile(m, u(ob * 36 * S + q * V), patch, y, n, i, j, ob * V)


@jit
def _both_to_points(x, g, circular, tiles, group, patch, d, d0, e, e0):
    """Take a group of TILES tiles to the points.

    Patches of x go to d from d0 on, tiles of g to e from e0 on.
    """
    (_, H, W, O), C = g.shape, x.shape[3]
    count = min(TILES, tiles - group * TILES)
    if count < TILES:  # places without a tile must not count
        d[d0 : d0 + C * 36 * TILES], e[e0 : e0 + O * 36 * TILES] = 0, 0
    for q in range(count):
        n, i, j = _place(group * TILES + q, H, W)
        for cb in range(C // V):
            _cut(x, n, i - 1, j - 1, cb * V, 6, circular, patch)
            _patch_to_points(patch, d, u(d0 + cb * 36 * S + q * V))
        for ob in range(O // V):
            _cut(g, n, i, j, ob * V, 4, False, patch)  # where g is 0 it adds nothing
            _tile_to_points(patch, e, u(e0 + ob * 36 * S + q * V))


@jit
def _sum_over_tiles(d, e, point, groups, C, O, gw, gw0):
    """Add to gw at a point, (C, O) from gw0 on, the sum over all tiles of groups of d times e."""
    for ob in range(O // V):
        e0 = (ob * 36 + point) * S
        for c in range(0, C, P):
            d0, at = (c // V * 36 + point) * S + c % V, gw0 + (point * C + c) * O + ob * V
            sum_outer_products(
                P, V, fresh=0, I=groups, n=TILES, y=gw, y0=at, y_p=O,
                a=d, a0=d0, a_p=1, a_i=C * 36 * TILES, a_k=V,
                b=e, b0=e0, b_i=O * 36 * TILES, b_k=V,
            )  # fmt: skip


@parallel
def _grad_w_of_few(x, g, circular, tiles, groups, d, e, gw):
    """Share the tiles among tasks, then the points: one sum for each weight."""
    O, C = g.shape[3], x.shape[3]
    for group in prange(groups):
        patch = np.empty(6 * ROW, x.dtype)
        d0, e0 = group * C * 36 * TILES, group * O * 36 * TILES
        _both_to_points(x, g, circular, tiles, group, patch, d, d0, e, e0)
    for point in prange(36):
        _sum_over_tiles(d, e, point, groups, C, O, gw, 0)


@parallel
def _grad_w_of_many(x, g, circular, tiles, groups, gw):
    """Share the tiles among tasks, each with sums of its own.

    What is at the points stays in a core's cache.
    """
    O, C = g.shape[3], x.shape[3]
    for part in prange(len(gw)):
        d, e = np.empty(C * 36 * TILES, x.dtype), np.empty(O * 36 * TILES, x.dtype)
        patch = np.empty(6 * ROW, x.dtype)
        for group in range(part, groups, len(gw)):
            _both_to_points(x, g, circular, tiles, group, patch, d, 0, e, 0)
            for point in range(36):
                _sum_over_tiles(d, e, point, 1, C, O, gw, part * 36 * C * O)


@parallel
def _weights_to_points(w, out):
    """Do G w G^T for every pair of channels.

    w: (3, 3, C, O) -> out: (36, O / V, C, V), the order in which _conv2d reads it
    """
    for c in prange(w.shape[2]):
        half, full = np.empty(6 * ROW, w.dtype), np.empty(6 * ROW, w.dtype)
        for ob in range(out.shape[1]):
            for j in range(3):
                for v in range(V):
                    o, m = u(ob * V + v), u(j * V) + u(v)
                    a = _G(w[u(0), u(j), u(c), o], w[u(1), u(j), u(c), o], w[u(2), u(j), u(c), o])
                    _put_six(half, m, ROW, a)
            for i in range(6):
                for v in range(V):
                    m = u(i * ROW) + u(v)
                    a = _G(half[m], half[m + u(V)], half[m + u(2 * V)])
                    _put_six(full, m, V, a)
            for point in range(36):
                for v in range(V):
                    out[u(point), u(ob), u(c), u(v)] = full[u(point * V) + u(v)]


@parallel
def _points_to_weights(gw, out):
    """Do G^T gw G for every pair of channels, gw being the sum of its parts.

    gw: (parts, 36, C, O) -> out: (3, 3, C, O)
    """
    parts, _, C, O = gw.shape
    for c in prange(C):
        full, half = np.empty(6 * ROW, gw.dtype), np.empty(3 * ROW, gw.dtype)
        for ob in range(O // V):
            for point in range(36):
                for v in range(V):
                    full[u(point * V) + u(v)] = gw[u(0), u(point), u(c), u(ob * V + v)]
                for part in range(1, parts):
                    for v in range(V):
                        full[u(point * V) + u(v)] += gw[u(part), u(point), u(c), u(ob * V + v)]
            for j in range(6):
                for v in range(V):
                    m = u(j * V) + u(v)
                    m0, m1, m2, m3, m4, m5 = _six(full, m, ROW)
                    a = _G_back(m0, m1, m2, m3, m4, m5)
                    half[m], half[m + u(ROW)], half[m + u(2 * ROW)] = a
            for i in range(3):
                for v in range(V):
                    m = u(i * ROW) + u(v)
                    m0, m1, m2, m3, m4, m5 = _six(half, m, V)
                    a = _G_back(m0, m1, m2, m3, m4, m5)
                    half[m], half[m + u(V)], half[m + u(2 * V)] = a
                for j in range(3):
                    for v in range(V):
                        out[u(i), u(j), u(c), u(ob * V + v)] = half[u(i * ROW + j * V) + u(v)]


def fits(C, O, K, H, W):
    """Say whether the method pays, given the sizes of a convolution. ints -> bool

    It takes a 3 x 3 window, whole blocks of channels, and few pixels added to make tiles whole.
    """
    rows, columns = _grid(H, W)
    return K == 3 and C % V == 0 and O % V == 0 and 16 * rows * columns < 1.4 * H * W


def conv2d(x, w, padding):
    """Convolve, as reference.conv2d, one float type.

    x: (N, H, W, C); w: (3, 3, C, O) -> (N, H, W, O)
    """
    (N, H, W, C), O = x.shape, w.shape[3]
    rows, columns = _grid(H, W)
    points, y = np.empty((36, O // V, C, V), x.dtype), np.empty((N, H, W, O), x.dtype)
    _weights_to_points(np.ascontiguousarray(w), points)
    _conv2d(np.ascontiguousarray(x), points, padding == "circular", N * rows * columns, y)
    return y


def conv2d_grad_w(x, g, padding):
    """Correlate, as reference.conv2d_grad_w, one float type.

    x: (N, H, W, C); g: (N, H, W, O) -> (3, 3, C, O)
    """
    (N, H, W, O), C = g.shape, x.shape[3]
    rows, columns = _grid(H, W)
    tiles = N * rows * columns
    groups = (tiles + TILES - 1) // TILES
    gw = np.zeros((PARTS if groups >= MANY else 1, 36, C, O), x.dtype)
    args = np.ascontiguousarray(x), np.ascontiguousarray(g), padding == "circular", tiles, groups
    if groups >= MANY:
        _grad_w_of_many(*args, gw)
    else:
        d, e = (np.empty(groups * TILES * 36 * channels, x.dtype) for channels in (C, O))
        _grad_w_of_few(*args, d, e, gw)
    out = np.empty((3, 3, C, O), x.dtype)
    _points_to_weights(gw, out)
    return out
