"""The wait for the compiler, halved: a second process compiles what a training needs backwards.

Numba compiles one kernel at a time, so a first training step waits for one core while the others
have nothing to do. The first process compiles what the step needs forwards, finds the rest in the
cache, and loses nothing but time where it does not. Or the second compiles all: what a compiler
needs, 150 MB, it never gives back, and beside large sets of pictures that is much.
"""

import json
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np

from .. import checkpoint, kernels
from ..data import FILES, STYLES, Dataset, Pixels
from .usage import dataset_named

BEGIN = "from tinydiff.app import ahead, cmd_train; ahead.main(cmd_train.loop)"
PATIENCE = 120  # seconds, after which the first process compiles everything itself
MOST = 128  # images per step: what only more would need, the first process compiles itself
DESCRIBED = ("dataset", "labels", "model", "schedule", "train", "whole")  # what matters of meta


@contextmanager
def compiling(meta, meanwhile=None, whole=False):
    """Compile in two processes for the length of a `with` block, where anything is to be compiled.

    The second starts when a kernel is not in the cache. It has more to do, and needs a second to
    start: meanwhile the first one has time for something that NumPy's kernels compute.
    meta: describes the training, see checkpoint; meanwhile: a function () -> None, or None; whole:
    let the second compile everything -> None
    """
    started = []

    def elsewhere(kernel):
        from ..kernels.cpu_cache import folder

        if folder()[1]:  # nothing can be kept: no process would find what another has compiled
            return False
        try:
            if not started:
                started.append(_start(meta | {"whole": whole}))
                _by_numpy(meanwhile)
            return (whole or _backwards(kernel)) and started[0].wait(PATIENCE) == 0
        except (OSError, subprocess.TimeoutExpired):  # no process can be started, or it is stuck
            Cache.elsewhere = None
            return False

    if not kernels.active().__name__.endswith(".cpu"):
        yield
        return
    from ..kernels.cpu_cache import Cache

    Cache.elsewhere = elsewhere
    try:
        yield
    finally:
        Cache.elsewhere = None
        for process in started:
            process.kill()
            process.wait()


def _backwards(kernel):
    """Tell whether a kernel, as "conv2d_grad_w" or "cpu._update", only serves training."""
    name = kernel.rpartition(".")[2]  # not the module's: cpu_winograd
    return "grad" in name or name.strip("_") == "update"


def _by_numpy(work):
    used = kernels.active()
    try:
        kernels.use("reference")
        work and work()
    finally:
        kernels._active = used


def _start(meta):
    """Start the second process, which no Ctrl-C reaches: the first one ends it -> Popen"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path}; {BEGIN}"]
    windows = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    apart = {"creationflags": windows} if windows else {"start_new_session": True}
    process = subprocess.Popen(command, **pipes, text=True, encoding="utf-8", **apart)
    with process.stdin as pipe:
        json.dump({key: meta[key] for key in DESCRIBED if key in meta}, pipe)
    return process


def main(loop):
    """Be the second process: meta on stdin, as `_start` writes it; loop: see cmd_train -> None

    It makes a training step whose forward half NumPy computes, so that the kernels of the other
    half are compiled for just the arrays that they will get.
    """
    meta, reference = json.load(sys.stdin), kernels.use("reference")
    run, s = checkpoint.build(meta, meta["train"]["seed"])
    compiled = vars(kernels.use("cpu"))
    if not meta.get("whole"):
        compiled = vars(reference) | {name: f for name, f in compiled.items() if _backwards(name)}
    kernels._active = SimpleNamespace(**compiled)
    settings = meta["train"] | {"batch": min(MOST, meta["train"]["batch"])}
    next(loop(run, s, _dataset(meta), settings))


def _dataset(meta):
    """Load the data set of a training, or, for a user's pictures, make one that is as large."""
    if meta["dataset"] in {**FILES, **STYLES}:
        return dataset_named(meta["dataset"], styles=True)
    model, blank = meta["model"], np.zeros((1, len(meta["labels"])), int)
    pixels = Pixels(np.zeros((1, model["size"], model["size"], model["channels"]), np.uint8))
    return Dataset(meta["dataset"], pixels, pixels, blank, blank, meta["labels"])
