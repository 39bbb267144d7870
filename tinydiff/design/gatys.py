"""Style transfer before diffusion: change the pixels until a classifier sees the other style.

Style is which features appear together, wherever that is: their Gram matrices. Content is which
features appear where. No pairs are needed and nothing is drawn at random: there is one loss, and
every image walks down its gradient.
Source: Gatys et al. 2016, with another network and other weights.
"""

import numpy as np

from .. import kernels, ops
from ..autodiff import Tensor, gradient
from ..optim import Adam, require_finite, warmup_cosine


def gram(h):
    """Multiply every feature with every other and average over the pixels: places are forgotten.

    G[n, i, j] = mean over pixels p of h[n, p, i] h[n, p, j]
    h: (N, H, W, C) -> (N, C, C)
    """
    N, H, W, C = h.shape
    rows = ops.reshape(h, shape=(N, H * W, C))
    return ops.matmul(ops.swapaxes(rows), rows) * (1 / (H * W))


def style_of(model, images, spreads=None):
    """Describe a style by pictures drawn in it: mean Gram matrices, and how far pictures are off.

    For each map h of the classifier: G = mean over images of gram(h), and
    spread = mean over images of |gram(h) - G|^2, a number
    model: a Classifier; images: (M, H, W, C), one or many; spreads: to be taken instead, since a
    single picture has none -> list of (G (1, C, C), spread), one per map of model.maps, C differing
    """
    grams = [np.asarray(gram(h)) for h in model.maps(images)]
    means = [G.mean(0, keepdims=True) for G in grams]
    squares = [(G - mean) ** 2 for G, mean in zip(grams, means, strict=True)]
    own = [float(square.sum((1, 2)).mean()) for square in squares]
    return list(zip(means, spreads or own, strict=True))


def squared(d):
    """Add up the squares of all values, of all images: sum_n |d[n]|^2. d: (N, ...) -> ()"""
    return ops.sum(d * d)


def loss(model, x, content, style, weight):
    """Measure how far images are from a style and, times weight, from a content.

    sum over n and maps h of |gram(h)[n] - G|^2 / spread
    + weight sum_n |last map[n] - content[n]|^2 / |content[n]|^2
    It is a sum over the images: each counts for itself. A picture in the style has about 1 per map.
    model: a Classifier; x: (N, H, W, C), Tensor; content: (N, H/2, W/2, C), model.maps(source)[-1];
    style: list of (G, spread), see style_of, G (1, C, C) for all or (N, C, C) -> ()
    """
    maps = model.maps(x)
    length = np.sqrt((content * content).sum((1, 2, 3), keepdims=True))
    total = weight * squared((maps[-1] - content) / length)
    for h, (G, spread) in zip(maps, style, strict=True):
        total = total + squared(gram(h) - G) * (1 / spread)
    return total


def transfer(model, source, style, weight=0.1, steps=60, lr=0.03):
    """Redraw pictures in another style: Adam on the pixels, down the gradient of `loss`.

    After each step pixels are cut off to [-1, 1]; learning rate: lr warmup_cosine(step / steps),
    step = 0, 1, ...
    model: a Classifier; source: (N, H, W, C), the content, where the walk begins; style: see loss;
    weight: of the content -> yields x (N, H, W, C), steps + 1 times, source first
    Raises FloatingPointError when the loss or its gradient is not finite, as with NaN in a picture.
    """
    x, content = kernels.array(source.copy()), np.asarray(model.maps(source)[-1])
    adam = Adam(x.reshape(-1))  # the same memory: a step of Adam changes x
    yield x.copy()
    for step in range(steps):
        pixels = Tensor(x)
        distance = loss(model, pixels, content, style, weight)
        (g,) = gradient(distance, [pixels], free=True)
        length = adam.step(g.reshape(-1), lr * warmup_cosine(step / steps))
        require_finite(step + 1, float(distance.value), length)
        x[:] = x.clip(-1, 1)
        yield x.copy()
