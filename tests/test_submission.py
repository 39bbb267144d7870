"""Whole files graded: a hostile or clumsy one costs its own points and nothing else."""

import ast
import csv
import json
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tinydiff.course import cells, exercises, submission, worker

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
    said = {"secret": "", "state": "passed", "lines": [], "seconds": 0}
    open("report.json", "w").write(json.dumps(said))
    os._exit(0)"""

NUMBER = 'open("report.json", "w").write("1"); __import__("os")._exit(0)'
PIPE = "import os, sys; os.mkfifo('report.json'); os._exit(0)"

HELPER = "import test_diffusion as t_; t_.check_linear_in_both"
CODE = f"{HELPER}.__code__ = (lambda f, expected, first=1: None).__code__"
CHECKS = "import test_diffusion as t_; t_.CHECKS['q_sample'] = lambda f: None"
JUDGE = "from tinydiff.course import grade, judge; grade.judge = judge._restore = lambda *a: None"
OWN = """from tinydiff import diffusion
def q_sample(s, x0, t, eps):
    return diffusion.q_sample(s, x0, t, eps)
"""
OWN_IMPORTED = """from tinydiff.diffusion import q_sample as theirs
def q_sample(s, x0, t, eps):
    return theirs(s, x0, t, eps)
"""

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
    "pytest.skip": (right("import pytest; pytest.skip('not today')"), "does not count as passed"),
    "huge allocation": (right("np.ones(10**12)"), "Memory"),
    "many allocations": (right("x = [np.empty(1 << 25) for _ in range(10**4)]"), "MemoryError"),
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
        right(f"{HELPER} = lambda *a, **k: None", "x0"),
        "it replaced test_diffusion.",
    ),
    "test's code rewritten": (right(CODE, "x0"), "it replaced test_diffusion."),
    "list of tests rewritten": (right(CHECKS, "x0"), "it replaced test_diffusion."),
    "judge rewritten": (right(JUDGE, "x0"), "it replaced tinydiff.course."),
    "the package's own": (OWN, "it calls the package's own q_sample"),
    "the package's own, imported": (OWN_IMPORTED, "it calls the package's own q_sample"),
    "its input": (right(value="x0"), "called   q_sample("),
    "a constant": (right(value="0.0"), "called   q_sample("),
    "in place": (right("x0 *= 1.0; x0 += 1", "x0"), "changes its input x0 in place"),
    "wrong shape": (right(value="(signal * x0 + noise * eps)[None]"), "shape (1, "),
    "the last definition counts": (right() + right(value="x0"), "called   q_sample("),
    "a name that is not defined": (right(value="signl * x0"), "NameError in line 7"),
    "wrong number of arguments": ("def q_sample(x0, t):\n    return x0\n", "TypeError"),
}

NAMES = "HALF = 0.5\nhelper = lambda a: a\nclass S:\n    one = 1\n\ndef q_sample"
NOT_RUN = "import no_such_module\nopen('/no/such/file')\ncheck(q_sample)\nraise SystemExit\n"
DECORATED = """import functools
def same(f):
    return functools.wraps(f)(lambda *a: f(*a))

@same
def q_sample(s, x0: np.ndarray, t: int, eps) -> np.ndarray:"""
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
    ).replace("def q_sample", NAMES),
    "what is not needed is not run": right() + NOT_RUN,
    "decorators and annotations": right().replace("def q_sample(s, x0, t, eps):", DECORATED),
}


def judged(folder, name, text, seconds=30.0):
    """Grade q_sample in a file of this text and name: -> Verdict"""
    plain = name.replace(" ", "_").replace("'", "").replace(",", "")
    path = folder / (plain + (".ipynb" if text.lstrip().startswith("{") else ".py"))
    path.write_text(text, encoding="utf-8")
    return worker.grade_one([submission.read(path)], Q_SAMPLE, seconds).verdict


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory, request):
    """Grade all that are asked for, two at a time: each is a process -> dict of name to Verdict"""
    items = [item for item in request.session.items if item.path == request.path]
    asked = {item.callspec.params.get("name") for item in items if hasattr(item, "callspec")}
    texts = {name: text for name, (text, _) in FAILING.items()} | PASSING
    folder, seconds = tmp_path_factory.mktemp("files"), lambda name: 4.0 if "loop" in name else 30.0
    with ThreadPoolExecutor(2) as pool:
        jobs = {
            name: pool.submit(judged, folder, name, text, seconds(name))
            for name, text in texts.items()
            if name in asked
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
    "the package's own",
    "its input",
    "in place",
    "the last definition counts",
    "decorators and annotations",
    "plain",
)


def slow_too(names):
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", slow_too(FAILING))
def test_costs_its_points(name, verdicts):
    assert verdicts[name].state == "failed"
    assert FAILING[name][1] in str(verdicts[name])


@pytest.mark.parametrize("name", slow_too(PASSING))
def test_does_no_harm(name, verdicts):
    assert str(verdicts[name]) == "diffusion.q_sample: passed"


def test_nothing_that_was_started_lives_on(tmp_path):
    """A process that the submission leaves behind is ended with it."""
    mark = f"left behind {time.monotonic_ns()}"
    child = f"import time; time.sleep(60)  # {mark}"
    popen = f"__import__('subprocess').Popen([{sys.executable!r}, '-c', {child!r}])"
    start = f"q_sample.child = getattr(q_sample, 'child', None) or {popen}"
    runs = "assert q_sample.child.poll() is None"
    assert judged(tmp_path, "child", right(f"{start}; {runs}")).state == "passed"
    words = [_read(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert any(words) and not any(mark.encode() in each for each in words)


def _read(path):
    try:
        return path.read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


# --- notebooks ---


def notebook(*cells):
    """Write cells of code as a notebook: -> str"""
    cells = [{"cell_type": "code", "source": text.splitlines(True)} for text in cells]
    return json.dumps({"cells": cells, "nbformat": 4})


HEAD, BODY = right().split("def q_sample")
BODY = "def q_sample" + BODY


def in_notebook(tmp_path, *cells):
    path = tmp_path / "work.ipynb"
    path.write_text(notebook(*cells), encoding="utf-8")
    found = submission.read(path)
    return found, worker.grade_one([found], Q_SAMPLE).verdict


def test_cells_in_any_order_copied_and_with_magics(tmp_path):
    magics = "%%time\n%matplotlib inline\n!pip list\nx = 3"
    cells = (BODY.replace("signal *", "2 *"), "check(q_sample)", BODY, "?q_sample", HEAD)
    found, verdict = in_notebook(tmp_path, magics, *cells)
    assert verdict.state == "passed"
    assert found.places["q_sample"][0] == "work.ipynb cell 4"


def test_a_cell_split_in_two_is_a_failure_with_its_line(tmp_path):
    first, second = BODY.split("    return")
    first = first.replace("    pass\n", "    x = (\n")
    _, verdict = in_notebook(tmp_path, HEAD, first, "    return" + second, "y = 1")
    assert verdict.state == "failed"
    assert "work.ipynb cell 2, line 3: SyntaxError" in str(verdict)


def test_a_function_apart_from_its_helpers(tmp_path):
    answer = BODY.replace("noise * eps", "2 * half(noise) * eps")
    _, verdict = in_notebook(tmp_path, HEAD, "def half(a):\n    return a / 2", answer)
    assert verdict.state == "passed"


def test_a_broken_cell_elsewhere_does_no_harm(tmp_path):
    found, verdict = in_notebook(tmp_path, HEAD, BODY, "def other(:\n    pass")
    assert verdict.state == "passed"
    assert "cell 3, line 1" in found.broken["other"]


def test_an_untouched_exercise_is_not_attempted(tmp_path):
    cell = 'def q_sample(s, x0, t, eps):\n    """Jump."""\n    raise NotImplementedError'
    assert str(in_notebook(tmp_path, cell)[1]) == "diffusion.q_sample: not attempted"
    assert in_notebook(tmp_path, "x = 1")[1].state == "not attempted"
    assert in_notebook(tmp_path, "q_sample = None")[1].state == "not attempted"


# --- what is run, and what is said of the rest ---


def read_cells(tmp_path, *cells):
    path = tmp_path / "work.ipynb"
    path.write_text(notebook(*cells), encoding="utf-8")
    return submission.read(path)


def lines_run(found, name="q_sample"):
    """List the first lines of what is run for an answer."""
    return [ast.unparse(step.node).splitlines()[0] for step in found.steps(name)]


def test_only_what_the_answer_needs_is_run(tmp_path):
    plots = "import matplotlib.pyplot as plt\nfor t in range(3):\n    plt.plot(np.ones(t))"
    training = "model = train(9)\nlosses = [model.step() for _ in range(10**6)]"
    answer = "def q_sample(t):\n    return K * t"
    work = ("import numpy as np", "K = 1", plots, "K += 1", training, answer, "check(q_sample)")
    found = read_cells(tmp_path, *work)
    assert lines_run(found) == ["K = 1", "K += 1", "def q_sample(t):"]


def test_a_block_is_run_without_its_checks(tmp_path):
    block = "if True:\n    K = 1\n    check(q_sample)\n    display(K)"
    found = read_cells(tmp_path, block, "def q_sample():\n    return K")
    assert found.build("q_sample")() == 1 and not found.explained("").strip()


def test_what_stands_below_is_run_first_where_it_is_needed(tmp_path):
    answer = "@twice\ndef q_sample():\n    return 2"
    found = read_cells(tmp_path, answer, "def twice(f):\n    return lambda: K * f()", "K = 2")
    assert found.build("q_sample")() == 4


def test_a_missing_name_is_explained_by_the_cell_that_failed(tmp_path):
    answer = "def q_sample():\n    return K"
    found = read_cells(tmp_path, "K = 1 / 0", "def K(:\n    pass", answer)
    found.build("q_sample")
    said = found.explained("name 'K' is not defined")
    assert said.endswith("; work.ipynb cell 1, line 1: ZeroDivisionError: division by zero")
    found = read_cells(tmp_path, "L = = 1", answer.replace("K", "L"))
    assert "cell 1, line 1: SyntaxError" in found.explained("name 'L' is not defined")
    found = read_cells(tmp_path, answer)
    assert found.left_out("K") == "nothing in work.ipynb gives K a value"


def test_a_submission_travels_as_plain_data(tmp_path):
    found = read_cells(tmp_path, "%%writefile own.py\nK = 1", "from own import K", BODY)
    again = submission.Submission.from_cells("work.ipynb", found.cells, found.beside)
    assert pickle.loads(pickle.dumps(found)).cells == again.cells == found.cells
    assert again.beside == {"own.py": b"K = 1"} and again.digest("q_sample") == found.digest(
        "q_sample"
    )


def test_the_hash_follows_the_files_that_an_answer_imports(tmp_path):
    work = "from own import K", "def q_sample():\n    return K"
    hashes = set()
    for text in ("K = 1", "K = 2"):
        (tmp_path / "own.py").write_text(text)
        hashes.add(read_cells(tmp_path, *work).digest("q_sample"))
    assert len(hashes) == 2


LEFT_OUT = {  # what the answer's K is changed by, in ways that are not followed
    "a result that is kept": ["K = [1]", "def log(v):\n    K[0] = v\n    return v", "a = log(2)"],
    "another name": ["K = L = [1]", "L[0] = 2"],
    "a view": ["import numpy as np\nK = np.ones(1)", "v = K.reshape(-1)\nv[0] = 2"],
    "a container": ["K = [1]\nALL = [K]", "ALL[0][0] = 2"],
    "a class": ["K = [1]", "class A:\n    def __init__(self):\n        K[0] = 2", "a = A()"],
    "a call for effect": ["K = [0]\nput = K.__setitem__", "list(map(put, [0], [2]))"],
    "code in a text": ["K = [1]", "exec('K[0] = 2', {'K': K})"],
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_the_generous_choice_holds_what_has_to_do_with_it(name, tmp_path):
    others = "check(q_step)", "q_sample(3)", "print(undefined)", "x = y = 1"
    answer = "def q_sample():\n    return K[0]"
    found = read_cells(tmp_path, *LEFT_OUT[name], *others, answer, "check(q_sample)", "K[0] = 3")
    assert found.has_more("q_sample") and found.build("q_sample")() != 2
    assert found.build("q_sample", generous=True)() == 2
    chosen = [ast.unparse(s.node) for s in found.steps("q_sample", generous=True)]
    assert not {*others, "K[0] = 3", "check(q_sample)"} & set(chosen)
    assert not read_cells(tmp_path, BODY, *others).has_more("q_sample")


FOUND_OUT = {
    "a file that gets longer": ["%%writefile h.py\nL = 1", "%%writefile -a h.py\nM = 2"]
    + ["%%writefile --append h.py\nK = L + 1", "from h import K, M"],
    "a file with a name": [
        "import numpy as np\nPATH = 'k.npy'\nnp.save(PATH, 2)\nK = int(np.load(PATH))"
    ],
    "NumPy's out": ["import numpy as np\nK = np.ones(())", "np.add(K, 1, out=K)"],
    "the environment": ["import os", "%env K=2", "K = int(os.environ['K'])"],
}


@pytest.mark.parametrize("name", FOUND_OUT)
def test_what_changes_a_value_is_found(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("K", "1")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    found = read_cells(tmp_path, *FOUND_OUT[name], "def q_sample():\n    return K")
    for file, content in found.beside.items():
        (tmp_path / file).write_bytes(content)
    assert found.build("q_sample")() == 2
    sys.modules.pop("h", None)


HOSTILE = {
    "blank lines": "def q_sample(:" + "\n" * 400_000 + "def q_step(): pass",
    "magics": "%time x\n%ls\n" * 3_000,
    "deep": "x = " + "-" * 100_000 + "1",
    "brackets": "(" * 100_000,
    "null": "\0",
    "aliases": "".join(f"f{k} = f{k + 1}\n" for k in range(500)) + "q_sample = f0",
    "a chain": "".join(f"x{k + 1} = x{k}\n" for k in reversed(range(500))) + "q_sample = x500",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_read_in_time(name, tmp_path):
    began = time.perf_counter()
    found = read_cells(tmp_path, HOSTILE[name])
    found.attempts("q_sample"), found.has("q_step")
    assert time.perf_counter() - began < 5  # it was minutes; blank lines take 0.1 s
    assert found.digest("q_sample")


def names(letter):
    return ", ".join(f"{letter}{k}" for k in range(2_500))


SLOW = {  # each took seconds, and four times as long where it was twice as long
    "a timed line": "%time x\n" + " " * 50_000 + "(\n",
    "one alias of another": "a0 = 1\n" + "".join(f"a{k + 1} = a{k}\n" for k in range(8_000)),
    "one alias of many": f"for {names('a')} in [{names('b')}]: {names('b')} = 1",
    "many checks": "q_sample = mk()\ncheck(q_sample)\n" * 6_000,
    "checks in a loop": "for f in fs:\n" + "  check(f)\n" * 6_000,
    "many makers": "def mk(): x\n" * 1_500 + "q_sample = mk()\n" * 1_500,
    "many stubs": "def q_sample(): raise NotImplementedError\n" * 2_000,
}


@pytest.mark.parametrize("name", SLOW)
def test_time_to_read_grows_with_the_length(name):
    began = time.process_time()
    text = cells.plain(SLOW[name])[0] + "\nq_sample = a0"
    assert submission.Submission("work.ipynb", [("cell 1", text)]).digest("q_sample")
    assert time.process_time() - began < 3


def test_much_code_is_read_apart(tmp_path, monkeypatch):
    """Of CPython's own parser, too: it needs a minute for an f-string as long as this."""
    lessons = (exercises.ROOT / "lessons").glob("*.ipynb")
    assert max(sum(len(t) for _, t in cells.cells_of(p)) for p in lessons) < submission.LARGE * 0.7
    long = read_cells(tmp_path, right(before="x = 1\n" * 12_000))
    assert long.attempts("q_sample")
    monkeypatch.setattr(submission, "PATIENCE", 0.5)
    with pytest.raises(submission.Unreadable, match=r"holds 600 KB .* 0\.5 seconds to read$"):
        read_cells(tmp_path, f"x = f'{'{a}' * 200_000}'")


STAR = "from helpers import *\nq_sample(1, 2, 3, 4)\ncheck(q_sample)"


@pytest.mark.parametrize(
    "line", [STAR, STAR.replace("*", "q_sample", 1), STAR.replace("h", "h.h", 1)]
)
def test_an_answer_from_a_file_in_the_same_zip(line):
    path, packed = Path("work.ipynb"), notebook(line).encode()
    place = "h/helpers.py" if "h.h" in line else "helpers.py"
    texts = [right(), right(value="x0")]
    alone = submission.read(path, packed)
    found = [alone.with_beside({place: t.encode(), "other.py": b"1"}) for t in texts]
    assert all(f.attempts("q_sample") and list(f.beside) == [place] for f in found)
    assert len({f.digest("q_sample") for f in [alone, *found]}) == 3
    assert alone.with_beside({"other.py": b"1", "helpers.txt": b""}) is alone


def test_limits_on_size_are_one_line(tmp_path, monkeypatch):
    path = tmp_path / "work.py"
    path.write_text("x = 1\n" * 100)
    monkeypatch.setattr(cells, "CODE", 99)
    with pytest.raises(submission.Unreadable, match="holds more than .* of code"):
        submission.read(path)
    monkeypatch.setattr(cells, "SIZE", 99)
    with pytest.raises(submission.Unreadable, match="is larger than .* clear its outputs"):
        submission.read(path)


# --- what stays out of reach, what stays in reach ---

CONV = "def conv2d(x, w):\n    return theirs(x, w)\n"


@pytest.mark.parametrize(
    "place, module",
    [
        ("tinydiff.kernels.winograd", "cpu_winograd"),
        pytest.param("tinydiff.kernels.cpu_winograd", "cpu_winograd", marks=pytest.mark.slow),
        pytest.param("tinydiff.kernels.cpu", "cpu", marks=pytest.mark.slow),
        pytest.param(".direct", "cpu_direct", marks=pytest.mark.slow),
        pytest.param(".ladder", "cpu_ladder", marks=pytest.mark.slow),
    ],
)
def test_other_kernel_sets_are_out_of_reach_under_any_name(tmp_path, place, module):
    path, exercise = tmp_path / "ada.py", exercises.find("conv2d")
    path.write_text(f"from {place} import conv2d as theirs\n\n{CONV}")
    verdict = worker.grade_one([submission.read(path)], exercise).verdict
    says = f"line 1: ModuleNotFoundError: import of tinydiff.kernels.{module} halted"
    assert verdict.state == "failed" and says in str(verdict)


def test_a_file_of_the_package_may_be_from_before_the_wings(tmp_path):
    """In version 0.1 edit.py stood beside kernels and sample, and imported from `.`"""
    path, use = tmp_path / "edit.py", "\n\ndef slerp(x, y, u):\n    return np, kernels, ddim\n"
    was = "import numpy as np\nfrom . import kernels\nfrom .sample import ddim"
    for imports in (was, was.replace("from .", "from ..")):
        path.write_text(imports + use)
        assert len(submission.read(path).build("slerp")(0, 0, 0)) == 3
    path.write_text("from .no_such_module import np, kernels, ddim" + use)
    with pytest.raises(submission.Unreadable, match="No module named 'tinydiff.design.no_such"):
        submission.read(path).build("slerp")


# --- the command ---


def pytest_grade(*args, cwd):
    command = [sys.executable, "-m", "pytest", *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=None, timeout=170)


UNTOUCHED = "\ndef q_step(s, x_prev, t, eps):\n    raise NotImplementedError\n"
V_TARGET = """
def v_target(s, x0, t, eps):
    signal, noise = rates(s, t, x0)
    return signal * eps - noise * x0
"""


def test_board_and_csv(tmp_path):
    """One file, three exercises: one right, one wrong, one untouched, the rest absent."""
    path, table = tmp_path / "ada.py", tmp_path / "grades.csv"
    path.write_text(right(value="signal * x0 + noise**2 * eps") + UNTOUCHED + V_TARGET)
    done = pytest_grade("--grade", path, "--grade-csv", table, cwd=exercises.ROOT)
    assert done.returncode == 1 and done.stderr == ""
    rows = [line for line in done.stdout.splitlines() if " / 1" in line and line[:2] == "  "]
    lines = {line.split()[0]: line for line in rows}
    every, there = exercises.exercises(), ("q_sample", "q_step", "v_target")
    begun = {e.lesson for e in every if e.function in there}
    others = {e.lesson for e in every} - begun
    assert set(lines) == {e.function for e in every if e.lesson in begun}
    assert done.stdout.count("exercises is in this file") == len(others)
    assert "1 / 1  passed" in lines["v_target"] and "ada.py #" in lines["v_target"]
    assert "0 / 1  failed" in lines["q_sample"]
    assert "you scaled the noise by 1 - alpha_bar" in done.stdout
    assert "- / 1  not attempted" in lines["q_step"] and "- / 1  not attempted" in lines["linear"]
    assert f"points: 1 of {len(every)} (" in done.stdout
    table = {row["exercise"]: row for row in csv.DictReader(table.open(encoding="utf-8"))}
    passed, failed = table["diffusion.v_target"], table["diffusion.q_sample"]
    assert len(table) == len(every)
    assert (passed["points"], failed["points"]) == ("1", "0")
    assert len(failed["hash"]) == 12 and failed["hash"] != passed["hash"]


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("missing.py", None, "cannot be read"),
        ("broken.ipynb", b"{}", "is not a notebook (it has no cells)"),
        ("cut.ipynb", b'{"cells": [', "is not a notebook (not valid JSON)"),
        ("bytes.py", b"\xff\xfe\x00", "is not a text (it is not UTF-8)"),
    ],
)
def test_a_file_that_cannot_be_graded_is_one_line(tmp_path, name, content, says):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    done = pytest_grade("--grade", path, cwd=exercises.ROOT)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and says in done.stderr and str(path) in done.stderr
