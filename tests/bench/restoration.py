"""Restore held-out portraits: the network without labels against three ways that need none.

    python tests/bench/restoration.py            # 100 portraits, 8 samples each: some 120,000
                                                 # network evaluations
    python tests/bench/restoration.py --through  # the derivative through the network: 3 times as
                                                 # long

The three are doing nothing, bicubic enlargement and ridge regression. Prints a Markdown table of
root mean squared errors, in units where black is 0 and white is 1, each the mean over portraits.
Ridge regression learns from the training portraits, degraded in the same way; its strength is the
best of STRENGTHS on 600 of them, left out. A single sample of a posterior has twice the squared
error of the posterior's mean: the mean of the samples is what may be compared.
"""

import argparse
import time

import numpy as np
from PIL import Image

from tinydiff import data, guide, sample
from tinydiff.design import restore
from tinydiff.design.pipeline import Pipeline
from tinydiff.measure import baselines
from tinydiff.train import with_vjp

KINDS = {  # how a portrait in [-1, 1] is degraded, and the standard deviation of the noise on top
    "noise 0.1": (restore.shrink(16, 3, 1), 0.1),
    "noise 0.3": (restore.shrink(16, 3, 1), 0.3),
    "blur of 1 pixel, noise 0.05": (restore.blur(16, 3, 1.0), 0.05),
    "half the size": (restore.shrink(16, 3, 2), 0.02),
    "a quarter of the size": (restore.shrink(16, 3, 4), 0.02),
    "without colour": (restore.grey(16, 3), 0.02),
}
STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3)
STEPS = 25
BATCH = 20  # portraits, each with all of its samples


def rmse(guess, x0):
    """Measure the root mean squared error of each image, and average it over the images.

    guess, x0: (N, H, W, C) -> number, in units of the whole range from black to white
    """
    error = np.clip(guess, -1, 1) - x0
    return np.sqrt((error**2).mean((1, 2, 3))).mean() / 2


def noised(A, sigma_y, x0, rng):
    """Degrade portraits and add the noise."""
    y = restore.degrade(A, x0)
    return y + np.float32(sigma_y) * rng.standard_normal(y.shape, dtype=np.float32)


def resized(y, how):
    """Bring small pictures back to 16 x 16 with Pillow, and grey ones to three channels."""
    channels = np.moveaxis(np.repeat(y, 3 // y.shape[-1], axis=-1), -1, 1)  # (N, C, h, w)
    one = lambda channel: Image.fromarray(channel).resize((16, 16), how)
    return np.stack([[one(c) for c in image] for image in channels]).transpose(0, 2, 3, 1)


def ridge(y, x0):
    """Fit ridge regression from y to x0, with the strength that is best on the last 600."""
    fitted = [baselines.ridge(y[:-600], x0[:-600], strength) for strength in STRENGTHS]
    best = min(range(len(STRENGTHS)), key=lambda i: rmse(fitted[i](y[-600:]), x0[-600:]))
    return baselines.ridge(y, x0, STRENGTHS[best]), STRENGTHS[best]


def restored(pipe, y, A, sigma_y, cov, through, samples, rng):
    """Draw samples of each picture -> (samples, N, 16, 16, 3)"""
    y, s, plain = np.concatenate([y] * samples), pipe.s, pipe.eps_model(None)
    if through:
        cov = np.trace(cov) / len(cov)
    with_derivative = with_vjp(plain) if through else guide.assume_gaussian(plain, s, cov)
    guided = guide.by_x0_hat(with_derivative, s, restore.log_p_gradient(s, y, A, sigma_y, cov))
    shape, times = (len(y), 16, 16, 3), sample.even_times(s, STEPS)
    *_, x0 = sample.ddim(guided, s, shape, rng, times, eta=1.0, clip=1.0)
    return x0.reshape(samples, -1, 16, 16, 3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--n", type=int, default=100, help="portraits (default: 100)")
    add("--samples", type=int, default=8, help="samples of each (default: 8)")
    some = "some of the degradations only"
    add("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=some)
    add("--through", action="store_true", help="take the derivative through the network")
    add("--train", action="store_true", help="restore training portraits, to try settings out on")
    add("--save", help="an .npz file for degraded, original and restored pictures")
    args = parser.parse_args()
    pipe, portraits, kept = Pipeline.load("portraits"), data.load("portraits"), {}
    cov = restore.covariance(portraits.train)
    x0 = (portraits.train if args.train else portraits.test)[: args.n]
    drawn_by = f"one sample | mean of {args.samples} | seconds per sample"
    print(f"| degraded | as it is | bicubic | ridge regression | {drawn_by} |")
    print("| --- " * 7 + "|")
    for kind in args.kinds:
        (A, sigma_y), rng = KINDS[kind], np.random.default_rng(0)
        y = noised(A, sigma_y, x0, rng)
        line, strength = ridge(noised(A, sigma_y, portraits.train, rng), portraits.train)
        began, parts, how = time.perf_counter(), [], (args.through, args.samples, rng)
        for i in range(0, len(y), BATCH):
            parts.append(restored(pipe, y[i : i + BATCH], A, sigma_y, cov, *how))
        drawn = np.concatenate(parts, axis=1)
        seconds = (time.perf_counter() - began) / drawn.shape[0] / drawn.shape[1]
        small = y.shape[1] < 16
        bicubic = f"{rmse(resized(y, Image.Resampling.BICUBIC), x0):.3f}" if small else ""
        guesses = (resized(y, Image.Resampling.NEAREST), line(y), drawn[0], drawn.mean(0))
        as_it_is, by_ridge, single, mean = (f"{rmse(guess, x0):.4f}" for guess in guesses)
        by_ridge += f" (strength {strength:g})"
        row = (kind, as_it_is, bicubic, by_ridge, single, mean, f"{seconds:.2f}")
        print("| " + " | ".join(row) + " |", flush=True)
        found = {"degraded": y, "ridge": line(y), "restored": drawn}
        kept |= {f"{kind}, {what}": pictures for what, pictures in found.items()}
        if args.save:
            np.savez(args.save, original=x0, **kept)


if __name__ == "__main__":
    main()
