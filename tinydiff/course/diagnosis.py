"""Why is this answer wrong? What was called, what came, what was expected, the slip if it is known, the section to read again.

A mutant that gives what the student's function gives is the diagnosis. In a student's tree, where neither the reference nor the mutants
are at hand, traces of what they gave, noted beforehand, take their place.
"""

import inspect
import json
from pathlib import Path

import numpy as np

from .calls import alike, attempt, brief, launched, same
from .exercises import ROOT, exercises, in_handout, mutant, original


def missing(exercise, raised):
    """Find out whether a test stopped at another exercise that is not written yet, in a student's tree -> that Exercise, or None"""
    if not in_handout() or raised is None or raised.typename != "NotImplementedError":
        return None
    name = raised.traceback[-1].name
    return next((e for e in exercises() if e.function == name and e is not exercise), None)


def unwritten(exercise):
    """Say which function is missing, and where it belongs: Exercise -> str"""
    file = Path(exercise.module.__file__).resolve().relative_to(ROOT).as_posix()
    return f"{exercise.name}, an exercise of lesson {exercise.lesson} that is not written yet: write it and check it, or put it into {file}"


def explain(exercise, f, raised, calls):
    """Say what went wrong -> lines of a Verdict"""
    if raised is None or raised.typename == "Skipped":
        yield "why", "a test was skipped: that is no pass"
        return
    if hasattr(original(exercise), "forward") and not hasattr(f, "forward"):
        yield (
            "slip",
            "the line @op above its def is missing: it makes an operation of a function that returns (value, vjp)",
        )
        return
    if launched(original(exercise)) and not launched(f):
        yield "slip", "the line @cuda.jit above its def is missing: it makes a kernel of a function"
        return
    if isinstance(raised.value, RecursionError):
        yield (
            "slip",
            f"it calls the package's own {exercise.function}, whose place it has taken (or itself, without end): write it out",
        )
        return
    if inspect.isgeneratorfunction(
        inspect.unwrap(original(exercise))
    ) and not inspect.isgeneratorfunction(inspect.unwrap(f)):
        yield (
            "slip",
            f"{exercise.function} is a generator: it yields every step as it goes; yours returns",
        )
        return
    said = [
        line for line in str(raised.value).strip().splitlines() if not line.lstrip().startswith("+")
    ][:6]
    text = "\n".join(
        [line for line in said if not line.startswith("assert ")] or said
    )  # our own words, before pytest's
    place = getattr(getattr(inspect.unwrap(f), "__code__", None), "co_filename", None)
    theirs = [entry for entry in raised.traceback if str(entry.path) == place]
    if theirs and calls and not isinstance(raised.value, AssertionError):
        yield (
            "why",
            f"{raised.typename} in line {theirs[-1].lineno + 1} of its cell or file: {text}",
        )
        yield "called", _written(exercise, calls[-1])
    else:
        yield "why", text or raised.typename
        yield from _difference(exercise, f, calls)
        slip = _slip(exercise, f, calls)
        if slip:
            yield "slip", slip
    reread = section(exercise)
    if reread:
        yield "reread", reread


def _difference(exercise, f, calls):
    """Show the last noted call whose result is wrong: it is what the test complains of -> lines of a Verdict"""
    if exercise.known:
        yield from _known_difference(exercise, f, calls)
        return
    for call in reversed(calls):
        mine, right = attempt(call, f), attempt(call, original(exercise))
        if isinstance(right, BaseException) or alike(mine, right):
            continue
        yield "called", _written(exercise, call)
        if any(hasattr(a, "rng") for a in call.args):
            return  # it draws its own random numbers, and may do so in another order
        if isinstance(mine, BaseException):
            yield "came", f"{type(mine).__name__}: {mine}".splitlines()[0]
        elif launched(f) and same(mine[:-1], right[:-1]):
            return  # its result is right, only the way there is wrong: the test says how
        elif len(mine) == len(right):
            came, expected = next(
                (a, b) for a, b in zip(mine, right, strict=True) if not same([a], [b])
            )
            if came.shape == expected.shape and came.size > 6:
                i = np.unravel_index(
                    np.argmax(np.abs(np.nan_to_num(came - expected, nan=np.inf))), came.shape
                )
                yield "came", f"{brief(came)}, at {[int(n) for n in i]}: {came[i]:.6g}"
                yield "expected", f"{brief(expected)}, there: {expected[i]:.6g}"
            else:
                yield "came", brief(came)
                yield "expected", brief(expected)
        else:
            yield (
                "came",
                f"{abs(len(mine) - len(right))} array(s) {'more' if len(mine) > len(right) else 'less'} than expected",
            )
        return


def _written(exercise, call):
    given = [
        *map(brief, call.args),
        *(f"{name}={brief(value)}" for name, value in call.options.items()),
    ]
    if exercise.on_card:
        return f"{exercise.function}[{', '.join(map(str, call.args[0]))}]({', '.join(given[1:])})"
    return f"{exercise.function}({', '.join(given)})"


def _slip(exercise, f, calls):
    """Find the mutant that gives the same as f in every noted call -> its sentence, or None"""
    if exercise.known:
        return _known_slip(exercise.known, f, calls)
    mine, right = (
        [attempt(call, f) for call in calls],
        [attempt(call, original(exercise)) for call in calls],
    )
    wrong = [k for k in range(len(calls)) if not alike(mine[k], right[k])]
    for old, new, sentence in exercise.mutants if wrong else ():
        other = mutant(exercise, old, new)
        if all(alike(mine[k], attempt(calls[k], other)) for k in wrong):
            return sentence


def _recognised(known, f, calls):
    """In a student's tree: find the calls of which something is known, and try them -> list of (Call, outcome, traces)"""
    parts = [part for call in calls for part in call.parts() if part.key() in known["calls"]]
    return [(part, attempt(part, f), known["calls"][part.key()]) for part in parts]


def _known_difference(exercise, f, calls):
    for call, mine, traces in reversed(_recognised(exercise.known, f, calls)):
        if not _same_trace(trace(mine), traces[0]):
            yield "called", _written(exercise, call)
            yield (
                "came",
                f"{type(mine).__name__}: {mine}".splitlines()[0]
                if isinstance(mine, BaseException)
                else ", ".join(map(brief, mine[:3])),
            )
            return


def _known_slip(known, f, calls):
    wrong = [
        (trace(mine), traces)
        for _, mine, traces in _recognised(known, f, calls)
        if not _same_trace(trace(mine), traces[0])
    ]
    for k, sentence in enumerate(known["sentences"] if wrong else (), start=1):
        if all(_same_trace(mine, traces[k]) for mine, traces in wrong):
            return sentence


def trace(outcome):
    """Keep so much of an outcome that it is recognised, but cannot be read: list of arrays, or an error -> [what, projection, size]"""
    if isinstance(outcome, BaseException):
        return [type(outcome).__name__, 0.0, 0.0]
    flat = np.concatenate([np.zeros(1), *(np.ravel(a).astype(float) for a in outcome)])
    finite = np.where(np.isfinite(flat), flat, 0)
    what = f"{flat.size} {outcome[0].shape if outcome else ''}"
    return [
        what,
        *(float(f"{v:.7g}") for v in (finite @ np.cos(np.arange(flat.size)), abs(finite).sum())),
    ]


def _same_trace(a, b):
    return a[0] == b[0] and all(
        abs(p - q) <= 1e-6 + 1e-5 * b[2] for p, q in zip(a[1:], b[1:], strict=True)
    )


def section(exercise):
    """Find the heading of the lesson under which the exercise stands -> "01_forward, 2. All at once", or None"""
    path, heading = ROOT / "lessons" / f"{exercise.lesson}.ipynb", ""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if path.exists() else ():
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            heading = [
                heading,
                *(
                    line.strip("# ")
                    for line in text.splitlines()
                    if line.startswith(("## ", "### "))
                ),
            ][-1]
        elif f"def {exercise.function}(" in text:
            return f"lesson {exercise.lesson}, {heading}"
