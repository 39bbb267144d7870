"""Numba's simulator with eyes: one thread at a time, always in the same order, and every access to memory is noted.

    with simulator.watch() as seen:
        kernel[grid, block](a, b, y)
    seen.count("a"), seen.sectors("a"), seen.problems()

What a card would not tell is told here: a place outside an array, a barrier that is missing, or that not all threads reach.
It needs NUMBA_ENABLE_CUDASIM=1, set before numba is imported.
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

from .cuda_array import SIMULATED, cuda

WARP = 32  # threads that take each step together
SECTOR = 32  # bytes: memory is fetched and written in pieces of this size, 8 numbers of float32


class Access(NamedTuple):
    """One thread reads or writes one number.

    phase: how many barriers it has passed; place: (file, line) of the kernel; atomic: whether it read and wrote in one step
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
    """What the threads did. accesses: list of Access; shapes: array's name -> its shape; shared: names of arrays in shared memory."""

    def __init__(self):
        self.accesses, self.shapes, self.bytes, self.shared, self.launches, self.told = (
            [],
            {},
            {},
            set(),
            0,
            [],
        )

    def of(self, array, write=False):
        """List the reads, or the writes, of an array."""
        return [a for a in self.accesses if a.array == array and a.write == write]

    def count(self, array, write=False):
        return len(self.of(array, write))

    def by_thread(self, array, write=False):
        """Count each thread's reads, or writes, of an array -> {(launch, block, thread): count}"""
        counts = defaultdict(int)
        for a in self.of(array, write):
            counts[a.launch, a.block, a.thread] += 1
        return dict(counts)

    def steps(self, array, write=False):
        """Put together what a warp does at once: the n-th read, or write, of an array by each of its threads.

        -> {(launch, block, warp, n): {thread: address}}
        """
        turn, found = defaultdict(int), defaultdict(dict)
        for a in self.of(array, write):
            who = a.launch, a.block, a.thread
            found[a.launch, a.block, a.thread // WARP, turn[who]][a.thread] = a.address
            turn[who] += 1
        return dict(found)

    def sectors(self, array, write=False):
        """Count the sectors that memory hands out, or takes in, for all steps of all warps: the smaller, the better they coalesce."""
        size = self.bytes[array]
        return sum(
            len({address * size // SECTOR for address in step.values()})
            for step in self.steps(array, write).values()
        )

    def problems(self):
        """List what is wrong with the kernel, though its result may be right: sentences, the first one first."""
        return list(dict.fromkeys(self.told)) + list(dict.fromkeys(self._races()))

    def _races(self):
        """Two threads touch one place, one of them writes, and no barrier lies between; blocks have none between them."""
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
        lines = " and ".join(
            f"`{text}`"
            for text in dict.fromkeys(linecache.getline(*c.place).strip() for c in (a, b))
        )
        who = f"thread {b.thread}" if a.block == b.block else f"thread {b.thread} of another block"
        return f"a race: thread {a.thread} writes {a.array}{where}, {who} {does}, and no barrier lies between ({lines})"


def _clash(accesses, who):
    """Find a write, and an access by somebody else, that are not both atomic -> the two, or None"""
    writers = {
        who(a): a for a in sorted(accesses, key=lambda a: (a.write, not a.atomic)) if a.write
    }  # of each, one not atomic if it has
    for w in list(writers.values())[:2]:
        for a in accesses:
            if who(a) != who(w) and not (a.atomic and w.atomic):
                return w, a


class _Watched:
    """An array as a kernel sees it, whose every access is noted. Places outside it read as not a number, and keep nothing."""

    def __init__(self, name, values, seen):
        self.name, self.values, self.seen = name, values, seen
        self.shape, self.ndim, self.size, self.dtype = (
            values.shape,
            values.ndim,
            values.size,
            values.dtype,
        )
        seen.shapes[name], seen.bytes[name] = values.shape, values.itemsize

    __iter__ = __array_ufunc__ = None

    def __array__(self, dtype=None, copy=None):
        raise TypeError(f"{self.name} as a whole: a kernel works with numbers, {self.name}[...]")

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        return (
            self.values[index]
            if self._note(index, False)
            else self.dtype.type(np.nan if self.dtype.kind == "f" else 0)
        )

    def __setitem__(self, index, value):
        if self._note(index, True):
            self.values[index] = value

    def _note(self, index, write):
        index = index if isinstance(index, tuple) else (index,)
        if len(index) != self.ndim:
            raise IndexError(
                f"{self.name} has {self.ndim} axes, and {len(index)} number(s) stand in its brackets"
            )
        address = 0
        for i, n in zip(index, self.shape, strict=True):
            if not -n <= i < n:
                what = f"{self.name}[{', '.join(map(str, index))}]"
                does = "written" if write else "read"
                self.seen.told.append(
                    f"{what} is {does}, outside its shape {self.shape}: a card would not say so"
                )
                return False
            address = address * n + int(i) % n
        who, frame = _thread(), sys._getframe(2)
        atomic = frame.f_globals.get("__name__", "").endswith(
            ".kernelapi"
        )  # cuda.atomic.add and its like: numba's lines, not the kernel's
        frame = frame.f_back if atomic else frame
        place = frame.f_code.co_filename, frame.f_lineno
        self.seen.accesses.append(
            Access(
                self.name,
                write,
                self.seen.launches,
                who.block,
                who.thread_id,
                who.phase,
                address,
                place,
                atomic,
            )
        )
        return True


def _thread():
    return sys.modules["threading"].current_thread()


@contextmanager
def watch():
    """Watch all kernels that are launched inside a `with` block -> Seen. Raises RuntimeError outside the simulator."""
    if not SIMULATED:
        raise RuntimeError(
            "only the simulator can be watched: set NUMBA_ENABLE_CUDASIM=1 before numba is imported"
        )
    api, runs = (
        import_module(f"{cuda.__name__}.simulator.{name}") for name in ("kernelapi", "kernel")
    )
    seen, call = Seen(), runs.FakeCUDAKernel.__call__
    ours = [
        (runs.FakeCUDAKernel, "__call__", lambda kernel, *args: _launch(call, seen, kernel, args)),
        (
            runs.BlockManager,
            "run",
            lambda manager, block, *args: _run(
                _thread_class(runs.BlockThread), seen, manager, block, args
            ),
        ),
        (api.FakeCUDAShared, "array", lambda _, shape, dtype: _shared(seen, shape, dtype)),
    ]
    before = [(owner, name, vars(owner)[name]) for owner, name, _ in ours]
    for owner, name, new in ours:
        setattr(owner, name, new)
    try:
        yield seen
    finally:
        for owner, name, old in before:
            setattr(owner, name, old)


def _launch(call, seen, kernel, args):
    if kernel._device:  # a function that a kernel calls
        return call(kernel, *args)
    seen.launches += 1
    values = [getattr(a, "_ary", a) for a in args]  # an array of the simulator holds NumPy's
    names = inspect.signature(kernel.fn).parameters
    return call(
        kernel,
        *(
            _Watched(k, a, seen) if isinstance(a, np.ndarray) else a
            for k, a in zip(names, values, strict=True)
        ),
    )


def _shared(seen, shape, dtype):
    """Give the block's shared array of the call that asks for it: at first full of what nobody should read."""
    frame, boxes = sys._getframe(2), _thread()._manager.__dict__.setdefault("shared", {})
    line, call = (frame.f_code.co_filename, frame.f_lineno), frame.f_lasti
    if (line, call) not in boxes:
        name = _names(linecache.getline(*line))[sum(other == line for other, _ in boxes)]
        seen.shared.add(name)
        dtype = np.dtype(getattr(dtype, "name", dtype))  # or one of numba's
        boxes[line, call] = _Watched(
            name, np.full(shape, np.nan if dtype.kind == "f" else 999_999, dtype), seen
        )
    return boxes[line, call]


def _names(line):
    """Read what a line calls its shared arrays: "t, box = cuda.threadIdx.x, cuda.shared.array(...)" -> ["box"], and names to spare"""
    try:
        node = ast.parse(line.strip()).body[0]
        both = [getattr(part, "elts", [part]) for part in (node.targets[0], node.value)]
        found = [
            ast.unparse(target)
            for target, value in zip(*both, strict=True)
            if "shared" in ast.unparse(value)
        ]
    except (SyntaxError, AttributeError, ValueError, IndexError):
        found = []
    return [*found, *(f"shared array {k}" for k in range(1, 9))]


def _thread_class(base):
    class Thread(base):
        """A thread that runs when it is told to, up to its next barrier."""

        def ready(self):
            self.go, self.back, self.phase, self.waits_at, self.block = (
                Semaphore(0),
                Semaphore(0),
                0,
                None,
                tuple(self.blockIdx),
            )
            self.start()
            return self

        def run(self):
            self.go.acquire()
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


def _run(Thread, seen, manager, block, args):
    """Run the threads of a block in turn, each up to its next barrier, until all are through."""
    points = sorted(np.ndindex(*manager._block_dim), key=lambda point: point[::-1])
    threads = [
        Thread(partial(manager._f, *args), manager, block, point, False).ready() for point in points
    ]
    while threads:
        for t in threads:
            t.go.release()
            t.back.acquire()
        failed = next((t for t in threads if t.exception), None)
        waiting = [t for t in threads if t.waits_at]
        if failed:
            for t in waiting:
                t.abort = True
                t.go.release()
            raise failed.exception[0].with_traceback(failed.exception[1])
        if waiting and (len(waiting) < len(threads) or len({t.waits_at for t in waiting}) > 1):
            seen.told.append(_split(threads, waiting))
        threads = waiting


def _split(threads, waiting):
    others = [t for t in threads if t.waits_at != waiting[0].waits_at]
    return (
        f"a barrier that not all threads of a block reach: thread {waiting[0].thread_id} waits at it and thread {others[0].thread_id} "
        + ("is through already" if others[0].waits_at is None else "at another one")
        + ": on a card nobody knows what happens then"
    )
