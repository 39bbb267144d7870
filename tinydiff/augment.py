"""More pictures out of few: each flipped and shifted, while the network is told what was done.

Trained on flipped pictures, a network draws flipped ones: the change leaks. So it gets, beside the
labels, what was done to each picture, unet.UNet's `told` (augmentation labels, in EDM's words);
while it draws, it is told 0: nothing.
What all variants have in common it learns from all of them.
Source: Karras et al. 2022 (EDM), appendix F.2; Jun et al. 2020 (distribution augmentation).
"""

from dataclasses import dataclass

import numpy as np


def told(flip=False, shift=0):
    """Count the values of what a network is told of a picture: was it flipped, moved down, right?

    flip: bool; shift: pixels, at most, in each direction -> list of ints (3,), for UNet's `told`
    """
    return [1 + flip, 2 * shift + 1, 2 * shift + 1]


def ways(flip=False, shift=0):
    """List what can be done to a picture, each as often as it is: half of all are not moved.

    -> (A, 3) ints: flipped or not; pixels down; pixels right, of which 0, 1, .. shift mean just
    that, and shift + 1, .. 2 shift mean -shift, .. -1: so 0 is always "nothing"
    """
    steps = range(2 * shift + 1)
    moves = [(down, right) for down in steps for right in steps]
    moves += moves[:1] * (len(moves) - 2)
    return np.array([(flipped, *move) for flipped in range(1 + flip) for move in moves])


def change(x, way, shift=0):
    """Flip and shift pictures; what a shift uncovers takes the colour of the nearest pixel.

    x: (N, H, W, C); way: (N, 3) ints, as in `ways` -> (N, H, W, C)
    """
    N, H, W, _ = x.shape
    flipped, down, right = way.T[..., None]  # each (N, 1)
    down, right = (np.where(n > shift, n - 2 * shift - 1, n) for n in (down, right))
    rows = np.clip(np.arange(H) - down, 0, H - 1)
    columns = np.clip(np.arange(W) - right, 0, W - 1)
    columns = np.where(flipped == 1, W - 1 - columns, columns)
    return x[np.arange(N)[:, None, None], rows[:, :, None], columns[:, None, :]]


@dataclass
class Variants:
    """A set in all its variants, made when they are asked for: number i is picture i mod M.

    images: (M, H, W, C), an array or data.Pixels; flip, shift: see `ways`
    variants[i], i (N,) ints below len(variants) = M A -> (N, H, W, C)
    """

    images: np.ndarray
    flip: bool = False
    shift: int = 0

    def __post_init__(self):
        self.ways = ways(self.flip, self.shift)

    def __len__(self):
        return len(self.images) * len(self.ways)

    def __getitem__(self, i):
        M = len(self.images)
        return change(self.images[i % M], self.ways[i // M], self.shift)


@dataclass
class Said:
    """What a network is told of Variants: the labels, and then what was done.

    labels: (M, number of labels) ints; said[i], i (N,) ints -> (N, number of labels + 3) ints
    """

    labels: np.ndarray
    variants: Variants

    def __getitem__(self, i):
        M = len(self.labels)
        return np.concatenate([self.labels[i % M], self.variants.ways[i // M]], axis=1)


def training(dataset, settings):
    """Give what a network is trained on: the set as it is, or Variants of it and what it is told.

    dataset: data.Dataset of images (M, H, W, C); settings: of the training, see checkpoint.py
    -> images, labels or None, as train.train takes them
    """
    flip, shift = settings.get("flip", False), settings.get("shift", 0)
    if not (flip or shift):
        return dataset.train, dataset.train_labels if dataset.labels else None
    images = Variants(dataset.train, flip, shift)
    return images, Said(dataset.train_labels, images)
