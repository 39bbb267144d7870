"""Many pictures in one file: a sheet of sprites, cut by a grid, and the frames of an animation."""

import numpy as np
from PIL import Image

from ..design.upright import opened, require_bounded, upright
from .folder import as_picture
from .source import Picture, Source, Unusable, number

MOST_FRAMES = 20_000


def from_sheet(path, grid):
    """Cut a sprite sheet along a grid; cells that are empty, all of one colour, are left out.

    So is a border that is transparent in all cells, as sheets have it between their pictures.

    path: Path; grid: (width, height) of a cell, in pixels -> Source with pictures (H, W, C)
    Raises OSError where it cannot be read, Unusable where no cell, or only one, has anything in it.
    """
    pixels = as_picture(*upright(path)).pixels
    (w, h), (H, W) = grid, pixels.shape[:2]
    columns, rows = W // w, H // h
    if not columns or not rows:
        raise Unusable(f"{path} is {W} x {H}, smaller than one cell of --grid {w}x{h}")
    cells = pixels[: rows * h, : columns * w].reshape(rows, h, columns, w, -1)
    cells = cells.transpose(0, 2, 1, 3, 4).reshape(rows * columns, h, w, -1)
    full = np.flatnonzero([_has_something(cell) for cell in cells])
    said = [f"a sheet of {columns} x {rows} cells of {w} x {h}"]
    if len(full) < len(cells):
        said.append(f"{len(cells) - len(full):,} of its cells are empty: left out")
    if W % w or H % h:
        said.append(f"it is {W} x {H}, no multiple of the cells: the rest is left out")
    if gap := _gap(cells):
        cells = cells[:, gap : h - gap, gap : w - gap]
        said.append(
            f"the outer {number(gap, 'pixel')} of each cell, transparent in all, is left out"
        )
        w, h = w - 2 * gap, h - 2 * gap

    def read(indices):
        for i in indices:
            yield Picture(cells[full[i]], size=(w, h))

    name = lambda i: f"row {full[i] // columns + 1}, column {full[i] % columns + 1}"
    return Source(path.stem, len(full), read, name, said=said, files=[path])


def _gap(cells):
    """Find how wide a border is transparent in all cells: (M, h, w, C) uint8 -> pixels, int"""
    if cells.shape[3] < 4:
        return 0
    seen, (h, w) = (cells[..., 3] > 0).any(0), cells.shape[1:3]
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not len(rows):
        return 0
    return int(min(rows[0], h - 1 - rows[-1], columns[0], w - 1 - columns[-1]))


def _has_something(cell):
    seen = cell[..., 3] > 0 if cell.shape[2] == 4 else np.ones(cell.shape[:2], bool)
    return seen.any() and (not seen.all() or (cell != cell[0, 0]).any())


def from_animation(path):
    """Take the frames of an animated GIF, WebP or PNG -> Source with pictures (H, W, C)

    Raises OSError where it cannot be read, Unusable where it has a single frame: one picture.
    """
    with opened(path) as picture:
        count, (W, H) = getattr(picture, "n_frames", 1), picture.size
    if count < 2:
        is_sheet = "if it is a sheet of sprites, say how large each is, as --grid 16x16"
        raise Unusable(f"{path} is one picture, {W} x {H}: {is_sheet}; or give a folder")
    said = [f"an animation of {count:,} frames"]
    if count > MOST_FRAMES:
        said.append(f"the first {MOST_FRAMES:,} frames are taken")

    def read(indices):
        with opened(path) as picture:
            require_bounded(path, picture, [])
            for i in indices:
                yield _frame(picture, int(i))

    name = lambda i: f"frame {i + 1}"
    return Source(path.stem, min(count, MOST_FRAMES), read, name, said=said, files=[path])


def _frame(picture, i):
    """Read one frame -> Picture, or the OSError that says why not"""
    try:
        picture.seek(i)
        return as_picture(picture.copy() if picture.mode != "P" else picture.convert("RGBA"))
    except Exception as e:  # what damaged bytes make of Pillow's decoders
        return OSError(f"frame {i + 1} cannot be read ({e})")


def is_picture(path):
    """Tell whether Pillow opens a file: Path -> whether it does, () bool"""
    try:
        with Image.open(path) as picture:
            return picture.format not in ("EPS", "WMF")
    except Image.DecompressionBombError:
        return True
    except Exception:
        return False
