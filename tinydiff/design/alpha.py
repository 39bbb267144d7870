"""Transparency: what of a drawing is plain background, and what an edit makes of an outline.

Opacity is alpha / 255, as files have it; images lie in [-1, 1].
"""

import numpy as np

EVEN = 12 / 127.5  # by how much a plain background may vary
TOUCHED = 0.35  # share of a border that may be of other colours: what is drawn may touch it


def near(images, colour):
    """Find the pixels of one colour, or nearly so.

    images: (N, H, W, C); colour: (C,), or (N, 1, 1, C) -> (N, H, W) bool
    """
    return np.abs(images - colour).max(-1) <= EVEN


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


def cut_out(images):
    """Make a plain background transparent: what is near its colour and joined to the border.

    What else has this colour, as the white of an eye, is enclosed, and stays.
    images: (N, H, W, C) -> the same with one colour for the background of each, alpha (N, H, W)
    uint8, plain (N,) bool; an image without a plain background stays opaque, as it is
    """
    colours, plain = backdrop(images)
    edge = border(images.shape) & plain[:, None, None]
    outside = reached(near(images, colours), edge)
    alpha = np.where(outside, 0, 255).astype(np.uint8)
    return np.where(outside[..., None], colours, images), alpha, plain


def carried(drawn, x, alpha, paper):
    """Carry the transparency of a picture over to an edit of it.

    Where the edit is of the paper's colour, and joined to what was transparent by what it emptied,
    it is transparent; there the picture must not have been opaque in that colour itself. What it
    draws where there was nothing is opaque. Any other pixel keeps its alpha, or has as much more as
    its colour needs: laid on the paper it has to look as drawn.
    drawn: (N, H, W, C), edits of x laid on paper; x: (1, H, W, C); alpha: (H, W) uint8 of x;
    paper: -1 or 1 -> (N, H, W) uint8
    """
    alpha = np.broadcast_to(alpha, drawn.shape[:3])
    empty = near(drawn, paper) & ~(near(x, paper) & (alpha > 0))
    outside = reached(empty, alpha == 0)
    least = np.ceil(255 * np.abs(drawn - paper).max(-1) / 2).clip(0, 255)  # of black on white: 255
    held = np.where(alpha == 0, 255, np.maximum(alpha, least))
    return np.where(outside, 0, held).astype(np.uint8)


def bare(drawn, alpha, paper):
    """Take the paper off: the colours that look as drawn once they are laid on it.

    drawn = share colour + (1 - share) paper, share = alpha / 255; where alpha = 0: the paper's
    drawn: (N, H, W, C); alpha: (N, H, W) uint8; paper: -1 or 1 -> (N, H, W, C)
    """
    share = np.maximum(alpha, 1)[..., None].astype(drawn.dtype) / 255
    colours = paper + (drawn - paper) / share
    return np.where(alpha[..., None] > 0, colours.clip(-1, 1), drawn.dtype.type(paper))


def on_colour(images, alpha, colour):
    """Lay images on one colour without blending, for what takes a colour as transparent.

    images: (N, H, W, C); alpha: (N, H, W) uint8, from 128 up opaque; colour: (C,) -> (N, H, W, C)
    """
    return np.where(alpha[..., None] >= 128, images, np.asarray(colour, images.dtype))
