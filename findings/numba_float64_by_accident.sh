#!/usr/bin/env bash
# Numba: 0.5 * x is float32 in the machine code, 0.3 * x is float64, though both are typed float64
#
# Expected: a Python number is a float64 for Numba, so both loops over a float32 array convert each
#   element to float64 and back; or, as in NumPy, neither does.
# Seen: LLVM narrows the product to float32 where that gives the same bits, as with 0.5, which float32
#   holds exactly, and does not with 0.3. Numba's types say float64 in both.
# Version: numba 0.68.1, numpy 2.4.6
# Why it matters: which constants slow a float32 kernel down (on most GPUs by a factor of 32 or 64)
#   cannot be read off Numba's types, only off the code.
# Source: seen by running; LLVM's InstCombine, "visitFPTrunc".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check numba==0.68.1 numpy==2.4.6
"$work/venv/bin/python" - <<'PYTHON'
import re

import numba
import numpy as np
from numba import njit


def scaled(factor):
    @njit
    def loop(x, y):
        for i in range(x.size):
            y[i] = factor * x[i]

    x = np.ones(64, np.float32)
    loop(x, x.copy())
    (signature,) = loop.signatures
    typed = str(loop.overloads[signature].type_annotation.typemap.values())
    products = re.findall(r"= fmul \S*\s?\S*?\b(float|double)\b", loop.inspect_llvm(signature))
    return "float64" in typed, sorted(set(products))


print("numba", numba.__version__)
found = {factor: scaled(factor) for factor in (0.5, 0.3)}
for factor, (as_double, products) in found.items():
    print(f"{factor} * float32: typed float64: {as_double}; multiplied as {products}")
raise SystemExit(found != {0.5: (True, ["float"]), 0.3: (True, ["double"])})
PYTHON
