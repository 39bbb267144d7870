"""Are few steps as good as many? Each command's sampler against ddim in 50 steps, by the judges.

    python tests/bench/defaults.py [--only sample mask ...] [--n 256] [--seeds 1 2 3]

One Markdown line for each way of drawing, before and after: network evaluations and seconds per
image, and what the judges say, as the mean over the seeds and its spread. What is better when it is
higher: recall, read (labels read as requested), style, overlap, near (pixels near the palette),
reached and stay. When it is lower: frechet, error (root mean square, black 0, white 1). Around 1:
seam, edge (energy of the step across, in units of the real one), fit (noise left, of what there
was). Pictures are compared where the right answer is known; each line says with which.
"""

import argparse
import time

import numpy as np
from edits import MASKS, measured
from restoration import KINDS, noised, rmse

from tinydiff import data
from tinydiff.app.cli import USUAL
from tinydiff.design import colour, edit, restore
from tinydiff.design.paired import examples
from tinydiff.design.pipeline import Pipeline, evaluations
from tinydiff.measure import classifier, evaluate, metrics

BEFORE = ("ddim", 50, "even")
PALETTE = "#1d2b53 #ff77a8 #fff1e8 #ffa300"


def by_features(name):
    """Measure Fréchet distances in units of a data set's features -> function, classifier"""
    judge, train = classifier.load(name)[0], data.load(name).train[:2048]
    unit = np.sqrt(evaluate.features(judge, train).var(0).mean())
    of = lambda x: evaluate.features(judge, x) / unit
    return lambda real, x: metrics.frechet(of(real), of(x)), judge


def drawn(name, w):
    """Single pictures on request -> function of (way, n, seed) that gives evaluations, numbers"""

    def measure(way, n, seed):
        pipe, dataset = Pipeline.load(name), data.load(name)
        yardstick = evaluate.Yardstick(
            classifier.load(name)[0], dataset, n, np.random.default_rng(0)
        )
        x, _ = evaluate.sample_all(pipe, yardstick.labels, seed, way, w)
        row = yardstick.measure(x, yardstick.labels)
        numbers = {key: row[key] for key in ("frechet", "precision", "recall")}
        read = np.mean(list(row["agreement"].values()))
        return evaluations(pipe.s, *way[:2], w), numbers | {"read": read}

    return measure


def tiles(way, n, seed):
    """Tiles of patterns, in batches that share their shifts."""
    pipe, (frechet, judge) = Pipeline.load("patterns"), by_features("patterns")
    labels, rng = (
        np.stack([np.arange(n) % 10, np.arange(n) // 10 % 12], 1),
        np.random.default_rng(seed),
    )
    parts = [labels[i : i + 32] for i in range(0, n, 32)]
    x = np.concatenate([pipe.tile(part, rng, *way[1:], w=2.0)[-1] for part in parts])
    half, real = np.roll(x, (8, 8), (1, 2)), data.load("patterns").train
    kind, palette = classifier.accuracy(judge, half, labels)
    numbers = {"seam": edit.seam_energy(x), "kind": kind, "palette": palette}
    return 2 * way[1], numbers | {"frechet": frechet(real[:: len(real) // 2048], half)}


def in_colours(way, n, seed):
    """Portraits in four colours."""
    pipe, faces = Pipeline.load("portraits"), data.load("portraits")
    wanted, cov = [colour.parse(c) for c in PALETTE.split()], restore.covariance(faces.train)
    also = lambda eps_model: colour.coloured(eps_model, pipe.s, cov, 16, wanted)
    labels, rng = faces.test_labels[:n], np.random.default_rng(seed)
    x = pipe.draw(labels, rng, *way, w=2.0, also=also)[-1]
    away = np.sqrt(((x[..., None, :] - np.array(wanted)) ** 2).sum(-1)).min(-1)
    read = classifier.accuracy(classifier.load("portraits")[0], x, labels)
    return 2 * way[1], {"near": (away < 0.4).mean(), "hat": read[0], "hair": read[2]}


def filled(part):
    """Held-out portraits, a part drawn anew -> function, see `drawn`"""

    def measure(way, n, seed):
        pipe, faces, (frechet, judge) = Pipeline.load("portraits"), *held_out(n)
        keep, rng = np.ones((16, 16), bool), np.random.default_rng(seed)
        keep[MASKS[part]] = False
        (x0, labels), rounds = faces, way[3] if way[3:] else 5
        options = {"rounds": rounds, "wide": True, "clip": 1.0}
        grid, eps_model = pipe.grid(*way[1:3]), pipe.eps_model(labels)
        *_, x = edit.inpaint(eps_model, pipe.s, x0, keep, rng, grid, **options)
        edge = edit.edge_energy(x, keep) / edit.edge_energy(x0, keep)
        numbers = {"edge": edge, "read": classifier.accuracy(judge, x, labels).mean()}
        return (way[1] - 1) * rounds + 1, numbers | {"frechet": frechet(x0, x)}

    return measure


def held_out(n):
    """Take held-out portraits and what judges them -> (images, labels), (function, classifier)"""
    faces = data.load("portraits")
    return (faces.test[:n], faces.test_labels[:n]), by_features("portraits")


def redrawn(way, n, seed):
    """Held-out portraits from the noise of 0.6 T."""
    pipe, ((x0, labels), (frechet, judge)) = Pipeline.load("portraits"), held_out(n)
    eps_model, rng = pipe.eps_model(labels), np.random.default_rng(seed)
    *_, x = edit.image_to_image(eps_model, pipe.s, x0, 0.6, rng, pipe.grid(*way[1:]), clip=1.0)
    read = classifier.accuracy(judge, x, labels).mean()
    numbers = {"read": read, "error": metrics.rmse(x[None], x0), "frechet": frechet(x0, x)}
    return pipe.steps_below(0.6, *way[1:]), numbers


def restored(kind):
    """Degraded portraits, four samples of each -> function, see `drawn`"""

    def measure(way, n, seed):
        pipe, faces, (A, sigma_y) = Pipeline.load("portraits"), data.load("portraits"), KINDS[kind]
        cov, x0, n = restore.covariance(faces.train), faces.test[: n // 4], n // 4
        y = noised(A, sigma_y, x0, np.random.default_rng(seed))
        labels, rng = np.tile(pipe.model.classes, (4 * n, 1)), np.random.default_rng(seed + 1)
        how = np.concatenate([y] * 4), A, sigma_y, cov, rng, way[1], 1.0, way[2]
        x = pipe.restore(labels, *how).reshape(4, n, 16, 16, 3)
        left = np.sqrt(((restore.degrade(A, x[0]) - y) ** 2).mean()) / sigma_y
        error = np.mean([rmse(one, x0) for one in x])
        return way[1], {"error": error, "error of mean": rmse(x.mean(0), x0), "fit": left}

    return measure


def changed(way, n, seed):
    """One label of a held-out portrait."""
    pipe, d, rng = Pipeline.load("portraits"), data.load_edits(), np.random.default_rng(seed)
    i = np.linspace(0, len(d.before) - 1, n).round().astype(int)
    kept = (d.before, d.after, d.labels_before, d.labels_after, d.changed)
    d = data.Edits(*(v[i] for v in kept), d.labels)
    x = pipe.change(d.before, d.labels_before, d.labels_after, rng, steps=way[1])
    reached, stay, both, *_ = measured(classifier.load("portraits")[0], d, x)
    share = lambda text: float(text.rstrip("%")) / 100
    numbers = {"reached": share(reached), "stay": share(stay), "both": share(both)}
    return 10 + 3 * pipe.steps_below(0.8, way[1]), numbers


def restyled(of, to, how="source", w=1.5):
    """Unseen emoji in another style -> function, see `drawn`"""

    def measure(way, n, seed):
        pipe, styles = Pipeline.load("emoji"), data.load_styles("emoji")
        a, b = (styles.styles.index(name) for name in (of, to))
        source, truth = (styles.images[styles.test, k][:n] for k in (a, b))
        options, rng = {"w": w, "sampler": way[0]}, np.random.default_rng(seed)
        x = pipe.restyle(source, to, rng, how, of, way[1], **options)
        row = evaluate.transfer_row("", x[None], truth, source, classifier.load("emoji")[0], b, 0)
        calls = 2 * way[1] if how == "source" else 4 * pipe.steps_below(0.7, way[1])
        numbers = {"error": row["rmse"], "overlap": row["silhouette"], "style": row["style"]}
        return calls, numbers

    return measure


def letters(way, n, seed):
    """Unseen letters of typefaces of which four are known."""
    pipe, styles, rng = Pipeline.load("typefaces"), data.load_styles("typefaces"), np.random
    source, truth, wanted = (v[:n].copy() for v in examples(styles))
    for picture in source:
        there = np.flatnonzero(picture.any((0, 1)))
        picture[:, :, rng.default_rng(5).permutation(there)[4:]] = 0
    x = pipe.draw(wanted, rng.default_rng(seed), *way, source=source)[-1]
    reader, labels = classifier.load("typefaces")[0], np.argwhere(styles.test)[:n]
    row = evaluate.transfer_row("", x[None], truth, truth, reader, labels, 0, paper=-1.0)
    return way[1], {"error": row["rmse"], "overlap": row["silhouette"], "read": row["style"]}


ROWS = {  # name: what is drawn, as it was and as USUAL has it, function
    "sample": {
        f"{name}, w = {w:g}": (BEFORE, USUAL["sample"], drawn(name, w))
        for name, w in [("digits", 1), ("fashion", 1), ("patterns", 1), ("portraits", 1)]
        + [("portraits", 2)]
    },
    "palette": {"portraits, w = 2": (BEFORE, USUAL["sample --palette"], in_colours)},
    "tile": {"patterns, w = 2": (BEFORE, USUAL["sample --tile"], tiles)},
    "mask": {part: ((*BEFORE, 5), USUAL["edit --mask"], filled(part)) for part in MASKS},
    "strength": {"portraits, 0.6": (BEFORE, USUAL["edit --strength"], redrawn)},
    "restore": {kind: (BEFORE, USUAL["edit --restore"], restored(kind)) for kind in KINDS},
    "change": {"portraits, w = 2": (("ddim", 20, "even"), USUAL["edit --change"], changed)},
    "restyle": {
        f"{of} to {to}": (BEFORE, USUAL["restyle"], restyled(of, to))
        for of, to in [("line", "flat"), ("twemoji", "noto"), ("noto", "twemoji")]
    },
    "inversion": {
        "twemoji to noto": (
            BEFORE,
            USUAL["restyle --way"],
            restyled("twemoji", "noto", "inversion", 2.0),
        )
    },
    "alphabet": {"four letters known": (BEFORE, USUAL["alphabet"], letters)},
}


def line(command, what, way, measure, n, seeds):
    """Print a line of the table: a command's way, the same over several seeds."""
    began, found = time.perf_counter(), []
    for seed in seeds:
        calls, numbers = measure(way, n, seed)
        found.append(numbers)
    ms = 1000 * (time.perf_counter() - began) / n / len(seeds)
    said = []
    for key in found[0]:
        values = [numbers[key] for numbers in found]
        spread = f" ± {np.std(values, ddof=1):.2g}" if len(values) > 1 else ""
        said.append(f"{key} {np.mean(values):.3g}{spread}")
    cells = command, what, " ".join(map(str, way)), str(calls), ", ".join(said), f"{ms:.0f}"
    print("| " + " | ".join(cells) + " |", flush=True)


def main():
    """Read the command line, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add, names = parser.add_argument, list(ROWS)
    add("--only", nargs="+", choices=names, default=names, help="these commands (default: all)")
    add("--n", type=int, default=256, help="images for each line and seed (default: 256)")
    add("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of the noise (default: 1 2 3)")
    args = parser.parse_args()
    print("| command | what | drawn with | evaluations | judged | ms per image |")
    print("| --- " * 6 + "|")
    for command in args.only:
        for what, (before, after, measure) in ROWS[command].items():
            for way in (before, after):
                line(command, what, way, measure, args.n, args.seeds)


if __name__ == "__main__":
    main()
