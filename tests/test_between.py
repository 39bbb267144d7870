"""The way from one picture to another."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from tinydiff import data
from tinydiff.app import cli


@pytest.fixture
def ends(tmp_path):
    """Two held-out digits as files"""
    test = data.load("digits").test
    for name, x in (("a", test[0]), ("b", test[1])):
        Image.fromarray(data.to_uint8(x)[..., 0]).save(tmp_path / f"{name}.png")
    return [f"{tmp_path}/{name}.png" for name in "ab"], test[:2, ..., 0]


def drawn(path):
    with Image.open(path) as picture:
        return data.to_float(np.asarray(picture)), picture.text


def test_the_ends_are_the_pictures_and_the_middle_lies_between(ends, tmp_path):
    files, (a, b) = ends
    assert cli.main(["between", "digits", *files, "--n", "5", "--out", f"{tmp_path}/way"]) == 0
    way = [drawn(tmp_path / "way" / f"a_b-00{k}.png") for k in range(5)]
    far = lambda x, y: np.sqrt(np.mean((x - y) ** 2))
    assert far(way[0][0], a) < 0.2 and far(way[4][0], b) < 0.2 < 0.3 < far(a, b)
    assert far(way[2][0], a) > far(way[1][0], a) and far(way[2][0], b) > far(way[3][0], b)
    assert way[1][1]["Share"] == "0.25" and way[1][1]["Source"] == "a and b"
    again = ["again", f"{tmp_path}/way/a_b-001.png", "--out", f"{tmp_path}/again.png"]
    assert cli.main(again) == 0
    assert np.array_equal(drawn(tmp_path / "again.png")[0], way[1][0])


def test_one_animation_goes_there_and_back(ends, tmp_path, capsys):
    files, _ = ends
    words = ["between", "digits", *files, "--n", "3", "--steps", "3", "--frames", "gif", "apng"]
    assert cli.main([*words, "--sheet", "--out", f"{tmp_path}/way"]) == 0
    names = {path.name for path in (tmp_path / "way").iterdir()}
    pictures = {f"a_b-00{k}.png" for k in range(3)}
    assert names == pictures | {"sheet.png", "sheet.json", "a_b.gif", "a_b.apng"}
    with Image.open(tmp_path / "way" / "a_b.apng") as film:
        frames = [np.asarray(f.convert("L")) for f in ImageSequence.Iterator(film)]
    assert frames[0].shape == (8, 8) and np.array_equal(frames[0], frames[-1])
    assert any((f != frames[0]).any() for f in frames)
    assert cli.main([*words, "--out", f"{tmp_path}/x.png"]) == 0
    assert (tmp_path / "x.gif").exists() and "there and back" in capsys.readouterr().out


def test_what_cannot_be_drawn_is_refused(ends, tmp_path, capsys):
    files, _ = ends
    out = ["--out", f"{tmp_path}/no.png"]
    assert cli.main(["between", "emoji", *files, *out]) == 2
    assert "give a model that draws on its own" in capsys.readouterr().err
    assert cli.main(["between", "digits", files[0], f"{tmp_path}/none.png", *out]) == 2
    assert "none.png" in capsys.readouterr().err
    assert cli.main(["between", "digits", *files, "--out", files[0]]) == 2
    assert "would be lost" in capsys.readouterr().err
    assert not (tmp_path / "no.png").exists()
