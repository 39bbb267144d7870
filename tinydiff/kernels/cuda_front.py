"""What the compiler of a GPU says of a kernel, on a machine that has none.

    seen = cuda_front.look(kernel, "void(float32[::1], float32[::1])", threads=64)
    seen.problems(), seen.shared, seen.float64, seen.registers

Numba's CUDA front end gives every value a type and lowers the kernel to LLVM's language; for that
it needs neither a GPU nor a driver nor a toolkit. LLVM, which came with numba, then optimises it as
the compiler of a GPU does: the float64 arithmetic that is left is what a GPU would do in float64.

This works only in a Python without the simulator, and afterwards no kernel can be launched there.
"""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from traceback import walk_tb
from types import SimpleNamespace

import llvmlite.binding as llvm
from numba import __version__, void
from numba.core import sigutils

from .cuda_array import MOST_SHARED, MOST_THREADS, SIMULATED, cuda

CAPABILITY = (8, 0)  # of the GPU that is compiled for, as PROCESSOR names it
MOST_REGISTERS = 64 << 10  # of a block, on every GPU since 2014
TRIPLE, PROCESSOR = "nvptx64-nvidia-cuda", "sm_80"
ARITHMETIC = {"fadd", "fsub", "fmul", "fdiv", "frem", "fneg", "fcmp", "call"}
MEANS = {  # what numba says where it refuses -> what that means
    r"(shared|local)\.array": "the shape of such an array is fixed when the kernel is compiled: a "
    "number, or a name outside the kernel, not what it gets or computes",
    r"'append'|'extend'|build_list|NRT required": "a kernel cannot ask for memory while it runs: "
    "no list grows and no array is made there; use cuda.local.array or cuda.shared.array",
    r"exception_match": "a kernel cannot catch errors: test beforehand what may go wrong",
}
SLOW = (
    "this is computed in float64, on many GPUs 32 or 64 times slower: a Python number makes it so, "
    "or / between whole numbers; begin a sum with ZERO, and write np.float32(0.3) for 0.3"
)


class NumbaFault(Exception):
    """Numba cannot compile what is right"""


@dataclass(frozen=True)
class Look:
    """What was found about a kernel.

    refused: (line, why) if it does not compile, else None; threads: of a block, as it is launched;
    shared: bytes of shared memory; float64: lines that compute in float64 though no argument
    is of that type; registers: of a thread, None without CUDA's own compiler
    """

    threads: int
    refused: tuple | None = None
    shared: int = 0
    float64: tuple = ()
    registers: int | None = None

    def problems(self):
        """List what a GPU would refuse, or do slowly: () -> list of (line or 0, sentence)"""
        needed = (self.registers or 0) * self.threads
        limits = (
            (f"{self.threads:,} threads in a block", self.threads, MOST_THREADS),
            (f"{self.shared:,} bytes of shared memory in a block", self.shared, MOST_SHARED),
            (f"{needed:,} registers for all threads of a block", needed, MOST_REGISTERS),
        )
        found = [self.refused] if self.refused else []
        found += [(0, f"{what}: a GPU has {most:,}") for what, got, most in limits if got > most]
        return found + [(line, SLOW) for line in self.float64]

    def __str__(self):
        registers = f", {self.registers} registers a thread" if self.registers else ""
        kinds = "float64 in it" if self.float64 else "no float64"
        return f"{self.threads} threads a block, {self.shared:,} bytes shared{registers}, {kinds}"


@cache
def missing():
    """Say why no kernel can be compiled in this process: () -> str, or None if one can"""
    if SIMULATED:
        return "numba's simulator is in its place here"
    try:
        tried = look(_nothing, "void()", 1)
    except Exception as error:  # whatever another numba or LLVM lacks
        return f"this numba's CUDA compiler cannot be used ({type(error).__name__}: {error})"
    return tried.refused and f"this numba's CUDA compiler cannot be used ({tried.refused[1]})"


def _nothing():
    pass


def look(kernel, signature, threads):
    """Compile a kernel, without running it.

    kernel: what cuda.jit made, or the function below it; signature: its arguments' types, as
    "void(float32[::1])" or a tuple of numba's types; threads: in a block -> Look
    Raises NumbaFault if it uses min or max, and this numba cannot compile these.
    """
    f = getattr(kernel, "py_func", kernel)
    types, _ = sigutils.normalize_signature(signature)
    compile_cuda = _prepared()
    try:
        done = compile_cuda(f, void, types, cc=CAPABILITY, lineinfo=True)
    except Exception as error:  # numba has many kinds
        if _is_of_min_or_max(error):
            raise NumbaFault(f"numba {__version__} cannot compile min and max for a GPU") from None
        return Look(threads, _refusal(error, f))
    module = _linked(done.library.get_llvm_str())
    shared = sum(map(_size, module.global_variables))
    _optimise(module)
    is_double = "float64" in str(types)
    lines = () if is_double else tuple(_lines_in_float64(module, f.__code__.co_firstlineno))
    return Look(threads, None, shared, lines, _registers(f, types))


# --- numba's front end ---


@cache
def _prepared():
    """Import the front end, and have it ask for no GPU: () -> numba's function compile_cuda"""
    compiler = import_module(f"{cuda.__name__}.compiler")
    dispatcher = import_module(f"{cuda.__name__}.dispatcher")
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=CAPABILITY)
    kind = dispatcher.CUDADispatcher  # @cuda.jit("void(...)") would have it load the kernel, too
    kind.compile = kind.disable_compile = lambda *_: None
    return compiler.compile_cuda


def _is_of_min_or_max(error):
    """Say whether numba cannot compile its own min or max, as 0.68 cannot: error -> bool

    It takes ol_min(*x), in numba/cpython/builtins.py, for a function of one argument, and then
    cannot compile min(a, b); nor min((a, b)), where the pair seems to be its first number.
    """
    frame = [frame for frame, _ in walk_tb(error.__traceback__)][-1]
    compiled = getattr(frame.f_locals.get("state"), "func_id", None)
    function = getattr(compiled, "func_qualname", frame.f_code.co_name)
    own = ("ol_min.", "ol_max.", "min_vararg", "max_vararg")
    return type(error) is TypeError and function.startswith(own)


def _refusal(error, f):
    """Say where and why numba refuses a kernel: error, function -> (line, sentence)"""
    lines = [re.sub(r" at 0x\w+", "", line.strip()) for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Failed in", "- "))]
    said, *rest = told or [type(error).__name__]
    if said.endswith(":") and rest:
        said = f"{said} {rest[0].removeprefix('>>> ')}"
    means = [f"; {text}" for pattern, text in MEANS.items() if re.search(pattern, said)]
    return _line_of(error, f), f"{type(error).__name__}: {said}{''.join(means[:1])}"


def _line_of(error, f):
    """Find the line that numba was at, which its own functions know -> int, else that of the def"""
    file, places = f.__code__.co_filename, [getattr(error, "loc", None)]
    for frame, _ in walk_tb(error.__traceback__):
        known = frame.f_locals
        places += [getattr(known.get(name), "loc", None) for name in ("self", "inst")]
    said = re.findall(rf"{re.escape(file)} \((\d+)\)", str(error))
    found = [loc.line for loc in places if getattr(loc, "filename", None) == file]
    return [f.__code__.co_firstlineno, *map(int, said[:1]), *found][-1]


# --- LLVM ---


@cache
def _machine():
    """Describe the GPU to LLVM: () -> its target machine"""
    llvm.initialize_all_targets()
    return llvm.Target.from_triple(TRIPLE).create_target_machine(cpu=PROCESSOR, opt=3)


def _linked(text):
    """Read what was lowered: str of one module or several, the kernel's first -> LLVM's module"""
    first, *others = (f"; ModuleID{part}" for part in text.split("; ModuleID")[1:])
    module = llvm.parse_assembly(first)
    kernel = next(f.name for f in module.functions if not f.is_declaration)
    for other in others:
        module.link_in(llvm.parse_assembly(other))
    for f in module.functions:  # so that what is called can go into the kernel
        if not f.is_declaration and f.name != kernel:
            f.linkage = "internal"
    return module


def _size(variable):
    """Measure a variable in shared memory: LLVM's global -> bytes, 0 if it lies elsewhere"""
    if "addrspace(3)" not in str(variable):
        return 0
    return llvm.create_target_data(variable.module.data_layout).get_abi_size(
        variable.global_value_type
    )


def _optimise(module):
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    passes = llvm.create_pass_builder(_machine(), options)
    passes.getModulePassManager().run(module, passes)


def _lines_in_float64(module, first):
    """List the kernel's lines that compute in float64: module, line of the def -> sorted ints"""
    places = dict(re.findall(r"^(!\d+) = (?:distinct )?!DILocation\((.*)\)", str(module), re.M))
    found = set()
    for function in module.functions:
        for block in function.blocks:
            for step in block.instructions:
                if step.opcode in ARITHMETIC and _is_double(step):
                    found.add(_outermost(str(step), places) or first)
    return sorted(found)


def _is_double(step):
    """Say whether an instruction gives, or compares, numbers of float64 -> bool"""
    kinds = [str(step.type)]
    kinds += [str(each.type) for each in step.operands] if step.opcode in ("fcmp", "call") else []
    is_note = "@llvm.dbg" in str(step)
    return "double" in kinds and not is_note


def _outermost(step, places):
    """Find the kernel's own line of an instruction, also if it was written elsewhere -> int or 0"""
    place = re.search(r"!dbg (!\d+)", step)
    text = places.get(place[1], "") if place else ""
    while inlined := re.search(r"inlinedAt: (!\d+)", text):
        text = places.get(inlined[1], "")
    line = re.search(r"line: (\d+)", text)
    return int(line[1]) if line else 0


# --- CUDA's own compiler and assembler ---


def _registers(f, types):
    """Count the registers of a thread -> int, or None where CUDA's toolkit is not at hand"""
    assembler = _assembler()
    if not assembler:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        try:
            path.write_text(cuda.compile_ptx(f, types, cc=CAPABILITY)[0])
        except Exception:  # without libNVVM; numba has many kinds
            return None
        words = [assembler, "-v", f"-arch={PROCESSOR}", "-o", os.devnull, str(path)]
        done = subprocess.run(words, capture_output=True, text=True)
    used = re.search(r"Used (\d+) registers", done.stderr)
    return int(used[1]) if used else None


@cache
def _assembler():
    """Find ptxas, which comes with the toolkit or with numba-cuda: () -> its path, or None"""
    spec = find_spec("nvidia")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    found = [path for folder in folders for path in Path(folder).glob("*/bin/ptxas")]
    return str(found[0]) if found else shutil.which("ptxas")
