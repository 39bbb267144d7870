"""A plane to play on: click data into it, and watch noise flow there under an exact denoiser.

    plane.playground()

No network: the data are points of the plane, so E[x0 | x_t] can be computed (exact.dataset, with
one point exact.point, for the cloud exact.gaussian). A browser gets the whole walk at once, all
paths and the score field at all times, so t can be dragged without the kernel.
"""

import io

import numpy as np
from PIL import Image

from .. import exact, plot, sample, schedule
from .live import Hand, choice, dice, image_tag, slider

REACH = 3.0  # the plane is shown from -REACH to REACH
FIELD = 21  # arrows along each axis
MOMENTS = 50  # between which the field is shown
CLOUD = {"mean": (0.5, 0.3), "var": 0.2}
SAMPLERS = ("ddpm", "ddim", "heun")


def presets():
    """List the data to begin with -> {name: list of [x, y]}; none stand for the Gaussian cloud"""
    turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    half, cross = np.linspace(0, np.pi, 24), np.linspace(-1, 1, 15)
    up, down = [np.cos(half), np.sin(half)], [1 - np.cos(half), 0.5 - np.sin(half)]
    moons = 1.1 * (np.concatenate([up, down], 1).T - [0.5, 0.25])
    letter = np.concatenate(
        [
            np.stack([0.75 * cross, 0 * cross + 0.55], 1),
            np.stack([0 * cross[:12], np.linspace(-0.9, 1.3, 12)], 1),
            np.stack([0.62 - 0.62 * np.cos(half[::3] / 1.35), -0.9 - 0.45 * np.sin(half[::3])], 1),
        ]
    )
    wide = np.linspace(0.4, 1.6, 40)
    spiral = np.stack([wide * np.cos(5 * wide), wide * np.sin(5 * wide)], 1)
    known = {
        "two moons": moons,
        "ring": 1.3 * np.stack([np.cos(turn), np.sin(turn)], 1),
        "letter t": 1.15 * letter,
        "spiral": spiral,
        "three points": [[-1.2, -0.6], [1.2, -0.6], [0, 1.2]],
        "one point": [[0.8, 0.5]],
        "a Gaussian cloud": [],
        "nothing: click!": [[0, 0]],
    }
    return {name: np.round(points, 3).tolist() for name, points in known.items()}


def model_of(s, points):
    """Choose the exact denoiser: of one point, of several, or of the cloud where there is none.

    points: (M, 2) -> eps_model: (x_t (N, 2), t int 1 .. T) -> eps_hat (N, 2)
    """
    if len(points) == 0:
        return exact.gaussian(s, np.array(CLOUD["mean"]), CLOUD["var"])
    return exact.point(s, points[0]) if len(points) == 1 else exact.dataset(s, points)


def walk(eps_model, s, sampler, steps, n, seed):
    """Let n particles walk from noise: ddpm visits all times, the others `steps` of them.

    -> times, list of ints from T to 0; paths (len(times), n, 2)
    """
    rng = np.random.default_rng(seed)
    x_T = rng.standard_normal((n, 2))
    times = list(range(s.T, -1, -1)) if sampler == "ddpm" else sample.even_times(s, steps)
    more = {} if sampler == "ddpm" else {"times": times}
    chain = getattr(sample, sampler)(eps_model, s, x_T.shape, rng, x_T=x_T, **more)
    paths = np.stack([np.asarray(x) for x in chain])
    if paths.shape != (len(times), n, 2):
        raise ValueError(f"{sampler} gave {paths.shape[0]} arrays, {len(times)} were expected")
    return times, paths


def field(eps_model, s):
    """Compute the score at MOMENTS + 1 times, times the noise's standard deviation: -eps_hat.

    -> times, list of ints from T down to 1; (len(times), FIELD, FIELD, 2), rows from below
    """
    along = np.linspace(-REACH, REACH, FIELD + 2)[1:-1]
    grid = np.stack(np.meshgrid(along, along), -1).reshape(-1, 2)
    times = np.unique(np.linspace(1, s.T, MOMENTS + 1).round().astype(int))[::-1]
    arrows = [-eps_model(grid, int(t)).reshape(FIELD, FIELD, 2) for t in times]
    return times.tolist(), np.stack(arrows)


def packed(values, scale):
    """Make numbers small for the way to the browser: any shape, scale -> bytes of int16"""
    values = np.asarray(values)
    if not np.isfinite(values).all():
        raise ValueError("the walk holds values that are no numbers (NaN or infinite)")
    return np.clip(np.round(values * scale), -32767, 32767).astype("<i2").tobytes()


def playground(data="two moons", sampler="ddim", T=100, n=300, steps=20):
    """Play with exact denoisers in two dimensions: data to click, three samplers, paths and scores.

    data: a name in `presets`, or points [[x, y], ...] within -3 .. 3; sampler: "ddpm", "ddim" or
    "heun"; T: steps of the cosine schedule; n: particles; steps: of ddim and heun -> Hand
    Raises ValueError for another name.
    """
    s, known = schedule.cosine(T), presets()
    if isinstance(data, str) and data not in known:
        raise ValueError(f"no data {data!r}; there are: {', '.join(known)}")
    points = known[data] if isinstance(data, str) else np.asarray(data, float).tolist()

    def draw(points, sampler, steps, seed):
        at = np.array(points, dtype=np.float64).reshape(-1, 2)
        eps_model = model_of(s, at)
        times, paths = walk(eps_model, s, sampler, steps, n, seed)
        moments, arrows = field(eps_model, s)
        calls = {"ddpm": s.T, "heun": 2 * steps - 1}.get(sampler, steps)
        made = {"times": times, "paths": packed(paths, 4096), "n": n, "reach": REACH}
        made |= {"moments": moments, "field": packed(arrows, 4096), "across": FIELD}
        made |= {"alpha_bar": s.alpha_bar.tolist(), "points": at.tolist()}
        made["cloud"] = CLOUD if len(at) == 0 else None
        return made | {"note": f"{n} particles, {calls} evaluations of the denoiser each"}

    controls = [
        choice("points", "data", points, known),
        choice("sampler", "sampler", sampler, list(SAMPLERS)),
        slider("steps", "steps", steps, 2, T // 2, hint="of ddim and heun; ddpm takes all"),
        dice(),
    ]
    title = "particles on their way from noise to data, in the plane"
    return Hand(controls, draw, title, kind="plane", still=still)


# --- what stays without a kernel ---


def still(answer, title):
    """Draw the walk at four of its times: an answer, what is seen -> HTML"""
    if "paths" not in answer:
        return ""
    n, times, T = answer["n"], np.array(answer["times"]), len(answer["alpha_bar"]) - 1
    paths = np.frombuffer(answer["paths"], "<i2").reshape(len(times), n, 2) / 4096
    across, moments = answer["across"], np.array(answer["moments"])
    arrows = np.frombuffer(answer["field"], "<i2").reshape(len(moments), across, across, 2) / 4096
    along = np.linspace(-REACH, REACH, across + 2)[1:-1]
    figure = plot.figure(figsize=(9.6, 2.7), dpi=85, layout="constrained")
    few, every = slice(120), slice(None, None, 2)  # enough to be seen, in a small file
    for axes, share in zip(figure.subplots(1, 4), (1, 0.5, 0.2, 0), strict=True):
        t = round(share * T)
        k, m = np.abs(times - t).argmin(), np.abs(moments - t).argmin()
        u, v = np.moveaxis(arrows[m, every, every], -1, 0)
        size = 1 + np.hypot(u, v)
        axes.quiver(along[every], along[every], u / size, v / size, color="0.7", scale=14)
        axes.plot(*np.moveaxis(paths[: k + 1, few], -1, 0), color=plot.BLUE, lw=0.5, alpha=0.3)
        axes.plot(*np.array(answer["points"] or [CLOUD["mean"]]).T, "o", color=plot.ORANGE, ms=3.5)
        axes.plot(*paths[k, few].T, ".", color=plot.BLUE, ms=3)
        axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), xticks=[], yticks=[], aspect="equal")
        axes.set_title(f"t = {t}", fontsize=10)
        axes.spines[:].set_color("0.8")
    picture = Image.open(io.BytesIO(figure._repr_png_())).convert("RGB")
    return image_tag(np.asarray(picture), title, colours=24)
