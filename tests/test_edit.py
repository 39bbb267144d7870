"""Editing against closed forms: for Gaussian data an edit is affine in its noises.

So its law is known to rounding, also where pixels are correlated. A generator of unit impulses, one
for each number drawn, reads that law off the code; equations written a second time, in another
form, say what it must be. `slip` plants one slip at a time into the source, and each is caught.
"""

import inspect
import math
from itertools import pairwise, product

import numpy as np
import pytest
from test_sample import (
    BATCH,
    LONG,
    MEAN,
    SMOOTH,
    T8,
    VAR,
    check_noise,
    check_times_refused,
    ddim_step,
    forward,
    grades,
    quiet,
    rejects,
)
from test_sample import check_clip as check_both_edges

from tinydiff import diffusion, exact, kernels, sample, schedule
from tinydiff.design import edit

LOW = np.array([[1.0, 0, 0, 0], [0.7, 0.6, 0, 0], [-0.3, 0.5, 0.8, 0], [0.2, -0.4, 0.5, 0.5]])
SHAPE = (2, 2, 1)  # 4 pixels: asymmetric, all correlated
MIDDLE, COV = np.array([0.6, -0.3, 0.2, 0.9]), 0.4 * LOW @ LOW.T
PHOTO = np.array([1.1, -0.8, 0.4, 1.6])


@pytest.fixture(autouse=True, params=("reference", "cpu"))
def kernel_set(request):
    """Run every test once for each kernel set, and leave the choice as it was."""
    before = kernels._active
    kernels.use(request.param)
    yield request.param
    kernels._active = before


def slip(function, old, new, **names):
    """Build the function with one piece of its source exchanged, and with other names at hand."""
    source = inspect.getsource(function)
    found = f"{old!r} stands {source.count(old)} times in {function.__name__}"
    assert source.count(old) == 1, found
    scope = vars(edit) | names
    exec(source.replace(old, new), scope)
    return scope[function.__name__]


def correlated(s, mean, cov):
    """Denoise data N(mean, cov): eps_hat = -sqrt(1 - alpha_bar) score of N(sqrt(ab) mean, S)."""
    precision = [np.linalg.inv(ab * cov + (1 - ab) * np.eye(len(cov))) for ab in s.alpha_bar[1:]]

    def eps_model(x_t, t):
        away = x_t.reshape(len(x_t), -1) - math.sqrt(s.alpha_bar[t]) * mean
        return (math.sqrt(1 - s.alpha_bar[t]) * away @ precision[t - 1]).reshape(x_t.shape)

    return eps_model


class Impulses:
    """Stand in for a random generator: each number drawn is 1 in one row of the batch, else 0.

    Shifts are given.
    """

    def __init__(self, shifts=()):
        self.row, self.shifts, self.across = None, iter(shifts), []

    def standard_normal(self, size=None, dtype=np.float64):
        asked = f"rng.standard_normal was asked for {size}"
        assert np.ndim(size) == 1, f"{asked}: each value of each image needs noise of its own"
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
        # asked for one number after the other, the one down first
        down_or_across = np.ndim(high) == 0 and size is None
        if down_or_across and not self.across:
            self.across = list(zip(RING[:2], next(self.shifts), strict=True))
        places, shift = self.across.pop(0) if down_or_across else (RING[:2], next(self.shifts))
        fits = not np.any(low) and np.array_equal(np.atleast_1d(high), np.atleast_1d(places))
        rule = "a shift is drawn from all places, 0 .. H - 1 and 0 .. W - 1"
        assert fits, f"{rule}; here H, W = {RING[:2]}, asked: {low}, {high}"
        return np.array(shift)


def law(run, shape, x_T, shifts=()):
    """Give mean and covariance of x_0, where x_T is N(*x_T) and all draws are N(0, 1).

    run(rng, x_T): an edit, of images of that shape.
    """
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
    """Repeat one image's values for every row of a batch."""
    return np.broadcast_to(np.reshape(values, like.shape[1:]), like.shape).astype(like.dtype)


def close(got, want, what, tol=1e-10):
    for name, a, b in zip(("mean", "covariance"), got, want, strict=True):
        i = np.unravel_index(np.abs(a - b).argmax(), b.shape)
        where = f"of pixel {i[0]}" if name == "mean" else f"of pixels {i[0]} and {i[1]}"
        said = f"{what}: the {name} {where} of the result is {a[i]:.5g}, expected {b[i]:.5g}"
        assert np.abs(a - b).max() < tol, said


# --- what holds for every edit that goes step by step ---

NOT_TO_0 = ([3, 8, 0], [8, 4, 4, 0], [9, 4, 0], [8, 4], [8, -1, 0])


def refused(run, what):
    """Expect a ValueError: run() yields steps"""
    try:
        list(run())
    except ValueError:
        return
    raise AssertionError(f"{what}: a ValueError should refuse that; none came")


def check_times(run):
    """Times that do not decrease from at most T to 0: run(times)"""
    for times in NOT_TO_0:
        refused(lambda times=times: run(times), f"T = 8, times {times} do not decrease to 0")


def steps_of(run):
    """Collect what is yielded, each array as it was at that moment. -> list of arrays"""
    pairs = [(x, np.array(x)) for x in run]
    said = "an array changes after it was yielded: yield a new one each time"
    assert all(np.array_equal(now, then) for now, then in pairs), said
    return [then for _, then in pairs]


def check_masks(run):
    """Masks that fit no images (5, 2, 2, 1), or leave [0, 1]: run(mask)"""
    shapes = (3, 2), (2, 2, 3), (1, 2, 2, 1), (5, 2, 2), (5, 1, 1, 1), (4,), ()
    for mask in (*map(np.ones, shapes), 1.5 * HARD, -0.1 * HARD, np.where(HARD, np.nan, 1.0)):
        what = f"images (5, 2, 2, 1), a mask {np.shape(mask)} of values up to {np.max(mask)}"
        refused(lambda mask=mask: run(mask), what)


# --- inpaint ---


def filled(inpaint, s, mask, x0=PHOTO, model=None, **how):
    """Give the law of what inpaint draws into x0, from white noise."""
    model = model or correlated(s, MIDDLE, COV)
    run = lambda rng, x: inpaint(model, s, images(x0, x), mask, rng, x_T=x, **how)
    return law(run, SHAPE, white(4))


def step(s, t, u, eta, mean=MIDDLE, cov=COV):
    """Write ddim's step from t to u in score form, x_u = A x_t + c + sigma z.

    x0_hat = (x_t + (1 - alpha_bar) score) / sqrt(alpha_bar), eps_hat = -sqrt(1 - alpha_bar) score;
    sigma^2 by adding precisions, the leap by multiplying alphas. -> A, c, sigma^2, leap
    """
    leap, ab_t, ab_u = np.prod(1 - s.beta[u + 1 : t + 1]), s.alpha_bar[t], s.alpha_bar[u]
    sigma2 = 0 if u == 0 else eta**2 / (leap / (1 - leap) + 1 / (1 - ab_u))
    one = np.eye(len(cov))
    pull = np.linalg.inv(ab_t * cov + (1 - ab_t) * one)  # score = pull (sqrt(ab_t) mean - x)
    moved = math.sqrt(ab_u / ab_t) * (1 - ab_t) - math.sqrt(max(1 - ab_u - sigma2, 0) * (1 - ab_t))
    A = math.sqrt(ab_u / ab_t) * one - moved * pull
    return A, moved * math.sqrt(ab_t) * pull @ mean, sigma2, leap


def carried(law, A, c, added):
    return A @ law[0] + c, A @ law[1] @ A.T + added * np.eye(len(A))


def refilled(s, mask, times, rounds, eta, wide=False):
    """Carry the law of inpainting along from white noise."""
    keep = np.reshape(mask, -1).astype(float)

    def put_back(law, u):
        signal, noise = math.sqrt(s.alpha_bar[u]), 1 - s.alpha_bar[u]
        cov = np.outer(1 - keep, 1 - keep) * law[1] + noise * np.diag(keep**2)
        return keep * signal * PHOTO + (1 - keep) * law[0], cov

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
            want = refilled(T8, mask, times, rounds, eta, wide)
            close(got, want, f"times {times}, {rounds} round(s), eta {eta}, wide {wide}")
    close(filled(inpaint, T8, HARD), refilled(T8, HARD, range(8, -1, -1), 1, 1.0), "by default")


def check_known_pixels(inpaint):
    """They come back bit for bit, others do not; all levels but the last are noisy."""
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
            model, draws = exact.gaussian(T8, 0.3, 0.5), np.random.default_rng(5)
            every = list(inpaint(model, T8, x0, mask, draws, rounds=2))
            said = f"T = 8, 2 rounds: {len(every)} arrays came, expected 9, one per visited time"
            assert len(every) == 9, said
            *_, before, last = every
            said = f"x0 is {np.dtype(dtype)}, and so is the result; came {last.dtype}"
            assert last.dtype == dtype, said
            said = "known pixels come back bit for bit; some have changed"
            assert np.array_equal(last[whole], x0[whole]), said
            said = "x0 is seen in the hole: what stands there is not to be used"
            assert not np.any(last[~whole] == x0[~whole]), said
            said = "one step before the end known pixels still have the noise of that time"
            assert not np.any(before == x0), f"{said}; some have none"


def check_independent(inpaint):
    """Where pixels are independent the unknown ones are drawn as if there were no others."""
    var = np.array([0.2, 0.5, 0.1, 0.9])
    model = exact.gaussian(T8, MIDDLE.reshape(SHAPE), var.reshape(SHAPE))
    free = law(lambda rng, x: sample.ddim(model, T8, x.shape, rng, eta=1.0, x_T=x), SHAPE, white(4))
    hole = HARD.ravel() == 0
    for x0 in (PHOTO, -3 * PHOTO):
        drawn = filled(inpaint, T8, HARD, x0, model)
        got, want = ((mean[hole], cov[hole][:, hole]) for mean, cov in (drawn, free))
        close(got, want, "independent pixels")


def astray(inpaint, rounds, wide):
    """Measure how far the law of the unknown pixels is from the true one, given the known pixels.

    -> errors of the mean and of the covariance, and its variances as shares of the true ones
    """
    hole = HARD.ravel() == 0
    gain = COV[hole][:, ~hole] @ np.linalg.inv(COV[~hole][:, ~hole])
    true_mean = MIDDLE[hole] + gain @ (PHOTO - MIDDLE)[~hole]
    true_cov = COV[hole][:, hole] - gain @ COV[~hole][:, hole]
    times = sample.snr_times(LONG, 12)
    mean, cov = filled(inpaint, LONG, HARD, times=times, rounds=rounds, wide=wide)
    mean, cov = mean[hole], cov[hole][:, hole]
    errors = np.abs(mean - true_mean).max(), np.abs(cov - true_cov).max()
    return *errors, np.diag(cov) / np.diag(true_cov)


def check_rounds(inpaint):
    """One round is biased; with more, unknown pixels fit the known; only wide keeps variety."""
    means, covs, _ = zip(*(astray(inpaint, rounds, True) for rounds in (1, 3, 9, 27)), strict=True)
    found = ", ".join(f"{m:.3f}" for m in means)
    assert means[0] > 0.04 and covs[0] > 0.1, "putting back alone is not conditioning"
    said = f"with 1, 3, 9, 27 rounds the mean is off by {found}"
    assert all(a > 1.25 * b for a, b in pairwise(means)) and means[-1] < 0.01, said
    assert all(a > 2 * b for a, b in pairwise(covs)) and covs[-1] < 0.005
    mean, _, variances = astray(inpaint, 27, False)
    said = "sigma^2 is too little to go up and down often"
    assert abs(mean - means[-1]) < 1e-12 and np.all(variances < 0.6), said


def check_clip(run, inside):
    """clip does what a model with a clipped x0_hat would do: run(model, rng, clip)."""
    model = correlated(T8, MIDDLE, COV)

    def clipped(x, t):
        x0_hat = diffusion.predict_x0(T8, x, t, model(x, t))
        return diffusion.predict_eps(T8, x, t, np.clip(x0_hat, -0.5, 0.5))

    ours = list(run(model, np.random.default_rng(1), 0.5))
    theirs = list(run(clipped, np.random.default_rng(1), np.inf))
    said = "clip = 0.5: not what a model gives whose x0_hat is kept within [-0.5, 0.5]"
    assert np.allclose(ours, theirs, rtol=0, atol=1e-10), said
    free = list(run(model, np.random.default_rng(1), np.inf))
    assert np.abs(ours[-1][:, inside]).max() <= 0.5 < np.abs(free[-1][:, inside]).max()


X0 = np.tile(PHOTO.reshape(SHAPE), (5, 1, 1, 1))


def check_inpaint_clip(inpaint):
    run = lambda model, rng, clip: inpaint(model, T8, X0, HARD, rng, rounds=2, clip=clip)
    check_clip(run, HARD == 0)


def check_inpaint_manners(inpaint):
    """Bad masks and times are refused; x_T is drawn if none is given; each array is a new one."""
    model, rng = exact.gaussian(T8, 0.3, 0.5), np.random.default_rng(3)
    check_masks(lambda mask: inpaint(model, T8, FIVE, mask, rng))
    check_times(lambda times: inpaint(model, T8, FIVE, HARD, rng, times))
    x0 = np.full((500, 2, 2, 1), 3.0, np.float32)
    first, *_ = steps_of(inpaint(model, T8, x0, HARD, rng, [8, 3, 0], 2))
    drawn = first[:, HARD == 0]
    said = "x_T not given, images all 3: where nothing is kept x_T should be N(0, 1); it has"
    said += f" mean {drawn.mean():.2f}, standard deviation {drawn.std():.2f}"
    assert abs(drawn.mean()) < 0.2 and abs(drawn.std() - 1) < 0.15, said
    assert len(np.unique(drawn)) == drawn.size, "x_T: each value of each image is drawn"


INPAINT = (
    check_inpaint_law,
    check_known_pixels,
    check_independent,
    check_rounds,
    check_inpaint_clip,
    check_inpaint_manners,
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
    """The known part late, or noisy in the end, or in the hole; a way up that does not fit; ..."""
    put_first = "x = put_back(start(x0.shape, rng, x_T), times[0])"
    noised, again = "q_sample(s, x0, u, noise_like(", "            if again:"
    variance = "(np.sqrt(s.alpha_bar[u]) * x0 + (1 - s.alpha_bar[u]) * noise_like("
    for check, old, new in (
        (check_inpaint_law, "clip), u)", "clip), t)"),
        (check_rounds, "clip), u)", "clip), t)"),
        (check_inpaint_law, noised, variance),
        (check_known_pixels, "clip), u)", "clip), max(u, 1))"),
        (check_inpaint_law, "noise_like(x0, 1 - s.alpha_bar[u], rng)", "noise_like(x0, 0.0, rng)"),
        (check_inpaint_law, put_first, "x = start(x0.shape, rng, x_T)"),
        (check_inpaint_law, "return mask * q_sample", "return (1 - mask) * q_sample"),
        (check_known_pixels, "(1 - mask) * x", "1.0 * x"),
        (check_inpaint_law, "leap = s.alpha_bar[t] / s.alpha_bar[u]", "leap = s.alpha[t]"),
        (check_inpaint_law, "np.sqrt(1 - leap)", "(1 - leap)"),
        (check_inpaint_law, "noise_like(x, 1.0, rng)", "noise_like(x, 0.0, rng)"),
        (check_rounds, again, "            if False:"),
        (check_inpaint_law, "rounds if u > 0 else 1", "rounds"),
        (check_inpaint_law, "rng, eta, wide", "rng, 1.0, wide"),
        (check_rounds, "rng, eta, wide", "rng, eta, False"),
        (check_inpaint_clip, "wide, clip)", "wide, np.inf)"),
    ):
        rejects(check, slip(edit.inpaint, old, new))
    stepped = slip(edit.inpaint_step, "if wide and u > 0:", "if wide:")
    slipped = slip(edit.inpaint, "inpaint_step(", "stepped(", stepped=stepped)
    rejects(check_inpaint_law, slipped)


# --- image_to_image ---


def check_redrawn_law(image_to_image):
    """From the noise that hides the photo down to the clean image, on all times and on few."""
    for strength, eta, times, visited in (
        (0.5, 0.0, None, [4, 3, 2, 1, 0]),
        (0.55, 1.0, [8, 6, 3, 1, 0], [4, 3, 1, 0]),
        (1, 0.5, [8, 5, 0], [8, 5, 0]),
        (0.1, 0.0, [8, 5, 0], [1, 0]),
    ):
        model = correlated(T8, MIDDLE, COV)
        run = lambda rng, x: image_to_image(model, T8, images(PHOTO, x), strength, rng, times, eta)
        got = law(run, SHAPE, white(4))
        ab = T8.alpha_bar[visited[0]]
        want = math.sqrt(ab) * PHOTO, (1 - ab) * np.eye(4)
        for t, u in pairwise(visited):
            want = carried(want, *step(T8, t, u, eta)[:3])
        close(got, want, f"strength {strength}, T = 8, times {times or 'None'}, eta {eta}")


def check_redrawn_flow(image_to_image):
    """In small steps: the flow keeps each sample's place in the bell of x_t."""
    model = exact.gaussian(SMOOTH, MEAN, VAR)
    for strength, x0 in ((0.5, -1.0), (0.25, 3.0)):
        run = lambda rng, x: image_to_image(model, SMOOTH, np.full_like(x, x0), strength, rng)
        (mean,), cov = law(run, (1, 1, 1), white(1))
        t = round(strength * SMOOTH.T)
        slope, ab = math.sqrt(VAR / forward(SMOOTH, t)[1]), SMOOTH.alpha_bar[t]
        case = f"strength {strength}, data N(2, 0.5^2), x0 = {x0}"
        want = MEAN + slope * math.sqrt(ab) * (x0 - MEAN)
        said = f"{case}: the result has mean {mean:.4f}, expected {want:.4f}"
        assert abs(mean - want) < 2e-3, said
        spread, want = math.sqrt(cov[0, 0]), slope * math.sqrt(1 - ab)
        said = f"{case}: the result has standard deviation {spread:.4f}, expected {want:.4f}"
        assert abs(spread - want) < 2e-3, said


def check_strength(image_to_image):
    """0 gives the photo back, bit for bit; 1 forgets it, as far as the schedule does."""
    every = list(image_to_image(None, T8, X0, 0, np.random.default_rng(1)))
    assert len(every) == 1 and np.array_equal(every[0], X0), "strength 0: x0 as it is, one array"
    few = sample.snr_times(LONG, 20)
    model = correlated(LONG, MIDDLE, COV)
    run = lambda x0: list(image_to_image(model, LONG, x0, 1, np.random.default_rng(1), few))
    a, b = run(X0), run(-X0)
    said = f"strength 1, {len(few)} times: {len(a)} arrays came"
    assert len(a) == 1 + len([t for t in few if t < LONG.T]), said
    apart = np.abs(a[-1] - b[-1]).max()
    said = f"strength 1, x0 and -x0, the same noise: results differ by {apart:.3g}"
    assert 0 < apart < 0.02, f"{said}, expected a little, less than 0.02"
    for strength in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError):
            next(image_to_image(None, T8, X0, strength, np.random.default_rng(1)))


def check_redrawn_clip(image_to_image):
    run = lambda model, rng, clip: image_to_image(model, T8, X0, 0.6, rng, clip=clip)
    check_clip(run, HARD < 2)


def check_redrawn_manners(image_to_image):
    """Any shape, noise of its own for each value, bad times refused; 0 also where T is short."""
    model = exact.gaussian(T8, MEAN, VAR)
    for shape in ((6,), (5, 4), (3, 4, 2), (3, 2, 4, 3), (1, 2, 2, 1)):
        x0 = np.random.default_rng(2).normal(size=shape)
        x_4, *below = steps_of(image_to_image(model, T8, x0, 0.5, np.random.default_rng(3)))
        z = (x_4 - math.sqrt(T8.alpha_bar[4]) * x0) / math.sqrt(1 - T8.alpha_bar[4])
        said = f"images {shape}, strength 0.5 of T = 8: each value needs noise of its own"
        assert len(np.unique(z.round(6))) == z.size, said
        assert len(below) == 4, f"images {shape}, from t = 4: {len(below)} arrays, expected 4"
        for before, u, x_u in zip([x_4, *below], (3, 2, 1, 0), below, strict=False):
            factor, offset, _ = ddim_step(T8, 0.0)(u + 1, u)
            off = np.abs(x_u - factor * before - offset).max()
            said = f"images {shape}, N(2, 0.5^2): from x_{u + 1} to x_{u} it is not ddim's step"
            assert off < 1e-10, f"{said}, off by {off:.2g}"
    for strength in (0, 0.04):
        every = list(image_to_image(model, T8, X0, strength, np.random.default_rng(1)))
        said = f"strength {strength} of T = 8 starts at t = 0: expected x0 alone"
        assert len(every) == 1 and np.array_equal(every[0], X0), f"{said}; {len(every)} array(s)"
    rng = np.random.default_rng(1)
    check_times(lambda times: image_to_image(model, T8, X0, 0.25, rng, times))


IMAGE_TO_IMAGE = (
    check_redrawn_manners,
    check_redrawn_law,
    check_redrawn_flow,
    check_strength,
    check_redrawn_clip,
)


@grades("edit.image_to_image")
@pytest.mark.parametrize("check", IMAGE_TO_IMAGE)
def test_image_to_image(check):
    check(edit.image_to_image)


@pytest.mark.parametrize("strength", [-0.1, 1.1, math.nan])
def test_a_strength_that_is_no_share_is_refused(strength):
    with pytest.raises(ValueError, match="^strength is a share of T"):
        next(edit.image_to_image(None, T8, X0, strength, None))


def test_errata_image_to_image():
    for check, old, new in (
        (check_redrawn_law, "round(strength * s.T)", "int(strength * s.T)"),  # seen at 0.1
        (check_redrawn_flow, "round(strength * s.T)", "round((1 - strength) * s.T)"),
        (check_redrawn_law, "x = q_sample(s, x0, start,", "x = q_sample(s, x0, max(start - 1, 0),"),
        (check_redrawn_law, "*(t for t in times if t < start)", "*range(start - 1, -1, -1)"),
        (check_redrawn_law, "below, eta, x, clip", "below, 0.0, x, clip"),
        (check_redrawn_flow, "noise_like(x0, 1 - s.alpha_bar[start], rng)", "0 * x0"),
        (check_strength, "strength * s.T", "0.9 * strength * s.T"),
        (check_redrawn_clip, "eta, x, clip", "eta, x"),
    ):
        rejects(check, slip(edit.image_to_image, old, new))


# --- slerp and interpolate ---


def angle(a, b):
    return math.acos((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()))


def pair(dtype=np.float64):
    """Make pairs of noise of equal lengths, at another angle in each pair."""
    a, b = np.random.default_rng(7).normal(size=(2, 4, 3, 2, 2))
    b[1] += 2 * a[1]
    b[2] -= 2 * a[2]
    longer = np.sqrt((a**2).sum((1, 2, 3)) / (b**2).sum((1, 2, 3)))
    return a.astype(dtype), (b * longer[:, None, None, None]).astype(dtype)


def check_arc(slerp):
    """Ends kept, length kept, share of the angle, in one plane with both; orthogonal by hand."""
    for dtype, tol in ((np.float64, 1e-10), (np.float32, 1e-5)):
        a, b = pair(dtype)
        for share, end in ((0, a), (1, b)):
            said = f"share {share} gives {'ab'[share]} itself"
            assert np.allclose(slerp(a, b, share), end, rtol=0, atol=tol), said
        for share in (0.2, 0.5, 0.9, 0.97, np.float64(0.3)):
            c = slerp(a, b, share)
            said = f"a and b are {np.dtype(dtype)}, and so is the result; came {c.dtype}"
            assert c.dtype == dtype, said
            said = f"a and b have shape {a.shape}, and so has the result; came {c.shape}"
            assert c.shape == a.shape, said
            for x, y, z in zip(a, b, c, strict=True):
                longer = math.sqrt((z * z).sum() / (x * x).sum())
                said = f"a and b of equal length: the result is {longer:.6g} times as long"
                assert abs(longer**2 - 1) < tol, f"share {share}, {said}"
                said = f"share {share}: it comes {angle(x, z) / angle(x, y):.6g} of the way to b"
                assert abs(angle(x, z) - share * angle(x, y)) < tol, said
                said = f"share {share}: not in one plane with a and b"
                assert abs(angle(z, y) - (1 - share) * angle(x, y)) < tol, said
    a, b = np.eye(2, 12).reshape(2, 1, 3, 2, 2)
    got, want = slerp(3 * a, 4 * b, 0.5), (3 * a + 4 * b) / math.sqrt(2)
    assert np.allclose(got, want, rtol=0, atol=1e-12), "half way between 3 e1 and 4 e2"


def check_each_pair(slerp):
    """Images of any shape, one or many, straight lines beside arcs: each pair for itself."""
    for dtype, tol in ((np.float64, 1e-12), (np.float32, 1e-5)):
        a, b = pair(dtype)
        b[0], b[3] = 2 * a[0], -a[3]
        batch = slerp(a, b, 0.3)
        for n in range(4):
            alone = slerp(a[n : n + 1], b[n : n + 1], 0.3)
            said = "images of a batch: each pair has its own angle, and its own arc or line"
            assert np.allclose(alone[0], batch[n], rtol=0, atol=tol), said
        for shape in ((4, 12), (4, 3, 4), (4, 2, 3, 2)):
            got = slerp(a.reshape(shape), b.reshape(shape), 0.3)
            said = f"{np.dtype(dtype)}, shape {shape}"
            assert got.shape == shape and got.dtype == dtype, (
                f"{said}: came {got.shape} {got.dtype}"
            )
            same = np.allclose(got, batch.reshape(shape), rtol=0, atol=tol)
            assert same, f"{said}: other values than for the same images of shape {a.shape}"
    a, b = pair()
    once = slerp(a, b, 0.3)
    part_a, part_b = slerp(2 * a, b, 0.3) - once, slerp(a, 2 * b, 0.3) - once
    said = "p a + q b: p and q depend on the angle and on share, not on how long a and b are"
    got, want = slerp(3 * a, 0.5 * b, 0.3), 3 * part_a + 0.5 * part_b
    assert np.allclose(part_a + part_b, once, rtol=0, atol=1e-12), said
    assert np.allclose(got, want, rtol=0, atol=1e-12), said


def check_parallel(slerp):
    """Where there is hardly an arc: the straight line; just beside that, no digits are lost."""
    a, b = pair()
    with np.errstate(all="raise"):
        for factor in (1, 1.5, -1, 0):
            length = 0.7 + 0.3 * factor
            said = f"b = {factor} a, share 0.3: expected the straight line, {length:g} a"
            assert np.allclose(slerp(a, factor * a, 0.3), length * a, rtol=0, atol=1e-12), said
        each = lambda x: x.sum((1, 2, 3), keepdims=True)
        across = b - each(a * b) / each(a * a) * a
        across *= np.sqrt(each(a * a) / each(across**2))
        for tilt in (1e-7, 1e-5, 1e-3, math.pi - 1e-3):
            want = math.cos(0.3 * tilt) * a + math.sin(0.3 * tilt) * across
            far = np.abs(slerp(a, math.cos(tilt) * a + math.sin(tilt) * across, 0.3) - want).max()
            said = f"an angle of {tilt:g} between a and b: off by {far:.2g}"
            most = 1e-12 if tilt < 1 else 1e-10  # opposite ones nearly cancel
            assert far < most, f"{said}, expected rounding (below {most:g})"


def check_interpolate(interpolate):
    """ddim is affine, x_0 = A x_T + c: invert it by solving, go along the arc, apply it.

    Ends come back as rounds grow.
    """
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
            arc = math.sin((1 - share) * whole) * x + math.sin(share * whole) * y
            want = A @ arc / math.sin(whole) + c
            assert np.abs(image.ravel() - want).max() < 1e-9
    errors = []
    for rounds in (1, 4, 16, 64):
        ends = interpolate(model, T8, a, b, (0, 1), times, rounds)
        errors.append(np.abs(ends - [a, b]).max())
    assert errors[0] > 0.05 and all(before > 2 * after for before, after in pairwise(errors))


def check_interpolate_flow(interpolate):
    """In small steps: both images go to the bell of x_T, along the arc, back to the data's."""
    a, b = np.random.default_rng(9).normal(MEAN, 0.5, (2, 2, 2, 2, 1))
    mean_T, var_T = forward(SMOOTH, SMOOTH.T)
    slope, shares = math.sqrt(VAR / var_T), (0.25, 0.5)
    x, y = (mean_T + (image - MEAN) / slope for image in (a, b))
    want = [MEAN + slope * (edit.slerp(x, y, share) - mean_T) for share in shares]
    errors = []
    for steps in (60, 120, 240):
        model, times = exact.gaussian(SMOOTH, MEAN, VAR), sample.even_times(SMOOTH, steps)
        errors.append(np.abs(interpolate(model, SMOOTH, a, b, shares, times) - want).max())
    halved = all(abs(math.log2(p / q) - 1) < 0.1 for p, q in pairwise(errors))
    assert errors[-1] < 0.02 and halved, errors


@grades("edit.slerp")
@pytest.mark.parametrize("check", (check_arc, check_each_pair, check_parallel))
def test_slerp(check):
    check(edit.slerp)


@pytest.mark.parametrize("check", (check_interpolate, check_interpolate_flow))
def test_interpolate(check):
    check(edit.interpolate)


def test_errata_slerp():
    """A straight line; one angle per batch; ends exchanged; an arccos that loses digits."""
    cosine = "(a * b).sum(axes, keepdims=True) / np.maximum(length_a * length_b, 1e-9)"
    for check, old, new in (
        (check_arc, "arc = np.sin(angle) > 1e-6", "arc = np.sin(angle) > 9"),
        (check_arc, "axes = tuple(range(1, a.ndim))", "axes = tuple(range(a.ndim))"),
        (check_arc, "return to_a * a + to_b * b", "return to_b * a + to_a * b"),
        (check_parallel, "arc = np.sin(angle) > 1e-6", "arc = np.sin(angle) > 1e-3"),
        (
            check_parallel,
            "2 * np.arctan2(apart, together)",
            f"np.arccos(np.clip({cosine}, -1, 1))",
        ),
        (check_arc, ".astype(a.dtype)\n    return", "\n    return"),
    ):
        rejects(check, slip(edit.slerp, old, new))

    def normalised(a, b, share):
        c = edit.slerp(a, b, share)
        return c / np.sqrt((c**2).mean())

    rejects(check_arc, normalised)


def test_errata_interpolate():
    """Rounds that are not passed on, ends exchanged, a straight line, pictures for noises."""
    arc = "slerp(x_T[: len(a)], x_T[len(a) :], share)"
    for check, old, new in (
        (check_interpolate, "times, rounds)\n", "times)\n"),
        (check_interpolate, arc, "slerp(x_T[len(a) :], x_T[: len(a)], share)"),
        (check_interpolate, arc, "((1 - share) * x_T[: len(a)] + share * x_T[len(a) :])"),
        (check_interpolate_flow, arc, "slerp(a, b, share)"),
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


def risen(s, x, u, t, rounds, mean, cov):
    """Take one step of the inversion from u up to t, for rows of pixels.

    x_t = x sqrt(leap) + ... eps_hat at the last guess of x_t
    """
    leap, ab = np.prod(1 - s.beta[u + 1 : t + 1]), s.alpha_bar[t]
    along = math.sqrt(1 - ab) - math.sqrt(leap * (1 - s.alpha_bar[u]))
    pull = math.sqrt(1 - ab) * np.linalg.inv(ab * cov + (1 - ab) * np.eye(4))
    guess = x
    for _ in range(rounds):
        guess = math.sqrt(leap) * x + along * (guess - math.sqrt(ab) * mean) @ pull
    return guess


def there_and_down(times, rounds, kept, before=(MIDDLE, COV), after=(OTHER, OTHER_COV)):
    """List what FIVE becomes, up as one Gaussian says, down as another, from times[0] to 0."""
    path = [FIVE.reshape(5, 4)]
    for u, t in pairwise(list(times)[::-1]):
        path.append(risen(T8, path[-1], u, t, rounds, *before))
    wants = [path[-1]]
    for (t, u), known in zip(pairwise(times), path[-2::-1], strict=True):
        A, c, *_ = step(T8, t, u, 0.0, *after)
        wants.append(kept * known + (1 - kept) * (wants[-1] @ A.T + c))
    return wants


def arrived(got, wants, times, case):
    said = f"{case}: expected {len(wants)} arrays, the first at times[0], the last x_0"
    assert len(got) == len(wants), f"{said}; came {len(got)}"
    for t, x, want in zip(times, got, wants, strict=True):
        off = np.abs(np.reshape(x, (5, 4)) - want).max()
        said = f"at t = {t} the images should be within 1e-10 of the exact ones"
        assert off < 1e-10, f"{case}: {said}; they are {off:.2g} away"


def check_translated(translate):
    """Up as one Gaussian says, down as the other, in affine steps; what is kept is on the path."""
    for times, rounds, keep in (
        (range(8, -1, -1), 1, None),
        ([8, 6, 3, 1, 0], 3, HARD),
        ([5, 2, 0], 2, SOFT),
        ([8, 7, 3, 2, 0], 1, SOFT[None, ..., None].repeat(5, 0)),
    ):
        kept = np.zeros(4) if keep is None else np.reshape(keep, (-1, 4))
        got = list(translate(FROM, TO, T8, FIVE, times, rounds, keep))
        how = "nothing kept" if keep is None else "a mask to keep by"
        case = f"times {list(times)}, {rounds} round(s), {how}"
        arrived(got, there_and_down(times, rounds, kept), times, case)


def root(cov):
    values, axes = np.linalg.eigh(cov)
    return axes * np.sqrt(values) @ axes.T


def check_translated_flow(translate):
    """In small steps the way up is known in closed form, and the way down is the same.

    x_T = sqrt(ab) m + S_T^(1/2) S_0^(-1/2) (x0 - m), S_T = ab S_0 + 1 - ab
    """
    ab, x0 = SMOOTH.alpha_bar[-1], FIVE.reshape(5, 4)
    roots = lambda cov: (root(cov), root(ab * cov + (1 - ab) * np.eye(4)))
    m, (S_0, S_T) = MIDDLE, roots(COV)
    m2, (S2_0, S2_T) = OTHER, roots(OTHER_COV)
    x_T = math.sqrt(ab) * m + (x0 - m) @ np.linalg.inv(S_0) @ S_T
    want = m2 + (x_T - math.sqrt(ab) * m2) @ np.linalg.inv(S2_T) @ S2_0
    models, found = [correlated(SMOOTH, MIDDLE, COV), correlated(SMOOTH, OTHER, OTHER_COV)], []
    for steps in (120, 240, 480):
        *_, got = translate(*models, SMOOTH, FIVE, sample.even_times(SMOOTH, steps))
        found.append(got.reshape(5, 4))
    errors = [np.abs(x - want).max() for x in found]
    rule = "two Gaussians: 120, 240, 480 steps should come ever closer to the exact translation"
    said = f"{rule}; they miss it by {np.round(errors, 4)}"
    halved = all(abs(math.log2(p / q) - 1) < 0.1 for p, q in pairwise(errors))
    assert errors[-1] < 0.1 and halved, said
    said = "the error should halve when the steps double"
    assert np.abs(2 * found[-1] - found[-2] - want).max() < 0.01, said


def check_translated_back(translate):
    """The same model twice: the picture comes back as rounds grow; what is kept, bit for bit."""
    errors = []
    for rounds in (1, 4, 16, 64):
        *_, last = translate(FROM, FROM, T8, FIVE, None, rounds)
        errors.append(np.abs(last - FIVE).max())
    rule = "there and back with one model: 1, 4, 16, 64 rounds should bring the image back"
    said = f"{rule}; they miss it by {np.array(errors)}"
    falling = all(a > 2 * b for a, b in pairwise(errors))
    assert errors[0] > 0.05 and errors[-1] < 1e-12 and falling, said
    models = exact.gaussian(T8, 0.3, 0.5), exact.gaussian(T8, -0.4, 0.2)
    for dtype in (np.float64, np.float32):
        x0 = FIVE.astype(dtype)
        *_, last = translate(*models, T8, x0, keep=HARD)
        assert last.dtype == dtype, f"images of {x0.dtype} should stay that; came {last.dtype}"
        said = "where keep = 1 the image should come back bit for bit"
        assert np.array_equal(last[:, HARD == 1], x0[:, HARD == 1]), said
        said = "where keep = 0 the image should be translated"
        assert not np.any((last == x0)[:, HARD == 0]), said


def check_translated_clip(translate):
    """clip holds on the way down alone."""
    check_clip(lambda model, rng, clip: translate(FROM, model, T8, X0, clip=clip), HARD < 2)


def check_translated_manners(translate):
    """Masks of every shape, also of each channel; bad ones refused; by default one round."""
    rng = np.random.default_rng(6)
    models, x0 = [exact.gaussian(T8, m, v) for m, v in ((0.3, 0.5), (-0.4, 0.2))], FIVE
    once, alone = (list(translate(*models, T8, FIVE, [8, 4, 0], *how)) for how in ((1,), ()))
    assert np.array_equal(once, alone), "rounds not given: it should be 1"
    x0 = rng.normal(0.2, 0.7, (3, 4, 2, 2))
    *_, free = steps_of(translate(*models, T8, x0))
    for shape in ((4, 2), (4, 2, 1), (3, 4, 2, 1), x0.shape):
        keep = rng.random(shape) < 0.5
        *_, last = steps_of(translate(*models, T8, x0, keep=keep))
        whole = np.broadcast_to(keep[..., None] if keep.ndim == 2 else keep, x0.shape)
        said = f"independent pixels, images {x0.shape}, keep {shape}: where it is 0 all should be"
        said += " as without it, where it is 1 as in x0"
        assert np.allclose(last, np.where(whole, x0, free), rtol=0, atol=1e-10), said
    check_masks(lambda mask: translate(*models, T8, FIVE, keep=mask))
    check_times(lambda times: translate(*models, T8, FIVE, times))


TRANSLATE = (
    check_translated,
    check_translated_manners,
    check_translated_flow,
    check_translated_back,
    check_translated_clip,
)


@grades("edit.translate")
@pytest.mark.parametrize("check", TRANSLATE)
def test_translate(check):
    check(edit.translate)


def test_errata_translate():
    """Models exchanged or the same, the path off by one or upside down, an inverted mask."""
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


def differing(x0, t, seed, n, before=(MIDDLE, COV), after=(OTHER, OTHER_COV)):
    """Two Gaussians differ by an affine map of x_t; mean of channels, draws; maximum per image."""
    rng, ab, shape = np.random.default_rng(seed), T8.alpha_bar[t], x0.shape
    pull = lambda cov: np.linalg.inv(ab * cov + (1 - ab) * np.eye(4))
    (a, A), (b, B) = ((math.sqrt(ab) * mean, pull(cov)) for mean, cov in (before, after))
    total = np.zeros(shape)
    for _ in range(n):
        x_t = math.sqrt(ab) * x0 + math.sqrt(1 - ab) * rng.standard_normal(shape)
        x_t = x_t.reshape(len(x0), 4)
        total += math.sqrt(1 - ab) * np.abs((x_t - b) @ B - (x_t - a) @ A).reshape(shape)
    total = total.sum(-1, keepdims=True)
    return total / total.max((1, 2), keepdims=True)


def check_difference(difference):
    x0 = np.random.default_rng(13).normal(size=(3, 2, 1, 2))
    for t in (2, 7):
        got = difference(FROM, TO, T8, x0, t, np.random.default_rng(14), n=3)
        want = differing(x0, t, 14, 3)
        assert np.allclose(got, want, rtol=0, atol=1e-12) and np.all(got.max((1, 2, 3)) == 1)


def test_difference():
    check_difference(edit.difference)
    # models that differ in the mean of two pixels: there, and by that much
    where = np.array([[0.0, 2.0], [-4.0, 0.0]])[..., None]
    one, other = (exact.gaussian(T8, mean, 0.3) for mean in (0.0, where))
    assert not edit.difference(one, one, T8, FIVE, 4, np.random.default_rng(1), n=1).any()
    found = edit.difference(one, other, T8, FIVE, 4, np.random.default_rng(1), n=1)
    assert np.allclose(found, np.abs(where) / 4, rtol=0, atol=1e-12)


def test_errata_difference():
    """One noise for all draws, no absolute value, one maximum for all images, wrong noise level."""
    for old, new in (
        ("np.abs(apart)", "apart"),
        ("found = found + ", "found = "),
        ("max(axis=(1, 2, 3), keepdims=True)", "max()"),
        ("x_t = q_sample(s, x0, t, rng", "x_t = q_sample(s, x0, t - 1, rng"),
        ("mean(-1, keepdims=True)", "max(-1, keepdims=True)"),
        ("np.asarray(eps_to(x_t, t) - ", "np.asarray(eps_to(x_t, t) + "),
    ):
        rejects(check_difference, slip(edit.difference, old, new))


# before and after: two pixels differ, one a little; and a third Gaussian, which draws
BEFORE = np.array([0.6, -0.3, 0.2, 0.9]), np.diag([0.3, 0.5, 0.2, 0.4])
AFTER = np.array([0.6, 0.9, 0.6, 0.9]), np.diag([0.3, 0.5, 0.2, 0.36])
DRAWN = np.array([0.1, 1.4, -0.5, 0.4]), np.diag([0.2, 0.3, 0.6, 0.1])


def check_changed(change):
    """Which places, which path, which model draws: each exactly as for three Gaussians."""
    models = [correlated(T8, *law) for law in (BEFORE, AFTER, DRAWN)]
    for times, drawn in ((None, None), ([6, 4, 1, 0], DRAWN)):
        kept = differing(FIVE, 5, 17, 5, BEFORE, AFTER).reshape(5, 4) < 0.2
        assert 3 < kept.sum() < 17
        how, asked = () if drawn is None else (times, models[2]), []

        def after(x_t, t, asked=asked):
            asked.append((t, len(x_t) // len(FIVE)))
            return models[1](x_t, t)

        got = list(change(models[0], after, T8, FIVE, np.random.default_rng(17), *how))
        if drawn:
            draws, at = sum(n for _, n in asked), sorted({t for t, _ in asked})
            said = (
                f"T = 8: the models are compared over 5 draws at t = 5; yours: {draws}, at t = {at}"
            )
            assert (draws, at) == (5, [5]), said
        visited = range(8, -1, -1) if times is None else times
        wants = there_and_down(visited, 1, kept, BEFORE, drawn or AFTER)
        last = np.reshape(got[-1], (5, 4))
        said = "what is to be kept should come back bit for bit"
        assert np.array_equal(last[kept], FIVE.reshape(5, 4)[kept]), said
        said = "where the two models differ by 0.2 or more the image should change"
        assert not np.any((last == FIVE.reshape(5, 4))[~kept]), said
        named = "eps_draw not given" if drawn is None else "another model as eps_draw"
        arrived(got, wants, visited, f"times {list(visited)}, {named}")


def check_changed_clip(change):
    """clip holds where something changes, on the way down alone."""
    models = [correlated(T8, *law) for law in (BEFORE, AFTER)]

    def run(model, rng, clip):
        return change(*models, T8, 3 * X0, rng, None, model, clip)

    changed = differing(3 * X0, 5, 1, 5, BEFORE, AFTER)[0] >= 0.2
    check_clip(run, np.broadcast_to(changed[..., 0], HARD.shape))


DIFFERS = np.array([[[1.0, 0.19], [0.0, 0.21]], [[0.1, 0.24], [2.0, 0.37]]])[..., None]


def check_changed_places(change):
    """Models that differ by known amounts: in each image 0.2 of its own largest, over channels."""
    x0 = np.random.default_rng(18).normal(size=(2, 2, 2, 2))
    before = lambda x_t, t: 0.3 * x_t
    by, asked = np.concatenate([DIFFERS, np.zeros_like(DIFFERS)], axis=-1), []
    changes = np.array([[[1, 0], [0, 1]], [[0, 0], [1, 0]]]) == 1

    for T, at in ((11, 7), (4, 2), (7, 4)):

        def after(x_t, t, at=at):
            asked.append(t)
            return before(x_t, t) + (by if t == at else by[:, ::-1])

        s, states = quiet(schedule.from_betas, np.linspace(0.02, 0.6, T)), []
        for dtype in (np.float64, np.float32):
            rng, photo = np.random.default_rng(20), x0.astype(dtype)
            states.append(rng.bit_generator.state)
            asked.clear()
            *_, last = steps_of(change(before, after, s, photo, rng))
            assert set(asked[:5]) == {at}, f"T = {T}: models are compared at t = {asked[0]}"
            assert rng.bit_generator.state != states[0], "difference draws from rng"
            found = last != photo
            said = f"two images, models differ by {by[..., 0].tolist()} in one channel, by 0 in the"
            said += f" other: changed are {found[..., 0].tolist()}, expected {changes.tolist()}"
            assert np.array_equal(found, np.stack([changes, changes], axis=-1)), said
            assert last.dtype == dtype, f"images of {photo.dtype} should stay that"
    rng = np.random.default_rng(20)
    check_times(lambda times: change(before, before, T8, x0, rng, times))


@grades("edit.change")
@pytest.mark.parametrize("check", (check_changed_places, check_changed, check_changed_clip))
def test_change(check):
    check(edit.change)


def check_edge_energy(edge_energy):
    """Every pair of neighbours by itself; each image may have a mask of its own."""
    x = np.random.default_rng(15).normal(size=(2, 4, 5, 3))
    masks = np.random.default_rng(16).random((2, 4, 5, 1)) < 0.5
    for mask in (masks, masks[0], masks[0, ..., 0]):
        whole = np.broadcast_to(mask[..., None] if mask.ndim == 2 else mask, (2, 4, 5, 1))
        steps = []
        for n, i, j in product(range(2), range(4), range(5)):
            for down, right in ((i + 1, j), (i, j + 1)):
                if down < 4 and right < 5 and whole[n, i, j] != whole[n, down, right]:
                    steps.append((x[n, i, j] - x[n, down, right]) ** 2)
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
    """Make one that looks the same from each place of the tile, and differs along each direction.

    Its values go by distance around the ring.
    """
    kernel = np.array([[1.0, 0.5, -0.2, 0.1], [0.6, 0.3, 0.0, 0.2], [-0.1, 0.0, 0.3, 0.0]])
    like = lambda i, j: (kernel * np.roll(kernel, (i, j), (0, 1))).sum()
    near = 0.2 * np.array([[like(i, j) for j in range(4)] for i in range(3)])
    cov = [[near[(i - k) % 3, (j - m) % 4] for k, m in PLACES] for i, j in PLACES]
    return np.array(cov) + 0.05 * np.eye(12)


def sheet_covariance():
    """Make what a model of untiled pictures believes: smooth inside, opposite edges far apart."""
    near = lambda i, j, k, m: 0.4 * 0.9 ** (abs(i - k) + abs(j - m))
    return np.array([[near(i, j, k, m) for k, m in PLACES] for i, j in PLACES])


SHIFTS = [(1, 3), (0, 2), (2, 1), (1, 1), (2, 0), (0, 3), (1, 2), (2, 3)]


def tiled(tile, mean, cov, times=None, eta=0.0, shifts=SHIFTS):
    model = correlated(T8, mean, cov)
    run = lambda rng, x: tile(model, T8, x.shape, rng, times, eta, x)
    return law(run, RING, white(12), shifts)


def untiled(eps_model, s, shape, rng, times=None, eta=0.0, x_T=None, clip=np.inf):
    return sample.ddim(eps_model, s, shape, rng, times, eta, x_T, clip)


def check_circular(tile):
    """A model to which all places are alike draws the same with shifts as without."""
    mean, cov = np.full(12, 0.3), ring_covariance()
    for how in ((), ([8, 6, 3, 1, 0], 1.0), ([8, 5, 2, 0], 0.5)):
        got, want = (tiled(draw, mean, cov, *how) for draw in (tile, untiled))
        times_and_eta = f", times and eta {', '.join(map(str, how))}" if how else ""
        close(got, want, f"a model to which all places are alike{times_and_eta}")


def check_tile_law(tile):
    """With a model to which they are not: each step as seen from where its shift puts the tile."""
    mean, cov, times = np.arange(12) / 10, sheet_covariance(), [8, 6, 3, 1, 0]
    want = white(12)
    for (t, u), shift in zip(pairwise(times), SHIFTS, strict=False):
        # seen[k]: the pixel that the model sees at k
        seen = np.roll(np.arange(12).reshape(3, 4), shift, (0, 1)).ravel()
        A, c, sigma2, _ = step(T8, t, u, 0.5, mean, cov)
        B, d = np.zeros((12, 12)), np.zeros(12)
        B[np.ix_(seen, seen)], d[seen] = A, c
        want = carried(want, B, d, sigma2)
    close(tiled(tile, mean, cov, times, 0.5), want, f"shifts {SHIFTS[:4]} one after the other")


def expected_seams(law):
    """Average the squared difference of all wrap-around neighbours -> down (3, 4), right (3, 4).

    The last of each is the edge.
    """
    power = (law[1] + np.outer(*[law[0]] * 2)).reshape(3, 4, 3, 4)
    at = lambda i, j, k, m: power[i, j, i, j] + power[k, m, k, m] - 2 * power[i, j, k, m]
    steps = lambda a, b: [at(i, j, (i + a) % 3, (j + b) % 4) for i, j in PLACES]
    return tuple(np.reshape(steps(a, b), (3, 4)) for a, b in ((1, 0), (0, 1)))


def expected_energy(law):
    """Compute what seam_energy measures, for infinitely many samples."""
    down, right = expected_seams(law)
    return (down[-1].mean() + right[:, -1].mean()) / (down[:-1].mean() + right[:, :-1].mean())


def check_seams(tile):
    """Steps over the edge are 4 times as large as others; on average over all shifts, as large."""
    mean, cov = np.arange(12) / 10, sheet_covariance()
    assert expected_energy(tiled(untiled, mean, cov, [4, 0])) > 4
    every = [tiled(tile, mean, cov, [4, 0], shifts=[shift]) for shift in PLACES]
    energy = np.mean([expected_energy(law) for law in every])
    said = f"steps over the edge are {energy:.2f} times as large as inside"
    assert energy < 1.5, f"{said}, on average over all shifts; expected below 1.5"
    said = "on average over all shifts the edge is a place like any other; here it is not"
    for seams in zip(*map(expected_seams, every), strict=True):
        assert np.ptp(np.mean(seams, axis=0)) < 1e-10, said


def check_every_shift(tile):
    """All places of the tile come to lie at all others, and eps_hat goes back to its own."""
    for H, W in ((3, 4), (5, 2)):
        s, seen = quiet(schedule.linear, 250, 1e-4, 1e-3), set()
        x_T = np.zeros((2, H, W, 1))
        x_T[:, 1, W - 1] = 1
        place = x_T[0].argmax()

        def model(x_t, t, seen=seen):
            seen.add(int(x_t[0].argmax()))
            return np.zeros_like(x_t)

        *_, x0 = tile(model, s, x_T.shape, np.random.default_rng(1), x_T=x_T)
        said = f"in 250 steps a pixel came to lie at {len(seen)} of {H} x {W} places"
        assert len(seen) == H * W, f"{said}: a shift is new at each step, from all places"
        assert x0[0].argmax() == place, "the picture was left shifted: only what the model sees is"
        assert np.array_equal(x0[0], x0[1]), "all images of a batch are treated alike"


def check_tile_manners(tile):
    """To a model that knows only channels no shift matters: all that is yielded is ddim's."""
    model = exact.gaussian(T8, np.array([1.0, -2.0, 0.5]), VAR)
    for shape in ((2, 5, 3, 3), (1, 2, 6, 3)):
        for dtype, tol in ((np.float64, 1e-12), (np.float32, 1e-5)):
            x_T = np.random.default_rng(1).normal(size=shape).astype(dtype)
            for how in ({}, {"times": [8, 5, 1, 0]}, {"times": [5, 0]}):
                rng = np.random.default_rng(2)
                want = list(sample.ddim(model, T8, shape, None, x_T=x_T, **how))
                got = list(tile(model, T8, shape, rng, x_T=x_T, **how))
                case = f"images {shape} {np.dtype(dtype)}, {how or 'all times'}"
                said = f"{case}: it yields {len(got)} arrays, expected {len(want)}"
                assert len(got) == len(want), said
                for t, (a, b) in enumerate(zip(got, want, strict=True)):
                    said = f"{case}: array {t} is {a.shape} {a.dtype}, expected {b.shape} {b.dtype}"
                    assert (a.shape, a.dtype) == (b.shape, b.dtype), said
                    said = f"{case}: to this model no shift matters, but array {t} is not ddim's"
                    assert np.allclose(a, b, rtol=0, atol=tol), said
    runs = (tile(model, T8, shape, np.random.default_rng(seed)) for seed in (2, 2, 3))
    drawn, again, other = map(list, runs)
    said = f"without x_T, float32 noise of shape {shape} is drawn; came {drawn[0].shape}"
    assert drawn[0].shape == shape and drawn[0].dtype == np.float32, said
    assert np.array_equal(drawn[-1], again[-1]), "the same seed gave two different results"
    assert not np.allclose(drawn[0], other[0]), "two seeds gave the same x_T: it is drawn from rng"
    check_times_refused(tile, (2, 3, 4, 1))


def check_tile_clip(tile):
    def run(model, rng, clip):
        return tile(model, T8, X0.shape, FixedShift(rng), x_T=X0, eta=1.0, clip=clip)

    check_clip(run, HARD < 2)

    def more(model, s, rng, x_T, clip=np.inf, shape=BATCH):
        return tile(model, s, shape, FixedShift(rng), eta=1.0, x_T=x_T, clip=clip)

    check_both_edges(more, "x0_hat is kept within [-clip, clip], as in ddim")
    check_noise(more)


class FixedShift:
    def __init__(self, rng):
        self.standard_normal, self.normal = rng.standard_normal, rng.normal

    def integers(self, low, high=None, size=None):
        single = np.ndim(low if high is None else high) == 0 and size is None
        return 1 if single else np.array((1, 0))


def check_seam_energy(seam_energy):
    """A ramp, by counting; a wave that closes has no seam; many samples give the expected value."""
    ramp = np.add.outer(3.0 * np.arange(3), np.arange(5))[None, :, :, None] * np.ones((2, 1, 1, 3))
    # steps down: 3, over the edge 6; to the right: 1 and 4
    for images in (ramp, ramp.swapaxes(1, 2), 7 - 3 * ramp, (10 * ramp).astype(np.uint8)):
        assert abs(seam_energy(images) - (36 + 16) / (9 + 1)) < 1e-12
    wave = np.sin(np.pi / 2 * np.arange(4))[:, None] * np.ones((4, 6, 4, 1))
    assert abs(seam_energy(wave) - 1) < 1e-12
    cov = sheet_covariance()
    exactly = np.sqrt(12) * np.linalg.cholesky(cov).T  # 12 images with this second moment about 0
    want = expected_energy((np.zeros(12), cov))
    assert abs(seam_energy(exactly.reshape(12, *RING)) - want) < 1e-12


TILE = (
    check_circular,
    check_tile_law,
    check_seams,
    check_every_shift,
    check_tile_clip,
    check_tile_manners,
)


@grades("edit.tile")
@pytest.mark.parametrize("check", TILE)
def test_tile(check):
    check(edit.tile)


def test_seam_energy():
    check_seam_energy(edit.seam_energy)


def test_errata_tile():
    """No shift, one axis only, the answer not turned back, or turned twice, one shift for ever."""
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
        ("(step[1:] ** 2).mean()", "(step[1:] ** 2).sum()"),
        ("for axis in (1, 2)", "for axis in (2,)"),
        ("np.roll(images, 1, axis)", "np.roll(images, -1, axis)"),
        ("step[1:]", "step"),
        ("step[:1] ** 2", "np.abs(step[:1])"),
        ("dtype=np.float64", "dtype=None"),
    ):
        rejects(check_seam_energy, slip(edit.seam_energy, old, new))


# --- panorama ---


def check_independent_windows(panorama):
    """Where pixels are independent, windows change nothing: the sampler's images, to rounding."""
    model = exact.gaussian(T8, 0.4, 0.3)
    for shape, window, overlap in (
        ((2, 5, 9, 2), (3, 4), 0.5),
        ((1, 4, 4, 1), (4, 4), 0.5),
        ((2, 7, 5, 1), (2, 5), 0.0),
        ((1, 6, 8, 1), (5, 3), 0.9),
    ):
        rng, times = np.random.default_rng, [8, 5, 2, 0]
        want = list(sample.ddim(model, T8, shape, rng(6), times, 0.7))
        got = list(panorama(model, T8, shape, window, rng(6), times, overlap, 0.7))
        assert all(a.dtype == np.float32 for a in got) and np.allclose(got, want, rtol=0, atol=2e-5)
        x_T = rng(7).normal(size=shape)
        want = list(sample.ddim(model, T8, shape, None, x_T=x_T))
        got = list(panorama(model, T8, shape, window, None, None, overlap, x_T=x_T))
        assert np.allclose(got, want, rtol=0, atol=1e-12)


def check_windows(panorama):
    """The model sees the right windows in the right order; none is smaller than requested."""
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
    """Three windows of 2 x 2 correlated pixels side by side: steps are averaged where they meet."""
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
    model, times = correlated(T8, MIDDLE, COV), [8, 6, 3, 1, 0]
    run = lambda rng, x: panorama(model, T8, x.shape, (2, 2), rng, times, 0.5, 0.5, x)
    close(law(run, (2, 4, 1), white(8)), want, "three windows")


def check_panorama_clip(panorama):
    def run(model, rng, clip):
        return panorama(model, T8, X0.shape, (2, 2), rng, x_T=X0, eta=1.0, clip=clip)

    check_clip(run, HARD < 2)


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
        (check_windows, "product(*map(starts", "zip(*map(starts"),
        (check_panorama_law, "times, eta, x_T, clip)", "times, 0.0, x_T, clip)"),
        (check_panorama_clip, "x_T, clip)", "x_T)"),
    ):
        with np.errstate(all="ignore"):
            rejects(check, slip(edit.panorama, old, new))
