"""Compiled kernels on disk: whole, and of this very source, or compiled anew.

Numba's own cache looks at the file of the compiled function only, not at what was compiled into it,
nor at most settings, and hands what it reads to the processor unchecked. Here a file begins with a
checksum over its machine code and over all that the code depends on, so that damage, an update, or
another setting only costs the time to compile. Nor does anything fail for want of a place to write.
"""

import hashlib
import os
import pickle
import sys
import tempfile
from functools import cache
from pathlib import Path

import llvmlite
import numba
from llvmlite.binding import get_host_cpu_features
from numba import config

KERNELS = Path(__file__).resolve().parent
HOME = KERNELS.parents[1]
IN_CLONE = (HOME / "pyproject.toml").is_file() and not HOME.name.endswith("-packages")
# Of Numba's settings those that change the code, but not the name or the features of the processor.
SETTINGS = ("BOUNDSCHECK", "DEBUGINFO_DEFAULT", "DISABLE_INTEL_SVML", "ENABLE_PROFILING")
SETTINGS += ("EXTEND_VARIABLE_LIFETIMES", "LLVM_REFPRUNE_FLAGS", "LLVM_REFPRUNE_PASS", "OPT")
SETTINGS += ("LOOP_VECTORIZE", "PARFOR_MAX_TUPLE_SIZE", "SLP_VECTORIZE", "USING_SVML")
_MARK = hashlib.sha256().digest_size


def stamp():
    """Sum up what all kernels are made of: their sources and who compiles them -> str"""
    sources = [path.read_bytes() for path in sorted(KERNELS.glob("cpu*.py"))]
    makers = f"{numba.__version__} {llvmlite.__version__} {sys.version}".encode()
    return hashlib.sha256(b"".join([*sources, makers])).hexdigest()


STAMP = stamp()  # of the sources as they are imported: they may change before the first call


def candidates():
    """List the folders that may hold compiled kernels, the best first: () -> list of Paths

    As with Numba: $NUMBA_CACHE_DIR, beside the source, the user's. But only a clone's source: pip
    would not know of the files, and leave them.
    """
    ours = f"{KERNELS.name}_{hashlib.sha1(os.fsencode(KERNELS)).hexdigest()}"
    found = [Path(config.CACHE_DIR).absolute() / ours] if config.CACHE_DIR else []
    found += [KERNELS / "__pycache__"] if IN_CLONE else []
    try:
        from numba.misc.appdirs import AppDirs

        users = Path(AppDirs("numba", appauthor=False).user_cache_dir)
    except ImportError:
        return found
    return [*found, users / ours] if users.is_absolute() else found  # "~" stays where HOME is unset


@cache
def folder():
    """Choose where compiled kernels are kept: () -> Path, and why nothing can be written there

    The first place that can be written to; if there is none, the first that can be read.
    """
    whys = {}
    for path in candidates():
        whys[path] = _why_not(path)
        if not whys[path]:
            return path, ""
    path = next((path for path in whys if os.path.isdir(path)), next(iter(whys), KERNELS))
    return path, f"{path}: {whys.get(path, 'the user has no home folder')}"


def _why_not(path):
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as e:
        return e.strerror or str(e)
    return ""


def _give_up(why):
    """Say once what it costs that nothing can be kept, and try no more."""
    if Cache.given_up:
        return
    Cache.given_up = why
    each = "each start compiles them anew, which takes about half a minute"
    advice = "set NUMBA_CACHE_DIR to a folder that can be written to and has room"
    print(f"tinydiff: compiled kernels cannot be kept ({why}): {each}; {advice}", file=sys.stderr)


def _announce():
    """Tell who looks at a notebook, once, why it seems to do nothing."""
    if not Cache.announced and "ipykernel" in sys.modules:
        Cache.announced = True
        print("compiling kernels, once: a few seconds each, about 40 s in all", flush=True)


class Cache:
    """A compiled function's files, one for each combination of types: Numba's `_cache`."""

    given_up = ""  # why, said of all of them
    announced = False
    elsewhere = None  # asked for each kernel that is not there: has another process just kept it?

    def __init__(self, f):
        self.name = f"{f.__module__.rpartition('.')[2]}.{f.__qualname__}"

    @property
    def cache_path(self):
        return str(folder()[0])

    def load_overload(self, types, context):
        """Read the code for some types of arguments -> a CompileResult, or None: compile it"""
        context.refresh()
        found = self._read(types, context)
        if found is None and Cache.elsewhere and Cache.elsewhere(self.name):
            found = self._read(types, context)
        if found is None:
            if folder()[1]:
                _give_up(folder()[1])
            _announce()
        return found

    def _read(self, types, context):
        try:
            from numba.core.compiler import CompileResult

            path, key = self._place(types, context.codegen())
            content = path.read_bytes()
            if content[:_MARK] == _mark(key, content[_MARK:]):
                return CompileResult._rebuild(context, *pickle.loads(content[_MARK:]))
        except Exception:  # no such file; or one that this Numba cannot use, whatever it says
            pass
        return None

    def save_overload(self, types, result):
        """Keep the code that was compiled for some types of arguments, or say why not -> None"""
        if self.given_up or result.library.has_dynamic_globals:
            return
        try:
            compiled = result._reduce()
        except RuntimeError:  # a signal came while LLVM was at work: there is no code
            return
        try:
            from numba.core.serialize import dumps

            path, key = self._place(types, result.library.codegen)
            code = dumps(compiled)
            _replace(path, _mark(key, code) + code)
        except Exception as e:
            _give_up(f"{folder()[0]}: {getattr(e, 'strerror', '') or repr(e)}")

    def flush(self):
        """Forget the files: nothing to do, Numba asks for it only before it compiles all anew."""

    def _place(self, types, codegen):
        """Name the file for some types of arguments, and all that its code depends on."""
        settings = [(name, str(getattr(config, name, None))) for name in SETTINGS]
        processor = codegen.magic_tuple(), get_host_cpu_features().flatten()
        variant = repr((self.name, types, processor, settings)).encode()
        python = f"py{sys.version_info.major}{sys.version_info.minor}{getattr(sys, 'abiflags', '')}"
        name = f"{self.name}-{hashlib.sha256(variant).hexdigest()[:16]}.{python}.nbc"
        return folder()[0] / name, variant + STAMP.encode()


def _mark(key, code):
    return hashlib.sha256(key + code).digest()


def _replace(path, content):
    """Write a file in one step: others see the old one or the new one, whole."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    except PermissionError:  # on Windows, while another process reads what it has just kept
        if not path.exists():
            raise
    finally:
        unfinished.unlink(missing_ok=True)
