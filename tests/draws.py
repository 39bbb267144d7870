"""Exercises that draw, at work: the strip under a wrong answer, beside the one that should come.

DRAWS: {name: (what is drawn, function of f)}. The function draws with f, the student's or the
package's, always from the same noise -> images (N, 16, 16, 3) in [-1, 1], or a curve (N,) in
[0, 1]. What the exact denoisers draw are training images: a right answer draws clean ones.
"""

from functools import cache

import numpy as np

from tinydiff import data, diffusion, exact, sample, schedule

SHAPE = (6, 16, 16, 3)
TIMES = (1, 20, 40, 60, 80, 100)


@cache
def s():
    return schedule.from_betas(np.linspace(1e-3, 0.12, 100))  # no exercise, as linear is


@cache
def images(name, first=0, last=100):
    return data.load(name).train[first:last]


def model(name="portraits", first=0, last=100):
    return exact.dataset(s(), images(name, first, last))


def rng():
    return np.random.default_rng(3)


def noise():
    return rng().standard_normal(SHAPE)


def last(steps):
    *_, x = steps
    return x


def noised(signal_and_noise):
    """Draw one portrait at TIMES: signal_and_noise(x0, t, eps) -> image"""
    x0, eps = images("portraits")[40:41].astype(float), noise()[:1]
    return np.concatenate([signal_and_noise(x0, t, eps) for t in TIMES])


def read_off(predict_x0):
    """Take any picture for x_t; with the noise that then is in it, the portrait must come back."""

    def found(x0, t, eps):
        x_t = 0.5 * x0 + eps
        return predict_x0(s(), x_t, t, diffusion.predict_eps(s(), x_t, t, x0))

    return noised(found)


def step_by_step(q_step):
    x, generator, seen = images("portraits")[40:41].astype(float), rng(), []
    for t in range(1, s().T + 1):
        x = q_step(s(), x, t, generator.standard_normal(x.shape))
        seen += [x] if t in TIMES else []
    return np.concatenate(seen)


def solved(solver):
    return last(solver(model(), s(), SHAPE, rng(), list(range(100, -1, -10)), x_T=noise()))


def filled(inpaint):
    x0, mask = images("portraits", 100, 106).astype(float), np.ones((16, 16, 1))
    mask[:, 8:] = 0
    return last(inpaint(model(), s(), x0, mask, rng()))


def redrawn(image_to_image):
    x0 = images("portraits", 100, 106).astype(float)
    return last(image_to_image(model(), s(), x0, 0.6, rng()))


def tiled(tile):
    tiles = last(tile(model("patterns"), s(), (3, 16, 16, 3), rng(), x_T=noise()[:3]))
    return np.tile(tiles, (1, 2, 2, 1))


def along(slerp):
    a, b = (images("portraits")[k : k + 1].astype(float) for k in (40, 45))
    return np.concatenate([slerp(a, b, share) for share in np.linspace(0, 1, 6)])


def guided(classifier_free):
    eps_model = classifier_free(model(first=0, last=30), model(), 3.0)
    return last(sample.ddim(eps_model, s(), SHAPE, rng(), x_T=noise()))


AT = f"a portrait at t = {', '.join(map(str, TIMES))} of 100"
SIX = "six portraits, out of noise, drawn with the perfect denoiser"
NEW = "six portraits that the denoiser does not know"
CURVE = "alpha_bar over t, from 1 down to 0"
BACK = "the portrait, recovered from t = 1, 20, 40, 60, 80, 100"
TURNED = f"x0_hat where x_t is a portrait and v is noise, at t = {', '.join(map(str, TIMES))}"

DRAWS = {
    "schedule.linear": (CURVE, lambda linear: linear(200).alpha_bar),
    "schedule.cosine": (CURVE, lambda cosine: cosine(200).alpha_bar),
    "diffusion.q_step": (AT, step_by_step),
    "diffusion.q_sample": (AT, lambda f: noised(lambda x0, t, eps: f(s(), x0, t, eps))),
    "diffusion.predict_x0": (BACK, read_off),
    "diffusion.x0_from_v": (TURNED, lambda f: noised(lambda x0, t, eps: f(s(), x0, t, eps))),
    "sample.ddpm": (SIX, lambda f: last(f(model(), s(), SHAPE, rng(), x_T=noise()))),
    "sample.ddim": (SIX, solved),
    "sample.euler": (f"{SIX}, in ten steps", solved),
    "sample.heun": (f"{SIX}, in ten steps", solved),
    "sample.dpmpp_2m": (f"{SIX}, in ten steps", solved),
    "guide.classifier_free": ("six portraits towards the first 30 of 100, w = 3", guided),
    "edit.image_to_image": (f"{NEW}, redrawn with strength 0.6", redrawn),
    "edit.inpaint": (f"{NEW}, their right half drawn anew", filled),
    "edit.slerp": ("from one portrait to another along the arc", along),
    "edit.tile": ("three patterns, each tiled 2 x 2", tiled),
}
