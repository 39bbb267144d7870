"""The ladder of lesson 14: small kernels between a loop in Python and the fast ones.

Nothing in the package calls them. tests/bench/ladder.py times them beside cpu_direct and
cpu_winograd, whose ideas conv_blocked and winograd_row show: many sums at a time in registers, and
fewer multiplications.
"""

import numpy as np
from numba import njit, prange

# A block of conv_blocked, pixels x output channels: to Numba, global names are constants.
P, V = 8, 32
u, HALF = np.uint64, np.float32(0.5)
# One thread; a * b + c may become one instruction; no check for division by 0.
compiled = njit(fastmath={"contract"}, error_model="numpy")


def conv_cost(N, H, W, C, O, K):
    """Count a convolution's arithmetic, and the bytes it moves if every value is moved only once.

    A multiply-add is 2 FLOP (floating-point operations); y[n, h, w, o] takes K K C of them, padding
    included. x (N, H, W, C) and w (K, K, C, O) are read, y (N, H, W, O) is written; a float32 has
    4 bytes.
    N, H, W, C, O, K: ints -> FLOP, bytes: ints, whose quotient is the arithmetic intensity
    """
    flop = 2 * N * H * W * O * K * K * C
    return flop, 4 * (N * H * W * C + K * K * C * O + N * H * W * O)


def conv_loops(x, w, y):
    """Convolve as the formula says, one multiply-add at a time.

    y[n, h, q, o] = sum_{i, j, c} x[n, h + i, q + j, c] w[i, j, c, o]
    The loop over output channels is innermost: in w and y they are neighbours in memory.
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
    """Convolve block by block: sum P pixels of a row x V output channels in a small array.

    y[n, h, q, o] = sum_{i, j, c} x[n, h + i, q + j, c] w[i, j, c, o]
    A task (prange) is one of the N H rows of y. Within it, for each q = 0, P, .. and o = 0, V, ..:
    set the block (P, V) to 0; for each i, j, c, then v, then p (innermost) add
    x[n, h + i, q + p + j, c] w[i, j, c, o + v] to block[p, v]; copy the block to y, once.
    Indices are unsigned, as in x[u(n), u(h + i), ..]; the block has x's dtype.
    x: (N, H + K - 1, W + K - 1, C), padded; w: (K, K, C, O); y: (N, H, W, O), to be filled;
    P divides W, V divides O -> y
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
                                    pixel = x[u(n), u(h + i), u(q + p + j), u(c)]
                                    block[u(p), u(v)] += pixel * w[u(i), u(j), u(c), u(o + v)]
                for p in range(P):
                    for v in range(V):
                        y[u(n), u(h), u(q + p), u(o + v)] = block[u(p), u(v)]
    return y


@compiled
def winograd_row(d, w, y):
    """Slide a window of 3 along a row by Winograd's F(2, 3), with 4 multiplications for 2 results.

    y[q] = d[q] w[0] + d[q + 1] w[1] + d[q + 2] w[2]
    The definition takes 6 multiplications for a pair y[q], y[q + 1], q even. Here the pair is made
    of 4 products; their factors are d[q] - d[q + 2], d[q + 1] + d[q + 2], d[q + 2] - d[q + 1] and
    d[q + 1] - d[q + 3], each with what belongs to it of w, computed once, before the loop.
    float32 stays float32: the half is HALF.
    d: (L + 2,); w: (3,); y: (L,), to be filled, L even -> y
    Source: Winograd 1980; Lavin & Gray 2016.
    """
    plus, minus = (w[0] + w[1] + w[2]) * HALF, (w[0] - w[1] + w[2]) * HALF
    for q in range(0, y.size, 2):
        m0, m1 = (d[q] - d[q + 2]) * w[0], (d[q + 1] + d[q + 2]) * plus
        m2, m3 = (d[q + 2] - d[q + 1]) * minus, (d[q + 1] - d[q + 3]) * w[2]
        y[q], y[q + 1] = m0 + m1 + m2, m1 - m2 - m3
    return y
