"""Many machines, one work: mpiexec starts a process on each, and each takes its share.

    mpiexec -n 4 python -m tinydiff train portraits

Every process, a *rank*, draws the same whole batch and computes the gradient of its own rows; the
ranks add these up, and all of them take the same step. Without mpiexec there is one rank, `ALONE`.
"""

import hashlib
import time

import numpy as np

from . import kernels

PATIENCE = 2.0  # seconds that a rank which was told to end waits for the others


class Lost(RuntimeError):
    """Another rank no longer answers, and this one was told to end."""


class Team:
    """The ranks that work together, seen from one of them.

    comm: an mpi4py communicator, None = this process is alone, and every method gives back what it
    was given
    .rank: 0 .. size - 1; only rank 0 prints and writes; .size: how many ranks
    .told: list, no longer empty when this rank was told to end
    .note: (2,), what rides along with the next gradient: seconds of this training, and whether this
    rank was told to end; .heard: (2,), the same of the last step, as all ranks know it
    """

    def __init__(self, comm=None):
        self.comm = comm
        self.rank, self.size = (comm.rank, comm.size) if comm else (0, 1)
        self.note, self.heard = np.zeros((2, 2), np.float32)
        self.told, self.weight = [], np.float32(1)

    def part(self, n):
        """Choose this rank's rows of n, as evenly as whole numbers allow: int -> slice"""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def share(self, *arrays):
        """Take this rank's rows of a batch that every rank has drawn whole.

        arrays: each (N, ...) or None -> list of arrays (n, ...) or None
        Raises ValueError where a rank would get none.
        """
        N = len(arrays[0])
        mine = self.part(N)
        if N < self.size:
            raise ValueError(f"{self.size} processes cannot share a batch of {N}")
        self.weight = np.float32((mine.stop - mine.start) / N)
        return arrays if self.size == 1 else [a if a is None else a[mine] for a in arrays]

    def mean(self, g, loss):
        """Average the gradient over the whole batch, of which each rank knows its rows: Allreduce.

        sum over ranks of (n / N) g, the same for the loss, n of N rows being those of `share`
        g: (P,); loss: () -> g (P,), loss (), the same on every rank
        Raises Lost.
        """
        if self.size == 1:
            return g, loss
        message = np.append(np.asarray(g), np.asarray(loss)) * self.weight
        note = self.note * [self.rank == 0, 1]  # the first one's clock counts for all
        total = self.sum(np.concatenate([message, note]).astype(np.float32))
        self.heard = total[-2:]
        return kernels.array(total[:-3]), total[-3]

    def agreed(self, seconds):
        """Give the seconds so far on which all ranks agree: this one's -> float"""
        return seconds if self.size == 1 else float(self.heard[0])

    def asked(self, told):
        """Say whether to end, as all ranks agree, after the same step: `told`, a list -> bool"""
        return bool(told if self.size == 1 else self.heard[1])

    def sum(self, message):
        """Add arrays up over all ranks, a signal being heard meanwhile: (P,) -> (P,). Raises Lost.

        It asks again and again whether all have come, and lets go of the core in between.
        """
        total = np.empty_like(message)
        request, since = self.comm.Iallreduce(np.ascontiguousarray(message), total), None
        while not request.Test():
            time.sleep(0)
            if self.told:
                since = since or time.monotonic()
                if time.monotonic() - since > PATIENCE:
                    raise Lost("another process no longer answers")
        return total

    def gather(self, x):
        """Join the rows of all ranks, in order, on each of them: (n, ...) -> (N, ...)"""
        return x if self.size == 1 else np.concatenate(self.comm.allgather(np.ascontiguousarray(x)))

    def alike(self, *arrays):
        """Say whether all ranks hold the same: arrays, or numbers, or str -> bool"""
        if self.size == 1:
            return True
        digest = hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in arrays)).digest()
        return len(set(self.comm.allgather(digest))) == 1


ALONE = Team()


def ring_allreduce(arrays, send):
    """Add up arrays of N machines in a ring: each sends to its right neighbour only, no one more.

    Every array is cut into N pieces, as np.array_split does. Twice N - 1 rounds, in each of which
    every machine r sends one piece and gets one from r - 1:
    add     in round i = 0 .. N - 2 machine r sends piece r - i and adds what arrives to its own;
            then it holds the whole sum of piece r + 1
    hand on in round i machine r sends piece r + 1 - i, and keeps what arrives in the place of its
            own (all numbers of pieces and machines modulo N)
    arrays: list of N arrays (P,), one for each machine, which stay as they are
    send: function of r and a piece, that machine r sends -> the piece, as it arrives at r + 1
    -> list of N arrays (P,), the sum, for each machine; it has sent 2 (N - 1) / N of an array
    Source: Patarasuk & Yuan 2009.
    """
    N = len(arrays)
    held = [np.array_split(a, N) for a in arrays]  # held[r][k]: piece k, on machine r
    for i in range(N - 1):
        arrived = [send(r, held[r][(r - i) % N]) for r in range(N)]
        for r in range(N):
            k = (r - 1 - i) % N
            held[r][k] = held[r][k] + arrived[r - 1]
    for i in range(N - 1):
        arrived = [send(r, held[r][(r + 1 - i) % N]) for r in range(N)]
        for r in range(N):
            held[r][(r - i) % N] = arrived[r - 1]
    return [np.concatenate(pieces) for pieces in held]
