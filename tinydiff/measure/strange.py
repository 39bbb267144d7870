"""Is a picture of the kind that a model knows? Its denoising error beside that of held-out ones.

A judge cannot tell: its features of a knight or a photograph lie among those of portraits, since
nothing taught them anything else. The network that draws has to know every pixel.
"""

import numpy as np

from ..diffusion import q_sample

SHARE = 0.2  # of T: noise that hides details, and leaves the picture
STANDS_OUT = 0.1  # of -1 .. 1, in some channel: as far from the background's colour
FEW = 8  # pixels that are too few to be a picture: then the background is it
TIMES = 4.0  # the error of an ordinary picture: further off, it is strange


def strangeness(eps_model, s, x0, rng, counts=None, draws=2):
    """Measure how wrong a model is about what stands out in pictures, as noise hides its details.

    median over the pixels that count, and stand out, of the mean over channels and draws of
    (eps_hat - eps)^2, eps_hat = eps_model(q_sample(s, x0, t, eps), t), t = round(0.2 T); all
    pictures get the same noise
    A pixel stands out if in some channel it is more than 0.1 away from the median of the border; in
    a picture where at most 8 do, all do. A median: a hat in an unknown colour, or another
    background, makes no portrait strange.
    eps_model: best one that is told no labels; x0: (N, H, W, C); rng: draws the noise;
    counts: (N, H, W) bool, None = all -> (N,)
    """
    t, error = max(1, round(SHARE * s.T)), 0.0
    for _ in range(draws):
        eps = np.broadcast_to(rng.standard_normal(x0.shape[1:], x0.dtype), x0.shape).copy()
        eps_hat = np.asarray(eps_model(q_sample(s, x0, t, eps), t))
        error = error + ((eps_hat - eps) ** 2).mean(-1) / draws
    seen = stands_out(x0) if counts is None else stands_out(x0) & counts
    seen |= (seen.sum((1, 2), keepdims=True) <= FEW) & (True if counts is None else counts)
    return np.array([np.median(e[where]) for e, where in zip(error, seen, strict=True)])


def stands_out(x0):
    """Find the pixels that are not of the background's colour. x0: (N, H, W, C) -> (N, H, W)"""
    border = np.concatenate([x0[:, 0], x0[:, -1], x0[:, :, 0], x0[:, :, -1]], axis=1)
    return (np.abs(x0 - np.median(border, axis=1)[:, None, None]) > STANDS_OUT).any(-1)


def limit(held_out):
    """Set the strangeness from which a picture is said to be strange -> float

    4 times what 99 of 100 held-out pictures stay below; (N,) of these, from `strangeness`
    """
    return float(TIMES * np.quantile(held_out, 0.99))
