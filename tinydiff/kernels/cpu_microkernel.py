"""The innermost loop of every convolution and matrix product on the CPU, in LLVM's vector types.

A sum of outer products, y[p, v] = sum_k a[p, k] b[k, v], for a block of P x V numbers of y. Added
to many times and stored once, the block lives in vector registers; each step needs one row of b
and P single numbers of a for P V multiply-adds. Loops in plain Python for Numba do the same sums,
but there LLVM decides whether the block stays in registers. On two AVX2 cores
(tests/bench/ladder.py): plain blocked loops 150 GF/s, this 195, NumPy's matrix product 184.

For 8-wide vectors, 4 x 16 numbers are 8 of 16 registers: enough sums in flight to hide the delay of
a multiply-add (4 cycles, two per cycle), with registers left for b and a.
"""

import math
import platform
from functools import partial

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from .cpu_cache import Cache
from .cpu_threads import guarded

V = 16  # columns of a block, neighbours in memory


def _rows():
    """Choose P, the rows of a block: as many as registers hold, with some left for b and a -> int

    x86-64 has 32 registers of 16 numbers with AVX-512, 16 of 8 with AVX, 16 of 4 without; 64-bit
    ARM 32 of 4. What counts is what Numba compiles for, see NUMBA_CPU_FEATURES.
    """
    asked = config.CPU_FEATURES
    features = get_host_cpu_features().flatten() if asked is None else asked
    if "+avx512f" in features:
        return 8
    return 4 if "+avx" in features or platform.machine() not in ("x86_64", "AMD64") else 2


P = _rows()


def _compile(f, parallel):
    """Compile a loop of the cpu kernels. parallel: share out its prange -> the compiled function

    Of the fastmath flags only "contract" (a * b + c in one instruction): "reassoc" would let LLVM
    choose the order of sums, and it chose differently when a kernel was read from Numba's cache.
    """
    kernel = njit(parallel=parallel, fastmath={"contract"}, error_model="numpy")(f)
    if hasattr(kernel, "_cache"):  # with NUMBA_DISABLE_JIT it is f itself
        kernel._cache = Cache(f)
    return guarded(kernel) if parallel else kernel


jit, parallel = partial(_compile, parallel=False), partial(_compile, parallel=True)
inline = njit(inline="always", fastmath={"contract"})


@intrinsic(prefer_literal=True)
def sum_outer_products(
    typing, P, V, fresh, y, y0, y_p, a, a0, a_p, a_i, a_k, b, b0, b_i, b_k, I, n
):
    """Sum I n outer products into a block of y, or, unless fresh, onto what is there.

    y[y0 + p y_p + v] =
        sum_{i < I, k < n} a[a0 + p a_p + i a_i + k a_k] b[b0 + i b_i + k b_k + v],  p < P, v < V
    P, V, fresh: literal ints; y, a, b: contiguous arrays of one float type, read as flat;
    y0, a0, b0: where the block begins in each; y_p .. b_k: strides; I, n: numbers of terms; all
    ints, in elements, unchecked -> None. y must not overlap a or b.
    """
    literal = all(isinstance(number, types.IntegerLiteral) for number in (P, V, fresh))
    if not (literal and y.dtype == a.dtype == b.dtype):
        return None  # tells Numba that these argument types don't fit
    count, width = P.literal_value, V.literal_value
    of_y, of_a, of_b = ((array, *[types.int64] * n) for array, n in ((y, 2), (a, 4), (b, 3)))
    signature = types.void(P, V, fresh, *of_y, *of_a, *of_b, types.int64, types.int64)

    def generate(context, builder, signature, args):
        _, _, _, y, y0, y_p, a, a0, a_p, a_i, a_k, b, b0, b_i, b_k, I, n = args
        y, a, b = (_data(context, builder, signature.args[i], args[i]) for i in (3, 6, 11))
        scalar = context.get_value_type(signature.args[3].dtype)
        vector = ir.VectorType(scalar, width)
        undefined = ir.Constant(vector, ir.Undefined)
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
        rows = [ir.IntType(64)(p) for p in range(count)]

        def address(array, first, *terms):  # array + first + term + term ...
            for term in terms:
                first = builder.add(first, term)
            return builder.gep(array, [first])

        def as_vector(pointer):
            return builder.bitcast(pointer, vector.as_pointer())

        def load_vector(pointer):
            loaded = builder.load(as_vector(pointer))
            loaded.align = 4  # the arrays promise no more
            return loaded

        def spread(number):  # one number into every place of a vector
            one = builder.insert_element(undefined, number, ir.IntType(32)(0))
            return builder.shuffle_vector(one, undefined, everywhere)

        block = [cgutils.alloca_once(builder, vector) for _ in rows]  # LLVM makes registers of them
        y_rows = [address(y, y0, builder.mul(y_p, p)) for p in rows]
        for row, pointer in zip(block, y_rows, strict=True):
            start = ir.Constant(vector, None) if fresh.literal_value else load_vector(pointer)
            builder.store(start, row)
        with cgutils.for_range(builder, I) as outer:
            a_i0, b_i0 = builder.mul(outer.index, a_i), builder.mul(outer.index, b_i)
            with cgutils.for_range(builder, n) as inner:
                b_row = load_vector(address(b, b0, b_i0, builder.mul(inner.index, b_k)))
                a_ik = builder.add(a_i0, builder.mul(inner.index, a_k))
                for row, p in zip(block, rows, strict=True):
                    number = builder.load(address(a, a0, builder.mul(a_p, p), a_ik))
                    # contract: the product and the sum may be fused into one instruction
                    product = builder.fmul(spread(number), b_row, flags=("contract",))
                    total = builder.fadd(product, builder.load(row), flags=("contract",))
                    builder.store(total, row)
        for row, pointer in zip(block, y_rows, strict=True):
            builder.store(builder.load(row), as_vector(pointer)).align = 4
        return context.get_dummy_value()

    return signature, generate


def _data(context, builder, kind, array):
    """Find the pointer to an array's first element."""
    return context.make_array(kind)(context, builder, array).data


class Vector:
    """A vector in LLVM's registers, of which Python's operators make instructions."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    def _with(self, instruction, other):
        if not isinstance(other, Vector):
            kind = self.value.type
            other = Vector(self.builder, ir.Constant(kind, [float(other)] * kind.count))
        value = getattr(self.builder, instruction)(self.value, other.value, flags=("contract",))
        return Vector(self.builder, value)

    def __add__(self, other):
        return self._with("fadd", other)

    def __sub__(self, other):
        return self._with("fsub", other)

    def __mul__(self, other):
        return self._with("fmul", other)

    __rmul__ = __mul__


def on_rows(transform, count):
    """Compile a function of `count` numbers for V columns at once.

    What comes out of it has the signature of `apply` below: it reads `count` rows of a, each V
    neighbours, and writes to y a row for each number that the function returns, or the first
    `writes` of them. Rows of a before `first` or from `last` on are not read, they count as 0. All
    is read before anything is written. LLVM alone would work one by one, for fear that the arrays
    overlap.
    transform: Python function of Vectors -> tuple of Vectors
    """

    @intrinsic(prefer_literal=True)
    def apply(typing, V, y, y0, y_step, writes, a, a0, a_step, first, last):
        """y[y0 + k y_step + v] = transform(a[a0 + v], a[a0 + a_step + v], ...)[k],  v < V

        V: literal int; y, a: contiguous arrays of one float type, read as flat; the rest: ints, in
        elements, unchecked -> None
        """
        if not (isinstance(V, types.IntegerLiteral) and y.dtype == a.dtype):
            return None
        ints = [types.int64] * 3

        def generate(context, builder, signature, args):
            _, to, y0, y_step, writes, source, a0, a_step, first, last = args
            vector = ir.VectorType(context.get_value_type(y.dtype), V.literal_value)
            zeros = cgutils.alloca_once_value(builder, ir.Constant(vector, None))

            def place(kind, array, start, step, k):
                index = builder.add(start, builder.mul(step, ir.IntType(64)(k)))
                pointer = builder.gep(_data(context, builder, kind, array), [index])
                return builder.bitcast(pointer, vector.as_pointer())

            rows = []
            for k in range(count):
                number = ir.IntType(64)(k)
                after = builder.icmp_signed("<=", first, number)
                inside = builder.and_(after, builder.icmp_signed("<", number, last))
                row = builder.load(builder.select(inside, place(a, source, a0, a_step, k), zeros))
                row.align = 4  # the arrays promise no more
                rows.append(Vector(builder, row))
            for k, row in enumerate(transform(*rows)):
                with builder.if_then(builder.icmp_signed("<", ir.IntType(64)(k), writes)):
                    builder.store(row.value, place(y, to, y0, y_step, k)).align = 4
            return context.get_dummy_value()

        return types.void(V, y, *ints, a, *ints, types.int64), generate

    return apply


@jit
def aligned(a):
    """Leave out the first numbers of a flat array, up to a whole line of the cache (64 bytes).

    A vector that lies across two lines takes twice as long to read and to write.
    """
    return a[-a.ctypes.data % 64 // a.itemsize :]


def whole_blocks(a):
    """Pad a's last axis with zeros to whole blocks: (..., O) -> contiguous (..., multiple of V)"""
    missing = -a.shape[-1] % V
    if missing:
        a = np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, missing)])
    return np.ascontiguousarray(a)


def empty(shape, dtype):
    """Make an array as np.empty does, but one that begins with a line of the cache."""
    size, dtype = math.prod(shape), np.dtype(dtype)
    flat = np.empty(size + 64 // dtype.itemsize, dtype)
    first = -flat.ctypes.data % 64 // dtype.itemsize
    return flat[first : first + size].reshape(shape)


@intrinsic(prefer_literal=True)
def copy_row(typing, V, y, y0, a, a0):
    """Copy V neighbours at once, y[y0 + v] = a[a0 + v].

    LLVM alone would move them one by one, for fear that the arrays overlap.
    V: literal int; y, a: contiguous arrays of one float type, read as flat; y0, a0: ints, unchecked
    -> None
    """
    if not (isinstance(V, types.IntegerLiteral) and y.dtype == a.dtype):
        return None

    def generate(context, builder, signature, args):
        _, to, y0, source, a0 = args
        vector = ir.VectorType(context.get_value_type(y.dtype), V.literal_value)
        pointers = []
        for kind, array, first in ((y, to, y0), (a, source, a0)):
            place = builder.gep(_data(context, builder, kind, array), [first])
            pointers.append(builder.bitcast(place, vector.as_pointer()))
        row = builder.load(pointers[1])
        row.align = builder.store(row, pointers[0]).align = 4  # the arrays promise no more
        return context.get_dummy_value()

    return types.void(V, y, types.int64, a, types.int64), generate
