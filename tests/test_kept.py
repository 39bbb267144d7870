"""What a picture keeps while it is redrawn: the inside of a sketch, its colours and outline."""

import numpy as np
import pytest

from tinydiff import exact, sample, schedule
from tinydiff.design import kept, restore

S = schedule.cosine(24)
RED = (0.8, -0.8, -0.8)


def ring(diagonal=False):
    """Draw a ring of black on white, (1, 8, 8, 3); diagonal: with gaps at its corners"""
    x = np.ones((1, 8, 8, 3), np.float32)
    x[0, 1:7, 1:7], x[0, 2:6, 2:6] = -1, 1
    if diagonal:
        for i in (1, 6):
            for j in (1, 6):
                x[0, i, j] = 1
    return x


@pytest.mark.parametrize("diagonal", [False, True])
def test_what_a_ring_encloses_is_filled_and_nothing_else(diagonal):
    x = ring(diagonal)
    inside = np.zeros((8, 8), bool)
    inside[2:6, 2:6] = True
    assert np.array_equal(kept.enclosed(x)[0], inside)
    full = kept.filled(x, RED)
    assert np.allclose(full[0, inside], RED) and np.array_equal(full[0, ~inside], x[0, ~inside])


def test_a_ring_with_a_gap_encloses_nothing_nor_does_one_at_the_edge():
    x = ring()
    x[0, 1, 4] = 1
    assert not kept.enclosed(x).any()
    x = ring()[:, 1:7, 1:7]
    assert kept.enclosed(x).sum() == 16


def test_a_sketch_has_no_colour_and_encloses_paper():
    blue = ring()
    blue[blue[..., 2] < 0] = (-1, -1, 1)
    images = np.concatenate([ring(), np.ones_like(blue), blue, kept.filled(ring(), RED)])
    assert kept.is_sketch(images).tolist() == [True, False, False, False]


def test_keeping_draws_the_colours_of_the_picture_and_leaves_the_fine_to_the_model(rng):
    """For Gaussian data the answer is known: the posterior's mean, of ridge regression."""
    D, N = 4 * 4 * 3, 300
    var = rng.uniform(0.2, 1.0, (4, 4, 3))
    cov, eps_model = np.diag(var.ravel()), exact.gaussian(S, 0.0, var)
    x = rng.standard_normal((1, 4, 4, 3)) * 0.5
    A = np.kron(np.kron(*[restore.shrink(4, 1, 2)[0]] * 2), np.eye(3))
    y = A @ x.ravel()
    for pull in (0.3, 3.0):
        model = kept.keeping(eps_model, S, np.repeat(x, N, 0), cov, pull)
        *_, drawn = sample.ddim(model, S, (N, 4, 4, 3), rng, eta=1.0)
        gain = cov @ A.T @ np.linalg.inv(A @ cov @ A.T + (0.3 / pull) ** 2 * np.eye(len(A)))
        off = drawn.reshape(N, D).mean(0) - gain @ y
        assert np.sqrt((off**2).mean()) < 0.07
        near = np.sqrt(((drawn.reshape(N, D) @ A.T - y) ** 2).mean())
        assert near < 0.12 if pull == 3.0 else 0.2 < near


def test_colour_distance_is_of_places_not_of_pixels(rng):
    a = rng.uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32)
    b = a.copy()
    b[1] += 0.3
    assert np.allclose(kept.colour_distance(a, b), [0, 0.3], atol=1e-6)
    swapped = a.copy()
    swapped[:, 0, 0], swapped[:, 3, 3] = a[:, 3, 3], a[:, 0, 0]
    assert np.allclose(kept.colour_distance(a, swapped), 0, atol=1e-6)
