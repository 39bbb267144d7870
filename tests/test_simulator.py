"""The instrumented simulator: its counts, and the mistakes it reports. Run like test_cuda.py."""

import math
from importlib import import_module
from operator import attrgetter

import numpy as np
import pytest
from numba.cuda import libdevice
from test_cuda import few, results, there

from tinydiff import kernels
from tinydiff.course import exercises
from tinydiff.kernels import cuda as package
from tinydiff.kernels import cuda_array, cuda_simulator, cuda_stand_ins

cuda = cuda_array.cuda
why = "set NUMBA_ENABLE_CUDASIM=1: a GPU cannot be watched"
pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not cuda_array.SIMULATED, reason=why)]


@cuda.jit
def every(x, y, step):
    """Copy element i step of x to y[i], i being the thread."""
    i = cuda.grid(1)
    if i < y.size:
        y[i] = x[i * step]


@cuda.jit
def turned(x, y, barriers):
    """Reverse 8 elements by a block of 8 threads, through shared memory.

    barriers: "none", "some" or "all": which threads wait between writing and reading
    """
    t = cuda.threadIdx.x
    box = cuda.shared.array(8, x.dtype)
    box[t] = x[t]
    if barriers == "all" or (barriers == "some" and t < 5):
        cuda.syncthreads()
    y[t] = box[7 - t]


def watched(kernel, size, *args):
    with cuda_simulator.watch() as seen:
        kernel[size](*args)
    return seen


@pytest.mark.parametrize("step, sectors", [(1, 5), (2, 10), (8, 37), (32, 37)])
def test_sectors_of_a_stride(step, sectors):
    """37 elements, two warps: a sector serves 8 threads at step 1, and one from step 8 on."""
    x, y = np.arange(37 * step, dtype=np.float32), np.zeros(37, np.float32)
    seen = watched(every, (2, 32), x, y, step)
    np.testing.assert_array_equal(y, x[::step])
    assert (seen.count("x"), seen.count("y"), seen.count("y", write=True)) == (37, 0, 37)
    assert (seen.sectors("x"), seen.sectors("y", write=True)) == (sectors, 5)
    assert set(seen.by_thread("x").values()) == {1} and len(seen.by_thread("x")) == 37
    assert seen.steps("x")[1, (1, 0, 0), 0, 0] == {t: (32 + t) * step for t in range(5)}
    assert seen.problems() == []


def test_an_access_outside_is_reported_and_does_no_harm():
    x, y = np.arange(6, dtype=np.float32), np.zeros(4, np.float32)
    (problem,) = watched(every, (1, 4), x, y, 2).problems()
    assert problem.startswith("x[6] is read, outside its shape (6,)") and np.isnan(y[3])


@pytest.mark.parametrize(
    "barriers, word",
    [("none", "a race: thread"), ("some", "not all threads of a block reach"), ("all", None)],
)
def test_barriers(barriers, word):
    x, y = np.arange(8, dtype=np.float32), np.zeros(8, np.float32)
    problems = watched(turned, (1, 8), x, y, barriers).problems()
    if word:
        assert word in problems[0]
    else:
        assert problems == [] and list(y) == list(x[::-1])


def test_a_race_between_blocks_is_reported():
    """All blocks write the same four elements."""

    @cuda.jit
    def same(y):
        y[cuda.threadIdx.x] = 1

    problem = watched(same, (2, 4), np.zeros(4, np.float32)).problems()[0]
    assert "thread 0 of another block writes it too" in problem


def test_a_race_after_a_barrier_is_reported_too():
    """A write before a barrier is visible to all threads; one after it is a race."""

    @cuda.jit
    def late(y, z):
        t = cuda.threadIdx.x
        if t == 0:
            y[0] = 1
        cuda.syncthreads()
        if t == 1:
            y[0] = 2
        z[t] = y[0]

    (problem,) = watched(late, (1, 3), np.zeros(1, np.float32), np.zeros(3, np.float32)).problems()
    assert problem.startswith("a race: thread 1 writes y[0], thread 0 reads it")


def test_atomic_additions_are_not_a_race():
    """All threads of two blocks add to one element; then one of them also reads it in between."""

    @cuda.jit
    def total(x, y, peek):
        cuda.atomic.add(y, 0, x[cuda.grid(1)])
        if peek and cuda.grid(1) == 5:
            y[1] = y[0]

    y = np.zeros(2, np.float32)
    assert watched(total, (2, 4), np.ones(8, np.float32), y, False).problems() == [] and y[0] == 8
    problem = watched(total, (2, 4), np.ones(8, np.float32), y, True).problems()[0]
    lines = "`cuda.atomic.add(y, 0, x[cuda.grid(1)])` and `y[1] = y[0]`"
    assert "reads it" in problem and lines in problem


def test_shared_arrays_have_their_names_even_two_on_a_line():
    @cuda.jit
    def two(y):
        t = cuda.threadIdx.x
        a, b = cuda.shared.array(4, y.dtype), cuda.shared.array((4,), np.float64)
        a[t], b[t] = 1, 2
        y[t] = a[t] + b[t]

    y = np.zeros(4, np.float32)
    seen = watched(two, (2, 4), y)
    assert seen.shared == {"a", "b"} and list(y) == [3] * 4 and seen.count("b", write=True) == 8


def test_an_error_in_a_thread_is_raised_and_the_simulator_is_restored():
    call = type(every).__call__
    with pytest.raises(IndexError, match="x has 2 axes"):
        watched(every, (1, 4), np.zeros((4, 1), np.float32), np.zeros(4, np.float32), 1)
    assert type(every).__call__ is call
    y = np.zeros(4, np.float32)
    every[1, 4](np.arange(4, dtype=np.float32), y, 1)
    assert list(y) == [0, 1, 2, 3]


def test_threads_take_turns_without_being_watched(monkeypatch):
    """Each runs up to its next barrier, the first one first; errors are raised."""
    simulated = import_module(f"{cuda.__name__}.simulator.kernel")
    monkeypatch.setattr(simulated.BlockManager, "run", simulated.BlockManager.run)
    cuda_simulator.take_turns()
    order = []

    @cuda.jit
    def noted(y):
        order.append(cuda.threadIdx.x)
        cuda.syncthreads()
        order.append(cuda.threadIdx.x)
        y[cuda.threadIdx.x] = 1

    noted[1, 3](np.zeros(3, np.float32))
    assert order == [0, 1, 2, 0, 1, 2]
    with pytest.raises(IndexError):
        noted[1, 3](np.zeros(2, np.float32))
    x, y = np.arange(8, dtype=np.float32), np.zeros(8, np.float32)
    turned[1, 8](x, y, "all")
    np.testing.assert_array_equal(y, x[::-1])
    with pytest.raises(RuntimeError, match="turned: a barrier that not all threads of a block"):
        turned[1, 8](x, y, "some")


MISSING = ("block_sums", 0), ("block_sums", 1), ("matmul_tiled", 0), ("matmul_tiled", 1)


@pytest.mark.parametrize("name, k", MISSING)
def test_a_missing_barrier_is_found_in_each_of_twenty_runs(name, k, rng):
    """It shows in who reads what between two barriers. Numbers come out right in most runs."""
    exercise = exercises.find(name)
    old, new, sentence = exercise.mutants[k]
    assert "barrier" in sentence and "is missing" in sentence
    kernel = exercises.mutant(exercise, old, new)
    x, y = rng.random(64, dtype=np.float32), np.zeros(64, np.float32)
    a, c = x.reshape(4, 16), np.zeros((4, 4), np.float32)
    size, args = ((1, 64), (x, y)) if name == "block_sums" else ((1, (8, 8)), (a, a.T, c))
    found = [watched(kernel, size, *args).problems() for _ in range(20)]
    assert all(problems and problems[0].startswith("a race: thread") for problems in found)
    assert found == 20 * found[:1]


@cuda.jit
def boxed(y):
    box = cuda.shared.array((4, 32, 33), np.float64)
    i = cuda.grid(1)
    box[0, 0, 0] = 1.0
    if i < y.size:
        y[i] = 1


def test_what_no_gpu_gives_a_block_is_reported(monkeypatch):
    """Too many threads: they do not run, as on a GPU. Too much shared memory: 33,792 bytes fit."""
    x, y = np.zeros(2048, np.float32), np.zeros(2048, np.float32)
    assert watched(every, (2, 1024), x + 1, y, 1).problems() == [] and y.all()
    (problem,) = watched(every, (1, 2048), x, y, 1).problems()
    assert problem == "2,048 threads in a block: a GPU takes at most 1,024" and y.all()
    assert watched(boxed, (1, 1), y).problems() == []
    monkeypatch.setattr(cuda_simulator, "MOST_SHARED", 4 * 32 * 33 * 8 - 1)
    (problem,) = watched(boxed, (1, 1), y).problems()
    assert "33,792 bytes of shared memory with box: a GPU gives a block at most 33,791" in problem
    simulated = import_module(f"{cuda.__name__}.simulator.kernel")
    monkeypatch.setattr(simulated.BlockManager, "run", simulated.BlockManager.run)
    cuda_simulator.take_turns()
    with pytest.raises(RuntimeError, match="every: 2,048 threads in a block"):
        every[1, 2048](x, y, 1)


@cuda.jit
def by_libdevice(a, b, y):
    y[0] = libdevice.fmaf(a[0], b[0], a[1])
    y[1] = cuda.libdevice.fast_expf(a[0]) * libdevice.rsqrtf(b[0])
    y[2] = libdevice.roundf(a[1]) + libdevice.remainderf(b[1], a[1]) + libdevice.erff(a[0])
    y[3] = libdevice.fdiv_rn(a[0], b[1])


def test_libdevice_computes_in_the_simulator_too():
    """Numba's own functions there are empty: each gives None, and the array then holds NaN."""
    a, b, y = (np.array(v, np.float32) for v in ([0.5, 2.5], [3, 7], [0, 0, 0, 0]))
    assert watched(by_libdevice, (1, 1), a, b, y).problems() == []
    second, third = math.exp(0.5) / math.sqrt(3), 3 + math.remainder(7, 2.5) + math.erf(0.5)
    np.testing.assert_allclose(y, [4.0, second, third, 0.5 / 7], rtol=1e-6)
    assert type(libdevice.fmaf(a[0], b[0], a[1])) is np.float32
    assert type(libdevice.exp(0.5)) is np.float64


@pytest.mark.parametrize("name", ["syncwarp", "libdevice.normcdff", "libdevice.sincosf"])
def test_what_the_simulator_lacks_is_refused_in_words(name):
    with pytest.raises(cuda_stand_ins.OnlyOnGPU, match=f"{name}: a GPU has it, numba's simulator"):
        attrgetter(name)(import_module(f"{cuda.__name__}.simulator.kernelapi").FakeCUDAModule)()


def test_no_kernel_of_the_package_has_a_race(rng):
    """Nor an access outside an array, nor a barrier that some threads miss.

    Numba's simulator alone would let these pass.
    """
    before = kernels._active
    kernels.use("cuda")
    try:
        for name, args in few(np.float32, rng):
            with cuda_simulator.watch() as seen:
                results(package, name, there(args))
            assert seen.problems() == [], name
    finally:
        kernels._active = before
