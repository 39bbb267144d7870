"""What students get: everything but the answers, and a package that says of each exercise how far they are."""

import ast
import json
import os
import subprocess
import sys

import pytest

from lessons import run
from tinydiff.course import exercises, grade, handout

NUMBERS = {1, 2}
EXERCISES = [e for e in exercises.exercises() if int(e.lesson[:2]) in NUMBERS]


def nothing_known(exercise):
    return {"calls": {}, "sentences": []}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The handout of lessons 01 and 02; slips are named of one exercise only, which saves time."""
    folder, known = tmp_path_factory.mktemp("handout"), grade.known
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            grade, "known", lambda e: known(e) if e.function == "v_target" else nothing_known(e)
        )
        assert handout.write_tree(folder, NUMBERS) == EXERCISES
    return folder


def python(tree, *args):
    """Run Python with the tree's package in place of ours."""
    environment = os.environ | {"PYTHONPATH": str(tree), "MPLBACKEND": "agg"}
    return subprocess.run(
        [sys.executable, *args],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def board(tree, *args):
    """Run the tree's own tests -> dict of function name to its line"""
    done = python(tree, "-m", "pytest", *args)
    assert done.stderr == ""
    return {
        line.split()[0]: line.strip() for line in done.stdout.splitlines() if " / 1  " in line
    }, done.stdout


def source_of(exercise):
    """Cut a function out of our package -> its lines as text"""
    text = open(exercise.module.__file__, encoding="utf-8").read()
    node = next(n for n in ast.parse(text).body if getattr(n, "name", "") == exercise.function)
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno])


def with_imports(exercise):
    """Write an answer as a file of its own, with the names of the module that it needs -> str"""
    names = {
        n.id for n in ast.walk(ast.parse(source_of(exercise))) if isinstance(n, ast.Name)
    } & set(vars(exercise.module))
    return f"from {exercise.module.__name__} import {', '.join(sorted(names - {exercise.function}))}\n\n\n{source_of(exercise)}\n"


def written(tree, exercise, answer):
    """Write an answer into the tree's package, as a student would; give the file back as it was afterwards."""
    path = tree / os.path.relpath(exercise.module.__file__, exercises.ROOT)
    before = path.read_text(encoding="utf-8")
    stub = handout.blank(source_of(exercise) + "\n", {exercise.function})
    assert before.count(stub) == 1
    path.write_text(before.replace(stub, answer + "\n"), encoding="utf-8")
    return path, before


# --- cutting ---

MODULE = """import math
from wave import sine, cosine

SIZE = 3
ANSWER = 42


def helper(x):
    return x * SIZE


@mark
def right(x):
    return cosine(helper(x))


def wrong(x):
    return sine(ANSWER)
"""


def test_cut_keeps_what_is_needed_and_nothing_else():
    text, known = handout.cut(MODULE, {"right"})
    assert text.startswith("from wave import cosine\n")
    assert "SIZE = 3" in text and "def helper" in text and "@mark\ndef right" in text
    assert "sine(" not in text.replace("cosine", "") and "ANSWER" not in text and "math" not in text
    assert {"helper", "SIZE", "cosine"} <= known


def test_cut_keeps_fixtures_by_argument_by_string_and_changes_of_what_is_kept():
    text, _ = handout.cut(
        "A = {}\nA[1] = 2\ndef fix(): pass\ndef other(): pass\ndef t(fix): use('other', A)\ndef no(): pass",
        {"t"},
    )
    assert "A[1] = 2" in text and "def fix" in text and "def other" in text and "def no" not in text


def test_cut_keeps_the_fixtures_that_every_test_uses_also_imported_ones():
    """Tests name them nowhere: without them a mark such as parametrize("kernel_set", indirect=True) of another file finds nothing."""
    text, _ = handout.cut(
        "import gc\n@fixture(autouse=True)\ndef each(): gc.collect()\ndef t(): pass\ndef no(): pass",
        {"t"},
    )
    assert "def each" in text and "import gc" in text and "def no" not in text
    text, _ = handout.cut("from test_sample import kernel_set, rejects\ndef t(): pass", {"t"})
    assert "import kernel_set\n" in text


def test_blank_leaves_decorator_signature_and_docstring():
    source = '@op\ndef f(x,\n      y=1):\n    """Say."""\n    # a hint\n    return x\n\n\ndef g():\n    return 1\n'
    assert handout.blank(source, {"f"}) == (
        '@op\ndef f(x,\n      y=1):\n    """Say."""\n    raise NotImplementedError\n\n\ndef g():\n    return 1\n'
    )


# --- the tree ---


IN_A_ROW = 3  # lines of an answer that follow each other


def leaks(tree, exercises):
    """Search a tree for answers: a whole body in the package, a few lines of one in a row anywhere else."""
    for path in sorted(p for p in tree.rglob("*") if p.suffix not in (".npz", ".png")):
        if path.is_dir():
            continue
        text = path.read_text(encoding="utf-8")
        text = "".join(handout._strings(json.loads(text))) if path.suffix == ".ipynb" else text
        try:
            text = ast.unparse(ast.parse(text))
        except SyntaxError:
            pass
        text = handout._squeezed(text)
        for exercise in exercises:
            lines = handout.body_lines(exercise)
            package = path.is_relative_to(tree / "tinydiff")
            size = len(lines) if package else min(len(lines), IN_A_ROW)
            if lines and any(
                "".join(lines[k : k + size]) in text for k in range(len(lines) - size + 1)
            ):
                yield f"{exercise.name} in {path.relative_to(tree)}"


def test_the_answers_are_nowhere(tree):
    assert list(leaks(tree, EXERCISES)) == []
    assert not [
        p
        for p in tree.rglob("*")
        if p.suffix in (".pyc", ".nbi", ".nbc") or p.name in ("mutants", "__pycache__")
    ]


def test_the_search_for_leaks_finds_one(tree):
    exercise = exercises.find("posterior_weights")
    path = tree / "lessons" / "leak.md"
    path.write_text(source_of(exercise))
    found = list(leaks(tree, EXERCISES))
    path.unlink()
    assert found == ["diffusion.posterior_weights in lessons/leak.md"]
    path, before = written(tree, exercise, source_of(exercise))
    found = list(leaks(tree, EXERCISES))
    path.write_text(before)
    assert found == ["diffusion.posterior_weights in tinydiff/diffusion.py"]


def test_exactly_the_exercises_are_missing(tree):
    for path in sorted((tree / "tinydiff").rglob("*.py")):
        ours = ast.parse((exercises.ROOT / path.relative_to(tree)).read_text(encoding="utf-8"))
        theirs = ast.parse(path.read_text(encoding="utf-8"))
        changed = {
            a.name
            for a, b in zip(ours.body, theirs.body, strict=True)
            if ast.dump(a) != ast.dump(b)
        }
        assert changed == {
            e.function
            for e in EXERCISES
            if os.path.samefile(e.module.__file__, exercises.ROOT / path.relative_to(tree))
        }


def test_its_own_tests_say_not_attempted(tree):
    lines, _ = board(tree)
    assert set(lines) == {e.function for e in EXERCISES}
    assert all("- / 1  not attempted" in line for line in lines.values())


def test_a_right_answer_in_the_package_passes_and_a_wrong_one_is_named(tree):
    exercise = exercises.find("v_target")
    old, new, sentence = exercise.mutants[0]
    path, before = written(tree, exercise, source_of(exercise))
    try:
        right, _ = board(tree)
        path.write_text(
            path.read_text().replace(source_of(exercise), source_of(exercise).replace(old, new))
        )
        wrong, said = board(tree)
    finally:
        path.write_text(before)
    assert "1 / 1  passed" in right.pop("v_target") and all(
        "not attempted" in line for line in right.values()
    )
    assert "0 / 1  failed" in wrong.pop("v_target") and all(
        "not attempted" in line for line in wrong.values()
    )
    assert sentence in said.replace("\n               ", " ")


def test_a_file_is_graded_there_too(tree, tmp_path):
    work = tmp_path / "work.py"
    work.write_text(with_imports(exercises.find("q_sample")))
    lines, _ = board(tree, "--grade", str(work))
    assert "1 / 1  passed" in lines["q_sample"]


def test_what_is_missing_is_named_where_a_test_needs_it(tmp_path, monkeypatch):
    """The tests of ddim ask exact.gaussian, an exercise of the same lesson."""
    monkeypatch.setattr(grade, "known", nothing_known)
    handout.write_tree(tmp_path, {3})
    work = tmp_path / "work.py"
    work.write_text(with_imports(exercises.find("ddim")))
    alone, said = board(tmp_path, "--grade", str(work))
    assert (
        "? / 1  cannot be graded" in alone["ddim"]
        and "exact.gaussian, an exercise of lesson 03_reverse that is not written yet" in said
    )
    work.write_text(with_imports(exercises.find("gaussian")) + with_imports(exercises.find("ddim")))
    both, _ = board(tmp_path, "--grade", str(work))
    assert "1 / 1  passed" in both["ddim"] and "1 / 1  passed" in both["gaussian"]


def test_a_broken_cell_costs_only_its_own(tree, tmp_path):
    """The grader of a student's tree puts all answers in place: one that cannot be read, or not be built, is left out."""
    work = tmp_path / "work.ipynb"
    cells = [
        "def v_target(s:\n    pass",
        "import no_such_module\ndef q_step(s, x, t, eps):\n    return no_such_module.x",
    ]
    cells.append(with_imports(exercises.find("q_sample")))
    cells = [{"cell_type": "code", "source": text, "metadata": {}, "outputs": []} for text in cells]
    work.write_text(json.dumps({"cells": cells, "nbformat": 4}))
    lines, _ = board(tree, "--grade", str(work))
    assert (
        "passed" in lines["q_sample"]
        and "failed" in lines["v_target"]
        and "failed" in lines["q_step"]
    )


def test_what_an_instructor_solved_to_try_is_not_handed_out():
    exercise = exercises.find("q_sample")
    cell = {"cell_type": "code", "source": [with_imports(exercise)], "metadata": {}, "outputs": []}
    (given,) = handout.student_notebook({"cells": [cell]}, [exercise], [])["cells"]
    assert "signal * x0" not in "".join(given["source"]) and "raise NotImplementedError" in "".join(
        given["source"]
    )


def test_copies_of_lessons_are_no_lessons(monkeypatch, tmp_path):
    (tmp_path / "lessons").mkdir()
    for name in ("00_first_pictures", "01_forward", "01_forward-Copy1", "01_forward_solved"):
        (tmp_path / "lessons" / f"{name}.ipynb").write_text("{}")
    monkeypatch.setattr(handout, "ROOT", tmp_path)
    assert [path.stem for path in handout.lesson_files({0, 1})] == [
        "00_first_pictures",
        "01_forward",
    ]


# --- in a notebook ---


@pytest.mark.slow
def test_a_lesson_runs_through_unsolved_and_goes_on_with_the_students_own(tree, monkeypatch):
    """A cell that needs a missing function says which in one line; once `check` has passed, the same cell runs."""
    import nbformat

    monkeypatch.setenv("TINYDIFF_FAST", "1")
    monkeypatch.setattr("lessons.ROOT", tree)
    monkeypatch.setattr("lessons.LESSONS", tree / "lessons")
    notebook = nbformat.read(tree / "lessons" / "01_forward.ipynb", as_version=4)
    solved = nbformat.from_dict(notebook)
    run(notebook, 120)
    said = json.dumps([cell.get("outputs") for cell in notebook.cells])
    assert (
        "This cell needs schedule.cosine, an exercise of lesson 01_forward that is not written yet"
        in said
    )
    assert (
        "name 's' is not defined. Perhaps a cell above makes it" in said
        and '"traceback"' not in said
    )
    for exercise in (e for e in EXERCISES if e.lesson == "01_forward"):
        for cell in solved.cells:
            if cell.cell_type == "code" and f"def {exercise.function}(" in cell.source:
                cell.source = with_imports(exercise)
    sources = [cell.source for cell in solved.cells if cell.cell_type == "code"]
    goes_on = {"tags": ["raises-exception"]}
    twice = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(source, metadata=goes_on) for source in [*sources, *sources]
        ]
    )
    run(twice, 240)
    said = json.dumps([cell.get("outputs") for cell in twice.cells[len(sources) :]])
    assert (
        all(f"{e.name}: passed" in said for e in EXERCISES if e.lesson == "01_forward")
        and "not written yet" not in said
    )


@pytest.mark.slow
def test_the_answers_of_the_whole_course_are_nowhere(tmp_path, monkeypatch):
    monkeypatch.setattr(grade, "known", nothing_known)
    exercises = handout.write_tree(tmp_path)
    assert exercises == list(exercises.exercises())
    assert list(leaks(tmp_path, exercises)) == []
    lines, _ = board(tmp_path)
    assert set(lines) == {e.function for e in exercises} and all(
        "not attempted" in line for line in lines.values()
    )


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [{12}, {9, 10, 11, 12, 13}, None], ids=["12", "9-13", "all"])
def test_a_handout_with_the_right_files_in_place_gets_every_point(tmp_path, monkeypatch, numbers):
    """Its own tests must be complete: they are cut out of ours, and a lost import or fixture would leave an exercise without a point."""
    monkeypatch.setattr(grade, "known", nothing_known)
    exercises = handout.write_tree(tmp_path, numbers)
    for exercise in exercises:
        path = tmp_path / os.path.relpath(exercise.module.__file__, exercises.ROOT)
        path.write_text(open(exercise.module.__file__, encoding="utf-8").read(), encoding="utf-8")
    lines, said = board(tmp_path)
    assert set(lines) == {e.function for e in exercises}
    assert [line for line in lines.values() if "1 / 1  passed" not in line] == [], said
