"""Wrong answers to lesson 08: how students miss Algorithm 1. What a mutant is: 01_forward.py."""

COND = "drop_labels(labels[i], run.model.classes, p_drop, rng)"
GRADS = "(g * 2 / d.size * d, g * -2 / d.size * d)"

MUTANTS = {
    "ops.mse": [
        (
            "(d * d).mean()",
            "(d * d).sum()",
            "you added the squares up; mse takes their mean, so that the loss does not depend on "
            "the size of the batch",
        ),
        (
            GRADS,
            "(g / d.size * d, -g / d.size * d)",
            "the 2 is missing: the derivative of d^2 is 2 d",
        ),
        (
            "g * -2 / d.size * d",
            "g * 2 / d.size * d",
            "the gradient of b has the wrong sign: d = a - b falls when b grows",
        ),
        (
            GRADS,
            "(g * 2 / len(d) * d, g * -2 / len(d) * d)",
            "you divided by the number of images; the mean is over all values, d.size",
        ),
        (
            GRADS,
            "(g * 2 * d, g * -2 * d)",
            "this is the gradient of the sum of squares; for the mean it is divided by their "
            "number",
        ),
        (
            GRADS,
            "(g * 2 / max(a.size, b.size) * d, g * -2 / max(a.size, b.size) * d)",
            "you divided by the size of the larger argument; the difference can have more values "
            "than either",
        ),
        (
            "(d * d).mean()",
            "(a * a).mean() - 2 * (a * b).mean() + (b * b).mean()",
            "you multiplied the square out: far from 0 the digits that matter are lost; subtract "
            "first",
        ),
    ],
    "diffusion.eps_from_v": [
        (
            "signal * v + noise * x_t",
            "noise * v + signal * x_t",
            "the two factors are exchanged: sqrt(alpha_bar) goes with v",
        ),
        (
            "signal * v + noise * x_t",
            "signal * v - noise * x_t",
            "a minus instead of a plus: turning back changes the sign",
        ),
        (
            "signal * v + noise * x_t",
            "signal * x_t - noise * v",
            "this is the image x0, not the noise",
        ),
        (
            "signal * v + noise * x_t",
            "signal**2 * v + noise**2 * x_t",
            "both factors lack their square root: sqrt(alpha_bar) and sqrt(1 - alpha_bar)",
        ),
        (
            "signal * v + noise * x_t",
            "(x_t - signal * v) / noise",
            "you read v as if it were the image x0",
        ),
    ],
    "train.train": [
        (
            "rng.integers(1, s.T + 1, size=batch)",
            "rng.integers(0, s.T, size=batch)",
            "times were drawn from 0 .. T - 1; here, as in the paper, they are 1 .. T: t = 0 is "
            "the clean image, and T is never learned",
        ),
        (
            "rng.integers(1, s.T + 1, size=batch)",
            "np.full(batch, rng.integers(1, s.T + 1))",
            "all images of a batch got the same t: each image needs its own, or the loss jumps "
            "from step to step with t",
        ),
        (
            'diffusion.v_target(s, x0, t, eps) if predict == "v" else eps',
            "eps",
            "the target is eps whatever `predict` says; a sampler that reads the output as v then "
            "gets nonsense",
        ),
        (
            "x_t = diffusion.q_sample(s, x0, t, eps)",
            "x_t = diffusion.q_sample(s, x0, t - 1, eps)",
            "alpha_bar is shifted by one: the network gets t, but x at t - 1",
        ),
        (
            'if predict == "v" else eps',
            'if predict == "v" else rng.standard_normal(x0.shape, dtype=np.float32)',
            "the target is fresh noise; it must be the noise that is in x_t",
        ),
        (
            COND,
            COND.replace("labels[i]", "labels[:batch]"),
            "the labels are those of other images: take the same rows i as for the images",
        ),
        (
            COND,
            COND.replace(" p_drop,", " 1 - p_drop,"),
            "labels are kept where they should be dropped: `p_drop` is the share that is dropped",
        ),
        (
            COND,
            "labels[i]",
            "all labels are given: some must be dropped, or the network never learns to draw "
            "without them",
        ),
        (
            "lr(run.step)",
            "lr(run.step + 1)",
            "the learning rate is that of the next step: the first step takes lr(0)",
        ),
        (
            "rng = run.rng",
            "rng = np.random.default_rng(0)",
            "you draw from a generator of your own; run.rng draws everything, and goes on where it "
            "stood when a training is resumed",
        ),
        (
            "rng = run.rng\n",
            "rng = __import__('copy').deepcopy(run.rng)\n",
            "you draw from a copy of run.rng, which itself stays where it is: a second generator "
            "on the same run draws the same again",
        ),
        (
            "rng.integers(1, s.T + 1, size=batch)",
            "np.sort(rng.integers(1, s.T + 1, size=batch))[np.argsort(np.argsort(i))]",
            "which time an image gets depends on which image it is: draw both independently",
        ),
        (
            "rng.integers(1, s.T + 1, size=batch)",
            "rng.integers(1, 9, size=batch)",
            "the number of times is that of the schedule, s.T",
        ),
        (
            'predict="v"',
            'predict="eps"',
            "where predict is not given it is 'v'",
        ),
        (
            "p_drop=0.1",
            "p_drop=0.0",
            "where p_drop is not given it is 0.1",
        ),
        (
            "while True:",
            "for _ in range(1000):",
            "your training ends by itself; it goes on until the caller stops",
        ),
    ],
    "train.denoiser": [
        (
            'diffusion.eps_from_v(s, x_t, t, out) if predict == "v" else out',
            "out",
            "v is handed to the sampler as if it were the noise: convert it with eps_from_v",
        ),
        ("eps_from_v(s,", "x0_from_v(s,", "the sampler wants the noise; you gave it the image"),
        (
            'predict == "v" else',
            'predict == "eps" else',
            'the two cases are exchanged: only with predict = "v" must the output be converted',
        ),
        (
            "np.full(x_t.shape[0], t)",
            "np.full(x_t.shape[0], t - 1)",
            "the network gets t - 1: it was trained with t = 1 .. T",
        ),
        (
            "np.full(x_t.shape[0], t), labels)",
            "np.full(x_t.shape[0], t), None)",
            "the labels are not passed on: the network draws whatever it likes",
        ),
        (
            "np.full(x_t.shape[0], t)",
            "t",
            "the network takes one t per image, an array (N,); the sampler gives one number for "
            "all",
        ),
        (
            "np.full(x_t.shape[0], t)",
            "np.full(1 if labels is None else len(labels), t)",
            "where no labels are given the network still takes one t per image: count the "
            "images, not the labels",
        ),
    ],
    "hunts.hunt_training": [
        (
            '"A": 2',
            '"A": 4',
            "look at A again: is it off at every t, or only at one?",
        ),
        (
            '"B": 1',
            '"B": 6',
            "look at B again: does a label help it at all?",
        ),
        (
            '"C": 0',
            '"C": 7',
            "look at C again: the best loss cannot be reached exactly, only nearly",
        ),
        (
            '"D": 4',
            '"D": 2',
            "look at D again: is it off at every t, or only at one?",
        ),
        (
            '"E": 6',
            '"E": 1',
            "look at E again: with the right label, and without any",
        ),
    ],
}
