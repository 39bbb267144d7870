"""Gram matrices by hand, the loss against its formula and differences, the walk down it."""

import numpy as np
import pytest
from test_sample import rejects

from tinydiff import ops
from tinydiff.autodiff import Tensor, gradient
from tinydiff.design import gatys
from tinydiff.measure import classifier


def network(seed=3, dtype=np.float64):
    rng = np.random.default_rng(seed)
    model = classifier.Classifier(8, 2, (3,), width=8, rng=rng)
    model.flatten(dtype)
    pictures = np.clip(rng.normal(0, 0.5, (9, 8, 8, 2)), -1, 1).astype(dtype)
    pictures[4:, ::2] *= 0.2  # a style with stripes
    return model, pictures[:4], pictures[4:]


# --- Gram matrices ---


def check_gram(gram_of):
    """Four pixels, two features, two images; neither order nor number matters."""
    first, second = [[1.0, 2], [3, -4], [2, 0], [0, 2]], [[0, 1], [2, 0], [1, 1], [1, -2]]
    h = np.array([first, second]).reshape(2, 2, 2, 2)
    want = np.array([[[3.5, -2.5], [-2.5, 6]], [[1.5, -0.25], [-0.25, 1.5]]])
    for case, x in {
        "two images of 2 x 2 pixels": h,
        "the pixels in another order": h[:, :, ::-1].swapaxes(1, 2),
        "each pixel three times, 2 x 6": np.concatenate([h, h, h], axis=2),
    }.items():
        got = np.asarray(gram_of(x))
        said = f"{case}, 2 features: expected shape (2, 2, 2), came {got.shape}"
        assert got.shape == (2, 2, 2), said
        said = f"{case}: expected {want.tolist()}, came {got.tolist()}"
        assert np.allclose(got, want, rtol=1e-12), said


def check_gram_slope(gram_of):
    """Of three features: sum A G has the gradient (A + A^T) h / (H W), found by ops."""
    rng = np.random.default_rng(5)
    h, A = rng.normal(1, 1, (2, 3, 4, 3)), rng.normal(size=(2, 3, 3))
    G = np.einsum("nhwi,nhwj->nij", h, h) / 12
    variable = Tensor(h)
    got = gram_of(variable)
    said = "given a Tensor it should give a Tensor:"
    assert isinstance(got, Tensor), f"{said} build it from ops, so that a gradient can be taken"
    said = "3 x 4 pixels, 3 features: not the mean of the products"
    assert np.allclose(got.value, G, rtol=1e-12), said
    (g,) = gradient(ops.sum(got * A), [variable])
    said = "the gradient of sum(A G) should be h (A + A^T) / (H W)"
    assert np.allclose(g, h @ (A + A.swapaxes(1, 2))[:, None] / 12, rtol=1e-12), said


@pytest.mark.exercise("gram.gram")
@pytest.mark.parametrize("check", [check_gram, check_gram_slope])
def test_gram(check):
    check(gatys.gram)


def test_slips_of_gram():
    """The sum; divided by the features too; a covariance; one matrix for all; axes exchanged."""
    for wrong in (
        lambda h: gatys.gram(h) * (h.shape[1] * h.shape[2]),
        lambda h: gatys.gram(h) / h.shape[3],
        lambda h: gatys.gram(h - h.mean((1, 2), keepdims=True)),
        lambda h: np.broadcast_to(gatys.gram(h).mean(0), (len(h), h.shape[3], h.shape[3])),
        lambda h: gatys.gram(h.swapaxes(2, 3)),
    ):
        rejects(check_gram, wrong)


def by_pixels(h):
    """Average the products of features over the pixels of one image. (H, W, C) -> (C, C)"""
    return np.einsum("hwi,hwj->ij", h, h) / h[..., 0].size


def check_style(style_of):
    """Means and spreads over the pictures, map by map; one picture is its own mean."""
    model, _, pictures = network()
    style = style_of(model, pictures)
    for (G, spread), h in zip(style, model.maps(pictures), strict=True):
        each = np.array([by_pixels(image) for image in h])
        assert G.shape == (1, *each.shape[1:]) and np.allclose(G[0], each.mean(0), rtol=1e-12)
        want = sum(np.sum((one - each.mean(0)) ** 2) for one in each) / len(each)
        assert np.isclose(spread, want, rtol=1e-12)
    one = style_of(model, pictures[1:2], [5.0, 6, 7, 8])
    assert [spread for _, spread in one] == [5, 6, 7, 8]
    for (G, _), h in zip(one, model.maps(pictures[1:2]), strict=True):
        assert np.allclose(G, gatys.gram(h), rtol=1e-12)


def test_style_of():
    check_style(gatys.style_of)


def of_the_first(model, images, spreads=None):
    return gatys.style_of(model, images[:1], spreads or [1.0] * 4)


def spreads_ignored(model, images, spreads=None):
    return gatys.style_of(model, images)


def roots_of_spreads(model, images, spreads=None):
    return [(G, spread**0.5) for G, spread in gatys.style_of(model, images, spreads)]


@pytest.mark.parametrize("wrong", [of_the_first, spreads_ignored, roots_of_spreads])
def test_slips_of_style_of(wrong):
    rejects(check_style, wrong)


# --- the loss ---


def check_formula(loss):
    """Term by term, each image by itself; pictures of the style are on average 1 away per map."""
    model, source, pictures = network()
    style, maps = gatys.style_of(model, pictures), model.maps(pictures[:4])
    content = model.maps(source)[-1]
    for weight in (0.0, 0.7):
        want = 0.0
        for n in range(4):
            want += weight * np.sum((maps[-1][n] - content[n]) ** 2) / np.sum(content[n] ** 2)
            for h, (G, spread) in zip(maps, style, strict=True):
                want += np.sum((by_pixels(h[n]) - G[0]) ** 2) / spread
        got = loss(model, pictures[:4], content, style, weight)
        assert np.isclose(got, want, rtol=1e-12), f"weight = {weight}"
    own = loss(model, pictures, model.maps(pictures)[-1], style, 1.0)
    assert np.isclose(own, 4 * len(pictures), rtol=1e-12)


def check_slope(loss):
    """The gradient along a random direction, by differences; images are independent."""
    model, source, pictures = network()
    style, content = gatys.style_of(model, pictures), model.maps(source)[-1]
    x, along, h = pictures[1:5], np.random.default_rng(4).normal(size=(4, 8, 8, 2)), 1e-3
    variable = Tensor(x)
    (g,) = gradient(loss(model, variable, content, style, 0.7), [variable])
    moved = lambda step: float(loss(model, x + step * h * along, content, style, 0.7))
    up1, down1, up2, down2 = map(moved, (1, -1, 2, -2))
    want = (8 * (up1 - down1) - (up2 - down2)) / (12 * h)
    assert abs((g * along).sum() - want) < 1e-7 * abs(want)
    alone = Tensor(x[2:3])
    (own,) = gradient(loss(model, alone, content[2:3], style, 0.7), [alone])
    assert np.allclose(own[0], g[2], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("check", [check_formula, check_slope])
def test_loss(check, kernel_set):
    check(gatys.loss)


def test_slips_of_loss():
    """The mean over images; weights exchanged; spreads left out; another's content; half of it."""
    loss = gatys.loss

    def without_spreads(model, x, content, style, weight):
        return loss(model, x, content, [(G, 1.0) for G, _ in style], weight)

    mean = lambda model, x, content, *how: loss(model, x, content, *how) * (1 / len(content))
    rejects(check_slope, mean)
    for wrong in (
        mean,
        lambda model, x, content, style, weight: loss(model, x, content, style, 1 - weight),
        without_spreads,
        lambda model, x, content, *how: loss(model, x, content[::-1], *how),
        lambda model, x, content, *how: loss(model, x, content / 2, *how),
    ):
        rejects(check_formula, wrong)


# --- the walk ---


def check_walk(transfer):
    """From the source down, within [-1, 1]; a heavier content stays closer to its source."""
    model, source, pictures = network(dtype=np.float32)
    kept, style, content = source.copy(), gatys.style_of(model, pictures), model.maps(source)[-1]
    chain = list(transfer(model, source, style, weight=0.1, steps=20, lr=0.03))
    losses = [float(gatys.loss(model, x, content, style, 0.1)) for x in chain]
    assert len(chain) == 21 and np.array_equal(chain[0], kept) and np.array_equal(source, kept)
    assert losses[-1] < 0.5 * losses[0] and np.all(np.diff(losses[2:]) < 0)
    assert max(np.abs(x).max() for x in chain) <= 1 and np.abs(chain[-1]).max() == 1
    *_, alone = transfer(model, source[1:2], style, weight=0.1, steps=20, lr=0.03)
    assert np.allclose(alone[0], chain[-1][1], atol=1e-3), "an image does not depend on its batch"
    *_, heavy = transfer(model, source, style, weight=1000.0, steps=20, lr=0.03)
    far = [np.sum((model.maps(x)[-1] - content) ** 2) for x in (chain[-1], heavy)]
    assert far[1] < 0.2 * far[0]


def check_content_alone(transfer):
    """Where the source already has the style it comes back as it was."""
    model, source, _ = network()
    own = [(gatys.gram(h), 1.0) for h in model.maps(source)]
    assert all(np.array_equal(x, source) for x in transfer(model, source, own, weight=1.0, steps=3))


@pytest.mark.parametrize("check", [check_walk, check_content_alone])
def test_transfer(check):
    check(gatys.transfer)


def uphill(model, source, style, weight, steps, lr):
    return gatys.transfer(model, source, style, weight, steps, -lr)


def one_array_again_and_again(model, source, style, weight, steps, lr):
    *_, last = gatys.transfer(model, source, style, weight, steps, lr)
    return [last] * (steps + 1)


def weight_forgotten(model, source, style, weight, steps, lr):
    return gatys.transfer(model, source, style, 0.1, steps, lr)


def others_style(model, source, style, weight, steps, lr):
    return gatys.transfer(model, source, gatys.style_of(model, source), weight, steps, lr)


@pytest.mark.parametrize(
    "wrong", [uphill, one_array_again_and_again, weight_forgotten, others_style]
)
def test_slips_of_transfer(wrong):
    rejects(check_walk, wrong)


# --- NaN ---


@pytest.mark.parametrize("pixels", ["one", "all"])
def test_nan_in_a_picture_stops_the_walk(pixels, kernel_set):
    """Adam changes nothing where the gradient is NaN: the walk would end where it began."""
    model, source, pictures = network(dtype=np.float32)
    style, broken = gatys.style_of(model, pictures), source.copy()
    broken[(1, 2, 3, 0) if pixels == "one" else slice(None)] = np.nan
    walk = gatys.transfer(model, broken, style, steps=3)
    assert np.array_equal(next(walk), broken, equal_nan=True)
    with pytest.raises(FloatingPointError, match="^the loss at step 1 is nan"):
        next(walk)


def test_a_style_with_nan_stops_the_walk():
    model, source, pictures = network(dtype=np.float32)
    pictures[2, 0, 0, 0] = np.nan
    style = gatys.style_of(model, pictures)
    assert all(np.isnan(spread) for _, spread in style)
    with pytest.raises(FloatingPointError, match="^the loss at step 1 is nan"):
        list(gatys.transfer(model, source, style, steps=3))


def test_a_style_that_no_picture_can_have_stops_the_walk():
    """A spread of 0, as a single picture has, makes the loss infinite."""
    model, source, pictures = network(dtype=np.float32)
    style = gatys.style_of(model, pictures[:1], [1.0, 1.0, 1.0, 1e-300])
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="step 1 is inf"):
        list(gatys.transfer(model, source, style, steps=3))
