"""The kernels of lesson 15: right on shapes that are not round, with no needless reads and writes.

Run as test_cuda.py is. In the simulator every access is recorded: an access outside an array, a
missing barrier, a strided read each fail here, though numba's simulator alone would let the last
two pass. On a GPU the values are compared.
"""

import numpy as np
import pytest

from tinydiff import diffusion, schedule
from tinydiff.kernels import cuda_array, cuda_ladder, cuda_matmul, cuda_simulator

ready = cuda_array.SIMULATED or cuda_array.cuda.is_available()
without = pytest.mark.skipif(not ready, reason="no GPU: set NUMBA_ENABLE_CUDASIM=1")
pytestmark = [pytest.mark.cuda, without]
BLOCK, TILE = cuda_ladder.BLOCK, cuda_ladder.TILE


def normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def blank(*shape):
    return np.full(shape, np.nan, np.float32)  # what a kernel leaves out stays NaN


def run(kernel, size, **args):
    """Launch a kernel, arguments by their names in ours -> Seen, or None on a GPU"""
    if not cuda_array.SIMULATED:
        kernel[size](*args.values())
        return None
    with cuda_simulator.watch() as seen:
        kernel[size](*args.values())
    return by_our_names(seen, [name for name, a in args.items() if isinstance(a, np.ndarray)])


def by_our_names(seen, names):
    """Call the arrays that a kernel got by these names; problems keep the names that it uses."""
    problems, theirs = seen.problems(), [name for name in seen.shapes if name not in seen.shared]
    seen.problems = lambda: problems
    ours = dict(zip(theirs, names, strict=True)) | {name: f"shared {name}" for name in seen.shared}
    seen.accesses = [a._replace(array=ours[a.array]) for a in seen.accesses]
    seen.shapes = {ours[name]: shape for name, shape in seen.shapes.items()}
    seen.bytes = {ours[name]: size for name, size in seen.bytes.items()}
    seen.shared = {ours[name] for name in seen.shared}
    return seen


def assert_clean(seen):
    """Assert that nothing outside an array, no race and no barrier missed by some was seen."""
    problems = seen.problems() if seen else []
    others = f" (and {len(problems) - 1} more like it)" if len(problems) > 1 else ""
    assert not problems, problems[0] + others


def assert_counts(seen, write=False, **most):
    """Assert that no thread reads (or writes) an array more often than it has to."""
    for name, count in most.items() if seen else ():
        found = max(seen.by_thread(name, write).values(), default=0)
        does = "writes" if write else "reads"
        assert found <= count, f"a thread {does} {name} in memory {found} times; {count} will do"


def assert_coalesced(seen, write=False, **most):
    """Assert that neighbouring threads touch neighbouring elements: few sectors in all."""
    for name, sectors in most.items() if seen else ():
        found = seen.sectors(name, write)
        moved = f"the warps move {found} sectors of 32 bytes for {name}, {sectors} would do"
        assert found <= sectors, f"{moved}: neighbouring threads should touch neighbours"


def assert_near(got, expected, what, tolerance=1e-5):
    """Assert that two arrays are equal but for rounding, and name the worst place."""
    missing = int(np.isnan(got).sum())
    assert not missing, f"{what}: {missing} of {got.size} elements were never written, or are NaN"
    away = np.abs(got - expected)
    at = tuple(int(i) for i in np.unravel_index(away.argmax(), away.shape))
    pair = f"expected {expected[at]:.6f}, got {got[at]:.6f}"
    assert away.max() <= tolerance, f"{what}: at {list(at)} {pair}"


# --- one element per thread ---


@pytest.mark.exercise("kernels.threads.add_noise", changes=("y",))
@pytest.mark.parametrize("n", [150, 64])
def test_add_noise_is_q_sample(n, rng):
    s, x0, eps, y = schedule.cosine(8), normal(rng, n), normal(rng, n), blank(n)
    signal, noise = np.float32(np.sqrt(s.alpha_bar[3])), np.float32(np.sqrt(1 - s.alpha_bar[3]))
    blocks = -(-n // 64)
    given = {"x0": x0, "eps": eps, "signal": signal, "noise": noise}
    seen = run(cuda_ladder.add_noise, (blocks, 64), **given, y=y)
    where = f"{n} elements, {blocks} blocks of 64 threads"
    if not cuda_array.SIMULATED or not seen.problems():
        assert_near(y, diffusion.q_sample(s, x0[None], 3, eps[None])[0], where)
    assert_clean(seen)
    assert_counts(seen, x0=1, eps=1)
    assert_counts(seen, write=True, y=1)
    full = -(-n // 8)
    assert_coalesced(seen, x0=full, eps=full)
    assert_coalesced(seen, write=True, y=full)


@pytest.mark.exercise("kernels.threads.add_noise", changes=("y",))
def test_add_noise_takes_any_block(rng):
    x0, eps, y = normal(rng, 70), normal(rng, 70), blank(70)
    given = {"x0": x0, "eps": eps, "signal": np.float32(0.6), "noise": np.float32(0.7)}
    assert_clean(run(cuda_ladder.add_noise, (4, 24), **given, y=y))
    assert_near(y, 0.6 * x0 + 0.7 * eps, "70 elements, 4 blocks of 24 threads")


# --- one sum per block ---


def halves(x):
    """Add up each stretch of BLOCK elements, in float32 and in the order of block_sums."""
    boxes = np.zeros((-(-len(x) // BLOCK), BLOCK), np.float32)
    boxes.flat[: len(x)] = x
    while boxes.shape[1] > 1:
        half = boxes.shape[1] // 2
        boxes = boxes[:, :half] + boxes[:, half:]
    return boxes[:, 0]


@pytest.mark.exercise("kernels.threads.block_sums", changes=("y",))
@pytest.mark.parametrize("n", [150, 5])
def test_block_sums(n, rng):
    x = normal(rng, n) + 1
    y = blank(-(-n // BLOCK))
    seen = run(cuda_ladder.block_sums, (len(y), BLOCK), x=x, y=y)
    assert_clean(seen)
    where = f"{n} elements, {len(y)} block(s) of {BLOCK} threads"
    assert_near(y, halves(x), where, 1e-3)
    order = "right but for the last bits: it doesn't add in the order that is asked for"
    assert np.array_equal(y, halves(x)), f"{where}: {order}"
    assert_counts(seen, x=1)
    assert_counts(seen, write=True, y=1)
    assert_coalesced(seen, x=-(-n // 8))
    if seen:
        assert seen.count("y", write=True) == len(y), "one thread of each block writes its sum"
        phases = 2 + int(np.log2(BLOCK))
        last = max(a.phase for a in seen.accesses)
        needed = f"a tree of halves needs {phases - 1}, and threads that add at the same time"
        assert last <= phases, f"the block passes {last} barriers: {needed}"


def test_block_sums_of_block_sums_are_the_device_s_sum(rng):
    x = normal(rng, 150)
    y, total = blank(3), blank(1)
    run(cuda_ladder.block_sums, (3, BLOCK), x=x, y=y)
    run(cuda_ladder.block_sums, (1, BLOCK), x=y, y=total)
    np.testing.assert_allclose(total[0], float(cuda_array.array(x).sum()), rtol=1e-5)


# --- one tile per block ---


def tiled(kernel, L, C, O, rng):
    """Multiply (L, C) and (C, O) by a kernel -> the result, what is expected, Seen"""
    a, b, y = normal(rng, L, C), normal(rng, C, O), blank(L, O)
    seen = run(kernel, ((-(-O // TILE), -(-L // TILE)), (TILE, TILE)), a=a, b=b, y=y)
    return y, a.astype(float) @ b.astype(float), seen


@pytest.mark.exercise("kernels.threads.matmul_tiled", changes=("y",))
@pytest.mark.parametrize("L, C, O", [(9, 11, 5), (3, 16, 10), (10, 3, 9)])  # C < TILE: memory
def test_matmul_tiled(L, C, O, rng):
    y, expected, seen = tiled(cuda_ladder.matmul_tiled, L, C, O, rng)
    assert_clean(seen)
    assert_near(y, expected, f"({L}, {C}) times ({C}, {O}), tiles of {TILE}", 1e-4)
    stretches = -(-C // TILE)
    assert_counts(seen, a=stretches, b=stretches)
    assert_counts(seen, write=True, y=1)
    if seen:
        assert seen.count("y", write=True) == L * O, "each element of y is written once"


@pytest.mark.exercise("kernels.threads.matmul_tiled", changes=("y",))
def test_matmul_tiled_reads_rows(rng):
    """Sizes that tiles divide: each row of a tile is one sector."""
    _, _, seen = tiled(cuda_ladder.matmul_tiled, 8, 8, 16, rng)
    assert_coalesced(seen, a=2 * 8, b=2 * 8)
    assert_coalesced(seen, write=True, y=2 * 8)


def test_the_naive_product_reads_many_times_more(rng):
    """The counts of lesson 15: a tile of side TILE saves a factor TILE."""
    L, C, O = 9, 11, 10
    y, expected, naive = tiled(cuda_ladder.matmul_naive, L, C, O, rng)
    assert_clean(naive)
    assert_near(y, expected, "naive", 1e-4)
    _, _, seen = tiled(cuda_ladder.matmul_tiled, L, C, O, rng)
    if seen:
        assert naive.count("a") == naive.count("b") == L * O * C
        assert seen.count("a") == -(-O // TILE) * L * C
        assert seen.count("b") == -(-L // TILE) * C * O


def test_the_package_s_product_is_the_same(rng):
    a, b, y = normal(rng, 9, 11), normal(rng, 11, 10), blank(9, 10)
    run(cuda_ladder.matmul_tiled, ((2, 2), (TILE, TILE)), a=a, b=b, y=y)
    np.testing.assert_allclose(np.asarray(cuda_matmul.matmul(a, b)), y, rtol=1e-5, atol=1e-5)
