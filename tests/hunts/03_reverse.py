"""Suspects for lesson 03. A hunt: what a student has to find in a running function.

HUNTS: {hunt: {letter: (of, old, new, step)}}. The suspect is the package's function `of` with
`old`, which occurs once in its source, replaced by `new`; step is the number, in the docstring of
course/hunts.py, of the step that this changes. (of, None, None, 0) is a suspect without a slip.

A good hunt has three to five suspects, of which at least one is innocent or two have slips that
look alike in a picture; each is found by an instrument that the lesson has; no step can be told
from a suspect's error message. tests/mutants/03_reverse.py makes the hunt an exercise, as
"hunts.hunt_sampler", whose wrong answers carry hints: which instrument tells.
"""

HUNTS = {
    "hunt_sampler": {
        "A": ("sample.ddpm", "var(x, t) if callable(var) else var[t]", "var[t - 1]", 4),
        "B": ("sample.ddpm", None, None, 0),
        "C": (
            "sample.ddpm",
            "noise_like(x, std, rng)",
            "noise_like(x, std, np.random.default_rng(0))",
            5,
        ),
    },
}
