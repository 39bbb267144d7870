"""The judge of a user's own pictures: what it learns, what few can tell, where it is kept."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tinydiff import augment, checkpoint, data
from tinydiff.app import cli, judges, own
from tinydiff.collect import cache
from tinydiff.data import Dataset, Pixels
from tinydiff.design.pipeline import Pipeline
from tinydiff.measure import classifier, evaluate, metrics, pretext


def blobs(count, size=8, seed=0):
    """Draw a bright square on dark, in one of four corners -> (count, size, size, 3), corners"""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 60, (count, size, size, 3), dtype=np.uint8)
    corner, half = np.arange(count) % 4, size // 2
    for image, k in zip(x, corner, strict=True):
        image[k // 2 * half :][:half, k % 2 * half :][:, :half] += 150
    return x, corner


def some_set(count, held_out=0, labels=None, size=8):
    """Make a Dataset of blobs; labels: {"corner": four values} and others, all rows the corner"""
    x, corner = blobs(count + held_out, size)
    rows = np.stack([corner] * len(labels), axis=1) if labels else np.zeros((len(x), 0), int)
    parts = Pixels(x, np.arange(count)), Pixels(x, np.arange(count, len(x)))
    return Dataset("blobs", *parts, rows[:count], rows[count:], labels or {})


CORNERS = {"corner": ["nw", "ne", "sw", "se"]}


def judge(dataset, steps=60):
    weights, meta = pretext.learn(dataset, steps, 0)
    return classifier.unpacked(weights, meta), meta


# --- what it learns ---


def test_turned_by_hand():
    x = np.arange(4.0).reshape(1, 2, 2, 1).repeat(8, 0)
    seen = pretext.turned(x, np.arange(8)).reshape(8, 4).astype(int).tolist()
    assert seen[0] == [0, 1, 2, 3] and seen[1] == [1, 3, 0, 2] and seen[2] == [3, 2, 1, 0]
    assert seen[4] == [1, 0, 3, 2] and len({tuple(row) for row in seen}) == 8


def test_groups_are_of_similar_pictures():
    x, corner = blobs(64)
    group, count = pretext.groups(Pixels(x), np.random.default_rng(0))
    assert count == 8
    for k in range(count):
        assert len(set(corner[group == k])) <= 1
    assert pretext.groups(Pixels(x[:3]), np.random.default_rng(0))[1] == 1


def test_labels_are_learned_and_those_that_are_open_teach_nothing():
    """Half of the labels are unknown; a label with a single value is no choice."""
    labels = CORNERS | {"only": ["this"]}
    dataset = some_set(60, 40, labels)
    dataset.train_labels[::2, 0], dataset.test_labels[::2, 0] = 4, 4
    dataset.train_labels[:, 1] = dataset.test_labels[:, 1] = 0
    model, meta = judge(dataset, 150)
    assert meta["tasks"] == {"turn": 8, "group": 7} and meta["labels"] == labels
    yardstick = evaluate.Yardstick(model, dataset, 30, np.random.default_rng(0))
    assert set(yardstick.floor["agreement"]) == {"corner"}
    assert yardstick.floor["agreement"]["corner"] > 0.9
    right = pytest.approx(meta["held_out"]["corner"], abs=0.06)
    assert yardstick.floor["agreement"]["corner"] == right
    wrong = yardstick.measure(dataset.test[:], (dataset.test_labels + 1) % 4)
    assert wrong["agreement"]["corner"] < 0.4  # an open one, 4 + 1, is read as 1 here
    assert "read their labels" in pretext.in_words(meta, 60)


def test_accuracy_leaves_out_what_is_not_known(rng):
    model = classifier.Classifier(8, 1, (3, 2), width=8, rng=rng)
    images = rng.normal(size=(9, 8, 8, 1)).astype(np.float32)
    read = [scores.argmax(1) for scores in model(images)]
    labels = np.stack([read[0], np.full(9, 2)], axis=1)
    labels[:3, 0] = 3
    labels[3, 0] = (labels[3, 0] + 1) % 3
    right = classifier.accuracy(model, images, labels, batch=4)
    assert right[0] == pytest.approx(5 / 6) and np.isnan(right[1])
    assert classifier.accuracy(model, images, labels[:, :0]).shape == (0,)


def test_blocks_of_pixels_lose_nothing(rng):
    x = rng.normal(size=(2, 4, 8, 3))
    y = classifier.blocks(x, 2)
    assert y.shape == (2, 2, 4, 12)
    assert np.array_equal(y[1, 1, 2], x[1, 2:4, 4:6].ravel())
    sides = {8: 1, 16: 1, 32: 1, 48: 1, 64: 2, 68: 1, 128: 2}
    for size, block in sides.items():
        assert classifier.Classifier(size, 1, (2,), width=8, rng=rng).block == block, size


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 64])
def test_larger_pictures_are_read(size):
    dataset = some_set(200, 60, CORNERS, size)
    _, meta = judge(dataset, 100)
    assert meta["held_out"]["corner"] > 0.95


# --- what few pictures can tell ---


@pytest.mark.parametrize("count, left", [(2, 0), (3, 0), (10, 1), (24, 1), (100, 6), (130, 7)])
def test_few_pictures_tell_what_few_can(count, left):
    """None is held out: each training picture is compared with all others."""
    dataset = some_set(count)
    model, meta = judge(dataset, 2)
    yardstick = evaluate.Yardstick(model, dataset, count // 2, np.random.default_rng(0))
    assert len(yardstick.labels) == max(64, count // 2)
    known = [name for name in evaluate.SCORES if name in yardstick.floor]
    assert len(known) == left and yardstick.floor["agreement"] == {}
    copies = yardstick.measure(dataset.train[np.arange(64) % count], yardstick.labels[:64])
    assert set(copies) - {"colours"} == {*known, "memorisation", "copies", "agreement"}
    assert copies["memorisation"] == 0 and copies["copies"] == 1
    assert np.isfinite([value for value in copies.values() if value != {}]).all()
    assert yardstick.floor["copies"] < 0.1
    assert json.dumps(copies | yardstick.floor, allow_nan=False)


def test_energy_by_hand():
    real, fake = np.array([[0.0], [1.0]]), np.array([[2.0], [4.0], [5.0]])
    between, within = (2 + 4 + 5 + 1 + 3 + 4) / 6, 1 + (2 + 3 + 1) / 3
    assert metrics.energy(real, fake) == pytest.approx(2 * between - within, rel=1e-6)
    x = np.random.default_rng(0).normal(size=(2, 400, 8))
    assert abs(metrics.energy(*x)) < 0.02 < 0.2 < metrics.energy(x[0], x[1] + 0.5)


def test_pictures_that_are_all_alike_have_no_usual_distance():
    dataset = some_set(12)
    same = replace(dataset, train=Pixels(np.repeat(dataset.train.raw[:1], 12, axis=0)))
    yardstick = evaluate.Yardstick(judge(same, 2)[0], same, 6, np.random.default_rng(0))
    row = yardstick.measure(dataset.train[:], yardstick.labels[:12])
    assert "memorisation" not in row and "memorisation" not in yardstick.floor
    assert row["copies"] == 1 / 12 and yardstick.floor["copies"] == 1


def test_nearest_in_parts_is_nearest_at_once(rng, monkeypatch):
    a, b = (rng.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8) for n in (7, 11))
    whole = metrics.nearest(data.to_float(a), data.to_float(b))
    apart = metrics.nearest(data.to_float(b), data.to_float(b), np.arange(11))
    monkeypatch.setattr(metrics, "NUMBERS", 3 * 48)
    parts = metrics.nearest(Pixels(a), Pixels(b))
    parts_apart = metrics.nearest(Pixels(b), Pixels(b), np.arange(11))
    for found, expected in ((parts, whole), (parts_apart, apart)):
        assert np.allclose(found[0], expected[0], rtol=1e-12, atol=0)
        assert np.array_equal(found[1], expected[1])
    assert (apart[0] > 0).all() and (apart[1] != np.arange(11)).all()
    assert (metrics.nearest(Pixels(b), Pixels(b))[0] == 0).all()


@pytest.mark.slow
def test_a_large_set_is_not_converted_as_a_whole():
    import tracemalloc

    many = Pixels(np.zeros((60_000, 32, 32, 3), np.uint8))
    many.pixels[:, 0] = np.random.default_rng(0).integers(0, 256, (60_000, 32, 3))
    tracemalloc.start()
    distance, index = metrics.nearest(many[59_990:], many)
    pretext.groups(many, np.random.default_rng(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert index.tolist() == list(range(59_990, 60_000)) and (distance == 0).all()
    assert peak < 300e6


# --- where it is kept ---


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Make a model of 24 labelled pictures, as `train` leaves it -> its path, as a text"""
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(judges.train, "__defaults__", (3, 0))
    monkeypatch.chdir(tmp_path)
    for image, (i, k) in zip(*[blobs(24)[0], enumerate(blobs(24)[1])], strict=True):
        folder = tmp_path / "set" / CORNERS["corner"][k]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    dataset, about = own.pictures(tmp_path / "set", 8)
    network = {"size": 8, "channels": 3, "width": 8, "multipliers": [1], "depth": 1}
    meta = {"dataset": "set", "labels": dataset.labels, "pictures": about}
    meta |= {"model": network | {"classes": [4]}, "schedule": {"kind": "cosine", "T": 8}}
    run, _ = checkpoint.build(meta, 0)
    checkpoint.save(tmp_path / "set.npz", run, meta)
    return "set.npz"


SHORT = "--samplers dpmpp_2m:1 dpmpp_2m:2 --out e.png".split()


def test_evaluate_trains_the_judge_once(model, tmp_path, capsys):
    assert cli.main(["evaluate", model, *SHORT]) == 0
    out = capsys.readouterr().out
    assert "set_judge.npz: the judge, trained on these pictures; it is used again" in out
    assert "- read as asked:" in out and "rightly: too few are held out" in out
    assert "- nearly copies of yours: 0%" in out
    assert "- left out, as it takes 128 pictures: frechet\n" in out
    assert "- left out, as it takes 64 pictures: kernel, precision, recall, density, cov" in out
    assert "for 3 steps, to read their labels" in out and "- colours of a picture: " in out
    assert (
        "distance of the distributions for few pictures" in " ".join(out.split())
        and "frechet: distance" not in out
    )
    Image.open(tmp_path / "e.png").verify()
    before = (tmp_path / "set_judge.npz").read_bytes()
    assert cli.main(["evaluate", model, *SHORT, "--json"]) == 0
    found = capsys.readouterr()
    numbers = json.loads(found.out)
    assert numbers["n"] == 11 and numbers["drawn"] == 64
    assert "trained on these pictures before" in found.err
    assert (tmp_path / "set_judge.npz").read_bytes() == before
    table = out.split("\n\n")[1]
    real, first = numbers["real"], numbers["samplers"][0]
    assert f"{real['energy']:.3g}" in table and f"{first['memorisation']:.3g}" in table


def test_variants_that_the_network_saw_count_as_copies(model, monkeypatch, capsys):
    _, _, meta = checkpoint.load(model)
    meta["train"] = {"flip": True, "shift": 1}
    meta["model"]["told"] = augment.told(True, 1)
    checkpoint.save(model, checkpoint.build(meta, 0)[0], meta)
    flipped = lambda x: augment.change(x, np.tile([1, 2, 0], (len(x), 1)), 1)
    before = own.of_model(model, Pipeline.load(model))[0].train
    draw = lambda self, labels, *_, **how: [flipped(before[np.arange(len(labels)) % 22])]
    monkeypatch.setattr(Pipeline, "draw", draw)
    assert cli.main(["evaluate", model, *SHORT]) == 0
    assert "- nearly copies of yours: 100% (real pictures: 0%)" in capsys.readouterr().out


def test_edit_asks_the_judge_what_a_picture_shows(model, tmp_path, capsys):
    change = f"edit {model} set/nw/0.png --change kind=ne --n 1 --steps 2 --out x.png".split()
    assert cli.main(change) == 0
    out = capsys.readouterr().out
    assert f"`evaluate {model}` trains one" in out and "before: kind=?" in out
    assert cli.main(["judge", "set", "--size", "8", "--steps", "300", "--out", "."]) == 0
    capsys.readouterr()
    assert cli.main(change) == 0
    assert "before: kind=nw\nwanted: kind=ne\n" in capsys.readouterr().out


def test_a_judge_of_other_pictures_stays_and_is_not_used(model, tmp_path, capsys):
    assert cli.main(["judge", "set", "--size", "8", "--steps", "1", "--out", "."]) == 0
    judge = (tmp_path / "set_judge.npz").read_bytes()
    (tmp_path / "set" / "ne" / "1.png").write_bytes((tmp_path / "set/nw/0.png").read_bytes())
    (tmp_path / "cache").rename(tmp_path / "gone")
    capsys.readouterr()
    assert cli.main(["evaluate", model, *SHORT]) == 0
    said = "set_judge.npz judges other pictures, and stays: the judge is not kept unless that is"
    assert said in (out := capsys.readouterr().out) and "it is used again" not in out
    assert (tmp_path / "set_judge.npz").read_bytes() == judge


def test_what_is_no_judge_stays(model, tmp_path, capsys):
    (tmp_path / "set_judge.npz").write_bytes(b"mine")
    assert cli.main(["evaluate", model, *SHORT]) == 0
    assert "set_judge.npz holds something else, and stays: the judge" in capsys.readouterr().out
    assert (tmp_path / "set_judge.npz").read_bytes() == b"mine"


def test_pictures_that_are_gone_are_asked_for(model, tmp_path, capsys):
    (tmp_path / "cache").rename(tmp_path / "gone")
    (tmp_path / "set").rename(tmp_path / "moved")
    assert cli.main(["evaluate", model, *SHORT]) == 2
    line = capsys.readouterr().err.strip()
    assert line.endswith("which are not there: name them with --pictures PATH")
    assert line.count("\n") == 0
    assert cli.main(["evaluate", model, *SHORT, "--pictures", "moved", "--n", "64"]) == 0
    assert "In words" in capsys.readouterr().out
    assert cli.main(["evaluate", "digits", *SHORT, "--pictures", "moved"]) == 2
    assert "--pictures is for models of your own pictures" in capsys.readouterr().err
    (tmp_path / "moved" / "nw").rename(tmp_path / "moved" / "upper left")
    assert cli.main(["evaluate", model, *SHORT, "--pictures", "moved"]) == 2
    assert "set.npz has other labels than the images of moved" in capsys.readouterr().err
