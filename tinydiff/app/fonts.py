"""Alphabets as fonts, beside their letters: what --font and --one-bit of `alphabet` ask for."""

import re
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
from PIL import Image

from .. import plot
from ..data import to_uint8
from ..design import font
from ..design.picture import open_letter
from ..files import write_whole
from . import results
from .usage import UsageError, require_output

BLACK_AND_WHITE = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)


def own(args, letters, size):
    """Read the given letters at their own size, where it is not the model's -> {letter: (S, S, 1)}

    letters: those that there are; size: the model's
    """
    words = [word.partition("=") for word in args.known if "=" in word]
    own = {letter: open_letter(path, None)[0][0] for letter, _, path in words}
    return {letter: x for letter, x in own.items() if len(x) != size}


def as_given(args, letters, own):
    """Let letters keep their own size among what is written -> see results.Result"""
    if own and results.into_folder(args):
        sizes = ", ".join(f"{letter} {len(x)} x {len(x)}" for letter, x in own.items())
        print(f"as given, whatever --scale is: {sizes} pixels")
    each = [(letters.index(c) + k * len(letters), x) for k in range(args.n) for c, x in own.items()]
    return {k: (_sharp(x) if args.one_bit else x, None) for k, x in each}


def sharp(args, result):
    """Leave letters black and white alone, as --one-bit asks -> results.Result"""
    if not args.one_bit:
        return result
    return replace(result, images=_sharp(result.images), palette=BLACK_AND_WHITE)


def _sharp(images):
    return np.where(images >= 0, np.float32(1), np.float32(-1))


def require(args):
    """Refuse, before the work starts, fonts that cannot be written -> None"""
    if not args.font or args.only is not None:  # of `again`, which wants a letter
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
    stem += "-font" * bool(re.fullmatch("([0-9]+-)?[A-Z]", stem, re.IGNORECASE))  # a letter's name
    names = [stem] if args.n == 1 else [f"{stem}-{k + 1}" for k in range(args.n)]
    kinds = {"fnt": ("fnt", "png"), "ttf": ("ttf",)}
    suffixes = [suffix for kind in args.font for suffix in kinds[kind]]
    return [(name, {s: args.out / f"{name}.{s}" for s in suffixes}) for name in names]


def write(args, letters, images, own):
    """Write each alphabet as a font, in the kinds that --font names, and say so -> None

    letters: list of M characters; images: (n M, H, W, 1), the alphabets; own: see `own`
    """
    if not args.font or args.only is not None:
        return
    drawn, given = images.shape[1], {letter: to_uint8(x[..., 0]) for letter, x in own.items()}
    k = max([args.scale or 1, *(round(len(ink) / drawn) for ink in given.values())])
    _warn(given, k * drawn)
    alphabets = np.split(to_uint8(images[..., 0]), args.n)
    for (name, paths), inks in zip(_files(args), alphabets, strict=True):
        inks = dict(zip(letters, inks, strict=True)) | given
        try:
            made = font.of_letters(name, inks, k * drawn, args.one_bit)
            outlined = font.of_letters(name, inks, k * drawn)
        except ValueError as e:
            raise UsageError(f"{name}: {e}, so there is no font: try another --seed") from None
        if "fnt" in paths:
            _write_strip(made, paths)
        if "ttf" in paths:
            write_whole(paths["ttf"], lambda f: f.write(font.truetype(outlined)))
        lost = sorted(set(letters) - {glyph.letter for glyph in outlined.glyphs})
        lacks = f", without {' '.join(lost)}, drawn without ink: try another --seed" if lost else ""
        print(f"{', '.join(map(str, paths.values()))}: {made.em} pixels to the em{lacks}")
    if k > 1:
        print(f"in the font a drawn letter is {k} x {drawn} pixels a side, {k * drawn}")


def _warn(given, em):
    """Say which given letters, {letter: (S, S)}, come out larger or smaller than the others."""
    off = [f"{c} {size:.2f} times" for c, size in font.misfits(given, em).items()]
    if off:
        which = f"not as large as the other letters in the font: {', '.join(off)}"
        advice = f"give pictures whose side divides its {em} pixels"
        print(f"{which}, as pixels stay whole; {advice}", file=sys.stderr)


def _write_strip(made, paths):
    """Write a font's strip, white with what is no ink transparent, and its table."""
    ink, table = font.strip(made)
    white = np.full_like(ink, 255)
    plot.save_picture(Image.fromarray(np.dstack([white, ink])), paths["png"])
    text = table(paths["png"].name)
    write_whole(paths["fnt"], lambda f: f.write(text.encode()))
