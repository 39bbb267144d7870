"""Wrong answers to lesson 04: how students miss a derivative, and the walk backwards.

What a mutant is: see 01_forward.py.
"""

MUTANTS = {
    "ops.mul": [
        (
            "(g * b, g * a)",
            "(g * (a * b) / a, g * (a * b) / b)",
            "the other factor was found again by division: 0 / 0 where an input is 0; use a and b",
        ),
        (
            "(g * b, g * a)",
            "(b, a)",
            "g is forgotten: a vjp returns g times the derivative, so that the chain rule goes on",
        ),
        (
            "(g * b, g * a)",
            "(g * a, g * b)",
            "the two gradients are exchanged: the derivative of a b by a is b, by b it is a",
        ),
        (
            "(g * b, g * a)",
            "g * b + g * a",
            "that is the product rule for one variable; here are two: return a tuple, one "
            "gradient for each",
        ),
        (
            "a * b, lambda",
            "a @ b, lambda",
            "the value is the matrix product; element by element is *",
        ),
        (
            "(g * b, g * a)",
            "(g, g)",
            "those are the gradients of a + b; the other factor is missing",
        ),
    ],
    "ops.div": [
        (
            "(g / b, -g",
            "(g * (a / b) / a, -g",
            "1 / b was found as (a / b) / a: that is 0 / 0 where a is 0; divide g by b",
        ),
        (
            "return a / b, lambda g: (g / b, -g * a / (b * b))",
            "c = b + (abs(b) < 1e-6)\n    return a / c, lambda g: (g / c, -g * a / (c * c))",
            "where b is small you divide by another number; a small b is a number like others",
        ),
        (
            "-g * a / (b * b)",
            "g * a / (b * b)",
            "the sign: 1 / b falls when b grows, so the gradient by b has a minus",
        ),
        ("-g * a / (b * b)", "-g / (b * b)", "the gradient by b lacks a: d(a / b) / db = -a / b^2"),
        (
            "-g * a / (b * b)",
            "-g * a / b",
            "the gradient by b is divided by b once; d(a / b) / db = -a / b^2",
        ),
        ("(g / b, -g", "(g * b, -g", "the gradient by a: d(a / b) / da is 1 / b, not b"),
        (
            "(g / b, -g * a / (b * b))",
            "(1 / b, -a / (b * b))",
            "g is forgotten: a vjp returns g times the derivative",
        ),
    ],
    "ops.matmul": [
        (
            "return kernels.matmul(g, b.swapaxes(-1, -2)), gb",
            "return gb, kernels.matmul(g, b.swapaxes(-1, -2))",
            "the two gradients are returned in the wrong order: first that of a, g b^T, then that "
            "of b, a^T g",
        ),
        (
            "(g, b.swapaxes(-1, -2)), gb",
            "(g, b), gb",
            "b is not transposed: the gradient of a is g b^T",
        ),
        (
            "(a_rows.swapaxes(0, 1), g_rows)",
            "(a_rows, g_rows)",
            "a is not transposed: the gradient of b is a^T g",
        ),
        (
            "(a_rows.swapaxes(0, 1), g_rows)",
            "(g_rows.swapaxes(0, 1), a_rows)",
            "the gradient of b came out transposed: it is a^T g, shaped like b; you have g^T a",
        ),
        (
            "(g, b.swapaxes(-1, -2)), gb",
            "(g, b.T if b.ndim == 2 else b.swapaxes(1, -1)), gb",
            "with two axes in front of a matrix the wrong ones are exchanged: always the last two, "
            "swapaxes(-1, -2)",
        ),
        (
            "            gb = kernels.matmul(a_rows.swapaxes(0, 1), g_rows)",
            "            gb = kernels.matmul(a_rows.swapaxes(0, 1), g_rows).squeeze()",
            "axes of length 1 are lost from the gradient of b: it has exactly b's shape",
        ),
        (
            "(g, b.swapaxes(-1, -2)), gb",
            "(g, b.T), gb",
            "b.T turns all axes round; only the last two are to be exchanged: swapaxes(-1, -2)",
        ),
        (
            "gb = kernels.matmul(a.swapaxes(-1, -2), g)\n"
            "        return kernels.matmul(g, b.swapaxes(-1, -2)), gb",
            "gb = kernels.matmul(a.T, g)\n        return kernels.matmul(g, b.T), gb",
            "a.T and b.T turn all axes round; only the last two are to be exchanged: swapaxes(-1, "
            "-2)",
        ),
    ],
    "autodiff.unbroadcast": [
        (
            "g.shape[i + new] != 1",
            "g.shape[i + new] > 1",
            "an axis of length 1 repeated 0 times is summed, too: an empty sum is 0",
        ),
        (
            "    if g.shape == shape:",
            "    if True:",
            "some repeats were not summed: sum over the new axes in front, and over those where "
            "the input has length 1",
        ),
        (
            "g.sum(axis, keepdims=True)",
            "g.mean(axis, keepdims=True)",
            "you took the mean over the repeats; each copy adds its share: sum",
        ),
        (
            "g.sum(axis, keepdims=True)",
            "g.take([0], axis)",
            "you kept the first of the repeats; all copies have a share: sum over them",
        ),
        (
            "return g.reshape(shape)",
            "return g",
            "the axes summed over are still there, with length 1: give exactly the input's shape",
        ),
        (
            "[*range(new), ",
            "[*range(g.ndim - new, g.ndim), ",
            "the wrong axes: shapes are aligned from the right, so the new axes are the first ones",
        ),
    ],
    "autodiff.gradient": [
        (
            "        if free:",
            "        if free and node is loss.node:",
            "free=True lets go of the loss's vjp only: put _freed in the place of each vjp used",
        ),
        (
            "            continue\n",
            "            node.vjp = _freed if free else node.vjp\n            continue\n",
            "free=True spoils the leaves: a second graph from the same Tensor cannot be walked; a "
            "leaf's vjp stays None",
        ),
        (
            "g_parent = unbroadcast(g_parent, parent.shape)",
            "g_parent = g_parent if parent.vjp else unbroadcast(g_parent, parent.shape)",
            "only leaves are summed back: what was broadcast may be in the middle of the graph",
        ),
        (
            "g_parent if before is None else before + g_parent",
            "g_parent",
            "a node used twice: the second gradient overwrites the first; they must be added",
        ),
        (
            "g_parent = unbroadcast(g_parent, parent.shape)",
            "g_parent = g_parent",
            "the gradient of a broadcast input is not summed back: unbroadcast it to the parent's "
            "shape",
        ),
        (
            "for node in _backwards(loss.node):",
            "walk = [loss.node]\n    for node in walk:\n"
            "        walk.extend(p for p in dict.fromkeys(node.parents) if p is not None and p "
            "not in walk)",
            "a node was passed on before all its children had given their share: its gradient was "
            "not complete; walk in the order of _backwards",
        ),
        (
            "before + g_parent",
            "before.__iadd__(g_parent) if before.ndim else before + g_parent",
            "you added in place (+=): a vjp may give the same array to two parents (add does), "
            "and then both change; write a + b",
        ),
        (
            "loss.value**0",
            "loss.value",
            "the walk starts with dL/dL, which is 1, not the loss",
        ),
        (
            "grads.get(id(node)) if id(node) in kept else grads.pop(id(node), None)",
            "grads.pop(id(node), None)",
            "the gradient of a Tensor in the middle of the graph is lost: keep it when it is "
            "among params",
        ),
        (
            "else p.value**0 - 1 for p",
            "else None for p",
            "where the loss does not depend on a Tensor its gradient is zeros, of its shape",
        ),
    ],
    "gradcheck.directional_error": [
        (
            "(phi(h) - phi(-h)) / (2 * h)",
            "(phi(h) - phi(0)) / h",
            "a forward difference: its error falls like h only; go h both ways and divide by 2h",
        ),
        (
            "(phi(h) - phi(-h)) / (2 * h)",
            "(phi(h) - phi(-h)) / h",
            "from -h to h the way is 2h long: divide by that",
        ),
        (
            "u = rng.standard_normal(value_of(f(*map(kernels.array, args))).shape)",
            "u = np.ones(value_of(f(*map(kernels.array, args))).shape)",
            "outputs are added up with equal weights: errors that cancel in the sum are not seen; "
            "u needs a random number for each of them",
        ),
        (
            "[rng.standard_normal(a.shape) for a in args]",
            "[rng.standard_normal(args[0].shape)] * len(args)",
            "the arguments share one direction: errors that cancel along it are not seen; each "
            "needs a d of its own",
        ),
        (
            "rng.standard_normal(value_of(f(*map(kernels.array, args))).shape)",
            "rng.standard_normal(args[0].shape)",
            "u has the shape of the first argument; it weighs the result, so it has that of f's "
            "result",
        ),
        (
            "rng.standard_normal(a.shape) for a in args",
            "rng.random(a.shape) for a in args",
            "d is spread evenly over 0 .. 1: draw it with rng.standard_normal",
        ),
        (
            "rng.standard_normal(a.shape) for a in args",
            "np.random.default_rng(0).standard_normal(a.shape) for a in args",
            "the numbers do not come from rng: draw d and u with rng.standard_normal",
        ),
        (
            "rng.standard_normal(a.shape) for a in args",
            "np.ones(a.shape) for a in args",
            "the direction is not random: along (1, 1, ...) gradients with exchanged entries look "
            "right",
        ),
        (
            "rng.standard_normal(a.shape) for a in args",
            "rng.standard_normal() for a in args",
            "one random number for a whole argument moves all its entries alike: d needs the "
            "shape of its argument",
        ),
        (
            " / max(abs(exact), abs(numeric), 1.0)",
            "",
            "the division is missing: the error is relative, divided by the largest of |exact|, "
            "|numeric| and 1",
        ),
        (
            "return abs(exact - numeric)",
            "return (exact - numeric)",
            "the absolute value is missing: a negative number is below every tolerance",
        ),
        (
            "max(abs(exact), abs(numeric), 1.0)",
            "max(abs(exact), abs(numeric))",
            "the 1 in the denominator is missing: for derivatives near 0 the error is then one of "
            "rounding only",
        ),
    ],
}
