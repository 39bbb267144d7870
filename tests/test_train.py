"""train.py: it does Algorithm 1 of DDPM, it learns, it repeats itself bit for bit, and it stops before damage is done."""

import inspect

import numpy as np
import pytest

from tinydiff import data, diffusion, guide, kernels, ops, optim, schedule, train
from tinydiff.autodiff import op, value_of
from tinydiff.nn import Module
from tinydiff.unet import UNet

CLASSES = (3,)
LABELS = np.arange(60)[:, None] % 3


def images(M=60, seed=0):
    """Images that differ in every pixel, so that one can be told from another."""
    return np.random.default_rng(seed).uniform(-1, 1, (M, 4, 3, 2)).astype(np.float32)


@op
def scaled(x, w, hear=None):
    """w x; `hear` is told the gradient that arrives."""

    def vjp(g):
        hear(g)
        return g * w, g * x

    return x * w, vjp


class Stub(Module):
    """A network with one weight, w x f with a number f that depends on t and labels.

    It notes what it is called with, and the target: the gradient of a mean square betrays it.
    """

    def __init__(self, w=0.0, classes=CLASSES):
        self.w, self.classes, self.calls, self.targets = np.full(1, w, np.float32), classes, [], []

    def __call__(self, x, t, labels=None):
        self.calls.append((x, t, labels))
        f = (
            1
            + np.reshape(t, (-1, 1, 1, 1)) / 10
            + (0 if labels is None else np.sum(labels, -1).reshape(-1, 1, 1, 1) / 7)
        )
        x = (x * f).astype(x.dtype)
        out = value_of(self.w) * x
        return scaled(
            x, self.w, hear=lambda g: self.targets.append(out - g * (out.size / 2))
        )  # g = 2 (out - target) / size

    def _slots(self, prefix=""):
        yield "w", self, "w"


class Watch:
    """Run some steps of training on a stub, and keep what was shown, what was asked for, and what came of it."""

    def __init__(self, steps, s, x0, labels=LABELS, w=0.0, classes=CLASSES, **settings):
        self.losses = []
        self.run = train.Training(Stub(w, classes), np.random.default_rng(1))
        training = train.train(self.run, s, x0, labels, **settings)
        assert inspect.isgenerator(training), (
            "train gives a generator: it yields run after each step, and never returns"
        )
        for step in range(steps):
            assert next(training) is self.run, "train yields run, the Training it was given"
            self.losses.append(self.run.loss)
            seen = len(self.run.model.calls), len(self.run.model.targets)
            assert seen == (step + 1, step + 1), (
                f"after step {step + 1} the network has run {seen[0]} times forwards, {seen[1]} backwards"
            )
        self.x, self.t, self.said = zip(*self.run.model.calls, strict=True)
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
    """Say which image each row is: -> indices (N,), and how far off it is at most."""
    distance = np.abs(x0_hat[:, None] - x0[None]).max((2, 3, 4))
    return distance.argmin(1), distance.min(1).max()


@graded
@pytest.mark.parametrize("predict", ["eps", "v"])
def test_input_time_and_target_belong_together(predict):
    """From (x_t, t, target) the clean image can be computed: it must be one of the data set, with its own label."""
    x0 = images()
    watch = Watch(20, S, x0, w=0.5, predict=predict, batch=16, forget=0.0, lr=lambda step: 0.0)
    recover = diffusion.predict_x0 if predict == "eps" else diffusion.x0_from_v
    for x_t, t, target, said in zip(watch.x, watch.t, watch.targets, watch.said, strict=True):
        assert x_t.shape == (16, 4, 3, 2), (
            f"16 images of 4 x 3 x 2 were asked for; the network was shown {x_t.shape}"
        )
        assert x_t.dtype == np.float32, (
            f"the network was shown {x_t.dtype}: draw the noise with dtype=np.float32"
        )
        assert np.shape(t) == (16,), (
            f"the network takes t of shape (16,), a time for each image; it was given {np.shape(t)}"
        )
        assert len(set(t)) > 1, (
            f"all 16 images of a batch have the time {t[0]}: draw a t for each image by itself"
        )
        assert target.shape == x_t.shape
        clear = S.alpha_bar[t] > 0.01  # where hardly any image is left, float32 cannot recover it
        i, off = origin(recover(S, x_t, t, target)[clear], x0)
        assert off < 1e-4, (
            f"predict = {predict!r}: x_t, t and the target of the loss do not belong to one image of the data set"
        )
        assert np.array_equal(np.asarray(said)[clear], LABELS[i]), (
            "the network was told the label of another image"
        )


@graded
def test_every_image_and_every_time_is_drawn_evenly():
    x0 = images(6)
    watch = Watch(400, S, x0, LABELS[:6], w=0.5, predict="v", batch=16, lr=lambda step: 0.0)
    assert max(len(set(t)) for t in watch.t) > 4, (
        "a batch of 16 has one time for all: draw t for each image by itself"
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
    i, _ = origin(
        diffusion.x0_from_v(S, np.concatenate(watch.x), t, np.concatenate(watch.targets)), x0
    )
    expected, counts = len(t) / 6, np.bincount(i, minlength=6)
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected)), (
        f"the six images were drawn {counts} times: not evenly"
    )


@graded
def test_the_noise_is_standard_normal_and_always_new():
    watch = Watch(50, S, images(), predict="eps", batch=16, lr=lambda step: 0.0)
    eps = np.concatenate(watch.targets).ravel()
    mean, var, fourth = (float((eps.astype(np.float64) ** n).mean()) for n in (1, 2, 4))
    assert abs(mean) < 5 / np.sqrt(eps.size) and abs(var - 1) < 5 * np.sqrt(2 / eps.size), (
        f"the noise has mean {mean:.3f}, variance {var:.3f}"
    )
    assert abs(fourth - 3) < 0.4, "the noise is not normal"
    assert len(np.unique(eps)) > 0.999 * eps.size, (
        "the same noise was used again: each pixel of each image gets its own, at each step"
    )


@graded
def test_a_model_that_says_nothing_loses_the_mean_square_of_the_noise():
    watch = Watch(5, S, images(), predict="eps", lr=lambda step: 0.0)
    for loss, eps in zip(watch.losses, watch.targets, strict=True):
        assert isinstance(loss, float), f"run.loss is a float; got {type(loss).__name__}"
        expected = float((eps.astype(np.float64) ** 2).mean())
        assert loss == pytest.approx(expected, rel=1e-5), (
            f"the network says 0: the loss is the mean of eps^2, {expected:.4f}; got {loss:.4f}"
        )


@graded
def test_the_step_goes_downhill_with_the_rate_asked_for():
    """One weight, far too large: it goes down, by lr (that is Adam's first step)."""
    asked = []
    watch = Watch(
        1,
        S,
        images(),
        predict="eps",
        w=2.0,
        lr=lambda step: asked.append(step) or 0.01 * (step + 1),
    )
    w = float(watch.run.theta[0])
    assert asked == [0], f"the first step asks for lr(0); asked was {asked}"
    assert w == pytest.approx(2.0 - 0.01, abs=1e-5), (
        f"the only weight goes down by lr, from 2 to 1.99; it went to {w:.4f}"
    )
    assert watch.run.step == 1, f"after one step run.step is 1; it is {watch.run.step}"


@graded
def test_the_rate_is_asked_for_each_step_and_the_average_follows():
    asked, thetas = [], [np.array([0.5], np.float32)]
    run = train.Training(Stub(0.5), np.random.default_rng(0))
    training = train.train(
        run, S, images(), LABELS, lr=lambda step: asked.append(step) or 0.01 * (step + 1)
    )
    for _ in range(5):
        thetas.append(next(training).theta.copy())
    assert asked == [0, 1, 2, 3, 4], f"step k asks for lr(k), k = 0, 1, 2, 3, 4; asked were {asked}"
    assert run.adam.k == run.step == 5, (
        f"five steps: run.step is {run.step}, run.adam.k is {run.adam.k}"
    )
    ema = thetas[0].astype(np.float64)
    for step, theta in enumerate(thetas[1:]):
        keep = optim.ema_keep(step)
        ema = keep * ema + (1 - keep) * theta
    assert run.ema == pytest.approx(ema, rel=1e-5) and not np.allclose(run.ema, run.theta), (
        "run.ema is not the running average of theta"
    )


@graded
def test_a_training_goes_on_where_it_stood():
    """Two generators, one after the other, on the same run: the second goes on counting."""
    run, asked = train.Training(Stub(0.5), np.random.default_rng(0)), []
    for _ in range(2):
        training = train.train(run, S, images(), LABELS, lr=lambda step: asked.append(step) or 0.01)
        next(training), next(training)
    assert asked == [0, 1, 2, 3] and run.step == 4, (
        f"run.step counts all steps of a run, in four of them: {asked}, then {run.step}"
    )


@graded
def test_a_long_gradient_is_cut():
    watch = Watch(1, S, images(), w=50.0)
    m = np.linalg.norm(watch.run.adam.m)  # (1 - beta1) g with |g| = 1
    assert m == pytest.approx(0.1, rel=1e-5), (
        f"run.adam cuts a gradient to length 1, so that m is 0.1 long after a step; it is {m:.3g}"
    )


@graded
@pytest.mark.parametrize("forget", [0.0, 0.1, 0.5, 1.0])
def test_labels_are_forgotten_as_often_as_asked(forget):
    watch = Watch(40, S, images(), predict="v", forget=forget, batch=64)
    said = np.concatenate(watch.said)
    assert said.shape == (40 * 64, 1), (
        f"labels come as (batch, number of labels) = (64, 1); they came as {watch.said[0].shape}"
    )
    null = said == CLASSES[0]
    assert abs(null.mean() - forget) <= 5 * np.sqrt(forget * (1 - forget) / said.size), (
        f"forget = {forget}: {null.mean():.3f} were forgotten"
    )
    assert np.all((said >= 0) & (said <= CLASSES[0])), (
        f"with 3 classes labels are 0, 1, 2, and 3 for 'not said'; said was {np.unique(said)}"
    )


@graded
def test_each_label_of_several_is_forgotten_by_its_images_chance():
    labels = np.stack([np.arange(60) % 3, np.arange(60) % 5], axis=1)
    said = np.concatenate(Watch(40, S, images(), labels, classes=(3, 5), forget=0.5).said)
    null = said == (3, 5)
    both, each = np.mean(null[:, 0] & null[:, 1]), null.mean(0)
    assert np.all(np.abs(each - 0.5) < 0.05), (
        f"of two labels, with forget = 0.5, {each} were replaced by 3 and 5, their 'not said'"
    )
    assert abs(both - 1 / 3) < 0.05, (
        f"two labels, forget = 1/2: u is uniform, so both are hidden in E[u^2] = 1/3 of all cases; here in {both:.2f}"
    )
    assert said[:, 1].max() == 5 and said[:, 0].max() == 3, (
        "'not said' is classes[k] for label k: here 3 and 5"
    )


def test_hidden_labels_come_in_every_number():
    """u = U^k, k = 1 / forget - 1: of 9 labels all are hidden with chance E[u^9] = 1 / (9 k + 1), so the network learns to draw freely."""
    hidden = train.hide(np.zeros((200_000, 9), int), (1,) * 9, 0.3, np.random.default_rng(0)).sum(1)
    k = 1 / 0.3 - 1
    assert (
        abs(hidden.mean() / 9 - 0.3) < 0.004 and abs(np.mean(hidden == 9) - 1 / (9 * k + 1)) < 0.002
    )  # 5 standard errors
    assert np.mean(hidden == 0) > 0.3


@graded
def test_without_labels_nothing_is_said():
    assert set(Watch(3, S, images(), labels=None).said) == {None}, (
        "labels is None: the network is told None"
    )


@graded
def test_the_data_stays_as_it_is_and_the_seed_decides_all():
    x0, labels, ends = images(), LABELS.copy(), []
    for _ in range(2):
        watch = Watch(3, S, x0, labels, forget=0.5)
        ends.append((watch.losses, watch.run.theta.tobytes()))
    assert np.array_equal(x0, images()) and np.array_equal(labels, LABELS), (
        "images or labels were changed: they are the caller's"
    )
    assert ends[0] == ends[1], (
        "two trainings from the same run.rng differ: draw everything from run.rng"
    )


def unet(seed=0, classes=(10,)):
    rng = np.random.default_rng(seed)
    return train.Training(UNet(8, 1, 8, (1, 2), 1, classes, rng=rng), rng)


@pytest.mark.parametrize("predict, share", [("eps", 0.45), ("v", 0.75)])
def test_the_loss_goes_down(predict, share):
    run, digits = unet(), data.load("digits")
    training = train.train(
        run,
        schedule.cosine(50),
        digits.train,
        digits.train_labels,
        predict,
        batch=16,
        lr=lambda step: 4e-3,
    )
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


@pytest.mark.exercise("train.denoiser")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("predict", ["eps", "v"])
def test_a_perfect_network_makes_a_perfect_denoiser(predict, dtype):
    """A network that knows x0 and eps says its target: the denoiser must then say eps, at every t, with labels and t passed on."""
    rng = np.random.default_rng(0)
    x0, eps = (
        rng.uniform(-1, 1, (4, 4, 3, 2)).astype(dtype),
        rng.standard_normal((4, 4, 3, 2)).astype(dtype),
    )
    labels = np.array([[0], [1], [2], [3]])
    for t in range(1, S.T + 1):
        x_t = diffusion.q_sample(S, x0, t, eps)

        def network(x, times, said):
            assert np.shape(times) == (4,), (
                f"the network takes t of shape (N,) = (4,), a time for each image; got {np.shape(times)}"
            )
            assert set(times) == {t}, f"the sampler said t = {t}; the network was told {set(times)}"
            assert np.array_equal(said, labels), "the labels were not passed on to the network"
            assert np.array_equal(x, x_t), "the network was shown something else than x_t"
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
            f"t = {t}, predict = {predict!r}: the network was right, yet eps_hat is off by {off:.3g}"
        )


@pytest.mark.exercise("train.denoiser")
def test_without_labels_the_network_is_told_none():
    """And v is what is predicted unless another word is given."""
    told = []

    def network(x, times, said):
        told.append(said)
        return 2 * x

    x = np.ones((2, 3, 1, 1))
    signal, noise = np.sqrt(S.alpha_bar[3]), np.sqrt(1 - S.alpha_bar[3])
    eps_hat = train.denoiser(network, S)(x, 3)
    assert told == [None], "no labels were given: the network is told None"
    assert np.allclose(eps_hat, 2 * signal + noise), "without a word the output is read as v"


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
def test_a_loss_that_is_not_finite_stops_the_unet_before_the_parameters_change(value):
    run, x0 = unet(), data.load("digits").train[:8].copy()
    training = train.train(run, S, x0, batch=4, lr=lambda step: 1e-3)
    next(training), next(training)
    before = frozen(run)
    x0[:] = value
    with pytest.raises(
        FloatingPointError, match=r"the loss at step 3 is (nan|inf), .*: lower the learning rate"
    ):
        next(training)
    assert frozen(run) == before
    assert not any(
        hasattr(p, "value") for p in run.model.params().values()
    )  # arrays again, no Tensors


@op
def finite_but_steep(x, w):
    return x * 0 + w * 0, lambda g: (None, np.full_like(w, np.nan))


def test_a_gradient_that_is_not_finite_stops_too(monkeypatch):
    monkeypatch.setattr(
        Stub, "__call__", lambda self, x, t, labels=None: finite_but_steep(x, self.w)
    )
    run = train.Training(Stub(1.0), np.random.default_rng(0))
    before = frozen(run)
    with pytest.raises(FloatingPointError, match="the loss at step 1 is .*, its gradient nan long"):
        next(train.train(run, S, images(), LABELS))
    assert frozen(run) == before


@graded
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_before_the_parameters_change(value):
    run, x0 = train.Training(Stub(1.0), np.random.default_rng(0)), images(8)
    training = train.train(run, S, x0, labels=None)
    next(training)
    before, x0[:] = frozen(run), value
    with np.errstate(all="ignore"):
        try:
            next(training)
        except FloatingPointError:
            assert frozen(run) == before, (
                f"an image of {value}: the parameters changed, or the step was counted, before it stopped"
            )
        else:
            raise AssertionError(f"an image of {value}: expected a FloatingPointError, it went on")


def check_with_vjp(with_vjp):
    """J of a composition known by hand: v = x^2 W, told and untold mixed, eps from v; asked twice, it says the same."""
    W = np.random.default_rng(2).normal(size=(2, 3, 3))
    x, g = np.random.default_rng(3).normal(size=(2, 5, 4, 2, 3))
    told, untold = (
        train.denoiser(lambda x_t, t, labels, k=k: ops.matmul(x_t * x_t, W[k]) * (t[0] / 10.0), S)
        for k in (0, 1)
    )
    eps_hat, vjp = with_vjp(guide.classifier_free(told, untold, 1.7))(x, 3)
    along, across = np.sqrt(S.alpha_bar[3]), np.sqrt(1 - S.alpha_bar[3])
    mixed = along * 0.3 * (1.7 * W[0] - 0.7 * W[1])
    assert (
        isinstance(eps_hat, np.ndarray)
        and np.abs(eps_hat - (x**2 @ mixed + across * x)).max() < 1e-12
    )
    for _ in range(2):
        assert np.abs(vjp(g) - (2 * x * (g @ mixed.T) + across * g)).max() < 1e-12


def test_with_vjp():
    check_with_vjp(train.with_vjp)
    for old, new in (
        ("eps_hat * g", "eps_hat"),
        ("eps_hat.value", "eps_hat"),
        ("[x])[0]", "[x], free=True)[0]"),
    ):
        scope = dict(vars(train))
        source = inspect.getsource(train.with_vjp)
        assert source.count(old) == 1
        exec(source.replace(old, new), scope)
        with pytest.raises((AssertionError, RuntimeError)):
            check_with_vjp(scope["with_vjp"])


def test_with_vjp_of_a_network():
    """A whole network, against differences: the change of eps_hat along a direction, times g, is that direction times J^T g."""
    model = UNet(4, channels=2, width=8, multipliers=(1, 2), depth=1, rng=np.random.default_rng(4))
    model.leave.w = (
        np.random.default_rng(5).normal(size=model.leave.w.shape).astype(np.float32)
    )  # it starts at 0
    x, g, d = np.random.default_rng(6).normal(size=(3, 2, 4, 4, 2))
    eps_model = train.denoiser(model, S)
    change = (eps_model(x + 1e-4 * d, 3) - eps_model(x - 1e-4 * d, 3)) / 2e-4
    _, vjp = train.with_vjp(eps_model)(x, 3)
    assert np.isclose((change * g).sum(), (d * vjp(g)).sum(), rtol=1e-4)
