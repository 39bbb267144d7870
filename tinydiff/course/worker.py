"""Grade a student's answers, each in a process of its own, with limits: see sandbox and arbiter.

An answer that loops, exits or floods costs only its own point.
"""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from . import diagnosis, elsewhere, grade, sandbox
from .arbiter import from_json, noting, signal_name
from .exercises import SECONDS, Exercise, exercises, in_place, original
from .handed_in import counts
from .sandbox import Ended, Sandbox, protection  # noqa: F401
from .submission import Submission, read
from .verdict import Verdict, in_order

LONGEST = 86_400.0  # seconds for one exercise
FORKS = hasattr(os, "pidfd_open")  # on Linux; elsewhere each exercise has a sandbox, and no arbiter
START = 60  # seconds for a sandbox to begin with


@dataclass(frozen=True)
class Result:
    """One line of a board. submission: the file whose function was graded, None = no file has it"""

    exercise: Exercise
    submission: Submission | None
    verdict: Verdict

    @property
    def points(self):
        """Count the points: 1 for passed, else 0"""
        return int(self.verdict.state == "passed")

    @property
    def place(self):
        """Say what was graded -> (where, 12 hex digits), both "" where nothing was"""
        name = self.exercise.function
        if self.submission is None or not self.submission.attempts(name):
            return "", ""
        return self.submission.place(name), self.submission.digest(name)


def cores():
    """Count the cores that this process may use: () -> int"""
    with_mask = getattr(os, "sched_getaffinity", None)
    return len(with_mask(0)) if with_mask else os.cpu_count() or 1


@contextmanager
def grading_pool(jobs=None):
    """Open a pool of threads for grading, jobs at a time (None = as many as cores).

    When the `with` block is interrupted, all that students have started is ended at once.
    -> ThreadPoolExecutor
    """
    name = f"grading {time.monotonic_ns()}"
    sandbox._tree()  # here, since Python 3.11 must not parse in several threads at a time
    with ThreadPoolExecutor(jobs or cores(), name) as pool:
        try:
            yield pool
        except BaseException:
            _stopped.add(name)
            pool.shutdown(wait=False, cancel_futures=True)
            while any(thread.name.startswith(name) for thread in threading.enumerate()):
                sandbox.end_all()
                time.sleep(0.02)  # one may be about to start
            raise


_stopped = set()  # names of pools that were interrupted


def _is_stopped():
    """Say whether the pool of this thread was interrupted: () -> bool"""
    return any(threading.current_thread().name.startswith(name) for name in _stopped)


def grade_one(submissions, exercise, seconds=SECONDS, beside=None):
    """Grade one exercise of one student: list of Submissions, Exercise, limit -> Result"""
    return grade_student(submissions, [exercise], seconds, beside)[0]


def grade_all(submissions, chosen=None, seconds=SECONDS, beside=None):
    """Grade the files of one student, several exercises at a time.

    submissions: list of Submissions; chosen: list of Exercises, None = all; seconds: limit for one
    -> list of Results in the order of the exercises
    """
    chosen = list(chosen or exercises())
    with grading_pool() as pool:
        parts = [chosen[k :: cores()] for k in range(cores())]
        once = lambda part: grade_student(submissions, part, seconds, beside)
        found = {r.exercise: r for results in pool.map(once, parts) for r in results}
    return excused([found[e] for e in chosen])


def grade_student(submissions, exercises, seconds=SECONDS, beside=None, tick=lambda _: None):
    """Grade one student, one exercise after the other, in a sandbox of their own.

    submissions: list of Submissions; exercises: list; seconds: limit for one; beside: relative
    name -> bytes of other files that were handed in; tick(result) comes after each exercise
    -> list of Results in the order of the exercises
    """
    results, left, seconds = {}, {}, min(seconds, LONGEST)
    for e in exercises:
        results[e], place = _at_once(submissions, e)
        if results[e] is None:
            left.setdefault(place, []).append(e)
        else:
            tick(results[e])

    def done(e, verdict):
        results[e] = Result(e, counts(submissions, e), verdict)
        tick(results[e])

    for on_gpu, asked in left.items():
        _grade_in_sandboxes(submissions, asked, on_gpu, seconds, beside or {}, done)
    return excused([results[e] for e in exercises])


def grade_sent(submissions, names, seconds, beside):
    """Grade one student on another machine: as grade_student, but what comes and goes is small.

    names: of the exercises -> for each, its Verdict and which of the submissions it is of, or None
    """
    known = {e.name: e for e in exercises()}
    results = grade_student(submissions, [known[name] for name in names], seconds, beside)
    at = {id(submission): k for k, submission in enumerate(submissions)}
    return [(result.verdict, at.get(id(result.submission))) for result in results]


def _at_once(submissions, exercise):
    """Grade what needs no sandbox: -> Result or None; whether it is a kernel"""
    try:
        submission, name = counts(submissions, exercise), exercise.function
        if submission is None:
            state, why = "not attempted", ()
        elif submission.attempts(name):
            return None, exercise.on_gpu
        elif name in submission.broken:
            state, why = "failed", (("why", submission.broken[name]),)
        else:
            state, why = "not attempted", ()
    except Exception as error:  # one file must not end the grading of a class
        submission, state = None, "cannot be graded"
        why = (("why", f"{type(error).__name__}: {error}"),)
    return Result(exercise, submission, Verdict(exercise.name, state, why)), False


def _grade_in_sandboxes(submissions, asked, on_gpu, seconds, beside, done):
    """Grade exercises of one kind, GPU kernels everywhere that elsewhere.py knows."""
    if not on_gpu:
        for e, verdict in _verdicts(submissions, asked, None, seconds, beside):
            done(e, verdict)
        return
    both = (elsewhere.SIMULATOR, elsewhere.COMPILER)
    seen = {where: dict(_verdicts(submissions, asked, where, seconds, beside)) for where in both}
    for e in asked:
        again = lambda where: dict(_verdicts(submissions, [e], where, seconds, beside))
        once = lambda where: seen[where][e] if where in seen else again(where)[e]
        done(e, elsewhere.everywhere(e, once))


def _verdicts(submissions, asked, where, seconds, beside):
    """Have a sandbox grade exercises; if it does not last, another one the rest.

    where: as of elsewhere.surroundings -> yields (Exercise, Verdict) in some order, each once
    """
    left, began = {e.name: e for e in asked}, True
    while left and not _is_stopped():
        names = list(left) if FORKS else list(left)[:1]
        tried, began = began, False
        try:
            with Sandbox(elsewhere.surroundings(where), _folders(submissions)) as box:
                box.send(names, submissions, beside, seconds, FORKS, where == elsewhere.COMPILER)
                for _ in range(len(names) + 1):
                    said = box.line(seconds if began and not FORKS else START + 5 * seconds)
                    if "ready" in said:
                        began = True
                    elif exercise := left.pop(said["exercise"], None):
                        yield exercise, _verdict(exercise, said)
        except Ended as end:
            if _is_stopped():
                continue  # it was ended from here: nobody's answer did that
            if not began and tried:
                continue  # perhaps the machine was short of something for a moment
            exercise = left.pop(next(iter(left)))
            yield exercise, _ended(exercise, end, began)
        except OSError as error:
            why = f"the machine is short of something: {error.strerror or error}"
            for exercise in left.values():
                yield exercise, Verdict(exercise.name, "cannot be graded", (("why", why),))
            return
    for exercise in left.values():
        yield exercise, Verdict(exercise.name, "cannot be graded", (("why", "interrupted"),))


def _ended(exercise, end, began):
    """Judge an exercise at which a sandbox ended: Exercise, Ended, bool -> Verdict"""
    if not began:
        state, why = "cannot be graded", "the sandbox did not start: grade it again"
    elif end.late:
        state, why = "failed", "it did not finish in time: is there an endless loop?"
    else:
        state, why = "failed", f"it ended the process{signal_name(end.code)}"
    return Verdict(exercise.name, state, (("why", why),))


def _verdict(exercise, said):
    verdict = from_json(exercise, said)
    if verdict.state != "failed" or "reread" in dict(verdict.lines):
        return verdict
    return replace(verdict, lines=in_order([*verdict.lines, *diagnosis.reread(exercise)]))


def _folders(submissions):
    """List the folders in which submissions lie: nobody's answer may read them -> list of Paths"""
    found = {s.path.absolute().parent for s in submissions}
    return sorted(found | {folder.parent for folder in found if folder.parent != folder.root})


def grade_package():
    """Grade what stands in the package itself, in a student's tree.

    () -> list of Submissions (the package's files), list of Results
    """
    files = {e.file: read(e.file) for e in exercises()}
    results = []
    noted = [e for e in exercises() if not e.name.startswith("kernels.")]  # those have many places
    for e in exercises():
        others, used = [other for other in noted if other is not e], set()
        with ExitStack() as places:
            for other in others:
                places.enter_context(in_place(other, noting(other, original(other), used)))
            verdict = replace(grade.judge(e, original(e)), used=tuple(used))
        results.append(Result(e, files[e.file], verdict))
    return list(files.values()), excused(results)


def excused(results):
    """Take back what a wrong answer makes others seem to be: in a student's tree the tests of one
    use the answers to earlier ones, as the package's own are not there.

    results: list of Results in the order of the exercises -> the same, with "cannot be graded" for
    those that failed and called an earlier one that did not pass
    """
    wrong, found = set(), []
    for result in results:
        verdict = result.verdict
        if verdict.state == "failed":
            needed = [name for name in verdict.used if name in wrong]
            if needed:
                why = f"its tests need {needed[0]}, which is not right yet: mend that first"
                verdict = Verdict(verdict.exercise, "cannot be graded", (("why", why),))
            wrong.add(verdict.exercise)
        found.append(replace(result, verdict=verdict))
    return found
