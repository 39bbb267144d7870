"""Suspects of the bug hunts: running functions of the package, of which some have one slip.

A hunt is an exercise, a function of course/hunts.py whose docstring numbers the steps of an
algorithm. Its suspects run that algorithm; each has one slip, in one of the numbered steps, or
none. By what they do, not by reading them, a student finds out which: `hunt_sampler` answers with
{"A": 4, "B": 0, ...}, 0 for a suspect without a slip.

Where the suspects come from: tests/hunts/ in a clone; in a student's tree tests/hunts.json, which
keeps them packed, and of the steps only checksums, so that nobody reads them by accident.
"""

import base64
import hashlib
import importlib
import inspect
import json
import re
import runpy
import textwrap
import zlib
from dataclasses import asdict, dataclass
from functools import cache
from numbers import Integral

from .exercises import ROOT, exercises, find, in_handout, original

HUNTS = "hunts.json"  # in tests/ of a student's tree


@dataclass(frozen=True)
class Suspect:
    """module: "tinydiff.sample"; name: "ddpm"; packed: its source; step: checksum of the step"""

    module: str
    name: str
    packed: str
    step: str


def suspects(hunt):
    """Bring the suspects of a bug hunt: "hunt_sampler" -> {"A": function, "B": function, ...}

    Each is called as the package's function (or class) whose place it could take.
    Raises ValueError where there is no such hunt.
    """
    lineup = {}
    for letter, suspect in _hunt(hunt).items():
        source = zlib.decompress(base64.b64decode(suspect.packed)).decode()
        scope = dict(vars(importlib.import_module(suspect.module)))
        exec(compile(source, f"<suspect {letter}>", "exec"), scope)
        lineup[letter] = scope[suspect.name]
    return lineup


def assert_named(hunt, answer):
    """Grade an answer: "hunt_sampler", {"A": 4, "B": 0} -> None; AssertionError if it is wrong."""
    known, last = _hunt(hunt), _last_step(hunt)
    right_form = isinstance(answer, dict) and set(answer) == set(known)
    right_form = right_form and all(isinstance(step, Integral) for step in answer.values())
    how = f"return a dict with a step for each of {', '.join(known)}, whole numbers"
    assert right_form, f"{how}; came {answer!r}"
    for letter, step in answer.items():
        assert 0 <= step <= last, (
            f"{letter}: {step} is no step; they are 1 .. {last}, or 0 for none"
        )
    right = all(_step(hunt, letter, answer[letter]) == known[letter].step for letter in known)
    assert right, f"at least one of the {len(known)} suspects is misjudged"


def _last_step(hunt):
    """Count the steps that a hunt's docstring numbers: "hunt_sampler" -> int"""
    return len(re.findall(r"^\d  ", inspect.getdoc(original(find(hunt))), re.M))


def packed(hunts):
    """Write hunts down for a student's tree: names -> what goes into hunts.json"""
    return {hunt: {k: asdict(s) for k, s in _hunt(hunt).items()} for hunt in hunts}


def _hunt(hunt):
    known = _hunts()
    if hunt not in known:
        raise ValueError(f"there is no hunt {hunt!r}; there are: {', '.join(known)}")
    return known[hunt]


@cache
def _hunts():
    """Collect all hunts: () -> {hunt: {letter: Suspect}}"""
    tests = ROOT / "tests"
    if in_handout():
        found = json.loads((tests / HUNTS).read_text(encoding="utf-8"))
        return {hunt: {k: Suspect(**s) for k, s in line.items()} for hunt, line in found.items()}
    found = {}
    for path in sorted((tests / "hunts").glob("*.py")):
        for hunt, lineup in runpy.run_path(str(path))["HUNTS"].items():
            found[hunt] = {k: _suspect(hunt, k, *slip) for k, slip in lineup.items()}
    return found


def _suspect(hunt, letter, of, old, new, step):
    """Make a suspect: of = "sample.ddpm", of which old, which occurs once, is replaced by new."""
    module, _, name = of.rpartition(".")
    module = f"tinydiff.{module}"
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(_own(module, name))))
    if old is not None:
        if source.count(old) != 1:
            must = f"{hunt}, suspect {letter}: {old!r} must occur once in {of}"
            raise ValueError(f"{must}; it occurs {source.count(old)} times")
        source = source.replace(old, new)
    text = base64.b64encode(zlib.compress(source.encode())).decode()
    return Suspect(module, name, text, _step(hunt, letter, step))


def _own(module, name):
    """Find the package's own function (or class), also where an answer has taken its place."""
    asked = (e for e in exercises() if e.function == name and e.module.__name__ == module)
    exercise = next(asked, None)
    return original(exercise) if exercise else getattr(importlib.import_module(module), name)


def _step(hunt, letter, step):
    """Checksum an answer: "hunt_sampler", "A", 4 -> 12 hex digits"""
    return hashlib.sha256(f"{hunt} {letter} {step}".encode()).hexdigest()[:12]
