"""The rules of the house, read from the source itself: who may import whom, what is written down, what is not used."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tinydiff

PACKAGE = Path(tinydiff.__file__).parent
KERNELS = [p.stem for p in sorted(PACKAGE.glob("kernels/*.py"))]
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {p: ast.parse(p.read_text(encoding="utf-8")) for p in FILES}

DIFFUSION_TOWER = [
    "schedule",
    "diffusion",
    "exact",
    "sample",
    "guide",
    "edit",
    "restore",
    "colour",
    "likelihood",
    "metrics",
    "baselines",
]  # each from the bottom up
NETWORK_TOWER = ["autodiff", "gradcheck", "ops", "nn", "optim", "unet", "classifier", "gram"]
ABOVE = [
    "train",
    "style",
    "variance",
    "flow",
    "learned",
    "data",
    "checkpoint",
    "learn",
    "draw",
    "plot",
    "evaluate",
    "exercises",
    "calls",
    "diagnosis",
    "grade",
    "submission",
    "handout",
    "gallery",
    "commands",
    "studio",
    "classroom",
    "__main__",
]
OUTSIDE = {
    "numpy",
    "numba",
    "llvmlite",
    "matplotlib",
    "PIL",
    "tqdm",
    "IPython",
    "pytest",
    "_pytest",
}  # all that is ever imported


def beneath(module):
    """List what a module may import: all below it in its tower, or, above the towers, all before it."""
    for tower in (DIFFUSION_TOWER, NETWORK_TOWER):
        if module in tower:
            return {"kernels", *tower[: tower.index(module)]}
    return {"", "kernels", *DIFFUSION_TOWER, *NETWORK_TOWER, *ABOVE[: ABOVE.index(module)]}


def imports(tree, inside_kernels=False):
    """List a file's imports, also those inside functions -> [(module, name or None)], our own modules as ".module"."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(a.name.replace("tinydiff.", "."), None) for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = (
                "." + (node.module or "")
                if node.level
                else (node.module or "").replace("tinydiff", ".", 1).replace("..", ".")
            )
            if node.level == 1 and inside_kernels:
                module = ".kernels" + module
            found += [
                (module + a.name, None) if module.endswith(".") else (module, a.name)
                for a in node.names
            ]
    return found


def own_imports(path):
    """List the modules of the package that a file imports, as "ops", "kernels" or "kernels.reference"."""
    return {
        m[1:].rstrip(".")
        for m, _ in imports(TREES[path], path.parent.name == "kernels")
        if m.startswith(".")
    }


def outside_imports(path):
    return {m.split(".")[0] for m, _ in imports(TREES[path]) if not m.startswith(".")}


# --- who imports whom ---


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.parent == PACKAGE and p.stem != "__init__"], ids=lambda p: p.stem
)
def test_imports_run_downwards(path):
    assert path.stem in DIFFUSION_TOWER + NETWORK_TOWER + ABOVE, (
        "a new module: write here where in the house it stands"
    )
    own = {m.split(".")[0] for m in own_imports(path)} - {"__version__"}
    assert own <= beneath(path.stem)


def test_autodiff_imports_the_standard_library_only():
    path = PACKAGE / "autodiff.py"
    assert own_imports(path) == set()
    assert outside_imports(path) <= sys.stdlib_module_names


def test_the_package_itself_imports_nothing():
    assert imports(TREES[PACKAGE / "__init__.py"]) == []


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_import_nothing_above(name):
    path = PACKAGE / "kernels" / f"{name}.py"
    assert own_imports(path) <= {f"kernels.{k}" for k in KERNELS}
    assert outside_imports(path) - sys.stdlib_module_names <= {"numpy", "numba", "llvmlite"}


def test_the_reference_needs_numpy_only():
    path = PACKAGE / "kernels" / "reference.py"
    assert (own_imports(path), outside_imports(path)) == (set(), {"numpy"})


def test_the_import_reader_reads():
    """The tests above are worth what `imports` is worth."""
    source = "import os, tinydiff.ops\nfrom . import kernels\nfrom .train import train\nfrom tinydiff import nn\nfrom tinydiff.unet import UNet"
    source += "\ndef f():\n    import torch.nn\n    from .kernels.cpu import conv2d"
    found = {m for m, _ in imports(ast.parse(source))}
    assert found == {"os", ".ops", ".kernels", ".train", ".nn", ".unet", "torch.nn", ".kernels.cpu"}
    inside = imports(ast.parse("from .reference import *\nfrom . import cpu"), inside_kernels=True)
    assert inside == [(".kernels.reference", "*"), (".kernels.cpu", None)]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_framework(path):
    assert outside_imports(path) <= sys.stdlib_module_names | OUTSIDE


@pytest.mark.parametrize(
    "path", [*FILES, *sorted(Path(__file__).parent.glob("*.py"))], ids=lambda p: p.name
)
def test_no_kernel_is_imported_by_name(path):
    """`from .kernels import conv2d` would freeze the choice of the kernel set; whole modules may be imported."""
    if path.parent.name == "kernels":
        return
    found = imports(ast.parse(path.read_text(encoding="utf-8")))
    assert [
        (m, name)
        for m, name in found
        if m.startswith(".kernels") and name and not (m == ".kernels" and name in KERNELS)
    ] == []


def test_numba_cuda_is_imported_on_one_line_at_most():
    lines = [
        line
        for p in FILES
        for line in p.read_text(encoding="utf-8").splitlines()
        if "import" in line and "numba" in line and "cuda" in line
    ]
    assert len([line for line in lines if not line.lstrip().startswith("#")]) <= 1


@pytest.mark.parametrize(
    "module", ["tinydiff", "tinydiff.sample", "tinydiff.unet", "tinydiff.train", "tinydiff.plot"]
)
def test_importing_loads_neither_numba_nor_matplotlib(module):
    code = f"import sys, {module}; print(sorted({{'numba', 'llvmlite', 'matplotlib'}} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# --- randomness ---


def dotted(node):
    return (
        f"{dotted(node.value)}.{node.attr}"
        if isinstance(node, ast.Attribute)
        else getattr(node, "id", "")
    )


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_global_randomness(path):
    names = {dotted(node) for node in ast.walk(TREES[path]) if isinstance(node, ast.Attribute)}
    used = {name for name in names if name.startswith(("np.random.", "numpy.random."))}
    assert {name.split(".")[2] for name in used} <= {"default_rng", "Generator"}
    assert not {m for m, _ in imports(TREES[path])} & {"random", "numpy.random"}


# --- docstrings ---

DOCUMENTED = [
    p for p in FILES if p.parent == PACKAGE or p.stem in ("__init__", "reference", "microkernel")
]  # reference speaks for all sets
PUBLIC = {
    f"{p.stem}.{node.name}": node
    for p in DOCUMENTED
    for node in TREES[p].body
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
}
TEACHING = ("classroom", "exercises", "calls", "diagnosis", "grade", "submission", "handout")
NO_ARRAYS = (
    "__main__",
    "commands",
    "studio",
    *TEACHING,
    "microkernel",
)  # or, the last, flat memory
FUNCTIONS = {
    name: node
    for name, node in PUBLIC.items()
    if isinstance(node, ast.FunctionDef) and name.split(".")[0] not in NO_ARRAYS
}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_file_says_its_purpose(path):
    assert len(ast.get_docstring(TREES[path]) or "") > 40


@pytest.mark.parametrize("node", PUBLIC.values(), ids=PUBLIC)
def test_every_public_function_and_class_has_a_docstring(node):
    doc = ast.get_docstring(node) or ""
    assert len(doc) > 20
    assert len(doc.splitlines()) <= 12, "about 10 lines are enough"


SIZE = r"(?:\.\.\.|[0-9A-Z]\w?(?:[ */+-]+[0-9A-Z])*|height|width|steps)"
SHAPE = re.compile(
    rf"\((?:{SIZE}(?:, {SIZE})*,?)?\)"
)  # (), (...), (N,), (N, H/2, W/2, C), (T + 1,), (height, width, 3)
SHAPELESS = {  # these handle no arrays, or arrays of any shape
    "autodiff.op",
    "autodiff.gradient",
    "gradcheck.gradcheck",
    "checkpoint.build",
    "learn.describe",
    "draw.wishes",
    "draw.evaluations",
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


# --- README ---


def test_readme_points_at_files_that_exist():
    readme = PACKAGE.parent / "README.md"
    text = readme.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert len(links) > 40 and [link for link in links if not (readme.parent / link).exists()] == []
    assert re.findall(r"^[A-Z_]+$", text, re.M) == []


def test_the_map_names_every_module():
    words = set(re.findall(r"\w+", tinydiff.__doc__))
    assert {m for m in (*DIFFUSION_TOWER, *NETWORK_TOWER, *ABOVE) if m not in words} == set()
