"""The walk backwards: right sums, each node once, no recursion, graphs that are freed at once."""

import gc
import weakref

import numpy as np
import pytest
from conftest import compiled_when_slow

from tinydiff import autodiff, gradcheck, ops
from tinydiff.autodiff import Tensor


@autodiff.op
def square(x):
    return x * x, lambda g: (2 * g * x,)


def grads(loss, *params):
    return autodiff.gradient(loss, list(params))


def assert_grads(got, params, expected, why):
    """Compare what `gradient` gave with the expected gradients: list, shapes, precision, values."""
    assert isinstance(got, list) and len(got) == len(params), (
        f"expected a list of {len(params)} gradients, one for each of params; got {got!r}"
    )
    for g, p, right in zip(got, params, expected, strict=True):
        assert isinstance(g, np.ndarray | np.generic), (
            f"each gradient is an array; one is {g!r}: {why}"
        )
        assert g.shape == p.shape, f"a gradient has shape {g.shape}, its Tensor {p.shape}: {why}"
        assert g.dtype == p.dtype, f"a gradient is {g.dtype}, its Tensor {p.dtype}"
        assert np.allclose(g, right, rtol=1e-6 if p.dtype == np.float32 else 1e-12, atol=0), (
            f"got {g}, expected {right}: {why}"
        )


# --- gradient ---


exercise = pytest.mark.exercise("autodiff.gradient")


@exercise
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_gradient_by_hand(dtype):
    x, y = Tensor(np.array([1, 2, 3], dtype)), Tensor(np.array([4, 5, -6], dtype))
    gx, gy = [4 + 1 / 4 - 2, 5 + 1 / 5 - 4, -6 - 1 / 6 - 6], [1 - 1 / 16, 2 - 2 / 25, 3 - 3 / 36]
    loss = ops.sum(x * y + x / y - square(x))
    assert_grads(grads(loss, x, y), [x, y], [gx, gy], "loss = sum(x y + x / y - x^2)")


@exercise
def test_a_broadcast_parameter_has_its_own_shape():
    x, b = Tensor(np.arange(6.0).reshape(2, 3)), Tensor(np.array([10.0, 20.0, 40.0]))
    expected = [np.array([[10.0, 20, 40], [10, 20, 40]]), np.array([3.0, 5, 7])]
    why = "b (3,) was broadcast against x (2, 3)"
    assert_grads(grads(ops.sum(x * b), x, b), [x, b], expected, why)


@exercise
def test_what_was_broadcast_may_be_in_the_middle_of_the_graph():
    x = Tensor(np.array([1.0, 2.0]))
    total = ops.sum(x)
    loss = ops.sum(total * np.array([[1.0, 10.0], [100.0, 1000.0]]))
    why = "total = sum(x) was broadcast to (2, 2), then loss = sum(total * (1, 10, 100, 1000))"
    assert_grads(grads(loss, total, x), [total, x], [1111.0, [1111.0, 1111.0]], why)


@exercise
def test_gradients_are_not_added_in_place():
    """add hands the same array to both its inputs."""
    for turned in (False, True):
        x, y = Tensor(np.array([1.0, 2.0])), Tensor(np.array([3.0, 5.0]))
        two = [ops.sum(x + y), ops.sum(x * 5.0)]
        loss = two[turned] + two[1 - turned]
        why = "loss = sum(x + y) + sum(5 x); two parents may be given the same array"
        assert_grads(grads(loss, x, y), [x, y], [[6.0, 6], [1.0, 1]], why)


@exercise
def test_gradient_of_the_loss_itself_is_one():
    for shape in ((), (1,), (1, 1)):
        x = Tensor(np.full(shape, 5.0))
        loss = square(x)
        why = f"a loss with one element, of shape {shape}: dL/dL = 1"
        assert_grads(grads(loss, loss, x), [loss, x], [1.0, 10.0], why)


@exercise
def test_a_parameter_in_the_middle_of_the_graph():
    x = Tensor(np.array(3.0))
    middle = square(x)
    why = "loss = middle^2, middle = x^2, both asked for"
    assert_grads(grads(square(middle), middle, x), [middle, x], [2 * 9, 4 * 27], why)


@exercise
def test_each_vjp_is_called_once():
    visits = []

    @autodiff.op
    def triple(x):
        return 3 * x, lambda g: (visits.append(1), 3 * g)[1:]

    x = Tensor(np.array(2.0))
    y = triple(x)
    for _ in range(8):  # 2^8 paths lead from the loss to x
        y = y + y
    assert_grads(grads(y, x), [x], [3 * 2**8], "y = 3 x, then doubled 8 times as y + y")
    assert len(visits) == 1, (
        f"the vjp of the first operation was called {len(visits)} times: once is enough, with its "
        "complete gradient"
    )


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


@exercise
def test_gradients_wait_until_all_children_have_given_theirs():
    x = Tensor(np.array(2.0))
    y = square(x)
    loss = y + square(y) + x * square(square(y))  # y^2 = x^4, x y^4 = x^9
    why = "loss = y + y^2 + x y^4 with y = x^2: y's gradient is complete after all three terms"
    assert_grads(grads(loss, x), [x], [2 * 2 + 4 * 2**3 + 9 * 2**8], why)


@exercise
def test_one_tensor_twice_in_one_operation():
    x = Tensor(np.array([1.0, -2.0]))
    assert_grads(grads(ops.sum(x * x), x), [x], [[2.0, -4]], "loss = sum(x x): x is used twice")
    why = "loss = sum(x x / x): x is used three times"
    assert_grads(grads(ops.sum(x * x / x), x), [x], [[1.0, 1]], why)


def test_a_chain_of_100_000_operations():
    x = Tensor(np.array(1.0))
    y = x
    for _ in range(100_000):
        y = y + 1.0
    assert y.value == 100_001
    assert grads(y, x) == [1.0]
    del y  # freeing it must not recurse either


@exercise
def test_twice_gives_the_same():
    x = Tensor(np.array([1.0, 2.0]))
    loss = ops.sum(square(x) * x)
    for call in ("first", "second"):
        why = f"loss = sum(x^3), the {call} call on the same graph"
        assert_grads(grads(loss, x), [x], [[3.0, 12]], why)


@exercise
def test_parameters_that_do_not_matter_get_zeros():
    x, other = Tensor(np.ones(3)), Tensor(np.full((2, 3), 5.0, np.float32))
    expected, why = [np.ones(3), np.zeros((2, 3))], "the loss does not depend on the second Tensor"
    assert_grads(grads(ops.sum(x), x, other), [x, other], expected, why)


@pytest.mark.parametrize("far", [np.inf, -np.inf, np.nan])
def test_gradients_do_not_depend_on_values_that_are_not_finite(far):
    """The derivative of a sum is 1, that by what the loss does not use 0, that of the loss 1."""
    x, other = Tensor(np.array([1.0, far])), Tensor(np.array([far, 2.0], np.float32))
    loss = ops.sum(x)
    why = f"loss = sum(x), x and another Tensor hold {far}"
    expected = [np.ones(2), np.zeros(2), 1.0]
    assert_grads(grads(loss, x, other, loss), [x, other, loss], expected, why)


@exercise
def test_the_graph_is_kept_unless_free_is_true():
    x = Tensor(np.array([0.5, -2.0]))
    loss = ops.sum(x * x + x)
    for free in (False, True):
        why = f"loss = sum(x^2 + x), free={free}"
        assert_grads(autodiff.gradient(loss, [x], free=free), [x], [[2.0, -3]], why)
    for node in (loss.node, *loss.node.parents):
        try:
            node.vjp(np.ones(2))
        except RuntimeError:
            continue
        raise AssertionError(
            "after free=True nothing is left for another call, but a vjp gave something: put "
            "_freed in the place of each vjp"
        )
    why = "a second graph from the same x: free=True leaves x as it was, only the graph is let go"
    assert_grads(grads(ops.sum(x * x), x), [x], [[1.0, -4]], why)


@exercise
def test_a_vjp_is_let_go_as_soon_as_it_is_used():
    x, left = Tensor(np.array([0.5, -2.0])), []

    @autodiff.op
    def first(x):
        return 3 * x, lambda g: (left.append(last.vjp), 3 * g)[1:]

    loss = ops.sum(first(x))
    last, used = loss.node, loss.node.vjp
    autodiff.gradient(loss, [x], free=True)
    assert left[0] is not used, "free=True: a vjp was still there when the next one was called"


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


@exercise
def test_the_same_parameter_asked_for_twice():
    x = Tensor(np.array(3.0))
    assert_grads(grads(square(x), x, x), [x, x], [6.0, 6.0], "the same Tensor is in params twice")


def test_precision_is_kept():
    x = Tensor(np.ones((2, 3), np.float32))
    assert grads(ops.mse(x, np.zeros((2, 3), np.float32)), x)[0].dtype == np.float32


@exercise
@pytest.mark.parametrize(
    "loss, error", [(np.array(1.0), TypeError), (Tensor(np.ones((2, 3))), ValueError)]
)
def test_losses_that_cannot_be_differentiated(loss, error):
    what = "a plain array" if error is TypeError else "a Tensor with several elements"
    expected = f"expected a {error.__name__} for a loss that is {what}"
    try:
        grads(loss, Tensor(np.array(1.0)))
    except error:
        return
    except Exception as other:
        raise AssertionError(f"{expected}; it raises {type(other).__name__}") from None
    raise AssertionError(f"{expected}; it raises nothing")


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
    x = np.ones(2)
    calls = [ops.add(x, 1.0), ops.sum(x), square(x), ops.concat(x, np.ones(3))]
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

PATTERNS = [((), ()), ((), (3,)), ((1,), (3,)), ((1, 1), (1, 1)), ((), (2, 3, 4))]
PATTERNS += [((3,), (2, 3)), ((1, 3), (2, 3)), ((2, 1), (2, 3)), ((1, 1), (2, 3))]
PATTERNS += [((4,), (2, 3, 4)), ((3, 1), (2, 3, 4)), ((2, 1, 4), (2, 3, 4)), ((1, 3, 1), (2, 3, 4))]
PATTERNS += [((4,), (2, 3, 2, 4)), ((2, 1, 1, 4), (2, 3, 2, 4)), ((1, 3), (0, 3)), ((3,), (0, 3))]


@pytest.mark.exercise("autodiff.unbroadcast")
def test_unbroadcast_by_hand():
    g = np.array([[1.0, 2, 3], [10, 20, 30], [100, 200, 500]])
    rows, columns = ((3,), [111, 222, 533]), ((3, 1), [[6], [60], [800]])
    for shape, expected in [rows, columns, ((), 866), ((3, 3), g)]:
        back = autodiff.unbroadcast(g, shape)
        assert np.shape(back) == shape, (
            f"an input {shape} was broadcast to (3, 3): its gradient has the shape {shape}, not "
            f"{np.shape(back)}"
        )
        assert np.array_equal(back, expected), (
            f"g = {g.tolist()}, shape = {shape}: got {back}, expected {expected}"
        )


@pytest.mark.exercise("autodiff.unbroadcast")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_unbroadcast_is_the_adjoint_of_broadcasting(dtype, rng):
    """<broadcast(x), g> = <x, unbroadcast(g)> for every x."""
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    for small, large in PATTERNS:
        g = rng.standard_normal(large).astype(dtype)
        for laid_out in (g, np.asfortranarray(g)):  # in memory the last axis first, or last
            back, what = autodiff.unbroadcast(laid_out, small), f"g {large}, shape {small}"
            assert np.shape(back) == small, f"{what}: the result has shape {np.shape(back)}"
            assert back.dtype == dtype, f"{what}: g is {np.dtype(dtype)}, the result {back.dtype}"
            for x in (rng.standard_normal(small) for _ in range(2)):
                shares = np.broadcast_to(x, large) * g.astype(float)
                here, there = np.sum(x * back), np.sum(shares)
                assert abs(here - there) <= tolerance * np.abs(shares).sum(), (
                    f"{what}: <x, unbroadcast(g)> = {here:.6g}, <broadcast(x), g> = {there:.6g}"
                )


@pytest.mark.exercise("autodiff.unbroadcast")
def test_unbroadcast_gives_each_call_its_own_result():
    first = autodiff.unbroadcast(np.full((2, 3), 5.0), (3,))
    autodiff.unbroadcast(np.zeros((4, 3)), (3,))
    assert np.array_equal(first, [10, 10, 10]), f"a later call changed what came before: {first}"


@pytest.mark.parametrize("small, large", PATTERNS)
def test_operations_undo_broadcasting(small, large, rng):
    a, b = Tensor(rng.standard_normal(small)), Tensor(rng.standard_normal(large))
    for ga, gb in (grads(ops.sum(a * b), a, b), reversed(grads(ops.sum(b * a), b, a))):
        np.testing.assert_allclose(ga, autodiff.unbroadcast(b.value, small), rtol=1e-12)
        np.testing.assert_array_equal(gb, np.broadcast_to(a.value, large))


def test_both_sides_broadcast(rng):
    a, b = rng.standard_normal((3, 1)), rng.standard_normal((2, 1, 4))
    gradcheck.gradcheck(lambda a, b: a * b, [a, b], rng)


# --- memory ---


def build_graph(x):
    y = ops.softmax(ops.silu(ops.conv2d(x, Tensor(np.ones((3, 3, 8, 8))))))
    y = ops.norm_silu(y, Tensor(np.ones(8)), Tensor(np.zeros(8)))
    y = ops.concat(ops.up(ops.down(y)), y)
    return y, ops.mse(ops.matmul(y, Tensor(np.ones((16, 3)))), 0.0)


@compiled_when_slow
def test_a_dropped_graph_is_freed_without_the_garbage_collector(kernel_set, rng):
    x = Tensor(rng.standard_normal((1, 4, 4, 8)))
    # compiles: while it does, Numba keeps hold of what is on the stack
    autodiff.gradient(build_graph(x)[1], [x])
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
