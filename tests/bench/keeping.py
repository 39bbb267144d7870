"""Measure what `restyle --keep` and `--fill` hold, and what they cost in style.

    python tests/bench/keeping.py [--n 60] [--seed 0]

Unseen emoji in four directions, 15 steps, w = 1.5: overlap of the silhouettes with the source's,
distance of the blurred colours (kept.colour_distance), the share that the classifier reads as the
style asked for, and the error. Sketches (line) also filled with their flat picture's mean colour:
then "empty" is the share of sketches that stay empty inside, as `restyle` counts them.
"""

import argparse

import numpy as np

from tinydiff import data
from tinydiff.design import kept, restore
from tinydiff.design.paired import DIRECTIONS
from tinydiff.design.pipeline import Pipeline
from tinydiff.measure import classifier, metrics

KEEP = (None, 0.5, 1.0, 3.0)


def draw(pipe, source, style, keep, cov, seed):
    """Redraw sources (N, H, W, C) in the style of a number -> (N, H, W, C)"""
    labels = np.full((len(source), 1), style)
    also = (lambda eps_model: kept.keeping(eps_model, pipe.s, source, cov, keep)) if keep else None
    rng, how = np.random.default_rng(seed), {"w": 1.5, "source": source, "also": also}
    return pipe.draw(labels, rng, "dpmpp_2m", 15, **how)[-1]


def empty(source, drawn):
    """Measure the share of sketches that stay empty inside -> text"""
    inside, sketch = kept.enclosed(source), kept.is_sketch(source)
    ink = ((drawn.min(-1) < kept.PAPER) & inside).sum((1, 2))
    return f"{np.mean((ink < inside.sum((1, 2)) / 2)[sketch]):.0%} of {sketch.sum()}"


def main():
    """Read the command line, draw, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=60, help="subjects (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (default: 0)")
    args = parser.parse_args()
    pipe, emoji, (judge, _) = (
        Pipeline.load("emoji"),
        data.load_styles("emoji"),
        classifier.load("emoji"),
    )
    train, test = emoji.images[~emoji.test], emoji.images[emoji.test][: args.n]
    cov = restore.covariance(train.reshape(-1, *train.shape[2:]))
    print("| direction | --keep | overlap | colour | style | error | empty |\n|" + " --- |" * 7)
    for of, to in DIRECTIONS:
        source, truth = (test[:, emoji.styles.index(name)] for name in (of, to))
        style, ways = emoji.styles.index(to), [(source, keep, "") for keep in KEEP]
        if of == "line":
            colour = np.where(truth.min(-1, keepdims=True) < kept.PAPER, truth, np.nan)
            colour = np.nanmean(colour, (1, 2), keepdims=True)
            ways += [(kept.filled(source, colour), keep, ", filled") for keep in (None, 1.0)]
        for shown, keep, how in ways:
            x = draw(pipe, shown, style, keep, cov, args.seed)
            read = classifier.accuracy(judge, x, np.full((len(x), 1), style))[0]
            numbers = f"{metrics.silhouette_overlap(shown, x):.2f} | "
            numbers += f"{kept.colour_distance(shown, x).mean():.3f} | {read:.0%} | "
            numbers += f"{metrics.rmse(x, truth):.3f} | {empty(source, x) if of == 'line' else ''}"
            print(f"| {of} to {to}{how} | {keep or 'none'} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
