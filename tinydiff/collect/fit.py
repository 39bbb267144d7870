"""From pictures of any size to those of one size: pixel art by whole factors, others by averaging.

A plan is made once for a set, from a sample of it, so that all of its pictures are treated alike.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from ..design.cells import blocks, grid, largest, reduce
from ..design.upright import in_srgb

SIZES = (8, 16, 32, 64)
KEPT = 0.95  # share of the variance at 64 x 64 that a smaller size has to keep ...
OWN = 0.99  # ... and of that of pictures that are no larger than 64 x 64 themselves
FEW = 32  # colours: a picture that has no more is pixel art
FRAMED = 0.7  # share of pictures with a border of one colour: these are drawings on paper
TOUCHED = 0.35  # share of a border that may be of other colours: what is drawn may touch it
EVEN = 12  # of 255: by how much a border of one colour may vary, and the channels of a grey pixel
VOTING = 8  # pixels per side of the largest block whose pixels vote on its colour
MOST_ART, MOST = 0.85, 0.95  # share of the pictures, of pixel art or other, that have to fit


@dataclass(frozen=True)
class Plan:
    """How the pictures of a set are fitted.

    size: pixels per side; pixel_art: whether they are scaled by whole factors, without smoothing
    cells: {(H, W): (k, top, left)}, where each pixel of the true picture is k x k, and where the
    grid begins; factor: by how much such pictures are enlarged; framed: whether they are drawn on
    paper of one colour, and so are padded with it, not cut, to a square; whole: whether they are
    padded with `paper`, small as they are
    paper: 0 .. 255, what transparent parts are laid on; kept: {size: share of the variance kept}
    true: (W, H) of most pictures, in true pixels
    """

    size: int
    pixel_art: bool = False
    cells: dict = field(default_factory=dict)
    factor: int = 1
    framed: bool = False
    whole: bool = False
    paper: int = 255
    kept: dict = field(default_factory=dict)
    true: tuple = ()


def as_fields(how):
    """Write a Plan as a checkpoint keeps it: -> dict for JSON, cells as lists H, W, k, top, left

    how: a Plan for pictures (H, W, C)
    """
    kept = {
        name: getattr(how, name) for name in ("pixel_art", "factor", "framed", "whole", "paper")
    }
    cells = how.cells.items() if how.pixel_art else ()
    return kept | {"cells": [[*shape, *map(int, cell)] for shape, cell in cells]}


def from_fields(fields, size):
    """Make a Plan of what `as_fields` wrote, for pictures (H, W, C) to be size x size -> Plan"""
    cells = {(H, W): (k, top, left) for H, W, k, top, left in fields["cells"]}
    return Plan(**{**fields, "size": size, "cells": cells})


# --- looking at a sample ---


def plan(pictures, size=None):
    """Choose how a set is fitted, from a sample of it.

    pictures: list of source.Picture, each (H, W, C); size: pixels per side, None = the smallest of
    SIZES that keeps what is there -> Plan
    """
    paper = _paper(pictures)
    alike, cells = defaultdict(list), {}
    for picture in pictures:
        alike[picture.pixels.shape[:2]].append(picture.pixels)
    for shape, group in alike.items():
        cells[shape] = grid(group)
    true = [reduce(p.pixels, cells[p.pixels.shape[:2]]) for p in pictures]
    sides = [max(x.shape[:2]) for x in true]
    usual, side = np.quantile(sides, (MOST_ART, MOST), method="higher").astype(int).tolist()
    few = np.median([colours(x, 4 * FEW) for x in true]) <= FEW
    enlarged = np.mean([cells[p.pixels.shape[:2]][0] > 1 for p in pictures]) > 0.5
    art = bool(enlarged or (few and usual <= SIZES[-1]))
    side = usual if art else side
    framed = bool(np.mean([has_frame(x) for x in true]) >= FRAMED)
    oblong = np.mean([x.shape[0] != x.shape[1] for x in true]) > 0.5
    whole = bool(oblong and side <= SIZES[-1] and not framed)
    cells = cells if art else dict.fromkeys(cells, (1, 0, 0))
    begun = Plan(0, art, cells, 1, framed, whole, paper, {}, tuple(_common(true)))
    chosen, kept = size, {}
    if art and not size:
        chosen = next((s for s in SIZES if s >= side), SIZES[-1])
    elif not size:
        chosen, kept = _smallest(pictures, begun, side)
    factor = max(1, chosen // side)
    return replace(begun, size=chosen, factor=factor, kept=kept)


def _common(true):
    sizes = Counter((x.shape[1], x.shape[0]) for x in true)
    return sizes.most_common(1)[0][0]


def _smallest(pictures, begun, side):
    """Find the smallest size that keeps what is there -> it, {size: share of the variance kept}"""
    top = next((s for s in SIZES if s >= side), SIZES[-1])
    if top == SIZES[0]:
        return top, {}
    whole = replace(begun, size=top, factor=max(1, top // side))
    x = np.stack([fit(p, whole) for p in pictures]).astype(np.float64)
    spread = ((x - x.mean((1, 2), keepdims=True)) ** 2).mean()
    kept = {}
    for size in (s for s in SIZES if s < top):
        k = top // size
        small = x.reshape(len(x), size, k, size, k, -1).mean((2, 4))
        lost = ((x - _enlarged(small, top)) ** 2).mean()
        kept[size] = 1 - lost / spread if spread > 0 else 1.0
    least = KEPT if side > SIZES[-1] else OWN
    return next((s for s, share in kept.items() if share >= least), top), kept


def _enlarged(x, size):
    """Enlarge by straight lines between pixels' centres: (N, h, w, C) -> (N, size, size, C)"""
    h = x.shape[1]
    at = np.clip((np.arange(size) + 0.5) * h / size - 0.5, 0, h - 1)
    low = np.minimum(at.astype(int), h - 2)
    share = (at - low)[:, None]
    x = x[:, low] * (1 - share[..., None]) + x[:, low + 1] * share[..., None]
    return x[:, :, low] * (1 - share) + x[:, :, low + 1] * share


def colours(x, most):
    """Count the colours of a picture, up to a number: (H, W, C) uint8 -> int"""
    flat = x.reshape(-1, x.shape[2])[:4096]
    packed = np.zeros((len(flat), 4), np.uint8)
    packed[:, : flat.shape[1]] = flat
    return min(most, len(np.unique(packed.view(np.uint32))))


def is_plain(x):
    """Tell whether a picture is of one colour only, but for rounding: (H, W, C) uint8 -> bool"""
    return bool(np.abs(x.astype(np.int16) - x[0, 0]).max() <= 2)


def _border(x):
    return np.concatenate([x[0], x[-1], x[1:-1, 0], x[1:-1, -1]])


def has_frame(x):
    """Tell whether a picture's border is of one colour, or transparent: (H, W, C) uint8 -> bool"""
    border = _border(x).astype(int)
    if x.shape[2] == 4 and (border[:, 3] < 8).mean() > 0.9:
        return True
    away = np.abs(border - np.median(border, axis=0)).max(1) > EVEN
    return bool(away.mean() <= TOUCHED)


def _paper(pictures):
    """Choose what transparent parts are laid on: white, or black under what is itself white."""
    light = total = 0
    for p in (p.pixels for p in pictures if p.pixels.shape[2] == 4):
        alpha = p[..., 3].astype(float)
        if alpha.any():
            light += np.average(255 - p[..., :3].min(-1), weights=alpha) < 16
            total += 1
    return 0 if total and light > total / 2 else 255


# --- one picture ---


def fit(picture, how):
    """Fit a picture to a network.

    picture: source.Picture (H, W, C); how: a Plan -> (size, size, 3) uint8
    """
    x = picture.pixels
    if how.pixel_art:
        x = reduce(x, _cell(x, how))
        x = _opaque(x, how.paper)
        x = _without_smoothing(x, how)
    else:
        x = _smoothly(x, how)
    if x.shape[2] == 1:
        return np.repeat(x, 3, axis=2)
    if picture.profile and (seen := in_srgb(Image.fromarray(x), picture.profile)):
        return np.asarray(seen)
    return x


def fit_mask(white, picture, how):
    """Fit a mask as its picture is: a pixel is marked if any white is blended into it.

    white: (H, W) bool; picture: source.Picture (H, W, C); how: a Plan -> (size, size) bool
    """
    x = np.float32(white)
    if x.shape != (own := picture.pixels.shape[:2]):  # a large JPEG was read at a fraction
        x = np.asarray(Image.fromarray(x).resize(own[::-1], Image.Resampling.BOX))
    x = 255 * np.float32(x > 0)[..., None]
    if how.pixel_art:
        x = _without_smoothing(reduce(x, _cell(picture.pixels, how), largest), how, largest)
    else:
        x = _smoothly(x, replace(how, paper=0))
    return x[..., 0] > 0


def fit_alpha(picture, how):
    """Fit a picture's alpha as its colours are.

    picture: source.Picture (H, W, 4); how: a Plan -> (size, size) uint8
    """
    x = picture.pixels[..., 3:]
    if how.pixel_art:
        x = _without_smoothing(reduce(x, _cell(picture.pixels, how)), how)
    else:
        x = _smoothly(x, replace(how, paper=0))
    return x[..., 0]


def grey(x):
    """Make a fitted picture grey, as its brightness: (H, W, 3) -> (H, W, 1), both uint8"""
    has_colour = (x.max(2) - x.min(2) > EVEN).any()
    return np.asarray(Image.fromarray(x).convert("L"))[..., None] if has_colour else x[..., :1]


def _cell(x, how):
    """Look up a picture's grid; one that has other edges, or another size, has its own."""
    cell = how.cells.get(x.shape[:2])
    if cell is None:
        return grid([x])
    if cell[0] == 1 or np.abs(np.diff(x.astype(int), axis=0)).sum() == 0:
        return cell
    down = np.r_[0, (np.diff(x.astype(np.float32), axis=0) ** 2).sum((1, 2))]
    across = np.r_[0, (np.diff(x.astype(np.float32), axis=1) ** 2).sum((0, 2))]
    k, top, left = cell
    on_grid = down[top::k].sum() + across[left::k].sum()
    return cell if on_grid >= 0.75 * (down.sum() + across.sum()) else grid([x])


def _opaque(x, paper):
    """Lay a picture on paper: (H, W, 4) -> (H, W, 3); others stay as they are."""
    if x.shape[2] < 4:
        return x
    alpha = x[..., 3:].astype(np.float32) / 255
    return (x[..., :3] * alpha + paper * (1 - alpha)).round().astype(np.uint8)


def _most_common(blocks):
    """Find the colour that most pixels of a block have: (h, w, k^2, C) uint8 -> (h, w, C)

    Of large blocks, whose votes would take k^2 bytes per pixel, the middle pixel is taken.
    """
    many = blocks.shape[2]
    if many > VOTING**2:
        k = int(many**0.5)
        return blocks[:, :, k // 2 * (k + 1)]
    packed = blocks.astype(np.int64) @ (256 ** np.arange(blocks.shape[3]))
    votes = (packed[..., :, None] == packed[..., None, :]).sum(-1)
    best = votes.argmax(-1)[..., None, None]
    return np.take_along_axis(blocks, best, axis=2)[:, :, 0]


def _without_smoothing(x, how, value=_most_common):
    """Enlarge by a whole factor, or reduce by one, and pad to a square; a rest is cut off."""
    size, side = how.size, max(x.shape[:2])
    if side > size:
        k = -(-side // size) if how.framed else max(1, -(-min(x.shape[:2]) // size))
        x = _by_blocks(x, k, value)
    elif (factor := min(how.factor, size // side)) > 1:
        x = x.repeat(factor, 0).repeat(factor, 1)
    return _padded(_cut(x, size), size)


def _by_blocks(x, k, value):
    """Reduce by k: each k x k block becomes one value; a rest at the edges is cut off."""
    k = min(k, *x.shape[:2])
    if k == 1:
        return x
    H, W = (side // k * k for side in x.shape[:2])
    top, left = (x.shape[0] - H) // 2, (x.shape[1] - W) // 2
    return value(blocks(x[top : top + H, left : left + W], k))


def _smoothly(x, how):
    """Cut or pad to a square; average areas to make it small, or blend neighbours to enlarge it."""
    size = how.size
    H, W = x.shape[:2]
    if not (how.framed or how.whole):
        side = min(H, W)
        top, left = (H - side) // 2, (W - side) // 2
        x = x[top : top + side, left : left + side]
        wanted = (size, size)
    else:
        longest = max(H, W)
        scale = size / longest if longest > size else size // longest
        wanted = tuple(max(1, round(side * scale)) for side in (W, H))
    if (x.shape[1], x.shape[0]) != wanted:
        small = x.shape[1] < wanted[0]
        way = Image.Resampling.BILINEAR if small else Image.Resampling.BOX
        image = Image.fromarray(x[..., 0] if x.shape[2] == 1 else x)  # alpha is premultiplied
        x = np.asarray(image.resize(wanted, way))
        x = x[..., None] if x.ndim == 2 else x
    x = _opaque(x, how.paper)
    return _padded(x, size, how.paper if how.whole and not is_plain(x) else None)


def _cut(x, size):
    top, left = (max(0, side - size) // 2 for side in x.shape[:2])
    return x[top : top + size, left : left + size]


def _padded(x, size, colour=None):
    """Pad to a square with a colour, or with that of most of the border."""
    H, W = x.shape[:2]
    if (H, W) == (size, size):
        return x
    top, left = (size - H) // 2, (size - W) // 2
    out = np.empty((size, size, x.shape[2]), x.dtype)
    values, counts = np.unique(_border(x), axis=0, return_counts=True)
    out[:] = values[counts.argmax()] if colour is None else colour
    out[top : top + H, left : left + W] = x
    return out
