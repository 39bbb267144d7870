"""Layers: a Module owns parameters (plain arrays) and other Modules, and is called like a function.

Called on arrays a Module gives arrays and records nothing. Inside `with model.variables() as
params:` its parameters are Tensors, so the same call records a graph that `gradient` can walk.
"""

import math
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from . import kernels, ops
from .autodiff import Tensor


class Module:
    """Own parameters: every attribute that is an array, or a Tensor, is one.

    Attributes that are Modules, lists of Modules or lists of lists of them are searched too.
    """

    def _slots(self):
        """List where the parameters are, in a fixed order -> iterator of path, owner, attribute"""
        for name, item in vars(self).items():
            if hasattr(item, "ndim"):
                yield name, self, name
            else:
                yield from _inside(item, name)

    def params(self):
        """Name the parameters: () -> dict of name ("downs.0.1.conv1.w") to array (...), in order"""
        return {path: getattr(owner, name) for path, owner, name in self._slots()}

    def flatten(self, dtype=np.float32):
        """Move all parameters into one buffer; each attribute becomes a view of its part.

        dtype: float32 or float64 -> theta (P,); changing theta changes the model
        """
        slots = list(self._slots())
        flat = [np.asarray(getattr(owner, name)).ravel() for _, owner, name in slots]
        theta = kernels.array(np.concatenate(flat).astype(dtype))
        end = 0
        for _, owner, name in slots:
            shape = getattr(owner, name).shape
            start, end = end, end + int(np.prod(shape))
            setattr(owner, name, theta[start:end].reshape(shape))
        return theta

    @contextmanager
    def variables(self):
        """Make the parameters Tensors for the length of a `with` block.

        Another thread that calls a UNet meanwhile waits until the block has ended.
        -> list of Tensors (...), in the order of params()
        """
        with kernels.turn:
            slots = [(owner, name, getattr(owner, name)) for _, owner, name in self._slots()]
            try:
                for owner, name, array in slots:
                    setattr(owner, name, Tensor(array))
                yield [getattr(owner, name) for owner, name, _ in slots]
            finally:
                for owner, name, array in slots:
                    setattr(owner, name, array)

    def __repr__(self):
        P = sum(math.prod(p.shape) for p in self.params().values())
        return f"<{type(self).__name__} of {P:,} parameters>"

    def __getstate__(self):
        """Keep copies flat: a view is copied as its place in the shared buffer."""
        return {name: _View.of(item) or item for name, item in vars(self).items()}

    def __setstate__(self, state):
        for name, item in state.items():
            setattr(self, name, item.array() if isinstance(item, _View) else item)


@dataclass
class _View:
    """A parameter within a flat buffer, of which copy and pickle then make one copy for all."""

    buffer: np.ndarray
    start: int
    shape: tuple

    @classmethod
    def of(cls, item):
        """Note where an array (...) lies in a flat buffer (P,) -> _View, or None if it does not"""
        buffer = getattr(item, "base", None)
        if not isinstance(buffer, np.ndarray) or buffer.ndim != 1 or buffer.dtype != item.dtype:
            return None
        if not (buffer.flags.c_contiguous and item.flags.c_contiguous):
            return None
        places = (a.__array_interface__["data"][0] for a in (item, buffer))
        return cls(buffer, (next(places) - next(places)) // item.itemsize, item.shape)

    def array(self):
        """Give the array (...) as a view of the buffer, which may be a copy: () -> array"""
        end = self.start + int(np.prod(self.shape))
        return self.buffer[self.start : end].reshape(self.shape)


def _inside(item, path):
    """List the slots of a Module, or of the Modules in a list or in lists of lists."""
    if isinstance(item, Module):
        for inner, owner, name in item._slots():
            yield f"{path}.{inner}", owner, name
    elif isinstance(item, list | tuple):
        for i, part in enumerate(item):
            yield from _inside(part, f"{path}.{i}")


def _init(rng, shape, fan_in):
    """Draw weights of variance 1 / fan_in, with which a layer keeps the variance of its input."""
    return rng.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(fan_in))


class Linear(Module):
    """Mix features: y = x w + b. x: (..., C) -> (..., O); w ~ N(0, 1/C), b = 0 at first."""

    def __init__(self, C, O, *, rng):
        self.w, self.b = _init(rng, (C, O), C), np.zeros(O, np.float32)

    def __call__(self, x):
        return ops.matmul(x, self.w) + self.b


class Conv2d(Module):
    """Convolve with K x K windows, no bias: the norm or embedding that follows adds its own.

    w: (K, K, C, O) ~ N(0, gain^2 / (K K C)); padding: "zeros" or "circular"
    x: (N, H, W, C) -> (N, H, W, O)
    """

    def __init__(self, C, O, K=3, padding="zeros", gain=1.0, *, rng):
        if K % 2 == 0:
            raise ValueError(f"a window needs a middle: K is odd; got {K}")
        self.w = _init(rng, (K, K, C, O), K * K * C) * np.float32(gain)
        self.padding = padding

    def __call__(self, x):
        return ops.conv2d(x, self.w, padding=self.padding)


class GroupNorm(Module):
    """Normalise groups of channels, then scale and shift each channel.

    x: (N, ..., C) -> (N, ..., C); with silu=True silu follows, in the same pass over memory
    """

    def __init__(self, C, groups=8, silu=False):
        if C % groups:
            why = f"{C} channels cannot be split into {groups} groups"
            raise ValueError(f"{why}: take a width divisible by {groups}")
        self.scale, self.shift = np.ones(C, np.float32), np.zeros(C, np.float32)
        self.groups, self.silu = groups, silu

    def __call__(self, x):
        norm = ops.norm_silu if self.silu else ops.group_norm
        return norm(x, self.scale, self.shift, groups=self.groups)


class Embedding(Module):
    """Give each of M values a learned vector. i: (N,) ints in 0 .. M - 1 -> (N, E)"""

    def __init__(self, M, E, *, rng):
        self.table = rng.standard_normal((M, E), dtype=np.float32)

    def __call__(self, i):
        return ops.embedding(self.table, i=i)


class Attention(Module):
    """Let every pixel look at every other: ops.attention over L = H W pixels, added to the input.

    x: (N, H, W, C) -> (N, H, W, C). q, k, v: (N, L, C), linear maps of the normalised x.
    The last map starts at 0, so that at first the layer changes nothing.
    """

    def __init__(self, C, *, rng):
        self.norm = GroupNorm(C)
        self.q, self.k, self.v = (Conv2d(C, C, K=1, rng=rng) for _ in range(3))
        self.out = Conv2d(C, C, K=1, gain=0.0, rng=rng)

    def __call__(self, x):
        N, H, W, C = x.shape
        h = self.norm(x)
        q, k, v = (ops.reshape(layer(h), shape=(N, H * W, C)) for layer in (self.q, self.k, self.v))
        return x + self.out(ops.reshape(ops.attention(q, k, v), shape=(N, H, W, C)))


def time_embedding(t, E, longest=10_000.0):
    """Encode a number as the E/2 hands of a clock: sines, then cosines, of E/2 angles t f.

    The frequencies f fall from 1 by the same factor each time, so that one more, f[E/2], would be
    1 / longest. Wavelengths: from 2 pi to 2 pi longest^(1 - 2/E).
    (sin(t f[0]), ..., sin(t f[E/2-1]), cos(t f[0]), ..., cos(t f[E/2-1]))
    t: (N,) numbers; E: even -> (N, E) float32 in [-1, 1]
    Source: Vaswani et al. 2017, section 3.5, but first all sines, then all cosines.
    """
    f = longest ** (-np.arange(E // 2) / (E // 2))
    angle = np.asarray(t, dtype=np.float64)[:, None] * f
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)
