"""Wrong answers to lesson 03: how students miss the samplers. What a mutant is: 01_forward.py."""

PREDICT = "predict_eps(s, x_t, t, np.asarray(x0, dtype=x_t.dtype))"
WEIGHTS = "c0, ct, std = ddim_weights(s, t, u, eta)"
SPELLED = """ab_t, ab_u = s.alpha_bar[t], s.alpha_bar[u]
        std = eta * np.sqrt((1 - ab_u) / (1 - ab_t) * (1 - ab_t / ab_u))
        ct = np.sqrt(max(1 - ab_u - std**2, 0.0) / (1 - ab_t))
        c0 = np.sqrt(ab_u) - ct * np.sqrt(ab_t)"""
UPDATE = "kernels.denoise_step(x, eps_hat, z, s.alpha_bar[t], c0, ct, std, clip)"
X0_HAT = "np.clip((x - np.sqrt(n) * eps_hat) / np.sqrt(1 - n), -clip, clip)"
ABOVE = f"c0 * {X0_HAT}".replace("-clip,", "-np.inf,")
CLIPPED = f"(c0 + ct * np.sqrt(1 - n)) * {X0_HAT}"
ONE_STEP = """    for t in range(s.T, 0, -1):
        c0, ct = posterior_weights(s, t)
        eps_hat = eps_model(x, t)
        std = np.sqrt(var(x, t) if callable(var) else var[t])
        z = np.asarray(std, x.dtype) * noise_like(x, std, rng)"""
SAME_Z = ONE_STEP.replace("noise_like(x, std, rng)", "same")
SAME_Z = f"    same = noise_like(x, 1.0, rng)\n{SAME_Z}"

MUTANTS = {
    "exact.point": [
        (
            PREDICT,
            f"({PREDICT} / np.sqrt(1 - s.alpha_bar[t])).astype(x_t.dtype)",
            "you divided by 1 - alpha_bar, the variance of the noise; its square root is what "
            "multiplies eps in x_t",
        ),
        (
            PREDICT,
            "((x_t - x0) / np.sqrt(1 - s.alpha_bar[t])).astype(x_t.dtype)",
            "you took away the whole image; x_t holds only sqrt(alpha_bar) of it",
        ),
        (
            PREDICT,
            "((x_t - s.alpha_bar[t] * np.asarray(x0)) / np.sqrt(1 - "
            "s.alpha_bar[t])).astype(x_t.dtype)",
            "you shrank the image by alpha_bar; x_t holds sqrt(alpha_bar) x0",
        ),
        (
            PREDICT,
            f"-{PREDICT}",
            "your noise has the wrong sign: what is left of x_t without the image is + the noise",
        ),
        (
            PREDICT,
            "np.broadcast_to(np.asarray(x0, dtype=x_t.dtype), x_t.shape)",
            "you answered with the image; an eps_model answers with the noise that leads from it "
            "to x_t",
        ),
        (
            "np.asarray(x0, dtype=x_t.dtype)",
            "np.asarray(x0, dtype=np.float64)",
            "your answer is float64 whatever comes in; a model answers in the precision of x_t",
        ),
        (
            PREDICT,
            "(x_t - np.asarray(x0, dtype=x_t.dtype))",
            "x_t - x0 is not yet the noise: take sqrt(alpha_bar) x0 away, and divide by sqrt(1 - "
            "alpha_bar)",
        ),
        (
            f"return lambda x_t, t: {PREDICT}",
            f"known = {{}}\n    return lambda x_t, t: known.setdefault((t, x_t.shape, "
            f"x_t.dtype), {PREDICT})",
            "your answer to the first batch at a time comes again for the next batch at that time",
        ),
    ],
    "exact.gaussian": [
        (
            "gain = root * var / (",
            "gain = s.alpha_bar[t] * var / (",
            "the numerator of your gain has alpha_bar; it takes the square root, since x0 enters "
            "x_t times sqrt(alpha_bar)",
        ),
        (
            "+ 1 - s.alpha_bar[t])\n        x0_hat",
            "+ np.sqrt(1 - s.alpha_bar[t]))\n        x0_hat",
            "you divided by alpha_bar var + sqrt(1 - alpha_bar); the denominator is the variance "
            "of x_t, so no root there",
        ),
        (
            "gain * (x_t - root * mean)",
            "gain * (x_t - mean)",
            "you compared x_t with mean; the noisy images lie around sqrt(alpha_bar) mean",
        ),
        (
            "x0_hat = mean + gain",
            "x0_hat = gain",
            "you lost the mean: the guess is mean + gain times how far x_t is from where it was "
            "expected",
        ),
        (
            "root * var / (s.alpha_bar[t] * var +",
            "root * var**2 / (s.alpha_bar[t] * var**2 +",
            "var is the variance already; you squared it as if it were the standard deviation",
        ),
        (
            "return predict_eps(s, x_t, t, np.asarray(x0_hat, dtype=x_t.dtype))",
            "return np.asarray(x0_hat, dtype=x_t.dtype)",
            "you answered with the guess of x0; an eps_model answers with the noise: turn one "
            "into the other by predict_eps",
        ),
        (
            "np.asarray(x0_hat, dtype=x_t.dtype)",
            "np.asarray(x0_hat, dtype=np.float64)",
            "your answer is always float64, as mean, var and the schedule are: convert x0_hat to "
            "x_t's precision",
        ),
        (
            "gain = root * var / (",
            "gain = var / (",
            "the numerator of your gain lacks sqrt(alpha_bar), with which x0 enters x_t",
        ),
        (
            "np.asarray(x0_hat,",
            "np.asarray(np.clip(x0_hat, -10, 10),",
            "you clipped the guess of x0; data N(mean, var) may lie anywhere",
        ),
        (
            "root * var / (s.alpha_bar[t] * var + 1",
            "root * np.minimum(var, 4) / (s.alpha_bar[t] * np.minimum(var, 4) + 1",
            "your variance never exceeds 4; var may be any number >= 0",
        ),
    ],
    "exact.gaussian_variance": [
        (
            "var_x0 = var * (1 - s.alpha_bar[t]) / (s.alpha_bar[t] * var + 1 - s.alpha_bar[t])",
            "var_x0 = var",
            "you took the variance of the data; the doubt that counts is Var[x0 | x_t], what is "
            "left of it once x_t has been seen",
        ),
        (
            "(s.alpha_bar[t] * var + 1",
            "(var + 1",
            "you put sigma^2 = 1 - alpha_bar into lesson 01's formula; there the image has its "
            "full strength, so sigma^2 is (1 - alpha_bar) / alpha_bar",
        ),
        (
            "c0**2 * var_x0",
            "c0 * var_x0",
            "x0 has the factor c0 in the mean of x_{t-1}; its variance has the factor c0^2",
        ),
        (
            "s.beta_tilde[t] + c0**2",
            "c0**2",
            "this is the doubt about x0 alone; the variance that stays when x0 is known, "
            "beta_tilde, comes on top",
        ),
        (
            "s.beta_tilde[t] + c0",
            "s.beta[t] + c0",
            "beta is the variance of the step forward; with x0 known, x_{t-1} has beta_tilde",
        ),
        (
            "c0, _ = posterior",
            "_, c0 = posterior",
            "you took the weight of x_t, which is known; the doubt is about x0, weight c0",
        ),
        (
            "np.concatenate([[0.0], s.beta_tilde[t] + c0**2 * var_x0])",
            "s.beta_tilde[t] + c0**2 * var_x0",
            "entry 0 is missing: the arrays of a schedule have T + 1 entries, and entry t belongs "
            "to the step from t to t - 1",
        ),
        (
            "var_x0 = var * (1",
            "var = min(var, 3.0)\n    var_x0 = var * (1",
            "your variance of the data never exceeds 3; var may be any number >= 0",
        ),
    ],
    "sample.even_times": [
        (
            "[round(s.T * (steps - i) / steps) for i in range(steps + 1)]",
            "list(range(steps, -1, -1))",
            "you listed the last few times, steps .. 0; they are to be spread over all of T .. 0",
        ),
        (
            "for i in range(steps + 1)]",
            "for i in range(steps)]",
            "0 is missing: steps + 1 times make steps steps, and the last one ends at clean data",
        ),
        (
            "round(s.T * (steps - i) / steps)",
            "s.T * (steps - i) // steps",
            "you cut off the decimals; the time is the nearest whole number",
        ),
        (
            "round(s.T * (steps - i) / steps)",
            "s.T - i * (s.T // steps)",
            "you made the gap a whole number first, and its error adds up: where steps doesn't "
            "divide T, the last time is not 0",
        ),
        (
            "s.T * (steps - i) / steps",
            "s.T * i / steps",
            "your times increase; a sampler walks from T down to 0",
        ),
        (
            "round(s.T * (steps - i) / steps)",
            "round((s.T - 1) * (steps - i) / steps)",
            "you start at T - 1, where code that counts from 0 starts; here pure noise lives at T",
        ),
        (
            "    require_steps(s, steps)\n",
            "",
            "a number of steps below 1 or above T is a ValueError; yours takes it",
        ),
        (
            "require_steps(s, steps)\n",
            "steps = min(max(steps, 1), s.T)\n",
            "you put the number of steps right; below 1 or above T it is a ValueError",
        ),
    ],
    "sample.ddpm": [
        (
            "np.sqrt(var(x, t) if callable(var) else var[t])",
            "(var(x, t) if callable(var) else var[t])",
            "you multiplied z by the variance; the square root of var[t] is the standard deviation",
        ),
        (
            "else var[t])",
            "else var[t - 1])",
            "you took var[t - 1]; the step from t to t - 1 has entry t",
        ),
        (ONE_STEP, SAME_Z, "you use the same z at each step: draw a new one inside the loop"),
        (
            "s.alpha_bar[t], c0, ct, 1.0, clip)",
            "s.alpha_bar[t], c0, ct, 1.0, np.inf)",
            "you don't use clip: x0_hat is kept within [-clip, clip] before it is multiplied by c0",
        ),
        (
            "        c0, ct = posterior",
            "        ct, c0 = posterior",
            "the weights are exchanged: c0 belongs to x0_hat, ct to x_t",
        ),
        (
            "noise_like(x, std, rng)",
            "noise_like(x, std if t > 2 else 0.0, rng)",
            "you add no noise at t = 2: papers whose code counts from 0 say 't > 1'; here only t "
            "= 1, where var is 0, goes without",
        ),
        (
            "s.beta_tilde if var is None",
            "s.beta if var is None",
            "by default the variance is s.beta_tilde, the one of q(x_{t-1} | x_t, x0)",
        ),
        (
            "var = s.beta_tilde if var is None else var",
            "var = s.beta_tilde",
            "you always add beta_tilde: the argument var decides where it is given",
        ),
        (
            "s.alpha_bar[t], c0",
            "s.alpha_bar[t - 1], c0",
            "you computed x0_hat from x_t with alpha_bar of another time; x_t is at t",
        ),
        (
            "eps_model(x, t)",
            "eps_model(x, max(t - 1, 1))",
            "you gave the model t - 1; x_t is at t, and T is the first time it gets",
        ),
        (
            "range(s.T, 0, -1)",
            "range(s.T - 1, 0, -1)",
            "you start at T - 1; the first step goes from T to T - 1",
        ),
        (
            "range(s.T, 0, -1)",
            "range(s.T, 1, -1)",
            "your loop ends at t = 2 (range leaves its end out); the last step goes from 1 to 0",
        ),
        (
            "range(s.T, 0, -1)",
            "range(1, s.T + 1)",
            "you walk from 1 up to T; a sampler walks from T down to 1",
        ),
        (
            "kernels.denoise_step(x, eps_hat, z, s.alpha_bar[t], c0, ct, 1.0, clip)",
            "(c0 * np.minimum(predict_x0(s, x, t, eps_hat), clip) + ct * x + z).astype(x.dtype)",
            "you cut x0_hat off at the upper edge only; clip keeps it within [-clip, clip]",
        ),
        (
            "kernels.denoise_step(x, eps_hat, z, s.alpha_bar[t], c0, ct, 1.0, clip)",
            "(c0 * np.clip(predict_x0(s, x, t, eps_hat), -1.0 if clip < np.inf else -clip, "
            "clip) + ct * x + z).astype(x.dtype)",
            "you cut x0_hat off below at -1; clip keeps it within [-clip, clip]",
        ),
        (
            "noise_like(x, std, rng)",
            "noise_like(x[..., :1], std, rng)",
            "you draw one noise for all channels of a pixel; each value of x_t has noise of its "
            "own",
        ),
        (
            "np.sqrt(var(x, t) if callable(var) else var[t])",
            "np.sqrt(var[t])",
            "var may also be a function of (x_t, t), which gives the variance of each value",
        ),
        (
            "var(x, t) if callable",
            "np.mean(var(x, t)) if callable",
            "a variance that is a function gives each value of x_t its own; you took their mean",
        ),
    ],
    "sample.ddim": [
        (
            WEIGHTS,
            SPELLED.replace("ct = np.sqrt", "ct = -np.sqrt"),
            "a minus for a plus: the noise found is added again, only less of it; with a minus "
            "the spread of the samples dies out",
        ),
        (
            WEIGHTS,
            SPELLED.replace("1 - ab_u - std**2", "1 - ab_u"),
            "your sigma z comes on top: old and new noise share the variance 1 - alpha_bar[u]: "
            "take sigma^2 off under the root",
        ),
        (
            "in pairwise(times):",
            "in pairwise(range(len(times) - 1, -1, -1)):",
            "you count the steps and take the count for the time: with 50 steps of 1000 only the "
            "times 50 .. 0 are visited",
        ),
        (
            WEIGHTS,
            WEIGHTS.replace("t, u", "t, t - 1"),
            "you step to t - 1; where times are skipped, the step goes to u, the next time in the "
            "list",
        ),
        (
            WEIGHTS,
            SPELLED.replace("c0 = np.sqrt(ab_u)", "c0 = ab_u"),
            "you scaled x0_hat by alpha_bar[u]; its square root is what x_u holds of the image",
        ),
        (
            WEIGHTS,
            SPELLED.replace("eta * np.sqrt(", "eta * ("),
            "your sigma lacks the square root, without which it is a variance",
        ),
        (
            WEIGHTS,
            WEIGHTS.replace("eta", "0.0"),
            "you left eta out: your walk never adds fresh noise; sigma is eta times the root",
        ),
        (
            WEIGHTS,
            WEIGHTS.replace("eta", "1.0"),
            "you left eta out: your walk adds all the noise of eta = 1, whatever eta is; sigma is "
            "eta times the root",
        ),
        (
            "in pairwise(times):",
            "in pairwise(times[::-1]):",
            "you walk from 0 up; the pairs (t, u) follow the list, from its first time down to 0",
        ),
        (
            "c0, ct, std, clip)",
            "c0, ct, std, np.inf)",
            "you don't use clip: x0_hat is kept within [-clip, clip], and eps_hat is then "
            "computed again from x_t and x0_hat",
        ),
        (
            UPDATE,
            f"(lambda n: ({CLIPPED} + ct * np.sqrt(n) * eps_hat + std * z).astype(x.dtype))"
            "(1 - s.alpha_bar[t])",
            "you clipped x0_hat and kept the model's eps_hat; compute eps_hat again from x_t and "
            "the clipped x0_hat (predict_eps)",
        ),
        (
            UPDATE,
            f"(lambda n: ({ABOVE} + ct * x + std * z).astype(x.dtype))(1 - s.alpha_bar[t])",
            "you cut x0_hat off at the upper edge only; clip keeps it within [-clip, clip]",
        ),
        (
            "noise_like(x, std, rng)",
            "noise_like(x[..., :1], std, rng)",
            "you draw one noise for all channels of a pixel; each value of x_t has noise of its "
            "own",
        ),
        (
            "visited(s, times)",
            "list(range(s.T, -1, -1)) if times is None else list(times)",
            "times that do not decrease to 0 are a ValueError; yours takes them",
        ),
        (
            "visited(s, times)",
            "visited(s, times if times is None else sorted({int(t) for t in times}, reverse=True))",
            "you put the times in order; a list that does not decrease is a ValueError",
        ),
    ],
    "hunts.hunt_sampler": [
        (
            '"A": 4',
            '"A": 5',
            "A: in the world with one image all that a step adds can be laid bare. How large is it "
            "at each t, and how large should it be?",
        ),
        (
            '"C": 5',
            '"C": 4',
            "C: each portion of its noise has the right size. Compare the portion of one step with "
            "that of the next",
        ),
        (
            '"C": 5',
            '"C": 0',
            "C: mean and standard deviation of its samples at T = 8, beside the carried ones, say "
            "whether there is a slip at all",
        ),
        (
            '"B": 0',
            '"B": 4',
            "B: mean and standard deviation of its samples at T = 8, beside the carried ones, say "
            "whether there is a slip at all",
        ),
        (
            '"A": 4',
            '"A": 2',
            "A: are the means of its steps off, or their spread?",
        ),
    ],
}
