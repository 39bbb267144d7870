"""Fooled: by pictures that are dirty and all normal, and by changes that nobody sees."""

from functools import cache

import numpy as np
import pytest

from tinydiff import data
from tinydiff.measure import classifier, fool, metrics

N = 50
TWEMOJI, NOTO = 4, 3


@cache
def portraits():
    return data.load("portraits")


@cache
def board():
    reader, _ = classifier.load("portraits")
    return fool.Board(reader, portraits(), N, 8, np.random.default_rng(1971))


def clean(n, seed):
    return portraits().train[np.random.default_rng(seed).choice(len(portraits().train), n)]


def in_form(images, like, name):
    said = f"{name}: expected {like.dtype} images {like.shape} in [-1, 1]"
    assert np.shape(images) == like.shape, f"{said}; came shape {np.shape(images)}"
    assert images.dtype == like.dtype, f"{said}; came {images.dtype}"
    low, high = np.min(images), np.max(images)
    assert -1 <= low <= high <= 1, f"{said}; came values from {low:.3g} to {high:.3g}"


@pytest.mark.exercise("fool.fool_board")
def test_fool_board():
    """Two sets, so that chance counts less; the numbers are the means of both."""
    rows, sets = [], []
    for n, seed in ((N, 72), (N + 1, 73)):
        rng = np.random.default_rng(seed)
        images = fool.fool_board(board().reader, portraits().train, rng, n)
        in_form(images, np.zeros((n, 16, 16, 3), np.float32), f"{n} portraits")
        cleanest = fool.dirt(images).min()
        said = f"each picture needs dirt of {fool.DIRTY} or more; the cleanest has {cleanest:.3f}"
        assert cleanest >= fool.DIRTY, said
        sets.append(images)
        rows.append(board().measure(images))
    assert not np.array_equal(sets[0], sets[1][:N]), "another rng, and the same pictures"
    row = {name: np.mean([one[name] for one in rows]) for name in rows[0]}
    for name, verdict in board().verdicts(row).items():
        low, high = board().normal[name]
        said = f"{name} is {row[name]:.3f}, {verdict}; real portraits: {low:.3f} to {high:.3f}"
        assert verdict == "normal", said


def test_a_board_takes_real_portraits_for_real_and_others_not():
    assert set(board().verdicts(board().measure(clean(N, 7))).values()) <= {"normal", "worse"}
    row = board().measure(np.repeat(clean(1, 0), N, axis=0))
    verdicts = board().verdicts(row)
    assert verdicts["frechet"] == verdicts["coverage"] == verdicts["recall"] == "worse"
    assert verdicts["memorisation"] == "worse" and row["memorisation"] == 0
    low, high = board().normal["frechet"]
    of = lambda frechet, precision: board().verdicts({"frechet": frechet, "precision": precision})
    assert of(low - 1, 2.0) == {"frechet": "better", "precision": "better"}
    assert of(high + 1, 0.0) == {"frechet": "worse", "precision": "worse"}
    assert of((low + high) / 2, 0.95) == {"frechet": "normal", "precision": "normal"}


def test_dirt():
    x = clean(300, 8)
    assert np.abs(fool.dirt(x)).max() < 0.1
    assert np.allclose(fool.dirt(x + 0.15 * fool.chessboard(x)), fool.dirt(x) + 0.15, atol=1e-6)
    assert fool.chessboard(x)[0, 0] == fool.chessboard(x)[1, 1] == -1


@pytest.mark.exercise("fool.fool_judge")
@pytest.mark.parametrize("source, target", [(TWEMOJI, NOTO), (NOTO, TWEMOJI)])
def test_fool_judge(source, target):
    emoji, (judge, _) = data.load_styles("emoji"), classifier.load("emoji")
    images = emoji.images[emoji.test][40:140, source]
    moved = fool.fool_judge(judge, images, target)
    in_form(moved, images, "100 emoji")
    farthest = max(metrics.rmse(a, b) for a, b in zip(moved, images, strict=True))
    said = f"an rmse below 0.03 for each picture; the one moved farthest has {farthest:.4f}"
    assert farthest < 0.03, said
    read = classifier.accuracy(judge, moved, np.full((len(moved), 1), target))[0]
    assert read >= 0.9, f"90 % should be read as asked; {read:.0%} are"
