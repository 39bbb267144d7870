"""The difference quotient: small for right derivatives, as large as the mistake for wrong ones.

Whatever the order of the draws.
"""

import numpy as np
import pytest

from tinydiff import autodiff, gradcheck, ops

exercise = pytest.mark.exercise("gradcheck.directional_error")


def assert_error(error, low, high, why):
    assert np.shape(error) == (), f"expected one number, got shape {np.shape(error)}"
    assert low <= error <= high, (
        f"the error came out as {error:.3g}, expected {low:.3g} to {high:.3g}: {why}"
    )


def scaled_square(factor):
    return autodiff.op(lambda x: (x * x, lambda g: (2 * factor * g * x,)))


# --- directional_error ---

cube = autodiff.op(lambda x: (x * x * x, lambda g: (3 * g * x * x,)))


@exercise
def test_right_derivatives_have_a_tiny_error(rng):
    args = [rng.standard_normal((3, 4)), rng.standard_normal(4)]
    error = gradcheck.directional_error(lambda a, b: cube(a) * b, args, rng)
    assert_error(error, -1e-7, 1e-7, "the derivative is right; of f(a, b) = a^3 b")


@exercise
def test_the_difference_is_central(rng):
    """phi is a cubic: the central quotient misses h^2 phi'''/6, the forward quotient h phi''/2."""
    x = np.full(5, 100.0)
    error = gradcheck.directional_error(cube, [x], rng, h=1e-2)
    why = "f(x) = x^3 near 100, h = 0.01: this is a central difference's error, divided by "
    assert_error(error, -1e-5, 1e-5, f"{why}max(|exact|, |numeric|, 1)")
    error = gradcheck.directional_error(cube, [x], rng, h=5.0)
    why = "f(x) = x^3 near 100 with h = 5: the error of such a long step must show; is h used?"
    assert_error(error, 1e-6, 10, why)


@exercise
def test_directional_error_measures_how_wrong(rng):
    """Derivatives far above 1: the error is relative, the same along every direction."""
    for factor in (1.01, 0.98, 0.5, 2.0, 0.0, -1.0):
        error = gradcheck.directional_error(scaled_square(factor), [1e4 + rng.random(50)], rng)
        expected = abs(factor - 1) / max(abs(factor), 1)
        why = f"every derivative was {factor} times what it should be"
        assert_error(error, 0.99 * expected, 1.01 * expected, why)


@exercise
def test_exchanged_entries_are_seen(rng):
    slope = np.arange(100.0)
    turned = autodiff.op(lambda x: (x * slope, lambda g: ((g * slope)[::-1],)))
    error = gradcheck.directional_error(turned, [rng.standard_normal(100)], rng)
    why = "a gradient with its entries in the wrong order was not noticed: "
    assert_error(error, 1e-2, np.inf, f"{why}has d a random number for each entry?")


@exercise
def test_errors_that_cancel_in_the_sum_are_seen(rng):
    """x - mean(x) always adds up to 0: only random weights notice that its gradient is missing."""
    for axis in (0, 1):
        centre = lambda x: (x - x.mean(axis, keepdims=True), lambda g: (g * 0,))
        x = rng.standard_normal((10, 20))
        error = gradcheck.directional_error(autodiff.op(centre), [x], rng)
        why = f"a missing derivative was not noticed, along axis {axis} the outputs add up to 0: "
        assert_error(error, 1e-3, np.inf, f"{why}has u a random number for each output?")


@exercise
def test_the_result_may_have_another_shape_than_the_argument(rng):
    for f in (lambda a: ops.reshape(cube(a), shape=(6, 2)), lambda a: ops.sum(cube(a))):
        error = gradcheck.directional_error(f, [rng.standard_normal((3, 4))], rng)
        why = "the derivative is right; f(a) = a^3 as an array (6, 2), or added up"
        assert_error(error, -1e-7, 1e-7, why)


# 1e-3 (a - b), with both gradients missing: the error is 1e-3 |sum of u (d_a - d_b)|
missing = autodiff.op(lambda a, b: (1e-3 * (a - b), lambda g: (0 * g, 0 * g)))


@exercise
def test_directions_and_weights_are_standard_normal(rng):
    """One number in, one out: the error is 1e-3 |u| |d|, and the mean of |u| |d| is 2 / pi."""
    zero = np.zeros(1)
    f = lambda a: missing(a, zero)
    mean = np.mean([gradcheck.directional_error(f, [zero], rng) for _ in range(800)])
    why = "the error of f(a) = a / 1000 with its derivative missing, averaged over 800 calls: "
    assert_error(mean, 0.53e-3, 0.74e-3, f"{why}are d and u standard normal, each by itself?")


@exercise
def test_each_argument_has_a_direction_of_its_own(rng):
    error = gradcheck.directional_error(missing, [np.zeros(9), np.zeros(9)], rng)
    why = "f(a, b) = (a - b) / 1000, its derivatives missing: with the same d for a and b that is "
    assert_error(error, 1e-9, np.inf, f"{why}not noticed")


@exercise
def test_the_numbers_come_from_rng():
    one, again, other = (
        gradcheck.directional_error(missing, [np.zeros(9), np.zeros(9)], np.random.default_rng(k))
        for k in (1, 1, 2)
    )
    assert one == again != other, (
        f"the same rng, twice, and another one: {one:.6g}, {again:.6g} and {other:.6g}; all random "
        "numbers come from rng"
    )


@exercise
def test_every_argument_counts(rng):
    a, b = 1e3 + rng.random((4, 5)), 1e3 + rng.random(5)
    for wrong in (0, 1):
        lost = lambda g: (g * b * (wrong != 0), g * a * (wrong != 1))
        f = autodiff.op(lambda a, b: (a * b, lost))
        error = gradcheck.directional_error(f, [a, b], rng)
        why = f"the gradient of argument {wrong} was 0 and this was not noticed"
        assert_error(error, 1e-2, np.inf, why)


@exercise
def test_the_error_of_small_derivatives_is_absolute(rng):
    f = autodiff.op(lambda x: (1e-6 * x, lambda g: (0 * g,)))
    error = gradcheck.directional_error(f, [rng.standard_normal(20)], rng)
    why = "derivatives near 1e-6, all missing: |exact - numeric| is divided by 1 at least"
    assert_error(error, 1e-9, 1e-4, why)


@exercise
def test_float32_arguments_are_checked_in_float64(rng):
    x, seen = rng.standard_normal(7).astype(np.float32), set()
    f = lambda a: (seen.add(a.dtype.name), cube(a))[1]
    error = gradcheck.directional_error(f, [x], rng)
    why = "the argument was float32: convert it, a difference quotient needs float64"
    assert_error(error, -1e-7, 1e-7, why)
    assert seen == {"float64"}, f"f was called with {' and '.join(sorted(seen))}; {why}"


# --- gradcheck ---


def test_gradcheck_passes_the_right_derivative(rng):
    assert gradcheck.gradcheck(scaled_square(1), [rng.standard_normal((3, 4))], rng) < 1e-8


@pytest.mark.parametrize("factor", [1.001, 0.999, 0, -1])
def test_gradcheck_catches_a_wrong_derivative(factor, rng):
    with pytest.raises(AssertionError, match="off by"):
        gradcheck.gradcheck(scaled_square(factor), [rng.standard_normal((3, 4))], rng)


def test_gradcheck_catches_one_wrong_entry(rng):
    wrong = np.ones((3, 4))
    wrong[1, 2] = 1.01
    with pytest.raises(AssertionError):
        gradcheck.gradcheck(scaled_square(wrong), [rng.standard_normal((3, 4))], rng)


def test_gradcheck_catches_a_wrong_argument_and_not_a_number(rng):
    a = rng.standard_normal(4)
    swapped = autodiff.op(lambda a, b: (a * b, lambda g: (g * a, g * b)))
    nan = autodiff.op(lambda x: (x * 1, lambda g: (g * np.nan,)))
    for f, args in ((swapped, [a, a + 1]), (nan, [a])):
        with pytest.raises(AssertionError):
            gradcheck.gradcheck(f, args, rng)


def test_gradcheck_accepts_lists_and_float32_and_leaves_them_alone(rng):
    x = np.arange(4, dtype=np.float32)
    gradcheck.gradcheck(lambda a, b: a * b, [x, [1, 2, 3, 4]], rng)
    np.testing.assert_array_equal(x, [0, 1, 2, 3])
