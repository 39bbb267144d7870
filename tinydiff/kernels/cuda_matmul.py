"""One tiled matrix product and its uses: matmul, convolution, the gradient of its weights.

    y[z, i, j] = sum over outer in part z, and over inner, of A(outer, i, inner) B(outer, inner, j)

               y      i              j  outer              inner  z
    matmul     a b    row            o  matrix of many     c      the same matrix
    conv2d     x * w  pixel n, h, w  o  element of window  c      one part: all of them
    grad of w  x * g  element and c  o  line n, h          w      several parts, summed afterwards

A convolution is a product with a matrix of shifted pixels ("im2col") that is never stored: A reads
it from the image ("implicit GEMM"). Each element of a tile is read from memory once and used by a
whole block of threads, from the fast memory that they share; each thread holds PER x PER sums in
registers, so that 2 PER reads of shared memory feed PER^2 multiply-adds.
"""

import numpy as np

from . import cuda_array
from .cuda_array import ZERO, cuda
from .reference import _require

# Threads along each side of a block; PER; depth of a tile.
BLOCK = (2, 4, 4) if cuda_array.SIMULATED else (16, 4, 16)
PARTS = 3 if cuda_array.SIMULATED else 512  # about how many blocks to split a long sum over


def _row_of(b, outer, inner, j, sizes):
    return b[outer, inner, j]


def product(of_row, of_outer, a_at, b_at, down_the_rows, block):
    """Compile the kernel of the product above.

    The position in memory of a row, and of an outer, is computed once, not for each element:
    of_row(i, sizes) -> three integers; of_outer(outer, sizes) -> two;
    a_at(a, row, pair, inner, sizes), given those -> A(outer, i, inner)
    b_at(b, outer, inner, j, sizes) -> B(outer, inner, j)
    down_the_rows: whether neighbours in memory are neighbours in i, or else in inner
    block: as BLOCK, with side a divisor of PER times depth -> kernel
    """
    side, per, depth = block
    width, threads = side * per, side * side
    # + 1: rows begin in different banks of the shared memory
    padded, fetches = width + 1, depth * width // threads
    functions = of_row, of_outer, a_at, b_at
    of_row, of_outer, a_at, b_at = (cuda.jit(device=True)(f) for f in functions)

    @cuda.jit
    def kernel(a, b, outers, inners, sizes, add, alike, y):
        """Fill width x width elements of y per block, plus add[i // alike] where alike > 0.

        Its threads fetch tiles together, neighbouring threads reading neighbouring elements, then
        multiply them.
        """
        Z, I, J = y.shape
        rows = cuda.shared.array((width, 3), np.int32)
        tile_a = cuda.shared.array((depth, padded), a.dtype)
        tile_b = cuda.shared.array((depth, padded), a.dtype)
        sums = cuda.local.array((per, per), a.dtype)
        tx, ty, z = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockIdx.z
        i0, j0, t = cuda.blockIdx.x * width, cuda.blockIdx.y * width, ty * side + tx
        for r in range(t, width, threads):
            rows[r, 0], rows[r, 1], rows[r, 2] = of_row(i0 + r, sizes)
        for r in range(per):
            for s in range(per):
                sums[r, s] = ZERO
        cuda.syncthreads()
        share = (outers + Z - 1) // Z
        # numba's own CUDA target has no min.
        end = (z + 1) * share if (z + 1) * share < outers else outers
        for outer in range(z * share, end):
            pair = of_outer(outer, sizes)
            for first in range(0, inners, depth):
                for fetch in range(fetches):
                    n = t + fetch * threads
                    k, r = (n // width, n % width) if down_the_rows else (n % depth, n // depth)
                    row, inner = (rows[r, 0], rows[r, 1], rows[r, 2]), first + k
                    fits = i0 + r < I and inner < inners
                    tile_a[k, r] = a_at(a, row, pair, inner, sizes) if fits else ZERO
                    k, r = n // width, n % width
                    inner, j = first + k, j0 + r
                    fits = j < J and inner < inners
                    tile_b[k, r] = b_at(b, outer, inner, j, sizes) if fits else ZERO
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
                    y[z, i, j] = sums[r, s] + add[i // alike, j] if alike else sums[r, s]

    return kernel


def _matmul(block):
    """Compile matmul: rows of a times columns of b; sizes: is a, is b transposed in memory.

    Neighbouring threads read neighbouring columns of both, where they are not.
    """

    def of_row(i, sizes):
        return i, 0, 0

    def of_matrix(matrix, sizes):
        return matrix, 0

    def a_at(a, row, matrix, c, sizes):
        return a[matrix[0], c, row[0]] if sizes[0] else a[matrix[0], row[0], c]

    def b_at(b, matrix, c, j, sizes):
        return b[matrix, j, c] if sizes[1] else b[matrix, c, j]

    return product(of_row, of_matrix, a_at, b_at, False, block)


@cuda.jit(device=True)
def _pixel(i, sizes):
    """Find pixel i -> n, h, w"""
    H, W = sizes[0], sizes[1]
    return i // (H * W), i // W % H, i % W


@cuda.jit(device=True)
def _shift(element, sizes):
    """Measure how far element i K + j of a window is from its centre -> down, right"""
    K = sizes[3]
    return element // K - K // 2, element % K - K // 2


@cuda.jit(device=True)
def _look(x, n, h, w, c, sizes):
    """Read x[n, h, w, c]; outside the image, read 0 or the image repeated."""
    H, W, circular = sizes[0], sizes[1], sizes[4]
    if circular:
        return x[n, h % H, w % W, c]
    return x[n, h, w, c] if 0 <= h < H and 0 <= w < W else ZERO


def _conv2d(block):
    """Compile the convolution: pixels times output channels.

    Neighbouring threads read neighbouring channels, of x and of w, unless w is to be turned.
    """

    def of_pixel(i, sizes):
        return _pixel(i, sizes)

    def of_element(element, sizes):
        return _shift(element, sizes)

    def a_at(x, pixel, shift, c, sizes):
        return _look(x, pixel[0], pixel[1] + shift[0], pixel[2] + shift[1], c, sizes)

    def b_at(w, element, c, j, sizes):
        return w[w.shape[0] - 1 - element, j, c] if sizes[5] else w[element, c, j]

    return product(of_pixel, of_element, a_at, b_at, False, block)


def _conv2d_grad_w(block):
    """Compile the gradient of the weights: rows (element, c) times output channels.

    The sum runs along lines of pixels. Neighbouring threads read neighbouring channels.
    """

    def of_row(i, sizes):
        down, right = _shift(i // sizes[2], sizes)
        return down, right, i % sizes[2]

    def of_line(line, sizes):
        return line // sizes[0], line % sizes[0]

    def a_at(x, weight, line, w, sizes):
        return _look(x, line[0], line[1] + weight[0], w + weight[1], weight[2], sizes)

    return product(of_row, of_line, a_at, _row_of, True, block)


MATMUL, CONV2D, CONV2D_GRAD_W = _matmul(BLOCK), _conv2d(BLOCK), _conv2d_grad_w(BLOCK)


def _launch(kernel, a, b, outers, inners, sizes, y, add=None):
    """Launch a product; add: (R, J), R a divisor of the rows of y, added to these, or None"""
    (side, per, _), (Z, I, J) = BLOCK, y.shape
    if min(I, J, Z):
        blocks = -(-I // (side * per)), -(-J // (side * per)), Z
        more = (y[0], 0) if add is None else (add, I // add.shape[0])
        kernel[blocks, (side, side)](a, b, outers, inners, sizes, *more, y)


def alike(*arrays):
    """Move arrays to the device and convert them to one precision -> list of Array"""
    arrays = [cuda_array.array(a) for a in arrays]
    dtype = np.result_type(*(a.dtype for a in arrays))
    return [a.astype(dtype) for a in arrays]


def matmul(a, b):
    a, b = alike(a, b)
    fits = b.ndim > 1 and a.shape[-1] == b.shape[-2] > 0 and b.shape[:-2] in ((), a.shape[:-2])
    _require(fits, "matmul", a, b)
    (C, O), rows = b.shape[-2:], a.size // a.shape[-1]
    L = rows if b.ndim == 2 else a.shape[-2]
    y = cuda_array.empty((*a.shape[:-1], O), a.dtype)
    if y.size:
        # With one b for all, the rows of all matrices of a lie in a row, unless they are swapped.
        a, of_a = a.unswapped() if a.ndim == b.ndim else (a, False)
        b, of_b = b.unswapped()
        a, b = a.nd(-1, *((C, L) if of_a else (L, C))), b.nd(-1, *((O, C) if of_b else (C, O)))
        _launch(MATMUL, a, b, rows // L, C, (of_a, of_b), y.nd(-1, L, O))
    return y


def conv2d(x, w, padding, add=None):
    """Convolve as kernels.conv2d does; add: (N, 1, 1, O) or (N, H, W, O), added in the same pass"""
    x, w = alike(x, w)
    (N, H, W, C), K, O = x.shape, len(w), w.shape[-1]
    _require(w.shape[:-1] == (K, K, C) and K % 2 == 1, "conv2d", x, w)
    y = cuda_array.empty((N, H, W, O), x.dtype)
    w, turned = w.unturned()
    sizes, pixels = (H, W, C, K, padding == "circular", turned), y.nd(1, N * H * W, O)
    add = None if add is None or not add.size else alike(add, x)[0].nd(-1, O)
    w = w.nd(K * K, *w.shape[2:])
    _launch(CONV2D, x.nd(*x.shape), w, K * K, C, sizes, pixels, add)
    return y


def conv2d_grad_w(x, g, K, padding):
    x, g = alike(x, g)
    (N, H, W, C), O = x.shape, g.shape[-1]
    _require(g.shape[:-1] == x.shape[:-1] and K % 2 == 1, "conv2d_grad_w", x, g)
    width = BLOCK[0] * BLOCK[1]
    tiles = -(-K * K * C // width) * -(-O // width)
    parts = cuda_array.empty((min(N * H, max(1, PARTS // tiles)), K, K, C, O), x.dtype)
    sizes, rows = (H, W, C, K, padding == "circular"), parts.nd(-1, K * K * C, O)
    _launch(CONV2D_GRAD_W, x.nd(*x.shape), g.nd(N * H, W, O), N * H, W, sizes, rows)
    return parts.sum(0)
