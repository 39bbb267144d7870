"""Is this derivative right? Compare it with a difference quotient along one random direction.

One direction is enough: a wrong gradient agrees with the right one along a random direction with
probability zero, and it costs two evaluations instead of two per element.
"""

import numpy as np

from . import kernels
from .autodiff import Tensor, gradient, value_of


def directional_error(f, args, rng, h=1e-5):
    """Measure how far the gradient of f is from a central difference, along a random direction.

    exact = sum_i <gradient_i, d_i>;  numeric = (phi(h) - phi(-h)) / (2h)
    phi(a) = sum(u * f(args + a d)), the directions d and the weights u standard normal
    f: function of Tensors or arrays -> Tensor or array; args: list of float64 arrays, any shapes
    (...); h: step of the difference
    -> |exact - numeric| / max(|exact|, |numeric|, 1), a number (), about 1e-9 when right
    """
    args = [np.asarray(a, dtype=np.float64) for a in args]
    d = [rng.standard_normal(a.shape) for a in args]
    u = rng.standard_normal(value_of(f(*map(kernels.array, args))).shape)
    variables = [Tensor(kernels.array(a)) for a in args]
    out = f(*variables)
    loss = Tensor((u * out.value).sum(), (out,), lambda g: (g * u,))
    exact = sum(float((g * di).sum()) for g, di in zip(gradient(loss, variables), d, strict=True))

    def phi(a):
        moved = [kernels.array(x + a * di) for x, di in zip(args, d, strict=True)]
        return float((u * f(*moved)).sum())

    numeric = (phi(h) - phi(-h)) / (2 * h)
    return abs(exact - numeric) / max(abs(exact), abs(numeric), 1.0)


def gradcheck(f, args, rng, tolerance=1e-6):
    """Assert that the gradient of f is right, along one random direction in float64.

    f: function of Tensors or arrays; args: list of arrays, any shapes (...)
    -> the error found, a number () below tolerance
    Raises AssertionError with the error and the tolerance when it is not.
    """
    error = directional_error(f, args, rng)
    if not error < tolerance:
        found = f"gradient is off by {error:.2e} (relative) along a random direction"
        raise AssertionError(f"{found}; tolerance {tolerance:.0e}")
    return error
