"""The ladder of lesson 14: the definition's results, few stores, few multiplications, float32."""

import inspect

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
        ((1, 1, 1, 1, 1, 1), 2, 12),
        ((2, 3, 5, 7, 11, 3), 41580, 4 * (210 + 693 + 330)),
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


class Counted(np.ndarray):
    """An array that counts how often each of its elements is written."""

    def __setitem__(self, index, value):
        super().__setitem__(index, value)
        self.writes[index] += 1


@pytest.mark.exercise("kernels.ladder.conv_blocked", changes=("y",))
def test_blocked_stores_each_sum_once(rng):
    """Run the loop of the compiled function as plain Python, and count.

    What a compiled helper stores is not seen.
    """
    x, w, y = images(rng, 1, 2, P, 2, V, 3)
    y = y.view(Counted)
    y.writes = np.zeros(y.shape, int)
    inspect.unwrap(cpu_ladder.conv_blocked)(x, w, y)
    most = y.writes.max()
    advice = "sum up in the block, and store it once, when all i, j, c are done"
    assert most <= 1, f"an element of y is written {most} times: {advice}"


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
    for L in (2, 4, 10):
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
