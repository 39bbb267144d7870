"""A whole class: who handed in what, everybody graded, and the table of points.

A class is a folder: a notebook or a .py for each student, ada.ipynb, or a folder for each,
ada/01_forward.ipynb and so on.
"""

import csv
import io
import re
from collections import Counter
from concurrent.futures import as_completed

from ..files import write_whole
from .board import board
from .submission import Unreadable
from .worker import grade_one, grading_pool

TABLE = {"not attempted": "", "cannot be graded": "?"}  # else the points


def students(folder):
    """Find who handed in what: Path -> dict of student to list of Paths, both sorted

    Raises Unreadable where the folder is not a class.
    """
    if not folder.is_dir():
        hint = "give one with a notebook or a folder for each student"
        raise Unreadable(f"{folder} is not a folder: {hint}")
    hidden = lambda name: name.startswith((".", "_"))
    inside = sorted(folder.iterdir())
    found = {path.name: [] for path in inside if path.is_dir() and not hidden(path.name)}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if any(map(hidden, parts)) or path.suffix.lower() not in (".ipynb", ".py"):
            continue
        if path.is_file():
            name = parts[0] if len(parts) > 1 else path.stem
            found.setdefault(name, []).append(path)
    for path in inside:
        if re.match(r"\d\d_\w+\.ipynb|tinydiff$", path.name):
            hint = "give the folder in which each student has a file or a folder"
            raise Unreadable(f"{folder} is not a class folder: it contains {path.name}; {hint}")
    if not any(found.values()):
        hint = "expected ada.ipynb, or ada/01_forward.ipynb, for each student"
        raise Unreadable(f"{folder} holds no notebook and no .py: {hint}")
    return dict(sorted(found.items()))


def grade_class(files, exercises, seconds, done=lambda name, results: None, tick=lambda: None):
    """Grade everybody, as many exercises at a time as there are cores.

    files: dict of student to list of Submissions; exercises: list; seconds: limit for one
    done(student, results) is called when one is graded, tick() after each exercise of anybody
    -> dict of student to list of Results
    """
    results = {name: [None] * len(exercises) for name in files}
    left = dict.fromkeys(files, len(exercises))
    with grading_pool() as pool:
        jobs = {
            pool.submit(grade_one, submissions, exercise, seconds): (name, k)
            for name, submissions in files.items()
            for k, exercise in enumerate(exercises)
        }
        for job in as_completed(jobs):
            name, k = jobs[job]
            results[name][k] = job.result()
            left[name] -= 1
            tick()
            if not left[name]:
                done(name, results[name])
    return results


def tell(path, submissions, results, problems):
    """Write the feedback for one student: Path, Submissions, Results, list of str -> None"""
    lines = [f"cannot be graded: {problem}" for problem in problems]
    lines.append(board(submissions, results) if submissions else "points: 0")
    text = ("\n".join(lines) + "\n").encode(errors="replace")
    write_whole(path, lambda f: f.write(text))


def write_grades(path, results, exercises, problems):
    """Write the grades, one row per student, whole or not at all.

    The row has the points in total, by lesson, by exercise; there empty = not attempted,
    ? = cannot be graded. path: Path; results: dict of student to list of Results; exercises: list;
    problems: dict of student to list of str -> None
    """
    lessons = list(dict.fromkeys(e.lesson for e in exercises))
    names = [e.name for e in exercises]
    file = io.StringIO(newline="")
    rows = csv.writer(file)
    rows.writerow(["student", "points", "of", *lessons, *names, "problems"])
    for name, own in results.items():
        points = Counter()
        for r in own:
            points[r.exercise.lesson] += r.points
        by_lesson = [points[lesson] for lesson in lessons]
        each = [TABLE.get(r.verdict.state, r.points) for r in own]
        trouble = "; ".join(problems[name])
        rows.writerow([name, sum(by_lesson), len(own), *by_lesson, *each, trouble])
    # with a mark by which spreadsheets know the encoding
    table = file.getvalue().encode("utf-8-sig", errors="replace")
    write_whole(path, lambda f: f.write(table))


def summary(results, exercises, problems):
    """Say how the class did: everybody's points, then where exercises failed -> str

    Of each exercise that failed the most frequent slip is named. Arguments as of write_grades.
    """
    width = max(map(len, results))
    lines = []
    for name, own in results.items():
        trouble = f"  ({'; '.join(problems[name])})" if problems[name] else ""
        lines.append(f"{name:{width}s}  {sum(r.points for r in own):3d} of {len(own)}{trouble}")
    for k, exercise in enumerate(exercises):
        verdicts = [own[k].verdict for own in results.values()]
        states = Counter(verdict.state for verdict in verdicts)
        said = lambda head, state: [dict(v.lines).get(head) for v in verdicts if v.state == state]
        if count := states["cannot be graded"]:
            why = said("why", "cannot be graded")[0]
            lines.append(f"{exercise.function}: {count} cannot be graded: {why}")
        if count := states["failed"]:
            slips = Counter(slip for slip in said("slip", "failed") if slip)
            often = "".join(f"; {n} of these: {slip}" for slip, n in slips.most_common(1))
            passed = states["passed"]
            lines.append(f"{exercise.function}: {passed} passed, {count} failed{often}")
    return "\n".join(lines)
