"""The second process that compiles: what it takes over, and that it changes nothing but time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tinydiff
from tinydiff import kernels
from tinydiff.app import ahead
from tinydiff.kernels import cpu_cache

META = {
    "dataset": "digits",
    "labels": {"digit": list("0123456789")},
    "model": {
        "width": 16,
        "multipliers": [1],
        "depth": 1,
        "channels": 1,
        "size": 8,
        "classes": [10],
    },
    "schedule": {"kind": "cosine", "T": 250},
    "train": {"predict": "v", "batch": 4, "lr": 1e-3, "forget": 0.1, "seed": 0},
}
STEP = f"""
import hashlib, sys
from contextlib import nullcontext
from tinydiff import checkpoint, data, kernels
from tinydiff.app import ahead, cmd_train

meta = {META}
run, s = checkpoint.build(meta, 0)
noted = lambda: print(kernels.active().__name__, file=open(sys.argv[1], "w"))
with ahead.compiling(meta, noted) if sys.argv[1:] else nullcontext():
    next(cmd_train.loop(run, s, data.load("digits"), meta["train"]))
print(hashlib.sha256(run.theta.tobytes()).hexdigest())
"""


def test_it_takes_over_what_only_training_needs():
    named = ["cpu_norm.norm_grad", "cpu_winograd._grad_w_of_few", "conv2d_grad_w", "cpu._update"]
    assert all(map(ahead._backwards, named))
    assert not any(map(ahead._backwards, ["cpu_winograd._conv2d", "cpu_norm.norm", "cpu._up"]))


def test_nothing_is_started_where_all_is_compiled_or_nothing_can_be_kept(monkeypatch):
    started = []
    monkeypatch.setattr(ahead, "_start", lambda *task: started.append(task))
    with ahead.compiling(META):
        if kernels.active().__name__.endswith(".cpu"):
            asked = cpu_cache.Cache.elsewhere
            monkeypatch.setattr(cpu_cache, "folder", lambda: (Path("nowhere"), "read only"))
            assert asked("cpu._up") is False
    assert not started and cpu_cache.Cache.elsewhere is None


def step(cache, *noted):
    """Make a training step in a fresh process with a cache of its own -> a digest of the weights"""
    one = {"NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TINYDIFF_KERNELS": "cpu"}
    home = {"PYTHONPATH": str(Path(tinydiff.__file__).parents[1]), "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", STEP, *map(str, noted)]
    env = {**os.environ, **one, **home}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


@pytest.mark.slow
def test_two_processes_compile_what_one_would_and_learn_the_same(tmp_path):
    """What the second one left is all that the step needs: the same files, the same weights."""
    digests, files = [], []
    for name, noted in (("one", ()), ("two", (tmp_path / "noted",))):
        cache = tmp_path / name
        digests.append(step(cache, *noted))
        files.append({path.name for path in cache.rglob("*.nbc")})
    assert digests[0] == digests[1] and files[0] == files[1]
    assert any("grad" in name.partition(".")[2] for name in files[1])
    assert (tmp_path / "noted").read_text() == "tinydiff.kernels.reference\n", "done meanwhile"
