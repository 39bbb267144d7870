"""Every kernel on the GPU; matmul and the convolutions are in cuda_matmul.py.

cuda_array.py explains how the kernels are written. A function here takes Arrays or NumPy's arrays
and gives Arrays: what comes from the host is copied to the device, and stays there.
"""

import math

import numpy as np

from . import HostOnly, cuda_array, cuda_matmul
from .cuda_array import ONE, ZERO, Array, cos, cuda, exp, log, sqrt
from .reference import _require

_elementwise, _launch, _alike = cuda_array.elementwise, cuda_array.launch, cuda_matmul.alike

STEPS_AHEAD = 20
_MOST = 512  # threads of a block that add up together, at most
TOGETHER = 32  # arrays that one kernel joins: all that a kernel is given has to fit into 4 kB


def array(x):
    return cuda_array.array(x)


# --- convolution ---


@cuda.jit(device=True)
def _pixel(i, H, W, C):
    """Find element i of images -> n, h, w, c"""
    return i // (H * W * C), i // (W * C) % H, i // C % W, i % C


def pad(x, p, padding):
    if p == 0:
        return x
    (x,) = _alike(x)
    N, H, W, C = x.shape
    _require(min(H, W) > 0, "pad", x)
    y = cuda_array.empty((N, H + 2 * p, W + 2 * p, C), x.dtype)
    _launch(_pad, y.size, x.nd(*x.shape), p, padding == "circular", y.nd(*y.shape))
    return y


@cuda.jit
def _pad(x, p, circular, y):
    """Fill y, one element per thread; neighbours read neighbouring channels of one pixel."""
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
    _require(H % 2 == W % 2 == 0, "down", x)
    y = cuda_array.empty((N, H // 2, W // 2, C), x.dtype)
    _launch(_down, y.size, x.nd(*x.shape), y.nd(*y.shape))
    return y


@cuda.jit
def _down(x, y):
    """Fill y, one element per thread; neighbours read neighbouring channels of four pixels."""
    N, H, W, C = y.shape
    for i in range(cuda.grid(1), N * H * W * C, cuda.gridsize(1)):
        n, h, w, c = _pixel(i, H, W, C)
        top = x[n, 2 * h, 2 * w, c] + x[n, 2 * h, 2 * w + 1, c]
        bottom = x[n, 2 * h + 1, 2 * w, c] + x[n, 2 * h + 1, 2 * w + 1, c]
        y[n, h, w, c] = (top + bottom) * np.float32(0.25)


def up(x):
    (x,) = _alike(x)
    N, H, W, C = x.shape
    y = cuda_array.empty((N, 2 * H, 2 * W, C), x.dtype)
    _launch(_up, y.size, x.nd(*x.shape), y.nd(*y.shape))
    return y


@cuda.jit
def _up(x, y):
    """Fill y, one element per thread; neighbours read neighbouring channels of one pixel."""
    N, H, W, C = y.shape
    for i in range(cuda.grid(1), N * H * W * C, cuda.gridsize(1)):
        n, h, w, c = _pixel(i, H, W, C)
        y[n, h, w, c] = x[n, h // 2, w // 2, c]


# --- normalisation and non-linearities ---


@cuda.jit(device=True)
def _add_up(value, box):
    """Add up one number per thread of a block -> the sum, to every thread

    Pairs are added, then pairs of pairs, ... in `box`, which is shared memory.
    """
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
    cuda.syncthreads()  # all have read it: the box may be reused
    return total


@cuda.jit(device=True)
def _highest(value, box):
    """Find the largest number of a block's threads as _add_up adds them; NaN if one is NaN."""
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
    g, x = _alike(g, x)
    _require(g.shape == x.shape, "silu_grad", g, x)
    return _silu_grad(g, x)


def group_norm(x, scale, shift, G, eps):
    return _norm("group_norm", x, scale, shift, G, eps)


def norm_silu(x, scale, shift, G, eps):
    return _norm("norm_silu", x, scale, shift, G, eps)


def _norm(name, x, scale, shift, G, eps):
    x, scale, shift = _alike(x, scale, shift)
    N, C = x.shape[0], x.shape[-1]
    fits = scale.shape == shift.shape == (C,) and C % G == 0 and x.size > 0
    _require(fits, name, x, scale, shift)
    y, mean, rstd = (cuda_array.empty(shape, x.dtype) for shape in (x.shape, (N, G), (N, G)))
    results = y.nd(N, -1, C), mean.nd(N, G), rstd.nd(N, G)
    eps, with_silu = x.dtype.type(eps), name == "norm_silu"
    size = (N, G), _threads(C // G)
    _norm_silu[size](x.nd(N, -1, C), scale.flat, shift.flat, eps, with_silu, *results)
    return y, mean, rstd


def _threads(size):
    """Choose how many threads a block has: a multiple of `size`, the channels of a group.

    So each thread always meets the same channel. ValueError where a group has too many.
    """
    if size > _MOST:
        raise ValueError(f"a GPU normalises at most {_MOST} channels per group; got {size}")
    return size * max(1, cuda_array.THREADS // size)


@cuda.jit
def _norm_silu(x, scale, shift, eps, with_silu, y, mean, rstd):
    """Normalise one group of an image per block.

    Neighbours read neighbouring channels of the group, and then its next pixel.
    """
    L, C = x.shape[1], x.shape[2]
    n, group, size = cuda.blockIdx.x, cuda.blockIdx.y, C // mean.shape[1]
    first, pixels = cuda.threadIdx.x // size, cuda.blockDim.x // size
    c = group * size + cuda.threadIdx.x % size
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
    return _norm_grad("group_norm_grad", g, x, scale, scale, mean, rstd)


def norm_silu_grad(g, x, scale, shift, mean, rstd):
    return _norm_grad("norm_silu_grad", g, x, scale, shift, mean, rstd)


def _norm_grad(name, g, x, scale, shift, mean, rstd, add=None):
    """Take g back through a norm; add: (N, ..., C), added to the gradient of x, or None"""
    g, x, scale, shift, mean, rstd = _alike(g, x, scale, shift, mean, rstd)
    N, C, G = x.shape[0], x.shape[-1], mean.shape[-1]
    fits = g.shape == x.shape and scale.shape == shift.shape == (C,) and x.size > 0
    fits = fits and mean.shape == rstd.shape == (N, G) and G > 0 and C % G == 0
    _require(fits, name, g, x, scale, shift, mean, rstd)
    gx, per_image = cuda_array.empty(x.shape, x.dtype), cuda_array.empty((N, 2, C), x.dtype)
    arrays = g.nd(N, -1, C), x.nd(N, -1, C), scale.flat, shift.flat, mean.nd(N, G), rstd.nd(N, G)
    besides = x if add is None else _alike(add, x)[0]
    flags = name == "norm_silu_grad", add is not None
    results = besides.nd(N, -1, C), gx.nd(N, -1, C), per_image.nd(N, 2, C)
    _norm_silu_grad[(N, G), _threads(C // G)](*arrays, *flags, *results)
    gscale_gshift = per_image.sum(0)
    return gx, gscale_gshift[0], gscale_gshift[1]


def norm_conv(x, scale, shift, w, add, padding, G, eps):
    (N, H, W, C), K, O = x.shape, len(w), w.shape[-1]
    fits = scale.shape == shift.shape == (C,) and C % G == 0 and w.shape == (K, K, C, O)
    fits = fits and K % 2 == 1 and add.shape in ((N, H, W, O), (N, 1, 1, O))
    _require(fits, "norm_conv", x, scale, shift, w, add)
    y, mean, rstd = norm_silu(x, scale, shift, G, eps)
    return cuda_matmul.conv2d(y, w, padding, add), mean, rstd


def norm_conv_grad(g, x, scale, shift, mean, rstd, w, add, padding, G, eps):
    (N, H, W, C), K, O = x.shape, len(w), w.shape[-1]
    fits = scale.shape == shift.shape == (C,) and w.shape == (K, K, C, O) and K % 2 == 1
    fits = fits and mean.shape == rstd.shape == (N, G) and C % G == 0 and g.shape == (N, H, W, O)
    shape = getattr(add, "shape", ())  # () of 0: then there is nothing to add
    fits = fits and shape in ((), x.shape, (N, 1, 1, C))
    _require(fits, "norm_conv_grad", g, x, scale, shift, mean, rstd, w, add)
    gy = conv2d(g, w[::-1, ::-1].swapaxes(2, 3), padding)
    rest = scale, shift, mean, rstd, add if shape == x.shape else None
    gx, *gs = _norm_grad("norm_silu_grad", gy, x, *rest)
    y, _, _ = norm_silu(x, scale, shift, G, eps)
    gx = gx if shape in ((), x.shape) else gx + add
    return gx, *gs, conv2d_grad_w(y, g, K, padding)


@cuda.jit(device=True)
def _through_silu(g, x, scale, shift, m, r, with_silu):
    """Take g back through silu to the norm's output -> that gradient, x_hat"""
    x_hat = (x - m) * r
    v = x_hat * scale + shift
    sigma = _sigmoid(v)
    return (g * sigma * (ONE + v * (ONE - sigma)) if with_silu else g), x_hat


@cuda.jit
def _norm_silu_grad(g, x, scale, shift, mean, rstd, with_silu, with_add, add, gx, per_image):
    """Take one group of an image back per block, read as _norm_silu reads it.

    Each thread sums over pixels of one channel, the block over all.
    """
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
        per_image[n, 0, c], per_image[n, 1, c] = total_x, total
    cuda.syncthreads()
    own, count = (scale[c] if t < size else ZERO), x.dtype.type(L * size)
    mean_g, mean_gx = _add_up(own * total, box) / count, _add_up(own * total_x, box_x) / count
    for i in range(t // size, L, pixels):
        gv, x_hat = _through_silu(g[n, i, c], x[n, i, c], scale[c], shift[c], m, r, with_silu)
        step = r * (scale[c] * gv - mean_g - x_hat * mean_gx)
        gx[n, i, c] = step + add[n, i, c] if with_add else step


def _rows(kernel, *arrays):
    """Run a kernel with one block per row, a row being the last axis -> Array like the first"""
    arrays = _alike(*arrays)
    fits = all(a.shape == arrays[0].shape for a in arrays) and arrays[0].size > 0
    _require(fits, kernel.py_func.__name__[1:], *arrays)
    y, L = cuda_array.empty(arrays[0].shape, arrays[0].dtype), arrays[0].shape[-1]
    threads = min(cuda_array.THREADS, 32 * -(-L // 32))
    kernel[y.size // L, threads](*(a.nd(-1, L) for a in arrays), y.nd(-1, L))
    return y


@cuda.jit(device=True)
def _top_and_total(x, n, box):
    """Find the largest number of row n, and the sum of exp(x - largest), with one block

    -> both, to every thread
    """
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
    """Fill one row per block; neighbours read neighbours."""
    n, box = cuda.blockIdx.x, cuda.shared.array(_MOST, x.dtype)
    top, total = _top_and_total(x, n, box)
    for j in range(cuda.threadIdx.x, x.shape[1], cuda.blockDim.x):
        y[n, j] = exp(x[n, j] - top) / total


def log_softmax(x):
    return _rows(_log_softmax, x)


@cuda.jit
def _log_softmax(x, y):
    """Fill one row per block; neighbours read neighbours."""
    n, box = cuda.blockIdx.x, cuda.shared.array(_MOST, x.dtype)
    top, total = _top_and_total(x, n, box)
    total = log(total)
    for j in range(cuda.threadIdx.x, x.shape[1], cuda.blockDim.x):
        y[n, j] = x[n, j] - top - total


def softmax_grad(g, y):
    return _rows(_softmax_grad, g, y)


@cuda.jit
def _softmax_grad(g, y, gx):
    """Fill one row per block; neighbours read neighbours."""
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
    _require(q.shape == k.shape == v.shape and q.ndim == 3, "attention", q, k, v)
    return matmul(_weights(q, k)[0], v)


def attention_grad(g, q, k, v):
    g, q, k, v = _alike(g, q, k, v)
    fits = g.shape == q.shape == k.shape == v.shape and q.ndim == 3
    _require(fits, "attention_grad", g, q, k, v)
    p, root = _weights(q, k)
    gs = softmax_grad(matmul(g, v.swapaxes(1, 2)), p) * root
    return matmul(gs, k), matmul(gs.swapaxes(1, 2), q), matmul(p.swapaxes(1, 2), g)


# --- tables, joining ---


def concat(*xs):
    xs, first = _alike(*xs), 0
    _require(all(x.shape[:-1] == xs[0].shape[:-1] for x in xs), "concat", *xs)
    y = cuda_array.empty((*xs[0].shape[:-1], sum(x.shape[-1] for x in xs)), xs[0].dtype)
    rows = max(1, math.prod(y.shape[:-1]))
    for k in range(0, len(xs), TOGETHER):
        some = [x.nd(rows, x.shape[-1]) for x in xs[k : k + TOGETHER]]
        rest = [some[-1]] * (TOGETHER - len(some))
        largest = max(x.size for x in some)
        _launch(_place, largest, (*some, *rest), len(some), first, y.nd(rows, y.shape[-1]))
        first += sum(x.shape[-1] for x in xs[k : k + TOGETHER])
    return y


@cuda.jit
def _place(xs, count, first, y):
    """Copy the first arrays of a tuple into the columns of y from `first` on, side by side.

    Each in turn, one element per thread; neighbours read and write neighbours.
    """
    for k in range(count):
        x = xs[k]
        C = x.shape[1]
        for i in range(cuda.grid(1), x.shape[0] * C, cuda.gridsize(1)):
            y[i // C, first + i % C] = x[i // C, i % C]
        first += C


def _indices(i, M):
    """Move the indices of a table's M rows to the device.

    Raises IndexError where one that comes from the host is not in 0 .. M - 1.
    """
    if not isinstance(i, Array) and np.size(i) and not 0 <= np.min(i) <= np.max(i) < M:
        got = f"{np.min(i)} .. {np.max(i)}"
        raise IndexError(f"a table of {M} rows: expected indices in 0 .. {M - 1}, got {got}")
    return cuda_array.array(i)


def take(table, i):
    table, i = cuda_array.array(table), _indices(i, len(table))
    _require(table.ndim == 2, "take", table, i)
    y = cuda_array.empty((*i.shape, table.shape[1]), table.dtype)
    _launch(_take, y.size, table.nd(*table.shape), i.flat, y.nd(-1, table.shape[1]))
    return y


@cuda.jit
def _take(table, i, y):
    """Fill y, one element per thread; neighbours read neighbours of one row."""
    E = y.shape[1]
    for n in range(cuda.grid(1), y.shape[0] * E, cuda.gridsize(1)):
        y[n // E, n % E] = table[i[n // E], n % E]


def take_grad(g, i, M):
    g, i = cuda_array.array(g), _indices(i, M)
    _require(g.ndim == 2 and i.shape == g.shape[:1], "take_grad", g, i)
    table = cuda_array.empty((M, g.shape[1]), g.dtype)
    _launch(_take_grad, table.size, g.nd(*g.shape), i.flat, table.nd(*table.shape))
    return table


@cuda.jit
def _take_grad(g, i, table):
    """Fill the table, one element per thread, each looking through all of i.

    So no two threads add to one element; neighbours read neighbours.
    """
    M, E = table.shape
    for n in range(cuda.grid(1), M * E, cuda.gridsize(1)):
        total = ZERO
        for k in range(g.shape[0]):
            if i[k] == n // E:
                total += g[k, n % E]
        table[n // E, n % E] = total


# --- the optimiser ---

# Where the norm is NaN, 1.
_shortened = _elementwise(lambda largest, norm: largest / norm if norm > largest else ONE)
_root = _elementwise(lambda a, same: sqrt(a))


def _require_device(name, *arrays):
    """Refuse arrays that are not on the device, or not of one shape (P,)."""
    if not all(isinstance(a, Array) for a in arrays):
        advice = "give kernels.array(x), which lies on the GPU, and keep that"
        raise HostOnly(f"a change in place of arrays on the host: {advice}")
    fits = all(a.shape == arrays[0].shape for a in arrays) and arrays[0].ndim == 1
    _require(fits, name, *arrays)


def clip_norm(g, largest):
    _require_device("clip_norm", g)
    norm = (g * g).sum()
    norm = _root(norm, norm)
    g[:] = g * _shortened(largest, norm)
    return norm


def adam_step(theta, g, m, v, k, lr, beta1, beta2, eps, decay):
    g = cuda_array.array(g)
    _require_device("adam_step", theta, g, m, v)
    unused, finite = cuda_array.empty(theta.shape, theta.dtype), theta[:1] ** 0
    _step(theta, g, m, v, unused, k, lr, beta1, beta2, eps, decay, 0.0, finite)


def ema_step(ema, theta, keep):
    _require_device("ema_step", ema, theta)
    ema[:] = ema * keep + theta * (1 - keep)


def update(theta, g, m, v, ema, k, lr, beta1, beta2, eps, decay, largest, keep):
    _require_device("update", theta, g, m, v, ema)
    norm = clip_norm(g, largest)
    _step(theta, g, m, v, ema, k, lr, beta1, beta2, eps, decay, keep, norm)
    return norm


def _step(theta, g, m, v, ema, k, lr, beta1, beta2, eps, decay, keep, norm):
    rates = lr, beta1, 1 - beta1, beta2, 1 - beta2, eps, decay, keep, 1 - keep
    unbias = 1 / (1 - beta1**k), 1 / (1 - beta2**k)
    numbers = [theta.dtype.type(a) for a in (*rates, *unbias)]
    _launch(_adam_ema, theta.size, *(a.flat for a in (theta, g, m, v, ema, norm)), *numbers)


@cuda.jit
def _adam_ema(
    theta, g, m, v, ema, norm,
    lr, beta1, rest1, beta2, rest2, eps, decay, keep, rest, unbias1, unbias2,
):  # fmt: skip
    """Update one parameter per thread, all five arrays in one pass; neighbours read neighbours.

    Nothing changes where the gradient's norm is not finite.
    """
    if not math.isfinite(norm[0]):
        return
    for i in range(cuda.grid(1), theta.size, cuda.gridsize(1)):
        m[i] = beta1 * m[i] + rest1 * g[i]
        v[i] = beta2 * v[i] + rest2 * g[i] * g[i]
        theta[i] -= lr * (m[i] * unbias1 / (sqrt(v[i] * unbias2) + eps) + decay * theta[i])
        ema[i] = keep * ema[i] + rest * theta[i]


# --- the diffusion tower's own ---


class Noise(Array):
    """Normal random numbers defined by a key (counter-based), times a factor.

    denoise_step draws them as it needs them; used otherwise, they are written to memory.
    """

    __slots__ = ("key", "factor", "written")

    def __init__(self, key, shape, dtype, factor=1.0):
        self.key, self.shape, self.factor = key, shape, np.dtype(dtype).type(factor)

    dtype = property(lambda self: self.factor.dtype)
    size = property(lambda self: math.prod(self.shape))
    base, walk = property(lambda self: self._write().flat), None
    memory = property(lambda self: self._write().memory)

    def _write(self):
        if not hasattr(self, "written"):
            self.written = cuda_array.empty(self.shape, self.dtype)
            _launch(_normal, self.size, *self.key, self.factor, self.written.flat)
        return self.written

    def __mul__(a, b):
        if isinstance(b, Array) or np.ndim(b) > 0:
            return Array.__mul__(a, b)
        return Noise(a.key, a.shape, a.dtype, a.factor * a.dtype.type(b))

    __rmul__ = __mul__


def normal(rng, shape, dtype):
    if not isinstance(rng, np.random.Generator):  # streams.Streams: the same bits in any batch
        return array(rng.standard_normal(shape, dtype))
    key = int(rng.integers(2**63))
    return Noise((key % 2**32, key // 2**32), tuple(shape), dtype)


@cuda.jit(device=True)
def _philox(i, key0, key1):
    """Mix a counter i and a key into random bits, in ten rounds of multiplication.

    In each, the high and the low half of a product go separate ways.
    -> two whole numbers below 2^32, as good as independent for any two i
    Source: Salmon et al. 2011 (Philox4x32-10).
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
    """Draw the i-th normal number of a key: two uniform ones, by Box and Muller's formula."""
    unit, turn = np.float32(2**-32), np.float32(2 * math.pi * 2**-32)
    a, b = _philox(i, key0, key1)
    radius = sqrt(np.float32(-2) * log((np.float32(a) + ONE) * unit))
    return radius * cos(np.float32(b) * turn)


@cuda.jit
def _normal(key0, key1, factor, y):
    """Write one number per thread, the i-th whichever draws it; neighbours write neighbours."""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = factor * _draw(i, key0, key1)


def denoise_step(x_t, eps_hat, z, alpha_bar, c0, ct, std, clip):
    x_t = cuda_array.array(x_t)
    eps_hat, y = cuda_array.array(eps_hat, x_t.dtype), cuda_array.empty(x_t.shape, x_t.dtype)
    fits = eps_hat.shape == x_t.shape and getattr(z, "shape", ()) in ((), x_t.shape)
    _require(fits, "denoise_step", x_t, eps_hat, z)
    numbers = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar), c0, ct, std, clip
    numbers = [x_t.dtype.type(a) for a in numbers]
    arrays = x_t.flat, eps_hat.flat
    if isinstance(z, Noise) and (z.shape, z.dtype) == (x_t.shape, x_t.dtype):
        _launch(_denoise_step_noise, y.size, *arrays, *z.key, z.factor, *numbers, y.flat)
        return y
    z = cuda_array.array(z, x_t.dtype)
    z = z if z.shape == x_t.shape else x_t**0 * z
    _launch(_denoise_step, y.size, *arrays, z.flat, *numbers, y.flat)
    return y


@cuda.jit(device=True)
def _denoised(x_t, eps_hat, z, signal, noise, c0, ct, std, clip):
    x0_hat = (x_t - noise * eps_hat) / signal
    x0_hat = clip if x0_hat > clip else -clip if x0_hat < -clip else x0_hat
    return c0 * x0_hat + ct * x_t + std * z


@cuda.jit
def _denoise_step(x_t, eps_hat, z, signal, noise, c0, ct, std, clip, y):
    """Update one number per thread; neighbours read neighbours."""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = _denoised(x_t[i], eps_hat[i], z[i], signal, noise, c0, ct, std, clip)


@cuda.jit
def _denoise_step_noise(x_t, eps_hat, key0, key1, factor, signal, noise, c0, ct, std, clip, y):
    """Update as _denoise_step, but draw z here, so that it never lies in memory."""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        z = factor * _draw(i, key0, key1)
        y[i] = _denoised(x_t[i], eps_hat[i], z, signal, noise, c0, ct, std, clip)


def posterior_mean(x_t, data, alpha_bar):
    x_t = cuda_array.array(x_t)
    data, f = cuda_array.array(data, x_t.dtype), x_t.dtype.type
    fits = x_t.ndim == 2 and x_t.shape[1:] == data.shape[1:] and x_t.size > 0 and data.size > 0
    _require(fits, "posterior_mean", x_t, data)
    scores = cuda_array.empty((len(x_t), len(data)), x_t.dtype)
    signal, factor = f(np.sqrt(alpha_bar)), f(-0.5 / (1 - alpha_bar))
    arrays, size = (x_t.nd(*x_t.shape), data.nd(*data.shape)), (len(data), len(x_t))
    _log_likelihood[size, cuda_array.THREADS](*arrays, signal, factor, scores.nd(*scores.shape))
    return matmul(softmax(scores), data)


@cuda.jit
def _log_likelihood(x_t, data, signal, factor, scores):
    """Compare one pair of images per block; neighbours read neighbouring numbers of both."""
    m, n, t = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
    box = cuda.shared.array(_MOST, x_t.dtype)
    total = ZERO
    for i in range(t, x_t.shape[1], cuda.blockDim.x):
        away = x_t[n, i] - signal * data[m, i]
        total += away * away
    total = _add_up(total, box)
    if t == 0:
        scores[n, m] = factor * total
