#!/usr/bin/env bash
# numba.cuda's simulator: launches that no GPU takes run there, and give right results
#
# Expected: the simulator knows what every NVIDIA GPU has in common: at most 1,024 threads in a block,
#   at most 48 kB of shared memory that a kernel declares, the size of a shared array a constant.
# Seen: 2,048 threads, 160 kB, and a size that is an argument all run. Numba's own compiler for GPUs,
#   which needs no GPU, refuses the last one; nothing but a device refuses the others.
# Version: numba 0.68.1, numpy 2.4.6
# Why it matters: a kernel that passes in the simulator may not start on any device.
# Source: CUDA C++ Programming Guide, technical specifications per compute capability; seen by running.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check numba==0.68.1 numpy==2.4.6
cd "$work"
cat > limits.py <<'PYTHON'
import sys
import warnings

import numba
import numpy as np

warnings.simplefilter("ignore")
from numba import cuda, float32, types


def large(y):
    box = cuda.shared.array(40_000, float32)
    box[cuda.threadIdx.x] = 1
    cuda.syncthreads()
    y[cuda.threadIdx.x] = box[cuda.threadIdx.x]


def of_any_size(y, n):
    box = cuda.shared.array(n, float32)
    box[cuda.threadIdx.x] = 1
    y[cuda.threadIdx.x] = box[cuda.threadIdx.x]


if sys.argv[1] == "run":
    print("numba", numba.__version__, "in the simulator")
    y, z = np.zeros(2048, np.float32), np.zeros(4, np.float32)
    cuda.jit(large)[1, 2048](y)
    cuda.jit(of_any_size)[1, 4](z, 4)
    print("2,048 threads and 160 kB:", int(y.sum()), "of 2048 right; a size at run time:", int(z.sum()))
    raise SystemExit(not (y.all() and z.all()))
from numba.cuda.compiler import compile_cuda

array = types.Array(types.float32, 1, "C")
compile_cuda(large, types.void, (array,), cc=(8, 0))
print("the compiler: 160 kB are no error")
try:
    compile_cuda(of_any_size, types.void, (array, types.int64), cc=(8, 0))
except numba.core.errors.TypingError:
    print("the compiler: a size at run time is a TypingError")
else:
    raise SystemExit("the compiler takes a size at run time")
PYTHON
NUMBA_ENABLE_CUDASIM=1 venv/bin/python limits.py run
NUMBA_ENABLE_CUDASIM=0 venv/bin/python limits.py compile
