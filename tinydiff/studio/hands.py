"""Sliders for samplers and guidance: every drag is drawn by what stands in the package's place.

    hands.guidance()            # six portraits: how strongly, in how many steps, what is asked for
    hands.sampling()            # the same noises, other samplers: how far from the whole walk?
    hands.strength(photos)      # redraw photos from the noise of some time

Functions are looked up when they are called (sample.ddim, guide.classifier_free), so an answer that
a notebook has adopted draws at once.
"""

import numpy as np

from .. import data, sample
from ..design import edit
from ..design.pipeline import TIMES, Pipeline, evaluations
from .live import Hand, choice, dice, row, slider

ANY = "anything"
W_HINT = "0: labels ignored, 1: no guidance, more: stronger"
ASK = ("hat", "glasses", "hair-colour")  # of the portraits' labels


def guidance(pipe=None, ask=ASK, n=6, w=2.0, steps=10, interval=False, start=None):
    """Draw n pictures on request, live: w, steps, noise, and a choice for each label in `ask`.

    pipe: a Pipeline with labels, None = the portraits; w, steps: at first; interval: with sliders
    for the first and last time at which to guide; start: {"hat": "red"}, what is asked for at
    first, None = some value of the first label -> Hand
    """
    pipe = pipe or Pipeline.load("portraits")
    start, T = {ask[0]: pipe.labels[ask[0]][-2]} if start is None else start, pipe.s.T
    controls = [
        slider("w", "guidance w", w, 0, 8, 0.25, W_HINT),
        slider("steps", "steps", steps, 2, 25),
        dice(),
    ]
    controls += [wish(pipe, label, start.get(label, ANY)) for label in ask]
    if interval:
        controls.append(slider("high", "guide from", T, 0, T, 10))
        controls.append(slider("low", "down to", 0, 0, T, 10))

    def draw(w, steps, seed, high=T, low=0, **wishes):
        labels = np.tile(asked(pipe, wishes), (n, 1))
        within = None if (low, high) == (0, T) else (low, high)
        rng = np.random.default_rng(seed)
        *_, x0 = pipe.draw(labels, rng, steps=steps, w=w, interval=within)
        calls = evaluations(pipe.s, "ddim", steps, w)
        if within and w != 1:
            calls = steps + sum(low <= t <= high for t in sample.even_times(pipe.s, steps)[:-1])
        return {"rows": [row(x0)], "note": f"{calls} evaluations of the network per picture"}

    return Hand(controls, draw, "pictures drawn with guidance")


def wish(pipe, label, value=ANY):
    """Make the list from which one label's value is chosen: pipe, its name -> dict"""
    return choice(label, label.replace("-", " "), value, [ANY, *pipe.labels[label]])


def asked(pipe, wishes):
    """Turn what is chosen into labels: {"hat": "red", "glasses": "anything"} -> ints, one per label

    A label that is not there, or is to be anything, is dropped.
    """
    found = []
    for label, values in pipe.labels.items():
        value = wishes.get(label, ANY)
        found.append(len(values) if value == ANY else values.index(value))
    return np.array(found)


def sampling(pipe=None, n=6, calls=10, seed=5, reference=100):
    """Draw n pictures from the same noise by other samplers, live, and say how far off they are.

    The whole walk is heun's, with `reference` steps; distances are RMSE, black against white is 1.
    pipe: a Pipeline, None = the portraits; calls: of the network, at first -> Hand
    """
    pipe = pipe or Pipeline.load("portraits")
    s, size = pipe.s, pipe.model.size
    shape = (n, size, size, pipe.model.out)
    noise = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    known = []

    def chain_end(sampler, times, **more):
        eps_model, rng = pipe.eps_model(None), np.random.default_rng(0)
        sampler = getattr(sample, sampler)
        *_, x0 = sampler(eps_model, s, shape, rng, times=times, x_T=noise, clip=1.0, **more)
        return np.asarray(x0)

    def draw(sampler, calls, times, eta):
        if not known:
            known.append(chain_end("heun", sample.even_times(s, reference)))
        steps = (calls + 1) // 2 if sampler == "heun" else calls  # two calls per step but the last
        more = {"eta": eta} if sampler == "ddim" else {}
        x0 = chain_end(sampler, getattr(sample, f"{times}_times")(s, steps), **more)
        away = np.sqrt((((x0 - known[0]) / 2) ** 2).mean((1, 2, 3)))
        rows = [row(known[0], "the whole walk"), row(x0, captions=[f"{d:.3f}" for d in away])]
        rows[1]["label"] = f"{sampler}, {steps} steps: distance from the whole walk"
        return {"rows": rows, "note": f"mean distance {away.mean():.3f}"}

    controls = [
        choice("sampler", "sampler", "ddim", ["ddim", "heun", "dpmpp_2m"]),
        slider("calls", "network calls", calls, 2, 30),
        choice("times", "times", "even", list(TIMES)),
        slider("eta", "eta (ddim)", 0.0, 0, 1, 0.1, "fresh noise: 0 none, 1 as much as DDPM"),
    ]
    return Hand(controls, draw, "the same noises, drawn by another sampler")


def strength(photos=None, pipe=None, steps=12, value=0.6):
    """Redraw pictures from the noise of some time, live: edit.image_to_image.

    photos: (N, H, W, C), None = six held-out portraits; steps: from T, strength takes its share;
    value: strength at first -> Hand
    """
    pipe = pipe or Pipeline.load("portraits")
    photos = data.load("portraits").test[[0, 1, 4, 6, 7, 9]] if photos is None else photos

    def draw(strength, seed):
        rng, times = np.random.default_rng(seed), sample.even_times(pipe.s, steps)
        eps_model = pipe.eps_model(None)
        *_, x0 = edit.image_to_image(eps_model, pipe.s, photos, strength, rng, times, clip=1.0)
        t = round(strength * pipe.s.T)
        return {"rows": [row(photos, "given"), row(np.asarray(x0), f"redrawn from t = {t}")]}

    controls = [slider("strength", "strength", value, 0, 1, 0.05), dice()]
    return Hand(controls, draw, "pictures, redrawn")
