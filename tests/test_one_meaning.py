"""`check` in a notebook and `grade` of the same file say the same, however it is written."""

import contextlib
import io
import json
import os
import subprocess
import sys

import pytest

from tinydiff.course import exercises, submission, worker

IMPORTS = """import numpy as np
from tinydiff import diffusion, schedule
from tinydiff.diffusion import at, rates
from tinydiff.grade import check
"""
ANSWER = """def q_sample(s, x0, t, eps):
    signal, noise = rates(s, t, x0)
    return signal * x0 + noise * eps
"""
ROOTS = "at(np.sqrt(s.alpha_bar), t, x0) * x0 + at(np.sqrt(1 - s.alpha_bar), t, x0) * eps"
CHECK = "check(q_sample)"
STUB = "def q_sample(s, x0, t, eps):\n    raise NotImplementedError\n"
WRONG = ANSWER.replace("noise * eps", "noise**2 * eps")
MINE = ANSWER.replace("q_sample", "mine")
RATES = "from tinydiff.diffusion import rates\n"
MSE = """def mse(a, b):
    d = a - b
    return (d * d).mean(), lambda g: (2 * g * d / d.size, -2 * g * d / d.size)
"""
OP = "from tinydiff.autodiff import op\nfrom tinydiff.grade import check"
JUMP = "class Jump:\n    def __call__(self, s, x0, t, eps):\n        return " + ROOTS
MAKE = "def make():\n    def f(s, x0, t, eps):\n        return " + ROOTS + "\n    return f"


def uses(factor, *cells, after=()):
    """The answer with a factor before its noise, and the cells that give the factor its value."""
    return [
        IMPORTS,
        *cells,
        ANSWER.replace("noise * eps", f"{factor} * noise * eps"),
        CHECK,
        *after,
    ]


def written(*cells):
    return [IMPORTS, *cells, CHECK]


COUNT = "K = 0\ndef count():\n    global K\n    K += 1"
REGISTRY = "ALL = {}\ndef register(f):\n    ALL[f.__name__] = f\n    return f"
PAIR = """def make():
    state = [0]
    return lambda: state[0], lambda value: state.__setitem__(0, value)
get, put = make()"""

# name: (state, cells); some with a file beside the notebook, named in FILES
FORMS = {
    "plain": ("passed", uses("1")),
    "two names in a line": ("passed", uses("ONE", "ONE, TWO = 1, 2")),
    "annotated": ("passed", uses("2 * HALF", "HALF: float = 0.5")),
    "walrus": ("passed", uses("ONE", "(ONE := 1)")),
    "a NumPy scalar": ("passed", uses("ONE", "ONE = np.float32(1)")),
    "partial helper": (
        "passed",
        uses("one()", "from functools import partial\none = partial(lambda a: a, 1)"),
    ),
    "namedtuple": (
        "passed",
        uses("R(1).n", "import collections\nR = collections.namedtuple('R', 'n')"),
    ),
    "generator of numbers": (
        "passed",
        uses(
            "K",
            "r = np.random.default_rng(0)",
            "K = r.random()\nK = round(r.random() / 0.2697867, 4)",
        ),
    ),
    "dataclass, postponed annotations": (
        "passed",
        uses(
            "C().k",
            "from __future__ import annotations",
            "from dataclasses import dataclass\n@dataclass\nclass C:\n    k: Unknown = 1",
        ),
    ),
    "import in try": (
        "passed",
        ["try:\n    import numpy as np\nexcept ImportError:\n    np = None", *uses("1")],
    ),
    "answer in if": ("passed", written("if True:\n    " + ANSWER.replace("\n", "\n    "))),
    "filled later": ("passed", uses("W['k']", "W = {}", "W['k'] = 1")),
    "filled under another name": ("passed", uses("W['k']", "W = {}\nV = W", "V['k'] = 1")),
    "filled by a function": (
        "passed",
        uses("W['k']", "W = {}\ndef fill(d):\n    d['k'] = 1", "fill(W)"),
    ),
    "appended twice": ("failed", uses("len(W)", "W = []", "W.append(1)", "W.append(1)")),
    "counted up": ("passed", uses("K", "K = 0\nK += 1")),
    "counted by a function": ("passed", uses("K", COUNT, "count()")),
    "counted twice": ("failed", uses("K", COUNT, "count()", "count()")),
    "a loop's name": ("failed", uses("k", "for k in range(3):\n    pass")),
    "attribute set later": ("passed", uses("C.k", "class C:\n    pass\nC.k = 1")),
    "state in closures": ("passed", uses("get()", PAIR, "put(1)")),
    "registered by a decorator": (
        "passed",
        uses("ALL['one']()", REGISTRY, "@register\ndef one():\n    return 1"),
    ),
    "used again below": ("passed", uses("K", "K = 1", after=["K = 2"])),
    "used again in the same cell": ("passed", [*uses("K", "K = 1")[:-1], f"{CHECK}\nK = 2"]),
    "helper written anew below": (
        "passed",
        uses("h()", "def h():\n    return 1", after=["def h():\n    return 2"]),
    ),
    "a name is deleted": ("failed", [*uses("K", "K = 1")[:-1], "del K", CHECK]),
    "a failing cell keeps the old value": ("passed", uses("K", "K = 1", "K = 1 / 0")),
    "a failing star": ("passed", ["from no_such_module import *", *uses("1")]),
    "a name that is missing": ("failed", uses("K", "import no_such_module as K")),
    "a broken version below": ("passed", [IMPORTS, ANSWER, "def q_sample(:\n    pass", CHECK]),
    "%%time and %time": ("passed", [IMPORTS, "%time ONE = 1", "%%time\n" + ANSWER, CHECK]),
    "shell and help": ("passed", written("files = !ls\n" + ANSWER + "np.sqrt?\n")),
    "%%script": ("passed", written(ANSWER, "%%script false\n" + WRONG)),
    "%%writefile": (
        "passed",
        uses("one()", "%%writefile h1.py\ndef one():\n    return 1", "from h1 import *"),
    ),
    "a module beside it": ("passed", uses("h2.one()", "import h2")),
    "%run": ("passed", uses("one()", "%run h2.py")),
    "answer from a module": ("passed", written("from h3 import q_sample")),
    "display, get_ipython": ("passed", uses("1", "K = get_ipython()\ndisplay(K)")),
    "__main__": ("passed", uses("K", "if __name__ == '__main__':\n    K = 1")),
    "seterr": ("failed", uses("(np.ones(1) / np.zeros(1) > 0)", "np.seterr(all='raise')")),
    "lambda": ("passed", written("q_sample = lambda s, x0, t, eps: " + ROOTS)),
    "another name": ("passed", written(MINE, "q_sample = mine")),
    "another name, wrong": (
        "failed",
        written(MINE.replace("noise *", "noise**2 *"), "q_sample = mine"),
    ),
    "from a dict": ("passed", written(MINE, "all_of_them = {1: mine}\nq_sample = all_of_them[1]")),
    "callable object": ("passed", written(JUMP, "q_sample = Jump()")),
    "factory": ("passed", written(MAKE, "q_sample = make()")),
    "partial": ("passed", written(MINE, "from functools import partial\nq_sample = partial(mine)")),
    "the stub below": ("passed", [IMPORTS, ANSWER, CHECK, STUB]),
    "only the stub": ("not attempted", written(STUB)),
    "wrong below": ("failed", [IMPORTS, ANSWER, CHECK, WRONG, CHECK]),
    "op afterwards": ("passed", [OP, MSE, "mse = op(mse)", "check(mse)"]),
}
FILES = {
    "h2.py": "def one():\n    return 1\n",
    "h3.py": RATES + ANSWER,
}
QUICK = (
    "plain",
    "filled later",
    "counted twice",
    "used again below",
    "the stub below",
    "from a dict",
)


def notebook(folder, cells):
    made = [{"cell_type": "code", "source": text} for text in cells]
    path = folder / "work.ipynb"
    path.write_text(json.dumps({"cells": made}), encoding="utf-8")
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    return path


def run_by_hand(path):
    """Run a notebook's cells one by one, as a student does, and print what the last check said."""
    import types

    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    from tinydiff.course import grade

    states, real = [], grade.judge
    grade.judge = lambda *args: states.append(real(*args)) or states[-1]
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    shell = InteractiveShell.instance(
        config=Config({"HistoryManager": {"enabled": False}}),
        user_module=module,
        user_ns=vars(module),
    )
    os.chdir(os.path.dirname(path))
    sys.path.insert(0, "")
    cells = json.loads(open(path, encoding="utf-8").read())["cells"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for cell in cells:
            shell.run_cell(cell["source"], store_history=False)
    print(states[-1].state if states else "never checked")


def each_form(name):
    return pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)


@pytest.mark.parametrize("name", [each_form(name) for name in FORMS])
def test_grade_says_what_check_says(name, tmp_path):
    pytest.importorskip("IPython")
    state, cells = FORMS[name]
    path = notebook(tmp_path, cells)
    asked = exercises.find("mse" if "check(mse)" in cells else "q_sample")
    graded = worker.grade_one([submission.read(path)], asked).verdict
    (tmp_path / "h1.py").unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, __file__, str(path)], capture_output=True, text=True, cwd=exercises.ROOT
    )
    assert (graded.state, done.stdout.strip()) == (state, state), f"{graded}\n{done.stderr[-900:]}"


if __name__ == "__main__":
    run_by_hand(sys.argv[1])
