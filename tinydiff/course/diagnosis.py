"""Why is this answer wrong? What was called, what came, what was expected, the slip if it is known.

A mutant that gives what the student's function gives is the diagnosis. A student's tree holds
neither the reference nor the mutants: there, traces of what they gave, noted beforehand, take their
place.
"""

import inspect
import json

import numpy as np

from .calls import alike, attempt, brief, launched, same
from .exercises import ROOT, exercises, in_handout, mutant, original


def missing(exercise, raised):
    """Find out whether a test stopped, in a student's tree, at another exercise not written yet.

    raised: pytest's ExceptionInfo or None -> that Exercise, or None
    """
    if not in_handout() or raised is None or raised.typename != "NotImplementedError":
        return None
    name = raised.traceback[-1].name
    return next((e for e in exercises() if e.function == name and e is not exercise), None)


def unwritten(exercise):
    """Say which function is missing, and where it belongs: Exercise -> str"""
    what = f"{exercise.name}, an exercise of lesson {exercise.lesson} that is not written yet"
    return f"{what}: write it and check it, or put it into {exercise.place}"


def explain(exercise, f, raised, calls):
    """Say what went wrong.

    raised: pytest's ExceptionInfo of the test that failed, or None; calls: the Calls that it made
    -> lines of a Verdict
    """
    if raised is None or raised.typename == "Skipped":
        yield "why", "a test was skipped, which does not count as passed"
        return
    slip = _wrong_kind(exercise, f, raised)
    if slip:
        yield "slip", slip
        return
    lines = str(raised.value).strip().splitlines()
    lines = [line for line in lines if not line.lstrip().startswith("+")][:6]
    ours = [line for line in lines if not line.startswith("assert ")]  # before pytest's own
    text = "\n".join(ours or lines)
    place = getattr(getattr(inspect.unwrap(f), "__code__", None), "co_filename", None)
    theirs = [entry for entry in raised.traceback if str(entry.path) == place]
    if theirs and calls and not isinstance(raised.value, AssertionError):
        where = f"in line {theirs[-1].lineno + 1} of its cell or file"
        yield "why", f"{raised.typename} {where}: {text}"
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


def _wrong_kind(exercise, f, raised):
    """Recognise a function that is not of the reference's kind at all -> a sentence, or None"""
    right, name = original(exercise), exercise.function
    yields = lambda g: inspect.isgeneratorfunction(inspect.unwrap(g))
    above = "above its def is missing: it makes"
    if hasattr(right, "forward") and not hasattr(f, "forward"):
        return f"the line @op {above} an operation of a function that returns (value, vjp)"
    if launched(right) and not launched(f):
        return f"the line @cuda.jit {above} a kernel of a function"
    if isinstance(raised.value, RecursionError):
        called = f"it calls the package's own {name}, whose place it has taken"
        return f"{called} (or itself, endlessly): write it out"
    if yields(right) and not yields(f):
        return f"{name} is a generator: it yields every step as it goes; yours returns"
    return None


def _difference(exercise, f, calls):
    """Show the last noted call whose result is wrong: it failed the test -> lines of a Verdict"""
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
            yield "came", _first_line(mine)
        elif launched(f) and same(mine[:-1], right[:-1]):
            return  # its result is right, only the way there is wrong: the test says how
        elif len(mine) != len(right):
            yield "came", _counted(len(mine) - len(right))
        else:
            pairs = zip(mine, right, strict=True)
            yield from _compared(*next((a, b) for a, b in pairs if not same([a], [b])))
        return


def _first_line(error):
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _counted(more):
    """Say how many arrays too many came, or too few: int -> "2 arrays more than expected" """
    count = "one array" if abs(more) == 1 else f"{abs(more)} arrays"
    return f"{count} {'more' if more > 0 else 'fewer'} than expected"


def _compared(came, expected):
    """Set two arrays side by side, large ones where they differ most -> lines of a Verdict"""
    if came.shape != expected.shape or came.size <= 6:
        yield "came", brief(came)
        yield "expected", brief(expected)
        return
    distance = np.abs(np.nan_to_num(came - expected, nan=np.inf))
    i = np.unravel_index(np.argmax(distance), came.shape)
    yield "came", f"{brief(came)}, at {[int(n) for n in i]}: {came[i]:.6g}"
    yield "expected", f"{brief(expected)}, there: {expected[i]:.6g}"


def _written(exercise, call):
    """Write a call as code: Exercise, Call -> "q_sample(Schedule, array (4, 2) float32, 3)" """
    args = [brief(a) for a in call.args]
    args += [f"{name}={brief(value)}" for name, value in call.options.items()]
    if exercise.on_gpu:
        size = ", ".join(map(str, call.args[0]))
        return f"{exercise.function}[{size}]({', '.join(args[1:])})"
    return f"{exercise.function}({', '.join(args)})"


def _slip(exercise, f, calls):
    """Find the mutant that gives what f gives in all wrong calls -> its sentence, or None"""
    if exercise.known:
        return _known_slip(exercise.known, f, calls)
    mine = [attempt(call, f) for call in calls]
    right = [attempt(call, original(exercise)) for call in calls]
    wrong = [k for k in range(len(calls)) if not alike(mine[k], right[k])]
    for old, new, sentence in exercise.mutants if wrong else ():
        other = mutant(exercise, old, new)
        if all(alike(mine[k], attempt(calls[k], other)) for k in wrong):
            return sentence


# --- in a student's tree ---


def _recognised(known, f, calls):
    """Make those calls of which something is known -> list of (Call, outcome, traces)"""
    parts = [part for call in calls for part in call.parts() if part.key() in known["calls"]]
    return [(part, attempt(part, f), known["calls"][part.key()]) for part in parts]


def _known_difference(exercise, f, calls):
    for call, mine, traces in reversed(_recognised(exercise.known, f, calls)):
        if not _same_trace(trace(mine), traces[0]):
            is_error = isinstance(mine, BaseException)
            yield "called", _written(exercise, call)
            yield "came", _first_line(mine) if is_error else ", ".join(map(brief, mine[:3]))
            return


def _known_slip(known, f, calls):
    tried = [(trace(mine), traces) for _, mine, traces in _recognised(known, f, calls)]
    wrong = [(mine, traces) for mine, traces in tried if not _same_trace(mine, traces[0])]
    for k, sentence in enumerate(known["sentences"] if wrong else (), start=1):
        if all(_same_trace(mine, traces[k]) for mine, traces in wrong):
            return sentence


def trace(outcome):
    """Reduce an outcome to a trace by which it is recognised, but from which it cannot be read.

    outcome: list of arrays, or an error -> [size and shape, or kind of error; projection; norm]
    """
    if isinstance(outcome, BaseException):
        return [type(outcome).__name__, 0.0, 0.0]
    flat = np.concatenate([np.zeros(1), *(np.ravel(a).astype(float) for a in outcome)])
    finite = np.where(np.isfinite(flat), flat, 0)
    what = f"{flat.size} {outcome[0].shape if outcome else ''}"
    projection, size = finite @ np.cos(np.arange(flat.size)), abs(finite).sum()
    return [what, float(f"{projection:.7g}"), float(f"{size:.7g}")]


def _same_trace(a, b):
    near = lambda p, q: abs(p - q) <= 1e-6 + 1e-5 * b[2]
    return a[0] == b[0] and all(map(near, a[1:], b[1:]))


def section(exercise):
    """Find the heading of the lesson under which an exercise stands.

    Exercise -> "lesson 01_forward, 2. All at once", or None
    """
    path, heading = ROOT / "lessons" / f"{exercise.lesson}.ipynb", ""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if path.exists() else ():
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            for line in text.splitlines():
                heading = line.strip("# ") if line.startswith(("## ", "### ")) else heading
        elif f"def {exercise.function}(" in text:
            return f"lesson {exercise.lesson}, {heading}"
