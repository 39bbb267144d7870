"""How much memory a training takes, and into which pieces a batch is cut so that it fits."""

from ..measure.evaluate import peak_memory
from .usage import UsageError

PROGRAM = 400e6  # bytes: Python, NumPy, Numba, and what compiling all kernels leaves behind
PER_WEIGHT = 36  # weight, average, two of Adam's; gradients, their sum, and while they are joined
PER_VALUE = 7  # 4 for a value that derivatives need, and what kernels need on the way
USUAL = {"width": 32, "multipliers": (1, 2, 2), "depth": 2}  # of UNet


def per_image(model):
    """Estimate what one image of a batch needs in a training step.

    Derivatives need the input of every layer: two for each block on the way down, four on the way
    up, whose inputs are twice as wide, and a few at both ends; attention all pairs of places.
    model: arguments of UNet, for images (H, W, C) -> float, in bytes
    """
    model = USUAL | model
    pixels = [(model["size"] // 2**k) ** 2 for k in range(len(model["multipliers"]))]
    values = sum(P * m * model["width"] for P, m in zip(pixels, model["multipliers"], strict=True))
    return PER_VALUE * (values * (6 * model["depth"] + 4) + pixels[-1] ** 2)


def of_steps(model, weights, images):
    """Estimate what steps of so many images (N, H, W, C) at once need, and the weights -> bytes"""
    return PER_WEIGHT * weights + images * per_image(model)


def at_once(limit, model, weights, images, dataset):
    """Choose how many images of a batch (N, H, W, C) are computed at once, to stay within a limit.

    limit: in bytes, None = none; model: arguments of UNet; weights: how many it has; images: N
    -> int, None = all. Raises UsageError where not even one fits, or this process, which has read
    the pictures, has taken more already.
    """
    if limit is None:
        return None
    besides = PROGRAM + of_steps(model, weights, 0) + _held(dataset)
    least, taken = besides + per_image(model), peak_memory() or 0
    if limit < max(least, taken):
        why = f"this training needs at least {-(-least // 1e6):.0f}MB, a picture at a time"
        if limit >= least:
            again = "give as much, or, where they are in the cache folder now, the same again"
            why = f"reading the pictures took {-(-taken // 1e6):.0f}MB: {again}"
        raise UsageError(f"--memory {limit / 1e6:.0f}MB is too little: {why}")
    most = int((limit - besides) / per_image(model))
    return None if most >= images else most


def _held(dataset):
    """Count the memory that the images of a Dataset or Styles take -> bytes"""
    if hasattr(dataset, "images"):
        return 2 * dataset.images.nbytes  # all, and those that are trained on
    if hasattr(dataset.train, "pixels"):
        return dataset.train.pixels.nbytes
    return dataset.train.nbytes + dataset.test.nbytes
