"""What a student's function was asked and what came out: calls noted while the tests run, made again, compared."""

import copy
import hashlib
import inspect
import itertools
import warnings
from functools import wraps

import numpy as np

from ..autodiff import Tensor, value_of

REMEMBERED = 20  # uses kept of a function that came back
ENOUGH = 12  # items of a sampler's or a training's yield that are compared


class Call:
    """Arguments of a call, kept so that it can be made again; uses: arguments with which a function that came back was called."""

    def __init__(self, args, options):
        self.args, self.options, self.uses = *copy.deepcopy((args, options)), []

    def outcome(self, f):
        """Make the call again, on copies -> flat list of all numbers that f gives, and of arguments that it changed, as arrays (...)"""
        args, options = copy.deepcopy((self.args, self.options))
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            if launched(f):
                given = _watched(f, *args)
            elif hasattr(f, "forward"):  # an operation: its derivative counts too
                value, vjp = f.forward(*map(value_of, args), **options)
                given = (
                    value,
                    vjp(
                        np.cos(np.arange(np.size(value), dtype=np.asarray(value).dtype)).reshape(
                            np.shape(value)
                        )
                    ),
                )
            else:
                given = f(*args, **options)
            if inspect.isgenerator(given):
                given = list(itertools.islice(given, ENOUGH))
            if inspect.isfunction(given):
                given = [given(*copy.deepcopy(use)) for use in self.uses]
        kept, now = list(numbers(self.args)), list(numbers(args))
        changed = [a for a, b in zip(now, kept, strict=True) if not same([a], [b])]
        return [*changed, given] if launched(f) else [*numbers(given), *changed]

    def parts(self):
        """Take the call apart where a function came back: one for each of its uses -> list of Calls"""
        parts = [copy.copy(self) for _ in self.uses or [None]]
        for k, part in enumerate(parts if self.uses else ()):
            part.uses = [self.uses[k]]
        return parts

    def key(self):
        """Recognise the call when it is made again, by its numbers and words: () -> 12 hex digits"""
        values = [
            f"{a.shape}{[f'{v:.5g}' for v in a.ravel()[:64].tolist()]}"
            for a in numbers([self.args, self.options, self.uses])
        ]
        words = [a for a in (*self.args, *self.options.items()) if isinstance(a, str)]
        return hashlib.sha256(repr((values, words, sorted(self.options))).encode()).hexdigest()[:12]


def numbers(item):
    """Walk through what a function gave, down to its arrays."""
    if isinstance(item, Tensor):
        item = item.value
    if isinstance(item, list | tuple):
        for part in item:
            yield from numbers(part)
    elif isinstance(item, dict):
        yield from numbers(list(item.values()))
    elif hasattr(item, "theta") or hasattr(item, "__dataclass_fields__"):
        yield from numbers(
            [part for name, part in vars(item).items() if name != "losses"]
        )  # a list that grows, of what loss was
    elif isinstance(item, np.ndarray | np.generic | float | int):
        yield np.asarray(item)


def same(these, those):
    """Say whether two lists of arrays are equal, but for rounding."""
    return len(these) == len(those) and all(
        a.shape == b.shape
        and a.dtype == b.dtype
        and np.allclose(a, b, rtol=1e-5, atol=1e-7, equal_nan=True)
        for a, b in zip(these, those, strict=True)
    )


def launched(f):
    """Say whether f is a kernel of the graphics card, f[blocks, threads](...)."""
    return hasattr(f, "py_func") and hasattr(type(f), "__getitem__")


class _StandIn:
    """A kernel's stand-in, launched as a kernel is."""

    def __init__(self, called):
        self.called = called

    def __getitem__(self, size):
        return lambda *args: self.called(size, *args)


def _watched(f, size, *args):
    """Launch a kernel in the simulator, args holding what it fills -> numbers that tell how it went about it"""
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


def stand_in(f, changes, calls):
    """Wrap f so that its calls are noted in the deque `calls`, and AssertionError tells of an argument that it changed.

    changes: names of arguments that it is meant to change -> function
    """
    if launched(f):
        parameters = [
            inspect.Parameter("size", inspect.Parameter.POSITIONAL_ONLY),
            *inspect.signature(f.py_func).parameters.values(),
        ]
        flat = lambda size, *args: f[size](*args)
        flat.__signature__ = inspect.Signature(parameters)
        return _StandIn(stand_in(flat, changes, calls))
    names = list(inspect.signature(f).parameters)

    @wraps(f)
    def called(*args, **options):
        calls.append(Call(args, options))
        noted = calls[-1]
        kept = [(k, a, a.copy()) for k, item in enumerate(args) for a in numbers(item)]
        given = f(*args, **options)
        for k, now, before in kept:
            name = names[min(k, len(names) - 1)]  # *xs takes all the rest
            if name not in changes and not np.array_equal(
                now, before, equal_nan=now.dtype.kind == "f"
            ):
                raise AssertionError(
                    f"it changes its input {name} in place: the caller still needs it"
                )
        if inspect.isfunction(given) and not hasattr(f, "forward"):
            given = _noted(given, noted.uses)
        return given

    return called


def _noted(g, uses):
    @wraps(g)
    def used(*args):
        if len(uses) < REMEMBERED:
            uses.append(copy.deepcopy(args))
        return g(*args)

    return used


def alike(a, b):
    """Say whether two outcomes are equal: lists of arrays but for rounding, errors by kind and message."""
    return type(a) is type(b) and (str(a) == str(b) if isinstance(a, BaseException) else same(a, b))


def attempt(call, f):
    """Make a call with f -> its outcome, or the error that it raised"""
    try:
        return call.outcome(f)
    except BaseException as error:
        return error


def brief(item):
    """Describe an argument or a result in a few words."""
    item = value_of(item)
    if isinstance(item, np.ndarray | np.generic) and item.size > 6:
        return f"array {item.shape} {item.dtype}"
    if isinstance(item, np.ndarray | np.generic):
        return (
            " ".join(np.array2string(np.asarray(item), precision=6, separator=", ").split())
            + f" {item.dtype}"
        )
    return (
        repr(item)
        if isinstance(item, int | float | str | list | tuple | None) and len(repr(item)) < 40
        else type(item).__name__
    )
