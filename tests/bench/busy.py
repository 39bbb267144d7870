"""Time training and sampling steps beside busy processes, and under a quota, against PyTorch.

    python tests/bench/busy.py [--beside 0 1 2 quota] [--rounds 3] [--settings] [--only CASE]

`--beside 2` measures while two other processes keep cores busy, `quota` in a cgroup (Linux) that may
use one CPU's worth of time, as a container often may. Each measurement is a fresh process, and they
alternate. Ours runs as users start it, with no variable set; --settings adds ours with other ways
to wait and other numbers of threads. A ratio is ours / the faster of PyTorch's two memory layouts.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path

from timing import THREADS
from unet_vs_torch import CASES

BENCH = Path(__file__).with_name("unet_vs_torch.py")
READ = ("GOMP_", "OMP_", "KMP_", "NUMBA_NUM_", "NUMBA_THREADING_", "OPENBLAS_")
SETTINGS = (
    "GOMP_SPINCOUNT=0",
    "GOMP_SPINCOUNT=200",
    "GOMP_SPINCOUNT=2000",
    "GOMP_SPINCOUNT=20000",
    "GOMP_SPINCOUNT=300000",
    "OMP_WAIT_POLICY=passive",
    "NUMBA_NUM_THREADS=1",
    "NUMBA_THREADING_LAYER=workqueue",
)
# Ends by itself when the process that started it has ended, whatever ended that.
LOOP = "import os\nwhile os.getppid() == {}:\n    for _ in range(1_000_000): pass"
CGROUPS = Path("/sys/fs/cgroup")


@contextmanager
def beside(count):
    """Keep `count` other processes busy inside a `with` block."""
    loop = [sys.executable, "-c", LOOP.format(os.getpid())]
    busy = [subprocess.Popen(loop) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


@contextmanager
def quota(cpus):
    """Make a cgroup (v1 or v2) that may use `cpus` CPUs' time -> the file that takes its processes

    Raises OSError where that is not allowed.
    """
    v1 = (CGROUPS / "cpu" / "cpu.cfs_quota_us").exists()
    group = (CGROUPS / "cpu" if v1 else CGROUPS) / f"tinydiff-{os.getpid()}"
    limit = round(100_000 * cpus)
    group.mkdir()
    try:
        if v1:
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text(str(limit))
        else:
            (group / "cpu.max").write_text(f"{limit} 100000")
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


def measure(who, name, seconds, procs=None):
    """Measure one contestant in a fresh process -> dict of train and sample, in seconds

    who: "torch", "torch-last", or ours with its variables, "ours A=1 B=2"; name: of CASES
    procs: the file of a cgroup that the process shall enter
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith(READ)}
    who, *variables = who.split()
    env |= dict(pair.split("=") for pair in variables)
    command = [sys.executable, str(BENCH), "--one", who, "--only", name, "--seconds", str(seconds)]
    if procs:
        command = ["sh", "-c", f'echo $$ > {shlex.quote(str(procs))} && exec "$@"', "sh", *command]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def table(where, name, contestants, rounds, seconds):
    """Measure all contestants in turn, in one situation, and print medians and ratios."""
    count = 0 if where == "quota" else int(where)
    found = {who: [] for who in contestants}
    with beside(count), quota(1) if where == "quota" else nullcontext() as procs:
        for k in range(rounds):
            for who in contestants:
                row = measure(who, name, seconds, procs)
                found[who].append(row)
                times = f"{1000 * row['train']:8.1f} {1000 * row['sample']:8.1f} ms"
                print(f"  {where:5s} round {k + 1} {who:40s} {times}", flush=True)
    for part in ("train", "sample"):
        middle = {who: statistics.median(row[part] for row in found[who]) for who in contestants}
        best = min((t for who, t in middle.items() if who.startswith("torch")), default=None)
        for who, t in middle.items():
            ratio = f"{t / best:6.2f} of PyTorch's" if best else ""
            print(f"{where:5s} {part:6s} {who:40s} {1000 * t:8.1f} ms {ratio}", flush=True)


def main():
    """Read the command line and print a table for each situation, as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    situations = ["0", "1", "2", "quota"]
    add("--beside", nargs="+", choices=situations, default=situations, help="default: all")
    add("--rounds", type=int, default=3, help="measurements of each contestant (default: 3)")
    add("--seconds", type=float, default=2.0, help="to measure each part (default: 2)")
    add(
        "--only",
        choices=list(CASES),
        default=next(iter(CASES)),
        help="the case (default: %(default)s)",
    )
    add(
        "--settings",
        nargs="*",
        metavar="A=1",
        help="also ours with these variables, or with all of: " + ", ".join(SETTINGS),
    )
    add("--no-torch", action="store_true", help="without PyTorch")
    args = parser.parse_args()
    contestants = ["ours"]
    if args.settings is not None:
        contestants += [f"ours {variables}" for variables in args.settings or SETTINGS]
    if find_spec("torch") and not args.no_torch:
        contestants += ["torch", "torch-last"]
    elif not args.no_torch:
        print("PyTorch is not installed, so there are no ratios: pip install torch")
    print(
        f"{args.only}, {THREADS} cores, {args.rounds} rounds; training, sampling step", flush=True
    )
    measure("ours", args.only, 0.1)  # fills Numba's cache
    for where in args.beside:
        try:
            table(where, args.only, contestants, args.rounds, args.seconds)
        except OSError as e:
            print(f"{where:5s} skipped: no cgroup may be made here ({e})")


if __name__ == "__main__":
    main()
