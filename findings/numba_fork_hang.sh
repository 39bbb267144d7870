#!/usr/bin/env bash
# Expected: a parallel Numba function in a forked process works, or Numba ends the process with the
#   line that it has for this ("fork() called from a process already using GNU OpenMP").
# Seen: it hangs for ever, where the parent has not run Numba's threads, but another library's
#   OpenMP threads, out of the same libgomp. Numba only looks at whether it has run some itself.
#   After the same fork with NUMBA_THREADING_LAYER=workqueue it works.
# Version: Numba 0.68.1, Linux, with the libgomp of GCC 12.
# Why it matters: `import torch` makes PyTorch's libgomp the one that Numba uses, too. So a worker of
#   a DataLoader hangs in its first parallel kernel, if PyTorch has computed before.
# Source: seen by running; numba/np/ufunc/omppool.cpp, parallel_for, compares parent_pid only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check numba==0.68.1
cd "$folder"
cat > fork.py <<'PYTHON'
import ctypes
import os
import signal
import sys
import time

import numpy as np
from numba import njit, prange


@njit(parallel=True)
def double(x):
    y = np.empty_like(x)
    for i in prange(len(x)):
        y[i] = 2 * x[i]
    return y


if "used" in sys.argv:  # what any other library with an OpenMP loop does
    task = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)
    ctypes.CDLL("libgomp.so.1").GOMP_parallel(task, None, 2, 0)
pid = os.fork()
if not pid:
    os._exit(0 if double(np.ones(8)).sum() == 16 else 1)
for _ in range(300):
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        sys.exit(print("the child ended with status", status))
    time.sleep(0.1)
os.kill(pid, signal.SIGKILL)
print("the child hangs")
PYTHON
free=$(NUMBA_NUM_THREADS=2 venv/bin/python fork.py)
omp=$(NUMBA_NUM_THREADS=2 NUMBA_THREADING_LAYER=omp venv/bin/python fork.py used)
own=$(NUMBA_NUM_THREADS=2 NUMBA_THREADING_LAYER=workqueue venv/bin/python fork.py used)
echo "nothing ran before: $free"
echo "another library's OpenMP ran before, layer omp: $omp"
echo "the same, layer workqueue: $own"
[ "$free" = "the child ended with status 0" ] && [ "$omp" = "the child hangs" ] && [ "$own" = "$free" ]
