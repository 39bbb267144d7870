"""Wrong answers to lesson 11: how students miss what a metric measures.

What a mutant is: 01_forward.py.
"""

OVERLAP = "np.linalg.svd(R_r @ R_f.T, compute_uv=False).sum()"
ENTRIES = "np.sqrt(np.abs(np.diag(R_r.T @ R_r @ R_f.T @ R_f))).sum()"
UNCUT = (
    "(lambda root: np.sqrt(np.linalg.eigvalsh(root @ R_f.T @ R_f @ root)).sum())"
    "((lambda v, q: q * np.sqrt(v.clip(0)) @ q.T)(*np.linalg.eigh(R_r.T @ R_r)))"
)
SCORE = "gap @ gap + (R_r**2).sum() + (R_f**2).sum() - 2 * overlap"
PAIRS = "(total(x, x) - diagonal) / (len(x) * (len(x) - 1))"
KERNEL = """\
        blocks = (a[i : i + ROWS] @ b.T / a.shape[1] + 1 for i in range(0, len(a), ROWS))
        return sum((p * p * p).sum() for p in blocks)  # p ** 3 takes several times as long

    def within(x):
        diagonal = (((x * x).sum(1) / x.shape[1] + 1) ** 3).sum()"""
OTHER_ROWS = (
    "(lambda d, own: np.mean((d <= np.sort(np.where(own > 0, own, np.inf))[:, k - 1, None])"
    ".any({axis})))(*(np.linalg.norm(flat(real)[:, None] - flat(x), axis=2) for x in (fake, real)))"
)
BY_VALUE = (
    "(lambda p, other: p[other].mean())((x @ x.T / x.shape[1] + 1) ** 3, (x[:, None] != x).any(2))"
)
IN_BALL = "_balls(real, fake, k)[1] > 0"
HOLDS = "_balls(real, fake, k)[0] > 0"
TABLES = (
    "(lambda d, own: np.mean((d {less} np.sort(own)[:, {nth}, None]).any({axis})))"
    "(*(np.linalg.norm(flat(real)[:, None] - flat(x), axis=2) for x in (fake, real)))"
)

MUTANTS = {
    "metrics.frechet": [
        (
            "np.sqrt(len(x) - 1)",
            "np.sqrt(len(x))",
            "you divided the covariances by N; they are divided by N - 1, as the mean was taken "
            "from the same images",
        ),
        ("gap @ gap +", "np.sqrt(gap @ gap) +", "the distance of the means enters squared"),
        (
            "- 2 * overlap",
            "- overlap",
            "the root of the product is taken off twice, as in (a - b)^2 = a^2 + b^2 - 2 a b",
        ),
        (
            OVERLAP,
            ENTRIES,
            "np.sqrt takes the root of each entry; the root of a matrix is that which gives the "
            "matrix when multiplied by itself",
        ),
        (
            OVERLAP,
            UNCUT,
            "np.sqrt of a number below 0 is nan: by rounding, eigenvalues that should be 0 are a "
            "little below it, so cut them off first (and no entry of S is rooted by itself)",
        ),
        (
            f"max(float({SCORE}), 0.0)",
            f"float(np.sqrt({SCORE}))",
            "you took the root at the end: the squared distance is asked for",
        ),
        (
            "(x - x.mean(0))",
            "x",
            "your covariances are taken around 0; they are taken around the mean",
        ),
        (
            OVERLAP,
            "np.sqrt(np.trace(R_r.T @ R_r @ R_f.T @ R_f))",
            "you took the trace first and then its root: first the root, then the trace",
        ),
        (
            f"max(float({SCORE}), 0.0)",
            f"float({SCORE})",
            "a distance is never below 0, and rounding can leave a little less: cut it off there",
        ),
    ],
    "metrics.kernel_distance": [
        (
            PAIRS,
            "total(x, x) / len(x) ** 2",
            "you let each image count as its own neighbour (i = j): that makes equal distributions "
            "look apart",
        ),
        (
            PAIRS,
            "(total(x, x) - diagonal) / len(x) ** 2",
            "you left out the pairs i = j and still divided by N^2: N (N - 1) are left",
        ),
        ("- 2 * total(", "- total(", "the mean over pairs of both sets is taken off twice"),
        (
            "total(real, fake) / (len(real) * len(fake))",
            "(total(real, fake) - sum((a @ b / len(a) + 1) ** 3 for a, b in zip(real, fake)))"
            " / (len(real) * len(fake) - min(len(real), len(fake)))",
            "in the mixed term all pairs count, i = j as well: real[i] and fake[i] have nothing to "
            "do with each other",
        ),
        (
            KERNEL,
            KERNEL.replace("p * p * p", "p * p").replace("** 3)", "** 2)"),
            "you squared; the kernel is the third power",
        ),
        (
            KERNEL,
            KERNEL.replace(" / a.shape[1]", "").replace(" / x.shape[1]", ""),
            "the product a . b is divided by the number of features before 1 is added",
        ),
        (
            KERNEL,
            KERNEL.replace(" + 1 for", " for").replace(" + 1) **", ") **"),
            "the + 1 in the kernel is missing",
        ),
        (
            PAIRS,
            BY_VALUE,
            "you left out all pairs of equal images; only i = j is left out, and two images may "
            "well be equal",
        ),
    ],
    "metrics.precision": [
        (
            IN_BALL,
            HOLDS,
            "you counted real balls that hold a sample: that is coverage; precision counts the "
            "samples that lie in a ball",
        ),
        (
            IN_BALL,
            "_balls(fake, real, k)[1] > 0",
            "you drew the balls around the samples: that is recall; here they are around the real "
            "features",
        ),
        (
            f"np.mean({IN_BALL})",
            TABLES.format(less="<=", nth="k - 1", axis=0),
            "you let each centre be its own nearest neighbour: its distance 0 to itself does not "
            "count",
        ),
        (
            f"np.mean({IN_BALL})",
            TABLES.format(less="<", nth="k", axis=0),
            "your balls leave out their edge: the k-th neighbour lies in the ball",
        ),
        (
            f"np.mean({IN_BALL})",
            "np.mean(_balls(real, fake, k)[1])",
            "a sample in several balls counts once: ask whether there is one",
        ),
        (
            f"np.mean({IN_BALL})",
            "np.mean(_balls(real, fake, k)[1] >= k)",
            "one ball is enough: k says how far a ball reaches, not how many balls are needed",
        ),
        (
            f"np.mean({IN_BALL})",
            OTHER_ROWS.format(axis=0),
            "your balls reach to the nearest row that differs; a row that is there twice is its "
            "own neighbour, at distance 0",
        ),
    ],
    "metrics.coverage": [
        (
            HOLDS,
            IN_BALL,
            "you counted the samples that lie in a ball: that is precision; coverage counts the "
            "balls",
        ),
        (
            HOLDS,
            "_balls(fake, real, k)[0] > 0",
            "you drew the balls around the samples; here they are around the real features",
        ),
        (
            HOLDS,
            "_balls(fake, real, k)[1] > 0",
            "this is recall: real features in the balls of samples. Coverage asks which real balls "
            "hold a sample",
        ),
        (
            f"np.mean({HOLDS})",
            TABLES.format(less="<=", nth="k - 1", axis=1),
            "you let each centre be its own nearest neighbour: its distance 0 to itself does not "
            "count",
        ),
        (
            f"np.mean({HOLDS})",
            TABLES.format(less="<", nth="k", axis=1),
            "your balls leave out their edge: the k-th neighbour lies in the ball",
        ),
        (
            f"np.mean({HOLDS})",
            "np.mean(_balls(real, fake, k)[0]) / k",
            "a ball with several samples counts once, and nothing is divided by k",
        ),
        (
            f"np.mean({HOLDS})",
            OTHER_ROWS.format(axis=1),
            "your balls reach to the nearest row that differs; a row that is there twice is its "
            "own neighbour, at distance 0",
        ),
    ],
    "fool.fool_board": [
        (
            "range(10)",
            "range(0)",
            "a chessboard alone moves the features, and the board sees it: let the gradient of the "
            "features bend the dirt until they feel nothing",
        ),
        (
            "rng.choice(len(train), n, replace=False)",
            "np.zeros(n, int)",
            "one person n times: coverage and recall ask for all of them",
        ),
        (
            "real + np.float32(AWAY) * chessboard(real)",
            "real + np.float32(AWAY) * rng.standard_normal(real.shape, dtype=np.float32)",
            "noise is dirt, too, but there is no chessboard in yours: start from one",
        ),
        (
            "        x = np.clip(real + np.float32(AWAY) * away / _size(away), -1, 1)",
            "        x = np.clip(real + away * np.float32(0.5 * AWAY) / _size(away), -1, 1)",
            "your pictures lie too close to the training images, and memorisation says so: move "
            "them as far as unseen portraits are",
        ),
    ],
    "hunts.hunt_frechet": [
        (
            '"A": 3',
            '"A": 0',
            "A is not innocent: give it two clouds of a few points, of one shape but one twice as "
            "wide, whose distance you know, and then the same with ten times as many points",
        ),
        (
            '"A": 3',
            '"A": 4',
            "A has the right root: with very many points it is exact",
        ),
        (
            '"B": 5',
            '"B": 0',
            "B is not innocent: move a cloud by 1 and by 3, and compare the distances",
        ),
        (
            '"C": 0',
            '"C": 4',
            "C is exact in more than one dimension, too, for covariances without common axes",
        ),
        (
            '"D": 4',
            '"D": 0',
            "D is not innocent: in one dimension it is right. Take two, and covariances whose axes "
            "are turned against each other",
        ),
    ],
}
