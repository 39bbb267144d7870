"""A class graded: who handed in what, one row per student, feedback for each of them."""

import csv
import importlib.util
import json
import shutil
import subprocess
import sys
import time

import pytest
from test_handout import source_of, with_imports

from tinydiff.__main__ import main
from tinydiff.app import cmd_teach
from tinydiff.app.usage import UsageError
from tinydiff.course import classroom, exercises, handout, judge
from tinydiff.course.submission import Unreadable, read
from tinydiff.course.worker import Result

Q_SAMPLE = exercises.find("q_sample")
SLIP = "you scaled the noise by 1 - alpha_bar; its square root is the standard deviation"
RIGHT = with_imports(Q_SAMPLE)
WRONG = RIGHT.replace("noise * eps", "noise**2 * eps")
UNTOUCHED = "def q_sample(s, x0, t, eps):\n    raise NotImplementedError\n"
OF_LESSON_01 = str(len([e for e in exercises.exercises() if e.lesson == "01_forward"]))


def notebook(*cells):
    """Write cells of code as a notebook: -> str"""
    empty = {"cell_type": "code", "metadata": {}, "outputs": []}
    return json.dumps({"cells": [empty | {"source": text} for text in cells], "nbformat": 4})


def rows_of(path):
    return {row["student"]: row for row in csv.DictReader(path.open(encoding="utf-8-sig"))}


# --- who handed in what ---


def test_files_and_folders_are_students(tmp_path):
    files = ("ada.ipynb", "bob/01_forward.ipynb", "bob/deep/02.py", "bob.py", "cy.txt")
    for name in (*files, ".hidden/x.py", "bob/.ipynb_checkpoints/01.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    found = classroom.students(tmp_path)
    names = {name: [str(p.relative_to(tmp_path)) for p in paths] for name, paths in found.items()}
    of_bob = ["bob/01_forward.ipynb", "bob/deep/02.py", "bob.py"]
    assert names == {"ada": ["ada.ipynb"], "bob": of_bob}


@pytest.mark.parametrize(
    "text, want", [("1-3", {1, 2, 3}), ("4", {4}), ("1,3-4", {1, 3, 4}), (None, None)]
)
def test_lessons_in_words(text, want):
    assert cmd_teach.chosen_lessons(text) == want


@pytest.mark.parametrize("text", ["", "a", "1-", "1..3", "-1", "1,,2", "1-999999999"])
def test_other_words_are_refused(text):
    with pytest.raises(UsageError, match="--lessons takes numbers and ranges"):
        cmd_teach.chosen_lessons(text)


# --- a small class ---


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Grade a small class -> folder, what was printed

    Right; wrong; in two files, first wrong, then right; untouched; one file broken; no file.
    """
    folder = tmp_path_factory.mktemp("class")
    handed_in = folder / "in"
    (handed_in / "cy").mkdir(parents=True)
    (handed_in / "ada.ipynb").write_text(notebook("x = 1", RIGHT))
    (handed_in / "bob.py").write_text(WRONG)
    (handed_in / "cy" / "1.ipynb").write_text(notebook(WRONG))
    (handed_in / "cy" / "2.ipynb").write_text(notebook(RIGHT))
    (handed_in / "cy" / "3.ipynb").write_text(notebook(UNTOUCHED))
    (handed_in / "dee.ipynb").write_text(notebook(UNTOUCHED, "def other(:\n    pass"))
    (handed_in / "eve.ipynb").write_text('{"cells": [')
    (handed_in / "fay").mkdir()
    (handed_in / "fay" / "work.zip").write_bytes(b"PK")
    words = "-m tinydiff grade in --out results/grades.csv --lessons 1".split()
    command = [sys.executable, *words]
    return folder, subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=170)


def test_one_row_per_student(small):
    folder, done = small
    rows = rows_of(folder / "results" / "grades.csv")
    assert done.returncode == 0 and list(rows) == ["ada", "bob", "cy", "dee", "eve", "fay"]
    assert [row["points"] for row in rows.values()] == list("101000")
    assert [row["01_forward"] for row in rows.values()] == list("101000")
    assert [row["of"] for row in rows.values()] == [OF_LESSON_01] * 6
    assert [row["diffusion.q_sample"] for row in rows.values()] == ["1", "0", "1", "", "", ""]
    assert [row["schedule.linear"] for row in rows.values()] == [""] * 6
    problems = {name: row["problems"] for name, row in rows.items() if row["problems"]}
    assert set(problems) == {"dee", "eve", "fay"}
    assert "dee.ipynb cell 2, line 1: SyntaxError" in problems["dee"]
    assert "is not a notebook (not valid JSON)" in problems["eve"]
    assert problems["fay"] == "no notebook and no .py"
    assert not list((folder / "results").glob("*.part"))


def test_feedback_for_each(small):
    folder, _ = small
    files = (folder / "results" / "grades_feedback").iterdir()
    said = {path.stem: path.read_text() for path in files}
    assert set(said) == {"ada", "bob", "cy", "dee", "eve", "fay"}
    assert SLIP in said["bob"] and "points: 0 of" in said["bob"]
    assert "2.ipynb cell 1 #" in said["cy"] and "1 / 1  passed" in said["cy"]
    assert "cannot be graded: " in said["eve"] and "is not a notebook" in said["eve"]


def test_the_class_at_a_glance(small):
    _, done = small
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["ada", "1", "of", OF_LESSON_01]
    assert f"q_sample: 2 passed, 1 failed; 1 of these: {SLIP}" in lines
    assert "results/grades.csv: one row per student; " in lines[-1].replace("\\", "/")


@pytest.mark.parametrize("name", ["01_forward.ipynb", "tinydiff/diffusion.py"])
def test_one_students_folder_is_not_a_class(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x")
    says = f"is not a class folder: it contains {name.split('/')[0]}; give the folder in which"
    with pytest.raises(Unreadable, match=says):
        classroom.students(tmp_path)


def test_what_cannot_be_graded_is_not_silent(tmp_path):
    """A question mark in the table, the reason in the summary."""
    verdict = judge.Verdict(Q_SAMPLE.name, "cannot be graded", (("why", "no simulator"),))
    results = {"ada": [Result(Q_SAMPLE, None, verdict)]}
    classroom.write_grades(tmp_path / "grades.csv", results, [Q_SAMPLE], {"ada": []})
    assert rows_of(tmp_path / "grades.csv")["ada"]["diffusion.q_sample"] == "?"
    summary = classroom.summary(results, [Q_SAMPLE], {"ada": []})
    assert "q_sample: 1 cannot be graded: no simulator" in summary


def test_a_defect_of_our_own_ends_the_grading_at_once(tmp_path, monkeypatch):
    """What has not begun yet is not graded any more."""
    begun, files = [], {name: [] for name in "abcdefghijklmnopqrst"}
    slowly = lambda *args: begun.append(args) or time.sleep(0.2)
    monkeypatch.setattr(classroom, "grade_one", slowly)
    with pytest.raises(ZeroDivisionError):
        classroom.grade_class(files, [Q_SAMPLE], 30.0, lambda name, own: 1 / 0)
    assert 0 < len(begun) < 20


def test_feedback_is_due_as_soon_as_a_student_is_graded(tmp_path):
    (tmp_path / "a.py").write_text(UNTOUCHED)
    files, given = {"a": [read(tmp_path / "a.py")], "b": []}, {}
    results = classroom.grade_class(files, [Q_SAMPLE], 30.0, given.__setitem__)
    assert given == results
    assert [own[0].verdict.state for own in results.values()] == ["not attempted"] * 2


@pytest.mark.parametrize(
    "words, says",
    [
        ("grade nowhere", "nowhere is not a folder"),
        ("grade .", "holds no notebook and no .py"),
        ("grade . --lessons x", "--lessons takes numbers and ranges"),
        ("grade . --lessons 3-2", "ranges that count upwards"),
        ("grade . --lessons 0", "no exercise is in these lessons"),
        ("grade . --lessons 1-77", "there is no lesson 18"),
        ("grade . --seconds 0", "takes a number above 0"),
        ("handout full", "full already exists and is not empty"),
        ("handout full/x.txt", "full/x.txt already exists"),
        ("handout new --lessons 5-", "--lessons takes numbers and ranges"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x.txt").write_text("mine")
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and says in err.replace("\\", "/")
    assert (tmp_path / "full" / "x.txt").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["full"]


def test_an_empty_folder_may_be_there_already(tmp_path, capsys):
    folder = tmp_path / "a week"
    folder.mkdir()
    assert main(["handout", str(folder), "--nbgrader", "--lessons", "0-1"]) == 0
    assert (folder / "source" / "01_forward" / "01_forward.ipynb").exists()
    says = f"cd '{folder}'; nbgrader generate_assignment 01_forward"
    assert says in capsys.readouterr().out


def test_a_handout_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(handout, "graders", lambda exercises: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["handout", str(tmp_path / "new"), "--lessons", "1"])
    assert list(tmp_path.iterdir()) == []


# --- a class that worked with version 0.1 ---


SINCE = {"gaussian_variance", "bend_times", "translate", "change"}  # asked for in these lessons


@pytest.mark.parametrize(
    "lessons, points",
    [
        ("2", {"ada": "0", "bob": "5"}),
        pytest.param("3,8-9,12,17", {"ada": "18", "bob": "0"}, marks=pytest.mark.slow),
    ],
)
def test_answers_to_version_0_1_keep_their_points(tmp_path, lessons, points):
    """A notebook and a .py with right answers as the package itself had them, before the wings.

    They import from modules that have moved, and helpers that had an underscore then.
    """
    fixtures, table = exercises.ROOT / "tests" / "fixtures", tmp_path / "grades.csv"
    (tmp_path / "class" / "bob").mkdir(parents=True)
    shutil.copy(fixtures / "ada_v0.1.py", tmp_path / "class" / "ada.py")
    shutil.copy(fixtures / "02_posterior_v0.1.ipynb", tmp_path / "class/bob/02_posterior.ipynb")
    words = f"-m tinydiff grade class --out grades.csv --lessons {lessons} --seconds 120".split()
    subprocess.run([sys.executable, *words], cwd=tmp_path, check=True, timeout=600)
    rows = rows_of(table)
    assert {name: row["points"] for name, row in rows.items()} == points
    assert {row["problems"] for row in rows.values()} == {""}
    asked = [e for e in exercises.exercises() if e.name in rows["ada"]]
    then = [e for e in asked if e.function not in SINCE and not e.is_hunt]
    assert set(points.values()) == {"0", str(len(then))}, "every point that there was"


# --- a class of ten, three of them hostile ---

HOSTILE = {
    "mallory": "while True: pass",
    "oscar": "import os; os._exit(0)",
    "trudy": "import numpy; hoard = [numpy.ones(1 << 27) for _ in range(99)]",
}


@pytest.mark.slow
def test_a_class_of_ten_within_five_minutes(tmp_path):
    """Seven do lessons 01 to 03, with mistakes of their own; three attack in one exercise."""
    asked = [e for e in exercises.exercises() if e.lesson[:2] in ("01", "02", "03")]
    want = {}
    for k, name in enumerate(["ann", "ben", "cat", "dan", "eli", "fay", "gus", *HOSTILE]):
        points, folder = 0, tmp_path / "in" / name
        folder.mkdir(parents=True)
        for j, exercise in enumerate(asked):
            old, new, _ = exercise.mutants[(k + j) % len(exercise.mutants)]
            kind, text = (k * 7 + j * 3) % 5 if name not in HOSTILE else 0, with_imports(exercise)
            if name in HOSTILE and exercise is Q_SAMPLE:
                text = text.replace("    signal, noise", f"    {HOSTILE[name]}\n    signal, noise")
            elif kind < 3:
                points += 1
            elif kind == 3:
                text = text.replace(source_of(exercise), source_of(exercise).replace(old, new))
            if kind < 4:
                (folder / f"{exercise.function}.py").write_text(text)
        want[name] = str(points)
    began = time.perf_counter()
    table = str(tmp_path / "grades.csv")
    words = ["grade", str(tmp_path / "in"), "--out", table, *"--lessons 1-3 --seconds 20".split()]
    assert main(words) == 0
    assert time.perf_counter() - began < 300
    rows = rows_of(tmp_path / "grades.csv")
    assert {name: row["points"] for name, row in rows.items()} == want
    assert all(row["diffusion.q_sample"] == "0" for name, row in rows.items() if name in HOSTILE)


# --- nbgrader ---


NBGRADER = importlib.util.find_spec("nbgrader")


# compiled, so that no interrupt of the kernel ends it
SPIN = """from numba import njit

@njit
def spin(x):
    while x > -1:
        x += 1
    return x

def q_sample(s, x0, t, eps):
    return x0 * spin(1.0)
"""


@pytest.mark.slow
@pytest.mark.skipif(not NBGRADER, reason="needs nbgrader: pip install -e '.[nbgrader]'")
def test_nbgrader_gives_the_same_points(tmp_path):
    """The reference, the untouched, a mixed and an endless notebook of lesson 01, by both."""
    course = tmp_path / "course"
    assert main(["handout", str(course), "--nbgrader", "--lessons", "1"]) == 0
    lesson, name = "01_forward", "01_forward.ipynb"

    def nbgrader(*words):
        command = [sys.executable, "-m", "nbgrader", *words]
        done = subprocess.run(command, cwd=course, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr[-2000:]

    nbgrader("generate_assignment", lesson)
    load = lambda kind: json.loads((course / kind / lesson / name).read_text())
    source, release = load("source"), load("release")
    assert "BEGIN SOLUTION" not in json.dumps(release)
    graded = [cell for cell in source["cells"] if "nbgrader" in cell["metadata"]]
    answers = {c["metadata"]["nbgrader"]["grade_id"]: "".join(c["source"]) for c in graded}
    mixed = json.loads(json.dumps(release))
    for cell in mixed["cells"]:
        which = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if which == "linear":
            cell["source"] = answers["linear"]
        if which == "q_sample":
            cell["source"] = answers["q_sample"].replace("noise * eps", "noise**2 * eps")
    endless = json.loads(json.dumps(source))
    for cell in endless["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "q_sample":
            cell["source"] = SPIN
    submitted, whole = course / "submitted", {"mixed": mixed, "reference": source}
    for student, content in (whole | {"endless": endless, "untouched": release}).items():
        (submitted / student / lesson).mkdir(parents=True)
        (submitted / student / lesson / name).write_text(json.dumps(content))
    nbgrader("autograde", lesson)
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        found = gradebook.assignment_submissions(lesson)
        theirs = {s.student.id: (s.score, s.max_score) for s in found}
    table = tmp_path / "grades.csv"
    assert main(["grade", str(submitted), "--out", str(table), "--lessons", "1"]) == 0
    rows = rows_of(table).items()
    ours = {name: (float(row["points"]), float(row["of"])) for name, row in rows}
    points = {"endless": 3.0, "mixed": 1.0, "reference": 4.0, "untouched": 0.0}
    assert theirs == ours == {name: (came, 4.0) for name, came in points.items()}
