"""Run the lessons and keep their outputs.

    python tests/lessons.py [01 studio ...]  run these (default: all), keep their outputs
    python tests/lessons.py --shell          link all lessons with each other, at head and foot

A lesson's metadata holds a hash of what its outputs depend on: its cells, and the package's code
that it shows. With TINYDIFF_FAST=1 in the environment, lessons that train do so for a few steps
only; do not keep those outputs.
"""

import ast
import base64
import hashlib
import inspect
import io
import os
import re
import sys
import time
from pathlib import Path
from pkgutil import resolve_name

import nbformat
from nbclient import NotebookClient
from PIL import Image

from tinydiff.app.site import SHELL, title_of, without_shell

ROOT = Path(__file__).resolve().parents[1]
LESSONS = ROOT / "lessons"
LARGEST = 500_000  # bytes of a notebook with its outputs


def lessons():
    return sorted(LESSONS.glob("[0-9][0-9]_*.ipynb"))


def read(path):
    return nbformat.read(path, as_version=4)


def fingerprint(notebook):
    """Hash the cells and whatever they `show(...)`: a notebook -> hex digits"""
    text = [f"{cell.cell_type}\n{without_shell(cell.source)}" for cell in notebook.cells]
    known = imported(notebook)
    for name in re.findall(r"^show\(([\w.]+)\)", "\n".join(text), re.M):
        module, *rest = name.split(".")
        item = resolve_name(".".join([known[module], *rest]))
        text.append(inspect.getsource(inspect.unwrap(item)))
    return hashlib.sha256("\n\n".join(text).encode()).hexdigest()[:16]


def imported(notebook):
    """List what a lesson imports of the package -> {"edit": "tinydiff.design.edit", ...}"""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    without_magics, found = re.sub(r"^%.*", "", code, flags=re.M), {}
    for node in ast.parse(without_magics).body:
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "tinydiff":
            found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return found


def run(notebook, seconds=600):
    """Run a notebook's cells in a fresh process, top to bottom; an error in a cell is raised here.

    notebook: changed in place; seconds: limit for one cell -> notebook
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    backend = "module://matplotlib_inline.backend_inline"
    here = {"metadata": {"path": str(LESSONS)}}
    client = NotebookClient(notebook, timeout=seconds, kernel_name="python3", resources=here)
    ours = {"PYTHONPATH": path, "MPLBACKEND": backend, "TINYDIFF_PROGRESS": ""}
    client.execute(env=os.environ | ours)
    return notebook


def is_live(output):
    """Tell whether an output is a widget, which dies with its kernel: output -> bool"""
    return "application/vnd.jupyter.widget-view+json" in output.get("data", {})


def smaller(png, colors):
    """Reduce a picture to a number of colours where that makes it smaller: PNG in base64 -> same"""
    original, small = base64.b64decode(png), io.BytesIO()
    picture = Image.open(io.BytesIO(original)).convert("RGB")
    picture = picture.quantize(colors, kmeans=1, dither=Image.Dither.NONE)
    picture.save(small, "png", optimize=True)
    return base64.b64encode(min(original, small.getvalue(), key=len)).decode()


def keep(path):
    """Run a lesson and write it back, small and without traces of this machine.

    path: Path -> seconds it took, size in bytes
    """
    notebook, began = read(path), time.perf_counter()
    run(notebook)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not is_live(output)]
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "tinydiff": {"fingerprint": fingerprint(notebook)},
    }
    for colors in (256, 128, 64, 40, 32):
        for output in outputs:
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"], colors)
        text = nbformat.writes(notebook) + "\n"
        if len(text.encode()) <= LARGEST:
            break
    path.write_text(text, encoding="utf-8")
    return time.perf_counter() - began, len(text.encode())


def shell(path):
    """Write the line that leads from a lesson to its neighbours, the contents and the errata.

    path: Path -> str, in Markdown
    """
    paths = lessons()
    k, first = paths.index(path), paths[0]
    text = "\n".join(cell.source for cell in read(first).cells if cell.cell_type == "markdown")
    there = re.search(r"^#+ +(.*\bmap\b.*)$", text, re.M)
    anchor = f"#{there[1].replace(' ', '-')}" if there else ""
    before, after = paths[max(k - 1, 0) : k], paths[k + 1 : k + 2]
    links = [f"[← {title_of(read(other))}]({other.name})" for other in before]
    links += [f"[Contents]({first.name}{anchor})", "[Errata](ERRATA.md)", "[Letters](LETTERS.md)"]
    links += [f"[{title_of(read(other))} →]({other.name})" for other in after]
    return f"{' | '.join(links)} {SHELL}"


def write_shell(path):
    """Put that line under a lesson's title and at its end, in place of an older one: Path -> None

    The outputs stay fresh: they do not depend on it.
    """
    notebook, line = read(path), shell(path)
    head, foot = notebook.cells[0], notebook.cells[-1]
    assert head.cell_type == foot.cell_type == "markdown", f"{path.name} begins or ends with code"
    title, _, rest = without_shell(head.source).partition("\n")
    head.source = f"{title}\n\n{line}\n{rest}"
    foot.source = f"{without_shell(foot.source)}\n\n{line}"
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


if __name__ == "__main__":
    wanted = sys.argv[1:]
    if wanted == ["--shell"]:
        for path in lessons():
            write_shell(path)
        sys.exit()
    for path in [*lessons(), LESSONS / "studio.ipynb"]:
        if not wanted or path.name.startswith(tuple(wanted)):
            seconds, size = keep(path)
            warning = " - TOO LARGE" if size > LARGEST else ""
            print(f"{path.name}: {seconds:.0f} s, {size / 1000:.0f} kB{warning}")
