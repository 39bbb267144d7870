"""A file that a student handed in, a notebook or a .py: which functions it defines, and what each of them needs.

The functions are found by name; of two with one name the last counts. Of the file only what a function needs is run: imports,
functions, classes, and names for literals. Never run: the rest, calls of `check` among it.
"""

import ast
import hashlib
import json
import linecache
import re
from dataclasses import dataclass, field
from pathlib import Path

from .exercises import find


class Unreadable(Exception):
    """A file cannot be graded at all; the message is the one line that says why."""


@dataclass
class Submission:
    """What a file defines. places: name -> (where, node) of the last definition; broken: name -> why its cell cannot be read."""

    path: Path
    places: dict = field(default_factory=dict)
    stars: list = field(default_factory=list)
    broken: dict = field(default_factory=dict)
    sources: dict = field(default_factory=dict)

    def needs(self, function):
        """List what a function needs from the file: imports, then the rest in the order of the file -> list of (where, node)"""
        wanted, found = [function], {}
        while wanted:
            name = wanted.pop()
            if name in self.places and name not in found:
                found[name] = self.places[name]
                wanted += [
                    node.id for node in ast.walk(found[name][1]) if isinstance(node, ast.Name)
                ]
        unique = {id(node): (where, node) for where, node in found.values()}
        order, imports = list(self.sources), (ast.Import, ast.ImportFrom)
        places = [*self.stars, *unique.values()]
        return sorted(
            places,
            key=lambda place: (
                not isinstance(place[1], imports),
                order.index(place[0]),
                place[1].lineno,
            ),
        )

    def source(self, function):
        where, node = self.places[function]
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        return "\n".join(self.sources[where].splitlines()[first - 1 : node.end_lineno])

    def digest(self, function):
        """Hash all that was graded: str -> 12 hex digits"""
        try:
            text = "\n".join(ast.unparse(node) for _, node in self.needs(function))
        except RecursionError:  # nested too deeply to be written down anew
            text = self.source(function)
        return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:12]

    def build(self, function):
        """Run what a function needs -> the function. Raises what the file raises, its place in the message."""
        scope = {
            "__name__": "submission",
            "__package__": find(function).module.__package__,
        }  # a file of the package imports from it
        for where, node in self.needs(function):
            linecache.cache[where] = (
                len(self.sources[where]),
                None,
                self.sources[where].splitlines(True),
                where,
            )
            try:
                exec(compile(ast.Module([node], []), where, "exec"), scope)
            except Exception as error:
                raise Unreadable(
                    f"{where}, line {node.lineno}: {type(error).__name__}: {error}"
                ) from None
        return scope[function]


def read(path):
    """Read a notebook or a .py: Path -> Submission. Raises Unreadable where it is neither."""
    found = Submission(path)
    for where, text in _cells(path):
        text = "\n".join(text.splitlines())  # Python counts fewer kinds of line ends than str does
        try:
            try:
                nodes = ast.parse(text).body
            except (
                SyntaxError
            ):  # perhaps lines that only a notebook understands: %time, !pip, ?help
                text = re.sub(r"^([ \t]*)[%!?].*$", r"\1pass", text, flags=re.M)
                nodes = ast.parse(text).body
            found.sources[where] = text
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            why = f"{where}, line {getattr(error, 'lineno', '?')}: {type(error).__name__}: {getattr(error, 'msg', error)}"
            for name in re.findall(r"^\s*(?:def|class)\s+(\w+)", text, re.M) or [""]:
                found.places.pop(name, None)
                found.broken[name] = why
            continue
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                found.stars.append((where, node))
            for name in _defines(node):
                if isinstance(node, ast.FunctionDef) or not isinstance(
                    found.places.get(name, (0, 0))[1], ast.FunctionDef
                ):
                    found.places[name] = (where, node)  # a later import does not replace a function
                found.broken.pop(name, None)
    return found


def _cells(path):
    """Give the pieces of a file -> list of (where, text)"""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() != ".ipynb":
            return [(path.name, text)]
        cells = json.loads(text)["cells"]
        return [
            (f"{path.name} cell {k}", "".join(c["source"]))
            for k, c in enumerate(cells, 1)
            if c["cell_type"] == "code"
        ]
    except OSError as error:
        raise Unreadable(
            f"{path} cannot be read ({error.strerror}): give a notebook or a .py"
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        kind = "notebook" if path.suffix.lower() == ".ipynb" else "text"
        why = {
            KeyError: "it has no cells",
            json.JSONDecodeError: "it is no JSON",
            UnicodeDecodeError: "it is not UTF-8",
        }
        raise Unreadable(
            f"{path} is no {kind} ({why.get(type(error), error)}): give a notebook or a .py"
        ) from None


def _defines(node):
    """List the names that a statement gives a meaning, if it is of a kind that is run -> list of str"""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(a.asname or a.name).split(".")[0] for a in node.names]
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.Assign):
        try:
            ast.literal_eval(node.value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return []
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []
