#!/usr/bin/env bash
# Expected: `pip download --platform manylinux_2_36_aarch64`, the tag of a Debian 12, takes the wheels that
#   pip takes on such a machine: those for glibc 2.36 and for every older one.
# Seen: "No matching distribution found" for a wheel tagged manylinux_2_28: each --platform means
#   exactly itself. With --platform manylinux_2_17_aarch64 alone, another package comes, but silently
#   in an older version, the last one that was built for 2.17. Naming all tags, oldest to newest, helps.
# Version: pip 26.3 (and 23.2.1), numba 0.68.1, kiwisolver 1.5.1.
# Why it matters: whoever collects wheels for another machine is told that there are none, or gets old
#   ones without a word.
# Source: seen by running; pip's own documentation of --platform says "use this option multiple times".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip="$folder/venv/bin/pip --disable-pip-version-check"
$pip install -q pip==26.3
get() { # PACKAGE, platforms ...: the wheel that is found
    local package=$1 platforms=()
    shift
    for each in "$@"; do platforms+=(--platform "manylinux_2_${each}_aarch64"); done
    rm -rf "$folder/got"
    $pip download -q --no-deps --only-binary=:all: --python-version 3.11 --implementation cp \
        "${platforms[@]}" -d "$folder/got" "$package" > /dev/null 2>&1 || true
    basename "$(find "$folder/got" -name '*.whl' 2> /dev/null | head -n 1)" .whl
}
new=$(get numba==0.68.1 36) right=$(get numba==0.68.1 36 28)
old=$(get kiwisolver 17) all=$(get kiwisolver 17 28)
echo "numba for 2.36: ${new:-none}; for 2.36 and 2.28: $right"
echo "kiwisolver for 2.17: $old; for 2.17 and 2.28: $all"
[[ -z $new && $right == numba-0.68.1-* && $old == kiwisolver-1.4* && $all != "$old" ]]
