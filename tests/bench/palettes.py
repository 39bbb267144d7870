"""How do drawings in exactly given colours come out? Print a table in Markdown.

    python tests/bench/palettes.py [--n 128] [--only portraits]  # some minutes

exact: pixels whose colour is one of the palette's; blank: draws that lack a colour (of up to four
all are wanted, of more two), first as drawn, then after those have been drawn anew.
The shipped judge reads, of the labels that were asked for, in four kinds of pictures: `free`, drawn
without a palette; `drawn`, as the command draws them; `snapped`, the free ones with each pixel
brought to its nearest colour; `real`, held-out pictures with the same labels brought to the colours
as the drawn ones are in their last step: what the judge can read at best in so few colours.
flat: pixels that have a neighbour of their own colour. All with guidance 2.
"""

import argparse
from types import SimpleNamespace

import numpy as np

from tinydiff import data
from tinydiff.app import colours, picked
from tinydiff.app.cli import USUAL
from tinydiff.data import to_float, to_uint8
from tinydiff.design import palette
from tinydiff.design.pipeline import Pipeline, parse_labels
from tinydiff.measure import classifier

TWO, BRAND = "#1d3557 #f1faee", "#14213d #fca311 #e5e5e5"
BLUES = "#14213d #5a6b8c #a9b4c8 #f4f1e8"
SIXTEEN = "#000000 #1d2b53 #7e2553 #008751 #ab5236 #5f574f #c2c3c7 #fff1e8 "
SIXTEEN += "#ff004d #ffa300 #ffec27 #00e436 #29adff #83769c #ff77a8 #ffccaa"
CASES = [  # model, what is asked for ("" = all values in turn), the colours, or how many to find
    ("patterns", "kind=scales", BRAND),
    ("patterns", "kind=checks", TWO),
    ("patterns", "kind=checks", BLUES),
    ("patterns", "kind=dots", TWO),
    ("patterns", "kind=dots", BRAND),
    ("patterns", "", TWO),
    ("patterns", "", BRAND),
    ("patterns", "", BLUES),
    ("patterns", "", SIXTEEN),
    ("patterns32", "kind=scales", BRAND),
    ("patterns32", "kind=dots", TWO),
    ("patterns32", "", BRAND),
    ("patterns32", "", BLUES),
    ("portraits", "skin=4 clothes=navy background=white hat=red", 16),
    ("portraits", "", 16),
    ("portraits", "", 32),
    ("portraits", "", 64),
    ("portraits", "", SIXTEEN),
    ("portraits", "", "#1d2b53 #ff77a8 #fff1e8 #ffa300"),
]


def labels_for(pipe, words, n):
    """Write n rows of labels: those of words, or of portraits at random, of patterns in turn."""
    if words:
        return np.tile(parse_labels(pipe.labels, words.split()), (n, 1))
    values = [len(v) for v in pipe.labels.values()]
    if pipe.dataset == "portraits":
        return np.random.default_rng(0).integers(0, values, (n, len(values)))
    return np.stack([np.arange(n) % values[0], np.full(n, values[1])], axis=1)


def held_out(pipe, labels):
    """Choose real pictures, of patterns with the kind that each row asks for -> images, labels"""
    real, n = data.load(pipe.dataset), len(labels)
    if pipe.dataset == "portraits":
        return real.test[:n], real.test_labels[:n]
    alike = [np.flatnonzero(real.test_labels[:, 0] == kind) for kind in labels[:, 0]]
    return real.test[[rows[k % len(rows)] for k, rows in enumerate(alike)]], labels


def in_colours(images, chosen):
    """Bring images to the colours as the last step of a drawing does."""
    least = 0.6 / len(chosen) if len(chosen) <= palette.FEW else 0
    return chosen[palette.posterior(images, chosen, palette.HARD, None, least).argmax(-1)]


def drawn_in(pipe, labels, wanted):
    """Draw as `sample` does -> images: free, in exact colours, these before any was drawn anew;

    and the colours (K, C)
    """
    n, all_drawn, how = len(labels), [], USUAL["sample --palette"]

    def draw(also, rows=range(n), attempt=0):
        row = lambda numbers: labels[np.asarray(numbers) % picked.FURTHER]
        draw_piece = lambda numbers, rng: pipe.draw(row(numbers), rng, *how, 2.0, also=also)
        numbers = [k + attempt * picked.FURTHER for k in rows]
        all_drawn.append(pipe.in_pieces(draw_piece, numbers, 0)[-1].copy())
        return [all_drawn[-1].copy()]

    def again(lost, attempt, also):
        return draw(also, lost, attempt)

    find = wanted if isinstance(wanted, int) else None
    args = SimpleNamespace(model=pipe.dataset, colours=find, dither=False, shares=None)
    given = None if find else colours.read(wanted.split())
    draw(None)
    chain, chosen, _ = colours.draw(args, pipe, given, draw, again)
    return all_drawn[0], chain[-1], all_drawn[2 if find else 1], to_float(chosen)


def measured(model, words, wanted, n):
    """Draw and judge n pictures -> a row of the table"""
    pipe, (judge, _) = Pipeline.load(model), classifier.load(model)
    labels = labels_for(pipe, words, n)
    asked = [k for k, M in enumerate(pipe.model.classes) if (labels[:, k] < M).all()]
    free, drawn, first, own = drawn_in(pipe, labels, wanted)
    snapped = own[palette.nearest(free, own)]
    read = lambda x, y: 100 * np.mean(classifier.accuracy(judge, x, y)[asked])
    readings = [read(x, labels) for x in (free, drawn, snapped)]
    real, of_real = held_out(pipe, labels)
    alike = model != "portraits" or not words  # of portraits too few have all of the words
    readings.append(read(in_colours(real, own), of_real) if alike else np.nan)
    index = [palette.nearest(x, own) for x in (first, drawn)]
    blank = [f"{100 * palette.lacking(x, len(own)).mean():.1f}" for x in index]
    same = [index[1] == np.roll(index[1], step, axis) for step in (1, -1) for axis in (1, 2)]
    exact = (to_uint8(drawn)[..., None, :] == to_uint8(own)).all(-1).any(-1)
    figures = [exact.mean() * 100, *readings, 100 * np.any(same, axis=0).mean()]
    exact, *judged, flat = (f"{figure:.1f}" for figure in figures)
    found = f"{len(own)} {'found' if isinstance(wanted, int) else 'given'}"
    words = words or {"portraits": "all nine labels"}.get(model, "kinds in turn")
    return f"| {' | '.join([model, words, found, exact, ', '.join(blank), *judged, flat])} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=128, help="pictures for each row (default: 128)")
    parser.add_argument("--only", help="rows of this model only")
    args = parser.parse_args()
    read_in = "free | drawn | snapped | real"
    print(f"| model | asked for | colours | exact % | blank % | {read_in} | flat % |")
    print("| --- " * 10 + "|")
    for case in CASES:
        if args.only in (None, case[0]):
            print(measured(*case, args.n), flush=True)


if __name__ == "__main__":
    main()
