"""Wrong answers to lesson 14, counts, blocks and transforms. What a mutant is: 01_forward.py."""

FRESH = """np.empty((P, V), x.dtype)
        for q in range(0, W, P):
            for o in range(0, O, V):
                block[:] = 0"""
KEPT = """np.zeros((P, V), x.dtype)
        for q in range(0, W, P):
            for o in range(0, O, V):"""
M2 = "(w[0] - w[1] + w[2]) * HALF"
PAIR = "m0 + m1 + m2, m1 - m2 - m3"
BY_DEFINITION = ", ".join(
    f"d[q + {k}] * w[0] + d[q + {k + 1}] * w[1] + d[q + {k + 2}] * w[2]" for k in (0, 1)
)

MUTANTS = {
    "kernels.ladder.conv_cost": [
        (
            "flop = 2 * N",
            "flop = N",
            "you counted a multiply-add as one operation; it is two, a multiplication and an "
            "addition",
        ),
        (
            "* O * K * K * C",
            "* O * K * C",
            "the window has K x K places: each sum has K K C terms, not K C",
        ),
        (
            "* O * K * K * C",
            "* O * K * K",
            "each sum also runs over the input channels: it has K K C terms",
        ),
        ("4 * (N * H * W * C", "(N * H * W * C", "you counted values, not bytes; a float32 has 4"),
        ("4 * (N * H * W * C", "8 * (N * H * W * C", "8 bytes are a float64; a float32 has 4"),
        (
            "+ K * K * C * O",
            "+ N * K * K * C * O",
            "you read the weights again for each image; one copy serves all images",
        ),
        (
            " + N * H * W * O)",
            ")",
            "you left out the result: y is written, which takes as long as reading",
        ),
        (
            "(N * H * W * C +",
            "(N * H * W * K * K * C +",
            "you counted a pixel once for each window that contains it; here it is moved once",
        ),
    ],
    "kernels.ladder.conv_blocked": [
        (
            FRESH,
            KEPT,
            "the block still holds the previous sums: set it to 0 for each q and o, not once per "
            "row",
        ),
        (
            "u(q + p + j)",
            "u(q + j)",
            "all P pixels of a block read the same place of x: pixel p of the block needs q + p + "
            "j",
        ),
        (
            "u(h + i), u(q + p + j)",
            "u(h + j), u(q + p + i)",
            "i and j are swapped: i moves the window down, j moves it to the right",
        ),
        (
            "u(c), u(o + v)",
            "u(c), u(v)",
            "every block uses the weights of the first V output channels: o is missing in the "
            "index of w",
        ),
        (
            "+= pixel",
            "= pixel",
            "you replace the sum by its last term: add each product to the block",
        ),
        ("np.empty((P, V), x.dtype)", "np.empty((P, V))", "without a dtype the block is float64"),
        (
            "np.empty((P, V), x.dtype)",
            "np.empty((P, V), np.float32)",
            "your block is float32 whatever x is: give it x.dtype",
        ),
        (
            "    for row in prange(N * H):\n        n, h, block = row // H, row % H, "
            "np.empty((P, V), x.dtype)\n",
            "    block = np.empty((P, V), x.dtype)\n    for row in prange(N * H):\n        "
            "n, h = row // H, row % H\n",
            "one block serves all rows: these are tasks that may run at the same time, "
            "and would add to the same sums",
        ),
    ],
    "kernels.ladder.winograd_row": [
        (
            PAIR,
            "m0 + m1 + m2, m1 - m2 + m3",
            "the last product has the wrong sign: y[q + 1] = m1 - m2 - m3, with m3 = (d1 - d3) "
            "w[2]",
        ),
        (
            "plus, minus = (w[0] + w[1] + w[2]) * HALF, (w[0] - w[1] + w[2]) * HALF",
            "plus, minus = (w[0] + w[1] + w[2]), (w[0] - w[1] + w[2])",
            "the factor 1/2 is missing: both sums of the weights are divided by 2",
        ),
        (
            M2,
            "(w[0] + w[1] - w[2]) * HALF",
            "the minus sign belongs to the middle weight: w[0] - w[1] + w[2], the window at -1",
        ),
        (
            "(d[q] - d[q + 2])",
            "(d[q + 2] - d[q])",
            "the first product has the wrong sign: m0 = (d0 - d2) w[0]",
        ),
        (
            "range(0, y.size, 2)",
            "range(y.size // 2)",
            "your pairs overlap and stop half-way: q is 0, 2, 4, ..",
        ),
        (PAIR, "m1 - m2 - m3, m0 + m1 + m2", "the two results are swapped"),
        (
            "(w[0] + w[1] + w[2]) * HALF",
            "(w[0] + w[1] + w[2]) / 2",
            "a Python number makes Numba compute in float64",
        ),
        (
            PAIR,
            BY_DEFINITION,
            "that is the definition, with 6 multiplications instead of 4",
        ),
    ],
}
