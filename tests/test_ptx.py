"""Every CUDA kernel compiled to PTX, an intermediate machine code; this needs no GPU.

pip install -e .[cuda12] brings the compiler with numba-cuda. Without it numba's own CUDA target is
tried, which finds the compiler, libNVVM, where a CUDA toolkit is installed.

The seam's functions run on host arrays that pretend to be on the device; instead of being launched,
each kernel is compiled for the types of its arguments. So what is compiled is what a training
launches, and no list of kernels can become outdated.
"""

import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

pytestmark = pytest.mark.slow
COMPUTE_CAPABILITIES = ["7.0", "8.0", "9.0"]


@pytest.mark.parametrize("compute_capability", COMPUTE_CAPABILITIES)
def test_every_kernel_compiles(compute_capability):
    if not find_spec("numba_cuda") and compute_capability != "8.0":
        install = "pip install -e .[cuda12], or cuda13, for numba-cuda"
        pytest.skip(f"numba's own, deprecated target is tested for one capability only: {install}")
    command = [sys.executable, __file__, compute_capability]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


class Pretended(np.ndarray):
    """A host array with the methods of a device array."""

    def copy_to_device(self, x):
        self[:] = x

    def copy_to_host(self):
        return np.array(self)


def compile_all(capability):
    """Compile what test_kernels.py's cases launch, in float32 and float64.

    capability: (major, minor) -> {(kernel, types): PTX}
    """
    import numba

    from tinydiff.kernels.cuda_array import cuda

    def compiled(kernel, types):
        return cuda.compile_ptx(kernel.py_func, numba.void(*types), cc=capability)[0]

    return {(kernel, types): compiled(kernel, types) for kernel, types in launches(capability)}


def launches(capability, dtypes=(np.float32, np.float64)):
    """List what test_kernels.py's cases launch -> {(kernel, types): threads of its largest block}

    Nothing is launched: what the kernels would fill stays 0.
    """
    import numba
    from test_kernels import cases, results

    from tinydiff import kernels
    from tinydiff.kernels import cuda as seam
    from tinydiff.kernels import cuda_array

    def types_of(args):
        return tuple(numba.typeof(np.asarray(a) if isinstance(a, np.ndarray) else a) for a in args)

    def noted_instead(kernel, size):
        def launched(*args):
            key, threads = (kernel, types_of(args)), int(np.prod(size[1]))
            found[key] = max(threads, found.get(key, 0))

        return launched

    found, dispatcher = {}, type(cuda_array._sum)
    module = sys.modules[dispatcher.__module__]
    # Otherwise each small launch would print a warning.
    assert module.config.CUDA_LOW_OCCUPANCY_WARNINGS == 0
    dispatcher.__getitem__ = noted_instead
    module.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    cuda_array.cuda.device_array = lambda size, dtype: np.zeros(size, dtype).view(Pretended)
    kernels._active = seam
    for dtype in dtypes:
        seen = set()
        for name, args in cases(dtype, np.random.default_rng(0)):
            if name not in seen:
                there = [cuda_array.array(a) if isinstance(a, np.ndarray) else a for a in args]
                results(seam, name, there)
                seen.add(name)
        x, c = (cuda_array.array(np.ones(shape, dtype)) for shape in ((2, 3, 4, 5), (2, 1, 1, 5)))
        for y in (x + x, x + c, x - c, x * c, x / c, -x, x + 1, x.clip(-1, 1), x**2, x**0):
            assert y.shape == x.shape and y.dtype == dtype
        z = kernels.normal(np.random.default_rng(0), x.shape, dtype)
        # Noise is drawn within the step; reshaping it writes it to memory.
        y = kernels.denoise_step(x, x, z, 0.3, 0.5, 0.4, 0.2, 1.0)
        assert y.shape == z.reshape(x.shape).shape
        _ = x.swapaxes(1, 2), x[:, ::-1, ::-1], x[..., 1:3]
        _ = x.sum(1), x.mean(), x.copy(), x.astype(np.float64)
    return found


def complaints(found):
    """List what is wrong with the code: {(kernel, types): PTX} -> iterator of lines"""
    for (kernel, types), ptx in found.items():
        name = kernel.py_func.__qualname__
        if ".visible .entry" not in ptx:
            yield f"{name} {types}: no kernel in its PTX"
        # cos of a huge angle, which never occurs here, goes through float64.
        huge = name in ("_normal", "_denoise_step_noise")
        if "float64" not in str(types) and ".f64" in ptx and not huge:
            yield f"{name} {types}: a float32 kernel that computes in float64"
        if kernel.py_func.__module__.endswith("cuda_matmul") and ".local" in ptx:
            yield f"{name} {types}: the sums are in memory, not in registers"


if __name__ == "__main__":
    major, minor = sys.argv[1].split(".")
    try:
        found = compile_all((int(major), int(minor)))
    except Exception as e:
        if type(e).__name__ not in ("CCSupportError", "NvvmSupportError"):
            raise
        print(e)  # CUDA 13 no longer supports the oldest GPUs; or there is no compiler
        sys.exit(77)
    wrong = list(complaints(found))
    number = len({kernel for kernel, _ in found})
    print(f"{number} kernels compiled, for {len(found)} combinations of types", *wrong, sep="\n")
    sys.exit(1 if wrong or len(found) < 50 else 0)
