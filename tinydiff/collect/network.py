"""Which network suits a set of pictures, what suits a small set, and how long it takes here."""

import re
import time

import numpy as np

from .. import augment, checkpoint
from ..optim import warmup_cosine
from ..train import train

WIDTHS = {8: [1, 2], 16: [1, 2, 2], 32: [1, 2, 2], 64: [1, 2, 2, 2]}  # multipliers, by size
FINE, FINE_LORA = 5e-4, 5e-3  # highest learning rate of fine-tuning: all weights, low-rank updates
FEW = 200  # pictures: fewer are learned better from a trained model, or flipped and shifted
SEEN = 1000  # times that each of these is shown, unless asked otherwise: then copies begin
WORDS = "zero|one|two|three|four|five|six|seven|eight|nine|letter|digit|character"
NAMED = re.compile(rf"(^|[\W_])([^\W_]|{WORDS})($|[\W_])", re.IGNORECASE)
TIMED, PATIENCE = 4, 4.0  # steps, and seconds after which fewer are enough


def network(size, labels):
    """Choose a network and its training for two cores.

    size: pixels per side, a multiple of 4, of images (N, H, W, C); labels: how many there are
    -> arguments of UNet, images per step, highest learning rate, p_drop of train.train
    """
    level = next((s for s in WIDTHS if s >= size), 64)
    multipliers = WIDTHS[level]
    while size % 2 ** (len(multipliers) - 1):
        multipliers = multipliers[:-1]
    model = {"width": 32, "multipliers": multipliers, "depth": 1 if level == 8 else 2}
    batch = {8: 64, 16: 64, 32: 32, 64: 16}[level]
    return model, batch, 1e-3, 0.1 if labels < 2 else 0.3


def enough(dataset, batch):
    """Choose after how many steps to stop: few pictures are soon learned by heart.

    dataset: data.Dataset, images (M, H, W, C); batch: images per step -> int, None where M is large
    """
    M = len(dataset.train)
    return max(1, SEEN * M // batch) if M < FEW else None


def advice(meta, dataset):
    """Say what suits a small set, and what does not suit letters.

    meta: description of model and training, see checkpoint.py; dataset: data.Dataset, images
    (M, H, W, C) -> yields lines
    """
    settings, upright = meta["train"], _of_text(dataset.labels)
    if settings.get("flip") and upright:
        yield f"label {upright} looks like letters or digits: mirrored they are others, or none"
    M, C = len(dataset.train) + len(dataset.test), dataset.train.shape[3]
    ways = []
    if "start" not in settings:
        ways.append(f"--from {'portraits' if C == 3 else 'fashion'} begins with a trained model")
    if not (settings.get("flip") or settings.get("shift")):
        shown = "--shift 1 shows them" if upright else "--flip and --shift 1 show them mirrored and"
        ways.append(f"{shown} moved")
    if M < FEW and ways:
        yield f"fewer than {FEW} pictures: {'; '.join(ways)}"


def _of_text(labels):
    """Find a label of which two in three values name a letter or a digit -> its name, or "" """
    for label, values in labels.items():
        names = [NAMED.search(value) for value in values]
        if len(values) > 1 and sum(map(bool, names)) * 3 >= 2 * len(values):
            return label
    return ""


def minutes_per_thousand(meta, dataset, tick=lambda: None, most=None):
    """Measure how long a thousand training steps take on this machine, by making a few.

    meta: description of model and training, see checkpoint.py; dataset: data.Dataset, images
    (M, H, W, C); the first step, which may compile, is not counted; tick() is called after each;
    most: images at once, see train.in_pieces -> minutes
    """
    run, s = checkpoint.build(meta, 0)
    run.most, settings = most, meta["train"]
    sizes = settings["predict"], settings["batch"], lambda step: 1e-3 * warmup_cosine(0.5)
    steps = train(run, s, *augment.training(dataset, settings), *sizes, settings["forget"])
    next(steps)
    tick()
    began, done = time.perf_counter(), 0
    while done < TIMED and (done < 1 or time.perf_counter() - began < PATIENCE):
        next(steps)
        np.asarray(run.theta[:1])  # on a GPU: wait for it
        done += 1
        tick()
    return (time.perf_counter() - began) / done * 1000 / 60
