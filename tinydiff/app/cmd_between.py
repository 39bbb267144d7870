"""The command `between`: the way from one picture to another, as a model draws it."""

from pathlib import Path

import numpy as np

from .. import sample
from ..collect.source import number
from ..design import edit
from ..design.pipeline import Pipeline
from . import drawing, known, results
from .cli import USUAL
from .usage import UsageError

ROUNDS = 2  # of ddim_invert: the ends come back closer to what was given


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def cmd_between(args):
    """Run `between`: args from the parser -> None; writes args.n pictures from one to the other"""
    pipe = Pipeline.load(args.model)
    if pipe.paired:
        was = f"{args.model} was trained to redraw, or complete, what it is shown"
        raise UsageError(f"{was}: give a model that draws on its own, as portraits")
    stems = [Path(path).stem for path in (args.first, args.second)]
    film = "_".join(stems)
    names = [f"{film}-{k:03}" for k in range(args.n)]
    results.require(args, names, args.first, args.second, film=film)
    drawing.require_room(pipe, args.n)
    size, channels = pipe.model.size, pipe.model.out
    given = [drawing.opened(path, pipe, size, channels) for path in (args.first, args.second)]
    print("\n".join(one.said for one in given))
    a, b = (one.x for one in given)
    known.warn(args.model, pipe, np.concatenate([a, b]), (args.first, args.second))
    steps, shares = drawing.steps_of(args, pipe, USUAL["between"][1]), np.linspace(0, 1, args.n)
    bar, pipe = drawing.with_bar(pipe, steps * (2 * ROUNDS + args.n))
    with bar:
        times = sample.even_times(pipe.s, steps)
        x = edit.interpolate(pipe.eps_model(None), pipe.s, a, b, shares, times, ROUNDS)[:, 0]
    drawing.require_finite(args.model, x)
    says = [{"source": f"{stems[0]} and {stems[1]}", "share": f"{s:g}"} for s in shares]
    before = {f"given {stem}": one[0] for stem, one in zip(stems, (a, b), strict=True)}
    words = f"the two pictures, then {number(args.n, 'picture')} from one to the other"
    drawn = x, names, says, words, min(args.n + 2, 12), 6
    results.write(args, results.Result(*drawn, before=before, film=film))
