"""Palettes as designers keep them: files of colours, read by what is in them, not by their names.

    .gpl       GIMP's, Inkscape's, Krita's: a line for each colour, three decimal numbers and a name
    .hex       a line for each colour, six hexadecimal digits
    .ase       Adobe Swatch Exchange, or a sprite of Aseprite, which its magic number tells apart
    .aseprite  the palette of such a sprite
    .png ...   the colours of a picture

Each is read as (K, 3) uint8, K <= MOST, without repetitions, in the file's order.
"""

import codecs
import math
import re
import struct
from pathlib import Path

import numpy as np

from ..files import require_file
from .picture import upright

MOST = 256  # colours of an indexed picture
LONGEST = 1 << 26  # bytes of a file of colours
ENTRIES = 1 << 16  # of the palette of a sprite, at most
GPL_LINE = re.compile(r"\s*(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})(\s.*)?")
HEX_LINE = re.compile(r"#?([0-9a-fA-F]{6})")


def read(path):
    """Read the colours of a palette's file, or of a picture.

    path: Path -> (K, 3) uint8, 1 <= K <= MOST, all different
    Raises OSError where it cannot be read; ValueError where it holds no colours, or too many, or is
    damaged: a text that goes on from the file's name.
    """
    path = Path(path)
    require_file(path)
    with open(path, "rb") as f:
        start = f.read(LONGEST).removeprefix(codecs.BOM_UTF8)
    try:
        if start[4:6] == b"\xe0\xa5":
            colours = _aseprite(start)
        elif start[:4] == b"ASEF":
            colours = _adobe(start)
        elif start.startswith(b"GIMP Palette"):
            colours = _gpl(start)
        elif path.suffix.lower() in (".hex", ".gpl", ".txt"):
            colours = _hex(start)
        else:
            colours = _of_picture(path)
    except (struct.error, IndexError):
        raise ValueError("is damaged: it ends before its last colour") from None
    colours = list(dict.fromkeys(map(tuple, colours)))
    if not 1 <= len(colours) <= MOST:
        holds = f"holds {len(colours):,} colours" if colours else "holds no colours"
        raise ValueError(f"{holds}; a palette has 1 to {MOST}")
    return np.array(colours, np.uint8)


# --- text ---


def _gpl(data):
    """Read GIMP's format, also with Aseprite's fourth number, alpha -> list of (r, g, b)"""
    lines = data.decode("utf-8", "replace").splitlines()[1:]
    with_alpha = any(line.strip() == "Channels: RGBA" for line in lines)
    found = [GPL_LINE.fullmatch(line) for line in lines if not line.lstrip().startswith("#")]
    rows = [(tuple(map(int, m.groups()[:3])), m[4] or "") for m in found if m]
    if wrong := next((rgb for rgb, _ in rows if max(rgb) > 255), None):
        raise ValueError(f"has a colour {wrong}: values go from 0 to 255")
    clear = lambda rest: with_alpha and rest.split()[:1] == ["0"]
    return [rgb for rgb, rest in rows if not clear(rest)]


def _hex(data):
    lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith(";")]
    if wrong := next((line for line in lines if not HEX_LINE.fullmatch(line)), None):
        raise ValueError(f"has a line {wrong[:20]!r}: each is six hexadecimal digits, as ff8000")
    return [tuple(bytes.fromhex(line.removeprefix("#"))) for line in lines]


# --- bytes ---


def _aseprite(data):
    """Read the palette of an Aseprite sprite, of several frames the first's -> list of (r, g, b)

    The header has 128 bytes, then comes a frame's, 16 bytes, then its chunks: length, type, data.
    Colours that are transparent are left out.
    Source: Aseprite's file specification; chunks 0x2019, in old files 0x0004.
    """
    older, many = struct.unpack_from("<6xH4xI", data, 128)
    at, colours, old = 144, {}, []
    for _ in range(many or older):
        size, kind = struct.unpack_from("<IH", data, at)
        if kind == 0x2019:
            colours |= _new_palette(data[at + 6 : at + size])
        elif kind == 0x0004:
            old = _old_palette(data[at + 6 : at + size])
        at += max(size, 6)
    rgba = [colours[k] for k in sorted(colours)]
    return [(r, g, b) for r, g, b, a in rgba if a] or old


def _new_palette(data):
    _, first, last = struct.unpack_from("<III", data)
    if last - first >= ENTRIES:
        raise ValueError(f"is damaged: a palette of {last - first + 1:,} colours")
    at, colours = 20, {}
    for k in range(first, last + 1):
        named, *colours[k] = struct.unpack_from("<HBBBB", data, at)
        at += 6
        if named & 1:
            at += 2 + struct.unpack_from("<H", data, at)[0]
    return colours


def _old_palette(data):
    (packets,), at, colours = struct.unpack_from("<H", data), 2, []
    for _ in range(packets):
        count = data[at + 1] or 256
        colours += [tuple(data[i : i + 3]) for i in range(at + 2, at + 2 + 3 * count, 3)]
        at += 2 + 3 * count
    if any(len(colour) < 3 for colour in colours):
        raise IndexError
    return colours


def _adobe(data):
    """Read an Adobe Swatch Exchange file -> list of (r, g, b)

    Big-endian: "ASEF", version, number of blocks; each block has a type, a length, and, if it is a
    colour (type 1), a name in UTF-16, a colour space of four letters, and floats in 0 .. 1.
    """
    (blocks,), at, colours = struct.unpack_from(">I", data, 8), 12, []
    for _ in range(blocks):
        kind, length = struct.unpack_from(">HI", data, at)
        if kind == 1:
            letters = 2 * struct.unpack_from(">H", data, at + 6)[0]
            space = data[at + 8 + letters : at + 12 + letters].decode("latin-1")
            if space not in ("RGB ", "Gray", "GRAY"):
                raise ValueError(f"holds {space.strip()} colours: save them as RGB")
            count = 3 if space == "RGB " else 1
            values = struct.unpack_from(f">{count}f", data, at + 12 + letters)
            if not all(map(math.isfinite, values)):
                raise ValueError("is damaged: a colour is not a finite number")
            eight_bits = [round(255 * min(max(v, 0.0), 1.0)) for v in values]
            colours.append(tuple(eight_bits * (3 // count)))
        at += 6 + length
    return colours


def _of_picture(path):
    """List the colours of a picture by their first places in it; what is transparent has none."""
    rgba = np.asarray(upright(path)[0].convert("RGBA")).reshape(-1, 4)
    rgb = rgba[rgba[:, 3] >= 128, :3]
    colours, first = np.unique(rgb, axis=0, return_index=True)
    if len(colours) > MOST:
        advice = "give --colours, or reduce it to a palette"
        raise ValueError(f"holds {len(colours):,} colours; at most {MOST} fit a palette: {advice}")
    return colours[np.argsort(first)].tolist()
