"""plot.py: every pixel is where it should be, every frame is there, no file is half written."""

import base64
import errno
import io
import itertools
import os
import re

import numpy as np
import pytest
from PIL import Image

from tinydiff import files, plot

# How readers without one of the three receptors see linear RGB. Source: Machado, Oliveira and
# Fernandes 2009, severity 1.0.
EYES = {
    "normal": np.eye(3),
    "no red receptor": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green receptor": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour):
    """Linear RGB, 0 .. 1, of a colour as on the web, in sRGB."""
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIE L*a*b* of linear RGB: a distance of 2 is just seen, one of 20 at a glance."""
    x, y, z = np.cbrt(TO_XYZ @ rgb.clip(0, 1) / TO_XYZ.sum(1))  # none of ours is near black
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def apart(one, other, eye):
    return np.linalg.norm(lab(EYES[eye] @ linear(one)) - lab(EYES[eye] @ linear(other)))


def test_the_distance_of_two_colours_by_hand():
    """Greys differ in L* only, and look alike to all; red and green do not."""
    green, red = "#2a8f5b", "#c0392b"
    for eye in EYES:
        assert apart("#777777", "#777777", eye) == 0
        assert apart("#777777", "#ffffff", eye) == pytest.approx(100 - 50.0, abs=0.3)
    assert apart(green, red, "normal") > 90 and apart(green, red, "no red receptor") < 25


@pytest.mark.parametrize("eye", EYES)
def test_colours_differ_for_every_reader(eye):
    for one, other in itertools.combinations(plot.CYCLE, 2):
        assert apart(one, other, eye) > 20
    fields = [colour for colour, _ in plot.JUDGED.values()]
    for one, other in itertools.combinations(fields, 2):
        assert apart(one, other, eye) > 20
    assert len({sign for _, sign in plot.JUDGED.values()}) == len(fields)
    for colour in plot.CYCLE:  # contrast as WCAG defines it: 3 for what is drawn
        assert 1.05 / (TO_XYZ[1] @ linear(colour) + 0.05) >= 3


def ramp(N=5, H=2, W=3, C=1):
    """Images whose pixels all differ: values 0, 1, 2, ... of 255, as [-1, 1]."""
    return np.arange(N * H * W * C).reshape(N, H, W, C) / 127.5 - 1


def test_sheet_by_hand():
    """Two 1 x 2 images in one column: a frame of paper (9) round each; then all twice as large."""
    small = plot.sheet(np.arange(4).reshape(2, 1, 2, 1) / 127.5 - 1, columns=1, paper=9)
    paper, first, second = [9, 9, 9, 9], [9, 0, 1, 9], [9, 2, 3, 9]
    assert small[..., 0].tolist() == [paper, first, paper, second, paper]
    large = plot.sheet(np.arange(4).reshape(2, 1, 2, 1) / 127.5 - 1, columns=1, paper=9, scale=2)
    assert np.array_equal(large, np.kron(small, np.ones((2, 2, 1), np.uint8)))


@pytest.mark.parametrize("C", [1, 3])
@pytest.mark.parametrize("layout", [(1, 1, 1), (2, 1, 3), (3, 2, 1), (5, 0, 2), (7, 1, 4)])
def test_sheet_pixel_for_pixel(C, layout):
    (columns, gap, scale), (N, H, W) = layout, (5, 2, 3)
    images = ramp(N, H, W, C)
    picture = plot.sheet(images, columns, gap, scale, paper=200)
    rows = -(-N // columns)
    height, width = rows * (H + gap) + gap, columns * (W + gap) + gap
    assert picture.dtype == np.uint8 and picture.shape == (height * scale, width * scale, 3)
    left = picture.copy()
    for i, image in enumerate(np.round((images + 1) * 127.5)):
        y, x = scale * (gap + i // columns * (H + gap)), scale * (gap + i % columns * (W + gap))
        cell = picture[y : y + scale * H, x : x + scale * W]
        large = np.broadcast_to(image, (H, W, 3)).repeat(scale, 0).repeat(scale, 1)
        assert np.array_equal(cell, large)
        left[y : y + scale * H, x : x + scale * W] = 200
    assert np.all(left == 200)  # all else is paper, also where the last row is not full


def test_labelled_shows_each_pixel_as_it_is_and_names_each_row():
    images = np.random.default_rng(0).uniform(-1, 1, (6, 4, 4, 1))
    figure = plot.labelled(images, 3, ["zero", "one"], title="two rows", scale=5)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["zero", "one"]
    assert axes.get_title() == "two rows"
    picture = plot.sheet(images, 3, scale=5)
    assert np.array_equal(axes.images[0].get_array(), picture)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    drawn = np.asarray(Image.open(file).convert("RGB"))
    windows = np.lib.stride_tricks.sliding_window_view(drawn, picture.shape)[:, :, 0]
    found = np.argwhere((windows == picture).all((2, 3, 4)))
    assert len(found) == 1  # nothing is scaled or smoothed
    ticks = axes.transData.transform([(0, y) for y in axes.get_yticks()])[:, 1]
    middle = figure.bbox.height - ticks - found[0][0]
    assert middle == pytest.approx([picture.shape[0] / 4, 3 * picture.shape[0] / 4], abs=2.0)


def test_losses_shows_each_step_and_the_running_mean():
    values = 1 / np.arange(1.0, 101)
    each, mean = plot.losses(values, window=10).axes[0].lines
    assert np.array_equal(each.get_xdata(), np.arange(1, 101))
    assert np.array_equal(each.get_ydata(), values)
    for step, value in zip(mean.get_xdata(), mean.get_ydata(), strict=True):
        assert value == pytest.approx(values[step - 10 : step].mean())
    assert mean.get_xdata()[[0, -1]].tolist() == [10, 100]
    assert len(plot.losses(values[:5], window=10).axes[0].lines) == 1


def test_a_figure_shows_itself_without_pyplot_and_once():
    """As the inline backend does it where pyplot has been imported."""
    formatter = pytest.importorskip("IPython").core.formatters.DisplayFormatter()
    figure = plot.losses([1.0, 0.5])
    formats, _ = formatter.format(figure)
    assert set(formats) == {"text/plain", "image/png"}
    width, height = Image.open(io.BytesIO(formats["image/png"])).size
    assert abs(width - 720) < 40 and abs(height - 420) < 40  # cut to what is drawn


@pytest.mark.parametrize("make", [plot.losses, lambda v: plot.labelled(ramp(), 5, ["a"], "title")])
def test_text_in_a_figure_is_at_least_11_pixels_high(make):
    figure = make(np.linspace(1, 0.1, 60))
    axes = figure.axes[0]
    shown = [axes.title, axes.xaxis.label, *axes.get_xticklabels(), *axes.get_yticklabels()]
    shown += axes.get_legend().get_texts() if axes.get_legend() else []
    assert min(text.get_fontsize() for text in shown) * figure.dpi / 72 >= 11


def test_alt_texts_are_the_comments_that_a_cell_begins_with():
    assert plot.alt_texts("# Figure: a loss\n# that falls\nplot.losses(x)\n# Figure: no") == [
        "a loss that falls"
    ]
    assert plot.alt_texts("# Figure: one\n# Figure: two\nx = 1") == ["one", "two"]
    assert plot.alt_texts("x = 1  # Figure: no\n# Figure: no") == plot.alt_texts("# no\nx") == []


def chain(steps, seed=0):
    return list(np.random.default_rng(seed).uniform(-1, 1, (steps, 4, 3, 3, 1)))


def test_frames_begin_with_noise_and_hold_the_result():
    steps = chain(101)
    drawn = plot.frames(steps, 2, scale=1, count=21)
    assert len(drawn) == 21 + 15
    for k in range(21):
        assert np.array_equal(drawn[k], plot.sheet(steps[5 * k], 2))
    assert all(np.array_equal(p, drawn[20]) for p in drawn[21:])
    assert len(plot.frames(steps[:7], 2, count=40)) == 7 + 15  # of a short chain each step, once


def close(shown, picture):
    """A palette of 64 colours may be a little off."""
    return np.abs(shown.astype(int) - picture).max() <= 16


def played(path):
    """Read an animation: its frames as RGB, and how long each is shown, in milliseconds."""
    shown, times = [], []
    with Image.open(path) as animation:
        assert animation.info["loop"] == 0
        for k in range(animation.n_frames):
            animation.seek(k)
            shown.append(np.asarray(animation.convert("RGB")))
            times.append(animation.info["duration"])
    return shown, times


ANIMATIONS = {"gif": plot.save_gif, "apng": plot.save_apng}


@pytest.mark.parametrize("kind", ANIMATIONS)
def test_an_animation_holds_every_frame_in_order(kind, tmp_path):
    """Few colours: both are exact. What repeats may be stored once and shown longer."""
    pictures = plot.frames(chain(9), 2, scale=2)
    path = ANIMATIONS[kind](pictures, tmp_path / "new" / f"a.{kind}", seconds=0.05)
    shown, times = played(path)
    assert sum(times) == 50 * len(pictures)
    assert shown[0].shape == pictures[0].shape
    assert all(np.array_equal(a, b) for a, b in zip(shown[:9], pictures, strict=False))
    assert np.array_equal(shown[-1], pictures[-1])


def colourful(n, colours):
    """Pictures, 40 x 40, each of as many colours, spread over all."""
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, 256, (n, colours, 3), dtype=np.uint8)
    order = [rng.permutation(1600) % colours for _ in range(n)]
    return [c[i].reshape(40, 40, 3) for c, i in zip(chosen, order, strict=True)]


@pytest.mark.parametrize("colours", [2, 64, 255, 256])
def test_a_gif_is_exact_where_no_frame_has_more_than_256_colours(colours, tmp_path):
    pictures = colourful(4, colours)
    shown, _ = played(plot.save_gif(pictures, tmp_path / "a.gif"))
    assert all(np.array_equal(a, b) for a, b in zip(shown, pictures, strict=True))
    assert plot.fits_gif(pictures)


def test_a_gif_of_more_colours_comes_close_and_an_apng_is_exact(tmp_path):
    """1,000 colours at random are 26 apart; 32 of them, as it was, were off by up to 150."""
    pictures = colourful(2, 1000)
    assert not plot.fits_gif(pictures)
    shown, _ = played(plot.save_gif(pictures, tmp_path / "a.gif"))
    off = np.abs(np.stack(shown).astype(int) - np.stack(pictures))
    assert off.mean() < 10 and off.max() < 64
    shown, _ = played(plot.save_apng(pictures, tmp_path / "a.apng"))
    assert all(np.array_equal(a, b) for a, b in zip(shown, pictures, strict=True))


@pytest.mark.parametrize("seconds, hundredths", [(0.06, 6), (0.039, 4), (0.125, 12), (0.001, 2)])
def test_a_gif_counts_in_whole_hundredths(seconds, hundredths, tmp_path):
    """Pillow cuts 39 ms to 30, but only after it has summed up frames that are held."""
    pictures = colourful(3, 8)
    _, times = played(plot.save_gif([*pictures, pictures[-1]], tmp_path / "a.gif", seconds))
    assert times == [10 * hundredths, 10 * hundredths, 20 * hundredths]


def webp(uri):
    """The frames of a data URI, as RGB, and how long each is shown, in milliseconds."""
    kind, text = uri.split(",")
    assert kind == "data:image/webp;base64"
    shown, times = [], []
    with Image.open(io.BytesIO(base64.b64decode(text))) as picture:
        for k in range(getattr(picture, "n_frames", 1)):
            picture.seek(k)
            picture.load()
            shown.append(np.asarray(picture.convert("RGB")))
            times.append(picture.info.get("duration"))
    return shown, times


def test_player_holds_every_frame():
    pytest.importorskip("IPython")
    pictures = plot.frames(chain(6), 2, scale=2)
    page = plot.player(pictures, seconds=0.1).data
    assert "times = [100, 100, 100, 100, 100, 1600]" in page, "what is held is kept once"
    (grid,), _ = webp(re.search(r'grid.src = "(.*?)"', page)[1])
    (height, width, _), columns = pictures[0].shape, 3
    assert f"[width, height, columns] = [{width}, {height}, {columns}]" in page
    assert grid.shape == (2 * height, 3 * width, 3)
    for k, picture in enumerate(pictures[:6]):
        y, x = k // columns * height, k % columns * width
        assert close(grid[y : y + height, x : x + width], picture)
    assert "http" not in page  # nothing is fetched


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9])
def test_without_a_script_pictures_move_and_of_many_every_second(n):
    pytest.importorskip("IPython")
    pictures = plot.frames(chain(n), 2, scale=2)
    page = plot.player(pictures, seconds=0.1).data.split("<script>")[0]
    shown, times = webp(re.search(r'<img src="(.*?)" alt="an animation"', page)[1])
    assert "Run this cell to drag." in page
    expected = list(range(n)) if n < 8 else list(range(n))[::-2][::-1]
    assert len(shown) == len(expected)
    assert all(close(a, pictures[k]) for a, k in zip(shown, expected, strict=True))
    if n > 1:
        assert times == [100 if n < 8 else 200] * (len(shown) - 1) + [1600]


def test_a_player_says_where_it_is_and_what_it_shows():
    pytest.importorskip("IPython")
    pictures = plot.frames(chain(3), 2)
    page = plot.player(pictures).data
    assert 'labels = ["1 of 3", "2 of 3", "3 of 3"]' in page and "show(2)" in page
    labels = ["t = 2", "t = 1", "</script>"]
    page = plot.player(pictures, labels=labels, alt='"noise" < faces', first=0).data
    assert r'labels = ["t = 2", "t = 1", "\u003c/script>"]' in page and "show(0)" in page
    assert 'alt="&quot;noise&quot; &lt; faces"' in page
    everything = [*labels, *["held"] * 15]
    assert '"t = 1", "\\u003c/script>"]' in plot.player(pictures, labels=everything).data
    for wrong in (labels[:2], [*everything, "one more"]):
        with pytest.raises(
            ValueError, match=f"^18 pictures, but {len(wrong)} labels: one for each"
        ):
            plot.player(pictures, labels=wrong)


def test_two_players_on_a_page_do_not_meet():
    pytest.importorskip("IPython")
    pictures = plot.frames(chain(2), 2)
    one, two = (re.search(r'<div id="(\w+)"', plot.player(pictures).data)[1] for _ in range(2))
    assert one != two


def test_png_is_exact(tmp_path):
    picture = plot.sheet(ramp(5, 2, 3, 3), 2, scale=3)
    path = plot.save_png(picture, tmp_path / "new" / "a.png")
    assert path == tmp_path / "new" / "a.png"
    assert np.array_equal(np.asarray(Image.open(path)), picture)


def test_figure_is_written_as_png(tmp_path):
    path = plot.save_figure(plot.losses([1.0, 0.5]), tmp_path / "loss.png")
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.size == (720, 420)


WRITERS = {
    "png": lambda path: plot.save_png(plot.sheet(ramp(), 2), path),
    "gif": lambda path: plot.save_gif(plot.frames(chain(3), 2), path),
    "apng": lambda path: plot.save_apng(plot.frames(chain(3), 2), path),
    "figure": lambda path: plot.save_figure(plot.losses([1.0, 0.5]), path),
}


@pytest.mark.parametrize("name", ["a.jpg", "a.pdf", "a.gif", "a.png", "a"])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_name_with_the_suffix_of_another_kind_is_refused(writer, name, tmp_path):
    """A PNG is not written as a.jpg, or as a; in capitals the suffix is the same."""
    suffix = {"gif": ".gif", "apng": ".apng"}.get(writer, ".png")
    if name == f"a{suffix}" or (writer == "apng" and name == "a.png"):
        kind = "GIF" if writer == "gif" else "PNG"
        assert Image.open(WRITERS[writer](tmp_path / name.upper())).format == kind
        return
    with pytest.raises(OSError) as e:
        WRITERS[writer](tmp_path / "new" / name)
    assert f"give a name that ends in {suffix}, not {name[1:] or 'none'}" in str(e.value)
    assert str(tmp_path / "new" / name) in str(e.value) and "\n" not in str(e.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("writer", WRITERS)
def test_a_picture_is_written_whole_or_not_at_all(writer, tmp_path, monkeypatch):
    write = WRITERS[writer]
    path = tmp_path / f"picture.{writer.replace('figure', 'png')}"
    path.write_text("the old one")

    class Full(io.FileIO):
        """A file on a disk that is full after 50 bytes."""

        def write(self, content):
            if self.tell() + len(content) > 50:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(content)

    with monkeypatch.context() as m:
        m.setattr(files, "open", Full, raising=False)
        why = r"picture\.\w+ could not be written \(No space left on device\)"
        with pytest.raises(OSError, match=why):
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


def test_a_notebook_shows_a_figure_whole_also_what_lies_above_its_edge():
    drawn = plot.figure(figsize=(1, 1), dpi=100)
    drawn.text(0.5, 0, "below")
    drawn.text(0.5, 1.2, "above")
    assert Image.open(io.BytesIO(drawn._repr_png_())).height > 100
