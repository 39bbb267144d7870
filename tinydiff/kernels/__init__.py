"""One seam, several implementations: everything above calls `kernels.name(...)` and `use` decides who answers.

    reference   every kernel in plain NumPy: the definition
    cpu         the reference with the hot kernels replaced by Numba: the default
    cuda        every kernel on an NVIDIA graphics card, by numba.cuda: arrays stay there, np.asarray(x) fetches one

Write `from tinydiff import kernels` and `kernels.conv2d(...)`; importing a kernel by name would freeze the choice.
"""

import os
from importlib import import_module
from importlib.util import find_spec

SETS = ("reference", "cpu", "cuda")
_active = None


class HostOnly(TypeError, AttributeError):
    """Something was asked of a GPU array that only NumPy can do; the message says what, and what to do."""


def use(name):
    """Choose the kernel set that answers from now on.

    name: "reference" (NumPy), "cpu" (Numba) or "cuda" (a GPU) -> the module, whose functions take and give arrays (N, H, W, C)
    Raises ValueError for another name, RuntimeError for "cuda" without a GPU. A model belongs to the set in use when it was made.
    """
    global _active
    if name not in SETS:
        raise ValueError(f"no kernel set {name!r}; there are: {', '.join(SETS)}")
    module = import_module(f"{__name__}.{name}")
    if name == "cuda":
        module.cuda_array.require()
    _active = module
    return _active


def active():
    """Return the kernel set in use: () -> module. At first it is $TINYDIFF_KERNELS, or cpu (numba loads only then)."""
    return _active or use(os.environ.get("TINYDIFF_KERNELS", "cpu"))


def __getattr__(name):
    if name.startswith("_") or (
        _active is None and find_spec(f"{__name__}.{name}")
    ):  # Python's own look-ups, of modules being imported
        raise AttributeError(name)
    return getattr(active(), name)
