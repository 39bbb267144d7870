"""One honest table: how good are a model's images, how diverse, how stable, and what do they cost?

Beside the samplers stands a row of real images, measured as the samples are: the floor, below which
a Fréchet distance tells nothing. Precision or density above that row is no merit: bland samples
sit safely inside the real data. The features compared are those of a classifier that tinydiff
trained on the same data set: compare the distances with each other, never with those of others.
Of a user's own pictures there may be few: what these cannot tell is left out.
"""

import sys
import textwrap
import time
from types import SimpleNamespace

import numpy as np

from .. import kernels, plot, sample
from ..design.pipeline import SAMPLERS as KNOWN
from ..design.pipeline import TIMES, evaluations
from ..machines import ALONE
from . import classifier, copies, metrics

SAMPLERS = (  # name:steps:times, from few evaluations to many
    *("ddim:5", "ddim:10", "ddim:20", "ddim:50"),
    *("heun:5", "heun:10", "heun:25", "heun:10:karras", "heun:25:karras"),
    *("dpmpp_2m:5", "dpmpp_2m:10", "dpmpp_2m:20", "dpmpp_2m:50"),
    *("dpmpp_2m:10:karras", "dpmpp_2m:20:karras"),
    "ddpm",
)
OWN = ("dpmpp_2m:5", "dpmpp_2m:25", "dpmpp_2m:12:snr")  # of a user's own pictures, as `sample` last
SCORES = {  # of features, and the images of each half without which it tells nothing
    "frechet": (metrics.frechet, 64),  # it has 64 features to fit
    "energy": (metrics.energy, 5),
    "kernel": (metrics.kernel_distance, 32),
    "precision": (metrics.precision, 32),
    "recall": (metrics.recall, 32),
    "density": (metrics.density, 32),
    "coverage": (metrics.coverage, 32),
}
FEWEST = 64  # images drawn, also where there are fewer real ones
BATCH, TRIPS = 256, 32  # images drawn at once, and inverted
STABLE = 512  # images for each seed, at most


def parse(spec, s):
    """Read "heun:25", "dpmpp_2m:10:karras" or "ddpm".

    Without steps they are 50, or T if that is less; ddpm always takes all T; without times they are
    even. s: Schedule with arrays (T + 1,)
    -> sampler, steps (int), times, as Pipeline.draw takes them
    Raises ValueError for an unknown sampler or grid, or steps outside 1 .. T.
    """
    name, steps, times = [*spec.split(":"), "", ""][:3]
    if name not in KNOWN or spec.count(":") > 2:
        known = f"{', '.join(KNOWN)}, all but ddpm with a number of steps, as ddim:50"
        raise ValueError(f"no sampler {spec!r}; there are: {known}")
    if name == "ddpm" and (steps or times):
        raise ValueError("ddpm visits every step: write ddpm, and nothing behind it")
    steps, times = steps or str(min(50, s.T)), times or "even"
    if not (steps.isdecimal() and len(steps) < 10 and 1 <= int(steps) <= s.T):
        raise ValueError(f"{spec}: steps go from 1 to {s.T}, those that the model was trained with")
    if times not in TIMES:
        raise ValueError(f"{spec}: no times {times!r}; there are: {', '.join(TIMES)}")
    return name, s.T if name == "ddpm" else int(steps), times


def features(model, images):
    """Compute a classifier's features, BATCH images at a time. images: (N, H, W, C) -> (N, F)"""
    parts = (images[i : i + BATCH] for i in range(0, len(images), BATCH))
    return np.concatenate([np.asarray(model.features(part)) for part in parts])


class Yardstick:
    """What samples are measured against: n real training images.

    `floor` holds what a second n of them scores in the samples' place. Each half has its share of
    every value of the first label. Samples are drawn for `labels`, those of the second half, which
    training has seen: where labels nearly name an image, as nine do, this makes memorisation a
    little lower than it is for new labels. Features are divided by one number, the root of their
    mean variance over the real images: distances then have a unit. What n images cannot tell, see
    SCORES, is left out; labels are then those of FEWEST images, some of them repeated.
    model: a Classifier; dataset: a data.Dataset with (M, H, W, C) images; n: at most M / 2;
    rng chooses the images; flip, shift: the variants that the network saw, see augment.ways
    """

    def __init__(self, model, dataset, n, rng, flip=False, shift=0):
        self.classifier, self.dataset, self.n = model, dataset, n
        self.known = copies.Known(dataset, flip, shift)
        train, labels = dataset.train, dataset.train_labels
        order = rng.permutation(len(train))
        if dataset.labels:
            order = order[np.argsort(labels[order, 0], kind="stable")]
        order = order[np.arange(2 * n) * len(order) // (2 * n)]
        real = features(model, train[order[::2]])
        self.unit = np.sqrt(real.var(0).mean()) or 1.0
        self.real = real / self.unit
        self.labels = labels[np.resize(order[1::2], count_drawn(n))]
        self.floor = self.measure(train[order[1::2]], labels[order[1::2]])
        # of images that the classifier has not been trained on
        few = len(dataset.test) < copies.ENOUGH
        self.floor["agreement"] = {} if few else self._agreement(dataset.test, dataset.test_labels)
        if self.known.usual:
            self.floor["memorisation"] = 1.0
        self.floor["copies"] = self.known.share

    def _agreement(self, images, labels):
        """Read labels with a choice off images -> {"kind": share that is read as in labels}"""
        right = classifier.accuracy(self.classifier, images, labels)
        named = zip(self.dataset.labels.items(), right.tolist(), strict=True)
        return {name: r for (name, values), r in named if len(values) > 1 and r == r}  # not NaN

    def measure(self, images, labels):
        """Measure images that were drawn for labels.

        images: (N, H, W, C), the first n of which are compared with the real ones; labels: (N,
        number of labels) ints
        -> dict of numbers, and agreement: a dict of shares by label
        """
        fake = features(self.classifier, images[: self.n]) / self.unit
        able = {name: score for name, (score, least) in SCORES.items() if self.n >= least}
        row = {name: score(self.real, fake) for name, score in able.items()}
        away, _ = self.known.nearest(images)
        row["agreement"] = self._agreement(images, labels)
        if self.known.usual:
            row["memorisation"] = float(np.median(away) / self.known.usual)
        row["copies"] = float(np.mean(self.known.near(away)))
        if images.shape[3] == 3:
            few = max(16, BATCH * 1024 // max(1024, images[0, ..., 0].size))  # 64 x 64 takes long
            row["colours"] = float(np.mean(metrics.palette(images[:few])))
        return row


def count_drawn(n):
    """Count the images (N, H, W, C) that are drawn where n of each half are compared -> int"""
    return max(n, FEWEST)


def sample_all(pipe, labels, seed, way, w=1.0, team=ALONE):
    """Draw an image for each row of labels, at most BATCH at a time; many machines draw some each.

    way: sampler, steps, times; team: a machines.Team -> images (N, H, W, C), seconds
    """
    began, mine = time.perf_counter(), range(len(labels))[team.part(len(labels))]
    draw = lambda rows, rng: pipe.draw(labels[rows], rng, *way, w)[-1:]
    (x,) = pipe.in_pieces(draw, mine, seed, most=BATCH)
    return team.gather(x), time.perf_counter() - began


def rows(pipe, yardstick, ways, w, seed, team=ALONE):
    """Measure one sampler after the other.

    ways: list of (sampler, steps, times); w: guidance; team: a machines.Team that draws together
    -> yields dicts: sampler, steps, times, evaluations and seconds per image, and the metrics of
    Yardstick.measure (images (N, H, W, C))
    """
    labels = yardstick.labels
    mine = range(len(labels))[team.part(len(labels))]
    first, *_ = pipe.pieces(mine, most=BATCH)
    pipe.draw(labels[first], np.random.default_rng(0), steps=1)  # warm-up: compile before timing
    for way in ways:
        each = evaluations(pipe.s, *way[:2], w)
        images, seconds = sample_all(pipe, labels, seed, way, w, team)
        row = dict(zip(("sampler", "steps", "times"), way, strict=True))
        cost = {"evaluations": each, "seconds": seconds / len(images)}
        yield row | cost | yardstick.measure(images, labels)


def stability(pipe, yardstick, way, w, seeds, team=ALONE):
    """Measure what chance and numerics do: spread over seeds, DDIM there and back, range.

    seeds: ints, STABLE images each -> dict: seeds, how many; spread, mean and standard deviation
    over them of each metric that is one number; round_trip, root mean square error (scale [-1, 1])
    of TRIPS held-out images (N, H, W, C), or as many as there are, inverted and drawn again in 20
    steps, by rounds of the inversion; out_of_range, share of as many images, drawn without
    clipping, that leave [-1, 1] by more than 0.1
    """
    found = []
    labels = yardstick.labels[np.random.default_rng(0).permutation(len(yardstick.labels))[:STABLE]]
    for seed in seeds:
        images, _ = sample_all(pipe, labels, seed, way, w, team)
        found.append(yardstick.measure(images, labels))
    spread = {}
    for name in (name for name, value in found[0].items() if np.isscalar(value)):
        values = [row[name] for row in found]
        spread[name] = (float(np.mean(values)), float(np.std(values, ddof=1)))
    chance = {"seeds": len(found), "spread": spread}
    return chance | _there_and_back(pipe, yardstick.dataset, w, seeds[0])


def _there_and_back(pipe, dataset, w, seed):
    """Measure the second half of what `stability` does -> dict"""
    x0, labels = trips(dataset)
    s, times, every = pipe.s, sample.even_times(pipe.s, min(20, pipe.s.T)), range(len(x0))
    round_trip = {}
    for rounds in (1, 2, 4):

        def back(rows, _, rounds=rounds):
            eps_model = pipe.eps_model(labels[rows])
            *_, x_T = sample.ddim_invert(eps_model, s, x0[rows], times, rounds)
            *_, x = sample.ddim(eps_model, s, x_T.shape, None, times=times, x_T=x_T)
            return [np.asarray(x)]

        (x,) = pipe.in_pieces(back, every, seed)
        round_trip[rounds] = float(np.sqrt(np.mean((x - x0) ** 2)))

    def free(rows, rng):
        eps_model = pipe.eps_model(labels[rows], w)
        *_, x = sample.ddim(eps_model, s, x0[rows].shape, rng, times=times)
        return [np.asarray(x)]

    (x,) = pipe.in_pieces(free, every, seed)
    held_out = {"trips": len(x0), "unseen": len(dataset.test) > 0}
    out = metrics.out_of_range(x, slack=0.1)
    return held_out | {"round_trip": round_trip, "out_of_range": out}


def trips(dataset):
    """Choose the images that are inverted, and drawn again -> (N, H, W, C), labels

    N <= TRIPS held-out images, training images where none is held out
    """
    if len(dataset.test):
        return dataset.test[:TRIPS], dataset.test_labels[:TRIPS]
    return dataset.train[:TRIPS], dataset.train_labels[:TRIPS]


def work(pipe, n, ways, main, w, seeds, trips=TRIPS):
    """Count the network evaluations, each of one image, of `rows` and of `stability` with `main`.

    pipe: Pipeline; n: images, as many as the Yardstick has labels; trips: images (N, H, W, C) that
    are inverted -> int
    """
    s = pipe.s
    drawn = n * sum(evaluations(s, *way[:2], w) for way in ways)
    drawn += min(n, STABLE) * len(seeds) * evaluations(s, *main[:2], w)
    guided = evaluations(s, "ddim", 1, w)
    warm_up, *_ = pipe.pieces(range(n), most=BATCH)
    there_and_back = trips * min(20, s.T) * (1 + 2 + 4 + 3 + guided)
    return drawn + len(warm_up) + there_and_back


def multiply_adds(model, labels):
    """Count the multiply-adds of one network evaluation of one image.

    They are those of its convolutions and matrix products: a convolution of (1, H, W, C) has
    H W K K C O, a product of (L, C) and (C, O) has L C O.
    labels: of one image, (1, number of labels) ints -> int
    """
    used, together, counts = kernels.active(), kernels.together, []

    def conv2d(x, w, padding):
        counts.append(x[..., 0].size * w.size)
        return used.conv2d(x, w, padding)

    def matmul(a, b):
        counts.append(a.size * b.shape[-1])
        return used.matmul(a, b)

    def attention(q, k, v):
        counts.append(2 * q.size * k.shape[1])
        return used.attention(q, k, v)

    counting = {"conv2d": conv2d, "matmul": matmul, "attention": attention}
    x = np.zeros((1, model.size, model.size, model.channels), np.float32)
    kernels._active = SimpleNamespace(**vars(used) | counting)  # a kernel set that counts
    kernels.together = False  # what one kernel does inside another would not be seen
    try:
        model(x, np.ones(1), labels)
    finally:
        kernels._active, kernels.together = used, together
    return sum(counts)


def peak_memory():
    """Find the largest memory that this process has had so far.

    () -> int, in bytes, or None where the system does not tell
    """
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def title(row):
    """Name a row of images (N, H, W, C): "dpmpp_2m 10 karras", even times left out.

    row: dict with sampler, steps, times -> string
    """
    times = f" {row['times']}" if row["times"] != "even" else ""
    return f"{row['sampler']} {row['steps']}{times}"


COLUMNS = "frechet kernel precision recall density coverage memorisation colours".split()
LEGEND = {  # columns -> what they say
    "frechet": "distance of the features' distributions, lower is better",
    "kernel": "the same by kernels (KID), about 0 between equal ones, at times below",
    "energy": "distance of the distributions for few pictures, about 0 between equal ones",
    "precision, density": "samples that lie among real images",
    "recall, coverage": "real images that lie among samples",
    "memorisation": "about 1, samples are no closer to the training images than unseen real ones "
    "are, near 0, copies",
    "colours": "how many an image has",
    "agreement": "share of labels that the classifier reads as requested, in the first row on "
    "unseen real images",
}


def columns(floor):
    """Choose the columns of a table: floor, dict of numbers, from images (N, H, W, C) -> names"""
    few = "energy" in floor and "kernel" not in floor  # the only one that few images allow
    return [c for c in ["energy"] * few + COLUMNS if c in floor]


def legend(floor):
    """Explain the columns of a table. floor: dict of numbers, from images (N, H, W, C) -> string"""
    shown = [*columns(floor), "agreement"]
    told = {names: says for names, says in LEGEND.items() if names.split(",")[0] in shown}
    parts = [f"{names}: {says}" for names, says in told.items()]
    return textwrap.fill("; ".join([*parts, "evaluations: of the network, per image (NFE)."]), 100)


def table(floor, found):
    """Lay out the floor and the rows as text.

    floor, found: dicts of numbers, measured on images (N, H, W, C), as in `rows` -> string, one
    line per row
    """
    names = columns(floor)
    labelled = any(row["agreement"] for row in found)
    lines = [["sampler", "evaluations", *names, *["agreement"] * labelled, "ms/image"]]
    for row in [{"sampler": "real images"} | floor, *found]:
        name = title(row) if "steps" in row else row["sampler"]
        numbers = [f"{row[c]:.4f}" if c == "kernel" else f"{row[c]:.3g}" for c in names]
        shares = list(row["agreement"].values())
        agreement = [f"{np.mean(shares):.1%}" if shares else "-"] * labelled
        ms = f"{1000 * row['seconds']:.1f}" if "seconds" in row else "-"
        lines.append([name, str(row.get("evaluations", "-")), *numbers, *agreement, ms])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for first, *others in lines:
        aligned = [word.rjust(w) for word, w in zip(others, widths[1:], strict=True)]
        text.append("  ".join([first.ljust(widths[0]), *aligned]))
    return "\n".join(text)


def report(found):
    """Write out an evaluation.

    found: a dict as `evaluate` prints it with --json, from images (N, H, W, C) -> string
    """
    real, stable, cost = found["real"]["agreement"], found["stability"], found["cost"]
    last = found["samplers"][-1]
    lines = [
        f"{found['drawn']} images each, guidance {found['guidance']:g}, "
        f"against {found['n']} real {'one' if found['n'] == 1 else 'ones'}",
        *([found["features"]] if "features" in found else []),
        "",
        table(found["real"], found["samplers"]),
        "",
        legend(found["real"]),
        "",
    ]
    if last["agreement"]:
        whose = f"{title(last)} / the classifier on unseen real images"
        lines.append(f"agreement by label, {whose}:")
    for label, share in last["agreement"].items():
        lines.append(f"  {label:12} {share:.1%} / {f'{real[label]:.1%}' if label in real else '-'}")
    spread = []
    for name in ("frechet", "precision", "recall"):
        if name in stable["spread"]:
            mean, std = stable["spread"][name]
            spread.append(f"{name} {mean:.3g} +- {std:.2g}")
    if spread:
        over = f"{title(stable)} over {stable['seeds']} seeds"
        lines.append(f"stability of {over}: {', '.join(spread)}")
    trips = [f"{error:.4f} with {rounds}" for rounds, error in stable["round_trip"].items()]
    images = f"{stable['trips']} {'held-out ' if stable['unseen'] else ''}images"
    way = f"DDIM there and back in 20 steps, {images}, error on the scale [-1, 1]"
    lines.append(f"{way} by rounds of inversion per step: {', '.join(trips)}")
    share = f"{stable['out_of_range']:.1%} of {stable['trips']} images"
    lines.append(f"without clipping {share} leave [-1, 1] by more than 0.1")
    work = f"{cost['multiply_adds'] / 1e6:.1f} million multiply-adds"
    lines.append(f"a network evaluation of one image takes {work}")
    if cost["peak_memory"]:
        lines.append(f"this whole evaluation has used {cost['peak_memory'] / 1e6:.0f} MB")
    return "\n".join(lines + in_words(found) * ("features" in found))


def in_words(found):
    """Say in a few plain lines how well a model draws a user's own pictures.

    found: as for `report`, from images (N, H, W, C), with "drawn", how many -> list of lines
    """
    real, last = found["real"], found["samplers"][-1]
    lines = ["", f"In words, of {found['drawn']} pictures drawn with {title(last)}:"]
    share = lambda row: f"{np.mean(list(row['agreement'].values())):.0%}"
    if last["agreement"]:
        known = f"{share(real)} of unseen pictures" if real["agreement"] else "too few are held out"
        lines.append(f"- read as asked: {share(last)} (what the judge reads rightly: {known})")
    if distance := next((name for name in ("frechet", "energy") if name in last), None):
        far = f"{last[distance]:.2g} (real pictures: {real[distance]:.2g}; less is better)"
        lines.append(f"- distance of all of them from yours, by features: {far}")
    near = "variety, the share of yours that one of them looks like"
    for name, what in {"precision": "look like one of yours", "recall": near}.items():
        if name in last:
            lines.append(f"- {what}: {last[name]:.0%} (real pictures: {real[name]:.0%})")
    copies = f"{last['copies']:.0%} (real pictures: {real['copies']:.0%})"
    lines.append(f"- nearly copies of yours: {copies}")
    if "colours" in last:
        lines.append(
            f"- colours of a picture: {last['colours']:.0f} (yours: {real['colours']:.0f})"
        )
    for least in sorted({least for _, least in SCORES.values() if found["n"] < least}):
        missing = [name for name, (_, its) in SCORES.items() if its == least]
        lines.append(f"- left out, as it takes {2 * least} pictures: {', '.join(missing)}")
    return lines


def transfer_row(name, samples, truth, source, model, target, seconds, paper=1.0):
    """Measure a way of drawing subjects in another style, where the right image is known.

    samples: (k, N, H, W, C), k of each subject; truth, source: (N, H, W, C); model: a Classifier;
    target: what it should read, an int or (N, number of labels) ints; seconds: per image; paper:
    see metrics.silhouette_overlap
    -> dict: name, k, rmse (of single samples), of_mean, of_best (see metrics.rmse_of_mean,
    rmse_of_best), silhouette (the samples' overlap with the source), style (share of right
    readings, over all samples and labels), seconds
    """
    k, N = samples.shape[:2]
    drawn = samples.reshape(k * N, *samples.shape[2:])
    labels = np.tile(np.broadcast_to(target, (N, len(model.classes))), (k, 1))
    return {
        "name": name,
        "k": k,
        "rmse": metrics.rmse(samples, truth),
        "of_mean": metrics.rmse_of_mean(samples, truth),
        "of_best": metrics.rmse_of_best(samples, truth),
        "silhouette": metrics.silhouette_overlap(drawn, np.concatenate([source] * k), paper),
        "style": float(classifier.accuracy(model, drawn, labels).mean()),
        "seconds": seconds,
    }


def transfer_table(found):
    """Lay out rows of transfer_row, of images (N, H, W, C), as Markdown.

    found: list of dicts -> string; a single sample has no mean or best
    """
    measured = "RMSE of a sample | of the mean | of the best | overlap with the source | style"
    lines = [f"| way | {measured} | ms/image |", "| --- " * 7 + "|"]
    for row in found:
        k, several = row["k"], (row["of_mean"], row["of_best"])
        of_several = [f"{value:.3f} of {k}" if k > 1 else "" for value in several]
        rest = [f"{row['silhouette']:.2f}", f"{row['style']:.1%}", f"{1000 * row['seconds']:.1f}"]
        lines.append(" | ".join(["| " + row["name"], f"{row['rmse']:.3f}", *of_several, *rest]))
        lines[-1] += " |"
    return "\n".join(lines)


def quality(rows, floor):
    """Draw Fréchet distance against network evaluations, one line per sampler.

    rows: dicts with sampler, times, evaluations and frechet, as `rows` yields them from images
    (N, H, W, C); floor: the distance that real images have -> matplotlib Figure
    """
    figure = plot.figure(figsize=(6.5, 4), dpi=120, layout="constrained")
    axes, lines = figure.subplots(), {}
    for row in rows:
        points = lines.setdefault((row["sampler"], row["times"]), [])
        points.append((row["evaluations"], row["frechet"]))
    for i, ((name, times), points) in enumerate(lines.items()):
        label = name if times == "even" else f"{name}, {times} times"
        axes.plot(*zip(*sorted(points), strict=True), "o-", color=f"C{i}", label=label)
    axes.axhline(floor, color="0.5", linestyle="--", label="real images")
    axes.set(xscale="log", yscale="log")
    axes.set(xlabel="network evaluations per image", ylabel="Fréchet distance (lower is better)")
    axes.legend(frameon=False)
    return figure
