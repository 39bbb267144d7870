"""Make up a class as it really comes, to grade it: python tests/bench/classes.py 300 FOLDER

Right and wrong answers to lessons 01 and 02, some students hostile, handed in every way that people
find. The hostile ones attack FOLDER.prey, in vain where bubblewrap guards it. What each should get
stands in FOLDER.expected.csv; after

    python -m tinydiff grade FOLDER --out grades.csv --lessons 1-2 --seconds 10

`python tests/bench/classes.py --compare grades.csv FOLDER` names those who got something else.
"""

import argparse
import csv
import json
import random
import shutil
import sys
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_handout import source_of, with_imports

from tinydiff.course.exercises import ROOT, exercises

LESSONS = ("01_forward", "02_posterior")
HOSTILE = {  # before the right answer: (what is done, what the answer gets)
    "loops": ("while True: pass", 0),
    "exits": ("import os; os._exit(0)", 0),
    "hoards": ("import numpy; hoard = [numpy.ones(1 << 27) for _ in range(99)]", 0),
    "shouts": ("raise ValueError('\\x1b[31m' + 'x' * 50_000_000)", 0),
    "prints": ("print('x' * 10_000_000)", 1),
    "leaves a child": (
        "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)",
        1,
    ),
    "kills": ("import os, signal; os.kill(os.getppid(), signal.SIGKILL)", 0),
    "removes": ("import shutil; shutil.rmtree({prey!r}, ignore_errors=True)", 1),
    "writes": ("open({prey!r} + '/written', 'w').write('')", 0),
}


def attacked(text, exercise, attack):
    """Put an attack before the first line of an answer's body -> str"""
    source = source_of(exercise)
    doc = exercise.function and source.index('"""', source.index('"""') + 3) + 3
    return text.replace(source, f"{source[:doc]}\n    {attack}{source[doc:]}")


def beside(folder, what):
    """Name what lies beside a class's folder: Path, str -> Path"""
    return folder.resolve().with_name(f"{folder.name}.{what}")


def answers(kind, chance, folder):
    """Write a student's answers -> dict of lesson to list of cells, points"""
    cells, points = {lesson: ["import numpy as np"] for lesson in LESSONS}, 0
    asked = [e for e in exercises() if e.lesson in LESSONS]
    victim = chance.choice([e for e in asked if e.function in ("q_sample", "q_step", "predict_x0")])
    for e in asked:
        text, gets = with_imports(e), 1
        if kind == "untouched" or (kind == "half" and chance.random() < 0.5):
            text, gets = f"def {e.function}(*args):\n    raise NotImplementedError\n", 0
        elif kind == "wrong" and chance.random() < 0.4:
            old, new, _ = chance.choice(e.mutants)
            source = source_of(e)
            text, gets = text.replace(source, source.replace(old, new)), 0
        elif kind in HOSTILE and e is victim:
            attack, gets = HOSTILE[kind]
            text = attacked(text, e, attack.format(prey=str(beside(folder, "prey"))))
        cells[e.lesson].append(text)
        points += gets
    return cells, points


def notebook(cells):
    empty = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    made = {"cells": [empty | {"source": text} for text in cells], "metadata": {}}
    return json.dumps(made | {"nbformat": 4, "nbformat_minor": 5})


def put(folder, cells, name="{}.ipynb"):
    folder.mkdir(parents=True, exist_ok=True)
    for lesson, texts in cells.items():
        (folder / name.format(lesson)).write_text(notebook(texts))


# --- ways to hand in: functions of (folder of the class, name, cells) -> the row's name ---


def plain(folder, name, cells):
    put(folder / name, cells)


def named(folder, name, cells):
    put(folder, cells, name + "_{}.ipynb")


def as_text(folder, name, cells):
    put(folder / name, cells, "{}.ipynb.txt")


def as_python(folder, name, cells):
    text = "\n\n".join(text for texts in cells.values() for text in texts)
    (folder / f"{name}.py").write_text(text)


def zipped(folder, name, cells):
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
        for lesson, texts in cells.items():
            archive.writestr(f"{name}/{lesson}.ipynb", notebook(texts))


def with_copies(folder, name, cells):
    """Wrong answers in all that is not the lesson's own notebook, an environment among it."""
    put(folder / name, cells)
    wrong = {k: ["\n".join(f"def {e.function}(*a): return 7" for e in exercises())] for k in cells}
    put(folder / name / "backup", wrong)
    put(folder / name, wrong, "{}_old.ipynb")
    put(folder / name, wrong, "{}-Copy1.ipynb")
    packages = folder / name / "venv" / "lib" / "site-packages"
    packages.mkdir(parents=True)
    (folder / name / "venv" / "pyvenv.cfg").write_text("home = /usr\n")
    for k in range(50):
        (packages / f"m{k}.py").write_text(wrong[LESSONS[0]][0])


def whole(folder, name, cells):
    """The package and the tests with it, as students pack the folder that they were given."""
    put(folder / name / "lessons", cells)
    shutil.copytree(ROOT / "tinydiff", folder / name / "tinydiff", ignore=lambda _, names: [
        n for n in names if n == "__pycache__"])  # fmt: skip
    (folder / name / "tests").mkdir()
    (folder / name / "tests" / "handout.json").write_text("[]")


def of_moodle(folder, name, cells):
    number = 10_000 + sum(map(ord, name)) * 100 + len(list(folder.iterdir()))
    put(folder / f"{name}_{number}_assignsubmission_file", cells)
    return f"{name}_{number}"


WAYS = (plain, plain, plain, named, as_text, as_python, zipped, with_copies, whole, of_moodle)
KINDS = ("right", "right", "right", "wrong", "wrong", "wrong", "half", "untouched")


def broken(folder, name, k):
    """Hand in what is no work: a PDF, nothing, half a notebook, a damaged zip -> None"""
    (folder / name).mkdir()
    for file, text in (
        {"hw.pdf": "%PDF"},
        {},
        {"01_forward.ipynb": '{"cells": ['},
        {"a.zip": "PK"},
    )[k % 4].items():
        (folder / name / file).write_text(text)


def make(count, folder, every=10):
    """Make up a class: number of students, Path of a new folder -> dict of row to points

    every: of so many students one is hostile; of twelve, one has handed in no work at all
    """
    chance, expected, hostile = random.Random(0), {}, list(HOSTILE) * count
    folder.mkdir(parents=True)
    beside(folder, "prey").mkdir()
    (beside(folder, "prey") / "whole").write_text("")
    for k in range(count):
        name = f"student {k:03d}"
        if k % 12 == 11:
            broken(folder, name, k // 12)
            expected[name] = 0
            continue
        kind = hostile.pop(0) if k % every == every - 1 else chance.choice(KINDS)
        cells, points = answers(kind, chance, folder)
        row = chance.choice(WAYS)(folder, name, cells) or name
        expected[row] = points
    return expected


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", nargs="?", type=int, default=0)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--compare", type=Path, metavar="GRADES")
    args = parser.parse_args()
    table = beside(args.folder, "expected.csv")
    if not args.compare:
        rows = make(args.count, args.folder).items()
        with open(table, "w", newline="") as file:
            csv.writer(file).writerows(rows)
        print(f"{args.folder}: {len(rows)} students; {table}: what they should get")
        return
    want = {name: int(points) for name, points in csv.reader(table.open())}
    rows = csv.DictReader(args.compare.open(encoding="utf-8-sig"))
    got = {row["student"]: int(row["points"] or -1) for row in rows}
    for name in sorted(want.keys() | got.keys()):
        if want.get(name) != got.get(name):
            print(f"{name}: {got.get(name)}, should be {want.get(name)}")
    print(
        f"{sum(want.get(name) == got.get(name) for name in want)} of {len(want)} as they should be"
    )


if __name__ == "__main__":
    main()
