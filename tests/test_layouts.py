"""Classes as they come: who is who, which file counts, and what is left out with its reason."""

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from test_handout import nothing_known, source_of, with_imports

from tinydiff.course import exercises, folders, grade, handed_in, handout, worker
from tinydiff.course.submission import Unreadable

Q_SAMPLE = exercises.find("q_sample")
RIGHT = with_imports(Q_SAMPLE)
WRONG = RIGHT.replace("noise * eps", "noise**2 * eps")
STUB = "def q_sample(s, x0, t, eps):\n    raise NotImplementedError\n"
PACKAGE = {f"{name}.py": WRONG for name in ("schedule", "diffusion", "sample", "unet", "train")}
PACKAGE |= {"autodiff.py": "", "__init__.py": ""}


def notebook(*cells):
    """Write cells of code as a notebook: -> str"""
    empty = {"cell_type": "code", "metadata": {}, "outputs": []}
    return json.dumps({"cells": [empty | {"source": text} for text in cells], "nbformat": 4})


BOOK, OTHER, UNTOUCHED = notebook(RIGHT), notebook(WRONG), notebook(STUB)


def zipped(files):
    """Pack files: dict of name to text or bytes -> bytes"""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def encrypted(files):
    """Pack files, and mark them as encrypted -> bytes"""
    data = bytearray(zipped(files))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    return bytes(data)


def laid_out(folder, files):
    """Write a class: Path, dict of name to text, bytes, or a Path = a link -> Path"""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
        elif isinstance(content, Path):
            path.symlink_to(content)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


# name: (files, {student: (the file that counts for q_sample, words of what is said)})
LAYOUTS = {
    "a file each": (
        {"ada.ipynb": BOOK, "bob.py": RIGHT},
        {"ada": ("ada.ipynb", ()), "bob": ("bob.py", ())},
    ),
    "a folder each": (
        {"ada/01_forward.ipynb": BOOK, "ada/02_posterior.ipynb": UNTOUCHED, "bob/": ""},
        {
            "ada": ("ada/01_forward.ipynb", ()),
            "bob": (None, ["no notebook and no .py"]),
        },
    ),
    "a file and a folder of one name": (
        {"ada.py": WRONG, "ada/01_forward.ipynb": BOOK},
        {"ada": ("ada/01_forward.ipynb", ())},
    ),
    "a zip each, with and without a folder in it": (
        {"ada.zip": zipped({"hw/01_forward.ipynb": BOOK}), "bob.zip": zipped({"a.py": RIGHT})},
        {"ada": ("ada.zip/hw/01_forward.ipynb", ()), "bob": ("bob.zip/a.py", ())},
    ),
    "a zip in a folder, and one in it": (
        {"ada/hw.zip": zipped({"in.zip": zipped({"a.py": RIGHT, "deep.zip": b""}), "x.txt": ""})},
        {"ada": ("ada/hw.zip/in.zip/a.py", ["deep.zip (a zip in a zip in a zip)"])},
    ),
    "what a Mac and Windows add": (
        {
            "ada.zip": zipped({"01_forward.ipynb": BOOK, "__MACOSX/._01_forward.ipynb": b"\0\5"}),
            "bob/._01_forward.ipynb": b"\0\5\26\7",
            "bob/01_forward.ipynb": BOOK,
            "bob/Thumbs.db": b"x",
            ".DS_Store": b"x",
            "._ada.ipynb": b"\0\5",
            "desktop.ini": "x",
        },
        {
            "ada": ("ada.zip/01_forward.ipynb", ["__MACOSX (hidden)"]),
            "bob": ("bob/01_forward.ipynb", ["._01_forward.ipynb, Thumbs.db (hidden)"]),
        },
    ),
    "zips that are none": (
        {
            "ada.zip": b"PK",
            "bob.zip": encrypted({"a.py": RIGHT}),
            "cy.zip": zipped({"../../a.py": RIGHT, "/b.py": RIGHT, "C:\\c.py": RIGHT}),
            "dee.ipynb": BOOK,
        },
        {
            "ada": (None, ["ada.zip (a damaged zip)"]),
            "bob": (None, ["a.py (encrypted: hand it in without a password)"]),
            "cy": (None, [f"{name}.py (a name that leads out of the zip)" for name in "abc"]),
            "dee": ("dee.ipynb", ()),
        },
    ),
    "copies, a backup, an old one": (
        {
            "ada/01_forward.ipynb": BOOK,
            "ada/01_forward_old.ipynb": OTHER,
            "ada/01_forward-Copy1.ipynb": OTHER,
            "ada/01_forward (1).ipynb": OTHER,
            "ada/zz.ipynb": OTHER,
            "ada/zz.py": WRONG,
            "ada/backup/01_forward.ipynb": OTHER,
            "bob/backup/01_forward.ipynb": OTHER,
            "bob/late.py": RIGHT,
        },
        {"ada": ("ada/01_forward.ipynb", ()), "bob": ("bob/late.py", ())},
    ),
    "students called old, backup and venv": (
        {
            "old/01_forward.ipynb": BOOK,
            "old/01_forward_old.ipynb": OTHER,
            "backup/01_forward.ipynb": BOOK,
            "backup/backup/01_forward.ipynb": OTHER,
            "venv/01_forward.ipynb": BOOK,
            "venv/venv/lib/site-packages/theirs.py": WRONG,
        },
        {
            "backup": ("backup/01_forward.ipynb", ()),
            "old": ("old/01_forward.ipynb", ()),
            "venv": ("venv/01_forward.ipynb", ["site-packages/ (an environment: 1 file)"]),
        },
    ),
    "the last copy counts, never the old one": (
        {
            "ada/01_forward_v2.ipynb": OTHER,
            "ada/01_forward_v10.ipynb": BOOK,
            "ada/01_forward_old.ipynb": OTHER,
            "bob/01_forward_old.ipynb": BOOK,
            "bob/work.ipynb": OTHER,
        },
        {
            "ada": ("ada/01_forward_v10.ipynb", ()),
            "bob": ("bob/01_forward_old.ipynb", ()),
        },
    ),
    "a stub never beats an attempt": (
        {
            "ada/01_forward.ipynb": UNTOUCHED,
            "ada/lessons/01_forward-Copy1.ipynb": BOOK,
            "bob/01_forward.ipynb": UNTOUCHED,
            "bob/old/try.py": RIGHT,
        },
        {
            "ada": ("ada/lessons/01_forward-Copy1.ipynb", ()),
            "bob": ("bob/old/try.py", ()),
        },
    ),
    "notebooks before .py, shallow before deep, last by name": (
        {
            "ada/a.py": WRONG,
            "ada/work.ipynb": BOOK,
            "bob/deep/z.ipynb": OTHER,
            "bob/a.ipynb": BOOK,
            "cy/1.ipynb": OTHER,
            "cy/2.ipynb": BOOK,
            "dee/01_forward.py": RIGHT,
            "dee/z.py": WRONG,
        },
        {
            "ada": ("ada/work.ipynb", ()),
            "bob": ("bob/a.ipynb", ()),
            "cy": ("cy/2.ipynb", ()),
            "dee": ("dee/01_forward.py", ()),
        },
    ),
    "an environment beside the notebook": (
        {
            "ada/01_forward.ipynb": BOOK,
            "ada/venv/pyvenv.cfg": "",
            "ada/venv/lib/python3/site-packages/q.py": WRONG,
            "ada/conda/conda-meta/history": "",
            "ada/conda/q.py": WRONG,
            "ada/__pycache__/q.py": WRONG,
            "ada/node_modules/q.py": WRONG,
            "ada/.ipynb_checkpoints/01_forward-checkpoint.ipynb": OTHER,
        },
        {
            "ada": (
                "ada/01_forward.ipynb",
                [
                    "venv/ (an environment: 2 files)",
                    "conda/ (an environment: 2 files)",
                    "__pycache__/ (an environment: 1 file)",
                    "node_modules/ (an environment: 1 file)",
                    ".ipynb_checkpoints (hidden)",
                ],
            )
        },
    ),
    "the whole handout": (
        {f"ada/tinydiff/{name}": text for name, text in PACKAGE.items()}
        | {
            "ada/lessons/01_forward.ipynb": UNTOUCHED,
            "ada/tests/handout.json": "[]",
            "ada/tests/test_diffusion.py": WRONG,
            "ada/data/packing.py": WRONG,
            "ada/diffusion.py": WRONG,
            "ada/tinydiff/mine.ipynb": BOOK,
        },
        {
            "ada": (
                "ada/tinydiff/mine.ipynb",
                [
                    "tinydiff/ (the package; answers belong into the notebooks: 7 files)",
                    "tests/ (the tests: 2 files)",
                    "data/ (the data: 1 file)",
                    "diffusion.py (a file of the package)",
                ],
            )
        },
    ),
    "the package under another name, or spread out": (
        {f"ada/diffusion-main/{name}": text for name, text in PACKAGE.items()}
        | {f"bob/{name}": text for name, text in PACKAGE.items()}
        | {"bob/work.ipynb": BOOK},
        {
            "ada": (None, ["diffusion-main/ (the package"]),
            "bob": ("bob/work.ipynb", ["bob/ (the package"]),
        },
    ),
    "handed in as something else": (
        {
            "ada.ipynb": BOOK,
            "bob.pdf": "%PDF",
            "cy.docx": "PK",
            "dan.ipynb.txt": BOOK,
            "eve.ipynb.json": BOOK,
            "fay.html": "x",
            "gus/hw.rar": "Rar!",
            "hal/photo.JPG": b"\xff\xd8",
            "ivy.py.txt": RIGHT,
            "joe.ipynb": "{",
            "kim.ipynb": "",
            "lea.tar.gz": "x",
            "mia.ipynb.zip": zipped({"mia.ipynb": BOOK}),
        },
        {
            "ada": ("ada.ipynb", ()),
            "bob": (None, ["bob.pdf (a PDF: hand in the notebook itself)"]),
            "cy": (None, ["cy.docx (a text for a word processor"]),
            "dan": ("dan.ipynb.txt", ()),
            "eve": ("eve.ipynb.json", ()),
            "fay": (None, ["fay.html (a web page"]),
            "gus": (None, ["hw.rar (packed, but no zip"]),
            "hal": (None, ["photo.JPG (a picture"]),
            "ivy": ("ivy.py.txt", ()),
            "joe": (None, ["joe.ipynb is not a notebook"]),
            "kim": (None, ["kim.ipynb is not a notebook"]),
            "lea": (None, ["lea.tar.gz (packed, but no zip"]),
            "mia": ("mia.ipynb.zip/mia.ipynb", ()),
        },
    ),
    "names that begin with a line or a dot": (
        {"_fay.ipynb": BOOK, "_gus/01_forward.ipynb": BOOK, ".hal.ipynb": BOOK},
        {
            "_fay": ("_fay.ipynb", ()),
            "_gus": ("_gus/01_forward.ipynb", ()),
            ".hal": (".hal.ipynb", ()),
        },
    ),
    "links": (
        {
            "elsewhere/ada.ipynb": BOOK,
            "ada.ipynb": Path("elsewhere/ada.ipynb"),
            "bob.ipynb": Path("no/where"),
            "cy/01_forward.ipynb": Path("../elsewhere/ada.ipynb"),
            "dee/work/a.ipynb": BOOK,
            "dee/01_forward.ipynb": Path("work/a.ipynb"),
            "dee/loop": Path("."),
            "eve": Path("elsewhere"),
        },
        {
            "ada": (None, ["ada.ipynb (a link to something else"]),
            "bob": (None, ["bob.ipynb (a link to nothing)"]),
            "cy": (None, ["01_forward.ipynb (a link that leads out of the folder)"]),
            "dee": ("dee/01_forward.ipynb", ["loop (a link to another folder)"]),
            "elsewhere": ("elsewhere/ada.ipynb", ()),
            "eve": (None, ["eve (a link to something else"]),
        },
    ),
    "links to others of the same group": (
        {
            "groupA/ada.py": RIGHT,
            "groupA/bob/a.py": WRONG,
            "groupA/cy.py": Path("ada.py"),
            "groupA/dee/a.py": Path("../ada.py"),
        },
        {
            "ada": ("groupA/ada.py", ()),
            "bob": ("groupA/bob/a.py", ()),
            "cy": (None, ["cy.py (a link to something else"]),
            "dee": (None, ["a.py (a link that leads out of the folder)"]),
        },
    ),
    "two groups": (
        {"groupA/ada.py": RIGHT, "groupA/bob.py": WRONG, "groupB/cy.ipynb": BOOK},
        {
            "groupA/ada": ("groupA/ada.py", ()),
            "groupA/bob": ("groupA/bob.py", ()),
            "groupB/cy": ("groupB/cy.ipynb", ()),
        },
    ),
    "groups of folders, one of them a zip": (
        {
            "Group 1/ada/01_forward.ipynb": BOOK,
            "Group 1/bob/01_forward.ipynb": OTHER,
            "Group 2.zip": zipped({"cy/a.py": RIGHT, "dee/b.py": RIGHT}),
        },
        {
            "Group 1/ada": ("Group 1/ada/01_forward.ipynb", ()),
            "Group 1/bob": ("Group 1/bob/01_forward.ipynb", ()),
            "Group 2.zip/cy": ("Group 2.zip/cy/a.py", ()),
            "Group 2.zip/dee": ("Group 2.zip/dee/b.py", ()),
        },
    ),
    "groups that hand in together": (
        {
            "team1/01_forward.ipynb": BOOK,
            "team1/02_posterior.ipynb": UNTOUCHED,
            "team2/answers.py": RIGHT,
            "team2/helpers.py": "def keep(x):\n    return x\n",
            "lab3/week1/01_forward.ipynb": BOOK,
        },
        {
            "lab3": ("lab3/week1/01_forward.ipynb", ()),
            "team1": ("team1/01_forward.ipynb", ()),
            "team2": ("team2/answers.py", ()),
        },
    ),
    "one student, in doubt": (
        {"ada/b.py": RIGHT, "ada/a.py": WRONG, "bob/x/a.py": WRONG, "bob/y/a.py": RIGHT},
        {"ada": ("ada/b.py", ()), "bob": ("bob/y/a.py", ())},
    ),
    "Moodle": (
        {
            "Ada L_123_assignsubmission_file_/01_forward.ipynb": BOOK,
            "Ada L_123_assignsubmission_onlinetext_/onlinetext.html": "<p>",
            "Bob_124_assignsubmission_file_/hw.zip": zipped({"a.py": RIGHT}),
            "Cy_125_assignsubmission_file_01_forward.ipynb": BOOK,
        },
        {
            "Ada L_123": ("Ada L_123_assignsubmission_file_/01_forward.ipynb", ["onlinetext.html"]),
            "Bob_124": ("Bob_124_assignsubmission_file_/hw.zip/a.py", ()),
            "Cy_125": ("Cy_125_assignsubmission_file_01_forward.ipynb", ()),
        },
    ),
    "Moodle in groups": (
        {"Tuesday/Ada_123_assignsubmission_file_/a.py": RIGHT}
        | {"Tuesday/Bob_124_assignsubmission_file_/a.py": RIGHT}
        | {"Monday/Cy_125_assignsubmission_file_/a.py": RIGHT},
        {
            "Monday/Cy_125": ("Monday/Cy_125_assignsubmission_file_/a.py", ()),
            "Tuesday/Ada_123": ("Tuesday/Ada_123_assignsubmission_file_/a.py", ()),
            "Tuesday/Bob_124": ("Tuesday/Bob_124_assignsubmission_file_/a.py", ()),
        },
    ),
    "one student's folder with names of others in it": (
        {
            "Mallory_12_assignsubmission_file/Ada_4711_assignsubmission_file_a.py": RIGHT,
            "Mallory_12_assignsubmission_file/Ben_4712_assignsubmission_file_a.py": RIGHT,
            "Ada_4711_assignsubmission_file_a.py": WRONG,
        },
        {
            "Ada_4711": ("Ada_4711_assignsubmission_file_a.py", ()),
            "Mallory_12": (
                "Mallory_12_assignsubmission_file/Ben_4712_assignsubmission_file_a.py",
                (),
            ),
        },
    ),
    "alone with names of others": (
        {
            "Mallory_12_assignsubmission_file/Ada_4711_assignsubmission_file_a.py": WRONG,
            "Mallory_12_assignsubmission_file/Ben_4712_assignsubmission_file_a.py": RIGHT,
        },
        {
            "Mallory_12": (
                "Mallory_12_assignsubmission_file/Ben_4712_assignsubmission_file_a.py",
                (),
            ),
        },
    ),
    "perhaps several students": (
        {"Tuesday/ada.ipynb": BOOK, "Tuesday/bob.ipynb": OTHER, "cy.ipynb": BOOK},
        {
            "Tuesday": (
                "Tuesday/bob.ipynb",
                ["ada.ipynb, bob.ipynb attempt the same exercise: are these several students?"],
            ),
            "cy": ("cy.ipynb", ()),
        },
    ),
    "Canvas": (
        {
            "lovelaceada_1234_56789_01_forward.ipynb": BOOK,
            "lovelaceada_1234_56790_02_posterior.ipynb": UNTOUCHED,
            "bob_LATE_1235_56791_01_forward-1.ipynb": BOOK,
            "cy_1236_56792_hw.zip": zipped({"01_forward.ipynb": BOOK}),
        },
        {
            "bob_1235": ("bob_LATE_1235_56791_01_forward-1.ipynb", ()),
            "cy_1236": ("cy_1236_56792_hw.zip/01_forward.ipynb", ()),
            "lovelaceada_1234": ("lovelaceada_1234_56789_01_forward.ipynb", ()),
        },
    ),
    "lessons of one student side by side, and a second download": (
        {
            "ada_01_forward.ipynb": BOOK,
            "ada_02_posterior.ipynb": UNTOUCHED,
            "bob.ipynb": OTHER,
            "bob (1).ipynb": BOOK,
            "cy (1).ipynb": BOOK,
        },
        {
            "ada": ("ada_01_forward.ipynb", ()),
            "bob": ("bob.ipynb", ()),
            "cy (1)": ("cy (1).ipynb", ()),
        },
    ),
    "all in one zip": (
        {"all.zip": zipped({"all/ada/01_forward.ipynb": BOOK, "all/bob/work.ipynb": OTHER})},
        {
            "ada": ("all.zip/all/ada/01_forward.ipynb", ()),
            "bob": ("all.zip/all/bob/work.ipynb", ()),
        },
    ),
    "all in one folder": (
        {"submissions/ada.ipynb": BOOK, "submissions/bob.ipynb": OTHER},
        {"ada": ("submissions/ada.ipynb", ()), "bob": ("submissions/bob.ipynb", ())},
    ),
    "a class of one": (
        {"ada/try/01_forward.ipynb": OTHER, "ada/week1/lessons/01_forward.ipynb": BOOK},
        {"ada": ("ada/try/01_forward.ipynb", ())},
    ),
    "what the grading itself wrote": (
        {
            "ada.py": RIGHT,
            "grades.csv": "student,points",
            "grades_feedback/ada.txt": "points: 1",
            "grades_progress.jsonl": "{}",
            "grades_moodle.csv": "x",
        },
        {"ada": ("ada.py", ())},
    ),
    "names that look like what the grading wrote": (
        {
            "grades_ann/a.py": RIGHT,
            "bo_feedback/a.py": RIGHT,
            "ada.json": "{}",
            "cy.csv": "x",
            "gradesjohn_125_4570_hw.zip": zipped({"a.py": RIGHT}),
            "Ada Byron_4711_assignsubmission_file_answers.json": "{}",
            "README.md": "x",
        },
        {
            "Ada Byron_4711": (None, ["no notebook and no .py: Ada Byron_4711_assignsubmission_"]),
            "README": (None, ["no notebook and no .py: README.md"]),
            "ada": (None, ["no notebook and no .py: ada.json"]),
            "bo_feedback": ("bo_feedback/a.py", ()),
            "cy": (None, ["no notebook and no .py: cy.csv"]),
            "grades_ann": ("grades_ann/a.py", ()),
            "gradesjohn_125": ("gradesjohn_125_4570_hw.zip/a.py", ()),
        },
    ),
    "odd names": (
        {
            "J. Smith.ipynb": BOOK,
            "j.doe/a.py": RIGHT,
            "\u0141ukasz/a.py": RIGHT,
            "\udcff.py": RIGHT,
        },
        {
            "J. Smith": ("J. Smith.ipynb", ()),
            "j.doe": ("j.doe/a.py", ()),
            "\u0141ukasz": ("\u0141ukasz/a.py", ()),
            "\udcff": ("\udcff.py", ()),
        },
    ),
    "folders without end": (
        {"ada/" + "x/" * 60 + "a.py": RIGHT, "bob.zip": zipped({"y/" * 3000 + "a.py": RIGHT})},
        {
            "ada": (None, ["(folders nested too deeply)"]),
            "bob": (None, ["(folders nested too deeply)"]),
        },
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_class_is_read(name, tmp_path):
    files, wanted = LAYOUTS[name]
    folder = laid_out(tmp_path / "in", files)
    students = handed_in.read_class(folder)
    counting = {s.name: handed_in.counts(s.submissions, Q_SAMPLE) for s in students}
    assert [s.name for s in students] == sorted(wanted)
    for student in students:
        came, (file, words) = counting[student.name], wanted[student.name]
        assert (came and came.path.relative_to(folder).as_posix()) == file
        said = "\n".join([*student.left_out, *student.problems])
        assert [word for word in words if word not in said] == [], said
        assert words or not said, said


# --- what else is known of a student ---


def only(folder, files):
    """Read a class of one -> Student"""
    (student,) = handed_in.read_class(laid_out(folder, files))
    return student


def test_the_number_that_a_platform_gave(tmp_path):
    name = "Ada L_123_assignsubmission_file_/a.py"
    assert only(tmp_path, {name: RIGHT}).id == "123"
    assert only(tmp_path / "x", {"ada_1234_56789_a.py": RIGHT}).id == "1234"
    assert only(tmp_path / "y", {"ada.py": RIGHT}).id == ""


def test_files_that_answers_import_come_along_by_their_names_there(tmp_path):
    inside = {"hw/01_forward.ipynb": BOOK, "hw/lib/deep.py": "x = 1", "hw/table.csv": "1,2"}
    student = only(tmp_path, {"ada.zip": zipped(inside)})
    assert {"lib/deep.py": b"x = 1", "table.csv": b"1,2"}.items() <= student.beside.items()
    assert not [name for name in student.beside if "hw" in name or ".ipynb" in name]
    files = {"ada/lessons/01_forward.ipynb": BOOK, "ada/lessons/keep.py": "y", "ada/a.py": "z"}
    more = {
        "ada/.env": "x",
        "ada/a.pdf": "x",
        "ada/tinydiff/mine.py": "x",
        "ada/venv/pyvenv.cfg": "",
    }
    student = only(tmp_path / "b", files | more)
    assert {"keep.py": b"y", "a.py": b"z"}.items() <= student.beside.items()
    assert not {".env", "a.pdf", "tinydiff/mine.py", "venv/pyvenv.cfg"} & set(student.beside)


def test_what_this_run_writes_is_nobodys_work(tmp_path):
    files = {"ada.py": RIGHT, "of.csv": "x", "of_feedback/ada.txt": "x", "other.csv": "x"}
    folder = laid_out(tmp_path / "in", files)
    written = [folder / "of.csv", folder / "of_feedback", tmp_path / "other.csv"]
    assert [s.name for s in handed_in.read_class(folder, written)] == ["ada", "other"]


PASSED = "def q_sample(s, x0, t, eps):\n    return x0\n"


@pytest.mark.parametrize(
    "handed_out, book, in_package, is_lost",
    [
        ('[{"name": "diffusion.q_sample"}]', UNTOUCHED, PASSED, True),
        ('[{"name": "diffusion.q_sample"}]', UNTOUCHED, RIGHT, True),
        ('[{"name": "diffusion.q_sample"}]', None, PASSED, True),
        ('[{"name": "diffusion.q_sample"}]', BOOK, PASSED, False),
        ('[{"name": "diffusion.q_sample"}]', UNTOUCHED, STUB, False),
        ('[{"name": "schedule.linear"}]', UNTOUCHED, PASSED, False),
        ("[[" * 9000, UNTOUCHED, PASSED, False),
        (None, UNTOUCHED, PASSED, True),
        (None, UNTOUCHED, source_of(Q_SAMPLE), False),
        (None, UNTOUCHED, "def q_sample(:", False),
    ],
)
def test_answers_only_in_the_package_are_a_problem(tmp_path, handed_out, book, in_package, is_lost):
    files = {"ada/tinydiff/__init__.py": "", "ada/tinydiff/diffusion.py": in_package}
    files |= {"ada/tests/handout.json": handed_out} if handed_out else {}
    files |= {"ada/lessons/01_forward.ipynb": book} if book else {"ada/notes.py": "x = 1"}
    said = "".join(only(tmp_path, files).problems)
    assert ("tinydiff/ holds answers that no notebook has: q_sample" in said) == is_lost, said


def test_large_files_stay_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(handed_in, "ALL_BESIDE", 1000)
    monkeypatch.setattr(handed_in, "BESIDE", 900)
    texts = {f"ada/{k}.csv": "x" * 400 for k in range(5)} | {"ada/large.npy": "x" * 901}
    student = only(tmp_path, {"ada/01_forward.ipynb": BOOK} | texts)
    assert len(student.beside) == 2
    (line,) = student.left_out
    assert line.startswith("large.npy (larger than ")


@pytest.mark.parametrize(
    "limit, says",
    [
        ({"BIGGEST": 1000}, "a.py (larger than 0 MB)"),
        ({"MEMBERS": 1}, "ada.zip (a zip of more than 1 files)"),
        ({"SMALL": 1000}, "a.py (packed more tightly than 100:1)"),
    ],
)
def test_a_zip_that_grows_is_left_alone(tmp_path, monkeypatch, limit, says):
    for name, value in limit.items():
        monkeypatch.setattr(folders, name, value)
    student = only(tmp_path, {"ada.zip": zipped({"a.py": "#" * 10**6, "b.txt": ""})})
    assert student.submissions == [] and says in "".join([*student.problems, *student.left_out])


def test_all_of_a_zip_together_has_a_limit_too(tmp_path, monkeypatch):
    monkeypatch.setattr(handed_in, "UNPACKED", 1000)
    inside = {f"{name}.py": "#" * 600 for name in "ab"}
    student = only(tmp_path, {"ada.zip": zipped({"in.zip": zipped(inside)})})
    assert len(student.submissions) == 1
    assert "b.py (more than 0 MB in a student's zips)" in "".join(student.problems)


def test_zips_in_a_zip_count_as_what_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(handed_in, "UNPACKED", 1000)
    student = only(tmp_path, {"ada.zip": zipped({"in.zip": bytes(2000)})})
    assert student.left_out == ["in.zip (more than 0 MB in a student's zips)"]


@pytest.mark.parametrize("top", ["", "submissions/"])
def test_no_student_of_a_class_in_a_zip_takes_the_room_of_another(tmp_path, monkeypatch, top):
    """Notebooks come before other files."""
    monkeypatch.setattr(handed_in, "UNPACKED", 3000)
    files = {f"{top}aaron/{k}.py": RIGHT + "#" * 1500 for k in range(3)}
    files |= {f"{top}{name}/a.txt": "x" * 2500 for name in ("bob", "cy")}
    files |= {f"{top}{name}/b.ipynb": BOOK for name in ("bob", "cy")}
    (tmp_path / "class.zip").write_bytes(zipped(files))
    students = {s.name: s for s in handed_in.read_class(tmp_path / "class.zip")}
    assert list(students) == ["aaron", "bob", "cy"]
    assert [len(students[name].submissions) for name in students] == [1, 1, 1]
    assert "more than 0 MB" in "".join(students["aaron"].problems)


def test_a_damaged_member_costs_only_itself(tmp_path):
    data = zipped({"a.py": RIGHT, "b.py": "x = 1\n" * 99})
    at = data.index(b"b.py") + 8
    student = only(tmp_path, {"ada.zip": data[:at] + b"\xff" * 8 + data[at + 8 :]})
    assert student.problems == ["b.py (a damaged zip)"]
    assert [s.path.name for s in student.submissions] == ["a.py"]


def test_a_file_that_cannot_be_read_is_a_line(tmp_path, monkeypatch):
    def refuse(path, real=Path.read_bytes):
        if path.name == "a.py":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    student = only(tmp_path, {"ada/a.py": RIGHT, "ada/01_forward.ipynb": BOOK})
    assert student.problems == ["a.py (a file that cannot be read (Permission denied))"]
    assert len(student.submissions) == 1


def test_a_student_is_graded_in_some_lessons_only(tmp_path):
    (tmp_path / "a.py").write_text(STUB)
    words = [sys.executable, "-m", "pytest", "--grade", str(tmp_path / "a.py"), "--grade-lessons"]
    run = lambda text: subprocess.run(
        [*words, text], cwd=exercises.ROOT, capture_output=True, text=True
    )
    of = len([e for e in exercises.exercises() if e.lesson[:2] == "01"])
    assert f"points: 0 of {of} (" in run("1").stdout
    done = run("1-")
    assert done.returncode == 4 and "--grade-lessons takes numbers and ranges" in done.stderr


# --- what is no class ---


@pytest.mark.parametrize(
    "files, says",
    [
        ({"01_forward.ipynb": BOOK}, "it contains 01_forward.ipynb; give the folder in which"),
        ({"tinydiff/diffusion.py": RIGHT}, "it contains tinydiff; give the folder in which"),
        ({}, "holds no notebook and no .py"),
        ({"ada/notes.txt": "x"}, "holds no notebook and no .py"),
    ],
)
def test_one_student_or_nobody_is_no_class(tmp_path, files, says):
    with pytest.raises(Unreadable, match=says):
        handed_in.read_class(laid_out(tmp_path / "in", files))


def test_a_class_may_be_a_zip_but_no_other_file(tmp_path):
    path = tmp_path / "class.zip"
    path.write_bytes(zipped({"ada/a.py": RIGHT, "bob.ipynb": BOOK}))
    assert [s.name for s in handed_in.read_class(path)] == ["ada", "bob"]
    for name in ("nowhere", "a.txt", "nowhere.zip"):
        (tmp_path / "a.txt").touch()
        with pytest.raises(Unreadable, match=f"{name} is not a folder"):
            handed_in.read_class(tmp_path / name)


# --- one student, for pytest ---


def test_one_student_by_files_folders_and_zips(tmp_path):
    laid_out(
        tmp_path, {"a.py": WRONG, "b/01_forward.ipynb": BOOK, "c.zip": zipped({"c.py": RIGHT})}
    )
    paths = [tmp_path / name for name in ("a.py", "b", "c.zip")]
    student = handed_in.read_student(map(str, paths))
    found = {s.path.relative_to(tmp_path).as_posix() for s in student.submissions}
    assert found == {"a.py", "b/01_forward.ipynb", "c.zip/c.py"}
    assert handed_in.counts(student.submissions, Q_SAMPLE).path.name == "01_forward.ipynb"


@pytest.mark.parametrize(
    "files, says",
    [
        ({}, "a cannot be read \\(No such file or directory\\): give a notebook or a .py"),
        ({"a/": ""}, "a holds no notebook and no .py"),
        ({"a/b.zip": b"PK"}, "a holds no notebook and no .py: b.zip \\(a damaged zip\\)"),
        ({"a/b.ipynb": "{"}, "b.ipynb is not a notebook"),
    ],
)
def test_nothing_to_grade_is_one_line(tmp_path, files, says):
    laid_out(tmp_path, files)
    with pytest.raises(Unreadable, match=says) as refused:
        handed_in.read_student([tmp_path / "a"])
    assert len(str(refused.value).splitlines()) == 1


def test_a_broken_cell_is_an_attempt(tmp_path):
    files = {"ada/01_forward.ipynb": notebook("def q_sample(:\n    pass"), "ada/old.py": RIGHT}
    student = only(tmp_path, files)
    assert handed_in.counts(student.submissions, Q_SAMPLE).path.name == "01_forward.ipynb"


# --- what lies where the command is given ---


def test_a_handed_in_module_is_not_imported_by_the_command(tmp_path):
    for name in ("tqdm", "numpy", "csv", "secrets", "shlex"):
        (tmp_path / f"{name}.py").write_text(f"import sys; sys.exit('{name} of a student')")
    environment = os.environ | {"PYTHONPATH": str(exercises.ROOT)}
    command = [sys.executable, "-m", "tinydiff", "grade", "nowhere"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stderr.startswith("tinydiff: nowhere is not a folder")


# --- graded ---


def points(student, lessons):
    asked = [e for e in exercises.exercises() if int(e.lesson[:2]) in lessons]
    results = worker.grade_student(student.submissions, asked, 60.0, student.beside)
    return {r.exercise.function for r in results if r.points}


@pytest.mark.slow
def test_a_whole_handout_gets_what_its_notebooks_alone_get(tmp_path, monkeypatch):
    """Untouched nothing, of no lesson; with the answers in its notebooks those, and no others."""
    monkeypatch.setattr(grade, "known", nothing_known)
    tree = tmp_path / "class" / "untouched"
    tree.mkdir(parents=True)
    handout.write_tree(tree, {1})
    handed = [e for e in exercises.exercises() if e.lesson == "01_forward"]
    filled, alone = tmp_path / "class" / "filled", tmp_path / "class" / "alone"
    for folder in (filled, alone):
        shutil.copytree(tree, folder)
        path = folder / "lessons" / "01_forward.ipynb"
        lesson = json.loads(path.read_text(encoding="utf-8"))
        for cell in lesson["cells"]:
            for e in handed:
                if f"def {e.function}(" in "".join(cell["source"]) and cell["cell_type"] == "code":
                    cell["source"] = with_imports(e)
        path.write_text(json.dumps(lesson), encoding="utf-8")
    for name in ("tinydiff", "tests", "data"):
        shutil.rmtree(alone / name)
    students = {s.name: s for s in handed_in.read_class(tmp_path / "class")}
    right = {e.function for e in handed}
    assert points(students["filled"], {1, 2, 3}) == points(students["alone"], {1, 2, 3}) == right
    assert points(students["untouched"], {1, 2, 3, 5}) == set()


@pytest.mark.slow
def test_a_zip_with_a_helper_is_graded_as_its_folder(tmp_path):
    body = source_of(Q_SAMPLE).replace("noise * eps", "keep(noise) * eps")
    book = notebook(RIGHT.partition("\n")[0] + "\nfrom helpers import keep", body)
    files = {"hw/01_forward.ipynb": book, "hw/helpers.py": "def keep(x):\n    return x\n"}
    laid_out(tmp_path, {"ada.zip": zipped(files)} | {f"bob/{n}": t for n, t in files.items()})
    for student in handed_in.read_class(tmp_path):
        assert points(student, {1}) == {"q_sample"}, student.name
