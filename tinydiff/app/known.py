"""A picture that a model plainly cannot know: said, not redrawn in silence."""

import sys
from contextlib import suppress

import numpy as np

from ..collect import cache
from ..measure import strange
from .usage import UsageError, pictures_named

HELD_OUT = 100  # pictures that the model has not seen, with which others are compared
FEWEST = 8


def warn(name, pipe, x, paths, counts=None):
    """Say of pictures that are unlike what a model has learned that this is so -> None

    name: of the model; pipe: its Pipeline; x: (N, H, W, C); paths: of each; counts: (N, H, W) bool,
    pixels that are not to be drawn anew, or None; see measure.strange
    """
    held_out = _held_out(pipe)
    if len(held_out) < FEWEST or held_out.shape[1:] != x.shape[1:]:
        return
    most = strange.limit(strangeness(pipe, held_out))
    for path, error in zip(paths, strangeness(pipe, x, counts), strict=True):
        if error > most:
            times = strange.TIMES * error / most
            why = (
                f"is unlike what {name} has learned: it errs {times:.0f} times as much about it as"
            )
            print(f"{path} {why} about pictures of its kind; expect scribble", file=sys.stderr)


def strangeness(pipe, x, counts=None):
    """Measure measure.strange.strangeness, some pictures at a time: (N, H, W, C) -> (N,)"""
    found = []
    for some in pipe.pieces(range(len(x))):
        part = np.ascontiguousarray(x[some.start : some.stop])
        stay = None if counts is None else counts[some.start : some.stop]
        rng = np.random.default_rng(0)  # the same noise, whoever is drawn beside it
        found.append(strange.strangeness(pipe.eps_model(None), pipe.s, part, rng, stay))
    return np.concatenate(found)


def _held_out(pipe):
    """Find pictures of a model's kind that it was not trained on -> (N, H, W, C), N = 0: none"""
    if pipe.pictures:
        found = cache.load(pipe.pictures.get("key", ""))
        return np.asarray(found[0].test[:HELD_OUT]) if found else np.zeros((0, 0, 0, 0))
    with suppress(UsageError, OSError):
        return np.asarray(pictures_named(pipe.dataset).test[:HELD_OUT])
    return np.zeros((0, 0, 0, 0))
