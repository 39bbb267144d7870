"""`look` and `train` with a user's own pictures, and all that works with such a model later."""

import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_collect import bomb, enlarged, photographs, save, sprites

from tinydiff import checkpoint, data, fields, kernels, train
from tinydiff.app import cli, cmd_train, drawing, own, progress
from tinydiff.collect import cache, collection, network, report
from tinydiff.design.pipeline import Pipeline

FEW = own.to_draw
SMALL = ["--width", "8", "--depth", "1", "--batch", "4"]


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    """Work in an empty folder, with an empty cache, and with kernels that need no compiling."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(own, "to_draw", lambda dataset: FEW(dataset, 4))
    monkeypatch.setattr(network, "TIMED", 1)
    before = kernels._active
    kernels.use("reference")
    yield
    kernels._active = before


@pytest.fixture
def faces(apart, tmp_path):
    """A folder of 24 sprites of two kinds, one of whose names has a space, the other a number."""
    folder = tmp_path / "work" / "faces"
    for i, x in enumerate(sprites(24, 8)):
        save(x, folder / ["red hat", "7"][i % 2] / f"{i}.png")
    return folder


@pytest.fixture
def run(capsys):
    """Run the command line -> what it printed; it must end with that status."""

    def check(*argv, status=0):
        capsys.readouterr()
        assert cli.main([str(word) for word in argv]) == status
        out, err = capsys.readouterr()
        return out if status == 0 else err

    return check


@pytest.fixture
def model(faces, run):
    run("train", "faces", "--steps", 3, *SMALL)
    return "out/faces.npz"


def test_look_says_what_is_there_and_draws_it(faces, run):
    text = run("look", "faces")
    for line in (
        "faces: 24 pictures, 8 x 8 pixels, in colour",
        "label kind: 7 12, red hat 12",
        "trains at 8 x 8, colour: pixel for pixel",
        "22 are trained on, 2 held out",
        "out/look.png: what the network will see",
        "million weights (32, 64 channels), 64 pictures per step",
        "per thousand steps on this machine",
    ):
        assert line in text
    with Image.open("out/look.png") as picture:
        assert picture.width > 12 * 8 * 6 and picture.height > 2 * 8 * 6


def test_the_sheet_shows_each_value_in_a_row_of_its_own():
    x, labels = sprites(30, 8), np.arange(30)[:, None] % 3
    x[labels[:, 0] == 1] = 9, 8, 7
    values = {"kind": ["a", "b", "an especially long name, longer than fits"]}
    pixels = data.Pixels(x)
    picture = report.sheet(data.Dataset("s", pixels, pixels, labels, labels, values))
    (rows,) = np.nonzero((picture == (9, 8, 7)).all(2).any(1))
    head, row = 2 * report.FONT, 9 * 6
    assert head + row < rows.min() and rows.max() < head + 2 * row + 6
    assert (picture[:, :20] < 200).any(), "names"
    unlabelled = data.Dataset("s", pixels, pixels, labels[:, :0], labels[:, :0], {})
    assert report.sheet(unlabelled).shape == ((3 * 9 + 1) * 6, (12 * 9 + 1) * 6, 3)


def test_the_sheet_shows_pictures_whose_label_is_open_too():
    x, labels = sprites(30, 8), np.full((30, 1), 1)
    labels[:6], x[labels[:, 0] == 1] = 0, (9, 8, 7)
    pixels = data.Pixels(x)
    picture = report.sheet(data.Dataset("s", pixels, pixels, labels, labels, {"kind": ["cat"]}))
    (rows,) = np.nonzero((picture == (9, 8, 7)).all(2).any(1))
    assert len(picture) == 2 * report.FONT + (2 * 9 + 1) * 6 + 8
    assert rows.min() > 2 * report.FONT + 9 * 6


def test_what_is_drawn_on_the_way_is_asked_for_by_all_values_or_by_pictures_spread_evenly():
    rows, x = np.stack([np.arange(50), np.arange(50)], axis=1), data.Pixels(sprites(50, 8))
    two = data.Dataset("s", x, x, rows, rows, dict.fromkeys("ab", [str(i) for i in range(50)]))
    assert FEW(two, 10)[:, 0].tolist() == list(range(0, 50, 5))
    one = data.Dataset("s", x, x, rows[:, :1] % 5, rows[:, :1], {"a": list("01234")})
    assert FEW(one, 10)[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_many_values_and_values_without_pictures_are_shown_too():
    x, labels = sprites(100, 8), np.arange(100)[:, None] * 2
    values = {"class": [str(i) for i in range(200)]}
    pixels = data.Pixels(x)
    picture = report.sheet(data.Dataset("s", pixels, pixels, labels, labels, values))
    assert picture.shape[0] == 2 * report.FONT + (12 * 9 + 1) * 6 + 8


@pytest.mark.parametrize(
    "words",
    [
        ["sample", "MODEL", "--label", "red hat"],
        ["sample", "MODEL", "--label", "kind=7", "--guidance", "2"],
        ["sample", "MODEL", "--tile"],
        ["sample", "MODEL", "--palette", "#ff0000", "#00ff00"],
        ["sample", "EXPORTED", "--label", "7"],
        ["edit", "MODEL", "faces/7/1.png", "--strength", "0.5"],
        ["edit", "MODEL", "faces/7/1.png", "--restore", "blur"],
        ["edit", "EXPORTED", "faces/7/1.png", "--restore", "shrink2"],
        ["edit", "MODEL", "faces/7/1.png", "--change", "red hat", "--label", "7"],
    ],
    ids=lambda words: " ".join(words[:1] + words[2:4]),
)
def test_a_model_of_own_pictures_draws_and_edits(model, run, words):
    if "EXPORTED" in words:
        run("export", model, "small.npz")
    words = [{"MODEL": model, "EXPORTED": "small.npz"}.get(word, word) for word in words]
    assert (
        "picture" in run(*words, "--n", 2, "--steps", 2, "--out", "a.png") or words[0] == "sample"
    )
    with Image.open("a.png") as picture:
        assert min(picture.size) > 8


def kinds_of_sets():
    """Make pictures of kinds that are fitted in different ways -> {name: list of arrays}"""
    ink = np.zeros((16, 20, 20, 4), np.uint8)
    ink[:, 4:16, 4:16, :3], ink[:, 4:16, 4:16, 3] = 255, 255 * (sprites(16, 12)[..., 0] > 40)
    framed = np.full((16, 40, 60, 3), 240, np.uint8)
    framed[:, 8:32, 8:52] = photographs(16, 24, 44)
    sprite = enlarged(sprites(16, 12), 5)
    coarse = enlarged(sprites(2, 6), 10)  # alone it would be taken for 6 x 6
    tinted = photographs(16, 32, 32, colour=False) // 2 + np.array([9, 0, 4], np.uint8)
    return {
        "enlarged sprites": [*coarse, *sprite[:10], *enlarged(sprites(16, 10), 3)[12:]],
        "white on nothing": ink,
        "photographs": photographs(16, 48, 80),
        "drawings on paper": framed,
        "small and oblong": photographs(16, 9, 16),
        "grey, nearly": tinted,
    }


@pytest.mark.parametrize("name", kinds_of_sets())
def test_a_picture_of_the_set_is_edited_as_the_network_saw_it_to_the_bit(name, tmp_path):
    """Also when the set comes from the cache, and its plan from a checkpoint's JSON."""
    pictures = kinds_of_sets()[name]
    for i, x in enumerate(pictures):
        save(x, tmp_path / "set" / f"{i:02d}.png")
    own.pictures(tmp_path / "set")
    dataset, about = own.pictures(tmp_path / "set")
    shape = dataset.train.shape[1], None, dataset.train.shape[3]
    about = json.loads(json.dumps(about))
    fields.require({"plan": fields.MODEL["pictures.plan?"]}, about)
    seen = {x.tobytes() for side in (dataset.train, dataset.test) for x in data.to_float(side.raw)}
    files = sorted((tmp_path / "set").iterdir())
    given = [own.as_trained(file, about, *shape).x for file in files]
    assert {x.tobytes() for x in given} == seen and len(seen) == 16


@pytest.mark.parametrize("name", kinds_of_sets())
def test_a_mask_is_fitted_as_its_picture(name, tmp_path):
    """What is white in the mask is changed in the picture: there, and hardly elsewhere."""
    pictures = kinds_of_sets()[name]
    for i, x in enumerate(pictures):
        save(x, tmp_path / "set" / f"{i:02d}.png")
    dataset, about = own.pictures(tmp_path / "set")
    given = own.as_trained(tmp_path / "set" / "03.png", about, dataset.train.shape[1])
    x, fitted = given.x, given.mask
    H, W = pictures[3].shape[:2]
    white = np.zeros((H, W), bool)
    white[H // 4 + 1 : H // 2, W // 3 : W // 2] = True
    changed = pictures[3].copy()
    changed[white, :3] = 255 - changed[white, :3]
    save(changed, tmp_path / "changed.png")
    y = own.as_trained(tmp_path / "changed.png", about, dataset.train.shape[1]).x
    differs, mask = np.abs(x - y)[0].max(-1) > 0.01, fitted(white)
    assert differs.any() and not (differs & ~mask).any()
    assert mask.sum() <= 1.5 * white.mean() * mask.size + 8
    assert not fitted(np.zeros_like(white)).any() and fitted(np.ones_like(white)).all()


def test_small_and_grey_pictures_are_restored_from_what_training_saw(tmp_path):
    for i, x in enumerate(sprites(12, 12)):
        save(x, tmp_path / "set" / f"{i:02d}.png")
    dataset, about = own.pictures(tmp_path / "set")
    path = tmp_path / "set" / "02.png"
    whole = own.as_trained(path, about, 16).x
    small = own.as_trained(path, about, 16, side=8).x
    assert np.allclose(small, whole.reshape(1, 8, 2, 8, 2, 3).mean((2, 4)), atol=1e-6)
    grey = own.as_trained(path, about, 16, channels=1).x
    assert np.allclose(grey[..., 0], whole @ [0.299, 0.587, 0.114], atol=0.01)
    save(sprites(1, 8)[0], tmp_path / "small.png")
    shrunk = own.as_trained(tmp_path / "small.png", about, 16, side=8).x
    assert (data.to_uint8(shrunk) == sprites(1, 8)).all(), "small already: as it is"


def test_colours_of_large_pictures_need_no_whole_covariance(model, run, monkeypatch):
    monkeypatch.setattr(drawing, "MOST_VALUES", 100)
    monkeypatch.setattr(drawing.restore, "covariance", None)
    words = ["sample", model, "--n", 2, "--steps", 2, "--out", "a.png"]
    run(*words, "--main-colour", "#ff0000")
    monkeypatch.setattr(drawing.restore, "principal", None)
    run(*words, "--palette", "#ff0000", "#00ff00")


def test_after_the_pictures_are_gone_the_cache_stands_in_for_them(model, run):
    shutil.move("faces", "elsewhere")
    picture = "elsewhere/7/1.png"
    words = ["edit", model, picture, "--restore", "blur", "--n", 1, "--steps", 2, "--out", "a.png"]
    run(*words)
    run("train", "faces", "--steps", 4, "--resume", model)
    assert checkpoint.load(model)[0].step == 4
    shutil.rmtree(cache.folder())
    gone = run(*words, status=2)
    assert "draws pictures of faces, which are not there: put them back" in gone
    assert "no file or folder 'faces'" in run("train", "faces", "--resume", model, status=2)
    shutil.move("elsewhere", "faces")
    run(*[word.replace("elsewhere", "faces") if word == picture else word for word in words])


@pytest.mark.parametrize("more", [[], ["--pictures", "faces"]])
def test_the_judge_of_pictures_that_are_not_kept_is_found_again(faces, run, more):
    """Their size was chosen: `evaluate`, which reads them at the model's, means the same set."""
    run("train", "faces", "--steps", 1, *SMALL, "--no-cache")
    run("judge", "faces", "--steps", 2, "--no-cache")
    judge = Path("out/faces_judge.npz").read_bytes()
    words = ["--n", 64, "--samplers", "dpmpp_2m:1", "--out", "e.png", *more]
    said = run("evaluate", "out/faces.npz", *words)
    assert "out/faces_judge.npz: the judge, trained on these pictures before" in said
    assert Path("out/faces_judge.npz").read_bytes() == judge


def test_a_damaged_set_in_the_cache_is_read_anew_and_replaced(faces, run):
    said = run("look", "faces", "--out", "look.png")
    (kept,) = cache.folder().glob("*.npz")
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    strip = lambda text: [line for line in text.splitlines() if "million weights" not in line]
    assert strip(run("look", "faces", "--out", "look.png")) == strip(said)
    assert len(kept.read_bytes()) == len(whole) and cache.load(kept.stem)


def test_a_checkpoint_names_no_home(tmp_path, monkeypatch):
    """A file that is shared says neither whose folder it was nor where it lay outside."""
    home, here = tmp_path / "home/ada", tmp_path / "home/ada/work"
    monkeypatch.setenv("HOME", str(home))
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    said = {"cats": "cats", here / "cats/small": "cats/small", "../cats": "~/cats", ".": "."}
    said |= {tmp_path / "home/eve/cats": "cats", tmp_path / "home/adams": "adams"}
    assert {path: own.place(path) for path in said} == said


def test_pictures_below_home_are_found_again_without_the_cache(model, run, monkeypatch, tmp_path):
    checkpoint_of = checkpoint.load(model)
    assert checkpoint_of[2]["pictures"]["path"] == "faces"
    checkpoint_of[2]["pictures"]["path"] = "~/faces"
    checkpoint.save(model, checkpoint_of[0], checkpoint_of[2])
    monkeypatch.setenv("HOME", os.getcwd())
    shutil.rmtree(cache.folder(), ignore_errors=True)
    words = ["--restore", "blur", "--n", 1, "--steps", 2, "--out", "a.png"]
    run("edit", model, "faces/7/1.png", *words)


def test_a_resumed_training_keeps_the_size_that_it_began_with(faces, run):
    run("train", "faces", "--steps", 1, "--size", 16, *SMALL)
    run("train", "faces", "--steps", 2, "--resume", "out/faces.npz")
    run_of, _, meta = checkpoint.load("out/faces.npz")
    assert (run_of.step, meta["model"]["size"], meta["pictures"]["size"]) == (2, 16, 16)
    text = run("train", "faces", "--size", 8, "--resume", "out/faces.npz", status=2)
    assert "was trained on other images than faces has" in text


def test_a_training_does_not_go_on_with_labels_that_mean_something_else(faces, run):
    run("train", "faces", "--steps", 1, *SMALL)
    before = Path("out/faces.npz").read_bytes()
    go_on = ["train", "faces", "--steps", 2, "--resume", "out/faces.npz"]
    (faces / "7").rename(faces / "zebra")  # behind "red hat", which was number 1
    err = run(*go_on, status=2)
    said = "faces has no kind=7 and has kind=zebra; name them as they were, or begin a new training"
    assert f"out/faces.npz was trained on other labels: {said}\n" in err
    (faces / "zebra").rename(faces / "7")
    save(sprites(1, 8)[0], faces / "new" / "0.png")
    assert "other labels: faces has kind=new; name" in run(*go_on, status=2)
    shutil.rmtree(faces / "new")
    assert Path("out/faces.npz").read_bytes() == before
    trained, _, meta = checkpoint.load("out/faces.npz")
    meta["labels"]["kind"].reverse()
    checkpoint.save("out/faces.npz", trained, meta)
    assert "faces has them in another order; name" in run(*go_on, status=2)


def test_a_sheet_trains_and_is_cut_again_when_it_is_resumed(run):
    cells = sprites(12, 8)
    whole = cells.reshape(3, 4, 8, 8, 3).swapaxes(1, 2).reshape(24, 32, 3)
    Image.fromarray(whole).save("hero.png")
    run("train", "hero.png", "--grid", "8x8", "--steps", 1, *SMALL, "--no-cache")
    assert not cache.folder().exists()
    run("train", "hero.png", "--steps", 2, "--resume", "out/hero.npz", "--no-cache")
    assert checkpoint.load("out/hero.npz")[2]["pictures"]["grid"] == [8, 8]
    words = ["--label", "7"]
    assert "takes no labels" in run("sample", "out/hero.npz", *words, status=2)
    Path("other").mkdir()
    Image.fromarray(whole).save("other/a.png")
    no_sheet = run("train", "other", "--resume", "out/hero.npz", status=2)
    assert "was trained on a sheet of sprites, hero: other is none" in no_sheet


def test_a_hundred_classes_one_class_and_open_labels(run, tmp_path):
    for i, x in enumerate(sprites(120, 8)):
        save(x, tmp_path / "many" / f"class {i % 100}" / f"{i}.png")
        save(x, tmp_path / "one" / "cat" / f"{i}.png")
        save(x, tmp_path / "open" / ("cat" if i % 2 else "") / f"{i}.png")
    for name, wish in {"many": "class 42", "one": "cat", "open": "cat"}.items():
        run("train", tmp_path / name, "--steps", 2, *SMALL)
        words = ["--label", wish, "--n", 2, "--steps", 2]
        assert "2 images" in run("sample", f"out/{name}.npz", *words)
    assert Pipeline.load("out/many.npz").model.classes == (100,)


def test_the_pictures_are_the_same_from_bytes_and_from_floats(rng):
    x = sprites(20, 8)
    theta = []
    for images in (data.Pixels(x), data.to_float(x)):
        meta = {"model": {"size": 8, "channels": 3, "width": 8, "multipliers": [1], "depth": 1}}
        meta |= {"schedule": {"kind": "cosine", "T": 10}}
        run, s = checkpoint.build(meta, 0)
        steps = train.train(run, s, images, batch=4)
        next(steps), next(steps)
        theta.append(run.theta.copy())
    assert (theta[0] == theta[1]).all()


def test_ctrl_c_says_how_to_go_on_with_own_pictures(faces, run, monkeypatch):
    """And going on gives what would have come without it."""
    real, calls = train.train_step, []

    def stop_later(*args):
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*args)

    monkeypatch.setattr(train, "train_step", stop_later)
    monkeypatch.setattr(own, "say_plan", lambda *_, **__: None)
    line = run("train", "faces", "--steps", 9, *SMALL, status=130)
    how = "train faces --steps 9 --out out --resume out/faces.npz"
    assert how in line and "stopped at step 5" in line
    run(*how.split())
    run("train", "faces", "--steps", 9, *SMALL, "--out", "at_once")
    resumed, straight = (checkpoint.load(f"{p}/faces.npz")[0] for p in ("out", "at_once"))
    assert (resumed.theta == straight.theta).all() and resumed.step == 9


def test_the_time_is_that_of_the_steps(faces, monkeypatch):
    from tinydiff.app.cmd_train import describe

    dataset = collection.collect(faces).dataset
    steps = []  # the first takes 50 s, as it compiles, each other 3 s
    monkeypatch.setattr(network, "train", lambda *_: iter(lambda: steps.append(1), 0))
    clock = lambda: 50.0 * bool(steps) + 3.0 * (len(steps) - 1)
    monkeypatch.setattr(network.time, "perf_counter", clock)
    monkeypatch.setattr(network, "TIMED", 2)
    monkeypatch.setattr(network, "PATIENCE", 100.0)
    minutes = network.minutes_per_thousand(describe(dataset, 0, 8, 1, 4), dataset)
    assert minutes == pytest.approx(3.0 * 1000 / 60) and len(steps) == 3


def test_bars_say_that_the_first_step_compiles(faces, run, monkeypatch):
    notes = []

    class Spy(progress.Bar):
        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if name == "note" and value:
                notes.append((self._bar.desc, value))

    monkeypatch.setattr(own, "Bar", Spy)
    monkeypatch.setattr(cmd_train, "Bar", Spy)
    run("train", "faces", "--steps", 2, *SMALL)
    notes = {title: [note for of, note in notes if of == title] for title, _ in notes}
    assert notes["measuring the time per step"] == ["compiling, where that is needed"]
    first, *then = notes["training on faces"]
    assert first == "compiling, where that is needed"
    assert re.fullmatch(r"loss \d\.\d+, step 1", then[0])
    assert re.fullmatch(r"loss \d\.\d+, \d+\.\d steps/s, step 2", then[1])


BAD = {
    "nothing": "no data set 'nothing'; there are: digits, .*; and no file or folder of this name",
    "empty": "empty has no pictures; it is empty",
    "texts": r"texts has no pictures; it has 2 \.txt",
    "one": "one has a single picture that can be used: give two or more",
    "broken": "broken: none of its 3 pictures can be read; the first: .*a.png",
    "hero.png": "hero.png is one picture, 16 x 8: .* as --grid 16x16",
    "bomb.png": "bomb.png cannot be read .*48 million pixels",
    "pair.npz": "40 pictures, .* 30 labels",
    "batch.pkl": "is a Python pickle, which can run code",
    "faces --grid 8x8": "--grid is for a sheet of sprites, a file; faces is a folder",
    "faces --size 10": "--size takes a multiple of 4, to be halved twice; got 10",
    "digits --size 16": "--size and --grid are for your own pictures",
    "digits --grid 8x8": "--size and --grid are for your own pictures",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_gets_one_line_and_writes_nothing(faces, run, tmp_path, words):
    work = faces.parent
    (work / "empty").mkdir()
    for name in ("a.txt", "b.txt"):
        (work / "texts").mkdir(exist_ok=True)
        (work / "texts" / name).write_text("x")
    save(sprites(1, 8)[0], work / "one" / "a.png")
    (work / "broken").mkdir()
    for name in ("a.png", "b.jpg", "c.gif"):
        (work / "broken" / name).write_bytes(b"no")
    save(photographs(1, 8, 16)[0], work / "hero.png")
    (work / "bomb.png").write_bytes(bomb(20_000))
    np.savez(work / "pair.npz", images=sprites(40), labels=np.zeros(30, int))
    (work / "batch.pkl").write_bytes(b"\x80\x04and so on")
    commands = ["train"] if words.startswith(("nothing", "digits")) else ["look", "train"]
    for command in commands:
        err = run(command, *words.split(), status=2)
        assert len(err.splitlines()) == 1 and err.startswith("tinydiff: ")
        assert re.search(BAD[words], err)
        assert not (work / "out").exists() and not cache.folder().exists()


def test_what_was_mistyped_is_guessed(faces, run):
    for words, guess in {
        "look fases": "there is no file or folder 'fases' (did you mean faces?)",
        "look nothing": "there is no file or folder 'nothing'\n",
        "look emoji": "there is no file or folder 'emoji': this set comes with tinydiff",
        "train fases": "no data set 'fases' (did you mean faces?); there are: digits",
        "train portrait": "no data set 'portrait' (did you mean portraits?); there are: digits",
        "judge emojis": "no data set 'emojis' (did you mean emoji?); there are: digits",
        "sample portraitz": "portraitz cannot be read (No such file or directory) (did you mean",
        "look faces --sice 8": "--sice 8; see `python -m tinydiff look --help`",
    }.items():
        assert guess in run(*words.split(), status=2)


def test_a_folder_with_the_name_of_a_set_that_comes_along(faces, run, capsys):
    """The name means the set, which is said; the model of this name is found all the same."""
    faces.rename("digits")
    assert cli.main(["train", "digits", "--steps", "1", *SMALL, "--out", "there"]) == 0
    said = "digits is the set that comes with tinydiff; ./digits means the folder"
    assert capsys.readouterr().err.count(said) == 1
    assert Pipeline.load("there/digits.npz").pictures is None
    assert "1 image\n" in run("sample", "digits", "--n", 1, "--steps", 1)
    text = run("train", "./digits", "--steps", 1, *SMALL)
    assert "my-digits: 24 pictures" in text and "the checkpoint, 1 step;" in text


@pytest.mark.parametrize("command", ["look", "train"])
def test_nothing_is_written_among_the_pictures(faces, run, command):
    for out in ("faces", "faces/out", "faces/7/../new"):
        out = f"{out}/look.png" if command == "look" else out
        err = run(command, "faces", "--out", out, status=2)
        assert len(err.splitlines()) == 1 and f"--out {out} lies in faces" in err
    assert sorted(os.listdir("faces")) == ["7", "red hat"]


def test_a_training_does_not_replace_the_set_that_it_reads(run):
    os.mkdir("out")
    np.savez("out/mine.npz", images=sprites(12, 8))
    err = run("train", "out/mine.npz", "--force", "--steps", 1, *SMALL, status=2)
    assert "mine.npz is read by this command, and would be lost" in err
    assert len(np.load("out/mine.npz")["images"]) == 12


def test_pictures_without_labels_train_and_are_drawn_and_edited(tmp_path, run):
    for i, x in enumerate(sprites(24, 8)):
        save(x, tmp_path / "work" / "plain" / f"{i}.png")
    run("train", "plain", "--steps", 2, *SMALL)
    model, picture = "out/plain.npz", "plain/3.png"
    for more in ([], ["--tile"], ["--guidance", 2], ["--sampler", "heun"]):
        run("sample", model, "--n", 2, "--steps", 2, *more, *["--out", "a.png"])
    run("edit", model, picture, "--strength", 0.5, "--steps", 4, "--n", 1, "--out", "b.png")
    run("edit", model, picture, "--restore", "blur", "--steps", 2, "--n", 1, "--out", "c.png")
    said = run("sample", model, "--label", "hat=red", "--out", "d.png", status=2)
    assert said == "tinydiff: the model takes no labels; got 'hat=red'\n"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_a_name_that_is_no_text_is_read(faces, run):
    os.rename(b"faces/7/1.png", b"faces/7/bad\xff.png")
    (Path("faces") / "7" / "3.png").write_bytes(b"no picture")
    os.rename(b"faces/7/3.png", b"faces/7/worse\xff.png")
    assert "faces: 23 pictures" in run("look", "faces")
