"""A user's own pictures on the command line: read, or taken from the cache; shown; timed."""

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from .. import checkpoint, plot
from ..collect import cache, collection, network, report
from .progress import Bar
from .usage import UsageError


def pictures(path, size=None, grid=None, use_cache=True):
    """Read a user's pictures, and print what was found -> Dataset, what a checkpoint says of it"""
    if size and size % 4:
        raise UsageError(f"--size takes a multiple of 4, to be halved twice; got {size}")
    source = collection.find(path, grid)
    key = cache.key(source, size, grid)
    found = cache.load(key) if use_cache else None
    if not found:
        with Bar(source.count, f"reading {source.name}", "pictures") as bar:
            read = collection.read(source, path, size, bar.tick)
        found = read.dataset, report.lines(read)
        if use_cache:
            cache.save(key, *found)
    dataset, lines = found
    print("\n".join(lines))
    about = {"path": str(path.absolute()), "key": key, "size": dataset.train.shape[1]}
    return dataset, about | ({"grid": list(grid)} if grid else {})


def require_apart(path, out):
    """Refuse to write into the folder that the pictures are read from, as --out asks: () -> None

    What is written there would be read as pictures the next time.
    """
    here, into = os.path.realpath(path), os.path.realpath(out)
    if os.path.isdir(path) and Path(into).is_relative_to(here):
        why = f"lies in {path}, whose pictures are read: give --out a folder elsewhere"
        raise UsageError(f"--out {out} {why}")


def as_before(path):
    """Look up at which size, and cut by which grid, a training's pictures were read -> both"""
    own = checkpoint.load(path)[2].get("pictures", {})
    return own.get("size"), own.get("grid") and tuple(own["grid"])


def kept(path, name):
    """Find the pictures of a training that goes on without them, in the cache folder

    -> Dataset, what a checkpoint says of it, as `pictures` gives them
    """
    own = checkpoint.load(path)[2].get("pictures", {})
    found = cache.load(own.get("key", ""))
    if not found:
        raise UsageError(f"no file or folder {str(name)!r}: name what {path} learns from")
    print("\n".join(found[1]))
    return found[0], own


def of_model(name, pipe, given=None):
    """Find the pictures that a model has learned, or take the given ones in their place.

    name: of the model's file, for the message; given: Path, or None, in which case they come from
    the cache, or their place -> Dataset, what a checkpoint says of it, as `pictures` gives them
    """
    own = pipe.pictures
    if not given and (found := cache.load(own.get("key", ""))):
        return found[0], own
    path = given or Path(own.get("path", ""))
    if not given and not ("path" in own and os.path.exists(path)):
        where = (
            f"of {path}, which are not there" if "path" in own else "whose place it does not say"
        )
        raise UsageError(f"{name} draws pictures {where}: name them with --pictures PATH")
    grid = own.get("grid")
    with redirect_stdout(sys.stderr):  # what was found is no part of a table, or of JSON
        return pictures(path, pipe.model.size, grid and tuple(grid))


def to_draw(dataset, n=64):
    """Choose labels for a sheet of samples: the values of one label in turn, or of real pictures

    -> (n, number of labels) ints
    """
    classes = dataset.classes
    if len(classes) == 1:
        return np.arange(n)[:, None] * classes[0] // n
    rows = dataset.train_labels
    return rows[np.arange(n) * len(rows) // n]


def show(dataset, path):
    """Write the sheet of what the network will see, and say so -> None"""
    print(f"{plot.save_png(report.sheet(dataset), path)}: what the network will see")


def say_plan(meta, dataset):
    """Measure a few steps, and say which network it is and how long it takes -> None"""
    model, _ = checkpoint.build_model(meta, np.random.default_rng(0))
    with Bar(network.TIMED + 1, "measuring the time per step", "steps") as bar:
        minutes = network.minutes_per_thousand(meta, dataset, bar.tick)
    print(report.plan(meta, model.flatten().size, minutes))
