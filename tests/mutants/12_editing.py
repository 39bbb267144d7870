"""Wrong answers to lesson 12: how students miss an edit. What a mutant is: 01_forward.py."""

NOISED = "q_sample(s, x0, start, noise_like(x0, 1 - s.alpha_bar[start], rng))"
PUT_BACK = "mask * q_sample(s, x0, u, noise_like(x0, 1 - s.alpha_bar[u], rng)) + (1 - mask) * x"
HOLE = "(1 - mask) * q_sample(s, x0, u, noise_like(x0, 1 - s.alpha_bar[u], rng)) + mask * x"
STEP_UP = "x_t = x.dtype.type(shrink) * x + x.dtype.type(along) * eps_model(x_t, t)"

ONE_BY_ONE = """\
    def put_back(x, u):
        # Algorithm 1, line 5, prints the level of t, a step too noisy beside x_u, and
        # (1 - alpha_bar) without its root
        return mask * q_sample(s, x0, u, noise_like(x0, 1 - s.alpha_bar[u], rng))"""
ONCE = """\
    z = noise_like(x0, 1.0, rng)

    def put_back(x, u):
        return mask * q_sample(s, x0, u, z * x0.dtype.type(u > 0))"""

MUTANTS = {
    "edit.image_to_image": [
        (
            NOISED,
            "noise_like(x0, 1 - s.alpha_bar[start], rng)",
            "you start from plain noise: the photo is nowhere in it, and below T the model takes "
            "noise for a picture; start from q_sample",
        ),
        (
            "noise_like(x0, 1 - s.alpha_bar[start], rng)",
            "np.sqrt(1 - s.alpha_bar[start]) * noise_like(x0, 1 - s.alpha_bar[start], rng)",
            "your noise is scaled twice: q_sample multiplies it by sqrt(1 - alpha_bar) itself",
        ),
        (
            "noise_like(x0, 1 - s.alpha_bar[start], rng)",
            "0 * x0",
            "you shrink the photo and add no noise: nothing is hidden, and the model finds less "
            "noise than there should be at this t",
        ),
        (
            "round(strength * s.T)",
            "round((1 - strength) * s.T)",
            "your strength runs the wrong way: 0 leaves the photo as it is, 1 hides all of it",
        ),
        (
            "round(strength * s.T)",
            "int(strength * s.T)",
            "you cut off the decimals of strength T; the start is the nearest whole number",
        ),
        (
            "times, start = visited(s, times), round(strength * s.T)",
            "times = visited(s, times)\n"
            "    start = min(times, key=lambda t: abs(t - strength * s.T))",
            "your start is one of the visited times; it is round(strength T), whether that is "
            "visited or not",
        ),
        (
            "*(t for t in times if t < start)",
            "*range(start - 1, -1, -1)",
            "you visit every time below the start; where `times` are given, only those of them "
            "that lie below it",
        ),
        (
            "below, eta, x, clip)",
            "below, 0.0, x, clip)",
            "you don't pass eta on: what comes after the start is ddim with this eta",
        ),
        (
            "x = q_sample(s, x0, start,",
            "x = q_sample(s, x0, max(start - 1, 0),",
            "the photo gets the noise of start - 1, and the model gets start: it finds too little "
            "noise",
        ),
        (
            "times, start = visited(s, times), round(strength * s.T)",
            "start = round(strength * s.T)\n    times = range(s.T, -1, -1) if times is "
            "None else times",
            "times that do not decrease to 0 are to be refused, above the start too: "
            "`visited(s, times)` does that",
        ),
        (
            "noise_like(x0, 1",
            "noise_like(x0[:1], 1",
            "all images of the batch get the same noise; each value of each image has its own",
        ),
        (
            "if start == 0:",
            "if strength == 0:",
            "a small strength may start at 0 too, where nothing is left to draw: ask for "
            "start == 0",
        ),
    ],
    "edit.inpaint": [
        (
            "clip), u)",
            "clip), t)",
            "the known part gets the noise of t, which the sample has just left; after the step "
            "all of it lives at u",
        ),
        (
            "noise_like(x0, 1 - s.alpha_bar[u], rng)",
            "noise_like(x0, 0.0, rng)",
            "you put the known part back without noise, sqrt(alpha_bar) x0: the model gets u, and "
            "expects the noise of u everywhere",
        ),
        (
            ONE_BY_ONE,
            ONCE,
            "you draw z once and use it at all levels; each time the known part goes in, its noise "
            "is fresh",
        ),
        (
            "q_sample(s, x0, u, noise_like(x0, 1 - s.alpha_bar[u], rng))",
            "x0",
            "you put x0 itself back; what lies beside the sample at u is q_sample(s, x0, u, noise)",
        ),
        (
            "x = put_back(start(x0.shape, rng, x_T), times[0])",
            "x = start(x0.shape, rng, x_T)",
            "x_T lacks its known part: put it in before the first step, at times[0]",
        ),
        (
            f"return {PUT_BACK}",
            f"return {HOLE}",
            "you keep the hole and draw the rest: mask = 1 means keep",
        ),
        (
            "            if again:",
            "            if False:",
            "your further rounds step down from x_u as if it were x_t: go back up first, by one "
            "step of noise",
        ),
        (
            "noise_like(x, 1.0, rng)",
            "noise_like(x, 0.0, rng)",
            "your way up from u to t adds no noise: sqrt(1 - leap) z belongs to it",
        ),
        ("rng, eta, wide", "rng, eta, False", "you don't pass wide on to the step"),
        (
            "x.dtype.type(np.sqrt(1 - leap)) * noise_like",
            "x.dtype.type(1 - leap) * noise_like",
            "on the way up the noise lacks its root: 1 - leap is a variance",
        ),
        (
            "leap = s.alpha_bar[t] / s.alpha_bar[u]",
            "leap = s.alpha[t]",
            "alpha[t] leads from t - 1 to t; where times are skipped the way up from u to t is "
            "alpha_bar[t] / alpha_bar[u]",
        ),
        (
            "rounds if u > 0 else 1",
            "rounds",
            "you go back up from u = 0 too: the last step is taken once",
        ),
        (
            "rng, eta, wide, clip), u)\n        yield x",
            "rng, eta, wide, clip), u)\n            yield x",
            "you yield every round; one array per visited time, after the last round",
        ),
        (
            "require_mask(mask, x0)",
            "np.asarray(mask, x0.dtype).reshape(*np.shape(mask), *[1] * (np.ndim(mask) == 2))",
            "a mask of another shape, or with values beyond 0 .. 1, is to be refused: "
            "`require_mask(mask, x0)` does that",
        ),
        (
            "times, mask = visited(s, times),",
            "times = range(s.T, -1, -1) if times is None else times\n    mask =",
            "times that do not decrease to 0 are to be refused: `visited(s, times)` does that",
        ),
        (
            "put_back(start(x0.shape, rng, x_T), times[0])",
            "put_back(x0 if x_T is None else x_T, times[0])",
            "where no x_T is given it is drawn, standard normal; yours begins with x0",
        ),
    ],
    "sample.ddim_invert": [
        (
            "visited(s, times)",
            "list(range(s.T, -1, -1)) if times is None else list(times)",
            "times that do not decrease to 0 are to be refused: `visited(s, times)` does that",
        ),
        (
            "visited(s, times)",
            "list(times)",
            "times = None stands for all times: `visited(s, times)` makes the list",
        ),
        (
            "eps_model(x_t, t)",
            "eps_model(x_t, max(u, 1))",
            "you call the model at u, the time you leave; ddim's step down from t called it at t",
        ),
        (
            "x.dtype.type(shrink) * x +",
            "x.dtype.type(shrink) * x_t +",
            "each of your rounds starts where the last one ended, and climbs further; start every "
            "round from x_u",
        ),
        (
            "* eps_model(x_t, t)",
            "* eps_model(x, t)",
            "your rounds all give the model x_u, so that the second gives what the first gave; "
            "give it the x_t found so far",
        ),
        (
            "np.sqrt(1 - s.alpha_bar[t]) - shrink * np.sqrt(1 - s.alpha_bar[u])",
            "np.sqrt(1 - s.alpha_bar[t]) - np.sqrt(1 - s.alpha_bar[u])",
            "the noise in x_u shrinks along with it: sqrt(1 - alpha_bar[u]) goes with "
            "sqrt(alpha_bar[t] / alpha_bar[u])",
        ),
        (
            "x.dtype.type(along) * eps_model",
            "-x.dtype.type(along) * eps_model",
            "you take noise away on the way up: the sign is +",
        ),
        (
            "pairwise(times[::-1])",
            "[(u, t) for t, u in pairwise(times)]",
            "you walk the pairs from T down; the inversion begins at 0 with x0 and ends at "
            "times[0]",
        ),
        (
            STEP_UP,
            STEP_UP + "\n            yield x_t",
            "you yield every round; one array a visited time, after the last round",
        ),
        (
            "x.dtype.type(along)",
            "np.asarray([along])",
            "float32 goes in, float64 comes out: NumPy's float64 scalars make the result float64",
        ),
        (
            "times, rounds=1",
            "times, rounds=3",
            "you take three rounds where none are asked for; the default is one",
        ),
        (
            "        x = x_t\n",
            "        x = x_t if x is x0 else np.add(x_t, 0, out=x)\n",
            "you yield one array again and again, and overwrite what was yielded before",
        ),
    ],
    "edit.translate": [
        (
            "x = ddim_invert(eps_from",
            "x = ddim_invert(eps_to",
            "you went up with eps_to: then it draws back what it was shown, and nothing is "
            "translated",
        ),
        (
            "eps_to(x, t)",
            "eps_from(x, t)",
            "you came down with eps_from: that is there and back, and the image stays in the old "
            "style",
        ),
        ("times, rounds)\n", "times, 1)\n", "you don't pass rounds on to ddim_invert"),
        (
            "reversed(path)",
            "path",
            "the path runs from 0 up, the walk from above down: keep needs the path in reverse",
        ),
        (
            "keep * known + (1 - keep)",
            "(1 - keep) * known + keep",
            "keep is upside down: 1 = the picture stays",
        ),
        (
            "x = keep * known",
            "x = keep * x0",
            "you put the clean image back at every u; the path at u has as much noise as x_u",
        ),
        (
            "*path, x = ddim_invert(eps_from, s, x0, times, rounds)",
            "path = list(ddim_invert(eps_from, s, x0, times, rounds))\n"
            "    x, path = path[-1], path[1:]",
            "you put back the path at t, the time that the step has left; the sample is at u",
        ),
        (
            "eps_to(x, t), t, u",
            "eps_to(x, u), t, u",
            "you gave the model u; x lives at t until the step is taken",
        ),
        ("t, u, clip)", "t, u, np.inf)", "you don't use clip on the way down"),
        (
            "rounds=1, keep",
            "rounds=2, keep",
            "you take two rounds where none are asked for; the default is one",
        ),
        (
            "times, keep = visited(s, times), require_mask(np.zeros(x0.shape) if keep is "
            "None else keep, x0)",
            "times, keep = visited(s, times), np.zeros(x0.shape) if keep is None else "
            "keep\n    keep = np.asarray(keep, x0.dtype).reshape(*np.shape(keep), *[1] * "
            "(np.ndim(keep) == 2))",
            "a mask of another shape, or with values beyond 0 .. 1, is to be refused: "
            "`require_mask(mask, x0)` does that",
        ),
    ],
    "edit.change": [
        (
            "rng, 5) < 0.2",
            "rng, 5) >= 0.2",
            "you keep the places where the models differ, and change the others",
        ),
        (
            "difference(eps_before, eps_after, s",
            "difference(eps_before, eps_draw or eps_after, s",
            "you compared eps_before with eps_draw; the places are those where eps_before and "
            "eps_after differ",
        ),
        (
            "translate(eps_before, eps_draw",
            "translate(eps_after, eps_draw",
            "you went up with eps_after; x0 is a picture of eps_before, and only its own model "
            "finds its noise",
        ),
        (
            "eps_draw = eps_after if eps_draw is None else eps_draw",
            "eps_draw = eps_after",
            "you draw with eps_after although eps_draw is given",
        ),
        (
            "round(0.6 * s.T)",
            "int(0.6 * s.T)",
            "you compared the models at another time: it is 0.6 T, rounded to a whole number",
        ),
        ("rng, 5) < 0.2", "rng, 10) < 0.2", "you took 10 draws, the default; 5 are asked for"),
        (
            "times, keep=keep,",
            "times,",
            "nothing is kept: the whole picture is drawn anew, since keep never arrives",
        ),
        (
            "keep=keep, clip=clip",
            "keep=keep",
            "you don't pass clip on to the way down",
        ),
        (
            "rng, 5) < 0.2",
            "rng, 5).max(0) < 0.2",
            "you took the same places for all images; each image changes where its own "
            "two guesses differ",
        ),
        (
            "rng, 5) < 0.2",
            "rng, 5) < 0.25",
            "your limit is not 0.2: a place where they differ by that much or more is changed",
        ),
    ],
    "hunts.hunt_inpaint": [
        (
            '"A": 5',
            '"A": 0',
            "A is not innocent: give it few, uneven times and two rounds, and a model that notes "
            "the spread of what it is given after a way up",
        ),
        (
            '"A": 5',
            '"A": 2',
            "A's steps down are right, as one round shows; look again with two rounds, and with "
            "times that skip some",
        ),
        (
            '"B": 3',
            '"B": 0',
            "B is not innocent: with a mask of ones, take sqrt(alpha_bar) x0 off each array, and "
            "compare the noise of one time with that of the next",
        ),
        (
            '"B": 3',
            '"B": 5',
            "B's way up is right; what is wrong with it shows with one round, too: with a mask of "
            "ones, compare the noises of two times",
        ),
        (
            '"C": 0',
            '"C": 4',
            "C has its known part where the mask is 1, bit for bit, in the last array",
        ),
        (
            '"D": 1',
            '"D": 0',
            "D is not innocent: the noise at T hides it. Give it an x_T of zeros, or times that "
            "begin below T, and look at its first array",
        ),
    ],
}

TESTS = {"sample.ddim_invert": "test_solvers.py"}
