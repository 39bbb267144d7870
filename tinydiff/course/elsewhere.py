"""GPU kernels judged in a Python of their own, whose numba simulates a GPU; then on a GPU, if one is here."""

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
from .judge import Verdict, note_calls, run_tests

PATIENCE = 60  # seconds for a kernel in a process of its own


def twice(judge_once):
    """Grade a kernel in the simulator and, if it passes, on a card if there is one: judge_once(simulate) -> Verdict; -> Verdict"""
    verdict = judge_once(True)
    if verdict.state != "passed" or not shutil.which("nvidia-smi"):
        return verdict
    again = judge_once(False)
    if again.state == "cannot be graded":
        return verdict
    ran, lines = (
        f"{dict(verdict.lines)['ran']}, and passed; then {dict(again.lines).get('ran', 'on a card')}",
        again.lines,
    )
    return Verdict(
        again.exercise,
        again.state,
        (("ran", ran), *(line for line in lines if line[0] != "ran")),
        again.seconds,
    )


def surroundings(simulate):
    """Write down what the environment of a process that judges a kernel adds: bool -> dict"""
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
        simulated = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
        return (
            f"numba's simulator of a graphics card is missing ({error}): pip install numba-cuda"
            if simulated
            else str(error)
        )


def judge_elsewhere(exercise, functions, simulate):
    """Have a fresh Python judge functions, which travel there as their sources -> list of Verdicts"""
    try:
        said = _ask(
            {"exercise": exercise.name, "functions": [_packed(f) for f in functions]},
            simulate,
            PATIENCE * len(functions),
        )
        return [
            Verdict(name, state, tuple(map(tuple, lines)), seconds)
            for name, state, lines, seconds in said
        ]
    except OSError:
        why = "its source is not at hand: define it in a cell or a file"
    except subprocess.TimeoutExpired:
        why = f"it did not finish within {PATIENCE} seconds: is there a loop without an end?"
    except subprocess.CalledProcessError as error:
        why = f"it ended the process: {(error.stderr.decode(errors='replace').strip().splitlines() or ['no message'])[-1]}"
    return [Verdict(exercise.name, "failed", (("why", why),))] * len(functions)


def note_calls_elsewhere(exercise):
    """Have a fresh Python note what is known of an exercise, as judge.note_calls does -> dict"""
    return _ask({"exercise": exercise.name}, True, 10 * PATIENCE)


def _ask(job, simulate, seconds):
    """Start a fresh Python that answers a job -> what it answers"""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        work = json.dumps(job | {"report": str(report)}).encode()
        command, env = (
            [sys.executable, "-c", "from tinydiff.course import elsewhere; elsewhere._answer()"],
            os.environ | surroundings(simulate),
        )
        subprocess.run(
            command,
            input=work,
            capture_output=True,
            cwd=folder,
            env=env,
            timeout=seconds,
            check=True,
        )
        return json.loads(report.read_text(encoding="utf-8"))


def _answer():
    """Do, in that fresh Python, the job that comes in on stdin: judge functions, or note what is known of an exercise."""
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
    """Write a function down, with whatever it uses of the names around it -> dict that JSON can hold"""
    f = inspect.unwrap(f)
    lines, first = inspect.getsourcelines(f)
    bag = {
        "name": f.__name__,
        "source": "\n" * (first - 1) + textwrap.dedent("".join(lines)),
        "place": f.__code__.co_filename,
    }
    bag |= {"modules": {}, "functions": {}, "values": {}}
    around = f.__globals__ | inspect.getclosurevars(f).nonlocals
    for name in {
        node.id for node in ast.walk(ast.parse(bag["source"])) if isinstance(node, ast.Name)
    } - {f.__name__, *inside}:
        value = around.get(name)
        if inspect.ismodule(value):
            bag["modules"][name] = value.__name__
        elif inspect.isfunction(inspect.unwrap(value)):
            bag["functions"][name] = _packed(value, (*inside, f.__name__))
        elif name in around:
            bag["values"][name] = base64.b64encode(pickle.dumps(value)).decode()
    return bag


def _unpacked(bag):
    place, source = bag["place"], bag["source"]
    linecache.cache[place] = (len(source), None, source.splitlines(True), place)
    scope = {name: importlib.import_module(module) for name, module in bag["modules"].items()}
    scope |= {name: pickle.loads(base64.b64decode(value)) for name, value in bag["values"].items()}
    scope |= {name: _unpacked(function) for name, function in bag["functions"].items()}
    exec(compile(source, place, "exec"), scope)
    return scope[bag["name"]]
