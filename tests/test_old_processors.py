"""Code for processors older than this one: the right numbers, out of the registers they have."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from llvmlite.binding import get_host_cpu_features
from numba import config

from tinydiff.kernels import cpu_microkernel

ROOT = Path(__file__).resolve().parents[1]
IS_X86 = platform.machine() in ("x86_64", "AMD64")
OLD = {  # without NUMBA_CPU_FEATURES Numba goes on using what this processor has
    "generic": {"NUMBA_CPU_NAME": "generic"},
    "x86-64-v2": {"NUMBA_CPU_NAME": "x86-64-v2", "NUMBA_CPU_FEATURES": ""},
}
CODE = """
import numpy as np
from tinydiff.kernels import cpu, cpu_direct, cpu_microkernel, reference

rng = np.random.default_rng(0)
x, w = (rng.standard_normal(n).astype(np.float32) for n in ((2, 7, 9, 16), (3, 3, 16, 32)))
padded = reference.pad(x, 1, "zeros")
expected = reference.conv2d(x.astype(float), w.astype(float), "zeros")
for y in cpu_direct.conv2d(padded, w), cpu.conv2d(x, w, "zeros"):
    assert np.abs(y - expected).max() < 1e-4 * np.abs(expected).max()
(assembly,) = cpu_direct._conv_alone.inspect_asm().values()
print(cpu_microkernel.P, "ymm" in assembly, "zmm" in assembly)
"""


@pytest.mark.slow
@pytest.mark.skipif(not IS_X86, reason="of x86-64")
@pytest.mark.parametrize("name", OLD)
def test_convolutions_for_an_old_processor(name, tmp_path):
    more = {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path)}
    run = {"capture_output": True, "text": True, "env": os.environ | more | OLD[name]}
    done = subprocess.run([sys.executable, "-c", CODE], cwd=tmp_path, **run)
    assert (done.returncode, done.stdout) == (0, "2 False False\n"), done.stderr


@pytest.mark.parametrize(
    "features, machine, rows",
    [("+avx,+avx512f", "x86_64", 8), ("+sse3,+avx", "AMD64", 4), ("+sse4.2,-avx", "x86_64", 2)]
    + [("", "x86_64", 2), ("+neon", "arm64", 4), ("", "aarch64", 4)],
)
def test_a_block_fits_into_the_registers(features, machine, rows, monkeypatch):
    monkeypatch.setattr(config, "CPU_FEATURES", features)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert cpu_microkernel._rows() == rows


def test_by_itself_numba_compiles_for_this_processor(monkeypatch):
    monkeypatch.setattr(config, "CPU_FEATURES", None)
    has = get_host_cpu_features()
    expected = 8 if has.get("avx512f") else 4 if has.get("avx") or not IS_X86 else 2
    assert cpu_microkernel._rows() == expected and cpu_microkernel.V % np.intp(expected) == 0
