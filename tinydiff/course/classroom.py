"""A whole class graded: one student after the other, what came of it kept on disk after each.

After an interruption it goes on with those who are not graded yet, or whose files have changed.
"""

import csv
import hashlib
import json
import os
import re
import threading
from collections import Counter
from concurrent.futures import as_completed
from contextlib import suppress
from functools import cache

from .. import __version__
from ..files import require_replaceable, write_whole
from .arbiter import STATES
from .board import board, line, printable, tidy
from .exercises import ROOT
from .formats import NOT_YET, grades
from .verdict import Verdict
from .worker import Result, grade_sent, grade_student, grading_pool, protection


def grade_class(
    students,
    exercises,
    seconds,
    jobs=None,
    done=lambda *_: None,
    tick=lambda _: None,
    machines=None,
):
    """Grade everybody, some students at a time.

    students: list of Students; exercises: list; seconds: limit for one exercise; jobs: how many
    students at a time, None = as many as there are cores
    done(student, results) is called when one is graded, tick(result) after each exercise of anybody
    machines: an executor whose workers are on many machines, None = threads of this process
    """
    if machines:
        return _grade_sent(students, exercises, seconds, done, tick, machines)
    alone = threading.Lock()

    def counted(result):
        with alone:
            tick(result)

    with grading_pool(jobs) as pool:
        work = {
            pool.submit(grade_student, s.submissions, exercises, seconds, s.beside, counted): s
            for s in students
        }
        for job in as_completed(work):
            error = job.exception()
            done(work[job], _cannot(exercises, error) if error else job.result())


def _grade_sent(students, exercises, seconds, done, tick, machines):
    """Grade everybody on many machines, see grade_class; ticks come when a student is done."""
    names = [e.name for e in exercises]
    work = {
        machines.submit(grade_sent, s.submissions, names, seconds, s.beside): s for s in students
    }
    for job in as_completed(work):
        student, error = work[job], job.exception()
        if error:
            results = _cannot(exercises, error)
        else:
            of = lambda k: None if k is None else student.submissions[k]
            back = zip(exercises, job.result(), strict=True)
            results = [Result(e, of(k), verdict) for e, (verdict, k) in back]
        for result in results:
            tick(result)
        done(student, results)


def _cannot(exercises, error):
    """Say of all exercises that they cannot be graded: list, Exception -> list of Results"""
    why = (("why", f"{type(error).__name__}: {error}"),)
    return [Result(e, None, Verdict(e.name, "cannot be graded", why)) for e in exercises]


class Gradebook:
    """The results of a class, in memory and on disk.

    path: of the table; students: list of Students; exercises: list; seconds: limit for one exercise
    .results: dict of a student's name to list of Results, of those who are graded
    .feedback: folder with a text for each student; .kept: file from which `recall` takes results
    .guard: what guards the machine while it grades
    """

    def __init__(self, path, students, exercises, seconds):
        self.path, self.students, self.exercises = path, students, exercises
        self.feedback = path.parent / f"{path.stem}_feedback"
        self.kept = path.parent / f"{path.stem}_progress.jsonl"
        self.results, self._trouble, self._lines = {}, {}, {}
        self._texts = _file_names([s.name for s in students])
        self._keys = {s.name: _key(s, exercises, seconds) for s in students}
        self.guard = protection()

    def problems(self, student):
        """List what is wrong with a student's files, and with the feedback -> list of str"""
        broken = {why for submission in student.submissions for why in submission.broken.values()}
        return [*student.problems, *sorted(broken), *self._trouble.get(student.name, ())]

    def recall(self):
        """Take over what was graded before under the same circumstances -> list of Students left

        Results that a shortage may be to blame for ("cannot be graded") are not taken over.
        """
        kept = _read_lines(self.kept)
        left = []
        for student in self.students:
            found = kept.get((student.name, self._keys[student.name]))
            results = found and _unpacked_if_whole(found, student, self.exercises)
            if results and all(r.verdict.state != "cannot be graded" for r in results):
                self._take(student, results)
            else:
                left.append(student)
        return left

    def note(self, student, results):
        """Note that a student is graded: on disk before anything else.

        Raises OSError where that cannot be kept; the table is tried again after the next student.
        """
        results = [tidy(result) for result in results]
        packed = _packed(student, self._keys[student.name], results)
        _append(self.kept, packed)
        self._lines[student.name] = packed
        self._take(student, results)
        with suppress(OSError):
            self.write()

    def _take(self, student, results):
        """Have results count, and write the feedback: Student, list of Results -> None"""
        self.results[student.name] = results
        self._lines.setdefault(student.name, _packed(student, self._keys[student.name], results))
        try:
            text = self._text(student, results)
            write_whole(self.feedback / self._texts[student.name], lambda f: f.write(text))
        except Exception as error:  # the others are to be graded all the same
            why = error if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
            self._trouble[student.name] = [f"no feedback: {why}"]

    def _text(self, student, results):
        """Write the feedback: Student, list of Results -> bytes"""
        lines = [f"cannot be graded: {line(problem)}" for problem in self.problems(student)]
        lines.append(board(student.submissions, results, student.left_out, self.guard))
        return ("\n".join(lines) + "\n").encode(errors="replace")

    def write(self):
        """Write the table of all students, whole or not at all. Raises OSError."""
        table = grades(self.students, self.results, self.exercises, self.problems)
        write_whole(self.path, lambda f: f.write(table))

    def close(self):
        """Write the table when everybody is graded, and keep of the results only these."""
        self.write()
        text = "".join(f"{self._lines[s.name]}\n" for s in self.students).encode()
        with suppress(OSError):
            write_whole(self.kept, lambda f: f.write(text))

    def __repr__(self):
        return f"{len(self.results)} of {len(self.students)} students are graded"


def unfinished(path):
    """Say how far an earlier table is: Path -> "3 of 10 students", None where it is complete"""
    try:
        rows = list(csv.DictReader(path.open(encoding="utf-8-sig", newline="")))
        left = sum(row["problems"].startswith(NOT_YET) for row in rows)
        return f"{len(rows) - left} of {len(rows)} students" if left else None
    except (OSError, ValueError, KeyError, AttributeError, csv.Error):
        return None


# --- what is kept of a student ---


@cache
def _package():
    """Hash what grades, the package and its tests -> str"""
    digest = hashlib.sha256(__version__.encode())
    for path in sorted([*ROOT.glob("tinydiff/**/*.py"), *ROOT.glob("tests/**/*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _key(student, exercises, seconds):
    """Hash all that a student's points depend on: Student, list, limit -> 64 hex digits"""
    digest = hashlib.sha256(_package().encode())
    hashed = lambda files: sorted((n, hashlib.sha256(d).hexdigest()) for n, d in files.items())
    files = [
        [str(s.path), s.cells, sorted(s.broken.items()), hashed(s.beside)]
        for s in student.submissions
    ]
    said = [seconds, student.problems, student.left_out, [e.name for e in exercises]]
    digest.update(json.dumps([files, hashed(student.beside), said]).encode())
    return digest.hexdigest()


def _packed(student, key, results):
    """Write a student's results down as one line of JSON -> str"""
    at = {id(submission): k for k, submission in enumerate(student.submissions)}
    each = [
        [r.verdict.state, r.verdict.lines, r.verdict.seconds, at.get(id(r.submission))]
        for r in results
    ]
    return json.dumps({"student": student.name, "key": key, "results": each})


def _unpacked(each, student, exercises):
    """Read what _packed wrote: its "results", Student, list of Exercises -> list of Results"""
    results = []
    for exercise, (state, lines, seconds, at) in zip(exercises, each, strict=True):
        verdict = Verdict(exercise.name, state, tuple(map(tuple, lines)), seconds)
        results.append(Result(exercise, None if at is None else student.submissions[at], verdict))
    return results


def _unpacked_if_whole(each, student, exercises):
    """Read the same, None where somebody has changed it into what cannot be results."""
    with suppress(ValueError, TypeError, IndexError, AttributeError):
        results = [tidy(result) for result in _unpacked(each, student, exercises)]
        if all(r.verdict.state in STATES and 0 <= r.verdict.seconds for r in results):
            return results
    return None


def _append(path, text):
    """Add a line to a file, so that it is on disk. A line torn before stays alone on its own."""
    try:
        require_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            file.write(f"\n{text}\n".encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        why = error.strerror or error
        raise OSError(f"{path} could not be written ({why})") from None


def _read_lines(path):
    """Read the lines that are whole: Path -> dict of (student, key) to their last "results" """
    found = {}
    with suppress(OSError):
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, KeyError, TypeError, RecursionError):
                kept = json.loads(text)
                found[kept["student"], kept["key"]] = kept["results"]
    return found


def _file_names(names):
    """Name the file of each student's feedback: list of names -> dict, each other than the rest

    What no file may be called is replaced, and what is too long is cut.
    """
    found, taken = {}, set()
    for name in names:
        text = re.sub(r'[/\\:*?"<>|]', "_", printable(name))[:120]  # Windows takes none of them
        if text.casefold() in taken or len(text) < len(name):
            text = f"{text[:100]}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"
        taken.add(text.casefold())
        found[name] = f"{text}.txt"
    return found


# --- at a glance ---


def summary(students, results, exercises, problems):
    """Say how the class did: everybody's points, then where exercises failed -> str

    Of each exercise that failed the most frequent slip is named, or else the most frequent error.
    students: list of Students; results: dict of name to list of Results; exercises: list
    problems: function of a Student -> list of str
    """
    names = {s.name: line(s.name, 60) for s in students}
    width = max(map(len, names.values()))
    lines = []
    for student in students:
        own, said = results[student.name], "; ".join(problems(student))
        trouble = f"  ({line(said, 200)})" if said else ""
        points = f"{sum(r.points for r in own):3d} of {len(own)}"
        lines.append(f"{names[student.name]:{width}s}  {points}{trouble}")
    for k, exercise in enumerate(exercises):
        lines += _of_exercise(exercise, [own[k].verdict for own in results.values()])
    return "\n".join(lines)


ERROR = re.compile(r"\b\w+Error: [^;\n]+")  # without the place, which is each file's own


def _of_exercise(exercise, verdicts):
    """Say where an exercise failed: Exercise, list of Verdicts -> list of lines"""
    states, lines = Counter(verdict.state for verdict in verdicts), []
    said = lambda head, state: [dict(v.lines).get(head) for v in verdicts if v.state == state]
    if count := states["cannot be graded"]:
        why = said("why", "cannot be graded")[0]
        lines.append(line(f"{exercise.function}: {count} cannot be graded: {why}"))
    if count := states["failed"]:
        slips = Counter(slip for slip in said("slip", "failed") if slip)
        errors = (ERROR.search(why or "") for why in said("why", "failed"))
        whys = Counter(found[0] for found in errors if found)
        often = "".join(f"; {n} of these: {text}" for text, n in (slips or whys).most_common(1))
        lines.append(line(f"{exercise.function}: {states['passed']} passed, {count} failed{often}"))
    return lines
