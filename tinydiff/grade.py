"""Is this answer right? The tests of an exercise are run with the student's function in the package's place.

    from tinydiff.grade import check, show
    show(diffusion.q_sample)    the package's code
    check(q_sample)             the verdict on yours

Exercises, their tests and their wrong answers: exercises.py. Why an answer is wrong: diagnosis.py. Whole files: submission.py.

Kernels of the graphics card are judged in a Python of their own, whose numba simulates a card; then on a card, if one is here.
"""

import ast
import base64
import importlib
import inspect
import json
import linecache
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import deque
from dataclasses import dataclass
from html import escape
from pathlib import Path
from traceback import walk_tb

from . import diagnosis
from .calls import REMEMBERED, attempt, stand_in
from .exercises import ROOT, exercises, find, in_handout, in_place, mutant, original, put, standing, untouched

KNOWN = 8  # first calls of a test of which a student's tree knows what comes out
PATIENCE = 60  # seconds for a kernel in a process of its own


@dataclass(frozen=True, repr=False)
class Verdict:
    """What came out: state is "passed", "failed", "not attempted" or "cannot be graded"; lines: (heading, text) that say why."""

    exercise: str
    state: str
    lines: tuple = ()
    seconds: float = 0.0

    def __repr__(self):
        return "\n".join([f"{self.exercise}: {self.state}", *(f"  {head:9s}{text}" for head, text in self.lines)])

    def _repr_html_(self):
        color = {"passed": "#2a7f3f", "failed": "#b3261e"}.get(self.state, "#666")
        rows = "".join(
            f"<tr><td style='text-align:left;vertical-align:top;color:#666'>{head}</td>"
            f"<td style='text-align:left;white-space:pre-wrap;max-width:60em'>{escape(text)}</td></tr>"
            for head, text in self.lines
        )
        title = f"<b style='color:{color}'>{escape(self.exercise)}: {self.state}</b>"
        return f"<div style='border-left:4px solid {color};padding:.3em 1em'>{title}<table>{rows}</table></div>"


class WrongAnswer(Exception):
    """Stops a notebook at a wrong answer, with the verdict in place of a traceback."""

    def _render_traceback_(self):
        return [str(self)]


# --- for lessons ---


def show(item):
    """Show the package's code of a function, class or module: () -> None. In a notebook in color."""
    source, first = inspect.getsourcelines(inspect.unwrap(item))
    place = Path(inspect.getsourcefile(inspect.unwrap(item))).resolve().relative_to(ROOT).as_posix()
    text = f"# {place}, line {max(first, 1)}\n" + "".join(source)
    if _in_notebook():
        from IPython.display import Code, display

        display(Code(text, language="python"))
    else:
        print(text)


def check(f, adopt=False, required=False):
    """Run the tests of an exercise on the student's function, and say how it went.

    f: function with the name of an exercise; adopt: a right answer then stands in the package's place until Python ends, as it
    always does in a student's tree, where the package's own is missing; required: not attempted is a wrong answer, too
    -> None, after showing "passed" or "not attempted"
    Raises WrongAnswer, with what was called, what came, what was expected and, if it is known, the slip; ValueError where f
    is no exercise, or the package's own function.
    """
    exercise = find(getattr(f, "__name__", repr(f)))
    if inspect.unwrap(f) is inspect.unwrap(original(exercise)):
        raise ValueError(f"this is the package's own {exercise.function}: define yours in a cell, then check it")
    verdict = judge(exercise, f)
    if verdict.state == "failed" or (required and verdict.state != "passed"):
        raise WrongAnswer(str(verdict))
    if verdict.state == "passed" and (adopt or untouched(inspect.getsource(inspect.unwrap(original(exercise))))):
        put(exercise, f)
    if _in_notebook():
        from IPython.display import display

        display(verdict)
    else:
        print(verdict)


def tell_what_is_missing():
    """In a notebook of a student's tree: answer a call of a function that is not written yet by one line. () -> None"""

    def handler(shell, kind, error, traceback, tb_offset=None):
        *_, (frame, _) = walk_tb(traceback)
        missing = next((e for e in exercises() if e.function == frame.f_code.co_name), None)
        if kind is NameError:
            print(f"{error}. Perhaps a cell above makes it, and could not run yet: once it can, run the cells from the top again.")
        else:
            print(f"This cell needs {diagnosis.unwritten(missing)}; then run it again." if missing else f"NotImplementedError: {error}")

    if in_handout() and _in_notebook():
        sys.modules["IPython"].get_ipython().set_custom_exc((NotImplementedError, NameError), handler)


def _in_notebook():
    return "IPython" in sys.modules and getattr(sys.modules["IPython"].get_ipython(), "kernel", None) is not None


# --- nobody changes the tests ---

GUARDED = {"builtins", "math", "numpy", "pytest", "_pytest", "tinydiff"}


def _functions(item):
    """Note every function of NumPy, the package and the test's own file, and what dicts and lists hold."""
    modules = [m for name, m in list(sys.modules.items()) if name.split(".")[0] in GUARDED and m is not None] + [item.module]
    return [(m, {k: (v, _inside(v)) for k, v in vars(m).items() if _guarded(k, v)}) for m in modules]


def _guarded(name, value):
    return callable(value) or (isinstance(value, dict | list) and not name.startswith("__"))


def _inside(value):
    if inspect.isfunction(value):
        return value.__code__
    return dict(value) if isinstance(value, dict) else list(value) if isinstance(value, list) else None


def _restore(before):
    """Undo changes to what was noted -> the name of the first function that had changed, or None"""
    found = None
    for module, noted in before:
        for key, (value, inside) in noted.items():
            now = vars(module).get(key)
            if now is not value and callable(value):
                found = found or f"{module.__name__}.{key}"
                setattr(module, key, value)
            elif inspect.isfunction(value) and value.__code__ is not inside:
                found = found or f"{module.__name__}.{key}"
                value.__code__ = inside
            elif module.__name__.startswith("test_") and _inside(value) != inside:  # elsewhere dicts and lists are caches
                found = found or f"{module.__name__}.{key}"
                value.clear()
                value.update(inside) if isinstance(value, dict) else value.extend(inside)
    return found


# --- the verdict ---


def judge(exercise, f, here=False):
    """Grade one function: Exercise, function; here: a kernel, too, in this very process -> Verdict."""
    try:
        if untouched(inspect.getsource(inspect.unwrap(f))):
            return Verdict(exercise.name, "not attempted")
    except (OSError, TypeError, SyntaxError):
        pass  # a function without a source file was written by somebody
    if exercise.on_card and not here:
        return twice(lambda simulate: _elsewhere(exercise, [f], simulate)[0])
    return judge_all(exercise, [f], here=here)[0]


def judge_all(exercise, functions, noted=None, here=False):
    """Run the tests of an exercise on several functions, each up to its first failure: Exercise, list of functions -> list of Verdicts.

    noted: dict to which the calls are added, by their key; here: kernels, too, in this very process
    """
    import pytest

    if exercise.on_card and not here:
        return _elsewhere(exercise, functions, True)
    session = _Session(exercise, functions, noted)
    quiet = "-p no:terminal -p no:cacheprovider -p no:faulthandler -p no:tinydiff -s -o addopts=".split()
    pytest.main([*quiet, "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), str(exercise.tests)], plugins=[session])
    if len(session.verdicts) < len(functions):
        why = session.problem or f"no test in {exercise.tests.name} carries the mark exercise({exercise.name!r})"
        return [Verdict(exercise.name, "cannot be graded", (("why", why),))] * len(functions)
    if exercise.on_card:
        return [Verdict(v.exercise, v.state, (("ran", _place()), *v.lines), v.seconds) for v in session.verdicts]
    return session.verdicts


# --- kernels of the graphics card ---


def twice(judge_once):
    """Grade a kernel in the simulator and, if it passes, on a card if there is one: judge_once(simulate) -> Verdict; -> Verdict"""
    verdict = judge_once(True)
    if verdict.state != "passed" or not shutil.which("nvidia-smi"):
        return verdict
    again = judge_once(False)
    if again.state == "cannot be graded":
        return verdict
    ran, lines = f"{dict(verdict.lines)['ran']}, and passed; then {dict(again.lines).get('ran', 'on a card')}", again.lines
    return Verdict(again.exercise, again.state, (("ran", ran), *(line for line in lines if line[0] != "ran")), again.seconds)


def surroundings(simulate):
    """Write down what the environment of a process that judges a kernel adds: bool -> dict"""
    return {"NUMBA_ENABLE_CUDASIM": str(int(simulate)), "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "TINYDIFF_KERNELS": "reference"}


def missing():
    """Say why a kernel cannot be graded in this process: () -> str, or None if it can"""
    try:
        from .kernels import device

        device.require()
    except (ImportError, RuntimeError) as error:
        simulated = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
        return f"numba's simulator of a graphics card is missing ({error}): pip install numba-cuda" if simulated else str(error)


def _place():
    from .kernels import device

    if device.SIMULATED:
        return "in numba's simulator"
    name = device.cuda.get_current_device().name
    return f"on this card: {name.decode() if isinstance(name, bytes) else name}"


def _elsewhere(exercise, functions, simulate):
    """Have a fresh Python judge functions, which travel there as their sources -> list of Verdicts"""
    try:
        said = _ask({"exercise": exercise.name, "functions": [_packed(f) for f in functions]}, simulate, PATIENCE * len(functions))
        return [Verdict(name, state, tuple(map(tuple, lines)), seconds) for name, state, lines, seconds in said]
    except OSError:
        why = "its source is not at hand: define it in a cell or a file"
    except subprocess.TimeoutExpired:
        why = f"it did not finish within {PATIENCE} seconds: is there a loop without an end?"
    except subprocess.CalledProcessError as error:
        why = f"it ended the process: {(error.stderr.decode(errors='replace').strip().splitlines() or ['no message'])[-1]}"
    return [Verdict(exercise.name, "failed", (("why", why),))] * len(functions)


def _ask(job, simulate, seconds):
    """Start a fresh Python that answers a job -> what it answers"""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        work = json.dumps(job | {"report": str(report)}).encode()
        command, env = [sys.executable, "-c", "from tinydiff import grade; grade._answer()"], os.environ | surroundings(simulate)
        subprocess.run(command, input=work, capture_output=True, cwd=folder, env=env, timeout=seconds, check=True)
        return json.loads(report.read_text(encoding="utf-8"))


def _answer():
    """Do, in that fresh Python, the job that comes in on stdin: judge functions, or note what is known of an exercise."""
    job, why = json.loads(sys.stdin.read()), missing()
    exercise = next(e for e in exercises() if e.name == job["exercise"])
    if "functions" not in job:
        answer = known(exercise, here=True)
    elif why:
        answer = [(exercise.name, "cannot be graded", (("why", why),), 0.0)] * len(job["functions"])
    else:
        verdicts = judge_all(exercise, [_unpacked(bag) for bag in job["functions"]], here=True)
        answer = [(v.exercise, v.state, v.lines, v.seconds) for v in verdicts]
    Path(job["report"]).write_text(json.dumps(answer), encoding="utf-8")


def _packed(f, inside=()):
    """Write a function down, with whatever it uses of the names around it -> dict that JSON can hold"""
    f = inspect.unwrap(f)
    lines, first = inspect.getsourcelines(f)
    bag = {"name": f.__name__, "source": "\n" * (first - 1) + textwrap.dedent("".join(lines)), "place": f.__code__.co_filename}
    bag |= {"modules": {}, "functions": {}, "values": {}}
    around = f.__globals__ | inspect.getclosurevars(f).nonlocals
    for name in {node.id for node in ast.walk(ast.parse(bag["source"])) if isinstance(node, ast.Name)} - {f.__name__, *inside}:
        value = around.get(name)
        if inspect.ismodule(value):
            bag["modules"][name] = value.__name__
        elif inspect.isfunction(inspect.unwrap(value)):
            bag["functions"][name] = _packed(value, (*inside, f.__name__))
        elif name in around:
            bag["values"][name] = base64.b64encode(pickle.dumps(value)).decode()
    return bag


def _unpacked(bag):
    place, source = bag["place"], bag["source"]
    linecache.cache[place] = (len(source), None, source.splitlines(True), place)
    scope = {name: importlib.import_module(module) for name, module in bag["modules"].items()}
    scope |= {name: pickle.loads(base64.b64decode(value)) for name, value in bag["values"].items()}
    scope |= {name: _unpacked(function) for name, function in bag["functions"].items()}
    exec(compile(source, place, "exec"), scope)
    return scope[bag["name"]]


def known(exercise, here=False):
    """Note what the reference and each mutant make of the tests' calls, so that a slip is named where neither is at hand.

    Exercise -> {"calls": {key of a call: traces, first that of the reference}, "sentences": of the mutants}
    """
    if exercise.on_card and not here:
        return _ask({"exercise": exercise.name}, True, 10 * PATIENCE)
    noted = {}
    judge_all(exercise, [original(exercise)], noted, here)
    others = [mutant(exercise, old, new) for old, new, _ in exercise.mutants]
    calls = {key: [diagnosis.trace(attempt(call, f)) for f in (original(exercise), *others)] for key, call in noted.items()}
    return {"calls": calls, "sentences": [sentence for _, _, sentence in exercise.mutants]}


class _Session:
    """A pytest plugin that runs the tests of one exercise on each function in turn."""

    def __init__(self, exercise, functions, noted):
        self.exercise, self.functions, self.noted = exercise, functions, noted
        self.verdicts, self.problem, self.raised = [], "", None

    def pytest_configure(self, config):
        config.addinivalue_line("markers", "exercise(name, changes=()): the test grades this function of the package")

    def pytest_collectreport(self, report):
        if report.failed:
            self.problem = f"{self.exercise.tests.name} cannot be read: {report.longreprtext.splitlines()[-1]}"

    def pytest_collection_modifyitems(self, items):
        items[:] = [item for item in items if any(mark.args[0] == self.exercise.name for mark in item.iter_markers("exercise"))]

    def pytest_runtest_makereport(self, item, call):
        if call.excinfo is not None and self.raised is None:
            self.raised = call.excinfo

    def pytest_runtestloop(self, session):
        if session.items:
            self.verdicts = [self._verdict(session.items, f) for f in self.functions]
        return True

    def _verdict(self, items, f, restore=_restore):  # bound now: f may replace whatever it finds by name
        import pytest
        from _pytest.runner import runtestprotocol

        began, calls = time.perf_counter(), deque(maxlen=None if in_handout() or self.noted is not None else REMEMBERED)
        changes = {name for item in items for mark in item.iter_markers("exercise") for name in mark.kwargs.get("changes", ())}
        for item in items:
            put(self.exercise, standing(self.exercise))  # also in modules that were loaded since
            self.raised, before = None, _functions(item)
            stopped = None
            with in_place(self.exercise, stand_in(f, changes, calls)):
                try:
                    reports = runtestprotocol(item, log=False)
                except (KeyboardInterrupt, pytest.exit.Exception) as error:
                    stopped = f"it was stopped by {type(error).__name__}: is there a loop without an end?"
            tampered = restore(before)
            if self.noted is not None:
                self.noted.update((part.key(), part) for call in list(calls)[:KNOWN] for part in call.parts()[:KNOWN])
                calls.clear()
            if stopped:
                lines = (("test", item.name), ("why", stopped))
            elif tampered:
                lines = (("test", item.name), ("slip", f"it replaced {tampered}, which is not its to change"))
            elif unwritten := diagnosis.missing(self.exercise, self.raised):
                lines = (("why", f"its tests need {diagnosis.unwritten(unwritten)}"),)
                return Verdict(self.exercise.name, "cannot be graded", lines, time.perf_counter() - began)
            elif any(report.outcome != "passed" for report in reports):
                lines = (("test", item.name), *diagnosis.explain(self.exercise, f, self.raised, calls))
            else:
                continue
            return Verdict(self.exercise.name, "failed", lines, time.perf_counter() - began)
        return Verdict(self.exercise.name, "passed", (), time.perf_counter() - began)


tell_what_is_missing()
