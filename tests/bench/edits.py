"""How good are edits of portraits?  python tests/bench/edits.py attributes|inpaint|pictures [--n N]  prints a table in Markdown.

attributes: one label of a held-out portrait is changed; data.load_edits knows what must come of it. Reached: the judge reads the new
value; stay: it reads the eight other labels as in the picture before; outside: pixels that differ from before by more than 0.1 of the
range in some channel, though they should not; RMSE to the true picture (range 0 .. 1) inside and outside the part that should change.
Inside, many pictures are right where a hat or glasses are added: there an error says little.
inpaint: a part of held-out portraits is drawn anew, told their labels.
pictures: writes out/edits.png, a row for each label changed, four times before, changed, truth; and out/blend.png, from one
label to another.
"""

import argparse

import numpy as np

from tinydiff import checkpoint, data, guide, plot, sample
from tinydiff.design import edit
from tinydiff.design.pipeline import change, guided, wishes
from tinydiff.measure import classifier

BATCH = 100
MASKS = {
    "hat region (upper 6 rows)": np.s_[:6],
    "middle 8 x 8": np.s_[4:12, 4:12],
    "right half": np.s_[:, 8:],
}


def boxes(parts):
    """Draw a box around each part. (N, H, W) bool -> (N, H, W, 1) bool, True = outside, keep"""
    rows, columns = parts.any(2), parts.any(1)
    filled = [
        np.maximum.accumulate(v, 1) & np.maximum.accumulate(v[:, ::-1], 1)[:, ::-1]
        for v in (rows, columns)
    ]
    return ~(filled[0][:, :, None] & filled[1][:, None])[..., None]


def read(judge, images):
    return np.stack([scores.argmax(1) for scores in judge(images)], axis=1)


def ways(model, s, about, judge):
    """List the ways to edit: name -> function (x0, labels before, labels after, part that changes, rng) -> images"""
    T, told = s.T, lambda labels, w=1.0: guided(model, s, about, labels, w)
    grid = sample.even_times(s, 20)

    def last(steps):
        *_, x = steps
        return x

    def changed(x0, before, after, part, rng):
        return change(model, s, about, x0, before, after, rng)

    def as_read(x0, before, after, part, rng):
        seen = read(judge, x0)
        return changed(x0, seen, np.where(before == after, seen, after), part, rng)

    def translated(x0, before, after, part, rng):
        return last(edit.translate(told(before), told(after, 1.5), s, x0, grid, clip=1.0))

    def boxed(x0, before, after, part, rng):
        late = [t for t in grid if t <= 0.8 * T]
        return last(
            edit.translate(told(before), told(after, 2.0), s, x0, late, keep=boxes(part), clip=1.0)
        )

    def inpainted(x0, before, after, part, rng):
        keep = edit.difference(told(before), told(after), s, x0, round(0.6 * T), rng, 5) < 0.2
        return last(edit.inpaint(told(after, 1.5), s, x0, keep, rng, grid, clip=1.0))

    def sdedit(strength):
        return lambda x0, before, after, part, rng: last(
            edit.image_to_image(told(after, 1.5), s, x0, strength, rng, grid, clip=1.0)
        )

    return {
        "draw.change: difference, translate in it, w 2": changed,
        "the same, labels read by the judge": as_read,
        "box drawn by hand, translate in it, w 2": boxed,
        "difference, inpaint it, w 1.5": inpainted,
        "translate, w 1.5": translated,
        **{f"SDEdit {strength}, w 1.5": sdedit(strength) for strength in (0.4, 0.6, 0.8)},
    }


def row(name, judge, pairs, images):
    """Measure images that should be pairs.after -> a line of the table"""
    seen, was, N = read(judge, images), read(judge, pairs.before), np.arange(len(images))
    reached = seen[N, pairs.changed] == pairs.labels_after[N, pairs.changed]
    stay = ((seen == was) | (pairs.labels_before != pairs.labels_after)).all(1)
    part = np.any(pairs.before != pairs.after, axis=-1)
    outside = (np.any(np.abs(images - pairs.before) > 0.2, axis=-1) & ~part).sum((1, 2))
    error = ((images - pairs.after) / 2) ** 2
    rmse = [np.sqrt(error[where].mean()) for where in (part, ~part)]
    kinds = [pairs.changed == k for k in np.unique(pairs.changed)]
    each = [f"{reached[i].mean():.0%} {stay[i].mean():.0%} {outside[i].mean():.1f}" for i in kinds]
    means = [f"{v.mean():.1%}" for v in (reached, stay, reached & stay)]
    return (
        "| "
        + " | ".join([name, *means, f"{outside.mean():.1f}", *(f"{r:.3f}" for r in rmse), *each])
        + " |"
    )


def attributes(n):
    (model, s, about), (judge, _) = (
        checkpoint.pretrained("portraits"),
        classifier.load("portraits"),
    )
    d = data.load_edits()
    i = np.linspace(0, len(d.before) - 1, min(n, len(d.before))).round().astype(int)
    d = data.Edits(
        *(v[i] for v in (d.before, d.after, d.labels_before, d.labels_after, d.changed)), d.labels
    )
    part = np.any(d.before != d.after, axis=-1)
    names = [f"{list(d.labels)[k]}: reached, stay, outside" for k in np.unique(d.changed)]
    head = [
        "way",
        "reached",
        "stay",
        "both",
        "outside, pixels",
        "RMSE inside",
        "RMSE outside",
        *names,
    ]
    print("| " + " | ".join(head) + " |\n" + "| --- " * len(head) + "|")
    print(
        row("the picture before", judge, d, d.before),
        row("the true picture after", judge, d, d.after),
        sep="\n",
        flush=True,
    )
    for name, way in ways(model, s, about, judge).items():
        rng = np.random.default_rng(0)
        batches = [slice(j, j + BATCH) for j in range(0, len(d.before), BATCH)]
        images = [
            way(d.before[b], d.labels_before[b], d.labels_after[b], part[b], rng) for b in batches
        ]
        print(row(name, judge, d, np.concatenate(images)), flush=True)


def inpaint(n):
    (model, s, about), (judge, _) = (
        checkpoint.pretrained("portraits"),
        classifier.load("portraits"),
    )
    faces = data.load("portraits")
    x0, labels, times = faces.test[:n], faces.test_labels[:n], sample.even_times(s, 15)
    head = [
        "drawn anew",
        "way",
        "known pixels unchanged",
        "step across the edge, of the real one",
        "labels read as told",
        *faces.labels,
    ]
    print("| " + " | ".join(head) + " |\n" + "| --- " * len(head) + "|")

    def line(part, way, images, keep):
        same = np.mean(images[:, keep] == x0[:, keep])
        step = edit.edge_energy(images, keep) / edit.edge_energy(x0, keep)
        right = classifier.accuracy(judge, images, labels)
        print(
            "| "
            + " | ".join(
                [
                    part,
                    way,
                    f"{same:.1%}",
                    f"{step:.2f}",
                    *(f"{v:.1%}" for v in (right.mean(), *right)),
                ]
            )
            + " |",
            flush=True,
        )

    for part, place in MASKS.items():
        keep = np.ones(x0.shape[1:3], bool)
        keep[place] = False
        line(part, "the real images", x0, keep)
        for way, how in {
            "replacement": {},
            "RePaint, 5 rounds, wide": {"rounds": 5, "wide": True},
        }.items():
            rng, drawn = np.random.default_rng(0), []
            for j in range(0, len(x0), BATCH):
                eps_model = guided(model, s, about, labels[j : j + BATCH], 1.5)
                *_, x = edit.inpaint(
                    eps_model, s, x0[j : j + BATCH], keep, rng, times, clip=1.0, **how
                )
                drawn.append(x)
            line(part, way, np.concatenate(drawn), keep)


def pictures(_):
    model, s, about = checkpoint.pretrained("portraits")
    d = data.load_edits()
    i = np.concatenate(
        [np.flatnonzero(d.changed == k)[[3, 11, 25, 40]] for k in np.unique(d.changed)]
    )
    images = change(
        model,
        s,
        about,
        d.before[i],
        d.labels_before[i],
        d.labels_after[i],
        np.random.default_rng(0),
    )
    rows = np.stack([d.before[i], images, d.after[i]], axis=1).reshape(-1, *images.shape[1:])
    print(plot.save_png(plot.sheet(rows, 12, scale=4), "out/edits.png"))
    face = "hat=none glasses=none hair=long hair-colour=black-brown beard=none mouth=happy skin=6 clothes=navy background=lilac"
    shares, drawn = np.linspace(0, 1, 7).reshape(-1, 1, 1, 1), []
    x_T = np.repeat(
        np.random.default_rng(3).standard_normal((1, 16, 16, 3), dtype=np.float32),
        len(shares),
        axis=0,
    )
    for label, *ends in (
        ("hat", "red", "blue"),
        ("hair-colour", "black-brown", "blond"),
        ("background", "pink", "blue"),
    ):
        told = []
        for end in ends:
            words = [
                f"{label}={end}" if word.startswith(f"{label}=") else word for word in face.split()
            ]
            told.append(
                guided(model, s, about, np.tile(wishes(about["labels"], words), (len(shares), 1)))
            )
        *_, x = sample.ddim(
            guide.blend(*told, shares),
            s,
            x_T.shape,
            None,
            sample.even_times(s, 20),
            x_T=x_T,
            clip=1.0,
        )
        drawn.append(x)
    print(plot.save_png(plot.sheet(np.concatenate(drawn), len(shares), scale=4), "out/blend.png"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure edits of portraits.")
    parser.add_argument("what", choices=["attributes", "inpaint", "pictures"])
    parser.add_argument("--n", type=int, default=300, help="how many portraits (default: 300)")
    args = parser.parse_args()
    {"attributes": attributes, "inpaint": inpaint, "pictures": pictures}[args.what](args.n)
