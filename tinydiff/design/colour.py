"""Colour control: draw in the colours of a palette, or around a main colour, with any model.

No model has to be trained for it. Both are gradients of log p(requested colours | x_t) with
respect to x0_hat, for guide.by_x0_hat. A colour is (C,) values in [-1, 1].
"""

import numpy as np

from .. import guide
from . import restore


def parse(text):
    """Read a colour as it is written for the web.

    text: "#rrggbb", hexadecimal, 00 = none and ff = all -> (C,) floats in [-1, 1], C = 3
    Raises ValueError for anything else.
    """
    digits = text.removeprefix("#")
    if len(digits) != 6 or not set(digits.lower()) <= set("0123456789abcdef"):
        example = "'#rrggbb', such as '#ff8000' for orange"
        raise ValueError(f"a colour is written as {example}; got {text!r}")
    return np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 127.5 - 1


def main_gradient(s, colour, std, size, cov):
    """Make the gradient that asks for a main colour: the mean of all pixels is N(colour, std^2 I).

    That is a picture shrunk to one pixel, to be restored: restore.log_p_gradient with y = colour,
    A the mean over all pixels, sigma_y = std
    colour: (C,); std > 0; size: pixels per side; cov: the data's, as in
    guide.assume_gaussian
    -> (x0_hat (N, H, W, C), t int) -> (N, H, W, C)
    """
    y = np.reshape(colour, (1, 1, 1, -1))
    return restore.log_p_gradient(s, y, restore.shrink(size, y.size, size), std, cov)


def palette_gradient(s, palette, std, var):
    """Make the gradient that asks for a palette: each pixel has one of its colours, plus noise.

    The K colours are equally likely, the noise is N(0, std^2 I). As if a pixel were N(x, c I) given
    x_t, x that of x0_hat:
    log p = sum over pixels of log sum_k exp(-|x - palette[k]|^2 / (2 (std^2 + c)))
    c = (1 - alpha_bar[t]) var / (alpha_bar[t] var + 1 - alpha_bar[t])
    Its gradient, with r[k] the share of colour k in the inner sum, is
    sum_k r[k] (palette[k] - x) / (std^2 + c)
    palette: (K, C); std > 0; var: number, the data's variance
    -> (x0_hat (N, ..., C), t int) -> (N, ..., C)
    """
    palette = np.asarray(palette)

    def uphill(x0_hat, t):
        x0_hat = np.asarray(x0_hat)  # copied from the GPU, if the kernels run there
        c = (1 - s.alpha_bar[t]) * var / (s.alpha_bar[t] * var + 1 - s.alpha_bar[t])
        away = palette - x0_hat[..., None, :]  # (N, ..., K, C)
        logits = -(away**2).sum(-1, keepdims=True) / (2 * (std**2 + c))
        r = np.exp(logits - logits.max(-2, keepdims=True))
        r /= r.sum(-2, keepdims=True)
        return ((r * away).sum(-2) / (std**2 + c)).astype(x0_hat.dtype)

    return uphill


def coloured(eps_model, s, cov, size, palette=None, main=None, pull=1.0):
    """Make a model draw in given colours, for any sampler.

    guide.by_x0_hat of guide.assume_gaussian with main_gradient, then with palette_gradient,
    whichever is requested; cov serves for the main colour; for the palette, whose pixels are
    independent, var, the mean of cov's diagonal; std = 0.1 / pull in both
    cov: the data's, as in guide.assume_gaussian, for a palette alone the number var serves; size:
    pixels per side; palette: (K, C) or None; main: (C,) or None; pull > 0: the larger, the closer
    the colours
    -> eps_model: (x_t (N, H, W, C), t int) -> eps_hat
    """
    lam, Q, rest = guide.principal(cov)
    std, var = 0.1 / pull, float(rest + (lam - rest).sum() / len(Q))
    if main is not None:
        gradient = main_gradient(s, main, std, size, cov)
        eps_model = guide.by_x0_hat(guide.assume_gaussian(eps_model, s, cov), s, gradient)
    if palette is not None:
        gradient = palette_gradient(s, palette, std, var)
        eps_model = guide.by_x0_hat(guide.assume_gaussian(eps_model, s, var), s, gradient)
    return eps_model


def snap(images, palette):
    """Replace each pixel by the nearest colour of the palette: squares summed over the channels.

    images: (N, H, W, C); palette: (K, C) -> (N, H, W, C)
    Raises ValueError where a value is not finite: it has no nearest colour.
    """
    if not np.isfinite(images).all():
        raise ValueError("images hold NaN or infinite values, which have no nearest colour")
    palette = np.asarray(palette, images.dtype)
    return palette[((images[..., None, :] - palette) ** 2).sum(-1).argmin(-1)]


def within(images, palette, tolerance=0.2):
    """Measure how many pixels have a colour of the palette: every channel within tolerance of it.

    It is the nearest colour that counts, see `snap`, which raises ValueError for NaN.
    images: (N, H, W, C); palette: (K, C); tolerance: in units where black is -1 and white 1
    -> (N,) shares in [0, 1]
    """
    return (np.abs(images - snap(images, palette)) <= tolerance).all(-1).mean((1, 2))
