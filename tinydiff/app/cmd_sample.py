"""The command `sample`: draw with a trained model."""

import sys
from pathlib import Path

import numpy as np

from .. import plot
from ..collect.source import number
from ..design import colour, edit
from ..design.pipeline import Pipeline, evaluations
from . import clear, colours, drawing, keeping, known, picked, reached, results, sizes, together
from .cli import STEPS, USUAL
from .usage import UsageError, require_output

LIKE = 0.4  # of T: how much of the picture of --like is drawn anew


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def cmd_sample(args):
    """Run `sample`: args from the parser -> None; writes a picture of args.n images"""
    pipe = Pipeline.load(args.model)
    size = sizes.size_of(args, pipe)
    sizes.if_large(args, size)
    _require_fitting(args)
    way = _sampler(args, pipe)
    rows = [drawing.labels_of(pipe, words) for words in (args.label, args.avoid)]
    asked = reached.Asked(pipe.labels, *rows)
    read = reached.reader(args, pipe, asked, size)
    where = picked.places(args.seed, args.picks, args.n or (8 if args.like else 64), args.tries)
    also, key = _colours(args, pipe), clear.require(args, pipe)
    palette = colours.given(args, pipe.model.out)
    names = [f"{Path(args.model).stem}_{seed}-{k:03}" for seed, k in where[:: args.tries]]
    results.require(args, names, *picked.files(args.like), *_read(args))
    beside = _beside(args, pipe, size)
    kept, animated = pipe.s.T if way[0] == "ddpm" else way[1], bool(results.animations(args))
    needed = drawing.require_room(pipe, len(where), kept, size, animated)
    like = _like(args, pipe) if args.like else keeping.source_of(args, pipe)
    labels, avoid = (np.tile(row, (len(where), 1)) for row in rows)
    if not args.label and len(pipe.labels) == 1:
        labels = _in_turn(args, pipe, len(names)).repeat(args.tries)[:, None]
    together.require_enough(len(where), "--n")
    if sizes.is_large(size):
        work = len(where) * _evaluations(args, pipe, way, size) * colours.passes(args)
        sizes.say_large(pipe, size, work, needed)
    how = way, size, also, like
    chain, palette, redrawn = _drawn(args, pipe, palette, where, labels, avoid, *how)
    if together.team().rank:
        return
    drawing.require_finite(args.model, chain[-1])
    for line in redrawn:
        print(line)
    advice = ["more --strength"] if args.like else []
    best, told = reached.kept(args, read, asked, chain[-1], names, advice)
    says = [
        _says(args, pipe, where[i], labels[i]) | more for i, more in zip(best, told, strict=True)
    ]
    columns = min(len(names), max(1, 16 * pipe.model.size // size[1]))
    drawn = chain[-1][best], names, says, number(len(names), "image"), columns
    result = results.Result(*drawn, chain=[x[best] for x in chain], palette=palette)
    results.write(args, clear.cleared(args, pipe, result, key))
    if beside:
        _write_wall(result.images, beside)


def _read(args):
    """Name the files that are read, and must not be replaced -> list"""
    return [*filter(None, [args.source]), *colours.files(args)]


def _in_turn(args, pipe, n):
    """Choose the values of the only label, each as often: -> (n,) ints

    Of a picture that is drawn alone, as 7:3, the one that it has among 64, which is the usual n.
    """
    numbers = [number for _, number in args.picks or []]
    if any(numbers):
        return np.array([k % 64 for k in numbers]) * pipe.model.classes[0] // 64
    return np.arange(n) * pipe.model.classes[0] // n


def _says(args, pipe, place, row):
    """Say what is known of a picture: its seed, from several tries, or seeds, with its number."""
    seed, number = place
    alone = args.tries > 1 or args.picks
    return {"seed": f"{seed}:{number}" if alone else f"{seed}", "labels": drawing.said(pipe, row)}


def _beside(args, pipe, size):
    """Name the picture that shows tiles repeated, None where there is none -> Path or None"""
    beside = None
    whole = args.only is None and not results.into_folder(args)
    if args.tile and whole and not sizes.is_large(size):
        beside = args.out.with_stem(f"{args.out.stem}_3x3")
        require_output(beside)
    if args.tile and pipe.dataset in sizes.NOT_TEXTURES:
        why = "what has its place in a picture fades in a tile"
        print(f"tiles suit textures such as patterns: of {pipe.dataset}, {why}", file=sys.stderr)
    return beside


def _write_wall(tiles, path):
    again = np.tile(tiles[:4], (1, 3, 3, 1))
    repeated = plot.save_png(plot.sheet(again, len(again), gap=4, scale=4), path)
    print(f"{repeated}: the first {len(again)}, each repeated 3 x 3")


def _like(args, pipe):
    """Read the picture of --like -> (1, H, W, C), None without it"""
    if not args.like:
        return None
    x, said = picked.opened(args.like, pipe)
    print(said)
    known.warn(args.model, pipe, x, [args.like])
    return x


def _evaluations(args, pipe, way, size):
    """Count how often the network is evaluated for one picture -> int"""
    if args.like:
        below = pipe.steps_below(args.strength or LIKE, *way[1:])
        return below * (1 if args.guidance == 1 else 2)
    once = evaluations(pipe.s, *way[:2], args.guidance)
    return sizes.evaluations_of(pipe, size, *way[1:], once) if sizes.is_large(size) else once


def _drawn(args, pipe, palette, where, labels, avoid, way, size, also, like):
    """Draw all pictures, each process a part of them -> what colours.draw gives

    where: of each its seed and number; of those that are drawn anew it is changed
    """
    team = together.team()
    mine = team.part(len(where))
    work = len(where[mine]) * _evaluations(args, pipe, way, size) * colours.passes(args)
    bar, pipe = drawing.with_bar(pipe, work)

    def draw(exact, places, rows):
        how = way, size, _both(also, exact), like
        return _in_pieces(args, pipe, places, labels[rows], avoid[rows], *how)

    def again(lost, attempt, exact):
        for i in lost:
            where[i] = where[i][0], where[i][1] + picked.FURTHER * args.tries
        return draw(exact, [where[i] for i in lost], lost)

    with bar:
        ours = lambda exact: [team.gather(x) for x in draw(exact, where[mine], mine)]
        return colours.draw(args, pipe, palette, ours, again)


def _in_pieces(args, pipe, where, labels, avoid, way, size, also, like):
    """Draw pictures, some at a time, those of one seed together.

    where: of each its seed and number, see picked.places; labels, avoid: of each a row; way:
    sampler, steps, times; like: (1, H, W, C), what is redrawn, or the source, or None
    -> list of (N, H, W, C), x_T .. x_0 where an animation is asked for, else x_0 alone
    """
    chains, order = [], []
    for seed, rows in picked.by_seed(where):

        def draw(numbers, rng, rows=rows):
            at = [rows[k] for k in numbers]
            each = labels[at], avoid[at]
            return _chain(args, pipe, *each, rng, way, size, also, like)

        chains.append(pipe.in_pieces(draw, list(rows), seed, size))
        order += rows.values()
    return [np.concatenate(x)[np.argsort(order)] for x in zip(*chains, strict=True)]


def _chain(args, pipe, labels, avoid, rng, way, size, also, like):
    """Draw an image for each row of labels -> see _in_pieces"""
    w, whole = args.guidance, bool(results.animations(args))
    x0 = None if like is None else np.repeat(like, len(labels), axis=0)
    if args.tile:
        return pipe.tile(labels, rng, *way[1:], w, avoid, size, also, whole)
    if not args.like:
        how = {"source": x0, "size": size, "also": also, "whole": whole}
        avoid = None if args.source and not args.avoid else avoid  # see Pipeline.eps_model
        return pipe.draw(labels, rng, *way, w, avoid, **how)
    eps_model = pipe.eps_model(labels, w, avoid)
    eps_model, times = also(eps_model) if also else eps_model, pipe.grid(*way[1:])
    strength = args.strength or LIKE
    chain = edit.image_to_image(eps_model, pipe.s, x0, strength, rng, times, clip=1.0)
    chain = [np.asarray(x) for x in chain]
    return chain if whole else chain[-1:]


def _sampler(args, pipe):
    """Choose sampler, steps and times: what is asked for, else what is usual; steps 1 .. T"""
    kind = " --tile" if args.tile else " --palette" if args.palette or args.main_colour else ""
    kind = "edit --strength" if args.like else f"sample{kind}"
    usual = (args.sampler, STEPS, "even") if args.sampler else USUAL[kind]
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
    if args.like and args.source:
        raise UsageError("--source is redrawn in a style, --like as it is: leave out one of them")
    if args.source and args.tile:
        raise UsageError("--source is a subject, and --tile is for textures: leave out one of them")
    if args.like and (args.tile or args.size or args.sampler):
        what = "--like redraws a picture of the model's own size with ddim"
        raise UsageError(f"{what}: leave out --tile, --size and --sampler")
    if args.strength and not args.like:
        raise UsageError("--strength is for --like: how much of that picture is drawn anew")
    if args.picks and args.n:
        why = "several seeds, or SEED:PICTURE, draw one picture each"
        raise UsageError(f"{why}: leave out --n")
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


def _both(first, then):
    """Join two functions from eps_model to eps_model, or None: first the one, then the other."""
    if first and then:
        return lambda eps_model: then(first(eps_model))
    return first or then
