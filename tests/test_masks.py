"""design/masks.py: what counts in a mask, however it was painted."""

import numpy as np
import pytest
from PIL import Image

from tinydiff.data import to_uint8
from tinydiff.design import masks
from tinydiff.design.picture import open_given

RED, INK = (200, 20, 20), (10, 10, 10)
STROKE = np.zeros((64, 64), bool)
STROKE[8:12, 20] = True  # thinner than a pixel of 16


def sprite(side=64):
    """A picture without two pixels alike, opaque -> (side, side, 3) uint8"""
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


def layer(where, colour, ground=(0, 0, 0)):
    """Paint on a transparent layer -> (H, W, 4) uint8"""
    pixels = np.where(where[..., None], np.uint8(colour), np.uint8(ground))
    return np.dstack([pixels, 255 * np.uint8(where)])


def marked(tmp_path, mask, picture=None):
    """Which of 16 x 16 pixels a mask of a picture marks, and what is said of it."""
    Image.fromarray(sprite() if picture is None else picture).save(tmp_path / "a.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    given = open_given(tmp_path / "a.png", 16, 3)
    anew, _, said = masks.open_mask(tmp_path / "m.png", tmp_path / "a.png", given)
    assert anew.shape == (1, 16, 16, 1)
    return anew[0, ..., 0], said


@pytest.mark.parametrize("colour", [RED, INK, (255, 255, 255), (0, 0, 0)])
@pytest.mark.parametrize("ground", [(0, 0, 0), (255, 255, 255)])
def test_in_a_layer_what_is_painted_counts_whatever_its_colour(colour, ground, tmp_path):
    anew, said = marked(tmp_path, layer(STROKE, colour, ground))
    assert np.argwhere(anew).tolist() == [[2, 5]]
    assert said.endswith("m.png: 64 x 64 RGBA; 1 of 16 x 16 pixels are painted and are drawn anew")


def test_a_soft_brush_counts_from_half_of_its_strength(tmp_path):
    strokes = layer(STROKE, RED)
    strokes[8:12, 20, 3], strokes[40:44, 40, 3] = 100, 49  # never opaque; its margin
    assert np.argwhere(marked(tmp_path, strokes)[0]).tolist() == [[2, 5]]


def test_of_an_opaque_mask_white_counts_also_where_it_has_an_alpha(tmp_path):
    grey = np.where(STROKE, 255, 0).astype(np.uint8)
    for mask in (grey, np.dstack([grey] * 3), np.dstack([grey] * 3 + [np.full_like(grey, 255)])):
        anew, said = marked(tmp_path, mask)
        assert np.argwhere(anew).tolist() == [[2, 5]] and "1 of 16 x 16 pixels have white" in said


def test_of_a_layer_in_black_and_white_white_counts(tmp_path):
    strokes = layer(STROKE | STROKE[::-1], (255, 255, 255))
    strokes[STROKE[::-1], :3] = 0
    assert np.argwhere(marked(tmp_path, strokes)[0]).tolist() == [[2, 5]]


def test_a_copy_of_the_picture_with_a_hole_means_the_hole(tmp_path):
    copy = layer(~STROKE, sprite())
    anew, said = marked(tmp_path, copy)
    assert np.argwhere(anew).tolist() == [[2, 5]] and "are erased" in said
    cut_out = np.dstack([sprite(), np.full((64, 64), 255, np.uint8)])
    cut_out[:, 32:, 3] = 0  # what the picture itself lacks is no hole
    copy = cut_out.copy()
    copy[STROKE] = 0
    assert np.argwhere(marked(tmp_path, copy, cut_out)[0]).tolist() == [[2, 5]]


@pytest.mark.parametrize("side", [192, 128, 64, 32, 16])
def test_a_mask_of_a_multiple_of_the_size_fits(side, tmp_path):
    mask = np.zeros((side, side), np.uint8)
    mask[side // 8, side * 5 // 16] = 255
    assert np.argwhere(marked(tmp_path, mask)[0]).tolist() == [[2, 5]]


@pytest.mark.parametrize("shape", [(64, 128), (96, 96), (63, 64), (5, 7)])
def test_a_mask_of_another_shape_is_refused_with_both_sizes(shape, tmp_path):
    said = f"is {shape[1]} x {shape[0]}, the picture 64 x 64: give a mask of the picture's size"
    with pytest.raises(ValueError, match=said):
        marked(tmp_path, np.zeros(shape, np.uint8))


def test_a_mask_follows_the_picture_to_its_middle_and_its_true_pixels(tmp_path):
    """40 x 20 true pixels, each 3 x 3, the first row nearly cut off: 19 x 19 of them are seen."""
    wide = np.random.default_rng(1).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    Image.fromarray(wide.repeat(3, 0).repeat(3, 1)[2:]).save(tmp_path / "a.png")
    given = open_given(tmp_path / "a.png", 19, 3)
    assert given.said.endswith("its 40 x 19 true pixels, each 3 x 3, cut to its middle square")
    assert (to_uint8(given.x[0]) == wide[1:, 10:29]).all() and given.box == (30, 1, 87, 58)
    for row, column in ((1, 30), (20, 61), (57, 86)):
        mask = np.zeros((58, 120), bool)
        mask[row, column] = True
        assert np.argwhere(given.mask(mask)).tolist() == [[(row - 1) // 3, (column - 30) // 3]]


# --- a hole in the picture itself ---


def holed(tmp_path, clear):
    """The pixels of 16 x 16 that are drawn anew where a picture is transparent."""
    Image.fromarray(layer(~clear, sprite())).save(tmp_path / "a.png")
    given = open_given(tmp_path / "a.png", 16, 3)
    anew, kind, said = masks.open_hole(tmp_path / "a.png", given)
    assert kind == masks.ERASED
    return anew, said


def test_an_erased_hole_is_a_mask(tmp_path):
    anew, said = holed(tmp_path, STROKE)
    assert np.argwhere(anew[0, ..., 0]).tolist() == [[2, 5]]
    assert said.endswith("what is transparent is its hole; 1 of 16 x 16 pixels are erased and are "
                         "drawn anew")  # fmt: skip
    at_the_edge = np.zeros((64, 64), bool)
    at_the_edge[:8, :20] = True
    assert holed(tmp_path, at_the_edge)[0].sum() == 2 * 5


def test_the_outside_of_a_sprite_is_no_hole(tmp_path):
    outside = np.ones((64, 64), bool)
    outside[8:56, 8:56] = False
    with pytest.raises(ValueError, match="no pixels that are transparent and enclosed: erase what"):
        holed(tmp_path, outside)
    outside[:, 0:8] = False  # joined to the border all the same
    outside[20:24, 40] = True
    anew, said = holed(tmp_path, outside)
    assert np.argwhere(anew[0, ..., 0]).tolist() == [[5, 10]] and "and enclosed is its hole" in said


def test_a_hole_is_shown_in_grey():
    x, anew = np.ones((1, 2, 2, 3), np.float32), np.zeros((1, 2, 2, 1), bool)
    anew[0, 1, 0] = True
    assert masks.shown(x, anew)[0, ..., 0].tolist() == [[1, 1], [0, 1]]
