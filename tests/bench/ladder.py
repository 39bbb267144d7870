"""Climb from Python loops to a microkernel with one convolution, and see where the machine's limits are.

    python tests/bench/ladder.py [--rounds 5] [--seconds 0.3] [--out out/ladder.png] [--json]

The convolution: 64 images of 16 x 16 pixels, 32 channels -> 32 channels, window 3 x 3: 302 million multiply-adds. The loops and
the microkernel get the images padded beforehand, 18 x 18; the others pad as they go.
Every rung computes the same numbers (compared with kernels.reference before it is timed) on two threads, but for the first two
kinds of loops, which have one. Speeds in GF/s (10^9 FLOP per second, a multiply-add being two), from the fastest call; the
picture is a roofline: speed against arithmetic intensity (FLOP per byte of x, w and y, each moved once), under a roof of what
a matrix product reaches here and a slope of how fast memory is copied (bytes read and bytes written both count).
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import timing
from numba import njit, prange

from tinydiff.kernels import cpu_direct, cpu_ladder, cpu_winograd, reference

N, H, W, C, O, K = 64, 16, 16, 32, 32, 3
FLOP, BYTES = cpu_ladder.conv_cost(N, H, W, C, O, K)
TINY = 4  # the interpreter gets one image of TINY x TINY pixels


def left_out(why):
    print(f"a rung is left out: {why}", file=sys.stderr)
    return []


def pytorch(x, w):
    """-> list of functions, one for each memory layout"""
    try:
        import torch
    except ImportError:
        return left_out("PyTorch is not installed (pip install torch)")
    x, w = torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(w).permute(3, 2, 0, 1)
    both = [
        [a.contiguous(memory_format=layout) for a in (x, w)]
        for layout in (torch.contiguous_format, torch.channels_last)
    ]
    return [
        lambda x=x, w=w: (
            torch.nn.functional.conv2d(x, w, padding=K // 2).permute(0, 2, 3, 1).numpy()
        )
        for x, w in both
    ]


def rungs(x, w):
    """List the ways up -> list of (name, functions of which the fastest counts, share of the work they do)"""
    y, xp = np.empty((N, H, W, O), x.dtype), reference.pad(x, K // 2, "zeros")
    piece = np.ascontiguousarray(xp[:1, : TINY + K - 1, : TINY + K - 1])
    compiled, spread = (
        njit(cpu_ladder.conv_loops),
        njit(cpu_ladder.conv_loops, parallel=True, fastmath=True),
    )
    blocked = njit(
        cpu_ladder.conv_blocked.py_func, parallel=True, fastmath={"contract"}, error_model="numpy"
    )
    small = np.empty((1, TINY, TINY, O), x.dtype)
    return [
        (
            "Python loops (from a piece)",
            [lambda: cpu_ladder.conv_loops(piece, w, small)],
            small.size / y.size,
        ),
        ("NumPy, nine matmuls", [lambda: reference.conv2d(x, w, "zeros")], 1),
        ("Numba, the loops", [lambda: compiled(xp, w, y)], 1),
        ("Numba, parallel, fastmath", [lambda: spread(xp, w, y)], 1),
        ("Numba, blocked", [lambda: blocked(xp, w, y)], 1),
        ("microkernel (kernels.direct)", [lambda: cpu_direct.conv2d(xp, w)], 1),
        ("Winograd (kernels.winograd)", [lambda: cpu_winograd.conv2d(x, w, "zeros")], 1),
        ("PyTorch", pytorch(x, w), 1),
    ]


@njit(parallel=True)
def copy(a, b):
    for i in prange(a.size):
        b[i] = a[i]


def measure(rounds, seconds):
    """-> list of dicts (rung, seconds, gflops, step), peak FLOP/s, bandwidth bytes/s"""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, H, W, C), dtype=np.float32)
    w = rng.standard_normal((K, K, C, O), dtype=np.float32) / np.float32(np.sqrt(K * K * C))
    ways, truth = [rung for rung in rungs(x, w) if rung[1]], reference.conv2d(x, w, "zeros")
    (product, product_flop), (a, b) = timing.sgemm(), np.ones((2, 1 << 25), np.float32)
    contestants = [("copy", lambda: copy(a, b))]
    for name, functions, _ in ways:
        for f in functions:
            y = f()
            np.testing.assert_allclose(
                y, truth[tuple(slice(side) for side in y.shape)], rtol=1e-4, atol=1e-4, err_msg=name
            )
            contestants += [("sgemm", product), (name, f)]
    times, rows = timing.race(contestants, rounds, seconds), []
    for name, _, share in ways:
        t = times[name] / share
        rows.append(
            {
                "rung": name,
                "seconds": t,
                "gflops": FLOP / t / 1e9,
                "step": rows[-1]["seconds"] / t if rows else None,
            }
        )
    return rows, product_flop / times["sgemm"], 2 * a.nbytes / times["copy"]


def roofline(rows, peak, bandwidth):
    """Draw every rung under the roof -> matplotlib Figure"""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes, intensity = figure.subplots(), FLOP / BYTES
    x = np.geomspace(0.25, 100 * intensity, 200)
    axes.loglog(x, np.minimum(peak, bandwidth * x) / 1e9, color="black")
    axes.text(0.3, peak / 1e9, f"matrix product: {peak / 1e9:.0f} GF/s", va="bottom")
    axes.text(0.5, 0.3 * bandwidth / 1e9, f"copy: {bandwidth / 1e9:.0f} GB/s", va="top")
    below = np.inf  # labels keep a distance, or near rungs would be unreadable
    for color, row in enumerate(sorted(rows, key=lambda row: -row["gflops"])):
        below = min(row["gflops"] * 1.3, below / 1.9)
        axes.plot(intensity, row["gflops"], "o", color=f"C{color}")
        text = f"{row['rung']}: {row['gflops']:.3g}"
        arrow = {"arrowstyle": "-", "color": f"C{color}", "linewidth": 0.7}
        axes.annotate(
            text,
            (intensity, row["gflops"]),
            (1.6 * intensity, below),
            color=f"C{color}",
            va="center",
            arrowprops=arrow,
        )
    axes.set(
        xlabel="arithmetic intensity, FLOP per byte",
        ylabel="speed, GF/s",
        title=f"{N}x{H}x{W}, {C} -> {O} channels, {K}x{K}",
    )
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=5, help="times that every rung has its turn (default: 5)"
    )
    parser.add_argument(
        "--seconds", type=float, default=0.3, help="length of a turn, in seconds (default: 0.3)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/ladder.png"),
        help="the roofline picture (default: out/ladder.png)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    rows, peak, bandwidth = measure(args.rounds, args.seconds)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    roofline(rows, peak, bandwidth).savefig(args.out)
    if args.json:
        return print(
            json.dumps(
                {
                    "threads": timing.THREADS,
                    "sgemm_gflops": peak / 1e9,
                    "copy_gb_per_s": bandwidth / 1e9,
                    "rows": rows,
                }
            )
        )
    print(
        f"{timing.THREADS} threads; matrix product {peak / 1e9:.0f} GF/s, copy {bandwidth / 1e9:.1f} GB/s"
    )
    print(f"{'rung':30s}{'time, ms':>11s}{'GF/s':>9s}{'of peak':>9s}{'x above':>9s}")
    for r in rows:
        step = f"{r['step']:9.2f}" if r["step"] else ""
        print(
            f"{r['rung']:30s}{1000 * r['seconds']:11.2f}{r['gflops']:9.3g}{r['gflops'] * 1e9 / peak:9.2%}{step}"
        )
    print(f"picture: {args.out}")


if __name__ == "__main__":
    timing.fix_threads()
    main()
