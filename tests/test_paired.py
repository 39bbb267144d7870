"""paired.py: the source stands beside x_t, batches hold what they should, none of the test part."""

from itertools import permutations

import numpy as np
import pytest

from tinydiff import data, sample, schedule
from tinydiff.app.cmd_train import describe
from tinydiff.design import paired
from tinydiff.design.pipeline import Pipeline
from tinydiff.nn import Module
from tinydiff.train import Training, denoiser
from tinydiff.unet import UNet

S = schedule.cosine(50)
OFTEN = np.array([[0, 1], [3, 2]])


class Echo(Module):
    """A network that notes what it is called with, and returns a weight times two channels."""

    channels, out, classes = 5, 2, (3,)

    def __init__(self):
        self.w, self.calls = np.full(1, 0.5, np.float32), []

    def __call__(self, x, t, labels=None):
        self.calls.append((x, t, labels))
        return self.w * x[..., :2]

    def _slots(self, prefix=""):
        yield "w", self, "w"


def test_the_source_stands_behind_the_picture(rng):
    model, x, source = Echo(), rng.standard_normal((4, 3, 2, 2)), rng.standard_normal((4, 3, 2, 3))
    t, labels = np.arange(1, 5), np.array([[0], [1], [2], [3]])
    out = paired.beside(model, source)(x, t, labels)
    (seen, got_t, got_labels), want = model.calls[0], np.concatenate([x, source], axis=3)
    assert np.array_equal(seen, want) and got_t is t and got_labels is labels
    assert np.allclose(out, 0.5 * x)


def test_one_source_serves_all_and_none_is_zeros(rng):
    model, x = Echo(), rng.standard_normal((4, 3, 2, 2), dtype=np.float32)
    one = rng.standard_normal((1, 3, 2, 3))
    paired.beside(model, one)(x, np.ones(4))
    paired.beside(model)(x, np.ones(4))
    (first, *_), (second, *_) = model.calls
    assert np.array_equal(first[..., 2:], np.repeat(one.astype(np.float32), 4, 0))
    assert first.dtype == np.float32
    assert not second[..., 2:].any() and second.dtype == np.float32


@pytest.mark.parametrize("predict", ["v", "eps"])
def test_training_asks_for_the_noise_of_the_picture_and_shows_the_source_clean(rng, predict):
    """x_t tells eps, x0 being known; with w = 0 the loss is the mean square of the target."""
    x0, source = (rng.uniform(-1, 1, (6, 4, 3, n)).astype(np.float32) for n in (2, 3))
    model = Echo()
    model.w[:] = 0
    run, twos = Training(model, np.random.default_rng(0)), np.full((6, 1), 2)
    next(paired.train(run, S, lambda rng: (source, x0, twos), predict, lambda k: 0.1, p_drop=0.0))
    ((seen, t, labels),) = model.calls
    assert np.array_equal(seen[..., 2:], source) and np.array_equal(labels, twos)
    assert len(set(t)) > 1
    ab = S.alpha_bar[t].reshape(-1, 1, 1, 1)
    eps = (seen[..., :2] - np.sqrt(ab) * x0) / np.sqrt(1 - ab)
    target = np.sqrt(ab) * eps - np.sqrt(1 - ab) * x0 if predict == "v" else eps
    assert run.loss == pytest.approx(np.mean(target**2), rel=1e-4) and run.step == 1
    assert abs(eps.mean()) < 0.4 and 0.5 < eps.std() < 1.5


def test_training_refuses_another_prediction_before_it_draws_anything():
    with pytest.raises(ValueError, match="^predict is one of eps, v; got 'x0'"):
        paired.train(None, S, None, "x0")


@pytest.fixture(scope="module")
def marked():
    """Make subjects whose every pixel tells subject and style: (M, S, H, W, 3).

    No colour is like another, and the three channels differ.
    """
    m, s = np.arange(8)[:, None], np.arange(4)
    base = (m / 8 + s / 100)[..., None, None, None] + np.array([0.0, -0.5, -0.9])
    ramp = np.linspace(0, 0.005, 5)[:, None]  # across: a mirror image differs
    return np.broadcast_to(base + ramp, (8, 4, 3, 5, 3)).astype(np.float32)


def test_redrawn_pairs_are_one_subject_in_two_styles(marked):
    source, x0, labels = paired.redrawn(marked, OFTEN, np.random.default_rng(1), 2000)
    alone = ~source.any((1, 2, 3))
    assert 0.1 < alone.mean() < 0.2
    flat = lambda x: np.sort(x.mean((1, 2)), axis=1)[:, ::-1]  # back into the order of the channels
    m_of, m_to = ((100 * flat(x)[:, 0]).round().astype(int) for x in (source, x0))
    subject = lambda code: np.argmin(np.abs(code[:, None] - (12.5 * np.arange(8) + 1.5)), axis=1)
    style_of = lambda code: np.round(code - 12.5 * subject(code) - 0.25).astype(int)
    pairs = ~alone
    assert np.array_equal(subject(m_of)[pairs], subject(m_to)[pairs])
    drawn = set(zip(style_of(m_of)[pairs], labels[pairs, 0], strict=True))
    assert drawn == set(permutations(range(4), 2))
    usual = (style_of(m_of)[pairs, None] == OFTEN[:, 0]) & (labels[pairs] == OFTEN[:, 1])
    assert np.allclose(usual.mean(0), 1 / 4 + 1 / 24, atol=0.04)
    assert np.array_equal(style_of(m_to), labels[:, 0]) and np.bincount(subject(m_to)).min() > 150
    rising = lambda x: x[:, 0, -1].sum(1) > x[:, 0, 0].sum(1)
    assert np.array_equal(rising(source)[pairs], rising(x0)[pairs])
    assert 0.4 < rising(x0).mean() < 0.6
    order = lambda x: np.argsort(x.mean((1, 2)), axis=1)
    assert np.array_equal(order(source)[pairs], order(x0)[pairs])
    moved = (order(x0) != [2, 1, 0]).any(1)
    assert 0.3 < moved[pairs].mean() < 0.6 and not moved[alone].any()


def test_colours_do_not_change_places_where_one_picture_has_none(marked):
    grey = marked.copy()
    grey[:, 1] = grey[:, 1].mean(-1, keepdims=True)
    source, x0, labels = paired.redrawn(grey, OFTEN, np.random.default_rng(1), 2000)
    alone = ~source.any((1, 2, 3))
    to_grey = (labels[:, 0] == 1) & ~alone
    from_grey = (np.ptp(source.mean((1, 2)), axis=1) < 1e-3) & ~alone
    for x in (source[to_grey], x0[from_grey]):
        assert len(x) > 100 and (np.argsort(x.mean((1, 2)), axis=1) == [2, 1, 0]).all()


@pytest.fixture(scope="module")
def table():
    """Make 26 letters of 6 faces, each of one grey that tells both; and which of them are known."""
    grey = (np.arange(26)[:, None] / 40 + np.arange(6) / 400)[..., None, None, None]
    known = np.random.default_rng(0).random((26, 6)) < 0.7
    return np.broadcast_to(grey - 0.4, (26, 6, 8, 8, 1)).astype(np.float32), known


def test_alphabets_show_known_letters_of_one_face_but_not_the_one_to_draw(table, monkeypatch):
    images, known = table
    monkeypatch.setattr(paired, "warp", lambda images, rng: images)
    source, x0, labels = paired.alphabets(images, known, np.random.default_rng(2), 3000)
    letter = labels[:, 0]
    face = np.argmin(np.abs(x0[:, 0, 0] - images[letter, :, 0, 0, 0]), axis=1)
    assert np.allclose(x0[:, 3, 5, 0], images[letter, face, 3, 5, 0]) and known[letter, face].all()
    assert len(set(zip(letter, face, strict=True))) == known.sum()
    shown = source.any((1, 2))
    assert not shown[np.arange(3000), letter].any() and not shown[~known[:, face].T].any()
    want = np.where(shown[:, None, None], images[..., 0][:, face].transpose(1, 2, 3, 0), 0)
    assert np.array_equal(source, want)
    share = shown.sum(1) / (known[:, face].sum(0) - 1)
    assert 0.12 < (share == 0).mean() < 0.3 and (share > 0.9).mean() > 0.03
    assert 0.35 < share.mean() < 0.5


def test_warp_moves_all_channels_alike_and_reads_between_pixels(rng):
    class Chosen:
        """Chosen random numbers: first those of A, then those of the shift."""

        def __init__(self, A, b):
            self.next = [np.array(A, float), np.array(b, float)]

        def standard_normal(self, shape):
            return np.broadcast_to(self.next.pop(0), shape)

    x = rng.uniform(-1, 1, (2, 5, 7, 3)).astype(np.float32)
    assert np.allclose(paired.warp(x, Chosen(np.zeros((2, 2)), [0, 0])), x, atol=1e-6)
    down = paired.warp(x, Chosen(np.zeros((2, 2)), [2, 0]))  # values are read one row further down
    assert np.allclose(down[:, :-1], x[:, 1:], atol=1e-6) and np.allclose(down[:, -1], -1)
    half = paired.warp(x, Chosen(np.zeros((2, 2)), [0, -1]))
    assert np.allclose(half[:, :, 1:], (x[:, :, :-1] + x[:, :, 1:]) / 2, atol=1e-6)
    assert np.allclose(half[:, :, 0], (x[:, :, 0] - 1) / 2, atol=1e-6)
    # one column further right per row
    sheared = paired.warp(x, Chosen([[0, 0], [10 / 10, 0]], [0, 0]), amount=1.0)
    for row in range(5):
        inside = np.array([c for c in range(7) if 0 <= c + row - 2 < 7])
        assert np.allclose(sheared[:, row, inside], x[:, row, inside + row - 2], atol=1e-6)


@pytest.mark.parametrize("name, channels, out", [("emoji", 6, 3), ("typefaces", 27, 1)])
def test_tasks_describe_networks_that_learn_from_the_training_part_alone(name, channels, out):
    styles = data.load_styles(name)
    styles.images = styles.images.copy()
    styles.images[styles.test] = np.nan
    meta = describe(styles, seed=0, width=8, depth=1)
    assert (meta["model"]["channels"], meta["model"]["out"]) == (channels, out)
    labels, S_, batch_of = paired.task(styles)
    assert meta["labels"] == labels and S_ == channels - out
    (values,) = labels.values()
    for seed in range(5):
        source, x0, wanted = batch_of(np.random.default_rng(seed), 64)
        assert np.isfinite(source).all() and np.isfinite(x0).all()
        assert source.shape == (64, 16, 16, S_) and x0.shape == (64, 16, 16, out)
        assert wanted.max() < len(values)


def test_drawing_with_a_source_shows_it_to_the_network(rng):
    """draw puts the source beside x_t; guidance leads away from what is drawn without it."""
    model = UNet(8, 4, 8, (1,), 1, (3,), out=1, rng=rng)
    theta = model.flatten()
    theta[:] = 0.3 * rng.standard_normal(len(theta), dtype=np.float32)
    source, labels = rng.uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32), np.array([[0], [2]])
    pipe, times = Pipeline(model, S, {"style": ["a", "b", "c"]}), sample.even_times(S, 3)
    assert pipe.paired
    x_T = np.random.default_rng(5).standard_normal((2, 8, 8, 1), dtype=np.float32)

    def by_hand(cond, uncond):
        eps_model = lambda x, t: uncond(x, t) + 2 * (cond(x, t) - uncond(x, t))
        *_, x0 = sample.ddim(eps_model, S, x_T.shape, None, times, x_T=x_T, clip=1.0)
        return x0

    *_, drawn = pipe.draw(labels, np.random.default_rng(5), steps=3, w=2.0, source=source)
    shown, hidden = paired.beside(model, source), paired.beside(model)
    want = by_hand(denoiser(shown, S, labels), denoiser(hidden, S, labels))
    assert np.allclose(drawn, want, atol=1e-5)
    *_, without = pipe.draw(labels, np.random.default_rng(5), steps=3, w=2.0)
    by_labels = by_hand(denoiser(hidden, S, labels), denoiser(hidden, S))
    assert np.allclose(without, by_labels, atol=1e-5)
    assert np.abs(without - want).max() > 0.01


def test_examples_are_the_held_out_part():
    emoji, faces = data.load_styles("emoji"), data.load_styles("typefaces")
    source, x0, labels = paired.examples(emoji)
    assert len(x0) == 1000 and np.array_equal(labels[:, 0], np.repeat([1, 2, 3, 4], 250))
    unseen = emoji.images[emoji.test]
    for i, (of, to) in enumerate([(0, 1), (1, 2), (4, 3), (3, 4)]):
        part = slice(250 * i, 250 * i + 250)
        assert np.array_equal(source[part], unseen[:, of])
        assert np.array_equal(x0[part], unseen[:, to])
    source, x0, labels = paired.examples(faces)
    assert len(x0) == faces.test.sum() == 374
    for n in (0, 100, 373):
        letter, face = np.argwhere(faces.test)[n]
        assert labels[n, 0] == letter and np.array_equal(x0[n], faces.images[letter, face])
        for k in range(26):
            want = faces.images[k, face, :, :, 0] if not faces.test[k, face] else np.zeros((16, 16))
            assert np.array_equal(source[n, :, :, k], want)
