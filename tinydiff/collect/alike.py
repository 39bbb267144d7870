"""Pictures that are the same, or nearly: they stay on one side of the held-out split."""

from hashlib import blake2b

import numpy as np

from ..data import thumbnails

SHARE = 0.07  # of the distance between two pictures of the set, taken at random: nearly the same
LEAST = 0.004  # of the range from black to white: what JPEG changes
BLOCK, MANY = 512, 4096  # pictures compared at once, and averaged
EVERY = 10  # one of so many groups is held out
FEWEST = 10  # pictures of which some are held out


def groups(images):
    """Find out which pictures are the same, or nearly, directly or by way of others.

    Nearly: the root mean square difference of their thumbnails is below SHARE of what it is, in
    the median, between two pictures taken at random.
    images: (M, H, W, C) uint8
    -> group (M,) ints, the first of the pictures that are nearly the same; copies: how many are
    exactly another's, near: how many more are nearly another's
    """
    M = len(images)
    digests = [blake2b(np.ascontiguousarray(x), digest_size=8).digest() for x in images]
    _, first, same = np.unique(np.array(digests), return_index=True, return_inverse=True)
    group = first[same.ravel()]
    copies = M - len(first)
    first = np.sort(first)
    small = np.concatenate([thumbnails(images[k : k + MANY]) for k in range(0, M, MANY)])
    small = small[first] / 255
    links = _joined(small, _nearness(small))
    near = len(first) - len(np.unique(links))
    parent = np.arange(M)
    parent[first] = first[links]
    group = parent[group]
    lowest = np.full(M, M)
    np.minimum.at(lowest, group, np.arange(M))
    return lowest[group], copies, near


def _nearness(small):
    """Choose the distance below which two pictures are nearly the same -> float"""
    rng = np.random.default_rng(0)
    i, j = rng.integers(len(small), size=(2, 2000))
    apart = np.sqrt(((small[i] - small[j]) ** 2).mean(1))[i != j]
    usual = np.median(apart) if len(apart) else 0.0
    return max(LEAST, SHARE * usual)


def _joined(small, near):
    """Join rows closer than `near` (root mean square) -> (M,) ints, one of each joined set's rows

    Sorted along the direction in which they differ most, only neighbours need to be compared: two
    rows are at least as far apart as their places along any direction.
    """
    M, D = small.shape
    parent = np.arange(M)
    if M < 2:
        return parent
    small = small - small.mean(0)
    sample = small[:: max(1, M // 2000)]
    direction = np.linalg.svd(sample, full_matrices=False)[2][0]
    places = small @ direction
    order = np.argsort(places, kind="stable")
    small, places = small[order], places[order]
    squares, reach = (small**2).sum(1), near * np.sqrt(D)
    for a in range(0, M, BLOCK):
        b = min(a + BLOCK, M)
        end = np.searchsorted(places, places[b - 1] + reach, side="right")
        distances = squares[a:b, None] + squares[None, a:end] - 2 * small[a:b] @ small[a:end].T
        i, j = np.nonzero(distances < reach**2)
        _unite(parent, i[j > i] + a, j[j > i] + a)
    roots = _roots(parent, np.arange(M))
    out = np.empty(M, np.int64)
    out[order] = order[roots]
    return out


def _roots(parent, i):
    while (parent[i] != parent[parent[i]]).any():
        parent[i] = parent[parent[i]]
    return parent[i]


def _unite(parent, i, j):
    """Join pairs: arrays of ints; parent[i] leads to the same root as parent[j]."""
    while len(i):
        a, b = _roots(parent, i), _roots(parent, j)
        i, j = np.minimum(a, b)[a != b], np.maximum(a, b)[a != b]
        if len(i):
            parent[j] = i  # of several i for one j one stays; the others are joined next time
            still = _roots(parent, j) != _roots(parent, i)
            i, j = i[still], j[still]


def split(group, first_label=None, seed=0):
    """Choose pictures to hold out, whole groups, spread over the values of the first label.

    group: (M,) ints, as from `groups`; first_label: (M,) ints or None
    -> (M,) bool: about a tenth of M, none of fewer than FEWEST, or where all are nearly the same
    """
    M = len(group)
    if M < FEWEST:
        return np.zeros(M, dtype=bool)
    heads, sizes = np.unique(group, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(heads))
    if first_label is not None:
        order = order[np.argsort(first_label[heads[order]], kind="stable")]
    heads, sizes = heads[order], sizes[order]
    heads = heads[sizes <= max(1, M // EVERY)]
    return np.isin(group, heads[EVERY // 2 :: EVERY])


def settle(held_out, group):
    """Move what is held out, but nearly the same as a training picture, to the training pictures.

    held_out: (M,) bool, a set's own split; group: (M,) ints -> (M,) bool, how many were moved
    """
    in_training = np.isin(group, group[~held_out])
    return held_out & ~in_training, int((held_out & in_training).sum())
