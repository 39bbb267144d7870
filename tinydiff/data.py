"""Images in: the data sets that come with tinydiff, as arrays in [-1, 1].

What they show, how they were made and under which licences: data/README.md and data/LICENSES.md.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent / "_data"  # where data/packing.py puts it in a wheel
if not FOLDER.exists():
    FOLDER = FOLDER.parent.parent / "data"  # in a clone
FILES = {
    "digits": "digits8.npz",
    "fashion": "fashion16.npz",
    "portraits": "portraits16.npz",
    "patterns": "patterns16.npz",
    "patterns32": "patterns32.npz",
}
STYLES = {"emoji": "emoji16.npz", "typefaces": "typefaces16.npz"}


@dataclass
class Dataset:
    """Hold a data set with its held-out part.

    train, test: (M, H, W, C) float32 in [-1, 1], each with its own M; of a user's pictures Pixels
    train_labels, test_labels: (M, number of labels) ints
    labels: the name of each label and of each of its values, {"digit": ["0", "1", ...]}
    classes: how many values each label has
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    train_labels: np.ndarray
    test_labels: np.ndarray
    labels: dict

    @property
    def classes(self):
        """Give how many values each label has: () -> tuple of ints"""
        return tuple(len(values) for values in self.labels.values())

    def __repr__(self):
        size, labels = _size(self.train), ", ".join(self.labels)
        counts = f"{len(self.train):,} training and {len(self.test):,} test images"
        return f"<Dataset {self.name}: {counts} of {size}; labels: {labels}>"


@dataclass
class Styles:
    """Hold the same subjects drawn in several styles.

    images: (M, S, H, W, C) float32 in [-1, 1], M subjects in S styles
    names, styles: the names of the M subjects and of the S styles
    test: (M,) bool, the subjects held out, or (M, S) bool, the single pictures held out
    """

    name: str
    images: np.ndarray
    names: list
    styles: list
    test: np.ndarray

    def __repr__(self):
        counts = f"{len(self.names):,} subjects in {len(self.styles)} styles"
        return f"<Styles {self.name}: {counts}, images of {_size(self.images)}>"

    def dataset(self):
        """List the pictures one by one, for a classifier: -> Dataset with M S images (H, W, C)

        Where whole subjects are held out there is one label, "style"; where single pictures are,
        there are two, "letter" and "face".
        """
        subject, style = np.indices(self.images.shape[:2]).reshape(2, -1)  # each (M S,)
        if self.test.ndim == 1:
            labels, values = style[:, None], {"style": self.styles}
            test = self.test.repeat(len(self.styles))
        else:
            labels = np.stack([subject, style], axis=1)
            values, test = {"letter": self.names, "face": self.styles}, self.test.ravel()
        x = self.images.reshape(-1, *self.images.shape[2:])
        return Dataset(self.name, x[~test], x[test], labels[~test], labels[test], values)


@dataclass
class Edits:
    """Hold pictures before and after one of their labels was changed: what an edit should give.

    before, after: (M, H, W, C) float32 in [-1, 1]
    labels_before, labels_after: (M, number of labels) ints; labels: as in Dataset
    changed: (M,) ints, which label differs, as an index into labels
    """

    before: np.ndarray
    after: np.ndarray
    labels_before: np.ndarray
    labels_after: np.ndarray
    changed: np.ndarray
    labels: dict


def _size(images):
    *_, H, W, C = images.shape
    return f"{H} x {W} x {C}"


def thumbnails(images):
    """Average images down to 8 x 8 pixels, or 4 x 4 where 8 does not divide the side.

    images: (N, H, W, C), H = W divisible by 4, of any type -> (N, D) float32
    """
    N, H, W, C = images.shape
    side = 8 if H % 8 == 0 else 4
    x = images.reshape(N, side, H // side, side, W // side, C)
    return x.mean((2, 4), dtype=np.float32).reshape(N, -1)


def meant(name, names):
    """Guess which of some names a mistyped one was meant to be.

    name: "digit"; names: list (N,) of str -> " (did you mean digits?)", "" where none is like it
    """
    found = difflib.get_close_matches(str(name), names, 1, 0.75)
    return f" (did you mean {found[0]}?)" if found else ""


def load(name):
    """Load a data set that comes with tinydiff.

    name: "digits" (8 x 8 grey), "fashion" (16 x 16 grey), "portraits" or "patterns" (16 x 16 RGB),
    "patterns32" (32 x 32 RGB)
    -> Dataset, images (N, H, W, C) in [-1, 1]
    Raises ValueError for another name, FileNotFoundError when the file is missing, OSError when it
    is damaged.
    """
    return _read(name, FILES, _dataset)


def load_styles(name):
    """Load a set of subjects in several styles that comes with tinydiff.

    name: "emoji" (1,363 subjects in 5 styles, 16 x 16 RGB, whole subjects held out) or "typefaces"
    (26 capitals in 72 faces, 16 x 16 grey, single pictures held out)
    -> Styles, images (M, S, H, W, C) in [-1, 1]
    Raises ValueError for another name, FileNotFoundError when the file is missing, OSError when it
    is damaged.
    """
    return _read(name, STYLES, _styles)


def load_edits():
    """Load 300 held-out portraits, each before and after one of its labels is changed.

    That label is hat, glasses, hair-colour, mouth, clothes or background. The program that drew the
    portraits drew both, so all else is the same to the pixel.
    -> Edits, images (M, H, W, C) in [-1, 1]
    Raises FileNotFoundError when the file is missing, OSError when it is damaged.
    """
    return _read("edits", {"edits": "edits16.npz"}, _edits)


def _read(name, files, arrange):
    """Read the file of a data set; arrange(name, its arrays) checks them and makes the data set."""
    if name not in files:
        guess = meant(name, files)
        raise ValueError(f"no data set {name!r}{guess}; there are: {', '.join(files)}")
    path = FOLDER / files[name]
    how = "install tinydiff again; in a clone, restore it or run data/build.py"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: {how}")
    try:
        with np.load(path, allow_pickle=False) as f:
            if damaged := f.zip.testzip():
                raise ValueError(f"{damaged} has changed since it was written")
            return arrange(name, f)
    except Exception as e:  # damaged bytes make NumPy and zipfile raise a dozen different errors
        raise OSError(f"{path} is damaged ({e}): {how}") from None


def _dataset(name, f):
    images, labels, test, values = f["images"], f["labels"].astype(np.int64), f["test"], _values(f)
    M = len(images)
    shapes = images.ndim == 4 and labels.shape == (M, len(values)) and test.shape == (M,)
    if not (shapes and images.dtype == np.uint8 and test.dtype == bool):
        found = f"images {images.shape}, labels {labels.shape} and test {test.shape}"
        raise ValueError(f"{found} do not fit")
    x = to_float(images)
    return Dataset(name, x[~test], x[test], labels[~test], labels[test], values)


def _values(f):
    """Read the names of the labels and of their values: -> {"hat": ["none", "blue", ...], ...}"""
    pairs = zip(f["label_names"], f["label_values"], strict=True)
    return {str(label): str(values).split("|") for label, values in pairs}


def _edits(name, f):
    before, after, values = f["before"], f["after"], _values(f)
    labels = [f[k].astype(np.int64) for k in ("labels_before", "labels_after")]
    changed = f["changed"].astype(np.int64)
    M = len(before)
    shapes = before.ndim == 4 and before.shape == after.shape and changed.shape == (M,)
    shapes = shapes and all(each.shape == (M, len(values)) for each in labels)
    if not (shapes and before.dtype == after.dtype == np.uint8):
        found = f"before {before.shape}, after {after.shape}, labels {labels[0].shape}"
        raise ValueError(f"{found} and changed {changed.shape} do not fit")
    return Edits(to_float(before), to_float(after), *labels, changed, values)


def _styles(name, f):
    images, test = f["images"], f["test"]
    if name == "typefaces":  # the file has the faces first
        images, test = images.swapaxes(0, 1), test.T
        names, styles = f["letters"].tolist(), f["font_names"].tolist()
    else:
        names, styles = f["names"].tolist(), f["style_names"].tolist()
    M, S = len(names), len(styles)
    shapes = images.ndim == 5 and images.shape[:2] == (M, S) and test.shape in ((M,), (M, S))
    if not (shapes and images.dtype == np.uint8 and test.dtype == bool):
        found = f"images {images.shape}, {M} names, {S} styles and test {test.shape}"
        raise ValueError(f"{found} do not fit")
    return Styles(name, to_float(images), names, styles, test)


class Pixels:
    """Hold images as uint8, and give those that are asked for as float32 in [-1, 1].

    So a set takes a quarter of the memory; a batch is converted when it is drawn.
    pixels: (all, H, W, C) uint8; rows: (M,) ints, which of them are in the set, None = all
    images[i], i an int, slice or array, is float32; so are iteration, np.asarray(images) and
    reshape, of the whole set, which is raw as bytes.
    """

    dtype, ndim = np.dtype(np.float32), 4

    def __init__(self, pixels, rows=None):
        self.pixels, self.rows = pixels, np.arange(len(pixels)) if rows is None else rows
        self.shape = (len(self.rows), *pixels.shape[1:])

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return to_float(self.pixels[self.rows[i]])

    def __array__(self, dtype=None, copy=None):
        return self[:].astype(dtype or np.float32, copy=False)

    @property
    def raw(self):
        """Give the whole set, not converted: -> (M, H, W, C) uint8"""
        return self.pixels[self.rows]

    def reshape(self, *shape):
        """Give the whole set, converted, in another shape."""
        return self[:].reshape(*shape)


def to_float(images):
    """Map pixels from 0 .. 255 to [-1, 1]. (N, H, W, C) uint8 -> (N, H, W, C) float32"""
    return images.astype(np.float32) / np.float32(127.5) - 1


def to_uint8(x):
    """Map [-1, 1] to pixels 0 .. 255, clipping what lies outside. (..., H, W, C) float -> uint8"""
    return np.round((np.clip(x, -1, 1) + 1) * 127.5).astype(np.uint8)
