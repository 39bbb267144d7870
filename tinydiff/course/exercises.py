"""The exercises: which functions the lessons ask for, and how another function takes their place.

An exercise is a function of the package, "diffusion.q_sample". Its tests carry the mark
`exercise("diffusion.q_sample")` and stand in tests/test_diffusion.py (or in the file that TESTS
names). Its mutants stand in tests/mutants/: wrong versions, each with a sentence that says what is
wrong. In a student's tree, which handout.py wrote, tests/handout.json takes the mutants' place.
"""

import ast
import base64
import difflib
import hashlib
import importlib
import inspect
import json
import linecache
import runpy
import sys
import textwrap
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from .. import kernels

ROOT = Path(__file__).resolve().parents[2]
HANDOUT = "handout.json"  # in tests/ of a student's tree, where the exercises have no bodies
ON_GPU = "kernels.threads."  # exercises that are GPU kernels, launched as f[blocks, threads](...)
SECONDS = 60.0  # for grading one exercise
# for pytest; changes: arguments that are to be filled; free: any answer that passes will do
MARK = "exercise(name, changes=(), free=False): the test grades this function of the package"
FILES = {  # module in an exercise's name -> its file today: grade books keep the old names
    "gram": "gatys",
    "ladder": "cpu_ladder",
    "learned": "learned_schedule",
    "threads": "cuda_ladder",
}


@dataclass(frozen=True)
class Exercise:
    """One function to write. name: "diffusion.q_sample"; lesson: "01_forward".

    mutants: tuples (old, new, sentence), see `mutant`; tests: the file that holds its tests
    known: what a student's tree knows of the tests' calls in place of mutants, see judge.note_calls
    """

    name: str
    lesson: str
    mutants: tuple
    tests: Path
    known: dict = field(default_factory=dict, compare=False)

    @property
    def function(self):
        """Name the function: "q_sample" """
        return self.name.rsplit(".", 1)[1]

    @property
    def file(self):
        """Find the file in which the function stands, without importing it -> Path"""
        return _file(_stem(self.name))

    @property
    def place(self):
        """Name that file as people do: "tinydiff/diffusion.py" """
        return self.file.relative_to(ROOT).as_posix()

    @property
    def module(self):
        """Import the module in which the function stands -> module"""
        inside = self.file.relative_to(ROOT).with_suffix("")
        return importlib.import_module(".".join(inside.parts))

    @property
    def on_gpu(self):
        """Say whether the function is a GPU kernel -> bool"""
        return self.name.startswith(ON_GPU)

    @property
    def is_hunt(self):
        """Say whether slips are to be found, see suspects.py: answers are not shown -> bool"""
        return self.name.startswith("hunts.")


def _stem(name):
    """Name the file of an exercise: "kernels.ladder.conv_cost" -> "cpu_ladder" """
    stem = name.split(".")[-2]
    return FILES.get(stem, stem)


@cache
def _file(stem):
    """Find a module's file in the package or in one of its wings: "edit" -> Path"""
    package, name = ROOT / "tinydiff", f"{stem}.py"
    found = [*package.glob(name), *sorted(package.glob(f"*/{name}"))]
    if not found:
        raise FileNotFoundError(f"no {name} in {package}, nor in a folder of it")
    return found[0]


class NotHandedOut(tuple):
    """What a student's tree has in place of mutants: a lesson that wants them says so in a line."""

    def __iter__(self):
        why = "the wrong answers are not handed out; the picture of them was made before"
        raise NotImplementedError(why)


def packed(known):
    """Write down what is known of an exercise, so that nobody reads a slip by accident.

    This hides and does not protect: who wants to read it calls `unpacked`.
    dict that JSON can hold -> str
    """
    return base64.b64encode(_veiled(zlib.compress(json.dumps(known).encode()))).decode()


def unpacked(text):
    """Read what `packed` wrote: str -> dict"""
    return json.loads(zlib.decompress(_veiled(base64.b64decode(text))))


def _veiled(data):
    """Add fixed noise to bytes, bit by bit, or take it away: so no tool unpacks them by itself."""
    noise = hashlib.shake_256(b"tinydiff").digest(len(data))
    mixed = int.from_bytes(data) ^ int.from_bytes(noise)
    return mixed.to_bytes(len(data))


@cache  # a sandbox takes the tests away once they are loaded
def in_handout():
    """Say whether this is a student's tree, which handout.py wrote: () -> bool"""
    return (ROOT / "tests" / HANDOUT).exists()


@cache
def exercises():
    """List the exercises in the order of the lessons: () -> tuple of Exercise."""
    tests = ROOT / "tests"
    if in_handout():
        listed = json.loads((tests / HANDOUT).read_text(encoding="utf-8"))
        return tuple(
            Exercise(
                e["name"], e["lesson"], NotHandedOut(), tests / e["tests"], unpacked(e["known"])
            )
            for e in listed
        )
    found = []
    for path in sorted((tests / "mutants").glob("*.py")):
        lesson = runpy.run_path(str(path))
        files = lesson.get("TESTS", {})
        for name, wrong in lesson["MUTANTS"].items():
            file = tests / files.get(name, f"test_{_stem(name)}.py")
            found.append(Exercise(name, path.stem, tuple(wrong), file))
    if not found:
        why = f"the tests that grade are missing: expected them in {tests}"
        raise FileNotFoundError(f"{why}; work in a clone of the repository")
    return tuple(found)


def find(function):
    """Find the exercise that asks for a function of this name: "q_sample" -> Exercise

    Raises ValueError where none does.
    """
    for exercise in exercises():
        if exercise.function == function:
            return exercise
    near = difflib.get_close_matches(function, [e.function for e in exercises()])
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(f"no exercise asks for a function {function!r}{hint}")


_originals = {}  # exercise -> the package's own function
_standing = {}  # exercise -> the function that has taken its place
_twins = {}  # (module, name) -> what stood there before anything took its place


def standing(exercise):
    """Return what has taken the place of the package's function: Exercise -> function or None"""
    return _standing.get(exercise.name)


def original(exercise):
    """Return the package's own function, also while another stands in its place."""
    return _originals.setdefault(exercise.name, getattr(exercise.module, exercise.function))


@cache  # a compiled one is compiled only once
def mutant(exercise, old, new):
    """Build a wrong version: the package's function with one piece of its source replaced.

    old: str that occurs exactly once in the source, else ValueError; new: str -> function
    """
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(original(exercise))))
    if source.count(old) != 1:
        must = f"{exercise.name}: a mutant replaces {old!r}, which must occur once"
        raise ValueError(f"{must}; it occurs {source.count(old)} times")
    return rewritten(exercise, source.replace(old, new))


def rewritten(exercise, source):
    """Build a version of the package's function from another source: Exercise, str -> function"""
    scope = dict(vars(exercise.module))
    place = f"<mutant of {exercise.name} {abs(hash(source))}>"
    linecache.cache[place] = (len(source), None, source.splitlines(True), place)
    exec(compile(source, place, "exec"), scope)
    return scope[exercise.function]


def untouched(source):
    """Say whether a function's body is still `raise NotImplementedError`: its source -> bool"""
    return is_stub(ast.parse(textwrap.dedent(source)).body[0])


def is_stub(node):
    """Say the same of a statement that is parsed already: ast node -> bool"""
    if not isinstance(node, ast.FunctionDef):
        return False
    first, *rest = node.body
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    body = rest if is_docstring else node.body
    return (
        len(body) == 1
        and isinstance(body[0], ast.Raise)
        and "NotImplementedError" in ast.dump(body[0])
    )


# --- in the package's place ---


def put(exercise, f):
    """Put f wherever the package holds the exercise's function; a kernel, in every kernel set.

    f: function, or None = the package's own back in its place -> what stood there before
    """
    ours, before = original(exercise), standing(exercise)
    is_kernel = exercise.name.startswith("kernels.")
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] != "tinydiff" or name == __name__:
            continue
        if getattr(module, "__name__", None) != name:
            continue  # another name of a module that has its turn under its own
        in_a_set = is_kernel and name.startswith("tinydiff.kernels.")
        for key, value in list(vars(module).items()):
            found = value is ours or (before is not None and value is before)
            if found or (in_a_set and key == exercise.function):
                _twins.setdefault((name, key), value)
                setattr(module, key, _twins[name, key] if f is None else f)
    _standing[exercise.name] = f
    kernels.together = not in_handout() and all(f is None for f in _standing.values())
    return before


@contextmanager
def in_place(exercise, f):
    """Have f stand in the package's place for the length of a `with` block."""
    before = put(exercise, f)
    try:
        yield
    finally:
        put(exercise, before)
