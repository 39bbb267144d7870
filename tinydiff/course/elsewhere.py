"""GPU kernels judged in a Python of their own: in numba's simulator, then on a GPU, if any."""

import ast
import base64
import importlib
import inspect
import json
import linecache
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from .exercises import ROOT, exercises
from .judge import note_calls, run_tests
from .verdict import Verdict, in_order

PATIENCE = 60  # seconds for a kernel in a process of its own


def twice(judge_once):
    """Grade a kernel in the simulator and, if it passes, on a GPU if there is one.

    judge_once: function of simulate, bool -> Verdict; -> Verdict
    """
    first = judge_once(True)
    if first.state != "passed" or not shutil.which("nvidia-smi"):
        return first
    second = judge_once(False)
    if second.state == "cannot be graded":
        return first
    here = dict(second.lines).get("ran", "on a GPU")
    ran = ("ran", f"{dict(first.lines)['ran']}, and passed; then {here}")
    others = [line for line in second.lines if line[0] != "ran"]
    return Verdict(second.exercise, second.state, in_order([ran, *others]), second.seconds)


def surroundings(simulate):
    """List what the environment of a process that judges a kernel adds: bool -> dict"""
    return {
        "NUMBA_ENABLE_CUDASIM": str(int(simulate)),
        "PYTHONPATH": str(ROOT),
        "MPLBACKEND": "agg",
        "TINYDIFF_KERNELS": "reference",
    }


def missing():
    """Say why a kernel cannot be graded in this process: () -> str, or None if it can"""
    try:
        from ..kernels import cuda_array

        cuda_array.require()
    except (ImportError, RuntimeError) as error:
        if os.environ.get("NUMBA_ENABLE_CUDASIM") != "1":
            return str(error)
        return f"numba's CUDA simulator is missing ({error}): pip install numba-cuda"


def judge_elsewhere(exercise, functions, simulate):
    """Have a fresh Python judge functions, which travel there as their sources.

    exercise: Exercise; functions: list; simulate: bool, or on the GPU -> list of Verdicts
    """
    try:
        job = {"exercise": exercise.name, "functions": [_packed(f) for f in functions]}
        answer = _ask(job, simulate, PATIENCE * len(functions))
        return [
            Verdict(name, state, tuple(map(tuple, lines)), seconds)
            for name, state, lines, seconds in answer
        ]
    except OSError:
        why = "its source is not at hand: define it in a cell or a file"
    except subprocess.TimeoutExpired:
        why = f"it did not finish within {PATIENCE} seconds: is there an endless loop?"
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        why = f"it ended the process: {(lines or ['no message'])[-1]}"
    return [Verdict(exercise.name, "failed", (("why", why),))] * len(functions)


def note_calls_elsewhere(exercise):
    """Have a fresh Python note what is known of an exercise, as judge.note_calls does -> dict"""
    return _ask({"exercise": exercise.name}, True, 10 * PATIENCE)


def _ask(job, simulate, seconds):
    """Start a fresh Python that does a job: dict, bool, limit in seconds -> what it answers"""
    code = "from tinydiff.course import elsewhere; elsewhere._answer()"
    environment = os.environ | surroundings(simulate)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(job | {"report": str(report)}).encode(),
            capture_output=True,
            cwd=folder,
            env=environment,
            timeout=seconds,
            check=True,
        )
        return json.loads(report.read_text(encoding="utf-8"))


# --- in that fresh Python ---


def _answer():
    """Do the job on stdin: judge functions, or note what is known of an exercise."""
    job, why = json.loads(sys.stdin.read()), missing()
    exercise = next(e for e in exercises() if e.name == job["exercise"])
    if "functions" not in job:
        answer = note_calls(exercise)
    elif why:
        answer = [(exercise.name, "cannot be graded", (("why", why),), 0.0)] * len(job["functions"])
    else:
        verdicts = run_tests(exercise, [_unpacked(bag) for bag in job["functions"]])
        answer = [(v.exercise, v.state, v.lines, v.seconds) for v in verdicts]
    Path(job["report"]).write_text(json.dumps(answer), encoding="utf-8")


def _packed(f, inside=()):
    """Write a function down, with what it uses of the names around it -> dict that JSON can hold

    inside: names of the functions that are being written down already
    """
    f = inspect.unwrap(f)
    lines, first = inspect.getsourcelines(f)
    source = "\n" * (first - 1) + textwrap.dedent("".join(lines))  # tracebacks count lines
    bag = {"name": f.__name__, "source": source, "place": f.__code__.co_filename}
    bag |= {"modules": {}, "functions": {}, "values": {}}
    around = f.__globals__ | inspect.getclosurevars(f).nonlocals
    used = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    for name in used - {f.__name__, *inside}:
        value = around.get(name)
        if inspect.ismodule(value):
            bag["modules"][name] = value.__name__
        elif inspect.isfunction(inspect.unwrap(value)):
            bag["functions"][name] = _packed(value, (*inside, f.__name__))
        elif name in around:
            bag["values"][name] = base64.b64encode(pickle.dumps(value)).decode()
    return bag


def _unpacked(bag):
    """Build a function from what _packed wrote down: dict -> function"""
    place, source = bag["place"], bag["source"]
    linecache.cache[place] = (len(source), None, source.splitlines(True), place)
    scope = {name: importlib.import_module(module) for name, module in bag["modules"].items()}
    scope |= {name: pickle.loads(base64.b64decode(value)) for name, value in bag["values"].items()}
    scope |= {name: _unpacked(function) for name, function in bag["functions"].items()}
    exec(compile(source, place, "exec"), scope)
    return scope[bag["name"]]
