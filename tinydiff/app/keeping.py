"""What `restyle` holds of a picture, as --keep and --fill ask, and what has strayed from it."""

import sys

import numpy as np

from ..collect.source import number
from ..design import colour, kept
from ..design.picture import open_image
from ..measure.metrics import silhouette_overlap
from . import drawing
from .usage import UsageError

SAME_SHAPE = 0.6  # overlap of the silhouettes, below which a shape is another
SAME_COLOUR = 0.25  # distance of blurred colours, above which these are others
UNCHANGED = 0.06  # distance of pixels, below which a picture looks as it did


def fill(args):
    """Read --fill -> (3,) in [-1, 1], or None"""
    try:
        return None if args.fill is None else colour.parse(args.fill)
    except ValueError as e:
        raise UsageError(f"--fill: {e}") from None


def shown(images, colour):
    """Give a sketch its colour before the network sees it. images: (N, H, W, C) -> the same"""
    return images if colour is None else kept.filled(images, colour)


def further(args, pipe):
    """Make what --keep asks for -> function of images (N, H, W, C), and `also` of Pipeline.draw

    It gives an `also` that holds these images, too; without --keep the same one.
    """
    if not args.keep:
        return lambda images, also: also
    cov = drawing.covariance(args, pipe)

    def holding(images, also):
        hold = lambda eps_model: kept.keeping(eps_model, pipe.s, images, cov, args.keep)
        return hold if also is None else lambda eps_model: also(hold(eps_model))

    return holding


def doubts(images, colour):
    """Say which pictures do not suit: those that fill their frame. images: (N, H, W, C) -> lines"""
    images = shown(images, colour)
    edge = [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]]
    paper = np.concatenate([part.min(-1) > kept.PAPER for part in edge], 1).mean(1)
    full = int((paper < 0.5).sum())
    if not full:
        return []
    why = "emoji stand on white, faces and scenes come out crumpled"
    return [f"{number(full, 'picture has', 'pictures have')} no white around it: {why}; see --keep"]


def strayed(args, images, drawn):
    """Say how many results are not what one would expect of the pictures -> lines

    images: (N, H, W, C), what each was made of, as given; drawn: (N, H, W, C)
    """
    images, N = shown(images, fill(args)), len(drawn)
    sketch, inside = kept.is_sketch(images), kept.enclosed(images)
    ink = (drawn.min(-1) < kept.PAPER) & inside
    empty = sketch & (ink.sum((1, 2)) < inside.sum((1, 2)) / 2)
    far = kept.colour_distance(images, drawn) > SAME_COLOUR
    overlap = np.array([silhouette_overlap(*pair) for pair in _pairs(images, drawn)])
    lost = ~sketch & (far | (overlap < SAME_SHAPE))
    same = np.sqrt(((images - drawn) ** 2).mean((1, 2, 3))) < UNCHANGED
    of = f"of {number(N, 'result')}"
    lines = []
    if empty.any():
        lines.append(f"{empty.sum()} {of}: the sketch is empty inside; --fill '#d03030' colours it")
    if lost.any() and not args.keep:
        lines.append(f"{lost.sum()} {of}: shape or colours have strayed; --keep 1 holds them")
    if same.any():
        more = "a larger --strength" if args.way != "source" else "a smaller --keep"
        lines.append(f"{same.sum()} {of}: nearly the picture as it was; {more} changes more")
    if args.way == "inversion" and args.n > 1:
        lines.append(f"--way inversion leaves nothing to chance: all {args.n} of a picture are one")
    return lines


def _pairs(a, b):
    return zip(np.split(a, len(a)), np.split(b, len(b)), strict=True)


# --- sample ---


def source_of(args, pipe):
    """Read --source, the picture that a network redraws -> (1, H, W, C), None = there is none"""
    if args.source and (not pipe.paired or pipe.model.out != 3):
        raise UsageError("--source is for emoji, or what `train emoji` wrote: the subject to draw")
    if args.source:
        x, said = open_image(args.source, pipe.model.size, pipe.model.out)
        print(said)
        return x
    if pipe.paired:
        use = {"style": "--source cat.png gives one, as `restyle cat.png --to noto` does"}
        use = use.get(*pipe.labels, "`alphabet A=a.png` draws them in the hand of some letters")
        print(f"without a source {args.model} invents what it draws: {use}", file=sys.stderr)
    return None
