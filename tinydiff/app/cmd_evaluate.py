"""The command `evaluate`: one table that judges a model, and a picture of quality against cost."""

import json
import sys
from dataclasses import replace

import numpy as np

from .. import plot
from ..design.pipeline import Pipeline, evaluations
from ..measure import classifier, evaluate, pretext
from ..streams import Streams
from . import judges, own, together
from .progress import Bar
from .usage import UsageError, dataset_named, require_figures, require_like, require_picture

PAIRS, COLUMNS = 24, 8  # drawings shown beside the nearest training picture


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def cmd_evaluate(args):
    """Run `evaluate`: args from the parser -> None; prints the table, writes a picture"""
    pipe = Pipeline.load(args.model)
    ways, team = _ways(args, pipe), together.team()
    require_picture(args.out)
    require_figures()
    dataset, about = _dataset(args, pipe)
    n = min(args.n or (2048 if about is None else 512), len(dataset.train) // 2)
    drawn = evaluate.count_drawn(n)
    together.require_enough(min(drawn, evaluate.STABLE), "--n")
    to = sys.stderr if args.json else sys.stdout
    judge, its = _judge(args, pipe, dataset, about, team, to)
    measured, figure, shown = _measured(args, pipe, ways, judge, dataset, n, team)
    if team.rank:
        return
    found = {
        "model": args.model,
        "n": n,
        "drawn": drawn,
        "guidance": args.guidance,
        "seed": args.seed,
        "judge": its["held_out"],
        **({"features": pretext.in_words(its, len(dataset.train))} if about else {}),
        **measured,
    }
    print(json.dumps(found, indent=2) if args.json else evaluate.report(found))
    print(f"{plot.save_figure(figure, args.out)}: {shown}", file=to)


def _measured(args, pipe, ways, judge, dataset, n, team):
    """Draw and measure, with a bar -> dict, Figure (None but for the first of a team), its title"""
    w, drawn = args.guidance, evaluate.count_drawn(n)
    main = next((way for way in ways if way[:2] == ("ddim", 50)), ways[-1])
    seeds, trips = [args.seed + i for i in (1, 2, 3)], len(evaluate.trips(dataset)[0])
    work = evaluate.work(pipe, drawn // team.size, ways, main, w, seeds, trips)
    if pipe.pictures:
        work += min(PAIRS, drawn) * evaluations(pipe.s, *ways[-1][:2], w)
    with Bar(work, f"evaluating on {dataset.name}") as bar:
        pipe = replace(pipe, tick=bar.tick)
        rng, variants = np.random.default_rng(args.seed), (pipe.flip, pipe.shift)
        yardstick = evaluate.Yardstick(judge, dataset, n, rng, *variants)
        rows = list(evaluate.rows(pipe, yardstick, ways, w, args.seed, team))
        stable = evaluate.stability(pipe, yardstick, main, w, seeds, team)
        if team.rank:
            figure, shown = None, ""
        elif pipe.pictures:
            figure, shown = _pairs(pipe, yardstick, ways[-1], w, args.seed)
        else:
            figure = evaluate.quality(rows, yardstick.floor["frechet"])
            shown = "quality against network evaluations"
    cost = {
        "multiply_adds": evaluate.multiply_adds(pipe.model, yardstick.labels[:1]),
        "peak_memory": evaluate.peak_memory(),
    }
    stable = dict(zip(("sampler", "steps", "times"), main, strict=True)) | stable
    measured = {"real": yardstick.floor, "samplers": rows, "cost": cost, "stability": stable}
    return measured, figure, shown


def _ways(args, pipe):
    """Read what is to be compared, and refuse what cannot be -> [(sampler, steps, times), ...]"""
    if pipe.paired:
        how = "python tests/bench/styles.py measures that"
        raise UsageError(f"{args.model} redraws or completes what it is shown: {how}")
    if args.pictures and not pipe.pictures:
        raise UsageError(f"--pictures is for models of your own pictures; {args.model} is none")
    usual = evaluate.OWN if pipe.pictures else evaluate.SAMPLERS
    try:
        return [evaluate.parse(spec, pipe.s) for spec in args.samplers or usual]
    except ValueError as e:
        raise UsageError(str(e)) from None


def _dataset(args, pipe):
    """Find what a model should draw like -> Dataset, what is known of own pictures, or None"""
    if pipe.pictures:
        dataset, about = own.of_model(args.model, pipe, args.pictures)
    else:
        dataset, about = dataset_named(pipe.dataset), None
    require_like(args.model, pipe, dataset)
    if list(pipe.labels.items()) != list(dataset.labels.items()):
        raise UsageError(f"{args.model} has other labels than the images of {dataset.name}")
    return dataset, about


def _judge(args, pipe, dataset, about, team, to):
    """Find, or train, who judges; lines about it go to a stream -> Classifier, meta"""
    if about is None:
        return classifier.load(pipe.dataset)
    say = lambda line: None if team.rank else print(line, file=to)
    return judges.of(args.model, dataset, about, say, keep=not team.rank)


def _pairs(pipe, yardstick, way, w, seed):
    """Draw some of what was measured, each above the nearest training picture -> Figure, title"""
    i = np.unique(np.arange(PAIRS) * len(yardstick.labels) // PAIRS)
    drawn = pipe.draw(yardstick.labels[i], Streams(seed, i), *way, w)[-1]
    nearest = yardstick.dataset.train[yardstick.known.nearest(drawn)[1]]
    rows = [x[k : k + COLUMNS] for k in range(0, len(i), COLUMNS) for x in (drawn, nearest)]
    scale = max(1, 64 // pipe.model.size)
    names = ["drawn", "nearest of yours"] * (len(rows) // 2)
    how = evaluate.title(dict(zip(("sampler", "steps", "times"), way, strict=True)))
    shown = f"drawn with {how}, and below each the nearest of your pictures"
    return plot.labelled(np.concatenate(rows), COLUMNS, names, scale=scale), shown
