"""The metrics against closed forms, points on a line worked out by hand, and means over every way to split a small set in two.

Each test runs twice: with blocks of distances that hold everything, and with blocks of two rows.
"""

import math
from itertools import combinations

import numpy as np
import pytest
from test_sample import rejects

from tinydiff import metrics
from tinydiff.metrics import (
    coverage,
    density,
    frechet,
    kernel_distance,
    memorisation,
    nearest,
    out_of_range,
    palette,
    precision,
    recall,
    rmse,
    rmse_of_best,
    rmse_of_mean,
    silhouette_overlap,
)


@pytest.fixture(autouse=True, params=[256, 2], ids=["one block", "many blocks"])
def rows(request, monkeypatch):
    monkeypatch.setattr(metrics, "ROWS", request.param)


def features(rng, N, mean, root):
    """Make N rows whose mean is mean and whose covariance (divided by N - 1) is root root^T, both to rounding."""
    x = rng.standard_normal((N, len(mean)))
    white, _ = np.linalg.qr(x - x.mean(0))
    return mean + math.sqrt(N - 1) * white @ root.T


def splits(pool, N):
    """Go through every way to choose N rows of pool -> the chosen ones, the others."""
    for chosen in combinations(range(len(pool)), N):
        yield pool[list(chosen)], np.delete(pool, chosen, axis=0)


def column(*values):
    return np.array(values, dtype=np.float64)[:, None]


# --- the Frechet distance ---


def test_frechet_of_two_features(rng):
    """A 2 x 2 root has the trace sqrt(trace + 2 sqrt(det)), whether or not the covariances commute."""
    A, B = np.array([[1.0, 0.0], [0.7, 0.4]]), np.array([[0.5, -0.3], [0.2, 2.0]])
    S_r, S_f = A @ A.T, B @ B.T
    root = math.sqrt(np.trace(S_r @ S_f) + 2 * math.sqrt(np.linalg.det(S_r) * np.linalg.det(S_f)))
    want = 0.5**2 + 1.5**2 + np.trace(S_r) + np.trace(S_f) - 2 * root
    real, fake = features(rng, 9, np.array([1.0, 2.0]), A), features(rng, 6, np.array([1.5, 0.5]), B)
    assert math.isclose(frechet(real, fake), want, rel_tol=1e-12)
    assert math.isclose(frechet(fake, real), want, rel_tol=1e-12)


def test_frechet_of_many_features(rng):
    """Covariances with the same axes: each axis adds the squared difference of two standard deviations."""
    F = 40
    axes, _ = np.linalg.qr(rng.standard_normal((F, F)))
    a, b, gap = rng.uniform(0.1, 3, F), rng.uniform(0.1, 3, F), rng.standard_normal(F)
    real, fake = features(rng, 90, gap, axes * a), features(rng, 70, np.zeros(F), axes * b)
    want = (gap**2).sum() + ((a - b) ** 2).sum()
    assert math.isclose(frechet(real, fake), want, rel_tol=1e-12)


def test_frechet_by_its_definition(rng):
    """With roots taken by eigenvectors, as the formula is written, for covariances that do not commute."""

    def root(S):
        values, vectors = np.linalg.eigh(S)
        return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T

    real, fake = rng.standard_normal((30, 8)) @ rng.standard_normal((8, 8)), 1 + rng.standard_normal((25, 8)) @ rng.standard_normal((8, 8))
    S_r, S_f = np.cov(real.T), np.cov(fake.T)
    third = root(root(S_r) @ S_f @ root(S_r))
    want = ((real.mean(0) - fake.mean(0)) ** 2).sum() + np.trace(S_r + S_f - 2 * third)
    assert math.isclose(frechet(real, fake), want, rel_tol=1e-10)


def test_frechet_of_two_images_each():
    """Covariances u u^T and v v^T, without an inverse: the trace of the root is |u . v|."""
    real, fake = np.array([[1.0, 2, 0, -1, 3], [0, 4, 1, 1, 1]]), np.array([[2.0, 0, 0, 1, 5], [1, 1, 3, 0, 0]])
    u, v = (real[0] - real[1]) / math.sqrt(2), (fake[0] - fake[1]) / math.sqrt(2)
    gap = real.mean(0) - fake.mean(0)
    assert math.isclose(frechet(real, fake), gap @ gap + u @ u + v @ v - 2 * abs(u @ v), rel_tol=1e-13)


@pytest.mark.parametrize("N", [100, 20])  # more images than features, and fewer
def test_frechet_of_equal_sets_is_zero(rng, N):
    real = rng.standard_normal((N, 40)) @ rng.standard_normal((40, 40))
    spread = ((real - real.mean(0)) ** 2).sum() / (N - 1)
    assert 0 <= frechet(real, real[::-1]) <= 1e-13 * spread


# --- the kernel distance ---


def by_loops(real, fake):
    """The unbiased squared MMD, one pair at a time."""

    def kappa(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    def within(x):
        pairs = [kappa(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j]
        return sum(pairs) / len(pairs)

    return within(real) + within(fake) - 2 * sum(kappa(a, b) for a in real for b in fake) / (len(real) * len(fake))


def test_kernel_distance_by_its_definition(rng):
    real, fake = rng.standard_normal((5, 3)), 0.5 + 2 * rng.standard_normal((4, 3))
    assert math.isclose(kernel_distance(real, fake), by_loops(real, fake), rel_tol=1e-12)


def test_kernel_distance_is_unbiased(rng):
    """Over all ways to draw a few of each kind, the mean is the distance of the two whole kinds; over all splits of one kind, 0."""
    real, fake = rng.standard_normal((6, 2)), 0.5 + 2 * rng.standard_normal((5, 2))
    few = [kernel_distance(a, b) for a, _ in splits(real, 3) for b, _ in splits(fake, 2)]
    assert math.isclose(np.mean(few), by_loops(real, fake), rel_tol=1e-11)
    pool = np.concatenate([real, fake])[:8]
    halves = [kernel_distance(a, b) for a, b in splits(pool, 5)]
    assert abs(np.mean(halves)) <= 1e-12 * np.abs(halves).max()
    assert min(halves) < 0


# --- precision, recall, density, coverage ---

REAL = column(0, 1, 3, 7, 25)
FAKE = column(-2.5, 0.4, 2.4, 11.5, 40, 50)
# around the real points,  k = 1: [-1, 1] [0, 2] [1, 5] [3, 11] [7, 43]                        k = 2: [-3, 3] [-1, 3] [0, 6] [1, 13] [3, 47]
# around the fake points,  k = 1: [-5.4, .4] [-1.6, 2.4] [.4, 4.4] [2.4, 20.6] [30, 50] [40, 60]        k = 2: 40 - 28.5 = 11.5 to 68.5


@pytest.mark.parametrize(
    "score, k, want",
    [
        (precision, 1, 4 / 6),  # all but -2.5 and 50
        (precision, 2, 5 / 6),  # all but 50
        (recall, 1, 4 / 5),  # all but 25
        (recall, 2, 1),
        (density, 1, 5 / 6),  # 0 + 2 + 1 + 1 + 1 + 0 balls
        (density, 2, 11 / 12),  # 1 + 3 + 4 + 2 + 1 + 0 balls
        (coverage, 1, 4 / 5),  # nothing in [3, 11]
        (coverage, 2, 1),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_scores_on_a_line(score, k, want):
    assert math.isclose(score(REAL, FAKE, k), want, rel_tol=1e-15)
    far = np.float32(1000)  # in float32 the squares would differ by less than rounding
    assert math.isclose(score(far + REAL.astype(np.float32) / 8, far + FAKE.astype(np.float32) / 8, k), want, rel_tol=1e-15)


def test_a_ball_includes_its_edge():
    real, fake = column(0, 2, 7), column(-2)
    assert (precision(real, fake, 1), density(real, fake, 1), coverage(real, fake, 1)) == (1, 1, 1 / 3)
    assert recall(fake=real, real=fake, k=1) == 1


def test_scores_by_their_definitions(rng):
    """In three dimensions, one pair at a time, for every k; and with the k that each takes by itself."""
    real, fake = rng.standard_normal((9, 3)), 0.4 + 1.3 * rng.standard_normal((7, 3))

    def balls(centres, points, k):
        """-> table [i][j]: is point j in ball i?"""
        table = []
        for i, c in enumerate(centres):
            others = sorted(math.dist(c, other) for j, other in enumerate(centres) if j != i)
            table.append([math.dist(c, p) <= others[k - 1] for p in points])
        return np.array(table)

    def scores(k, k_fake):
        held, of_fake = balls(real, fake, k), balls(fake, real, k_fake)
        return held.any(0).mean(), of_fake.any(0).mean(), held.sum() / (k * 7), held.any(1).mean()

    for k in range(1, 9):
        k_fake = min(k, 6)
        got = precision(real, fake, k), recall(real, fake, k_fake), density(real, fake, k), coverage(real, fake, k)
        assert np.allclose(got, scores(k, k_fake), rtol=1e-14, atol=0), f"k = {k}"
    assert np.allclose((precision(real, fake), recall(real, fake)), scores(3, 3)[:2], rtol=1e-14, atol=0)
    assert np.allclose((density(real, fake), coverage(real, fake)), scores(5, 5)[2:], rtol=1e-14, atol=0)


@pytest.mark.parametrize("N, M", [(5, 3), (4, 4), (3, 5)])
def test_equal_distributions_have_density_1_and_the_coverage_that_the_docstring_gives(rng, N, M):
    """The mean over all splits of one set is the expectation for any two samples of one distribution."""
    pool = rng.standard_normal((N + M, 2))
    for k in range(1, N):
        p = math.prod((N - j) / (N + M - j) for j in range(1, k + 1))
        assert math.isclose(np.mean([density(a, b, k) for a, b in splits(pool, N)]), 1, rel_tol=1e-13)
        assert math.isclose(np.mean([coverage(a, b, k) for a, b in splits(pool, N)]), 1 - p, rel_tol=1e-13)


@pytest.mark.parametrize("score", [precision, density, coverage])
def test_k_must_leave_a_neighbour(score):
    for k in (0, 5, 6):
        with pytest.raises(ValueError, match=f"1 to 4 for a set of 5; got {k}"):
            score(REAL, FAKE, k)
    with pytest.raises(ValueError, match="1 to 5 for a set of 6; got 6"):
        recall(REAL, FAKE, 6)


# --- nearest neighbours ---


def test_nearest_by_its_definition(rng):
    images, among = rng.uniform(-1, 1, (5, 2, 3, 1)), rng.uniform(-1, 1, (7, 2, 3, 1))
    table = np.array([[math.dist(a.ravel(), b.ravel()) / math.sqrt(6) for b in among] for a in images])
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
    assert memorisation(fake, train, held_out) == 0.25
    assert memorisation(held_out, train, held_out) == 1
    assert memorisation(train, train, held_out) == 0


# --- images by themselves ---

COLOURS = np.array([[-0.5, 0.2, 0.2], [-0.5, 0.2, 0.5], [0.9, 0.2, 0.2], [-0.5, -0.1, 0.2]])  # some differ in one channel only


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
    assert palette(ramp * np.nan) == [1]  # and it comes to an end


def test_out_of_range():
    images = np.zeros((5, 2, 2, 1))
    images[:4, 1, 0, 0] = 1.02, -1.03, 1.005, np.nan
    assert [out_of_range(images, slack) for slack in (0, 0.01, 0.025, 0.05)] == [0.8, 0.6, 0.4, 0.2]
    assert out_of_range(images) == 0.6


# --- where the right image is known ---

GREY = np.array([0.0, 1.0, -1.0, 0.5]).reshape(1, 2, 2, 1)


def check_rmse(rmse):
    """On the scale 0 to 1: black against white is 1, and squares are averaged over all images before the root is taken."""
    assert rmse(GREY * 0 - 1, GREY * 0 + 1) == 1 and rmse(GREY, GREY) == 0
    assert math.isclose(rmse(GREY, 0 * GREY), math.sqrt((0 + 1 + 1 + 0.25) / 4) / 2, rel_tol=1e-15)
    two = np.concatenate([GREY, GREY])
    two[1] += 0.4
    assert math.isclose(rmse(two, GREY), math.sqrt(0.04 / 2), rel_tol=1e-14)


def check_of_mean(rmse_of_mean):
    """Samples that miss by opposite amounts have a perfect mean; three of four on one side leave half of the error."""
    truth, off = np.concatenate([GREY, -GREY]), 0.2 * np.array([1.0, 3.0]).reshape(2, 1, 1, 1)
    assert rmse_of_mean(np.stack([truth + off, truth - off]), truth) < 1e-15
    want = math.sqrt((0.1**2 + 0.3**2) / 2) / 2
    assert math.isclose(rmse_of_mean(np.stack([truth + off] * 3 + [truth - off]), truth), want, rel_tol=1e-12)


def check_of_best(rmse_of_best):
    """The best is another sample for each image, one sample for all its pixels."""
    truth, samples = np.zeros((2, 1, 2, 1)), np.zeros((3, 2, 1, 2, 1))
    samples[:, 0, 0, :, 0] = [0, 0.8], [0.4, -0.4], [0.6, 0.6]
    samples[:, 1, 0, :, 0] = [0.2, 0], [0.8, 0], [0, 0.6]
    assert math.isclose(rmse_of_best(samples, truth), math.sqrt((0.16 + 0.02) / 2) / 2, rel_tol=1e-12)
    assert math.isclose(rmse_of_best(samples[:1], truth), rmse(samples[0], truth), rel_tol=1e-12)


def check_overlap(silhouette_overlap):
    """Ink in 3 and 2 pixels, 2 of them shared; then in one image only; then no ink at all. One channel that differs is enough."""
    a, b = np.ones((3, 2, 2, 3)), np.ones((3, 2, 2, 3))
    a[0, 0, 0], a[0, 0, 1, 2], a[0, 1, 1] = -1, 0.7, 0.5
    b[0, 0, 1, 0], b[0, 1, 1, 1], b[0, 0, 0] = 0, -0.5, 0.9
    a[1, 0, 0] = 0
    for flip in (1, -1):
        assert math.isclose(silhouette_overlap(flip * a, flip * b, paper=flip), (2 / 3 + 0 + 1) / 3, rel_tol=1e-15)
    assert silhouette_overlap(a[:1], b[:1], threshold=0.4) == 1 / 3 and silhouette_overlap(a[:1], b[:1], threshold=0.05) == 1


@pytest.mark.parametrize(
    "check, right, wrong",
    [
        (
            check_rmse,
            rmse,
            [
                lambda a, b: 2 * rmse(a, b),  # on the images' own scale
                lambda a, b: float(np.mean([rmse(x, y) for x, y in zip(a, np.broadcast_to(b, a.shape), strict=True)])),  # mean of roots
                lambda a, b: float(np.abs(a - b).mean() / 2),
                lambda a, b: rmse(a, b) ** 2,
            ],
        ),
        (
            check_of_mean,
            rmse_of_mean,
            [
                lambda samples, truth: rmse(samples, truth),
                lambda samples, truth: rmse(np.median(samples, axis=0), truth),
                lambda samples, truth: float(np.mean([rmse(x, truth) for x in samples])),
            ],
        ),
        (
            check_of_best,
            rmse_of_best,
            [
                lambda samples, truth: min(rmse(x, truth) for x in samples),  # one sample for the whole set
                lambda samples, truth: float(np.sqrt(((samples - truth) ** 2).min(0).mean()) / 2),  # another one for each pixel
                lambda samples, truth: rmse(samples, truth),
            ],
        ),
        (
            check_overlap,
            silhouette_overlap,
            [
                lambda a, b, paper=1.0, threshold=0.2: silhouette_overlap(a, b, 1.0, threshold),
                lambda a, b, paper=1.0, threshold=0.2: silhouette_overlap(a.mean(-1, keepdims=True), b, paper, threshold),
                lambda a, b, paper=1.0, threshold=0.2: silhouette_overlap(a, b, paper),
                lambda a, b, paper=1.0, threshold=0.2: silhouette_overlap(a, b, paper, threshold / 2),
                lambda a, b, paper=1.0, threshold=0.2: float(np.mean(np.any(abs(a - paper) > 0.2, -1) == np.any(abs(b - paper) > 0.2, -1))),
            ],
        ),
    ],
    ids=["rmse", "of_mean", "of_best", "overlap"],
)
def test_against_the_truth(check, right, wrong):
    check(right)
    for slip in wrong:
        rejects(check, slip)
