"""The seam, and what every kernel set owes.

That is the reference's results, the same bits each time, inputs left as they were, and an error
where shapes do not fit.
"""

import copy
import inspect
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numba
import numpy as np
import pytest

import tinydiff
from tinydiff import kernels
from tinydiff.kernels import cpu, cpu_direct, cuda_array, reference

IN_PLACE = {  # which arguments change
    **{"clip_norm": (0,), "ema_step": (0,)},
    **{"adam_step": (0, 2, 3), "update": (0, 1, 2, 3, 4)},
}
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-11}  # relative to the largest number of the result
both_precisions = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def public(module):
    named = vars(module).items()
    return {name: f for name, f in named if inspect.isfunction(f) and not name.startswith("_")}


KERNELS = {name for name, f in public(reference).items() if f.__module__ == reference.__name__}
# H != W, N = 1, channels that fill no block
IMAGES = [(1, 5, 3, 1), (2, 6, 10, 3), (3, 4, 7, 13), (1, 8, 2, 40)]
GROUPED = [((1, 5, 3, 1), 1), ((2, 7, 3, 12), 3), ((3, 4, 6, 40), 8), ((2, 9, 24), 8)]  # and G
# N, H, W, C, O: blocks and (nearly) whole tiles, few and many, for kernels that want them
TILED = [
    *[(2, 4, 8, 32, 64), (1, 8, 12, 64, 64), (2, 7, 14, 16, 32), (2, 3, 29, 32, 16)],
    *[(1, 15, 6, 16, 16), (3, 60, 90, 16, 16), (2, 4, 8, 20, 3), (3, 8, 4, 40, 33)],
    *[(3, 2, 2, 16, 32), (5, 1, 2, 5, 16), (2, 2, 1, 40, 16), (2, 1, 1, 3, 16)],  # tiny images
]
MANY = [(9, 14, 16, 16, 32), (34, 8, 7, 32, 16)]  # images enough for one pass
PRODUCTS = [
    *[((1, 1), (1, 1)), ((7, 3), (3, 5)), ((2, 3, 5), (5, 33)), ((2, 3, 5, 4), (4, 8))],
    *[((3, 5, 7), (3, 7, 2)), ((24, 16), (16, 32))],
]


def cases(dtype, rng):
    """List (kernel, its arguments) on shapes that are not round."""

    def normal(*shape):
        return rng.standard_normal(shape).astype(dtype)

    for N, H, W, C in IMAGES:
        x = normal(N, H, W, C)
        for p in (0, 1, 2):
            yield from (("pad", (x, p, padding)) for padding in ("zeros", "circular"))
        for K, O in [(1, 1), (3, 5), (3, 32), (5, 8), (1, 17), (3, 47)]:
            for padding in ("zeros", "circular"):
                yield "conv2d", (x, normal(K, K, C, O), padding)
                yield "conv2d_grad_w", (x, normal(N, H, W, O), K, padding)
        yield "array", (x,)
        yield "normal", (np.random.default_rng(7), x.shape, dtype)
        yield "up", (x,)
        yield "down", (normal(N, 2 * H, 2 * W, C),)
        yield "silu", (10 * x,)
        yield "silu_grad", (normal(*x.shape), 10 * x)
        yield "softmax", (10 * x,)
        yield "log_softmax", (10 * x,)
        yield "softmax_grad", (normal(*x.shape), reference.softmax(x))
        yield "concat", (x, normal(N, H, W, 1), normal(N, H, W, C + 3))
        for clip in (0.7, np.inf):
            yield "denoise_step", (x, normal(*x.shape), normal(*x.shape), 0.3, 0.5, 0.4, 0.2, clip)
        yield "posterior_mean", (normal(N, H * W * C), normal(7, H * W * C), 0.3)
    for N, H, W, C, O in TILED:
        x, w, g = normal(N, H, W, C), normal(3, 3, C, O), normal(N, H, W, O)
        for padding in ("zeros", "circular"):
            yield "conv2d", (x, w, padding)
            yield "conv2d_grad_w", (x, g, 3, padding)
    for shape, G in GROUPED:
        x, scale, shift = 1 + normal(*shape), normal(shape[-1]), normal(shape[-1])
        g = normal(*shape)
        mean, rstd = reference.group_norm(x, scale, shift, G, 1e-5)[1:]
        yield "group_norm", (x, scale, shift, G, 1e-5)
        yield "group_norm_grad", (g, x, scale, mean, rstd)
        yield "norm_silu", (x, scale, shift, G, 1e-5)
        yield "norm_silu_grad", (g, x, scale, shift, mean, rstd)
    odd = [(2, 3, 5, 3, 4, 3), (1, 5, 4, 6, 7, 2), (3, 2, 2, 16, 32, 8)]
    for N, H, W, C, O, G in [*odd, *[(*shape, 8) for shape in [*TILED[:4], *MANY]]]:
        x, scale, shift, g = 1 + normal(N, H, W, C), normal(C), normal(C), normal(N, H, W, O)
        w, e, more = normal(3, 3, C, O), normal(N, 1, 1, O), normal(N, H, W, C)
        mean, rstd = reference.group_norm(x, scale, shift, G, 1e-5)[1:]
        for padding, add, add_x in [
            ("zeros", e, 0),
            ("circular", g, more),
            ("zeros", g, more[:, :1, :1]),
        ]:
            yield "norm_conv", (x, scale, shift, w, add, padding, G, 1e-5)
            norm = x, scale, shift, mean, rstd
            yield "norm_conv_grad", (g, *norm, w, add_x, padding, G, 1e-5)
    for shape in [(1, 1, 1), (2, 3, 5), (3, 16, 8), (1, 49, 3)]:
        yield "attention", tuple(2 * normal(*shape) for _ in range(3))
        yield "attention_grad", tuple(2 * normal(*shape) for _ in range(4))
    for a, b in PRODUCTS:
        yield "matmul", (normal(*a), normal(*b))
    i = np.array([4, 0, 4, 4, 2])
    yield "take", (normal(6, 3), i)
    yield "take_grad", (normal(5, 3), i, 6)
    for P in (1, 37):
        for k in (1, 9):
            rates = (k, 1e-2, 0.9, 0.999, 1e-8, 0.1)
            yield "adam_step", (normal(P), normal(P), normal(P), normal(P) ** 2, *rates)
            arrays = (normal(P), 2 + normal(P), normal(P), normal(P) ** 2, normal(P))
            yield "update", (*arrays, *rates, 1.0, 0.9)
        for largest in (0.1, 100.0):
            yield "clip_norm", (normal(P), largest)
        yield "ema_step", (normal(P), normal(P), 0.9)


def copied(args):
    return copy.deepcopy(list(args))  # a generator too


def results(module, name, args):
    """Call a kernel -> list of the arrays that it gives, or changes in place."""
    out = getattr(module, name)(*args)
    changed = [args[k] for k in IN_PLACE.get(name, ())]
    return changed + (list(out) if isinstance(out, tuple) else [] if out is None else [out])


def assert_close(got, expected, dtype, label):
    assert len(got) == len(expected), label
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype == dtype, label
        atol = TOLERANCE[dtype] * max(np.abs(b).max(initial=0), 1e-3)
        np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=label)


def label(name, args):
    return name + " " + ", ".join(str(getattr(a, "shape", a)) for a in args)


# --- every kernel ---


def test_every_kernel_has_a_case(rng):
    assert {name for name, _ in cases(np.float64, rng)} == KERNELS
    assert len(KERNELS) >= 20  # the search itself finds something


@both_precisions
def test_cpu_equals_reference(dtype, rng):
    for name, args in cases(dtype, rng):
        expected = results(reference, name, copied(args))
        assert_close(results(cpu, name, copied(args)), expected, dtype, label(name, args))


@both_precisions
def test_inputs_are_left_as_they_were(dtype, kernel_set, rng):
    for name, args in cases(dtype, rng):
        before = copied(args)
        getattr(kernel_set, name)(*args)
        for k, (a, b) in enumerate(zip(args, before, strict=True)):
            if isinstance(a, np.ndarray) and k not in IN_PLACE.get(name, ()):
                np.testing.assert_array_equal(a, b, err_msg=f"{label(name, args)}: argument {k}")


def strided(a):
    """Give the same numbers with a gap in memory after each, so that nothing is contiguous."""
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), np.nan, a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def test_non_contiguous_inputs_work(kernel_set, rng):
    for name, args in cases(np.float32, rng):
        big = [
            isinstance(a, np.ndarray) and a.ndim > 1 and a.dtype == np.float32 and k < 3
            for k, a in enumerate(args)
        ]
        for change in (strided, np.asfortranarray):
            odd = [change(a) if b else a for a, b in zip(args, big, strict=True)]
            expected = results(reference, name, copied(args))
            assert_close(results(kernel_set, name, odd), expected, np.float32, label(name, args))
            if name in IN_PLACE:
                break  # these change their flat arrays: a second time would be another step


@both_precisions
def test_the_same_bits_each_time_whatever_the_number_of_threads(dtype, rng):
    most = numba.get_num_threads()
    if most < 2:
        pytest.skip("one core: nothing runs in parallel here")
    for name, args in cases(dtype, rng):
        first = results(cpu, name, copied(args))
        again = results(cpu, name, copied(args))
        try:
            numba.set_num_threads(1)
            serial = results(cpu, name, copied(args))
        finally:
            numba.set_num_threads(most)
        for a, b, c in zip(first, again, serial, strict=True):
            assert a.tobytes() == b.tobytes() == c.tobytes(), label(name, args)


def test_a_gradient_has_the_same_norm_whatever_the_number_of_threads(rng):
    most = numba.get_num_threads()
    if most < 2:
        pytest.skip("one core: nothing runs in parallel here")
    for size in range(1, 3000, 61):
        args = [rng.standard_normal(size) for _ in range(5)]
        rates = (1, 1e-3, 0.9, 0.999, 1e-8, 0.0, np.inf, 0.9)
        norms = []
        for threads in (1, 2, most):
            try:
                numba.set_num_threads(threads)
                norms.append(cpu.update(*copied(args), *rates))
            finally:
                numba.set_num_threads(most)
        assert len(set(norms)) == 1, (size, norms)


@both_precisions
def test_an_image_comes_out_the_same_whatever_is_beside_it(dtype, rng):
    """Bit for bit: what is drawn must not depend on how many are drawn at once."""
    shapes = [(*shape, O, K) for shape in IMAGES for K, O in [(1, 1), (3, 5), (3, 32), (1, 17)]]
    shapes += [(*shape, 3) for shape in TILED if shape[0] > 1] + [(40, 4, 4, 32, 32, 3)]
    for N, H, W, C, O, K in shapes + [(37, 4, 4, 16, 32, 1), (9, 2, 2, 64, 64, 3)]:
        x, w = rng.standard_normal((N, H, W, C)).astype(dtype), rng.standard_normal((K, K, C, O))
        for padding in ("zeros", "circular"):
            args = w.astype(dtype), padding
            together = cpu.conv2d(x, *args)
            for some in (slice(0, 1), slice(N - 1, N), slice(N // 2, N)):
                assert cpu.conv2d(x[some], *args).tobytes() == together[some].tobytes(), x.shape
    for N, H, W, C, O in MANY:  # all of them in one pass, a few not
        x, w = rng.standard_normal((N, H, W, C)), rng.standard_normal((3, 3, C, O))
        scale, shift, e = (
            rng.standard_normal(C),
            rng.standard_normal(C),
            rng.standard_normal((N, O)),
        )
        x, scale, shift, w, e = (a.astype(dtype) for a in (x, scale, shift, w, e))
        of = lambda n: cpu.norm_conv(x[n], scale, shift, w, e[n, None, None], "zeros", 8, 1e-5)
        assert cpu._in_one_pass(x, w, e) and not cpu._in_one_pass(x[:3], w, e)
        for some in (slice(0, 3), slice(N - 3, N)):
            for one, all_of_them in zip(of(some), of(slice(0, N)), strict=True):
                assert one.tobytes() == all_of_them[some].tobytes(), x.shape
    for N, C, O in [(64, 128, 64), (37, 16, 33), (300, 128, 128)]:
        a, b = rng.standard_normal((N, C)).astype(dtype), rng.standard_normal((C, O)).astype(dtype)
        together = cpu.matmul(a, b)
        for some in (slice(0, 1), slice(N - 3, N), slice(N // 2, N)):
            assert cpu.matmul(a[some], b).tobytes() == together[some].tobytes(), (N, C, O)


def amid_nan(a):
    """Give the same numbers, contiguous, with NaN in memory before and after them."""
    wide = np.full(a.size + 256, np.nan, a.dtype)
    inside = wide[128:-128].reshape(a.shape)
    inside[...] = a
    return inside


def test_multiplying_kernels_read_nothing_beside_their_arrays(rng):
    for name, args in cases(np.float32, rng):
        if name in ("conv2d", "conv2d_grad_w", "matmul"):
            among = [amid_nan(a) if isinstance(a, np.ndarray) else a for a in args]
            expected, got = (results(cpu, name, given)[0] for given in (args, among))
            assert got.tobytes() == expected.tobytes(), label(name, args)


def test_a_turned_window_is_read_where_it_lies(rng):
    """The gradient of an image is made with one: of another order in memory, for the same bits."""
    for N, H, W, C, O in TILED:
        x, w = rng.standard_normal((N, H, W, C)), rng.standard_normal((3, 3, O, C))
        turned = w[::-1, ::-1].swapaxes(2, 3)
        expected = cpu.conv2d(x, turned.copy(), "zeros")
        assert cpu.conv2d(x, turned, "zeros").tobytes() == expected.tobytes(), (N, H, W, C, O)


def test_mixed_precision_is_never_garbage(kernel_set, rng):
    """A float64 image in a float32 network is an easy slip.

    Compiled loops must not read the bits of one as the other's.
    """
    x, w, g = (rng.standard_normal(shape) for shape in ((2, 4, 5, 3), (3, 3, 3, 5), (2, 4, 5, 5)))
    for name, pair, rest in [
        ("conv2d", (x, w), ("zeros",)),
        ("conv2d_grad_w", (x, g), (3, "zeros")),
        ("matmul", (x, w[0, 0]), ()),
    ]:
        expected = getattr(reference, name)(*pair, *rest)
        for k in (0, 1):
            mixed = [a.astype(np.float32) if i == k else a for i, a in enumerate(pair)]
            got = getattr(kernel_set, name)(*mixed, *rest)
            atol = 1e-5 * np.abs(expected).max()
            np.testing.assert_allclose(got, expected, rtol=0, atol=atol, err_msg=label(name, mixed))


def misfits():
    """List (kernel, its arguments), of shapes that do not fit, though some have as many numbers."""

    def ones(*shape):
        return np.ones(shape, np.float32)

    x, q, mean, C16, C8 = ones(2, 6, 6, 16), ones(2, 4, 16), ones(2, 4), ones(16), ones(8)
    for window in [(1, 3, 16, 16), (3, 1, 16, 16), (2, 2, 16, 16), (3, 3, 32, 32), (3, 16, 16)]:
        yield "conv2d", (x, ones(*window), "zeros")
    yield "conv2d", (x, ones(3, 3, 8, 3), "circular")
    yield "conv2d", (ones(1, 4, 4, 3), ones(5, 3, 3, 7), "zeros")
    for image in [(1, 6, 6, 16), (2, 6, 5, 16), (2, 4, 9, 16), (72, 16)]:
        yield "conv2d_grad_w", (x, ones(*image), 3, "zeros")
    yield "conv2d_grad_w", (x, x, 2, "circular")
    yield "matmul", (q, ones(8, 16))
    yield "matmul", (q, ones(3, 16, 2))
    yield "down", (ones(2, 5, 6, 16),)
    yield "down", (ones(2, 6, 5, 16),)
    for other in [ones(2, 6, 5, 16), ones(2, 5, 6, 16), x[..., :3]]:
        yield "silu_grad", (other, x)
        yield "silu_grad", (x, other)
        yield "softmax_grad", (other, x)
        yield "denoise_step", (x, other, x, 0.3, 0.5, 0.4, 0.2, 1.0)
        yield "denoise_step", (x, x, other, 0.3, 0.5, 0.4, 0.2, 1.0)
        yield "group_norm_grad", (other, x, C16, mean, mean)
        yield "norm_silu_grad", (x, other, C16, C16, mean, mean)
    yield "norm_silu", (x, C8, C8, 8, 1e-5)
    yield "group_norm", (x, C16, C8, 4, 1e-5)
    yield "group_norm", (x, C16, C16, 3, 1e-5)
    yield "group_norm", (ones(2, 3, 5, 16), C16, C16, 3, 1e-5)
    yield "group_norm_grad", (x, x, C8, mean, mean)
    yield "group_norm_grad", (x, x, C16, mean, mean[:, :3])
    yield "norm_silu_grad", (x, x, C16, C8, mean, mean)
    yield "norm_silu_grad", (x, x, C16, C16, ones(3, 4), ones(3, 4))
    w, e = ones(3, 3, 16, 16), ones(2, 1, 1, 16)
    rest = "zeros", 4, 1e-5
    for image, window, add in [(x, w, e[:1]), (x, w, x[:, :5]), (x, w[:2], e), (x[..., :8], w, e)]:
        yield "norm_conv", (image, C16, C16, window, add, *rest)
    yield "norm_conv", (x, C16, C8, w, e, *rest)
    yield "norm_conv", (x, C16, C16, w, e, "zeros", 3, 1e-5)
    for other in [ones(2, 6, 5, 16), ones(2, 5, 6, 16), x[..., :3]]:
        yield "norm_conv_grad", (other, x, C16, C16, mean, mean, w, 0, *rest)
        yield "norm_conv_grad", (x, other, C16, C16, mean, mean, w, 0, *rest)
        yield "norm_conv_grad", (x, x, C16, C16, mean, mean, w, other, *rest)
    yield "norm_conv_grad", (x, x, C16, C16, mean[:, :3], mean, w, 0, *rest)
    yield "norm_conv_grad", (x, x, C16, C16, mean, ones(3, 4), w, 0, *rest)
    yield "norm_conv_grad", (x, x, C16, C8, mean, mean, w, 0, *rest)
    yield "norm_conv_grad", (x, x, C16, C16, mean, mean, w[..., :8], 0, *rest)
    yield "attention", (q, q[..., :8], q)
    for other in [ones(2, 3, 16), ones(3, 4, 16)]:
        yield "attention", (q, q, other)
    for other in [q[..., :8], ones(2, 3, 16), ones(3, 4, 16)]:
        yield "attention_grad", (other, q, q, q)
        yield "attention_grad", (q, q, other, q)
    yield "concat", (x, x[:1])
    yield "take_grad", (ones(4, 3), np.arange(5), 6)
    for k in range(4):
        P = [C8 if i == k else C16.copy() for i in range(5)]
        yield "adam_step", (*P[:4], 1, 1e-2, 0.9, 0.999, 1e-8, 0.0)
        yield "update", (*P, 1, 1e-2, 0.9, 0.999, 1e-8, 0.0, 1.0, 0.9)
    yield "update", (*(C16.copy() for _ in range(4)), C8, 1, 1e-2, 0.9, 0.999, 1e-8, 0.0, 1.0, 0.9)
    yield "ema_step", (C16.copy(), C8, 0.9)
    yield "posterior_mean", (x.reshape(2, -1), ones(3, 7), 0.5)
    yield "posterior_mean", (ones(2, 7), ones(0, 7), 0.5)


def test_shapes_that_do_not_fit_are_an_error(kernel_set):
    """Compiled loops don't check indices: a forgotten concat must not write past an array's end."""
    for name, args in misfits():
        with pytest.raises(ValueError):
            getattr(kernels, name)(*args)
            pytest.fail(f"no error: {label(name, args)}")


def test_a_shape_that_does_not_fit_is_said_in_a_line():
    x, w = np.ones((1, 4, 4, 16), np.float32), np.ones((1, 3, 16, 16), np.float32)
    expected = "conv2d takes x (N, H, W, C) and w (K, K, C, O), K odd"
    for module in (reference, cpu):
        with pytest.raises(ValueError) as refused:
            module.conv2d(x, w, "zeros")
        assert str(refused.value) == f"{expected}; got the shapes (1, 4, 4, 16), (1, 3, 16, 16)"


def shortened(args):
    """Spoil one array after the other: a number less along an axis, or an axis more."""
    for k, a in enumerate(args):
        if isinstance(a, np.ndarray):
            longer = [axis for axis, n in enumerate(a.shape) if n > 1]
            for part in [a[None], *(np.delete(a, -1, axis) for axis in longer)]:
                yield [part if i == k else b for i, b in enumerate(args)]


def assert_refused_or_right(module, name, args, there=copied):
    """Demand an error, or what the reference gives: anything else was read past an array's end."""
    try:
        got = results(module, name, there(args))
    except (ValueError, IndexError):
        return
    expected = results(reference, name, copied(args))
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape, label(name, args)
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4, err_msg=label(name, args))


def small(dtype, rng, most):
    """List a few cases of each kernel, of at most so many numbers in an array."""
    seen = Counter()
    for name, args in cases(dtype, rng):
        largest = max((a.size for a in args if isinstance(a, np.ndarray)), default=0)
        if largest <= most and seen[name] < 3 and name != "normal":
            seen[name] += 1
            yield name, args


def test_an_array_that_is_too_short_is_an_error_or_gives_what_the_reference_gives(rng):
    """For each kernel, each array and each axis: one number less."""
    names = set()
    for name, args in small(np.float32, rng, 2000):
        names.add(name)
        for short in shortened(args):
            assert_refused_or_right(cpu, name, short)
    assert names == KERNELS - {"normal"}


def test_variants_of_a_kernel_have_cache_files_of_their_own():
    """Two compilations of one body, named alike, would overwrite each other."""
    both = cpu_direct._conv_together.__wrapped__, cpu_direct._conv_alone
    names = [kernel._cache.name for kernel in both]
    assert names == ["cpu_direct._conv_together", "cpu_direct._conv_alone"]


def test_not_a_number_is_not_hidden(kernel_set):
    """A result that depends on a number that is NaN must be NaN: a broken training has to show."""
    x, one = np.ones((1, 2, 2, 8), np.float32), np.ones(8, np.float32)
    x[0, 0, 1, 3] = np.nan
    y, data = np.ones_like(x), np.ones((2, x.size), np.float32)
    outputs = {
        "conv2d": kernels.conv2d(x, np.ones((1, 1, 8, 1), np.float32), "zeros")[0, 0, 1],
        "silu": kernels.silu(x)[0, 0, 1, 3],
        "silu_grad": kernels.silu_grad(x, y)[0, 0, 1, 3],
        "softmax": kernels.softmax(x)[0, 0, 1],
        "down": kernels.down(x)[..., 3],
        "norm_silu": kernels.norm_silu(x, one, one, 1, 1e-5)[0],
        "denoise_step": kernels.denoise_step(y, x, y, 0.5, 0.5, 0.5, 0.0, 1.0)[0, 0, 1, 3],
        "posterior_mean": kernels.posterior_mean(x.reshape(1, -1), data, 0.5),
    }
    assert {name for name, out in outputs.items() if not np.isnan(out).all()} == set()


# --- some values by hand ---


def test_pad_by_hand(kernel_set):
    x = np.array([[1.0, 2, 3], [4, 5, 6]]).reshape(1, 2, 3, 1)
    zeros, circular = (kernels.pad(x, 1, padding)[0, :, :, 0] for padding in ("zeros", "circular"))
    bordered = [[0, 0, 0, 0, 0], [0, 1, 2, 3, 0], [0, 4, 5, 6, 0], [0, 0, 0, 0, 0]]
    wrapped = [[6, 4, 5, 6, 4], [3, 1, 2, 3, 1], [6, 4, 5, 6, 4], [3, 1, 2, 3, 1]]
    np.testing.assert_array_equal(zeros, bordered)
    np.testing.assert_array_equal(circular, wrapped)


def test_float32_silu_is_accurate_everywhere(kernel_set):
    """The hand-made exponential is as good as the C library's, at large numbers too."""
    wide, fine = np.linspace(-80, 80, 100_001), np.linspace(-1e-3, 1e-3, 1001)
    x = np.concatenate([wide, fine, [-200, 200, 0]]).astype(np.float32)
    with np.errstate(over="ignore"):
        got = kernels.silu(x)
    exact = reference.silu(x.astype(np.float64))
    np.testing.assert_allclose(got, exact, rtol=1e-6, atol=1e-30)


def test_denoise_step_by_hand(kernel_set):
    x_t, eps_hat, z = (np.array([[a]]) for a in (2.0, 1.0, 10.0))
    x0_hat = (2 - np.sqrt(0.75) * 1) / np.sqrt(0.25)  # 2.27
    for clip, guess in [(np.inf, x0_hat), (1.0, 1.0)]:
        got = kernels.denoise_step(x_t, eps_hat, z, 0.25, 0.5, 0.25, 0.125, clip)
        np.testing.assert_allclose(got, [[0.5 * guess + 0.25 * 2 + 0.125 * 10]], rtol=1e-14)


def test_posterior_mean_far_from_all_data_is_the_nearest_image(kernel_set):
    data = np.array([[0.0, 0], [1, 0], [0, 2]], np.float32)
    got = kernels.posterior_mean(np.array([[1000.0, 1]], np.float32), data, 0.99)
    np.testing.assert_allclose(got, [[1, 0]], atol=1e-6)


# --- the seam ---


def test_kernel_sets_export_the_same_names_and_signatures():
    for name in kernels.SETS:
        exported = public(kernels.import_module(f"{kernels.__name__}.{name}"))
        assert set(exported) >= KERNELS, name
        own = {n for n, f in exported.items() if f.__module__.startswith(kernels.__name__)}
        assert own == KERNELS, f"{name} exports more than the reference"
        for n in KERNELS:
            got, expected = (inspect.signature(f) for f in (exported[n], getattr(reference, n)))
            assert got == expected, f"{name}.{n}"


def test_use_decides_who_answers(monkeypatch):
    monkeypatch.setattr(kernels, "_active", None)
    for name, module in [("reference", reference), ("cpu", cpu), ("reference", reference)]:
        assert kernels.use(name) is module
        assert kernels.active() is module
        assert kernels.conv2d is module.conv2d


@pytest.mark.skipif(
    cuda_array.SIMULATED or cuda_array.cuda.is_available(),
    reason="there is a GPU here, or its simulator",
)
def test_without_a_gpu_cuda_is_one_clear_line_not_another_set(monkeypatch):
    before = kernels.active()
    with pytest.raises(RuntimeError, match="no NVIDIA GPU.*pip install.*NUMBA_ENABLE_CUDASIM=1"):
        kernels.use("cuda")
    assert kernels.active() is before


def test_an_unknown_kernel_set_is_one_clear_line(monkeypatch):
    before = kernels.active()
    with pytest.raises(ValueError) as e:
        kernels.use("nonsense")
    message = str(e.value)
    assert "\n" not in message and "nonsense" in message
    assert all(name in message for name in kernels.SETS)
    assert kernels.active() is before


def test_environment_variable(monkeypatch):
    for name, module in [("reference", reference), ("cpu", cpu)]:
        monkeypatch.setattr(kernels, "_active", None)
        monkeypatch.setenv("TINYDIFF_KERNELS", name)
        assert kernels.active() is module
    monkeypatch.setattr(kernels, "_active", None)
    monkeypatch.delenv("TINYDIFF_KERNELS")
    assert kernels.active() is cpu
    monkeypatch.setattr(kernels, "_active", None)
    monkeypatch.setenv("TINYDIFF_KERNELS", "nonsense")
    with pytest.raises(ValueError, match="nonsense"):
        _ = kernels.conv2d


def test_an_unknown_kernel_is_an_attribute_error(kernel_set):
    with pytest.raises(AttributeError, match="nonsense"):
        _ = kernels.nonsense


def test_a_module_of_kernels_is_imported_though_no_kernel_set_could_be_chosen():
    """Python asks the package for that attribute first, which must not choose a kernel set."""
    code = "from tinydiff.kernels import cuda_array; from tinydiff import kernels; "
    code += "print(kernels._active)"
    path = str(Path(tinydiff.__file__).parents[1])
    env = {**os.environ, "TINYDIFF_KERNELS": "abacus", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("None\n", "")
