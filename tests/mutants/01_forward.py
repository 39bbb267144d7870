"""Wrong answers to lesson 01: how students miss the forward process.

A mutant is (old, new, sentence): the package's function with `old`, which occurs once in its source, replaced by `new`.
The suite proves that each fails (test_grade.py); a student whose function gives what a mutant gives reads its sentence.
"""

MUTANTS = {
    "diffusion.q_sample": [
        ("noise * eps", "noise**2 * eps", "you scaled the noise by 1 - alpha_bar; its square root is the standard deviation"),
        ("signal * x0", "signal**2 * x0", "you scaled the image by alpha_bar; its square root keeps the variance at 1"),
    ],
}
