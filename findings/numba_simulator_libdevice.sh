#!/usr/bin/env bash
# numba.cuda's simulator: every function of libdevice gives NaN, and says nothing
#
# Expected: the simulator computes libdevice.sqrtf(4) = 2, or refuses the call as it refuses what it
#   cannot do.
# Seen: each such function is a stub that returns None, which a float array takes as NaN. The same
#   kernel is right on a GPU.
# Version: numba 0.68.1, numpy 2.4.6
# Why it matters: a class without GPUs is graded in the simulator; a right answer looks wrong there.
# Source: numba/cuda/simulator/cudadrv/libs.py and libdevice.py; seen by running.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check numba==0.68.1 numpy==2.4.6
cd "$work"
cat > roots.py <<'PYTHON'
import math
import warnings

import numba
import numpy as np

warnings.simplefilter("ignore")
from numba import cuda
from numba.cuda import libdevice


@cuda.jit
def roots(x, by_math, by_libdevice):
    i = cuda.grid(1)
    if i < x.size:
        by_math[i] = math.sqrt(x[i])
        by_libdevice[i] = libdevice.sqrtf(x[i])


print("numba", numba.__version__, "in the simulator")
x = np.array([1, 4, 9], np.float32)
by_math, by_libdevice = np.zeros_like(x), np.zeros_like(x)
roots[1, 4](x, by_math, by_libdevice)
print("math.sqrt      ", by_math)
print("libdevice.sqrtf", by_libdevice)
raise SystemExit(not (by_math.tolist() == [1, 2, 3] and np.isnan(by_libdevice).all()))
PYTHON
NUMBA_ENABLE_CUDASIM=1 venv/bin/python roots.py
