"""What was found in a set of pictures, in a few lines, and a sheet of what the network will see."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .. import plot
from .source import number, some

SHOWN = 6  # values of a label that are named with their counts
ROWS, COLUMNS = 12, 12  # of the sheet
WIDE = 900  # pixels of the sheet, about
GAP, PAPER = 1, 232  # pixels and grey between pictures, so that those on white are seen whole
FONT, LONGEST, INK = 13, 28, (64, 64, 64)  # pixels, letters of a name, its colour
OPEN = "(open)"  # stands beside pictures without a label
SAYS = {
    "CMYK": "in CMYK, made RGB",
    "more than 8 bits": "of more than 8 bits per value, made 8",
    "turned": "turned as the camera was held",
    "first frame": "animated: the first frame of each is taken",
}


def lines(found):
    """Say what was found in a set, and how it is fitted.

    found: collection.Collection, with images (M, H, W, C) -> list of str
    """
    data = found.dataset
    M, said = len(data.train) + len(data.test), []
    said.append(f"{data.name}: {number(M, 'picture')}, {_sizes(found)}, {_colours(found)}")
    said += [f"  {line}" for line in found.said]
    said += [f"  {line}" for line in _left_out(found)]
    said += [f"  {line}" for line in _labels(found)]
    said += [f"  {line}" for line in _kinds(found)]
    said += [f"  {line}" for line in _alike(found)]
    said.append(f"trains at {_fitted(found)}")
    said.append(f"  {_split(found)}")
    return said


def _sizes(found):
    sizes = list(found.sizes)
    if len(sizes) == 1:
        return "{} x {} pixels".format(*sizes[0])
    if len(sizes) <= 3:
        return "of " + ", ".join("{} x {} ({:,})".format(*s, found.sizes[s]) for s in sizes)
    least, most = min(sizes, key=np.prod), max(sizes, key=np.prod)
    return "of {} sizes, from {} x {} to {} x {} pixels".format(len(sizes), *least, *most)


def _colours(found):
    if found.dataset.train.shape[3] == 3:
        return "in colour"
    return "grey, although stored in colour" if found.in_colour else "grey"


def _left_out(found):
    if found.unread:
        names = [name for name, _ in found.unread]
        said = f"{number(len(names), 'file')} cannot be read: {some(names)}"
        yield said
        yield f"  the first: {found.unread[0][1]}"
    if found.listed > found.taken:
        yield f"of its {found.listed:,} pictures {found.taken:,} are taken, evenly spaced"
    if found.plain:
        one = number(len(found.plain), "picture is", "pictures are")
        yield f"{one} of one colour only, and left out: {some(found.plain)}"


def _labels(found):
    """Name the labels and their values with the counts -> yields lines"""
    data = found.dataset
    rows = np.concatenate([data.train_labels, data.test_labels])
    for k, (label, values) in enumerate(data.labels.items()):
        counts = np.bincount(rows[:, k], minlength=len(values) + 1)
        named = [f"{value} {n:,}" for value, n in zip(values, counts, strict=False)]
        text = ", ".join(named[:SHOWN])
        if len(values) > SHOWN:
            text = f"{len(values)} values: {text}, ... {named[-1]}"
        if counts[len(values)]:
            text += f"; open {counts[len(values)]:,}"
        yield f"label {label}: {text}"
    if not data.labels:
        yield "no labels: folders in the folder, or a labels.csv, would be labels"


def _kinds(found):
    for kind, says in SAYS.items():
        if n := found.kinds[kind]:
            yield f"{number(n, 'picture')} {says}"
    if n := found.kinds["transparent"]:
        paper = "white" if found.how.paper else "black, as what is drawn is white"
        yield f"{number(n, 'picture')} with transparent parts: laid on {paper}"


def _alike(found):
    parts = []
    if found.copies:
        parts.append(number(found.copies, "copy of another", "copies of others"))
    if found.near:
        parts.append(f"{found.near:,} nearly the same as another")
    if parts:
        yield f"{', '.join(parts)}: kept together, in training or held out"
    if found.moved:
        yield f"{number(found.moved, 'held-out picture')} moved to training for that reason"


def _fitted(found):
    """Say at which size it trains, and how the pictures come to it -> str"""
    how, C = found.how, found.dataset.train.shape[3]
    size = f"{how.size} x {how.size}, {'colour' if C == 3 else 'grey'}"
    W, H = how.true
    side, cells = max(W, H), {k for k, *_ in how.cells.values()}
    if how.pixel_art:
        k = max(cells)
        true = f"pixel art of {W} x {H}"
        true += f", enlarged {k} times, read as such" if k > 1 and len(cells) == 1 else ""
        if side > how.size:
            return f"{size}: {true}; reduced by whole factors, without smoothing"
        if len(found.sizes) > 1:
            true += ", pixel for pixel, other sizes padded or reduced by whole factors"
        elif side == how.size and W == H and k == 1:
            return f"{size}: pixel for pixel"
        times = f"enlarged {how.factor} times, without smoothing" if how.factor > 1 else ""
        padded = "padded" if W != H or side * how.factor < how.size else ""
        rest = " and ".join(filter(None, (times, padded)))
        exact = "" if len(found.sizes) > 1 else ", pixel for pixel"
        return f"{size}: {true}" + (f"; {rest}" if rest else exact)
    if (W, H) == (how.size, how.size) and len(found.sizes) == 1:
        return f"{size}: pixel for pixel"
    way = "averaged over areas" if side > how.size else "enlarged smoothly"
    if how.framed or how.whole:
        way = "padded" if side <= how.size and how.size // side == 1 else f"{way}, padded"
        paper = "white" if how.paper else "black"
        way += " with the colour around them" if how.framed else f" with {paper}"
    elif W != H or len(found.sizes) > 1:
        way = f"cut to the middle square, {way}"
    kept = ", ".join(f"{s} x {s} {share:.0%}" for s, share in how.kept.items())
    top = 2 * max(how.kept, default=0)
    return f"{size}: {way}" + (f" (of what shows at {top} x {top}, {kept} is left)" if kept else "")


def _split(found):
    data = found.dataset
    if not len(data.test):
        few = "too few, or all nearly the same"
        return f"all {len(data.train):,} are trained on, none held out ({few})"
    own = ", as the set has it" if found.given else ""
    return f"{len(data.train):,} are trained on, {len(data.test):,} held out{own}"


def plan(meta, weights, minutes):
    """Say which network was chosen and how long it takes.

    meta: description, see checkpoint.py; weights: P; minutes: of a thousand steps of the batch's
    images (N, H, W, C) -> str
    """
    model = meta["model"]
    widths = ", ".join(str(m * model["width"]) for m in model["multipliers"])
    network = f"a U-Net of {weights / 1e6:.1f} million weights ({widths} channels)"
    batch = f"{meta['train']['batch']} pictures per step"
    took = f"{minutes:.1f} minutes" if minutes >= 0.95 else f"{60 * minutes:.0f} seconds"
    return f"{network}, {batch}: {took} per thousand steps on this machine"


def sheet(dataset):
    """Draw what the network will see: a row for each value of the first label, or rows of all.

    Pictures whose label is open have a row of their own.
    dataset: data.Dataset of (M, H, W, C) images -> (height, width, 3) uint8
    """
    size = dataset.train.shape[1]
    scale = max(1, min(6, WIDE // (COLUMNS * size)))
    label, values = next(iter(dataset.labels.items()), ("", []))
    rows = dataset.train_labels[:, 0] if values else np.zeros(0, int)
    if len(np.unique(rows)) < 2:
        n = min(len(dataset.train), ROWS * COLUMNS)
        x = dataset.train[np.arange(n) * len(dataset.train) // n]
        return plot.sheet(x, min(n, COLUMNS), gap=GAP, scale=scale, paper=PAPER)
    shown, blank = [], 2 * PAPER / 255 - 1
    chosen = np.arange(min(ROWS, len(values))) * len(values) // min(ROWS, len(values))
    named = [(k, values[k]) for k in chosen]
    named += [(len(values), OPEN)] if (rows == len(values)).any() else []
    for k, _ in named:
        where = np.flatnonzero(rows == k)
        n = min(COLUMNS, len(where))
        x = np.full((COLUMNS, *dataset.train.shape[1:]), blank, np.float32)
        x[:n] = dataset.train[where[np.arange(n) * len(where) // max(1, n)]]
        shown.append(x)
    picture = plot.sheet(np.concatenate(shown), COLUMNS, gap=GAP, scale=scale, paper=PAPER)
    left = len(values) - len(chosen)
    title = label + (f", {len(chosen)} of its {len(values)} values" if left else "")
    return _labelled(picture, [name for _, name in named], title)


def _labelled(picture, names, title):
    """Write a title above a sheet and a name beside each of its rows -> (height, width, 3) uint8"""
    font = ImageFont.load_default(FONT)
    names = [name if len(name) <= LONGEST else name[: LONGEST - 3] + "..." for name in names]
    margin = 16 + max(round(font.getlength(name)) for name in names)
    (height, width), head = picture.shape[:2], 2 * FONT
    page = Image.new("RGB", (margin + width + 8, head + height + 8), "white")
    page.paste(Image.fromarray(picture), (margin, head))
    pen, row = ImageDraw.Draw(page), height / len(names)
    pen.text((margin, head - 5), title, fill=INK, font=font, anchor="ls")
    for k, name in enumerate(names):
        pen.text((margin - 8, head + (k + 0.5) * row), name, fill=INK, font=font, anchor="rm")
    return np.asarray(page)
