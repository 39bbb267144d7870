"""Memory on the graphics card: an Array that stays there, and what + - * /, sums and slices are there.

How all kernels here and in cuda.py are written:
- a kernel is run by thousands of threads at once, and thread i of T does elements i, i + T, i + 2T, ... (a "grid-stride loop");
- neighbouring threads work on neighbouring elements along the last axis: 32 of them, a warp, read one stretch of memory together
  (their reads "coalesce"), which is many times faster than 32 stretches;
- no two threads add to one number, so no order of threads can change a bit of the result; no atomics;
- constants beside float32 numbers are float32 (`ONE`): with a Python number Numba would go on in float64.
All runs on one stream, in the order of the calls, while Python goes on; only np.asarray(x), float(x) and x[:] = host array wait.
"""

import math
from collections import Counter, defaultdict
from functools import lru_cache

import numpy as np
from numba import config, cuda

from . import HostOnly

SIMULATED = bool(
    config.ENABLE_CUDASIM
)  # each thread is a Python thread then: few of them, but several, in several blocks
THREADS, BLOCKS, ADDS = (
    (4, 2, 3) if SIMULATED else (256, 4096, 64)
)  # threads a block; most blocks; numbers that one thread adds up
ONE, ZERO = np.float32(1), np.float32(0)
for settings in (
    config,
    getattr(getattr(cuda, "core", None), "config", config),
):  # numba's, and numba-cuda's own
    settings.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # small arrays are no mistake

exp, log, sqrt, cos = (
    (np if SIMULATED else math).__dict__[name] for name in ("exp", "log", "sqrt", "cos")
)  # math's give Python's floats

traffic = Counter()  # "in", "out": how often memory was copied to the device and back


def require():
    """Raise RuntimeError, and say what to do, where there is no device to run on."""
    if not cuda.is_available():
        raise RuntimeError(
            "no NVIDIA GPU that numba can use: install its driver and `pip install tinydiff[cuda12]` (or cuda13, as the driver is), "
            "or set NUMBA_ENABLE_CUDASIM=1 to run the same kernels, very slowly, in numba's simulator"
        )
    try:
        _number(1.0, np.dtype(np.float32))
    except Exception as e:  # the compiler's, the driver's: they have many
        why = (str(e).strip() or type(e).__name__).splitlines()[0]
        raise RuntimeError(
            f"there is a GPU, but numba cannot compile for it ({why}): `pip install tinydiff[cuda12]`, or cuda13, whichever "
            "the driver is for (nvidia-smi says), and `python -m tinydiff doctor` to see what is found"
        ) from None


def launch(kernel, n, *args):
    """Run a kernel on about as many threads as there are elements, n."""
    if n:
        kernel[min(-(-n // THREADS), BLOCKS), THREADS](*args)


# --- memory ---


class _Memory:
    """A stretch of device memory. When nobody refers to it any more it waits in the pool for the next array of its size.

    That is safe without waiting for the device: whoever gets it next also works on it later, on the same stream.
    """

    __slots__ = ("data",)
    pool = defaultdict(list)  # (size, dtype) -> device arrays

    def __init__(self, size, dtype):
        free = self.pool[size, dtype]
        self.data = free.pop() if free else self._allocate(size, dtype)

    def __del__(self, pool=pool):
        pool[self.data.size, self.data.dtype].append(self.data)

    def _allocate(self, size, dtype):
        try:
            return cuda.device_array(size, dtype)
        except (
            Exception
        ):  # the driver's own error, when memory is full: of arrays of other sizes, perhaps
            if not any(self.pool.values()):
                raise
            self.pool.clear()
            return cuda.device_array(size, dtype)


def empty(shape, dtype):
    """Reserve an Array without filling it. shape: tuple -> Array of that shape"""
    memory = _Memory(math.prod(shape), np.dtype(dtype))
    return Array(tuple(shape), memory.data, memory)


def array(x, dtype=None):
    """Bring an array to the device, unless it is there. x: Array, or anything np.asarray takes -> Array, in dtype or its own"""
    if isinstance(x, Array):
        return x if dtype is None else x.astype(dtype)
    x = np.asarray(x, dtype)
    y = empty(x.shape, x.dtype)
    y[:] = x
    return y


@lru_cache(4096)
def _number(value, dtype):
    """Write a number to the device, by a kernel, not by a copy -> Array ()"""
    y = empty((), dtype)
    _fill[1, 1](y.flat, dtype.type(value))
    return y


@cuda.jit
def _fill(y, value):
    """One thread an element: y = value."""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = value


# --- shapes and steps ---


def _steps(shape):
    """How far apart neighbours along each axis lie: (H, W, C) -> [W C, C, 1]"""
    return [math.prod(shape[k + 1 :]) for k in range(len(shape))]


def _spread(shape, onto):
    """The steps of an array that is repeated to fill the shape `onto`: 0 along the axes where it is."""
    return [0] * (len(onto) - len(shape)) + [
        0 if n == 1 else step for n, step in zip(shape, _steps(shape), strict=True)
    ]


def _merged(shape, *steps):
    """Join the axes that all arrays walk through as one -> (shape, steps of the first, ...), tuples, of as few axes as possible."""
    axes = []
    for n, *step in zip(shape, *steps, strict=True):
        if axes and all(a == b * n for a, b in zip(axes[-1][1:], step, strict=True)):
            axes[-1] = [axes[-1][0] * n, *step]
        elif n != 1:
            axes.append([n, *step])
    return tuple(zip(*axes or [[1, *(1 for _ in steps)]], strict=True))


@cuda.jit
def _gather(x, start, shape, steps, y):
    """One thread an element of y, found in x by its steps; neighbours write neighbours, and read them where the last step is 1."""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        rest, at = i, start
        for k in range(len(shape) - 1, 0, -1):
            at += rest % shape[k] * steps[k]
            rest //= shape[k]
        y[i] = x[at + rest * steps[0]]


@cuda.jit
def _sum(x, y):
    """x (A, B, C), y (A, S, C): one thread a sum, of every S-th element along B; neighbours along C, then along S, read neighbours."""
    (A, S, C), B = y.shape, x.shape[1]
    for i in range(cuda.grid(1), A * S * C, cuda.gridsize(1)):
        a, s, c = i // (S * C), i // C % S, i % C
        total = x[a, s, c]
        for b in range(s + S, B, S):
            total += x[a, b, c]
        y[a, s, c] = total


def elementwise(f):
    """Make a function of two numbers into one of two arrays, with broadcasting. f: (a, b) -> number, compiled into the kernel"""
    f = cuda.jit(device=True)(f)

    @cuda.jit
    def kernel(a, b, shape, a_steps, b_steps, y):
        """One thread an element of y, found in a and b by their steps; neighbours read neighbours, or one number together."""
        for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
            rest, at_a, at_b = i, 0, 0
            for k in range(len(shape) - 1, 0, -1):
                j = rest % shape[k]
                rest //= shape[k]
                at_a += j * a_steps[k]
                at_b += j * b_steps[k]
            y[i] = f(a[at_a + rest * a_steps[0]], b[at_b + rest * b_steps[0]])

    def apply(a, b):
        a, b = (x if isinstance(x, Array) or np.ndim(x) == 0 else array(x) for x in (a, b))
        dtype = np.result_type(
            *(x.dtype for x in (a, b) if isinstance(x, Array))
        )  # a number takes on the array's precision
        a, b = (x if isinstance(x, Array) else _number(float(x), dtype) for x in (a, b))
        shape = np.broadcast_shapes(a.shape, b.shape)
        y = empty(shape, dtype)
        launch(
            kernel,
            y.size,
            a.flat,
            b.flat,
            *_merged(shape, _spread(a.shape, shape), _spread(b.shape, shape)),
            y.flat,
        )
        return y

    apply.kernel = kernel
    return apply


_add, _sub = elementwise(lambda a, b: a + b), elementwise(lambda a, b: a - b)
_mul, _div = elementwise(lambda a, b: a * b), elementwise(lambda a, b: a / b)
_least, _most = (
    elementwise(lambda a, b: b if a > b else a),
    elementwise(lambda a, b: b if a < b else a),
)  # not a number stays that


class Array:
    """An array on the device: what the operations need of NumPy's, with the same meaning; anything else is an error, not a hidden copy.

    shape: tuple; flat: its memory as a kernel takes it, (size,), contiguous, last axis fastest; np.asarray(x) copies it to the host.
    reshape, and slices of the first axis, share memory; other slices and swapaxes copy.
    """

    __slots__ = ("shape", "flat", "memory")

    def __init__(self, shape, flat, memory):
        self.shape, self.flat, self.memory = shape, flat, memory

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: self.flat.size)
    dtype = property(lambda self: self.flat.dtype)

    def __array_ufunc__(self, f, method, *args, **kwargs):
        ours = {
            np.add: "add",
            np.subtract: "sub",
            np.multiply: "mul",
            np.divide: "truediv",
            np.matmul: "matmul",
        }
        if f not in ours or method != "__call__" or kwargs:
            _refuse(f"np.{f.__name__}")
        a, b = args  # of `numpy array * Array`, and so on
        return (
            getattr(a, f"__{ours[f]}__")(b)
            if isinstance(a, Array)
            else getattr(b, f"__r{ours[f]}__")(a)
        )

    def __array_function__(self, f, types, args, kwargs):
        _refuse(f"np.{f.__name__}")

    def __getattr__(self, name):
        _refuse(f".{name}")

    def __array__(self, dtype=None, copy=None):
        traffic["out"] += 1
        return self.flat.copy_to_host().reshape(self.shape).astype(dtype or self.dtype, copy=False)

    def __float__(self):
        return float(np.asarray(self).item())

    def __len__(self):
        return self.shape[0]

    def __repr__(self):
        return f"Array({np.asarray(self)!r})"

    # shape

    def nd(self, *shape):
        """This memory in the shape that a kernel wants, one length being -1 where it follows -> device array"""
        return self.flat.reshape(self._complete(shape))

    def _complete(self, shape):
        known = -math.prod(shape)
        return (
            tuple(self.size // known if n == -1 else int(n) for n in shape)
            if -1 in shape
            else shape
        )

    def reshape(self, *shape):
        shape = self._complete(
            tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
        )
        if math.prod(shape) != self.size:
            raise ValueError(f"cannot reshape array of shape {self.shape} into shape {shape}")
        return Array(shape, self.flat, self.memory)

    def swapaxes(self, i, j):
        axes = list(range(self.ndim))
        axes[i], axes[j] = axes[j], axes[i]
        steps = _steps(self.shape)
        return self._view(0, [self.shape[k] for k in axes], [steps[k] for k in axes])

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        if not all(isinstance(k, int | np.integer | slice) or k is Ellipsis for k in index):
            _refuse("indexing by anything but whole numbers and slices")
        if Ellipsis in index:
            k = index.index(Ellipsis)
            index = index[:k] + (slice(None),) * (self.ndim - len(index) + 1) + index[k + 1 :]
        start, shape, steps = 0, [], []
        for k, n, step in zip(
            index + (slice(None),) * (self.ndim - len(index)),
            self.shape,
            _steps(self.shape),
            strict=True,
        ):
            picked = range(n)[k] if isinstance(k, slice) else range(n)[k : k + 1 or None]
            start += picked.start * step
            if isinstance(k, slice):
                shape.append(len(picked))
                steps.append(picked.step * step)
        return self._view(start, shape, steps)

    def _view(self, start, shape, steps):
        """The elements at start + a multiple of each step: in place where they lie side by side, else copied."""
        shape = tuple(shape)
        merged = _merged(shape, steps)
        if len(merged[0]) == 1 and merged[1] == (1,):
            return Array(shape, self.flat[start : start + math.prod(shape)], self.memory)
        y = empty(shape, self.dtype)
        launch(_gather, y.size, self.flat, start, *merged, y.flat)
        return y

    def astype(self, dtype, copy=False):
        if self.dtype == dtype and not copy:
            return self
        y = empty(self.shape, dtype)
        launch(_gather, y.size, self.flat, 0, (y.size,), (1,), y.flat)
        return y

    def copy(self):
        return self.astype(self.dtype, copy=True)

    def __setitem__(self, index, value):
        if index != slice(None) or self.shape != value.shape:
            raise ValueError(
                f"only x[:] = y can be set, y of the same shape {self.shape}; got {getattr(value, 'shape', value)}"
            )
        if isinstance(value, Array):
            launch(_gather, self.size, value.flat, 0, (self.size,), (1,), self.flat)
        else:
            traffic["in"] += 1
            self.flat.copy_to_device(np.ascontiguousarray(value, self.dtype).reshape(-1))

    # arithmetic

    def __pow__(a, n):
        return a * a if n == 2 else _refuse(f"** {n}")

    def __add__(a, b):
        return _add(a, b)

    def __sub__(a, b):
        return _sub(a, b)

    def __mul__(a, b):
        return _mul(a, b)

    def __truediv__(a, b):
        return _div(a, b)

    def __rsub__(a, b):
        return _sub(b, a)

    def __rtruediv__(a, b):
        return _div(b, a)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(a):
        return _mul(a, -1)

    def clip(self, low, high):
        return _most(_least(self, high), low)

    def sum(self, axis=None, keepdims=False):
        """Add up, in stages in which each thread adds at most ADDS numbers; two suffice up to ADDS^2 of them."""
        if axis is None:
            return self.reshape(-1).sum(0)
        if isinstance(axis, tuple):
            x = self
            for k in sorted((k % self.ndim for k in axis), reverse=True):
                x = x.sum(k, keepdims)
            return x
        axis %= self.ndim
        A, B, C = math.prod(self.shape[:axis]), self.shape[axis], math.prod(self.shape[axis + 1 :])
        x = self
        while B > 1:
            S = -(-B // ADDS)
            y = empty((A, S, C), self.dtype)
            launch(_sum, y.size, x.nd(A, B, C), y.nd(A, S, C))
            x, B = y, S
        return x.reshape(*self.shape[:axis], *((1,) if keepdims else ()), *self.shape[axis + 1 :])

    def mean(self, axis=None, keepdims=False):
        total = self.sum(axis, keepdims)
        return total / (self.size // total.size)


def _refuse(what):
    raise HostOnly(
        f"{what} of arrays works on the host, not on a graphics card: give it np.asarray(x), which copies x there"
    )


for _name in (
    "lt",
    "le",
    "gt",
    "ge",
    "eq",
    "ne",
    "abs",
    "mod",
    "floordiv",
    "iter",
    "bool",
):  # without these Python has answers of its own
    setattr(
        Array,
        f"__{_name}__",
        lambda *args, _name=_name: _refuse(
            {"iter": "a loop over rows", "bool": "a truth value"}.get(_name, _name)
        ),
    )
