"""Hand the course out: a tree for students without the exercises' bodies, or an nbgrader course.

What a student gets is cut out of what is here, nothing is written twice: of the package all but the
bodies, of the tests those that grade, of the wrong answers (tests/mutants) only what they do to the
tests' inputs, so that a slip can still be named.
"""

import ast
import inspect
import json
import re
import shutil
import textwrap

from . import drawn, grade, suspects
from .exercises import HANDOUT, ROOT, exercises, original, packed
from .judge import run_pytest

README = """# tinydiff, {lessons}

Diffusion models from scratch. With Python 3.11 or later, in this folder:

    python3 -m venv .venv && . .venv/bin/activate && pip install -r requirements.txt
    jupyter lab lessons

(On Windows: `py -m venv .venv`, then `.venv\\Scripts\\activate`, then the rest, line by line.)

The functions below are missing from the package; what needs one says which. A lesson explains each,
asks for it, and `check` says whether yours is right. A right one takes the package's place until
you restart the notebook; then run the cells from the top again. The pictures that you see before
that were made with the right answers. To keep a function for other lessons, write it into its file
in `tinydiff/`, too.

    python -m pytest                     # how far you are: the functions in tinydiff/
    python -m pytest --grade lessons     # the same for the notebooks, as they will be graded

Hand in: the notebooks in `lessons/` with your answers in them, as files, as a folder or in a zip.
Answers that are only in `tinydiff/` are not graded.

| lesson | file | function |
| --- | --- | --- |
"""


# --- the package, without the bodies ---


def blank(source, functions, body=lambda name: "raise NotImplementedError"):
    """Replace the bodies of functions; decorators, signatures and docstrings stay.

    source: str; functions: names; body: function of a name that gives what stands there instead
    -> str
    """
    lines = source.splitlines(True)
    for node in reversed(ast.parse(source).body):
        if isinstance(node, ast.FunctionDef) and node.name in functions:
            new = textwrap.indent(body(node.name), " " * 4) + "\n"
            lines[_first_line(node) : node.end_lineno] = [new]
    return "".join(lines)


def _stub(exercise):
    """Write the body of an exercise in the package of a handout, which says where it belongs."""
    says = f"{exercise.name} is an exercise of lesson {exercise.lesson[:2]}: write it into"
    return f'raise NotImplementedError(\n    "{says} "\n    "{exercise.place}"\n)'


def _first_line(node):
    """Find where a function's body begins, after its docstring -> number of lines before"""
    return node.body[0].end_lineno if _has_docstring(node) else node.body[0].lineno - 1


def _has_docstring(node):
    return isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)


def body_lines(exercise):
    """List what must not be found in a handout: the longer lines of an exercise's body.

    Exercise -> list of str, without spaces, all quotes alike
    """
    node = ast.parse(_source(exercise)).body[0]
    text = "\n".join(ast.unparse(part) for part in node.body[_has_docstring(node) :])
    return [line for line in map(_squeezed, text.splitlines()) if len(line) >= 24]


IN_A_ROW = 3  # lines of an answer that give it away


def gives_away(text, exercise):
    """Say whether a text has a few lines of an answer in a row: str, Exercise -> bool"""
    text, lines = _squeezed(text), body_lines(exercise)
    size = min(len(lines), IN_A_ROW)
    runs = ["".join(lines[k : k + size]) for k in range(len(lines) - size + 1)]
    return bool(lines) and any(run in text for run in runs)


def _source(exercise):
    return textwrap.dedent(inspect.getsource(inspect.unwrap(original(exercise))))


def _squeezed(text):
    return "".join(text.split()).replace('"', "'")


# --- the tests, without all that doesn't grade ---


def defined(node):
    """List the names that a statement gives a meaning, also by changing what is in them."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(a.asname or a.name).split(".")[0] for a in node.names}
    stored = [n for n in ast.walk(node) if isinstance(getattr(n, "ctx", None), ast.Store)]
    changed = [n.value for n in stored if isinstance(n, ast.Subscript | ast.Attribute)]
    return {n.id for n in [*stored, *changed] if isinstance(n, ast.Name)}


def _uses(node):
    """List the names that a statement may need: names, arguments (fixtures), strings (likewise)."""
    found = set()
    for n in ast.walk(node):
        if isinstance(n, ast.Name):
            found.add(n.id)
        elif isinstance(n, ast.arg):
            found.add(n.arg)
        elif isinstance(n, ast.Constant) and isinstance(n.value, str):
            found.add(n.value)
    return found


def _test_file(name):
    return ROOT / "tests" / f"{name}.py"


def _autouse(nodes):
    """List the fixtures that all tests of a module use unnamed: its own, and imported ones."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.FunctionDef):
            marks = map(ast.unparse, node.decorator_list)
            found |= {node.name} if any("autouse=True" in mark for mark in marks) else set()
        elif isinstance(node, ast.ImportFrom) and _test_file(node.module).exists():
            there = ast.parse(_test_file(node.module).read_text(encoding="utf-8")).body
            found |= {a.name for a in node.names} & _autouse(there)
    return found


def cut(source, wanted):
    """Keep of a module what the names in `wanted` need, and the imports that these need.

    source: str; wanted: set of str -> str, set of all names that are used there
    """
    nodes, kept, imports = ast.parse(source).body, set(), ast.Import | ast.ImportFrom
    known = set(wanted) | {"pytestmark"} | _autouse(nodes)
    while True:
        new = {k for k, node in enumerate(nodes) if k not in kept and defined(node) & known}
        if not new:
            break
        kept |= new
        for node in (nodes[k] for k in new):
            known |= set() if isinstance(node, imports) else _uses(node)
    lines, text, end = source.splitlines(True), [], 0
    for k, node in enumerate(nodes):
        if isinstance(node, imports) and k in kept:
            node.names = [a for a in node.names if (a.asname or a.name).split(".")[0] in known]
            text.append(ast.unparse(node) + "\n")
        elif k in kept or isinstance(node, ast.Expr):
            text += lines[end : node.end_lineno]
        end = node.end_lineno
    return "".join(text), known


def graders(chosen):
    """Cut the tests down to those that grade: list of Exercises -> dict of file name to source"""
    wanted = {}
    for path in {e.tests for e in chosen}:
        names = {e.name for e in chosen if e.tests == path}
        wanted.setdefault(path.name, set()).update(_marked(path, names))
    return cut_files(wanted)


def cut_files(wanted):
    """Cut files of tests down to what some of their names need, in other files, too.

    wanted: dict of file name to set of names -> dict of file name to source
    """
    wanted, found = {name: set(names) for name, names in wanted.items()}, {}
    while set(wanted) - set(found):
        name = min(set(wanted) - set(found))
        source = (ROOT / "tests" / name).read_text(encoding="utf-8")
        found[name], _ = cut(source, wanted[name])
        for node in ast.parse(found[name]).body:
            if isinstance(node, ast.ImportFrom) and _test_file(node.module).exists():
                other = f"{node.module}.py"
                more = {a.name for a in node.names} - wanted.setdefault(other, set())
                if more:
                    wanted[other] |= more
                    found.pop(other, None)
    return found


def _marked(path, names):
    """Find the tests of a file that carry the mark of one of these exercises -> set of str

    Raises FileNotFoundError where one of the exercises has none.
    """

    class Collector:
        found, graded = set(), set()

        def pytest_collection_modifyitems(self, items):
            for item in items:
                here = {mark.args[0] for mark in item.iter_markers("exercise")} & names
                self.graded.update(here)
                self.found.update({item.function.__name__} if here else ())

    off = [f"-p no:{name}" for name in ("terminal", "cacheprovider", "faulthandler")]
    quiet = " ".join([*off, "--collect-only -s -o addopts="]).split()
    place = ["--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), str(path)]
    run_pytest([*quiet, *place], Collector())
    if lost := sorted(names - Collector.graded):
        raise FileNotFoundError(f"no test in {path} grades {', '.join(lost)}")
    return Collector.found


# --- the tree ---


SHELL = "<!-- shell -->"  # ends a lesson's line of navigation
LINK = re.compile(r"\[([^\]]*)\]\(([\w.]+\.(?:ipynb|md))(?:#[^)]*)?\)")  # beside the lesson
JUNK = ("__pycache__", ".*", "*~", "*.orig", "*.rej", "*.pyc", "*.nbi", "*.nbc")


def lesson_files(numbers=None):
    """List the lessons with these numbers, None = all: iterable of int -> list of Path"""
    known = {"00_first_pictures", *(e.lesson for e in exercises())}  # no copies that somebody made
    found = [path for path in sorted((ROOT / "lessons").glob("*.ipynb")) if path.stem in known]
    return [path for path in found if numbers is None or int(path.name[:2]) in numbers]


def chosen_lessons(text, option="--lessons"):
    """Read a choice of lessons: "1-5", "3" or "1,4-6"; None = all -> set of int or None

    option: by which it is given. Raises ValueError for anything else.
    """
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,2}(-\d{1,2})?(,\d{1,2}(-\d{1,2})?)*", text):
        raise ValueError(f"{option} takes numbers and ranges, as 1-5 or 1,3,7-9; got {text!r}")
    ends = [tuple(map(int, part.split("-"))) for part in text.split(",")]
    if any(first > last for first, *rest in ends for last in rest):
        raise ValueError(f"{option} takes ranges that count upwards, as 1-5; got {text!r}")
    return {number for first, *last in ends for number in range(first, (last or [first])[0] + 1)}


def chosen_exercises(text, option="--lessons"):
    """List the exercises of a choice of lessons: str or None -> list of Exercises

    Raises ValueError for a lesson that does not exist, or where there is no exercise at all.
    """
    numbers, known = chosen_lessons(text, option), {int(path.name[:2]) for path in lesson_files()}
    unknown = (numbers or set()) - known
    if unknown:
        here = ", ".join(map(str, sorted(known)))
        why = f"there is no lesson {min(unknown)}; the lessons here are {here}"
        raise ValueError(f"{option} {text}: {why}")
    found = [e for e in exercises() if numbers is None or int(e.lesson[:2]) in numbers]
    if not found:
        here = ", ".join(dict.fromkeys(e.lesson[:2] for e in exercises()))
        why = f"no exercise is in these lessons; those with exercises are {here}"
        raise ValueError(f"{option} {text}: {why}")
    return found


def write_tree(folder, numbers=None, tick=lambda: None):
    """Write what a student gets: Path (new or empty), lesson numbers (None = all).

    tick() is called after each exercise -> list of the Exercises whose bodies are missing
    """
    paths = lesson_files(numbers)
    chosen = [e for e in exercises() if e.lesson in {path.stem for path in paths}]
    junk = shutil.ignore_patterns(*JUNK)
    for name in ("tinydiff", "data"):
        shutil.copytree(ROOT / name, folder / name, ignore=junk)
    for name in ("requirements.txt", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    for place in {e.place for e in chosen}:
        stubs = {e.function: _stub(e) for e in chosen if e.place == place}
        copied, source = folder / place, (folder / place).read_text(encoding="utf-8")
        copied.write_text(blank(source, stubs, stubs.get), encoding="utf-8")
    seam = folder / "tinydiff" / "kernels" / "__init__.py"
    text = seam.read_text(encoding="utf-8")
    seam.write_text(text.replace("\ntogether = True", "\ntogether = False"), encoding="utf-8")
    (folder / "lessons").mkdir()
    for path in paths:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        _lead(notebook, path, {p.name for p in paths}, chosen)
        _write_json(folder / "lessons" / path.name, student_notebook(notebook, chosen))
    (folder / "tests").mkdir()
    for name in ("conftest.py", "draws.py"):
        shutil.copy(ROOT / "tests" / name, folder / "tests")
    for name, source in graders(chosen).items():
        (folder / "tests" / name).write_text(source, encoding="utf-8")
    listed = []
    for e in chosen:
        known = packed(grade.known(e) | {"drawn": drawn.right(e)})
        listed.append({"name": e.name, "lesson": e.lesson, "tests": e.tests.name, "known": known})
        tick()
    _write_json(folder / "tests" / HANDOUT, listed)
    hunted = [e.function for e in chosen if e.module.__name__.endswith(".hunts")]
    _write_json(folder / "tests" / suspects.HUNTS, suspects.packed(hunted))
    lessons = f"lesson{'s' * (len(paths) > 1)} {', '.join(path.name[:2] for path in paths)}"
    rows = "".join(f"| {e.lesson} | {e.place} | `{e.function}` |\n" for e in chosen)
    readme = README.format(lessons=lessons) + rows
    (folder / "README.md").write_text(readme, encoding="utf-8")
    return chosen


EXPLAINS = "import tinydiff.grade  # says in one line what is not written yet\n"


BEFORE = """

**Before you begin.** In this folder the package lacks what earlier lessons asked for: {}. Write
your answers into these files first, with the imports that they need; else the cells that use them
say what is missing."""


def _lead(notebook, path, there, chosen):
    """Make a lesson's text fit the folder: links lead to what is there; what has to come first.

    notebook: dict, changed in place; path: of the lesson; there: names of the folder's lessons;
    chosen: list of Exercises
    """
    texts = [c for c in notebook["cells"] if c["cell_type"] == "markdown"]
    for cell in texts:
        text = LINK.sub(lambda m: m[0] if m[2] in there else m[1], "".join(cell["source"]))
        lines = [_known_ways(line) if SHELL in line else line for line in text.splitlines(True)]
        cell["source"] = lines
    earlier = {}
    for e in chosen:
        if e.lesson < path.stem and not e.is_hunt:
            earlier.setdefault(e.place, []).append(f"`{e.function}`")
    if earlier:
        named = "; ".join(f"{', '.join(names)} (`{place}`)" for place, names in earlier.items())
        texts[0]["source"].append(BEFORE.format(named))


def _known_ways(line):
    """Keep of a line of navigation what is still a link: "[← 02](02.ipynb) | Errata" -> str"""
    ways = [way for way in line.replace(SHELL, "").strip().split(" | ") if "](" in way]
    return f"{' | '.join(ways)} {SHELL}\n"


def student_notebook(notebook, chosen):
    """Let a lesson run on where a function is missing, and drop outputs that show the code of one.

    notebook: dict; chosen: list of Exercises -> dict
    """
    cells = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    if cells and not any("tinydiff.grade" in "".join(c["source"]) for c in cells):
        cells[0]["source"] = [EXPLAINS, *cells[0]["source"]]  # lesson 00 has nothing to check
    for cell in cells:
        text = "".join(cell["source"])
        asked = {e.function for e in chosen if f"def {e.function}(" in text}
        if asked and "raise NotImplementedError" not in text:  # somebody solved it, to try
            cell["source"] = blank(text, asked).splitlines(True)
        said = "".join(_strings(cell["outputs"]))
        if any(gives_away(said, e) for e in chosen):
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

CONFIG = """# An nbgrader course, written by tinydiff. In this folder:
# `nbgrader generate_assignment LESSON`, `nbgrader autograde LESSON`.
import os

os.environ["TINYDIFF_FAST"] = "1"  # lessons train for a few steps only while they are graded
c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "tinydiff"
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError"}
c.ExecutePreprocessor.timeout = 600  # of a cell; an exercise itself has the limits of `grade`
"""


def write_nbgrader(folder, numbers=None, tick=lambda: None):
    """Write the source of an nbgrader course, with the answers: Path, lesson numbers (None = all).

    tick() is called after each exercise -> list of Exercises
    """
    (folder / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    found = []
    for path in lesson_files(numbers):
        chosen = [e for e in exercises() if e.lesson == path.stem]
        if chosen:
            (folder / "source" / path.stem).mkdir(parents=True)
            notebook = nbgrader_notebook(json.loads(path.read_text(encoding="utf-8")), chosen)
            _write_json(folder / "source" / path.stem / path.name, notebook)
            found += chosen
            for _ in chosen:
                tick()
    return found


PLAIN = {"schema_version": 3} | dict.fromkeys(("task", "locked", "grade", "solution"), False)
CHECK = "from tinydiff.grade import check\n\ncheck({name}, required=True)"


def nbgrader_notebook(notebook, chosen):
    """Make an assignment of a lesson: each exercise a solution, each check a point.

    notebook: dict; chosen: list of its Exercises -> dict
    """
    for cell in (c for c in notebook["cells"] if c["cell_type"] == "code"):
        text = "".join(cell["source"])
        cell |= {"outputs": [], "execution_count": None}
        cell["metadata"]["tags"] = ["raises-exception"]
        for e in chosen:
            name = e.function
            if f"def {name}(" in text:
                cell["source"] = solved(text, e)
                cell["metadata"]["nbgrader"] = PLAIN | {"grade_id": name, "solution": True}
            elif text.startswith(f"check({name}"):
                graded = {"grade_id": f"check_{name}", "grade": True, "points": 1, "locked": True}
                cell["source"] = CHECK.format(name=name)
                cell["metadata"]["nbgrader"] = PLAIN | graded
    return notebook


def solved(text, exercise):
    """Write the package's answer into an exercise's cell, between nbgrader's marks.

    text: str, the cell; exercise: Exercise -> str
    """
    source, module = _source(exercise), exercise.module
    node = ast.parse(source).body[0]
    used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    names = sorted(used & vars(module).keys() - {exercise.function})
    imports = f"from {module.__name__} import {', '.join(names)}\n" if names else ""
    answer = imports + textwrap.dedent("\n".join(source.splitlines()[_first_line(node) :]))
    body = f"### BEGIN SOLUTION\n{answer}\n### END SOLUTION"
    return blank(text, {exercise.function}, lambda name: body)
