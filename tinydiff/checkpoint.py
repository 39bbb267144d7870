"""Weights on disk: one .npz file, without pickle, from which to sample, or to resume bit for bit.

`meta` describes the model, so that it can be rebuilt; it is a dict for JSON, which the file keeps
under the name "about":

    dataset    name of the data set: "portraits"
    labels     names of its labels and of their values: {"hat": ["none", "blue", ...], ...}
    model      the arguments of unet.UNet, without rng
    schedule   {"kind": "linear", "cosine" or "sigmoid", "T": int}
    train      {"predict": "eps" or "v", "batch": images per step, "lr": highest learning rate,
               "forget": p_drop of train.train, "seed": int}; where asked for "memory": limit in
               bytes; "flip": true and "shift": pixels, see augment.py; "start": the model that it
               started from, see finetune.py; "lora": the rank of what it learned of that, see
               lora.py
    history    [step, seconds of training so far, mean loss of the last hundred steps], ...
    recent     the losses since the last entry of history, in a training
    steps      how many steps the model was trained, in an exported one
    pictures   of a user's pictures: {"path", "size", "grid", "key", "plan"}, where they lie, from ~
               or from where the training was started, how they were read, the name under which
               collect/cache.py keeps them, and how they were fitted, see collect/fit.py

`build` and `build_model` need only model and schedule. A classifier has a meta of its own, see
measure/classifier.py. A file may come from anywhere: fields.py has the table of what each field
takes, and nothing that is read or built is larger than 32 MiB or 20 times the file.
"""

import io
import json
import math
import os
import reprlib
import zipfile
from pathlib import Path

import numpy as np

from . import fields, kernels, lora, schedule
from .data import FILES, FOLDER, STYLES, meant
from .files import require_file, write_whole
from .train import Training
from .unet import UNet

FORMAT = "tinydiff checkpoint"
VERSION = 2
_TRAINING = ("theta", "ema", "m", "v")  # the arrays of a training; an exported model has "weights"
_FROZEN = "frozen"  # one more, of a training with LoRA
_FOREIGN = "is not a tinydiff checkpoint: it was written by another program"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # np.savez, np.savez_compressed
_UNPACKED, _RATIO = 2**25, 20  # unpacked, at most 32 MiB or 20 times the file's size
_NESTED = 10  # how deep the header may be, in lists and dicts


class CheckpointError(OSError):
    """Say that a checkpoint could not be written or read: which file, why, and what to do."""


class Drawable(CheckpointError):
    """Say that `export` wrote the file: weights to draw or classify with, not a training."""


def save(path, run, meta):
    """Write a training to disk, atomically: weights (P,), their average, optimiser, step, rng.

    path: file name; run: a Training; meta: its description, see above -> None
    Raises CheckpointError when the disk is full or the folder is not writable, FloatingPointError
    as Training.fetch_losses does, or when the weights are not finite, ValueError when meta is not
    what `load` takes; the file that was there before stays.
    """
    path = Path(path)
    fields.require(fields.MODEL, json.loads(json.dumps(meta)))
    run.fetch_losses()
    arrays = {name: np.asarray(array) for name, array in _arrays(run).items()}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        why = f"after step {run.step} the weights are not finite numbers any more"
        raise FloatingPointError(f"{why}: lower the learning rate")
    header = {
        "format": FORMAT,
        "version": VERSION,
        "step": run.step,
        "adam_k": run.adam.k,
        "loss": run.loss,
        "rng": run.rng.bit_generator.state,
        "about": meta,
    }
    _write(path, header, arrays)


def _arrays(run):
    """Name the arrays of a Training that a checkpoint holds: -> dict of name to array (P,)"""
    frozen = {_FROZEN: run.model.frozen} if isinstance(run.model, lora.LowRank) else {}
    return {"theta": run.theta, "ema": run.ema, "m": run.adam.m, "v": run.adam.v} | frozen


def _write(path, header, arrays):
    try:
        write_whole(path, lambda f: np.savez(f, meta=np.array(json.dumps(header)), **arrays))
    except OSError as e:
        raise CheckpointError(f"{e}; what was there before is untouched") from None


def load(path):
    """Read a checkpoint: rebuild model and training just as they were saved.

    path: file name -> run (a Training, theta (P,)), s (a Schedule), meta (dict)
    Raises CheckpointError when the file is missing, truncated or pickled, or was written by another
    program or version.
    """
    kernels.active()  # here, so that a wrong variable is not taken for a fault of the file
    header, arrays = read(Path(path))
    try:
        fields.require(fields.TRAINING, header)
        meta = header.get("about")
        fields.require(fields.MODEL, meta)
        blank = Blank("theta", _size_of(arrays, "theta"))
        model, s = build_model(meta, blank)
        run = Training(_learning(model, meta, blank), np.random.default_rng(0))
        _fill(_arrays(run), arrays)
        run.step, run.adam.k, run.loss = header["step"], header["adam_k"], header["loss"]
        run.rng.bit_generator.state = header["rng"]
    except (TypeError, ValueError) as e:
        raise CheckpointError(f"{path} does not fit this version of tinydiff ({e})") from None
    return run, s, meta


def build(meta, seed, prepare=None):
    """Build a fresh Training, and the schedule, from their description.

    meta: see above; seed: int; prepare: called with the UNet before it learns, or None
    -> run (a Training at step 0), s (a Schedule with arrays (T + 1,))
    """
    rng = np.random.default_rng(seed)
    model, s = build_model(meta, rng)
    if prepare:
        prepare(model)
    return Training(_learning(model, meta, rng), rng), s


def _learning(model, meta, rng):
    """Give what a training changes: the network, or low-rank changes of it -> Module"""
    rank = meta.get("train", {}).get("lora")
    return lora.LowRank(model, rank, rng=rng) if rank else model


def build_model(meta, rng):
    """Build network and schedule from their description: enough to draw with, no optimiser.

    meta: see above; rng draws the weights -> UNet, Schedule with arrays (T + 1,)
    Raises ValueError where sizes do not fit, or labels are not those of the network.
    """
    named = [len(values) for values in meta.get("labels", {}).values()]
    if named and named != (classes := list(meta["model"].get("classes", ()))):
        raise ValueError(f"labels of {named} values are named, the network has {classes}")
    kinds = {"linear": schedule.linear, "cosine": schedule.cosine, "sigmoid": schedule.sigmoid}
    model = UNet(**meta["model"], rng=rng)
    return model, kinds[meta["schedule"]["kind"]](meta["schedule"]["T"])


def averaged(run, meta):
    """Build a network that has the running average of a training's weights, which draws better.

    run: a Training, ema (P,), which is left as it is; meta: its description, see above -> UNet
    """
    arrays = _arrays(run)
    blank = Blank("ema", _size_of(arrays, "ema"))
    learning = _learning(build_model(meta, blank)[0], meta, blank)
    if _FROZEN in arrays:
        learning.frozen[:] = arrays[_FROZEN]
    learning.flatten()[:] = run.ema
    return learning.merge() if _FROZEN in arrays else learning


def _size_of(arrays, name):
    """Count the weights in an array of a training, and those that it only changes -> int"""
    return sum(array.size for key, array in arrays.items() if key in (name, _FROZEN))


def export(path, weights, meta):
    """Write only what drawing or classifying needs: weights, as float16, and their description.

    path: file name; weights: (P,) float32, as run.ema; meta: see above, or of a classifier, from
    which `pretrained`, or classifier.load, builds the network -> None
    Raises CheckpointError when it cannot be written, FloatingPointError when a weight is not
    finite, or too large for float16.
    """
    header = {"format": FORMAT, "version": VERSION, "about": meta}
    with np.errstate(over="ignore"):
        halved = np.asarray(weights).astype(np.float16)
    if not np.isfinite(halved).all():
        why = f"a weight is not finite, or above {np.finfo(np.float16).max}"
        raise FloatingPointError(f"{path} was not written: {why}, the largest float16")
    _write(Path(path), header, {"weights": halved})


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
    file, names = Path(path), {**FILES, **STYLES}
    if str(path) in names and not os.path.isfile(file):
        return pretrained(str(path))
    if not os.path.exists(file):
        give = f"give a file that `train` wrote, or one of {', '.join(names)}"
        why = f"No such file or directory){meant(path, names)}"
        raise CheckpointError(f"{path} cannot be read ({why}: {give}")
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
    what = "holds no model that draws, or one of another version of tinydiff"
    return rebuild(path, fields.MODEL, build_model, what)


def rebuild(path, table, build, what):
    """Read a file that `export` wrote, and build its network again.

    path: Path; table: of fields.py; build: function of meta and what stands for a Generator that
    gives a Module, or a tuple of it and more; what: the complaint, if the file does not fit
    -> what `build` gives, with the weights (P,) of the file, and meta, as one tuple
    Raises CheckpointError as `load` does.
    """
    kernels.active()  # here, so that a wrong variable is not taken for a fault of the file
    header, arrays = read(path, ("weights",))
    try:
        meta = header.get("about")
        fields.require(table, meta)
        model, *more = build(meta, Blank("weights", arrays["weights"].size))
        _fill({"weights": model.flatten()}, arrays)
    except (TypeError, ValueError) as e:
        raise CheckpointError(f"{path} {what} ({e})") from None
    return model, *more, meta


class Blank:
    """Stand in for the Generator of a network's weights: zeros, up to a number of them.

    So no network that a file describes becomes larger than the file.
    name: what has the weights, for the message; most: how many it has
    """

    def __init__(self, name, most):
        self.name, self.most, self.left = name, most, most

    def standard_normal(self, shape, dtype=np.float32):
        """Give zeros in a shape; raises ValueError when there are not so many left."""
        self.left -= math.prod(shape)
        if self.left < 0:
            why = "too few for the network that is described"
            raise ValueError(f"{self.name} is {self.most} numbers, {why}")
        return np.zeros(shape, dtype)

    def uniform(self, low, high, size):
        """Give zeros, as standard_normal does."""
        return self.standard_normal((size,))


def _fill(places, arrays):
    """Put weights from a file into their places; dicts of name to array (P,).

    Raises ValueError for another shape or type, or what no training leaves behind.
    """
    for name, place in places.items():
        array, halved = arrays[name], name == "weights"
        of_type = array.dtype == place.dtype or (halved and array.dtype == np.float16)
        if array.shape != place.shape or not of_type:
            got, needed = f"{array.shape} {array.dtype}", f"{place.shape} {place.dtype}"
            raise ValueError(f"{name} is {got}, the model needs {needed}{' or float16' * halved}")
        if not np.isfinite(array).all():
            raise ValueError(f"not every number in {name} is finite")
        if name == "v" and (array < 0).any():
            raise ValueError("v, an average of squares, is negative")
        place[:] = array


def read(path, names=_TRAINING):
    """Read a file's parts and check that tinydiff wrote it.

    path: Path; names: of the arrays wanted -> header (dict, meta under "about"), arrays: dict of
    name to array (P,)
    Raises CheckpointError as `load` does, Drawable for an exported file where a training is wanted.
    """
    try:
        size = _size(path)
        with zipfile.ZipFile(path) as f:
            return _parts(f, size, names)
    except CheckpointError as e:
        raise type(e)(f"{path} {e}") from None
    except Exception as e:  # damaged bytes make zipfile and zlib raise a dozen different errors
        why = f"is damaged or truncated ({e}): take an older checkpoint"
        raise CheckpointError(f"{path} {why}") from None


def _size(path):
    """Look at a file before it is opened as a zip file: Path -> how many bytes it has, an int"""
    try:
        require_file(path)
        with open(path, "rb") as f:
            start, size = f.read(2), os.fstat(f.fileno()).st_size
    except (OSError, ValueError) as e:
        why = getattr(e, "strerror", None) or e
        advice = "give a checkpoint that `python -m tinydiff train` wrote"
        raise CheckpointError(f"cannot be read ({why}): {advice}") from None
    if start not in (b"PK", b""):
        raise CheckpointError(_FOREIGN)
    return size


def _parts(f, size, names):
    """Read header and arrays, as `read`; f: a ZipFile of a file of so many bytes."""
    sizes = {info.filename: info.file_size for info in f.infolist()}
    if len(sizes) < len(f.infolist()):
        raise zipfile.BadZipFile("two of its parts have one name")
    if any(info.compress_type not in _METHODS for info in f.infolist()):
        raise zipfile.BadZipFile("it is compressed in a way that NumPy does not use")
    if sum(sizes.values()) > max(_UNPACKED, _RATIO * size):
        raise zipfile.BadZipFile(f"its {size} bytes claim to be {sum(sizes.values())} unpacked")
    if not 0 < sizes.get("meta.npy", 0) <= _UNPACKED:
        raise CheckpointError(_FOREIGN)
    header = _header(_array(f.read("meta.npy")))
    if header.get("format") != FORMAT:
        raise CheckpointError(_FOREIGN)
    if (found := header.get("version")) != VERSION:
        why = f"has checkpoint version {reprlib.repr(found)}; this tinydiff reads"
        raise CheckpointError(f"{why} version {VERSION}")
    if "weights.npy" in sizes and "weights" not in names:
        why = "holds weights to draw or judge with, not a training"
        raise Drawable(f"{why}: give the file that `train` wrote")
    if not all(f"{name}.npy" in sizes for name in names):
        raise CheckpointError(_FOREIGN)
    names = [*names, *(name for name in [_FROZEN] if f"{name}.npy" in sizes)]
    return header, {name: _array(f.read(f"{name}.npy")) for name in names}


def _array(data):
    """Read a flat array, or a single text, as np.save writes it: bytes -> array (P,) or ()"""
    f = io.BytesIO(data)
    try:
        np.lib.format.read_magic(f)
        shape, _, dtype = np.lib.format.read_array_header_1_0(f, max_header_size=256)
    except Exception:  # of a header that is none, in a dozen ways
        raise CheckpointError(_FOREIGN) from None
    if dtype.hasobject:
        raise CheckpointError("holds pickled objects, which could run code, and is refused")
    # np.load would make room for what the header claims, whatever there is
    if len(shape) > 1 or f.tell() + dtype.itemsize * math.prod(shape) != len(data):
        raise ValueError("an array is not as long as it claims to be")
    return np.frombuffer(data, dtype, offset=f.tell()).reshape(shape)


def _header(text):
    """Read what stands in "meta": array () of text -> dict, nested no deeper than ours"""
    try:
        if text.dtype.kind != "U" or text.ndim:
            raise ValueError("it is not a single text")
        # not str(text): NumPy would let invalid code points into the string
        decoded = text.astype("<U").tobytes().decode("utf-32-le")
        header = json.loads(decoded.rstrip("\0"))
        if type(header) is dict and _depth(header) <= _NESTED:
            return header
    except (ValueError, RecursionError):
        pass
    raise CheckpointError(_FOREIGN)


def _depth(part):
    inside = part.values() if type(part) is dict else part if type(part) is list else ()
    return 1 + max(map(_depth, inside), default=0)
