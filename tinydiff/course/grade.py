"""What lessons call: show the package's code, and check a student's function.

from tinydiff.grade import check, progress, show
show(diffusion.q_sample)    the package's code
check(q_sample)             the verdict on yours
progress()                  what has passed, lesson by lesson
"""

import inspect
import linecache
import re
import symtable
import sys
from dataclasses import replace
from pathlib import Path
from traceback import walk_tb

from . import diagnosis, drawn, elsewhere, record
from .exercises import ROOT, exercises, find, in_handout, original, put, standing, untouched
from .judge import note_calls, run_tests
from .verdict import Verdict, in_order


class WrongAnswer(Exception):
    """Stops a notebook at a required answer, with the verdict in place of a traceback."""

    def _render_traceback_(self):
        return [str(self)]


def show(item):
    """Show the code of a function, class or module, and where it stands; in a notebook in colour.

    item: one of the package's, or the answer of a student that has taken its place -> None
    """
    item = inspect.unwrap(item)
    source, first = inspect.getsourcelines(item)
    place = _place(inspect.getsourcefile(item))
    text = f"# {place}, line {max(first, 1)}\n" + "".join(source)
    if _in_notebook():
        from IPython.display import Code

        _display(Code(text, language="python"))
    else:
        print(text)


def check(f, adopt=False, required=False):
    """Run the tests of an exercise on the student's function, and say how it went.

    f: function with the name of an exercise, or that has it where `check` is called
    adopt: a right answer then stands in the package's place until Python ends, as it always does in
    a student's tree, where the package's own is missing; required: only "passed" will do
    -> None, after showing the verdict: passed, failed, not attempted, or cannot be graded. "failed"
    comes with the slip, if it is known, with what was called, what came, what was expected, and in
    a notebook with what the function draws beside what should come.
    Raises WrongAnswer where one is required and did not come; ValueError where f is not an
    exercise, or is the package's own function.
    """
    exercise = _asked(f, sys._getframe(1))
    ours = inspect.unwrap(original(exercise))
    if inspect.unwrap(f) is ours:
        what = f"this is the package's own {exercise.function}"
        raise ValueError(f"{what}: define yours in a cell, then check it")
    verdict = (judge_required if required else judge)(exercise, f)
    if required and verdict.state != "passed":
        raise WrongAnswer(str(verdict))
    if verdict.state == "passed":
        stays = adopt or untouched(inspect.getsource(ours))
        if stays:
            put(exercise, f)
        if not exercise.is_hunt:
            verdict = _with(verdict, "now", _what_now(exercise, stays))
    if _in_notebook():
        _display(verdict if required else _in_full(verdict, exercise, f))
    else:
        print(verdict)


def _asked(f, frame):
    """Find the exercise that a function is to answer: f, frame of the caller -> Exercise

    `q_sample = partial(mine, 2)` has no name of its own, or another's: then its caller's counts.
    Raises ValueError where that is none either.
    """
    own, asked = getattr(f, "__name__", repr(f)), {e.function for e in exercises()}
    around = frame.f_globals | frame.f_locals
    held = [name for name, value in around.items() if value is f and name in asked]
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    written = [name for name in re.findall(r"\(\s*(?:f\s*=\s*)?(\w+)", line) if name in held]
    return find(([*written, own] if own in held else [*written, *held, own])[0])


def _what_now(exercise, stays):
    """Say what a right answer does from here on: Exercise, bool -> str"""
    name = exercise.function
    if not stays:
        package = f"the package's own {name} stays at work; to see yours at work"
        return f"{package}: check({name}, adopt=True)"
    does = "now draws the pictures below" if drawn.draws(exercise) else "is now what runs below"
    keep = f"; other lessons need it too: write it into {exercise.place}" if in_handout() else ""
    return f"your {name} {does}{keep}"


def _in_full(verdict, exercise, f):
    """Add what only a notebook shows: the strips of a wrong answer, the state of the lesson."""
    if verdict.state == "failed":
        verdict = replace(verdict, drawn=drawn.strips(exercise, f))
    if verdict.state not in ("passed", "failed"):
        return verdict
    so_far = record.note(exercise, verdict.state == "passed")
    return _with(verdict, "lesson", so_far) if so_far else verdict


def _with(verdict, head, text):
    return replace(verdict, lines=in_order([*verdict.lines, (head, text)]))


def progress():
    """Show which exercises have passed in this folder's notebooks, lesson by lesson: () -> None"""
    known = record.Progress(record.read())
    _display(known) if _in_notebook() else print(known)


# --- in a notebook ---


def tell_what_is_missing():
    """In a notebook: say in one line what a cell needs that is not there yet.

    In a student's tree also which cell above could not make it. Errors of another origin, such as a
    mistyped name, keep their traceback.
    """

    def handler(shell, kind, error, traceback, tb_offset=None):
        line = _what_is_missing(shell, error, traceback)
        if line:
            print(line)
        else:
            shell.showtraceback((kind, error, traceback), tb_offset=tb_offset)

    if _in_notebook():
        kinds = (Exception,) if in_handout() else (NotImplementedError,)
        _shell().set_custom_exc(kinds, handler)


_waited_for = []  # Exercises that a cell needed and did not have
AGAIN = "once it can, run the cells from the top again."


def _what_is_missing(shell, error, traceback):
    """Explain an error by an exercise or a cell that is still to come -> a line, or None"""
    frames = list(walk_tb(traceback))
    frame, number = frames[-1]
    name, cell = frame.f_code.co_name, _cell(frame.f_code.co_filename)
    if isinstance(error, NotImplementedError):
        needs = next((e for e in exercises() if e.function == name), None)
        if needs:
            _waited_for.append(needs)
            return f"This cell needs {diagnosis.unwritten(needs)}; then run it again."
        ours = ("is an exercise of lesson", "are not handed out")
        return next((str(error) for words in ours if words in str(error)), None)
    if type(error) is not NameError or frame.f_globals is not shell.user_global_ns or not cell:
        return _what_it_may_follow_from(error, frames)
    ran = shell.history_manager.input_hist_parsed
    makers = [k for k, text in enumerate(ran) if text != ran[-1] and _makes(text, error.name)]
    if not makers:
        return None
    perhaps = f"Perhaps a cell above, In[{makers[-1]}], makes it, and could not run yet"
    return f"{error} ({_line(number, cell, name)}). {perhaps}: {AGAIN}"


def _what_it_may_follow_from(error, frames):
    """Say that a cell above could not run yet -> a line, or None

    None where none waits for an exercise any more, or the error lies in an exercise's function.
    """
    cells = [(f.f_code.co_name, n, c) for f, n in frames if (c := _cell(f.f_code.co_filename))]
    asked = {e.function for e in exercises()}
    if not cells or asked & {name for name, *_ in cells}:
        return None
    if all(standing(exercise) for exercise in _waited_for):
        return None
    name, number, cell = cells[-1]
    what = f"{type(error).__name__}: {error} ({_line(number, cell, name)})"
    return f"{what}. Perhaps a cell above, which could not run yet, is missing: {AGAIN}"


def _line(number, cell, function):
    """Say where in a cell: 2, "In[4]", "f" or "<module>" -> "line 2 of cell In[4], in f" """
    return f"line {number} of cell {cell}" + ("" if function == "<module>" else f", in {function}")


def _makes(text, name):
    """Say whether a cell gives a name a meaning outside functions: str, str -> bool"""
    try:
        symbol = symtable.symtable(text, "cell", "exec").lookup(name)
    except (SyntaxError, ValueError, KeyError):
        return False
    return symbol.is_assigned() or symbol.is_imported()


def _place(file):
    """Say where code stands -> "tinydiff/diffusion.py", "your own, cell In[5]", or its path"""
    cell, path = _cell(file), Path(file).resolve()
    if cell:
        return f"your own, cell {cell}"
    return (path.relative_to(ROOT) if path.is_relative_to(ROOT) else path).as_posix()


def _cell(file):
    """Find the cell that IPython keeps under the name of a file: str -> "In[5]", or None"""
    named = _shell() and _shell().compile.format_code_name(file)
    return named and named[1]


def _display(item):
    from IPython.display import display

    display(item)


def _shell():
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def _in_notebook():
    return getattr(_shell(), "kernel", None) is not None


# --- here, or for a GPU kernel in a Python of its own ---


def judge(exercise, f, here=False):
    """Grade one function: Exercise, function -> Verdict. here: also a GPU kernel in this process"""
    try:
        if untouched(inspect.getsource(inspect.unwrap(f))):
            return Verdict(exercise.name, "not attempted")
    except (OSError, TypeError, SyntaxError):
        pass  # a function without a source file was written by somebody
    if exercise.on_gpu and not here:
        once = lambda where: elsewhere.judge_elsewhere(exercise, [f], where)[0]
        return elsewhere.everywhere(exercise, once)
    return run_tests(exercise, [f])[0]


judge_required = judge  # required.py, which uses this module, puts its own here


def judge_all(exercise, functions):
    """Grade several functions, each up to its first failure: -> list of Verdicts"""
    if exercise.on_gpu:
        return elsewhere.judge_elsewhere(exercise, functions, elsewhere.SIMULATOR)
    return run_tests(exercise, functions)


def known(exercise):
    """Note what is known of an exercise's calls, see judge.note_calls: Exercise -> dict"""
    return elsewhere.note_calls_elsewhere(exercise) if exercise.on_gpu else note_calls(exercise)


tell_what_is_missing()
