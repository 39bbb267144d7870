#!/usr/bin/env bash
# The tests on every Python given, and on the oldest packages that pyproject.toml allows: hours, not
# in CI.
#
#     tests/matrix.sh [PYTHON ...] [-- what pytest takes]
#
# Without PYTHON it takes python3.11 to python3.14, as far as they are there. Each gets a fresh
# environment, and the first one a second, of the oldest packages; $KEEP names a folder in which
# they stay, and are used again. At the end comes a table; the status is 1 if any of them failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

pythons=() table=() status=0
while [ $# -gt 0 ] && [ "$1" != -- ]; do pythons+=("$1") && shift; done
[ $# -eq 0 ] || shift
if [ ${#pythons[@]} -eq 0 ]; then
    for minor in 11 12 13 14; do
        if command -v "python3.$minor" > /dev/null; then pythons+=("python3.$minor"); fi
    done
fi
if [ ${#pythons[@]} -eq 0 ]; then
    echo "tests/matrix.sh: no Python from 3.11 on is here: give the path of one" >&2
    exit 77
fi
folder=${KEEP:-$(mktemp -d)}
mkdir -p "$folder"
[ -n "${KEEP:-}" ] || trap 'rm -rf "$folder"' EXIT
export NUMBA_NUM_THREADS=${NUMBA_NUM_THREADS:-1} OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
unset PYTHONPATH

oldest() { # what pyproject.toml and the grader's pytest ask for at least, as pip's constraints
    "$1" - << 'PYTHON'
import tomllib

needed = tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]
needed += [line for line in open("requirements.txt") if line.startswith("pytest")]
print("\n".join(line.strip().replace(">=", "==") for line in needed))
PYTHON
}

environment() { # PYTHON, NAME of the folder, file of constraints: makes it, unless it is there
    if [ -e "$folder/$2/ready" ]; then return; fi
    "$1" -m venv --clear "$folder/$2" &&
        "$folder/$2/bin/pip" install -q --disable-pip-version-check -r requirements.txt -c "$3" &&
        touch "$folder/$2/ready"
}

try() { # PYTHON, NAME, file of constraints, what pytest takes ...: adds a row to the table
    local python=$1 name=$2 constraints=$3 said="no environment could be made" versions="- -"
    shift 3
    echo "--- $name"
    if environment "$python" "$name" "$constraints"; then
        local bin=$folder/$name/bin
        versions=$("$bin/python" -c "import numba, numpy; print(numba.__version__, numpy.__version__)")
        NUMBA_CACHE_DIR=$folder/$name/numba PATH=$bin:$PATH nice -n 5 \
            "$bin/python" -m pytest -q -p no:cacheprovider "$@" 2>&1 | tee "$folder/$name.log" ||
            status=1
        said=$(tail -n 1 "$folder/$name.log")
    else
        status=1
    fi
    # shellcheck disable=SC2086
    table+=("$(printf '%-16s %-8s %-8s %s' "$name" $versions "$said")")
}

: > "$folder/newest.txt"
oldest "${pythons[0]}" > "$folder/oldest.txt"
for python in "${pythons[@]}"; do
    try "$python" "$("$python" -c 'import platform; print(platform.python_version())')" \
        "$folder/newest.txt" "$@"
done
try "${pythons[0]}" oldest "$folder/oldest.txt" "$@"
printf '%-16s %-8s %-8s %s\n' python numba numpy pytest
printf '%s\n' "${table[@]}"
exit "$status"
