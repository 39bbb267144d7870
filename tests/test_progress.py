"""Bars: only where work takes long, on stderr, and they count what is really done."""

import io
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tinydiff import kernels, unet
from tinydiff.app import cli, cmd_train, gallery, progress
from tinydiff.course import exercises, grade
from tinydiff.design import gatys
from tinydiff.measure import evaluate


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def hurried(monkeypatch):
    """Seconds become hundredths."""
    monkeypatch.setattr(progress, "DELAY", 0.03)
    monkeypatch.setattr(progress, "EVERY", 0.01)
    monkeypatch.setattr(progress, "EVERY_LINE", 0.1)


def work(stream, monkeypatch, seconds, **options):
    """Count to ten within some seconds -> what stands on stderr"""
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.Bar(10, "working", delay=progress.DELAY, **options) as bar:
        for _ in range(10):
            time.sleep(seconds / 10)
            bar.tick()
    return stream.getvalue()


def test_on_a_terminal_it_comes_late_moves_and_goes(hurried, monkeypatch):
    text = work(Terminal(), monkeypatch, 0.2)
    assert "working:" in text and " of 10 network evaluations, 00:00, 00:00 left" in text
    shown, rubbed_out, nothing = text.rsplit("\r", 2)
    assert shown.count("\r") > 3 and rubbed_out.isspace() and nothing == "" and "\n" not in text


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_a_short_work_has_none(stream, monkeypatch):
    assert work(stream(), monkeypatch, 0.0) == ""


def test_in_a_log_file_each_look_is_a_line(hurried, monkeypatch):
    text = work(io.StringIO(), monkeypatch, 0.5)
    assert "\r" not in text and 2 <= len(text.splitlines()) <= 5 and text.endswith("\n")
    assert all(line.startswith("working: ") and "% " not in line for line in text.splitlines())


def test_time_goes_on_where_nothing_is_counted(hurried, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress.Bar(10, "working", delay=progress.DELAY):
        time.sleep(0.3)
    assert "working: 0%, 0 of 10" in sys.stderr.getvalue()


def test_one_that_stays_ends_with_the_last_state(hurried, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress.Bar(1.0, "training", None, delay=0.0, leave=True) as bar:
        bar.done, bar.note = 1.0, "loss 0.5"
    assert sys.stderr.getvalue().endswith("| 00:00, 00:00 left, loss 0.5\n")


@pytest.mark.parametrize("error", [BrokenPipeError(32, "gone"), OSError(5, "EIO"), ValueError()])
def test_a_stream_that_nobody_reads_stops_no_work(hurried, monkeypatch, error):
    class Dead(Terminal):
        def write(self, text):
            raise error

    assert work(Dead(), monkeypatch, 0.1) == ""


# --- the commands count right ---


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """Run a command with networks that see nothing -> its bars, as [(title, done, total)]"""

    def nothing(self, x, t, labels=None):
        return np.zeros((*x.shape[:3], self.out), x.dtype)

    monkeypatch.setattr(unet.UNet, "__call__", nothing)
    monkeypatch.setattr(kernels, "_active", kernels._active)  # put back at the end
    kernels.use("reference")
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((16, 16, 3), 99, np.uint8)).save("p.png")
    mask = np.repeat(np.uint8([[255, 0]]), 8, 1).repeat(16, 0)
    Image.fromarray(mask).save("m.png")
    bars, enter = [], progress.Bar.__enter__
    monkeypatch.setattr(progress.Bar, "__enter__", lambda bar: bars.append(bar) or enter(bar))

    def run(words):
        assert cli.main(words.split()) == 0
        return [(bar._bar.desc, bar.done, bar.total) for bar in bars]

    return run


DRAWN = {
    "sample digits --n 3 --steps 4": 12,
    "sample digits --n 3 --steps 4 --guidance 2 --label 7 --gif": 24,
    "sample digits --n 2 --sampler ddpm": 500,
    "sample digits --n 2 --sampler heun --steps 4 --times karras": 14,
    "sample digits --n 2 --sampler dpmpp_2m --steps 4 --times snr": 8,
    "sample patterns --n 2 --tile --steps 3 --guidance 2 --label palette=ocean": 12,
    "sample patterns --n 2 --size 16x32 --steps 3": 6,
    "sample patterns --size 68x72 --steps 2": 10,  # a tile, then two steps of four windows
    "sample patterns --n 2 --steps 3 --palette #ff0000": 6,
    "sample patterns32 --n 2 --steps 2 --size 32x64 --tile": 4,
    "edit portraits p.png --n 2 --steps 5 --mask m.png": 42,
    "edit portraits p.png --n 2 --steps 5 --mask m.png --rounds 1 --guidance 2": 20,
    "edit portraits p.png --n 2 --steps 5 --strength 0.5": 6,
    "edit portraits p.png --n 1 --steps 5 --restore grey": 5,
    "edit portraits p.png --n 2 --steps 5 --change hat=red": 44,
    "restyle p.png --to noto --n 2 --steps 4": 16,
    "restyle p.png --to noto --n 2 --steps 4 --guidance 1 --way noise": 6,
    "restyle p.png --to noto --n 2 --steps 4 --way inversion --from line": 24,
    "alphabet lobster --n 2 --steps 3": 156,
}


@pytest.mark.parametrize("words, want", DRAWN.items(), ids=DRAWN)
def test_what_draws_counts_network_evaluations(counted, words, want):
    drawing, *writing = counted(f"{words} --out a.png")
    assert drawing == ("drawing", want, want)
    assert writing == [("writing the animation", 20, 20)] * ("--gif" in words)


@pytest.mark.slow
def test_the_gallery_counts_those_of_all_rows(counted, monkeypatch):
    monkeypatch.setattr(gatys, "transfer", lambda reader, source, style: [source])
    monkeypatch.setattr("tinydiff.design.restore.log_p_gradient", lambda *args: lambda x, t: 0 * x)
    want = gallery.EVALUATIONS
    assert counted("gallery --out a.png") == [("drawing the gallery", want, want)]


def test_an_evaluation_counts_all_that_it_draws(counted, monkeypatch):
    monkeypatch.setattr(evaluate, "STABLE", 32)
    monkeypatch.setattr(evaluate, "multiply_adds", lambda *args: 1)
    ((title, done, total),) = counted("evaluate digits --n 64 --samplers ddim:2 --out a.png")
    assert title == "evaluating on digits" and done == total > 64 * 2 + 3 * 32 * 2


def test_a_judge_counts_its_steps(counted):
    assert counted("judge digits --steps 2 --out .") == [("training the judge of digits", 2, 2)]


def test_a_handout_counts_exercises(counted, monkeypatch):
    monkeypatch.setattr(grade, "known", lambda exercise: {"calls": {}, "sentences": []})
    n = sum(e.lesson[:2] in ("01", "07") for e in exercises.exercises())
    assert counted("handout hw --lessons 1,7") == [("writing the handout", n, n)]


def test_a_class_counts_exercises_of_each_student(counted, tmp_path):
    (tmp_path / "class").mkdir()
    untouched = "def q_sample():\n    raise NotImplementedError\n"
    for name in "abc":
        (tmp_path / "class" / f"{name}.py").write_text(untouched)
    assert counted("grade class --lessons 1 --out g.csv") == [("grading", 12, 12)]


def test_a_training_draws_its_samples_with_a_bar(counted, monkeypatch):
    monkeypatch.setattr(cmd_train, "learn", lambda *args, **options: [0.1])
    words = "train digits --width 8 --depth 1 --batch 4 --steps 1 --out o"
    assert counted(words) == [("drawing samples", 640, 640)]


@pytest.mark.slow
def test_the_main_job_draws_with_a_bar(counted, monkeypatch):
    monkeypatch.setattr(cmd_train, "learn", lambda *args, **options: [0.1])
    assert counted("--out o") == [("drawing digits", 9600, 9600)]
