"""Time each convolution of the default U-Net against a matrix product and against PyTorch's.

    python tests/bench/conv.py [--case 16x16x3] [--rounds 5] [--seconds 0.1] [--json]

The layers are those that one forward pass calls. The three passes of a layer, as in ops.conv2d:
    forward   convolve the image
    grad_x    convolve the gradient of the output with the rotated window
    grad_w    correlate the image with the gradient of the output
Speeds are in GF/s (10^9 FLOP per second, a multiply-add being two), from the fastest call.
peak: our speed as a share of that of a 1024 x 1024 float32 matrix product, timed in the same run,
in turn with the rest, on two threads. ratio: our time / PyTorch's, below 1 ours is faster;
PyTorch's is that of the faster of two memory layouts. `all`: every layer as often as the network
has it.
"""

import argparse
import json
from collections import Counter

import numpy as np
import timing

from tinydiff import kernels
from tinydiff.unet import UNet

# size, channels, batch; width 32, multipliers (1, 2, 2)
CASES = {"16x16x3": (16, 3, 64), "8x8x1": (8, 1, 128)}
PASSES = "forward", "grad_x", "grad_w"


def layers_of(case):
    """Run the network forward once and record its convolutions -> Counter of (N, H, W, C, O, K)"""
    size, channels, batch = CASES[case]
    rng = np.random.default_rng(0)
    model = UNet(size, channels, rng=rng)
    with timing.recorded() as calls:
        model(rng.standard_normal((batch, size, size, channels), dtype=np.float32), np.ones(batch))
    return Counter((*x, w[3], w[0]) for name, x, w, _ in calls if name == "conv2d")


def numbers(layer):
    """Make random arrays for a layer: its input, its weights and the gradient of its output

    -> list of (N, H, W, C), (K, K, C, O), (N, H, W, O)
    """
    N, H, W, C, O, K = layer
    rng = np.random.default_rng(0)
    shapes = (N, H, W, C), (K, K, C, O), (N, H, W, O)
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def ours(layer):
    """Prepare our three passes of a layer -> list of (pass, function)"""
    x, w, g = (kernels.array(a) for a in numbers(layer))
    turned = w[::-1, ::-1].swapaxes(2, 3)
    return [
        ("forward", lambda: kernels.conv2d(x, w, "zeros")),
        ("grad_x", lambda: kernels.conv2d(g, turned, "zeros")),
        ("grad_w", lambda: kernels.conv2d_grad_w(x, g, layer[-1], "zeros")),
    ]


def pytorch(layer, channels_last, device="cpu"):
    """Prepare PyTorch's three passes of a layer -> list of (pass, function)"""
    import torch

    x, w, g = (torch.from_numpy(a).to(device) for a in numbers(layer))
    x, w, g = x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1), g.permute(0, 3, 1, 2)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x, w, g = (a.contiguous(memory_format=layout) for a in (x, w, g))
    p = layer[-1] // 2

    def backward(*which):  # gradients of x, w, bias: made or not
        return torch.ops.aten.convolution_backward(
            g, x, w, None, (1, 1), (p, p), (1, 1), False, (0, 0), 1, which
        )

    return [
        ("forward", lambda: torch.nn.functional.conv2d(x, w, padding=p)),
        ("grad_x", lambda: backward(True, False, False)),
        ("grad_w", lambda: backward(False, True, False)),
    ]


def measure(layers, torch, rounds, seconds):
    """Race all passes of all layers -> peak FLOP/s, list of dicts"""
    product, product_flop = timing.sgemm()
    contestants = []
    for layer in layers:
        contestants.append(("sgemm", product))
        contestants += [((layer, which, "ours"), f) for which, f in ours(layer)]
        for channels_last in (False, True) if torch else ():
            passes = pytorch(layer, channels_last)
            contestants += [((layer, which, "torch"), f) for which, f in passes]
    times = timing.race(contestants, rounds, seconds)
    peak = product_flop / times["sgemm"]
    rows = []
    for which in PASSES:
        of_pass = []
        for layer, count in layers.items():
            N, H, W, C, O, K = layer
            name, flop = f"{N}x{H}x{W} {C}->{O} {K}x{K}", 2 * N * H * W * C * O * K * K
            both = [times.get((layer, which, who)) for who in ("ours", "torch")]
            of_pass.append((name, count, flop, *both))
        _, counts, *columns = zip(*of_pass, strict=True)
        whole = [None if None in column else np.dot(counts, column) for column in columns]
        of_pass.append(("all", sum(counts), *whole))
        for name, count, flop, a, b in of_pass:
            row = {"pass": which, "layer": name, "count": count}
            row |= {"gflops": flop / a / 1e9, "peak": flop / a / peak}
            rows.append(row | ({"torch_gflops": flop / b / 1e9, "ratio": a / b} if b else {}))
    return peak, rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    says = "images (default: 16x16x3, batch 64; 8x8x1: batch 128)"
    add("--case", choices=list(CASES), default="16x16x3", help=says)
    add("--rounds", type=int, default=5, help="number of turns of every pass (default: 5)")
    says = "length of a turn, in seconds (default: 0.1)"
    add("--seconds", type=float, default=0.1, help=says)
    add("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    try:
        import torch
    except ImportError:
        torch = None
    peak, rows = measure(layers_of(args.case), torch, args.rounds, args.seconds)
    version = torch and torch.__version__
    if args.json:
        setting = {"case": args.case, "threads": timing.THREADS, "torch": version}
        return print(json.dumps(setting | {"sgemm_gflops": peak / 1e9, "rows": rows}))
    limits = f"peak (sgemm): {peak / 1e9:.0f} GF/s; kernels: {kernels.active().__name__}"
    print(f"{args.case}, {timing.THREADS} threads; {limits}")
    without = "PyTorch is not installed: no comparison (pip install torch)"
    print(f"PyTorch {version}" if torch else without)
    theirs = f"{'PyTorch':>9s}{'ratio':>7s}" if torch else ""
    print(f"{'pass':8s} {'layer':24s}{'count':>6s}{'GF/s':>8s}{'peak':>7s}{theirs}")
    for r in rows:
        line = f"{r['pass']:8s} {r['layer']:24s}{r['count']:6d}{r['gflops']:8.1f}{r['peak']:7.0%}"
        print(line + (f"{r['torch_gflops']:9.1f}{r['ratio']:7.2f}" if torch else ""))


if __name__ == "__main__":
    timing.fix_threads()
    main()
