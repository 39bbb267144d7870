"""The forward process and its algebra: each function is linear in two arrays, with two factors."""

import math
import warnings

import numpy as np
import pytest

from tinydiff import diffusion, schedule

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "terminal SNR")
    T8 = schedule.from_betas(np.linspace(0.02, 0.6, 8))  # short and loud
    ONE = schedule.from_betas([1 - 2.0**-26])  # T = 1, with hardly any image left
SCHEDULES = (T8, schedule.from_betas(np.linspace(1e-4, 0.02, 1000)))
IMAGES = (4, 2, 1), (), (3,), (4, 2)  # shapes after N


def table(text):
    """Read lines of T, t and numbers: str -> dict of (T, t) to numbers"""
    rows = (line.split() for line in text.strip().splitlines())
    return {(int(T), int(t)): tuple(map(float, numbers)) for T, t, *numbers in rows}


# Computed from the betas with 60 digits, by Python's decimal, and rounded.
# T and t; one step's factors of image and noise; those of the jump from x0
FACTORS = table("""
   1    1      0.0001220703125    0.99999999254942     0.0001220703125    0.99999999254942
   8    1     0.98994949366117    0.14142135623731    0.98994949366117    0.14142135623731
   8    2     0.94717625452862    0.32071349029491    0.93765665357848    0.34756294393966
   8    3     0.90237781127736    0.43094580368567     0.8461205587858     0.5329915571564
   8    4     0.85523597411976    0.51823877563477    0.72363274031593    0.69018523393569
   8    5     0.80533932511174    0.59281411203561    0.58276990271479    0.81263721333064
   8    6     0.75213980463361    0.65900357683833    0.43832444077425    0.89881682484249
   8    7      0.6948792289723    0.71912645420876    0.30458254944493     0.9524859424546
   8    8     0.63245553203368    0.77459666924148    0.19263491835736     0.9812704969729
1000    1     0.99994999874994                0.01    0.99994999874994                0.01
1000    2     0.99994003824233   0.010950795401245    0.99989003999043    0.01482929290047
1000   57     0.99939205744517   0.034864244083524    0.98142096179424    0.19186686986261
1000  500     0.99496731602599     0.1002000001998     0.2803341628874     0.9599024727118
1000  999     0.98995955468894     0.1413509111399  0.0064173153562362    0.99997940881981
1000 1000     0.98994949366117    0.14142135623731    0.00635281808757    0.99997982064757
""")
# T and t; in the mean of q(x_(t-1) | x_t, x0) the factors of x0 and x_t; its variance
POSTERIOR = table("""
   1    1                    1                   0                   0
   8    1                    1                   0                   0
   8    2     0.84290874578529    0.15681726068355   0.017029328287606
   8    3     0.61298308808989    0.38372021825649   0.078971718228266
   8    4     0.47704651725929    0.51002949557725    0.16016556176993
   8    5     0.38508966450786    0.58092065879002    0.25349825951141
   8    6     0.31327826965958    0.61482228227835     0.3549985419906
   8    7     0.24985558892197    0.61877757670539    0.46050650330507
   8    8     0.18979238570826    0.59589489130792    0.56531553077745
1000    1                    1                   0                   0
1000    2     0.54529149951027    0.45470849899056 5.4531876613026e-05
1000   57    0.032424998292306    0.96756948443496  0.0011768111542497
1000  500    0.003070071114265    0.99410667021017   0.010031355414614
1000  999  0.00012952423622958    0.98995872349107   0.019980063304243
1000 1000  0.00012835148717225    0.98994867826752   0.019999983526561
""")


def rejects(check, wrong):
    """The check that the right function passes must stop a wrong one."""
    with pytest.raises(AssertionError):
        check(wrong)


def some_times(s, first):
    """List the times in the tables, an ordinary one first, none below `first`, the edges twice.

    The first error is the one that is reported.
    """
    known = [t for T, t in FACTORS if T == s.T]
    return [*known[2:3], *known[1:2], first, *known[3:], 1, s.T]


def signed(rng, shape):
    """Draw numbers from N(2, 0.5^2), every second one with a minus: asymmetric, of both signs."""
    return rng.normal(2, 0.5, shape) * rng.choice([-1, 1], shape)


def check_linear_in_both(f, expected, names, first=1):
    """f(s, a, t, b) is ca a + cb b with (ca, cb) = expected(s, t), in shape and precision too.

    For every t, given as an int or as (N,), and images of one to four axes.
    """
    rng = np.random.default_rng(3)
    for s in (*SCHEDULES, ONE):
        times = np.array(some_times(s, first))
        weights = [expected(s, int(t)) for t in times]
        for image in IMAGES:
            a, b = signed(rng, (2, len(times), *image))
            # float32: 1 - alpha_bar[1] keeps 4 digits
            for dtype, tol in ((np.float64, 1e-11), (np.float32, 3e-4)):
                left, right = a.astype(dtype), b.astype(dtype)
                for n, t in enumerate(times if len(image) == 3 else times[:1]):
                    one = f(s, left[n : n + 1], int(t), right[n : n + 1])
                    one = well_formed(one, (1, *image), dtype, f"t = {t}, an int")
                    check_mix(one[0], a[n], b[n], weights[n], tol, f"t = {t} of T = {s.T}", names)
                for N in (len(times), 1):
                    many = f"t of shape ({N},), images {left[:N].shape}"
                    each = f(s, left[:N], times[:N], right[:N])
                    each = well_formed(each, left[:N].shape, dtype, f"{many}, one time per image")
                    for n, t in enumerate(times[:N]):
                        when = f"{many}, image {n} with its t = {t} of T = {s.T}"
                        check_mix(each[n], a[n], b[n], weights[n], tol, when, names)
    came = f(T8, a[:1], 3, b[:1])
    kept = came.copy()
    f(T8, b[:1], 3, a[:1])
    assert np.array_equal(came, kept), "the next call changed what this one had returned"


def well_formed(result, shape, dtype, when):
    assert isinstance(result, np.ndarray), (
        f"{when}: expected an array, got {type(result).__name__}; is there a return?"
    )
    assert result.shape == shape, (
        f"{when}: expected shape {shape}, as the inputs have, got {result.shape}"
    )
    assert result.dtype == dtype, (
        f"{when}: expected {np.dtype(dtype)}, as the inputs are, got {result.dtype}"
    )
    return result


def check_mix(got, a, b, weights, tol, when, names):
    """got is ca a + cb b; if it is another mix of a and b, say which."""
    ca, cb = weights
    if np.allclose(got, ca * a + cb * b, rtol=0, atol=4 * tol * (abs(ca) + abs(cb))):
        return
    mix = "{:.5g} {} {:+.5g} {}".format
    said = f"{when}: expected {mix(ca, names[0], cb, names[1])}"
    if np.all(np.isfinite(got)):
        both = np.stack([a.ravel(), b.ravel()], 1)
        yours = np.linalg.lstsq(both, got.ravel().astype(np.float64), rcond=None)[0]
        if np.allclose(both @ yours, got.ravel(), rtol=0, atol=1e-3):
            got = mix(yours[0], names[0], yours[1], names[1])
            late = "; yours differs in later digits: is part of it computed in less precision?"
            said += late if said.endswith(got) else f", got {got}"
        else:
            said += "; yours is not such a mix: it uses other values, or a factor that varies"
    else:
        said += "; yours holds values that are not finite"
    raise AssertionError(said)


def step(s, t):
    """How much of the image and of the noise one step holds -> two numbers, from the table"""
    return FACTORS[s.T, t][:2]


def jump(s, t):
    """How much of x0 and of eps x_t holds -> two numbers, from the table"""
    return FACTORS[s.T, t][2:] if t else (1.0, 0.0)


def turned(s, t):
    """How much of x0 and of eps v holds: x_t turned by a right angle in their plane."""
    ahead = 1j * complex(*jump(s, t))
    return ahead.real, ahead.imag


def undone(made, wanted):
    """Weigh two mixes of x0 and eps so that x0, or eps, alone is left.

    made: two functions (s, t) -> how much of x0 and of eps; wanted: 0 = x0, 1 = eps
    -> function (s, t) -> two weights
    """
    return lambda s, t: np.linalg.inv([mix(s, t) for mix in made])[wanted]


ONLY_X0, ONLY_EPS = (lambda s, t: (1.0, 0.0)), (lambda s, t: (0.0, 1.0))


# --- the checks: each takes the function under test ---


def check_q_step(q_step):
    """One step has its two coefficients; t steps have the mean and variance of the closed form."""
    check_linear_in_both(q_step, step, ("x_prev", "eps"))
    for s in SCHEDULES:
        # row 0 starts at 1 and gets no noise: the mean; row t gets one unit of noise, at step t:
        # their squares add up to the variance
        last = min(s.T, 60)
        x = np.zeros(last + 1)
        x[0] = 1
        for t in range(1, last + 1):
            x = q_step(s, x, t, (np.arange(last + 1) == t).astype(float))
            assert abs(x[0] - math.sqrt(s.alpha_bar[t])) < 1e-12, (
                f"{t} steps together keep another mean than sqrt(alpha_bar[{t}]) x0"
            )
            assert abs((x[1:] ** 2).sum() - (1 - s.alpha_bar[t])) < 1e-12, (
                f"{t} steps together add another variance than 1 - alpha_bar[{t}]"
            )


def check_q_sample(q_sample):
    """The closed form has its two coefficients; at t = 0 it is the data."""
    check_linear_in_both(q_sample, jump, ("x0", "eps"), first=0)
    x0 = np.array([2.0, -1.0])
    assert np.array_equal(q_sample(T8, x0, 0, np.ones(2)), x0), "at t = 0 x_t is x0 itself, exactly"


def check_predict_x0(predict_x0):
    """Given the true noise it undoes q_sample."""
    check_linear_in_both(predict_x0, undone((jump, ONLY_EPS), 0), ("x_t", "eps_hat"), first=0)


def check_predict_eps(predict_eps):
    """Given the true image it finds the noise."""
    check_linear_in_both(predict_eps, undone((jump, ONLY_X0), 1), ("x_t", "x0_hat"))


def check_v_target(v_target):
    """(x_t, v) is (x0, eps) turned by one angle; so lengths stay."""
    check_linear_in_both(v_target, turned, ("x0", "eps"), first=0)


def check_x0_from_v(x0_from_v):
    check_linear_in_both(x0_from_v, undone((jump, turned), 0), ("x_t", "v"), first=0)


def check_eps_from_v(eps_from_v):
    check_linear_in_both(eps_from_v, undone((jump, turned), 1), ("x_t", "v"), first=0)


def check_posterior_weights(posterior_weights):
    """Both weights, given one by one and all at once, in any order; at all times they lead back."""
    for s in (*SCHEDULES, ONE):
        times = some_times(s, 1)
        want = np.array([POSTERIOR[s.T, t][:2] for t in times])
        for u, weights in zip(times, want, strict=True):
            check_weights(posterior_weights(s, u), weights, (), f"t = {u} of T = {s.T}")
        both = posterior_weights(s, np.array(times))
        check_weights(both, want.T, (len(times),), f"t = {times} of T = {s.T} in one array")
        last = "t = 1, the last step of sampling, returns x0"
        check_weights(posterior_weights(s, 1), (1, 0), (), last)
        check_leads_back(posterior_weights, s)


def check_leads_back(posterior_weights, s):
    """From all x_t, as q_sample makes them, to all x_{t-1}: mean and variance fit, at every t."""
    t = np.arange(1, s.T + 1)
    c0, ct = posterior_weights(s, t)
    now, before = s.alpha_bar[1:], s.alpha_bar[:-1]
    spread = s.beta_tilde[1:] + ct**2 * (1 - now)
    off = np.maximum(abs(c0 + ct * np.sqrt(now) - np.sqrt(before)), abs(spread - (1 - before)))
    u = off.argmax() + 1
    assert off.max() < 1e-11, (
        f"t = {u} of T = {s.T}: c0 x0 + ct x_t, averaged over q(x_t | x0), isn't q(x_{u - 1} | x0)"
    )


def check_weights(pair, want, shape, when):
    assert isinstance(pair, tuple) and len(pair) == 2, (
        f"{when}: expected a pair (c0, ct), got {type(pair).__name__}"
    )
    for name, got, right in zip(("c0", "ct"), pair, want, strict=True):
        assert np.shape(got) == shape, (
            f"{when}: expected {name} in t's shape {shape}, got {np.shape(got)}"
        )
        assert np.asarray(got).dtype == np.float64, (
            f"{when}: expected {name} in float64, got {np.asarray(got).dtype}"
        )
        said = f"{name} is wrong"
        if shape == ():
            said = f"expected {name} = {right:.6g}, got {got:.6g}"
        assert np.allclose(got, right, rtol=1e-8, atol=1e-11), f"{when}: {said}"


def check_q_posterior(q_posterior):
    """Mean and variance are those of the table; at t = 1 they are (x0, 0)."""
    x0, x_t = signed(np.random.default_rng(7), (2, 4, 3, 2, 1))
    both = q_posterior(T8, x0, x_t, 3)
    assert isinstance(both, tuple) and len(both) == 2, (
        f"expected a pair (mean, var), got {type(both).__name__}"
    )
    mean_of = lambda s, x0, t, x_t: q_posterior(s, x0, x_t, t)[0]
    check_linear_in_both(mean_of, lambda s, t: POSTERIOR[s.T, t][:2], ("x0", "x_t"))
    for s in (*SCHEDULES, ONE):
        times = some_times(s, 1)
        want = np.array([POSTERIOR[s.T, t][2] for t in times])
        for t, right in zip(times, want, strict=True):
            var = q_posterior(s, x0, x_t, t)[1]
            assert np.ndim(var) == 0, f"an int t has one variance, shape (); got {np.shape(var)}"
            assert abs(var - right) <= 1e-10 * s.beta[t], (
                f"t = {t} of T = {s.T}: expected var = {right:.6g}, got {var:.6g}"
            )
        for image in IMAGES:
            for dtype in (np.float64, np.float32):
                images = np.ones((len(times), *image), dtype)
                var = q_posterior(s, images, images, np.array(times))[1]
                case = f"t of shape {want.shape}, {np.dtype(dtype)} images {images.shape}"
                shape = want.shape + (1,) * len(image)
                assert var.shape == shape, f"{case}: expected var of shape {shape}, got {var.shape}"
                assert var.dtype == dtype, f"{case}: expected var as they are, got {var.dtype}"
                assert np.allclose(var.ravel(), want, rtol=1e-6 if dtype == np.float32 else 1e-8), (
                    f"{case}, t = {times}: the variances are wrong"
                )
        mean, var = q_posterior(s, x0, x_t, 1)
        assert np.allclose(mean, x0, rtol=0, atol=1e-11) and var == 0, (
            "t = 1: the posterior is x0 itself, with variance 0"
        )
    dtype = q_posterior(T8, x0.astype(np.float32), x_t.astype(np.float32), 2)[1].dtype
    assert dtype == np.float32, f"float32 images: expected var in float32, got {dtype}"


CHECKS = {
    "q_step": check_q_step,
    "q_sample": check_q_sample,
    "predict_x0": check_predict_x0,
    "predict_eps": check_predict_eps,
    "v_target": check_v_target,
    "x0_from_v": check_x0_from_v,
    "eps_from_v": check_eps_from_v,
    "posterior_weights": check_posterior_weights,
    "q_posterior": check_q_posterior,
}


# --- the package passes them ---


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.exercise(f"diffusion.{name}")) for name in CHECKS]
)
def test_the_package(name):
    CHECKS[name](getattr(diffusion, name))


def by_steps(s, t):
    """Factor of the mean and standard deviation of x_t, step by step, in plain Python."""
    mean, var = 1.0, 0.0
    for u in range(1, t + 1):
        keep = 1 - s.beta[u]
        mean, var = math.sqrt(keep) * mean, keep * var + s.beta[u]
    return mean, math.sqrt(var)


def bayes(s, t):
    """q(x_{t-1} | x_t, x0) by precisions: two Gaussians for x_{t-1}, weighted by 1 / variance.

    By x_t = sqrt(alpha) x_{t-1} + noise it has mean x_t / sqrt(alpha) and variance beta / alpha; by
    the past it has mean signal x0 and variance noise^2. -> weight of x0, weight of x_t, variance
    """
    if t == 1:
        return 1.0, 0.0, 0.0  # the past knows x_0 exactly
    signal, noise = by_steps(s, t - 1)
    past, present = 1 / noise**2, (1 - s.beta[t]) / s.beta[t]
    total = past + present
    return past * signal / total, present / math.sqrt(1 - s.beta[t]) / total, 1 / total


@pytest.mark.parametrize("s", (*SCHEDULES, ONE), ids=["T8", "T1000", "T1"])
def test_the_tables_are_right(s):
    for t in some_times(s, 1):
        one = math.sqrt(1 - s.beta[t]), math.sqrt(s.beta[t])
        assert FACTORS[s.T, t] == pytest.approx((*one, *by_steps(s, t)), rel=1e-12)
        assert POSTERIOR[s.T, t] == pytest.approx(bayes(s, t), rel=1e-9, abs=1e-13)


@pytest.mark.parametrize("s", SCHEDULES, ids=["T8", "T1000"])
def test_the_posterior_is_that_of_bayes_rule_at_every_time(s):
    for t in range(1, s.T + 1):
        *weights, var = bayes(s, t)
        assert diffusion.posterior_weights(s, t) == pytest.approx(weights, rel=1e-8, abs=1e-11)
        assert (
            abs(diffusion.q_posterior(s, np.ones(1), np.ones(1), t)[1] - var) <= 1e-10 * s.beta[t]
        )


@pytest.mark.parametrize("s", SCHEDULES, ids=["T8", "T1000"])
def test_eps_x0_and_v_are_one_thing(s):
    """Any one of the three, with x_t, gives the other two."""
    x0, eps = np.random.default_rng(9).normal(2, 0.5, (2, 4, 3))
    for t in some_times(s, 1):
        x_t, v = diffusion.q_sample(s, x0, t, eps), diffusion.v_target(s, x0, t, eps)
        assert np.allclose(diffusion.x0_from_v(s, x_t, t, v), x0, rtol=0, atol=1e-12)
        assert np.allclose(diffusion.eps_from_v(s, x_t, t, v), eps, rtol=0, atol=1e-12)
        assert np.allclose(x_t**2 + v**2, x0**2 + eps**2, rtol=1e-12), "a turn keeps lengths"


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("s", SCHEDULES, ids=["T8", "T1000"])
def test_ddims_weights_are_the_papers_step(s, eta):
    """c0 x0_hat + ct x_t is the paper's mean, and eta = 1 from t to t - 1 is DDPM's step."""
    x_t, x0_hat = np.random.default_rng(10).normal(2, 0.5, (2, 4, 3))
    for t in some_times(s, 1):
        for u in {t - 1, t // 2, 0}:
            c0, ct, sigma = diffusion.ddim_weights(s, t, u, eta)
            eps_hat = diffusion.predict_eps(s, x_t, t, x0_hat)
            left = max(1 - s.alpha_bar[u] - sigma**2, 0)
            mean = math.sqrt(s.alpha_bar[u]) * x0_hat + math.sqrt(left) * eps_hat
            assert np.allclose(c0 * x0_hat + ct * x_t, mean, rtol=0, atol=1e-9)
            if eta == 1 and u == t - 1:
                step = (*diffusion.posterior_weights(s, t), math.sqrt(s.beta_tilde[t]))
                assert np.allclose((c0, ct, sigma), step, rtol=0, atol=1e-9)
            if eta == 0 or u == 0:
                assert sigma == 0


# --- errata: each slip, planted once, is stopped by the check that the right function passes ---


def at(values, t, x):
    ones = (1,) * (x.ndim - 1) if np.ndim(t) else ()
    return np.asarray(values[t], dtype=x.dtype).reshape(np.shape(t) + ones)


def noise_by_its_variance(s, x0, t, eps):
    return np.sqrt(at(s.alpha_bar, t, x0)) * x0 + at(1 - s.alpha_bar, t, x0) * eps


def signal_without_root(s, x0, t, eps):
    return at(s.alpha_bar, t, x0) * x0 + np.sqrt(at(1 - s.alpha_bar, t, x0)) * eps


def alpha_bar_shifted(s, x0, t, eps):
    return diffusion.q_sample(s, x0, np.maximum(t - 1, 0) if np.ndim(t) else max(t - 1, 0), eps)


def alpha_for_alpha_bar(s, x0, t, eps):
    return np.sqrt(at(s.alpha, t, x0)) * x0 + np.sqrt(at(1 - s.alpha, t, x0)) * eps


def always_float64(s, x0, t, eps):
    return diffusion.q_sample(s, x0.astype(np.float64), t, eps)


def in_place(s, x0, t, eps):
    x0 *= np.sqrt(at(s.alpha_bar, t, x0))
    x0 += np.sqrt(at(1 - s.alpha_bar, t, x0)) * eps
    return x0


SLIPS = [noise_by_its_variance, signal_without_root, alpha_bar_shifted, alpha_for_alpha_bar]


@pytest.mark.parametrize("wrong", [*SLIPS, always_float64, in_place])
def test_errata_q_sample(wrong):
    rejects(check_q_sample, wrong)


def test_errata_step_noise_by_its_variance():
    def without_root(s, x, t, eps):
        return np.sqrt(at(s.alpha, t, x)) * x + at(s.beta, t, x) * eps

    rejects(check_q_step, without_root)
    rejects(check_q_step, lambda s, x, t, eps: diffusion.q_sample(s, x, t, eps))


def test_errata_noisy_minus_fresh_noise():
    """The naive recipe subtracts new noise, not that which was added: the variance even grows."""
    s, t = T8, 3
    sigma = math.sqrt(1 - s.alpha_bar[t])
    # a unit of the noise that was added, a unit of fresh noise; the squares add up to a variance
    x_t = diffusion.q_sample(s, np.zeros(2), t, np.array([1.0, 0.0]))
    naive = x_t - sigma * np.array([0.0, 1.0])
    assert (naive**2).sum() == pytest.approx((x_t**2).sum() + sigma**2, rel=1e-12)
    assert np.abs(diffusion.predict_x0(s, x_t, t, np.array([1.0, 0.0]))).max() < 1e-15, (
        "the right recipe leaves no noise at all"
    )

    def subtract_fresh(s, x_t, t, eps_hat):
        fresh = np.random.default_rng(0).normal(size=x_t.shape).astype(x_t.dtype)
        return x_t - np.sqrt(1 - at(s.alpha_bar, t, x_t)) * fresh

    def without_division(s, x_t, t, eps_hat):
        return x_t - np.sqrt(1 - at(s.alpha_bar, t, x_t)) * eps_hat

    def a_plus_for_the_minus(s, x_t, t, eps_hat):
        return diffusion.predict_x0(s, x_t, t, -eps_hat)

    for wrong in (subtract_fresh, without_division, a_plus_for_the_minus):
        rejects(check_predict_x0, wrong)


def test_errata_v_turned_the_wrong_way():
    rejects(check_v_target, lambda s, x0, t, eps: -diffusion.v_target(s, x0, t, eps))
    rejects(check_v_target, lambda s, x0, t, eps: diffusion.q_sample(s, x0, t, eps))
    rejects(check_x0_from_v, lambda s, x_t, t, v: diffusion.x0_from_v(s, x_t, t, -v))
    rejects(check_eps_from_v, lambda s, x_t, t, v: diffusion.eps_from_v(s, x_t, t, -v))

    def without_division(s, x_t, t, x0_hat):
        return x_t - np.sqrt(at(s.alpha_bar, t, x_t)) * x0_hat

    rejects(check_predict_eps, without_division)


def test_errata_posterior():
    """The weights exchanged, alpha_bar[t] for alpha_bar[t-1], DDPM's other variance."""
    rejects(check_posterior_weights, lambda s, t: diffusion.posterior_weights(s, t)[::-1])
    rejects(check_q_posterior, lambda s, x0, x_t, t: diffusion.q_posterior(s, x_t, x0, t))

    def the_other_variance(s, x0, x_t, t):
        return diffusion.q_posterior(s, x0, x_t, t)[0], at(s.beta, t, x_t)

    rejects(check_q_posterior, the_other_variance)

    def now_for_before(s, t):
        c0 = np.sqrt(s.alpha_bar[t]) * s.beta[t] / (1 - s.alpha_bar[t])
        return c0, np.sqrt(s.alpha[t]) * np.ones_like(s.beta[t])

    rejects(check_posterior_weights, now_for_before)
