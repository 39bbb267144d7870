"""The command `sample`: draw with a trained model."""

import sys
from functools import reduce
from pathlib import Path

import numpy as np

from .. import plot
from ..collect.source import number
from ..design import colour
from ..design.pipeline import Pipeline, evaluations
from . import clear, colours, drawing, keeping, results, sizes, together
from .cli import STEPS, USUAL
from .usage import UsageError, require_output


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def cmd_sample(args):
    """Run `sample`: args from the parser -> None; writes a picture of args.n images"""
    pipe = Pipeline.load(args.model)
    size = sizes.size_of(args, pipe)
    large = sizes.if_large(args, size)
    args.n = args.n or 64
    _require_fitting(args)
    sampler, steps, times = _sampler(args, pipe)
    rows = (drawing.labels_of(pipe, words) for words in (args.label, args.avoid))
    labels, avoid = (np.tile(row, (args.n, 1)) for row in rows)
    also, key = _colours(args, pipe), clear.require(args, pipe)
    palette = colours.given(args, pipe.model.out)
    names = [f"{Path(args.model).stem}_{args.seed}-{k:03}" for k in range(args.n)]
    results.require(args, names, *([args.source] if args.source else []))
    source = keeping.source_of(args, pipe)
    beside = None
    if args.tile and not large and not results.into_folder(args):
        beside = args.out.with_stem(f"{args.out.stem}_3x3")
        require_output(beside)
    kept, animated = pipe.s.T if sampler == "ddpm" else steps, bool(results.animations(args))
    needed = drawing.require_room(pipe, args.n, kept, size, animated)
    if args.tile and pipe.dataset in sizes.NOT_TEXTURES:
        why = "what has its place in a picture fades in a tile"
        print(f"tiles suit textures such as patterns: of {pipe.dataset}, {why}", file=sys.stderr)
    if not args.label and len(pipe.labels) == 1:
        labels = np.arange(args.n)[:, None] * pipe.model.classes[0] // args.n
    team = together.team()
    together.require_enough(args.n, "--n")
    mine = range(args.n)[team.part(args.n)]
    work = len(mine) * evaluations(pipe.s, sampler, steps, args.guidance)
    if large:
        work = sizes.evaluations_of(pipe, size, steps, times, work)
        sizes.say_large(pipe, size, work * colours.passes(args), needed)
    bar, pipe = drawing.with_bar(pipe, work * colours.passes(args))

    def draw(pictures, exact=None):
        further = [each for each in (also, exact) if each]
        how = (sampler, steps, times), size, further, source
        return _in_pieces(args, pipe, pictures, labels, avoid, *how)

    with bar:
        ours = lambda exact: [team.gather(x) for x in draw(mine, exact)]
        chain, palette, told = colours.draw(args, pipe, palette, ours, draw)
    if team.rank:
        return
    drawing.require_finite(args.model, chain[-1])
    print(*told, sep="\n", end="\n" * bool(told))
    says = [{"seed": f"{args.seed}", "labels": drawing.said(pipe, row)} for row in labels]
    columns = min(args.n, max(1, 16 * pipe.model.size // size[1]))
    drawn = chain[-1], names, says, number(args.n, "image"), columns
    result = results.Result(*drawn, chain=chain, palette=palette)
    results.write(args, clear.cleared(args, pipe, result, key))
    if beside:
        again = np.tile(chain[-1][:4], (1, 3, 3, 1))
        wall = plot.sheet(again, len(again), gap=4, scale=4)
        repeated = plot.save_png(wall, beside)
        print(f"{repeated}: the first {len(again)}, each repeated 3 x 3")


def _in_pieces(args, pipe, pictures, labels, avoid, way, size, further, source):
    """Draw pictures, some at a time.

    pictures: which of the rows of labels and avoid, plus colours.MOST for each further try; way:
    sampler, steps, times; further: guidance, functions from eps_model to eps_model, one by one
    -> list of (N, H, W, C), x_T .. x_0 where an animation is asked for, else x_0 alone
    """
    whole = bool(results.animations(args))

    def draw(rows, rng):
        own = np.asarray(rows) % colours.MOST
        wished, without, w = labels[own], avoid[own], args.guidance
        without = None if source is not None and not args.avoid else without  # see eps_model
        also = lambda eps_model: reduce(lambda model, each: each(model), further, eps_model)
        if args.tile:
            return pipe.tile(wished, rng, *way[1:], w, without, size, also, whole)
        how = {"size": size, "also": also, "whole": whole}
        return pipe.draw(wished, rng, *way, w, without, source=source, **how)

    return pipe.in_pieces(draw, pictures, args.seed, size)


def _sampler(args, pipe):
    """Choose sampler, steps and times: what is asked for, else what is usual; steps 1 .. T"""
    kind = " --tile" if args.tile else " --palette" if args.palette or args.main_colour else ""
    usual = (args.sampler, STEPS, "even") if args.sampler else USUAL[f"sample{kind}"]
    return usual[0], drawing.steps_of(args, pipe, usual[1]), args.times or usual[2]


def _require_fitting(args):
    """Refuse options of `sample` that do not go together."""
    if args.steps and args.sampler == "ddpm":
        raise UsageError("--steps is for the other samplers; ddpm visits every step")
    if args.avoid and args.guidance <= 1:
        why = "without it nothing leads away from anything"
        raise UsageError(f"--avoid needs --guidance above 1: {why}")
    if args.sampler == "ddpm" and args.times:
        raise UsageError("--times is for the other samplers; ddpm visits every step")
    if args.tile and args.sampler not in (None, "ddim"):
        what = "--tile, and what is larger than 64x64, is drawn with ddim"
        raise UsageError(f"{what}, not with {args.sampler}: leave out --sampler")
    if (args.gif or args.apng) and args.out.suffix in (".gif", ".apng"):
        give = f"give --out {args.out.with_suffix('.png')}"
        raise UsageError(f"--gif and --apng write the chain beside the picture: {give}")
    colours.require_fitting(args)
    if args.pull and not (args.palette or args.main_colour):
        raise UsageError("--pull is for --palette or --main-colour: name a colour")


def _colours(args, pipe):
    """Read --main-colour, --palette --about and --pull -> guidance for Pipeline.draw, or None"""
    about = colours.loosely(args)
    if not (about or args.main_colour):
        return None
    palette = colours.read(args.palette) / 127.5 - 1 if about else None
    try:
        main = colour.parse(args.main_colour) if args.main_colour else None
    except ValueError as e:
        raise UsageError(str(e)) from None
    own = "--about and --main-colour draw single pictures of the model's own size"
    if args.tile or args.size:
        raise UsageError(f"{own}: leave out --tile and --size")
    colours.require_coloured(args, pipe.model.out)
    cov = drawing.covariance(args, pipe) if args.main_colour else drawing.variance(args, pipe)
    wanted = pipe.s, cov, pipe.model.size, palette, main, args.pull or 1.0
    return lambda eps_model: colour.coloured(eps_model, *wanted)
