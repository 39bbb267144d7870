"""train.py: it does Algorithm 1 of DDPM, it learns, it repeats itself bit for bit, and it stops before damage is done."""

import numpy as np
import pytest

from tinydiff import data, diffusion, ops, optim, schedule, train
from tinydiff.autodiff import op
from tinydiff.nn import Module
from tinydiff.unet import UNet

CLASSES = (3,)
LABELS = np.arange(60)[:, None] % 3


def images(M=60, seed=0):
    """Images that differ in every pixel, so that one can be told from another."""
    return np.random.default_rng(seed).uniform(-1, 1, (M, 4, 4, 1)).astype(np.float32)


class Stub(Module):
    """A network with one weight, w x: it notes what it is called with."""

    def __init__(self, w=0.0, classes=CLASSES):
        self.w, self.classes, self.calls = np.full(1, w, np.float32), classes, []

    def __call__(self, x, t, labels=None):
        self.calls = (*self.calls, (x, t, labels))  # a list would be searched for Modules
        return ops.mul(x, self.w)

    def _slots(self, prefix=""):
        yield "w", self, "w"


class Watch:
    """Run some steps of training on a stub, and keep what was shown, what was asked for, and what came of it."""

    def __init__(self, monkeypatch, steps, s, x0, labels=LABELS, w=0.0, **settings):
        self.targets, self.losses = [], []
        mse = ops.mse
        monkeypatch.setattr(ops, "mse", lambda out, target: self.targets.append(target) or mse(out, target))
        self.run = train.Training(Stub(w), np.random.default_rng(1))
        training = train.train(self.run, s, x0, labels, **settings)
        for _ in range(steps):
            self.losses.append(next(training).loss)
        self.x, self.t, self.said = zip(*self.run.model.calls, strict=True)


S = schedule.cosine(T=8)


def origin(x0_hat, x0):
    """Say which image each row is: -> indices (N,), and how far off it is at most."""
    distance = np.abs(x0_hat[:, None] - x0[None]).max((2, 3, 4))
    return distance.argmin(1), distance.min(1).max()


@pytest.mark.parametrize("predict", ["eps", "v"])
def test_input_time_and_target_belong_together(monkeypatch, predict):
    """From (x_t, t, target) the clean image can be computed: it must be one of the data set, with its own label."""
    x0 = images()
    watch = Watch(monkeypatch, 20, S, x0, predict=predict, batch=16, forget=0.0)
    recover = diffusion.predict_x0 if predict == "eps" else diffusion.x0_from_v
    for x_t, t, target, said in zip(watch.x, watch.t, watch.targets, watch.said, strict=True):
        assert x_t.shape == target.shape == (16, 4, 4, 1) and x_t.dtype == target.dtype == np.float32
        clear = S.alpha_bar[t] > 0.01  # where hardly any image is left, float32 cannot recover it
        i, off = origin(recover(S, x_t, t, target)[clear], x0)
        assert off < 1e-4
        assert np.array_equal(said[clear], LABELS[i])


def test_every_image_and_every_time_is_drawn_evenly(monkeypatch):
    x0 = images(6)
    watch = Watch(monkeypatch, 400, S, x0, LABELS[:6], predict="v", batch=16)
    t = np.concatenate(watch.t)
    counts = np.bincount(t, minlength=10)
    assert counts[0] == counts[9] == 0  # t = 0 is no noise at all, T + 1 does not exist
    expected = len(t) / 8
    assert np.all(np.abs(counts[1:9] - expected) < 5 * np.sqrt(expected))
    i, _ = origin(diffusion.x0_from_v(S, np.concatenate(watch.x), t, np.concatenate(watch.targets)), x0)
    expected = len(t) / 6
    assert np.all(np.abs(np.bincount(i, minlength=6) - expected) < 5 * np.sqrt(expected))


def test_the_noise_is_standard_normal_and_always_new(monkeypatch):
    watch = Watch(monkeypatch, 50, S, images(), predict="eps", batch=16)
    eps = np.concatenate(watch.targets).ravel()
    assert abs(eps.mean()) < 5 / np.sqrt(eps.size) and abs((eps**2).mean() - 1) < 5 * np.sqrt(2 / eps.size)
    assert abs((eps**4).mean() - 3) < 0.4
    assert len(np.unique(eps)) > 0.999 * eps.size


def test_a_model_that_says_nothing_loses_the_mean_square_of_the_noise(monkeypatch):
    watch = Watch(monkeypatch, 5, S, images(), predict="eps", lr=lambda step: 0.0)
    for loss, eps in zip(watch.losses, watch.targets, strict=True):
        assert loss == pytest.approx(float((eps.astype(np.float64) ** 2).mean()), rel=1e-5)


def test_the_step_goes_downhill_with_the_rate_asked_for(monkeypatch):
    """One weight: w moves by lr against the sign of its gradient (Adam's first step), mean 2 (w x_t - eps) x_t."""
    asked = []
    watch = Watch(monkeypatch, 1, S, images(), predict="eps", w=2.0, lr=lambda step: asked.append(step) or 0.01)
    x_t, eps = watch.x[0], watch.targets[0]
    assert (2 * (2.0 * x_t - eps) * x_t).mean() > 0
    assert watch.run.theta[0] == pytest.approx(2.0 - 0.01, abs=1e-5)
    assert asked == [0] and watch.run.step == 1


def test_the_rate_is_asked_for_each_step_and_the_average_follows(monkeypatch):
    asked, thetas = [], [np.array([0.5], np.float32)]
    run = train.Training(Stub(0.5), np.random.default_rng(0))
    training = train.train(run, S, images(), LABELS, lr=lambda step: asked.append(step) or 0.01 * (step + 1))
    for _ in range(5):
        thetas.append(next(training).theta.copy())
    assert asked == [0, 1, 2, 3, 4]
    ema = thetas[0].astype(np.float64)
    for step, theta in enumerate(thetas[1:]):
        keep = optim.ema_keep(step)
        ema = keep * ema + (1 - keep) * theta
    assert run.ema == pytest.approx(ema, rel=1e-5) and not np.allclose(run.ema, run.theta)


def test_a_long_gradient_is_cut(monkeypatch):
    watch = Watch(monkeypatch, 1, S, images(), w=50.0)
    assert np.linalg.norm(watch.run.adam.m) == pytest.approx(0.1, rel=1e-5)  # (1 - beta1) g with |g| = 1


@pytest.mark.parametrize("forget", [0.0, 0.1, 0.5, 1.0])
def test_labels_are_forgotten_as_often_as_asked(monkeypatch, forget):
    watch = Watch(monkeypatch, 40, S, images(), predict="v", forget=forget, batch=64)
    said = np.concatenate(watch.said)
    null = said == CLASSES[0]
    assert abs(null.mean() - forget) <= 5 * np.sqrt(forget * (1 - forget) / said.size)
    assert np.all((said >= 0) & (said <= CLASSES[0]))


def test_each_label_of_several_is_forgotten_by_itself(monkeypatch):
    labels = np.stack([np.arange(60) % 3, np.arange(60) % 5], axis=1)
    monkeypatch.setattr(Stub.__init__, "__defaults__", (0.0, (3, 5)))
    said = np.concatenate(Watch(monkeypatch, 40, S, images(), labels, forget=0.5).said)
    null = said == (3, 5)
    assert abs(np.mean(null[:, 0] & null[:, 1]) - 0.25) < 0.05
    assert said[:, 1].max() == 5 and said[:, 0].max() == 3


def test_without_labels_nothing_is_said(monkeypatch):
    assert set(Watch(monkeypatch, 3, S, images(), labels=None).said) == {None}


def unet(seed=0, classes=(10,)):
    rng = np.random.default_rng(seed)
    return train.Training(UNet(8, 1, 8, (1, 2), 1, classes, rng=rng), rng)


@pytest.mark.parametrize("predict, share", [("eps", 0.45), ("v", 0.75)])
def test_the_loss_goes_down(predict, share):
    run, digits = unet(), data.load("digits")
    training = train.train(run, schedule.cosine(50), digits.train, digits.train_labels, predict, batch=16, lr=lambda step: 4e-3)
    losses = [next(training).loss for _ in range(150)]
    assert np.mean(losses[-30:]) < share * np.mean(losses[:5])


def test_one_image_is_learned_by_heart():
    """With a single image the best answer is known at every t: after training the network's guess of x0 is that image."""
    run, s, x0 = unet(), schedule.cosine(50), data.load("digits").train[:1]
    training = train.train(run, s, x0, batch=16, lr=lambda step: 5e-3)
    for _ in range(200):
        next(training)
    eps = np.random.default_rng(5).standard_normal((8, 8, 8, 1), dtype=np.float32)
    t = 30
    x_t = diffusion.q_sample(s, x0.repeat(8, 0), t, eps)
    x0_hat = diffusion.predict_x0(s, x_t, t, train.denoiser(run.model, s)(x_t, t))
    assert np.sqrt(((x0_hat - x0) ** 2).mean()) < 0.3 < 0.6 < np.sqrt(((x_t - x0) ** 2).mean())


@pytest.mark.parametrize("predict", ["eps", "v"])
def test_a_perfect_network_makes_a_perfect_denoiser(predict):
    """A network that knows x0 and eps says its target: the denoiser must then say eps, at every t, with labels and t passed on."""
    rng = np.random.default_rng(0)
    x0, eps = rng.uniform(-1, 1, (4, 4, 4, 1)), rng.standard_normal((4, 4, 4, 1))
    labels = np.array([[0], [1], [2], [3]])
    for t in range(1, S.T + 1):

        def network(x, times, said):
            assert times.shape == (4,) and set(times) == {t} and said is labels
            return diffusion.v_target(S, x0, t, eps) if predict == "v" else eps

        eps_hat = train.denoiser(network, S, labels, predict)(diffusion.q_sample(S, x0, t, eps), t)
        assert np.allclose(eps_hat, eps, atol=1e-12)


def test_the_same_seed_gives_the_same_bits():
    digits = data.load("digits")

    def bits(seed):
        run = unet(seed)
        training = train.train(run, S, digits.train, digits.train_labels, batch=4)
        losses = [next(training).loss for _ in range(5)]
        return losses, run.theta.tobytes(), run.ema.tobytes(), run.rng.bit_generator.state

    assert bits(3) == bits(3)
    assert bits(3)[1] != bits(4)[1]


def frozen(run):
    return [a.tobytes() for a in (run.theta, run.ema, run.adam.m, run.adam.v)], run.adam.k, run.step


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
@pytest.mark.filterwarnings("error")
def test_a_loss_that_is_not_finite_stops_before_the_parameters_change(value):
    run, x0 = unet(), data.load("digits").train[:8].copy()
    training = train.train(run, S, x0, batch=4, lr=lambda step: 1e-3)
    next(training), next(training)
    before = frozen(run)
    x0[:] = value
    with pytest.raises(FloatingPointError, match=r"the loss at step 3 is (nan|inf), .*: lower the learning rate"):
        next(training)
    assert frozen(run) == before
    assert not any(hasattr(p, "value") for p in run.model.params().values())  # arrays again, no Tensors


@op
def finite_but_steep(x, w):
    return x * 0 + w * 0, lambda g: (None, np.full_like(w, np.nan))


def test_a_gradient_that_is_not_finite_stops_too(monkeypatch):
    monkeypatch.setattr(Stub, "__call__", lambda self, x, t, labels=None: finite_but_steep(x, self.w))
    run = train.Training(Stub(1.0), np.random.default_rng(0))
    before = frozen(run)
    with pytest.raises(FloatingPointError, match="the loss at step 1 is .*, its gradient nan long"):
        next(train.train(run, S, images(), LABELS))
    assert frozen(run) == before
