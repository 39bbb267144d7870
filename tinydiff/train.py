"""The bridge: here the network learns to undo what the forward process does (Algorithm 1 of DDPM).

The network predicts the noise eps, or v (diffusion.v_target), which keeps the loss well scaled at
every t.
"""

import numpy as np

from . import diffusion, kernels, machines, ops
from .autodiff import Tensor, gradient
from .optim import Adam, Readback, require_finite

PREDICTIONS = ("eps", "v")


class Training:
    """All mutable training state; saving it and resuming continues bit for bit.

    model: an nn.Module, called as model(x_t, t, labels), with .classes if there are labels
    theta: (P,) its parameters; ema: (P,) their running average; adam: optim.Adam; step: steps done
    rng: np.random.Generator that draws batches, times and noise
    losses: list of floats, one per step since this Training was made; loss: the last of them; both
    as of the last `fetch_losses`
    """

    def __init__(self, model, rng):
        self.model, self.rng = model, rng
        self.theta = model.flatten()
        self.adam = Adam(self.theta, clip=1.0)
        self.ema = self.adam.ema
        self.step, self.loss, self.losses = 0, float("nan"), []
        self.readback = Readback()  # loss and |g| of the latest steps, still on the device
        self.team = machines.ALONE  # or the machines that share each batch
        self.most = None  # images that a step computes at once, None = the whole batch

    def fetch_losses(self):
        """Read back the losses recorded since the last call into .losses and .loss: () -> None

        Raises FloatingPointError when a loss or its gradient was not finite; .step and .adam.k are
        then those before that step, as the parameters are.
        """
        rows = self.readback.fetch()
        for k, (loss, norm) in enumerate(rows):
            self.loss = loss
            if not np.isfinite([loss, norm]).all():
                undone = len(rows) - k
                self.step, self.adam.k = self.step - undone, self.adam.k - undone
                require_finite(self.step + 1, loss, norm)
            self.losses.append(loss)


def train(run, s, images, labels=None, predict="v", batch=64, lr=lambda step: 1e-3, p_drop=0.1):
    """Train without end: each step draws images, times and noise and moves the parameters downhill.

    x_t = q_sample(s, x0, t, eps), t uniform in 1 .. T
    loss = mean |target - model(x_t, t, labels)|^2, target = eps or v
    run: a Training; run.rng draws everything, train_step makes the step with run.adam and keeps
    run.step and, on a GPU with a delay, run.loss (a float) up to date
    images: (M, H, W, C) in [-1, 1]; labels: (M, number of labels) ints or None; predict: "eps" or
    "v"; lr: steps done -> learning rate; p_drop: probability of dropping a label, see drop_labels
    -> yields `run` after each step
    Raises FloatingPointError, before the parameters change, when the loss or its gradient is not
    finite. Source: Ho et al. 2020, algorithm 1.
    """
    if predict not in PREDICTIONS:
        raise ValueError(f"predict is one of {', '.join(PREDICTIONS)}; got {predict!r}")
    rng = run.rng
    while True:  # 1: repeat
        i = rng.integers(len(images), size=batch)
        x0 = images[i]  # 2: x0 ~ q(x0)
        t = rng.integers(1, s.T + 1, size=batch)  # 3: t ~ Uniform({1, ..., T})
        eps = rng.standard_normal(x0.shape, dtype=np.float32)  # 4: eps ~ N(0, I)
        cond = None if labels is None else drop_labels(labels[i], run.model.classes, p_drop, rng)
        x0, t, eps, cond = run.team.share(x0, t, eps, cond)  # this machine's rows: alone, all
        x_t = diffusion.q_sample(s, x0, t, eps)
        target = diffusion.v_target(s, x0, t, eps) if predict == "v" else eps
        x_t, target = kernels.array(x_t), kernels.array(target)  # to the GPU, once, if there is one
        loss_of = lambda model, x_t, t, cond, target: ops.mse(model(x_t, t, cond), target)
        loss_of = in_pieces(loss_of, run.most, x_t, t, cond, target)  # or whole, as usual
        train_step(run, loss_of, lr(run.step))  # 5: descend on grad |target - model(x_t, t)|^2
        yield run  # 6: until the caller stops iterating


def train_step(run, loss_of, lr):
    """Move the parameters one step downhill: loss, gradient, a check that both are finite, Adam.

    run: a Training, whose step and losses are kept up to date; loss_of: function of run.model,
    whose parameters are Tensors meanwhile, that gives the loss, Tensor (); lr: learning rate
    -> None
    Raises FloatingPointError, before the parameters change, when the loss or its gradient is not
    finite; on a GPU up to kernels.STEPS_AHEAD steps later, with the parameters before that step.
    """
    with run.model.variables() as params, np.errstate(over="ignore", invalid="ignore"):
        loss = loss_of(run.model)
        grads = gradient(loss, params, free=True)
        grads[0] = grads[0] + run.readback.nan_unless_finite(loss.value)  # NaN stops Adam
        g = kernels.concat(*[g.reshape(-1) for g in grads])
        g, value = run.team.mean(g, loss.value)  # over all machines that share the batch
        norm = run.adam.step(g, lr, wait=False)  # changes nothing where g is not finite
    run.step += 1
    run.readback.push(value, norm)
    if run.step % kernels.STEPS_AHEAD == 0:
        run.fetch_losses()


def in_pieces(loss_of, most, *batch):
    """Compute a batch a few images at a time, which takes less memory: gradients add up.

    loss = sum over the pieces of n / N loss_of(model, *piece), n of its N images in each
    The gradient of a piece is taken as soon as its loss is known, and its graph is freed before the
    next one begins; for the loss of the whole batch only the sum of these gradients is kept.
    loss_of: function of a model and a batch that gives a mean over its images, Tensor (); most:
    images at once, None = all; batch: arrays (N, ...), or None
    -> function of the model that gives the loss, Tensor (), see train_step
    """
    N = len(batch[0])
    count = -(-N // (most or N))
    if count == 1:
        return lambda model: loss_of(model, *batch)

    def loss_of_all(model):
        params, loss, grads = list(model.params().values()), 0, [0] * len(model.params())
        for k in range(count):
            rows = slice(k * N // count, (k + 1) * N // count)
            piece = [a if a is None else a[rows] for a in batch]
            part = loss_of(model, *piece) * ((rows.stop - rows.start) / N)
            more = gradient(part, params, free=True)
            loss, grads = loss + part.value, [a + b for a, b in zip(grads, more, strict=True)]
        return Tensor(loss, params, lambda g: [g * a for a in grads])

    return loss_of_all


def repeat(run, lr, next_loss):
    """Train without end on any loss: the loop that paired, flow and learned_variance share.

    next_loss: rng -> a function of run.model that gives the loss () of a batch just drawn
    run, lr: as for `train` -> yields `run` after each step
    Raises FloatingPointError as train_step does.
    """
    while True:
        train_step(run, next_loss(run.rng), lr(run.step))
        yield run


def drop_labels(labels, classes, p_drop, rng):
    """Drop labels at random, so that the network also learns to draw when given few, or none.

    Each image draws its own probability u = U^(1/p_drop - 1), U uniform in (0, 1), with mean
    p_drop; each of its labels is replaced by classes[k], "any", with probability u. With a single
    label p_drop is just its probability; with several, it is common that all, none or some are
    dropped.
    labels: (N, number of labels) ints; classes: how many values each label has; p_drop: 0 .. 1
    Columns beyond the labels, what a network is told of a picture (augment.py), stay.
    -> (N, number of labels) ints. Source: Ho & Salimans 2022, algorithm 1, for a single label.
    """
    labels, told = np.split(labels, [len(classes)], axis=1)
    u = rng.random((len(labels), 1)) ** (1 / p_drop - 1) if p_drop else 0.0
    labels = np.where(rng.random(labels.shape) < u, np.array(classes, int), labels)
    return np.concatenate([labels, told], axis=1)


def denoiser(model, s, labels=None, predict="v"):
    """Turn a network into what a sampler needs: a function of (x_t, t) that predicts the noise.

    model: called as model(x_t, t (N,), labels); labels: (N, number of labels) ints or None;
    predict: "eps" or "v", what model was trained to predict; diffusion.eps_from_v converts v
    -> eps_model: (x_t (N, H, W, C), t int 1 .. T) -> eps_hat (N, H, W, C)
    """

    def eps_model(x_t, t):
        out = model(x_t, np.full(x_t.shape[0], t), labels)
        return diffusion.eps_from_v(s, x_t, t, out) if predict == "v" else out

    return eps_model


def with_vjp(eps_model):
    """Add a derivative to a network's eps_model, for guide.by_x0_hat: autodiff in the variable x_t.

    eps_model: made of networks, as `denoiser` and guide.classifier_free make it
    -> (x_t (N, ...), t int) -> eps_hat (N, ...) and the function g (N, ...) -> J^T g (N, ...),
    where J = d eps_hat / d x_t
    """

    def eps_model_vjp(x_t, t):
        x = Tensor(x_t)
        eps_hat = eps_model(x, t)
        return eps_hat.value, lambda g: gradient(ops.sum(eps_hat * g), [x])[0]

    return eps_model_vjp
