"""The command line: what it makes, what it says of mistakes, that interruptions cost nothing."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import tinydiff
from tinydiff import checkpoint, data, kernels, plot, sample
from tinydiff.app import cli, cmd_doctor, cmd_train, gallery
from tinydiff.design import edit, pipeline, restore
from tinydiff.design.pipeline import Pipeline, parse_labels
from tinydiff.kernels import cuda_array, reference
from tinydiff.measure import classifier

TINY = ("--width", "8", "--depth", "1", "--batch", "4")
ALONE = {
    "PYTHONPATH": str(Path(tinydiff.__file__).parent.parent),
    "NUMBA_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
OFTEN = """import runpy
from tinydiff.app import progress
progress.EVERY_LINE = 0.005
runpy.run_module("tinydiff", run_name="__main__")"""  # python -m tinydiff, telling often how it is
PYTHON = {**os.environ, **ALONE}  # one thread: the models here are too small for two


def run(*argv):
    """Run the command line in this process: words, or several in one string -> its exit status."""
    return cli.main([word for a in argv for word in str(a).split()])


@pytest.fixture
def start():
    """Run the command line in a fresh process, which does not outlive the test -> the process"""
    started = []

    def popen(*argv):
        command = [sys.executable, "-c", OFTEN, *map(str, argv)]
        started.append(
            subprocess.Popen(command, env=PYTHON, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )
        return started[-1]

    yield popen
    for process in started:
        process.kill()
        process.communicate()


def finish(process):
    """Wait for a process -> exit status, what it printed, what it printed on stderr."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out.decode(), err.decode()


def wait_for(process, text):
    """Read a process's stderr up to a text."""
    seen = b""
    while text.encode() not in seen:
        chunk = os.read(process.stderr.fileno(), 65536)
        assert chunk, f"it ended before it said {text!r}: {seen.decode()}"
        seen += chunk


def state(path):
    """All that a checkpoint holds of a training, as bytes and numbers."""
    run, _, about = checkpoint.load(path)
    arrays = [a.tobytes() for a in (run.theta, run.ema, run.adam.m, run.adam.v)]
    about["history"] = [
        (step, loss) for step, _, loss in about["history"]
    ]  # seconds differ from run to run
    return arrays, run.step, run.adam.k, run.loss, run.rng.bit_generator.state, about


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny model of digits after 20 of 20 steps -> its checkpoint."""
    out = tmp_path_factory.mktemp("trained")
    assert run("train", "digits", *TINY, "--steps", 20, "--out", out) == 0
    return out / "digits.npz"


@pytest.fixture
def refused(capsys):
    """Run the command line; it must end with one clear line and status 2 -> the line"""

    def check(*argv, lines=1):
        capsys.readouterr()
        status = run(*argv)
        out, err = capsys.readouterr()
        assert status == 2 and out == "" and "Traceback" not in err
        *before, line = err.splitlines()
        assert line.startswith("tinydiff: ") and (lines is None or len(before) + 1 == lines)
        return line

    return check


# what it makes


def test_train_writes_a_checkpoint_and_a_sheet(tmp_path, capsys):
    assert (
        run(
            "train digits",
            *TINY,
            "--steps 3 --predict eps --seed 5 --lr 0.01 --out",
            tmp_path / "new",
        )
        == 0
    )
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "digits.npz",
        "digits_000003.png",
    ]
    assert f"{tmp_path / 'new' / 'digits.npz'}: the checkpoint, 3 steps" in capsys.readouterr().out
    training, s, about = checkpoint.load(tmp_path / "new" / "digits.npz")
    assert training.step == 3 and s.T == 250 and training.model.width == 8
    assert (
        about["train"] == {"predict": "eps", "batch": 4, "lr": 0.01, "forget": 0.1, "seed": 5}
        and about["labels"]["digit"][7] == "7"
    )
    with Image.open(tmp_path / "new" / "digits_000003.png") as sheet:
        assert sheet.size == (
            4 * (16 * 9 + 1),
            4 * (4 * 9 + 1),
        )  # 64 images of 8 x 8 in rows of 16, each pixel 4 x 4


def test_train_for_some_time(tmp_path):
    began = time.perf_counter()
    assert run("train", "digits", *TINY, "--minutes", 0.02, "--out", tmp_path) == 0
    assert 1.2 <= time.perf_counter() - began < 10
    assert checkpoint.load(tmp_path / "digits.npz")[0].step > 10


def test_the_seed_decides(trained, tmp_path):
    for name, seed in [("a", 0), ("b", 1)]:
        assert (
            run("train", "digits", *TINY, "--steps", 20, "--seed", seed, "--out", tmp_path / name)
            == 0
        )
    again, other = state(tmp_path / "a" / "digits.npz"), state(tmp_path / "b" / "digits.npz")
    assert again == state(trained) and other[0] != again[0]


def test_sample_writes_the_picture(trained, tmp_path, capsys):
    picture = tmp_path / "new" / "a.png"
    assert run("sample", trained, "--n", 20, "--steps", 5, "--out", picture) == 0
    assert capsys.readouterr().out == f"{picture}: 20 images\n"
    with Image.open(picture) as drawn:
        assert drawn.size == (4 * (16 * 9 + 1), 4 * (2 * 9 + 1))
    assert [p.name for p in picture.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize("sampler, evaluations", [("ddim", 10), ("ddpm", 250)])
def test_sample_writes_the_chain(trained, tmp_path, capsys, sampler, evaluations):
    steps = ("--steps", evaluations) if sampler == "ddim" else ()
    assert (
        run(
            "sample", trained, "--n 2 --sampler", sampler, *steps, "--gif --out", tmp_path / "a.png"
        )
        == 0
    )
    assert f"the chain, {evaluations} steps" in capsys.readouterr().out
    with Image.open(tmp_path / "a.png") as last, Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames > 10 and gif.size == last.size == (4 * (2 * 9 + 1), 4 * (9 + 1))
        gif.seek(gif.n_frames - 1)
        assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - np.asarray(last)).max() <= 16


def test_sample_draws_what_is_asked_for_with_the_average_weights(trained, tmp_path, monkeypatch):
    asked, real = [], Pipeline.draw

    def watch(pipe, labels, rng, sampler, steps, times, w, avoid, size, also, **rest):
        average = checkpoint.load(trained)[0].ema
        drawn_with = np.concatenate([p.ravel() for p in pipe.model.params().values()])
        assert np.array_equal(drawn_with, average)
        asked.append((labels.tolist(), sampler, steps, times, w, avoid.tolist(), size))
        return real(pipe, labels, rng, sampler, 1, times, w, avoid, size=size, also=also, **rest)

    monkeypatch.setattr(Pipeline, "draw", watch)
    assert run("sample", trained, "--n", 3, "--label", 7, "--out", tmp_path / "a.png") == 0
    assert run("sample", trained, "--n", 20, "--out", tmp_path / "a.png") == 0
    words = "--guidance 2.5 --avoid digit=1 --sampler heun --times karras --steps 9".split()
    words += ["--label", "digit=4", "--out", tmp_path / "a.png"]
    assert run("sample", trained, "--n", 2, *words) == 0
    dropped, in_turn = [10], [[k // 2] for k in range(20)]
    assert asked[0] == ([[7]] * 3, "dpmpp_2m", 12, "snr", 1.0, [dropped] * 3, (8, 8))
    assert asked[1] == (in_turn, "dpmpp_2m", 12, "snr", 1.0, [dropped] * 20, (8, 8))
    assert asked[2] == ([[4]] * 2, "heun", 9, "karras", 2.5, [[1]] * 2, (8, 8))


DRAWN_WITH = {  # command: the method of Pipeline that draws, and what it is asked for, of all else
    "sample digits --sampler ddim": ("draw", "ddim 50 even"),  # as all commands drew before
    "sample digits --times karras": ("draw", "dpmpp_2m 12 karras"),
    "sample digits --steps 7": ("draw", "dpmpp_2m 7 snr"),
    "sample patterns --palette #ffffff #102030": ("draw", "dpmpp_2m 15 even"),
    "sample patterns --tile": ("tile", "16 even"),
    "edit digits P --restore noise": ("restore", "15 snr"),
    "restyle P --to noto": ("restyle", "15 dpmpp_2m"),
    "restyle P --to noto --way noise": ("restyle", "15 ddim"),
    "alphabet lobster": ("alphabet", "15 dpmpp_2m"),
}


@pytest.mark.parametrize("words", DRAWN_WITH)
def test_each_command_has_a_sampler_and_steps_of_its_own(words, tmp_path, monkeypatch):
    """Those of cli.USUAL, which few steps judge as good as 50 of ddim; others are asked for."""
    Image.fromarray(np.full((32, 32, 3), 200, np.uint8)).save(tmp_path / "P.png")
    (method, expected), asked = DRAWN_WITH[words], []

    def stop(pipe, *args, **options):
        asked.extend(a for a in (*args, *options.values()) if type(a) in (int, str))
        raise KeyboardInterrupt

    monkeypatch.setattr(Pipeline, method, stop)
    out = "--out", tmp_path / "a.png"
    assert run(words.replace(" P ", f" {tmp_path / 'P.png'} "), *out) == 130
    assert " ".join(str(a) for a in asked if a not in ("noto", "source", "noise")) == expected


@pytest.mark.parametrize("sampler", pipeline.SAMPLERS)
def test_every_sampler_asks_the_network_as_often_as_evaluations_says(trained, sampler):
    s, asked = checkpoint.load(trained)[1], []

    class Counting:
        size, channels, out = 8, 1, 1

        def __call__(self, x, t, labels):
            asked.append(len(x))
            return x * 0

    pipe, labels = Pipeline(Counting(), s, {}), np.zeros((2, 1), int)
    for w in (1.0, 1.5):
        asked.clear()
        *_, x0 = pipe.draw(labels, np.random.default_rng(0), sampler, 7, w=w)
        assert x0.shape == (2, 8, 8, 1) and sum(asked) == 2 * pipeline.evaluations(s, sampler, 7, w)


def test_the_command_line_knows_the_samplers_and_grids_that_there_are():
    assert cli.SAMPLERS == pipeline.SAMPLERS and cli.TIMES == pipeline.TIMES
    assert all(
        callable(getattr(sample, name))
        for name in pipeline.SAMPLERS + tuple(f"{t}_times" for t in pipeline.TIMES)
    )


def test_labels_in_words():
    labels = {"hat": ["none", "red", "10"], "mouth": ["happy", "sad"]}
    assert parse_labels(labels, []).tolist() == [3, 2]
    assert parse_labels(labels, ["mouth=sad"]).tolist() == [3, 1]
    both = parse_labels(labels, ["mouth=0", "hat=10"])  # a hat is named 10: an index would confuse
    assert both.tolist() == [2, 0]
    for words in (["7"], ["digit=7"]):
        assert parse_labels({"digit": list("0123456789")}, words).tolist() == [7]
    for words, message in [
        (["cap=red"], "no label 'cap'; there are: hat, mouth, used as hat=VALUE"),
        (["red"], "no label 'red'; there are"),
        (["hat=blue"], "hat can't be 'blue'; it can be: none, red, 10"),
        (["hat=1"], "hat can't be '1'"),
        (["mouth=2"], "mouth can't be '2'"),
        (["hat="], "hat can't be ''"),
        (["hat"], "hat needs a value: hat=VALUE, one of none, red, 10"),
        (["hat=red", "hat=none"], "hat is asked for twice"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            parse_labels(labels, words)


def test_a_label_whose_name_begins_another_s():
    labels = {"a": ["c", "b=d"], "a=b": ["c", "e"]}
    said = {"a=c": [0, 2], "a=b=d": [1, 2], "a=b=c": [2, 0], "a=b=e": [2, 1], "a=b=1": [2, 1]}
    assert {word: parse_labels(labels, [word]).tolist() for word in said} == said
    with pytest.raises(ValueError, match="a=b can't be 'f'; it can be: c, e"):
        parse_labels(labels, ["a=b=f"])


@pytest.mark.parametrize("name, channels", [("digits", 1), ("portraits", 3)])
def test_models_that_come_with_tinydiff_are_drawn_by_name(name, channels, tmp_path, capsys):
    assert run("sample", name, "--n", 2, "--steps", 2, "--out", tmp_path / "a.png") == 0
    with Image.open(tmp_path / "a.png") as drawn:
        assert drawn.size[0] > 2 * 8 * 4 and np.ptp(np.asarray(drawn)) > 100


def test_tiles_of_what_has_its_place_are_warned_of(trained, tmp_path, capsys):
    assert run("sample", trained, "--n 1 --steps 2 --tile --out", tmp_path / "a.png") == 0
    noted = capsys.readouterr().err
    assert noted.startswith("tiles suit textures such as patterns: of digits, what has its place")


def test_a_tile_is_repeated_and_a_panorama_is_wide(tmp_path, capsys):
    """The 3 x 3 repeats are those of the sheet's tiles; without --tile the pixels differ."""
    out = tmp_path / "a.png"
    words = "--n 5 --steps 2 --tile --size 16x32 --out"
    assert run("sample", "patterns", words, out) == 0
    said, _ = capsys.readouterr()
    again = f"{tmp_path / 'a_3x3.png'}: the first 4, each repeated 3 x 3"
    assert said == f"{out}: 5 images\n{again}\n"
    drawn, repeated = (
        np.asarray(Image.open(tmp_path / name))[::4, ::4, 0] for name in ("a.png", "a_3x3.png")
    )
    tiles = [drawn[1:17, 1 + 33 * i : 33 + 33 * i] for i in range(5)]
    assert drawn.shape == (18, 166) and repeated.shape == (56, 404)
    for i, tile in enumerate(tiles[:4]):
        assert (
            np.array_equal(repeated[4:52, 4 + 100 * i : 100 + 100 * i], np.tile(tile, (3, 3)))
            and np.ptp(tile) > 50
        )
    assert run("sample", "patterns", words.replace("--tile", ""), out) == 0
    assert np.asarray(Image.open(out)).shape[:2] == (72, 664) and not np.array_equal(
        np.asarray(Image.open(out))[::4, ::4, 0], drawn
    )


def test_tiles_are_drawn_with_rolls_by_a_network_with_circular_padding(trained):
    """As edit.tile does with a network built so, of the same weights; which is then as it was."""
    run, s, meta = checkpoint.load(trained)
    twin, _ = checkpoint.build(meta | {"model": meta["model"] | {"padding": "circular"}}, 0)
    twin.theta[:] = run.theta
    labels, times = np.array([[3], [8]]), sample.even_times(s, 4)
    pipe, twin = (Pipeline.of(model, s, meta) for model in (run.model, twin.model))
    how = {"steps": 4, "w": 1.5, "size": (12, 8)}
    got = pipe.tile(labels, np.random.default_rng(5), **how)
    eps_model, rng = twin.eps_model(labels, 1.5), np.random.default_rng(5)
    want = list(edit.tile(eps_model, s, (2, 12, 8, 1), rng, times, clip=1.0))
    assert len(got) == 5 and all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))
    assert run.model.conv_in.padding == "zeros"
    wide = pipe.draw(labels, np.random.default_rng(5), **how)
    assert wide[-1].shape == want[-1].shape and np.abs(wide[-1] - want[-1]).max() > 0.1


def test_export_keeps_what_drawing_needs(trained, tmp_path, monkeypatch, capsys):
    assert run("export", trained, tmp_path / "models" / "mine.npz") == 0
    assert "20 steps" in capsys.readouterr().out
    monkeypatch.setattr(checkpoint, "FOLDER", tmp_path)
    model, s, about = checkpoint.pretrained("mine")
    again, _, _ = checkpoint.load(trained)
    np.testing.assert_allclose(
        np.concatenate([p.ravel() for p in model.params().values()]),
        again.ema,
        rtol=1e-3,
        atol=1e-6,
    )
    assert about["steps"] == 20 and s.T == 250


def test_judge_writes_a_classifier_and_how_often_it_is_right(tmp_path, monkeypatch, capsys):
    (tmp_path / "digits8.npz").write_bytes((data.FOLDER / "digits8.npz").read_bytes())
    monkeypatch.setattr(checkpoint, "FOLDER", tmp_path)
    assert run("judge", "digits", "--steps", 60, "--out", tmp_path / "models") == 0
    judge, about = classifier.load("digits")
    digits = data.load("digits")
    (right,) = classifier.accuracy(judge, digits.test, digits.test_labels)
    assert (
        right > 0.8
        and abs(right - about["held_out"]["digit"]) < 0.005
        and f"digit {about['held_out']['digit']:.1%}" in capsys.readouterr().out
    )


def test_judge_of_a_set_in_several_styles(tmp_path, capsys):
    assert run("judge", "typefaces", "--steps", 1, "--out", tmp_path) == 0
    assert (tmp_path / "typefaces_judge.npz").exists()
    assert re.search(
        r"held-out images: letter \d+\.\d%, face \d+\.\d%$", capsys.readouterr().out.strip()
    )


@pytest.fixture
def picture(tmp_path):
    """A test digit, eight times as large -> its file, and a mask with a white upper half"""
    digit = data.to_uint8(data.load("digits").test[0])[..., 0].repeat(8, 0).repeat(8, 1)
    Image.fromarray(digit).save(tmp_path / "digit.png")
    Image.fromarray(np.repeat(np.uint8([255, 0]), 32)[:, None].repeat(64, 1)).save(
        tmp_path / "mask.png"
    )
    return tmp_path / "digit.png", tmp_path / "mask.png"


def test_edit_draws_a_part_anew_and_leaves_the_rest(picture, tmp_path, capsys):
    image, mask = picture
    assert (
        run(
            "edit digits",
            image,
            "--mask",
            mask,
            "--n 3 --steps 4 --rounds 2 --out",
            tmp_path / "e.png",
        )
        == 0
    )
    fitted = "64 x 64 L, its 8 x 8 true pixels, each 8 x 8"
    drawn = f"{tmp_path / 'e.png'}: the picture, then 3 times"
    said = f"{image}: {fitted}\n{mask}: 64 x 64 L; 32 of 8 x 8 pixels have white in them "
    said += f"and are drawn anew\n{drawn}"
    assert said in capsys.readouterr().out
    drawn = (
        np.asarray(Image.open(tmp_path / "e.png"))[6:, 6:]
        .reshape(9, 6, 4, 9, 6, 3)[:8, 0, :, :8, 0]
        .swapaxes(0, 1)
    )  # (4, 8, 8, 3)
    x0 = data.to_uint8(data.load("digits").test[0])
    assert np.array_equal(drawn[0, ..., :1], x0)
    for one in drawn[1:]:
        assert np.array_equal(one[4:, :, :1], x0[4:]) and not np.array_equal(one[:4, :, :1], x0[:4])


def test_edit_with_strength_stays_near_the_picture_or_leaves_it(picture, tmp_path):
    x0, far = data.to_uint8(data.load("digits").test[0]).astype(float), []
    for strength in (0.05, 0.9):
        assert (
            run(
                "edit digits",
                picture[0],
                "--strength",
                strength,
                "--n 3 --steps 20 --out",
                tmp_path / "e.png",
            )
            == 0
        )
        drawn = (
            np.asarray(Image.open(tmp_path / "e.png"))[6:, 6:]
            .reshape(9, 6, 4, 9, 6, 3)[:8, 0, :, :8, 0]
            .swapaxes(0, 1)
        )
        far.append(np.abs(drawn[1:, ..., :1] - x0).mean())
    assert far[0] < 12 and far[1] > 2 * far[0]


def test_edit_changes_one_thing_and_says_what_it_read(tmp_path, capsys):
    """A classifier reads the labels, --label overrules it; only a part of the picture changes."""
    d = data.load_edits()
    (i, *_), names = np.flatnonzero(d.changed == 8), list(d.labels)
    Image.fromarray(data.to_uint8(d.before[i])).save(tmp_path / "face.png")
    wish = f"background={d.labels['background'][d.labels_after[i, 8]]}"
    how = "--change", wish, "--steps", 5, "--label", "mouth=sad", "--out", tmp_path / "e.png"
    assert run("edit", "portraits", tmp_path / "face.png", *how) == 0
    _, before, after, read, last = capsys.readouterr().out.splitlines()
    rows = [dict(word.split("=") for word in line.split()[1:]) for line in (before, after)]
    assert (
        list(rows[0]) == names
        and rows[0] | {"background": rows[1]["background"]} == rows[1]
        and wish in after
    )
    assert (
        rows[0]["mouth"] == "sad"
        and rows[0]["background"] == d.labels["background"][d.labels_before[i, 8]]
    )
    assert read == f"{wish}: reached in 1 of 1, as the judge reads them"
    assert last == f"{tmp_path / 'e.png'}: the picture, then 1 times changed"
    drawn = (
        np.asarray(Image.open(tmp_path / "e.png"))[6:, 6:]
        .reshape(1, 17, 6, 2, 17, 6, 3)[0, :16, 0, :, :16, 0]
        .swapaxes(0, 1)
    )
    same = np.all(drawn[1] == data.to_uint8(d.before[i]), axis=-1)
    assert 60 < same.sum() < 240 and same[5:10, 6:10].mean() > 0.9  # most of the face


def test_edit_of_a_model_without_a_classifier_leaves_open_what_nobody_says(
    tmp_path, capsys, monkeypatch
):
    d = data.load_edits()
    Image.fromarray(data.to_uint8(d.before[0])).save(tmp_path / "face.png")

    def none(name):
        raise checkpoint.CheckpointError("none")

    monkeypatch.setattr(classifier, "load", none)
    how = ("--change hat=red --label hair=short --steps 1 --n 2 --out", tmp_path / "e.png")
    assert run("edit", "portraits", tmp_path / "face.png", *how) == 0
    out = capsys.readouterr().out
    left_open = "none: what --label does not say of this one is left open"  # by whatever reason
    assert left_open in out and "then 2 times changed" in out
    rest = "glasses=? hair=short hair-colour=? beard=? mouth=? skin=? clothes=? background=?"
    assert f"before: hat=? {rest}\nwanted: hat=red {rest}\n" in out


@pytest.mark.parametrize(
    "kind, A", [("shrink2", restore.shrink(8, 1, 2)), ("noise", restore.shrink(8, 1, 1))]
)
def test_edit_restores_what_agrees_with_the_picture(kind, A, tmp_path, capsys):
    x0 = data.load("digits").test[:1]
    small, clean = restore.degrade(A, x0), data.to_uint8(x0)[0, ..., 0].astype(float)
    Image.fromarray(data.to_uint8(small)[0, ..., 0]).save(tmp_path / "y.png")
    run_it = (
        "edit digits",
        tmp_path / "y.png",
        "--restore",
        kind,
        "--n 3 --steps 30 --out",
        tmp_path / "r.png",
    )
    assert run(*run_it, *(("--sigma", 0.05) if kind == "noise" else ())) == 0
    assert (
        f"{tmp_path / 'r.png'}: the picture, 3 times what it may have been, and their mean"
        in capsys.readouterr().out
    )
    drawn = (
        np.asarray(Image.open(tmp_path / "r.png"))[6:, 6:]
        .reshape(9, 6, 5, 9, 6, 3)[:8, 0, :, :8, 0, 0]
        .swapaxes(0, 1)
        .astype(float)
    )
    k = 8 // small.shape[1]
    assert np.array_equal(drawn[0], data.to_uint8(small)[0, ..., 0].repeat(k, 0).repeat(k, 1))
    assert np.abs(drawn[4] - drawn[1:4].mean(0)).max() < 2
    agree = np.abs(
        restore.degrade(A, drawn[1:4, ..., None]) - restore.degrade(A, clean[None, ..., None])
    ).mean()
    assert agree < 10 and np.abs(drawn[1:4] - clean).mean() < 0.7 * max(
        np.abs(drawn[0] - clean).mean(), 20
    )


def test_sample_keeps_to_colours(tmp_path, capsys):
    """A palette, a main colour: with them the pixels come near, without they do not."""
    far = []
    for wish in (
        (),
        ("--palette", "#ff0000", "#00ff00", "--pull", 3),
        ("--main-colour", "#00ff00", "--pull", 3),
    ):
        assert (
            run("sample", "portraits", "--n", 2, "--steps", 5, *wish, "--out", tmp_path / "c.png")
            == 0
        )
        drawn = (
            np.asarray(Image.open(tmp_path / "c.png"))[4:, 4:]
            .reshape(17, 4, 2, 17, 4, 3)[:16, 0, :, :16, 0]
            .astype(float)
        )
        nearest = np.minimum(
            *(np.abs(drawn - colour).max(-1) for colour in ([255, 0, 0], [0, 255, 0]))
        )
        far.append((np.median(nearest), np.abs(drawn.mean((0, 1, 2)) - [0, 255, 0]).mean()))
    assert far[1][0] < 0.3 * far[0][0] and far[2][1] < 0.8 * far[0][1], far


def test_sample_repeats_itself_for_a_seed(trained, tmp_path):
    files = [tmp_path / f"{name}.png" for name in "abc"]
    for file, seed in zip(files, [1, 1, 2], strict=True):
        assert run("sample", trained, "--n 2 --steps 2 --seed", seed, "--out", file) == 0
    a, b, c = (file.read_bytes() for file in files)
    assert a == b != c


def test_doctor(capsys):
    assert run("doctor") == 0
    out = capsys.readouterr().out
    for said in (
        f"tinydiff   {tinydiff.__version__}",
        f"numpy      {np.__version__}",
        "threads",
        "cuda       ",
        "GF/s",
        "all is well",
    ):
        assert said in out


class Card:
    name, compute_capability = b"Some GPU", (8, 6)


def fails(*_, **__):
    raise OSError(
        "libsomething.so: cannot open shared object file\nno such file" + 200 * " or folder"
    )


@pytest.mark.parametrize(
    "broken, lines",
    [
        (
            (),
            [
                "driver     for CUDA 12.8",
                "GPU        Some GPU, compute capability 8.6",
                "compiler   works",
                "kernel     compiled and run",
            ],
        ),
        (
            ("driver",),
            [
                "driver     none (libsomething.so",
                "GPU        none (no driver)",
                "compiler   works",
                "kernel     none was run",
            ],
        ),
        (
            ("card",),
            [
                "driver     for CUDA 12.8",
                "GPU        none (libsomething.so",
                "compiler   works",
                "kernel     none was run",
            ],
        ),
        (
            ("compiler",),
            [
                "driver     for",
                "GPU        Some GPU",
                "compiler   not found or not usable (libsome",
                "kernel     none was run",
            ],
        ),
        (
            ("kernel",),
            [
                "driver     for",
                "GPU        Some GPU",
                "compiler   works",
                "kernel     none was run: libsomething.so",
            ],
        ),
    ],
)
def test_doctor_says_of_each_part_of_cuda_what_is_missing(broken, lines, monkeypatch):
    """Faked: there is no card in a test."""
    parts = {
        "driver": lambda: (12, 8),
        "card": Card,
        "compiler": lambda *_, **__: ("PTX", None),
        "kernel": lambda: None,
    }
    parts |= {name: fails for name in broken}
    driver = SimpleNamespace(
        driver=SimpleNamespace(driver=SimpleNamespace(get_version=parts["driver"]))
    )
    fake = SimpleNamespace(
        cudadrv=driver, get_current_device=parts["card"], compile_ptx=parts["compiler"]
    )
    monkeypatch.setattr(cuda_array, "SIMULATED", False)
    monkeypatch.setattr(cuda_array, "cuda", fake)
    monkeypatch.setattr(cuda_array, "require", parts["kernel"])
    monkeypatch.setattr(cuda_array, "array", np.asarray)
    target, *said = cmd_doctor._cuda()
    assert (
        target.startswith(("numba-cuda 0.", "numba 0."))
        and [a[: len(b)] for a, b in zip(said, lines, strict=True)] == lines
    )
    assert all("\n" not in line for line in said)
    assert ("pip install 'tinydiff[cuda12]'" in said[2]) == ("compiler" in broken)


def test_a_card_that_numba_cannot_compile_for_is_refused_at_the_door(monkeypatch, capsys):
    monkeypatch.setattr(cuda_array.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda_array, "_number", fails)
    assert run("--kernels", "cuda", "doctor") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "there is a GPU, but numba cannot compile for it (libsomething.so: cannot open" in line
        and "pip install" in line
    )


def test_kernels_are_chosen_at_the_door(monkeypatch, capsys):
    monkeypatch.setattr(kernels, "_active", None)
    assert run("--kernels", "reference", "doctor") == 0
    assert kernels.active() is reference
    if not cuda_array.SIMULATED and not cuda_array.cuda.is_available():
        capsys.readouterr()
        assert run("--kernels", "cuda", "doctor") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert (
            line.startswith("tinydiff: --kernels cuda: no NVIDIA GPU")
            and "pip install" in line
            and "NUMBA_ENABLE_CUDASIM=1" in line
        )
        assert kernels.active() is reference


@pytest.mark.parametrize(
    "command",
    [(), ("train",), ("sample",), ("edit",), ("evaluate",), ("judge",), ("export",), ("doctor",)],
)
def test_help_names_each_option_with_its_default_once(command, capsys):
    with pytest.raises(SystemExit) as end:
        run(*command, "--help")
    out = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0 and "None" not in out and "%" not in out
    options = out.partition("options: -h, --help show this help message and exit")[2]
    for text in re.split(r" (?=--[a-z-]+ [\[A-Z{])", options)[1:]:
        assert text.count("(default: ") == 1 or text.startswith("--resume"), text
    if command == ("train",):
        assert "in minutes" in out and "SECONDS" in out and "divisible by 8" in out


@pytest.mark.slow
def test_the_main_job_in_small(tmp_path, monkeypatch, capsys):
    """`python -m tinydiff` as it is, but for a tiny network and few steps."""
    whole, (model, *rest) = cmd_train.learn, cmd_train.MODELS["digits"]
    monkeypatch.setitem(cmd_train.MODELS, "digits", (model | {"width": 8}, *rest))
    few = lambda *a, steps, seconds, **rest: whole(*a, steps=60, seconds=60.0, **rest)
    monkeypatch.setattr(cmd_train, "learn", few)
    assert run("--out", tmp_path, "--seed", 3) == 0
    out = capsys.readouterr().out
    names = ["chain.gif", "digits.npz", "loss.png", "samples.png", "triptych.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names and all(
        f"{tmp_path / name}: " in out for name in names
    )
    agree, held_out = re.search(
        r"quality: ([\d.]+)% of 640 .* \(classifier: ([\d.]+)% right on held-out digits\)", out
    ).groups()
    assert float(agree) <= 100 and float(held_out) > 80
    for name in names:
        if not name.endswith("npz"):
            Image.open(tmp_path / name).verify()


# what it says when something is wrong


def cases(text):
    """Read lines of the command line, below each, indented, what must be said of it -> dict"""
    lines = text.strip().splitlines()
    return {a: b.strip() for a, b in zip(lines[::2], lines[1::2], strict=True)}


BAD = cases("""
draw
    invalid choice: 'draw'
train
    the following arguments are required: dataset
train faces
    no data set 'faces'; there are: digits, fashion, portraits, patterns, patterns32, emoji
train digits --width 20
    width divisible by 8
train digits --width 4
    --width: takes a whole number from 8 to 1024, got '4'
train digits --depth 0
    --depth: takes a whole number from 1 to 16, got '0'
train digits --batch 0
    --batch: takes a whole number from 1 to 65536, got '0'
train digits --steps -3
    --steps: takes a whole number from 1 to 10000000, got '-3'
train digits --steps 0
    --steps: takes a whole number from 1 to 10000000, got '0'
train digits --steps many
    --steps: takes a whole number from 1 to 10000000, got 'many'
train digits --steps 1.5
    --steps: takes a whole number from 1 to 10000000, got '1.5'
train digits --steps ²
    --steps
train digits --minutes 0
    --minutes: takes a number above 0 up to 100000, got '0'
train digits --minutes nan
    --minutes: takes a number above 0 up to 100000, got 'nan'
train digits --minutes inf
    --minutes: takes a number above 0 up to 100000, got 'inf'
train digits --minutes 1 --steps 5
    --steps: not allowed with argument --minutes
train digits --lr -1
    --lr: takes a number above 1e-07 up to 10, got '-1'
train digits --save-every 0
    --save-every: takes a number above 0 up to 1000000, got '0'
train digits --seed -1
    --seed: takes a whole number from 0 to 9223372036854775807, got '-1'
train digits --predict x0
    invalid choice: 'x0'
train digits --steps 5 --resume none.npz
    none.npz cannot be read (No such file or directory)
train digits --steps 5 --resume CKPT --lr 1 --width 8
    --width, --lr cannot change on the way
train digits --steps 5 --resume CKPT --predict eps
    --predict cannot change on the way
train digits --steps 5 --resume CKPT --seed 7
    --seed cannot change on the way
train fashion --steps 5 --resume CKPT
    was trained on digits, not on fashion: name the same data set
train digits --steps 5 --out FILE
    FILE cannot be written to (Not a directory): give a folder that can
train digits --steps 5 --out FILE/below
    FILE/below cannot be written to (Not a directory): give a folder that can
train digits --width 8000000
    --width: takes a whole number from 8 to 1024, got '8000000'
--out FILE
    FILE cannot be written to (Not a directory): give a folder that can
sample
    the following arguments are required: MODEL
sample none.npz
    none.npz cannot be read (No such file or directory): give a file that `train` wrote, or one of
sample .
    . cannot be read (it is a folder, not a file): give a checkpoint that
sample FILE
    FILE is not a tinydiff checkpoint
sample CUT
    is damaged or truncated
sample CKPT --label 10
    digit can't be '10'; it can be: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
sample CKPT --label letter=a
    no label 'letter'; there are: digit, used as digit=VALUE
sample CKPT --label 1 2
    digit is asked for twice
sample CKPT --label
    --label: expected at least one argument
sample CKPT --avoid 1
    --avoid needs --guidance above 1
sample CKPT --guidance -2
    --guidance: takes a number above 0 up to 100, got '-2'
sample CKPT --times odd
    invalid choice: 'odd'
sample face
    face cannot be read (No such file or directory)
evaluate CKPT --samplers ddim:0
    ddim:0: steps go from 1 to 250
evaluate CKPT --samplers ddpm:50
    ddpm visits every step: write ddpm, and nothing behind it
evaluate CKPT --samplers dpm:5
    no sampler 'dpm:5'; there are: ddpm, ddim, euler, heun, dpmpp_2m
evaluate CKPT --n 9
    --n: takes a whole number from 64 to 100000, got '9'
evaluate CKPT --out FOLDER
    --out FOLDER: pictures are PNG files: give a name that ends in .png, as FOLDER/picture.png
sample CKPT --avoid 1 --guidance 0.5
    --avoid needs --guidance above 1
sample CKPT --sampler ddpm --times snr
    --times is for the other samplers
sample CKPT --gif --out a.gif
    --gif and --apng write the chain beside the picture: give --out a.png
sample CKPT --apng --out a.apng
    --gif and --apng write the chain beside the picture: give --out a.png
sample CKPT --out FILE
    --out FILE is a file: give a folder, or for one picture a name that ends in .png
gallery --out new
    --out new: pictures are PNG files: give a name that ends in .png, as new.png
gallery --out new/
    --out: takes the name of a file, got the folder 'new/'
export CKPT new/
    FILE: takes the name of a file, got the folder 'new/'
train digits --out=
    --out: takes the name of a file or folder, got ''
sample CKPT --out http://here/a.png
    --out: takes the name of a file or folder, got 'http://here/a.png'
sample CKPT --size 8x16
    --size is for models of textures, such as patterns: of digits each thing has its place
sample patterns --size 5000x16
    --size: takes a whole number from 1 to 4096, got '5000'
sample patterns --size 512x512 --sampler heun
    what is larger than 64x64, is drawn with ddim, not with heun: leave out --sampler
train digits --resume THERE.npz --out LINKED
    digits.npz could not be written (it is a link to ../THERE.npz, which is not replaced)
judge digits --steps 1 --out OTHERS
    digits_judge.npz exists, and is no checkpoint that can be read: write elsewhere, or give --force
sample CKPT --out PIPE
    --out PIPE is a pipe: give a folder
sample CKPT --out LINK.png
    --out LINK.png could not be written (it is a link to nowhere, which is not replaced)
sample CKPT --tile --out TAKEN.png
    --out TAKEN_3x3.png could not be written (it is a link to nowhere
sample CKPT --gif --out TAKEN.png
    --out TAKEN.gif could not be written (it is a link to nowhere
edit digits PICTURE.png --strength 0.5 --out PICTURE.png
    --out PICTURE.png is read by this command, and would be lost: give another name
edit digits IMAGE --mask PICTURE.png --out PICTURE.png
    --out PICTURE.png is read by this command, and would be lost
restyle PICTURE.png --to flat --out PICTURE.png
    --out PICTURE.png is read by this command, and would be lost
alphabet A=PICTURE.png --out PICTURE.png
    --out PICTURE.png is read by this command, and would be lost
edit digits PIPE --strength 0.5
    PIPE cannot be read (it is a pipe, not a file)
sample PIPE
    PIPE cannot be read
judge digits --out FILE
    FILE/digits_judge.npz could not be written (Not a directory)
train digits --out TRAINED
    holds a training of 20 steps: go on with --resume TRAINED/digits.npz, write elsewhere, or give
train digits --resume CKPT --out TRAINED
    holds a training of 20 steps: go on with
--out TRAINED
    holds a training of 20 steps: write elsewhere, or give --force to replace it
export CKPT TRAINED/digits.npz
    holds a training of 20 steps: write elsewhere, or give --force to replace it
export CKPT CKPT
    is read by this command, and would be lost
train digits --out EXPORTS
    holds exported weights: write elsewhere, or give --force to replace it
train digits --out OTHERS
    exists, and is no checkpoint that can be read: write elsewhere, or give --force
sample CKPT --steps +-5
    --steps: takes a whole number from 1 to 10000000, got '+-5'
train digits --steps 5 --resume EXPORTED
    holds weights to draw or judge with, not a training
evaluate FOREIGN
    no data set 'cats'; there are: digits, fashion, portraits, patterns, patterns32
evaluate CKPT --out FILE/a.png
    --out FILE/a.png could not be written (Not a directory): give another
edit digits none.png --strength 0.5
    none.png cannot be read (No such file or directory): give a PNG or JPEG
edit digits FILE --strength 0.5
    FILE is not a picture that can be read: give a PNG or JPEG
edit digits IMAGE
    one of the arguments --mask --restore --strength --change is required
edit digits IMAGE --restore sharpen
    invalid choice: 'sharpen'
edit digits IMAGE --restore grey
    digits draws in grey: --restore grey is for models of colour pictures
edit digits IMAGE --restore noise --sigma 0
    --sigma: takes a number above 0.0001 up to 10, got '0'
edit digits IMAGE --strength 0.5 --sigma 0.1
    --sigma is for --restore
edit digits none.png --restore shrink2
    none.png cannot be read (No such file or directory): give a PNG or JPEG
edit digits IMAGE --restore noise --steps 251
    --steps takes at most 250
edit FOREIGN IMAGE --restore noise
    no data set 'cats'; there are: digits, fashion, portraits, patterns, patterns32
edit digits IMAGE --strength 1.5
    --strength: takes a number above 0 up to 1, got '1.5'
edit digits IMAGE --mask OTHER
    --mask is 5 x 7, the picture 9 x 9: give a mask of the picture's size
edit portraits IMAGE --change hat=gold
    hat can't be 'gold'; it can be: none, blue
edit portraits IMAGE --change hat
    hat needs a value: hat=VALUE, one of none, blue
sample portraits --label hat
    hat needs a value: hat=VALUE, one of none, blue
edit portraits IMAGE --change
    --change: expected at least one argument
edit portraits IMAGE --change hat=red --strength 0.5
    --strength: not allowed with argument --change
edit portraits IMAGE --label hat=red --change hat=red
    --change asks for nothing new: the picture shows hat=red glasses=
edit digits IMAGE --strength 0.5 --label 11
    digit can't be '11'
sample digits --n 1 --out a.jpg
    --out a.jpg: pictures are PNG files: give a name that ends in .png, as a.png
edit digits IMAGE --strength 0.5 --out a.webp
    --out a.webp: pictures are PNG files
evaluate digits --out a.pdf
    --out a.pdf: pictures are PNG files
evaluate emoji
    emoji redraws or completes what it is shown: python tests/bench/styles.py measures that
export CKPT FOLDER
    FOLDER could not be written (it is a folder, which is not replaced): give another name
--seed 3 sample CKPT
    --out, --seed and --force go behind the command: python -m tinydiff sample
--out here gallery
    --out, --seed and --force go behind the command: python -m tinydiff gallery
--force train digits
    --out, --seed and --force go behind the command: python -m tinydiff train
edit digits IMAGE --strength 0.5 --rounds 2
    --rounds is for --mask
edit digits IMAGE --mask IMAGE
    --mask IMAGE is all black
gallery --out FOLDER
    --out FOLDER: pictures are PNG files: give a name that ends in .png, as FOLDER/picture.png
judge faces
    no data set 'faces'; there are: digits, fashion, portraits, patterns, patterns32, emoji
export none.npz a.npz
    none.npz cannot be read
export CKPT FILE/a.npz
    could not be written
sample CKPT --tile --sampler ddpm
    is drawn with ddim, not with ddpm: leave out --sampler
sample CKPT --size 8x
    --size: takes height x width in pixels, as 16x64, got '8x'
sample CKPT --size 8x8x8
    --size: takes height x width in pixels, as 16x64, got '8x8x8'
sample CKPT --size 8xx
    --size: takes height x width
sample CKPT --size 8x4
    --size takes sides of at least 8, as the model was trained with, divisible by 2; got 8x4
sample CKPT --size 9x16 --tile
    --size takes sides of at least 8, as the model was trained with, divisible by 2; got 9x16
sample CKPT --n 0
    --n: takes a whole number from 1 to 10000, got '0'
sample CKPT --steps 251
    --steps takes at most 250, the steps that this model was trained with; got 251
sample CKPT --steps 0
    --steps: takes a whole number from 1 to 10000000, got '0'
sample CKPT --sampler ddpm --steps 5
    --steps is for the other samplers; ddpm visits every step
sample CKPT --palette #ff0000
    draws in grey: --palette and --main-colour are for models of colour pictures
sample portraits --palette #ff0000 red
    a colour is written as '#rrggbb', such as '#ff8000' for orange; got 'red'
sample portraits --main-colour #ff00
    a colour is written as '#rrggbb', such as '#ff8000' for orange; got '#ff00'
sample patterns --main-colour #ff0000 --size 16x32
    --about and --main-colour draw single pictures of the model's own size
sample portraits --pull 2
    --pull is for --palette or --main-colour: name a colour
sample portraits --main-colour #ff0000 --pull 0
    --pull: takes a number above 0.01 up to 100, got '0'
sample CKPT --sampler plms
    invalid choice: 'plms'
sample CKPT --n 1 --steps 1 --out FILE/a.png
    --out FILE/a.png could not be written (Not a directory): give another
--kernels abacus doctor
    invalid choice: 'abacus'
doctor --fast
    unrecognized arguments: --fast
""")


@pytest.mark.parametrize("line", BAD)
def test_bad_input_gets_one_clear_line(line, trained, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text("x")
    Path("FOLDER").mkdir()
    Path("CUT").write_bytes(trained.read_bytes()[:-100])
    training, _, about = checkpoint.load(trained)
    checkpoint.export("EXPORTED", training.ema, about)
    Image.new("L", (9, 9)).save("IMAGE", "PNG")
    Image.new("L", (5, 7)).save("OTHER", "PNG")
    checkpoint.export("FOREIGN", training.ema, about | {"dataset": "cats"})
    for link in ("LINK.png", "TAKEN_3x3.png", "TAKEN.gif"):
        Path(link).symlink_to("nowhere")
    os.mkfifo("PIPE")
    Image.new("RGB", (9, 9)).save("PICTURE.png")
    checkpoint.save("TRAINED/digits.npz", training, about)
    checkpoint.export("EXPORTS/digits.npz", training.ema, about)
    Path("OTHERS").mkdir()
    for name in ("digits", "digits_judge"):
        Path(f"OTHERS/{name}.npz").write_text("x")
    checkpoint.save("THERE.npz", training, about)
    Path("LINKED").mkdir()
    Path("LINKED/digits.npz").symlink_to("../THERE.npz")
    before = {p: p.lstat() for p in sorted(tmp_path.rglob("*"))}
    assert BAD[line] in refused(*(trained if word == "CKPT" else word for word in line.split()))
    after = {p: p.lstat() for p in sorted(tmp_path.rglob("*"))}
    kept = lambda files: {p: (s.st_ino, s.st_mode, s.st_size) for p, s in files.items()}
    assert kept(after) == kept(before)  # nothing is replaced, not even an empty folder is left


def test_a_training_is_replaced_where_that_is_asked_for(trained, tmp_path):
    """By a resume of it, or by --force; exported weights by another export."""
    path = tmp_path / "digits.npz"
    path.write_bytes(trained.read_bytes())
    again = ("train", "digits", "--out", tmp_path, "--steps")
    assert run(*again, 21, "--resume", path) == 0 and checkpoint.load(path)[0].step == 21
    assert run(*again, 2, *TINY) == 2 and checkpoint.load(path)[0].step == 21
    assert run(*again, 2, *TINY, "--force") == 0 and checkpoint.load(path)[0].step == 2
    assert run("export", trained, path, "--force") == 0
    assert run("export", trained, path) == 0


def test_the_main_job_replaces_only_what_it_has_made_itself(tmp_path, monkeypatch):
    """Twice in a row it runs; a training that went on from its checkpoint it leaves alone."""
    path, asked = tmp_path / "digits.npz", []

    def learn(run, s, dataset, meta, path, **limits):
        asked.append(path)
        checkpoint.save(path, run, meta)
        raise KeyboardInterrupt  # the drawing afterwards is not of interest here

    with monkeypatch.context() as m:
        m.setattr(cmd_train, "learn", learn)
        assert run("--out", tmp_path) == run("--out", tmp_path) == 130
        assert asked == [path, path]
    assert run("train digits --steps 1 --resume", path, "--out", tmp_path) == 0
    with monkeypatch.context() as m:
        m.setattr(cmd_train, "learn", learn)
        assert run("--out", tmp_path) == 2 and len(asked) == 2
        assert run("--force", "--out", tmp_path) == 130 and len(asked) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="has no such locks")
def test_two_trainings_do_not_write_into_one_file(tmp_path, refused):
    """The second is refused, whatever became of the first's file; then the place is free again."""
    words = ("train digits", *TINY, "--steps", 1, "--out", tmp_path / "new")
    with cmd_train._alone(tmp_path / "new" / "digits.npz"):
        assert "another training writes into it now" in refused(*words)
        assert "another training writes into it now" in refused(*words)
    assert list(tmp_path.iterdir()) == []
    assert run(*words) == 0


@pytest.mark.parametrize("command", ["sample digits", "train digits", "gallery", ""])
def test_no_empty_folder_is_left_behind(command, tmp_path, monkeypatch, capsys):
    """Ctrl-C before the first result, which the line does not call one."""
    monkeypatch.chdir(tmp_path)

    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Pipeline, "draw", stop)
    monkeypatch.setattr(cmd_train, "learn", stop)
    assert run(command) == 130
    assert list(tmp_path.iterdir()) == []
    assert "nothing was written; give the same command to start again" in capsys.readouterr().err


def test_a_fresh_process_ends_with_status_2_and_one_line(start):
    status, out, err = finish(start("sample", "none.npz"))
    assert (status, out) == (2, "") and re.fullmatch(r"tinydiff: none.npz cannot be read .*\n", err)


@pytest.mark.filterwarnings("error")
def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(
    trained, tmp_path, refused, monkeypatch
):
    monkeypatch.setattr(cmd_train, "warmup_cosine", lambda done: 1e33)
    path = tmp_path / "digits.npz"
    path.write_bytes(trained.read_bytes())
    line = refused("train digits --force", *TINY, "--steps", 50, "--out", tmp_path, lines=None)
    assert re.search(
        r"the loss at step \d+ is (inf|nan), .*: lower the learning rate, .*; "
        rf"the last checkpoint stays in {path}",
        line,
    )
    assert path.read_bytes() == trained.read_bytes()

    refused(
        "train",
        "digits",
        *TINY,
        "--steps",
        50,
        "--save-every",
        1e-9,
        "--out",
        tmp_path / "new",
        lines=None,
    )
    after, _, _ = checkpoint.load(tmp_path / "new" / "digits.npz")
    assert 1 <= after.step < 10 and all(
        np.isfinite(a).all()
        for a in (after.loss, after.theta, after.ema, after.adam.m, after.adam.v)
    )


def test_a_checkpoint_that_cannot_be_written_at_the_end_is_not_lost_silently(
    trained, tmp_path, monkeypatch, refused
):
    path = tmp_path / "digits.npz"
    path.write_bytes(trained.read_bytes())

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    line = refused("train digits --force", *TINY, "--steps", 3, "--out", tmp_path, lines=None)
    assert (
        f"{path} could not be written (No space left on device); what was there before is untouched"
        in line
    )
    assert path.read_bytes() == trained.read_bytes() and [p.name for p in tmp_path.iterdir()] == [
        "digits.npz"
    ]


# unfriendly systems


def test_names_that_stdout_has_no_letters_for(tmp_path):
    command = [sys.executable, "-m", "tinydiff", "sample", "digits", "--n", "1", "--steps", "1"]
    env = PYTHON | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*command, "--gif", "--out", tmp_path / "ü.png"], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0 and "\\xfc.png: 1 image\n" in done.stdout, done.stderr
    assert {p.suffix for p in tmp_path.iterdir()} == {".png", ".gif"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
def test_an_output_that_is_full_is_named_as_such(tmp_path):
    words = ["sample", "digits", "--n", "1", "--steps", "1", "--out", str(tmp_path / "a.png")]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tinydiff", *words],
            env=PYTHON,
            stdout=full,
            stderr=-1,
            text=True,
        )
    assert done.returncode == 2 and (tmp_path / "a.png").exists()
    assert done.stderr == "tinydiff: the output could not be written (No space left on device)\n"


def test_a_missing_package_is_named(monkeypatch, refused):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="numba")

    monkeypatch.setattr(Pipeline, "load", missing)
    line = refused("sample", "digits")
    assert f"numba is not installed for this Python, {sys.executable}: pip install -r" in line
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for command in ("gallery", "evaluate digits", "--out new"):  # at once, not at the end
        assert "matplotlib is not installed" in refused(*command.split())


def test_a_folder_that_is_gone(tmp_path, monkeypatch, refused):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    gone = "the folder in which this runs is gone: change to one that exists"
    assert gone in refused("sample", "digits") and gone in refused("handout", "x")


def test_names_that_are_too_long(tmp_path, refused):
    long = "n" * 300
    assert "(File name too long)" in refused("sample", "digits", "--out", tmp_path / f"{long}.png")
    assert f"{long} cannot be read" in refused("sample", long)


def test_no_empty_folder_is_left_where_writing_fails(tmp_path, monkeypatch, refused):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    words = ("sample digits --n 1 --steps 1 --out", tmp_path / "x" / "y" / "a.png")
    assert "a.png could not be written (No space left on device)" in refused(*words)
    assert list(tmp_path.iterdir()) == []


def test_a_defect_of_our_own_is_not_hidden(monkeypatch):
    monkeypatch.setattr(cmd_doctor, "cmd_doctor", lambda args: {}["missing"])
    with pytest.raises(KeyError):
        run("doctor")


# no interruption costs the work done before it


def test_interrupted_and_resumed_gives_the_same_bits(start, tmp_path):
    """Ctrl-C in one process, the rest in another, by the command that the first one names."""
    whole = start("train", "digits", *TINY, "--steps", 80, "--out", tmp_path / "whole")
    assert finish(whole)[0] == 0

    stopped = start("train", "digits", *TINY, "--steps", 80, "--out", tmp_path / "in two parts")
    wait_for(stopped, "step 1")  # the bar may pass over any later one
    stopped.send_signal(signal.SIGINT)
    status, out, err = finish(stopped)
    path = tmp_path / "in two parts" / "digits.npz"
    assert status == 130 and out == "" and "Traceback" not in err
    step = checkpoint.load(path)[0].step
    assert 1 <= step < 80
    assert (
        f"stopped at step {step}; go on with: python -m tinydiff train digits --steps 80 --out"
        in err.splitlines()[-1]
    )

    command = err.splitlines()[-1].partition("go on with: python")[2]
    assert (
        subprocess.run(
            f"'{sys.executable}' {command}", shell=True, env=PYTHON, capture_output=True
        ).returncode
        == 0
    )
    assert state(path) == state(tmp_path / "whole" / "digits.npz")


def test_the_time_to_compile_is_not_training_time(tmp_path, monkeypatch):
    whole = cmd_train.loop

    def slow(*args):
        time.sleep(0.5)  # in the first step, as if it compiled
        yield from whole(*args)

    monkeypatch.setattr(cmd_train, "loop", slow)
    assert run("train digits", *TINY, "--minutes", 0.005, "--out", tmp_path) == 0
    assert checkpoint.load(tmp_path / "digits.npz")[0].step > 1


def test_resuming_what_is_done_changes_nothing(trained, tmp_path, capsys):
    assert run("train", "digits", "--steps", 20, "--resume", trained, "--out", tmp_path) == 0
    assert f"nothing to do: {trained} is at step 20 already" in capsys.readouterr().err
    assert state(tmp_path / "digits.npz") == state(trained)


def test_saving_and_drawing_on_the_way_changes_nothing(tmp_path, monkeypatch):
    """Nor does it hold training up: after a sheet that took long there is none for a while."""
    for name, seconds, rest in [("once", 60, 0), ("often", 1e-9, 0), ("seldom", 1e-9, 1e9)]:
        monkeypatch.setattr(cmd_train, "REST", rest)
        assert (
            run("train digits", *TINY, "--steps 6 --save-every", seconds, "--out", tmp_path / name)
            == 0
        )
        assert (
            len(list((tmp_path / name).glob("digits_*.png")))
            == {"once": 1, "often": 6, "seldom": 2}[name]
        )
    assert state(tmp_path / "once" / "digits.npz") == state(tmp_path / "often" / "digits.npz")


@pytest.mark.parametrize("moment", ["step", "save", "last save"])
def test_ctrl_c_cuts_neither_a_step_nor_a_save_in_two(tmp_path, monkeypatch, capsys, moment):
    path, save, fsync, saves = tmp_path / "digits.npz", checkpoint.save, os.fsync, []

    def interrupted_save(path, run, about):
        saves.append(run.step)
        if moment == "step" and run.step == 2:
            signal.raise_signal(signal.SIGINT)
        save(path, run, about)

    def interrupted_fsync(descriptor):
        if saves[-1] == {"step": None, "save": 2, "last save": 4}[moment]:
            signal.raise_signal(signal.SIGINT)
        fsync(descriptor)

    monkeypatch.setattr(checkpoint, "save", interrupted_save)
    monkeypatch.setattr(os, "fsync", interrupted_fsync)
    before = signal.getsignal(signal.SIGINT)
    assert (
        run("train", "digits", *TINY, "--steps", 4, "--save-every", 1e-9, "--out", tmp_path) == 130
    )
    assert signal.getsignal(signal.SIGINT) is before
    step = 4 if moment == "last save" else 2
    assert checkpoint.load(path)[0].step == step and not list(tmp_path.glob(".*"))
    assert (
        f"stopped at step {step}; go on with: python -m tinydiff train digits --steps 4"
        in capsys.readouterr().err
    )


@pytest.mark.slow
def test_the_gallery_has_a_row_for_each_use(tmp_path, capsys):
    assert run("gallery", "--out", tmp_path / "g.png") == 0
    assert (
        f"{tmp_path / 'g.png'}: {len(gallery.ROWS)} rows, all drawn just now"
        in capsys.readouterr().out
    )
    rows = {title: pictures for title, _, pictures in gallery.rows(0)}
    whole, hole = (
        gallery.faces()[0],
        gallery.sheet([gallery.faces()[0][0]] * 6),
    )  # six times the first face
    filled = rows["Filled in"][0][1]
    assert np.array_equal(filled[4 * 8 + 4 :, 4:], hole[4 * 8 + 4 :, 4:]) and not np.array_equal(
        filled, hole
    )
    _, restored = rows["Restored"][0]
    truth = plot.sheet(np.repeat(whole[:2], 3, 0), 3, scale=3)
    assert np.array_equal(restored[:, -51:], truth[:, -51:]) and not np.array_equal(restored, truth)
    shown = np.asarray(Image.open(tmp_path / "g.png").convert("RGB"))
    found = np.lib.stride_tricks.sliding_window_view(
        shown[:400, :60], filled[:, :40].shape
    ).squeeze(2)
    assert (found == filled[:, :40]).all((2, 3, 4)).sum() == 1


@pytest.mark.slow
def test_killed_at_twenty_random_moments(start, tmp_path):
    """kill -9 while it trains and saves: what is there always loads; in the end nothing is lost."""
    enough = ("--steps", 1500)  # many times what twenty short lives take on a quick machine
    assert finish(start("train", "digits", *TINY, *enough, "--out", tmp_path / "whole"))[0] == 0

    out, path = tmp_path / "killed", tmp_path / "killed" / "digits.npz"
    rng, steps, go_on = np.random.default_rng(), [0], TINY
    for k in range(20):
        process = start("train", "digits", *go_on, *enough, "--save-every", 0.01, "--out", out)
        wait_for(process, ", step " if k % 5 else "training on digits")
        time.sleep(rng.uniform(0, 0.15))
        process.kill()
        assert finish(process)[0] == -signal.SIGKILL, (
            "it was done before it was killed: give it more steps"
        )
        if path.exists():
            steps.append(checkpoint.load(path)[0].step)
            go_on = ("--resume", path)
    assert steps == sorted(steps) and 0 < steps[-1] < 1500 and len(set(steps)) > 5
    for remains in out.glob(".*.part"):
        assert not remains.match("*.npz")
    assert finish(start("train", "digits", *go_on, *enough, "--out", out))[0] == 0
    assert state(path) == state(tmp_path / "whole" / "digits.npz")


def test_edit_with_a_model_of_few_steps_takes_them_all(trained, picture, tmp_path, capsys):
    """Without --steps an edit takes 50, or as many as the model was trained with."""
    run_, _, meta = checkpoint.load(trained)
    short = meta | {"schedule": {"kind": "cosine", "T": 12}}
    checkpoint.export(tmp_path / "short.npz", run_.ema, short)
    image, mask = picture
    for how in ("--strength 0.5", f"--mask {mask} --rounds 1", "--restore noise"):
        words = f"{how} --n 1 --out {tmp_path / 'e.png'}"
        assert run("edit", tmp_path / "short.npz", image, words) == 0
        assert (tmp_path / "e.png").exists() and capsys.readouterr().err == ""


def test_drawing_builds_no_optimiser_and_sheets_leave_the_training_alone(trained, monkeypatch):
    run_, s, meta = checkpoint.load(trained)
    before = run_.theta.copy()
    model = checkpoint.averaged(run_, meta)
    weights = np.concatenate([p.ravel() for p in model.params().values()])
    assert np.array_equal(weights, run_.ema) and not np.array_equal(before, run_.ema)
    assert np.array_equal(run_.theta, before) and model is not run_.model
    monkeypatch.setattr("tinydiff.train.Adam", None)
    assert Pipeline.load("digits").model.size == 8


def test_a_page_shows_each_picture_pixel_for_pixel_and_says_what_it_is(tmp_path):
    rng, sizes = np.random.default_rng(0), ((20, 31), (33, 40), (10, 150))
    a, b, c = (rng.integers(0, 255, size=(h, w, 3), dtype=np.uint8) for h, w in sizes)
    rows = [("One", "words", [("left", a), ("right", b)]), ("Two", "more", [("alone", c)])]
    figure = gallery.page(rows, width=200)
    written = ["One", "words", "left", "right", "Two", "more", "alone"]
    assert [text.get_text() for text in figure.texts] == written
    path = plot.save_figure(figure, tmp_path / "page.png")
    drawn, corners = np.asarray(Image.open(path).convert("RGB")), []
    assert drawn.shape[1] == 200
    for picture in (a, b, c):
        windows = np.lib.stride_tricks.sliding_window_view(drawn, picture.shape)[:, :, 0]
        (corner,) = np.argwhere((windows == picture).all((2, 3, 4)))
        corners.append(tuple(corner))
    (top, left), (same, right), (below, _) = corners
    assert top == same and right >= left + 31 and below > top + 33
    with pytest.raises(ValueError, match="'Wide' is wider than the page of 100 pixels"):
        gallery.page([("Wide", "", [("", c)])], width=100)


def test_a_mask_fits_a_photo_that_was_taken_upright(tmp_path, capsys):
    """Its file lies on its side and says so: the mask is of the picture as one sees it."""
    lying = Image.fromarray(np.zeros((30, 40), np.uint8) + 99)
    turned = Image.Exif()
    turned[0x0112] = 6
    lying.save(tmp_path / "photo.jpg", exif=turned)
    mask = np.repeat(np.uint8([255, 0]), 20)[:, None].repeat(30, 1)  # 40 high, 30 wide
    Image.fromarray(mask).save(tmp_path / "mask.png")
    places = f"{tmp_path / 'photo.jpg'} --mask {tmp_path / 'mask.png'} --out {tmp_path / 'e.png'}"
    assert run("edit digits --n 1 --steps 2 --rounds 1", places) == 0
    assert "then 1 times drawn anew" in capsys.readouterr().out
