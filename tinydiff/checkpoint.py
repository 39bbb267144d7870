"""Weights on disk: one .npz file, without pickle, from which to sample, or to resume bit for bit.

A file is written beside its final place and then moved there in one step: after a crash there is
either the old file or the new one. `meta` describes the model, so that it can be rebuilt; it is a
dict for JSON, which the file keeps under the name "about":

    dataset    name of the data set: "portraits"
    labels     names of its labels and of their values: {"hat": ["none", "blue", ...], ...}
    model      the arguments of unet.UNet, without rng
    schedule   {"kind": "linear", "cosine" or "sigmoid", "T": int}
    train      {"predict": "eps" or "v", "batch": images per step, "lr": highest learning rate,
               "forget": p_drop of train.train, "seed": int}
    history    [step, seconds of training so far, mean loss of the last hundred steps], ...
    recent     the losses since the last entry of history, in a training
    steps      how many steps the model was trained, in an exported one

`build` and `build_model` need only model and schedule. A classifier has a meta of its own, see
measure/classifier.py.
"""

import json
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from . import schedule
from .data import FILES, FOLDER, STYLES
from .train import Training
from .unet import UNet

FORMAT = "tinydiff checkpoint"
VERSION = 2
_TRAINING = ("theta", "ema", "m", "v")  # the arrays of a training; an exported model has "weights"


class CheckpointError(OSError):
    """Say that a checkpoint could not be written or read: which file, why, and what to do."""


class Drawable(CheckpointError):
    """Say that `export` wrote the file: weights to draw or classify with, not a training."""


def save(path, run, meta):
    """Write a training to disk, atomically: weights (P,), their average, optimiser, step, rng.

    path: file name; run: a Training; meta: its description, see above -> None
    Raises CheckpointError when the disk is full or the folder is not writable, FloatingPointError
    as Training.fetch_losses does; the file that was there before stays.
    """
    path = Path(path)
    run.fetch_losses()
    header = {
        "format": FORMAT,
        "version": VERSION,
        "step": run.step,
        "adam_k": run.adam.k,
        "loss": run.loss,
        "rng": run.rng.bit_generator.state,
        "about": meta,
    }
    arrays = {name: np.asarray(array) for name, array in _arrays(run).items()}
    _write(path, header, arrays)


def _arrays(run):
    """Name the arrays of a Training that a checkpoint holds: -> dict of name to array (P,)"""
    return {"theta": run.theta, "ema": run.ema, "m": run.adam.m, "v": run.adam.v}


def _write(path, header, arrays):
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(unfinished, "wb") as f:
                np.savez(f, meta=np.array(json.dumps(header)), **arrays)
                f.flush()
                os.fsync(f.fileno())
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as e:
        why = f"({e.strerror or e}); what was there before is untouched"
        raise CheckpointError(f"{path} could not be written {why}") from None


def load(path):
    """Read a checkpoint: rebuild model and training just as they were saved.

    path: file name -> run (a Training, theta (P,)), s (a Schedule), meta (dict)
    Raises CheckpointError when the file is missing, truncated or pickled, or was written by another
    program or version.
    """
    header, arrays = read(Path(path))
    try:
        meta = header["about"]
        run, s = build(meta, seed=0)
        for name, place in _arrays(run).items():
            array = arrays[name]
            if array.shape != place.shape or array.dtype != place.dtype:
                got, needed = f"{array.shape} {array.dtype}", f"{place.shape} {place.dtype}"
                raise ValueError(f"{name} is {got}, the model needs {needed}")
            place[:] = array
        run.step, run.adam.k, run.loss = header["step"], header["adam_k"], header["loss"]
        run.rng.bit_generator.state = header["rng"]
    except (KeyError, TypeError, ValueError) as e:
        raise CheckpointError(f"{path} does not fit this version of tinydiff ({e})") from None
    return run, s, meta


def build(meta, seed):
    """Build a fresh Training, and the schedule, from their description.

    meta: see above; seed: int -> run (a Training at step 0), s (a Schedule with arrays (T + 1,))
    """
    rng = np.random.default_rng(seed)
    model, s = build_model(meta, rng)
    return Training(model, rng), s


def build_model(meta, rng):
    """Build network and schedule from their description: enough to draw with, no optimiser.

    meta: see above; rng draws the weights -> UNet, Schedule with arrays (T + 1,)
    """
    kinds = {"linear": schedule.linear, "cosine": schedule.cosine, "sigmoid": schedule.sigmoid}
    model = UNet(**meta["model"], rng=rng)
    return model, kinds[meta["schedule"]["kind"]](meta["schedule"]["T"])


def averaged(run, meta):
    """Build a network that has the running average of a training's weights, which draws better.

    run: a Training, ema (P,), which is left as it is; meta: its description, see above -> UNet
    """
    model, _ = build_model(meta, np.random.default_rng(0))
    model.flatten()[:] = run.ema
    return model


def export(path, weights, meta):
    """Write only what drawing or classifying needs: weights, as float16, and their description.

    path: file name; weights: (P,) float32, as run.ema; meta: see above, or of a classifier, from
    which `pretrained`, or classifier.load, builds the network -> None
    Raises CheckpointError when it cannot be written.
    """
    header = {"format": FORMAT, "version": VERSION, "about": meta}
    _write(Path(path), header, {"weights": np.asarray(weights, np.float16)})


def pretrained(name):
    """Load a model that comes with tinydiff, trained and ready to draw.

    name: of a data set, "portraits" -> model (a UNet, weights (P,)), s (a Schedule), meta (dict)
    Raises CheckpointError when there is no such model, or its file is damaged.
    """
    return _exported(shipped(name))


def ready(path):
    """Load a model to draw with: by its name one that comes with tinydiff, by its file any other.

    path: "digits", or a file that `train` or `export` wrote
    -> model (a UNet, with the averaged weights (P,)), s (a Schedule), meta (dict)
    Raises CheckpointError as `load` does.
    """
    file = Path(path)
    if not file.is_file() and str(path) in {**FILES, **STYLES}:
        return pretrained(str(path))
    try:
        run, s, meta = load(file)
    except Drawable:
        return _exported(file)
    return averaged(run, meta), s, meta


def shipped(name):
    """Find the file of a network that comes with tinydiff, weights (P,): "digits" -> Path

    Raises CheckpointError when there is none of this name.
    """
    path = FOLDER / "models" / f"{name}.npz"
    if not path.exists():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.npz")))
        there = there or f"none in {path.parent}, so install tinydiff again"
        raise CheckpointError(f"no trained model {name!r} comes with tinydiff; there are: {there}")
    return path


def _exported(path):
    header, arrays = read(path, ("weights",))
    meta = header["about"]
    try:
        model, s = build_model(meta, np.random.default_rng(0))
        model.flatten()[:] = arrays["weights"]
    except (KeyError, TypeError, ValueError) as e:
        why = f"holds no model that draws, or one of another version of tinydiff ({e})"
        raise CheckpointError(f"{path} {why}") from None
    return model, s, meta


def read(path, names=_TRAINING):
    """Read a file's parts and check that tinydiff wrote it.

    path: Path; names: of the arrays wanted -> header (dict, meta under "about"), arrays: dict of
    name to array (P,)
    Raises CheckpointError as `load` does, Drawable for an exported file where a training is wanted.
    """
    what = "is not a tinydiff checkpoint: it was written by another program"
    foreign = CheckpointError(f"{path} {what}")
    try:
        with open(path, "rb") as f:
            start = f.read(2)
    except OSError as e:
        advice = "give a checkpoint that `python -m tinydiff train` wrote"
        raise CheckpointError(f"{path} cannot be read ({e.strerror}): {advice}") from None
    if start and start != b"PK":
        raise foreign
    try:
        with zipfile.ZipFile(path) as f:
            if damaged := f.testzip():
                raise zipfile.BadZipFile(f"{damaged} has changed since it was written")
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, zlib.error) as e:
        why = f"is damaged or truncated ({e}): take an older checkpoint"
        raise CheckpointError(f"{path} {why}") from None
    with np.load(path, allow_pickle=False) as f:
        try:
            header = json.loads(str(f["meta"]))
            if header["format"] != FORMAT:
                raise foreign
            if (found := header["version"]) != VERSION:
                why = f"has checkpoint version {found}; this tinydiff reads version {VERSION}"
                raise CheckpointError(f"{path} {why}")
            if "weights" in f.files and "weights" not in names:
                why = "holds weights to draw or judge with, not a training"
                raise Drawable(f"{path} {why}: give the file that `train` wrote")
            return header, {name: f[name] for name in names}
        except (KeyError, TypeError, ValueError) as e:
            if "pickle" in str(e):
                why = "holds pickled objects, which could run code, and is refused"
                raise CheckpointError(f"{path} {why}") from None
            raise foreign from None
