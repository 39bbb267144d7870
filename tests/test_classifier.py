"""The classifier against closed forms and differences: gradients to 9 digits, counts exact."""

import numpy as np
import pytest
from conftest import compiled_when_slow
from test_sample import T8, rejects

from tinydiff import exact, guide, ops
from tinydiff.measure import classifier

CLASSES = (3, 4)  # two labels with different numbers of values


def scores_from(*maps):
    """Make a classifier for pencil and paper: scores[k] = pixels w + b, (w, b) per label."""
    return lambda x: [ops.matmul(ops.reshape(x, shape=(x.shape[0], -1)), w) + b for w, b in maps]


def linear_model(rng, D):
    return [(rng.normal(size=(D, M)), rng.normal(size=M)) for M in CLASSES]


def log_p(scores, label):
    """Compute log softmax(scores)[label] for one image."""
    return scores[label] - np.log(np.exp(scores - scores.max()).sum()) - scores.max()


def some_labels(rng, N):
    return np.stack([rng.integers(M, size=N) for M in CLASSES], axis=1)


# --- the network ---


def halved(x):
    return x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).mean((2, 4))


@compiled_when_slow
@pytest.mark.parametrize("size, halvings", [(8, 0), (32, 1), (40, 1)])
def test_the_network_written_out(rng, kernel_set, size, halvings):
    """Colours, a convolution, half the size, two more, half the size, 64 features; linear heads.

    What is still wider than 4 pixels is halved again, while it can be.
    """
    model = classifier.Classifier(size, 3, CLASSES, width=8, rng=rng)
    theta = model.flatten(np.float64)
    theta += rng.normal(0, 0.1, theta.shape)  # the shifts start at 0, the scales at 1
    x = rng.normal(size=(3, size, size, 3))
    y = x @ model.colour.w + model.colour.b
    y = y / (1 + np.exp(-y))
    maps = [y]
    for i, (conv, norm) in enumerate(zip(model.convs, model.norms, strict=True)):
        y = ops.group_norm(ops.conv2d(y, conv.w), norm.scale, norm.shift)
        maps.append(y / (1 + np.exp(-y)))
        y = maps[-1] if i == 1 else halved(maps[-1])
    for _ in range(halvings):
        y = halved(y)
    y = y.reshape(3, -1) @ model.squeeze.w + model.squeeze.b
    features, scores = model.features(x), model(x)
    whole, half = (3, size, size, 8), (3, size // 2, size // 2, 16)
    assert [h.shape for h in model.maps(x)] == [whole] * 2 + [half] * 2
    for got, h in zip(model.maps(x), maps, strict=True):
        assert np.allclose(got, h, rtol=0, atol=1e-12)
    assert features.shape == (3, 64)
    assert np.allclose(features, y / (1 + np.exp(-y)), rtol=0, atol=1e-12)
    assert len(scores) == len(CLASSES)
    for got, head, M in zip(scores, model.heads, CLASSES, strict=True):
        assert got.shape == (3, M)
        assert np.allclose(got, features @ head.w + head.b, rtol=0, atol=1e-12)


# --- nll and its gradient ---


def check_nll(nll):
    """Minus the mean of log p, added up over the labels asked."""
    rng = np.random.default_rng(1)
    maps, x, labels = linear_model(rng, 12), rng.normal(size=(5, 2, 2, 3)), some_labels(rng, 5)
    want = np.zeros(2)
    for k, (w, b) in enumerate(maps):
        for image, label in zip(x, labels, strict=True):
            want[k] -= log_p(image.ravel() @ w + b, label[k]) / 5
    for asked, total in ((None, want.sum()), ([0], want[0]), ([1], want[1]), ([1, 0], want.sum())):
        got = nll(scores_from(*maps), x, labels, asked)
        assert abs(got - total) < 1e-12, f"asked = {asked}"


def check_linear(log_p_gradient):
    """With scores x w + b the gradient of log p(label | x) is w[:, label] - w softmax(scores)."""
    rng = np.random.default_rng(2)
    maps, x, labels = linear_model(rng, 12), rng.normal(size=(5, 2, 2, 3)), some_labels(rng, 5)
    want = np.zeros((2, 5, 12))
    for k, (w, b) in enumerate(maps):
        p = np.exp(x.reshape(5, 12) @ w + b)
        want[k] = w[:, labels[:, k]].T - (p / p.sum(1, keepdims=True)) @ w.T
    for asked, total in ((None, want.sum(0)), ([0], want[0]), ([1], want[1])):
        got = log_p_gradient(scores_from(*maps), labels, asked)(x, 3)
        assert got.shape == x.shape and got.dtype == x.dtype
        assert np.allclose(got, total.reshape(x.shape), rtol=0, atol=1e-12), f"asked = {asked}"


def network():
    rng = np.random.default_rng(3)
    model = classifier.Classifier(8, 2, CLASSES, width=8, rng=rng)
    model.flatten(np.float64)
    x, along = rng.normal(size=(2, 3, 8, 8, 2))
    return model, x, np.array([[0, 3], [2, 1], [1, 0]]), along


def check_network(log_p_gradient):
    """Along a random direction each image's gradient is the slope of its own log p."""
    model, x, labels, along = network()
    h = 1e-3

    def own(n, step, asked):
        scores = model((x + step * along)[n : n + 1])
        return sum(log_p(scores[k][0], labels[n, k]) for k in asked)

    for asked in (None, [0], [1]):
        got = (log_p_gradient(model, labels, asked)(x, 1) * along).sum((1, 2, 3))
        for n in range(3):
            up1, down1, up2, down2 = (own(n, step * h, asked or (0, 1)) for step in (1, -1, 2, -2))
            want = (8 * (up1 - down1) - (up2 - down2)) / (12 * h)
            said = f"image {n}, asked = {asked}: slope {got[n]:.8g}, expected {want:.8g}"
            assert abs(got[n] - want) < 1e-9 * (1 + abs(want)), said


def check_own_label_only(log_p_gradient):
    """Another label or image in row 1 leaves rows 0 and 2; so do labels not asked, and t."""
    model, x, labels, along = network()
    before = log_p_gradient(model, labels)(x, 1)
    relabelled, redrawn = labels.copy(), x.copy()
    relabelled[1] = (labels[1] + 1) % CLASSES
    redrawn[1] = along[1]
    gradient = lambda labels, x: log_p_gradient(model, labels)(x, 1)
    for after in (gradient(relabelled, x), gradient(labels, redrawn)):
        moved = np.abs(after - before).max((1, 2, 3))
        assert moved[1] > 1e-3 and moved[[0, 2]].max() < 1e-12
    for k in (0, 1):
        relabelled = labels.copy()
        relabelled[:, 1 - k] = (labels[:, 1 - k] + 1) % CLASSES[1 - k]
        other = log_p_gradient(model, relabelled, [k])(x, 1)
        assert np.array_equal(other, log_p_gradient(model, labels, [k])(x, 700))


def check_guides(log_p_gradient):
    """Gaussian classes of one variance have linear scores: a mixture becomes a class's denoiser."""
    rng = np.random.default_rng(4)
    mean, weight, v = rng.normal(0.3, 0.8, (3, 2, 2, 1)), np.array([0.2, 0.5, 0.3]), 0.3
    x, labels = rng.normal(size=(6, 2, 2, 1)), np.array([[0], [1], [2], [2], [0], [1]])
    mixture = exact.mixture(T8, weight, mean, np.full(3, v))
    for t in range(1, 9):
        ab = T8.alpha_bar[t]
        V, flat = ab * v + 1 - ab, np.sqrt(ab) * mean.reshape(3, -1)
        # log p(class | x_t) but for what all share
        scores = scores_from((flat.T / V, np.log(weight) - (flat**2).sum(1) / (2 * V)))
        got = guide.by_gradient(mixture, T8, log_p_gradient(scores, labels))(x, t)
        of_class = [exact.gaussian(T8, m, v) for m in mean]
        want = np.concatenate([of_class[k](x[n : n + 1], t) for n, (k,) in enumerate(labels)])
        said = f"t = {t}: off by up to {np.abs(got - want).max():.4g}"
        assert np.allclose(got, want, rtol=0, atol=1e-10), said


LOG_P_GRADIENT = (check_linear, check_network, check_own_label_only, check_guides)


def test_nll():
    check_nll(classifier.nll)


@compiled_when_slow
@pytest.mark.parametrize("check", LOG_P_GRADIENT)
def test_log_p_gradient(check, kernel_set):
    check(classifier.log_p_gradient)


def test_log_p_gradient_keeps_single_precision(rng):
    model = classifier.Classifier(8, 1, CLASSES, width=8, rng=rng)
    gradient = classifier.log_p_gradient(model, some_labels(rng, 2))
    g = gradient(rng.standard_normal((2, 8, 8, 1), dtype=np.float32), 1)
    assert g.dtype == np.float32 and np.abs(g).min() > 0


def test_slips_of_nll():
    """asked ignored; None taken for the first; a sum over the batch; a mean; one label."""
    nll = classifier.nll
    for wrong in (
        lambda model, x, labels, asked=None: nll(model, x, labels),
        lambda model, x, labels, asked=None: nll(model, x, labels, asked or [0]),
        lambda model, x, labels, asked=None: nll(model, x, labels, asked) * len(x),
        lambda model, x, labels, asked=None: nll(model, x, labels, asked) / (1 + (asked is None)),
        lambda model, x, labels, asked=None: nll(model, x, labels[:, :1].repeat(2, 1), asked),
    ):
        rejects(check_nll, wrong)


def downhill(model, labels, asked=None):
    return lambda x, t: -classifier.log_p_gradient(model, labels, asked)(x, t)


def of_the_mean(model, labels, asked=None):
    return lambda x, t: classifier.log_p_gradient(model, labels, asked)(x, t) / len(x)


def asked_forgotten(model, labels, asked=None):
    return classifier.log_p_gradient(model, labels)


def labels_of_other_rows(model, labels, asked=None):
    return classifier.log_p_gradient(model, np.roll(labels, 1, axis=0), asked)


def shared_by_all_images(model, labels, asked=None):
    return lambda x, t: classifier.log_p_gradient(model, labels, asked)(x, t).mean(0) + 0 * x


def x_shrunk_by_t(model, labels, asked=None):
    return lambda x, t: classifier.log_p_gradient(model, labels, asked)(x / (1 + t), t)


@pytest.mark.parametrize(
    "wrong, checks",
    [
        (downhill, [check_linear, check_network, check_guides]),
        (of_the_mean, [check_linear, check_network, check_guides]),
        (asked_forgotten, [check_linear, check_network, check_own_label_only]),
        (labels_of_other_rows, LOG_P_GRADIENT),
        (shared_by_all_images, LOG_P_GRADIENT),
        (x_shrunk_by_t, LOG_P_GRADIENT),
    ],
)
def test_slips_of_log_p_gradient(wrong, checks):
    for check in checks:
        rejects(check, wrong)


# --- accuracy ---


def check_accuracy(accuracy):
    """Right answers counted one by one, in batches that need not divide the number of images."""
    rng = np.random.default_rng(7)
    images, labels = rng.normal(size=(23, 2, 2, 1)), some_labels(rng, 23)
    maps = linear_model(rng, 4)
    read = [[np.argmax(x.ravel() @ w + b) for w, b in maps] for x in images]
    labels[20:] = read[20:]  # all right in the odd batch
    right = sum(np.equal(answer, label) for answer, label in zip(read, labels, strict=True))
    assert right[0] != right[1] and 3 < min(right), "so that the two labels cannot be confused"
    for batch in (500, 23, 20, 7, 1):
        got = accuracy(scores_from(*maps), images, labels, batch)
        assert np.array_equal(got, right / 23), f"batch = {batch}"


def answers(model, images, labels):
    return np.stack([scores.argmax(1) == labels[:, k] for k, scores in enumerate(model(images))])


def mean_of_batches(model, x, y, batch=500):
    starts = range(0, len(x), batch)
    return np.mean([answers(model, x[i : i + batch], y[i : i + batch]).mean(1) for i in starts], 0)


def whole_batches_only(model, x, y, batch=500):
    N = len(x) // batch * batch or len(x)
    return classifier.accuracy(model, x[:N], y[:N])


def both_right_at_once(model, x, y, batch=500):
    return np.full(2, answers(model, x, y).all(0).mean())


def labels_not_told_apart(model, x, y, batch=500):
    return np.full(2, answers(model, x, y).mean())


def labels_exchanged(model, x, y, batch=500):
    return answers(model, x, y).mean(1)[::-1]


def test_accuracy():
    check_accuracy(classifier.accuracy)


@pytest.mark.parametrize(
    "wrong",
    [
        mean_of_batches,
        whole_batches_only,
        both_right_at_once,
        labels_not_told_apart,
        labels_exchanged,
    ],
)
def test_slips_of_accuracy(wrong):
    rejects(check_accuracy, wrong)


@pytest.mark.parametrize("pixels", ["one", "all"])
def test_nan_is_not_read_as_the_first_value(pixels, rng):
    """The largest of scores that are NaN is the first: images of NaN would all be noughts."""
    model = classifier.Classifier(8, 1, CLASSES, width=8, rng=rng)
    images, labels = rng.normal(size=(5, 8, 8, 1)).astype(np.float32), np.zeros((5, 2), int)
    images[(3, 1, 1, 0) if pixels == "one" else slice(None)] = np.nan
    with pytest.raises(FloatingPointError, match="values are NaN or infinite"):
        classifier.accuracy(model, images, labels)


# --- fit ---


def halves(rng, N):
    """Make noisy images: left half dark or bright (label 0), right also grey (label 1)."""
    labels = np.stack([rng.integers(2, size=N), rng.integers(3, size=N)], axis=1)
    images = rng.normal(0, 0.2, (N, 8, 8, 1))
    images[:, :, :4] += np.array([-0.5, 0.5])[labels[:, 0], None, None, None]
    images[:, :, 4:] += np.array([-0.7, 0.0, 0.7])[labels[:, 1], None, None, None]
    return images.astype(np.float32), labels


def check_fit(fit):
    """Two labels learned at once, from batches as `change` made them: mirrored images are read."""
    images, labels = halves(np.random.default_rng(8), 500)
    unseen, wanted = halves(np.random.default_rng(9), 300)
    seen = []

    def mirror(x):
        seen.append(x)
        return x[:, :, ::-1].copy()

    rng, how = np.random.default_rng(10), {"steps": 40, "batch": 16, "change": mirror}
    model = fit(images, labels, (2, 3), rng, **how)
    mirrored, plain = (classifier.accuracy(model, x, wanted) for x in (mirror(unseen), unseen))
    assert mirrored.min() > 0.95, f"shares of right answers: {mirrored}"
    assert plain.max() < 0.8, f"on images that are not mirrored, as it never saw them: {plain}"
    rows = {image.tobytes() for image in images}
    assert len(seen) == 41
    for x in seen[:-1]:
        assert len(x) == 16 and {image.tobytes() for image in x} <= rows
    said = "640 draws from 500 images show about 360 of them"
    assert len({image.tobytes() for x in seen[:-1] for image in x}) > 300, said


def test_fit():
    check_fit(classifier.fit)


def test_slips_of_fit():
    """change ignored; a label unlearned; few images; others' labels; changed only once."""
    fit = classifier.fit
    for wrong in (
        lambda x, y, *how, change, **more: fit(x, y, *how, **more),
        lambda x, y, *how, **more: fit(x, y * [1, 0], *how, **more),
        lambda x, y, *how, **more: fit(x[:16], y[:16], *how, **more),
        lambda x, y, *how, **more: fit(x, y[::-1], *how, **more),
        lambda x, y, *how, change, **more: fit(change(x), y, *how, **more),
    ):
        rejects(check_fit, wrong)


def test_the_same_seed_gives_the_same_weights():
    images, labels = halves(np.random.default_rng(8), 50)

    def weights(seed):
        rng = np.random.default_rng(seed)
        return classifier.fit(images, labels, (2, 3), rng, steps=2, batch=4).flatten()

    a, b, other = map(weights, (1, 1, 2))
    assert np.array_equal(a, b) and not np.array_equal(a, other)


# --- trainings that cannot go on ---


@pytest.mark.parametrize("N, broken", [(40, 40), (40, 1), (500, 1)])
def test_nan_in_images_stops_training(N, broken, kernel_set):
    """Adam changes nothing where the gradient is NaN: the untrained network would come back."""
    images, labels = halves(np.random.default_rng(8), N)
    images[:broken, 3, 3] = np.nan
    with pytest.raises(FloatingPointError, match=r"^the loss at step \d+ is nan"):
        classifier.fit(images, labels, (2, 3), np.random.default_rng(1), steps=20, batch=16)


def test_the_step_at_which_a_change_makes_nan_is_named():
    """Whether it is the first step, the last one, or one between."""
    images, labels = halves(np.random.default_rng(8), 60)
    for bad in (1, 3, 7):
        seen = []

        def change(x, bad=bad, seen=seen):
            seen.append(x)
            return x * np.float32(np.nan if len(seen) == bad else 1)

        with pytest.raises(FloatingPointError, match=f"^the loss at step {bad} is nan"):
            how = {"steps": 7, "batch": 4, "change": change}
            classifier.fit(images, labels, (2, 3), np.random.default_rng(1), **how)


def test_a_learning_rate_that_is_far_too_high_stops_training():
    images, labels = halves(np.random.default_rng(8), 60)
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="the loss at step"):
        how = {"steps": 30, "batch": 16, "lr": 1e30}
        classifier.fit(images, labels, (2, 3), np.random.default_rng(1), **how)
