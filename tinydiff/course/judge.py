"""Is this answer right? The tests of an exercise are run with the student's function in the package's place."""

import inspect
import sys
import time
from collections import deque
from dataclasses import dataclass
from html import escape

from . import diagnosis
from .calls import REMEMBERED, attempt, stand_in
from .exercises import ROOT, in_handout, in_place, mutant, original, put, standing

KNOWN = 8  # first calls of a test of which a student's tree knows what comes out


@dataclass(frozen=True, repr=False)
class Verdict:
    """What came out: state is "passed", "failed", "not attempted" or "cannot be graded"; lines: (heading, text) that say why."""

    exercise: str
    state: str
    lines: tuple = ()
    seconds: float = 0.0

    def __repr__(self):
        return "\n".join(
            [f"{self.exercise}: {self.state}", *(f"  {head:9s}{text}" for head, text in self.lines)]
        )

    def _repr_html_(self):
        color = {"passed": "#2a7f3f", "failed": "#b3261e"}.get(self.state, "#666")
        rows = "".join(
            f"<tr><td style='text-align:left;vertical-align:top;color:#666'>{head}</td>"
            f"<td style='text-align:left;white-space:pre-wrap;max-width:60em'>{escape(text)}</td></tr>"
            for head, text in self.lines
        )
        title = f"<b style='color:{color}'>{escape(self.exercise)}: {self.state}</b>"
        return f"<div style='border-left:4px solid {color};padding:.3em 1em'>{title}<table>{rows}</table></div>"


# --- nobody changes the tests ---

GUARDED = {"builtins", "math", "numpy", "pytest", "_pytest", "tinydiff"}


def _functions(item):
    """Note every function of NumPy, the package and the test's own file, and what dicts and lists hold."""
    modules = [
        m
        for name, m in list(sys.modules.items())
        if name.split(".")[0] in GUARDED and m is not None
    ] + [item.module]
    return [
        (m, {k: (v, _inside(v)) for k, v in vars(m).items() if _guarded(k, v)}) for m in modules
    ]


def _guarded(name, value):
    return callable(value) or (isinstance(value, dict | list) and not name.startswith("__"))


def _inside(value):
    if inspect.isfunction(value):
        return value.__code__
    return (
        dict(value) if isinstance(value, dict) else list(value) if isinstance(value, list) else None
    )


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
            elif (
                module.__name__.startswith("test_") and _inside(value) != inside
            ):  # elsewhere dicts and lists are caches
                found = found or f"{module.__name__}.{key}"
                value.clear()
                value.update(inside) if isinstance(value, dict) else value.extend(inside)
    return found


# --- the verdict ---


def run_tests(exercise, functions, noted=None):
    """Run the tests of an exercise on several functions, each up to its first failure: Exercise, list of functions -> list of Verdicts.

    noted: dict to which the calls are added, by their key
    """
    import pytest

    session = _Session(exercise, functions, noted)
    quiet = "-p no:terminal -p no:cacheprovider -p no:faulthandler -p no:tinydiff -s -o addopts=".split()
    pytest.main(
        [*quiet, "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), str(exercise.tests)],
        plugins=[session],
    )
    if len(session.verdicts) < len(functions):
        why = (
            session.problem
            or f"no test in {exercise.tests.name} carries the mark exercise({exercise.name!r})"
        )
        return [Verdict(exercise.name, "cannot be graded", (("why", why),))] * len(functions)
    if exercise.on_card:
        return [
            Verdict(v.exercise, v.state, (("ran", _place()), *v.lines), v.seconds)
            for v in session.verdicts
        ]
    return session.verdicts


def _place():
    from ..kernels import cuda_array

    if cuda_array.SIMULATED:
        return "in numba's simulator"
    name = cuda_array.cuda.get_current_device().name
    return f"on this card: {name.decode() if isinstance(name, bytes) else name}"


class _Session:
    """A pytest plugin that runs the tests of one exercise on each function in turn."""

    def __init__(self, exercise, functions, noted):
        self.exercise, self.functions, self.noted = exercise, functions, noted
        self.verdicts, self.problem, self.raised = [], "", None

    def pytest_configure(self, config):
        config.addinivalue_line(
            "markers", "exercise(name, changes=()): the test grades this function of the package"
        )

    def pytest_collectreport(self, report):
        if report.failed:
            self.problem = (
                f"{self.exercise.tests.name} cannot be read: {report.longreprtext.splitlines()[-1]}"
            )

    def pytest_collection_modifyitems(self, items):
        items[:] = [
            item
            for item in items
            if any(mark.args[0] == self.exercise.name for mark in item.iter_markers("exercise"))
        ]

    def pytest_runtest_makereport(self, item, call):
        if call.excinfo is not None and self.raised is None:
            self.raised = call.excinfo

    def pytest_runtestloop(self, session):
        if session.items:
            self.verdicts = [self._verdict(session.items, f) for f in self.functions]
        return True

    def _verdict(
        self, items, f, restore=_restore
    ):  # bound now: f may replace whatever it finds by name
        import pytest
        from _pytest.runner import runtestprotocol

        began, calls = (
            time.perf_counter(),
            deque(maxlen=None if in_handout() or self.noted is not None else REMEMBERED),
        )
        changes = {
            name
            for item in items
            for mark in item.iter_markers("exercise")
            for name in mark.kwargs.get("changes", ())
        }
        for item in items:
            put(self.exercise, standing(self.exercise))  # also in modules that were loaded since
            self.raised, before = None, _functions(item)
            stopped = None
            with in_place(self.exercise, stand_in(f, changes, calls)):
                try:
                    reports = runtestprotocol(item, log=False)
                except (KeyboardInterrupt, pytest.exit.Exception) as error:
                    stopped = (
                        f"it was stopped by {type(error).__name__}: is there a loop without an end?"
                    )
            tampered = restore(before)
            if self.noted is not None:
                self.noted.update(
                    (part.key(), part)
                    for call in list(calls)[:KNOWN]
                    for part in call.parts()[:KNOWN]
                )
                calls.clear()
            if stopped:
                lines = (("test", item.name), ("why", stopped))
            elif tampered:
                lines = (
                    ("test", item.name),
                    ("slip", f"it replaced {tampered}, which is not its to change"),
                )
            elif unwritten := diagnosis.missing(self.exercise, self.raised):
                lines = (("why", f"its tests need {diagnosis.unwritten(unwritten)}"),)
                return Verdict(
                    self.exercise.name, "cannot be graded", lines, time.perf_counter() - began
                )
            elif any(report.outcome != "passed" for report in reports):
                lines = (
                    ("test", item.name),
                    *diagnosis.explain(self.exercise, f, self.raised, calls),
                )
            else:
                continue
            return Verdict(self.exercise.name, "failed", lines, time.perf_counter() - began)
        return Verdict(self.exercise.name, "passed", (), time.perf_counter() - began)


def note_calls(exercise):
    """Note what the reference and each mutant make of the tests' calls, so that a slip is named where neither is at hand.

    Exercise -> {"calls": {key of a call: traces, first that of the reference}, "sentences": of the mutants}
    """
    noted = {}
    run_tests(exercise, [original(exercise)], noted)
    others = [mutant(exercise, old, new) for old, new, _ in exercise.mutants]
    calls = {
        key: [diagnosis.trace(attempt(call, f)) for f in (original(exercise), *others)]
        for key, call in noted.items()
    }
    return {"calls": calls, "sentences": [sentence for _, _, sentence in exercise.mutants]}
