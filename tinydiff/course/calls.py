"""What a student's function was called with and what came out: calls noted, repeated, compared."""

import copy
import hashlib
import inspect
import itertools
import linecache
import warnings
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from traceback import walk_tb

import numpy as np

from ..autodiff import Tensor, value_of
from .exercises import ROOT

REMEMBERED = 20  # uses kept of a function that came back
ENOUGH = 12  # items compared of what a sampler or a training yields


class Call:
    """Arguments of a call, copied so that it can be made again.

    uses: where a function came back, the arguments with which that was called
    """

    def __init__(self, args, options):
        self.args, self.options = copy.deepcopy((args, options))
        self.uses = []

    def outcome(self, f):
        """Make the call again, on copies: f -> flat list of arrays

        They hold every value that f gives, and every argument that it changed. Of an operation the
        derivative counts too; of a GPU kernel, how it went about its work comes last.
        """
        args, options = copy.deepcopy((self.args, self.options))
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            if launched(f):
                given = _watched(f, *args)
            elif hasattr(f, "forward"):
                value, vjp = f.forward(*map(value_of, args), **options)
                flat = np.arange(np.size(value), dtype=np.asarray(value).dtype)
                given = value, vjp(np.cos(flat).reshape(np.shape(value)))
            else:
                given = f(*args, **options)
            if hasattr(given, "__next__"):
                given = list(itertools.islice(given, ENOUGH))
            if callable(given):
                given = [given(*copy.deepcopy(use)) for use in self.uses]
        kept, now = list(arrays([self.args, self.options])), list(arrays([args, options]))
        changed = [a for a, b in zip(now, kept, strict=True) if not same([a], [b])]
        if launched(f):
            return [*changed, given]
        return [a.copy() for a in (*arrays(given), *changed)]  # f may fill the same array again

    def parts(self):
        """Split the call into one per use of the function that came back: () -> list of Calls"""
        if not self.uses:
            return [copy.copy(self)]
        parts = [copy.copy(self) for _ in self.uses]
        for part, use in zip(parts, self.uses, strict=True):
            part.uses = [use]
        return parts

    def shaken(self):
        """Copy the call with every array of decimals shifted a little: () -> Call

        What agrees with the original only by chance, on one call, does not agree here.
        """
        other = copy.copy(self)
        other.args, other.options, other.uses = _shake([self.args, self.options, self.uses])
        return other

    def is_random(self):
        """Say whether an argument brings random numbers: () -> bool"""
        given = [*self.args, *self.options.values()]
        return any(isinstance(a, np.random.Generator) or hasattr(a, "rng") for a in given)

    def reseeded(self):
        """Copy the call with other random numbers: () -> Call"""
        other, rng = copy.copy(self), np.random.default_rng(31337)
        other.args, other.options = copy.deepcopy((self.args, self.options))
        fresh = lambda a: rng if isinstance(a, np.random.Generator) else a
        other.args = tuple(map(fresh, other.args))
        other.options = {name: fresh(a) for name, a in other.options.items()}
        return other

    def key(self):
        """Identify the call by its values and words, when it is made again: () -> 12 hex digits"""
        given = (*self.args, *self.options.items())
        words = [a for a in given if isinstance(a, str)]
        values = []
        for a in arrays([self.args, self.options, self.uses]):
            first = [f"{v:.5g}" for v in a.ravel()[:64].tolist()]
            values.append(f"{a.shape}{a.dtype}{first}")
        text = repr((values, words, sorted(self.options)))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _shake(item):
    """Shift arrays of decimals in lists, tuples, dicts and Tensors; leave all else as it is."""
    if isinstance(item, Tensor):
        return Tensor(_shake(item.value))
    if isinstance(item, list | tuple) and type(item) in (list, tuple):
        return type(item)(map(_shake, item))
    if isinstance(item, dict):
        return {key: _shake(part) for key, part in item.items()}
    if isinstance(item, np.ndarray) and item.dtype.kind == "f":
        wave = np.cos(1 + np.arange(item.size)).reshape(item.shape)
        return (item * (1 + 0.01 * wave)).astype(item.dtype)
    return item


def arrays(item):
    """Walk through arguments or results, down to their arrays: yields arrays."""
    if isinstance(item, Tensor):
        item = item.value
    if isinstance(item, list | tuple):
        for part in item:
            yield from arrays(part)
    elif isinstance(item, dict):
        yield from arrays(list(item.values()))
    elif hasattr(item, "theta") or hasattr(item, "__dataclass_fields__"):
        growing = "losses"  # of a Training: a list that gets longer as it goes on
        yield from arrays([part for name, part in vars(item).items() if name != growing])
    elif isinstance(item, np.ndarray | np.generic | float | int):
        yield np.asarray(item)


def same(these, those):
    """Say whether two lists of arrays are equal up to rounding."""
    return len(these) == len(those) and all(
        a.shape == b.shape
        and a.dtype == b.dtype
        and np.allclose(a, b, rtol=1e-5, atol=1e-7, equal_nan=True)
        for a, b in zip(these, those, strict=True)
    )


def launched(f):
    """Say whether f is a GPU kernel, launched as f[blocks, threads](...)."""
    return hasattr(f, "py_func") and hasattr(type(f), "__getitem__")


class _StandIn:
    """What stands in for a kernel, launched as a kernel is."""

    def __init__(self, called):
        self.called = called

    def __getitem__(self, size):
        return lambda *args: self.called(size, *args)


def _watched(f, size, *args):
    """Launch a kernel in the simulator; args include what it fills -> array of its access counts"""
    from ..kernels import cuda_simulator

    with cuda_simulator.watch() as seen:
        f[size](*args)
    counts = [
        count
        for name in seen.shapes
        for write in (False, True)
        for count in (seen.count(name, write), seen.sectors(name, write))
    ]
    return np.array([*counts, len(seen.problems())])


def renamed(names, ours, theirs):
    """Find what some arguments of our function are called in theirs, by their places: set of str"""
    here, there = (
        list(inspect.signature(getattr(f, "py_func", f)).parameters) for f in (ours, theirs)
    )
    return {there[min(here.index(name), len(there) - 1)] for name in names if there}


def stand_in(f, changes, calls):
    """Wrap f so that its calls are noted, and an argument that it changed is an AssertionError.

    changes: names of arguments that it is meant to change; calls: deque to which Calls are added
    -> function
    """
    if launched(f):
        size = inspect.Parameter("size", inspect.Parameter.POSITIONAL_ONLY)
        parameters = [size, *inspect.signature(f.py_func).parameters.values()]
        flat = lambda size, *args: f[size](*args)
        flat.__signature__ = inspect.Signature(parameters)
        return _StandIn(stand_in(flat, changes, calls))
    names = list(inspect.signature(f).parameters)

    @wraps(f)
    def called(*args, **options):
        calls.append(Call(args, options))
        noted = calls[-1]
        own = [names[min(k, len(names) - 1)] for k in range(len(args))]  # *xs takes all the rest
        items = [*zip(own, args, strict=True), *options.items()]
        kept = [(name, a, a.copy()) for name, item in items for a in arrays(item)]
        given = f(*args, **options)
        for name, now, before in kept:
            is_float = now.dtype.kind == "f"
            if name not in changes and not np.array_equal(now, before, equal_nan=is_float):
                why = f"it changes its input {name} in place: the caller still needs it"
                raise AssertionError(why)
        if isinstance(given, np.ndarray) and type(given) is not np.ndarray:
            raise AssertionError(f"it gives back a {type(given).__name__}, not a plain array")
        if callable(given) and not hasattr(f, "forward"):
            given = _noted(given, noted.uses)
        return given

    return called


def _noted(g, uses):
    """Wrap a function that came back, so that the arguments of its first calls are kept."""

    @wraps(g)
    def used(*args):
        if len(uses) < REMEMBERED:
            uses.append(copy.deepcopy(args))
        return g(*args)

    return used


@dataclass(frozen=True)
class Raised:
    """An error as the outcome of a call. in_words: it is an assertion, or the package raises it"""

    kind: str
    text: str
    in_words: bool = field(default=False, compare=False)

    def __str__(self):
        return f"{self.kind}: {self.text}".splitlines()[0]

    @classmethod
    def of(cls, error):
        """Reduce an error to what is compared: an error -> Raised"""
        try:
            text = str(error)
        except Exception:  # a student's own error may have any __str__
            text = ""
        by_us = isinstance(error, AssertionError) or _is_raised_by_us(error)
        return cls(type(error).__name__, text, by_us)


def _is_raised_by_us(error):
    """Say whether an error comes from a `raise` in the package, in words of its own: -> bool"""
    places = list(walk_tb(error.__traceback__))
    if not places:
        return False
    frame, number = places[-1]
    file = frame.f_code.co_filename
    line = linecache.getline(file, number).strip()
    return line.startswith("raise ") and Path(file).is_relative_to(ROOT / "tinydiff")


def alike(a, b):
    """Compare two outcomes: arrays up to rounding, errors by kind and message -> bool"""
    if isinstance(a, Raised) or isinstance(b, Raised):
        return a == b
    return same(a, b)


def attempt(call, f):
    """Make a call with f -> its outcome: list of arrays, or Raised"""
    try:
        return call.outcome(f)
    except BaseException as error:
        if ends_all(error):
            raise
        return Raised.of(error)


def ends_all(error):
    """Say whether an error ends the whole command, see app/interrupt.py, and not just a call.

    A KeyboardInterrupt itself may be f's own, or the way out of an endless loop. -> bool
    """
    return isinstance(error, KeyboardInterrupt) and type(error) is not KeyboardInterrupt


def tidy(values):
    """Print as 0 what is 0 up to rounding: array or number -> the same, -2e-18 now 0"""
    values = np.asarray(values)
    if values.dtype.kind != "f":
        return values
    rounding = 1e-12 if values.dtype.itemsize == 8 else 1e-9
    return np.where(abs(values) < rounding, values.dtype.type(0), values)


def brief(item):
    """Describe an argument or a result in a few words: -> str"""
    item = value_of(item)
    if isinstance(item, np.ndarray | np.generic):
        if item.size > 6:
            return f"array {item.shape} {item.dtype}"
        text = np.array2string(np.asarray(tidy(item)), precision=6, separator=", ")
        return " ".join([*text.split(), str(item.dtype)])
    plain = isinstance(item, int | float | str | list | tuple | None)
    return repr(item) if plain and len(repr(item)) < 40 else type(item).__name__
