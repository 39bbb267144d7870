"""Restoration against closed forms: for Gaussian data the law of what is drawn is known.

So is the posterior that it should have, both to rounding.
"""

import inspect
import math
from functools import reduce
from itertools import pairwise, product

import numpy as np
import pytest
from test_edit import COV, MIDDLE, PHOTO, SHAPE, carried, close, correlated, law, step, white
from test_sample import SMOOTH, T8, rejects

from tinydiff import diffusion, exact, guide, sample
from tinydiff.design import restore

pytestmark = pytest.mark.usefixtures("kernel_set")


def slip(function, old, new):
    """Build the function with one piece of its source exchanged."""
    source = inspect.getsource(function)
    said = f"{old!r} stands {source.count(old)} times in {function.__name__}"
    assert source.count(old) == 1, said
    scope = dict(function.__globals__)
    exec(source.replace(old, new), scope)
    return scope[function.__name__]


# --- project ---

# two values of four are known, neither of them a pixel
SEEN = np.array([[0.5, 0.5, 0.2, 0.0], [0.0, -0.3, 0.6, 1.0]])
UNSEEN = np.eye(4) - np.linalg.pinv(SEEN) @ SEEN
KNOWN = SEEN @ PHOTO


def see(x):
    return x.reshape(len(x), 4) @ SEEN.T


def see_pinv(y):
    return (y @ np.linalg.pinv(SEEN).T).reshape(-1, *SHAPE)


def restored(project, model, times, eta):
    agreeing = project(model, T8, KNOWN, see, see_pinv)
    run = lambda rng, x: sample.ddim(agreeing, T8, x.shape, rng, times, eta, x)
    return law(run, SHAPE, white(4))


def check_project_law(project):
    """Project x0_hat, an affine function of x_t, and take eps_hat and the step from it."""
    for times, eta in ((range(8, -1, -1), 0.0), ([8, 6, 3, 1, 0], 0.7)):
        want = white(4)
        for t, u in pairwise(times):
            _, _, sigma2, _ = step(T8, t, u, eta)
            ab_t, ab_u = T8.alpha_bar[t], T8.alpha_bar[u]
            gain = math.sqrt(ab_t) * COV @ np.linalg.inv(ab_t * COV + (1 - ab_t) * np.eye(4))
            unseen = UNSEEN @ (MIDDLE - math.sqrt(ab_t) * gain @ MIDDLE)
            G, g = UNSEEN @ gain, unseen + np.linalg.pinv(SEEN) @ KNOWN
            along = math.sqrt(max(1 - ab_u - sigma2, 0) / (1 - ab_t))
            to_x0 = math.sqrt(ab_u) - along * math.sqrt(ab_t)
            want = carried(want, to_x0 * G + along * np.eye(4), to_x0 * g, sigma2)
        close(restored(project, correlated(T8, MIDDLE, COV), times, eta), want, f"eta {eta}")


def check_agreement(project):
    """What is known holds to rounding; what A does not see is drawn as ever, if independent."""
    model = exact.gaussian(T8, 0.4, 0.3)
    for times, eta in ((range(8, -1, -1), 0.0), ([8, 6, 3, 1, 0], 0.7)):
        for any_model in (model, correlated(T8, MIDDLE, COV)):
            mean, cov = restored(project, any_model, times, eta)
            assert np.abs(SEEN @ mean - KNOWN).max() < 1e-12 and np.abs(SEEN @ cov).max() < 1e-12
        mean, cov = restored(project, model, times, eta)
        free = restored(lambda eps_model, *_: eps_model, model, times, eta)
        close((UNSEEN @ mean, cov), (UNSEEN @ free[0], UNSEEN @ free[1] @ UNSEEN), "round Gaussian")


@pytest.mark.parametrize("check", (check_project_law, check_agreement))
def test_project(check):
    check(restore.project)


def test_project_in_pictures():
    """Enlarge and colour: the means of 2 x 2 pixels and of channels stay as they are.

    Repeating each is the pseudo-inverse.
    """
    photo = np.random.default_rng(3).normal(0.2, 0.6, (2, 4, 6, 3))
    x_T = np.random.default_rng(4).normal(size=photo.shape)
    down = lambda x: x.reshape(2, 2, 2, 3, 2, 3).mean((2, 4))
    up = lambda y: y.repeat(2, 1).repeat(2, 2)
    grey = lambda x: x.mean(-1, keepdims=True)
    spread = lambda y: y.repeat(3, -1)
    for A, A_pinv in ((down, up), (grey, spread)):
        model = restore.project(exact.gaussian(T8, 0.4, 0.3), T8, A(photo), A, A_pinv)
        for sampler in (sample.ddim, sample.heun, sample.dpmpp_2m):
            *_, x0 = sampler(model, T8, photo.shape, None, x_T=x_T)
            assert np.abs(A(x0) - A(photo)).max() < 1e-10 and np.abs(x0 - photo).max() > 0.1


def test_errata_project():
    """A sign, the transpose for the pseudo-inverse, the old x0_hat, the noisy image for it."""
    line = "predict_eps(s, x_t, t, x0_hat + A_pinv(y - A(x0_hat)))"
    for check, new in (
        (check_agreement, "predict_eps(s, x_t, t, x0_hat - A_pinv(y - A(x0_hat)))"),
        (check_agreement, "predict_eps(s, x_t, t, x0_hat)"),
        (check_agreement, "predict_eps(s, x_t, t, A_pinv(y))"),
        (check_project_law, "predict_eps(s, x_t, t, x0_hat + A_pinv(y - A(x_t)))"),
        (check_project_law, "predict_eps(s, x_t, max(t - 1, 1), x0_hat + A_pinv(y - A(x0_hat)))"),
    ):
        rejects(check, slip(restore.project, line, new))

    def transposed(eps_model, s, y, A, _):
        return restore.project(eps_model, s, y, A, lambda y: (y @ SEEN).reshape(-1, *SHAPE))

    rejects(check_agreement, transposed)


# --- degradations ---

PIXELS = np.random.default_rng(8).normal(0.3, 1.0, (2, 8, 8, 3))
KINDS = {
    "half": (restore.shrink(8, 3, 2), (4, 4, 3)),
    "quarter": (restore.shrink(8, 3, 4), (2, 2, 3)),
    "one pixel": (restore.shrink(8, 3, 8), (1, 1, 3)),
    "as it is": (restore.shrink(8, 3, 1), (8, 8, 3)),
    "blur": (restore.blur(8, 3, 0.9), (8, 8, 3)),
    "grey": (restore.grey(8, 3), (8, 8, 1)),
}


@pytest.mark.parametrize("A, shape", KINDS.values(), ids=KINDS)
def test_adjoint_and_pseudo_inverse(A, shape):
    """<A x, g> = <x, A^T g>, and A A_pinv A = A; all that is one colour stays that colour."""
    y = restore.degrade(A, PIXELS)
    assert y.shape == (2, *shape)
    assert restore.degrade(A, PIXELS.astype(np.float32)).dtype == np.float32
    g = np.random.default_rng(9).normal(size=y.shape)
    assert abs((y * g).sum() - (PIXELS * restore.degrade([M.T for M in A], g)).sum()) < 1e-10
    back = restore.degrade([np.linalg.pinv(M) for M in A], y)
    assert np.abs(restore.degrade(A, back) - y).max() < 1e-10
    assert np.abs(restore.degrade(A, np.full_like(PIXELS, 0.7)) - 0.7).max() < 1e-12


def check_shrink(shrink):
    """Means of blocks, written as a reshape."""
    for k in (1, 2, 4, 8):
        want = PIXELS.reshape(2, 8 // k, k, 8 // k, k, 3).mean((2, 4))
        assert np.abs(restore.degrade(shrink(8, 3, k), PIXELS) - want).max() < 1e-12


def check_blur(blur):
    """A sum over mirrored neighbours, pixel by pixel; symmetric, as window and mirror are."""
    for size, std in ((5, 0.8), (8, 2.0)):
        w = {j: math.exp(-(j**2) / (2 * std**2)) for j in range(-size, size + 1)}
        want = np.zeros((size, size))
        for i, j in product(range(size), w):
            at = (i + j) % (2 * size)
            want[i, min(at, 2 * size - 1 - at)] += w[j] / sum(w.values())
        rows, columns, channels = blur(size, 2, std)
        assert np.abs(rows - want).max() < 1e-12 and np.abs(columns - want).max() < 1e-12
        assert np.array_equal(channels, np.eye(2))
        assert np.abs(rows - rows.T).max() < 1e-12


def check_grey(grey):
    want = PIXELS.mean(-1, keepdims=True)
    assert np.abs(restore.degrade(grey(8, 3), PIXELS) - want).max() < 1e-12


def test_degradations():
    check_shrink(restore.shrink)
    check_blur(restore.blur)
    check_grey(restore.grey)


def test_errata_degradations():
    """A sum for a mean, every k-th pixel, a window of other sum or width, black outside."""
    repeated = "np.repeat(np.eye(size // k), k, axis=1)"
    for check, function, old, new in (
        (check_shrink, restore.shrink, "axis=1) / k", "axis=1)"),
        (check_shrink, restore.shrink, repeated, "np.tile(np.eye(size // k), k)"),
        (check_blur, restore.blur, " / w.sum()", ""),
        (check_blur, restore.blur, "(2 * std**2)", "(std**2)"),
        (check_blur, restore.blur, '"symmetric"', '"reflect"'),
        (check_blur, restore.blur, '"symmetric"', '"constant"'),
        (check_grey, restore.grey, "1 / channels", "1.0"),
    ):
        rejects(check, slip(function, old, new))


# --- log_p_gradient, and guide.by_x0_hat with it: the exact posterior of Gaussian data ---

# 2 x 2 pixels become 1 x 2, the lower row counting more; and the same, of the flattened picture
DOWN = (np.array([[0.3, 0.7]]), np.eye(2), np.eye(1))
SEES, NOISE = np.array([[0.3, 0, 0.7, 0], [0, 0.3, 0, 0.7]]), 0.4
GIVEN = np.array([0.9, -0.5])


def posterior(mean, cov):
    """Condition N(mean, cov) on y = SEES x + NOISE z = GIVEN: precisions add up."""
    after = np.linalg.inv(np.linalg.inv(cov) + SEES.T @ SEES / NOISE**2)
    return after @ (np.linalg.solve(cov, mean) + SEES.T @ GIVEN / NOISE**2), after


def through(eps_model, s, cov):
    """Give a model's derivative too, as autodiff does for a network; cov is not needed."""
    D = math.prod(SHAPE)

    def eps_model_vjp(x_t, t):
        zero = eps_model(np.zeros((1, *SHAPE)), t)
        units = np.eye(D).reshape(D, *SHAPE)
        J = (eps_model(units, t) - zero).reshape(D, D).T  # it is affine: column by column
        return eps_model(x_t, t), lambda g: (g.reshape(-1, D) @ J).reshape(g.shape)

    return eps_model_vjp


ROUND = 0.3
DATA = {
    "correlated": (COV, COV),
    "round": (ROUND * np.eye(4), ROUND),
    "round, as a matrix": (ROUND * np.eye(4), ROUND * np.eye(4)),
}


def restored_by(log_p_gradient, by_x0_hat, vjp_of, matrix, cov):
    model = vjp_of(correlated(T8, MIDDLE, matrix), T8, cov)
    return by_x0_hat(model, T8, log_p_gradient(T8, GIVEN.reshape(1, 1, 2, 1), DOWN, NOISE, cov))


def test_covariance():
    """Three pictures, by hand."""
    x = np.array([[1.0, 2.0], [3.0, 2.5], [2.0, 6.0]]).reshape(3, 1, 2, 1)
    assert np.allclose(restore.covariance(x), [[1.0, 0.25], [0.25, 4.75]], atol=1e-12)


def check_posterior(
    log_p_gradient, by_x0_hat=guide.by_x0_hat, providers=(through, guide.assume_gaussian)
):
    """At every t guided eps_hat is that of the perfect model for the exact posterior.

    So it is whichever way the derivative came.
    """
    x = np.random.default_rng(5).normal(0.2, 1.3, (3, *SHAPE))
    for (name, (matrix, cov)), vjp_of in product(DATA.items(), providers):
        want = correlated(T8, *posterior(MIDDLE, matrix))
        model = restored_by(log_p_gradient, by_x0_hat, vjp_of, matrix, cov)
        for t in range(1, 9):
            off = np.abs(model(x, t) - want(x, t)).max()
            assert off < 1e-10, f"{name}, t = {t}: off by {off:.3g}"


def check_drawn(log_p_gradient):
    """ddim from the exact posterior at T: the mean is right to rounding, the rest to a step."""
    s, (mean, cov), y = SMOOTH, posterior(MIDDLE, COV), GIVEN.reshape(1, 1, 2, 1)
    plain = guide.assume_gaussian(correlated(s, MIDDLE, COV), s, COV)
    model = guide.by_x0_hat(plain, s, log_p_gradient(s, y, DOWN, NOISE, COV))
    ab, off = s.alpha_bar[-1], []
    for leap in (32, 16):
        x_T = math.sqrt(ab) * mean, ab * cov + (1 - ab) * np.eye(4)
        times = range(960, -1, -leap)
        run = lambda rng, x: sample.ddim(model, s, x.shape, rng, times, x_T=x)
        got = law(run, SHAPE, x_T)
        assert np.abs(got[0] - mean).max() < 1e-10, f"the mean is {got[0]}, expected {mean}"
        off.append(np.abs(got[1] - cov).max())
    assert np.abs(MIDDLE - mean).max() > 0.2 and np.abs(COV - cov).max() > 0.1
    assert off[1] < 0.02 and 1.8 < off[0] / off[1] < 2.2, f"half the step, half the error: {off}"


def check_first_guess(log_p_gradient):
    """Where x_t says nothing yet, x0_hat after the step is the linear regression of x0 on y."""
    s = SMOOTH
    x_T = np.random.default_rng(6).normal(size=(3, *SHAPE))
    plain = guide.assume_gaussian(correlated(s, MIDDLE, COV), s, COV)
    y = np.random.default_rng(7).normal(size=(3, 1, 2, 1))
    eps_hat = guide.by_x0_hat(plain, s, log_p_gradient(s, y, DOWN, NOISE, COV))(x_T, s.T)
    believed = diffusion.predict_x0(s, x_T, s.T, eps_hat).reshape(3, 4)
    before = diffusion.predict_x0(s, x_T, s.T, plain(x_T, s.T)[0]).reshape(3, 4)
    C = np.linalg.inv(np.linalg.inv(COV) + s.alpha_bar[-1] / (1 - s.alpha_bar[-1]) * np.eye(4))
    slope = C @ SEES.T @ np.linalg.inv(SEES @ C @ SEES.T + NOISE**2 * np.eye(2))
    assert np.abs(believed - before - (y.reshape(3, 2) - before @ SEES.T) @ slope.T).max() < 1e-10


def check_float32(log_p_gradient):
    for cov in (COV, ROUND):
        x = np.random.default_rng(5).normal(0.2, 1.3, (2, *SHAPE)).astype(np.float32)
        got = restored_by(log_p_gradient, guide.by_x0_hat, guide.assume_gaussian, COV, cov)
        want = got(x.astype(np.float64), 3)
        plain = lambda x_t, t: correlated(T8, MIDDLE, COV)(x_t, t).astype(x_t.dtype)
        model = guide.assume_gaussian(plain, T8, cov)
        y = GIVEN.reshape(1, 1, 2, 1).astype(np.float32)
        guided = guide.by_x0_hat(model, T8, log_p_gradient(T8, y, DOWN, NOISE, cov))(x, 3)
        assert guided.dtype == np.float32 and np.abs(guided - want).max() < 1e-5


@pytest.mark.parametrize("check", (check_posterior, check_drawn, check_first_guess, check_float32))
def test_log_p_gradient(check):
    check(restore.log_p_gradient)


def test_strength_zero_changes_nothing_and_it_is_a_straight_line():
    x = np.random.default_rng(5).normal(0.2, 1.3, (3, *SHAPE))
    plain = correlated(T8, MIDDLE, COV)
    up = restore.log_p_gradient(T8, np.ones((3, 1, 2, 1)), DOWN, NOISE, COV)
    believed = guide.assume_gaussian(plain, T8, COV)
    zero, one, three = (guide.by_x0_hat(believed, T8, up, k)(x, 4) for k in (0, 1, 3))
    assert np.array_equal(zero, plain(x, 4))
    assert np.abs(three - zero - 3 * (one - zero)).max() < 1e-12


def test_projection_is_its_limit():
    """Without noise, for round data, the step goes all the way: the pseudo-inverse of `project`."""
    x = np.random.default_rng(5).normal(0.2, 1.3, (2, 8, 8, 3))
    model = exact.gaussian(T8, 0.2, ROUND)
    for A, _ in KINDS.values():
        y = restore.degrade(A, PIXELS)
        inverse = [np.linalg.pinv(M) for M in A]
        down, up = (lambda x: restore.degrade(A, x)), (lambda y: restore.degrade(inverse, y))
        want = restore.project(model, T8, y, down, up)(x, 4)
        gradient = restore.log_p_gradient(T8, y, A, 1e-7, ROUND)
        believed = guide.assume_gaussian(model, T8, ROUND)
        assert np.abs(guide.by_x0_hat(believed, T8, gradient)(x, 4) - want).max() < 1e-6


def check_principal(log_p_gradient):
    """A covariance, whole or by its directions, whichever of m and r is larger: the equation."""
    rng, t = np.random.default_rng(3), 4
    bar, x = T8.alpha_bar[t], PIXELS.reshape(2, -1)
    for r in (5, 150):
        Q, lam, rest = np.linalg.qr(rng.normal(size=(192, r)))[0], rng.uniform(1, 3, r), 0.3
        whole = Q * (lam - rest) @ Q.T + rest * np.eye(192)
        C = (1 - bar) * whole @ np.linalg.inv(bar * whole + (1 - bar) * np.eye(192))
        for name, (A, shape) in KINDS.items():
            y, matrix = rng.normal(size=(2, *shape)), reduce(np.kron, A)
            S = matrix @ C @ matrix.T + 0.04 * np.eye(len(matrix))
            want = np.linalg.solve(S, y.reshape(2, -1).T - matrix @ x.T).T @ matrix
            for cov in (whole, (lam, Q, rest)):
                got = log_p_gradient(T8, y, A, 0.2, cov)(PIXELS, t).reshape(2, -1)
                assert np.abs(got - want).max() < 1e-9, f"{name}, {r} directions"
        vjps = [guide.assume_gaussian(lambda x, t: x, T8, cov) for cov in (whole, (lam, Q, rest))]
        a, b = (vjp(PIXELS, t)[1](PIXELS) for vjp in vjps)
        assert np.abs(a - b).max() < 1e-10


def test_a_covariance_by_its_directions():
    check_principal(restore.log_p_gradient)


def test_the_directions_are_those_of_the_covariance():
    """40 pictures of 12 values, 5 directions: the rest is the mean of the other 7 variances."""
    x = np.random.default_rng(4).normal(size=(40, 2, 2, 3)) * np.arange(1, 13).reshape(2, 2, 3)
    (lam, Q, rest), whole = restore.principal(x, 5), restore.covariance(x)
    all_lam, all_Q = np.linalg.eigh(whole)
    assert np.allclose(lam, all_lam[-5:], atol=1e-9) and np.isclose(rest, all_lam[:-5].mean())
    assert np.allclose(Q @ Q.T, all_Q[:, -5:] @ all_Q[:, -5:].T, atol=1e-9)
    assert np.allclose(restore.principal(x[:6], 5)[1].shape, (12, 3))  # half as many as pictures


@pytest.mark.parametrize("count", [1, 2])
def test_pictures_that_repeat_have_as_many_directions_as_differ(count):
    """30 times each: the other eigenvalues are 0 to rounding, at times below."""
    x = np.random.default_rng(0).uniform(-1, 1, (count, 4, 4, 3)).astype(np.float32)
    x = np.tile(x, (30, 1, 1, 1))
    lam, Q, rest = restore.principal(x)
    assert lam.shape == (count - 1,) and Q.shape == (48, count - 1) and 0 <= rest < 1e-9
    assert np.allclose(Q * lam @ Q.T, restore.covariance(x), atol=1e-9)


def test_errata_log_p_gradient():
    """Noise not squared or left out, the data's covariance for what is left of it, a sign, ..."""
    for check, old, new in (
        (check_posterior, "sigma_y**2", "sigma_y"),
        (check_posterior, " + sigma_y**2, seen", ", seen"),
        (check_posterior, "more = np.maximum(C(lam) - C(rest), 0)", "more = lam"),
        (check_posterior, "lambda var: (1 - s.alpha_bar[t]) * var", "lambda var: var"),
        (check_posterior, "s.alpha_bar[t] * var + 1 - s.alpha_bar[t]", "var + 1 - s.alpha_bar[t]"),
        (check_posterior, "y - degrade(A, x0_hat)", "degrade(A, x0_hat) - y"),
        (check_drawn, "more = np.maximum(C(lam) - C(rest), 0)", "more = lam"),
        (check_first_guess, "seen * np.sqrt(more)", "seen"),
        (check_principal, "C(rest) * squares", "C(rest) * squares**2"),
        (check_principal, "C(lam) - C(rest)", "C(lam)"),
        (check_principal, "y = degrade([turn.T for turn in turns], np.asarray(y, np.float64))", ""),
        (check_float32, ".astype(x0_hat.dtype)", ""),
    ):
        rejects(check, slip(restore.log_p_gradient, old, new))


def test_errata_by_x0_hat():
    """The chain rule left out or half done, a wrong sign, the derivative of another time."""
    check = lambda by_x0_hat: check_posterior(restore.log_p_gradient, by_x0_hat)
    for old, new in (
        ("(g - noise * vjp(g))", "g"),
        ("noise / signal *", "noise *"),
        ("(g - noise * vjp(g))", "(g + noise * vjp(g))"),
        ("(g - noise * vjp(g))", "(g - vjp(g))"),
        ("return eps_hat - ", "return eps_hat + "),
        ("precision(strength) * noise", "precision(strength)"),
        ("noise / signal *", "signal / noise *"),
        ("np.sqrt(1 - s.alpha_bar[t])", "np.sqrt(s.alpha_bar[t])"),
    ):
        rejects(check, slip(guide.by_x0_hat, old, new))
    check = lambda assume: check_posterior(restore.log_p_gradient, providers=(assume,))
    for old, new in (
        ("np.sqrt(1 - s.alpha_bar[t]) / (", "np.sqrt(s.alpha_bar[t]) / ("),
        ("s.alpha_bar[t] * var + 1 - s.alpha_bar[t]", "var + 1 - s.alpha_bar[t]"),
        ("principal(cov)", "principal(2 * cov)"),
        ("eps_model(x_t, t), vjp", "eps_model(x_t, max(t - 1, 1)), vjp"),
    ):
        rejects(check, slip(guide.assume_gaussian, old, new))


def test_nan_stays_nan():
    """NaN in a picture, or in y, must not come out as a picture; nor NaN in a covariance."""
    x, y = np.zeros((1, 2, 2, 1)), np.zeros((1, 1, 2, 1))
    half_known = np.array([0.5, np.nan]).reshape(y.shape)
    assert np.isnan(restore.degrade(DOWN, x * np.nan)).all()
    assert np.isnan(restore.covariance(np.array([[1.0, np.nan], [2.0, 3.0]]))).sum() == 3
    for given, x0_hat in ((half_known, x), (y, x * np.nan)):
        up = restore.log_p_gradient(T8, given, DOWN, NOISE, COV)
        assert np.isnan(up(x0_hat, 3)).all()
    with pytest.raises(ValueError, match="Eigenvalues did not converge"):
        restore.log_p_gradient(T8, y, DOWN, NOISE, COV * np.nan)
