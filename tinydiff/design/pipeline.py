"""A trained model ready to draw: which labels, how much guidance, which sampler.

    pipe = Pipeline.load("portraits")
    labels = np.tile(parse_labels(pipe.labels, ["hat=red", "glasses=dark"]), (8, 1))
    *_, x0 = pipe.draw(labels, rng, w=2.0)

The command line, evaluation and the lessons all draw with this.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .. import checkpoint, guide, sample
from ..schedule import Schedule
from ..streams import Streams
from ..train import denoiser
from ..unet import UNet, circular
from . import edit, large, paired, restore

SAMPLERS = ("ddpm", "ddim", "euler", "heun", "dpmpp_2m")  # functions of sample.py
TIMES = ("even", "quadratic", "snr", "karras")  # grids of sample.py: even_times, ...
PER_PIXEL = 50  # bytes for each channel at full size, at the network's widest place, as measured
TOGETHER = 2**28  # bytes for images that are drawn at once
WAYS = ("source", "inversion", "noise")  # of `restyle`


def parse_labels(labels, words):
    """Turn words such as "hat=red" into the row of labels that a network is conditioned on.

    labels: {"hat": ["none", "blue", ...], ...}; words: ["hat=red", "glasses=none"], or, where there
    is only one label, ["7"]: the name of a value, or its index where the names are not numbers
    -> (number of labels,) ints; a label that no word names is dropped: len(values), "any"
    Raises ValueError for a label or value that does not exist, or a label that is named twice.
    """
    if words and not labels:
        raise ValueError(f"the model takes no labels; got {words[0]!r}")
    row, named = np.array([len(values) for values in labels.values()], int), set()
    for word in words:
        label, value = _label_and_value(word, labels)
        if word in labels and not (label and value in labels[label]):
            values = ", ".join(labels[word])
            raise ValueError(f"{word} needs a value: {word}=VALUE, one of {values}")
        if label not in labels:
            use = f"{', '.join(labels)}, used as {next(iter(labels))}=VALUE"
            raise ValueError(f"no label {label or word!r}; there are: {use}")
        values = labels[label]
        numeric = any(v.isdecimal() for v in values)
        indices = [] if numeric else [str(i) for i in range(len(values))]
        if value not in [*values, *indices]:
            raise ValueError(f"{label} can't be {value!r}; it can be: {', '.join(values)}")
        if label in named:
            raise ValueError(f"{label} is asked for twice: one value per label")
        named.add(label)
        i = values.index(value) if value in values else indices.index(value)
        row[list(labels).index(label)] = i
    return row


def _label_and_value(word, labels):
    """Cut a word at the "=" after its label; a value, or a label's name, may have one, too.

    Where two labels could be meant, the one that has the rest among its values is, or the longer.
    """
    only = next(iter(labels)) if len(labels) == 1 else ""
    if only and word in labels[only]:
        return only, word
    could_be = [label for label in labels if word.startswith(f"{label}=")]
    cut = [(label, word[len(label) + 1 :]) for label in sorted(could_be, key=len, reverse=True)]
    if cut:
        return next((one for one in cut if one[1] in labels[one[0]]), cut[0])
    label, _, value = word.rpartition("=")
    return label or only, value


def evaluations(s, sampler, steps, w=1.0):
    """Count how often drawing one image evaluates the network; guidance (w != 1) doubles it -> int

    T with ddpm, 2 steps - 1 with heun, steps with the others
    """
    count = {"ddpm": s.T, "heun": 2 * steps - 1}.get(sampler, steps)
    return count if w == 1 else 2 * count


def _and(also, eps_model):
    """Guide an eps_model further, if also, a function from eps_model to eps_model, is not None."""
    return also(eps_model) if also else eps_model


def _end(chain, whole):
    """Give the last of a sampler's steps, (N, H, W, C), or the whole chain as a list of these."""
    if whole:
        return [np.asarray(x) for x in chain]
    (x,) = deque(chain, maxlen=1)
    return np.asarray(x)


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A trained network with all that drawing needs to know about it.

    model: a UNet, called as model(x_t (N, H, W, C), t (N,), labels); s: the Schedule it was trained
    with; labels: {"hat": ["none", "blue", ...], ...}, its labels and their values, in order;
    predict: what its output is, "eps" or "v"; dataset: name of the data set that it has learned;
    tick: called with the number of images after each evaluation of the network, or None
    pictures: of a model of a user's pictures: where these are, see checkpoint.py, or None
    flip, shift: the variants in which it was shown its pictures, see augment.ways
    """

    model: UNet
    s: Schedule
    labels: dict
    predict: str = "v"
    dataset: str = ""
    tick: Callable | None = None
    pictures: dict | None = None
    flip: bool = False
    shift: int = 0

    @classmethod
    def load(cls, name, tick=None):
        """Load a model that comes with tinydiff by its name, or any other by its file.

        name: "portraits", or a file that `train` or `export` wrote -> Pipeline, with the averaged
        weights. Raises CheckpointError as checkpoint.load does.
        """
        return cls.of(*checkpoint.ready(name), tick)

    @classmethod
    def of(cls, model, s, meta, tick=None):
        """Make a Pipeline of what checkpoint.ready gives: UNet, Schedule, meta -> Pipeline"""
        labels, trained = meta.get("labels", {}), meta.get("train", {})
        name, pictures = meta.get("dataset", ""), meta.get("pictures")
        how = {key: trained[key] for key in ("predict", "flip", "shift") if key in trained}
        return cls(model, s, labels, dataset=name, tick=tick, pictures=pictures, **how)

    @property
    def paired(self):
        """Tell whether the network takes a source image, see paired.beside -> bool"""
        return self.model.out < self.model.channels

    def eps_model(self, labels, w=1.0, avoid=None, interval=None, source=None):
        """Make an eps_model that draws given labels, by classifier-free guidance of strength w.

        labels: (N, number of labels) ints or None; w, interval: as in guide.classifier_free;
        avoid: (N, number of labels) ints, what guidance leads away from, None = no labels;
        source: (N, H, W, S), for paired networks: guidance then leads away from what is drawn for
        the same labels without it
        -> eps_model: (x_t (N, H, W, C), t int 1 .. T) -> eps_hat (N, H, W, C)
        """
        cond = uncond = self.model
        if self.paired:
            cond, uncond = paired.beside(self.model, source), paired.beside(self.model)
            avoid = labels if avoid is None and source is not None else avoid
        eps_cond = self._counted(denoiser(cond, self.s, labels, self.predict))
        if w == 1:
            return eps_cond
        eps_uncond = self._counted(denoiser(uncond, self.s, avoid, self.predict))
        return guide.classifier_free(eps_cond, eps_uncond, w, interval)

    def _counted(self, eps_model):
        """Let `tick` hear of each call of an eps_model."""
        if self.tick is None:
            return eps_model

        def counted(x_t, t):
            eps_hat = eps_model(x_t, t)
            self.tick(len(x_t))
            return eps_hat

        return counted

    def draw(
        self,
        labels,
        rng,
        sampler="ddim",
        steps=50,
        times="even",
        w=1.0,
        avoid=None,
        interval=None,
        source=None,
        size=None,
        also=None,
        whole=True,
    ):
        """Draw one image for each row of labels, with x0_hat clipped to [-1, 1].


        labels: (N, number of labels) ints; sampler: a name in SAMPLERS (ddim with eta = 0);
        steps: of the sampler, ddpm takes all T; times: a name in TIMES; w, avoid, interval, source:
        see eps_model; size: (H, W), None = the model's own; also: further guidance, a function
        from eps_model to eps_model; whole: whether all steps are kept
        -> list of (N, H, W, C), x_T .. x_0, or x_0 alone
        """
        eps_model = self.eps_model(labels, w, avoid, interval, source)
        eps_model = _and(also, eps_model)
        shape = self._shape(labels, size)
        if sampler == "ddpm":
            chain = sample.ddpm(eps_model, self.s, shape, rng, clip=1.0)
        else:
            grid = self.grid(steps, times)
            chain = getattr(sample, sampler)(eps_model, self.s, shape, rng, times=grid, clip=1.0)
        return _end(chain, True) if whole else [_end(chain, False)]

    def pieces(self, pictures, size=None, most=None):
        """Cut a list of pictures into pieces to draw one after another, in bounded memory.

        pictures: sequence of N ints; size: (H, W), None = the model's own; most: in a piece, at
        most, None = as many as TOGETHER bytes take -> list of such sequences
        """
        H, W = large.window(size) or size or (self.model.size, self.model.size)
        fit = max(1, TOGETHER // (PER_PIXEL * self.model.width * H * W))
        n = 1 if large.window(size) else min(fit, most or fit)
        return [pictures[i : i + n] for i in range(0, len(pictures), n)]

    def in_pieces(self, draw, pictures, seed, size=None, most=None):
        """Draw pictures some at a time: each has a stream of its own, so that changes none of them.

        draw: function of a piece, (n,) ints, and its rng -> list of (n, H, W, C), as of `draw`;
        pictures, size, most: see `pieces` -> list of (N, H, W, C)
        """
        chains = [draw(rows, Streams(seed, rows)) for rows in self.pieces(pictures, size, most)]
        return [np.concatenate(x) for x in zip(*chains, strict=True)]

    def tile(
        self,
        labels,
        rng,
        steps=50,
        times="even",
        w=1.0,
        avoid=None,
        size=None,
        also=None,
        whole=True,
    ):
        """Draw images that repeat without a seam, with ddim.

        edit.tile shifts them at each step, and the network sees the image as a tile, by
        unet.circular; large ones: large.spread, which sees windows
        labels, steps, times, w, avoid, size, also, whole: as in `draw` -> as `draw`
        """
        eps_model, grid = _and(also, self.eps_model(labels, w, avoid)), self.grid(steps, times)
        if large.window(size):
            small = [large.period(side, self.model.size, self.model.divisor) for side in size]
            (once,) = self.tile(labels, rng, steps, times, w, avoid, small, also, False)
            chain = large.spread(eps_model, self.s, once, size, rng, grid, clip=1.0)
            return _end(chain, True) if whole else [_end(chain, False)]
        with circular(self.model):
            shape = self._shape(labels, size)
            chain = edit.tile(eps_model, self.s, shape, rng, grid, clip=1.0)
            return _end(chain, True) if whole else [_end(chain, False)]

    def change(self, x0, before, after, rng, w=2.0, steps=20, whole=False, also=None):
        """Change images from one set of labels to another and leave the rest as it is.

        edit.change over 0.8 T and those of even_times(s, steps) below it, drawn with guidance w,
        x0_hat clipped to [-1, 1]
        x0: (N, H, W, C); before, after: (N, number of labels) ints; whole: see `_end`; also: as in
        `draw`, for what is drawn, not for finding what changes
        -> (N, H, W, C), x0 where the model sees nothing to change
        Source: Couairon et al. 2023 (DiffEdit); 0.8 was chosen on 100 of the pairs of
        data.load_edits.
        """
        s, models = self.s, (self.eps_model(before), self.eps_model(after))
        guided, times = _and(also, self.eps_model(after, w)), self._from(0.8, steps)
        return _end(edit.change(*models, s, x0, rng, times, guided, clip=1.0), whole)

    def restore(
        self,
        labels,
        y,
        A,
        sigma_y,
        cov,
        rng,
        steps=50,
        w=1.0,
        times="even",
        whole=False,
        also=None,
    ):
        """Draw what a degraded picture may have been, once for each row of labels.

        ddim with eta = 1 over so many times, a name in TIMES, x0_hat clipped to [-1, 1], guided by
        guide.by_x0_hat with the gradient restore.log_p_gradient, under guide.assume_gaussian
        y: (1, h, w, c), or one for each row; A, sigma_y, cov: how it was degraded, and the data's
        covariance, see restore.log_p_gradient; labels: (N, number of labels) ints; w: guidance
        -> (N, H, W, C), samples whose mean has the least error
        """
        believed = guide.assume_gaussian(self.eps_model(labels, w), self.s, cov)
        gradient = restore.log_p_gradient(self.s, y, A, sigma_y, cov)
        eps_model = _and(also, guide.by_x0_hat(believed, self.s, gradient))
        times = self.grid(steps, times)
        shape = self._shape(labels)
        chain = sample.ddim(eps_model, self.s, shape, rng, times, eta=1.0, clip=1.0)
        return _end(chain, whole)

    def restyle(
        self,
        images,
        to,
        rng,
        way="source",
        of=None,
        steps=50,
        w=1.0,
        strength=0.7,
        sampler="ddim",
        whole=False,
        also=None,
    ):
        """Draw images in another style, in one of three ways, of which two need no pairs.

        source: from noise, with the images as the network's source;  inversion: edit.translate,
        from the noise that style `of` makes the images of;  noise: edit.image_to_image, which hides
        what is finer than the noise. In the last two the network gets a style and no source.
        images: (N, H, W, C); to, of: names of styles; way: a name in WAYS; w: guidance;
        strength: 0 .. 1, how far up, in units of T, inversion and noise go: the further, the more
        of the style and the less of the images. All over even_times(s, steps), x0_hat clipped to
        [-1, 1]; source with a sampler as in `draw`, the others with ddim, inversion with two rounds
        -> (N, H, W, C)
        """

        def in_style(name, w=1.0):
            labels = np.full((len(images), 1), self.labels["style"].index(name))
            return self.eps_model(labels, w)

        s, times = self.s, self.grid(steps)
        if way == "source":
            labels = np.full((len(images), 1), self.labels["style"].index(to))
            chain = self.draw(labels, rng, sampler, steps, w=w, source=images, also=also)
        elif way == "inversion":
            times = self._from(strength, steps)
            there, back = in_style(of), _and(also, in_style(to, w))
            chain = edit.translate(there, back, s, images, times, rounds=2, clip=1.0)
        else:
            eps_model = _and(also, in_style(to, w))
            chain = edit.image_to_image(eps_model, s, images, strength, rng, times, clip=1.0)
        return _end(chain, whole)

    def alphabet(self, known, rng, steps=50, w=1.0, sampler="ddim", whole=False):
        """Complete an alphabet from a few of its letters, which stay as they are.

        known: {letter: (H, W, 1) in [-1, 1], white on black}; steps, w, sampler: as in `draw`;
        whole: see `_end` -> (26, H, W, 1)
        """
        letters, size = self.labels["letter"], self.model.size
        source = np.zeros((1, size, size, len(letters)), np.float32)
        for letter, picture in known.items():
            source[0, :, :, letters.index(letter)] = picture[..., 0]
        labels = np.arange(len(letters))[:, None]
        chain = self.draw(labels, rng, sampler=sampler, steps=steps, w=w, source=source)
        for letter, picture in known.items():
            chain[-1][letters.index(letter)] = picture
        return _end(chain, whole)

    def steps_below(self, share, steps, times="even"):
        """Count the steps from `share` of T down to 0, of so many from T, see restyle -> int"""
        return len(self._from(share, steps, times)) - 1

    def _shape(self, labels, size=None):
        return (len(labels), *(size or (self.model.size, self.model.size)), self.model.out)

    def grid(self, steps, times="even"):
        """List so many times from T, or near it, down, and 0; times: a name in TIMES -> list"""
        return getattr(sample, f"{times}_times")(self.s, steps)

    def _from(self, share, steps, times="even"):
        """List the times from `share` of T down: that one, then those of `grid` below it."""
        start = max(1, round(share * self.s.T))
        return [start, *(t for t in self.grid(steps, times) if t < start)]
