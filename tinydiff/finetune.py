"""A trained network as the start of another: its weights, wherever they fit.

size        any that can be halved as often: convolutions and attention take all sizes
channels    grey to colour and back: the first and the last convolution are made to fit
labels      those of the same name keep what the network knows of values of the same name
the rest    width, depth and multipliers, is the source's
"""

import numpy as np


def start_from(model, source, named, known):
    """Give a fresh network the weights of a trained one, so that at first it does what that did.

    model(x, t, labels) = source(x, t) for all labels that the source doesn't know, where the
    channels are the same: the source's "any" is added to the bias that comes before the labels, and
    what is new starts at 0. Grey to colour, what a channel of x does is a third of what it did,
    and the three that come out are the same; colour to grey, it is the sum, and the mean.
    model: a UNet of x (N, H, W, C) that is not flat yet; source: a UNet
    named, known: their labels and values, {"hat": ["none", ...], ...} -> None
    Raises ValueError where the source has other layers, or looks at a second picture.
    """
    if source.out != source.channels:
        raise ValueError("it redraws or completes what it is shown: take one that draws")
    own, its = model.params(), {k: np.asarray(p) for k, p in source.params().items()}
    layers = [{k for k in params if not k.startswith("labels.")} for params in (own, its)]
    if layers[0] != layers[1]:
        raise ValueError("it has other layers")
    for path in layers[0]:
        fitted = {"conv_in.w": _fit_in, "conv_out.w": _fit_out}.get(path, lambda w, shape: w)
        own[path][:] = fitted(its[path], own[path].shape)
    tables, names = [np.asarray(table.table) for table in source.labels], list(known)
    neutral = [*source.classes, *(0 for _ in tables[len(source.classes) :])]  # "any", "nothing"
    for k, row in enumerate(neutral):
        if k >= len(names) or names[k] not in named:
            own["time2.b"] += tables[k][row]
    for table in model.labels:
        table.table[:] = 0
    for k, (label, values) in enumerate(named.items()):
        if label in known:
            _keep(model.labels[k].table, values, tables[names.index(label)], known[label])


def _keep(table, values, old, known):
    """Fill a label's table: rows of values known before, all others as "any" -> None"""
    table[:] = old[len(known)]
    for row, value in enumerate(values):
        if value in known:
            table[row] = old[known.index(value)]


def _fit_in(w, shape):
    """Make the first convolution (K, K, C, O) take other channels -> (K, K, C', O)"""
    C, wanted = w.shape[2], shape[2]
    return w if C == wanted else np.repeat(w.sum(2, keepdims=True) / wanted, wanted, axis=2)


def _fit_out(w, shape):
    """Make the last convolution (K, K, C, O) give other channels -> (K, K, C, O')"""
    O, wanted = w.shape[3], shape[3]
    return w if O == wanted else np.repeat(w.mean(3, keepdims=True), wanted, axis=3)
