"""A whole training, from the description of a model to its last checkpoint: with a progress bar, saved as it goes, safe to interrupt."""

import shlex
import signal
import sys
import time

import numpy as np
from tqdm import tqdm

from . import checkpoint, classifier, style
from .data import Styles
from .optim import warmup_cosine
from .train import fetch_losses, train

MODELS = {  # what suits each data set on two cores: arguments of UNet, images a step, highest learning rate, share of labels not said
    "digits": ({"width": 32, "multipliers": [1, 2], "depth": 1}, 64, 2e-3, 0.1),
    "fashion": ({"width": 32, "multipliers": [1, 2, 2], "depth": 2}, 64, 1e-3, 0.1),
    "portraits": ({"width": 32, "multipliers": [1, 2, 2], "depth": 2}, 64, 1e-3, 0.3),
    "patterns": ({"width": 32, "multipliers": [1, 2, 2], "depth": 2}, 64, 1e-3, 0.3),
    "emoji": ({"width": 32, "multipliers": [1, 2, 2], "depth": 2}, 64, 1e-3, 0.1),
    "typefaces": ({"width": 32, "multipliers": [1, 2, 2], "depth": 1}, 64, 1e-3, 0.1),
}


def describe(dataset, seed, width=None, depth=None, batch=None, lr=None, predict="v"):
    """Describe the model and training for a data set, as a checkpoint keeps it; None takes the usual -> dict, see checkpoint.build"""
    model, usual_batch, usual_lr, forget = MODELS[dataset.name]
    if isinstance(dataset, Styles):
        labels, S, _ = style.task(dataset)
        *_, H, _, C = dataset.images.shape
        model = model | {"channels": C + S, "out": C}
    else:
        labels, (_, H, _, C) = dataset.labels, dataset.train.shape
        model = model | {"channels": C}
    model |= {"size": H, "classes": [len(values) for values in labels.values()]}
    if width:
        model["width"] = width
    if depth:
        model["depth"] = depth
    return {
        "dataset": dataset.name,
        "labels": labels,
        "model": model,
        "schedule": {"kind": "cosine", "T": 250},
        "train": {"predict": predict, "batch": batch or usual_batch, "lr": lr or usual_lr, "forget": forget, "seed": seed},
    }


def learn(run, s, dataset, about, path, steps=None, seconds=None, save_every=60.0, sheets=None):
    """Train with a progress bar until `steps` are done or `seconds` are over, whichever is first; save as it goes.

    run: Training; s: Schedule; dataset: Dataset or Styles; about: see checkpoint.build; path: the checkpoint; save_every: seconds;
    sheets: function called with run after each save but the last, or None -> losses, a list of floats, one a step (steps,)
    about["history"] grows by [step, seconds of training so far, mean loss of the last hundred steps] every hundred steps; the losses
    since then wait in about["recent"], so that a training that was stopped and resumed has the same history.
    On Ctrl-C the last whole step is saved, the place is said, and KeyboardInterrupt goes on to the caller.
    Raises FloatingPointError when the loss is not finite; the last checkpoint stays as it is.
    """
    began = time.perf_counter()
    saved = began

    def done():
        by_time = (time.perf_counter() - began) / seconds if seconds else 0.0
        return max(run.step / steps if steps else 0.0, by_time)

    settings, losses, first, earlier = about["train"], [], run.step, len(run.losses)
    history, recent = about.setdefault("history", []), about.setdefault("recent", [])
    spent = history[-1][1] if history else 0.0
    bar = tqdm(total=100, bar_format="{l_bar}{bar}| {elapsed}, {remaining} left{postfix}", desc=f"training on {dataset.name}")
    batch, forget, lr = settings["batch"], settings["forget"], lambda step: settings["lr"] * warmup_cosine(done())
    if isinstance(dataset, Styles):
        batch_of = style.task(dataset)[2]
        steps_of_training = style.train(run, s, lambda rng: batch_of(rng, batch), settings["predict"], lr, forget)
    else:
        steps_of_training = train(run, s, dataset.train, dataset.train_labels, settings["predict"], batch, lr, forget)

    def listen():  # losses come singly, or, from a graphics card, several at a time
        new = run.losses[earlier + len(losses) :]
        losses.extend(new)
        recent.extend(new)

    def save():
        fetch_losses(run)
        listen()
        checkpoint.save(path, run, about)

    stop, signal_before = [], signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, lambda *_: stop.append(True))  # neither a step nor a save is cut in two: look at the flag between steps
    try:
        while done() < 1 and not stop:
            next(steps_of_training)
            listen()
            now = time.perf_counter()
            bar.n = min(100.0, 100 * done())
            if run.step % 100 == 0:
                history.append([run.step, round(spent + now - began, 1), round(sum(recent) / len(recent), 5)])
                recent.clear()
            shown = losses[-50:] or [float("nan")]
            bar.set_postfix_str(f"loss {sum(shown) / len(shown):.4f}, {(run.step - first) / (now - began):.1f} steps/s, step {run.step}")
            if now - saved > save_every:
                save()
                saved = now
                if sheets:
                    sheets(run)
        save()
    except FloatingPointError as e:
        raise FloatingPointError(f"{e}; the last checkpoint stays in {path}" if path.exists() else str(e)) from None
    finally:
        signal.signal(signal.SIGINT, signal_before)
        bar.close()
    if stop:
        length = ["--steps", str(steps)] if steps else ["--minutes", f"{seconds / 60:g}"]
        go_on = shlex.join([dataset.name, *length, "--out", str(path.parent), "--resume", str(path)])
        print(f"stopped at step {run.step}; go on with: python -m tinydiff train {go_on}", file=sys.stderr)
        raise KeyboardInterrupt
    return losses


def learn_judge(dataset, steps, seed):
    """Train the classifier that judges a data set's images, on mirror images too, but not of digits and letters.

    dataset: data.Dataset with (M, H, W, C) images -> weights (P,), about: dict with what rebuilds it, see checkpoint.judge, and its
    accuracy on the held-out images, by label
    """
    began, rng = time.perf_counter(), np.random.default_rng(seed)

    def mirror(x):
        return x if dataset.name in ("digits", "typefaces") else np.where(rng.random((len(x), 1, 1, 1)) < 0.5, x[:, :, ::-1], x)

    judge = classifier.fit(dataset.train, dataset.train_labels, dataset.classes, rng, steps, change=mirror)
    right = classifier.accuracy(judge, dataset.test, dataset.test_labels)
    _, size, _, channels = dataset.train.shape
    about = {"dataset": dataset.name, "labels": dataset.labels, "size": size, "channels": channels}
    about["held_out"] = {label: round(float(share), 4) for label, share in zip(dataset.labels, right, strict=True)}
    about["train"] = {"steps": steps, "seed": seed, "seconds": round(time.perf_counter() - began, 1)}
    return np.concatenate([p.ravel() for p in judge.params().values()]), about
