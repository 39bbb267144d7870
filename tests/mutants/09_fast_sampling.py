"""Wrong answers to lesson 09: how students leave the flow, or lose a method's order.

What a mutant is: see 01_forward.py.
"""

TESTS = {
    name: "test_solvers.py"
    for name in (
        "sample.euler",
        "sample.heun",
        "sample.dpmpp_2m",
        "sample.karras_times",
        "sample.bend_times",
    )
}

STEP = "ddim_step(s, x, eps_model(x, t), t, u, clip)"
X_BAR = "x / np.sqrt(s.alpha_bar[t]) + (sigma(s, u) - sigma(s, t)) * eps_model(x, t)"
UPWARD = f"np.sqrt(s.alpha_bar[u]) * ({X_BAR.replace('(sigma', '-(sigma')})"
SLOPES = "(slope + eps_model(there, u)) / 2"
CHANGE = "(x0_hat - before[0]) * x.dtype.type(1 / (2 * r))"
LEVELS = "np.linspace(high ** (1 / rho), sigma(s, 1) ** (1 / rho), steps) ** rho"

MUTANTS = {
    "sample.euler": [
        (
            STEP,
            f"({X_BAR}).astype(x.dtype)",
            "you yield x_bar, the image before shrinking: x_u is sqrt(alpha_bar[u]) times that",
        ),
        (
            STEP,
            "(x + (sigma(s, u) - sigma(s, t)) * eps_model(x, t)).astype(x.dtype)",
            "you took the step in x itself; the slope belongs to x_bar = x / sqrt(alpha_bar): "
            "divide, step, multiply back",
        ),
        (
            STEP,
            f"({UPWARD}).astype(x.dtype)",
            "the step has the wrong sign: from t to u sigma falls, so sigma[u] - sigma[t] is "
            "negative, and noise is taken away",
        ),
        (
            "eps_model(x, t)",
            "eps_model(x, max(u, 1))",
            "you called the model at u; an Euler step takes the slope where it starts, at t",
        ),
        (
            "        x, t = add_churn(s, x, t, churn, rng)\n",
            "",
            "you left churn out: where it is above 0, fresh noise comes before each step",
        ),
        (
            "x, t = add_churn",
            "x, _ = add_churn",
            "after the fresh noise x is at `up`: call the model there, and step from there",
        ),
        (
            "t, u, clip)",
            "t, u, np.inf)",
            "you don't use clip: x0_hat is kept within [-clip, clip], and eps_hat follows",
        ),
        (
            STEP,
            "(lambda h: np.sqrt(s.alpha_bar[u]) * h + np.sqrt((1 - s.alpha_bar[u]) / (1 - "
            "s.alpha_bar[t])) * (x - np.sqrt(s.alpha_bar[t]) * h))(np.minimum(predict_x0(s, x, "
            "t, eps_model(x, t)), clip)).astype(x.dtype)",
            "you cut x0_hat off at the upper edge only; clip keeps it within [-clip, clip]",
        ),
        (
            "visited(s, times)",
            "list(range(s.T, -1, -1)) if times is None else list(times)",
            "times that do not decrease to 0 are a ValueError; yours takes them",
        ),
        (
            "start(shape, rng, x_T)",
            "rng.standard_normal(shape) if x_T is None else x_T",
            "you draw x_T in float64; samplers draw it in float32 (`start` does)",
        ),
    ],
    "sample.heun": [
        (
            SLOPES,
            "(slope + eps_model(there, t)) / 2",
            "you gave the model t at the far end; x_u' is at u. It still converges, but no faster "
            "than Euler, for twice the calls",
        ),
        (
            SLOPES,
            "eps_model(there, u)",
            "you took the far slope alone; Heun's method takes the mean of both ends' slopes",
        ),
        (
            SLOPES,
            "(slope + eps_model(there, u))",
            "you added the two slopes; the step goes along their mean",
        ),
        (
            f"ddim_step(s, x, {SLOPES}, t, u, clip)",
            f"ddim_step(s, there, {SLOPES}, t, u, clip)",
            "your second step starts where the first one ended: go back, and take the whole step "
            "again from x_t",
        ),
        (
            f"ddim_step(s, x, {SLOPES}, t, u, clip)",
            "(x + there) / 2",
            "you averaged the two images; it is the two slopes that are averaged, and then the "
            "step is taken",
        ),
        (
            "there if u == 0 else",
            "there if True else",
            "this is Euler's method: the second call, at the far end, is missing",
        ),
        (
            "there if u == 0 else",
            "there if u < 0 else",
            "you called the model at t = 0, where there is no noise left to predict: in the last "
            "step x_u' stays",
        ),
        (
            "x, t = add_churn(s, x, t, churn, rng)",
            "pass",
            "you left churn out: where it is above 0, fresh noise comes before each step",
        ),
        (
            "x, slope, t, u, clip)",
            "x, slope, t, u, np.inf if u else clip)",
            "you don't clip the first of the two steps, the one that leads to x_u'",
        ),
        (
            "/ 2, t, u, clip)",
            "/ 2, t, u, np.inf)",
            "you don't clip the second of the two steps, the one with the mean slope",
        ),
        (
            "visited(s, times)",
            "list(range(s.T, -1, -1)) if times is None else list(times)",
            "times that do not decrease to 0 are a ValueError; yours takes them",
        ),
        (
            "start(shape, rng, x_T)",
            "rng.standard_normal(shape) if x_T is None else x_T",
            "you draw x_T in float64; samplers draw it in float32 (`start` does)",
        ),
    ],
    "sample.dpmpp_2m": [
        (
            "1 / (2 * r)",
            "1 / 2",
            "you took r for 1: that is right where all steps are equal in lam, and on other grids "
            "it costs an order",
        ),
        (
            "1 / (2 * r)",
            "r / 2",
            "r is upside down: a long step before (r > 1) makes the change per unit of lam smaller",
        ),
        (
            "1 / (2 * r)",
            "1 / r",
            "you extrapolated x0_hat to the end of the step; its middle stands for the whole "
            "step: 2 r is in the denominator",
        ),
        (
            f"x0_hat + {CHANGE}",
            f"x0_hat - {CHANGE}",
            "a minus instead of a plus: x0_hat goes on as it changed last, not back",
        ),
        (
            "before = x0_hat, lam",
            "before = D, lam",
            "you kept D for the next step; its change is that of x0_hat, the model's own answers",
        ),
        (
            "before = x0_hat, lam",
            "before = before or (x0_hat, lam)",
            "you compare with the first x0_hat of all; keep the one of the step before",
        ),
        (
            "if before and u > 0",
            "if False",
            "D is x0_hat in every step: that is ddim; from the second step on it is extrapolated",
        ),
        (
            ".clip(-clip, clip)",
            "",
            "you don't use clip: each x0_hat is kept within [-clip, clip] before anything is made "
            "of it",
        ),
        (
            ".clip(-clip, clip)",
            ".clip(None, clip)",
            "you cut x0_hat off at the upper edge only; clip keeps it within [-clip, clip]",
        ),
        (
            "* D\n",
            "* D.clip(-clip, clip)\n",
            "you clip D as well; x0_hat alone is kept within [-clip, clip], and D may lie beyond",
        ),
        (
            "visited(s, times)",
            "list(range(s.T, -1, -1)) if times is None else list(times)",
            "times that do not decrease to 0 are a ValueError; yours takes them",
        ),
    ],
    "sample.karras_times": [
        (
            LEVELS,
            "np.linspace(high**rho, sigma(s, 1) ** rho, steps) ** (1 / rho)",
            "rho and 1 / rho are exchanged: it is the rho-th root of sigma that falls evenly",
        ),
        (
            LEVELS,
            "np.exp(np.linspace(np.log(high), np.log(sigma(s, 1)), steps))",
            "you spaced log sigma evenly, which is snr_times; here it is the rho-th root of sigma",
        ),
        (
            LEVELS,
            "np.linspace(high, sigma(s, 1), steps)",
            "you spaced sigma itself evenly: nearly all times are then at large noise",
        ),
        (
            "min(sigma(s, s.T), sigma_max)",
            "sigma(s, s.T)",
            "you start at T always; where sigma[T] is above sigma_max, the first time is the one "
            "with sigma_max",
        ),
        (
            "min(sigma(s, s.T), sigma_max)",
            "sigma_max",
            "you start at sigma_max always; where the schedule doesn't reach it, start at sigma[T]",
        ),
        (
            LEVELS,
            LEVELS.replace("steps) **", "steps + 1)[:-1] **"),
            "i runs from 0 to steps - 1, and the last level is sigma[1]; yours stops before it",
        ),
        (
            LEVELS,
            LEVELS.replace("/ rho", "/ 7.0").replace("** rho", "** 7.0"),
            "you fixed rho at 7; it is an argument",
        ),
        (
            "require_steps(s, steps)\n",
            "steps = min(max(steps, 1), s.T)\n",
            "a number of steps below 1 or above T is a ValueError; yours takes it",
        ),
        (
            LEVELS,
            LEVELS.replace("rho", "max(rho, 1.0)"),
            "your rho is never below 1; it may be any number > 0",
        ),
    ],
    "sample.bend_times": [
        (
            "np.arange(steps) / steps",
            "np.linspace(0, 1, steps)",
            "the last step, the one down to 0, gets no share: times[i] lies at i / steps of the "
            "bend",
        ),
        (
            "np.diff(depth)",
            "-np.diff(levels)",
            "you integrated over sigma; the bend is measured per unit of log sigma",
        ),
        (
            "np.diff(depth) * ",
            "",
            "you added up bends without the distance, in log sigma, between their levels",
        ),
        (
            "(bend[1:] + bend[:-1]) / 2",
            "bend[1:]",
            "between two levels you took the bend of the lower one; it is the mean of both",
        ),
        (
            "np.interp(shares, above, depth)",
            "depth[np.searchsorted(above, shares)]",
            "you chose among the measured levels; between two of them the bend grows evenly",
        ),
        (
            "np.asarray(bend)",
            "1 / np.asarray(bend)",
            "your steps are long where the path bends; an equal share of the bend makes them short "
            "there",
        ),
        (
            "require_steps(s, steps)\n",
            "steps = min(max(steps, 1), s.T)\n",
            "a number of steps below 1 or above T is a ValueError; yours takes it",
        ),
    ],
    "hunts.hunt_solver": [
        (
            '"A": 5',
            '"A": 4',
            "A: dictate guesses that change at different rates, and compare the second D with the "
            "third",
        ),
        (
            '"C": 3',
            '"C": 0',
            "C: its order on even grids is 2; measure it on an uneven one",
        ),
        (
            '"D": 4',
            '"D": 5',
            "D: dictate guesses, and look at the first D that is carried on",
        ),
        (
            '"B": 0',
            '"B": 4',
            "B: which instrument says so? Not every suspect has a slip",
        ),
    ],
}
