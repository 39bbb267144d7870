"""One picture of a sheet to go on from, and of a seed."""

import json

import numpy as np
import pytest
from PIL import Image

from tinydiff import data
from tinydiff.app import cli, picked
from tinydiff.app.usage import UsageError
from tinydiff.design.pipeline import Pipeline

DIGITS = ("sample", "digits", "--steps", "2", "--n", "5", "--seed", "7")


@pytest.fixture(scope="module")
def digits():
    return Pipeline.load("digits")


@pytest.fixture
def sheets(tmp_path, capsys):
    """Five digits, as single pictures, as a sheet with its JSON, and as an overview"""
    kinds = (
        ["--out", "one"],
        ["--sheet", "--scale", "3", "--out", "sheet.png"],
        ["--out", "o.png"],
    )
    for how in kinds:
        assert cli.main([*DIGITS, *how[:-1], f"{tmp_path}/{how[-1]}"]) == 0
    capsys.readouterr()
    return tmp_path


def single(path):
    with Image.open(path) as picture:
        return data.to_float(np.asarray(picture))[None, ..., None]


@pytest.mark.parametrize("sheet", ["sheet.png", "o.png"])
def test_a_picture_of_a_sheet_is_found_to_the_bit(sheet, sheets, digits):
    for k in (0, 3, 4):
        x, said = picked.opened(f"{sheets}/{sheet}#{k}", digits)
        assert np.array_equal(x, single(sheets / "one" / f"digits_7-00{k}.png"))
        assert said.endswith(f"picture {k} of 5")


def test_what_is_no_picture_of_a_sheet_is_refused(sheets, digits):
    for name, said in (
        ("sheet.png#5", "5 pictures, counted from 0"),
        ("o.png", "name one, as"),
        ("one/digits_7-000.png#1", "leave out #1"),
    ):
        with pytest.raises(UsageError, match=said):
            picked.opened(f"{sheets}/{name}", digits)
    (sheets / "sheet.json").write_text(json.dumps({"frames": [{"frame": {"x": -1}}]}))
    with pytest.raises(UsageError, match=r"sheet.json does not say where"):
        picked.opened(f"{sheets}/sheet.png#1", digits)


def test_a_file_whose_name_has_a_number_is_a_file(sheets, digits):
    path = sheets / "one" / "digits_7-001.png"
    named = path.rename(sheets / "a.png#3")
    assert np.array_equal(picked.opened(str(named), digits)[0], single(named))


def test_originals_in_a_sheet_do_not_count(sheets, digits):
    page = json.loads((sheets / "sheet.json").read_text())
    page["frames"][0].pop("data")
    (sheets / "sheet.json").write_text(json.dumps(page))
    x, _ = picked.opened(f"{sheets}/sheet.png#0", digits)
    assert np.array_equal(x, single(sheets / "one" / "digits_7-001.png"))


def test_places_of_pictures_and_of_their_tries():
    assert picked.places(7, None, 2) == [(7, 0), (7, 1)]
    assert picked.places(7, None, 2, tries=2) == [(7, 0), (7, 10_000), (7, 1), (7, 10_001)]
    assert picked.places(7, [(8, 3), (9, 0)], 64) == [(8, 3), (9, 0)]
    assert picked.by_seed([(7, 3), (8, 0), (7, 1)]) == [(7, {3: 0, 1: 2}), (8, {0: 1})]


def test_one_picture_of_a_seed_is_drawn_alone(sheets, tmp_path):
    alone = ["sample", "digits", "--steps", "2", "--label", "3", "--out", f"{tmp_path}/alone"]
    assert cli.main([*alone, "--seed", "7:4", "9", "7:1"]) == 0
    all_ = [*DIGITS, "--label", "3", "--out", f"{tmp_path}/all"]
    assert cli.main(all_) == 0
    for k in (1, 4):
        name = f"digits_7-00{k}.png"
        apart = single(tmp_path / "alone" / name) - single(tmp_path / "all" / name)
        assert np.abs(apart).max() <= 2 / 255  # a batch of another size may round otherwise
    assert (tmp_path / "alone" / "digits_9-000.png").exists()


@pytest.mark.parametrize(
    "seeds, said",
    [
        ("7:3 7:3", "names one picture twice"),
        ("7: 3", "whole number from 0"),
        ("x:3", "takes a whole number"),
        ("7 8 --n 3", "leave out --n"),
    ],
)
def test_seeds_that_make_no_sense_are_refused(seeds, said, tmp_path, capsys):
    words = ["sample", "digits", "--seed", *seeds.split(), "--out", f"{tmp_path}/a.png"]
    assert cli.main(words) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_more_like_one_stays_near_it(sheets, capsys):
    like = ["sample", "digits", "--like", f"{sheets}/o.png#2", "--n", "4", "--label", "2"]
    apart = {}
    for strength in ("0.05", "0.9"):
        out = sheets / f"by_{strength[2:]}"
        assert cli.main([*like, "--strength", strength, "--out", str(out)]) == 0
        drawn = np.concatenate([single(out / f"digits_0-00{k}.png") for k in range(4)])
        first = single(sheets / "one" / "digits_7-002.png")
        apart[strength] = np.abs(drawn - first).mean()
    assert apart["0.05"] < 0.5 * apart["0.9"]
    assert "o.png: picture 2 of 5" in capsys.readouterr().out


def test_like_goes_with_pictures_of_the_models_own_size(tmp_path, capsys):
    for words in ("--like a.png --tile", "--like a.png --sampler heun", "--strength 0.3"):
        assert cli.main(["sample", "digits", *words.split(), "--out", f"{tmp_path}/a.png"]) == 2
        assert "--like" in capsys.readouterr().err
