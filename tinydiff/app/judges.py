"""Who judges a model of a user's own pictures: found beside the model, or trained."""

from pathlib import Path

import numpy as np

from .. import checkpoint
from ..measure import classifier, pretext
from .progress import Bar


def beside(model, dataset):
    """Name the file of a model's judge: Path of the model, its data.Dataset -> Path"""
    return Path(model).parent / f"{dataset.name}_judge.npz"


def train(dataset, about, steps=pretext.STEPS, seed=0):
    """Train the judge of a user's own pictures, with a bar.

    dataset, about: as own.pictures gives them -> weights, meta, for checkpoint.export
    """
    with Bar(steps, f"training the judge of {dataset.name}", "steps") as bar:
        weights, meta = pretext.learn(dataset, steps, seed, bar.tick)
    return weights, meta | {"pictures": {"key": about["key"]}}


def found(path, dataset, about):
    """Load the judge in a file, if it was trained on these pictures -> Classifier, meta, or None

    dataset, about: as own.pictures gives them
    """
    judge, its = classifier.read(path)
    _, size, _, channels = dataset.train.shape
    labels = list(its["labels"].items()) == list(dataset.labels.items())
    alike = labels and (its["size"], its["channels"]) == (size, channels) and "tasks" in its
    same = its.get("pictures", {}).get("key") == about.get("key")
    return (judge, its) if alike and same else None


def kept(model, pipe):
    """Load the judge that `evaluate` has trained of a user's pictures, from beside a model of them.

    model: Path; pipe: its Pipeline, of pictures (H, W, C) -> Classifier, meta
    Raises CheckpointError where there is none, or one of other pictures.
    """
    path = Path(model).parent / f"{pipe.dataset}_judge.npz"
    how = f"`evaluate {model}` trains one"
    if not path.exists():
        raise checkpoint.CheckpointError(f"no classifier reads your own pictures yet ({how})")
    judge, its = classifier.read(path)
    if its.get("pictures", {}).get("key") != pipe.pictures.get("key"):
        raise checkpoint.CheckpointError(f"{path} reads other pictures (move it away: {how})")
    return judge, its


def reader(model, pipe):
    """Find who reads what a model draws: the judge of its pictures, if there is one that fits.

    model: its name, or Path; pipe: its Pipeline -> function of images (N, H, W, C) in [-1, 1] that
    gives, for each label of the model, log p (N, number of values)
    Raises CheckpointError where there is none, saying why.
    """
    judge, its = kept(model, pipe) if pipe.pictures else classifier.load(pipe.dataset)
    alike = (its["size"], its["channels"]) == (pipe.model.size, pipe.model.out)
    if not alike or any(its["labels"].get(name) != v for name, v in pipe.labels.items()):
        raise checkpoint.CheckpointError(f"the classifier of {pipe.dataset} reads other pictures")

    def read(images):
        scores = dict(zip(its["labels"], map(np.asarray, judge(images)), strict=False))
        return [_log_softmax(scores[name]) for name in pipe.labels]

    return read


def _log_softmax(scores):
    return scores - np.logaddexp.reduce(scores, 1, keepdims=True)


def of(model, dataset, about, say, keep=True):
    """Load the judge of a user's own pictures from beside the model, or train it and keep it there.

    What lies there and is no judge of these pictures stays, and is not used.
    model: Path; dataset, about: as own.pictures gives them; say: prints a line; keep: whether to
    write it -> Classifier, meta
    """
    path, there = beside(model, dataset), False
    try:
        there = path.exists()
        if there and (kept := found(path, dataset, about)):
            say(f"{path}: the judge, trained on these pictures before")
            return kept
        holds = "judges other pictures"
    except checkpoint.CheckpointError:
        holds = "holds something else"
    if there:
        say(f"{path} {holds}, and stays: the judge is not kept unless that is moved away")
    weights, meta = train(dataset, about)
    if keep and not there:
        try:
            checkpoint.export(path, weights, meta)
            say(f"{path}: the judge, trained on these pictures; it is used again the next time")
        except checkpoint.CheckpointError as e:
            say(f"the judge is not kept: {e}")
    return classifier.unpacked(weights, meta), meta
