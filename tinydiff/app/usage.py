"""What the user gave, checked before the work starts."""

import importlib
import math
import os
from contextlib import suppress

from .. import data
from ..files import require_folder, require_replaceable


class UsageError(Exception):
    """What the user gave cannot be used; the message is the one line that they see."""


def like(path, names=()):
    """Guess which of names, or of what lies beside it, a path was meant to be -> see data.meant"""
    folder, last = os.path.split(path)
    with suppress(OSError):
        beside = [os.path.join(folder, name) for name in os.listdir(folder or ".")]
        names = [*names, *beside]
    return data.meant(path if last else folder, names)


def require_writable(folder, what="--out"):
    """Refuse, before the work starts, a folder that cannot take results; what: for the message."""
    try:
        require_folder(folder)
    except OSError as e:
        why = f"cannot be written to ({e.strerror}): give a folder that can"
        raise UsageError(f"{what} {folder} {why}") from None


def require_output(path, inputs=(), option="--out"):
    """Refuse, before the work starts, a path at which no file can be written.

    Or one that is among the inputs, whose file would be lost.
    """
    there = [i for i in inputs if i and os.path.exists(i)]
    if os.path.exists(path) and any(os.path.samefile(path, i) for i in there):
        why = "is read by this command, and would be lost: give another name"
        raise UsageError(f"{option} {path} {why}".strip())
    try:
        require_replaceable(path)
    except OSError as e:
        why = f"{path} could not be written ({e.strerror}): give another name" if e.strerror else e
        raise UsageError(f"{option} {why}".strip()) from None


def require_picture(path, *inputs):
    """Refuse, before the work starts, a path at which no PNG can be written."""
    is_png, is_folder = path.suffix.lower() == ".png", os.path.isdir(path)
    if is_png or not is_folder:
        require_output(path, inputs)
    if not is_png:
        name = path / "picture.png" if is_folder else path.with_suffix(".png")
        why = f"pictures are PNG files: give a name that ends in .png, as {name}"
        raise UsageError(f"--out {path}: {why}")


def require_figures():
    """Refuse, before the work starts, to draw figures where matplotlib is missing."""
    importlib.import_module("matplotlib.figure")


def memory():
    """Tell how much memory this machine has, in bytes: () -> number, inf if it does not say"""
    try:
        pages = os.sysconf("SC_PHYS_PAGES")
        return pages * os.sysconf("SC_PAGE_SIZE") if pages > 0 else math.inf
    except (AttributeError, ValueError, OSError):
        return math.inf


def require_memory(needed, less):
    """Refuse, before it starts, what needs more bytes than there are: the system would end it."""
    if needed > (there := memory()):
        sizes = f"{needed / 1e9:,.1f} GB of memory, this machine has {there / 1e9:,.1f}"
        raise UsageError(f"this needs about {sizes}: take a smaller {less}")


def require_like(name, pipe, dataset):
    """Refuse a model whose pictures have not the size of those in the data set that it names."""
    own = (pipe.model.size, pipe.model.size, pipe.model.out)
    if own != dataset.train.shape[1:]:
        sizes = ["{} x {} x {}".format(*size) for size in (own, dataset.train.shape[1:])]
        raise UsageError(f"{name} draws {sizes[0]}, the images of {dataset.name} are {sizes[1]}")


def dataset_named(name, styles=False):
    """Load a data set by its name -> data.Dataset, with styles=True also data.Styles"""
    known = {**data.FILES, **data.STYLES} if styles else data.FILES
    if name not in known:
        guess = data.meant(name, known)
        raise UsageError(f"no data set {name!r}{guess}; there are: {', '.join(known)}")
    return data.load_styles(name) if name in data.STYLES else data.load(name)


def pictures_named(name):
    """Load a data set by its name as single pictures, also where they come in styles -> Dataset"""
    dataset = dataset_named(name, styles=True)
    return dataset.dataset() if hasattr(dataset, "styles") else dataset


def choose_kernels(name):
    """Refuse at start-up the kernel set of --kernels, or of the environment, if it cannot run."""
    from .. import kernels

    try:
        kernels.require_variables()
        if name or os.environ.get("TINYDIFF_KERNELS") == "cuda":
            kernels.use(name or "cuda")
    except ValueError as e:
        raise UsageError(str(e)) from None
    except RuntimeError as e:
        asked = f"--kernels {name}" if name else "$TINYDIFF_KERNELS cuda"
        raise UsageError(f"{asked}: {e}") from None
