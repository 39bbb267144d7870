"""A handed-in file as plain Python: its cells, and what only a notebook understands in them."""

import io
import json
import re
import tokenize
from pathlib import PurePosixPath

SIZE = 256 << 20  # bytes of a file, pictures in its outputs included
CODE = 4 << 20  # letters of code in it
RUN_HERE = ("time", "capture", "prun")  # cell magics whose cell is run with the notebook's names
WRITTEN = ("writefile", "file")  # those whose cell is the text of a file
MAGIC = re.compile(r"^[ \t]*[%!?]|=[ \t]*[%!]|\?[ \t]*$", re.M)
TIMED = re.compile(r"^([\w, \t]+=[ \t]*|[ \t]*)%(?:time|prun)[ \t]+(?=[^-\s])", re.M)
PLAIN = [  # the same by plain means, where IPython is missing or the cell is very long
    (re.compile(r"^([ \t]*)[%!?].*$", re.M), r"\1pass"),
    (re.compile(r"^([\w, \t]+=[ \t]*)[%!].*$", re.M), r"\1None"),
    (re.compile(r"^([ \t]*)[\w.%]+\?\??[ \t]*$", re.M), r"\1pass"),
]
LONG = 20_000  # letters, and a tenth of letters times magics: IPython reads a cell once for each


class Unreadable(Exception):
    """A file cannot be graded at all; the message is the one line that says why."""


WHYS = {
    KeyError: "it has no cells",
    json.JSONDecodeError: "not valid JSON",
    UnicodeDecodeError: "it is not UTF-8",
    RecursionError: "nested too deeply",
    MemoryError: "it takes too much memory",
}


def cells_of(path, data=None):
    """Cut a notebook or a .py into its pieces of code, as they stand.

    path: Path; data: bytes, of a file that is not on disk by itself -> list of (where, text)
    Raises Unreadable where it is neither, or too large.
    """
    is_notebook = ".ipynb" in path.name.lower()
    hint = "give a notebook or a .py"
    try:
        data = _content(path, hint) if data is None else data
        cells = notebook_cells(path.name, data) if is_notebook else [_script(path.name, data)]
    except OSError as error:
        raise Unreadable(f"{path} cannot be read ({error.strerror}): {hint}") from None
    except (ValueError, KeyError, TypeError, RecursionError, MemoryError) as error:
        kind = "a notebook" if is_notebook else "a text"
        why = WHYS.get(type(error), error)
        raise Unreadable(f"{path} is not {kind} ({why}): {hint}") from None
    if sum(len(text) for _, text in cells) > CODE:
        raise Unreadable(f"{path} holds more than {CODE >> 20} MB of code: keep data out of it")
    return cells


def notebook_cells(name, content):
    """Cut a notebook into its cells of code: its name, bytes -> list of (where, text)"""
    cells = json.loads(content.decode("utf-8-sig"))["cells"]
    return [
        (f"{name} cell {k}", "".join(cell["source"]))
        for k, cell in enumerate(cells, 1)
        if cell["cell_type"] == "code"
    ]


def _content(path, hint):
    if path.exists() and not path.is_file():
        raise Unreadable(f"{path} is not a file: {hint}")
    if path.stat().st_size > SIZE:
        raise Unreadable(f"{path} is larger than {SIZE >> 20} MB: clear its outputs")
    return path.read_bytes()


def _script(name, content):
    """Read a .py, in the encoding that it names: its name, bytes -> (where, text)"""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    except SyntaxError:
        encoding = "utf-8"
    return name, content.decode(encoding)


def plain(text):
    """Write a cell as plain Python: magics as calls of `get_ipython()`, line ends as "\\n".

    text: str -> (text, files): files: name -> (text, whether to append), of `%%writefile`
    Raises SyntaxError, ValueError, MemoryError or RecursionError where it is no Python.
    """
    text = re.sub("\r\n?", "\n", text)
    first, _, body = text.lstrip("\n").partition("\n")
    if magic := re.match(r"%%(\w+)[ \t]*(.*)", first):
        kind, words = magic[1], magic[2].split()
        if kind in WRITTEN and words:
            is_added = bool({"-a", "--append"} & set(words))
            return "", {words[-1].strip("'\""): (body, is_added)}
        if kind not in RUN_HERE:
            return "", {}
        inner, files = plain(body)
        above = text[: text.index("%%")] + "\n"  # so that lines keep their numbers
        return above + inner, files
    if not MAGIC.search(text) or _parses(text):
        return text, {}
    text = TIMED.sub(r"\1", text)
    for read in (str, _by_ipython, _by_patterns):
        found = read(text)
        if found is not None and _parses(found):
            return found, {}
    return text, {}


def _parses(text):
    try:
        compile(text, "cell", "exec", 0x400 | 0x2000, True)  # only the tree; `await` is allowed
        return True
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False


def _by_ipython(text):
    """Have IPython itself write a cell as Python, if it is installed: str -> str or None

    The lines keep their numbers, or nearly so where a magic goes over several.
    """
    if len(text) * max(1, len(MAGIC.findall(text)) / 10) > LONG:
        return None
    try:
        from IPython.core.inputtransformer2 import TransformerManager

        return TransformerManager().transform_cell(text)
    except Exception:  # not installed, or what is written there is not even tokens
        return None


def _by_patterns(text):
    text = re.sub(r"^([ \t]*!.*)\\\n.*$", r"\1\n", text, flags=re.M)  # a shell line continued
    for pattern, instead in PLAIN:
        text = pattern.sub(instead, text)
    return text


def is_inside(name):
    """Say whether the name of a file stays in its folder: str -> bool"""
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts
