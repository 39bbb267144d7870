"""One page that shows what the included models can do: one row per use, in half a minute.

Nothing is picked by hand but the subjects: what stands here is what the first call with a seed
gives.
"""

import numpy as np

from .. import data, plot, sample
from ..design import colour, edit, gatys, paired, restore
from ..design.pipeline import Pipeline, parse_labels
from ..measure import classifier
from .cli import USUAL

STEPS = 25  # of ddim, where a hole is filled and between two pictures
EVALUATIONS = 5890  # of the networks, that all rows take, each of one image
FACES = [3, 5, 8, 13]  # held-out portraits to work on
EMOJI = ("tomato", "penguin", "house with garden", "cactus")  # unseen subjects


def rows(seed, tick=None):
    """Draw the rows of the page one after the other, each with a new generator of random numbers.

    So no row depends on those before it.
    seed: int; tick: see Pipeline, it counts up to EVALUATIONS
    -> yields title, words, [(caption, picture (height, width, 3) uint8), ...], as `page` takes them
    """
    for row in ROWS:
        yield row(np.random.default_rng(seed), tick)


def on_request(rng, tick=None):
    """Draw portraits for a few words each. rng -> a row, pictures (height, width, 3)"""
    pipe = Pipeline.load("portraits", tick)
    asked = ("hat=red glasses=dark", "hair=long hair-colour=blue", "hair-colour=blond beard=beard")
    labels = np.repeat([parse_labels(pipe.labels, words.split()) for words in asked], 4, axis=0)
    x = pipe.draw(labels, rng, *USUAL["sample"], w=2.0)[-1]
    sheets = [plot.sheet(part, 4, scale=4) for part in np.split(x, len(asked))]
    words = "People who don't exist, drawn for a few words each (classifier-free guidance)."
    return "On request", words, list(zip(asked, sheets, strict=True))


def faces():
    """Take the held-out portraits to work on: -> images (N, 16, 16, 3), labels (N, 9)"""
    portraits = data.load("portraits")
    return portraits.test[FACES], portraits.test_labels[FACES]


def filled_in(rng, tick=None):
    """Draw the upper part of portraits again. rng -> a row, pictures (height, width, 3)"""
    pipe = Pipeline.load("portraits", tick)
    x0, labels = (np.repeat(v[:2], 5, axis=0) for v in faces())
    keep = np.repeat(np.arange(16)[:, None] > 6, 16, axis=1)
    labels[:, :4] = pipe.model.classes[:4]  # hat, glasses, hair, its colour: whatever it likes
    eps_model, times = pipe.eps_model(labels), sample.even_times(pipe.s, STEPS)
    options = {"rounds": 4, "wide": True, "clip": 1.0}
    *_, x = edit.inpaint(eps_model, pipe.s, x0, keep, rng, times, **options)
    with_hole = np.where(keep[..., None], x0, 0)
    caption = "the hole, and five ways to fill it"
    pictures = [(caption, sheet([with_hole[i], *x[i : i + 5]])) for i in (0, 5)]
    words = "What is grey was drawn anew; the rest is as it was, bit for bit (inpainting)."
    return "Filled in", words, pictures


def changed(rng, tick=None):
    """Change one thing of portraits at a time. rng -> a row, pictures (height, width, 3)"""
    pipe = Pipeline.load("portraits", tick)
    edits = (
        "hat=red hat=green glasses=none hair-colour=red background=violet clothes=navy mouth=sad"
    )
    edits = edits.split()
    (x0, labels), names = (v[:2] for v in faces()), list(pipe.labels)
    after = np.tile(labels, (len(edits), 1, 1))
    for i, words in enumerate(edits):
        k = names.index(words.split("=")[0])
        after[i, :, k] = parse_labels(pipe.labels, [words])[k]
    x, before = (np.tile(v, (len(edits), *[1] * (v.ndim - 1))) for v in (x0, labels))
    x = pipe.change(x, before, after.reshape(before.shape), rng)  # all in one go: faster
    captioned = zip(("before", *edits), [x0, *np.split(x, len(edits))], strict=True)
    pictures = [(caption, sheet(x, 1)) for caption, x in captioned]
    words = "The model finds where two descriptions disagree, and draws that part anew (DiffEdit)."
    return "One thing changed", words, pictures


def between(rng, tick=None):
    """Draw a way from one portrait to another. rng -> a row, pictures (height, width, 3)"""
    pipe = Pipeline.load("portraits", tick)
    x0, _ = faces()
    uncond, shares = pipe.eps_model(None), np.linspace(0, 1, 7)
    times = sample.even_times(pipe.s, STEPS)
    x = edit.interpolate(uncond, pipe.s, x0[:2], x0[2:4], shares, times, rounds=2)
    pictures = [("both ends are real", sheet(x[:, i])) for i in (0, 1)]
    words = "Two portraits are turned into noise; the arc between them is drawn (DDIM inversion)."
    return "In between", words, pictures


def tiles(rng, tick=None):
    """Draw seamless tiles, three by three, and a panorama. rng -> a row, (height, width, 3)"""
    pipe = Pipeline.load("patterns", tick)
    asked = ("petals rose", "checks terracotta", "dots ocean", "camouflage night")
    labels = labels_of(pipe, asked)
    x = pipe.tile(labels, rng, *USUAL["sample --tile"][1:], w=2.5)[-1]
    wide = pipe.draw(labels[[0, 3]], rng, *USUAL["sample"], w=2.5, size=(16, 64))[-1]
    sheets = [sheet([np.tile(tile, (3, 3, 1))], scale=3) for tile in x]
    pictures = list(zip(asked, sheets, strict=True))
    pictures.append(("wider than the model has seen", plot.sheet(wide, 1, scale=3)))
    words = "Each is one tile, nine times: no seam (circular padding, a random shift at each step)."
    return "Tiles", words, pictures


def cloth(rng, tick=None):
    """Draw larger tiles, two by two, and a banner. rng -> a row, pictures (height, width, 3)"""
    pipe, how = Pipeline.load("patterns32", tick), USUAL["sample --tile"][1:]
    asked = ("checks berry", "arcs terracotta", "triangles indigo", "waves night")
    x = pipe.tile(labels_of(pipe, asked), rng, *how, w=2.5)[-1]
    sheets = [sheet([np.tile(tile, (2, 2, 1))], scale=3) for tile in x]
    pictures = list(zip(asked, sheets, strict=True))
    wide = pipe.tile(labels_of(pipe, ["stripes ocean"]), rng, *how, w=2.5, size=(64, 32))[-1]
    pictures.append(("stripes ocean", sheet(wide, scale=3)))
    words = "Tiles of 32 x 32 pixels, each four times; the last is one picture of 64 x 32."
    return "Cloth and paper", words, pictures


def labels_of(pipe, asked):
    """Read words as "petals rose", a value per label. -> (N, number of labels) ints"""
    named = [zip(pipe.labels, words.split(), strict=True) for words in asked]
    return np.array([parse_labels(pipe.labels, map("=".join, pairs)) for pairs in named])


def emoji_subjects(styles, of, to):
    """Look up the EMOJI in two styles. -> source (N, H, W, 3), truth (N, H, W, 3)"""
    subjects = styles.images[[styles.names.index(name) for name in EMOJI]]
    return subjects[:, styles.styles.index(of)], subjects[:, styles.styles.index(to)]


def restyled(rng, tick=None):
    """Draw unseen emoji in another style. rng -> a row, pictures (height, width, 3)"""
    pipe, styles = Pipeline.load("emoji", tick), data.load_styles("emoji")
    pictures, (sampler, steps, _) = [], USUAL["restyle"]
    for of, to in paired.DIRECTIONS:
        source, truth = emoji_subjects(styles, of, to)
        x = pipe.restyle(source, to, rng, steps=steps, w=2.0, sampler=sampler)
        pictures.append((f"{of}, {to} as drawn here, {to}", side_by_side(source, x, truth)))
    words = "Unseen subjects: the model looks at the left picture; the right one is the truth."
    return "In another style", words, pictures


def completed(rng, tick=None):
    """Complete alphabets from a few letters. rng -> a row, pictures (height, width, 3)"""
    pipe, typefaces = Pipeline.load("typefaces", tick), data.load_styles("typefaces")
    lines, (sampler, steps, _) = [], USUAL["alphabet"]
    for face in ("lobster", "alfa-slab-one"):
        letters = typefaces.images[:, typefaces.styles.index(face)]
        known = {c: letters[typefaces.names.index(c)] for c in "AERT"}
        given = [known.get(c, np.zeros((16, 16, 1))) for c in typefaces.names]
        lines += [*given, *pipe.alphabet(known, rng, steps, 1.5, sampler), *letters]
    caption = "four letters given; the alphabet drawn from them; the real one"
    words = "In training the model has seen four in five letters of these faces; "
    words += "tests/bench/RESULTS.md measures it on unseen ones."
    pictures = [(caption, sheet(lines, 26, scale=2))]
    return "An alphabet from four letters", words, pictures


def three_ways(rng, tick=None):
    """Draw emoji in another style in four ways. rng -> a row, pictures (height, width, 3)"""
    pipe, (reader, _) = Pipeline.load("emoji", tick), classifier.load("emoji")
    styles = data.load_styles("emoji")
    source, truth = emoji_subjects(styles, "twemoji", "noto")
    pictures = [("twemoji", source)]
    ways = {
        "source": "looks at it",
        "inversion": "from its noise",
        "noise": "redraws what noise hid",
    }
    for way, caption in ways.items():
        sampler, steps, _ = USUAL["restyle" if way == "source" else "restyle --way"]
        x = pipe.restyle(source, "noto", rng, way, "twemoji", steps, w=2.0, sampler=sampler)
        pictures.append((caption, x))
    noto = gatys.style_of(reader, styles.images[~styles.test, styles.styles.index("noto")])
    *_, x = gatys.transfer(reader, source, noto)
    pictures += [("Gram matrices, no diffusion", x), ("noto, the truth", truth)]
    words = "Only the first way has seen pairs; the next two know styles alone; "
    words += "then what was done before, and the truth."
    return "One direction, four ways", words, [(caption, sheet(x, 2)) for caption, x in pictures]


def coloured(rng, tick=None):
    """Draw patterns and portraits in requested colours. rng -> a row, (height, width, 3)"""
    pictures = []
    asked = {
        "patterns": "#14213d #fca311 #e5e5e5",
        "portraits": "#1d2b53 #ff77a8 #fff1e8 #ffa300",
    }
    for name, words in asked.items():
        pipe, palette = Pipeline.load(name, tick), [colour.parse(c) for c in words.split()]
        cov = restore.covariance(data.load(name).train)
        labels = np.tile(parse_labels(pipe.labels, []), (6, 1))
        # stripes, waves, scales ...; hats of several colours
        labels[:, 0] = np.minimum([0, 1, 4, 7, 8, 9], labels[:, 0])
        also = lambda eps_model: colour.coloured(eps_model, pipe.s, cov, pipe.model.size, palette)
        x = pipe.draw(labels, rng, *USUAL["sample --palette"], w=2.0, also=also)[-1]
        pictures.append((words, sheet(x)))
    words = "The gradient of a colour loss at the guessed clean picture pulls every step."
    return "In given colours", words, pictures


def restored(rng, tick=None):
    """Draw what degraded portraits may have been. rng -> a row, pictures (height, width, 3)"""
    pipe = Pipeline.load("portraits", tick)
    portraits, (x0, _) = data.load("portraits"), faces()
    cov = restore.covariance(portraits.train)
    uncond = np.tile(parse_labels(pipe.labels, []), (2, 1))
    ways = {
        "noise": (restore.shrink(16, 3, 1), 0.3),
        "blurred": (restore.blur(16, 3, 1.0), 0.05),
        "half the size": (restore.shrink(16, 3, 2), 0.02),
        "a quarter": (restore.shrink(16, 3, 4), 0.02),
        "grey": (restore.grey(16, 3), 0.02),
    }
    pictures, (_, steps, times) = [], USUAL["edit --restore"]
    for caption, (A, sigma_y) in ways.items():
        y = restore.degrade(A, x0[:2])
        y = y + sigma_y * rng.standard_normal(y.shape, dtype=np.float32)
        x = pipe.restore(uncond, y, A, sigma_y, cov, rng, steps, times=times)
        wide = restore.enlarge(y, 16, 3)
        pictures.append((caption, side_by_side(wide, x, x0[:2], scale=3)))
    words = "What was left, what it may have been, what it was "
    words += "(held-out portraits; nothing was trained for this)."
    return "Restored", words, pictures


def sheet(images, columns=None, scale=4):
    """Lay images out in one row, or in columns.

    images: list of (H, W, C) -> (height, width, 3) uint8
    """
    return plot.sheet(np.stack(images), columns or len(images), scale=scale)


def side_by_side(before, drawn, truth, scale=4):
    """Lay triples out, one per line: each (N, H, W, C) -> (height, width, 3) uint8"""
    triples = np.stack([before, drawn, truth], 1)
    return sheet(triples.reshape(-1, *before.shape[1:]), 3, scale)


ROWS = (
    on_request,
    filled_in,
    changed,
    between,
    coloured,
    tiles,
    cloth,
    restyled,
    three_ways,
    completed,
    restored,
)


def page(rows, width=1000):
    """Lay out a page: for each row a title, a line that explains it, and captioned pictures.

    Pictures stand from left to right, pixel for pixel.
    rows: list of (title, words, [(caption, picture (height, width, 3) uint8), ...]); width: pixels
    -> matplotlib Figure. Raises ValueError when the pictures of a row are wider than the page.
    """
    margin, head, foot, between = 20, 44, 22, 16
    tallest = [max(picture.shape[0] for _, picture in pictures) for _, _, pictures in rows]
    heights = [head + tall + foot for tall in tallest]
    height = sum(heights) + margin
    figure = plot.figure(figsize=(width / 100, height / 100), dpi=100, facecolor="white")

    def write(text, x, y, **style):
        figure.text(x / width, y / height, text, **style)

    y = height - margin / 2  # the top of the row, counted from below, as matplotlib does
    for (title, words, pictures), high in zip(rows, heights, strict=True):
        write(title, margin, y - 17, fontsize=11, fontweight="bold")
        write(words, margin, y - 35, fontsize=8.5, color="0.35")
        x = margin
        for caption, picture in pictures:
            tall, wide = picture.shape[:2]
            if x + wide > width:
                limit = f"the page of {width} pixels: take fewer or smaller pictures"
                raise ValueError(f"the row {title!r} is wider than {limit}")
            figure.figimage(picture, x, y - head - tall)
            write(caption, x + 2, y - head - tall - 13, fontsize=8, color="0.35")
            x += max(wide, 6 * len(caption)) + between
        y -= high
    return figure
