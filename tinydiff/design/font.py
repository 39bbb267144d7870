"""Letters as a font: a strip of pictures with its table, and outlines around the pixels.

A glyph is drawn in a square frame, all frames of an alphabet stand for the same square of the page,
the em, and share a baseline. Where letters have frames of different sizes, the small ones are
enlarged by a whole factor, so that the pixels of both stay pixels: the nearest one where none
brings a frame to the em, see `misfits`.
"""

import io
import re
from dataclasses import dataclass

import numpy as np

INK = 128  # of 255: from here on a pixel is ink where there is only ink and paper
WIDEST = 2048  # pixels of a strip, before a new row begins
BORN = 3_850_070_400  # seconds from 1904 to 2026: the same font is the same file on any day
DESCENDING = "JQ"  # may go below the baseline


@dataclass(frozen=True, eq=False)
class Glyph:
    """A letter without the paper around it.

    letter: the character; ink: (h, w) uint8, 255 = ink; left, top: where it lies in the em, in
    pixels of the em; pixel: how many of these each of its own is, along both sides
    """

    letter: str
    ink: np.ndarray
    left: int
    top: int
    pixel: int

    @property
    def right(self):
        """Give where its ink ends, in pixels of the em -> int"""
        return self.left + self.ink.shape[1] * self.pixel

    @property
    def bottom(self):
        """Give where its ink ends below -> int"""
        return self.top + self.ink.shape[0] * self.pixel


@dataclass(frozen=True, eq=False)
class Font:
    """Glyphs that stand together.

    name: of the family; em: side of a frame, in pixels; base: from its top down to the baseline;
    gap: between two letters; glyphs: list of Glyph
    """

    name: str
    em: int
    base: int
    gap: int
    glyphs: list

    def advance(self, glyph):
        """Give how far the next letter begins from where a glyph's does -> int, pixels of the em"""
        return glyph.right - glyph.left + self.gap

    @property
    def space(self):
        """Give how wide a space is -> int"""
        return max(1, self.em // 3)


def of_letters(name, letters, em=None, crisp=True):
    """Make a Font of an alphabet.

    letters: {character: (S, S) uint8 ink}, S may differ; em: pixels a side, None = the largest S;
    crisp: only ink and paper, else greys, too -> Font
    Raises ValueError where all letters are empty.
    """
    em, glyphs = em or max(len(ink) for ink in letters.values()), []
    for letter, ink in letters.items():
        ink = np.where(ink >= INK, 255, 0).astype(np.uint8) if crisp else ink
        seen = ink >= (INK if crisp else INK // 4)
        if not seen.any():
            continue
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        pixel, frame = _pixel(em, seen), em / len(seen)
        glyphs.append(Glyph(letter, ink, round(columns[0] * frame), round(rows[0] * frame), pixel))
    if not glyphs:
        raise ValueError("no letter has any ink")
    standing = [g.bottom for g in glyphs if g.letter not in DESCENDING] or [glyphs[0].bottom]
    return Font(name, em, int(np.median(standing)), max(1, round(em / 8)), glyphs)


def misfits(letters, em):
    """Find letters whose frame no whole factor brings to the em, in pixels.

    letters: {character: (S, S) ink} -> {character: how large it is drawn, 1 = as the others}
    """
    return {c: _pixel(em, ink) * len(ink) / em for c, ink in letters.items() if em % len(ink)}


def _pixel(em, ink):
    """Choose how many pixels of the em a pixel of a letter has along each side -> int"""
    return max(1, round(em / len(ink)))


# --- a strip of pictures ---


def strip(font):
    """Lay all glyphs side by side, and write the table that says where each lies: BMFont's text.

    -> picture (H, W) uint8, how much ink; a function of the picture's file name -> str
    Of a letter, xadvance is its width and the gap, half of which stands before it: xoffset.
    Source: the file format of AngelCode's Bitmap Font Generator.
    """
    places, x, y, row = [], 1, 1, 0
    for glyph in font.glyphs:
        h, w = (side * glyph.pixel for side in glyph.ink.shape)
        if x + w + 1 > WIDEST and x > 1:
            x, y, row = 1, y + row + 1, 0
        places.append((x, y, w, h))
        x, row = x + w + 1, max(row, h)
    width, height = max(x + w for x, _, w, _ in places) + 1, y + row + 1
    picture = np.zeros((height, width), np.uint8)
    for glyph, (x, y, w, h) in zip(font.glyphs, places, strict=True):
        picture[y : y + h, x : x + w] = glyph.ink.repeat(glyph.pixel, 0).repeat(glyph.pixel, 1)
    return picture, lambda file: _table(font, places, picture.shape, file)


def _table(font, places, shape, file):
    """Write the table of a strip -> str; places: (x, y, width, height) of each glyph"""
    line = (
        "char id={} x={} y={} width={} height={} xoffset={} yoffset={} xadvance={} page=0 chnl=15"
    )
    rows = [
        (ord(glyph.letter), *place, font.gap // 2, glyph.top, font.advance(glyph))
        for glyph, place in zip(font.glyphs, places, strict=True)
    ]
    rows = [(32, 0, 0, 0, 0, 0, 0, font.space), *rows]
    greys = int(any(((g.ink > 0) & (g.ink < 255)).any() for g in font.glyphs))
    height = max(font.em, *(glyph.bottom for glyph in font.glyphs))
    lines = [
        f'info face="{font.name}" size={font.em} bold=0 italic=0 charset="" unicode=1 stretchH=100 '
        f"smooth={greys} aa=1 padding=0,0,0,0 spacing=1,1 outline=0",
        f"common lineHeight={height} base={font.base} scaleW={shape[1]} scaleH={shape[0]} pages=1 "
        "packed=0 alphaChnl=0 redChnl=4 greenChnl=4 blueChnl=4",
        f'page id=0 file="{file}"',
        f"chars count={len(rows)}",
        *(line.format(*row) for row in rows),
        "kernings count=0",
    ]
    return "\n".join(lines) + "\n"


# --- outlines ---


def outlines(ink):
    """Walk around the pixels of a bitmap.

    Each edge between ink and paper is walked once, with the ink on the right: so outer contours run
    clockwise, as TrueType wants them, and holes the other way. Where two pixels touch only at a
    corner, they are walked around apart.
    ink: (H, W) bool -> list of contours, each a list of corners (x, y), y upwards from the last row
    """
    H = len(ink)
    solid = np.pad(ink, 1)
    onwards = {}  # from a corner (x, y), y downwards, to the next ones
    for y, x in np.argwhere(ink):
        beside = {(-1, 0): (0, 0, 1, 0), (0, 1): (1, 0, 1, 1), (1, 0): (1, 1, 0, 1)}
        beside[0, -1] = (0, 1, 0, 0)
        for (down, right), (x0, y0, x1, y1) in beside.items():
            if not solid[y + 1 + down, x + 1 + right]:
                onwards.setdefault((x + x0, y + y0), []).append((x + x1, y + y1))
    contours = []
    while onwards:
        corner, before, contour = min(onwards), None, []
        while corner in onwards:
            ahead = onwards[corner]
            after = (
                ahead[0] if len(ahead) == 1 else max(ahead, key=lambda c: _turn(before, corner, c))
            )
            ahead.remove(after)
            if not ahead:
                del onwards[corner]
            contour.append(corner)
            before, corner = corner, after
        straight = lambda i: _turn(contour[i - 1], contour[i], contour[(i + 1) % len(contour)]) == 0
        kept = [c for i, c in enumerate(contour) if not straight(i)]
        contours.append([(int(x), int(H - y)) for x, y in kept])
    return contours


def _turn(a, b, c):
    """Tell how a way from a over b to c turns, y downwards: > 0 right, < 0 left, 0 straight on"""
    return 0 if a is None else (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0])


def truetype(font, unit=None):
    """Write a Font as a TrueType file, whose outlines are those of the pixels -> bytes

    font: of glyphs (H, W); unit: units of a pixel of the em, None = so many that the em has about
    1000
    Needs fontTools. The same font gives the same bytes.
    """
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    unit = unit or max(1, round(1000 / font.em))
    drawn = {".notdef": TTGlyphPen(None).glyph(), "space": TTGlyphPen(None).glyph()}
    widths = {".notdef": (font.space * unit, 0), "space": (font.space * unit, 0)}
    for glyph in font.glyphs:
        pen, low, left = TTGlyphPen(None), font.base - glyph.bottom, font.gap // 2
        for contour in outlines(glyph.ink >= INK):
            points = [(left + x * glyph.pixel, low + y * glyph.pixel) for x, y in contour]
            pen.moveTo(tuple(unit * v for v in points[0]))
            for point in points[1:]:
                pen.lineTo(tuple(unit * v for v in point))
            pen.closePath()
        drawn[glyph.letter] = pen.glyph()
        widths[glyph.letter] = (font.advance(glyph) * unit, left * unit)
    builder = FontBuilder(font.em * unit, isTTF=True)
    builder.font.recalcTimestamp = False
    builder.setupGlyphOrder(list(drawn))
    builder.setupCharacterMap({32: "space"} | {ord(g.letter): g.letter for g in font.glyphs})
    builder.setupGlyf(drawn)
    builder.setupHorizontalMetrics(widths)
    _describe(builder, font, unit)
    file = io.BytesIO()
    builder.save(file)
    return file.getvalue()


def _describe(builder, font, unit):
    """Give a font its names, its height and depth: builder is fontTools' FontBuilder -> None"""
    top = unit * font.base
    deep = unit * max(font.em - font.base, *(g.bottom - font.base for g in font.glyphs))
    capital = unit * (font.base - int(np.median([g.top for g in font.glyphs])))
    builder.setupHead(unitsPerEm=font.em * unit, created=BORN, modified=BORN)
    builder.setupHorizontalHeader(ascent=top, descent=-deep, lineGap=0)
    whole = re.sub("[^A-Za-z0-9-]", "", font.name) or "letters"
    names = {"familyName": font.name, "styleName": "Regular", "fullName": font.name}
    names |= {"uniqueFontIdentifier": f"{whole}-Regular", "psName": f"{whole}-Regular"}
    builder.setupNameTable(names | {"version": "Version 1.000"})
    sizes = {"sTypoAscender": top, "sTypoDescender": -deep, "sTypoLineGap": 0, "usWinAscent": top}
    sizes |= {"usWinDescent": deep, "sCapHeight": capital, "sxHeight": capital, "fsSelection": 64}
    builder.setupOS2(version=4, usWeightClass=400, achVendID="NONE", **sizes)
    builder.setupPost(underlinePosition=-unit, underlineThickness=unit)
