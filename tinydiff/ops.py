"""Every differentiable operation: its value beside its derivative.

An operation returns (value, vjp); vjp(g) is J^T g, one gradient per positional argument, in their
order. Where shapes differ by broadcasting, `gradient` sums the gradients back, so no vjp here
mentions it.
"""

import numpy as np

from . import kernels
from .autodiff import Tensor, op

# --- arithmetic ---


@op
def add(a, b):
    """Add, with broadcasting: a + b. (...), (...) -> (...)"""
    return a + b, lambda g: (g, g)


@op
def sub(a, b):
    """Subtract, with broadcasting: a - b. (...), (...) -> (...)"""
    return a - b, lambda g: (g, -g)


@op
def mul(a, b):
    """Multiply element by element, with broadcasting: a b. (...), (...) -> (...)"""
    return a * b, lambda g: (g * b, g * a)


@op
def div(a, b):
    """Divide element by element, with broadcasting: a / b. (...), (...) -> (...)"""
    return a / b, lambda g: (g / b, -g * a / (b * b))


@op
def matmul(a, b):
    """Multiply matrices, the last two axes: c[l, o] = sum_k a[l, k] b[k, o].

    a: (..., L, C); b: (C, O) for all alike, or (..., C, O) with a's leading axes -> (..., L, O)
    """

    def vjp(g):
        if b.ndim == 2:  # one matrix for all rows: its gradient sums over them
            a_rows, g_rows = a.reshape(-1, a.shape[-1]), g.reshape(-1, g.shape[-1])
            gb = kernels.matmul(a_rows.swapaxes(0, 1), g_rows)
        else:
            gb = kernels.matmul(a.swapaxes(-1, -2), g)
        return kernels.matmul(g, b.swapaxes(-1, -2)), gb

    return kernels.matmul(a, b), vjp


@op
def sum(x):
    """Add up all elements. (...) -> ()"""
    return x.sum(), lambda g: (x**0 * g,)  # x ** 0: ones of x's kind, see autodiff.gradient


@op
def mse(a, b):
    """Average the squared differences: mean((a - b)^2). (...), (...) -> ()"""
    d = a - b
    return (d * d).mean(), lambda g: (g * 2 / d.size * d, g * -2 / d.size * d)


# --- shape ---


@op
def reshape(x, shape=None):
    """Arrange the same values in another shape. (...) -> shape"""
    return x.reshape(shape), lambda g: (g.reshape(x.shape),)


@op
def swapaxes(x, i=-1, j=-2):
    """Exchange two axes; by default transpose the last two. (..., L, C) -> (..., C, L)"""
    return x.swapaxes(i, j), lambda g: (g.swapaxes(i, j),)


@op
def concat(*xs):
    """Join along the last axis; the gradient is cut at the same places.

    (..., C1), (..., C2), ... -> (..., C1 + C2 + ...)
    """
    ends = np.cumsum([x.shape[-1] for x in xs])

    def vjp(g):
        return tuple(g[..., e - x.shape[-1] : e] for x, e in zip(xs, ends, strict=True))

    return kernels.concat(*xs), vjp


@op
def embedding(table, i=None):
    """Look up row i[n] of a table for each n; the gradient is added to the rows that were read.

    table: (M, E); i: ints (N,) in 0 .. M - 1 -> (N, E)
    """
    return kernels.take(table, i), lambda g: (kernels.take_grad(g, i, table.shape[0]),)


# --- non-linearities and normalisation ---


@op
def silu(x):
    """Apply a smooth gate, x sigmoid(x): x for large x, about 0 for very negative x. (...) -> (...)

    Source: Hendrycks & Gimpel 2016; Ramachandran et al. 2017 call it Swish.
    """
    return kernels.silu(x), lambda g: (kernels.silu_grad(g, x),)


@op
def softmax(x):
    """Turn scores into weights: exp(x) normalised over the last axis. (..., L) -> (..., L)

    gx = y (g - sum(g y)), the sum over the last axis
    """
    y = kernels.softmax(x)
    return y, lambda g: (kernels.softmax_grad(g, y),)


@op
def attention(q, k, v):
    """Average the rows of v, for each row of q, weighted by how well it fits each row of k.

    softmax(q k^T / sqrt(C)) v, the softmax over the last axis of (N, L, L)
    q, k, v: (N, L, C) -> (N, L, C)
    Source: Vaswani et al. 2017, equation 1.
    """
    return kernels.attention(q, k, v), lambda g: kernels.attention_grad(g, q, k, v)


@op
def cross_entropy(scores, labels=None):
    """Average the negative log-probability of the right labels, in nats.

    -mean(log softmax(scores)[n, labels[n]]);  gradient (softmax(scores) - one_hot) / N
    A label M is unknown: its row adds nothing, and gets no gradient.
    scores: (N, M); labels: ints (N,) in 0 .. M -> ()
    """
    N, M = scores.shape
    one_hot = kernels.array(np.eye(M + 1, M, dtype=scores.dtype)[labels])
    known = kernels.array((labels < M).astype(scores.dtype)[:, None])
    value = -(one_hot * kernels.log_softmax(scores)).sum() / N
    return value, lambda g: (g * (known * kernels.softmax(scores) - one_hot) / N,)


@op
def group_norm(x, scale, shift, groups=8, eps=1e-5):
    """Normalise each image's groups of channels to mean 0 and variance 1, then scale and shift.

    y = scale (x - mean) / sqrt(var + eps) + shift
    mean and var: over the pixels and channels of a group of one image
    x: (N, ..., C), C divisible by groups; scale, shift: (C,) -> (N, ..., C)
    Source: Wu & He 2018.
    """
    y, mean, rstd = kernels.group_norm(x, scale, shift, groups, eps)
    return y, lambda g: kernels.group_norm_grad(g, x, scale, mean, rstd)


@op
def norm_silu(x, scale, shift, groups=8, eps=1e-5):
    """Compute silu(group_norm(x, scale, shift)) in one pass over memory.

    Arguments as for group_norm: (N, ..., C) -> (N, ..., C)
    """
    y, mean, rstd = kernels.norm_silu(x, scale, shift, groups, eps)
    return y, lambda g: kernels.norm_silu_grad(g, x, scale, shift, mean, rstd)


# --- images ---


@op
def conv2d(x, w, padding="zeros"):
    """Slide a K x K window over the image, padded at its border so that the size stays the same.

    y[n, h, w, o] = sum_{i, j, c} x[n, h + i - K//2, w + j - K//2, c] w[i, j, c, o]
    Outside the image x is 0, or wraps round. gx is the same convolution of g with the window turned
    by 180 degrees, C and O exchanged.
    x: (N, H, W, C); w: (K, K, C, O), K odd; padding: "zeros" or "circular" -> (N, H, W, O)
    """

    def vjp(g):
        turned = w[::-1, ::-1].swapaxes(2, 3)
        return kernels.conv2d(g, turned, padding), kernels.conv2d_grad_w(x, g, w.shape[0], padding)

    return kernels.conv2d(x, w, padding), vjp


@op
def down(x):
    """Halve an image: the mean of each 2 x 2 block; the gradient is spread evenly.

    (N, H, W, C) -> (N, H/2, W/2, C)
    """
    return kernels.down(x), lambda g: (kernels.up(g) / 4,)


@op
def up(x):
    """Double an image: each pixel becomes a 2 x 2 block; the gradients of a block add up.

    (N, H, W, C) -> (N, 2H, 2W, C)
    """
    return kernels.up(x), lambda g: (kernels.down(g) * 4,)


@op
def residual_block(
    x, e, scale1, shift1, w1, scale2, shift2, w2, *shortcut, padding="zeros", groups=8, eps=1e-5
):
    """Do unet.run_block as one operation, half a block at a time: few passes over memory.

    h = conv2d(norm_silu(x, scale1, shift1), w1) + e
    y = conv2d(norm_silu(h, scale2, shift2), w2) + (x or, with a shortcut, conv2d(x, shortcut))
    The two gradients that reach x are added in the pass that makes the second.
    x: (N, H, W, C); e: (N, 1, 1, O); scale1, shift1: (C,); w1: (K, K, C, O); scale2, shift2: (O,);
    w2: (K, K, O, O); shortcut: none, with C = O, or one (1, 1, C, O); padding: as conv2d's;
    groups: of both norms -> (N, H, W, O)
    """
    rest = padding, groups, eps
    h, *stats1 = kernels.norm_conv(x, scale1, shift1, w1, e, *rest)
    past, past_vjp = conv2d.forward(x, *shortcut, padding) if shortcut else (x, lambda g: (g,))
    y, *stats2 = kernels.norm_conv(h, scale2, shift2, w2, past, *rest)

    def vjp(g):
        gh, *g2 = kernels.norm_conv_grad(g, h, scale2, shift2, *stats2, w2, 0, *rest)
        gpast, *gs = past_vjp(g)
        gx, *g1 = kernels.norm_conv_grad(gh, x, scale1, shift1, *stats1, w1, gpast, *rest)
        return gx, gh, *g1, *g2, *gs

    return y, vjp


# lambdas find `add` and the others when called, so that the operators also use an adopted exercise
Tensor.__add__ = Tensor.__radd__ = lambda a, b: add(a, b)
Tensor.__mul__ = Tensor.__rmul__ = lambda a, b: mul(a, b)
Tensor.__sub__, Tensor.__rsub__ = lambda a, b: sub(a, b), lambda a, b: sub(b, a)
Tensor.__truediv__, Tensor.__rtruediv__ = lambda a, b: div(a, b), lambda a, b: div(b, a)
Tensor.__matmul__, Tensor.__rmatmul__ = lambda a, b: matmul(a, b), lambda a, b: matmul(b, a)
Tensor.__neg__ = lambda a: mul(a, -1)
