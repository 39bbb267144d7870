"""Which drawings are nearly pictures that the network was trained on?

Nearly: closer to one, pixel by pixel, than NEAR of what is usual between a picture that the network
has not seen and the training picture nearest to it. A flipped or shifted copy is one, too, where
the network saw pictures flipped or shifted.
"""

from dataclasses import dataclass

import numpy as np

from .. import augment
from . import metrics

NEAR = 0.4  # of the usual distance
LEAST = 0.008  # from black to white = 2, so one grey level: as good as the same picture
ENOUGH, MOST = 20, 2048  # held-out pictures that tell what is usual, at least and at most


class Known:
    """The pictures that a network was trained on, in all variants, to compare others with.

    .usual: how far an unseen picture is from the nearest of them, a median, 0 where all are alike;
    unseen are those held out, or, where these are few, training pictures, each compared with all
    that differ from it; .share: of how many of these it is said that they are nearly copies
    dataset: data.Dataset of images (M, H, W, C); flip, shift: the variants, see augment.ways;
    tick(n): called as n pictures have been compared with one variant of all
    """

    def __init__(self, dataset, flip=False, shift=0, tick=lambda n: None):
        self.images, self.shift, self.tick = dataset.train, shift, tick
        self.ways = _ways(flip, shift)
        some, i = _unseen(dataset)
        unseen, _ = self.nearest(some[i], i if some is dataset.train else None)
        self.usual = float(np.median(unseen))
        self.share = float(np.mean(self.near(unseen)))

    def nearest(self, x, own=None):
        """Find the training picture that is most like each of some pictures, in any variant.

        x: (N, H, W, C); own: (N,) ints, for each the training picture that it is itself: then it is
        compared neither with that nor with what is as good as the same; None = it is none
        -> distance (N,), see metrics.nearest; index (N,) ints
        """
        distance, index = np.full(len(x), np.inf), np.zeros(len(x), int)
        apart = 0 if own is None else LEAST
        for way in self.ways:
            among = _Changed(self.images, way, self.shift)
            found, i = metrics.nearest(x, among, own, apart, self.tick)
            index = np.where(found < distance, i, index)
            distance = np.minimum(found, distance)
        return distance, index

    def near(self, distance):
        """Tell of whom to say that it is nearly a copy: distances (N,) as of `nearest` -> bools"""
        return distance < max(NEAR * self.usual, LEAST)


@dataclass
class _Changed:
    """Pictures that are all flipped and shifted in one way, when they are asked for."""

    images: np.ndarray
    way: np.ndarray
    shift: int

    def __len__(self):
        return len(self.images)

    @property
    def shape(self):
        return self.images.shape

    def __getitem__(self, i):
        part = self.images[i]
        return augment.change(part, np.tile(self.way, (len(part), 1)), self.shift)


def work(dataset, n, flip=False, shift=0):
    """Count the ticks of Known(dataset, flip, shift), and of `nearest` for n pictures (H, W, C)

    -> int
    """
    return (len(_unseen(dataset)[1]) + n) * len(_ways(flip, shift))


def _unseen(dataset):
    """Choose pictures that tell what is usual -> dataset.test or dataset.train, which of them"""
    some = dataset.test if len(dataset.test) >= ENOUGH else dataset.train
    return some, np.unique(np.arange(MOST) * len(some) // MOST)


def _ways(flip, shift):
    return np.unique(augment.ways(flip, shift), axis=0)
