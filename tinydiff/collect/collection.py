"""From a path to a data set: find pictures, fit them, find out what is the same, hold some out."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..data import FILES, STYLES, Dataset, Pixels
from ..files import require_file
from . import alike, fit, folder, frames, published
from .source import Unusable, printable

SAMPLE, SAMPLE_BYTES = 256, 2**26  # pictures from which the size is chosen, and what they take
MOST_BYTES = 2**29  # of a set in memory; of a larger one evenly spaced pictures are taken


@dataclass
class Collection:
    """A set of a user's pictures, fitted, and what was found on the way.

    dataset: data.Dataset with Pixels; how: the fit.Plan; listed: pictures that there are, of which
    `taken` were to be read; unread: [(name, why), ...]; plain: names of those of a single colour,
    which are left out; sizes: {(width, height): count}; kinds: {"CMYK": count, ...}
    in_colour: whether any picture has three channels (it trains in colour if these differ)
    copies, near: pictures that are another's copy, or nearly the same; moved: from the set's own
    held-out part to training, for that reason; given: whether it has such a part; said: lines
    """

    how: fit.Plan
    listed: int
    taken: int
    said: list
    given: bool
    unread: list = field(default_factory=list)
    plain: list = field(default_factory=list)
    sizes: Counter = field(default_factory=Counter)
    kinds: Counter = field(default_factory=Counter)
    in_colour: bool = False
    copies: int = 0
    near: int = 0
    moved: int = 0
    dataset: Dataset | None = None


def find(path, grid=None):
    """Find out what lies at a path, without reading the pictures.

    path: Path of a folder, a picture or an array file; grid: (width, height) of a sheet's cells
    -> source.Source of M pictures. Raises OSError where there is nothing to train on.
    """
    path = Path(path)
    if path.is_dir():
        if grid:
            raise Unusable(f"--grid is for a sheet of sprites, a file; {path} is a folder")
        found = folder.from_folder(path)
    else:
        found = _of_file(path, grid)
    found.name = _name(found.name)
    return found


def _of_file(path, grid):
    try:
        require_file(path)
    except OSError as e:
        raise e if e.strerror else Unusable(f"{path} cannot be read: {e}") from None
    is_table = published.is_array(path) or published.table.is_idx(path)
    if not is_table and frames.is_picture(path):
        return frames.from_sheet(path, grid) if grid else frames.from_animation(path)
    if grid:
        raise Unusable(f"--grid is for a sheet of sprites; {path} is no picture that can be read")
    if not is_table:
        raise Unusable(published.refusal(path))
    stem = path.name.split(".")[0]
    if stem.lower().startswith(("train", "test", "t10k", "images", "x_train")):
        stem = path.resolve().parent.name  # mnist/train-images-idx3-ubyte.gz
    return published.from_files(stem, [path])


def _name(text):
    """Make a name for a set, and for its files, that none of the sets that come along has -> str"""
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in printable(text))
    name = name.strip("._-") or "pictures"
    return f"my-{name}" if name in {**FILES, **STYLES} else name[:60]


def collect(path, size=None, grid=None, tick=lambda n=1: None):
    """Read a set of pictures as one that a network can be trained on.

    path, grid: as for `find`; size: pixels per side, None = chosen; tick(n): called as pictures are
    read -> Collection, with images (M, H, W, C)
    Raises OSError where there is nothing to train on.
    """
    return read(find(path, grid), path, size, tick)


def read(source, path, size=None, tick=lambda n=1: None):
    """Read the pictures of a Source, in bounded memory: each is fitted as soon as it is read.

    -> Collection, with images (M, H, W, C); see `collect`
    """
    how = fit.plan(_sample(source, path), size)
    most = max(1, MOST_BYTES // (3 * how.size**2))
    chosen = _spread(source.count, min(most, source.count))
    given = source.test is not None
    found = Collection(how, source.count, len(chosen), source.said, given)
    images, chosen = _fitted(source, chosen, found, tick)
    if len(images) < 2:
        raise Unusable(f"{path} has a single picture that can be used: give two or more")
    group, found.copies, found.near = alike.groups(images)
    if found.copies == len(images) - 1:
        raise Unusable(
            f"{path}: its {len(images):,} pictures are all the same: give different ones"
        )
    rows = source.rows[chosen]
    if given and source.test[chosen].any():
        held_out, found.moved = alike.settle(source.test[chosen], group)
    else:
        held_out = alike.split(group, rows[:, 0] if rows.shape[1] else None)
    sides = [Pixels(images, np.flatnonzero(which)) for which in (~held_out, held_out)]
    found.dataset = Dataset(source.name, *sides, rows[~held_out], rows[held_out], source.labels)
    return found


def _spread(count, most):
    """Choose some of so many, evenly spaced -> increasing ints (most,)"""
    return np.arange(most) * count // most


def _sample(source, path):
    """Read some of the pictures, from which the size is chosen -> list of Pictures"""
    why = ""
    for picture in source.read(np.arange(source.count)):
        if not isinstance(picture, OSError):
            break
        why = why or f"; the first: {picture}"
    else:
        none = f"none of its {source.count:,} pictures can"
        none = "its only picture cannot" if source.count == 1 else none
        raise Unusable(f"{path}: {none} be read{why}")
    room = max(8, SAMPLE_BYTES // picture.pixels.nbytes)
    seen, some = [picture], _spread(source.count, min(SAMPLE, room, source.count))
    for each in source.read(some):
        if not isinstance(each, OSError) and sum(p.pixels.nbytes for p in seen) < 4 * SAMPLE_BYTES:
            seen.append(each)
    return seen[1:] or seen


def _fitted(source, chosen, found, tick):
    """Read and fit pictures, and note what is found -> images (M, S, S, C) uint8, which (M,)"""
    size = found.how.size
    images = np.empty((len(chosen), size, size, 3), np.uint8)
    good, sizes = [], Counter()
    for i, picture in zip(chosen, source.read(chosen), strict=True):
        tick()
        if isinstance(picture, OSError):
            found.unread.append((source.names(i), picture))
            continue
        H, W, C = picture.pixels.shape
        images[len(good)] = fit.fit(picture, found.how)
        good.append(i)
        sizes[picture.size or (W, H)] += 1
        found.kinds.update(picture.kinds)
        found.kinds["transparent"] += C == 4
        found.in_colour |= C > 1
    found.sizes, found.kinds = sizes, +found.kinds
    images, good = images[: len(good)], np.array(good, dtype=int)
    if not _has_colour(images):
        images = np.ascontiguousarray(images[..., :1])
    plain = np.array([fit.is_plain(x) for x in images])
    if 0 < plain.mean() < 0.5:
        found.plain = [source.names(i) for i in good[plain]]
        good = good[~plain]
        for to, place in enumerate(np.flatnonzero(~plain)):  # in place: no second set in memory
            images[to] = images[place]
        images = images[: len(good)]
    return images, good


def _has_colour(images):
    """Tell whether any picture has a pixel whose channels differ: (M, H, W, 3) uint8 -> bool"""
    parts = (images[i : i + 1024] for i in range(0, len(images), 1024))
    return any((part.max(3) - part.min(3) > fit.EVEN).any() for part in parts)
