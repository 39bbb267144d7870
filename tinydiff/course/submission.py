"""A notebook or .py that was handed in: which exercises it answers, and what each answer needs.

Answers are found by name; of several the last one counts. Run is what the answer needs, in the
file's order and with the values that names had at its last `check`: imports, assignments, changes,
functions, classes. Not run is what it does not need: plots, trainings, `check` itself.
"""

import ast
import hashlib
import importlib.util
import os
import pickle
import re
import subprocess
import sys
from bisect import bisect_left
from functools import cached_property
from pathlib import Path

from .cells import Unreadable, cells_of, is_inside, plain
from .exercises import ROOT, exercises, find, is_stub
from .needed import FUNCTIONS, FUTURE, Slice, Statement, called, root
from .notebook import execute, module_for

__all__ = ["Submission", "Unreadable", "read"]

PERHAPS = (ast.Call, ast.Name, ast.Attribute, ast.Subscript, ast.IfExp, ast.BoolOp)
MAKERS = (*FUNCTIONS, ast.ClassDef, ast.Lambda)
TOO_MUCH = (SyntaxError, ValueError, MemoryError, RecursionError)  # of text that is no Python
FOUND_BESIDE = 1 << 20  # bytes of a file beside the one that was handed in, which imports it
LARGE, PATIENCE = 60_000, 10  # letters of code that no lesson has; seconds to read so many


class Submission:
    """What a file defines.

    path: Path; cells: list of (where, text), plain Python; beside: relative name -> bytes, files
    that it may import; broken: name -> why the cell that defines it cannot be read
    """

    def __init__(self, path, cells, beside=None):
        self.path, self.cells, self.beside = Path(path), cells, dict(beside or {})
        self.broken, self._lost, self._failed = {}, {}, {}
        self._makers, self._no_functions = {}, set()  # what is known of names
        self._texts, flags, statements = dict(cells), 0, []
        for where, text in cells:
            nodes = self._parsed(where, text)
            for node in nodes:
                if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                    flags |= sum({FUTURE.get(alias.name, 0) for alias in node.names})
                statements.append(Statement(where, node, flags))
        self._statements = statements
        self._note_stars()

    @classmethod
    def from_cells(cls, path, cells, beside=None):
        """Build one again from its parts, which may have come by a pipe -> Submission"""
        return cls(path, cells, beside)

    def __reduce__(self):
        return type(self), (self.path, self.cells, self.beside)

    def _parsed(self, where, text):
        """Read the statements of a cell: -> list of nodes, empty where it is no Python"""
        try:
            return ast.parse(text).body
        except TOO_MUCH as error:
            line, said = getattr(error, "lineno", None) or "?", getattr(error, "msg", error)
            why = f"{where}, line {line}: {type(error).__name__}: {said}"
            self._lost[where] = why
            define = r"^[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+(\w+)"
            self.broken |= dict.fromkeys(re.findall(define, text, re.M) or [""], why)
            return []

    def _note_stars(self):
        """Note what `from helpers import *` brings from a file that was handed in beside this."""
        room = LARGE
        for statement in self._statements:
            if statement.is_star and isinstance(statement.node, ast.ImportFrom):
                content = self._module(statement.node)
                room -= len(content)
                if room >= 0:
                    statement.from_star = _names_in(content)

    def _module(self, node):
        """Find the file that is imported from, if it was handed in: ast.ImportFrom -> bytes"""
        file = (node.module or "").replace(".", "/")
        inside = self.beside.get(f"{file}/__init__.py", b"")
        return b"" if node.level else self.beside.get(f"{file}.py", inside)

    def with_beside(self, beside):
        """Know also of those files that it imports: dict of name to bytes -> Submission"""
        modules = {}
        for file, content in beside.items():
            if file.endswith(".py"):
                name = file.split("/")[0].removesuffix(".py")
                modules.setdefault(name, {})[file] = content
        near = _imported([text for _, text in self.cells], lambda name: modules.get(name, {}))
        return type(self)(self.path, self.cells, near | self.beside) if near else self

    # --- which answers it holds ---

    @cached_property
    def _slice(self):
        return Slice(self._statements)

    @cached_property
    def _checks(self):
        """List the calls of `check`: name of what is checked -> list of k, in the file's order"""
        aliases = (p for s in self._statements for p in s.parts if isinstance(p, ast.alias))
        asked = {"check"} | {a.asname for a in aliases if a.name == "check" and a.asname}
        found = {}
        for k, statement in enumerate(self._statements):
            calls = [p for p in statement.parts if isinstance(p, ast.Call) and called(p) in asked]
            given = [a for c in calls for a in c.args[:1]]
            given += [w.value for c in calls for w in c.keywords if w.arg == "f"]
            names = {root(a) for a in given}
            for loop in (p for p in statement.parts if isinstance(p, ast.For)) if names else ():
                if root(loop.target) in names:
                    names |= {n.id for n in ast.walk(loop.iter) if isinstance(n, ast.Name)}
            for name in names:
                found.setdefault(name, []).append(k)
        return found

    @cached_property
    def _given(self):
        """Find all that the file gives its names: name -> list of (k, definition or value)"""
        found = {}
        for k, statement in enumerate(self._statements):
            for part in statement.parts:
                for name, site in _sites(part, statement):
                    found.setdefault(name, []).append((k, site))
        return found

    def _sites(self, name):
        return [site for _, site in self._given.get(name, ())]

    def _meanings(self, name):
        """List what gives a name a value: (k, node or value, kind), kind as of _kind"""
        last = dict(self._given.get(name, ()))
        return [(k, site, self._kind(site, self._statements[k])) for k, site in last.items()]

    def _kind(self, site, statement):
        """Say what a name is given: "stub", "answer", "perhaps" (anything) or "no" (no function)"""
        if isinstance(site, FUNCTIONS):
            return "stub" if _is_stub(site) else "answer"
        if isinstance(site, ast.ImportFrom):
            package = (site.module or "").split(".")[0]
            if site.level or package == "tinydiff":
                return "no"
            return "answer" if self._is_handed_in(package) else "perhaps"
        if isinstance(site, ast.ClassDef) or self._makes_function(site):
            return "answer"
        return "perhaps" if isinstance(site, PERHAPS) else "no"

    def _is_handed_in(self, package):
        """Say whether a module that is imported is the student's own: its name -> bool"""
        if any(name.split("/")[0] in (package, f"{package}.py") for name in self.beside):
            return True
        try:
            return importlib.util.find_spec(package) is None
        except (ImportError, ValueError):
            return True

    @cached_property
    def _methods(self):
        """Find the names of the methods in the file's classes -> set"""
        parts = (part for s in self._statements for part in s.parts)
        classes = [part for part in parts if isinstance(part, ast.ClassDef)]
        return {n.name for c in classes for n in c.body if isinstance(n, FUNCTIONS)}

    def _makes_function(self, value):
        """Say whether an expression gives a function of the student's: ast node -> bool"""
        seen, waiting = set(), [value]
        while waiting:
            value = waiting.pop()
            if isinstance(value, MAKERS):
                return True
            if isinstance(value, ast.Attribute):
                if value.attr in self._methods and root(value) in self._slice.binders:
                    return True
            elif isinstance(value, ast.IfExp):
                waiting += [value.body, value.orelse]
            elif isinstance(value, ast.BoolOp):
                waiting += value.values
            elif isinstance(value, ast.Name | ast.Subscript):
                what = type(value), root(value)
                if what not in seen and what not in self._no_functions:
                    seen.add(what)
                    sites = self._sites(what[1])
                    is_one = isinstance(value, ast.Name)  # else: one of several functions
                    waiting += sites if is_one else [p for s in sites for p in _children(s)]
            elif isinstance(value, ast.Call):
                gives = self._gives_function(getattr(value.func, "id", None))
                if gives:
                    return True
                if gives is None:
                    waiting += [*value.args, *(k.value for k in value.keywords)]
        self._no_functions |= seen
        return False

    def _gives_function(self, name):
        """Say whether calling a class or function of the file gives one: -> None of all others"""
        if name not in self._makers:
            own = [node for node in self._sites(name) if isinstance(node, MAKERS)]
            self._makers[name] = any(map(_holds_function, own)) if own else None
        return self._makers[name]

    def _answers(self, name):
        """List the statements that give a name a meaning which counts as an answer -> list of k"""
        meanings, checked = self._meanings(name), self._checks.get(name, [])
        ends = [k for k, *_ in meanings[1:]] + [len(self._statements)]
        found = []
        for (k, _, kind), end in zip(meanings, ends, strict=False):
            is_checked = bisect_left(checked, k) < bisect_left(checked, end)
            if kind == "answer" or (kind == "perhaps" and is_checked):
                found.append(k)
        return found

    def attempts(self, name):
        """Say whether it gives a name a meaning that is more than the stub: str -> bool"""
        return bool(self._answers(name))

    def has(self, name):
        """Say whether the exercise is in it: answered, untouched, or in a broken cell -> bool"""
        kinds = [kind for *_, kind in self._meanings(name)]
        return self.attempts(name) or "stub" in kinds or name in self.broken

    def _defining(self, name):
        """Find the statement that counts: the last answer, else the last of any kind -> k"""
        answers = self._answers(name)
        stubs = [k for k, _, kind in self._meanings(name) if kind == "stub"]
        return (answers or stubs or self._slice.binders.get(name, [None]))[-1]

    @property
    def places(self):
        """Find where each name gets the meaning that counts -> dict of name to (where, node)"""
        found = {name: self._statements[self._defining(name)] for name in self._slice.binders}
        return {name: (statement.where, statement.node) for name, statement in found.items()}

    def place(self, name):
        """Say where a name gets its meaning: str -> "01_forward.ipynb cell 13", "" if nowhere"""
        k = self._defining(name)
        lost = self.broken.get(name, "").split(", line")[0]
        return lost if k is None else self._statements[k].where

    def source(self, name):
        """Cut what gives a name its meaning out of the file, decorators included: str -> str"""
        statement = self._statements[self._defining(name)]
        sites = [p for p in statement.parts if isinstance(p, FUNCTIONS) and p.name == name]
        node = sites[-1] if sites else statement.node
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        return "\n".join(self._texts[statement.where].split("\n")[first - 1 : node.end_lineno])

    # --- what an answer needs, and how it comes about ---

    def steps(self, name, failed=(), generous=False):
        """List what is run for an answer, in this order: str -> list of Statements

        failed: Statements to do without; generous: run also what may have changed what it uses
        """
        index = {id(statement): k for k, statement in enumerate(self._statements)}
        without = {index[id(statement)] for statement in failed} | self._stubs
        answers = [k for k in self._answers(name) if k not in without]
        counting = answers or [k for k in self._slice.binders.get(name, ()) if k not in without]
        last = max(counting, default=-1)
        checks = [k for k in self._checks.get(name, ()) if k >= last]
        end = max(checks) + 1 if checks else len(self._statements)
        chosen = self._slice.before(name, set(counting), end, without)
        if generous:
            chosen = self._slice.around(name, chosen, end, without)
        return [self._statements[k] for k in chosen]

    def has_more(self, name):
        """Say whether the generous choice of what is run for an answer holds more: str -> bool"""
        return self.steps(name, generous=True) != self.steps(name)

    @cached_property
    def _stubs(self):
        """Find the stubs of what is answered elsewhere in the file -> set of k"""
        stubs = {}
        for k, statement in enumerate(self._statements):
            if isinstance(statement.node, FUNCTIONS) and _is_stub(statement.node):
                stubs.setdefault(statement.node.name, set()).add(k)
        return set().union(*(own for name, own in stubs.items() if self.attempts(name)))

    def digest(self, name):
        """Hash all that is run for an answer, imported files included: str -> 12 hex digits"""
        steps = self.steps(name)
        parts = []
        for statement in steps:
            try:
                parts.append(ast.unparse(statement.node))
            except RecursionError:  # nested too deeply to be unparsed
                parts.append(self._texts[statement.where])
        imported = {alias.name.split(".")[0] for s in steps for alias in _aliases(s.node)}
        imported |= {(getattr(s.node, "module", "") or "").split(".")[0] for s in steps}
        for file, content in sorted(self.beside.items()):
            if file.split("/")[0].removesuffix(".py") in imported:
                parts.append(f"{file} {hashlib.sha256(content).hexdigest()}")
        return hashlib.sha256("\n".join(parts).encode(errors="replace")).hexdigest()[:12]

    def build(self, name, generous=False):
        """Run what an answer needs: str -> what the name then stands for

        generous: as in steps
        A statement that fails is left out, as a cell that fails in a notebook; `left_out` tells of
        it. Raises Unreadable, with the reason and its place, where nothing comes of the answer, or
        where a .py fails at what it needs.
        """
        package, self._failed = find(name).module.__package__, {}  # `from .` as in the package
        while True:
            module = module_for(self.path, package)
            answer = self._run(name, module, generous)
            if answer is not self:
                break
        missing = [s for s in self._failed if not s.binds <= set(vars(module))]
        if answer is None or (missing and not self._is_notebook):
            raise Unreadable(self._why_not(name, missing))
        return answer

    @property
    def _is_notebook(self):
        return ".ipynb" in self.path.name.lower()

    def _run(self, name, module, generous):
        """Run the steps of an answer -> the answer, None, or self where it is to be begun anew"""
        answers = {id(self._statements[k]) for k in self._answers(name)}
        steps, scope = self.steps(name, self._failed, generous), vars(module)
        for statement in steps:
            before = scope.get(name)
            try:
                execute(statement, self._texts[statement.where], module)
            except (Exception, SystemExit) as error:
                line = getattr(statement.node, "lineno", "?")
                why = f"{type(error).__name__}: {error}".splitlines()[0]
                self._failed[statement] = f"{statement.where}, line {line}: {why}"
                if set(self.steps(name, self._failed, generous)) - set(steps):
                    return self  # something else can take its place
            if before is not None and id(statement) not in answers:
                scope[name] = before  # an import or a picture's variable of this name
        return scope.get(name)

    def _why_not(self, name, missing):
        answers = [self._statements[k] for k in self._answers(name)]
        for statement in [*answers[::-1], *missing]:
            if statement in self._failed:
                why = self._failed[statement]
                return self.explained(why)
        return self.left_out(name)

    def left_out(self, name):
        """Say why a name is not there when an answer needs it: str -> one line"""
        failed = [s for s in self._failed if name in s.binds]
        failed += [s for s in self._failed if s.is_star or s.is_script]
        if failed:
            return self._failed[failed[0]]
        makes = re.compile(rf"^[ \t]*(?:def|class)?[ \t]*{re.escape(name)}\b[ \t]*[=(:]", re.M)
        for where, why in self._lost.items():
            if makes.search(self._texts[where]) or f"import {name}" in self._texts[where]:
                return why
        if name in self._slice.binders:
            k = self._slice.binders[name][-1]
            where, line = self._statements[k].where, self._statements[k].node.lineno
            return f"{where}, line {line} gives {name} a value, but not where it is needed"
        return f"nothing in {self.path.name} gives {name} a value"

    def explained(self, why):
        """Add to an error's message why a name was not there: str -> str"""
        found = re.search(r"name '(\w+)' is not defined", why)
        return f"{why}; {self.left_out(found[1])}" if found else why


def _holds_function(node):
    is_class = isinstance(node, ast.ClassDef)
    return is_class or any(isinstance(n, MAKERS) for n in ast.walk(node) if n is not node)


def _children(node):
    return list(ast.iter_child_nodes(node))


def _aliases(node):
    return node.names if isinstance(node, ast.Import | ast.ImportFrom) else []


def _sites(part, statement):
    """List what a node gives to names: (name, definition, import or value)"""
    if isinstance(part, (*FUNCTIONS, ast.ClassDef)):
        return [(part.name, part)]
    if isinstance(part, ast.ImportFrom):
        names = {alias.asname or alias.name for alias in part.names} | statement.from_star
        return [(name, part) for name in names]
    if isinstance(part, ast.NamedExpr | ast.AnnAssign):
        pairs = [(part.target, part.value)]
    elif isinstance(part, ast.Assign):
        pairs = [(target, part.value) for target in part.targets]
    else:
        return []
    for target, value in pairs[:]:
        if isinstance(target, ast.Tuple | ast.List):
            values = getattr(value, "elts", [value] * len(target.elts))
            pairs += zip(target.elts, values, strict=False)
    return [(target.id, value) for target, value in pairs if isinstance(target, ast.Name)]


def _is_stub(node):
    if not isinstance(node.body[-1], ast.Raise):
        return False
    try:
        return is_stub(node)  # not parsed again: while a class is graded, several threads ask
    except TOO_MUCH:
        return False


def _names_in(content):
    """List the names that a handed-in .py gives to `from it import *`: bytes -> set"""
    try:
        tree = ast.parse(content)
    except TOO_MUCH:
        return set()
    names = {name for node in tree.body for name in Statement("", node, 0).binds}
    return {name for name in names if not name.startswith("_")}


def read(path, data=None):
    """Read a notebook or a .py: Path -> Submission. Raises Unreadable where it is neither.

    data: bytes, of a file that is not on disk by itself, as in a zip
    Files that it writes by `%%writefile`, and its own modules in the same folder, come with it.
    """
    pieces = cells_of(path, data)
    folder = path.parent if data is None else None
    size = sum(len(text) for _, text in pieces)
    if size > LARGE:
        _read_apart(path, pieces, folder, size)
    return _submission(path, pieces, folder)


def _submission(path, pieces, folder):
    """Put a Submission together: Path, list of (where, text), folder of its modules or None"""
    cells, beside = [], {}
    for where, text in pieces:
        try:
            text, files = plain(text)
        except TOO_MUCH:
            files = {}
        for name, (body, appended) in files.items():
            if is_inside(name):
                before = beside.get(name, b"") if appended else b""
                between = b"\n" * (before[-1:] not in b"\n")
                beside[name] = before + between + body.encode(errors="replace")
        cells.append((where, text))
    texts = [text for _, text in cells]
    near = _imported(texts, lambda name: _modules_in(folder, name, path)) if folder else {}
    return Submission(path, cells, near | beside)


def _read_apart(path, pieces, folder, size):
    """See first whether another Python can read so much code: text may be made such that neither
    Python's parser nor this module comes to an end with it. Raises Unreadable."""
    code = "from tinydiff.course import submission; submission._answer()"
    job = pickle.dumps((path.absolute(), pieces, folder and folder.absolute()))
    what = f"{path} holds {size // 1000} KB of code, which"
    try:
        options = {"input": job, "capture_output": True, "timeout": PATIENCE, "check": True}
        around = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=around, **options)
    except subprocess.TimeoutExpired:
        raise Unreadable(f"{what} takes more than {PATIENCE} seconds to read") from None
    except subprocess.CalledProcessError:
        raise Unreadable(f"{what} cannot be read: hand in what the exercises ask for") from None


def _answer():
    """Read the file on stdin in every way that grading does."""
    found = _submission(*pickle.load(sys.stdin.buffer))
    for exercise in exercises():
        found.attempts(exercise.function)
        if found.has(exercise.function):
            found.digest(exercise.function)


IMPORT = re.compile(r"(?:^[ \t]*(?:from|import)[ \t]+|'run', ')([A-Za-z]\w*)", re.M)


def _imported(texts, modules):
    """Find the modules that texts import, and those that these import.

    texts: list of str; modules: function of a name -> dict of relative name to bytes, as returned
    """
    found, seen, waiting = {}, {"tinydiff"}, list(texts)
    while waiting:
        for name in set(IMPORT.findall(waiting.pop())) - seen:
            seen.add(name)
            new = modules(name)
            found |= new
            waiting += [content.decode(errors="replace") for content in new.values()]
    return found


def _modules_in(folder, name, path):
    """Read a module in a folder: Path, its name, Path to leave out -> dict of name to bytes"""
    files = [folder / f"{name}.py", *sorted((folder / name).glob("*.py"))]
    small = [file for file in files if file != path and _is_small(file)]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in small}


def _is_small(file):
    return file.is_file() and not file.is_symlink() and file.stat().st_size <= FOUND_BESIDE
