"""Wrong answers to lesson 07: how students miss the parts of the U-Net.

What a mutant is: see 01_forward.py.
"""

ROOT = "q.dtype.type(q.shape[2] ** -0.5)"
SHORTCUT = "(block.shortcut(x) if block.shortcut else x)"
GLOBAL = "(lambda s: (lambda e: e / e.sum(-1, keepdims=True))(np.exp(s - s.max())))"
KEPT = "lambda g, kept=[]: tuple(kept or [kept.append({gx}) or kept[0]])"
CUT = "tuple(g[..., e - x.shape[-1] : e] for x, e in zip(xs, ends, strict=True))"

MUTANTS = {
    "ops.down": [
        (
            "kernels.up(g) / 4",
            "kernels.up(g)",
            "the gradient is four times too large: a pixel has a share of 1/4 in the mean of its "
            "block",
        ),
        (
            "kernels.up(g) / 4",
            "kernels.up(g) / 2",
            "you divided the gradient by 2, the side of a block; a block has 4 pixels",
        ),
        (
            "kernels.down(x)",
            "x[:, ::2, ::2]",
            "you kept one pixel of four and dropped the others; down takes the mean of all four",
        ),
        (
            "kernels.down(x)",
            "kernels.down(x) * 4",
            "you added up the four pixels; down takes their mean",
        ),
        (
            "kernels.up(g) / 4",
            "np.tile(g, (1, 2, 2, 1)) / 4",
            "you repeated the whole gradient image four times; each of its values belongs to one "
            "2 x 2 block (repeat, not tile)",
        ),
        (
            "lambda g: (kernels.up(g) / 4,)",
            KEPT.format(gx="kernels.up(g) / 4"),
            "your vjp remembers its first answer: it is called again, with another g",
        ),
    ],
    "ops.up": [
        (
            "kernels.down(g) * 4",
            "kernels.down(g)",
            "the gradient is four times too small: the four gradients of a block add up, you took "
            "their mean",
        ),
        (
            "kernels.down(g) * 4",
            "g[:, ::2, ::2]",
            "you took the gradient of one pixel of each block; all four depend on x, so all four "
            "add up",
        ),
        (
            "kernels.down(g) * 4",
            "kernels.down(g) * 2",
            "the gradient is half as large as it should be: four pixels of a block add up, not two",
        ),
        (
            "kernels.up(x)",
            "np.tile(x, (1, 2, 2, 1))",
            "you repeated the whole image four times; each pixel is to become a 2 x 2 block "
            "(repeat, not tile)",
        ),
        (
            "kernels.up(x)",
            "kernels.up(x) / 4",
            "you shared each pixel out over its block; up copies it, whole, four times",
        ),
        (
            "lambda g: (kernels.down(g) * 4,)",
            KEPT.format(gx="kernels.down(g) * 4"),
            "your vjp remembers its first answer: it is called again, with another g",
        ),
    ],
    "ops.concat": [
        (
            CUT,
            "tuple(np.array_split(g, len(xs), axis=-1))",
            "you cut the gradient into equal parts; each part is as wide as the array that was "
            "joined there",
        ),
        (
            "e - x.shape[-1] : e",
            ": x.shape[-1]",
            "every cut starts at channel 0; each starts where the array before it ended",
        ),
        (
            CUT,
            CUT + "[::-1]",
            "the gradients come in the reverse order; the first belongs to the first argument",
        ),
        (
            "kernels.concat(*xs)",
            "kernels.concat(*xs[::-1])",
            "the arrays are joined in the reverse order; the first comes first",
        ),
        (
            "kernels.concat(*xs)",
            "np.concatenate(xs, axis=1)",
            "you joined along the wrong axis; channels are the last axis",
        ),
        (
            "g[..., e - x.shape[-1] : e]",
            "g[:, :, :, e - x.shape[-1] : e]",
            "you cut arrays of four axes only; the last axis is the last, however many stand "
            "before: g[..., a:b]",
        ),
    ],
    "unet.run_block": [
        (
            SHORTCUT + " + ",
            "",
            "the shortcut is missing: a residual block adds its correction to what came in",
        ),
        (
            SHORTCUT,
            "block.shortcut(block.norm1(x)) if block.shortcut else x",
            "you gave the shortcut the normalised x; it takes x as it came",
        ),
        (
            "block.conv1(block.norm1(x)) + e",
            "block.conv1(block.norm1(x))",
            "e is added nowhere: this block is blind to the time and to the labels",
        ),
        (
            "ops.reshape(block.embed(e), shape=(x.shape[0], 1, 1, -1))",
            "block.embed(e)",
            "embed(e) is (N, O), and broadcasting takes its N for a column of the image: make it "
            "(N, 1, 1, O)",
        ),
        (
            "block.conv2(block.norm2(h))",
            "block.conv2(h)",
            "norm2 is left out, and with it the SiLU in front of conv2",
        ),
        (
            "block.conv1(block.norm1(x))",
            "block.norm1(block.conv1(x))",
            "norm1 and conv1 are exchanged: the norm stands in front of its convolution",
        ),
        (
            SHORTCUT,
            "(x if x.shape[-1] == h.shape[-1] else block.shortcut(x))",
            "you let the numbers of channels decide; a block has a layer on its shortcut, or "
            "None: ask block.shortcut",
        ),
    ],
    "unet.run_unet": [
        (
            "skips.pop()",
            "skips.pop(0)",
            "you took the skips in the order in which they were made; the last one made is the "
            "first one used",
        ),
        (
            "ops.concat(h, skips.pop())",
            "ops.concat(skips.pop(), h)",
            "you put the skip in front; what comes from below is first, the skip second",
        ),
        (
            "            h = block(h, e)\n            skips.append(h)",
            "            skips.append(h)\n            h = block(h, e)",
            "you kept what goes into a block; the skip is what comes out of it",
        ),
        (
            "skips.pop()",
            "skips[-1]",
            "you use the last skip again and again; take it off the stack",
        ),
        (
            "        if level is not model.downs[-1]:\n            h = ops.down(h)",
            "        h = ops.down(h)",
            "you halved behind the last level, too; `down` stands between two levels",
        ),
        (
            "model.mid2(model.attention(model.mid1(h, e)), e)",
            "model.mid2(model.mid1(h, e), e)",
            "the attention between mid1 and mid2 is left out",
        ),
    ],
    "kernels.reference.attention": [
        (
            f" * {ROOT}",
            "",
            "you forgot to divide the scores by sqrt(C): they grow with the number of channels",
        ),
        (
            f"softmax(q @ k.swapaxes(1, 2) * {ROOT})",
            f"softmax((q @ k.swapaxes(1, 2) * {ROOT}).swapaxes(1, 2)).swapaxes(1, 2)",
            "you took the softmax over the queries; for each query the weights of the keys sum to "
            "1: the last axis of q k^T",
        ),
        (
            "q.shape[2] ** -0.5",
            "q.shape[2] ** -1.0",
            "you divided the scores by C; the standard deviation of a sum of C products is sqrt(C)",
        ),
        (
            "q.shape[2] ** -0.5",
            "q.shape[1] ** -0.5",
            "you divided by the root of the number of tokens; the scores are sums over the C "
            "channels",
        ),
        (
            "q @ k.swapaxes(1, 2)",
            "k @ q.swapaxes(1, 2)",
            "queries and keys are exchanged: row i holds the scores of query i with all keys",
        ),
        (
            f"softmax(q @ k.swapaxes(1, 2) * {ROOT})",
            f"softmax(q @ k.swapaxes(1, 2)) * {ROOT}",
            "you divided by sqrt(C) after the softmax; it belongs before it: the weights must sum "
            "to 1",
        ),
        (
            f"softmax(q @ k.swapaxes(1, 2) * {ROOT})",
            f"{GLOBAL}(q @ k.swapaxes(1, 2) * {ROOT})",
            "what you take off is not each query's own largest score: where its scores are far "
            "below that, its weights are 0 / 0",
        ),
    ],
    "kernels.reference.attention_grad": [
        (
            "v.swapaxes(1, 2), p) * root",
            "v.swapaxes(1, 2), p)",
            "1/sqrt(C) is missing on the way back: it multiplies the scores, so it multiplies "
            "their gradient too",
        ),
        (
            "k.swapaxes(1, 2) * root",
            "k.swapaxes(1, 2)",
            "the weights p were computed without 1/sqrt(C): they must be those of the way forward",
        ),
        (
            "softmax_grad(g @ v.swapaxes(1, 2), p)",
            "p * (g @ v.swapaxes(1, 2))",
            "the softmax's derivative lacks the part - p sum(p ...): raising one weight lowers "
            "the others",
        ),
        (
            "p.swapaxes(1, 2) @ g",
            "p @ g",
            "gv needs p transposed: row j of v reaches all queries i, with the weights p[i, j]",
        ),
        (
            "gs.swapaxes(1, 2) @ q",
            "gs @ q",
            "gk needs the scores' gradient transposed: key j meets query i in score [i, j]",
        ),
        (
            "gs @ k, gs.swapaxes(1, 2) @ q,",
            "gs.swapaxes(1, 2) @ q, gs @ k,",
            "gq and gk are exchanged: the order is that of the arguments, q, k, v",
        ),
        (
            "softmax(q @ k.swapaxes(1, 2) * root)",
            f"{GLOBAL}(q @ k.swapaxes(1, 2) * root)",
            "what you take off is not each query's own largest score: where its scores are far "
            "below that, its weights are 0 / 0",
        ),
        (
            "softmax(q @ k.swapaxes(1, 2) * root)",
            "(lambda e: e / e.sum(-1, keepdims=True))(np.exp(q @ k.swapaxes(1, 2) * root))",
            "exp overflows where scores are large: take the row's largest off first, as softmax "
            "does",
        ),
    ],
    "hunts.hunt_unet": [
        (
            '"A": 2',
            '"A": 0',
            "A: its values are right, bit by bit; have you checked its gradient?",
        ),
        (
            '"B": 5',
            '"B": 0',
            "B: read, in the notes, what each block on the way up is given, and who made it",
        ),
        (
            '"D": 6',
            '"D": 0',
            "D: give it a batch of two different images, and each of them alone",
        ),
        (
            '"C": 0',
            '"C": 4',
            "C: which instrument says so? Not every suspect has a slip",
        ),
    ],
}
