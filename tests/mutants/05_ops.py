"""Wrong answers to lesson 05: how students miss values and derivatives. See 01_forward.py for what a mutant is."""

MUTANTS = {
    "kernels.reference.silu_grad": [
        (
            "g * sigma * (1 + x * (1 - sigma))",
            "g * sigma",
            "you took sigmoid(x) for a constant: silu is a product, so its derivative has a second term, x times the slope of sigmoid",
        ),
        (
            "g * sigma * (1 + x * (1 - sigma))",
            "g * x * sigma * (1 - sigma)",
            "you left out the first term of the product rule: the derivative of x is 1, times sigma",
        ),
        (
            "g * sigma * (1 + x * (1 - sigma))",
            "g * sigma * (1 - sigma)",
            "that is the slope of sigmoid; silu is x sigmoid(x), a product",
        ),
        (
            "g * sigma * (1",
            "sigma * (1",
            "you left out g: a vjp multiplies what arrives from above by the slope",
        ),
        (
            "np.exp(-x)",
            "np.exp(x)",
            "you turned the sign of the exponent: sigma = 1 / (1 + exp(-x)) rises with x",
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
            "exp overflows for large scores: subtract the row's maximum first, which changes nothing in the result",
        ),
        (
            "x.max(-1, keepdims=True)",
            "x.max()",
            "you subtracted the largest score of all rows; a row far below it becomes 0 / 0: each row needs its own maximum",
        ),
        (
            "e.sum(-1, keepdims=True)",
            "e.sum(0, keepdims=True)",
            "you normalised over the first axis; a row is the last one, axis -1",
        ),
        (
            "e.sum(-1, keepdims=True)",
            "e.sum(min(1, e.ndim - 1), keepdims=True)",
            "you normalised over axis 1, which is the last one in a matrix only: write -1",
        ),
        (
            "e.sum(-1, keepdims=True)",
            "e.sum()",
            "you divided by the sum over everything: each row sums to 1 by itself, over axis -1",
        ),
        (
            "e / e.sum(-1, keepdims=True)",
            "e",
            "you left out the division: the weights of a row sum to 1",
        ),
        (
            "np.exp(x - x.max(-1, keepdims=True))\n    return e / e.sum(-1, keepdims=True)",
            "np.exp(x - x.max(0, keepdims=True))\n    return e / e.sum(0, keepdims=True)",
            "you took maximum and sum over the first axis; a row is the last one, axis -1",
        ),
    ],
    "kernels.reference.softmax_grad": [
        (
            "y * (g - (g * y).sum(-1, keepdims=True))",
            "y * g",
            "you took the denominator for a constant: raising one score lowers all the other weights, hence the sum over g y",
        ),
        (
            "y * (g - (g * y).sum(-1, keepdims=True))",
            "g * y * (1 - y)",
            "you used the diagonal of the Jacobian only, as for a sigmoid; the other entries, -y_i y_j, count too",
        ),
        (
            "(g * y).sum(",
            "g.sum(",
            "you summed g where g y belongs: the Jacobian is diag(y) - y y^T",
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
            "you took the mean; the chain rule adds up: sum(g y)",
        ),
        (
            "(g * y).sum(-1, keepdims=True)",
            "(g * y).sum()",
            "you summed over everything: each row has its own sum(g y), over axis -1",
        ),
    ],
    "kernels.reference.conv2d": [
        (
            "@ w[i, j] for",
            "@ w[K - 1 - i, K - 1 - j] for",
            "you turned the window by 180 degrees: that is the convolution of signal processing (and of gx); here pixel h + i meets w[i]",
        ),
        (
            "@ w[i, j] for",
            "@ w[j, i] for",
            "you exchanged the window's two axes: i counts rows (down), j columns (to the right)",
        ),
        (
            "xp = pad(x, K // 2, padding)",
            "xp = pad(x, K - 1, padding)",
            "your window is shifted: its middle, i = j = K // 2, lies on the output's pixel; the border is K // 2 wide on every side",
        ),
        (
            "pad(x, K // 2, padding)",
            "pad(x, K // 2 + 1, padding)[:, 1:]",
            "your window lies a pixel too far to the left: at j = K // 2 it meets the output's own column",
        ),
        (
            "pad(x, K // 2, padding)",
            "pad(x, K - 1, padding)[:, K - 1 :, K - 1 :]",
            "your window begins at the output's pixel: its middle, i = j = K // 2, belongs there; pad K // 2 on every side",
        ),
        (
            "pad(x, K // 2, padding)",
            'pad(x, K // 2, "zeros")',
            'you always pad with zeros: "circular" asks for the opposite border',
        ),
        (
            "pad(x, K // 2, padding)",
            'np.pad(x, ((0, 0), (K // 2, K // 2), (K // 2, K // 2), (0, 0)), mode="edge")',
            "you repeated the outermost pixels; outside is 0, or the image itself wrapped round",
        ),
    ],
    "kernels.reference.conv2d_grad_w": [
        (
            "gw[i, j] =",
            "gw[K - 1 - i, K - 1 - j] =",
            "you turned the window: only gx needs that; gw is a plain correlation, gw[i, j] adds up pixel h + i times g at h",
        ),
        (
            "gw[i, j] =",
            "gw[j, i] =",
            "you exchanged the window's two axes: i counts rows (down), j columns (to the right)",
        ),
        (
            "pad(x, K // 2, padding)",
            "pad(x, K - 1, padding)",
            "your window is shifted: at i = j = K // 2 the pixel of x and that of g are the same one",
        ),
        (
            "pad(x, K // 2, padding)",
            "pad(x, K // 2 + 1, padding)[:, 1:]",
            "your window lies a pixel too far to the left: at j = K // 2 it meets the output's own column",
        ),
        (
            "pad(x, K // 2, padding)",
            "pad(x, K - 1, padding)[:, K - 1 :, K - 1 :]",
            "your window begins at the output's pixel: its middle, i = j = K // 2, belongs there; pad K // 2 on every side",
        ),
        (
            "pad(x, K // 2, padding)",
            'pad(x, K // 2, "zeros")',
            'you always pad with zeros: "circular" asks for the opposite border',
        ),
        (
            "@ flat",
            "@ flat / len(x)",
            "you took the mean over the images; the chain rule adds up over all places where a weight was used",
        ),
        (
            "@ flat",
            "@ flat / (H * W)",
            "you took the mean over the pixels; the chain rule adds up over all places where a weight was used",
        ),
    ],
    "kernels.reference.group_norm": [
        (
            "mean, rstd = xg.mean((1, 3)), 1 / np.sqrt(xg.var((1, 3)) + x.dtype.type(eps))",
            "mean, rstd = xg.mean((0, 1, 3)) + xg[:, 0, :, 0] * 0, 1 / np.sqrt(xg.var((0, 1, 3)) + xg[:, 0, :, 0] * 0 + x.dtype.type(eps))",
            "you took mean and variance over the whole batch: each image has its own, whoever its neighbours are",
        ),
        (
            "xg.var((1, 3))",
            "xg.var((1, 3), ddof=1)",
            "you divided the variance by n - 1; here it is the mean of squares, divided by n",
        ),
        (
            "np.sqrt(xg.var((1, 3)) + x.dtype.type(eps))",
            "(np.sqrt(xg.var((1, 3))) + x.dtype.type(eps))",
            "eps stands inside the root, added to the variance",
        ),
        (
            "np.sqrt(xg.var((1, 3)) + x.dtype.type(eps))",
            "(xg.var((1, 3)) + x.dtype.type(eps))",
            "you divided by the variance; its root, the standard deviation, has the unit of x",
        ),
        (
            "xg.var((1, 3))",
            "((xg * xg).mean((1, 3)) - xg.mean((1, 3)) ** 2)",
            "mean(x^2) - mean^2 loses all digits: subtract the mean first",
        ),
        (
            "x_hat * scale + shift",
            "(x_hat + shift) * scale",
            "first scale, then shift: y = scale x_hat + shift",
        ),
        (
            "x_hat * scale + shift",
            "x_hat",
            "scale and shift are forgotten: y = scale x_hat + shift",
        ),
        (
            "mean, rstd = xg.mean((1, 3)), 1 / np.sqrt(xg.var((1, 3)) + x.dtype.type(eps))",
            "mean, rstd = xg.mean((0, 1, 3))[None], 1 / np.sqrt(xg.var((0, 1, 3)) + x.dtype.type(eps))[None]",
            "you took mean and variance over the whole batch: each image has its own, (N, G) of them",
        ),
        (
            "mean, rstd = xg.mean((1, 3)), 1 / np.sqrt(xg.var((1, 3)) + x.dtype.type(eps))\n"
            "    x_hat = ((xg - mean[:, None, :, None]) * rstd[:, None, :, None]).reshape(x.shape)",
            "mean, rstd = xg.mean(1), 1 / np.sqrt(xg.var(1) + x.dtype.type(eps))\n"
            "    x_hat = ((xg - mean[:, None]) * rstd[:, None]).reshape(x.shape)",
            "you took mean and variance for each channel by itself: a group's bag holds all its channels, axes 1 and 3",
        ),
    ],
    "kernels.reference.group_norm_grad": [
        (
            "r * (g_hat - g_hat.mean((1, 3), keepdims=True) - x_hat * (g_hat * x_hat).mean((1, 3), keepdims=True))",
            "r * g_hat",
            "you took mean and variance for constants: both depend on every x of the group",
        ),
        (
            " - x_hat * (g_hat * x_hat).mean((1, 3), keepdims=True)",
            "",
            "you left out the path through the variance: x_hat mean(g_hat x_hat)",
        ),
        (
            "r * (g_hat - g_hat.mean((1, 3), keepdims=True) -",
            "r * (g_hat -",
            "you left out the path through the mean: mean(g_hat)",
        ),
        (
            "_grouped(g * scale, G)",
            "_grouped(g, G)",
            "scale is missing: what arrives at x_hat is g_hat = scale g",
        ),
        (
            "g_hat.mean((1, 3), keepdims=True) - x_hat",
            "g_hat.mean(1, keepdims=True) - x_hat",
            "you took mean(g_hat) for each channel by itself: it runs over the group",
        ),
        (
            "(rows * x_hat.reshape(-1, C)).sum(0)",
            "(rows * x.reshape(-1, C)).sum(0)",
            "scale multiplies x_hat, not x: gscale = sum g x_hat",
        ),
        (
            "g_hat.mean((1, 3), keepdims=True) - x_hat * (g_hat * x_hat).mean((1, 3), keepdims=True)",
            "g_hat.mean(1, keepdims=True) - x_hat * (g_hat * x_hat).mean(1, keepdims=True)",
            "you took both means for each channel by itself: they run over the group, pixels and channels",
        ),
        (
            "(rows * x_hat.reshape(-1, C)).sum(0)",
            "(g_hat.reshape(-1, C) * x_hat.reshape(-1, C)).sum(0)",
            "gscale is summed from g_hat = scale g; y = scale x_hat + shift, so it is sum g x_hat, with g itself",
        ),
        (
            "(rows * x_hat.reshape(-1, C)).sum(0), rows.sum(0)",
            "(g_hat.reshape(-1, C) * x_hat.reshape(-1, C)).sum(0), g_hat.reshape(-1, C).sum(0)",
            "gscale and gshift are summed from g_hat = scale g; y = scale x_hat + shift, so both are sums over g itself",
        ),
    ],
}
