"""train.py: it does Algorithm 1 of DDPM, learns, repeats bit for bit, and stops before damage."""

import copy
import inspect
import pickle

import numpy as np
import pytest
from conftest import compiled_when_slow

from tinydiff import data, diffusion, guide, kernels, ops, optim, schedule, train
from tinydiff.autodiff import gradient, op, value_of
from tinydiff.design.pipeline import Pipeline
from tinydiff.nn import Module
from tinydiff.unet import UNet

CLASSES = (3,)
LABELS = np.arange(60)[:, None] % 3


def images(M=60, seed=0):
    """Images that differ in every pixel, so that each can be recognised."""
    return np.random.default_rng(seed).uniform(-1, 1, (M, 4, 3, 2)).astype(np.float32)


@op
def scaled(x, w, hear=None):
    """w x; `hear` gets the gradient that arrives."""

    def vjp(g):
        hear(g)
        return g * w, g * x

    return x * w, vjp


class Stub(Module):
    """A network with one weight, w x f with a number f that depends on t and labels.

    It notes what it is called with, and the target, which follows from the gradient of the mean
    square, g = 2 (out - target) / size.
    """

    def __init__(self, w=0.0, classes=CLASSES):
        self.w, self.classes, self.calls, self.targets = np.full(1, w, np.float32), classes, [], []

    def __call__(self, x, t, labels=None):
        self.calls.append((x, t, labels))
        f = 1 + np.reshape(t, (-1, 1, 1, 1)) / 10
        f = f + (0 if labels is None else np.sum(labels, -1).reshape(-1, 1, 1, 1) / 7)
        x = (x * f).astype(x.dtype)
        out = value_of(self.w) * x
        note = lambda g: self.targets.append(out - g * (out.size / 2))
        return scaled(x, self.w, hear=note)

    def _slots(self):
        yield "w", self, "w"


def rng_of(seed):
    return np.random.default_rng(seed)


def start(run, x0, labels, predict="v", batch=64, lr=lambda step: 1e-3, p_drop=0.1):
    """Call train.train by position: answers handed in may have other names for its arguments."""
    return train.train(run, S, x0, labels, predict, batch, lr, p_drop)


class Watch:
    """Run some steps of training on a stub; keep what the network got, the targets, the losses."""

    def __init__(self, steps, x0, labels=LABELS, w=0.0, classes=CLASSES, seed=1, **settings):
        self.losses, asked = [], []
        rate = settings.pop("lr", lambda step: 1e-3)
        lr = lambda step: asked.append(step) or rate(step)
        self.run = train.Training(Stub(w, classes), np.random.default_rng(seed))
        training = start(self.run, x0, labels, lr=lr, **settings)
        assert inspect.isgenerator(training), (
            "train gives a generator: it yields run after each step, and never returns"
        )
        for step in range(1, steps + 1):
            got = next(training, "the end")
            assert got != "the end", f"train goes on without end; it ended after {step - 1} steps"
            assert got is self.run, "train yields run, the Training it was given"
            assert asked, "lr was not called: a step takes the learning rate lr(run.step)"
            self.losses.append(self.run.loss)
            forwards, backwards = len(self.run.model.calls), len(self.run.model.targets)
            assert (forwards, backwards) == (step, step), (
                f"after step {step} the network has run {forwards} times forwards, {backwards} "
                "backwards"
            )
        self.x, self.t, self.cond = zip(*self.run.model.calls, strict=True)
        self.targets = self.run.model.targets


@pytest.fixture(autouse=True)
def numba_need_not_be_there(request):
    """Exercises are graded on the reference kernels."""
    before = kernels._active
    if request.node.get_closest_marker("exercise"):
        kernels.use("reference")
    yield
    kernels._active = before


graded = pytest.mark.exercise("train.train")


S = schedule.from_betas(np.linspace(0.02, 0.6, 8))


def origin(x0_hat, x0):
    """Find which image each row is: -> indices (N,), and how far off it is at most."""
    distance = np.abs(x0_hat[:, None] - x0[None]).max((2, 3, 4))
    return distance.argmin(1), distance.min(1).max()


READINGS = {
    "eps": diffusion.predict_x0,
    "v": diffusion.x0_from_v,
    "the image x0": lambda s, x_t, t, target: target,
}


def meant(x_t, t, target, x0):
    """Find as what a target leads to images of the data set: as eps, v or x0 -> names"""
    return [k for k, f in READINGS.items() if origin(f(S, x_t, t, target), x0)[1] < 1e-4]


@graded
@pytest.mark.parametrize("predict", ["eps", "v"])
def test_input_time_and_target_belong_together(predict):
    """The clean image follows from (x_t, t, target): one of the data set, with its own label."""
    x0 = images()
    watch = Watch(20, x0, w=0.5, predict=predict, batch=16, p_drop=0.0, lr=lambda step: 0.0)
    for x_t, t, target, cond in zip(watch.x, watch.t, watch.targets, watch.cond, strict=True):
        assert x_t.shape == (16, 4, 3, 2), (
            f"expected a batch of 16 images of 4 x 3 x 2; the network got {x_t.shape}"
        )
        assert x_t.dtype == np.float32, (
            f"the network got {x_t.dtype}: draw the noise with dtype=np.float32"
        )
        assert np.shape(t) == (16,), (
            f"the network takes t of shape (16,), one time per image; it got {np.shape(t)}"
        )
        assert len(set(t)) > 1, (
            f"all 16 images of a batch have the time {t[0]}: draw a t for each image by itself"
        )
        assert target.shape == x_t.shape
        clear = S.alpha_bar[t] > 0.01  # where hardly any image is left, float32 cannot recover it
        as_if = meant(x_t[clear], t[clear], target[clear], x0)
        assert predict in as_if or not as_if, (
            f"predict = {predict!r} was asked for, but the target of the loss is {as_if[0]}"
        )
        i, off = origin(READINGS[predict](S, x_t, t, target)[clear], x0)
        assert off < 1e-4, (
            f"predict = {predict!r}: x_t, t and the target of the loss do not belong to one image "
            "of the data set"
        )
        assert not np.any(np.asarray(cond) == CLASSES[0]), (
            f"p_drop = 0, so no label is dropped; the network got {CLASSES[0]}, which is 'any'"
        )
        assert np.array_equal(np.asarray(cond)[clear], LABELS[i]), (
            "the network got the label of another image"
        )


@graded
def test_every_image_and_every_time_is_drawn_evenly():
    x0 = images(6)
    watch = Watch(1050, x0, LABELS[:6], w=0.5, predict="v", batch=6, lr=lambda step: 0.0)
    assert max(len(set(t)) for t in watch.t) > 4, (
        "a batch of 6 has one time for all: draw t for each image by itself"
    )
    t = np.concatenate(watch.t)
    counts = np.bincount(t, minlength=10)
    assert counts[0] == 0, "t = 0 was drawn: there x_t is the clean image; times go from 1 to T"
    assert counts[9] == 0 and counts[8] > 0, (
        f"times from 1 to T = 8; the largest drawn was {t.max()}"
    )
    expected = len(t) / 8
    assert np.all(np.abs(counts[1:9] - expected) < 5 * np.sqrt(expected)), (
        f"times 1 .. 8 were drawn {counts[1:9]} times: not evenly"
    )
    x_t, target = np.concatenate(watch.x), np.concatenate(watch.targets)
    i, _ = origin(diffusion.x0_from_v(S, x_t, t, target), x0)
    expected, counts = len(t) / 6, np.bincount(i, minlength=6)
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected)), (
        f"the six images were drawn {counts} times: not evenly"
    )
    table = np.zeros((6, 8))
    np.add.at(table, (i, t - 1), 1)
    off = ((table - len(t) / 48) ** 2).sum() / (len(t) / 48)  # about 47, spread about 10
    assert off < 110, "which time an image gets depends on the image: draw both independently"
    i, t = i.reshape(-1, 6), t.reshape(-1, 6)
    twice = (i[:, :, None] == i[:, None]) & ~np.eye(6, dtype=bool)
    alike = np.mean((t[:, :, None] == t[:, None])[twice])
    assert abs(alike - 1 / 8) < 0.03, (
        "an image that is twice in a batch gets two times of its own, equal in 1/8 of all cases; "
        f"here in {alike:.2f}"
    )


@graded
@pytest.mark.parametrize("T", [1, 3])
def test_times_are_those_of_the_schedule(T):
    s, run = schedule.from_betas(np.full(T, 0.995)), train.Training(Stub(), rng_of(1))
    training = train.train(run, s, images(), LABELS)
    next(training), next(training)
    times = set(np.concatenate([t for _, t, _ in run.model.calls]).tolist())
    assert times == set(range(1, T + 1)), f"T = {T}: times are 1 to {T}; drawn were {times}"


@graded
def test_what_is_not_given_is_as_the_docstring_says():
    run = train.Training(Stub(0.5), rng_of(2))
    training, x0 = train.train(run, S, images(), LABELS), images()
    first = float(run.theta[0])
    next(training)
    moved = abs(float(run.theta[0]) - first)
    assert abs(moved - 1e-3) < 1e-5, (
        f"lr not given: it is 1e-3; the first step moved by {moved:.3g}"
    )
    (x_t, t, _), target = run.model.calls[0], run.model.targets[0]
    assert len(t) == 64, f"batch not given: it is 64; {len(t)} images came"
    clear = S.alpha_bar[t] > 0.01
    as_if = meant(x_t[clear], t[clear], target[clear], x0)
    assert as_if == ["v"], f"predict not given: it is 'v'; the target is {as_if}"
    for _ in range(30):
        next(training)
    dropped = np.mean([cond == CLASSES[0] for _, _, cond in run.model.calls])
    assert abs(dropped - 0.1) < 0.035, f"p_drop not given: it is 0.1; dropped were {dropped:.3f}"


@graded
def test_the_noise_is_standard_normal_and_always_new():
    watch = Watch(50, images(), predict="eps", batch=16, lr=lambda step: 0.0)
    eps = np.concatenate(watch.targets).ravel()
    assert len(np.unique(eps)) > 0.999 * eps.size, (
        "the same noise was used again: each pixel of each image gets its own, at each step"
    )
    mean, var, fourth = (float((eps.astype(np.float64) ** n).mean()) for n in (1, 2, 4))
    assert abs(mean) < 5 / np.sqrt(eps.size) and abs(var - 1) < 5 * np.sqrt(2 / eps.size), (
        f"the noise has mean {mean:.3f}, variance {var:.3f}"
    )
    assert abs(fourth - 3) < 0.4, "the noise is not normal"
    x_t, t = np.concatenate(watch.x), np.concatenate(watch.t)
    noise = np.sqrt(1 - S.alpha_bar[t]).reshape(-1, 1, 1, 1) * eps.reshape(x_t.shape)
    together = float((noise * (x_t - noise)).mean())
    assert abs(together) < 5 / np.sqrt(eps.size), "the noise depends on the image it is added to"


@graded
def test_a_model_that_predicts_0_loses_the_mean_square_of_the_noise():
    watch = Watch(5, images(), predict="eps", lr=lambda step: 0.0)
    for loss, eps in zip(watch.losses, watch.targets, strict=True):
        assert isinstance(loss, float), f"run.loss is a float; got {type(loss).__name__}"
        expected = float((eps.astype(np.float64) ** 2).mean())
        assert loss == pytest.approx(expected, rel=1e-5), (
            f"the network predicts 0: the loss is the mean of eps^2, {expected:.4f}; got {loss:.4f}"
        )


@graded
def test_the_step_goes_downhill_by_the_learning_rate():
    """One weight, far too large: it goes down, by lr (that is Adam's first step)."""
    asked = []
    rate = lambda step: asked.append(step) or 0.01 * (step + 1)
    watch = Watch(1, images(), predict="eps", w=2.0, lr=rate)
    w = float(watch.run.theta[0])
    assert asked == [0], f"the first step takes lr(0); lr was called with {asked}"
    assert w == pytest.approx(2.0 - 0.01, abs=1e-5), (
        f"the only weight goes down by lr, from 2 to 1.99; it went to {w:.4f}"
    )
    assert watch.run.step == 1, f"after one step run.step is 1; it is {watch.run.step}"


@graded
def test_each_step_has_its_learning_rate_and_the_average_follows():
    asked, thetas = [], [np.array([0.5], np.float32)]
    run = train.Training(Stub(0.5), np.random.default_rng(0))
    rate = lambda step: asked.append(step) or 0.01 * (step + 1)
    training = start(run, images(), LABELS, lr=rate)
    for _ in range(5):
        thetas.append(next(training).theta.copy())
    assert asked == [0, 1, 2, 3, 4], (
        f"step k takes lr(k), k = 0, 1, 2, 3, 4; lr was called with {asked}"
    )
    assert run.adam.k == run.step == 5, (
        f"five steps: run.step is {run.step}, run.adam.k is {run.adam.k}"
    )
    ema = thetas[0].astype(np.float64)
    for step, theta in enumerate(thetas[1:]):
        decay = optim.ema_decay(step)
        ema = decay * ema + (1 - decay) * theta
    assert run.ema == pytest.approx(ema, rel=1e-5) and not np.allclose(run.ema, run.theta), (
        "run.ema is not the running average of theta"
    )


@graded
def test_a_training_goes_on_where_it_stood():
    """Two generators, one after the other, on the same run: the second goes on counting."""
    run, asked = train.Training(Stub(0.5), np.random.default_rng(0)), []
    for _ in range(2):
        training = start(run, images(), LABELS, lr=lambda step: asked.append(step) or 0.01)
        next(training), next(training)
    assert asked == [0, 1, 2, 3] and run.step == 4, (
        f"run.step counts all steps of a run, in four of them: {asked}, then {run.step}"
    )
    at_once = train.Training(Stub(0.5), np.random.default_rng(0))
    training = start(at_once, images(), LABELS, lr=lambda step: 0.01)
    for _ in range(4):
        next(training)
    assert at_once.losses == run.losses, (
        "two steps, and two more by a second generator, are not the four steps of a single one: "
        "draw everything from run.rng itself, which goes on where it stood"
    )


@graded
def test_a_long_gradient_is_cut():
    watch = Watch(1, images(), w=50.0)
    m = np.linalg.norm(watch.run.adam.m)  # (1 - beta1) g with |g| = 1
    assert m == pytest.approx(0.1, rel=1e-5), (
        f"run.adam cuts a gradient to length 1, so that m is 0.1 long after a step; it is {m:.3g}"
    )


@graded
@pytest.mark.parametrize("p_drop", [0.0, 0.1, 0.5, 1.0])
def test_labels_are_dropped_as_often_as_asked(p_drop):
    watch = Watch(40, images(), predict="v", p_drop=p_drop, batch=64)
    cond = np.concatenate(watch.cond)
    assert cond.shape == (40 * 64, 1), (
        f"labels come as (batch, number of labels) = (64, 1); they came as {watch.cond[0].shape}"
    )
    dropped = cond == CLASSES[0]
    assert abs(dropped.mean() - p_drop) <= 5 * np.sqrt(p_drop * (1 - p_drop) / cond.size), (
        f"p_drop = {p_drop}: {dropped.mean():.3f} were dropped"
    )
    assert np.all((cond >= 0) & (cond <= CLASSES[0])), (
        f"with 3 classes labels are 0, 1, 2, and 3 for 'any'; the network got {np.unique(cond)}"
    )


@graded
def test_each_of_several_labels_is_dropped_with_its_images_probability():
    labels = np.stack([np.arange(60) % 3, np.arange(60) % 5], axis=1)
    cond = np.concatenate(Watch(40, images(), labels, classes=(3, 5), p_drop=0.5).cond)
    dropped = cond == (3, 5)
    both, each = np.mean(dropped[:, 0] & dropped[:, 1]), dropped.mean(0)
    assert np.all(np.abs(each - 0.5) < 0.05), (
        f"of two labels, with p_drop = 0.5, {each} were replaced by 3 and 5, their 'any'"
    )
    assert abs(both - 1 / 3) < 0.05, (
        "two labels, p_drop = 1/2: u is uniform, so both are dropped in E[u^2] = 1/3 of all cases; "
        f"here in {both:.2f}"
    )
    assert cond[:, 1].max() == 5 and cond[:, 0].max() == 3, (
        "'any' is classes[k] for label k: here 3 and 5"
    )


def test_all_none_or_any_number_of_labels_are_dropped():
    """u = U^k, k = 1 / p_drop - 1: all of 9 labels are dropped with E[u^9] = 1 / (9 k + 1)."""
    none = np.zeros((200_000, 9), int)
    dropped = train.drop_labels(none, (1,) * 9, 0.3, np.random.default_rng(0)).sum(1)
    k = 1 / 0.3 - 1
    assert abs(dropped.mean() / 9 - 0.3) < 0.004  # 5 standard errors, as the next
    assert abs(np.mean(dropped == 9) - 1 / (9 * k + 1)) < 0.002
    assert np.mean(dropped == 0) > 0.3


@graded
def test_without_labels_the_network_gets_none():
    assert set(Watch(3, images(), labels=None).cond) == {None}, (
        "labels is None: the network gets None"
    )


@graded
def test_the_data_stays_as_it_is_and_the_seed_decides_all():
    x0, labels, ends = images(), LABELS.copy(), []
    for seed in (1, 1, 2):
        watch = Watch(3, x0, labels, p_drop=0.5, seed=seed)
        ends.append((watch.losses, watch.run.theta.tobytes()))
    assert np.array_equal(x0, images()) and np.array_equal(labels, LABELS), (
        "images or labels were changed: they are the caller's"
    )
    assert ends[0] == ends[1], (
        "two trainings from the same run.rng differ: draw everything from run.rng"
    )
    assert ends[0] != ends[2], (
        "trainings from different run.rng are the same: draw everything from run.rng"
    )


def unet(seed=0, classes=(10,)):
    rng = np.random.default_rng(seed)
    return train.Training(UNet(8, 1, 8, (1, 2), 1, classes, rng=rng), rng)


@pytest.mark.parametrize("predict, share", [("eps", 0.45), ("v", 0.75)])
def test_the_loss_goes_down(predict, share):
    run, digits = unet(), data.load("digits")
    x0, labels, rate = digits.train, digits.train_labels, lambda step: 4e-3
    training = train.train(run, schedule.cosine(50), x0, labels, predict, batch=16, lr=rate)
    losses = [next(training).loss for _ in range(150)]
    assert np.mean(losses[-30:]) < share * np.mean(losses[:5])


def step_in_pieces(most, dtype=np.float32, predict="v", N=10):
    """Make a step of a U-Net, a few images at once -> Training, gradient that Adam got"""
    kernels.use("reference")
    rng = np.random.default_rng(0)
    run = train.Training(UNet(8, 1, 8, (1, 2), 1, (10,), rng=rng), rng)
    run.theta = run.model.flatten(dtype)
    run.theta += 0.02 * rng.standard_normal(run.theta.shape)  # so that no layer is zero
    run.adam, run.most, seen = optim.Adam(run.theta), most, []
    step = run.adam.step
    run.adam.step = lambda g, lr, wait: seen.append(g.copy()) or step(g, lr, wait=wait)
    digits = data.load("digits")
    x0, labels = digits.train.astype(dtype), digits.train_labels
    next(train.train(run, S, x0, labels, predict, N, lambda step: 0.1))
    return run, seen[0]


@pytest.mark.parametrize("dtype, within", [(np.float64, 1e-10), (np.float32, 1e-5)])
@pytest.mark.parametrize("most", [1, 3, 4, 9])
def test_pieces_of_a_batch_add_up(most, dtype, within):
    """10 images, 3 at once are pieces of 2, 3, 2 and 3: each counts by its images."""
    (whole, g), (cut, h) = step_in_pieces(None, dtype), step_in_pieces(most, dtype)
    assert g.dtype == h.dtype == dtype
    assert np.linalg.norm(g - h) <= within * np.linalg.norm(g) > 0
    assert abs(whole.loss - cut.loss) <= within * whole.loss
    assert str(whole.rng.bit_generator.state) == str(cut.rng.bit_generator.state)
    again, same = step_in_pieces(most, dtype)
    assert np.array_equal(same, h) and np.array_equal(again.theta, cut.theta)


def test_a_batch_that_fits_is_not_cut():
    (whole, g), (other, h) = step_in_pieces(None), step_in_pieces(10)
    assert np.array_equal(g, h) and whole.loss == other.loss


def test_no_more_images_at_once_than_asked_for():
    calls = []
    model = lambda x: calls.append(len(x)) or ops.mse(x * net.w, 0 * x)
    net = Stub(1.0)
    with net.variables() as params:
        loss_of = train.in_pieces(lambda net, x: model(x), 4, np.ones((10, 1, 1, 1), np.float32))
        loss = loss_of(net)
        assert calls == [3, 3, 4] and loss.value == 1
        assert gradient(loss, params)[0] == gradient(loss, params)[0] == 2


def test_one_piece_that_is_not_finite_stops_the_step():
    run, _ = step_in_pieces(2)
    x0, before = data.load("digits").train[:2].copy(), run.theta.copy()
    x0[1, 3, 3] = np.inf
    steps = train.train(run, S, x0, None, batch=8)
    with pytest.raises(FloatingPointError):
        next(steps)
    assert np.array_equal(run.theta, before) and run.step == 1


def test_one_image_is_learned_by_heart():
    """With a single image the best guess of x0 is known at every t: that image."""
    run, s, x0 = unet(), schedule.cosine(50), data.load("digits").train[:1]
    training = train.train(run, s, x0, batch=16, lr=lambda step: 5e-3)
    for _ in range(200):
        next(training)
    eps = np.random.default_rng(5).standard_normal((8, 8, 8, 1), dtype=np.float32)
    t = 30
    x_t = diffusion.q_sample(s, x0.repeat(8, 0), t, eps)
    x0_hat = diffusion.predict_x0(s, x_t, t, train.denoiser(run.model, s)(x_t, t))
    assert np.sqrt(((x0_hat - x0) ** 2).mean()) < 0.3 < 0.6 < np.sqrt(((x_t - x0) ** 2).mean())


@pytest.mark.exercise("train.denoiser")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("predict", ["eps", "v"])
def test_a_perfect_network_makes_a_perfect_denoiser(predict, dtype):
    """A network that knows x0 and eps predicts its target: the denoiser must then give eps.

    At every t, with labels and t passed on.
    """
    rng = np.random.default_rng(0)
    x0 = rng.uniform(-1, 1, (4, 4, 3, 2)).astype(dtype)
    eps = rng.standard_normal((4, 4, 3, 2)).astype(dtype)
    labels = np.array([[0], [1], [2], [3]])
    for t in (3, 1, 2, *range(4, S.T + 1)):  # an ordinary one first: its error is reported
        x_t = diffusion.q_sample(S, x0, t, eps)

        def network(x, times, cond):
            assert np.shape(times) == (4,), (
                "the network takes t of shape (N,) = (4,), one time per image; "
                f"got {np.shape(times)}"
            )
            got = ", ".join(map(str, np.unique(times)))
            assert set(times) == {t}, f"the sampler gave t = {t}; the network got {got}"
            assert np.array_equal(cond, labels), "the labels were not passed on to the network"
            assert np.array_equal(x, x_t), "the network got something else than x_t"
            return diffusion.v_target(S, x0, t, eps) if predict == "v" else eps

        model = train.denoiser(network, S, labels, predict)
        assert callable(model), "denoiser returns a function of (x_t, t)"
        kept = x_t.copy()
        eps_hat = model(x_t, t)
        assert np.array_equal(x_t, kept), "x_t was changed in place: the sampler still needs it"
        assert np.shape(eps_hat) == x_t.shape, (
            f"eps_hat has the shape {np.shape(eps_hat)}, expected {x_t.shape}"
        )
        assert eps_hat.dtype == dtype, (
            f"eps_hat is {eps_hat.dtype}, expected {np.dtype(dtype)} like x_t"
        )
        off, tolerance = np.abs(eps_hat - eps).max(), 1e-12 if dtype == np.float64 else 1e-5
        assert off < tolerance, (
            f"t = {t}, predict = {predict!r}: eps_hat is off by {off:.3g} from a right network"
        )


@pytest.mark.exercise("train.denoiser")
def test_the_denoiser_without_labels_gives_none_to_the_network():
    """And the network is taken to predict v unless told otherwise."""
    got = []

    def network(x, times, cond):
        got.append(cond)
        assert np.shape(times) == (2,), f"two images, two times; the network got {times}"
        return 2 * x

    x = np.ones((2, 3, 1, 1))
    signal, noise = np.sqrt(S.alpha_bar[3]), np.sqrt(1 - S.alpha_bar[3])
    eps_hat = train.denoiser(network, S)(x, 3)
    assert got == [None], "no labels were given: the network gets None"
    assert np.allclose(eps_hat, 2 * signal + noise), "by default the network predicts v"


@pytest.mark.exercise("train.denoiser")
@pytest.mark.parametrize("predict", ["eps", "v"])
def test_a_denoiser_keeps_nothing_from_call_to_call(predict):
    """Other images, other times, other numbers of images."""

    def network(x, times, cond):
        assert len(times) == len(x) and set(times) == {t}, f"t = {t}: the network got {times}"
        return np.cos(3 * x)

    model = train.denoiser(network, S, predict=predict)
    for k, (t, n) in enumerate(((3, 2), (3, 2), (5, 2), (3, 4), (8, 1), (1, 2)), start=1):
        x = np.random.default_rng(k).standard_normal((n, 2, 3, 1))
        along, across = np.sqrt(S.alpha_bar[t]), np.sqrt(1 - S.alpha_bar[t])
        want = np.cos(3 * x) if predict == "eps" else along * np.cos(3 * x) + across * x
        off = np.abs(model(x, t) - want).max()
        assert off < 1e-12, f"call {k} of one denoiser, {n} images at t = {t}: off by {off:.3g}"


def test_the_same_seed_gives_the_same_bits():
    digits = data.load("digits")

    def bits(seed):
        run = unet(seed)
        training = train.train(run, S, digits.train, digits.train_labels, batch=4)
        losses = [next(training).loss for _ in range(5)]
        return losses, run.theta.tobytes(), run.ema.tobytes(), run.rng.bit_generator.state

    assert bits(3) == bits(3)
    assert bits(3)[1] != bits(4)[1]


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda item: pickle.loads(pickle.dumps(item))}


def weights(model):
    return np.concatenate([p.ravel() for p in model.params().values()])


@compiled_when_slow
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copied_training_trains_on_by_itself(copied, kernel_set):
    """The copy's next steps are the original's, bit for bit, and neither moves the other."""
    x0 = np.random.default_rng(1).uniform(-1, 1, (10, 8, 8, 1)).astype(np.float32)
    run, labels = unet(), np.arange(10)[:, None]
    go_on = lambda run: [next(start(run, x0, labels, batch=4)) for _ in range(2)]
    go_on(run)
    other, before = copied(run), run.theta.copy()
    go_on(other)
    assert np.array_equal(run.theta, before) and np.array_equal(weights(run.model), before)
    assert np.array_equal(weights(other.model), other.theta)
    assert not np.array_equal(other.theta, before) and other.ema is other.adam.ema
    go_on(run)
    for a, b in ((run, other), (run.adam, other.adam)):
        arrays = [name for name, value in vars(a).items() if isinstance(value, np.ndarray)]
        assert len(arrays) in (2, 4)  # theta, ema; theta, ema, m, v
        assert all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays)
    assert run.losses == other.losses and run.adam.k == other.adam.k == 4
    assert run.rng.bit_generator.state == other.rng.bit_generator.state


@compiled_when_slow
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_copied_networks_are_their_own(copied, kernel_set):
    """With the buffer that they were moved into, or without; also before, and inside a Pipeline."""
    model = UNet(8, 1, 8, (1, 2), 1, (10,), rng=np.random.default_rng(0))
    assert np.array_equal(weights(copied(model)), weights(model))
    theta = model.flatten()
    other, its = copied((model, theta))
    its += 1
    assert np.array_equal(weights(other), theta + 1) and np.array_equal(weights(model), theta)
    alone = copied(model)
    alone.conv_in.w[:] = 7
    assert (model.conv_in.w != 7).all() and alone.conv_in.w.shape == model.conv_in.w.shape
    pipe = Pipeline(model, schedule.cosine(10), {"digit": list("0123456789")})
    labels = np.arange(2)[:, None]
    drawn = [p.draw(labels, np.random.default_rng(0), steps=2)[-1] for p in (pipe, copied(pipe))]
    assert np.array_equal(*drawn)


@compiled_when_slow
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copied_adam_goes_on(copied, kernel_set):
    adam, g = optim.Adam(np.ones(3)), np.ones(3)
    adam.step(g, 0.1)
    other = copied(adam)
    other.step(g, 0.1)
    assert adam.k == 1 and not np.array_equal(adam.theta, other.theta)
    adam.step(g, 0.1)
    for name in ("theta", "ema", "m", "v", "k"):
        assert np.array_equal(getattr(adam, name), getattr(other, name))


def frozen(run):
    return [a.tobytes() for a in (run.theta, run.ema, run.adam.m, run.adam.v)], run.adam.k, run.step


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
@pytest.mark.filterwarnings("error")
def test_a_loss_that_is_not_finite_stops_the_unet_before_the_parameters_change(value):
    run, x0 = unet(), data.load("digits").train[:8].copy()
    training = train.train(run, S, x0, batch=4, lr=lambda step: 1e-3)
    next(training), next(training)
    before = frozen(run)
    x0[:] = value
    said = r"the loss at step 3 is (nan|inf), .*: lower the learning rate"
    with pytest.raises(FloatingPointError, match=said):
        next(training)
    assert frozen(run) == before
    tensors = [p for p in run.model.params().values() if hasattr(p, "value")]
    assert tensors == [], "the parameters are arrays again"


@op
def finite_but_steep(x, w):
    return x * 0 + w * 0, lambda g: (None, np.full_like(w, np.nan))


@graded
def test_a_gradient_that_is_not_finite_stops_before_the_parameters_change(monkeypatch):
    monkeypatch.setattr(Stub, "__call__", lambda self, x, *_: finite_but_steep(x, self.w))
    run = train.Training(Stub(1.0), np.random.default_rng(0))
    before = frozen(run)
    try:
        next(start(run, images(), LABELS))
    except FloatingPointError:
        assert frozen(run) == before, "before it stopped, the parameters or the step changed"
    else:
        raise AssertionError("a gradient of nan: expected a FloatingPointError, it went on")


def test_a_gradient_that_is_not_finite_is_named(monkeypatch):
    steep = lambda self, x, t, labels=None: finite_but_steep(x, self.w)
    monkeypatch.setattr(Stub, "__call__", steep)
    run = train.Training(Stub(1.0), np.random.default_rng(0))
    before = frozen(run)
    said = "the loss at step 1 is 0.*, its gradient norm nan"
    with pytest.raises(FloatingPointError, match=said):
        next(train.train(run, S, images(), LABELS))
    assert frozen(run) == before


@graded
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_before_the_parameters_change(value):
    run, x0 = train.Training(Stub(1.0), np.random.default_rng(0)), images(8)
    training = start(run, x0, labels=None)
    next(training)
    before, x0[:] = frozen(run), value
    with np.errstate(all="ignore"):
        try:
            next(training)
        except FloatingPointError:
            assert frozen(run) == before, (
                f"an image of {value}: before it stopped, the parameters changed, or the step was "
                "counted"
            )
        else:
            raise AssertionError(f"an image of {value}: expected a FloatingPointError, it went on")


def check_with_vjp(with_vjp):
    """J of a composition known by hand: v = x^2 W, cond and uncond mixed, eps from v; twice."""
    W = np.random.default_rng(2).normal(size=(2, 3, 3))
    x, g = np.random.default_rng(3).normal(size=(2, 5, 4, 2, 3))
    network = lambda x_t, t, k: ops.matmul(x_t * x_t, W[k]) * (t[0] / 10.0)
    cond, uncond = (train.denoiser(network, S, k) for k in (0, 1))
    eps_hat, vjp = with_vjp(guide.classifier_free(cond, uncond, 1.7))(x, 3)
    along, across = np.sqrt(S.alpha_bar[3]), np.sqrt(1 - S.alpha_bar[3])
    mixed = along * 0.3 * (1.7 * W[0] - 0.7 * W[1])
    assert isinstance(eps_hat, np.ndarray)
    assert np.abs(eps_hat - (x**2 @ mixed + across * x)).max() < 1e-12
    for _ in range(2):
        assert np.abs(vjp(g) - (2 * x * (g @ mixed.T) + across * g)).max() < 1e-12


def test_with_vjp():
    check_with_vjp(train.with_vjp)
    freed = ("[x])[0]", "[x], free=True)[0]")
    for old, new in (("eps_hat * g", "eps_hat"), ("eps_hat.value", "eps_hat"), freed):
        scope = dict(vars(train))
        source = inspect.getsource(train.with_vjp)
        assert source.count(old) == 1
        exec(source.replace(old, new), scope)
        with pytest.raises((AssertionError, RuntimeError)):
            check_with_vjp(scope["with_vjp"])


def test_with_vjp_of_a_network():
    """A whole network, against differences: g . (change of eps_hat along d) = d . J^T g."""
    model = UNet(4, channels=2, width=8, multipliers=(1, 2), depth=1, rng=np.random.default_rng(4))
    last = model.conv_out  # its weights start at 0
    last.w = np.random.default_rng(5).normal(size=last.w.shape).astype(np.float32)
    x, g, d = np.random.default_rng(6).normal(size=(3, 2, 4, 4, 2))
    eps_model = train.denoiser(model, S)
    change = (eps_model(x + 1e-4 * d, 3) - eps_model(x - 1e-4 * d, 3)) / 2e-4
    _, vjp = train.with_vjp(eps_model)(x, 3)
    assert np.isclose((change * g).sum(), (d * vjp(g)).sum(), rtol=1e-4)
