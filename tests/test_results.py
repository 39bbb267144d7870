"""What the drawing commands write for other programs: folders, sheets, animations, `again`."""

import json
import shlex
from string import ascii_uppercase

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tinydiff import data, plot
from tinydiff.app import cli, results
from tinydiff.app.usage import UsageError

FACE = ("sample", "portraits", "--n", "3", "--steps", "2", "--label", "hat=red", "--seed", "4")


def run(*words):
    return cli.main([str(word) for word in words])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Three portraits in a folder, with all that goes with them -> the folder, and the overview"""
    out = tmp_path_factory.mktemp("drawn")
    kinds = ("--sheet", "--frames", "gif", "apng", "webp")
    assert run(*FACE, *kinds, "--out", out / "faces") == 0
    assert run(*FACE, "--out", out / "all.png") == 0
    return out / "faces", out / "all.png"


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A real portrait -> its file"""
    path = tmp_path_factory.mktemp("picture") / "face.png"
    Image.fromarray(data.to_uint8(data.load("portraits").test[3])).save(path)
    return path


def pixels(path, mode="RGB"):
    with Image.open(path) as picture:
        return np.asarray(picture.convert(mode))


def texts(path):
    with Image.open(path) as picture:
        picture.load()
        return picture.text


def test_a_folder_has_each_picture_pixel_for_pixel(drawn):
    folder, overview = drawn
    names = [f"portraits_4-00{k}" for k in range(3)]
    kinds = ("png", "gif", "apng", "webp")
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*(f"{name}.{kind}" for name in names for kind in kinds), "sheet.png", "sheet.json"]
    )
    cells = pixels(overview)[4::4, 4::4]  # a gap of one pixel, all of it four times as large
    for k, name in enumerate(names):
        assert np.array_equal(pixels(folder / f"{name}.png"), cells[:16, 17 * k : 17 * k + 16])


def test_a_picture_says_how_it_was_drawn(drawn):
    found = texts(drawn[0] / "portraits_4-001.png")
    assert found["Model"] == "portraits" and found["Labels"] == "hat=red" and found["Seed"] == "4"
    words = shlex.split(found["Command"])
    assert words[: 3 + len(FACE)] == ["python", "-m", "tinydiff", *FACE]
    assert found["Number"] == "1" and found["Software"].startswith("tinydiff ")
    assert "Number" not in texts(drawn[0] / "sheet.png") and not texts(drawn[1])


def test_the_sheet_and_its_json_agree(drawn):
    folder, _ = drawn
    about, sheet = json.loads((folder / "sheet.json").read_text()), pixels(folder / "sheet.png")
    size = {"w": sheet.shape[1], "h": sheet.shape[0]}
    assert about["meta"]["size"] == size == {"w": 32, "h": 32}
    assert about["meta"]["image"] == "sheet.png" and len(about["frames"]) == 3
    for frame in about["frames"]:
        x, y, w, h = (frame["frame"][key] for key in "xywh")
        single = pixels(folder / f"{frame['filename']}.png")
        assert np.array_equal(sheet[y : y + h, x : x + w], single)
        assert frame["sourceSize"] == {"w": w, "h": h} == {"w": 16, "h": 16}
        assert not frame["rotated"] and not frame["trimmed"] and frame["duration"] > 0


@pytest.mark.parametrize("kind", results.ANIMATIONS)
def test_an_animation_ends_with_the_picture(kind, drawn):
    still = pixels(drawn[0] / "portraits_4-002.png")
    with Image.open(drawn[0] / f"portraits_4-002.{kind}") as film:
        assert film.n_frames == 3  # the noise, two steps
        film.seek(0)
        assert np.abs(np.asarray(film.convert("RGB")).astype(int) - still).mean() > 20
        film.seek(2)
        last = np.asarray(film.convert("RGB")).astype(int)
    assert np.abs(last - still).max() == 0


@pytest.mark.parametrize("name", ["portraits_4-002.png", "sheet.png"])
def test_again_draws_the_same_bytes(name, drawn, tmp_path, capsys):
    path = tmp_path / "again" / name
    assert run("again", drawn[0] / name, "--out", path) == 0
    assert path.read_bytes() == (drawn[0] / name).read_bytes()
    assert "sample portraits" in capsys.readouterr().err  # what it runs is said
    assert sorted(p.suffix for p in path.parent.iterdir()) in ([".png"], [".json", ".png"])


def test_edits_restyled_pictures_and_letters_come_as_files(picture, tmp_path):
    edit = ("edit", "portraits", picture, "--steps", 3)
    assert run(*edit, "--change", "hat=red", "--frames", "apng", "--out", tmp_path / "one") == 0
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == ["face.apng", "face.png"]
    assert run(*edit, "--strength", 0.5, "--n", 2, "--out", tmp_path / "two", "--scale", 3) == 0
    names = ["face_0-000.png", "face_0-001.png"]
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == names
    assert pixels(tmp_path / "two" / names[0]).shape == (48, 48, 3)
    restyle = ("restyle", picture, "--to", "flat", "--steps", 2, "--n", 1)
    assert run(*restyle, "--frames", "webp", "--out", tmp_path / "flat") == 0
    assert texts(tmp_path / "flat" / "face.png")["Style"] == "flat"
    alphabet = ("alphabet", "lobster", "--n", 1, "--steps", 2)
    assert run(*alphabet, "--out", tmp_path / "abc") == 0
    assert sorted(path.stem for path in (tmp_path / "abc").iterdir()) == list(ascii_uppercase)


def test_scale_is_a_whole_factor_without_blur(tmp_path):
    one = ("sample", "digits", "--n", 1, "--steps", 1)
    assert run(*one, "--out", tmp_path / "a") == 0
    assert run(*one, "--scale", 5, "--out", tmp_path / "b.png") == 0
    small, large = pixels(tmp_path / "a" / "digits_0-000.png"), pixels(tmp_path / "b.png")
    assert np.array_equal(large, small.repeat(5, 0).repeat(5, 1))


def test_pictures_that_are_there_are_kept_unless_forced(tmp_path, capsys):
    one = ("sample", "digits", "--n", 2, "--steps", 1, "--out", tmp_path)
    (tmp_path / "digits_0-001.png").write_text("mine")
    assert run(*one) == 2 and (tmp_path / "digits_0-001.png").read_text() == "mine"
    assert "digits_0-001.png exists" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 1  # nothing half-written
    assert run(*one, "--force") == 0 and pixels(tmp_path / "digits_0-001.png").shape == (8, 8, 3)


def write(path, **texts):
    about = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        about.add_text(key, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=about)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({}, "does not say how it was drawn"),
        ({"Command": "python -m tinydiff sample digits", "Number": "x"}, "does not say how"),
        ({"Command": "python -m tinydiff train digits"}, "`again` takes python -m tinydiff, then"),
        ({"Command": "python -m tinydiff sample --help"}, "`again` takes python -m tinydiff, then"),
        ({"Command": "python -m tinydiff sample digits", "Number": "9" * 5000}, "does not say how"),
        ({"Command": "python -m other sample digits"}, "`again` takes python -m tinydiff, then"),
        ({"Command": "python -m tinydiff sample 'digits"}, "`again` takes python -m tinydiff"),
        ({"Command": "python -m tinydiff sample none.npz"}, "none.npz cannot be read"),
        ({"Command": "python -m tinydiff sample digits --n 2", "Number": "7"}, "has no picture 7"),
    ],
)
def test_again_runs_only_what_draws(said, line, tmp_path, monkeypatch, capsys):
    """A picture may come from anyone, and say anything."""
    monkeypatch.chdir(tmp_path)
    write("from.png", **said)
    assert run("again", "from.png") == 2
    assert line in capsys.readouterr().err.splitlines()[-1] and not (tmp_path / "out").exists()


def test_no_home_folder_in_what_is_written(picture, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(picture.parent))
    edit = ("edit", "portraits", picture, "--strength", 0.5, "--steps", 2, "--n", 1)
    assert run(*edit, "--out", tmp_path / "a") == 0
    assert "~/face.png" in texts(tmp_path / "a" / "face.png")["Command"]
    assert run("again", tmp_path / "a" / "face.png", "--out", tmp_path / "b.png") == 0
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "a" / "face.png").read_bytes()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert results.command(["edit", f"{tmp_path}/a b.png"]) == (
        "python -m tinydiff edit '~/a b.png'"
    )
    assert results.command(["edit", "/else/a.png"]).endswith(" /else/a.png")


def test_indexed_pictures_have_these_colours_alone(tmp_path):
    palette = np.uint8([[20, 33, 61], [252, 163, 17], [229, 229, 229]])
    image = data.to_float(palette[np.arange(16).reshape(4, 4) % 3])
    picture = results._as_picture(image, None, palette, 2)
    assert picture.mode == "P" and picture.size == (8, 8)
    assert np.array_equal(np.asarray(picture.convert("RGB"))[::2, ::2], data.to_uint8(image))
    alpha = np.uint8([[0, 255, 255, 255]] * 4)
    plot.save_picture(results._as_picture(image, alpha, palette, 1), tmp_path / "a.png")
    assert np.array_equal(pixels(tmp_path / "a.png", "RGBA")[..., 3], alpha)
    rgba = results._as_picture(image, alpha, None, 1)
    assert rgba.mode == "RGBA" and np.array_equal(np.asarray(rgba)[..., 3], alpha)


@pytest.mark.parametrize("how", [("--scale", 2, "--n", 1), ("--sheet", "--n", 2)])
def test_an_animation_comes_beside_any_picture(how, tmp_path):
    sample = ("sample", "digits", "--steps", 2, *how, "--frames", "gif", "apng")
    assert run(*sample, "--out", tmp_path / "x.png") == 0
    for kind in ("gif", "apng"):
        with Image.open(tmp_path / f"x.{kind}") as film:
            assert film.n_frames == 3


def test_again_refuses_what_was_made_of_another_picture(picture, tmp_path, capsys):
    faces = tmp_path / "faces"
    faces.mkdir()
    for name in ("b.png", "c.png"):
        (faces / name).write_bytes(picture.read_bytes())
    edit = ("edit", "portraits", faces, "--strength", 0.4, "--steps", 2, "--n", 1)
    assert run(*edit, "--out", tmp_path / "drawn") == 0
    drawn = tmp_path / "drawn" / "b.png"
    assert run("again", drawn, "--out", tmp_path / "x.png") == 0
    (faces / "a.png").write_bytes(picture.read_bytes())
    assert run("again", drawn, "--out", tmp_path / "y.png") == 2
    assert "made of b.png, in whose place there is a.png" in capsys.readouterr().err
    assert not (tmp_path / "y.png").exists()


def test_what_is_read_is_never_replaced(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (2, 1), "red").save("colours.png")
    before = (tmp_path / "colours.png").read_bytes()
    one = ("sample", "portraits", "--n", 1, "--steps", 1, "--palette", "colours.png")
    assert run(*one, "--out", "colours.png") == 2
    assert "is read by this command" in capsys.readouterr().err
    assert (tmp_path / "colours.png").read_bytes() == before


def test_a_picture_called_sheet_and_a_sheet_do_not_meet(picture, tmp_path, capsys):
    faces = tmp_path / "faces"
    faces.mkdir()
    for name in ("sheet.png", "z.png"):
        (faces / name).write_bytes(picture.read_bytes())
    edit = ("edit", "portraits", faces, "--strength", 0.4, "--steps", 2, "--n", 1, "--sheet")
    assert run(*edit, "--out", tmp_path / "drawn") == 2
    assert "two results would be called" in capsys.readouterr().err


def test_a_picture_of_a_seed_alone_has_the_label_that_it_has_among_all(tmp_path):
    assert run("sample", "digits", "--steps", 1, "--out", tmp_path / "all") == 0
    assert run("sample", "digits", "--steps", 1, "--seed", "0:40", "--out", tmp_path / "one") == 0
    (one,) = (tmp_path / "one").iterdir()
    assert texts(one)["Labels"] == texts(tmp_path / "all" / "digits_0-040.png")["Labels"]


def test_no_home_folder_in_any_word(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    words = ["alphabet", f"A={tmp_path}/a.png", f"--like={tmp_path}/x.png", "--label", "a=b/c"]
    said = results.command(words)
    assert str(tmp_path) not in said and "A=~/a.png" in said and "a=b/c" in said
    assert results._placed(f"{tmp_path}/mine.npz") == "~/mine.npz"


def test_a_palette_that_is_full_is_refused_in_a_line():
    palette = np.arange(768).reshape(256, 3).astype(np.uint8)
    image, clear = data.to_float(palette[None, :4]), np.zeros((1, 4), np.uint8)
    assert results._as_picture(image, None, palette, 1).mode == "P"
    with pytest.raises(UsageError, match="room for 255"):
        results._as_picture(image, clear, palette, 1)
