"""Notebooks, answers and checkpoints of version 0.1 still work, under the names of then."""

import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest

from tinydiff import former, schedule
from tinydiff.design.pipeline import Pipeline

CELLS = """
from tinydiff import baselines, colour, draw, edit, evaluate, flow, kernels, learned, likelihood
from tinydiff import gram as gatys
from tinydiff import checkpoint, classifier, metrics, plot, restore, style, train
from tinydiff.classifier import surprise
from tinydiff.diffusion import _at, _rates
from tinydiff.draw import wishes
from tinydiff.edit import _require_mask, _step
from tinydiff.flow import flow_time
from tinydiff.grade import check, show
from tinydiff.kernels import direct, ladder, reference, winograd
from tinydiff.kernels.ladder import HALF, P, V, compiled, u
from tinydiff.learned import sigmoid
from tinydiff.metrics import _flat, nearest
from tinydiff.optim import ema_keep
from tinydiff.sample import _at_sigma, _churn, _ddim_step, _noise, _require_steps, _sigma
from tinydiff.sample import _start, _visited
from tinydiff.train import descend, fetch_losses, hide
"""


def test_the_import_cells_of_version_0_1_run():
    subprocess.run([sys.executable, "-c", CELLS], check=True)


@pytest.mark.parametrize("old", [m for m in former.MODULES if "kernels" not in m])
def test_an_old_name_is_the_module_itself(old):
    today = import_module(f"tinydiff.{former.MODULES[old]}")
    assert import_module(f"tinydiff.{old}") is today
    assert today.__spec__.name == today.__name__ == f"tinydiff.{former.MODULES[old]}"


@pytest.mark.parametrize("inside", former.NAMES)
def test_every_old_name_leads_somewhere_and_hides_nothing(inside):
    module = import_module(f"tinydiff.{inside}")
    for name in former.NAMES[inside]:
        assert name not in vars(module) and callable(getattr(module, name)) or name == "ROOT"
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = module.nonsense
    assert type(module.__spec__.loader).__name__ == "SourceFileLoader"


def test_functions_of_model_s_about_are_methods_of_a_pipeline_now():
    from tinydiff import checkpoint, draw

    model, s, about = checkpoint.pretrained("digits")
    labels = np.array([draw.wishes(about["labels"], ["7"])])
    *_, then = draw.draw(model, s, about, labels, np.random.default_rng(0), steps=2)
    *_, now = Pipeline.load("digits").draw(labels, np.random.default_rng(0), steps=2)
    assert np.array_equal(then, now)
    x_t, eps_model = now, draw.guided(model, s, about, labels)
    assert np.array_equal(eps_model(x_t, 9), Pipeline.load("digits").eps_model(labels)(x_t, 9))


def test_an_old_checkpoint_is_read(tmp_path):
    """tests/fixtures/digits_v0.1.npz: 3 steps of a tiny network, written by version 0.1."""
    from pathlib import Path

    from tinydiff import checkpoint

    run, s, meta = checkpoint.load(Path(__file__).parent / "fixtures" / "digits_v0.1.npz")
    assert (run.step, s.T, meta["train"]["predict"]) == (3, 250, "v")
    assert np.array_equal(s.alpha_bar, schedule.cosine(250).alpha_bar)
    assert meta["train"]["forget"] == 0.1 and run.theta.shape == run.ema.shape
    pipe = Pipeline.of(checkpoint.averaged(run, meta), s, meta)
    *_, x = pipe.draw(np.array([[3]]), np.random.default_rng(0), steps=2)
    assert x.shape == (1, 8, 8, 1) and np.isfinite(x).all()
