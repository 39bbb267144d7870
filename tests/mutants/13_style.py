"""Wrong answers to lesson 13: how students miss a transfer, or measure it wrongly.

What a mutant is: 01_forward.py.
"""

TESTS = {"gram.gram": "test_gatys.py"}
SHARE = "np.where(union > 0, shared / np.maximum(union, 1), 1.0)"
PRODUCT = "ops.matmul(ops.swapaxes(rows), rows) * (1 / (H * W))"
CUT = "ops.reshape(h, shape=(N, C, H * W))"
BY_RESHAPE = f"ops.matmul({CUT}, ops.swapaxes({CUT})) * (1 / (H * W))"

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
            "> threshold",
            ">= threshold",
            "a pixel that differs by just the threshold is paper; ink differs by more",
        ),
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
            SHARE,
            "shared / union",
            "0 / 0 is nan: where neither image has ink the overlap is 1, and nothing is to be "
            "divided",
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
        (
            "for x in (finite(a), finite(b))",
            "for x in (a, b)",
            "NaN and infinite values are to be refused: what is compared with NaN is "
            "False, so it would count as paper",
        ),
        (
            "threshold=0.2",
            "threshold=0.1",
            "your threshold, where none is given, is not 0.2",
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
            "mean_x, mean_y = rows.mean(0), targets.mean(0)",
            "mean_x, mean_y = 0 * rows[0], 0 * targets[0]",
            "both means are missing, before the fit and after it: your map is the line through 0",
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
        (
            "np.asarray(a, dtype=np.float64)",
            "np.asarray(a)",
            "you computed in the precision of the images, float32; compute in float64, and give "
            "the guess alone in y's",
        ),
        (".astype(y.dtype)", "", "the guess is float64 whatever y is; give it the precision of y"),
        (
            ".astype(y.dtype)",
            ".astype(x.dtype)",
            "your guess has the precision of x; it is to have that of y",
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
            PRODUCT,
            BY_RESHAPE,
            "both your factors were cut to (N, C, H W) by reshape, which exchanges no axes: their "
            "rows are not the features; use ops.swapaxes",
        ),
        (
            "ops.reshape(h, shape",
            "ops.reshape(h - h.mean((1, 2), keepdims=True), shape",
            "you took the mean of each feature off: this is the covariance; a Gram matrix keeps "
            "how strong a feature is",
        ),
    ],
    "fool.fool_judge": [
        (
            "x + images.dtype.type(0.01) * g",
            "x - images.dtype.type(0.01) * g",
            "you went downhill: log_p_gradient points to where the label gets more probable",
        ),
        (
            "away = away * np.minimum(1, images.dtype.type(NEAR) / _size(away))",
            "away = away * 4",
            "nothing holds your images back: an rmse below 0.03 is asked for, for each of them",
        ),
        (
            "away = away * np.minimum(1, images.dtype.type(NEAR) / _size(away))",
            "away = away * (0.5 * images.dtype.type(NEAR) / _size(away))",
            "you go half of the way that you may go",
        ),
        (
            "np.full((len(images), 1), label)",
            "np.full((len(images), 1), 0)",
            "you climb towards label 0, whatever is asked for",
        ),
        (
            "np.clip(images + away, -1, 1)",
            "images + away",
            "your images leave [-1, 1]: no screen can show them",
        ),
        (
            "log_p_gradient(judge, ",
            'log_p_gradient(classifier.load("emoji")[0], ',
            "you climb for one judge, whichever is asked: use the one that is given",
        ),
        (
            "    return x",
            "    return x.astype(np.float32)",
            "your images are float32 whatever came in; keep their precision",
        ),
    ],
}
