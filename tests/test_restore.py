"""Restoration against closed forms: for Gaussian data the law of what is drawn, and the posterior it should have, are known to rounding."""

import inspect
import math
from itertools import pairwise

import numpy as np
import pytest
from test_edit import COV, MIDDLE, PHOTO, SHAPE, carried, close, correlated, law, step, white
from test_sample import T8, rejects

from tinydiff import exact, restore, sample

pytestmark = pytest.mark.usefixtures("kernel_set")


def slip(function, old, new):
    """The function with one piece of its source exchanged."""
    source = inspect.getsource(function)
    assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {function.__name__}"
    scope = dict(function.__globals__)
    exec(source.replace(old, new), scope)
    return scope[function.__name__]


# --- project ---

SEEN = np.array([[0.5, 0.5, 0.2, 0.0], [0.0, -0.3, 0.6, 1.0]])  # two numbers of four are known, neither of them a pixel
UNSEEN = np.eye(4) - np.linalg.pinv(SEEN) @ SEEN
KNOWN = SEEN @ PHOTO


def see(x):
    return x.reshape(len(x), 4) @ SEEN.T


def see_pinv(y):
    return (y @ np.linalg.pinv(SEEN).T).reshape(-1, *SHAPE)


def restored(project, model, times, eta):
    agreeing = project(model, T8, KNOWN, see, see_pinv)
    return law(lambda rng, x: sample.ddim(agreeing, T8, x.shape, rng, times, eta, x), SHAPE, white(4))


def check_project_law(project):
    """x0_hat as an affine function of x_t, projected, and eps_hat and the step from it; correlated pixels."""
    for times, eta in ((range(8, -1, -1), 0.0), ([8, 6, 3, 1, 0], 0.7)):
        want = white(4)
        for t, u in pairwise(times):
            _, _, sigma2, _ = step(T8, t, u, eta)
            ab_t, ab_u = T8.alpha_bar[t], T8.alpha_bar[u]
            gain = math.sqrt(ab_t) * COV @ np.linalg.inv(ab_t * COV + (1 - ab_t) * np.eye(4))
            G, g = UNSEEN @ gain, UNSEEN @ (MIDDLE - math.sqrt(ab_t) * gain @ MIDDLE) + np.linalg.pinv(SEEN) @ KNOWN
            along = math.sqrt(max(1 - ab_u - sigma2, 0) / (1 - ab_t))
            to_x0 = math.sqrt(ab_u) - along * math.sqrt(ab_t)
            want = carried(want, to_x0 * G + along * np.eye(4), to_x0 * g, sigma2)
        close(restored(project, correlated(T8, MIDDLE, COV), times, eta), want, f"eta {eta}")


def check_agreement(project):
    """What is known holds to rounding; what A does not see is drawn as ever, where the one says nothing of the other."""
    model = exact.gaussian(T8, 0.4, 0.3)
    for times, eta in ((range(8, -1, -1), 0.0), ([8, 6, 3, 1, 0], 0.7)):
        for any_model in (model, correlated(T8, MIDDLE, COV)):
            mean, cov = restored(project, any_model, times, eta)
            assert np.abs(SEEN @ mean - KNOWN).max() < 1e-12 and np.abs(SEEN @ cov).max() < 1e-12
        (mean, cov), free = (restored(how, model, times, eta) for how in (project, lambda eps_model, *_: eps_model))
        close((UNSEEN @ mean, cov), (UNSEEN @ free[0], UNSEEN @ free[1] @ UNSEEN), "round Gaussian")


@pytest.mark.parametrize("check", (check_project_law, check_agreement))
def test_project(check):
    check(restore.project)


def test_project_in_pictures():
    """Enlarge and colour: the means of 2 x 2 pixels and of channels stay as they are, each repeated for a pseudo-inverse."""
    photo = np.random.default_rng(3).normal(0.2, 0.6, (2, 4, 6, 3))
    down = lambda x: x.reshape(2, 2, 2, 3, 2, 3).mean((2, 4))
    up = lambda y: y.repeat(2, 1).repeat(2, 2)
    grey = lambda x: x.mean(-1, keepdims=True)
    spread = lambda y: y.repeat(3, -1)
    for A, A_pinv in ((down, up), (grey, spread)):
        model = restore.project(exact.gaussian(T8, 0.4, 0.3), T8, A(photo), A, A_pinv)
        for sampler in (sample.ddim, sample.heun, sample.dpmpp_2m):
            *_, x0 = sampler(model, T8, photo.shape, None, x_T=np.random.default_rng(4).normal(size=photo.shape))
            assert np.abs(A(x0) - A(photo)).max() < 1e-10 and np.abs(x0 - photo).max() > 0.1


def test_errata_project():
    """A sign, the transpose for the pseudo-inverse, the old x0_hat, the noisy image in its place."""
    line = "return predict_eps(s, x_t, t, x0_hat + A_pinv(y - A(x0_hat)))"
    for check, new in (
        (check_agreement, "return predict_eps(s, x_t, t, x0_hat - A_pinv(y - A(x0_hat)))"),
        (check_agreement, "return predict_eps(s, x_t, t, x0_hat)"),
        (check_agreement, "return predict_eps(s, x_t, t, A_pinv(y))"),
        (check_project_law, "return predict_eps(s, x_t, t, x0_hat + A_pinv(y - A(x_t)))"),
        (check_project_law, "return predict_eps(s, x_t, max(t - 1, 1), x0_hat + A_pinv(y - A(x0_hat)))"),
    ):
        rejects(check, slip(restore.project, line, new))
    rejects(check_agreement, lambda eps_model, s, y, A, _: restore.project(eps_model, s, y, A, lambda y: (y @ SEEN).reshape(-1, *SHAPE)))
