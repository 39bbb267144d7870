"""Is this answer right? The tests of an exercise are run with the student's function in the package's place.

    from tinydiff.grade import check, show
    show(diffusion.q_sample)    the package's code
    check(q_sample)             the verdict on yours

An exercise is a function of the package, "diffusion.q_sample". Its tests carry the mark `exercise("diffusion.q_sample")` and stand in
tests/test_diffusion.py (or in the file that TESTS names); its mutants, wrong versions each with a sentence that says what is wrong,
in tests/mutants/. A mutant that gives what the student's function gives is the diagnosis. Whole files are graded by submission.py.

Kernels of the graphics card (ON_CARD) are judged in a Python of their own, whose numba simulates a card; then on a card, if one is here.
"""

import ast
import base64
import copy
import difflib
import hashlib
import importlib
import inspect
import itertools
import json
import linecache
import os
import pickle
import runpy
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, wraps
from html import escape
from pathlib import Path
from traceback import walk_tb

import numpy as np

from .autodiff import Tensor, value_of

ROOT = Path(__file__).resolve().parents[1]
REMEMBERED = 20  # last calls kept for the diagnosis
KNOWN = 8  # first calls of a test of which a student's tree knows what comes out
ENOUGH = 12  # items of a sampler's or a training's yield that are compared
HANDOUT = "handout.json"  # in tests/: this is a student's tree, in which the package lacks the bodies of these exercises
ON_CARD = "kernels.threads."  # exercises that are kernels of the graphics card, launched as f[blocks, threads](...)
PATIENCE = 60  # seconds for a kernel in a process of its own


@dataclass(frozen=True)
class Exercise:
    """One function to write. name: "diffusion.q_sample"; lesson: "01_forward"; mutants: tuples (old, new, sentence).

    tests: the file in which they stand; known: in a student's tree what is known of calls in place of the mutants, see `known`
    """

    name: str
    lesson: str
    mutants: tuple
    tests: Path
    known: dict = field(default_factory=dict, compare=False)

    @property
    def function(self):
        return self.name.rsplit(".", 1)[1]

    @property
    def module(self):
        return importlib.import_module("tinydiff." + self.name.rsplit(".", 1)[0])

    @property
    def on_card(self):
        return self.name.startswith(ON_CARD)


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
        _put(exercise, f)
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
        print(f"This cell needs {_unwritten(missing)}; then run it again." if missing else f"NotImplementedError: {error}")

    if in_handout() and _in_notebook():
        sys.modules["IPython"].get_ipython().set_custom_exc((NotImplementedError,), handler)


def _in_notebook():
    return "IPython" in sys.modules and getattr(sys.modules["IPython"].get_ipython(), "kernel", None) is not None


# --- exercises and mutants ---


def in_handout():
    """Say whether this is a student's tree, which handout.py wrote: () -> bool"""
    return (ROOT / "tests" / HANDOUT).exists()


@cache
def exercises():
    """List the exercises in the order of the lessons: () -> tuple of Exercise."""
    if in_handout():
        listed = json.loads((ROOT / "tests" / HANDOUT).read_text(encoding="utf-8"))
        return tuple(Exercise(e["name"], e["lesson"], (), ROOT / "tests" / e["tests"], e["known"]) for e in listed)
    found = []
    for path in sorted((ROOT / "tests" / "mutants").glob("*.py")):
        lesson = runpy.run_path(str(path))
        for name, wrong in lesson["MUTANTS"].items():
            tests = lesson.get("TESTS", {}).get(name, f"test_{name.split('.')[-2]}.py")
            found.append(Exercise(name, path.stem, tuple(wrong), ROOT / "tests" / tests))
    if not found:
        raise FileNotFoundError(f"the tests that grade are missing: expected them in {ROOT / 'tests'}; work in a clone of the repository")
    return tuple(found)


def find(function):
    """Find the exercise that asks for a function of this name: "q_sample" -> Exercise. ValueError where none does."""
    for exercise in exercises():
        if exercise.function == function:
            return exercise
    near = difflib.get_close_matches(function, [e.function for e in exercises()])
    raise ValueError(f"no exercise asks for a function {function!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""))


_originals, _standing, _twins = {}, {}, {}  # exercise -> the package's own; -> what stands in its place; (module, name) -> what was there


def original(exercise):
    """Give the package's own function, also while another stands in its place: Exercise -> function."""
    return _originals.setdefault(exercise.name, getattr(exercise.module, exercise.function))


@cache  # a compiled one is compiled only once
def mutant(exercise, old, new):
    """Build a wrong version: the package's function with one piece of its source replaced. -> function"""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(original(exercise))))
    if source.count(old) != 1:
        raise ValueError(f"{exercise.name}: a mutant replaces {old!r}, which must occur once; it occurs {source.count(old)} times")
    return rewritten(exercise, source.replace(old, new))


def rewritten(exercise, source):
    """Build a version of the package's function from another source. -> function"""
    scope, place = dict(vars(exercise.module)), f"<mutant of {exercise.name} {abs(hash(source))}>"
    linecache.cache[place] = (len(source), None, source.splitlines(True), place)
    exec(compile(source, place, "exec"), scope)
    return scope[exercise.function]


def untouched(source):
    """Say whether a function's body is still the `raise NotImplementedError` of the lesson. str -> bool"""
    node = ast.parse(textwrap.dedent(source)).body[0]
    if not isinstance(node, ast.FunctionDef):
        return False
    body = node.body
    body = body[1:] if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) else body
    return len(body) == 1 and isinstance(body[0], ast.Raise) and "NotImplementedError" in ast.dump(body[0])


# --- in the package's place ---


def _put(exercise, f):
    """Put f wherever the package holds the exercise's function; for a kernel, in every kernel set -> what stood there before"""
    ours, before = original(exercise), _standing.get(exercise.name)
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] != "tinydiff" or module is None or name == __name__:
            continue
        kernel = exercise.name.startswith("kernels.") and name.startswith("tinydiff.kernels.")
        for key, value in list(vars(module).items()):
            if value is ours or (value is before and before is not None) or (kernel and key == exercise.function):
                _twins.setdefault((name, key), value)
                setattr(module, key, _twins[name, key] if f is None else f)
    _standing[exercise.name] = f
    return before


@contextmanager
def in_place(exercise, f):
    """Have f stand in the package's place for the length of a `with` block."""
    before = _put(exercise, f)
    try:
        yield
    finally:
        _put(exercise, before)


class Call:
    """Arguments of a call, kept so that it can be made again; uses: arguments with which a function that came back was called."""

    def __init__(self, args, options):
        self.args, self.options, self.uses = *copy.deepcopy((args, options)), []

    def outcome(self, f):
        """Make the call again, on copies -> flat list of all numbers that f gives, and of arguments that it changed, as arrays (...)"""
        args, options = copy.deepcopy((self.args, self.options))
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            if launched(f):
                given = _watched(f, *args)
            elif hasattr(f, "forward"):  # an operation: its derivative counts too
                value, vjp = f.forward(*map(value_of, args), **options)
                given = value, vjp(np.cos(np.arange(np.size(value), dtype=np.asarray(value).dtype)).reshape(np.shape(value)))
            else:
                given = f(*args, **options)
            if inspect.isgenerator(given):
                given = list(itertools.islice(given, ENOUGH))
            if inspect.isfunction(given):
                given = [given(*copy.deepcopy(use)) for use in self.uses]
        kept, now = list(_numbers(self.args)), list(_numbers(args))
        changed = [a for a, b in zip(now, kept, strict=True) if not _same([a], [b])]
        return [*changed, given] if launched(f) else [*_numbers(given), *changed]

    def parts(self):
        """Take the call apart where a function came back: one for each of its uses -> list of Calls"""
        parts = [copy.copy(self) for _ in self.uses or [None]]
        for k, part in enumerate(parts if self.uses else ()):
            part.uses = [self.uses[k]]
        return parts

    def key(self):
        """Recognise the call when it is made again, by its numbers and words: () -> 12 hex digits"""
        numbers = [f"{a.shape}{[f'{v:.5g}' for v in a.ravel()[:64].tolist()]}" for a in _numbers([self.args, self.options, self.uses])]
        words = [a for a in (*self.args, *self.options.items()) if isinstance(a, str)]
        return hashlib.sha256(repr((numbers, words, sorted(self.options))).encode()).hexdigest()[:12]


def _trace(outcome):
    """Keep so much of an outcome that it is recognised, but cannot be read: list of arrays, or an error -> [what, projection, size]"""
    if isinstance(outcome, BaseException):
        return [type(outcome).__name__, 0.0, 0.0]
    flat = np.concatenate([np.zeros(1), *(np.ravel(a).astype(float) for a in outcome)])
    finite = np.where(np.isfinite(flat), flat, 0)
    what = f"{flat.size} {outcome[0].shape if outcome else ''}"
    return [what, *(float(f"{v:.7g}") for v in (finite @ np.cos(np.arange(flat.size)), abs(finite).sum()))]


def _same_trace(a, b):
    return a[0] == b[0] and all(abs(p - q) <= 1e-6 + 1e-5 * b[2] for p, q in zip(a[1:], b[1:], strict=True))


def known(exercise, here=False):
    """Note what the reference and each mutant make of the tests' calls, so that a slip is named where neither is at hand.

    Exercise -> {"calls": {key of a call: traces, first that of the reference}, "sentences": of the mutants}
    """
    if exercise.on_card and not here:
        return _ask({"exercise": exercise.name}, True, 10 * PATIENCE)
    noted = {}
    judge_all(exercise, [original(exercise)], noted, here)
    others = [mutant(exercise, old, new) for old, new, _ in exercise.mutants]
    calls = {key: [_trace(_try(call, f)) for f in (original(exercise), *others)] for key, call in noted.items()}
    return {"calls": calls, "sentences": [sentence for _, _, sentence in exercise.mutants]}


def _numbers(item):
    """Walk through what a function gave, down to its arrays."""
    if isinstance(item, Tensor):
        item = item.value
    if isinstance(item, list | tuple):
        for part in item:
            yield from _numbers(part)
    elif isinstance(item, dict):
        yield from _numbers(list(item.values()))
    elif hasattr(item, "theta") or hasattr(item, "__dataclass_fields__"):
        yield from _numbers([part for name, part in vars(item).items() if name != "losses"])  # a list that grows, of what loss was
    elif isinstance(item, np.ndarray | np.generic | float | int):
        yield np.asarray(item)


def _same(these, those):
    return len(these) == len(those) and all(
        a.shape == b.shape and a.dtype == b.dtype and np.allclose(a, b, rtol=1e-5, atol=1e-7, equal_nan=True)
        for a, b in zip(these, those, strict=True)
    )


def launched(f):
    """Say whether f is a kernel of the graphics card, f[blocks, threads](...)."""
    return hasattr(f, "py_func") and hasattr(type(f), "__getitem__")


class _StandIn:
    """A kernel's stand-in, launched as a kernel is."""

    def __init__(self, called):
        self.called = called

    def __getitem__(self, size):
        return lambda *args: self.called(size, *args)


def _watched(f, size, *args):
    """Launch a kernel in the simulator, args holding what it fills -> numbers that tell how it went about it"""
    from .kernels import simulator

    with simulator.watch() as seen:
        f[size](*args)
    counts = [count for name in seen.shapes for write in (False, True) for count in (seen.count(name, write), seen.sectors(name, write))]
    return np.array([*counts, len(seen.problems())])


def stand_in(f, changes, calls):
    """Wrap f so that its calls are noted in the deque `calls`, and AssertionError tells of an argument that it changed.

    changes: names of arguments that it is meant to change -> function
    """
    if launched(f):
        parameters = [inspect.Parameter("size", inspect.Parameter.POSITIONAL_ONLY), *inspect.signature(f.py_func).parameters.values()]
        flat = lambda size, *args: f[size](*args)
        flat.__signature__ = inspect.Signature(parameters)
        return _StandIn(stand_in(flat, changes, calls))
    names = list(inspect.signature(f).parameters)

    @wraps(f)
    def called(*args, **options):
        calls.append(Call(args, options))
        noted = calls[-1]
        kept = [(k, a, a.copy()) for k, item in enumerate(args) for a in _numbers(item)]
        given = f(*args, **options)
        for k, now, before in kept:
            name = names[min(k, len(names) - 1)]  # *xs takes all the rest
            if name not in changes and not np.array_equal(now, before, equal_nan=now.dtype.kind == "f"):
                raise AssertionError(f"it changes its input {name} in place: the caller still needs it")
        if inspect.isfunction(given) and not hasattr(f, "forward"):
            given = _noted(given, noted.uses)
        return given

    return called


def _noted(g, uses):
    @wraps(g)
    def used(*args):
        if len(uses) < REMEMBERED:
            uses.append(copy.deepcopy(args))
        return g(*args)

    return used


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
            _put(self.exercise, _standing.get(self.exercise.name))  # also in modules that were loaded since
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
            elif missing := _missing(self.exercise, self.raised):
                lines = (("why", f"its tests need {_unwritten(missing)}"),)
                return Verdict(self.exercise.name, "cannot be graded", lines, time.perf_counter() - began)
            elif any(report.outcome != "passed" for report in reports):
                lines = (("test", item.name), *_explain(self.exercise, f, self.raised, calls))
            else:
                continue
            return Verdict(self.exercise.name, "failed", lines, time.perf_counter() - began)
        return Verdict(self.exercise.name, "passed", (), time.perf_counter() - began)


def _missing(exercise, raised):
    """Find out whether a test stopped at another exercise that is not written yet, in a student's tree -> that Exercise, or None"""
    if not in_handout() or raised is None or raised.typename != "NotImplementedError":
        return None
    name = raised.traceback[-1].name
    return next((e for e in exercises() if e.function == name and e is not exercise), None)


def _unwritten(exercise):
    file = Path(exercise.module.__file__).relative_to(ROOT).as_posix()
    return f"{exercise.name}, an exercise of lesson {exercise.lesson} that is not written yet: write it and check it, or put it into {file}"


def _explain(exercise, f, raised, calls):
    """Say what went wrong -> lines of a Verdict"""
    if raised is None or raised.typename == "Skipped":
        yield "why", "a test was skipped: that is no pass"
        return
    if hasattr(original(exercise), "forward") and not hasattr(f, "forward"):
        yield "slip", "the line @op above its def is missing: it makes an operation of a function that returns (value, vjp)"
        return
    if launched(original(exercise)) and not launched(f):
        yield "slip", "the line @cuda.jit above its def is missing: it makes a kernel of a function"
        return
    if isinstance(raised.value, RecursionError):
        yield "slip", f"it calls the package's own {exercise.function}, whose place it has taken (or itself, without end): write it out"
        return
    if inspect.isgeneratorfunction(inspect.unwrap(original(exercise))) and not inspect.isgeneratorfunction(inspect.unwrap(f)):
        yield "slip", f"{exercise.function} is a generator: it yields every step as it goes; yours returns"
        return
    said = [line for line in str(raised.value).strip().splitlines() if not line.lstrip().startswith("+")][:6]
    text = "\n".join([line for line in said if not line.startswith("assert ")] or said)  # our own words, before pytest's
    theirs = [entry for entry in raised.traceback if str(entry.path) == inspect.unwrap(f).__code__.co_filename]
    if theirs and not isinstance(raised.value, AssertionError):
        yield "why", f"{raised.typename} in line {theirs[-1].lineno + 1} of its cell or file: {text}"
        yield "called", _written(exercise, calls[-1])
    else:
        yield "why", text or raised.typename
        yield from _difference(exercise, f, calls)
        slip = _slip(exercise, f, calls)
        if slip:
            yield "slip", slip
    section = _section(exercise)
    if section:
        yield "reread", section


def _difference(exercise, f, calls):
    """Show the last noted call whose result is wrong: it is what the test complains of -> lines of a Verdict"""
    if exercise.known:
        yield from _known_difference(exercise, f, calls)
        return
    for call in reversed(calls):
        mine, right = _try(call, f), _try(call, original(exercise))
        if isinstance(right, BaseException) or _alike(mine, right):
            continue
        yield "called", _written(exercise, call)
        if any(hasattr(a, "rng") for a in call.args):
            return  # it draws its own random numbers, and may do so in another order
        if isinstance(mine, BaseException):
            yield "came", f"{type(mine).__name__}: {mine}".splitlines()[0]
        elif launched(f) and _same(mine[:-1], right[:-1]):
            return  # its result is right, only the way there is wrong: the test says how
        elif len(mine) == len(right):
            came, expected = next((a, b) for a, b in zip(mine, right, strict=True) if not _same([a], [b]))
            if came.shape == expected.shape and came.size > 6:
                i = np.unravel_index(np.argmax(np.abs(np.nan_to_num(came - expected, nan=np.inf))), came.shape)
                yield "came", f"{_brief(came)}, at {[int(n) for n in i]}: {came[i]:.6g}"
                yield "expected", f"{_brief(expected)}, there: {expected[i]:.6g}"
            else:
                yield "came", _brief(came)
                yield "expected", _brief(expected)
        else:
            yield "came", f"{abs(len(mine) - len(right))} array(s) {'more' if len(mine) > len(right) else 'less'} than expected"
        return


def _written(exercise, call):
    given = [*map(_brief, call.args), *(f"{name}={_brief(value)}" for name, value in call.options.items())]
    if exercise.on_card:
        return f"{exercise.function}[{', '.join(map(str, call.args[0]))}]({', '.join(given[1:])})"
    return f"{exercise.function}({', '.join(given)})"


def _slip(exercise, f, calls):
    """Find the mutant that gives the same as f in every noted call -> its sentence, or None"""
    if exercise.known:
        return _known_slip(exercise.known, f, calls)
    mine, right = [_try(call, f) for call in calls], [_try(call, original(exercise)) for call in calls]
    wrong = [k for k in range(len(calls)) if not _alike(mine[k], right[k])]
    for old, new, sentence in exercise.mutants if wrong else ():
        other = mutant(exercise, old, new)
        if all(_alike(mine[k], _try(calls[k], other)) for k in wrong):
            return sentence


def _recognised(known, f, calls):
    """In a student's tree: find the calls of which something is known, and try them -> list of (Call, outcome, traces)"""
    parts = [part for call in calls for part in call.parts() if part.key() in known["calls"]]
    return [(part, _try(part, f), known["calls"][part.key()]) for part in parts]


def _known_difference(exercise, f, calls):
    for call, mine, traces in reversed(_recognised(exercise.known, f, calls)):
        if not _same_trace(_trace(mine), traces[0]):
            yield "called", _written(exercise, call)
            yield (
                "came",
                f"{type(mine).__name__}: {mine}".splitlines()[0] if isinstance(mine, BaseException) else ", ".join(map(_brief, mine[:3])),
            )
            return


def _known_slip(known, f, calls):
    wrong = [(_trace(mine), traces) for _, mine, traces in _recognised(known, f, calls) if not _same_trace(_trace(mine), traces[0])]
    for k, sentence in enumerate(known["sentences"] if wrong else (), start=1):
        if all(_same_trace(mine, traces[k]) for mine, traces in wrong):
            return sentence


def _alike(a, b):
    return type(a) is type(b) and (str(a) == str(b) if isinstance(a, BaseException) else _same(a, b))


def _try(call, f):
    try:
        return call.outcome(f)
    except BaseException as error:
        return error


def _brief(item):
    """Describe an argument or a result in a few words."""
    item = value_of(item)
    if isinstance(item, np.ndarray | np.generic) and item.size > 6:
        return f"array {item.shape} {item.dtype}"
    if isinstance(item, np.ndarray | np.generic):
        return " ".join(np.array2string(np.asarray(item), precision=6, separator=", ").split()) + f" {item.dtype}"
    return repr(item) if isinstance(item, int | float | str | list | tuple | None) and len(repr(item)) < 40 else type(item).__name__


def _section(exercise):
    """Find the heading of the lesson under which the exercise stands -> "01_forward, 2. All at once", or None"""
    path, heading = ROOT / "lessons" / f"{exercise.lesson}.ipynb", ""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if path.exists() else ():
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            heading = [heading, *(line.strip("# ") for line in text.splitlines() if line.startswith(("## ", "### ")))][-1]
        elif f"def {exercise.function}(" in text:
            return f"lesson {exercise.lesson}, {heading}"


tell_what_is_missing()
