"""The GPU kernels, run on a GPU or in numba's simulator.

    NUMBA_ENABLE_CUDASIM=1 python -m pytest -m cuda

The simulator runs each thread of the device as a thread of Python, some 100,000 steps per second:
shapes here are tiny, and odd. It sees wrong results and indices out of range, but not races between
warps, nor speed.
"""

import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from test_kernels import (
    IN_PLACE,
    assert_close,
    assert_refused_or_right,
    cases,
    copied,
    label,
    misfits,
    public,
    results,
    shortened,
)
from test_ops import CASES

from tinydiff import autodiff, checkpoint, exact, gradcheck, guide, kernels, ops, sample, schedule
from tinydiff.app import cli, cmd_sample, cmd_train
from tinydiff.autodiff import Tensor
from tinydiff.beyond import learned_schedule, learned_variance
from tinydiff.data import Dataset
from tinydiff.design import colour, edit, gatys, restore
from tinydiff.design import palette as palettes
from tinydiff.kernels import cpu, cuda, cuda_array, cuda_matmul, cuda_simulator, reference
from tinydiff.nn import Linear, Module
from tinydiff.train import Training, denoiser, train

cuda_simulator.take_turns()
ready = cuda_array.SIMULATED or cuda_array.cuda.is_available()
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not ready, reason="no GPU: set NUMBA_ENABLE_CUDASIM=1"),
]


@pytest.fixture(autouse=True)
def on_the_device():
    before = kernels._active
    kernels.use("cuda")
    cuda_array.traffic.clear()
    yield
    kernels._active = before


def there(args):
    return [cuda_array.array(a.copy()) if isinstance(a, np.ndarray) else a for a in copied(args)]


def work(name, args):
    """Estimate how much the simulator would have to do."""
    if name.startswith("conv2d"):
        (N, H, W, C), K = args[0].shape, args[2] if name == "conv2d_grad_w" else len(args[1])
        return 5 * N * H * W * K * K * C * max(8, args[1].shape[-1])
    return 60 * max((a.size for a in args if isinstance(a, np.ndarray)), default=0)


def few(dtype, rng):
    """List some small cases of each kernel, but for normal, which draws other numbers here."""
    seen = Counter()
    for name, args in cases(dtype, rng):
        most = {"normal": 0, "conv2d": 8}.get(name, 4)
        if work(name, args) < 25_000 and seen[name] < most:
            seen[name] += 1
            yield name, args


# --- every kernel ---


def test_every_kernel_is_compared(rng):
    own = {name for name, f in public(cuda).items() if f.__module__ == cuda.__name__}
    assert {name for name, _ in few(np.float32, rng)} | {"normal"} == own


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_kernel_equals_the_reference_and_leaves_its_inputs(dtype, rng):
    for name, args in few(dtype, rng):
        given = there(args)
        got, expected = results(cuda, name, given), results(reference, name, copied(args))
        assert all(isinstance(a, cuda_array.Array) for a in got), label(name, args)
        assert_close([np.asarray(a) for a in got], expected, dtype, label(name, args))
        for k, (a, b) in enumerate(zip(given, args, strict=True)):
            if isinstance(a, cuda_array.Array) and k not in IN_PLACE.get(name, ()):
                np.testing.assert_array_equal(a, b, err_msg=f"{label(name, args)}: argument {k}")


def test_arrays_of_the_host_are_taken_too(rng):
    """And of mixed precision."""
    x, w = rng.standard_normal((1, 3, 2, 3), dtype=np.float32), rng.standard_normal((1, 1, 3, 2))
    got = np.asarray(kernels.conv2d(x[:, :, ::-1], w, "zeros"))
    np.testing.assert_allclose(got, reference.conv2d(x[:, :, ::-1], w, "zeros"), rtol=1e-12)


def test_shapes_that_do_not_fit_are_an_error():
    for name, args in misfits():
        if any(getattr(a, "size", 1) == 0 for a in args):
            continue  # the simulator cannot copy an empty array to the device
        with pytest.raises(ValueError, match=f"{name} takes .*; got the shapes"):
            getattr(kernels, name)(*there(args))
            pytest.fail(f"no error: {label(name, args)}")


def test_an_array_that_is_too_short_is_an_error_or_gives_what_the_reference_gives(rng):
    seen = Counter()
    for name, args in few(np.float32, rng):
        seen[name] += 1
        for short in shortened(args) if seen[name] < 3 else ():
            assert_refused_or_right(cuda, name, short, there)


def test_a_row_that_a_table_does_not_have_is_an_error():
    table, g = np.ones((3, 2), np.float32), np.ones((2, 2), np.float32)
    for i in ([0, 3], [-1, 0]):
        with pytest.raises(IndexError, match="a table of 3 rows: expected indices in 0 .. 2"):
            kernels.take(table, np.array(i))
        with pytest.raises(IndexError, match="a table of 3 rows: expected indices in 0 .. 2"):
            kernels.take_grad(g, np.array(i), 3)


def test_a_group_of_too_many_channels_is_refused():
    x, one = np.ones((1, 1, 1, 513), np.float32), np.ones(513, np.float32)
    with pytest.raises(ValueError, match="at most 512 channels per group; got 513"):
        kernels.norm_silu(x, one, one, 1, 1e-5)


def test_not_a_number_is_not_hidden():
    x, one = np.ones((1, 2, 2, 8), np.float32), np.ones(8, np.float32)
    x[0, 0, 1, 3] = np.nan
    y = np.ones_like(x)
    outputs = {
        "conv2d": kernels.conv2d(x, np.ones((1, 1, 8, 1), np.float32), "zeros")[0, 0, 1],
        "softmax": kernels.softmax(x)[0, 0, 1],
        "log_softmax": kernels.log_softmax(x)[0, 0, 1],
        "down": kernels.down(x)[..., 3],
        "norm_silu": kernels.norm_silu(x, one, one, 1, 1e-5)[0],
        "denoise_step": kernels.denoise_step(y, x, y, 0.5, 0.5, 0.5, 0.0, 1.0)[0, 0, 1, 3],
        "clip": cuda_array.array(x).clip(-2, 2)[0, 0, 1, 3],
        "clip_norm": kernels.clip_norm(cuda_array.array(x.reshape(-1)), 1.0),
    }
    assert {name for name, out in outputs.items() if not np.isnan(np.asarray(out)).all()} == set()


def test_a_gradient_that_is_not_finite_changes_nothing(rng):
    theta, m, v, ema = (cuda_array.array(rng.random(5, dtype=np.float32)) for _ in range(4))
    before = [np.asarray(a) for a in (theta, m, v, ema)]
    g = np.ones(5, np.float32)
    g[2] = np.nan
    rates = 1, 0.1, 0.9, 0.999, 1e-8, 0.0, 1.0, 0.9
    norm = kernels.update(theta, cuda_array.array(g), m, v, ema, *rates)
    assert math.isnan(float(norm))
    for a, b in zip((theta, m, v, ema), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_blocks_of_the_device_fill_odd_shapes_too(rng, monkeypatch):
    """The simulator has small blocks.

    Here the tile loop runs with others, that do not divide the sizes either.
    """
    for block in [(4, 2, 4), (2, 2, 2), (3, 2, 3)]:
        monkeypatch.setattr(cuda_matmul, "BLOCK", block)
        monkeypatch.setattr(cuda_matmul, "MATMUL", cuda_matmul._matmul(block))
        a, b = rng.standard_normal((2, 7, 5)), rng.standard_normal((2, 5, 9))
        np.testing.assert_allclose(kernels.matmul(a, b), a @ b, rtol=1e-12, atol=1e-12)


on_a_device = pytest.mark.skipif(cuda_array.SIMULATED, reason="large shapes are for a device")


def growing(k, rng):
    """List cases whose sizes grow with k: at 12 many blocks, whole tiles and odd ends."""

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    N, H, W, C, O = 2 * k, 2 * k, 3 * k + 1, 3 * k, 2 * k + 3
    x, g, w = normal(N, H, W, C), normal(N, H, W, O), normal(3, 3, C, O)
    scale, (q, v, a) = normal(3 * k), normal(3, k, 5 * k, 2 * k)
    for padding in ("zeros", "circular"):
        yield "conv2d", (x, w, padding)
        yield "conv2d_grad_w", (x, g, 3, padding)
    yield "matmul", (q, v.swapaxes(1, 2))
    yield "matmul", (q, normal(2 * k, 7 * k))
    yield "norm_silu", (x, scale, scale, 3, 1e-5)
    _, mean, rstd = reference.group_norm(x, scale, scale, 3, 1e-5)
    yield "norm_silu_grad", (normal(*x.shape), x, scale, scale, mean, rstd)
    yield "group_norm_grad", (normal(*x.shape), x, scale, mean, rstd)
    yield "softmax", (10 * normal(2 * k, 90 * k),)
    yield "log_softmax", (10 * normal(2 * k, 90 * k),)
    yield "attention_grad", (normal(*q.shape), q, v, a)
    yield "take_grad", (normal(9 * k, 5), rng.integers(0, 4, 9 * k), 4)
    yield "concat", (x, g, x)
    yield "posterior_mean", (normal(2 * k, 9 * k), normal(5 * k, 9 * k), 0.9)
    theta, gradient, m, v, ema = (normal(100 * k * k) for _ in range(5))
    yield "update", (theta, gradient, m, v**2, ema**2, 3, 0.01, 0.9, 0.999, 1e-8, 0.0, 1.0, 0.9)


@pytest.mark.parametrize("k, times", [(1, 2), pytest.param(12, 20, marks=on_a_device)])
def test_shapes_of_any_size_give_the_reference_and_the_same_bits_each_time(k, times, rng):
    """A race between threads would show in some of the repetitions, sooner or later."""
    for name, args in growing(k, rng):
        floats = [getattr(a, "dtype", None) == np.float32 for a in args]
        double = [a.astype(float) if f else a for a, f in zip(copied(args), floats, strict=True)]
        expected = results(reference, name, double)
        first = [np.asarray(a) for a in results(cuda, name, there(args))]
        for a, b in zip(first, expected, strict=True):
            atol = 2e-5 * max(np.abs(b).max(), 1e-3)
            np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=label(name, args))
        for _ in range(times - 1):
            again = [np.asarray(a).tobytes() for a in results(cuda, name, there(args))]
            assert again == [a.tobytes() for a in first], f"{label(name, args)}: other bits"


@pytest.mark.parametrize("n", [1000, pytest.param(5_000_000, marks=on_a_device)])
def test_sums_and_noise_of_any_size(n):
    x = cuda_array.array(np.arange(n) % 7 - 3.0)
    assert float(x.sum()) == (np.arange(n) % 7 - 3).sum()
    z = np.asarray(kernels.normal(np.random.default_rng(0), (n,), np.float32)).astype(np.float64)
    assert abs(z.mean()) < 5 / math.sqrt(n) and np.isfinite(z).all()
    assert abs((z**2).mean() - 1) < 5 * math.sqrt(2 / n)
    # 2^32 uniform numbers, but fewer normal ones in float32
    assert np.unique(z).size > 0.99 * n or n > 10**6


# --- Array ---


def test_arithmetic_and_shapes_are_numpys(rng):
    a, b = (rng.standard_normal(shape, dtype=np.float32) for shape in ((2, 3, 5), (3, 1)))
    A, B = cuda_array.array(a), cuda_array.array(b)
    axes = (0, 1, 2, -1, (0, 2), (-1, 0), (1, 2))
    pairs = [
        (A + B, a + b),
        (A + b, a + b),
        (a + B, a + b),
        (2 + A, 2 + a),
        (A + np.float64(3), a + 3),
        (1 - A, 1 - a),
        (b - A, b - a),
        (A - B, a - b),
        (B / A, b / a),
        (-A * 2, -a * 2),
        (np.float32(0.1) * A, np.float32(0.1) * a),
        (A.clip(-0.5, 0.5), a.clip(-0.5, 0.5)),
        (A.sum() * 0 + 1, np.ones((), np.float32)),
        (A * 0 + A.sum(), a * 0 + a.sum()),
        (A.mean(), a.mean()),
        *((A.sum(k), a.sum(k)) for k in axes),
        *((A.sum(k, keepdims=True), a.sum(k, keepdims=True)) for k in axes),
        (A.mean(1), a.mean(1)),
        (A.mean((0, 2), keepdims=True), a.mean((0, 2), keepdims=True)),
        (A**2, a**2),
        (A.swapaxes(0, 1), a.swapaxes(0, 1)),
        (A.swapaxes(-1, -2), a.swapaxes(-1, -2)),
        (A[::-1, ::-1], a[::-1, ::-1]),
        (A[..., 1:3], a[..., 1:3]),
        (A[-1, :, 2], a[-1, :, 2]),
        (A[1:], a[1:]),
        (A.reshape(-1, 5), a.reshape(-1, 5)),
        (A.reshape((5, -1)), a.reshape(5, -1)),
        (A.astype(np.float64), a.astype(np.float64)),
        (A[0] @ A[1].swapaxes(0, 1), a[0] @ a[1].T),
    ]
    for k, (got, expected) in enumerate(pairs):
        assert got.shape == expected.shape and got.dtype == expected.dtype, k
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6, err_msg=str(k))


def test_views_of_views_are_one_copy(rng, monkeypatch):
    w = rng.standard_normal((3, 3, 2, 5), dtype=np.float32)
    W, z = cuda_array.array(w), kernels.normal(np.random.default_rng(0), (4, 3), np.float32)
    copies, launch = [], cuda_array.launch
    monkeypatch.setattr(cuda_array, "launch", lambda *args: copies.append(launch(*args)))
    for got, expected in (
        (W[::-1, ::-1].swapaxes(2, 3), w[::-1, ::-1].swapaxes(2, 3)),
        (W.swapaxes(0, 2)[1:, ..., ::2], w.swapaxes(0, 2)[1:, ..., ::2]),
        (W.swapaxes(0, 3).swapaxes(0, 3), w),
        (W.swapaxes(1, 2)[:, 1].reshape(-1), w.swapaxes(1, 2)[:, 1].reshape(-1)),
    ):
        copies.clear()
        assert got.shape == expected.shape and np.array_equal(np.asarray(got), expected)
        assert len(copies) <= 1
    assert np.array_equal(np.asarray(z.swapaxes(0, 1)), np.asarray(z).T)


def test_views_follow_their_array_until_they_are_used(rng):
    before, after = (rng.standard_normal((2, 3), dtype=np.float32) for _ in range(2))
    views = [lambda w: w.swapaxes(0, 1), lambda w: w[:, ::-1], lambda w: w[:, 1]]
    for view in views:
        w = cuda_array.array(before)
        used, unused, written = view(w), view(w), view(w)
        used + 1
        written[:] = np.zeros(written.shape, np.float32)
        np.testing.assert_array_equal(w, before)
        w[:] = after
        np.testing.assert_array_equal(used, view(before))
        np.testing.assert_array_equal(unused, view(after))
        np.testing.assert_array_equal(written, 0)
        w[:] = before
        np.testing.assert_array_equal(unused, view(after))
    w = cuda_array.array(before)
    rows, flat = w[1:], w.reshape(-1)
    rows[:] = after[1:]
    np.testing.assert_array_equal(w[1], after[1])
    np.testing.assert_array_equal(flat[3:], after[1])


def test_products_read_swapped_and_turned_arrays_where_they_lie(rng, monkeypatch):
    a, b, c = (rng.standard_normal(n, dtype=np.float32) for n in ((2, 5, 3), (2, 5, 4), (6, 3)))
    x, w = (rng.standard_normal(n, dtype=np.float32) for n in ((1, 4, 3, 5), (3, 3, 2, 5)))
    A, B, C, X, W = map(cuda_array.array, (a, b, c, x, w))
    turned = w[::-1, ::-1].swapaxes(2, 3)
    expected = [
        a.swapaxes(1, 2) @ b,
        b.swapaxes(1, 2) @ a,
        a @ c.T,
        a.swapaxes(0, 1) @ c.T,  # other axes were swapped: a copy
        reference.conv2d(x, turned, "circular"),
    ]
    monkeypatch.setattr(cuda_array, "_gather", None)
    got = [
        A.swapaxes(1, 2) @ B,
        B.swapaxes(1, 2) @ A,
        A @ C.swapaxes(0, 1),
        cuda_array.array(np.ascontiguousarray(a.swapaxes(0, 1))) @ C.swapaxes(0, 1),
        kernels.conv2d(X, W[::-1, ::-1].swapaxes(2, 3), "circular"),
    ]
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    monkeypatch.undo()
    np.testing.assert_allclose(A.swapaxes(0, 1) @ C.swapaxes(0, 1), expected[3], rtol=1e-5)
    one_for_all = A.swapaxes(1, 2) @ cuda_array.array(np.ones((5, 2), np.float32))
    np.testing.assert_allclose(one_for_all, a.swapaxes(1, 2) @ np.ones((5, 2)), rtol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 31, 32, 33, 70])
def test_any_number_of_arrays_are_joined(count, rng):
    xs = [rng.standard_normal((2, 1 + k % 3), dtype=np.float32) for k in range(count)]
    for arrays in (xs, [x.reshape(-1) for x in xs]):
        got = kernels.concat(*(cuda_array.array(x) for x in arrays))
        np.testing.assert_array_equal(got, np.concatenate(arrays, -1))


def test_what_follows_a_convolution_is_added_in_its_pass(rng):
    x, g = (rng.standard_normal((2, 3, 2, 8), dtype=np.float32) for _ in range(2))
    w, ones = rng.standard_normal((3, 3, 8, 8), dtype=np.float32), np.ones(8, np.float32)
    rest = "zeros", 4, 1e-5
    for add in (rng.standard_normal((2, 1, 1, 8), dtype=np.float32), g):
        got = kernels.norm_conv(*map(cuda_array.array, (x, ones, ones, w, add)), *rest)
        for one, other in zip(got, reference.norm_conv(x, ones, ones, w, add, *rest), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    _, *stats = reference.norm_conv(x, ones, ones, w, g, *rest)
    for add in (0, g):
        arrays = (g, x, ones, ones, *stats, w)
        got = kernels.norm_conv_grad(*map(cuda_array.array, arrays), add, *rest)
        expected = reference.norm_conv_grad(*arrays, add, *rest)
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not cuda_array.SIMULATED, reason="counts them in the simulator")
def test_a_step_launches_few_kernels():
    """Each costs Python time: they were 790 and 169 before several were made one."""
    script = Path(__file__).parent / "bench" / "launches.py"
    said = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100)
    training, drawing = (int(line.split()[1]) for line in said.stdout.splitlines())
    assert training <= 470 and drawing <= 134


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_to_the_power_of_0_is_1_also_where_a_number_is_not_finite(dtype):
    """x * 0 + 1 would be NaN there."""
    odd = np.array([[0, np.inf, -np.inf], [np.nan, 2, -3]])
    for x in (odd, odd[0, 1]):
        got = cuda_array.array(x.astype(dtype)) ** 0
        assert isinstance(got, cuda_array.Array) and got.shape == x.shape and got.dtype == dtype
        np.testing.assert_array_equal(got, np.ones(x.shape))
    z = kernels.normal(np.random.default_rng(0), (2, 3), dtype)
    np.testing.assert_array_equal(z**0, np.ones((2, 3)))


def test_noise_of_0_is_none_also_where_an_image_is_not_finite():
    x, zeros = np.array([[np.inf, 1]], np.float32), np.zeros((1, 2), np.float32)
    got = kernels.denoise_step(x, zeros, 0, 0.25, 0.5, 0.25, 0.125, 1.0)
    np.testing.assert_array_equal(got, [[np.inf, 0.75]])


def test_adam_steps_though_the_first_parameter_is_not_finite(rng):
    theta, g, m, v = (rng.random(3, dtype=np.float32) for _ in range(4))
    theta[0] = np.nan
    expected = [a.copy() for a in (theta, g, m, v)]
    reference.adam_step(*expected, 1, 0.1, 0.9, 0.999, 1e-8, 0.0)
    given = [cuda_array.array(a) for a in (theta, g, m, v)]
    kernels.adam_step(*given, 1, 0.1, 0.9, 0.999, 1e-8, 0.0)
    np.testing.assert_allclose(given[0], expected[0], rtol=1e-6)


def test_a_sum_takes_as_many_stages_as_it_needs(rng):
    ADDS = cuda_array.ADDS
    for n in (1, 2, ADDS, ADDS + 1, ADDS**2 + 1, ADDS**3 + 2):
        x = rng.standard_normal((n, 2))
        np.testing.assert_allclose(cuda_array.array(x).sum(0), x.sum(0), rtol=1e-12, atol=1e-12)


def test_parts_of_the_first_axis_share_memory():
    theta = cuda_array.array(np.arange(6, dtype=np.float32))
    part = theta[2:].reshape(2, 2)
    theta[:] = theta * 10
    np.testing.assert_array_equal(part, [[20, 30], [40, 50]])


numba_cuda = cuda_array.cuda


@numba_cuda.jit
def apart(x):
    """Keep the first thread of a block away from where the others meet."""
    if numba_cuda.threadIdx.x:
        numba_cuda.syncthreads()
    x[numba_cuda.grid(1)] = 1


@pytest.mark.skipif(not cuda_array.SIMULATED, reason="on a device this may hang")
def test_the_simulator_sees_threads_that_do_not_meet():
    with pytest.raises(RuntimeError, match="apart: a barrier that not all threads"):
        apart[1, 3](cuda_array.empty((3,), np.float32).flat)


def test_numpy_never_fetches_an_array_unasked():
    x = cuda_array.array(np.ones(3, np.float32))
    for hidden in (np.sum, np.exp, np.zeros_like, lambda x: np.concatenate([x, x]), np.isfinite):
        with pytest.raises(TypeError):
            hidden(x)
    with pytest.raises(ValueError, match="only x\\[:\\]"):
        x[1:] = np.ones(2, np.float32)
    assert cuda_array.traffic == {"in": 1}
    assert float(np.asarray(x).sum()) == 3 and cuda_array.traffic == {"in": 1, "out": 1}


S8, MIX_OF_ONE = schedule.cosine(8), ([1.0], [[0.0] * 4], [1.0])
ONES = np.ones(4, np.float32)


def thresholded(x):
    return guide.threshold(lambda x_t, t: x_t, S8)(x, 3)


def halfway(x):
    return edit.slerp(x.reshape(1, 4), x.reshape(1, 4), 0.5)


def learn_a_schedule(x):
    gamma, error = learned_schedule.Gamma(-1, 1), learned_schedule.gaussian_error([1.0])
    next(learned_schedule.train(gamma, error, np.random.default_rng(0), 2))


REFUSED = [
    (lambda x: np.sqrt(x), "np.sqrt"),
    (lambda x: x**3, r"\*\* 3"),
    (lambda x: x > 0, "gt"),
    (lambda x: x == x, "eq"),
    (lambda x: abs(x), "abs"),
    (lambda x: x.std(), ".std"),
    (lambda x: x[None], "indexing"),
    (lambda x: x[[0, 1]], "indexing"),
    (lambda x: list(x), "a loop over rows"),
    (lambda x: 1 if x else 0, "a truth value"),
    (lambda x: np.add(1, x, out=np.zeros(4, np.float32)), "np.add"),
    (lambda x: np.add.reduce(x), "np.add"),
    (lambda x: kernels.clip_norm(ONES.copy(), 1.0), "a change in place"),
    (lambda x: kernels.update(x, x, x, x, ONES.copy(), *[1] * 8), "a change in place"),
    (thresholded, "np.abs"),
    (halfway, "np.sqrt"),
    (lambda x: exact.mixture(S8, *MIX_OF_ONE)(x.reshape(1, 4), 3), "indexing"),
    (learn_a_schedule, "np.exp"),
]


@pytest.mark.parametrize("f, what", REFUSED, ids=[what for _, what in REFUSED])
def test_what_only_the_host_can_do_says_so_in_a_line(f, what):
    with pytest.raises(kernels.HostOnly, match=f"^{what}.* on the host.*: give") as refused:
        f(cuda_array.array(ONES))
    assert "\n" not in str(refused.value)


def test_the_command_line_says_so_too(monkeypatch, capsys):
    def rolled(args):
        np.roll(cuda_array.array(ONES), 1)

    monkeypatch.setattr(cmd_sample, "cmd_sample", rolled)
    assert cli.main(["sample", "digits"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    advice = "this does not run on a GPU, leave out --kernels cuda"
    assert line.startswith(f"tinydiff: {advice} (np.roll")


def test_freed_memory_is_used_again():
    x = cuda_array.empty((7, 11), np.float32)
    memory, view = x.flat, x.reshape(-1)
    del x
    assert cuda_array.empty((77,), np.float32).flat is not memory  # a view still needs it
    del view
    assert cuda_array.empty((11, 7), np.float32).flat is memory


# --- operations and networks ---


@pytest.mark.parametrize("f, args", [(f, args) for _, f, *args in CASES], ids=[c[0] for c in CASES])
def test_gradient(f, args, rng):
    gradcheck.gradcheck(f, args, rng, tolerance=1e-6)


def test_linear_on_the_device(rng):
    layer, x = Linear(3, 2, rng=rng), rng.standard_normal((4, 3), dtype=np.float32)
    expected = x @ layer.w + 1
    layer.b[:] = 1
    layer.flatten()
    assert isinstance(layer.w, cuda_array.Array) and list(layer.params()) == ["w", "b"]
    with layer.variables() as params:
        y = layer(kernels.array(x))
        gw, gb = autodiff.gradient(ops.sum(y), params)
    assert isinstance(y, Tensor)
    np.testing.assert_allclose(y.value, expected, rtol=1e-5)
    np.testing.assert_allclose(gw, np.repeat(x.sum(0)[:, None], 2, 1), rtol=1e-5)
    np.testing.assert_allclose(gb, [4, 4])


SIZES = {"size": 4, "channels": 1, "width": 8, "multipliers": [1, 1], "depth": 1, "classes": [3]}
META = {"model": SIZES, "schedule": {"kind": "cosine", "T": 10}}


def trained(kernel_set, steps):
    """Train a tiny U-Net from fixed random weights -> run, what was copied in each step"""
    kernels.use(kernel_set)
    run, s = checkpoint.build(META, seed=0)
    rng = np.random.default_rng(1)
    away = rng.standard_normal(run.theta.shape, dtype=np.float32)
    run.theta[:] = np.asarray(run.theta) + 0.1 * away
    # A larger eps: where a gradient is 0 but for rounding, Adam would follow the rounding.
    run.adam.rates = (0.9, 0.999, 1e-3, 0.0)
    images, labels = rng.uniform(-1, 1, (3, 4, 4, 1)).astype(np.float32), np.arange(3)[:, None]
    learning, copies = train(run, s, images, labels, batch=1), []
    for _ in range(steps):
        cuda_array.traffic.clear()
        next(learning)
        copies.append(dict(cuda_array.traffic))
    run.fetch_losses()
    return run, copies


def test_training_equals_the_cpu_s_and_the_parameters_stay_on_the_device(tmp_path):
    expected, _ = trained("cpu", 3)
    run, copies = trained("cuda", 3)
    np.testing.assert_allclose(run.losses, expected.losses, rtol=1e-4)
    for name in ("theta", "ema"):
        np.testing.assert_allclose(getattr(run, name), getattr(expected, name), rtol=0, atol=1e-4)
    # x_t, target, the time's sines and the labels; nothing comes out until the losses are fetched
    assert copies == [{"in": 4}] * 3
    checkpoint.save(tmp_path / "a.npz", run, META)
    again, s, _ = checkpoint.load(tmp_path / "a.npz")
    assert isinstance(again.theta, cuda_array.Array)
    for name in ("theta", "ema"):
        np.testing.assert_array_equal(getattr(again, name), getattr(run, name))
    cuda_array.traffic.clear()
    eps_model, rng = denoiser(again.model, s, np.array([[1]])), np.random.default_rng(0)
    *_, x = sample.ddim(eps_model, s, (1, 4, 4, 1), rng, times=[10, 5, 0])
    # A sampler's steps stay there too, noise and all.
    assert isinstance(x, cuda_array.Array) and cuda_array.traffic["out"] == 0
    kernels.use("cpu")
    there, _, _ = checkpoint.load(tmp_path / "a.npz")
    assert isinstance(there.theta, np.ndarray)


class Factor(Module):
    """A network of one weight: w x."""

    classes = ()

    def __init__(self):
        self.w = np.zeros(1, np.float32)

    def __call__(self, x, t, labels=None):
        return ops.mul(x, self.w)


def images_for_factor():
    return np.random.default_rng(1).uniform(-1, 1, (5, 2, 1, 1)).astype(np.float32)


def test_losses_come_out_every_so_many_steps():
    run, copies, known = Training(Factor(), np.random.default_rng(0)), [], []
    learning = train(run, schedule.cosine(8), images_for_factor(), batch=2)
    for _ in range(2 * cuda.STEPS_AHEAD + 1):
        cuda_array.traffic.clear()
        next(learning)
        copies.append(dict(cuda_array.traffic))
        known.append(len(run.losses))
    a, b = {"in": 2}, {"in": 2, "out": 1}
    assert copies == [*[a] * 19, b, *[a] * 19, b, a] and known == [*[0] * 19, *[20] * 20, 40, 40]
    kernels.use("cpu")
    expected = Training(Factor(), np.random.default_rng(0))
    learning = train(expected, schedule.cosine(8), images_for_factor(), batch=2)
    for _ in range(40):
        next(learning)
        assert expected.losses[-1] == expected.loss
    np.testing.assert_allclose(run.losses, expected.losses[:40], rtol=1e-5)


def test_a_loss_that_is_not_finite_changes_nothing_though_it_is_seen_later(monkeypatch):
    monkeypatch.setattr(cuda, "STEPS_AHEAD", 4)
    run, x0 = Training(Factor(), np.random.default_rng(0)), images_for_factor()
    learning = train(run, schedule.cosine(8), x0, batch=5)
    next(learning), next(learning)
    arrays = run.theta, run.ema, run.adam.m, run.adam.v
    before = [np.asarray(a).tobytes() for a in arrays]
    x0[:] = np.inf
    next(learning)
    x0[:] = images_for_factor()
    message = "the loss at step 3 is (inf|nan), its gradient norm nan"
    with pytest.raises(FloatingPointError, match=message):
        next(learning)
    assert [np.asarray(a).tobytes() for a in arrays] == before
    assert (run.step, run.adam.k, len(run.losses), run.readback.rows) == (2, 2, 2, [])


def test_a_training_has_the_same_history_as_the_cpu_s(tmp_path, monkeypatch):
    """Also one that is stopped and resumed where no losses are due."""
    x0, ends = images_for_factor(), []
    none = np.zeros((5, 0), int)
    dataset = Dataset("digits", x0, x0, none, none, {})
    for kernel_set in ("cpu", "cuda"):
        kernels.use(kernel_set)
        run, losses = Training(Factor(), np.random.default_rng(0)), []
        meta = {"model": {"size": 8, "channels": 1}, "schedule": {"kind": "cosine", "T": 8}}
        meta["train"] = {"predict": "v", "batch": 2, "lr": 1e-3, "forget": 0.0, "seed": 0}
        run.step = 90
        for steps in (95, 113):
            losses += cmd_train.learn(run, S8, dataset, meta, tmp_path / "a.npz", steps=steps)
        ends.append((losses, meta["recent"], [row[2] for row in meta["history"]]))
    assert [len(part) for part in ends[1]] == [23, 13, 1]
    for got, expected in zip(*ends, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_a_second_step_allocates_nothing(monkeypatch, rng):
    def step():
        x = Tensor(kernels.array(rng.standard_normal((2, 4, 4, 8), dtype=np.float32)))
        w = Tensor(kernels.array(rng.standard_normal((1, 1, 8, 8), dtype=np.float32)))
        return autodiff.gradient(ops.mse(ops.silu(ops.conv2d(x, w)), x), [x, w])

    step()
    asked = "memory was asked for though the pool has some"
    monkeypatch.setattr(cuda_array.cuda, "device_array", lambda *_: pytest.fail(asked))
    step()


# --- samplers and noise ---

SAMPLERS = [
    ("ddpm", {}),
    ("ddpm", {"clip": 1.0}),
    ("ddim", {"times": [8, 5, 1, 0]}),
    ("ddim", {"eta": 0.7, "clip": 1.0}),
    ("euler", {"times": [8, 4, 0], "churn": 0.5}),
    ("heun", {"times": [8, 4, 0]}),
    ("dpmpp_2m", {"times": [8, 5, 2, 0], "clip": 1.0}),
]


@pytest.mark.parametrize("name, options", SAMPLERS)
def test_every_sampler_equals_the_cpu_s(name, options, monkeypatch):
    """Given the same noise: the cpu's, brought to the device."""
    monkeypatch.setattr(cuda, "normal", lambda *args: cuda_array.array(reference.normal(*args)))
    eps_model, ends = lambda x, t: x * 0.3 + 0.1 * t, []
    for kernel_set in (cpu, cuda):
        monkeypatch.setattr(kernels, "_active", kernel_set)
        rng = np.random.default_rng(3)
        *_, x0 = getattr(sample, name)(eps_model, S8, (2, 3, 1, 3), rng, **options)
        ends.append(x0)
    assert isinstance(ends[0], np.ndarray) and isinstance(ends[1], cuda_array.Array)
    assert ends[1].dtype == np.float32
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-5, atol=1e-5)


def same_on_both(f, monkeypatch, **tolerance):
    """Compare what f() gives on the cpu's kernels and on the device's, given the same noise."""
    monkeypatch.setattr(cuda, "normal", lambda *args: cuda_array.array(reference.normal(*args)))
    ends = []
    for kernel_set in (cpu, cuda):
        monkeypatch.setattr(kernels, "_active", kernel_set)
        ends.append([np.asarray(x) for x in f()])
    for got, expected in zip(*reversed(ends), strict=True):
        np.testing.assert_allclose(got, expected, **{"rtol": 1e-4, "atol": 1e-5} | tolerance)


BLUR = np.array([[0.7, 0.3], [0.3, 0.7]]), np.eye(3), np.full((1, 2), 0.5)
X = np.random.default_rng(5).uniform(-1, 1, (2, 2, 3, 2)).astype(np.float32)
TIMES, HALF_EACH, COVARIANCE = [8, 4, 0], np.array([0, 1]).reshape(2, 1, 1, 1), np.eye(12)


def mix(x, t):  # a model, which answers where the kernels work
    return kernels.array(x) * 0.3 + 0.01 * t


def half(x, t):
    return x * 0.5


def mix_of_squares(x, t):
    return mix(x * x, t)


def drawn(eps_model, rng):
    return sample.ddim(eps_model, S8, X.shape, rng, TIMES)


def palette(rng):
    return drawn(colour.coloured(mix, S8, COVARIANCE, 2, palette=X[0, 0]), rng)


def exact_palette(rng):
    return drawn(palettes.exact(mix, S8, X[0, 0]), rng)


def restored(rng):
    gradient = restore.log_p_gradient(S8, X[..., :1], BLUR, 0.5, COVARIANCE)
    return drawn(guide.by_x0_hat(guide.assume_gaussian(mix, S8, COVARIANCE), S8, gradient), rng)


def of_learned_variance(rng):
    return sample.ddpm(mix, S8, X.shape, rng, var=lambda x, t: np.asarray(x) ** 2)


def inpainted(rng):
    return edit.inpaint(mix, S8, X, np.eye(2, 3), rng, TIMES, rounds=2, wide=True)


OTHERS = {
    "exact.point": lambda rng: drawn(exact.point(S8, X[0]), rng),
    "exact.gaussian": lambda rng: drawn(exact.gaussian(S8, X[0], 0.2), rng),
    "exact.dataset": lambda rng: drawn(exact.dataset(S8, X), rng),
    "a variance that is learned": of_learned_variance,
    "guide.blend": lambda rng: drawn(guide.blend(mix, mix, HALF_EACH), rng),
    "guide.by_gradient": lambda rng: drawn(guide.by_gradient(mix, S8, lambda x, t: -1 * x), rng),
    "edit.inpaint": inpainted,
    "edit.image_to_image": lambda rng: edit.image_to_image(mix, S8, X, 0.6, rng, TIMES),
    "edit.translate": lambda rng: edit.translate(mix, half, S8, X, TIMES, keep=np.eye(2, 3)),
    "edit.difference": lambda rng: edit.difference(mix, mix_of_squares, S8, X, 4, rng, 2),
    "palette": palette,
    "palette, exact": exact_palette,
    "restore": restored,
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_built_on_samplers_equals_the_cpu_s(name, monkeypatch):
    same_on_both(lambda: OTHERS[name](np.random.default_rng(3)), monkeypatch)


class TwoMaps(Module):
    """A classifier, and a network with twice the channels, in small."""

    classes = ()

    def __init__(self):
        self.w = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)

    def maps(self, x):
        return [ops.matmul(x, self.w), ops.silu(ops.matmul(x, self.w))]

    def __call__(self, x, t, labels=None):
        return ops.matmul(x, self.w)


def test_style_transfer_by_gradients_equals_the_cpu_s(monkeypatch):
    def f():
        model = TwoMaps()
        style = gatys.style_of(model, X[::-1] * np.float32(0.5))
        return gatys.transfer(model, X * np.float32(1.5), style, steps=2)

    same_on_both(f, monkeypatch)


def test_a_variance_is_learned_as_on_the_cpu(monkeypatch):
    def f():
        run = Training(TwoMaps(), np.random.default_rng(0))
        learning = learned_variance.train_hybrid(run, S8, X, batch=2, weight=0.1)
        next(learning), next(learning)
        run.fetch_losses()
        eps_model, var = learned_variance.denoiser(run.model, S8)
        *_, x = sample.ddpm(eps_model, S8, X.shape, np.random.default_rng(1), var=var, clip=1.0)
        return [run.theta, np.array(run.losses), x]

    same_on_both(f, monkeypatch)


def test_ddim_goes_back_up_too():
    s, x0 = schedule.cosine(8), np.linspace(-1, 1, 6, dtype=np.float32).reshape(1, 2, 3, 1)
    *_, got = sample.ddim_invert(lambda x, t: x * 0.3, s, kernels.array(x0), [8, 4, 0], rounds=2)
    *_, expected = sample.ddim_invert(lambda x, t: x * np.float32(0.3), s, x0, [8, 4, 0], rounds=2)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@cuda_array.cuda.jit
def bits(i, key0, key1, out):
    """Write the first two words of Philox at counter i, with one thread."""
    a, b = cuda._philox(i, key0, key1)
    out[0] = a
    out[1] = b


def test_philox_gives_the_published_bits():
    """The known answer of Random123 for Philox4x32-10 with counter and key 0."""
    out = cuda_array.empty((2,), np.uint64)
    bits[1, 1](0, 0, 0, out.flat)
    assert [hex(w) for w in np.asarray(out)] == ["0x6627e8d5", "0xe169c58d"]


def test_noise_is_normal_and_does_not_depend_on_the_threads(monkeypatch):
    def draw(seed, n=1500):
        return np.asarray(kernels.normal(np.random.default_rng(seed), (n // 3, 3), np.float32))

    z = draw(4)
    assert z.shape == (500, 3) and z.dtype == np.float32
    cdf = np.array([0.5 * (1 + math.erf(x / math.sqrt(2))) for x in np.sort(z.ravel())])
    # Kolmogorov and Smirnov: above 1.63 / sqrt(n) once in a hundred seeds
    assert np.abs(cdf - (np.arange(1500) + 0.5) / 1500).max() < 1.63 / math.sqrt(1500)
    assert abs(np.corrcoef(z.ravel()[:-1], z.ravel()[1:])[0, 1]) < 3 / math.sqrt(1500)
    assert not np.isin(z, draw(5)).any()
    monkeypatch.setattr(cuda_array, "THREADS", 3)
    monkeypatch.setattr(cuda_array, "BLOCKS", 5)
    np.testing.assert_array_equal(draw(4), z)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_noise_that_is_drawn_in_the_step_is_the_noise_that_is_written(dtype, rng):
    x, eps_hat = (cuda_array.array(rng.standard_normal((2, 3, 5)).astype(dtype)) for _ in range(2))

    def noise():
        return kernels.normal(np.random.default_rng(7), x.shape, dtype)

    def step(z):
        return np.asarray(kernels.denoise_step(x, eps_hat, z, 0.3, 0.5, 0.4, 0.2, 1.0))

    for std in (1.0, np.float64(0.3), np.float32(0.7)):
        z = std * noise()
        drawn = step(z)
        assert isinstance(z, cuda.Noise) and not hasattr(z, "written")
        np.testing.assert_array_equal(drawn, step(cuda_array.array(np.asarray(std * noise()))))
        assert drawn.dtype == np.asarray(z).dtype == dtype and np.unique(drawn).size == 30
        np.testing.assert_allclose(z, std * np.asarray(noise()), rtol=1e-6)


def test_noise_can_do_what_arrays_can(rng):
    z = kernels.normal(np.random.default_rng(7), (2, 3), np.float32)
    x, there = rng.standard_normal((2, 3), dtype=np.float32), np.asarray(z)
    for got, expected in [
        (z + x, there + x),
        (x * z, x * there),
        (z[1:], there[1:]),
        (z.swapaxes(0, 1), there.T),
        (-z, -there),
    ]:
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert z.reshape(3, 2).shape == (3, 2) and len(z) == 2
    assert z.astype(np.float64).dtype == np.float64


def test_the_environment_names_the_simulator():
    assert cuda_array.SIMULATED == (os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"))


def test_the_command_line_draws_there(tmp_path, capsys):
    kernels.use("cpu")
    meta = META | {"dataset": "digits", "labels": {"digit": ["0", "1", "2"]}}
    meta["train"] = {"predict": "v"}
    run, _ = checkpoint.build(meta, seed=0)
    model, picture = str(tmp_path / "a.npz"), tmp_path / "a.png"
    checkpoint.export(model, run.theta, meta)
    cuda_array.traffic.clear()
    asked = ["--kernels", "cuda", "sample", model, *"--n 1 --steps 1 --out".split(), str(picture)]
    assert cli.main(asked) == 0, capsys.readouterr().err
    assert ": 1 image\n" in capsys.readouterr().out and picture.exists()
    assert cuda_array.traffic["out"] == 1  # x_0, to be shown
