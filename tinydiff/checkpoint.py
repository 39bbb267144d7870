"""Weights on disk: one .npz file without pickle holds all that is needed to sample, or to go on training bit for bit.

A file is written beside its final place and then moved there in one step: a crash leaves the old file or the new one.
"""

import json
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from . import schedule
from .classifier import Classifier
from .data import FILES, FOLDER, STYLES
from .train import Training, fetch_losses
from .unet import UNet

FORMAT = "tinydiff checkpoint"
VERSION = 2
_ARRAYS = {"theta": None, "ema": None, "m": "adam", "v": "adam"}  # name -> the attribute of Training that holds it


class CheckpointError(OSError):
    """A checkpoint could not be written or read; the message says which file, why, and what to do."""


class Drawable(CheckpointError):
    """The file is one that `export` wrote: weights to draw or to judge with, not a training that could go on."""


def save(path, run, about):
    """Write a training to disk, atomically: weights (P,), their average, optimiser, step, random state.

    path: file name; run: a Training; about: dict for JSON with what rebuilds it, see `build` -> None
    Raises CheckpointError when the disk is full or the folder is not writable, FloatingPointError as train.fetch_losses; the file that
    was there before stays.
    """
    path = Path(path)
    fetch_losses(run)
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "step": run.step,
        "adam_k": run.adam.k,
        "loss": run.loss,
        "rng": run.rng.bit_generator.state,
        "about": about,
    }
    arrays = {name: np.asarray(getattr(getattr(run, owner) if owner else run, name)) for name, owner in _ARRAYS.items()}
    _write(path, meta, arrays)


def _write(path, meta, arrays):
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(unfinished, "wb") as f:
                np.savez(f, meta=np.array(json.dumps(meta)), **arrays)
                f.flush()
                os.fsync(f.fileno())
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as e:
        raise CheckpointError(f"{path} could not be written ({e.strerror or e}); what was there before is untouched") from None


def load(path):
    """Read a checkpoint: rebuild model and training just as they were saved.

    path: file name -> run (a Training, theta (P,)), s (a Schedule), about (dict)
    Raises CheckpointError when the file is missing, truncated, pickled, of another program or another version.
    """
    meta, arrays = _read(Path(path))
    try:
        about = meta["about"]
        run, s = build(about, seed=0)
        for name, owner in _ARRAYS.items():
            place, array = getattr(getattr(run, owner) if owner else run, name), arrays[name]
            if array.shape != place.shape or array.dtype != place.dtype:
                raise ValueError(f"{name} is {array.shape} {array.dtype}, the model needs {place.shape} {place.dtype}")
            place[:] = array
        run.step, run.adam.k, run.loss = meta["step"], meta["adam_k"], meta["loss"]
        run.rng.bit_generator.state = meta["rng"]
    except (KeyError, TypeError, ValueError) as e:
        raise CheckpointError(f"{path} does not fit this version of tinydiff ({e})") from None
    return run, s, about


def build(about, seed):
    """Build model, schedule and a fresh Training from their description.

    about: {"model": arguments of UNet, "schedule": {"kind": "linear", "cosine" or "sigmoid", "T": int}, ...}; seed: int
    -> run (a Training at step 0), s (a Schedule with T + 1 entries)
    """
    rng = np.random.default_rng(seed)
    run = Training(UNet(**about["model"], rng=rng), rng)
    kinds = {"linear": schedule.linear, "cosine": schedule.cosine, "sigmoid": schedule.sigmoid}
    return run, kinds[about["schedule"]["kind"]](about["schedule"]["T"])


def export(path, weights, about):
    """Write only what drawing or judging needs, as float16: weights (P,), and what describes them. -> None

    path: file name; weights: float32, as run.ema; about: dict for JSON that `pretrained`, or `judge`, can build the network from
    Raises CheckpointError when the file cannot be written.
    """
    _write(Path(path), {"format": FORMAT, "version": VERSION, "about": about}, {"weights": np.asarray(weights, np.float16)})


def pretrained(name):
    """Load a model that comes with tinydiff, trained and ready to draw.

    name: of a data set, as "portraits" -> model (a UNet, weights (P,)), s (a Schedule), about (dict)
    Raises CheckpointError when there is no such model, or its file is damaged.
    """
    return _exported(_shipped(name))


def judge(name):
    """Load the classifier that comes with tinydiff for a data set.

    name: of the data set -> judge (a Classifier, weights (P,)), about (dict; "held_out" is its accuracy on unseen images, by label)
    Raises CheckpointError when there is none, or its file is damaged.
    """
    meta, arrays = _read(_shipped(f"{name}_judge"), ("weights",))
    about = meta["about"]
    classes = [len(values) for values in about["labels"].values()]
    model = Classifier(about["size"], about["channels"], classes, rng=np.random.default_rng(0))
    model.flatten()[:] = arrays["weights"]
    return model, about


def ready(path):
    """Load a model to draw with: one that comes with tinydiff by its name, any other by its file, as `train` or `export` wrote it.

    path: the name of one, such as "digits", or a file name -> model (a UNet, its averaged weights (P,)), s (a Schedule), about (dict)
    Raises CheckpointError as `load` does.
    """
    file = Path(path)
    if not file.is_file() and str(path) in {**FILES, **STYLES}:
        return pretrained(str(path))
    try:
        run, s, about = load(file)
    except Drawable:
        return _exported(file)
    return averaged(run), s, about


def _shipped(name):
    path = FOLDER / "models" / f"{name}.npz"
    if not path.exists():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.npz")))
        raise CheckpointError(f"no trained model {name!r} comes with tinydiff; there are: {there}")
    return path


def _exported(path):
    meta, arrays = _read(path, ("weights",))
    try:
        run, s = build(meta["about"], seed=0)
        run.theta[:] = arrays["weights"]
    except (KeyError, TypeError, ValueError) as e:
        raise CheckpointError(f"{path} holds no model that draws, or one of another version of tinydiff ({e})") from None
    return run.model, s, meta["about"]


def averaged(run):
    """Put the running average of the weights (P,), which draws better than the last ones, into the model -> the model."""
    run.theta[:] = run.ema
    return run.model


def _read(path, names=tuple(_ARRAYS)):
    """Read the file's parts and check that it is one of ours: -> meta (dict), arrays (dict)."""
    foreign = CheckpointError(f"{path} is not a tinydiff checkpoint: it was written by another program")
    try:
        with open(path, "rb") as f:
            start = f.read(2)
    except OSError as e:
        raise CheckpointError(f"{path} cannot be read ({e.strerror}): give a checkpoint that `python -m tinydiff train` wrote") from None
    if start and start != b"PK":
        raise foreign
    try:
        with zipfile.ZipFile(path) as f:
            if damaged := f.testzip():
                raise zipfile.BadZipFile(f"{damaged} has changed since it was written")
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, zlib.error) as e:
        raise CheckpointError(f"{path} is damaged or truncated ({e}): take an older checkpoint") from None
    with np.load(path, allow_pickle=False) as f:
        try:
            meta = json.loads(str(f["meta"]))
            if meta["format"] != FORMAT:
                raise foreign
            if meta["version"] != VERSION:
                raise CheckpointError(f"{path} has checkpoint version {meta['version']}; this tinydiff reads version {VERSION}")
            if "weights" in f.files and "weights" not in names:
                raise Drawable(f"{path} holds weights to draw or judge with, not a training: give the file that `train` wrote")
            return meta, {name: f[name] for name in names}
        except (KeyError, TypeError, ValueError) as e:
            if "pickle" in str(e):
                raise CheckpointError(f"{path} holds pickled objects, which could run code, and is refused") from None
            raise foreign from None
