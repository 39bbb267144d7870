"""Arrays in GPU memory, and their operators, sums and slices.

How all kernels here and in cuda.py are written:
- a kernel is run by thousands of threads at once, and thread i of T processes elements i, i + T,
  i + 2T, ... (a "grid-stride loop");
- neighbouring threads work on neighbouring elements along the last axis: 32 of them, a warp, read
  one stretch of memory together (their reads "coalesce"), many times faster than 32 stretches;
- no two threads add to the same element, so the order of threads cannot change a bit of the result;
  there are no atomics;
- constants in float32 arithmetic are float32 (`ONE`): a Python number would make it float64.
All kernels run on one stream, in the order of the calls, while Python continues; only
np.asarray(x), float(x) and x[:] = host array wait.
"""

import math
from collections import Counter, defaultdict
from functools import lru_cache

import numpy as np
from numba import config, cuda

from . import HostOnly

SIMULATED = bool(config.ENABLE_CUDASIM)
# Threads per block; maximum number of blocks; how many elements one thread adds up. In the
# simulator each thread is a Python thread: few of them, yet several per block and several blocks.
THREADS, BLOCKS, ADDS = (4, 2, 3) if SIMULATED else (256, 4096, 64)
# What a GPU gives a block at most, any since 2014: threads; bytes of shared memory of fixed size.
# Source: CUDA C++ Programming Guide, technical specifications per compute capability.
MOST_THREADS, MOST_SHARED = 1024, 48 << 10
ONE, ZERO = np.float32(1), np.float32(0)
for settings in (config, getattr(getattr(cuda, "core", None), "config", config)):
    settings.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # small arrays are legitimate; numba-cuda has its own

# In the simulator math's functions would return Python floats, in float64.
_functions = vars(np if SIMULATED else math)
exp, log, sqrt, cos = (_functions[name] for name in ("exp", "log", "sqrt", "cos"))

traffic = Counter()  # "in", "out": how often memory was copied to the device and back


def require():
    """Raise RuntimeError, saying what to do, if there is no device to run on."""
    if not cuda.is_available():
        raise RuntimeError(
            "no NVIDIA GPU that numba can use: install its driver and `pip install "
            "tinydiff[cuda12]` (or cuda13, to match the driver), or set NUMBA_ENABLE_CUDASIM=1 to "
            "run the same kernels, very slowly, in numba's simulator"
        )
    try:
        _number(1.0, np.dtype(np.float32))
    except Exception as e:  # compiler and driver have many kinds
        why = (str(e).strip() or type(e).__name__).splitlines()[0]
        raise RuntimeError(
            f"there is a GPU, but numba cannot compile for it ({why}): `pip install "
            "tinydiff[cuda12]`, or cuda13, to match the driver (nvidia-smi shows its version); "
            "`python -m tinydiff doctor` shows what was found"
        ) from None


def launch(kernel, n, *args):
    """Launch a kernel on about n threads, one per element; none if n is 0."""
    if n:
        kernel[min(-(-n // THREADS), BLOCKS), THREADS](*args)


# --- memory ---


class _Memory:
    """A stretch of device memory, which returns to a pool when nothing refers to it any more.

    The next array of its size and dtype takes it from there. That is safe without waiting for the
    device, since all work runs in order on one stream.
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
        except Exception:  # the driver's own; memory may be full of pooled arrays of other sizes
            if not any(self.pool.values()):
                raise
            self.pool.clear()
            return cuda.device_array(size, dtype)


def empty(shape, dtype):
    """Allocate an Array without filling it. shape: tuple -> Array of that shape"""
    memory = _Memory(math.prod(shape), np.dtype(dtype))
    return Array(tuple(shape), memory.data, memory)


def array(x, dtype=None):
    """Move an array to the device, unless it is there already.

    x: Array, or anything that np.asarray takes -> Array, of dtype, or of its own where that is None
    """
    if isinstance(x, Array):
        return x if dtype is None else x.astype(dtype)
    x = np.asarray(x, dtype)
    y = empty(x.shape, x.dtype)
    y[:] = x
    return y


@lru_cache(4096)
def _number(value, dtype):
    """Write a number to the device, by a kernel instead of a copy -> Array ()"""
    return _full((), dtype, value)


def _full(shape, dtype, value):
    """Make an Array all of whose elements are `value`. shape: tuple -> Array of that shape"""
    y = empty(shape, dtype)
    launch(_fill, y.size, y.flat, y.dtype.type(value))
    return y


@cuda.jit
def _fill(y, value):
    """Fill y with value, one element per thread."""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = value


# --- shapes and steps ---


def _steps(shape):
    """Compute how far apart neighbours along each axis are: (H, W, C) -> [W C, C, 1]"""
    return [math.prod(shape[k + 1 :]) for k in range(len(shape))]


def _spread(shape, onto):
    """Compute the steps of an array that is broadcast to the shape `onto`: 0 where repeated."""
    steps = [0 if n == 1 else step for n, step in zip(shape, _steps(shape), strict=True)]
    return [0] * (len(onto) - len(shape)) + steps


def _merged(shape, *steps):
    """Merge the axes that every array passes through like a single one.

    shape: common to all arrays; steps: of each -> (shape, steps of the first, ...), tuples, of as
    few axes as possible
    """
    axes = []
    for n, *step in zip(shape, *steps, strict=True):
        if axes and all(a == b * n for a, b in zip(axes[-1][1:], step, strict=True)):
            axes[-1] = [axes[-1][0] * n, *step]
        elif n != 1:
            axes.append([n, *step])
    return tuple(zip(*axes or [[1, *(1 for _ in steps)]], strict=True))


@cuda.jit
def _gather(x, start, shape, steps, y):
    """Copy elements of x, found by their steps, to y, one element of y per thread.

    Neighbouring threads write neighbouring elements, and read them where the last step is 1.
    """
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        rest, at = i, start
        for k in range(len(shape) - 1, 0, -1):
            at += rest % shape[k] * steps[k]
            rest //= shape[k]
        y[i] = x[at + rest * steps[0]]


@cuda.jit
def _sum(x, y):
    """Sum every S-th element along B, one sum per thread. x: (A, B, C), y: (A, S, C)

    Threads that are neighbours along C, then along S, read neighbouring elements.
    """
    (A, S, C), B = y.shape, x.shape[1]
    for i in range(cuda.grid(1), A * S * C, cuda.gridsize(1)):
        a, s, c = i // (S * C), i // C % S, i % C
        total = x[a, s, c]
        for b in range(s + S, B, S):
            total += x[a, b, c]
        y[a, s, c] = total


def elementwise(f):
    """Turn a function of two numbers into one of two arrays, with broadcasting.

    f: (a, b) -> number, compiled into the kernel
    -> function (a, b) -> Array, whose attribute `kernel` is the kernel
    """
    f = cuda.jit(device=True)(f)

    @cuda.jit
    def kernel(a, b, shape, a_steps, b_steps, y):
        """Apply f to elements of a and b, found by their steps, one element of y per thread.

        Neighbouring threads read neighbouring elements, or all of them the same one.
        """
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
        # A number takes on the array's precision.
        dtype = np.result_type(*(x.dtype for x in (a, b) if isinstance(x, Array)))
        a, b = (x if isinstance(x, Array) else _number(float(x), dtype) for x in (a, b))
        shape = np.broadcast_shapes(a.shape, b.shape)
        y = empty(shape, dtype)
        walk = _merged(shape, _spread(a.shape, shape), _spread(b.shape, shape))
        launch(kernel, y.size, a.flat, b.flat, *walk, y.flat)
        return y

    apply.kernel = kernel
    return apply


_add, _sub = elementwise(lambda a, b: a + b), elementwise(lambda a, b: a - b)
_mul, _div = elementwise(lambda a, b: a * b), elementwise(lambda a, b: a / b)
# The comparisons keep a NaN in a.
_least = elementwise(lambda a, b: b if a > b else a)
_most = elementwise(lambda a, b: b if a < b else a)


class Array:
    """An array on the device, with the part of NumPy's interface that the operations need.

    What it has means the same as in NumPy; anything else is an error, not a hidden copy.
    shape: tuple; flat: its memory as a kernel takes it, (size,), contiguous, last axis fastest.
    np.asarray(x) copies it to the host. reshape, and slices of the first axis, share memory; other
    slices and swapaxes copy, when a kernel first wants them: several in a row are one copy. Until
    then they follow the array, as NumPy's views do; what is written to them does not reach it.
    walk: of such a copy to be made: the first of its elements in `base`, and their steps, or None
    """

    __slots__ = ("shape", "base", "memory", "walk")

    def __init__(self, shape, base, memory, walk=None):
        self.shape, self.base, self.memory, self.walk = shape, base, memory, walk

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: math.prod(self.shape))
    dtype = property(lambda self: self.base.dtype)

    @property
    def flat(self):
        if self.walk:
            y, (start, steps) = empty(self.shape, self.dtype), self.walk
            launch(_gather, y.size, self.base, start, *_merged(self.shape, steps), y.base)
            self.base, self.memory, self.walk = y.base, y.memory, None
        return self.base

    def unswapped(self):
        """Give a matrix as it lies in memory -> Array, whether its last two axes were swapped"""
        shape = (*self.shape[:-2], *self.shape[:-3:-1])
        steps = _steps(shape)
        if self.walk != (0, [*steps[:-2], *steps[:-3:-1]]):
            return self, False
        return Array(shape, self.base, self.memory), True

    def unturned(self):
        """Give weights (K, K, C, O) as they lie in memory -> Array, whether they are to be turned

        Then this is w[::-1, ::-1].swapaxes(2, 3), and the Array w, (K, K, O, C).
        """
        K, _, C, O = self.shape
        if self.walk != ((K * K - 1) * C * O, [-K * C * O, -C * O, 1, C]):
            return self, False
        return Array((K, K, O, C), self.base, self.memory), True

    def __array_ufunc__(self, f, method, *args, **kwargs):
        ours = {np.add: "add", np.subtract: "sub", np.multiply: "mul"}
        ours |= {np.divide: "truediv", np.matmul: "matmul"}
        if f not in ours or method != "__call__" or kwargs:
            _refuse(f"np.{f.__name__}")
        a, b = args  # of `numpy array * Array`, and so on
        if isinstance(a, Array):
            return getattr(a, f"__{ours[f]}__")(b)
        return getattr(b, f"__r{ours[f]}__")(a)

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
        """Reshape this memory for a kernel; one length may be -1 -> device array of that shape"""
        return self.flat.reshape(self._complete(shape))

    def _complete(self, shape):
        if -1 not in shape:
            return shape
        known = -math.prod(shape)
        return tuple(self.size // known if n == -1 else int(n) for n in shape)

    def reshape(self, *shape):
        if len(shape) == 1 and isinstance(shape[0], tuple | list):
            shape = tuple(shape[0])
        shape = self._complete(shape)
        if math.prod(shape) != self.size:
            raise ValueError(f"cannot reshape array of shape {self.shape} into shape {shape}")
        return Array(shape, self.flat, self.memory)

    def swapaxes(self, i, j):
        axes = list(range(self.ndim))
        axes[i], axes[j] = axes[j], axes[i]
        start, steps = self.walk or (0, _steps(self.shape))
        return self._view(start, [self.shape[k] for k in axes], [steps[k] for k in axes])

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        if not all(isinstance(k, int | np.integer | slice) or k is Ellipsis for k in index):
            _refuse("indexing by anything but whole numbers and slices")
        if Ellipsis in index:
            k = index.index(Ellipsis)
            index = index[:k] + (slice(None),) * (self.ndim - len(index) + 1) + index[k + 1 :]
        index = index + (slice(None),) * (self.ndim - len(index))
        (start, walk), shape, steps = self.walk or (0, _steps(self.shape)), [], []
        for k, n, step in zip(index, self.shape, walk, strict=True):
            picked = range(n)[k] if isinstance(k, slice) else range(n)[k : k + 1 or None]
            start += picked.start * step
            if isinstance(k, slice):
                shape.append(len(picked))
                steps.append(picked.step * step)
        return self._view(start, shape, steps)

    def _view(self, start, shape, steps):
        """Select the elements at start + multiples of the steps: a copy, unless contiguous."""
        shape = tuple(shape)
        merged = _merged(shape, steps)
        if len(merged[0]) == 1 and merged[1] == (1,):
            return Array(shape, self.base[start : start + math.prod(shape)], self.memory)
        return Array(shape, self.base, self.memory, (start, steps))

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
            rule = f"only x[:] = y can be set, y of the same shape {self.shape}"
            raise ValueError(f"{rule}; got {getattr(value, 'shape', value)}")
        if isinstance(value, Array):
            launch(_gather, self.size, value.flat, 0, (self.size,), (1,), self.flat)
        else:
            traffic["in"] += 1
            self.flat.copy_to_device(np.ascontiguousarray(value, self.dtype).reshape(-1))

    # arithmetic

    def __pow__(a, n):
        """Compute a ** 2, or a ** 0, which is 1 even where a is infinite or NaN, as in NumPy."""
        if n == 0:
            return _full(a.shape, a.dtype, 1)
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
        """Sum along axes, in stages in which each thread adds at most ADDS elements.

        axis: int, tuple of ints, or None for all; keepdims: keep summed axes with length 1 -> Array
        Two stages suffice for up to ADDS^2 elements.
        """
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
    advice = "give it np.asarray(x), which copies x there"
    raise HostOnly(f"{what} of arrays works on the host, not on a GPU: {advice}")


# Without these methods Python would fall back on answers of its own.
for _name in "lt le gt ge eq ne abs mod floordiv iter bool".split():
    _what = {"iter": "a loop over rows", "bool": "a truth value"}.get(_name, _name)
    setattr(Array, f"__{_name}__", lambda *args, _what=_what: _refuse(_what))
