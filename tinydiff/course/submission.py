"""A file that a student handed in, a notebook or a .py: its functions, and what each of them needs.

The functions are found by name; of two with one name the last counts. Of the file only what a
function needs is run: imports, functions, classes, and names for literals. Never run: the rest,
calls of `check` included.
"""

import ast
import hashlib
import json
import linecache
import re
from dataclasses import dataclass, field
from pathlib import Path

from .exercises import find, untouched


class Unreadable(Exception):
    """A file cannot be graded at all; the message is the one line that says why."""


@dataclass
class Submission:
    """What a file defines.

    places: name -> (where, node) of the last definition; stars: (where, node) of `import *`
    broken: name -> why its cell cannot be read; sources: where -> text of that cell or file
    """

    path: Path
    places: dict = field(default_factory=dict)
    stars: list = field(default_factory=list)
    broken: dict = field(default_factory=dict)
    sources: dict = field(default_factory=dict)

    @property
    def cells(self):
        return list(self.sources.items())

    @property
    def beside(self):
        return {}

    @classmethod
    def from_cells(cls, path, cells, beside=None):
        found = cls(Path(path))
        for where, text in cells:
            found.sources[where] = text
            for node in ast.parse(text).body:
                _note(found, where, node)
        return found

    def attempts(self, name):
        is_defined = name in self.places and isinstance(self.places[name][1], ast.FunctionDef)
        return is_defined and not untouched(self.source(name))

    def has(self, name):
        return name in self.broken or name in self.places

    def place(self, name):
        return self.places[name][0]

    def needs(self, function):
        """List what a function needs from the file: imports, then the rest in the file's order.

        function: str -> list of (where, node)
        """
        wanted, found = [function], {}
        while wanted:
            name = wanted.pop()
            if name in self.places and name not in found:
                found[name] = self.places[name]
                nodes = ast.walk(found[name][1])
                wanted += [node.id for node in nodes if isinstance(node, ast.Name)]
        unique = {id(node): (where, node) for where, node in found.values()}
        cells, imports = list(self.sources), (ast.Import, ast.ImportFrom)

        def order(place):
            where, node = place
            return not isinstance(node, imports), cells.index(where), node.lineno

        return sorted([*self.stars, *unique.values()], key=order)

    def source(self, function):
        """Cut a function out of the file, decorators included: str -> str"""
        where, node = self.places[function]
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        return "\n".join(self.sources[where].splitlines()[first - 1 : node.end_lineno])

    def digest(self, function):
        """Hash all that was graded: str -> 12 hex digits"""
        try:
            text = "\n".join(ast.unparse(node) for _, node in self.needs(function))
        except RecursionError:  # nested too deeply to be unparsed
            text = self.source(function)
        return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:12]

    def build(self, function):
        """Run what a function needs: str -> the function

        Raises Unreadable with what the file raises, and its place in the message.
        """
        package = find(function).module.__package__  # a file of the package imports from it
        scope = {"__name__": "submission", "__package__": package}
        for where, node in self.needs(function):
            source = self.sources[where]
            linecache.cache[where] = (len(source), None, source.splitlines(True), where)
            try:
                _execute(node, where, scope)
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                raise Unreadable(f"{where}, line {node.lineno}: {why}") from None
        return scope[function]


def _execute(node, where, scope):
    """Run one statement of a file; `from .x import y` also as in version 0.1, without wings."""
    code, package = compile(ast.Module([node], []), where, "exec"), scope["__package__"]
    try:
        exec(code, scope)
    except ImportError as error:
        is_near = isinstance(node, ast.ImportFrom) and node.level == 1
        if not is_near or package in ("tinydiff", "tinydiff.kernels"):
            raise
        try:
            scope["__package__"] = "tinydiff"
            exec(code, scope)
        except ImportError:
            scope["__package__"] = package
            raise error from None


def files_in(names):
    """List the files that are meant: names of notebooks, .py files or folders -> list of Paths

    Raises Unreadable for a folder without any.
    """
    found = []
    for path in map(Path, names):
        inside = [p for p in path.iterdir() if _is_work(p)] if path.is_dir() else [path]
        if not inside:
            raise Unreadable(f"{path} holds no notebook and no .py")
        found += sorted(inside)
    return found


def _is_work(path):
    is_kind = path.suffix.lower() in (".ipynb", ".py")
    return is_kind and not path.name.startswith((".", "_")) and path.is_file()


def read(path, data=None):
    """Read a notebook or a .py: Path -> Submission. Raises Unreadable where it is neither.

    data: bytes, of a file that is not on disk by itself, as in a zip
    """
    found = Submission(path)
    for where, text in _cells(path, data):
        text = "\n".join(text.splitlines())  # Python counts fewer kinds of line ends than str does
        try:
            try:
                nodes = ast.parse(text).body
            except SyntaxError:  # perhaps by lines for notebooks only: %time, !pip, ?help
                text = re.sub(r"^([ \t]*)[%!?].*$", r"\1pass", text, flags=re.M)
                nodes = ast.parse(text).body
            found.sources[where] = text
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            line, said = getattr(error, "lineno", "?"), getattr(error, "msg", error)
            why = f"{where}, line {line}: {type(error).__name__}: {said}"
            for name in re.findall(r"^\s*(?:def|class)\s+(\w+)", text, re.M) or [""]:
                found.places.pop(name, None)
                found.broken[name] = why
            continue
        for node in nodes:
            _note(found, where, node)
    return found


def _note(found, where, node):
    """Note what a statement defines: Submission, str, node -> None"""
    is_function = isinstance(node, ast.FunctionDef)
    if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
        found.stars.append((where, node))
    for name in _defines(node):
        _, before = found.places.get(name, (None, None))
        if is_function or not isinstance(before, ast.FunctionDef):
            found.places[name] = (where, node)  # a later import does not replace a function
        found.broken.pop(name, None)


WHYS = {
    KeyError: "it has no cells",
    json.JSONDecodeError: "not valid JSON",
    UnicodeDecodeError: "it is not UTF-8",
}


def _cells(path, data):
    """Cut a file into its pieces: Path, bytes or None -> list of (where, text)"""
    is_notebook = ".ipynb" in path.name.lower()
    hint = "give a notebook or a .py"
    try:
        text = (path.read_bytes() if data is None else data).decode("utf-8-sig")
        if not is_notebook:
            return [(path.name, text)]
        return [
            (f"{path.name} cell {k}", "".join(cell["source"]))
            for k, cell in enumerate(json.loads(text)["cells"], 1)
            if cell["cell_type"] == "code"
        ]
    except OSError as error:
        raise Unreadable(f"{path} cannot be read ({error.strerror}): {hint}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        kind = "a notebook" if is_notebook else "a text"
        why = WHYS.get(type(error), error)
        raise Unreadable(f"{path} is not {kind} ({why}): {hint}") from None


def _defines(node):
    """List the names that a statement gives a meaning, if it is of a kind that is run: -> list"""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(a.asname or a.name).split(".")[0] for a in node.names]
    if not isinstance(node, ast.Assign):
        return []
    if not isinstance(node.value, ast.Lambda):
        try:
            ast.literal_eval(node.value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return []
    return [target.id for target in node.targets if isinstance(target, ast.Name)]
