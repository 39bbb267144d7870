"""Grade a whole file by pytest: `python -m pytest --grade FILE [--grade-csv grades.csv]`, FILE being a notebook or a .py.

A pytest plugin (an entry point in pyproject.toml) that adds the options; what a test run means without them is untouched.
"""

import sys
from pathlib import Path

from .board import board, write_csv
from .exercises import in_handout
from .submission import Unreadable, read
from .worker import SECONDS, grade_all, grade_package


def pytest_addoption(parser):
    """Add the options of grading to pytest's command line."""
    group = parser.getgroup("grading")
    group.addoption(
        "--grade",
        metavar="FILE",
        help="grade the exercises found in a notebook or .py instead of testing the package",
    )
    group.addoption(
        "--grade-csv",
        metavar="FILE",
        help="with --grade: also write the result as CSV, a row an exercise",
    )
    group.addoption(
        "--grade-seconds",
        type=float,
        default=SECONDS,
        help=f"with --grade: limit for one exercise (default: {SECONDS:g})",
    )


def pytest_configure(config):
    """Tell pytest the mark by which a test says which exercise it grades."""
    config.addinivalue_line(
        "markers", "exercise(name, changes=()): the test grades this function of the package"
    )


def pytest_cmdline_main(config):
    """Grade instead of testing when --grade is given -> exit status: 0 graded and nothing failed, 1 something failed, 2 not gradable

    In a student's tree a run without a file grades the package.
    """
    own = not config.invocation_params.args and in_handout()
    if not (config.option.grade or own):
        return None
    try:
        if own:
            submissions, results = grade_package()
        else:
            submissions = [read(Path(config.option.grade))]
            results = grade_all(submissions, seconds=config.option.grade_seconds)
        if config.option.grade_csv:
            write_csv(Path(config.option.grade_csv), results)
    except (Unreadable, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(board(submissions, results))
    return int(any(result.verdict.state in ("failed", "cannot be graded") for result in results))
