"""Transparency: what of a drawing is plain background, and what an edit makes of an outline.

Opacity is alpha / 255, as files have it; images lie in [-1, 1].
"""

import numpy as np

EVEN = 12 / 127.5  # by how much a plain background may vary
TINTED = 32 / 127.5  # by how much paper that was drawn anew may differ from what it was
TOUCHED = 0.35  # share of a border that may be of other colours: what is drawn may touch it


def near(images, colour, within=EVEN):
    """Find the pixels of one colour, or nearly so.

    images: (N, H, W, C); colour: broadcast to it; within: by how much they may differ, a number or
    (N, H, W) -> (N, H, W) bool
    """
    return np.abs(images - colour).max(-1) <= within


def reached(free, start):
    """Flood: find what is free and joined to the start by free pixels, side by side.

    Sweeps over the rows and columns carry it on, until none carries it further.
    free, start: (N, H, W) bool -> (N, H, W) bool
    """
    found, before = free & start, -1
    while found.sum() > before:
        before = found.sum()
        for swept, open_ in ((found, free), (found.swapaxes(1, 2), free.swapaxes(1, 2))):
            last = swept.shape[1] - 1
            for i in range(1, last + 1):
                swept[:, i] |= swept[:, i - 1] & open_[:, i]
                swept[:, last - i] |= swept[:, last - i + 1] & open_[:, last - i]
    return found


def border(shape):
    """Mark the outermost pixels: shape, (N, H, W) -> (1, H, W) bool"""
    edge = np.ones((1, *shape[1:3]), bool)
    edge[:, 1:-1, 1:-1] = False
    return edge


def backdrop(images):
    """Find the colour on which each image is drawn: the median of its border, if that is plain.

    images: (N, H, W, C) -> colours (N, 1, 1, C), plain (N,) bool: at most TOUCHED of the border is
    of other colours
    """
    edge = images[:, border(images.shape)[0]]  # (N, pixels, C)
    colours = np.median(edge, axis=1)[:, None, None]
    plain = near(edge[:, None], colours).mean((1, 2)) >= 1 - TOUCHED
    return colours.astype(images.dtype), plain


def cut_out(images, soft=False):
    """Make a plain background transparent: what is near its colour and joined to the border.

    What else has this colour, as the white of an eye, is enclosed, and stays.
    images: (N, H, W, C); soft: whether outlines are blended with the background, see `softened`
    -> colours of the background (N, 1, 1, C), alpha (N, H, W) uint8, plain (N,) bool; an image
    without a plain background stays opaque
    """
    colours, plain = backdrop(images)
    outside = reached(near(images, colours), border(images.shape) & plain[:, None, None])
    opaque = softened(images, outside, colours) if soft else np.uint8(255)
    return colours, np.where(outside, np.uint8(0), opaque), plain


def softened(images, outside, colours):
    """Find how much of a background is blended into the pixels beside it.

    Such a pixel lies on the way from the background's colour p to that of the neighbour, or its
    own, that is furthest from it: x = p + share (c - p), by least squares. One that lies elsewhere,
    by more than EVEN, is not blended, and opaque.
    images: (N, H, W, C); outside: (N, H, W) bool; colours: p, broadcast to (N, H, W, C)
    -> alpha (N, H, W) uint8, 255 off the outline
    """
    (H, W), places = outside.shape[1:], np.ndindex(3, 3)
    pad = ((0, 0), (1, 1), (1, 1))
    away = np.pad(np.where(outside[..., None], 0, images - colours), (*pad, (0, 0)))
    beyond = np.pad(outside, pad)
    around = [(away[:, i : i + H, j : j + W], beyond[:, i : i + H, j : j + W]) for i, j in places]
    towards = np.stack([each for each, _ in around])
    furthest = (towards**2).sum(-1).argmax(0)[None, ..., None]
    c = np.take_along_axis(towards, furthest, axis=0)[0]
    x = images - colours
    share = ((x * c).sum(-1) / np.maximum((c * c).sum(-1), 1e-9)).clip(0, 1)
    blended = np.abs(x - share[..., None] * c).max(-1) <= EVEN
    outline = np.any([clear for _, clear in around], axis=0) & ~outside
    return np.where(outline & blended, 255 * share, 255).round().astype(np.uint8)


def of_ink(images):
    """Take how light drawings in white on black are for how much ink there is, also inside a loop.

    images: (N, H, W, 1) -> alpha (N, H, W) uint8
    """
    return (127.5 * (images[..., 0].clip(-1, 1) + 1)).round().astype(np.uint8)


def carried(drawn, x, alpha, paper, soft=False):
    """Carry the transparency of a picture over to an edit of it.

    Where the edit is of the paper's colour, or of a plain background hardly tinted, and joined to
    what was transparent by what it emptied, it is transparent; there the picture must not have been
    opaque in that colour itself. What it draws where there was nothing, no mere speck of another
    white, is opaque. Any other pixel
    keeps its alpha, or has as much more as its colour needs: laid on the paper it has to look as
    drawn. soft: of outlines that are new, what is blended with the paper is taken for alpha.
    drawn: (N, H, W, C), edits of x laid on paper; x: (1, H, W, C); alpha: (H, W) uint8 of x;
    paper: -1 or 1 -> (N, H, W) uint8
    """
    alpha = np.broadcast_to(alpha, drawn.shape[:3])
    ground, plain = backdrop(drawn)
    tinted = plain & (np.abs(ground - paper).max((1, 2, 3)) <= TINTED)
    ground = np.where(tinted[:, None, None, None], ground, drawn.dtype.type(paper))
    within = np.where(alpha == 0, TINTED, EVEN)
    empty = near(drawn, paper, within) | near(drawn, ground, within)
    empty &= ~(near(x, paper) & (alpha > 0))
    outside = reached(empty, alpha == 0)
    least = np.ceil(255 * np.abs(drawn - paper).max(-1) / 2).clip(0, 255)  # of black on white: 255
    held = np.where(alpha == 0, 255, np.maximum(alpha, least))
    if soft:
        new = np.abs(drawn - x).max(-1) > EVEN
        held = np.where(new, softened(drawn, outside, ground), held)
    return np.where(outside, 0, held).astype(np.uint8)


def bare(drawn, alpha, paper):
    """Take the paper off: the colours that look as drawn once they are laid on it.

    drawn = share colour + (1 - share) paper, share = alpha / 255; where alpha = 0: the paper's
    drawn: (N, H, W, C); alpha: (N, H, W) uint8; paper: broadcast to drawn -> (N, H, W, C)
    """
    alpha, paper = alpha[..., None], np.asarray(paper, drawn.dtype)
    colours = (paper + (drawn - paper) * 255 / np.maximum(alpha, 1)).clip(-1, 1)
    return np.where(alpha == 255, drawn, np.where(alpha > 0, colours, paper))


def on_colour(images, alpha, colour):
    """Lay images on one colour without blending, for what takes a colour as transparent.

    images: (N, H, W, C); alpha: (N, H, W) uint8, from 128 up opaque; colour: (C,) -> (N, H, W, C)
    """
    return np.where(alpha[..., None] >= 128, images, np.asarray(colour, images.dtype))
