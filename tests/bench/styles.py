"""Draw unseen subjects in another style, with diffusion and without, and measure every way.

    python tests/bench/styles.py [--n 250] [--steps 60] [--k 8] [--out out/styles.png]

Prints one Markdown table per direction. Emoji in the four directions of paired.DIRECTIONS: copying,
the mean of the target style, ridge regression (strength chosen on a fifth of the training
subjects), the nearest source's target, and Gram matrices. These match features of a second
classifier, whose own verdict stands beside that of the classifier that measures. Typefaces: unseen
(letter, face) pairs, overlap with the truth. Guesses are cut off to [-1, 1]. ms/image: without
fitting. The row "truth" says what a perfect answer would score.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from tinydiff import data, plot
from tinydiff.design import gatys
from tinydiff.design.paired import DIRECTIONS, examples
from tinydiff.design.pipeline import Pipeline
from tinydiff.measure import baselines, classifier, metrics
from tinydiff.measure.evaluate import transfer_row, transfer_table

DRAWN = {  # name: way, of how many samples, and further arguments of Pipeline.restyle
    "diffusion, looks at the source": ("source", 8, {}),
    "diffusion, style only: inversion up to 0.7 T, w = 2": ("inversion", 1, {"w": 2.0}),
    "diffusion, style only: noise up to 0.5 T, w = 3": ("noise", 8, {"w": 3.0, "strength": 0.5}),
}
STEPS = 25  # of ddim
STRENGTHS = (1e-4, 1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0, 10.0)


def chosen(fit, x, y):
    """Fit with the strength that is best on every fifth training pair, fitted to the others.

    fit: baselines.ridge, or one like it -> the function, a text that names the strength
    """
    fifth = np.arange(len(x)) % 5 == 0
    guess = lambda strength: fit(x[~fifth], y[~fifth], strength)(x[fifth])
    error = [metrics.rmse(guess(strength), y[fifth]) for strength in STRENGTHS]
    best = STRENGTHS[int(np.argmin(error))]
    return fit(x, y, best), f"strength {best:g}"


def ways(x, y, second, steps):
    """Fit every way to training pairs.

    x, y: (M, H, W, C) -> [(name, function: source (N, H, W, C) -> (N, H, W, C))]
    """
    by_patches, patch_strength = chosen(baselines.ridge_patches, x, y)
    by_pictures, whole_strength = chosen(baselines.ridge, x, y)
    neighbour, style = baselines.nearest(x, y), gatys.style_of(second, y)
    spreads = [spread for _, spread in style]

    def mean(source):
        return np.repeat(y.mean(0, keepdims=True), len(source), axis=0)

    def like_one(source):
        """Take the style from one picture, the nearest source's target, as Gatys et al. did."""
        grams = [gatys.gram(h) for h in second.maps(neighbour(source))]
        target = list(zip(grams, spreads, strict=True))
        *_, drawn = gatys.transfer(second, source, target, steps=steps)
        return drawn

    def like_all(source):
        *_, drawn = gatys.transfer(second, source, style, steps=steps)
        return drawn

    return [
        ("copy the source", lambda source: source),
        ("mean of the target style", mean),
        (f"ridge regression, 5 x 5 patches, {patch_strength}", by_patches),
        (f"ridge regression, whole pictures, {whole_strength}", by_pictures),
        ("target of the nearest source", neighbour),
        ("Gram matrices, the whole style", like_all),
        ("Gram matrices, the nearest source's target", like_one),
    ]


def direction(styles, source_style, target_style, n, steps, k, reader, second):
    """Measure every way in one direction on n unseen subjects, by k samples.

    reader, second: Classifiers, the one that measures and the one that the Gram matrices use
    -> rows, and pictures (N, H, W, C) by name
    """
    a, b = (styles.styles.index(name) for name in (source_style, target_style))
    x, y = (styles.images[~styles.test, k] for k in (a, b))
    source, truth = (styles.images[styles.test, k][:n] for k in (a, b))
    measured = lambda name, x, seconds: transfer_row(name, x, truth, source, reader, b, seconds)
    rows, drawn = [measured("truth", truth[None], 0.0)], {"source": source, "truth": truth}
    for name, way in ways(x, y, second, steps):
        began = time.perf_counter()
        drawn[name] = guess = np.clip(way(source), -1, 1)
        seconds = (time.perf_counter() - began) / len(source)
        if name.startswith("Gram"):
            (own,) = classifier.accuracy(second, guess, np.full((len(source), 1), b))
            name += f" (its own classifier says {own:.1%})"
        rows.append(measured(name, guess[None], seconds))
    pipe, rng = Pipeline.load("emoji"), np.random.default_rng(0)
    for name, (way, most, options) in DRAWN.items():
        began, samples = time.perf_counter(), []
        for _ in range(min(k, most)):
            how = (way, source_style, STEPS)
            samples.append(pipe.restyle(source, target_style, rng, *how, **options))
        seconds = (time.perf_counter() - began) / len(samples) / len(source)
        rows.append(measured(name, np.stack(samples), seconds))
        drawn[name] = samples[0]
    return rows, drawn


def letters(styles, reader, k):
    """Measure what fills the holes of the table of letters and faces, drawn ones by k samples."""
    images, unseen = styles.images, styles.test
    truth, labels = images[unseen], np.argwhere(unseen)
    pairs = zip(images, unseen, strict=True)
    own = np.stack([of_letter[~hidden].mean(0) for of_letter, hidden in pairs])[:, None]
    found = {
        "truth": lambda: images,
        "mean of the letter": lambda: np.broadcast_to(own, images.shape),
        "the letter of the nearest face": lambda: baselines.nearest_column(images, ~unseen),
        "letter + face": lambda: baselines.additive(images, ~unseen),
    }
    rows = []

    def measure(name, samples, seconds):
        each = seconds / len(samples) / len(truth)
        rows.append(transfer_row(name, samples, truth, truth, reader, labels, each, paper=-1.0))

    for name, way in found.items():
        began = time.perf_counter()
        guess = np.clip(way(), -1, 1)[unseen]
        measure(name, guess[None], time.perf_counter() - began)
    pipe, rng = Pipeline.load("typefaces"), np.random.default_rng(0)
    whole, _, wanted = examples(styles)
    for few in (None, 8, 4):
        source = whole.copy()
        for picture in source if few else ():
            there = np.flatnonzero(picture.any((0, 1)))
            picture[:, :, rng.permutation(there)[few:]] = 0
        began = time.perf_counter()
        draws = [pipe.draw(wanted, rng, steps=STEPS, source=source)[-1] for _ in range(k)]
        name = f"diffusion, looks at {few or 'all known'} letters of the face"
        measure(name, np.stack(draws), time.perf_counter() - began)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=250, help="unseen subjects in each direction")
    parser.add_argument("--steps", type=int, default=60, help="of Adam, for the Gram matrices")
    parser.add_argument("--k", type=int, default=8, help="samples of each picture")
    parser.add_argument("--out", type=Path, default=Path("out/styles.png"))
    args = parser.parse_args()
    reader, second = classifier.load("emoji")[0], classifier.load("emoji_second")[0]
    emoji, sheets, names = data.load_styles("emoji"), [], []
    sizes = args.n, args.steps, args.k
    for source_style, target_style in DIRECTIONS:
        rows, drawn = direction(emoji, source_style, target_style, *sizes, reader, second)
        title = f"{source_style} to {target_style}"
        print(f"\n**{title}**, {args.n} unseen subjects\n\n{transfer_table(rows)}", flush=True)
        shown = np.linspace(0, args.n - 1, min(args.n, 12)).astype(int)
        del drawn["copy the source"]
        for name, pictures in drawn.items():
            sheets.append(pictures[shown])
            names.append(f"{title}: {name}" if name == "source" else name.split(", str")[0])
    rows = letters(data.load_styles("typefaces"), classifier.load("typefaces")[0], args.k)
    print(f"\n**typefaces**, unseen pairs\n\n{transfer_table(rows)}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure = plot.labelled(np.concatenate(sheets), len(shown), names, scale=3)
    print(plot.save_figure(figure, args.out))


if __name__ == "__main__":
    main()
