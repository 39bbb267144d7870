"""What designers do with a sampler: fill holes, redraw, blend, change one thing, tile, draw wider than the model has learned.

A model is any callable (x_t (N, H, W, C), t int) -> eps_hat; nothing here needs it to be trained for the task. What draws step by step is
a generator, as the samplers are:  *_, x0 = edit.inpaint(eps_model, s, photo, mask, rng)
"""

from itertools import pairwise, product

import numpy as np

from .. import kernels
from ..diffusion import ddim_weights, q_sample
from ..sample import ddim, ddim_invert, ddim_step, noise_like, start, visited


def inpaint(
    eps_model, s, x0, mask, rng, times=None, rounds=1, x_T=None, eta=1.0, wide=False, clip=np.inf
):
    """Draw the part of an image that is missing: after each step put the known part back, with as much noise as the sample has there.

    For each visited pair (t, u): x_u = ddim's step from x_t;  x_u <- mask q_sample(s, x0, u, fresh noise) + (1 - mask) x_u
    x_T gets its known part first, at times[0]. rounds > 1 lets the parts agree: where u > 0, after the first round each further one goes
    back up, x_t = sqrt(leap) x_u + sqrt(1 - leap) z with leap = alpha_bar[t] / alpha_bar[u], and takes the step again
    wide: where u > 0, ddim's step adds noise of variance 1 - leap in place of sigma^2, which is too little to go up and down on often
    x0: (N, H, W, C), anything finite in the hole; mask: (H, W), (H, W, 1), (N, H, W, 1) or (N, H, W, C) in [0, 1], 1 = keep (in between,
    two noises are averaged, which leaves too little of them); times, x_T, eta, clip: as for sample.ddim -> yields len(times) arrays
    (N, H, W, C), x0 untouched in the last where mask = 1. Raises ValueError for another mask, or times that do not decrease to 0.
    Source: Lugmayr et al. 2022 (RePaint), Algorithm 1 less the slips of its line 5, with jumps of one visited time; wide: DDPM's larger
    variance.
    """
    times, mask = visited(s, times), require_mask(mask, x0)

    def put_back(
        x, u
    ):  # Algorithm 1, line 5, prints the level of t, a step too noisy beside x_u, and (1 - alpha_bar) without its root
        return mask * q_sample(s, x0, u, noise_like(x0, 1 - s.alpha_bar[u], rng)) + (1 - mask) * x

    x = put_back(start(x0.shape, rng, x_T), times[0])
    yield x
    for t, u in pairwise(times):
        leap = s.alpha_bar[t] / s.alpha_bar[u]
        for again in range(rounds if u > 0 else 1):
            if again:
                x = x.dtype.type(np.sqrt(leap)) * x + x.dtype.type(np.sqrt(1 - leap)) * noise_like(
                    x, 1.0, rng
                )
            x = put_back(inpaint_step(eps_model, s, x, t, u, rng, eta, wide, clip), u)
        yield x


def inpaint_step(eps_model, s, x, t, u, rng, eta, wide, clip):
    """Take one step of sample.ddim from t to u; wide: where u > 0, add noise of DDPM's larger variance.

    x: (N, ...); t, u: ints, t > u; eta, clip: as for sample.ddim -> x_u (N, ...)
    """
    c0, ct, std = ddim_weights(s, t, u, eta)
    if wide and u > 0:
        std = np.sqrt(1 - s.alpha_bar[t] / s.alpha_bar[u])
    eps_hat, z = eps_model(x, t), noise_like(x, std, rng)
    return kernels.denoise_step(x, eps_hat, z, s.alpha_bar[t], c0, ct, std, clip)


def require_mask(mask, x0):
    """Check a mask for images x0, and shape it to multiply them."""
    mask, (N, H, W) = np.asarray(mask, x0.dtype), x0.shape[:3]
    if mask.shape not in ((H, W), (H, W, 1), (N, H, W, 1), x0.shape) or not np.all(
        (mask >= 0) & (mask <= 1)
    ):
        raise ValueError(
            f"a mask for images {x0.shape} has shape {(H, W)}, {(H, W, 1)}, {(N, H, W, 1)} or {x0.shape} and values from 0 to 1 = keep; "
            f"got shape {mask.shape}, values {mask.min(initial=np.inf)} to {mask.max(initial=-np.inf)}"
        )
    return mask[..., None] if mask.ndim == 2 else mask


def image_to_image(eps_model, s, x0, strength, rng, times=None, eta=0.0, clip=np.inf):
    """Redraw images: add noise up to some time, which hides what is finer than the noise, and let the model draw it back.

    start = round(strength T);  x_start = q_sample(s, x0, start, noise);  then ddim from start through those of times that lie below it
    x0: (N, ...); strength: 0 .. 1, 0 = x0 comes back, 1 = all is hidden and redrawn; times, eta, clip: as for sample.ddim
    -> yields x_start, ..., x_0, each (N, ...). Raises ValueError for another strength, or times that do not decrease to 0.
    Source: Meng et al. 2022 (SDEdit).
    """
    if not 0 <= strength <= 1:
        raise ValueError(
            f"strength is a share of T, from 0 (nothing changes) to 1 (all is redrawn); got {strength}"
        )
    times, start = visited(s, times), round(strength * s.T)
    x = q_sample(s, x0, start, noise_like(x0, 1 - s.alpha_bar[start], rng))
    if start == 0:
        yield x
    else:
        yield from ddim(
            eps_model, s, x.shape, rng, [start, *(t for t in times if t < start)], eta, x, clip
        )


def slerp(a, b, share):
    """Go from noise a to noise b along an arc: half way on the straight line noise would be too weak for the model.

    (sin((1 - share) angle) a + sin(share angle) b) / sin(angle), angle = that between a and b, one for each image:
    2 arctan2(| |b| a - |a| b |, | |b| a + |a| b |), |.| an image's length, in float64; an arccos loses half of the digits near 0
    (1 - share) a + share b where sin(angle) <= 1e-6: a and b are parallel, or opposite
    a, b: (N, ...); share: number, 0 = a, 1 = b -> (N, ...), a's precision, as long as a and b are, if these are equally long
    Source: Shoemake 1985.
    """
    axes = tuple(range(1, a.ndim))
    length_a, length_b = (
        np.sqrt((x.astype(np.float64) ** 2).sum(axes, keepdims=True)) for x in (a, b)
    )
    apart, together = (
        np.sqrt(((a * length_b + sign * b * length_a) ** 2).sum(axes, keepdims=True))
        for sign in (-1, 1)
    )
    angle = 2 * np.arctan2(
        apart, together
    )  # an arccos would lose half of the digits where a and b are nearly parallel
    arc = np.sin(angle) > 1e-6
    whole = np.where(arc, np.sin(angle), 1)
    to_a = np.where(arc, np.sin((1 - share) * angle) / whole, 1 - share).astype(a.dtype)
    to_b = np.where(arc, np.sin(share * angle) / whole, share).astype(a.dtype)
    return to_a * a + to_b * b


def interpolate(eps_model, s, a, b, shares, times=None, rounds=1):
    """Turn one image into another through images: find the noise of both, go along the arc between, draw from each place.

    x_T of a and of b by ddim_invert(eps_model, s, ., times, rounds);  ddim with eta = 0 from slerp(x_T of a, x_T of b, share)
    a, b: (N, ...); shares: numbers, 0 = a, 1 = b; times: as for sample.ddim; rounds: as for sample.ddim_invert, the more the nearer do
    the ends come back to a and b -> (len(shares), N, ...). Raises ValueError when times do not decrease to 0.
    Source: Song et al. 2021 (DDIM), its interpolations, there between noises that were drawn.
    """
    *_, x_T = ddim_invert(eps_model, s, np.concatenate([a, b]), times, rounds)
    start = np.concatenate([slerp(x_T[: len(a)], x_T[len(a) :], share) for share in shares])
    *_, x0 = ddim(eps_model, s, start.shape, None, times, x_T=start)
    return x0.reshape(len(shares), *a.shape)


def translate(eps_from, eps_to, s, x0, times=None, rounds=1, keep=None, clip=np.inf):
    """Turn images of one model into another's: find the noise that the first makes them of, draw from it with the second.

    path = ddim_invert(eps_from, s, x0, times, rounds);  ddim with eta = 0 and eps_to from its end;
    with keep, after each step to u:  x_u <- keep path at u + (1 - keep) x_u
    eps_from, eps_to: models, or one model told two things; x0: (N, H, W, C); times: as for sample.ddim; where they begin below T, less
    of x0 is forgotten; rounds: as for ddim_invert; keep: a mask as inpaint's, 1 = the picture stays; clip: as for ddim, on the way down
    -> yields len(times) arrays (N, H, W, C), last x_0, which is x0 where keep = 1. Raises ValueError for another mask, or other times.
    Source: Su et al. 2023 (DDIB); with keep Couairon et al. 2023 (DiffEdit).
    """
    times, keep = visited(s, times), require_mask(np.zeros(x0.shape) if keep is None else keep, x0)
    *path, x = ddim_invert(eps_from, s, x0, times, rounds)
    yield x
    for (t, u), known in zip(pairwise(times), reversed(path), strict=True):
        x = keep * known + (1 - keep) * ddim_step(s, x, eps_to(x, t), t, u, clip)
        yield x


def difference(eps_from, eps_to, s, x0, t, rng, n=10):
    """Ask where an image would change: where two models, or one told two things, see different noise in it.

    mean over n draws of x_t = q_sample(s, x0, t, noise) and over channels of |eps_to(x_t, t) - eps_from(x_t, t)|; all over its image's
    largest. x0: (N, H, W, C); t: 1 .. T, the noise hides what may change; n: number of draws -> (N, H, W, 1) in [0, 1]
    difference < 0.5 is a mask to keep the rest by. Source: Couairon et al. 2023 (DiffEdit), there t = T / 2.
    """
    found = 0
    for _ in range(n):
        x_t = q_sample(s, x0, t, rng.standard_normal(x0.shape, x0.dtype))
        found = found + np.abs(np.asarray(eps_to(x_t, t) - eps_from(x_t, t))).mean(
            -1, keepdims=True
        )
    return found / np.maximum(found.max(axis=(1, 2, 3), keepdims=True), np.finfo(x0.dtype).tiny)


def tile(eps_model, s, shape, rng, times=None, eta=0.0, x_T=None, clip=np.inf):
    """Draw images that repeat without a seam, with any model: at each step show it the tile shifted around, so that no place is the edge.

    eps_hat = roll(eps_model(roll(x_t, shift), t), -shift) over H and W, the rest is ddim
    shift = rng.integers(0, (H, W)), two numbers, drawn anew each time that the model is asked
    For models of textures: one that has learned where things belong, as in a portrait, calls the shifted tile wrong, and all fades
    shape: (N, H, W, C); times, eta, x_T, clip: as for sample.ddim; rng also draws the shifts
    -> yields len(times) arrays (N, H, W, C), last x_0. Raises ValueError when times do not decrease to 0.
    """

    def rolled(x_t, t):
        shift = rng.integers(0, x_t.shape[1:3])
        return np.roll(eps_model(np.roll(x_t, shift, (1, 2)), t), -shift, (1, 2))

    return ddim(rolled, s, shape, rng, times, eta, x_T, clip)


def seam_energy(images):
    """Measure how well images repeat: the step from the last row or column on to the first, compared with steps inside.

    (mean down + mean across) of (difference)^2 over the edge / the same inside; both means are over images, pixels and channels
    images: (N, H, W, C), H, W >= 2, not of one colour -> float: about 1 = no seam, large = a visible edge
    """
    images = np.asarray(images, dtype=np.float64)
    steps = [
        np.moveaxis(images - np.roll(images, 1, axis), axis, 0) for axis in (1, 2)
    ]  # (H, N, W, C) and (W, N, H, C)
    seam, inside = (
        sum((step[part] ** 2).mean() for step in steps) for part in (slice(1), slice(1, None))
    )
    return float(seam / inside)


def edge_energy(images, mask):
    """Measure the step across a mask's edge: mean (difference)^2 of neighbours along H or W, of which one is kept and the other not.

    The mean is over the pairs of pixels and the channels; divide by that of real images under the same mask: about 1 = no seam to see
    images: (N, H, W, C); mask: as for inpaint, kept where it is above 0.5; not all of one kind -> float
    """
    images = np.asarray(images, dtype=np.float64)
    kept = np.broadcast_to(require_mask(mask, images) > 0.5, images.shape)
    steps = [np.diff(images, axis=axis)[np.diff(kept, axis=axis)] for axis in (1, 2)]
    return float(np.mean(np.concatenate(steps) ** 2))


def panorama(
    eps_model, s, shape, window, rng, times=None, overlap=0.5, eta=0.0, x_T=None, clip=np.inf
):
    """Draw images larger than the model's own: at each step ask it about overlapping windows, and average what it says.

    eps_hat at a pixel = mean of eps_model(x_t[window], t) over the windows that hold the pixel; the rest is ddim
    along an axis of size W, ceil((W - o) / (w - o)) windows of size w, o = overlap w, spread evenly from one edge to the other
    Like tile, it is for models to which all places are alike.
    shape: (N, H, W, C); window: (height, width), at most (H, W); overlap: share of a window, 0 <= overlap < 1, that neighbours have in
    common at least, rounded down to pixels; times, eta, x_T, clip: as for sample.ddim -> yields len(times) arrays (N, H, W, C), last x_0
    Raises ValueError for another window or overlap. Source: Bar-Tal et al. 2023 (MultiDiffusion).
    """
    if not (
        all(1 <= w <= size for w, size in zip(window, shape[1:3], strict=True)) and 0 <= overlap < 1
    ):
        raise ValueError(
            f"window lies within {shape[1:3]} and 0 <= overlap < 1; got window {window}, overlap {overlap}"
        )

    def starts(size, w):
        count = int(np.ceil((size - overlap * w) / (w - overlap * w)))
        return np.linspace(0, size - w, count).round().astype(int)

    places = [
        (slice(None), slice(i, i + window[0]), slice(j, j + window[1]))
        for i, j in product(*map(starts, shape[1:3], window))
    ]

    def averaged(x_t, t):
        total, count = np.zeros_like(x_t), np.zeros_like(x_t)
        for place in places:
            total[place] += eps_model(x_t[place], t)
            count[place] += 1
        return total / count

    return ddim(averaged, s, shape, rng, times, eta, x_T, clip)
