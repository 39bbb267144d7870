"""How fast noise arrives: beta, alpha, alpha_bar and the signal-to-noise ratio by the paper's t.

Every array has T + 1 entries. Entry 0 is clean data: beta[0] = 0, alpha_bar[0] = 1. Entry T is
(almost) pure noise.
"""

import warnings
from dataclasses import dataclass

import numpy as np

TERMINAL_SNR = 0.01  # above this, x_T still shows the data, and samplers start from the wrong place


@dataclass(frozen=True, eq=False)  # comparing arrays gives no single truth value: == is identity
class Schedule:
    """Hold one noise schedule; everything else follows from beta.

    alpha[t] = 1 - beta[t]
    alpha_bar[t] = alpha[1] ... alpha[t]
    snr[t] = alpha_bar[t] / (1 - alpha_bar[t])
    beta_tilde[t] = beta[t] (1 - alpha_bar[t-1]) / (1 - alpha_bar[t])
    beta_tilde[t] is the variance of q(x_{t-1} | x_t, x0)
    beta, alpha, alpha_bar, snr, beta_tilde: (T + 1,) float64, beta[0] = 0; T: int
    Source: Ho et al. 2020 (DDPM), equations 4 and 7; snr as in Kingma et al. 2021.
    """

    beta: np.ndarray
    alpha: np.ndarray
    alpha_bar: np.ndarray
    snr: np.ndarray
    beta_tilde: np.ndarray

    @property
    def T(self):
        """Give the number of noising steps: () -> int"""
        return len(self.beta) - 1

    def __repr__(self):
        first, last = self.alpha_bar[1], self.alpha_bar[-1]
        return f"<Schedule: T = {self.T}, alpha_bar from {first:.4g} at t = 1 to {last:.2g} at T>"


def from_betas(beta):
    """Build the schedule whose step t adds noise of variance beta_t.

    alpha_bar[t] = (1 - beta_1) ... (1 - beta_t)
    beta: (T,) in (0, 1), the variances beta_1 .. beta_T -> Schedule with arrays (T + 1,)
    Warns when snr[T] > 0.01: x_T is then not yet noise, and samplers start from the wrong place.
    Raises ValueError for an empty beta, or values outside (0, 1).
    """
    beta = np.asarray(beta, dtype=np.float64)
    if beta.ndim != 1 or beta.size == 0 or not np.all((beta > 0) & (beta < 1)):
        span = f", values {beta.min():.3g} to {beta.max():.3g}" if beta.size else ""
        wanted = "beta is a list of variances between 0 and 1, one per step"
        raise ValueError(f"{wanted}; got shape {beta.shape}{span}")
    beta = np.concatenate([[0.0], beta])
    alpha = 1 - beta
    alpha_bar = np.cumprod(alpha)
    with np.errstate(divide="ignore"):
        snr = alpha_bar / (1 - alpha_bar)  # snr[0] = inf: no noise at all
    beta_tilde = np.zeros_like(beta)
    beta_tilde[1:] = beta[1:] * (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:])
    if snr[-1] > TERMINAL_SNR:
        found = f"terminal SNR is {snr[-1]:.3g}: x_T still shows the data"
        advice = f"(wanted: at most {TERMINAL_SNR}). Take more steps or larger betas."
        warnings.warn(f"{found} {advice}", stacklevel=2)
    return Schedule(beta, alpha, alpha_bar, snr, beta_tilde)


def linear(T=1000, beta_1=1e-4, beta_T=0.02):
    """Build the schedule of the DDPM paper: beta grows evenly from beta_1 to beta_T.

    beta[1] = beta_1, beta[T] = beta_T, and all rises between are equal;  for T = 1 only beta_1
    T: int >= 1; beta_1, beta_T in (0, 1) -> Schedule with arrays (T + 1,)
    The defaults are made for T = 1000: a small T needs larger betas (a warning says so).
    Source: Ho et al. 2020, section 4.
    """
    _require_steps(T)
    return from_betas(np.linspace(beta_1, beta_T, T))


def cosine(T=1000, offset=0.008, beta_max=0.999):
    """Build the schedule whose alpha_bar falls like a squared cosine: slow at both ends.

    f(t) = cos^2( (t/T + offset) / (1 + offset) pi/2 )
    The betas are those that make alpha_bar[t] = f(t) / f(0); then each one above beta_max is set to
    beta_max
    T: int >= 1; offset >= 0; beta_max in (0, 1) clips the last steps only
    -> Schedule with arrays (T + 1,)
    Source: Nichol & Dhariwal 2021 (improved DDPM), equation 17.
    """
    _require_steps(T)
    f = np.cos((np.arange(T + 1) / T + offset) / (1 + offset) * np.pi / 2) ** 2
    return from_betas(np.minimum(1 - f[1:] / f[:-1], beta_max))


def sigmoid(T=1000, start=-3.0, end=3.0, tau=1.0, beta_max=0.999):
    """Build the schedule whose alpha_bar falls like a piece of the logistic curve.

    g(t) = 1 / (1 + exp((start + (end - start) t / T) / tau)), the piece from start to end
    f(t) = (g(t) - g(T)) / (g(0) - g(T)), from 1 to 0
    beta[t] = min(1 - f(t) / f(t-1), beta_max)
    T: int >= 1; start < end; tau > 0, small = steep; beta_max in (0, 1) clips the last steps only
    -> Schedule with arrays (T + 1,)
    Raises ValueError unless start < end and tau > 0.
    Source: Jabri et al. 2022 (RIN), for its shape.
    """
    _require_steps(T)
    if not (start < end and tau > 0):
        got = f"start = {start}, end = {end}, tau = {tau}"
        raise ValueError(f"a sigmoid schedule needs start < end and tau > 0; got {got}")
    g = 1 / (1 + np.exp((start + (end - start) * np.arange(T + 1) / T) / tau))
    f = (g - g[-1]) / (g[0] - g[-1])
    return from_betas(np.minimum(1 - f[1:] / f[:-1], beta_max))


def _require_steps(T):
    if not (isinstance(T, (int, np.integer)) and T >= 1):
        wanted = "T is the number of noising steps, a whole number of at least 1"
        raise ValueError(f"{wanted}; got {T!r}")
