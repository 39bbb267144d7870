"""Wrong answers to lesson 16: how students get lost beyond the basics.

What a mutant is: 01_forward.py.
"""

TESTS = {"learned.as_schedule": "test_learned_schedule.py"}
MISS = "np.mean(((a - b) / (t - u) - (x[0] - x[-1])) ** 2)"
SUM = "(at(fixed, t, square) + np.log(var) + (at(s.beta_tilde, t, square) + square) / var) / 2"
OWN = "np.maximum(at(s.beta_tilde, t, square), 1e-300)"
REVERSE = f"(np.log({OWN} / var) + (var + square) / {OWN} - 1) / 2"
OTHER_WAY = f"np.where({OWN} > 1e-200, {REVERSE}, {SUM})"
SHRINK = "float(np.sqrt(s.alpha_bar[t]) + np.sqrt(1 - s.alpha_bar[t]))"

MUTANTS = {
    "flow.as_eps_model": [
        (
            f"x_t / {SHRINK}",
            "x_t",
            "you didn't rescale: on the path image and noise have shares that add up to 1, in x_t "
            "they are sqrt(alpha_bar) and sqrt(1 - alpha_bar)",
        ),
        (
            "* velocity(x_flow, flow_t)",
            "* velocity(x_t, flow_t)",
            "you showed the velocity x_t; it knows points of the path only: x_flow",
        ),
        (
            "* velocity(x_flow, flow_t)",
            "* velocity(x_flow, t / s.T)",
            "you gave it t / T; the flow time is the one with the same ratio of noise to signal, "
            "flow_time(s, t)",
        ),
        (
            "return x_flow + (1 - flow_t) * velocity",
            "return x_flow - flow_t * velocity",
            "this is the image, x_flow - flow_t u; the noise lies at the other end of the line",
        ),
        (
            "return x_flow + (1 - flow_t) * velocity",
            "return x_flow + flow_t * velocity",
            "from flow_t it is 1 - flow_t to the noise, which lies at 1; you went on by flow_t",
        ),
        (
            "return x_flow + (1 - flow_t) * velocity(x_flow, flow_t)",
            "return velocity(x_flow, flow_t)",
            "this is the velocity eps - x0; an eps_model answers with the noise alone",
        ),
        (
            SHRINK,
            "(np.sqrt(s.alpha_bar[t]) + np.sqrt(1 - s.alpha_bar[t]))",
            "your answer is float64 for a float32 image: a number of the schedule is a NumPy "
            "float64; float(...) makes it a plain one",
        ),
        (
            "    def eps_model(x_t, t):\n        flow_t = float(flow_time(s, t))\n",
            "    seen = []\n\n    def eps_model(x_t, t):\n        "
            "seen.append(float(flow_time(s, t)))\n        flow_t = seen[0]\n",
            "you keep the flow time of the first call; each t has its own",
        ),
    ],
    "flow.straightness": [
        (
            f"(t - u) * {MISS}",
            f"{MISS} / (len(x) - 1)",
            "you counted every piece alike; a piece counts by the time it takes, t - u",
        ),
        (
            f"(t - u) * {MISS}",
            MISS,
            "you added the pieces up unweighted: each counts by its share of the time, t - u",
        ),
        (
            "((a - b) / (t - u) - (x[0] - x[-1]))",
            "((a - b) - (x[0] - x[-1]))",
            "you compared a piece's length with the whole way; divide it by its time first: two "
            "velocities",
        ),
        (
            "((a - b) / (t - u) - (x[0] - x[-1]))",
            "((a - b) / (t - u))",
            "you took the velocity's square; it is its distance from the straight way, x[0] - "
            "x[n], that counts",
        ),
        (
            MISS,
            MISS.replace("np.mean", "np.sum"),
            "you summed over all values; take the mean, so that neither the batch nor the size of "
            "an image counts",
        ),
        (
            MISS,
            "np.mean(np.abs((a - b) / (t - u) - (x[0] - x[-1])))",
            "you took the distance; it is squared here",
        ),
        (
            "list(chain)",
            "chain",
            "what euler yields comes from a generator, which can be walked through once: "
            "list(chain) first",
        ),
    ],
    "likelihood.bound_term": [
        (
            "np.full(s.T + 1, np.log(2 * np.pi))",
            "np.zeros(s.T + 1)",
            "log(2 pi) is missing at t = 1, where no second density is there to cancel it",
        ),
        (
            "(at(s.beta_tilde, t, square) + square) / var",
            "square / var",
            "you forgot that q has a width of its own: on average its x_{t-1} misses mean_hat by "
            "beta_tilde + square",
        ),
        (
            "np.log(s.beta_tilde[2:]) - 1",
            "np.log(s.beta_tilde[2:])",
            "the -1 is missing: two equal Gaussians must have the divergence 0",
        ),
        (
            f"return {SUM}",
            f"return {SUM[:-4]}",
            "the half is missing: a Gaussian's exponent is the square over *twice* the variance",
        ),
        (
            "np.log(var)",
            "np.log(var) / 2",
            "you took the logarithm of the standard deviation; under a common half it is that of "
            "the variance",
        ),
        (
            f"return {SUM}",
            f"return {OTHER_WAY}",
            "this is the divergence the other way round, KL(p || q): the model's var belongs in "
            "the denominator",
        ),
        (
            "at(fixed, t, square)",
            "at(fixed, int(np.ravel(t)[0]), square)",
            "you took the first image's t for all; `at(values, t, square)` picks one for each",
        ),
    ],
    "learned.as_schedule": [
        (
            "np.arange(1, T + 1)[:, None] / T",
            "np.arange(T)[:, None] / T",
            "you are one step early: step t ends at t / T, and the last one at 1",
        ),
        (
            "1 - alpha_bar[1:] / alpha_bar[:-1]",
            "alpha_bar[1:] / alpha_bar[:-1]",
            "this ratio is alpha[t], what a step keeps; beta[t] is 1 - alpha[t]",
        ),
        (
            "alpha_bar[1:] / alpha_bar[:-1]",
            "alpha_bar[1:]",
            "1 - alpha_bar[t] is the noise of all steps up to t; one step's is "
            "1 - alpha_bar[t] / alpha_bar[t-1]",
        ),
        (
            "sigmoid(-at[:, 0])",
            "np.sqrt(sigmoid(-at[:, 0]))",
            "you took a root: sigmoid(-gamma) is alpha_bar itself, a share of the variance",
        ),
        (
            "sigmoid(-at[:, 0])",
            "sigmoid(at[:, 0])",
            "the sign is turned round: gamma is minus the log of the snr, it rises while alpha_bar "
            "falls",
        ),
        (
            "    return schedule.from_betas(1 - alpha_bar[1:] / alpha_bar[:-1])",
            "    s = schedule.from_betas(1 - alpha_bar[1:] / alpha_bar[:-1])\n    return "
            "schedule.Schedule(s.beta, s.alpha, s.alpha_bar, s.snr, s.beta)",
            "your beta_tilde is beta; schedule.from_betas makes all five arrays",
        ),
        (
            "1 - alpha_bar[1:] / alpha_bar[:-1]",
            "np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)",
            "you cut your betas off at 0.999; gamma says how much noise a step adds",
        ),
    ],
    "machines.ring_allreduce": [
        (
            "    for i in range(N - 1):\n        arrived = [send(r, held[r][(r + 1 - i) % N])",
            "    for i in range(0):\n        arrived = [send(r, held[r][(r + 1 - i) % N])",
            "you stopped after the first half: each machine then knows the whole sum of one piece, "
            "and has to hand it on",
        ),
        (
            "k = (r - 1 - i) % N\n            held[r][k] = held[r][k] + arrived[r - 1]",
            "k = (r - 1 - i) % N\n            held[r][k] = arrived[r - 1]",
            "what arrives in the first half is kept in the place of the machine's own piece; it is "
            "added to it",
        ),
        (
            "held[r][(r - i) % N] = arrived[r - 1]",
            "held[r][(r - i) % N] = held[r][(r - i) % N] + arrived[r - 1]",
            "you add in the second half, too: what arrives there is the whole sum already",
        ),
        (
            "    for i in range(N - 1):\n        arrived = [send(r, held[r][(r - i) % N])",
            "    for i in range(N):\n        arrived = [send(r, held[r][(r - i) % N])",
            "one round too many: after N - 1 rounds each piece has passed every machine; what one "
            "more sends is thrown away later",
        ),
        (
            "held[r][k] = held[r][k] + arrived[r - 1]",
            "held[r][k] = held[r][k] + arrived[(r + 1) % N]",
            "you added what another machine was sent: to machine r comes what r - 1 sends",
        ),
        (
            "held[r][k] = held[r][k] + arrived[r - 1]",
            "held[r][k] += arrived[r - 1]",
            "you changed the arrays that you were given: the pieces of np.array_split are views, "
            "and += writes into them",
        ),
        (
            "held[r][(r - i) % N] = arrived[r - 1]",
            "held[r][(r - i) % N] = arrived[(r + 1) % N]",
            "in the second half machine r keeps what its right neighbour was sent; its own comes "
            "from the left, r - 1",
        ),
        (
            "[np.concatenate(pieces) for pieces in held]",
            "[np.concatenate(pieces) / N for pieces in held]",
            "this is the mean; the sum is asked for",
        ),
        (
            "    held = [np.array_split(a, N) for a in arrays]",
            "    return [sum([send(i, arrays[i]) for i in range(N) if i != r], arrays[r].copy()) "
            "for r in range(N)]\n    held = [np.array_split(a, N) for a in arrays]",
            "everybody sends everything to everybody: (N - 1) arrays each instead of "
            "2 (N - 1) / N of one",
        ),
    ],
}
