"""Pictures that a model cannot know are told from those that it does."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tinydiff import data, exact, schedule
from tinydiff.app import cli, known
from tinydiff.design.pipeline import Pipeline
from tinydiff.measure import strange

S = schedule.cosine(100)
KNOWN = np.random.default_rng(1).uniform(-1, 1, (12, 8, 8, 1))
MODEL = exact.dataset(S, KNOWN)


def strangeness(x, **how):
    return strange.strangeness(MODEL, S, x, np.random.default_rng(0), **how)


def test_a_perfect_model_errs_on_what_it_has_not_seen():
    others = np.random.default_rng(2).uniform(-1, 1, (12, 8, 8, 1))
    assert strangeness(KNOWN).max() < 1e-6 < 0.1 < strangeness(others).min()


def test_the_noise_of_a_picture_does_not_depend_on_those_beside_it():
    np.testing.assert_allclose(strangeness(KNOWN + 0.3)[5:6], strangeness(KNOWN[5:6] + 0.3))


def test_a_part_that_is_unknown_makes_no_picture_strange():
    painted = KNOWN.copy()
    painted[:, :3] = 0.9  # less than half: a median does not see it
    assert strangeness(painted).max() < 1e-2
    assert strangeness(np.full_like(KNOWN, 0.9)).min() > 0.1


def test_what_is_to_be_drawn_anew_does_not_count():
    hole = KNOWN.copy()
    hole[:, :3] = np.random.default_rng(3).uniform(-1, 1, (12, 3, 8, 1))
    stays = np.broadcast_to((np.arange(8) >= 3)[:, None], (12, 8, 8))
    assert (
        strangeness(hole, counts=stays).max() < 1e-2 < 0.1 < strangeness(hole, counts=~stays).min()
    )


def test_what_stands_out_is_not_of_the_borders_colour():
    x = np.full((2, 8, 8, 3), 0.5)
    x[0, 2:5, 3:6] = [0.5, 0.5, 0.2]
    x[1, 2:5, 3:6] += 0.05
    seen = strange.stands_out(x)
    assert seen[0].sum() == 9 and seen[0, 2:5, 3:6].all() and not seen[1].any()


def test_the_limit_is_some_times_what_nearly_all_stay_below():
    held_out = np.r_[np.full(199, 0.1), 5.0]
    assert strange.limit(held_out) == pytest.approx(strange.TIMES * 0.1)


def letter(c):
    picture = Image.new("RGB", (16, 16), "white")
    ImageDraw.Draw(picture).text((3, 0), c, fill="black", font_size=15)
    return data.to_float(np.asarray(picture))


@pytest.mark.slow
def test_letters_and_patterns_are_no_portraits_and_portraits_are(capsys):
    pipe, faces = Pipeline.load("portraits"), data.load("portraits").test[100:300]
    known.warn("portraits", pipe, faces, ["face"] * 200)
    known.warn("portraits", pipe, faces[:, :, ::-1], ["mirrored"] * 200)
    assert len(capsys.readouterr().err.splitlines()) <= 2 / 100 * 400
    others = np.concatenate([[letter(c) for c in "ABEGKMRSWX"], data.load("patterns").test[:20]])
    known.warn("portraits", pipe, others, ["other"] * 30)
    said = capsys.readouterr().err.splitlines()
    assert len(said) >= 0.9 * 30 and said[0].startswith(
        "other is unlike what portraits has learned"
    )


def test_a_strange_picture_is_said_once_and_drawn(tmp_path, capsys):
    Image.fromarray(data.to_uint8(letter("R"))).save(tmp_path / "r.png")
    words = ["edit", "portraits", f"{tmp_path}/r.png", "--strength", "0.3", "--n", "1"]
    assert cli.main([*words, "--steps", "3", "--out", f"{tmp_path}/e.png"]) == 0
    said = capsys.readouterr().err
    assert said.count("unlike what portraits has learned") == 1 and (tmp_path / "e.png").exists()


def test_without_pictures_to_compare_with_nothing_is_said(monkeypatch, capsys):
    monkeypatch.setattr(known, "_held_out", lambda pipe: np.zeros((3, 16, 16, 3), np.float32))
    known.warn("portraits", Pipeline.load("portraits"), letter("R")[None], ["r.png"])
    assert capsys.readouterr().err == ""
