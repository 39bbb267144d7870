"""The whole network, tiny: its gradient, its symmetry, its labels, what it refuses."""

import inspect

import numpy as np
import pytest

from tinydiff import autodiff, kernels, ops, unet
from tinydiff.autodiff import Tensor


def make(rng, size=8, channels=1, dtype=np.float32, noise=0.1, **options):
    """Build a small U-Net, its zero-initialised weights moved away from zero -> model, theta"""
    options = {"multipliers": (1, 2), "depth": 1} | options
    model = unet.UNet(size, channels, width=8, rng=rng, **options)
    theta = model.flatten(dtype)
    theta += noise * rng.standard_normal(theta.size).astype(dtype)
    return model, theta


# --- derivative ---


@pytest.mark.parametrize("classes, depth, padding", [((3, 2), 1, "circular"), ((), 2, "zeros")])
def test_gradient_of_the_whole_network(classes, depth, padding, kernel_set, rng):
    """One random direction over all parameters and the image, in float64."""
    model, theta = make(rng, dtype=np.float64, classes=classes, depth=depth, padding=padding)
    x, t = rng.standard_normal((2, 8, 8, 1)), np.array([3, 700])
    labels = np.array([[2, 2], [0, 1]]) if classes else None
    u, dx = rng.standard_normal((2, *x.shape))
    dtheta, start = rng.standard_normal(theta.size), theta.copy()
    with model.variables() as params:
        image = Tensor(x)
        gx, *gs = autodiff.gradient(ops.sum(model(image, t, labels) * u), [image, *params])
    exact = np.sum(gx * dx) + np.concatenate([g.ravel() for g in gs]) @ dtheta

    def phi(h):
        theta[:] = start + h * dtheta
        return np.sum(u * model(x + h * dx, t, labels))

    h = 1e-6
    numeric = (phi(h) - phi(-h)) / (2 * h)
    assert abs(exact) > 1
    assert abs(exact - numeric) < 1e-6 * abs(exact)


def test_every_parameter_matters(rng):
    model, _ = make(rng, dtype=np.float64, classes=(3,))
    x = rng.standard_normal((2, 8, 8, 1))
    t, labels = np.array([1, 900]), np.array([[0], [1]])
    with model.variables() as params:
        grads = autodiff.gradient(ops.sum(model(x, t, labels) * x), params)
    assert [name for name, g in zip(model.params(), grads, strict=True) if not g.any()] == []


# --- shape and size ---


@pytest.mark.parametrize(
    "size, channels, multipliers",
    [(8, 1, (1, 2)), (16, 3, (1, 2, 2)), (28, 1, (1, 2, 2)), (32, 3, (1, 1, 2, 2))],
)
def test_an_image_comes_out_as_it_went_in(size, channels, multipliers, rng):
    model, _ = make(rng, size, channels, multipliers=multipliers)
    x = rng.standard_normal((2, size, size, channels), dtype=np.float32)
    y = model(x, np.array([1, 1000]))
    assert y.shape == x.shape and y.dtype == np.float32
    assert np.isfinite(y).all() and y.std() > 0.01


def test_images_of_other_sizes_and_not_square(rng):
    model, _ = make(rng)
    assert model(np.zeros((1, 12, 6, 1), np.float32), np.array([5])).shape == (1, 12, 6, 1)


def test_at_first_the_output_is_zero(rng):
    model = unet.UNet(8, 3, width=8, multipliers=(1, 2), depth=2, classes=(4,), rng=rng)
    x = rng.standard_normal((2, 8, 8, 3), dtype=np.float32)
    np.testing.assert_array_equal(model(x, np.array([1, 2]), np.array([[0], [4]])), 0)


def test_more_channels_may_come_out_than_go_in(rng):
    """Each channel of the output is that of a network with only that channel's last weights."""
    model, _ = make(rng, channels=3, out=5, dtype=np.float64)
    x, t, w = rng.standard_normal((2, 8, 8, 3)), np.array([1, 900]), model.conv_out.w
    y = model(x, t)
    assert y.shape == (2, 8, 8, 5) and w.shape[2:] == (8, 5)
    model.conv_out.w = w[..., 3:4]
    np.testing.assert_allclose(model(x, t), y[..., 3:4], rtol=1e-9, atol=1e-12)
    assert unet.UNet(8, 3, width=8, multipliers=(1, 2), rng=rng).conv_out.w.shape[3] == 3


def test_depth_and_multipliers_count_the_blocks(rng):
    model, _ = make(rng, size=16, multipliers=(1, 2, 4), depth=2)
    width = lambda levels: [[block.conv2.w.shape[3] for block in level] for level in levels]
    assert width(model.downs) == [[8, 8], [16, 16], [32, 32]]
    assert width(model.ups) == [[32, 32], [16, 16], [8, 8]]
    joined = [[block.conv1.w.shape[2] for block in level] for level in model.ups]
    assert joined == [[32 + 32, 32 + 32], [32 + 16, 16 + 16], [16 + 8, 8 + 8]]
    assert model.divisor == 4


def test_cpu_equals_reference_in_float32(rng, monkeypatch):
    monkeypatch.setattr(kernels, "_active", None)
    model, _ = make(rng, 16, 3, multipliers=(1, 2, 2), classes=(5,))
    x = rng.standard_normal((3, 16, 16, 3), dtype=np.float32)
    t, labels = np.array([1, 50, 999]), np.array([[0], [5], [3]])
    results = []
    for name in ("reference", "cpu"):
        kernels.use(name)
        with model.variables() as params:
            y = model(x, t, labels)
            grads = autodiff.gradient(ops.mse(y, x), params)
        results.append([y.value, np.concatenate([g.ravel() for g in grads])])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(a).max())


# --- symmetry ---


def roll(x):
    return np.roll(x, (4, -8), axis=(1, 2))


def test_circular_padding_makes_the_network_blind_to_position(kernel_set, rng):
    """Rolling the image by multiples of 2^(levels - 1) = 4 pixels rolls the output.

    With zeros at the border it doesn't.
    """
    x, t = rng.standard_normal((1, 16, 24, 1)), np.array([10])
    model, _ = make(rng, 16, dtype=np.float64, multipliers=(1, 1, 2), padding="circular")
    np.testing.assert_allclose(model(roll(x), t), roll(model(x, t)), rtol=1e-9, atol=1e-9)
    model, _ = make(rng, 16, dtype=np.float64, multipliers=(1, 1, 2))
    assert np.abs(model(roll(x), t) - roll(model(x, t))).max() > 1e-2


def check_seen_as_a_tile(circular, kernel_set):
    """Trained with zeros at the border, then given tiles: as if built with circular padding."""
    rng, t = np.random.default_rng(0), np.array([10, 700])
    for dtype, rtol in ((np.float64, 1e-9), (np.float32, 2e-4)):
        model, theta = make(rng, 16, 3, dtype=dtype, multipliers=(1, 1, 2))
        twin, same = make(rng, 16, 3, dtype=dtype, multipliers=(1, 1, 2), padding="circular")
        same[:] = theta
        x = rng.standard_normal((2, 16, 24, 3)).astype(dtype)
        outside = model(x, t)
        with circular(model) as inside:
            y = model(x, t)
            assert inside is model
            np.testing.assert_array_equal(y, twin(x, t))
            largest = np.abs(y).max()
            np.testing.assert_allclose(model(roll(x), t), roll(y), rtol=0, atol=rtol * largest)
        np.testing.assert_array_equal(model(x, t), outside)
        change = np.abs(y - outside)
        assert change[:, 6:-6, 8:-8].max() < change.max() > 0.05 * largest


def check_padding_comes_back(circular, kernel_set):
    """After an error too, and each convolution's own; blocks may lie within blocks."""
    model, _ = make(np.random.default_rng(0), 16)
    model.conv_out.padding = "circular"
    convs = [owner for _, owner, _ in model._slots() if hasattr(owner, "padding")]
    before = [conv.padding for conv in convs]
    assert set(before) == {"zeros", "circular"}
    with pytest.raises(ZeroDivisionError), circular(model):
        with circular(model):
            pass
        assert {conv.padding for conv in convs} == {"circular"}
        1 / 0  # noqa: B018
    assert [conv.padding for conv in convs] == before


@pytest.mark.parametrize("check", [check_seen_as_a_tile, check_padding_comes_back])
def test_a_network_shown_tiles(check, kernel_set):
    check(unet.circular, kernel_set)


@pytest.mark.parametrize(
    "check, old, new",
    [
        (check_seen_as_a_tile, 'conv.padding = "circular"', 'conv.padding = "zeros"'),
        (check_seen_as_a_tile, "for conv in convs:", "for conv in convs[1:]:"),
        (check_padding_comes_back, "conv.padding = padding", 'conv.padding = "zeros"'),
        (check_padding_comes_back, "    finally:\n", "    if True:\n"),
    ],
)
def test_errata_circular(check, old, new, kernel_set):
    source = inspect.getsource(unet.circular)
    assert source.count(old) == 1
    source = source.replace(old, new)
    if "finally" in old:
        source = source.replace("    try:\n", "    if True:\n")
    exec(source, scope := dict(vars(unet)))
    with pytest.raises(AssertionError):
        check(scope["circular"], kernel_set)


def test_images_of_a_batch_do_not_see_each_other(rng):
    model, _ = make(rng, dtype=np.float64, classes=(3,))
    x, t = rng.standard_normal((3, 8, 8, 1)), np.array([1, 10, 100])
    labels = np.array([[2], [0], [3]])
    together = model(x, t, labels)
    for n in range(3):
        alone = model(x[n : n + 1], t[n : n + 1], labels[n : n + 1])
        np.testing.assert_allclose(alone, together[n : n + 1], rtol=1e-9, atol=1e-9)


# --- time and labels ---


def test_time_and_each_label_change_the_output(rng):
    model, _ = make(rng, classes=(3, 2))
    x = rng.standard_normal((1, 8, 8, 1), dtype=np.float32)
    inputs = [(5, (0, 0)), (6, (0, 0)), (5, (1, 0)), (5, (0, 1)), (5, (3, 2))]
    outputs = [model(x, np.array([t]), np.array([labels])) for t, labels in inputs]
    for i, a in enumerate(outputs):
        assert all(np.abs(a - b).max() > 1e-4 for b in outputs[:i])


def test_no_labels_means_that_all_are_dropped(rng):
    model, _ = make(rng, classes=(3, 2))
    x, t = rng.standard_normal((2, 8, 8, 1), dtype=np.float32), np.array([5, 50])
    np.testing.assert_array_equal(model(x, t), model(x, t, np.array([[3, 2], [3, 2]])))


# --- refusals ---


@pytest.mark.parametrize(
    "options, message",
    [
        ({"size": 18, "multipliers": (1, 2, 2)}, "18 cannot be halved 2 times"),
        ({"size": 8, "width": 12}, "12 channels.*divisible by 8"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message, rng):
    with pytest.raises(ValueError, match=message) as e:
        unet.UNet(**options, rng=rng)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 8, 8, 3), (2, 7, 8, 1), (2, 8, 9, 1)])
def test_images_of_wrong_shape_are_refused(shape, rng):
    model, _ = make(rng)
    with pytest.raises(ValueError, match=r"\(N, H, W, 1\)") as e:
        model(np.zeros(shape, np.float32), np.array([1, 2]))
    assert "\n" not in str(e.value) and str(shape) in str(e.value)


WRONG_LABELS = {
    "one dimension": [0, 1],
    "too few columns": [[0], [1]],
    "too many images": [[0, 0]] * 3,
    "negative": [[0, 0], [-1, 0]],
    "too large": [[0, 3], [0, 0]],
}


@pytest.mark.parametrize("wrong", WRONG_LABELS)
def test_wrong_labels_are_refused(wrong, rng):
    model, _ = make(rng, classes=(3, 2))
    with pytest.raises(ValueError, match="label") as e:
        model(np.zeros((2, 8, 8, 1), np.float32), np.array([1, 2]), np.array(WRONG_LABELS[wrong]))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "labels, message",
    [
        ([[3, 0], [-1, 2]], "column 0 takes 0 .. 3 (the last means 'any'); row 1 has -1"),
        ([[3, 0], [0, 3]], "column 1 takes 0 .. 2 (the last means 'any'); row 1 has 3"),
    ],
)
def test_a_label_out_of_range_is_shown(labels, message, rng):
    model, _ = make(rng, classes=(3, 2))
    with pytest.raises(ValueError, match="label out of range") as e:
        model(np.zeros((2, 8, 8, 1), np.float32), np.array([1, 2]), np.array(labels))
    assert message in str(e.value)


def test_labels_for_a_network_without_labels_are_refused(rng):
    model, _ = make(rng)
    with pytest.raises(ValueError, match="label"):
        model(np.zeros((1, 8, 8, 1), np.float32), np.array([1]), np.array([[0]]))


def test_a_network_is_shown_in_one_line():
    model = unet.UNet(8, width=8, multipliers=(1, 2), rng=np.random.default_rng(0))
    assert repr(model) == f"<UNet of {len(model.flatten()):,} parameters>"
    with model.variables():
        assert repr(model).startswith("<UNet of")
