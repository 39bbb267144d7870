"""What a judge reads of what was asked for, and the best of several tries."""

import numpy as np
import pytest
from PIL import Image

from tinydiff import checkpoint, data
from tinydiff.app import cli, judges, reached
from tinydiff.design.pipeline import Pipeline, parse_labels

LABELS = {"hat": ["none", "red", "blue"], "mouth": ["happy", "sad"]}


def asked(wished="", avoided=""):
    rows = [parse_labels(LABELS, words.split()) for words in (wished, avoided)]
    return reached.Asked(LABELS, *rows)


def reading(hats, mouths):
    return [np.log(np.array(hats, float)), np.log(np.array(mouths, float))]


THREE = reading(
    [[0.1, 0.8, 0.1], [0.7, 0.2, 0.1], [0.3, 0.5, 0.2]], [[0.9, 0.1]] * 2 + [[0.2, 0.8]]
)


def test_what_is_asked_for_is_said_as_it_was_typed():
    assert str(asked("hat=red mouth=sad", "hat=none")) == "hat=red mouth=sad, not hat=none"
    assert str(asked("", "mouth=sad")) == "not mouth=sad"
    assert asked("hat=red") and asked("", "hat=red") and not asked()


def test_pictures_are_rated_by_all_that_is_asked_for():
    both = asked("hat=red mouth=happy").log_p(THREE)
    np.testing.assert_allclose(np.exp(both), [0.8 * 0.9, 0.2 * 0.9, 0.5 * 0.2])
    without = asked("mouth=happy", "hat=red").log_p(THREE)
    np.testing.assert_allclose(np.exp(without), [0.9 * 0.2, 0.9 * 0.8, 0.2 * 0.5])


def test_what_is_missed_is_named_by_what_is_there_instead():
    assert asked("hat=red mouth=happy").missed(THREE) == ["", "hat=none", "mouth=sad"]
    assert asked("", "hat=red mouth=sad").missed(THREE) == ["hat=red", "", "hat=red mouth=sad"]
    assert list(asked("hat=red").met(THREE)) == [True, False, True]
    assert asked("hat=red").shown(THREE) == ["hat=red", "hat=none", "hat=red"]


def test_the_best_of_each_so_many_stays():
    assert list(reached.best(np.array([-3, -1, -2, -5, -5, -9.0]), 3)) == [1, 3]
    assert list(reached.best(np.array([-3, -1.0]), 1)) == [0, 1]


def test_one_line_says_how_many_and_which_not():
    said = reached.line(asked("hat=red"), THREE, ["a", "b", "c"], "try more")
    assert (
        said == "hat=red: reached in 2 of 3, as the judge reads them; not in b (hat=none): try more"
    )
    many = [np.log(np.tile([0.7, 0.2, 0.1], (6, 1))), np.log(np.full((6, 2), 0.5))]
    said = reached.line(asked("hat=blue"), many, list("abcdef"), "try more")
    assert "reached in 0 of 6" in said and "d (hat=none) and 2 more: try more" in said
    assert "not in" not in reached.line(asked("hat=none"), many, list("abcdef"), "try more")


def test_a_reading_holds_probabilities_of_all_labels():
    pipe = Pipeline.load("portraits")
    read = judges.reader("portraits", pipe)(data.load("portraits").test[:40])
    assert [log_p.shape for log_p in read] == [(40, len(v)) for v in pipe.labels.values()]
    assert all(np.allclose(np.exp(log_p).sum(1), 1) for log_p in read)
    hats = data.load("portraits").test_labels[:40, 0]
    assert (read[0].argmax(1) == hats).mean() > 0.95


# --- the commands ---


def sample(*words):
    return cli.main(["sample", "digits", "--steps", "2", "--label", "7", *map(str, words)])


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture), picture.text


def test_of_several_tries_the_likeliest_is_written(tmp_path, capsys):
    assert sample("--n", 2, "--tries", 3, "--out", tmp_path / "best") == 0
    assert "digit=7: reached in" in capsys.readouterr().out
    streams = [f"0:{k + 10_000 * again}" for k in (0, 1) for again in range(3)]
    assert sample("--seed", *streams, "--out", tmp_path / "all") == 0
    drawn = [pixels(tmp_path / "all" / f"digits_0-{int(s[2:]):03}.png")[0] for s in streams]
    read = judges.reader("digits", Pipeline.load("digits"))
    log_p = read(data.to_float(np.stack(drawn))[..., None])[0][:, 7]
    for k in (0, 1):
        best = 3 * k + log_p[3 * k : 3 * k + 3].argmax()
        image, texts = pixels(tmp_path / "best" / f"digits_0-00{k}.png")
        assert np.array_equal(image, drawn[best]) and texts["Seed"] == streams[best]
        assert texts["Read"].startswith("digit=")


def test_one_try_changes_no_byte(tmp_path, monkeypatch):
    assert sample("--n", 3, "--out", tmp_path / "a.png") == 0
    monkeypatch.setattr(judges, "reader", lambda *_: lambda x: pytest.fail("not of one try"))
    monkeypatch.setattr(reached, "reader", lambda *_: None)
    assert sample("--n", 3, "--tries", 1, "--out", tmp_path / "b.png") == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_tries_need_a_wish_and_a_judge(tmp_path, monkeypatch, capsys):
    assert cli.main(["sample", "digits", "--tries", "2", "--out", f"{tmp_path}/a.png"]) == 2
    assert "name it with --label" in capsys.readouterr().err

    def none(name):
        raise checkpoint.CheckpointError("there is no judge")

    monkeypatch.setattr(judges.classifier, "load", none)
    assert sample("--tries", 2, "--out", tmp_path / "a.png") == 2
    assert "--tries keeps what the judge reads as asked for: there is no" in capsys.readouterr().err
    assert sample("--n", 1, "--out", tmp_path / "a.png") == 0
    assert "reached" not in capsys.readouterr().out


def test_an_edit_says_what_it_reached_and_keeps_the_best(tmp_path, capsys):
    face = data.load("portraits").test[3]
    Image.fromarray(data.to_uint8(face)).save(tmp_path / "face.png")
    edit = ["edit", "portraits", f"{tmp_path}/face.png", "--change", "hat=red", "--steps", "3"]
    assert cli.main([*edit, "--n", "4", "--out", f"{tmp_path}/all"]) == 0
    assert "hat=red: reached in " in capsys.readouterr().out
    assert cli.main([*edit, "--n", "1", "--tries", "4", "--out", f"{tmp_path}/best"]) == 0
    drawn = [pixels(tmp_path / "all" / f"face_0-00{k}.png")[0] for k in range(4)]
    read = judges.reader("portraits", Pipeline.load("portraits"))
    best = read(data.to_float(np.stack(drawn)))[0][:, 6].argmax()
    assert np.array_equal(pixels(tmp_path / "best" / "face.png")[0], drawn[best])
