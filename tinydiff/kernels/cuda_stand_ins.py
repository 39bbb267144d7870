"""What numba's CUDA simulator lacks of a GPU: computed here, or refused in words.

Functions of `libdevice`, CUDA's library of mathematics, are empty there: they give None, and an
array takes that as NaN. Here they compute what they say. What a warp does together has no place in
a simulator of one thread after the other; a kernel that asks for it gets an OnlyOnGPU.
"""

import math
import re
from functools import wraps
from importlib import import_module

import numpy as np

WARPS = (  # what cuda has on a GPU only
    "activemask all_sync any_sync ballot_sync eq_sync lanemask_lt match_all_sync match_any_sync "
    "nanosleep shfl_down_sync shfl_sync shfl_up_sync shfl_xor_sync syncwarp"
).split()
OTHERWISE = {  # named otherwise in NumPy and Python's math
    "dadd": np.add,
    "ddiv": np.divide,
    "dmul": np.multiply,
    "drcp": np.reciprocal,
    "dsqrt": np.sqrt,
    "dsub": np.subtract,
    "fadd": np.add,
    "fdiv": np.divide,
    "fdivide": np.divide,
    "fma": lambda a, b, c: np.float64(a) * b + c,
    "fmul": np.multiply,
    "frcp": np.reciprocal,
    "frsqrt": lambda a: 1 / np.sqrt(a),
    "fsqrt": np.sqrt,
    "fsub": np.subtract,
    "remainder": math.remainder,
    "round": lambda a: np.copysign(np.floor(np.abs(a) + 0.5), a),
    "rsqrt": lambda a: 1 / np.sqrt(a),
    "saturate": lambda a: np.clip(a, 0, 1),
    "tgamma": math.gamma,
}


class OnlyOnGPU(RuntimeError):
    """A kernel asks for what a GPU has and numba's simulator lacks."""


def install(cuda, simulated):
    """Put stand-ins in their places: the module numba.cuda, its simulator's kernelapi -> None"""
    libdevice = import_module(f"{cuda.__name__}.libdevice")
    known = import_module(f"{cuda.__name__}.libdevicefuncs").functions
    for name, f in list(vars(libdevice).items()):
        if f"__nv_{name}" in known:
            setattr(libdevice, name, wraps(f)(_computed(name, known[f"__nv_{name}"])))
    fake = simulated.FakeCUDAModule
    fake.libdevice = libdevice
    for name in WARPS:
        if not hasattr(fake, name):
            setattr(fake, name, staticmethod(_refusing(f"cuda.{name}")))


def _computed(name, known):
    """Make what libdevice calls `name`: its kind and its arguments', as numba lists them."""
    kind, given = str(known[0]), ["*" * each.is_ptr + str(each.ty) for each in known[1]]
    base = re.sub(r"_rn$", "", name.removeprefix("fast_"))
    bases = [base.removesuffix("f"), base] if kind == "float32" else [base]
    places = (OTHERWISE, vars(np), vars(math))
    found = [place[base] for base in bases for place in places if callable(place.get(base))]
    if not found or {kind, *given} - {"float32", "float64"}:
        return _refusing(f"libdevice.{name}")

    def computed(*args):
        pairs = zip(given, args, strict=True)
        with np.errstate(all="ignore"):
            return getattr(np, kind)(found[0](*(getattr(np, to)(a) for to, a in pairs)))

    return computed


def _refusing(name):
    def refused(*args):
        raise OnlyOnGPU(f"{name}: a GPU has it, numba's simulator lacks it")

    return refused
