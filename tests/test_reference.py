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


def attention_by_rows(q, k, v):
    """Attend query by query, in plain Python: row j of v has weight exp(score_j) / their sum."""
    q, k, v = (a.astype(np.float64) for a in (q, k, v))
    y = np.zeros(q.shape)
    for n, i in np.ndindex(q.shape[:2]):
        scores = [math.fsum(q[n, i] * k[n, j]) / math.sqrt(q.shape[2]) for j in range(k.shape[1])]
        weights = [math.exp(a - max(scores)) for a in scores]
        for j, w in enumerate(weights):
            y[n, i] += w / math.fsum(weights) * v[n, j]
    return y


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
@pytest.mark.parametrize("shape", [(2, 5, 3), (1, 3, 9), (3, 4, 4), (2, 1, 6)], ids=str)
def test_attention_row_by_row(shape, dtype, rng):
    q, k, v = (rng.standard_normal(shape).astype(dtype) for _ in range(3))
    what = f"q, k, v of shape {shape}, each query by itself"
    same(reference.attention(q, k, v), attention_by_rows(q, k, v), what, dtype)


@pytest.mark.exercise("kernels.reference.attention")
def test_attention_with_large_scores(rng):
    """Scores in the thousands: the weights are 0 and 1, and nothing overflows."""
    k = 100 * np.eye(4)[None] - 3000
    v = rng.standard_normal((1, 4, 4))
    got = reference.attention(100 * np.eye(4)[None], k, v)
    same(got, v, "each query finds its own key, with scores in the thousands")


@pytest.mark.exercise("kernels.reference.attention_grad")
@pytest.mark.parametrize("shape", [(1, 2, 2), (2, 4, 3), (1, 3, 5), (2, 1, 4)], ids=str)
def test_attention_grad_against_difference_quotients(shape, rng):
    g, *inputs = (rng.standard_normal(shape) for _ in range(4))
    names = ["gq", "gk", "gv"]
    results = parts(reference.attention_grad(g, *inputs), names, "attention_grad")
    for i, (name, got) in enumerate(zip(names, results, strict=True)):

        def loss(a):
            changed = [*inputs[:i], a, *inputs[i + 1 :]]
            return np.sum(g * attention_by_rows(*changed))

        if shape[1] > 1 or name == "gv":
            what = f"{name} for shape {shape}, against difference quotients"
            same(got, slopes(loss, inputs[i]), what, tolerance=1e-8)
        else:
            what = f"{name} for a single token: its weight is 1 whatever q and k are"
            assert np.abs(got).max() < 1e-12, f"{what}, so {name} is 0"


@pytest.mark.exercise("kernels.reference.attention_grad")
def test_attention_grad_keeps_float32(rng):
    """Its derivative along one direction equals a difference quotient taken in float64."""
    g, *inputs = (rng.standard_normal((2, 5, 3)).astype(np.float32) for _ in range(4))
    names = ["gq", "gk", "gv"]
    results = parts(reference.attention_grad(g, *inputs), names, "attention_grad")
    for i, (name, got) in enumerate(zip(names, results, strict=True)):
        what = f"{name}: {got.shape} {got.dtype}, expected (2, 5, 3) float32"
        assert got.shape == (2, 5, 3) and got.dtype == np.float32, what
        away = rng.standard_normal((2, 5, 3))
        ends = []
        for e in (1e-5, -1e-5):
            moved = [*inputs[:i], inputs[i] + e * away, *inputs[i + 1 :]]
            ends.append(attention_by_rows(*moved))
        expected = np.sum(g * (ends[0] - ends[1])) / 2e-5
        off = abs(np.sum(got * away) - expected)
        what = f"{name} in float32, against a difference quotient"
        assert off < 2e-5 * np.abs(got * away).sum(), what
