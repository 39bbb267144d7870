"""Pictures larger than a network takes in: windows, what is repeated, what is refused and said."""

import numpy as np
import pytest
from PIL import Image

from tinydiff import schedule
from tinydiff.app import cli
from tinydiff.design import edit, large
from tinydiff.design.pipeline import Pipeline

T8 = schedule.cosine(8)


def run(*argv):
    return cli.main([str(a) for a in argv])


@pytest.mark.parametrize("size", [(70, 128), (64, 200), (96, 96)])
def test_windows_hold_every_pixel_and_are_as_few_as_can_be(size):
    held = np.zeros(size, int)
    places = large.windows(size, large.window(size))
    for rows, columns in places:
        held[rows, columns] += 1
    assert held.min() == 1 and len(places) == -(-size[0] // 64) * -(-size[1] // 64)


def test_small_images_have_no_windows():
    assert large.window(None) is None and large.window((64, 64)) is None
    assert large.window((16, 256)) is None and large.window((16, 260)) == (16, 64)


def test_a_motif_repeats_so_that_it_closes():
    assert large.period(512, 16, 4) == 16 and large.period(3000, 16, 4) == 20
    assert large.period(512, 32, 4) == 32 and large.period(4 * 251, 16, 4) == 16


def test_a_model_by_windows_is_the_model_where_it_looks_at_single_pixels(rng):
    """As each pixel lies in some window, whatever the shift; overlaps are averaged."""
    pixelwise = lambda x, t: np.tanh(x) * t
    x = rng.standard_normal((2, 9, 14, 3))
    found = large.windowed(pixelwise, (4, 6), rng)(x, 3)
    assert np.allclose(found, pixelwise(x, 3), atol=1e-12)


def test_windows_are_seen_from_another_corner_at_each_call(rng):
    """A model that says 1 at its window's first pixel: that pixel moves, over the edge, too."""

    def corner(x, t):
        out = np.zeros_like(x)
        out[:, 0, 0] = 1
        return out

    model, x = large.windowed(corner, (4, 4), rng), np.zeros((1, 8, 8, 1))
    found = [model(x, 1)[0, ..., 0] for _ in range(60)]
    assert all(f.sum() == 4 for f in found) and np.mean(found, 0).min() > 0
    rows, columns = np.nonzero(found[0])
    assert len(set(rows % 4)) == len(set(columns % 4)) == 1


def test_a_large_image_is_the_repeated_tile_drawn_anew(rng):
    """With a perfect model of one point the motif comes out; the tile lies where it lay."""
    once = rng.standard_normal((1, 20, 20, 1), np.float32)
    seen = []

    def spy(x, t):
        seen.append(x.shape)
        return x

    *_, x = large.spread(spy, T8, once, (100, 80), rng)
    assert x.shape == (1, 100, 80, 1) and set(seen) == {(1, 64, 64, 1)}
    rng1, rng2 = (np.random.default_rng(3) for _ in range(2))
    *_, x = large.spread(lambda x, t: 0 * x, T8, once, (100, 80), rng1)
    repeated = np.tile(once, (1, 5, 4, 1))
    zero = lambda x, t: (rng2.integers(0, x.shape[1:3]), 0 * x)[1]
    *_, want = edit.image_to_image(zero, T8, repeated, large.STRENGTH, rng2)
    assert np.allclose(x, want)


def test_a_pipeline_draws_large_tiles_in_windows(rng, monkeypatch):
    pipe = Pipeline.load("patterns")
    spread, seen = large.spread, []

    def noted(eps_model, s, once, size, *how, **options):
        seen.append((once.shape, size))
        return spread(eps_model, s, once, size, *how, **options)

    monkeypatch.setattr(large, "spread", noted)
    (x,) = pipe.tile(np.array([[1, 5]]), rng, 2, size=(68, 72), whole=False)
    assert x.shape == (1, 68, 72, 3) and seen == [((1, 16, 24, 3), (68, 72))]


@pytest.mark.parametrize("model", ["portraits", "digits", "fashion", "emoji", "typefaces"])
def test_a_model_without_texture_takes_no_size(model, tmp_path, capsys):
    assert run("sample", model, "--size", "32x64", "--out", tmp_path / "x.png") == 2
    said = capsys.readouterr().err
    assert f"of {model} each thing has its place" in said and "for 64 a side" in said
    assert said.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_large_picture_says_how_long_it_takes_and_is_itself(tmp_path, capsys):
    """One picture, without paper around it, the same for the same seed."""
    for name in "ab":
        options = ("--size", "68x72", "--steps", 2, "--out", tmp_path / f"{name}.png")
        assert run("sample", "patterns", *options) == 0
    said = capsys.readouterr().out
    assert "68x72: a motif of 16 pixels" in said and "seconds, 0.3 GB" in said
    assert "--size 64x64 --scale 2 for 128 pixels" in said
    a, b = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in "ab")
    assert a.shape == (68, 72, 3) and np.array_equal(a, b) and a.std() > 5
