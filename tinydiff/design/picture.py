"""A user's pictures and letters, in whatever form they come, as a network takes them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from ..data import to_float
from .cells import grid, largest, reduce, start
from .upright import in_srgb, upright

LARGEST_ART = 4_000_000  # pixels of a picture in which enlarged pixels are looked for
OWN = 256  # pixels a side, to which a letter keeps its own size
FAINT = 32  # of 255: what differs less from its background is no letter


@dataclass(frozen=True)
class Given:
    """A user's picture as a model takes it, and where it lies in the picture that was given.

    x: (1, H, W, C) float32 in [-1, 1], opaque; said: a line that says what was done to it
    alpha: (H, W) uint8, how opaque it was, None where all is; paper: -1 or 1, black or white, on
    which transparent parts were laid; size: (width, height) as it was given, upright
    mask: function of a mask of the given picture, (height, width) bool -> (H, W) bool, a pixel is
    marked if any of the mask lies in it; box: left, top, right, bottom in the given picture of what
    x shows, None where it is not one square
    """

    x: np.ndarray
    said: str
    alpha: np.ndarray | None
    paper: int
    size: tuple
    mask: Callable
    box: tuple | None = None


@dataclass
class _Square:
    """Hold the middle square of a picture, opaque, and how it was cut: see `_square`."""

    picture: Image.Image
    alpha: Image.Image | None
    paper: str
    done: list
    size: tuple
    cell: tuple  # k, top, left of its true pixels
    corner: tuple  # left, top, in true pixels


def _square(path, channels, least=None):
    """Read the middle square of a user's picture, opaque, grey or RGB.

    path: see upright; channels: 1 or 3; least: pixels per side of the model: of pixel art that was
    enlarged by a whole factor from as many, or more, the true pixels are taken -> _Square
    """
    picture, done = upright(path)
    size, profile = picture.size, picture.info.get("icc_profile")
    picture, alpha, paper = _opaque(picture, done)
    is_grey = picture.mode in ("1", "L", "LA")
    cell = (1, 0, 0)
    if least:
        picture, alpha, cell = _true_pixels(picture, alpha, least, done)
    (width, height), side = picture.size, min(picture.size)
    left, top = (width - side) // 2, (height - side) // 2
    if width != height:
        done.append("cut to its middle square")
        box = (left, top, left + side, top + side)
        picture, alpha = picture.crop(box), alpha and alpha.crop(box)
    picture = picture.convert("RGB" if channels == 3 else "L")
    if channels == 3 and profile and not is_grey:
        picture.info["icc_profile"] = profile
    return _Square(picture, alpha, paper, done, size, cell, (left, top))


def _opaque(picture, done):
    """Lay a picture on white, or on black if it is itself white: -> it, its alpha or None, paper"""
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A")
        if alpha.getextrema()[0] < 255:
            paper = _paper(picture)
            opaque = Image.new("RGB", picture.size, paper)
            opaque.paste(picture, mask=alpha)
            done.append(f"transparent parts made {paper}")
            return opaque, alpha, paper
    return picture, None, "white"


def _true_pixels(picture, alpha, least, done):
    """Take one pixel for each k x k block of pixel art that was enlarged by copying

    -> picture, alpha, the cell: k, top, left; k = 1 where it was not, or from fewer than `least`
    """
    if picture.width * picture.height > LARGEST_ART or min(picture.size) < 2 * least:
        return picture, alpha, (1, 0, 0)
    colours = np.asarray(picture.convert("RGB"))
    layers = [colours, np.asarray(alpha)] if alpha else [colours]
    cell = grid([np.dstack(layers)], 1 - 1e-9)  # so nothing is lost but rounding
    true = reduce(np.dstack(layers), cell)
    if cell[0] == 1 or min(true.shape[:2]) < least:
        return picture, alpha, (1, 0, 0)
    done.append(f"its {true.shape[1]} x {true.shape[0]} true pixels, each {cell[0]} x {cell[0]}")
    return Image.fromarray(true[..., :3]), Image.fromarray(true[..., 3]) if alpha else None, cell


def _paper(picture):
    """Choose what a picture, RGBA, is laid on: -> "white", or "black" under what is itself white"""
    colours, alpha = _thumbnail(picture)
    darkness = np.average(255 - colours.min(-1), weights=alpha) if alpha.any() else 255
    return "black" if darkness < 16 else "white"


def _thumbnail(picture):
    """Make a picture, RGBA, small: -> colours (height, width, 3), alpha (height, width) to 255"""
    sides = [max(1, side * 256 // max(256, *picture.size)) for side in picture.size]
    pixels = np.asarray(picture.resize(sides, Image.Resampling.BOX), dtype=np.float64)
    return pixels[..., :3], pixels[..., 3]


def open_given(path, size, channels):
    """Read a user's picture and fit it to a model: its middle square, scaled, grey or RGB.

    Transparent parts become white, or black under what is itself white; colours those of sRGB.
    path: see upright; size: pixels per side; channels: 1 or 3 -> Given with x (1, H, W, C)
    Raises OSError as upright does.
    """
    square = _square(path, channels, size)
    picture, alpha, done = square.picture, square.alpha, square.done
    profile = picture.info.get("icc_profile")
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BOX)
        alpha = alpha and alpha.resize((size, size), Image.Resampling.BOX)
        done.append(f"scaled to {size} x {size}")
    if profile and (converted := in_srgb(picture, profile)):
        picture = converted
        done.append("colours converted to sRGB")
    x = to_float(np.asarray(picture).reshape(1, size, size, channels))
    alpha = None if alpha is None or alpha.getextrema()[0] == 255 else np.asarray(alpha)
    said, paper = f"{path}: {', '.join(done)}", 1 if square.paper == "white" else -1
    mask = partial(_fit_mask, square=square, size=size)
    return Given(x, said, alpha, paper, square.size, mask, _box(square))


def _box(square):
    """Find a _Square in the picture that was given -> left, top, right, bottom"""
    k, *firsts = square.cell
    top, left = (start(first, k) for first in firsts)
    left, top = left + k * square.corner[0], top + k * square.corner[1]
    side = k * square.picture.width
    return left, top, left + side, top + side


def _fit_mask(marked, square, size):
    """Fit a mask of a picture (height, width), bool, as its _Square was -> (size, size) bool"""
    marked = reduce(255 * np.uint8(marked)[..., None], square.cell, largest)[..., 0]
    (left, top), side = square.corner, square.picture.width
    cut = Image.fromarray(np.float32(marked[top : top + side, left : left + side]))
    return np.asarray(cut.resize((size, size), Image.Resampling.BOX)) > 0


def open_image(path, size, channels):
    """Read a user's picture and fit it to a model, as `open_given` does

    -> x (1, H, W, C) float32 in [-1, 1], a line that says what was done to it
    """
    given = open_given(path, size, channels)
    return given.x, given.said


def open_whole(path):
    """Read a user's picture at its own size, colours those of sRGB.

    path: see upright -> (height, width, 3), alpha (height, width, 1), both float32 in [-1, 1]
    Raises OSError as upright does.
    """
    picture = upright(path)[0]
    profile = picture.info.get("icc_profile") if picture.mode == "RGB" else None
    picture = picture.convert("RGBA")
    colours, alpha = picture.convert("RGB"), picture.getchannel("A")
    colours = (profile and in_srgb(colours, profile)) or colours
    return to_float(np.asarray(colours)), to_float(np.asarray(alpha)[..., None])


def paste(whole, edits, changed, box):
    """Put edits of a picture's middle square back into it, where they change it, as blocks.

    whole: (height, width, D); edits: (N, H, W, D); changed: (N, H, W) bool; box: left, top, right,
    bottom of the square, see Given, of which some may lie outside -> (N, height, width, D)
    """
    left, top, right, bottom = box
    size, side = edits.shape[1], right - left
    rows = np.arange(max(0, top), min(bottom, whole.shape[0]))
    columns = np.arange(max(0, left), min(right, whole.shape[1]))
    both = (rows, top), (columns, left)
    down, across = ((2 * (at - first) + 1) * size // (2 * side) for at, first in both)
    out = np.repeat(whole[None], len(edits), axis=0)
    here, there = np.ix_(range(len(edits)), rows, columns), np.ix_(range(len(edits)), down, across)
    out[here] = np.where(changed[there][..., None], edits[there], out[here])
    return out


def open_letter(path, size):
    """Read a user's picture of a letter, in any two colours, as white on black.

    What most of its border is, is the background.
    path: see upright, read as open_image does; size: pixels per side, None = its own, up to OWN
    -> x (1, H, W, 1) float32 in [-1, 1], a line that says what was done to it
    Raises OSError as upright does, ValueError where nothing stands out.
    """
    square = _square(path, 1)
    picture, done = square.picture, square.done
    grey = np.asarray(picture, dtype=np.float32)
    low, high = np.percentile(grey, (1, 99)) if grey.size > 1000 else (grey.min(), grey.max())
    if high - low < FAINT:
        low, high = float(grey.min()), float(grey.max())  # perhaps it is small
    if high - low < FAINT:
        raise ValueError(f"{path} shows no letter: all of it is nearly of one grey")
    share = Image.fromarray(np.clip((grey - low) / (high - low), 0, 1))
    size = size or min(picture.width, OWN)
    share = np.asarray(share.resize((size, size), Image.Resampling.BOX))
    done += [f"scaled to {size} x {size}"] if picture.size != (size, size) else []
    done += [f"greys {low:.0f} to {high:.0f} made 0 to 255"] if (low, high) != (0, 255) else []
    border = np.concatenate([share[0], share[-1], share[1:-1, 0], share[1:-1, -1]])
    if np.median(border) > 0.5:
        share = 1 - share
        done.append("dark on light turned to light on dark")
    return (2 * share - 1).reshape(1, size, size, 1), f"{path}: {', '.join(done)}"


def ink_of(path):
    """Find the colour of a letter on a transparent ground: the mean of what is opaque.

    path: see upright -> (3,) float32 in [-1, 1], or None where all of the picture is opaque
    """
    picture = upright(path)[0]
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return None
    pixels = np.asarray(picture.convert("RGBA"))
    opaque = pixels[..., 3]
    if opaque.min() == 255 or not opaque.any():
        return None
    return to_float(np.average(pixels[..., :3], axis=(0, 1), weights=opaque))
