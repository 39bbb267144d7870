"""The schedule against formulas written a second time, in plain Python; and textbooks' slips."""

import math
import warnings
from itertools import product

import numpy as np
import pytest

from tinydiff import schedule

# short and loud: at T = 8 an index off by one shows in the first digit
BETAS = np.linspace(0.02, 0.6, 8)
TOO_SHORT = "ignore:terminal SNR"  # 8 such steps leave some data in x_T, and the package says so


def rejects(check, wrong):
    """The check that the right function passes must stop a wrong one."""
    with pytest.raises(AssertionError):
        check(wrong)


def quiet(build, *args):
    """Build a schedule whose terminal SNR does not matter here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "terminal SNR")
        return build(*args)


# --- the checks: each takes the function under test ---


def check_from_betas(from_betas):
    """Every array of the schedule, entry by entry, from the definitions."""
    for betas in (BETAS, np.linspace(1e-4, 0.02, 1000), [0.3]):
        given = np.array(betas)
        s = quiet(from_betas, given)
        T = len(betas)
        assert s.T == T
        for values in (s.beta, s.alpha, s.alpha_bar, s.snr, s.beta_tilde):
            assert values.shape == (T + 1,) and values.dtype == np.float64
        first = [values[0] for values in (s.beta, s.alpha, s.alpha_bar, s.snr, s.beta_tilde)]
        assert first == [0, 1, 1, np.inf, 0]
        assert np.array_equal(s.beta[1:], betas), "beta[t] is the t-th variance given"
        signal = 1.0
        for t in range(1, T + 1):
            before, signal = signal, signal * (1 - betas[t - 1])
            close = dict(rel=1e-9, abs=1e-13)
            assert s.alpha[t] == pytest.approx(1 - betas[t - 1], **close)
            assert s.alpha_bar[t] == pytest.approx(signal, **close), (
                f"alpha_bar[{t}] is alpha[1] ... alpha[{t}]"
            )
            assert s.snr[t] == pytest.approx(signal / (1 - signal), **close)
            # beta_tilde by Bayes: the precisions of x_{t-1} given x0 and given x_t add
            given_x0 = 1 / (1 - before) if t > 1 else np.inf
            precision = (1 - betas[t - 1]) / betas[t - 1] + given_x0
            assert s.beta_tilde[t] == pytest.approx(1 / precision, **close), f"beta_tilde[{t}]"
        assert s.beta_tilde[1] == 0, "the last step of sampling adds no noise, exactly"
        assert np.array_equal(given, betas), "the caller's array stays as it was"


def is_schedule(s, T):
    """All five arrays follow from beta, entry by entry, each from the entry before."""
    assert isinstance(s, schedule.Schedule), (
        f"expected a Schedule, got {type(s).__name__}: give the betas to from_betas and return its "
        "result"
    )
    assert s.T == T, f"T = {T}: expected betas for t = 1, ..., {T}, got {s.T} of them"
    for name in ("beta", "alpha", "alpha_bar", "snr", "beta_tilde"):
        values = getattr(s, name)
        assert np.shape(values) == (T + 1,) and values.dtype == np.float64, (
            f"T = {T}: {name} is an array of shape ({T + 1},) in float64"
        )
    assert s.beta[0] == 0 and s.alpha_bar[0] == 1, (
        "entry 0 is clean data: beta[0] = 0, alpha_bar[0] = 1; from_betas puts it there"
    )
    close = dict(rtol=1e-9, atol=1e-13)
    wrong = {
        "alpha": not np.allclose(s.alpha + s.beta, 1, **close),
        "alpha_bar": not np.allclose(s.alpha_bar[1:], s.alpha_bar[:-1] * s.alpha[1:], **close),
        # snr : 1 = signal : noise, and beta_tilde : beta = the noise before : the noise now
        "snr": s.snr[0] != np.inf
        or not np.allclose(s.snr[1:] * (1 - s.alpha_bar[1:]), s.alpha_bar[1:], rtol=1e-9),
        "beta_tilde": any(s.beta_tilde[:2])
        or not np.allclose(
            s.beta_tilde[1:] * (1 - s.alpha_bar[1:]), s.beta[1:] * (1 - s.alpha_bar[:-1]), **close
        ),
    }
    for name, is_wrong in wrong.items():
        assert not is_wrong, f"T = {T}: {name} does not follow from beta; from_betas computes it"


LINEAR = (
    (8, 0.02, 0.98),
    (1000, 1e-4, 0.02),
    (2, 0.3, 0.999),
    (1, 0.995, 0.5),
    (5, 0.6, 0.2),
)


def check_linear(linear):
    """From beta_1 at t = 1 to beta_T at t = T, by equal rises; a short schedule warns."""
    for T, first, last in LINEAR:
        s, case = quiet(linear, T, first, last), f"linear({T}, {first}, {last})"
        is_schedule(s, T)
        ends = [(1, first), (T, last)] if T > 1 else [(1, first)]
        for t, want in ends:
            said = f"{case}: expected beta[{t}] = {want:.6g}, got {s.beta[t]:.6g}"
            assert s.beta[t] == pytest.approx(want, rel=1e-12), said
        rises = np.diff(s.beta[1:])
        for k, rise in enumerate(rises, start=1):
            said = f"{case}: from t = {k} to {k + 1} beta rises by {rise:.6g}, before by "
            assert abs(rise - rises[0]) < 1e-14, f"{said}{rises[0]:.6g}; all rises are equal"
    assert np.array_equal(linear().beta, linear(1000, 1e-4, 0.02).beta), (
        "the defaults are the paper's: T = 1000, 1e-4 to 0.02"
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        linear(50)
    assert any("terminal SNR" in str(warning.message) for warning in caught), (
        "linear(50) ends before all is noise: a warning says so, as from_betas gives it"
    )


def check_cosine(cosine):
    """alpha_bar is f(t) / f(0) up to the first beta that is clipped; the others stay."""
    for T, offset in ((8, 0.008), (50, 0.008), (1000, 0.008), (8, 0.1), (999, 0.0), (1, 0.008)):
        case = f"cosine({T})" if offset == 0.008 else f"cosine({T}, offset={offset})"
        try:
            s = quiet(cosine, T, offset) if offset != 0.008 else quiet(cosine, T)
        except ValueError as error:
            assert "beta is a list of variances" not in str(error), (
                f"{case}: from_betas refuses the betas. Are they clipped at beta_max = 0.999? "
                "f(T) is 0, so without the clip the last beta is 1"
            )
            raise
        is_schedule(s, T)
        # cos^2 through the half-angle formula
        f = [0.5 + 0.5 * math.cos((t / T + offset) / (1 + offset) * math.pi) for t in range(T + 1)]
        for t in range(T):
            want, got = f[t] / f[0], s.alpha_bar[t]
            said = f"{case}: expected alpha_bar[{t}] = f({t}) / f(0) = {want:.6g}"
            assert got == pytest.approx(want, rel=1e-9), f"{said}, got {got:.6g}"
        assert s.beta[T] == 0.999, (
            f"{case}: expected beta[{T}] = beta_max = 0.999, got {s.beta[T]:.6g}; without the "
            "clip it is 1, and x0 cannot be computed from x_T"
        )
    assert cosine().alpha_bar[500] == pytest.approx(0.494, abs=5e-4), (
        "half way, alpha_bar[500] of 1000 is 0.494"
    )
    free = quiet(cosine, 8, 0.008, 0.9999).beta
    for beta_max in (0.5, 0.3, 0.1):
        s, case = quiet(cosine, 8, 0.008, beta_max), f"cosine(8, beta_max={beta_max})"
        is_schedule(s, 8)
        for t in range(1, 9):
            want = free[t] if free[t] < beta_max else beta_max
            assert s.beta[t] == pytest.approx(want, rel=1e-12), (
                f"{case}: beta[{t}], {free[t]:.6g} where nothing is clipped, is {s.beta[t]:.6g}; "
                "each beta above beta_max is set to beta_max, and no other changes"
            )


def check_sigmoid(sigmoid):
    """alpha_bar is the piece of the logistic curve, stretched to run from 1 to 0.

    The clip acts on the last step only.
    """
    long = (1000, -3.0, 3.0, 1.0), (1000, 0.0, 3.0, 0.7)
    for T, start, end, tau in (*long, (50, -3.0, 3.0, 0.5), (8, -1.0, 4.0, 2.0)):
        s, case = quiet(sigmoid, T, start, end, tau), f"sigmoid({T}, {start}, {end}, {tau})"
        is_schedule(s, T)
        a, b = start / (2 * tau), end / (2 * tau)
        for t in range(T):
            # the logistic curve is (1 + tanh) / 2,
            # and tanh(b) - tanh(x) = sinh(b - x) / (cosh(b) cosh(x))
            x = a + (b - a) * t / T
            want = math.sinh(b - x) / math.sinh(b - a) * math.cosh(a) / math.cosh(x)
            assert s.alpha_bar[t] == pytest.approx(want, rel=1e-9), (
                f"{case}: expected alpha_bar[{t}] = {want:.6g}, got {s.alpha_bar[t]:.6g}"
            )
        assert s.beta[T] == 0.999, (
            f"{case}: expected beta[{T}] = beta_max = 0.999, got {s.beta[T]:.6g}; without the clip "
            "it is 1"
        )
        assert np.all(np.diff(s.alpha_bar) < 0), f"{case}: alpha_bar falls at every step"
    assert np.array_equal(sigmoid().beta, sigmoid(1000, -3.0, 3.0, 1.0).beta), (
        "the defaults are T = 1000, start = -3, end = 3, tau = 1"
    )
    assert sigmoid().alpha_bar[500] == pytest.approx(0.5), (
        "with the defaults the curve is symmetric: alpha_bar[500] of 1000 is 1/2"
    )
    assert sigmoid().alpha_bar[1000] < 1e-6, (
        "almost nothing of x0 is left in x_T; "
        f"got alpha_bar[1000] = {sigmoid().alpha_bar[1000]:.3g}"
    )
    assert quiet(sigmoid, 8, -3.0, 3.0, 1.0, 0.3).beta.max() == 0.3, (
        "sigmoid(8, beta_max=0.3): the largest beta is 0.3"
    )


# --- the package passes them ---


def test_from_betas():
    check_from_betas(schedule.from_betas)


@pytest.mark.exercise("schedule.linear")
def test_linear():
    check_linear(schedule.linear)


@pytest.mark.exercise("schedule.cosine")
def test_cosine():
    check_cosine(schedule.cosine)


def test_sigmoid():
    check_sigmoid(schedule.sigmoid)


def test_more_noise_at_every_step():
    usual = schedule.linear(), schedule.cosine(), schedule.sigmoid()
    for s in (*usual, quiet(schedule.from_betas, BETAS)):
        assert np.all(np.diff(s.alpha_bar) < 0) and np.all(np.diff(s.snr) < 0)
        assert np.all(s.beta_tilde <= s.beta), "beta_tilde is beta times a factor below 1"


def test_numpy_whole_numbers_are_whole_numbers():
    assert schedule.linear(np.int64(1000)).T == 1000


def test_schedules_compare_by_identity_and_can_be_hashed():
    """Arrays have no single truth value, so == by value would raise."""
    s, same = schedule.linear(), schedule.linear()
    assert s == s and s != same and len({s, s, same}) == 2


# --- the terminal SNR ---


def test_a_schedule_that_ends_too_early_says_so():
    """Errata: DDPM's betas with T = 50 end at a terminal SNR of 1.5."""
    with pytest.warns(UserWarning, match=r"terminal SNR is 1\.5\d?:") as caught:
        s = schedule.linear(50)
    assert round(s.snr[50], 1) == 1.5
    assert len(caught) == 1 and "\n" not in str(caught[0].message)


@pytest.mark.parametrize("build, T", [("linear", 1000), *product(("cosine", "sigmoid"), (8, 1000))])
def test_a_schedule_that_ends_in_noise_is_silent(build, T):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert getattr(schedule, build)(T).snr[-1] <= 0.01


@pytest.mark.parametrize("snr, warns", [(0.0099, False), (0.0101, True)])
def test_the_limit_is_one_percent(snr, warns):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        schedule.from_betas([1 / (1 + snr)])  # one step: alpha_bar = snr / (1 + snr)
    assert len(caught) == warns


# --- bad input: one line that says what was wanted and what was given ---


@pytest.mark.parametrize("betas", [[], [0.0, 0.1], [-0.1], [0.1, 1.5], [0.1, np.nan], 0.1])
def test_bad_betas(betas):
    with pytest.raises(ValueError, match="beta is a list of variances") as error:
        schedule.from_betas(betas)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("betas", [np.full((3, 3), 0.1), np.linspace(-0.1, 0.1, 1000)])
def test_bad_betas_by_the_thousand_are_still_one_line(betas):
    with pytest.raises(ValueError, match="beta is a list of variances") as error:
        schedule.from_betas(betas)
    assert "\n" not in str(error.value) and len(str(error.value)) < 250


@pytest.mark.parametrize("T", [0, -3, 2.5, "8", None])
@pytest.mark.parametrize("build", ["linear", "cosine", "sigmoid"])
def test_bad_number_of_steps(build, T):
    with pytest.raises(ValueError, match="T is the number of noising steps") as error:
        getattr(schedule, build)(T)
    assert "\n" not in str(error.value) and repr(T) in str(error.value)


@pytest.mark.parametrize("args", [(10, -0.1, 0.2), (10, 0.1, 1.2), (10, 0.0, 0.2)])
def test_linear_passes_bad_betas_on(args):
    with pytest.raises(ValueError, match="beta is a list of variances"):
        schedule.linear(*args)


@pytest.mark.parametrize(
    "start, end, tau", [(3, -3, 1), (1, 1, 1), (-3, 3, 0), (-3, 3, -1), (np.nan, 3, 1)]
)
def test_sigmoid_needs_a_falling_piece(start, end, tau):
    why = f"start < end and tau > 0; got start = {start}, end = {end}, tau = {tau}"
    with pytest.raises(ValueError, match=why) as error:
        schedule.sigmoid(10, start, end, tau)
    assert "\n" not in str(error.value)


# --- errata ---


def cosine_clipped_from_below(T=1000, offset=0.008, beta_max=0.999):
    f = np.cos((np.arange(T + 1) / T + offset) / (1 + offset) * np.pi / 2) ** 2
    return quiet(schedule.from_betas, np.clip(1 - f[1:] / f[:-1], 0.01, beta_max))


def test_errata_cosine_clipped_from_below():
    """A lower clip of 0.01 acts on four fifths of all steps: no cosine is left."""
    assert cosine_clipped_from_below().alpha_bar[500] == pytest.approx(0.0066, abs=5e-5)
    rejects(check_cosine, cosine_clipped_from_below)


@pytest.mark.filterwarnings(TOO_SHORT)
def test_errata_off_by_one():
    """An alpha_bar that starts one step late, or a beta that starts at t = 0, is caught."""

    def late(beta):
        s = schedule.from_betas(beta)
        alpha_bar = np.concatenate([[1.0], s.alpha_bar[:-1]])
        return schedule.Schedule(s.beta, s.alpha, alpha_bar, s.snr, s.beta_tilde)

    rejects(check_from_betas, late)

    def from_0(T=1000, first=1e-4, last=0.02):
        return schedule.from_betas(first + (last - first) * np.arange(1, T + 1) / T)

    rejects(check_linear, from_0)
    rejects(check_cosine, lambda T=1000, offset=0.008, beta_max=0.999: quiet(schedule.linear, T))


def sigmoid_with(curve, clip=True):
    """Make a schedule whose alpha_bar is curve(x, tau) for x from start to end."""

    def sigmoid(T=1000, start=-3.0, end=3.0, tau=1.0, beta_max=0.999):
        f = curve(np.linspace(start, end, T + 1), tau)
        beta = np.clip(1 - f[1:] / f[:-1], 1e-12, beta_max if clip else 0.9999)
        return quiet(schedule.from_betas, beta)

    return sigmoid


def stretched(curve):
    """Shift a curve so that it ends at 0."""
    return lambda x, tau: curve(x, tau) - curve(x, tau)[-1]


def logistic(x, tau):
    return 1 / (1 + np.exp(x / tau))


def test_errata_sigmoid():
    """The plain version passes; none of the others does.

    Not stretched, the clip forgotten; tau forgotten or upside down, the rising curve; lines.
    """
    check_sigmoid(sigmoid_with(stretched(logistic)))
    rejects(check_sigmoid, sigmoid_with(logistic))
    rejects(check_sigmoid, sigmoid_with(stretched(logistic), clip=False))
    forgotten, upside_down = lambda x, tau: logistic(x, 1), lambda x, tau: logistic(x, 1 / tau)
    rising = lambda x, tau: logistic(x[-1] + x[0] - x, tau)
    for curve in (forgotten, upside_down, rising):
        rejects(check_sigmoid, sigmoid_with(stretched(curve)))
    for line in (lambda x, tau: x[-1] - x, lambda x, tau: logistic(x, tau) * (x[-1] - x)):
        rejects(check_sigmoid, sigmoid_with(line))


def test_a_schedule_is_shown_in_one_line():
    assert repr(schedule.cosine(200)).startswith("<Schedule: T = 200, alpha_bar from 0.99")
    assert len(repr(schedule.cosine(200))) < 100
