"""The forms in which points leave: the table, Moodle, Gradescope, GitHub Classroom."""

import csv
import io
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

from ..files import write_whole
from .board import cell, line
from .exercises import ROOT

TABLE = {"not attempted": "", "cannot be graded": "?"}  # else the points
NOT_YET = "not graded yet"


def _csv(rows):
    """Write rows as a file that spreadsheets read, with a mark of its encoding: -> bytes"""
    file = io.StringIO(newline="")
    csv.writer(file).writerows(rows)
    return file.getvalue().encode("utf-8-sig", errors="replace")


# --- a class ---


def grades(students, results, exercises, problems):
    """Write the table of a class: one row per student, in the order of the students.

    A row has the points in total, by lesson, by exercise; there empty = not attempted, ? = cannot
    be graded. Who is not graded yet has no points at all, and "not graded yet" among the problems.
    students: list of Students; results: dict of name to list of Results; exercises: list
    problems: function of a Student -> list of str
    -> bytes
    """
    lessons = list(dict.fromkeys(e.lesson for e in exercises))
    rows = [["student", "points", "of", *lessons, *(e.name for e in exercises), "problems"]]
    for student in students:
        own, said = results.get(student.name), problems(student)
        if own is None:
            numbers = ["", len(exercises), *[""] * (len(lessons) + len(exercises))]
            said = [NOT_YET, *said]
        else:
            points = Counter(r.exercise.lesson for r in own if r.points)
            each = [TABLE.get(r.verdict.state, r.points) for r in own]
            numbers = [points.total(), len(own), *(points[lesson] for lesson in lessons), *each]
        rows.append([cell(student.name), *numbers, cell("; ".join(said))])
    return _csv(rows)


def participants(students):
    """Name students as Moodle does, by the numbers in the names of what it gave out.

    students: list of Students -> dict of name to "Participant 12345", without a number the name
    Raises ValueError where two students have one number.
    """
    known = {}
    for student in students:
        if student.id and (other := known.setdefault(student.id, student.name)) != student.name:
            both = f"{line(other, 100)} and {line(student.name, 100)}"
            raise ValueError(f"{both} are one participant of Moodle, number {student.id}")
    return {s.name: f"Participant {s.id}" if s.id else cell(s.name) for s in students}


MOODLE = ["Identifier", "Full name", "Grade", "Maximum Grade", "Last modified (grade)"]


def moodle(students, results):
    """Write the points as a grading worksheet of Moodle's, to be uploaded there.

    students: list of Students; results: dict of name to list of Results -> bytes
    """
    who, rows = participants(students), [MOODLE]
    for student in students:
        own = results[student.name]
        points = sum(r.points for r in own)
        name = student.name.removesuffix(f"_{student.id}")
        rows.append([who[student.name], cell(name), points, len(own), ""])
    return _csv(rows)


# --- one student's work ---


def _said(result):
    """Write down what a Result says -> str"""
    (where, digest), state = result.place, result.verdict.state
    graded = f"{state}: {line(where)} #{digest}" if digest else state
    return "\n".join([graded, *(f"{head:9s}{text}" for head, text in result.verdict.lines)])


def gradescope(results, board, seconds):
    """Write results.json for Gradescope, one test per exercise.

    results: list of Results, tidy; board: str, what is said of all; seconds: how long it took
    -> bytes
    """
    tests = [
        {
            "name": f"{r.exercise.lesson}: {r.exercise.function}",
            "score": r.points,
            "max_score": 1,
            "status": "passed" if r.points else "failed",
            "output": _said(r),
            "output_format": "text",
            "visibility": "visible",
        }
        for r in results
    ]
    said = {"output": board, "output_format": "text", "visibility": "visible"}
    said |= {"execution_time": round(seconds), "tests": tests} if tests else {"score": 0}
    return _json(said)


STATES = {"passed": "pass", "cannot be graded": "error"}  # else "fail"


def github(results, why=""):
    """Write what GitHub Classroom's reporter reads, one test per exercise.

    results: list of Results, tidy; why: where there are none, the reason -> bytes
    """
    tests = [
        {
            "name": f"{r.exercise.lesson}: {r.exercise.function}",
            "status": STATES.get(r.verdict.state, "fail"),
            "score": r.points,
            "message": "" if r.points else _said(r),
        }
        for r in results
    ]
    tests = tests or [{"name": "grading", "status": "error", "score": 0, "message": why}]
    states = {test["status"] for test in tests}
    status = next((state for state in ("error", "fail") if state in states), "pass")
    said = {"version": 1, "status": status, "max_score": max(1, len(results)), "tests": tests}
    return _json(said)


def _json(said):
    return (json.dumps(said, indent=1) + "\n").encode()


# --- where that runs ---

NEEDED = ("numpy", "numba", "matplotlib", "pytest", "tqdm")  # of requirements.txt, to grade
SETUP = """#!/usr/bin/env bash
# Prepare Gradescope's container: a Python from 3.11 on, the packages, a sandbox. As root.
set -euo pipefail
cd "$(dirname "$0")"
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y python3 python3-venv
apt-get install -y bubblewrap || true
new='import sys; sys.exit(sys.version_info < (3, 11))'
python=python3
if ! "$python" -c "$new"; then
    apt-get install -y python3.11 python3.11-venv
    python=python3.11
fi
"$python" -m venv venv
venv/bin/pip install -r requirements.txt
"""
RUN = """#!/usr/bin/env bash
# Grade the folder submission beside this file. results/results.json is there whatever happens.
cd "$(dirname "$0")"
results=results/results.json
mkdir -p results
rm -f "$results"
python=source/venv/bin/python
[ -x "$python" ] || python=python3
PYTHONPATH=source timeout --signal=TERM --kill-after=10 "${{AUTOGRADER_SECONDS:-540}}" \\
    "$python" -m tinydiff grade submission --format gradescope --out "$results"{lessons}
status=$?
if [ ! -s "$results" ]; then
    why="the grading ended with status $status before it was done"
    [ "$status" != 124 ] || why="the grading took too long: is there an endless loop?"
    printf '{{"score": 0, "output": "%s; ask your instructor", "tests": []}}\\n' "$why" > "$results"
fi
exit 0
"""
JUNK = shutil.ignore_patterns("__pycache__", ".*", "*~", "*.pyc", "*.nbi", "*.nbc", "out")
EPOCH = (2020, 1, 1, 0, 0, 0)  # the same content makes the same zip


def write_autograder(path, lessons=None):
    """Write the zip that grades in Gradescope's container: Path, "1-2" or None = all -> None

    In it are setup.sh, run_autograder, the package, its tests and its data.
    """
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        for name in ("tinydiff", "tests", "data", "lessons"):
            shutil.copytree(ROOT / name, made / name, ignore=JUNK)
        shutil.rmtree(made / "lessons" / "pictures", ignore_errors=True)
        shutil.copy(ROOT / "pyproject.toml", made)
        write = lambda name, text: (made / name).write_text(text, encoding="utf-8", newline="\n")
        write("requirements.txt", "".join(f"{text}\n" for text in packages()))
        chosen = f" --lessons {lessons}" if lessons else ""
        for name, text in (("setup.sh", SETUP), ("run_autograder", RUN.format(lessons=chosen))):
            write(name, text)  # for a Linux container, also from Windows
            (made / name).chmod(0o755)
        write_whole(path, lambda file: _zip(made, file))


def packages():
    """List the packages that grading needs, with their versions as requirements.txt has them."""
    asked = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    return [text for text in asked if re.match(r"[\w-]*", text)[0] in NEEDED]


def _zip(folder, file):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), EPOCH)
                info.external_attr = (0o100755 if os.access(path, os.X_OK) else 0o100644) << 16
                archive.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED)


WORKFLOW = """name: Autograding Tests
on: [push, repository_dispatch]
permissions:
  checks: write
  actions: read
  contents: read
jobs:
  run-autograding-tests:
    runs-on: ubuntu-latest
    if: github.actor != 'github-classroom[bot]'
    timeout-minutes: 30
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - run: pip install {packages}
      - name: Grade
        id: tinydiff
        run: |
          status=0
          python -m tinydiff grade lessons --format github --out grades.json || status=$?
          echo "result=$(base64 -w 0 grades.json)" >> "$GITHUB_OUTPUT"
          exit $status
      - name: Report
        if: always()
        uses: classroom-resources/autograding-grading-reporter@v1
        env:
          TINYDIFF_RESULTS: "${{{{ steps.tinydiff.outputs.result }}}}"
        with:
          runners: tinydiff
"""


def write_workflow(folder):
    """Write into a handout what GitHub Classroom runs at each push: Path -> None"""
    path = folder / ".github" / "workflows" / "classroom.yml"
    path.parent.mkdir(parents=True)
    asked = " ".join(f"'{text}'" for text in packages())
    path.write_text(WORKFLOW.format(packages=asked), encoding="utf-8")
