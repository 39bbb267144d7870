"""Measure how a training step's time and memory grow with batch, width and image side.

    python tests/bench/scaling.py [--only width] [--rounds 3] [--seconds 2]
                                  [--out out/scaling.png] [--json]

One of the three varies, the others stay at batch 64, width 32, side 16 (RGB, multipliers 1, 2, 2).
Each measurement is a fresh process on two threads. Time is the median over its steps, then the
minimum of the rounds, in ms per image. Memory is the process's peak resident set in MB minus that
of a process that only imports; compiled kernels, which are loaded later, do count. An exponent is
the slope of a straight line through the points in log-log axes, or, as `last`, through the last
two: time ~ side^2 has 2. Next to it are the exponent of the multiply-adds, counted from the kernel
calls of a step, and what counting on paper predicts.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
from pathlib import Path

# Import nothing large: on Linux a process's peak memory starts from that of its parent.
import timing

USUAL = {"batch": 64, "width": 32, "side": 16}
AXES = {"batch": (8, 16, 32, 64, 128), "width": (16, 32, 48, 64, 80, 96), "side": (8, 16, 32)}
PREDICTED = {  # exponents: time per image of a wide net; memory, most of it images' features
    "time": {"batch": 0, "width": 2, "side": 2},
    "memory": {"batch": 1, "width": 1, "side": 2},
}


def one(point, seconds):
    """Measure one point in this process and print it as JSON.

    point: dict of batch, width, side, or {} to import only; seconds: measuring time
    -> prints {"seconds", "flop"}, per image, unless imports only, and "mb"
    """
    import numpy as np

    from tinydiff import kernels, schedule
    from tinydiff.train import Training, train
    from tinydiff.unet import UNet

    kernels.active()
    found = {}
    if point:
        batch, side = point["batch"], point["side"]
        rng = np.random.default_rng(0)
        images = rng.standard_normal((2 * batch, side, side, 3), dtype=np.float32)
        run = Training(UNet(side, 3, point["width"], rng=rng), rng)
        steps = train(run, schedule.cosine(250), images, batch=batch)
        with timing.recorded() as calls:
            next(steps)
        found = {
            "flop": timing.flop(calls) / batch,
            "seconds": timing.median_time(lambda: next(steps), seconds) / batch,
        }
    print(json.dumps(found | {"mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def fresh(point, seconds):
    """Measure one point in a fresh process -> dict, see `one`"""
    command = [sys.executable, __file__, "--one", json.dumps(point), "--seconds", str(seconds)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def measure(axes, rounds, seconds):
    """Measure every point of some axes, keeping the minimum of the rounds

    -> {axis: list of dicts (batch, width, side, "seconds" and "flop" per image, "mb")},
    MB of imports
    """
    points = {axis: [USUAL | {axis: value} for value in AXES[axis]] for axis in axes}
    each = {json.dumps(point): point for axis in axes for point in points[axis]}
    fresh(USUAL, 0)  # fills Numba's cache
    imports, rows = fresh({}, 0)["mb"], {}
    for _ in range(rounds):
        for key, point in each.items():
            row = fresh(point, seconds)
            row["mb"] -= imports
            rows[key] = point | {what: min(row[what], rows.get(key, row)[what]) for what in row}
    found = {axis: [rows[json.dumps(point)] for point in points[axis]] for axis in axes}
    return found, imports


def slope(points):
    """Fit a straight line by least squares. points: list of (x, y) -> its slope in log-log axes"""
    xs, ys = ([math.log(number) for number in numbers] for numbers in zip(*points, strict=True))
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    covariance = sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True))
    return covariance / sum((a - x) ** 2 for a in xs)


def exponents(axis, rows):
    """Fit an axis's exponents -> {"seconds", "flop", "mb": (of all points, of the last two)}"""
    fits = {}
    for what in ("seconds", "flop", "mb"):
        points = [(row[axis], row[what]) for row in rows]
        fits[what] = slope(points), slope(points[-2:])
    return fits


def draw(found):
    """Plot time and memory against each axis -> matplotlib Figure

    A dashed line through the last point has the predicted slope.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    figure = Figure(figsize=(4 * len(found), 6), dpi=120, layout="constrained")
    panels = figure.subplots(2, len(found), sharex="col", sharey="row", squeeze=False)
    for column, (axis, rows) in enumerate(found.items()):
        x = [row[axis] for row in rows]
        quantities = [("time", "seconds", 1000), ("memory", "mb", 1)]
        for axes, (name, what, scale) in zip(panels[:, column], quantities, strict=True):
            y, power = [scale * row[what] for row in rows], PREDICTED[name][axis]
            axes.loglog(x, y, "o-", label="measured")
            predicted = [y[-1] * (a / x[-1]) ** power for a in x]
            axes.loglog(x, predicted, "--", color="0.5", label=f"predicted: {axis}^{power}")
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xticks(x, minor=False)
            axes.legend()
        panels[1, column].set_xlabel(axis)
    panels[0, 0].set_ylabel("training step, ms per image")
    panels[1, 0].set_ylabel("peak memory without imports, MB")
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--only", choices=list(AXES), help="one axis instead of all three")
    add("--rounds", type=int, default=3, help="processes per point (default: 3)")
    says = "measuring time of each process, in seconds (default: 2)"
    add("--seconds", type=float, default=2.0, help=says)
    says = "the picture (default: out/scaling.png)"
    add("--out", type=Path, default=Path("out/scaling.png"), help=says)
    add("--json", action="store_true", help="print JSON")
    add("--one", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        return one(args.one, args.seconds)
    found, imports = measure([args.only] if args.only else list(AXES), args.rounds, args.seconds)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draw(found).savefig(args.out)
    fits = {axis: exponents(axis, rows) for axis, rows in found.items()}
    if args.json:
        measured = {"threads": timing.THREADS, "imports_mb": imports}
        return print(json.dumps(measured | {"points": found, "exponents": fits}))
    print(f"{timing.THREADS} threads; imports take {imports:.0f} MB, not counted below")
    head = "".join(f"{axis:>6s}" for axis in USUAL)
    print(f"{head}{'ms/image':>10s}{'MFLOP/image':>13s}{'GF/s':>7s}{'MB':>8s}")
    for row in (row for rows in found.values() for row in rows):
        speed = row["flop"] / row["seconds"] / 1e9
        where = "".join(f"{row[axis]:6d}" for axis in USUAL)
        per_image = f"{1000 * row['seconds']:10.3f}{row['flop'] / 1e6:13.1f}"
        print(f"{where}{per_image}{speed:7.1f}{row['mb']:8.0f}")
    columns = "".join(f"{what:>9s}{'last':>7s}" for what in ("time", "FLOP", "memory"))
    print(f"\n{'exponent in':12s}{columns}   on paper: time, memory")
    for axis, fit in fits.items():
        numbers = "".join(f"{a:9.2f}{b:7.2f}" for a, b in fit.values())
        print(f"{axis:12s}{numbers}{PREDICTED['time'][axis]:18d}{PREDICTED['memory'][axis]:8d}")
    print(f"picture: {args.out}")


if __name__ == "__main__":
    timing.fix_threads()
    main()
