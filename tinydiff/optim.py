"""From gradients to better parameters: Adam, a learning rate that rises and falls, a running average.

All parameters of a model are one flat array theta (P,): see nn.Module.flatten.
"""

import math

import numpy as np

from . import kernels


class Adam:
    """AdamW on one flat parameter array, with gradient clipping and a running average of the parameters.

    step(g, lr) changes theta in place and returns |g|; if that is not finite it changes nothing. The equations stand at
    kernels.reference.clip_norm, adam_step and ema_step. wait=False: on a graphics card |g| stays there, and k counts either way.
    theta: (P,); g: (P,), may be changed; lr: learning rate; decay: weight decay; clip: longest gradient
    .m .v: (P,) running means of g and g^2; .ema: (P,) running average of theta; .k: steps done
    """

    def __init__(self, theta, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0, clip=np.inf):
        self.m, self.v = (kernels.array(np.zeros(theta.shape, theta.dtype)) for _ in range(2))
        self.theta, self.ema, self.k = theta, theta.copy(), 0
        self.rates, self.clip = (beta1, beta2, eps, decay), clip

    def step(self, g, lr, wait=True):
        keep = ema_keep(self.k)
        norm = kernels.update(self.theta, g, self.m, self.v, self.ema, self.k + 1, lr, *self.rates, self.clip, keep)
        norm = float(norm) if wait else norm
        self.k += int(np.isfinite(norm)) if wait else 1
        return norm


def warmup_cosine(done, warmup=0.05, last=0.02):
    """Shape the learning rate over a training: up in a straight line, then down along a half cosine.

    done < warmup: done / warmup;  else last + (1 - last) (1 + cos(pi (done - warmup) / (1 - warmup))) / 2
    done: share of the training that is over, 0 .. 1 -> factor in [0, 1] (a number, shape ())
    Source: Loshchilov & Hutter 2017 (SGDR), one period.
    """
    if done < warmup:
        return done / warmup
    return last + (1 - last) * (1 + math.cos(math.pi * (min(done, 1.0) - warmup) / (1 - warmup))) / 2


def ema_keep(step, longest=0.999):
    """Say how much of a running average to keep at a step, so that early steps, still poor, are soon forgotten.

    keep = min(longest, (1 + step) / (10 + step))
    step: int >= 0 -> number in (0, 1), shape ()
    """
    return min(longest, (1 + step) / (10 + step))
