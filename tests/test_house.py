"""The rules of the house, read from the source: who may import whom, what must be documented."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import tinydiff
from tinydiff.app import cli

PACKAGE = Path(tinydiff.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {p: ast.parse(p.read_text(encoding="utf-8")) for p in FILES}

# The house from the ground up. The core lies flat: two towers, each from the bottom up, and what
# stands on both; around it the wings, a folder each, with the wings that each may use.
DIFFUSION_TOWER = ["schedule", "diffusion", "exact", "sample", "guide"]
NETWORK_TOWER = ["autodiff", "gradcheck", "ops", "nn", "lora", "optim", "unet", "finetune"]
ON_BOTH = ["streams", "machines", "train", "files", "data", "augment", "fields", "checkpoint"]
ON_BOTH += ["player", "plot"]
CORE = [*DIFFUSION_TOWER, *NETWORK_TOWER, *ON_BOTH]
WINGS = {
    "kernels": set(),
    "design": {"kernels", *CORE},
    "collect": {"kernels", "design", *CORE},
    "beyond": {"kernels", *CORE},
    "measure": {"kernels", "design", "beyond", *CORE},
    "course": {"kernels", "autodiff", "files"},
    "studio": {"kernels", "design", *CORE},
    "app": {"kernels", "design", "collect", "beyond", "measure", "course", *CORE},
}
DOORS = {"__init__": {"former"}, "__main__": {"app"}, "grade": {"course"}, "former": set()}
OUTSIDE = {"numpy", "numba", "llvmlite", "matplotlib", "PIL", "tqdm"}  # all that is ever imported
OUTSIDE |= {"IPython", "nbconvert", "nbformat", "pygments", "pytest", "_pytest"}
OUTSIDE |= {"anywidget", "traitlets", "mpi4py", "fontTools"}


def room(path):
    """Name a file as others import it: "ops", "kernels.reference", "kernels" -> str"""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "__init__"


def imports(tree, package=""):
    """List a file's imports, also those inside functions; package: its folder, "" or "app".

    -> [(module, name or None)], our own modules as ".module"
    """
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(a.name.replace("tinydiff.", "."), None) for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level == 1:
                module = f".{package}.{module}".replace("..", ".")
            elif node.level == 2 or module.split(".")[0] == "tinydiff":
                module = f".{module.removeprefix('tinydiff').removeprefix('.')}"
            folder = module.rstrip(".")
            if module.endswith(".") or folder[1:] in WINGS:  # what is imported is a module itself
                found += [(f"{folder}.{a.name}", None) for a in node.names]
            else:
                found += [(module, a.name) for a in node.names]
    return found


def own_imports(path):
    """List the rooms of the package that a file imports, as "ops" or "kernels.reference"."""
    package = ".".join(path.relative_to(PACKAGE).parts[:-1])
    found = {m[1:] for m, _ in imports(TREES[path], package) if m.startswith(".")}
    rooms = {room(p) for p in FILES}
    return {m if m in rooms else m.rpartition(".")[0] or "__init__" for m in found}


def outside_imports(path):
    return {m.split(".")[0] for m, _ in imports(TREES[path]) if not m.startswith(".")}


def beneath(name):
    """List what a room may import: folders whole, rooms of the core one by one -> set of names"""
    wing = name.split(".")[0]
    if wing in WINGS:
        return WINGS[wing] | {wing}
    if name in DOORS:
        return DOORS[name]
    for tower in (DIFFUSION_TOWER, NETWORK_TOWER):
        if name in tower:
            return {"kernels", *tower[: tower.index(name)]}
    return {"kernels", *CORE[: CORE.index(name)]}


# --- who imports whom ---


def test_every_file_has_its_place():
    """A new file goes into a wing; one in the core must be written here, where it stands."""
    flat = {room(p) for p in FILES if p.parent == PACKAGE}
    assert flat == {*CORE, *DOORS}
    assert {p.parent.name for p in FILES if p.parent != PACKAGE} == set(WINGS)


@pytest.mark.parametrize("path", FILES, ids=room)
def test_imports_run_downwards(path):
    own = {m.split(".")[0] for m in own_imports(path)} - {"__init__"}
    assert own <= beneath(room(path))


def test_there_is_no_circle():
    """Also within a wing: each file can be read, and loaded, before those that use it."""
    graph = {room(p): own_imports(p) - {"__init__", room(p)} for p in FILES}
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("schedule") < order.index("design.pipeline") < order.index("app.cmd_sample")


def test_a_circle_would_be_seen():
    graph = {"a": {"b"}, "b": {"a"}}
    with pytest.raises(ValueError, match="cycle"):
        list(TopologicalSorter(graph).static_order())


def test_each_command_has_its_file():
    for command, file in cli.COMMANDS.items():
        tree = TREES[PACKAGE / "app" / f"{file}.py"]
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert f"cmd_{command or 'digits'}" in names


def test_autodiff_imports_the_standard_library_only():
    path = PACKAGE / "autodiff.py"
    assert own_imports(path) == set()
    assert outside_imports(path) <= sys.stdlib_module_names


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("kernels/*.py")), ids=room)
def test_kernels_need_numpy_and_numba_only(path):
    assert outside_imports(path) - sys.stdlib_module_names <= {"numpy", "numba", "llvmlite"}


def test_the_reference_needs_numpy_only():
    path = PACKAGE / "kernels" / "reference.py"
    assert (own_imports(path), outside_imports(path)) == (set(), {"numpy"})


def test_the_import_reader_reads():
    """The tests above are worth what `imports` is worth."""
    source = "import os, tinydiff.ops\nfrom . import kernels\nfrom .train import train\n"
    source += "from tinydiff import nn\nfrom tinydiff.unet import UNet\n"
    source += "def f():\n    import torch.nn\n    from .kernels.cpu import conv2d"
    found = {m for m, _ in imports(ast.parse(source))}
    own = {".ops", ".kernels", ".train", ".nn", ".unet", ".kernels.cpu"}
    assert found == {"os", "torch.nn", *own}
    source = "from .reference import *\nfrom . import cpu\nfrom .. import ops\n"
    source += "from ..design import edit\nfrom ..design.pipeline import Pipeline"
    found = imports(ast.parse(source), "kernels")
    assert found[:3] == [(".kernels.reference", "*"), (".kernels.cpu", None), (".ops", None)]
    assert found[3:] == [(".design.edit", None), (".design.pipeline", "Pipeline")]


@pytest.mark.parametrize("path", FILES, ids=room)
def test_no_framework(path):
    assert outside_imports(path) <= sys.stdlib_module_names | OUTSIDE


TESTS = sorted(Path(__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", [*FILES, *TESTS], ids=lambda p: p.name)
def test_no_kernel_is_imported_by_name(path):
    """`from .kernels import conv2d` would freeze the choice of the set; modules may be imported."""
    if path.parent.name == "kernels":
        return
    package = path.parent.name if path.parent.name in WINGS else ""
    found = imports(ast.parse(path.read_text(encoding="utf-8")), package)
    modules = {f".kernels.{p.stem}" for p in PACKAGE.glob("kernels/*.py")}
    allowed = modules | {".kernels", ".kernels.HostOnly"}
    assert {m for m, _ in found if m.startswith(".kernels")} <= allowed


def test_numba_cuda_is_imported_on_one_line_at_most():
    lines = [line for p in FILES for line in p.read_text(encoding="utf-8").splitlines()]
    found = [line for line in lines if re.match(r"\s*(from|import) .*numba.*\bcuda\b", line)]
    assert len(found) == 1


HEAVY = ["numba", "llvmlite", "matplotlib"]
LIGHT = ["", ".sample", ".unet", ".train", ".plot", ".design.pipeline", ".grade"]


@pytest.mark.parametrize("module", LIGHT)
def test_importing_loads_neither_numba_nor_matplotlib(module):
    code = f"import sys, tinydiff{module}; print([m for m in {HEAVY} if m in sys.modules])"
    command, home = [sys.executable, "-c", code], PACKAGE.parent
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- randomness ---


def dotted(node):
    return (
        f"{dotted(node.value)}.{node.attr}"
        if isinstance(node, ast.Attribute)
        else getattr(node, "id", "")
    )


@pytest.mark.parametrize("path", FILES, ids=room)
def test_no_global_randomness(path):
    names = {dotted(node) for node in ast.walk(TREES[path]) if isinstance(node, ast.Attribute)}
    used = {name for name in names if name.startswith(("np.random.", "numpy.random."))}
    assert {name.split(".")[2] for name in used} <= {"default_rng", "Generator", "Philox"}
    assert not {m for m, _ in imports(TREES[path])} & {"random", "numpy.random"}


# --- docstrings ---

ONE_SET = [  # reference speaks for all kernel sets; the others' helpers are no door
    p for p in FILES if p.parent.name == "kernels" and p.stem not in ("__init__", "reference")
]
PUBLIC = {
    f"{room(p)}.{node.name}": node
    for p in FILES
    if p not in ONE_SET
    for node in TREES[p].body
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
}
NO_ARRAYS = ("course", "studio", "app", "former")
FUNCTIONS = {
    name: node
    for name, node in PUBLIC.items()
    if isinstance(node, ast.FunctionDef) and name.split(".")[0] not in NO_ARRAYS
}


@pytest.mark.parametrize("path", FILES, ids=room)
def test_every_file_says_its_purpose_in_one_line(path):
    first, *rest = (ast.get_docstring(TREES[path]) or "").splitlines()
    assert 25 < len(first) <= 97 and first.endswith((".", "?", ":"))
    assert rest == [] or rest[0] == ""


@pytest.mark.parametrize("node", PUBLIC.values(), ids=PUBLIC)
def test_every_public_function_and_class_has_a_docstring(node):
    doc = ast.get_docstring(node) or ""
    assert len(doc) > 20
    assert len(doc.splitlines()) <= 17, "about 15 lines of 100 columns are enough"


@pytest.mark.parametrize("path", FILES, ids=room)
def test_every_public_method_has_a_docstring_or_is_an_operator(path):
    if path in ONE_SET:
        return
    for node in TREES[path].body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            methods = [n for n in node.body if isinstance(n, ast.FunctionDef)]
            bare = [n.name for n in methods if n.name[0] != "_" and not ast.get_docstring(n)]
            assert set(bare) <= UNSAID, f"{node.name}: {bare}"


UNSAID = {"shape", "ndim", "dtype", "step"}  # of a Tensor, as an array's; of Adam, in its class


SIZE = r"(?:\.\.\.|[0-9A-Z]\w?(?:[ */+-]+[0-9A-Z])*|height|width|steps)"
SHAPE = re.compile(
    rf"\((?:{SIZE}(?:, {SIZE})*,?)?\)"
)  # (), (...), (N,), (N, H/2, W/2, C), (T + 1,)
SHAPELESS = {  # these handle no arrays, or arrays of any shape
    "autodiff.op",
    "autodiff.gradient",
    "gradcheck.gradcheck",
    "checkpoint.build",
    "design.pipeline.parse_labels",
    "design.pipeline.evaluations",
    "files.require_file",
    "files.require_folder",
    "files.require_replaceable",
    "files.write_whole",
    "plot.figure",
    "plot.alt_texts",
    "plot.picked",
    "plot.style",
    "plot.judged",
    "plot.save_figure",
    "sample.even_times",
    "sample.quadratic_times",
    "sample.snr_times",
    "sample.karras_times",
}


@pytest.mark.parametrize("name, node", FUNCTIONS.items(), ids=FUNCTIONS)
def test_every_function_says_what_goes_in_and_what_comes_out(name, node):
    """An arrow to the result, and a shape before or after it."""
    doc = " ".join((ast.get_docstring(node) or "").split())
    assert "->" in doc
    assert SHAPE.search(doc) or name in SHAPELESS


# --- the maps ---

README = PACKAGE.parent / "README.md"


def test_readme_points_at_files_that_exist():
    text = README.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert len(links) > 40
    assert [link for link in links if not (README.parent / link).exists()] == []
    assert re.findall(r"^[A-Z_]+$", text, re.M) == []
    assert len(text.splitlines()) <= 170, "README is what one reads first: details have pages"


def test_readme_s_map_names_every_file():
    text = README.read_text(encoding="utf-8")
    files = [p.relative_to(README.parent).as_posix() for p in FILES if p.stem[0] != "_"]
    assert [file for file in files if f"({file})" not in text] == []


def test_the_package_s_map_names_every_file_of_the_core_and_every_wing():
    words = set(re.findall(r"\w+", tinydiff.__doc__))
    assert {*CORE, *WINGS, "grade", "former"} <= words
