"""Restore held-out portraits: the network, told nothing of them, against doing nothing, bicubic enlargement and ridge regression.

    python tests/bench/restoration.py                    # 100 portraits, 8 samples each: some 120,000 network evaluations
    python tests/bench/restoration.py --through          # the derivative through the network: 3 times as long

Prints a Markdown table of root mean squared errors, in units where black is 0 and white is 1, each the mean over portraits. Ridge
regression learns from the training portraits, degraded in the same way; its strength is the best of STRENGTHS on 600 of them, left out.
A single sample of a posterior has twice the squared error of the posterior's mean: the mean of the samples is what may be compared.
"""

import argparse
import time

import numpy as np
from PIL import Image

from tinydiff import checkpoint, data, guide, sample
from tinydiff.design import restore
from tinydiff.measure import baselines
from tinydiff.train import denoiser, with_vjp

KINDS = {  # what is done to a portrait, the standard deviation of the noise on top (images lie in [-1, 1])
    "noise 0.1": (restore.shrink(16, 3, 1), 0.1),
    "noise 0.3": (restore.shrink(16, 3, 1), 0.3),
    "blur of 1 pixel, noise 0.05": (restore.blur(16, 3, 1.0), 0.05),
    "half the size": (restore.shrink(16, 3, 2), 0.02),
    "a quarter of the size": (restore.shrink(16, 3, 4), 0.02),
    "without colour": (restore.grey(16, 3), 0.02),
}
STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3)
STEPS = 25


def rmse(guess, x0):
    """The root mean squared error of each image, the mean over images, in units of the whole range from black to white."""
    error = np.clip(guess, -1, 1) - x0
    return np.sqrt((error**2).mean((1, 2, 3))).mean() / 2


def noised(A, sigma_y, x0, rng):
    y = restore.degrade(A, x0)
    return y + np.float32(sigma_y) * rng.standard_normal(y.shape, dtype=np.float32)


def resized(y, how):
    """Bring small pictures back to 16 x 16 with Pillow, and grey ones to three channels."""
    channels = np.moveaxis(np.repeat(y, 3 // y.shape[-1], axis=-1), -1, 1)  # (N, C, h, w)
    return np.stack(
        [[Image.fromarray(c).resize((16, 16), how) for c in image] for image in channels]
    ).transpose(0, 2, 3, 1)


def ridge(y, x0):
    """Fit ridge regression from y to x0, with the strength that is best on the last 600."""
    fitted = [baselines.ridge(y[:-600], x0[:-600], strength) for strength in STRENGTHS]
    best = min(range(len(STRENGTHS)), key=lambda i: rmse(fitted[i](y[-600:]), x0[-600:]))
    return baselines.ridge(y, x0, STRENGTHS[best]), STRENGTHS[best]


def restored(y, A, sigma_y, cov, through, samples, rng, model, s, predict):
    """Draw samples of each picture -> (samples, N, 16, 16, 3)"""
    y, plain = np.concatenate([y] * samples), denoiser(model, s, None, predict)
    if through:
        cov = np.trace(cov) / len(cov)
    with_derivative = with_vjp(plain) if through else guide.assume_gaussian(plain, s, cov)
    guided = guide.by_x0_hat(with_derivative, s, restore.log_p_gradient(s, y, A, sigma_y, cov))
    *_, x0 = sample.ddim(
        guided, s, (len(y), 16, 16, 3), rng, sample.even_times(s, STEPS), eta=1.0, clip=1.0
    )
    return x0.reshape(samples, -1, 16, 16, 3)


def main():
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--n", type=int, default=100, help="portraits (default: 100)")
    parse.add_argument("--samples", type=int, default=8, help="samples of each (default: 8)")
    parse.add_argument(
        "--kinds",
        nargs="+",
        choices=KINDS,
        default=list(KINDS),
        metavar="KIND",
        help="some of the degradations only",
    )
    parse.add_argument(
        "--through", action="store_true", help="take the derivative through the network"
    )
    parse.add_argument(
        "--train", action="store_true", help="restore training portraits, to try settings out on"
    )
    parse.add_argument("--save", help="an .npz file for degraded, original and restored pictures")
    args = parse.parse_args()
    model, s, about = checkpoint.pretrained("portraits")
    portraits, kept = data.load("portraits"), {}
    cov = restore.covariance(portraits.train)
    x0 = (portraits.train if args.train else portraits.test)[: args.n]
    print(
        f"| degraded | as it is | bicubic | ridge regression | one sample | mean of {args.samples} | seconds a sample |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind in args.kinds:
        (A, sigma_y), rng = KINDS[kind], np.random.default_rng(0)
        y = noised(A, sigma_y, x0, rng)
        line, strength = ridge(noised(A, sigma_y, portraits.train, rng), portraits.train)
        began = time.perf_counter()
        drawn = np.concatenate(
            [
                restored(
                    y[i : i + 20],
                    A,
                    sigma_y,
                    cov,
                    args.through,
                    args.samples,
                    rng,
                    model,
                    s,
                    about["train"]["predict"],
                )
                for i in range(0, len(y), 20)
            ],
            axis=1,
        )
        seconds = (time.perf_counter() - began) / drawn.shape[0] / drawn.shape[1]
        small = y.shape[1] < 16
        bicubic = f"{rmse(resized(y, Image.Resampling.BICUBIC), x0):.3f}" if small else ""
        errors = [
            rmse(a, x0)
            for a in (resized(y, Image.Resampling.NEAREST), line(y), drawn[0], drawn.mean(0))
        ]
        as_it_is, by_ridge, single, mean = (f"{e:.4f}" for e in errors)
        row = (
            kind,
            as_it_is,
            bicubic,
            f"{by_ridge} (strength {strength:g})",
            single,
            mean,
            f"{seconds:.2f}",
        )
        print("| " + " | ".join(row) + " |", flush=True)
        kept |= {
            f"{kind}, {what}": a
            for what, a in (("degraded", y), ("ridge", line(y)), ("restored", drawn))
        }
        if args.save:
            np.savez(args.save, original=x0, **kept)


if __name__ == "__main__":
    main()
