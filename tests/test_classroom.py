"""A class graded: who handed in what, a row a student, feedback for each; hostile files cost their own points only."""

import csv
import importlib.util
import json
import subprocess
import sys
import time

import pytest
from test_handout import source_of, with_imports

from tinydiff.__main__ import main
from tinydiff.app import cmd_teach
from tinydiff.course import classroom, exercises, judge
from tinydiff.course.submission import Result, read

Q_SAMPLE = exercises.find("q_sample")
SLIP = "you scaled the noise by 1 - alpha_bar; its square root is the standard deviation"
RIGHT, UNTOUCHED = (
    with_imports(Q_SAMPLE),
    "def q_sample(s, x0, t, eps):\n    raise NotImplementedError\n",
)
WRONG = RIGHT.replace("noise * eps", "noise**2 * eps")


def notebook(*cells):
    return json.dumps(
        {
            "cells": [
                {"cell_type": "code", "source": text, "metadata": {}, "outputs": []}
                for text in cells
            ],
            "nbformat": 4,
        }
    )


def rows_of(path):
    return {row["student"]: row for row in csv.DictReader(path.open(encoding="utf-8-sig"))}


# --- who handed in what ---


def test_files_and_folders_are_students(tmp_path):
    for name in (
        "ada.ipynb",
        "bob/01_forward.ipynb",
        "bob/deep/02.py",
        ".hidden/x.py",
        "bob/.ipynb_checkpoints/01.ipynb",
        "cy.txt",
        "bob.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    found = {
        name: [str(p.relative_to(tmp_path)) for p in paths]
        for name, paths in classroom.students(tmp_path).items()
    }
    assert found == {
        "ada": ["ada.ipynb"],
        "bob": ["bob/01_forward.ipynb", "bob/deep/02.py", "bob.py"],
    }


@pytest.mark.parametrize(
    "text, want", [("1-3", {1, 2, 3}), ("4", {4}), ("1,3-4", {1, 3, 4}), (None, None)]
)
def test_lessons_in_words(text, want):
    assert cmd_teach.chosen_lessons(text) == want


@pytest.mark.parametrize("text", ["", "a", "1-", "1..3", "-1", "1,,2", "1-999999999"])
def test_other_words_are_refused(text):
    with pytest.raises(classroom.Bad, match="--lessons takes numbers and ranges"):
        cmd_teach.chosen_lessons(text)


# --- a small class ---


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Five students: right; wrong; in two files, first wrong, then right; untouched; one file broken -> folder, printed lines"""
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
    command = [
        sys.executable,
        "-m",
        "tinydiff",
        "grade",
        "in",
        "--out",
        "results/grades.csv",
        "--lessons",
        "1",
    ]
    return folder, subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=170)


def test_a_row_a_student(small):
    folder, done = small
    rows = rows_of(folder / "results" / "grades.csv")
    of = str(len([e for e in exercises.exercises() if e.lesson == "01_forward"]))
    assert done.returncode == 0 and list(rows) == ["ada", "bob", "cy", "dee", "eve", "fay"]
    assert {name: (row["points"], row["01_forward"], row["of"]) for name, row in rows.items()} == {
        name: (points, points, of) for name, points in zip(rows, "101000", strict=True)
    }
    assert [row["diffusion.q_sample"] for row in rows.values()] == ["1", "0", "1", "", "", ""]
    assert [row["schedule.linear"] for row in rows.values()] == [""] * 6
    assert (
        "is no notebook" in rows["eve"]["problems"]
        and rows["fay"]["problems"] == "no notebook and no .py"
    )
    assert "dee.ipynb cell 2, line 1: SyntaxError" in rows["dee"]["problems"]
    assert not any(
        row["problems"] for name, row in rows.items() if name not in ("dee", "eve", "fay")
    )
    assert not list((folder / "results").glob("*.part"))


def test_feedback_for_each(small):
    folder, _ = small
    said = {
        path.stem: path.read_text() for path in (folder / "results" / "grades_feedback").iterdir()
    }
    assert set(said) == {"ada", "bob", "cy", "dee", "eve", "fay"}
    assert SLIP in said["bob"] and "points: 0 of" in said["bob"]
    assert "2.ipynb cell 1 #" in said["cy"] and "1 / 1  passed" in said["cy"]
    assert "cannot be graded: " in said["eve"] and "is no notebook" in said["eve"]


def test_the_class_at_a_glance(small):
    _, done = small
    lines = done.stdout.splitlines()
    assert lines[0].split() == [
        "ada",
        "1",
        "of",
        str(len([e for e in exercises.exercises() if e.lesson == "01_forward"])),
    ]
    assert f"q_sample: 2 passed, 1 failed; 1 of these: {SLIP}" in lines
    assert "results/grades.csv" in lines[-1].replace("\\", "/")


@pytest.mark.parametrize("name", ["01_forward.ipynb", "tinydiff/diffusion.py"])
def test_one_students_folder_is_no_class(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x")
    with pytest.raises(classroom.Bad, match="is no class, since"):
        classroom.students(tmp_path)


def test_what_cannot_be_graded_is_not_silent(tmp_path):
    """A question mark in the table, the reason in the summary."""
    verdict = judge.Verdict(Q_SAMPLE.name, "cannot be graded", (("why", "no simulator"),))
    results = {"ada": [Result(Q_SAMPLE, None, verdict)]}
    classroom.write_grades(tmp_path / "grades.csv", results, [Q_SAMPLE], {"ada": []})
    assert rows_of(tmp_path / "grades.csv")["ada"]["diffusion.q_sample"] == "?"
    assert "q_sample: 1 cannot be graded: no simulator" in classroom.summary(
        results, [Q_SAMPLE], {"ada": []}
    )


def test_a_defect_of_our_own_ends_the_grading_at_once(tmp_path, monkeypatch):
    """What is not begun yet is not graded any more."""
    (tmp_path / "a.py").write_text(UNTOUCHED)
    begun = []
    monkeypatch.setattr(
        "tinydiff.submission.grade_one", lambda *args: begun.append(args) or time.sleep(0.2)
    )
    with pytest.raises(ZeroDivisionError):
        classroom.grade_class(
            {name: [] for name in "abcdefghijklmnopqrst"}, [Q_SAMPLE], 30.0, lambda name, own: 1 / 0
        )
    assert len(begun) < 20


def test_a_student_who_is_ready_is_told_at_once(tmp_path):
    (tmp_path / "a.py").write_text(UNTOUCHED)
    told = []
    results = classroom.grade_class(
        {"a": [read(tmp_path / "a.py")], "b": []},
        [Q_SAMPLE],
        30.0,
        lambda name, own: told.append((name, own)),
    )
    assert (
        dict(told) == results
        and [r.verdict.state for own in results.values() for r in own] == ["not attempted"] * 2
    )


@pytest.mark.parametrize(
    "words, says",
    [
        ("grade nowhere", "nowhere is no folder"),
        ("grade .", "holds no notebook and no .py"),
        ("grade . --lessons x", "--lessons takes numbers and ranges"),
        ("grade . --lessons 3-2", "ranges that count upwards"),
        ("grade . --lessons 0", "no exercise is in these lessons"),
        ("grade . --lessons 1-77", "there is no lesson 17"),
        ("grade . --seconds 0", "takes a number above 0"),
        ("handout full", "full is there already and not empty"),
        ("handout full/x.txt", "full/x.txt is there already"),
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
    assert (tmp_path / "full" / "x.txt").read_text() == "mine" and [
        p.name for p in tmp_path.iterdir()
    ] == ["full"]


def test_an_empty_folder_may_be_there_already(tmp_path, capsys):
    (tmp_path / "a week").mkdir()
    assert main(["handout", str(tmp_path / "a week"), "--nbgrader", "--lessons", "0-1"]) == 0
    assert (tmp_path / "a week" / "source" / "01_forward" / "01_forward.ipynb").exists()
    assert (
        f"cd '{tmp_path / 'a week'}'; nbgrader generate_assignment 01_forward"
        in capsys.readouterr().out
    )


def test_a_handout_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):

    monkeypatch.setattr(handout, "graders", lambda exercises: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["handout", str(tmp_path / "new"), "--lessons", "1"])
    assert list(tmp_path.iterdir()) == []


# --- a class of ten, three of them hostile ---

HOSTILE = {
    "mallory": "while True: pass",
    "oscar": "import os; os._exit(0)",
    "trudy": "import numpy; hoard = [numpy.ones(1 << 27) for _ in range(99)]",
}


@pytest.mark.slow
def test_a_class_of_ten_within_five_minutes(tmp_path):
    """Seven do lessons 01 to 03, with mistakes of their own; three do so rightly, but in one exercise attack the grader."""
    exercises = [e for e in exercises.exercises() if e.lesson[:2] in ("01", "02", "03")]
    want = {}
    for k, name in enumerate(["ann", "ben", "cat", "dan", "eli", "fay", "gus", *HOSTILE]):
        points, folder = 0, tmp_path / "in" / name
        folder.mkdir(parents=True)
        for j, exercise in enumerate(exercises):
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
    assert (
        main(
            [
                "grade",
                str(tmp_path / "in"),
                "--out",
                str(tmp_path / "grades.csv"),
                "--lessons",
                "1-3",
                "--seconds",
                "20",
            ]
        )
        == 0
    )
    assert time.perf_counter() - began < 300
    rows = rows_of(tmp_path / "grades.csv")
    assert {name: row["points"] for name, row in rows.items()} == want
    assert all(row["diffusion.q_sample"] == "0" for name, row in rows.items() if name in HOSTILE)


# --- nbgrader ---


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec("nbgrader"), reason="needs nbgrader: pip install -e '.[nbgrader]'"
)
def test_nbgrader_gives_the_same_points(tmp_path):
    """The reference, the untouched and a mixed notebook of lesson 01, through nbgrader and through our grader."""
    course = tmp_path / "course"
    assert main(["handout", str(course), "--nbgrader", "--lessons", "1"]) == 0
    lesson, name = "01_forward", "01_forward.ipynb"

    def nbgrader(*words):
        done = subprocess.run(
            [sys.executable, "-m", "nbgrader", *words],
            cwd=course,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, done.stderr[-2000:]

    nbgrader("generate_assignment", lesson)
    source, release = (
        json.loads((course / kind / lesson / name).read_text()) for kind in ("source", "release")
    )
    assert "BEGIN SOLUTION" not in json.dumps(release)
    answers = {
        cell["metadata"]["nbgrader"]["grade_id"]: "".join(cell["source"])
        for cell in source["cells"]
        if "nbgrader" in cell["metadata"]
    }
    mixed = json.loads(json.dumps(release))
    for cell in mixed["cells"]:
        which = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if which == "linear":
            cell["source"] = answers["linear"]
        if which == "q_sample":
            cell["source"] = answers["q_sample"].replace("noise * eps", "noise**2 * eps")
    for student, content in {"mixed": mixed, "reference": source, "untouched": release}.items():
        (course / "submitted" / student / lesson).mkdir(parents=True)
        (course / "submitted" / student / lesson / name).write_text(json.dumps(content))
    nbgrader("autograde", lesson)
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        theirs = {
            s.student.id: (s.score, s.max_score) for s in gradebook.assignment_submissions(lesson)
        }
    assert (
        main(
            [
                "grade",
                str(course / "submitted"),
                "--out",
                str(tmp_path / "grades.csv"),
                "--lessons",
                "1",
            ]
        )
        == 0
    )
    ours = {
        name: (float(row["points"]), float(row["of"]))
        for name, row in rows_of(tmp_path / "grades.csv").items()
    }
    assert theirs == ours == {"mixed": (1.0, 4.0), "reference": (4.0, 4.0), "untouched": (0.0, 4.0)}
