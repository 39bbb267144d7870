"""Every kernel in plain NumPy: the definition that the fast ones must equal.

Images are (N, H, W, C), features last. Kernels come in pairs, name and name_grad; why the two of a
pair belong together is derived in ops.py. All take and give float32 or float64. Shapes that do not
fit raise ValueError: here mostly NumPy's own, in the compiled sets one that says what was expected.
"""

import numpy as np

# Training steps between two readings of the losses: a GPU works on while Python queues more steps.
STEPS_AHEAD = 1

_TAKES = {  # what `_require` says was expected
    "pad": "x (N, H, W, C), H and W > 0",
    "conv2d": "x (N, H, W, C) and w (K, K, C, O), K odd",
    "conv2d_grad_w": "x (N, H, W, C) and g (N, H, W, O), K odd",
    "matmul": "a (..., L, C) and b (C, O), or (..., C, O) with the leading axes of a, C > 0",
    "down": "x (N, H, W, C), H and W even",
    "silu_grad": "g and x of the same shape",
    "group_norm": "x (N, ..., C), scale and shift (C,), C divisible by G",
    "norm_silu": "x (N, ..., C), scale and shift (C,), C divisible by G",
    "group_norm_grad": "g and x (N, ..., C), scale (C,), mean and rstd (N, G), C divisible by G",
    "norm_silu_grad": "g, x (N, ..., C), scale, shift (C,), mean, rstd (N, G), C divisible by G",
    "norm_conv": "x (N, H, W, C), scale, shift (C,), w (K, K, C, O), add (N, H or 1, W or 1, O)",
    "norm_conv_grad": "g and what norm_conv took and gave, add (N, H or 1, W or 1, C)",
    "softmax": "x (..., L), not empty",
    "log_softmax": "x (..., L), not empty",
    "softmax_grad": "g and y of the same shape (..., L), not empty",
    "attention": "q, k and v of the same shape (N, L, C)",
    "attention_grad": "g, q, k and v of the same shape (N, L, C)",
    "concat": "arrays whose shapes differ in the last axis only",
    "take": "table (M, E) and i (N,), whole numbers in 0 .. M - 1",
    "take_grad": "g (N, E) and i (N,), whole numbers in 0 .. M - 1",
    "clip_norm": "g (P,)",
    "adam_step": "theta, g, m and v of the same shape (P,)",
    "ema_step": "ema and theta of the same shape (P,)",
    "update": "theta, g, m, v and ema of the same shape (P,)",
    "denoise_step": "x_t and eps_hat of the same shape, and z of that shape or 0",
    "posterior_mean": "x_t (N, D) and data (M, D), M > 0",
}


def _require(fits, name, *arrays):
    """Refuse shapes that do not fit: compiled loops would read and write past the arrays' ends."""
    if not fits:
        got = ", ".join(str(getattr(a, "shape", ())) for a in arrays)  # a number has none
        raise ValueError(f"{name} takes {_TAKES[name]}; got the shapes {got}")


def array(x):
    """Move an array to this kernel set's device: a no-op here. (...) -> the same (...)"""
    return x


# --- convolution ---


def pad(x, p, padding):
    """Surround each image by a border p pixels wide: zeros, or the image again, as if tiled.

    x: (N, H, W, C); p: int >= 0; padding: "zeros" or "circular" -> (N, H + 2p, W + 2p, C)
    """
    if p == 0:
        return x
    border = ((0, 0), (p, p), (p, p), (0, 0))
    return np.pad(x, border, mode={"zeros": "constant", "circular": "wrap"}[padding])


def conv2d(x, w, padding):
    """Slide a K x K window over an image, padded so that its size stays the same.

    Each output pixel is the sum of K K matrix products:
    y[n, h, w, o] = sum_{i, j, c} x[n, h + i - K//2, w + j - K//2, c] w[i, j, c, o]
    where x outside the image is 0 or wrapped round.
    x: (N, H, W, C); w: (K, K, C, O), K odd; padding: "zeros" or "circular" -> (N, H, W, O)
    """
    (_, H, W, C), K = x.shape, len(w)
    _require(w.shape[:-1] == (K, K, C) and K % 2 == 1, "conv2d", x, w)
    xp = pad(x, K // 2, padding)
    return sum(xp[:, i : i + H, j : j + W] @ w[i, j] for i in range(K) for j in range(K))


def conv2d_grad_w(x, g, K, padding):
    """Correlate an image with the gradient of the convolution's output: the gradient of w.

    gw[i, j, c, o] = sum_{n, h, w} x[n, h + i - K//2, w + j - K//2, c] g[n, h, w, o]
    where x outside the image is 0 or wrapped round.
    x: (N, H, W, C); g: (N, H, W, O); K: int, odd, width of the window; padding: as conv2d's
    -> (K, K, C, O), in x's precision
    """
    (_, H, W, C), O = x.shape, g.shape[-1]
    _require(g.shape[:-1] == x.shape[:-1] and K % 2 == 1, "conv2d_grad_w", x, g)
    xp, flat = pad(x, K // 2, padding), np.ascontiguousarray(g).reshape(-1, O)
    gw = np.empty((K, K, C, O), x.dtype)
    for i in range(K):
        for j in range(K):
            gw[i, j] = xp[:, i : i + H, j : j + W].reshape(-1, C).T @ flat
    return gw


def matmul(a, b):
    """Multiply matrices, the last two axes.

    a: (..., L, C); b: (C, O), or (..., C, O) with a's leading axes -> (..., L, O)
    """
    return a @ b


def down(x):
    """Halve an image: the mean of each 2 x 2 block.

    x: (N, H, W, C), H and W even -> (N, H/2, W/2, C)
    """
    N, H, W, C = x.shape
    return x.reshape(N, H // 2, 2, W // 2, 2, C).mean((2, 4))


def up(x):
    """Double an image: each pixel becomes a 2 x 2 block. x: (N, H, W, C) -> (N, 2H, 2W, C)"""
    return x.repeat(2, axis=1).repeat(2, axis=2)


# --- normalisation and non-linearities ---


def _grouped(x, G):
    _require(x.shape[-1] % G == 0, "group_norm", x)
    return x.reshape(x.shape[0], -1, G, x.shape[-1] // G)  # (N, L, G, C/G)


def group_norm(x, scale, shift, G, eps):
    """Normalise each image's channels in G groups to mean 0 and variance 1; scale, shift channels.

    y = scale (x - mean) rstd + shift,  rstd = 1 / sqrt(var + eps)
    mean(x) and var = mean((x - mean)^2) are taken over the pixels and channels of a group; group k
    of an image holds its channels k C/G .. (k + 1) C/G - 1.
    x: (N, ..., C), C divisible by G; scale, shift: (C,)
    -> y (N, ..., C), mean (N, G), rstd (N, G)
    """
    xg = _grouped(x, G)
    mean, rstd = xg.mean((1, 3)), 1 / np.sqrt(xg.var((1, 3)) + x.dtype.type(eps))
    x_hat = ((xg - mean[:, None, :, None]) * rstd[:, None, :, None]).reshape(x.shape)
    return x_hat * scale + shift, mean, rstd


def group_norm_grad(g, x, scale, mean, rstd):
    """Take the gradient of group_norm's output to those of its inputs.

    J^T g, where mean and rstd depend on x: for every small dx, dscale and dshift
    <g, change of group_norm> = <gx, dx> + <gscale, dscale> + <gshift, dshift>
    g, x: (N, ..., C); scale: (C,); mean, rstd: (N, G), as group_norm gave them
    -> gx (N, ..., C), gscale (C,), gshift (C,), the last two summed over images and pixels
    """
    G, C = mean.shape[1], x.shape[-1]
    m, r = mean[:, None, :, None], rstd[:, None, :, None]
    x_hat, g_hat = (_grouped(x, G) - m) * r, _grouped(g * scale, G)
    mean_g = g_hat.mean((1, 3), keepdims=True)
    mean_gx = (g_hat * x_hat).mean((1, 3), keepdims=True)
    gx = r * (g_hat - mean_g - x_hat * mean_gx)
    rows = g.reshape(-1, C)
    return gx.reshape(x.shape), (rows * x_hat.reshape(-1, C)).sum(0), rows.sum(0)


def silu(x):
    """Apply a smooth gate, x sigmoid(x): x for large x, about 0 for very negative x.

    (...) -> (...)
    """
    return x / (1 + np.exp(-x))


def silu_grad(g, x):
    """Take the gradient of silu's output to that of its input.

    J^T g, where J is the Jacobian of y = x sigmoid(x), element by element. No overflow of exp may
    become NaN: far out the slope is 0 on the left and 1 on the right.
    g, x: (...) -> (...)
    """
    sigma = 1 / (1 + np.exp(-x))
    return g * sigma * (1 + x * (1 - sigma))


def norm_silu(x, scale, shift, G, eps):
    """Do group_norm, then silu, in one go.

    Shapes as group_norm: -> y (N, ..., C), mean (N, G), rstd (N, G)
    """
    u, mean, rstd = group_norm(x, scale, shift, G, eps)
    return silu(u), mean, rstd


def norm_silu_grad(g, x, scale, shift, mean, rstd):
    """Take the gradient of silu(group_norm(x, scale, shift)) to those of x, scale and shift.

    g, x: (N, ..., C); scale, shift: (C,); mean, rstd: (N, G), as group_norm gave them
    -> gx (N, ..., C), gscale (C,), gshift (C,)
    """
    G = mean.shape[1]
    x_hat = (_grouped(x, G) - mean[:, None, :, None]) * rstd[:, None, :, None]
    gu = silu_grad(g, x_hat.reshape(x.shape) * scale + shift)
    return group_norm_grad(gu, x, scale, mean, rstd)


def norm_conv(x, scale, shift, w, add, padding, G, eps):
    """Do norm_silu, then conv2d, then add something: half a residual block, in one go.

    y = conv2d(norm_silu(x), w) + add
    x: (N, H, W, C); scale, shift: (C,); w: (K, K, C, O), K odd; add: (N, H, W, O) or (N, 1, 1, O)
    -> y (N, H, W, O), mean (N, G), rstd (N, G) of the norm
    """
    z, mean, rstd = norm_silu(x, scale, shift, G, eps)
    y = conv2d(z, w, padding)
    _require(_spreads(add, y), "norm_conv", x, scale, shift, w, add)
    return y + add, mean, rstd


def norm_conv_grad(g, x, scale, shift, mean, rstd, w, add, padding, G, eps):
    """Take the gradient of norm_conv's output to those of x, scale, shift and w.

    To that of x comes `add`, what reached x on another way. That of norm_conv's add is g.
    g: (N, H, W, O); add: (N, H, W, C), (N, 1, 1, C) or 0; the rest: as norm_conv took and gave it
    -> gx (N, H, W, C), gscale (C,), gshift (C,), gw (K, K, C, O)
    """
    gz = conv2d(g, w[::-1, ::-1].swapaxes(2, 3), padding)
    gx, gscale, gshift = norm_silu_grad(gz, x, scale, shift, mean, rstd)
    z, _, _ = norm_silu(x, scale, shift, G, eps)
    _require(_spreads(add, x), "norm_conv_grad", g, x, scale, shift, mean, rstd, w, add)
    return gx + add, gscale, gshift, conv2d_grad_w(z, g, len(w), padding)


def _spreads(add, y):
    return np.ndim(add) == 0 or add.shape in (y.shape, (len(y), 1, 1, y.shape[-1]))


def softmax(x):
    """Turn scores into weights that sum to 1, without overflow: exp(x), normalised.

    Over the last axis. (..., L) -> (..., L)
    """
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def log_softmax(x):
    """Take the logarithm of softmax without overflow, over the last axis.

    x - max(x) - log(sum(exp(x - max(x))))
    (..., L) -> (..., L)
    """
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def softmax_grad(g, y):
    """Take the gradient of y = softmax(x) to that of x, J^T g, from y instead of x.

    J[i, j] = dy[i] / dx[j] within a row; rows lie along the last axis. (..., L) -> (..., L)
    """
    return y * (g - (g * y).sum(-1, keepdims=True))


def attention(q, k, v):
    """Average the rows of v, with weights of its own for each query.

    The score of a key for a query is their inner product over sqrt(C); softmax makes weights of a
    query's L scores.
    q, k, v: (N, L, C) -> (N, L, C)
    """
    return softmax(q @ k.swapaxes(1, 2) * q.dtype.type(q.shape[2] ** -0.5)) @ v


def attention_grad(g, q, k, v):
    """Take the gradient of attention's output to those of its inputs.

    That is, differentiate the sum of all entries of g * attention(q, k, v) with respect to q, k, v.
    g, q, k, v: (N, L, C) -> gq, gk, gv (N, L, C)
    """
    root = q.dtype.type(q.shape[2] ** -0.5)
    p = softmax(q @ k.swapaxes(1, 2) * root)
    gs = softmax_grad(g @ v.swapaxes(1, 2), p) * root
    return gs @ k, gs.swapaxes(1, 2) @ q, p.swapaxes(1, 2) @ g


# --- tables, joining ---


def concat(*xs):
    """Join arrays along their last axis. (..., C1), (..., C2), ... -> (..., C1 + C2 + ...)"""
    return np.concatenate(xs, axis=-1)


def take(table, i):
    """Look up rows of a table. table: (M, E); i: ints (N,) in 0 .. M - 1 -> (N, E)"""
    return table[i]


def take_grad(g, i, M):
    """Add each row of the gradient to the table row that it was read from.

    g: (N, E); i: ints (N,) in 0 .. M - 1 -> (M, E)
    """
    table = np.zeros((M, g.shape[1]), g.dtype)
    np.add.at(table, i, g)
    return table


# --- the optimiser ---


def clip_norm(g, largest):
    """Shorten a gradient that is longer than `largest` to that length, in place.

    Its direction stays; |g| is the root of the sum of squares. A shorter one is left as it is.
    g: (P,); largest: number > 0, inf for no limit -> |g| before, ()
    """
    norm = np.sqrt(np.dot(g, g))
    if norm > largest:
        g *= g.dtype.type(largest / norm)
    return norm


def adam_step(theta, g, m, v, k, lr, beta1, beta2, eps, decay):
    """Update parameters by one step of AdamW, in place.

    m and v become the running averages of g and of g^2, whose old values have the weights beta1
    and beta2. m_hat, v_hat: m and v divided by the sum of the weights of their k gradients.
    theta = theta - lr (m_hat / (sqrt(v_hat) + eps) + decay theta)
    theta, g, m, v: (P,), the last two start at 0; k: int, 1 at the first step
    -> None; theta, m, v are changed
    Source: Kingma & Ba 2015, algorithm 1; decoupled decay from Loshchilov & Hutter 2019.
    """
    m[:] = beta1 * m + (1 - beta1) * g
    v[:] = beta2 * v + (1 - beta2) * g * g
    m_hat, v_hat = m / (1 - beta1**k), v / (1 - beta2**k)
    theta -= lr * (m_hat / (np.sqrt(v_hat) + eps) + decay * theta)


def ema_step(ema, theta, keep):
    """Move a running average towards the parameters, in place.

    ema = keep ema + (1 - keep) theta
    ema, theta: (P,); keep: number in 0 .. 1 -> None; ema is changed
    """
    ema[:] = keep * ema + (1 - keep) * theta


def update(theta, g, m, v, ema, k, lr, beta1, beta2, eps, decay, largest, keep):
    """Do clip_norm, adam_step and ema_step, with their arguments, in one call.

    Where the gradient is not finite only g changes.
    theta, g, m, v, ema: (P,) -> |g| before, (); theta, g, m, v and ema are changed
    """
    norm = clip_norm(g, largest)
    if np.isfinite(norm):
        adam_step(theta, g, m, v, k, lr, beta1, beta2, eps, decay)
        ema_step(ema, theta, keep)
    return norm


# --- the diffusion tower's own ---


def normal(rng, shape, dtype):
    """Draw standard normal numbers on the kernels' device.

    rng: np.random.Generator; shape: tuple; dtype: float32 or float64 -> (...), of that shape
    """
    return rng.standard_normal(shape, dtype=dtype)


def denoise_step(x_t, eps_hat, z, alpha_bar, c0, ct, std, clip):
    """Do one update of a sampler: c0 x0_hat + ct x_t + std z.

    x0_hat = (x_t - sqrt(1 - alpha_bar) eps_hat) / sqrt(alpha_bar), kept within [-clip, clip]
    x_t, eps_hat: (N, ...); z: (N, ...) or 0; the others are numbers, clip may be inf -> (N, ...)
    """
    root, sigma = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
    signal, noise, c0, ct, std = (x_t.dtype.type(a) for a in (root, sigma, c0, ct, std))
    x0_hat = (x_t - noise * np.asarray(eps_hat, x_t.dtype)) / signal
    return c0 * np.clip(x0_hat, -clip, clip) + ct * x_t + std * np.asarray(z, x_t.dtype)


def posterior_mean(x_t, data, alpha_bar):
    """Average the images of a data set, each weighted by how likely it is to have become x_t.

    r[n, m] proportional to exp( -|x_t[n] - sqrt(alpha_bar) data[m]|^2 / (2 (1 - alpha_bar)) )
    result[n] = sum_m r[n, m] data[m]
    x_t: (N, D); data: (M, D); alpha_bar: number below 1 -> (N, D)
    """
    away = x_t[:, None] - x_t.dtype.type(np.sqrt(alpha_bar)) * data  # (N, M, D)
    return softmax((away**2).sum(-1) / x_t.dtype.type(-2 * (1 - alpha_bar))) @ data
