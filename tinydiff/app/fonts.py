"""Alphabets as fonts, beside their letters: what --font and --one-bit of `alphabet` ask for."""

import re
from importlib.util import find_spec

import numpy as np
from PIL import Image

from .. import plot
from ..collect.source import number
from ..data import to_uint8
from ..design import font
from ..files import write_whole
from . import results
from .usage import UsageError, require_output

BLACK_AND_WHITE = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)


def require(args):
    """Refuse, before the work starts, fonts that cannot be written -> None"""
    if not args.font:
        return
    if not results.into_folder(args):
        raise UsageError("--font writes a font beside its letters: give a folder, --out letters")
    if "ttf" in args.font and not find_spec("fontTools"):
        raise UsageError("--font ttf needs fontTools: pip install 'tinydiff[font]'")
    for path in (p for _, paths in _files(args) for p in paths.values()):
        require_output(path)
        if path.exists() and not args.force:
            raise UsageError(f"{path} exists: give another --out, or replace it with --force")


def _files(args):
    """Name the files of each alphabet -> list of its font's name, {suffix: Path}"""
    stem = re.sub(r'["\\/\x00-\x1f]', "", args.out.resolve().name) or "letters"
    names = [stem] if args.n == 1 else [f"{stem}-{k + 1}" for k in range(args.n)]
    kinds = {"fnt": ("fnt", "png"), "ttf": ("ttf",)}
    suffixes = [suffix for kind in args.font for suffix in kinds[kind]]
    return [(name, {s: args.out / f"{name}.{s}" for s in suffixes}) for name in names]


def write(args, alphabets, own):
    """Write each alphabet as a font, in the kinds that --font names, and say so -> None

    alphabets: list of {letter: (S, S) uint8, how much ink}; own: {letter: the same as it was given}
    """
    if not args.font:
        return
    drawn = len(next(iter(alphabets[0].values())))
    sides = {letter: len(ink) for letter, ink in own.items()}
    k = max([args.scale or 1, *(round(side / drawn) for side in sides.values())])
    for (name, paths), letters in zip(_files(args), alphabets, strict=True):
        made = font.of_letters(name, letters | own, k * drawn, args.one_bit)
        if "fnt" in paths:
            _write_strip(made, paths)
        if "ttf" in paths:
            sharp = font.of_letters(name, letters | own, k * drawn)
            write_whole(paths["ttf"], lambda f: f.write(font.truetype(sharp)))
        glyphs = number(len(made.glyphs), "letter")
        print(f"{', '.join(map(str, paths.values()))}: {glyphs}, {made.em} pixels to the em")
        if lost := sorted(set(letters) - {glyph.letter for glyph in made.glyphs}):
            print(f"{name} lacks {' '.join(lost)}: drawn without ink, try another --seed")
    if k > 1 and own:
        sizes = ", ".join(f"{letter} {side}" for letter, side in sides.items())
        print(f"in the font: {sizes} pixels as given, the drawn ones {k} x {drawn} = {k * drawn}")


def _write_strip(made, paths):
    """Write a font's strip, white with what is no ink transparent, and its table."""
    ink, table = font.strip(made)
    white = np.full_like(ink, 255)
    plot.save_picture(Image.fromarray(np.dstack([white, ink])), paths["png"])
    text = table(paths["png"].name)
    write_whole(paths["fnt"], lambda f: f.write(text.encode()))


def ink_of(images):
    """Bring (N, H, W, 1) images, white on black, in [-1, 1], to ink -> (N, H, W) uint8"""
    return to_uint8(images)[..., 0]
