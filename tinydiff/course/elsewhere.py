"""GPU kernels judged in Pythons of their own: numba's simulator, its compiler, a GPU if any."""

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

from . import compiled
from .exercises import ROOT, exercises
from .judge import note_calls, run_tests
from .verdict import Verdict, in_order

PATIENCE = 60  # seconds for a kernel in a process of its own


SIMULATOR, COMPILER, GPU = "simulator", "compiler", "GPU"  # what judges a kernel


def everywhere(exercise, judge_once):
    """Grade a kernel in the simulator, by a GPU's compiler and, if it passes, on a GPU if any.

    judge_once: function of SIMULATOR, COMPILER or GPU -> Verdict; -> Verdict
    """
    first = compiled.joined(exercise, judge_once(SIMULATOR), judge_once(COMPILER))
    if first.state == "failed" or not shutil.which("nvidia-smi"):
        return first
    second = judge_once(GPU)
    if second.state == "cannot be graded":
        return first
    here, there = dict(first.lines).get("ran"), dict(second.lines).get("ran", "on a GPU")
    ran = ("ran", f"{here}, and passed; then {there}" if first.state == "passed" else there)
    others = [line for line in second.lines if line[0] != "ran"]
    return Verdict(second.exercise, second.state, in_order([ran, *others]), second.seconds)


def surroundings(where):
    """List what the environment of a process that judges a kernel adds.

    where: SIMULATOR, COMPILER, GPU or None, for what is no kernel -> dict
    """
    return {
        "NUMBA_ENABLE_CUDASIM": str(int(where == SIMULATOR)),
        "PYTHONPATH": str(ROOT),
        "MPLBACKEND": "agg",
        "TINYDIFF_KERNELS": "reference",
    }


def missing():
    """Say why a kernel cannot be graded in this process: () -> str, or None if it can"""
    try:
        from ..kernels import cuda_array, cuda_simulator  # noqa: F401  with its stand-ins

        cuda_array.require()
    except (ImportError, RuntimeError) as error:
        if os.environ.get("NUMBA_ENABLE_CUDASIM") != "1":
            return str(error)
        return f"numba's CUDA simulator is missing ({error}): pip install numba-cuda"


def judge_elsewhere(exercise, functions, where):
    """Have a fresh Python judge functions, which travel there as their sources.

    exercise: Exercise; functions: list; where: SIMULATOR, COMPILER or GPU -> list of Verdicts
    """
    try:
        job = {"exercise": exercise.name, "functions": [_packed(f) for f in functions]}
        answer = _ask(job, where, PATIENCE * len(functions))
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
    return _ask({"exercise": exercise.name}, SIMULATOR, 10 * PATIENCE)


def _ask(job, where, seconds):
    """Start a fresh Python that does a job: dict, where, limit in seconds -> what it answers"""
    code = "from tinydiff.course import elsewhere; elsewhere._answer()"
    environment = os.environ | surroundings(where)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(job | {"where": where, "report": str(report)}).encode(),
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
    job = json.loads(sys.stdin.read())
    exercise = next(e for e in exercises() if e.name == job["exercise"])
    compiles = job["where"] == COMPILER
    if "functions" not in job:
        answer = note_calls(exercise)
    elif why := compiled.missing() if compiles else missing():
        answer = [(exercise.name, "cannot be graded", (("why", why),), 0.0)] * len(job["functions"])
    else:
        functions = [_unpacked(bag) for bag in job["functions"]]
        if compiles:
            verdicts = [compiled.verdict(exercise, f) for f in functions]
        else:
            verdicts = run_tests(exercise, functions)
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
        elif inspect.isfunction(value) and value.__module__.startswith("numba."):
            bag["values"][name] = base64.b64encode(pickle.dumps(value)).decode()  # by its name
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
