"""edit --paste: an edit goes back into the picture that was given, at its own size."""

import numpy as np
import pytest

from tinydiff.design.picture import paste


@pytest.mark.parametrize("box", [(2, 1, 14, 13), (-1, -2, 11, 10), (5, 4, 17, 16)])
def test_edits_are_pasted_as_blocks_where_they_change(box, rng):
    """Each pixel of 4 x 4 is 3 x 3 in the square; pixel by pixel, some outside the picture."""
    whole, edits = rng.random((14, 15, 3)), rng.random((2, 4, 4, 3))
    changed = rng.random((2, 4, 4)) < 0.5
    want = np.stack([whole, whole])
    for n, i, j in np.ndindex(2, 12, 12):
        row, column = box[1] + i, box[0] + j
        if changed[n, i // 3, j // 3] and 0 <= row < 14 and 0 <= column < 15:
            want[n, row, column] = edits[n, i // 3, j // 3]
    assert (paste(whole, edits, changed, box) == want).all() and (want != whole).any()


def test_a_square_of_any_size_takes_the_pixel_that_its_centre_lies_in():
    edits, changed = np.arange(1, 4.0).reshape(1, 1, 3, 1).repeat(3, 1), np.ones((1, 3, 3), bool)
    drawn = paste(np.zeros((7, 7, 1)), edits, changed, (0, 0, 7, 7))
    assert drawn[0, 0, :, 0].tolist() == [1, 1, 2, 2, 2, 3, 3]
