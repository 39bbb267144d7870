"""A handed-in GPU kernel, as the compiler of a GPU sees it: what the simulator lets pass.

This needs no GPU, see kernels/cuda_front.py, but a Python without the simulator. So it is asked for
apart from the tests, and what both have found becomes one verdict here.
"""

from dataclasses import replace

from .calls import launched
from .diagnosis import reread
from .verdict import Verdict, in_order

ONLY_ON_GPU = "OnlyOnGPU"  # the error's name, see kernels/cuda_stand_ins.py
LOOP = ": is there an endless loop?"  # what a process that is late seems to have: no compiler has


def missing():
    """Say why no kernel can be compiled in this process: () -> str, or None if one can"""
    try:
        from ..kernels import cuda_front
    except ImportError as error:
        return f"this numba has no CUDA compiler ({error})"
    return cuda_front.missing()


def verdict(exercise, f):
    """Compile a student's kernel as the tests launch it: Exercise, function -> Verdict

    What the compiler says stands in its line "gpu", which a process that was ended lacks.
    """
    from ..kernels import cuda_front, cuda_ladder  # here, since they load Numba

    if not launched(f):
        return Verdict(exercise.name, "failed", (("gpu", "it is no kernel"),))
    try:
        seen = cuda_front.look(f, *cuda_ladder.LAUNCHES[exercise.function])
    except cuda_front.NumbaFault as error:
        return Verdict(exercise.name, "cannot be graded", (("why", str(error)),))
    except Exception as error:  # LLVM's, about what numba wrote
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        return Verdict(exercise.name, "cannot be graded", (("why", why),))
    found = [f"{_where(line)}{sentence}" for line, sentence in seen.problems()]
    if not found:
        return Verdict(exercise.name, "passed", (("gpu", str(seen)),))
    others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return Verdict(exercise.name, "failed", (("gpu", found[0] + others),))


def _where(line):
    return f"in line {line} of its cell or file: " if line else ""


def joined(exercise, simulated, compiled):
    """Join what the simulator and the compiler have found: Exercise, two Verdicts -> Verdict"""
    lines, found = dict(simulated.lines), dict(compiled.lines)
    told, why = found.get("gpu", ""), found.get("why", "")
    takes = f"its compiler takes it: {told}"
    if compiled.state == "cannot be graded":
        return _with(simulated, f"its compiler was not asked: {why}")
    if compiled.state == "failed" and not told:  # a slow machine, perhaps, or a fault in LLVM
        ended = f"its compiler gave no answer ({why.removesuffix(LOOP)})"
        return _with(simulated, f"{ended}: what the simulator found counts")
    if compiled.state == "passed":
        if simulated.state == "failed" and lines.get("why", "").startswith(ONLY_ON_GPU):
            why = f"{lines['why']}: grade it where there is a GPU, or do without"
            kept = [line for line in simulated.lines if line[0] in ("ran", "test")]
            unknown = replace(simulated, state="cannot be graded", lines=(("why", why), *kept))
            return _with(unknown, takes)
        return _with(simulated, takes) if simulated.state == "passed" else simulated
    if simulated.state != "passed":
        return _with(simulated, f"its compiler says: {told}") if told else simulated
    ran = f"{lines['ran']}, and passed; but not past the compiler of a GPU"
    kept = [line for line in simulated.lines if line[0] != "ran"]
    new = [("why", told or why), ("ran", ran), *reread(exercise)]
    return replace(simulated, state="failed", lines=in_order([*kept, *new]))


def _with(verdict, told):
    return replace(verdict, lines=in_order([*verdict.lines, ("gpu", told)]))
