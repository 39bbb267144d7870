"""What the benches share: clocks, how fast the machine multiplies matrices, and a count of the arithmetic.

Times in seconds; a multiply-add counts as two floating-point operations (FLOP), also where one factor is padding. Whatever is
large is imported by the functions that need it: a process that only starts others must stay small (see scaling.py).
"""

import math
import os
import statistics
import sys
import time
from contextlib import contextmanager

THREADS = 2
PAUSE = 0.05  # seconds between two contestants: the threads of one library go on spinning for a while, in the way of the next


def fix_threads():
    """Start this script again with THREADS in its environment, where the libraries look for it when they are imported."""
    names = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"
    wanted = dict.fromkeys(names, str(THREADS))
    if not wanted.items() <= os.environ.items():
        os.execve(sys.executable, sys.orig_argv, os.environ | wanted)


def median_time(f, seconds):
    """Call f for at least `seconds` after two calls to warm up: median seconds a call."""
    f(), f()
    times, began = [], time.perf_counter()
    while time.perf_counter() - began < seconds or len(times) < 5:
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def race(contestants, rounds, seconds):
    """Time functions in turn, `seconds` each, round after round; what disturbs a shared machine only ever adds, so keep the least.

    contestants: list of (key, f), where a key may come several times a round -> dict of key to its fastest call, in seconds
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
    """Make the yardstick: a product of two float32 matrices, side x side. -> (function, its FLOP)"""
    import numpy as np

    a, b = np.random.default_rng(0).standard_normal((2, side, side), dtype=np.float32)
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out), 2 * side**3


@contextmanager
def recorded():
    """Note the calls of the kernels that multiply, for the length of a `with` block -> list of (name, shape, shape, result's shape)"""
    from tinydiff import kernels

    calls, names = [], ("conv2d", "conv2d_grad_w", "matmul")

    def listen(name):
        kernel = getattr(kernels.active(), name)

        def heard(a, b, *rest):
            out = kernel(a, b, *rest)
            calls.append((name, a.shape, b.shape, out.shape))
            return out

        return heard

    try:
        for name in names:
            setattr(kernels, name, listen(name))  # found before the module's __getattr__ is asked
        yield calls
    finally:
        for name in names:
            delattr(kernels, name)


def flop(calls):
    """Count the arithmetic of recorded calls: list of (name, shape, shape, result's shape) -> FLOP

    A number of the result is a sum over all axes of the second array but its last: (C, O), (K, K, C, O) or (N, H, W, O).
    """
    return sum(2 * math.prod(out) * math.prod(b[:-1]) for _, _, b, out in calls)
