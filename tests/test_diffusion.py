"""The forward process and its algebra: each function is linear in two arrays, with two factors."""

import math
import warnings

import numpy as np
import pytest

from tinydiff import diffusion, schedule

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "terminal SNR")
    T8 = schedule.from_betas(np.linspace(0.02, 0.6, 8))  # short and loud
SCHEDULES = (T8, schedule.from_betas(np.linspace(1e-4, 0.02, 1000)))


def rejects(check, wrong):
    """The check that the right function passes must stop a wrong one."""
    with pytest.raises(AssertionError):
        check(wrong)


def some_times(s, first):
    """List all times of a short schedule, some of a long one; an ordinary one first.

    The first error is the one that is reported.
    """
    return (3, 2, first, *range(4, s.T + 1), 1) if s.T < 20 else (57, 2, 500, 999, 1000, 1, first)


def check_linear_in_both(f, expected, names, first=1):
    """f(s, a, t, b) is ca a + cb b with (ca, cb) = expected(s, t), in shape and precision too.

    For every t, given as an int or as (N,).
    """
    rng = np.random.default_rng(3)
    for s in SCHEDULES:
        times = np.array(some_times(s, first))
        a, b = rng.normal(2, 0.5, (2, len(times), 4, 2, 1))  # asymmetric on purpose
        weights = [expected(s, int(t)) for t in times]
        many = f"t of shape ({len(times)},)"
        # float32: 1 - alpha_bar[1] keeps 4 digits
        for dtype, tol in ((np.float64, 1e-11), (np.float32, 3e-4)):
            left, right = a.astype(dtype), b.astype(dtype)
            for n, t in enumerate(times):
                one = f(s, left[n : n + 1], int(t), right[n : n + 1])
                one = well_formed(one, (1, 4, 2, 1), dtype, f"t = {t}, an int")
                check_mix(one[0], a[n], b[n], weights[n], tol, f"t = {t} of T = {s.T}", names)
            each = f(s, left, times, right)
            each = well_formed(each, left.shape, dtype, f"{many}, one time per image")
            for n, t in enumerate(times):
                when = f"{many}, image {n} with its t = {t} of T = {s.T}"
                check_mix(each[n], a[n], b[n], weights[n], tol, when, names)
        x, y = a[:, 0, 0, 0], b[:, 0, 0, 0]
        flat = f(s, x, times, y)
        flat = well_formed(flat, times.shape, np.float64, "inputs of shape (N,)")
        ca, cb = np.transpose(weights)
        assert np.allclose(flat, ca * x + cb * y, rtol=1e-9), (
            "inputs of shape (N,), no axes after N: the result is wrong"
        )


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
            said += f", got {mix(yours[0], names[0], yours[1], names[1])}"
        else:
            said += "; yours is not such a mix: it uses other values, or a factor that varies"
    else:
        said += "; yours holds values that are not finite"
    raise AssertionError(said)


def by_steps(s, t):
    """Factor of the mean and standard deviation of x_t, step by step, in plain Python."""
    mean, var = 1.0, 0.0
    for u in range(1, t + 1):
        keep = 1 - s.beta[u]
        mean, var = math.sqrt(keep) * mean, keep * var + s.beta[u]
    return mean, math.sqrt(var)


# --- the checks: each takes the function under test ---


def check_q_step(q_step):
    """One step has its two coefficients; t steps have the mean and variance of the closed form."""
    weights = lambda s, t: (math.sqrt(1 - s.beta[t]), math.sqrt(s.beta[t]))
    check_linear_in_both(q_step, weights, ("x_prev", "eps"))
    for s in SCHEDULES:
        # row 0 starts at 1 and gets no noise: the mean; row t gets one unit of noise, at step t:
        # their squares add up to the variance
        x = np.zeros(s.T + 1)
        x[0] = 1
        for t in range(1, s.T + 1):
            x = q_step(s, x, t, (np.arange(s.T + 1) == t).astype(float))
            assert abs(x[0] - math.sqrt(s.alpha_bar[t])) < 1e-12, (
                f"{t} steps together keep another mean than sqrt(alpha_bar[{t}]) x0"
            )
            assert abs((x[1:] ** 2).sum() - (1 - s.alpha_bar[t])) < 1e-12, (
                f"{t} steps together add another variance than 1 - alpha_bar[{t}]"
            )


def check_q_sample(q_sample):
    """The closed form is the stepwise process, in mean and variance; at t = 0 it is the data."""
    check_linear_in_both(q_sample, by_steps, ("x0", "eps"), first=0)
    x0 = np.array([2.0, -1.0])
    assert np.array_equal(q_sample(T8, x0, 0, np.ones(2)), x0), "at t = 0 x_t is x0 itself, exactly"


def check_predict_x0(predict_x0):
    """Given the true noise it undoes q_sample."""
    weights = lambda signal, noise: (1 / signal, -noise / signal)
    roles = lambda x0, eps, x_t: (x_t, eps, x0)
    check_undoes(predict_x0, weights, roles, ("x_t", "eps_hat"), first=0)


def check_predict_eps(predict_eps):
    """Given the true image it finds the noise."""
    weights = lambda signal, noise: (1 / noise, -signal / noise)
    roles = lambda x0, eps, x_t: (x_t, x0, eps)
    check_undoes(predict_eps, weights, roles, ("x_t", "x0_hat"), first=1)


def check_undoes(f, weights, roles, names, first):
    check_linear_in_both(f, lambda s, t: weights(*by_steps(s, t)), names, first)
    rng = np.random.default_rng(5)
    for s in SCHEDULES:
        for t in some_times(s, first):
            x0, eps = rng.normal(2, 0.5, (4, 3)), rng.normal(size=(4, 3))
            signal, noise = by_steps(s, t)
            a, b, want = roles(x0, eps, signal * x0 + noise * eps)
            assert np.allclose(f(s, a, t, b), want, rtol=0, atol=1e-10), (
                f"t = {t} of T = {s.T}: what q_sample mixed does not come back"
            )


def check_v_target(v_target):
    """(x_t, v) is (x0, eps) turned by one angle: here, the angle's cosine and sine."""
    turned = lambda s, t: (-by_steps(s, t)[1], by_steps(s, t)[0])
    check_linear_in_both(v_target, turned, ("x0", "eps"), first=0)


def check_x0_from_v(x0_from_v):
    turned_back = lambda s, t: (by_steps(s, t)[0], -by_steps(s, t)[1])
    check_linear_in_both(x0_from_v, turned_back, ("x_t", "v"), first=0)


def check_eps_from_v(eps_from_v):
    turned_back = lambda s, t: (by_steps(s, t)[1], by_steps(s, t)[0])
    check_linear_in_both(eps_from_v, turned_back, ("x_t", "v"), first=0)


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


def check_posterior_weights(posterior_weights):
    """Both weights are those of Bayes' rule, for every t, given one by one and all at once."""
    for s in SCHEDULES:
        t = np.arange(1, s.T + 1)
        want = np.array([bayes(s, int(u))[:2] for u in t])
        for u in some_times(s, 1):
            check_weights(posterior_weights(s, int(u)), want[u - 1], (), f"t = {u} of T = {s.T}")
        both = posterior_weights(s, t)
        check_weights(both, want.T, t.shape, f"t = 1, 2, ..., {s.T} in one array")
        last = "t = 1, the last step of sampling, returns x0"
        check_weights(posterior_weights(s, 1), (1, 0), (), last)


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
    """Mean and variance are those of Bayes' rule, for every t; at t = 1 they are (x0, 0)."""
    x0, x_t = np.random.default_rng(7).normal(2, 0.5, (2, 4, 3, 2, 1))
    both = q_posterior(T8, x0, x_t, 3)
    assert isinstance(both, tuple) and len(both) == 2, (
        f"expected a pair (mean, var), got {type(both).__name__}"
    )
    mean_of = lambda s, x0, t, x_t: q_posterior(s, x0, x_t, t)[0]
    check_linear_in_both(mean_of, lambda s, t: bayes(s, t)[:2], ("x0", "x_t"))
    for s in SCHEDULES:
        for t in (*range(2, s.T + 1), 1):
            mean, var = q_posterior(s, x0[:1, :1, :1], x_t[:1, :1, :1], t)
            c0, ct, want = bayes(s, t)
            assert np.allclose(mean, c0 * x0[0, 0, 0] + ct * x_t[0, 0, 0], rtol=0, atol=1e-10), (
                f"t = {t} of T = {s.T}: the mean is wrong"
            )
            assert np.ndim(var) == 0, f"an int t has one variance, shape (); got {np.shape(var)}"
            assert abs(var - want) <= 1e-10 * s.beta[t], (
                f"t = {t} of T = {s.T}: expected var = {want:.6g}, got {var:.6g}"
            )
        mean, var = q_posterior(s, x0, x_t, 1)
        assert np.allclose(mean, x0, rtol=0, atol=1e-11) and var == 0, (
            "t = 1: the posterior is x0 itself, with variance 0"
        )
        var = q_posterior(s, x0, x_t, np.array([1, 2, 3, 8]))[1]
        assert var.shape == (4, 1, 1, 1), (
            "t of shape (4,), images (4, 3, 2, 1): expected var of shape (4, 1, 1, 1), "
            f"got {var.shape}"
        )
        assert np.allclose(var.ravel(), [bayes(s, t)[2] for t in (1, 2, 3, 8)], rtol=1e-8), (
            "t = [1, 2, 3, 8]: the variances are wrong"
        )
        dtype = q_posterior(s, x0.astype(np.float32), x_t.astype(np.float32), 2)[1].dtype
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


@pytest.mark.parametrize("s", SCHEDULES, ids=["T8", "T1000"])
def test_the_posterior_leads_back_along_the_forward_process(s):
    """q(x_{t-1} | x_t, x0) averaged over q(x_t | x0) is q(x_{t-1} | x0), in mean and variance."""
    for t in range(1, s.T + 1):
        c0, ct = diffusion.posterior_weights(s, t)
        signal, before = math.sqrt(s.alpha_bar[t]), math.sqrt(s.alpha_bar[t - 1])
        assert abs(c0 + ct * signal - before) < 1e-11
        assert abs(s.beta_tilde[t] + ct**2 * (1 - signal**2) - (1 - before**2)) < 1e-11


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


FACTORS = [noise_by_its_variance, signal_without_root, alpha_bar_shifted, alpha_for_alpha_bar]


@pytest.mark.parametrize("wrong", [*FACTORS, always_float64, in_place])
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
