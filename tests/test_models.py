"""The models that come along do what README says of them, on a few hundred samples. Slow: they draw."""

import numpy as np
import pytest

from tinydiff import checkpoint, data, diffusion, guide, sample
from tinydiff.design import colour, edit, paired, pipeline, restore
from tinydiff.measure import baselines, classifier, evaluate, metrics
from tinydiff.train import denoiser

pytestmark = pytest.mark.slow


def measured(name, way, w, n=300):
    model, s, about = checkpoint.pretrained(name)
    judge, its = classifier.load(name)
    yardstick = evaluate.Yardstick(judge, data.load(name), n, np.random.default_rng(0))
    images, _ = evaluate.sample_all(model, s, about, yardstick.labels, 0, way, w)
    return yardstick.measure(images, yardstick.labels), yardstick.floor, its["held_out"]


def test_portraits_show_what_was_asked_for():
    row, floor, _ = measured("portraits", ("dpmpp_2m", 10, "karras"), 1.5)
    for label in ("hat", "glasses", "clothes", "background"):
        assert row["agreement"][label] > 0.96, label
    assert row["agreement"]["skin"] > 0.9
    assert (
        row["frechet"] < 1.5 * floor["frechet"] and row["recall"] > 0.6 and row["precision"] > 0.8
    )
    assert 0.8 < row["memorisation"] < 1.2


@pytest.mark.parametrize("name, share", [("digits", 0.97), ("fashion", 0.9)])
def test_grey_images_are_read_as_often_as_real_ones(name, share):
    row, floor, held_out = measured(name, ("ddim", 20, "even"), 1.0)
    (label,) = held_out
    assert row["agreement"][label] > share * held_out[label]
    assert row["recall"] > 0.6 and 0.8 < row["memorisation"] < 1.3


def test_patterns_repeat_without_a_seam():
    """The step over the edge is like those inside, also where the edges are rolled into the middle and judged."""
    model, s, about = checkpoint.pretrained("patterns")
    judge, _ = classifier.load("patterns")
    labels, rng = (
        np.stack([np.arange(60) % 10, np.arange(60) % 12], axis=1),
        np.random.default_rng(0),
    )
    plain = pipeline.draw(model, s, about, labels, rng, steps=15, w=2.0)[-1]
    x = np.concatenate(
        [pipeline.tiles(model, s, about, labels, rng, steps=15, w=2.0)[-1] for _ in range(5)]
    )  # each with rolls of its own
    assert edit.seam_energy(plain) > 2 and abs(edit.seam_energy(x) - 1) < 0.1
    kind, palette = classifier.accuracy(judge, np.roll(x, (8, 8), (1, 2)), np.tile(labels, (5, 1)))
    assert kind > 0.37 and palette > 0.9


def test_a_classifier_guides_a_model_that_is_told_nothing():
    """One digit in ten comes out right by chance; with the gradient of a classifier that was trained on noisy digits most do."""
    model, s, _ = checkpoint.pretrained("digits")
    digits, (judge, _), rng = (
        data.load("digits"),
        classifier.load("digits"),
        np.random.default_rng(1),
    )

    def noised(x):
        return diffusion.q_sample(
            s,
            x,
            rng.integers(1, s.T + 1, size=len(x)),
            rng.standard_normal(x.shape, dtype=np.float32),
        )

    noisy = classifier.fit(
        digits.train, digits.train_labels, digits.classes, rng, steps=400, change=noised
    )
    labels = np.repeat(np.arange(10), 10)[:, None]
    pull = classifier.log_p_gradient(noisy, labels)
    right = []
    for strength in (0.0, 2.0):
        eps_model = guide.by_gradient(denoiser(model, s), s, pull, strength)
        *_, x = sample.ddim(
            eps_model,
            s,
            (100, 8, 8, 1),
            np.random.default_rng(3),
            times=sample.even_times(s, 30),
            clip=1.0,
        )
        right.append(classifier.accuracy(judge, x, labels)[0])
    assert right[0] < 0.3 and right[1] > 0.75


def test_one_label_of_a_portrait_changes_and_the_rest_stays():
    """A hundred pairs with a known truth; the judge, shown the true pictures, reads 99% as changed and 82% as unchanged in all else."""
    (model, s, about), (judge, _) = (
        checkpoint.pretrained("portraits"),
        classifier.load("portraits"),
    )
    d, i, N = data.load_edits(), np.arange(0, 300, 3), np.arange(100)
    before, told = d.before[i], d.labels_after[i]
    images = pipeline.change(
        model, s, about, before, d.labels_before[i], told, np.random.default_rng(0)
    )
    seen, was = (
        np.stack([scores.argmax(1) for scores in judge(x)], axis=1) for x in (images, before)
    )
    reached = (seen == told)[N, d.changed[i]]
    stay = ((seen == was) | (told != d.labels_before[i])).all(1)
    outside = np.any(np.abs(images - before) > 0.2, axis=-1) & np.all(before == d.after[i], axis=-1)
    assert reached.mean() > 0.9 and stay.mean() > 0.75 and outside.sum((1, 2)).mean() < 4


def test_portraits_of_half_the_size_come_back_nearer_than_by_ridge_regression():
    """Held-out portraits, the network told nothing of them: the mean of 8 samples, and even each one, has a smaller error."""
    model, s, _ = checkpoint.pretrained("portraits")
    portraits, rng, A = data.load("portraits"), np.random.default_rng(0), restore.shrink(16, 3, 2)
    x0, train = portraits.test[:40], portraits.train
    y, y_train = (
        restore.degrade(A, x) + 0.02 * rng.standard_normal((len(x), 8, 8, 3), dtype=np.float32)
        for x in (x0, train)
    )
    cov = restore.covariance(train)
    uphill = restore.log_p_gradient(s, np.concatenate([y] * 8), A, 0.02, cov)
    eps_model = guide.by_x0_hat(guide.assume_gaussian(denoiser(model, s), s, cov), s, uphill)
    *_, drawn = sample.ddim(
        eps_model, s, (320, 16, 16, 3), rng, sample.even_times(s, 25), eta=1.0, clip=1.0
    )
    drawn = drawn.reshape(8, 40, 16, 16, 3)
    rmse = lambda guess: np.sqrt(((np.clip(guess, -1, 1) - x0) ** 2).mean((1, 2, 3))).mean() / 2
    ridge = rmse(baselines.ridge(y_train, train, 1e-4)(y))
    assert rmse(drawn.mean(0)) < 0.7 * ridge and max(map(rmse, drawn)) < 0.9 * ridge
    assert (
        0.01 < np.sqrt(((restore.degrade(A, drawn[0]) - y) ** 2).mean()) < 0.04
    )  # as noisy as y is said to be


def test_portraits_keep_to_a_palette_and_to_their_shapes():
    """Pixels have the four colours; what is told of shapes, which need no colour, is still read by the judge, if less often."""
    model, s, about = checkpoint.pretrained("portraits")
    portraits, (judge, _) = data.load("portraits"), classifier.load("portraits")
    palette, labels = (
        [colour.parse(c) for c in ("#1d2b53", "#ff77a8", "#fff1e8", "#ffa300")],
        portraits.test_labels[:64],
    )
    cov = restore.covariance(portraits.train)
    also = lambda eps_model: colour.coloured(eps_model, s, cov, 16, palette)
    x = pipeline.draw(model, s, about, labels, np.random.default_rng(0), steps=20, also=also)[-1]
    assert colour.within(x, palette).mean() > 0.8
    assert classifier.accuracy(judge, x, labels)[list(portraits.labels).index("glasses")] > 0.6


def test_unseen_letters_are_drawn_better_than_what_needs_no_network():
    """The mean of four samples, against each letter's mean, the nearest face's letter, and the sum of a letter's and a face's part."""
    faces, (model, s, about) = data.load_styles("typefaces"), checkpoint.pretrained("typefaces")
    source, truth, labels = (x[::3] for x in paired.examples(faces))
    rng = np.random.default_rng(0)
    mean = np.mean(
        [
            pipeline.draw(model, s, about, labels, rng, steps=10, source=source)[-1]
            for _ in range(4)
        ],
        axis=0,
    )
    rivals = [
        fill(faces.images, ~faces.test)[faces.test][::3]
        for fill in (baselines.additive, baselines.nearest_column)
    ]
    assert metrics.rmse(mean, truth) < 0.85 * min(
        metrics.rmse(np.clip(rival, -1, 1), truth) for rival in rivals
    )


def test_a_style_can_be_changed_without_pairs():
    """Noise found under one style, drawn under the other: nearer to the truth than the source itself, and read as the other style."""
    emoji, model, (judge, _) = (
        data.load_styles("emoji"),
        checkpoint.pretrained("emoji"),
        classifier.load("emoji"),
    )
    unseen = emoji.images[emoji.test][::4]
    source, truth = unseen[:, 1], unseen[:, 2]  # flat, shaded
    x = pipeline.restyle(*model, source, "shaded", None, "inversion", "flat", steps=25, w=2.0)
    target = np.full((len(x), 1), 2)
    assert metrics.rmse(x, truth) < metrics.rmse(source, truth)
    assert (
        classifier.accuracy(judge, x, target)[0]
        > 0.5
        > 0.3
        > classifier.accuracy(judge, source, target)[0]
    )
    assert metrics.silhouette_overlap(x, source) > 0.85


def test_a_sketch_is_coloured_in_better_than_by_regression():
    emoji, model = data.load_styles("emoji"), checkpoint.pretrained("emoji")
    fitted = baselines.ridge_patches(
        emoji.images[~emoji.test, 0], emoji.images[~emoji.test, 1], 1e-3
    )  # line, flat
    source, truth = emoji.images[emoji.test, 0][::3], emoji.images[emoji.test, 1][::3]
    rng = np.random.default_rng(0)
    mean = np.mean(
        [pipeline.restyle(*model, source, "flat", rng, steps=15) for _ in range(8)], axis=0
    )
    assert metrics.rmse(mean, truth) < 0.97 * metrics.rmse(np.clip(fitted(source), -1, 1), truth)
