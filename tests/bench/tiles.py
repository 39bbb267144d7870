"""Measure tiles and panoramas of the model of patterns: is there a seam, and is what is drawn still what was asked for?

    python tests/bench/tiles.py [--n 256] [--wide 64] [--steps 50] [--guidance 2] [--seed 0] [--picture FILE]

Seam energy: edit.seam_energy, 1 = the step over a tile's edge is like those inside (+- its standard error). The judge sees each tile
rolled by half its size, so that the edges meet in the middle, where it would notice a seam: agreement on kind and palette, and the
Fréchet distance of its features to those of real crops, which are not rolled. Last, the same of the tiles as they were drawn.
--picture draws 3 x 3 repeats of a few tiles instead: above from the ordinary sampler, below without a seam, from the same noise
(lessons/pictures/tiles.png: --seed 2 --guidance 2.5 --steps 25).
"""

import argparse
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from tinydiff import checkpoint, data, plot, sample
from tinydiff.design import edit, pipeline
from tinydiff.measure import classifier, evaluate, metrics
from tinydiff.unet import circular

WAYS = {
    "ordinary": (False, False),
    "rolls": (True, False),
    "circular": (False, True),
    "circular and rolls": (True, True),
}
SHOWN = "stripes berry, checks terracotta, dots ocean, waves plum, petals night"
WIDE = 64
BATCH = 32  # tiles that share the rolls


def tiles(model, s, about, labels, rolls, wrap, steps, w, seed):
    """Draw a tile for each row of labels with ddim, with rolls of the noise or without, with circular padding or without."""
    rng, grid, parts = np.random.default_rng(seed), sample.even_times(s, steps), []
    for i in range(0, len(labels), BATCH):
        eps_model = pipeline.guided(model, s, about, labels[i : i + BATCH], w)
        shape = (len(labels[i : i + BATCH]), model.size, model.size, model.channels)
        with circular(model) if wrap else nullcontext():
            *_, x = (edit.tile if rolls else sample.ddim)(eps_model, s, shape, rng, grid, clip=1.0)
        parts.append(x)
    return np.concatenate(parts)


def panoramas(model, s, about, labels, overlap, steps, w, seed):
    """Draw model.size x WIDE for each row of labels: from overlapping windows, or (None) by asking the network for all of it at once."""
    shape, grid = (len(labels), model.size, WIDE, model.channels), sample.even_times(s, steps)
    eps_model, rng = pipeline.guided(model, s, about, labels, w), np.random.default_rng(seed)
    if overlap is None:
        *_, x = sample.ddim(eps_model, s, shape, rng, grid, clip=1.0)
    else:
        *_, x = edit.panorama(
            eps_model, s, shape, (model.size, model.size), rng, grid, overlap, clip=1.0
        )
    return x


def seam(x):
    """Seam energy with its standard error, from the batches, whose rolls are independent: (N, H, W, C) -> text"""
    parts = [edit.seam_energy(x[i : i + BATCH]) for i in range(0, len(x), BATCH)]
    return f"{edit.seam_energy(x):.3f} +- {np.std(parts, ddof=1) / np.sqrt(len(parts)):.3f}"


def window_energy(x, stride):
    """Compare the steps across at columns where a window starts, but for the first, with those elsewhere: 1 = nothing to see."""
    steps = ((x[:, :, 1:] - x[:, :, :-1]) ** 2).mean((0, 1, 3))
    starts = np.arange(1, x.shape[2]) % stride == 0
    return steps[starts].mean() / steps[~starts].mean()


def measure(n, wide, steps, w, seed):
    """Print the three tables."""
    model, s, about = checkpoint.pretrained("patterns")
    (judge, its), patterns = classifier.load("patterns"), data.load("patterns")
    order = np.random.default_rng(0).permutation(len(patterns.train))
    real = evaluate.features(judge, patterns.train[order[:2048]])
    unit = np.sqrt(real.var(0).mean())

    def judged(x, labels):
        kind, palette = classifier.accuracy(judge, x, labels)
        return f"{kind:8.1%}{palette:9.1%}{metrics.frechet(real / unit, evaluate.features(judge, x) / unit):9.2f}"

    labels = np.stack([np.arange(n) % 10, np.arange(n) // 10 % 12], axis=1)
    rows = {"real crops": (patterns.test[:n], patterns.test_labels[:n])}
    for name, (rolls, wrap) in WAYS.items():
        rows[name] = tiles(model, s, about, labels, rolls, wrap, steps, w, seed), labels
    print(
        f"{n} tiles, ddim with {steps} steps, guidance {w:g}; the judge is right on unseen crops: {its['held_out']}"
    )
    print(
        f"{'':20s}{'seam energy':>18s}{'kind':>8s}{'palette':>9s}{'Fréchet':>9s} | {'kind':>8s}{'palette':>9s}{'Fréchet':>9s}"
    )
    for name, (x, told) in rows.items():
        half = np.roll(x, (x.shape[1] // 2, x.shape[2] // 2), (1, 2))
        print(f"{name:20s}{seam(x):>18s}{judged(half, told)} | {judged(x, told)}")
    print(f"\n{'seam energy by kind':20s}" + "".join(f"{name:>20s}" for name in rows))
    for k, kind in enumerate(patterns.labels["kind"]):
        print(
            f"{kind:20s}"
            + "".join(f"{edit.seam_energy(x[told[:, 0] == k]):20.2f}" for x, told in rows.values())
        )

    labels = labels[:wide]
    print(
        f"\n{wide} panoramas {model.size} x {WIDE}, the judge on four windows of each; energy where windows start against elsewhere"
    )
    print(f"{'':20s}{'energy':>18s}{'kind':>8s}{'palette':>9s}{'Fréchet':>9s}")
    for name, overlap in (
        ("windows, overlap 1/2", 0.5),
        ("windows, overlap 3/4", 0.75),
        ("all at once", None),
    ):
        x = panoramas(model, s, about, labels, overlap, steps, w, seed)
        parts = np.concatenate(np.split(x, WIDE // model.size, axis=2))
        print(
            f"{name:20s}{window_energy(x, model.size // 2):18.3f}{judged(parts, np.tile(labels, (len(parts) // wide, 1)))}"
        )


def picture(path, steps, w, seed):
    """Draw the picture that the head of this file describes."""
    model, s, about = checkpoint.pretrained("patterns")
    pairs = (shown.split() for shown in SHOWN.split(", "))
    labels = np.stack(
        [
            pipeline.wishes(about["labels"], [f"kind={kind}", f"palette={palette}"])
            for kind, palette in pairs
        ]
    )
    both = [
        tiles(model, s, about, labels, *WAYS[name], steps, w, seed)
        for name in ("ordinary", "circular and rolls")
    ]
    plot.save_png(
        plot.sheet(np.tile(np.concatenate(both), (1, 3, 3, 1)), len(labels), gap=4, scale=3), path
    )
    print(path)


def main():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=256, help="number of tiles (default: 256)")
    parser.add_argument("--wide", type=int, default=64, help="number of panoramas (default: 64)")
    parser.add_argument(
        "--steps", type=int, default=50, help="steps from noise to image (default: 50)"
    )
    parser.add_argument(
        "--guidance", type=float, default=2.0, help="strength of guidance (default: 2)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (default: 0)")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="draw this picture, and measure nothing"
    )
    args = parser.parse_args()
    if args.picture:
        picture(args.picture, args.steps, args.guidance, args.seed)
    else:
        measure(args.n, args.wide, args.steps, args.guidance, args.seed)


if __name__ == "__main__":
    main()
