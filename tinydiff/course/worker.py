"""Grade one exercise of a file in a process of its own, with limits on time and memory.

A submission that loops, exits or floods costs only its own points. This is not a sandbox: grade
untrusted submissions in a disposable account or container.
"""

import inspect
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path

from . import elsewhere, grade
from .exercises import SECONDS, Exercise, exercises, in_handout, in_place, original, put
from .submission import Submission, Unreadable, read
from .verdict import Verdict

MEMORY = 4 << 30  # bytes of address space for one exercise
FILE = 64 << 20  # bytes of a file that it may write
OTHERS = ("cpu", "cpu_direct", "cpu_winograd", "cpu_ladder", "cuda")  # kernels like those asked for


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
        if self.submission is None or not self.submission.place(name):
            return "", ""
        return self.submission.place(name), self.submission.digest(name)


def counts(submissions, exercise):
    """Choose the file that counts: the last that attempts the exercise, else the last that has it.

    submissions: list of Submissions; exercise: Exercise -> Submission or None
    """
    name = exercise.function
    having = [s for s in submissions if s.has(name)]
    tried = [s for s in having if s.attempts(name) or name in s.broken]
    return (tried or having or [None])[-1]


def grade_one(submissions, exercise, seconds=SECONDS):
    """Grade one exercise of one student: list of Submissions, Exercise, limit -> Result"""
    try:
        submission = counts(submissions, exercise)
        if submission is None:
            return Result(exercise, None, Verdict(exercise.name, "not attempted"))
        others = [s.path.resolve() for s in submissions if s is not submission and in_handout()]
        verdict = judge_apart(submission.path.resolve(), submission, exercise, seconds, others)
        return Result(exercise, submission, verdict)
    except Exception as error:  # one file must not end the grading of a class
        why = f"{type(error).__name__}: {error}"
        verdict = Verdict(exercise.name, "cannot be graded", (("why", why),))
        return Result(exercise, None, verdict)


_running = set()  # the workers of this process


@contextmanager
def grading_pool():
    """Open a pool of threads for grade_one, as many as there are cores -> ThreadPoolExecutor

    When the `with` block is interrupted, the workers are ended at once.
    """
    name = f"grading {time.monotonic_ns()}"
    with ThreadPoolExecutor(os.cpu_count() or 1, name) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            while any(thread.name.startswith(name) for thread in threading.enumerate()):
                for worker in list(_running):
                    _kill_group(worker)
                time.sleep(0.02)  # one may be about to start
            raise


def grade_all(submissions, chosen=None, seconds=SECONDS):
    """Grade the files of one student, as many exercises at a time as there are cores.

    submissions: list of Submissions; chosen: list of Exercises, None = all; seconds: limit for one
    -> list of Results in the order of the exercises
    """
    once = lambda exercise: grade_one(submissions, exercise, seconds)
    with grading_pool() as pool:
        return excused(list(pool.map(once, chosen or exercises())))


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


def noting(exercise, f, used):
    """Wrap an answer so that its name is added to the set `used` when it is called -> function"""
    if not inspect.isfunction(f):
        return f  # a compiled kernel

    @wraps(f)
    def noted(*args, **options):
        used.add(exercise.name)
        return f(*args, **options)

    return noted


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


def judge_apart(path, submission, exercise, seconds=SECONDS, others=()):
    """Grade one exercise of a file: Path, Submission, Exercise, limit in seconds -> Verdict

    others: Paths of files whose answers take the place of what a student's tree lacks
    """
    name = exercise.function
    if not submission.attempts(name):
        if name in submission.broken:
            return Verdict(exercise.name, "failed", (("why", submission.broken[name]),))
        return Verdict(exercise.name, "not attempted")
    if exercise.on_gpu:
        place = elsewhere.surroundings
        return elsewhere.twice(
            lambda simulate: _judge(path, exercise, seconds, place(simulate), others)
        )
    return _judge(path, exercise, seconds, elsewhere.surroundings(False), others)


def _judge(path, exercise, seconds, surroundings, others):
    """Start the worker, and wait for its report -> Verdict"""
    secret = secrets.token_hex()  # read before the student's code: who exits early cannot report
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        report = Path(folder) / "report.json"
        words = [str(path), exercise.name, str(report), *map(str, others)]
        worker = subprocess.Popen(
            [sys.executable, "-m", "tinydiff.course.worker", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=os.environ | dict.fromkeys(threads, "1") | surroundings,
            start_new_session=True,
        )
        _running.add(worker)
        try:
            worker.communicate(secret.encode(), timeout=seconds)
            why = f"it ended the process{_signal(worker.returncode)}"
        except subprocess.TimeoutExpired:
            why = f"it did not finish within {seconds:g} seconds: is there an endless loop?"
        finally:
            _kill_group(worker)
            _running.discard(worker)  # before its number may belong to another process
            worker.wait()
        try:
            said = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}
            if said.pop("secret") == secret:
                lines = tuple(map(tuple, said["lines"]))
                seconds, used = said["seconds"], tuple(said["used"])
                return Verdict(exercise.name, said["state"], lines, seconds, used=used)
        except Exception:
            pass  # whatever it wrote in the report's place
    return Verdict(exercise.name, "failed", (("why", why),))


def _signal(code):
    """Name the signal that ended a process: its return code -> " (SIGKILL)", or "" without one"""
    names = {s.value: s.name for s in signal.Signals}
    return f" ({names.get(-code, f'signal {-code}')})" if code < 0 else ""


def _kill_group(worker):
    """End a worker and whatever it started."""
    try:
        os.killpg(worker.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError, AttributeError):
        worker.kill()  # it is gone already; or this is Windows


# --- in the process of its own ---


def _work(path, name, report, *beside):
    """Do the worker's part: file, name of the exercise, where the report goes, the other files.

    The function takes the package's place before the first line of the file is run.
    """
    secret = sys.stdin.read()
    exercise = next(e for e in exercises() if e.name == name)
    if not exercise.on_gpu or os.environ["NUMBA_ENABLE_CUDASIM"] == "1":
        _limit_memory()  # a GPU's driver reserves more than any limit
    why = elsewhere.missing() if exercise.on_gpu else None
    if why:
        return _report(report, secret, Verdict(name, "cannot be graded", (("why", why),)))
    submission, scope, used = read(Path(path)), {}, set()
    for file, content in submission.beside.items():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_bytes(content)
    sys.path.insert(0, os.getcwd())
    if name.startswith("kernels."):  # the package's other versions are out of reach, too
        others = set(OTHERS) - {exercise.file.stem}
        sys.modules |= dict.fromkeys(f"tinydiff.kernels.{k}" for k in others)
    with in_place(exercise, lambda *args, **options: scope["f"](*args, **options)):
        try:
            if in_handout():
                _put_others([*map(read, map(Path, beside)), submission], exercise, used)
            scope["f"] = submission.build(exercise.function)
            if in_handout():
                _note_calls_within(scope["f"], exercise, used)
            verdict = grade.judge(exercise, scope["f"], here=True)
            lines = [(head, submission.explained(text)) for head, text in verdict.lines]
            verdict = replace(verdict, lines=tuple(lines), used=tuple(used))
        except Unreadable as error:
            verdict = Verdict(name, "failed", (("why", str(error)),))
    _report(report, secret, verdict)


def _put_others(submissions, exercise, used):
    """Put the files' other answers in their places: what the package lacks, the tests may need.

    used: set to which the names of those that are called are added
    """
    for other in exercises():
        name = other.function
        found = counts(submissions, other)
        if other is exercise or not found or not found.attempts(name):
            continue
        with suppress(Unreadable):  # that costs the other's point
            put(other, noting(other, found.build(name), used))


def _note_calls_within(f, exercise, used):
    """Note calls of the file's other answers by this one, too: they are names in its module."""
    names = getattr(inspect.unwrap(f), "__globals__", {})
    for other in exercises():
        if other is not exercise and other.function in names:
            names[other.function] = noting(other, names[other.function], used)


def _report(report, secret, verdict):
    said = {"state": verdict.state, "lines": verdict.lines}
    said |= {"seconds": verdict.seconds, "used": verdict.used}
    Path(report).write_text(json.dumps(said | {"secret": secret}), encoding="utf-8")


def _limit_memory():
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
    except (ImportError, ValueError, OSError):
        pass  # not on this system: the limit on time remains


if __name__ == "__main__":
    _work(*sys.argv[1:])
