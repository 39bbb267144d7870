"""evaluate.py: the table says what was measured, the floor is what real images score."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from test_sample import rejects

from tinydiff import data, kernels, schedule
from tinydiff.app import cli
from tinydiff.design import pipeline
from tinydiff.design.pipeline import Pipeline
from tinydiff.measure import classifier, evaluate, metrics
from tinydiff.unet import UNet

S = schedule.cosine(250)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def reader():
    return classifier.load("digits")[0]


@pytest.fixture(scope="module")
def yardstick(reader, digits):
    return evaluate.Yardstick(reader, digits, 200, np.random.default_rng(0))


def test_specs_are_read():
    assert evaluate.parse("heun:25", S) == ("heun", 25, "even")
    assert evaluate.parse("ddim", S) == ("ddim", 50, "even")
    assert evaluate.parse("ddpm", S) == ("ddpm", 250, "even")
    assert evaluate.parse("ddim", schedule.cosine(20)) == ("ddim", 20, "even")
    assert evaluate.parse("dpmpp_2m:10:karras", S) == ("dpmpp_2m", 10, "karras")
    wrong = "plms:5 ddim:x ddim:251 ddim:-1 ddpm:250 ddim:5:odd ddim:5:even:7 ddim:² ddpm::snr"
    for spec in wrong.split():
        said = f"{spec}: (steps go|no times)|ddpm visits|no sampler"
        with pytest.raises(ValueError, match=said):
            evaluate.parse(spec, S)
    for spec in evaluate.SAMPLERS:
        assert evaluate.parse(spec, S)[0] in pipeline.SAMPLERS


def test_the_floor_is_what_a_second_set_of_real_images_scores(yardstick, reader, digits):
    """Two disjoint halves with equally many of each class, to one; the floor by hand."""
    order = np.random.default_rng(0).permutation(len(digits.train))
    order = order[np.argsort(digits.train_labels[order, 0], kind="stable")]
    order = order[np.arange(400) * 1500 // 400]
    a, b = order[::2], order[1::2]
    assert len(set(a) | set(b)) == 400
    counts = [np.bincount(digits.train_labels[half, 0], minlength=10) for half in (a, b)]
    assert np.abs(counts[0] - counts[1]).max() <= 1 and counts[0].min() > 15
    assert np.array_equal(yardstick.labels, digits.train_labels[b])
    real, others = reader.features(digits.train[a]), reader.features(digits.train[b])
    expected = metrics.frechet(real, others) / real.var(0).mean()
    assert yardstick.floor["frechet"] == pytest.approx(expected, rel=1e-4)
    (right,) = classifier.accuracy(reader, digits.test, digits.test_labels)
    assert yardstick.floor["agreement"] == {"digit": pytest.approx(right)}
    assert yardstick.floor["memorisation"] == 1.0 and "colours" not in yardstick.floor


def test_bad_samples_score_badly_and_each_way_shows(yardstick, digits):
    """Four ways to be bad, each seen by the number that is meant to see it."""
    rng = np.random.default_rng(1)
    real, labels = digits.test[:200], digits.test_labels[:200]
    good = yardstick.measure(real, labels)
    noise = yardstick.measure(rng.standard_normal(real.shape, dtype=np.float32).clip(-1, 1), labels)
    assert noise["frechet"] > 10 * good["frechet"]
    assert noise["precision"] < 0.3 < 0.8 < good["precision"]
    one_class = digits.test[digits.test_labels[:, 0] == 3]
    dull = yardstick.measure(np.resize(one_class, real.shape), labels)
    assert dull["recall"] < 0.3 < 0.7 < good["recall"]
    assert dull["coverage"] < 0.3 and dull["agreement"]["digit"] < 0.3
    copies = yardstick.measure(digits.train[:200], digits.train_labels[:200])
    assert copies["memorisation"] < 0.01 and good["memorisation"] > 0.9
    others = yardstick.measure(real, (labels + 1) % 10)
    assert good["agreement"]["digit"] > 0.95 and others["agreement"]["digit"] < 0.05


def test_samples_that_are_nan_are_not_measured(yardstick, digits):
    """One broken image would leave most numbers as they are."""
    images, labels = digits.test[:50].copy(), digits.test_labels[:50]
    images[7, 2, 3, 0] = np.nan
    with pytest.raises(FloatingPointError, match="values are NaN or infinite"):
        yardstick.measure(images, labels)


class Stub:
    """A network that answers with the v of one image, whatever its labels; it notes the labels."""

    size, channels, out, width, classes = 8, 1, 1, 8, (10,)

    def __init__(self, image):
        self.image, self.asked = image, []

    def __call__(self, x, t, labels):
        self.asked.append(labels)
        root = lambda a: np.sqrt(a[t]).reshape(-1, 1, 1, 1).astype(np.float32)
        signal, noise = root(S.alpha_bar), root(1 - S.alpha_bar)
        eps = (x - signal * self.image) / noise
        return signal * eps - noise * self.image

    def pipeline(self):
        return Pipeline(self, S, {"digit": [str(k) for k in range(10)]}, "v", "digits")


def test_each_sampler_is_measured_on_its_own_images(yardstick, digits, monkeypatch):
    monkeypatch.setattr(evaluate, "BATCH", 64)  # 200 images: three batches and a rest
    image = digits.test[0].clip(-0.9, 0.9)
    model, work, ways = Stub(image), [], [("ddim", 3, "even"), ("heun", 2, "snr")]
    pipe = replace(model.pipeline(), tick=work.append)
    rows = list(evaluate.rows(pipe, yardstick, ways, 1.0, 0))
    titles = [(evaluate.title(row), row["evaluations"]) for row in rows]
    assert titles == [("ddim 3", 3), ("heun 2 snr", 3)]
    assert sum(work) == 64 + 200 * 6 and len(work) == 1 + 4 * 6  # warm-up, then both
    asked = np.concatenate(model.asked[1::3][:4])  # the very first call is the warm-up
    assert np.array_equal(asked, yardstick.labels)
    right = np.mean(yardstick.labels == digits.test_labels[0])
    for row in rows:
        assert row["recall"] < 0.05 and row["seconds"] > 0
        assert row["agreement"]["digit"] == pytest.approx(right, abs=1e-6)
    assert rows[0]["frechet"] == pytest.approx(rows[1]["frechet"], rel=1e-3)


def test_stability_by_hand(yardstick, digits):
    """One image whatever the seed: no spread. DDIM there and back ends at that image only."""
    work, main = [], ("ddim", 2, "even")
    pipe = replace(Stub(digits.test[0].clip(-0.9, 0.9)).pipeline(), tick=work.append)
    stable = evaluate.stability(pipe, yardstick, main, 1.0, (1, 2))
    assert sum(work) == evaluate.work(pipe, 200, [], main, 1.0, (1, 2)) - 200  # it warms nothing up
    _, std = stable["spread"]["recall"]
    assert stable["seeds"] == 2 and std == pytest.approx(0, abs=1e-6)
    assert stable["out_of_range"] == 0.0
    assert set(stable["round_trip"]) == {1, 2, 4} and min(stable["round_trip"].values()) > 0.1


def test_no_more_is_drawn_at_once_than_fits_into_the_memory(yardstick, digits, monkeypatch):
    monkeypatch.setattr(pipeline, "TOGETHER", 20 * pipeline.PER_PIXEL * Stub.width * Stub.size**2)
    work, way = [], ("ddim", 1, "even")
    pipe = replace(Stub(digits.test[0].clip(-0.9, 0.9)).pipeline(), tick=work.append)
    list(evaluate.rows(pipe, yardstick, [way], 2.0, 0))
    evaluate.stability(pipe, yardstick, way, 2.0, (1, 2))
    assert max(work) == 20
    assert sum(work) == evaluate.work(pipe, 200, [way], way, 2.0, (1, 2))


def test_multiply_adds_of_a_network_counted_on_paper():
    """No labels, one level, one block each way; and the kernels are left as they were."""
    width, side, E = 8, 4, 32
    model = UNet(side, 1, width, (1,), 1, rng=np.random.default_rng(0))
    pixels = side**2
    block = 2 * pixels * 9 * width * width + E * width
    by_hand = pixels * 9 * width * 2  # conv_in and conv_out, one channel outside
    by_hand += 3 * block  # downs, two in the middle ...
    by_hand += pixels * 9 * (2 * width) * width + pixels * 9 * width * width + E * width  # ... ups
    by_hand += pixels * 2 * width * width  # with their shortcut
    by_hand += width * E + E * E  # time
    # attention: q, k, v and out; the weights and the mean
    by_hand += 4 * pixels * width * width + 2 * pixels * pixels * width
    used, before = kernels.active(), dict(vars(kernels))
    assert evaluate.multiply_adds(model, None) == by_hand
    assert kernels.active() is used and dict(vars(kernels)) == before
    with pytest.raises(AttributeError):  # labels that this model has no table for
        evaluate.multiply_adds(object(), None)
    assert kernels.active() is used


def test_the_figure_has_a_line_for_each_sampler_and_the_floor():
    even = [("ddim", "even", 10, 2.0), ("ddim", "even", 5, 4.0), ("heun", "even", 9, 3.0)]
    points = [*even, ("ddim", "snr", 5, 6.0)]
    keys = ("sampler", "times", "evaluations", "frechet")
    rows = [dict(zip(keys, point, strict=True)) for point in points]
    axes = evaluate.quality(rows, 0.5).axes[0]
    lines = {line.get_label(): np.asarray(line.get_xydata()).tolist() for line in axes.get_lines()}
    assert lines["ddim"] == [[5, 4], [10, 2]] and lines["ddim, snr times"] == [[5, 6]]
    assert lines["heun"] == [[9, 3]]
    assert lines["real images"][0][1] == 0.5


@pytest.mark.parametrize("json_too", [False, True])
def test_the_command_prints_the_table_and_draws_the_picture(json_too, tmp_path, capsys):
    argv = "evaluate digits --samplers ddim:2 dpmpp_2m:3 --n 64".split()
    argv += ["--out", str(tmp_path / "e.png"), *(["--json"] * json_too)]
    assert cli.main(argv) == 0
    out = capsys.readouterr().out
    if json_too:
        found = json.loads(out)
        assert [r["evaluations"] for r in found["samplers"]] == [2, 3] and found["n"] == 64
        assert 0 <= found["samplers"][0]["agreement"]["digit"] <= 1
        assert evaluate.title(found["stability"]) == "dpmpp_2m 3"
    else:
        starts = {line.split()[0] for line in out.splitlines() if line}
        assert {"sampler", "real", "ddim", "dpmpp_2m", "stability"} <= starts
        legend = " ".join(out.split())
        assert "memorisation: about 1, samples are no closer" in legend and "energy:" not in out
        assert out.startswith("64 images each, guidance 1, against 64 real ones\n")
        assert "agreement by label, dpmpp_2m 3 / the classifier on unseen real images:" in out
        assert "by rounds of inversion per step: " in out
        assert "million multiply-adds" in out and str(tmp_path / "e.png") in out
    Image.open(tmp_path / "e.png").verify()


class Reader:
    """A classifier of two labels: how dark the first pixel is, 0 to 2; if the second is white."""

    classes = (3, 2)

    def __call__(self, x):
        first = np.round(x[:, 0, 0, 0] + 1).astype(int)
        return [np.eye(3)[first], np.eye(2)[(x[:, 0, 1, 0] == 1).astype(int)]]


def check_transfer_row(transfer_row):
    """Two samples of three subjects, by hand: each sample beside its subject's truth and source."""
    truth = np.array([[-1.0, 1], [0, 1], [1, -1]]).reshape(3, 1, 2, 1)
    source = np.array([[-1.0, 1], [1, -1], [1, 1]]).reshape(3, 1, 2, 1)
    samples = np.stack([truth, truth])
    samples[1, 0, 0, 0], samples[1, 2, 0, 1] = 1, 1  # (1, 1) and (1, 1)
    target = np.array([[0, 1], [1, 1], [2, 0]])
    row = transfer_row("both", samples, truth, source, Reader(), target, 0.25)
    assert (row["name"], row["k"], row["seconds"], row["of_best"]) == ("both", 2, 0.25, 0)
    assert np.isclose(row["rmse"], np.sqrt(2 / 12), rtol=1e-12)
    assert np.isclose(row["of_mean"], np.sqrt(0.5 / 6), rtol=1e-12)
    assert np.isclose(row["silhouette"], (1 + 0 + 0 + 0 + 0 + 1) / 6, rtol=1e-12)
    assert np.isclose(row["style"], (2 + 2 + 2 + 1 + 2 + 1) / 12, rtol=1e-12)
    one = samples[:1], truth, source, Reader(), 1, 0.0
    assert transfer_row("one", *one)["style"] == 0.5
    black = transfer_row("black", *one, -1.0)
    assert np.isclose(black["silhouette"], (1 + 1 / 2 + 1 / 2) / 3)


def test_transfer_row():
    check_transfer_row(evaluate.transfer_row)


def test_slips_of_transfer_row():
    """The truth taken for the source; another target; one sample only; rows in another order."""
    row = evaluate.transfer_row
    for wrong in (
        lambda name, x, truth, source, *rest: row(name, x, truth, truth, *rest),
        lambda name, x, truth, source, model, target, *rest: row(
            name, x, truth, source, model, 0, *rest
        ),
        lambda name, x, *rest: row(name, x[:1], *rest),
        lambda name, x, truth, source, *rest: row(
            name, x[:, ::-1], truth[::-1], source[::-1], *rest
        ),
    ):
        rejects(check_transfer_row, wrong)


def test_transfer_table():
    row = {"name": "ridge", "k": 1, "silhouette": 0.914, "style": 0.5, "seconds": 0.0012}
    row |= dict.fromkeys(("rmse", "of_mean", "of_best"), 0.0853)
    rows = [row, row | {"name": "gram", "k": 8, "of_best": 0.07}]
    lines = evaluate.transfer_table(rows).splitlines()
    assert lines[2] == "| ridge | 0.085 |  |  | 0.91 | 50.0% | 1.2 |"
    assert lines[3] == "| gram | 0.085 | 0.085 of 8 | 0.070 of 8 | 0.91 | 50.0% | 1.2 |"
    assert {line.count("|") for line in lines} == {8}
