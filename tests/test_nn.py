"""Layers: parameters found, flattened, lent as Tensors; what each layer computes; its variance."""

import math

import numpy as np
import pytest

from tinydiff import autodiff, gradcheck, nn, ops
from tinydiff.autodiff import Tensor


class Net(nn.Module):
    """Parameters of every kind: an array, a layer, lists of lists of layers; and what is none."""

    def __init__(self, rng):
        self.bias = np.arange(3, dtype=np.float32)
        self.first = nn.Linear(4, 3, rng=rng)
        self.levels = [[nn.Linear(3, 3, rng=rng), nn.GroupNorm(3, groups=3)], []]
        self.depth, self.nothing, self.classes = 2, None, (1, 2)

    def __call__(self, x):
        x = self.first(x) + self.bias
        for level in self.levels:
            for layer in level:
                x = layer(x)
        return x


@pytest.fixture
def net(rng):
    return Net(rng)


# --- Module ---


def test_params_names_every_array(net):
    inside = ["levels.0.0.w", "levels.0.0.b", "levels.0.1.scale", "levels.0.1.shift"]
    assert list(net.params()) == ["bias", "first.w", "first.b", *inside]
    assert net.params()["levels.0.0.w"] is net.levels[0][0].w


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_flatten_makes_views_of_one_buffer(net, dtype, rng):
    x, before = rng.standard_normal((2, 4)).astype(dtype), net.params()
    y = net(x)
    theta = net.flatten(dtype)
    after = net.params()
    assert theta.dtype == dtype and theta.shape == (sum(a.size for a in before.values()),)
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])
        assert np.shares_memory(after[name], theta), name
    np.testing.assert_array_equal(theta, np.concatenate([a.ravel() for a in after.values()]))
    np.testing.assert_allclose(net(x), y, rtol=1e-5)
    theta[:] = 0
    np.testing.assert_array_equal(net(x), 0)


def test_variables_lends_tensors_and_takes_them_back(net):
    theta, before = net.flatten(), net.params()
    with net.variables() as params:
        assert all(isinstance(p, Tensor) for p in params)
        assert [p is q for p, q in zip(params, net.params().values(), strict=True)] == [True] * 7
        assert all(p.value is a for p, a in zip(params, before.values(), strict=True))
    assert all(net.params()[name] is before[name] for name in before)
    assert np.shares_memory(net.bias, theta)


def test_variables_takes_them_back_after_an_exception(net):
    before = net.params()
    with pytest.raises(RuntimeError), net.variables():
        raise RuntimeError
    assert all(net.params()[name] is before[name] for name in before)


def test_a_model_called_on_arrays_records_nothing(net, rng):
    x = rng.standard_normal((2, 4), dtype=np.float32)
    assert type(net(x)) is np.ndarray
    with net.variables():
        y = net(x)
    assert isinstance(y, Tensor)
    np.testing.assert_array_equal(y.value, net(x))


def test_gradient_of_a_whole_model(net, rng):
    theta = net.flatten(np.float64)
    start, d, x = theta.copy(), rng.standard_normal(theta.size), rng.standard_normal((5, 4))
    target = rng.standard_normal((5, 3))
    with net.variables() as params:
        grads = autodiff.gradient(ops.mse(net(x), target), params)
    exact = np.concatenate([g.ravel() for g in grads]) @ d
    values = []
    for h in (1e-5, -1e-5):
        theta[:] = start + h * d
        values.append(np.mean((net(x) - target) ** 2))
    np.testing.assert_allclose((values[0] - values[1]) / 2e-5, exact, rtol=1e-6)


# --- layers ---


def test_linear_by_hand(rng):
    layer = nn.Linear(2, 3, rng=rng)
    layer.w, layer.b = np.array([[1.0, 2, 3], [4, 5, 6]]), np.array([0.5, 0, -0.5])
    np.testing.assert_array_equal(layer(np.array([[[1.0, 10]]])), [[[41.5, 52, 62.5]]])


def test_conv2d_passes_its_padding_on(rng):
    x = rng.standard_normal((1, 3, 4, 2), dtype=np.float32)
    for padding in ("zeros", "circular"):
        layer = nn.Conv2d(2, 3, K=3, padding=padding, rng=rng)
        np.testing.assert_array_equal(layer(x), ops.conv2d(x, layer.w, padding=padding))


def test_group_norm_layer(rng):
    x = rng.standard_normal((2, 3, 4, 6), dtype=np.float32)
    for silu, f in [(False, ops.group_norm), (True, ops.norm_silu)]:
        layer = nn.GroupNorm(6, groups=3, silu=silu)
        layer.scale, layer.shift = np.full(6, 2, np.float32), np.full(6, 0.5, np.float32)
        np.testing.assert_array_equal(layer(x), f(x, layer.scale, layer.shift, groups=3))


def test_group_norm_refuses_channels_that_do_not_split():
    with pytest.raises(ValueError, match="12 channels.*8 groups") as e:
        nn.GroupNorm(12, groups=8)
    assert "\n" not in str(e.value)


def test_embedding_layer(rng):
    layer = nn.Embedding(5, 3, rng=rng)
    np.testing.assert_array_equal(layer(np.array([4, 0, 4])), layer.table[[4, 0, 4]])


def test_layers_keep_the_variance_at_initialisation(rng):
    x = rng.standard_normal((500, 64), dtype=np.float32)
    image = rng.standard_normal((2, 9, 7, 64), dtype=np.float32)
    variances = {
        "linear, wider": nn.Linear(64, 128, rng=rng)(x).var(),
        "linear, narrower": nn.Linear(64, 16, rng=rng)(x).var(),
        "conv": nn.Conv2d(64, 48, padding="circular", rng=rng)(image).var(),
        "conv, K = 1": nn.Conv2d(64, 48, K=1, rng=rng)(image).var(),
        "conv, gain 3": nn.Conv2d(64, 48, gain=3.0, padding="circular", rng=rng)(image).var() / 9,
        "norm": nn.GroupNorm(64)(3 * image + 1).var(),
        "embedding": nn.Embedding(64, 64, rng=rng).table.var(),
    }
    assert {name: round(float(v), 2) for name, v in variances.items() if not 0.85 < v < 1.15} == {}
    np.testing.assert_array_equal(nn.Conv2d(64, 8, gain=0.0, rng=rng)(image), 0)


def test_initialisation_comes_from_rng_alone():
    a, b, c = (nn.Conv2d(3, 4, rng=np.random.default_rng(seed)).w for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 0.1
    assert a.dtype == np.float32


# --- attention ---


def attention(rng):
    layer = nn.Attention(16, rng=rng)
    theta = layer.flatten(np.float64)
    theta += 0.3 * rng.standard_normal(theta.size)
    return layer


def test_attention_at_first_changes_nothing(rng):
    x = rng.standard_normal((2, 3, 4, 16), dtype=np.float32)
    np.testing.assert_array_equal(nn.Attention(16, rng=rng)(x), x)


def test_attention_equals_pixel_by_pixel(kernel_set, rng):
    layer, x = attention(rng), rng.standard_normal((2, 3, 2, 16))
    y = layer(x)
    for n in range(2):
        pixels = [(h, w) for h in range(3) for w in range(2)]
        normed = layer.norm(x[n : n + 1])[0]
        for p in pixels:
            q = normed[p] @ layer.q.w[0, 0]
            keys, values = ([normed[r] @ m.w[0, 0] for r in pixels] for m in (layer.k, layer.v))
            scores = np.array([math.exp(q @ k / math.sqrt(16)) for k in keys])
            mixed = sum(s * v for s, v in zip(scores / scores.sum(), values, strict=True))
            np.testing.assert_allclose(y[n][p], x[n][p] + mixed @ layer.out.w[0, 0], rtol=1e-10)


def test_attention_weights_sum_to_1(kernel_set, rng):
    q, k = 5 * rng.standard_normal((2, 2, 15, 4))
    np.testing.assert_allclose(ops.attention(q, k, np.full((2, 15, 4), 3.0)), 3, rtol=1e-12)


def test_attention_gradient(kernel_set, rng):
    gradcheck.gradcheck(attention(rng), [rng.standard_normal((2, 3, 2, 16))], rng)


# --- the time embedding ---


exercise = pytest.mark.exercise("nn.time_embedding")


WEIGHED = {
    (6, 10000.0): 0.0800643904,
    (4, 10000.0): -3.9101036,
    (2, 7.0): -2.09407378,
    (10, 50.0): -1.43267993,
}  # E, longest: the sum of the entries times cos 1, cos 2, ..., in 18 digits


@exercise
def test_time_embedding_adds_up_right():
    times = np.array([37.0, 0.0, 2.5, -1.25, 2.5, 1.0])
    for (E, longest), expected in WEIGHED.items():
        got, what = nn.time_embedding(times, E, longest), f"E = {E}, longest = {longest:g}"
        assert isinstance(got, np.ndarray), f"expected an array, got {type(got).__name__}"
        assert got.shape == (6, E), f"6 times, {what}: expected the shape (6, {E}), got {got.shape}"
        assert got.dtype == np.float32, f"expected float32, like the network, got {got.dtype}"
        weighed = np.sum(got.ravel() * np.cos(1 + np.arange(got.size)))
        assert abs(weighed - expected) < 1e-5, (
            f"t = {times.tolist()}, {what}: with weights cos 1, cos 2, ... the entries add up to "
            f"{weighed:.6f}, expected {expected:.6f}"
        )


@exercise
def test_time_embedding_of_sixths():
    """E = 4 and longest = 4: the hands are at t and t / 2."""
    right = {1 / 3: [3**0.5 / 2, 0.5, 0.5, 3**0.5 / 2], 1.0: [0, 1, -1, 0]}
    for t, hands in right.items():
        got = nn.time_embedding([math.pi * t], 4, 4)
        assert got.shape == (1, 4), f"one time, E = 4: expected the shape (1, 4), got {got.shape}"
        assert np.allclose(got, hands, atol=1e-6), (
            f"t = {t:.3g} pi, E = 4, longest = 4: got {got}, expected {np.round(hands, 4)}"
        )


@exercise
def test_time_embedding_takes_whole_numbers_and_lists():
    for t in (np.array([1200, 3, 800]), [1200, 3, 800]):
        got = nn.time_embedding(t, 8)
        waves = [(f, 10**i) for f in (math.sin, math.cos) for i in range(4)]
        expected = [[f(s / length) for f, length in waves] for s in (1200, 3, 800)]
        assert got.shape == (3, 8), f"3 times, E = 8: expected the shape (3, 8), got {got.shape}"
        assert np.allclose(got, expected, atol=2e-4), (
            f"t = [1200, 3, 800] as {type(t).__name__}: got {got}, expected {np.round(expected, 4)}"
        )


@exercise
def test_time_embedding_gives_each_call_its_own_result():
    first = nn.time_embedding([0.0, 0.0], 4)
    nn.time_embedding([1.0, 2.0], 4)
    assert np.array_equal(first, [[0, 0, 1, 1]] * 2), f"a later call changed the result: {first}"


def test_time_embedding_tells_all_times_apart():
    e = nn.time_embedding(np.arange(1001), 32)
    assert e.shape == (1001, 32) and np.abs(e).max() <= 1
    away = ((e[:, None, :] - e) ** 2).sum(-1) + 10 * np.eye(1001)
    assert away.min() > 0.1
