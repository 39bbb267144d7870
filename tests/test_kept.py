"""What a picture keeps while it is redrawn: the inside of a sketch, its colours and outline."""

import argparse

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tinydiff import exact, sample, schedule
from tinydiff.app import cli, keeping
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
    D, N = 4 * 4 * 3, 200
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


# --- from the command line ---


def run(*argv):
    return cli.main([str(a) for a in argv])


@pytest.fixture
def pictures(tmp_path):
    """Save a ring of black lines, and a navy disc, 16 pixels a side, on white."""
    for name, options in {
        "ring": {"outline": "black"},
        "disc": {"fill": "#14213d"},
    }.items():
        picture = Image.new("RGB", (16, 16), "white")
        ImageDraw.Draw(picture).ellipse((2, 2, 13, 13), **options)
        picture.save(tmp_path / f"{name}.png")
    return tmp_path


def drawn(folder, *argv):
    """Run `restyle` with 5 steps -> the four results (4, 16, 16, 3) in 0 .. 255"""
    argv = (*argv, "--to", "noto", "--n", 4, "--steps", 5, "--out", folder / "out", "--force")
    assert run("restyle", *argv) == 0
    paths = sorted((folder / "out").glob("*.png"))
    return np.stack([np.asarray(Image.open(p).convert("RGB"), dtype=float) for p in paths])


def test_fill_draws_a_sketch_in_its_colour(pictures):
    blueness = lambda x: (x[..., 2] - x[..., :2].mean(-1))[:, 5:11, 5:11].mean()
    ring = pictures / "ring.png"
    bare, full = (blueness(drawn(pictures, ring, *o)) for o in ((), ("--fill", "#3040d0")))
    assert full > 80 > 20 > bare


def test_keep_holds_the_colour_of_a_disc(pictures):
    navy = np.array([0x14, 0x21, 0x3D])
    far = lambda x: np.abs(x[:, 5:11, 5:11].mean((1, 2)) - navy).max()
    free, held = (drawn(pictures, pictures / "disc.png", *o) for o in ((), ("--keep", 3)))
    assert far(held) < 12 and far(free) > 30


def test_what_has_strayed_is_counted():
    """Of a sketch that stays empty, a square that loses its colour, its shape, or nothing."""
    args = argparse.Namespace(fill=None, keep=None, way="source", n=1)
    square, pale = np.ones((1, 8, 8, 3), np.float32), np.ones((1, 8, 8, 3), np.float32)
    square[0, 1:7, 1:7], pale[0, 1:7, 1:7] = (-0.9, -0.9, 0.9), (0.5, 0.5, 0.9)
    moved, grey = np.roll(square, 4, 2), np.full((1, 8, 8, 3), np.float32(-0.2))
    told = lambda given, result: keeping.strayed(args, given, result)
    assert told(ring(), ring() * 0.9 + 0.1)[0].startswith("1 of 1 result: the sketch is empty")
    assert told(ring(), np.where(kept.enclosed(ring())[..., None], grey, ring())) == []
    for result in (pale, moved):
        (line,) = told(square, result)
        assert line == "1 of 1 result: shape or colours have strayed; --keep 1 holds them"
    assert told(square, square + np.float32(0.1)) == []
    assert told(square, square)[0].startswith("1 of 1 result: nearly the picture as it was")
    args.keep = 1.0
    assert told(square, pale) == []


def test_a_picture_without_white_around_it_is_said(tmp_path, capsys):
    Image.new("RGB", (16, 16), "#5080c0").save(tmp_path / "sky.png")
    drawn(tmp_path, tmp_path / "sky.png")
    assert "1 picture has no white around it: emoji stand on white" in capsys.readouterr().out


def test_inversion_says_that_its_results_are_one(pictures, capsys):
    x = drawn(pictures, pictures / "disc.png", "--way", "inversion", "--from", "flat")
    assert (x == x[0]).all() and "all 4 of a picture are one" in capsys.readouterr().out


def test_sample_emoji_takes_a_subject_and_says_what_it_lacks(pictures, capsys):
    common = ("--n", 5, "--steps", 2, "--force", "--out", pictures / "all")
    assert run("sample", "emoji", *common) == 0
    assert "--source cat.png gives one" in capsys.readouterr().err
    assert run("sample", "emoji", "--source", pictures / "disc.png", *common) == 0
    assert capsys.readouterr().err == ""
    assert run("sample", "digits", "--source", pictures / "disc.png", *common) == 2
    assert "--source is for emoji" in capsys.readouterr().err
    assert run("restyle", pictures / "disc.png", "--to", "noto", "--fill", "red") == 2
    assert "--fill: a colour is written as" in capsys.readouterr().err
