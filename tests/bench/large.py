"""Measure large textures: do windows of them show the motif that was asked for?

    python tests/bench/large.py [--model patterns32] [--side 128] [--guidance 2] [--seed 0]

Two textures of each kind, read by the classifier in 1024 windows of the model's own size: the
network asked for all of it at once, one tile repeated, and large.spread of it, which also says how
alike the repeats are (1: the same). Seconds are CPU seconds for each.
"""

import argparse
import time

import numpy as np

from tinydiff import data
from tinydiff.design import edit, large
from tinydiff.design.pipeline import Pipeline
from tinydiff.measure import classifier, evaluate, metrics

WINDOWS = 1024  # that are read
STEPS = 16


def windows(x, size):
    """Cut windows out of (N, H, W, C) images at random, as many of each -> (M, size, size, C)"""
    rng, each = np.random.default_rng(1), WINDOWS // len(x)
    corners = rng.integers(0, np.array(x.shape[1:3]) - size + 1, (len(x), each, 2))
    return np.concatenate(
        [[im[i : i + size, j : j + size] for i, j in c] for im, c in zip(x, corners, strict=True)]
    )


def alike(x, period):
    """Correlate images with themselves, moved by a period across -> float"""
    x = x - x.mean((1, 2), keepdims=True)
    return float((x * np.roll(x, period, 2)).mean() / (x * x).mean())


def whole(pipe, labels, side, w, rng):
    """Draw by asking the network for all of it at once -> (N, side, side, C)"""
    eps_model = pipe.eps_model(labels, w)
    *_, x = edit.tile(
        eps_model, pipe.s, (len(labels), side, side, 3), rng, pipe.grid(STEPS), clip=1
    )
    return x


def main():
    """Read the command line, draw, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", default="patterns32", help="patterns or patterns32 (default: patterns32)")
    add("--side", type=int, default=128, help="pixels per side (default: 128)")
    add("--guidance", type=float, default=2.0, help="strength of guidance (default: 2)")
    add("--seed", type=int, default=0, help="seed of the noise (default: 0)")
    args = parser.parse_args()
    pipe, w, side = Pipeline.load(args.model), args.guidance, args.side
    (model, _), patterns, own = classifier.load(args.model), data.load(args.model), pipe.model.size
    order = np.random.default_rng(0).permutation(len(patterns.train))[:2048]
    real = evaluate.features(model, patterns.train[order])
    unit = np.sqrt(real.var(0).mean())
    labels = np.concatenate(
        [np.stack([np.arange(10), (np.arange(10) * k + k) % 12], 1) for k in (5, 7)]
    )

    def row(name, draw, note=lambda x: ""):
        began = time.process_time()
        x = draw(np.random.default_rng(args.seed))
        seconds, seen = (time.process_time() - began) / len(labels), windows(x, own)
        kind, palette = classifier.accuracy(model, seen, labels.repeat(len(seen) // len(labels), 0))
        far = metrics.frechet(real / unit, evaluate.features(model, seen) / unit)
        print(f"| {name} | {kind:.1%} | {palette:.1%} | {far:.1f} | {seconds:.2f} | {note(x)} |")

    print(f"| {args.model}, {side} x {side}, w = {w:g} | kind | palette | Fréchet | s | repeats |")
    print("| --- | --- | --- | --- | --- | --- |")
    once = pipe.tile(labels, np.random.default_rng(args.seed), STEPS, w=w, whole=False)[-1]
    repeats = -(-side // own)
    row("all at once", lambda rng: whole(pipe, labels, side, w, rng))
    row("one tile, repeated", lambda rng: np.tile(once, (1, repeats, repeats, 1)), lambda x: "1")
    again = lambda rng: pipe.tile(labels, rng, STEPS, w=w, size=(side, side), whole=False)[-1]
    period = large.period(side, own, pipe.model.divisor)
    row("repeated and drawn anew", again, lambda x: f"{alike(x, period):.2f}")


if __name__ == "__main__":
    main()
