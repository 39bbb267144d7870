"""How good are edits of portraits? Print tables in Markdown, or draw pictures of edits.

    python tests/bench/edits.py attributes|inpaint|pictures [--n N]

attributes: one label of a held-out portrait is changed; data.load_edits knows what the result must
be. Reached: the classifier reads the new value; stay: it reads the eight other labels as in the
picture before; outside: pixels that differ from before by more than 0.1 of the range in some
channel, though they should not; RMSE to the true picture (range 0 .. 1) inside and outside the part
that should change. Inside, many pictures are right where a hat or glasses are added: there an error
says little.
inpaint: a part of held-out portraits is drawn anew, given their labels.
pictures: writes out/edits.png, a row for each label changed, four times before, changed, truth; and
out/blend.png, from one label to another.
"""

import argparse

import numpy as np

from tinydiff import data, guide, plot, sample
from tinydiff.design import edit
from tinydiff.design.pipeline import Pipeline, parse_labels
from tinydiff.measure import classifier

BATCH = 100
MASKS = {
    "hat region (upper 6 rows)": np.s_[:6],
    "middle 8 x 8": np.s_[4:12, 4:12],
    "right half": np.s_[:, 8:],
}
FACE = "hat=none glasses=none hair=long hair-colour=black-brown beard=none mouth=happy skin=6 "
FACE += "clothes=navy background=lilac"
BLENDS = {
    "hat": ("red", "blue"),
    "hair-colour": ("black-brown", "blond"),
    "background": ("pink", "blue"),
}


def boxes(parts):
    """Draw a box around each part. (N, H, W) bool -> (N, H, W, 1) bool, True = outside, keep"""

    def between(seen):
        """Fill from the first to the last. (N, L) bool -> (N, L) bool"""
        return np.maximum.accumulate(seen, 1) & np.maximum.accumulate(seen[:, ::-1], 1)[:, ::-1]

    rows, columns = between(parts.any(2)), between(parts.any(1))
    return ~(rows[:, :, None] & columns[:, None])[..., None]


def read(model, images):
    """Read all labels with a classifier. (N, H, W, C) -> (N, number of labels) ints"""
    return np.stack([scores.argmax(1) for scores in model(images)], axis=1)


def last(steps):
    """Take the last of the images that a sampler yields."""
    *_, x = steps
    return x


def ways(pipe, model):
    """List the ways to edit.

    -> {name: function (x0, labels before, labels after, part that changes, rng) -> images}
    """
    s, cond = pipe.s, pipe.eps_model
    grid = sample.even_times(s, 20)
    late = [t for t in grid if t <= 0.8 * s.T]

    def changed(x0, before, after, part, rng):
        return pipe.change(x0, before, after, rng)

    def as_read(x0, before, after, part, rng):
        seen = read(model, x0)
        return changed(x0, seen, np.where(before == after, seen, after), part, rng)

    def translated(x0, before, after, part, rng):
        return last(edit.translate(cond(before), cond(after, 1.5), s, x0, grid, clip=1.0))

    def boxed(x0, before, after, part, rng):
        models, keep = (cond(before), cond(after, 2.0)), boxes(part)
        return last(edit.translate(*models, s, x0, late, keep=keep, clip=1.0))

    def inpainted(x0, before, after, part, rng):
        keep = edit.difference(cond(before), cond(after), s, x0, round(0.6 * s.T), rng, 5) < 0.2
        return last(edit.inpaint(cond(after, 1.5), s, x0, keep, rng, grid, clip=1.0))

    def sdedit(strength):
        def redrawn(x0, before, after, part, rng):
            how = strength, rng, grid
            return last(edit.image_to_image(cond(after, 1.5), s, x0, *how, clip=1.0))

        return redrawn

    return {
        "Pipeline.change: difference, translate in it, w 2": changed,
        "the same, labels read by the classifier": as_read,
        "box drawn by hand, translate in it, w 2": boxed,
        "difference, inpaint it, w 1.5": inpainted,
        "translate, w 1.5": translated,
        **{f"SDEdit {strength}, w 1.5": sdedit(strength) for strength in (0.4, 0.6, 0.8)},
    }


def print_row(*cells):
    """Print a line of a Markdown table."""
    print("| " + " | ".join(cells) + " |", flush=True)


def print_head(*names):
    """Print the head of a Markdown table."""
    print_row(*names)
    print("| --- " * len(names) + "|")


def measured(model, pairs, images):
    """Measure images that should be pairs.after -> the cells of a line of the table"""
    seen, was, N = read(model, images), read(model, pairs.before), np.arange(len(images))
    reached = seen[N, pairs.changed] == pairs.labels_after[N, pairs.changed]
    stay = ((seen == was) | (pairs.labels_before != pairs.labels_after)).all(1)
    part = np.any(pairs.before != pairs.after, axis=-1)
    outside = (np.any(np.abs(images - pairs.before) > 0.2, axis=-1) & ~part).sum((1, 2))
    error = ((images - pairs.after) / 2) ** 2
    rmse = [np.sqrt(error[where].mean()) for where in (part, ~part)]
    kinds = [pairs.changed == k for k in np.unique(pairs.changed)]
    each = [f"{reached[i].mean():.0%} {stay[i].mean():.0%} {outside[i].mean():.1f}" for i in kinds]
    means = [f"{v.mean():.1%}" for v in (reached, stay, reached & stay)]
    return *means, f"{outside.mean():.1f}", *(f"{r:.3f}" for r in rmse), *each


def attributes(n):
    """Print the table of `attributes` for n portraits."""
    pipe, (model, _) = Pipeline.load("portraits"), classifier.load("portraits")
    d = data.load_edits()
    i = np.linspace(0, len(d.before) - 1, min(n, len(d.before))).round().astype(int)
    kept = (d.before, d.after, d.labels_before, d.labels_after, d.changed)
    d = data.Edits(*(v[i] for v in kept), d.labels)
    part = np.any(d.before != d.after, axis=-1)
    each = [f"{list(d.labels)[k]}: reached, stay, outside" for k in np.unique(d.changed)]
    columns = ("reached", "stay", "both", "outside, pixels", "RMSE inside", "RMSE outside")
    print_head("way", *columns, *each)
    print_row("the picture before", *measured(model, d, d.before))
    print_row("the true picture after", *measured(model, d, d.after))
    for name, way in ways(pipe, model).items():
        rng, images = np.random.default_rng(0), []
        for j in range(0, len(d.before), BATCH):
            b = slice(j, j + BATCH)
            images.append(way(d.before[b], d.labels_before[b], d.labels_after[b], part[b], rng))
        print_row(name, *measured(model, d, np.concatenate(images)))


def inpaint(n):
    """Print the table of `inpaint` for n portraits."""
    pipe, (model, _) = Pipeline.load("portraits"), classifier.load("portraits")
    faces, s = data.load("portraits"), pipe.s
    x0, labels, times = faces.test[:n], faces.test_labels[:n], sample.even_times(s, 15)
    columns = ("known pixels unchanged", "step across the edge, of the real one")
    print_head("drawn anew", "way", *columns, "labels read as given", *faces.labels)

    def line(part, way, images, keep):
        same = np.mean(images[:, keep] == x0[:, keep])
        step = edit.edge_energy(images, keep) / edit.edge_energy(x0, keep)
        right = classifier.accuracy(model, images, labels)
        shares = [f"{v:.1%}" for v in (right.mean(), *right)]
        print_row(part, way, f"{same:.1%}", f"{step:.2f}", *shares)

    hows = {"replacement": {}, "RePaint, 5 rounds, wide": {"rounds": 5, "wide": True}}
    for part, place in MASKS.items():
        keep = np.ones(x0.shape[1:3], bool)
        keep[place] = False
        line(part, "the real images", x0, keep)
        for way, how in hows.items():
            rng, drawn = np.random.default_rng(0), []
            for j in range(0, len(x0), BATCH):
                eps_model, known = pipe.eps_model(labels[j : j + BATCH], 1.5), x0[j : j + BATCH]
                steps = edit.inpaint(eps_model, s, known, keep, rng, times, clip=1.0, **how)
                drawn.append(last(steps))
            line(part, way, np.concatenate(drawn), keep)


def pictures(_):
    """Draw the two pictures of `pictures`."""
    pipe, d = Pipeline.load("portraits"), data.load_edits()
    chosen = [np.flatnonzero(d.changed == k)[[3, 11, 25, 40]] for k in np.unique(d.changed)]
    i, rng = np.concatenate(chosen), np.random.default_rng(0)
    images = pipe.change(d.before[i], d.labels_before[i], d.labels_after[i], rng)
    rows = np.stack([d.before[i], images, d.after[i]], axis=1).reshape(-1, *images.shape[1:])
    print(plot.save_png(plot.sheet(rows, 12, scale=4), "out/edits.png"))
    shares, drawn = np.linspace(0, 1, 7).reshape(-1, 1, 1, 1), []
    noise = np.random.default_rng(3).standard_normal((1, 16, 16, 3), dtype=np.float32)
    x_T, times = np.repeat(noise, len(shares), axis=0), sample.even_times(pipe.s, 20)
    for label, ends in BLENDS.items():
        models = []
        for end in ends:
            others = [word for word in FACE.split() if not word.startswith(f"{label}=")]
            row = parse_labels(pipe.labels, [*others, f"{label}={end}"])
            models.append(pipe.eps_model(np.tile(row, (len(shares), 1))))
        blended = guide.blend(*models, shares)
        drawn.append(last(sample.ddim(blended, pipe.s, x_T.shape, None, times, x_T=x_T, clip=1.0)))
    print(plot.save_png(plot.sheet(np.concatenate(drawn), len(shares), scale=4), "out/blend.png"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure edits of portraits.")
    parser.add_argument("what", choices=["attributes", "inpaint", "pictures"])
    parser.add_argument("--n", type=int, default=300, help="how many portraits (default: 300)")
    args = parser.parse_args()
    {"attributes": attributes, "inpaint": inpaint, "pictures": pictures}[args.what](args.n)
