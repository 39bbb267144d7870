"""Mends to numba's CUDA simulator, for tests. Import it before a kernel runs; without the simulator it does nothing.

Shared arrays are shared for sure; threads that wait do not keep others waiting, which is ten times as fast; and a block whose threads
do not all come to the same number of syncthreads is an error, as it is on a device, where it may hang.
"""

import threading

import numpy as np
from numba import config


class OneEach(dict):
    """The simulator's list of shared arrays: two threads that ask for one at the same time would each get their own, were there no lock."""

    def __init__(self):
        self.lock = threading.Lock()

    def get(self, line):
        self.lock.acquire()
        found = super().get(line)
        if found is not None:
            self.lock.release()
        return found  # if None, the simulator makes the array and sets it

    def __setitem__(self, line, array):
        super().__setitem__(line, array)
        self.lock.release()


def run(block, grid_point, *args):
    """Run the threads of a block, in place of a loop that looks all the time whether they wait."""
    block.turn, block.waiting, block.round = threading.Condition(), 0, 0

    def body():
        try:
            block._f(*args)
        finally:
            with block.turn:
                block.alive -= 1
                go_on(block)

    threads = [
        kernel.BlockThread(body, block, grid_point, place, block._debug)
        for place in np.ndindex(*block._block_dim)
    ]
    block.alive = len(threads)
    for thread in threads:
        thread.meetings = 0
        thread.start()
    for thread in threads:
        thread.join()
    for thread in threads:
        if thread.exception:
            raise thread.exception[0].with_traceback(thread.exception[1])
    if len({thread.meetings for thread in threads}) > 1:
        raise AssertionError(
            f"{block._f.__qualname__}: the threads of a block did not all come to the same syncthreads"
        )


def go_on(block):
    """Let all go on once each thread that is still alive waits."""
    if block.waiting >= block.alive:
        block.waiting, block.round = 0, block.round + 1
        block.turn.notify_all()


def syncthreads(thread):
    block = thread._manager
    with block.turn:
        before, block.waiting, thread.meetings = block.round, block.waiting + 1, thread.meetings + 1
        go_on(block)
        while block.round == before:
            block.turn.wait()


if config.ENABLE_CUDASIM:
    from numba.cuda.simulator import kernel
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    FakeCUDAShared._allocations = property(
        lambda self: self.one_each, lambda self, _: setattr(self, "one_each", OneEach())
    )
    kernel.BlockManager.run, kernel.BlockThread.syncthreads = run, syncthreads
