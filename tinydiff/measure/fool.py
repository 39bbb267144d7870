"""Pictures that fool the numbers: a board of seven metrics, and a classifier that judges.

What features do not feel, no metric of features sees; what a classifier feels, hardly any eye.
"""

import numpy as np

from .. import ops
from ..autodiff import Tensor, gradient
from . import classifier, evaluate, metrics

DIRTY = 0.1  # a chessboard of +-0.1, from black to white = 2: every eye sees it
AWAY = 0.275  # as far from the nearest training portrait as new portraits are
NEAR = 2 * 0.029  # root mean square, black to white = 2: just below an rmse of 0.03


class Board:
    """Seven numbers for a set of portraits, each held against what sets of real ones score.

    Six compare features with those of n training images, as in Yardstick; memorisation compares
    pixels. Normal is what `sets` other sets of n real images score, for memorisation half of the
    unseen ones, from least to most, and half of that range on either side.
    reader: a Classifier; dataset: data.Dataset with (M, H, W, C) images; n: at most M / (1 + sets);
    rng chooses the images
    """

    OF_FEATURES = ("frechet", "kernel_distance", "precision", "recall", "density", "coverage")
    SMALL_IS_GOOD = ("frechet", "kernel_distance")

    def __init__(self, reader, dataset, n, sets, rng):
        self.reader, self.dataset = reader, dataset
        self.unseen = metrics.nearest(dataset.test, dataset.train)[0]
        real, *others = rng.permutation(len(dataset.train))[: n * (1 + sets)].reshape(-1, n)
        found = evaluate.features(reader, dataset.train[real])
        self.unit = np.sqrt(found.var(0).mean())
        self.real, scored = found / self.unit, []
        for chosen in others:
            half = rng.choice(len(dataset.test), len(dataset.test) // 2, replace=False)
            scored.append(self._of_features(dataset.train[chosen]))
            scored[-1]["memorisation"] = self._memorisation(self.unseen[half])
        columns = {name: [row[name] for row in scored] for name in scored[0]}
        self.normal = {}
        for name, values in columns.items():
            margin = 0.5 * (max(values) - min(values))
            self.normal[name] = min(values) - margin, max(values) + margin

    def measure(self, images):
        """Measure images (N, H, W, C) in [-1, 1] -> {"frechet": 4.2, ..., "memorisation": 0.9}"""
        away, _ = metrics.nearest(images, self.dataset.train)
        return self._of_features(images) | {"memorisation": self._memorisation(away)}

    def verdicts(self, row):
        """Judge what `measure` gave -> {"frechet": "worse", ...}: worse, normal, or better

        Better than real images is a reason to be suspicious.
        """
        found = {}
        for name, value in row.items():
            low, high = self.normal[name]
            too_much = "worse" if name in self.SMALL_IS_GOOD else "better"
            too_little = "better" if name in self.SMALL_IS_GOOD else "worse"
            found[name] = too_little if value < low else too_much if value > high else "normal"
        return found

    def _of_features(self, images):
        drawn = evaluate.features(self.reader, np.asarray(images, np.float32)) / self.unit
        return {name: getattr(metrics, name)(self.real, drawn) for name in self.OF_FEATURES}

    def _memorisation(self, away):
        """Do what metrics.memorisation does, with distances (N,) that are known already."""
        return float(np.median(away) / np.median(self.unseen))


def chessboard(images):
    """Draw a chessboard of +-1 for images (N, H, W, C) -> (H, W, 1), in their precision"""
    return (2 * (np.indices(images.shape[1:3]).sum(0) % 2) - 1)[..., None].astype(images.dtype)


def dirt(images):
    """Measure how strong a chessboard lies on each image: its mean product with one of +-1.

    images: (N, H, W, C) -> (N,), about 0 for portraits, 0.1 where one of +-0.1 was added
    """
    return (images * chessboard(images)).mean((1, 2, 3))


def _size(x):
    """Measure each image's root mean square, never 0: (N, H, W, C) -> (N, 1, 1, 1)"""
    return np.maximum(np.sqrt((x**2).mean((1, 2, 3), keepdims=True)), np.finfo(x.dtype).tiny)


def fool_board(reader, train, rng, n):
    """Make n portraits that nobody would want, and that a Board takes for real ones.

    Nobody would want them: `dirt` is 0.1 or more in each. The board takes them for real: all seven
    numbers are normal, neither worse nor better; so there have to be many people, about as far
    from the nearest training image as new portraits are, with features like theirs.
    reader: the Classifier whose features the board compares; train: (M, H, W, C), the training
    images; rng: chooses; n: at least 50 -> (n, H, W, C) float32 in [-1, 1]
    Any set will do that meets this; it is measured on a board made of other images than yours.
    """
    real = train[rng.choice(len(train), n, replace=False)]
    want, x = reader.features(real), real + np.float32(AWAY) * chessboard(real)
    speed = np.zeros_like(x)
    for k in range(10):
        dirty = Tensor(x)
        (g,) = gradient(ops.mse(reader.features(dirty), want), [dirty])
        speed = np.float32(0.6) * speed - g / _size(g)
        away = x + np.float32(0.06 * (1 - k / 10)) * speed - real
        x = np.clip(real + np.float32(AWAY) * away / _size(away), -1, 1)
    return x


def fool_judge(judge, images, label):
    """Change images, by next to nothing, so that a classifier reads a label off them.

    Each image is moved by an rmse of less than 0.03 (black to white = 1), and at least 90 % of them
    are then read as `label`.
    judge: a Classifier with one label; images: (N, H, W, C) in [-1, 1]; label: int
    -> (N, H, W, C) in [-1, 1], in the precision of images. Any images will do that meet this.
    Source: Szegedy et al. 2014; in several steps Kurakin et al. 2017.
    """
    uphill = classifier.log_p_gradient(judge, np.full((len(images), 1), label))
    x = images
    for _ in range(20):
        g = uphill(x, 0)
        away = x + images.dtype.type(0.01) * g / _size(g) - images
        away = away * np.minimum(1, images.dtype.type(NEAR) / _size(away))
        x = np.clip(images + away, -1, 1)
    return x
