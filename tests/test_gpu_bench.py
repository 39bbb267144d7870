"""tests/bench/gpu.py, run dry in the simulator, so that its first run on a GPU is not its first."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tinydiff import kernels
from tinydiff.kernels import cuda_array, cuda_simulator

BENCH = Path(__file__).parent / "bench"
SIMULATED = cuda_array.SIMULATED
pytestmark = pytest.mark.cuda
why = "a dry run is for the simulator: NUMBA_ENABLE_CUDASIM=1"
simulated = pytest.mark.skipif(not SIMULATED, reason=why)
cuda_simulator.take_turns()


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    before = kernels._active
    import gpu

    yield gpu
    kernels._active = before


def start(*argv, **env):
    command = [sys.executable, str(BENCH / "gpu.py"), *map(str, argv)]
    env = {**os.environ, "MPLBACKEND": "agg", **env}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)


@simulated
def test_all_of_it_runs_dry(tmp_path):
    done = start("--dry", "--out", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    text = (tmp_path / "gpu.md").read_text()
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert heads[1:] == ["## tests", "## conv", "## step", "## train"]
    assert "simulator" in text and "1 passed" in text and "FAILED" not in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows if "forward" in row] == ["| 1x2x3 1->2 3x3", "| 2x2x2 1->1 1x1"]
    assert {row[1] for row in rows if "batch 1" in row[0]} == {"train", "sample"}
    assert all(len(row) in (6, 10) for row in rows)
    written = {p.name for p in tmp_path.iterdir()}
    assert written == {"gpu.md", "tests.log", "portraits.npz", "portraits.png", "loss.png"}


@pytest.mark.skipif(not SIMULATED and cuda_array.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_a_line(tmp_path):
    env = {"NUMBA_ENABLE_CUDASIM": "0", "CUDA_VISIBLE_DEVICES": "", "TINYDIFF_KERNELS": "cuda"}
    done = start("--out", tmp_path / "out", **env)
    assert done.returncode != 0 and not (tmp_path / "out").exists()
    (line,) = done.stderr.splitlines()
    assert line.startswith("gpu.py: no NVIDIA GPU") and "--dry" in line


@simulated
def test_without_pytorch_the_rest_is_measured(gpu, tmp_path, monkeypatch):
    kernels.use("cuda")
    monkeypatch.setitem(sys.modules, "torch", None)  # import torch then fails
    assert gpu.the_torch(True) == (None, None) and "nothing to compare with" in gpu.heading(None)
    text = gpu.section_conv(tmp_path, None, None, SimpleNamespace(dry=True, seconds=0))
    assert "torch" not in text.splitlines()[0] and text.count("|  |  |") == 6


def test_a_part_that_fails_leaves_the_others(gpu, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "SECTIONS", {"conv": lambda *_: 1 / 0, "step": lambda *_: "well"})
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--dry", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        gpu.main()
    assert end.value.code == 1
    report = (tmp_path / "gpu.md").read_text()
    failed = "## conv\n\nFAILED: ZeroDivisionError: division by zero\n\n"
    assert report.endswith(f"{failed}## step\n\nwell\n")
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_contestants_take_turns_and_the_median_counts(gpu, monkeypatch):
    kernels.use("cuda")
    turns, slow = [], iter([0.5, *[0.01] * 20])

    def turn(f, calls):
        turns.append((f, calls))
        return next(slow) if f == "a" and calls not in (2, 3) else 0.02

    monkeypatch.setattr(gpu, "turn", turn)
    assert gpu.timed({"a": "a", "b": "b"}, 1.4) == {"a": 0.01, "b": 0.02}
    assert turns == [("a", 2), ("a", 3), ("b", 2), ("b", 3), *[("a", 10), ("b", 10)] * 7]
    turns.clear()
    assert gpu.timed({"b": "b"}, 0) == {"b": 0.02} and turns == [("b", 1)]


def test_a_turn_waits_for_the_gpu_before_and_after(gpu, monkeypatch):
    seen, clock = [], iter([1.0, 3.0])
    waits = SimpleNamespace(synchronize=lambda: seen.append("wait"))
    monkeypatch.setattr(gpu.cuda_array, "cuda", waits)
    monkeypatch.setattr(gpu.time, "perf_counter", lambda: seen.append("clock") or next(clock))
    assert gpu.turn(lambda: seen.append("call"), 4) == 0.5
    assert seen == ["wait", "clock", *["call"] * 4, "wait", "clock"]
