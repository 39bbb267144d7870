"""Wrong answers to lesson 02: how students miss the way back by Bayes' rule.

What a mutant is: see 01_forward.py.
"""

WEIGHTS = """np.sqrt(s.alpha_bar[t - 1]) * s.beta[t] / (1 - s.alpha_bar[t])
    ct = np.sqrt(s.alpha[t]) * (1 - s.alpha_bar[t - 1])"""
POSTERIOR = """c0, ct = (shaped(c, x_t) for c in posterior_weights(s, t))
    return c0 * x0 + ct * x_t, at(s.beta_tilde, t, x_t)"""

MUTANTS = {
    "diffusion.predict_x0": [
        (
            "(x_t - noise * eps_hat) / signal",
            "x_t - noise * eps_hat",
            "you took the noise away but did not divide by sqrt(alpha_bar): the image stays too "
            "faint",
        ),
        (
            "noise * eps_hat",
            "noise**2 * eps_hat",
            "you took away (1 - alpha_bar) eps_hat; the noise in x_t is sqrt(1 - alpha_bar) eps",
        ),
        (
            "noise * eps_hat",
            "eps_hat",
            "you took away eps_hat itself; the noise in x_t is sqrt(1 - alpha_bar) eps",
        ),
        (
            "/ signal",
            "/ signal**2",
            "you divided by alpha_bar; in x_t, x0 has the factor sqrt(alpha_bar)",
        ),
        (
            "(x_t - noise * eps_hat)",
            "(x_t + noise * eps_hat)",
            "you added the noise again; it has to be taken away",
        ),
        (
            "(x_t - noise * eps_hat) / signal",
            "x_t - noise * eps_hat / signal",
            "only the noise is divided by sqrt(alpha_bar); the whole difference must be",
        ),
        (
            "(x_t - noise * eps_hat) / signal",
            "x_t / signal - noise * eps_hat",
            "only x_t is divided by sqrt(alpha_bar); the whole difference must be",
        ),
        (
            "rates(s, t, x_t)",
            "(np.reshape(r, (-1, 1, 1, 1)[: 4 * (x_t.ndim > 1)] or -1) for r in rates(s, t, x_t))",
            "images may have any number of axes after N; your factors are shaped for (N, H, W, C) "
            "only",
        ),
        (
            "/ signal",
            "/ np.maximum(signal, 0.001)",
            "you keep the divisor above 0.001; at the end of some schedules sqrt(alpha_bar) is "
            "smaller",
        ),
    ],
    "diffusion.v_target": [
        (
            "signal * eps - noise * x0",
            "noise * x0 - signal * eps",
            "the sign is turned: at t = 0 v is eps, at t = T it is about -x0",
        ),
        (
            "signal * eps - noise * x0",
            "signal * x0 + noise * eps",
            "this is x_t; v is the other mix, at a right angle to it",
        ),
        (
            "signal * eps - noise * x0",
            "noise * eps - signal * x0",
            "the two factors are exchanged: in v, sqrt(alpha_bar) goes with eps",
        ),
        (
            "signal * eps - noise * x0",
            "signal * eps + noise * x0",
            "a plus instead of a minus: the turn by an angle has one minus sign, and it is here",
        ),
        (
            "signal * eps - noise * x0",
            "signal**2 * eps - noise**2 * x0",
            "both factors lack their square root: sqrt(alpha_bar) and sqrt(1 - alpha_bar)",
        ),
        (
            "signal * eps - noise * x0",
            "eps - x0",
            "eps - x0 is the velocity of flow matching, on a straight path; here the path is an "
            "arc, and its factors change with t",
        ),
        (
            "signal * eps - noise * x0",
            "signal * x0 - noise * eps",
            "you changed only the sign: cos(phi) has the derivative -sin(phi), and sin(phi) has "
            "cos(phi), so both factors change",
        ),
        (
            "rates(s, t, x0)",
            "(np.reshape(r, (-1, 1, 1, 1)[: 4 * (x0.ndim > 1)] or -1) for r in rates(s, t, x0))",
            "images may have any number of axes after N; your factors are shaped for (N, H, W, C) "
            "only",
        ),
        (
            "signal * eps - noise * x0",
            "signal * eps - noise * np.abs(x0)",
            "yours is right for bright pixels only: x0 may be negative, and its sign counts",
        ),
    ],
    "diffusion.x0_from_v": [
        (
            "signal * x_t - noise * v",
            "signal * x_t + noise * v",
            "a plus instead of a minus: the way back turns by the opposite angle",
        ),
        (
            "signal * x_t - noise * v",
            "(x_t - noise * v) / signal",
            "you treated v as if it were eps; from v no division is needed",
        ),
        (
            "signal * x_t - noise * v",
            "signal * v + noise * x_t",
            "this is eps; x0 is the other coordinate",
        ),
        (
            "signal * x_t - noise * v",
            "signal * v - noise * x_t",
            "the two factors are exchanged: sqrt(alpha_bar) goes with x_t",
        ),
        (
            "signal * x_t - noise * v",
            "signal**2 * x_t - noise**2 * v",
            "both factors lack their square root: sqrt(alpha_bar) and sqrt(1 - alpha_bar)",
        ),
        (
            "rates(s, t, x_t)",
            "(np.reshape(r, (-1, 1, 1, 1)[: 4 * (x_t.ndim > 1)] or -1) for r in rates(s, t, x_t))",
            "images may have any number of axes after N; your factors are shaped for (N, H, W, C) "
            "only",
        ),
    ],
    "diffusion.posterior_weights": [
        (
            "return c0, ct",
            "return ct, c0",
            "the weights of x0 and x_t are exchanged: c0, the weight of x0, comes first; at t = 1 "
            "it is 1",
        ),
        (
            "np.sqrt(s.alpha_bar[t - 1])",
            "np.sqrt(s.alpha_bar[t])",
            "c0 takes sqrt(alpha_bar[t-1]), what is left of x0 one step earlier, not alpha_bar[t]",
        ),
        (
            "(1 - s.alpha_bar[t - 1])",
            "(1 - s.alpha_bar[t])",
            "ct takes 1 - alpha_bar[t-1], the noise one step earlier, not alpha_bar[t]",
        ),
        (
            WEIGHTS,
            WEIGHTS.replace("alpha_bar[t - 1]", "alpha_bar[t]"),
            "in the numerator both weights take alpha_bar[t-1], one step earlier; you took "
            "alpha_bar[t] in both",
        ),
        ("np.sqrt(s.alpha[t])", "s.alpha[t]", "ct takes the square root of alpha[t]"),
        (
            "np.sqrt(s.alpha_bar[t - 1])",
            "s.alpha_bar[t - 1]",
            "c0 takes the square root of alpha_bar[t-1]",
        ),
        (
            "np.sqrt(s.alpha[t])",
            "np.sqrt(s.alpha_bar[t])",
            "ct takes alpha[t], the one step; not alpha_bar[t], the product",
        ),
        (
            "c0 = np.sqrt(",
            "t = np.unique(t) if np.ndim(t) else t\n    c0 = np.sqrt(",
            "the times of a batch come in any order, and may repeat: each has weights of its own",
        ),
    ],
    "diffusion.q_posterior": [
        (
            "s.beta_tilde",
            "s.beta",
            "you returned beta[t], the variance of the step forward; the posterior's variance is "
            "beta_tilde[t]",
        ),
        (
            "s.beta_tilde",
            "np.sqrt(s.beta_tilde)",
            "you returned the standard deviation; the variance is beta_tilde[t] itself",
        ),
        (
            "s.beta_tilde",
            "1 - s.alpha_bar",
            "1 - alpha_bar[t] is the variance of x_t when x0 is known; the posterior's is "
            "beta_tilde[t]",
        ),
        (
            "c0 * x0 + ct * x_t",
            "c0 * x_t + ct * x0",
            "the weights are exchanged: c0 belongs to x0, ct to x_t",
        ),
        (
            "at(s.beta_tilde, t, x_t)",
            "at(s.beta_tilde, np.asarray(t) - 1, x_t)",
            "you took beta_tilde[t - 1]; the step from x_t to x_{t-1} has entry t",
        ),
        (
            POSTERIOR,
            "c0, ct = posterior_weights(s, t)\n    return c0 * x0 + ct * x_t, s.beta_tilde[t]",
            "t may be an array with one time per image: weights and variance must then be shaped "
            "(N, 1, 1, 1), as `shaped` and `at` do it",
        ),
        (
            "at(s.beta_tilde, t, x_t)",
            "s.beta_tilde[t]",
            "var must be shaped to multiply the images and have their precision: pick it with `at`",
        ),
        (
            "shaped(c, x_t) for c",
            "np.reshape(shaped(c, x_t), (-1, 1, 1, 1)[: 4 * (x_t.ndim > 1)] or -1) for c",
            "images may have any number of axes after N; your factors are shaped for (N, H, W, C) "
            "only",
        ),
        (
            "at(s.beta_tilde, t, x_t)",
            "np.broadcast_to(at(s.beta_tilde, t, x_t), x_t.shape if np.ndim(t) else ())",
            "var has one number per image, shaped (N, 1, ...) to multiply it; yours repeats it "
            "for every pixel",
        ),
    ],
    "hunts.hunt_step_back": [
        (
            '"A": 3',
            '"A": 1',
            "A: read both of its weights off, at several times. Are they those of any time at all, "
            "or how do they hang together?",
        ),
        (
            '"D": 2',
            '"D": 0',
            "D: is it right wherever it may be used? `t` may also be one time per image",
        ),
        (
            '"C": 4',
            '"C": 0',
            "C: where a walk ends does not show how widely it is spread on the way; read the "
            "variance off at each time",
        ),
        (
            '"B": 0',
            '"B": 2',
            "B: take it out of all suspicion, or show where it errs: weights, variance, one time "
            "and one time per image",
        ),
        (
            '"C": 4',
            '"C": 2',
            "C: its means are right; what else does it return?",
        ),
    ],
}
