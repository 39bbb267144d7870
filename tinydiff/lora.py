"""Low-rank adaptation (LoRA): a trained network learns something new by changing only a little.

    W + (alpha / r) A B        W (C, O) as it was trained;  A (C, r) and B (r, O) are learned

r, the rank, is small: r (C + O) numbers are learned instead of C O, so there is less to fit a few
pictures with, and less to forget. B is 0 at first, so the network starts as it was. A convolution's
window, (K, K, C, O), counts as a matrix of K K C rows. By the chain rule, with g = dL/dW,

    dL/dA = (alpha / r) g B^T        dL/dB = (alpha / r) A^T g

so g is computed as in any training: what is saved is not time, but Adam's two numbers per weight.
Afterwards the product is added to W once, and the network is as fast as any other.
Source: Hu et al. 2021, who write W + (alpha / r) B A, since their vectors are columns.
"""

import math
from contextlib import contextmanager

import numpy as np

from . import kernels, ops
from .nn import Module

WHOLE = ("labels", "conv_in", "conv_out")  # few weights, or new ones: learned as they are
ALPHA = 8.0  # stands in no checkpoint: another number would change what those trained before are


class Change(Module):
    """Add a low-rank update to a weight: W + (alpha / r) A B.

    W: (..., C, O), seen as a matrix (rows, O); A: (rows, r) ~ N(0, 1 / rows); B: (r, O), 0 at first
    """

    def __init__(self, shape, rank, alpha=ALPHA, *, rng):
        rows, O = math.prod(shape[:-1]), shape[-1]
        self.A = rng.standard_normal((rows, rank), np.float32) / np.float32(np.sqrt(rows))
        self.B, self.strength = np.zeros((rank, O), np.float32), alpha / rank

    def __call__(self, W):
        change = ops.matmul(self.A, self.B) * self.strength
        return ops.reshape(change, shape=W.shape) + W


class LowRank(Module):
    """A trained network of which only low-rank updates are learned, and a few weights as they are.

    Called as the network is. Its parameters are A and B of each weight with two axes or more, and
    the weights whose names begin with one of `whole`; all others stay.
    model: a Module, whose weights become views of .frozen (P,); rank: int >= 1
    """

    def __init__(self, model, rank, alpha=ALPHA, whole=WHOLE, *, rng):
        self.frozen = model.flatten()
        self.model, self.whole = model, whole
        places = [(owner, name) for path, owner, name in model._slots() if not self._is_whole(path)]
        self.places = [(owner, name) for owner, name in places if getattr(owner, name).ndim > 1]
        shapes = [getattr(owner, name).shape for owner, name in self.places]
        self.changes = [Change(shape, rank, alpha, rng=rng) for shape in shapes]

    @property
    def classes(self):
        """Give how many values each of the network's labels has: () -> tuple of ints"""
        return self.model.classes

    def _is_whole(self, path):
        return path.startswith(self.whole)

    def _slots(self):
        yield from (slot for slot in self.model._slots() if self._is_whole(slot[0]))
        for k, change in enumerate(self.changes):
            yield from ((f"changes.{k}.{name}", change, name) for name in ("A", "B"))

    def __call__(self, *args):
        with kernels.turn, self._changed():
            return self.model(*args)

    @contextmanager
    def _changed(self):
        """Put the changed weights into the network for the length of a `with` block."""
        frozen = [getattr(owner, name) for owner, name in self.places]
        try:
            self._put([change(W) for change, W in zip(self.changes, frozen, strict=True)])
            yield
        finally:
            self._put(frozen)

    def _put(self, weights):
        for (owner, name), W in zip(self.places, weights, strict=True):
            setattr(owner, name, W)

    def merge(self):
        """Add the changes to the weights, for good: () -> the network, with weights (P,), as usual

        This LowRank is not to be used any more.
        """
        with self._changed():
            self.model.flatten()
            merged = [getattr(owner, name) for owner, name in self.places]
        self._put(merged)
        return self.model
