"""The forward process and its algebra: every function here is linear in its two arrays, so two numbers decide it."""

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
    """All times of a short schedule, some of a long one; a plain one to begin with, because the first error is the one that is told."""
    return (3, 2, first, *range(4, s.T + 1), 1) if s.T < 20 else (57, 2, 500, 999, 1000, 1, first)


def check_linear_in_both(f, expected, names, first=1):
    """f(s, a, t, b) is ca a + cb b with (ca, cb) = expected(s, t): for every t, shape and precision, t an int or (N,)."""
    rng = np.random.default_rng(3)
    for s in SCHEDULES:
        times = np.array(some_times(s, first))
        a, b = rng.normal(2, 0.5, (2, len(times), 4, 2, 1))  # asymmetric on purpose
        weights = [expected(s, int(t)) for t in times]
        for dtype, tol in (
            (np.float64, 1e-11),
            (np.float32, 3e-4),
        ):  # float32: 1 - alpha_bar[1] keeps 4 digits
            left, right = a.astype(dtype), b.astype(dtype)
            for n, t in enumerate(times):
                one = came_back(
                    f(s, left[n : n + 1], int(t), right[n : n + 1]),
                    (1, 4, 2, 1),
                    dtype,
                    f"t = {t}, an int",
                )
                check_mix(one[0], a[n], b[n], weights[n], tol, f"t = {t} of T = {s.T}", names)
            each = came_back(
                f(s, left, times, right),
                left.shape,
                dtype,
                f"t of shape ({len(times)},), one time for each image",
            )
            for n, t in enumerate(times):
                check_mix(
                    each[n],
                    a[n],
                    b[n],
                    weights[n],
                    tol,
                    f"t of shape ({len(times)},), image {n} with its t = {t} of T = {s.T}",
                    names,
                )
        flat = came_back(
            f(s, a[:, 0, 0, 0], times, b[:, 0, 0, 0]),
            times.shape,
            np.float64,
            "inputs of shape (N,)",
        )
        want = [
            ca * x + cb * y
            for (ca, cb), x, y in zip(weights, a[:, 0, 0, 0], b[:, 0, 0, 0], strict=True)
        ]
        assert np.allclose(flat, want, rtol=1e-9), (
            "inputs of shape (N,), no axes after N, come out wrong"
        )


def came_back(result, shape, dtype, when):
    assert isinstance(result, np.ndarray), (
        f"{when}: expected an array, came {type(result).__name__}; is there a return?"
    )
    assert result.shape == shape, (
        f"{when}: expected shape {shape}, as the inputs have, came {result.shape}"
    )
    assert result.dtype == dtype, (
        f"{when}: expected {np.dtype(dtype)}, as the inputs are, came {result.dtype}"
    )
    return result


def check_mix(came, a, b, weights, tol, when, names):
    """came is ca a + cb b; if it is another mix of a and b, say which."""
    ca, cb = weights
    if np.allclose(came, ca * a + cb * b, rtol=0, atol=4 * tol * (abs(ca) + abs(cb))):
        return
    mix = "{:.5g} {} {:+.5g} {}".format
    said = f"{when}: expected {mix(ca, names[0], cb, names[1])}"
    if np.all(np.isfinite(came)):
        both = np.stack([a.ravel(), b.ravel()], 1)
        yours = np.linalg.lstsq(both, came.ravel().astype(np.float64), rcond=None)[0]
        if np.allclose(both @ yours, came.ravel(), rtol=0, atol=1e-3):
            said += f", came {mix(yours[0], names[0], yours[1], names[1])}"
        else:
            said += "; yours is no such mix: other numbers enter, or the factor is not the same everywhere"
    else:
        said += "; yours holds numbers that are not finite"
    raise AssertionError(said)


def by_steps(s, t):
    """Mean factor and standard deviation of x_t, one noising step after another, in plain Python."""
    mean, var = 1.0, 0.0
    for u in range(1, t + 1):
        keep = 1 - s.beta[u]
        mean, var = math.sqrt(keep) * mean, keep * var + s.beta[u]
    return mean, math.sqrt(var)


# --- the checks: each takes the function under test ---


def check_q_step(q_step):
    """One step has its two coefficients; t steps together have the mean and variance of the closed form."""
    check_linear_in_both(
        q_step, lambda s, t: (math.sqrt(1 - s.beta[t]), math.sqrt(s.beta[t])), ("x_prev", "eps")
    )
    for s in SCHEDULES:
        # row 0 starts at 1 and sees no noise: the mean; row t sees one unit of noise, at step t: together, the variance
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
    """The closed form is the stepwise process, in mean and variance; at t = 0 it is the data itself."""
    check_linear_in_both(q_sample, by_steps, ("x0", "eps"), first=0)
    x0 = np.array([2.0, -1.0])
    assert np.array_equal(q_sample(T8, x0, 0, np.ones(2)), x0), "at t = 0 x_t is x0 itself, exactly"


def check_predict_x0(predict_x0):
    """It undoes q_sample when it is told the true noise."""
    check_undoes(
        predict_x0,
        lambda signal, noise: (1 / signal, -noise / signal),
        lambda x0, eps, x_t: (x_t, eps, x0),
        ("x_t", "eps_hat"),
        0,
    )


def check_predict_eps(predict_eps):
    """It finds the noise when it is told the true image."""
    check_undoes(
        predict_eps,
        lambda signal, noise: (1 / noise, -signal / noise),
        lambda x0, eps, x_t: (x_t, x0, eps),
        ("x_t", "x0_hat"),
        1,
    )


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
    check_linear_in_both(
        v_target, lambda s, t: (-by_steps(s, t)[1], by_steps(s, t)[0]), ("x0", "eps"), 0
    )


def check_x0_from_v(x0_from_v):
    check_linear_in_both(
        x0_from_v, lambda s, t: (by_steps(s, t)[0], -by_steps(s, t)[1]), ("x_t", "v"), 0
    )


def check_eps_from_v(eps_from_v):
    check_linear_in_both(
        eps_from_v, lambda s, t: (by_steps(s, t)[1], by_steps(s, t)[0]), ("x_t", "v"), 0
    )


def bayes(s, t):
    """q(x_{t-1} | x_t, x0) by precisions: two Gaussian statements about x_{t-1}, each weighed by 1 / variance.

    x_t = sqrt(alpha) x_{t-1} + noise says: x_{t-1} is x_t / sqrt(alpha), give or take beta / alpha. The past says:
    x_{t-1} is signal x0, give or take noise^2. -> weight of x0, weight of x_t, variance
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
        check_weights(
            posterior_weights(s, 1), (1, 0), (), "t = 1, the last step of sampling, returns x0"
        )


def check_weights(came, want, shape, when):
    assert isinstance(came, tuple) and len(came) == 2, (
        f"{when}: expected a pair (c0, ct), came {type(came).__name__}"
    )
    for name, got, right in zip(("c0", "ct"), came, want, strict=True):
        assert np.shape(got) == shape, (
            f"{when}: expected {name} in t's shape {shape}, came {np.shape(got)}"
        )
        assert np.asarray(got).dtype == np.float64, (
            f"{when}: expected {name} in float64, came {np.asarray(got).dtype}"
        )
        said = (
            f"expected {name} = {right:.6g}, came {got:.6g}" if shape == () else f"{name} is wrong"
        )
        assert np.allclose(got, right, rtol=1e-8, atol=1e-11), f"{when}: {said}"


def check_q_posterior(q_posterior):
    """Mean and variance are those of Bayes' rule, for every t; at t = 1 they are (x0, 0)."""
    x0, x_t = np.random.default_rng(7).normal(2, 0.5, (2, 4, 3, 2, 1))
    both = q_posterior(T8, x0, x_t, 3)
    assert isinstance(both, tuple) and len(both) == 2, (
        f"expected a pair (mean, var), came {type(both).__name__}"
    )
    check_linear_in_both(
        lambda s, x0, t, x_t: q_posterior(s, x0, x_t, t)[0],
        lambda s, t: bayes(s, t)[:2],
        ("x0", "x_t"),
    )
    for s in SCHEDULES:
        for t in (*range(2, s.T + 1), 1):
            mean, var = q_posterior(s, x0[:1, :1, :1], x_t[:1, :1, :1], t)
            c0, ct, want = bayes(s, t)
            assert np.allclose(mean, c0 * x0[0, 0, 0] + ct * x_t[0, 0, 0], rtol=0, atol=1e-10), (
                f"t = {t} of T = {s.T}: the mean is wrong"
            )
            assert np.ndim(var) == 0, f"an int t has one variance, shape (); came {np.shape(var)}"
            assert abs(var - want) <= 1e-10 * s.beta[t], (
                f"t = {t} of T = {s.T}: expected var = {want:.6g}, came {var:.6g}"
            )
        mean, var = q_posterior(s, x0, x_t, 1)
        assert np.allclose(mean, x0, rtol=0, atol=1e-11) and var == 0, (
            "t = 1: the posterior is x0 itself, with variance 0"
        )
        var = q_posterior(s, x0, x_t, np.array([1, 2, 3, 8]))[1]
        assert var.shape == (4, 1, 1, 1), (
            f"t of shape (4,), images (4, 3, 2, 1): expected var of shape (4, 1, 1, 1), came {var.shape}"
        )
        assert np.allclose(var.ravel(), [bayes(s, t)[2] for t in (1, 2, 3, 8)], rtol=1e-8), (
            "t = [1, 2, 3, 8]: the variances are wrong"
        )
        dtype = q_posterior(s, x0.astype(np.float32), x_t.astype(np.float32), 2)[1].dtype
        assert dtype == np.float32, f"float32 images: expected var in float32, came {dtype}"


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


@pytest.mark.parametrize("s", SCHEDULES, ids=["T8", "T1000"])
def test_the_posterior_leads_back_along_the_forward_process(s):
    """Averaged over q(x_t | x0), q(x_{t-1} | x_t, x0) is q(x_{t-1} | x0) again: in mean and in variance."""
    for t in range(1, s.T + 1):
        c0, ct = diffusion.posterior_weights(s, t)
        signal, before = math.sqrt(s.alpha_bar[t]), math.sqrt(s.alpha_bar[t - 1])
        assert abs(c0 + ct * signal - before) < 1e-11
        assert abs(s.beta_tilde[t] + ct**2 * (1 - signal**2) - (1 - before**2)) < 1e-11


# --- errata: each slip, planted once, is stopped by the check that the right function passes ---


def at(values, t, x):
    return np.asarray(values[t], dtype=x.dtype).reshape(
        np.shape(t) + (1,) * (x.ndim - 1) * (np.ndim(t) > 0)
    )


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


@pytest.mark.parametrize(
    "wrong",
    [
        noise_by_its_variance,
        signal_without_root,
        alpha_bar_shifted,
        alpha_for_alpha_bar,
        always_float64,
        in_place,
    ],
)
def test_errata_q_sample(wrong):
    rejects(check_q_sample, wrong)


def test_errata_step_noise_by_its_variance():
    rejects(
        check_q_step, lambda s, x, t, eps: np.sqrt(at(s.alpha, t, x)) * x + at(s.beta, t, x) * eps
    )
    rejects(check_q_step, lambda s, x, t, eps: diffusion.q_sample(s, x, t, eps))


def test_errata_noisy_minus_fresh_noise():
    """The naive recipe subtracts new noise, not the noise that was added: the variance grows by sigma^2 instead of shrinking."""
    s, t = T8, 3
    sigma = math.sqrt(1 - s.alpha_bar[t])
    # rows: one unit of the noise that was added, one unit of the fresh noise; the squares add up to a variance
    x_t = diffusion.q_sample(s, np.zeros(2), t, np.array([1.0, 0.0]))
    naive = x_t - sigma * np.array([0.0, 1.0])
    assert (naive**2).sum() == pytest.approx((x_t**2).sum() + sigma**2, rel=1e-12)
    assert np.abs(diffusion.predict_x0(s, x_t, t, np.array([1.0, 0.0]))).max() < 1e-15, (
        "the right recipe leaves no noise at all"
    )

    def subtract_fresh(s, x_t, t, eps_hat):
        fresh = np.random.default_rng(0).normal(size=x_t.shape).astype(x_t.dtype)
        return x_t - np.sqrt(1 - at(s.alpha_bar, t, x_t)) * fresh

    rejects(check_predict_x0, subtract_fresh)
    rejects(
        check_predict_x0,
        lambda s, x_t, t, eps_hat: x_t - np.sqrt(1 - at(s.alpha_bar, t, x_t)) * eps_hat,
    )  # root forgotten
    rejects(
        check_predict_x0, lambda s, x_t, t, eps_hat: diffusion.predict_x0(s, x_t, t, -eps_hat)
    )  # a plus for the minus


def test_errata_v_turned_the_wrong_way():
    rejects(check_v_target, lambda s, x0, t, eps: -diffusion.v_target(s, x0, t, eps))
    rejects(check_v_target, lambda s, x0, t, eps: diffusion.q_sample(s, x0, t, eps))
    rejects(check_x0_from_v, lambda s, x_t, t, v: diffusion.x0_from_v(s, x_t, t, -v))
    rejects(check_eps_from_v, lambda s, x_t, t, v: diffusion.eps_from_v(s, x_t, t, -v))
    rejects(
        check_predict_eps, lambda s, x_t, t, x0_hat: x_t - np.sqrt(at(s.alpha_bar, t, x_t)) * x0_hat
    )


def test_errata_posterior():
    """The two weights exchanged, alpha_bar[t] for alpha_bar[t-1], and DDPM's other variance taken for the posterior's."""
    rejects(check_posterior_weights, lambda s, t: diffusion.posterior_weights(s, t)[::-1])
    rejects(check_q_posterior, lambda s, x0, x_t, t: diffusion.q_posterior(s, x_t, x0, t))
    rejects(
        check_q_posterior,
        lambda s, x0, x_t, t: (diffusion.q_posterior(s, x0, x_t, t)[0], at(s.beta, t, x_t)),
    )

    def now_for_before(s, t):
        c0, ct = (
            np.sqrt(s.alpha_bar[t]) * s.beta[t] / (1 - s.alpha_bar[t]),
            np.sqrt(s.alpha[t]) * np.ones_like(s.beta[t]),
        )
        return c0, ct

    rejects(check_posterior_weights, now_for_before)
