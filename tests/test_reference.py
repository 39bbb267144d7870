"""Reference kernels against plain loops, closed forms and difference quotients.

These tests grade exercises of lessons 05, 06 and 07. test_kernels.py then compares the fast kernels
with the reference. Tolerances are relative to the largest value expected.
"""

import itertools
import math

import numpy as np
import pytest

from tinydiff.kernels import reference

TOLERANCE = {np.float64: 1e-12, np.float32: 5e-6}
PRECISIONS = [np.float64, np.float32]
both_precisions = pytest.mark.parametrize("dtype", PRECISIONS, ids=["float64", "float32"])


def same(got, expected, what, dtype=np.float64, tolerance=None):
    """Assert that a kernel gave an array of this shape, dtype and these values.

    what: str, names the case in messages
    """
    assert isinstance(got, np.ndarray), f"{what}: expected an array, got {type(got).__name__}"
    shape, dtype = expected.shape, np.dtype(dtype)
    assert got.shape == shape, f"{what}: expected the shape {shape}, got {got.shape}"
    assert got.dtype == dtype, f"{what}: expected {dtype}, like the input, got {got.dtype}"
    assert not np.isnan(got).any(), f"{what}: not a number (nan), where numbers are expected"
    largest = max(np.abs(expected).max(), 1e-3)
    error = np.abs(got - expected).max() / largest
    share = f"{error:.2g} times" if error >= 1 else f"{100 * error:.2g} % of"
    off = f"{what}: off by {share} the largest value expected"
    assert error <= (tolerance or TOLERANCE[dtype.type]), off


def parts(got, names, what):
    """Assert that the results are a tuple, as many as there are names."""
    several = f"{what}: expected {len(names)} results: {', '.join(names)}"
    assert isinstance(got, tuple) and len(got) == len(names), several
    return got


def slopes(f, x, h=1e-5):
    """Take difference quotients of the number f(x), coordinate by coordinate. x: (...) -> (...)"""
    out = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[i] = h
        out[i] = (f(x + step) - f(x - step)) / (2 * h)
    return out


# --- silu ---


def silu_slope(x):
    """Use hyperbolic functions: sigma = (1 + tanh(x/2)) / 2, with slope 1 / (4 cosh(x/2)^2)."""
    return (1 + np.tanh(x / 2)) / 2 + x / (4 * np.cosh(x / 2) ** 2)


@pytest.mark.exercise("kernels.reference.silu_grad")
def test_silu_grad_by_hand():
    """At x = log 3 sigma is 3/4, at x = -log 3 it is 1/4."""
    x, g, a = np.array([0, math.log(3), -math.log(3), 0]), np.array([1.0, 8, 8, -3]), math.log(3)
    expected = np.array([1 / 2, 6 + 3 / 2 * a, 2 - 3 / 2 * a, -3 / 2])
    what = "silu_grad at x = 0, log 3, -log 3, 0 with g = 1, 8, 8, -3"
    same(reference.silu_grad(g, x), expected, what)


@pytest.mark.exercise("kernels.reference.silu_grad")
@both_precisions
def test_silu_grad_equals_its_closed_form(dtype, rng):
    for shape in [(7,), (2, 3, 5), (2, 4, 3, 5)]:
        x = (4 * rng.standard_normal(shape)).astype(dtype)
        g = (2 + rng.standard_normal(shape)).astype(dtype)
        expected = g.astype(np.float64) * silu_slope(x.astype(np.float64))
        what = f"silu_grad of a {np.dtype(dtype)} array {shape}"
        same(reference.silu_grad(g, x), expected, what, dtype)


@pytest.mark.exercise("kernels.reference.silu_grad")
def test_silu_grad_is_the_slope_of_silu(rng):
    x, g = 2 * rng.standard_normal((3, 4)), 1 + rng.random((3, 4))
    quotients = slopes(lambda x: np.sum(g * x / (1 + np.exp(-x))), x)
    what = "silu_grad against a difference quotient"
    same(reference.silu_grad(g, x), quotients, what, tolerance=1e-8)


@pytest.mark.exercise("kernels.reference.silu_grad")
def test_silu_grad_far_out():
    """An overflow of exp must not become a nan."""
    with np.errstate(all="ignore"):
        got = reference.silu_grad(np.array([2.0, 2, 2, 2]), np.array([-1000.0, -60, 60, 1000]))
    same(got, np.array([0.0, 0, 2, 2]), "silu_grad at x = -1000, -60, 60, 1000 with g = 2")


# --- softmax ---


def naive_softmax(row):
    """Compute y_i = 1 / sum_j exp(x_j - x_i). row: list of numbers -> list"""
    return [1 / math.fsum(math.exp(min(b - a, 700)) for b in row) for a in row]


def rows(f, *arrays):
    """Apply f to each row along the last axis."""
    flat = [a.astype(np.float64).reshape(-1, a.shape[-1]) for a in arrays]
    found = [f(*(list(map(float, r)) for r in row)) for row in zip(*flat, strict=True)]
    return np.array(found).reshape(arrays[0].shape)


@pytest.mark.exercise("kernels.reference.softmax")
def test_softmax_by_hand():
    x = np.log([[1.0, 3, 6], [2, 2, 4]])
    expected = np.array([[0.1, 0.3, 0.6], [0.25, 0.25, 0.5]])
    same(reference.softmax(x), expected, "softmax of the logarithms of (1, 3, 6) and (2, 2, 4)")


@pytest.mark.exercise("kernels.reference.softmax")
@both_precisions
def test_softmax_equals_loops(dtype, rng):
    for shape in [(3, 5), (2, 4, 3), (6,), (2, 3, 1, 4)]:
        x = (2 * rng.standard_normal(shape)).astype(dtype)
        what = f"softmax over the last axis of a {np.dtype(dtype)} array {shape}"
        same(reference.softmax(x), rows(naive_softmax, x), what, dtype)


@pytest.mark.exercise("kernels.reference.softmax")
@both_precisions
def test_softmax_of_large_numbers(dtype):
    """Adding a number to a whole row changes nothing, and each row is independent."""
    for far in (1000.0, -1000.0):
        x = (np.array([[0, 1, 3], [2, 1, 0]]) + far).astype(dtype)
        what = f"softmax of scores near {far:g}"
        with np.errstate(all="ignore"):
            same(reference.softmax(x), rows(naive_softmax, x), what, dtype)
    x = np.array([[2000, 2001, 2003], [-2000, -2001, -2003], [0, 5000, -5000]], dtype)
    what = "softmax of rows near 2000, near -2000, and far apart"
    with np.errstate(all="ignore"):
        same(reference.softmax(x), rows(naive_softmax, x), what, dtype)


def naive_softmax_grad(g, y):
    """Compute sum_j g_j dy_j/dx_i, where dy_j/dx_i = y_j ((1 if i is j) - y_i)."""
    places = range(len(y))
    return [math.fsum(g[j] * y[j] * ((i == j) - y[i]) for j in places) for i in places]


def weights(rng, shape):
    """Draw positive numbers that sum to 1 over the last axis."""
    y = 0.1 + rng.random(shape)
    return y / y.sum(-1, keepdims=True)


@pytest.mark.exercise("kernels.reference.softmax_grad")
@both_precisions
def test_softmax_grad_equals_the_jacobian(dtype, rng):
    for shape in [(3, 5), (2, 4, 3), (6,), (2, 3, 1, 4)]:
        g, y = (1 + rng.standard_normal(shape)).astype(dtype), weights(rng, shape).astype(dtype)
        expected = rows(naive_softmax_grad, g, y)
        what = f"softmax_grad over the last axis, {np.dtype(dtype)} {shape}"
        same(reference.softmax_grad(g, y), expected, what, dtype)


@pytest.mark.exercise("kernels.reference.softmax_grad")
def test_softmax_grad_by_hand():
    """y = (1/4, 3/4), g = (8, 0): g . y = 2, so gx = (1/4 (8 - 2), 3/4 (0 - 2))."""
    got = reference.softmax_grad(np.array([[8.0, 0], [5, 5]]), np.array([[0.25, 0.75], [0.5, 0.5]]))
    what = "softmax_grad of g = (8, 0) at y = (1/4, 3/4), of g = (5, 5) at y = (1/2, 1/2)"
    same(got, np.array([[1.5, -1.5], [0, 0]]), what)


@pytest.mark.exercise("kernels.reference.softmax_grad")
def test_softmax_grad_is_the_slope_of_softmax(rng):
    x, g = rng.standard_normal((2, 4)), 1 + rng.standard_normal((2, 4))
    quotients = slopes(lambda x: np.sum(g * rows(naive_softmax, x)), x)
    got = reference.softmax_grad(g, rows(naive_softmax, x))
    same(got, quotients, "softmax_grad against a difference quotient", tolerance=1e-8)


# --- convolution ---


def read(x, n, a, b, c, padding):
    """Read pixel (a, b); outside the image it is 0, or that of the next tile."""
    H, W = x.shape[1:3]
    if padding == "circular":
        return float(x[n, a % H, b % W, c])
    return float(x[n, a, b, c]) if 0 <= a < H and 0 <= b < W else 0.0


def terms(x, w_shape, padding):
    """Go through all terms of a convolution -> yields index in y, index in w, the pixel of x"""
    K, _, C, O = w_shape
    (N, H, W, _), r = x.shape, K // 2
    for n, h, v, i, j, c in itertools.product(*map(range, (N, H, W, K, K, C))):
        pixel = read(x, n, h + i - r, v + j - r, c, padding)
        for o in range(O) if pixel else ():
            yield (n, h, v, o), (i, j, c, o), pixel


def naive_conv2d(x, w, padding):
    y = np.zeros((*x.shape[:3], w.shape[3]))
    for there, here, pixel in terms(x, w.shape, padding):
        y[there] += pixel * w[here]
    return y


def naive_conv2d_grad_w(x, g, K, padding):
    gw = np.zeros((K, K, x.shape[3], g.shape[3]))
    for there, here, pixel in terms(x, gw.shape, padding):
        gw[here] += pixel * g[there]
    return gw


CONVOLUTIONS = [  # shape of x, K, O
    ((2, 4, 3, 2), 3, 3),
    ((1, 3, 6, 3), 5, 2),
    ((2, 2, 5, 4), 1, 3),
    ((1, 1, 4, 2), 5, 2),
]
by_padding = pytest.mark.parametrize("padding", ["zeros", "circular"])


@pytest.mark.exercise("kernels.reference.conv2d")
@by_padding
@both_precisions
def test_conv2d_equals_loops(dtype, padding, rng):
    for shape, K, O in CONVOLUTIONS:
        x = (1 + rng.standard_normal(shape)).astype(dtype)
        w = rng.standard_normal((K, K, shape[3], O)).astype(dtype)
        expected = naive_conv2d(x, w.astype(np.float64), padding)
        what = f"conv2d of {shape} with windows {w.shape}, padding {padding!r}"
        same(reference.conv2d(x, w, padding), expected, what, dtype)


@pytest.mark.exercise("kernels.reference.conv2d")
def test_conv2d_moves_the_image_against_the_window():
    """A single weight at place (0, 2) of 3 x 3 reads the pixel above and to the right."""
    x, w = np.arange(1.0, 13).reshape(1, 3, 4, 1), np.zeros((3, 3, 1, 1))
    w[0, 2] = 1
    zeros = np.array([[0.0, 0, 0, 0], [2, 3, 4, 0], [6, 7, 8, 0]]).reshape(1, 3, 4, 1)
    circular = np.array([[10.0, 11, 12, 9], [2, 3, 4, 1], [6, 7, 8, 5]]).reshape(1, 3, 4, 1)
    what = "conv2d with one weight, top right: each pixel takes its neighbour there; padding"
    same(reference.conv2d(x, w, "zeros"), zeros, f"{what} 'zeros'")
    same(reference.conv2d(x, w, "circular"), circular, f"{what} 'circular'")


@pytest.mark.exercise("kernels.reference.conv2d_grad_w")
@by_padding
@both_precisions
def test_conv2d_grad_w_equals_loops(dtype, padding, rng):
    for shape, K, O in CONVOLUTIONS:
        x = (1 + rng.standard_normal(shape)).astype(dtype)
        g = rng.standard_normal((*shape[:3], O)).astype(dtype)
        expected = naive_conv2d_grad_w(x, g.astype(np.float64), K, padding)
        what = f"conv2d_grad_w of x {shape} and g {g.shape}, K = {K}, padding {padding!r}"
        same(reference.conv2d_grad_w(x, g, K, padding), expected, what, dtype)


@pytest.mark.exercise("kernels.reference.conv2d_grad_w")
@by_padding
def test_conv2d_grad_w_is_an_adjoint(padding, rng):
    """<conv(x, w), g> = <w, gw> for every w: the convolution is linear in w."""
    x, w, g = map(rng.standard_normal, ((2, 4, 5, 3), (3, 3, 3, 2), (2, 4, 5, 2)))
    gw = reference.conv2d_grad_w(x, g, 3, padding)
    same(gw, naive_conv2d_grad_w(x, g, 3, padding), f"conv2d_grad_w, padding {padding!r}")
    left, right = np.sum(naive_conv2d(x, w, padding) * g), np.sum(w * gw)
    unequal = f"<conv(x, w), g> = {left:.6g}, but <w, gw> = {right:.6g}; they must be equal"
    assert abs(left - right) <= 1e-11 * abs(left), unequal


# --- group norm ---


def groups_of(shape, G):
    """Go through the groups of all images -> yields n, k, the channels of group k"""
    for n, k in itertools.product(range(shape[0]), range(G)):
        yield n, k, slice(k * shape[-1] // G, (k + 1) * shape[-1] // G)


def naive_group_norm(x, scale, shift, G, eps):
    x, y = x.astype(np.float64), np.zeros(x.shape)
    mean, rstd = np.zeros((2, x.shape[0], G))
    for n, k, channels in groups_of(x.shape, G):
        values = list(map(float, x[n, ..., channels].ravel()))
        m = math.fsum(values) / len(values)
        r = 1 / math.sqrt(math.fsum((a - m) ** 2 for a in values) / len(values) + eps)
        y[n, ..., channels] = scale[channels] * ((x[n, ..., channels] - m) * r) + shift[channels]
        mean[n, k], rstd[n, k] = m, r
    return y, mean, rstd


# Shape of x, G.
NORMS = [((2, 4, 3, 6), 2), ((3, 5, 8), 4), ((2, 3, 2, 4), 1), ((2, 6, 1, 3), 3)]
RESULTS = ("y", "mean", "rstd")


def features(rng, shape):
    """Draw values whose mean and spread differ between images and between channels."""
    channel, image = np.arange(shape[-1]), np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    return rng.standard_normal(shape) * (1 + channel) * (1 + 2 * image) + channel - 3 * image


@pytest.mark.exercise("kernels.reference.group_norm")
@both_precisions
def test_group_norm_equals_loops(dtype, rng):
    for (shape, G), eps in itertools.product(NORMS, (0.5, 1e-5)):
        vectors = 2 + rng.standard_normal(shape[-1]), rng.standard_normal(shape[-1])
        x, scale, shift = (a.astype(dtype) for a in (features(rng, shape), *vectors))
        what = f"group_norm of a {np.dtype(dtype)} array {shape}, G = {G}, eps = {eps}"
        expected = naive_group_norm(x, scale.astype(np.float64), shift.astype(np.float64), G, eps)
        got = parts(reference.group_norm(x, scale, shift, G, eps), RESULTS, what)
        for name, a, b in zip(RESULTS, got, expected, strict=True):
            same(a, b, f"{what}: {name}", dtype)


@pytest.mark.exercise("kernels.reference.group_norm")
def test_group_norm_by_hand():
    """The channels are groups: (1, 3) has mean 2 and variance 1, (0, 8) mean 4, variance 16."""
    x = np.array([[[1.0, 0], [3, 8]]])
    scale, shift = np.array([10.0, 1]), np.array([0.0, 5])
    got = parts(reference.group_norm(x, scale, shift, 2, 0.0), RESULTS, "group_norm")
    expected = np.array([[[-10.0, 4], [10, 6]]]), np.array([[2.0, 4]]), np.array([[1, 0.25]])
    given = "channels (1, 3) and (0, 8), scale (10, 1), shift (0, 5), G = 2, eps = 0"
    for name, a, b in zip(RESULTS, got, expected, strict=True):
        same(a, b, f"group_norm of the {given}: {name}")


@pytest.mark.exercise("kernels.reference.group_norm")
def test_group_norm_far_from_0(rng):
    """mean(x^2) - mean^2 would lose all its digits here; a flat image has variance 0."""
    x, one = (3000 + rng.standard_normal((2, 8, 7, 4))).astype(np.float32), np.ones(4, np.float32)
    expected = naive_group_norm(x, one, 0 * one, 2, 1e-5)[0]
    with np.errstate(all="ignore"):
        got = reference.group_norm(x, one, 0 * one, 2, 1e-5)[0]
        same(got, expected, "group_norm of float32 values near 3000", np.float32, 1e-3)
        flat = reference.group_norm(np.full((1, 4, 4, 4), 3.0), np.ones(4), np.ones(4), 2, 1e-5)[0]
    same(flat, np.ones((1, 4, 4, 4)), "group_norm of an image that is 3 everywhere, shift = 1")


def naive_group_norm_grad(g, x, scale, mean, rstd):
    """Use the whole Jacobian of each group of n values.

    dx_hat_i / dx_j = rstd ((1 if i is j) - 1/n - x_hat_i x_hat_j / n)
    """
    g, x, scale, mean, rstd = (a.astype(np.float64) for a in (g, x, scale, mean, rstd))
    gx, x_hat = np.zeros(x.shape), np.zeros(x.shape)
    for n, k, channels in groups_of(x.shape, mean.shape[1]):
        x_hat[n, ..., channels] = (x[n, ..., channels] - mean[n, k]) * rstd[n, k]
        a = x_hat[n, ..., channels].ravel()
        jacobian = rstd[n, k] * (np.eye(len(a)) - 1 / len(a) - np.outer(a, a) / len(a))
        of_group = jacobian.T @ (g[n] * scale)[..., channels].ravel()
        gx[n, ..., channels] = of_group.reshape(x[n, ..., channels].shape)
    gscale, gshift = np.zeros(scale.shape), np.zeros(scale.shape)
    for i in np.ndindex(x.shape):
        gscale[i[-1]] += g[i] * x_hat[i]
        gshift[i[-1]] += g[i]
    return gx, gscale, gshift


GRADIENTS = ("gx", "gscale", "gshift")


@pytest.mark.exercise("kernels.reference.group_norm_grad")
@both_precisions
def test_group_norm_grad_equals_the_jacobian(dtype, rng):
    for (shape, G), eps in itertools.product(NORMS, (0.5, 1e-5)):
        x, scale = features(rng, shape), 2 + rng.standard_normal(shape[-1])
        g = 1 + rng.standard_normal(shape)
        _, mean, rstd = naive_group_norm(x, scale, scale, G, eps)
        args = [a.astype(dtype) for a in (g, x, scale, mean, rstd)]
        what = f"group_norm_grad for a {np.dtype(dtype)} array {shape}, G = {G}, eps = {eps}"
        got = parts(reference.group_norm_grad(*args), GRADIENTS, what)
        expected = naive_group_norm_grad(*args)
        for name, a, b in zip(GRADIENTS, got, expected, strict=True):
            same(a, b, f"{what}: {name}", dtype)


@pytest.mark.exercise("kernels.reference.group_norm_grad")
def test_group_norm_grad_is_the_slope_of_group_norm(rng):
    shape, G, eps = (2, 3, 1, 4), 2, 0.1
    x, g = features(rng, shape), 1 + rng.standard_normal(shape)
    scale, shift = 2 + rng.standard_normal(4), rng.standard_normal(4)
    _, mean, rstd = naive_group_norm(x, scale, shift, G, eps)
    got = parts(reference.group_norm_grad(g, x, scale, mean, rstd), GRADIENTS, "group_norm_grad")

    def loss(x=x, scale=scale, shift=shift):
        return np.sum(g * naive_group_norm(x, scale, shift, G, eps)[0])

    quotients = (
        slopes(lambda a: loss(x=a), x),
        slopes(lambda a: loss(scale=a), scale),
        slopes(lambda a: loss(shift=a), shift),
    )
    for name, a, b in zip(GRADIENTS, got, quotients, strict=True):
        same(a, b, f"group_norm_grad against a difference quotient: {name}", tolerance=1e-7)


@pytest.mark.exercise("kernels.reference.norm_silu_grad")
@both_precisions
def test_norm_silu_grad_passes_silu_then_the_norm(dtype, rng):
    for (shape, G), eps in itertools.product(NORMS, (0.5, 1e-5)):
        x, g = features(rng, shape), 1 + rng.standard_normal(shape)
        scale, shift = 2 + rng.standard_normal(shape[-1]), rng.standard_normal(shape[-1])
        u, mean, rstd = naive_group_norm(x, scale, shift, G, eps)
        what = f"norm_silu_grad for a {np.dtype(dtype)} array {shape}, G = {G}, eps = {eps}"
        args = [a.astype(dtype) for a in (g, x, scale, shift, mean, rstd)]
        got = parts(reference.norm_silu_grad(*args), GRADIENTS, what)
        expected = naive_group_norm_grad(g * silu_slope(u), x, scale, mean, rstd)
        for name, a, b in zip(GRADIENTS, got, expected, strict=True):
            same(a, b, f"{what}: {name}", dtype)


@pytest.mark.exercise("kernels.reference.norm_silu_grad")
def test_norm_silu_grad_is_the_slope_of_silu_after_the_norm(rng):
    shape, G, eps = (2, 3, 1, 4), 2, 0.1
    x, g = features(rng, shape), 1 + rng.standard_normal(shape)
    scale, shift = 2 + rng.standard_normal(4), rng.standard_normal(4)
    _, mean, rstd = naive_group_norm(x, scale, shift, G, eps)
    found = reference.norm_silu_grad(g, x, scale, shift, mean, rstd)
    got = parts(found, GRADIENTS, "norm_silu_grad")

    def loss(x=x, scale=scale, shift=shift):
        u = naive_group_norm(x, scale, shift, G, eps)[0]
        return np.sum(g * u / (1 + np.exp(-u)))

    quotients = (
        slopes(lambda a: loss(x=a), x),
        slopes(lambda a: loss(scale=a), scale),
        slopes(lambda a: loss(shift=a), shift),
    )
    for name, a, b in zip(GRADIENTS, got, quotients, strict=True):
        same(a, b, f"norm_silu_grad against a difference quotient: {name}", tolerance=1e-7)


# --- the optimiser ---


@pytest.mark.exercise("kernels.reference.clip_norm", changes=("g",))
@both_precisions
def test_clip_norm(dtype, rng):
    long = np.array([3, 0, -4], dtype)
    cases = [
        (long, 2.0, [1.2, 0, -1.6]),
        (long, 5.5, [3, 0, -4]),
        (long, 0.1, [0.06, 0, -0.08]),
        (long / 10, 2.0, [0.3, 0, -0.4]),
    ]
    wide = rng.standard_normal(200)
    cases += [
        (wide, 1.0, wide / math.sqrt(sum(a * a for a in wide))),
        (np.zeros(3), 1.0, np.zeros(3)),
    ]
    for g, largest, expected in cases:
        g = g.astype(dtype)
        length = math.sqrt(sum(float(a) ** 2 for a in g))
        norm = reference.clip_norm(g, largest)
        what = f"|g| = {length:.4g}, largest = {largest}"
        assert norm is not None, "it returns nothing: return the length before clipping"
        assert np.shape(norm) == (), f"{what}: expected one number, |g|, got {norm!r}"
        other = f"{what}: expected |g| before clipping, {length:.6g}, got {norm:.6g}"
        assert abs(norm - length) < 1e-5 * length + 1e-12, other
        same(g, np.asarray(expected, float), f"{what}: g afterwards", dtype, 1e-6)


def adamw(theta, gradients, lr, beta1, beta2, eps, decay):
    """Run Kingma & Ba's algorithm 1 with decoupled decay, with sums instead of running means.

    gradients: (steps, P) -> list of (theta, m, v) after each step
    """
    theta, out = theta.astype(float), []
    gradients = gradients.astype(float)
    for k in range(1, len(gradients) + 1):
        weights1, weights2 = (
            [(1 - b) * b ** (k - j) for j in range(1, k + 1)] for b in (beta1, beta2)
        )
        m = sum(w * g for w, g in zip(weights1, gradients[:k], strict=True))
        v = sum(w * g**2 for w, g in zip(weights2, gradients[:k], strict=True))
        weight1, weight2 = sum(weights1), sum(weights2)
        theta = (1 - lr * decay) * theta - lr * (m / weight1) / ((v / weight2) ** 0.5 + eps)
        out.append((theta, m, v))
    return out


RATES = {  # lr, beta1, beta2, eps, decay
    "a large eps and decay": (0.05, 0.8, 0.95, 0.1, 0.3),
    "as usual": (0.01, 0.9, 0.999, 1e-8, 0.0),
}


@pytest.mark.exercise("kernels.reference.adam_step", changes=("theta", "m", "v"))
@both_precisions
@pytest.mark.parametrize("rates", RATES)
def test_adam_step_equals_the_sums_written_out(rates, dtype, rng):
    theta = rng.standard_normal(7).astype(dtype)
    gradients = (1 + rng.standard_normal((5, 7))).astype(dtype)
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    expected, m, v = adamw(theta, gradients, *RATES[rates]), np.zeros(7, dtype), np.zeros(7, dtype)
    for k, g in enumerate(gradients, start=1):
        given = type(reference.adam_step(theta, g, m, v, k, *RATES[rates])).__name__
        returned = f"expected None, theta, m and v being changed in place; got {given}"
        assert given == "NoneType", returned
        right_theta, right_m, right_v = expected[k - 1]
        same(m, right_m, f"{rates}, m after step {k}", dtype, tolerance)
        same(v, right_v, f"{rates}, v after step {k}", dtype, tolerance)
        same(theta, right_theta, f"{rates}, theta after step {k}", dtype, tolerance)


@pytest.mark.exercise("kernels.reference.adam_step", changes=("theta", "m", "v"))
def test_adam_step_does_not_depend_on_scale():
    """With eps near 0, gradients a million times smaller give the same steps.

    The first step has size lr, whatever the gradient is.
    """
    g = np.array([1e-3, -5.0, 200.0])
    first, what = np.array([-0.01, 0.01, -0.01]), "the first step, from 0, is lr against g's sign"
    paths = []
    for scale in (1.0, 1e-6):
        theta, m, v = np.zeros(3), np.zeros(3), np.zeros(3)
        reference.adam_step(theta, scale * g, m, v, 1, 0.01, 0.9, 0.999, 1e-20, 0.0)
        same(theta, first, f"{what}: theta", tolerance=1e-6)
        reference.adam_step(theta, -0.5 * scale * g, m, v, 2, 0.01, 0.9, 0.999, 1e-20, 0.0)
        paths.append(theta.copy())
    same(paths[1], paths[0], "all gradients a million times smaller, theta", tolerance=1e-6)


@both_precisions
@pytest.mark.parametrize("keep", [0.75, 0.9, 0.125])
def test_ema_step_equals_the_weighted_sum(keep, dtype, rng):
    start, thetas = rng.standard_normal(5).astype(dtype), rng.standard_normal((4, 5)).astype(dtype)
    ema, tolerance = start.copy(), 1e-12 if dtype == np.float64 else 1e-5
    for k, theta in enumerate(thetas, start=1):
        given = type(reference.ema_step(ema, theta, keep)).__name__
        assert given == "NoneType", f"expected None, ema being changed in place; got {given}"
        weights = [(1 - keep) * keep ** (k - j) for j in range(1, k + 1)]
        expected = keep**k * start + sum(w * a for w, a in zip(weights, thetas[:k], strict=True))
        same(ema, expected, f"keep = {keep}, ema after step {k}", dtype, tolerance)


# --- attention ---


def chosen(rng, shape, dtype, height=0.0):
    """Choose the weights first, then queries and keys that have them.

    Query i is sqrt(C) times one of C directions, d[i]; the keys have the logarithms of the weights
    P[d[i]] along it, up to a number for each direction, at most `height`: then the scores are those
    logarithms, up to that number.
    shape: (N, L, C) -> q, k, v, and what attention is, P[d] v
    """
    N, L, C = shape
    found = []
    for _ in range(N):
        P, d = rng.integers(1, 9, (C, L)).astype(float), rng.permutation(np.arange(L) % C)
        P /= P.sum(1, keepdims=True)
        axes, _ = np.linalg.qr(rng.standard_normal((C, C)))
        axes = np.eye(C) if height else axes  # turned, high numbers would lose their digits
        lift = height * np.linspace(-1, 1, C)
        v = rng.standard_normal((L, C))
        q, k = math.sqrt(C) * np.eye(C)[d] @ axes, (np.log(P).T + lift) @ axes
        found.append((q, k, v, P[d] @ v))
    q, k, v, y = (np.stack(parts) for parts in zip(*found, strict=True))
    return q.astype(dtype), k.astype(dtype), v.astype(dtype), y


SHAPES = [(2, 5, 3), (1, 3, 9), (3, 4, 4), (2, 1, 6)]


@pytest.mark.exercise("kernels.reference.attention")
def test_attention_by_hand():
    """Two tokens of one channel, q = (0, 2).

    The first query attends to both keys equally, the second has scores 0 and 2 log 3.
    """
    rows_of = [0, 2], [0, math.log(3)], [5, -3]
    q, k, v = (np.array(a, dtype=float).reshape(1, 2, 1) for a in rows_of)
    expected = np.array([(5 - 3) / 2, (5 - 9 * 3) / 10]).reshape(1, 2, 1)
    what = "q = 0, 2; k = 0, log 3; v = 5, -3: weights (1/2, 1/2) and (1/10, 9/10)"
    same(reference.attention(q, k, v), expected, what)


@pytest.mark.exercise("kernels.reference.attention")
@both_precisions
def test_attention_with_chosen_weights(dtype, rng):
    for shape in SHAPES:
        q, k, v, y = chosen(rng, shape, dtype)
        what = f"q, k, v of shape {shape}, each query with weights of its own"
        got = reference.attention(q, k, v)
        reference.attention(v, q, k)
        same(got, y, what, dtype, {np.float32: 2e-5}.get(dtype))
        far = [np.asfortranarray(a) for a in (q, k, v)]
        same(reference.attention(*far), y, f"{what}, stored column by column", dtype, 2e-5)


@pytest.mark.exercise("kernels.reference.attention")
def test_attention_with_large_scores(rng):
    """Scores in the thousands: the weights are 0 and 1, and nothing overflows."""
    k = 100 * np.eye(4)[None] - 3000
    v = rng.standard_normal((1, 4, 4))
    got = reference.attention(100 * np.eye(4)[None], k, v)
    same(got, v, "each query finds its own key, with scores in the thousands")


@pytest.mark.exercise("kernels.reference.attention")
@both_precisions
def test_attention_with_scores_of_any_height(dtype, rng):
    """Scores near -4000 for some queries, 0 and 4000 for others: each query is by itself."""
    q, k, v, y = chosen(rng, (2, 6, 3), dtype, height=4000.0)
    what = "one query's scores are near 4000, another's near 0 or -4000"
    with np.errstate(all="ignore"):
        got = reference.attention(q, k, v)
    same(got, y, what, dtype, {np.float64: 1e-10, np.float32: 5e-3}[dtype])


def small(shape, a, b):
    """Make small eighths that look random: the same numbers wherever they are made -> array"""
    n = np.arange(math.prod(shape))
    return (((a * n * n + 3 * n + a) % b - b // 2) / 8).reshape(shape)


# The slopes of sum(g * attention(q, k, v)) for g, q, k, v = small(shape, ...), with a and b as in
# PRIMES: difference quotients with h = 1e-20, of sums written out, in decimal numbers of 60 digits.
PRIMES = ((5, 17), (7, 19), (11, 23), (3, 13))
SLOPES = {
    (2, 3, 2): {
        "gq": [
            -0.073002021,
            -0.0203168212,
            0.0529133947,
            0.00505160536,
            0.0194909761,
            -0.00234588696,
            0.111962399,
            0.0871520859,
            0.0755519257,
            0.0564923844,
            0.0949828284,
            0.0449570602,
        ],
        "gk": [
            0.0038871295,
            0.235119622,
            -0.00422154276,
            -0.0940762138,
            0.000334413265,
            -0.141043408,
            -0.0517665405,
            -0.0438398192,
            -0.0237056835,
            -0.0533663666,
            0.075472224,
            0.0972061857,
        ],
        "gv": [
            0.314881301,
            0.240802384,
            0.25031541,
            0.271972926,
            0.309803289,
            0.23722469,
            0.398806067,
            0.821147088,
            0.314831595,
            0.568892578,
            0.411362338,
            0.859960333,
        ],
    },
    (1, 2, 4): {
        "gq": [
            -0.0314756034,
            0,
            0.0314756034,
            -0.118033513,
            0.0696598086,
            0,
            -0.0696598086,
            0.261224282,
        ],
        "gk": [
            -0.155057419,
            0.0977811111,
            -0.0820433094,
            -0.0646283573,
            0.155057419,
            -0.0977811111,
            0.0820433094,
            0.0646283573,
        ],
        "gv": [
            -0.0280324522,
            0.453448908,
            0.904888878,
            0.424411987,
            0.153032452,
            0.296551092,
            0.845111122,
            0.575588013,
        ],
    },
}


@pytest.mark.exercise("kernels.reference.attention_grad")
def test_attention_grad_against_difference_quotients():
    for shape, expected in SLOPES.items():
        arrays = [small(shape, a, b) for a, b in PRIMES]
        results = parts(reference.attention_grad(*arrays), expected, "attention_grad")
        reference.attention_grad(*arrays[::-1])
        for got, (name, slope) in zip(results, expected.items(), strict=True):
            what = f"{name} for shape {shape}, against difference quotients"
            same(got, np.reshape(slope, shape), what, tolerance=1e-8)


def check_ways_that_change_nothing(shape, dtype, rng):
    """What must hold whatever the numbers are: ways to move q, k and v that leave y as it is."""
    q, k, v, _ = chosen(rng, shape, dtype)
    g = rng.standard_normal(shape).astype(dtype)
    gq, gk, gv = parts(reference.attention_grad(g, q, k, v), ["gq", "gk", "gv"], "attention_grad")
    for name, part in (("gq", gq), ("gk", gk), ("gv", gv)):
        what = f"{name}: {part.shape} {part.dtype}, expected {shape} {np.dtype(dtype)}"
        assert part.shape == shape and part.dtype == dtype, what
    tolerance = {np.float64: 1e-11, np.float32: 1e-4}[dtype]
    where = f"for shape {shape}, {np.dtype(dtype)}"
    turned = np.einsum("nic,nid->ncd", gq, q) - np.einsum("nic,nid->ncd", k, gk)
    what = f"gq and gk {where}: y stays when q M takes the place of q, and k M^-T that of k"
    assert np.abs(turned).max() < tolerance * max(np.abs(gq).max(), 1), what
    what = f"gk {where}: y stays when one number is added to all keys"
    assert np.abs(gk.sum(1)).max() < tolerance * max(np.abs(gk).max(), 1), what
    what = f"gv {where}: the weights of a query sum to 1, so the sum of gv is that of g"
    assert np.abs(gv.sum(1) - g.sum(1)).max() < tolerance * np.abs(g).max() * shape[1], what
    other = reference.attention_grad(g, q, k, v + rng.standard_normal(shape).astype(dtype))
    same(other[2], gv, f"gv {where}: v itself has no part in it", dtype, tolerance)
    far = reference.attention_grad(*(np.asfortranarray(a) for a in (g, q, k, v)))
    for name, part, again in zip(("gq", "gk", "gv"), (gq, gk, gv), far, strict=True):
        same(again, part, f"{name} {where}, stored column by column", dtype, tolerance)


@pytest.mark.exercise("kernels.reference.attention_grad")
@both_precisions
def test_attention_grad_along_ways_that_change_nothing(dtype, rng):
    for shape in [*SHAPES, (2, 7, 2)]:
        check_ways_that_change_nothing(shape, dtype, rng)


@pytest.mark.exercise("kernels.reference.attention_grad")
@both_precisions
def test_attention_grad_with_scores_of_any_height(dtype, rng):
    """Scores near -4000, 0 and 4000: as if all were near 0, since each query is by itself."""
    low, high = (chosen(np.random.default_rng(3), (2, 6, 3), dtype, h) for h in (1e-3, 4000.0))
    g = rng.standard_normal((2, 6, 3)).astype(dtype)
    with np.errstate(all="ignore"):
        (_, near, gv), (_, far, gv_far) = (reference.attention_grad(g, *a[:3]) for a in (low, high))
    tolerance = {np.float64: 1e-9, np.float32: 5e-3}[dtype]
    what = "where some queries have scores near 4000, others near 0 or -4000"
    same(far, near.astype(float), f"gk {what}", dtype, tolerance)
    same(gv_far, gv.astype(float), f"gv {what}", dtype, tolerance)
