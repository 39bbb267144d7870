"""lessons/ERRATA.md and LETTERS.md, computed again: every bold number and equation they print.

An erratum has a right line and a slip. Below is, once, plain code with one of the two; the other is
put in its place, both are run, and the results must be the bold numbers of the page, digit for
digit. So the lines on the page are the lines that were measured.
"""

import inspect
import math
import re
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest
from test_edit import correlated, images, white
from test_edit import law as law_of_images
from test_sample import LONG, MEAN, NOISE, T8, VAR, forward, law, learned_law, quiet
from test_solvers import EVEN

from lessons import LESSONS, ROOT
from tinydiff import diffusion, exact, guide, kernels, sample, schedule
from tinydiff.beyond import flow
from tinydiff.nn import time_embedding

ERRATA = (LESSONS / "ERRATA.md").read_text(encoding="utf-8")
LETTERS = (LESSONS / "LETTERS.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def on_the_reference_kernels():
    before = kernels._active
    kernels.use("reference")
    yield
    kernels._active = before


ERRATUM = re.compile(
    r"^### (.+)\n\n```text\n(.+?) +# slip\n(.+?) +# right\n```\n\n"
    r"((?:.+\n)+)\nLessons? (.+)\. Caught by `(test_\w+\.py)::(\w+)`\.$",
    re.M,
)


def errata(page):
    """Read a page of slips -> list of (name, slip, right, effect, lessons, file, test)"""
    return ERRATUM.findall(page)


def bold(text):
    return re.findall(r"\*\*([^*]+)\*\*", text)


# --- plain code, in which one line is exchanged ---


def q_sample(s, x0, t, eps):
    return np.sqrt(s.alpha_bar[t]) * x0 + np.sqrt(1 - s.alpha_bar[t]) * eps


def denoise(s, x_t, t, eps_hat, fresh):
    return (x_t - np.sqrt(1 - s.alpha_bar[t]) * eps_hat) / np.sqrt(s.alpha_bar[t])


def cosine_betas(T, offset=0.008):
    f = np.cos((np.arange(T + 1) / T + offset) / (1 + offset) * np.pi / 2) ** 2
    return np.minimum(1 - f[1:] / f[:-1], 0.999)


def linear_betas(T):
    return np.linspace(1e-4, 0.02, T) * 1000 / T


def draw_times(s, rng, size):
    return rng.integers(1, s.T + 1, size=size)


def from_v(s, x_t, t, v):
    return np.sqrt(s.alpha_bar[t]) * v + np.sqrt(1 - s.alpha_bar[t]) * x_t


def dropped(labels, share, rng):
    u = rng.random((len(labels), 1)) ** (1 / share - 1)
    return rng.random(labels.shape) < u


def embedded_time(t, E=64):
    return time_embedding(1000 * t, E)


def ddpm(eps_model, s, rng, x):
    for t in range(s.T, 0, -1):
        z = rng.standard_normal(x.shape) if t > 1 else np.zeros(x.shape)
        eps_hat = eps_model(x, t)
        c0 = np.sqrt(s.alpha_bar[t - 1]) * s.beta[t] / (1 - s.alpha_bar[t])
        ct = np.sqrt(s.alpha[t]) * (1 - s.alpha_bar[t - 1]) / (1 - s.alpha_bar[t])
        x0_hat = (x - np.sqrt(1 - s.alpha_bar[t]) * eps_hat) / np.sqrt(s.alpha_bar[t])
        x = c0 * x0_hat + ct * x + np.sqrt(s.beta_tilde[t]) * z
        yield x


def ddpm_var(eps_model, s, rng, x):
    var = s.beta_tilde
    for t in range(s.T, 0, -1):
        z = rng.standard_normal(x.shape)
        mean, _ = diffusion.q_posterior(s, diffusion.predict_x0(s, x, t, eps_model(x, t)), x, t)
        x = mean + np.sqrt(var[t]) * z
        yield x


def ddpm_by_eps(eps_model, s, rng, x):
    for t in range(s.T, 0, -1):
        z = rng.standard_normal(x.shape) if t > 1 else np.zeros(x.shape)
        part = s.beta[t] / np.sqrt(1 - s.alpha_bar[t]) * eps_model(x, t)
        x = (x - part) / np.sqrt(s.alpha[t]) + np.sqrt(s.beta_tilde[t]) * z
        yield x


def ddim(eps_model, s, times, rng, x, eta=0.0, clip=np.inf):
    visited = list(times)
    for i in range(len(visited) - 1):
        t = visited[i]
        u = visited[i + 1]
        eps_hat = eps_model(x, t)
        x0_hat = (x - np.sqrt(1 - s.alpha_bar[t]) * eps_hat) / np.sqrt(s.alpha_bar[t])
        x0_hat = np.clip(x0_hat, -clip, clip)
        eps_hat = (x - np.sqrt(s.alpha_bar[t]) * x0_hat) / np.sqrt(1 - s.alpha_bar[t])
        leap = s.alpha_bar[t] / s.alpha_bar[u]
        sigma = eta * np.sqrt((1 - s.alpha_bar[u]) / (1 - s.alpha_bar[t]) * (1 - leap))
        left = np.maximum(1 - s.alpha_bar[u] - sigma**2, 0)
        x = np.sqrt(s.alpha_bar[u]) * x0_hat + np.sqrt(left) * eps_hat
        x = x + (sigma * rng.standard_normal(x.shape) if eta else 0)
        yield x


def visited_times(T, steps):
    return [round(T * (steps - i) / steps) for i in range(steps + 1)]


def sigma(s, t):
    return np.sqrt((1 - s.alpha_bar[t]) / s.alpha_bar[t])


def edm_euler(eps_model, s, times, noise):
    x = sigma(s, times[0]) * noise
    for t, u in pairwise(times):
        d = eps_model(np.sqrt(s.alpha_bar[t]) * x, t)
        x = x + (sigma(s, u) - sigma(s, t)) * d
        yield x


def heun(eps_model, s, times, x):
    for t, u in pairwise(times):
        slope = eps_model(x, t)
        there = diffusion.q_sample(s, diffusion.predict_x0(s, x, t, slope), u, slope)
        slope = (slope + eps_model(there, u)) / 2
        x = diffusion.q_sample(s, diffusion.predict_x0(s, x, t, slope), u, slope)
        yield x


def dpmpp_2m(eps_model, s, times, x):
    old, lam = None, -np.log(sigma(s, np.arange(1, s.T + 1)))
    for i in range(len(times) - 1):
        t, u = times[i], times[i + 1]
        x0_hat = D = diffusion.predict_x0(s, x, t, eps_model(x, t))
        if old is not None:
            r = (lam[t - 1] - lam[times[i - 1] - 1]) / (lam[u - 1] - lam[t - 1])
            D = x0_hat + (x0_hat - old) / (2 * r)
        x = diffusion.q_sample(s, D, u, diffusion.predict_eps(s, x, t, D))
        old = x0_hat
        yield x


def inpaint(eps_model, s, x0, mask, rng, x):
    for t in range(s.T, 0, -1):
        *_, x = ddim(eps_model, s, (t, t - 1), rng, x, eta=1.0)
        z = rng.standard_normal(x.shape)
        known = np.sqrt(s.alpha_bar[t - 1]) * x0 + np.sqrt(1 - s.alpha_bar[t - 1]) * z
        x = mask * known + (1 - mask) * x
        yield x


def guided(cond, uncond, w):
    return uncond + w * (cond - uncond)


def between(a, b, share, angle):
    return (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)


def follow(velocity, times, x):
    for t, u in pairwise(times):
        x = x + (u - t) * velocity(x, t)
        yield x


def frechet(real, fake):
    gap, S, Q = real.mean(0) - fake.mean(0), np.cov(real.T), np.cov(fake.T)
    values = np.linalg.eigvals(S @ Q).real
    return gap @ gap + np.trace(S + Q) - 2 * np.sqrt(np.maximum(values, 0)).sum()


def compare(real, fake):
    return frechet(real, fake)


def kernel_distance(real, fake):
    def kappa(a, b):
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(x):
        table = kappa(x, x)
        return (table.sum() - np.trace(table)) / (len(x) * (len(x) - 1))

    return within(real) + within(fake) - 2 * kappa(real, fake).mean()


def precision(real, fake, k=3):
    own = np.linalg.norm(real[:, None] - real, axis=2)
    radius = np.sort(own, axis=1)[:, k]
    return (np.linalg.norm(real[:, None] - fake, axis=2) <= radius[:, None]).any(0).mean()


# --- what is measured ---

MODEL = {id(s): exact.gaussian(s, MEAN, VAR) for s in (T8, LONG, EVEN)}
FIFTY = visited_times(1000, 50)
MEASURES = {}  # name of the erratum -> plain code, measurement


def erratum(name, plain):
    def note(measure):
        MEASURES[name] = plain, measure
        return measure

    return note


def of_ddpm(run, s, x_T=NOISE):
    """Mean and standard deviation of x_0, exact; run(eps_model, s, rng, x_T): like sample.ddpm"""
    return law(lambda rng, shape, x: run(MODEL[id(s)], s, rng, x), s, x_T)


def of_ddim(run, s, times, x_T=NOISE, model=None, eta=0.0):
    return law(lambda rng, shape, x: run(model or MODEL[id(s)], s, times, rng, x, eta), s, x_T)


def of_flow(run, times, x_T=NOISE):
    """As above for samplers without noise: run(times, x) -> what they yield."""
    *_, x = run(times, np.array([[0.0], [1.0]]))
    return x[0, 0] + (x[1, 0] - x[0, 0]) * x_T[0], abs(x[1, 0] - x[0, 0]) * math.sqrt(x_T[1])


def printed(*numbers):
    """Write each number, (value, digits) or a word, as the page does; no zero has a sign."""
    texts = [n if isinstance(n, str) else f"{n[0]:.{n[1]}f}" for n in numbers]
    return [re.sub(r"^-(0\.?0*)$", r"\1", text) for text in texts]


@erratum("noise scaled by its variance", q_sample)
def _(right, slip):
    s = schedule.cosine()
    var = s.beta.copy()
    var[1] = 0
    return printed((learned_law(slip, s, var)[1], 3), (learned_law(right, s, var)[1], 3))


@erratum("alpha_bar shifted by one", q_sample)
def _(right, slip):
    means = lambda s, digits: ((learned_law(q, s)[0], digits) for q in (slip, right))
    return printed(*means(LONG, 4), *means(T8, 2))


@erratum("noisy minus fresh noise", denoise)
def _(right, slip):
    t, numbers = 3, []
    signal, noise = math.sqrt(T8.alpha_bar[t]), math.sqrt(1 - T8.alpha_bar[t])
    for f in (slip, right):
        # its parts of x0, eps and fresh noise, in each of which it is linear
        x0, eps, fresh = (f(T8, signal * a + noise * b, t, b, c) for a, b, c in np.eye(3))
        std = math.sqrt(x0**2 * VAR + eps**2 + fresh**2)
        numbers += [(x0 * MEAN, 2), (std, 2)]
    return printed(*numbers)


@erratum("cosine betas clipped from below", cosine_betas)
def _(right, slip):
    wrong, good = quiet(schedule.from_betas, slip(1000)), schedule.from_betas(right(1000))
    low = [(int((good.beta[1:] < floor).sum()), 0) for floor in (0.01, 0.0001)]
    return printed(low[0], (wrong.alpha_bar[500], 4), (good.alpha_bar[500], 4), low[1])


@erratum("betas for T = 1000 at T = 50", linear_betas)
def _(right, slip):
    numbers = []
    for betas in (slip(50), right(50)):
        s = quiet(schedule.from_betas, betas)
        model, var = exact.gaussian(s, MEAN, VAR), exact.gaussian_variance(s, VAR)
        numbers += [(s.snr[50], 5 if s.snr[50] < 0.1 else 2)]
        run = lambda rng, shape, x: sample.ddpm(model, s, shape, rng, x, var)
        numbers += [(law(run, s, NOISE)[0], 2)]
    return printed(*numbers)


@erratum("times drawn from 0 to T - 1", draw_times)
def _(right, slip):
    numbers = []
    for draw in (slip, right):
        seen = set(draw(T8, np.random.default_rng(0), 1000))
        # at other times the network predicts 0, as it does at first
        model = lambda x, t: MODEL[id(T8)](x, t) * float(t in seen)
        numbers += [(n, 2) for n in of_ddim(ddim, T8, range(8, -1, -1), forward(T8, 8), model)]
    return printed(*numbers)


@erratum("v handed over as if it were eps", from_v)
def _(right, slip):
    def v_model(x, t):
        eps_hat = MODEL[id(LONG)](x, t)
        return diffusion.v_target(LONG, diffusion.predict_x0(LONG, x, t, eps_hat), t, eps_hat)

    numbers = []
    for f in (slip, right):
        model = lambda x, t: f(LONG, x, t, v_model(x, t))
        numbers += [(number, 2) for number in of_ddim(ddim, LONG, FIFTY, model=model)]
    return printed(*numbers)


@erratum("a network that does not get t", ddim)
def _(right, slip):
    """The best answer to x alone averages over all t, each weighted by its density at x.

    The distribution is followed by its quantiles.
    """
    t = np.arange(1, LONG.T + 1)
    centre, var = np.sqrt(LONG.alpha_bar[t]) * MEAN, LONG.alpha_bar[t] * VAR + 1 - LONG.alpha_bar[t]
    line = np.linspace(-6, 6, 601)[:, None]
    weight = np.exp(-((line - centre) ** 2) / (2 * var)) / np.sqrt(var)
    noise = np.sqrt(1 - LONG.alpha_bar[t]) / var * (line - centre)
    answer = (weight * noise).sum(1) / weight.sum(1)

    def model(x, t=None):
        return MODEL[id(LONG)](x, t) if t else np.interp(x, line[:, 0], answer)

    bell = np.array([NormalDist().inv_cdf((i + 0.5) / 4000) for i in range(4000)])
    ends = [list(run(model, LONG, FIFTY, None, bell))[-1] for run in (slip, right)]
    return printed(*((number, 2) for x in ends for number in (x.mean(), x.std())))


@erratum("labels dropped one by one", dropped)
def _(right, slip):
    labels = np.zeros((200_000, 9), int)
    shares = [(f(labels, 0.3, np.random.default_rng(0)).all(1).mean(), 3) for f in (slip, right)]
    return printed((0.3**9 * 1e6, 0), *shares)


@erratum("t in [0, 1] given as it is", embedded_time)
def _(right, slip):
    t = np.array([0.4, 0.5])
    return printed(*((np.linalg.norm(np.diff(f(t), axis=0)), 2) for f in (slip, right)))


def means(s, digits, *runs):
    """The mean of x_0 from the true x_T, for each sampler, with its digits."""
    return [(of_ddpm(run, s, forward(s, s.T))[0], digits) for run in runs]


def stds(s, digits, *runs):
    """The standard deviation of x_0 from the true x_T, for each sampler, with its digits."""
    return [(of_ddpm(run, s, forward(s, s.T))[1], digits) for run in runs]


@erratum("no noise at two steps", ddpm)
def _(right, slip):
    return printed(*stds(T8, 4, slip, right))


@erratum("noise times variance in the sampler", ddpm)
def _(right, slip):
    return printed(*stds(T8, 3, slip, right), *stds(LONG, 3, slip, right))


@erratum("the loop ends at 2", ddpm)
def _(right, slip):
    return printed(*means(T8, 3, slip, right), *means(LONG, 4, slip, right))


@erratum("one z for all steps", ddpm)
def _(right, slip):
    return printed(*stds(T8, 2, slip, right), *stds(LONG, 2, slip, right))


@erratum("alpha_bar[t] for alpha_bar[t - 1]", ddpm)
def _(right, slip):
    return printed(*means(T8, 2, slip, right), *means(LONG, 2, slip, right))


@erratum("alpha for alpha_bar", ddpm_by_eps)
def _(right, slip):
    return printed(*((n, 2) for run in (slip, right) for n in of_ddpm(run, T8, forward(T8, 8))))


@erratum("beta or beta_tilde, as if it made no difference", ddpm_var)
def _(right, slip):
    no_noise_at_1 = "var = np.where(np.arange(s.T + 1) > 1, s.beta, 0)"
    beta = planted(ddpm_var, "var = s.beta_tilde", no_noise_at_1)
    return printed(*stds(T8, 4, slip, beta, right), *stds(LONG, 4, slip, beta, right))


@erratum("a minus for a plus", ddim)
def _(right, slip):
    return printed(*((n, 3) for run in (slip, right) for n in of_ddim(run, LONG, FIFTY)))


@erratum("only the first steps", ddim)
def _(right, slip):
    return printed(*((n, 2) for run in (slip, right) for n in of_ddim(run, LONG, FIFTY)))


@erratum("sigma on top", ddim)
def _(right, slip):
    return printed(*((of_ddim(run, LONG, FIFTY, eta=1.0)[1], 3) for run in (slip, right)))


@erratum("the next time computed again", ddim)
def _(right, slip):
    even, spread = range(1000, -1, -100), [round(i) + 1 for i in np.linspace(999, 0, 10)] + [0]
    widths = [(of_ddim(run, LONG, list(even))[1], 3) for run in (slip, right)]
    both = [(n, 3) for run in (slip, right) for n in of_ddim(run, LONG, spread)]
    return printed(*widths, *both)


@erratum("the last step ends at 1", ddim)
def _(right, slip):
    ends = [of_ddim(run, T8, (8, 6, 4, 2, 0), forward(T8, 8)) for run in (slip, right)]
    widths = [(of_ddim(run, LONG, FIFTY)[1], 4) for run in (slip, right)]
    return printed(*((n, 3) for end in ends for n in end), *widths)


@erratum("steps that never visit T", visited_times)
def _(right, slip):
    s, numbers = schedule.cosine(), []
    model = exact.gaussian(s, MEAN, VAR)
    for steps in (10, 50):
        for f in (slip, right):
            numbers += [(of_ddim(ddim, s, f(1000, steps), model=model)[0], 2)]
    return printed((slip(1000, 10)[0], 0), *numbers)


@erratum("clipping left on", ddim)
def _(right, slip):
    bell = np.array([[NormalDist().inv_cdf((i + 0.5) / 1000)] for i in range(1000)])
    ends = [list(run(MODEL[id(LONG)], LONG, FIFTY, None, bell))[-1] for run in (slip, right)]
    return printed(*((number, 3) for x in ends for number in (x.mean(), x.std())))


@erratum("Heun at the old sigma", heun)
def _(right, slip):
    return printed(*((order(run, 1 / 2), 2) for run in (slip, right)))


@erratum("step ratio taken for 1", dpmpp_2m)
def _(right, slip):
    return printed(*((order(run, share), 2) for share in (1 / 2, 1 / 3) for run in (slip, right)))


def order(run, share):
    """How the error at t = 1 falls when all steps are halved, 80 to 160.

    Pairs of steps are split at this share of their length.
    """
    s, x = EVEN, np.array([[-1.3], [0.4], [2.2]])
    (mean, var), (mean_1, var_1) = forward(s, s.T), forward(s, 1)
    want, errors = mean_1 + math.sqrt(var_1 / var) * (x - mean), []
    for pair in (24, 12):
        between = range(1 + round(pair * share), s.T, pair)
        times = sorted({*range(1, s.T + 1, pair), *between}, reverse=True)
        *_, x_1 = run(MODEL[id(s)], s, times, x)
        errors.append(np.abs(x_1 - want).max())
    return math.log2(errors[0] / errors[1])


def of_edm(run):
    return of_flow(lambda times, x: run(MODEL[id(LONG)], LONG, times, x), FIFTY)


@erratum("c_in forgotten", edm_euler)
def _(right, slip):
    return printed((of_edm(slip)[1], 0), (of_edm(right)[1], 2))


@erratum("sigma_max forgotten", edm_euler)
def _(right, slip):
    ends = of_edm(slip), of_edm(right)
    return printed((sigma(LONG, 1000), 0), *((n, 2) for end in ends for n in end))


@erratum("the velocity the other way round", follow)
def _(right, slip):
    def velocity(x, t):
        """E[eps - x0 | x_t] for data N(2, 0.5^2) on the straight path."""
        total = (1 - t) ** 2 * VAR + t**2
        away = x - (1 - t) * MEAN
        return t / total * away - MEAN - (1 - t) * VAR / total * away

    end = lambda run: of_flow(lambda times, x: run(velocity, times, x), np.linspace(1, 0, 51))
    ends = end(slip), end(right)
    return printed(*((n, 2) for end in ends for n in end))


# two values N(2, 0.5^2) with correlation 0.9
PAIR = np.full(2, MEAN), VAR * np.array([[1, 0.9], [0.9, 1]])


@erratum("RePaint's line 5 as printed", inpaint)
def _(right, slip):
    """The first value is known to be 2.5: the other should be N(2.45, 0.218^2)."""
    model, mask = correlated(T8, *PAIR), np.array([1.0, 0]).reshape(1, 2, 1)
    known, numbers = np.array([2.5, 0.0]), []
    for f in (slip, right):
        run = lambda rng, x: f(model, T8, images(known, x), mask, rng, x)
        mean, cov = law_of_images(run, (1, 2, 1), white(2))
        numbers += [(mean[0], 3), (math.sqrt(cov[0, 0]), 3), (mean[1], 2)]
    return printed(*numbers)


@erratum("w counted from 0 or from 1", guided)
def _(right, slip):
    """Conditional, the data is N(2, 0.5^2); unconditional, N(1, 1): guidance w = 2."""
    cond, uncond, numbers = MODEL[id(LONG)], exact.gaussian(LONG, 1.0, 1.0), []
    for f in (slip, right):
        model = lambda x, t: f(cond(x, t), uncond(x, t), 2)
        numbers += [(n, 2) for n in of_ddim(ddim, LONG, FIFTY, model=model)]
    return printed(*numbers)


@erratum("noises mixed on a straight line", between)
def _(right, slip):
    numbers = []
    for f in (slip, right):  # two noises of many values are at right angles
        std = math.hypot(f(1.0, 0.0, 0.5, np.pi / 2), f(0.0, 1.0, 0.5, np.pi / 2))
        numbers += [(std, 3), (of_ddim(ddim, LONG, FIFTY, (0.0, std**2))[1], 3)]
    return printed(*numbers)


def features(seed, N, F=16):
    return np.random.default_rng([7, seed]).standard_normal((2, N, F))


def average(f, seeds, *sizes):
    """The mean of a distance between two sets of features, over seeds, with two digits."""
    return np.mean([f(*features(seed, *sizes)) for seed in range(seeds)]), 2


@erratum("Fréchet with few samples", compare)
def _(right, slip):
    return printed(average(slip, 10, 2000), average(right, 10, 2000))


@erratum("the root of a rounding error", frechet)
def _(right, slip):
    with np.errstate(invalid="ignore"):
        wrong = slip(*features(0, 10))
    assert math.isnan(wrong)
    return printed("nan", (right(*features(0, 10)), 1))


@erratum("each image its own neighbour, in the kernel distance", kernel_distance)
def _(right, slip):
    return printed(average(slip, 40, 50), average(right, 40, 50))


@erratum("each image its own neighbour, in precision", precision)
def _(right, slip):
    return printed(average(slip, 10, 200, 4), average(right, 10, 200, 4))


# --- ERRATA.md ---


def planted(plain, there, other):
    """The plain code with a piece exchanged: function, str, str -> function"""
    source = inspect.getsource(plain)
    assert source.count(there) == 1, f"{plain.__name__} has {source.count(there)} times {there!r}"
    scope = dict(globals())
    exec(source.replace(there, other), scope)
    return scope[plain.__name__]


def computed(name, slip, right):
    """Run an erratum with the page's two lines -> numbers, as words"""
    plain, measure = MEASURES[name]
    source = inspect.getsource(plain)
    there, other = (right, slip) if right in source else (slip, right)
    exchanged = planted(plain, there, other)
    return measure(*((plain, exchanged) if there == right else (exchanged, plain)))


SLIPS = {name: rest for name, *rest in errata(ERRATA)}


def test_every_erratum_is_measured():
    assert set(SLIPS) == set(MEASURES) == set(re.findall("^### (.+)$", ERRATA, re.M))
    assert len(errata(ERRATA)) == len(SLIPS) >= 30


@pytest.mark.parametrize("name", MEASURES)
def test_an_erratum_does_what_the_page_says(name):
    slip, right, effect, *_ = SLIPS[name]
    assert bold(effect) == computed(name, slip, right)


@pytest.mark.parametrize("name", MEASURES)
def test_an_erratum_is_caught_where_the_page_says(name):
    """The tests exist, and the lessons."""
    lessons, file, test = SLIPS[name][3:]
    assert f"\ndef {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")
    found = re.findall(r"\[(\d\d)\]\((\w+\.ipynb)\)", lessons)
    assert found
    assert all(link.startswith(number) and (LESSONS / link).exists() for number, link in found)


def test_a_changed_page_is_noticed():
    """The comparison compares: a digit or a line changed, and the row does not fit."""
    name = "a minus for a plus"
    slip, right, effect, *_ = SLIPS[name]
    assert computed(name, slip, right) != bold(effect.replace("0.000", "0.001"))
    assert computed(name, right, right) != bold(effect)


# --- LETTERS.md ---


def letters(s):
    """All names that LETTERS.md uses, ours and theirs, theirs by their own definitions -> dict"""
    T, rng = s.T, np.random.default_rng(3)
    t = np.arange(1, T + 1)
    u = t - 1
    x0, eps, cond, uncond, gradient = rng.standard_normal((5, T))
    w, sigma_data, shift = 2.5, 0.5, 3.0
    x_t, v = (f(s, x0, t, eps) for f in (diffusion.q_sample, diffusion.v_target))
    score = -(x_t - np.sqrt(s.alpha_bar[t]) * x0) / (1 - s.alpha_bar[t])  # of q(x_t | x0)
    # arrays that count from 0
    betas = s.beta[1:]
    alphas = 1 - betas
    alphas_cumprod = np.cumprod(alphas)
    alphas_cumprod_prev = np.append(1.0, alphas_cumprod[:-1])
    posterior_variance = betas * (1 - alphas_cumprod_prev) / (1 - alphas_cumprod)
    posterior_mean_coef1 = betas * np.sqrt(alphas_cumprod_prev) / (1 - alphas_cumprod)
    posterior_mean_coef2 = (1 - alphas_cumprod_prev) * np.sqrt(alphas) / (1 - alphas_cumprod)
    sqrt_recip_alphas_cumprod = np.sqrt(1 / alphas_cumprod)
    sqrt_recipm1_alphas_cumprod = np.sqrt(1 / alphas_cumprod - 1)
    # the DDIM paper: alpha is the product
    alpha_ddim = np.cumprod(1 - np.append(0.0, betas))
    sigma_ddim = np.sqrt((1 - alpha_ddim[u]) / (1 - alpha_ddim[t]))
    sigma_ddim = sigma_ddim * np.sqrt(1 - alpha_ddim[t] / alpha_ddim[u])
    # x_t = alpha_t x0 + sigma_t eps
    alpha_t, sigma_t = np.sqrt(np.cumprod(alphas)), np.sqrt(1 - np.cumprod(alphas))
    lam, logsnr = np.log(alpha_t / sigma_t), np.log(alpha_t**2 / sigma_t**2)
    # EDM, k-diffusion
    sigmas = ((1 - alphas_cumprod) / alphas_cumprod) ** 0.5
    sigma = sigmas[t - 1]
    sigma_u = np.append(0.0, sigmas[:-1])
    x, D = x0 + sigma * eps, x0
    d = (x - D) / sigma
    sigma_up = np.sqrt(sigma_u**2 * (sigma**2 - sigma_u**2) / sigma**2)
    sigma_down = np.sqrt(sigma_u**2 - sigma_up**2)
    c_skip = sigma_data**2 / (sigma**2 + sigma_data**2)
    c_out = sigma * sigma_data / np.sqrt(sigma**2 + sigma_data**2)
    c_in = 1 / np.sqrt(sigma_data**2 + sigma**2)
    F = (x0 - c_skip * x) / c_out
    weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
    # flow matching: ours with the data at 0; the papers' with the data at 1
    tau = sigma / (1 + sigma)
    x_tau, velocity = flow.path(x0, tau, eps), flow.velocity_target(x0, eps)
    t_paper, X_0, X_1 = 1 - tau, eps, x0
    X_t = t_paper * X_1 + (1 - t_paper) * X_0
    tau_shifted = shift * tau / (1 + (shift - 1) * tau)
    torch_lerp = lambda start, end, weight: start + weight * (end - start)
    return {"np": np, "flow": flow, "diffusion": diffusion, "guide": guide} | locals()


EQUATIONS = re.findall(r"`([^`]+ == [^`]+)`", LETTERS)


@pytest.mark.parametrize("s", [T8, LONG], ids=["T8", "T1000"])
def test_every_equation_of_the_letters_holds(s):
    names = letters(s)
    assert len(EQUATIONS) >= 45 and len(set(EQUATIONS)) == len(EQUATIONS)
    for equation in EQUATIONS:
        left, right = (np.asarray(eval(side, names)) for side in equation.split(" == "))
        assert np.allclose(left, right, rtol=1e-9, atol=1e-9), f"T = {s.T}: {equation}"


CHANGES = {"t - 1": "t", "sqrt": "square", "tau": "(1 - tau)", "sigma": "(2 * sigma)", "s": "late"}


@pytest.mark.parametrize("there, other", CHANGES.items())
def test_a_changed_equation_is_noticed(there, other):
    """One step late, a root lost, time the other way round, another sigma: most equations fail."""
    arrays = T8.beta, T8.alpha, T8.alpha_bar, T8.snr, T8.beta_tilde
    late = schedule.Schedule(*(np.append(a[:1], a[:-1]) for a in arrays))
    names, changed, noticed = letters(T8) | {"late": late}, 0, 0
    for equation in EQUATIONS:
        left, right = re.sub(rf"\b{there}\b", other, equation, count=1).split(" == ")
        if f"{left} == {right}" != equation:
            changed += 1
            with np.errstate(divide="ignore", invalid="ignore"):
                try:
                    both = eval(left, names), eval(right, names)
                    noticed += not np.allclose(*both, rtol=1e-9, atol=1e-9)
                except IndexError:
                    noticed += 1
    assert changed >= 4 and noticed >= 0.8 * changed


def test_the_letters_name_what_there_is():
    """What a code span without an equation names, as `diffusion.q_sample`, exists."""
    names = letters(T8) | {"sample": sample, "schedule": schedule, "exact": exact, "guide": guide}
    spans = re.findall(r"`((?:diffusion|sample|schedule|flow|guide|s)\.[a-z_]+)`", LETTERS)
    for span in set(spans):
        owner, name = span.split(".")
        assert hasattr(names[owner], name), span
