"""The ladder: rungs between a loop in Python and the kernels that are used, small enough to be read and written in lesson 14.

Nothing in the package calls them. tests/bench/ladder.py times them beside kernels.direct and kernels.winograd, of which conv_blocked
and winograd_row are the ideas: many sums at a time in registers, and fewer multiplications.
"""

import numpy as np
from numba import njit, prange

P, V = (
    8,
    32,
)  # a block of conv_blocked, pixels x output channels: names outside a function are constants to Numba
u, HALF = np.uint64, np.float32(0.5)
compiled = njit(
    fastmath={"contract"}, error_model="numpy"
)  # one thread; a * b + c may be one instruction; no test for division by 0


def conv_cost(N, H, W, C, O, K):
    """Count what a convolution costs: its arithmetic, and the bytes to move if every number is moved only once.

    A multiply-add is 2 FLOP (floating-point operations); y[n, h, w, o] takes K K C of them, padding included.
    x (N, H, W, C) and w (K, K, C, O) are read, y (N, H, W, O) is written; a float32 has 4 bytes.
    N, H, W, C, O, K: ints -> FLOP, bytes: ints, whose quotient is the arithmetic intensity
    """
    flop = 2 * N * H * W * O * K * K * C
    return flop, 4 * (N * H * W * C + K * K * C * O + N * H * W * O)


def conv_loops(x, w, y):
    """Convolve as the formula says, one number at a time. Output channels are innermost: in w and y they are neighbours in memory.

    y[n, h, q, o] = sum_{i, j, c} x[n, h + i, q + j, c] w[i, j, c, o]
    x: (N, H + K - 1, W + K - 1, C), padded; w: (K, K, C, O); y: (N, H, W, O), to be filled -> y
    """
    (N, H, W, O), (K, _, C, _) = y.shape, w.shape
    for n in prange(N):
        for h in range(H):
            for q in range(W):
                for o in range(O):
                    y[n, h, q, o] = 0
                for i in range(K):
                    for j in range(K):
                        for c in range(C):
                            for o in range(O):
                                y[n, h, q, o] += x[n, h + i, q + j, c] * w[i, j, c, o]
    return y


@compiled
def conv_blocked(x, w, y):
    """Convolve block by block: P neighbours in a row x V output channels, summed up in a small array, then stored once.

    y[n, h, q, o] = sum_{i, j, c} x[n, h + i, q + j, c] w[i, j, c, o]
    A task (prange) is one of the N H rows of y. In it, for each q = 0, P, .. and o = 0, V, ..: set the block (P, V) to 0; for each
    i, j, c, then v, then p (innermost) add x[n, h + i, q + p + j, c] w[i, j, c, o + v] to block[p, v]; copy the block to y.
    Indices are unsigned, as in x[u(n), u(h + i), ..]; the block has x's dtype.
    x: (N, H + K - 1, W + K - 1, C), padded; w: (K, K, C, O); y: (N, H, W, O), to be filled; P divides W, V divides O -> y
    """
    (N, H, W, O), (K, _, C, _) = y.shape, w.shape
    for row in prange(N * H):
        n, h, block = row // H, row % H, np.empty((P, V), x.dtype)
        for q in range(0, W, P):
            for o in range(0, O, V):
                block[:] = 0
                for i in range(K):
                    for j in range(K):
                        for c in range(C):
                            for v in range(V):
                                for p in range(P):
                                    block[u(p), u(v)] += (
                                        x[u(n), u(h + i), u(q + p + j), u(c)]
                                        * w[u(i), u(j), u(c), u(o + v)]
                                    )
                for p in range(P):
                    for v in range(V):
                        y[u(n), u(h), u(q + p), u(o + v)] = block[u(p), u(v)]
    return y


@compiled
def winograd_row(d, w, y):
    """Slide a window of 3 along a row by Winograd's F(2, 3): 4 multiplications for 2 numbers, where the definition takes 6.

    y[q] = d[q] w[0] + d[q + 1] w[1] + d[q + 2] w[2], for pairs q, q + 1; with d0 .. d3 for d[q] .. d[q + 3]:
    m0 = (d0 - d2) w[0],  m1 = (d1 + d2) (w[0] + w[1] + w[2]) / 2,  m2 = (d2 - d1) (w[0] - w[1] + w[2]) / 2,  m3 = (d1 - d3) w[2]
    y[q] = m0 + m1 + m2,  y[q + 1] = m1 - m2 - m3
    The two halved sums are made once, before the loop. float32 stays float32: the half is HALF.
    d: (L + 2,); w: (3,); y: (L,), to be filled, L even -> y
    Source: Winograd 1980; Lavin & Gray 2016.
    """
    plus, minus = (w[0] + w[1] + w[2]) * HALF, (w[0] - w[1] + w[2]) * HALF
    for q in range(0, y.size, 2):
        m0, m1 = (d[q] - d[q + 2]) * w[0], (d[q + 1] + d[q + 2]) * plus
        m2, m3 = (d[q + 2] - d[q + 1]) * minus, (d[q + 1] - d[q + 3]) * w[2]
        y[q], y[q + 1] = m0 + m1 + m2, m1 - m2 - m3
    return y
