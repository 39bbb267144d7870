"""What all commands that draw have in common: what they check, and what they look up."""

from dataclasses import replace

import numpy as np

from ..design import restore
from ..design.large import window
from ..design.picture import open_given
from ..design.pipeline import PER_PIXEL, parse_labels
from . import own
from .progress import Bar
from .usage import UsageError, pictures_named, require_like, require_memory

PROGRAM = 300e6  # bytes: Python, NumPy, Numba and a network
HELD = 6  # arrays as large as an image, while it is drawn by windows, and written
MOST_VALUES = 1024  # of pictures whose covariance is measured whole; of larger ones its main part


def steps_of(args, pipe, usual):
    """Check --steps -> int; without it the usual number, or all that the model has"""
    T = pipe.s.T
    if args.steps and args.steps > T:
        why = f"the steps that this model was trained with; got {args.steps}"
        raise UsageError(f"--steps takes at most {T}, {why}")
    return args.steps or min(usual, T)


def labels_of(pipe, words):
    """Read the words behind --label and its kin -> a row of labels, ints"""
    if len(pipe.labels) != len(pipe.model.classes):
        raise UsageError("the model's file does not name its labels: draw with it from Python")
    try:
        return parse_labels(pipe.labels, words or [])
    except ValueError as e:
        raise UsageError(str(e)) from None


def require_room(pipe, n, steps=0, size=None, animated=True):
    """Refuse to draw n images if they, and the steps on the way, need too much memory -> bytes"""
    less = "--n or --size" if size else "--n"
    needed = PROGRAM + memory_of(pipe, n, steps, size, animated)
    require_memory(needed, less)
    return needed


def memory_of(pipe, n, steps=0, size=None, animated=True):
    """Estimate the memory that drawing n images takes beside the program itself -> bytes

    Of those that are drawn at once all steps are kept, of the others if they are animated; of large
    ones, which are drawn by windows, only if they are.
    """
    H, W = size or (pipe.model.size, pipe.model.size)
    h, w = window(size) or (H, W)
    at_once = len(pipe.pieces(range(n), size)[0]) if steps else n
    kept = (n if animated else 0 if window(size) else at_once) * steps + 2 * n
    kept += HELD if window(size) else 0
    return h * w * at_once * PER_PIXEL * pipe.model.width + H * W * kept * 4 * pipe.model.out


def require_finite(name, *drawn):
    """Refuse to save what is no picture, as the weights of a file may be finite but absurd."""
    if not all(np.isfinite(x).all() for x in drawn):
        raise UsageError(f"what {name} draws is not finite: its weights are no trained model's")


def with_bar(pipe, work):
    """Show a bar while a Pipeline draws. work: network evaluations, of one image each -> Bar, pipe

    Use: bar, pipe = with_bar(pipe, work), then draw within `with bar:`.
    """
    bar = Bar(work, "drawing")
    return bar, replace(pipe, tick=bar.tick)


def names_of(stem, seed, n):
    """Name n results after the picture that they are made of -> list of str, without suffix"""
    return [stem] if n == 1 else [f"{stem}_{seed}-{k:03}" for k in range(n)]


def opened(path, pipe, side, channels):
    """Read a picture to be edited as a model takes it, of a user's pictures as it was trained

    -> design.picture.Given with x (1, side, side, channels)
    """
    if "plan" in (pipe.pictures or {}):
        return own.as_trained(path, pipe.pictures, pipe.model.size, side, channels)
    return open_given(path, side, channels)


def covariance(args, pipe):
    """Measure the covariance of the images that a model has learned -> see guide.principal"""
    if pipe.model.size**2 * pipe.model.out <= MOST_VALUES:
        return restore.covariance(learned(args, pipe, 20_000))
    return restore.principal(learned(args, pipe, 2_000))


def variance(args, pipe):
    """Measure how a value of the images that a model has learned varies, on average -> float"""
    return float(learned(args, pipe, 2_000).var(0, ddof=1).mean())


def learned(args, pipe, most):
    """Load at most so many of the images that a model has learned -> (M, H, W, C)"""
    if pipe.pictures:
        back = "put them back, or start this in the folder where they lie"
        dataset, _ = own.of_model(args.model, pipe, how=back)
    else:
        dataset = pictures_named(pipe.dataset)
    require_like(args.model, pipe, dataset)
    x = dataset.train
    return np.asarray(x[:: -(-len(x) // most)])


def said(pipe, row):
    """Write a row of labels as --label takes it, without those that are left open -> str"""
    named = zip(pipe.labels.items(), row, strict=True)
    words = [(name, [*values, ""][value]) for (name, values), value in named]
    return " ".join(f"{name}={value}" for name, value in words if value)
