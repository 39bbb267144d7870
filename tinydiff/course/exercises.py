"""The exercises: which functions the lessons ask for, their wrong answers, and another function in the package's place.

An exercise is a function of the package, "diffusion.q_sample". Its tests carry the mark `exercise("diffusion.q_sample")` and stand in
tests/test_diffusion.py (or in the file that TESTS names); its mutants, wrong versions each with a sentence that says what is wrong,
in tests/mutants/. In a student's tree, which handout.py wrote, tests/handout.json takes their place.
"""

import ast
import difflib
import importlib
import inspect
import json
import linecache
import runpy
import sys
import textwrap
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HANDOUT = "handout.json"  # in tests/: this is a student's tree, in which the package lacks the bodies of these exercises
FILES = {
    "gram": "gatys",
    "ladder": "cpu_ladder",
    "threads": "cuda_ladder",
}  # grade books keep the names of before
ON_CARD = "kernels.threads."  # exercises that are kernels of the graphics card, launched as f[blocks, threads](...)


@dataclass(frozen=True)
class Exercise:
    """One function to write. name: "diffusion.q_sample"; lesson: "01_forward"; mutants: tuples (old, new, sentence).

    tests: the file in which they stand; known: in a student's tree what is known of calls in place of the mutants, see `known`
    """

    name: str
    lesson: str
    mutants: tuple
    tests: Path
    known: dict = field(default_factory=dict, compare=False)

    @property
    def function(self):
        return self.name.rsplit(".", 1)[1]

    @property
    def module(self):
        stem = self.name.split(".")[-2]
        (path,) = (ROOT / "tinydiff").rglob(f"{FILES.get(stem, stem)}.py")
        return importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))

    @property
    def on_card(self):
        return self.name.startswith(ON_CARD)


def in_handout():
    """Say whether this is a student's tree, which handout.py wrote: () -> bool"""
    return (ROOT / "tests" / HANDOUT).exists()


@cache
def exercises():
    """List the exercises in the order of the lessons: () -> tuple of Exercise."""
    if in_handout():
        listed = json.loads((ROOT / "tests" / HANDOUT).read_text(encoding="utf-8"))
        return tuple(
            Exercise(e["name"], e["lesson"], (), ROOT / "tests" / e["tests"], e["known"])
            for e in listed
        )
    found = []
    for path in sorted((ROOT / "tests" / "mutants").glob("*.py")):
        lesson = runpy.run_path(str(path))
        for name, wrong in lesson["MUTANTS"].items():
            tests = lesson.get("TESTS", {}).get(name, f"test_{name.split('.')[-2]}.py")
            found.append(Exercise(name, path.stem, tuple(wrong), ROOT / "tests" / tests))
    if not found:
        raise FileNotFoundError(
            f"the tests that grade are missing: expected them in {ROOT / 'tests'}; work in a clone of the repository"
        )
    return tuple(found)


def find(function):
    """Find the exercise that asks for a function of this name: "q_sample" -> Exercise. ValueError where none does."""
    for exercise in exercises():
        if exercise.function == function:
            return exercise
    near = difflib.get_close_matches(function, [e.function for e in exercises()])
    raise ValueError(
        f"no exercise asks for a function {function!r}"
        + (f"; did you mean {' or '.join(near)}?" if near else "")
    )


_originals, _standing, _twins = (
    {},
    {},
    {},
)  # exercise -> the package's own; -> what stands in its place; (module, name) -> what was there


def standing(exercise):
    """Give what stands in the place of the package's own function: Exercise -> function, or None where that is in its place."""
    return _standing.get(exercise.name)


def original(exercise):
    """Give the package's own function, also while another stands in its place: Exercise -> function."""
    return _originals.setdefault(exercise.name, getattr(exercise.module, exercise.function))


@cache  # a compiled one is compiled only once
def mutant(exercise, old, new):
    """Build a wrong version: the package's function with one piece of its source replaced. -> function"""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(original(exercise))))
    if source.count(old) != 1:
        raise ValueError(
            f"{exercise.name}: a mutant replaces {old!r}, which must occur once; it occurs {source.count(old)} times"
        )
    return rewritten(exercise, source.replace(old, new))


def rewritten(exercise, source):
    """Build a version of the package's function from another source. -> function"""
    scope, place = dict(vars(exercise.module)), f"<mutant of {exercise.name} {abs(hash(source))}>"
    linecache.cache[place] = (len(source), None, source.splitlines(True), place)
    exec(compile(source, place, "exec"), scope)
    return scope[exercise.function]


def untouched(source):
    """Say whether a function's body is still the `raise NotImplementedError` of the lesson. str -> bool"""
    node = ast.parse(textwrap.dedent(source)).body[0]
    if not isinstance(node, ast.FunctionDef):
        return False
    body = node.body
    body = (
        body[1:]
        if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
        else body
    )
    return (
        len(body) == 1
        and isinstance(body[0], ast.Raise)
        and "NotImplementedError" in ast.dump(body[0])
    )


# --- in the package's place ---


def put(exercise, f):
    """Put f wherever the package holds the exercise's function; for a kernel, in every kernel set -> what stood there before"""
    ours, before = original(exercise), standing(exercise)
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] != "tinydiff" or module is None or name == __name__:
            continue
        kernel = exercise.name.startswith("kernels.") and name.startswith("tinydiff.kernels.")
        for key, value in list(vars(module).items()):
            if (
                value is ours
                or (value is before and before is not None)
                or (kernel and key == exercise.function)
            ):
                _twins.setdefault((name, key), value)
                setattr(module, key, _twins[name, key] if f is None else f)
    _standing[exercise.name] = f
    return before


@contextmanager
def in_place(exercise, f):
    """Have f stand in the package's place for the length of a `with` block."""
    before = put(exercise, f)
    try:
        yield
    finally:
        put(exercise, before)
