"""Measure how well a few pictures of one style are learned: from scratch, or from a trained model.

    python tests/bench/small.py FOLDER [--few 24] [--size 16] [--steps 343] [--batch 64]
                                [--ways scratch,whole,lora] [--out small]

FOLDER holds some hundreds of pictures of one style, as the 32/color of the npm package
cryptocurrency-icons (CC0). So many are trained on, chosen by chance; the others, which no training
sees, are what the samples are measured against, half of them: the Fréchet distance in the features
of the classifier of emoji, as a share of the pictures' variance in them, precision and recall. The
other half of these, and the training pictures again and again, are measured as samples are. The
loss is that of the training, on pictures that no training sees: how well is the style known?
--out gets a contact sheet of each way beside the training pictures. A way that is there already is
not trained again.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tinydiff import checkpoint, diffusion, plot
from tinydiff.collect import collection
from tinydiff.design.pipeline import Pipeline
from tinydiff.measure import classifier, copies, evaluate, metrics

WAYS = {
    "scratch": [],
    "whole": ["--from", "portraits"],
    "lora": ["--from", "portraits", "--lora", "8"],
    "flip": ["--from", "portraits", "--flip"],
    "flip scratch": ["--flip"],
    "batch 32": ["--from", "portraits", "--batch", "32"],
}
SHOWN = 48


def chosen(folder, few, out, seed=1):
    """Copy so many pictures, taken by chance, into one folder and the others into another."""
    files = sorted(p for p in folder.iterdir() if p.is_file())
    order = np.random.default_rng(seed).permutation(len(files))
    for name, part in {"few": order[:few], "rest": order[few:]}.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        for i in part:
            shutil.copy(files[i], out / name)


def everything(dataset):
    return np.concatenate([dataset.train[:], dataset.test[:]])


class Judge:
    """Measures pictures against those that no training has seen, (M, H, W, C)."""

    def __init__(self, unseen):
        self.model, _ = classifier.load("emoji")
        self.real = evaluate.features(self.model, unseen)
        self.scale = 1 / np.sqrt(self.real.var(0).sum())

    def say(self, name, x, more=""):
        fake = evaluate.features(self.model, x)
        distance = metrics.frechet(self.real * self.scale, fake * self.scale)
        p, r = metrics.precision(self.real, fake), metrics.recall(self.real, fake)
        print(f"| {name} | {distance:.3f} | {p:.2f} | {r:.2f} |{more}", flush=True)


def trained(name, args):
    """Train in one of the WAYS, if that has not been done -> Pipeline, settings, steps"""
    out = args.out / name.replace(" ", "_")
    path = out / "few.npz"
    if not path.exists():
        words = ["--size", args.size, "--steps", args.steps, "--batch", args.batch, "--out", out]
        command = [sys.executable, "-m", "tinydiff", "train", args.out / "few", *words, *WAYS[name]]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    run, _, meta = checkpoint.load(path)
    return Pipeline.load(path), meta["train"], run.step


def unseen_loss(pipe, x0, rounds=4):
    """Measure the mean squared error of v on pictures (N, H, W, C), with the same noise for all"""
    rng, s, found = np.random.default_rng(0), pipe.s, []
    for _ in range(rounds):
        t = rng.integers(1, s.T + 1, size=len(x0))
        eps = rng.standard_normal(x0.shape, dtype=np.float32)
        v = pipe.model(diffusion.q_sample(s, x0, t, eps), t)
        found.append(np.mean((v - diffusion.v_target(s, x0, t, eps)) ** 2))
    return np.mean(found)


def titled(title, x):
    """Draw a sheet with a title above it -> PIL.Image.Image"""
    sheet = Image.fromarray(plot.sheet(x, 16, scale=3))
    page = Image.new("RGB", (sheet.width, sheet.height + 18), "white")
    page.paste(sheet, (0, 18))
    ImageDraw.Draw(page).text((4, 3), title, fill=(0, 0, 0))
    return page


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    for name, usual in {"few": 24, "size": 16, "steps": 343, "batch": 64}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--ways", default="scratch,whole,lora")
    parser.add_argument("--out", type=Path, default=Path("small"))
    args = parser.parse_args()
    if not (args.out / "few").exists():
        chosen(args.folder, args.few, args.out)
    few = collection.collect(args.out / "few", args.size).dataset
    rest = everything(collection.collect(args.out / "rest", args.size).dataset)
    rest = rest[np.random.default_rng(0).permutation(len(rest))]
    n, train = len(rest) // 2, few.train[:]
    judge, pages = Judge(rest[:n]), [titled(f"{len(train)} pictures trained on", train)]
    print("| samples | Fréchet | precision | recall | nearly training pictures | loss, unseen |")
    print("| --- " * 6 + "|")
    judge.say("other real ones", rest[n : 2 * n], f" {_near(rest[n : 2 * n], few):.0%} | |")
    judge.say("the training pictures", np.resize(train, (n, *train.shape[1:])), " all | |")
    for name in args.ways.split(","):
        pipe, settings, steps = trained(name, args)
        labels = np.zeros((n, len(pipe.labels)), int)
        *_, x = pipe.draw(labels, np.random.default_rng(0), "dpmpp_2m", 15, "even")
        near, loss = _near(x, few, settings), unseen_loss(pipe, rest)
        judge.say(f"{name}, {steps} steps", x, f" {near:.0%} | {loss:.4f} |")
        pages.append(titled(f"{name}, {steps} steps", x[:SHOWN]))
    whole = Image.new("RGB", (pages[0].width, sum(p.height for p in pages)), "white")
    for i, page in enumerate(pages):
        whole.paste(page, (0, sum(p.height for p in pages[:i])))
    whole.save(args.out / "small.png")


def _near(x, few, settings=None):
    settings = settings or {}
    known = copies.Known(few, settings.get("flip", False), settings.get("shift", 0))
    return known.near(known.nearest(x)[0]).mean()


if __name__ == "__main__":
    main()
