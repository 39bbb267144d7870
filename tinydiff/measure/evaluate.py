"""One honest table: how good are a model's images, how diverse, how stable, and what do they cost?

Beside the samplers stands a row of real images, judged as the samples are: the floor, below which a Fréchet distance says nothing more.
Precision and density above it are no praise: dull samples lie safely among the real ones. The features compared are those of a classifier
that tinydiff trained on the same data set: the distances can be compared with each other, never with others' numbers.
"""

import sys
import time

import numpy as np

from .. import kernels, sample
from ..design.pipeline import SAMPLERS as KNOWN
from ..design.pipeline import TIMES, evaluations
from . import classifier, metrics

SAMPLERS = (  # name:steps:times, from few evaluations to many
    *("ddim:5", "ddim:10", "ddim:20", "ddim:50"),
    *("heun:5", "heun:10", "heun:25", "heun:10:karras", "heun:25:karras"),
    *("dpmpp_2m:5", "dpmpp_2m:10", "dpmpp_2m:20", "dpmpp_2m:50"),
    *("dpmpp_2m:10:karras", "dpmpp_2m:20:karras"),
    "ddpm",
)
BATCH = 256  # images drawn at once
STABLE = 512  # images for each seed, at most


def parse(spec, s):
    """Read "heun:25", "dpmpp_2m:10:karras" or "ddpm" -> sampler, steps (int), times, as `draw` takes them

    Without steps they are 50; ddpm always takes all T; without times they are even. s: Schedule with arrays (T + 1,)
    Raises ValueError for an unknown sampler or grid, or steps outside 1 .. T.
    """
    name, steps, times = [*spec.split(":"), "", ""][:3]
    if name not in KNOWN or spec.count(":") > 2:
        raise ValueError(
            f"no sampler {spec!r}; there are: {', '.join(KNOWN)}, all but ddpm with a number of steps, as ddim:50"
        )
    if name == "ddpm" and (steps or times):
        raise ValueError("ddpm visits every step: write ddpm, and nothing behind it")
    steps, times = steps or str(min(50, s.T)), times or "even"
    if not (steps.isdecimal() and 1 <= int(steps) <= s.T):
        raise ValueError(f"{spec}: steps go from 1 to {s.T}, those that the model was trained with")
    if times not in TIMES:
        raise ValueError(f"{spec}: no times {times!r}; there are: {', '.join(TIMES)}")
    return name, s.T if name == "ddpm" else int(steps), times


def features(judge, images):
    """Describe images by a classifier's features, a batch at a time. images: (N, H, W, C) -> (N, F)"""
    return np.concatenate(
        [np.asarray(judge.features(images[i : i + BATCH])) for i in range(0, len(images), BATCH)]
    )


class Yardstick:
    """What samples are measured against: n real training images, and what a second n of them scores in the samples' place.

    Each half has its share of every value of the first label. Samples are drawn for the labels of the second half, which training has
    seen: where labels nearly name an image, as nine do, this makes memorisation a little lower than it is for new labels.
    Features are divided by one number, the root of their mean variance over the real images: distances then have a unit.
    judge: a Classifier; dataset: a data.Dataset with (M, H, W, C) images; n: at most M / 2; rng chooses the images
    """

    def __init__(self, judge, dataset, n, rng):
        self.judge, self.dataset = judge, dataset
        order = rng.permutation(len(dataset.train))
        order = order[np.argsort(dataset.train_labels[order, 0], kind="stable")]
        order = order[np.arange(2 * n) * len(order) // (2 * n)]
        real = features(judge, dataset.train[order[::2]])
        self.unit = np.sqrt(real.var(0).mean())
        self.real = real / self.unit
        self.labels = dataset.train_labels[order[1::2]]
        self.floor = self.measure(dataset.train[order[1::2]], self.labels)
        right = classifier.accuracy(
            judge, dataset.test, dataset.test_labels
        )  # of images that the judge has not been trained on
        self.floor |= {
            "agreement": dict(zip(dataset.labels, right.tolist(), strict=True)),
            "memorisation": 1.0,
        }

    def measure(self, images, labels):
        """Measure images that were drawn for labels. (N, H, W, C), (N, number of labels) -> dict of numbers, agreement by label"""
        drawn = features(self.judge, images) / self.unit
        agreement = classifier.accuracy(self.judge, images, labels)
        row = {
            "frechet": metrics.frechet(self.real, drawn),
            "kernel": metrics.kernel_distance(self.real, drawn),
            "precision": metrics.precision(self.real, drawn),
            "recall": metrics.recall(self.real, drawn),
            "density": metrics.density(self.real, drawn),
            "coverage": metrics.coverage(self.real, drawn),
            "agreement": {
                label: float(share)
                for label, share in zip(self.dataset.labels, agreement, strict=True)
            },
            "memorisation": metrics.memorisation(images, self.dataset.train, self.dataset.test),
        }
        if images.shape[3] == 3:
            row["colours"] = np.mean(metrics.palette(images[:BATCH]))
        return {
            name: value if isinstance(value, dict) else float(value) for name, value in row.items()
        }


def sample_all(pipe, labels, seed, way, w=1.0, tick=lambda images: None):
    """Draw an image for each row of labels, BATCH at a time -> images (N, H, W, C), seconds

    way: sampler, steps, times; tick(n) is called when n more are drawn
    """
    rng, parts, began = np.random.default_rng(seed), [], time.perf_counter()
    for i in range(0, len(labels), BATCH):
        parts.append(pipe.draw(labels[i : i + BATCH], rng, *way, w)[-1])
        tick(len(parts[-1]))
    return np.concatenate(parts), time.perf_counter() - began


def rows(pipe, yardstick, ways, w, seed, tick=lambda work: None):
    """Measure one sampler after the other.

    ways: list of (sampler, steps, times); w: guidance; tick(work) is told of network evaluations done
    -> yields dicts: the metrics of Yardstick.measure (images (N, H, W, C)), evaluations, seconds for an image
    """
    pipe.draw(
        yardstick.labels[:BATCH], np.random.default_rng(0), steps=1
    )  # compiles what the clock is not for
    for way in ways:
        asked = evaluations(pipe.s, *way[:2], w)
        images, seconds = sample_all(
            pipe, yardstick.labels, seed, way, w, lambda n, asked=asked: tick(n * asked)
        )
        row = dict(zip(("sampler", "steps", "times"), way, strict=True)) | {
            "evaluations": asked,
            "seconds": seconds / len(images),
        }
        yield row | yardstick.measure(images, yardstick.labels)


def stability(pipe, yardstick, way, w, seeds, tick=lambda work: None):
    """Ask what chance and numerics do: spread over seeds, DDIM there and back, values out of range when nothing is clipped.

    seeds: ints, STABLE images each -> dict: mean and standard deviation over them of each metric that is one number; round_trip, the root
    mean square error (scale [-1, 1]) of 32 held-out images (N, H, W, C) inverted and drawn again in 20 steps, by rounds of the inversion;
    out_of_range, share of these images, drawn without clipping, that leave [-1, 1] by more than 0.1
    """
    asked = evaluations(pipe.s, *way[:2], w)
    found = []
    labels = yardstick.labels[np.random.default_rng(0).permutation(len(yardstick.labels))[:STABLE]]
    for seed in seeds:
        images, _ = sample_all(pipe, labels, seed, way, w, lambda n: tick(n * asked))
        found.append(yardstick.measure(images, labels))
    spread = {
        k: (float(np.mean(v)), float(np.std(v, ddof=1)))
        for k in found[0]
        if np.isscalar(found[0][k])
        for v in [[f[k] for f in found]]
    }
    x0, labels = yardstick.dataset.test[:32], yardstick.dataset.test_labels[:32]
    eps_model, times = pipe.eps_model(labels), sample.even_times(pipe.s, min(20, pipe.s.T))
    round_trip = {}
    for rounds in (1, 2, 4):
        *_, x_T = sample.ddim_invert(eps_model, pipe.s, x0, times, rounds)
        *_, back = sample.ddim(eps_model, pipe.s, x0.shape, None, times=times, x_T=x_T)
        round_trip[rounds] = float(np.sqrt(np.mean((back - x0) ** 2)))
    *_, free = sample.ddim(
        pipe.eps_model(labels, w), pipe.s, x0.shape, np.random.default_rng(seeds[0]), times=times
    )
    return {
        "seeds": len(found),
        "spread": spread,
        "round_trip": round_trip,
        "out_of_range": float(metrics.out_of_range(free, slack=0.1)),
    }


def multiply_adds(model, labels):
    """Count the multiply-adds of one network evaluation of one image: those of its convolutions and matrix products.

    labels: of one image, ints -> int; a convolution of (1, H, W, C) has H W K K C O, a product of (L, C) and (C, O) has L C O
    """
    counts = []

    def conv2d(x, w, padding):
        counts.append(x[..., 0].size * w.size)
        return kernels.active().conv2d(x, w, padding)

    def matmul(a, b):
        counts.append(a.size * b.shape[-1])
        return kernels.active().matmul(a, b)

    def attention(q, k, v):
        counts.append(2 * q.size * k.shape[1])
        return kernels.active().attention(q, k, v)

    counting = {"conv2d": conv2d, "matmul": matmul, "attention": attention}
    vars(kernels).update(counting)  # found before the kernel set in use is asked
    try:
        model(np.zeros((1, model.size, model.size, model.channels), np.float32), np.ones(1), labels)
    finally:
        for name in counting:
            delattr(kernels, name)
    return sum(counts)


def peak_memory():
    """Tell the largest memory that this process has had so far, in bytes: () -> int, or None where the system doesn't say"""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def title(row):
    """Name a row of images (N, H, W, C): "dpmpp_2m 10 karras", even times unsaid. row: dict with sampler, steps, times -> string"""
    return f"{row['sampler']} {row['steps']}" + (
        f" {row['times']}" if row["times"] != "even" else ""
    )


COLUMNS = (
    "frechet",
    "kernel",
    "precision",
    "recall",
    "density",
    "coverage",
    "memorisation",
    "colours",
)
LEGEND = """frechet, kernel (KID): distance of the features' distributions, lower is better (kernel is about 0 between equal ones, at times
below); precision, density: samples that lie among real images; recall, coverage: real images that lie among samples; memorisation: about 1,
samples are no nearer to the training images than unseen real ones are, near 0, copies; colours: how many an image has; agreement: share of
labels that the judge reads as asked for, in the first row on unseen real images; evaluations: of the network, for an image (NFE)."""


def table(floor, found):
    """Lay out the floor and the rows as text: dicts of numbers, those of images (N, H, W, C) as in `rows` -> string, a line each"""
    columns = [c for c in COLUMNS if c in floor]
    head = ["sampler", "evaluations", *columns, "agreement", "ms/image"]
    lines = [head]
    for row in [{"sampler": "real images"} | floor, *found]:
        name = title(row) if "steps" in row else row["sampler"]
        agreement = f"{np.mean(list(row['agreement'].values())):.1%}"
        cost = [
            str(row.get("evaluations", "-")),
            f"{1000 * row['seconds']:.1f}" if "seconds" in row else "-",
        ]
        lines.append(
            [
                name,
                cost[0],
                *(f"{row[c]:.3g}" if c != "kernel" else f"{row[c]:.4f}" for c in columns),
                agreement,
                cost[1],
            ]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    aligned = [
        [word.rjust(w) for word, w in zip(line[1:], widths[1:], strict=True)] for line in lines
    ]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *numbers])
        for line, numbers in zip(lines, aligned, strict=True)
    )


def report(found):
    """Write out an evaluation: found, a dict as `evaluate` prints it with --json, from images (N, H, W, C) -> string"""
    judge, stable, cost = found["judge"], found["stability"], found["cost"]
    lines = [
        f"{found['n']} images each, guidance {found['guidance']:g}, against as many real ones",
        "",
        table(found["real"], found["samplers"]),
        "",
    ]
    last = found["samplers"][-1]
    name = title(stable)
    lines += [LEGEND, "", f"agreement by label, {title(last)} / the judge on unseen real images:"]
    for label in judge:
        lines.append(f"  {label:12} {last['agreement'][label]:.1%} / {judge[label]:.1%}")
    spread = ", ".join(
        f"{k} {stable['spread'][k][0]:.3g} +- {stable['spread'][k][1]:.2g}"
        for k in ("frechet", "precision", "recall")
    )
    lines.append(f"stability of {name} over {stable['seeds']} seeds: {spread}")
    trips = ", ".join(
        f"{error:.4f} with {rounds}" for rounds, error in stable["round_trip"].items()
    )
    lines.append(
        f"DDIM there and back in 20 steps, 32 held-out images, error on the scale [-1, 1] by rounds of inversion a step: {trips}"
    )
    lines.append(
        f"without clipping {stable['out_of_range']:.1%} of 32 images leave [-1, 1] by more than 0.1"
    )
    lines.append(
        f"a network evaluation of one image takes {cost['multiply_adds'] / 1e6:.1f} million multiply-adds"
    )
    if cost["peak_memory"]:
        lines.append(f"this whole evaluation has used {cost['peak_memory'] / 1e6:.0f} MB")
    return "\n".join(lines)


def transfer_row(name, samples, truth, source, judge, target, seconds, paper=1.0):
    """Measure a way of drawing subjects in another style, where the right image is known.

    samples: (k, N, H, W, C), k of each subject; truth, source: (N, H, W, C); judge: a Classifier; target: what it should read, an int or
    (N, number of labels) ints; seconds: for one image; paper: see metrics.silhouette_overlap
    -> dict: name, k, rmse (of single samples), of_mean, of_best (see metrics.rmse_of_mean, rmse_of_best), silhouette (the samples' overlap
    with the source), style (share of right readings, over all samples and labels), seconds
    """
    k, N = samples.shape[:2]
    drawn = samples.reshape(k * N, *samples.shape[2:])
    labels = np.tile(np.broadcast_to(target, (N, len(judge.classes))), (k, 1))
    return {
        "name": name,
        "k": k,
        "rmse": metrics.rmse(samples, truth),
        "of_mean": metrics.rmse_of_mean(samples, truth),
        "of_best": metrics.rmse_of_best(samples, truth),
        "silhouette": metrics.silhouette_overlap(drawn, np.concatenate([source] * k), paper),
        "style": float(classifier.accuracy(judge, drawn, labels).mean()),
        "seconds": seconds,
    }


def transfer_table(found):
    """Lay out rows of transfer_row, from images (N, H, W, C), as Markdown: list of dicts -> string; one sample has no mean or best"""
    lines = [
        "| way | RMSE of a sample | of the mean | of the best | overlap with the source | style | ms/image |",
        "| --- " * 7 + "|",
    ]
    for row in found:
        several = [
            f"{row[column]:.3f} of {row['k']}" if row["k"] > 1 else ""
            for column in ("of_mean", "of_best")
        ]
        rest = [f"{row['silhouette']:.2f}", f"{row['style']:.1%}", f"{1000 * row['seconds']:.1f}"]
        lines.append(" | ".join(["| " + row["name"], f"{row['rmse']:.3f}", *several, *rest]) + " |")
    return "\n".join(lines)


def quality(rows, floor):
    """Draw Fréchet distance against network evaluations, a line a sampler, and the floor that real images set.

    rows: dicts with sampler, times, evaluations and frechet, as rows yields them from images (N, H, W, C) -> matplotlib Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    for i, (name, times) in enumerate(
        dict.fromkeys((row["sampler"], row["times"]) for row in rows)
    ):
        points = sorted(
            (row["evaluations"], row["frechet"])
            for row in rows
            if (row["sampler"], row["times"]) == (name, times)
        )
        axes.plot(
            *zip(*points, strict=True),
            "o-",
            color=f"C{i}",
            label=name if times == "even" else f"{name}, {times} times",
        )
    axes.axhline(floor, color="0.5", linestyle="--", label="real images")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="network evaluations an image",
        ylabel="Fréchet distance (lower is better)",
    )
    axes.legend(frameon=False)
    return figure
