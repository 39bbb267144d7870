"""The command `sample`: draw with a trained model."""

import sys
from pathlib import Path

import numpy as np

from .. import plot
from ..collect.source import number
from ..design import colour
from ..design.pipeline import Pipeline, evaluations
from . import clear, drawing, results, together
from .cli import STEPS, USUAL
from .usage import UsageError, require_output

LARGEST = 320 * 320  # pixels: more take seconds per step, which nothing can interrupt
NOT_TEXTURES = ("digits", "fashion", "portraits")  # what they show has its place in the picture


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def cmd_sample(args):
    """Run `sample`: args from the parser -> None; writes a picture of args.n images"""
    pipe = Pipeline.load(args.model)
    _require_fitting(args)
    (sampler, steps, times), size = _sampler(args, pipe), _size(args, pipe)
    rows = (drawing.labels_of(pipe, words) for words in (args.label, args.avoid))
    labels, avoid = (np.tile(row, (args.n, 1)) for row in rows)
    also, key = _colours(args, pipe), clear.require(args, pipe)
    names = [f"{Path(args.model).stem}_{args.seed}-{k:03}" for k in range(args.n)]
    results.require(args, names)
    beside = None
    if args.tile and not results.into_folder(args):
        beside = args.out.with_stem(f"{args.out.stem}_3x3")
        require_output(beside)
    kept, animated = pipe.s.T if sampler == "ddpm" else steps, bool(results.animations(args))
    drawing.require_room(pipe, args.n, kept, size, animated)
    if args.tile and pipe.dataset in NOT_TEXTURES:
        why = "what has its place in a picture fades in a tile"
        print(f"tiles suit textures such as patterns: of {pipe.dataset}, {why}", file=sys.stderr)
    if not args.label and len(pipe.labels) == 1:
        labels = np.arange(args.n)[:, None] * pipe.model.classes[0] // args.n
    team = together.team()
    together.require_enough(args.n, "--n")
    mine = range(args.n)[team.part(args.n)]
    bar, pipe = drawing.with_bar(
        pipe, len(mine) * evaluations(pipe.s, sampler, steps, args.guidance)
    )
    with bar:
        how = (sampler, steps, times), size, also
        chain = [team.gather(x) for x in _in_pieces(args, pipe, mine, labels, avoid, *how)]
    if team.rank:
        return
    drawing.require_finite(args.model, chain[-1])
    says = [{"seed": f"{args.seed}", "labels": drawing.said(pipe, row)} for row in labels]
    columns = min(args.n, max(1, 16 * pipe.model.size // size[1]))
    drawn = chain[-1], names, says, number(args.n, "image"), columns
    results.write(args, clear.cleared(args, pipe, results.Result(*drawn, chain=chain), key))
    if beside:
        again = np.tile(chain[-1][:4], (1, 3, 3, 1))
        wall = plot.sheet(again, len(again), gap=4, scale=4)
        repeated = plot.save_png(wall, beside)
        print(f"{repeated}: the first {len(again)}, each repeated 3 x 3")


def _in_pieces(args, pipe, pictures, labels, avoid, way, size, also):
    """Draw pictures, some at a time.

    pictures: which of the rows of labels and avoid; way: sampler, steps, times
    -> list of (N, H, W, C), x_T .. x_0 where an animation is asked for, else x_0 alone
    """

    def draw(rows, rng):
        wished, without, w = labels[rows], avoid[rows], args.guidance
        if args.tile:
            chain = pipe.tile(wished, rng, *way[1:], w, without, size)
        else:
            chain = pipe.draw(wished, rng, *way, w, without, size=size, also=also)
        return chain if results.animations(args) else chain[-1:]

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
        raise UsageError(f"--tile draws with ddim, not with {args.sampler}: leave out --sampler")
    if (args.gif or args.apng) and args.out.suffix in (".gif", ".apng"):
        give = f"give --out {args.out.with_suffix('.png')}"
        raise UsageError(f"--gif and --apng write the chain beside the picture: {give}")
    if args.pull and not (args.palette or args.main_colour):
        raise UsageError("--pull is for --palette or --main-colour: name a colour")


def _size(args, pipe):
    """Check --size -> (H, W), the model's own without it"""
    own, unit = pipe.model.size, pipe.model.divisor
    size = args.size or (own, own)
    if min(size) < own or any(side % unit for side in size):
        takes = f"sides of at least {own}, as the model was trained with, divisible by {unit}"
        raise UsageError(f"--size takes {takes}; got {size[0]}x{size[1]}")
    if size[0] * size[1] > LARGEST:
        takes = f"at most {LARGEST} pixels: attention looks at all pairs of places"
        raise UsageError(f"--size takes {takes}; got {size[0]}x{size[1]}")
    return size


def _colours(args, pipe):
    """Read --palette, --main-colour and --pull -> further guidance for Pipeline.draw, or None"""
    if not (args.palette or args.main_colour):
        return None
    try:
        palette = [colour.parse(text) for text in args.palette or []] or None
        main = colour.parse(args.main_colour) if args.main_colour else None
    except ValueError as e:
        raise UsageError(str(e)) from None
    own = "--palette and --main-colour draw single pictures of the model's own size"
    if args.tile or args.size:
        raise UsageError(f"{own}: leave out --tile and --size")
    if pipe.model.out != 3:
        suited = "--palette and --main-colour are for models of colour pictures"
        raise UsageError(f"{args.model} draws in grey: {suited}")
    cov = drawing.covariance(args, pipe) if args.main_colour else drawing.variance(args, pipe)
    wanted = pipe.s, cov, pipe.model.size, palette, main, args.pull or 1.0
    return lambda eps_model: colour.coloured(eps_model, *wanted)
