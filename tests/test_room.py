"""room.py and --memory: a limit holds, is refused where it cannot, and changes nothing else."""

import argparse
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tinydiff import checkpoint, data, train
from tinydiff.app import cli, cmd_train, room
from tinydiff.app.usage import UsageError
from tinydiff.design.pipeline import Pipeline
from tinydiff.streams import Streams

SMALL = "--width 8 --depth 1 --batch 10".split()
MODEL = {"size": 32, "channels": 3, "width": 32, "multipliers": [1, 2, 2], "depth": 2}


@pytest.mark.parametrize(
    "text, amount",
    [
        *(("4GB", 4e9), ("500MB", 5e8), ("2e9", 2e9), ("1.5 GiB", 1.5 * 2**30), ("4g", 4e9)),
        *((".5GB", 5e8), ("300M", 3e8), ("1e9B", 1e9), ("200000K", 2e8), ("1T", 1e12)),
    ],
)
def test_an_amount_of_memory_is_read_as_people_write_it(text, amount):
    assert cli._memory(text) == amount


@pytest.mark.parametrize(
    "text", "4 0MB x 4GBx -4GB 1_000MB nan inf 1e30 1..5GB 2e99GB 99MB".split()
)
def test_what_is_no_amount_of_memory_gets_one_line(text):
    with pytest.raises(argparse.ArgumentTypeError, match="as 4GB, 500MB or 2e9; got") as e:
        cli._memory(text)
    assert "\n" not in str(e.value)


def blank(size=8, M=20, C=1):
    pixels = np.random.default_rng(0).integers(0, 255, (M, size, size, C), np.uint8)
    return data.Dataset("blank", data.Pixels(pixels), data.Pixels(pixels[:2]), None, None, {})


def test_as_many_images_at_once_as_fit(monkeypatch):
    monkeypatch.setattr(room, "peak_memory", lambda: None)
    each, fixed = room.per_image(MODEL), room.PROGRAM + room.PER_WEIGHT * 10**6
    dataset = blank(32, 100, 3)
    fixed += dataset.train.pixels.nbytes
    at_once = lambda limit, N=32: room.at_once(limit, MODEL, 10**6, N, dataset)
    assert at_once(None) is None and at_once(fixed + 32.5 * each) is None
    assert at_once(fixed + 7.5 * each) == 7 and at_once(fixed + 1.5 * each) == 1
    with pytest.raises(UsageError, match=f"needs at least {-(-(fixed + each) // 1e6):.0f}MB, a"):
        at_once(fixed + 0.9 * each)
    monkeypatch.setattr(room, "peak_memory", lambda: 9e9)  # reading alone has taken as much
    with pytest.raises(UsageError, match="--memory 8000MB is too little: reading .* took 9000MB"):
        at_once(8e9)


def test_what_an_image_takes_grows_with_its_pixels_and_with_the_network():
    for key, value in (("size", 64), ("width", 64), ("depth", 4), ("multipliers", [1, 4, 4])):
        assert room.per_image(MODEL | {key: value}) > 1.3 * room.per_image(MODEL), key


def trained(tmp_path, *words):
    words = ["train", "digits", *words, "--out", str(tmp_path), "--force"]
    assert cli.main([str(word) for word in words]) == 0
    return checkpoint.load(tmp_path / "digits.npz")


def test_a_limit_is_kept_when_resumed_and_may_change(tmp_path, monkeypatch):
    """The images, times and noise are those without a limit; the same limit gives the same bits."""
    calls, real = [], train.in_pieces
    most = lambda f, most, *batch: calls.append(most) or real(f, most, *batch)
    monkeypatch.setattr(train, "in_pieces", most)
    monkeypatch.setattr(cmd_train, "_drawn", lambda *_: np.zeros((1, 8, 8, 1)))
    monkeypatch.setattr(room, "PROGRAM", 0)
    monkeypatch.setattr(room, "peak_memory", lambda: None)
    monkeypatch.setattr(room, "per_image", lambda model: 3e7)
    whole, *_ = trained(tmp_path, "--steps", 2, *SMALL)
    cut, _, meta = trained(tmp_path, "--steps", 2, *SMALL, "--memory", "130MB")
    assert meta["train"]["memory"] == 130_000_000 and calls == [None, None, 4, 4]
    assert np.allclose(whole.theta, cut.theta, rtol=1e-4, atol=1e-6)
    assert str(whole.rng.bit_generator.state) == str(cut.rng.bit_generator.state)
    trained(tmp_path, "--steps", 1, *SMALL, "--memory", "130MB")
    again, *_ = trained(tmp_path, "--steps", 2, "--resume", tmp_path / "digits.npz")
    assert np.array_equal(again.theta, cut.theta) and calls[4:] == [4, 4]
    trained(tmp_path, "--steps", 3, "--resume", tmp_path / "digits.npz", "--memory", "200MB")
    assert calls[6:] == [6]


def test_pictures_drawn_in_pieces_are_the_same():
    pipe = Pipeline.load("digits")
    labels = np.arange(10)[:, None]
    draw = lambda rows: pipe.draw(labels[rows], Streams(3, rows), "dpmpp_2m", 2)[-1]
    rows = pipe.pieces(range(10), most=3)
    assert [len(piece) for piece in rows] == [3, 3, 3, 1]
    assert np.array_equal(np.concatenate([draw(piece) for piece in rows]), draw(range(10)))
    assert len(pipe.pieces(range(1000))) == 1 and len(pipe.pieces(range(100), (320, 320))) == 100


# --- measured ---


def peak_of(*words):
    """Run a command by itself -> its peak memory in bytes, what it said"""
    script = "import resource, subprocess, sys; p = subprocess.run(sys.argv[1:]); print()"
    script += "; print(p.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    command = [sys.executable, "-c", script, sys.executable, "-m", "tinydiff", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    status, peak = map(int, done.stdout.split()[-2:])
    assert status == 0, done.stderr
    return peak * (1 if sys.platform == "darwin" else 1024), done.stdout


def saved(tmp_path, size, M, name="set.npy"):
    """Write M different pictures (size, size, 3), each a few discs of random colours -> Path"""
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:size, :size] / size
    images = np.empty((M, size, size, 3), np.uint8)
    for i in range(0, M, 1000):
        part = images[i : i + 1000]
        part[:] = rng.integers(256, size=(len(part), 1, 1, 3))
        for _ in range(3):
            at, r = rng.random((2, len(part), 1, 1)), 0.1 + 0.3 * rng.random((len(part), 1, 1))
            inside = (x - at[0]) ** 2 + (y - at[1]) ** 2 < r**2
            part[inside] = rng.integers(256, size=(len(part), 3))[np.nonzero(inside)[0]]
    np.save(tmp_path / name, images)
    return tmp_path / name


@pytest.mark.slow
@pytest.mark.parametrize("size, limit", [(16, 450), (32, 490), (64, 510), (64, 600)])
def test_a_limit_holds(size, limit, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    words = "--steps", 3, "--size", size, "--memory", f"{limit}MB", "--out", tmp_path / "out"
    peak, _ = peak_of("train", saved(tmp_path, size, 1500), *words)
    assert 0.3 * limit < peak / 1e6 <= limit


@pytest.mark.slow
def test_sixty_thousand_pictures_of_32_x_32_train_in_600_megabytes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = saved(tmp_path, 32, 60_000)
    for _ in range(2):  # read, and from the cache
        peak, said = peak_of("train", path, "--steps", 3, "--out", tmp_path / "out", "--force")
        assert "60,000 pictures" in said and "32 x 32, colour" in said
        assert peak < 600e6, f"{peak / 1e6:.0f} MB"


@pytest.mark.slow
def test_ten_thousand_files_start_training_within_twenty_seconds(tmp_path, monkeypatch):
    """Of a processor: others may compute meanwhile. The second time they come from the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    images, seconds = np.load(saved(tmp_path, 32, 10_000)), []
    (tmp_path / "set").mkdir()
    for i, x in enumerate(images):
        Image.fromarray(x).save(tmp_path / "set" / f"{i}.png")
    for _ in range(2):
        before = time_of_children()
        peak_of("look", tmp_path / "set", "--out", tmp_path / "look.png")
        seconds.append(time_of_children() - before)
    assert seconds[0] < 20 and seconds[1] < 0.8 * seconds[0]


def time_of_children():
    used = os.times()
    return used.children_user + used.children_system
