"""Time one convolution, from Python loops to a microkernel, against the machine's limits.

    python tests/bench/ladder.py [--rounds 5] [--seconds 0.3] [--out out/ladder.png] [--json]

The convolution: 64 images of 16 x 16 pixels, 32 -> 32 channels, window 3 x 3: 302 million
multiply-adds. The loops and the microkernel get images that are padded already, 18 x 18; the others
pad them.
Every rung computes the same values (compared with kernels.reference before it is timed) on two
threads, except the loops in Python and the first loops in Numba, which use one. Speeds are in GF/s
(10^9 FLOP per second, a multiply-add being two), from the fastest call. The picture is a roofline:
speed against arithmetic intensity (FLOP per byte of x, w and y, each moved once), under a flat
roof, the speed of a matrix product here, and a slope, the speed of copying memory (bytes read and
bytes written both count).
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
TINY = 4  # the loops in Python get one image of TINY x TINY pixels


def left_out(why):
    print(f"a rung is left out: {why}", file=sys.stderr)
    return []


def pytorch(x, w):
    """Prepare PyTorch's convolution -> list of functions, one for each memory layout"""
    try:
        import torch
    except ImportError:
        return left_out("PyTorch is not installed (pip install torch)")
    x, w = torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(w).permute(3, 2, 0, 1)

    def in_layout(layout):
        a, b = (array.contiguous(memory_format=layout) for array in (x, w))
        convolve = torch.nn.functional.conv2d
        return lambda: convolve(a, b, padding=K // 2).permute(0, 2, 3, 1).numpy()

    return [in_layout(layout) for layout in (torch.contiguous_format, torch.channels_last)]


def rungs(x, w):
    """List the rungs -> list of (name, functions, share of the work that they do)

    Of a rung's functions the fastest counts.
    """
    y, xp = np.empty((N, H, W, O), x.dtype), reference.pad(x, K // 2, "zeros")
    piece = np.ascontiguousarray(xp[:1, : TINY + K - 1, : TINY + K - 1])
    loops, blocks = cpu_ladder.conv_loops, cpu_ladder.conv_blocked.py_func
    compiled, spread = njit(loops), njit(loops, parallel=True, fastmath=True)
    blocked = njit(blocks, parallel=True, fastmath={"contract"}, error_model="numpy")
    small = np.empty((1, TINY, TINY, O), x.dtype)
    return [
        ("Python loops (from a piece)", [lambda: loops(piece, w, small)], small.size / y.size),
        ("NumPy, nine matmuls", [lambda: reference.conv2d(x, w, "zeros")], 1),
        ("Numba, the loops", [lambda: compiled(xp, w, y)], 1),
        ("Numba, parallel, fastmath", [lambda: spread(xp, w, y)], 1),
        ("Numba, blocked", [lambda: blocked(xp, w, y)], 1),
        ("microkernel (cpu_direct)", [lambda: cpu_direct.conv2d(xp, w)], 1),
        ("Winograd (cpu_winograd)", [lambda: cpu_winograd.conv2d(x, w, "zeros")], 1),
        ("PyTorch", pytorch(x, w), 1),
    ]


@njit(parallel=True)
def copy(a, b):
    for i in prange(a.size):
        b[i] = a[i]


def measure(rounds, seconds):
    """Race all rungs -> dicts (rung, seconds, gflops, step), peak FLOP/s, bytes/s of a copy"""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, H, W, C), dtype=np.float32)
    w = rng.standard_normal((K, K, C, O), dtype=np.float32) / np.float32(np.sqrt(K * K * C))
    ways, truth = [rung for rung in rungs(x, w) if rung[1]], reference.conv2d(x, w, "zeros")
    (product, product_flop), (a, b) = timing.sgemm(), np.ones((2, 1 << 25), np.float32)
    contestants = [("copy", lambda: copy(a, b))]
    for name, functions, _ in ways:
        for f in functions:
            y = f()
            same = truth[tuple(slice(side) for side in y.shape)]
            np.testing.assert_allclose(y, same, rtol=1e-4, atol=1e-4, err_msg=name)
            contestants += [("sgemm", product), (name, f)]
    times, rows = timing.race(contestants, rounds, seconds), []
    for name, _, share in ways:
        t = times[name] / share
        step = rows[-1]["seconds"] / t if rows else None
        rows.append({"rung": name, "seconds": t, "gflops": FLOP / t / 1e9, "step": step})
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
    below = np.inf  # labels keep a distance, or those of close rungs would be unreadable
    for color, row in enumerate(sorted(rows, key=lambda row: -row["gflops"])):
        below = min(row["gflops"] * 1.3, below / 1.9)
        axes.plot(intensity, row["gflops"], "o", color=f"C{color}")
        text, place = f"{row['rung']}: {row['gflops']:.3g}", (1.6 * intensity, below)
        arrow = {"arrowstyle": "-", "color": f"C{color}", "linewidth": 0.7}
        style = {"color": f"C{color}", "va": "center", "arrowprops": arrow}
        axes.annotate(text, (intensity, row["gflops"]), place, **style)
    axes.set(xlabel="arithmetic intensity, FLOP per byte", ylabel="speed, GF/s")
    axes.set_title(f"{N}x{H}x{W}, {C} -> {O} channels, {K}x{K}")
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="number of turns of every rung (default: 5)")
    says = "length of a turn, in seconds (default: 0.3)"
    add("--seconds", type=float, default=0.3, help=says)
    says = "the roofline picture (default: out/ladder.png)"
    add("--out", type=Path, default=Path("out/ladder.png"), help=says)
    add("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    rows, peak, bandwidth = measure(args.rounds, args.seconds)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    roofline(rows, peak, bandwidth).savefig(args.out)
    if args.json:
        limits = {"sgemm_gflops": peak / 1e9, "copy_gb_per_s": bandwidth / 1e9}
        return print(json.dumps({"threads": timing.THREADS, **limits, "rows": rows}))
    limits = f"matrix product {peak / 1e9:.0f} GF/s, copy {bandwidth / 1e9:.1f} GB/s"
    print(f"{timing.THREADS} threads; {limits}")
    print(f"{'rung':30s}{'time, ms':>11s}{'GF/s':>9s}{'of peak':>9s}{'x above':>9s}")
    for r in rows:
        step = f"{r['step']:9.2f}" if r["step"] else ""
        speed = f"{r['gflops']:9.3g}{r['gflops'] * 1e9 / peak:9.2%}"
        print(f"{r['rung']:30s}{1000 * r['seconds']:11.2f}{speed}{step}")
    print(f"picture: {args.out}")


if __name__ == "__main__":
    timing.fix_threads()
    main()
