"""Exact colours with transparency: a key colour joins the palette, which leaves room for it."""

import numpy as np
import pytest
from PIL import Image
from test_cli import run

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
