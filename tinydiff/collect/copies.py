"""Which drawings are nearly pictures that the network was trained on?

Nearly: closer to one, pixel by pixel, than NEAR of what is usual between a picture that the network
has not seen and the training picture nearest to it. A flipped or shifted copy is one, too, where
the network saw pictures flipped or shifted.
"""

import numpy as np

from .. import augment

NEAR = 0.4  # of the usual distance
ENOUGH, MOST = 20, 256  # held-out pictures that tell what is usual, at least and at most
BLOCK = 1024  # pictures compared at once


def nearest(x, images, ways, shift=0, own=None):
    """Find the distance from each of some pictures to the nearest of others, in all variants.

    Distance: the root mean square difference of the pixels.
    x: (N, H, W, C) in [-1, 1]; images: (M, H, W, C), an array or data.Pixels, taken some at a time;
    ways: (A, 3), shift: the variants, see augment.ways; own: (N,) ints, for each picture the one of
    `images` that is not compared with it, None = all are
    -> distance (N,), index (N,) ints
    """
    x = np.asarray(x, np.float32).reshape(len(x), -1)
    best, index = np.full(len(x), np.inf), np.zeros(len(x), int)
    for first in range(0, len(images), BLOCK):
        part = images[first : first + BLOCK]
        for way in ways:
            y = augment.change(part, np.tile(way, (len(part), 1)), shift).reshape(len(part), -1)
            d2 = (x * x).sum(1, keepdims=True) - 2 * x @ y.T + (y * y).sum(1)
            if own is not None:
                d2[own[:, None] == first + np.arange(len(part))] = np.inf
            j = d2.argmin(1)
            found = d2[np.arange(len(x)), j]
            index = np.where(found < best, first + j, index)
            best = np.minimum(best, found)
    return np.sqrt(np.maximum(best, 0) / x.shape[1]), index


def near_copies(x, dataset, flip=False, shift=0):
    """Tell which drawings are nearly training pictures.

    x: (N, H, W, C) in [-1, 1]; dataset: data.Dataset of images (M, H, W, C); flip, shift: the
    variants that the network saw, see augment.ways
    -> (N,) bool; index (N,) ints, the training picture that is nearest; the share of unseen
    pictures, or of training pictures compared with all others, of which the same would be said
    """
    ways, images = np.unique(augment.ways(flip, shift), axis=0), dataset.train
    if len(dataset.test) >= ENOUGH:
        i = np.unique(np.arange(MOST) * len(dataset.test) // MOST)
        usual, _ = nearest(dataset.test[i], images, ways, shift)
    else:
        i = np.unique(np.arange(MOST) * len(images) // MOST)
        usual, _ = nearest(images[i], images, ways, shift, own=i)
    limit = NEAR * np.median(usual)
    distance, index = nearest(x, images, ways, shift)
    return distance < limit, index, float(np.mean(usual < limit))
