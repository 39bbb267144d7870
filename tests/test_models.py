"""The included models do what tests/bench/RESULTS.md says of them, on a few hundred samples.

These tests are slow: they draw.
"""

import numpy as np
import pytest

from tinydiff import data, diffusion, guide, sample
from tinydiff.design import colour, edit, paired, restore
from tinydiff.design.pipeline import Pipeline
from tinydiff.measure import baselines, classifier, evaluate, metrics
from tinydiff.train import denoiser

pytestmark = pytest.mark.slow


def measured(name, way, w, n=300):
    reader, its = classifier.load(name)
    yardstick = evaluate.Yardstick(reader, data.load(name), n, np.random.default_rng(0))
    images, _ = evaluate.sample_all(Pipeline.load(name), yardstick.labels, 0, way, w)
    return yardstick.measure(images, yardstick.labels), yardstick.floor, its["held_out"]


def test_portraits_show_what_was_requested():
    row, floor, _ = measured("portraits", ("dpmpp_2m", 10, "karras"), 1.5)
    for label in ("hat", "glasses", "clothes", "background"):
        assert row["agreement"][label] > 0.96, label
    assert row["agreement"]["skin"] > 0.9
    assert row["frechet"] < 1.5 * floor["frechet"]
    assert row["recall"] > 0.6 and row["precision"] > 0.8
    assert 0.8 < row["memorisation"] < 1.2


@pytest.mark.parametrize("name, share", [("digits", 0.97), ("fashion", 0.9)])
def test_grey_images_are_read_as_often_as_real_ones(name, share):
    row, floor, held_out = measured(name, ("ddim", 20, "even"), 1.0)
    (label,) = held_out
    assert row["agreement"][label] > share * held_out[label]
    assert row["recall"] > 0.6 and 0.8 < row["memorisation"] < 1.3


def test_larger_patterns_show_what_was_requested():
    row, floor, held_out = measured("patterns32", ("dpmpp_2m", 12, "snr"), 1.0, n=240)
    assert row["agreement"]["palette"] > 0.95
    assert row["agreement"]["kind"] > 0.7 * held_out["kind"]
    assert row["frechet"] < 1.3 * floor["frechet"]
    assert row["recall"] > 0.75 and row["precision"] > 0.85
    assert 0.8 < row["memorisation"] < 1.2


@pytest.mark.parametrize("name, often", [("patterns", 0.37), ("patterns32", 0.6)])
def test_patterns_repeat_without_a_seam(name, often):
    """The step over the edge is like those inside; so is what is read with edges in the middle."""
    pipe, (reader, _) = Pipeline.load(name), classifier.load(name)
    labels = np.stack([np.arange(60) % 10, np.arange(60) % 12], axis=1)
    rng = np.random.default_rng(0)
    plain = pipe.draw(labels, rng, steps=15, w=2.0)[-1]
    # each with rolls of its own
    x = np.concatenate([pipe.tile(labels, rng, steps=15, w=2.0)[-1] for _ in range(5)])
    assert edit.seam_energy(plain) > 2 and abs(edit.seam_energy(x) - 1) < 0.1
    rolled = np.roll(x, (pipe.model.size // 2, pipe.model.size // 2), (1, 2))
    kind, palette = classifier.accuracy(reader, rolled, np.tile(labels, (5, 1)))
    assert kind > often and palette > 0.9


def test_a_classifier_guides_an_unconditional_model():
    """By chance one digit in ten is right; with a classifier of noisy digits most are."""
    pipe, digits, (reader, _) = (
        Pipeline.load("digits"),
        data.load("digits"),
        classifier.load("digits"),
    )
    s, rng = pipe.s, np.random.default_rng(1)

    def noised(x):
        t = rng.integers(1, s.T + 1, size=len(x))
        return diffusion.q_sample(s, x, t, rng.standard_normal(x.shape, dtype=np.float32))

    known = digits.train, digits.train_labels, digits.classes
    noisy = classifier.fit(*known, rng, steps=400, change=noised)
    labels = np.repeat(np.arange(10), 10)[:, None]
    pull = classifier.log_p_gradient(noisy, labels)
    right, times = [], sample.even_times(s, 30)
    for strength in (0.0, 2.0):
        eps_model = guide.by_gradient(denoiser(pipe.model, s), s, pull, strength)
        rng = np.random.default_rng(3)
        *_, x = sample.ddim(eps_model, s, (100, 8, 8, 1), rng, times, clip=1.0)
        right.append(classifier.accuracy(reader, x, labels)[0])
    assert right[0] < 0.3 and right[1] > 0.75


def test_one_label_of_a_portrait_changes_and_the_rest_stays():
    """A hundred pairs with a known truth.

    Of the true pictures the classifier reads 99% as changed, 82% as unchanged in all else.
    """
    pipe, (reader, _) = Pipeline.load("portraits"), classifier.load("portraits")
    d, i, N = data.load_edits(), np.arange(0, 300, 3), np.arange(100)
    before, wanted = d.before[i], d.labels_after[i]
    images = pipe.change(before, d.labels_before[i], wanted, np.random.default_rng(0))
    read = lambda x: np.stack([scores.argmax(1) for scores in reader(x)], axis=1)
    seen, was = read(images), read(before)
    reached = (seen == wanted)[N, d.changed[i]]
    stay = ((seen == was) | (wanted != d.labels_before[i])).all(1)
    outside = np.any(np.abs(images - before) > 0.2, axis=-1) & np.all(before == d.after[i], axis=-1)
    assert reached.mean() > 0.9 and stay.mean() > 0.75 and outside.sum((1, 2)).mean() < 4


def test_portraits_of_half_the_size_come_back_closer_than_by_ridge_regression():
    """Held-out portraits, no labels: the mean of 8 samples, and each one, has a smaller error."""
    pipe, portraits = Pipeline.load("portraits"), data.load("portraits")
    s, rng, A = pipe.s, np.random.default_rng(0), restore.shrink(16, 3, 2)
    x0, train = portraits.test[:40], portraits.train
    noise = lambda x: 0.02 * rng.standard_normal((len(x), 8, 8, 3), dtype=np.float32)
    y, y_train = (restore.degrade(A, x) + noise(x) for x in (x0, train))
    cov = restore.covariance(train)
    uphill = restore.log_p_gradient(s, np.concatenate([y] * 8), A, 0.02, cov)
    believed = guide.assume_gaussian(denoiser(pipe.model, s), s, cov)
    eps_model, times = guide.by_x0_hat(believed, s, uphill), sample.even_times(s, 25)
    *_, drawn = sample.ddim(eps_model, s, (320, 16, 16, 3), rng, times, eta=1.0, clip=1.0)
    drawn = drawn.reshape(8, 40, 16, 16, 3)
    rmse = lambda guess: np.sqrt(((np.clip(guess, -1, 1) - x0) ** 2).mean((1, 2, 3))).mean() / 2
    ridge = rmse(baselines.ridge(y_train, train, 1e-4)(y))
    assert rmse(drawn.mean(0)) < 0.7 * ridge and max(map(rmse, drawn)) < 0.9 * ridge
    # as noisy as y is said to be
    assert 0.01 < np.sqrt(((restore.degrade(A, drawn[0]) - y) ** 2).mean()) < 0.04


def test_portraits_keep_to_a_palette_and_to_their_shapes():
    """Pixels have the four colours; shapes, which need no colour, are still read, if less often."""
    pipe, portraits = Pipeline.load("portraits"), data.load("portraits")
    reader, _ = classifier.load("portraits")
    palette = [colour.parse(c) for c in ("#1d2b53", "#ff77a8", "#fff1e8", "#ffa300")]
    labels, cov = portraits.test_labels[:64], restore.covariance(portraits.train)
    also = lambda eps_model: colour.coloured(eps_model, pipe.s, cov, 16, palette)
    x = pipe.draw(labels, np.random.default_rng(0), steps=20, also=also)[-1]
    assert colour.within(x, palette).mean() > 0.8
    assert classifier.accuracy(reader, x, labels)[list(portraits.labels).index("glasses")] > 0.6


def test_unseen_letters_are_drawn_better_than_what_needs_no_network():
    """The mean of four samples, against the nearest face's letter, and sums of parts."""
    faces, pipe = data.load_styles("typefaces"), Pipeline.load("typefaces")
    source, truth, labels = (x[::3] for x in paired.examples(faces))
    rng = np.random.default_rng(0)
    four = [pipe.draw(labels, rng, steps=10, source=source)[-1] for _ in range(4)]
    rivals = []
    for fill in (baselines.additive, baselines.nearest_column):
        guess = fill(faces.images, ~faces.test)[faces.test][::3]
        rivals.append(metrics.rmse(np.clip(guess, -1, 1), truth))
    assert metrics.rmse(np.mean(four, axis=0), truth) < 0.85 * min(rivals)


def test_a_style_can_be_changed_without_pairs():
    """Noise of one style, drawn as the other: closer to the truth than the source."""
    emoji, pipe = data.load_styles("emoji"), Pipeline.load("emoji")
    reader, _ = classifier.load("emoji")
    unseen = emoji.images[emoji.test][::4]
    source, truth = unseen[:, 1], unseen[:, 2]  # flat, shaded
    x = pipe.restyle(source, "shaded", None, "inversion", "flat", steps=25, w=2.0)
    assert metrics.rmse(x, truth) < metrics.rmse(source, truth)
    (after,), (before,) = (
        classifier.accuracy(reader, images, np.full((len(x), 1), 2)) for images in (x, source)
    )
    assert after > 0.5 and before < 0.3
    assert metrics.silhouette_overlap(x, source) > 0.85


def test_a_sketch_is_coloured_in_better_than_by_regression():
    emoji, pipe = data.load_styles("emoji"), Pipeline.load("emoji")
    line, flat = (emoji.images[:, style] for style in (0, 1))
    fitted = baselines.ridge_patches(line[~emoji.test], flat[~emoji.test], 1e-3)
    source, truth = line[emoji.test][::3], flat[emoji.test][::3]
    rng = np.random.default_rng(0)
    mean = np.mean([pipe.restyle(source, "flat", rng, steps=15) for _ in range(8)], axis=0)
    assert metrics.rmse(mean, truth) < 0.97 * metrics.rmse(np.clip(fitted(source), -1, 1), truth)
