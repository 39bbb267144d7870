"""Wrong answers to lesson 15, guards, barriers and neighbours. What a mutant is: 01_forward.py."""

FIRST = "ZERO\n    cuda.syncthreads()\n    half"
LOOP = "            box[t] += box[t + half]\n        cuda.syncthreads()\n"
TREE = """    half = BLOCK // 2
    while half > 0:
        if t < half:
            box[t] += box[t + half]
        cuda.syncthreads()
        half //= 2
    if t == 0:
"""
ONE_BY_ONE = """    if t == 0:
        for other in range(1, BLOCK):
            box[0] += box[other]
"""
PRODUCT = "total += tile_a[ty, k] * tile_b[k, tx]"
FROM_MEMORY = """inside = i < a.shape[0] and first + k < a.shape[1]
            total += (a[i, first + k] if inside else ZERO) * tile_b[k, tx]"""
FETCH_B = (
    "tile_b[ty, tx] = b[first + ty, j] if first + ty < b.shape[0] and j < b.shape[1] else ZERO"
)
STRIDED_B = """other = cuda.blockIdx.x * TILE + ty
        inside = first + tx < b.shape[0] and other < b.shape[1]
        tile_b[tx, ty] = b[first + tx, other] if inside else ZERO"""

MUTANTS = {
    "kernels.threads.add_noise": [
        (
            "if i < y.size:",
            "if True:",
            "the guard is missing: surplus threads in the last block write beyond the end, and a "
            "GPU does not complain",
        ),
        (
            "if i < y.size:",
            "if i <= y.size:",
            "the guard lets one thread too many through: the last element is y[y.size - 1]",
        ),
        (
            "    i = cuda.grid(1)\n",
            "    i = cuda.threadIdx.x * cuda.gridDim.x + cuda.blockIdx.x\n",
            "neighbouring threads access elements that are a stride apart: the result is right, "
            "but each warp then moves many times the memory",
        ),
        (
            "    i = cuda.grid(1)\n",
            "    i = cuda.threadIdx.x\n",
            "threadIdx counts within a block: without blockIdx * blockDim, all blocks process the "
            "same elements",
        ),
        (
            "    i = cuda.grid(1)\n",
            "    i = cuda.blockIdx.x * cuda.gridDim.x + cuda.threadIdx.x\n",
            "you multiplied by gridDim, the number of blocks; blockDim is the number of threads "
            "in one",
        ),
        (
            "signal * x0[i] + noise * eps[i]",
            "noise * x0[i] + signal * eps[i]",
            "signal and noise are exchanged: signal multiplies x0",
        ),
        (
            "signal * x0[i] + noise * eps[i]",
            "signal * x0[i] + (1 - signal * signal) ** 0.5 * eps[i]",
            "you computed the factor of eps from signal; noise is given",
        ),
    ],
    "kernels.threads.block_sums": [
        (
            FIRST,
            "ZERO\n    half",
            "a barrier is missing after the first write: threads add values that others have not "
            "stored yet",
        ),
        (
            LOOP,
            LOOP.replace("        cuda.syncthreads()\n", ""),
            "a barrier is missing after each halving: threads add sums that others have not "
            "finished",
        ),
        (
            LOOP,
            LOOP.replace("        cuda", "            cuda"),
            "the barrier is inside the `if`: only some threads reach it, and on a GPU they may "
            "wait for the others for ever",
        ),
        (
            "x[i] if i < x.size else ZERO",
            "x[i]",
            "threads of the last block read beyond the end of x: they should put 0 into the box",
        ),
        (
            "t, i = cuda.threadIdx.x, cuda.grid(1)",
            "t, i = cuda.threadIdx.x, cuda.threadIdx.x * cuda.gridDim.x + cuda.blockIdx.x",
            "a block sums its own stretch of x; yours sums elements that are a stride apart",
        ),
        (
            TREE,
            ONE_BY_ONE,
            "thread 0 does all the additions while the others wait; halving takes only "
            "log2(BLOCK) rounds, and adds in another order",
        ),
        (
            "half = BLOCK // 2",
            "half = BLOCK // 4",
            "the first round is missing: start with half = BLOCK / 2, or the upper half of the "
            "box is never added",
        ),
    ],
    "kernels.threads.matmul_tiled": [
        (
            "        cuda.syncthreads()\n        for k",
            "        for k",
            "the barrier after fetching is missing: threads multiply values that others have not "
            "fetched yet",
        ),
        (
            "        cuda.syncthreads()\n    if",
            "    if",
            "the barrier after adding is missing: a fast thread fetches the next stretch while "
            "others still read this one",
        ),
        (
            PRODUCT,
            FROM_MEMORY,
            "a is read from memory inside the innermost loop: read it from its tile",
        ),
        (
            "range(0, a.shape[1], TILE)",
            "range(0, a.shape[1] // TILE * TILE, TILE)",
            "the last stretch is lost where TILE does not divide C: round up and fill with zeros",
        ),
        (
            "i < a.shape[0] and first + tx < a.shape[1]",
            "i < a.shape[0]",
            "the last tile of a extends beyond the right edge, and you read there: fill it with "
            "zeros",
        ),
        (
            FETCH_B,
            STRIDED_B,
            "neighbouring threads fetch elements of b that are a row apart: the result is right, "
            "but each thread needs a sector of its own",
        ),
        (
            "if i < y.shape[0] and j < y.shape[1]:",
            "if True:",
            "threads outside y write too: the tiles at the edges extend beyond it",
        ),
        (
            PRODUCT,
            "total += tile_a[ty, k] * tile_b[tx, k]",
            "tile_b is read with row and column swapped: the sum runs down its column tx",
        ),
        (
            "tile_a[ty, tx] = a[i, first + tx] if i < a.shape[0] and first + tx < "
            "a.shape[1] else ZERO",
            "if i < a.shape[0] and first + tx < a.shape[1]:\n            tile_a[ty, tx] = "
            "a[i, first + tx]",
            "outside a its tile keeps what shared memory held, perhaps NaN; NaN times "
            "0 is NaN: put 0 there",
        ),
        (
            "tile_b[ty, tx] = b[first + ty, j] if first + ty < b.shape[0] and j < "
            "b.shape[1] else ZERO",
            "if first + ty < b.shape[0] and j < b.shape[1]:\n            tile_b[ty, tx] = "
            "b[first + ty, j]",
            "outside b its tile keeps what shared memory held, perhaps NaN; NaN times "
            "0 is NaN: put 0 there",
        ),
    ],
}
