"""Measure tiles and panoramas of the pattern model: do they have seams, and do they match labels?

    python tests/bench/tiles.py [--model patterns32] [--n 256] [--wide 64] [--steps 50]
                                [--guidance 2] [--seed 0] [--picture FILE]

Seam energy: edit.seam_energy with its standard error; 1 = the step across a tile's edge is like the
steps inside. The classifier reads each tile rolled by half its size, so that the edges meet in the
middle, where it would notice a seam. Reported are its accuracy on kind and palette, and the Fréchet
distance of its features to those of real crops, which are not rolled; on the right, the same for
the tiles as they were drawn.

--picture draws 3 x 3 repeats of a few tiles instead: above with the ordinary sampler, below without
a seam, from the same noise (lessons/pictures/tiles.png: --seed 2 --guidance 2.5 --steps 25).
"""

import argparse
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from tinydiff import data, plot, sample
from tinydiff.design import edit
from tinydiff.design.pipeline import Pipeline, parse_labels
from tinydiff.measure import classifier, evaluate, metrics
from tinydiff.unet import circular

WAYS = {  # name: (rolls, wrap), see `tiles`
    "ordinary": (False, False),
    "rolls": (True, False),
    "circular": (False, True),
    "circular and rolls": (True, True),
}
OVERLAPS = {"windows, overlap 1/2": 0.5, "windows, overlap 3/4": 0.75, "all at once": None}
SHOWN = "stripes berry, checks terracotta, dots ocean, waves plum, petals night"
WIDE = 64
BATCH = 32  # tiles that share the rolls


def tiles(pipe, labels, rolls, wrap, steps, w, seed):
    """Draw a tile for each row of labels with ddim.

    rolls: shift the images at each step; wrap: circular padding in the network; w: guidance
    -> (N, H, W, C)
    """
    rng, grid, parts = np.random.default_rng(seed), sample.even_times(pipe.s, steps), []
    model, sampler = pipe.model, edit.tile if rolls else sample.ddim
    for i in range(0, len(labels), BATCH):
        eps_model = pipe.eps_model(labels[i : i + BATCH], w)
        shape = (len(labels[i : i + BATCH]), model.size, model.size, model.channels)
        with circular(model) if wrap else nullcontext():
            *_, x = sampler(eps_model, pipe.s, shape, rng, grid, clip=1.0)
        parts.append(x)
    return np.concatenate(parts)


def panoramas(pipe, labels, overlap, steps, w, seed):
    """Draw a panorama, model.size x WIDE, for each row of labels.

    overlap: of the windows; None = evaluate the network on all of it at once -> (N, H, WIDE, C)
    """
    s, size = pipe.s, pipe.model.size
    shape, grid = (len(labels), size, WIDE, pipe.model.channels), sample.even_times(s, steps)
    eps_model, rng = pipe.eps_model(labels, w), np.random.default_rng(seed)
    if overlap is None:
        *_, x = sample.ddim(eps_model, s, shape, rng, grid, clip=1.0)
    else:
        *_, x = edit.panorama(eps_model, s, shape, (size, size), rng, grid, overlap, clip=1.0)
    return x


def seam(x):
    """Format the seam energy with its standard error: (N, H, W, C) -> text

    The error comes from the batches, whose rolls are independent.
    """
    parts = [edit.seam_energy(x[i : i + BATCH]) for i in range(0, len(x), BATCH)]
    return f"{edit.seam_energy(x):.3f} +- {np.std(parts, ddof=1) / np.sqrt(len(parts)):.3f}"


def window_energy(x, stride):
    """Compare the steps across columns where a window starts with the steps elsewhere.

    x: (N, H, W, C); stride: from window to window; the first window is left out
    -> mean squared step at the starts / elsewhere, 1 = no visible seam
    """
    steps = ((x[:, :, 1:] - x[:, :, :-1]) ** 2).mean((0, 1, 3))
    starts = np.arange(1, x.shape[2]) % stride == 0
    return steps[starts].mean() / steps[~starts].mean()


def measure(dataset, n, wide, steps, w, seed):
    """Print the three tables, of the model of a data set that comes with tinydiff."""
    pipe, (model, meta) = Pipeline.load(dataset), classifier.load(dataset)
    patterns, size = data.load(dataset), pipe.model.size
    order = np.random.default_rng(0).permutation(len(patterns.train))
    real = evaluate.features(model, patterns.train[order[:2048]])
    unit = np.sqrt(real.var(0).mean())

    def read(x, labels):
        kind, palette = classifier.accuracy(model, x, labels)
        distance = metrics.frechet(real / unit, evaluate.features(model, x) / unit)
        return f"{kind:8.1%}{palette:9.1%}{distance:9.2f}"

    labels = np.stack([np.arange(n) % 10, np.arange(n) // 10 % 12], axis=1)
    rows = {"real crops": (patterns.test[:n], patterns.test_labels[:n])}
    for name, (rolls, wrap) in WAYS.items():
        rows[name] = tiles(pipe, labels, rolls, wrap, steps, w, seed), labels
    held_out = f"the classifier's accuracy on unseen crops: {meta['held_out']}"
    print(f"{n} tiles, ddim with {steps} steps, guidance {w:g}; {held_out}")
    columns = f"{'kind':>8s}{'palette':>9s}{'Fréchet':>9s}"
    print(f"{'':20s}{'seam energy':>18s}{columns} | {columns}")
    for name, (x, given) in rows.items():
        half = np.roll(x, (x.shape[1] // 2, x.shape[2] // 2), (1, 2))
        print(f"{name:20s}{seam(x):>18s}{read(half, given)} | {read(x, given)}")
    print(f"\n{'seam energy by kind':20s}" + "".join(f"{name:>20s}" for name in rows))
    for k, kind in enumerate(patterns.labels["kind"]):
        energies = [edit.seam_energy(x[given[:, 0] == k]) for x, given in rows.values()]
        print(f"{kind:20s}" + "".join(f"{energy:20.2f}" for energy in energies))

    labels = labels[:wide]
    print(f"\n{wide} panoramas {size} x {WIDE}, the classifier on", end=" ")
    print(f"{WIDE // size} windows of each; energy where windows start, relative to elsewhere")
    print(f"{'':20s}{'energy':>18s}{columns}")
    for name, overlap in OVERLAPS.items():
        x = panoramas(pipe, labels, overlap, steps, w, seed)
        windows = np.concatenate(np.split(x, WIDE // size, axis=2))
        given = np.tile(labels, (len(windows) // wide, 1))
        print(f"{name:20s}{window_energy(x, size // 2):18.3f}{read(windows, given)}")


def picture(path, dataset, steps, w, seed):
    """Draw the picture that the docstring of this file describes."""
    pipe, pairs = Pipeline.load(dataset), [shown.split() for shown in SHOWN.split(", ")]
    words = [[f"kind={kind}", f"palette={palette}"] for kind, palette in pairs]
    labels = np.stack([parse_labels(pipe.labels, pair) for pair in words])
    ways = [WAYS[name] for name in ("ordinary", "circular and rolls")]
    both = np.concatenate([tiles(pipe, labels, *way, steps, w, seed) for way in ways])
    repeated = np.tile(both, (1, 3, 3, 1))
    plot.save_png(plot.sheet(repeated, len(labels), gap=4, scale=3), path)
    print(path)


def main():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", default="patterns", help="patterns or patterns32 (default: patterns)")
    add("--n", type=int, default=256, help="number of tiles (default: 256)")
    add("--wide", type=int, default=64, help="number of panoramas (default: 64)")
    add("--steps", type=int, default=50, help="steps from noise to image (default: 50)")
    add("--guidance", type=float, default=2.0, help="strength of guidance (default: 2)")
    add("--seed", type=int, default=0, help="seed of the noise (default: 0)")
    add("--picture", type=Path, metavar="FILE", help="draw this picture and measure nothing")
    args = parser.parse_args()
    if args.picture:
        picture(args.picture, args.model, args.steps, args.guidance, args.seed)
    else:
        measure(args.model, args.n, args.wide, args.steps, args.guidance, args.seed)


if __name__ == "__main__":
    main()
