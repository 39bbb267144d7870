"""Shared by the benchmarks: clocks, the speed of a matrix product, a count of the arithmetic.

Times are in seconds; a multiply-add counts as two floating-point operations (FLOP), even if one
factor is padding. Large modules are imported by the functions that need them: a process that only
starts others must stay small (see scaling.py).
"""

import math
import os
import statistics
import sys
import time
from contextlib import contextmanager

THREADS = 2
# Seconds between two contestants: the threads of one library keep spinning for a while and would
# slow down the next.
PAUSE = 0.05


def fix_threads():
    """Restart this script with THREADS in its environment, where libraries read it on import."""
    names = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"
    wanted = dict.fromkeys(names, str(THREADS))
    if not wanted.items() <= os.environ.items():
        os.execve(sys.executable, sys.orig_argv, os.environ | wanted)


def median_time(f, seconds):
    """Call f for at least `seconds`, after two calls to warm up -> median seconds per call"""
    f(), f()
    times, began = [], time.perf_counter()
    while time.perf_counter() - began < seconds or len(times) < 5:
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def race(contestants, rounds, seconds):
    """Time functions in turn, `seconds` each, round after round, and keep the fastest calls.

    Disturbances on a shared machine can only add time, hence the minimum.
    contestants: list of (key, f), where a key may occur several times per round
    -> {key: seconds of its fastest call}
    """
    fastest = {}
    for _ in range(rounds):
        for key, f in contestants:
            time.sleep(PAUSE)
            f()
            began, calls = time.perf_counter(), 0
            while calls < 2 or time.perf_counter() - began < seconds:
                start = time.perf_counter()
                f()
                fastest[key] = min(fastest.get(key, float("inf")), time.perf_counter() - start)
                calls += 1
    return fastest


def sgemm(side=1024):
    """Make the yardstick: a product of two float32 matrices, side x side -> function, its FLOP"""
    import numpy as np

    a, b = np.random.default_rng(0).standard_normal((2, side, side), dtype=np.float32)
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out), 2 * side**3


@contextmanager
def recorded():
    """Record calls of the multiplying kernels inside a `with` block.

    -> list of (name, shape, shape, result's shape)
    """
    from tinydiff import kernels

    calls, names, together = [], ("conv2d", "conv2d_grad_w", "matmul"), kernels.together

    def listen(name):
        kernel = getattr(kernels.active(), name)

        def recording(a, b, *rest):
            out = kernel(a, b, *rest)
            calls.append((name, a.shape, b.shape, out.shape))
            return out

        return recording

    try:
        kernels.together = False  # what one kernel does inside another would not be seen
        for name in names:
            setattr(kernels, name, listen(name))  # takes precedence over the module's __getattr__
        yield calls
    finally:
        kernels.together = together
        for name in names:
            delattr(kernels, name)


def flop(calls):
    """Count the arithmetic of recorded calls: list of (name, shape, shape, result's shape) -> FLOP

    An element of the result is a sum over all axes but the last of the second array, which is
    (C, O), (K, K, C, O) or (N, H, W, O).
    """
    return sum(2 * math.prod(out) * math.prod(b[:-1]) for _, _, b, out in calls)
