"""Several pictures and folders in, a folder out; transparency, masks and holes on the way."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tinydiff import data
from tinydiff.app import batch, clear, results
from tinydiff.app.cli import main
from tinydiff.design.pipeline import Pipeline
from tinydiff.streams import Alike

QUICK = ["--strength", "0.4", "--steps", "2"]


def face(i, side=16):
    """A portrait cut out of its background -> (side, side, 4) uint8"""
    pixels = data.to_uint8(data.load("portraits").test[i])
    alpha = np.where(np.abs(pixels - pixels[0, 0].astype(int)).max(-1) > 2, 255, 0)
    alpha[4:14, 4:12] = 255
    k = side // 16
    return np.dstack([pixels, alpha]).astype(np.uint8).repeat(k, 0).repeat(k, 1)


def save(pixels, path):
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(pixels).save(path)
    return path


def pixels(path):
    return np.asarray(Image.open(path).convert("RGBA"))


@pytest.fixture
def folder(tmp_path):
    """Three portraits, one in a folder of its own, and two files that are none."""
    for i, name in enumerate(("a", "b", "nested/c")):
        save(face(i), tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "broken.png").write_text("no picture")
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    return tmp_path / "in"


def run(*words):
    return main([str(word) for word in words])


def test_a_folder_comes_out_with_its_names_and_each_as_it_would_alone(folder, tmp_path, capsys):
    assert run("edit", "portraits", folder, *QUICK, "--n", 1, "--out", tmp_path / "out") == 2
    said = capsys.readouterr()
    written = sorted(
        p.relative_to(tmp_path / "out").as_posix() for p in tmp_path.rglob("out/**/*.png")
    )
    assert written == ["a.png", "b.png", "nested/c.png"]
    assert (
        said.err.count("left out") == 3 and f"1 of 4 pictures were left out: {folder}" in said.err
    )
    assert "broken.png is not a picture" in said.err and "as no pictures: 1 .txt" in said.err
    alone = tmp_path / "alone"
    assert run("edit", "portraits", folder / "nested/c.png", *QUICK, "--n", 1, "--out", alone) == 0
    assert (pixels(alone / "c.png") == pixels(tmp_path / "out/nested/c.png")).all()
    assert (pixels(alone / "c.png") != face(2)).any()
    once_more = tmp_path / "again.png"
    assert run("again", tmp_path / "out/nested/c.png", "--out", once_more) == 0
    assert (pixels(alone / "c.png") == pixels(once_more)).all()


def test_what_was_drawn_into_a_folder_goes_on_without_its_sheet(tmp_path, capsys):
    drawn = tmp_path / "drawn"
    sample = ["sample", "portraits", "--n", "2", "--steps", "1", "--sheet", "--out", str(drawn)]
    assert main(sample) == 0 and (drawn / "sheet.png").exists()
    assert main(["edit", "portraits", str(drawn), *QUICK, "--n", "1", "--out", f"{drawn}2"]) == 0
    assert [source.name for source in batch.sources([drawn])] == [
        "portraits_0-000",
        "portraits_0-001",
    ]
    assert len(list((tmp_path / "drawn2").iterdir())) == 2
    assert f"{drawn}: left out, as sheets: 1 picture\n" in capsys.readouterr().err


def test_names_that_meet_are_told_apart(tmp_path):
    names = ["x/a.png", "y/a.png", "a.jpg", "B.png", "b.png"]
    found = [one.name for one in batch.sources([tmp_path / name for name in names])]
    assert found == ["a", "a_2", "a_3", "B", "b_2"]


def test_a_folder_is_not_written_into_itself(folder, capsys):
    assert run("edit", "portraits", folder, *QUICK, "--out", folder / "out") == 2
    assert "whose pictures are read: give --out a folder elsewhere" in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_pictures_of_which_none_can_be_used_are_refused(tmp_path, capsys):
    (tmp_path / "a.png").write_text("")
    (tmp_path / "none").mkdir()
    words = ["edit", "portraits", tmp_path / "a.png", tmp_path / "b.png", *QUICK]
    assert run(*words, "--out", tmp_path / "out") == 2
    assert "none of these 2 pictures can be used" in capsys.readouterr().err
    assert run("edit", "portraits", tmp_path / "none", *QUICK, "--out", tmp_path / "out") == 2
    assert "has no pictures: give PNG or JPEG" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_memory_decides_how_many_are_drawn_together_and_changes_nothing(
    folder, tmp_path, monkeypatch
):
    words = ["edit", "portraits", folder / "a.png", folder / "b.png", *QUICK, "--n", 2]
    assert run(*words, "--out", tmp_path / "one") == 0
    whole = Pipeline.pieces
    monkeypatch.setattr(Pipeline, "pieces", lambda self, x, size=None: whole(self, x, size, 3))
    assert run(*words, "--out", tmp_path / "two") == 0
    names = {p.name for p in (tmp_path / "one").iterdir()}
    assert names == {f"{x}_0-00{k}.png" for x in "ab" for k in (0, 1)}
    assert all((pixels(tmp_path / "one" / n) == pixels(tmp_path / "two" / n)).all() for n in names)


def test_each_picture_of_a_batch_has_the_same_noise():
    draw = lambda rng, n: rng.standard_normal((n, 2, 3), np.float32)
    z = draw(Alike(np.random.default_rng(5), 3), 6)
    alone = draw(np.random.default_rng(5), 2)
    assert all((z[i : i + 2] == alone).all() for i in (0, 2, 4))
    with pytest.raises(ValueError, match="images of 3 pictures, as many of each"):
        draw(Alike(np.random.default_rng(5), 3), 5)


def test_what_shows_the_wish_already_comes_out_as_it_is(tmp_path, capsys):
    faces = data.load("portraits")
    hats = [faces.labels["hat"][k] for k in faces.test_labels[:9, 0]]
    i, j = hats.index("none"), next(i for i, hat in enumerate(hats) if hat != "none")
    words = ["edit", "portraits", "--steps", 2, "--change", f"hat={hats[j]}"]
    words += ["--out", tmp_path / "out"]
    words[2:2] = [save(face(k)[..., :3], tmp_path / f"{k}.png") for k in (i, j)]
    assert run(*words) == 0
    said = capsys.readouterr().out
    assert f"{i}.png: hat=none, to be hat={hats[j]}\n" in said
    assert f"{j}.png: shows this already: it stays\n" in said
    same = [(pixels(tmp_path / f"out/{k}.png") == pixels(tmp_path / f"{k}.png")) for k in (i, j)]
    assert not same[0].all() and same[1].all()


# --- transparency ---


def test_transparent_in_transparent_out(tmp_path):
    """Where the mask keeps the picture, colour and alpha stay, to the bit."""
    given = face(3)
    mask = np.zeros((16, 16), np.uint8)
    mask[:, 8:] = 255
    save(given, tmp_path / "a.png"), save(mask, tmp_path / "m.png")
    words = ["edit", "portraits", tmp_path / "a.png", "--mask", tmp_path / "m.png"]
    words += ["--rounds", 1, "--steps", 3, "--n", 2, "--out", tmp_path / "out"]
    assert run(*words) == 0
    for path in (tmp_path / "out").iterdir():
        drawn = pixels(path)
        left = given[:, :8]
        assert (drawn[:, :8, 3] == left[..., 3]).all()
        assert (drawn[:, :8] == left)[left[..., 3] > 0].all() and (drawn != given).any()


def test_transparent_makes_one_colour_of_a_plain_background(tmp_path):
    words = ["sample", "portraits", "--label", "background=white", "--n", 4, "--transparent"]
    assert run(*words, "--out", tmp_path / "clear") == 0
    assert run(*words, "#ff00ff", "--out", tmp_path / "key") == 0
    for path in (tmp_path / "clear").iterdir():
        drawn, key = pixels(path), pixels(tmp_path / "key" / path.name)
        outside = drawn[..., 3] == 0
        assert 40 < outside.sum() < 160 and outside[0].mean() > 0.5
        assert len(np.unique(drawn[outside], axis=0)) == 1 and (drawn[~outside, 3] == 255).all()
        assert (key[outside] == [255, 0, 255, 255]).all() and (key == drawn)[~outside].all()
    assert run(*words, "--out", tmp_path / "x.png") == 0  # the overview has it, too
    assert set(np.unique(pixels(tmp_path / "x.png")[..., 3])) == {0, 255}


def test_a_colour_for_grey_pictures_is_refused(tmp_path, capsys):
    for colour, said in (("#ff00ff", "draws in grey"), ("pink", "a colour is written as")):
        words = ["sample", "digits", "--transparent", colour, "--out", tmp_path / "out"]
        assert run(*words) == 2 and said in capsys.readouterr().err


def test_letters_keep_their_ink(tmp_path):
    letter = np.zeros((32, 32, 4), np.uint8)
    letter[4:28, 12:20] = (20, 60, 200, 255)
    save(letter, tmp_path / "I.png")
    words = [
        "alphabet",
        f"I={tmp_path / 'I.png'}",
        "--n",
        1,
        "--steps",
        2,
        "--out",
        tmp_path / "out",
    ]
    assert run(*words) == 0
    drawn = pixels(tmp_path / "out" / "I.png")
    assert (drawn[..., :3] == (20, 60, 200)).all()
    assert (drawn[..., 3] == letter[..., 3]).all()  # as it was given: the others are 16 x 16
    assert pixels(tmp_path / "out" / "A.png").shape == (16, 16, 4)


@pytest.mark.parametrize("dataset, inside", [("digits", 0), ("fashion", 255)])
def test_a_loop_of_ink_is_clear_and_what_a_shape_encloses_is_not(dataset, inside):
    ring = np.full((1, 9, 9, 1), -1, np.float32)
    ring[0, 2:7, 2:7], ring[0, 4, 4] = 1, -1
    pipe, args = SimpleNamespace(dataset=dataset, pictures=None), SimpleNamespace(transparent=True)
    found = clear.cleared(args, pipe, results.Result(ring, ["a"], [{}], "", 1))
    assert found.alpha[0, 4, 4] == inside and found.alpha[0, 3, 3] == 255
    assert found.alpha[0, 0, 0] == 0 and found.bare[0, 3, 3] == 1


# --- masks and holes ---


def test_a_hole_is_filled_and_shown(tmp_path, capsys):
    given = face(4)
    given[6:10, 5:11] = 0
    path = save(given, tmp_path / "a.png")
    words = ["edit", "portraits", path, "--rounds", 1, "--steps", 2, "--n", 1, "--out"]
    assert run(*words, tmp_path / "x.png", "--mask") == 0
    assert "what is transparent and enclosed is its hole; 24 of 16 x 16" in capsys.readouterr().out
    sheet = pixels(tmp_path / "x.png")
    assert sheet.shape[1] == 6 * (3 * 17 + 1)
    hole = sheet[6 * 7 : 6 * 11, 6 * (18 + 5) : 6 * (18 + 11), :3]
    assert (hole == 128).all()
    assert run(*words, tmp_path / "out", "--mask", "hole") == 0
    drawn = pixels(tmp_path / "out" / "a.png")
    assert (drawn[6:10, 5:11, 3] == 255).all()
    drawn = np.delete(drawn, np.s_[6:10], axis=0)
    given = np.delete(given, np.s_[6:10], axis=0)
    assert (drawn[..., 3] == given[..., 3]).all()


def test_the_picture_itself_as_its_mask_means_its_hole(tmp_path, capsys):
    given = face(4)
    given[6:10, 5:11] = 0
    path = save(given, tmp_path / "a.png")
    words = ["edit", "portraits", path, "--rounds", 1, "--steps", 2, "--n", 1]
    assert run(*words, "--mask", path, "--out", tmp_path / "out") == 0
    assert "is its hole; 24 of 16 x 16 pixels" in capsys.readouterr().out


def test_an_edit_is_pasted_back_at_the_picture_s_own_size(tmp_path):
    """A kept half stays as fine as it was, the other changes in blocks of 4 x 4."""
    given = face(5, side=64)
    given[40:44:2, :32, 0] ^= 1  # finer than the model sees
    mask = np.zeros((16, 16), np.uint8)  # a fraction of its size
    mask[:, 8:] = 255
    path = save(given, tmp_path / "a.png")
    words = ["edit", "portraits", path, "--mask", save(mask, tmp_path / "m.png"), "--paste"]
    words += ["--rounds", 1, "--steps", 2, "--n", 1, "--out", tmp_path / "out"]
    assert run(*words) == 0
    drawn = pixels(tmp_path / "out" / "a.png")
    assert (drawn[:, :32] == given[:, :32]).all() and (drawn != given).any()
    blocks = drawn[:, 32:].reshape(16, 4, 8, 4, 4)
    assert (blocks == blocks[:, :1, :, :1]).all()


def test_pasting_is_refused_where_it_cannot_be_done(tmp_path, capsys):
    small, large = save(face(1), tmp_path / "a.png"), save(face(2, 32), tmp_path / "b.png")
    apart = ["edit", "portraits", small, large, *QUICK, "--paste", "--out", tmp_path / "x.png"]
    restored = ["edit", "portraits", small, "--restore", "blur", "--paste"]
    moving = ["edit", "portraits", small, *QUICK, "--paste", "--frames", "gif"]
    for words, said in (
        (apart, "as large as each was: give a folder as --out"),
        (restored, "leave out --restore and --frames"),
        (moving, "leave out --restore and --frames"),
    ):
        assert run(*words) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert said in line
    assert not (tmp_path / "x.png").exists()
