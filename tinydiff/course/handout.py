"""Hand the course out: a tree for students in which the bodies of the exercises are missing, or the source of an nbgrader course.

What a student gets is cut out of what is here, nothing is written twice: of the package all but the bodies, of the tests those that
grade, of the wrong answers (tests/mutants) only what they do to the tests' inputs, so that a slip can still be named.
"""

import ast
import inspect
import json
import shutil
import textwrap
from pathlib import Path

from tqdm import tqdm

from . import grade
from .exercises import HANDOUT, ROOT, exercises, original

README = """# tinydiff, {lessons}

Diffusion models from scratch. With Python 3.11 or later, in this folder:

    python3 -m venv .venv && . .venv/bin/activate && pip install -r requirements.txt
    jupyter lab lessons

(On Windows: `py -m venv .venv`, then `.venv\\Scripts\\activate`, then the rest, line by line.)

The functions below are missing from the package: their bodies raise `NotImplementedError`. A lesson explains each, asks for it, and
`check` says whether yours is right. A right one takes the package's place until you restart the notebook; then run the cells from the top
once more. The pictures that you see before that were made with the right answers. To keep a function for other lessons, write it into its
file in `tinydiff/`, too.

    python -m pytest                     # how far you are: the functions in tinydiff/
    python -m pytest --grade FILE        # the same for a notebook, as it will be graded

| lesson | file | function |
| --- | --- | --- |
"""


# --- the package, without the bodies ---


def blank(source, functions, body="raise NotImplementedError"):
    """Replace the bodies of functions by `body`; decorators, signatures and docstrings stay: str, names, str -> str"""
    lines = source.splitlines(True)
    nodes = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name in functions
    ]
    for node in reversed(nodes):
        lines[_first_line(node) : node.end_lineno] = [textwrap.indent(body, " " * 4) + "\n"]
    return "".join(lines)


def _first_line(node):
    """Find where a function's body begins, behind its docstring -> number of lines before"""
    return node.body[0].end_lineno if _has_docstring(node) else node.body[0].lineno - 1


def _has_docstring(node):
    return isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)


def body_lines(exercise):
    """List what must not be found in a handout: the longer lines of an exercise's body, without space and quotes -> list of str"""
    node = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(original(exercise))))).body[0]
    text = "\n".join(ast.unparse(part) for part in node.body[_has_docstring(node) :])
    return [line for line in map(_squeezed, text.splitlines()) if len(line) >= 24]


def _squeezed(text):
    return "".join(text.split()).replace('"', "'")


# --- the tests, without all that doesn't grade ---


def _defines(node):
    """List the names to which a statement of a module gives a meaning, also by changing what is in them."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(a.asname or a.name).split(".")[0] for a in node.names}
    found = {
        n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    changed = [
        n.value
        for n in ast.walk(node)
        if isinstance(n, ast.Subscript | ast.Attribute) and isinstance(n.ctx, ast.Store)
    ]
    return found | {n.id for n in changed if isinstance(n, ast.Name)}


def _uses(node):
    """List the names that a statement may need: those that it reads, its arguments (fixtures), strings (fixtures by name)."""
    found = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} | {
        n.arg for n in ast.walk(node) if isinstance(n, ast.arg)
    }
    return found | {
        n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }


def _autouse(nodes):
    """List the fixtures that every test of a module uses without naming them: its own, and those imported from other tests."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.FunctionDef) and any(
            "autouse=True" in ast.unparse(d) for d in node.decorator_list
        ):
            found.add(node.name)
        elif (
            isinstance(node, ast.ImportFrom)
            and (path := ROOT / "tests" / f"{node.module}.py").exists()
        ):
            found |= {a.name for a in node.names} & _autouse(
                ast.parse(path.read_text(encoding="utf-8")).body
            )
    return found


def cut(source, wanted):
    """Keep of a module what the names in `wanted` need, with imports of nothing else: str, set of str -> str, set of all names"""
    nodes, kept = ast.parse(source).body, set()
    known = set(wanted) | {"pytestmark"} | _autouse(nodes)
    while True:
        new = [k for k, node in enumerate(nodes) if k not in kept and _defines(node) & known]
        if not new:
            break
        kept |= set(new)
        known |= {
            name
            for k in new
            for name in (
                () if isinstance(nodes[k], ast.Import | ast.ImportFrom) else _uses(nodes[k])
            )
        }
    lines, text, end = source.splitlines(True), [], 0
    for k, node in enumerate(nodes):
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        if isinstance(node, ast.Import | ast.ImportFrom) and k in kept:
            node.names = [a for a in node.names if (a.asname or a.name).split(".")[0] in known]
            text.append(ast.unparse(node) + "\n")
        elif k in kept or isinstance(node, ast.Expr):
            text += lines[end : first - 1] + lines[first - 1 : node.end_lineno]
        end = node.end_lineno
    return "".join(text), known


def graders(exercises):
    """Cut the files of tests down to those that grade: list of Exercises -> dict of file name to source"""
    wanted = {}
    for path in {e.tests for e in exercises}:
        names = {e.name for e in exercises if e.tests == path}
        wanted.setdefault(path.name, set()).update(_marked(path, names))
    found = {}
    while set(wanted) - set(found):
        name = min(set(wanted) - set(found))
        found[name], known = cut((ROOT / "tests" / name).read_text(encoding="utf-8"), wanted[name])
        for node in ast.parse(found[name]).body:
            if isinstance(node, ast.ImportFrom) and (ROOT / "tests" / f"{node.module}.py").exists():
                more = {a.name for a in node.names} - wanted.setdefault(f"{node.module}.py", set())
                if more:
                    wanted[f"{node.module}.py"] |= more
                    found.pop(f"{node.module}.py", None)
    return found


def _marked(path, names):
    """Find the tests of a file that carry the mark of one of these exercises -> set of function names"""
    import pytest

    class Collector:
        found = set()

        def pytest_collection_modifyitems(self, items):
            for item in items:
                if any(mark.args[0] in names for mark in item.iter_markers("exercise")):
                    self.found.add(item.function.__name__)

    quiet = "-p no:terminal -p no:cacheprovider -p no:faulthandler --collect-only -s -o addopts=".split()
    pytest.main(
        [*quiet, "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), str(path)],
        plugins=[Collector()],
    )
    return Collector.found


# --- the tree ---


def lesson_files(numbers=None):
    """List the lessons with these numbers, None = all: iterable of int -> list of Path"""
    known = {"00_first_pictures", *(e.lesson for e in exercises())}  # no copies that somebody made
    found = [path for path in sorted((ROOT / "lessons").glob("*.ipynb")) if path.stem in known]
    return [path for path in found if numbers is None or int(path.name[:2]) in numbers]


def write_tree(folder, numbers=None):
    """Write what a student gets: Path (new or empty), lesson numbers (None = all) -> list of Exercises whose bodies are missing"""
    paths = lesson_files(numbers)
    chosen = [e for e in exercises() if e.lesson in {path.stem for path in paths}]
    junk = shutil.ignore_patterns(
        "__pycache__", ".*", "*~", "*.orig", "*.rej", "*.pyc", "*.nbi", "*.nbc"
    )
    for name in ("tinydiff", "data"):
        shutil.copytree(ROOT / name, folder / name, ignore=junk)
    for name in ("requirements.txt", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    for path in {Path(e.module.__file__) for e in chosen}:
        names = {e.function for e in chosen if Path(e.module.__file__) == path}
        copied = folder / path.resolve().relative_to(ROOT)
        copied.write_text(blank(copied.read_text(encoding="utf-8"), names), encoding="utf-8")
    (folder / "lessons").mkdir()
    hidden = [line for e in chosen for line in body_lines(e)]
    for path in paths:
        _write_json(
            folder / "lessons" / path.name,
            student_notebook(json.loads(path.read_text(encoding="utf-8")), chosen, hidden),
        )
    (folder / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "conftest.py", folder / "tests")
    for name, source in graders(chosen).items():
        (folder / "tests" / name).write_text(source, encoding="utf-8")
    about = [
        {"name": e.name, "lesson": e.lesson, "tests": e.tests.name, "known": grade.known(e)}
        for e in tqdm(chosen, "exercises")
    ]
    _write_json(folder / "tests" / HANDOUT, about)
    lessons = f"lesson{'s' * (len(paths) > 1)} {', '.join(path.name[:2] for path in paths)}"
    rows = [
        f"| {e.lesson} | {Path(e.module.__file__).resolve().relative_to(ROOT).as_posix()} | `{e.function}` |\n"
        for e in chosen
    ]
    (folder / "README.md").write_text(
        README.format(lessons=lessons) + "".join(rows), encoding="utf-8"
    )
    return chosen


def student_notebook(notebook, exercises, hidden):
    """Let a lesson run on where a function is missing, and take outputs away that show the code of one: dict, Exercises, lines -> dict"""
    for cell in (c for c in notebook["cells"] if c["cell_type"] == "code"):
        text = "".join(cell["source"])
        asked = {e.function for e in exercises if f"def {e.function}(" in text}
        if asked and "raise NotImplementedError" not in text:  # somebody solved it, to try
            cell["source"] = blank(text, asked).splitlines(True)
        said = _squeezed("".join(_strings(cell["outputs"])))
        if any(line in said for line in hidden):
            cell["outputs"] = []
        if "check(" not in text:
            cell["metadata"]["tags"] = ["raises-exception"]
    return notebook


def _strings(item):
    """Walk through the strings in a piece of JSON."""
    if isinstance(item, str):
        yield item
    elif isinstance(item, dict | list):
        for part in item.values() if isinstance(item, dict) else item:
            yield from _strings(part)


def _write_json(path, content):
    path.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


# --- nbgrader ---

CONFIG = """# An nbgrader course, written by tinydiff: `nbgrader generate_assignment LESSON`, `nbgrader autograde LESSON` in this folder.
import os

os.environ["TINYDIFF_FAST"] = "1"  # lessons that train do so for a few steps only while they are graded
c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "tinydiff"
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError"}
c.ExecutePreprocessor.timeout = 300
"""


def write_nbgrader(folder, numbers=None):
    """Write the source of an nbgrader course, with the answers: Path, lesson numbers (None = all) -> list of Exercises"""
    (folder / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    found = []
    for path in lesson_files(numbers):
        chosen = [e for e in exercises() if e.lesson == path.stem]
        if chosen:
            (folder / "source" / path.stem).mkdir(parents=True)
            notebook = nbgrader_notebook(json.loads(path.read_text(encoding="utf-8")), chosen)
            _write_json(folder / "source" / path.stem / path.name, notebook)
            found += chosen
    return found


def nbgrader_notebook(notebook, exercises):
    """Make an assignment of a lesson: each exercise a solution, each check a point: dict, Exercises -> dict"""
    for cell in (c for c in notebook["cells"] if c["cell_type"] == "code"):
        text = "".join(cell["source"])
        cell |= {"outputs": [], "execution_count": None}
        cell["metadata"]["tags"] = ["raises-exception"]
        for e in exercises:
            about = {
                "schema_version": 3,
                "task": False,
                "locked": False,
                "grade": False,
                "solution": False,
            }
            if f"def {e.function}(" in text:
                cell["source"] = solved(text, e)
                cell["metadata"]["nbgrader"] = about | {"grade_id": e.function, "solution": True}
            elif text.startswith(f"check({e.function}"):
                cell["source"] = (
                    f"from tinydiff.grade import check\n\ncheck({e.function}, required=True)"
                )
                cell["metadata"]["nbgrader"] = about | {
                    "grade_id": f"check_{e.function}",
                    "grade": True,
                    "points": 1,
                    "locked": True,
                }
    return notebook


def solved(text, exercise):
    """Write the package's answer into an exercise's cell, between nbgrader's marks: str, Exercise -> str"""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(original(exercise))))
    node = ast.parse(source).body[0]
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} & vars(
        exercise.module
    ).keys() - {exercise.function}
    imports = (
        f"from {exercise.module.__name__} import {', '.join(sorted(names))}\n" if names else ""
    )
    body = textwrap.dedent("\n".join(source.splitlines()[_first_line(node) :]))
    return blank(
        text, {exercise.function}, f"### BEGIN SOLUTION\n{imports}{body}\n### END SOLUTION"
    )
