"""Every kernel in plain NumPy: the definition that the fast ones must equal.

Images are (N, H, W, C), features last. Kernels come in pairs, name and name_grad; the mathematics of why a pair belongs
together stands in ops.py. All take and give float32 or float64.
"""

import numpy as np

STEPS_AHEAD = 1  # of a training between two looks at its losses: a graphics card works on while Python writes down the next steps


def array(x):
    """Bring an array to where these kernels work: here it is there already, cuda copies it to the device. (...) -> the same (...)"""
    return x


# --- convolution ---


def pad(x, p, padding):
    """Surround each image by a border p pixels wide: zeros, or the image itself again, as if it were tiled.

    x: (N, H, W, C); p: int >= 0; padding: "zeros" or "circular" -> (N, H + 2p, W + 2p, C)
    """
    if p == 0:
        return x
    return np.pad(
        x, ((0, 0), (p, p), (p, p), (0, 0)), mode={"zeros": "constant", "circular": "wrap"}[padding]
    )


def conv2d(x, w, padding):
    """Slide a K x K window over an image, padded so that its size stays; each output pixel is the sum of K K matrix products.

    y[n, h, w, o] = sum_{i, j, c} x[n, h + i - K//2, w + j - K//2, c] w[i, j, c, o], x outside being 0 or wrapped round
    x: (N, H, W, C); w: (K, K, C, O), K odd; padding: "zeros" or "circular" -> (N, H, W, O)
    """
    (_, H, W, _), K = x.shape, w.shape[0]
    xp = pad(x, K // 2, padding)
    return sum(xp[:, i : i + H, j : j + W] @ w[i, j] for i in range(K) for j in range(K))


def conv2d_grad_w(x, g, K, padding):
    """Correlate an image with the gradient of the convolution's output: the gradient of its weights.

    gw[i, j, c, o] = sum_{n, h, w} x[n, h + i - K//2, w + j - K//2, c] g[n, h, w, o], x outside being 0 or wrapped round
    x: (N, H, W, C); g: (N, H, W, O); K: int, odd, width of the window; padding: as conv2d's -> (K, K, C, O), in x's precision
    """
    (_, H, W, C), O = x.shape, g.shape[3]
    xp, flat = pad(x, K // 2, padding), np.ascontiguousarray(g).reshape(-1, O)
    gw = np.empty((K, K, C, O), x.dtype)
    for i in range(K):
        for j in range(K):
            gw[i, j] = xp[:, i : i + H, j : j + W].reshape(-1, C).T @ flat
    return gw


def matmul(a, b):
    """Multiply matrices, the last two axes. a: (..., L, C); b: (C, O), or (..., C, O) with a's leading axes -> (..., L, O)"""
    return a @ b


def down(x):
    """Halve an image: the mean of each 2 x 2 block. x: (N, H, W, C), H and W even -> (N, H/2, W/2, C)"""
    N, H, W, C = x.shape
    return x.reshape(N, H // 2, 2, W // 2, 2, C).mean((2, 4))


def up(x):
    """Double an image: each pixel becomes a 2 x 2 block. x: (N, H, W, C) -> (N, 2H, 2W, C)"""
    return x.repeat(2, axis=1).repeat(2, axis=2)


# --- normalisation and non-linearities ---


def _grouped(x, G):
    return x.reshape(x.shape[0], -1, G, x.shape[-1] // G)  # (N, L, G, C/G)


def group_norm(x, scale, shift, G, eps):
    """Normalise each image's channels, in G groups of neighbours, to mean 0 and variance 1; then scale and shift each channel.

    y = scale (x - mean) rstd + shift,  rstd = 1 / sqrt(var + eps);  mean(x) and var = mean((x - mean)^2) over the pixels and
    channels of a group; group k of an image holds its channels k C/G .. (k + 1) C/G - 1
    x: (N, ..., C), C divisible by G; scale, shift: (C,) -> y (N, ..., C), mean (N, G), rstd (N, G)
    """
    xg = _grouped(x, G)
    mean, rstd = xg.mean((1, 3)), 1 / np.sqrt(xg.var((1, 3)) + x.dtype.type(eps))
    x_hat = ((xg - mean[:, None, :, None]) * rstd[:, None, :, None]).reshape(x.shape)
    return x_hat * scale + shift, mean, rstd


def group_norm_grad(g, x, scale, mean, rstd):
    """Take the gradient of group_norm's output to those of its inputs.

    x_hat = (x - mean) rstd,  g_hat = scale g:  gx = rstd (g_hat - mean(g_hat) - x_hat mean(g_hat x_hat)), means over a group;
    gscale = sum g x_hat,  gshift = sum g, over images and pixels
    g, x: (N, ..., C); scale: (C,); mean, rstd: (N, G), as group_norm gave them -> gx (N, ..., C), gscale (C,), gshift (C,)
    """
    G, C = mean.shape[1], x.shape[-1]
    m, r = mean[:, None, :, None], rstd[:, None, :, None]
    x_hat, g_hat = (_grouped(x, G) - m) * r, _grouped(g * scale, G)
    gx = r * (
        g_hat
        - g_hat.mean((1, 3), keepdims=True)
        - x_hat * (g_hat * x_hat).mean((1, 3), keepdims=True)
    )
    rows = g.reshape(-1, C)
    return gx.reshape(x.shape), (rows * x_hat.reshape(-1, C)).sum(0), rows.sum(0)


def silu(x):
    """Let large numbers through and hold negative ones back, smoothly: x sigmoid(x). (...) -> (...)"""
    return x / (1 + np.exp(-x))


def silu_grad(g, x):
    """Take the gradient of silu's output to that of its input: g sigma (1 + x (1 - sigma)), sigma = 1 / (1 + exp(-x)).

    g, x: (...) -> (...)
    """
    sigma = 1 / (1 + np.exp(-x))
    return g * sigma * (1 + x * (1 - sigma))


def norm_silu(x, scale, shift, G, eps):
    """Do group_norm, then silu, in one go. Shapes as group_norm: -> y (N, ..., C), mean (N, G), rstd (N, G)"""
    u, mean, rstd = group_norm(x, scale, shift, G, eps)
    return silu(u), mean, rstd


def norm_silu_grad(g, x, scale, shift, mean, rstd):
    """Take the gradient of norm_silu's output to those of its inputs. -> gx (N, ..., C), gscale (C,), gshift (C,)"""
    G = mean.shape[1]
    x_hat = (_grouped(x, G) - mean[:, None, :, None]) * rstd[:, None, :, None]
    return group_norm_grad(
        silu_grad(g, x_hat.reshape(x.shape) * scale + shift), x, scale, mean, rstd
    )


def softmax(x):
    """Turn scores into weights that sum to 1: exp(x) normalised over the last axis, without overflow. (..., L) -> (..., L)"""
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def log_softmax(x):
    """Take the logarithm of softmax without overflow: x - max(x) - log(sum(exp(x - max(x)))), over the last axis. (..., L) -> (..., L)"""
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def softmax_grad(g, y):
    """Take the gradient of y = softmax(x) to that of x: y (g - sum(g y)), sum over the last axis. (..., L) -> (..., L)"""
    return y * (g - (g * y).sum(-1, keepdims=True))


def attention(q, k, v):
    """Average the rows of v, for each query with its own weights: softmax(q k^T / sqrt(C)) v. q, k, v: (N, L, C) -> (N, L, C)"""
    return softmax(q @ k.swapaxes(1, 2) * q.dtype.type(q.shape[2] ** -0.5)) @ v


def attention_grad(g, q, k, v):
    """Take the gradient of attention's output to those of its inputs. g, q, k, v: (N, L, C) -> gq, gk, gv (N, L, C)

    p = softmax(q k^T / sqrt(C)), gs = p (g v^T - sum(p g v^T)) / sqrt(C), sum over the last axis:  gq = gs k,  gk = gs^T q,  gv = p^T g
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
    """Add each row of the gradient to the table row that it was read from. g: (N, E); i: ints (N,) -> (M, E)"""
    table = np.zeros((M, g.shape[1]), g.dtype)
    np.add.at(table, i, g)
    return table


# --- the optimiser ---


def clip_norm(g, largest):
    """Shorten a gradient that is too long, in place: g = g min(1, largest / |g|). g: (P,); largest: number > 0 -> |g| before, ()"""
    norm = np.sqrt(np.dot(g, g))
    if norm > largest:
        g *= g.dtype.type(largest / norm)
    return norm


def adam_step(theta, g, m, v, k, lr, beta1, beta2, eps, decay):
    """Update parameters by one step of AdamW, in place.

    m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;  m_hat = m / (1 - beta1^k);  v_hat = v / (1 - beta2^k)
    theta = theta - lr (m_hat / (sqrt(v_hat) + eps) + decay theta)
    theta, g, m, v: (P,), the last two start at 0; k: int, 1 at the first step -> None; theta, m, v are changed
    Source: Kingma & Ba 2015, algorithm 1; decoupled decay from Loshchilov & Hutter 2019.
    """
    m[:] = beta1 * m + (1 - beta1) * g
    v[:] = beta2 * v + (1 - beta2) * g * g
    m_hat, v_hat = m / (1 - beta1**k), v / (1 - beta2**k)
    theta -= lr * (m_hat / (np.sqrt(v_hat) + eps) + decay * theta)


def ema_step(ema, theta, keep):
    """Move a running average towards the parameters, in place: ema = keep ema + (1 - keep) theta. (P,), (P,) -> None"""
    ema[:] = keep * ema + (1 - keep) * theta


def update(theta, g, m, v, ema, k, lr, beta1, beta2, eps, decay, largest, keep):
    """Do clip_norm, adam_step and ema_step, with their arguments, unless the gradient is not finite: then change nothing but g.

    theta, g, m, v, ema: (P,) -> |g| before, (); theta, g, m, v and ema are changed
    """
    norm = clip_norm(g, largest)
    if np.isfinite(norm):
        adam_step(theta, g, m, v, k, lr, beta1, beta2, eps, decay)
        ema_step(ema, theta, keep)
    return norm


# --- the diffusion tower's own ---


def normal(rng, shape, dtype):
    """Draw standard normal numbers where the kernels work. rng: np.random.Generator; dtype: float32 or float64 -> (...), of that shape"""
    return rng.standard_normal(shape, dtype=dtype)


def denoise_step(x_t, eps_hat, z, alpha_bar, c0, ct, std, clip):
    """Do one update of a sampler.

    x0_hat = (x_t - sqrt(1 - alpha_bar) eps_hat) / sqrt(alpha_bar), kept within [-clip, clip];  c0 x0_hat + ct x_t + std z
    x_t, eps_hat: (N, ...); z: (N, ...) or 0; the others are numbers, clip may be inf -> (N, ...)
    """
    signal, noise, c0, ct, std = (
        x_t.dtype.type(a) for a in (np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar), c0, ct, std)
    )
    x0_hat = (x_t - noise * np.asarray(eps_hat, x_t.dtype)) / signal
    return c0 * np.clip(x0_hat, -clip, clip) + ct * x_t + std * np.asarray(z, x_t.dtype)


def posterior_mean(x_t, data, alpha_bar):
    """Average the images of a data set, each weighed by how likely it is to have become x_t.

    r[n, m] proportional to exp( -|x_t[n] - sqrt(alpha_bar) data[m]|^2 / (2 (1 - alpha_bar)) );  sum_m r[n, m] data[m]
    x_t: (N, D); data: (M, D); alpha_bar: number below 1 -> (N, D)
    """
    away = x_t[:, None] - x_t.dtype.type(np.sqrt(alpha_bar)) * data  # (N, M, D)
    return softmax((away**2).sum(-1) / x_t.dtype.type(-2 * (1 - alpha_bar))) @ data
