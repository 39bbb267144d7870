"""One seam, several implementations: all above call `kernels.name(...)`, `use` decides who answers.

    reference   every kernel in plain NumPy: the definition
    cpu         the reference with the hot kernels replaced by Numba: the default
    cuda        every kernel on an NVIDIA GPU, by numba.cuda: arrays stay there until np.asarray(x)

Write `from tinydiff import kernels` and `kernels.conv2d(...)`; importing a kernel by name would
freeze the choice.
"""

import os
import re
import sys
from importlib import import_module
from importlib.util import find_spec

from . import processors
from .processors import turn  # noqa: F401

SETS = ("reference", "cpu", "cuda")
LAYERS = ("default", "safe", "forksafe", "threadsafe", "omp", "tbb", "workqueue")  # Numba's
processors.settle()  # before anything imports Numba
_active = None
_default = None  # instead of $TINYDIFF_KERNELS, in a process that was forked


class HostOnly(TypeError, AttributeError):
    """A GPU array was asked for what only NumPy can do; the message says what, and what to do."""


def use(name):
    """Choose the kernel set that answers from now on.

    A model belongs to the set in use when it was made.
    name: "reference" (NumPy), "cpu" (Numba) or "cuda" (a GPU)
    -> the module, whose functions take and give arrays (N, H, W, C); the reference, after a line
    that says so, where the process cannot run what "cpu" compiles
    Raises ValueError for another name, or a wrong variable of Numba's, RuntimeError for
    "cuda" without a GPU.
    """
    global _active
    if name not in SETS:
        raise ValueError(f"no kernel set {name!r}; there are: {', '.join(SETS)}")
    if name != "reference":
        require_variables()
    if name == "cpu" and (why := import_module(f"{__name__}.cpu_threads").unfit()):
        sys.stderr.write(f"tinydiff: {why}: NumPy computes instead, more slowly\n")
        name = "reference"
    module = import_module(f"{__name__}.{name}")
    if name == "cuda":
        module.cuda_array.require()
    _active = module
    return _active


def active():
    """Return the kernel set in use, at first $TINYDIFF_KERNELS or cpu: () -> module

    Numba is imported only then. Raises ValueError where a variable of the environment is wrong.
    """
    if not _active:
        require_variables()
        use(_default or os.environ.get("TINYDIFF_KERNELS", "cpu"))
    return _active


def require_variables():
    """Refuse variables of the environment with which this or Numba would fail later: () -> None

    Raises ValueError, which names the variable.
    """
    name = os.environ.get("TINYDIFF_KERNELS", "cpu")
    if name not in SETS:
        raise ValueError(f"$TINYDIFF_KERNELS is {name!r}; it can be: {', '.join(SETS)}")
    asked = os.environ.get("NUMBA_NUM_THREADS") or "1"
    if not (re.fullmatch(" *[0-9]{1,4} *", asked) and 1 <= int(asked) <= processors.MOST):
        takes = f"set it to a whole number from 1 to {processors.MOST}, or unset it"
        raise ValueError(f"$NUMBA_NUM_THREADS is {asked!r:.50}: {takes}")
    layer = os.environ.get("NUMBA_THREADING_LAYER", "default")
    if layer.lower() not in LAYERS:
        takes = f"set it to one of {', '.join(LAYERS)}, or unset it"
        raise ValueError(f"$NUMBA_THREADING_LAYER is {layer!r:.50}: {takes}")


def __getattr__(name):
    # Python looks up modules that are being imported here, before a kernel set need be chosen.
    if name.startswith("_") or (_active is None and find_spec(f"{__name__}.{name}")):
        raise AttributeError(name)
    return getattr(active(), name)
