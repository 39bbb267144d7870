"""Count the kernels that a GPU is given per step: without one, in numba's simulator.

    python tests/bench/launches.py

At small batches a GPU waits for Python, which launches kernels one by one: their number counts.
They are counted and not run, with the sizes of blocks that a device has.
"""

import os

os.environ |= {"NUMBA_ENABLE_CUDASIM": "1", "TINYDIFF_KERNELS": "cuda"}

from collections import Counter  # noqa: E402

import numpy as np  # noqa: E402
from numba.cuda.simulator.kernel import FakeCUDAKernel  # noqa: E402

from tinydiff import kernels, sample, schedule, train  # noqa: E402
from tinydiff.kernels import cuda_array  # noqa: E402
from tinydiff.unet import UNet  # noqa: E402

CLASSES = (8, 4, 5)


def counted(work):
    """Count the kernels that work() launches, by name -> Counter"""
    launched, run = Counter(), FakeCUDAKernel.__call__
    FakeCUDAKernel.__call__ = lambda kernel, *args: launched.update([kernel.fn.__name__])
    try:
        work()
    finally:
        FakeCUDAKernel.__call__ = run
    return launched


def steps(batch=64):
    """Count a step of training and one of drawing at 16x16x3, width 32 -> {name: Counter}"""
    cuda_array.THREADS, cuda_array.BLOCKS, cuda_array.ADDS = 256, 4096, 64
    kernels.use("cuda")
    model, s = UNet(16, 3, classes=CLASSES, rng=np.random.default_rng(0)), schedule.cosine(250)
    images, labels = np.zeros((batch, 16, 16, 3), np.float32), np.zeros((batch, len(CLASSES)), int)
    noise = np.random.default_rng(0)
    ways = {
        "training": lambda: train.train(
            train.Training(model, noise), s, images, labels, batch=batch
        ),
        "drawing": lambda: sample.ddim(
            train.denoiser(model, s, labels, "v"), s, images.shape, noise, clip=1.0
        ),
    }
    found = {}
    for name, way in ways.items():
        work = iter(())

        def begin(way=way):  # what only the first step does, such as to fill an average
            nonlocal work
            work = way()
            next(work)

        counted(begin)
        found[name] = counted(lambda: next(work))
    return found


if __name__ == "__main__":
    for name, launched in steps().items():
        most = ", ".join(f"{count} {kernel}" for kernel, count in launched.most_common(6))
        print(f"{name}: {launched.total()} launches per step: {most}")
