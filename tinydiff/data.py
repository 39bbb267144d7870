"""Images in: the data sets that come with tinydiff, as arrays in [-1, 1].

What they show, how they were made and under which licences: data/README.md and data/LICENSES.md.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent.parent / "data"
FILES = {"digits": "digits8.npz", "fashion": "fashion16.npz", "portraits": "portraits16.npz"}


@dataclass
class Dataset:
    """A data set with its held-out part.

    train, test: (M, H, W, C) float32 in [-1, 1], M differing; train_labels, test_labels: (M, number of labels) ints;
    labels: what each label is called, and each of its values: {"digit": ["0", "1", ...]}; classes: how many values each label has
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    train_labels: np.ndarray
    test_labels: np.ndarray
    labels: dict

    @property
    def classes(self):
        return tuple(len(values) for values in self.labels.values())


def load(name):
    """Load a data set that comes with tinydiff.

    name: "digits" (8 x 8 grey), "fashion" (16 x 16 grey) or "portraits" (16 x 16 RGB) -> Dataset, images (N, H, W, C) in [-1, 1]
    Raises ValueError for another name, FileNotFoundError when the file is missing, OSError when it is damaged.
    """
    if name not in FILES:
        raise ValueError(f"no data set {name!r}; there are: {', '.join(FILES)}")
    path = FOLDER / FILES[name]
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: install tinydiff from its folder with `pip install -e .`, or run data/build.py")
    try:
        with np.load(path, allow_pickle=False) as f:
            if damaged := f.zip.testzip():
                raise ValueError(f"{damaged} has changed since it was written")
            images, labels, test = f["images"], f["labels"].astype(np.int64), f["test"]
            values = {str(name): str(v).split("|") for name, v in zip(f["label_names"], f["label_values"], strict=True)}
        fits = images.ndim == 4 and labels.shape == (len(images), len(values)) and test.shape == (len(images),)
        if not (fits and images.dtype == np.uint8 and test.dtype == bool):
            raise ValueError(f"images {images.shape}, labels {labels.shape} and test {test.shape} do not fit")
    except Exception as e:  # bytes that are not theirs make NumPy and zipfile raise a dozen different errors
        raise OSError(f"{path} is damaged ({e}): restore it, or run data/build.py") from None
    x = to_float(images)
    return Dataset(name, x[~test], x[test], labels[~test], labels[test], values)


def open_image(path, size, channels):
    """Read a user's picture and fit it to a model: cut to its middle square, scaled to size x size, grey or RGB, what is transparent white.

    path: PNG, JPEG or whatever else Pillow reads; size: pixels a side; channels: 1 or 3 -> x (1, H, W, C) float32 in [-1, 1], a line that
    says what was done to it. Raises OSError when there is no such file, or it is no picture.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            picture.load()
    except UnidentifiedImageError:
        raise OSError(f"{path} is not a picture that can be read: give a PNG or JPEG") from None
    except (OSError, SyntaxError, ValueError) as e:
        raise OSError(f"{path} cannot be read ({getattr(e, 'strerror', None) or e}): give a PNG or JPEG") from None
    done = [f"{picture.width} x {picture.height} {picture.mode}"]
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
        done.append("transparent parts made white")
    picture, side = picture.convert("RGB" if channels == 3 else "L"), min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    if picture.size != (side, side):
        done.append("cut to its middle square")
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BOX, (left, top, left + side, top + side))
        done.append(f"scaled to {size} x {size}")
    return to_float(np.asarray(picture).reshape(1, size, size, channels)), f"{path}: {', '.join(done)}"


def to_float(images):
    """Map pixels from 0 .. 255 to [-1, 1]. (N, H, W, C) uint8 -> float32"""
    return images.astype(np.float32) / np.float32(127.5) - 1


def to_uint8(x):
    """Map [-1, 1] to pixels 0 .. 255, cutting off what lies outside. (..., H, W, C) float -> uint8"""
    return np.round((np.clip(x, -1, 1) + 1) * 127.5).astype(np.uint8)
