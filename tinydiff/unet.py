"""The network: an image and a number go in, an image of the same shape comes out.

    x (N, H, W, C)                                                      out (N, H, W, C)
      | conv                                                              ^ norm, SiLU, conv
      v                                                                   |
    [block]---- skip ------------------------------------------------> [block]     width * multipliers[0]
    [block]---- skip ------------------------------------------------> [block]
      | down                                                              ^ up
      v                                                                   |
        [block]---- skip --------------------------------------> [block]           width * multipliers[1]
        [block]---- skip --------------------------------------> [block]
          | down                                                    ^ up
          v                                                         |
            [block]---- skip ----------------------------> [block]                 width * multipliers[2]
            [block]---- skip ----------------------------> [block]
              |                                               ^
              +-------> [block] -> [attention] -> [block] ----+

Every block also gets e (N, E), which says how noisy the image is and what is to be drawn:
    e = silu(MLP(time_embedding(t)) + sum of label embeddings)
Source: Ronneberger et al. 2015 for the shape, Ho et al. 2020, appendix B, for its use here.
"""

from contextlib import contextmanager

import numpy as np

from . import kernels, ops
from .nn import Attention, Conv2d, Embedding, GroupNorm, Linear, Module, time_embedding


class Block(Module):
    """Two convolutions beside a short cut, with e added in between.

    h = conv1(silu(norm1(x))) + linear(e);  y = short_cut(x) + conv2(silu(norm2(h)))
    x: (N, H, W, C); e: (N, E) -> (N, H, W, O). conv2 starts at 0: at first a block passes x on.
    Source: He et al. 2016 (residual blocks), in the order of Ho et al. 2020.
    """

    def __init__(self, C, O, E, padding, *, rng):
        self.norm1 = GroupNorm(C, silu=True)
        self.conv1 = Conv2d(C, O, padding=padding, rng=rng)
        self.embed = Linear(E, O, rng=rng)
        self.norm2 = GroupNorm(O, silu=True)
        self.conv2 = Conv2d(O, O, padding=padding, gain=0.0, rng=rng)
        self.short_cut = Conv2d(C, O, K=1, rng=rng) if C != O else None

    def __call__(self, x, e):
        h = self.conv1(self.norm1(x)) + ops.reshape(self.embed(e), shape=(x.shape[0], 1, 1, -1))
        return (self.short_cut(x) if self.short_cut else x) + self.conv2(self.norm2(h))


class UNet(Module):
    """Map a noisy image, a number for each image and labels to an image: model(x, t, labels).

    size: side of the images, divisible by 2^(levels - 1); channels: C, 1 grey or 3 RGB; width: channels at full size, divisible
    by 8; multipliers: channels of each level in units of width; depth: blocks a level; classes: how many values each label
    has, () for none; padding: "zeros" or "circular"; out: channels that leave, None for as many as enter.
    x: (N, H, W, C); t: (N,) numbers; labels: (N, len(classes)) ints; label k is 0 .. classes[k] - 1, or classes[k] for "not said"
    (labels=None says nothing of any) -> (N, H, W, out)
    Raises ValueError where sizes do not fit or a label is out of range.
    """

    def __init__(self, size, channels=1, width=32, multipliers=(1, 2, 2), depth=2, classes=(), padding="zeros", out=None, *, rng):
        if size % 2 ** (len(multipliers) - 1):
            raise ValueError(f"images of side {size} cannot be halved {len(multipliers) - 1} times: take fewer multipliers or another size")
        self.size, self.channels, self.out, self.width, self.classes = size, channels, out or channels, width, tuple(classes)
        E = 4 * width
        self.time1, self.time2 = Linear(width, E, rng=rng), Linear(E, E, rng=rng)
        self.labels = [Embedding(M + 1, E, rng=rng) for M in classes]

        C, skips = width, []
        self.enter = Conv2d(channels, C, padding=padding, rng=rng)
        self.descent = []
        for m in multipliers:
            for _ in range(depth):
                self.descent.append(Block(C, m * width, E, padding, rng=rng))
                C = m * width
                skips.append(C)
        self.mid1, self.attention, self.mid2 = Block(C, C, E, padding, rng=rng), Attention(C, rng=rng), Block(C, C, E, padding, rng=rng)
        self.ascent = []
        for m in reversed(multipliers):
            for _ in range(depth):
                self.ascent.append(Block(C + skips.pop(), m * width, E, padding, rng=rng))
                C = m * width
        self.norm = GroupNorm(C, silu=True)
        self.leave = Conv2d(C, self.out, padding=padding, gain=0.0, rng=rng)
        self.depth = depth

    def __call__(self, x, t, labels=None):
        labels = None if labels is None else np.asarray(labels)
        self._check(x, t, labels)
        e = self.embed(t, labels, x.dtype)
        h, skips, last = self.enter(x), [], len(self.descent) - 1
        for i, block in enumerate(self.descent):
            h = block(h, e)
            skips.append(h)
            if (i + 1) % self.depth == 0 and i != last:
                h = ops.down(h)
        h = self.mid2(self.attention(self.mid1(h, e)), e)
        for i, block in enumerate(self.ascent):
            h = block(ops.concat(h, skips.pop()), e)
            if (i + 1) % self.depth == 0 and i != last:
                h = ops.up(h)
        return self.leave(self.norm(h))

    def embed(self, t, labels, dtype):
        """Turn a number and labels into the vector that every block is told. t: (N,); labels: (N, len(classes)) or None -> (N, E)"""
        e = self.time2(ops.silu(self.time1(kernels.array(time_embedding(t, self.width).astype(dtype)))))
        for k, table in enumerate(self.labels):
            e = e + table(kernels.array(np.full(len(t), self.classes[k]) if labels is None else labels[:, k]))
        return ops.silu(e)

    def _check(self, x, t, labels):
        if x.ndim != 4 or x.shape[3] != self.channels or any(side % self._halvings() for side in x.shape[1:3]):
            raise ValueError(f"images must be (N, H, W, {self.channels}) with sides divisible by {self._halvings()}; got {x.shape}")
        if np.shape(t) != (x.shape[0],):
            raise ValueError(f"t must be ({x.shape[0]},), one number an image; got {np.shape(t)}")
        if labels is not None:
            if labels.dtype.kind not in "iu":
                raise ValueError(f"labels must be whole numbers; got {labels.dtype}")
            if np.shape(labels) != (x.shape[0], len(self.classes)):
                raise ValueError(f"labels must be {(x.shape[0], len(self.classes))}, one column a label; got {np.shape(labels)}")
            if np.any(labels < 0) or np.any(labels > np.asarray(self.classes)):
                raise ValueError(
                    f"label out of range: column k takes 0 .. {self.classes} (the last means 'not said'); got {np.max(labels, 0)}"
                )

    def _halvings(self):
        return 2 ** (len(self.descent) // self.depth - 1)


@contextmanager
def circular(model):
    """Let a network see an image as a tile for the length of a `with` block: its convolutions read past an edge on the other side.

    padding = "circular" in every Conv2d, and as it was at the end, also after an error. All else in a UNet is blind to where a pixel is
    but for the halving, so model(roll(x)) = roll(model(x)) for rolls by multiples of 2^(levels - 1) pixels. No training is needed where
    the texture is the same everywhere. model: any Module, called with x (N, H, W, C) -> the model
    """
    convs = [owner for _, owner, _ in model._slots() if isinstance(owner, Conv2d)]
    before = [conv.padding for conv in convs]
    try:
        for conv in convs:
            conv.padding = "circular"
        yield model
    finally:
        for conv, padding in zip(convs, before, strict=True):
            conv.padding = padding
