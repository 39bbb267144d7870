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
