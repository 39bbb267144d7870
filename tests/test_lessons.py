"""The lessons as a student meets them.

Untouched they run through; filled in rightly every check passes, wrongly it says what is wrong.
"""

import ast
import inspect
import re
import textwrap
import time

import nbformat
import pytest
from robot import said

from lessons import LARGEST, ROOT, fingerprint, imported, lessons, read, run, without_shell
from tinydiff import plot
from tinydiff.course import diagnosis, exercises, submission, worker
from tinydiff.design import edit

LESSONS = lessons()
SECONDS = 120  # for a lesson in fast mode, on two cores
OFFLINE = """import socket
def _refuse(*args, **options):
    raise OSError("a lesson must not need the network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = _refuse"""

each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)


def exercises_of(path):
    return [e for e in exercises.exercises() if e.lesson == path.stem]


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def exercise_cell(notebook, exercise):
    start = rf"^def {exercise.function}\("
    (cell,) = [cell for cell in code(notebook) if re.search(start, cell.source, re.M)]
    return cell


def own_words(source):
    """Take a function apart -> decorators, signature, docstring"""
    node = ast.parse(textwrap.dedent(source)).body[-1]
    decorators = [ast.unparse(d) for d in node.decorator_list]
    return decorators, ast.unparse(node.args), ast.get_docstring(node)


def fill(notebook, exercise, function_source):
    """Write an answer into an exercise's cell, with an import of what it uses of its module."""
    source, module = textwrap.dedent(function_source), exercise.module
    names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    used = sorted(names & vars(module).keys() - {exercise.function})
    imports = f"from {module.__name__} import {', '.join(used)}\n" if used else ""
    cell = exercise_cell(notebook, exercise)
    begin = re.search(rf"^(?:@[^\n]+\n)?def {exercise.function}\(", cell.source, re.M).start()
    cell.source = cell.source[:begin] + imports + source


def reference_source(exercise):
    return inspect.getsource(inspect.unwrap(exercises.original(exercise)))


def check_cells(notebook):
    """Find the cells that check -> dict of function name to cell"""
    found = {}
    for cell in code(notebook):
        for name in re.findall(r"^check\((\w+)", cell.source, re.M):
            found[name] = cell
    return found


# --- as they are committed ---


def test_the_first_nine_lessons_are_there():
    assert [p.stem[:2] for p in LESSONS][:9] == [f"{k:02d}" for k in range(9)]
    assert {e.lesson for e in exercises.exercises()} <= {p.stem for p in LESSONS}


@each_lesson
def test_outputs_are_fresh(path):
    """Run `python tests/lessons.py` after a change in a lesson, or in code that a lesson shows."""
    notebook = read(path)
    cells = code(notebook)
    assert notebook.metadata["tinydiff"]["fingerprint"] == fingerprint(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert "error" not in {output.output_type for cell in cells for output in cell.outputs}


@each_lesson
def test_a_lesson_is_small_and_says_nothing_of_a_machine(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) <= LARGEST
    pictures = re.sub(r'"[A-Za-z0-9+/=\\n]{2000,}"|base64,[A-Za-z0-9+/=]+', "", text)
    assert not re.search(r"/(?:home|root|Users|tmp|work)/", pictures)


@each_lesson
def test_a_lesson_is_no_longer_than_it_may_be_and_fits_the_page(path):
    """At most 4,000 words without the links at head and foot, and lines of at most 100 columns."""
    cells = read(path).cells
    texts = [without_shell(cell.source) for cell in cells if cell.cell_type == "markdown"]
    assert sum(len(text.split()) for text in texts) <= (3000 if path.stem[:2] == "12" else 4000)
    printed = [o.text for cell in cells for o in cell.get("outputs", ()) if "text" in o]
    assert max((len(line) for text in printed for line in text.splitlines()), default=0) <= 100


@each_lesson
def test_every_figure_says_in_words_what_it_shows(path):
    for cell in code(read(path)):
        pictures = [o for o in cell.outputs if "image/png" in o.get("data", {})]
        assert len(plot.alt_texts(cell.source)) == len(pictures) or not pictures, cell.source[:80]


@each_lesson
def test_exercises_are_asked_as_the_package_states_them(path):
    notebook = read(path)
    checks = check_cells(notebook)
    assert set(checks) == {e.function for e in exercises_of(path)}
    for exercise in exercises_of(path):
        nodes = ast.parse(exercise_cell(notebook, exercise).source).body
        (node,) = [n for n in nodes if getattr(n, "name", None) == exercise.function]
        asked = ast.unparse(node)
        assert own_words(asked) == own_words(reference_source(exercise)), exercise.name
        assert exercises.untouched(asked)
        assert "not attempted" in said(checks[exercise.function])
        assert diagnosis.section(exercise), "an exercise stands under a heading"


@each_lesson
def test_a_lesson_does_not_give_its_answers_away(path):
    """No exercise of this or a later lesson is shown, no long line of its body stands in a cell."""
    notebook = read(path)
    text = "\n".join(cell.source for cell in notebook.cells)
    known, shown = imported(notebook), set()
    for name in re.findall(r"^show\(([\w.]+)\)", text, re.M):
        module, *rest = name.split(".")
        shown.add(".".join([known[module], *rest]))
    for exercise in (e for e in exercises.exercises() if e.lesson >= path.stem):
        module = exercise.module.__name__
        assert not shown & {module, f"{module}.{exercise.function}"}
    text = text.replace('"', "'")
    for exercise in exercises_of(path):
        body = ast.parse(textwrap.dedent(reference_source(exercise))).body[0].body[1:]
        nodes = [n for part in body for n in ast.walk(part)]
        results = [ast.unparse(n) for n in nodes if isinstance(n, ast.Return | ast.Yield)]
        assert not [line for line in results if len(line) > 30 and line in text], exercise.name


# --- run ---


@pytest.mark.slow
@each_lesson
def test_untouched_it_runs_through(path, monkeypatch):
    """In fast mode, without a network, within its time."""
    monkeypatch.setenv("TINYDIFF_FAST", "1")
    notebook = read(path)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(OFFLINE))
    began = time.perf_counter()
    run(notebook, SECONDS)
    assert time.perf_counter() - began < SECONDS
    for name, cell in check_cells(notebook).items():
        assert "not attempted" in said(cell), name


@pytest.mark.slow
@each_lesson
def test_filled_in_rightly_it_runs_through(path, monkeypatch):
    monkeypatch.setenv("TINYDIFF_FAST", "1")
    notebook = read(path)
    if not exercises_of(path):
        pytest.skip("a lesson without exercises")
    for exercise in exercises_of(path):
        fill(notebook, exercise, reference_source(exercise))
    run(notebook, 2 * SECONDS)
    for name, cell in check_cells(notebook).items():
        assert ": passed" in said(cell), name


with_exercises = [path for path in LESSONS if exercises_of(path)]
each_with_exercises = pytest.mark.parametrize("path", with_exercises, ids=lambda p: p.stem)


@pytest.mark.slow
@each_with_exercises
def test_filled_in_each_check_says_what_it_should(path, monkeypatch):
    """Run only imports, exercises and checks: with a mutant in each, then with the reference."""
    monkeypatch.setenv("TINYDIFF_FAST", "1")
    notebook, expected = read(path), []
    imports = [cell for cell in code(notebook) if re.search(r"^(from|import) ", cell.source)]
    cells = [nbformat.from_dict(cell) for cell in imports if "def " not in cell.source]
    goes_on = {"tags": ["raises-exception"]}
    for exercise in exercises_of(path):
        old, new, sentence = exercise.mutants[0]
        right = reference_source(exercise)
        wrong = right.replace(old, new)
        for answer, words in ((wrong, sentence), (right, f"{exercise.name}: passed")):
            copied = nbformat.from_dict(notebook)
            fill(copied, exercise, answer)
            cells.append(nbformat.v4.new_code_cell(exercise_cell(copied, exercise).source))
            check = f"check({exercise.function})"
            cells.append(nbformat.v4.new_code_cell(check, metadata=goes_on))
            expected.append((check, words))
    ran = run(nbformat.v4.new_notebook(cells=cells), SECONDS).cells
    checks = [cell for cell in ran if cell.metadata.get("tags") == goes_on["tags"]]
    for cell, (check, words) in zip(checks, expected, strict=True):
        text = said(cell)
        unnamed = ": passed" not in words and ": failed" in text and "slip" not in text
        assert cell.source == check
        assert words in text or unnamed
        assert "WrongAnswer" not in text and "Traceback" not in text, "a verdict, not a traceback"


def test_the_hash_notices_changes():
    texts = "from tinydiff import diffusion", "show(diffusion.q_sample)"
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, texts)))
    before = fingerprint(notebook)
    assert fingerprint(notebook) == before
    notebook.cells[1].source = "show(diffusion.q_step)"
    assert fingerprint(notebook) != before
    assert ROOT == exercises.ROOT


@pytest.mark.parametrize("name", ["edit", "edit as drawing"])
def test_the_hash_follows_the_code_that_is_shown_of_a_wing(name, monkeypatch):
    texts = f"from tinydiff.design import {name}", f"show({name.split()[-1]}.slerp)"
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, texts)))
    before = fingerprint(notebook)
    monkeypatch.setattr(edit, "slerp", edit.tile)
    assert fingerprint(notebook) != before


# --- handed in ---


@each_lesson
def test_an_untouched_lesson_scores_nothing(path):
    found = submission.read(path)
    assert {result.verdict.state for result in worker.grade_all([found])} == {"not attempted"}
    assert {e.function for e in exercises_of(path)} <= found.places.keys() and not found.broken


@pytest.mark.slow
@each_with_exercises
def test_the_reference_handed_in_scores_everything(path, tmp_path):
    """Each exercise in a process of its own, where the package's function is out of reach."""
    notebook = read(path)
    for exercise in exercises_of(path):
        fill(notebook, exercise, reference_source(exercise))
    nbformat.write(notebook, tmp_path / "work.ipynb")
    results = worker.grade_all([submission.read(tmp_path / "work.ipynb")], exercises_of(path))
    states = [str(result.verdict).splitlines()[0] for result in results]
    assert states == [f"{e.name}: passed" for e in exercises_of(path)]
