"""How many threads compute and how they wait for each other, settled before Numba is imported.

Numba takes every processor that the process may run on, and GNU's OpenMP, which runs its threads,
lets one that waits spin for about 3 ms before it sleeps. On a quiet machine of one's own both are
right. Beside busy processes, or in a container that may use less time than it has processors (a
quota), who spins takes the time from the very thread that it waits for. `doctor` says what was
settled here and why; what it is worth is in tests/bench/RESULTS.md, "Waiting".
"""

import ctypes
import math
import os
import re
import sys
import threading
import time
from pathlib import Path, PurePosixPath

MOST = 1024  # threads that Numba is asked for
# What an OpenMP reads when it starts. GNU's: turns of its waiting loop, by default 300,000; LLVM's
# and Intel's: ms, by default 200. Microsoft's has no such variable.
WAITING = {"GOMP_SPINCOUNT": "200", "KMP_BLOCKTIME": "0"}
AMONG_IDLE = "5000"  # turns of GNU's, about 0.1 ms, where that takes no time from anybody
ASKED = ("OMP_WAIT_POLICY", *WAITING)  # one of them in the environment: it has been decided
LIBRARIES = ("libgomp.so.1.0.0", "libgomp.so.1")  # GNU's OpenMP, as Numba's builds name it
threads, why = 0, ""  # what `count` said when this package was imported
_late = False  # did another library start OpenMP before that?
_before = None  # what `_used` said then, unless the environment decides how to wait
bereft = False  # is this a fork of a process in which GNU's OpenMP ran, whose threads are missing?
# Taken by a thread that changes what others may use, as nn.Module.variables does, and by one that
# uses it, and before a fork, whose copy of it is whole.
turn = threading.RLock()


def settle():
    """Tell Numba and OpenMP what was decided, by the environment, which they read once: () -> None

    What is there already stays. Where Numba has been imported, cpu_threads sees to the number.
    """
    global threads, why, _late, _before
    threads, why = count()
    told = "numba" in sys.modules or os.environ.get("NUMBA_NUM_THREADS")
    if threads != available() and not told:
        os.environ["NUMBA_NUM_THREADS"] = str(threads)
    asked, _before = any(os.environ.get(name) for name in ASKED), None
    _late = not asked and _started()
    if not asked:
        os.environ.update(WAITING)
        _before = _used()


def look_around():
    """Let threads spin for longer if nobody else wants the processors: () -> None

    Called when Numba has been imported, which takes half a second, and before OpenMP starts. What
    others do later does not count any more: then 5,000 turns are still far better than 300,000.
    """
    if not _before or _late or os.environ.get("GOMP_SPINCOUNT") != WAITING["GOMP_SPINCOUNT"]:
        return
    time.sleep(max(0.0, 0.1 - (time.monotonic() - _before[0])))  # it is counted in 0.01 s
    now = _used()
    others = (now[1] - _before[1]) / (now[0] - _before[0])
    if threads + others < (os.cpu_count() or 1) + 0.3 and quota()[0] >= threads:
        os.environ["GOMP_SPINCOUNT"] = AMONG_IDLE


def _used(root="/"):
    """Read how much processor time all other processes have used -> now, that time, s; or None"""
    lines = _lines(Path(root) / "proc/stat")
    if not lines:
        return None
    user, nice, system, _, _, *rest = map(int, lines[0].split()[1:9])  # idle, waiting for disks
    own = os.times()
    every = (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")
    return time.monotonic(), every - own.user - own.system


def waiting():
    """Say how threads wait for each other where OpenMP runs them: () -> str"""
    if _late:
        first = "as another library that started OpenMP wants it, by default spinning for 3 ms"
        return f"{first}: import tinydiff earlier, or set {_set('GOMP_SPINCOUNT')} before Python"
    return ", ".join(_set(name) for name in ASKED if os.environ.get(name))


def _set(name):
    return f"{name}={os.environ[name]}"


def _started():
    """Is there a GNU OpenMP in this process that Numba would share, and that has read all?"""
    if sys.platform != "linux":
        return False
    if hasattr(ctypes.CDLL(None), "GOMP_parallel"):  # as PyTorch's, which all others then see
        return True
    for name in LIBRARIES:
        try:
            ctypes.CDLL(name, os.RTLD_NOLOAD)
        except OSError:
            continue
        return True
    return False


def count(root="/"):
    """Decide how many threads compute.

    $NUMBA_NUM_THREADS, or $OMP_NUM_THREADS, or one thread for each processor that the process may
    run on, but no more than its quota is worth, rounded up: of a quota of 1.5 processors one thread
    can use 1, two can use 1.5.
    root: as for `quota` -> int () and the reason, in words
    """
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):  # OpenMP's may go on: ",2", inner teams
        asked = re.match(r"\s*0*([1-9]\d{0,3})\s*(,|$)", os.environ.get(name, ""))
        if asked:
            return min(int(asked[1]), MOST), f"{name} says so"
    cores, (cpus, place) = available(), quota(root)
    if cpus < cores:
        return max(1, math.ceil(cpus)), f"{place} allows {cpus:g} of {cores} processors' time"
    return cores, "as many as there are processors that this process may run on"


def available():
    """Count the processors that this process may run on: () -> int"""
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quota(root="/"):
    """Read how many processors' time Linux's control groups allow this process.

    A group's limit is shared by all that is inside it. So the least limit counts, on the way from
    the process's own group up to where its hierarchy is mounted: cgroup v2, or v1's "cpu".
    root: the folder in which /proc and /sys are
    -> float (), inf where nothing limits it, and the folder of that group, or None
    Source: Linux, Documentation/admin-guide/cgroup-v2 (cpu.max), scheduler/sched-bwc
    (cpu.cfs_quota_us); man 7 cgroups, man 5 proc_pid_mountinfo.
    """
    limits = [(_limit(folder), folder) for folder in _groups(Path(root))]
    limits = [limit for limit in limits if limit[0] < math.inf]
    return min(limits, key=lambda limit: limit[0], default=(math.inf, None))


def _groups(root):
    """List the control groups around this process, each hierarchy from the inside out: folders"""
    own = {}
    for line in _lines(root / "proc/self/cgroup"):  # "4:cpu,cpuacct:/a/b"; in v2 "0::/a/b"
        _, controllers, path = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), path)
    for line in _lines(
        root / "proc/self/mountinfo"
    ):  # "32 31 0:29 top point ... - cgroup x rw,cpu"
        left, _, right = line.partition(" - ")
        (_, _, _, top, point, *_), (kind, *_, options) = left.split(), right.split()
        controller = {"cgroup2": "", "cgroup": "cpu"}.get(kind)
        if controller not in own or controller not in ("", *options.split(",")):
            continue
        path = PurePosixPath(own[controller])
        # A container may see the host's path, while what is mounted begins at its own group.
        inner = path.relative_to(top if path.is_relative_to(top) else "/").parts
        for depth in range(len(inner), -1, -1):
            yield root.joinpath(point.lstrip("/"), *inner[:depth])


def _limit(folder):
    """Read the limit of one control group, folder -> processors, inf where there is none"""
    try:
        if (folder / "cpu.max").exists():
            limit, period = (folder / "cpu.max").read_text("utf-8").split()
        else:
            names = "cpu.cfs_quota_us", "cpu.cfs_period_us"
            limit, period = ((folder / name).read_text("utf-8") for name in names)
        return int(limit) / int(period) if int(limit) > 0 else math.inf
    except (OSError, ValueError):  # no such file, as at the root; "max"
        return math.inf


def _lines(path):
    try:
        return path.read_text("utf-8").splitlines()
    except OSError:  # not Linux
        return []


def _in_child():
    global bereft
    bereft = bereft or _started()
    turn.release()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=turn.acquire, after_in_parent=turn.release, after_in_child=_in_child)
