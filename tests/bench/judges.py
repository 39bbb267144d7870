"""Whose features serve where nothing is labelled? A set's labels are hidden, its pictures damaged.

    python tests/bench/judges.py [digits fashion portraits] [--steps 300]

Each row is a network that learned something of 3,000 pictures at most: all labels, how a picture
was turned, its group, turn and group (measure/pretext.py), or nothing. Each column is a kind of
damage, and holds the Fréchet distance of damaged pictures from others in units of the distance of
whole ones (the floor). The last column is the rank correlation, over all columns, with the first
row: would the same damage be called worse?
"""

import argparse
from dataclasses import replace

import numpy as np

from tinydiff import data
from tinydiff.measure import classifier, evaluate, metrics, pretext

N = 600  # pictures in each set that is compared


def blurred(x, width):
    """Average with a Gaussian over so many pixels. (N, H, W, C) -> the same"""
    weights = np.exp(-(np.arange(-3, 4) ** 2) / (2 * width**2))
    for axis in (1, 2):
        margin = [(3, 3) if k == axis else (0, 0) for k in range(4)]
        wide, side = np.pad(x, margin, mode="edge"), range(x.shape[axis])
        moved = [np.take(wide, [k + i for k in side], axis) for i in range(7)]
        x = sum(w * y for w, y in zip(weights / weights.sum(), moved, strict=True))
    return x.astype(np.float32)


def patched(x, rng):
    """Put a square of another picture into each, half as wide as it is. (N, H, W, C) -> the same"""
    out, others, side = x.copy(), np.roll(x, 1, axis=0), x.shape[1] // 2
    for a, b, (i, j) in zip(out, others, rng.integers(side + 1, size=(len(x), 2)), strict=True):
        a[i : i + side, j : j + side] = b[i : i + side, j : j + side]
    return out


def damaged(x, kind, rng):
    """Damage pictures in many ways; kind: (N,) ints -> {name: (N, H, W, C)}"""
    noise = lambda sigma: (x + rng.normal(0, sigma, x.shape)).clip(-1, 1).astype(np.float32)
    few = lambda rows: x[np.resize(rows, len(x))]
    values = np.unique(kind)
    return {
        **{f"noise {sigma}": noise(sigma) for sigma in (0.07, 0.15, 0.3)},
        **{f"blur {width}": blurred(x, width) for width in (0.4, 0.6, 1.0)},
        "one missing": few(np.flatnonzero(kind != values[0])),
        "few missing": few(np.flatnonzero(~np.isin(kind, values[:3]))),
        **{f"{count} copied": few(np.arange(count)) for count in (100, 20)},
        "patched": patched(x, rng),
        "pale": (0.8 * x).astype(np.float32),
        "two mixed": (0.7 * x + 0.3 * x[rng.permutation(len(x))]).astype(np.float32),
        "mirrored": x[:, :, ::-1],
    }


def judges(dataset, steps):
    """Train the networks that are compared -> yields name, Classifier"""
    images, labels, rng = dataset.train, dataset.train_labels, np.random.default_rng(0)
    group, count = pretext.groups(images, rng)

    def turned(rng):
        i, turn = rng.integers(len(images), size=64), rng.integers(8, size=64)
        return pretext.turned(images[i], turn), turn[:, None]

    weights, meta = classifier.learn(dataset, steps, 0)
    yield "labels", classifier.unpacked(weights, meta)
    yield "turn", classifier.fit_batches(turned, images.shape, (8,), rng, steps)
    yield "group", classifier.fit(images, group[:, None], (count,), rng, steps)
    hidden = replace(dataset, labels={}, train_labels=labels[:, :0])
    hidden.test_labels = dataset.test_labels[:, :0]
    yield "turn, group", classifier.unpacked(*pretext.learn(hidden, steps, 0))
    yield "nothing", classifier.Classifier(images.shape[1], images.shape[3], (1,), rng=rng)


def compare(name, steps):
    """Print the table of one data set -> None"""
    dataset, rng = data.load(name), np.random.default_rng(5)
    real, other = rng.permutation(len(dataset.train))[: 2 * N].reshape(2, N)
    x, kind = dataset.train[other], dataset.train_labels[other, 0]
    sets, first = {"floor": x} | damaged(x, kind, rng), None
    print(f"\n{name:12}", *(f"{column:>11}" for column in sets), "   rank")
    real = dataset.train[real]
    dataset = replace(dataset, train=dataset.train[:3000], train_labels=dataset.train_labels[:3000])
    for learned, judge in judges(dataset, steps):
        seen = evaluate.features(judge, real)
        unit = np.sqrt(seen.var(0).mean())
        drawn = {k: evaluate.features(judge, np.ascontiguousarray(y)) for k, y in sets.items()}
        far = np.array([metrics.frechet(seen / unit, y / unit) for y in drawn.values()])
        order = far[1:].argsort().argsort()
        first = order if first is None else first
        ratios = " ".join(f"{value:11.2f}" for value in (far[0], *far[1:] / far[0]))
        print(f"{learned:12} {ratios} {np.corrcoef(order, first)[0, 1]:7.2f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", default=["digits", "fashion", "portraits"])
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    for each in args.sets:
        compare(each, args.steps)
