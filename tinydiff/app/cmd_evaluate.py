"""The command `evaluate`: one table that judges a model, and a picture of quality against cost."""

import json
import sys
from dataclasses import replace

import numpy as np

from .. import plot
from ..design.pipeline import Pipeline, evaluations
from ..measure import classifier, evaluate, metrics, pretext
from ..streams import Streams
from . import judges, own, together
from .progress import Bar
from .usage import UsageError, dataset_named, require_figures, require_like, require_picture

PAIRS, COLUMNS = 24, 8  # drawings shown beside the nearest training picture


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def cmd_evaluate(args):
    """Run `evaluate`: args from the parser -> None; prints the table, writes a picture"""
    pipe = Pipeline.load(args.model)
    if pipe.paired:
        how = "python tests/bench/styles.py measures that"
        raise UsageError(f"{args.model} redraws or completes what it is shown: {how}")
    usual = evaluate.OWN if pipe.pictures else evaluate.SAMPLERS
    try:
        ways = [evaluate.parse(spec, pipe.s) for spec in args.samplers or usual]
    except ValueError as e:
        raise UsageError(str(e)) from None
    require_picture(args.out)
    require_figures()
    if args.pictures and not pipe.pictures:
        raise UsageError(f"--pictures is for models of your own pictures; {args.model} is none")
    team = together.team()
    to = sys.stderr if args.json else sys.stdout
    dataset, judge, its = _judged(args, pipe, team, to)
    n, w = min(args.n or (512 if pipe.pictures else 2048), len(dataset.train) // 2), args.guidance
    main = next((way for way in ways if way[:2] == ("ddim", 50)), ways[-1])
    seeds = [args.seed + i for i in (1, 2, 3)]
    yardstick = evaluate.Yardstick(judge, dataset, n, np.random.default_rng(args.seed))
    drawn = len(yardstick.labels)
    together.require_enough(min(drawn, evaluate.STABLE), "--n")
    trips = len(evaluate.trips(dataset)[0])
    work = evaluate.work(pipe.s, drawn // team.size, ways, main, w, seeds, trips)
    work += min(PAIRS, drawn) * evaluations(pipe.s, *ways[-1][:2], w) * bool(pipe.pictures)
    with Bar(work, f"evaluating on {dataset.name}") as bar:
        pipe = replace(pipe, tick=bar.tick)
        rows = list(evaluate.rows(pipe, yardstick, ways, w, args.seed, team))
        stable = evaluate.stability(pipe, yardstick, main, w, seeds, team)
        pairs = pipe.pictures and not team.rank and _pairs(pipe, yardstick, ways[-1], w, args.seed)
    if team.rank:
        return
    found = {
        "model": args.model,
        "n": n,
        "drawn": drawn,
        "guidance": w,
        "seed": args.seed,
        "judge": its["held_out"],
        **({"features": pretext.told(its, len(dataset.train))} if pipe.pictures else {}),
        "real": yardstick.floor,
        "samplers": rows,
        "cost": {
            "multiply_adds": evaluate.multiply_adds(pipe.model, yardstick.labels[:1]),
            "peak_memory": evaluate.peak_memory(),
        },
        "stability": dict(zip(("sampler", "steps", "times"), main, strict=True)) | stable,
    }
    print(json.dumps(found, indent=2) if args.json else evaluate.report(found))
    if pipe.pictures:
        what = f"drawn with {evaluate.title(rows[-1])}, and below each the nearest of your pictures"
        print(f"{plot.save_figure(pairs, args.out)}: {what}", file=to)
    else:
        picture = plot.save_figure(evaluate.quality(rows, yardstick.floor["frechet"]), args.out)
        print(f"{picture}: quality against network evaluations", file=to)


def _judged(args, pipe, team, to):
    """Find what a model should draw like, and who judges -> Dataset, Classifier, meta"""
    if pipe.pictures:
        dataset, about = own.of_model(args.model, pipe, args.pictures)
    else:
        dataset = dataset_named(pipe.dataset)
    require_like(args.model, pipe, dataset)
    if list(pipe.labels.items()) != list(dataset.labels.items()):
        raise UsageError(f"{args.model} has other labels than the images of {dataset.name}")
    if not pipe.pictures:
        return dataset, *classifier.load(pipe.dataset)
    say = lambda line: None if team.rank else print(line, file=to)
    return dataset, *judges.of(args.model, dataset, about, say, keep=not team.rank)


def _pairs(pipe, yardstick, way, w, seed):
    """Draw some of what was measured, each above the nearest training picture -> Figure"""
    i = np.unique(np.arange(PAIRS) * len(yardstick.labels) // PAIRS)
    drawn = pipe.draw(yardstick.labels[i], Streams(seed, i), *way, w)[-1]
    nearest = yardstick.dataset.train[metrics.nearest(drawn, yardstick.dataset.train)[1]]
    rows = [x[k : k + COLUMNS] for k in range(0, len(i), COLUMNS) for x in (drawn, nearest)]
    scale = max(1, 64 // pipe.model.size)
    names = ["drawn", "nearest of yours"] * (len(rows) // 2)
    return plot.labelled(np.concatenate(rows), COLUMNS, names, scale=scale)
