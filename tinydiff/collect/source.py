"""What a set of pictures is before it is fitted to a network: pictures one by one, and labels."""

import itertools
import re
from dataclasses import dataclass, field

import numpy as np

LONGEST = 100  # characters of a name, as fields.py has it


class Unusable(OSError):
    """Say in one line why there is nothing to train on: what came, and what to do."""


@dataclass
class Picture:
    """A picture as it was read.

    pixels: (H, W, C) uint8, C = 1 grey, 3 RGB or 4 RGBA; profile: its ICC profile, bytes or None
    kinds: what to count about it: "CMYK", "16 bits", "turned", "first frame of an animation", ...
    size: (width, height) before a JPEG was read at a fraction
    """

    pixels: np.ndarray
    kinds: tuple = ()
    profile: bytes | None = None
    size: tuple = ()


@dataclass
class Source:
    """A set of pictures on disk: how many, how to read them, and what is known of each.

    names: the M names, for messages, or a function of an index; count: M
    read: function of an increasing list of indices that yields for each a Picture, or the OSError
    that says why there is none
    labels: {"kind": ["cat", "dog"], ...}; rows: (M, number of labels) ints, len(values) = unknown
    test: (M,) bool, the set's own held-out part, or None; said: lines about what was done
    files: what it was read from, Paths, for the cache
    """

    name: str
    count: int
    read: object
    names: object = str
    labels: dict = field(default_factory=dict)
    rows: np.ndarray | None = None
    test: np.ndarray | None = None
    said: list = field(default_factory=list)
    files: list = field(default_factory=list)

    def __post_init__(self):
        if self.rows is None:
            self.rows = np.zeros((self.count, 0), dtype=np.int64)


def coded(columns):
    """Turn columns of words into labels as Source has them; "" and None are unknown.

    columns: {"kind": list of M words} -> {"kind": its values, in order}, rows (M, L) ints
    A name that prints as an earlier one does becomes "kind-2".
    """
    labels, rows = {}, []
    for name, words in columns.items():
        words = [printable(word) for word in words]
        values = sorted({word for word in words if word}, key=natural)
        index = {value: i for i, value in enumerate(values)} | {"": len(values)}
        title = printable(name) or "label"
        names = (f"{title[: LONGEST - 5]}-{n}" if n > 1 else title for n in itertools.count(1))
        labels[next(name for name in names if name not in labels)] = values
        rows.append([index[word] for word in words])
    count = len(rows[0]) if rows else 0
    return labels, np.array(rows, dtype=np.int64).reshape(len(rows), count).T


def printable(word):
    """Make a word a name as a checkpoint takes it: () one line, printable, not too long -> str"""
    word = "" if word is None else " ".join(str(word).split())
    return "".join(c if c.isprintable() else "?" for c in word)[:LONGEST].strip()


def natural(text):
    """Order names as people do, "9" before "10": a key for sorted, () -> list"""
    parts = re.split(r"([0-9]+)", str(text))
    return [int(p) if p.isdecimal() else p.casefold() for p in parts], str(text)


def some(names, most=3):
    """Name the first few of a list: () -> "a.png, b.png, c.png and 9 more" """
    more = len(names) - most
    return ", ".join(map(printable, names[:most])) + (f" and {more:,} more" if more > 0 else "")


def number(count, what, plural=None):
    """Count things in words: () -> "1 picture", "2,000 pictures" """
    return f"{count:,} {what if count == 1 else plural or what + 's'}"
