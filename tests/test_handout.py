"""What students get: everything but the answers, and a package that says how far they are."""

import ast
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from dataclasses import replace
from types import SimpleNamespace

import pytest

import tinydiff.grade
from lessons import run
from tinydiff.app import cli
from tinydiff.course import exercises, grade, handout, judge, worker

NUMBERS = {1, 2}
EXERCISES = [e for e in exercises.exercises() if int(e.lesson[:2]) in NUMBERS]


def nothing_known(exercise):
    return {"calls": {}, "sentences": []}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Write the handout of lessons 01 and 02, in which the slips of one exercise only are named."""
    folder, known = tmp_path_factory.mktemp("handout"), grade.known
    of_one = lambda e: known(e) if e.function == "v_target" else nothing_known(e)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grade, "known", of_one)
        assert handout.write_tree(folder, NUMBERS) == EXERCISES
    return folder


def python(tree, *args, cwd=None):
    """Run Python, in the tree, with its package in place of ours."""
    environment = os.environ | {"PYTHONPATH": str(tree), "MPLBACKEND": "agg"}
    caught = {"capture_output": True, "text": True, "timeout": 300}
    return subprocess.run([sys.executable, *args], cwd=cwd or tree, env=environment, **caught)


def board(tree, *args):
    """Run the tree's own tests -> dict of function name to its line, all that was printed"""
    done = python(tree, "-m", "pytest", *args)
    assert done.stderr == ""
    lines = [line.strip() for line in done.stdout.splitlines() if " / 1  " in line]
    return {line.split()[0]: line for line in lines}, done.stdout


def source_of(exercise):
    """Cut a function out of our package -> its lines as text"""
    text = exercise.file.read_text(encoding="utf-8")
    node = next(n for n in ast.parse(text).body if getattr(n, "name", "") == exercise.function)
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno])


def with_imports(exercise):
    """Write an answer as a file of its own, with the names of the module that it needs -> str"""
    source, module = source_of(exercise), exercise.module
    names = {n.id for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Name)}
    used = ", ".join(sorted(names & set(vars(module)) - {exercise.function}))
    imports = f"from {module.__name__} import {used}\n\n\n" if used else ""
    return f"{imports}{source}\n"


def written(tree, exercise, answer):
    """Write an answer into the tree's package, as a student would -> its file, its old text"""
    path = tree / exercise.place
    before = path.read_text(encoding="utf-8")
    body = lambda name: handout._stub(exercise)
    stub = handout.blank(source_of(exercise) + "\n", {exercise.function}, body)
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
    assert not [word for word in (" sine(", "ANSWER", "math") if word in text]
    assert {"helper", "SIZE", "cosine"} <= known


FIXTURES = """A = {}
A[1] = 2
def fix(): pass
def other(): pass
def t(fix): use('other', A)
def no(): pass"""
AUTOUSE = """import gc
@fixture(autouse=True)
def each(): gc.collect()
def t(): pass
def no(): pass"""


def test_cut_keeps_fixtures_by_argument_by_string_and_changes_of_what_is_kept():
    text, _ = handout.cut(FIXTURES, {"t"})
    assert "A[1] = 2" in text and "def fix" in text and "def other" in text and "def no" not in text


def test_cut_keeps_the_fixtures_that_every_test_uses_also_imported_ones():
    """Tests do not name them: without them another file's parametrize(.., indirect=True) fails."""
    text, _ = handout.cut(AUTOUSE, {"t"})
    assert "def each" in text and "import gc" in text and "def no" not in text
    text, _ = handout.cut("from test_sample import kernel_set, rejects\ndef t(): pass", {"t"})
    assert "import kernel_set\n" in text


def test_blank_leaves_decorator_signature_and_docstring():
    head, rest = '@op\ndef f(x,\n      y=1):\n    """Say."""\n', "\n\ndef g():\n    return 1\n"
    blanked = handout.blank(f"{head}    # a hint\n    return x\n{rest}", {"f"})
    assert blanked == f"{head}    raise NotImplementedError\n{rest}"


# --- the tree ---


def leaks(tree, missing):
    """Search a tree for answers: in the package a whole body, elsewhere a few lines in a row.

    tree: Path; missing: Exercises -> yields str
    """
    for path in sorted(p for p in tree.rglob("*") if p.suffix not in (".npz", ".png")):
        if path.is_dir():
            continue
        text = path.read_text(encoding="utf-8")
        text = "".join(handout._strings(json.loads(text))) if path.suffix == ".ipynb" else text
        try:
            text = ast.unparse(ast.parse(text))
        except SyntaxError:
            pass
        in_package = path.is_relative_to(tree / "tinydiff")
        for exercise in missing:
            lines = handout.body_lines(exercise)
            whole = bool(lines) and "".join(lines) in handout._squeezed(text)
            if whole if in_package else handout.gives_away(text, exercise):
                yield f"{exercise.name} in {path.relative_to(tree)}"


def test_the_answers_are_nowhere(tree):
    assert list(leaks(tree, EXERCISES)) == []
    paths = list(tree.rglob("*"))
    assert not {p.suffix for p in paths} & {".pyc", ".nbi", ".nbc"}
    assert not {p.name for p in paths} & {"mutants", "__pycache__"}


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
        source = exercises.ROOT / path.relative_to(tree)
        ours, theirs = (ast.parse(p.read_text(encoding="utf-8")).body for p in (source, path))
        pairs = zip(ours, theirs, strict=True)
        changed = [a for a, b in pairs if ast.dump(a) != ast.dump(b)]
        names = {a.name if hasattr(a, "name") else ast.unparse(a) for a in changed}
        expected = {e.function for e in EXERCISES if e.file == source}
        if path == tree / "tinydiff/kernels/__init__.py":  # whose answers are to be what runs
            expected = {"together = True"}
        assert names == expected


def test_a_stub_says_which_exercise_is_missing_also_to_a_command(tree, tmp_path):
    """Lesson 01 asks for `cosine`, without which nothing can be drawn."""
    command = [sys.executable, "-m", "tinydiff", "sample", "digits", "--out", tmp_path / "a.png"]
    done = subprocess.run(
        command,
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
    )
    says = "schedule.cosine is an exercise of lesson 01: write it into tinydiff/schedule.py"
    assert (done.returncode, done.stderr) == (2, f"tinydiff: {says}\n")


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    def full(folder, *_):
        (folder / "some").write_text("x")
        raise shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'"), ("c", "d", "")])

    monkeypatch.setattr(handout, "write_tree", full)
    assert cli.main(["handout", str(tmp_path / "h"), "--lessons", "1"]) == 2
    line = f"tinydiff: {tmp_path / 'h'} could not be written: [Errno 28] No space left on device"
    assert capsys.readouterr().err.startswith(line) and list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_stays_the_same_one(tmp_path, monkeypatch):
    """A shell may stand in it."""
    monkeypatch.setattr(handout, "write_tree", lambda folder, *_: (folder / "some").write_text("x"))
    before = tmp_path.stat().st_ino
    assert cli.main(["handout", str(tmp_path), "--lessons", "1"]) == 0
    assert tmp_path.stat().st_ino == before and [p.name for p in tmp_path.iterdir()] == ["some"]


def test_its_own_tests_say_not_attempted(tree):
    lines, _ = board(tree)
    assert set(lines) == {e.function for e in EXERCISES}
    assert all("- / 1  not attempted" in line for line in lines.values())


def test_a_right_answer_in_the_package_passes_and_a_wrong_one_is_named(tree):
    exercise = exercises.find("v_target")
    old, new, sentence = exercise.mutants[0]
    source = source_of(exercise)
    path, before = written(tree, exercise, source)
    try:
        right, _ = board(tree)
        path.write_text(path.read_text().replace(source, source.replace(old, new)))
        wrong, said = board(tree)
    finally:
        path.write_text(before)
    assert "1 / 1  passed" in right.pop("v_target")
    assert "0 / 1  failed" in wrong.pop("v_target")
    assert all("not attempted" in line for line in [*right.values(), *wrong.values()])
    assert sentence in said.replace("\n               ", " ")


def test_a_file_is_graded_there_too(tree, tmp_path):
    work = tmp_path / "work.py"
    work.write_text(with_imports(exercises.find("q_sample")))
    lines, _ = board(tree, "--grade", str(work))
    assert "1 / 1  passed" in lines["q_sample"]


def test_its_readme_says_what_to_hand_in(tree):
    text = (tree / "README.md").read_text(encoding="utf-8")
    assert "Hand in: the notebooks in `lessons/`" in text
    assert "only in `tinydiff/` are not graded" in text


def test_a_wrong_answer_does_not_make_a_right_one_wrong(tree, tmp_path):
    """The tests of `q_posterior` call `posterior_weights`, and the package's own is not there."""
    right = "\n\n\n".join(source_of(exercises.find(name)) for name in ("predict_x0", "q_posterior"))
    weights = source_of(exercises.find("posterior_weights"))
    upside_down = weights.replace("return c0, ct", "return ct, c0")
    assert upside_down != weights
    (tmp_path / "a.py").write_text(f"{IMPORTS}{right}\n\n\n{upside_down}\n", encoding="utf-8")
    lines, said = board(tree, "--grade", str(tmp_path / "a.py"))
    assert "0 / 1  failed" in lines["posterior_weights"] and "passed" in lines["predict_x0"]
    assert "? / 1  cannot be graded" in lines["q_posterior"]
    assert "its tests need diffusion.posterior_weights, which is not right yet" in said
    (tmp_path / "a.py").write_text(f"{IMPORTS}{right}\n\n\n{weights}\n", encoding="utf-8")
    lines, _ = board(tree, "--grade", str(tmp_path / "a.py"))
    assert "passed" in lines["q_posterior"] and "passed" in lines["posterior_weights"]


IMPORTS = (
    "import numpy as np\n\nfrom tinydiff.diffusion import *\nfrom tinydiff.diffusion import at\n\n"
)


def test_several_files_and_folders_are_graded_together(tree, tmp_path):
    """However the option is given; an answer may need one from another file."""
    first, second = tmp_path / "a.py", tmp_path / "b.py"
    first.write_text(with_imports(exercises.find("q_sample")))
    second.write_text(with_imports(exercises.find("v_target")))
    names = str(first), str(second)
    for words in (names, (names[0], "--grade", names[1]), (str(tmp_path),)):
        lines, said = board(tree, "--grade", *words)
        assert "1 / 1  passed" in lines["q_sample"] and "1 / 1  passed" in lines["v_target"]
        assert said.count("graded: ") == 2
    (tmp_path / "empty").mkdir()
    done = python(tree, "-m", "pytest", "--grade", str(tmp_path / "empty"))
    line = f"{tmp_path / 'empty'} holds no notebook and no .py\n"
    assert (done.returncode, done.stderr) == (2, line)


def test_a_careless_look_spoils_nothing(tree):
    """Slips, and what they give, are hidden: tests/handout.json is a file that one opens.

    Neither the text itself, nor what Base64 and zlib make of it, holds a word or a number of them.
    """
    text = (tree / "tests" / exercises.HANDOUT).read_text(encoding="utf-8")
    listed = {e["name"]: e for e in json.loads(text)}
    assert set(listed["diffusion.v_target"]) == {"name", "lesson", "tests", "known"}
    known = exercises.unpacked(listed["diffusion.v_target"]["known"])
    sentences = known["sentences"]
    assert sentences == [sentence for *_, sentence in exercises.find("v_target").mutants]
    bare = base64.b64decode(listed["diffusion.v_target"]["known"])
    with pytest.raises(zlib.error):
        zlib.decompress(bare)
    for seen in (text, bare.decode("latin-1")):
        assert not [sentence for sentence in sentences if sentence[:20] in seen]
        assert not [key for key in known["calls"] if key in seen]


# --- pytest's environment ---

ADDED = ["--color=yes -q -k nothing", "--no-such-option", "-m cuda", "-W error"]


@pytest.mark.parametrize("words", ADDED)
def test_what_the_environment_adds_to_pytest_is_left_out(words, monkeypatch):
    """Each of these once made a poor handout without a word, and every answer ungraded."""
    exercise = exercises.find("q_sample")
    plain = handout.graders([exercise])
    assert "def test_the_package" in plain["test_diffusion.py"]
    monkeypatch.setenv("PYTEST_ADDOPTS", words)
    monkeypatch.setenv("PYTEST_PLUGINS", "no_such_plugin")
    assert handout.graders([exercise]) == plain
    (verdict,) = judge.run_tests(exercise, [exercises.original(exercise)])
    assert verdict.state == "passed"
    assert os.environ["PYTEST_ADDOPTS"] == words, "it is there for others"


def test_a_handout_without_its_tests_is_an_error(monkeypatch, tmp_path):
    exercise = exercises.find("q_sample")
    empty = replace(exercise, tests=tmp_path / "test_empty.py")
    for text in ("def test_nothing():\n    pass\n", "def test_nothing(:\n"):
        empty.tests.write_text(text)
        with pytest.raises(FileNotFoundError, match="no test in .* grades diffusion.q_sample"):
            handout.graders([empty])
        with pytest.raises(FileNotFoundError, match="diffusion.q_sample: .*test_empty.py"):
            judge.note_calls(empty)
    none = replace(exercise, name="diffusion.no_such", tests=exercise.tests)
    with pytest.raises(FileNotFoundError, match="grades diffusion.no_such"):
        handout.graders([exercise, none])


STRIPS = """
from tinydiff.course import drawn, exercises, grade

def q_sample(s, x0, t, eps):
    return x0

grade._in_notebook = lambda: True
grade._display = lambda verdict: print(*[caption for caption, png in verdict.drawn if png])
grade.check(q_sample)
exercise = exercises.find("q_sample")
print(drawn.right(exercise) == "", drawn.draws(exercise))
"""


def test_a_wrong_strip_is_shown_beside_a_picture_of_the_right_one(tree, tmp_path):
    """Which the student's tree cannot draw; the record of what passed lies beside the notebook."""
    done = python(tree, "-c", STRIPS, cwd=tmp_path)
    what = "a portrait at t = 1, 20, 40, 60, 80, 100 of 100"
    assert done.stderr == ""
    assert done.stdout == f"yours: {what} as it should be: {what}\nTrue True\n"
    assert [path.name for path in tmp_path.iterdir()] == [".tinydiff_progress.json"]


def test_what_is_missing_is_named_where_a_test_needs_it(tmp_path, monkeypatch):
    """The tests of ddim need exact.gaussian, an exercise of the same lesson."""
    monkeypatch.setattr(grade, "known", nothing_known)
    handout.write_tree(tmp_path, {3})
    work = tmp_path / "work.py"
    gaussian, ddim = (with_imports(exercises.find(name)) for name in ("gaussian", "ddim"))
    work.write_text(ddim)
    alone, said = board(tmp_path, "--grade", str(work))
    assert "? / 1  cannot be graded" in alone["ddim"]
    assert "exact.gaussian, an exercise of lesson 03_reverse that is not written yet" in said
    work.write_text(gaussian + ddim)
    both, _ = board(tmp_path, "--grade", str(work))
    assert "1 / 1  passed" in both["ddim"] and "1 / 1  passed" in both["gaussian"]
    other = tmp_path / "other.py"
    other.write_text(gaussian)
    work.write_text(ddim)
    apart, _ = board(tmp_path, "--grade", str(other), str(work))
    assert "1 / 1  passed" in apart["ddim"]


def test_a_broken_cell_costs_only_its_own(tree, tmp_path):
    """A student's tree puts all answers in place: one that cannot be read or built is left out."""
    work = tmp_path / "work.ipynb"
    broken = "def v_target(s:\n    pass"
    not_built = "import no_such_module\ndef q_step(s, x, t, eps):\n    return no_such_module.x"
    texts = [broken, not_built, with_imports(exercises.find("q_sample"))]
    work.write_text(json.dumps({"cells": list(map(code_cell, texts)), "nbformat": 4}))
    lines, _ = board(tree, "--grade", str(work))
    assert "passed" in lines["q_sample"]
    assert "failed" in lines["v_target"] and "failed" in lines["q_step"]


def code_cell(text):
    return {"cell_type": "code", "source": text, "metadata": {}, "outputs": []}


def test_what_an_instructor_solved_to_try_is_not_handed_out():
    exercise = exercises.find("q_sample")
    cell = code_cell([with_imports(exercise)])
    (given,) = handout.student_notebook({"cells": [cell]}, [exercise])["cells"]
    text = "".join(given["source"])
    assert "signal * x0" not in text and "raise NotImplementedError" in text


def test_only_outputs_that_give_an_answer_away_are_dropped():
    """A line that other functions have, too, is no answer: most outputs stay as they were."""
    exercise = exercises.find("q_sample")
    lines = source_of(exercise).splitlines()
    texts = lines[-2], "\n".join(lines[-2:])  # signal, noise = ...; return ...
    cells = [code_cell("show(x)") | {"outputs": [{"text": text}]} for text in texts]
    kept, dropped = handout.student_notebook({"cells": cells}, [exercise])["cells"]
    assert kept["outputs"] == [{"text": lines[-2]}] and dropped["outputs"] == []


def test_a_lesson_leads_to_what_is_in_the_folder_and_says_what_has_to_come_first(tree):
    names = {path.name for path in (tree / "lessons").iterdir()}
    for path in (tree / "lessons").glob("*.ipynb"):
        text = "\n".join("".join(c["source"]) for c in texts_of(path))
        assert set(re.findall(r"\]\(([\w.]+\.(?:ipynb|md))", text)) <= names, path.name
        assert "Contents" not in text and handout.SHELL in text
    first, second = (texts_of(tree / "lessons" / f"{n}.ipynb")[0] for n in TWO)
    assert "Before you begin" not in "".join(first["source"])
    asked = "`q_step`, `q_sample` (`tinydiff/diffusion.py`)"
    assert asked in "".join(second["source"]) and "hunt_" not in "".join(second["source"])


TWO = "01_forward", "02_posterior"


def texts_of(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "markdown"]


def test_a_lesson_without_exercises_explains_what_is_missing_too():
    first, second = code_cell(["a = 1\n", "b = 2"]), code_cell("from tinydiff.grade import show")
    (alone,) = handout.student_notebook({"cells": [dict(first, metadata={})]}, [])["cells"]
    assert "".join(alone["source"]).startswith("import tinydiff.grade  # says in one line")
    kept, _ = handout.student_notebook({"cells": [first, second]}, [])["cells"]
    assert kept["source"] == ["a = 1\n", "b = 2"]


def test_copies_of_lessons_are_not_lessons(monkeypatch, tmp_path):
    (tmp_path / "lessons").mkdir()
    lessons = ["00_first_pictures", "01_forward"]
    for name in (*lessons, "01_forward-Copy1", "01_forward_solved"):
        (tmp_path / "lessons" / f"{name}.ipynb").write_text("{}")
    monkeypatch.setattr(handout, "ROOT", tmp_path)
    assert [path.stem for path in handout.lesson_files({0, 1})] == lessons


# --- other projects ---


def test_other_projects_keep_their_own_tests(tree, tmp_path):
    """Once a handout is installed, as its README says, pytest loads its plugin in every project."""
    mine = "import sys\n\ndef test_mine():\n    assert 'tinydiff.course.plugin' in sys.modules\n"
    (tmp_path / "test_mine.py").write_text(mine + "    assert 'numpy' not in sys.modules\n")
    done = python(tree, "-m", "pytest", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 passed" in done.stdout and "graded: " not in done.stdout


@pytest.mark.parametrize(
    "words, where, own",
    [
        ("", "lessons", True),
        ("", "tinydiff/course", True),
        ("-q", "", False),
        ("{other}", "", False),
        ("", "{other}", False),
        ("-q", "{other}", False),
        ("", "{other}/sub", False),
        ("--rootdir {tree}", "{other}", False),
        ("-c {tree}/pyproject.toml sub", "{other}", False),
        ("-c {other}/pytest.ini {other}", "lessons", False),
    ],
)
def test_only_in_the_tree_without_arguments_pytest_says_how_far_they_are(
    tree, tmp_path, words, where, own
):
    """Elsewhere, and for whoever asks for something else, it runs the tests that it is told to."""
    (tmp_path / "sub").mkdir()
    for folder in (tmp_path, tmp_path / "sub"):
        (folder / f"test_{folder.name}.py").write_text("def test_mine():\n    pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    words, where = (text.format(tree=tree, other=tmp_path) for text in (words, where))
    done = python(tree, "-m", "pytest", "--co", *words.split(), cwd=tree / where)
    if not own:
        assert "graded: " not in done.stdout and "collected" in done.stdout
        return
    done = python(tree, "-m", "pytest", cwd=tree / where)
    assert "graded: " in done.stdout and f"points: 0 of {len(EXERCISES)}" in done.stdout


# --- in a notebook ---


def test_a_required_answer_is_graded_by_the_cells_run_so_far(monkeypatch, tmp_path):
    """As `grade` does it, in a process of its own; nbgrader's kernel may have no way back."""
    exercise, asked = exercises.find("q_sample"), []

    def grade_one(submissions, exercise, beside):
        asked.append((submissions, exercise, beside))
        return SimpleNamespace(verdict=SimpleNamespace(state="failed"))

    monkeypatch.setattr(worker, "grade_one", grade_one)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keep.py").write_text("x = 1")
    cells = ["", "HALF = 1 / 2", with_imports(exercise), "check(q_sample, required=True)"]
    shell = SimpleNamespace(kernel="any", history_manager=SimpleNamespace(input_hist_raw=cells))
    monkeypatch.setattr(grade, "_shell", lambda: shell)
    monkeypatch.setattr(grade, "_in_notebook", lambda: True)
    scope = {}
    exec(with_imports(exercise), scope)
    with pytest.raises(grade.WrongAnswer):
        tinydiff.grade.check(scope["q_sample"], required=True)
    ((submission,), _, beside) = asked.pop()
    assert beside == {"keep.py": b"x = 1"}
    assert submission.attempts("q_sample") and "HALF = 1 / 2" in str(submission.cells)
    assert submission.place("q_sample") == "In.ipynb cell 2"


@pytest.mark.slow
def test_a_lesson_runs_through_unsolved_and_goes_on_with_the_students_own(tree, monkeypatch):
    """A cell that needs a missing function says so in a line; once `check` has passed, it runs."""
    import nbformat

    monkeypatch.setenv("TINYDIFF_FAST", "1")
    monkeypatch.setattr("lessons.ROOT", tree)
    monkeypatch.setattr("lessons.LESSONS", tree / "lessons")
    notebook = nbformat.read(tree / "lessons" / "01_forward.ipynb", as_version=4)
    solved = nbformat.from_dict(notebook)
    run(notebook, 120)
    said = json.dumps([cell.get("outputs") for cell in notebook.cells])
    needs = "This cell needs schedule.cosine, an exercise of lesson 01_forward that is not written"
    assert needs in said and '"traceback"' not in said
    place = r"\(line \d+ of cell In\[\d+\]\)"
    assert re.search(rf"name 's' is not defined {place}\. Perhaps a cell above, In", said)
    for exercise in (e for e in EXERCISES if e.lesson == "01_forward"):
        for cell in solved.cells:
            if cell.cell_type == "code" and f"def {exercise.function}(" in cell.source:
                cell.source = with_imports(exercise)
    sources = [cell.source for cell in solved.cells if cell.cell_type == "code"]
    goes_on = {"tags": ["raises-exception"]}
    cells = [nbformat.v4.new_code_cell(text, metadata=goes_on) for text in [*sources, *sources]]
    twice = run(nbformat.v4.new_notebook(cells=cells), 240)
    said = json.dumps([cell.get("outputs") for cell in twice.cells[len(sources) :]])
    assert all(f"{e.name}: passed" in said for e in EXERCISES if e.lesson == "01_forward")
    assert "not written yet" not in said


@pytest.mark.slow
def test_the_answers_of_the_whole_course_are_nowhere(tmp_path, monkeypatch):
    monkeypatch.setattr(grade, "known", nothing_known)
    missing = handout.write_tree(tmp_path)
    assert missing == list(exercises.exercises())
    assert list(leaks(tmp_path, missing)) == []
    lines, _ = board(tmp_path)
    assert set(lines) == {e.function for e in missing}
    assert all("not attempted" in line for line in lines.values())


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [{12}, {9, 10, 11, 12, 13}, None], ids=["12", "9-13", "all"])
def test_a_handout_with_the_right_files_in_place_gets_every_point(tmp_path, monkeypatch, numbers):
    """Its tests are cut out of ours: a lost import or fixture would cost an exercise its point."""
    monkeypatch.setattr(grade, "known", nothing_known)
    missing = handout.write_tree(tmp_path, numbers)
    for exercise in missing:
        shutil.copy(exercise.file, tmp_path / exercise.place)
    lines, said = board(tmp_path)
    assert set(lines) == {e.function for e in missing}
    assert [line for line in lines.values() if "1 / 1  passed" not in line] == [], said
