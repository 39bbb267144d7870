"""Style transfer by diffusion: a network that sees a source beside the noisy picture.

It draws what the source shows in another style, or completes it:

    set        source (N, H, W, S)                                     label
    emoji      the subject in some other style, 3 channels             the style to draw
    typefaces  the face's known letters, one channel for each of 26    the letter to draw

What is not known of a source is 0, grey. A network that is trained without a source now and then
also draws without one.
"""

import numpy as np

from .. import diffusion, ops
from ..train import PREDICTIONS, drop_labels, in_pieces, repeat

ALONE = 0.15  # share of training pictures that come without a source
DIRECTIONS = (  # of the emoji: those that are measured
    ("line", "flat"),
    ("flat", "shaded"),
    ("twemoji", "noto"),
    ("noto", "twemoji"),
)


def beside(model, source=None):
    """Show a network a source beside each noisy picture: join their channels.

    model: called as model(x (N, H, W, C + S), t, labels); source: (N, H, W, S), or (1, H, W, S) for
    all, None = nothing known, zeros
    -> network: (x_t (N, H, W, C), t (N,), labels) -> (N, H, W, C), for train.denoiser and so for
    every sampler. Source: Saharia et al. 2022 (Palette).
    """

    def network(x_t, t, labels=None):
        known = np.zeros((), x_t.dtype) if source is None else source.astype(x_t.dtype)
        shown = np.broadcast_to(known, (*x_t.shape[:3], model.channels - x_t.shape[3]))
        return model(ops.concat(x_t, np.ascontiguousarray(shown)), t, labels)

    return network


def train(run, s, batch_of, predict="v", lr=lambda step: 1e-3, p_drop=0.1):
    """Train without end, as train.train does, on pictures that come with a source.

    loss = mean |target - beside(model, source)(x_t, t, labels)|^2, target = eps or v
    run: a Training; batch_of: rng -> source (N, H, W, S), x0 (N, H, W, C), labels (N, number of
    labels); predict, lr, p_drop: as for train.train -> yields `run` after each step
    Raises FloatingPointError as train.train_step does, ValueError for another predict.
    """
    if predict not in PREDICTIONS:
        raise ValueError(f"predict is one of {', '.join(PREDICTIONS)}; got {predict!r}")

    def loss_of(model, source, x_t, t, cond, target):
        return ops.mse(beside(model, source)(x_t, t, cond), target)

    def next_loss(rng):
        source, x0, labels = batch_of(rng)
        t = rng.integers(1, s.T + 1, size=len(x0))
        eps = rng.standard_normal(x0.shape, dtype=np.float32)
        cond = drop_labels(labels, run.model.classes, p_drop, rng)
        source, x0, t, eps, cond = run.team.share(source, x0, t, eps, cond)
        x_t = diffusion.q_sample(s, x0, t, eps)
        target = diffusion.v_target(s, x0, t, eps) if predict == "v" else eps
        return in_pieces(loss_of, run.most, source, x_t, t, cond, target)

    return repeat(run, lr, next_loss)


def task(styles):
    """Choose what a network learns on a set of styles: to redraw emoji, or to complete alphabets.

    styles: data.Styles -> labels {name: values}; S, channels of its source; and a function
    (rng, N) -> a batch for `train`, of the training part alone: source (N, H, W, S),
    x0 (N, H, W, C), labels (N, 1)
    """
    if styles.name == "emoji":
        subjects, often = styles.images[~styles.test], directions(styles)
        return {"style": styles.styles}, 3, lambda rng, N: redrawn(subjects, often, rng, N)
    letters, known = styles.names, ~styles.test
    batch_of = lambda rng, N: alphabets(styles.images, known, rng, N)
    return {"letter": letters}, len(letters), batch_of


def directions(styles):
    """Look up the DIRECTIONS in a set of M subjects in S styles: -> (4, 2) ints, from and to"""
    return np.array([[styles.styles.index(name) for name in pair] for pair in DIRECTIONS])


def examples(styles):
    """List what a trained network has not seen, with the truth.

    Emoji: unseen subjects in the DIRECTIONS. Typefaces: unseen letters beside a face's known ones.
    styles: data.Styles -> source (N, H, W, S), x0 (N, H, W, C): the truth, labels (N, 1), as `task`
    has them
    """
    if styles.name == "emoji":
        subjects, pairs = styles.images[styles.test], directions(styles)
        source, x0 = (np.concatenate([subjects[:, pair[k]] for pair in pairs]) for k in (0, 1))
        return source, x0, np.repeat([to for _, to in pairs], len(subjects))[:, None]
    letter, face = np.nonzero(styles.test)
    source = known_letters(styles.images, ~styles.test, face)
    return source, styles.images[letter, face], letter[:, None]


def known_letters(images, known, face):
    """Lay the known letters of faces side by side as channels, 0 where one is not known.

    images: (26, F, H, W, 1); known: (26, F) bool; face: (N,) ints -> (N, H, W, 26)
    """
    letters = np.moveaxis(images[..., 0][:, face], 0, -1)  # (N, H, W, 26)
    return np.where(known[:, face].T[:, None, None], letters, np.float32(0))


def redrawn(images, often, rng, N):
    """Draw a batch of pairs: one picture as the source, another style of the same subject to draw.

    One time in two the two styles are one of the pairs `often`, else any; half of the pairs are
    mirrored; a share ALONE comes without a source. Of the others, where both pictures have colours
    (a channel 0.2 or more from its pixel's mean), half have their channels put into a random order,
    the same in both: with a source the colours can be read off it, without one they must be right.
    images: (M, S, H, W, 3); often: (P, 2) ints
    -> source (N, H, W, 3), x0 (N, H, W, 3), labels (N, 1): the style of x0
    """
    M, S = images.shape[:2]
    i, to = rng.integers(M, size=N), rng.integers(S, size=N)
    of = (to + rng.integers(1, S, size=N)) % S
    of, to = np.where(rng.random(N) < 0.5, often[rng.integers(len(often), size=N)].T, (of, to))
    pair = np.stack([images[i, of], images[i, to]])  # (2, N, H, W, 3)
    mirror = rng.random(N) < 0.5
    pair[:, mirror] = pair[:, mirror, :, ::-1]
    # (2, N): drawn in black lines
    colourless = np.abs(pair - pair.mean(-1, keepdims=True)).max((2, 3, 4)) < 0.2
    alone = rng.random(N) < ALONE
    shuffled = ~(colourless.any(0) | alone) & (rng.random(N) < 0.5)
    orders = rng.permuted(np.tile(np.arange(3), (N, 1)), axis=1)
    places = np.where(shuffled[:, None], orders, np.arange(3))
    source, x0 = np.take_along_axis(pair, places[None, :, None, None, :], axis=-1)
    return np.where(alone[:, None, None, None], np.float32(0), source), x0, to[:, None]


def alphabets(images, known, rng, N):
    """Draw a batch of letters to draw, each with some other letters of its face, slightly bent.

    A face is warped as a whole, which makes a new face of it. Each other known letter is shown with
    a probability between 0 and 1, the same for all of them; a share ALONE comes without any.
    images: (26, F, H, W, 1); known: (26, F) bool, which may be shown or drawn
    -> source (N, H, W, 26), x0 (N, H, W, 1), labels (N, 1): the letter of x0
    """
    letters, faces = np.nonzero(known)
    i = rng.integers(len(letters), size=N)
    letter, face = letters[i], faces[i]
    alphabet = warp(np.moveaxis(images[..., 0][:, face], 0, -1), rng)  # (N, H, W, 26)
    shown = known[:, face].T & (rng.random((N, 26)) < rng.random((N, 1)))
    shown[np.arange(N), letter] = False
    shown[rng.random(N) < ALONE] = False
    x0 = np.take_along_axis(alphabet, letter[:, None, None, None], axis=-1)
    return np.where(shown[:, None, None], alphabet, np.float32(0)), x0, letter[:, None]


def warp(images, rng, amount=0.1):
    """Bend each image a little, all its channels alike: scale, turn, shear and shift it.

    The value at (row, column), counted from the middle, is read at
    (I + amount A) (row, column) + b, from the four pixels around; beyond the edge it is -1
    A: (2, 2) standard normal, cut off at +-2, and b: (2,) normal of standard deviation 0.5, cut off
    at +-1, for each image, A first
    images: (N, H, W, C) in [-1, 1] -> the same
    """
    N, H, W, _ = images.shape
    middle = [(H - 1) / 2, (W - 1) / 2]
    rows, columns = np.arange(H) - middle[0], np.arange(W) - middle[1]
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1)  # (H, W, 2) from the middle
    A = np.eye(2) + amount * np.clip(rng.standard_normal((N, 1, 1, 2, 2)), -2, 2)
    b = np.clip(0.5 * rng.standard_normal((N, 1, 1, 2)), -1, 1)
    at = (A @ grid[..., None])[..., 0] + b + middle
    padded = np.pad(images, ((0, 0), (1, 2), (1, 2), (0, 0)), constant_values=-1)
    at = np.clip(at + 1, 0, [H + 1, W + 1])
    corner = np.floor(at).astype(int)
    share = (at - corner).astype(np.float32)
    n, (r, c) = np.arange(N)[:, None, None], np.moveaxis(corner, -1, 0)
    y, x = np.moveaxis(share, -1, 0)[..., None]
    top = (1 - x) * padded[n, r, c] + x * padded[n, r, c + 1]
    bottom = (1 - x) * padded[n, r + 1, c] + x * padded[n, r + 1, c + 1]
    return (1 - y) * top + y * bottom
