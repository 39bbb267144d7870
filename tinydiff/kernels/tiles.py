"""One product of matrices, tile by tile, and three uses of it: matmul, a convolution, the gradient of its weights.

    y[z, i, j] = sum over outer in part z, and over inner, of A(outer, i, inner) B(outer, inner, j)

                  y          i                  j    outer             inner          z
    matmul        a b        row                o    matrix of many    c              the same matrix
    conv2d        x * w      pixel n, h, w      o    element of window c              one part: all of them
    grad of w     x * g      element and c      o    line n, h         w              several parts, summed up afterwards

A convolution is a product with a matrix of shifted pixels ("im2col") that is never written down: A reads it from the image ("implicit
GEMM"). Each number of a tile is read from memory once and used by a whole block of threads, from the fast memory that these share; each
thread holds PER x PER sums in registers, so that 2 PER reads of shared memory pay for PER^2 multiply-adds.
"""

import numpy as np

from . import device
from .device import ZERO, cuda

BLOCK = (4, 2, 4) if device.SIMULATED else (16, 4, 16)  # threads along each side of a block; PER; how deep a tile is
PARTS = 3 if device.SIMULATED else 512  # blocks that a sum over many lines is worth


def product(a_at, b_at, down_the_rows, block):
    """Compile the kernel above. a_at(a, outer, i, inner, sizes), b_at(b, outer, inner, j): one element of A, of B

    down_the_rows: whether neighbours in memory are neighbours in i, or in inner; block: see BLOCK -> kernel
    """
    side, per, depth = block
    width, threads = side * per, side * side
    a_at, b_at = cuda.jit(device=True)(a_at), cuda.jit(device=True)(b_at)

    @cuda.jit
    def kernel(a, b, outers, inners, sizes, y):
        """A block fills width x width of y; its threads fetch tiles together, neighbours in memory side by side, then multiply them."""
        Z, I, J = y.shape
        tile_a = cuda.shared.array((depth, width + 1), a.dtype)  # + 1: the rows begin in different banks of the shared memory
        tile_b = cuda.shared.array((depth, width + 1), a.dtype)
        sums = cuda.local.array((per, per), a.dtype)
        tx, ty, z = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockIdx.z
        i0, j0, t = cuda.blockIdx.x * width, cuda.blockIdx.y * width, cuda.threadIdx.y * side + cuda.threadIdx.x
        for r in range(per):
            for s in range(per):
                sums[r, s] = ZERO
        share = (outers + Z - 1) // Z
        for outer in range(z * share, min(outers, (z + 1) * share)):
            for first in range(0, inners, depth):
                for n in range(t, depth * width, threads):
                    k, r = (n // width, n % width) if down_the_rows else (n % depth, n // depth)
                    fits = i0 + r < I and first + k < inners
                    tile_a[k, r] = a_at(a, outer, i0 + r, first + k, sizes) if fits else ZERO
                    k, r = n // width, n % width
                    fits = j0 + r < J and first + k < inners
                    tile_b[k, r] = b_at(b, outer, first + k, j0 + r) if fits else ZERO
                cuda.syncthreads()
                for k in range(depth):
                    for r in range(per):
                        for s in range(per):
                            sums[r, s] += tile_a[k, ty + r * side] * tile_b[k, tx + s * side]
                cuda.syncthreads()
        for r in range(per):
            for s in range(per):
                i, j = i0 + ty + r * side, j0 + tx + s * side
                if i < I and j < J:
                    y[z, i, j] = sums[r, s]

    return kernel


@cuda.jit(device=True)
def _pixel(x, line, w, element, c, sizes):
    """What element of a window sees whose middle is at line n H + h, column w: x[n, h + element // K - K // 2, ...], 0 or wrapped outside."""
    H, W, _, K, circular = sizes
    h, w = line % H + element // K - K // 2, w + element % K - K // 2
    if circular:
        h, w = h % H, w % W
    elif h < 0 or h >= H or w < 0 or w >= W:
        return ZERO
    return x[line // H, h, w, c]


def _conv_a(x, element, row, c, sizes):
    return _pixel(x, row // sizes[1], row % sizes[1], element, c, sizes)


def _grad_w_a(x, line, row, w, sizes):
    return _pixel(x, line, w, row // sizes[2], row % sizes[2], sizes)


def _matmul_a(a, matrix, row, c, sizes):
    return a[matrix, row, c]


def _b(b, outer, inner, j):
    return b[outer, inner, j]


_matmul, _conv2d = product(_matmul_a, _b, False, BLOCK), product(_conv_a, _b, False, BLOCK)
_conv2d_grad_w = product(_grad_w_a, _b, True, BLOCK)


def _launch(kernel, a, b, outers, inners, sizes, y):
    (side, per, _), (Z, I, J) = BLOCK, y.shape
    if min(I, J, Z):
        kernel[(-(-I // (side * per)), -(-J // (side * per)), Z), (side, side)](a, b, outers, inners, sizes, y)


def fit(fits, name, *arrays):
    """Stop shapes that don't fit before a kernel, which would read and write past the ends of arrays."""
    if not fits:
        raise ValueError(f"{name}: shapes do not fit: " + ", ".join(str(a.shape) for a in arrays))


def alike(*arrays):
    """Bring arrays to the device, and to one precision."""
    arrays = [device.array(a) for a in arrays]
    dtype = np.result_type(*(a.dtype for a in arrays))
    return [a.astype(dtype) for a in arrays]


def matmul(a, b):
    a, b = alike(a, b)
    fit(a.shape[-1] == b.shape[-2] and b.shape[:-2] in ((), a.shape[:-2]), "matmul", a, b)
    (C, O), rows = b.shape[-2:], a.size // a.shape[-1]
    L = rows if b.ndim == 2 else a.shape[-2]
    y = device.empty((*a.shape[:-1], O), a.dtype)
    _launch(_matmul, a.nd(-1, L, C), b.nd(-1, C, O), rows // L, C, (), y.nd(-1, L, O))
    return y


def conv2d(x, w, padding):
    x, w = alike(x, w)
    (N, H, W, C), (K, _, _, O) = x.shape, w.shape
    fit(w.shape[:3] == (K, K, C) and K % 2 == 1, "conv2d", x, w)
    y = device.empty((N, H, W, O), x.dtype)
    _launch(_conv2d, x.nd(*x.shape), w.nd(K * K, C, O), K * K, C, (H, W, C, K, padding == "circular"), y.nd(1, N * H * W, O))
    return y


def conv2d_grad_w(x, g, K, padding):
    x, g = alike(x, g)
    (N, H, W, C), O = x.shape, g.shape[3]
    fit(x.shape[:3] == g.shape[:3] and K % 2 == 1, "conv2d_grad_w", x, g)
    tiles = -(-K * K * C // (BLOCK[0] * BLOCK[1])) * -(-O // (BLOCK[0] * BLOCK[1]))
    parts = device.empty((min(N * H, max(1, PARTS // tiles)), K, K, C, O), x.dtype)
    sizes = (H, W, C, K, padding == "circular")
    _launch(_conv2d_grad_w, x.nd(*x.shape), g.nd(N * H, W, O), N * H, W, sizes, parts.nd(-1, K * K * C, O))
    return parts.sum(0)
