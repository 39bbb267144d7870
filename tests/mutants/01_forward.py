"""Wrong answers to lesson 01: how students miss the forward process.

A mutant is (old, new, sentence): the package's function with `old`, which occurs once in its
source, replaced by `new`. The suite proves that each fails (test_grade.py); a student whose
function gives what a mutant gives reads its sentence.
"""

MUTANTS = {
    "schedule.linear": [
        (
            "np.linspace(beta_1, beta_T, T)",
            "np.linspace(beta_T, beta_1, T)[::-1]",
            "for T = 1 only beta_1 is there; yours takes beta_T",
        ),
        (
            "np.linspace(beta_1, beta_T, T)",
            "np.sort(np.linspace(beta_1, beta_T, T))",
            "you sorted the betas: beta[1] is beta_1 and beta[T] is beta_T, also where beta_1 "
            "is the larger",
        ),
        (
            "return from_betas(np.linspace(beta_1, beta_T, T))",
            "s = from_betas(np.linspace(beta_1, beta_T, T))\n    return Schedule(s.beta, "
            "s.alpha, np.exp(-np.cumsum(s.beta)), s.snr, s.beta_tilde)",
            "your alpha_bar is exp(-sum of the betas), which is near the product of all 1 - "
            "beta only where the betas are small; from_betas multiplies",
        ),
        (
            "return from_betas(np.linspace(beta_1, beta_T, T))",
            "s = from_betas(np.linspace(beta_1, beta_T, T))\n    return Schedule(s.beta, "
            "s.alpha, s.alpha_bar, s.snr, s.beta)",
            "your beta_tilde is beta; it is the variance of x_{t-1} once x0 is known as well, "
            "which from_betas computes",
        ),
        (
            "return from_betas(np.linspace(beta_1, beta_T, T))",
            "with warnings.catch_warnings():\n        warnings.simplefilter('ignore')\n        "
            "return from_betas(np.linspace(beta_1, beta_T, T))",
            "you silenced the warning of a schedule that ends before all is noise",
        ),
        (
            "np.linspace(beta_1, beta_T, T)",
            "np.linspace(beta_1, beta_T, T + 1)",
            "these are T + 1 betas; from_betas wants T, for t = 1 .. T",
        ),
        (
            "np.linspace(beta_1, beta_T, T)",
            "np.linspace(beta_1, beta_T, T + 1)[1:]",
            "your betas start growing at t = 0; the first step is t = 1, and there beta is beta_1",
        ),
        (
            "np.linspace(beta_1, beta_T, T)",
            "np.linspace(beta_1, beta_T, T, endpoint=False)",
            "you divided by T instead of T - 1: from t = 1 to t = T there are T - 1 equal rises, "
            "and the last beta is beta_T",
        ),
        (
            "np.linspace(beta_1, beta_T, T)",
            "np.linspace(beta_T, beta_1, T)",
            "your betas fall; they grow from beta_1 to beta_T",
        ),
        (
            "np.linspace(beta_1, beta_T, T)",
            "np.geomspace(beta_1, beta_T, T)",
            "your betas grow by equal factors; linear means by equal amounts",
        ),
        (
            "np.linspace(beta_1, beta_T, T)",
            "np.linspace(beta_1**0.5, beta_T**0.5, T) ** 2",
            "here sqrt(beta) grows evenly, as in Stable Diffusion; in DDPM's schedule beta itself "
            "does",
        ),
    ],
    "schedule.cosine": [
        (
            "np.minimum(1 - f[1:] / f[:-1], beta_max)",
            "1 - f[1:] / f[:-1]",
            "you did not cut the betas off at beta_max: f(T) is 0, so the last beta comes out as "
            "1; no beta may exceed beta_max",
        ),
        (
            "np.minimum(1 - f[1:] / f[:-1], beta_max)",
            "np.clip(1 - f[1:] / f[:-1], 0.01, beta_max)",
            "you also clipped from below, at 0.01: of a thousand betas that moves 800 and ruins "
            "the schedule; only large betas are clipped",
        ),
        (
            "np.pi / 2) ** 2",
            "np.pi / 2)",
            "you forgot the square: alpha_bar falls like cos^2, not like cos",
        ),
        (
            "np.arange(T + 1) / T",
            "np.arange(T + 1) / (T + 1)",
            "you divided t by T + 1; at the last step, t = T, the fraction t/T is 1",
        ),
        (
            "f[:-1]",
            "f[0]",
            "1 - f(t) / f(0) is 1 - alpha_bar[t]; one step's beta[t] compares neighbours: 1 - "
            "f(t) / f(t-1)",
        ),
        (
            "(np.arange(T + 1) / T + offset) / (1 + offset)",
            "(np.arange(T + 1) / T)",
            "you left out the offset, in numerator and denominator",
        ),
        (
            "/ T + offset) / (1 + offset)",
            "/ T + offset)",
            "you added the offset, but did not divide by 1 + offset: t = T then lies past pi/2",
        ),
        (
            "np.minimum(1 - f[1:] / f[:-1], beta_max)",
            "np.clip(1 - f[1:] / f[:-1], 1e-4, beta_max)",
            "you also clipped from below, at 0.0001: the first betas are smaller than that; only "
            "large betas are clipped",
        ),
        (
            "np.minimum(1 - f[1:] / f[:-1], beta_max)",
            "np.append(1 - f[1:-1] / f[:-2], beta_max)",
            "you set the last beta alone to beta_max; where beta_max is small, others lie above "
            "it too",
        ),
        (
            "np.minimum(1 - f[1:] / f[:-1], beta_max)",
            "(1 - f[1:] / f[:-1]) * min(1, beta_max / (1 - f[-1] / f[-2]))",
            "you made all betas smaller by one factor; those above beta_max become beta_max, "
            "the others stay",
        ),
        (
            "return from_betas(np.minimum(1 - f[1:] / f[:-1], beta_max))",
            "s = from_betas(np.minimum(1 - f[1:] / f[:-1], beta_max))\n    return "
            "Schedule(s.beta, s.alpha, f / f[0], s.snr, s.beta_tilde)",
            "your alpha_bar is f(t) / f(0) also where a beta was clipped; it is the product of "
            "all 1 - beta up to t, of the clipped ones",
        ),
    ],
    "diffusion.q_step": [
        (
            "np.sqrt(s.beta)",
            "s.beta",
            "you scaled the noise by beta; that is its variance, and its square root is the "
            "standard deviation",
        ),
        (
            "np.sqrt(s.alpha)",
            "s.alpha",
            "you scaled the image by alpha; its square root keeps the variance at 1",
        ),
        (
            "at(np.sqrt(s.alpha), t, x_prev) * x_prev",
            "x_prev",
            "you added noise without shrinking the image by sqrt(alpha[t]): the variance then "
            "grows at every step",
        ),
        (
            "at(np.sqrt(s.alpha), t, x_prev) * x_prev + at(np.sqrt(s.beta), t, x_prev)",
            "at(np.sqrt(s.alpha_bar), t, x_prev) * x_prev + at(np.sqrt(1 - s.alpha_bar), t, "
            "x_prev)",
            "alpha_bar belongs to the jump from x0; one step uses alpha[t] and beta[t]",
        ),
        (
            "at(np.sqrt(s.alpha), t, x_prev) * x_prev + at(np.sqrt(s.beta), t, x_prev)",
            "at(np.sqrt(s.alpha), t - 1, x_prev) * x_prev + at(np.sqrt(s.beta), t - 1, x_prev)",
            "you took entry t - 1; entry 0 of the arrays is clean data, so step t has entry t",
        ),
        (
            "at(np.sqrt(s.alpha), t, x_prev) * x_prev + at(np.sqrt(s.beta), t, x_prev)",
            "at(np.sqrt(s.beta), t, x_prev) * x_prev + at(np.sqrt(s.alpha), t, x_prev)",
            "the two factors are exchanged: sqrt(alpha[t]) keeps the image, sqrt(beta[t]) scales "
            "the noise",
        ),
        (
            "at(np.sqrt(s.alpha), t, x_prev) * x_prev + at(np.sqrt(s.beta), t, x_prev)",
            "np.asarray(np.sqrt(s.alpha[t]), x_prev.dtype) * x_prev + "
            "np.asarray(np.sqrt(s.beta[t]), x_prev.dtype)",
            "t may be an array with one time per image: then alpha[t] must be shaped (N, 1, 1, 1) "
            "to multiply images, which `at` does",
        ),
        (
            "at(np.sqrt(s.alpha), t, x_prev) * x_prev + at(np.sqrt(s.beta), t, x_prev)",
            "at(np.sqrt(s.alpha), t, x_prev.astype(np.float64)) * x_prev + at(np.sqrt(s.beta), t, "
            "x_prev.astype(np.float64))",
            "your result is always float64, as the schedule is; x_t is to have the precision of "
            "x_prev: `at` converts",
        ),
        (
            "at(np.sqrt(s.alpha), t, x_prev) * x_prev + at(np.sqrt(s.beta), t, x_prev)",
            "at(s.alpha, t, x_prev) * x_prev + at(s.beta, t, x_prev)",
            "both factors lack their square root: sqrt(alpha[t]) and sqrt(beta[t])",
        ),
        (
            "at(np.sqrt(s.alpha), t, x_prev) * x_prev + at(np.sqrt(s.beta), t, x_prev)",
            "np.reshape(at(np.sqrt(s.alpha), t, x_prev), (-1, 1, 1, 1)[: 4 * (x_prev.ndim > 1)] "
            "or -1) * x_prev + np.reshape(at(np.sqrt(s.beta), t, x_prev), (-1, 1, 1, 1)[: 4 * "
            "(x_prev.ndim > 1)] or -1)",
            "images may have any number of axes after N; your factors are shaped for (N, H, W, C) "
            "only",
        ),
    ],
    "diffusion.q_sample": [
        (
            "noise * eps",
            "noise**2 * eps",
            "you scaled the noise by 1 - alpha_bar; its square root is the standard deviation",
        ),
        (
            "signal * x0",
            "signal**2 * x0",
            "you scaled the image by alpha_bar; its square root keeps the variance at 1",
        ),
        (
            "signal * x0 + noise * eps",
            "signal**2 * x0 + noise**2 * eps",
            "both factors lack their square root: sqrt(alpha_bar) and sqrt(1 - alpha_bar)",
        ),
        (
            "rates(s, t, x0)",
            "rates(s, t, x0.astype(np.float64))",
            "your result is always float64, as the schedule is; x_t is to have the precision of "
            "x0: `rates` converts",
        ),
        (
            "rates(s, t, x0)",
            "rates(s, t - 1, x0)",
            "you took alpha_bar[t - 1]; entry 0 is clean data, so time t has entry t",
        ),
        (
            "rates(s, t, x0)",
            "at(np.sqrt(s.alpha), t, x0), at(np.sqrt(s.beta), t, x0)",
            "alpha[t] and beta[t] make one step; the jump from x0 to x_t takes alpha_bar[t], the "
            "product of all steps up to t",
        ),
        (
            "signal * x0 + noise * eps",
            "noise * x0 + signal * eps",
            "the two factors are exchanged: sqrt(alpha_bar[t]) keeps the image, sqrt(1 - "
            "alpha_bar[t]) scales the noise",
        ),
        (
            "signal * x0 + noise * eps",
            "signal * x0 + (1 - signal) * eps",
            "you scaled the noise by 1 - sqrt(alpha_bar): the root is taken of the whole, sqrt(1 - "
            "alpha_bar)",
        ),
        (
            "rates(s, t, x0)",
            "(np.reshape(r, (-1, 1, 1, 1)[: 4 * (x0.ndim > 1)] or -1) for r in rates(s, t, x0))",
            "images may have any number of axes after N; your factors are shaped for (N, H, W, C) "
            "only",
        ),
        (
            "noise * eps",
            "noise * np.abs(eps)",
            "your noise is never negative; eps is to be taken as it comes",
        ),
    ],
}
