"""What a function draws beside what should come, for those exercises that draw.

tests/draws.py shows each of them at work: {name: (what is drawn, function of f -> array)}; images
(N, H, W, C) in [-1, 1] become a strip, numbers (N,) in [0, 1] a curve. A student's tree keeps a
picture of what should come, as the package's own is missing there.
"""

import base64
import io
import runpy
import warnings
from contextlib import redirect_stdout
from functools import cache

import numpy as np

from .exercises import ROOT, original

SCALE = 4  # pixels of the screen for each pixel of an image
CURVE = 240, 90  # pixels


@cache
def demonstrations():
    """Read tests/draws.py: () -> dict of name to (what is drawn, function), empty without it"""
    path = ROOT / "tests" / "draws.py"
    return runpy.run_path(str(path))["DRAWS"] if path.exists() else {}


def draws(exercise):
    """Say whether something can be seen of a function's work: Exercise -> bool"""
    return exercise.name in demonstrations()


def right(exercise):
    """Draw what should come: Exercise -> PNG in base64, or "" where nothing is or can be drawn"""
    if not draws(exercise):
        return ""
    _, demonstrate = demonstrations()[exercise.name]
    try:
        return _text(_picture(_quietly(demonstrate, original(exercise))))
    except NotImplementedError:
        return ""  # it needs what a student's tree lacks


def strips(exercise, f):
    """Draw with f, and show what should come: Exercise, function -> ((caption, PNG), ...)

    Empty where nothing is or can be drawn, or where f draws what it should.
    """
    should = exercise.known["drawn"] if exercise.known else right(exercise)
    if not should:
        return ()
    what, demonstrate = demonstrations()[exercise.name]
    should = _image(should)
    try:
        mine = _picture(_quietly(demonstrate, f))
    except NotImplementedError:
        return ()
    except Exception as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        yours = f"yours drew nothing ({why})", ""
    else:
        if mine.size == should.size and mine.tobytes() == should.tobytes():
            return ()
        yours = f"yours: {what}", _enlarged(mine)
    return yours, (f"as it should be: {what}", _enlarged(should))


def _quietly(demonstrate, f):
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        with redirect_stdout(io.StringIO()):
            return np.asarray(demonstrate(f), float)


def _picture(values):
    """Make a strip of images (N, H, W, C), or the curve of numbers (N,) -> Pillow's Image"""
    from PIL import Image, ImageDraw

    if values.ndim == 4 and values.shape[-1] in (1, 3):
        black = np.nan_to_num(values, nan=-1).clip(-1, 1)
        framed = np.pad(black, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=1)
        strip = np.concatenate(list(framed), 1)[:, :-1]
        pixels = np.round((np.broadcast_to(strip, (*strip.shape[:2], 3)) + 1) * 127.5)
        return Image.fromarray(pixels.astype(np.uint8))
    if values.ndim != 1:
        raise ValueError(f"an array of shape {values.shape} is no row of images")
    width, height = CURVE
    picture = Image.new("RGB", CURVE, "white")
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 0, width - 1, height - 1), outline="#888888")
    x = np.linspace(0, width - 1, len(values))
    y = (1 - np.nan_to_num(values, nan=-1).clip(-0.05, 1.05)) * (height - 9) + 4
    pen.line(list(zip(x.tolist(), y.tolist(), strict=True)), fill="#1f4e9c", width=2)
    return picture


def _text(picture):
    file = io.BytesIO()
    picture.save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def _image(png):
    from PIL import Image

    return Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")


def _enlarged(picture):
    """Show the pixels of images as squares: Image -> PNG in base64"""
    scale = 1 if picture.size == CURVE else SCALE
    width, height = picture.size
    return _text(picture.resize((width * scale, height * scale), 0))  # 0: the nearest pixel
