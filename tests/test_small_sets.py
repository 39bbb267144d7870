"""Few pictures: begun with a trained model, shown flipped and shifted, and copies counted."""

import os
import re
import signal
import tracemalloc

import numpy as np
import pytest
import test_look
from test_collect import save, sprites

from tinydiff import augment, checkpoint, data, train
from tinydiff.app import own
from tinydiff.collect import collection, network
from tinydiff.design.pipeline import Pipeline, parse_labels
from tinydiff.measure import copies
from tinydiff.unet import UNet

SMALL = test_look.SMALL
apart, faces, run = test_look.apart, test_look.faces, test_look.run  # fixtures
MORE = ["--lora", 2, "--flip", "--shift", 1]


@pytest.fixture
def source(run, tmp_path):
    """A model of other pictures, of 16 x 16, to start from -> its file"""
    for i, x in enumerate(sprites(12, 16, seed=3)):
        save(x, tmp_path / "others" / ["7", "hat"][i % 2] / f"{i}.png")
    run("train", tmp_path / "others", "--steps", 2, *SMALL, "--out", "first")
    return "first/others.npz"


def same(one, two):
    runs = [checkpoint.load(path)[0] for path in (one, two)]
    parts = [[a.tobytes() for a in (r.theta, r.ema, r.adam.m, r.adam.v)] for r in runs]
    return parts[0] == parts[1]


@pytest.mark.parametrize("more", [[], MORE], ids=["whole", "low rank"])
def test_a_training_from_a_model_is_resumed_bit_for_bit_and_draws_as_any(
    faces, source, run, more, monkeypatch
):
    begin = ["train", "faces", "--from", source, "--batch", 4, "--steps", 4, *more]
    run(*begin, "--out", "straight")
    real = train.train_step

    def stop_later(run, *args):
        if run.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return real(run, *args)

    with monkeypatch.context() as patch:
        patch.setattr(own, "say_plan", lambda *_, **__: None)
        patch.setattr(train, "train_step", stop_later)
        assert "stopped at step 2" in run(*begin, status=130)
    run("train", "faces", "--steps", 4, "--resume", "out/faces.npz")
    assert same("out/faces.npz", "straight/faces.npz")
    pipe = Pipeline.load("out/faces.npz")
    assert type(pipe.model) is UNet and pipe.labels == {"kind": ["7", "red hat"]}
    assert pipe.model.classes == (2,)
    run("export", "out/faces.npz", "small.npz")
    for model in ("out/faces.npz", "small.npz"):
        words = ["--n", 2, "--steps", 2, "--out", "a.png"]
        for wish in (["--label", "red hat"], ["--label", "kind=7", "--guidance", 2], ["--tile"]):
            run("sample", model, *wish, *words)
        run("edit", model, "faces/7/1.png", "--change", "red hat", "--label", "7", *words)
    told = run("sample", "out/faces.npz", "--label", "flip=1", status=2)
    assert "no label 'flip'; there are: kind" in told
    run("train", "faces", "--from", "small.npz", "--steps", 1, "--batch", 4, "--out", "again")
    assert checkpoint.load("again/faces.npz")[2]["train"]["start"] == "small.npz"


def test_it_begins_as_the_model_that_it_starts_from(faces, source, run):
    known, _, meta = checkpoint.load(source)
    known.ema += 0.1 * np.random.default_rng(0).standard_normal(known.ema.shape, np.float32)
    checkpoint.save(source, known, meta)
    run("train", "faces", "--from", source, "--steps", 1, "--lr", 1e-6, "--batch", 4)
    mine, its = Pipeline.load("out/faces.npz"), Pipeline.load(source)
    x = data.to_float(sprites(3, 8))
    for label in (0, 2):  # 7, which both know, and any
        one, two = (pipe.model(x, np.full(3, 9), np.full((3, 1), label)) for pipe in (mine, its))
        assert np.allclose(one, two, atol=1e-2)
    assert not np.allclose(its.model(x, np.full(3, 9), np.zeros((3, 1), int)), two, atol=1e-1)
    meta = checkpoint.load("out/faces.npz")[2]
    assert meta["train"]["start"] == source and meta["train"]["lr"] == 1e-6
    assert meta["schedule"] == checkpoint.load(source)[2]["schedule"]


REFUSED = {
    "faces --lora 4": "--lora changes a trained model: name one with --from",
    "faces --from nothing": "nothing cannot be read .*: give a file that `train` wrote",
    "faces --from emoji": "--from emoji: it redraws or completes what it is shown",
    "faces --from typefaces": "--from typefaces: it redraws or completes what it is shown",
    "faces --from digits --width 8": "--width: with --from the model that it starts from says",
    "faces --from digits --lora 65": "--lora: .*64.*65",
    "faces --size 36 --from portraits --lora 2 --shift 10": "--shift takes at most 9, a quarter",
    "faces --shift 3": "--shift takes at most 2, a quarter of 8 pixels; got 3",
    "faces --shift 0": "--shift: .*0",
    "emoji --flip": "--flip, --shift and --from are for single pictures, not for emoji",
    "typefaces --from digits": "--from are for single pictures, not for typefaces",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_makes_no_sense_is_refused_in_one_line(faces, run, words):
    err = run("train", *words.split(), "--steps", 1, status=2)
    assert len(err.splitlines()) == 1
    assert re.search(REFUSED[words], err)
    assert not (faces.parent / "out").exists()


def test_a_checkpoint_names_no_home_of_the_model_that_it_starts_from(
    faces, source, run, monkeypatch, tmp_path
):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "work" / "first").rename(tmp_path / "ada")
    begin = ["train", "faces", "--steps", 1, "--batch", 4, "--from", tmp_path / "ada/others.npz"]
    assert "begins with ~/ada/others.npz" in run(*begin)
    assert checkpoint.load("out/faces.npz")[2]["train"]["start"] == "~/ada/others.npz"
    monkeypatch.setenv("HOME", str(tmp_path / "eve"))
    run(*begin, "--force")
    assert checkpoint.load("out/faces.npz")[2]["train"]["start"] == "others.npz"


def test_a_size_that_the_model_cannot_halve_is_refused(faces, run):
    save_at = ["--size", 8, "--steps", 1, *SMALL[:2], "--out", "first"]
    run("train", "faces", *save_at)
    path = faces.parent / "first" / "faces.npz"
    _, _, meta = checkpoint.load(path)
    meta["model"] |= {"multipliers": [1, 1, 1, 1], "size": 8}
    built, _ = checkpoint.build(meta, 0)
    checkpoint.save("deep.npz", built, meta)
    err = run("train", "faces", "--size", 12, "--from", "deep.npz", "--steps", 1, status=2)
    assert "--from: images of side 12 cannot be halved 3 times" in err


@pytest.mark.parametrize("words", [["--flip"], ["--shift", 2], ["--lora", 2], ["--from", "digits"]])
def test_a_resumed_training_keeps_what_it_began_with(faces, run, words):
    run("train", "faces", "--steps", 1, *SMALL)
    err = run("train", "faces", "--resume", "out/faces.npz", *words, status=2)
    assert f"{words[0]} cannot change on the way" in err


def test_a_training_that_is_there_is_seen_before_the_pictures_are_read(faces, run, monkeypatch):
    run("train", "faces", "--steps", 1, *SMALL, "--no-cache")
    monkeypatch.setattr(collection, "read", lambda *_: pytest.fail("read for nothing"))
    err = run("train", "faces", "--steps", 1, *SMALL, "--no-cache", status=2)
    assert "out/faces.npz holds a training of 1 step:" in err


def test_other_pictures_are_said_when_a_training_goes_on(faces, run, monkeypatch):
    assert "the checkpoint, 1 step;" in run("train", "faces", "--steps", 1, *SMALL)
    go_on = ["train", "faces", "--resume", "out/faces.npz"]
    read = collection.read
    monkeypatch.setattr(collection, "read", lambda *_: pytest.fail("they are in the cache"))
    assert "began with" not in run(*go_on, "--steps", 2)
    monkeypatch.setattr(collection, "read", read)
    save(sprites(1, 8, seed=9)[0], faces / "7" / "new.png")
    said = run(*go_on, "--steps", 3)
    assert "other pictures than out/faces.npz began with: it goes on with these\n" in said
    assert "began with" not in run(*go_on, "--steps", 4)


# --- advice ---


def advice(labels, M=30, channels=3, **settings):
    rows = np.zeros((M, len(labels)), int)
    x = np.zeros((M, 8, 8, channels), np.float32)
    dataset = data.Dataset("s", x, x[:0], rows, rows[:0], labels)
    return list(network.advice({"train": settings}, dataset))


def test_small_sets_are_advised():
    assert advice({}, M=network.FEW) == []
    (line,) = advice({})
    assert line.startswith("fewer than 200 pictures: --from portraits begins with a trained model")
    assert "--flip and --shift 1" in line
    assert "--from fashion" in advice({}, channels=1)[0]
    assert advice({}, start="portraits", flip=True) == []
    assert "--from" not in advice({}, start="portraits")[0]


@pytest.mark.parametrize(
    "values",
    [list("ABC"), list("0123"), ["seven", "eight"], ["digit-3", "digit-7"], ["upper a"] * 2],
)
def test_letters_and_digits_are_not_to_be_mirrored(values):
    labels = {"style": ["old", "new"], "sign": values}
    assert "label sign looks like letters or digits" in advice(labels, M=500, flip=True)[0]
    assert "--flip" not in advice(labels)[0] and "--shift 1" in advice(labels)[0]


@pytest.mark.parametrize(
    "values", [["cat", "dog"], ["10", "11"], ["T-shirt", "bag", "coat"], ["A"]]
)
def test_other_labels_are_not_taken_for_letters(values):
    assert advice({"kind": values}, M=500, flip=True) == []


def test_few_pictures_are_advised_by_look_and_train_and_not_when_resumed(faces, run):
    advised = "fewer than 200 pictures"
    assert advised in run("look", "faces")
    assert advised in run("train", "faces", "--steps", 1, *SMALL)
    assert advised not in run("train", "faces", "--steps", 2, "--resume", "out/faces.npz")


def test_few_pictures_are_seen_so_often_and_no_more(faces, run, monkeypatch):
    monkeypatch.setattr(network, "SEEN", 9)
    said = run("train", "faces", *SMALL)
    M = int(said.split(" are trained on")[0].split()[-1])
    steps = 9 * M // 4
    assert f"stops after {steps} steps: each picture is seen 9 times by then" in said
    assert f"{steps} steps; samples in" in said
    asked = run("train", "faces", "--steps", 2, *SMALL, "--force")
    assert "stops after" not in asked and "2 steps; samples in" in asked


# --- copies ---


def pictures(M, seed=0, size=8):
    return data.Pixels(sprites(M, size, seed=seed))


def test_copies_are_told_from_new_pictures():
    train, new = pictures(60), pictures(20, seed=1)
    x = np.concatenate([train[5:9], new[:12]])
    x[:4] += 0.05 * np.random.default_rng(0).standard_normal(x[:4].shape)
    for held_out in (new[:0], pictures(30, seed=2)):  # without any, the set is its own measure
        labels = np.zeros((60, 0), int)
        dataset = data.Dataset("s", train, held_out, labels, labels[: len(held_out)], {})
        known = copies.Known(dataset)
        distance, index = known.nearest(x)
        assert known.near(distance).tolist() == [True] * 4 + [False] * 12 and known.share == 0
        assert index[:4].tolist() == [5, 6, 7, 8]


def test_a_flipped_and_shifted_copy_is_one_where_the_network_saw_such():
    train = pictures(40)
    labels = np.zeros((40, 0), int)
    dataset = data.Dataset("s", train, train[:0], labels, labels[:0], {})
    x = augment.change(train[7:9], np.array([[1, 1, 0], [1, 1, 2]]), 1)
    counts = []
    near = lambda known: known.near(known.nearest(x)[0])
    assert not near(copies.Known(dataset)).any()
    known = copies.Known(dataset, True, 1, counts.append)
    assert near(known).all() and known.nearest(x[:0])[1].size == 0
    assert sum(counts) == copies.work(dataset, 2, True, 1) == 18 * 42
    assert known.nearest(x)[1].tolist() == [7, 8]
    assert not near(copies.Known(dataset, flip=True)).any()


def test_pictures_that_are_there_twice_are_not_what_is_usual():
    """Else the usual distance is 0, and no drawing is ever nearer: not even an exact copy."""
    once, new = pictures(45), pictures(20, seed=1)
    twice = data.Pixels(np.concatenate([once.raw, once.raw[:40]]))
    labels = np.zeros((85, 0), int)
    known, same = (
        copies.Known(data.Dataset("s", x, x[:0], labels, labels[:0], {}), flip=True)
        for x in (once, twice)
    )
    assert np.isclose(same.usual, known.usual, rtol=0.1) and same.share == 0
    x = np.concatenate([once[:10] + 0.05, new[:10]])
    assert same.near(same.nearest(x)[0]).tolist() == [True] * 10 + [False] * 10


def test_looking_for_copies_takes_little_memory():
    rng = np.random.default_rng(0)
    pixels = rng.integers(256, size=(1120, 64, 64, 3), dtype=np.uint8)
    train, held_out = data.Pixels(pixels[20:]), data.Pixels(pixels[:20])
    labels = np.zeros((1100, 0), int)
    dataset = data.Dataset("s", train, held_out, labels, labels[:20], {})
    tracemalloc.start()
    distance, index = copies.Known(dataset).nearest(train[700:764])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (distance == 0).all() and index.tolist() == list(range(700, 764))
    assert peak < 80e6


def test_copies_are_said_at_the_end(faces, run, monkeypatch):
    assert "0 of 4 samples are nearly training pictures" in run(
        "train", "faces", "--steps", 1, *SMALL
    )
    found, said = collection.collect(faces).dataset, []
    monkeypatch.setattr("builtins.print", said.append)
    own.say_copies(np.concatenate([found.train[:3], -found.train[:1]]), found, {})
    assert said[0].startswith("3 of 4 samples are nearly training pictures (by the same measure 0%")


# --- labels ---


def test_labels_work_whatever_they_are_called(run, tmp_path):
    """Names with spaces and signs, that are numbers, that are many; what is open stays open."""
    names = ["10", "2", "a = b", "two  words", "Ä-7", "0", *(f"class {i}" for i in range(97))]
    for i, x in enumerate(sprites(2 * len(names), 8)):
        save(x, tmp_path / "many" / names[i % len(names)] / f"{i}.png")
    run("train", tmp_path / "many", "--steps", 1, *SMALL, "--flip", "--shift", 1)
    words = ["--n", 2, "--steps", 1]
    for name in ("10", "kind=2", "kind=a = b", "two words", "Ä-7", "0", "class 96"):
        run("sample", "out/many.npz", "--label", name, *words)
    labels = Pipeline.load("out/many.npz").labels
    assert labels["kind"][parse_labels(labels, ["10"])[0]] == "10"
    assert "kind can't be '102'" in run("sample", "out/many.npz", "--label", "102", status=2)
