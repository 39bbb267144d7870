"""The instrumented simulator: its counts, and the mistakes it reports. Run like test_cuda.py."""

from importlib import import_module

import numpy as np
import pytest
from test_cuda import few, results, there

from tinydiff import kernels
from tinydiff.kernels import cuda as package
from tinydiff.kernels import cuda_array, cuda_simulator

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
