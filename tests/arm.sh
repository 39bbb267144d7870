#!/usr/bin/env bash
# The kernels on an emulated ARM processor (aarch64): their tests, what their innermost loops became, a
# training and a drawing. An hour or two; not in CI, and no root is needed.
#
#     tests/arm.sh [FOLDER] [what pytest takes, instead of the tests of all kernels]
#
# It runs on a Debian of any processor. FOLDER, by default a temporary one, takes Debian's own Python
# for arm64 and what it needs (with apt's lists in there, too: the system's apt stays as it is), and
# the wheels for it; what is there already is used again. QEMU runs this Python without a chroot.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for program in qemu-aarch64-static apt-get dpkg-deb; do
    if ! command -v "$program" > /dev/null; then
        echo "tests/arm.sh: $program is missing, nothing was run: apt-get install qemu-user-static" >&2
        exit 77
    fi
done
if [ $# -gt 0 ]; then
    mkdir -p "$1" && folder=$(realpath "$1") && shift
else
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
fi
root=$folder/root site=$folder/site
[ $# -gt 0 ] || set -- tests/test_kernels.py tests/test_cpu_ladder.py

apt() {
    apt-get -q -o "Dir::State=$folder/apt/state" -o "Dir::State::status=$folder/apt/status" \
        -o "Dir::Cache=$folder/apt/cache" -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
        -o APT::Sandbox::User= -o Debug::NoLocking=true "$@"
}
if [ ! -e "$root/ready" ]; then
    mkdir -p "$folder/apt/state/lists/partial" "$folder/apt/cache/archives/partial" "$root"
    : > "$folder/apt/status" # so that nothing counts as installed, and all that is needed comes
    apt update
    apt install -y --no-install-recommends --download-only python3 libgomp1 libstdc++6
    for package in "$folder"/apt/cache/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
    touch "$root/ready"
fi
python=$(find "$root/usr/bin" -name 'python3.*[0-9]' -print -quit)
if [ ! -e "$site/ready" ]; then
    platforms=()
    for platform in manylinux2014 manylinux_2_17 manylinux_2_27 manylinux_2_28; do
        platforms+=(--platform "${platform}_aarch64")
    done
    python3 -m pip install -q --target "$site" "${platforms[@]}" --implementation cp \
        --python-version "${python##*python}" --only-binary=:all: \
        numpy numba matplotlib pillow tqdm pytest
    touch "$site/ready"
fi

arm() { # runs the emulated Python; -E sets variables in there
    local variables=() each
    for each in "PYTHONHOME=$root/usr" "PYTHONPATH=$PWD:$site" PYTHONDONTWRITEBYTECODE=1 \
        "NUMBA_CACHE_DIR=$folder/numba" NUMBA_NUM_THREADS=2 OPENBLAS_NUM_THREADS=1 MPLBACKEND=agg; do
        variables+=(-E "$each")
    done
    qemu-aarch64-static -L "$root" "${variables[@]}" "$python" "$@"
}
arm -c "import platform, numba, numpy
print(platform.machine(), 'Python', platform.python_version(), 'numba', numba.__version__,
      'numpy', numpy.__version__)"
arm tests/bench/assembly.py
arm -m tinydiff train digits --width 16 --depth 1 --batch 4 --steps 2 --force --out "$folder/out"
arm -m tinydiff sample "$folder/out/digits.npz" --n 2 --steps 2 --out "$folder/out/digits.png"
arm -m pytest -q -p no:cacheprovider "$@"
