"""Sets that were read before, kept in the user's cache folder: 10,000 files take a while."""

import hashlib
import json
import os
import re
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..data import Dataset, Pixels
from ..files import write_whole
from . import collection

VERSION = 2  # of what is kept: another one reads everything anew
MOST = 2**31  # bytes of all sets that are kept; what was not used for longest goes first


def folder():
    """Find the folder of kept sets, (M, H, W, C) images each: () -> Path, None where there is none

    $XDG_CACHE_HOME/tinydiff/sets, which is ~/.cache/tinydiff/sets where it is not set.
    """
    try:
        above = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(above) / "tinydiff" / "sets"
    except RuntimeError:  # there is no home
        return None


def key(source, size, grid):
    """Name what a set would be read as: files' names, lengths and times, labels, and options.

    source: source.Source with rows (M, L); size, grid: as for collection.collect
    -> str, hexadecimal
    """
    digest = hashlib.sha256()
    for path in source.files:
        with suppress(OSError):  # a link to nothing: said where it cannot be read
            seen = os.stat(path)
            about = f"{os.path.abspath(path)}\0{seen.st_size}\0{seen.st_mtime_ns}\n"
            digest.update(about.encode(errors="surrogateescape"))
    known = [VERSION, collection.MOST_BYTES, size, grid, source.count, source.labels, source.said]
    digest.update(json.dumps([source.name, *known]).encode(errors="surrogateescape"))
    digest.update(np.ascontiguousarray(source.rows).tobytes())
    digest.update(b"" if source.test is None else np.ascontiguousarray(source.test).tobytes())
    return digest.hexdigest()


def load(name):
    """Read a kept set: name as `key` gives it, or as a model's file says that it did

    -> data.Dataset (M, H, W, C), what was said of it, its fit.Plan as fields; None where it is
    not kept, or cannot be read, or where the name is another: it could lead out of the folder.
    """
    if not (isinstance(name, str) and re.fullmatch("[0-9a-f]{64}", name)):
        return None
    try:
        path = folder() / f"{name}.npz"
        with np.load(path, allow_pickle=False) as f:
            about = json.loads(str(f["about"]))
            parts = [Pixels(f["train"]), Pixels(f["test"]), f["train_labels"], f["test_labels"]]
        with suppress(OSError):
            os.utime(path)
        return Dataset(about["name"], *parts, about["labels"]), about["lines"], about["plan"]
    except Exception:  # damaged bytes make NumPy and zipfile raise a dozen different errors
        return None


def save(name, dataset, lines, plan):
    """Keep a set, unless that fails, which nobody needs to know.

    name: as `key` gives it; dataset: data.Dataset of Pixels (M, H, W, C); lines: list of str
    plan: dict, as fit.as_fields gives it -> None
    """
    about = {"name": dataset.name, "labels": dataset.labels, "lines": lines, "plan": plan}
    arrays = {"train": dataset.train.raw, "test": dataset.test.raw}
    rows = {"train_labels": dataset.train_labels, "test_labels": dataset.test_labels}
    try:
        path = folder() / f"{name}.npz"
        _make_room(sum(x.nbytes for x in arrays.values()))
        write_whole(path, lambda f: np.savez(f, about=json.dumps(about), **arrays, **rows))
    except (OSError, TypeError):
        pass


def _make_room(needed):
    """Remove sets, those not used for longest, until one more of so many bytes fits."""
    kept = sorted(folder().glob("*.npz"), key=lambda p: p.stat().st_mtime)
    while kept and needed + sum(p.stat().st_size for p in kept) > MOST:
        kept.pop(0).unlink()
