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
    """Run `doctor`: prints versions, threads, BLAS, CUDA, and times a convolution -> None"""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    machine = f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"
    threads = f"{numba.config.NUMBA_NUM_THREADS} threads (set NUMBA_NUM_THREADS to change)"
    print(f"tinydiff   {__version__}, {machine}")
    print(f"numpy      {np.__version__}, BLAS {blas['name']} {blas['version']}")
    print(f"numba      {numba.__version__}, {threads}")
    print("cuda       " + "\n           ".join(_cuda()))
    rng, times = np.random.default_rng(0), []
    x = kernels.array(rng.standard_normal((64, 16, 16, 32), dtype=np.float32))
    w = kernels.array(rng.standard_normal((3, 3, 32, 32), dtype=np.float32))
    for _ in range(6):
        began = time.perf_counter()
        np.asarray(kernels.conv2d(x, w, "zeros"))  # on a GPU: waits for the result and copies it
        times.append(time.perf_counter() - began)
    work = 2 * 64 * 16 * 16 * 9 * 32 * 32
    if kernels.active().__name__.endswith(".cpu"):
        print(f"threading  {numba.threading_layer()}")
    first = f"first call {times[0]:.2f} s (compiled, or read from the cache)"
    speed = f"{1000 * min(times):.2f} ms: {work / min(times) / 1e9:.0f} GF/s"
    print(f"conv2d     {first}, then {speed}")
    print("all is well")


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
