"""The command `doctor`: what is installed, what of it runs, and how fast."""

import io
import os
import platform
import sys
import tempfile
import textwrap
import time
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numba
import numpy as np
from numba import config, float32, void

from .. import __version__, checkpoint, data, kernels
from ..kernels import cpu_cache, cpu_threads, processors
from ..measure import classifier
from .usage import UsageError, require_figures

PACKAGE = Path(__file__).resolve().parents[1]


def cmd_doctor(args):
    """Run `doctor`: prints what is installed, times a convolution, tries all that `sample` needs.

    -> None; raises UsageError after a line for each thing that is wrong
    """
    _versions()
    _processors()
    problem = _failure(require_figures)
    wrong = [f"no figure can be drawn: {problem}: pip install -r requirements.txt"] * bool(problem)
    problem = _failure(_speed)
    wrong += [f"the kernels do not run: {problem}"] if problem else []
    for check in (_files, _drawing, _cache, _leftovers):
        wrong += check()
    for line in _notes():
        print(f"note       {line}")
    for line in wrong:
        print(f"wrong      {line}")
    if wrong:
        raise UsageError("not all is well: see the lines that begin with `wrong`")
    print("all is well")


def _versions():
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    machine = f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"
    print(f"tinydiff   {__version__}, {machine}")
    print(f"numpy      {np.__version__}, BLAS {blas['name']} {blas['version']}")
    print(f"numba      {numba.__version__}")
    print("cuda       " + "\n           ".join(_cuda()))


def _processors():
    cpus, place = processors.quota()
    print(f"threads    {processors.threads}, {processors.why} (NUMBA_NUM_THREADS changes that)")
    print("quota      " + (f"{cpus:g} processors' time, by {place}" if place else "none"))


def _speed():
    rng, times = np.random.default_rng(0), []
    x = kernels.array(rng.standard_normal((64, 16, 16, 32), dtype=np.float32))
    w = kernels.array(rng.standard_normal((3, 3, 32, 32), dtype=np.float32))
    for _ in range(6):
        began = time.perf_counter()
        np.asarray(kernels.conv2d(x, w, "zeros"))  # on a GPU: waits for the result and copies it
        times.append(time.perf_counter() - began)
    work = 2 * 64 * 16 * 16 * 9 * 32 * 32
    if kernels.active().__name__.endswith(".cpu"):
        print(f"threading  {_threading()}")
    first = f"first call {times[0]:.2f} s (compiled, or read from the cache)"
    speed = f"{1000 * min(times):.2f} ms: {work / min(times) / 1e9:.0f} GF/s"
    print(f"conv2d     {first}, then {speed}")


def _threading():
    """Say which library runs the threads, why, and how they wait -> str"""
    layer, asked = cpu_threads.layer(), os.environ.get("NUMBA_THREADING_LAYER")
    first = "the first that Numba finds of tbb, omp (OpenMP) and workqueue (its own)"
    said = f"{layer}, {f'NUMBA_THREADING_LAYER={asked}' if asked else first}"
    if layer == "omp":
        return f"{said}; waiting: {processors.waiting()}"
    if layer == "workqueue" and not asked:
        get = "apt install libgomp1, conda install llvm-openmp or the like"
        return f"{said}; OpenMP is missing: with it drawing is faster ({get})"
    return said


def _cache():
    """Say where compiled kernels are kept -> list of what is wrong with it"""
    folder, closed = cpu_cache.folder()
    files = list(folder.glob("*.nbc"))
    size = sum(path.stat().st_size for path in files) / 1e6
    state = ", which cannot be written to" if closed else ""
    print(f"cache      {folder}{state}: {len(files)} compiled kernels, {size:.1f} MB")
    why, advice = cpu_cache.Cache.given_up, "set NUMBA_CACHE_DIR to a folder that has room for them"
    return [f"compiled kernels cannot be kept ({why}): {advice}"] if why else []


def _files():
    """Load every data set and model that comes with tinydiff -> list of what is wrong with them"""
    names = (*data.FILES, *data.STYLES)
    loads = [(data.load, name) for name in data.FILES]
    loads += [(data.load_styles, name) for name in data.STYLES]
    loads += [(f, name) for f in (checkpoint.pretrained, classifier.load) for name in names]
    wrong = [problem for f, name in loads if (problem := _failure(lambda: f(name)))]
    whole = f"{len(loads) - len(wrong)} of {len(loads)} data sets, models and judges are intact"
    print(f"files      {data.FOLDER}: {whole}")
    return wrong if len(wrong) < len(loads) else wrong[:1]  # one line says where all should be


def _drawing():
    """Run `sample digits` in small -> list of what is wrong with it"""
    from .cli import parser
    from .cmd_sample import cmd_sample

    def draw():
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
            words = ["sample", "digits", "--n", "1", "--steps", "1", "--out", f"{folder}/digit.png"]
            cmd_sample(parser().parse_args(words))

    began = time.perf_counter()
    problem = _failure(draw)
    if not problem:
        print(f"drawing    a digit, in one step: {time.perf_counter() - began:.2f} s")
    return [f"`sample digits` fails: {problem}"] if problem else []


def _leftovers():
    """List what other installs have left on Python's path, which can hide this one."""
    wrong = [
        f"{path} is left over from another install: delete it"
        for path in _others()
        if (path / "kernels").is_dir() and not (path / "__init__.py").is_file()
    ]
    unknown = [] if cpu_cache.IN_CLONE else PACKAGE.rglob("*.nb[ci]")
    for folder in sorted({path.parent for path in unknown}):
        wrong.append(f"{folder} holds compiled kernels, which pip would leave: delete *.nbc, *.nbi")
    return wrong


def _others():
    """List the other folders of this name on Python's path."""
    folders = {Path(place or ".").resolve() / PACKAGE.name for place in sys.path}
    return sorted(folder for folder in folders if folder.resolve() != PACKAGE)


def _notes():
    """List what is not wrong, but costs time or may surprise."""
    threads, cores = config.NUMBA_NUM_THREADS, config.NUMBA_DEFAULT_NUM_THREADS
    if threads > cores:
        yield f"NUMBA_NUM_THREADS is {threads}, more than the {cores} cores: threads will wait"
    asked = config.CACHE_DIR
    if asked and Path(asked).absolute() != cpu_cache.folder()[0].parent:
        yield f"NUMBA_CACHE_DIR={asked} cannot be written to, so another folder is the cache"
    if why := cpu_threads.unfit():
        yield f"{why}: all is slow"
    tbb = Path(sys.prefix) / "lib" / "libtbb.so.12"
    if tbb.exists() and cpu_threads.layer() not in ("", "tbb"):
        yield f"{tbb} is not used: set LD_LIBRARY_PATH={tbb.parent}, if you want TBB"
    for path in _others():
        if (path / "__init__.py").is_file():
            yield f"{path} is a second tinydiff: which one runs depends on the folder you are in"


def _failure(f):
    """Call what may fail -> its complaint in one line, "" if there is none"""
    try:
        f()
    except Exception as e:
        return " ".join(str(e).split()) or type(e).__name__
    return ""


def _cuda():
    """Say what the CUDA kernels would run on and what is missing; run one kernel -> yields lines"""
    from ..kernels import cuda_array

    yield _cuda_target()
    if cuda_array.SIMULATED:
        yield "simulator  instead of a GPU, since NUMBA_ENABLE_CUDASIM is set"
        yield _cuda_kernel(cuda_array)
        return
    cuda, capability = cuda_array.cuda, (8, 0)
    driver, problem = _tried(lambda: cuda.cudadrv.driver.driver.get_version())
    if driver:
        yield f"driver     for CUDA {driver[0]}.{driver[1]}"
    else:
        yield f"driver     none ({problem}): install NVIDIA's, if there is a GPU"
    gpu, problem = _tried(cuda.get_current_device) if driver else (None, "no driver")
    if gpu:
        capability, name = gpu.compute_capability, gpu.name
        name = name.decode() if isinstance(name, bytes) else name
        yield f"GPU        {name}, compute capability {capability[0]}.{capability[1]}"
    else:
        instead = "set NUMBA_ENABLE_CUDASIM=1 to run the kernels without one, very slowly"
        yield f"GPU        none ({problem}): {instead}"
    code, problem = _tried(lambda: _ptx(cuda_array, tuple(capability)))
    home = os.environ.get("CUDA_HOME")
    home = f"CUDA_HOME={home}" if home else "CUDA_HOME not set"
    if code:
        yield f"compiler   works ({home})"
    else:
        install = "pip install 'tinydiff[cuda12]', or cuda13, whichever the driver is for"
        yield f"compiler   not found or not usable ({problem}; {home}): {install}"
    yield _cuda_kernel(cuda_array) if gpu and code else "kernel     none was run"


def _cuda_target():
    """Name the package that numba.cuda comes from, and its version."""
    try:
        return f"numba-cuda {version('numba-cuda')}, with numba {numba.__version__}"
    except PackageNotFoundError:
        own = f"numba {numba.__version__}'s own CUDA target, no longer maintained"
        return f"{own}: pip install 'tinydiff[cuda12]', or cuda13, brings numba-cuda"


def _tried(f):
    """Call what may fail in many ways, as drivers do -> its result or None, its complaint"""
    try:
        return f(), ""
    except Exception as e:
        return None, textwrap.shorten(str(e) or type(e).__name__, 120, placeholder=" ...")


def _ptx(cuda_array, capability):
    """Compile a kernel, which needs no GPU -> PTX"""
    fill, types = cuda_array._fill.py_func, void(float32[::1], float32)
    return cuda_array.cuda.compile_ptx(fill, types, cc=capability)[0]


def _cuda_kernel(cuda_array):
    began = time.perf_counter()
    _, problem = _tried(cuda_array.require)
    if not problem:
        ones = np.ones(1000, np.float32)
        total, problem = _tried(lambda: float((cuda_array.array(ones) + 1).sum()))
    if problem:
        return f"kernel     none was run: {problem}"
    said = "compiled and run" if total == 2000 else f"WRONG: it gave {total} instead of 2000"
    return f"kernel     {said} in {time.perf_counter() - began:.2f} s"
