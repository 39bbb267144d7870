"""What a picture keeps while a network that looks at it redraws it: its colours, shape and inside.

A sketch is ink around nothing, and often stays a ring: `filled` gives it a colour. Small details
of a source decide what a network makes of its colours and edges; `keeping` holds them fast.
"""

import numpy as np

from .. import guide
from . import alpha, restore

PAPER = 0.6  # in [-1, 1]: where all channels are lighter there is paper
GREY = 0.1  # a pixel's channels are as near to its mean where it has no colour
HOLLOW = 0.25  # of a sketch's ink, at least, is as much paper as it encloses
STD = 0.3  # of what is kept, in units in which black is -1 and white 1
BLOCK = 2  # pixels: what is kept are means over blocks of 2 x 2


def enclosed(images):
    """Find paper that lines cut off from the edge: what of it a way up, down or across can't reach.

    images: (N, H, W, C) -> (N, H, W) bool
    """
    paper = images.min(-1) > PAPER
    return paper & ~alpha.reached(paper, alpha.border(paper.shape))


def is_sketch(images):
    """Tell which images are lines without colour around paper. (N, H, W, C) -> (N,) bool"""
    colourless = np.abs(images - images.mean(-1, keepdims=True)).max((1, 2, 3)) < GREY
    ink, inside = (images.min(-1) <= PAPER).sum((1, 2)), enclosed(images).sum((1, 2))
    return colourless & (inside > HOLLOW * ink)


def filled(images, colour):
    """Give what is enclosed a colour: (C,) in [-1, 1]. images: (N, H, W, C) -> (N, H, W, C)"""
    return np.where(enclosed(images)[..., None], np.asarray(colour, images.dtype), images)


def keeping(eps_model, s, images, cov, pull=1.0):
    """Make a model keep the colours and the outline of pictures, for any sampler.

    A picture of half the size, of which each pixel is the mean of 2 x 2, is taken for a degraded
    one that is to be restored, with noise of standard deviation STD / pull: guide.by_x0_hat with
    restore.log_p_gradient. What is finer than that is left to the model.
    images: (N, H, W, C), H = W divisible by 2; cov: the data's, as in guide.assume_gaussian;
    pull > 0: the larger, the closer
    -> eps_model: (x_t (N, H, W, C), t int) -> eps_hat
    """
    A = restore.shrink(images.shape[1], images.shape[3], BLOCK)
    gradient = restore.log_p_gradient(s, restore.degrade(A, images), A, STD / pull, cov)
    return guide.by_x0_hat(guide.assume_gaussian(eps_model, s, cov), s, gradient)


def colour_distance(a, b):
    """Measure how far the colours of pictures differ where they lie, blurred: 0 = not at all.

    The root of the mean square difference between the means over blocks of 4 x 4 pixels.
    a, b: (N, H, W, C), H = W divisible by 4 -> (N,), in units in which black is -1 and white 1
    """
    A = restore.shrink(a.shape[1], a.shape[3], 4)
    return np.sqrt(((restore.degrade(A, a) - restore.degrade(A, b)) ** 2).mean((1, 2, 3)))
