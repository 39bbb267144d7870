"""Which picture: one of a sheet to go on from, "heroes.png#3", or one of a seed, "7:3"."""

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from ..data import to_float
from ..design.picture import upright
from . import drawing
from .usage import UsageError

FURTHER = 10_000  # from a picture's stream to that of its next try: more than there are pictures


def places(seed, picks, n, tries=1):
    """List which streams pictures are drawn from, with all tries of one after each other.

    seed: int; picks: list of (seed, number) to draw these alone, or None; n: how many otherwise
    -> list of (seed, number), as streams.Streams takes them
    """
    firsts = picks or [(seed, k) for k in range(n)]
    return [(s, k + FURTHER * again) for s, k in firsts for again in range(tries)]


def by_seed(where):
    """Sort the streams of some pictures by their seeds -> list of seed, {number: index in where}"""
    groups = {}
    for i, (seed, number) in enumerate(where):
        groups.setdefault(seed, {})[number] = i
    return list(groups.items())


def files(word):
    """Name the file in which a picture lies that is named as sheet.png#3 -> list of Path"""
    return [Path(_cut(word)[0])] if word else []


def _cut(word):
    """Cut sheet.png#3 -> name of the file, "3"; None where no picture of a sheet is named"""
    path, _, number = word.rpartition("#")
    whole = not path or not number.isdecimal() or os.path.exists(word)
    return (word, None) if whole else (path, number)


def opened(word, pipe):
    """Read one picture of a sheet, named as sheet.png#3, or a file that holds one, as `edit` does

    pipe: the Pipeline of a model of (H, W, C) images -> x (1, H, W, C), a line that says what it is
    Raises UsageError where there is no such picture in the sheet, or none is named.
    """
    (path, number), size = _cut(word), pipe.model.size
    picture, _ = upright(path)
    boxes = _listed(Path(path), picture.size) or _framed(picture, size)
    if number is None and len(boxes) < 2:
        given = drawing.opened(path, pipe, size, pipe.model.out)
        return given.x, given.said
    if not boxes:
        raise UsageError(f"{path} is no sheet of {size} x {size} pictures: leave out #{number}")
    if number is None or int(number) >= len(boxes):
        has = f"{path} has {len(boxes)} pictures, counted from 0 at the top left"
        raise UsageError(f"{has}: name one, as {path}#{min(3, len(boxes) - 1)}")
    cell = picture.crop(boxes[int(number)]).convert("RGBA")
    cell = Image.alpha_composite(Image.new("RGBA", cell.size, "white"), cell)
    cell = cell.convert("RGB" if pipe.model.out == 3 else "L")
    cell = cell.resize((size, size), Image.Resampling.BOX)
    x = to_float(np.asarray(cell).reshape(1, size, size, pipe.model.out))
    return x, f"{path}: picture {number} of {len(boxes)}"


def _listed(path, within):
    """Read from the JSON beside a sheet where each of its pictures lies, the originals left out

    within: width, height of the sheet -> list of (left, top, right, bottom), empty without a JSON
    """
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return []
    try:
        found = json.loads(beside.read_text(encoding="utf-8"))
        if "frames" not in found:
            return []  # it is about something else
        frames = found["frames"]
        drawn = [each for each in frames if "data" in each] or frames
        sides = [[each["frame"][key] for key in "xywh"] for each in drawn]
        boxes = [(x, y, x + w, y + h) for x, y, w, h in sides]
        inside = all(0 <= x < r <= within[0] and 0 <= y < b <= within[1] for x, y, r, b in boxes)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        inside = False
    if not inside:
        raise UsageError(f"{beside} does not say where the pictures of {path} lie: move it away")
    return boxes


def _framed(picture, size):
    """Find the pictures of an overview, as plot.sheet lays them out, by the paper around each

    picture: PIL.Image.Image; size: pixels per side -> list of (left, top, right, bottom)
    """
    pixels = np.asarray(picture.convert("RGB"))
    height, width = pixels.shape[:2]
    for zoom in range(1, min(height, width) // (size + 2) + 1):
        step = zoom * (size + 1)
        if (height - zoom) % step or (width - zoom) % step:
            continue
        rows, columns = (np.arange(side) % step < zoom for side in (height, width))
        if (pixels[rows] < 255).any() or (pixels[:, columns] < 255).any():
            continue
        corners = [(x, y) for y in range(zoom, height, step) for x in range(zoom, width, step)]
        boxes = [(x, y, x + step - zoom, y + step - zoom) for x, y in corners]
        while boxes and (np.asarray(picture.crop(boxes[-1]).convert("RGB")) == 255).all():
            boxes.pop()  # the last row need not be full
        return boxes
    return []
