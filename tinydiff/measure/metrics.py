"""How good are the samples? Numbers that compare drawn images with real ones, or need no others.

The first six compare features, one row of F values per image, made by a network that looks at what
the image shows; the others look at the images themselves. None is worth much alone: precision and
density ask whether the samples look real, recall and coverage whether everything real gets drawn,
nearest and memorisation whether the samples are new. The last four are for tasks where the right
image is known, such as drawing a subject in another style.
"""

import numpy as np

ROWS = 256  # of a table of distances, made at a time: the whole of 5000 x 5000 would take 200 MB
NUMBERS = 2**20  # of images in float64, at a time: 8 MB


def finite(x):
    """Refuse NaN and infinite values, which comparisons would turn into a plausible number.

    x: (...) -> x. Raises FloatingPointError where a value is not finite.
    """
    bad = np.size(x) - np.count_nonzero(np.isfinite(x))
    if bad:
        found = f"{bad} of {np.size(x)} values are NaN or infinite"
        raise FloatingPointError(f"{found}: nothing to measure")
    return x


def flat(x):
    """Make each image, or feature, one row of float64. (N, ...) -> (N, D)

    Raises FloatingPointError where a value is not finite.
    """
    return finite(np.asarray(x, dtype=np.float64)).reshape(len(x), -1)


def frechet(real, fake):
    """Fit a Gaussian to each set of features, and measure their squared Fréchet distance.

    |mean_r - mean_f|^2 + trace(S_r + S_f - 2 (S_r^(1/2) S_f S_r^(1/2))^(1/2))
    S the covariance, divided by N - 1 (or M - 1)
    real: (N, F); fake: (M, F), N, M >= 2 -> float >= 0. Few images make it too large: compare
    values only from equally many, and from more images than features.
    Source: Heusel et al. 2017 (FID), where the features come from an Inception network.
    """
    real, fake = flat(real), flat(fake)
    gap = real.mean(0) - fake.mean(0)
    # R with R^T R = S serves as the root of S: the trace of the third root is then the sum of the
    # singular values of R_r R_f^T, and no root of a rounding error is ever taken, as it is where
    # eigenvalues of S should be 0 (fewer images than features)
    R_r, R_f = (np.linalg.qr((x - x.mean(0)) / np.sqrt(len(x) - 1), mode="r") for x in (real, fake))
    overlap = np.linalg.svd(R_r @ R_f.T, compute_uv=False).sum()
    return max(float(gap @ gap + (R_r**2).sum() + (R_f**2).sum() - 2 * overlap), 0.0)


def kernel_distance(real, fake):
    """Measure how far apart two sets of features are by kernels: the unbiased squared MMD.

    The maximum mean discrepancy fits nothing to the sets:
    mean over i != j of kappa(real[i], real[j]) + the same of fake
    - 2 mean over all i, j of kappa(real[i], fake[j]),  kappa(a, b) = (a . b / F + 1)^3
    real: (N, F); fake: (M, F), N, M >= 2 -> float, 0 on average for equal distributions at any N
    and M, so at times below 0
    Source: Binkowski et al. 2018 (KID).
    """
    real, fake = flat(real), flat(fake)

    def total(a, b):
        blocks = (a[i : i + ROWS] @ b.T / a.shape[1] + 1 for i in range(0, len(a), ROWS))
        return sum((p * p * p).sum() for p in blocks)  # p ** 3 takes several times as long

    def within(x):
        diagonal = (((x * x).sum(1) / x.shape[1] + 1) ** 3).sum()
        # the pairs i = j would make equal distributions look apart
        return (total(x, x) - diagonal) / (len(x) * (len(x) - 1))

    return float(within(real) + within(fake) - 2 * total(real, fake) / (len(real) * len(fake)))


def energy(real, fake):
    """Measure how far apart two sets of features are by the distances between their rows.

    2 mean |real[i] - fake[j]| - mean over i != j of |real[i] - real[j]| - the same of fake
    real: (N, F); fake: (M, F), N, M >= 2 -> float, 0 on average for equal distributions at any N
    and M. It fits nothing and takes no powers, so that a dozen images tell something.
    Source: Szekely & Rizzo 2013.
    """
    real, fake = flat(real), flat(fake)
    total = lambda a, b: sum(np.sqrt(d2).sum() for _, d2 in _squared_distances(a, b))
    within = lambda x: total(x, x) / (len(x) * (len(x) - 1))
    return float(2 * total(real, fake) / (len(real) * len(fake)) - within(real) - within(fake))


def _squared_distances(a, b):
    """Go through the table of squared distances |a[i] - b[j]|^2, some rows at a time.

    a: (N, D); b: (M, D) -> yields i (n,), and these rows (n, M)
    """
    b2 = (b * b).sum(1)
    for first in range(0, len(a), ROWS):
        i = np.arange(first, min(first + ROWS, len(a)))
        d2 = -2 * a[i] @ b.T
        d2 += (a[i] ** 2).sum(1, keepdims=True)
        d2 += b2
        yield i, np.maximum(d2, 0, out=d2)  # rounding can leave a little below 0


def _balls(centres, points, k):
    """Count points in the ball around each centre, and balls around each point.

    A ball reaches up to, and includes, the k-th nearest other centre.
    centres: (N, F); points: (M, F) -> (N,), (M,) ints
    """
    centres, points = flat(centres), flat(points)
    if not 1 <= k < len(centres):
        possible = f"1 to {len(centres) - 1} for a set of {len(centres)}"
        raise ValueError(f"k counts neighbours: {possible}; got {k}")
    inside, around = np.zeros(len(centres), dtype=int), np.zeros(len(points), dtype=int)
    between = _squared_distances(centres, centres)
    to_points = _squared_distances(centres, points)
    for (i, own), (_, d2) in zip(between, to_points, strict=True):
        own[np.arange(len(i)), i] = np.inf  # a centre is not its own neighbour
        held = d2 <= np.partition(own, k - 1)[:, k - 1 : k]
        inside[i] = held.sum(1)
        around += held.sum(0)
    return inside, around


def precision(real, fake, k=3):
    """Count the samples that look real: fake features in the ball of at least one real feature.

    The ball of real[i] reaches up to, and includes, the k-th nearest other row of real.
    real: (N, F); fake: (M, F); k: 1 .. N - 1 -> share of fake, in [0, 1]
    Raises ValueError for another k. Source: Kynkaanniemi et al. 2019.
    """
    return float(np.mean(_balls(real, fake, k)[1] > 0))


def recall(real, fake, k=3):
    """Count the real images that could have been drawn: precision with the roles exchanged.

    The ball of fake[j] reaches up to, and includes, the k-th nearest other row of fake.
    real: (N, F); fake: (M, F); k: 1 .. M - 1 -> share in [0, 1] of real features that lie in the
    ball of at least one fake feature
    Raises ValueError for another k. Source: Kynkaanniemi et al. 2019.
    """
    return precision(fake, real, k)


def density(real, fake, k=5):
    """Count how many real balls hold a sample, on average.

    One outlier with its wide ball cannot raise this much, as it can raise precision.
    (1 / (k M)) sum_j (number of i whose ball holds fake[j]); the ball of real[i] is that of
    `precision`
    real: (N, F); fake: (M, F); k: 1 .. N - 1 -> float >= 0, not bounded by 1; for equal
    distributions exactly 1 on average
    Raises ValueError for another k. Source: Naeem et al. 2020.
    """
    return float(np.mean(_balls(real, fake, k)[1]) / k)


def coverage(real, fake, k=5):
    """Count the real images that have a sample close by: real balls that hold a fake feature.

    The ball of real[i] is that of `precision`. For equal distributions it is, on average, 1 - p,
    p = (N-1)/(N+M-1) (N-2)/(N+M-2) ... (N-k)/(N+M-k), the chance that the k nearest of all are real
    real: (N, F); fake: (M, F); k: 1 .. N - 1 -> share of real balls, in [0, 1]
    Raises ValueError for another k. Source: Naeem et al. 2020.
    """
    return float(np.mean(_balls(real, fake, k)[0] > 0))


def nearest(images, among, own=None, apart=0.0, tick=lambda n: None):
    """Find for each image the one that is most like it, pixel by pixel.

    index[i] = the j where distance(i, j) is least
    distance(i, j) = sqrt(mean over pixels and channels of (images[i] - among[j])^2)
    images: (N, ...); among: (M, ...), arrays or data.Pixels, of which few at a time are converted
    own: (N,) ints, for each image the one of among that it is not compared with, None = with all;
    apart: nor is it with those at a smaller distance; tick(n): called as n images are done
    -> distance (N,) to that image, in units of the images' scale, 0 for a copy; index (N,) ints
    Raises FloatingPointError where a value is not finite.
    """
    own = np.full(len(images), -1) if own is None else own
    distance, index = np.zeros(len(images)), np.zeros(len(images), dtype=int)
    for some, part in parts(images):
        x = flat(part)
        index[some] = _index_of_nearest(x, among, own[some], apart)
        # from the differences, so that a copy is at exactly 0
        distance[some] = np.sqrt(((x - flat(among[index[some]])) ** 2).mean(1))
        tick(len(part))
    return distance, index


def parts(images):
    """Go through images, NUMBERS values at a time. (M, ...) -> yields a slice, and its images"""
    rows = max(1, NUMBERS // max(1, int(np.prod(images.shape[1:]))))
    for first in range(0, len(images), rows):
        some = slice(first, min(first + rows, len(images)))
        yield some, images[some]


def _index_of_nearest(x, among, own, apart):
    """Do most of the work of `nearest`: x (N, D); own (N,) ints, -1 = none -> (N,) ints"""
    least, index = np.full(len(x), np.inf), np.zeros(len(x), dtype=int)
    for some, part in parts(among):
        for i, d2 in _squared_distances(x, flat(part)):
            row = np.flatnonzero((some.start <= own[i]) & (own[i] < some.stop))
            d2[row, own[i][row] - some.start] = np.inf
            if apart:
                d2[d2 < apart**2 * x.shape[1]] = np.inf
            j = d2.argmin(1)
            closest = d2[np.arange(len(i)), j]
            nearer = closest < least[i]
            least[i[nearer]], index[i[nearer]] = closest[nearer], some.start + j[nearer]
    return index


def memorisation(fake, train, held_out):
    """Measure whether samples lie closer to the training images than new real images do.

    median nearest(fake, train) / median nearest(held_out, train)
    fake: (N, ...); train, held_out: (M, ...), M differing -> ratio >= 0: near 0, copies; about 1,
    no closer than unseen real images
    A median hides copies that are fewer than half of the samples: look at the nearest pairs too.
    Smooth or average images are close to everything and score somewhat below 1, yet are not copies.
    """
    return float(np.median(nearest(fake, train)[0]) / np.median(nearest(held_out, train)[0]))


def palette(images, tolerance=0.1, share=0.95):
    """Count the colours of each image, forgiving noise: how many pixels can stand for most others?

    Choose the pixel that is like the most pixels not yet stood for (each channel within tolerance);
    repeat until share of all pixels are.
    images: (N, H, W, C); tolerance: in units of the images' scale; share: 0 .. 1 -> (N,) ints
    Noise of up to tolerance / 2 changes no count where colours differ by more than 2 tolerance in
    some channel. Rounding, then counting, has no such margin: noise splits a colour that lies near
    an edge, and a drawn image always has a little noise.
    Raises ValueError where a value is not finite.
    """
    colours = np.zeros(len(images), dtype=int)
    rows = finite(images).reshape(len(images), -1, images.shape[-1])
    for n, pixels in enumerate(rows):  # (L, C)
        like = (np.abs(pixels[:, None] - pixels) <= tolerance).all(-1)  # (L, L)
        done = np.zeros(len(pixels), dtype=bool)
        while done.mean() < share:
            done |= like[like[:, ~done].sum(1).argmax()]
            colours[n] += 1
    return colours


def out_of_range(images, slack=0.01):
    """Count the samples that left the scale: any value below -1 - slack, above 1 + slack, or NaN.

    images: (N, ...), as a sampler returns them, not yet cut off to [-1, 1] -> share in [0, 1]
    """
    rows = np.asarray(images, np.float64).reshape(len(images), -1)
    return float(np.mean(~(np.abs(rows).max(1) <= 1 + slack)))


def rmse(a, b):
    """Measure how far images are from what they should be: the root mean square error.

    It is a share of the scale from -1 to 1:
    sqrt(mean over images, pixels and channels of ((a - b) / 2)^2)
    a, b: (N, H, W, C) in [-1, 1], or shapes that broadcast
    -> float, 0 for copies, 1 for black against white
    """
    return float(np.sqrt(np.mean(((np.asarray(a, np.float64) - b) / 2) ** 2)))


def rmse_of_mean(samples, truth):
    """Average the samples of each image, then take the RMSE: chance is mostly averaged out.

    rmse(mean over i of samples[i], truth)
    Where several answers are right their mean has the least RMSE, though it is a blur.
    samples: (k, N, H, W, C), k for each image; truth: (N, H, W, C) -> float
    """
    return rmse(np.mean(samples, axis=0, dtype=np.float64), truth)


def rmse_of_best(samples, truth):
    """Take the sample of each image that is closest to the truth, then the RMSE: was it among them?

    sqrt(mean_n min_i mean over pixels and channels of ((samples[i, n] - truth[n]) / 2)^2)
    It falls with k: compare equal k only.
    samples: (k, N, H, W, C), k for each image; truth: (N, H, W, C) -> float
    """
    squares = ((np.asarray(samples, np.float64) - truth) / 2) ** 2
    return float(np.sqrt(squares.mean((2, 3, 4)).min(0).mean()))


def silhouette_overlap(a, b, paper=1.0, threshold=0.2):
    """Measure how far two images have their ink in the same places: intersection over union.

    A pixel is ink where some channel differs from paper by more than threshold.
    mean_n |ink_a and ink_b| / |ink_a or ink_b|, 1 where there is no ink
    a, b: (N, H, W, C); paper: the background's value, 1 = white, -1 = black; threshold: in units of
    the images' scale -> share in [0, 1]. Raises FloatingPointError where a value is not finite.
    """
    ink_a, ink_b = (np.any(np.abs(x - paper) > threshold, axis=-1) for x in (finite(a), finite(b)))
    shared = np.sum(ink_a & ink_b, axis=(1, 2))
    union = np.sum(ink_a | ink_b, axis=(1, 2))
    return float(np.mean(np.where(union > 0, shared / np.maximum(union, 1), 1.0)))
