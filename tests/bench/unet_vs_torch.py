"""Time training and sampling steps of our U-Net against the same network in PyTorch, on the CPU.

    python tests/bench/unet_vs_torch.py [--rounds 5] [--only 16x16x3-w32-b64] [--json]

Each measurement is a fresh process, and they alternate (ours, PyTorch, ours, PyTorch, ...), since
the speed of a shared machine drifts. Reported is the median over rounds of ours / PyTorch's, with
the lowest and highest; below 1 ours is faster. PyTorch runs in eager mode with its own memory
layout or channels last, whichever is faster here; both sides use two threads.
"""

import argparse
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


def pytorch(case, channels_last, device="cpu"):
    """Prepare the same network in PyTorch -> a training step and a sampling step, functions

    case: a row of CASES; channels_last: memory layout; device: as PyTorch names it
    """
    import torch
    import torch_unet

    size, channels, width, multipliers, batch = case
    model = torch_unet.UNet(size, channels, width, multipliers, classes=(10,))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(device, memory_format=layout)
    average = [p.detach().clone() for p in model.parameters()]
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
        steps = pytorch(case, who == "torch-last")
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
    layout = min(("torch", "torch-last"), key=lambda who: fresh(who, name, seconds)["train"])
    fresh("ours", name, 0.1)  # fills Numba's cache
    pairs = [(fresh("ours", name, seconds), fresh(layout, name, seconds)) for _ in range(rounds)]
    row = {"case": name, "torch_layout": layout}
    for what in ("train", "sample", "peak_mb"):
        ratios = sorted(a[what] / b[what] for a, b in pairs)
        row[what] = {
            "ours": statistics.median(a[what] for a, _ in pairs),
            "torch": statistics.median(b[what] for _, b in pairs),
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
    add("--one", choices=["ours", "torch", "torch-last"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one, args.only, args.seconds)
    try:
        import torch
    except ImportError:
        sys.exit("this bench compares with PyTorch, which is not installed: pip install torch")
    names = [args.only] if args.only else CASES
    rows = [compare(name, args.rounds, args.seconds) for name in names]
    if args.json:
        found = {"torch": torch.__version__, "threads": THREADS, "rows": rows}
        return print(json.dumps(found, indent=1))
    columns = f"ours, PyTorch's, ratio (lowest .. highest of {args.rounds} rounds)"
    print(f"PyTorch {torch.__version__}, {THREADS} threads; per step: {columns}")
    for row in rows:
        print(f"{row['case']:18s} (PyTorch: {row['torch_layout']})")
        for what in ("train", "sample", "peak_mb"):
            unit, scale = ("MB", 1) if what == "peak_mb" else ("ms", 1000)
            r = row[what]
            both = f"{scale * r['ours']:9.1f} {scale * r['torch']:9.1f} {unit}"
            spread = f"{r['ratio']:.2f} ({r['lowest']:.2f} .. {r['highest']:.2f})"
            print(f"    {what:8s}{both}   {spread}")


if __name__ == "__main__":
    main()
