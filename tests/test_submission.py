"""Whole files graded: hostile and clumsy ones, each of which may cost its own points and nothing else."""

import csv
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tinydiff.course import exercises, submission, worker

Q_SAMPLE = exercises.find("q_sample")
RIGHT = """import numpy as np
from tinydiff.diffusion import rates

def q_sample(s, x0, t, eps):
    signal, noise = rates(s, t, x0)
    {first}
    return {value}
"""


def right(first="pass", value="signal * x0 + noise * eps", before=""):
    return before + RIGHT.format(first=first, value=value)


FORGE = """__import__("json"); import glob, json, os, sys
    open(sys.argv[3], "w").write(json.dumps({"secret": "", "state": "passed", "lines": [], "seconds": 0}))
    os._exit(0)"""

NUMBER = 'open(__import__("sys").argv[3], "w").write("1"); __import__("os")._exit(0)'
PIPE = "import os, sys; os.mkfifo(sys.argv[3]); os._exit(0)"

# name: (text of a .py, what the verdict must say)
FAILING = {
    "endless loop": (right("while True: pass"), "did not finish within"),
    "sys.exit": (right("import sys; sys.exit(0)"), "SystemExit"),
    "os._exit": (right("import os; os._exit(0)"), "ended the process"),
    "os.kill": (right("import os; os.kill(os.getpid(), 9)"), "SIGKILL"),
    "forged report": (right(FORGE), "ended the process"),
    "a report that is a number": (right(NUMBER), "ended the process"),
    "a report that never ends": (right(PIPE), "ended the process"),
    "a signal without a name": (right("import os; os.kill(os.getpid(), 40)"), "signal 40"),
    "nested too deeply": (right(value="-" * 10**5 + "1"), "Error"),
    "interrupt": (right("raise KeyboardInterrupt"), "KeyboardInterrupt"),
    "pytest.exit": (right("import pytest; pytest.exit('done', 0)"), "stopped by Exit"),
    "pytest.skip": (right("import pytest; pytest.skip('not today')"), "no pass"),
    "huge allocation": (right("np.ones(10**12)"), "Memory"),
    "many allocations": (
        right("hoard = [bytearray(1 << 28) for _ in range(10**4)]"),
        "MemoryError",
    ),
    "missing import": (
        right(before="import numpyy as np2\n", value="np2.asarray(x0)"),
        "line 1: ModuleNotFoundError: No module named 'numpyy'",
    ),
    "syntax error": (right(value="signal * * x0"), "line 7: SyntaxError"),
    "bad indentation": (right(first="x = 1\n  y = 2"), "IndentationError"),
    "numpy rewritten": (
        right("np.allclose = np.array_equal = lambda *a, **k: True", "x0"),
        "it replaced numpy.",
    ),
    "builtins rewritten": (
        right("import builtins; builtins.abs = lambda x: 0", "x0"),
        "it replaced builtins.abs",
    ),
    "test rewritten": (
        right("import test_diffusion as t_; t_.check_linear_in_both = lambda *a, **k: None", "x0"),
        "it replaced test_diffusion.",
    ),
    "test's code rewritten": (
        right(
            "import test_diffusion as t_; t_.check_linear_in_both.__code__ = (lambda f, expected, first=1: None).__code__",
            "x0",
        ),
        "it replaced test_diffusion.",
    ),
    "list of tests rewritten": (
        right("import test_diffusion as t_; t_.CHECKS['q_sample'] = lambda f: None", "x0"),
        "it replaced test_diffusion.",
    ),
    "judge rewritten": (
        right("from tinydiff import grade; grade.judge = judge._restore = lambda *a: None", "x0"),
        "it replaced tinydiff.grade.",
    ),
    "the package's own": (
        "from tinydiff import diffusion\ndef q_sample(s, x0, t, eps):\n    return diffusion.q_sample(s, x0, t, eps)\n",
        "it calls the package's own q_sample",
    ),
    "the package's own, imported": (
        "from tinydiff.diffusion import q_sample as theirs\ndef q_sample(s, x0, t, eps):\n    return theirs(s, x0, t, eps)\n",
        "it calls the package's own q_sample",
    ),
    "its input": (right(value="x0"), "called   q_sample("),
    "a constant": (right(value="0.0"), "called   q_sample("),
    "in place": (right("x0 *= 1.0; x0 += 1", "x0"), "changes its input x0 in place"),
    "wrong shape": (right(value="(signal * x0 + noise * eps)[None]"), "shape (1, "),
    "the last definition counts": (right() + right(value="x0"), "called   q_sample("),
    "a name that is not defined": (right(value="signl * x0"), "NameError in line 7"),
    "wrong number of arguments": ("def q_sample(x0, t):\n    return x0\n", "TypeError"),
}
PASSING = {
    "plain": right(),
    "lines as web pages break them": right(before="x = 1  # one\u2028two\n"),
    "a byte order mark": "\ufeff" + right(),
    "a long sum": right(first="y = " + " + ".join(["1"] * 400)),
    "from a file of the package": right(before="from . import kernels\n"),
    "a line that begins with a percent sign": right(
        "x = (7\n    % 4)", "signal * x0 + (x - 2) * noise * eps"
    ),
    "a flood of output": right("print('x' * 10**6, flush=True)"),
    "warnings": right("import warnings; warnings.warn('mind the gap')"),
    "first wrong, then right": right(value="x0") + right(),
    "helpers, constants, classes": right(
        value="S.one * helper(signal) * x0 + HALF * 2 * noise * eps"
    ).replace(
        "def q_sample", "HALF = 0.5\nhelper = lambda a: a\nclass S:\n    one = 1\n\ndef q_sample"
    ),
    "what is not needed is not run": right()
    + "import no_such_module\nopen('/no/such/file')\ncheck(q_sample)\nraise SystemExit\n",
    "decorators and annotations": right().replace(
        "def q_sample(s, x0, t, eps):",
        "import functools\ndef same(f):\n    return functools.wraps(f)(lambda *a: f(*a))\n\n"
        "@same\ndef q_sample(s, x0: np.ndarray, t: int, eps) -> np.ndarray:",
    ),
}


def judged(folder, name, text, seconds=30.0):
    path = folder / (
        name.replace(" ", "_").replace("'", "").replace(",", "")
        + (".ipynb" if text.lstrip().startswith("{") else ".py")
    )
    path.write_text(text, encoding="utf-8")
    return worker.judge_apart(path, submission.read(path), Q_SAMPLE, seconds)


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory, request):
    """Grade all that are asked for, two at a time: each is a process."""
    asked = {
        item.callspec.params["name"]
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    }
    folder, everything = (
        tmp_path_factory.mktemp("files"),
        {k: v[0] for k, v in FAILING.items()} | PASSING,
    )
    everything = {name: text for name, text in everything.items() if name in asked}
    with ThreadPoolExecutor(2) as pool:
        jobs = {
            name: pool.submit(judged, folder, name, text, 4.0 if "loop" in name else 30.0)
            for name, text in everything.items()
        }
    return {name: job.result() for name, job in jobs.items()}


QUICK = (
    "endless loop",
    "forged report",
    "pytest.skip",
    "huge allocation",
    "syntax error",
    "numpy rewritten",
    "test rewritten",
)
QUICK += (
    "the package's own",
    "its input",
    "in place",
    "the last definition counts",
    "decorators and annotations",
    "plain",
)
slow_too = lambda names: [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names
]


@pytest.mark.parametrize("name", slow_too(FAILING))
def test_costs_its_points(name, verdicts):
    assert verdicts[name].state == "failed"
    assert FAILING[name][1] in str(verdicts[name])


@pytest.mark.parametrize("name", slow_too(PASSING))
def test_does_no_harm(name, verdicts):
    assert str(verdicts[name]) == "diffusion.q_sample: passed"


def test_nothing_that_was_started_lives_on(tmp_path):
    """A process that the submission leaves behind is ended with it."""
    mark = tmp_path / "alive"
    child = f"import time, pathlib\nwhile True:\n    pathlib.Path({str(mark)!r}).write_text(str(time.time())); time.sleep(0.05)"
    start = f"q_sample.child = getattr(q_sample, 'child', None) or __import__('subprocess').Popen([{sys.executable!r}, '-c', {child!r}])"
    verdict = judged(
        tmp_path,
        "child",
        right(
            start + f"; import os; os.path.exists({str(mark)!r}) or __import__('time').sleep(0.3)"
        ),
    )
    assert verdict.state == "passed" and mark.exists()
    time.sleep(0.2)
    last = mark.read_text()
    time.sleep(0.3)
    assert mark.read_text() == last


# --- notebooks ---


def notebook(*cells):
    return json.dumps(
        {
            "cells": [{"cell_type": "code", "source": text.splitlines(True)} for text in cells],
            "nbformat": 4,
        }
    )


HEAD, BODY = right().split("def q_sample")
BODY = "def q_sample" + BODY


def in_notebook(tmp_path, *cells):
    path = tmp_path / "work.ipynb"
    path.write_text(notebook(*cells), encoding="utf-8")
    return submission.read(path), worker.judge_apart(path, submission.read(path), Q_SAMPLE)


def test_cells_in_any_order_copied_and_with_magics(tmp_path):
    found, verdict = in_notebook(
        tmp_path,
        "%%time\n%matplotlib inline\n!pip list\nx = 3",
        BODY.replace("signal *", "2 *"),
        "check(q_sample)",
        BODY,
        "?q_sample",
        HEAD,
    )
    assert verdict.state == "passed"
    assert found.places["q_sample"][0] == "work.ipynb cell 4"


def test_a_cell_split_in_two_is_a_failure_with_its_line(tmp_path):
    first, second = BODY.split("    return")
    _, verdict = in_notebook(
        tmp_path, HEAD, first.replace("    pass\n", "    x = (\n"), "    return" + second, "y = 1"
    )
    assert verdict.state == "failed"
    assert "work.ipynb cell 2, line 3: SyntaxError" in str(verdict)


def test_a_function_apart_from_its_helpers(tmp_path):
    cells = (
        HEAD,
        "def half(a):\n    return a / 2",
        BODY.replace("noise * eps", "2 * half(noise) * eps"),
    )
    assert in_notebook(tmp_path, *cells)[1].state == "passed"


def test_a_broken_cell_elsewhere_does_no_harm(tmp_path):
    found, verdict = in_notebook(tmp_path, HEAD, BODY, "def other(:\n    pass")
    assert verdict.state == "passed"
    assert "cell 3, line 1" in found.broken["other"]


def test_an_untouched_exercise_is_not_attempted(tmp_path):
    cell = 'def q_sample(s, x0, t, eps):\n    """Jump."""\n    raise NotImplementedError'
    assert str(in_notebook(tmp_path, cell)[1]) == "diffusion.q_sample: not attempted"
    assert in_notebook(tmp_path, "x = 1")[1].state == "not attempted"
    assert in_notebook(tmp_path, "q_sample = None")[1].state == "not attempted"


# --- the command ---


def pytest_grade(*args, cwd):
    command = [sys.executable, "-m", "pytest", *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=None, timeout=170)


def test_board_and_csv(tmp_path):
    """One file, three exercises: one right, one wrong, one untouched, the rest absent; the board says so."""
    path, table = tmp_path / "ada.py", tmp_path / "grades.csv"
    path.write_text(
        right(value="signal * x0 + noise**2 * eps")
        + "\ndef q_step(s, x_prev, t, eps):\n    raise NotImplementedError\n"
        + "\ndef v_target(s, x0, t, eps):\n    signal, noise = rates(s, t, x0)\n    return signal * eps - noise * x0\n"
    )
    done = pytest_grade("--grade", path, "--grade-csv", table, cwd=exercises.ROOT)
    assert done.returncode == 1 and done.stderr == ""
    lines = {
        line.split()[0]: line
        for line in done.stdout.splitlines()
        if line.startswith("  ") and " / 1" in line
    }
    begun = {
        e.lesson for e in exercises.exercises() if e.function in ("q_sample", "q_step", "v_target")
    }
    assert set(lines) == {e.function for e in exercises.exercises() if e.lesson in begun}
    assert done.stdout.count("exercises is in this file") == len(
        {e.lesson for e in exercises.exercises()} - begun
    )
    assert "1 / 1  passed" in lines["v_target"] and "ada.py #" in lines["v_target"]
    assert (
        "0 / 1  failed" in lines["q_sample"]
        and "you scaled the noise by 1 - alpha_bar" in done.stdout
    )
    assert "- / 1  not attempted" in lines["q_step"] and "- / 1  not attempted" in lines["linear"]
    assert f"points: 1 of {len(exercises.exercises())} (" in done.stdout
    rows = {row["exercise"]: row for row in csv.DictReader(table.open(encoding="utf-8"))}
    assert len(rows) == len(exercises.exercises())
    assert (rows["diffusion.v_target"]["points"], rows["diffusion.q_sample"]["points"]) == (
        "1",
        "0",
    )
    assert len(rows["diffusion.q_sample"]["hash"]) == 12 != rows["diffusion.v_target"]["hash"]


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("missing.py", None, "cannot be read"),
        ("broken.ipynb", b"{}", "is no notebook"),
        ("cut.ipynb", b'{"cells": [', "is no notebook"),
        ("bytes.py", b"\xff\xfe\x00", "is no text"),
    ],
)
def test_a_file_that_cannot_be_graded_is_one_line(tmp_path, name, content, says):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    done = pytest_grade("--grade", path, cwd=exercises.ROOT)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and says in done.stderr and str(path) in done.stderr
