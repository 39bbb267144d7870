"""What a GPU's compiler sees and numba's simulator lets pass: tests, and the kernels that show it.

A Python without the simulator compiles the kernels below: `python tests/test_front.py`. Nothing
here needs a GPU.
"""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from numba.cuda import libdevice

from tinydiff.course import compiled, elsewhere, exercises, grade, submission, worker
from tinydiff.course.verdict import Verdict
from tinydiff.kernels import cuda_array, cuda_ladder

cuda = cuda_array.cuda
ADD_NOISE = exercises.find("add_noise")
HALF, NEARLY_ONE = 0.5, 1 + 1e-9  # of Python: float64
FAR = np.float32(1e6)


@cuda.jit
def run_time_shape(x0, eps, signal, noise, y):
    i = cuda.grid(1)
    box = cuda.shared.array(x0.size, x0.dtype)
    if i < y.size:
        box[i] = signal * x0[i] + noise * eps[i]
        y[i] = box[i]


@cuda.jit
def too_much_shared(x0, eps, signal, noise, y):
    i = cuda.grid(1)
    box = cuda.shared.array((200, 200), x0.dtype)
    if i < y.size:
        box[0, cuda.threadIdx.x] = signal * x0[i] + noise * eps[i]
        y[i] = box[0, cuda.threadIdx.x]


@cuda.jit
def float64_accumulator(x0, eps, signal, noise, y):
    i = cuda.grid(1)
    if i < y.size:
        total = 0.0
        for k in range(i, i + 1):
            total += signal * x0[k]
            total += noise * eps[k]
        y[i] = total


@cuda.jit
def float64_constant(x0, eps, signal, noise, y):
    i = cuda.grid(1)
    if i < y.size:
        y[i] = (signal * x0[i] + noise * eps[i]) * NEARLY_ONE


@cuda.jit(device=True)
def nearly(a):
    return NEARLY_ONE * a


@cuda.jit
def float64_in_a_helper(x0, eps, signal, noise, y):
    y[0] = nearly(x0[0])


@cuda.jit
def list_that_grows(x0, eps, signal, noise, y):
    i = cuda.grid(1)
    if i < y.size:
        both = []
        both.append(signal * x0[i])
        both.append(noise * eps[i])
        y[i] = both[0] + both[1]


@cuda.jit
def catches(x0, eps, signal, noise, y):
    i = cuda.grid(1)
    try:
        y[i] = signal * x0[i] + noise * eps[i]
    except IndexError:
        pass


@cuda.jit
def libdevice_call(x0, eps, signal, noise, y):
    i = cuda.grid(1)
    if i < y.size:
        y[i] = libdevice.fmaf(signal, x0[i], noise * eps[i])


@cuda.jit
def of_a_warp(x0, eps, signal, noise, y):
    i = cuda.grid(1)
    if i < y.size:
        y[i] = signal * x0[i] + noise * eps[i]
    cuda.syncwarp()


@cuda.jit
def exact_halves(x0, eps, signal, noise, y):
    """Python's numbers all the same, but LLVM finds that float32 gives the same bits."""
    i = cuda.grid(1)
    if i < y.size:
        y[i] = x0[i] if i < x0.size else 0
        y[i] = HALF * y[i]
        y[i] += eps[i] ** 2


@cuda.jit
def least_and_most(x0, eps, signal, noise, y):
    i = cuda.grid(1)
    if i < y.size:
        y[i] = max(min(signal * x0[i] + noise * eps[i], FAR), -FAR)


@cuda.jit
def most_of_a_pair(x0, eps, signal, noise, y):
    y[0] = max((signal * x0[0], noise * eps[0]))


@cuda.jit
def too_many_arguments(x0, eps, signal, noise, y):
    y[0] = nearly(x0[0], signal)


KERNELS = [run_time_shape, too_much_shared, float64_accumulator, float64_constant]
KERNELS += [float64_in_a_helper, list_that_grows, catches, libdevice_call, of_a_warp, exact_halves]
ANSWERS = [least_and_most, most_of_a_pair, too_many_arguments]


def first_line(kernel):
    return kernel.py_func.__code__.co_firstlineno


# kernel -> lines after its first in which something is wrong (-1: not in a line), and why
WRONG = {
    run_time_shape: ([3], "the shape of such an array is fixed when the kernel is compiled"),
    too_much_shared: ([-1], "160,000 bytes of shared memory in a block: a GPU has 49,152"),
    float64_accumulator: ([6, 7], "this is computed in float64"),
    float64_constant: ([4], "this is computed in float64"),
    float64_in_a_helper: ([2], "this is computed in float64"),
    list_that_grows: ([5], "no list grows"),
    catches: ([5], "a kernel cannot catch errors"),
    libdevice_call: ([], ""),
    of_a_warp: ([], ""),
    exact_halves: ([], ""),
}


@pytest.fixture(scope="module")
def looks():
    """Compile all of them in another Python -> {kernel's name: Look as a dict, its problems}"""
    environment = os.environ | elsewhere.surroundings(elsewhere.COMPILER)
    done = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    if "missing" in found:
        pytest.skip(found["missing"])
    return found


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.py_func.__name__)
def test_what_a_gpu_refuses_or_does_slowly_is_found_with_its_line(kernel, looks):
    lines, why = WRONG[kernel]
    problems = looks[kernel.py_func.__name__]["problems"]
    first = first_line(kernel)
    assert [line for line, _ in problems] == [first + k if k >= 0 else 0 for k in lines], problems
    assert all(why in sentence for _, sentence in problems)


def test_what_numba_itself_gets_wrong_is_no_fault_of_the_kernel(looks):
    """Numba 0.68's own compiler for GPUs cannot compile min and max, numba-cuda can."""
    for seen in (looks["least_and_most"], looks["most_of_a_pair"]):
        is_told = "cannot compile min and max" in seen.get("why", "")
        assert (seen["state"], is_told) in [("passed", False), ("cannot be graded", True)], seen
    wrong = looks["too_many_arguments"]
    assert wrong["state"] == "failed" and "Signature mismatch" in wrong["gpu"]


def test_the_limits_of_a_launch(looks):
    """The same kernel, launched with the largest block and with twice as many threads."""
    right, large = looks["libdevice_call"], looks["2,048 threads"]
    assert right["threads"] == 1024 and large["threads"] == 2048
    assert large["problems"] == [[0, "2,048 threads in a block: a GPU has 1,024"]]
    assert right["shared"] == 0 and looks["too_much_shared"]["shared"] == 4 * 200 * 200


def test_the_lessons_own_kernels_have_nothing_against_them(looks):
    shared = {"add_noise": 0, "block_sums": 256, "matmul_naive": 0, "matmul_tiled": 512}
    for name, size in shared.items():
        assert (looks[name]["problems"], looks[name]["shared"]) == ([], size), name


@pytest.mark.slow
def test_every_kernel_of_the_package_is_taken_and_computes_in_float32():
    """The table of tests/bench/RESULTS.md; the script's status says whether anything is wrong."""
    script = exercises.ROOT / "tests/bench/front_end.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    if done.returncode == 77:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| cuda")]
    assert len(rows) >= 24 and all(row[1] == "yes" for row in rows)
    assert all(int(row[2]) <= 1024 and int(row[3].replace(",", "")) <= 48 << 10 for row in rows)


# --- one verdict of two ---

RAN = ("ran", "in numba's simulator")
REFUSED = ("gpu", "in line 3 of its cell or file: no")
LATE = ("why", "it did not finish within 5 seconds: is there an endless loop?")
ENDED = ("why", "it ended the process: Segmentation fault")


@pytest.mark.parametrize(
    "simulated, compiled_, state, says",
    [
        (("passed", RAN), ("passed", ("gpu", "64 threads")), "passed", "takes it: 64 threads"),
        (("passed", RAN), ("failed", REFUSED), "failed", "why      in line 3"),
        (("passed", RAN), ("cannot be graded", ("why", "gone")), "passed", "asked: gone"),
        (("passed", RAN), ("failed", LATE), "passed", "it did not finish within 5 seconds): what"),
        (("passed", RAN), ("failed", ENDED), "passed", "answer (it ended the process: Segm"),
        (("passed", RAN), ("not attempted", ("why", "an int")), "failed", "why      an int"),
        (("failed", ("slip", "x")), ("passed", ("gpu", "64")), "failed", "slip     x"),
        (("failed", ("slip", "x")), ("failed", REFUSED), "failed", "says: in line 3"),
        (("not attempted",), ("not attempted",), "not attempted", ""),
        (
            ("failed", ("why", "OnlyOnGPU in line 9: cuda.syncwarp"), RAN),
            ("passed", ("gpu", "64")),
            "cannot be graded",
            "grade it where there is a GPU",
        ),
    ],
)
def test_simulator_and_compiler_make_one_verdict(simulated, compiled_, state, says):
    first, second = (Verdict(ADD_NOISE.name, each[0], each[1:]) for each in (simulated, compiled_))
    joined = compiled.joined(ADD_NOISE, first, second)
    assert joined.state == state and says in str(joined)


@pytest.mark.slow
def test_what_a_student_reads():
    """Some of them as answers to one exercise, in a simulator and before a compiler."""
    refused = [run_time_shape, float64_accumulator, list_that_grows]
    answers = [*refused, libdevice_call, of_a_warp]
    both = (elsewhere.SIMULATOR, elsewhere.COMPILER)
    each = zip(*(elsewhere.judge_elsewhere(ADD_NOISE, answers, w) for w in both), strict=True)
    found = {k: compiled.joined(ADD_NOISE, *pair) for k, pair in zip(answers, each, strict=True)}
    assert [found[kernel].state for kernel in refused] == ["failed"] * 3
    assert found[libdevice_call].state == "passed", found[libdevice_call]
    assert found[of_a_warp].state == "cannot be graded" and "syncwarp" in str(found[of_a_warp])
    for kernel in refused:
        line = first_line(kernel) + WRONG[kernel][0][0]
        lines = dict(found[kernel].lines)
        assert lines["why"].startswith(f"in line {line} of its cell or file: ")
        assert WRONG[kernel][1] in lines["why"] and "and passed; but" in lines["ran"]


ANSWER = """from numba import cuda
from numba.cuda.libdevice import fmaf

@cuda.jit("void(float32[:], float32[:], float32, float32, float32[:])")
def add_noise(x0, eps, signal, noise, y):
    i = cuda.grid(1)
    if i < y.size:
        y[i] = {}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "value, state, says",
    [
        ("fmaf(signal, x0[i], noise * eps[i])", "passed", "its compiler takes it: 64 threads"),
        ("(signal * x0[i] + noise * eps[i]) * 1.000000001", "failed", "in line 8 of its cell or"),
    ],
)
def test_a_file_is_compiled_in_a_sandbox(value, state, says, tmp_path):
    path = tmp_path / "work.py"
    path.write_text(ANSWER.format(value))
    verdict = worker.grade_one([submission.read(path)], ADD_NOISE).verdict
    assert verdict.state == state and says in str(verdict)


@pytest.mark.slow
def test_where_numba_has_no_cuda_compiler_the_simulator_decides(tmp_path, monkeypatch):
    gone = "import sys\nsys.modules['numba.cuda.compiler'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(gone)
    ours = elsewhere.surroundings

    def near(where):
        path = f"{tmp_path}:{exercises.ROOT}" if where == elsewhere.COMPILER else exercises.ROOT
        return ours(where) | {"PYTHONPATH": str(path)}

    monkeypatch.setattr(elsewhere, "surroundings", near)
    verdict = grade.judge(ADD_NOISE, libdevice_call)
    assert verdict.state == "passed" and "its compiler was not asked: this numba" in str(verdict)


def _looks():
    """Compile what is above, and say what was found: () -> dict"""
    from tinydiff.kernels import cuda_front

    if why := cuda_front.missing():
        return {"missing": why}
    launches = cuda_ladder.LAUNCHES
    size = launches["add_noise"][0], cuda_array.MOST_THREADS
    tried = {kernel.py_func.__name__: (kernel, *size) for kernel in KERNELS}
    tried |= {name: (getattr(cuda_ladder, name), *launch) for name, launch in launches.items()}
    tried["2,048 threads"] = (libdevice_call, size[0], 2048)
    found = {name: cuda_front.look(*each) for name, each in tried.items()}
    plain = lambda look: dataclasses.asdict(look) | {"problems": look.problems()}
    answers = {kernel: compiled.verdict(ADD_NOISE, kernel) for kernel in ANSWERS}
    told = {k.py_func.__name__: {"state": v.state} | dict(v.lines) for k, v in answers.items()}
    return {name: plain(look) for name, look in found.items()} | told


if __name__ == "__main__":
    print(json.dumps(_looks()))
