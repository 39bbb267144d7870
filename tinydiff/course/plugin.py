"""Grade what one student handed in: `python -m pytest --grade FILE ... [--grade-csv grades.csv]`.

A FILE is a notebook, a .py, a folder or a zip of them. This plugin (an entry point in
pyproject.toml) is loaded in every run of pytest in the environment, whatever the project: so it
leaves all other runs alone, and imports what grades, and NumPy with it, only when it grades.
"""

import sys
from pathlib import Path

from .exercises import MARK, ROOT, SECONDS, in_handout


def pytest_addoption(parser):
    """Add the options of grading to pytest's command line."""
    grade = "grade the exercises in notebooks, .py files or folders instead of testing the package"
    table = "with --grade: also write the result as CSV, one row per exercise"
    seconds = f"with --grade: limit for one exercise (default: {SECONDS:g})"
    lessons = "with --grade: only these lessons, as 1-5 or 1,3"
    group = parser.getgroup("grading")
    group.addoption("--grade", metavar="FILE", nargs="+", action="extend", help=grade)
    group.addoption("--grade-csv", metavar="FILE", help=table)
    group.addoption("--grade-lessons", metavar="N", help=lessons)
    group.addoption("--grade-seconds", type=float, default=SECONDS, help=seconds)


def pytest_configure(config):
    """Tell pytest the mark by which a test says which exercise it grades."""
    config.addinivalue_line("markers", MARK)


def pytest_cmdline_main(config):
    """Grade instead of testing when --grade is given; in a student's tree also without arguments.

    -> exit status: 0 graded and nothing failed, 1 something failed, 2 cannot be graded; None to
    let pytest go on
    """
    here = config.rootpath.resolve() == ROOT  # not in other projects of the same environment
    own = here and not config.invocation_params.args and in_handout()
    if not (config.option.grade or own):
        return None
    import pytest

    from .board import board, printable, write_csv
    from .handed_in import read_student
    from .handout import chosen_exercises
    from .submission import Unreadable
    from .worker import grade_all, grade_package

    try:
        chosen = chosen_exercises(config.option.grade_lessons, "--grade-lessons")
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    left_out = []
    try:
        if own:
            submissions, results = grade_package()
        else:
            student = read_student(config.option.grade)
            submissions, left_out = student.submissions, [*student.problems, *student.left_out]
            seconds = config.option.grade_seconds
            results = grade_all(submissions, chosen, seconds, student.beside)
        if config.option.grade_csv:
            write_csv(Path(config.option.grade_csv), results)
    except (Unreadable, OSError) as error:
        print(printable(str(error)), file=sys.stderr)
        return 2
    said, letters = board(submissions, results, left_out), sys.stdout.encoding or "utf-8"
    print(said.encode(letters, "backslashreplace").decode(letters))
    return int(any(result.verdict.state in ("failed", "cannot be graded") for result in results))
