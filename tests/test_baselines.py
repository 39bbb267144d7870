"""The baselines against closed forms: least squares, planted filters, tables worked out by hand."""

import numpy as np
import pytest
from test_sample import rejects

from tinydiff.measure import baselines

# --- linear maps ---


def check_one_number(ridge):
    """From one number to one: slope = covariance / (variance + strength), through the means."""
    x, y = np.array([1.0, 2, 4, 9]), np.array([3.0, -1, 5, 7])
    cov, var = np.mean((x - 4) * (y - 3.5)), np.mean((x - 4) ** 2)
    for strength in (1e-12, 0.5, 20):
        got = ridge(x[:, None], y[:, None], strength)(np.array([[-3.0], [4], [6]]))
        want = 3.5 + cov / (var + strength) * np.array([-7, 0, 2])
        case = f"pairs (1, 3) (2, -1) (4, 5) (9, 7), strength {strength}, at -3, 4, 6"
        said = f"{case}: expected {want}, came {np.ravel(got)}"
        assert np.allclose(np.ravel(got), want, rtol=0, atol=1e-9), said


def check_least(ridge):
    """No map near the fitted one has less error plus penalty: each weight's derivative is 0.

    So it is, too, where there are fewer pairs than values in x.
    """
    rng = np.random.default_rng(1)
    for M, strength in ((30, 0.3), (5, 0.02)):
        x, y = rng.normal(2, 1, (M, 2, 2, 3)), rng.normal(-1, 1, (M, 3, 2))
        fitted = ridge(x, y, strength)
        guess = fitted(x)
        why = f"{M} pairs, y {y.shape}: expected a guess of that shape, came {guess.shape}"
        assert guess.shape == y.shape, why
        flat, residual = x.reshape(M, 12), (guess - y).reshape(M, 6)
        units, zeros = np.eye(12).reshape(12, 2, 2, 3), np.zeros((12, 2, 2, 3))
        w = (fitted(units) - fitted(zeros)).reshape(12, 6)  # a linear map's weights
        assert np.abs(residual.mean(0)).max() < 1e-10, "the shift has no penalty"
        slope = np.abs(flat.T @ residual / M + strength * w).max()
        why = f"{M} pairs, strength {strength}:"
        why += f" another w has less error plus penalty (a derivative of {slope:.2g} is left)"
        assert slope < 1e-10, why


def check_shape_and_type(ridge):
    """Colour to grey, in single precision; the new x may be one image."""
    rng = np.random.default_rng(2)
    x = rng.random((9, 2, 3, 3), dtype=np.float32)
    got = ridge(x, x[..., :1], 1e-9)(x[:1])
    why = "one new image (1, 2, 3, 3), y of shape (9, 2, 3, 1):"
    assert got.shape == (1, 2, 3, 1), f"{why} expected (1, 2, 3, 1), came {got.shape}"
    assert got.dtype == np.float32, f"y is float32: expected a guess of float32, came {got.dtype}"
    why = "y is the first channel of x: with hardly any penalty the guess should be that"
    assert np.allclose(got, x[:1, ..., :1], atol=1e-4), why


def check_precision(ridge):
    """Two nearly equal values in single precision: their covariance needs more digits than that."""
    a, b = np.random.default_rng(7).normal(size=(2, 9))
    x, y = np.stack([a, a + 1e-3 * b], axis=1).astype(np.float32), b[:, None].astype(np.float32)
    off = np.abs(ridge(x, y, 1e-12)(x) - y).max()
    why = f"x = a, a + b / 1000, y = b, all float32: y is missed by {off:.2g}; compute in float64"
    assert off < 0.01, why


def check_any_pair(ridge):
    """x and y of any shapes and precisions; a fit stays as it is, whatever comes after it."""
    rng = np.random.default_rng(3)
    kinds = np.float32, np.float64
    for shape_x, shape_y, kind_x, kind_y in (
        ((), (), np.float64, np.float64),
        ((), (2, 3), np.float32, np.float64),
        ((3,), (), np.float64, np.float32),
        ((2, 2), (3, 1, 2), np.float32, np.float64),
    ):
        x, y = rng.normal(1, 1, (8, *shape_x)), rng.normal(-5, 3, (8, *shape_y))
        x, y, new = x.astype(kind_x), y.astype(kind_y), rng.normal(1, 1, (5, *shape_x))
        fitted, got = ridge(x, y, 0.1), []
        for kind in kinds:
            given = new.astype(kind)
            got.append(fitted(given))
            case = f"x {x.shape} {x.dtype}, y {y.shape} {y.dtype}, new x {new.shape} {given.dtype}"
            said = f"{case}: expected {(5, *shape_y)} {y.dtype}"
            assert got[-1].shape == (5, *shape_y), f"{said}, came {got[-1].shape}"
            assert got[-1].dtype == y.dtype, f"{said}, came {got[-1].dtype}"
            assert np.array_equal(given, new.astype(kind)), f"{case}: the new x was changed"
        x[...], y[...] = 0, 0  # the caller uses them again
        ridge(-2 * new, new, 0.5)
        again = fitted(new)
        said = f"{case}: once fitted, the map gives other guesses when x and y are used again"
        assert np.array_equal(again, got[-1]), f"{said}, or another map is fitted"


RIDGE = check_one_number, check_least, check_shape_and_type, check_precision, check_any_pair


@pytest.mark.exercise("baselines.ridge")
@pytest.mark.parametrize("check", RIDGE)
def test_ridge(check):
    check(baselines.ridge)


def shift_punished(x, y, strength):
    rows, targets = x.reshape(len(x), -1), y.reshape(len(y), -1)
    rows = np.concatenate([rows, np.ones((len(x), 1))], axis=1)
    S = rows.T @ rows / len(x) + strength * np.eye(rows.shape[1])
    w = np.linalg.solve(S, rows.T @ targets / len(x))
    return lambda x: (x.reshape(len(x), -1) @ w[:-1] + w[-1]).reshape(-1, *y.shape[1:])


def sum_for_mean(x, y, strength):
    return baselines.ridge(x, y, strength / len(x))


def strength_squared(x, y, strength):
    return baselines.ridge(x, y, strength**2)


def means_taken_off_twice(x, y, strength):
    return lambda new: baselines.ridge(x, y, strength)(new - x.mean(0))


@pytest.mark.parametrize(
    "wrong", [shift_punished, sum_for_mean, strength_squared, means_taken_off_twice]
)
def test_slips_of_ridge(wrong):
    rejects(check_one_number, wrong)
    rejects(check_least, wrong)


def test_patches_by_hand():
    """Each row is the 3 x 3 square around a pixel, paper outside; one channel after the other."""
    x = np.arange(1.0, 7).reshape(1, 2, 3, 1)
    got = baselines.patches(np.concatenate([x, -x], axis=-1), 3, paper=9.0)
    assert got.shape == (6, 18)
    assert got[0].tolist() == [9, 9, 9, 9, 1, 2, 9, 4, 5, 9, 9, 9, 9, -1, -2, 9, -4, -5]
    assert got[4, :9].tolist() == [1, 2, 3, 4, 5, 6, 9, 9, 9]


def filtered(x, w, b, paper):
    """Slide a window over images, as the formula is written."""
    K, (H, W) = len(w), x.shape[1:3]
    padded = np.pad(x, [(0, 0), (K // 2, K // 2), (K // 2, K // 2), (0, 0)], constant_values=paper)
    at = lambda h, q: np.einsum("nijc,ijco->no", padded[:, h : h + K, q : q + K], w) + b
    y = [[at(h, q) for q in range(W)] for h in range(H)]
    return np.array(y).transpose(2, 0, 1, 3)  # (H, W, N, O) -> (N, H, W, O)


def check_filter(ridge_patches):
    """A filter that is not symmetric, from 2 channels to 3, is found exactly, its border too.

    It serves images of another size.
    """
    rng = np.random.default_rng(3)
    for size, paper in ((5, 1.0), (3, -1.0)):
        w, b = rng.normal(size=(size, size, 2, 3)), np.array([0.5, -1, 2])
        x, unseen = rng.normal(size=(12, 6, 7, 2)), rng.normal(size=(4, 9, 5, 2))
        got = ridge_patches(x, filtered(x, w, b, paper), 1e-12, size, paper)(unseen)
        assert np.allclose(got, filtered(unseen, w, b, paper), rtol=0, atol=1e-8), f"size = {size}"


def test_ridge_patches():
    check_filter(baselines.ridge_patches)


def test_slips_of_ridge_patches():
    """Grey around, one size for all, the picture upside down, one strength for all."""
    fit = baselines.ridge_patches
    for wrong in (
        lambda x, y, strength, size, paper: fit(x, y, strength, size, 0.0),
        lambda x, y, strength, size, paper: fit(x, y, strength, 3, paper),
        lambda x, y, strength, size, paper: fit(x, y[:, ::-1], strength, size, paper),
        lambda x, y, strength, size, paper: fit(x, y, 0.1, size, paper),
    ):
        rejects(check_filter, wrong)


# --- neighbours ---


def test_nearest_answers_with_the_target():
    x, y = np.array([[0.0, 0], [3, 0], [0, 5]]), np.array([7.0, 8, 9])
    new = np.array([[0, 2.4], [0, 2.6], [1.6, 0], [0, 5]])
    assert baselines.nearest(x, y)(new).tolist() == [7, 9, 8, 9]


# --- tables with holes ---

KNOWN = np.array([[1, 1, 0, 1], [0, 1, 1, 1], [1, 0, 1, 1]], dtype=bool)


def holed(table):
    """Put NaN where nothing is known."""
    return np.where(KNOWN.reshape(KNOWN.shape + (1,) * (table.ndim - 2)), table, np.nan)


def check_sum_of_parts(additive):
    """A table that is a sum of a row's and a column's images is completed exactly."""
    rng = np.random.default_rng(4)
    table = rng.normal(size=(3, 1, 2, 2)) + rng.normal(size=(1, 4, 2, 2))
    assert np.allclose(additive(holed(table), KNOWN), table, rtol=0, atol=1e-12)


def check_residuals(additive):
    """Least squares: in each row and column what is left of the known entries adds up to 0."""
    table = np.random.default_rng(5).normal(3, 1, (3, 4))
    left = np.where(KNOWN, table - additive(holed(table), KNOWN), 0)
    assert np.abs(left.sum(0)).max() < 1e-12 and np.abs(left.sum(1)).max() < 1e-12
    assert np.abs(left).max() > 0.1


def check_no_holes(additive):
    """Of a full table: row's mean + column's mean - mean of all."""
    table = np.random.default_rng(6).normal(size=(3, 5))
    want = table.mean(1, keepdims=True) + table.mean(0) - table.mean()
    assert np.allclose(additive(table, np.ones((3, 5), bool)), want, rtol=0, atol=1e-12)


def means_of_the_known(table, known):
    """Right for a full table only."""
    hidden = np.where(known.reshape(known.shape + (1,) * (table.ndim - 2)), table, np.nan)
    return np.nanmean(hidden, 1, keepdims=True) + np.nanmean(hidden, 0) - np.nanmean(hidden, (0, 1))


@pytest.mark.parametrize("check", [check_sum_of_parts, check_residuals, check_no_holes])
def test_additive(check):
    check(baselines.additive)


def zeros_in_the_holes(table, known):
    return baselines.additive(np.nan_to_num(table), np.ones_like(known))


def a_little_more(table, known):
    return baselines.additive(table, known) + 0.1


def one_mean_for_all(table, known):
    return 0 * table + np.nanmean(table, (0, 1))


def test_slips_of_additive():
    for check in (check_sum_of_parts, check_residuals):
        for wrong in (means_of_the_known, zeros_in_the_holes, a_little_more, one_mean_for_all):
            rejects(check, wrong)
    for wrong in (a_little_more, one_mean_for_all):
        rejects(check_no_holes, wrong)


def test_nearest_column_by_hand():
    """Known are row 0 of columns 0, 1, 2 and rows 1 and 2 as marked; NaN in holes is never read."""
    known = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1]], dtype=bool)
    table = np.array([[[0.0], [1.0], [0.2]], [[5.0], [4.0], [np.nan]], [[np.nan], [7.0], [8.0]]])
    got = baselines.nearest_column(table, known)
    # column 0 lacks row 2: column 1 is 1 away (rows 0, 1), column 2 is 0.04 away (row 0);
    # column 2 lacks row 1: column 0 again is 0.04 away
    assert got[..., 0].tolist() == [[0, 1, 0.2], [5, 4, 5], [8, 7, 8]]


def test_nearest_column_divides_by_what_both_know():
    """Many rows known in common must not count against a column: two small differences win."""
    known = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1]], dtype=bool)
    table = np.array([[0.0, 0.3, 0.35], [0, 0.3, np.nan], [np.nan, 7, 8]])
    # 0.09 on average (0.18 in all) against 0.1225
    assert baselines.nearest_column(table, known)[2, 0] == 7


def test_nearest_column_asks_only_columns_that_know_the_row():
    known = np.array([[1, 1, 1], [0, 0, 1]], dtype=bool)
    table = np.array([[0.0, 0.1, 5], [np.nan, np.nan, 9]])
    assert baselines.nearest_column(table, known)[1].tolist() == [9, 9, 9]


def test_nearest_column_takes_what_shares_no_row_last():
    known = np.array([[1, 0, 1], [0, 1, 1]], dtype=bool)
    table = np.array([[0.0, np.nan, 5], [np.nan, 1, 9]])
    assert baselines.nearest_column(table, known).tolist() == [[0, 5, 5], [9, 1, 9]]


# --- NaN in what is known ---


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_known_must_be_finite(value):
    """Else a NaN would be the nearest neighbour of all, and its column the most similar one."""
    table = np.random.default_rng(7).normal(3, 1, (3, 4))
    table[1, 2] = value
    for fill in (baselines.additive, baselines.nearest_column):
        with pytest.raises(FloatingPointError, match="^1 of 9 values are NaN or infinite"):
            fill(table, KNOWN)
    x, y = np.arange(8.0).reshape(4, 2), np.arange(4.0)
    broken = np.where(x == 2, value, x)
    for known, new in ((broken, x), (x, broken)):
        with pytest.raises(FloatingPointError, match="^1 of 8 values are NaN or infinite"):
            baselines.nearest(known, y)(new)


def test_a_linear_map_of_nan_is_nan():
    x, y = np.arange(8.0).reshape(4, 2) ** 2, np.arange(4.0)
    broken = x.copy()
    broken[1, 0] = np.nan
    assert np.isnan(baselines.ridge(broken, y, 0.1)(x)).all()
    assert np.isnan(baselines.ridge(x, y, 0.1)(broken)).tolist() == [False, True, False, False]
