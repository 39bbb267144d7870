"""From gradients to better parameters: Adam, a learning rate that rises and falls, an average.

All parameters of a model are one flat array theta (P,): see nn.Module.flatten.
"""

import math

import numpy as np

from . import kernels


class Adam:
    """Optimise one flat parameter array with AdamW, clip its gradient, average the parameters.

    step(g, lr) changes theta in place and returns |g|; if that is not finite it changes nothing.
    The equations are those of kernels.reference.clip_norm, adam_step and ema_step.
    theta: (P,); g: (P,), may be changed; lr: learning rate; decay: weight decay; clip: maximum |g|
    wait: False = on a GPU |g| stays there, and k counts the step whether or not |g| is finite
    .m .v: (P,) running means of g and g^2; .ema: (P,) running average of theta; .k: steps done
    """

    def __init__(self, theta, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0, clip=np.inf):
        self.m, self.v = (kernels.array(np.zeros(theta.shape, theta.dtype)) for _ in range(2))
        self.theta, self.ema, self.k = theta, theta.copy(), 0
        self.rates, self.clip = (beta1, beta2, eps, decay), clip

    def step(self, g, lr, wait=True):
        decay = ema_decay(self.k)
        norm = kernels.update(
            self.theta, g, self.m, self.v, self.ema, self.k + 1, lr, *self.rates, self.clip, decay
        )
        norm = float(norm) if wait else norm
        self.k += int(np.isfinite(norm)) if wait else 1
        return norm


class Readback:
    """Hold the losses and gradient norms of the latest steps, left with the kernels until fetched.

    A CPU reads them at once. A GPU works asynchronously: to read a number from it, Python has to
    wait for everything before, so they are fetched every kernels.STEPS_AHEAD steps only.
    """

    def __init__(self):
        self.rows = []

    def nan_unless_finite(self, loss):
        """Give 0, or NaN if this loss or the last gradient norm not yet fetched is not finite.

        Added to a gradient NaN stops Adam, which changes nothing where |g| is not finite: so a bad
        step, and all steps after it, change no parameter although nobody has read its loss yet.
        loss: () -> ()
        """
        return (loss + (self.rows[-1][1] if self.rows else 0)) * 0

    def push(self, loss, norm):
        """Add the loss () and the gradient norm () of a step -> None"""
        self.rows.append((loss, norm))

    def fetch(self):
        """Take out what was pushed, in one copy -> list of [loss, gradient norm], floats ()"""
        if not self.rows:
            return []
        flat = kernels.concat(*[kernels.array(a).reshape(1) for row in self.rows for a in row])
        self.rows = []
        return np.asarray(flat).reshape(-1, 2).tolist()


def require_finite(step, loss, norm):
    """Refuse to go on with a training whose loss or gradient is no longer finite.

    step: number of the step, from 1; loss, norm: its loss and gradient norm, numbers () -> None
    Raises FloatingPointError where one of them is not finite; the message has all three.
    """
    if not (math.isfinite(loss) and math.isfinite(norm)):
        found = f"the loss at step {step} is {loss}, its gradient norm {norm}"
        raise FloatingPointError(f"{found}: lower the learning rate, or look for NaN in the data")


def warmup_cosine(done, warmup=0.05, last=0.02):
    """Shape the learning rate over a training: up in a straight line, then down a half cosine.

    While done < warmup: the line through (0, 0) and (warmup, 1). From there: half a period of a
    cosine, moved and stretched so that it has its top, 1, at done = warmup and its lowest point,
    `last`, at done = 1. Beyond 1 it stays at `last`.
    done: share of the training that is over, 0 .. 1 -> factor in [0, 1], a number ()
    Source: Loshchilov & Hutter 2017 (SGDR), one period.
    """
    if done < warmup:
        return done / warmup
    angle = math.pi * (min(done, 1.0) - warmup) / (1 - warmup)
    return last + (1 - last) * (1 + math.cos(angle)) / 2


def ema_decay(step, longest=0.999):
    """Give the decay of a running average at a step: small at first, to forget early steps soon.

    It is the `keep` of ema_step for which a long average of constant keep has the mean age
    (1 + step) / 9; at most `longest`. Age: how many steps ago a value was added, 0 for the newest.
    step: int >= 0 -> number in (0, 1), shape ()
    """
    return min(longest, (1 + step) / (10 + step))
