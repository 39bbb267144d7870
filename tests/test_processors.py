"""How many threads compute and how they wait; several threads at once, and forks, never hang."""

import math
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numba
import numpy as np
import pytest

import tinydiff
from tinydiff.app import cmd_doctor
from tinydiff.kernels import cpu_threads, processors
from tinydiff.unet import UNet, circular

HOME = Path(tinydiff.__file__).resolve().parents[1]
VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", *processors.ASKED)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    """Run each test as if nobody had set anything, and as if this were decided anew."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name in ("threads", "why", "_late"):
        monkeypatch.setattr(processors, name, getattr(processors, name))


def python(*words, **env):
    """Run a fresh Python with no variable set but these -> the finished process"""
    kept = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    command = [sys.executable, *map(str, words)]
    env = {**kept, "PYTHONPATH": str(HOME), "OPENBLAS_NUM_THREADS": "1", **env}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)


# --- how many ---

V1, V2 = "cgroup rw,cpu,cpuacct", "cgroup2 rw"


def machine(root, groups, mounts, files):
    """Write what Linux shows of control groups -> root

    groups: lines of /proc/self/cgroup; mounts: list of (what the mount shows, where, kind and
    options); files: dict of path to content
    """
    rows = [f"31 25 0:27 {top} {at} rw - {kind.replace(' ', ' none ')}" for top, at, kind in mounts]
    if groups:
        files |= {"proc/self/cgroup": "\n".join(groups), "proc/self/mountinfo": "\n".join(rows)}
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content + "\n")
    return root


def v1(folder, quota, period="100000"):
    return {f"{folder}/cpu.cfs_quota_us": quota, f"{folder}/cpu.cfs_period_us": period}


FS, CPU = "sys/fs/cgroup", "sys/fs/cgroup/cpu,cpuacct"
MACHINES = {
    "no Linux": ([], [], {}, (math.inf, None)),
    "v2, no limit": (["0::/a"], [("/", f"/{FS}", V2)], {f"{FS}/a/cpu.max": "max 100000"}, None),
    "v2": (
        ["0::/a"],
        [("/", f"/{FS}", V2)],
        {f"{FS}/a/cpu.max": "150000 100000"},
        (1.5, f"{FS}/a"),
    ),
    "v2, a limit further up": (
        ["0::/a/b/c"],
        [("/", f"/{FS}", V2)],
        {f"{FS}/a/cpu.max": "50000 100000", f"{FS}/a/b/c/cpu.max": "400000 100000"},
        (0.5, f"{FS}/a"),
    ),
    "v2, a container's own namespace": (
        ["0::/"],
        [("/", f"/{FS}", V2)],
        {f"{FS}/cpu.max": "200000 100000"},
        (2, FS),
    ),
    "v2, a container that sees the host's path": (
        ["0::/docker/1f"],
        [("/docker/1f", f"/{FS}", V2)],
        {f"{FS}/cpu.max": "200000 100000"},
        (2, FS),
    ),
    "v2, a group inside such a container": (
        ["0::/docker/1f/a"],
        [("/docker/1f", f"/{FS}", V2)],
        {f"{FS}/cpu.max": "200000 100000", f"{FS}/a/cpu.max": "100000 100000"},
        (1, f"{FS}/a"),
    ),
    "v2, a group outside the namespace": (["0::/../b"], [("/", f"/{FS}", V2)], {}, None),
    "v1": (
        ["4:cpu,cpuacct:/a"],
        [("/", f"/{CPU}", V1)],
        v1(f"{CPU}/a", "25000"),
        (0.25, f"{CPU}/a"),
    ),
    "v1, no limit": (["4:cpu,cpuacct:/a"], [("/", f"/{CPU}", V1)], v1(f"{CPU}/a", "-1"), None),
    "v1, a limit at the top": (
        ["4:cpu,cpuacct:/a/b"],
        [("/", f"/{CPU}", V1)],
        v1(CPU, "300000", "50000") | v1(f"{CPU}/a/b", "-1"),
        (6, CPU),
    ),
    "v1, a container that sees the host's path": (
        ["4:cpu,cpuacct:/docker/1f", "3:memory:/docker/1f"],
        [("/docker/1f", f"/{FS}/memory", "cgroup rw,memory"), ("/docker/1f", f"/{CPU}", V1)],
        v1(CPU, "100000") | v1(f"{FS}/memory", "1000"),
        (1, CPU),
    ),
    "both": (
        ["4:cpu:/a", "0::/a"],
        [("/", f"/{FS}/cpu", "cgroup rw,cpu"), ("/", f"/{FS}/unified", V2)],
        v1(f"{FS}/cpu/a", "200000") | {f"{FS}/unified/cpu.max": "100000 100000"},
        (1, f"{FS}/unified"),
    ),
}


@pytest.mark.parametrize("name", MACHINES)
def test_the_least_limit_on_the_way_up_is_the_quota(name, tmp_path):
    groups, mounts, files, expected = MACHINES[name]
    cpus, place = processors.quota(machine(tmp_path, groups, mounts, dict(files)))
    limit, folder = expected or (math.inf, None)
    assert (cpus, place) == (limit, folder and tmp_path / folder)


@pytest.mark.parametrize("cpus, threads", [(0.1, 1), (1, 1), (1.5, 2), (3, 3), (4, 4), (64, 4)])
def test_there_are_as_many_threads_as_the_quota_is_worth(cpus, threads, monkeypatch):
    monkeypatch.setattr(processors, "available", lambda: 4)
    monkeypatch.setattr(processors, "quota", lambda root: (cpus, Path("/group")))
    assert processors.count()[0] == threads
    assert ("/group allows" in processors.count()[1]) == (cpus < 4)


@pytest.mark.parametrize(
    "numba_says, omp_says, threads",
    [("3", "5", 3), ("", "5", 5), ("", "5,2", 5), ("", " 7 ", 7), ("", "many", 4), ("", "0", 4)],
)
def test_variables_are_obeyed(numba_says, omp_says, threads, monkeypatch):
    monkeypatch.setattr(processors, "available", lambda: 4)
    monkeypatch.setattr(processors, "quota", lambda root: (math.inf, None))
    monkeypatch.setenv("NUMBA_NUM_THREADS", numba_says)
    monkeypatch.setenv("OMP_NUM_THREADS", omp_says)
    assert processors.count()[0] == threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="there are no affinity masks here")
def test_a_process_on_one_processor_has_one_thread():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from tinydiff.kernels import processors; print(processors.threads)"
    assert python("-c", code).stdout == "1\n"


def test_numba_hears_of_the_number_in_time_or_is_held_to_it():
    ask = (
        "import tinydiff.kernels as k, numba, numpy as np; most = numba.config.NUMBA_NUM_THREADS\n"
    )
    ask += "k.down(np.ones((4, 4, 4, 8), np.float32)); print(most, numba.get_num_threads())"
    for first, most in (("", 1), ("import numba; ", processors.available())):
        done = python("-c", first + ask, OMP_NUM_THREADS="1", NUMBA_THREADING_LAYER="workqueue")
        assert done.stdout == f"{most} 1\n", done.stderr


def test_a_thread_that_was_told_to_use_fewer_stays_with_that(monkeypatch):
    most = numba.get_num_threads()
    monkeypatch.setattr(processors, "threads", most + 1)
    cpu_threads.limit()
    assert numba.get_num_threads() == most


# --- how they wait ---


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setattr(processors, "_started", lambda: False)
    processors.settle()
    assert os.environ["GOMP_SPINCOUNT"] == processors.WAITING["GOMP_SPINCOUNT"]
    for name in processors.ASKED:
        for other in processors.ASKED:
            monkeypatch.delenv(other, raising=False)
        monkeypatch.setenv(name, "active")
        processors.settle()
        assert [other for other in processors.ASKED if other in os.environ] == [name]
        assert processors.waiting() == f"{name}=active"


@pytest.mark.skipif(sys.platform != "linux", reason="where other systems differ is only read")
def test_an_openmp_that_runs_already_is_noticed():
    load = "from numba.np.ufunc import omppool\n"
    ask = "from tinydiff.kernels import processors; print(processors.waiting())"
    if python("-c", load).returncode:
        pytest.skip("Numba finds no OpenMP here")
    assert python("-c", f"import numba; {ask}").stdout.startswith("GOMP_SPINCOUNT=")
    assert "import tinydiff earlier" in python("-c", load + ask).stdout
    assert python("-c", load + ask, GOMP_SPINCOUNT="7").stdout == "GOMP_SPINCOUNT=7\n"


# --- doctor ---


def test_doctor_says_how_many_threads_there_are_and_why(monkeypatch, capsys):
    monkeypatch.setattr(processors, "threads", 1)
    monkeypatch.setattr(processors, "why", "for a reason")
    for found, said in (
        ((0.5, Path("/a/b")), "0.5 processors' time, by /a/b"),
        ((math.inf, None), "none"),
    ):
        monkeypatch.setattr(processors, "quota", lambda found=found: found)
        cmd_doctor._processors()
        threads, quota = capsys.readouterr().out.splitlines()
        assert threads == "threads    1, for a reason (NUMBA_NUM_THREADS changes that)"
        assert quota == f"quota      {said}"


@pytest.mark.parametrize(
    "layer, asked, said",
    [
        ("omp", "", "omp, the first that Numba finds of .*; waiting: GOMP_SPINCOUNT=7"),
        ("workqueue", "workqueue", "workqueue, NUMBA_THREADING_LAYER=workqueue"),
        ("workqueue", "", "workqueue, the first that .*; OpenMP is missing: .*libgomp1.*"),
    ],
)
def test_doctor_says_which_library_runs_the_threads(layer, asked, said, monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.setenv("NUMBA_THREADING_LAYER", asked)
    monkeypatch.setattr(processors, "_late", False)
    monkeypatch.setattr(cpu_threads, "layer", lambda: layer)
    assert re.fullmatch(said, cmd_doctor._threading())


# --- several threads ---


@pytest.fixture
def tiny(rng):
    """A small network whose output is not 0 -> it, and images for it"""
    model = UNet(8, 1, 8, (1,), depth=1, rng=rng)
    model.conv_out.w[:] = rng.standard_normal(model.conv_out.w.shape)
    return model, rng.standard_normal((2, 8, 8, 1), dtype=np.float32)


@pytest.mark.parametrize("change", [UNet.variables, circular])
def test_a_thread_that_draws_waits_for_one_that_changes_the_network(change, tiny):
    model, x = tiny
    expected, found = model(x, np.ones(2)), []
    draw = threading.Thread(target=lambda: found.append(model(x, np.ones(2))))
    with change(model):
        draw.start()
        draw.join(0.1)
        assert draw.is_alive() and not found
    draw.join(10)
    assert isinstance(found[0], np.ndarray) and np.array_equal(found[0], expected)


# --- forks ---

FORK = """
import os, sys, threading, time
import numpy as np
from numba.core.compiler_lock import global_compiler_lock
from tinydiff import kernels
from tinydiff.unet import UNet
model = UNet(8, 1, 8, (1,), depth=1, rng=np.random.default_rng(0))
x = np.ones((2, 8, 8, 1), np.float32)

def draw():
    return type(model(x, np.ones(2))).__name__, kernels.active().__name__.split(".")[-1]

def hold(lock):
    with lock:
        held.set()
        time.sleep(0.5)

def changing():
    with model.variables():
        held.set()
        time.sleep(0.5)

kernels.active()
held = threading.Event()
WHAT
held.wait()
if not os.fork():
    print(*draw(), flush=True)
    os._exit(0)
print(os.wait()[1])
"""
MEANWHILE = {
    "nothing": "held.set()",
    "another compiles": "threading.Thread(target=hold, args=[global_compiler_lock]).start()",
    "another trains": "threading.Thread(target=changing).start()",
    "another library's OpenMP runs": (
        "import ctypes; task = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: held.set())\n"
        "ctypes.CDLL('libgomp.so.1').GOMP_parallel(task, None, 2, 0)"
    ),
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.slow
@pytest.mark.parametrize("what", MEANWHILE)
def test_a_fork_draws_whatever_other_threads_do(what):
    done = python("-c", FORK.replace("WHAT", MEANWHILE[what]))
    assert done.stdout == "ndarray cpu\n0\n", done.stderr
