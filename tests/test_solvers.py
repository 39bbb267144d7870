"""The fast samplers and their grids: laws to rounding, orders of convergence, times, known slips.

As in test_sample, for data N(2, 0.5^2) a whole run is affine, and its law is compared with
equations written a second time: euler and heun in the coordinates of EDM (an unshrunk image, noise
of standard deviation sigma), dpmpp_2m in those of DPM-Solver++ (lam).
"""

import inspect
import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from test_sample import (
    BAD_TIMES,
    BATCH,
    LONG,
    MEAN,
    SCHEDULES,
    SMOOTH,
    T1,
    T8,
    VAR,
    Flat,
    check_clip,
    check_ddpm_var,
    check_manners,
    check_noise,
    check_steps_refused,
    check_times_refused,
    close,
    forward,
    grades,
    law_of,
    paths,
    quiet,
    rejects,
)

from tinydiff import diffusion, exact, sample, schedule

on_every_kernel_set = pytest.mark.usefixtures("kernel_set")
SOLVERS = ("euler", "heun", "dpmpp_2m")
# mean and variance of x_T: as the chain is affine, what holds from here holds from everywhere
START = (1.0, 1.2)


def log_snr(lam):
    """The schedule with log(signal / noise) = lam[t - 1] at t = 1, 2, ..."""
    bar = np.concatenate([[1.0], 1 / (1 + np.exp(-2 * lam))])
    return schedule.from_betas(1 - bar[1:] / bar[:-1])


TAU = np.linspace(0, 1, 961)
EVEN = log_snr(4 - 9 * TAU)  # from t = 1 to T = 961: 960 steps that can be halved often
BENT = log_snr(4 - 9 * (0.75 * TAU + 0.25 * TAU**2))


def sigma2(s, t):
    """The variance of the noise in x_bar = x_t / sqrt(alpha_bar)."""
    return 1 / s.snr[t]


def brief(times):
    return f"{times}" if len(times) < 10 else f"[{times[0]}, {times[1]}, ..., 0]"


# --- the law of x_0, carried from T to 0 in other coordinates ---


def goes_up_to(s, t, churn):
    """The last time whose noise-to-signal ratio is at most (1 + churn)^2 that of t."""
    return int(np.flatnonzero(s.snr[t] <= (1 + churn) ** 2 * s.snr).max())


def edm_law(s, times, x_T, churn=0.0, corrected=False):
    """Mean and standard deviation of x_0, by EDM.

    In x_bar noise is added without shrinking; the score is that of N(MEAN, VAR + sigma^2).
    """
    mean, var = x_T[0] / math.sqrt(s.alpha_bar[times[0]]), x_T[1] / s.alpha_bar[times[0]]
    for t, u in pairwise(times):
        up = goes_up_to(s, t, churn)
        var += sigma2(s, up) - sigma2(s, t)
        now, then = math.sqrt(sigma2(s, up)), math.sqrt(sigma2(s, u))
        slope = now / (VAR + now**2)  # d x_bar / d sigma = slope (x_bar - MEAN)
        factor = 1 + (then - now) * slope
        if corrected and u > 0:
            factor = 1 + (then - now) * (slope + then / (VAR + then**2) * factor) / 2
        mean, var = MEAN + factor * (mean - MEAN), factor**2 * var
    return mean, math.sqrt(var)


def lam_law(s, times, x_T):
    """The same by DPM-Solver++(2M): y = x / sqrt(1 - alpha_bar) obeys dy / d(e^lam) = x0_hat.

    x0_hat is taken half a step ahead in lam. y and x0_hat are affine in x_T: each is a pair, slope
    and offset.
    """
    y, before = np.array([1.0, 0.0]) / math.sqrt(1 - s.alpha_bar[times[0]]), None
    for t, u in pairwise(times):
        lam = math.log(s.snr[t]) / 2
        precision = math.exp(2 * lam) + 1 / VAR  # precisions add
        x0_hat = (math.exp(lam) * y + [0, MEAN / VAR]) / precision
        if u == 0:
            return x0_hat[0] * x_T[0] + x0_hat[1], abs(x0_hat[0]) * math.sqrt(x_T[1])
        after = math.log(s.snr[u]) / 2
        trend = (x0_hat - before[0]) / (lam - before[1]) if before else 0
        y = y + (math.exp(after) - math.exp(lam)) * (x0_hat + trend * (after - lam) / 2)
        before = x0_hat, lam


# --- the flow that the solvers follow ---

ONE = ([1.0], [MEAN], [VAR])  # weights, means, variances
TWO = ([0.4, 0.6], [-1.0, 1.5], [0.3, 0.2])  # here the flow is not affine


def below(s, t, x, data):
    """The share of all x_t below x."""
    root = math.sqrt(s.alpha_bar[t])
    std = [math.sqrt(s.alpha_bar[t] * v + 1 - s.alpha_bar[t]) for v in data[2]]
    phi = np.vectorize(lambda z: math.erfc(-z / math.sqrt(2)) / 2)
    return sum(w * phi((x - root * m) / d) for w, m, d in zip(*data[:2], std, strict=True))


def flow(s, x_T, u, data):
    """Follow the probability flow exactly from T to u.

    In one dimension no two paths cross, so each x keeps the share below it.
    """
    share, low, high = below(s, s.T, x_T, data), np.full_like(x_T, -20), np.full_like(x_T, 20)
    for _ in range(60):
        middle = (low + high) / 2
        up = below(s, u, middle, data) < share
        low, high = np.where(up, middle, low), np.where(up, high, middle)
    return middle


def grid(steps, late):
    """Places 960 > ... > 0, every second one moved: gaps 1:1, 1:2 or 2:1."""
    gap = 960 // steps
    return sorted([*range(0, 961, 2 * gap), *range(round(gap * late), 960, 2 * gap)], reverse=True)


LATE = {"1:1": 1, "1:2": 2 / 3, "2:1": 4 / 3}  # the gaps of a grid


def expect_order(errors, order, tol, case):
    found = math.log2(errors[0] / errors[1])
    assert abs(found - order) < tol, (
        f"{case}: the error should fall by 2^{order} from 80 steps to 160; "
        f"got {errors[0]:.3g} and {errors[1]:.3g}, by 2^{found:.2f}"
    )


# --- the checks: each takes the sampler under test ---


def check_law(sampler, expected, churns=()):
    """Mean and standard deviation of x_0, at T = 8 and 1000, along full, even and uneven paths."""
    for s in (*SCHEDULES, T1):
        for times in paths(s)[::-1]:  # the plainest first
            short = len(times) < 10
            for churn in [{"churn": churn} for churn in churns if short or churn < 0.1] or [{}]:
                got = law_of(sampler, s, START, times=times, **churn)
                said = f", churn = {churn['churn']}" if churn else ""
                case = f"T = {s.T}, times = {brief(times)}{said}, from N(1, 1.2)"
                close(got, expected(s, times, START, **churn), case)
    want = expected(T8, range(8, -1, -1), START)
    close(law_of(sampler, T8, START), want, "by default: all times, no churn")


def check_euler(euler):
    check_law(euler, edm_law, (0.0, 0.04, 0.6))


def check_heun(heun):
    expected = lambda *args, churn=0.0: edm_law(*args, churn, corrected=True)
    check_law(heun, expected, (0.0, 0.04, 0.6))


def check_dpmpp(dpmpp_2m):
    check_law(dpmpp_2m, lam_law)


def check_order(sampler, order, schedules=(EVEN, BENT), late=LATE):
    """Halve all steps: the error falls by 2^order, on even and uneven grids.

    Compared at t = 1: the step from 1 to 0 is the same on every grid (in lam it is infinite), so
    its error does not fall with the others.
    """
    x_T = np.array([[-1.3], [0.4], [2.2]])
    for s in schedules:
        name = "lam even in t" if s is EVEN else "lam bent"
        for weight, mean, var in (ONE, TWO):
            model = exact.mixture(s, weight, np.array(mean)[:, None], var)
            want = flow(s, x_T, 1, (weight, mean, var))
            for gaps, share in late.items():
                errors = []
                for steps in (80, 160):
                    times = [1 + place for place in grid(steps, share)] + [0]
                    *_, x_1, _ = sampler(model, s, x_T.shape, None, times=times, x_T=x_T)
                    errors.append(np.abs(x_1 - want).max())
                case = f"{len(mean)} Gaussian(s), {name}, gaps {gaps}, at t = 1"
                expect_order(errors, order, 0.1, case)


def check_order_to_0(sampler, order):
    """The same to t = 0, where sigma, not lam, is smooth: for solvers with a small last step."""
    s, x_T = SMOOTH, np.array([[-1.3], [0.4], [2.2]])
    want, model = flow(s, x_T, 0, ONE), exact.gaussian(s, MEAN, VAR)
    for gaps, late in LATE.items():
        errors = []
        for steps in (80, 160):
            *_, x0 = sampler(model, s, x_T.shape, None, times=grid(steps, late), x_T=x_T)
            errors.append(np.abs(x0 - want).max())
        expect_order(errors, order, 0.1, f"gaps {gaps}, at t = 0")


def listen(model, called):
    """The same model, which notes with what it is called."""

    def listening(x, t):
        called.append((t, x.copy()))
        return model(x, t)

    return listening


def check_one_call(sampler):
    """The manners of a sampler with one model call per step, on an uneven path and in one leap."""
    clipping = (
        "x0_hat is kept within [-clip, clip], and eps_hat, or the change of x0_hat, follows from "
        "that"
    )
    for times in ([8, 7, 3, 1, 0], [5, 0]):

        def run(model, s, rng, x_T, clip=np.inf, shape=BATCH):
            return sampler(model, s, shape, rng, times=times, x_T=x_T, clip=clip)

        check_manners(run, times)
        check_clip(run, clipping)
    check_times_refused(sampler)


def check_heun_calls(heun):
    """Two calls per step, at both ends, and one in the last; the second at the Euler step's end."""
    model = exact.gaussian(T8, MEAN, VAR)
    for times in ([8, 6, 4, 2, 0], [8, 7, 3, 1, 0], [5, 0]):

        def run(model, s, rng, x_T, clip=np.inf, shape=BATCH):
            return heun(model, s, shape, rng, times=times, x_T=x_T, clip=clip)

        check_manners(run, times, [t for pair in pairwise(times) for t in pair if t > 0], 2)
        x_T, called = np.array([[-1.0], [0.3], [2.0]]), []
        seen = list(heun(listen(model, called), T8, x_T.shape, None, times=times, x_T=x_T))
        for i, u in enumerate(times[1:-1]):
            slope = model(seen[i], times[i])
            there = sample.ddim_step(T8, seen[i], slope, times[i], u, np.inf)
            assert np.allclose(called[2 * i + 1][1], there, rtol=0, atol=1e-6), (
                f"the second call, at t = {u}, gets the Euler step's end"
            )
    check_times_refused(heun)


# What heun with clip = 1.5 makes of seven pixels at the times 8, 6, 3, 1, 0, for T = 8. By
# x_bar_u = x0_hat + sigma_u / sigma_t (x_bar_t - x0_hat), 50 digits, Python's decimal, and rounded.
CLIPPED = {
    8: [-4, -1, 3, -1.4, 1.4, 4, -4],
    6: [
        -4.056704360208,
        -1.308786754567,
        3.140731824994,
        -0.8895473299452,
        0.8895473299452,
        3.748314364792,
        -3.748314364792,
    ],
    3: [
        -3.284891141383,
        -1.655396851682,
        2.741726378149,
        0.3249021613273,
        -0.3249021613273,
        2.451147592394,
        -2.451147592394,
    ],
    1: [
        -2.019762890435,
        -1.587400896448,
        1.875642225773,
        0.8677510006975,
        -0.8677510006975,
        1.175387757849,
        -1.175387757849,
    ],
    0: [-1.5, -1.5, 1.5, 0.9613487394004, -0.9613487394004, 0.5918035287712, -0.5918035287712],
}
CLIPPED_DATA = (  # mean and variance
    np.array([0.3, 0.3, 0.3, 2, -2, 0.3, -0.3]),
    np.array([9, 9, 9, 0.25, 0.25, 0.01, 0.01]),
)


def check_heun_clip(heun):
    """clip keeps x0_hat of each slope, and of their mean, within [-1.5, 1.5]; eps_hat follows."""
    x_T, model = np.array([CLIPPED[8]], dtype=float), exact.gaussian(T8, *CLIPPED_DATA)
    got = heun(model, T8, x_T.shape, None, list(CLIPPED), x_T, clip=1.5)
    for (t, want), a in zip(CLIPPED.items(), got, strict=True):
        assert np.allclose(a[0], want, rtol=0, atol=1e-11), (
            f"clip = 1.5, t = {t}: off by {np.abs(a[0] - want).max():.3g}"
        )


def check_churn(sampler, calls):
    """Where the noise goes up to, and that the forward process adds it.

    calls: of the model, per step
    """
    by_hand = {0.0: [8, 6, 4, 2], 0.35: [8, 6, 4, 2], 0.6: [8, 7, 5, 2], 1.5: [8, 8, 6, 3]}
    for churn, want in by_hand.items():
        called, draws, x_T = [], np.random.default_rng(5), np.array([[-1.0], [0.3], [2.0]])
        model, times = listen(exact.gaussian(T8, MEAN, VAR), called), [8, 6, 4, 2, 0]
        run = sampler(model, T8, x_T.shape, np.random.default_rng(5), times, x_T, churn)
        seen, starts = list(run), called[::calls]
        got = [t for t, _ in starts]
        assert got == want, f"times = {times}, churn = {churn}: starts at {got}, expected {want}"
        for x, t, (up, x_up) in zip(seen, (8, 6, 4, 2), starts, strict=False):
            keep, spread = 1.0, 0.0
            for k in range(t + 1, up + 1):  # step by step
                keep, spread = keep * (1 - T8.beta[k]), (1 - T8.beta[k]) * spread + T8.beta[k]
            z = draws.standard_normal(x.shape) if up > t else 0
            far = np.abs(x_up - math.sqrt(keep) * x - math.sqrt(spread) * z).max()
            assert far < 1e-12, (
                f"churn = {churn}: x_{up} is not drawn from q(x_{up} | x_{t}): off by {far:.3g}"
            )

    def run(model, s, rng, x_T, clip=np.inf, shape=BATCH):
        return sampler(model, s, shape, rng, [8, 6, 4, 2, 0], x_T, 0.6, clip)

    check_noise(run)
    kinds = {str(x.dtype) for x in run(model, T8, np.random.default_rng(5), None)}
    assert kinds == {"float32"}, f"churn = 0.6, x_T drawn: all is float32; got {sorted(kinds)}"


def check_dpmpp_by_hand(dpmpp_2m):
    """Steps of log 2, log 3 and log 4 in lam, a model whose x0_hat is 1, 2, 5, 7: on paper.

    e^lam = 1/2, 1, 3, 12 at t = 4, 3, 2, 1; y = x / sqrt(1 - alpha_bar)
    y_4 = 1;  y_3 = y_4 + (1 - 1/2) 1 = 3/2
    r = log 2 / log 3;  D = 2 + (2 - 1) / (2 r) = 2 + log_2(3) / 2
    y_2 = y_3 + (3 - 1) D = 11/2 + log_2(3)
    r = log 3 / log 4;  D = 5 + (5 - 2) / (2 r) = 5 + 3 log_3(2)
    y_1 = y_2 + (12 - 3) D = 50.5 + log_2(3) + 27 log_3(2);  x_0 = 7
    """
    bar, guess = [1, 144 / 145, 0.9, 0.5, 0.2], {4: 1.0, 3: 2.0, 2: 5.0, 1: 7.0}
    s = quiet(schedule.from_betas, [1 - u / t for t, u in pairwise(bar)])
    log_2_of_3, log_3_of_2 = 1.5849625007211562, 0.6309297535714575
    y = {4: 1, 3: 1.5, 2: 5.5 + log_2_of_3, 1: 50.5 + log_2_of_3 + 27 * log_3_of_2}
    for sign, clip in ((1, np.inf), (1, 6.0), (-1, 6.0)):  # D is beyond 6 in the third step
        model = lambda x, t, k=sign: diffusion.predict_eps(s, x, t, np.full_like(x, k * guess[t]))
        x_T = np.full((1, 1), sign * math.sqrt(0.8))
        run = dpmpp_2m(model, s, (1, 1), None, None, x_T, clip)
        want = {0: min(7.0, clip)} | {t: y[t] * math.sqrt(1 - bar[t]) for t in y}
        case = f"alpha_bar = 1, 144/145, 0.9, 0.5, 0.2, clip = {clip}"
        for t, x in zip((4, 3, 2, 1, 0), run, strict=True):
            assert abs(x[0, 0] - sign * want[t]) < 1e-12, (
                f"{case}: x_{t} is {x[0, 0]:.12g}, expected {sign * want[t]:.12g}"
            )


# --- inversion ---


def inverted_by_hand(s, x0, times, rounds):
    """ddim_invert in x_bar, for the Gaussian: x_bar_t = x_bar_u + (sigma_t - sigma_u) eps_hat.

    eps_hat follows from the score of x_t.
    """
    x_bar = x0
    for u, t in pairwise(times[::-1]):
        mean, var = forward(s, t)
        rise = math.sqrt(sigma2(s, t)) - math.sqrt(sigma2(s, u))
        x = math.sqrt(s.alpha_bar[u]) * x_bar
        for _ in range(rounds):
            eps_hat = math.sqrt(1 - s.alpha_bar[t]) * (x - mean) / var
            x = math.sqrt(s.alpha_bar[t]) * (x_bar + rise * eps_hat)
        x_bar = x / math.sqrt(s.alpha_bar[t])
    return x


def check_invert(ddim_invert):
    """Every x on the way up, and the calls: rounds of them at the time to come, never at t = 0."""
    for s in SCHEDULES:
        for times in paths(s):
            for rounds in (1, 2, 3) if s is T8 else (1, 3):
                called, x0 = [], np.array([[-1.0], [0.3], [2.6]])
                model = listen(exact.gaussian(s, MEAN, VAR), called)
                seen = list(ddim_invert(model, s, x0, times, rounds))
                case = f"T = {s.T}, times = {brief(times)}, rounds = {rounds}"
                assert len(seen) == len(times), (
                    f"{case}: it yields {len(seen)} arrays, expected {len(times)}"
                )
                assert np.array_equal(seen[0], x0), f"{case}: the first array it yields is not x0"
                want = [t for t in times[-2::-1] for _ in range(rounds)]
                asked = [t for t, _ in called]
                assert asked == want, f"{case}: called at {asked[:6]} ..., expected {want[:6]} ..."
                want = inverted_by_hand(s, x0, times, rounds)
                i = np.abs(seen[-1] - want).argmax()
                assert np.abs(seen[-1] - want).max() < 1e-10, (
                    f"{case}: from x0 = {x0[i, 0]} it comes to {seen[-1][i, 0]:.6g} at "
                    f"t = {times[0]}, expected {want[i, 0]:.6g}"
                )
    assert np.array_equal(x0, [[-1.0], [0.3], [2.6]]), "x0 is not to be changed"


def check_invert_manners(ddim_invert):
    """By default all times and one round; any shape; the precision of x0; new arrays."""
    model, x0 = exact.gaussian(T8, MEAN, VAR), np.array([-1.0, 0.3, 2.6, 1.1, 0.0, 3.3])
    every = list(ddim_invert(model, T8, x0, None))
    said = f"T = 8, times = None (all): it yields {len(every)} arrays, expected 9"
    assert len(every) == 9, said
    want = inverted_by_hand(T8, x0, list(range(8, -1, -1)), 1)
    assert np.abs(every[-1] - want).max() < 1e-10, "rounds not given: expected one round"
    for shape in ((6,), (1, 6), (3, 2), (2, 1, 3), (1, 3, 2, 1)):
        for dtype in (np.float64, np.float32):
            x = x0.reshape(shape).astype(dtype)
            pairs = [(a, a.copy()) for a in ddim_invert(model, T8, x, [8, 3, 0], 2)]
            kinds = {f"{a.shape} {a.dtype}" for a, _ in pairs}
            said = f"x0 is {shape} {x.dtype}, and so is all that follows; got {sorted(kinds)}"
            assert kinds == {f"{shape} {x.dtype}"}, said
            said = "an array changes after it was yielded: yield a new one each time"
            assert all(np.array_equal(a, b) for a, b in pairs), said
            want = inverted_by_hand(T8, x0.reshape(shape), [8, 3, 0], 2)
            off = np.abs(pairs[-1][0] - want).max()
            assert off < (1e-10 if dtype == np.float64 else 1e-5), f"x0 {shape}: off by {off:.2g}"


def check_refused(ddim_invert):
    for times in ([8, 3, 1], [3, 8, 0], [9, 3, 0], [8, 3, 3, 0], [0], []):
        refused = False
        try:
            list(ddim_invert(exact.gaussian(T8, MEAN, VAR), T8, np.ones((1, 1)), times))
        except ValueError:
            refused = True
        assert refused, f"times = {times} do not decrease to 0: expected a ValueError"


def check_round_trip(ddim_invert):
    """Up and down again: with r rounds x0 is missed by an error of order r, with 20 by rounding."""
    s, x0 = SMOOTH, np.array([[0.7], [1.9], [2.8]])
    model = exact.gaussian(s, MEAN, VAR)

    def missed(steps, late, rounds):
        times = grid(steps, late)
        *_, x_T = ddim_invert(model, s, x0, times, rounds)
        *_, back = sample.ddim(model, s, x0.shape, None, times=times, x_T=x_T)
        return np.abs(back - x0).max()

    for gaps, late in LATE.items():
        for rounds in (1, 2, 4):
            errors = [missed(steps, late, rounds) for steps in (80, 160)]
            expect_order(errors, rounds, 0.06 * rounds, f"rounds = {rounds}, gaps {gaps}")
        far = missed(80, late, 20)
        assert far < 1e-11, f"20 rounds, gaps {gaps}: x0 is missed by {far:.3g}, expected rounding"


# --- grids ---

COSINE = schedule.cosine(250)
GRID_SCHEDULES = (T8, COSINE, LONG)


def real_quadratic(s, steps):
    return [s.T * ((steps - i) / steps) ** 2 for i in range(steps + 1)]


def at_levels(falling, levels):
    """The real times in 1 .. T at which falling[1:] passes the levels, interpolated."""
    t = np.clip(np.searchsorted(-falling[1:], -levels), 1, len(falling) - 2)
    return t + (falling[t] - levels) / (falling[t] - falling[t + 1])


def at_sigmas(s, levels):
    noise = np.sqrt(1 / s.snr)
    return [*at_levels(-np.log(np.maximum(noise, 1e-9)), -np.log(levels)), 0.0]


def real_snr(s, steps):
    """log snr rises by equal amounts, from sigma = 80 or, where T has less, from T."""
    first, share = max(s.snr[s.T], 80.0**-2), np.arange(steps) / max(steps - 1, 1)
    log_snr = np.log(first) + np.log(s.snr[1] / first) * share
    return at_sigmas(s, np.exp(-0.5 * log_snr))


def real_karras(s, steps, rho=7.0, sigma_max=80.0):
    """sigma^(1/rho) falls by equal amounts."""
    noise = np.sqrt(1 / s.snr)
    first, last = min(noise[-1], sigma_max) ** (1 / rho), noise[1] ** (1 / rho)
    return at_sigmas(s, (first + (last - first) * np.arange(steps) / max(steps - 1, 1)) ** rho)


# log sigma falls by 3, 3, 1 and 4; there the bend is 1.5, 2.5, 1 and 2 on the average
BENT_LEVELS, BENDS = np.exp([4.0, 1.0, -2.0, -3.0, -4.0]), np.array([1.0, 2.0, 3.0, 1.0, 3.0])


def real_bend(s, steps, levels=BENT_LEVELS, bend=BENDS):
    """Walk down in log sigma, stretch by stretch, until i / steps of the bend lie behind."""
    ends, found = list(pairwise(np.log(levels))), []
    areas = [(a - b) * (p + q) / 2 for (a, b), (p, q) in zip(ends, pairwise(bend), strict=True)]
    for i in range(steps):
        k, left = 0, sum(areas) * i / steps
        while left > areas[k]:
            k, left = k + 1, left - areas[k]
        a, b = ends[k]
        found.append(math.exp(a + (b - a) * left / areas[k]))
    return at_sigmas(s, np.array(found))


REAL = {"quadratic": real_quadratic, "snr": real_snr, "karras": real_karras}


def check_grid(times_for, real, counts=lambda s: range(1, s.T + 1), schedules=GRID_SCHEDULES):
    """From T to 0, no time twice, each the nearest whole number; moved up where two would meet."""
    for s in schedules:
        for steps in counts(s):
            times, case = times_for(s, steps), f"T = {s.T}, steps = {steps}"
            assert type(times) is list and all(type(t) is int for t in times), (
                f"{case}: expected a list of Python's int"
            )
            assert len(times) == steps + 1, (
                f"{case}: got {len(times)} times, expected {steps + 1}: a step is between two times"
            )
            assert all(t > u for t, u in pairwise(times)), (
                f"{case}: the times decrease, no time twice; got {brief(times)}"
            )
            want, i = np.array(real(s, steps)), np.arange(steps + 1)
            first = max(round(want[0]), steps)  # it moves up where the others need the room
            assert times[0] == first and times[-1] == 0, (
                f"{case}: from {times[0]} to {times[-1]}, expected from {first} to 0"
            )
            room = first - i  # what is left for times[i] by those before it
            low = np.minimum(want - 0.5, room)
            high = np.minimum(np.maximum.accumulate((want + i)[::-1])[::-1] - i + 0.5, room)
            wrong = np.flatnonzero((np.array(times) < low - 1e-6) | (np.array(times) > high + 1e-6))
            wrong = wrong[wrong > 0]
            k = wrong[0] if wrong.size else 0
            assert wrong.size == 0, (
                f"{case}: times[{k}] is {times[k]}, expected the whole number next to {want[k]:.4g}"
            )


# Times as real_karras and real_bend below put them, rounded; none of them is near a half.
# schedule, steps, rho, sigma_max, times
KARRAS = (
    (COSINE, 4, 7.0, 80.0, [248, 237, 116, 1, 0]),
    (LONG, 8, 7.0, 1000.0, [1000, 918, 816, 682, 485, 206, 33, 1, 0]),
    (LONG, 8, 7.0, 80.0, [931, 846, 739, 595, 389, 144, 25, 1, 0]),
    (LONG, 7, 1.0, 80.0, [931, 911, 886, 854, 805, 715, 1, 0]),
    (LONG, 7, 0.5, 80.0, [931, 921, 909, 893, 870, 830, 1, 0]),
    (LONG, 6, 2.5, 80.0, [931, 871, 789, 658, 382, 1, 0]),
    (LONG, 2, 7.0, 80.0, [931, 1, 0]),
    (LONG, 1, 7.0, 80.0, [931, 0]),
    (COSINE, 8, 7.0, 80.0, [248, 246, 240, 225, 179, 81, 16, 1, 0]),
    (COSINE, 5, 3.0, 2.0, [176, 125, 62, 18, 1, 0]),
    (T8, 5, 7.0, 80.0, [8, 6, 4, 2, 1, 0]),
    (T8, 5, 3.0, 2.0, [6, 5, 3, 2, 1, 0]),
    (T8, 8, 3.0, 2.0, [8, 7, 6, 5, 4, 3, 2, 1, 0]),
)
# schedule, steps, times
BEND = (
    (EVEN, 5, [854, 627, 453, 317, 172, 0]),
    (EVEN, 2, [854, 385, 0]),
    (EVEN, 1, [854, 0]),
    (LONG, 5, [889, 608, 306, 104, 25, 0]),
    (LONG, 2, [889, 188, 0]),
    (COSINE, 8, [247, 239, 209, 155, 93, 45, 20, 6, 0]),
    (COSINE, 5, [247, 225, 143, 53, 13, 0]),
)


def check_times(got, want, case):
    assert type(got) is list and all(type(t) is int for t in got), (
        f"{case}: expected a list of Python's int"
    )
    assert got == want, f"{case}: got {got}, expected {want}"


def check_karras(karras_times):
    """Stored times, also with the defaults; where nothing is rounded away, roots that fall evenly.

    Long schedules first: on a short one, different rules give the same whole numbers.
    """
    for s, steps, rho, sigma_max, want in KARRAS:
        case = f"T = {s.T}, steps = {steps}, rho = {rho:g}, sigma_max = {sigma_max:g}"
        check_times(karras_times(s, steps, rho, sigma_max), want, case)
        if (rho, sigma_max) == (7.0, 80.0):
            check_times(karras_times(s, steps), want, f"T = {s.T}, steps = {steps}, the defaults")
    for rho in (1.0, 2.0, 4.0):
        for steps in (5, 11):
            times = karras_times(EVEN, steps, rho, 20.0)
            roots = np.array([EVEN.snr[t] ** (-0.5 / rho) for t in times[:-1]])
            half = roots * 9 / 960 / rho / 2  # what half a step in t changes
            bend = abs(roots[2:] - 2 * roots[1:-1] + roots[:-2])
            most = 1.1 * (half[2:] + 2 * half[1:-1] + half[:-2])
            assert np.all(bend <= most), (
                f"lam even in t, {steps} steps, rho = {rho:g}, sigma_max = 20: the roots of sigma "
                f"do not fall evenly: {np.round(roots, 4)}"
            )
    check_steps_refused(karras_times)


def check_bend(bend_times):
    """Stored times; a constant bend makes them even in log sigma."""
    args = np.exp([5.0, 2.0, -1.0, -4.0]), np.array([1.0, 3.0, 1.0, 1.0])
    by_hand = {5: [961, 801, 641, 481, 321, 0], 1: [961, 0], 2: [961, 561, 0]}
    for steps, want in by_hand.items():
        # log sigma = 5, 2, -1, -4, even in t; the bend between them 6, 6 and 3, of 15
        case = "log sigma = 5, 2, -1, -4, bend = 1, 3, 1, 1, lam even in t"
        check_times(bend_times(EVEN, steps, *args), want, f"{case}, {steps} step(s)")
    two = np.exp([5.0, -4.0]), np.array([1.0, 3.0])
    case = "log sigma = 5, -4, bend = 1, 3, lam even in t, 3 steps"
    check_times(bend_times(EVEN, 3, *two), [961, 641, 321, 0], case)
    for s, steps, want in BEND:
        case = f"T = {s.T}, {steps} step(s), levels of log sigma 4 to -4"
        check_times(bend_times(s, steps, BENT_LEVELS, BENDS), want, case)
    args = [math.exp(2.0), math.exp(-1.0), math.exp(-3.5)], [0.02, 0.02, 0.02]
    case = "log sigma = 2, -1, -3.5, the same bend everywhere, lam even in t, 11 steps"
    want = [round(1 + 960 * (6 - i / 2) / 9) for i in range(11)] + [0]
    check_times(bend_times(EVEN, 11, *args), want, case)
    check_steps_refused(lambda s, steps: bend_times(s, steps, BENT_LEVELS, BENDS))


# --- the package passes them ---


@grades("sample.euler")
def test_euler(kernel_set):
    check_churn(sample.euler, 1)
    check_euler(sample.euler)
    check_one_call(sample.euler)


@grades("sample.heun")
def test_heun(kernel_set):
    check_heun_calls(sample.heun)
    check_churn(sample.heun, 2)
    check_heun(sample.heun)
    check_heun_clip(sample.heun)


@grades("sample.dpmpp_2m")
def test_dpmpp_2m(kernel_set):
    check_dpmpp(sample.dpmpp_2m)
    check_dpmpp_by_hand(sample.dpmpp_2m)
    check_one_call(sample.dpmpp_2m)


@on_every_kernel_set
@pytest.mark.parametrize("name, order", [("euler", 1), ("heun", 2), ("dpmpp_2m", 2)])
def test_order(name, order):
    check_order(getattr(sample, name), order)


@on_every_kernel_set
def test_heun_order_to_0():
    check_order_to_0(sample.heun, 2)


def test_the_exact_flow_keeps_a_samples_place_in_the_bell():
    """For one Gaussian `flow` finds mean_u + std_u / std_T (x_T - mean_T)."""
    x_T = np.array([[-1.3], [0.4], [2.2]])
    for s, u in ((EVEN, 1), (SMOOTH, 0), (BENT, 500)):
        (mean_T, var_T), (mean_u, var_u) = forward(s, s.T), forward(s, u)
        want = mean_u + math.sqrt(var_u / var_T) * (x_T - mean_T)
        assert np.allclose(flow(s, x_T, u, ONE), want, rtol=0, atol=1e-13)


@on_every_kernel_set
def test_euler_without_churn_is_ddim_without_noise():
    """Bit for bit, with clip and without."""
    x_T = np.random.default_rng(1).normal(size=(3, 2, 2, 1))
    for s in SCHEDULES:
        for times in paths(s):
            for clip in (np.inf, 1.5):
                args, options = (exact.gaussian(s, MEAN, VAR), s, x_T.shape, None), {"clip": clip}
                euler = sample.euler(*args, times=times, x_T=x_T, **options)
                ddim = sample.ddim(*args, times=times, x_T=x_T, **options)
                assert all(np.array_equal(a, b) for a, b in zip(euler, ddim, strict=True))


@on_every_kernel_set
@pytest.mark.parametrize(
    "name, churn", [("euler", {"churn": 0.6}), ("heun", {"churn": 0.6}), ("dpmpp_2m", {})]
)
def test_single_precision_is_enough(name, churn):
    x_T = np.linspace(-2, 2, 7)[:, None]
    for s, times in ((T8, None), (LONG, sample.even_times(LONG, 100))):
        run, model = getattr(sample, name), exact.gaussian(s, MEAN, VAR)
        *_, double = run(model, s, x_T.shape, Flat(), times=times, x_T=x_T, **churn)
        x_T32 = x_T.astype(np.float32)
        *_, single = run(model, s, x_T.shape, Flat(), times=times, x_T=x_T32, **churn)
        assert single.dtype == np.float32 and np.allclose(single, double, rtol=0, atol=1e-4)


@pytest.mark.parametrize("times", BAD_TIMES, ids=str)
@pytest.mark.parametrize("name", [*SOLVERS, "ddim_invert"])
def test_bad_times(name, times):
    args = (1, 1), np.random.default_rng(0), times
    if name == "ddim_invert":
        args = np.ones((1, 1)), times
    with pytest.raises(ValueError, match="times must decrease from at most T = 8 to 0") as error:
        list(getattr(sample, name)(exact.gaussian(T8, MEAN, VAR), T8, *args))
    assert "\n" not in str(error.value) and str(times) in str(error.value)


UP = ("check_invert_manners", "check_invert", "check_refused", "check_round_trip")


@grades("sample.ddim_invert")
@on_every_kernel_set
@pytest.mark.parametrize("name", UP)
def test_invert(name):
    globals()[name](sample.ddim_invert)


@pytest.mark.parametrize("name", REAL)
def test_grid(name):
    check_grid(getattr(sample, f"{name}_times"), REAL[name])


@pytest.mark.exercise("sample.karras_times")
def test_karras():
    check_karras(sample.karras_times)


def test_karras_follows_rho_and_sigma_max():
    for more in ((7.0, 1000.0), (7.0, 80.0), (3.0, 2.0)):
        times_for = lambda s, steps: sample.karras_times(s, steps, *more)
        real = lambda s, steps: real_karras(s, steps, *more)
        check_grid(times_for, real, lambda s: (8, 5, 2, 1))


@pytest.mark.exercise("sample.bend_times")
def test_bend_times():
    check_bend(sample.bend_times)


def test_bend_times_share_the_bend():
    """However many steps, on several schedules."""
    times_for = lambda s, steps: sample.bend_times(s, steps, BENT_LEVELS, BENDS)
    check_grid(times_for, real_bend, lambda s: (2, 5, 8, 1), (EVEN, LONG, COSINE))


def test_grids_by_hand():
    assert sample.quadratic_times(LONG, 5) == [1000, 640, 360, 160, 40, 0]
    # 8, 5.12, 2.88, 1.28, 0.32, 0: 0.32 and then 1.28 move up
    assert sample.quadratic_times(T8, 5) == [8, 5, 3, 2, 1, 0]
    # lam is even in t, and so are the times
    assert sample.snr_times(EVEN, 7, np.inf) == [*sample.even_times(EVEN, 961)[::160], 0]
    for name in ("quadratic_times", "snr_times", "karras_times"):
        assert getattr(sample, name)(T8, 8) == [8, 7, 6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("steps", [-2, 0, 9])
@pytest.mark.parametrize("name", ["quadratic_times", "snr_times", "karras_times", "bend_times"])
def test_bad_steps(name, steps):
    why = f"steps is a whole number from 1 to T = 8; got {steps}"
    more = (BENT_LEVELS, BENDS) if name == "bend_times" else ()
    with pytest.raises(ValueError, match=why) as error:
        getattr(sample, name)(T8, steps, *more)
    assert "\n" not in str(error.value)


# --- errata: each slip is planted in the package's own lines, and stopped by the right check ---


def slip(old, new):
    """The module sample with one line changed."""
    source = inspect.getsource(sample)
    assert old in source, f"the line to spoil is gone: {old}"
    module = {"__name__": sample.__name__, "__package__": "tinydiff"}
    exec(source.replace(old, new), module)
    return SimpleNamespace(**module)


SLOPES = "(slope + eps_model(there, u)) / 2"
SECOND = f"ddim_step(s, x, {SLOPES}"
OLD_SIGMA = (SLOPES, "(slope + eps_model(there, t)) / 2")
HEUN = {
    "at the old sigma": OLD_SIGMA,
    "only the far slope": (SLOPES, "eps_model(there, u)"),
    "the far slope at the mean of both x": (SLOPES, "(slope + eps_model((x + there) / 2, u)) / 2"),
    "the mean of both x, not of the slopes": (f"{SECOND}, t, u, clip)", "(there + x) / 2"),
    "slopes added": (SLOPES, "slope + eps_model(there, u)"),
    "the second step from the first one's end": (SECOND, SECOND.replace("x,", "there,")),
    "not corrected at all": ("there if u == 0 else", "there if True else"),
}


@pytest.mark.parametrize("name", HEUN)
def test_errata_heun(name):
    wrong = slip(*HEUN[name]).heun
    rejects(check_heun, wrong)
    rejects(lambda heun: check_order(heun, 2), wrong)
    rejects(lambda heun: check_order_to_0(heun, 2), wrong)


def test_errata_heun_at_the_old_sigma():
    """It still converges to the right answer: with Euler's order, for twice its calls."""
    check_order(slip(*OLD_SIGMA).heun, 1)
    rejects(check_heun_calls, slip(*OLD_SIGMA).heun)


LAST_WEIGHTS = """        last, (c0, ct) = (c0, ct), last if before else (c0, ct)
        D, lam = x0_hat,"""
EXTRAPOLATED = "(x0_hat - before[0]) * x.dtype.type(1 / (2 * r))"
DPMPP = {
    "step ratio fixed to 1": ("1 / (2 * r)", "1 / 2"),
    "step ratio upside down": ("1 / (2 * r)", "r / 2"),
    "the change counted whole, not half": ("1 / (2 * r)", "1 / r"),
    "minus for plus": (f"x0_hat + {EXTRAPOLATED}", f"x0_hat - {EXTRAPOLATED}"),
    "the first x0_hat for the last": ("before = x0_hat, lam", "before = before or (x0_hat, lam)"),
    "the last D for the last x0_hat": ("before = x0_hat, lam", "before = D, lam"),
    "the weights of the step before": ("        D, lam = x0_hat,", LAST_WEIGHTS),
    "no extrapolation": ("if before and u > 0", "if False"),
}


@pytest.mark.parametrize("name", DPMPP)
def test_errata_dpmpp(name):
    wrong = slip(*DPMPP[name]).dpmpp_2m
    rejects(check_dpmpp, wrong)
    rejects(check_dpmpp_by_hand, wrong)
    if name == "step ratio upside down":
        check_order(wrong, 2)  # on such grids the errors of an uneven pair of steps cancel
    else:
        rejects(lambda dpmpp_2m: check_order(dpmpp_2m, 2), wrong)


def test_errata_step_ratio_hides_on_an_even_grid():
    """There the ratio is 1 anyway; on uneven grids one order is lost."""
    wrong = slip(*DPMPP["step ratio fixed to 1"]).dpmpp_2m
    check_order(wrong, 2, (EVEN,), {"1:1": 1})
    for gaps in ("1:2", "2:1"):
        rejects(lambda dpmpp_2m: check_order(dpmpp_2m, 2, (EVEN,), {gaps: LATE[gaps]}), wrong)


CHURN = {
    "noise scaled by its variance": ("np.sqrt(1 - keep)", "1 - keep"),
    "the image scaled by alpha_bar": ("np.sqrt(keep)", "keep"),
    "the image not scaled": ("x.dtype.type(np.sqrt(keep)) * x", "x"),
    "the time not moved": ("* x + z, up", "* x + z, t"),
    "one time too few": ("    if up == t:", "    up = max(up - 1, t)\n    if up == t:"),
    "one time too many": ("    if up == t:", "    up = min(up + 1, s.T)\n    if up == t:"),
    "a factor of the variance": ("<= (1 + churn) *", "<= np.sqrt(1 + churn) *"),
    "alpha_bar[up] for the ratio": ("s.alpha_bar[up] / s.alpha_bar[t]", "s.alpha_bar[up]"),
}


@pytest.mark.parametrize("name", CHURN)
def test_errata_churn(name):
    wrong = slip(*CHURN[name])
    rejects(check_euler, wrong.euler)
    rejects(check_heun, wrong.heun)
    rejects(lambda euler: check_churn(euler, 1), wrong.euler)
    rejects(lambda heun: check_churn(heun, 2), wrong.heun)


SHRUNK = "x.dtype.type(shrink) * x"
INVERT = {
    "evaluated at the time it leaves": ("* eps_model(x_t, t)", "* eps_model(x_t, max(u, 1))"),
    "each round from the last one's end": (f"{SHRUNK} +", f"{SHRUNK}_t +"),
    "the other way round": ("* eps_model(x_t, t)", "* -eps_model(x_t, t)"),
    "rounds that call the model with the same x": ("* eps_model(x_t, t)", "* eps_model(x, t)"),
    "all in float64": ("x.dtype.type(along)", "np.asarray([along])"),
    "the noise not scaled down": ("- shrink * np.sqrt", "- np.sqrt"),
}


@pytest.mark.parametrize("name", INVERT)
def test_errata_invert(name):
    wrong = slip(*INVERT[name]).ddim_invert
    rejects(check_invert if name != "all in float64" else check_invert_manners, wrong)
    if name != "all in float64":
        rejects(check_round_trip, wrong)


def test_errata_manners():
    """A chain that begins with its end; a model called at t = 0; a clip that is not passed on."""
    rejects(check_invert, lambda *args: reversed(list(sample.ddim_invert(*args))))
    with np.errstate(invalid="ignore"):
        rejects(check_heun_calls, slip("there if u == 0 else", "there if u < 0 else").heun)
    rejects(check_heun_clip, lambda *args, clip, **kw: sample.heun(*args, **kw))


SPREAD = "np.exp(np.linspace(np.log(high), np.log(sigma(s, 1)), steps))"
MEET = "min(max(times[i], times[i + 1] + 1), room)"
FALLING, RISING = "np.linspace(1, 0, steps + 1) ** 2", "(1 - np.linspace(0, 1, steps + 1) ** 2)"
LEVELS = "** (1 / rho), sigma(s, 1) ** (1 / rho), steps) ** rho"
TURNED_LEVELS = "**rho, sigma(s, 1) ** rho, steps) ** (1 / rho)"
GRIDS = {
    "dense towards the noise": ("quadratic", FALLING, RISING),
    "cut off, not rounded": ("quadratic", "np.round(times)", "np.floor(times)"),
    "times that meet stay": ("quadratic", MEET, "times[i]"),
    "no room left above": ("karras", MEET, "max(times[i], times[i + 1] + 1)"),
    "even in sigma, not in its logarithm": ("snr", SPREAD, "np.linspace(high, sigma(s, 1), steps)"),
    "one step off": ("snr", "np.log(sigma(s, t)), t)", "np.log(sigma(s, t)), t - 1)"),
    "1 / rho for rho": ("karras", LEVELS, TURNED_LEVELS),
    "sigma_max forgotten": ("karras", "high ** (1 / rho)", "sigma(s, s.T) ** (1 / rho)"),
    "no room for the first": ("snr", "times[0] = max(times[0], len(times) - 1)", "pass"),
    "numpy's numbers": ("snr", "times.tolist()", "list(times)"),
}


@pytest.mark.parametrize("case", GRIDS)
def test_errata_grids(case):
    name, old, new = GRIDS[case]
    wrong = getattr(slip(old, new), f"{name}_times")
    rejects(lambda times_for: check_grid(times_for, REAL[name], lambda s: {1, 2, 5, 8, s.T}), wrong)


STD = "np.sqrt(var(x, t) if callable(var) else var[t])"
NOISE, DEVIATION = "        eps_hat = eps_model(x, t)\n", f"        std = {STD}\n"
VARIANCE = {
    "not its root": (STD, "var(x, t) if callable(var) else np.sqrt(var[t])"),
    "called before the noise": (NOISE + DEVIATION, DEVIATION + NOISE),
    "called at the next time": ("var(x, t) if", "var(x, t - 1) if"),
    "one number for all pixels": ("np.sqrt(var(x, t) if", "np.sqrt(np.max(var(x, t)) if"),
    "the first image's for all": ("(var(x, t) if", "(np.full_like(x, var(x, t)[:1]) if"),
    "called with the next x": ("var(x, t) if", "var(x - eps_hat, t) if"),
}


@pytest.mark.parametrize("name", VARIANCE)
def test_errata_ddpm_var(name):
    rejects(check_ddpm_var, slip(*VARIANCE[name]).ddpm)
