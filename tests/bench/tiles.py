"""Measure tiles and panoramas of the model of patterns: is there a seam, and is what is drawn still what was asked for?

    python tests/bench/tiles.py [--n 256] [--wide 64] [--steps 50] [--picture FILE]

Seam energy: edit.seam_energy, 1 = the step over a tile's edge is like those inside. The judge (agreement, Fréchet distance of its features
to real crops) sees each tile rolled by half its size, so that the edges meet in the middle: it would notice a seam there.
--picture draws 3 x 3 repeats of a few tiles instead, above those of the ordinary sampler.
"""

import argparse
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from tinydiff import checkpoint, classifier, data, draw, edit, evaluate, metrics, plot, sample
from tinydiff.unet import circular

WAYS = {"ordinary": (False, False), "rolls": (True, False), "circular": (False, True), "circular and rolls": (True, True)}
SHOWN = (
    ("scales", "ocean"),
    ("waves", "terracotta"),
    ("triangles", "mustard"),
    ("petals", "indigo"),
    ("terrazzo", "candy"),
    ("arcs", "plum"),
)


def tiles(model, s, about, labels, rolls, wrap, steps, seed=0, w=1.0):
    """Draw a tile for each row of labels with ddim, with rolls of the noise or without, with circular padding or without."""
    shape, grid = (len(labels), model.size, model.size, model.channels), sample.even_times(s, steps)
    with circular(model) if wrap else nullcontext():
        eps_model, rng = draw.guided(model, s, about, labels, w), np.random.default_rng(seed)
        *_, x = (edit.tile if rolls else sample.ddim)(eps_model, s, shape, rng, grid, clip=1.0)
    return x


def panoramas(model, s, about, labels, width, direct, steps, seed=0):
    """Draw 16 x width for each row of labels: from windows, or by asking the network for all of it at once."""
    shape, grid = (len(labels), model.size, width, model.channels), sample.even_times(s, steps)
    eps_model, rng = draw.guided(model, s, about, labels), np.random.default_rng(seed)
    if direct:
        *_, x = sample.ddim(eps_model, s, shape, rng, grid, clip=1.0)
    else:
        *_, x = edit.panorama(eps_model, s, shape, (model.size, model.size), rng, grid, clip=1.0)
    return x


def halfway(x):
    return np.roll(x, (x.shape[1] // 2, x.shape[2] // 2), (1, 2))


def judged(judge, real, images, labels):
    """Agreement on each label, and the Fréchet distance to real features -> text"""
    kind, palette = classifier.accuracy(judge, images, labels)
    distance = metrics.frechet(real, evaluate.features(judge, images) / real.std())
    return f"{kind:8.1%}{palette:9.1%}{distance:9.2f}"


def window_energy(x, stride):
    """Compare the steps across at columns where a window starts (all but the first) with those elsewhere: 1 = nothing to see."""
    steps = ((x[:, :, 1:] - x[:, :, :-1]) ** 2).mean((0, 1, 3))
    starts = np.arange(1, x.shape[2]) % stride == 0
    return steps[starts].mean() / steps[~starts].mean()


def measure(n, wide, steps):
    model, s, about = checkpoint.pretrained("patterns")
    (judge, its), patterns = checkpoint.judge("patterns"), data.load("patterns")
    kinds = list(patterns.labels["kind"])
    labels = np.stack([np.arange(n) % 10, np.arange(n) // 10 % 12], axis=1)
    order = np.random.default_rng(0).permutation(len(patterns.train))
    real = evaluate.features(judge, patterns.train[order[: 4 * n]])
    unit = real.std()
    real /= unit
    print(f"{n} tiles, ddim with {steps} steps; the judge is right on {its['held_out']} of unseen crops")
    print(f"{'':20s}{'seam energy':>12s}{'kind':>8s}{'palette':>9s}{'Fréchet':>9s}   as drawn, kind")
    rows, held = {}, patterns.test[:n]
    rows["real crops"] = held
    for name, (rolls, wrap) in WAYS.items():
        rows[name] = tiles(model, s, about, labels, rolls, wrap, steps)
    for name, x in rows.items():
        told = patterns.test_labels[:n] if name == "real crops" else labels
        plain = classifier.accuracy(judge, x, told)[0]
        kind, palette = classifier.accuracy(judge, halfway(x), told)
        distance, there = (metrics.frechet(real, evaluate.features(judge, y) / unit) for y in (halfway(x), x))
        print(f"{name:20s}{edit.seam_energy(x):12.3f}{kind:8.1%}{palette:9.1%}{distance:9.1f}   {plain:.1%}, {there:.1f}")
    print("\nseam energy by kind\n" + f"{'':12s}" + "".join(f"{name:>20s}" for name in rows))
    for k, kind in enumerate(kinds):
        told = {name: patterns.test_labels[:n] if name == "real crops" else labels for name in rows}
        print(f"{kind:12s}" + "".join(f"{edit.seam_energy(x[told[name][:, 0] == k]):20.2f}" for name, x in rows.items()))
    labels = labels[:wide]
    print(f"\n{wide} panoramas {model.size} x 64, the judge on four windows each")
    print(f"{'':20s}{'at windows':>12s}{'kind':>8s}{'palette':>9s}{'Fréchet':>9s}")
    for name, direct in (("windows averaged", False), ("all at once", True)):
        x = panoramas(model, s, about, labels, 64, direct, steps)
        parts = np.concatenate([x[:, :, i : i + 16] for i in (0, 16, 32, 48)])
        kind, palette = classifier.accuracy(judge, parts, np.tile(labels, (4, 1)))
        distance = metrics.frechet(real, evaluate.features(judge, parts) / unit)
        print(f"{name:20s}{window_energy(x, 8):12.3f}{kind:8.1%}{palette:9.1%}{distance:9.1f}")


def picture(path, steps):
    """Above, 3 x 3 repeats of tiles from the ordinary sampler; below, of such as have no seam, from the same noise."""
    model, s, about = checkpoint.pretrained("patterns")
    labels = np.stack([draw.wishes(about["labels"], [f"kind={kind}", f"palette={palette}"]) for kind, palette in SHOWN])
    both = np.concatenate([tiles(model, s, about, labels, *WAYS[name], steps, seed=3) for name in ("ordinary", "circular and rolls")])
    plot.save_png(plot.sheet(np.tile(both, (1, 3, 3, 1)), len(SHOWN), gap=4, scale=3), path)
    print(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=256, help="number of tiles (default: 256)")
    parser.add_argument("--wide", type=int, default=64, help="number of panoramas (default: 64)")
    parser.add_argument("--steps", type=int, default=50, help="steps from noise to image (default: 50)")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw this picture, and measure nothing")
    args = parser.parse_args()
    if args.picture:
        picture(args.picture, args.steps)
    else:
        measure(args.n, args.wide, args.steps)


if __name__ == "__main__":
    main()
