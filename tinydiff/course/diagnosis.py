"""Why is this answer wrong? What was called, what came, what was expected, the slip if it is known.

A mutant that gives what the student's function gives is the diagnosis. A student's tree holds
neither the reference nor the mutants: there, traces of what they gave, noted beforehand, take their
place.
"""

import hashlib
import inspect
import json
import re

import numpy as np

from .calls import Raised, alike, attempt, brief, launched, same, tidy
from .exercises import ROOT, exercises, in_handout, mutant, original

TINY = re.compile(r"[-+]?\d\.\d+e-(1[3-9]|[2-9]\d|\d{3})\b")  # in text: 0 up to rounding


def _no_tiny(found):
    return "+0" if found[0].startswith("+") else "0"


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
    place = f", or put it into {exercise.place}" if in_handout() else ""
    return f"{what}: write it and check it{place}"


def explain(exercise, f, raised, calls):
    """Say what went wrong.

    raised: pytest's ExceptionInfo of the test that failed, or None; calls: the Calls that it made
    -> lines of a Verdict
    """
    lines = list(said(exercise, f, raised, calls))
    if any(head == "why" for head, _ in lines) and not any(head == "called" for head, _ in lines):
        lines += compared(exercise, f, calls)
    return lines + reread(exercise)


def said(exercise, f, raised, calls=()):
    """Say what a failed test says, without calling anything: arguments as of `explain`

    -> lines of a Verdict
    """
    if raised is None or raised.typename == "Skipped":
        yield "why", "a test was skipped, which does not count as passed"
        return
    slip = _wrong_kind(exercise, f, raised)
    if slip:
        yield "slip", slip
        return
    lines = _words(raised.value).strip().splitlines()
    lines = [line for line in lines if not line.lstrip().startswith("+")][:6]
    ours = [line for line in lines if not line.startswith("assert ")]  # before pytest's own
    text = TINY.sub(_no_tiny, "\n".join(ours or lines))
    place = getattr(getattr(inspect.unwrap(f), "__code__", None), "co_filename", None)
    theirs = [entry for entry in raised.traceback if str(entry.path) == place]
    if theirs and not isinstance(raised.value, AssertionError):
        where = f"in line {theirs[-1].lineno + 1} of its cell or file"
        yield "why", f"{raised.typename} {where}: {text}"
        if calls:
            yield "called", written(exercise, calls[-1])
    else:
        yield "why", text or raised.typename


def _words(error):
    try:
        return str(error)
    except Exception:  # a student's own error may have any __str__
        return type(error).__name__


def compared(exercise, f, calls):
    """Compare what f gives to noted calls with what is right -> lines of a Verdict"""
    if exercise.known:
        yield from _known_difference(exercise, f, calls)
        slip = _known_slip(exercise.known, f, calls)
    else:
        mine = [attempt(call, f) for call in calls]
        yield from difference(exercise, calls, mine)
        slip = slip_of(exercise, calls, mine, lambda call: attempt(call.shaken(), f))
    if slip:
        yield "slip", slip


def reread(exercise):
    """Name the place in the lesson: Exercise -> lines of a Verdict"""
    place = section(exercise)
    return [("reread", place)] if place else []


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


def difference(exercise, calls, mine):
    """Show the last noted call whose result is wrong: it failed the test.

    calls: Calls; mine: what came of each, as `attempt` gives it -> lines of a Verdict
    """
    if exercise.is_hunt:
        return  # it would give the answer away
    kernel = launched(original(exercise))
    for call, came in zip(reversed(calls), reversed(mine), strict=True):
        right = attempt(call, original(exercise))
        if isinstance(right, Raised) or alike(came, right):
            continue
        yield "called", written(exercise, call)
        if any(hasattr(a, "rng") for a in call.args):
            return  # it draws its own random numbers, and may do so in another order
        if isinstance(came, Raised):
            yield "came", str(came)
        elif kernel and same(came[:-1], right[:-1]):
            return  # its result is right, only the way there is wrong: the test says how
        elif len(came) != len(right):
            yield "came", _counted(came)
            yield "expected", _counted(right)
        else:
            pairs = zip(came, right, strict=True)
            yield from _compared(*next((a, b) for a, b in pairs if not same([a], [b])))
        return


def _counted(items):
    """Count and describe arrays: list of arrays -> "2 arrays: 0.5 float64; 3 int64" """
    shown = "; ".join(map(brief, items[:4])) + ("; ..." if len(items) > 4 else "")
    count = f"{len(items)} array{'s' * (len(items) != 1)}"
    return f"{count}: {shown}" if items else "nothing"


def _compared(came, expected):
    """Set two arrays side by side, large ones where they differ most -> lines of a Verdict"""
    if came.shape != expected.shape or came.size <= 6:
        yield "came", brief(came)
        yield "expected", brief(expected)
        return
    distance = np.abs(np.nan_to_num(came - expected, nan=np.inf))
    i = np.unravel_index(np.argmax(distance), came.shape)
    yield "came", f"{brief(came)}, at {[int(n) for n in i]}: {tidy(came[i]):.6g}"
    yield "expected", f"{brief(expected)}, there: {tidy(expected[i]):.6g}"


def written(exercise, call):
    """Write a call as code: Exercise, Call -> "q_sample(Schedule, array (4, 2) float32, 3)" """
    args = [brief(a) for a in call.args]
    args += [f"{name}={brief(value)}" for name, value in call.options.items()]
    if exercise.on_gpu:
        size = ", ".join(map(str, call.args[0]))
        return f"{exercise.function}[{size}]({', '.join(args[1:])})"
    return f"{exercise.function}({', '.join(args)})"


def slip_of(exercise, calls, mine, again):
    """Find the mutant that gives what f gives, in right calls and wrong -> its sentence, or None

    In the wrong ones it must do so on slightly shifted inputs as well, so that no slip is named by
    chance; and in some call both must give numbers: NaN and an error come about in many ways.
    calls, mine: as of `difference`; again: function of a Call, what f gives to it when it is shaken
    """
    right = [attempt(call, original(exercise)) for call in calls]
    wrong = [k for k in range(len(calls)) if not alike(mine[k], right[k])]
    if not any(tells(mine[k]) for k in wrong):
        return None
    shaken = [(calls[k].shaken(), again(calls[k])) for k in wrong]
    order = sorted(range(len(calls)), key=lambda k: k not in wrong)  # the telling ones first
    for old, new, sentence in exercise.mutants:
        other = mutant(exercise, old, new)
        if all(alike(mine[k], attempt(calls[k], other)) for k in order):
            if all(alike(came, attempt(call, other)) for call, came in shaken):
                return sentence


def tells(outcome):
    """Say whether an outcome can tell one slip from another: some number, or an error's own words.

    NaN alone, and what Python and NumPy say of a number that does not fit, come about in many ways.
    """
    if isinstance(outcome, Raised):
        return outcome.in_words
    numbers = [a for a in outcome if a.size]
    return not numbers or any(np.isfinite(a).any() for a in numbers)


# --- in a student's tree ---


def _recognised(known, f, calls):
    """Make those calls of which something is known -> list of (Call, outcome, traces)"""
    parts = [part for call in calls for part in call.parts() if part.key() in known["calls"]]
    return [(part, attempt(part, f), known["calls"][part.key()]) for part in parts]


def _known_difference(exercise, f, calls):
    if exercise.is_hunt:
        return
    for call, mine, traces in reversed(_recognised(exercise.known, f, calls)):
        if not _same_trace(trace(mine), traces[0]):
            yield "called", written(exercise, call)
            is_error = isinstance(mine, Raised)
            yield "came", str(mine) if is_error else ", ".join(map(brief, mine[:3]))
            return


def _known_slip(known, f, calls):
    tried = [
        (trace(mine), mine, part, traces) for part, mine, traces in _recognised(known, f, calls)
    ]
    wrong = [each for each in tried if not _same_trace(each[0], each[3][0])]
    if not any(tells(mine) for _, mine, _, _ in wrong):
        return None
    pairs = [(mine, traces) for mine, _, _, traces in tried]
    shaken = [part.shaken() for _, _, part, _ in wrong]
    pairs += [(trace(mine), traces) for _, mine, traces in _recognised(known, f, shaken)]
    for k, sentence in enumerate(known["sentences"], start=1):
        if all(_same_trace(mine, traces[k]) for mine, traces in pairs):
            return sentence


def trace(outcome):
    """Reduce an outcome to a trace by which it is recognised, but from which it cannot be read.

    outcome: list of arrays, or Raised -> [size, shape, type; or kind of error; projection; norm]
    """
    if isinstance(outcome, Raised):
        words = hashlib.sha256(outcome.text.encode(errors="replace")).hexdigest()[:8]
        return [f"{outcome.kind} {words}", 0.0, 0.0]
    flat = np.concatenate([np.zeros(1), *(np.ravel(a).astype(float) for a in outcome)])
    finite = np.where(np.isfinite(flat), flat, 0)
    first = f"{outcome[0].shape} {outcome[0].dtype}" if outcome else ""
    what = f"{flat.size} {first} {np.sum(flat != finite)}"
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
