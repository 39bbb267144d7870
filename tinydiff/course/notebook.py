"""What the statements of a handed-in notebook or .py find around them when they are run."""

import ast
import asyncio
import inspect
import linecache
import os
import re
import sys
from pathlib import Path
from types import ModuleType

from .cells import notebook_cells, plain


def module_for(path, package):
    """Make the module in whose names a file's statements are run, `__main__` for a notebook.

    path: Path of the file; package: name of the one that `from . import` means -> module
    """
    is_notebook = ".ipynb" in path.name.lower()
    module = ModuleType("__main__" if is_notebook else "submission")
    shell = ZMQInteractiveShell(module)
    scope = {"display": _display, "get_ipython": lambda: shell, "__package__": package}
    scope |= {"In": [""], "Out": {}, "_": "", "__": "", "___": ""}
    if not is_notebook:
        scope["__file__"] = str(Path.cwd() / path.name)
    vars(module).update(scope)
    sys.modules[module.__name__] = module  # dataclasses and pickle look for it there
    return module


def execute(statement, text, module):
    """Run one statement of a file; `from .x import y` also as in version 0.1, without wings.

    statement: needed.Statement; text: str, that of its cell; module: see module_for -> None
    """
    where, node, scope = statement.where, statement.node, vars(module)
    linecache.cache[where] = (len(text), None, text.splitlines(True), where)
    code, package = statement.code, scope["__package__"]
    try:
        _run(code, scope)
    except ImportError as error:
        is_near = isinstance(node, ast.ImportFrom) and node.level == 1
        if not is_near or package in ("tinydiff", "tinydiff.kernels"):
            raise
        try:
            scope["__package__"] = "tinydiff"
            _run(code, scope)
        except ImportError:
            scope["__package__"] = package
            raise error from None


def _run(code, scope):
    """Run code, also code that awaits something, as a notebook does."""
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, scope))
    else:
        exec(code, scope)


def _display(*items, **options):
    """Stand in for the notebook's `display`, where nobody is to look at it."""


class ZMQInteractiveShell:
    """Stands in for the notebook's shell, by the name under which code asks for it.

    It runs handed-in files for `%run`; of shell commands nothing comes.
    """

    def __init__(self, module):
        self.user_ns, self.kernel = vars(module), None

    def run_line_magic(self, name, line, *args, **options):
        """Run `%run FILE` in the notebook's names, or `%env X=1`; other magics do nothing."""
        if name in ("env", "set_env") and (given := re.match(r"(\w+)\s*[\s=]\s*(.*)", line)):
            os.environ[given[1]] = given[2]
        if name != "run":
            return
        words = [w.strip("'\"") for w in line.split() if not w.startswith("-")]
        path = Path(words[0])
        path = path if path.suffix else path.with_suffix(".py")
        is_notebook = path.suffix == ".ipynb"
        content = path.read_bytes()
        cells = notebook_cells(path.name, content) if is_notebook else [(path.name, content)]
        for where, text in cells:
            exec(compile(plain(text)[0] if is_notebook else text, where, "exec"), self.user_ns)

    def getoutput(self, *args, **options):
        """Give the lines that a shell command would print: none."""
        return []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **options: None
