"""What an answer does while it is graded: tricks gain no point, harm ends in the sandbox."""

import json
import os
import subprocess
import sys
import time

import pytest

from tinydiff.course import exercises, sandbox, submission, worker

Q_SAMPLE = exercises.find("q_sample")
WRONG = "def q_sample(s, x0, t, eps):\n    return x0\n"
RIGHT = """from tinydiff.diffusion import rates

def q_sample(s, x0, t, eps):
    {first}
    signal, noise = rates(s, t, x0)
    return signal * x0 + noise * eps
"""


def verdict_of(tmp_path, text, seconds=20.0, name="ada"):
    path = tmp_path / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    return worker.grade_one([submission.read(path)], Q_SAMPLE, seconds).verdict


def in_class(*lines):
    """Run lines in a class body, before the tests run: -> the answer's text"""
    body = "".join(f"    {line}\n" for line in lines)
    return f"class Early:\n{body}\n" + WRONG.replace("    return", "    Early\n    return")


def calling(expression):
    return f"def q_sample(s, x0, t, eps):\n    return ({expression})(s, x0, t, eps)\n"


FIND = "__import__('tinydiff.course.exercises', fromlist=['x'])"
FRAMES = """import sys
def q_sample(s, x0, t, eps):
    frame = sys._getframe()
    while frame:
        for name, value in list(frame.f_locals.items()):
            if name in ("state", "lines", "problem", "reports"):
                pass
        frame = frame.f_back
    return x0
"""
FORGED = """import json, os
def q_sample(s, x0, t, eps):
    said = {"state": "passed", "lines": [], "seconds": 0.1, "used": []}
    line = json.dumps(said | {"exercise": "diffusion.q_sample", "test": ""})
    for number in range(3, 64):
        try:
            os.write(number, (line + "\\n[]\\n").encode())
        except OSError:
            pass
    os._exit(0)
"""
PIPES = """import json, os
from pathlib import Path
def q_sample(s, x0, t, eps):
    said = {"state": "passed", "lines": [], "seconds": 0.1, "used": []}
    line = json.dumps(said | {"exercise": "diffusion.q_sample", "test": ""}) + "\\n"
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if path.parts[2] != str(os.getpid()) and os.readlink(path).startswith("pipe:"):
                os.write(os.open(path, os.O_WRONLY | os.O_NONBLOCK), line.encode())
        except OSError:
            pass
    return x0
"""
REPORT = """import json, os, sys
def q_sample(s, x0, t, eps):
    frame = sys._getframe()
    while "report" not in frame.f_locals or not isinstance(frame.f_locals["report"], int):
        frame = frame.f_back
    said = {{"state": {state}, "lines": {lines}, "seconds": 0.1, "used": []}}
    line = json.dumps(said | {{"exercise": "diffusion.q_sample", "test": ""}})
    os.write(frame.f_locals["report"], (line + "\\n[]\\n").encode())
    os._exit(0)
"""
RESOURCE = """%%writefile resource.py
import sys, types
f = sys.modules["tinydiff.diffusion"].q_sample
sys.kept = types.FunctionType(f.__code__, vars(sys.modules["tinydiff.diffusion"]))
raise ImportError
"""
KEPT = "import sys\ndef q_sample(s, x0, t, eps):\n    return sys.kept(s, x0, t, eps)\n"
YES = """import numpy as np
class Yes(np.ndarray):
    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        return True
def q_sample(s, x0, t, eps):
    return np.asarray(x0).view(Yes)
"""
SAYS_YES = """class Yes:
    def __getattr__(self, name):
        return Yes()
    def __call__(self, *args):
        return Yes()
    def __eq__(self, other):
        return True
    def __array__(self, dtype=None, copy=None):
        raise TypeError("no")
    __add__ = __sub__ = __rsub__ = __mul__ = __getitem__ = __lt__ = __le__ = __abs__ = __eq__
def q_sample(s, x0, t, eps):
    return Yes()
"""
SOURCE = """import tinydiff, pathlib
def q_sample(s, x0, t, eps):
    for folder in [*tinydiff.__path__, {root!r}]:
        for path in pathlib.Path(folder).rglob("diffusion.py"):
            scope = {{"__name__": "tinydiff.diffusion", "__package__": "tinydiff"}}
            exec(path.read_text(), scope)
            return scope["q_sample"](s, x0, t, eps)
"""
AGAIN = """import sys
sys.modules.pop("tinydiff.diffusion")
import tinydiff.diffusion as again
def q_sample(s, x0, t, eps):
    return again.q_sample(s, x0, t, eps)
"""
COLLECTED = """import gc, types
def q_sample(s, x0, t, eps):
    for f in gc.get_objects():
        if type(f) is types.FunctionType and f.__name__ == "q_sample" and f is not q_sample:
            if f.__module__ == "tinydiff.diffusion":
                return f(s, x0, t, eps)
"""
HELPER = """import sys
def q_sample(s, x0, t, eps):
    here, k = sys._getframe(), 0
    while here:
        for f in list(here.f_locals.values()) + list(here.f_globals.values()):
            try:
                found = f(s, x0, t, eps) if callable(f) and f is not q_sample else None
                if getattr(found, "shape", 0) == x0.shape:
                    return found
            except Exception:
                pass
        here = here.f_back
    return x0
"""
NUMPY = "np.allclose = np.array_equal = np.testing.assert_allclose = lambda *a, **k: True"

TRICKS = {
    "the original": calling(f"{FIND}.original({FIND}.find('q_sample'))"),
    "what is noted of it": calling(f"{FIND}._originals['diffusion.q_sample']"),
    "what stood there": calling(
        f"[f for (m, n), f in {FIND}._twins.items() if n == 'q_sample'][0]"
    ),
    "a mutant": calling(f"(lambda e: {FIND}.mutant(e, 'noise', 'noise'))({FIND}.find('q_sample'))"),
    "the source on the disk": SOURCE.format(root=str(exercises.ROOT)),
    "a second import": AGAIN,
    "a search of the memory": COLLECTED,
    "a reload in a class body": in_class(
        "import importlib, tinydiff.diffusion", "importlib.reload(tinydiff.diffusion)"
    ),
    "numpy replaced in a class body": in_class("import numpy as np", NUMPY),
    "builtins replaced in a class body": in_class(
        "import builtins", "builtins.abs = lambda x: 0", "builtins.all = lambda x: True"
    ),
    "the judge replaced in a class body": in_class(
        "from tinydiff.course import judge", "judge.Trial.verdict = judge.Trial._run = None"
    ),
    "pytest's reports replaced": in_class(
        "import _pytest.reports as r", "r.TestReport.outcome = property(lambda self: 'passed')"
    ),
    "the report forged": FORGED,
    "others' pipes": PIPES,
    "a state that is none": REPORT.format(state="'passed\\x1b[2J'", lines="[]"),
    "lines that are none": REPORT.format(state="'failed'", lines="[['why', 5], ['x', None]]"),
    "an array that says yes": YES,
    "an object that says yes": SAYS_YES,
    "the tests' own helper": HELPER,
    "an error whose text raises": (
        "class Odd(Exception):\n    def __str__(self):\n        raise Odd()\n\n"
        "def q_sample(s, x0, t, eps):\n    raise Odd()\n"
    ),
}
QUICK = ("the original", "numpy replaced in a class body", "the report forged")
NEED_WALLS = ("others' pipes",)  # root may write into them, where nothing shuts it in


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in TRICKS]
)
def test_a_trick_gains_nothing(name, tmp_path):
    if name in NEED_WALLS and not sandbox._bubblewrap():
        pytest.skip("needs bubblewrap")
    assert verdict_of(tmp_path, TRICKS[name]).state == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["numpy replaced in a class body", "the report forged"])
def test_the_same_without_bubblewrap(name, tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "_bubblewrap", lambda: "")
    assert verdict_of(tmp_path, TRICKS[name]).state == "failed"


# --- harm ---

needs_walls = pytest.mark.skipif(not sandbox._bubblewrap(), reason="needs bubblewrap")
TRIES = """import os, pathlib, socket
def attempt(what):
    try:
        what()
        return True
    except Exception:
        return False
def all_of_it():
    return [
        attempt(lambda: pathlib.Path({root!r}, "tests", "new.py").write_text("x")),
        attempt(lambda: pathlib.Path({folder!r}, "ben.py").read_text()),
        attempt(lambda: pathlib.Path({folder!r}, "ben.py").write_text("x")),
        attempt(lambda: os.kill({pid}, 0)),
        attempt(lambda: socket.create_connection(("127.0.0.1", {port}), 1)),
        attempt(lambda: pathlib.Path(os.path.expanduser("~root"), "x").write_text("x")),
        attempt(lambda: pathlib.Path("/var/tmp/tinydiff_was_here").write_text("x")),
        "SECRET_OF_THE_INSTRUCTOR" in os.environ,
    ]
"""


@needs_walls
def test_nothing_outside_can_be_seen_or_changed(tmp_path, monkeypatch):
    import socket

    monkeypatch.setenv("SECRET_OF_THE_INSTRUCTOR", "1")
    (tmp_path / "ben.py").write_text("theirs")
    with socket.create_server(("127.0.0.1", 0)) as server:
        text = TRIES.format(
            root=str(exercises.ROOT),
            folder=str(tmp_path),
            pid=os.getpid(),
            port=server.getsockname()[1],
        )
        says = "raise ValueError(str(all_of_it()))"
        verdict = verdict_of(tmp_path, text + RIGHT.format(first=says))
    assert "ValueError" in str(verdict) and str([False] * 8) in str(verdict)
    assert (tmp_path / "ben.py").read_text() == "theirs"


SURVIVOR = """import os, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.environ.clear()
            os.execv({python!r}, [{python!r}, "-c", {code!r}])
        os._exit(0)
    time.sleep(0.2)"""


@pytest.mark.parametrize("walls", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_nothing_that_was_started_lives_on(walls, tmp_path, monkeypatch):
    if not walls:
        monkeypatch.setattr(sandbox, "_bubblewrap", lambda: "")
    number = f"{time.time_ns()}"
    first = SURVIVOR.format(python=sys.executable, code=f"import time; time.sleep(600) #{number}")
    verdict = verdict_of(tmp_path, RIGHT.format(first=first), 60.0)
    assert verdict.state == "passed"
    done = subprocess.run(["pgrep", "-f", number], capture_output=True, text=True)
    assert done.stdout == ""


def test_the_environment_changes_no_verdict(tmp_path, monkeypatch):
    for name, value in {
        "PYTEST_ADDOPTS": "--color=yes -n 2",
        "PYTEST_PLUGINS": "no_such_plugin",
        "NUMBA_DISABLE_JIT": "1",
        "PYTHONOPTIMIZE": "2",
        "PYTHONWARNINGS": "error",
        "TINYDIFF_KERNELS": "cuda",
    }.items():
        monkeypatch.setenv(name, value)
    assert verdict_of(tmp_path, RIGHT.format(first="pass")).state == "passed"


def test_a_shortage_of_the_machine_is_not_the_students_failure(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sandbox.tempfile, "mkdtemp", full)
    verdict = verdict_of(tmp_path, RIGHT.format(first="pass"))
    assert verdict.state == "cannot be graded" and "No space left on device" in str(verdict)


def test_a_python_that_does_not_start_is_not_the_students_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "BEGIN", "raise SystemExit(3)")
    verdict = verdict_of(tmp_path, RIGHT.format(first="pass"))
    assert verdict.state == "cannot be graded" and "did not start" in str(verdict)


@pytest.mark.slow
def test_where_python_cannot_fork_the_answer_is_graded_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "FORKS", False)
    assert verdict_of(tmp_path, RIGHT.format(first="pass")).state == "passed"
    assert "called   q_sample(" in str(verdict_of(tmp_path, WRONG))
    ended = verdict_of(tmp_path, "import os\ndef q_sample(*a):\n    os._exit(0)\n")
    assert ended.state == "failed" and "it ended the process" in str(ended)
    loop = verdict_of(tmp_path, "def q_sample(*a):\n    while True: pass\n", 3.0)
    assert loop.state == "failed" and "endless loop" in str(loop)


def test_one_students_answers_share_a_sandbox_and_nothing_else(tmp_path):
    """What one exercise changes, its process takes with it."""
    linear = exercises.find("linear")
    spoil = in_class("import tinydiff.schedule, numpy", "tinydiff.schedule.Schedule = None")
    (tmp_path / "a.py").write_text("import numpy as np\n" + spoil.replace("q_sample", "linear"))
    (tmp_path / "b.py").write_text(RIGHT.format(first="pass"))
    files = [submission.read(tmp_path / name) for name in ("a.py", "b.py")]
    first, second = worker.grade_student(files, [linear, Q_SAMPLE])
    assert (first.verdict.state, second.verdict.state) == ("failed", "passed")


def test_changes_to_the_graders_own_files_are_noticed(tmp_path, monkeypatch):
    assert sandbox.changed() == []
    tree = {"full/tests/test_worker.py": (b"what it was", 0), "bare/tinydiff/plot.py": (b"", 0)}
    monkeypatch.setattr(sandbox, "_tree", lambda: tree)
    assert sandbox.changed() == ["tests/test_worker.py"]


@pytest.mark.slow
def test_a_module_of_the_students_is_imported_after_the_reference_is_gone(tmp_path):
    cells = [{"cell_type": "code", "source": text} for text in (RESOURCE, KEPT)]
    path = tmp_path / "01_forward.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    verdict = worker.grade_one([submission.read(path)], Q_SAMPLE, 20.0).verdict
    assert verdict.state == "failed" and "has no attribute 'kept'" in str(verdict)


LIMITS = """import resource
def q_sample(s, x0, t, eps):
    names = ("RLIMIT_CPU", "RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_NPROC", "RLIMIT_NOFILE")
    raise ValueError([resource.getrlimit(getattr(resource, n))[1] > 0 for n in names])
"""


def test_all_limits_hold(tmp_path):
    assert str([True] * 5) in str(verdict_of(tmp_path, LIMITS))


@needs_walls
def test_a_class_is_hidden_wherever_it_lies(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "_hidden", set())
    walls = lambda: sandbox._walls("bwrap", [])
    monkeypatch.setattr(sandbox, "HIDDEN", ())
    folder = str(tmp_path / "class")
    assert folder not in walls()
    (tmp_path / "class").mkdir()
    sandbox.hide(tmp_path / "class")
    assert folder in walls()


KEPT_RESULT = """from tinydiff.diffusion import rates
seen = []
def log(value):
    seen.append(value)
    return value
scale = log({scale})
def q_sample(s, x0, t, eps):
    signal, noise = rates(s, t, x0)
    return signal * x0 + seen[0] * noise * eps
"""


def test_what_the_slice_overlooks_is_run_before_an_answer_fails(tmp_path):
    """That `log` changes a list shows nowhere in the line that calls it."""
    assert verdict_of(tmp_path, KEPT_RESULT.format(scale=1.0)).state == "passed"
    verdict = verdict_of(tmp_path, KEPT_RESULT.format(scale=2.0))
    assert verdict.state == "failed" and "IndexError" in str(verdict)
