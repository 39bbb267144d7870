"""Colour control against closed forms: differences of log p, and posteriors of Gaussian data."""

import inspect
import math

import numpy as np
import pytest
from test_sample import T8, rejects

from tinydiff import exact, guide, sample
from tinydiff.design import colour

# the last two are close
PALETTE = np.array([[0.9, -0.5, 0.1], [-0.8, -0.7, 0.6], [0.2, 0.8, -0.4], [0.3, 0.7, -0.5]])
X = np.random.default_rng(5).normal(0.1, 0.7, (2, 4, 4, 3))
VAR, STD = 0.3, 0.15


def slip(function, old, new):
    """Build the function with one piece of its source exchanged."""
    source = inspect.getsource(function)
    said = f"{old!r} stands {source.count(old)} times in {function.__name__}"
    assert source.count(old) == 1, said
    scope = dict(function.__globals__)
    exec(source.replace(old, new), scope)
    return scope[function.__name__]


# --- palette_gradient ---


def log_p(x, t):
    """Compute log p of one picture, pixel by pixel.

    left is the variance that the noise at t leaves unknown, by adding precisions.
    """
    left = 1 / (1 / VAR + T8.alpha_bar[t] / (1 - T8.alpha_bar[t]))
    p = lambda pixel, c: math.exp(-((pixel - c) ** 2).sum() / (2 * (STD**2 + left)))
    return sum(math.log(sum(p(pixel, c) for c in PALETTE)) for pixel in x.reshape(-1, 3))


def check_differences(palette_gradient):
    """Each value of x0_hat, moved a little to both sides."""
    for t in (1, 3, 8):
        got = palette_gradient(T8, PALETTE, STD, VAR)(X, t)
        assert got.shape == X.shape
        for i in np.ndindex(X.shape[1:]):
            move = np.zeros(X.shape[1:])
            move[i] = 1e-5
            want = (log_p(X[1] + move, t) - log_p(X[1] - move, t)) / 2e-5
            said = f"t = {t}, {i}: {got[(1, *i)]}, by differences {want}"
            assert abs(got[(1, *i)] - want) < 1e-6, said


def check_one_colour(palette_gradient):
    """One colour only: Bayes' rule for Gaussian data, N(mean, VAR) times N(colour, std^2)."""
    at, var = PALETTE[0], 1 / (1 / VAR + 1 / STD**2)
    want = exact.gaussian(T8, var * (0.4 / VAR + at / STD**2), var)
    model = guide.assume_gaussian(exact.gaussian(T8, 0.4, VAR), T8, VAR)
    guided = guide.by_x0_hat(model, T8, palette_gradient(T8, [at], STD, VAR))
    for t in range(1, 9):
        assert np.abs(guided(X, t) - want(X, t)).max() < 1e-10


def check_far_away(palette_gradient):
    """So far from all colours that every exp is 0, and in float32: still towards the nearest."""
    x = np.full((1, 1, 1, 3), 300, np.float32)
    g = palette_gradient(T8, PALETTE, 0.01, VAR)(x, 1)
    left = 1 / (1 / VAR + T8.alpha_bar[1] / (1 - T8.alpha_bar[1]))
    nearest = PALETTE[((x[0, 0, 0] - PALETTE) ** 2).sum(1).argmin()]
    want = (nearest - 300) / (1e-4 + left)
    assert g.dtype == np.float32 and np.allclose(g[0, 0, 0], want, rtol=1e-5)


PALETTE_GRADIENT = (check_differences, check_one_colour, check_far_away)


@pytest.mark.parametrize("check", PALETTE_GRADIENT)
def test_palette_gradient(check):
    check(colour.palette_gradient)


def test_errata_palette_gradient():
    for check, old, new in (
        (check_differences, "palette - x0_hat[..., None, :]", "x0_hat[..., None, :] - palette"),
        (check_differences, "/ (2 * (std**2 + c))", "/ (std**2 + c)"),
        (check_differences, "(r * away).sum(-2) / (std**2 + c)", "(r * away).sum(-2)"),
        (check_differences, "r /= r.sum(-2, keepdims=True)", "r /= r.sum()"),
        (check_one_colour, "(r * away).sum(-2) / (std**2 + c)", "(r * away).sum(-2) / std**2"),
        (check_one_colour, "c = (1 - s.alpha_bar[t]) * var", "c = var"),
        (check_far_away, " - logits.max(-2, keepdims=True)", ""),
        (check_far_away, ".astype(x0_hat.dtype)", ""),
    ):
        with np.errstate(all="ignore"):
            rejects(check, slip(colour.palette_gradient, old, new))


def test_pixels_end_up_on_the_palette():
    """Data that fills the whole cube, drawn with a palette: nearly all pixels have its colours.

    Every colour is used.
    """
    palette, rng = PALETTE[:3], np.random.default_rng(1)
    plain = guide.assume_gaussian(exact.gaussian(T8, 0.0, VAR), T8, VAR)
    guided = guide.by_x0_hat(plain, T8, colour.palette_gradient(T8, palette, 0.05, VAR))
    shares = []
    for model in (exact.gaussian(T8, 0.0, VAR), guided):
        x_T = rng.normal(size=(4, 8, 8, 3))
        *_, x = sample.ddim(model, T8, x_T.shape, rng, x_T=x_T, eta=1.0)
        shares.append(colour.within(x, palette).mean())
    nearest = colour.snap(x, palette)
    assert shares[0] < 0.05 and shares[1] > 0.9
    assert all((nearest == c).all(-1).mean() > 0.1 for c in palette)


# --- main_gradient ---


def check_main(main_gradient):
    """Gaussian data of any covariance: the guided model is perfect for the posterior.

    The posterior is the one given the mean of all pixels.
    """
    LOW = np.random.default_rng(3).normal(size=(12, 12)) / 4
    at, cov, mean = PALETTE[0], LOW @ LOW.T + 0.1 * np.eye(12), np.arange(12) / 10
    A = np.tile(np.eye(3), 4) / 4  # 2 x 2 pixels of 3 channels
    after = np.linalg.inv(np.linalg.inv(cov) + A.T @ A / STD**2)
    aim = after @ (np.linalg.solve(cov, mean) + A.T @ at / STD**2)

    def perfect(mean, cov):
        def eps_model(x_t, t):
            ab = T8.alpha_bar[t]
            away = x_t.reshape(len(x_t), -1) - math.sqrt(ab) * mean
            precision = np.linalg.inv(ab * cov + (1 - ab) * np.eye(12))
            return (math.sqrt(1 - ab) * away @ precision).reshape(x_t.shape)

        return eps_model

    model = guide.assume_gaussian(perfect(mean, cov), T8, cov)
    guided, x = guide.by_x0_hat(model, T8, main_gradient(T8, at, STD, 2, cov)), X[:, :2, :2]
    for t in range(1, 9):
        assert np.abs(guided(x, t) - perfect(aim, after)(x, t)).max() < 1e-10


def test_main_gradient():
    check_main(colour.main_gradient)


def test_errata_main_gradient():
    for old, new in (
        ("std, cov)\n", "std**2, cov)\n"),
        ("y.size, size)", "y.size, 1)"),
        ("np.reshape(colour", "-np.reshape(colour"),
    ):
        source = inspect.getsource(colour.main_gradient)
        place = source.rindex(old)
        scope = dict(vars(colour))
        exec(source[:place] + new + source[place + len(old) :], scope)
        rejects(check_main, scope["main_gradient"])


def check_coloured(coloured):
    """Without colours nothing changes; palette or main colour alone are the two above, then both.

    std = 0.1 / pull
    """
    plain, cov, at = exact.gaussian(T8, 0.2, VAR), np.diag(np.linspace(0.1, 0.5, 48)), PALETTE[1]
    to_main = colour.main_gradient(T8, at, 0.05, 4, cov)
    to_palette = colour.palette_gradient(T8, PALETTE, 0.05, 0.3)
    by_main = lambda model: guide.by_x0_hat(guide.assume_gaussian(model, T8, cov), T8, to_main)
    by_palette = lambda model: guide.by_x0_hat(
        guide.assume_gaussian(model, T8, 0.3), T8, to_palette
    )
    for how, want in (
        ({}, plain),
        ({"main": at}, by_main(plain)),
        ({"palette": PALETTE}, by_palette(plain)),
        ({"palette": PALETTE, "main": at}, by_palette(by_main(plain))),
    ):
        assert np.abs(coloured(plain, T8, cov, 4, pull=2.0, **how)(X, 3) - want(X, 3)).max() < 1e-10


def test_coloured():
    check_coloured(colour.coloured)
    for old, new in (
        ("std, var = 0.1 / pull", "std, var = 0.1 * pull"),
        ("(lam - rest).sum() / len(Q)", "(lam - rest).sum() / len(Q)**2"),
        ("if main is not None", "if main is not None and palette is None"),
        ("std, size, cov)", "std, size, var)"),
        ("assume_gaussian(eps_model, s, var)", "assume_gaussian(eps_model, s, cov)"),
    ):
        rejects(check_coloured, slip(colour.coloured, old, new))


# --- reading, snapping, counting ---


def test_parse():
    assert np.allclose(colour.parse("#ff8000"), [1, 128 / 127.5 - 1, -1])
    assert np.array_equal(colour.parse("0000FF"), [-1, -1, 1])
    for bad in ("red", "#ff80", "#ff80001", "#gg0000", "", "#+10000", "# ff000"):
        with pytest.raises(ValueError, match="^a colour is written as"):
            colour.parse(bad)


def test_snap_and_within():
    x = np.stack([PALETTE[[0, 1, 2, 0]], PALETTE[[1, 1, 3, 2]]]).reshape(2, 2, 2, 3)
    moved = x + np.array([0.02, -0.01, 0.015])
    assert np.array_equal(colour.snap(moved, PALETTE), x)
    assert colour.snap(moved.astype(np.float32), PALETTE).dtype == np.float32
    moved[1, 0, 0, 2] += 0.25  # one channel of one pixel of four
    assert np.array_equal(colour.within(moved, PALETTE), [1, 0.75])
    assert np.array_equal(colour.within(moved, PALETTE, 0.3), [1, 1])
    assert np.array_equal(colour.within(moved, PALETTE, 0.001), [0, 0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_snap_and_within_refuse_what_is_not_finite(value):
    """Else the palette's first colour would take the place of every NaN."""
    x = X.copy()
    x[1, 2, 3, 0] = value
    for measure in (colour.snap, colour.within):
        with pytest.raises(ValueError, match="^images hold NaN or infinite values"):
            measure(x, PALETTE)


def test_gradients_of_nan_are_nan():
    broken = np.full((1, 2, 2, 3), np.nan)
    assert np.isnan(colour.palette_gradient(T8, PALETTE, STD, VAR)(broken, 3)).all()
    assert np.isnan(colour.main_gradient(T8, PALETTE[0], STD, 2, VAR)(broken, 3)).all()
