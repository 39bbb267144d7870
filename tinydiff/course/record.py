"""How far a student is: what has passed, kept in a small file beside the notebook.

It only informs: nothing is graded by it, and where it cannot be read or written, nobody is told.
"""

import json
import os
from html import escape
from pathlib import Path

from ..files import write_whole
from .exercises import exercises
from .verdict import INK, PAPER

NAME = ".tinydiff_progress.json"
ELSEWHERE = "TINYDIFF_PROGRESS"  # environment variable: another file, or "" to keep nothing
DONE, OPEN = "\u25a0", "\u25a1"  # squares, full and empty


class Progress:
    """Which exercises have passed, lesson by lesson. passed: set of their names"""

    def __init__(self, passed):
        lessons = dict.fromkeys(e.lesson for e in exercises())
        self.rows = [(lesson, *of_lesson(lesson, passed)) for lesson in lessons]

    def __repr__(self):
        return "\n".join(f"{lesson:20s}{done:3d} of {count}" for lesson, done, count in self.rows)

    def _repr_html_(self):
        cell = f"text-align:left;background-color:{PAPER};color:{INK}"
        rows = "".join(
            f"<tr><td style='{cell}'>{escape(lesson)}</td>"
            f"<td style='{cell}'>{DONE * done + OPEN * (count - done)}</td>"
            f"<td style='{cell}'>{done} of {count}</td></tr>"
            for lesson, done, count in self.rows
        )
        return f"<table>{rows}</table>"


def of_lesson(lesson, passed):
    """Count a lesson's exercises: "01_forward", set of names -> how many passed, how many it has"""
    names = {e.name for e in exercises() if e.lesson == lesson}
    return len(names & passed), len(names)


def read():
    """List what has passed, as far as it is known: () -> set of names of exercises"""
    try:
        passed = json.loads(_path().read_text(encoding="utf-8"))["passed"]
        return {name for name in passed if isinstance(name, str)}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def note(exercise, passed):
    """Keep how an exercise went last: Exercise, bool -> "3 of 5 exercises of this lesson passed"

    None where nothing can be, or is to be, kept.
    """
    known = read() - {exercise.name} | ({exercise.name} if passed else set())
    text = json.dumps({"passed": sorted(known)}, indent=1).encode()
    if not os.environ.get(ELSEWHERE, NAME):
        return None
    try:
        write_whole(_path(), lambda f: f.write(text))
    except OSError:
        return None
    done, count = of_lesson(exercise.lesson, known)
    return f"{done} of {count} exercises of this lesson passed"


def _path():
    return Path(os.environ.get(ELSEWHERE, NAME))
