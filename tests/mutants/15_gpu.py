"""Wrong answers to lesson 15: how students miss a guard, a barrier, a neighbour. What a mutant is: 01_forward.py."""

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
FROM_MEMORY = "total += (a[i, first + k] if i < a.shape[0] and first + k < a.shape[1] else ZERO) * tile_b[k, tx]"
FETCH_B = (
    "tile_b[ty, tx] = b[first + ty, j] if first + ty < b.shape[0] and j < b.shape[1] else ZERO"
)
STRIDED_B = """other = cuda.blockIdx.x * TILE + ty
        tile_b[tx, ty] = b[first + tx, other] if first + tx < b.shape[0] and other < b.shape[1] else ZERO"""

MUTANTS = {
    "kernels.threads.add_noise": [
        (
            "if i < y.size:",
            "if True:",
            "the guard is missing: the threads left over in the last block write beyond the end, and a card does not complain",
        ),
        (
            "if i < y.size:",
            "if i <= y.size:",
            "the guard lets one thread too many through: the last number is y[y.size - 1]",
        ),
        (
            "    i = cuda.grid(1)\n",
            "    i = cuda.threadIdx.x * cuda.gridDim.x + cuda.blockIdx.x\n",
            "neighbouring threads touch numbers that lie a stride apart: right, but each warp then moves many times the memory",
        ),
        (
            "    i = cuda.grid(1)\n",
            "    i = cuda.threadIdx.x\n",
            "threadIdx counts within a block: without blockIdx * blockDim all blocks do the same numbers",
        ),
        (
            "    i = cuda.grid(1)\n",
            "    i = cuda.blockIdx.x * cuda.gridDim.x + cuda.threadIdx.x\n",
            "you multiplied by gridDim, the number of blocks; blockDim is the number of threads in one",
        ),
        (
            "signal * x0[i] + noise * eps[i]",
            "noise * x0[i] + signal * eps[i]",
            "signal and noise are exchanged",
        ),
    ],
    "kernels.threads.block_sums": [
        (
            FIRST,
            "ZERO\n    half",
            "a barrier is missing after the first writing: threads add numbers that others have not put there yet",
        ),
        (
            LOOP,
            LOOP.replace("        cuda.syncthreads()\n", ""),
            "a barrier is missing after each half: threads add sums that others have not finished",
        ),
        (
            LOOP,
            LOOP.replace("        cuda", "            cuda"),
            "the barrier stands inside the `if`: only some threads reach it, and on a card the others may be waited for in vain",
        ),
        (
            "x[i] if i < x.size else ZERO",
            "x[i]",
            "the last block's threads beyond the end read what isn't theirs: they should put 0 into the box",
        ),
        (
            "t, i = cuda.threadIdx.x, cuda.grid(1)",
            "t, i = cuda.threadIdx.x, cuda.threadIdx.x * cuda.gridDim.x + cuda.blockIdx.x",
            "a block adds up its own stretch; yours adds numbers that lie a stride apart",
        ),
        (
            TREE,
            ONE_BY_ONE,
            "thread 0 adds all by itself while the others wait; adding halves takes log2(BLOCK) rounds, and another order",
        ),
        (
            "half = BLOCK // 2",
            "half = BLOCK // 4",
            "the first round is missing: it starts with half = BLOCK / 2, or the upper half of the box is never added",
        ),
    ],
    "kernels.threads.matmul_tiled": [
        (
            "        cuda.syncthreads()\n        for k",
            "        for k",
            "the barrier after the fetching is missing: threads multiply numbers that others have not fetched yet",
        ),
        (
            "        cuda.syncthreads()\n    if",
            "    if",
            "the barrier after the adding is missing: a fast thread fetches the next stretch while others still read this one",
        ),
        (
            PRODUCT,
            FROM_MEMORY,
            "a is read from memory inside the innermost loop: that is what its tile is for",
        ),
        (
            "range(0, a.shape[1], TILE)",
            "range(0, a.shape[1] // TILE * TILE, TILE)",
            "the last stretch is lost where TILE does not divide C: round up, and let zeros fill it",
        ),
        (
            "i < a.shape[0] and first + tx < a.shape[1]",
            "i < a.shape[0]",
            "the last tile of a hangs over the right edge, and you fetch from there: it should get zeros",
        ),
        (
            FETCH_B,
            STRIDED_B,
            "neighbouring threads fetch numbers of b that lie a row apart: right, but each takes a sector of its own",
        ),
        (
            "if i < y.shape[0] and j < y.shape[1]:",
            "if True:",
            "threads outside y write too: the tiles at the edges hang over it",
        ),
        (
            PRODUCT,
            "total += tile_a[ty, k] * tile_b[tx, k]",
            "tile_b is read with row and column exchanged: the sum runs down its column tx",
        ),
    ],
}
