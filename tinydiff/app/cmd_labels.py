"""The command `labels`: what may be asked of a model, in words and as pictures."""

from pathlib import Path

import numpy as np

from .. import plot
from ..collect.source import number
from ..data import load_styles, to_uint8
from ..design.pipeline import Pipeline, evaluations
from ..streams import Streams
from . import drawing, gallery
from .cli import USUAL
from .usage import UsageError, require_figures, require_picture

COLUMNS = 12  # pictures side by side; a label with more values takes more rows
SIDE, STRIP = 64, 12  # pixels: of a picture, and of a swatch below it
MOST = 600  # values that are drawn: a page of ten thousand pixels
GUIDANCE = 2.0
SUBJECT = "tomato"  # that is drawn in each style, by a model of styles


def cmd_labels(args):
    """Run `labels`: args from the parser -> None; prints them, and draws a picture of each value"""
    pipe = Pipeline.load(args.model)
    drawing.labels_of(pipe, [])
    if not pipe.labels:
        print(f"{args.model} takes no labels: it draws what it has learned")
        return
    words = " ".join(f"{name}={values[-1]}" for name, values in list(pipe.labels.items())[:2])
    print(f"{args.model}: {number(len(pipe.labels), 'label')}, asked for as --label {words}")
    wide = max(map(len, pipe.labels))
    for name, values in pipe.labels.items():
        print(f"  {name:{wide}}  {', '.join(values)}")
    if args.out or args.sheet:
        _draw(args, pipe, args.out or Path("out/labels.png"))


def _draw(args, pipe, path):
    """Draw a picture for each value of each label, and write them as one page -> None"""
    require_picture(path)
    require_figures()
    count = sum(map(len, pipe.labels.values()))
    if count > MOST:
        raise UsageError(f"{args.model} has {count:,} values, of which {MOST} would fit on a page")
    sampler, steps, times = USUAL["sample"]
    steps = min(steps, pipe.s.T)
    bar, pipe = drawing.with_bar(pipe, count * evaluations(pipe.s, sampler, steps, GUIDANCE))
    with bar:
        each = [(name, draw(pipe, name, args.seed, steps)) for name in pipe.labels]
    rows = [row for name, images in each for row in _rows(pipe, name, images)]
    width = max(sum(max(p.shape[1], 6 * len(c)) + 22 for c, p in row[2]) for row in rows) + 40
    picture = plot.save_figure(gallery.page(rows, max(width, 500)), path)
    print(f"{picture}: {number(count, 'value')}; but for its label a picture is as those beside it")


def draw(pipe, name, seed, steps):
    """Draw each value of a label, out of the same noise, and alike in the other labels

    These have "none", where there is such a value, or the middle one -> (values, H, W, C)
    """
    values, k = pipe.labels[name], list(pipe.labels).index(name)
    usual = [v.index("none") if "none" in v else len(v) // 2 for v in pipe.labels.values()]
    labels = np.tile(usual, (len(values), 1))
    labels[:, k] = np.arange(len(values))
    source = _subject(pipe, len(values)) if pipe.dataset == "emoji" else None
    pieces, (sampler, _, times) = [], USUAL["sample"]
    for rows in pipe.pieces(range(len(values))):
        rng, given = Streams(seed, [0] * len(rows)), None if source is None else source[: len(rows)]
        how = (sampler, steps, times)
        pieces.append(pipe.draw(labels[rows], rng, *how, w=GUIDANCE, source=given)[-1])
    return np.concatenate(pieces)


def _subject(pipe, n):
    """Take an emoji that a model of styles draws in each of them -> (n, H, W, 3)"""
    styles = load_styles("emoji")
    picture = styles.images[styles.names.index(SUBJECT), styles.styles.index("twemoji")]
    return np.repeat(picture[None], n, axis=0)


def _rows(pipe, name, images):
    """Lay the pictures of a label out -> rows, as gallery.page takes them"""
    values, zoom = pipe.labels[name], max(1, SIDE // pipe.model.size)
    pictures = [plot.sheet(x[None], 1, gap=0, scale=zoom) for x in images]
    captions = list(values)
    if pipe.model.out == 3 and len(pipe.labels) > 1 and all(v.isdecimal() for v in values):
        colours = swatches(images)
        strips = [
            np.broadcast_to(c, (STRIP, p.shape[1], 3))
            for c, p in zip(colours, pictures, strict=True)
        ]
        pictures = [np.concatenate(both) for both in zip(pictures, strips, strict=True)]
        captions = [
            "{} #{:02x}{:02x}{:02x}".format(v, *c) for v, c in zip(values, colours, strict=True)
        ]
    captioned = list(zip(captions, pictures, strict=True))
    parts = [captioned[i : i + COLUMNS] for i in range(0, len(captioned), COLUMNS)]
    return [(name, f"--label {name}={values[i * COLUMNS]}", p) for i, p in enumerate(parts)]


def swatches(images):
    """Find the colour that tells the values of a label apart: that of the places that differ.

    The median over the places whose colour varies at least half as much among the images, drawn
    out of the same noise, as where it varies most, but for the 5% that vary most: outlines do.
    images: (N, H, W, 3) in [-1, 1] -> (N, 3) uint8
    """
    pixels = images.reshape(len(images), -1, 3)
    varies = pixels.var(0).sum(-1)
    most = np.quantile(varies, 0.95)
    places = (varies >= most / 2) & (varies <= most)
    return to_uint8(np.median(pixels[:, places], axis=1))
