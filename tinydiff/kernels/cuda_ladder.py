"""Four CUDA kernels in the fewest lines: one value per thread, one sum or one tile per block.

cuda_array.py, cuda.py and cuda_matmul.py do the same work faster, on arrays of any shape. Tests
compare them with these, and lesson 15 asks for these. Run them as kernel[blocks, threads](...),
with arrays of the host or the device.
"""

from .cuda_array import ZERO, cuda

BLOCK = 64  # threads per block in block_sums: a power of 2
TILE = 8  # side of a tile, and threads along each side of a block

# How each is launched: types of its arguments, as numba writes them, and threads per block.
VECTOR, MATRIX = "float32[::1]", "float32[:, ::1]"
LAUNCHES = {
    "add_noise": (f"void({VECTOR}, {VECTOR}, float32, float32, {VECTOR})", 64),
    "block_sums": (f"void({VECTOR}, {VECTOR})", BLOCK),
    "matmul_naive": (f"void({MATRIX}, {MATRIX}, {MATRIX})", TILE * TILE),
    "matmul_tiled": (f"void({MATRIX}, {MATRIX}, {MATRIX})", TILE * TILE),
}


@cuda.jit
def add_noise(x0, eps, signal, noise, y):
    """Add noise to images, one element per thread.

    y[i] = signal x0[i] + noise eps[i],  i = cuda.grid(1)
    So neighbouring threads read and write neighbouring elements. There may be more threads than
    elements: the surplus threads do nothing. Everything is computed in float32.
    x0, eps, y: (n,); signal, noise: numbers -> None, y is filled
    """
    i = cuda.grid(1)
    if i < y.size:
        y[i] = signal * x0[i] + noise * eps[i]


@cuda.jit
def block_sums(x, y):
    """Sum a vector in stretches, one stretch per block of BLOCK threads.

    y[block] = x[block BLOCK] + ... + x[block BLOCK + BLOCK - 1]
    Thread t writes element cuda.grid(1) of x, or 0 beyond its end, to place t of a shared array of
    BLOCK elements. Then for half = BLOCK / 2, BLOCK / 4, ..., 1: threads t < half add place
    t + half to place t. Finally thread 0 writes place 0 to y. There is a barrier, for all threads,
    after the first write and after every halving. Everything is computed in float32.
    x: (n,), y: (blocks,) -> None, y is filled
    """
    t, i = cuda.threadIdx.x, cuda.grid(1)
    box = cuda.shared.array(BLOCK, x.dtype)
    box[t] = x[i] if i < x.size else ZERO
    cuda.syncthreads()
    half = BLOCK // 2
    while half > 0:
        if t < half:
            box[t] += box[t + half]
        cuda.syncthreads()
        half //= 2
    if t == 0:
        y[cuda.blockIdx.x] = box[0]


@cuda.jit
def matmul_naive(a, b, y):
    """Multiply matrices, one element of y per thread, reading all factors from global memory.

    a: (L, C), b: (C, O), y: (L, O) -> None, y is filled
    """
    j, i = cuda.grid(2)
    if i < y.shape[0] and j < y.shape[1]:
        total = ZERO
        for k in range(a.shape[1]):
            total += a[i, k] * b[k, j]
        y[i, j] = total


@cuda.jit
def matmul_tiled(a, b, y):
    """Multiply matrices, one tile of y per block of TILE x TILE threads.

    y[i, j] = a[i, 0] b[0, j] + a[i, 1] b[1, j] + ...
    j, i = cuda.grid(2): threads that are neighbours along x lie side by side in a row of y. The sum
    is taken in stretches of TILE. For each, every thread of the block fetches one element of a and
    one of b into shared TILE x TILE arrays (0 outside a or b), so that neighbouring threads read
    neighbouring elements; then it adds TILE products of elements from there. There is a barrier,
    for all threads, after fetching and after adding. Only threads inside y write. Everything is
    computed in float32: a sum begins with ZERO, since Python's 0 and 0.0 would make it float64.
    a: (L, C), b: (C, O), y: (L, O) -> None, y is filled
    """
    j, i = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    tile_a = cuda.shared.array((TILE, TILE), a.dtype)
    tile_b = cuda.shared.array((TILE, TILE), a.dtype)
    total = ZERO
    for first in range(0, a.shape[1], TILE):
        tile_a[ty, tx] = a[i, first + tx] if i < a.shape[0] and first + tx < a.shape[1] else ZERO
        tile_b[ty, tx] = b[first + ty, j] if first + ty < b.shape[0] and j < b.shape[1] else ZERO
        cuda.syncthreads()
        for k in range(TILE):
            total += tile_a[ty, k] * tile_b[k, tx]
        cuda.syncthreads()
    if i < y.shape[0] and j < y.shape[1]:
        y[i, j] = total
