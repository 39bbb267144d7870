"""Flips and shifts: each is what it says, the network is told, and drawings show none of them."""

import numpy as np
import pytest

from tinydiff import augment, checkpoint, data, kernels, train
from tinydiff.design.pipeline import Pipeline
from tinydiff.unet import UNet


def pictures(M=5, size=8):
    return np.random.default_rng(1).uniform(-1, 1, (M, size, size, 3)).astype(np.float32)


def arrows(M=32):
    """Arrows that point right, in several colours and places, 8 x 8 -> (M, 8, 8, 3)"""
    rng, x = np.random.default_rng(0), np.full((M, 8, 8, 3), -1.0, np.float32)
    for each in x:
        top, colour = rng.integers(3), rng.uniform(0, 1, 3)
        each[top + 2, 1:6] = each[top + 1, 4] = each[top + 3, 4] = colour
        each[top, 3] = each[top + 4, 3] = colour
    return x


def left(x):
    """Share of pictures that are more like an arrow that points left than one that points right."""
    among = arrows(200)
    distance = lambda y: ((x[:, None] - y) ** 2).sum((2, 3, 4)).min(1)
    return np.mean(distance(among[:, :, ::-1]) < distance(among))


def test_the_first_way_is_nothing_and_half_are_not_moved():
    for flip, shift in ((True, 0), (False, 1), (True, 2)):
        ways = augment.ways(flip, shift)
        assert (ways[0] == 0).all() and (ways >= 0).all()
        assert (ways < augment.told(flip, shift)).all()
        assert len(np.unique(ways, axis=0)) == np.prod(augment.told(flip, shift))
        if flip:
            assert ways[:, 0].mean() == 0.5
        if shift:
            assert (ways[:, 1:] == 0).all(1).mean() == 0.5
    assert augment.told() == [1, 1, 1] and augment.ways().tolist() == [[0, 0, 0]]


def test_a_change_is_a_flip_then_a_shift_and_what_it_uncovers_repeats_the_edge():
    x = pictures(3)
    ways = np.array([[0, 0, 0], [1, 0, 2], [0, 4, 1]])  # 4 of 5 values: one up
    same, flipped, moved = augment.change(x, ways, 2)
    assert (same == x[0]).all()
    mirrored = x[1, :, ::-1]
    assert (flipped[:, 2:] == mirrored[:, :-2]).all() and (flipped[:, :2] == mirrored[:, :1]).all()
    assert (moved[:-1, 1:] == x[2, 1:, :-1]).all() and (moved[-1, 1:] == x[2, -1, :-1]).all()


def test_variants_and_what_is_said_of_them_belong_together():
    x, labels = data.Pixels(data.to_uint8(pictures())), np.arange(5)[:, None]
    images = augment.Variants(x, True, 1)
    said = augment.Said(labels, images)
    i = np.random.default_rng(0).integers(len(images), size=200)
    assert len(images) == 5 * 2 * 16 and i.max() > 100
    for row, picture in zip(said[i], images[i], strict=True):
        assert (picture == augment.change(x[row[:1]], row[None, 1:], 1)[0]).all()


def test_labels_are_dropped_and_what_is_told_never():
    labels = np.tile([3, 1, 2], (1000, 1))
    dropped = train.drop_labels(labels, (4,), 0.5, np.random.default_rng(0))
    assert 400 < (dropped[:, 0] == 4).sum() < 600 and (dropped[:, 1:] == [1, 2]).all()
    alone = train.drop_labels(labels[:, 1:], (), 0.5, np.random.default_rng(0))
    assert (alone == [1, 2]).all() and alone.dtype.kind == "i"


def test_a_network_that_is_told_nothing_takes_it_that_nothing_was_done(rng):
    model = UNet(8, 1, 8, (1, 2), 1, classes=(4,), told=(2, 3), rng=rng)
    model.conv_out.w[:] = rng.standard_normal(model.conv_out.w.shape)
    for block in (model.downs[0][0], model.ups[1][0]):
        block.conv2.w[:] = rng.standard_normal(block.conv2.w.shape)
    x, t = rng.standard_normal((3, 8, 8, 1), dtype=np.float32), np.array([1, 5, 9])
    with_all = lambda *row: model(x, t, np.tile(row, (3, 1)))
    assert (with_all(2) == with_all(2, 0, 0)).all() and (model(x, t) == with_all(4)).all()
    for row in ((2, 1, 0), (2, 0, 2)):
        assert not np.allclose(with_all(*row), with_all(2))
    with pytest.raises(ValueError, match=r"\(3, 1\), one column per label; got \(3, 2\)"):
        with_all(2, 0)
    with pytest.raises(ValueError, match=r"column 1 takes 0 .. 1; row 0 has 2"):
        with_all(2, 2, 0)


def learned(flip, tell, steps=1200):
    """Learn arrows, mirrored or not, told so or not, and draw 64 -> share that points left"""
    kernels.use("cpu")
    x = arrows()
    labels = np.zeros((len(x), 0), int)
    settings = {"flip": True} if flip and tell else {}
    shown = np.concatenate([x, x[:, :, ::-1]]) if flip and not tell else x
    dataset = data.Dataset("arrows", shown, x[:0], labels, labels[:0], {})
    model = {"size": 8, "channels": 3, "width": 16, "multipliers": [1, 2], "depth": 1}
    model |= {"told": augment.told(True)} if settings else {}
    meta = {"model": model, "schedule": {"kind": "cosine", "T": 100}}
    run, s = checkpoint.build(meta, 0)
    rate = lambda step: 3e-3 * (1 - step / steps)
    steps_of = train.train(run, s, *augment.training(dataset, settings), batch=32, lr=rate)
    for _, _ in zip(range(steps), steps_of, strict=False):
        pass
    pipe = Pipeline.of(checkpoint.averaged(run, meta), s, meta)
    *_, drawn = pipe.draw(np.zeros((64, 0), int), np.random.default_rng(0), steps=20)
    return left(drawn)


@pytest.mark.slow
def test_drawings_do_not_show_what_was_done_to_the_pictures():
    """Arrows point right; with --flip so do those that are drawn; half don't if nobody tells."""
    before = kernels._active
    try:
        assert left(arrows(40)) == 0 and left(arrows(40)[:, :, ::-1]) == 1
        assert learned(flip=True, tell=True) <= 0.05
        assert 0.3 < learned(flip=True, tell=False) < 0.7
    finally:
        kernels._active = before
