"""What may be asked of a model: in words, as pictures, and skin tones as swatches."""

import numpy as np
from PIL import Image

from tinydiff import checkpoint, data
from tinydiff.app import cli, cmd_labels
from tinydiff.design.pipeline import Pipeline


def test_all_labels_and_values_are_listed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["labels", "portraits"]) == 0
    out = capsys.readouterr().out
    assert "asked for as --label hat=pink glasses=light" in out
    for name, values in Pipeline.load("portraits").labels.items():
        assert f"{name} " in out and ", ".join(values) in out
    assert not list(tmp_path.iterdir())


def test_each_value_is_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["labels", "digits", "--sheet"]) == 0
    assert "out/labels.png: 10 values" in capsys.readouterr().out
    with Image.open("out/labels.png") as picture:
        page = np.asarray(picture.convert("L"))
    assert (page < 40).sum() > 10 * 32 * 32  # ten digits, white on black
    assert cli.main(["labels", "digits", "--out", "x.jpg"]) == 2
    assert "PNG" in capsys.readouterr().err


def test_pictures_of_a_label_differ_in_it_alone(monkeypatch):
    drawn = []
    monkeypatch.setattr(Pipeline, "draw", _remembered(drawn))
    pipe = Pipeline.load("portraits")
    cmd_labels.draw(pipe, "skin", 0, 2)
    (labels,) = drawn
    k = list(pipe.labels).index("skin")
    assert list(labels[:, k]) == list(range(8))
    assert (np.delete(labels, k, 1) == np.delete(labels[0], k)).all()
    assert labels[0, 0] == pipe.labels["hat"].index("none")


def _remembered(drawn):
    def draw(self, labels, rng, *how, **more):
        drawn.append(labels)
        noise = rng.standard_normal((len(labels), 2, 2))
        assert (noise == noise[0]).all()
        return [noise]

    return draw


def test_swatches_are_of_the_places_that_differ():
    images = np.random.default_rng(0).uniform(-0.02, 0.02, (3, 8, 8, 3))
    colours = np.array([[255, 0, 0], [0, 200, 0], [0, 0, 100]])
    images[:, 2:6, 2:6] = data.to_float(colours.astype(np.uint8))[:, None, None]
    images[0, 0, 0], images[1, 0, 0] = 1, -1  # an outline that moves
    assert np.abs(cmd_labels.swatches(images).astype(int) - colours).max() <= 1


def test_skin_tones_are_those_of_the_portraits():
    faces, k = data.load("portraits"), 6
    pipe = Pipeline.load("portraits")
    found = cmd_labels.swatches(cmd_labels.draw(pipe, "skin", 0, 8)).astype(int)
    for value, colour in enumerate(found):
        shown = data.to_uint8(faces.test[faces.test_labels[:, k] == value])[:, 5:9, 5:11]
        colours, counts = np.unique(shown.reshape(-1, 3), axis=0, return_counts=True)
        assert np.abs(colours[counts.argmax()].astype(int) - colour).max() < 12


def other_model(path, labels):
    """A model of other labels than the digits', which has learned nothing"""
    meta = checkpoint.pretrained("digits")[2]
    classes = [len(values) for values in labels.values()]
    meta |= {"labels": labels, "model": {**meta["model"], "classes": classes}}
    run, *_ = checkpoint.build(meta, 0)
    checkpoint.export(path, run.ema, meta)
    return str(path)


def test_other_models_have_their_labels_listed_and_drawn(tmp_path, capsys):
    model = other_model(tmp_path / "own.npz", {"kind": ["bat", "orc"], "size": ["1", "2", "3"]})
    assert cli.main(["labels", model, "--out", f"{tmp_path}/x.png"]) == 0
    out = capsys.readouterr().out
    assert "--label kind=orc size=3\n  kind  bat, orc\n  size  1, 2, 3\n" in out
    assert "5 values" in out and (tmp_path / "x.png").exists()


def test_a_model_without_labels_says_so(tmp_path, capsys):
    model = other_model(tmp_path / "plain.npz", {})
    assert cli.main(["labels", model, "--sheet"]) == 0
    assert "takes no labels" in capsys.readouterr().out
