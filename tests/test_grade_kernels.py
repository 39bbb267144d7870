"""GPU kernels graded without a GPU: each in a Python of its own, whose numba simulates one."""

import subprocess
import sys

import pytest

from tinydiff.course import (
    diagnosis,
    elsewhere,
    exercises,
    grade,
    judge,
    sandbox,
    submission,
    worker,
)
from tinydiff.kernels import cuda_array, cuda_ladder

cuda = cuda_array.cuda
ADD_NOISE, RAN = exercises.find("add_noise"), ("ran", "in numba's simulator")
TWO = 2


@cuda.jit(device=True)
def mixed(a, b, signal, noise):
    return (signal * a + noise * b) * (TWO - 1)


@cuda.jit
def add_noise(image, z, signal, noise, out):
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        out[i] = mixed(image[i], z[i], signal, noise)


def verdict_of(f):
    return grade.judge(ADD_NOISE, f)


def test_a_right_kernel_passes_with_what_it_uses_around_it(capsys):
    """A helper on the device, a constant, another loop and other names than the package's."""
    grade.check(add_noise)
    first, now, ran, card = capsys.readouterr().out.splitlines()
    assert first == "kernels.threads.add_noise: passed"
    assert now.startswith("  now  ") and ran == "  ran      in numba's simulator"
    assert card.startswith("  gpu      its compiler takes it: 64 threads a block")
    assert cuda_ladder.add_noise is not add_noise


def test_an_untouched_kernel_is_not_attempted(capsys):
    @cuda.jit
    def add_noise(x0, eps, signal, noise, y):
        """Noise images."""
        raise NotImplementedError

    grade.check(add_noise)
    assert capsys.readouterr().out == "kernels.threads.add_noise: not attempted\n"


def test_the_verdict_on_a_wrong_kernel_names_the_line_and_the_slip():
    @cuda.jit
    def add_noise(x0, eps, signal, noise, y):
        i = cuda.grid(1)
        y[i] = noise * eps[i] + signal * x0[i]

    lines = dict(verdict_of(add_noise).lines)
    assert lines["slip"].startswith("the guard is missing")
    assert lines["called"].startswith("add_noise[3, 64](array (150,) float32")
    assert "outside its shape (150,)" in lines["why"]

    @cuda.jit
    def add_noise(x0, eps, signal, noise, y):
        no_such_name(x0)  # noqa: F821

    first = add_noise.py_func.__code__.co_firstlineno
    assert f"NameError in line {first + 2} of its cell" in dict(verdict_of(add_noise).lines)["why"]


@pytest.mark.slow
def test_a_function_that_is_not_a_kernel_lacks_its_decorator():
    def add_noise(x0, eps, signal, noise, y):
        y[:] = signal * x0 + noise * eps

    assert "@cuda.jit above its def is missing" in dict(verdict_of(add_noise).lines)["slip"]


@pytest.mark.slow
def test_a_kernel_without_an_end_costs_only_its_points(monkeypatch):
    @cuda.jit
    def add_noise(x0, eps, signal, noise, y):
        while True:
            pass

    monkeypatch.setattr(elsewhere, "PATIENCE", 8)
    assert "did not finish within 8 seconds" in str(verdict_of(add_noise))


@pytest.mark.slow
def test_a_kernel_that_ends_the_process_is_a_failure():
    @cuda.jit
    def add_noise(x0, eps, signal, noise, y):
        import os

        os._exit(3)

    verdict = verdict_of(add_noise)
    assert verdict.state == "failed" and "it ended the process" in str(verdict)


WORK = """import numpy as np
from numba import cuda

@cuda.jit
def add_noise(x0, eps, signal, noise, y):
    i = cuda.grid(1)
    if i < y.size:
        y[i] = {value}
"""


RIGHT, SWAPPED = "signal * x0[i] + noise * eps[i]", "noise * x0[i] + signal * eps[i]"


@pytest.mark.parametrize(
    "value, state, says",
    [
        (RIGHT, "passed", "its compiler takes it: 64 threads a block"),
        (SWAPPED, "failed", "signal and noise are exchanged"),
        ("np.dot(x0, eps)", "failed", "TypeError in line 8"),
    ],
)
def test_a_file_is_graded_in_the_simulator_whatever_the_environment_is(
    value, state, says, tmp_path, monkeypatch
):
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "0")
    path = tmp_path / "work.py"
    path.write_text(WORK.format(value=value))
    verdict = worker.grade_one([submission.read(path)], ADD_NOISE).verdict
    assert verdict.state == state and says in str(verdict) and RAN in verdict.lines


# --- a GPU, or nothing at all ---


@pytest.mark.slow
def test_without_the_simulator_it_cannot_be_graded(tmp_path, monkeypatch):
    """A numba whose part for GPUs is gone, as it will be one day."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['numba.cuda'] = None\n")
    ours, near = elsewhere.surroundings, {"PYTHONPATH": f"{tmp_path}:{exercises.ROOT}"}
    monkeypatch.setattr(elsewhere, "surroundings", lambda where: ours(where) | near)
    gone = "import sys\nsys.modules['numba.cuda'] = None\n"
    monkeypatch.setattr(sandbox, "BEGIN", gone + sandbox.BEGIN)
    path = tmp_path / "work.py"
    path.write_text(WORK.format(value="0"))
    for_file = worker.grade_one([submission.read(path)], ADD_NOISE).verdict
    for verdict in (verdict_of(add_noise), for_file):
        assert verdict.state == "cannot be graded"
        assert "numba's CUDA simulator is missing" in str(verdict)
        assert "pip install numba-cuda" in str(verdict)


def on_a_gpu(state, *lines):
    seen = {
        elsewhere.SIMULATOR: judge.Verdict("f", "passed", (RAN,)),
        elsewhere.COMPILER: judge.Verdict("f", "cannot be graded", (("why", "no compiler"),)),
        elsewhere.GPU: judge.Verdict("f", state, lines),
    }
    return elsewhere.everywhere(ADD_NOISE, seen.get)


def with_a_driver(monkeypatch, here=True):
    monkeypatch.setattr(elsewhere.shutil, "which", lambda name: f"/bin/{name}" if here else None)


def test_a_gpu_has_the_last_word(monkeypatch):
    with_a_driver(monkeypatch)
    ran, why = ("ran", "on this GPU: X"), ("why", "2 is not 1")
    passed, failed = on_a_gpu("passed", ran), on_a_gpu("failed", ran, why)
    both = ("ran", "in numba's simulator, and passed; then on this GPU: X")
    card = ("gpu", "its compiler was not asked: no compiler")
    assert (passed.state, passed.lines) == ("passed", (both,))
    assert (failed.state, failed.lines) == ("failed", (why, both))
    assert on_a_gpu("cannot be graded", ("why", "no GPU")).lines == (RAN, card)
    with_a_driver(monkeypatch, here=False)
    assert on_a_gpu("failed").lines == (RAN, card)


HAS_GPU = cuda_array.SIMULATED or cuda_array.cuda.is_available()


@pytest.mark.slow
@pytest.mark.skipif(HAS_GPU, reason="for machines without a GPU")
def test_where_numba_cannot_use_the_gpu_the_simulator_decides(monkeypatch):
    with_a_driver(monkeypatch)
    assert verdict_of(add_noise).lines[:1] == (RAN,)


@pytest.mark.slow
def test_what_is_known_of_a_kernel_names_a_slip_without_the_reference():
    """As in a student's tree: that other Python notes what mutants make of the tests' calls."""
    known = grade.known(ADD_NOISE)
    traces = known["calls"].values()
    assert len(known["sentences"]) == len(ADD_NOISE.mutants)
    for k in range(1, 1 + len(ADD_NOISE.mutants)):
        assert not all(diagnosis._same_trace(each[k], each[0]) for each in traces)


def test_numba_is_not_needed_to_list_exercises():
    code = """import sys
from tinydiff import grade
from tinydiff.course.exercises import exercises
assert exercises()
print("numba" in sys.modules)"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=exercises.ROOT, check=True)
    assert done.stdout == "False\n"
