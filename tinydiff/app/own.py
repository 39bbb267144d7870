"""A user's own pictures on the command line: read, or taken from the cache; shown; timed."""

import os
from pathlib import Path

import numpy as np

from .. import checkpoint, plot
from ..collect import cache, collection, copies, network, report
from .progress import Bar
from .usage import UsageError


def pictures(path, size=None, grid=None, use_cache=True, before=None, check=None):
    """Read a user's pictures, and print what was found -> Dataset, what a checkpoint says of it

    before: the key of a training that goes on, or None; check: called with the set's name before
    the pictures are read, or None
    """
    if size and size % 4:
        raise UsageError(f"--size takes a multiple of 4, to be halved twice; got {size}")
    source = collection.find(path, grid)
    if check:
        check(source.name)
    key = cache.key(source, size, grid)
    if before and before == cache.key(source, None, grid):  # the size was chosen then
        key = before
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
    """Look up how a training's pictures were read -> size, grid, key, see checkpoint.py"""
    own = checkpoint.load(path)[2].get("pictures", {})
    return own.get("size"), own.get("grid") and tuple(own["grid"]), own.get("key")


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


def say_plan(meta, dataset, hint=True):
    """Measure a few steps, and say which network it is and how long it takes -> None"""
    model, _ = checkpoint.build_model(meta, np.random.default_rng(0))
    weights, learned = model.flatten().size, checkpoint.build(meta, 0)[0].theta.size
    with Bar(network.TIMED + 1, "measuring the time per step", "steps") as bar:
        minutes = network.minutes_per_thousand(meta, dataset, bar.tick)
    print(report.plan(meta, weights, minutes))
    if start := meta["train"].get("start"):
        some = f": {learned:,} numbers are learned, the other weights stay"
        print(f"  begins with {start}{some if 'lora' in meta['train'] else ''}")
    for line in network.advice(meta, dataset) if hint else []:
        print(line)


def say_copies(x, dataset, settings):
    """Say how many of some drawings are nearly training pictures -> None

    x: (N, H, W, C) in [-1, 1]; settings: of the training, see checkpoint.py
    """
    changed = settings.get("flip", False), settings.get("shift", 0)
    with Bar(copies.comparisons(dataset, *changed), "looking for copies", "pictures") as bar:
        near, _, usual = copies.near_copies(x, dataset, *changed, bar.tick)
    unseen = "pictures that it has not seen" if len(dataset.test) >= copies.ENOUGH else "the set"
    said = f"{near.sum()} of {len(x)} samples are nearly training pictures"
    print(f"{said} (by the same measure {usual:.0%} of {unseen} are)")
