"""design/alpha.py: what is transparent in, is transparent out."""

import numpy as np
import pytest

from tinydiff.collect import fit
from tinydiff.collect.source import Picture
from tinydiff.design import alpha

WHITE, NAVY, RED = np.float32([1, 1, 1]), np.float32([-0.9, -0.8, 0]), np.float32([0.8, -0.7, -0.7])


def disc(side=16, radius=5.0):
    away = np.hypot(*(np.mgrid[:side, :side] - (side - 1) / 2))
    return away < radius


def on(paper, where, colour):
    """Draw in one colour on paper -> (1, H, W, 3)"""
    return np.where(where[..., None], colour, np.float32(paper))[None]


def snail(side):
    """A winding path, one pixel wide, from a corner to the middle -> (side, side) bool"""
    path, (r, c), (dr, dc) = np.zeros((side, side), bool), (0, 0), (0, 1)
    free = lambda r, c: 0 <= r < side and 0 <= c < side and not path[r, c]
    while True:
        path[r, c] = True
        ahead = free(r + dr, c + dc) and free(r + 2 * dr, c + 2 * dc) | (
            not (0 <= r + 2 * dr < side and 0 <= c + 2 * dc < side)
        )
        if not ahead:
            dr, dc = dc, -dr
            if not (free(r + dr, c + dc) and free(r + 2 * dr, c + 2 * dc)):
                return path
        r, c = r + dr, c + dc


def test_a_flood_finds_its_way_and_no_other():
    path = snail(21)
    apart = path.copy()
    apart[0, 10] = False
    start = np.zeros_like(path)
    start[0, 0] = True
    found = alpha.reached(np.stack([path, apart]), np.stack([start, start]))
    assert (found[0] == path).all() and path.sum() > 100
    assert np.argwhere(found[1]).tolist() == [[0, i] for i in range(10)]
    corners = np.eye(4, dtype=bool)[None]  # corner to corner is not side by side
    assert alpha.reached(corners, corners & (np.arange(4) == 0)).sum() == 1


def test_a_plain_background_becomes_transparent_and_what_it_encloses_stays(rng):
    eye = disc(16, 2.0)
    noise = (rng.integers(-3, 4, (1, 16, 16, 3)) / 127.5).astype(np.float32)
    x = on(WHITE - 0.1, disc() & ~eye, NAVY) + noise
    ground, seen, plain = alpha.cut_out(x)
    assert plain.all() and (seen[0] == np.where(disc(), 255, 0)).all()
    cut = alpha.bare(x, seen, ground)[0]
    assert len(np.unique(cut[~disc()], axis=0)) == 1 and (cut[disc()] == x[0][disc()]).all()


def test_a_texture_has_no_background(rng):
    x = rng.uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)
    _, seen, plain = alpha.cut_out(x, soft=True)
    assert not plain.any() and (seen == 255).all()


def test_what_an_edit_leaves_alone_keeps_its_alpha():
    a = np.random.default_rng(3).integers(0, 256, (16, 16)).astype(np.uint8)
    a[disc(16, 3)] = 0
    x = np.float32(1) + (on(1, disc(16, 9), NAVY) - 1) * a[..., None] / np.float32(255)
    assert (alpha.carried(x, x, a, 1) == a).all()


@pytest.mark.parametrize("paper", [1, -1])
def test_an_edit_may_add_to_an_outline_and_take_from_it(paper):
    a = np.where(disc(), 255, 0).astype(np.uint8)
    x, hat, bald = on(paper, disc(), RED), np.zeros((16, 16), bool), np.zeros((16, 16), bool)
    hat[1:4, 6:10], bald[:, 11:] = True, True
    drawn = np.where(hat[..., None], RED * 0.5, np.where(bald[..., None], np.float32(paper), x))
    seen = alpha.carried(drawn, x, a, paper)
    assert (seen[0] == np.where((disc() | hat) & ~bald, 255, 0)).all()


def test_the_picture_s_own_white_stays():
    """A white shirt reaches the outline: it is no paper; what is emptied beside it is."""
    shirt = disc() & (np.arange(16)[:, None] > 8)
    a = np.where(disc(), 255, 0).astype(np.uint8)
    x = on(1, disc() & ~shirt, NAVY)
    assert (alpha.carried(x, x, a, 1) == a).all()
    emptied = np.ones_like(x)
    assert (alpha.carried(emptied, x, a, 1)[0] == np.where(shirt, 255, 0)).all()


def test_a_speck_on_what_was_transparent_is_not_drawn_and_one_on_the_picture_is(rng):
    a = np.where(disc(), 255, 0).astype(np.uint8)
    x, specks = on(1, disc(), NAVY), rng.random((16, 16)) < 0.2
    drawn = np.where(specks[..., None], np.float32(1 - 28 / 127.5), x)
    seen = alpha.carried(drawn, x, a, 1)[0]
    assert (seen == a).all() and specks[disc()].any() and specks[~disc()].any()


def test_an_edge_has_as_much_alpha_as_its_new_colour_needs():
    a = np.array([[0, 128, 255]], np.uint8)
    x = np.float32(1) + (NAVY - 1) * a[None, ..., None] / np.float32(255)
    drawn = x.copy()
    drawn[0, 0, 1] = -1  # black, where half of it was paper
    assert alpha.carried(drawn, x, a, 1).tolist() == [[[0, 255, 255]]]


@pytest.mark.parametrize("paper", [1, -1])
def test_laid_on_its_paper_it_looks_as_drawn(paper, rng):
    a = rng.integers(0, 256, (1, 16, 16)).astype(np.uint8)
    ink = rng.uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)
    share = a[..., None] / np.float32(255)
    drawn = share * ink + (1 - share) * paper
    bare = alpha.bare(drawn, a, paper)
    assert np.abs(share * bare + (1 - share) * paper - drawn).max() < 1e-6
    assert np.abs(bare - ink)[a > 20].max() < 1e-5 and (bare[a == 0] == paper).all()


@pytest.mark.parametrize("paper", [1, -1])
def test_a_blended_outline_becomes_alpha(paper):
    """A disc averaged over 8 x 8 parts of each pixel: its alpha is found, and its one colour."""
    share = disc(128, 40.5).reshape(16, 8, 16, 8).mean((1, 3))
    x = (np.float32(paper) + (NAVY - paper) * share[..., None]).astype(np.float32)[None]
    _, seen, _ = alpha.cut_out(x, soft=True)
    assert np.abs(seen[0] / 255 - share).max() < 0.06
    ink = alpha.bare(x, seen, paper)[0]
    assert np.abs(ink - NAVY)[seen[0] > 0].max() < 0.01
    hard = alpha.cut_out(x)[1]
    assert set(np.unique(hard)) == {0, 255}
    blank = np.zeros((16, 16), np.uint8)
    seen = alpha.carried(x, np.full_like(x, paper), blank, paper, soft=True)
    assert np.abs(seen[0] / 255 - share).max() < 0.06


def test_a_paper_that_comes_back_tinted_is_paper_and_one_that_was_asked_for_is_not():
    a = np.where(disc(), 255, 0).astype(np.uint8)
    x = on(1, disc(), NAVY)
    for ground, opaque in (((0.98, 0.85, 0.9), False), ((1, 0.67, 0.73), True)):
        drawn = on(np.float32(ground), disc(), RED)
        seen = alpha.carried(drawn, x, a, 1)[0]
        assert (seen == np.where(disc() | opaque, 255, 0)).all()


def test_the_alpha_of_own_pictures_is_fitted_as_their_colours_are(rng):
    """Pixel art by its true pixels, photographs by areas; what is added around them is empty."""
    true = np.dstack([rng.integers(0, 256, (16, 12, 3)), 255 * rng.integers(0, 2, (16, 12))])
    true[:, [0, -1], 3] = 0
    art = Picture(true.astype(np.uint8).repeat(3, 0).repeat(3, 1))
    how = fit.Plan(16, pixel_art=True, cells={(48, 36): (3, 0, 0)})
    found = fit.fit_alpha(art, how)
    assert (found[:, 2:14] == true[..., 3]).all() and not found[:, [0, 1, 14, 15]].any()
    opaque = np.full((48, 36), 255, np.uint8)
    opaque[:3, :3] = 0
    photograph = Picture(np.dstack([art.pixels[..., :3], opaque]))
    found = fit.fit_alpha(photograph, fit.Plan(16, whole=True))
    assert found[:, 2:14].sum() == 255 * (16 * 12 - 1) and not found[:, [0, 1, 14, 15]].any()
