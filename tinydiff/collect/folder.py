"""A folder of pictures: whatever Pillow opens; folders in it are labels, and so are tables."""

import codecs
import csv
import io
import itertools
import json
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from ..design.upright import upright
from ..files import require_file
from . import published
from .source import Picture, Source, Unusable, coded, natural, number, printable, some

TABLES = [f"{name}.{end}" for end in ("csv", "tsv", "jsonl") for name in ("labels", "metadata")]
FILE_COLUMNS = ("file_name", "filename", "file", "image", "path", "picture", "name", "id", "")
LEVELS = ("kind", "folder-2", "folder-3")  # labels from nested folders
SPLIT = {"train": 0, "training": 0, "val": 0, "valid": 0, "validation": 0, "test": 1, "testing": 1}
NEVER = {".pdf", ".ps", ".eps", ".wmf", ".emf", ".mpg", ".mpeg", ".h5", ".hdf", ".grib", ".bufr"}
HARMLESS = {"thumbs.db", "desktop.ini", "readme", "readme.md", "readme.txt", "license"}
LEAST = 256  # pixels per side that are enough, of a large JPEG
MOST_FILES = 1_000_000


def from_folder(path, boxes=None):
    """Read a folder as a set of pictures, or, where it holds array files, as these say.

    path: Path; boxes: function of a Path that lists boxes (left, top, right, bottom) to cut it into
    -> Source with M pictures, rows (M, L). Raises Unusable where there are none.
    """
    said = []
    files, others = listed(path, said)
    if not files:
        arrays = [p for p in sorted(path.iterdir()) if p.is_file() and published.is_array(p)]
        if arrays:
            return published.from_files(path.resolve().name, arrays, path)
        if pickles := [p for p in sorted(path.iterdir()) if p.is_file() and _is_pickle(p)]:
            raise Unusable(published.refusal(pickles[0]))
        there = f"; it has {endings(others)}" if others else "; it is empty"
        if not others and any(p.is_dir() for p in path.iterdir()):
            there = "; nor have the folders in it"
        raise Unusable(f"{path} has no pictures{there}: give PNG, JPEG, WebP, GIF, BMP or TIFF")
    said += [f"left out, as no pictures: {endings(others)}"] if others else []
    relative = [p.relative_to(path) for p in files]
    words, test = _from_folders(relative, said)
    if found := _from_tables(path, files, said):
        new = {f"{c}-2" if words.get(c, w) != w else c: w for c, w in found.items()}
        words = new | words
    labels, rows = coded(words)
    rows = rows if labels else None
    names = [str(r) for r in relative]

    def read(indices):
        for i in indices:
            yield _read(files[i])

    name = path.resolve().name or "pictures"
    return Source(name, len(files), read, names.__getitem__, labels, rows, test, said, files)


def listed(path, said):
    """List the pictures below a folder, and the files that are none.

    Links are followed, but not up to where the folder itself lies.
    path: Path; said: list to which is added which folders cannot be read -> () two lists of Paths
    """
    files, others = [], []
    readable = {e for e in Image.registered_extensions() if e not in NEVER} or {".png", ".jpg"}
    seen = set(map(str, Path(os.path.realpath(path)).parents))  # no folder is read twice
    closed, tops = [], [path]  # links are followed last
    walk = lambda top: os.walk(top, onerror=lambda e: closed.append(e.filename))
    for root, folders, names in itertools.chain.from_iterable(map(walk, tops)):
        if (real := os.path.realpath(root)) in seen:
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = sorted((f for f in folders if f[0] != "." and f != "__MACOSX"), key=natural)
        tops += [link for f in folders if os.path.islink(link := os.path.join(root, f))]
        for name in sorted(names, key=natural):
            if name[0] == "." or name.lower() in HARMLESS or name.lower() in TABLES:
                continue
            here = Path(root) / name
            (files if here.suffix.lower() in readable else others).append(here)
        if len(files) > MOST_FILES:
            raise Unusable(f"{path} has more than {MOST_FILES:,} pictures: give a part of it")
    if files and closed:
        said.append(f"{number(len(closed), 'folder')} cannot be read: {some(closed)}")
    return files, others


def endings(paths):
    """Count files by their endings: () Paths -> "2 .svg, 1 .txt" """
    counts = Counter(p.suffix.lower() or "without ending" for p in paths).most_common()
    more = f" and {len(counts) - 4} other kinds" if len(counts) > 4 else ""
    return ", ".join(f"{n:,} {ending}" for ending, n in counts[:4]) + more


def _is_pickle(path):
    with open(path, "rb") as f:
        return f.read(1) == b"\x80"


def load(path):
    """Read a picture, a large JPEG at a fraction of its size -> Picture with pixels (H, W, C)

    Raises OSError as design.upright.upright does.
    """
    return as_picture(*upright(path, LEAST))


def _read(path):
    """Read a picture -> Picture, or the OSError that says why not"""
    try:
        return load(path)
    except OSError as e:
        return e


def as_picture(picture, done=()):
    """Take the pixels of a picture from Pillow: PIL.Image.Image, notes of `upright` -> Picture

    Grey stays grey (H, W, 1), a palette becomes colours, CMYK becomes RGB; alpha is kept.
    """
    kinds = []
    width, _, height, mode = (done[0].split() if done else ["0", "x", "0", picture.mode])[:4]
    kinds += ["CMYK"] if mode == "CMYK" else []
    kinds += ["more than 8 bits"] if any(d.startswith("values of") for d in done) else []
    kinds += ["turned"] if "turned as it was taken" in done else []
    kinds += ["first frame"] if "the first of its frames" in done else []
    size = (int(width), int(height)) if done else picture.size
    profile = picture.info.get("icc_profile")
    if "A" in picture.getbands() or "a" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        if picture.getextrema()[3][0] == 255:
            picture = picture.convert("RGB")
    elif picture.mode not in ("L", "RGB"):
        is_grey = picture.mode in ("1", "LA", "La")
        profile = profile if picture.mode == "RGB" else None
        picture = picture.convert("L" if is_grey else "RGB")
    pixels = np.asarray(picture)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return Picture(pixels, tuple(kinds), profile if pixels.shape[2] > 1 else None, size)


# --- labels ---


def _from_folders(relative, said):
    """Read labels off nested folders -> {"kind": words}, held out (M,) bool or None

    Folders named train and test at the top are a split, not labels.
    """
    test, above = None, [p.parts[:-1] for p in relative]
    tops = {parts[0].lower() if parts else "" for parts in above}
    if tops <= SPLIT.keys() and any(SPLIT[top] == 0 for top in tops):
        held_out = np.array([bool(SPLIT[parts[0].lower()]) for parts in above])
        test = held_out if held_out.any() else None
        above = [parts[1:] for parts in above]
        if test is not None:
            said.append("its folders say what is held out")
    depth = min(max(map(len, above), default=0), len(LEVELS))
    words = {}
    for level in range(depth):
        within = [parts for parts in above if len(parts) > level]
        if 2 * len(within) < len(above):
            folders = sorted({"/".join(parts) for parts in within}, key=natural)
            said.append(f"few pictures lie in {some(folders)}: no label from that")
            break
        end = None if level == len(LEVELS) - 1 else level + 1
        words[LEVELS[level]] = ["/".join(parts[level:end]) for parts in above]
    return words, test


def _from_tables(path, files, said):
    """Read labels from the table in a folder or, where it has none, from those of the folders in it

    -> {column: words}, one for each of the files
    """
    tables = _tables(path, said)
    folders = [] if tables else sorted(p for p in path.iterdir() if p.is_dir())
    for folder in folders:
        with suppress(OSError):
            tables += _tables(folder, said)
    words = {}
    for table in tables:
        inside = [i for i, file in enumerate(files) if file.is_relative_to(table.parent)]
        relative = [files[i].relative_to(table.parent) for i in inside]
        for column, listed in _from_table(table, relative, said).items():
            whole = words.setdefault(column, [""] * len(files))
            for i, word in zip(inside, listed, strict=True):
                whole[i] = word
    return words


def _tables(path, said):
    """Find the table of labels in a folder, its name in whatever case -> list of a Path, or none"""
    named = [p for p in sorted(path.iterdir()) if p.name.lower() in TABLES]
    named.sort(key=lambda p: TABLES.index(p.name.lower()))
    said += [f"{p.name} is not read, as {named[0].name} is" for p in named[1:]]
    return named[:1]


def _from_table(table, relative, said):
    """Read labels from labels.csv, metadata.csv or the like -> {column: words}"""
    columns, entries = _rows(table)
    if not entries:
        said.append(f"{table.name} has no rows: no labels from it")
        return {}
    places = {str(p.as_posix()): i for i, p in enumerate(relative)}
    by_name = {}
    for i, p in enumerate(relative):
        for key in (p.name, p.stem):
            by_name[key] = i if key not in by_name else None

    def find(word):
        word = "" if word is None else str(word).replace("\\", "/").removeprefix("./")
        return places.get(word, by_name.get(word, by_name.get(word.rpartition("/")[2])))

    columns, entries = _with_header(columns, entries, find)
    key = _file_column(columns, entries, find, table)
    where = [find(entry.get(key, "")) for entry in entries]
    words = {}
    for column in columns:
        if column == key or not column.strip():  # pandas' own numbers have no name
            continue
        listed = [""] * len(relative)
        for i, entry in zip(where, entries, strict=True):
            if i is not None:
                listed[i] = printable(entry.get(column))
        values = {word for word in listed if word}
        if len(values) > max(20, len(relative) // 2):
            said.append(f"{table.name}: {column!r} has {len(values):,} values: no label")
        elif values:
            words[column] = listed
    _say_what_does_not_fit(table, relative, where, [e.get(key, "") for e in entries], said)
    return words


def _say_what_does_not_fit(table, relative, where, named, said):
    """Count what a table names in vain, twice or not at all: where: indices of pictures or None"""
    said_of = {i for i in where if i is not None}
    unknown = [word for i, word in zip(where, named, strict=True) if i is None]
    twice = len(where) - len(unknown) - len(said_of)
    missing = [str(p) for i, p in enumerate(relative) if i not in said_of]
    if twice:
        rows = number(twice, "row names a picture", "rows name pictures")
        said.append(f"in {table.name} {rows} once more: the last one counts")
    if unknown:
        files = number(len(unknown), "file that is", "files that are")
        said.append(f"{table.name} names {files} not there: {some(unknown)}")
    if missing:
        files = number(len(missing), "picture")
        said.append(f"{table.name} does not name {files}, whose labels stay open: {some(missing)}")


def _rows(table):
    """Read a table of labels -> names of its columns, a list of dicts"""
    try:
        require_file(table)
        text = _decoded(table.read_bytes())
        if table.suffix == ".jsonl":
            entries = [json.loads(line) for line in text.splitlines() if line.strip()]
            if not all(type(entry) is dict for entry in entries):
                raise ValueError("a line is no object in braces")
            return list(dict.fromkeys(k for e in entries for k in e)), entries
        head = text[: text.find("\n")] if "\n" in text else text
        delimiter = max(",;\t|", key=head.count)
        reader = csv.DictReader(io.StringIO(text, newline=None), delimiter=delimiter)
        entries = list(reader)
        columns = [c for c in reader.fieldnames or [] if c is not None]
        return columns, entries
    except (OSError, ValueError, csv.Error) as e:
        why = getattr(e, "strerror", None) or e
        raise Unusable(f"{table} cannot be read ({why}): mend it or move it away") from None


def _decoded(stored):
    """Read text as UTF-8, as UTF-16 where Excel wrote that, else as Windows of the west -> str"""
    if stored[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):  # Excel's "Unicode text"
        return stored.decode("utf-16", "replace")
    try:
        return stored.decode("utf-8-sig")
    except UnicodeDecodeError:
        return stored.decode("cp1252", "replace")


def _with_header(columns, entries, find):
    """Give columns names where the first row has none, but names a picture -> columns, entries"""
    if not any("." in str(c) and find(c) is not None for c in columns):
        return columns, entries
    names = ["file_name" if find(c) is not None else f"label-{k}" for k, c in enumerate(columns)]
    rows = [columns, *([entry.get(c) for c in columns] for entry in entries)]
    return names, [dict(zip(names, row, strict=True)) for row in rows]


def _file_column(columns, entries, find, table):
    """Find the column that names the files: the most different ones -> its name

    One of the first of FILE_COLUMNS, or any other: then from "name" on, and under any other name, a
    column counts half: it may hold mere numbers.
    """
    found = {c: len({find(e.get(c, "")) for e in entries} - {None}) for c in columns}
    places = {name: i for i, name in enumerate(FILE_COLUMNS)}
    order = {c: places.get(c.strip().lower(), len(places)) for c in columns}
    fits = lambda c: (found[c] / (1 if order[c] < places["name"] else 2), -order[c])
    sure = [c for c in columns if order[c] < places["name"]]
    best = max(sure or columns, key=fits, default=None)
    if best is None or not found[best]:
        why = "no column names the pictures beside it: give one called file_name"
        if sure:
            first = repr(printable(entries[0].get(best)))
            why = f"column {best} names none of the pictures beside it, as {first}: mend its names"
        raise Unusable(f"{table}: {why}, or move the table away")
    return best
