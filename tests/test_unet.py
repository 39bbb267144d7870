"""The whole network, tiny: its gradient, its symmetry, its labels, what it refuses."""

import inspect
from types import SimpleNamespace

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


# --- exercises: run_block, run_unet ---

on_reference = pytest.mark.parametrize("kernel_set", ["reference"], indirect=True)


def whole(rng, *shape):
    """Small whole numbers: sums and products of them are exact, in whatever order."""
    return rng.integers(-3, 4, shape).astype(np.float64)


def layers_of_a_block(rng, C, O, E, shortcut):
    """Stand in for a Block: layers that are exact and that no order can hide.

    -> the block; dict in which each layer leaves (what it was given, what it made of it)
    """
    A, B, S, D = whole(rng, C, O), whole(rng, O, O), whole(rng, C, O), whole(rng, E, O)
    seen = {}

    def layer(name, f):
        def called(given):
            made = f(given)
            seen[name] = np.copy(given), np.copy(made)  # the caller may go on in these arrays
            return made

        return called

    layers = {
        "norm1": lambda x: x**2 - 1,
        "conv1": lambda x: x @ A,
        "embed": lambda e: e @ D,
        "norm2": lambda x: x**2 + 2,
        "conv2": lambda x: x @ B,
        "shortcut": lambda x: x @ S,
    }
    block = SimpleNamespace(**{name: layer(name, f) for name, f in layers.items()})
    if not shortcut:
        block.shortcut = None
    return block, seen


BLOCKS = [  # N, H, W, C, O, is there a layer on the shortcut?
    (2, 2, 2, 3, 3, False),
    (3, 2, 4, 2, 4, True),
    (2, 4, 2, 1, 3, True),
    (1, 2, 4, 3, 3, False),
    (2, 2, 2, 3, 3, True),
]


@pytest.mark.exercise("unet.run_block")
@on_reference
@pytest.mark.parametrize("N, H, W, C, O, shortcut", BLOCKS)
def test_a_block_layer_by_layer(N, H, W, C, O, shortcut, kernel_set, rng):
    """Each layer is given what it should be, and the answer is the sum of two of them."""
    block, seen = layers_of_a_block(rng, C, O, 5, shortcut)
    x, e = whole(rng, N, H, W, C), whole(rng, N, 5)
    got = unet.run_block(block, x, e)
    beside = "a layer on the shortcut" if shortcut else "no layer on the shortcut"
    case = f"{N} images {H} x {W} of {C} channels, {O} come out, {beside}"
    assert np.shape(got) == (N, H, W, O), f"{case}: got shape {np.shape(got)}"

    def check(name, given, wanted, says):
        assert np.shape(given) == wanted.shape and np.array_equal(given, wanted), (
            f"{case}: {name} is not {says}"
        )

    for name in ("norm1", "conv1", "embed", "norm2", "conv2", *["shortcut"] * shortcut):
        assert name in seen, f"{case}: {name} was not called"
    gave = {name: out for name, (_, out) in seen.items()}
    check("what norm1 is given", seen["norm1"][0], x, "x")
    check("what conv1 is given", seen["conv1"][0], gave["norm1"], "the output of norm1")
    check("what embed is given", seen["embed"][0], e, "e")
    both = np.stack([a + b for a, b in zip(gave["conv1"], gave["embed"], strict=True)])
    says = "the output of conv1, plus embed(e) at every pixel"
    check("what norm2 is given", seen["norm2"][0], both, says)
    check("what conv2 is given", seen["conv2"][0], gave["norm2"], "the output of norm2")
    if shortcut:
        check("what the shortcut is given", seen["shortcut"][0], x, "x")
    rest = np.asarray(got) - gave["conv2"]
    says = "what the layer on the shortcut makes of x" if shortcut else "x itself"
    check("the answer, less the output of conv2,", rest, gave.get("shortcut", x), says)


def assert_autodiff_follows(run, module, x, e, rng):
    """Compare the gradients of x, of e and of all weights with difference quotients of the values.

    run: of two Tensors, a Tensor; module: holds the weights; x, e: arrays of float64
    """
    theta = module.flatten(np.float64)
    theta += 0.1 * rng.standard_normal(theta.size)
    with module.variables() as params:
        X, E = Tensor(x), Tensor(e)
        y = run(X, E)
        assert isinstance(y, Tensor), f"of Tensors it makes a {type(y).__name__}, not a Tensor"
        u = rng.standard_normal(y.shape)
        gx, ge, *gs = autodiff.gradient(ops.sum(y * u), [X, E, *params])
    start, g = theta.copy(), np.concatenate([np.ravel(part) for part in gs])
    places = {"x": (x, gx), "e": (e, ge), "the weights": (start, g)}
    for place, (now, slope) in places.items():
        assert np.any(slope), f"nothing leads back from the answer to {place}"
        way = rng.standard_normal(now.shape)

        def value(h):
            moved = {p: a + h * way if p == place else a for p, (a, _) in places.items()}
            theta[:] = moved["the weights"]
            return np.sum(u * run(moved["x"], moved["e"]))

        want, got = (value(1e-6) - value(-1e-6)) / 2e-6, np.sum(slope * way)
        assert abs(got - want) < 1e-5 * (abs(want) + 1e-3), (
            f"the gradient of {place}, along one direction: expected {want:.6g}, by a difference "
            f"quotient, got {got:.6g}"
        )


@pytest.mark.exercise("unet.run_block")
@on_reference
@pytest.mark.parametrize("C, O", [(8, 8), (8, 16)])
def test_autodiff_follows_a_block(C, O, kernel_set, rng):
    """The gradients of all weights, of x and of e; and float32 stays float32."""
    block = unet.Block(C, O, 4, "zeros", rng=rng)
    x, e = rng.standard_normal((2, 4, 2, C)), rng.standard_normal((2, 4))
    assert_autodiff_follows(lambda x, e: unet.run_block(block, x, e), block, x, e, rng)
    block.flatten(np.float32)
    y = unet.run_block(block, x.astype(np.float32), e.astype(np.float32))
    assert y.dtype == np.float32, f"of float32 it makes {y.dtype}"
    kept = y.copy()
    unet.run_block(block, -x.astype(np.float32), e.astype(np.float32))
    assert np.array_equal(y, kept), "the next call changed what this one had returned"


@pytest.mark.parametrize("padding", ["zeros", "circular"])
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize("C, O, side", [(16, 16, 8), (48, 16, 8), (32, 16, 2), (8, 8, 4)])
def test_a_block_computes_in_one_operation_what_run_block_does(
    C, O, side, dtype, tolerance, padding, kernel_set, rng, monkeypatch
):
    block = unet.Block(C, O, 4, padding, rng=rng)
    theta = block.flatten(dtype)
    theta += rng.standard_normal(theta.shape) / 10
    x, e, u = (rng.standard_normal(s).astype(dtype) for s in ((33, side, side, C), (33, 4), (O,)))
    found = []
    for together in (True, False):
        monkeypatch.setattr(kernels, "together", together)
        with block.variables() as params:
            variables = [Tensor(x), Tensor(e), *params]
            y = block(*variables[:2])
            nodes = len(list(autodiff._backwards(y.node)))
            found.append((y.value, *autodiff.gradient(ops.sum(y * u), variables), nodes))
    assert found[0][-1] < found[1][-1]  # both ways were taken
    for one, other in zip(found[0][:-1], found[1][:-1], strict=True):
        assert one.dtype == dtype
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())


def other_norm(block):
    block.norm1 = unet.GroupNorm(16)  # without silu


def other_groups(block):
    block.norm2 = unet.GroupNorm(16, groups=4, silu=True)


def other_padding(block):
    block.conv2.padding = "circular"


def other_shortcut(block):
    shortcut = block.shortcut
    block.shortcut = lambda x: shortcut(x) + 1


def wide_shortcut(block):
    block.shortcut = unet.Conv2d(16, 32, padding="circular", rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    "change", [other_norm, other_groups, other_padding, other_shortcut, wide_shortcut]
)
def test_a_block_with_another_layer_or_setting_does_what_run_block_does(change, rng):
    block = unet.Block(16, 32, 4, "zeros", rng=rng)
    if change is other_groups:
        block = unet.Block(16, 16, 4, "zeros", rng=rng)
    theta = block.flatten()
    theta += rng.standard_normal(theta.size).astype(np.float32)
    change(block)
    x, e = (rng.standard_normal(s).astype(np.float32) for s in ((2, 8, 8, 16), (2, 4)))
    np.testing.assert_array_equal(block(x, e), unet.run_block(block, x, e))


def test_a_block_whose_layers_were_exchanged_runs_them(monkeypatch, rng):
    block, x = unet.Block(16, 16, 4, "zeros", rng=rng), np.zeros((8, 16, 16, 16), np.float32)
    block.conv2 = lambda h: h + 7
    assert (block(x, np.zeros((8, 4), np.float32)) == 7).all()
    seen, call = [], unet.Conv2d.__call__
    monkeypatch.setattr(unet.Conv2d, "__call__", lambda self, x: seen.append(self) or call(self, x))
    unet.Block(16, 16, 4, "zeros", rng=rng)(x, np.zeros((8, 4), np.float32))
    assert len(seen) == 2


WITHOUT = "(without its e)"


def layers_of_a_unet(levels, depth, e):
    """Stand in for a UNet: each layer notes (its name, side of its image, who made what it got).

    A layer gives an image of two channels: everywhere its own number, and a sum of all that led
    there, so that the answer of another network differs.
    """
    seen, number = [], {}

    def layer(name):
        number[len(number) + 1] = name
        own = float(len(number))

        def called(h, *given):
            makers, sums = h[0, 0, 0, ::2].tolist(), h[0, 0, 0, 1::2]
            told = all(np.shape(g) == e.shape and np.allclose(g, e, rtol=0.1) for g in given)
            told &= bool(given) or name in ("conv_in", "attention", "norm", "conv_out")
            without = [] if told else [WITHOUT]
            seen.append((name, h.shape[1], *[number.get(int(c), "?") for c in makers], *without))
            y = np.full((*h.shape[:3], 2), own)
            y[..., 1] = (own + sums @ [3.0, 7.0][: len(sums)]) % 1000
            return y

        return called

    names = ("conv_in", "mid1", "attention", "mid2", "norm", "conv_out")
    parts = {name: layer(name) for name in names}
    for arm in ("downs", "ups"):
        parts[arm] = [[layer(f"{arm}[{i}][{k}]") for k in range(depth)] for i in range(levels)]
    return SimpleNamespace(**parts), seen


# what must be called, on an image of which side, and who made what it is given
CALLS = {
    (1, 2): """
        conv_in 8 ?            downs[0][0] 8 conv_in       downs[0][1] 8 downs[0][0]
        mid1 8 downs[0][1]     attention 8 mid1            mid2 8 attention
        ups[0][0] 8 mid2 downs[0][1]                       ups[0][1] 8 ups[0][0] downs[0][0]
        norm 8 ups[0][1]       conv_out 8 norm""",
    (3, 1): """
        conv_in 8 ?            downs[0][0] 8 conv_in       downs[1][0] 4 downs[0][0]
        downs[2][0] 2 downs[1][0]
        mid1 2 downs[2][0]     attention 2 mid1            mid2 2 attention
        ups[0][0] 2 mid2 downs[2][0]                       ups[1][0] 4 ups[0][0] downs[1][0]
        ups[2][0] 8 ups[1][0] downs[0][0]
        norm 8 ups[2][0]       conv_out 8 norm""",
    (2, 2): """
        conv_in 8 ?            downs[0][0] 8 conv_in       downs[0][1] 8 downs[0][0]
        downs[1][0] 4 downs[0][1]                          downs[1][1] 4 downs[1][0]
        mid1 4 downs[1][1]     attention 4 mid1            mid2 4 attention
        ups[0][0] 4 mid2 downs[1][1]                       ups[0][1] 4 ups[0][0] downs[1][0]
        ups[1][0] 8 ups[0][1] downs[0][1]                  ups[1][1] 8 ups[1][0] downs[0][0]
        norm 8 ups[1][1]       conv_out 8 norm""",
}


def say(line):
    """Put a line of CALLS into words."""
    name, side, *makers = line.removesuffix(WITHOUT).split()
    told = ", without its e" if line.endswith(WITHOUT) else ""
    return f"{name} on side {side}, given the output of {' and '.join(makers)}{told}"


@pytest.mark.exercise("unet.run_unet")
@on_reference
@pytest.mark.parametrize("levels, depth", CALLS)
def test_every_block_gets_its_own(levels, depth, kernel_set):
    e = np.full((1, 3), levels / 4)
    model, seen = layers_of_a_unet(levels, depth, e)
    y = unet.run_unet(model, np.full((1, 8, 8, 2), 0.5 - levels - depth), e)
    want = [
        " ".join(line.split()) for line in CALLS[levels, depth].replace("\n", "   ").split("   ")
    ]
    want = [line for line in want if line]
    case = f"{levels} level(s) of {depth} block(s)"
    for k, line in enumerate(want):
        got = " ".join(map(str, seen[k])) if k < len(seen) else None
        assert got == line, (
            f"{case}, call {k + 1}: expected {say(line)}; got {say(got) if got else 'no call'}"
        )
    assert len(seen) == len(want), f"{case}: after conv_out comes {seen[len(want)][0]}"
    assert np.all(y[..., 0] == 6), f"{case}: the answer is conv_out's"


@pytest.mark.exercise("unet.run_unet")
@on_reference
@pytest.mark.parametrize("multipliers, depth", [((1, 2, 2), 1), ((1, 2), 2)])
def test_autodiff_follows_a_unet(multipliers, depth, kernel_set, rng):
    """The gradients of all weights, of x and of e, in a U-Net that is not square."""
    model, _ = make(rng, 4, 3, multipliers=multipliers, depth=depth)
    x, e = rng.standard_normal((2, 4, 8, 3)), rng.standard_normal((2, 32))
    assert_autodiff_follows(lambda x, e: unet.run_unet(model, x, e), model, x, e, rng)
    model.flatten(np.float32)
    y = unet.run_unet(model, x.astype(np.float32), e.astype(np.float32))
    assert y.shape == x.shape and y.dtype == np.float32, (
        f"of float32 {x.shape} it makes {y.dtype} {y.shape}"
    )


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
