"""The walk backwards: right sums, each node once, no recursion, nothing recorded for constants, graphs that die at once."""

import gc
import weakref

import numpy as np
import pytest

from tinydiff import autodiff, gradcheck, ops
from tinydiff.autodiff import Tensor


@autodiff.op
def square(x):
    return x * x, lambda g: (2 * g * x,)


def grads(loss, *params):
    return autodiff.gradient(loss, list(params))


# --- gradient ---


def test_gradient_by_hand():
    x, y = Tensor(np.array([1.0, 2.0, 3.0])), Tensor(np.array([4.0, 5.0, -6.0]))
    gx, gy = grads(ops.sum(x * y + x / y - square(x)), x, y)
    np.testing.assert_allclose(gx, y.value + 1 / y.value - 2 * x.value, rtol=1e-15)
    np.testing.assert_allclose(gy, x.value - x.value / y.value**2, rtol=1e-15)


def test_gradient_of_the_loss_itself_is_one():
    loss = ops.sum(Tensor(np.ones(3)))
    assert grads(loss, loss) == [1.0]


def test_a_parameter_in_the_middle_of_the_graph():
    x = Tensor(np.array(3.0))
    middle = square(x)
    g_middle, gx = grads(square(middle), middle, x)
    assert (g_middle, gx) == (2 * 9, 4 * 27)


class Watched(tuple):
    """Parents that count how often they are walked through."""

    looks = 0

    def __iter__(self):
        Watched.looks += 1
        return super().__iter__()


def test_a_diamond_sums_and_visits_each_node_once():
    visits = []

    @autodiff.op
    def triple(x):
        return 3 * x, lambda g: (visits.append(1), 3 * g)[1:]

    x = Tensor(np.array(2.0))
    y = triple(x)
    for _ in range(14):  # 2^14 paths lead from the loss to x
        y = y + y
        y.node.parents = Watched(y.node.parents)
    Watched.looks = 0
    (gx,) = grads(y, x)
    assert gx == 3 * 2**14
    assert len(visits) == 1
    assert Watched.looks <= 3 * 14


def test_gradients_wait_until_all_children_have_spoken():
    x = Tensor(np.array(2.0))
    y = square(x)
    loss = y + square(y) + x * square(square(y))  # y^2 = x^4, x y^4 = x^9
    np.testing.assert_allclose(grads(loss, x), [2 * 2 + 4 * 2**3 + 9 * 2**8])


def test_one_tensor_twice_in_one_operation():
    x = Tensor(np.array([1.0, -2.0]))
    np.testing.assert_array_equal(grads(ops.sum(x * x), x)[0], 2 * x.value)
    np.testing.assert_array_equal(grads(ops.sum(ops.concat(x, x)), x)[0], [2, 2])


def test_a_chain_of_100_000_operations():
    x = Tensor(np.array(1.0))
    y = x
    for _ in range(100_000):
        y = y + 1.0
    assert y.value == 100_001
    assert grads(y, x) == [1.0]
    del y  # freeing it must not recurse either


def test_twice_gives_the_same():
    x = Tensor(np.array([1.0, 2.0]))
    loss = ops.sum(square(x) * x)
    first, second = grads(loss, x), grads(loss, x)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first[0], 3 * x.value**2)


def test_parameters_that_do_not_matter_get_zeros():
    x, other = Tensor(np.ones(3)), Tensor(np.full((2, 3), 5.0, np.float32))
    _, g = grads(ops.sum(x), x, other)
    np.testing.assert_array_equal(g, np.zeros((2, 3)))
    assert g.dtype == np.float32


def test_a_freed_graph_gives_the_same_once_and_then_says_so():
    x = Tensor(np.array([0.3, -2.0]))
    loss = ops.sum(ops.silu(x * x) + x)
    kept, freed = (autodiff.gradient(loss, [x], free=free)[0] for free in (False, True))
    np.testing.assert_array_equal(freed, kept)
    with pytest.raises(RuntimeError, match="free=True"):
        autodiff.gradient(loss, [x])


def test_a_freed_graph_holds_no_values():
    x = Tensor(np.ones(3))
    y = ops.silu(x * 2.0)
    seen, loss = weakref.ref(y), ops.sum(ops.silu(y))
    held = weakref.ref(y.value)
    del y
    assert seen() is None and held() is not None  # the last vjp holds the value until it is freed
    autodiff.gradient(loss, [x], free=True)
    assert held() is None


def test_the_same_parameter_asked_for_twice():
    x = Tensor(np.array(3.0))
    assert grads(square(x), x, x) == [6.0, 6.0]


def test_precision_is_kept():
    x = Tensor(np.ones((2, 3), np.float32))
    assert grads(ops.mse(x, np.zeros((2, 3), np.float32)), x)[0].dtype == np.float32


def test_a_loss_that_is_not_a_tensor_raises():
    with pytest.raises(TypeError, match="plain array") as e:
        grads(np.array(1.0), Tensor(np.array(1.0)))
    assert "\n" not in str(e.value)


def test_a_loss_with_several_elements_raises():
    x = Tensor(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"\(2, 3\)") as e:
        grads(square(x), x)
    assert "\n" not in str(e.value)


# --- Tensors and constants ---


def test_arrays_in_arrays_out():
    calls = [ops.add(np.ones(2), 1.0), ops.sum(np.ones(2)), square(np.ones(2)), ops.concat(np.ones(2), np.ones(3))]
    assert not any(isinstance(y, Tensor) for y in calls)


def test_constants_are_not_recorded():
    x = Tensor(np.ones(2))
    y = x + square(np.ones(2))
    assert y.node.parents == (x.node, None)


def test_a_tensor_answers_like_its_array():
    x = Tensor(np.ones((2, 3), np.float32))
    assert (x.shape, x.ndim, x.dtype) == ((2, 3), 2, np.float32)
    assert autodiff.value_of(x) is x.value
    assert autodiff.value_of(x.value) is x.value


OPERATORS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "@": lambda a, b: a @ b,
}


@pytest.mark.parametrize("sign", OPERATORS)
def test_operators_with_tensors_on_either_side(sign, rng):
    f, a, b = OPERATORS[sign], rng.standard_normal((3, 3)), 2 + rng.random((3, 3))
    for left, right in [(Tensor(a), Tensor(b)), (Tensor(a), b), (a, Tensor(b))]:
        y = f(left, right)
        assert isinstance(y, Tensor)
        np.testing.assert_allclose(y.value, f(a, b), rtol=1e-14)
    gradcheck.gradcheck(f, [a, b], rng)
    gradcheck.gradcheck(lambda b: f(a, b), [b], rng)


def test_minus_and_numbers():
    x = Tensor(np.array([2.0, 4.0]))
    loss = ops.sum(1 - (-x) * 3 + 8 / x + np.float64(2) * x)
    np.testing.assert_array_equal(grads(loss, x)[0], 3 - 8 / x.value**2 + 2)


# --- broadcasting ---

PATTERNS = [((), ()), ((), (3,)), ((1,), (3,)), ((3,), (2, 3)), ((1, 3), (2, 3)), ((2, 1), (2, 3)), ((1, 1), (2, 3))]
PATTERNS += [((), (2, 3, 4)), ((4,), (2, 3, 4)), ((3, 1), (2, 3, 4)), ((2, 1, 4), (2, 3, 4)), ((1, 3, 1), (2, 3, 4)), ((1, 1), (1, 1))]


@pytest.mark.parametrize("small, large", PATTERNS)
def test_unbroadcast_is_the_adjoint_of_broadcasting(small, large, rng):
    x, g = rng.standard_normal(small), rng.standard_normal(large)
    back = autodiff.unbroadcast(g, small)
    assert back.shape == small
    np.testing.assert_allclose(np.sum(np.broadcast_to(x, large) * g), np.sum(x * back), rtol=1e-12)


@pytest.mark.parametrize("small, large", PATTERNS)
def test_operations_undo_broadcasting(small, large, rng):
    a, b = Tensor(rng.standard_normal(small)), Tensor(rng.standard_normal(large))
    for ga, gb in (grads(ops.sum(a * b), a, b), reversed(grads(ops.sum(b * a), b, a))):
        np.testing.assert_allclose(ga, autodiff.unbroadcast(b.value, small), rtol=1e-12)
        np.testing.assert_array_equal(gb, np.broadcast_to(a.value, large))


def test_both_sides_broadcast(rng):
    gradcheck.gradcheck(lambda a, b: a * b, [rng.standard_normal((3, 1)), rng.standard_normal((2, 1, 4))], rng)


# --- memory ---


def build_graph(x):
    y = ops.softmax(ops.silu(ops.conv2d(x, Tensor(np.ones((3, 3, 8, 8))))))
    y = ops.norm_silu(y, Tensor(np.ones(8)), Tensor(np.zeros(8)))
    y = ops.concat(ops.up(ops.down(y)), y)
    return y, ops.mse(ops.matmul(y, Tensor(np.ones((16, 3)))), 0.0)


def test_a_dropped_graph_is_freed_without_the_garbage_collector(kernel_set, rng):
    x = Tensor(rng.standard_normal((1, 4, 4, 8)))
    autodiff.gradient(build_graph(x)[1], [x])  # compiles: while it does, Numba keeps hold of what is on the stack
    gc.collect()
    gc.disable()
    try:
        y, loss = build_graph(x)
        watched = [weakref.ref(t) for t in (y, loss, *y.node.parents)]
        autodiff.gradient(loss, [x])
        del y, loss
        assert [w() for w in watched] == [None] * 4
    finally:
        gc.enable()


def test_a_value_that_no_derivative_needs_is_freed_while_the_graph_lives():
    x = Tensor(np.ones(3))
    middle = x + 1.0
    watched = weakref.ref(middle)
    loss = ops.sum(middle + x)
    del middle
    assert watched() is None
    np.testing.assert_array_equal(grads(loss, x)[0], [2, 2, 2])


# --- gradcheck ---


def scaled_square(factor):
    return autodiff.op(lambda x: (x * x, lambda g: (2 * factor * g * x,)))


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


def test_directional_error_measures_how_wrong(rng):
    """A gradient 1 % too large is 1 % off, as long as the derivative is above 1."""
    args = [10 + rng.random(50)]
    error = gradcheck.directional_error(scaled_square(1.01), args, rng)
    assert 0.009 < error < 0.011


def test_gradcheck_accepts_lists_and_float32_and_leaves_them_alone(rng):
    x = np.arange(4, dtype=np.float32)
    gradcheck.gradcheck(lambda a, b: a * b, [x, [1, 2, 3, 4]], rng)
    np.testing.assert_array_equal(x, [0, 1, 2, 3])
