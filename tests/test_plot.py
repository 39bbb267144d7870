"""plot.py: every pixel stands where it should, every frame is there, and a picture is written whole or not at all."""

import base64
import errno
import io
import os
import re

import numpy as np
import pytest
from PIL import Image

from tinydiff import plot


def ramp(N=5, H=2, W=3, C=1):
    """Images whose pixels all differ: values 0, 1, 2, ... of 255, as [-1, 1]."""
    return np.arange(N * H * W * C).reshape(N, H, W, C) / 127.5 - 1


def test_sheet_by_hand():
    """Two 1 x 2 images in one column: a frame of paper (9) around each, everything twice as large."""
    small = plot.sheet(np.arange(4).reshape(2, 1, 2, 1) / 127.5 - 1, columns=1, paper=9)
    assert small[..., 0].tolist() == [
        [9, 9, 9, 9],
        [9, 0, 1, 9],
        [9, 9, 9, 9],
        [9, 2, 3, 9],
        [9, 9, 9, 9],
    ]
    large = plot.sheet(np.arange(4).reshape(2, 1, 2, 1) / 127.5 - 1, columns=1, paper=9, scale=2)
    assert np.array_equal(large, np.kron(small, np.ones((2, 2, 1), np.uint8)))


@pytest.mark.parametrize("C", [1, 3])
@pytest.mark.parametrize(
    "columns, gap, scale", [(1, 1, 1), (2, 1, 3), (3, 2, 1), (5, 0, 2), (7, 1, 4)]
)
def test_sheet_pixel_for_pixel(C, columns, gap, scale):
    N, H, W = 5, 2, 3
    images = ramp(N, H, W, C)
    picture = plot.sheet(images, columns, gap, scale, paper=200)
    rows = -(-N // columns)
    assert picture.dtype == np.uint8
    assert picture.shape == (
        (rows * (H + gap) + gap) * scale,
        (columns * (W + gap) + gap) * scale,
        3,
    )
    left = picture.copy()
    for i, image in enumerate(np.round((images + 1) * 127.5)):
        y, x = scale * (gap + i // columns * (H + gap)), scale * (gap + i % columns * (W + gap))
        cell = picture[y : y + scale * H, x : x + scale * W]
        assert np.array_equal(
            cell, np.broadcast_to(image, (H, W, 3)).repeat(scale, 0).repeat(scale, 1)
        )
        left[y : y + scale * H, x : x + scale * W] = 200
    assert np.all(left == 200)  # all else is paper, also where the last row is not full


def test_labelled_shows_each_pixel_as_it_is_and_names_each_row():
    images = np.random.default_rng(0).uniform(-1, 1, (6, 4, 4, 1))
    figure = plot.labelled(images, 3, ["zero", "one"], title="two rows", scale=5)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "zero",
        "one",
    ] and axes.get_title() == "two rows"
    picture = plot.sheet(images, 3, scale=5)
    assert np.array_equal(axes.images[0].get_array(), picture)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    drawn = np.asarray(Image.open(file).convert("RGB"))
    found = [
        (y, x)
        for y in range(drawn.shape[0] - picture.shape[0] + 1)
        for x in range(drawn.shape[1] - picture.shape[1] + 1)
        if np.array_equal(drawn[y : y + picture.shape[0], x : x + picture.shape[1]], picture)
    ]
    assert len(found) == 1  # nothing is scaled or smoothed
    ticks = axes.transData.transform([(0, y) for y in axes.get_yticks()])[:, 1]
    middle = figure.bbox.height - ticks - found[0][0]
    assert middle == pytest.approx([picture.shape[0] / 4, 3 * picture.shape[0] / 4], abs=2.0)


def test_a_page_shows_each_picture_pixel_for_pixel_and_says_what_it_is():
    rng = np.random.default_rng(0)
    a, b, c = (
        rng.integers(0, 255, size=(h, w, 3), dtype=np.uint8)
        for h, w in ((20, 31), (33, 40), (10, 150))
    )
    figure = plot.page(
        [("One", "words", [("left", a), ("right", b)]), ("Two", "more", [("alone", c)])], width=200
    )
    assert [text.get_text() for text in figure.texts] == [
        "One",
        "words",
        "left",
        "right",
        "Two",
        "more",
        "alone",
    ]
    file = io.BytesIO()
    figure.savefig(file, format="png")
    drawn = np.asarray(Image.open(file).convert("RGB"))
    assert drawn.shape[1] == 200
    corners = []
    for picture in (a, b, c):
        h, w, _ = picture.shape
        found = np.argwhere(
            (
                np.lib.stride_tricks.sliding_window_view(drawn, (h, w), axis=(0, 1))
                == picture.transpose(2, 0, 1)[None, None]
            ).all((2, 3, 4))
        )
        assert len(found) == 1
        corners.append(tuple(found[0]))
    assert (
        corners[0][0] == corners[1][0]
        and corners[1][1] >= corners[0][1] + 31
        and corners[2][0] > corners[1][0] + 33
    )
    with pytest.raises(ValueError, match="'Wide' is wider than the page of 100 pixels"):
        plot.page([("Wide", "", [("", c)])], width=100)


def test_losses_shows_each_step_and_the_running_mean():
    values = 1 / np.arange(1.0, 101)
    each, mean = plot.losses(values, window=10).axes[0].lines
    assert np.array_equal(each.get_xdata(), np.arange(1, 101)) and np.array_equal(
        each.get_ydata(), values
    )
    for step, value in zip(mean.get_xdata(), mean.get_ydata(), strict=True):
        assert value == pytest.approx(values[step - 10 : step].mean())
    assert mean.get_xdata()[[0, -1]].tolist() == [10, 100]
    assert len(plot.losses(values[:5], window=10).axes[0].lines) == 1


def chain(steps, seed=0):
    return list(np.random.default_rng(seed).uniform(-1, 1, (steps, 4, 3, 3, 1)))


def test_frames_begin_with_noise_and_hold_the_result():
    steps = chain(101)
    drawn = plot.frames(steps, 2, scale=1, count=21)
    assert len(drawn) == 21 + 15
    for k in range(21):
        assert np.array_equal(drawn[k], plot.sheet(steps[5 * k], 2))
    assert all(np.array_equal(p, drawn[20]) for p in drawn[21:])
    assert (
        len(plot.frames(steps[:7], 2, count=40)) == 7 + 15
    )  # a short chain is shown once, each step


def close(shown, picture):
    """A palette of 32 colours may be a little off."""
    return np.abs(shown.astype(int) - picture).max() <= 16


def test_gif_holds_every_frame_in_order(tmp_path):
    pictures = plot.frames(chain(9), 2, scale=2)
    path = plot.save_gif(pictures, tmp_path / "new" / "a.gif", seconds=0.05)
    with Image.open(path) as gif:
        assert gif.info["loop"] == 0 and gif.size == pictures[0].shape[1::-1]
        shown, times = [], []
        for k in range(gif.n_frames):
            gif.seek(k)
            shown.append(np.asarray(gif.convert("RGB")))
            times.append(gif.info["duration"])
    assert sum(times) == 50 * len(
        pictures
    )  # frames that repeat may be stored once and shown longer
    assert all(close(a, b) for a, b in zip(shown[:9], pictures, strict=False))
    assert close(shown[-1], pictures[-1])


def test_player_holds_every_frame():
    pytest.importorskip("IPython")
    pictures = plot.frames(chain(6), 2, scale=2)
    html = plot.player(pictures, seconds=0.1).data
    different, order = (
        re.search(rf"{name} = \[(.*?)\]", html)[1].split(",") for name in ("frames", "order")
    )
    assert len(different) == 6, "a frame that is held is kept once"
    frames = [different[int(i)] for i in order]
    assert (
        len(frames) == len(pictures) and f'max="{len(pictures) - 1}"' in html and "), 100);" in html
    )
    for frame, picture in zip(frames, pictures, strict=True):
        shown = np.asarray(
            Image.open(io.BytesIO(base64.b64decode(frame.strip('"')))).convert("RGB")
        )
        assert close(shown, picture)
    assert "http" not in html  # nothing is fetched


def test_two_players_on_a_page_do_not_meet():
    pytest.importorskip("IPython")
    names = {
        re.search(r'<div id="(\w+)">', plot.player(plot.frames(chain(2), 2)).data)[1]
        for _ in range(2)
    }
    assert len(names) == 2


def test_png_is_exact(tmp_path):
    picture = plot.sheet(ramp(5, 2, 3, 3), 2, scale=3)
    path = plot.save_png(picture, tmp_path / "new" / "a.png")
    assert path == tmp_path / "new" / "a.png" and np.array_equal(
        np.asarray(Image.open(path)), picture
    )


def test_figure_is_written_as_png(tmp_path):
    path = plot.save_figure(plot.losses([1.0, 0.5]), tmp_path / "loss.png")
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.size == (720, 420)


WRITERS = {
    "png": lambda path: plot.save_png(plot.sheet(ramp(), 2), path),
    "gif": lambda path: plot.save_gif(plot.frames(chain(3), 2), path),
    "figure": lambda path: plot.save_figure(plot.losses([1.0, 0.5]), path),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_picture_is_written_whole_or_not_at_all(write, tmp_path, monkeypatch):
    path = tmp_path / "picture"
    path.write_text("the old one")

    class Full(io.FileIO):
        """A file on a disk that is full after 50 bytes."""

        def write(self, content):
            if self.tell() + len(content) > 50:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(content)

    with monkeypatch.context() as m:
        m.setattr(plot, "open", Full, raising=False)
        with pytest.raises(
            OSError, match=r"picture could not be written \(No space left on device\)"
        ):
            write(path)
    assert path.read_text() == "the old one" and list(tmp_path.iterdir()) == [path]
    write(path)
    Image.open(path).verify()
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file" / "a.png"):
        with pytest.raises(OSError, match=f"{re.escape(str(path))} could not be written") as e:
            plot.save_png(np.zeros((2, 2, 3), np.uint8), path)
        assert "\n" not in str(e.value)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_bound_is_drawn_term_by_term_and_added_up():
    nats = np.array([3.0, 0.5, 0.25, 0.0])
    terms, total = plot.bound(nats).axes
    assert np.asarray(terms.lines[0].get_xydata()).tolist() == [[0, 3], [1, 0.5], [2, 0.25], [3, 0]]
    assert (
        np.asarray(total.lines[0].get_ydata()).tolist() == [3, 3.5, 3.75, 3.75]
        and "3.75" in total.get_title()
    )
