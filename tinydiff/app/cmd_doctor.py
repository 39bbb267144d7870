"""The command `doctor`: what is installed, what of it runs, and how fast."""

import os
import platform
import textwrap
import time
from importlib.metadata import PackageNotFoundError, version

import numba
import numpy as np
from numba import float32, void

from .. import __version__, kernels


def cmd_doctor(args):
    """Say what is installed and what runs: () -> None; prints versions, threads, BLAS, CUDA, and times a convolution"""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    print(
        f"tinydiff   {__version__}, Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"
    )
    print(f"numpy      {np.__version__}, BLAS {blas['name']} {blas['version']}")
    print(
        f"numba      {numba.__version__}, {numba.config.NUMBA_NUM_THREADS} threads (set NUMBA_NUM_THREADS to change)"
    )
    print("cuda       " + "\n           ".join(_cuda()))
    rng, times = np.random.default_rng(0), []
    x, w = (
        rng.standard_normal((64, 16, 16, 32), dtype=np.float32),
        rng.standard_normal((3, 3, 32, 32), dtype=np.float32),
    )
    x, w = kernels.array(x), kernels.array(w)
    for _ in range(6):
        began = time.perf_counter()
        np.asarray(
            kernels.conv2d(x, w, "zeros")
        )  # of a graphics card: waits for it, and fetches the result
        times.append(time.perf_counter() - began)
    work = 2 * 64 * 16 * 16 * 9 * 32 * 32
    if kernels.active().__name__.endswith(".cpu"):
        print(f"threading  {numba.threading_layer()}")
    speed = f"{1000 * min(times):.2f} ms: {work / min(times) / 1e9:.0f} GF/s"
    print(
        f"conv2d     first call {times[0]:.2f} s (compiled, or read from the cache), then {speed}"
    )
    print("all is well")


def _cuda():
    """Say what the CUDA kernels would run on and what is missing; run one kernel -> yields lines"""
    from ..kernels import cuda_array

    target, parts = (
        _cuda_target(cuda_array),
        "pip install 'tinydiff[cuda12]', or cuda13, whichever the driver is for",
    )
    yield target
    capability = (8, 0)
    if cuda_array.SIMULATED:
        yield "simulator  instead of a card, since NUMBA_ENABLE_CUDASIM is set"
    else:
        driver, problem = _tried(lambda: cuda_array.cuda.cudadrv.driver.driver.get_version())
        yield (
            f"driver     for CUDA {driver[0]}.{driver[1]}"
            if driver
            else f"driver     none ({problem}): install NVIDIA's, if there is a card"
        )
        card, problem = (
            _tried(cuda_array.cuda.get_current_device) if driver else (None, "no driver")
        )
        if card:
            capability, name = card.compute_capability, card.name
            name = name.decode() if isinstance(name, bytes) else name
            yield f"card       {name}, compute capability {capability[0]}.{capability[1]}"
        else:
            yield f"card       none ({problem}): set NUMBA_ENABLE_CUDASIM=1 to run the kernels without one, very slowly"
        code, problem = _tried(lambda: _ptx(cuda_array, tuple(capability)))
        home = (
            f"CUDA_HOME={os.environ['CUDA_HOME']}"
            if "CUDA_HOME" in os.environ
            else "CUDA_HOME not set"
        )
        yield (
            f"compiler   works ({home})"
            if code
            else f"compiler   not found or not usable ({problem}; {home}): {parts}"
        )
        if not (card and code):
            yield "kernel     none was run"
            return
    yield _cuda_kernel(cuda_array)


def _cuda_target(cuda_array):
    """Name the package that numba.cuda comes from, and its version."""
    try:
        return f"numba-cuda {version('numba-cuda')}, with numba {numba.__version__}"
    except PackageNotFoundError:
        own = f"numba {numba.__version__}'s own CUDA target, no longer maintained"
        return f"{own}: pip install 'tinydiff[cuda12]', or cuda13, brings numba-cuda"


def _tried(f):
    """Call what may fail in many ways, as drivers and compilers do: -> its result or None, its complaint in a line"""
    try:
        return f(), ""
    except Exception as e:
        return None, textwrap.shorten(str(e) or type(e).__name__, 120, placeholder=" ...")


def _ptx(cuda_array, capability):
    """Compile a kernel, which takes no card: -> PTX"""
    return cuda_array.cuda.compile_ptx(
        cuda_array._fill.py_func, void(float32[::1], float32), cc=capability
    )[0]


def _cuda_kernel(cuda_array):
    began = time.perf_counter()
    _, problem = _tried(cuda_array.require)
    if not problem:
        total, problem = _tried(
            lambda: float((cuda_array.array(np.ones(1000, np.float32)) + 1).sum())
        )
    if problem:
        return f"kernel     none was run: {problem}"
    said = "compiled and run" if total == 2000 else f"WRONG: it gave {total} instead of 2000"
    return f"kernel     {said} in {time.perf_counter() - began:.2f} s"
