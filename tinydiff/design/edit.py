"""Editing: fill holes, redraw, blend, change one thing, draw tiles and pictures wider than usual.

A model is any callable (x_t (N, H, W, C), t int) -> eps_hat; nothing here needs it to be trained
for the task. Whatever draws step by step is a generator, as the samplers are:

    *_, x0 = edit.inpaint(eps_model, s, photo, mask, rng)
"""

from itertools import pairwise, product

import numpy as np

from .. import kernels
from ..diffusion import ddim_weights, q_sample
from ..sample import ddim, ddim_invert, ddim_step, noise_like, start, visited


def inpaint(
    eps_model, s, x0, mask, rng, times=None, rounds=1, x_T=None, eta=1.0, wide=False, clip=np.inf
):
    """Draw the missing part of an image: after each step put the known part back, noised to match.

    For each visited pair (t, u): x_u = ddim's step from x_t, then
    x_u <- mask q_sample(s, x0, u, fresh noise) + (1 - mask) x_u
    x_T gets its known part first, at times[0]. rounds > 1 lets the parts agree: where u > 0, each
    round after the first goes back up and takes the step again:
    x_t = sqrt(leap) x_u + sqrt(1 - leap) z, leap = alpha_bar[t] / alpha_bar[u]
    x0: (N, H, W, C), anything finite in the hole; mask: (H, W), (H, W, 1), (N, H, W, 1) or
    (N, H, W, C) in [0, 1], 1 = keep (in between two noises are averaged, which weakens them);
    times, x_T, eta, clip: as for sample.ddim; wide: where u > 0, ddim's step adds noise of variance
    1 - leap (DDPM's larger one): sigma^2 is too little to go up and down often
    -> yields len(times) arrays (N, H, W, C), x0 untouched in the last where mask = 1
    Raises ValueError for another mask, or times that do not decrease to 0. Source: Lugmayr et al.
    2022 (RePaint), Algorithm 1 without the slips of its line 5, jumps of one visited time.
    """
    times, mask = visited(s, times), require_mask(mask, x0)

    def put_back(x, u):
        # Algorithm 1, line 5, prints the level of t, a step too noisy beside x_u, and
        # (1 - alpha_bar) without its root
        return mask * q_sample(s, x0, u, noise_like(x0, 1 - s.alpha_bar[u], rng)) + (1 - mask) * x

    x = put_back(start(x0.shape, rng, x_T), times[0])
    yield x
    for t, u in pairwise(times):
        leap = s.alpha_bar[t] / s.alpha_bar[u]
        for again in range(rounds if u > 0 else 1):
            if again:
                z = x.dtype.type(np.sqrt(1 - leap)) * noise_like(x, 1.0, rng)
                x = x.dtype.type(np.sqrt(leap)) * x + z
            x = put_back(inpaint_step(eps_model, s, x, t, u, rng, eta, wide, clip), u)
        yield x


def inpaint_step(eps_model, s, x, t, u, rng, eta, wide, clip):
    """Take one step of sample.ddim from t to u; wide: where u > 0, add DDPM's larger noise.

    x: (N, ...); t, u: ints, t > u; eta, clip: as for sample.ddim; wide: see inpaint
    -> x_u (N, ...)
    """
    c0, ct, std = ddim_weights(s, t, u, eta)
    if wide and u > 0:
        std = np.sqrt(1 - s.alpha_bar[t] / s.alpha_bar[u])
    eps_hat, z = eps_model(x, t), noise_like(x, std, rng)
    return kernels.denoise_step(x, eps_hat, z, s.alpha_bar[t], c0, ct, std, clip)


def require_mask(mask, x0):
    """Check a mask for images x0 (N, H, W, C), and shape it to multiply them.

    mask: (H, W), (H, W, 1), (N, H, W, 1) or (N, H, W, C) in [0, 1] -> the same, (H, W, 1) for
    (H, W), in x0's precision. Raises ValueError for another.
    """
    mask, (N, H, W) = np.asarray(mask, x0.dtype), x0.shape[:3]
    fitting = ((H, W), (H, W, 1), (N, H, W, 1), x0.shape)
    if mask.shape not in fitting or not np.all((mask >= 0) & (mask <= 1)):
        shapes = f"{fitting[0]}, {fitting[1]}, {fitting[2]} or {fitting[3]}"
        values = f"{mask.min(initial=np.inf)} to {mask.max(initial=-np.inf)}"
        raise ValueError(
            f"a mask for images {x0.shape} has shape {shapes} and values from 0 to 1 = keep; "
            f"got shape {mask.shape}, values {values}"
        )
    return mask[..., None] if mask.ndim == 2 else mask


def image_to_image(eps_model, s, x0, strength, rng, times=None, eta=0.0, clip=np.inf):
    """Redraw images: add noise up to some time, and let the model draw back what it hides.

    start = round(strength T);  x_start = q_sample(s, x0, start, noise); then ddim from start
    through those of times that lie below it
    x0: (N, ...); strength: 0 .. 1, 0 = x0 comes back, 1 = all is hidden and redrawn; times, eta,
    clip: as for sample.ddim -> yields x_start, ..., x_0, each (N, ...)
    Raises ValueError for another strength, or times that do not decrease to 0.
    Source: Meng et al. 2022 (SDEdit).
    """
    if not 0 <= strength <= 1:
        ends = "0 (nothing changes) to 1 (all is redrawn)"
        raise ValueError(f"strength is a share of T, from {ends}; got {strength}")
    times, start = visited(s, times), round(strength * s.T)
    x = q_sample(s, x0, start, noise_like(x0, 1 - s.alpha_bar[start], rng))
    if start == 0:
        yield x
    else:
        below = [start, *(t for t in times if t < start)]
        yield from ddim(eps_model, s, x.shape, rng, below, eta, x, clip)


def slerp(a, b, share):
    """Go from noise a to noise b along an arc.

    Half way on the straight line noise would be too weak for the model.
    p a + q b, where p and q depend on share and on the angle of a and b, each image's own: were a
    and b of one length, this would lie in their plane, as long as they are, at share times their
    angle from a. angle = 2 arctan2(| |b| a - |a| b |, | |b| a + |a| b |), |.| an image's length,
    in float64 (an arccos would lose half of the digits near 0);
    where sin(angle) <= 1e-6, a and b parallel or opposite: (1 - share) a + share b
    a, b: (N, ...); share: number, 0 = a, 1 = b -> (N, ...), a's precision; as long as a and b are,
    if these are equally long
    Source: Shoemake 1985.
    """
    axes = tuple(range(1, a.ndim))

    def length(x):
        return np.sqrt((x**2).sum(axes, keepdims=True))

    length_a, length_b = length(a.astype(np.float64)), length(b.astype(np.float64))
    apart, together = length(a * length_b - b * length_a), length(a * length_b + b * length_a)
    angle = 2 * np.arctan2(apart, together)
    arc = np.sin(angle) > 1e-6
    whole = np.where(arc, np.sin(angle), 1)
    to_a = np.where(arc, np.sin((1 - share) * angle) / whole, 1 - share).astype(a.dtype)
    to_b = np.where(arc, np.sin(share * angle) / whole, share).astype(a.dtype)
    return to_a * a + to_b * b


def interpolate(eps_model, s, a, b, shares, times=None, rounds=1):
    """Turn one image into another through images: go along the arc between the noises of both.

    x_T of a and of b by ddim_invert(eps_model, s, ., times, rounds);  ddim with eta = 0 from
    slerp(x_T of a, x_T of b, share)
    a, b: (N, ...); shares: numbers, 0 = a, 1 = b; times: as for sample.ddim; rounds: as for
    sample.ddim_invert, the more rounds, the closer the ends come back to a and b
    -> (len(shares), N, ...). Raises ValueError when times do not decrease to 0.
    Source: Song et al. 2021 (DDIM), its interpolations, there between noises that were drawn.
    """
    *_, x_T = ddim_invert(eps_model, s, np.concatenate([a, b]), times, rounds)
    start = np.concatenate([slerp(x_T[: len(a)], x_T[len(a) :], share) for share in shares])
    *_, x0 = ddim(eps_model, s, start.shape, None, times, x_T=start)
    return x0.reshape(len(shares), *a.shape)


def translate(eps_from, eps_to, s, x0, times=None, rounds=1, keep=None, clip=np.inf):
    """Turn images of one model into another's: find the first one's noise, draw with the second.

    x0 goes up the path that ddim_invert finds with eps_from; from its end ddim with eta = 0 draws
    with eps_to. With keep, what is kept is put back after each step, as it was at that time on the
    way up.
    eps_from, eps_to: models, or one model given two sets of labels; x0: (N, H, W, C); times: as for
    sample.ddim; where they begin below T, less of x0 is lost; rounds: as for ddim_invert;
    keep: a mask as inpaint's, 1 = the picture stays; clip: as for ddim, on the way down
    -> yields len(times) arrays (N, H, W, C), last x_0, which is x0 where keep = 1
    Raises ValueError for another mask, or other times.
    Source: Su et al. 2023 (DDIB); with keep Couairon et al. 2023 (DiffEdit).
    """
    times, keep = visited(s, times), require_mask(np.zeros(x0.shape) if keep is None else keep, x0)
    *path, x = ddim_invert(eps_from, s, x0, times, rounds)
    yield x
    for (t, u), known in zip(pairwise(times), reversed(path), strict=True):
        x = keep * known + (1 - keep) * ddim_step(s, x, eps_to(x, t), t, u, clip)
        yield x


def difference(eps_from, eps_to, s, x0, t, rng, n=10):
    """Find where an image would change: where two models see different noise in it.

    mean over n draws of x_t = q_sample(s, x0, t, noise), and over channels, of
    |eps_to(x_t, t) - eps_from(x_t, t)|, divided by its largest value in each image
    eps_from, eps_to: models, or one model given two sets of labels; x0: (N, H, W, C); t: 1 .. T,
    the noise hides what may change; n: number of draws -> (N, H, W, 1) in [0, 1]
    difference < 0.5 is a mask of what to keep.
    Source: Couairon et al. 2023 (DiffEdit), there t = T / 2.
    """
    found = 0
    for _ in range(n):
        x_t = q_sample(s, x0, t, rng.standard_normal(x0.shape, x0.dtype))
        apart = np.asarray(eps_to(x_t, t) - eps_from(x_t, t))
        found = found + np.abs(apart).mean(-1, keepdims=True)
    return found / np.maximum(found.max(axis=(1, 2, 3), keepdims=True), np.finfo(x0.dtype).tiny)


def change(eps_before, eps_after, s, x0, rng, times=None, eps_draw=None, clip=np.inf):
    """Change in images what two models see differently, and keep all else.

    A place is changed where the `difference` of the two, at round(0.6 T) and over 5 draws, is 0.2
    or more; any other comes back untouched. x0 goes up the path on which eps_before would draw it,
    and eps_draw draws it anew from there, beside what is kept: this lies on that path all the time.
    eps_before, eps_after: models, or one model given the labels that x0 has and those that it is to
    have; x0: (N, H, W, C); rng: draws for `difference`; times: as for sample.ddim; where they begin
    below T, less of x0 is lost; eps_draw: None = eps_after, or a guided one, which shows the change
    more clearly; clip: as for sample.ddim, on the way down
    -> yields len(times) arrays (N, H, W, C), first the one at times[0], last x_0
    Raises ValueError when times do not decrease to 0.
    Source: Couairon et al. 2023 (DiffEdit); 0.6 and 0.2 were chosen on 100 of the pairs of
    data.load_edits.
    """
    keep = difference(eps_before, eps_after, s, x0, round(0.6 * s.T), rng, 5) < 0.2
    eps_draw = eps_after if eps_draw is None else eps_draw
    return translate(eps_before, eps_draw, s, x0, times, keep=keep, clip=clip)


def tile(eps_model, s, shape, rng, times=None, eta=0.0, x_T=None, clip=np.inf):
    """Draw images that repeat without a seam, with any model: at each step show it a shifted tile.

    So no place is always the edge. What it says of a pixel counts for that pixel, wherever it was
    shown: only the model sees shifts, the tile stays where it is. The rest is ddim.
    shift = rng.integers(0, (H, W)), two numbers, how far down and across all images are rolled,
    drawn again for every call of the model
    It is for models of textures. One that has learned where things belong, as in a portrait, takes
    the shifted tile for wrong, and everything fades.
    shape: (N, H, W, C); times, eta, x_T, clip: as for sample.ddim; rng also draws the shifts
    -> yields len(times) arrays (N, H, W, C), last x_0
    Raises ValueError when times do not decrease to 0.
    """

    def rolled(x_t, t):
        shift = rng.integers(0, x_t.shape[1:3])
        return np.roll(eps_model(np.roll(x_t, shift, (1, 2)), t), -shift, (1, 2))

    return ddim(rolled, s, shape, rng, times, eta, x_T, clip)


def seam_energy(images):
    """Measure how well images repeat: the step over the edge, compared with the steps inside.

    The step over the edge leads from the last row or column to the first.
    (mean down + mean across) of (difference)^2 over the edge / the same inside;
    both means are over images, pixels and channels
    images: (N, H, W, C), H, W >= 2, not of one colour
    -> float: about 1 = no seam, large = a visible edge
    """
    images = np.asarray(images, dtype=np.float64)
    # (H, N, W, C) and (W, N, H, C); the first of each leads over the edge
    steps = [np.moveaxis(images - np.roll(images, 1, axis), axis, 0) for axis in (1, 2)]
    seam = sum((step[:1] ** 2).mean() for step in steps)
    inside = sum((step[1:] ** 2).mean() for step in steps)
    return float(seam / inside)


def edge_energy(images, mask):
    """Measure the step across a mask's edge, from a kept pixel to one that is not kept.

    mean of (difference)^2 over all such pairs of neighbours along H or W, and the channels; divide
    it by that of real images under the same mask: about 1 = no visible seam
    images: (N, H, W, C); mask: as for inpaint, kept where it is above 0.5; not all of one kind
    -> float
    """
    images = np.asarray(images, dtype=np.float64)
    kept = np.broadcast_to(require_mask(mask, images) > 0.5, images.shape)
    steps = [np.diff(images, axis=axis)[np.diff(kept, axis=axis)] for axis in (1, 2)]
    return float(np.mean(np.concatenate(steps) ** 2))


def panorama(
    eps_model, s, shape, window, rng, times=None, overlap=0.5, eta=0.0, x_T=None, clip=np.inf
):
    """Draw images larger than the model's own: at each step average its answers for many windows.

    eps_hat at a pixel = mean of eps_model(x_t[window], t) over the windows that hold the pixel; the
    rest is ddim. Along an axis of size W there are ceil((W - o) / (w - o)) windows of size w,
    o = overlap w, spread evenly from one edge to the other.
    Like tile, it is for models to which all places are alike.
    shape: (N, H, W, C); window: (height, width), at most (H, W); overlap: 0 <= overlap < 1, share
    of a window that neighbours have in common at least, rounded down to pixels; times, eta, x_T,
    clip: as for sample.ddim -> yields len(times) arrays (N, H, W, C), last x_0
    Raises ValueError for another window or overlap.
    Source: Bar-Tal et al. 2023 (MultiDiffusion).
    """
    inside = all(1 <= w <= size for w, size in zip(window, shape[1:3], strict=True))
    if not inside or not 0 <= overlap < 1:
        needed = f"window lies within {shape[1:3]} and 0 <= overlap < 1"
        raise ValueError(f"{needed}; got window {window}, overlap {overlap}")

    def starts(size, w):
        count = int(np.ceil((size - overlap * w) / (w - overlap * w)))
        return np.linspace(0, size - w, count).round().astype(int)

    corners = product(*map(starts, shape[1:3], window))
    places = [np.s_[:, i : i + window[0], j : j + window[1]] for i, j in corners]

    def averaged(x_t, t):
        total, count = np.zeros_like(x_t), np.zeros_like(x_t)
        for place in places:
            total[place] += eps_model(x_t[place], t)
            count[place] += 1
        return total / count

    return ddim(averaged, s, shape, rng, times, eta, x_T, clip)
