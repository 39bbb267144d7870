"""Time training and sampling steps beside busy processes and under a quota, against PyTorch.

    python tests/bench/busy.py [--beside 0 1 2 quota] [--rounds 3] [--only CASE] [--settings]

`--beside 2` measures while two other processes keep processors busy, `quota` in a control group of
Linux that may use the time of one processor, as many a container. Each measurement is a fresh
process, and they alternate. Ours is started as users start it, with no variable set; --settings
adds ours with other ways to wait, and other libraries that run the threads. A ratio is ours / the
fastest of PyTorch's, medians over the rounds; below 1 ours is faster.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path

from timing import THREADS
from unet_vs_torch import CASES

BENCH = Path(__file__).with_name("unet_vs_torch.py")
DECIDE = ("GOMP_", "OMP_", "KMP_", "OPENBLAS_", "MKL_", "NUMBA_NUM_", "NUMBA_THREADING_")
SETTINGS = [f"GOMP_SPINCOUNT={spins}" for spins in (0, 200, 2000, 20_000, 300_000)]
SETTINGS += ["OMP_WAIT_POLICY=passive", "NUMBA_NUM_THREADS=1", "NUMBA_THREADING_LAYER=workqueue"]
# Also ends when the process that has started it is gone, however that came.
LOOP = "import os\nwhile os.getppid() == {}:\n    for _ in range(1_000_000): pass"
CGROUPS = Path("/sys/fs/cgroup")


@contextmanager
def busy(count):
    """Keep `count` other processes busy for the length of a `with` block."""
    loop = [sys.executable, "-c", LOOP.format(os.getpid())]
    others = [subprocess.Popen(loop) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@contextmanager
def one_processor():
    """Make a control group, v1 or v2, with one processor's time -> the file that takes processes

    Raises OSError where it may not make one.
    """
    v1 = (CGROUPS / "cpu" / "cpu.cfs_quota_us").exists()
    group = (CGROUPS / "cpu" if v1 else CGROUPS) / f"tinydiff-{os.getpid()}"
    group.mkdir()
    try:
        for name in ("cpu.cfs_period_us", "cpu.cfs_quota_us") if v1 else ("cpu.max",):
            (group / name).write_text("100000" if v1 else "100000 100000")
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


def measure(contestant, name, seconds, group=None):
    """Measure one contestant in a fresh process -> dict of train and sample, in seconds

    contestant: as `unet_vs_torch.one` names it, then variables: "ours GOMP_SPINCOUNT=0"
    name: of CASES; group: None or the file of a control group, which the process enters
    """
    who, *variables = contestant.split()
    env = {name: value for name, value in os.environ.items() if not name.startswith(DECIDE)}
    env |= dict(variable.split("=") for variable in variables)
    command = [sys.executable, str(BENCH), "--one", who, "--only", name, "--seconds", str(seconds)]
    if group:
        command = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group), *command]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def compare(where, name, contestants, rounds, seconds):
    """Measure all contestants in turn in one situation, and print medians and ratios."""
    rows = {contestant: [] for contestant in contestants}
    quota = where == "quota"
    with busy(0 if quota else int(where)), one_processor() if quota else nullcontext() as group:
        for k in range(rounds):
            for contestant in contestants:
                row = measure(contestant, name, seconds, group)
                rows[contestant].append(row)
                both = f"{1000 * row['train']:8.1f} {1000 * row['sample']:8.1f} ms"
                print(f"{where:5s} round {k + 1}  {contestant:40s}{both}", flush=True)
    for part in ("train", "sample"):
        middle = {who: statistics.median(row[part] for row in found) for who, found in rows.items()}
        best = min((t for who, t in middle.items() if who.startswith("torch")), default=0)
        for contestant, t in middle.items():
            ratio = f"   {t / best:.2f} of PyTorch's" if best else ""
            print(f"{where:5s} {part:8s} {contestant:40s}{1000 * t:8.1f} ms{ratio}", flush=True)


def main():
    """Read the command line and print each measurement, then a table for each situation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add, situations, first = parser.add_argument, ["0", "1", "2", "quota"], next(iter(CASES))
    add("--beside", nargs="+", choices=situations, default=situations, help="default: all")
    add("--rounds", type=int, default=3, help="measurements of each contestant (default: 3)")
    add("--seconds", type=float, default=2.0, help="seconds to measure each part (default: 2)")
    add("--only", choices=list(CASES), default=first, help=f"the case (default: {first})")
    add("--settings", nargs="*", metavar="A=1", help=f"ours also with: {' '.join(SETTINGS)}")
    add("--torch", nargs="*", default=["torch", "torch-last"], help="PyTorch's ways to run")
    args = parser.parse_args()
    contestants = ["ours"]
    if args.settings is not None:
        contestants += [f"ours {variable}" for variable in args.settings or SETTINGS]
    if args.torch and not find_spec("torch"):
        print("PyTorch is not installed, so there are no ratios: pip install torch")
        args.torch = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("busy.py: ended by SIGTERM"))
    print(f"{args.only}; {THREADS} threads; training step, sampling step", flush=True)
    measure("ours", args.only, 0.1)  # fills Numba's cache
    for where in args.beside:
        try:
            compare(where, args.only, [*contestants, *args.torch], args.rounds, args.seconds)
        except OSError as e:
            print(f"{where:5s} skipped: no control group can be made here ({e})")


if __name__ == "__main__":
    main()
