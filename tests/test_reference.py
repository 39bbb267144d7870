"""Reference kernels against plain loops, closed forms and difference quotients.

These tests grade exercises of lessons 05, 06 and 07. test_kernels.py then compares the fast kernels
with the reference. Tolerances are relative to the largest value expected.
"""

import math

import numpy as np
import pytest

from tinydiff.kernels import reference

TOLERANCE = {np.float64: 1e-12, np.float32: 5e-6}
PRECISIONS = [np.float64, np.float32]
both_precisions = pytest.mark.parametrize("dtype", PRECISIONS, ids=["float64", "float32"])


def require_array(got, shape, what, dtype):
    """Assert that a kernel gave an array of this shape and dtype, of numbers."""
    assert isinstance(got, np.ndarray), f"{what}: expected an array, got {type(got).__name__}"
    assert got.shape == shape, f"{what}: expected the shape {shape}, got {got.shape}"
    right = np.dtype(dtype)
    assert got.dtype == right, f"{what}: expected {right}, like the input, got {got.dtype}"
    assert not np.isnan(got).any(), f"{what}: not a number (nan), where numbers are expected"


def same(got, expected, what, dtype=np.float64, tolerance=None):
    """Assert that a kernel gave an array of this shape, dtype and these values.

    what: str, names the case in messages
    """
    require_array(got, expected.shape, what, dtype)
    largest = max(np.abs(expected).max(), 1e-3)
    error = np.abs(got - expected).max() / largest
    share = f"{error:.2g} times" if error >= 1 else f"{100 * error:.2g} % of"
    off = f"{what}: off by {share} the largest value expected"
    assert error <= (tolerance or TOLERANCE[dtype]), off


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


def wave(shape, k):
    """Make numbers in -1/3 .. 1/3 without a pattern, rounded, so that they are alike everywhere."""
    return np.round(64 * np.cos(k * (1 + np.arange(math.prod(shape))))).reshape(shape) / 192


def weighs(got, shape, expected, what, dtype=np.float64, tolerance=None):
    """Assert that a kernel gave an array whose entries, times cos 1, cos 2, ..., have this sum.

    expected: number stored here. Those of this file were computed in 50 digits, number by number as
    the lesson says it; of gradients by difference quotients.
    """
    require_array(got, shape, what, dtype)
    shares = got.astype(float).ravel() * np.cos(1 + np.arange(got.size))
    error, most = abs(shares.sum() - expected), max(np.abs(shares).sum(), 1e-3)
    off = f"{what}: times cos 1, cos 2, ... its entries add up to {shares.sum():.6g}"
    assert error <= (tolerance or TOLERANCE[dtype]) * most, f"{off}, expected {expected:.6g}"


# --- silu ---


@pytest.mark.exercise("kernels.reference.silu_grad")
def test_silu_grad_by_hand():
    """At x = log 3 sigma is 3/4, at x = -log 3 it is 1/4."""
    x, g, a = np.array([0, math.log(3), -math.log(3), 0]), np.array([1.0, 8, 8, -3]), math.log(3)
    expected = np.array([1 / 2, 6 + 3 / 2 * a, 2 - 3 / 2 * a, -3 / 2])
    what = "silu_grad at x = 0, log 3, -log 3, 0 with g = 1, 8, 8, -3"
    same(reference.silu_grad(g, x), expected, what)


SLOPES_OF_SILU = {  # x, the slope of silu there
    -38.0: -1.16147913305777e-15,
    -25.0: -3.33310652749686e-10,
    -18.0: -2.58909647541785e-07,
    -8.0: -0.00234655123558532,
    -1.25: 0.00631915508468758,
    -0.5: 0.260038812697348,
    0.0: 0.5,
    0.75: 0.842599944496753,
    2.5: 1.09940111134153,
    10.0: 1.00040856020866,
    20.0: 1.00000003916192,
    30.0: 1.00000000000271,
}


@pytest.mark.exercise("kernels.reference.silu_grad")
@both_precisions
def test_silu_grad_where_it_bends_and_far_out(dtype):
    x, slope = np.array([*SLOPES_OF_SILU], dtype), np.array([*SLOPES_OF_SILU.values()])
    for g in (np.ones(len(x), dtype), (2 + wave(x.shape, 2.3)).astype(dtype)):
        got = reference.silu_grad(g, x)
        same(got, g * slope, f"silu_grad at x = {', '.join(map(str, SLOPES_OF_SILU))}", dtype)
        for a, b in zip(got, g * slope, strict=True):
            assert abs(a - b) <= TOLERANCE[dtype], f"a slope came out as {a:.6g}, not {b:.6g}"


@pytest.mark.exercise("kernels.reference.silu_grad")
@both_precisions
def test_silu_grad_mirrored(dtype):
    """silu(x) - silu(-x) = x, so the slopes at x and at -x add up to 1."""
    for shape in [(), (7,), (2, 3, 5), (2, 4, 3, 5)]:
        x, g = 20 * wave(shape, 1.7).astype(dtype), (2 + wave(shape, 2.3)).astype(dtype)
        both = reference.silu_grad(g, x), reference.silu_grad(g, -x)
        what = f"silu_grad of a {np.dtype(dtype)} array {shape}, at x and at -x"
        same(np.asarray(both[0] + both[1]), g, f"{what}, added", dtype)


@pytest.mark.exercise("kernels.reference.silu_grad")
def test_silu_grad_is_the_slope_of_silu(rng):
    x, g = 2 * rng.standard_normal((3, 4)), 1 + rng.random((3, 4))
    quotients = slopes(lambda x: np.sum(g * x / (1 + np.exp(-x))), x)
    what = "silu_grad against a difference quotient"
    same(reference.silu_grad(g, x), quotients, what, tolerance=1e-8)


@pytest.mark.exercise("kernels.reference.silu_grad")
@both_precisions
def test_silu_grad_far_out(dtype):
    """An overflow of exp must not become a nan: exp(89) is infinite in float32."""
    x = np.array([-1000, -100, -89, 89, 100, 1000], dtype)
    with np.errstate(all="ignore"):
        got = reference.silu_grad(np.full(6, 2, dtype), x)
    what = "silu_grad at x = -1000, -100, -89, 89, 100, 1000 with g = 2"
    same(got, np.array([0.0, 0, 0, 2, 2, 2]), what, dtype)


# --- softmax ---


def assert_weights(y, x, what, dtype, tolerance=None):
    """Assert that y are the weights of scores x: rows sum to 1, and y_i / y_j = exp(x_i - x_j)."""
    tolerance = tolerance or TOLERANCE[dtype]
    require_array(y, x.shape, what, dtype)
    assert np.all(y > 0), f"{what}: the smallest weight is {y.min():.3g}; all are positive"
    sums = y.sum(-1, dtype=float)
    far = sums.flat[np.argmax(np.abs(sums - 1))]
    assert abs(far - 1) <= tolerance, f"{what}: weights of a row sum to {far:.6g}, expected 1"
    away = np.log(y.astype(float)) - x
    off = np.exp(np.ptp(away, axis=-1).max())
    ratio = "y_i / y_j = exp(x_i - x_j) within a row"
    assert off <= 1 + 2 * tolerance, f"{what}: {ratio}; here it is off by a factor of {off:.6g}"


@pytest.mark.exercise("kernels.reference.softmax")
def test_softmax_by_hand():
    x = np.log([[1.0, 3, 6], [2, 2, 4]])
    expected = np.array([[0.1, 0.3, 0.6], [0.25, 0.25, 0.5]])
    same(reference.softmax(x), expected, "softmax of the logarithms of (1, 3, 6) and (2, 2, 4)")


@pytest.mark.exercise("kernels.reference.softmax")
@both_precisions
def test_softmax_sums_to_1_and_keeps_ratios(dtype, rng):
    for shape in [(3, 5), (2, 4, 3), (6,), (2, 3, 1, 4), (5, 1)]:
        x = (2 * rng.standard_normal(shape)).astype(dtype)
        what = f"softmax over the last axis of a {np.dtype(dtype)} array {shape}"
        assert_weights(reference.softmax(x), x, what, dtype)


@pytest.mark.exercise("kernels.reference.softmax")
@both_precisions
def test_softmax_of_large_numbers(dtype):
    """Adding a number to a whole row changes nothing, and each row is independent."""
    rough = 1e-11 if dtype == np.float64 else 1e-3  # log(sum(exp(x))) may be rounded to its size
    with np.errstate(all="ignore"):
        got = reference.softmax(np.array([[0, 5000, -5000], [5000, 5000, 0]], dtype))
        what = "softmax of (0, 5000, -5000) and of (5000, 5000, 0)"
        same(got, np.array([[0, 1, 0], [0.5, 0.5, 0]]), what, dtype, rough)
        for far in (1000.0, -1000.0):
            x = (np.array([[0, 1, 3], [2, 1, 0], [-40, 0, 0]]) + far).astype(dtype)
            assert_weights(reference.softmax(x), x, f"softmax of scores near {far:g}", dtype, rough)
        x = np.array([[2000, 2001, 2003], [-2000, -2001, -2003]], dtype)
        what = "softmax of rows near 2000 and near -2000"
        assert_weights(reference.softmax(x), x, what, dtype, rough)


def weights(rng, shape):
    """Draw positive numbers that sum to 1 over the last axis."""
    y = 0.1 + rng.random(shape)
    return y / y.sum(-1, keepdims=True)


@pytest.mark.exercise("kernels.reference.softmax_grad")
@both_precisions
def test_softmax_grad_shares_out_nothing_in_all(dtype, rng):
    """What one weight gains the others lose; a score's share is its weight times a distance of g.

    So a row of gx sums to 0, and gx / y differs from g by one number in the whole row.
    """
    for shape in [(3, 5), (2, 4, 3), (6,), (2, 3, 1, 4), (5, 1)]:
        g, y = (1 + rng.standard_normal(shape)).astype(dtype), weights(rng, shape).astype(dtype)
        y.reshape(-1, shape[-1])[0] = 1e-4  # very unequal weights
        y.reshape(-1, shape[-1])[0, -1] = 1 - 1e-4 * (shape[-1] - 1)
        got = reference.softmax_grad(g, y)
        what = f"softmax_grad over the last axis, {np.dtype(dtype)} {shape}"
        require_array(got, shape, what, dtype)
        total = np.abs(got.astype(float).sum(-1)).max()
        assert total <= 5 * TOLERANCE[dtype], f"{what}: a row sums to {total:.3g}, expected 0"
        away = np.ptp(got.astype(float) / y - g, axis=-1).max()
        apart = f"gx / y - g differs by {away:.3g} within a row, where it is one number"
        assert away <= 5 * TOLERANCE[dtype], f"{what}: {apart}"


@pytest.mark.exercise("kernels.reference.softmax_grad")
def test_softmax_grad_by_hand():
    """y = (1/4, 3/4), g = (8, 0): g . y = 2, so gx = (1/4 (8 - 2), 3/4 (0 - 2))."""
    got = reference.softmax_grad(np.array([[8.0, 0], [5, 5]]), np.array([[0.25, 0.75], [0.5, 0.5]]))
    what = "softmax_grad of g = (8, 0) at y = (1/4, 3/4), of g = (5, 5) at y = (1/2, 1/2)"
    same(got, np.array([[1.5, -1.5], [0, 0]]), what)


@pytest.mark.exercise("kernels.reference.softmax_grad")
def test_softmax_grad_where_weights_are_0():
    g, y = np.array([[8.0, 3, -2], [1, 6, 2]]), np.array([[0.0, 1, 0], [0.5, 0, 0.5]])
    expected = np.array([[0.0, 0, 0], [-0.25, 0, 0.25]])
    same(reference.softmax_grad(g, y), expected, "softmax_grad at y = (0, 1, 0) and (1/2, 0, 1/2)")


# --- convolution ---


CONVOLUTIONS = {  # shape of x, K, O: what conv2d adds up to, and conv2d_grad_w
    ((1, 3, 6, 3), 5, 2): {
        "zeros": (0.951147535982712, 0.35271681541493),
        "circular": (-0.0851008671669722, 0.675726836025093),
    },
    ((3, 4, 3, 2), 3, 3): {
        "zeros": (-0.29939574030894, 0.0197649261016036),
        "circular": (0.326264048323154, 0.0236448696610757),
    },
    ((2, 2, 5, 4), 1, 3): {
        "zeros": (0.0083819626379891, -0.059391907665939),
        "circular": (0.0083819626379891, -0.059391907665939),
    },
    ((1, 1, 4, 2), 5, 2): {
        "zeros": (-0.195588564175134, 0.13009809135434),
        "circular": (0.591882193665747, 0.0051993876639269),
    },
    ((2, 5, 1, 1), 3, 1): {
        "zeros": (0.0368236896641102, -0.0844337250349335),
        "circular": (-0.0331724432277147, -0.216990265859244),
    },
    ((1, 2, 3, 1), 1, 1): {
        "zeros": (0.109781383857732, -0.0530716864569372),
        "circular": (0.109781383857732, -0.0530716864569372),
    },
}
by_padding = pytest.mark.parametrize("padding", ["zeros", "circular"])


@pytest.mark.exercise("kernels.reference.conv2d")
@by_padding
@both_precisions
def test_conv2d_adds_up_right(dtype, padding):
    for (shape, K, O), numbers in CONVOLUTIONS.items():
        w_shape = (K, K, shape[3], O)
        x, w = wave(shape, 1.7).astype(dtype), wave(w_shape, 2.3).astype(dtype)
        what = f"conv2d of {shape} with windows {w_shape}, padding {padding!r}"
        weighs(reference.conv2d(x, w, padding), (*shape[:3], O), numbers[padding][0], what, dtype)


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
def test_conv2d_grad_w_adds_up_right(dtype, padding):
    for (shape, K, O), numbers in CONVOLUTIONS.items():
        x, g = wave(shape, 1.7).astype(dtype), wave((*shape[:3], O), 2.3)
        what = f"conv2d_grad_w of x {shape} and g {g.shape}, K = {K}, padding {padding!r}"
        for precision in PRECISIONS:  # of g; the result has that of x
            got = reference.conv2d_grad_w(x, g.astype(precision), K, padding)
            coarser = max(TOLERANCE[dtype], TOLERANCE[precision])
            weighs(got, (K, K, shape[3], O), numbers[padding][1], what, dtype, coarser)


@pytest.mark.exercise("kernels.reference.conv2d_grad_w")
def test_conv2d_grad_w_of_a_single_pixel():
    """g is 1 at one pixel, (1, 2): each place of the window meets its own neighbour there."""
    x, g = np.arange(1.0, 13).reshape(1, 3, 4, 1), np.zeros((1, 3, 4, 1))
    g[0, 1, 2] = 1
    right = np.array([[2.0, 3, 4], [6, 7, 8], [10, 11, 12]]).reshape(3, 3, 1, 1)
    what = "conv2d_grad_w with g = 1 at pixel (1, 2), else 0: the neighbourhood of x"
    same(reference.conv2d_grad_w(x, g, 3, "zeros"), right, what)
    g[0, 1, 2], g[0, 0, 0] = 0, 1
    right = np.array([[12.0, 9, 10], [4, 1, 2], [8, 5, 6]]).reshape(3, 3, 1, 1)
    what = "conv2d_grad_w with g = 1 at pixel (0, 0), else 0: the neighbourhood of x, wrapped round"
    same(reference.conv2d_grad_w(x, g, 3, "circular"), right, what)


# --- group norm ---


NORMS = {  # shape of x, G, eps: what the gradients of group_norm add up to, and of norm_silu
    ((2, 4, 3, 6), 2, 0.5): (
        (0.273547536625906, 9.18140514023997, -7.67805014065843),
        (0.176922182446943, 12.2481703720723, 3.48928203410521),
    ),
    ((3, 5, 8), 4, 1e-05): (
        (-0.377813558040919, 0.507790402635454, 4.08676649448689),
        (-0.731275832472938, 0.814070881410781, 3.58769839562335),
    ),
    ((2, 3, 2, 4), 1, 0.25): (
        (0.093096745868097, -1.60552461172855, -18.7212179374722),
        (0.131883536979386, -4.16942210837367, -10.4496417532659),
    ),
    ((2, 6, 1, 3), 3, 1e-05): (
        (-0.158038254435445, -0.365835848457184, -12.3864470890593),
        (0.751062252763836, -3.01503777400585, -7.45238447243403),
    ),
    ((3, 6), 2, 0.1): (
        (-0.268190545296765, -2.39377356289919, -2.02234310520667),
        (-0.09622561446939, -1.184972812094, -1.22760475029157),
    ),
    ((2, 4), 4, 0.5): ((0.0, 0.0, -3.08216694351143), (0.0, 0.0, -1.85793772984273)),
    ((1, 2, 1, 2, 4), 2, 1e-05): (
        (0.157746450058624, -0.0253444725351398, -6.19324415821843),
        (0.383832653559302, -1.60277559091348, -1.62580753215085),
    ),
}
RESULTS = ("y", "mean", "rstd")


def bags(shape, G, eps):
    """Fill each group of each image with evenly spaced numbers, in a mixed order.

    n numbers from 1 - n to n - 1 have the mean 0 and the variance (n^2 - 1) / 3
    -> x, (x - mean) rstd, mean (N, G), rstd (N, G)
    """
    (N, *_, C), n = shape, math.prod(shape[1:]) // G
    order = np.argsort(wave((N, G, n), 1.9), axis=2, kind="stable")
    width = 1 + 5 * abs(wave((N, G), 1.3))
    mean, rstd = 9 * wave((N, G), 2.9), 1 / np.sqrt(width**2 * (n * n - 1) / 3 + eps)
    steps = width[..., None] * (2 * order - n + 1)
    arrange = lambda a: a.reshape(N, G, -1, C // G).swapaxes(1, 2).reshape(shape)
    return arrange(mean[..., None] + steps), arrange(steps * rstd[..., None]), mean, rstd


def scales(C):
    """Give a scale (C,), one of whose entries is 0, and a shift (C,)."""
    scale, shift = 2 + 3 * wave((C,), 1.1), 3 * wave((C,), 2.7)
    scale[C // 2] = 0
    return scale, shift


@pytest.mark.exercise("kernels.reference.group_norm")
@both_precisions
def test_group_norm_of_known_mean_and_spread(dtype):
    for (shape, G, eps), _ in NORMS.items():
        x, x_hat, mean, rstd = bags(shape, G, eps)
        scale, shift = scales(shape[-1])
        what = f"group_norm of a {np.dtype(dtype)} array {shape}, G = {G}, eps = {eps}"
        args = [a.astype(dtype) for a in (x, scale, shift)]
        got = parts(reference.group_norm(*args, G, eps), RESULTS, what)
        for name, a, b in zip(RESULTS, got, (scale * x_hat + shift, mean, rstd), strict=True):
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
    wide = np.ones(4), np.zeros(4), 2, 1e-5
    with np.errstate(all="ignore"):
        near = reference.group_norm(x.astype(float) - 3000, *wide)[0]
        got = reference.group_norm(x, one, 0 * one, 2, 1e-5)[0]
        same(got, near, "group_norm of float32 values near 3000", np.float32, 1e-3)
        flat = reference.group_norm(np.full((1, 4, 4, 4), 3.0), np.ones(4), np.ones(4), 2, 1e-5)[0]
    same(flat, np.ones((1, 4, 4, 4)), "group_norm of an image that is 3 everywhere, shift = 1")


GRADIENTS = ("gx", "gscale", "gshift")


@pytest.mark.exercise("kernels.reference.group_norm_grad")
@both_precisions
def test_group_norm_grad_adds_up_right(dtype):
    for (shape, G, eps), (expected, _) in NORMS.items():
        x, _, mean, rstd = bags(shape, G, eps)
        (scale, _), g = scales(shape[-1]), 1 + 3 * wave(shape, 2.3)
        args = [a.astype(dtype) for a in (g, x, scale, mean, rstd)]
        what = f"group_norm_grad for a {np.dtype(dtype)} array {shape}, G = {G}, eps = {eps}"
        got = parts(reference.group_norm_grad(*args), GRADIENTS, what)
        shapes = shape, scale.shape, scale.shape
        for name, a, its, b in zip(GRADIENTS, got, shapes, expected, strict=True):
            weighs(a, its, b, f"{what}: {name}", dtype)


@pytest.mark.exercise("kernels.reference.group_norm_grad")
def test_group_norm_grad_takes_out_two_directions():
    """With eps = 0 a bag may be moved or stretched and y stays: gx has no part along that."""
    shape, G = (2, 3, 1, 4), 2
    x, x_hat, mean, rstd = bags(shape, G, 0.0)
    g, scale = 1 + 3 * wave(shape, 2.3), scales(4)[0]
    gx = parts(reference.group_norm_grad(g, x, scale, mean, rstd), GRADIENTS, "group_norm_grad")[0]
    for away, name in ((np.ones(shape), "(1, 1, ..., 1)"), (x_hat, "x_hat")):
        along = (gx * away).reshape(2, 3, 2, 2).sum((1, 3))
        found = f"gx has a part along {name}: {np.abs(along).max():.3g} in a bag, expected 0"
        assert np.abs(along).max() < 1e-12, found


@pytest.mark.exercise("kernels.reference.norm_silu_grad")
@both_precisions
def test_norm_silu_grad_passes_silu_then_the_norm(dtype):
    for (shape, G, eps), (_, expected) in NORMS.items():
        x, _, mean, rstd = bags(shape, G, eps)
        (scale, shift), g = scales(shape[-1]), 1 + 3 * wave(shape, 2.3)
        what = f"norm_silu_grad for a {np.dtype(dtype)} array {shape}, G = {G}, eps = {eps}"
        args = [a.astype(dtype) for a in (g, x, scale, shift, mean, rstd)]
        got = parts(reference.norm_silu_grad(*args), GRADIENTS, what)
        shapes = shape, scale.shape, scale.shape
        for name, a, its, b in zip(GRADIENTS, got, shapes, expected, strict=True):
            weighs(a, its, b, f"{what}: {name}", dtype)


@pytest.mark.exercise("kernels.reference.norm_silu_grad")
def test_norm_silu_grad_far_out():
    """Where the norm gives thousands, or 0, silu's slope is 1, 0 or 1/2: the norm's own is left."""
    x, _, mean, rstd = bags((1, 2, 2, 2), 1, 0.5)
    g, shift = 1 + 3 * wave(x.shape, 2.3), np.zeros(2)
    for scale, expected in ((5000.0, -0.838446530693184), (-5000.0, -0.700332188414636)):
        with np.errstate(all="ignore"):
            got = reference.norm_silu_grad(g, x, np.full(2, scale), shift, mean, rstd)[1]
        weighs(got, (2,), expected, f"norm_silu_grad with scale {scale:g}: gscale")
    flat = np.zeros((1, 2, 2, 2)), np.zeros((1, 1)), np.ones((1, 1))
    got = reference.norm_silu_grad(g, flat[0], np.ones(2), np.zeros(2), *flat[1:])[2]
    same(got, g.sum((0, 1, 2)) / 2, "norm_silu_grad of an image of zeros: gshift, the sum of g / 2")


# --- what all of these share ---


def kernel_call(name, *args):
    """Make a case for the next test, which grades the exercise of this name."""
    return pytest.param(name, args, marks=pytest.mark.exercise(f"kernels.reference.{name}"))


IMAGE = wave((2, 3, 4, 4), 1.7)
BAGS = bags(IMAGE.shape, 2, 0.5)
VECTORS, STATISTICS = scales(4), BAGS[2:]


def as_list(given):
    return [np.asarray(a) for a in given] if isinstance(given, tuple) else [given]


@pytest.mark.parametrize(
    "name, args",
    [
        kernel_call("silu_grad", IMAGE, wave(IMAGE.shape, 2.3)),
        kernel_call("softmax", IMAGE),
        kernel_call("softmax_grad", IMAGE, weights(np.random.default_rng(7), IMAGE.shape)),
        kernel_call("conv2d", IMAGE, wave((3, 3, 4, 2), 2.3), "zeros"),
        kernel_call("conv2d", IMAGE, wave((1, 1, 4, 2), 2.3), "circular"),
        kernel_call("conv2d_grad_w", IMAGE, wave((2, 3, 4, 2), 2.3), 3, "zeros"),
        kernel_call("conv2d_grad_w", IMAGE, wave((2, 3, 4, 2), 2.3), 1, "circular"),
        kernel_call("group_norm", BAGS[0], *VECTORS, 2, 0.5),
        kernel_call("group_norm_grad", IMAGE, BAGS[0], VECTORS[0], *STATISTICS),
        kernel_call("norm_silu_grad", IMAGE, BAGS[0], *VECTORS, *STATISTICS),
    ],
)
def test_results_depend_on_values_alone(name, args, monkeypatch):
    """Not on how an array lies in memory, nor on what is left in memory, nor on earlier calls."""

    def used(like, dtype=float, **rest):
        """Give memory that is full of nan, as what np.empty gives may well be."""
        return np.full(getattr(like, "shape", like), np.nan, getattr(like, "dtype", dtype))

    monkeypatch.setattr(np, "empty", used)
    monkeypatch.setattr(np, "empty_like", used)
    f = getattr(reference, name)
    turn = lambda a, k=1: np.asfortranarray(k * a) if isinstance(a, np.ndarray) else a
    first = as_list(f(*args))
    kept = [a.copy() for a in first]
    turned = as_list(f(*map(turn, args)))
    f(*(turn(a, 1.5) for a in args))
    for a, b, c in zip(first, kept, turned, strict=True):
        assert not np.isnan(a).any(), f"{name}: nan, from memory that np.empty gave, not filled"
        assert np.array_equal(a, b), f"{name}: a later call changed the result of an earlier one"
        assert np.allclose(b, c, rtol=1e-12, atol=1e-12), (
            f"{name}: another result when the axes of its inputs lie the other way round in memory"
        )


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
        (np.array([0.0, 5, 0]), 4.99, [0, 4.99, 0]),
        (long, 1e-5, [6e-6, 0, -8e-6]),
        (long, math.inf, [3, 0, -4]),
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
        tolerance = 1e-12 if dtype == np.float64 else 1e-6
        assert abs(norm - length) <= 10 * tolerance * length, other
        scaled = np.asarray(expected, float) / min(largest, 1)  # small ones in proportion
        same(g / dtype(min(largest, 1)), scaled, f"{what}: g afterwards", dtype, tolerance)


RATES = {  # lr, beta1, beta2, eps, decay: what m, v and theta add up to, over six steps
    (0.05, 0.8, 0.95, 0.1, 0.3): (-7.39153940554984, -102.887508029272, 0.67981266897999),
    (0.01, 0.9, 0.999, 1e-08, 0.0): (-3.73406687104165, -2.03199377461715, 0.461820781122843),
    (0.02, 0.0, 0.99, 1e-08, 0.1): (-37.3256800598729, -20.3672359635985, 0.600808857090262),
}


@pytest.mark.exercise("kernels.reference.adam_step", changes=("theta", "m", "v"))
@both_precisions
def test_adam_step_six_times(dtype):
    """Three models take turns; the arrays have gaps in memory; in the end the gradients grow."""
    gradients = (1 + 2 * wave((6, 7), 2.3)) * np.array([1, 1, 1, 1, 50, 50])[:, None]
    models = [np.zeros((3, 7, 2), dtype)[..., 0] for _ in RATES]
    paths = [[] for _ in RATES]
    for model in models:
        model[0] = wave((7,), 1.7)
    for k, g in enumerate(gradients.astype(dtype), start=1):
        for (theta, m, v), rates, path in zip(models, RATES, paths, strict=True):
            given = type(reference.adam_step(theta, g, m, v, k, *rates)).__name__
            returned = f"expected None, theta, m and v being changed in place; got {given}"
            assert given == "NoneType", returned
            path.append([m.copy(), v.copy(), theta.copy()])
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    for (rates, expected), path in zip(RATES.items(), paths, strict=True):
        what = f"lr, beta1, beta2, eps, decay = {rates}"
        for name, got, number in zip(("m", "v", "theta"), np.stack(path, 1), expected, strict=True):
            weighs(got, (6, 7), number, f"{what}: {name}, six steps", dtype, tolerance)


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
