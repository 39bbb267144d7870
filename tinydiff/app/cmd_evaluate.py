"""The command `evaluate`: one table that judges a model, and a picture of quality against cost."""

import json
import sys
from dataclasses import replace

import numpy as np

from .. import plot
from ..design.pipeline import Pipeline
from ..measure import classifier, evaluate
from . import together
from .progress import Bar
from .usage import UsageError, dataset_named, require_figures, require_like, require_picture


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def cmd_evaluate(args):
    """Run `evaluate`: args from the parser -> None; prints the table, writes a picture"""
    pipe = Pipeline.load(args.model)
    if pipe.paired:
        how = "python tests/bench/styles.py measures that"
        raise UsageError(f"{args.model} redraws or completes what it is shown: {how}")
    try:
        ways = [evaluate.parse(spec, pipe.s) for spec in args.samplers or evaluate.SAMPLERS]
    except ValueError as e:
        raise UsageError(str(e)) from None
    if pipe.pictures:
        why = "has no judge: no classifier comes with tinydiff for your own pictures"
        raise UsageError(f"{args.model} {why}; look at what `sample` draws")
    dataset, (judge, its) = dataset_named(pipe.dataset), classifier.load(pipe.dataset)
    require_like(args.model, pipe, dataset)
    if list(pipe.labels.items()) != list(dataset.labels.items()):
        raise UsageError(f"{args.model} has other labels than the images of {dataset.name}")
    require_picture(args.out)
    require_figures()
    n, w = min(args.n, len(dataset.train) // 2), args.guidance
    main = next((way for way in ways if way[:2] == ("ddim", 50)), ways[-1])
    seeds = [args.seed + i for i in (1, 2, 3)]
    team = together.team()
    together.require_enough(min(n, evaluate.STABLE), "--n")
    work = evaluate.work(pipe.s, n // team.size, ways, main, w, seeds)
    with Bar(work, f"evaluating on {dataset.name}") as bar:
        pipe = replace(pipe, tick=bar.tick)
        yardstick = evaluate.Yardstick(judge, dataset, n, np.random.default_rng(args.seed))
        rows = list(evaluate.rows(pipe, yardstick, ways, w, args.seed, team))
        stable = evaluate.stability(pipe, yardstick, main, w, seeds, team)
    if team.rank:
        return
    found = {
        "model": args.model,
        "n": n,
        "guidance": w,
        "seed": args.seed,
        "judge": its["held_out"],
        "real": yardstick.floor,
        "samplers": rows,
        "cost": {
            "multiply_adds": evaluate.multiply_adds(pipe.model, yardstick.labels[:1]),
            "peak_memory": evaluate.peak_memory(),
        },
        "stability": dict(zip(("sampler", "steps", "times"), main, strict=True)) | stable,
    }
    print(json.dumps(found, indent=2) if args.json else evaluate.report(found))
    picture = plot.save_figure(evaluate.quality(rows, yardstick.floor["frechet"]), args.out)
    to = sys.stderr if args.json else sys.stdout
    print(f"{picture}: quality against network evaluations", file=to)
