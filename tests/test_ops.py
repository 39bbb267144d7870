"""Every operation's derivative against a difference quotient, in float64, on all kernel sets.

The list of cases is itself tested: no operation may be missing, and each case must notice a
derivative that is 0.1 % too large.
"""

import itertools
import math

import numpy as np
import pytest

from tinydiff import autodiff, gradcheck, ops
from tinydiff.autodiff import Tensor

random = np.random.default_rng(7)
normal = random.standard_normal


def positive(*shape):
    return 0.5 + random.random(shape)


def circular(x, w):
    return ops.conv2d(x, w, padding="circular")


IMAGES, LABELS = (2, 5, 3, 6), np.array([2, 0, 2])


def block(C, O, K=3):
    """List arguments of residual_block: x, e, two norms and windows, a shortcut if C != O."""
    shapes = (2, 4, 8, C), (2, 1, 1, O), C, C, (K, K, C, O), O, O, (K, K, O, O)
    return [normal(shape) for shape in (*shapes, *[(1, 1, C, O)] * (C != O))]


# operation, how it is called, its arguments; shapes are odd on purpose
CASES = [
    ("add", lambda a, b: ops.add(a, b), normal((2, 3, 5)), normal((3, 1))),
    ("sub", lambda a, b: ops.sub(a, b), normal((3, 1)), normal((2, 3, 5))),
    ("mul", lambda a, b: ops.mul(a, b), normal((2, 3, 5)), normal(5)),
    ("div", lambda a, b: ops.div(a, b), normal((3, 5)), positive(2, 1, 5)),
    ("matmul", lambda a, b: ops.matmul(a, b), normal((7, 3)), normal((3, 5))),
    ("matmul", lambda a, b: ops.matmul(a, b), normal((2, 3, 5, 7)), normal((7, 11))),
    ("matmul", lambda a, b: ops.matmul(a, b), normal((3, 5, 7)), normal((3, 7, 2))),
    ("sum", lambda x: ops.sum(x), normal((2, 3, 5))),
    ("mse", lambda a, b: ops.mse(a, b), normal((2, 3, 5)), normal((2, 3, 5))),
    ("mse", lambda a, b: ops.mse(a, b), normal((4, 3)), normal(3)),
    ("reshape", lambda x: ops.reshape(x, shape=(5, -1)), normal((2, 3, 5))),
    ("swapaxes", lambda x: ops.swapaxes(x), normal((2, 3, 5))),
    ("swapaxes", lambda x: ops.swapaxes(x, i=0, j=1), normal((2, 3, 5))),
    ("concat", lambda *xs: ops.concat(*xs), *(normal((2, 3, C)) for C in (1, 5, 2))),
    ("embedding", lambda table: ops.embedding(table, i=np.array([3, 0, 3, 1])), normal((5, 3))),
    ("silu", lambda x: ops.silu(x), 3 * normal((3, 5, 7))),
    ("softmax", lambda x: ops.softmax(x), normal((2, 3, 7))),
    ("attention", lambda q, k, v: ops.attention(q, k, v), *normal((3, 2, 5, 3))),
    ("cross_entropy", lambda x: ops.cross_entropy(x, labels=LABELS), 3 * normal((3, 4))),
    ("group_norm", lambda *xs: ops.group_norm(*xs, groups=3), normal(IMAGES), *normal((2, 6))),
    ("norm_silu", lambda *xs: ops.norm_silu(*xs, groups=3), normal(IMAGES), *normal((2, 6))),
    ("norm_silu", lambda *xs: ops.norm_silu(*xs), 2 + normal((3, 7, 16)), *normal((2, 16))),
    ("conv2d", lambda x, w: ops.conv2d(x, w), normal((2, 5, 3, 3)), normal((3, 3, 3, 5))),
    ("conv2d", circular, normal((1, 3, 7, 9)), normal((5, 5, 9, 2))),
    ("conv2d", lambda x, w: ops.conv2d(x, w), normal((3, 4, 5, 1)), normal((1, 1, 1, 33))),
    ("residual_block", lambda *xs: ops.residual_block(*xs, groups=3), *block(6, 6, K=3)),
    ("residual_block", lambda *xs: ops.residual_block(*xs, padding="circular"), *block(32, 16)),
    ("down", lambda x: ops.down(x), normal((2, 6, 4, 3))),
    ("up", lambda x: ops.up(x), normal((2, 3, 5, 3))),
]
NAMES = [name for name, *_ in CASES]
PUBLIC = {name for name, f in vars(ops).items() if hasattr(f, "forward") and name[0] != "_"}


def by_padding(f):
    return pytest.mark.parametrize("padding", ["zeros", "circular"])(f)


@pytest.mark.parametrize("name, f, args", [(name, f, args) for name, f, *args in CASES], ids=NAMES)
def test_gradient(name, f, args, kernel_set, rng):
    gradcheck.gradcheck(f, args, rng, tolerance=1e-6)


def test_every_operation_has_a_case():
    assert PUBLIC == set(NAMES)
    assert len(PUBLIC) >= 18  # the search itself finds something


@pytest.mark.parametrize("name, f, args", [(name, f, args) for name, f, *args in CASES], ids=NAMES)
def test_every_case_notices_a_derivative_slightly_too_large(name, f, args, rng, monkeypatch):
    right = getattr(ops, name).forward
    for i in range(len(args)):

        def wrong(*arrays, **options):
            y, vjp = right(*arrays, **options)
            return y, lambda g: tuple(gk * 1.001 if k == i else gk for k, gk in enumerate(vjp(g)))

        monkeypatch.setattr(ops, name, autodiff.op(wrong))
        assert gradcheck.directional_error(f, args, rng) > 1e-6, f"argument {i}"


@pytest.mark.parametrize("name, f, args", [(name, f, args) for name, f, *args in CASES], ids=NAMES)
def test_float32_stays_float32(name, f, args, kernel_set):
    variables = [Tensor(a.astype(np.float32)) for a in args]
    y = f(*variables)
    assert y.dtype == np.float32
    assert all(g.dtype == np.float32 for g in autodiff.gradient(ops.sum(y), variables))


# --- exercises: mul, div, matmul ---


TWO = "return two things, value and vjp; vjp(g) gives a tuple, one gradient for each argument"


def recorded(name, variables, g):
    """Call an operation of ops on Tensors, and check the form of its value and vjp -> its result"""
    f = getattr(ops, name)
    try:
        y = f(*variables)
    except (TypeError, ValueError):
        given = f.forward(*(v.value for v in variables)) if hasattr(f, "forward") else None
        assert given is None or (isinstance(given, tuple) and len(given) == 2), TWO
        raise
    assert isinstance(y, Tensor), "an operation on Tensors gives a Tensor: is @op there?"
    assert isinstance(y.value, np.ndarray | np.generic) and callable(y.node.vjp), TWO
    assert y.shape == g.shape, f"the value has shape {y.shape}, expected {g.shape}"
    back = y.node.vjp(g)
    assert isinstance(back, tuple), f"{TWO}: here a {type(back).__name__} came"
    assert len(back) == len(variables), f"{TWO}: here {len(variables)}, and {len(back)} came"
    return y


def repeats(shape, small):
    """Say whether arrays of the shape `small` can be broadcast to `shape`: -> bool"""
    try:
        return np.broadcast_shapes(shape, small) == shape
    except ValueError:
        return False


def slope_along(f, args, k, d, g):
    """Take the slope of sum(g f(args)) where argument k moves along d, by a complex step.

    A complex step is exact, and does not use the operation's vjp. -> number
    """
    moved = [a.astype(float) for a in args]
    moved[k] = moved[k] + 1e-30j * d
    return np.imag(np.sum(g * f(*moved))) / 1e-30


def assert_along(got, slope, d, what):
    """Assert that a gradient, summed over what was repeated, has this slope along d."""
    tolerance = 1e-12 if got.dtype == np.float64 else 1e-5
    shares = got.astype(float) * d  # where an input was repeated, d is repeated like it
    assert abs(shares.sum() - slope) <= tolerance * np.abs(shares).sum(), (
        f"{what}: added up with random weights it gives {shares.sum():.6g}, expected {slope:.6g}"
    )


def assert_derivatives(name, f, args, g, rng):
    """Check an operation's value, f of its arguments, and its gradients along random directions."""
    shapes = " and ".join(str(a.shape) for a in args)
    y, right, kept = recorded(name, [Tensor(a) for a in args], g), f(*args), g.copy()
    tolerance = 1e-12 if g.dtype == np.float64 else 1e-5
    assert y.dtype == g.dtype, f"{shapes}, {g.dtype}: the value is {y.dtype}"
    assert np.allclose(y.value, right, rtol=tolerance, atol=tolerance * np.abs(right).max()), (
        f"{shapes}: the value is wrong, by up to {np.max(np.abs(y.value - right)):.3g}"
    )
    grads = y.node.vjp(g)
    assert np.array_equal(g, kept), "the vjp changes g in place: others still need it"
    for k, (got, a) in enumerate(zip(grads, args, strict=True)):
        what = f"{shapes}: the gradient of {'ab'[k]}"
        assert repeats(np.shape(got), a.shape), f"{what} has shape {np.shape(got)}, not {a.shape}"
        assert got.dtype == g.dtype, f"{what} is {got.dtype}, expected {g.dtype}"
        for d in (rng.standard_normal(a.shape) for _ in range(3)):
            assert_along(got, slope_along(f, args, k, d, g), d, what)


def in_two_layouts(arrays):
    """Give arrays as they are, then with their axes in reverse order in memory."""
    yield arrays
    yield [np.asfortranarray(a) for a in arrays]


ELEMENTWISE = [
    pytest.param("mul", np.multiply, marks=pytest.mark.exercise("ops.mul")),
    pytest.param("div", np.divide, marks=pytest.mark.exercise("ops.div")),
]
SHAPES = [((3, 3), (3, 3)), ((2, 3, 5), (5,)), ((3, 1), (2, 3, 5)), ((4, 3), ()), ((3, 1), (1, 4))]


@pytest.mark.parametrize("name, f", ELEMENTWISE)
def test_mul_and_div_along_random_directions(name, f, rng):
    draw = lambda shape: (0.5 + rng.random(shape)) * rng.choice([-1, 3], shape)
    for shapes, dtype in itertools.product(SHAPES, (np.float64, np.float32)):
        for size_of_b in (1, 1e-7, 1e12):
            a, b = (np.asarray(draw(shape)) for shape in shapes)
            a.flat[::3] = 0  # both factors may be 0, a divisor must not
            b.flat[1::2] *= name == "div"
            g = rng.standard_normal(np.broadcast_shapes(*shapes))
            for *args, h in in_two_layouts([part.astype(dtype) for part in (a, b * size_of_b, g)]):
                assert_derivatives(name, f, args, h, rng)


@pytest.mark.parametrize("name, expected", [("mul", 12.0), ("div", 3.0)])
def test_the_operators_are_mul_and_div(name, expected):
    sign = {"mul": lambda a, b: a * b, "div": lambda a, b: a / b}[name]
    six, two = Tensor(np.array(6.0)), Tensor(np.array(2.0))
    assert sign(six, 2.0).value == sign(6.0, two).value == expected


MATRICES = [
    ((3, 3), (3, 3)),  # square, where a forgotten transpose raises no error
    ((3, 3, 3), (3, 3, 3)),
    ((2, 4, 1), (1, 3)),
    ((2, 3, 4, 2), (2, 3, 2, 5)),
    ((7, 3), (3, 5)),
    ((2, 4, 3), (3, 5)),
    ((2, 3, 5, 7), (7, 4)),
    ((3, 5, 7), (3, 7, 2)),
    ((1, 3, 2), (2, 1)),
]


@pytest.mark.exercise("ops.matmul")
def test_matmul_along_random_directions(rng):
    for dtype, (a_shape, b_shape) in itertools.product((np.float64, np.float32), MATRICES):
        shapes = a_shape, b_shape, (*a_shape[:-1], b_shape[-1])
        parts = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
        for *args, h in in_two_layouts(parts):
            assert_derivatives("matmul", np.matmul, args, h, rng)


# --- exercises: down, up, concat, mse ---

# without numba, which need not be installed where students work
on_reference = pytest.mark.parametrize("kernel_set", ["reference"], indirect=True)
both_precisions = pytest.mark.parametrize("dtype", [np.float64, np.float32])


def assert_op(operation, args, g, expected, says):
    """Compare an operation's value and gradients with those expected; says: what each should be."""
    variables, kept = [Tensor(a) for a in args], g.copy()
    y = recorded(operation, variables, g)
    grads = y.node.vjp(g)
    assert np.array_equal(g, kept), "the vjp changes g in place: others still need it"
    for got, right, name in zip([y.value, *grads], expected, says, strict=True):
        shape, fits = np.shape(got), repeats(np.shape(got), right.shape)
        assert fits, f"{name}: it has shape {shape}, expected {right.shape}"
        assert got.dtype == g.dtype, f"{name}: it is {got.dtype}, expected {g.dtype} like the input"
        for d in (np.cos(k + np.arange(right.size)).reshape(right.shape) for k in range(3)):
            assert_along(got, np.sum(right * d), d, name)


SIZES = [(1, 2, 2, 1), (2, 6, 4, 3), (3, 2, 8, 5)]  # N, H, W, C of the large image


def halves(n):
    return np.arange(n) // 2  # row h of the large image lies in row h // 2 of the small one


def spread(name, g, shape):
    """Find the gradient of a linear operation from its values: gx[i] = <g, f(image of one 1 at i)>

    name: str; g: array; shape: of x -> array of that shape
    """
    ones = np.eye(math.prod(shape)).reshape(-1, *shape)
    forward = getattr(ops, name).forward
    return np.reshape([np.sum(g * forward(one)[0]) for one in ones], shape)


@pytest.mark.exercise("ops.down")
@on_reference
@both_precisions
@pytest.mark.parametrize("shape", SIZES)
def test_down_pixel_by_pixel(shape, dtype, kernel_set, rng):
    x = rng.standard_normal(shape).astype(dtype)
    y = (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
    g = rng.standard_normal(y.shape).astype(dtype)
    share = "each pixel has a share of 1/4 in its block's mean"
    says = ["the value is the mean of each 2 x 2 block", share]
    assert_op("down", [x], g, [y, spread("down", g, shape)], says)


@pytest.mark.exercise("ops.up")
@on_reference
@both_precisions
@pytest.mark.parametrize("shape", SIZES)
def test_up_pixel_by_pixel(shape, dtype, kernel_set, rng):
    N, H, W, C = shape
    x = rng.standard_normal((N, H // 2, W // 2, C)).astype(dtype)
    y = x[:, halves(H)][:, :, halves(W)]
    g = rng.standard_normal(shape).astype(dtype)
    share = "a pixel acts through all four of its block: their gradients add up"
    says = ["the value repeats each pixel in a 2 x 2 block", share]
    assert_op("up", [x], g, [y, spread("up", g, x.shape)], says)


@pytest.mark.exercise("ops.concat")
@on_reference
@both_precisions
@pytest.mark.parametrize("channels", [(3, 3), (1, 5, 2), (4,), (2, 1, 1, 3)])
def test_concat_channel_by_channel(channels, dtype, kernel_set, rng):
    for before in ((2, 3, 4), (5,), ()):
        xs = [rng.standard_normal((*before, C)).astype(dtype) for C in channels]
        g = rng.standard_normal((*before, sum(channels))).astype(dtype)
        y, grads, c = np.zeros_like(g), [np.zeros_like(x) for x in xs], 0
        for x, gx in zip(xs, grads, strict=True):
            for k in range(x.shape[-1]):
                y[..., c], gx[..., k], c = x[..., k], g[..., c], c + 1
        case = f"{len(xs)} arrays of {len(before) + 1} axes"
        says = [f"{case}: argument {k} gets the channels it gave" for k in range(len(xs))]
        says = [f"{case}: the value is all channels one after the other", *says]
        assert_op("concat", xs, g, [y, *grads], says)


PAIRS = [
    ((2, 3, 5, 1), (2, 3, 5, 1)),
    ((4,), (4,)),
    ((4, 3), (3,)),
    ((2, 1), (2, 5)),
    ((3, 1), (1, 5)),  # neither has as many values as the difference
    ((), (6,)),
]


@pytest.mark.exercise("ops.mse")
@both_precisions
@pytest.mark.parametrize("shapes", PAIRS, ids=str)
def test_mse_by_difference_quotients(shapes, dtype, rng):
    """The difference quotient of a square is exact: ((d + h)^2 - (d - h)^2) / 2h = 2 d, h = 1/2."""
    a, b = (rng.standard_normal(shape) for shape in shapes)
    a, b = a.astype(dtype).astype(np.float64), b.astype(dtype).astype(np.float64)
    one, two = np.broadcast_arrays(a, b)
    away = [float(p) - float(q) for p, q in zip(one.ravel(), two.ravel(), strict=True)]
    g, value = 1.75, math.fsum(d**2 for d in away) / len(away)
    slopes = [g * ((d + 0.5) ** 2 - (d - 0.5) ** 2) / len(away) for d in away]
    slope = np.reshape(slopes, one.shape)
    ga, gb = autodiff.unbroadcast(slope, a.shape), -autodiff.unbroadcast(slope, b.shape)
    expected = [np.array(e, dtype) for e in (value, ga, gb)]
    vjp = recorded("mse", [Tensor(a), Tensor(b)], np.array(1.0)).node.vjp
    for once, twice in zip(vjp(np.array(1.0)), vjp(np.array(2.0)), strict=True):
        assert np.array_equal(2 * once, twice), (
            "twice the g, twice the gradients: the g that arrives from above is not used"
        )
    of_b = "the gradient of b (as that of a, with a minus)"
    says = ["the value is the mean of all squared differences", "the gradient of a", of_b]
    assert_op("mse", [a.astype(dtype), b.astype(dtype)], np.array(g, dtype), expected, says)


@pytest.mark.exercise("ops.mse")
def test_mse_of_values_far_from_zero():
    """In float32 the squares of such values would differ by less than rounding."""
    a = np.float32([1000.125, 1001.375, 1003.25])
    b = a + np.float32([0.25, -0.5, 0.125])
    y = recorded("mse", [Tensor(a), Tensor(b)], np.array(1, np.float32))
    want = (0.25**2 + 0.5**2 + 0.125**2) / 3
    off = "float32 values near 1000: the mean of the squared differences is"
    assert abs(y.value - want) < 1e-6, f"{off} {want:.6g}, got {float(y.value):.6g}"


OFTEN = {  # shapes of the arguments of two calls
    "down": [[(2, 4, 6, 3)], [(1, 2, 4, 2)]],
    "up": [[(2, 4, 3, 3)], [(1, 1, 2, 2)]],
    "concat": [[(2, 3, 1), (2, 3, 2)], [(4, 3), (4, 1), (4, 2)]],
    "mse": [[(3, 4), (3, 4)], [(5,), (2, 5)]],
}


@on_reference
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.exercise(f"ops.{name}")) for name in OFTEN]
)
def test_calls_do_not_know_of_each_other(name, kernel_set, rng):
    """Two calls, then each vjp twice, gives what each gives alone; wherever the numbers lie."""
    forward = getattr(ops, name).forward
    calls = [[rng.standard_normal(shape) for shape in shapes] for shapes in OFTEN[name]]
    values = [np.asarray(forward(*args)[0]) for args in calls]
    gs = [np.cos(np.arange(y.size, dtype=float)).reshape(y.shape) for y in values]
    alone = [forward(*args)[1](g) for args, g in zip(calls, gs, strict=True)]
    first = [a.copy() for a in (values[0], *alone[0])]
    forward(*(2 * a for a in calls[0]))[1](3 * gs[0])
    kept = zip(first, (values[0], *alone[0]), strict=True)
    assert all(np.array_equal(a, b) for a, b in kept), (
        "the next call changed what this one had returned"
    )

    def same(these, those):
        near = lambda a, b: np.allclose(a, b, rtol=1e-12, atol=1e-14)
        return all(near(a, b) for a, b in zip(these, those, strict=True))

    both = [
        recorded(name, [Tensor(a) for a in args], -g) for args, g in zip(calls, gs, strict=True)
    ]
    for y, g, expected in zip(both, gs, alone, strict=True):
        assert same(y.node.vjp(g), expected), (
            "a vjp gives another gradient after another call of the operation, or of itself: "
            "something is kept from call to call"
        )
    far = np.asfortranarray
    for args, value, g, expected in zip(calls, values, gs, alone, strict=True):
        y, vjp = forward(*map(far, args))
        assert same([y], [value]) and same(vjp(far(g)), expected), (
            "the same values, stored column by column, give another result"
        )


# --- convolution ---


def naive_conv2d(x, w, padding):
    (N, H, W, _), K = x.shape, w.shape[0]
    y = np.zeros((N, H, W, w.shape[3]))
    for h in range(H):
        for v in range(W):
            for i in range(K):
                for j in range(K):
                    a, b = h + i - K // 2, v + j - K // 2
                    if padding == "circular":
                        a, b = a % H, b % W
                    if 0 <= a < H and 0 <= b < W:
                        y[:, h, v] += x[:, a, b] @ w[i, j]
    return y


CONVOLUTIONS = [
    ((2, 5, 3, 2), 1, 3),
    ((2, 5, 3, 2), 3, 5),
    ((1, 3, 7, 3), 5, 4),
    ((1, 2, 9, 1), 3, 1),
    ((3, 6, 5, 8), 3, 17),
    ((1, 1, 1, 2), 5, 2),
]


@by_padding
@pytest.mark.parametrize("shape, K, O", CONVOLUTIONS)
def test_conv2d_equals_loops(shape, K, O, padding, kernel_set, rng):
    x, w = rng.standard_normal(shape), rng.standard_normal((K, K, shape[3], O))
    y, loops = ops.conv2d(x, w, padding=padding), naive_conv2d(x, w, padding)
    np.testing.assert_allclose(y, loops, rtol=1e-12, atol=1e-12)


@by_padding
@pytest.mark.parametrize("shape, K, O", CONVOLUTIONS)
def test_conv2d_vjps_are_adjoints(shape, K, O, padding, kernel_set, rng):
    """<conv(x, w), g> = <x, gx> = <w, gw>: the convolution is linear in x, and in w."""
    x, w = rng.standard_normal(shape), rng.standard_normal((K, K, shape[3], O))
    g = rng.standard_normal((*shape[:3], O))
    X, W = Tensor(x), Tensor(w)
    gx, gw = autodiff.gradient(ops.sum(ops.conv2d(X, W, padding=padding) * g), [X, W])
    x2, w2 = rng.standard_normal(x.shape), rng.standard_normal(w.shape)
    in_x, in_w = naive_conv2d(x2, w, padding), naive_conv2d(x, w2, padding)
    np.testing.assert_allclose(np.sum(in_x * g), np.sum(x2 * gx), rtol=1e-10)
    np.testing.assert_allclose(np.sum(in_w * g), np.sum(w2 * gw), rtol=1e-10)


def test_conv2d_moves_the_image_against_the_window(kernel_set):
    """A single weight at window place (0, 2) of 3 x 3 reads the pixel above right."""
    x, w = np.arange(12.0).reshape(1, 3, 4, 1), np.zeros((3, 3, 1, 1))
    w[0, 2] = 1
    zeros, circular = ops.conv2d(x, w)[0, :, :, 0], ops.conv2d(x, w, padding="circular")[0, :, :, 0]
    np.testing.assert_array_equal(zeros, [[0, 0, 0, 0], [1, 2, 3, 0], [5, 6, 7, 0]])
    np.testing.assert_array_equal(circular, [[9, 10, 11, 8], [1, 2, 3, 0], [5, 6, 7, 4]])


# --- the others' values ---


def test_down_and_up_by_hand(kernel_set):
    x = np.array([[1.0, 3, 0, 4], [5, 7, 0, 8]]).reshape(1, 2, 4, 1)
    np.testing.assert_array_equal(ops.down(x), np.array([4.0, 3]).reshape(1, 1, 2, 1))
    np.testing.assert_array_equal(ops.up(ops.down(x))[0, :, :, 0], [[4, 4, 3, 3], [4, 4, 3, 3]])


def test_silu_by_hand(kernel_set):
    x, y = np.array([-1000.0, -2, 0, 2, 1000]), [0, -2 / (1 + np.e**2), 0, 2 / (1 + np.e**-2), 1000]
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(ops.silu(x), y, atol=1e-15)


def test_group_norm_gives_mean_0_and_variance_1(kernel_set, rng):
    x = 5 + 3 * rng.standard_normal((2, 5, 3, 6))
    scale, shift = rng.standard_normal((2, 6))
    plain = ops.group_norm(x, np.ones(6), np.zeros(6), groups=2).reshape(2, 15, 2, 3)
    np.testing.assert_allclose(plain.mean((1, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(plain.var((1, 3)), 1, rtol=1e-5)
    y, expected = ops.group_norm(x, scale, shift, groups=2), plain.reshape(x.shape) * scale + shift
    np.testing.assert_allclose(y, expected, rtol=1e-12)


def test_group_norm_survives_a_flat_image(kernel_set):
    for norm in (ops.group_norm, ops.norm_silu):
        np.testing.assert_array_equal(norm(np.full((1, 4, 4, 8), 3.0), np.ones(8), np.zeros(8)), 0)


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 2e-6)])
def test_norm_silu_equals_silu_of_group_norm(dtype, tolerance, kernel_set, rng):
    args = [rng.standard_normal(shape).astype(dtype) for shape in ((2, 5, 3, 16), (16,), (16,))]
    u = rng.standard_normal((2, 5, 3, 16)).astype(dtype)
    in_one_pass = lambda *xs: ops.norm_silu(*xs, groups=4)
    in_two = lambda *xs: ops.silu(ops.group_norm(*xs, groups=4))
    results = []
    for f in (in_one_pass, in_two):
        variables = [Tensor(a) for a in args]
        y = f(*variables)
        results.append([y.value, *autodiff.gradient(ops.sum(y * u), variables)])
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance * np.abs(two).max())


def test_softmax_by_hand_and_for_large_numbers(kernel_set):
    expected = np.array([1, 3, 6]) / 10
    np.testing.assert_allclose(ops.softmax(np.log([[1.0, 3, 6]])), [expected], rtol=1e-14)
    for far in (1e3, -1e3, 1e5):
        np.testing.assert_allclose(ops.softmax(np.log([[1.0, 3, 6]]) + far), [expected], rtol=1e-9)
    np.testing.assert_array_equal(ops.softmax(np.array([[0.0, 1e4, -1e4]])), [[0, 1, 0]])


def test_softmax_works_on_the_last_axis(kernel_set, rng):
    y = ops.softmax(rng.standard_normal((2, 3, 5)))
    np.testing.assert_allclose(y.sum(-1), np.ones((2, 3)), rtol=1e-14)


def test_cross_entropy_by_hand(kernel_set):
    scores = Tensor(np.log([[1.0, 3, 6], [2, 2, 4]]))
    loss = ops.cross_entropy(scores, labels=np.array([1, 2]))
    np.testing.assert_allclose(loss.value, -(np.log(0.3) + np.log(0.5)) / 2, rtol=1e-14)
    (g,) = autodiff.gradient(loss, [scores])
    expected = np.array([[0.1, 0.3 - 1, 0.6], [0.25, 0.25, 0.5 - 1]]) / 2
    np.testing.assert_allclose(g, expected, rtol=1e-13)


def test_cross_entropy_of_an_unknown_label_is_nothing(kernel_set):
    scores = Tensor(np.log([[1.0, 3, 6], [2, 2, 4]]))
    loss = ops.cross_entropy(scores, labels=np.array([1, 3]))
    np.testing.assert_allclose(loss.value, -np.log(0.3) / 2, rtol=1e-14)
    (g,) = autodiff.gradient(loss, [scores])
    np.testing.assert_allclose(g, [[0.05, -0.35, 0.3], [0, 0, 0]], rtol=1e-13)


def test_cross_entropy_is_finite_for_large_scores(kernel_set):
    scores = np.array([[1e4, 0, 0], [0, 0, 1e4]])
    np.testing.assert_allclose(ops.cross_entropy(scores, labels=np.array([0, 0])), 5e3, rtol=1e-12)


def test_embedding_adds_up_repeated_rows(kernel_set):
    table = Tensor(np.arange(8.0).reshape(4, 2))
    y = ops.embedding(table, i=np.array([2, 0, 2, 2]))
    np.testing.assert_array_equal(y.value, [[4, 5], [0, 1], [4, 5], [4, 5]])
    (g,) = autodiff.gradient(ops.sum(y * np.array([[1.0], [10], [100], [1000]])), [table])
    np.testing.assert_array_equal(g, [[10, 10], [0, 0], [1101, 1101], [0, 0]])


def test_mse_by_hand(kernel_set):
    a, b = Tensor(np.array([1.0, 2, 3, 6])), Tensor(np.array([1.0, 4, 3, 3]))
    loss = ops.mse(a, b)
    assert loss.value == (4 + 9) / 4
    ga, gb = autodiff.gradient(loss, [a, b])
    np.testing.assert_array_equal(ga, [0, -1, 0, 1.5])
    np.testing.assert_array_equal(gb, -ga)


def test_concat_cuts_the_gradient_where_it_joined(kernel_set):
    a, b = Tensor(np.zeros((2, 1))), Tensor(np.zeros((2, 2)))
    loss = ops.sum(ops.concat(a, b) * np.array([[1.0, 2, 3], [4, 5, 6]]))
    ga, gb = autodiff.gradient(loss, [a, b])
    np.testing.assert_array_equal(ga, [[1], [4]])
    np.testing.assert_array_equal(gb, [[2, 3], [5, 6]])
