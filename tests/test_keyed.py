"""Exact colours with transparency: a key colour joins the palette, which leaves room for it."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image
from test_cli import run

from tinydiff.app import results
from tinydiff.data import to_float
from tinydiff.design import palette

BLUE, ORANGE, KEY = (20, 33, 61), (252, 163, 17), (255, 0, 255)


@pytest.fixture
def sprite(tmp_path):
    """Save a picture of two colours, 16 x 16, transparent around them -> Path"""
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[3:13, 4:12] = [*BLUE, 255]
    pixels[6:9, 6:10] = [*ORANGE, 255]
    Image.fromarray(pixels).save(tmp_path / "p.png")
    return tmp_path / "p.png"


def test_the_key_is_the_last_colour_of_the_palette(sprite, tmp_path):
    words = ("--strength", 0.3, "--palette", sprite, "--n", 1, "--steps", 4)
    out = tmp_path / "o"
    assert run("edit", "portraits", sprite, *words, "--transparent", "#ff00ff", "--out", out) == 0
    with Image.open(out / "p.png") as picture:
        assert picture.mode == "P" and picture.getpalette() == [*BLUE, *ORANGE, *KEY]
        rgb = np.asarray(picture.convert("RGB"))
    assert (rgb[0] == KEY).all() and (rgb[8, 8] == ORANGE).all()


@pytest.fixture
def full(tmp_path):
    """Write a palette of 256 colours, which fill an indexed picture -> Path"""
    (tmp_path / "full.hex").write_text("".join(f"{i:02x}{i:02x}00\n" for i in range(256)))
    return tmp_path / "full.hex"


@pytest.mark.parametrize("source", [False, True])
def test_transparency_needs_room_in_a_palette(source, sprite, full, tmp_path, capsys):
    """Refused before the work, whether --transparent asks for it or the picture has it."""
    draw = ("edit", "portraits", sprite) if source else ("sample", "patterns")
    also = ("--strength", 0.3) if source else ("--transparent",)
    for colours in (("--palette", full), ("--colours", 256)):
        words = (*draw, *colours, "--n", 1, "--steps", 2, "--out", tmp_path / "o", *also)
        assert run(*words) == 2 and not (tmp_path / "o").exists()
        said = capsys.readouterr().err.splitlines()[-1]
        assert "256 colours fill an indexed picture" in said and "room for 255" in said


def test_a_full_palette_is_taken_without_transparency(full, tmp_path):
    words = ("--palette", full, "--n", 1, "--steps", 2, "--out", tmp_path / "o")
    assert run("sample", "patterns", *words) == 0
    with Image.open(tmp_path / "o" / "patterns_0-000.png") as picture:
        assert len(picture.getpalette()) == 3 * 256


def test_an_edit_with_a_key_colour_is_not_pasted(sprite, tmp_path, capsys):
    words = ("edit", "portraits", sprite, "--strength", 0.3, "--n", 1, "--steps", 2, "--paste")
    assert run(*words, "--transparent", "#ff00ff", "--out", tmp_path / "o") == 2
    said = capsys.readouterr().err
    assert "no key colour" in said and said.count("\n") == 1 and not (tmp_path / "o").exists()
    assert run(*words, "--transparent", "--out", tmp_path / "o") == 0


def test_the_nearest_of_many_colours_needs_little_memory(rng):
    """All rows at once would be 67 MB for `nearest`, and 400 MB for an indexed picture."""
    colours = rng.integers(256, size=(256, 3)).astype(np.uint8)
    pixels = rng.integers(256, size=(256, 256, 3)).astype(np.uint8)
    tracemalloc.start()
    picture = results._as_picture(to_float(pixels), None, colours, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 15e6
    some = pixels[250:].astype(int)
    away = ((some[..., None, :] - colours) ** 2).sum(-1)
    assert np.array_equal(np.asarray(picture)[250:], away.argmin(-1))  # the first of equals
    assert np.array_equal(palette.nearest(some[None], colours)[0], away.argmin(-1))
