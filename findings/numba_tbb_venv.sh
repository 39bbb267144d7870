#!/usr/bin/env bash
# Expected: after Numba's own hint, "TBB is required, try: conda/pip install tbb", TBB is there.
# Seen: in a virtual environment Numba goes on saying so: pip puts libtbb.so.12 into the
#   environment's lib/, where the loader does not look. With that folder in LD_LIBRARY_PATH, or after
#   ctypes.CDLL has loaded the file by its path, it is found.
# Version: Numba 0.68.1, tbb 2022.3.1, Linux.
# Why it matters: who asks for TBB gets an error that recommends what has just been done; who asks
#   for nothing gets another layer, silently.
# Source: seen by running; numba/np/ufunc/parallel.py, _check_tbb_version_compatible; reported as
#   https://github.com/numba/numba/issues/6108 (2020, open).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check numba==0.68.1 tbb==2022.3.1
unset LD_LIBRARY_PATH
cat > "$folder/layer.py" <<'PYTHON'
import ctypes
import sys

import numba

if len(sys.argv) > 1:
    ctypes.CDLL(sys.argv[1])
numba.config.THREADING_LAYER = "tbb"
try:
    numba.get_num_threads()
    print("found")
except ValueError as e:
    print("not found:", " ".join(str(e).split()))
PYTHON
run() { "$folder/venv/bin/python" "$folder/layer.py" "$@"; }
library=$folder/venv/lib/libtbb.so.12
plain=$(run) path=$(LD_LIBRARY_PATH=$folder/venv/lib run) loaded=$(run "$library")
echo "$library is there: $(test -e "$library" && echo yes)"
echo "as it is: $plain"
echo "with LD_LIBRARY_PATH: $path"
echo "loaded by its path before: $loaded"
[[ $plain == "not found: "*"pip install tbb" && $path == found && $loaded == found ]]
