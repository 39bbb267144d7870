"""Wrong answers to lesson 14: how students miss counts, blocks and transforms. See 01_forward.py for what a mutant is."""

FRESH = """np.empty((P, V), x.dtype)
        for q in range(0, W, P):
            for o in range(0, O, V):
                block[:] = 0"""
KEPT = """np.zeros((P, V), x.dtype)
        for q in range(0, W, P):
            for o in range(0, O, V):"""
M2 = "(w[0] - w[1] + w[2]) * HALF"
PAIR = "m0 + m1 + m2, m1 - m2 - m3"

MUTANTS = {
    "kernels.ladder.conv_cost": [
        (
            "flop = 2 * N",
            "flop = N",
            "you counted a multiply-add as one operation; it is two: a multiplication and an addition",
        ),
        (
            "* O * K * K * C",
            "* O * K * C",
            "the window has K x K places: each sum has K K C terms, not K C",
        ),
        (
            "* O * K * K * C",
            "* O * K * K",
            "each sum runs over the input channels too: it has K K C terms",
        ),
        ("4 * (N * H * W * C", "(N * H * W * C", "you counted numbers; a float32 has 4 bytes"),
        ("4 * (N * H * W * C", "8 * (N * H * W * C", "8 bytes are a float64; a float32 has 4"),
        (
            "+ K * K * C * O",
            "+ N * K * K * C * O",
            "you moved the weights anew for each image; one copy serves all of them",
        ),
        (
            " + N * H * W * O)",
            ")",
            "you left out the result: y is written, and that takes as long as reading",
        ),
        (
            "(N * H * W * C +",
            "(N * H * W * K * K * C +",
            "you moved a pixel once for each window it is in; here it is moved once",
        ),
    ],
    "kernels.ladder.conv_blocked": [
        (
            FRESH,
            KEPT,
            "the sums of the last block are still in it: set the block to 0 at each q and o, not once a row",
        ),
        (
            "u(q + p + j)",
            "u(q + j)",
            "all P pixels of a block read the same place of x: pixel p of the block needs q + p + j",
        ),
        (
            "u(h + i), u(q + p + j)",
            "u(h + j), u(q + p + i)",
            "i and j are exchanged: i moves the window down, j to the right",
        ),
        (
            "u(c), u(o + v)",
            "u(c), u(v)",
            "every block takes the weights of the first V output channels: o is missing in the index of w",
        ),
        (
            "+= x",
            "= x",
            "you replace the sum by its last term: each product is to be added to the block",
        ),
        ("np.empty((P, V), x.dtype)", "np.empty((P, V))", "without a type the block is float64"),
    ],
    "kernels.ladder.winograd_row": [
        (
            PAIR,
            "m0 + m1 + m2, m1 - m2 + m3",
            "the sign of the last product is turned: y[q + 1] = m1 - m2 - m3, with m3 = (d1 - d3) w[2]",
        ),
        (
            "plus, minus = (w[0] + w[1] + w[2]) * HALF, (w[0] - w[1] + w[2]) * HALF",
            "plus, minus = (w[0] + w[1] + w[2]), (w[0] - w[1] + w[2])",
            "the halves are missing: both sums of the weights are divided by 2",
        ),
        (
            M2,
            "(w[0] + w[1] - w[2]) * HALF",
            "the middle weight has the minus sign: w[0] - w[1] + w[2], the window at -1",
        ),
        (
            "(d[q] - d[q + 2])",
            "(d[q + 2] - d[q])",
            "the sign of the first product is turned: m0 = (d0 - d2) w[0]",
        ),
        (
            "range(0, y.size, 2)",
            "range(y.size // 2)",
            "your pairs overlap and end half-way: q goes 0, 2, 4, ..",
        ),
        (PAIR, "m1 - m2 - m3, m0 + m1 + m2", "the two results are exchanged"),
        (
            "(w[0] + w[1] + w[2]) * HALF",
            "(w[0] + w[1] + w[2]) / 2",
            "a Python number makes Numba go on in float64",
        ),
        (
            PAIR,
            "d[q] * w[0] + d[q + 1] * w[1] + d[q + 2] * w[2], d[q + 1] * w[0] + d[q + 2] * w[1] + d[q + 3] * w[2]",
            "that is the definition, with 6 multiplications",
        ),
    ],
}
