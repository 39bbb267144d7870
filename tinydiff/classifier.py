"""The judge: a small convolutional network that says which class an image shows. It knows nothing of noise or diffusion."""

import numpy as np

from . import ops
from .autodiff import gradient
from .nn import Conv2d, GroupNorm, Linear, Module
from .optim import Adam, warmup_cosine


class Classifier(Module):
    """Two halvings, four convolutions, a mean over what is left, a linear map: x (N, H, W, C) -> scores (N, classes)."""

    def __init__(self, channels, classes, width=32, *, rng):
        self.convs = [Conv2d(C, O, rng=rng) for C, O in [(channels, width), (width, width), (width, 2 * width), (2 * width, 2 * width)]]
        self.norms = [GroupNorm(C, silu=True) for C in (width, width, 2 * width, 2 * width)]
        self.out = Linear(2 * width, classes, rng=rng)

    def __call__(self, x):
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x))
            if i % 2:
                x = ops.down(x)
        N, H, W, C = x.shape
        # the mean over pixels, as a product with a row of 1 / (H W)
        tokens = ops.reshape(x, shape=(N, H * W, C))
        return self.out(ops.reshape(ops.matmul(np.full((N, 1, H * W), 1 / (H * W), np.float32), tokens), shape=(N, C)))


def fit(images, labels, classes, rng, steps=300, batch=64, lr=3e-3):
    """Train a Classifier on images and their labels, by cross-entropy.

    images: (M, H, W, C) in [-1, 1]; labels: (M,) ints in 0 .. classes - 1; lr: highest learning rate -> Classifier
    """
    model = Classifier(images.shape[3], classes, rng=rng)
    theta = model.flatten()
    adam = Adam(theta, decay=0.01)
    for step in range(steps):
        i = rng.integers(len(images), size=batch)
        with model.variables() as params:
            grads = gradient(ops.cross_entropy(model(images[i]), labels=labels[i]), params)
        adam.step(np.concatenate([g.ravel() for g in grads]), lr * warmup_cosine(step / steps))
    return model


def accuracy(model, images, labels):
    """Count how often the class with the highest score is the right one. images (N, H, W, C), labels (N,) ints -> share in [0, 1]"""
    return float(np.mean(np.argmax(model(images), axis=1) == labels))
