"""Transparency of what is drawn: kept from what was given, or made as --transparent asks."""

import sys
from dataclasses import replace

import numpy as np

from ..collect.source import number
from ..data import to_uint8
from ..design import alpha, colour
from . import colours
from .usage import UsageError

SMOOTH = ("fashion", "emoji")  # sets that are no pixel art
INK = ("digits", "typefaces")  # sets drawn in white on black


def require(args, pipe):
    """Read the colour of --transparent, before the work starts -> (3,) in [-1, 1], None = none"""
    if args.transparent in (None, True):
        return None
    try:
        key = colour.parse(args.transparent)
    except ValueError as e:
        raise UsageError(f"--transparent: {e}") from None
    if pipe.model.out != 3:
        suited = "--transparent COLOUR is for models of colour pictures"
        raise UsageError(f"{args.model} draws in grey: {suited}")
    return key


def cleared(args, pipe, result, key=None, sources=()):
    """Find what of a results.Result is transparent.

    key: see `require`; sources: M pictures, each with N / M edits among the images, each as
    x (1, H, W, C), alpha (H, W) uint8 or None, paper: see design.alpha.carried -> Result
    Where there is a palette, the key colour becomes its last.
    """
    sources = sources or [(None, None, 1)]
    if args.transparent is None and all(clear is None for _, clear, _ in sources):
        return result
    parts = np.split(result.images, len(sources))
    both = [_one(args, pipe, part, *source) for part, source in zip(parts, sources, strict=True)]
    bare, clear = (np.concatenate(halves) for halves in zip(*both, strict=True))
    if key is None:
        return replace(result, bare=bare, alpha=clear)
    own = result.palette
    if own is not None:
        bare, own = colours.nearest(bare, own), np.concatenate([own, to_uint8(key)[None]])
    return replace(result, images=alpha.on_colour(bare, clear, key), palette=own)


def in_ink(result, inks):
    """Draw letters on a transparent ground where given ones lay on it, in their mean colour.

    inks: of each that was given its colour (3,) in [-1, 1], or None -> Result
    """
    inks = [ink for ink in inks if ink is not None]
    if not inks:
        return result
    images, ink = result.images, np.mean(inks, 0).astype(result.images.dtype)
    flat = lambda x: np.broadcast_to(ink, (*x.shape[:-1], 3))
    own = {k: (flat(x), alpha.of_ink(x[None])[0]) for k, (x, _) in result.as_given.items()}
    return replace(result, bare=flat(images), alpha=alpha.of_ink(images), as_given=own)


def _one(args, pipe, drawn, x, clear, paper):
    """Find what is transparent in (N, H, W, C) edits of a picture -> bare (N, H, W, C), alpha"""
    soft = _is_smooth(pipe)
    if clear is not None:
        clear = alpha.carried(drawn, x, clear, paper, soft)
        return alpha.bare(drawn, clear, paper), clear
    if args.transparent is None:
        return drawn, np.full(drawn.shape[:3], 255, np.uint8)
    if pipe.dataset in INK:
        clear = alpha.of_ink(drawn)
        return alpha.bare(drawn, clear, -1), clear
    paper, clear, plain = alpha.cut_out(drawn, soft)
    if not plain.all():
        opaque = number(np.sum(~plain), "image has", "images have")
        print(f"--transparent: {opaque} no plain background, and no transparency", file=sys.stderr)
    return alpha.bare(drawn, clear, paper), clear


def _is_smooth(pipe):
    """Tell whether a model draws outlines that are blended with the background -> bool"""
    plan = (pipe.pictures or {}).get("plan")
    return not plan["pixel_art"] if plan else pipe.dataset in SMOOTH
