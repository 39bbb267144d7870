"""What lessons call: show the package's code, and check a student's function.

from tinydiff.grade import check, show
show(diffusion.q_sample)    the package's code
check(q_sample)             the verdict on yours
"""

import inspect
import sys
from pathlib import Path
from traceback import walk_tb

from . import diagnosis, elsewhere
from .exercises import ROOT, exercises, find, in_handout, original, put, untouched
from .judge import Verdict, note_calls, run_tests


class WrongAnswer(Exception):
    """Stops a notebook at a wrong answer, with the verdict in place of a traceback."""

    def _render_traceback_(self):
        return [str(self)]


def show(item):
    """Show the package's code of a function, class or module: () -> None. In a notebook in color."""
    source, first = inspect.getsourcelines(inspect.unwrap(item))
    place = Path(inspect.getsourcefile(inspect.unwrap(item))).resolve().relative_to(ROOT).as_posix()
    text = f"# {place}, line {max(first, 1)}\n" + "".join(source)
    if _in_notebook():
        from IPython.display import Code, display

        display(Code(text, language="python"))
    else:
        print(text)


def check(f, adopt=False, required=False):
    """Run the tests of an exercise on the student's function, and say how it went.

    f: function with the name of an exercise; adopt: a right answer then stands in the package's place until Python ends, as it
    always does in a student's tree, where the package's own is missing; required: not attempted is a wrong answer, too
    -> None, after showing "passed" or "not attempted"
    Raises WrongAnswer, with what was called, what came, what was expected and, if it is known, the slip; ValueError where f
    is no exercise, or the package's own function.
    """
    exercise = find(getattr(f, "__name__", repr(f)))
    if inspect.unwrap(f) is inspect.unwrap(original(exercise)):
        raise ValueError(
            f"this is the package's own {exercise.function}: define yours in a cell, then check it"
        )
    verdict = judge(exercise, f)
    if verdict.state == "failed" or (required and verdict.state != "passed"):
        raise WrongAnswer(str(verdict))
    if verdict.state == "passed" and (
        adopt or untouched(inspect.getsource(inspect.unwrap(original(exercise))))
    ):
        put(exercise, f)
    if _in_notebook():
        from IPython.display import display

        display(verdict)
    else:
        print(verdict)


def tell_what_is_missing():
    """In a notebook of a student's tree: answer a call of a function that is not written yet by one line. () -> None"""

    def handler(shell, kind, error, traceback, tb_offset=None):
        *_, (frame, _) = walk_tb(traceback)
        missing = next((e for e in exercises() if e.function == frame.f_code.co_name), None)
        if kind is NameError:
            print(
                f"{error}. Perhaps a cell above makes it, and could not run yet: once it can, run the cells from the top again."
            )
        else:
            print(
                f"This cell needs {diagnosis.unwritten(missing)}; then run it again."
                if missing
                else f"NotImplementedError: {error}"
            )

    if in_handout() and _in_notebook():
        sys.modules["IPython"].get_ipython().set_custom_exc(
            (NotImplementedError, NameError), handler
        )


def _in_notebook():
    return (
        "IPython" in sys.modules
        and getattr(sys.modules["IPython"].get_ipython(), "kernel", None) is not None
    )


# --- here, or for a GPU kernel in a Python of its own ---


def judge(exercise, f, here=False):
    """Grade one function: Exercise, function; here: a GPU kernel, too, in this very process -> Verdict."""
    try:
        if untouched(inspect.getsource(inspect.unwrap(f))):
            return Verdict(exercise.name, "not attempted")
    except (OSError, TypeError, SyntaxError):
        pass  # a function without a source file was written by somebody
    if exercise.on_card and not here:
        return elsewhere.twice(
            lambda simulate: elsewhere.judge_elsewhere(exercise, [f], simulate)[0]
        )
    return run_tests(exercise, [f])[0]


def judge_all(exercise, functions):
    """Grade several functions, each up to its first failure: Exercise, list of functions -> list of Verdicts"""
    return (
        elsewhere.judge_elsewhere(exercise, functions, True)
        if exercise.on_card
        else run_tests(exercise, functions)
    )


def known(exercise):
    """Note what is known of an exercise's calls, see judge.note_calls: Exercise -> dict"""
    return elsewhere.note_calls_elsewhere(exercise) if exercise.on_card else note_calls(exercise)


tell_what_is_missing()
