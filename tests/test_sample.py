"""The samplers, exactly: no Monte Carlo, no tolerance for luck.

For data N(2, 0.5^2) the perfect denoiser is affine in x_t, so a whole sampling run is affine in x_T
and in each noise it draws. A generator of unit impulses finds the coefficients from the sampler
itself; mean and variance of x_0 follow, to rounding, and are compared with a mean and a variance
carried from T to 0 by equations written a second time in another form.
"""

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest

from tinydiff import diffusion, exact, kernels, sample, schedule

MEAN, VAR = 2.0, 0.25  # asymmetric: a sampler that returns N(0, 1) or the mean alone is caught


def quiet(build, *args):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "terminal SNR")
        return build(*args)


# short and loud: an index off by one shows in the first digit
T8 = quiet(schedule.from_betas, np.linspace(0.02, 0.6, 8))
LONG = schedule.from_betas(np.linspace(1e-4, 0.02, 1000))
T1 = quiet(schedule.from_betas, [0.64])  # T = 1
SCHEDULES = (T8, LONG)
SMOOTH_BAR = np.cos(np.linspace(0, 1.4, 961)) ** 2  # 960 steps, which can be halved often
SMOOTH = quiet(schedule.from_betas, 1 - SMOOTH_BAR[1:] / SMOOTH_BAR[:-1])
NOISE = (0.0, 1.0)  # mean and variance of x_T as a sampler draws it


@pytest.fixture(autouse=True, params=("reference", "cpu"))
def kernel_set(request):
    """Run every test once for each kernel set, and leave the choice as it was."""
    before = kernels._active  # not active(): that would load numba, which grading does without
    kernels.use(request.param)
    yield request.param
    kernels._active = before


def grades(name):
    """Mark a test of an exercise: graded on the reference kernels, otherwise run on every set."""
    graded = pytest.param("reference", marks=pytest.mark.exercise(name))
    return pytest.mark.parametrize("kernel_set", [graded, "cpu"], indirect=True)


def rejects(check, wrong):
    """The check that the right function passes must stop a wrong one."""
    with pytest.raises(AssertionError):
        check(wrong)


# --- the law of x_0, found from a sampler ---


class Impulses:
    """Stand in for a random generator: at draw i row i + 2 gets a one, every other row 0."""

    def __init__(self):
        self.draws = 0

    def standard_normal(self, size=None, dtype=np.float64, out=None):
        assert size is not None, (
            "rng.standard_normal was called without a shape: each value needs noise of its own"
        )
        size = (size,) if np.ndim(size) == 0 else size
        assert self.draws + 2 < size[0], "the sampler draws noise more often than it takes steps"
        z = np.zeros(size, dtype)
        z[self.draws + 2] = 1
        self.draws += 1
        return z

    def normal(self, loc=0.0, scale=1.0, size=None):
        return loc + scale * self.standard_normal(size)


def law(run, s, x_T):
    """Mean and standard deviation of x_0 when x_T is N(mean, var) and all draws are N(0, 1)."""
    return laws(run, s, [x_T])[0]


def laws(run, s, starts):
    """The same for several pairs (mean, var) of x_T, from one run -> list of pairs

    run(rng, shape, x_T) is a sampler. Row 0 starts at 0 and gets no noise: the offset. Row 1 starts
    at 1: the slope. Every other row gets one draw.
    """
    rows = np.zeros((s.T + 4, 1))
    rows[1] = 1
    *_, x0 = run(Impulses(), rows.shape, rows)
    assert np.shape(x0) == rows.shape, (
        f"the last array has shape {np.shape(x0)}, expected {rows.shape}"
    )
    offset, slope, noises = x0[0, 0], x0[1, 0] - x0[0, 0], x0[2:, 0] - x0[0, 0]
    added = (noises**2).sum()
    return [(slope * mean + offset, math.sqrt(slope**2 * var + added)) for mean, var in starts]


def law_of(sampler, s, x_T, *args, **options):
    """The law of x_0 for data N(2, 0.5^2) and the perfect model; args, options: of the sampler."""
    return laws_of(sampler, s, [x_T], *args, **options)[0]


def laws_of(sampler, s, starts, *args, **options):
    """The same for several pairs (mean, var) of x_T, from one run -> list of pairs"""
    model = exact.gaussian(s, MEAN, VAR)
    run = lambda rng, shape, x: sampler(model, s, shape, rng, *args, x_T=x, **options)
    return laws(run, s, starts)


def forward(s, t):
    """Mean and variance of the true x_t: where a perfect sampler has to start."""
    return math.sqrt(s.alpha_bar[t]) * MEAN, s.alpha_bar[t] * VAR + 1 - s.alpha_bar[t]


def carried(s, times, x_T, step):
    """Mean and standard deviation of x_0 from those of x_T.

    step(t, u) -> factor, offset and variance added on the way from t to u
    """
    mean, var = x_T
    for t, u in pairwise(times):
        factor, offset, added = step(t, u)
        mean, var = factor * mean + offset, factor**2 * var + added
    return mean, math.sqrt(var)


def score(s, t):
    """The score of the true x_t is pull (centre - x_t), the steepest way to the data. -> both"""
    mean, var = forward(s, t)
    return 1 / var, mean


def ddpm_step(s, variances):
    """Line 4 of algorithm 2 in score form: x_{t-1} = (x_t + beta score) / sqrt(alpha), plus noise.

    The package has c0 x0_hat + ct x_t.
    """

    def step(t, u):
        pull, centre = score(s, t)
        root = math.sqrt(1 - s.beta[t])
        return (1 - s.beta[t] * pull) / root, s.beta[t] * pull * centre / root, variances[t]

    return step


def ddim_step(s, eta):
    """Equation 12 in score form.

    eps_hat = -sqrt(1 - alpha_bar) score, x0_hat = (x_t + (1 - alpha_bar) score) / sqrt(alpha_bar)
    """

    def step(t, u):
        pull, centre = score(s, t)
        signal, noise2 = math.sqrt(s.alpha_bar[t]), 1 - s.alpha_bar[t]
        # sigma is eta times the standard deviation of q(x_u | x_t, x0), here by adding precisions
        leap = s.alpha_bar[t] / s.alpha_bar[u]  # the product of the alphas between u and t
        sigma2 = 0 if u == 0 else eta**2 / (leap / (1 - leap) + 1 / (1 - s.alpha_bar[u]))
        towards_x0 = math.sqrt(s.alpha_bar[u]) / signal
        along_eps = math.sqrt(max(1 - s.alpha_bar[u] - sigma2, 0.0) * noise2)
        moved = (towards_x0 * noise2 - along_eps) * pull
        return towards_x0 - moved, moved * centre, sigma2

    return step


# the best variances for this data at T = 8, as in test_exact.py
BEST = [0, 0.018867924528302, 0.080026843385622, 0.13660062565172, 0.20479416529408]
BEST += [0.28634823863579, 0.3781574459701, 0.47572442258585, 0.57423488401982]


def everyday_variances(s):
    """DDPM's second choice; for T = 8 also its first, the best one for this data, and none."""
    no_noise_at_1 = s.beta.copy()
    no_noise_at_1[1] = 0
    more = {"beta_tilde": T8.beta_tilde, "best": np.array(BEST), "0": np.zeros(9)}
    return {"beta": no_noise_at_1, **(more if s is T8 else {})}


def paths(s):
    """Visited times: all, even, uneven, from below T, one single leap."""
    if s.T == 1:
        return [[1, 0]]
    uneven = [[8, 7, 3, 1, 0], [s.T, s.T // 2, 3, 2, 0]]
    return [list(range(s.T, -1, -1)), [8, 6, 4, 2, 0], *uneven, [5, 2, 0], [8, 0]]


def close(got, want, what, tol=1e-10):
    for name, a, b in zip(("mean", "standard deviation"), got, want, strict=True):
        numbers = f"{a:.6g}, expected {b:.6g}"
        if f"{a:.6g}" == f"{b:.6g}":
            numbers = f"off by {a - b:.2g} from the expected {b:.6g}"
        assert abs(a - b) < tol, f"{what}: the {name} of x_0 is {numbers}"


def started(x_T):
    """Say where a run starts, and why the right mean need not be 2."""
    if x_T != NOISE:
        return "from the true x_T"
    return "from N(0, 1) (not the true x_T yet, so not even a right sampler ends exactly at 2)"


# --- the checks: each takes the sampler under test ---

BATCH = (3, 2, 4, 3)
REFUSED = [8, 4], [8, 8, 0], [3, 5, 0], [8, 4, 4, 0], [0, 4, 8], [8, 4, -1], [8, -1, 0]
T13 = quiet(schedule.from_betas, np.full(13, 0.3))


def check_ddpm(ddpm):
    """Mean and variance of x_0 for each variance, at T = 8 and 1000, from noise and true x_T."""
    times, x_T = list(range(8, -1, -1)), forward(T8, 8)
    want = carried(T8, times, x_T, ddpm_step(T8, T8.beta_tilde))
    close(law_of(ddpm, T8, x_T), want, "T = 8, from the true x_T")

    def run(model, s, rng, x_T, clip=np.inf, shape=BATCH):
        return ddpm(model, s, shape, rng, x_T=x_T, clip=clip)

    check_manners(run, times)
    check_noise(run)
    clipping = "x0_hat is kept within [-clip, clip] before it is multiplied by c0"
    check_clip(run, clipping)
    for s in (*SCHEDULES, T1):
        times = range(s.T, -1, -1)
        for name, var in everyday_variances(s).items():
            starts = NOISE, forward(s, s.T)
            for x_T, got in zip(starts, laws_of(ddpm, s, starts, var=var), strict=True):
                want = carried(s, times, x_T, ddpm_step(s, var))
                close(got, want, f"T = {s.T}, var = {name}, {started(x_T)}")
            if name == "best":  # got: from the true x_T
                exactly = "the best variance makes ancestral sampling exact"
                close(got, (MEAN, math.sqrt(VAR)), exactly)
    want = carried(T8, range(8, -1, -1), NOISE, ddpm_step(T8, T8.beta_tilde))
    default = f"the default variance is beta_tilde; {started(NOISE)}"
    close(law_of(ddpm, T8, NOISE), want, default)


def check_ddpm_var(ddpm):
    """A variance given as a function: like an array, but for each pixel; called after the model."""
    x_T = np.random.default_rng(1).normal(size=(3, 2, 2, 1))
    for s in (T8, T1):
        model = exact.gaussian(s, MEAN, VAR)
        a = list(ddpm(model, s, x_T.shape, np.random.default_rng(4), x_T=x_T, var=s.beta))
        of_t = lambda x, t, s=s: np.full_like(x, s.beta[t])
        b = list(ddpm(model, s, x_T.shape, np.random.default_rng(4), x_T=x_T, var=of_t))
        assert all(np.allclose(x, y, rtol=0, atol=1e-13) for x, y in zip(a, b, strict=True)), (
            f"T = {s.T}: var as a function differs from var as an array"
        )
    model, called, asked = exact.gaussian(T8, MEAN, VAR), [], []

    def listening(x, t):
        called.append((t, x.copy()))
        return model(x, t)

    def note(x, t):
        assert called and called[-1][0] == t, f"var is called at t = {t} before eps_model is"
        asked.append((t, x.copy()))
        return np.full_like(x, T8.beta_tilde[t])

    list(ddpm(listening, T8, x_T.shape, np.random.default_rng(4), x_T=x_T, var=note))
    assert [t for t, _ in asked] == [8, 7, 6, 5, 4, 3, 2, 1], (
        f"var is called at {[t for t, _ in asked]}, expected 8, 7, ..., 1"
    )
    assert all(np.array_equal(x, y) for (_, x), (_, y) in zip(asked, called, strict=True)), (
        "var and eps_model get the same x_t"
    )
    share = np.linspace(0, 1, 12).reshape(x_T.shape)  # of the pixels the first has no noise at all
    *_, x0 = ddpm(model, T8, x_T.shape, Flat(), x_T=x_T, var=lambda x, t: share * T8.beta[t])
    for where in np.ndindex(x_T.shape):
        *_, alone = ddpm(model, T8, x_T.shape, Flat(), x_T=x_T, var=share[where] * T8.beta)
        assert abs(x0[where] - alone[where]) < 1e-14, (
            f"the pixel {where} does not get the variance that was given for it"
        )


def check_ddim(ddim):
    """Mean and variance of x_0 for eta = 0, 0.5 and 1 along full, even and uneven paths."""
    x_T = forward(T8, 8)
    for times in ([8, 7, 6, 5, 4, 3, 2, 1, 0], [8, 6, 4, 2, 0]):
        got, want = law_of(ddim, T8, x_T, times, 0.0), carried(T8, times, x_T, ddim_step(T8, 0.0))
        close(got, want, f"T = 8, times = {times}, eta = 0, from the true x_T")
    clipping = (
        "x0_hat is kept within [-clip, clip], and eps_hat is then computed again from x_t and the "
        "clipped x0_hat"
    )
    for times in ([8, 7, 3, 1, 0], [5, 0]):

        def run(model, s, rng, x_T, clip=np.inf, shape=BATCH):
            return ddim(model, s, shape, rng, times=times, eta=0.5, x_T=x_T, clip=clip)

        check_manners(run, times)
        check_clip(run, clipping)
        if len(times) > 2:
            check_noise(run)
    for s in (*SCHEDULES, T1):
        for times in paths(s):
            for eta in (0.0, 0.5, 1.0) if len(times) < 10 else (0.5,):
                starts = NOISE, forward(s, times[0])
                for x_T, got in zip(starts, laws_of(ddim, s, starts, times, eta), strict=True):
                    path = f"{times}" if len(times) < 10 else f"{times[0]}, {times[1]}, ..., 0"
                    what = f"T = {s.T}, times = {path}, eta = {eta}, {started(x_T)}"
                    close(got, carried(s, times, x_T, ddim_step(s, eta)), what)
    want = carried(T8, range(8, -1, -1), NOISE, ddim_step(T8, 0.0))
    default = f"by default: all times, eta = 0; {started(NOISE)}"
    close(law_of(ddim, T8, NOISE), want, default)
    check_times_refused(ddim)


def check_even_times(even_times):
    """From T to 0, all stretches of as many steps alike, the same from both ends."""
    few = even_times(T8, 4)
    assert isinstance(few, list), f"T = 8, 4 steps: got {type(few).__name__}, expected a list"
    assert few == [8, 6, 4, 2, 0], f"T = 8, 4 steps: got {few}, expected [8, 6, 4, 2, 0]"
    for s in (*SCHEDULES, T13, T1):
        for steps in range(1, s.T + 1) if s.T < 20 else (1, 2, 3, 7, 50, 333, 600, 999, 1000):
            times, case = even_times(s, steps), f"T = {s.T}, steps = {steps}"
            assert len(times) == steps + 1, (
                f"{case}: got {len(times)} times, expected {steps + 1}: a step is between two times"
            )
            assert all(type(t) is int for t in times), (
                f"{case}: the times are whole numbers, Python's int; got "
                f"{', '.join(sorted({type(t).__name__ for t in times}))}"
            )
            assert times[0] == s.T, f"{case}: the first time is {times[0]}, expected T = {s.T}"
            assert times[-1] == 0, f"{case}: the last time is {times[-1]}, expected 0"
            gaps = -np.diff(times)
            assert gaps.min() >= 1, (
                f"{case}: the times decrease, no time twice; got {times[:5]} ..."
            )
            for k in (1, 2, 3, steps // 2):
                lengths = [t - u for t, u in zip(times, times[k:], strict=False)] or [0]
                assert max(lengths) - min(lengths) <= 1, (
                    f"{case}: {k} step(s) take from {min(lengths)} to {max(lengths)}; such "
                    "stretches differ by at most one where all gaps are even"
                )
            for t, other in zip(times, times[::-1], strict=True):
                off = abs(t + other - s.T)  # 1 where two whole numbers are equally near
                assert off <= (2 * s.T * times.index(t) % (2 * steps) == steps), (
                    f"{case}: it has {t}, and {other} as far from the other end: "
                    "one of them is not the nearest whole number"
                )
    for case, want in (((T13, 5), [13, 10, 8, 5, 3, 0]), ((T13, 4), [13, 10, (6, 7), 3, 0])):
        got = even_times(*case)
        fits = all(
            a == b or isinstance(b, tuple) and a in b for a, b in zip(got, want, strict=True)
        )
        assert fits, f"T = 13, {case[1]} steps: got {got}, expected {want}"
    before = even_times(T8, 4)
    even_times(T8, 8)
    assert before == [8, 6, 4, 2, 0], "the next call changed the list that this one had returned"
    check_steps_refused(even_times)


def check_ddim_converges(ddim):
    """Halve all steps and the error halves, on an even and on two uneven grids.

    The limit is the probability flow. For a Gaussian it is known: each sample keeps its place in
    the bell, x_0 = mean + std / std_T (x_T - mean_T).
    """
    s, T = SMOOTH, SMOOTH.T
    x_T = np.array([[-1.3], [0.4], [2.2]])
    mean_T, var_T = forward(s, T)
    flow = MEAN + math.sqrt(VAR / var_T) * (x_T - mean_T)
    for late in (1, 2 / 3, 4 / 3):  # every second time is moved: gaps 1:1, 1:2, 2:1
        errors = []
        for steps in (80, 160, 320):
            gap = T // steps
            moved = range(round(gap * late), T, 2 * gap)
            times = sorted([*range(0, T + 1, 2 * gap), *moved], reverse=True)
            assert len(times) == steps + 1
            *_, x0 = ddim(exact.gaussian(s, MEAN, VAR), s, x_T.shape, None, times=times, x_T=x_T)
            errors.append(np.abs(x0 - flow).max())
        orders = [math.log2(a / b) for a, b in pairwise(errors)]
        got = ", ".join(f"{error:.4g}" for error in errors)
        assert all(abs(order - 1) < 0.03 for order in orders), (
            f"80, 160 and 320 steps: expected errors that halve each time; got {got}"
        )


def check_manners(run, times, calls=None, per_step=1):
    """What holds for every sampler: it visits times and yields as many arrays.

    run(model, s, rng, x_T, clip, shape): the sampler; calls: at which times the model is called,
    None = once at each but the last; per_step: how often in a step
    """
    model, called, kept = exact.gaussian(T8, MEAN, VAR), [], list(times)
    calls = times[:-1] if calls is None else calls

    def listening(x, t):
        called.append((t, x.copy()))
        return model(x, t)

    start = np.random.default_rng(1).normal(size=BATCH)
    for dtype in (np.float64, np.float32):
        x_T, seen, at_that_time = start.astype(dtype), [], []
        called.clear()
        for x in run(listening, T8, np.random.default_rng(2), x_T):
            seen.append(x)
            at_that_time.append(x.copy())
        assert times == kept, f"it changed the list of times that it was given, to {times}"
        asked = [t for t, _ in called]
        assert asked == calls, f"the model is called at t = {asked}, expected {calls}" + (
            ": once at each time but the last" if per_step == 1 else ""
        )
        assert all(isinstance(t, (int, np.integer)) for t in asked), "the model expects an int t"
        assert len(seen) == len(times), (
            f"it yields {len(seen)} arrays, expected {len(times)}: x_T, then one per step"
        )
        shapes, kinds = {x.shape for x in seen}, {str(x.dtype) for x in seen}
        assert shapes == {x_T.shape}, (
            f"it yields arrays of shapes {shapes}, expected {x_T.shape} each time"
        )
        assert kinds == {str(x_T.dtype)}, (
            f"x_T is {x_T.dtype}, and so is all that follows; got {sorted(kinds)}"
        )
        assert np.array_equal(x_T, start.astype(dtype)), "x_T is not to be changed"
        assert all(np.array_equal(a, b) for a, b in zip(seen, at_that_time, strict=True)), (
            "an array was changed after it had been yielded: make a new one at each step"
        )
        starts = [x for _, x in called[::per_step]]
        assert all(np.array_equal(a, x) for a, x in zip(seen, starts, strict=False)), (
            "the model gets what was yielded"
        )
    one = list(run(model, T8, Flat(), start[:1], shape=(1, *BATCH[1:])))
    for alone, many in zip(one, run(model, T8, Flat(), start), strict=True):
        assert np.allclose(alone, many[:1], rtol=0, atol=1e-12), (
            "one image alone comes out otherwise than in a batch, with the same noise"
        )
    for shape in (BATCH, (5, 2)):
        drawn = list(run(model, T8, np.random.default_rng(2), None, shape=shape))
        assert drawn[0].shape == shape, (
            f"without x_T noise of the shape given, {shape}, is drawn; got {drawn[0].shape}"
        )
        assert all(x.dtype == np.float32 for x in drawn), (
            f"x_T is drawn as float32, and so is all that follows; got {drawn[-1].dtype}"
        )
    seeds = 2, 2, 3
    drawn, again, other = (list(run(model, T8, np.random.default_rng(k), None)) for k in seeds)
    assert np.array_equal(drawn[-1], again[-1]), (
        "the same seed gave two different results: all noise comes from rng"
    )
    assert not np.allclose(drawn[-1], other[-1]), (
        "two seeds gave the same result: x_T is to be drawn from rng"
    )
    both = (run(model, T8, np.random.default_rng(seed), None) for seed in (2, 3))
    together = zip(*both, strict=True)
    for two, one, another in zip(together, drawn, other, strict=True):
        assert np.array_equal(two, [one, another]), "two runs side by side disturb each other"


class Nudged:
    """Stand in for a random generator in whose first draw one number, the last but one, is 1 more.

    numbers: how many a draw has to have
    """

    def __init__(self, numbers):
        self.rng, self.numbers, self.first = np.random.default_rng(2), numbers, True

    def standard_normal(self, size=None, dtype=np.float64, out=None):
        z = self.rng.standard_normal(size, dtype)
        drawn = np.size(z)
        assert drawn == self.numbers, (
            f"x_t has {self.numbers} values, each with noise of its own; it drew {drawn} numbers"
        )
        z.reshape(-1)[-2] += self.first
        self.first = False
        return z

    def normal(self, loc=0.0, scale=1.0, size=None):
        return loc + scale * self.standard_normal(size)


def check_noise(run):
    """Each number drawn acts on one value of x, and on no other: all noises are independent."""
    model, x_T = exact.gaussian(T8, MEAN, VAR), np.random.default_rng(1).normal(size=BATCH)
    plain = list(run(model, T8, np.random.default_rng(2), x_T))
    nudged = list(run(model, T8, Nudged(x_T.size), x_T))
    for k, (a, b) in enumerate(zip(plain, nudged, strict=True), start=1):
        changed = np.flatnonzero(a != b).tolist()
        on_itself = changed == [x_T.size - 2] or (k < len(plain) and not changed)
        assert on_itself, (
            "each value of x_t has noise of its own: one number that is drawn acts on one value; "
            f"here it acts on {len(changed)} of {x_T.size}"
        )


def check_clip(run, clipping):
    """clip does what a model with a clipped x0_hat would do, at both edges; clipping: in words."""
    model, start = exact.gaussian(T8, 0.3, 100.0), np.random.default_rng(1).normal(0, 10, BATCH)

    for clip in (1.5, 0.7):

        def clipped(x, t, clip=clip):
            x0_hat = np.clip(diffusion.predict_x0(T8, x, t, model(x, t)), -clip, clip)
            return diffusion.predict_eps(T8, x, t, x0_hat)

        case = f"clip = {clip}"
        ours = list(run(model, T8, Flat(), start, clip))
        theirs = list(run(clipped, T8, Flat(), start))
        close_enough = np.allclose(ours, theirs, rtol=0, atol=1e-9)
        assert close_enough, f"{case}: {clipping}"
        assert np.abs(ours[-1]).max() <= clip + 1e-12, (
            f"{case}: the last image, which is x0_hat, lies within [-{clip}, {clip}]"
        )
        single = list(run(model, T8, Flat(), start.astype(np.float32), clip))[-1]
        assert np.abs(single).max() <= clip + 1e-5, f"{case}, float32: the last image exceeds it"
    free = list(run(model, T8, Flat(), start))[-1]
    assert free.min() < -9 and free.max() > 9, (
        "without clip nothing is cut off: the values here go beyond -9 and 9; got "
        f"{free.min():.4g} to {free.max():.4g}"
    )


def check_steps_refused(times_for):
    """More steps than T, or fewer than one, are a ValueError. times_for(s, steps) -> times"""
    for s in (T8, LONG):
        for steps in (s.T + 1, 0, -1):
            came = "an answer"
            try:
                with np.errstate(all="ignore"):
                    times_for(s, steps)
            except ValueError:
                continue
            except Exception as error:
                came = type(error).__name__
            raise AssertionError(f"T = {s.T}, steps = {steps}: expected a ValueError, got {came}")


def check_times_refused(sampler, shape=(2, 1)):
    """Times that do not decrease to 0 are a ValueError."""
    model, x_T = exact.gaussian(T8, MEAN, VAR), np.ones(shape)
    for times in REFUSED:
        try:
            with np.errstate(all="ignore"):
                list(sampler(model, T8, x_T.shape, np.random.default_rng(0), list(times), x_T=x_T))
        except ValueError:
            continue
        raise AssertionError(f"times = {times} do not decrease to 0: expected a ValueError")


class Flat:
    """Stand in for a random generator that only ever draws 0.5."""

    def standard_normal(self, size=None, dtype=np.float64, out=None):
        return np.full(size, 0.5, dtype)

    def normal(self, loc=0.0, scale=1.0, size=None):
        return loc + scale * self.standard_normal(size)


# --- the package passes them ---


@grades("sample.ddpm")
def test_ddpm():
    check_ddpm(sample.ddpm)


@grades("sample.ddpm")
def test_ddpm_var():
    check_ddpm_var(sample.ddpm)


@grades("sample.ddim")
def test_ddim():
    check_ddim(sample.ddim)


@grades("sample.ddim")
def test_ddim_is_of_first_order():
    check_ddim_converges(sample.ddim)


@pytest.mark.parametrize("s", SCHEDULES, ids=["T8", "T1000"])
def test_the_best_variance_makes_ddpm_exact(s):
    got = law_of(sample.ddpm, s, forward(s, s.T), var=exact.gaussian_variance(s, VAR))
    close(got, (MEAN, math.sqrt(VAR)), f"T = {s.T}")


@pytest.mark.parametrize("s", SCHEDULES, ids=["T8", "T1000"])
def test_ddim_with_full_noise_over_all_steps_is_ddpm(s):
    """Step for step, with the same draws: not only in law."""
    model, x_T = exact.gaussian(s, MEAN, VAR), np.array([[-1.0], [0.2], [3.0]])
    ddpm = sample.ddpm(model, s, x_T.shape, np.random.default_rng(4), x_T=x_T)
    ddim = sample.ddim(model, s, x_T.shape, np.random.default_rng(4), eta=1.0, x_T=x_T)
    for a, b in zip(ddpm, ddim, strict=True):
        assert np.allclose(a, b, rtol=0, atol=1e-10)


def test_three_variances_three_widths():
    """The mean is right with all three; the width is not.

    beta_tilde assumes a single image, beta data of variance 1.
    """
    for name, std in (("beta_tilde", 0.3681), ("beta", 0.5444), ("best", 0.5)):
        got = law_of(sample.ddpm, T8, forward(T8, 8), var=everyday_variances(T8)[name])
        assert (round(got[0], 4), round(got[1], 4)) == (2, std)


def test_the_last_step_of_ddpm_adds_whatever_var_holds_at_1():
    """A single image is found exactly with beta_tilde; with beta the last step adds noise."""
    x_T, spread = np.zeros((2, 1)), {}
    for name, var in (("beta", T8.beta), ("none", everyday_variances(T8)["beta"])):
        model = exact.point(T8, np.zeros(1))
        rng = np.random.default_rng(0)
        *_, x0 = sample.ddpm(model, T8, x_T.shape, rng, x_T=x_T, var=var)
        spread[name] = np.abs(x0).max()
    assert spread["none"] < 1e-12 < 0.01 < spread["beta"]


def test_ddpm_draws_and_carries_its_noise_in_x_ts_precision(monkeypatch):
    given, step = [], kernels.denoise_step

    def listening(x, eps_hat, z, *rest):
        given.append(np.asarray(z).dtype)
        return step(x, eps_hat, z, *rest)

    monkeypatch.setattr(kernels, "denoise_step", listening, raising=False)
    for dtype in (np.float32, np.float64):
        given.clear()
        x_T = np.ones((3, 2), dtype)
        pixelwise = lambda x, t: np.full(x.shape, T8.beta_tilde[t])
        for var in (None, T8.beta, pixelwise):
            model, rng = exact.gaussian(T8, MEAN, VAR), np.random.default_rng(0)
            list(sample.ddpm(model, T8, x_T.shape, rng, x_T=x_T, var=var))
        assert set(given) == {np.dtype(dtype)} and len(given) == 3 * 8


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_one_image_is_found_exactly(sampler):
    """A model that knows one image leads to that image, whatever the noise; then it is clipped."""
    x0 = np.array([[0.5, -1.0], [3.0, 0.0]])
    run = getattr(sample, sampler)
    *_, found = run(exact.point(T8, x0), T8, (5, 2, 2), np.random.default_rng(0))
    assert np.allclose(found, x0, rtol=0, atol=1e-5)
    *_, found = run(exact.point(T8, x0), T8, (5, 2, 2), np.random.default_rng(0), clip=1)
    assert np.allclose(found, np.clip(x0, -1, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_a_data_set_is_reproduced(sampler):
    """With a model that has memorised its data each sample is one of the images; all are found."""
    data = np.array([[[1.0, -1.0]], [[0.0, 2.0]], [[-1.5, 0.5]]])
    run, s = getattr(sample, sampler), schedule.cosine(100)
    *_, found = run(exact.dataset(s, data), s, (40, 1, 2), np.random.default_rng(0))
    away = np.abs(found[:, None] - data).max((2, 3))
    assert away.min(1).max() < 1e-3 and set(away.argmin(1)) == {0, 1, 2}


@pytest.mark.parametrize("s", SCHEDULES, ids=["T8", "T1000"])
def test_single_precision_is_enough(s):
    model, x_T = exact.gaussian(s, MEAN, VAR), np.linspace(-2, 2, 7)[:, None]
    for run in (sample.ddpm, sample.ddim):
        *_, double = run(model, s, x_T.shape, Flat(), x_T=x_T)
        *_, single = run(model, s, x_T.shape, Flat(), x_T=x_T.astype(np.float32))
        assert np.allclose(single, double, rtol=0, atol=1e-4)


NOT_FALLING = [[3, 5, 0], [8, 8, 0], [8, 4, 4, 0], [0, 4, 8]]
BAD_TIMES = [[8, 4], [9, 0], [0], [], [8, 4, -1], [8, -1, 0], *NOT_FALLING]


@pytest.mark.parametrize("times", BAD_TIMES, ids=str)
def test_bad_times(times):
    model, rng = exact.gaussian(T8, MEAN, VAR), np.random.default_rng(0)
    with pytest.raises(ValueError, match="times must decrease from at most T = 8 to 0") as error:
        list(sample.ddim(model, T8, (1, 1), rng, times=times))
    assert "\n" not in str(error.value) and str(times) in str(error.value)


def test_times_may_be_any_sequence():
    x_T, model = np.ones((1, 1)), exact.gaussian(T8, MEAN, VAR)
    run = lambda times: list(sample.ddim(model, T8, (1, 1), None, times=times, x_T=x_T))
    expected = run((8, 4, 0))
    assert np.array_equal(run(np.array([8, 4, 0])), expected)
    assert np.array_equal(run(range(8, -1, -4)), expected)


@grades("sample.even_times")
def test_even_times():
    check_even_times(sample.even_times)


@pytest.mark.parametrize("steps", [0, -1, 9])
def test_even_times_bad_steps(steps):
    with pytest.raises(ValueError, match="steps is a whole number from 1 to T = 8") as error:
        sample.even_times(T8, steps)
    assert "\n" not in str(error.value)


# --- errata: each slip planted once, its number reproduced, and stopped by the right check ---


def ddim_with(update, visited=lambda times: times):
    """A whole DDIM around one line: update(x0_hat, eps_hat, z, sigma, ab_t, ab_u) -> x_u"""

    def ddim(eps_model, s, shape, rng, times=None, eta=0.0, x_T=None, clip=np.inf):
        times = visited(list(range(s.T, -1, -1) if times is None else times))
        x = rng.standard_normal(shape, dtype=np.float32) if x_T is None else x_T
        yield x
        for t, u in pairwise(times):
            ab_t, ab_u = s.alpha_bar[t].astype(x.dtype), s.alpha_bar[u].astype(x.dtype)
            x0_hat = np.clip(diffusion.predict_x0(s, x, t, eps_model(x, t)), -clip, clip)
            sigma = x.dtype.type(eta) * np.sqrt((1 - ab_u) / (1 - ab_t) * (1 - ab_t / ab_u))
            z = rng.standard_normal(x.shape, dtype=x.dtype) if eta else np.zeros_like(x)
            x = update(x0_hat, diffusion.predict_eps(s, x, t, x0_hat), z, sigma, ab_t, ab_u)
            yield x

    return ddim


def right(x0_hat, eps_hat, z, sigma, ab_t, ab_u):
    along = np.sqrt(np.maximum(1 - ab_u - sigma**2, 0))
    return np.sqrt(ab_u) * x0_hat + along * eps_hat + sigma * z


def minus_for_plus(x0_hat, eps_hat, z, sigma, ab_t, ab_u):
    along = np.sqrt(np.maximum(1 - ab_u - sigma**2, 0))
    return np.sqrt(ab_u) * x0_hat - along * eps_hat + sigma * z


def noise_on_top(x0_hat, eps_hat, z, sigma, ab_t, ab_u):
    return np.sqrt(ab_u) * x0_hat + np.sqrt(1 - ab_u) * eps_hat + sigma * z


def no_roots(x0_hat, eps_hat, z, sigma, ab_t, ab_u):
    return ab_u * x0_hat + np.maximum(1 - ab_u - sigma**2, 0) * eps_hat + sigma * z


def same_t_again(x0_hat, eps_hat, z, sigma, ab_t, ab_u):
    return right(x0_hat, eps_hat, z, sigma, ab_t, ab_t)


def first_steps_only(times):
    """The loop takes the number of the step for the time: as many times, but the lowest ones."""
    return list(range(len(times) - 1, -1, -1))


def test_the_plain_ddim_is_right():
    """So what the checks reject below is the slip and not the plain style."""

    def refusing(eps_model, s, shape, rng, times=None, *more, **options):
        times = sample.visited(s, times)
        return ddim_with(right)(eps_model, s, shape, rng, times, *more, **options)

    check_ddim(refusing)
    check_ddim_converges(ddim_with(right))


@pytest.mark.parametrize("wrong", [minus_for_plus, noise_on_top, no_roots, same_t_again])
def test_errata_ddim(wrong):
    rejects(check_ddim, ddim_with(wrong))


def ddim_law(ddim, s, times, x_T=NOISE):
    return law_of(ddim, s, x_T, times=times)


def test_errata_ddim_with_a_minus():
    """The mean stays right, so a plot of the average hides it: the spread is gone."""
    mean, std = ddim_law(ddim_with(minus_for_plus), LONG, sample.even_times(LONG, 50))
    assert abs(mean - 2) < 1e-6 and round(std, 3) == 0.000
    rejects(check_ddim_converges, ddim_with(minus_for_plus))


def test_errata_ddim_visiting_only_the_first_steps():
    """50 steps of 1000 are then the times 50 .. 0: noise is taken for an almost clean image."""
    wrong = ddim_with(right, first_steps_only)
    mean, std = ddim_law(wrong, LONG, sample.even_times(LONG, 50))
    assert (round(mean, 2), round(std, 2)) == (0.11, 0.96)
    rejects(check_ddim, wrong)
    rejects(check_ddim_converges, wrong)


def test_errata_ddim_next_time_computed_again():
    """u = t - T // steps is right on an even path only; elsewhere the pairs (t, u) do not chain."""

    def recomputed(eps_model, s, shape, rng, times=None, eta=0.0, x_T=None, clip=np.inf):
        times = list(range(s.T, -1, -1) if times is None else times)
        gap = times[0] // (len(times) - 1)
        x_T = rng.standard_normal(shape, dtype=np.float32) if x_T is None else x_T
        yield x_T
        for t in times[:-1]:
            *_, x_T = ddim_with(right)(eps_model, s, shape, rng, [t, max(t - gap, 0)], eta, x_T)
            yield x_T

    even = [8, 6, 4, 2, 0]
    close(ddim_law(recomputed, T8, even), ddim_law(sample.ddim, T8, even), "hidden on an even path")
    uneven = [8, 7, 3, 1, 0]
    assert abs(ddim_law(recomputed, T8, uneven)[0] - ddim_law(sample.ddim, T8, uneven)[0]) > 0.05
    rejects(check_ddim, recomputed)


def ddpm_with(mean, silent_up_to=1):
    """A whole DDPM: mean(s, x, t, x0_hat), and no noise from the time silent_up_to on."""

    def ddpm(eps_model, s, shape, rng, x_T=None, var=None, clip=np.inf):
        var = s.beta_tilde if var is None else var
        x = rng.standard_normal(shape, dtype=np.float32) if x_T is None else x_T
        yield x
        for t in range(s.T, 0, -1):
            z = np.zeros_like(x)
            if t > silent_up_to:
                z = rng.standard_normal(x.shape, dtype=x.dtype)
            x0_hat = np.clip(diffusion.predict_x0(s, x, t, eps_model(x, t)), -clip, clip)
            x = mean(s, x, t, x0_hat) + x.dtype.type(np.sqrt(var[t])) * z
            yield x

    return ddpm


def posterior_mean(s, x, t, x0_hat):
    return diffusion.q_posterior(s, x0_hat, x, t)[0]


def test_the_plain_ddpm_is_right():
    check_ddpm(ddpm_with(posterior_mean, silent_up_to=0))


def test_errata_no_noise_at_two_steps():
    """The paper's t <= 1 without noise is t <= 2 in code that counts from 0: a draw is missing."""
    wrong = ddpm_with(posterior_mean, silent_up_to=2)
    mean, std = law_of(wrong, T8, forward(T8, 8))
    assert (round(mean, 4), round(std, 4)) == (2, 0.3473)  # 0.3681 with the noise
    rejects(check_ddpm, wrong)


def variance_for_deviation(eps_model, s, shape, rng, x_T=None, var=None, clip=np.inf):
    var = s.beta_tilde if var is None else var
    return sample.ddpm(eps_model, s, shape, rng, x_T, var**2, clip)


def always_beta(eps_model, s, shape, rng, x_T=None, var=None, clip=np.inf):
    return sample.ddpm(eps_model, s, shape, rng, x_T, s.beta, clip)


def swapped_weights(s, x, t, x0_hat):
    return diffusion.q_posterior(s, x, x0_hat, t)[0]


def alpha_bar_of_the_step_after(s, x, t, x0_hat):
    c0, ct = diffusion.posterior_weights(s, min(t + 1, s.T))
    return (c0 * x0_hat + ct * x).astype(x.dtype)


def x0_and_noise_again(s, x, t, x0_hat):
    """Jump to x0_hat and noise it again: the mean of q(x_{t-1} | x0_hat), which forgets x_t."""
    return x0_hat * x.dtype.type(np.sqrt(s.alpha_bar[t - 1]))


WRONG_MEANS = swapped_weights, alpha_bar_of_the_step_after, x0_and_noise_again


@pytest.mark.parametrize("wrong", [variance_for_deviation, always_beta, *WRONG_MEANS])
def test_errata_ddpm(wrong):
    wrong = ddpm_with(wrong) if wrong in WRONG_MEANS else wrong
    rejects(check_ddpm, wrong)


WRONG_TIMES = {
    "the lowest times": lambda s, steps: list(range(steps, -1, -1)),
    "0 is missing": lambda s, steps: list(range(s.T, -1, -(s.T // steps)))[: steps + 1],
    "not rounded": lambda s, steps: [s.T * (steps - i) // steps for i in range(steps + 1)],
    "an array": lambda s, steps: np.linspace(s.T, 0, steps + 1).round(),
}


@pytest.mark.parametrize("wrong", WRONG_TIMES.values(), ids=WRONG_TIMES)
def test_errata_even_times(wrong):
    rejects(check_even_times, wrong)


def learned_from(q_sample, s):
    """What a network learns at best from q_sample's images: E[eps | x_t], here a straight line."""

    def eps_model(x, t):
        one, zero = np.ones(1), np.zeros(1)
        signal, noise = float(q_sample(s, one, t, zero)[0]), float(q_sample(s, zero, t, one)[0])
        return noise / (signal**2 * VAR + noise**2) * (x - signal * MEAN)

    return eps_model


def learned_law(q_sample, s, var=None):
    model = learned_from(q_sample, s)
    run = lambda rng, shape, x_T: sample.ddpm(model, s, shape, rng, x_T=x_T, var=var)
    return law(run, s, NOISE)


def test_what_the_right_forward_process_teaches():
    """So the two tests below blame q_sample and not the way the network is imitated."""
    for s in SCHEDULES:
        want = carried(s, range(s.T, -1, -1), NOISE, ddpm_step(s, s.beta_tilde))
        close(learned_law(diffusion.q_sample, s), want, f"T = {s.T}")


def test_errata_noise_by_its_variance():
    """With 1 - alpha_bar for its root a model trains well; the samples are a third too wide."""

    def slipped(s, x0, t, eps):
        return np.sqrt(s.alpha_bar[t]) * x0 + (1 - s.alpha_bar[t]) * eps

    cosine = schedule.cosine()
    beta = everyday_variances(cosine)["beta"]
    mean, std = learned_law(slipped, cosine, beta)
    assert abs(mean - 2) < 1e-6 and round(std, 3) == 0.678
    assert round(learned_law(diffusion.q_sample, cosine, beta)[1], 2) == 0.50


def test_errata_alpha_bar_shifted_by_one():
    """Training one step behind the sampler: hidden at T = 1000, loud at T = 8."""

    def slipped(s, x0, t, eps):
        return diffusion.q_sample(s, x0, t - 1, eps)

    assert round(learned_law(slipped, LONG)[0], 4) == 2.0036
    assert round(learned_law(slipped, T8)[0], 2) == 2.32


def test_errata_a_schedule_that_ends_too_early():
    """T = 50 with DDPM's betas: a perfect model and sampler that start from the wrong place."""
    s = quiet(schedule.linear, 50)
    before = s.alpha_bar[:-1] * VAR + 1 - s.alpha_bar[:-1]  # of x_{t-1}; x_t is seen
    best = np.append(0.0, before * s.beta[1:] / (s.alpha[1:] * before + s.beta[1:]))
    assert round(law_of(sample.ddpm, s, NOISE, var=best)[0], 2) == 1.45
    right_start = law_of(sample.ddpm, s, forward(s, 50), var=best)
    close(right_start, (MEAN, math.sqrt(VAR)), "from the true x_T nothing is lost")
