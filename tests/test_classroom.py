"""A class graded: who handed in what, one row per student, feedback for each of them."""

import ast
import base64
import contextlib
import csv
import errno
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from bench import classes
from test_handout import source_of, with_imports

from tinydiff.__main__ import main
from tinydiff.app import cmd_teach
from tinydiff.app.usage import UsageError
from tinydiff.course import board, classroom, exercises, formats, handout, judge
from tinydiff.course.classroom import Gradebook
from tinydiff.course.handed_in import Student, read_class
from tinydiff.course.submission import Unreadable, read
from tinydiff.course.worker import Result, protection

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


def told(err):
    """Drop what is said where bubblewrap does not work -> str"""
    lines = err.splitlines(True)
    return "".join(text for text in lines if "grading with limits on time" not in text)


# --- who handed in what ---


def test_files_and_folders_are_students(tmp_path):
    files = ("ada.ipynb", "bob/01_forward.ipynb", "bob/deep/02.py", "bob.py", "cy.txt")
    for name in (*files, ".hidden/x.py", "bob/.ipynb_checkpoints/01.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(notebook("x = 1"))
    found = {student.name: student.submissions for student in read_class(tmp_path)}
    names = {name: {str(s.path.relative_to(tmp_path)) for s in own} for name, own in found.items()}
    of_bob = {"bob/01_forward.ipynb", "bob/deep/02.py", "bob.py"}
    assert names == {"ada": {"ada.ipynb"}, "bob": of_bob, "cy": set()}


@pytest.mark.parametrize(
    "text, want", [("1-3", {1, 2, 3}), ("4", {4}), ("1,3-4", {1, 3, 4}), (None, None)]
)
def test_lessons_in_words(text, want):
    assert handout.chosen_lessons(text) == want


@pytest.mark.parametrize("text", ["", "a", "1-", "1..3", "-1", "1,,2", "1-999999999"])
def test_other_words_are_refused(text):
    with pytest.raises(UsageError, match="--lessons takes numbers and ranges"):
        cmd_teach.chosen_exercises(text)


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
    assert problems["fay"] == "no notebook and no .py: work.zip (a damaged zip)"
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
        read_class(tmp_path)


# --- what is kept of a class ---


def verdict(state, exercise=Q_SAMPLE, **said):
    return judge.Verdict(exercise.name, state, tuple(said.items()))


def handed_in(folder, **texts):
    """Write a .py for each student, and read it -> list of Students"""
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    return [Student(name, [read(folder / f"{name}.py")]) for name in texts]


def graded(folder, students, state=lambda name: "passed", exercises=(Q_SAMPLE,), seconds=9.0):
    """Have a class graded by nobody: each student's state is given -> Gradebook, who was graded"""
    book, asked = Gradebook(folder / "g.csv", students, list(exercises), seconds), []
    for student in book.recall():
        asked.append(student.name)
        own = [
            Result(e, student.submissions[0], verdict(state(student.name), e)) for e in exercises
        ]
        book.note(student, own)
    return book, asked


def test_what_cannot_be_graded_is_not_silent(tmp_path):
    """A question mark in the table, the reason in the summary."""
    results = {"ada": [Result(Q_SAMPLE, None, verdict("cannot be graded", why="no simulator"))]}
    given = [Student("ada")], results, [Q_SAMPLE], lambda student: student.problems
    (tmp_path / "grades.csv").write_bytes(formats.grades(*given))
    assert rows_of(tmp_path / "grades.csv")["ada"]["diffusion.q_sample"] == "?"
    assert "q_sample: 1 cannot be graded: no simulator" in classroom.summary(*given)


def test_the_commonest_error_is_in_the_summary(tmp_path):
    """Of those that have no slip, wherever in the file it was."""
    whys = [f"{k}.py, line {k}: NameError: name 'np' is not defined; in {k}.py" for k in range(3)]
    results = {why: [Result(Q_SAMPLE, None, verdict("failed", why=why))] for why in whys}
    said = classroom.summary(list(map(Student, whys)), results, [Q_SAMPLE], lambda student: [])
    assert "0 passed, 3 failed; 3 of these: NameError: name 'np' is not defined" in said
    results["a"] = [Result(Q_SAMPLE, None, verdict("failed", slip=SLIP))]
    said = classroom.summary(list(map(Student, results)), results, [Q_SAMPLE], lambda student: [])
    assert f"0 passed, 4 failed; 1 of these: {SLIP}" in said


def test_the_table_is_there_from_the_first_student_on(tmp_path):
    """Whoever is not graded yet has a row that says so, and no points that are read as 0."""
    students = handed_in(tmp_path, ada=RIGHT, bob=WRONG, cy=UNTOUCHED)
    book = Gradebook(tmp_path / "g.csv", students, [Q_SAMPLE], 9.0)
    book.note(students[1], [Result(Q_SAMPLE, students[1].submissions[0], verdict("passed"))])
    rows = rows_of(tmp_path / "g.csv")
    assert list(rows) == ["ada", "bob", "cy"]
    assert (rows["bob"]["points"], rows["bob"]["problems"]) == ("1", "")
    of_ada = {key: value for key, value in rows["ada"].items() if value}
    assert of_ada == {"student": "ada", "of": "1", "problems": "not graded yet"}
    assert classroom.unfinished(tmp_path / "g.csv") == "1 of 3 students"
    assert [p.name for p in (tmp_path / "g_feedback").iterdir()] == ["bob.txt"]


def test_what_was_graded_before_is_taken_over(tmp_path):
    """Only who is not, or has handed in something new, is graded; the table is the same."""
    state = lambda name: {"ada": "passed", "bob": "failed", "cy": "not attempted"}[name]
    students = handed_in(tmp_path, ada=RIGHT, bob=WRONG, cy=UNTOUCHED)
    book, asked = graded(tmp_path, students, state)
    assert asked == ["ada", "bob", "cy"]
    before, said = book.path.read_bytes(), (book.feedback / "bob.txt").read_bytes()
    book.path.unlink()
    book, asked = graded(tmp_path, handed_in(tmp_path, ada=RIGHT, bob=WRONG, cy=UNTOUCHED), state)
    book.close()
    assert (asked, book.path.read_bytes()) == ([], before)
    assert (book.feedback / "bob.txt").read_bytes() == said
    assert classroom.unfinished(book.path) is None
    students = handed_in(tmp_path, ada=RIGHT, bob=RIGHT, cy=UNTOUCHED, dee=RIGHT)
    _, asked = graded(tmp_path, students, lambda name: "passed")
    assert asked == ["bob", "dee"]


@pytest.mark.parametrize("change", ["seconds", "exercises", "package", "beside", "left out"])
def test_under_other_circumstances_everybody_is_graded_anew(tmp_path, monkeypatch, change):
    students = handed_in(tmp_path, ada=RIGHT)
    graded(tmp_path, students)
    more = {"seconds": {"seconds": 8.0}, "exercises": {"exercises": [Q_SAMPLE, Q_SAMPLE]}}
    if change == "package":
        monkeypatch.setattr(classroom, "_package", lambda: "another")
    if change == "beside":
        students[0].beside["helper.py"] = b"x = 1"
    if change == "left out":
        students[0].left_out.append("venv/ (an environment)")
    assert graded(tmp_path, students, **more.get(change, {}))[1] == ["ada"]
    assert graded(tmp_path, students, **more.get(change, {}))[1] == []


def test_a_shortage_is_not_taken_over(tmp_path):
    students = handed_in(tmp_path, ada=RIGHT, bob=RIGHT)
    state = lambda name: "cannot be graded" if name == "ada" else "passed"
    graded(tmp_path, students, state)
    assert graded(tmp_path, students)[1] == ["ada"]


@pytest.mark.parametrize("cut", [1, 40, 100])
def test_a_torn_line_does_no_harm(tmp_path, cut):
    """As after a power failure; what is written behind it counts."""
    students = handed_in(tmp_path, ada=RIGHT, bob=RIGHT)
    book, _ = graded(tmp_path, students)
    text = book.kept.read_bytes()
    book.kept.write_bytes(text[: len(text) - cut - 1])
    assert graded(tmp_path, students)[1] == ["bob"]
    assert graded(tmp_path, students)[1] == []


@pytest.mark.parametrize(
    "results",
    [
        "[]",
        "[1]",
        '[["bogus", [], 0, 0]]',
        '[["passed", [["why", 1]], 0, 0]]',
        '[["passed", [], 0, 7]]',
        '[["passed", [], "x", 0]]',
        "7",
        "[" * 100_000,
    ],
)
def test_a_line_that_somebody_wrote_is_not_believed(tmp_path, results):
    students = handed_in(tmp_path, ada=RIGHT)
    book, _ = graded(tmp_path, students)
    kept = json.loads(book.kept.read_text())
    head = f'{{"student": "ada", "key": "{kept["key"]}", "results": '
    book.kept.write_text(f"{head}{results}}}\n")
    assert graded(tmp_path, students)[1] == ["ada"]


def test_what_is_kept_does_not_grow_from_run_to_run(tmp_path):
    students = handed_in(tmp_path, ada=RIGHT)
    for _ in range(3):
        book, _ = graded(tmp_path, students)
        book.note(students[0], book.results["ada"])
        book.close()
    assert len(book.kept.read_text().splitlines()) == 1


# --- what goes wrong with one student, or with the machine ---


def test_feedback_that_cannot_be_written_is_that_students_problem(tmp_path):
    (tmp_path / "g_feedback" / "ada.txt").mkdir(parents=True)
    book, _ = graded(tmp_path, handed_in(tmp_path, ada=RIGHT, bob=RIGHT))
    rows = rows_of(book.path)
    assert [row["points"] for row in rows.values()] == ["1", "1"]
    assert "ada.txt could not be written (it is a folder" in rows["ada"]["problems"]
    assert rows["bob"]["problems"] == "" and (book.feedback / "bob.txt").is_file()


def test_a_board_that_fails_is_that_students_problem(tmp_path, monkeypatch):
    says = lambda files, *rest: "ok" if files[0].path.stem == "bob" else 1 / 0
    monkeypatch.setattr(classroom, "board", says)
    book, _ = graded(tmp_path, handed_in(tmp_path, ada=RIGHT, bob=RIGHT))
    rows = rows_of(book.path)
    assert rows["ada"]["problems"] == "no feedback: ZeroDivisionError: division by zero"
    assert rows["bob"]["problems"] == "" and len(book.results) == 2


def test_many_threads_ask_what_is_attempted(tmp_path, monkeypatch):
    """Python 3.11 must not parse in several of them at a time: nothing is parsed again."""
    (tmp_path / "a.py").write_text(UNTOUCHED)
    file = read(tmp_path / "a.py")
    with monkeypatch.context() as patch:
        patch.setattr(ast, "parse", lambda *args: 1 / 0)
        assert not file.attempts("q_sample") and file.has("q_sample")


def test_long_and_strange_names_have_feedback(tmp_path):
    names = [
        "a" * 252,
        "a" * 251 + "b",
        "../up",
        "x\x1b[31m",
        "BOB",
        "bob",
        "byte\udcff",
        "A/b",
        "=1",
    ]
    students = handed_in(tmp_path, ada=RIGHT)
    students = [Student(name, students[0].submissions) for name in names]
    book, _ = graded(tmp_path, students)
    found = [path.name for path in book.feedback.iterdir()]
    assert len({name.casefold() for name in found}) == len(names)
    assert all(len(name) < 130 and name.isprintable() for name in found)
    rows = rows_of(book.path)
    assert [row["problems"] for row in rows.values()] == [""] * len(names)
    assert "'=1" in rows and r"x\x1b[31m" in rows and "a" * 252 in rows
    assert [p for p in tmp_path.iterdir() if "up" in p.name] == []


def test_a_full_disk_is_one_line(tmp_path, monkeypatch, capsys):
    """It names the file, what is kept and how to go on."""
    for name in ("ada", "bob"):
        (tmp_path / f"{name}.py").write_text(UNTOUCHED)
    monkeypatch.chdir(tmp_path)
    sync, count = os.fsync, iter(range(100))

    def full(number):
        if next(count) > 2:  # the first student's results, feedback and table
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(number)

    monkeypatch.setattr(os, "fsync", full)
    assert main("grade . --lessons 1 --out out/g.csv --jobs 1".split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(told(err).splitlines()) == 1
    assert "g_progress.jsonl could not be written (No space left on device); 1 of 2" in err
    assert "--resume goes on with the rest" in err
    assert list(rows_of(tmp_path / "out" / "g.csv")) == ["ada", "bob"]


def test_a_table_that_is_in_the_way_is_tried_again(tmp_path):
    """Nobody's points are lost by it."""
    students = handed_in(tmp_path, ada=RIGHT, bob=RIGHT)
    (tmp_path / "g.csv").mkdir()
    book, _ = graded(tmp_path, students)
    assert len(book.results) == 2
    with pytest.raises(OSError, match="g.csv could not be written"):
        book.close()
    (tmp_path / "g.csv").rmdir()
    book, asked = graded(tmp_path, students)
    book.close()
    assert asked == [] and len(rows_of(book.path)) == 2


def test_an_error_of_ours_is_one_students(tmp_path, monkeypatch):
    def broken(submissions, *rest):
        raise ZeroDivisionError("of ours") if submissions[0].path.stem == "ada" else ValueError

    monkeypatch.setattr(classroom, "grade_student", broken)
    found = {}
    students, done = handed_in(tmp_path, ada=RIGHT), lambda s, own: found.update({s.name: own})
    classroom.grade_class(students, [Q_SAMPLE], 9.0, 1, done)
    said = found["ada"][0].verdict
    assert said.state == "cannot be graded" and said.lines == (
        ("why", "ZeroDivisionError: of ours"),
    )


def test_a_defect_of_our_own_ends_the_grading_at_once(monkeypatch):
    """What has not begun yet is not graded any more."""
    begun, students = [], [Student(name) for name in "abcdefghijklmnopqrst"]
    slowly = lambda *args: begun.append(args) or time.sleep(0.2)
    monkeypatch.setattr(classroom, "grade_student", slowly)
    with pytest.raises(ZeroDivisionError):
        classroom.grade_class(students, [Q_SAMPLE], 30.0, 2, lambda student, own: 1 / 0)
    assert 0 < len(begun) < 20


def test_feedback_is_due_as_soon_as_a_student_is_graded(tmp_path):
    (tmp_path / "a.py").write_text(UNTOUCHED)
    students, given = [Student("a", [read(tmp_path / "a.py")]), Student("b")], {}
    done, ticks = lambda student, own: given.update({student.name: own}), []
    classroom.grade_class(students, [Q_SAMPLE], 30.0, 1, done, ticks.append)
    assert [own[0].verdict.state for own in given.values()] == ["not attempted"] * 2
    assert [result.exercise for result in ticks] == [Q_SAMPLE] * 2


def test_an_earlier_table(tmp_path, monkeypatch, capsys):
    """A whole one is replaced; of one that is not, a line says that it could be gone on with."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ada.py").write_text(UNTOUCHED)
    monkeypatch.chdir(tmp_path)
    words = "grade in --lessons 1 --out out/g.csv".split()
    assert main(words) == 0 and told(capsys.readouterr().err) == ""
    assert main(words) == 0 and told(capsys.readouterr().err) == ""
    table = tmp_path / "out" / "g.csv"
    table.write_text(table.read_text(encoding="utf-8-sig") + ",,4,,,,,,not graded yet\n")
    assert main(words) == 0
    says = "is of a run that did not end, 1 of 2 students are graded: --resume goes on with it"
    assert says in capsys.readouterr().err
    table.write_text(table.read_text(encoding="utf-8-sig") + ",,4,,,,,,not graded yet\n")
    monkeypatch.setattr(classroom, "grade_student", lambda *args: 1 / 0)  # nobody is left
    assert main([*words, "--resume"]) == 0 and told(capsys.readouterr().err) == ""
    assert rows_of(table)["ada"]["schedule.linear"] == "", "else it were ?"
    assert classroom.unfinished(table) is None


# --- text that does no harm ---


@pytest.mark.parametrize(
    "text, want",
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\tb\nc\r\x00\x9b", r"a\tb\nc\r\x00\x9b"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("\udcff", r"\udcff"),
        (
            "\u0141ukasz \u4e2d \xa0 \u0646\u200c\u0627",
            "\u0141ukasz \u4e2d \xa0 \u0646\u200c\u0627",
        ),
    ],
)
def test_nothing_that_a_terminal_obeys(text, want):
    assert board.printable(text) == want


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "'=1", "\uff1d1"])
def test_nothing_that_a_spreadsheet_calculates(text):
    """The name without the first letter is the name that was given."""
    assert board.cell(text) == f"'{text}"
    assert board.cell(f"\t{text}") == f"\\t{text}" and board.cell("a=1") == "a=1"


def test_no_paths_of_the_instructors_machine():
    home = Path.home()
    said = f"in {home}/course/x.py and {exercises.ROOT}/tests/test_ops.py, File '/opt/a b/lib/c.py'"
    said = board.line(said)
    assert str(home) not in said and "/opt" not in said
    assert "x.py and tests/test_ops.py" in said and said.endswith("c.py'")
    kept = "1/2, x0/y/z, a / b, https://a.b/c/d and 3 /4"
    assert board.line(kept) == kept
    assert board.line(r"in C:\Users\prof\a.py: x") == "in a.py: x"


def test_feedback_is_bounded():
    said = {"slip": "s", "why": "x" * 50_000_000, "called": "\n".join(map(str, range(1000)))}
    result = board.tidy(Result(Q_SAMPLE, None, verdict("failed", **said)))
    lines = dict(result.verdict.lines)
    assert lines["slip"] == "s" and len(lines["why"]) <= board.WIDEST
    assert lines["why"].endswith(f"... ({50_000_000 - board.WIDEST + 40} letters more)")
    assert lines["called"].splitlines()[-1] == "... (988 lines more)"
    assert sum(len(text.splitlines()) for text in lines.values()) <= board.LONGEST
    assert board.tidy(result) == result, "twice is once"


def test_the_board_names_what_was_left_out_and_what_guarded(tmp_path):
    students = handed_in(tmp_path, ada=RIGHT, old=WRONG, other=UNTOUCHED)
    files = [student.submissions[0] for student in students]
    results = [Result(Q_SAMPLE, files[0], verdict("passed"))]
    said = board.board(files, results, ["venv/ (an \x1benvironment)"], "limits only").splitlines()
    assert said[3] == r"left out: venv/ (an \x1benvironment)"
    assert "      also     attempted in old.py; what counts is ada.py" in said
    assert said[-2] == "graded under: limits only"


def test_files_are_named_as_the_student_sees_them(tmp_path):
    """No path of the instructor's; what has one name is told apart."""
    (tmp_path / "backup").mkdir()
    (tmp_path / "a.py").write_text(RIGHT)
    (tmp_path / "backup" / "a.py").write_text(RIGHT)
    files = [read(tmp_path / "a.py"), read(tmp_path / "backup" / "a.py")]
    said = board.board(files, [Result(Q_SAMPLE, files[0], verdict("passed"))])
    assert said.splitlines()[:2] == ["graded: a.py", "graded: backup/a.py"]
    assert "also     attempted in backup/a.py; what counts is a.py" in said
    assert board.about(files[1:], []) == "graded: a.py" and board.about([], []) == ""


# --- what is refused ---


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
        ("handout full/x.txt --gradescope", "give the name of a .zip"),
        ("handout new --gradescope", "with --gradescope give the name of a .zip"),
        ("handout new --github --nbgrader", "not allowed with argument"),
        ("grade . --format gradescope --resume", "--resume goes with a class"),
        ("grade . --format github --jobs 2", "--jobs goes with a class"),
        ("grade . --format xlsx", "argument --format: invalid choice"),
        ("grade . --jobs 0", "takes a whole number from 1"),
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


def test_a_zip_that_is_there_is_not_replaced(tmp_path, capsys):
    path = tmp_path / "x.zip"
    path.write_text("mine")
    assert main(["handout", str(path), "--gradescope"]) == 2
    assert "x.zip already exists: give a new name" in capsys.readouterr().err
    assert path.read_text() == "mine"


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


@pytest.mark.slow
def test_a_class_as_it_really_comes(tmp_path):
    """Every second one is hostile; zips, copies, whole handouts, environments, no work at all."""
    if "in bubblewrap" not in protection():
        pytest.skip("some attack what lies beside the class")
    folder, table = tmp_path / "in", tmp_path / "grades.csv"
    want = classes.make(24, folder, every=2)
    words = ["grade", str(folder), "--out", str(table), *"--lessons 1-2 --seconds 20".split()]
    assert main(words) == 0
    rows = rows_of(table)
    assert {name: int(row["points"]) for name, row in rows.items()} == want
    assert [path.name for path in (tmp_path / "in.prey").iterdir()] == ["whole"]
    feedback = list((tmp_path / "grades_feedback").iterdir())
    assert len(feedback) == len(want)
    for path in feedback:
        text = path.read_text(encoding="utf-8")
        assert len(text) < 50_000 and not set(text) & set(map(chr, {*range(32)} - {10}))


# --- where instructors keep grades ---


def some_results(folder):
    """One passed, one failed, one not attempted, one that cannot be graded -> list of Results"""
    (of_ada,) = handed_in(folder, ada=RIGHT)
    states = {"passed": {}, "failed": {"why": "it is <b>wrong</b>"}, "not attempted": {}}
    states["cannot be graded"] = {"why": "no memory"}
    asked = [e for e in exercises.exercises() if e.lesson == "01_forward"]
    given = zip(asked, states.items(), strict=True)
    file = of_ada.submissions[0]
    return [Result(e, file, verdict(state, e, **said)) for e, (state, said) in given]


def test_gradescope_reads_the_results(tmp_path):
    """Its specification: tests with name, score, max_score, output, visibility."""
    made = json.loads(formats.gradescope(some_results(tmp_path), "graded: ada.py", 12.3))
    assert made["execution_time"] == 12 and made["output"] == "graded: ada.py"
    tests = made["tests"]
    assert [(t["score"], t["max_score"]) for t in tests] == [(1, 1), (0, 1), (0, 1), (0, 1)]
    assert {t["visibility"] for t in tests} == {"visible"}
    assert {t["output_format"] for t in tests} == {"text"}, "so that <b> is shown as it is"
    assert tests[0]["name"] == "01_forward: linear" and tests[0]["status"] == "passed"
    assert tests[1]["output"] == "failed\nwhy      it is <b>wrong</b>"
    assert "cannot be graded" in tests[3]["output"] and tests[3]["status"] == "failed"
    nothing = json.loads(formats.gradescope([], "no notebook", 0.1))
    assert nothing["score"] == 0 and nothing["output"] == "no notebook"


def test_github_classroom_reads_the_results(tmp_path):
    """Its reporter adds up the scores, and names by their status the tests that did not pass."""
    made = json.loads(formats.github(some_results(tmp_path)))
    assert (made["status"], made["max_score"]) == ("error", 4)
    assert [t["status"] for t in made["tests"]] == ["pass", "fail", "fail", "error"]
    assert sum(t["score"] for t in made["tests"]) == 1
    assert made["tests"][1]["message"] == "failed\nwhy      it is <b>wrong</b>"
    nothing = json.loads(formats.github([], "no notebook"))
    assert nothing["status"] == "error" and nothing["tests"][0]["message"] == "no notebook"
    passed = json.loads(formats.github(some_results(tmp_path)[:1]))
    assert passed["status"] == "pass" and passed["tests"][0]["message"] == ""


def test_moodle_reads_the_points(tmp_path):
    """As its grading worksheet: by the participants' numbers; without one the name stands."""
    (folder,) = handed_in(tmp_path, ada=RIGHT)
    students = [Student("Ada Byron_4711", folder.submissions, id="4711"), Student("=bob")]
    results = {s.name: [Result(Q_SAMPLE, None, verdict("passed"))] for s in students}
    text = formats.moodle(students, results).decode("utf-8-sig")
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["Identifier"] for row in rows] == ["Participant 4711", "'=bob"]
    assert [row["Full name"] for row in rows] == ["Ada Byron", "'=bob"]
    assert [(row["Grade"], row["Maximum Grade"]) for row in rows] == [("1", "1")] * 2
    assert set(rows[0]) == {*formats.MOODLE} and {"Last modified (grade)"} < set(rows[0])
    twice = [Student("Ada", id="1"), Student("Ada (2)", id="1")]
    with pytest.raises(ValueError, match=r"Ada and Ada \(2\) are one participant of Moodle"):
        formats.participants(twice)


def test_moodle_without_numbers_is_said(tmp_path, monkeypatch, capsys):
    (tmp_path / "in").mkdir()
    for name in ("ada", "Bob_123_assignsubmission_file_a"):
        (tmp_path / "in" / f"{name}.py").write_text(UNTOUCHED)
    monkeypatch.chdir(tmp_path)
    assert main("grade in --lessons 1 --format moodle".split()) == 0
    says = "tinydiff: 1 without a number of Moodle's, ada: Moodle will not know them"
    assert told(capsys.readouterr().err).startswith(says)


@pytest.mark.parametrize("guard, lines", [("limits on time: x", 1), ("in bubblewrap: x", 0)])
def test_missing_protection_is_said_before_anything_runs(
    tmp_path, monkeypatch, capsys, guard, lines
):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ada.py").write_text(UNTOUCHED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(classroom, "protection", lambda: guard)
    monkeypatch.setattr(cmd_teach, "grade_class", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main("grade in --lessons 1".split())
    assert capsys.readouterr().err == f"tinydiff: grading with {guard}\n" * lines


@pytest.mark.parametrize("name", ["in", "in/class.zip"])
def test_the_class_is_hidden_wherever_it_lies(tmp_path, monkeypatch, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ada.py").write_text(UNTOUCHED)
    with zipfile.ZipFile(tmp_path / "in" / "class.zip", "w") as archive:
        archive.writestr("ada.py", UNTOUCHED)
    hidden = []
    monkeypatch.setattr(cmd_teach.sandbox, "hide", hidden.append)
    words = ["grade", str(tmp_path / name), "--out", str(tmp_path / "g.csv"), "--lessons", "1"]
    assert main(words) == 0
    assert hidden == [tmp_path / "in"]


@pytest.mark.parametrize("format", ["gradescope", "github"])
def test_what_is_graded_when_the_time_is_over_counts(tmp_path, monkeypatch, capsys, format):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "01_forward.ipynb").write_text(notebook(RIGHT))

    def late(students, asked, seconds, jobs, done, tick):
        tick(Result(asked[0], students[0].submissions[0], verdict("passed", asked[0])))
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cmd_teach, "grade_class", late)
    assert main(f"grade in --lessons 1 --format {format} --out r.json".split()) == 130
    assert f": r.json: 1 of {OF_LESSON_01} exercises are graded" in capsys.readouterr().err
    tests = json.loads((tmp_path / "r.json").read_text())["tests"]
    assert [test["score"] for test in tests] == [1] + [0] * (int(OF_LESSON_01) - 1)
    assert "the time was over before it was graded" in json.dumps(tests[1:])


def test_interrupted_before_anybody_is_graded(tmp_path, monkeypatch, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ada.py").write_text(UNTOUCHED)

    def early(*args):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cmd_teach, "grade_class", early)
    assert main("grade in --lessons 1".split()) == 130
    says = "0 of 1 students are graded; give the same command to start again"
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("format", ["gradescope", "github"])
def test_one_students_work_is_graded_into_a_file(tmp_path, monkeypatch, capsys, format):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "01_forward.ipynb").write_text(notebook(UNTOUCHED))
    monkeypatch.chdir(tmp_path)
    words = f"grade in --lessons 1 --format {format} --out results/r.json".split()
    assert main(words) == (format == "github"), "its exit status is the verdict"
    made = json.loads((tmp_path / "results" / "r.json").read_text())
    assert [test["score"] for test in made["tests"]] == [0] * int(OF_LESSON_01)
    assert f"results/r.json: 0 of {OF_LESSON_01} points" in capsys.readouterr().out


@pytest.mark.parametrize("format", ["gradescope", "github"])
@pytest.mark.parametrize("text", [None, "", '{"cells": ['])
def test_what_cannot_be_graded_is_in_that_file(tmp_path, monkeypatch, capsys, format, text):
    """No folder, an empty one, a broken notebook: it is there, and says why."""
    if text is not None:
        (tmp_path / "in").mkdir()
    if text:
        (tmp_path / "in" / "01_forward.ipynb").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert main(f"grade in --lessons 1 --format {format} --out r.json".split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    made = json.loads((tmp_path / "r.json").read_text())
    said = made["output"] if format == "gradescope" else made["tests"][0]["message"]
    assert "cannot be graded: " in said and sum(t["score"] for t in made.get("tests", ())) == 0


def test_the_autograders_setup_is_what_grading_needs():
    """Its packages are those of requirements.txt without what only lessons need."""
    text = (exercises.ROOT / "requirements.txt").read_text().split()
    assert set(formats.packages()) < set(text)
    names = {name.rstrip("<>=.0123456789") for name in formats.packages()}
    assert names == {"numpy", "numba", "matplotlib", "pytest", "tqdm"}
    bash = shutil.which("bash")
    for script in (formats.SETUP, formats.RUN.format(lessons=" --lessons 1")):
        assert not bash or subprocess.run([bash, "-n"], input=script, text=True).returncode == 0


def autograder(folder, lessons):
    """Lay out a folder as Gradescope's container: source, run_autograder, submission, results."""
    path = folder / "autograder.zip"
    assert main(["handout", str(path), "--gradescope", "--lessons", lessons]) == 0
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder / "source")
        modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
    assert modes["setup.sh"] & modes["run_autograder"] & 0o100, "they can be run"
    for name in ("submission", "results"):
        (folder / name).mkdir()
    script = folder / "run_autograder"
    script.write_text((folder / "source" / "run_autograder").read_text())
    script.chmod(0o755)

    def run(**more):
        python = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        environment = {key: v for key, v in os.environ.items() if key != "PYTHONPATH"}
        environment |= python | more
        done = subprocess.run([script], cwd=folder.parent, env=environment, capture_output=True)
        assert done.returncode == 0
        return json.loads((folder / "results" / "results.json").read_text())

    return run


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("timeout"), reason="runs as in Ubuntu")
def test_the_autograder_grades_in_gradescopes_folders(tmp_path):
    """Whatever happens there, results.json says it."""
    run = autograder(tmp_path / "autograder", "1")
    made = run()
    assert made["score"] == 0 and "cannot be graded" in made["output"]
    file = tmp_path / "autograder" / "submission" / "01_forward.ipynb"
    file.write_text(notebook(RIGHT))
    made = run()
    assert [t["score"] for t in made["tests"]] == [0, 0, 0, 1]
    assert "graded under: " in made["output"] and str(tmp_path) not in json.dumps(made)
    file.write_text(
        notebook(RIGHT.replace("    signal, noise", "    while True: pass\n    a, noise"))
    )
    made = run(AUTOGRADER_SECONDS="6")
    assert [t["score"] for t in made["tests"]] == [0] * int(OF_LESSON_01)
    assert "the time was over before it was graded" in made["tests"][-1]["output"]
    (tmp_path / "autograder" / "source" / "tinydiff" / "app" / "cli.py").write_text("1 / 0")
    made = run()
    assert made["score"] == 0 and "ended with status 1" in made["output"]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("base64"), reason="runs as in Ubuntu")
def test_github_classroom_grades_a_handout(tmp_path):
    """What the workflow runs, run as there; its output is read as the reporter reads it."""
    yaml = pytest.importorskip("yaml")
    folder = tmp_path / "week1"
    assert main(["handout", str(folder), "--github", "--lessons", "1"]) == 0
    workflow = yaml.safe_load((folder / ".github/workflows/classroom.yml").read_text())
    steps = workflow["jobs"]["run-autograding-tests"]["steps"]
    (step,) = [step for step in steps if step.get("id") == "tinydiff"]
    report = steps[-1]
    assert report["with"]["runners"] == step["id"] and report["if"] == "always()"
    names = {f"{step['id'].upper()}_RESULTS": "${{ steps.tinydiff.outputs.result }}"}
    assert report["env"] == names

    def run():
        (tmp_path / "output").write_text("")
        python = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        environment = {key: v for key, v in os.environ.items() if key != "PYTHONPATH"}
        environment |= python | {"GITHUB_OUTPUT": str(tmp_path / "output")}
        bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = subprocess.run(bash, cwd=folder, env=environment, capture_output=True, text=True)
        said = (tmp_path / "output").read_text().removeprefix("result=")
        return done.returncode, json.loads(base64.b64decode(said))

    status, made = run()
    assert status == 1 and [t["score"] for t in made["tests"]] == [0] * int(OF_LESSON_01)
    path = folder / "lessons" / "01_forward.ipynb"
    lesson = json.loads(path.read_text())
    for e in (e for e in exercises.exercises() if e.lesson == "01_forward"):
        for cell in lesson["cells"]:
            if f"def {e.function}(" in "".join(cell["source"]):
                cell["source"] = with_imports(e)
    path.write_text(json.dumps(lesson))
    status, made = run()
    assert (status, made["status"]) == (0, "pass"), made
    assert sum(t["score"] for t in made["tests"]) == made["max_score"] == int(OF_LESSON_01)


def test_grading_in_the_class_folder_imports_nothing_from_it(tmp_path):
    """And what an earlier run has left there is nobody's work."""
    says = "raise SystemExit('a student runs in the grading process')"
    for name in ("numpy", "tqdm", "csv", "secrets", "re", "tempfile"):
        (tmp_path / f"{name}.py").write_text(says)
    (tmp_path / "ada.py").write_text(UNTOUCHED)
    for _ in range(2):
        words = [sys.executable, "-m", "tinydiff", "grade", ".", "--lessons", "1"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, told(done.stderr)) == (0, "")
    assert set(rows_of(tmp_path / "grades.csv")) == {path.stem for path in tmp_path.glob("*.py")}


# --- interrupted ---


def grading(folder, *more):
    """Start to grade the class in `in`, with a Python of its own -> Popen"""
    words = ["-m", "tinydiff", "grade", "in", "--out", "g.csv", "--lessons", "1", *more]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *words], cwd=folder, start_new_session=True, **pipes)


def family(number):
    """List the processes that a process has started, and those of these -> set of numbers"""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
    found = {number}
    while new := {child for child, parent in parents.items() if parent in found} - found:
        found |= new
    return found - {number}


def is_alive(number):
    """Say whether a process runs; one that is over and that nobody has asked for does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_an_interrupted_class_is_gone_on_with(tmp_path, name):
    """It ends in two seconds, with one line; the table is there; --resume gives the same table."""
    (tmp_path / "in").mkdir()
    loop = RIGHT.replace("    signal, noise", "    while True: pass\n    signal, noise")
    for student, text in {"ada": RIGHT, "bob": loop, "cy": WRONG, "dee": UNTOUCHED}.items():
        (tmp_path / "in" / f"{student}.py").write_text(text)
    whole = grading(tmp_path, "--seconds", "4")
    assert whole.wait(60) == 0, whole.stderr.read()
    want, table = (tmp_path / "g.csv").read_bytes(), tmp_path / "g.csv"
    table.unlink()
    (tmp_path / "g_progress.jsonl").unlink()
    cut = grading(tmp_path, "--seconds", "4", "--jobs", "1")
    deadline = time.monotonic() + 30
    while not table.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(1.5)  # bob's loop is running
    began, started = time.monotonic(), family(cut.pid)
    cut.send_signal(signal.Signals[name])
    cut.wait(10)
    took, said = time.monotonic() - began, told(cut.stderr.read())
    assert took < 2
    time.sleep(0.5)
    assert started and not [number for number in started if is_alive(number)]
    rows = rows_of(table)
    assert list(rows) == ["ada", "bob", "cy", "dee"]
    assert (rows["ada"]["points"], rows["cy"]["problems"]) == ("1", "not graded yet")
    if name == "SIGKILL":
        assert cut.returncode == -signal.SIGKILL
    else:
        assert cut.returncode == 128 + signal.Signals[name]
        assert len(said.splitlines()) == 1, said
        assert "1 of 4 students are graded: g.csv, g_feedback; --resume goes on" in said
    again = grading(tmp_path, "--seconds", "4", "--resume")
    assert again.wait(60) == 0, again.stderr.read()
    assert table.read_bytes() == want
    assert not list(tmp_path.glob(".*.part"))


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
