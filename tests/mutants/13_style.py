"""Wrong answers to lesson 13: how students miss a transfer, or measure it wrongly.

What a mutant is: 01_forward.py.
"""

TESTS = {"gram.gram": "test_gatys.py"}
SHARE = "np.where(union > 0, shared / np.maximum(union, 1), 1.0)"
MEAN = "rmse(np.mean(samples, axis=0, dtype=np.float64), truth)"
PRODUCT = "ops.matmul(ops.swapaxes(rows), rows) * (1 / (H * W))"

MUTANTS = {
    "metrics.silhouette_overlap": [
        (
            "np.any(np.abs(x - paper) > threshold, axis=-1)",
            "np.all(np.abs(x - paper) > threshold, axis=-1)",
            "you ask that all channels differ from the paper; one is enough: pure red differs from "
            "white in two",
        ),
        (
            "np.abs(x - paper) > threshold",
            "paper - x > threshold",
            "you left out the absolute value: on black paper (-1) ink is lighter than the paper",
        ),
        (
            "np.abs(x - paper)",
            "np.abs(x - 1.0)",
            "your paper is always white; the letters of this lesson are white ink on black paper, "
            "paper = -1",
        ),
        ("> threshold", "> 0.2", "you don't use threshold"),
        (
            "np.sum(ink_a | ink_b, axis=(1, 2))",
            "np.sum(ink_a, axis=(1, 2))",
            "you divide by the ink of a alone; then a page full of ink overlaps with everything: "
            "divide by what is ink in a or in b",
        ),
        (
            SHARE,
            SHARE.replace("1.0", "0.0"),
            "two empty images agree: where neither has ink the overlap is 1",
        ),
        (
            f"np.mean({SHARE})",
            "np.sum(shared) / np.sum(union)",
            "you counted the pixels of all images together; each image has its own share, and "
            "these are averaged",
        ),
        (
            f"np.mean({SHARE})",
            "np.mean(ink_a == ink_b)",
            "you counted the pixels where a and b agree; blank paper agrees with blank paper, and "
            "most of an image is paper",
        ),
    ],
    "baselines.ridge": [
        (
            "strength * np.eye(len(S))",
            "strength",
            "strength was added to every entry of S; strength I has it on the diagonal only "
            "(np.eye)",
        ),
        (
            "strength * np.eye(len(S))",
            "strength / len(rows) * np.eye(len(S))",
            "your penalty is divided by the number of pairs; here the error is a mean over pairs, "
            "so strength stays as it is",
        ),
        (
            "strength * np.eye(len(S))",
            "strength**2 * np.eye(len(S))",
            "you squared strength; only w is squared in the penalty",
        ),
        (
            "S = rows.T @ rows / len(rows)",
            "S = rows.T @ rows",
            "S is a sum over the pairs, the right-hand side a mean: S is the covariance, divided "
            "by M",
        ),
        (
            "rows = rows - mean_x",
            "rows = rows - 0 * mean_x",
            "x still has its mean when w is fitted: S is then not a covariance; take mean x off "
            "first",
        ),
        (
            "x.reshape(len(x), -1) - mean_x",
            "x.reshape(len(x), -1)",
            "the new x needs mean x taken off too, the one of the training pairs",
        ),
        (
            "x.reshape(len(x), -1) - mean_x",
            "x.reshape(len(x), -1) - x.reshape(len(x), -1).mean(0)",
            "you took off the mean of the new x; it is the mean of the training pairs that was "
            "taken off in the fit",
        ),
        ("@ w + mean_y", "@ w", "mean y is missing: without it all guesses are centred on 0"),
        (".astype(y.dtype)", "", "the guess is float64 whatever y is; give it the precision of y"),
    ],
    "metrics.rmse_of_mean": [
        (
            MEAN,
            "rmse(samples, truth)",
            "this is the error of single samples: average over the first axis before you compare "
            "with the truth",
        ),
        (
            MEAN,
            "float(np.mean([rmse(x, truth) for x in samples]))",
            "you averaged the errors of the samples; average the samples, then take the error once",
        ),
        (
            "axis=0",
            "axis=1",
            "you averaged over the images (axis 1); the samples of one image lie along axis 0",
        ),
        (
            "np.mean(samples, axis=0, dtype=np.float64)",
            "np.median(samples, axis=0)",
            "you took the median; it is the mean that has the least square",
        ),
        (
            MEAN,
            f"2 * {MEAN}",
            "this error is on the scale from -1 to 1; rmse halves it, so that black against white "
            "is 1",
        ),
        (MEAN, f"{MEAN} ** 2", "this is the mean square: the root is missing"),
        (
            MEAN,
            "min(rmse(x, truth) for x in samples)",
            "you took the error of the best sample; who doesn't know the truth cannot choose it",
        ),
    ],
    "gram.gram": [
        (
            PRODUCT,
            "ops.matmul(ops.swapaxes(rows), rows)",
            "you added up over the pixels; take their mean: larger images must not have a stronger "
            "style",
        ),
        (
            PRODUCT,
            PRODUCT.replace("(H * W)", "(H * W * C)"),
            "you divided by the number of features too; the mean is over the pixels only",
        ),
        (
            PRODUCT,
            PRODUCT.replace("ops.swapaxes(rows), rows", "rows, ops.swapaxes(rows)"),
            "you multiplied pixels with pixels, (N, H W, H W): that keeps where things are; G is "
            "features by features, (N, C, C)",
        ),
        (
            "ops.matmul(ops.swapaxes(rows), rows)",
            "ops.matmul(ops.reshape(h, shape=(N, C, H * W)), rows)",
            "reshape to (N, C, H W) does not transpose: it cuts the same values up differently; "
            "use ops.swapaxes",
        ),
        (
            "ops.reshape(h, shape",
            "ops.reshape(h - h.mean((1, 2), keepdims=True), shape",
            "you took the mean of each feature off: this is the covariance; a Gram matrix keeps "
            "how strong a feature is",
        ),
    ],
}
