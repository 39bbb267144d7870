"""A training that is looked at learns the same, and can be stopped and go on."""

import base64
import io
import signal
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tinydiff import data, schedule
from tinydiff.app import watch as module
from tinydiff.app.watch import Stopped, watch
from tinydiff.train import Training, train
from tinydiff.unet import UNet

S, DIGITS = schedule.cosine(20), data.load("digits")


def begun():
    rng = np.random.default_rng(0)
    model = UNet(8, width=8, multipliers=(1, 2), depth=1, classes=DIGITS.classes, rng=rng)
    return Training(model, rng)


def steps_of(run):
    return train(run, S, DIGITS.train, DIGITS.train_labels, batch=8)


@pytest.fixture
def expected():
    """A training of six steps at which nobody looks."""
    run = begun()
    list(islice(steps_of(run), 6))
    return run


@pytest.fixture
def shown(monkeypatch):
    """Let it believe that it is in a notebook, and look after each step -> what was displayed"""
    display, found = pytest.importorskip("IPython.display"), []
    handle = SimpleNamespace(update=lambda data, raw: found.append(data))
    notebook = SimpleNamespace(kernel=None)
    monkeypatch.setattr(module, "EVERY", 0.0)
    monkeypatch.setattr(module, "SHARE", np.inf)
    monkeypatch.setattr(pytest.importorskip("IPython"), "get_ipython", lambda: notebook)
    monkeypatch.setattr(display, "display", lambda data, **_: handle.update(data, True) or handle)
    return found


def same(run, other):
    arrays = ("theta", "ema")
    return run.losses == other.losses and all(
        np.array_equal(getattr(run, name), getattr(other, name)) for name in arrays
    )


def test_in_a_notebook_the_training_is_the_same_to_the_bit(expected, shown):
    run = begun()
    assert [r.step for r in watch(run, steps_of(run), 6, S)] == [1, 2, 3, 4, 5, 6]
    assert same(run, expected) and run.rng.random() == expected.rng.random()
    assert shown[1]["text/plain"].startswith("step 3 of 6: loss ")
    assert shown[1]["text/plain"].endswith(" s left")
    assert shown[-1]["text/plain"] == f"step 6 of 6: loss {run.loss:.3f}"
    sizes = {Image.open(io.BytesIO(base64.b64decode(d["image/png"]))).size for d in shown}
    assert sizes == {(810, 252)}, "one picture that changes, and does not jump"


def test_elsewhere_it_prints_lines(expected, monkeypatch, capsys):
    monkeypatch.setattr(module, "EVERY_LINE", 0.0)
    run = begun()
    list(watch(run, steps_of(run), 6))
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines and all(line.endswith(" s left") for line in lines)
    assert last == f"step 6 of 6: loss {run.loss:.3f}" and same(run, expected)


def stopped_in(training, step):
    """A training in which somebody presses the stop button during a step, counted from 1."""
    for k, run in enumerate(training, 1):
        if k == step:
            signal.raise_signal(signal.SIGINT)
        yield run


def test_a_stop_ends_it_after_a_whole_step_and_it_can_go_on(expected, capsys):
    run = begun()
    list(watch(run, stopped_in(steps_of(run), 3), 6))
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "stopped at step 3 of 6: run this cell again to go on"
    assert run.step == 3
    with pytest.raises(KeyboardInterrupt):  # the button is Python's again
        signal.raise_signal(signal.SIGINT)
    list(watch(run, steps_of(run), 6))
    assert same(run, expected)
    assert list(watch(run, steps_of(run), 6)) == [], "nothing is left to do"


def test_a_stop_while_it_compiles_ends_the_cell_in_one_line():
    run = begun()
    with pytest.raises(Stopped) as stop:
        list(watch(run, stopped_in(steps_of(run), 1), 6))
    (line,) = stop.value._render_traceback_()
    assert line == "stopped before the first step was done: run this cell again"


def test_it_draws_each_value_of_the_first_label(shown):
    run, asked = begun(), []
    run.model = SimpleNamespace(size=8, out=1, classes=(3, 2))
    eps_model = lambda model, s, labels, predict: lambda x, t: asked.append(labels) or x
    with pytest.MonkeyPatch.context() as m:
        m.setattr(module.train, "denoiser", eps_model)
        pictures = module._View(run, 6, S, "v")._pictures()
    assert pictures.shape == (10, 8, 8, 1) and len(asked) == 5
    assert asked[0].tolist() == [[k % 3, 2] for k in range(10)]
