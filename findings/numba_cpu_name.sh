#!/usr/bin/env bash
# Expected: NUMBA_CPU_NAME=nehalem makes code for a Nehalem of 2008, which knows nothing of AVX.
# Seen: on a processor with AVX the code is still full of AVX: only the name changes, the features stay
#   those of this processor. With NUMBA_CPU_FEATURES= (empty) besides there is none. "generic" alone
#   among the names empties the features, too.
# Version: Numba 0.68.1, llvmlite 0.50.0, x86-64.
# Why it matters: whoever makes or tests code for an older machine so makes code that ends there with
#   "illegal instruction", and here passes every test.
# Source: seen by running; numba/core/config.py, CPU_FEATURES: its default is "" for "generic" only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check numba==0.68.1 llvmlite==0.50.0
cat > "$folder/avx.py" <<'PYTHON'
import numpy as np
from llvmlite.binding import get_host_cpu_features
from numba import njit


@njit(fastmath=True)
def total(x):
    s = np.float32(0)
    for v in x:
        s += v
    return s


total(np.ones(64, np.float32))
(assembly,) = total.inspect_asm().values()
wide = sum(f"{letter}mm" in line for letter in "yz" for line in assembly.splitlines())
has = get_host_cpu_features().get("avx", False)
print("AVX" if wide else "no AVX", "here" if has else "no AVX on this machine")
PYTHON
unset NUMBA_CPU_NAME NUMBA_CPU_FEATURES
run() { env "$@" "$folder/venv/bin/python" "$folder/avx.py"; }
plain=$(run A=1) name=$(run NUMBA_CPU_NAME=nehalem) generic=$(run NUMBA_CPU_NAME=generic)
both=$(run NUMBA_CPU_NAME=nehalem NUMBA_CPU_FEATURES=)
echo "as it is: $plain"
echo "NUMBA_CPU_NAME=nehalem: $name"
echo "NUMBA_CPU_NAME=nehalem NUMBA_CPU_FEATURES=: $both"
echo "NUMBA_CPU_NAME=generic: $generic"
[[ $plain == "AVX here" && $name == "$plain" && $both == "no AVX here" && $generic == "no AVX here" ]]
