"""The bridge: here the network learns to undo what the forward process does (Algorithm 1 of DDPM).

The network's output is read as the noise eps, or as v (diffusion.v_target), which keeps the loss well scaled at every t.
"""

import numpy as np

from . import diffusion, kernels, ops
from .autodiff import Tensor, gradient
from .optim import Adam

PREDICTIONS = ("eps", "v")


class Training:
    """Everything that changes while a model learns, so that saving it and going on later gives the same bits.

    model: an nn.Module, called as model(x_t, t, labels), with .classes if there are labels; theta: (P,) its parameters;
    ema: (P,) their running average;
    adam: optim.Adam; rng: np.random.Generator that draws batches, times and noise; step: steps done
    losses: list of floats, one a step since this Training was made, and loss, the last of them; both as far as `fetch_losses` has come
    """

    def __init__(self, model, rng):
        self.model, self.rng = model, rng
        self.theta = model.flatten()
        self.adam = Adam(self.theta, clip=1.0)
        self.ema = self.adam.ema
        self.step, self.loss, self.losses = 0, float("nan"), []
        self.unread = []  # of each step since: loss and |g|, still where the kernels work


def train(run, s, images, labels=None, predict="v", batch=64, lr=lambda step: 1e-3, forget=0.1):
    """Train without end: each step draws images, times and noise and moves the parameters downhill (Algorithm 1).

    x_t = q_sample(x0, t, eps), t uniform in 1 .. T;  loss = mean |target - model(x_t, t, labels)|^2, target = eps or v
    run: a Training; run.rng draws all, run.adam makes the step, run.loss (float) and run.step are kept up to date
    images: (M, H, W, C) in [-1, 1]; labels: (M, number of labels) ints or None; predict: "eps" or "v"; lr: steps done -> learning
    rate; forget: share of the labels that are not said, see `hide` -> yields `run` after each step
    Raises FloatingPointError, before the parameters change, when the loss or its gradient is not finite.
    Source: Ho et al. 2020, algorithm 1.
    """
    if predict not in PREDICTIONS:
        raise ValueError(f"predict is one of {', '.join(PREDICTIONS)}; got {predict!r}")
    rng = run.rng
    while True:
        i = rng.integers(len(images), size=batch)
        x0 = images[i]
        t = rng.integers(1, s.T + 1, size=batch)
        eps = rng.standard_normal(x0.shape, dtype=np.float32)
        x_t = diffusion.q_sample(s, x0, t, eps)
        target = diffusion.v_target(s, x0, t, eps) if predict == "v" else eps
        said = None if labels is None else hide(labels[i], run.model.classes, forget, rng)
        x_t, target = kernels.array(x_t), kernels.array(target)
        descend(run, lambda model: ops.mse(model(x_t, t, said), target), lr(run.step))
        yield run


def descend(run, loss_of, lr):
    """Move the parameters one step downhill: the gradient of a loss, a step of Adam, and run.step and run.losses brought up to date.

    run: a Training; loss_of: a function of run.model, whose parameters are Tensors meanwhile, that gives the loss, Tensor ();
    lr: learning rate -> None; the losses are fetched whenever run.step is divisible by kernels.STEPS_AHEAD
    Raises FloatingPointError as fetch_losses does.
    """
    with run.model.variables() as params, np.errstate(over="ignore", invalid="ignore"):  # looked at by fetch_losses
        loss, before = loss_of(run.model), run.unread[-1][1] if run.unread else 0
        first, *others = gradient(loss, params, free=True)
        first = first + (loss.value + before) * 0  # NaN, with which Adam changes nothing, where this step or the last is not finite
        g = kernels.concat(*[g.reshape(-1) for g in (first, *others)])
        run.unread.append((loss.value, run.adam.step(g, lr, wait=False)))
    run.step += 1
    if run.step % kernels.STEPS_AHEAD == 0:
        fetch_losses(run)


def fetch_losses(run):
    """Look at the losses of the steps since the last look, which are fetched from a graphics card in one copy.

    run: a Training, whose .losses and .loss, numbers (), are brought up to date -> None
    Raises FloatingPointError when a loss or its gradient was not finite; run.step and run.adam.k then are as before that step, as the
    parameters are.
    """
    if not run.unread:
        return
    numbers = np.asarray(kernels.concat(*[kernels.array(a).reshape(1) for pair in run.unread for a in pair]))
    run.unread = []
    for k, (loss, length) in enumerate(numbers.reshape(-1, 2).tolist()):
        run.loss = loss
        if not np.isfinite([loss, length]).all():
            since = len(numbers) // 2 - k
            run.step, run.adam.k = run.step - since, run.adam.k - since
            raise FloatingPointError(f"the loss at step {run.step + 1} is {loss}, its gradient {length} long: lower the learning rate")
        run.losses.append(loss)


def hide(labels, classes, forget, rng):
    """Leave labels unsaid at random, so that the network also learns to draw when it is told little, or nothing.

    Each image draws its own forgetfulness u = U^(1/forget - 1), U uniform in (0, 1), whose mean is forget; each of its labels is
    replaced by classes[k], "not said", with chance u. One label: a plain chance. Many: all, none or any part of them are often said.
    labels: (N, number of labels) ints; classes: how many values each label has; forget: 0 .. 1 -> (N, number of labels) ints
    Source: Ho & Salimans 2022, algorithm 1, for a single label.
    """
    u = rng.random((len(labels), 1)) ** (1 / forget - 1) if forget else 0.0
    return np.where(rng.random(labels.shape) < u, classes, labels)


def denoiser(model, s, labels=None, predict="v"):
    """Make a network into what a sampler wants: a function from (x_t, t) to the noise it sees.

    model: called as model(x_t, t (N,), labels); labels: (N, number of labels) ints or None; predict: what model was trained to say
    -> eps_model: (x_t (N, H, W, C), t int 1 .. T) -> eps_hat (N, H, W, C)
    """

    def eps_model(x_t, t):
        out = model(x_t, np.full(x_t.shape[0], t), labels)
        return diffusion.eps_from_v(s, x_t, t, out) if predict == "v" else out

    return eps_model


def with_vjp(eps_model):
    """Ask a network's eps_model also for its derivative, which guidance by x0_hat takes: autodiff, with x_t as the variable.

    eps_model: made of networks, as `denoiser` and guide.classifier_free make it
    -> (x_t (N, ...), t int) -> eps_hat (N, ...) and the function g (N, ...) -> J^T g (N, ...), J = d eps_hat / d x_t
    """

    def eps_model_vjp(x_t, t):
        x = Tensor(x_t)
        eps_hat = eps_model(x, t)
        return eps_hat.value, lambda g: gradient(ops.sum(eps_hat * g), [x])[0]

    return eps_model_vjp
