"""Editing against closed forms: for Gaussian data with correlated pixels an edit is affine in its noises, so its law is known to rounding.

A generator of unit impulses, one for each number drawn, reads that law off the code; equations written a second time, in another form,
say what it must be. `slip` plants one slip at a time into the source, and each is seen caught.
"""

import inspect
import math
from itertools import pairwise, product

import numpy as np
import pytest
from test_sample import LONG, MEAN, SMOOTH, T8, VAR, forward, grades, quiet, rejects

from tinydiff import diffusion, exact, kernels, sample, schedule
from tinydiff.design import edit

LOW = np.array([[1.0, 0, 0, 0], [0.7, 0.6, 0, 0], [-0.3, 0.5, 0.8, 0], [0.2, -0.4, 0.5, 0.5]])
SHAPE, MIDDLE, COV = (
    (2, 2, 1),
    np.array([0.6, -0.3, 0.2, 0.9]),
    0.4 * LOW @ LOW.T,
)  # 4 pixels: asymmetric, all correlated
PHOTO = np.array([1.1, -0.8, 0.4, 1.6])


@pytest.fixture(autouse=True, params=("reference", "cpu"))
def kernel_set(request):
    """Run every test once for each kernel set, and leave the choice as it was."""
    before = kernels._active
    kernels.use(request.param)
    yield request.param
    kernels._active = before


def slip(function, old, new, **names):
    """The function with one piece of its source exchanged, and with other names at hand."""
    source = inspect.getsource(function)
    assert source.count(old) == 1, (
        f"{old!r} stands {source.count(old)} times in {function.__name__}"
    )
    scope = vars(edit) | names
    exec(source.replace(old, new), scope)
    return scope[function.__name__]


def correlated(s, mean, cov):
    """Denoise data N(mean, cov): eps_hat = -sqrt(1 - alpha_bar) score, the score that of N(sqrt(alpha_bar) mean, S)."""
    precision = [np.linalg.inv(ab * cov + (1 - ab) * np.eye(len(cov))) for ab in s.alpha_bar[1:]]

    def eps_model(x_t, t):
        away = x_t.reshape(len(x_t), -1) - math.sqrt(s.alpha_bar[t]) * mean
        return (math.sqrt(1 - s.alpha_bar[t]) * away @ precision[t - 1]).reshape(x_t.shape)

    return eps_model


class Impulses:
    """Stand in for a random generator: every number of every draw is 1 in one row of the batch and 0 in all others; shifts are given."""

    def __init__(self, shifts=()):
        self.row, self.shifts, self.across = None, iter(shifts), []

    def standard_normal(self, size=None, dtype=np.float64):
        assert np.ndim(size) == 1, (
            f"rng.standard_normal was asked for {size}: each number of each image needs noise of its own"
        )
        z = np.zeros((size[0], math.prod(size[1:])), dtype)
        self.row = 1 + z.shape[1] if self.row is None else self.row
        rows = np.arange(self.row, min(self.row + z.shape[1], len(z)))
        z[rows, rows - self.row] = 1
        self.row += z.shape[1]
        return z.reshape(size)

    def normal(self, loc=0.0, scale=1.0, size=None):
        return loc + scale * self.standard_normal(size)

    def integers(self, low, high=None, size=None):
        low, high = (0, low) if high is None else (low, high)
        down_or_across = (
            np.ndim(high) == 0 and size is None
        )  # asked for one number after the other, the one down first
        if down_or_across and not self.across:
            self.across = list(zip(RING[:2], next(self.shifts), strict=True))
        places, shift = self.across.pop(0) if down_or_across else (RING[:2], next(self.shifts))
        fits = not np.any(low) and np.array_equal(np.atleast_1d(high), np.atleast_1d(places))
        assert fits, (
            f"a shift is drawn from all places, 0 .. H - 1 and 0 .. W - 1; here H, W = {RING[:2]}, asked: {low}, {high}"
        )
        return np.array(shift)


def law(run, shape, x_T, shifts=()):
    """Mean and covariance of x_0, x_T being N(*x_T) and all draws N(0, 1). run(rng, x_T) is an edit, of images of that shape."""
    D = math.prod(shape)
    counting = Impulses(shifts)
    list(run(counting, np.zeros((1, *shape))))
    rows = np.zeros((counting.row or 1 + D, D))
    rows[1 : 1 + D] = np.eye(D)
    *_, x0 = run(Impulses(shifts), rows.reshape(-1, *shape))
    x0 = x0.reshape(rows.shape)
    offset, slope, noises = x0[0], x0[1 : 1 + D] - x0[0], x0[1 + D :] - x0[0]
    return offset + x_T[0] @ slope, slope.T @ x_T[1] @ slope + noises.T @ noises


def white(D):
    return np.zeros(D), np.eye(D)


def images(values, like):
    """One image's values, for every row of a batch."""
    return np.broadcast_to(np.reshape(values, like.shape[1:]), like.shape).astype(like.dtype)


def close(got, want, what, tol=1e-10):
    for name, a, b in zip(("mean", "covariance"), got, want, strict=True):
        i = np.unravel_index(np.abs(a - b).argmax(), b.shape)
        where = f"of pixel {i[0]}" if name == "mean" else f"of pixels {i[0]} and {i[1]}"
        assert np.abs(a - b).max() < tol, (
            f"{what}: the {name} {where} of what comes is {a[i]:.5g}, expected {b[i]:.5g}"
        )


# --- inpaint ---


def filled(inpaint, s, mask, x0=PHOTO, model=None, **how):
    """The law of what inpaint draws into x0, from white noise."""
    model = model or correlated(s, MIDDLE, COV)
    return law(
        lambda rng, x: inpaint(model, s, images(x0, x), mask, rng, x_T=x, **how), SHAPE, white(4)
    )


def step(s, t, u, eta, mean=MIDDLE, cov=COV):
    """ddim's step from t to u in score form, x_u = A x_t + c + sigma z: x0_hat = (x_t + (1 - alpha_bar) score) / sqrt(alpha_bar) and

    eps_hat = -sqrt(1 - alpha_bar) score; sigma^2 by adding precisions, the leap by multiplying alphas. -> A, c, sigma^2, leap
    """
    leap, ab_t, ab_u = np.prod(1 - s.beta[u + 1 : t + 1]), s.alpha_bar[t], s.alpha_bar[u]
    sigma2 = 0 if u == 0 else eta**2 / (leap / (1 - leap) + 1 / (1 - ab_u))
    pull = np.linalg.inv(
        ab_t * cov + (1 - ab_t) * np.eye(len(cov))
    )  # score = pull (sqrt(ab_t) mean - x)
    moved = math.sqrt(ab_u / ab_t) * (1 - ab_t) - math.sqrt(max(1 - ab_u - sigma2, 0) * (1 - ab_t))
    return (
        math.sqrt(ab_u / ab_t) * np.eye(len(cov)) - moved * pull,
        moved * math.sqrt(ab_t) * pull @ mean,
        sigma2,
        leap,
    )


def carried(law, A, c, added):
    return A @ law[0] + c, A @ law[1] @ A.T + added * np.eye(len(A))


def refilled(s, mask, times, rounds, eta, wide=False):
    """The law of inpainting, carried along from white noise."""
    keep = np.reshape(mask, -1).astype(float)

    def put_back(law, u):
        signal, noise = math.sqrt(s.alpha_bar[u]), 1 - s.alpha_bar[u]
        return keep * signal * PHOTO + (1 - keep) * law[0], np.outer(1 - keep, 1 - keep) * law[
            1
        ] + noise * np.diag(keep**2)

    law = put_back(white(4), times[0])
    for t, u in pairwise(times):
        A, c, sigma2, leap = step(s, t, u, eta)
        added = 1 - leap if wide and u else sigma2
        law = put_back(carried(law, A, c, added), u)
        for _ in range(rounds - 1 if u else 0):
            law = carried(law, math.sqrt(leap) * np.eye(4), 0, 1 - leap)
            law = put_back(carried(law, A, c, added), u)
    return law


HARD, SOFT = np.array([[1, 0], [0, 1]]), np.array([[1, 0.3], [0, 0.8]])


def check_inpaint_law(inpaint):
    """Every round, every path, masks hard and soft."""
    for mask in (HARD, SOFT):
        for times, *how in (
            [range(8, -1, -1), 1, 1.0],
            [[8, 6, 3, 1, 0], 3, 0.5],
            [[5, 2, 0], 2, 0.0],
            [[8, 7, 3, 2, 0], 3, 1.0, True],
        ):
            rounds, eta, wide = (*how, False)[:3]
            got = filled(inpaint, T8, mask, times=times, rounds=rounds, eta=eta, wide=wide)
            close(
                got,
                refilled(T8, mask, times, rounds, eta, wide),
                f"times {times}, {rounds} rounds, eta {eta}, wide {wide}",
            )
    close(filled(inpaint, T8, HARD), refilled(T8, HARD, range(8, -1, -1), 1, 1.0), "by default")


def check_known_pixels(inpaint):
    """They come back bit for bit, whatever the precision; the others do not; every level but the last is noisy."""
    rng = np.random.default_rng(4)
    for dtype in (np.float64, np.float32):
        x0 = rng.normal(0.1, 0.7, (3, 4, 5, 2)).astype(dtype)
        for mask in (
            rng.random((4, 5)) < 0.5,
            rng.random((4, 5, 1)) < 0.5,
            rng.random((3, 4, 5, 1)) < 0.5,
            rng.random(x0.shape) < 0.5,
        ):
            whole = np.broadcast_to(mask[..., None] if mask.ndim == 2 else mask, x0.shape)
            every = list(
                inpaint(
                    exact.gaussian(T8, 0.3, 0.5), T8, x0, mask, np.random.default_rng(5), rounds=2
                )
            )
            assert len(every) == 9, (
                f"T = 8, 2 rounds: {len(every)} arrays came, expected 9, one a visited time"
            )
            *_, before, last = every
            assert last.dtype == dtype, (
                f"x0 is {np.dtype(dtype)}, and so is what comes; came {last.dtype}"
            )
            assert np.array_equal(last[whole], x0[whole]), (
                "known pixels come back bit for bit; some have changed"
            )
            assert not np.any(last[~whole] == x0[~whole]), (
                "x0 is seen in the hole: what stands there is not to be used"
            )
            assert not np.any(before == x0), (
                "one step before the end the known pixels still have the noise of that time; some have none"
            )


def check_independent(inpaint):
    """Pixels that know nothing of each other: the unknown ones are drawn as if there were no others."""
    var = np.array([0.2, 0.5, 0.1, 0.9])
    model = exact.gaussian(T8, MIDDLE.reshape(SHAPE), var.reshape(SHAPE))
    free = law(lambda rng, x: sample.ddim(model, T8, x.shape, rng, eta=1.0, x_T=x), SHAPE, white(4))
    hole = HARD.ravel() == 0
    for x0 in (PHOTO, -3 * PHOTO):
        mean, cov = filled(inpaint, T8, HARD, x0, model)
        close(
            (mean[hole], cov[hole][:, hole]),
            (free[0][hole], free[1][hole][:, hole]),
            "independent pixels",
        )


def astray(inpaint, rounds, wide):
    """How far the law of the unknown pixels is from their true law given the known ones: in the mean, in the covariance; its variances."""
    hole = HARD.ravel() == 0
    gain = COV[hole][:, ~hole] @ np.linalg.inv(COV[~hole][:, ~hole])
    true_mean = MIDDLE[hole] + gain @ (PHOTO - MIDDLE)[~hole]
    true_cov = COV[hole][:, hole] - gain @ COV[~hole][:, hole]
    mean, cov = filled(
        inpaint, LONG, HARD, times=sample.snr_times(LONG, 12), rounds=rounds, wide=wide
    )
    cov = cov[hole][:, hole]
    return (
        np.abs(mean[hole] - true_mean).max(),
        np.abs(cov - true_cov).max(),
        np.diag(cov) / np.diag(true_cov),
    )


def check_rounds(inpaint):
    """One round is biased; with more of them the unknown pixels come to agree with the known ones; only wide keeps their variety."""
    means, covs, _ = zip(*(astray(inpaint, rounds, True) for rounds in (1, 3, 9, 27)), strict=True)
    found = ", ".join(f"{m:.3f}" for m in means)
    assert means[0] > 0.04 and covs[0] > 0.1, "putting back alone is no conditioning"
    assert all(a > 1.25 * b for a, b in pairwise(means)) and means[-1] < 0.01, (
        f"with 1, 3, 9, 27 rounds the mean is off by {found}"
    )
    assert all(a > 2 * b for a, b in pairwise(covs)) and covs[-1] < 0.005
    mean, _, variances = astray(inpaint, 27, False)
    assert abs(mean - means[-1]) < 1e-12 and np.all(variances < 0.6), (
        "sigma^2 is too little to go up and down on for ever"
    )


def check_clip(run, inside):
    """clip is what a model with a clipped x0_hat would do: run(model, rng, clip)."""
    model = correlated(T8, MIDDLE, COV)

    def clipped(x, t):
        return diffusion.predict_eps(
            T8, x, t, np.clip(diffusion.predict_x0(T8, x, t, model(x, t)), -0.5, 0.5)
        )

    ours, theirs = (
        list(run(*args))
        for args in (
            (model, np.random.default_rng(1), 0.5),
            (clipped, np.random.default_rng(1), np.inf),
        )
    )
    assert np.allclose(ours, theirs, rtol=0, atol=1e-10), (
        "clip = 0.5: not what a model gives whose x0_hat is kept within [-0.5, 0.5]"
    )
    assert (
        np.abs(ours[-1][:, inside]).max()
        <= 0.5
        < np.abs(list(run(model, np.random.default_rng(1), np.inf))[-1][:, inside]).max()
    )


X0 = np.tile(PHOTO.reshape(SHAPE), (5, 1, 1, 1))


def check_inpaint_clip(inpaint):
    check_clip(
        lambda model, rng, clip: inpaint(model, T8, X0, HARD, rng, rounds=2, clip=clip), HARD == 0
    )


INPAINT = (
    check_inpaint_law,
    check_known_pixels,
    check_independent,
    check_rounds,
    check_inpaint_clip,
)


@grades("edit.inpaint")
@pytest.mark.parametrize("check", INPAINT)
def test_inpaint(check):
    check(edit.inpaint)


@pytest.mark.parametrize(
    "mask",
    [
        np.ones((3, 2)),
        np.ones((2, 2, 3)),
        np.ones((2, 2, 3, 1)),
        np.ones((1, 2, 3, 1)),
        np.ones(6),
        np.full((2, 3), 1.5),
        np.full((2, 3), -0.1),
        np.full((2, 3), np.nan),
        255 * np.eye(2, 3, dtype=np.uint8),
        1.0,
    ],
)
def test_a_mask_that_fits_no_image_is_refused(mask):
    with pytest.raises(ValueError, match=r"^a mask for images \(5, 2, 3, 1\) .* got shape .*$"):
        next(edit.inpaint(None, T8, np.zeros((5, 2, 3, 1)), mask, None))


def test_errata_inpaint():
    """The known part one level late, or noisy in the end, or in the hole; a way up that does not fit the way down; and so on."""
    for check, old, new in (
        (check_inpaint_law, "clip), u)", "clip), t)"),
        (check_rounds, "clip), u)", "clip), t)"),
        (
            check_inpaint_law,
            "q_sample(s, x0, u, noise_like(",
            "(np.sqrt(s.alpha_bar[u]) * x0 + (1 - s.alpha_bar[u]) * noise_like(",
        ),
        (check_known_pixels, "clip), u)", "clip), max(u, 1))"),
        (check_inpaint_law, "noise_like(x0, 1 - s.alpha_bar[u], rng)", "noise_like(x0, 0.0, rng)"),
        (
            check_inpaint_law,
            "x = put_back(start(x0.shape, rng, x_T), times[0])",
            "x = start(x0.shape, rng, x_T)",
        ),
        (check_inpaint_law, "return mask * q_sample", "return (1 - mask) * q_sample"),
        (check_known_pixels, "(1 - mask) * x", "1.0 * x"),
        (check_inpaint_law, "leap = s.alpha_bar[t] / s.alpha_bar[u]", "leap = s.alpha[t]"),
        (check_inpaint_law, "np.sqrt(1 - leap)", "(1 - leap)"),
        (check_inpaint_law, "noise_like(x, 1.0, rng)", "noise_like(x, 0.0, rng)"),
        (check_rounds, "            if again:", "            if False:"),
        (check_inpaint_law, "rounds if u > 0 else 1", "rounds"),
        (check_inpaint_law, "rng, eta, wide", "rng, 1.0, wide"),
        (check_rounds, "rng, eta, wide", "rng, eta, False"),
        (check_inpaint_clip, "wide, clip)", "wide, np.inf)"),
    ):
        rejects(check, slip(edit.inpaint, old, new))
    stepped = slip(edit._step, "if wide and u > 0 else", "if wide else")
    rejects(check_inpaint_law, slip(edit.inpaint, "_step(", "stepped(", stepped=stepped))


# --- image_to_image ---


def check_redrawn_law(image_to_image):
    """From the noise that hides the photo down to the clean image, on all times and on few."""
    for strength, eta, times, visited in (
        (0.5, 0.0, None, [4, 3, 2, 1, 0]),
        (0.55, 1.0, [8, 6, 3, 1, 0], [4, 3, 1, 0]),
        (1, 0.5, [8, 5, 0], [8, 5, 0]),
        (0.1, 0.0, [8, 5, 0], [1, 0]),
    ):
        got = law(
            lambda rng, x: image_to_image(
                correlated(T8, MIDDLE, COV), T8, images(PHOTO, x), strength, rng, times, eta
            ),
            SHAPE,
            white(4),
        )
        ab = T8.alpha_bar[visited[0]]
        want = math.sqrt(ab) * PHOTO, (1 - ab) * np.eye(4)
        for t, u in pairwise(visited):
            want = carried(want, *step(T8, t, u, eta)[:3])
        close(got, want, f"strength {strength}, T = 8, times {times or 'None'}, eta {eta}")


def check_redrawn_flow(image_to_image):
    """In small steps: the flow keeps each sample's place in the bell of x_t."""
    model = exact.gaussian(SMOOTH, MEAN, VAR)
    for strength, x0 in ((0.5, -1.0), (0.25, 3.0)):
        mean, cov = law(
            lambda rng, x: image_to_image(model, SMOOTH, np.full_like(x, x0), strength, rng),
            (1, 1, 1),
            white(1),
        )
        t = round(strength * SMOOTH.T)
        slope, ab = math.sqrt(VAR / forward(SMOOTH, t)[1]), SMOOTH.alpha_bar[t]
        case, want = (
            f"strength {strength}, data N(2, 0.5^2), x0 = {x0}",
            MEAN + slope * math.sqrt(ab) * (x0 - MEAN),
        )
        assert abs(mean[0] - want) < 2e-3, (
            f"{case}: mean of what comes {mean[0]:.4f}, expected {want:.4f}"
        )
        spread, want = math.sqrt(cov[0, 0]), slope * math.sqrt(1 - ab)
        assert abs(spread - want) < 2e-3, (
            f"{case}: standard deviation of what comes {spread:.4f}, expected {want:.4f}"
        )


def check_strength(image_to_image):
    """0 gives the photo back, bit for bit; 1 forgets it, as far as the schedule does."""
    every = list(image_to_image(None, T8, X0, 0, np.random.default_rng(1)))
    assert len(every) == 1 and np.array_equal(every[0], X0), "strength 0: x0 as it is, one array"
    few = sample.snr_times(LONG, 20)
    a, b = (
        list(
            image_to_image(
                correlated(LONG, MIDDLE, COV), LONG, x0, 1, np.random.default_rng(1), few
            )
        )
        for x0 in (X0, -X0)
    )
    assert len(a) == 1 + len([t for t in few if t < LONG.T]), (
        f"strength 1, {len(few)} times: {len(a)} arrays came"
    )
    apart = np.abs(a[-1] - b[-1]).max()
    assert 0 < apart < 0.02, (
        f"strength 1, x0 and -x0, the same noise: results differ by {apart:.3g}, expected a little, less than 0.02"
    )
    for strength in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="^strength is a share of T"):
            next(image_to_image(None, T8, X0, strength, None))


def check_redrawn_clip(image_to_image):
    check_clip(
        lambda model, rng, clip: image_to_image(model, T8, X0, 0.6, rng, clip=clip), HARD < 2
    )


IMAGE_TO_IMAGE = (check_redrawn_law, check_redrawn_flow, check_strength, check_redrawn_clip)


@grades("edit.image_to_image")
@pytest.mark.parametrize("check", IMAGE_TO_IMAGE)
def test_image_to_image(check):
    check(edit.image_to_image)


def test_errata_image_to_image():
    for check, old, new in (
        (check_redrawn_law, "round(strength * s.T)", "int(strength * s.T)"),  # seen at 0.1
        (check_redrawn_flow, "round(strength * s.T)", "round((1 - strength) * s.T)"),
        (check_redrawn_law, "x = q_sample(s, x0, start,", "x = q_sample(s, x0, max(start - 1, 0),"),
        (check_redrawn_law, "*(t for t in times if t < start)", "*range(start - 1, -1, -1)"),
        (check_redrawn_law, "], eta, x, clip", "], 0.0, x, clip"),
        (check_redrawn_flow, "noise_like(x0, 1 - s.alpha_bar[start], rng)", "0 * x0"),
        (check_strength, "strength * s.T", "0.9 * strength * s.T"),
        (check_redrawn_clip, "eta, x, clip", "eta, x"),
    ):
        rejects(check, slip(edit.image_to_image, old, new))


# --- slerp and interpolate ---


def angle(a, b):
    return math.acos((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()))


def pair(dtype=np.float64):
    """Noise of equal lengths in each pair, at another angle in each."""
    a, b = np.random.default_rng(7).normal(size=(2, 4, 3, 2, 2))
    b[1] += 2 * a[1]
    b[2] -= 2 * a[2]
    return a.astype(dtype), (
        b * np.sqrt((a**2).sum((1, 2, 3)) / (b**2).sum((1, 2, 3)))[:, None, None, None]
    ).astype(dtype)


def check_arc(slerp):
    """Ends kept, length kept, share of the angle, in one plane with both; half way between orthogonal ones (a + b) / sqrt(2)."""
    for dtype, tol in ((np.float64, 1e-10), (np.float32, 1e-5)):
        a, b = pair(dtype)
        for share, end in ((0, a), (1, b)):
            assert np.allclose(slerp(a, b, share), end, rtol=0, atol=tol), (
                f"share {share} gives {'ab'[share]} itself"
            )
        for share in (0.2, 0.5, 0.9, np.float64(0.3)):
            c = slerp(a, b, share)
            assert c.dtype == dtype, (
                f"a and b are {np.dtype(dtype)}, and so is what comes; came {c.dtype}"
            )
            assert c.shape == a.shape, (
                f"a and b have shape {a.shape}, and so has what comes; came {c.shape}"
            )
            for x, y, z in zip(a, b, c, strict=True):
                longer = math.sqrt((z * z).sum() / (x * x).sum())
                assert abs(longer**2 - 1) < tol, (
                    f"share {share}, a and b of equal length: what comes is {longer:.6g} times as long"
                )
                part = angle(x, z) / angle(x, y)
                assert abs(angle(x, z) - share * angle(x, y)) < tol, (
                    f"share {share}: it comes {part:.6g} of the way from a to b"
                )
                assert abs(angle(z, y) - (1 - share) * angle(x, y)) < tol, (
                    f"share {share}: not in one plane with a and b"
                )
    a, b = np.eye(2, 12).reshape(2, 1, 3, 2, 2)
    assert np.allclose(
        slerp(3 * a, 4 * b, 0.5), (3 * a + 4 * b) / math.sqrt(2), rtol=0, atol=1e-12
    ), "half way between 3 e1 and 4 e2"


def check_parallel(slerp):
    """Where there is no arc to speak of: the straight line; just beside that, no digits are lost."""
    a, b = pair()
    with np.errstate(all="raise"):
        for factor in (1, 1.5, -1, 0):
            straight = np.allclose(
                slerp(a, factor * a, 0.3), (0.7 + 0.3 * factor) * a, rtol=0, atol=1e-12
            )
            assert straight, (
                f"b = {factor} a, share 0.3: expected the straight line, {0.7 + 0.3 * factor:g} a"
            )
        across = (
            b - (a * b).sum((1, 2, 3), keepdims=True) / (a * a).sum((1, 2, 3), keepdims=True) * a
        )
        across *= np.sqrt(
            (a * a).sum((1, 2, 3), keepdims=True) / (across**2).sum((1, 2, 3), keepdims=True)
        )
        for tilt in (1e-7, 1e-5, 1e-3):
            want = math.cos(0.3 * tilt) * a + math.sin(0.3 * tilt) * across
            far = np.abs(slerp(a, math.cos(tilt) * a + math.sin(tilt) * across, 0.3) - want).max()
            assert far < 1e-12, (
                f"an angle of {tilt:g} between a and b: off by {far:.2g}, expected rounding (below 1e-12)"
            )


def check_interpolate(interpolate):
    """ddim is affine, x_0 = A x_T + c: invert it by solving, go along the arc, apply it. Ends come back as rounds grow."""
    a, b = np.random.default_rng(8).normal(0.3, 0.8, (2, 3, *SHAPE))
    times, shares = [8, 6, 5, 3, 2, 1, 0], (0, 0.3, 0.5, 1)
    A, c = np.eye(4), np.zeros(4)
    for t, u in pairwise(times):
        B, d, *_ = step(T8, t, u, 0.0)
        A, c = B @ A, B @ c + d
    model = correlated(T8, MIDDLE, COV)
    got = interpolate(model, T8, a, b, shares, times, rounds=200)
    assert got.shape == (4, 3, *SHAPE)
    for n in range(3):
        x, y = (np.linalg.solve(A, image[n].ravel() - c) for image in (a, b))
        for share, image in zip(shares, got[:, n], strict=True):
            whole = angle(x, y)
            want = (
                A
                @ (math.sin((1 - share) * whole) * x + math.sin(share * whole) * y)
                / math.sin(whole)
                + c
            )
            assert np.abs(image.ravel() - want).max() < 1e-9
    errors = [
        np.abs(interpolate(model, T8, a, b, (0, 1), times, rounds) - [a, b]).max()
        for rounds in (1, 4, 16, 64)
    ]
    assert errors[0] > 0.05 and all(before > 2 * after for before, after in pairwise(errors))


def check_interpolate_flow(interpolate):
    """In small steps: both images go to their places in the bell of x_T, along the arc, and back to the bell of the data."""
    a, b = np.random.default_rng(9).normal(MEAN, 0.5, (2, 2, 2, 2, 1))
    mean_T, var_T = forward(SMOOTH, SMOOTH.T)
    slope, shares = math.sqrt(VAR / var_T), (0.25, 0.5)
    x, y = (mean_T + (image - MEAN) / slope for image in (a, b))
    want = [MEAN + slope * (edit.slerp(x, y, share) - mean_T) for share in shares]
    errors = []
    for steps in (60, 120, 240):
        times = sample.even_times(SMOOTH, steps)
        errors.append(
            np.abs(
                interpolate(exact.gaussian(SMOOTH, MEAN, VAR), SMOOTH, a, b, shares, times) - want
            ).max()
        )
    assert errors[-1] < 0.02 and all(
        abs(math.log2(p / q) - 1) < 0.1 for p, q in pairwise(errors)
    ), errors


@grades("edit.slerp")
@pytest.mark.parametrize("check", (check_arc, check_parallel))
def test_slerp(check):
    check(edit.slerp)


@pytest.mark.parametrize("check", (check_interpolate, check_interpolate_flow))
def test_interpolate(check):
    check(edit.interpolate)


def test_errata_slerp():
    """A straight line; one angle for the whole batch; the ends exchanged; nothing kept for parallel noise; an arccos that loses digits."""
    for check, old, new in (
        (check_arc, "arc = np.sin(angle) > 1e-6", "arc = np.sin(angle) > 9"),
        (check_arc, "axes = tuple(range(1, a.ndim))", "axes = tuple(range(a.ndim))"),
        (check_arc, "return to_a * a + to_b * b", "return to_b * a + to_a * b"),
        (check_parallel, "arc = np.sin(angle) > 1e-6", "arc = np.sin(angle) > 1e-3"),
        (
            check_parallel,
            "2 * np.arctan2(apart, together)",
            "np.arccos(np.clip((a * b).sum(axes, keepdims=True) / np.maximum(length_a * length_b, 1e-9), -1, 1))",
        ),
        (check_arc, ".astype(a.dtype)\n    return", "\n    return"),
    ):
        rejects(check, slip(edit.slerp, old, new))
    rejects(
        check_arc,
        lambda a, b, share: (
            edit.slerp(a, b, share) / np.sqrt((edit.slerp(a, b, share) ** 2).mean())
        ),
    )


def test_errata_interpolate():
    for check, old, new in (
        (
            check_interpolate,
            "np.concatenate([a, b]), times, rounds)",
            "np.concatenate([a, b]), times)",
        ),
        (
            check_interpolate,
            "slerp(x_T[: len(a)], x_T[len(a) :], share)",
            "slerp(x_T[len(a) :], x_T[: len(a)], share)",
        ),
        (
            check_interpolate,
            "slerp(x_T[: len(a)], x_T[len(a) :], share)",
            "((1 - share) * x_T[: len(a)] + share * x_T[len(a) :])",
        ),
        (
            check_interpolate_flow,
            "slerp(x_T[: len(a)], x_T[len(a) :], share)",
            "slerp(a, b, share)",
        ),
        (check_interpolate, "None, times,", "None, None,"),
    ):
        rejects(check, slip(edit.interpolate, old, new))


# --- translate and difference ---

OTHER = np.array([-0.4, 0.8, 0.5, -0.7])
OTHER_COV = np.array(
    [[0.6, -0.2, 0.1, 0.1], [-0.2, 0.5, 0.0, 0.2], [0.1, 0.0, 0.3, -0.1], [0.1, 0.2, -0.1, 0.8]]
)
FROM, TO = correlated(T8, MIDDLE, COV), correlated(T8, OTHER, OTHER_COV)
FIVE = np.random.default_rng(12).normal(0.2, 0.7, (5, *SHAPE))


def risen(s, x, u, t, rounds):
    """One step of the inversion from u up to t, for rows of pixels: x_t = x sqrt(leap) + ... eps_hat at the last guess of x_t."""
    leap = np.prod(1 - s.beta[u + 1 : t + 1])
    along = math.sqrt(1 - s.alpha_bar[t]) - math.sqrt(leap * (1 - s.alpha_bar[u]))
    pull = math.sqrt(1 - s.alpha_bar[t]) * np.linalg.inv(
        s.alpha_bar[t] * COV + (1 - s.alpha_bar[t]) * np.eye(4)
    )
    guess = x
    for _ in range(rounds):
        guess = math.sqrt(leap) * x + along * (guess - math.sqrt(s.alpha_bar[t]) * MIDDLE) @ pull
    return guess


def check_translated(translate):
    """Up as the one Gaussian says, down as the other, each step an affine map; what is kept lies on the way up."""
    for times, rounds, keep in (
        (range(8, -1, -1), 1, None),
        ([8, 6, 3, 1, 0], 3, HARD),
        ([5, 2, 0], 2, SOFT),
        ([8, 7, 3, 2, 0], 1, SOFT[None, ..., None].repeat(5, 0)),
    ):
        path = [FIVE.reshape(5, 4)]
        for u, t in pairwise(list(times)[::-1]):
            path.append(risen(T8, path[-1], u, t, rounds))
        want, kept = (
            path[-1],
            np.zeros((5, 4))
            if keep is None
            else np.broadcast_to(np.reshape(keep, (-1, 4)), (5, 4)),
        )
        wants = [want]
        for (t, u), known in zip(pairwise(times), path[-2::-1], strict=True):
            A, c, *_ = step(T8, t, u, 0.0, OTHER, OTHER_COV)
            want = kept * known + (1 - kept) * (want @ A.T + c)
            wants.append(want)
        got = list(translate(FROM, TO, T8, FIVE, times, rounds, keep))
        said = f"times {list(times)}, {rounds} round(s), {'nothing kept' if keep is None else 'a mask to keep by'}"
        assert len(got) == len(wants), (
            f"{said}: expected {len(wants)} arrays, the first at times[0], the last x_0; came {len(got)}"
        )
        for t, x, want in zip(times, got, wants, strict=True):
            off = np.abs(np.reshape(x, (5, 4)) - want).max()
            assert off < 1e-10, (
                f"{said}: at t = {t} the images should be within 1e-10 of the exact ones; they are {off:.2g} away"
            )


def root(cov):
    values, axes = np.linalg.eigh(cov)
    return axes * np.sqrt(values) @ axes.T


def check_translated_flow(translate):
    """In small steps the way up is x_T = sqrt(ab) m + S_T^(1/2) S_0^(-1/2) (x0 - m), S_T = ab S_0 + 1 - ab, and the way down the same."""
    ab, x0 = SMOOTH.alpha_bar[-1], FIVE.reshape(5, 4)
    bells = [
        (mean, root(cov), root(ab * cov + (1 - ab) * np.eye(4)))
        for mean, cov in ((MIDDLE, COV), (OTHER, OTHER_COV))
    ]
    (m, S_0, S_T), (m2, S2_0, S2_T) = bells
    x_T = math.sqrt(ab) * m + (x0 - m) @ np.linalg.inv(S_0) @ S_T
    want = m2 + (x_T - math.sqrt(ab) * m2) @ np.linalg.inv(S2_T) @ S2_0
    models, found = [correlated(SMOOTH, MIDDLE, COV), correlated(SMOOTH, OTHER, OTHER_COV)], []
    for steps in (120, 240, 480):
        *_, got = translate(*models, SMOOTH, FIVE, sample.even_times(SMOOTH, steps))
        found.append(got.reshape(5, 4))
    errors = [np.abs(x - want).max() for x in found]
    said = f"two Gaussians: 120, 240, 480 steps should come ever nearer to the exact translation; they miss it by {np.round(errors, 4)}"
    assert errors[-1] < 0.1 and all(abs(math.log2(p / q) - 1) < 0.1 for p, q in pairwise(errors)), (
        said
    )
    assert np.abs(2 * found[-1] - found[-2] - want).max() < 0.01, (
        "the error should halve when the steps double"
    )


def check_translated_back(translate):
    """The same model twice: the picture comes back as rounds grow; what is kept comes back bit for bit whatever the models."""
    errors = [
        np.abs(list(translate(FROM, FROM, T8, FIVE, None, rounds))[-1] - FIVE).max()
        for rounds in (1, 4, 16, 64)
    ]
    said = f"there and back with one model: 1, 4, 16, 64 rounds should bring the image back; they miss it by {np.array(errors)}"
    assert (
        errors[0] > 0.05 and errors[-1] < 1e-12 and all(a > 2 * b for a, b in pairwise(errors))
    ), said
    for dtype in (np.float64, np.float32):
        x0 = FIVE.astype(dtype)
        *_, last = translate(
            exact.gaussian(T8, 0.3, 0.5), exact.gaussian(T8, -0.4, 0.2), T8, x0, keep=HARD
        )
        assert last.dtype == dtype, f"images of {x0.dtype} should stay that; came {last.dtype}"
        assert np.array_equal(last[:, HARD == 1], x0[:, HARD == 1]), (
            "where keep = 1 the image should come back bit for bit"
        )
        assert not np.any((last == x0)[:, HARD == 0]), (
            "where keep = 0 the image should be translated"
        )


def check_translated_clip(translate):
    """clip holds on the way down alone."""
    check_clip(lambda model, rng, clip: translate(FROM, model, T8, X0, clip=clip), HARD < 2)


TRANSLATE = (check_translated, check_translated_flow, check_translated_back, check_translated_clip)


@pytest.mark.exercise("edit.translate")
@pytest.mark.parametrize("check", TRANSLATE)
def test_translate(check):
    check(edit.translate)


def test_errata_translate():
    """The models exchanged or the same, the path off by one or upside down, a mask the wrong way round."""
    for check, old, new in (
        (check_translated, "x = ddim_invert(eps_from", "x = ddim_invert(eps_to"),
        (check_translated_flow, "eps_to(x, t)", "eps_from(x, t)"),
        (check_translated, "reversed(path)", "path"),
        (check_translated_back, "keep * known + (1 - keep)", "(1 - keep) * known + keep"),
        (check_translated, "times, rounds)\n", "times, 1)\n"),
        (check_translated, "eps_to(x, t), t, u", "eps_to(x, t), t, max(u, 1)"),
        (check_translated, "x = keep * known", "x = keep * x0"),
        (check_translated_clip, "t, u, clip)", "t, u, np.inf)"),
    ):
        rejects(check, slip(edit.translate, old, new))


def check_difference(difference):
    """Two Gaussians disagree by an affine map of x_t; channels and draws are averaged, each image has its own largest value."""
    x0, shape = np.random.default_rng(13).normal(size=(3, 2, 1, 2)), (3, 2, 1, 2)
    for t in (2, 7):
        got = difference(FROM, TO, T8, x0, t, np.random.default_rng(14), n=3)
        rng, ab = np.random.default_rng(14), T8.alpha_bar[t]
        pulls = [
            (math.sqrt(ab) * m, np.linalg.inv(ab * cov + (1 - ab) * np.eye(4)))
            for m, cov in ((MIDDLE, COV), (OTHER, OTHER_COV))
        ]
        (a, A), (b, B) = pulls
        total = np.zeros((3, 2, 1, 2))
        for _ in range(3):
            x_t = (math.sqrt(ab) * x0 + math.sqrt(1 - ab) * rng.standard_normal(shape)).reshape(
                3, 4
            )
            total += math.sqrt(1 - ab) * np.abs((x_t - b) @ B - (x_t - a) @ A).reshape(shape)
        want = total.sum(-1, keepdims=True)
        assert np.allclose(
            got, want / want.max((1, 2), keepdims=True), rtol=0, atol=1e-12
        ) and np.all(got.max((1, 2, 3)) == 1)


def test_difference():
    check_difference(edit.difference)
    where = np.array([[0.0, 2.0], [-4.0, 0.0]])[
        ..., None
    ]  # models that differ in the mean of two pixels: there, and by that much
    one, other = (exact.gaussian(T8, mean, 0.3) for mean in (0.0, where))
    assert not edit.difference(one, one, T8, FIVE, 4, np.random.default_rng(1), n=1).any()
    found = edit.difference(one, other, T8, FIVE, 4, np.random.default_rng(1), n=1)
    assert np.allclose(found, np.abs(where) / 4, rtol=0, atol=1e-12)


def test_errata_difference():
    """One noise for all draws, no absolute value, one largest value for all images, another level of noise."""
    for old, new in (
        (
            "np.abs(np.asarray(eps_to(x_t, t) - eps_from(x_t, t)))",
            "(eps_to(x_t, t) - eps_from(x_t, t))",
        ),
        ("found = found + ", "found = "),
        ("max(axis=(1, 2, 3), keepdims=True)", "max()"),
        ("x_t = q_sample(s, x0, t, rng", "x_t = q_sample(s, x0, t - 1, rng"),
        ("mean(-1, keepdims=True)", "max(-1, keepdims=True)"),
        ("np.asarray(eps_to(x_t, t) - ", "np.asarray(eps_to(x_t, t) + "),
    ):
        rejects(check_difference, slip(edit.difference, old, new))


def check_edge_energy(edge_energy):
    """Every pair of neighbours asked one by one; each image may have a mask of its own."""
    x = np.random.default_rng(15).normal(size=(2, 4, 5, 3))
    masks = np.random.default_rng(16).random((2, 4, 5, 1)) < 0.5
    for mask in (masks, masks[0], masks[0, ..., 0]):
        whole, steps = (
            np.broadcast_to(mask[..., None] if mask.ndim == 2 else mask, (2, 4, 5, 1)),
            [],
        )
        for n, i, j in product(range(2), range(4), range(5)):
            steps += [
                (x[n, i, j] - x[n, i + 1, j]) ** 2
                for _ in "h"
                if i < 3 and whole[n, i, j] != whole[n, i + 1, j]
            ]
            steps += [
                (x[n, i, j] - x[n, i, j + 1]) ** 2
                for _ in "w"
                if j < 4 and whole[n, i, j] != whole[n, i, j + 1]
            ]
        assert abs(edge_energy(x, mask) - np.mean(steps)) < 1e-12


def test_edge_energy():
    check_edge_energy(edit.edge_energy)
    for old, new in (
        ("(1, 2)", "(1,)"),
        ("[np.diff(kept, axis=axis)]", "[~np.diff(kept, axis=axis)]"),
        ("** 2", "** 1"),
    ):
        rejects(check_edge_energy, slip(edit.edge_energy, old, new))


# --- tile and its measure ---

RING = (3, 4, 1)  # a small tile
PLACES = [(i, j) for i in range(3) for j in range(4)]


def ring_covariance():
    """One that looks the same from each place of the tile, and different along each direction: values by distance around the ring."""
    kernel = np.array([[1.0, 0.5, -0.2, 0.1], [0.6, 0.3, 0.0, 0.2], [-0.1, 0.0, 0.3, 0.0]])
    near = 0.2 * np.array(
        [[(kernel * np.roll(kernel, (i, j), (0, 1))).sum() for j in range(4)] for i in range(3)]
    )
    return np.array(
        [[near[(i - k) % 3, (j - m) % 4] for k, m in PLACES] for i, j in PLACES]
    ) + 0.05 * np.eye(12)


def sheet_covariance():
    """Smooth inside; opposite edges are far apart and know nothing of each other: what a model of untiled pictures believes."""
    return np.array(
        [[0.4 * 0.9 ** (abs(i - k) + abs(j - m)) for k, m in PLACES] for i, j in PLACES]
    )


SHIFTS = [(1, 3), (0, 2), (2, 1), (1, 1), (2, 0), (0, 3), (1, 2), (2, 3)]


def tiled(tile, mean, cov, times=None, eta=0.0, shifts=SHIFTS):
    model = correlated(T8, mean, cov)
    return law(lambda rng, x: tile(model, T8, x.shape, rng, times, eta, x), RING, white(12), shifts)


def untiled(eps_model, s, shape, rng, times=None, eta=0.0, x_T=None, clip=np.inf):
    return sample.ddim(eps_model, s, shape, rng, times, eta, x_T, clip)


def check_circular(tile):
    """A model to which all places are alike draws the same with shifts as without."""
    for how in ((), ([8, 6, 3, 1, 0], 1.0), ([8, 5, 2, 0], 0.5)):
        got, want = (
            tiled(draw, np.full(12, 0.3), ring_covariance(), *how) for draw in (tile, untiled)
        )
        close(
            got,
            want,
            f"a model to which all places are alike{', times and eta ' if how else ''}{', '.join(map(str, how))}",
        )


def check_tile_law(tile):
    """With a model to which they are not: each step as it is seen from the place where its shift puts the tile."""
    mean, cov, times = np.arange(12) / 10, sheet_covariance(), [8, 6, 3, 1, 0]
    want = white(12)
    for (t, u), shift in zip(pairwise(times), SHIFTS, strict=False):
        seen = np.roll(
            np.arange(12).reshape(3, 4), shift, (0, 1)
        ).ravel()  # seen[k]: the pixel that the model sees at k
        A, c, sigma2, _ = step(T8, t, u, 0.5, mean, cov)
        B, d = np.zeros((12, 12)), np.zeros(12)
        B[np.ix_(seen, seen)], d[seen] = A, c
        want = carried(want, B, d, sigma2)
    close(tiled(tile, mean, cov, times, 0.5), want, f"shifts {SHIFTS[:4]} one after the other")


def expected_seams(law):
    """Mean squared difference of all wrap-around neighbours -> down (3, 4) and right (3, 4); the last of each is the edge."""
    power = (law[1] + np.outer(*[law[0]] * 2)).reshape(3, 4, 3, 4)
    at = lambda i, j, k, m: power[i, j, i, j] + power[k, m, k, m] - 2 * power[i, j, k, m]
    return tuple(
        np.array([[at(i, j, (i + a) % 3, (j + b) % 4) for j in range(4)] for i in range(3)])
        for a, b in ((1, 0), (0, 1))
    )


def expected_energy(law):
    """What seam_energy measures, of infinitely many samples."""
    down, right = expected_seams(law)
    return (down[-1].mean() + right[:, -1].mean()) / (down[:-1].mean() + right[:, :-1].mean())


def check_seams(tile):
    """Steps over the edge are 4 times as large as others; on average over all shifts exactly as large, as at every other place."""
    mean, cov = np.arange(12) / 10, sheet_covariance()
    assert expected_energy(tiled(untiled, mean, cov, [8, 3, 0])) > 4
    every = [tiled(tile, mean, cov, [8, 3, 0], shifts=shifts) for shifts in product(PLACES, PLACES)]
    energy = np.mean([expected_energy(law) for law in every])
    assert energy < 1.5, (
        f"steps over the edge are {energy:.2f} times as large as inside, on average over all shifts; expected below 1.5"
    )
    for seams in zip(*map(expected_seams, every), strict=True):
        assert np.ptp(np.mean(seams, axis=0)) < 1e-10, (
            "on average over all shifts the edge is a place like any other; here it is not"
        )


def check_every_shift(tile):
    """All places of the tile come to lie at all others, and eps_hat goes back to where it belongs."""
    s, seen = quiet(schedule.linear, 400, 1e-4, 1e-3), set()
    x_T = np.zeros((2, 3, 4, 1))
    x_T[:, 1, 2] = 1

    def model(x_t, t):
        seen.add(int(x_t[0].argmax()))
        return np.zeros_like(x_t)

    *_, x0 = tile(model, s, x_T.shape, np.random.default_rng(1), x_T=x_T)
    assert len(seen) == 12, (
        f"in 400 steps a pixel came to lie at {len(seen)} of 12 places: a shift is new at each step, from all places"
    )
    assert x0[0].argmax() == 6, "the picture was left shifted: only what the model sees is"
    assert np.array_equal(x0[0], x0[1]), "all images of a batch are treated alike"


def check_tile_clip(tile):
    check_clip(
        lambda model, rng, clip: tile(
            model, T8, X0.shape, FixedShift(rng), x_T=X0, eta=1.0, clip=clip
        ),
        HARD < 2,
    )


class FixedShift:
    def __init__(self, rng):
        self.standard_normal = rng.standard_normal

    def integers(self, low, high=None, size=None):
        return (
            1 if np.ndim(low if high is None else high) == 0 and size is None else np.array((1, 0))
        )


def check_seam_energy(seam_energy):
    """A ramp, by counting; a wave that closes has no seam; the measure of many samples is the expected one."""
    ramp = np.add.outer(3.0 * np.arange(3), np.arange(5))[None, :, :, None] * np.ones((2, 1, 1, 3))
    # steps down: 3, over the edge 6; to the right: 1 and 4
    for images in (ramp, ramp.swapaxes(1, 2), 7 - 3 * ramp, (10 * ramp).astype(np.uint8)):
        assert abs(seam_energy(images) - (36 + 16) / (9 + 1)) < 1e-12
    wave = np.sin(np.pi / 2 * np.arange(4))[:, None] * np.ones((4, 6, 4, 1))
    assert abs(seam_energy(wave) - 1) < 1e-12
    cov = sheet_covariance()
    exactly = np.sqrt(12) * np.linalg.cholesky(cov).T  # 12 images with this second moment about 0
    assert (
        abs(seam_energy(exactly.reshape(12, *RING)) - expected_energy((np.zeros(12), cov))) < 1e-12
    )


TILE = (check_circular, check_tile_law, check_seams, check_every_shift, check_tile_clip)


@grades("edit.tile")
@pytest.mark.parametrize("check", TILE)
def test_tile(check):
    check(edit.tile)


def test_seam_energy():
    check_seam_energy(edit.seam_energy)


def test_errata_tile():
    """No shift, one axis only, the answer not turned back, or turned twice, the same shift for ever."""
    back, shift = "-shift, (1, 2))", "shift = rng.integers(0, x_t.shape[1:3])"
    for check, old, new in (
        (check_circular, back, "0, (1, 2))"),
        (check_circular, back, "shift, (1, 2))"),
        (check_circular, back, "-shift[::-1], (1, 2))"),
        (check_circular, "np.roll(x_t, shift", "np.roll(x_t, -shift"),
        (check_tile_law, shift, shift + " * (1, 0)"),
        (check_seams, shift, shift + " * (1, 0)"),
        (check_seams, shift, shift + " * (0, 1)"),
        (check_every_shift, "rng.integers(0, x_t.shape[1:3])", "rng.integers(1, x_t.shape[1:3])"),
        (check_tile_law, "ddim(rolled", "ddim(eps_model"),
        (check_seams, "ddim(rolled", "ddim(eps_model"),
        (check_tile_law, "times, eta, x_T, clip)", "times, 0.0, x_T, clip)"),
        (check_tile_clip, "x_T, clip)", "x_T)"),
    ):
        rejects(check, slip(edit.tile, old, new))
    once = "once = rng.integers(0, shape[1:3])\n\n    def rolled(x_t, t):\n        shift = once"
    rejects(check_tile_law, slip(edit.tile, "def rolled(x_t, t):\n        " + shift, once))


def test_errata_seam_energy():
    for old, new in (
        ("sum((step[part] ** 2).mean()", "sum((step[part] ** 2).sum()"),
        ("for axis in (1, 2)", "for axis in (2,)"),
        ("np.roll(images, 1, axis)", "np.roll(images, -1, axis)"),
        ("slice(1, None)", "slice(None)"),
        ("step[part] ** 2", "np.abs(step[part])"),
        ("dtype=np.float64", "dtype=None"),
    ):
        rejects(check_seam_energy, slip(edit.seam_energy, old, new))


# --- panorama ---


def check_independent_windows(panorama):
    """Where pixels know nothing of each other, windows change nothing: the ordinary sampler's images, to rounding, all of them."""
    model = exact.gaussian(T8, 0.4, 0.3)
    for shape, window, overlap in (
        ((2, 5, 9, 2), (3, 4), 0.5),
        ((1, 4, 4, 1), (4, 4), 0.5),
        ((2, 7, 5, 1), (2, 5), 0.0),
        ((1, 6, 8, 1), (5, 3), 0.9),
    ):
        want = list(sample.ddim(model, T8, shape, np.random.default_rng(6), [8, 5, 2, 0], 0.7))
        got = list(
            panorama(model, T8, shape, window, np.random.default_rng(6), [8, 5, 2, 0], overlap, 0.7)
        )
        assert all(a.dtype == np.float32 for a in got) and np.allclose(got, want, rtol=0, atol=2e-5)
        x_T = np.random.default_rng(7).normal(size=shape)
        want = list(sample.ddim(model, T8, shape, None, x_T=x_T))
        assert np.allclose(
            list(panorama(model, T8, shape, window, None, None, overlap, x_T=x_T)),
            want,
            rtol=0,
            atol=1e-12,
        )


def check_windows(panorama):
    """Which windows the model sees, in which order; none is smaller than asked for."""
    for size, window, overlap, starts in (
        ((2, 4), (2, 2), 0.5, [[0], [0, 1, 2]]),
        ((5, 3), (2, 2), 0.0, [[0, 2, 3], [0, 1]]),
        ((8, 6), (4, 6), 0.5, [[0, 2, 4], [0]]),
        ((9, 20), (4, 8), 0.25, [[0, 2, 5], [0, 6, 12]]),
        ((3, 7), (3, 4), 0.0, [[0], [0, 3]]),
    ):
        x_T, seen = np.arange(math.prod(size), dtype=float).reshape(1, *size, 1), []

        def model(x_t, t):
            assert x_t.shape == (1, *window, 1)
            seen.append(divmod(round(float(x_t[0, 0, 0, 0])), size[1]))
            return np.zeros_like(x_t)

        list(panorama(model, T8, x_T.shape, window, None, [8, 0], overlap, x_T=x_T))
        assert seen == list(product(*starts)), f"{size}, {window}, {overlap}: {seen}"


def check_panorama_law(panorama):
    """Three windows of 2 x 2 correlated pixels side by side: their steps, averaged where they meet."""
    windows = [[0, 1, 4, 5], [1, 2, 5, 6], [2, 3, 6, 7]]
    counts = np.bincount(np.ravel(windows))
    want = white(8)
    for t, u in pairwise([8, 6, 3, 1, 0]):
        A, c, sigma2, _ = step(T8, t, u, 0.5)
        B, d = np.zeros((8, 8)), np.zeros(8)
        for w in windows:
            B[np.ix_(w, w)] += A
            d[w] += c
        want = carried(want, B / counts[:, None], d / counts, sigma2)
    model = correlated(T8, MIDDLE, COV)
    got = law(
        lambda rng, x: panorama(model, T8, x.shape, (2, 2), rng, [8, 6, 3, 1, 0], 0.5, 0.5, x),
        (2, 4, 1),
        white(8),
    )
    close(got, want, "three windows")


def check_panorama_clip(panorama):
    check_clip(
        lambda model, rng, clip: panorama(
            model, T8, X0.shape, (2, 2), rng, x_T=X0, eta=1.0, clip=clip
        ),
        HARD < 2,
    )


PANORAMA = (check_independent_windows, check_windows, check_panorama_law, check_panorama_clip)


@pytest.mark.parametrize("check", PANORAMA)
def test_panorama(check):
    check(edit.panorama)


@pytest.mark.parametrize(
    "window, overlap", [((5, 4), 0.5), ((4, 7), 0.5), ((0, 4), 0.5), ((4, 4), 1.0), ((4, 4), -0.1)]
)
def test_a_window_that_does_not_fit_is_refused(window, overlap):
    with pytest.raises(ValueError, match="^window lies within"):
        edit.panorama(None, T8, (1, 4, 6, 1), window, None, overlap=overlap)


def test_errata_panorama():
    """A sum for a mean, the last window wins, windows too few or too many, axes exchanged."""
    for check, old, new in (
        (check_independent_windows, "total / count", "total"),
        (check_panorama_law, "total / count", "total / count.mean()"),
        (check_panorama_law, "total[place] += ", "total[place] = count[place] * 0 + "),
        (check_independent_windows, "count[place] += 1", "count[place] = 1"),
        (check_windows, "np.ceil", "np.floor"),
        (check_windows, "size - overlap * w)", "size)"),
        (check_windows, ".round()", ""),
        (check_windows, "size - w, count", "size - w + 1, count"),
        (
            check_windows,
            "product(*map(starts, shape[1:3], window))",
            "zip(*map(starts, shape[1:3], window))",
        ),
        (check_panorama_law, "times, eta, x_T, clip)", "times, 0.0, x_T, clip)"),
        (check_panorama_clip, "x_T, clip)", "x_T)"),
    ):
        with np.errstate(all="ignore"):
            rejects(check, slip(edit.panorama, old, new))
