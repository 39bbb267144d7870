"""The classifier: a small convolutional network that reads labels off images.

It knows nothing of noise or diffusion. Its answers say whether a drawn image shows what was
requested; its features, 64 values per image, are what metrics.py compares. What it learns where
nothing is labelled: pretext.py.
"""

import time
from itertools import pairwise

import numpy as np

from .. import checkpoint, fields, kernels, ops
from ..autodiff import Tensor, gradient
from ..nn import Conv2d, GroupNorm, Linear, Module
from ..optim import Adam, Readback, require_finite, warmup_cosine
from .metrics import finite


class Classifier(Module):
    """A network from an image to 64 features, and from these to scores for each label.

    x of 32 pixels and more: blocks of 2 x 2, of 64 and more of 4 x 4, become one pixel each first;
    h = silu(colour(x)), a linear map of each pixel to width channels;
    three times h = silu(norm(conv(h))), 3 x 3, to width, 2 width, 2 width channels, halved (down)
    after the first and the last, then until at most 4 x 4 pixels are left (or their number is odd);
    features = silu(squeeze(h)); scores[k] = heads[k](features), linear maps
    colour starts steep (w six times as large as usual) and spread out (b uniform in -4 .. 4), to
    tell similar colours apart
    size: pixels per side, divisible by 4; channels: C; classes: how many values each label has
    x: (N, H, W, C) -> scores: one array (N, classes[k]) for each label k
    """

    def __init__(self, size, channels, classes, width=32, *, rng):
        self.classes = tuple(classes)
        self.block = next(
            k for k in (4, 2, 1) if k == 1 or (size >= 16 * k and size % (4 * k) == 0)
        )
        size //= self.block
        self.colour = Linear(channels * self.block**2, width, rng=rng)
        self.colour.w = 6 * self.colour.w
        self.colour.b = rng.uniform(-4, 4, width).astype(np.float32)
        widths = (width, width, 2 * width, 2 * width)
        self.convs = [Conv2d(C, O, rng=rng) for C, O in pairwise(widths)]
        self.norms = [GroupNorm(C, silu=True) for C in widths[1:]]
        self.side = size // 4
        while self.side > 4 and self.side % 2 == 0:
            self.side //= 2
        self.squeeze = Linear(self.side**2 * 2 * width, 64, rng=rng)
        self.heads = [Linear(64, M, rng=rng) for M in classes]

    def maps(self, x):
        """Compute what each layer sees: after the colours and each convolution, not yet halved.

        x: (N, H, W, C) -> two (N, H, W, width), two (N, H/2, W/2, 2 width), from shallow to deep;
        H and W are those in blocks
        """
        maps = [ops.silu(self.colour(blocks(x, self.block)))]
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            maps.append(norm(conv(ops.down(maps[-1]) if i == 1 else maps[-1])))
        return maps

    def features(self, x):
        """Compute the values that all answers are read from. x: (N, H, W, C) -> (N, 64)"""
        h = ops.down(self.maps(x)[-1])
        while h.shape[1] > self.side:
            h = ops.down(h)
        return ops.silu(self.squeeze(ops.reshape(h, shape=(h.shape[0], -1))))

    def __call__(self, x):
        features = self.features(x)
        return [head(features) for head in self.heads]


def blocks(x, side):
    """Make each block of side x side pixels one pixel, with all their values: nothing is lost.

    x: (N, H, W, C) -> (N, H/side, W/side, side^2 C)
    """
    if side == 1:
        return x
    N, H, W, C = x.shape
    h, w = H // side, W // side
    x = ops.swapaxes(ops.reshape(x, shape=(N, h, side, w, side * C)), i=2, j=3)
    return ops.reshape(x, shape=(N, h, w, side * side * C))


def fit(
    images,
    labels,
    classes,
    rng,
    steps=300,
    batch=64,
    lr=3e-3,
    change=lambda x: x,
    tick=lambda: None,
):
    """Train a Classifier on images and their labels, by the sum of their cross-entropies.

    images: (M, H, W, C) in [-1, 1]; labels: (M, number of labels) ints, label k in
    0 .. classes[k], the last of which is unknown and teaches nothing; lr: highest learning rate;
    change: (N, H, W, C) -> (N, H, W, C), what to do to each batch first, such as adding noise;
    tick() is called after each step -> Classifier
    Raises FloatingPointError when the loss or its gradient is not finite, as with NaN in an image.
    """

    def batch_of(rng):
        i = rng.integers(len(images), size=batch)
        return change(images[i]), labels[i]

    return fit_batches(batch_of, images.shape, classes, rng, steps, lr, tick)


def fit_batches(batch_of, shape, classes, rng, steps, lr=3e-3, tick=lambda: None):
    """Train a Classifier on batches that are made for it; all else as for `fit`.

    batch_of: rng -> images (N, H, W, C) and labels (N, number of labels); shape: (M, H, W, C)
    """
    model = Classifier(shape[1], shape[3], classes, rng=rng)
    theta = model.flatten()
    adam, readback, seen = Adam(theta, decay=0.01), Readback(), 0
    for step in range(steps):
        x, labels = batch_of(rng)
        with model.variables() as params:
            loss = nll(model, x, labels)
            grads = gradient(loss, params)
        g = kernels.concat(*[g.reshape(-1) for g in grads])
        length = adam.step(g, lr * warmup_cosine(step / steps), wait=False)
        readback.push(loss.value, length)
        if (step + 1) % kernels.STEPS_AHEAD == 0 or step + 1 == steps:
            for found in readback.fetch():
                seen += 1
                require_finite(seen, *found)
        tick()
    return model


def learn(dataset, steps, seed, tick=lambda: None):
    """Train the classifier that reads a data set's labels off its images.

    It sees mirror images too, but not of digits and letters.
    dataset: data.Dataset with (M, H, W, C) images; tick: as for `fit`
    -> weights (P,), meta: dict with what rebuilds it, see `load`, and its accuracy on the held-out
    images, by label
    """
    began, rng = time.perf_counter(), np.random.default_rng(seed)

    def mirror(x):
        if dataset.name in ("digits", "typefaces"):
            return x
        return np.where(rng.random((len(x), 1, 1, 1)) < 0.5, x[:, :, ::-1], x)

    images, labels, classes = dataset.train, dataset.train_labels, dataset.classes
    model = fit(images, labels, classes, rng, steps, change=mirror, tick=tick)
    return packed(model, dataset, {"steps": steps, "seed": seed}, began)


def packed(model, dataset, train, began):
    """Pack a classifier for checkpoint.export: its weights, and what they are.

    dataset: the one it was trained on, images (M, H, W, C); train: how; began: when, see
    time.perf_counter -> weights (P,), meta, as of `learn`
    """
    right = accuracy(model, dataset.test, dataset.test_labels)
    held_out = {k: round(float(r), 4) for k, r in zip(dataset.labels, right, strict=True)}
    _, size, _, channels = dataset.train.shape
    meta = {
        "dataset": dataset.name,
        "labels": dataset.labels,
        "size": size,
        "channels": channels,
        "held_out": {k: share for k, share in held_out.items() if share == share},  # not NaN
        "train": train | {"seconds": round(time.perf_counter() - began, 1)},
    }
    return np.concatenate([p.ravel() for p in model.params().values()]), meta


def nll(model, x, labels, asked=None):
    """Add up the cross-entropies of the labels, each the mean over the batch, in nats.

    nll = -mean log p(labels | x)
    x: (N, H, W, C); labels: (N, number of labels) ints; asked: which labels count, None = all -> ()
    """
    scores = model(x)
    total = 0.0
    for k in range(len(scores)) if asked is None else asked:
        total = total + ops.cross_entropy(scores[k], labels=labels[:, k])
    return total


def log_p_gradient(model, labels, asked=None):
    """Make a classifier into what guide.by_gradient wants: the gradient of log p(labels | x).

    It is taken with respect to each image.
    model: a Classifier, best one trained on noisy images; labels: (N, number of labels) ints;
    asked: which labels count, None = all
    -> (x (N, H, W, C), t) -> (N, H, W, C); t is ignored: the classifier must see how noisy x is
    """

    def uphill(x, t):
        x = Tensor(x)
        (g,) = gradient(nll(model, x, labels, asked), [x])
        # nll is a mean over N images, each of which depends on its own log p alone
        return -g * g.dtype.type(len(g))

    return uphill


def accuracy(model, images, labels, batch=500):
    """Count for each label how often the value with the highest score is the right one.

    images: (N, H, W, C); labels: (N, number of labels) ints, those of the model's first labels; a
    value that the model does not have is unknown, and not counted
    -> (number of labels,) shares in [0, 1], NaN where no value is known
    Raises FloatingPointError where a score is not finite, as with NaN in an image.
    """
    right, known = np.zeros((2, labels.shape[1]))
    for i in range(0, len(images), batch):
        wanted = labels[i : i + batch].T
        for k, (scores, value) in enumerate(
            zip(model(images[i : i + batch]), wanted, strict=False)
        ):
            scores = finite(np.asarray(scores))
            right[k] += (scores.argmax(1) == value).sum()
            known[k] += (value < scores.shape[1]).sum()
    return np.divide(right, known, out=np.full(len(known), np.nan), where=known > 0)


def load(name):
    """Load the classifier that comes with tinydiff for a data set.

    name: of the data set -> model (a Classifier, weights (P,)), meta (dict; "held_out" is its
    accuracy on unseen images, by label)
    Raises CheckpointError when there is none, or its file is damaged.
    """
    return read(checkpoint.shipped(f"{name}_judge"))


def read(path):
    """Load the classifier in a file that `judge` or `evaluate` wrote.

    path: Path -> model (a Classifier, weights (P,)), meta as `load` gives it, of a user's pictures
    also what pretext.learn and app/judges.py add. Raises CheckpointError as `load` does.
    """
    what = "holds no classifier, or one of another version of tinydiff"
    return checkpoint.rebuild(path, fields.CLASSIFIER, _build, what)


def unpacked(weights, meta):
    """Build a classifier as the file that `export` wrote would give it. weights (P,), meta -> it"""
    (model,) = _build(meta, checkpoint.Blank("weights", weights.size))
    model.flatten()[:] = weights.astype(np.float16)
    return model


def _build(meta, rng):
    classes = [len(values) for values in meta["labels"].values()]
    classes += meta.get("tasks", {}).values()
    return (Classifier(meta["size"], meta["channels"], classes, rng=rng),)
