"""A robot student: takes handouts, hands in, runs every lesson, and says how it went.

    python tests/robot.py [--handouts 12 13 1-5 9-13 all] [--states a b c] [--cheap]

In state a the robot answers rightly in the order of the lessons, each lesson with only what came
before it, and keeps each answer in tinydiff/ as the handout's README says; in b it hands in
nothing; in c all answers stand in tinydiff/, the notebooks are untouched. A row of the table is one
lesson of one handout in one state: the points, and what went wrong. With --cheap only imports,
exercises and checks are run, no figures.
"""

import argparse
import ast
import inspect
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import nbformat
from nbclient import NotebookClient

from tinydiff.course import exercises, grade, handout

STATES = "bac"  # in this order one tree serves all: untouched, answered bit by bit, answered
RANGES = ("1-5", "9-13", "all")
SECONDS = 600  # for a cell
NEEDS = r"This cell needs (\S+), an exercise of lesson (\d\d)"
NOT_YET = "Perhaps a cell above"


@dataclass(frozen=True)
class Row:
    """What came of one lesson in one handout and state. problems: tuple of str, empty = well"""

    handout: str
    state: str
    lesson: str
    points: str
    seconds: float
    problems: tuple

    def __str__(self):
        head = f"{self.handout:>5s}  {self.state}  {self.lesson[:2]}  {self.points:>5s}"
        said = "; ".join(self.problems) or "well"
        return f"{head}  {self.seconds:4.0f} s  {said}"


def handouts():
    """List the handouts that are tried: each lesson, and ranges -> list of str"""
    return [path.name[:2] for path in handout.lesson_files()] + list(RANGES)


def numbers(name):
    """Which lessons are meant: "12", "9-13" or "all" -> set of int, or None for all"""
    if name == "all":
        return None
    first, _, last = name.partition("-")
    return set(range(int(first), int(last or first) + 1))


def take(name, folder):
    """Take a handout in which no slip is named, which only costs time -> list of Exercises"""
    nothing = lambda exercise: {"calls": {}, "sentences": []}
    with mock.patch.object(grade, "known", nothing):
        return handout.write_tree(folder, numbers(name))


def walk(name, states=STATES, whole=True):
    """Take a handout and go through its lessons, in one state after the other: yields Rows."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        missing = take(name, tree)
        paths = sorted((tree / "lessons").glob("*.ipynb"))
        for state in (s for s in STATES if s in states):
            if state == "c":
                for exercise in missing:
                    keep(tree, exercise)
            points = package_points(tree) if state == "c" else {}
            for path in paths:
                own = [e for e in missing if e.lesson == path.stem]
                yield visit(name, tree, state, path, own, whole, points)
                for exercise in own if state == "a" else ():
                    keep(tree, exercise)


def visit(name, tree, state, path, own, whole, points):
    """Go through one lesson: its notebook is run and handed in -> Row"""
    began, notebook = time.perf_counter(), nbformat.read(path, as_version=4)
    for exercise in own if state == "a" else ():
        answer(notebook, exercise)
    work = nbformat.from_dict(notebook)  # what is handed in
    if not whole:
        notebook.cells = [c for c in notebook.cells if matters(c, own)]
    run(tree, notebook)
    problems = errors(notebook, path.stem)
    if state == "a" and own and missed(notebook):
        run(tree, notebook, again=True)  # as the handout's README says
        problems += errors(notebook, path.stem)
    if state == "c" or (state == "a" and own):
        problems += missed(notebook)
    problems += unsaid(notebook, own, ": passed" if state == "a" else ": not attempted")
    if own and state != "c":
        points = file_points(tree, work)
    count = sum(points.get(e.function) == "passed" for e in own)
    expected = {"a": "passed", "b": "not attempted", "c": "passed"}[state]
    wrong = [e.function for e in own if points.get(e.function) != expected]
    problems += [f"{f} is {points.get(f, 'not on the board')}" for f in wrong]
    seconds = time.perf_counter() - began
    unique = tuple(dict.fromkeys(problems))
    return Row(name, state, path.stem, f"{count}/{len(own)}", seconds, unique)


# --- what a student does ---


def source_of(exercise):
    """Copy the package's function, decorators included -> str"""
    return inspect.getsource(inspect.unwrap(exercises.original(exercise)))


def keep(tree, exercise):
    """Write an answer into the tree's tinydiff/, in the place of the stub."""
    path = tree / exercise.place
    text = path.read_text(encoding="utf-8")
    node = next(n for n in ast.parse(text).body if getattr(n, "name", "") == exercise.function)
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    lines = text.splitlines(True)
    lines[first - 1 : node.end_lineno] = [source_of(exercise)]
    path.write_text("".join(lines), encoding="utf-8")


def answer(notebook, exercise):
    """Write an answer into its cell, with an import of what it uses of its module."""
    source, module = source_of(exercise), exercise.module
    names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    used = sorted(names & vars(module).keys() - {exercise.function})
    imports = f"from {module.__name__} import {', '.join(used)}\n" if used else ""
    start = rf"^(?:@[^\n]+\n)?def {exercise.function}\("
    (cell,) = [c for c in code(notebook) if re.search(start, c.source, re.M)]
    cell.source = cell.source[: re.search(start, cell.source, re.M).start()] + imports + source


def run(tree, notebook, again=False):
    """Run a notebook in a fresh kernel in the tree, from top to bottom; again: twice in a row."""
    made = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    goes_on = {"tags": ["raises-exception"]}
    fresh = lambda cell: made[cell.cell_type](cell.source, metadata=goes_on)
    cells = [fresh(cell) for _ in range(1 + again) for cell in notebook.cells]
    ran = nbformat.v4.new_notebook(cells=cells)
    here = {"metadata": {"path": str(tree / "lessons")}}
    client = NotebookClient(ran, timeout=SECONDS, kernel_name="python3", resources=here)
    client.execute(env=surroundings(tree, "module://matplotlib_inline.backend_inline"))
    notebook.cells = ran.cells[-len(notebook.cells) :]


def surroundings(tree, backend="agg"):
    """Have Python find the tree's package first -> dict, the environment of a process"""
    path = os.pathsep.join([str(tree), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"TINYDIFF_FAST": "1", "PYTHONPATH": path, "MPLBACKEND": backend}


def file_points(tree, notebook):
    """Hand a notebook in, as the handout's README says -> dict of function to state"""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work.ipynb"
        nbformat.write(notebook, work)
        return board(tree, "--grade", str(work))


def package_points(tree):
    """Ask the tree how far one is -> dict of function to state"""
    return board(tree)


def board(tree, *words):
    command, here = [sys.executable, "-m", "pytest", *words], surroundings(tree)
    done = subprocess.run(command, cwd=tree, env=here, capture_output=True, text=True)
    row = r"^  (\w+) +[01?-] / 1  (passed|failed|not attempted|cannot be graded)"
    return dict(re.findall(row, done.stdout, re.M))


# --- what can go wrong ---


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def matters(cell, own):
    """Say whether a cell imports, asks for an exercise, or checks one."""
    if cell.cell_type != "code":
        return False
    asks = any(re.search(rf"^def {e.function}\(", cell.source, re.M) for e in own)
    begins = re.match(r"(from|import) ", cell.source)
    return bool(asks or begins or re.search(r"^check\(", cell.source, re.M))


def said(cell):
    """Collect all that a cell showed, as plain text."""
    found = []
    for output in cell.get("outputs", ()):
        plain = output.get("data", {}).get("text/plain", "")
        found += [output.get("text", ""), plain, "\n".join(output.get("traceback", ()))]
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(found))


def errors(notebook, lesson):
    """List what must never come: an error, a bare stub, a need for a later lesson's exercise."""
    found = []
    for k, cell in enumerate(notebook.cells):
        text = said(cell)
        if any(output.output_type == "error" for output in cell.get("outputs", ())):
            found.append(f"cell {k} raises {text.strip().splitlines()[-1][:100]}")
        if re.search(r"NotImplementedError:?\s*$", text, re.M):
            found.append(f"cell {k} says no more than NotImplementedError")
        later = [name for name, number in re.findall(NEEDS, text) if number > lesson[:2]]
        later = later if lesson[:2] != "00" else []  # it shows what the whole course leads to
        found += [f"cell {k} needs {name} of a later lesson" for name in later]
    return found


def missed(notebook):
    """List the cells that could not run yet."""
    waiting = re.compile(f"{NEEDS}|{NOT_YET}")
    found = [(k, waiting.search(said(cell))) for k, cell in enumerate(notebook.cells)]
    return [f"cell {k}: {match[0]}" for k, match in found if match]


def unsaid(notebook, own, words):
    """List the checks that did not say what they should."""
    text = "\n".join(said(cell) for cell in code(notebook) if "check(" in cell.source)
    names = [e.name for e in own if f"{e.name}{words}" not in text]
    return [f"check says not '{name}{words}'" for name in names]


def main():
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--handouts", nargs="+", default=handouts(), metavar="N", help="12 1-5 all")
    words.add_argument("--states", nargs="+", default=list(STATES), choices=STATES)
    words.add_argument("--cheap", action="store_true", help="only imports, exercises and checks")
    asked = words.parse_args()
    print("which  state, lesson, points")
    bad = 0
    for name in asked.handouts:
        for row in walk(name, asked.states, whole=not asked.cheap):
            print(row, flush=True)
            bad += bool(row.problems)
    print(f"{bad} lessons with problems")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
