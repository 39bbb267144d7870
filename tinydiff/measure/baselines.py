"""Baselines that need no network and no noise: linear maps, neighbours, sums of parts.

Whatever a model is praised for, it must first beat these. The first three are fitted to pairs
(x[m], y[m]) and return a function from new x to a guess at y; the others fill the holes of a table.
"""

import numpy as np

from .metrics import finite
from .metrics import nearest as find_nearest


def ridge(x, y, strength):
    """Fit the linear map from x to y with the least squared error plus a penalty on its weights.

    y_hat = (x - mean x) w + mean y, each x and y laid out as one row
    w minimises mean_m |y[m] - y_hat[m]|^2 + strength |w|^2, |w|^2 the sum of its squares
    x: (M, ...); y: (M, ...), other shape allowed; strength > 0, in units of a variance of x
    -> function: x (N, ...) -> y_hat (N, ...), y's precision
    Source: Hoerl & Kennard 1970.
    """
    rows, targets = (np.asarray(a, dtype=np.float64).reshape(len(a), -1) for a in (x, y))
    mean_x, mean_y = rows.mean(0), targets.mean(0)
    rows = rows - mean_x
    S = rows.T @ rows / len(rows)
    w = np.linalg.solve(S + strength * np.eye(len(S)), rows.T @ (targets - mean_y) / len(rows))

    def guess(x):
        y_hat = (x.reshape(len(x), -1) - mean_x) @ w + mean_y
        return y_hat.reshape(-1, *y.shape[1:]).astype(y.dtype)

    return guess


def patches(x, size, paper=1.0):
    """Cut out the square around each pixel, as one row. What lies outside an image is paper.

    x: (N, H, W, C); size: odd, pixels per side; paper: a number, 1 = white
    -> (N H W, C size size), channel by channel
    """
    around = [(0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)]
    padded = np.pad(x, around, constant_values=paper)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    return windows.reshape(-1, x.shape[-1] * size * size)


def ridge_patches(x, y, strength, size=5, paper=1.0):
    """Fit one filter by `ridge`: a linear map from a square of x to the pixel of y in its middle.

    It is the same map at every pixel.
    x: (M, H, W, C); y: (M, H, W, O); strength > 0; size, paper: as in `patches`
    -> function: x (N, H, W, C) -> y_hat (N, H, W, O)
    """
    fitted = ridge(patches(x, size, paper), y.reshape(-1, y.shape[-1]), strength)
    return lambda x: fitted(patches(x, size, paper)).reshape(*x.shape[:3], -1)


def nearest(x, y):
    """Answer with the target of the most similar known input.

    y[m], m where the mean of (x_new - x[m])^2 is least
    x: (M, ...); y: (M, ...), other shape allowed -> function: x_new (N, ...) -> y_hat (N, ...),
    which raises FloatingPointError where a value is not finite
    """
    return lambda x_new: y[find_nearest(x_new, x)[1]]


def additive(table, known):
    """Fill the holes of a table: explain each entry as its row's part plus its column's part.

    table_hat[i, j] = a[i] + b[j]
    a, b minimise the sum of |table[i, j] - a[i] - b[j]|^2 over the known entries
    table: (M, S, ...), M rows, S columns, numbers or images; known: (M, S) bool; what stands in the
    holes is ignored -> table_hat (M, S, ...), known entries too
    What is known must link all rows and columns, else a hole is not determined.
    Raises FloatingPointError where a known value is not finite.
    """
    i, j = np.nonzero(known)
    design = np.concatenate([np.eye(known.shape[0])[i], np.eye(known.shape[1])[j]], axis=1)
    targets = finite(table[known]).reshape(len(i), -1).astype(np.float64)
    parts, *_ = np.linalg.lstsq(design, targets)  # one constant may move from a to b
    a, b = np.split(parts, [known.shape[0]])
    return (a[:, None] + b).reshape(table.shape).astype(table.dtype)


def nearest_column(table, known):
    """Fill each hole of a table from the column most like its own.

    Most like: the mean squared difference over the rows known in both is least. Only columns in
    which this row is known are considered.
    table: (M, S, ...), M rows, S columns, numbers or images; known: (M, S) bool
    -> table_hat (M, S, ...), known entries as they were
    Raises FloatingPointError where a known value is not finite.
    """
    finite(table[known])
    filled, flat = table.copy(), table.reshape(*known.shape, -1)
    for k in range(known.shape[1]):
        both = known & known[:, [k]]
        difference = np.where(both, ((flat - flat[:, [k]]) ** 2).mean(2), 0).sum(0)
        difference = np.where(both.any(0), difference / np.maximum(both.sum(0), 1), np.inf)
        for i in np.flatnonzero(~known[:, k]):
            candidates = np.flatnonzero(known[i])
            filled[i, k] = table[i, candidates[difference[candidates].argmin()]]
    return filled
