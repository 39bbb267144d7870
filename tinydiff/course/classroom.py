"""A whole class: who handed in what, everybody graded, and the table of points.

A class is a folder: a notebook or a .py for each student, ada.ipynb, or a folder for each, ada/01_forward.ipynb and so on.
"""

import csv
import os
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed

from tqdm import tqdm

from .board import board
from .submission import Unreadable
from .worker import grade_one


def students(folder):
    """Find who handed in what: Path -> dict of student to list of Paths, both sorted; Unreadable where it is no class"""
    if not folder.is_dir():
        raise Unreadable(
            f"{folder} is no folder: give one with a notebook or a folder for each student"
        )
    found = {
        path.name: []
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith((".", "_"))
    }
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        if (
            path.suffix.lower() in (".ipynb", ".py")
            and path.is_file()
            and not any(part.startswith((".", "_")) for part in inside)
        ):
            found.setdefault(inside[0] if len(inside) > 1 else path.stem, []).append(path)
    one = next(
        (
            path.name
            for path in folder.iterdir()
            if re.match(r"\d\d_\w+\.ipynb|tinydiff$", path.name)
        ),
        None,
    )
    if one:
        raise Unreadable(
            f"{folder} is no class, since {one} lies in it: give the folder in which each student has a file or a folder"
        )
    if not any(found.values()):
        raise Unreadable(
            f"{folder} holds no notebook and no .py: expected ada.ipynb, or ada/01_forward.ipynb, for each student"
        )
    return dict(sorted(found.items()))


def grade_class(files, exercises, seconds, done=lambda name, results: None):
    """Grade everybody, as many exercises at a time as there are cores, with a progress bar.

    files: dict of student to list of Submissions; done(student, results) is called when one is graded -> dict of student to Results
    """
    results, left = (
        {name: [None] * len(exercises) for name in files},
        dict.fromkeys(files, len(exercises)),
    )
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        jobs = {
            pool.submit(grade_one, files[n], e, seconds): (n, k)
            for n in files
            for k, e in enumerate(exercises)
        }
        try:
            for job in tqdm(as_completed(jobs), "grading", len(jobs), unit="exercise"):
                name, k = jobs[job]
                results[name][k], left[name] = job.result(), left[name] - 1
                if not left[name]:
                    done(name, results[name])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return results


def tell(path, submissions, results, problems):
    """Write down what to tell a student: file to write, list of Submissions, list of Results, list of str -> None"""
    text = [
        *(f"cannot be graded: {problem}" for problem in problems),
        board(submissions, results) if submissions else "points: 0",
    ]
    path.write_text("\n".join(text) + "\n", encoding="utf-8", errors="replace")


def write_grades(path, results, exercises, problems):
    """Write the grades: a row a student -> None; whole or not at all

    Points altogether, by lesson, by exercise; there empty = not attempted, ? = cannot be graded.
    """
    lessons = list(dict.fromkeys(e.lesson for e in exercises))
    unfinished = path.with_name(path.name + ".part")
    with open(
        unfinished, "w", newline="", encoding="utf-8-sig", errors="replace"
    ) as file:  # with a mark by which spreadsheets know it
        rows = csv.writer(file)
        rows.writerow(
            ["student", "points", "of", *lessons, *(e.name for e in exercises), "problems"]
        )
        for name, own in results.items():
            by_lesson = [
                sum(r.points for r in own if r.exercise.lesson == lesson) for lesson in lessons
            ]
            each = [
                {"not attempted": "", "cannot be graded": "?"}.get(r.verdict.state, r.points)
                for r in own
            ]
            rows.writerow(
                [name, sum(by_lesson), len(own), *by_lesson, *each, "; ".join(problems[name])]
            )
    os.replace(unfinished, path)


def summary(results, exercises, problems):
    """Say how the class did: everybody's points, then where exercises failed, the most frequent slip of each -> str"""
    width = max(map(len, results))
    lines = [
        f"{name:{width}s}  {sum(r.points for r in own):3d} of {len(own)}"
        for name, own in results.items()
    ]
    lines = [
        line + f"  ({'; '.join(problems[name])})" * bool(problems[name])
        for line, name in zip(lines, results, strict=True)
    ]
    for k, exercise in enumerate(exercises):
        verdicts = [own[k].verdict for own in results.values()]
        states = Counter(verdict.state for verdict in verdicts)
        if states["cannot be graded"]:
            why = next(
                dict(verdict.lines).get("why")
                for verdict in verdicts
                if verdict.state == "cannot be graded"
            )
            lines.append(
                f"{exercise.function}: {states['cannot be graded']} cannot be graded: {why}"
            )
        if states["failed"]:
            slips = Counter(
                dict(verdict.lines).get("slip") for verdict in verdicts if verdict.state == "failed"
            )
            slips.pop(None, None)
            often = [f"; {n} of these: {slip}" for slip, n in slips.most_common(1)]
            lines.append(
                f"{exercise.function}: {states['passed']} passed, {states['failed']} failed{''.join(often)}"
            )
    return "\n".join(lines)
