"""Exact palettes: pictures of given colours and no others, chosen while they are drawn.

Colours that are chosen when all is drawn leave ragged edges, and of few colours some are lost. Here
they are chosen in the last steps of a sampler, softly as long as there is noise, and the network
draws on from what was chosen. A palette is (K, C) values in [-1, 1].
"""

import numpy as np
from PIL import Image

from ..data import to_float, to_uint8
from ..diffusion import predict_x0

VAR = 0.3  # of the values in pictures, roughly; a third or three times as much draws alike
HARD = 0.02  # variance left in x0_hat below which a pixel is of one colour
AGREE = 1.0  # log odds for the colour of all four neighbours
FEW = 4  # colours that are all wanted in each picture; of larger palettes two are
START = {True: 0.6, False: 0.2}  # share of T at which the choice begins: of FEW colours, of more
STRIP = 1 << 20  # numbers that are held at once, to find which colour is nearest
SEEN = 0.01  # of a picture's pixels, at least, have a colour that it shows


def posterior(x0_hat, palette, c, shares=None, least=0.0, rounds=5):
    """Say for each pixel how probable each colour is, given a guess of it that is off by noise.

    r[k] = q[k] exp(AGREE n[k] - |x0_hat - palette[k]|^2 / (2 c)) / (the sum of these over k)
    n[k]: the mean of r[k] over the four neighbours, so that flat parts become flat; the last row is
    beside the first. q: one price per picture and colour, such that the mean of r[k] over its
    pixels is shares[k], or, without shares, at least `least`. n and q by so many rounds.
    x0_hat: (N, H, W, C); palette: (K, C); c > 0: variance of the noise; shares: (K,), adding up to
    1, or None -> (N, H, W, K), adding up to 1 over the last axis
    """
    palette, z_type = np.asarray(palette, x0_hat.dtype), x0_hat.dtype.type
    z = (x0_hat @ palette.T - (palette**2).sum(-1) / 2) / z_type(c)
    r, log_q = _softmax(z), z_type(0)
    wanted = np.log(np.maximum(least if shares is None else shares, 1e-6)).astype(x0_hat.dtype)
    for _ in range(rounds):
        beside = sum(np.roll(r, step, axis) for step in (1, -1) for axis in (1, 2)) / 4
        logits = z + z_type(AGREE) * beside
        for _ in range(rounds if shares is not None or least else 0):
            mean = _softmax(logits + log_q).mean((1, 2), keepdims=True)
            short = wanted - np.log(mean + z_type(1e-30))
            log_q = log_q + (short if shares is not None else np.maximum(short, 0))
        r = _softmax(logits + log_q)
    return r


def _softmax(z):
    r = np.exp(z - z.max(-1, keepdims=True))
    return r / r.sum(-1, keepdims=True)


def exact(eps_model, s, palette, shares=None):
    """Make a model draw in the colours of a palette and no others, for any sampler.

    From the time START T down x0_hat <- sum_k r[k] palette[k], the mean of the colours that a pixel
    may have, with r of `posterior` for the noise that is left,
    c = (1 - alpha_bar[t]) VAR / (alpha_bar[t] VAR + 1 - alpha_bar[t])
    Where c < HARD the most probable colour takes the mean's place. Of FEW colours or less each is
    asked for in 0.6 / K of a picture at least.
    shares: (K,), of the pixels, adding up to 1; None = as it comes
    -> eps_model: (x_t (N, H, W, C), t int) -> eps_hat; `nearest` makes the last image whole
    """
    few, priced = len(palette) <= FEW, len(palette) <= FEW or shares is not None
    least, start, rounds = 0.6 / len(palette) * few, START[priced] * s.T, 5 if priced else 2
    colours = np.asarray(palette, np.float32)

    def in_colours(x_t, t):
        eps_hat = eps_model(x_t, t)
        if t > start:
            return eps_hat
        ab, x0_hat = s.alpha_bar[t], np.asarray(predict_x0(s, x_t, t, eps_hat))  # may be on a GPU
        c = (1 - ab) * VAR / (ab * VAR + 1 - ab)
        x0 = np.empty_like(x0_hat)
        for x, guess in zip(x0, x0_hat, strict=True):  # one by one: r is K / C times as large
            r = posterior(guess[None], colours, max(c, HARD), shares, least, rounds)[0]
            x[...] = colours[r.argmax(-1)] if c < HARD else r @ colours
        return eps_hat + (x0_hat - x0) * x0_hat.dtype.type(np.sqrt(ab / (1 - ab)))

    return in_colours


def nearest(images, palette):
    """Give each pixel the number of its nearest colour: squares summed over the channels.

    images: (N, H, W, C); palette: (K, C), K <= 256 -> (N, H, W) uint8
    """
    palette = np.asarray(palette, images.dtype)
    index = np.empty(images.shape[:3], np.uint8)
    rows = max(1, STRIP // (images.shape[2] * len(palette)))
    for x, chosen in zip(images, index, strict=True):
        for i in range(0, len(x), rows):
            closeness = x[i : i + rows] @ palette.T - (palette**2).sum(-1) / 2
            chosen[i : i + rows] = closeness.argmax(-1)
    return index


def dithered(images, palette):
    """Give each pixel the number of a colour, so that groups of pixels have the right mean.

    Each pixel's error goes on to the neighbours that come after it.
    images: (N, H, W, C), C = 1 or 3; palette: (K, C) -> (N, H, W) uint8
    Source: Floyd & Steinberg 1976, as Pillow does it.
    """
    colours = to_uint8(np.asarray(palette)).repeat(3 // images.shape[-1], -1)
    known = Image.new("P", (1, 1))
    known.putpalette(colours[np.minimum(np.arange(256), len(colours) - 1)].tobytes())
    rgb = to_uint8(images).repeat(3 // images.shape[-1], -1)
    done = [Image.fromarray(x).quantize(palette=known, dither=1) for x in rgb]
    return np.minimum(np.stack([np.asarray(x) for x in done]), len(colours) - 1)


def found(images, K):
    """Find K colours that stand for those of images, the most frequent first.

    Pillow's maximum coverage takes colours that lie far apart, so that small accents keep one of
    their own; k-means then moves each to the mean of its pixels.
    images: (N, H, W, C), C = 1 or 3; K: 1 .. 256 -> (at most K, C) uint8, all different
    """
    N, H, W, C = images.shape
    pixels = to_uint8(images).repeat(3 // C, -1).reshape(N * H, W, 3)
    boxes = Image.fromarray(pixels).quantize(K, method=Image.Quantize.MAXCOVERAGE, kmeans=1)
    colours = np.unique(np.reshape(boxes.getpalette(), (-1, 3))[:K, :C], axis=0)
    count = np.bincount(nearest(images, to_float(colours)).ravel(), minlength=len(colours))
    return colours[np.argsort(-count, kind="stable")][: (count > 0).sum()].astype(np.uint8)


def shares_of(index, K):
    """Measure what share of its pixels each colour has in each picture.

    index: (N, H, W) ints below K -> (N, K), adding up to 1 over the last axis
    """
    return np.stack([(index == k).mean((1, 2)) for k in range(K)], axis=1)


def lacking(index, K, shares=None):
    """Tell which pictures lack a colour, or are blank: (N, H, W) ints below K -> (N,) bool

    A colour is there if SEEN of the pixels have it. Of up to FEW colours all have to be there, of
    more two; with shares, (K,), all, each in half of its share if that is less.
    """
    seen = SEEN if shares is None else np.minimum(SEEN, shares / 2)
    wanted = K if K <= FEW or shares is not None else 2
    return (shares_of(index, K) >= seen).sum(1) < wanted
