"""The baselines against closed forms: what least squares must satisfy, planted filters found again, tables worked out by hand."""

import numpy as np
import pytest
from test_sample import rejects

from tinydiff.measure import baselines

# --- linear maps ---


def check_one_number(ridge):
    """From one number to one number: slope = covariance / (variance + strength), through the point of the means."""
    x, y = np.array([1.0, 2, 4, 9]), np.array([3.0, -1, 5, 7])
    cov, var = np.mean((x - 4) * (y - 3.5)), np.mean((x - 4) ** 2)
    for strength in (1e-12, 0.5, 20):
        got = ridge(x[:, None], y[:, None], strength)(np.array([[-3.0], [4], [6]]))
        want = 3.5 + cov / (var + strength) * np.array([-7, 0, 2])
        said = f"pairs (1, 3) (2, -1) (4, 5) (9, 7), strength {strength}: at -3, 4, 6 expected {want}, came {np.ravel(got)}"
        assert np.allclose(np.ravel(got), want, rtol=0, atol=1e-9), said


def check_least(ridge):
    """No map near the fitted one has less error plus penalty: the derivative by each weight is 0. Fewer pairs than numbers, too."""
    rng = np.random.default_rng(1)
    for M, strength in ((30, 0.3), (5, 0.02)):
        x, y = rng.normal(2, 1, (M, 2, 2, 3)), rng.normal(-1, 1, (M, 3, 2))
        fitted = ridge(x, y, strength)
        guess = fitted(x)
        assert guess.shape == y.shape, (
            f"{M} pairs, y {y.shape}: expected a guess of that shape, came {guess.shape}"
        )
        flat, residual = x.reshape(M, 12), (guess - y).reshape(M, 6)
        w = (fitted(np.eye(12).reshape(12, 2, 2, 3)) - fitted(np.zeros((12, 2, 2, 3)))).reshape(
            12, 6
        )  # a linear map's weights
        assert np.abs(residual.mean(0)).max() < 1e-10, "the shift has no penalty"
        slope = np.abs(flat.T @ residual / M + strength * w).max()
        assert slope < 1e-10, (
            f"{M} pairs, strength {strength}: another w has less error plus penalty (a derivative of {slope:.2g} is left)"
        )


def check_shape_and_type(ridge):
    """Colour to grey, in single precision; what is asked may be one image."""
    rng = np.random.default_rng(2)
    x = rng.random((9, 2, 3, 3), dtype=np.float32)
    got = ridge(x, x[..., :1], 1e-9)(x[:1])
    assert got.shape == (1, 2, 3, 1), (
        f"one image (1, 2, 3, 3) asked, y of shape (9, 2, 3, 1): expected (1, 2, 3, 1), came {got.shape}"
    )
    assert got.dtype == np.float32, f"y is float32: expected a guess of float32, came {got.dtype}"
    assert np.allclose(got, x[:1, ..., :1], atol=1e-4), (
        "y is the first channel of x: with hardly any penalty the guess should be that"
    )


@pytest.mark.exercise("baselines.ridge")
@pytest.mark.parametrize("check", [check_one_number, check_least, check_shape_and_type])
def test_ridge(check):
    check(baselines.ridge)


def shift_punished(x, y, strength):
    rows, targets = x.reshape(len(x), -1), y.reshape(len(y), -1)
    rows = np.concatenate([rows, np.ones((len(x), 1))], axis=1)
    w = np.linalg.solve(
        rows.T @ rows / len(x) + strength * np.eye(rows.shape[1]), rows.T @ targets / len(x)
    )
    return lambda x: (x.reshape(len(x), -1) @ w[:-1] + w[-1]).reshape(-1, *y.shape[1:])


@pytest.mark.parametrize(
    "wrong",
    [
        shift_punished,
        lambda x, y, strength: baselines.ridge(
            x, y, strength / len(x)
        ),  # the sum over pairs taken for the mean
        lambda x, y, strength: baselines.ridge(x, y, strength**2),
        lambda x, y, strength: (
            lambda new: baselines.ridge(x, y, strength)(new - x.mean(0))
        ),  # means taken off twice
    ],
)
def test_slips_of_ridge(wrong):
    rejects(check_one_number, wrong)
    rejects(check_least, wrong)


def test_patches_by_hand():
    """Each row is the 3 x 3 square around a pixel, row by row, with paper outside; a second channel follows the first."""
    x = np.arange(1.0, 7).reshape(1, 2, 3, 1)
    got = baselines.patches(np.concatenate([x, -x], axis=-1), 3, paper=9.0)
    assert got.shape == (6, 18)
    assert got[0].tolist() == [9, 9, 9, 9, 1, 2, 9, 4, 5, 9, 9, 9, 9, -1, -2, 9, -4, -5]
    assert got[4, :9].tolist() == [1, 2, 3, 4, 5, 6, 9, 9, 9]


def filtered(x, w, b, paper):
    """Slide a window over images, as the formula is written."""
    K, (H, W) = len(w), x.shape[1:3]
    padded = np.pad(x, [(0, 0), (K // 2, K // 2), (K // 2, K // 2), (0, 0)], constant_values=paper)
    y = [
        [np.einsum("nijc,ijco->no", padded[:, h : h + K, q : q + K], w) + b for q in range(W)]
        for h in range(H)
    ]
    return np.array(y).transpose(2, 0, 1, 3)  # (H, W, N, O) -> (N, H, W, O)


def check_filter(ridge_patches):
    """A filter that is not symmetric, from 2 channels to 3, is found exactly, its border too, and serves images of another size."""
    rng = np.random.default_rng(3)
    for size, paper in ((5, 1.0), (3, -1.0)):
        w, b = rng.normal(size=(size, size, 2, 3)), np.array([0.5, -1, 2])
        x, unseen = rng.normal(size=(12, 6, 7, 2)), rng.normal(size=(4, 9, 5, 2))
        got = ridge_patches(x, filtered(x, w, b, paper), 1e-12, size, paper)(unseen)
        assert np.allclose(got, filtered(unseen, w, b, paper), rtol=0, atol=1e-8), f"size = {size}"


def test_ridge_patches():
    check_filter(baselines.ridge_patches)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, y, strength, size, paper: baselines.ridge_patches(x, y, strength, size, 0.0),
        lambda x, y, strength, size, paper: baselines.ridge_patches(x, y, strength, 3, paper),
        lambda x, y, strength, size, paper: baselines.ridge_patches(
            x, y[:, ::-1], strength, size, paper
        ),
        lambda x, y, strength, size, paper: baselines.ridge_patches(x, y, 0.1, size, paper),
    ],
)
def test_slips_of_ridge_patches(wrong):
    rejects(check_filter, wrong)


# --- neighbours ---


def test_nearest_answers_with_the_target():
    x, y = np.array([[0.0, 0], [3, 0], [0, 5]]), np.array([7.0, 8, 9])
    assert baselines.nearest(x, y)(np.array([[0, 2.4], [0, 2.6], [1.6, 0], [0, 5]])).tolist() == [
        7,
        9,
        8,
        9,
    ]


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
    """Least squares: over the known entries of each row and of each column what is left unexplained adds up to 0."""
    table = np.random.default_rng(5).normal(3, 1, (3, 4))
    left = np.where(KNOWN, table - additive(holed(table), KNOWN), 0)
    assert (
        np.abs(left.sum(0)).max() < 1e-12
        and np.abs(left.sum(1)).max() < 1e-12
        and np.abs(left).max() > 0.1
    )


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


@pytest.mark.parametrize(
    "wrong, checks",
    [
        (means_of_the_known, [check_sum_of_parts, check_residuals]),
        (
            lambda table, known: baselines.additive(np.nan_to_num(table), np.ones_like(known)),
            [check_sum_of_parts, check_residuals],
        ),
        (
            lambda table, known: baselines.additive(table, known) + 0.1,
            [check_sum_of_parts, check_residuals, check_no_holes],
        ),
        (
            lambda table, known: 0 * table + np.nanmean(table, (0, 1)),
            [check_sum_of_parts, check_residuals, check_no_holes],
        ),
    ],
)
def test_slips_of_additive(wrong, checks):
    for check in checks:
        rejects(check, wrong)


def test_nearest_column_by_hand():
    """Known are row 0 of columns 0, 1, 2 and rows 1 and 2 as marked; holes hold NaN, which must never be read."""
    known = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1]], dtype=bool)
    table = np.array([[[0.0], [1.0], [0.2]], [[5.0], [4.0], [np.nan]], [[np.nan], [7.0], [8.0]]])
    got = baselines.nearest_column(table, known)
    # column 0 lacks row 2: column 1 is 1 away (rows 0, 1), column 2 is 0.04 away (row 0); column 2 lacks row 1: column 0 again 0.04 away
    assert got[..., 0].tolist() == [[0, 1, 0.2], [5, 4, 5], [8, 7, 8]]


def test_nearest_column_divides_by_what_both_know():
    """Many rows known in common must not count against a column: two small differences beat one larger one."""
    known = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1]], dtype=bool)
    table = np.array([[0.0, 0.3, 0.35], [0, 0.3, np.nan], [np.nan, 7, 8]])
    assert (
        baselines.nearest_column(table, known)[2, 0] == 7
    )  # 0.09 on average (0.18 in all) against 0.1225


def test_nearest_column_asks_only_columns_that_know_the_row():
    known = np.array([[1, 1, 1], [0, 0, 1]], dtype=bool)
    table = np.array([[0.0, 0.1, 5], [np.nan, np.nan, 9]])
    assert baselines.nearest_column(table, known)[1].tolist() == [9, 9, 9]


def test_nearest_column_takes_what_shares_no_row_last():
    known = np.array([[1, 0, 1], [0, 1, 1]], dtype=bool)
    table = np.array([[0.0, np.nan, 5], [np.nan, 1, 9]])
    assert baselines.nearest_column(table, known).tolist() == [[0, 5, 5], [9, 1, 9]]
