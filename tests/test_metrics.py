"""The metrics against closed forms, points on a line worked out by hand, and means over splits.

The means are over every way to split a small set in two. Each test runs twice: with blocks of
distances that hold everything, and with blocks of two rows.
"""

import math
from itertools import combinations

import numpy as np
import pytest
from test_sample import rejects

from tinydiff.measure import metrics
from tinydiff.measure.metrics import (
    nearest,
    out_of_range,
    palette,
    rmse,
    rmse_of_best,
    rmse_of_mean,
    silhouette_overlap,
)


@pytest.fixture(autouse=True, params=[256, 2], ids=["one block", "many blocks"])
def rows(request, monkeypatch):
    monkeypatch.setattr(metrics, "ROWS", request.param)


def features(rng, N, mean, root):
    """Make N rows with this mean and the covariance root root^T (divided by N - 1), to rounding."""
    x = rng.standard_normal((N, len(mean)))
    white, _ = np.linalg.qr(x - x.mean(0))
    return mean + math.sqrt(N - 1) * white @ root.T


def splits(pool, N):
    """Go through every way to choose N rows of pool -> the chosen ones, the others."""
    for chosen in combinations(range(len(pool)), N):
        yield pool[list(chosen)], np.delete(pool, chosen, axis=0)


def column(*values):
    return np.array(values, dtype=np.float64)[:, None]


def said(came, want, what, rel_tol):
    why = f"{what}: expected one number, came an array of shape {np.shape(came)}"
    assert np.ndim(came) == 0, why
    why = f"{what}: expected {want:.9g}, came {came:.9g}"
    why += " (not a number: the root of less than 0, or 0 / 0?)" if math.isnan(came) else ""
    assert math.isclose(came, want, rel_tol=rel_tol, abs_tol=rel_tol), why


# --- the Frechet distance ---

asks_frechet = pytest.mark.exercise("metrics.frechet")


def two_features(rng):
    """Make two sets of two features each, and compute their distance.

    A 2 x 2 root has the trace sqrt(trace + 2 sqrt(det)).
    """
    A, B = np.array([[1.0, 0.0], [0.7, 0.4]]), np.array([[0.5, -0.3], [0.2, 2.0]])
    S_r, S_f = A @ A.T, B @ B.T
    root = math.sqrt(np.trace(S_r @ S_f) + 2 * math.sqrt(np.linalg.det(S_r) * np.linalg.det(S_f)))
    want = 0.5**2 + 1.5**2 + np.trace(S_r) + np.trace(S_f) - 2 * root
    real = features(rng, 9, np.array([1.0, 2.0]), A)
    return real, features(rng, 6, np.array([1.5, 0.5]), B), want


@asks_frechet
def test_frechet_of_one_feature():
    """The squared distance of the means, plus that of the standard deviations: 3^2 + (2 - 5)^2."""
    got = metrics.frechet(column(-2, 0, 2), column(-2, 3, 8))
    said(got, 3**2 + (2 - 5) ** 2, "features -2, 0, 2 against -2, 3, 8", 1e-9)


@asks_frechet
def test_frechet_of_two_features(rng):
    """Covariances that do not commute, and sets of 9 and 6."""
    real, fake, want = two_features(rng)
    said(metrics.frechet(real, fake), want, "two features, 9 against 6 images", 1e-9)
    what = "the same, real and fake exchanged: it must not matter"
    said(metrics.frechet(fake, real), want, what, 1e-9)


def test_frechet_to_rounding(rng):
    real, fake, want = two_features(rng)
    assert math.isclose(metrics.frechet(real, fake), want, rel_tol=1e-12)


@asks_frechet
def test_frechet_of_many_features(rng):
    """Covariances with the same axes: each adds a squared difference of standard deviations."""
    F = 40
    axes, _ = np.linalg.qr(rng.standard_normal((F, F)))
    a, b, gap = rng.uniform(0.1, 3, F), rng.uniform(0.1, 3, F), rng.standard_normal(F)
    real, fake = features(rng, 90, gap, axes * a), features(rng, 70, np.zeros(F), axes * b)
    want = (gap**2).sum() + ((a - b) ** 2).sum()
    what = "40 features whose covariances have the same axes"
    said(metrics.frechet(real, fake), want, what, 1e-9)


def test_frechet_by_its_definition(rng):
    """With roots by eigenvectors, as the formula is written; the covariances do not commute."""

    def root(S):
        values, vectors = np.linalg.eigh(S)
        return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T

    real = rng.standard_normal((30, 8)) @ rng.standard_normal((8, 8))
    fake = 1 + rng.standard_normal((25, 8)) @ rng.standard_normal((8, 8))
    S_r, S_f = np.cov(real.T), np.cov(fake.T)
    third = root(root(S_r) @ S_f @ root(S_r))
    want = ((real.mean(0) - fake.mean(0)) ** 2).sum() + np.trace(S_r + S_f - 2 * third)
    assert math.isclose(metrics.frechet(real, fake), want, rel_tol=1e-10)


TWO_EACH = (
    np.array([[1.0, 2, 0, -1, 3], [0, 4, 1, 1, 1]]),
    np.array([[2.0, 0, 0, 1, 5], [1, 1, 3, 0, 0]]),
)


def of_two_each():
    """Covariances u u^T and v v^T, without an inverse: the trace of the root is |u . v|."""
    real, fake = TWO_EACH
    u, v = (real[0] - real[1]) / math.sqrt(2), (fake[0] - fake[1]) / math.sqrt(2)
    gap = real.mean(0) - fake.mean(0)
    return gap @ gap + u @ u + v @ v - 2 * abs(u @ v)


@asks_frechet
def test_frechet_with_fewer_images_than_features():
    """Some eigenvalues are 0, and rounding makes them a little less: their root must not be NaN."""
    what = "five features, two images each, where eigenvalues that should be 0 may come out below"
    said(metrics.frechet(*TWO_EACH), of_two_each(), what, 1e-5)


def test_frechet_of_two_images_each_to_rounding():
    assert math.isclose(metrics.frechet(*TWO_EACH), of_two_each(), rel_tol=1e-13)


@asks_frechet
@pytest.mark.parametrize("N", [100, 20])  # more images than features, and fewer
def test_frechet_of_equal_sets_is_zero(rng, N):
    """Never a little below it, as rounding would have it half of the time."""
    for _ in range(8):
        real = rng.standard_normal((N, 40)) @ rng.standard_normal((40, 40))
        spread = ((real - real.mean(0)) ** 2).sum() / (N - 1)
        got = metrics.frechet(real, real[::-1])
        came = "a little less" if got < 0 else f"{got:.3g}"
        why = f"a set of {N} against itself, in another order: expected 0, came {came}"
        assert 0 <= got <= 1e-5 * spread, why


@pytest.mark.parametrize("N", [100, 20])
def test_frechet_of_equal_sets_is_zero_to_rounding(rng, N):
    real = rng.standard_normal((N, 40)) @ rng.standard_normal((40, 40))
    spread = ((real - real.mean(0)) ** 2).sum() / (N - 1)
    assert metrics.frechet(real, real[::-1]) <= 1e-13 * spread


# --- the kernel distance ---

asks_kernel = pytest.mark.exercise("metrics.kernel_distance")


# rows of two sets, one of them twice in each
FIVE = np.array([[1.0, 0, 2], [0, -1, 1], [1, 0, 2], [2, 1, 0], [-1, 1, 1]])
FOUR = np.array([[0.0, 2, 1], [1, 1, -2], [0, 2, 1], [3, 0, 1]])
# (how many rows of FIVE, of FOUR, how many features): the distance, summed up in exact fractions
DISTANCES = {
    (5, 4, 3): -236 / 81,
    (3, 4, 2): 113 / 24,
    (4, 2, 1): -1 / 6,
    (2, 3, 3): 25 / 3,
}


@asks_kernel
@pytest.mark.parametrize("N, M, F", DISTANCES)
def test_kernel_distance_in_exact_fractions(N, M, F):
    got = metrics.kernel_distance(FIVE[:N, :F].copy(), FOUR[:M, :F].copy())
    what = f"{F} features, {N} against {M} images, of which two may be equal"
    said(got, DISTANCES[N, M, F], what, 1e-9)


@asks_kernel
def test_kernel_distance_of_two_images_each():
    """One feature: kappa(1, 2) = 27, kappa(0, -1) = 1, and across 1, 1, 0 and -1."""
    got = metrics.kernel_distance(column(1, 2), column(0, -1))
    said(got, 27 + 1 - 2 * (1 + 0 + 1 - 1) / 4, "features 1, 2 against 0, -1", 1e-9)


@asks_kernel
def test_kernel_distance_of_a_set_to_itself():
    """Across all pairs count, those of an image with itself too: the same array, or a copy."""
    five = FIVE.copy()
    for other, which in ((five, "the same array twice"), (FIVE.copy(), "an array and its copy")):
        said(metrics.kernel_distance(five, other), -857 / 225, which, 1e-9)


@asks_kernel
def test_kernel_distance_is_unbiased(rng):
    """The mean over all ways to draw a few is the distance of all; over splits it is 0."""
    real, fake = rng.standard_normal((6, 2)), 0.5 + 2 * rng.standard_normal((5, 2))
    few = [metrics.kernel_distance(a, b) for a, _ in splits(real, 3) for b, _ in splits(fake, 2)]
    what = "the mean over all ways to draw 3 of 6 and 2 of 5, beside the distance of 6 and 5"
    said(np.mean(few), metrics.kernel_distance(real, fake), what, 1e-9)
    pool = np.concatenate([real, fake])[:8]
    halves = [metrics.kernel_distance(a, b) for a, b in splits(pool, 5)]
    why = f"the mean over all splits of one set: expected 0, came {np.mean(halves)}"
    assert abs(np.mean(halves)) <= 1e-10 * np.abs(halves).max(), why
    assert min(halves) < 0, "equal distributions: some splits must come out below 0"


# --- precision, recall, density, coverage ---

ASKED = ("precision", "coverage")
asks = {name: pytest.mark.exercise(f"metrics.{name}") for name in ASKED}
REAL = column(0, 1, 3, 7, 25)
FAKE = column(-2.5, 0.4, 2.4, 11.5, 40, 50)
# balls around the real points, k = 1: [-1, 1] [0, 2] [1, 5] [3, 11] [7, 43]
#                               k = 2: [-3, 3] [-1, 3] [0, 6] [1, 13] [3, 47]
# around the fake points, k = 1: [-5.4, .4] [-1.6, 2.4] [.4, 4.4] [2.4, 20.6] [30, 50] [40, 60]
#                         k = 2: 40 - 28.5 = 11.5 to 68.5
ON_A_LINE = {
    "precision": {1: 4 / 6, 2: 5 / 6},  # all but -2.5 and 50; all but 50
    "recall": {1: 4 / 5, 2: 1},  # all but 25
    "density": {1: 5 / 6, 2: 11 / 12},  # 0 + 2 + 1 + 1 + 1 + 0 balls, then 1 + 3 + 4 + 2 + 1 + 0
    "coverage": {1: 4 / 5, 2: 1},  # nothing in [3, 11]
}


def each_of(names):
    """Run a test once per score, with the mark of its exercise."""
    params = [pytest.param(n, marks=[asks[n]] if n in asks else []) for n in names]
    return pytest.mark.parametrize("name", params)


# whole numbers, with equal rows and equal distances: the edges of balls are met
NINE = [[1, 0, -2], [-3, 1, 1], [3, 0, -3], [-1, 2, -4], [-3, 1, 1]]
NINE = np.array([*NINE, [-3, 3, 1], [-2, 2, 0], [-3, -3, 1], [1, -4, -4]], float)
EIGHT = [[5, 2, -4], [-4, 0, 6], [2, -2, 2], [3, 0, -3], [4, 7, 1], [-4, 0, 6], [-2, 2, 5]]
EIGHT = np.array([*EIGHT, [3, 1, -1]], float)
COUNTS = {  # for k = 1, 2, ..., counted with squared distances, which are whole numbers
    "precision": [2, 3, 4, 5, 7, 7, 7, 8],  # of EIGHT
    "recall": [2, 3, 9, 9, 9, 9, 9],  # of NINE
    "density": [3, 6, 9, 13, 20, 29, 41, 47],  # places in a ball of NINE, to be divided by 8 k
    "coverage": [2, 3, 5, 6, 8, 9, 9, 9],  # of NINE
}


def share(name, k):
    """Make a share of what COUNTS holds."""
    return COUNTS[name][k - 1] / {"precision": 8, "density": 8 * k}.get(name, 9)


@each_of(ON_A_LINE)
def test_scores_of_whole_numbers(name):
    """In three dimensions, for every k; and with each score's default k."""
    score, most, real, fake = getattr(metrics, name), len(COUNTS[name]), NINE.copy(), EIGHT.copy()
    came = {k: score(real, fake, k) for k in range(7, 0, -1)}
    for k in range(1, most + 1):
        value = came[k] if k in came else score(real, fake, k)
        said(value, share(name, k), f"9 real, 8 fake, three features, k = {k}", 1e-12)
    own = 3 if name in ("precision", "recall") else 5
    said(score(real, fake), share(name, own), f"k not given: it is {own}", 1e-12)


TWICE = column(0, 0, 10, 13), column(1, 11, 11)  # radii of the first: 0, 0, 3, 3
OF_TWICE = {"precision": 2 / 3, "recall": 3 / 4, "density": 4 / 3, "coverage": 2 / 4}


@each_of(OF_TWICE)
def test_equal_rows_are_each_others_neighbours(name):
    """The ball of a row that is there twice has the radius 0; each of them counts."""
    what = "real 0, 0, 10, 13, fake 1, 11, 11, k = 1"
    said(getattr(metrics, name)(*TWICE, 1), OF_TWICE[name], what, 1e-12)


@each_of(ON_A_LINE)
def test_scores_on_a_line(name):
    score = getattr(metrics, name)
    came = {k: score(REAL, FAKE, k) for k in (2, 1)}
    for k, want in ON_A_LINE[name].items():
        said(came[k], want, f"real {REAL.ravel()}, fake {FAKE.ravel()}, k = {k}", 1e-12)


@each_of(ON_A_LINE)
def test_scores_far_from_zero(name):
    """In float32 the squares of such features would differ by less than rounding."""
    real, fake = (np.float32(1000) + x.astype(np.float32) / 8 for x in (REAL, FAKE))
    score = getattr(metrics, name)
    for k, want in ON_A_LINE[name].items():
        said(score(real, fake, k), want, f"float32 features near 1000, k = {k}", 1e-12)


EDGE = column(0, 2, 7), column(-2, 3, 20, 30)  # the ball of 0 ends at -2 and 2
ON_THE_EDGE = {"precision": 2 / 4, "density": 3 / 4, "coverage": 1}


@each_of(ON_THE_EDGE)
def test_a_ball_includes_its_edge(name):
    what = "real 0, 2, 7, fake -2, 3, 20, 30, k = 1: the ball of 0 ends at -2"
    said(getattr(metrics, name)(*EDGE, 1), ON_THE_EDGE[name], what, 1e-12)


OUTSIDE = EDGE[0], EDGE[1] - 1e-6 * np.array([[1], [0], [0], [0]])
BEYOND = {"precision": 1 / 4, "density": 2 / 4, "coverage": 2 / 3}


@each_of(BEYOND)
def test_a_ball_ends_at_its_edge(name):
    what = "real 0, 2, 7, fake -2.000001, 3, 20, 30, k = 1: the ball of 0 ends at -2"
    said(getattr(metrics, name)(*OUTSIDE, 1), BEYOND[name], what, 1e-12)


def test_a_ball_of_recall_includes_its_edge():
    what = "real -2, 3, 20, 30, fake 0, 2, 7, k = 1: the ball of 0 reaches up to -2"
    said(metrics.recall(EDGE[1], EDGE[0], 1), 2 / 4, what, 1e-12)


@pytest.mark.parametrize("N, M", [(5, 3), (4, 4), (3, 5)])
def test_equal_distributions_have_density_1_and_the_coverage_that_the_docstring_gives(rng, N, M):
    """The mean over all splits of one set is the expectation for two samples of a distribution."""
    pool = rng.standard_normal((N + M, 2))
    for k in range(1, N):
        p = math.prod((N - j) / (N + M - j) for j in range(1, k + 1))
        dense = [metrics.density(a, b, k) for a, b in splits(pool, N)]
        assert math.isclose(np.mean(dense), 1, rel_tol=1e-13)
        covered = [metrics.coverage(a, b, k) for a, b in splits(pool, N)]
        assert math.isclose(np.mean(covered), 1 - p, rel_tol=1e-13)


@each_of(["precision", "density", "coverage"])
def test_k_must_leave_a_neighbour(name):
    score, allowed = getattr(metrics, name), "1 to 4 for a set of 5"
    for k in (0, 5, 6, -1):
        try:
            came = score(REAL, FAKE, k)
        except ValueError:
            continue
        raise AssertionError(f"k = {k} ({allowed}): expected a ValueError, came {came}")


@pytest.mark.parametrize("score", [metrics.precision, metrics.density, metrics.coverage])
def test_a_k_that_leaves_no_neighbour_is_named(score):
    for k in (0, 5, 6):
        with pytest.raises(ValueError, match=f"1 to 4 for a set of 5; got {k}"):
            score(REAL, FAKE, k)
    with pytest.raises(ValueError, match="1 to 5 for a set of 6; got 6"):
        metrics.recall(REAL, FAKE, 6)


# --- nearest neighbours ---


def test_nearest_by_its_definition(rng):
    images, among = rng.uniform(-1, 1, (5, 2, 3, 1)), rng.uniform(-1, 1, (7, 2, 3, 1))
    apart = lambda a, b: math.dist(a.ravel(), b.ravel()) / math.sqrt(6)
    table = np.array([[apart(a, b) for b in among] for a in images])
    distance, index = nearest(images, among)
    assert np.array_equal(index, table.argmin(1))
    assert np.allclose(distance, table.min(1), rtol=1e-13, atol=0)


def test_nearest_finds_a_copy_at_exactly_zero(rng):
    among = rng.uniform(-1, 1, (50, 4, 4, 3)).astype(np.float32)
    order = rng.permutation(50)
    distance, index = nearest(among[order], among)
    assert np.all(distance == 0) and np.array_equal(index, order)


def test_memorisation():
    train, held_out = column(0, 1), column(1.5, -0.5, -0.25)
    fake = column(0.125, 0.5, 0.875)  # 1/8, 1/2 and 1/8 away; the held-out images 1/2, 1/2 and 1/4
    what = "fake 1/8, 1/2 and 1/8 from training images, unseen ones 1/2, 1/2, 1/4"
    said(metrics.memorisation(fake, train, held_out), 0.25, what, 1e-12)
    what = "the unseen images themselves in the samples' place"
    said(metrics.memorisation(held_out, train, held_out), 1, what, 1e-12)
    said(metrics.memorisation(train, train, held_out), 0, "copies of the training images", 1e-12)


def test_memorisation_of_images(rng):
    """Distances are taken over all pixels and channels, and the sets differ in size."""
    train, held_out, fake = (rng.uniform(-1, 1, (n, 2, 3, 2)).astype(np.float32) for n in (7, 4, 6))
    closest = lambda a: min(math.dist(a.ravel(), b.ravel()) for b in train)
    of_fake, of_held_out = sorted(map(closest, fake)), sorted(map(closest, held_out))
    want = (of_fake[2] + of_fake[3]) / (of_held_out[1] + of_held_out[2])
    what = "6 samples, 7 training and 4 unseen images of 2 x 3 x 2"
    said(metrics.memorisation(fake, train, held_out), want, what, 1e-5)


# --- images by themselves ---

# some differ in one channel only
COLOURS = np.array([[-0.5, 0.2, 0.2], [-0.5, 0.2, 0.5], [0.9, 0.2, 0.2], [-0.5, -0.1, 0.2]])


def test_palette_counts_colours_under_noise(rng):
    image = COLOURS[rng.permutation(np.repeat([0, 1, 2, 3], [20, 16, 16, 12]))].reshape(8, 8, 3)
    noisy = image + rng.uniform(-0.06, 0.06, (5, 8, 8, 3))
    assert palette(image[None], tolerance=0.12).tolist() == [4]
    assert palette(noisy, tolerance=0.12).tolist() == [4] * 5
    assert palette(np.stack([image, np.full_like(image, 0.3)])).tolist() == [4, 1]


def test_palette_leaves_out_what_is_rare():
    image = COLOURS[[0] * 12 + [1] * 6 + [2, 3]].reshape(1, 4, 5, 3)
    found = {share: palette(image, share=share)[0] for share in (0.6, 0.61, 0.9, 0.95, 0.96, 1.0)}
    assert found == {0.6: 1, 0.61: 2, 0.9: 2, 0.95: 3, 0.96: 4, 1.0: 4}
    assert palette(image) == [3]


def test_palette_chooses_the_colour_that_stands_for_most():
    ramp = np.array([0, 0.125, 0.25]).reshape(1, 1, 3, 1)
    assert palette(ramp, tolerance=0.125, share=1) == [1]
    assert palette(ramp, tolerance=0.12, share=1) == [3]


def test_out_of_range():
    images = np.zeros((5, 2, 2, 1))
    images[:4, 1, 0, 0] = 1.02, -1.03, 1.005, np.nan
    assert [out_of_range(images, slack) for slack in (0, 0.01, 0.025, 0.05)] == [0.8, 0.6, 0.4, 0.2]
    assert out_of_range(images) == 0.6


# --- where the right image is known ---

GREY = np.array([0.0, 1.0, -1.0, 0.5]).reshape(1, 2, 2, 1)


def check_rmse(rmse):
    """On the scale 0 to 1 black against white is 1; the root is of the mean over all images."""
    assert rmse(GREY * 0 - 1, GREY * 0 + 1) == 1 and rmse(GREY, GREY) == 0
    assert math.isclose(rmse(GREY, 0 * GREY), math.sqrt((0 + 1 + 1 + 0.25) / 4) / 2, rel_tol=1e-15)
    two = np.concatenate([GREY, GREY])
    two[1] += 0.4
    assert math.isclose(rmse(two, GREY), math.sqrt(0.04 / 2), rel_tol=1e-14)


def check_of_mean(rmse_of_mean):
    """Samples that miss by opposite amounts have a perfect mean; three of four leave half."""
    truth, off = np.concatenate([GREY, -GREY]), 0.2 * np.array([1.0, 3.0]).reshape(2, 1, 1, 1)
    samples = np.stack([truth + off, truth - 0.5 * off, truth + 4 * off]).astype(np.float32)
    want = 1.5 * math.sqrt((0.2**2 + 0.6**2) / 2) / 2
    got = rmse_of_mean(samples, truth)
    why = f"samples off by 1, -1/2 and 4 times something: expected {want:.6f}, came {got:.6f}"
    assert math.isclose(got, want, rel_tol=1e-6), why
    got = rmse_of_mean(np.stack([truth + off, truth - off]), truth)
    assert got < 1e-15, f"two samples that miss by + and - the same: expected 0, came {got:.4g}"
    want = math.sqrt((0.1**2 + 0.3**2) / 2) / 2
    got = rmse_of_mean(np.stack([truth + off] * 3 + [truth - off]), truth)
    why = f"three samples on one side, one on the other: expected {want:.6f}, came {got:.6f}"
    assert math.isclose(got, want, rel_tol=1e-12), why


def check_of_best(rmse_of_best):
    """The best is another sample for each image, one sample for all its pixels."""
    truth, samples = np.zeros((2, 1, 2, 1)), np.zeros((3, 2, 1, 2, 1))
    samples[:, 0, 0, :, 0] = [0, 0.8], [0.4, -0.4], [0.6, 0.6]
    samples[:, 1, 0, :, 0] = [0.2, 0], [0.8, 0], [0, 0.6]
    want = math.sqrt((0.16 + 0.02) / 2) / 2
    assert math.isclose(rmse_of_best(samples, truth), want, rel_tol=1e-12)
    assert math.isclose(rmse_of_best(samples[:1], truth), rmse(samples[0], truth), rel_tol=1e-12)


def check_overlap(silhouette_overlap):
    """Ink in 3 and 2 pixels, 2 of them shared; then in one image only; then no ink at all.

    One channel that differs is enough.
    """
    a, b = np.ones((3, 2, 2, 3)), np.ones((3, 2, 2, 3))
    a[0, 0, 0], a[0, 0, 1, 2], a[0, 1, 1] = -1, 0.7, 0.5
    b[0, 0, 1, 0], b[0, 1, 1, 1], b[0, 0, 0] = 0, -0.5, 0.9
    a[1, 0, 0] = 0
    for flip in (1, -1):
        got = silhouette_overlap(flip * a, flip * b, paper=flip)
        paper = "white" if flip == 1 else "black"
        why = f"three images on {paper} paper: expected (2/3 + 0 + 1) / 3, came {got:.4f}"
        why += " (not a number: 0 / 0, where neither image has ink?)" if math.isnan(got) else ""
        assert math.isclose(got, (2 / 3 + 0 + 1) / 3, rel_tol=1e-15), why
    for threshold, want in ((0.4, 1 / 3), (0.5, 0), (0.05, 1)):
        got = silhouette_overlap(a[:1], b[:1], threshold=threshold)
        why = f"the first image with threshold {threshold}: expected {want:.4f}, came {got:.4f}"
        assert got == want, why


def test_rmse_of_mean():
    check_of_mean(metrics.rmse_of_mean)


@pytest.mark.exercise("metrics.silhouette_overlap")
def test_silhouette_overlap():
    check_overlap(metrics.silhouette_overlap)


def mean_of_roots(a, b):
    return float(np.mean([rmse(x, y) for x, y in zip(a, np.broadcast_to(b, a.shape), strict=True)]))


def mean_of_errors(samples, truth):
    return float(np.mean([rmse(x, truth) for x in samples]))


def best_of_all(samples, truth):
    """Take one sample for the whole set."""
    return min(rmse(x, truth) for x in samples)


def best_of_each_pixel(samples, truth):
    return float(np.sqrt(((samples - truth) ** 2).min(0).mean()) / 2)


def always_white(a, b, paper=1.0, threshold=0.2):
    return silhouette_overlap(a, b, 1.0, threshold)


def of_the_grey_image(a, b, paper=1.0, threshold=0.2):
    return silhouette_overlap(a.mean(-1, keepdims=True), b, paper, threshold)


def always_the_same_threshold(a, b, paper=1.0, threshold=0.2):
    return silhouette_overlap(a, b, paper)


def half_the_threshold(a, b, paper=1.0, threshold=0.2):
    return silhouette_overlap(a, b, paper, threshold / 2)


def pixels_that_agree(a, b, paper=1.0, threshold=0.2):
    ink_a, ink_b = (np.any(abs(x - paper) > 0.2, -1) for x in (a, b))
    return float(np.mean(ink_a == ink_b))


def test_errata_rmse():
    """Errors on the images' own scale; the mean of roots; absolute values; no root."""
    check_rmse(rmse)
    rejects(check_rmse, lambda a, b: 2 * rmse(a, b))
    rejects(check_rmse, mean_of_roots)
    rejects(check_rmse, lambda a, b: float(np.abs(a - b).mean() / 2))
    rejects(check_rmse, lambda a, b: rmse(a, b) ** 2)


def test_errata_rmse_of_mean():
    rejects(check_of_mean, rmse)
    rejects(check_of_mean, lambda samples, truth: rmse(np.median(samples, axis=0), truth))
    rejects(check_of_mean, mean_of_errors)


def test_rmse_of_best_and_its_errata():
    check_of_best(rmse_of_best)
    for slip in (best_of_all, best_of_each_pixel, rmse):
        rejects(check_of_best, slip)


def test_errata_silhouette_overlap():
    rejects(check_overlap, always_white)
    rejects(check_overlap, of_the_grey_image)
    rejects(check_overlap, always_the_same_threshold)
    rejects(check_overlap, half_the_threshold)
    rejects(check_overlap, pixels_that_agree)


# --- NaN, which no metric may hide ---

BROKEN = [np.nan, np.inf, -np.inf]
COMPARED = [
    metrics.frechet,
    metrics.kernel_distance,
    metrics.precision,
    metrics.recall,
    metrics.density,
    metrics.coverage,
]


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("metric", COMPARED, ids=lambda f: f.__name__)
def test_features_that_are_not_finite_are_refused(rng, metric, value):
    """One broken row would leave the scores of all others as they are; a NaN is in no ball."""
    real, fake = rng.standard_normal((9, 3)), rng.standard_normal((8, 3))
    assert np.isfinite(metric(real, fake))
    for k in (0, 1):
        sets = [real.copy(), fake.copy()]
        sets[k][2, 1] = value
        with pytest.raises(FloatingPointError, match="^1 of 2[47] values are NaN or infinite"):
            metric(*sets)
        sets[k][:] = np.nan
        with pytest.raises(
            FloatingPointError, match="^(24 of 24|27 of 27) values are NaN or infinite"
        ):
            metric(*sets)


@pytest.mark.parametrize("value", BROKEN)
def test_images_that_are_not_finite_are_refused(rng, value):
    """Else NaN would have one colour, no ink, and the training image at index 0 as its nearest."""
    whole = rng.uniform(-1, 1, (6, 4, 4, 3)).astype(np.float32)
    broken = whole.copy()
    broken[5, 3, 2, 1] = value
    for measure in (
        lambda: palette(broken),
        lambda: nearest(broken, whole),
        lambda: nearest(whole, broken),
        lambda: metrics.memorisation(broken, whole, whole),
        lambda: metrics.memorisation(whole, broken, whole),
        lambda: metrics.memorisation(whole, whole, broken),
        lambda: silhouette_overlap(broken, whole),
        lambda: silhouette_overlap(whole, broken),
    ):
        with pytest.raises(FloatingPointError, match="^1 of 288 values are NaN or infinite"):
            measure()
    assert out_of_range(broken) == 1 / 6  # it counts what left the scale, and NaN has


def test_errors_of_nan_are_nan(rng):
    truth = rng.uniform(-1, 1, (3, 2, 2, 1))
    samples = np.stack([truth, truth])
    samples[1, 2, 0, 0] = np.nan
    for measure in (rmse, rmse_of_mean, rmse_of_best):
        assert np.isnan(measure(samples, truth))
