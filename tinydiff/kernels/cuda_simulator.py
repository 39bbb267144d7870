"""Numba's CUDA simulator, instrumented: every memory access is recorded.

    with cuda_simulator.watch() as seen:
        kernel[grid, block](a, b, y)
    seen.count("a"), seen.sectors("a"), seen.problems()

Threads run one at a time, always in the same order. What a GPU would not report is reported here:
an access outside an array, a missing barrier, a barrier that not all threads reach, a block larger
than a GPU's. What numba's simulator lacks, cuda_stand_ins.py brings once this is imported.
`take_turns` has threads run in that order without recording anything, ten times as fast as numba
lets them. It needs NUMBA_ENABLE_CUDASIM=1, set before numba is imported.
"""

import ast
import inspect
import linecache
import sys
from collections import defaultdict
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from threading import Semaphore
from typing import NamedTuple

import numpy as np

from . import cuda_stand_ins
from .cuda_array import MOST_SHARED, MOST_THREADS, SIMULATED, cuda

WARP = 32  # threads that take each step together
SECTOR = 32  # bytes: memory is read and written in pieces of this size, 8 values of float32


class Access(NamedTuple):
    """One thread reads or writes one element.

    array: its name; address: the element's index in the flattened array; phase: how many barriers
    the thread has passed; place: (file, line) of the kernel; atomic: whether it read and wrote in
    one step
    """

    array: str
    write: bool
    launch: int
    block: tuple
    thread: int
    phase: int
    address: int
    place: tuple
    atomic: bool


class Seen:
    """Everything the threads did.

    accesses: list of Access; shapes, bytes: array's name -> its shape, bytes per element;
    shared: names of arrays in shared memory; launches: number of kernels launched;
    reported: problems that were noticed while the kernel ran
    """

    def __init__(self):
        self.accesses, self.shapes, self.bytes = [], {}, {}
        self.shared, self.launches, self.reported = set(), 0, []

    def of(self, array, write=False):
        """List the reads, or the writes, of an array."""
        return [a for a in self.accesses if a.array == array and a.write == write]

    def count(self, array, write=False):
        """Count the reads, or the writes, of an array."""
        return len(self.of(array, write))

    def by_thread(self, array, write=False):
        """Count each thread's reads, or writes, of an array -> {(launch, block, thread): count}"""
        counts = defaultdict(int)
        for a in self.of(array, write):
            counts[a.launch, a.block, a.thread] += 1
        return dict(counts)

    def steps(self, array, write=False):
        """Group what a warp does at once: the n-th access to an array by each of its threads.

        array: name; write: whether to take the writes, or the reads
        -> {(launch, block, warp, n): {thread: address}}
        """
        turn, found = defaultdict(int), defaultdict(dict)
        for a in self.of(array, write):
            who = a.launch, a.block, a.thread
            found[a.launch, a.block, a.thread // WARP, turn[who]][a.thread] = a.address
            turn[who] += 1
        return dict(found)

    def sectors(self, array, write=False):
        """Count the sectors that memory reads, or writes, in all steps of all warps.

        The fewer there are, the better the accesses coalesce.
        """
        size = self.bytes[array]
        return sum(
            len({address * size // SECTOR for address in step.values()})
            for step in self.steps(array, write).values()
        )

    def problems(self):
        """List what is wrong with the kernel, even if its result is right -> list of sentences"""
        return list(dict.fromkeys(self.reported)) + list(dict.fromkeys(self._races()))

    def _races(self):
        """Find races -> iterator of sentences

        In a race two threads access the same element, at least one of them writes it, and there is
        no barrier between. Between blocks there never is one.
        """
        inside, across = defaultdict(list), defaultdict(list)
        for a in self.accesses:
            inside[a.launch, a.array, a.address, a.block, a.phase].append(a)
            if a.array not in self.shared:
                across[a.launch, a.array, a.address].append(a)
        for groups, who in ((inside, lambda a: (a.block, a.thread)), (across, lambda a: a.block)):
            for accesses in groups.values():
                pair = _clash(accesses, who)
                if pair:
                    yield self._race(*pair)

    def _race(self, a, b):
        where = [int(i) for i in np.unravel_index(a.address, self.shapes[a.array])]
        does = "writes it too" if b.write else "reads it"
        lines = dict.fromkeys(linecache.getline(*c.place).strip() for c in (a, b))
        quoted = " and ".join(f"`{line}`" for line in lines)
        first, second = f"thread {a.thread}", f"thread {b.thread}"
        if a.block != b.block:
            second += " of another block"
        race = f"a race: {first} writes {a.array}{where}, {second} {does}"
        return f"{race}, and no barrier lies between ({quoted})"


def _clash(accesses, who):
    """Find a write and an access by somebody else that are not both atomic -> the two, or None"""
    writes = [a for a in accesses if a.write]
    # The last one of each writer stays: one that is not atomic, if it made any.
    writers = {who(a): a for a in sorted(writes, key=lambda a: not a.atomic)}
    for w in list(writers.values())[:2]:
        for a in accesses:
            if who(a) != who(w) and not (a.atomic and w.atomic):
                return w, a


class _Watched:
    """An array as a kernel sees it, which records every access.

    Reading outside it gives NaN (0 in an array of integers); writing outside it does nothing.
    """

    def __init__(self, name, values, seen):
        self.name, self.values, self.seen = name, values, seen
        self.shape, self.ndim = values.shape, values.ndim
        self.size, self.dtype = values.size, values.dtype
        seen.shapes[name], seen.bytes[name] = values.shape, values.itemsize

    __iter__ = __array_ufunc__ = None

    def __array__(self, dtype=None, copy=None):
        name = self.name
        raise TypeError(f"{name} as a whole: a kernel works with its elements, {name}[...]")

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        if self._note(index, False):
            return self.values[index]
        return self.dtype.type(np.nan if self.dtype.kind == "f" else 0)

    def __setitem__(self, index, value):
        if self._note(index, True):
            self.values[index] = value

    def _note(self, index, write):
        index = index if isinstance(index, tuple) else (index,)
        if len(index) != self.ndim:
            indices = f"{len(index)} {'index' if len(index) == 1 else 'indices'}"
            raise IndexError(f"{self.name} has {self.ndim} axes, but got {indices}")
        address = 0
        for i, n in zip(index, self.shape, strict=True):
            if not -n <= i < n:
                what = f"{self.name}[{', '.join(map(str, index))}]"
                does = "written" if write else "read"
                problem = f"{what} is {does}, outside its shape {self.shape}"
                self.seen.reported.append(f"{problem}: a GPU would not report it")
                return False
            address = address * n + int(i) % n
        who, frame = _thread(), sys._getframe(2)
        # The likes of cuda.atomic.add are called from numba's lines, not from the kernel's.
        atomic = frame.f_globals.get("__name__", "").endswith(".kernelapi")
        frame = frame.f_back if atomic else frame
        place = frame.f_code.co_filename, frame.f_lineno
        where = self.seen.launches, who.block, who.thread_id, who.phase, address, place
        self.seen.accesses.append(Access(self.name, write, *where, atomic))
        return True


def _thread():
    return sys.modules["threading"].current_thread()


@contextmanager
def watch():
    """Watch all kernels that are launched inside a `with` block -> Seen.

    Raises RuntimeError outside the simulator.
    """
    if not SIMULATED:
        advice = "set NUMBA_ENABLE_CUDASIM=1 before numba is imported"
        raise RuntimeError(f"only the simulator can be watched: {advice}")
    api, simulated = _numbas()
    seen, call = Seen(), simulated.FakeCUDAKernel.__call__

    def launch(kernel, *args):
        return _launch(call, seen, kernel, args)

    def shared(_, shape, dtype):
        return _shared(seen, shape, dtype)

    def tell(manager, problem):
        seen.reported.append(problem)

    ours = [
        (simulated.FakeCUDAKernel, "__call__", launch),
        (simulated.BlockManager, "run", _in_turn(tell)),
        (api.FakeCUDAShared, "array", shared),
    ]
    before = [(owner, name, vars(owner)[name]) for owner, name, _ in ours]
    for owner, name, new in ours:
        setattr(owner, name, new)
    try:
        yield seen
    finally:
        for owner, name, old in before:
            setattr(owner, name, old)


def take_turns():
    """Have the threads of each block run in turn from now on; do nothing outside the simulator.

    Numba's simulator lets them run side by side and poll whether all wait, which is slow, and two
    that ask for a shared array at the same time may each get their own. A barrier that not all
    threads of a block reach raises RuntimeError.
    """
    if SIMULATED:
        _, simulated = _numbas()
        simulated.BlockManager.run = _in_turn(_refuse)


def _refuse(manager, problem):
    raise RuntimeError(f"{manager._f.__qualname__}: {problem}")


def _numbas():
    """Import the simulator's own modules, whose classes are replaced here -> kernelapi, kernel"""
    return (import_module(f"{cuda.__name__}.simulator.{name}") for name in ("kernelapi", "kernel"))


def _launch(call, seen, kernel, args):
    if kernel._device:  # a function that a kernel calls
        return call(kernel, *args)
    seen.launches += 1
    values = [getattr(a, "_ary", a) for a in args]  # an array of the simulator holds NumPy's
    named = zip(inspect.signature(kernel.fn).parameters, values, strict=True)
    watched = (_Watched(k, a, seen) if isinstance(a, np.ndarray) else a for k, a in named)
    return call(kernel, *watched)


def _shared(seen, shape, dtype):
    """Return the block's shared array for this call, the same one to each of its threads.

    At first it is full of NaN (of 999,999 if integers), which no kernel should read.
    """
    frame, boxes = sys._getframe(2), _thread()._manager.__dict__.setdefault("shared", {})
    line, call = (frame.f_code.co_filename, frame.f_lineno), frame.f_lasti
    if (line, call) not in boxes:
        name = _names(linecache.getline(*line))[sum(other == line for other, _ in boxes)]
        seen.shared.add(name)
        dtype = np.dtype(getattr(dtype, "name", dtype))  # or one of numba's
        unwritten = np.nan if dtype.kind == "f" else 999_999
        boxes[line, call] = _Watched(name, np.full(shape, unwritten, dtype), seen)
        used = sum(box.values.nbytes for box in boxes.values())
        if used > MOST_SHARED:
            most = f"a GPU gives a block at most {MOST_SHARED:,}"
            seen.reported.append(f"{used:,} bytes of shared memory with {name}: {most}")
    return boxes[line, call]


def _names(line):
    """Read the names that a line gives to its shared arrays -> list of names, then spare ones

    "t, box = cuda.threadIdx.x, cuda.shared.array(...)" -> ["box", "shared array 1", ...]
    """
    try:
        node = ast.parse(line.strip()).body[0]
        both = [getattr(part, "elts", [part]) for part in (node.targets[0], node.value)]
        pairs = [map(ast.unparse, pair) for pair in zip(*both, strict=True)]
        found = [target for target, value in pairs if "shared" in value]
    except (SyntaxError, AttributeError, ValueError, IndexError):
        found = []
    return [*found, *(f"shared array {k}" for k in range(1, 9))]


def _thread_class(base):
    class Thread(base):
        """A thread that runs on request, up to its next barrier."""

        def ready(self):
            self.go, self.back = Semaphore(0), Semaphore(0)
            self.phase, self.waits_at, self.block = 0, None, tuple(self.blockIdx)
            self.start()
            return self

        def run(self):
            self.go.acquire()
            if not self.abort:
                super().run()
            self.waits_at = None
            self.back.release()

        def syncthreads(self):
            frame = sys._getframe(2)
            self.waits_at = frame.f_code.co_filename, frame.f_lineno
            self.phase += 1
            self.back.release()
            self.go.acquire()
            if self.abort:
                raise RuntimeError("another thread of the block failed")

    return Thread


def _in_turn(report):
    """Make the method that runs a block: its threads in turn, each up to its next barrier.

    report: called with the block's manager and a sentence where the block is too large, and then is
    not run, or where not all threads reach a barrier
    """
    _, simulated = _numbas()
    Thread = _thread_class(simulated.BlockThread)

    def run(manager, block, *args):
        asked = int(np.prod(manager._block_dim))
        if asked > MOST_THREADS:
            report(manager, f"{asked:,} threads in a block: a GPU takes at most {MOST_THREADS:,}")
            return
        points = sorted(np.ndindex(*manager._block_dim), key=lambda point: point[::-1])
        f = partial(manager._f, *args)
        threads = [Thread(f, manager, block, point, False).ready() for point in points]
        try:
            while threads:
                for t in threads:
                    t.go.release()
                    t.back.acquire()
                for t in threads:
                    if t.exception:
                        raise t.exception[0].with_traceback(t.exception[1])
                waiting = [t for t in threads if t.waits_at]
                places = {t.waits_at for t in waiting}
                if waiting and (len(waiting) < len(threads) or len(places) > 1):
                    report(manager, _split(threads, waiting))
                threads = waiting
        finally:
            for t in threads:
                t.abort = True
                t.go.release()

    return run


def _split(threads, waiting):
    one = waiting[0]
    other = next(t for t in threads if t.waits_at != one.waits_at)
    does = "has already finished" if other.waits_at is None else "waits at another one"
    pair = f"thread {one.thread_id} waits at it, thread {other.thread_id} {does}"
    return (
        f"a barrier that not all threads of a block reach: {pair}; "
        "what a GPU does then is undefined"
    )


if SIMULATED:
    cuda_stand_ins.install(cuda, next(_numbas()))
