"""Draw with a trained model: what is wished for, how strongly, with which sampler. Command line, evaluation and lessons all draw here."""

import numpy as np

from . import edit, guide, restore, sample, style
from .train import denoiser
from .unet import circular

SAMPLERS = ("ddpm", "ddim", "euler", "heun", "dpmpp_2m")  # functions of sample.py
WAYS = ("source", "inversion", "noise")  # of `restyle`
TIMES = ("even", "quadratic", "snr", "karras")  # grids of sample.py: even_times, ...


def wishes(labels, words):
    """Turn words into the row of labels that a network is told.

    labels: {"hat": ["none", "blue", ...], ...}; words: ["hat=red", "glasses=none"], or, where there is one label only, ["7"]: a value's
    name, or its index where the names are no numbers -> labels of one image, ints; what no word names is "not said", len(values)
    Raises ValueError for a label or a value that does not exist, and for a label that is named twice.
    """
    row, named = np.array([len(values) for values in labels.values()]), set()
    for word in words:
        label, _, value = word.rpartition("=")
        label = next(iter(labels)) if not label and len(labels) == 1 else label
        if label not in labels:
            raise ValueError(f"no label {label or word!r}; there are: {', '.join(labels)}, used as {next(iter(labels))}=VALUE")
        values = labels[label]
        indices = [] if any(v.isdecimal() for v in values) else [str(i) for i in range(len(values))]
        if value not in [*values, *indices]:
            raise ValueError(f"{label} can't be {value!r}; it can be: {', '.join(values)}")
        if label in named:
            raise ValueError(f"{label} is asked for twice: one value a label")
        named.add(label)
        row[list(labels).index(label)] = values.index(value) if value in values else indices.index(value)
    return row


def guided(model, s, about, labels, w=1.0, avoid=None, interval=None, source=None):
    """Make a network into an eps_model that draws labels, with classifier-free guidance of strength w away from what it draws untold.

    labels: (N, number of labels) ints or None; w, interval: as in guide.classifier_free; avoid: (N, number of labels) ints, labels to keep
    away from, None = none said; source: (N, H, W, S), for networks that look at one, see style.beside: then guidance leads away from what
    is drawn for the same labels without it -> eps_model: (x_t (N, H, W, C), t int 1 .. T) -> eps_hat (N, H, W, C)
    """
    predict, untold = about["train"]["predict"], avoid
    told = untold_model = model
    if model.out < model.channels:
        told, untold_model = style.beside(model, source), style.beside(model)
        untold = labels if avoid is None and source is not None else avoid
    eps_model = denoiser(told, s, labels, predict)
    return eps_model if w == 1 else guide.classifier_free(eps_model, denoiser(untold_model, s, untold, predict), w, interval)


def draw(
    model,
    s,
    about,
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
):
    """Sample an image for each row of labels, with x0_hat kept in [-1, 1].

    labels: (N, number of labels) ints; sampler: a name in SAMPLERS (ddim with eta = 0); steps: of the sampler, ddpm takes all T;
    times: a name in TIMES; w, avoid, interval, source: see `guided`; size: (H, W), None = the model's;
    also: further guidance, a function from eps_model to eps_model -> list of (N, H, W, C), x_T .. x_0
    """
    eps_model = guided(model, s, about, labels, w, avoid, interval, source)
    eps_model = also(eps_model) if also else eps_model
    shape = (len(labels), *(size or (model.size, model.size)), model.out)
    if sampler == "ddpm":
        chain = sample.ddpm(eps_model, s, shape, rng, clip=1.0)
    else:
        grid = getattr(sample, f"{times}_times")(s, steps)
        chain = getattr(sample, sampler)(eps_model, s, shape, rng, times=grid, clip=1.0)
    return [np.asarray(x) for x in chain]  # fetched from the graphics card, if the kernels work there


def tiles(model, s, about, labels, rng, steps=50, times="even", w=1.0, avoid=None, interval=None, size=None):
    """Sample images that repeat without a seam, as `draw` does with ddim: edit.tile's rolls, seen by the network as tiles (unet.circular).

    labels, steps, times, w, avoid, interval, size: as in `draw` -> list of (N, H, W, C), x_T .. x_0
    """
    shape = (len(labels), *(size or (model.size, model.size)), model.out)
    grid = getattr(sample, f"{times}_times")(s, steps)
    with circular(model):
        return list(edit.tile(guided(model, s, about, labels, w, avoid, interval), s, shape, rng, grid, clip=1.0))


def restyle(model, s, about, images, to, rng, way="source", of=None, steps=50, w=1.0, strength=0.7):
    """Draw images once more in another style, in one of three ways, of which two need no pairs to learn from.

    source: from noise, the network looking at the images;  inversion: edit.translate, from the noise that style `of` makes the images of;
    noise: edit.image_to_image, which hides what is finer than the noise. In the last two the network is told a style and looks at nothing.
    images: (N, H, W, C); to, of: names of styles; way: a name in WAYS; w: guidance; strength: 0 .. 1, how far up, in units of T, inversion
    and noise go: the further, the more of the style and the less of the images. All with ddim over even_times(s, steps), from there on;
    x0_hat in [-1, 1]; inversion with two rounds -> (N, H, W, C)
    """

    def told(name, w=1.0, source=None):
        return guided(model, s, about, np.full((len(images), 1), about["labels"]["style"].index(name)), w, source=source)

    times = sample.even_times(s, steps)
    if way == "source":
        *_, x = sample.ddim(told(to, w, images), s, images.shape, rng, times, clip=1.0)
    elif way == "inversion":
        start = max(1, round(strength * s.T))
        times = [start, *(t for t in times if t < start)]
        *_, x = edit.translate(told(of), told(to, w), s, images, times, rounds=2, clip=1.0)
    else:
        *_, x = edit.image_to_image(told(to, w), s, images, strength, rng, times, clip=1.0)
    return np.asarray(x)


def alphabet(model, s, about, known, rng, steps=50, w=1.0):
    """Complete an alphabet from a few of its letters, which stay as they are.

    known: {letter: (H, W, 1) in [-1, 1], white on black}; w: guidance -> (26, H, W, 1)
    """
    letters = about["labels"]["letter"]
    source = np.zeros((1, model.size, model.size, len(letters)), np.float32)
    for letter, picture in known.items():
        source[0, :, :, letters.index(letter)] = picture[..., 0]
    x = draw(model, s, about, np.arange(len(letters))[:, None], rng, steps=steps, w=w, source=source)[-1]
    for letter, picture in known.items():
        x[letters.index(letter)] = picture
    return x


def change(model, s, about, x0, before, after, rng, w=2.0, steps=20):
    """Change what labels say of images and leave the rest as it is: find where the two tellings disagree, draw that part anew.

    keep = edit.difference(told before, told after, s, x0, 0.6 T, rng, 5 draws) < 0.2
    edit.translate from told before to told after, guided by w, x0_hat in [-1, 1], over 0.8 T and those of even_times(s, steps) below it
    x0: (N, H, W, C); before, after: (N, number of labels) ints -> (N, H, W, C), x0 where keep. Source: Couairon et al. 2023 (DiffEdit);
    the numbers were chosen on 100 of the pairs of data.load_edits.
    """
    told, start = guided(model, s, about, before), round(0.8 * s.T)
    times = [start, *(t for t in sample.even_times(s, steps) if t < start)]
    keep = edit.difference(told, guided(model, s, about, after), s, x0, round(0.6 * s.T), rng, 5) < 0.2
    *_, x = edit.translate(told, guided(model, s, about, after, w), s, x0, times, keep=keep, clip=1.0)
    return np.asarray(x)


def restored(model, s, about, labels, y, A, sigma_y, cov, rng, steps=50, w=1.0):
    """Draw what a degraded picture may have been, once for each row of labels: `guided`, with guide.assume_gaussian, by the picture.

    ddim with eta = 1 over even_times(s, steps), x0_hat in [-1, 1], the gradient in guide.by_x0_hat that of restore.log_p_gradient
    y: (1, h, w, c), or one for each row; A, sigma_y, cov: how it was degraded, and the data's covariance, see restore.log_p_gradient;
    labels: (N, number of labels) ints; w: guidance -> (N, H, W, C), whose mean has the least error
    """
    believed = guide.assume_gaussian(guided(model, s, about, labels, w), s, cov)
    eps_model = guide.by_x0_hat(believed, s, restore.log_p_gradient(s, y, A, sigma_y, cov))
    shape = (len(labels), model.size, model.size, model.out)
    *_, x = sample.ddim(eps_model, s, shape, rng, sample.even_times(s, steps), eta=1.0, clip=1.0)
    return np.asarray(x)


def evaluations(s, sampler, steps, w=1.0):
    """Count how often `draw` asks the network for an image: T in ddpm, 2 steps - 1 in heun, else steps; doubled unless w = 1 -> int"""
    asked = {"ddpm": s.T, "heun": 2 * steps - 1}.get(sampler, steps)
    return asked if w == 1 else 2 * asked
