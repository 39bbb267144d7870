"""Which pictures are said to be unlike what a model has learned: python tests/bench/strange.py

Portraits that were not trained on, and what users make of such: moved, recoloured, outlined, saved
as JPEG; and pictures that are none.
"""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tinydiff import data
from tinydiff.app import known
from tinydiff.data import to_float, to_uint8
from tinydiff.design.pipeline import Pipeline
from tinydiff.measure import strange

KNIGHT = (
    "................ ......aaaa...... .....abbbba..... ....abbbbbba.... ....abccccba.... "
    "....abbbbbba.... .....abbbba..... ...aaaaaaaaa.d.. ..abbaebebba.d.. ..abbaeeebba.d.. "
    "..abbaebebbaad.. ...aabbbbba.ddd. .....abbba...a.. ....abb.bba..... ....abb.bba..... "
    "....aaa.aaa....."
).split()
COLOURS = {"a": "#282832", "b": "#9696aa", "c": "#141414", "d": "#c8c8d2", "e": "#b41e1e"}


def own_portraits(x, rng):
    """Change portraits as users might: x (N, 16, 16, 3) -> {how: (N, 16, 16, 3)}"""
    ground = np.abs(x - x[:, :1, :1]).max(-1, keepdims=True) < 0.02
    colour = lambda: rng.uniform(-1, 1, (len(x), 1, 1, 3)).astype(np.float32)
    cap, mouth = x.copy(), x.copy()
    cap[:, :3, 3:13], mouth[:, 10:12, 5:11] = colour(), colour()
    white = np.where(ground, np.float32(1), x)
    return {
        "held out": x,
        "mirrored": x[:, :, ::-1],
        "moved by a pixel": np.concatenate([moved(x[k::4], *d) for k, d in enumerate(WAYS)]),
        "as JPEG, quality 90": np.stack([through_jpeg(one) for one in x]),
        "in 8 colours": np.stack([in_colours(one, 8) for one in x]),
        "on another colour": np.where(ground, colour(), x),
        "on black": np.where(ground, np.float32(-1), x),
        "outlined, on white": np.where(around(~ground) & ground, np.float32(-0.9), white),
        "with a painted cap": cap,
        "with a painted mouth": mouth,
    }


WAYS = ((1, 0), (-1, 0), (0, 1), (0, -1))


def moved(x, down, right):
    """Move images, their edge repeated: (N, H, W, C) -> the same shape"""
    wide = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    return wide[:, 1 - down : 17 - down, 1 - right : 17 - right]


def around(inside):
    """Find what is inside, or beside it: (N, H, W, 1) bool -> the same shape"""
    wide = np.pad(inside, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return np.any([wide[:, 1 + a : 17 + a, 1 + b : 17 + b] for a, b in (*WAYS, (0, 0))], axis=0)


def through_jpeg(x):
    """Save an image (16, 16, 3) as JPEG, and read it again -> (16, 16, 3)"""
    file = io.BytesIO()
    Image.fromarray(to_uint8(x)).save(file, "JPEG", quality=90)
    return to_float(np.asarray(Image.open(file)))


def in_colours(x, colours):
    """Reduce an image (16, 16, 3) to so many colours -> (16, 16, 3)"""
    return to_float(np.asarray(Image.fromarray(to_uint8(x)).quantize(colours).convert("RGB")))


def others(rng):
    """Gather pictures that are no portraits -> {what: (N, 16, 16, 3)}"""
    emoji, grey = data.load_styles("emoji"), data.load("fashion").test[:200]
    known_sets = {f"emoji, {s}": emoji.images[::7, k] for k, s in enumerate(emoji.styles)}
    known_sets |= {"patterns": data.load("patterns").test[:200], "fashion": grey.repeat(3, -1)}
    return known_sets | {
        "letters": np.stack([letter(rng) for _ in range(200)]),
        "logos": np.stack([logo(rng, k) for k in range(100)]),
        "knights": np.stack([knight(rng) for _ in range(100)]),
        "one colour": np.repeat(rng.uniform(-1, 1, (50, 1, 1, 3)), 256, 1).reshape(-1, 16, 16, 3),
        "noise": rng.standard_normal((50, 16, 16, 3)).clip(-1, 1),
    }


def small(picture):
    """Scale a picture as `edit` does: PIL.Image.Image -> (16, 16, 3)"""
    return to_float(np.asarray(picture.resize((16, 16), Image.Resampling.BOX)))


def some_colour(rng, light=220):
    """Choose a colour for Pillow -> three ints"""
    return tuple(int(v) for v in rng.integers(0, light, 3))


def letter(rng):
    """Draw a capital, half of them black on white -> (16, 16, 3)"""
    plain = rng.random() < 0.5
    picture = Image.new("RGB", (96, 96), "white" if plain else some_colour(rng, 256))
    ink, c = "black" if plain else some_colour(rng), chr(65 + int(rng.integers(26)))
    font = ImageFont.load_default(80)
    ImageDraw.Draw(picture).text((48, 48), c, fill=ink, font=font, anchor="mm")
    return small(picture)


def logo(rng, k):
    """Draw a plain sign on white -> (16, 16, 3)"""
    picture, one, two = Image.new("RGB", (128, 128), "white"), some_colour(rng), some_colour(rng)
    draw = ImageDraw.Draw(picture)
    if k % 4 == 0:
        draw.ellipse((16, 16, 112, 112), fill=one)
        draw.rectangle((48, 48, 80, 80), fill=two)
    elif k % 4 == 1:
        draw.polygon([(64, 8), (120, 120), (8, 120)], fill=one)
    elif k % 4 == 2:
        draw.rounded_rectangle((8, 8, 120, 120), 24, fill=one)
        draw.ellipse((40, 40, 88, 88), fill="white")
    else:
        draw.arc((16, 16, 112, 112), 30, 330, fill=one, width=24)
    return small(picture)


def knight(rng):
    """Draw a knight in armour, in changing colours, of 16, 24 or 32 pixels -> (16, 16, 3)"""
    picture = Image.new("RGB", (16, 16), "white")
    for y, row in enumerate(KNIGHT):
        for x, c in enumerate(row):
            if c != ".":
                picture.putpixel((x, y), Image.new("RGB", (1, 1), COLOURS[c]).getpixel((0, 0)))
    shade = rng.uniform(0.6, 1.2, 3)
    pixels = np.clip(np.asarray(picture) * shade, 0, 255).astype(np.uint8)
    side = int(rng.choice([16, 24, 32]))
    return small(Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST))


def main():
    """Print for each kind of picture how many there are, and which share is called strange."""
    rng, pipe = np.random.default_rng(0), Pipeline.load("portraits")
    faces = np.asarray(data.load("portraits").test)
    look = lambda x: known.strangeness(pipe, np.asarray(x, np.float32))
    limit = strange.limit(look(faces[: known.HELD_OUT]))
    for title, sets in (("portraits", own_portraits(faces[100:500], rng)), ("none", others(rng))):
        strangers = {name: look(x) > limit for name, x in sets.items()}
        for name, found in strangers.items():
            print(f"| {name} | {len(found)} | {found.mean():.1%} |")
        print(
            f"| all of these, {title} | | {np.mean([f.mean() for f in strangers.values()]):.1%} |"
        )


if __name__ == "__main__":
    main()
