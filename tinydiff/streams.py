"""One stream of random numbers for each picture, so that none depends on who is drawn beside it.

With one generator for a whole batch, a picture's noise depends on how many others there are. Here
picture i of a seed has its own: the same bits in any batch, in any order, on any machine.
"""

import numpy as np


class Streams:
    """An rng for samplers: what it draws for picture i comes from a stream of picture i's own.

    The streams are Philox's, with the key (seed, i): numbers of different keys are as good as
    independent, and no stream has to be walked through to find another.
    seed: int, 0 .. 2**63 - 1; pictures: N ints >= 0, one for each image of the batch
    Source: Salmon et al. 2011 (Philox).
    """

    def __init__(self, seed, pictures):
        self._own = [np.random.Generator(np.random.Philox(key=[seed, i])) for i in pictures]
        self._common = np.random.default_rng(seed)

    def standard_normal(self, shape, dtype=np.float64):
        """Draw noise, each image's from its own stream. shape: (N, ...) -> (N, ...)

        Raises ValueError where N is not the number of pictures.
        """
        if shape[0] != len(self._own):
            what = f"these are the streams of {len(self._own)} pictures"
            raise ValueError(f"{what}; noise was asked for of shape {tuple(shape)}")
        z = np.empty(shape, dtype)
        for image, rng in zip(z, self._own, strict=True):
            image[...] = rng.standard_normal(image.shape, dtype)
        return z

    def integers(self, low, high=None):
        """Draw what all pictures share, such as a tile's shift, from one more stream of the seed.

        low, high: as for np.random.Generator.integers -> ints
        """
        return self._common.integers(low, high)


class Alike:
    """An rng for samplers that draws the same for each of several pictures.

    So an edit of a picture comes out of a batch as it does alone: the same bits.
    rng: np.random.Generator; pictures: how many, each with as many images of the batch, in order
    """

    def __init__(self, rng, pictures):
        self._rng, self._pictures = rng, pictures

    def standard_normal(self, shape, dtype=np.float64):
        """Draw noise for the images of one picture, and give it to each. shape: (N, ...) -> same

        Raises ValueError where N images are not as many for each picture.
        """
        each, rest = divmod(shape[0], self._pictures)
        if rest:
            what = f"images of {self._pictures} pictures"
            raise ValueError(f"{what}, as many of each; noise was asked for of shape {shape}")
        z = self._rng.standard_normal((each, *shape[1:]), dtype)
        return np.tile(z, (self._pictures, *[1] * (len(shape) - 1)))
