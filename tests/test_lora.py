"""Low-rank changes, and trained networks as the start of others."""

import numpy as np
import pytest

from tinydiff import checkpoint, finetune, lora, ops, train
from tinydiff.autodiff import Tensor, gradient
from tinydiff.gradcheck import directional_error
from tinydiff.unet import UNet

SMALL = {"width": 8, "multipliers": (1, 2), "depth": 1}


def network(rng, size=8, channels=3, classes=(), **options):
    """A network whose layers all do something -> UNet"""
    model = UNet(size, channels, classes=classes, rng=rng, **SMALL | options)
    for p in model.params().values():
        p += 0.1 * rng.standard_normal(p.shape, dtype=np.float32)
    return model


def inputs(rng, size=8, channels=3):
    return rng.standard_normal((2, size, size, channels), dtype=np.float32), np.array([3, 7])


def test_a_change_is_nothing_at_first_and_of_low_rank_later(rng):
    W = rng.standard_normal((3, 3, 4, 16), dtype=np.float32)
    change = lora.Change(W.shape, 2, alpha=6.0, rng=rng)
    assert (change(W) == W).all() and change.A.shape == (36, 2) and change.B.shape == (2, 16)
    assert change.A.std() == pytest.approx(1 / 6, rel=0.3)
    change.B[:] = rng.standard_normal(change.B.shape)
    added = (change(W) - W).reshape(36, 16)
    assert np.allclose(added, 3.0 * change.A @ change.B, atol=1e-5)
    assert np.linalg.matrix_rank(added, tol=1e-3) == 2


def test_its_gradients_are_right(rng):
    A, B, W = rng.standard_normal((36, 2)), rng.standard_normal((2, 5)), rng.random((3, 3, 4, 5))
    x = rng.standard_normal((2, 6, 6, 4))
    change = lora.Change(W.shape, 2, rng=rng)

    def loss(A, B):
        change.A, change.B = A, B
        return ops.mse(ops.conv2d(x, change(W), padding="zeros"), np.ones((2, 6, 6, 5)))

    assert directional_error(loss, [A, B], rng) < 1e-6


def test_only_the_changes_and_what_is_new_are_learned(rng):
    model = network(rng, classes=(2,))
    x, t = inputs(rng)
    before = {k: p.copy() for k, p in model.params().items()}
    said = np.array([[0], [1]])
    drawn = model(x, t, said)
    low = lora.LowRank(model, 2, rng=rng)
    assert np.allclose(low(x, t, said), drawn, atol=1e-6) and low.classes == (2,)
    whole = [k for k in low.params() if not k.startswith("changes.")]
    assert whole == ["labels.0.table", "conv_in.w", "conv_out.w"]
    assert low.flatten().size < model.flatten().size / 2
    low = lora.LowRank(model, 2, rng=rng)
    theta = low.flatten()
    for _ in range(3):  # the gradient of A is 0 while B is
        with low.variables() as params:
            grads = gradient(ops.mse(low(x, t, said), np.zeros_like(x)), params)
        theta -= 0.1 * np.concatenate([g.ravel() for g in grads])
    changed = low(x, t, said)
    assert not np.allclose(changed, drawn, atol=1e-3)
    assert all((p == before[k]).all() for k, p in model.params().items() if k not in whole)
    plain = low.merge()
    assert plain is model and np.allclose(plain(x, t, said), changed, atol=1e-5)
    assert plain.flatten().size == sum(p.size for p in before.values())
    assert not any(isinstance(p, Tensor) for p in plain.params().values())


@pytest.mark.parametrize(("its", "own"), [(3, 3), (1, 3), (3, 1)])
@pytest.mark.parametrize("sizes", [(8, 8), (8, 16)])
def test_at_first_a_network_does_what_the_one_it_started_from_does(rng, its, own, sizes):
    known, named = {"hat": ["none", "red"], "a": ["b"]}, {"kind": ["x", "y", "z"]}
    source = network(rng, sizes[0], its, classes=(2, 1), told=(2, 3, 3))
    model = UNet(sizes[1], own, classes=(3,), told=(2, 1, 1), rng=rng, **SMALL)
    finetune.start_from(model, source, named, known)
    grey, t = inputs(rng, sizes[1], 1)
    expected = source(np.repeat(grey, its, 3), t)
    expected = expected.mean(3, keepdims=True) if own < its else expected
    for said in (None, [[1], [3]], [[0, 1, 0, 0], [2, 0, 0, 0]]):
        drawn = model(np.repeat(grey, own, 3), t, said)
        assert np.allclose(drawn, np.broadcast_to(expected, drawn.shape), atol=1e-4)


def test_values_of_the_same_name_are_kept(rng):
    known, named = {"a": ["b"], "hat": ["none", "red"]}, {"hat": ["blue", "red", "none"]}
    source = network(rng, classes=(1, 2))
    model = UNet(8, 3, classes=(3,), rng=rng, **SMALL)
    finetune.start_from(model, source, named, known)
    x, t = inputs(rng)
    for own, its in ((1, 1), (2, 0), (3, 2), (0, 2)):  # a new value is at first as "any"
        same = source(x, t, np.tile([1, its], (2, 1)))
        assert np.allclose(model(x, t, np.full((2, 1), own)), same, atol=1e-4)


def test_what_does_not_fit_is_refused(rng):
    for options in ({"depth": 2}, {"multipliers": (1, 2, 2)}):
        with pytest.raises(ValueError, match="it has other layers"):
            finetune.start_from(UNet(8, 3, rng=rng, **SMALL | options), network(rng), {}, {})
    with pytest.raises(ValueError, match="redraws or completes"):
        finetune.start_from(UNet(8, 3, rng=rng, **SMALL), network(rng, channels=6, out=3), {}, {})


META = {
    "model": {"size": 8, "channels": 3, "width": 8, "multipliers": [1, 2], "depth": 1},
    "schedule": {"kind": "cosine", "T": 50},
    "train": {"lora": 2},
}


def state(run):
    arrays = (run.theta, run.ema, run.adam.m, run.adam.v, run.model.frozen)
    return [a.tobytes() for a in arrays], run.step, str(run.rng.bit_generator.state)


def go_on(run, s, images, steps):
    for _, _ in zip(range(steps), train.train(run, s, images, batch=4), strict=False):
        pass
    return run


def test_low_rank_trainings_are_resumed_bit_for_bit_and_drawn_as_any(tmp_path, rng):
    images = rng.uniform(-1, 1, (8, 8, 8, 3)).astype(np.float32)
    source = network(rng)
    begin = lambda: checkpoint.build(META, 1, lambda m: finetune.start_from(m, source, {}, {}))
    straight, s = begin()
    go_on(straight, s, images, 6)
    half, s = begin()
    go_on(half, s, images, 3)
    checkpoint.save(tmp_path / "a.npz", half, META)
    again, s, meta = checkpoint.load(tmp_path / "a.npz")
    assert state(again) == state(half) and meta == META
    assert state(go_on(again, s, images, 3)) == state(straight)

    x, t = inputs(rng)
    low = straight.model
    before = straight.theta.copy()
    model = checkpoint.averaged(straight, META)
    assert type(model) is UNet and (straight.theta == before).all()
    straight.theta[:] = straight.ema
    assert np.allclose(model(x, t), low(x, t), atol=1e-5)
    assert not np.allclose(model(x, t), source(x, t), atol=1e-6)
    checkpoint.export(tmp_path / "b.npz", model.flatten(), META)
    drawn, _, _ = checkpoint.ready(tmp_path / "b.npz")
    assert np.allclose(drawn(x, t), model(x, t), atol=0.02)


def test_a_low_rank_file_that_lacks_what_it_changes_is_refused(tmp_path, rng):
    run, _ = checkpoint.build(META, 0)
    checkpoint.save(tmp_path / "a.npz", run, META)
    with np.load(tmp_path / "a.npz") as f:
        parts = {name: f[name] for name in f.files if name != "frozen"}
    np.savez(tmp_path / "b.npz", **parts)
    with pytest.raises(checkpoint.CheckpointError, match="b.npz does not fit"):
        checkpoint.load(tmp_path / "b.npz")
