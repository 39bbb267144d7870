"""Sizes other than a model's own: which may be asked for, and what a large picture takes."""

import sys
import time

import numpy as np

from ..design.large import STRENGTH, WHOLE, window, windows
from .usage import UsageError

NOT_TEXTURES = ("digits", "fashion", "portraits", "emoji", "typefaces")  # each thing has its place


def size_of(args, pipe):
    """Check --size -> (H, W), the model's own without it"""
    own, unit = pipe.model.size, pipe.model.divisor
    size = args.size or (own, own)
    if min(size) < own or any(side % unit for side in size):
        takes = f"sides of at least {own}, as the model was trained with, divisible by {unit}"
        raise UsageError(f"--size takes {takes}; got {size[0]}x{size[1]}")
    if size != (own, own) and pipe.dataset in NOT_TEXTURES:
        why = f"of {pipe.dataset} each thing has its place, and would be torn apart"
        scale = -(-max(size) // own)
        instead = f"enlarge pixels instead, --scale {scale} for {scale * own} a side"
        raise UsageError(f"--size is for models of textures, such as patterns: {why}; {instead}")
    if size != (own, own) and pipe.pictures:
        what = "what has its place in a picture is torn apart"
        print(f"--size suits textures: {what}; for larger pixels see --scale", file=sys.stderr)
    return size


def is_large(size):
    """Tell whether an image of a size (H, W) is drawn by windows -> bool"""
    return window(size) is not None


def if_large(args, size):
    """Set what goes for large pictures: they are tiles, and a single one is itself, no overview."""
    if is_large(size):
        args.tile, args.n = True, args.n or (None if args.picks else 1)
        if args.n == 1 and not args.sheet:
            args.scale = args.scale or 1


def evaluations_of(pipe, size, steps, times, small):
    """Count how often drawing a large image evaluates the network -> int

    small: for the tile, over so many steps, that it is made of
    """
    again = pipe.steps_below(STRENGTH, steps, times) * len(windows(size, window(size)))
    return small + small // steps * again


def say_large(pipe, size, evaluations, needed):
    """Say before the work starts how a large image is drawn, how long that takes and how much room.

    evaluations: of the network; needed: bytes. What one evaluation takes is measured, on noise.
    """
    h, w = window(size)
    x, labels = np.zeros((1, h, w, pipe.model.out), np.float32), np.array([pipe.model.classes])
    eps_model, took = pipe.eps_model(labels), []
    for t in (pipe.s.T, pipe.s.T, 1):  # the first compiles
        began = time.perf_counter()
        eps_model(x, t)
        took.append(time.perf_counter() - began)
    seconds = evaluations * min(took)
    lasts = f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"
    motif = f"a motif of {pipe.model.size} pixels, as it was learned, repeated with variations"
    print(f"{size[0]}x{size[1]}: {motif}; about {lasts}, {needed / 1e9:.1f} GB")
    less = WHOLE if max(size) <= 2 * WHOLE else 2 * WHOLE
    k = -(-max(size) // less)
    larger = f"--size {less}x{less} --scale {k} for {k * less} pixels"
    print(f"for larger motifs, as for print, draw less and enlarge: {larger}")
