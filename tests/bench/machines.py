"""Measure a training over several processes and over a slow network; draw what that means for 64.

    python tests/bench/machines.py [--steps 12] [--out out/machines.png] [--json]

It needs the extra `mpi` (pip install -e '.[mpi]'), Open MPI's mpiexec beside this Python. Pictures
are 8 x 8 x 1, 64 per step. Three parts:

one host   one process on two threads, two processes on one thread each
two hosts  network namespaces, joined by a cable of 1 Gbit/s or 100 Mbit/s, which `tc` makes as slow
           as that, and `ip netns exec` in the place of ssh; left out with a line where this system
           lets nobody make them (it takes root on Linux). Where its kernel has netem, each way
           also takes 50 microseconds more.
model      seconds per step = fixed + work n / N + 2 (N - 1) / N bytes / bandwidth
           + 2 (N - 1) latency, N machines in a ring: fixed and work fitted to one process on
           batches of 8 to 64, bandwidth and latency to the sums over the two hosts
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BATCH, WIDTHS, RATES = 64, (32, 128), ("1gbit", "100mbit")
SPLIT = (8, 16, 32, 64)  # batches of one process, to which fixed and work are fitted
SUMS = (10, 10_000, 100_000, 400_000)  # numbers added up over two hosts, float32
MPIEXEC = [str(Path(sys.executable).with_name("mpiexec")), "--allow-run-as-root"]
HOSTS = {"tinydiff-a": "10.99.0.1", "tinydiff-b": "10.99.0.2"}


def one(width, batch, steps):
    """Measure a step, and sums, in this process or in all that mpiexec started; print JSON."""
    import numpy as np

    from tinydiff import schedule
    from tinydiff.app import together
    from tinydiff.train import Training, train
    from tinydiff.unet import UNet

    team, found = together.team(), {}
    if batch:
        rng = np.random.default_rng(0)
        images = rng.standard_normal((2 * batch, 8, 8, 1), dtype=np.float32)
        run = Training(UNet(8, 1, width, multipliers=(1, 2), depth=1, rng=rng), rng)
        run.team = team
        training = train(run, schedule.cosine(250), images, batch=batch)
        next(training)
        found = {"P": run.theta.size, "step": least(lambda: next(training), steps)}
    else:
        for P in SUMS:
            found[str(P)] = least(lambda: team.sum(np.ones(P, np.float32)), steps)
    if team.rank == 0:
        print(json.dumps(found), flush=True)
    together.end(0)


def least(f, n):
    """Call f n times, after two to warm up: what disturbs only adds -> least seconds per call"""
    took = []
    for _ in range(n + 2):
        began = time.perf_counter()
        f()
        took.append(time.perf_counter() - began)
    return min(took[2:])


def measure(width, batch, steps, threads=1, before=()):
    """Run `one` in fresh processes, `before` stands in front -> dict"""
    words = [sys.executable, __file__, "--one", str(width), str(batch), "--steps", str(steps)]
    count = {"NUMBA_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    done = subprocess.run([*before, *words], **pipes, env=os.environ | count, timeout=300)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr else "no word")
    return json.loads(done.stdout.strip().splitlines()[-1])


# --- two hosts ---


def sh(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")


def inside(name):
    return ["ip", "netns", "exec", name]


def connect(rate):
    """Make two network namespaces with a cable of a rate between them -> what delays it, a str"""
    disconnect()
    (a, _), (b, _) = HOSTS.items()
    for name in HOSTS:
        sh("ip", "netns", "add", name)
    sh("ip", "link", "add", "cable", "netns", a, "type", "veth", "peer", "cable", "netns", b)
    delayed = "netem delay 50us"
    for name, address in HOSTS.items():
        within = inside(name)
        sh(*within, "ip", "link", "set", "lo", "up")
        sh(*within, "ip", "addr", "add", f"{address}/24", "dev", "cable")
        sh(*within, "ip", "link", "set", "cable", "up")
        shape = [*within, "tc", "qdisc", "add", "dev", "cable", "root"]
        try:
            sh(*shape, "netem", "delay", "50us", "rate", rate)
        except RuntimeError:
            delayed = "this kernel has no netem: no further delay"
            sh(*shape, "tbf", "rate", rate, "burst", "128kb", "latency", "50ms")
    return delayed


def disconnect():
    for name in HOSTS:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


def over_two_hosts(folder):
    """Write what mpiexec calls in ssh's place -> words that start a process on each host"""
    (a, here), (b, there) = HOSTS.items()
    agent = Path(folder) / "agent"
    skip = 'while [ "${1#-}" != "$1" ]; do shift; done; shift'
    far = f'exec {" ".join(inside(b))} unshare -u sh -c "hostname {b}; $*"'
    agent.write_text(f"#!/bin/sh\n{skip}\n{far}\n")
    agent.chmod(0o755)
    by = ["--prtemca", "plm_ssh_agent", str(agent), "--mca", "btl", "tcp,self", "--mca", "pml"]
    on = ["ob1", "--host", f"{here}:1,{there}:1", "-n", "2"]
    named = ["unshare", "-u", "sh", "-c", f'hostname {a}; exec "$@"', "sh"]
    passed = [w for name in ("PYTHONPATH", "NUMBA_CACHE_DIR") for w in ("-x", name)]
    passed += [w for n in ("NUMBA", "OPENBLAS") for w in ("-x", f"{n}_NUM_THREADS")]
    return [*inside(a), *named, *MPIEXEC, *by, *on, *[w for w in passed]]


# --- the model ---


def fit(alone, sums):
    """Fit the model's four numbers: {batch: seconds}, {P: seconds} -> fixed, work, byte, latency

    The sums are two machines': 2 (N - 1) / N = 1, 2 (N - 1) = 2
    """
    import numpy as np

    work, fixed = np.polyfit(list(alone), list(alone.values()), 1)
    P, took = np.array([*map(int, sums)]), np.array([*sums.values()])
    latency = took[0] / 2
    byte = float(np.sum((took - 2 * latency) * 4 * P) / np.sum((4.0 * P) ** 2))
    return float(max(fixed, 0)), float(work), byte, float(latency)


def seconds_per_step(N, images, P, fixed, work, byte, latency):
    """Predict a step of N machines in a ring, with so many images in all"""
    travels = 2 * (N - 1) / N * 4 * P * byte + 2 * (N - 1) * latency
    return fixed + work * images / N + travels


def draw(found, path):
    """Draw how many more images N machines do, a panel for each width -> path"""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    import numpy as np

    from tinydiff import plot

    plot.style()
    figure, panels = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", sharey=True)
    N, ticks = np.arange(1, 65), [1, 2, 4, 8, 16, 32, 64]
    for panel, width in zip(panels, map(str, WIDTHS), strict=True):
        panel.plot(N, N, ":", color=plot.GREY, lw=1, label="N times as many")
        for color, (rate, fitted) in zip(
            (plot.BLUE, plot.ORANGE), found["fits"][width].items(), strict=True
        ):
            numbers = found["P"][width], *fitted
            alone = BATCH / seconds_per_step(1, BATCH, *numbers)
            for images, style, word in ((BATCH * N, "-", "each"), (BATCH + 0 * N, "--", "in all")):
                gain = images / seconds_per_step(N, images, *numbers) / alone
                label = f"{rate}/s, {BATCH} images {word}"
                panel.plot(N, gain, style, color=color, label=label)
            if step := found["steps"][width].get(rate):
                panel.plot(2, BATCH / step / alone, "o", color=color, label="the same, measured")
        panel.set(xscale="log", yscale="log", xlabel="machines", title=f"width {width}")
        panel.set_xticks(ticks, ticks)
        panel.minorticks_off()
    panels[0].set_ylabel("images per second, one machine = 1")
    panels[0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("out/machines.png"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=2, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(*args.one, args.steps)
    say = lambda text: print(text, file=sys.stderr if args.json else sys.stdout, flush=True)
    ms = lambda seconds: f"{1000 * seconds:8.1f} ms"
    found = {"P": {}, "alone": {}, "sums": {}, "steps": {}, "fits": {}}
    for width in WIDTHS:
        alone = {b: measure(width, b, args.steps) for b in SPLIT}
        found["P"][str(width)] = alone[BATCH]["P"]
        found["alone"][str(width)] = {b: row["step"] for b, row in alone.items()}
        each = ", ".join(f"{b}: {1000 * row['step']:.1f}" for b, row in alone.items())
        say(f"width {width}, one process on one thread, ms per step by batch: {each}")
        local = [*MPIEXEC, "--bind-to", "none", "-n", "2"]
        two = measure(width, BATCH, args.steps, 2)["step"]
        ranks = measure(width, BATCH, args.steps, 1, local)["step"]
        found["steps"][str(width)] = {"1 x 2 threads": two, "2 x 1 thread": ranks}
        say(f"  1 process x 2 threads {ms(two)}, 2 processes x 1 thread {ms(ranks)}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            for rate in RATES:
                delayed, far = connect(rate), over_two_hosts(folder)
                found["sums"][rate] = measure(0, 0, args.steps, 1, far)
                each = ", ".join(f"{P}: {1000 * s:.1f}" for P, s in found["sums"][rate].items())
                say(f"two hosts, {rate} ({delayed}), ms per sum by numbers: {each}")
                step = measure(32, BATCH, args.steps, 1, far)["step"]
                found["steps"]["32"][rate] = step
                numbers = fit(found["alone"]["32"], found["sums"][rate])
                said = seconds_per_step(2, BATCH, found["P"]["32"], *numbers)
                say(f"  width 32, 2 machines: {ms(step)} per step, the model says {ms(said)}")
    except (RuntimeError, OSError) as e:
        return say(f"two hosts, and the model: left out ({e})")
    finally:
        disconnect()
    for width in map(str, WIDTHS):
        alone = found["alone"][width]
        found["fits"][width] = {r: fit(alone, sums) for r, sums in found["sums"].items()}
        for rate, numbers in found["fits"][width].items():
            model = found["P"][width], *numbers
            steps = {N: seconds_per_step(N, BATCH, *model) for N in (1, 2, 4, 16, 64)}
            each = ", ".join(f"{N}: {1000 * s:.0f}" for N, s in steps.items())
            say(f"model, width {width}, {rate}, ms per step by machines: {each}")
            names = zip(("fixed", "work", "byte", "latency"), numbers, strict=True)
            say("  " + ", ".join(f"{name} {value:.3g} s" for name, value in names))
    say(f"{draw(found, args.out)}: images per second, by machines")
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
