"""Grade one exercise of a file in a process of its own, with limits on time and memory.

A submission that loops, exits or floods costs only its own points. This is not a sandbox: grade untrusted submissions in a disposable
account or container.
"""

import ast
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import elsewhere, grade
from .exercises import ROOT, Exercise, exercises, in_handout, in_place, original, put, untouched
from .judge import Verdict
from .submission import Submission, Unreadable, read

SECONDS = 60.0  # for one exercise
MEMORY = 4 << 30  # bytes of address space for one exercise


@dataclass(frozen=True)
class Result:
    """One line of a board. submission: the file whose function was graded, None where no file has one."""

    exercise: Exercise
    submission: Submission | None
    verdict: Verdict

    @property
    def points(self):
        return int(self.verdict.state == "passed")

    @property
    def place(self):
        """Say what was graded -> (where, 12 hex digits), both "" where nothing was"""
        name = self.exercise.function
        if self.submission is None or name not in self.submission.places:
            return "", ""
        return self.submission.places[name][0], self.submission.digest(name)


def counts(submissions, exercise):
    """Choose the file that counts: the last that attempts the exercise, else the last that has it -> Submission or None"""
    name = exercise.function
    having = [
        s
        for s in submissions
        if name in s.broken or isinstance(s.places.get(name, (0, 0))[1], ast.FunctionDef)
    ]
    tried = [s for s in having if name in s.broken or not untouched(s.source(name))]
    return (tried or having or [None])[-1]


def grade_one(submissions, exercise, seconds=SECONDS):
    """Grade one exercise of the files of one student: list of Submissions, Exercise, seconds -> Result."""
    try:
        submission = counts(submissions, exercise)
        if submission is None:
            return Result(exercise, None, Verdict(exercise.name, "not attempted"))
        return Result(
            exercise,
            submission,
            judge_apart(submission.path.resolve(), submission, exercise, seconds),
        )
    except Exception as error:  # one file must not end the grading of a class
        return Result(
            exercise,
            None,
            Verdict(
                exercise.name, "cannot be graded", (("why", f"{type(error).__name__}: {error}"),)
            ),
        )


def grade_all(submissions, exercises=None, seconds=SECONDS):
    """Grade the files of one student: list of Submissions, Exercises (None = all) -> list of Results in the order of the lessons."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(
            pool.map(
                lambda exercise: grade_one(submissions, exercise, seconds), exercises or exercises()
            )
        )


def grade_package():
    """Grade what stands in the package itself, in a student's tree: () -> list of Submissions (its files), list of Results"""
    files = {e.module.__file__: read(Path(e.module.__file__)) for e in exercises()}
    results = [
        Result(e, files[e.module.__file__], grade.judge(e, original(e))) for e in exercises()
    ]
    return list(files.values()), results


def judge_apart(path, submission, exercise, seconds=SECONDS):
    """Grade one exercise of a file: Path, Submission, Exercise, seconds -> Verdict."""
    name = exercise.function
    if name in submission.broken:
        return Verdict(exercise.name, "failed", (("why", submission.broken[name]),))
    if name not in submission.places or not isinstance(submission.places[name][1], ast.FunctionDef):
        return Verdict(
            exercise.name, "not attempted", (("why", f"no function {name} in {path.name}"),)
        )
    if untouched(submission.source(name)):
        return Verdict(exercise.name, "not attempted")
    if exercise.on_card:
        return elsewhere.twice(
            lambda simulate: _judge(path, exercise, seconds, elsewhere.surroundings(simulate))
        )
    return _judge(path, exercise, seconds, {})


def _judge(path, exercise, seconds, surroundings):
    """Start the worker, and wait for its report -> Verdict"""
    secret = secrets.token_hex()  # only this process and the worker's first lines know it: who exits early cannot have reported
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        report = Path(folder) / "report.json"
        command = [
            sys.executable,
            "-m",
            "tinydiff.course.worker",
            str(path),
            exercise.name,
            str(report),
        ]
        threads = dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
        )
        worker = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=os.environ
            | threads
            | {"TINYDIFF_KERNELS": "reference", "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
            | surroundings,
            start_new_session=True,
        )
        try:
            worker.communicate(secret.encode(), timeout=seconds)
            names = {s.value: s.name for s in signal.Signals}
            why = "it ended the process"
            why += (
                f" ({names.get(-worker.returncode, f'signal {-worker.returncode}')})"
                if worker.returncode < 0
                else ""
            )
        except subprocess.TimeoutExpired:
            why = f"it did not finish within {seconds:g} seconds: is there a loop without an end?"
        finally:
            _kill(worker)
        try:
            said = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}
            if said.pop("secret") == secret:
                return Verdict(
                    exercise.name, said["state"], tuple(map(tuple, said["lines"])), said["seconds"]
                )
        except Exception:
            pass  # whatever it wrote in the report's place
    return Verdict(exercise.name, "failed", (("why", why),))


def _kill(worker):
    """End the worker and whatever it started."""
    try:
        os.killpg(worker.pid, signal.SIGKILL)
    except (
        ProcessLookupError,
        PermissionError,
        AttributeError,
    ):  # it is gone already; or this is Windows
        worker.kill()
    worker.wait()


# --- in the process of its own ---


def _work(path, name, report):
    """Do the worker's part: the function takes the package's place before the first line of the file is run."""
    secret = sys.stdin.read()
    exercise = next(e for e in exercises() if e.name == name)
    if (
        not exercise.on_card or os.environ["NUMBA_ENABLE_CUDASIM"] == "1"
    ):  # the driver of a card reserves more than any limit
        _limit_memory()
    why = elsewhere.missing() if exercise.on_card else None
    if why:
        return _report(report, secret, Verdict(name, "cannot be graded", (("why", why),)))
    submission, scope = read(Path(path)), {}
    if name.startswith(
        "kernels."
    ):  # the package's other versions of this function are out of reach too
        others = {"cpu", "cpu_direct", "cpu_winograd", "cuda", "cpu_ladder"} - {
            exercise.module.__name__.split(".")[-1]
        }
        sys.modules |= dict.fromkeys(f"tinydiff.kernels.{k}" for k in others)
    with in_place(exercise, lambda *args, **options: scope["f"](*args, **options)):
        try:
            for other in (
                exercises() if in_handout() else ()
            ):  # what the package lacks there, the tests may need
                if (
                    other is exercise
                    or other.function in submission.broken
                    or not counts([submission], other)
                ):
                    continue
                if not untouched(submission.source(other.function)):
                    with suppress(Unreadable):  # that costs the other's point
                        put(other, submission.build(other.function))
            scope["f"] = submission.build(exercise.function)
            verdict = grade.judge(exercise, scope["f"], here=True)
        except Unreadable as error:
            verdict = Verdict(name, "failed", (("why", str(error)),))
    _report(report, secret, verdict)


def _report(report, secret, verdict):
    said = {
        "secret": secret,
        "state": verdict.state,
        "lines": verdict.lines,
        "seconds": verdict.seconds,
    }
    Path(report).write_text(json.dumps(said), encoding="utf-8")


def _limit_memory():
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, 64 << 20))
    except (ImportError, ValueError, OSError):
        pass  # not on this system: the limit on time remains


if __name__ == "__main__":
    _work(*sys.argv[1:])
