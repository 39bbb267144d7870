"""Kernels against a second way: plain loops, closed forms and difference quotients. These tests grade exercises of lessons 05, 06 and 07.

test_kernels.py then compares the fast kernels with these. Tolerances are relative to the largest number expected.
"""

import itertools
import math

import numpy as np
import pytest

from tinydiff.kernels import reference

TOLERANCE = {np.float64: 1e-12, np.float32: 5e-6}
both_precisions = pytest.mark.parametrize(
    "dtype", [np.float64, np.float32], ids=["float64", "float32"]
)


def same(got, expected, what, dtype=np.float64, tolerance=None):
    """Assert that a kernel gave an array of this shape, precision and these numbers; `what` says which."""
    assert isinstance(got, np.ndarray), f"{what}: expected an array, got {type(got).__name__}"
    assert got.shape == expected.shape, (
        f"{what}: expected the shape {expected.shape}, got {got.shape}"
    )
    assert got.dtype == dtype, (
        f"{what}: expected {np.dtype(dtype)}, like the input, got {got.dtype}"
    )
    assert not np.isnan(got).any(), f"{what}: not a number (nan), where numbers are expected"
    largest = max(np.abs(expected).max(), 1e-3)
    error = np.abs(got - expected).max() / largest
    assert error <= (tolerance or TOLERANCE[dtype]), (
        f"{what}: off by {error:.1e} of the largest number expected"
    )


def parts(got, names, what):
    """Assert that as many results came as expected, in a tuple."""
    assert isinstance(got, tuple) and len(got) == len(names), (
        f"{what}: expected {len(names)} results: {', '.join(names)}"
    )
    return got


def slopes(f, x, h=1e-5):
    """Difference quotients of the number f(x) in every coordinate, one after the other. x: (...) -> (...)"""
    out = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[i] = h
        out[i] = (f(x + step) - f(x - step)) / (2 * h)
    return out


# --- silu ---


def silu_slope(x):
    """With hyperbolic functions: sigma = (1 + tanh(x/2)) / 2, and its slope is 1 / (4 cosh(x/2)^2)."""
    return (1 + np.tanh(x / 2)) / 2 + x / (4 * np.cosh(x / 2) ** 2)


@pytest.mark.exercise("kernels.reference.silu_grad")
def test_silu_grad_by_hand():
    """At x = log 3 sigma is 3/4, at x = -log 3 it is 1/4."""
    x, g, a = np.array([0, math.log(3), -math.log(3), 0]), np.array([1.0, 8, 8, -3]), math.log(3)
    expected = np.array([1 / 2, 6 + 3 / 2 * a, 2 - 3 / 2 * a, -3 / 2])
    same(
        reference.silu_grad(g, x),
        expected,
        "silu_grad at x = 0, log 3, -log 3, 0 with g = 1, 8, 8, -3",
    )


@pytest.mark.exercise("kernels.reference.silu_grad")
@both_precisions
def test_silu_grad_equals_its_closed_form(dtype, rng):
    for shape in [(7,), (2, 3, 5), (2, 4, 3, 5)]:
        x, g = (
            (4 * rng.standard_normal(shape)).astype(dtype),
            (2 + rng.standard_normal(shape)).astype(dtype),
        )
        expected = g.astype(np.float64) * silu_slope(x.astype(np.float64))
        same(
            reference.silu_grad(g, x),
            expected,
            f"silu_grad of a {np.dtype(dtype)} array {shape}",
            dtype,
        )


@pytest.mark.exercise("kernels.reference.silu_grad")
def test_silu_grad_is_the_slope_of_silu(rng):
    x, g = 2 * rng.standard_normal((3, 4)), 1 + rng.random((3, 4))
    quotients = slopes(lambda x: np.sum(g * x / (1 + np.exp(-x))), x)
    same(
        reference.silu_grad(g, x),
        quotients,
        "silu_grad beside a difference quotient",
        tolerance=1e-8,
    )


@pytest.mark.exercise("kernels.reference.silu_grad")
def test_silu_grad_far_out():
    """An overflow of exp must not become a nan."""
    with np.errstate(all="ignore"):
        got = reference.silu_grad(np.array([2.0, 2, 2, 2]), np.array([-1000.0, -60, 60, 1000]))
    same(got, np.array([0.0, 0, 2, 2]), "silu_grad at x = -1000, -60, 60, 1000 with g = 2")


# --- softmax ---


def naive_softmax(row):
    """y_i = 1 / sum_j exp(x_j - x_i). row: list of numbers -> list"""
    return [1 / math.fsum(math.exp(min(b - a, 700)) for b in row) for a in row]


def rows(f, *arrays):
    """Apply f to each row along the last axis."""
    flat = [a.astype(np.float64).reshape(-1, a.shape[-1]) for a in arrays]
    return np.array(
        [f(*(list(map(float, r)) for r in row)) for row in zip(*flat, strict=True)]
    ).reshape(arrays[0].shape)


@pytest.mark.exercise("kernels.reference.softmax")
def test_softmax_by_hand():
    x = np.log([[1.0, 3, 6], [2, 2, 4]])
    same(
        reference.softmax(x),
        np.array([[0.1, 0.3, 0.6], [0.25, 0.25, 0.5]]),
        "softmax of the logarithms of (1, 3, 6) and (2, 2, 4)",
    )


@pytest.mark.exercise("kernels.reference.softmax")
@both_precisions
def test_softmax_equals_loops(dtype, rng):
    for shape in [(3, 5), (2, 4, 3), (6,), (2, 3, 1, 4)]:
        x = (2 * rng.standard_normal(shape)).astype(dtype)
        same(
            reference.softmax(x),
            rows(naive_softmax, x),
            f"softmax over the last axis of a {np.dtype(dtype)} array {shape}",
            dtype,
        )


@pytest.mark.exercise("kernels.reference.softmax")
@both_precisions
def test_softmax_of_large_numbers(dtype):
    """Adding a number to a whole row changes nothing, and each row stands for itself."""
    for far in (1000.0, -1000.0):
        x = (np.array([[0, 1, 3], [2, 1, 0]]) + far).astype(dtype)
        with np.errstate(all="ignore"):
            same(
                reference.softmax(x),
                rows(naive_softmax, x),
                f"softmax of scores near {far:g}",
                dtype,
            )
    x = np.array([[2000, 2001, 2003], [-2000, -2001, -2003], [0, 5000, -5000]], dtype)
    with np.errstate(all="ignore"):
        same(
            reference.softmax(x),
            rows(naive_softmax, x),
            "softmax of rows near 2000, near -2000, and far apart",
            dtype,
        )


def naive_softmax_grad(g, y):
    """sum_j g_j dy_j/dx_i, where dy_j/dx_i = y_j ((1 if i is j) - y_i)."""
    return [
        math.fsum(g[j] * y[j] * ((i == j) - y[i]) for j in range(len(y))) for i in range(len(y))
    ]


def weights(rng, shape):
    """Positive numbers that sum to 1 over the last axis."""
    y = 0.1 + rng.random(shape)
    return y / y.sum(-1, keepdims=True)


@pytest.mark.exercise("kernels.reference.softmax_grad")
@both_precisions
def test_softmax_grad_equals_the_jacobian(dtype, rng):
    for shape in [(3, 5), (2, 4, 3), (6,), (2, 3, 1, 4)]:
        g, y = (1 + rng.standard_normal(shape)).astype(dtype), weights(rng, shape).astype(dtype)
        expected = rows(naive_softmax_grad, g, y)
        same(
            reference.softmax_grad(g, y),
            expected,
            f"softmax_grad over the last axis, {np.dtype(dtype)} {shape}",
            dtype,
        )


@pytest.mark.exercise("kernels.reference.softmax_grad")
def test_softmax_grad_by_hand():
    """y = (1/4, 3/4), g = (8, 0): g . y = 2, so gx = (1/4 (8 - 2), 3/4 (0 - 2))."""
    got = reference.softmax_grad(np.array([[8.0, 0], [5, 5]]), np.array([[0.25, 0.75], [0.5, 0.5]]))
    same(
        got,
        np.array([[1.5, -1.5], [0, 0]]),
        "softmax_grad of g = (8, 0) at y = (1/4, 3/4), of g = (5, 5) at y = (1/2, 1/2)",
    )


@pytest.mark.exercise("kernels.reference.softmax_grad")
def test_softmax_grad_is_the_slope_of_softmax(rng):
    x, g = rng.standard_normal((2, 4)), 1 + rng.standard_normal((2, 4))
    quotients = slopes(lambda x: np.sum(g * rows(naive_softmax, x)), x)
    same(
        reference.softmax_grad(g, rows(naive_softmax, x)),
        quotients,
        "softmax_grad beside a difference quotient",
        tolerance=1e-8,
    )


# --- convolution ---


def read(x, n, a, b, c, padding):
    """Read pixel (a, b), which may lie outside: there it is 0, or that of the next tile."""
    H, W = x.shape[1:3]
    if padding == "circular":
        return float(x[n, a % H, b % W, c])
    return float(x[n, a, b, c]) if 0 <= a < H and 0 <= b < W else 0.0


def terms(x, w_shape, padding):
    """Walk through all terms of a convolution: place in the output, place in the window, pixel that meets it there."""
    K, _, C, O = w_shape
    (N, H, W, _), r = x.shape, K // 2
    for n, h, v, i, j, c in itertools.product(
        range(N), range(H), range(W), range(K), range(K), range(C)
    ):
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


CONVOLUTIONS = [
    ((2, 4, 3, 2), 3, 3),
    ((1, 3, 6, 3), 5, 2),
    ((2, 2, 5, 4), 1, 3),
    ((1, 1, 4, 2), 5, 2),
]  # shape of x, K, O
by_padding = pytest.mark.parametrize("padding", ["zeros", "circular"])


@pytest.mark.exercise("kernels.reference.conv2d")
@by_padding
@both_precisions
def test_conv2d_equals_loops(dtype, padding, rng):
    for shape, K, O in CONVOLUTIONS:
        x, w = (
            (1 + rng.standard_normal(shape)).astype(dtype),
            rng.standard_normal((K, K, shape[3], O)).astype(dtype),
        )
        expected = naive_conv2d(x, w.astype(np.float64), padding)
        same(
            reference.conv2d(x, w, padding),
            expected,
            f"conv2d of {shape} with windows {w.shape}, padding {padding!r}",
            dtype,
        )


@pytest.mark.exercise("kernels.reference.conv2d")
def test_conv2d_moves_the_image_against_the_window():
    """A single weight at place (0, 2) of 3 x 3 reads the pixel above and to the right."""
    x, w = np.arange(1.0, 13).reshape(1, 3, 4, 1), np.zeros((3, 3, 1, 1))
    w[0, 2] = 1
    zeros = np.array([[0.0, 0, 0, 0], [2, 3, 4, 0], [6, 7, 8, 0]]).reshape(1, 3, 4, 1)
    circular = np.array([[10.0, 11, 12, 9], [2, 3, 4, 1], [6, 7, 8, 5]]).reshape(1, 3, 4, 1)
    what = "conv2d with one weight, at the window's place above right: each pixel takes its neighbour there; padding"
    same(reference.conv2d(x, w, "zeros"), zeros, f"{what} 'zeros'")
    same(reference.conv2d(x, w, "circular"), circular, f"{what} 'circular'")


@pytest.mark.exercise("kernels.reference.conv2d_grad_w")
@by_padding
@both_precisions
def test_conv2d_grad_w_equals_loops(dtype, padding, rng):
    for shape, K, O in CONVOLUTIONS:
        x, g = (
            (1 + rng.standard_normal(shape)).astype(dtype),
            rng.standard_normal((*shape[:3], O)).astype(dtype),
        )
        expected = naive_conv2d_grad_w(x, g.astype(np.float64), K, padding)
        what = f"conv2d_grad_w of x {shape} and g {g.shape}, K = {K}, padding {padding!r}"
        same(reference.conv2d_grad_w(x, g, K, padding), expected, what, dtype)


@pytest.mark.exercise("kernels.reference.conv2d_grad_w")
@by_padding
def test_conv2d_grad_w_is_an_adjoint(padding, rng):
    """<conv(x, w), g> = <w, gw> for every w: the convolution is linear in w."""
    x, w, g = (
        rng.standard_normal((2, 4, 5, 3)),
        rng.standard_normal((3, 3, 3, 2)),
        rng.standard_normal((2, 4, 5, 2)),
    )
    gw = reference.conv2d_grad_w(x, g, 3, padding)
    same(gw, naive_conv2d_grad_w(x, g, 3, padding), f"conv2d_grad_w, padding {padding!r}")
    left, right = np.sum(naive_conv2d(x, w, padding) * g), np.sum(w * gw)
    assert abs(left - right) <= 1e-11 * abs(left), (
        f"<conv(x, w), g> = {left:.6g}, but <w, gw> = {right:.6g}; they must be equal"
    )


# --- group norm ---


def groups_of(shape, G):
    """Walk through the groups: image n, group k -> n, k, the channels of the group."""
    for n, k in itertools.product(range(shape[0]), range(G)):
        yield n, k, slice(k * shape[-1] // G, (k + 1) * shape[-1] // G)


def naive_group_norm(x, scale, shift, G, eps):
    x, y, mean, rstd = (
        x.astype(np.float64),
        np.zeros(x.shape),
        np.zeros((x.shape[0], G)),
        np.zeros((x.shape[0], G)),
    )
    for n, k, channels in groups_of(x.shape, G):
        numbers = list(map(float, x[n, ..., channels].ravel()))
        m = math.fsum(numbers) / len(numbers)
        r = 1 / math.sqrt(math.fsum((a - m) ** 2 for a in numbers) / len(numbers) + eps)
        y[n, ..., channels] = scale[channels] * ((x[n, ..., channels] - m) * r) + shift[channels]
        mean[n, k], rstd[n, k] = m, r
    return y, mean, rstd


NORMS = [((2, 4, 3, 6), 2), ((3, 5, 8), 4), ((2, 3, 2, 4), 1), ((2, 6, 1, 3), 3)]  # shape of x, G


def features(rng, shape):
    """Numbers whose mean and spread differ from image to image and from channel to channel."""
    channel, image = np.arange(shape[-1]), np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    return rng.standard_normal(shape) * (1 + channel) * (1 + 2 * image) + channel - 3 * image


@pytest.mark.exercise("kernels.reference.group_norm")
@both_precisions
def test_group_norm_equals_loops(dtype, rng):
    for (shape, G), eps in itertools.product(NORMS, (0.5, 1e-5)):
        vectors = 2 + rng.standard_normal(shape[-1]), rng.standard_normal(shape[-1])
        x, scale, shift = (a.astype(dtype) for a in (features(rng, shape), *vectors))
        what, names = (
            f"group_norm of a {np.dtype(dtype)} array {shape}, G = {G}, eps = {eps}",
            ("y", "mean", "rstd"),
        )
        expected = naive_group_norm(x, scale.astype(np.float64), shift.astype(np.float64), G, eps)
        for name, a, b in zip(
            names,
            parts(reference.group_norm(x, scale, shift, G, eps), names, what),
            expected,
            strict=True,
        ):
            same(a, b, f"{what}: {name}", dtype)


@pytest.mark.exercise("kernels.reference.group_norm")
def test_group_norm_by_hand():
    """Two groups of one channel: (1, 3) has mean 2 and variance 1, (0, 8) mean 4 and variance 16."""
    x = np.array([[[1.0, 0], [3, 8]]])
    got = parts(
        reference.group_norm(x, np.array([10.0, 1]), np.array([0.0, 5]), 2, 0.0),
        ("y", "mean", "rstd"),
        "group_norm",
    )
    expected = np.array([[[-10.0, 4], [10, 6]]]), np.array([[2.0, 4]]), np.array([[1, 0.25]])
    for name, a, b in zip(("y", "mean", "rstd"), got, expected, strict=True):
        same(
            a,
            b,
            f"group_norm of the channels (1, 3) and (0, 8), scale (10, 1), shift (0, 5), G = 2, eps = 0: {name}",
        )


@pytest.mark.exercise("kernels.reference.group_norm")
def test_group_norm_far_from_0(rng):
    """mean(x^2) - mean^2 would lose all its digits here; a flat image has variance 0."""
    x, one = (3000 + rng.standard_normal((2, 8, 7, 4))).astype(np.float32), np.ones(4, np.float32)
    expected = naive_group_norm(x, one, 0 * one, 2, 1e-5)[0]
    with np.errstate(all="ignore"):
        same(
            reference.group_norm(x, one, 0 * one, 2, 1e-5)[0],
            expected,
            "group_norm of float32 numbers near 3000",
            np.float32,
            1e-3,
        )
        flat = reference.group_norm(np.full((1, 4, 4, 4), 3.0), np.ones(4), np.ones(4), 2, 1e-5)[0]
    same(flat, np.ones((1, 4, 4, 4)), "group_norm of an image that is 3 everywhere, shift = 1")


def naive_group_norm_grad(g, x, scale, mean, rstd):
    """With the whole Jacobian of each group: dx_hat_i / dx_j = rstd ((1 if i is j) - 1/n - x_hat_i x_hat_j / n)."""
    g, x, scale, mean, rstd = (a.astype(np.float64) for a in (g, x, scale, mean, rstd))
    gx, x_hat = np.zeros(x.shape), np.zeros(x.shape)
    for n, k, channels in groups_of(x.shape, mean.shape[1]):
        x_hat[n, ..., channels] = (x[n, ..., channels] - mean[n, k]) * rstd[n, k]
        a = x_hat[n, ..., channels].ravel()
        jacobian = rstd[n, k] * (np.eye(len(a)) - 1 / len(a) - np.outer(a, a) / len(a))
        gx[n, ..., channels] = (jacobian.T @ (g[n] * scale)[..., channels].ravel()).reshape(
            x[n, ..., channels].shape
        )
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
        x, scale, g = (
            features(rng, shape),
            2 + rng.standard_normal(shape[-1]),
            1 + rng.standard_normal(shape),
        )
        _, mean, rstd = naive_group_norm(x, scale, scale, G, eps)
        args = [a.astype(dtype) for a in (g, x, scale, mean, rstd)]
        what = f"group_norm_grad for a {np.dtype(dtype)} array {shape}, G = {G}, eps = {eps}"
        got, expected = (
            parts(reference.group_norm_grad(*args), GRADIENTS, what),
            naive_group_norm_grad(*args),
        )
        for name, a, b in zip(GRADIENTS, got, expected, strict=True):
            same(a, b, f"{what}: {name}", dtype)


@pytest.mark.exercise("kernels.reference.group_norm_grad")
def test_group_norm_grad_is_the_slope_of_group_norm(rng):
    shape, G, eps = (2, 3, 1, 4), 2, 0.1
    x, g = features(rng, shape), 1 + rng.standard_normal(shape)
    scale, shift = 2 + rng.standard_normal(4), rng.standard_normal(4)
    _, mean, rstd = naive_group_norm(x, scale, shift, G, eps)
    got = parts(reference.group_norm_grad(g, x, scale, mean, rstd), GRADIENTS, "group_norm_grad")
    quotients = (
        slopes(lambda x: np.sum(g * naive_group_norm(x, scale, shift, G, eps)[0]), x),
        slopes(lambda scale: np.sum(g * naive_group_norm(x, scale, shift, G, eps)[0]), scale),
        slopes(lambda shift: np.sum(g * naive_group_norm(x, scale, shift, G, eps)[0]), shift),
    )
    for name, a, b in zip(GRADIENTS, got, quotients, strict=True):
        same(a, b, f"group_norm_grad beside a difference quotient: {name}", tolerance=1e-7)


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
        assert norm is not None, "it returns nothing: the length before clipping is wanted"
        assert np.shape(norm) == (), f"{what}: expected one number, |g|, got {norm!r}"
        assert abs(norm - length) < 1e-5 * length + 1e-12, (
            f"{what}: the result is |g| before the clipping, {length:.6g}; got {norm:.6g}"
        )
        same(g, np.asarray(expected, float), f"{what}: g afterwards", dtype, 1e-6)


def adamw(theta, gradients, lr, beta1, beta2, eps, decay):
    """Kingma & Ba's algorithm 1 with decoupled decay, with sums written out instead of running means -> theta, m, v after all steps"""
    theta, out = theta.astype(float), []
    for k in range(1, len(gradients) + 1):
        m = sum(
            (1 - beta1) * beta1 ** (k - j) * gradients[j - 1].astype(float) for j in range(1, k + 1)
        )
        v = sum(
            (1 - beta2) * beta2 ** (k - j) * gradients[j - 1].astype(float) ** 2
            for j in range(1, k + 1)
        )
        weight1, weight2 = (
            sum((1 - b) * b ** (k - j) for j in range(1, k + 1)) for b in (beta1, beta2)
        )
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
    theta, gradients = (
        rng.standard_normal(7).astype(dtype),
        (1 + rng.standard_normal((5, 7))).astype(dtype),
    )
    expected, m, v = adamw(theta, gradients, *RATES[rates]), np.zeros(7, dtype), np.zeros(7, dtype)
    for k, g in enumerate(gradients, start=1):
        given = reference.adam_step(theta, g, m, v, k, *RATES[rates])
        assert given is None, (
            f"expected None, theta, m and v being changed in place; got {type(given).__name__}"
        )
        for name, got, right in zip(
            ("m", "v", "theta"),
            (m, v, theta),
            (*expected[k - 1][1:], expected[k - 1][0]),
            strict=True,
        ):
            same(
                got,
                right,
                f"{rates}, {name} after step {k}",
                dtype,
                1e-12 if dtype == np.float64 else 1e-5,
            )


@pytest.mark.exercise("kernels.reference.adam_step", changes=("theta", "m", "v"))
def test_adam_step_knows_no_scale():
    """With eps near 0, gradients a million times smaller give the same steps; the first has size lr whatever the gradient."""
    g = np.array([1e-3, -5.0, 200.0])
    paths = []
    for scale in (1.0, 1e-6):
        theta, m, v = np.zeros(3), np.zeros(3), np.zeros(3)
        reference.adam_step(theta, scale * g, m, v, 1, 0.01, 0.9, 0.999, 1e-20, 0.0)
        same(
            theta,
            np.array([-0.01, 0.01, -0.01]),
            "the first step, from 0, is lr against the sign of g: theta",
            tolerance=1e-6,
        )
        reference.adam_step(theta, -0.5 * scale * g, m, v, 2, 0.01, 0.9, 0.999, 1e-20, 0.0)
        paths.append(theta.copy())
    same(paths[1], paths[0], "all gradients a million times smaller, theta", tolerance=1e-6)


@pytest.mark.exercise("kernels.reference.ema_step", changes=("ema",))
@both_precisions
@pytest.mark.parametrize("keep", [0.75, 0.9, 0.125])
def test_ema_step_equals_the_weighted_sum(keep, dtype, rng):
    start, thetas = rng.standard_normal(5).astype(dtype), rng.standard_normal((4, 5)).astype(dtype)
    ema = start.copy()
    for k, theta in enumerate(thetas, start=1):
        given = reference.ema_step(ema, theta, keep)
        assert given is None, (
            f"expected None, ema being changed in place; got {type(given).__name__}"
        )
        expected = keep**k * start + sum(
            (1 - keep) * keep ** (k - j) * thetas[j - 1] for j in range(1, k + 1)
        )
        same(
            ema,
            expected,
            f"keep = {keep}, ema after step {k}",
            dtype,
            1e-12 if dtype == np.float64 else 1e-5,
        )


# --- attention ---


def attention_by_rows(q, k, v):
    """One query after the other, in plain Python: exp(score) / sum of them are the weights of the rows of v."""
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
    """Two tokens of one channel, q = (0, 2): the first query hears both keys alike, the second has scores 0 and 2 log 3."""
    q, k, v = (
        np.array(a, dtype=float).reshape(1, 2, 1) for a in ([0, 2], [0, math.log(3)], [5, -3])
    )
    expected = np.array([(5 - 3) / 2, (5 - 9 * 3) / 10]).reshape(1, 2, 1)
    same(
        reference.attention(q, k, v),
        expected,
        "q = 0, 2; k = 0, log 3; v = 5, -3: weights (1/2, 1/2) and (1/10, 9/10)",
    )


@pytest.mark.exercise("kernels.reference.attention")
@both_precisions
@pytest.mark.parametrize("shape", [(2, 5, 3), (1, 3, 9), (3, 4, 4), (2, 1, 6)], ids=str)
def test_attention_row_by_row(shape, dtype, rng):
    q, k, v = (rng.standard_normal(shape).astype(dtype) for _ in range(3))
    same(
        reference.attention(q, k, v),
        attention_by_rows(q, k, v),
        f"q, k, v of shape {shape}, each query by itself",
        dtype,
    )


@pytest.mark.exercise("kernels.reference.attention")
def test_attention_with_large_scores(rng):
    """Scores in the thousands: the weights are 0 and 1, and nothing overflows."""
    k = 100 * np.eye(4)[None] - 3000
    v = rng.standard_normal((1, 4, 4))
    same(
        reference.attention(100 * np.eye(4)[None], k, v),
        v,
        "each query finds its own key, with scores in the thousands",
    )


@pytest.mark.exercise("kernels.reference.attention_grad")
@pytest.mark.parametrize("shape", [(1, 2, 2), (2, 4, 3), (1, 3, 5), (2, 1, 4)], ids=str)
def test_attention_grad_against_difference_quotients(shape, rng):
    g, *inputs = (rng.standard_normal(shape) for _ in range(4))
    names = ["gq", "gk", "gv"]
    for i, (name, got) in enumerate(
        zip(
            names, parts(reference.attention_grad(g, *inputs), names, "attention_grad"), strict=True
        )
    ):

        def loss(a):
            return np.sum(
                g * attention_by_rows(*(a if j == i else b for j, b in enumerate(inputs)))
            )

        if shape[1] > 1 or name == "gv":
            same(
                got,
                slopes(loss, inputs[i]),
                f"{name} for shape {shape}, against difference quotients",
                tolerance=1e-8,
            )
        else:
            assert np.abs(got).max() < 1e-12, (
                f"{name} for a single token: its weight is 1 whatever q and k are, so {name} is 0"
            )


@pytest.mark.exercise("kernels.reference.attention_grad")
def test_attention_grad_keeps_float32(rng):
    """The derivative along one direction, in float64 by difference quotient, against the float32 gradient."""
    g, *inputs = (rng.standard_normal((2, 5, 3)).astype(np.float32) for _ in range(4))
    for i, got in enumerate(
        parts(reference.attention_grad(g, *inputs), ["gq", "gk", "gv"], "attention_grad")
    ):
        assert got.shape == (2, 5, 3) and got.dtype == np.float32, (
            f"result {i}: {got.shape} {got.dtype}, expected (2, 5, 3) float32"
        )
        away = rng.standard_normal((2, 5, 3))
        ends = [
            attention_by_rows(*(a + e * away if j == i else a for j, a in enumerate(inputs)))
            for e in (1e-5, -1e-5)
        ]
        expected = np.sum(g * (ends[0] - ends[1])) / 2e-5
        assert abs(np.sum(got * away) - expected) < 2e-5 * np.abs(got * away).sum(), (
            f"result {i} (0: gq, 1: gk, 2: gv) in float32, against a difference quotient"
        )
