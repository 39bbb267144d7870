"""Inside the sandbox: an arbiter, which has the reference, and a candidate, which runs the answer.

    desk        one per student: imports everything once, collects the tests; then, per exercise,
                forks an arbiter, and hands on what it says
    arbiter     notes what the tests ask of the reference, forks the candidate, waits for it; it
                runs nothing of the student's
    candidate   forgets the reference, builds the student's function, runs the tests on it, and
                then answers some of the noted calls once more; or compiles it, see compiled.py

The arbiter believes "passed" only if these answers are right, too, and by them it names a slip. So
whoever tampers with the tests, or with the candidate's word, still has to compute what was asked.
Where Python cannot fork, or in a student's tree, where there is no reference, the word counts.
"""

import ast
import base64
import ctypes
import inspect
import json
import linecache
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import wraps
from pathlib import Path

import numpy as np

try:
    import resource
except ImportError:  # Windows
    resource = None

from . import compiled, diagnosis, elsewhere
from .calls import Raised, attempt, launched
from .exercises import exercises, in_handout, in_place, mutant, original, put
from .handed_in import counts
from .handout import cut_files, defined
from .judge import Trial, guard, place, restore, with_tests
from .submission import Submission, Unreadable
from .suspects import suspects
from .verdict import Verdict, in_order

STATES = ("passed", "failed", "not attempted", "cannot be graded")
OTHERS = ("cpu", "cpu_direct", "cpu_winograd", "cpu_ladder", "cuda")  # kernels like those asked for
ASKED = 12  # calls that are answered once more, where all tests passed
READY = b'{"ready": true}\n'  # said by a desk before anything of the student's is run
CONFIRM = ""  # in place of a test's name: the calls that confirm what all tests said
LAST = 20  # the same of a test that failed
PATIENCE = 0.5  # seconds of a test whose calls are all answered once more, of longer ones a part
ROUNDING = 1e-3  # relative; how exact a result has to be, the tests decide
LONGEST = 4_000  # letters of one line of a verdict
REPORT = 64 << 20  # bytes of a candidate's report
GIB = 1 << 30
LIMITS = {"AS": 4 * GIB, "FSIZE": GIB >> 4, "NOFILE": 256, "CORE": 0}
PROCESSES = 64  # that an answer may start
KILL = getattr(signal, "SIGKILL", 9)  # Windows does not name it


# --- the desk ---


def serve(job, forget):
    """Grade a student's exercises one by one, and write a line of JSON on stdout for each.

    job: dict, see sandbox.Sandbox.grade; forget: () -> None, removes the reference from the disk
    """
    channel = os.dup(1)
    _close_streams()
    prctl("PDEATHSIG", KILL)
    prctl("DUMPABLE", 0)  # nobody looks into this process, or writes into its pipes
    asked = [e for e in exercises() if e.name in job["exercises"]]
    submissions = [Submission.from_cells(*parts) for parts in job["submissions"]]

    def say(exercise, verdict):
        _write(channel, (json.dumps(_as_json(exercise, verdict)) + "\n").encode())

    def one_by_one(items):
        """Called by pytest, once it has collected the tests."""
        if forks and not in_handout():
            _load(asked)
            kept.update({} if compiles else _names_kept(items))
            forget()
        _write(channel, READY)
        for exercise, own in items.items():
            desk = _Desk(exercise, own, submissions, job, forks, kept)
            say(exercise, desk.apart(channel) if forks else desk.here())

    kept, compiles = {}, job["compiles"]
    missing = compiled.missing if compiles else elsewhere.missing
    why = missing() if any(e.on_gpu for e in asked) else None
    forks = job["forks"] and hasattr(os, "fork")
    for e in exercises():
        if not _is_heavy(e) or (e in asked and not why):
            e.module  # noqa: B018  loaded now, while the reference is there
    without = dict.fromkeys(asked, why) if why else {}
    if compiles and not why:
        one_by_one({e: [] for e in asked})  # no test is run
    elif not why:
        without = with_tests(asked, one_by_one)
    for exercise, why in without.items():
        say(exercise, Verdict(exercise.name, "cannot be graded", (("why", why),)))


def from_json(exercise, said):
    """Read what `_as_json` wrote down: Exercise, dict -> Verdict

    Raises ValueError, TypeError or KeyError where it is anything else: a student's code may have
    written it.
    """
    if said["state"] not in STATES:
        raise ValueError("no such state")
    lines = [(str(head), str(text)) for head, text in said["lines"]]
    lines, used = in_order(lines), tuple(map(str, said["used"]))
    return Verdict(exercise.name, said["state"], lines, float(said["seconds"]), used=used)


def _is_heavy(exercise):
    return exercise.file.stem in ("cpu_ladder", "cuda_ladder")  # they load Numba


def _load(asked):
    """Load all that grading needs from the disk, before the reference goes from there."""
    for exercise in asked:
        for old, new, _ in exercise.mutants:
            mutant(exercise, old, new)
    for exercise in asked:
        if exercise.is_hunt:
            suspects(exercise.function)


def _names_kept(items):
    """Find what of the tests' files a handout holds: the other tests may know answers.

    items: {exercise: pytest's items} -> {module: set of names}
    """
    wanted = {}
    for item in (item for own in items.values() for item in own):
        wanted.setdefault(item.path.name, set()).add(item.function.__name__)
    return {
        name.removesuffix(".py"): {n for node in ast.parse(source).body for n in defined(node)}
        for name, source in cut_files(wanted).items()
    }


def _as_json(exercise, verdict):
    lines = [(head, text[:LONGEST]) for head, text in verdict.lines]
    said = {"exercise": exercise.name, "state": verdict.state, "lines": lines}
    return said | {"seconds": verdict.seconds, "used": verdict.used}


class _Desk:
    """One exercise of one student: what has to be done for it, and in which process."""

    def __init__(self, exercise, items, submissions, job, forks, kept):
        self.exercise, self.items, self.submissions = exercise, items, submissions
        self.seconds, self.forks, self.kept = job["seconds"], forks, kept
        self.beside = job["beside"] | counts(submissions, exercise).beside
        self.has_reference = forks and not in_handout()
        self.compiles = job["compiles"]
        self.asks = self.has_reference and not self.compiles

    def apart(self, channel):
        """Fork an arbiter and wait for what it says: -> Verdict"""
        memory = _killed_for_memory()
        with _forked(self._arbitrate, closed=[channel]) as child:
            text = child.line(4 * self.seconds + 30)
        with suppress(ValueError, KeyError, TypeError):
            return from_json(self.exercise, json.loads(text))
        if _killed_for_memory() > memory:
            return self._cannot("the machine ran out of memory: grade it again")
        return self._failed(f"it ended the process{signal_name(child.code)}")

    def here(self):
        """Do the candidate's part in this process, which ends with it: -> Verdict"""
        _limit(self.seconds)
        with _folder(self.beside):
            sys.path.insert(0, os.getcwd())
            return self._run()

    def _failed(self, why):
        return Verdict(self.exercise.name, "failed", (("why", why),))

    def _cannot(self, why):
        return Verdict(self.exercise.name, "cannot be graded", (("why", why),))

    # --- the arbiter ---

    def _arbitrate(self, out):
        """Grade the exercise, in a process of its own: out, number of the pipe to the desk"""
        prctl("PDEATHSIG", KILL)
        prctl("CHILD_SUBREAPER", 1)  # whatever the candidate starts comes to this process
        try:
            verdict = self._verdict(out)
        except Exception as error:
            verdict = self._cannot(f"{type(error).__name__}: {error}")
        _write(out, (json.dumps(_as_json(self.exercise, verdict)) + "\n").encode())

    def _verdict(self, out):
        noted = self._note() if self.asks else {}
        if isinstance(noted, Verdict):
            return noted
        memory, work = _killed_for_memory(), lambda report: self._candidate(report, noted)
        with _folder(self.beside), _forked(work, closed=[out]) as child:
            text = child.line(self.seconds)
            rest = child.line(self.seconds) if text and self.asks else b""
        try:
            said = json.loads(text)
            verdict, test = from_json(self.exercise, said), str(said["test"])
        except Exception:  # whatever was written in the report's place
            if child.late:
                limit = f"it did not finish within {self.seconds:g} seconds"
                return self._failed(f"{limit}: is there an endless loop?")
            if _killed_for_memory() > memory:
                return self._cannot("the machine ran out of memory: grade it again")
            return self._failed(f"it ended the process{signal_name(child.code)}")
        if not self.asks:
            return verdict
        answers = _outcomes(rest)
        if verdict.state == "passed":
            return self._confirmed(verdict, noted, answers)
        if verdict.state == "not attempted":
            return verdict
        return self._explained(replace(verdict, state="failed"), noted.get(test, []), answers)

    def _note(self):
        """Run the tests on the reference: -> {test: Calls}, and those that CONFIRM a result

        Or a Verdict, if the reference itself fails here.
        """
        noted, trial = {}, Trial(self.exercise, explains=False, guards=False)
        for item in self.items:
            verdict = trial.verdict([item], original(self.exercise))
            if verdict.state != "passed":
                why = dict(verdict.lines).get("why", "")
                return self._cannot(f"the package's own answer fails here, {item.name}: {why}")
            calls = list(trial.calls)
            most = min(LAST, 2 + int(len(calls) * PATIENCE / verdict.seconds))
            noted[item.name] = calls[-most:]
            trial.calls.clear()
        every = [call for calls in noted.values() for call in calls]
        settled = [call for call in every if not call.is_random()]
        settled = settled or [call for call in every if self._is_settled(call)]
        marks = [mark for item in self.items for mark in item.iter_markers("exercise")]
        if any(mark.kwargs.get("free") for mark in marks):
            settled = []  # another right answer gives something else
        return noted | {CONFIRM: settled[:: max(1, -(-len(settled) // ASKED))]}

    def _is_settled(self, call):
        """Say whether a call gives the same with other random numbers: -> bool"""
        f, given = original(self.exercise), [*call.args, *call.options.values()]
        if any(hasattr(a, "rng") for a in given):
            return False  # a training: many are right
        return _agree(attempt(call, f), attempt(call.reseeded(), f))

    def _confirmed(self, verdict, noted, answers):
        """Believe "passed" where at least half of the calls are answered rightly, too."""
        is_kernel, f = launched(original(self.exercise)), original(self.exercise)
        right = [attempt(call, f) for call in noted[CONFIRM]]
        if is_kernel:  # how a kernel goes about its work, its tests judge
            right, answers = ([a[:-1] for a in those] for those in (right, answers))
        is_whole = len(answers) == len(right)
        if is_whole and sum(map(_agree, answers, right)) >= len(right) / 2:
            return verdict
        why = "called once more, apart from the tests, it does not give what it gave to them"
        calls, came = (noted[CONFIRM], answers) if is_whole else ([], [])
        lines = [("why", why), *diagnosis.difference(self.exercise, calls, came)]
        return replace(verdict, state="failed", lines=in_order(lines))

    def _explained(self, verdict, calls, answers):
        """Add to a failed test what came, what was expected, and the slip if it is known."""
        lines = list(verdict.lines)
        if "why" in dict(lines) and "called" not in dict(lines) and len(answers) == 2 * len(calls):
            mine, shaken = answers[: len(calls)], answers[len(calls) :]
            again = {id(call): came for call, came in zip(calls, shaken, strict=True)}
            lines += diagnosis.difference(self.exercise, calls, mine)
            slip = diagnosis.slip_of(self.exercise, calls, mine, lambda call: again[id(call)])
            lines += [("slip", slip)] if slip else []
        return replace(verdict, lines=in_order(lines))

    # --- the candidate ---

    def _candidate(self, report, noted):
        """Run the student's code, in a process of its own: report, number of the pipe"""
        prctl("PDEATHSIG", KILL)
        os.setsid()
        _limit(self.seconds)
        if self.has_reference:
            _forget(self.exercise, self.kept)
        sys.path.insert(0, os.getcwd())  # from here on, the student's own modules count
        asked = []

        def say(verdict, test):
            line = _as_json(self.exercise, verdict) | {"test": test}
            _write(report, (json.dumps(line) + "\n").encode())
            if self.asks and verdict.state in ("passed", "failed"):
                asked.extend(noted.get(test, []))
                asked.extend(call.shaken() for call in asked[:] if test != CONFIRM)

        f = self._run(say)
        outcomes = [_packed(attempt(call, f)) for call in asked]
        _write(report, (json.dumps(outcomes) + "\n").encode())

    def _run(self, say=None):
        """Build the student's function and run the tests on it.

        If it fails, and the file has more that may bear on it, once more with that.
        say: takes the Verdict and the name of the test that failed -> the function; else -> Verdict
        """
        exercise, submission = self.exercise, counts(self.submissions, self.exercise)
        if exercise.name.startswith("kernels."):  # the package's other versions are out of reach
            others = set(OTHERS) - {exercise.file.stem}
            sys.modules |= dict.fromkeys(f"tinydiff.kernels.{k}" for k in others)
        tried, used = [], set()
        with in_place(exercise, lambda *args, **options: tried[-1](*args, **options)):
            if in_handout():
                _put_others(self.submissions, exercise, used)
            verdict, test = self._tried(submission, False, tried, used)
            if verdict.state == "failed" and submission.has_more(exercise.function):
                again, _ = self._tried(submission, True, tried, used)
                if again.state == "passed":
                    verdict, test = again, ""
                else:
                    tried.pop()
            if say is None:
                return verdict
            say(verdict, test)
            return tried[-1]

    def _tried(self, submission, generous, tried, used):
        """Build the function, add it to `tried`, test it: -> Verdict, name of the failed test"""
        exercise, before = self.exercise, guard(self.items[0]) if self.items else []
        tried.append(None)
        try:
            f = tried[-1] = submission.build(exercise.function, generous)
        except Unreadable as error:
            return (self._cannot if self.compiles else self._failed)(str(error)), ""
        if in_handout():
            _note_calls_within(f, exercise, used)
        if tampered := restore(before):
            slip = f"it replaced {tampered}, which it must not change"
            return Verdict(exercise.name, "failed", (("slip", slip),)), ""
        if not callable(f):
            why = f"{exercise.function} is a {type(f).__name__}, not a function"
            return Verdict(exercise.name, "not attempted", (("why", why),)), ""
        if self.compiles:
            return compiled.verdict(exercise, f), ""
        trial = Trial(exercise, explains=not self.has_reference)
        verdict = trial.verdict(self.items, f)
        lines = [(head, submission.explained(text)) for head, text in verdict.lines]
        lines += [("ran", place())] if exercise.on_gpu else []
        test = trial.failed.name if trial.failed else ""
        return replace(verdict, lines=in_order(lines), used=tuple(used)), test


def _put_others(submissions, exercise, used):
    """Put the files' other answers in their places: what the package lacks, the tests may need.

    used: set to which the names of those that are called are added
    """
    for other in exercises():
        found = counts(submissions, other)
        if other is exercise or not found or other.function in found.broken:
            continue
        if found.attempts(other.function):
            with suppress(Unreadable):  # that costs the other's point
                put(other, noting(other, found.build(other.function), used))


def _note_calls_within(f, exercise, used):
    """Note calls of the file's other answers by this one, too: they are names in its module."""
    names = getattr(inspect.unwrap(f), "__globals__", {})
    for other in exercises():
        if other is not exercise and other.function in names:
            names[other.function] = noting(other, names[other.function], used)


def noting(exercise, f, used):
    """Wrap an answer so that its name is added to the set `used` when it is called -> function"""
    if not inspect.isfunction(f):
        return f  # a compiled kernel

    @wraps(f)
    def noted(*args, **options):
        used.add(exercise.name)
        return f(*args, **options)

    return noted


# --- the reference, forgotten ---


def _gone(*args, **options):
    raise NotImplementedError("the package's own answer is out of reach")


def _gone_step_by_step(*args, **options):
    yield _gone()


def _forget(exercise, kept):
    """Take the reference and the mutants of an exercise out of this process, and all sources.

    kept: {module of tests: set of the names in it that stay}
    """
    for module, names in kept.items():
        known = vars(sys.modules[module])
        for name in [n for n in known if n.isidentifier() and n[:2] != "__" and n not in names]:
            del known[name]
    for f in [original(exercise), *(mutant(exercise, *m[:2]) for m in exercise.mutants)]:
        for g in {id(g): g for g in (f, inspect.unwrap(f), getattr(f, "py_func", f))}.values():
            if inspect.isfunction(g) and not g.__code__.co_freevars:
                stub = _gone_step_by_step if inspect.isgeneratorfunction(g) else _gone
                g.__signature__ = inspect.signature(g)  # see calls.renamed
                g.__code__ = stub.__code__
    for each in exercises():
        object.__setattr__(each, "mutants", ())
    mutant.cache_clear()
    linecache.clearcache()


# --- what the candidate answers, as plain data ---


def _packed(outcome):
    """Write an outcome down as JSON can hold it: list of arrays, or Raised -> dict or list"""
    if isinstance(outcome, Raised):
        return {"kind": outcome.kind, "text": outcome.text[:2000], "in_words": outcome.in_words}
    return [
        [a.dtype.str, a.shape, base64.b64encode(a.tobytes()).decode()]
        if a.dtype.kind in "biufc"
        else ["?", [], ""]
        for a in outcome
    ]


def _outcomes(text):
    """Read what `_packed` wrote: JSON of a list -> list of outcomes, empty where it is none"""
    try:
        return [_unpacked(item) for item in json.loads(text)]
    except Exception:
        return []


def _unpacked(item):
    if isinstance(item, dict):
        return Raised(str(item["kind"]), str(item["text"]), item["in_words"] is True)
    known = [(kind, shape, base64.b64decode(data)) for kind, shape, data in item if kind != "?"]
    return [np.frombuffer(data, np.dtype(kind)).reshape(shape) for kind, shape, data in known]


def _agree(came, right):
    """Say whether two outcomes are the same up to rounding, whatever their shapes and types."""
    if isinstance(came, Raised) or isinstance(right, Raised):
        return isinstance(came, Raised) and isinstance(right, Raised)
    a, b = (np.concatenate([np.zeros(1), *map(np.ravel, those)]) for those in (came, right))
    size = np.abs(b[np.isfinite(b)]).max()
    near = {"rtol": ROUNDING, "atol": ROUNDING * size, "equal_nan": True}
    return a.size == b.size and np.allclose(a, b, **near)


# --- processes ---


class _Child:
    """A forked process and the pipe on which it reports, line by line.

    late: a line did not come in time; code: its exit status, once it has ended
    """

    def __init__(self, pid, pipe):
        self.pipe, self.code, self.late, self.rest = pipe, 0, False, bytearray()
        self.life = os.pidfd_open(pid)  # readable when it has ended

    def line(self, seconds):
        """Wait for a line: limit -> bytes, empty where none came"""
        deadline, seen = time.monotonic() + seconds, 0
        while (end := self.rest.find(b"\n", seen)) < 0:
            seen = len(self.rest)
            if seen > REPORT or not self._more(deadline):
                return b""
        line, self.rest = bytes(self.rest[: end + 1]), self.rest[end + 1 :]
        return line

    def _more(self, deadline):
        left = max(0.0, deadline - time.monotonic())
        ready = select.select([self.pipe, self.life], [], [], left)[0]
        self.late = not ready
        new = os.read(self.pipe, 1 << 16) if self.pipe in ready else b""
        self.rest += new
        return bool(new)


@contextmanager
def _forked(work, closed=()):
    """Run work(number of a pipe) in a process of its own for the length of a `with` block.

    closed: numbers of files that it must not hold. At the end whatever it has started ends, too.
    -> _Child
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for number in (read, *closed):
                os.close(number)
            work(write)
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    child = _Child(pid, read)
    try:
        yield child
    finally:
        child.code = _end(pid)
        os.close(child.life)
        os.close(read)


def _end(pid):
    """End a child, and all processes that have come to this one from it -> its exit status"""
    status = None
    while True:
        for each in {*_children(), *([pid] if status is None else [])}:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(each, signal.SIGKILL)
        try:
            ended, code = os.waitpid(-1, 0)
        except ChildProcessError:
            return status
        if ended == pid:
            status = os.waitstatus_to_exitcode(code)


def _children():
    with suppress(OSError):
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        return set(map(int, text.split()))
    return set()


def signal_name(code):
    """Name the signal that ended a process: its return code -> " (SIGKILL)", or "" without one"""
    names = {s.value: s.name for s in signal.Signals}
    return f" ({names.get(-code, f'signal {-code}')})" if code < 0 else ""


def _killed_for_memory():
    """Count the processes that this machine has ended for want of memory: () -> int"""
    with suppress(OSError, ValueError, IndexError):
        text = Path("/proc/vmstat").read_text().split("oom_kill ")[1]
        return int(text.split()[0])
    return 0


def _limit(seconds):
    """Set limits that hold for this process and all that it starts, as far as the system has them.

    Processor time, memory, the size of a file, open files, processes.
    """
    if resource is None:
        return  # only the limit on time remains
    allowed = LIMITS | {"CPU": int(seconds) + 5, "NPROC": _tasks() + PROCESSES}
    for name, value in allowed.items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        with suppress(ValueError, OSError, TypeError):
            resource.setrlimit(kind, (value, value))


def _tasks():
    """Count the processes and threads of this user, which a limit on processes counts: () -> int"""
    count = 0
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            count += len(os.listdir(path / "task")) if path.stat().st_uid == os.getuid() else 0
    return count


def prctl(option, value):
    """Set an option of this process where the system is Linux: name, int -> None"""
    number = {"PDEATHSIG": 1, "DUMPABLE": 4, "CHILD_SUBREAPER": 36}[option]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(number, value, 0, 0, 0)


def _close_streams():
    """Let whatever is printed go nowhere, and let nothing be read."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)


def _write(number, data):
    while data:
        data = data[os.write(number, data) :]


@contextmanager
def _folder(beside):
    """Work in an empty folder that holds the files which came with a submission, if any.

    beside: dict of relative name to bytes
    """
    before, folder = os.getcwd(), Path(tempfile.mkdtemp())
    try:
        for name, content in beside.items():
            path = folder / name
            with suppress(OSError):  # a name that no disk takes
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        os.chdir(folder)
        yield
    finally:
        os.chdir(before)
        shutil.rmtree(folder, ignore_errors=True)
