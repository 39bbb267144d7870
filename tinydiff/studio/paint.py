"""The paint box: what is painted by hand, and what a model makes of it while the brush moves.

    paint.mask()        # paint on a portrait what is to be drawn anew
    paint.sketch()      # paint a sketch and see it coloured in
    paint.alphabet()    # paint a letter or two; the others come in the same hand
    paint.pattern()     # paint, choose colours, see the tile repeat, save it

An easel is a dict: name of the keyword that holds what is painted; size, pixels per side; label;
inks, list of {colour, label}; blank, the colour of unpainted pixels. If need be also: hatched, what
is painted is striped, not coloured; any, any colour may be picked; follows, a control whose colours
are inks, too; key, a control that says which of several drawings lies on the easel.
"""

import numpy as np

from .. import data, plot, sample
from ..data import to_float, to_uint8
from ..design import colour, edit, restore
from ..design.pipeline import Pipeline
from ..unet import circular
from .hands import ANY, asked, wish
from .live import Hand, choice, colours, dice, row, slider

BLACK = {"colour": "000000", "label": "black"}
GREY = {"colour": "808080", "label": "grey"}
WHITE = {"colour": "ffffff", "label": "white"}


# --- what is painted, as the browser has it: six hexadecimal digits per pixel ---


def painted(text, size, channels=3):
    """Read what is painted: str, pixels per side, 1 or 3 channels -> (1, H, W, C) in [-1, 1]"""
    pixels = np.frombuffer(bytes.fromhex(text), np.uint8).reshape(1, size, size, 3)
    return to_float(pixels[..., :channels])


def as_painted(image):
    """Write a picture as if it were painted: (H, W, C) in [-1, 1] -> str"""
    pixels = to_uint8(image[None])[0]
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3)).tobytes().hex()


def mask(photos=None, pipe=None, ask=("hat", "glasses"), n=3, steps=12, names=None):
    """Paint on a picture what is to be drawn anew, and see it filled n times, live: edit.inpaint.

    photos: (N, H, W, C), None = some held-out portraits; ask: labels that can be requested, guided
    by w = 2; names: of the photos, for the list -> Hand
    """
    pipe = pipe or Pipeline.load("portraits")
    photos = data.load("portraits").test[[9, 0, 1, 4, 6, 7]] if photos is None else photos
    names = names or [f"picture {i + 1}" for i in range(len(photos))]
    size = photos.shape[1]
    hole = np.zeros((size, size, 1))
    hole[: 6 * size // 16] = 1  # hat and hair of a portrait

    def draw(photo, drawing, rounds, seed, **wishes):
        x0 = np.repeat(photos[[photo]], n, axis=0)
        keep = painted(drawing, size, 1)[0] < 0
        labels, rng = np.tile(asked(pipe, wishes), (n, 1)), np.random.default_rng(seed)
        eps_model = pipe.eps_model(labels, 2.0 if set(wishes.values()) != {ANY} else 1.0)
        how = {"rounds": rounds, "wide": rounds > 1, "clip": 1.0}
        times = sample.even_times(pipe.s, steps)
        *_, x = edit.inpaint(eps_model, pipe.s, x0, keep, rng, times, **how)
        drawn = f"{(~keep).sum()} of {keep.size} pixels are drawn anew"
        filled = row(np.asarray(x), "drawn anew, three times" if n == 3 else "drawn anew", scale=8)
        given = row(np.where(keep, photos[photo], 0)[None], "the grey part is drawn anew", scale=8)
        ground = to_uint8(photos[[photo]]).tobytes()
        return {"rows": [filled], "note": drawn, "ground": ground, "given": given}

    controls = [
        choice("photo", "picture", 0, {name: i for i, name in enumerate(names)}),
        *(wish(pipe, label) for label in ask),
        slider("rounds", "rounds", 1, 1, 3, hint="how often each step is taken again"),
        dice(),
    ]
    inks = [WHITE | {"label": "draw anew"}, BLACK | {"label": "keep"}]
    easel = {"name": "drawing", "size": size, "label": "the part to be drawn anew", "inks": inks}
    easel |= {"blank": "000000", "hatched": True, "value": as_painted(2 * hole - 1)}
    saves = {"png": lambda: hand.seen()}
    hand = Hand(
        controls, draw, "a portrait, the part that is painted drawn anew", easel, saves=saves
    )
    return hand


UNSEEN = ("automobile", "penguin", "cactus", "teacup without handle", "doughnut", "spouting whale")


def sketch(pipe=None, n=3, steps=10, to="flat", begin=UNSEEN):
    """Paint a sketch and see it coloured in, n times, live: Pipeline.restyle.

    pipe: a paired Pipeline for styles, None = the emoji; to: style at first; begin: names of
    sketches to begin with, here some that the network has not seen -> Hand
    """
    pipe, styles = pipe or Pipeline.load("emoji"), data.load_styles("emoji")
    size, line = pipe.model.size, styles.styles.index("line")
    images = {name: styles.images[styles.names.index(name), line] for name in begin}
    known = {name: as_painted(image) for name, image in images.items()}

    def draw(drawing, style, w, seed):
        images = np.repeat(painted(drawing or "ff" * 3 * size**2, size), n, axis=0)
        x = pipe.restyle(images, style, np.random.default_rng(seed), steps=steps, w=w)
        given = row(images[:1], "the sketch", scale=8)
        return {"rows": [row(x, f"in the style {style}", scale=8)], "given": given}

    first = next(iter(known.values()))
    controls = [
        choice("drawing", "begin with", first, known | {"white paper": ""}),
        choice("style", "style", to, list(styles.styles)),
        slider("w", "guidance w", 1.0, 1, 4, 0.25),
        dice(),
    ]
    easel = {"name": "drawing", "size": size, "label": "your sketch", "blank": "ffffff"}
    easel |= {"inks": [BLACK, GREY, WHITE], "any": True, "value": first}
    saves = {"png": lambda: hand.seen()}
    hand = Hand(controls, draw, "a sketch, coloured in", easel, saves=saves)
    return hand


def alphabet(pipe=None, steps=8, face=0):
    """Paint letters, and the rest of the alphabet comes in the same hand, live: Pipeline.alphabet.

    pipe: a Pipeline of letters, None = the typefaces; face: whose A and R are there first -> Hand
    """
    pipe, styles = pipe or Pipeline.load("typefaces"), data.load_styles("typefaces")
    size, names = pipe.model.size, list(pipe.labels["letter"])
    empty = "00" * 3 * size**2

    def letters_of(face, wanted="AR"):
        return {k: as_painted(styles.images[names.index(k), face]) for k in wanted}

    def draw(drawings, letter, w, seed):
        known = {k: painted(v, size, 1)[0] for k, v in drawings.items() if v and v != empty}
        x = pipe.alphabet(known, np.random.default_rng(seed), steps=steps, w=w)
        captions = ["yours" if name in known else name for name in names]
        note = f"given: {', '.join(sorted(known)) or 'none: any alphabet'}"
        return {"rows": [row(x, captions=captions, scale=3, columns=7)], "note": note}

    faces = [(face + 9 * i) % styles.images.shape[1] for i in range(4)]
    begin = {f"typeface {i + 1}": letters_of(f) for i, f in enumerate(faces)}
    controls = [
        choice("letter", "you paint", "A", names),
        choice("drawings", "begin with", letters_of(face), begin | {"nothing": {}}),
        slider("w", "guidance w", 1.0, 1, 3, 0.25),
        dice(),
    ]
    easel = {"name": "drawings", "key": "letter", "size": size, "label": "the letter"}
    easel |= {"inks": [WHITE, GREY, BLACK], "blank": "000000", "value": letters_of(face)}
    saves = {"png": lambda: hand.seen()}
    hand = Hand(controls, draw, "an alphabet", easel, saves=saves)
    return hand


# --- for a designer ---

OWN, FREE = "your colours", "------"  # FREE: of a pixel that is not painted
ONLY, NEAR, MAIN = "only these", "close to these", "the first on average"


def strokes(text, size):
    """Read what is painted, and where: str, pixels per side -> x0 (1, H, W, 3), keep (H, W)"""
    cells = [text[i : i + 6] for i in range(0, len(text), 6)]
    keep = np.reshape([cell != FREE for cell in cells], (size, size))
    return painted(text.replace(FREE, "808080"), size), keep


def without_effect(palette, use, drawing, freedom):
    """Say which of a pattern's controls changes nothing now: their values -> str, "" for none"""
    if freedom and not drawing.strip("-"):
        return "freedom is about what you paint: nothing is painted yet"
    if use != ONLY and palette != OWN:
        return f'"use" is about {OWN}: choose them under "colours"'
    return ""


def pattern(pipe=None, steps=10, w=2.0):
    """Paint, choose colours, and see a tile repeat without a seam, live; save it as PNG or GIF.

    What is painted is put back after each step, as edit.inpaint does, down to the time freedom T;
    from there edit.tile is free. Colours: colour.coloured, and at the end colour.snap, so that no
    other is left. A PNG is one tile, a pixel 32 x 32; a GIF shows how it came out of noise, 3 x 3.
    pipe: a Pipeline of patterns, None = those that come with tinydiff; w: guidance -> Hand
    """
    pipe = pipe or Pipeline.load("patterns")
    s, size, made = pipe.s, pipe.model.size, {}
    cov = restore.covariance(data.load("patterns").train)

    def draw(kind, palette, colours, use, drawing, freedom, seed):
        labels = asked(pipe, {"kind": kind, "palette": palette if palette != OWN else ANY})[None]
        rng, eps_model = np.random.default_rng(seed), pipe.eps_model(labels, w)
        wanted = np.array([colour.parse(c) for c in colours])
        own = palette == OWN and len(colours) > 0
        if own and use == MAIN:
            eps_model = colour.coloured(eps_model, s, cov, size, main=wanted[0])
        elif own:
            eps_model = colour.coloured(eps_model, s, cov, size, palette=wanted)
        shape, times, chain = (1, size, size, 3), sample.even_times(s, steps), [None]
        with circular(pipe.model):
            if drawing.strip("-") and freedom < 1:
                x0, keep = strokes(drawing, size)
                walk = edit.inpaint(eps_model, s, x0, keep, rng, times, clip=1.0)
                for t, x in zip(times, walk, strict=True):
                    chain.append(x)
                    if t <= freedom * s.T:
                        break
                times = times[len(chain) - 2 :]
            if len(times) > 1:
                chain += edit.tile(eps_model, s, shape, rng, times, x_T=chain[-1], clip=1.0)
            chain = chain[1:]
        if own and use == ONLY:
            chain[-1] = colour.snap(chain[-1], wanted.astype(np.float32))
        made["chain"] = chain
        ground = to_uint8(chain[-1]).tobytes()
        return {
            "rows": [row(chain[-1], "the tile, 3 x 3 times", scale=7, repeat=3)],
            "ground": ground,
            "note": without_effect(palette, use, drawing, freedom),
        }

    controls = [
        choice("kind", "kind", "petals", [ANY, *pipe.labels["kind"]]),
        choice("palette", "colours", OWN, [OWN, ANY, *pipe.labels["palette"]]),
        colours("colours", OWN, ["#14213d", "#fca311", "#e5e5e5"]),
        choice("use", "use", ONLY, [ONLY, NEAR, MAIN]),
        slider("freedom", "freedom", 0, 0, 1, 0.05, "0: what you paint stays, 1: it is ignored"),
        dice(),
    ]
    easel = {"name": "drawing", "size": size, "label": "your tile", "blank": FREE, "value": ""}
    easel |= {"inks": [{"colour": FREE, "label": "erase"}], "follows": "colours", "any": True}

    def tile():
        return plot.sheet(made["chain"][-1], 1, gap=0, scale=32)

    def film():
        return plot.frames([np.tile(x, (1, 3, 3, 1)) for x in made["chain"]], 1, scale=6)

    return Hand(controls, draw, "a pattern", easel, saves={"png": tile, "gif": film})
