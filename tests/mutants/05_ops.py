"""Wrong answers to lesson 05, operations and derivatives. What a mutant is: 01_forward.py."""

U = "silu_grad(g, x_hat.reshape(x.shape) * scale + shift)"

MUTANTS = {
    "kernels.reference.silu_grad": [
        (
            "sigma = 1 / (1 + np.exp(-x))",
            "sigma = np.exp(np.clip(x, -700, 700))\n    sigma = sigma / (1 + sigma)",
            "exp(89) is infinite in float32, and inf / inf not a number: use exp(-x) in 1 / (1 + "
            "exp(-x))",
        ),
        (
            "return g * sigma * (1 + x * (1 - sigma))",
            "return np.where(abs(x) > 15, g * (x > 0), g * sigma * (1 + x * (1 - "
            "sigma))).astype(x.dtype)",
            "far out you took the slope for exactly 0 and 1: it comes near them only slowly",
        ),
        (
            "g * sigma * (1 + x * (1 - sigma))",
            "g * sigma",
            "you treated sigmoid(x) as a constant: silu is a product, so its derivative has a "
            "second term, x times the slope of sigmoid",
        ),
        (
            "g * sigma * (1 + x * (1 - sigma))",
            "g * x * sigma * (1 - sigma)",
            "you left out the first term of the product rule: the derivative of x is 1, times "
            "sigma",
        ),
        (
            "g * sigma * (1 + x * (1 - sigma))",
            "g * sigma * (1 - sigma)",
            "that is the slope of sigmoid; silu is x sigmoid(x), a product",
        ),
        (
            "g * sigma * (1",
            "sigma * (1",
            "you left out g: a vjp multiplies the incoming gradient by the slope",
        ),
        (
            "np.exp(-x)",
            "np.exp(x)",
            "the exponent has the wrong sign: sigma = 1 / (1 + exp(-x)) rises with x",
        ),
        (
            "g * sigma * (1 + x * (1 - sigma))",
            "g * (x > 0)",
            "that is the derivative of ReLU, a step; silu's is smooth: 1/2 at x = 0",
        ),
    ],
    "kernels.reference.softmax": [
        (
            "np.exp(x - x.max(-1, keepdims=True))",
            "np.exp(x)",
            "exp overflows for large scores: subtract the row's maximum first, which does not "
            "change the result",
        ),
        (
            "x.max(-1, keepdims=True)",
            "x.max()",
            "you subtracted the largest score of all rows; a row far below it becomes 0 / 0: each "
            "row needs its own maximum",
        ),
        (
            "e.sum(-1, keepdims=True)",
            "e.sum(0, keepdims=True)",
            "you normalised over the first axis; a row is the last one, axis -1",
        ),
        (
            "e.sum(-1, keepdims=True)",
            "e.sum(min(1, e.ndim - 1), keepdims=True)",
            "you normalised over axis 1, which is the last one only in a matrix: write -1",
        ),
        (
            "e.sum(-1, keepdims=True)",
            "e.sum()",
            "you divided by the sum over everything: each row sums to 1 on its own, over axis -1",
        ),
        (
            "e / e.sum(-1, keepdims=True)",
            "e",
            "the division is missing: the weights of a row sum to 1",
        ),
        (
            "np.exp(x - x.max(-1, keepdims=True))\n    return e / e.sum(-1, keepdims=True)",
            "np.exp(x - x.max(0, keepdims=True))\n    return e / e.sum(0, keepdims=True)",
            "you took the maximum and the sum over the first axis; a row is the last one, axis -1",
        ),
    ],
    "kernels.reference.softmax_grad": [
        (
            "y * (g - (g * y).sum(-1, keepdims=True))",
            "y * g - np.exp(np.log(y)) * (g * y * np.log(y) / np.log(y)).sum(-1, keepdims=True)",
            "log(y) makes nan where a weight is 0: y alone is enough",
        ),
        (
            "    return y * (g",
            "    y = np.where(y < 1e-2, 0, y).astype(y.dtype)\n    return y * (g",
            "small weights are taken for 0; each has its share",
        ),
        (
            "y * (g - (g * y).sum(-1, keepdims=True))",
            "y * g",
            "you treated the denominator as a constant: raising one score lowers all the other "
            "weights, hence the sum over g y",
        ),
        (
            "y * (g - (g * y).sum(-1, keepdims=True))",
            "g * y * (1 - y)",
            "you used only the diagonal of the Jacobian, as for a sigmoid; the other entries, "
            "-y_i y_j, count too",
        ),
        (
            "(g * y).sum(",
            "g.sum(",
            "you summed g instead of g y: the Jacobian is diag(y) - y y^T",
        ),
        (
            "y * (g - (g * y).sum(-1, keepdims=True))",
            "y * g - (g * y).sum(-1, keepdims=True)",
            "the y in front multiplies both terms: y_i g_i - y_i sum(g y)",
        ),
        (
            "(g * y).sum(-1, keepdims=True)",
            "(g * y).sum(0, keepdims=True)",
            "you summed over the first axis; a row is the last, axis -1",
        ),
        (
            "(g * y).sum(-1, keepdims=True)",
            "(g * y).mean(-1, keepdims=True)",
            "you took the mean; the chain rule takes the sum: sum(g y)",
        ),
        (
            "(g * y).sum(-1, keepdims=True)",
            "(g * y).sum()",
            "you summed over everything: each row has its own sum(g y), over axis -1",
        ),
    ],
    "kernels.reference.conv2d": [
        (
            "for i in range(K) for j in range(K)",
            "for i in range(max(0, K // 2 - 1), min(K, K // 2 + 2)) for j in range(K)",
            "only the middle three rows of the window are used: there are K",
        ),
        (
            "    return sum(",
            "    w = w.ravel('K').reshape(w.shape)\n    return sum(",
            "you read the window's numbers in the order in which they lie in memory, which may be "
            "any",
        ),
        (
            "@ w[i, j] for",
            "@ w[K - 1 - i, K - 1 - j] for",
            "you rotated the window by 180 degrees: that is the convolution of signal processing "
            "(and of gx); here pixel h + i meets w[i]",
        ),
        (
            "@ w[i, j] for",
            "@ w[j, i] for",
            "you swapped the window's two axes: i counts rows (downwards), j columns (to the "
            "right)",
        ),
        (
            "xp = pad(x, K // 2, padding)",
            "xp = pad(x, K - 1, padding)",
            "your window is shifted: its centre, i = j = K // 2, lies on the output's pixel; the "
            "border is K // 2 wide on every side",
        ),
        (
            "pad(x, K // 2, padding)",
            "pad(x, K // 2 + 1, padding)[:, 1:]",
            "your window lies one pixel too far to the left: at j = K // 2 it meets the output's "
            "own column",
        ),
        (
            "pad(x, K // 2, padding)",
            "pad(x, K - 1, padding)[:, K - 1 :, K - 1 :]",
            "your window begins at the output's pixel: its centre, i = j = K // 2, belongs there; "
            "pad by K // 2 on every side",
        ),
        (
            "pad(x, K // 2, padding)",
            'pad(x, K // 2, "zeros")',
            'you always pad with zeros: with "circular", the border comes from the opposite side',
        ),
        (
            "pad(x, K // 2, padding)",
            'np.pad(x, ((0, 0), (K // 2, K // 2), (K // 2, K // 2), (0, 0)), mode="edge")',
            "you repeated the outermost pixels; outside the image there is 0, or the image "
            "itself, wrapped around",
        ),
    ],
    "kernels.reference.conv2d_grad_w": [
        (
            "gw = np.empty((K, K, C, O), x.dtype)",
            "gw = np.empty((K, K, C, O), g.dtype)",
            "the result has the precision of x, not of g",
        ),
        (
            "xp[:, i : i + H, j : j + W].reshape(-1, C).T @ flat",
            "xp[:2, i : i + H, j : j + W].reshape(-1, C).T @ flat[: 2 * H * W]",
            "only the first two images count: sum over all of them",
        ),
        (
            "gw[i, j] =",
            "gw[K - 1 - i, K - 1 - j] =",
            "you rotated the window: only gx needs that; gw is a plain correlation: gw[i, j] sums "
            "pixel h + i times g at h",
        ),
        (
            "gw[i, j] =",
            "gw[j, i] =",
            "you swapped the window's two axes: i counts rows (downwards), j columns (to the "
            "right)",
        ),
        (
            "pad(x, K // 2, padding)",
            "pad(x, K - 1, padding)",
            "your window is shifted: at i = j = K // 2 the pixels of x and g are at the same place",
        ),
        (
            "pad(x, K // 2, padding)",
            "pad(x, K // 2 + 1, padding)[:, 1:]",
            "your window lies one pixel too far to the left: at j = K // 2 it meets the output's "
            "own column",
        ),
        (
            "pad(x, K // 2, padding)",
            "pad(x, K - 1, padding)[:, K - 1 :, K - 1 :]",
            "your window begins at the output's pixel: its centre, i = j = K // 2, belongs there; "
            "pad by K // 2 on every side",
        ),
        (
            "pad(x, K // 2, padding)",
            'pad(x, K // 2, "zeros")',
            'you always pad with zeros: with "circular", the border comes from the opposite side',
        ),
        (
            "@ flat",
            "@ flat / len(x)",
            "you took the mean over the images; the chain rule sums over all places where a "
            "weight was used",
        ),
        (
            "@ flat",
            "@ flat / (H * W)",
            "you took the mean over the pixels; the chain rule sums over all places where a "
            "weight was used",
        ),
    ],
    "kernels.reference.group_norm": [
        (
            "    xg = _grouped(x, G)\n",
            "    pixels = x.shape[1] if x.ndim < 4 else x.shape[1] * x.shape[2]\n"
            "    xg = x.reshape(len(x), pixels, G, x.shape[-1] // G)\n",
            "any number of axes may lie between the first and the last, also none",
        ),
        (
            "x_hat * scale + shift",
            "x_hat * np.where(scale == 0, 1, scale) + shift",
            "a scale of 0 is a number like others: y is then shift",
        ),
        (
            "mean, rstd = xg.mean((1, 3)), 1 / np.sqrt(xg.var((1, 3)) + x.dtype.type(eps))",
            "zero = xg[:, 0, :, 0] * 0\n    mean = xg.mean((0, 1, 3)) + zero\n"
            "    rstd = 1 / np.sqrt(xg.var((0, 1, 3)) + zero + x.dtype.type(eps))",
            "you took the mean and the variance over the whole batch: each image has its own, "
            "whatever else is in the batch",
        ),
        (
            "xg.var((1, 3))",
            "xg.var((1, 3), ddof=1)",
            "you divided the variance by n - 1; here it is the mean of squares, divided by n",
        ),
        (
            "np.sqrt(xg.var((1, 3)) + x.dtype.type(eps))",
            "(np.sqrt(xg.var((1, 3))) + x.dtype.type(eps))",
            "eps belongs inside the root, added to the variance",
        ),
        (
            "np.sqrt(xg.var((1, 3)) + x.dtype.type(eps))",
            "(xg.var((1, 3)) + x.dtype.type(eps))",
            "you divided by the variance; divide by its root, the standard deviation",
        ),
        (
            "xg.var((1, 3))",
            "((xg * xg).mean((1, 3)) - xg.mean((1, 3)) ** 2)",
            "mean(x^2) - mean^2 loses all digits to cancellation: subtract the mean first",
        ),
        (
            "x_hat * scale + shift",
            "(x_hat + shift) * scale",
            "scale first, then shift: y = scale x_hat + shift",
        ),
        (
            "x_hat * scale + shift",
            "x_hat",
            "scale and shift are missing: y = scale x_hat + shift",
        ),
        (
            "mean, rstd = xg.mean((1, 3)), 1 / np.sqrt(xg.var((1, 3)) + x.dtype.type(eps))",
            "mean = xg.mean((0, 1, 3))[None]\n"
            "    rstd = 1 / np.sqrt(xg.var((0, 1, 3)) + x.dtype.type(eps))[None]",
            "you took the mean and the variance over the whole batch: each image has its own: "
            "they have shape (N, G)",
        ),
        (
            "mean, rstd = xg.mean((1, 3)), 1 / np.sqrt(xg.var((1, 3)) + x.dtype.type(eps))\n"
            "    x_hat = ((xg - mean[:, None, :, None]) * rstd[:, None, :, None]).reshape(x.shape)",
            "mean, rstd = xg.mean(1), 1 / np.sqrt(xg.var(1) + x.dtype.type(eps))\n"
            "    x_hat = ((xg - mean[:, None]) * rstd[:, None]).reshape(x.shape)",
            "you took the mean and the variance of each channel separately: a group covers all "
            "its channels, axes 1 and 3",
        ),
    ],
    "kernels.reference.group_norm_grad": [
        (
            "(rows * x_hat.reshape(-1, C)).sum(0), rows.sum(0)",
            "(g_hat * x_hat).reshape(-1, C).sum(0) / scale, rows.sum(0)",
            "gscale is found by dividing by scale: nan where that is 0; sum g x_hat",
        ),
        (
            "    rows = g",
            "    gx = r * g_hat if g_hat[0, :, 0].size == 1 else gx\n    rows = g",
            "a group of a single number is its own mean: y does not depend on it, gx is 0",
        ),
        (
            "r * (g_hat - mean_g - x_hat * mean_gx)",
            "r * g_hat",
            "you treated the mean and the variance as constants: both depend on every x of the "
            "group",
        ),
        (
            " - x_hat * mean_gx",
            "",
            "you left out the path through the variance: x_hat mean(g_hat x_hat)",
        ),
        (
            "r * (g_hat - mean_g -",
            "r * (g_hat -",
            "you left out the path through the mean: mean(g_hat)",
        ),
        (
            "_grouped(g * scale, G)",
            "_grouped(g, G)",
            "scale is missing: the gradient that arrives at x_hat is g_hat = scale g",
        ),
        (
            "g_hat.mean((1, 3), keepdims=True)",
            "g_hat.mean(1, keepdims=True)",
            "you took mean(g_hat) of each channel separately: it is the mean over the group",
        ),
        (
            "(rows * x_hat.reshape(-1, C)).sum(0)",
            "(rows * x.reshape(-1, C)).sum(0)",
            "scale multiplies x_hat, not x: gscale = sum g x_hat",
        ),
        (
            "g_hat.mean((1, 3), keepdims=True)\n"
            "    mean_gx = (g_hat * x_hat).mean((1, 3), keepdims=True)",
            "g_hat.mean(1, keepdims=True)\n    mean_gx = (g_hat * x_hat).mean(1, keepdims=True)",
            "you took both means of each channel separately: they are means over the group, "
            "pixels and channels",
        ),
        (
            "(rows * x_hat.reshape(-1, C)).sum(0)",
            "(g_hat.reshape(-1, C) * x_hat.reshape(-1, C)).sum(0)",
            "you summed gscale over g_hat = scale g; y = scale x_hat + shift, so it is sum g "
            "x_hat, with g itself",
        ),
        (
            "(rows * x_hat.reshape(-1, C)).sum(0), rows.sum(0)",
            "(g_hat.reshape(-1, C) * x_hat.reshape(-1, C)).sum(0), g_hat.reshape(-1, C).sum(0)",
            "you summed gscale and gshift over g_hat = scale g; y = scale x_hat + shift, so both "
            "are sums over g itself",
        ),
    ],
    "kernels.reference.norm_silu_grad": [
        (
            U,
            U.replace("silu_grad(g, ", "silu_grad(g, np.clip(").replace(
                "shift)", "shift, -10, 10))"
            ),
            "what goes into silu is cut off at 10; far out the slope is not quite 0 or 1 there",
        ),
        (
            U,
            "silu_grad(g, x)",
            "you took silu's slope at x; what goes into silu is group_norm's output, "
            "scale x_hat + shift",
        ),
        (
            U,
            "silu_grad(g, x_hat.reshape(x.shape))",
            "you took silu's slope at x_hat; what goes into silu is scale x_hat + shift",
        ),
        (
            "group_norm_grad(gu, ",
            "group_norm_grad(g, ",
            "silu's slope is missing: g arrives behind silu and must pass it first",
        ),
        (
            f"gu = {U}\n    return group_norm_grad(gu, x, scale, mean, rstd)",
            f"gx, gscale, gshift = group_norm_grad(g, x, scale, mean, rstd)\n"
            f"    return {U.replace('(g,', '(gx,')}, gscale, gshift",
            "the two derivatives are taken in the wrong order: backwards, silu comes first",
        ),
        (
            U,
            U.replace("silu_grad(g, ", "g * silu("),
            "you multiplied by silu's value; the chain rule multiplies by its slope, silu_grad",
        ),
        (
            "group_norm_grad(gu, x,",
            "group_norm_grad(gu, x_hat.reshape(x.shape) * scale + shift,",
            "you gave group_norm_grad the norm's output; it wants its input, x",
        ),
    ],
    "hunts.hunt_layer": [
        (
            '"A": 4',
            '"A": 5',
            "look at A again: with a single image it is right; which step may look across images?",
        ),
        (
            '"B": 0',
            '"B": 2',
            "look at B again: is there any x, g and scale with which it is off?",
        ),
        (
            '"C": 1',
            '"C": 5',
            "look at C again: gscale is off, too; which step do gx and gscale share?",
        ),
        (
            '"D": 2',
            '"D": 5',
            "look at D again, with all scales 1",
        ),
        (
            '"E": 5',
            '"E": 2',
            "look at E again, with all scales 1, and with x ten times as large",
        ),
    ],
}
