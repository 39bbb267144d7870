"""The true pixels of an enlarged picture: their grid is found, and each block becomes one pixel."""

import numpy as np

COMB = 0.9  # share of all change between neighbours that lies on the lines of a grid
LEAST_CELLS = 4  # per side of a picture that is taken for an enlarged one


def grid(group, comb=COMB):
    """Find the true pixels of enlarged pictures: the largest k whose grid holds all edges.

    Between neighbours inside a k x k block nothing changes, so all change lies on every k-th line;
    in a photograph it lies on each k-th line by chance, one in k. Sums over the pictures decide, so
    that a single picture with few edges does not.
    group: list of arrays (H, W, C) uint8 of one size; comb: share of all change that has to lie on
    the lines, 1 = exactly enlarged, by copies -> k, top, left: the first lines of the grid
    k = 1, 0, 0 where there is none
    """
    H, W = group[0].shape[:2]
    down, across = np.zeros(H), np.zeros(W)  # change from line i - 1 to line i
    for x in group:
        x = x.astype(np.float32)
        down[1:] += (np.diff(x, axis=0) ** 2).sum((1, 2))
        across[1:] += (np.diff(x, axis=1) ** 2).sum((0, 2))
    if not (down.any() and across.any()):
        return 1, 0, 0
    most = [np.cumsum(np.sort(change)[::-1]) / change.sum() for change in (down, across)]
    for k in range(min(H, W) // LEAST_CELLS, 1, -1):
        if any(share[min(len(share), -(-len(share) // k)) - 1] < comb for share in most):
            continue  # not even the largest changes of so many lines would do
        tops, lefts = _comb(down, k), _comb(across, k)
        if tops[1] >= comb * down.sum() and lefts[1] >= comb * across.sum():
            return k, tops[0], lefts[0]
    return 1, 0, 0


def _comb(change, k):
    sums = [change[first::k].sum() for first in range(k)]
    return int(np.argmax(sums)), max(sums)


def _median(values):
    return np.sort(values, axis=2)[:, :, values.shape[2] // 2]


def largest(values):
    """Take the largest value of each block, as from `blocks`: (H, W, k^2, C) -> (H, W, C)"""
    return values.max(2)


def reduce(x, cell, value=_median):
    """Take one value for each k x k block of a picture: its median, which JPEG hardly moves.

    What is cut off at an edge counts if it is at least half a block.
    x: (H, W, C) uint8; cell: k, top, left, as from `grid`; value: another function of blocks
    (h, w, k^2, C) -> (h, w, C) uint8
    """
    k, *firsts = cell
    if k == 1:
        return x
    for axis, first in enumerate(firsts):
        before = -start(first, k)
        after = -(x.shape[axis] + before) % k
        after = after if after * 2 <= k else after - k
        widths = [(0, 0)] * 3
        widths[axis] = (max(0, before), max(0, after))
        keep = slice(max(0, -before), x.shape[axis] - max(0, -after))
        x = np.pad(x[keep] if axis == 0 else x[:, keep], widths, mode="edge")
    return value(blocks(x, k))


def start(first, k):
    """Tell where the first block that `reduce` keeps begins, negative where it is cut off -> int

    first: of a grid's lines, 0 .. k - 1; k: pixels per side of a () block
    """
    return first - k if 2 * first >= k > 1 else first


def blocks(x, k):
    """Cut a picture into blocks: (H, W, C), H and W divisible by k -> (H/k, W/k, k^2, C)"""
    H, W, C = x.shape
    return x.reshape(H // k, k, W // k, k, C).swapaxes(1, 2).reshape(H // k, W // k, k * k, C)
