"""What the judge of a user's own pictures learns, where few labels or none say what matters.

Two questions that need no labels (pretext tasks): how is a picture turned, and which of the set's
groups of similar pictures is it in? The first needs shapes, the second the whole. Labels, where
there are any, are asked for too.
"""

import time

import numpy as np

from ..data import thumbnails
from . import classifier
from .metrics import parts

STEPS = 1500  # of training, if nothing else is asked for
TURNS = 8  # four quarter turns, each of the picture or of its mirror image
GROUPS, MEMBERS, ROUNDS = 30, 8, 25  # at most, pictures per group at least, and of k-means
SAMPLE = 4096  # pictures of which the groups are made


def turned(images, turn):
    """Turn each image. images: (N, H, H, C); turn: (N,) ints, quarter turns, + 4 mirrored

    -> (N, H, H, C)
    """
    out = np.empty_like(images)
    for k in np.unique(turn):
        x = np.rot90(images[turn == k], k % 4, axes=(1, 2))
        out[turn == k] = x[:, :, ::-1] if k >= 4 else x
    return out


def groups(images, rng):
    """Sort images into groups of similar ones: k-means of their thumbnails, 8 x 8 at most.

    At most GROUPS, of MEMBERS on average or more. images: (M, H, W, C), array or data.Pixels
    -> group (M,) ints, how many there are. Source: Caron et al. 2018, with features for thumbnails.
    """
    small = np.concatenate([thumbnails(part) for _, part in parts(images)])
    count = int(np.clip(len(small) // MEMBERS, 1, GROUPS))
    some = small[rng.choice(len(small), min(SAMPLE, len(small)), replace=False)]
    centres = some[:count]
    for _ in range(ROUNDS):
        own = _closest(some, centres)
        centres = np.stack(
            [some[own == k].mean(0) if (own == k).any() else centres[k] for k in range(count)]
        )
    return _closest(small, centres), count


def _closest(x, centres):
    return ((centres**2).sum(1) - 2 * x @ centres.T).argmin(1)


def in_words(meta, count):
    """Say what a judge was trained to do.

    meta: see `learn`; count: the M of its training images (M, H, W, C) -> str
    """
    chosen = any(len(values) > 1 for values in meta["labels"].values())
    labels, count_of = "read their labels, and to " if chosen else "", meta["tasks"]["group"]
    groups = f", and which of {count_of} groups of similar ones it is in"
    what = f"{labels}tell how a picture was turned{groups if count_of > 1 else ''}"
    trained = f"trained on these {count:,} pictures, for {meta['train']['steps']:,} steps"
    return f"the features are those of a network {trained}, to {what}"


def learn(dataset, steps, seed, tick=lambda: None):
    """Train the judge of a user's own pictures.

    Half of each batch is as it is, and asked for its labels; the other is turned, and not asked
    for them: a turned 6 may be a 9. All are asked how they were turned, and for their group.
    dataset: data.Dataset with (M, H, W, C) images, with or without labels; tick: as for
    classifier.fit -> weights (P,), meta as of classifier.learn, and "tasks": how many answers each
    of the questions has. Source: Gidaris et al. 2018, for the turns.
    """
    began, rng = time.perf_counter(), np.random.default_rng(seed)
    images, labels, classes = dataset.train, dataset.train_labels, dataset.classes
    group, count = groups(images, rng)
    tasks = {"turn": TURNS, "group": count}

    def batch_of(rng, N=64):
        i, turn = rng.integers(len(images), size=N), rng.integers(TURNS, size=N)
        turn[: N // 2] = 0
        asked = labels[i].copy()
        asked[N // 2 :] = classes  # a value too many: not known
        return turned(images[i], turn), np.column_stack([asked, turn, group[i]])

    every = (*classes, *tasks.values())
    model = classifier.fit_batches(batch_of, images.shape, every, rng, steps, tick=tick)
    weights, meta = classifier.packed(model, dataset, {"steps": steps, "seed": seed}, began)
    return weights, meta | {"tasks": tasks}
