"""Data sets as they are published: MNIST's IDX, MedMNIST's .npz, Quick, Draw!'s .npy, CIFAR."""

import re
from dataclasses import replace

import numpy as np

from . import table
from .source import Picture, Source, Unusable, coded, natural, printable, some

PARTNERS = (  # of a name's words for pictures, the word for labels
    ("images", "labels"),
    ("imgs", "labels"),
    ("img", "label"),
    ("image", "label"),
    ("x", "y"),
    ("X", "y"),
    ("data", "labels"),
    ("arr_0", "arr_1"),
)
HELD_OUT = ("test", "t10k", "testing")
KEYS = (  # of .npz files: pictures, labels, held out
    ("train_images", "train_labels", False),
    ("val_images", "val_labels", False),
    ("test_images", "test_labels", True),
    ("x_train", "y_train", False),
    ("x_val", "y_val", False),
    ("x_test", "y_test", True),
)
PICKLE = "is a Python pickle, which can run code, and is refused"
BINARY = "take the binary version of CIFAR, cifar-10-binary.tar.gz, unpacked"


def is_array(path):
    """Tell by its name whether a file may hold pictures as one array: () -> bool"""
    name = path.name.lower()
    return name.endswith((".npy", ".npz", ".bin")) or bool(re.search(r"ubyte|idx[1-4]", name))


def from_files(name, files, folder=None):
    """Read array files as one set: pictures paired with labels by name, training with held out.

    files: Paths of one folder, or a single one, to which its partners are found
    -> Source with pictures (H, W, C)
    Raises Unusable where there are no pictures in them, or pictures and labels do not fit.
    """
    single = len(files) == 1 and folder is None
    there = sorted(files[0].parent.iterdir() if single else files, key=lambda p: natural(p.name))
    there = _without_twins([p for p in there if is_array(p) or p in files], files)
    if any(p.suffix == ".bin" for p in files):
        return _cifar(name, [p for p in there if p.suffix == ".bin"], files[0].parent)
    parts, said = [], []
    labels_of = {p: _partner(p, there) for p in there}
    taken = {q for q in labels_of.values() if q}
    if single:
        (path,) = files
        if path in taken:
            of = next(p for p, q in labels_of.items() if q == path)
            raise Unusable(f"{path} holds the labels of {of.name}: give {of}")
        others = [p for p in there if p != path and _as_train(p) == path.name.removesuffix(".gz")]
        chosen = [path, *others]
    else:
        chosen = [p for p in there if p not in taken]
    for path in chosen:
        parts += _parts(path, labels_of.get(path), single or len(chosen) > 1, said)
    return _joined(name, parts, said, len(chosen))


def _without_twins(paths, given):
    """Leave out what is there a second time, packed or unpacked, and is not the one given."""
    order = sorted(paths, key=lambda p: (p in given, p.suffix != ".gz"))
    best = {p.name.removesuffix(".gz"): p for p in order}
    return [p for p in paths if best[p.name.removesuffix(".gz")] == p]


def _words(name):
    return re.split(r"([-_.])", name)


def _partner(path, there):
    """Find the file of labels that belongs to a file of pictures -> Path or None"""
    names = {_plain(p): p for p in there}
    for pictures, labels in PARTNERS:
        pattern = rf"(?<![A-Za-z0-9]){pictures}(?![A-Za-z])"
        other, n = re.subn(pattern, labels, _plain(path))
        other = re.sub(r"idx\d", "idx1", other)
        if n and other in names and names[other] != path:
            return names[other]
    return None


def _plain(path):
    return re.sub(r"idx\d", "idx#", path.name.removesuffix(".gz")).replace("idx#", "idx1")


def _is_held_out(path):
    return any(word.lower() in HELD_OUT for word in _words(path.name))


def _as_train(path):
    """Name the training file that a held-out one belongs to -> str, its own name if it is none"""
    name = path.name.removesuffix(".gz")
    words = ["train" if w.lower() in HELD_OUT else w for w in _words(name)]
    return "".join(words) if _is_held_out(path) else ""


def _parts(path, labels, several, said):
    """Read one file: -> list of (Table, columns of labels or None, held out, Path, names)"""
    if path.suffix == ".npz":
        return _npz(path, labels, said)
    pictures = table.npy(path) if path.suffix == ".npy" else _idx(path)
    pictures, found = table.fitted(pictures)
    if "emnist" in path.name.lower() and path.suffix != ".npy":
        pictures = replace(pictures, order="turned")
        found.append("EMNIST is stored transposed: turned")
    said += found
    columns = _columns(labels, path, pictures) if labels else None
    if columns and (mapping := _mapping(path)):
        columns = [[mapping.get(word, word) for word in column] for column in columns]
    return [(pictures, columns, _is_held_out(path), path, None)]


def _idx(path):
    if not table.is_idx(path):
        raise Unusable(f"{path} is no IDX file, packed or not: get it anew")
    return table.idx(path)


def _columns(labels, path, pictures):
    """Read the file of labels that belongs to a file of pictures -> list of columns"""
    if labels.suffix == ".npz":
        (found,) = list(table.npz(labels).values())[:1]
    else:
        found = table.npy(labels) if labels.suffix == ".npy" else _idx(labels)
    return _fitting(table.words(found), pictures, labels)


def _fitting(columns, pictures, labels):
    if (n := len(columns[0])) != (M := pictures.shape[0]):
        unequal = f"{pictures.path} has {M:,} pictures, {labels} {n:,} labels"
        raise Unusable(f"{unequal}: get the two files that belong together")
    return columns


def _mapping(path):
    """Read EMNIST's names of classes: "10 65" says that label 10 is chr(65) -> {"10": "A"}"""
    stem = re.split(r"-(?:train|test)-", path.name)[0]
    try:
        text = path.with_name(f"{stem}-mapping.txt").read_text(encoding="ascii")
        return {w[0]: chr(int(w[1])) for line in text.splitlines() if (w := line.split())}
    except (OSError, ValueError, IndexError):
        return {}


def _npz(path, labels, said):
    tables, parts = table.npz(path), []
    lower = {name.lower(): t for name, t in tables.items()}
    pairs = [(x, y, out) for x, y, out in KEYS if x in lower]
    if not pairs:
        images = [name for name, t in lower.items() if len(t.shape) in (3, 4)]
        images = images or [name for name, t in lower.items() if len(t.shape) == 2]
        if "images" in images:
            images = ["images"]
        if len(images) != 1:
            named = [f"{name} {t.shape}" for name, t in tables.items()]
            raise Unusable(f"{path} holds {some(named)}: which are pictures? Name them images")
        partner = next((y for x, y in PARTNERS if x.lower() == images[0] and y in lower), "")
        pairs = [(images[0], partner or "labels", _is_held_out(path))]
    for x, y, out in pairs:
        pictures, found = table.fitted(lower[x])
        said += [line for line in found if line not in said]
        columns = _columns(labels, path, pictures) if labels else None
        if y in lower:
            columns = _fitting(table.words(lower[y]), pictures, lower[y].path)
        parts.append((pictures, columns, out, path, _own_names(lower, columns)))
    if "test" in lower and len(parts) == 1 and lower["test"].shape == (parts[0][0].shape[0],):
        held_out = np.concatenate([x for _, x in lower["test"].raw()]).astype(bool)
        parts = [(*parts[0][:2], held_out, *parts[0][3:])]
    return parts


def _own_names(lower, columns):
    """Read the names of labels and values, which files of tinydiff's own have -> dict or None"""
    if columns is None or not {"label_names", "label_values"} <= lower.keys():
        return None
    (names,), (values,) = (table.words(lower[k]) for k in ("label_names", "label_values"))
    if not len(names) == len(values) == len(columns):
        return None
    values = [[printable(word) for word in line.split("|")] for line in values]
    return {printable(n) or "label": v for n, v in zip(names, values, strict=True)}


def _joined(name, parts, said, files):
    """Make one set of the parts -> Source"""
    if not parts:
        raise Unusable(f"{name}: no pictures among its array files: give the one that has them")
    sides = {p[0].side for p in parts}
    if len(sides) > 1:
        sizes = some([f"{p[3].name} {p[0].side}" for p in parts])
        raise Unusable(f"{name} has pictures of several shapes ({sizes}): give one of these files")
    counts = [p[0].shape[0] for p in parts]
    test = np.concatenate([np.broadcast_to(p[2], n) for p, n in zip(parts, counts, strict=True)])
    labels, rows = {}, None
    widths = {len(p[1]) for p in parts if p[1]}
    if len(widths) == 1:
        (K,) = widths
        own = next((p[4] for p in parts if p[4]), None)
        titles = list(own or (["class"] if K == 1 else [f"label-{k + 1}" for k in range(K)]))
        columns = {title: [] for title in titles}
        for part, n in zip(parts, counts, strict=True):
            for k, title in enumerate(titles):
                words = part[1][k] if part[1] else [""] * n
                columns[title] += _valued(words, own[title], part[3]) if own else words
        labels, rows = coded(columns)
        labels, rows = (own, _as_own(labels, rows, own)) if own else (labels, rows)
    elif files > 1 and not widths and not test.any():
        stems = [p[3].stem.removeprefix("full_numpy_bitmap_") for p in parts]
        words = [stem for stem, n in zip(stems, counts, strict=True) for _ in range(n)]
        labels, rows = coded({"kind": words})
        said.append("each file is one kind")
    test = test if test.any() and not test.all() else None
    tables, starts = [p[0] for p in parts], np.cumsum([0, *counts])

    def read(indices):
        for t, start, n in zip(tables, starts[:-1], counts, strict=True):
            mine = indices[(indices >= start) & (indices < start + n)] - start
            yield from _chosen(t, mine)

    files = sorted({p[3] for p in parts})
    lines = list(dict.fromkeys(said))
    return Source(name, sum(counts), read, str, labels, rows, test, lines, files)


def _valued(words, values, path):
    """Look up the values that a column of numbers stands for; "" stays -> list of str"""
    known = {"": ""} | {str(i): value for i, value in enumerate(values)}
    if unknown := next((w for w in words if w not in known), None):
        names = f"has the label {unknown}, where only 0 to {len(values) - 1} have a name"
        raise Unusable(f"{path} {names}: mend it or get it anew")
    return [known[w] for w in words]


def _as_own(labels, rows, own):
    """Number values in the order in which the set's own file has them."""
    columns = []
    for k, (name, values) in enumerate(own.items()):
        order = [values.index(v) for v in labels[name]] + [len(values)]
        columns.append(np.array(order)[rows[:, k]])
    return np.stack(columns, axis=1)


def _chosen(pictures, indices):
    """Read the pictures of a table at increasing indices -> yields Pictures"""
    if not len(indices):
        return
    start = 0
    for x in pictures.blocks():
        for i in indices[(indices >= start) & (indices < start + len(x))]:
            yield Picture(x[i - start])
        start += len(x)
        if start > indices[-1]:
            return


def _cifar(name, files, folder):
    """Read CIFAR's binary version: one byte of labels for CIFAR-10, two for CIFAR-100 -> Source"""
    many = all(p.stat().st_size % 3074 == 0 for p in files)
    titles = {"coarse": "coarse_label_names.txt", "class": "fine_label_names.txt"} if many else {}
    titles = titles or {"class": "batches.meta.txt"}
    names = []
    for file in titles.values():
        try:
            names.append((folder / file).read_text(encoding="utf-8").split())
        except (OSError, UnicodeDecodeError):
            names.append([])
    parts = []
    for path in files:
        found = table.cifar(path, len(titles))
        skipped = np.concatenate([labels for labels, _ in found.raw()])
        columns = []
        for column, words in zip(skipped.T.tolist(), names, strict=True):
            column = list(map(str, column))
            columns.append(_valued(column, words, path) if words else column)
        parts.append((found, columns, _is_held_out(path), path, dict.fromkeys(titles)))
    for k, title in enumerate(titles):
        values = names[k] or sorted({w for p in parts for w in p[1][k]}, key=natural)
        for part in parts:
            part[4][title] = values
    return _joined_named(name, parts)


def _joined_named(name, parts):
    """Join parts whose columns hold the names of values already."""
    own = parts[0][4]
    indexed = []
    for found, columns, out, path, _ in parts:
        index = [{v: str(i) for i, v in enumerate(values)} for values in own.values()]
        columns = [[ix[w] for w in column] for ix, column in zip(index, columns, strict=True)]
        indexed.append((found, columns, out, path, own))
    return _joined(name, indexed, [], len(parts))


def refusal(path):
    """Say why a file that is neither picture nor array is refused, by how it starts: () -> str"""
    with open(path, "rb") as f:
        start = f.read(8)
    name = path.name.lower()
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return f"{path} {PICKLE}: {BINARY if 'batch' in name else 'save plain arrays, as .npz'}"
    if start[:2] == b"PK" or start[:2] == b"\x1f\x8b" or start[257:262] == b"ustar":
        return f"{path} is an archive: unpack it and give the folder"
    if name.endswith((".tar", ".zip", ".tgz", ".7z", ".rar")):
        return f"{path} is an archive: unpack it and give the folder"
    if not start:
        return f"{path} is an empty file"
    kinds = "a folder of pictures, a sprite sheet with --grid, an animation, .npy, .npz or IDX"
    return f"{path} is nothing that can be read: give {kinds}"
