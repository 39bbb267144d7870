"""Is this answer right? An exercise's tests are run with the student's function in its place."""

import inspect
import io
import os
import sys
import time
from collections import deque
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

from . import diagnosis
from .calls import REMEMBERED, attempt, ends_all, renamed, stand_in
from .exercises import MARK, ROOT, in_handout, in_place, mutant, original, put, standing
from .verdict import Verdict, in_order

KNOWN = 8  # first calls of a test of which a student's tree knows what comes out
THEIRS = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")  # of the environment: they change any run of pytest
SHOWN, ROOM = 20, 2000  # lines, and letters, kept of what a function prints


# --- nobody changes the tests ---

GUARDED = {"builtins", "math", "numpy", "pytest", "_pytest", "tinydiff"}


def guard(item):
    """Note the functions of NumPy, pytest, the package and the test's file, and dicts and lists.

    item: a test of pytest -> list of (module, {name: (value, what is in it)}), for `restore`
    """
    known = [(name, module) for name, module in list(sys.modules.items()) if module is not None]
    guarded = [module for name, module in known if name.split(".")[0] in GUARDED]
    return [
        (m, {k: (v, _inside(v)) for k, v in vars(m).items() if _guarded(k, v)})
        for m in [*guarded, item.module]
    ]


def _guarded(name, value):
    return callable(value) or (isinstance(value, dict | list) and not name.startswith("__"))


def _inside(value):
    if inspect.isfunction(value):
        return value.__code__
    if isinstance(value, dict):
        return dict(value)
    return list(value) if isinstance(value, list) else None


def restore(before):
    """Undo changes to what was noted -> the name of the first function that had changed, or None"""
    found = None
    for module, noted in before:
        ours = module.__name__.startswith("test_")  # elsewhere dicts and lists are caches
        for key, (value, inside) in noted.items():
            changed = True
            if vars(module).get(key) is not value and callable(value):
                setattr(module, key, value)
            elif inspect.isfunction(value) and value.__code__ is not inside:
                value.__code__ = inside
            elif ours and _inside(value) != inside:
                value.clear()
                value.update(inside) if isinstance(value, dict) else value.extend(inside)
            else:
                changed = False
            if changed:
                found = found or f"{module.__name__}.{key}"
    return found


# --- the verdict ---


def run_tests(exercise, functions, noted=None):
    """Run the tests of an exercise on several functions, each up to its first failure.

    functions: list; noted: dict to which the calls are added, by their key -> list of Verdicts
    """
    verdicts = []

    def judge(items):
        verdicts.extend(Trial(exercise, noted).verdict(items[exercise], f) for f in functions)

    why = with_tests([exercise], judge).get(exercise)
    if why:
        return [Verdict(exercise.name, "cannot be graded", (("why", why),))] * len(functions)
    if exercise.on_gpu:
        ran = ("ran", place())
        return [replace(v, lines=in_order([ran, *v.lines])) for v in verdicts]
    return verdicts


def with_tests(exercises, work):
    """Collect the tests of exercises and hand them over within a session of pytest.

    exercises: list; work: function of {exercise: list of pytest's items}, of those that have tests
    -> {exercise: why it has none}
    """
    collector = _Collector(exercises, work)
    off = [f"-p no:{name}" for name in ("terminal", "cacheprovider", "faulthandler", "tinydiff")]
    quiet = " ".join([*off, "-s -o addopts="]).split()
    files = dict.fromkeys(str(e.tests) for e in exercises)
    run_pytest(
        [*quiet, "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), *files], collector
    )
    return collector.missing


def run_pytest(words, plugin):
    """Run pytest within this process; what ends the whole command ends this, too.

    What the environment adds to pytest's command line is for others, and left out meanwhile.
    words: list of str; plugin: object with pytest's hooks -> None
    """
    import pytest

    class Listener:
        heard = None

        def pytest_keyboard_interrupt(self, excinfo):
            if not isinstance(excinfo.value, pytest.Session.Interrupted):  # a file has an error
                self.heard = excinfo.value

    ours = ["-p", "no:unraisableexception"]  # app/interrupt.py has a hook of its own
    listener = Listener()
    theirs = {name: os.environ.pop(name) for name in THEIRS if name in os.environ}
    try:
        pytest.main([*ours, *words], plugins=[plugin, listener])
    finally:
        os.environ.update(theirs)
    if ends_all(listener.heard):
        raise listener.heard


def place():
    """Say where GPU kernels run: () -> str"""
    from ..kernels import cuda_array

    if cuda_array.SIMULATED:
        return "in numba's simulator"
    name = cuda_array.cuda.get_current_device().name
    return f"on this GPU: {name.decode() if isinstance(name, bytes) else name}"


class _Collector:
    """A pytest plugin that collects the tests of exercises and leaves it to others to run them."""

    def __init__(self, exercises, work):
        self.exercises, self.work, self.problems = exercises, work, {}
        self.missing = {}
        for e in exercises:
            self.missing[e] = f"no test in {e.tests.name} carries the mark exercise({e.name!r})"

    def pytest_configure(self, config):
        config.addinivalue_line("markers", MARK)

    def pytest_collectreport(self, report):
        if report.failed:
            self.problems[Path(report.fspath).name] = report.longreprtext.splitlines()[-1]

    def pytest_runtestloop(self, session):
        items = {
            e: [item for item in session.items if e.name in _names(item)] for e in self.exercises
        }
        for e, found in items.items():
            if found:
                del self.missing[e]
            elif why := self.problems.get(e.tests.name):
                self.missing[e] = f"{e.tests.name} cannot be read: {why}"
        self.work({e: found for e, found in items.items() if found})
        return True


def _names(item):
    """List the exercises that a test grades: pytest's item -> list of their names"""
    return [mark.args[0] for mark in item.iter_markers("exercise")]


class Trial:
    """The tests of one exercise, run on one function.

    noted: dict to which the calls are added, by their key; explains: say why a test failed, by
    calling the function once more; guards: notice what the function replaces
    After `verdict`: failed, the pytest item that did, or None; calls: those of the last test
    """

    def __init__(self, exercise, noted=None, explains=True, guards=True):
        self.exercise, self.noted, self.explains, self.guards = exercise, noted, explains, guards
        keep_all = in_handout() or noted is not None
        self.calls = deque(maxlen=None if keep_all else REMEMBERED)
        self.failed = None

    def verdict(self, items, f):
        """Run tests one by one, up to the first that fails: pytest's items, function -> Verdict"""
        began = time.perf_counter()
        marks = [mark for item in items for mark in item.iter_markers("exercise")]
        changes = {name for mark in marks for name in mark.kwargs.get("changes", ())}
        changes = renamed(changes, original(self.exercise), f)
        run, undo = self._run, restore  # bound now: f may replace whatever it finds by name
        state, lines, printed, before = "passed", (), _Printed(), self.guards and guard(items[0])
        for item in items:
            problem = run(item, f, changes, printed)
            if problem is not None:
                self.failed = item
                state, lines = problem
                break
        if before and (tampered := undo(before)):
            state, test = "failed", ("test", item.name)
            lines = test, ("slip", f"it replaced {tampered}, which it must not change")
        seconds = time.perf_counter() - began
        return Verdict(self.exercise.name, state, in_order(lines), seconds, printed.kept())

    def _run(self, item, f, changes, printed):
        """Run one test on f; changes: as of stand_in; printed: takes what f prints

        -> (state, lines), None = passed
        """
        import pytest
        from _pytest.runner import runtestprotocol

        put(self.exercise, standing(self.exercise))  # also in modules that were loaded since
        stopped, calls = None, self.calls
        listener = _Listener(item.config.pluginmanager)
        with in_place(self.exercise, stand_in(f, changes, calls)), redirect_stdout(printed):
            try:
                with listener:
                    reports = runtestprotocol(item, log=False)
            except (KeyboardInterrupt, pytest.exit.Exception) as error:
                if ends_all(error):
                    raise
                stopped = type(error).__name__
        if self.noted is not None:
            first = [part for call in list(calls)[:KNOWN] for part in call.parts()[:KNOWN]]
            both = [*first, *(part.shaken() for part in first)]
            self.noted.update((part.key(), part) for part in both)
            calls.clear()
        test, raised = ("test", item.name), listener.raised
        if stopped:
            why = f"it was stopped by {stopped}: is there an endless loop?"
            return "failed", (test, ("why", why))
        if other := diagnosis.missing(self.exercise, raised):
            return "cannot be graded", (("why", f"its tests need {diagnosis.unwritten(other)}"),)
        if any(report.outcome != "passed" for report in reports):
            explain = diagnosis.explain if self.explains else diagnosis.said
            with redirect_stdout(_Printed()):  # f is called again, and prints again
                said = list(explain(self.exercise, f, raised, calls))
            return "failed", (test, *said)
        return None


class _Listener:
    """A pytest plugin that keeps the first error of a test for the length of a `with` block."""

    def __init__(self, plugins):
        self.plugins, self.raised = plugins, None

    def __enter__(self):
        self.plugins.register(self)

    def __exit__(self, *error):
        self.plugins.unregister(self)

    def pytest_runtest_makereport(self, item, call):
        if call.excinfo is not None and self.raised is None:
            self.raised = call.excinfo


class _Printed(io.TextIOBase):
    """A text stream that keeps the first lines and counts the others."""

    def __init__(self):
        self.first, self.room, self.lines, self.open = [], ROOM, 0, False

    def write(self, text):
        if self.lines < SHOWN and self.room:
            self.first.append(text[: self.room])
            self.room -= len(self.first[-1])
        self.lines += text.count("\n")
        self.open = not text.endswith("\n") if text else self.open
        return len(text)

    def kept(self):
        """Return (the first lines, how many lines there were in all)"""
        return "".join("".join(self.first).splitlines(True)[:SHOWN]), self.lines + self.open


def note_calls(exercise):
    """Note what the reference and each mutant make of the tests' calls.

    By this a slip is named in a student's tree, where neither of them is at hand.
    Exercise -> {"calls": {key of a call: traces, first that of the reference}, "sentences": of the
    mutants, in the order of the other traces}
    Raises FileNotFoundError where there are no tests.
    """
    noted = {}
    (verdict,) = run_tests(exercise, [original(exercise)], noted)
    if verdict.state == "cannot be graded":
        raise FileNotFoundError(f"{exercise.name}: {dict(verdict.lines)['why']}")
    others = [mutant(exercise, old, new) for old, new, _ in exercise.mutants]
    functions = [original(exercise), *others]
    calls = {
        key: [diagnosis.trace(attempt(call, f)) for f in functions] for key, call in noted.items()
    }
    return {"calls": calls, "sentences": [sentence for _, _, sentence in exercise.mutants]}
