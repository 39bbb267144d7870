"""Run everything that needs a GPU: tests, speed of the kernels, a training; write a report.

    python tests/bench/gpu.py [--out out/gpu] [--only tests conv step train] [--seconds 1] [--dry]

    tests   python -m pytest -m cuda
    conv    each convolution of the default U-Net, and some that fill the chip, against PyTorch's
            (cuDNN, float32, TF32 off)
    step    a training step and a sampling step at 16x16x3, batch 64 to 512, against the same
            network in PyTorch, eager
    train   two minutes of training on portraits, and what the model then draws

The report, a table and pictures, goes to the folder --out. Our functions and PyTorch's take turns;
a turn is as many calls as fill its time, between two waits for the GPU; each result is the median
of the turns. The ceilings that speeds are compared with are measured in the same run: a large
matrix product, PyTorch's and ours, and a copy within GPU memory. Without PyTorch the comparisons
are left out. --dry does everything in numba's simulator, with tiny shapes, calling each function
once: it shows that this script works, and says nothing about speed.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import time
import traceback
from pathlib import Path

if "--dry" in sys.argv:
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"  # before numba is imported

import conv
import numpy as np
import unet_vs_torch

from tinydiff import checkpoint, data, kernels, plot
from tinydiff.app import cmd_train
from tinydiff.design.pipeline import Pipeline
from tinydiff.kernels import cuda_array, cuda_simulator

cuda_simulator.take_turns()
ROOT = Path(__file__).resolve().parents[2]
FILLING = [  # convolutions that fill the chip: N, H, W, C, O, K
    (64, 64, 64, 128, 128, 3),
    (256, 32, 32, 256, 256, 3),
    (512, 16, 16, 64, 64, 3),
    (64, 64, 64, 256, 256, 1),
]
BATCHES, ROUNDS, TRAINING = (64, 128, 256, 512), 7, 120.0
GOALS = {"train": 1.0, "sample": 0.7, "conv": 0.5}


def timed(contestants, seconds):
    """Time functions in turn: {key: function} -> {key: median seconds per call}

    seconds: measuring time for each; 0 = one call
    """
    calls, times = {}, {key: [] for key in contestants}
    for key, f in contestants.items():
        if seconds:
            turn(f, 2)  # compiles, fills caches
            calls[key] = max(1, math.ceil(seconds / ROUNDS / turn(f, 3)))
    for _ in range(ROUNDS if seconds else 1):
        for key, f in contestants.items():
            times[key].append(turn(f, calls.get(key, 1)))
    return {key: statistics.median(t) for key, t in times.items()}


def turn(f, calls):
    """Call f several times and wait for the GPU -> seconds per call"""
    cuda_array.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(calls):
        f()
    cuda_array.cuda.synchronize()  # waits for the whole GPU, so for PyTorch's work too
    return (time.perf_counter() - began) / calls


def ceilings(torch, place, dry, seconds):
    """Measure what the GPU can do -> FLOP/s of a matrix product, bytes/s of a copy: {key: number}

    By our kernels and by PyTorch, without which its keys are absent.
    """
    side, n = (4, 64) if dry else (4096, 2**26)
    a, x = kernels.array(np.ones((side, side), np.float32)), kernels.array(np.ones(n, np.float32))
    contestants = {"matmul": lambda: kernels.matmul(a, a), "copy": lambda: x.copy()}
    if torch:
        b = torch.ones(side, side, device=place)
        y, z = torch.ones(n, device=place), torch.ones(n, device=place)
        contestants |= {"torch matmul": lambda: b @ b, "torch copy": lambda: z.copy_(y)}
    t = timed(contestants, seconds)
    work = {"matmul": 2 * side**3, "copy": 8 * n}
    return {key: work[key.split()[-1]] / t[key] for key in t}


def table(head, rows):
    """Lay out a Markdown table: list of names, list of lists of strings -> text"""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def cell(number, form=".2f"):
    """Format a number, or nothing for None -> str"""
    return "" if number is None else format(number, form)


def section_tests(out, torch, place, args):
    """Run the suite's GPU tests in a process of their own -> text; raises if one fails"""
    command = [sys.executable, *"-m pytest -m cuda -q -rfE tests/test_cuda.py".split()]
    command += ["-k", "published_bits"] if args.dry else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    (out / "tests.log").write_text(done.stdout + done.stderr)
    last = (done.stdout.strip().splitlines() or ["pytest printed nothing"])[-1]
    if done.returncode:
        raise RuntimeError(f"{last}; see {out / 'tests.log'}")
    return f"`python -m pytest -m cuda`: {last}"


def section_conv(out, torch, place, args):
    """Time forward, grad_x and grad_w of every layer -> text"""
    ceiling = ceilings(torch, place, args.dry, args.seconds)
    best, copy = (max(v for k, v in ceiling.items() if what in k) for what in ("matmul", "copy"))
    layers = {(1, 2, 3, 1, 2, 3): 1} if args.dry else dict(conv.layers_of("16x16x3"))
    filling = [(2, 2, 2, 1, 1, 1)] if args.dry else FILLING
    rows = []
    for layer, count in [*layers.items(), *((layer, None) for layer in filling)]:
        rows += conv_rows(layer, count, torch, place, args.seconds, best, copy)
    unit = {key: "GB/s" if "copy" in key else "GFLOP/s" for key in ceiling}
    said = ", ".join(f"{key} {value / 1e9:.0f} {unit[key]}" for key, value in ceiling.items())
    head = ["layer", "times", "pass", "ours, ms", "PyTorch, ms", "our speed / cuDNN's"]
    head += ["GFLOP/s", "of the product", "GB/s", "of the copy"]
    goal = f"Goal: at least {GOALS['conv']} of cuDNN's speed on the shapes that fill the chip"
    return f"Ceilings: {said}. {goal}, which have no entry in `times`.\n\n{table(head, rows)}"


def conv_rows(layer, count, torch, place, seconds, best, copy):
    """Time the three passes of a layer, ours and PyTorch's -> rows of the table

    count: how often the network has it, or None; best: FLOP/s of the fastest matrix product;
    copy: bytes/s of the fastest copy. PyTorch's time is that of the faster of two memory layouts.
    """
    N, H, W, C, O, K = layer
    passes = {("ours", 0, name): f for name, f in conv.ours(layer)}
    for last in (False, True) if torch else ():
        passes |= {("torch", last, name): f for name, f in conv.pytorch(layer, last, place)}
    t = timed(passes, seconds)
    flop, size = 2 * N * H * W * C * O * K * K, 4 * (N * H * W * (C + O) + K * K * C * O)
    for name in conv.PASSES:
        ours = t["ours", 0, name]
        theirs = min(t["torch", last, name] for last in (False, True)) if torch else None
        speed = [
            cell(flop / ours / 1e9, ".0f"),
            cell(flop / ours / best, ".0%"),
            cell(size / ours / 1e9, ".0f"),
            cell(size / ours / copy, ".0%"),
        ]
        both = [cell(1e3 * ours, ".3f"), cell(theirs and 1e3 * theirs, ".3f")]
        both.append(cell(theirs and theirs / ours))
        yield [f"{N}x{H}x{W} {C}->{O} {K}x{K}", str(count or ""), name, *both, *speed]


def section_step(out, torch, place, args):
    """Time the whole network, training and sampling, at several batch sizes -> text"""
    rows = []
    for batch in (1,) if args.dry else BATCHES:
        case = (2, 1, 8, (1,), batch) if args.dry else (16, 3, 32, (1, 2, 2), batch)
        names = [("ours", 0, "train"), ("ours", 0, "sample")]
        steps = dict(zip(names, unet_vs_torch.ours(case), strict=True))
        for last in (False, True) if torch else ():
            names = [("torch", last, "train"), ("torch", last, "sample")]
            steps |= dict(zip(names, unet_vs_torch.pytorch(case, last, place), strict=True))
        t = timed(steps, args.seconds)
        for name in ("train", "sample"):
            ours = t["ours", 0, name]
            theirs = min(t["torch", last, name] for last in (False, True)) if torch else None
            both = [cell(1e3 * ours), cell(theirs and 1e3 * theirs)]
            ratio = [cell(theirs and ours / theirs), f"<= {GOALS[name]}"]
            rows.append([f"{case[0]}x{case[0]}x{case[1]}, batch {batch}", name, *both, *ratio])
    head = ["images", "step", "ours, ms", "PyTorch eager, ms", "ours / PyTorch's", "goal"]
    return table(head, rows)


def section_train(out, torch, place, args):
    """Train on portraits for two minutes and draw -> text; a checkpoint and pictures go to `out`"""
    dataset = data.load("portraits")
    if args.dry:
        images = [a[:2, :2, :2] for a in (dataset.train, dataset.test)]
        labels = [np.zeros((2, 1), int) for _ in range(2)]
        dataset = data.Dataset("portraits", *images, *labels, {"hat": ["none"]})
    tiny = {"width": 8, "depth": 1, "batch": 1} if args.dry else {}
    meta = cmd_train.describe(dataset, seed=0, **tiny)
    meta["model"] |= {"multipliers": [1]} if args.dry else {}
    run, s = checkpoint.build(meta, seed=0)
    limit = {"steps": 1} if args.dry else {"seconds": TRAINING}
    losses = cmd_train.learn(run, s, dataset, meta, out / "portraits.npz", **limit)
    plot.save_figure(plot.losses(losses), out / "loss.png")
    labels = dataset.test_labels[: 1 if args.dry else 64]
    pipe, rng = Pipeline.of(checkpoint.averaged(run, meta), s, meta), np.random.default_rng(0)
    x = pipe.draw(labels, rng, steps=1 if args.dry else 50)[-1]
    plot.save_png(plot.sheet(x, 16, scale=4), out / "portraits.png")
    did = f"{run.step} steps of {meta['train']['batch']} images, loss {np.mean(losses[-100:]):.4f}"
    return f"portraits: {did}. ![loss](loss.png) ![drawn](portraits.png)"


SECTIONS = {
    "tests": section_tests,
    "conv": section_conv,
    "step": section_step,
    "train": section_train,
}


def heading(torch):
    """Name the GPU and the software -> text"""
    from tinydiff.app.cmd_doctor import _cuda

    without = "PyTorch is not installed: nothing to compare with (pip install torch)"
    lines = [*_cuda(), f"PyTorch {torch.__version__}" if torch else without]
    return "\n".join(["# tinydiff on a GPU\n", *(f"- {' '.join(a.split())}" for a in lines)])


def the_torch(dry):
    """Import PyTorch where it can be compared with -> module, "cuda" or "cpu"; None, None if not

    It needs a GPU too, except with --dry.
    """
    try:
        import torch
    except ImportError:
        return None, None
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    return (torch, "cpu" if dry else "cuda") if dry or torch.cuda.is_available() else (None, None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add, every = parser.add_argument, list(SECTIONS)
    says = "folder for the table and the pictures (default: out/gpu)"
    add("--out", type=Path, default=Path("out/gpu"), help=says)
    add("--only", nargs="+", choices=every, default=every, help="these parts (default: all)")
    says = "measuring time of each function, in seconds (default: 1)"
    add("--seconds", type=float, default=1.0, help=says)
    says = "try this script in numba's simulator, with tiny shapes"
    add("--dry", action="store_true", help=says)
    args = parser.parse_args()
    args.seconds = 0 if args.dry else args.seconds
    try:
        kernels.use("cuda")
    except RuntimeError as e:
        sys.exit(f"gpu.py: {e}; or use --dry to try this script")
    args.out.mkdir(parents=True, exist_ok=True)
    torch, place = the_torch(args.dry)
    parts, failed = [heading(torch)], False
    for name in args.only:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            said = SECTIONS[name](args.out, torch, place, args)
        except Exception as e:  # the other parts are worth having all the same
            traceback.print_exc()
            said, failed = f"FAILED: {type(e).__name__}: {e}", True
        parts.append(f"## {name}\n\n{said}")
        (args.out / "gpu.md").write_text("\n\n".join(parts) + "\n")
        print(f"{parts[-1]}\n", flush=True)
    print(args.out / "gpu.md")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
