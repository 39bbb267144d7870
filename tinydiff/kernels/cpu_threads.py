"""What the threads of parallel kernels cannot stand: a fork, and two callers at once.

Numba leaves the threads to a library, the first that it finds of TBB, OpenMP and its own
"workqueue". GNU's OpenMP does not work in a process forked from one that has used it: Numba then
ends the process, and whoever waits for it hangs. The workqueue takes work from one thread at a
time: otherwise it ends the process too.
"""

import os
import threading
from functools import wraps

import numba
from numba import config
from numba.core.compiler_lock import global_compiler_lock

from .. import kernels
from . import processors

_lock = threading.Lock()
_here = threading.local()  # .limited: has this thread been told how many threads to use?
_orphan = False  # is this process the fork of one whose threads it does not have?


def guarded(kernel):
    """Let one thread at a time call a parallel kernel, where more would end the process."""

    @wraps(kernel, updated=())
    def call(*args):
        if TOO_MANY and not hasattr(_here, "limited"):
            _here.limited = limit()
        if layer() in ("tbb", "omp"):
            return kernel(*args)
        with _lock:
            return kernel(*args)

    return call


# Numba was imported before us, and has not heard how many threads there should be.
TOO_MANY = processors.threads < config.NUMBA_NUM_THREADS


def limit():
    """Let this thread's kernels use as many threads as processors.count allows, at most: () -> None

    A thread must be told once; what it was told otherwise, by numba.set_num_threads, stays if less.
    """
    numba.set_num_threads(min(numba.get_num_threads(), processors.threads))


def layer():
    """Name the library that runs the threads, "" before the first parallel kernel: () -> str"""
    try:
        return numba.threading_layer()
    except ValueError:
        return ""


def unfit():
    """Say why compiled kernels cannot run in this process: () -> str, "" if they can"""
    if config.DISABLE_JIT:
        return "NUMBA_DISABLE_JIT is set, so no kernel is compiled"
    if _orphan:
        start = "multiprocessing.get_context('spawn') starts processes that have them"
        return f"a process forked after drawing has no compiled kernels; {start}"
    if config.THREADING_LAYER not in ("default", "workqueue"):  # these two are always there
        try:
            numba.get_num_threads()  # loads what was asked for
        except ValueError as e:
            why = " ".join(str(e).split())
            return f"NUMBA_THREADING_LAYER={config.THREADING_LAYER} does not work ({why})"
    return ""


def _before_fork():
    """Wait for other threads: in the child nobody would release what they hold."""
    for lock in LOCKS:
        lock.acquire()


def _release():
    for lock in reversed(LOCKS):
        lock.release()


def _in_child():
    """Go on, after a fork, with kernels that work there."""
    global _orphan
    _release()
    _orphan = _orphan or (layer() == "omp" and _gnu())
    if _orphan and getattr(kernels._active, "__name__", "").endswith(".cpu"):
        kernels._active, kernels._default = None, "cpu"  # which `use` refuses, when it is needed
    _spare_openmp()


def _spare_openmp():
    """Have Numba's own threads where those of an OpenMP that it would share are missing."""
    if processors.bereft and not layer() and config.THREADING_LAYER != "tbb":
        config.THREADING_LAYER = "workqueue"


def _gnu():
    from numba.np.ufunc import omppool

    return omppool.openmp_vendor == "GNU"


LOCKS = (processors.turn, _lock, global_compiler_lock)  # in the order in which threads take them
_spare_openmp()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before_fork, after_in_parent=_release, after_in_child=_in_child)
