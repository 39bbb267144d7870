"""Time training and sampling steps of our U-Net against the same network in PyTorch, on the CPU.

    python tests/bench/unet_vs_torch.py [--rounds 5] [--only 16x16x3-w32-b64] [--json]

Each measurement is a fresh process, and they alternate (ours, PyTorch, ours, PyTorch, ...), since
the speed of a shared machine drifts. Reported is the median over rounds of ours / PyTorch's, with
the lowest and highest; below 1 ours is faster. PyTorch runs in eager mode with its own memory
layout, with channels last, or compiled by torch.compile (which needs a C++ compiler), whichever is
faster here for a training step, and for a sampling step. Both sides use two threads.
"""

import argparse
import importlib.metadata
import json
import os
import resource
import statistics
import subprocess
import sys

from timing import THREADS, median_time

CASES = {  # size, channels, width, multipliers, batch
    "16x16x3-w32-b64": (16, 3, 32, (1, 2, 2), 64),
    "8x8x1-w32-b128": (8, 1, 32, (1, 2, 2), 128),
    "28x28x1-w32-b32": (28, 1, 32, (1, 2, 2), 32),
    "32x32x3-w32-b32": (32, 3, 32, (1, 2, 2), 32),
    "16x16x3-w64-b64": (16, 3, 64, (1, 2, 2), 64),
}


def ours(case):
    """Prepare our network: a row of CASES -> a training step and a sampling step, functions"""
    import numpy as np

    from tinydiff import kernels, schedule
    from tinydiff.train import Training, denoiser, train
    from tinydiff.unet import UNet

    size, channels, width, multipliers, batch = case
    rng, s = np.random.default_rng(0), schedule.cosine(250)
    images = rng.standard_normal((4 * batch, size, size, channels), dtype=np.float32)
    labels = np.zeros((4 * batch, 1), np.int64)
    run = Training(UNet(size, channels, width, multipliers, classes=(10,), rng=rng), rng)
    steps = train(run, s, images, labels, batch=batch)
    eps_model, x = denoiser(run.model, s, labels[:batch]), kernels.array(images[:batch])

    def draw():
        return kernels.denoise_step(x, eps_model(x, 100), x, 0.5, 0.1, 0.9, 0.1, 1.0)

    return lambda: next(steps), draw


TORCH = {"torch": "eager", "torch-last": "channels last", "torch-compile": "torch.compile"}


def pytorch(case, channels_last, device="cpu", compiled=False):
    """Prepare the same network in PyTorch -> a training step and a sampling step, functions

    case: a row of CASES; channels_last: memory layout; device: as PyTorch names it; compiled: by
    torch.compile
    """
    import torch
    import torch_unet

    size, channels, width, multipliers, batch = case
    model = torch_unet.UNet(size, channels, width, multipliers, classes=(10,))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(device, memory_format=layout)
    average = [p.detach().clone() for p in model.parameters()]
    model = torch.compile(model) if compiled else model
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    images = torch.randn(4 * batch, channels, size, size, device=device)
    labels = torch.zeros(4 * batch, 1, dtype=torch.long, device=device)
    alpha_bar = torch.linspace(1, 0.001, 251, device=device)
    half = width // 2

    def embedding(t):
        angle = t[:, None] * 10000 ** (-torch.arange(half, device=device) / half)
        return torch.cat([angle.sin(), angle.cos()], 1)

    def step():
        i = torch.randint(4 * batch, (batch,), device=device)
        t = torch.randint(1, 251, (batch,), device=device)
        x0, eps = images[i], torch.randn(batch, channels, size, size, device=device)
        bar = alpha_bar[t][:, None, None, None]
        a, b = bar.sqrt(), (1 - bar).sqrt()
        x_t = (a * x0 + b * eps).to(memory_format=layout)
        loss = torch.nn.functional.mse_loss(model(x_t, embedding(t), labels[i]), a * eps - b * x0)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        torch._foreach_lerp_(average, [p.detach() for p in model.parameters()], 0.001)
        return loss.detach()

    x = images[:batch].to(memory_format=layout)

    @torch.no_grad()
    def draw():
        v = model(x, embedding(torch.full((batch,), 100, device=device)), labels[:batch])
        x0 = (0.7 * x - 0.7 * v).clamp(-1, 1)
        return 0.1 * x0 + 0.9 * x + 0.1 * x

    assert torch.isfinite(step())
    return step, draw


def one(who, name, seconds):
    """Measure in this process and print a JSON object: train and sample (seconds), peak_mb."""
    case = CASES[name]
    if who == "ours":
        steps = ours(case)
    else:
        import torch

        torch.set_num_threads(THREADS)
        steps = pytorch(case, who == "torch-last", compiled=who == "torch-compile")
    training, sampling = (median_time(step, seconds) for step in steps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"train": training, "sample": sampling, "peak_mb": peak}))


def fresh(who, name, seconds):
    """Call `one` in a fresh process -> the dict that it prints"""
    env = os.environ | {"OMP_NUM_THREADS": str(THREADS), "NUMBA_NUM_THREADS": str(THREADS)}
    command = [sys.executable, __file__, "--one", who, "--only", name, "--seconds", str(seconds)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def compare(name, rounds, seconds):
    """Alternate ours and PyTorch's for some rounds -> dict of medians, ratios and their range"""
    trials = {}
    for who in TORCH:
        try:
            trials[who] = fresh(who, name, seconds)
        except subprocess.CalledProcessError as e:
            print(f"{name}: no {TORCH[who]}: {e.stderr.strip().splitlines()[-1]}", file=sys.stderr)
    best = {what: min(trials, key=lambda who: trials[who][what]) for what in ("train", "sample")}
    best["peak_mb"] = best["train"]
    fresh("ours", name, 0.1)  # fills Numba's cache
    found = []
    for _ in range(rounds):
        runs = {who: fresh(who, name, seconds) for who in ("ours", *dict.fromkeys(best.values()))}
        found.append({what: (runs["ours"][what], runs[who][what]) for what, who in best.items()})
    row = {"case": name, "torch": {what: TORCH[who] for what, who in best.items()}}
    for what in best:
        pairs = [pair[what] for pair in found]
        ratios = sorted(a / b for a, b in pairs)
        row[what] = {
            "ours": statistics.median(a for a, _ in pairs),
            "torch": statistics.median(b for _, b in pairs),
            "ratio": statistics.median(ratios),
            "lowest": ratios[0],
            "highest": ratios[-1],
        }
    return row


def main():
    """Read the command line and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="pairs of processes per case (default: 5)")
    add("--seconds", type=float, default=4.0, help="seconds to measure each part (default: 4)")
    add("--only", choices=list(CASES), help="one case instead of all")
    add("--json", action="store_true", help="print JSON")
    add("--one", choices=["ours", *TORCH], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one, args.only, args.seconds)
    try:  # not imported: a process begins with the memory of the one that starts it
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        sys.exit("this bench compares with PyTorch, which is not installed: pip install torch")
    names = [args.only] if args.only else CASES
    columns = f"ours, PyTorch's, ratio (lowest .. highest of {args.rounds} rounds)"
    if not args.json:
        print(f"PyTorch {version}, {THREADS} threads; per step: {columns}", flush=True)
    rows = []
    for name in names:
        rows.append(compare(name, args.rounds, args.seconds))
        if not args.json:
            show(rows[-1])
    if args.json:
        print(json.dumps({"torch": version, "threads": THREADS, "rows": rows}, indent=1))


def show(row):
    """Print what `compare` found for a case: dict -> None"""
    print(row["case"])
    for what in ("train", "sample", "peak_mb"):
        unit, scale = ("MB", 1) if what == "peak_mb" else ("ms", 1000)
        r = row[what]
        both = f"{scale * r['ours']:9.1f} {scale * r['torch']:9.1f} {unit}"
        spread = f"{r['ratio']:.2f} ({r['lowest']:.2f} .. {r['highest']:.2f})"
        print(f"    {what:8s}{both}   {spread}   {row['torch'][what]}", flush=True)


if __name__ == "__main__":
    main()
