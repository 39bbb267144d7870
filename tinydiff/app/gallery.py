"""One page that shows what the models that come along can do: a row for each use, all drawn anew, in under two minutes.

Nothing is picked by hand but the subjects: what stands here is what the first call with a seed gives.
"""

import numpy as np

from .. import data, plot, sample
from ..design import colour, edit, gatys, paired, restore
from ..design.pipeline import Pipeline, parse_labels
from ..measure import classifier

STEPS = 25  # of the samplers here
FACES = [3, 5, 8, 13]  # held-out portraits to work on
EMOJI = ("tomato", "penguin", "house with garden", "cactus")  # unseen subjects


def rows(seed):
    """Draw the rows of the page one after the other, each with a generator begun anew: no row depends on those before it.

    seed: int -> yields title, words, [(caption, picture (height, width, 3) uint8), ...], as `page` takes them
    """
    for row in ROWS:
        yield row(np.random.default_rng(seed))


def on_request(rng):
    """Portraits for a few words each. rng -> a row, pictures (height, width, 3)"""
    pipe = Pipeline.load("portraits")
    asked = ("hat=red glasses=dark", "hair=long hair-colour=blue", "hair-colour=blond beard=beard")
    labels = np.repeat([parse_labels(pipe.labels, words.split()) for words in asked], 4, axis=0)
    x = pipe.draw(labels, rng, "dpmpp_2m", 15, "karras", w=2.0)[-1]
    pictures = [
        (words, plot.sheet(part, 4, scale=4))
        for words, part in zip(asked, np.split(x, len(asked)), strict=True)
    ]
    return (
        "On request",
        "People who don't exist, drawn for a few words each (classifier-free guidance).",
        pictures,
    )


def faces():
    """Take the held-out portraits to work on: -> images (N, 16, 16, 3), labels (N, 9)"""
    portraits = data.load("portraits")
    return portraits.test[FACES], portraits.test_labels[FACES]


def filled_in(rng):
    """The upper part of portraits drawn anew. rng -> a row, pictures (height, width, 3)"""
    pipe = Pipeline.load("portraits")
    x0, labels = (np.repeat(v[:2], 5, axis=0) for v in faces())
    keep = np.repeat(np.arange(16)[:, None] > 6, 16, axis=1)
    labels[:, :4] = pipe.model.classes[
        :4
    ]  # hat, glasses, hair and its colour: whatever the model likes
    times = sample.even_times(pipe.s, STEPS)
    *_, x = edit.inpaint(
        pipe.eps_model(labels), pipe.s, x0, keep, rng, times, rounds=4, wide=True, clip=1.0
    )
    with_hole = np.where(keep[..., None], x0, 0)
    pictures = [
        ("the hole, and five ways to fill it", sheet([with_hole[i], *x[i : i + 5]])) for i in (0, 5)
    ]
    return (
        "Filled in",
        "What is grey was drawn anew; the rest is as it was, bit for bit (inpainting).",
        pictures,
    )


def changed(rng):
    """Portraits with one thing changed at a time. rng -> a row, pictures (height, width, 3)"""
    pipe = Pipeline.load("portraits")
    edits = (
        "hat=red",
        "hat=green",
        "glasses=none",
        "hair-colour=red",
        "background=violet",
        "clothes=navy",
        "mouth=sad",
    )
    (x0, labels), names = faces(), list(pipe.labels)
    drawn = [x0]
    for words in edits:
        row, after = parse_labels(pipe.labels, [words]), labels.copy()
        k = names.index(words.split("=")[0])
        after[:, k] = row[k]
        drawn.append(pipe.change(x0, labels, after, rng))
    pictures = [
        (caption, sheet(x[:2], 1)) for caption, x in zip(("before", *edits), drawn, strict=True)
    ]
    return (
        "One thing changed",
        "The model finds by itself where two tellings disagree, and draws that part anew (DiffEdit).",
        pictures,
    )


def between(rng):
    """From one portrait to another through portraits. rng -> a row, pictures (height, width, 3)"""
    pipe = Pipeline.load("portraits")
    x0, _ = faces()
    unconditional = pipe.eps_model(None)
    x = edit.interpolate(
        unconditional,
        pipe.s,
        x0[:2],
        x0[2:4],
        np.linspace(0, 1, 7),
        sample.even_times(pipe.s, STEPS),
        rounds=2,
    )
    pictures = [("both ends are real", sheet(x[:, i])) for i in (0, 1)]
    return (
        "In between",
        "Two portraits are turned into noise; what lies between on an arc is drawn (DDIM inversion).",
        pictures,
    )


def tiles(rng):
    """Seamless tiles, three by three, and a panorama. rng -> a row, pictures (height, width, 3)"""
    pipe = Pipeline.load("patterns")
    asked = ("petals rose", "checks terracotta", "dots ocean", "camouflage night")
    labels = np.array(
        [
            parse_labels(
                pipe.labels, [f"{k}={v}" for k, v in zip(pipe.labels, a.split(), strict=True)]
            )
            for a in asked
        ]
    )
    x = pipe.tile(labels, rng, STEPS, w=2.5)[-1]
    wide = pipe.draw(labels[[0, 3]], rng, steps=STEPS, w=2.5, size=(16, 64))[-1]
    pictures = [
        (a, sheet([np.tile(tile, (3, 3, 1))], scale=3)) for a, tile in zip(asked, x, strict=True)
    ]
    pictures.append(("wider than the model has seen", plot.sheet(wide, 1, scale=3)))
    return (
        "Tiles",
        "Each is one tile, nine times: no seam (circular padding, a random shift at each step).",
        pictures,
    )


def emoji_subjects(styles, of, to):
    """Look up the EMOJI in two styles. -> source (N, H, W, 3), truth (N, H, W, 3)"""
    subjects = styles.images[[styles.names.index(name) for name in EMOJI]]
    return subjects[:, styles.styles.index(of)], subjects[:, styles.styles.index(to)]


def restyled(rng):
    """Unseen emoji in another style. rng -> a row, pictures (height, width, 3)"""
    pipe, styles = Pipeline.load("emoji"), data.load_styles("emoji")
    pictures = []
    for of, to in paired.DIRECTIONS:
        source, truth = emoji_subjects(styles, of, to)
        x = pipe.restyle(source, to, rng, steps=STEPS, w=2.0)
        pictures.append(
            (
                f"{of}, {to} as drawn here, {to}",
                sheet(np.stack([source, x, truth], 1).reshape(-1, 16, 16, 3), 3, scale=4),
            )
        )
    return (
        "In another style",
        "Subjects that the model has never seen: it looks at the left picture; the right one is the truth.",
        pictures,
    )


def completed(rng):
    """An alphabet from a few letters. rng -> a row, pictures (height, width, 3)"""
    pipe, typefaces = Pipeline.load("typefaces"), data.load_styles("typefaces")
    lines = []
    for face in ("lobster", "alfa-slab-one"):
        letters = typefaces.images[:, typefaces.styles.index(face)]
        known = {c: letters[typefaces.names.index(c)] for c in "AERT"}
        given = [known.get(c, np.zeros((16, 16, 1))) for c in typefaces.names]
        lines += [*given, *pipe.alphabet(known, rng, STEPS, w=1.5), *letters]
    pictures = [
        (
            "four letters given; the alphabet drawn from them; the real one",
            sheet(lines, 26, scale=2),
        )
    ]
    return (
        "An alphabet from four letters",
        "In training the model has seen four in five letters of these faces; README measures it on unseen ones.",
        pictures,
    )


def three_ways(rng):
    """One direction, three ways and the one before diffusion. rng -> a row, pictures (height, width, 3)"""
    pipe, (judge, _), styles = (
        Pipeline.load("emoji"),
        classifier.load("emoji"),
        data.load_styles("emoji"),
    )
    source, truth = emoji_subjects(styles, "twemoji", "noto")
    pictures = [("twemoji", source)]
    ways = {
        "source": "looks at it",
        "inversion": "from its noise",
        "noise": "redraws what noise hid",
    }
    for way, caption in ways.items():
        x = pipe.restyle(source, "noto", rng, way, "twemoji", STEPS, w=2.0)
        pictures.append((caption, x))
    noto = gatys.style_of(judge, styles.images[~styles.test, styles.styles.index("noto")])
    *_, x = gatys.transfer(judge, source, noto)
    pictures += [("Gram matrices, no diffusion", x), ("noto, the truth", truth)]
    words = "Only the first way has seen pairs; the next two know styles alone; then what was done before, and the truth."
    return "One direction, four ways", words, [(caption, sheet(x, 2)) for caption, x in pictures]


def coloured(rng):
    """Patterns and portraits in colours that are asked for. rng -> a row, pictures (height, width, 3)"""
    pictures = []
    for name, words in (
        ("patterns", "#14213d #fca311 #e5e5e5"),
        ("portraits", "#1d2b53 #ff77a8 #fff1e8 #ffa300"),
    ):
        pipe = Pipeline.load(name)
        cov, palette = (
            restore.covariance(data.load(name).train),
            [colour.parse(c) for c in words.split()],
        )
        labels = np.tile(parse_labels(pipe.labels, []), (6, 1))
        labels[:, 0] = np.minimum(
            [0, 1, 4, 7, 8, 9], labels[:, 0]
        )  # stripes, waves, scales ...; hats of several colours
        also = lambda eps_model: colour.coloured(eps_model, pipe.s, cov, pipe.model.size, palette)
        pictures.append((words, sheet(pipe.draw(labels, rng, steps=STEPS, w=2.0, also=also)[-1])))
    return (
        "In given colours",
        "The gradient of a colour loss at the guessed clean picture pulls every step.",
        pictures,
    )


def restored(rng):
    """Degraded portraits, what they may have been, and what they were. rng -> a row, pictures (height, width, 3)"""
    pipe = Pipeline.load("portraits")
    portraits, (x0, _) = data.load("portraits"), faces()
    cov, untold = (
        restore.covariance(portraits.train),
        np.tile(parse_labels(pipe.labels, []), (2, 1)),
    )
    ways = {
        "noise": (restore.shrink(16, 3, 1), 0.3),
        "blurred": (restore.blur(16, 3, 1.0), 0.05),
        "half the size": (restore.shrink(16, 3, 2), 0.02),
        "a quarter": (restore.shrink(16, 3, 4), 0.02),
        "grey": (restore.grey(16, 3), 0.02),
    }
    pictures = []
    for caption, (A, sigma_y) in ways.items():
        y = restore.degrade(A, x0[:2])
        y = y + sigma_y * rng.standard_normal(y.shape, dtype=np.float32)
        x = pipe.restore(untold, y, A, sigma_y, cov, rng, STEPS)
        wide = restore.enlarge(y, 16, 3)
        pictures.append(
            (caption, sheet(np.stack([wide, x, x0[:2]], 1).reshape(-1, 16, 16, 3), 3, scale=3))
        )
    return (
        "Restored",
        "What was left, what it may have been, what it was (held-out portraits; nothing was trained for this).",
        pictures,
    )


def sheet(images, columns=None, scale=4):
    """Lay images out in one row, or in columns. images: list of (H, W, C) -> (height, width, 3) uint8"""
    return plot.sheet(np.stack(images), columns or len(images), scale=scale)


ROWS = (
    on_request,
    filled_in,
    changed,
    between,
    coloured,
    tiles,
    restyled,
    three_ways,
    completed,
    restored,
)


def page(rows, width=1000):
    """Lay out a page: for each row a title, a line that explains it, and captioned pictures from left to right, pixel for pixel.

    rows: list of (title, words, [(caption, picture (height, width, 3) uint8), ...]); width: pixels -> matplotlib Figure
    Raises ValueError when the pictures of a row are wider than the page.
    """
    from matplotlib.figure import Figure

    margin, head, foot, between = 20, 44, 22, 16
    tall = [
        head + max(picture.shape[0] for _, picture in pictures) + foot for _, _, pictures in rows
    ]
    height = sum(tall) + margin
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="white")
    y = height - margin / 2  # the top of the row, counted from below, as matplotlib does
    for (title, words, pictures), high in zip(rows, tall, strict=True):
        figure.text(margin / width, (y - 17) / height, title, fontsize=11, fontweight="bold")
        figure.text(margin / width, (y - 35) / height, words, fontsize=8.5, color="0.35")
        x = margin
        for caption, picture in pictures:
            if x + picture.shape[1] > width:
                raise ValueError(
                    f"the row {title!r} is wider than the page of {width} pixels: take fewer or smaller pictures"
                )
            figure.figimage(picture, x, y - head - picture.shape[0])
            figure.text(
                (x + 2) / width,
                (y - head - picture.shape[0] - 13) / height,
                caption,
                fontsize=8,
                color="0.35",
            )
            x += max(picture.shape[1], 6 * len(caption)) + between
        y -= high
    return figure
