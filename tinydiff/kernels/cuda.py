"""Every kernel on the graphics card: cuda_array.py explains how they are written, cuda_matmul.py holds matmul and the convolutions.

Arrays of the host come in, and stay: what a function here is given may be an Array or NumPy's, what it gives is an Array.
"""

import math

import numpy as np

from . import HostOnly, cuda_array, cuda_matmul
from .cuda_array import ONE, ZERO, Array, cos, cuda, exp, log, sqrt

_elementwise, _launch, _alike, _fit = (
    cuda_array.elementwise,
    cuda_array.launch,
    cuda_matmul.alike,
    cuda_matmul.fit,
)

STEPS_AHEAD = 20
_MOST = 512  # threads of a block that add up together, at most


def array(x):
    return cuda_array.array(x)


# --- convolution ---


@cuda.jit(device=True)
def _pixel(i, H, W, C):
    """Where element i of images lies: n, h, w, c."""
    return i // (H * W * C), i // (W * C) % H, i // C % W, i % C


def pad(x, p, padding):
    if p == 0:
        return x
    (x,) = _alike(x)
    N, H, W, C = x.shape
    y = cuda_array.empty((N, H + 2 * p, W + 2 * p, C), x.dtype)
    _launch(_pad, y.size, x.nd(*x.shape), p, padding == "circular", y.nd(*y.shape))
    return y


@cuda.jit
def _pad(x, p, circular, y):
    """One thread an element of y; neighbours read neighbouring channels of one pixel."""
    (N, H, W, C), H2, W2 = x.shape, y.shape[1], y.shape[2]
    for i in range(cuda.grid(1), N * H2 * W2 * C, cuda.gridsize(1)):
        n, h, w, c = _pixel(i, H2, W2, C)
        inside = p <= h < H + p and p <= w < W + p
        y[n, h, w, c] = x[n, (h - p) % H, (w - p) % W, c] if inside or circular else ZERO


def conv2d(x, w, padding):
    return cuda_matmul.conv2d(x, w, padding)


def conv2d_grad_w(x, g, K, padding):
    return cuda_matmul.conv2d_grad_w(x, g, K, padding)


def matmul(a, b):
    return cuda_matmul.matmul(a, b)


Array.__matmul__ = matmul
Array.__rmatmul__ = lambda b, a: matmul(a, b)


def down(x):
    (x,) = _alike(x)
    N, H, W, C = x.shape
    y = cuda_array.empty((N, H // 2, W // 2, C), x.dtype)
    _launch(_down, y.size, x.nd(*x.shape), y.nd(*y.shape))
    return y


@cuda.jit
def _down(x, y):
    """One thread an element of y; neighbours read neighbouring channels of the same four pixels."""
    N, H, W, C = y.shape
    for i in range(cuda.grid(1), N * H * W * C, cuda.gridsize(1)):
        n, h, w, c = _pixel(i, H, W, C)
        top, bottom = (
            x[n, 2 * h, 2 * w, c] + x[n, 2 * h, 2 * w + 1, c],
            x[n, 2 * h + 1, 2 * w, c] + x[n, 2 * h + 1, 2 * w + 1, c],
        )
        y[n, h, w, c] = (top + bottom) * np.float32(0.25)


def up(x):
    (x,) = _alike(x)
    N, H, W, C = x.shape
    y = cuda_array.empty((N, 2 * H, 2 * W, C), x.dtype)
    _launch(_up, y.size, x.nd(*x.shape), y.nd(*y.shape))
    return y


@cuda.jit
def _up(x, y):
    """One thread an element of y; neighbours read neighbouring channels of one pixel."""
    N, H, W, C = y.shape
    for i in range(cuda.grid(1), N * H * W * C, cuda.gridsize(1)):
        n, h, w, c = _pixel(i, H, W, C)
        y[n, h, w, c] = x[n, h // 2, w // 2, c]


# --- normalisation and non-linearities ---


@cuda.jit(device=True)
def _add_up(value, box):
    """Add a number of each thread of a block, in pairs, pairs of pairs, ... in shared memory -> the sum, to every thread."""
    t, n = cuda.threadIdx.x, cuda.blockDim.x
    box[t] = value
    cuda.syncthreads()
    while n > 1:
        half = (n + 1) // 2
        if t + half < n:
            box[t] += box[t + half]
        cuda.syncthreads()
        n = half
    total = box[0]
    cuda.syncthreads()  # all have read it: the box may be used again
    return total


@cuda.jit(device=True)
def _highest(value, box):
    """As _add_up, but the largest of the numbers; NaN if one of them is."""
    t, n = cuda.threadIdx.x, cuda.blockDim.x
    box[t] = value
    cuda.syncthreads()
    while n > 1:
        half = (n + 1) // 2
        if t + half < n and not box[t + half] <= box[t]:
            box[t] = box[t + half]
        cuda.syncthreads()
        n = half
    top = box[0]
    cuda.syncthreads()
    return top


@cuda.jit(device=True)
def _sigmoid(x):
    return ONE / (ONE + exp(-x))


_silu = _elementwise(lambda x, same: x / (ONE + exp(-x)))
_silu_grad = _elementwise(lambda g, x: g * _sigmoid(x) * (ONE + x * (ONE - _sigmoid(x))))


def silu(x):
    return _silu(x, x)


def silu_grad(g, x):
    return _silu_grad(g, x)


def group_norm(x, scale, shift, G, eps):
    return _norm(x, scale, shift, G, eps, False)


def norm_silu(x, scale, shift, G, eps):
    return _norm(x, scale, shift, G, eps, True)


def _norm(x, scale, shift, G, eps, with_silu):
    x, scale, shift = _alike(x, scale, shift)
    N, C = x.shape[0], x.shape[-1]
    _fit(
        scale.shape == shift.shape == (C,) and C % G == 0 and C // G <= _MOST and x.size,
        "group_norm",
        x,
        scale,
        shift,
    )
    y, mean, rstd = (cuda_array.empty(shape, x.dtype) for shape in (x.shape, (N, G), (N, G)))
    flat = (
        scale.flat,
        shift.flat,
        x.dtype.type(eps),
        with_silu,
        y.nd(N, -1, C),
        mean.nd(N, G),
        rstd.nd(N, G),
    )
    _norm_silu[(N, G), _threads(C // G)](x.nd(N, -1, C), *flat)
    return y, mean, rstd


def _threads(size):
    """So many threads that each always meets the same one of `size` channels: a multiple of size."""
    return size * max(1, cuda_array.THREADS // size)


@cuda.jit
def _norm_silu(x, scale, shift, eps, with_silu, y, mean, rstd):
    """One block a group of an image; neighbours read neighbouring channels of the group, and then its next pixel."""
    L, C = x.shape[1], x.shape[2]
    n, group, size = cuda.blockIdx.x, cuda.blockIdx.y, C // mean.shape[1]
    first, pixels, c = (
        cuda.threadIdx.x // size,
        cuda.blockDim.x // size,
        group * size + cuda.threadIdx.x % size,
    )
    box = cuda.shared.array(_MOST, x.dtype)
    total, count = ZERO, x.dtype.type(L * size)
    for i in range(first, L, pixels):
        total += x[n, i, c]
    m = _add_up(total, box) / count
    total = ZERO
    for i in range(first, L, pixels):
        total += (x[n, i, c] - m) * (x[n, i, c] - m)
    r = ONE / sqrt(_add_up(total, box) / count + eps)
    if cuda.threadIdx.x == 0:
        mean[n, group], rstd[n, group] = m, r
    for i in range(first, L, pixels):
        v = (x[n, i, c] - m) * r * scale[c] + shift[c]
        y[n, i, c] = v * _sigmoid(v) if with_silu else v


def group_norm_grad(g, x, scale, mean, rstd):
    return _norm_grad(g, x, scale, scale, mean, rstd, False)


def norm_silu_grad(g, x, scale, shift, mean, rstd):
    return _norm_grad(g, x, scale, shift, mean, rstd, True)


def _norm_grad(g, x, scale, shift, mean, rstd, with_silu):
    g, x, scale, shift, mean, rstd = _alike(g, x, scale, shift, mean, rstd)
    (N, G), C = mean.shape, x.shape[-1]
    _fit(
        g.shape == x.shape and scale.shape == shift.shape == (C,) and rstd.shape == (len(x), G),
        "norm_grad",
        g,
        x,
        scale,
        shift,
        rstd,
    )
    gx, gscale, gshift = (cuda_array.empty(shape, x.dtype) for shape in (x.shape, (N, C), (N, C)))
    flat = (
        scale.flat,
        shift.flat,
        mean.nd(N, G),
        rstd.nd(N, G),
        with_silu,
        gx.nd(N, -1, C),
        gscale.nd(N, C),
        gshift.nd(N, C),
    )
    _norm_silu_grad[(N, G), _threads(C // G)](g.nd(N, -1, C), x.nd(N, -1, C), *flat)
    return gx, gscale.sum(0), gshift.sum(0)


@cuda.jit(device=True)
def _through_silu(g, x, scale, shift, m, r, with_silu):
    """Take g back through silu to the norm's output -> that, x_hat"""
    x_hat = (x - m) * r
    v = x_hat * scale + shift
    sigma = _sigmoid(v)
    return (g * sigma * (ONE + v * (ONE - sigma)) if with_silu else g), x_hat


@cuda.jit
def _norm_silu_grad(g, x, scale, shift, mean, rstd, with_silu, gx, gscale, gshift):
    """One block a group of an image, read as _norm_silu reads it; each thread sums over pixels of one channel, the block over all."""
    L, C = x.shape[1], x.shape[2]
    n, group, size = cuda.blockIdx.x, cuda.blockIdx.y, C // mean.shape[1]
    t, pixels = cuda.threadIdx.x, cuda.blockDim.x // size
    c, m, r = group * size + t % size, mean[n, group], rstd[n, group]
    box = cuda.shared.array(_MOST, x.dtype)
    box_x = cuda.shared.array(_MOST, x.dtype)
    total, total_x = ZERO, ZERO
    for i in range(t // size, L, pixels):
        gv, x_hat = _through_silu(g[n, i, c], x[n, i, c], scale[c], shift[c], m, r, with_silu)
        total += gv
        total_x += gv * x_hat
    box[t], box_x[t] = total, total_x
    cuda.syncthreads()
    if t < size:  # the threads of channel c are t, t + size, t + 2 size, ...
        for other in range(t + size, cuda.blockDim.x, size):
            total += box[other]
            total_x += box_x[other]
        gshift[n, c], gscale[n, c] = total, total_x
    cuda.syncthreads()
    own, count = (scale[c] if t < size else ZERO), x.dtype.type(L * size)
    mean_g, mean_gx = _add_up(own * total, box) / count, _add_up(own * total_x, box_x) / count
    for i in range(t // size, L, pixels):
        gv, x_hat = _through_silu(g[n, i, c], x[n, i, c], scale[c], shift[c], m, r, with_silu)
        gx[n, i, c] = r * (scale[c] * gv - mean_g - x_hat * mean_gx)


def _rows(kernel, *arrays):
    """Run a kernel with one block a row, the last axis -> Array like the first, filled by it"""
    arrays = _alike(*arrays)
    _fit(all(a.shape == arrays[0].shape for a in arrays) and arrays[0].size, "rows", *arrays)
    y, L = cuda_array.empty(arrays[0].shape, arrays[0].dtype), arrays[0].shape[-1]
    kernel[y.size // L, min(cuda_array.THREADS, 32 * -(-L // 32))](
        *(a.nd(-1, L) for a in arrays), y.nd(-1, L)
    )
    return y


@cuda.jit(device=True)
def _top_and_total(x, n, box):
    """Of row n: the largest number, and the sum of exp(x - largest), to every thread of the block that the row has."""
    t, T, L = cuda.threadIdx.x, cuda.blockDim.x, x.shape[1]
    top, total = x[n, 0], ZERO
    for j in range(t, L, T):
        top = top if x[n, j] <= top else x[n, j]
    top = _highest(top, box)
    for j in range(t, L, T):
        total += exp(x[n, j] - top)
    return top, _add_up(total, box)


def softmax(x):
    return _rows(_softmax, x)


@cuda.jit
def _softmax(x, y):
    """One block a row; neighbours read neighbours."""
    n, box = cuda.blockIdx.x, cuda.shared.array(_MOST, x.dtype)
    top, total = _top_and_total(x, n, box)
    for j in range(cuda.threadIdx.x, x.shape[1], cuda.blockDim.x):
        y[n, j] = exp(x[n, j] - top) / total


def log_softmax(x):
    return _rows(_log_softmax, x)


@cuda.jit
def _log_softmax(x, y):
    """One block a row; neighbours read neighbours."""
    n, box = cuda.blockIdx.x, cuda.shared.array(_MOST, x.dtype)
    top, total = _top_and_total(x, n, box)
    total = log(total)
    for j in range(cuda.threadIdx.x, x.shape[1], cuda.blockDim.x):
        y[n, j] = x[n, j] - top - total


def softmax_grad(g, y):
    return _rows(_softmax_grad, g, y)


@cuda.jit
def _softmax_grad(g, y, gx):
    """One block a row; neighbours read neighbours."""
    n, t, T, L = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x, y.shape[1]
    box = cuda.shared.array(_MOST, y.dtype)
    total = ZERO
    for j in range(t, L, T):
        total += g[n, j] * y[n, j]
    total = _add_up(total, box)
    for j in range(t, L, T):
        gx[n, j] = y[n, j] * (g[n, j] - total)


def _weights(q, k):
    root = q.shape[2] ** -0.5
    return softmax(matmul(q, k.swapaxes(1, 2)) * root), root


def attention(q, k, v):
    q, k, v = _alike(q, k, v)
    _fit(q.shape == k.shape == v.shape, "attention", q, k, v)
    return matmul(_weights(q, k)[0], v)


def attention_grad(g, q, k, v):
    g, q, k, v = _alike(g, q, k, v)
    p, root = _weights(q, k)
    gs = softmax_grad(matmul(g, v.swapaxes(1, 2)), p) * root
    return matmul(gs, k), matmul(gs.swapaxes(1, 2), q), matmul(p.swapaxes(1, 2), g)


# --- tables, joining ---


def concat(*xs):
    xs, first = _alike(*xs), 0
    y = cuda_array.empty((*xs[0].shape[:-1], sum(x.shape[-1] for x in xs)), xs[0].dtype)
    for x in xs:
        _fit(x.shape[:-1] == y.shape[:-1], "concat", *xs)
        _launch(_place, x.size, x.nd(-1, x.shape[-1]), first, y.nd(-1, y.shape[-1]))
        first += x.shape[-1]
    return y


@cuda.jit
def _place(x, first, y):
    """One thread an element of x, copied into the columns of y from `first` on; neighbours read and write neighbours."""
    C = x.shape[1]
    for i in range(cuda.grid(1), x.shape[0] * C, cuda.gridsize(1)):
        y[i // C, first + i % C] = x[i // C, i % C]


def take(table, i):
    table, i = cuda_array.array(table), cuda_array.array(i)
    y = cuda_array.empty((*i.shape, table.shape[1]), table.dtype)
    _launch(_take, y.size, table.nd(*table.shape), i.flat, y.nd(-1, table.shape[1]))
    return y


@cuda.jit
def _take(table, i, y):
    """One thread an element of y; neighbours read neighbours of one row."""
    E = y.shape[1]
    for n in range(cuda.grid(1), y.shape[0] * E, cuda.gridsize(1)):
        y[n // E, n % E] = table[i[n // E], n % E]


def take_grad(g, i, M):
    g, i = cuda_array.array(g), cuda_array.array(i)
    table = cuda_array.empty((M, g.shape[1]), g.dtype)
    _launch(_take_grad, table.size, g.nd(*g.shape), i.flat, table.nd(*table.shape))
    return table


@cuda.jit
def _take_grad(g, i, table):
    """One thread an element of the table, which looks through all of i: no two threads add to one; neighbours read neighbours."""
    M, E = table.shape
    for n in range(cuda.grid(1), M * E, cuda.gridsize(1)):
        total = ZERO
        for k in range(g.shape[0]):
            if i[k] == n // E:
                total += g[k, n % E]
        table[n // E, n % E] = total


# --- the optimiser ---

_shortened = _elementwise(
    lambda largest, norm: largest / norm if norm > largest else ONE
)  # where the norm is NaN, 1
_root = _elementwise(lambda a, same: sqrt(a))


def _require_device(*arrays):
    if not all(isinstance(a, Array) for a in arrays):
        raise HostOnly(
            "a change in place of arrays on the host: give kernels.array(x), which lies on the graphics card, and keep that"
        )


def clip_norm(g, largest):
    _require_device(g)
    norm = (g * g).sum()
    norm = _root(norm, norm)
    g[:] = g * _shortened(largest, norm)
    return norm


def adam_step(theta, g, m, v, k, lr, beta1, beta2, eps, decay):
    _require_device(theta, m, v)
    _step(
        theta,
        g,
        m,
        v,
        cuda_array.empty(theta.shape, theta.dtype),
        k,
        lr,
        beta1,
        beta2,
        eps,
        decay,
        0.0,
        theta[:1] * 0,
    )


def ema_step(ema, theta, keep):
    _require_device(ema, theta)
    ema[:] = ema * keep + theta * (1 - keep)


def update(theta, g, m, v, ema, k, lr, beta1, beta2, eps, decay, largest, keep):
    _require_device(theta, g, m, v, ema)
    norm = clip_norm(g, largest)
    _step(theta, g, m, v, ema, k, lr, beta1, beta2, eps, decay, keep, norm)
    return norm


def _step(theta, g, m, v, ema, k, lr, beta1, beta2, eps, decay, keep, norm):
    numbers = (
        lr,
        beta1,
        1 - beta1,
        beta2,
        1 - beta2,
        eps,
        decay,
        keep,
        1 - keep,
        1 / (1 - beta1**k),
        1 / (1 - beta2**k),
    )
    numbers = [theta.dtype.type(a) for a in numbers]
    _launch(_adam_ema, theta.size, *(a.flat for a in (theta, g, m, v, ema, norm)), *numbers)


@cuda.jit
def _adam_ema(
    theta,
    g,
    m,
    v,
    ema,
    norm,
    lr,
    beta1,
    rest1,
    beta2,
    rest2,
    eps,
    decay,
    keep,
    rest,
    unbias1,
    unbias2,
):
    """One thread a parameter, all five arrays in one pass, unless the gradient is not finite; neighbours read neighbours."""
    if not math.isfinite(norm[0]):
        return
    for i in range(cuda.grid(1), theta.size, cuda.gridsize(1)):
        m[i] = beta1 * m[i] + rest1 * g[i]
        v[i] = beta2 * v[i] + rest2 * g[i] * g[i]
        theta[i] -= lr * (m[i] * unbias1 / (sqrt(v[i] * unbias2) + eps) + decay * theta[i])
        ema[i] = keep * ema[i] + rest * theta[i]


# --- the diffusion tower's own ---


class Noise(Array):
    """Numbers that are known by their key, times a factor: denoise_step draws them as it needs them; used otherwise, they are written."""

    __slots__ = ("key", "factor", "written")

    def __init__(self, key, shape, dtype, factor=1.0):
        self.key, self.shape, self.factor = key, shape, np.dtype(dtype).type(factor)

    dtype = property(lambda self: self.factor.dtype)
    size = property(lambda self: math.prod(self.shape))
    flat = property(lambda self: self._write().flat)
    memory = property(lambda self: self._write().memory)

    def _write(self):
        if not hasattr(self, "written"):
            self.written = cuda_array.empty(self.shape, self.dtype)
            _launch(_normal, self.size, *self.key, self.factor, self.written.flat)
        return self.written

    def __mul__(a, b):
        return (
            Noise(a.key, a.shape, a.dtype, a.factor * a.dtype.type(b))
            if np.ndim(b) == 0 and not isinstance(b, Array)
            else Array.__mul__(a, b)
        )

    __rmul__ = __mul__


def normal(rng, shape, dtype):
    key = int(rng.integers(2**63))
    return Noise((key % 2**32, key // 2**32), tuple(shape), dtype)


@cuda.jit(device=True)
def _philox(i, key0, key1):
    """Mix a counter i and a key into random bits: ten rounds of multiplying, each product's high and low half going separate ways.

    -> two whole numbers below 2^32, any two i as good as independent. Source: Salmon et al. 2011 (Philox4x32-10).
    """
    mask = np.uint64(0xFFFFFFFF)
    a, b, c, d = np.uint64(i) & mask, np.uint64(i) >> np.uint64(32), np.uint64(0), np.uint64(0)
    k, l = np.uint64(key0), np.uint64(key1)
    for _ in range(10):
        p, q = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b, c, d = (q >> np.uint64(32)) ^ b ^ k, q & mask, (p >> np.uint64(32)) ^ d ^ l, p & mask
        k, l = (k + np.uint64(0x9E3779B9)) & mask, (l + np.uint64(0xBB67AE85)) & mask
    return a, b


@cuda.jit(device=True)
def _draw(i, key0, key1):
    """The i-th normal number of a key: two uniform ones made normal by Box and Muller's formula."""
    unit, turn = np.float32(2**-32), np.float32(2 * math.pi * 2**-32)
    a, b = _philox(i, key0, key1)
    radius = sqrt(np.float32(-2) * log((np.float32(a) + ONE) * unit))
    return radius * cos(np.float32(b) * turn)


@cuda.jit
def _normal(key0, key1, factor, y):
    """One thread a number, the i-th whichever thread draws it; neighbours write neighbours."""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = factor * _draw(i, key0, key1)


def denoise_step(x_t, eps_hat, z, alpha_bar, c0, ct, std, clip):
    x_t = cuda_array.array(x_t)
    eps_hat, y = cuda_array.array(eps_hat, x_t.dtype), cuda_array.empty(x_t.shape, x_t.dtype)
    _fit(eps_hat.shape == x_t.shape, "denoise_step", x_t, eps_hat)
    numbers = [
        x_t.dtype.type(a) for a in (np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar), c0, ct, std, clip)
    ]
    if isinstance(z, Noise) and (z.shape, z.dtype) == (x_t.shape, x_t.dtype):
        _launch(
            _denoise_step_noise, y.size, x_t.flat, eps_hat.flat, *z.key, z.factor, *numbers, y.flat
        )
        return y
    z = cuda_array.array(z, x_t.dtype)
    z = z if z.shape == x_t.shape else x_t * 0 + z
    _launch(_denoise_step, y.size, x_t.flat, eps_hat.flat, z.flat, *numbers, y.flat)
    return y


@cuda.jit(device=True)
def _denoised(x_t, eps_hat, z, signal, noise, c0, ct, std, clip):
    x0_hat = (x_t - noise * eps_hat) / signal
    x0_hat = clip if x0_hat > clip else -clip if x0_hat < -clip else x0_hat
    return c0 * x0_hat + ct * x_t + std * z


@cuda.jit
def _denoise_step(x_t, eps_hat, z, signal, noise, c0, ct, std, clip, y):
    """One thread a number; neighbours read neighbours."""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = _denoised(x_t[i], eps_hat[i], z[i], signal, noise, c0, ct, std, clip)


@cuda.jit
def _denoise_step_noise(x_t, eps_hat, key0, key1, factor, signal, noise, c0, ct, std, clip, y):
    """As _denoise_step, but z is drawn here, and never lies in memory."""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = _denoised(
            x_t[i], eps_hat[i], factor * _draw(i, key0, key1), signal, noise, c0, ct, std, clip
        )


def posterior_mean(x_t, data, alpha_bar):
    x_t = cuda_array.array(x_t)
    data = cuda_array.array(data, x_t.dtype)
    _fit(x_t.shape[1] == data.shape[1], "posterior_mean", x_t, data)
    scores, f = cuda_array.empty((len(x_t), len(data)), x_t.dtype), x_t.dtype.type
    _log_likelihood[scores.shape[::-1], cuda_array.THREADS](
        x_t.nd(*x_t.shape),
        data.nd(*data.shape),
        f(np.sqrt(alpha_bar)),
        f(-0.5 / (1 - alpha_bar)),
        scores.nd(*scores.shape),
    )
    return matmul(softmax(scores), data)


@cuda.jit
def _log_likelihood(x_t, data, signal, factor, scores):
    """One block a pair of images; neighbours read neighbouring numbers of both."""
    m, n, t = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
    box = cuda.shared.array(_MOST, x_t.dtype)
    total = ZERO
    for i in range(t, x_t.shape[1], cuda.blockDim.x):
        away = x_t[n, i] - signal * data[m, i]
        total += away * away
    total = _add_up(total, box)
    if t == 0:
        scores[n, m] = factor * total
