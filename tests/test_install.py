"""tinydiff installed without its clone: the wheel holds all that the package reads."""

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tinydiff import data

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def major(package):
    """Give a package's version, without importing it: -> int, 0 where it is not installed"""
    try:
        return int(version(package).split(".")[0])
    except PackageNotFoundError:
        return 0


pytestmark = pytest.mark.skipif(
    major("setuptools") < 77 or not major("pip"),
    reason="builds and installs wheels: pip install 'setuptools>=77'",
)


def python(*args, cwd=ROOT, path=""):
    """Run Python with `path` instead of this clone -> what it printed"""
    environment = os.environ | {"PYTHONPATH": str(path), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    run = {"capture_output": True, "text": True, "timeout": 100, "env": environment, "cwd": cwd}
    done = subprocess.run([sys.executable, *map(str, args)], **run)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(what, folder, tree=ROOT):
    """Build by setuptools, as pip does: "wheel", "editable" or "sdist" -> Path of the file"""
    call = f"import sys; from setuptools import build_meta as b; b.build_{what}(sys.argv[1])"
    python("-c", call, folder, cwd=tree)
    return next(folder.glob("*.tar.gz" if what == "sdist" else "*.whl"))


@pytest.fixture(scope="module")
def packed():
    """List what data/packing.py puts into the wheel -> set of str, as "models/digits.npz" """
    code = "import packing; print(*(path.as_posix() for path in packing.packed()))"
    return set(python("-c", code, path=ROOT / "data").split())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return built("wheel", tmp_path_factory.mktemp("wheel"))


# --- what is listed ---


def test_all_packages_are_listed():
    here = {p.parent.relative_to(ROOT) for p in (ROOT / "tinydiff").rglob("__init__.py")}
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == {".".join(p.parts) for p in here}


def test_all_that_the_package_reads_is_packed_and_nothing_else(packed):
    sets = {**data.FILES, **data.STYLES}
    read = {*sets.values(), "edits16.npz", "LICENSES.md", "README.md"}
    read |= {f"models/{name}{of}.npz" for name in sets for of in ("", "_judge")}
    assert read <= packed
    assert all(name.endswith(".npz") for name in packed - read)


# --- what is built ---


@pytest.mark.slow
def test_the_wheel_holds_modules_data_and_licences(packed, wheel):
    with zipfile.ZipFile(wheel) as f:
        names = {name for name in f.namelist() if ".dist-info/" not in name}
        about = [name.partition(".dist-info/")[2] for name in set(f.namelist()) - names]
    files = [p for kind in ("py", "js", "css") for p in (ROOT / "tinydiff").rglob(f"*.{kind}")]
    modules = {p.relative_to(ROOT).as_posix() for p in files}
    assert names == modules | {f"tinydiff/_data/{name}" for name in packed}
    assert {"licenses/LICENSE", "licenses/data/LICENSES.md"} <= set(about)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["wheel", "editable"])
def test_building_writes_nothing_into_the_clone(what, tmp_path):
    """So that it may be read-only; and what an older version built there is not packed again."""
    before = {path.name for path in ROOT.iterdir()}
    built(what, tmp_path)
    assert {path.name for path in ROOT.iterdir()} <= before


@pytest.mark.slow
def test_an_sdist_makes_the_same_wheel(wheel, tmp_path):
    with tarfile.open(built("sdist", tmp_path)) as f:
        f.extractall(tmp_path, filter="data")
    (tree,) = (path for path in tmp_path.iterdir() if path.is_dir())
    (tmp_path / "wheel").mkdir()
    again = built("wheel", tmp_path / "wheel", tree)
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())


@pytest.mark.slow
def test_the_wheel_draws_from_any_folder_and_says_what_needs_a_clone(wheel, tmp_path):
    site, empty = tmp_path / 'it\'s a "site"', tmp_path / "empty"
    empty.mkdir()
    python("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", site, wheel)
    where = python("-c", "from tinydiff import data; print(data.FOLDER)", cwd=empty, path=site)
    assert where.strip() == str(site / "tinydiff" / "_data")
    tinydiff = "-m", "tinydiff", "--kernels", "reference"
    draw = "sample", "digits", "--n", 1, "--steps", 1, "--out", "a.png"
    python(*tinydiff, *draw, cwd=empty, path=site)
    assert [path.name for path in empty.iterdir()] == ["a.png"]
    with pytest.raises(AssertionError, match="work in a clone of the repository") as refused:
        python(*tinydiff, "handout", "week1", cwd=empty, path=site)
    assert "Traceback" not in str(refused.value)


@pytest.mark.slow
def test_what_an_uninstalled_wheel_leaves_does_not_hide_an_editable_install(tmp_path):
    """Compiled kernels beside the modules, which pip doesn't know, once made tinydiff empty."""
    site = tmp_path / "site"
    with zipfile.ZipFile(built("editable", tmp_path)) as f:
        f.extractall(site)
    for wing in ("kernels", "design"):
        (site / "tinydiff" / wing / "__pycache__").mkdir(parents=True)
        (site / "tinydiff" / wing / "__pycache__" / "old.nbc").touch()
    start = f"import site; site.addsitedir({str(site)!r}); from importlib.util import find_spec"
    code = f"{start}; print(find_spec('tinydiff.kernels').origin)"
    where = python("-I", "-S", "-c", code)  # -S: without this environment's own tinydiff
    assert Path(where.strip()) == ROOT / "tinydiff" / "kernels" / "__init__.py"
