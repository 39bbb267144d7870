"""Time a training and a sampling step in the code of older processors: on this one, in turn.

    python tests/bench/old_processors.py [--rounds 12]

One process each, of one thread; they take turns, and processor time counts, so that other work on
the machine hits all alike. Ratios are to the code for this processor; below 1 is faster.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile

OLD = {"NUMBA_CPU_FEATURES": ""}  # else Numba goes on using what this processor has
PROCESSORS = {
    "this one": {},
    "x86-64-v3 (AVX2)": {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma"},
    "x86-64-v2 (SSE4.2)": OLD | {"NUMBA_CPU_NAME": "x86-64-v2"},
    "the same, P = 4": OLD | {"NUMBA_CPU_NAME": "x86-64-v2", "ROWS": "4"},
    "the same, P = 8": OLD | {"NUMBA_CPU_NAME": "x86-64-v2", "ROWS": "8"},
    "generic (SSE2)": OLD | {"NUMBA_CPU_NAME": "generic"},
}


def worker():
    """Answer each line with the processor time, in seconds, of a training and of a sampling step"""
    import time

    import numpy as np

    from tinydiff.kernels import cpu_microkernel

    cpu_microkernel.P = int(os.environ.get("ROWS", cpu_microkernel.P))
    from tinydiff import checkpoint, data
    from tinydiff.app import cmd_train

    dataset = data.load("portraits")
    meta = cmd_train.describe(dataset, 0)
    run, s = checkpoint.build(meta, 0)
    steps = cmd_train.loop(run, s, dataset, meta["train"])
    model, labels = checkpoint.averaged(run, meta), dataset.test_labels[:64]
    x, t = np.zeros((64, 16, 16, 3), np.float32), np.ones(64)
    for _ in sys.stdin:
        times = []
        for f in (lambda: next(steps), lambda: model(x, t, labels)):
            began = time.process_time()
            f()
            times.append(time.process_time() - began)
        print(*times, flush=True)


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    rounds = parser.parse_args().rounds
    one = {"NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = {}
    for name, more in PROCESSORS.items():  # a cache each, as P is not in the files' names
        more = more | one | {"NUMBA_CACHE_DIR": tempfile.mkdtemp()}
        command = [sys.executable, __file__, "worker"]
        workers[name] = subprocess.Popen(command, env=os.environ | more, **pipes)
    times = {name: [] for name in workers}
    for _ in range(rounds + 1):
        for name, process in workers.items():
            print("go", file=process.stdin, flush=True)
            times[name].append(list(map(float, process.stdout.readline().split())))
    for process in workers.values():
        process.communicate()
    medians = {n: list(map(statistics.median, zip(*t[1:], strict=True))) for n, t in times.items()}
    first, second = medians["this one"]
    for name, (train, draw) in medians.items():
        ratios = f"{train / first:.2f} | {draw / second:.2f}"
        print(f"| {name} | {1000 * train:.0f} ms ({1000 * draw:.0f}) | {ratios} |")


if __name__ == "__main__":
    worker() if sys.argv[1:] == ["worker"] else main()
