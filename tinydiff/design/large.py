"""Pictures larger than a network takes in: one motif repeated, and drawn anew window by window.

Asked for all of a large picture at once, a network of textures loses its motifs: it has never seen
so much. It also takes long, since attention looks at all pairs of places. So a tile of about the
size that it knows is drawn first. Repeated, it covers the large one; noise hides its details, and
the network draws them anew, everywhere a little differently.
"""

from itertools import product

import numpy as np

from .edit import image_to_image

WHOLE = 64  # pixels: images of more than WHOLE x WHOLE are large
STRENGTH = 0.8  # of edit.image_to_image: how much of the repeated tile is drawn anew


def window(size):
    """Choose the windows by which an image is drawn. size: (H, W) -> (h, w), None: not large"""
    is_large = size is not None and size[0] * size[1] > WHOLE**2
    return (min(WHOLE, size[0]), min(WHOLE, size[1])) if is_large else None


def windows(size, window):
    """Cut an image into as few windows as hold all of it, spread evenly from edge to edge.

    size: (H, W); window: (h, w), at most (H, W) -> list of (rows, columns), slices
    """

    def slices(side, w):
        starts = np.linspace(0, side - w, -(-side // w)).round().astype(int)
        return [slice(i, i + w) for i in starts]

    return list(product(*map(slices, size, window)))


def period(side, own, unit):
    """Choose after how many pixels a motif repeats along a side, so that it closes at the edge.

    side: of an image (H, W); own: of the model's images; unit: what sides must be divisible by
    -> int: the first divisor of `side` from own to 2 own; where there is none: own
    """
    return next((d for d in range(own, 2 * own + 1, unit) if side % d == 0), own)


def windowed(eps_model, window, rng):
    """Make a model for large images of one that sees a window of them at a time, for any sampler.

    At each call the image is taken as a tile, rolled by shift = rng.integers(0, (H, W)), so that no
    place is always at a window's edge, and cut into `windows`: eps_hat at a pixel is the mean of
    what eps_model says in those that hold it. Time grows with the pixels alone, and the memory is
    that of one window.
    eps_model: (x_t (N, h, w, C), t int) -> eps_hat; window: (h, w), at most the image
    -> eps_model: (x_t (N, H, W, C), t int) -> eps_hat
    Source: Frolov et al. 2024 (SpotDiffusion), there without overlaps.
    """

    def averaged(x_t, t):
        shift, places = rng.integers(0, x_t.shape[1:3]), windows(x_t.shape[1:3], window)
        x_t = np.roll(x_t, shift, (1, 2))
        total, count = np.zeros_like(x_t), np.zeros((*x_t.shape[1:3], 1), x_t.dtype)
        for rows, columns in places:
            total[:, rows, columns] += eps_model(x_t[:, rows, columns], t)
            count[rows, columns] += 1
        total /= count
        return np.roll(total, -shift, (1, 2))

    return averaged


def spread(eps_model, s, once, size, rng, times=None, clip=np.inf):
    """Draw large images that repeat without a seam, each of a small tile.

    edit.image_to_image of the repeated tile, over STRENGTH, by `windowed`; for models of textures
    eps_model: see windowed; once: (N, h, w, C), tiles; size: (H, W), large; times, clip: as for
    sample.ddim -> yields arrays (N, H, W, C), last x_0
    """
    (h, w), (H, W) = once.shape[1:3], size
    x0 = np.tile(once, (1, -(-H // h), -(-W // w), 1))[:, :H, :W]
    by_windows = windowed(eps_model, window(size), rng)
    return image_to_image(by_windows, s, x0, STRENGTH, rng, times, clip=clip)
