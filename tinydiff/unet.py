"""The network, a U-Net: an image and a number go in, an image of the same size comes out.

    x (N, H, W, C)                                                out (N, H, W, C)
      | conv_in                                                     ^ norm, SiLU, conv_out
      v                                                             |
    [block]---- skip ------------------------------------------> [block]    width * multipliers[0]
    [block]---- skip ------------------------------------------> [block]                  channels
      | down                                                        ^ up
      v                                                             |
        [block]---- skip --------------------------------> [block]          width * multipliers[1]
        [block]---- skip --------------------------------> [block]
          | down                                              ^ up
          v                                                   |
            [block]---- skip ----------------------> [block]                width * multipliers[2]
            [block]---- skip ----------------------> [block]
              |                                         ^
              +---> [block] -> [attention] -> [block] --+

Every block also gets e (N, E), which holds how noisy the image is and what is to be drawn:
    e = silu(MLP(time_embedding(t)) + sum of label embeddings)
Source: Ronneberger et al. 2015 for the shape, Ho et al. 2020, appendix B, for its use here.
"""

from contextlib import contextmanager

import numpy as np

from . import kernels, ops
from .nn import Attention, Conv2d, Embedding, GroupNorm, Linear, Module, time_embedding

USUAL = [GroupNorm.__call__] * 2 + [Conv2d.__call__] * 3  # what the layers of a block do at first


class Block(Module):
    """Hold the layers of a residual block: two convolutions beside a shortcut. See run_block.

    x: (N, H, W, C); e: (N, E) -> (N, H, W, O). conv2 starts at 0: at first a block passes x on.
    Called, it does what run_block does, with its usual layers as one operation: see
    ops.residual_block.
    Source: He et al. 2016 (residual blocks), in the order of Ho et al. 2020.
    """

    def __init__(self, C, O, E, padding, *, rng):
        self.norm1 = GroupNorm(C, silu=True)
        self.conv1 = Conv2d(C, O, padding=padding, rng=rng)
        self.embed = Linear(E, O, rng=rng)
        self.norm2 = GroupNorm(O, silu=True)
        self.conv2 = Conv2d(O, O, padding=padding, gain=0.0, rng=rng)
        self.shortcut = Conv2d(C, O, K=1, rng=rng) if C != O else None

    def __call__(self, x, e):
        if not (kernels.together and self._is_usual()):
            return run_block(self, x, e)
        e = ops.reshape(self.embed(e), shape=(x.shape[0], 1, 1, -1))
        halves = (self.norm1, self.conv1), (self.norm2, self.conv2)
        params = [p for norm, conv in halves for p in (norm.scale, norm.shift, conv.w)]
        shortcut = [self.shortcut.w] if self.shortcut else []
        rest = {"padding": self.conv1.padding, "groups": self.norm1.groups}
        return ops.residual_block(x, e, *params, *shortcut, **rest)

    def _is_usual(self):
        """Say whether ops.residual_block does what the layers do: not where one was exchanged."""
        norms, convs, shortcut = [self.norm1, self.norm2], [self.conv1, self.conv2], self.shortcut
        layers = norms + convs + ([shortcut] if shortcut else [])
        if [type(layer).__call__ for layer in layers] != USUAL[: len(layers)]:
            return False
        alike = len({norm.groups for norm in norms}) == len({conv.padding for conv in convs}) == 1
        return (
            alike
            and all(norm.silu for norm in norms)
            and not (shortcut and shortcut.w.shape[0] > 1)
        )


def run_block(block, x, e):
    """Run a residual block: add a correction, made by two convolutions, to a shortcut of x.

    The correction: x goes through norm1 and conv1, embed(e) is added at every pixel, and that goes
    through norm2 and conv2. Each norm has its SiLU built in. The shortcut: x itself where
    block.shortcut is None, else what that layer makes of x.
    block: a Block, which holds these layers; x: (N, H, W, C); e: (N, E) -> (N, H, W, O)
    """
    e = ops.reshape(block.embed(e), shape=(x.shape[0], 1, 1, -1))
    h = block.conv1(block.norm1(x)) + e
    return (block.shortcut(x) if block.shortcut else x) + block.conv2(block.norm2(h))


class UNet(Module):
    """Map noisy images, one number per image and labels to images: model(x, t, labels).

    size: side of the images, divisible by 2^(levels - 1); channels: C, 1 grey or 3 RGB
    width: channels at full size, divisible by 8; multipliers: channels of each level, in units of
    width; depth: blocks per level; classes: how many values each label has, () for no labels
    padding: "zeros" or "circular"; out: channels of the output, None = as many as the input has
    told: how many values each thing has that only training tells, see augment.py, () for nothing
    x: (N, H, W, C); t: (N,) numbers; labels: (N, len(classes)) ints, label k in
    0 .. classes[k] - 1, or classes[k] for "any", a dropped label; None drops all. In training
    columns for `told` follow; without these they are 0
    -> (N, H, W, out)
    Raises ValueError where sizes do not fit or a label is out of range.
    """

    def __init__(
        self,
        size,
        channels=1,
        width=32,
        multipliers=(1, 2, 2),
        depth=2,
        classes=(),
        padding="zeros",
        out=None,
        told=(),
        *,
        rng,
    ):
        halvings = len(multipliers) - 1
        if size % 2**halvings:
            why = f"images of side {size} cannot be halved {halvings} times"
            raise ValueError(f"{why}: take fewer multipliers or another size")
        self.size, self.channels, self.out = size, channels, out or channels
        self.width, self.classes, self.told = width, tuple(classes), tuple(told)
        E = 4 * width
        self.time1, self.time2 = Linear(width, E, rng=rng), Linear(E, E, rng=rng)
        self.labels = [Embedding(M, E, rng=rng) for M in (*(M + 1 for M in classes), *told)]

        C, skips = width, []
        self.conv_in = Conv2d(channels, C, padding=padding, rng=rng)
        self.downs = []  # levels, from full size down, each a list of blocks
        for m in multipliers:
            self.downs.append([])
            for _ in range(depth):
                self.downs[-1].append(Block(C, m * width, E, padding, rng=rng))
                C = m * width
                skips.append(C)
        self.mid1 = Block(C, C, E, padding, rng=rng)
        self.attention = Attention(C, rng=rng)
        self.mid2 = Block(C, C, E, padding, rng=rng)
        self.ups = []  # levels, from the smallest up
        for m in reversed(multipliers):
            self.ups.append([])
            for _ in range(depth):
                self.ups[-1].append(Block(C + skips.pop(), m * width, E, padding, rng=rng))
                C = m * width
        self.norm = GroupNorm(C, silu=True)
        self.conv_out = Conv2d(C, self.out, padding=padding, gain=0.0, rng=rng)

    def __call__(self, x, t, labels=None):
        labels = None if labels is None else np.asarray(labels)
        self._check(x, t, labels)
        with kernels.turn:  # no other thread trains it, or makes it see tiles, meanwhile
            return run_unet(self, x, self.embed(t, labels, x.dtype))

    def embed(self, t, labels, dtype):
        """Turn numbers and labels into the vectors e that condition every block.

        t: (N,); labels: (N, len(classes)), or more with what is told, or None -> (N, E)
        """
        labels = np.tile(self.classes, (len(t), 1)).astype(int) if labels is None else labels
        labels = np.pad(labels, ((0, 0), (0, len(self.labels) - labels.shape[1])))
        sines = kernels.array(time_embedding(t, self.width).astype(dtype))
        e = self.time2(ops.silu(self.time1(sines)))
        for k, table in enumerate(self.labels):
            e = e + table(kernels.array(labels[:, k]))
        return ops.silu(e)

    @property
    def divisor(self):
        """Give what the sides of an image must be divisible by: () -> int"""
        return 2 ** (len(self.downs) - 1)

    def _check(self, x, t, labels):
        unit = self.divisor
        if x.ndim != 4 or x.shape[3] != self.channels or any(side % unit for side in x.shape[1:3]):
            wanted = f"(N, H, W, {self.channels}) with sides divisible by {unit}"
            raise ValueError(f"images must be {wanted}; got {x.shape}")
        N = x.shape[0]
        if np.shape(t) != (N,):
            raise ValueError(f"t must be ({N},), one number per image; got {np.shape(t)}")
        if labels is None:
            return
        if labels.dtype.kind not in "iu":
            raise ValueError(f"labels must be whole numbers; got {labels.dtype}")
        most = np.array([*self.classes, *(values - 1 for values in self.told)], int)
        if np.shape(labels) not in ((N, len(self.classes)), (N, len(most))):
            wanted = f"{(N, len(self.classes))}, one column per label"
            raise ValueError(f"labels must be {wanted}; got {np.shape(labels)}")
        outside = (labels < 0) | (labels > most[: labels.shape[1]])
        if outside.any():
            n, k = np.argwhere(outside)[0]
            last = " (the last means 'any')" if k < len(self.classes) else ""
            takes = f"column {k} takes 0 .. {most[k]}{last}"
            raise ValueError(f"label out of range: {takes}; row {n} has {labels[n, k]}")


def run_unet(model, x, e):
    """Send images down one arm of a U-Net and up the other, with skips across.

    Down: conv_in, then the blocks of model.downs, level by level; ops.down between two levels.
    Each of these blocks leaves its output as a skip. Below: mid1, attention, mid2.
    Up: the blocks of model.ups, level by level; ops.up between two levels. Each of these blocks is
    given ops.concat of two: what comes from below, and then the last skip that is still unused.
    At the end: norm, conv_out.
    model: a UNet, which holds these layers; downs and ups are lists of levels, each a list of
    blocks, in the order in which they are used; every block and mid is called with (image, e)
    x: (N, H, W, C); e: (N, E) -> (N, H, W, out)
    """
    h, skips = model.conv_in(x), []
    for level in model.downs:
        for block in level:
            h = block(h, e)
            skips.append(h)
        if level is not model.downs[-1]:
            h = ops.down(h)
    h = model.mid2(model.attention(model.mid1(h, e)), e)
    for level in model.ups:
        for block in level:
            h = block(ops.concat(h, skips.pop()), e)
        if level is not model.ups[-1]:
            h = ops.up(h)
    return model.conv_out(model.norm(h))


@contextmanager
def circular(model):
    """Let a network see images as tiles for the length of a `with` block.

    Every Conv2d gets padding = "circular": past an edge it reads on the opposite side. At the end,
    also after an error, each padding is put back. Apart from the halving, nothing else in a UNet
    depends on where a pixel is, so model(roll(x)) = roll(model(x)) for rolls by multiples of
    2^(levels - 1) pixels. Where texture is the same everywhere, this needs no training.
    Another thread that calls a UNet meanwhile waits until the block has ended.
    model: any Module, called with x (N, H, W, C) -> the model
    """
    with kernels.turn:
        convs = [owner for _, owner, _ in model._slots() if isinstance(owner, Conv2d)]
        before = [conv.padding for conv in convs]
        try:
            for conv in convs:
                conv.padding = "circular"
            yield model
        finally:
            for conv, padding in zip(convs, before, strict=True):
                conv.padding = padding
