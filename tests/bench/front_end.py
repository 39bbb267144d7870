"""What a GPU's compiler says of every CUDA kernel of the package, on a machine without a GPU.

    python tests/bench/front_end.py            a table, as in RESULTS.md

Kernels and the types of their arguments are those that the seam's functions launch (test_ptx.py)
and those of lesson 15. Each row is a kernel in float32, with the largest block that they ask for.
Threads, bytes of shared memory and registers of a thread are what limits a launch; registers are
counted where CUDA's assembler and library are at hand, which come with numba-cuda[cu12]. The status
is 1 where a kernel is refused, too large, or computes in float64.
"""

import os
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
READY = "TINYDIFF_FRONT_END"  # in the environment once it is as cuda_front.py needs it
HEAD = "kernel typed threads shared registers float64".split()


def main():
    import numpy as np
    import test_ptx

    from tinydiff.kernels import cuda_front, cuda_ladder

    if why := cuda_front.missing():
        print(why)
        return 77
    tried = test_ptx.launches(cuda_front.CAPABILITY, [np.float32])
    tried = {key: threads for key, threads in tried.items() if "float64" not in str(key[1])}
    for name, (signature, threads) in cuda_ladder.LAUNCHES.items():
        tried[getattr(cuda_ladder, name), signature] = threads
    began, rows = time.process_time(), {}
    for (kernel, types), threads in tried.items():
        seen, name = cuda_front.look(kernel, types, threads), _name(kernel)
        rows[name] = _worse(rows.get(name), seen)
    for cells in (HEAD, ["---"] * len(HEAD), *(_cells(*row) for row in sorted(rows.items()))):
        print(f"| {' | '.join(map(str, cells))} |")
    seconds = time.process_time() - began
    print(
        f"\n{len(rows)} kernels, {len(tried)} combinations of types, {seconds:.1f} s of processor"
    )
    wrong = [f"{name}: {why}" for name, seen in rows.items() for _, why in seen.problems()]
    print(*wrong, sep="\n")
    return int(bool(wrong))


def _cells(name, seen):
    typed, double = "no" if seen.refused else "yes", "found" if seen.float64 else "not found"
    return name, typed, seen.threads, f"{seen.shared:,}", seen.registers or "-", double


def _name(kernel):
    module, f = kernel.py_func.__module__.split(".")[-1], kernel.py_func
    return f"{module}.{f.__qualname__.replace('.<locals>', '')}"


def _worse(one, other):
    """Choose of two Looks at a kernel that which asks for more."""
    asks = lambda seen: (bool(seen.problems()), seen.registers or 0, seen.threads)
    return max((seen for seen in (one, other) if seen), key=asks)


if __name__ == "__main__":
    sys.path[:0] = [str(TESTS), str(TESTS.parent)]
    if not os.environ.get(READY):
        from tinydiff.course import elsewhere

        more = elsewhere.surroundings(elsewhere.COMPILER) | {READY: "1"}
        more["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
        os.execve(sys.executable, [sys.executable, __file__, *sys.argv[1:]], os.environ | more)
    sys.exit(main())
