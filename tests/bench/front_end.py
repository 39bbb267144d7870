"""What a GPU's compiler says of every CUDA kernel of the package, on a machine without a GPU.

    python tests/bench/front_end.py            a table, as in RESULTS.md

Kernels and the types of their arguments are those that the seam's functions launch (test_ptx.py)
and those of lesson 15. Each row is a kernel in float32, with the largest block that they ask for.
Threads, bytes of shared memory and registers of a thread are what limits a launch; registers are
counted where CUDA's own compiler and assembler are at hand, as with numba-cuda[cu12]. The status
is 1 where a kernel is refused, too large, or computes in float64. A second table is of answers to
an exercise, some of them wrong (test_front.py).
"""

import os
import sys
import time
from pathlib import Path

os.environ["NUMBA_ENABLE_CUDASIM"] = "0"  # before numba is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import test_front
import test_ptx

from tinydiff.kernels import cuda_front, cuda_ladder

HEAD = "kernel typed threads shared registers float64".split()


def main():
    if why := cuda_front.missing():
        print(why)
        return 77
    launches = cuda_ladder.LAUNCHES.items()
    tried = {(getattr(cuda_ladder, name), types): n for name, (types, n) in launches}
    noted = test_ptx.launches(cuda_front.CAPABILITY, [np.float32])
    tried |= {key: threads for key, threads in noted.items() if "float64" not in str(key[1])}
    began, rows = time.process_time(), {}
    for (kernel, types), threads in tried.items():
        seen, name = cuda_front.look(kernel, types, threads), _name(kernel)
        rows[name] = _worse(rows.get(name), seen)
    _table(sorted(rows.items()))
    seconds = time.process_time() - began
    print(f"\n{len(rows)} kernels, {len(tried)} combinations of types: {seconds:.1f} s of CPU\n")
    _table(_wrong_answers())
    wrong = [f"{name}: {why}" for name, seen in rows.items() for _, why in seen.problems()]
    print(*wrong, sep="\n")
    return int(bool(wrong))


def _wrong_answers():
    """Look at test_front.py's answers to lesson 15: yields (name, Look)"""
    types, threads = cuda_ladder.LAUNCHES["add_noise"]
    for kernel in test_front.KERNELS:
        yield f"answer: {kernel.py_func.__name__}", cuda_front.look(kernel, types, threads)
    yield "add_noise, 2,048 threads", cuda_front.look(cuda_ladder.add_noise, types, 2048)


def _table(rows):
    for cells in (HEAD, ["---"] * len(HEAD), *(_cells(*row) for row in rows)):
        print(f"| {' | '.join(map(str, cells))} |")


def _cells(name, seen):
    if seen.refused:
        return name, "no", f"{seen.threads:,}", "-", "-", "-"
    double = "found" if seen.float64 else "not found"
    return name, "yes", f"{seen.threads:,}", f"{seen.shared:,}", seen.registers or "-", double


def _name(kernel):
    module, f = kernel.py_func.__module__.split(".")[-1], kernel.py_func
    return f"{module}.{f.__qualname__.replace('.<locals>', '')}"


def _worse(one, other):
    """Choose of two Looks at a kernel that which asks for more."""
    asks = lambda seen: (bool(seen.problems()), seen.registers or 0, seen.threads)
    return max((seen for seen in (one, other) if seen), key=asks)


if __name__ == "__main__":
    sys.exit(main())
