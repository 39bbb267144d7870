"""The ladder of lesson 14: the definition's results, few stores, few multiplications, float32."""

import inspect
import sys
from types import FunctionType, SimpleNamespace

import numba
import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

from tinydiff.kernels import cpu_ladder, reference

P, V = cpu_ladder.P, cpu_ladder.V


@pytest.fixture
def bounds_checked(monkeypatch):
    """Compile what is graded with checks of its indices: a wrong one would end the process.

    And with few optimisations, since compiling takes longest.
    """
    monkeypatch.setattr(numba.config, "BOUNDSCHECK", 1)
    monkeypatch.setattr(numba.config, "OPT", type(numba.config.OPT)(1))


def compiled(f):
    """Find the compiled function behind what stands in its place."""
    while not isinstance(f, Dispatcher) and hasattr(f, "__wrapped__"):
        f = f.__wrapped__
    missing = "it is not compiled: the line @compiled above its def is missing"
    assert isinstance(f, Dispatcher), missing
    return f


def check_stays_float32(f, args):
    """Look for conversions from float32 to float64 in the code that LLVM got."""
    f(*args)
    dispatcher = compiled(f)
    for types in dispatcher.signatures:
        steps = dispatcher.inspect_llvm(types).count("fpext float")
        assert not steps, (
            f"the compiled code converts float32 to float64 in {steps} place(s): half as fast.\n"
            "A constant must be float32 too (HALF), an array made inside needs a dtype (x.dtype)."
        )


# --- the cost of a convolution ---


@pytest.mark.exercise("kernels.ladder.conv_cost")
@pytest.mark.parametrize(
    "layer, flop, moved",
    [
        ((2, 3, 5, 7, 11, 3), 41580, 4 * (210 + 693 + 330)),
        ((1, 1, 1, 1, 1, 1), 2, 12),
        ((64, 16, 16, 32, 32, 3), 301_989_888, 4 * (524_288 + 9_216 + 524_288)),
    ],
)
def test_cost_by_hand(layer, flop, moved):
    got = cpu_ladder.conv_cost(*layer)
    called = "conv_cost({}, {}, {}, {}, {}, {})".format(*layer)
    two_ints = isinstance(got, tuple) and [type(part) for part in got] == [int, int]
    assert two_ints, f"{called}: expected two ints, got {got!r}"
    assert got[0] == flop, f"{called}: expected {flop} FLOP, got {got[0]}"
    assert got[1] == moved, f"{called}: expected {moved} bytes, got {got[1]}"


# --- blocks ---


def definition(x, w):
    """Convolve a padded image, in float64."""
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(float), w.shape[:2], axis=(1, 2))
    return np.einsum("nhqcij,ijco->nhqo", windows, w.astype(float))


def images(rng, N, H, W, C, O, K):
    x = rng.standard_normal((N, H + K - 1, W + K - 1, C), dtype=np.float32)
    w = rng.standard_normal((K, K, C, O), dtype=np.float32)
    return x, w, np.full((N, H, W, O), np.nan, np.float32)


def assert_filled(got, y, expected, atol, message):
    """Assert that y came back, and that both are as expected."""
    shape = getattr(got, "shape", got)
    assert getattr(got, "shape", None) == y.shape, f"{message}: expected y, {y.shape}, got {shape}"
    for a, which in ((got, "what came back"), (y, "y, which is to be filled")):
        np.testing.assert_allclose(a, expected, rtol=0, atol=atol, err_msg=f"{message}: {which}")
    assert np.shares_memory(got, y), f"{message}: y itself is to come back, no copy of it"


SHAPES = [(2, 3, 2 * P, 3, 2 * V, 3), (1, 4, P, 1, V, 1), (1, 1, 3 * P, 2, V, 5)]


@pytest.mark.exercise("kernels.ladder.conv_blocked", changes=("y",))
def test_blocked_equals_the_definition(rng, bounds_checked):
    for shape in SHAPES:
        x, w, y = images(rng, *shape)
        expected, got = definition(x, w), cpu_ladder.conv_blocked(x, w, y)
        message = "N, H, W, C, O, K = {}, {}, {}, {}, {}, {}".format(*shape)
        assert_filled(got, y, expected, 1e-4, message)


@pytest.mark.exercise("kernels.ladder.conv_blocked", changes=("y",))
def test_blocked_stays_float32(rng, bounds_checked):
    check_stays_float32(cpu_ladder.conv_blocked, images(rng, *SHAPES[0]))


class Filled(np.ndarray):
    """An array that counts how often each element is written, and how many in a row.

    writes: of each element; runs: a list, elements written up to the next time that x is read
    """

    def __getitem__(self, index):
        part = super().__getitem__(index)
        if isinstance(part, Filled):
            part.writes, part.runs = self.writes[index], self.runs
        return part

    def __setitem__(self, index, value):
        super().__setitem__(index, value)
        self.writes[index] += 1
        self.runs[-1] += np.size(self.writes[index])


class Source(np.ndarray):
    """An array that ends a run of writes when it is read."""

    def __array_finalize__(self, whole):
        self.runs = getattr(whole, "runs", [0])

    def __array_wrap__(self, result, *context):
        return np.asarray(result)

    def __getitem__(self, index):
        if self.runs[-1]:
            self.runs.append(0)
        return super().__getitem__(index)


def dirty(shape, dtype=float):
    """Make an array as np.empty does where the memory was in use before."""
    return np.full(shape, np.nan, dtype)


def as_python(f, *args):
    """Run a compiled function as plain Python, fresh memory full of NaN -> how far prange counted

    No turn of a prange may change an array that was there before: turns may run at the same time.
    """
    counts, shared = [], {}

    def turns(*span):
        counts.append(len(range(*span)))
        there = sys._getframe(1).f_locals.items()  # of f
        others = [(name, a) for name, a in there if not any(a is given for given in args)]
        shared.update({name: a for name, a in others if type(a) is np.ndarray})
        for a in shared.values():
            a.flags.writeable = False
        yield from range(*span)

    fresh = {np: {"empty": dirty}, numba: {"prange": turns}}
    modules = {it: SimpleNamespace(**vars(it) | others) for it, others in fresh.items()}
    others = [*modules.items(), (np.empty, dirty), (numba.prange, turns)]
    plain = inspect.unwrap(f)
    exchanged = lambda value: next((new for old, new in others if value is old), value)
    scope = {name: exchanged(value) for name, value in plain.__globals__.items()}
    of_it = plain.__name__, plain.__defaults__, plain.__closure__
    try:
        FunctionType(plain.__code__, scope, *of_it)(*args)
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        own = "turns may run at the same time, so each needs a block of its own"
        raise AssertionError(f"a turn of the prange changes {' or '.join(shared)}: {own}") from None
    return counts


@pytest.mark.exercise("kernels.ladder.conv_blocked", changes=("y",))
def test_blocked_works_block_by_block(rng):
    """Run the loops of the compiled function as plain Python, in float64, and watch.

    What a compiled helper does is not seen.
    """
    N, H, W, C, O, K = 1, 2, 2 * P, 1, 2 * V, 2
    x, w, y = (a.astype(float) for a in images(rng, N, H, W, C, O, K))
    expected, x, y = definition(x, w), x.view(Source), y.view(Filled)
    y.writes, y.runs = np.zeros(y.shape, int), x.runs
    counts = as_python(cpu_ladder.conv_blocked, x, w, y)
    off = np.abs(np.asarray(y) - expected).max()
    said = f"x and w of float64, and memory that was in use before: y is off by {off:.2g}"
    assert off < 1e-12, f"{said}; the block has x's dtype and is set to 0"
    most = y.writes.max()
    advice = "sum up in the block, and store it once, when all i, j, c are done"
    assert most <= 1, f"an element of y is written {most} times: {advice}"
    runs = sorted({n for n in y.runs if n})
    said = f"between two looks at x the elements of y that are written number {runs}"
    assert len(y.runs) == 1 or runs == [P * V], f"{said}; a block has P V = {P * V}"
    said = f"{N * H} rows of y: prange counts to {counts}"
    assert counts == [N * H], f"{said}; a task is one row, N H in all"


def test_the_loops_equal_the_reference(rng):
    for shape in SHAPES[:2]:
        x, w, y = images(rng, *shape)
        got = numba.njit(cpu_ladder.conv_loops)(x, w, y)
        np.testing.assert_allclose(got, definition(x, w), rtol=0, atol=1e-4)
        inner = x[:, 1:-1, 1:-1] if w.shape[0] == 3 else x
        padded = reference.pad(inner, w.shape[0] // 2, "zeros")
        got, expected = cpu_ladder.conv_loops(padded, w, y), reference.conv2d(inner, w, "zeros")
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


# --- fewer multiplications ---


@pytest.mark.exercise("kernels.ladder.winograd_row", changes=("y",))
def test_a_row_equals_the_definition(rng, bounds_checked):
    for L in (2, 4, 10, 50):
        d, w = (rng.standard_normal(n, dtype=np.float32) for n in (L + 2, 3))
        y = np.full(L, np.nan, np.float32)
        got = cpu_ladder.winograd_row(d, w, y)
        expected = np.correlate(d.astype(float), w.astype(float))
        assert_filled(got, y, expected, 1e-5, f"L = {L}")


@pytest.mark.exercise("kernels.ladder.winograd_row", changes=("y",))
def test_a_row_stays_float32(rng, bounds_checked):
    args = [rng.standard_normal(n, dtype=np.float32) for n in (6, 3, 4)]
    check_stays_float32(cpu_ladder.winograd_row, args)


class Number:
    """A number that counts multiplications and divisions."""

    __array_ufunc__ = None  # NumPy's numbers leave the arithmetic to this class
    count = 0

    def __init__(self, value):
        self.value = float(value)

    def __add__(self, other):
        return Number(self.value + float(other))

    def __sub__(self, other):
        return Number(self.value - float(other))

    def __rsub__(self, other):
        return Number(float(other) - self.value)

    def __mul__(self, other):
        Number.count += 1
        return Number(self.value * float(other))

    def __truediv__(self, other):
        Number.count += 1
        return Number(self.value / float(other))

    def __neg__(self):
        return Number(-self.value)

    def __float__(self):
        return self.value

    __radd__, __rmul__ = __add__, __mul__


@pytest.mark.exercise("kernels.ladder.winograd_row", changes=("y",))
def test_a_row_takes_four_multiplications_per_pair(rng):
    """Run it as plain Python, on numbers that count."""
    d, w, y = (np.array([Number(a) for a in rng.standard_normal(n)], object) for n in (34, 3, 32))
    Number.count = 0
    inspect.unwrap(cpu_ladder.winograd_row)(d, w, y)
    allowed = 4 * 16 + 6  # and a few for the weights
    assert Number.count <= allowed, (
        f"16 pairs: expected 4 multiplications per pair, got {Number.count} in all. Products are "
        "made at 4 points only; the sums of the weights are halved once, before the loop."
    )
