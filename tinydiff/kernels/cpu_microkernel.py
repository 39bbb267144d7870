"""The innermost loop of every convolution and matrix product on the CPU, written in LLVM's own vector types.

A sum of outer products, y[p, v] = sum_k a[p, k] b[k, v], for a block of P x V numbers of y. Added to many times and
stored once, the block lives in vector registers; each step needs one row of b and P single numbers of a for
P V multiply-adds. Loops in plain Python for Numba do the same sums, but there LLVM decides whether the block stays in
registers. On two AVX2 cores (tests/bench/ladder.py): plain blocked loops 150 GF/s, this 195, NumPy's matrix product 184.

For 8-wide vectors, 4 x 16 numbers are 8 of 16 registers: enough sums in flight to hide the delay of a multiply-add
(4 cycles, two a cycle), with registers left for b and a.

After a change in this file delete tinydiff/kernels/__pycache__: Numba's cache watches only the file of the function that it compiled.
"""

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

# How every compiled loop of the cpu kernels is compiled. Of the fastmath flags only "contract" (a * b + c in one instruction):
# "reassoc" would let LLVM choose the order of sums, and it chose differently when a kernel was read from Numba's cache.
jit = njit(cache=True, fastmath={"contract"}, error_model="numpy")
inline = njit(inline="always", fastmath={"contract"})
parallel = njit(cache=True, fastmath={"contract"}, error_model="numpy", parallel=True)


@intrinsic(prefer_literal=True)
def sum_outer_products(
    typing, P, V, fresh, y, y0, y_p, a, a0, a_p, a_i, a_k, b, b0, b_i, b_k, I, n
):
    """Sum I n outer products into a block of y, or, unless fresh, onto what is there.

    y[y0 + p y_p + v] = sum_{i < I, k < n} a[a0 + p a_p + i a_i + k a_k] b[b0 + i b_i + k b_k + v],  p < P, v < V
    P, V, fresh: literal ints; y, a, b: contiguous arrays of one float type, read as flat; y0 .. n: ints, offsets and strides
    in elements, unchecked -> None. y must not overlap a or b.
    """
    if not (
        all(isinstance(literal, types.IntegerLiteral) for literal in (P, V, fresh))
        and y.dtype == a.dtype == b.dtype
    ):
        return None  # tells Numba that these argument types don't fit
    count, width = P.literal_value, V.literal_value
    offsets = [types.int64] * 4
    signature = types.void(
        P, V, fresh, y, *offsets[:2], a, *offsets, b, *offsets[:3], types.int64, types.int64
    )

    def generate(context, builder, signature, args):
        _, _, _, y, y0, y_p, a, a0, a_p, a_i, a_k, b, b0, b_i, b_k, I, n = args
        y, a, b = (
            context.make_array(signature.args[i])(context, builder, args[i]).data
            for i in (3, 6, 11)
        )
        scalar = context.get_value_type(signature.args[3].dtype)
        vector = ir.VectorType(scalar, width)
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
            one = builder.insert_element(
                ir.Constant(vector, ir.Undefined), number, ir.IntType(32)(0)
            )
            return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), everywhere)

        block = [
            cgutils.alloca_once(builder, vector) for _ in rows
        ]  # LLVM turns these into registers
        y_rows = [address(y, y0, builder.mul(y_p, p)) for p in rows]
        for row, pointer in zip(block, y_rows, strict=True):
            builder.store(
                ir.Constant(vector, None) if fresh.literal_value else load_vector(pointer), row
            )
        with cgutils.for_range(builder, I) as outer:
            a_i0, b_i0 = builder.mul(outer.index, a_i), builder.mul(outer.index, b_i)
            with cgutils.for_range(builder, n) as inner:
                b_row = load_vector(address(b, b0, b_i0, builder.mul(inner.index, b_k)))
                a_ik = builder.add(a_i0, builder.mul(inner.index, a_k))
                for row, p in zip(block, rows, strict=True):
                    number = builder.load(address(a, a0, builder.mul(a_p, p), a_ik))
                    product = builder.fmul(
                        spread(number), b_row, flags=("contract",)
                    )  # contract: fuse the two into one instruction
                    builder.store(
                        builder.fadd(product, builder.load(row), flags=("contract",)), row
                    )
        for row, pointer in zip(block, y_rows, strict=True):
            builder.store(builder.load(row), as_vector(pointer)).align = 4
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)
def copy_row(typing, V, y, y0, a, a0):
    """Copy V neighbours at once, y[y0 + v] = a[a0 + v], where LLVM would move them one by one for fear that the arrays overlap.

    V: literal int; y, a: contiguous arrays of one float type, read as flat; y0, a0: ints, unchecked -> None
    """
    if not (isinstance(V, types.IntegerLiteral) and y.dtype == a.dtype):
        return None

    def generate(context, builder, signature, args):
        vector = ir.VectorType(context.get_value_type(y.dtype), V.literal_value)
        data = [
            context.make_array(t)(context, builder, array).data
            for t, array in ((y, args[1]), (a, args[3]))
        ]
        to, source = (
            builder.bitcast(builder.gep(d, [at]), vector.as_pointer())
            for d, at in zip(data, args[2::2], strict=True)
        )
        row = builder.load(source)
        row.align = builder.store(row, to).align = 4  # the arrays promise no more
        return context.get_dummy_value()

    return types.void(V, y, types.int64, a, types.int64), generate
