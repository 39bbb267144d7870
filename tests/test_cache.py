"""Compiled kernels: read from disk only when whole and of this source; forks, threads, doctor."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

import tinydiff
from tinydiff import checkpoint, kernels
from tinydiff.app import cli, cmd_doctor
from tinydiff.kernels import cpu_cache, cpu_threads, reference
from tinydiff.kernels.cpu_microkernel import jit

PACKAGE = Path(tinydiff.__file__).resolve().parent
ALONE = {"PYTHONPATH": str(PACKAGE.parent), "NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def python(*words, **env):
    """Run a fresh Python -> the finished process; one that hangs is an error."""
    command, env = [sys.executable, "-P", *map(str, words)], {**os.environ, **ALONE, **env}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Give the cache a folder of its own, which is empty -> its path"""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cpu_cache.Cache, "given_up", "")
    monkeypatch.setattr(cpu_cache.Cache, "announced", False)
    cpu_cache.folder.cache_clear()
    yield cpu_cache.folder()[0]
    cpu_cache.folder.cache_clear()


def third(x):
    return x[2]


def fourth(x):
    return x[3]


def call(f=third, x=(1.0, 2.0, 3.0, 4.0)):
    """Compile f, or read it from the cache, and call it -> its result, was it read?"""
    kernel = jit(f)
    result = kernel(np.array(x))
    return result, sum(kernel.stats.cache_hits.values()) == 1


def test_what_was_compiled_is_read_the_next_time(place):
    assert call() == (3, False)
    (file,) = place.iterdir()
    assert file.suffix == ".nbc" and "third" in file.name
    assert call() == (3, True)
    assert call(fourth) == (4, False)
    assert call(fourth) == (4, True) and call() == (3, True)


def test_what_another_process_has_just_kept_is_read_if_it_is_there_now(place, monkeypatch):
    call()
    (file,), asked = place.iterdir(), []
    elsewhere = file.rename(place / "elsewhere")

    def kept(kernel):
        asked.append(kernel)
        return elsewhere.exists() and elsewhere.rename(file)

    monkeypatch.setattr(cpu_cache.Cache, "elsewhere", kept)
    assert call() == (3, True) and call() == (3, True)
    assert asked == ["test_cache.third"], "asked only for what is not there"
    assert call(fourth) == (4, False) and asked[1:] == ["test_cache.fourth"]


def test_a_notebook_says_once_why_it_waits_and_only_if_it_compiles(place, monkeypatch, capfd):
    call()
    assert capfd.readouterr().out == "", "not in a notebook"
    monkeypatch.setitem(sys.modules, "ipykernel", None)
    call()
    assert capfd.readouterr().out == "", "it is read"
    call(fourth), call(fourth, (1, 2, 3, 4))
    said = capfd.readouterr().out
    assert said == "compiling kernels, once: a few seconds each, about 40 s in all\n"


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGES = {
    "empty": lambda whole, other: b"",
    "begun": lambda whole, other: whole[:20],
    "cut": lambda whole, other: whole[:-1],
    "longer": lambda whole, other: whole + b"\0",
    "first byte": lambda whole, other: flipped(whole, 0),
    "a byte of the code": lambda whole, other: flipped(whole, len(whole) // 2),
    "last byte": lambda whole, other: flipped(whole, len(whole) - 1),
    "another program's": lambda whole, other: b"GIF89a" * 1000,
    "another kernel's": lambda whole, other: other,
    "without its mark": lambda whole, other: whole[32:],
}


def test_a_damaged_file_is_compiled_anew_never_run(place, capfd):
    call(), call(fourth)
    file, other = (next(place.glob(f"*.{name}-*")) for name in ("third", "fourth"))
    whole = file.read_bytes()
    for name, damage in DAMAGES.items():
        file.write_bytes(damage(whole, other.read_bytes()))
        assert call() == (3, False), name
        assert call() == (3, True), name
    assert capfd.readouterr().err == ""


def test_a_file_that_this_numba_cannot_use_is_compiled_anew(place, monkeypatch):
    """As if its checksum were right: whatever unpickling says, it is no traceback."""
    call()
    (file,) = place.iterdir()
    for nonsense in (b"", b"\x80\x04N.", b"nonsense", file.read_bytes()[32:][:100]):
        file.write_bytes(bytes(32) + nonsense)
        with monkeypatch.context() as m:
            m.setattr(cpu_cache, "_mark", lambda key, code: bytes(32))
            assert call() == (3, False)


def test_with_another_setting_of_numba_the_code_is_another(place, monkeypatch):
    short = (1.0, 2.0, 3.0)
    call(fourth, short)
    monkeypatch.setattr(numba.config, "BOUNDSCHECK", 1)
    with pytest.raises(IndexError):
        call(fourth, short)
    monkeypatch.undo()


@pytest.mark.parametrize("name", cpu_cache.SETTINGS)
def test_each_setting_has_files_of_its_own(name, place, monkeypatch):
    names = []
    for value in (getattr(numba.config, name, None), "another"):
        monkeypatch.setattr(numba.config, name, value, raising=False)
        codegen = numba.core.registry.cpu_target.target_context.codegen()
        names.append(cpu_cache.Cache(third)._place((), codegen)[0].name)
    assert names[0] != names[1]


def test_the_names_of_settings_are_numba_s():
    assert [name for name in cpu_cache.SETTINGS if not hasattr(numba.config, name)] == []


def test_a_place_that_may_not_be_entered_is_passed_over(tmp_path, monkeypatch):
    """Python 3.11 raises where a folder above may not be entered: Path.is_dir, not os.path's."""

    def closed(self):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(cpu_cache, "candidates", lambda: [tmp_path / "a", tmp_path / "b"])
    monkeypatch.setattr(cpu_cache, "_why_not", lambda path: "Permission denied")
    monkeypatch.setattr(Path, "is_dir", closed)
    cpu_cache.folder.cache_clear()
    assert cpu_cache.folder() == (tmp_path / "a", f"{tmp_path / 'a'}: Permission denied")
    cpu_cache.folder.cache_clear()


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """Let the cache look at a copy of the kernels' sources -> function that marks one as changed"""
    folder = shutil.copytree(PACKAGE / "kernels", tmp_path / "kernels")
    monkeypatch.setattr(cpu_cache, "KERNELS", folder)

    def change(name):
        (folder / name).write_text((folder / name).read_text(encoding="utf-8") + "\n")
        monkeypatch.setattr(cpu_cache, "STAMP", cpu_cache.stamp())

    return change


@pytest.mark.parametrize("name", ["cpu_microkernel.py", "cpu_winograd.py", "cpu_direct.py"])
def test_after_an_update_nothing_old_is_read_and_nothing_old_stays(name, copied, place):
    call()
    before = {file.name: file.read_bytes() for file in place.iterdir()}
    copied(name)
    assert call() == (3, False)
    after = {file.name: file.read_bytes() for file in place.iterdir()}
    assert list(after) == list(before) and after != before
    assert call() == (3, True)


@pytest.mark.slow
def test_a_change_in_the_microkernel_changes_what_is_computed(tmp_path):
    copy = shutil.copytree(PACKAGE, tmp_path / PACKAGE.name)
    env = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    code = "import numpy as np; from tinydiff import kernels; one = np.ones((4, 4), np.float32); "
    code += "print(kernels.matmul(one, one)[0, 0])"
    assert python("-c", code, **env).stdout == "4.0\n"
    file = copy / "kernels" / "cpu_microkernel.py"
    file.write_text(file.read_text(encoding="utf-8").replace("builder.fadd(", "builder.fsub("))
    assert python("-c", code, **env).stdout != "4.0\n"


# --- nowhere to write ---


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """Leave the cache no place: where each folder should be is a file."""
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(file))
    monkeypatch.setattr(cpu_cache, "IN_CLONE", False)
    for variable in ("XDG_CACHE_HOME", "HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(file))
    monkeypatch.setattr(cpu_cache.Cache, "given_up", "")
    cpu_cache.folder.cache_clear()
    yield file
    cpu_cache.folder.cache_clear()


def test_with_nowhere_to_write_one_line_says_what_it_costs(nowhere, capfd):
    assert call() == (3, False) and call(fourth) == (4, False)
    (line,) = capfd.readouterr().err.splitlines()
    for said in ("tinydiff: compiled kernels cannot be kept", str(nowhere), "Not a directory"):
        assert said in line
    assert "half a minute" in line and "set NUMBA_CACHE_DIR" in line


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(place, monkeypatch, capfd):
    def full(path, content):
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert call() == (3, False) and call(fourth) == (4, False)
    (line,) = capfd.readouterr().err.splitlines()
    assert f"{place}: No space left on device" in line and "NUMBA_CACHE_DIR" in line
    assert list(place.iterdir()) == []


def test_a_folder_that_can_only_be_read_is_read(place, monkeypatch, capfd):
    call()
    monkeypatch.setattr(cpu_cache, "_why_not", lambda path: "Read-only file system")
    monkeypatch.setattr(cpu_cache, "candidates", lambda: [place])
    cpu_cache.folder.cache_clear()
    assert call() == (3, True)
    assert capfd.readouterr().err == ""
    assert call(fourth) == (4, False)
    assert "Read-only file system" in capfd.readouterr().err


def test_the_first_folder_that_can_be_written_to_is_taken(nowhere, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    monkeypatch.setenv("HOME", str(tmp_path / "users"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "users"))
    assert call() == (3, False) and call() == (3, True)
    assert list((tmp_path / "users").rglob("*.nbc")) and capfd.readouterr().err == ""


def test_an_unknown_home_makes_no_folder_named_tilde(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert all(path.is_absolute() for path in cpu_cache.candidates())


def test_beside_an_installed_package_pip_finds_no_files_that_it_does_not_know(tmp_path):
    site = tmp_path / "lib" / "site-packages"
    copy = shutil.copytree(PACKAGE, site / PACKAGE.name, ignore=shutil.ignore_patterns("*.nb?"))
    (site / "pyproject.toml").write_text("")  # some packages leave theirs
    code = "from tinydiff.kernels import cpu_cache; print(*cpu_cache.candidates(), sep='\\n')"
    done = python("-c", code, PYTHONPATH=str(site), NUMBA_CACHE_DIR="")
    folders = [Path(line) for line in done.stdout.splitlines()]
    assert len(folders) == 1 and copy not in folders[0].parents
    assert cpu_cache.IN_CLONE and PACKAGE / "kernels" / "__pycache__" in cpu_cache.candidates()


# --- without compiled kernels ---


def test_without_numba_s_compiler_the_reference_draws(tmp_path):
    words = ["sample", "digits", "--n", 1, "--steps", 1, "--out", tmp_path / "a.png"]
    done = python("-m", "tinydiff", *words, NUMBA_DISABLE_JIT="1")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 0 and (tmp_path / "a.png").exists()
    assert line.startswith("tinydiff: NUMBA_DISABLE_JIT is set") and "NumPy" in line


def test_a_threading_layer_that_is_not_there_is_one_line(monkeypatch, capsys):
    def missing():
        raise ValueError("No threading layer could be loaded.\nHINT:\nIntel TBB is required")

    monkeypatch.setattr(numba.config, "THREADING_LAYER", "tbb")
    monkeypatch.setattr(numba, "get_num_threads", missing)
    monkeypatch.setattr(kernels, "_active", None)
    assert kernels.use("cpu") is reference
    (line,) = capsys.readouterr().err.splitlines()
    assert "NUMBA_THREADING_LAYER=tbb does not work (No threading layer could be" in line


FORKS = """
import multiprocessing, sys
import numpy as np
from tinydiff import kernels
x = np.arange(32, dtype=np.float32).reshape(1, 4, 4, 2)
fork = multiprocessing.get_context("fork")

def halve(deeper):
    if deeper:
        return in_child(False)
    return kernels.down(x).tolist() == expected, kernels.active().__name__

def in_child(deeper):
    there, here = fork.Pipe()
    child = fork.Process(target=lambda: here.send(halve(deeper)))
    child.start()
    here.close()
    try:
        return there.recv()
    except EOFError:
        return "the child has died"

expected = [[[[5, 6], [9, 10]], [[21, 22], [25, 26]]]]
kernels.active()
print(in_child(False))
print(halve(False))
print(in_child(False))
print(in_child(True))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_a_forked_process_computes_before_and_after_its_parent_has(layer):
    done = python("-c", FORKS, NUMBA_THREADING_LAYER=layer)
    first, here, child, grandchild = done.stdout.splitlines()
    assert first == here == "(True, 'tinydiff.kernels.cpu')", done.stderr
    assert child == grandchild and child.startswith("(True, ")
    if "reference" in child:  # where the threads are GNU's
        for line in done.stderr.splitlines():
            assert line.startswith("tinydiff: a process forked after") and "spawn" in line
        assert len(done.stderr.splitlines()) == 2


THREADS = """
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from tinydiff import kernels
x = np.random.default_rng(0).standard_normal((64, 16, 16, 8)).astype(np.float32)
expected = kernels.down(x)
with ThreadPoolExecutor(4) as pool:
    print(all(np.array_equal(y, expected) for y in pool.map(kernels.down, [x] * 400)))
"""


@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_threads_take_turns_where_numba_s_own_cannot_share(layer):
    done = python("-c", THREADS, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2")
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


@pytest.mark.parametrize("layer, locked", [("", True), ("workqueue", True), ("omp", False)])
def test_only_where_threads_cannot_share_do_they_wait(layer, locked, monkeypatch):
    monkeypatch.setattr(cpu_threads, "layer", lambda: layer)
    assert cpu_threads.guarded(lambda: cpu_threads._lock.locked())() == locked
    assert not cpu_threads._lock.locked()


# --- doctor ---


def doctor(monkeypatch, capsys):
    """Run doctor on the reference -> exit status, what it found wrong, what it noted"""
    monkeypatch.setattr(kernels, "_active", reference)
    status = cli.main(["doctor"])
    out = capsys.readouterr().out
    assert ("all is well" in out) == (status == 0)
    lines = [line.partition(" ") for line in out.splitlines()]
    return status, *([rest.strip() for a, _, rest in lines if a == b] for b in ("wrong", "note"))


def test_doctor_says_a_line_for_each_thing_that_is_wrong(tmp_path, place, monkeypatch, capsys):
    def damaged(name, load=checkpoint.pretrained):
        if name in ("digits", "fashion"):
            raise checkpoint.CheckpointError(f"{name}.npz is damaged")
        return load(name)

    left = tmp_path / "left" / PACKAGE.name
    (left / "kernels" / "__pycache__").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [*sys.path, str(left.parent)])
    monkeypatch.setattr(checkpoint, "pretrained", damaged)
    monkeypatch.setattr(cpu_cache.Cache, "given_up", f"{place}: No space left on device")
    status, wrong, _ = doctor(monkeypatch, capsys)
    assert status == 2
    assert wrong == [
        "digits.npz is damaged",
        "fashion.npz is damaged",
        "`sample digits` fails: digits.npz is damaged",
        f"compiled kernels cannot be kept ({place}: No space left on device): "
        "set NUMBA_CACHE_DIR to a folder that has room for them",
        f"{left} is left over from another install: delete it",
    ]


def test_doctor_notes_what_only_costs_time(tmp_path, place, monkeypatch, capsys):
    second = tmp_path / "second" / PACKAGE.name
    second.mkdir(parents=True)
    (second / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [*sys.path, str(second.parent)])
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 1000)
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    for check in (cmd_doctor._files, cmd_doctor._drawing):
        monkeypatch.setattr(cmd_doctor, check.__name__, lambda: [])
    status, wrong, notes = doctor(monkeypatch, capsys)
    assert (status, wrong) == (0, [])
    assert [note.split()[0] for note in notes] == [
        "NUMBA_NUM_THREADS",
        "NUMBA_DISABLE_JIT",
        str(second),
    ]


def test_without_any_file_doctor_says_so_once(monkeypatch, capsys):
    def missing(name):
        raise OSError(f"data of {name} is missing")

    for module, name in (("data", "load"), ("data", "load_styles"), ("checkpoint", "pretrained")):
        monkeypatch.setattr(getattr(cmd_doctor, module), name, missing)
    monkeypatch.setattr(cmd_doctor.classifier, "load", missing)
    assert cmd_doctor._files() == ["data of digits is missing"]
    assert "0 of 21" in capsys.readouterr().out


def test_compiled_kernels_beside_an_installed_package_are_wrong(tmp_path, monkeypatch):
    (tmp_path / "kernels" / "__pycache__").mkdir(parents=True)
    (tmp_path / "kernels" / "__pycache__" / "cpu._up-1.py311.1.nbc").touch()
    monkeypatch.setattr(cmd_doctor, "PACKAGE", tmp_path)
    monkeypatch.setattr(sys, "path", [])
    assert cmd_doctor._leftovers() == []
    monkeypatch.setattr(cpu_cache, "IN_CLONE", False)
    (line,) = cmd_doctor._leftovers()
    assert line.startswith(str(tmp_path / "kernels" / "__pycache__"))


def test_a_folder_that_hides_the_package_is_one_line(monkeypatch):
    monkeypatch.setattr(tinydiff, "__file__", None)
    source = (PACKAGE / "__main__.py").read_text(encoding="utf-8")
    with pytest.raises(SystemExit, match=f"tinydiff: {PACKAGE} is left over from another install"):
        exec(source, {"__name__": "__main__", "__package__": "tinydiff"})
