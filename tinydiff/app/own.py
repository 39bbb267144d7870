"""A user's own pictures on the command line: read, or taken from the cache; shown; timed."""

import os
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import checkpoint, plot
from ..collect import cache, collection, fit, folder, network, report
from ..collect.source import Unusable, number
from ..data import to_float
from ..design.picture import Given
from ..measure import copies
from .progress import Bar
from .usage import UsageError


def pictures(path, size=None, grid=None, use_cache=True, check=None, before=None):
    """Read a user's pictures, and print what was found -> Dataset, what a checkpoint says of it

    check: called with the set's name before the pictures are read, or None; before: the key of a
    training that goes on, or None
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
        found = read.dataset, report.lines(read), fit.as_fields(read.how)
        if use_cache:
            cache.save(key, *found)
    dataset, lines, plan = found
    print("\n".join(lines))
    about = {"path": place(path), "key": key, "size": dataset.train.shape[1], "plan": plan}
    return dataset, about | ({"grid": list(grid)} if grid else {})


def place(path):
    """Write down where a file or folder lies, for a file that may be shared -> str

    No one's name is in it: from the working folder if it lies below it, else from ~, else only
    what it is called.
    """
    path = Path(os.path.abspath(path))
    for here, sign in ((os.getcwd(), ""), (os.path.expanduser("~"), "~/")):
        if path.is_relative_to(here):
            return f"{sign}{path.relative_to(here).as_posix()}"
    return path.name or "/"


def require_apart(path, out):
    """Refuse to write into the folder that the pictures are read from, as --out asks: () -> None

    What is written there would be read as pictures the next time.
    """
    here, into = os.path.realpath(path), os.path.realpath(out)
    if os.path.isdir(path) and Path(into).is_relative_to(here):
        why = f"lies in {path}, whose pictures are read: give --out a folder elsewhere"
        raise UsageError(f"--out {out} {why}")


def as_before(path, resume, use_cache=True, check=None):
    """Read pictures at the size, and cut by the grid, of a training that goes on

    -> Dataset, what a checkpoint says of it, as `pictures` gives them
    """
    meta = checkpoint.load(resume)[2]
    own = meta.get("pictures", {})
    grid = own.get("grid") and tuple(own["grid"])
    try:
        return pictures(path, own.get("size"), grid, use_cache, check, own.get("key"))
    except Unusable as e:
        if "--grid" not in str(e):
            raise
        was = f"was trained on a sheet of sprites, {meta.get('dataset')}"
        raise UsageError(f"{resume} {was}: {path} is none; name the same sheet") from None


def kept(path, name):
    """Find the pictures of a training that goes on without them, in the cache folder

    -> Dataset, what a checkpoint says of it, as `pictures` gives them
    """
    own = checkpoint.load(path)[2].get("pictures", {})
    found = cache.load(own.get("key", ""))
    if not found:
        raise UsageError(f"no file or folder {str(name)!r}: name what {path} learns from")
    print("\n".join(found[1]))
    return found[0], own | {"path": place(own.get("path", name))}


def as_trained(path, pictures, size, side=None, channels=3):
    """Read a picture as those were that a model learned from: to the bit, where it is one of them.

    path: see design.upright.upright; pictures: what the model's checkpoint says of these; size: of
    its pictures; side: pixels per side that are wanted, size or a fraction of it, None = size
    -> design.picture.Given, x (1, side, side, channels), whose mask and alpha are (size, size)
    """
    picture, how = folder.load(path), fit.from_fields(pictures["plan"], size)
    mask = lambda white: fit.fit_mask(white, picture, how)
    alpha = fit.fit_alpha(picture, how) if picture.pixels.shape[2] == 4 else None
    H, W = picture.pixels.shape[:2]
    if side and max(H, W) <= side < size:  # it is small already
        how = replace(how, size=side, factor=1)
    x = fit.fit(picture, how)
    x = to_float(fit.grey(x) if channels == 1 else x)
    k = how.size // (side or size)
    x = x.reshape(how.size // k, k, how.size // k, k, channels).mean((1, 3))
    said = f"{path}: {W} x {H}, made {len(x)} x {len(x)} as its pictures were"
    return Given(x[None], said, alpha, 1 if how.paper else -1, picture.size, mask)


def of_model(name, pipe, given=None, how="name them with --pictures PATH"):
    """Find a user's pictures that a model has learned, or take the given ones in their place.

    name: of the model's file; given: Path, or None, in which case they come from the cache, or
    their place; how: what to do where they are gone
    -> Dataset, what a checkpoint says of it, as `pictures` gives them
    """
    own = pipe.pictures
    if not given and (found := cache.load(own.get("key", ""))):
        return found[0], own
    path = given or Path(own.get("path", "")).expanduser()
    if not given and not ("path" in own and os.path.exists(path)):
        there = f"of {own['path']}, which are not there" if "path" in own else ""
        where = there or "whose place it does not say"
        raise UsageError(f"{name} draws pictures {where}: {how}")
    grid = own.get("grid")
    with redirect_stdout(sys.stderr):  # what was found is no part of a table, or of JSON
        return pictures(path, pipe.model.size, grid and tuple(grid), before=own.get("key"))


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


def say_plan(meta, dataset, most=None, hint=True):
    """Measure a few steps, and say which network it is and how long it takes -> None

    most: images at once, see train.in_pieces; hint: whether to say what else suits the set
    """
    weights = checkpoint.build_model(meta, np.random.default_rng(0))[0].flatten().size
    with Bar(network.TIMED + 1, "measuring the time per step", "steps") as bar:
        bar.note = "compiling, where that is needed"

        def tick():
            bar.note = ""
            bar.tick()

        minutes = network.minutes_per_thousand(meta, dataset, tick, most)
    print(report.plan(meta, weights, minutes))
    if start := meta["train"].get("start"):
        learned = checkpoint.build(meta, 0)[0].theta.size
        some = f": {learned:,} numbers are learned, the other weights stay"
        print(f"  begins with {start}{some if 'lora' in meta['train'] else ''}")
    for line in network.advice(meta, dataset) if hint else []:
        print(line)


def say_end(steps):
    """Say why a training on few pictures stops after so many steps; None = it does not -> None"""
    if steps:
        why = f"each picture is seen {network.SEEN:,} times by then: more often, and copies come"
        print(f"stops after {number(steps, 'step')}: {why} (--steps or --minutes set another end)")


def say_copies(x, dataset, settings):
    """Say how many of some drawings are nearly training pictures -> None

    x: (N, H, W, C) in [-1, 1]; settings: of the training, see checkpoint.py
    """
    changed = settings.get("flip", False), settings.get("shift", 0)
    with Bar(copies.work(dataset, len(x), *changed), "looking for copies", "pictures") as bar:
        known = copies.Known(dataset, *changed, bar.tick)
        near = known.near(known.nearest(x)[0])
    unseen = "pictures that it has not seen" if len(dataset.test) >= copies.ENOUGH else "the set"
    said = f"{near.sum()} of {len(x)} samples are nearly training pictures"
    print(f"{said} (by the same measure {known.share:.0%} of {unseen} are)")
