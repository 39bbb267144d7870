"""checkpoint.py: what was saved comes back bit for bit, a crash leaves the old file, and what is no checkpoint is refused in one line."""

import errno
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from tinydiff import checkpoint, data, train
from tinydiff.checkpoint import CheckpointError
from tinydiff.measure import classifier

ABOUT = {
    "model": {
        "size": 8,
        "channels": 1,
        "width": 8,
        "multipliers": [1, 2],
        "depth": 1,
        "classes": [10],
    },
    "schedule": {"kind": "cosine", "T": 50},
    "train": {"predict": "v"},
}
ARRAYS = ("theta", "ema", "m", "v")


def trained(steps, seed=0):
    run, s = checkpoint.build(ABOUT, seed)
    digits = data.load("digits")
    return run, go_on(run, s, digits, steps)


def go_on(run, s, digits, steps):
    training = train.train(run, s, digits.train, digits.train_labels, batch=4)
    for _ in range(steps):
        next(training)
    return s


def state(run):
    """All that must survive, as bytes and numbers."""
    arrays = [a.tobytes() for a in (run.theta, run.ema, run.adam.m, run.adam.v)]
    return arrays, run.step, run.adam.k, run.loss, run.rng.bit_generator.state


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "model.npz"
    checkpoint.save(path, trained(3)[0], ABOUT)
    return path


def rewrite(good, path, **changes):
    """Write the good checkpoint with some arrays replaced, or left out (None), or parts of meta changed (a dict)."""
    with np.load(good) as f:
        parts = {name: f[name] for name in f.files}
    for name, value in changes.items():
        if isinstance(value, dict):
            meta = json.loads(str(parts["meta"])) | value
            value = np.array(json.dumps({k: v for k, v in meta.items() if v is not None}))
        parts[name] = value
    np.savez(path, **{name: value for name, value in parts.items() if value is not None})
    return path


# what was saved comes back


def test_everything_comes_back(tmp_path):
    run, s = trained(3)
    checkpoint.save(tmp_path / "new folder" / "a.npz", run, ABOUT)
    again, s_again, about = checkpoint.load(tmp_path / "new folder" / "a.npz")
    assert state(again) == state(run) and about == ABOUT
    assert np.array_equal(s_again.alpha_bar, s.alpha_bar)
    assert [p.name for p in (tmp_path / "new folder").iterdir()] == ["a.npz"]


def test_a_fresh_training_comes_back_though_its_loss_is_not_a_number(tmp_path):
    run, _ = checkpoint.build(ABOUT, 0)
    checkpoint.save(tmp_path / "a.npz", run, ABOUT)
    again, _, _ = checkpoint.load(tmp_path / "a.npz")
    assert again.step == 0 and np.isnan(again.loss) and np.array_equal(again.theta, run.theta)


def test_the_weights_that_were_loaded_are_the_models_own(good):
    run, _, _ = checkpoint.load(good)
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 1), dtype=np.float32)
    before = run.model(x, np.array([3, 7]))
    assert np.array_equal(
        np.concatenate([p.ravel() for p in run.model.params().values()]), run.theta
    )
    run.theta *= 1.5
    assert not np.array_equal(run.model(x, np.array([3, 7])), before)


def test_stopped_saved_loaded_and_resumed_gives_the_same_bits(tmp_path):
    straight, s = trained(6)
    run, _ = trained(3)
    checkpoint.save(tmp_path / "half.npz", run, ABOUT)
    resumed, s, _ = checkpoint.load(tmp_path / "half.npz")
    go_on(resumed, s, data.load("digits"), 3)
    assert state(resumed) == state(straight)


def test_the_average_goes_into_the_model(good):
    run, _, _ = checkpoint.load(good)
    assert not np.array_equal(run.theta, run.ema)
    model = checkpoint.averaged(run)
    assert np.array_equal(np.concatenate([p.ravel() for p in model.params().values()]), run.ema)


# what is no checkpoint is refused


def refused(path, message):
    with pytest.raises(CheckpointError, match=message) as e:
        checkpoint.load(path)
    assert str(path) in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.3, 0.5, 0.9, 0.99, 0.9999])
def test_a_truncated_file(good, tmp_path, share):
    whole = good.read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: int(share * len(whole))])
    refused(tmp_path / "cut.npz", "is damaged or truncated .*: take an older checkpoint")


@pytest.mark.parametrize(
    "content",
    [b"\x89PNG\r\n\x1a\n" + bytes(99), b"some text\n", pickle.dumps([1, 2]), b"\x80"],
    ids=str,
)
def test_a_file_of_another_program(tmp_path, content):
    (tmp_path / "other.npz").write_bytes(content)
    refused(
        tmp_path / "other.npz", "is not a tinydiff checkpoint: it was written by another program"
    )


def test_arrays_of_another_program(tmp_path, good):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    refused(tmp_path / "other.npz", "is not a tinydiff checkpoint")
    np.savez(tmp_path / "meta.npz", meta=np.array("no json"))
    refused(tmp_path / "meta.npz", "is not a tinydiff checkpoint")
    np.savez(tmp_path / "list.npz", meta=np.array("[1]"))
    refused(tmp_path / "list.npz", "is not a tinydiff checkpoint")
    with open(tmp_path / "single.npz", "wb") as f:
        np.save(f, np.zeros(3))
    refused(tmp_path / "single.npz", "is not a tinydiff checkpoint")
    refused(
        rewrite(good, tmp_path / "format.npz", meta={"format": "another"}),
        "is not a tinydiff checkpoint",
    )
    refused(data.FOLDER / "digits8.npz", "is not a tinydiff checkpoint")


class Bomb:
    def __reduce__(self):
        return os._exit, (77,)


def test_nothing_pickled_is_ever_loaded(good, tmp_path):
    bomb = np.array([Bomb()], dtype=object)
    refused(
        rewrite(good, tmp_path / "meta.npz", meta=bomb),
        "holds pickled objects, which could run code, and is refused",
    )
    refused(
        rewrite(good, tmp_path / "theta.npz", theta=bomb),
        "holds pickled objects, which could run code, and is refused",
    )
    with open(tmp_path / "single.npz", "wb") as f:
        np.save(f, bomb)
    refused(tmp_path / "single.npz", "is not a tinydiff checkpoint")
    (tmp_path / "plain.npz").write_bytes(pickle.dumps(Bomb()))
    refused(tmp_path / "plain.npz", "is not a tinydiff checkpoint")


def test_another_version(good, tmp_path):
    refused(
        rewrite(good, tmp_path / "v1.npz", meta={"version": 1}),
        "has checkpoint version 1; this tinydiff reads version 2",
    )


@pytest.mark.parametrize("name", ARRAYS)
def test_wrong_sizes(good, tmp_path, name):
    for wrong in (
        np.zeros(7, np.float32),
        np.zeros(1, np.float32),
        np.float32(0),
    ):  # the last two would broadcast
        refused(
            rewrite(good, tmp_path / "a.npz", **{name: wrong}),
            f"does not fit this version of tinydiff .{name} is ",
        )
    same_size = np.load(good)[name].astype(np.float64)
    refused(
        rewrite(good, tmp_path / "a.npz", **{name: same_size}),
        f"{name} is .* float64, the model needs .* float32",
    )
    refused(rewrite(good, tmp_path / "a.npz", **{name: None}), "is not a tinydiff checkpoint")


@pytest.mark.parametrize(
    "meta",
    [
        {"about": None},
        {"about": [1]},
        {"about": {**ABOUT, "model": {"sides": 3}}},
        {"about": {**ABOUT, "model": {**ABOUT["model"], "width": 16}}},
        {"about": {**ABOUT, "schedule": {"kind": "quadratic", "T": 5}}},
        {"step": None},
        {"rng": {"bit_generator": "MT19937"}},
        {"rng": 7},
    ],
    ids=str,
)
def test_a_description_that_does_not_fit(good, tmp_path, meta):
    refused(rewrite(good, tmp_path / "a.npz", meta=meta), "does not fit this version of tinydiff")


def test_no_file_and_no_right(tmp_path):
    refused(
        tmp_path / "none.npz",
        r"cannot be read \(No such file or directory\): give a checkpoint that",
    )
    refused(tmp_path, r"cannot be read \(Is a directory\)")
    refused(tmp_path / ("x" * 300), r"cannot be read \(File name too long\)")


def test_no_flipped_byte_passes_unnoticed(good, tmp_path):
    """Also where the file is not covered by a check sum: the places around each header are hit most."""
    whole, (as_written, _, _) = good.read_bytes(), checkpoint.load(good)
    headers = [i for i in range(len(whole)) if whole.startswith((b"PK", b"\x93NUMPY"), i)]
    rng, path, refusals = np.random.default_rng(0), tmp_path / "flipped.npz", 0
    for k in range(300):
        flipped = bytearray(whole)
        at = (
            min(len(whole) - 1, rng.choice(headers) + rng.integers(130))
            if k % 3
            else rng.integers(len(whole))
        )
        flipped[at] ^= int(rng.integers(1, 256))
        path.write_bytes(flipped)
        try:
            run, _, _ = checkpoint.load(path)
        except CheckpointError:
            refusals += 1
        else:  # a byte without meaning, such as a date
            assert state(run) == state(as_written)
    assert refusals > 200


def test_a_header_that_shortens_itself_is_noticed(good, tmp_path):
    """NumPy then reads the weights from another place, and never to the end, where the check sum would be compared."""
    whole = bytearray(good.read_bytes())
    at = whole.index(b"\x93NUMPY", whole.index(b"theta.npy"))
    header = int.from_bytes(whole[at + 8 : at + 10], "little")
    whole[at + 8 : at + 10] = (header - 16).to_bytes(2, "little")
    (tmp_path / "a.npz").write_bytes(whole)
    refused(tmp_path / "a.npz", "is damaged or truncated")


# a save that fails leaves the old file


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_written(f, **arrays):
    f.write(b"PK half of it")
    no_space()


@pytest.mark.parametrize(
    "place, fail", [("os.fsync", no_space), ("os.replace", no_space), ("np.savez", half_written)]
)
def test_a_full_disk_leaves_the_old_checkpoint(good, tmp_path, monkeypatch, place, fail):
    path = tmp_path / "model.npz"
    path.write_bytes(good.read_bytes())
    run, _ = trained(4)
    module, name = place.split(".")
    with monkeypatch.context() as m:
        m.setattr(getattr(checkpoint, module), name, fail)
        with pytest.raises(
            CheckpointError,
            match=r"model.npz could not be written \(No space left on device\); what .* untouched",
        ):
            checkpoint.save(path, run, ABOUT)
    assert path.read_bytes() == good.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]
    checkpoint.save(path, run, ABOUT)  # and with space again it is saved
    assert checkpoint.load(path)[0].step == 4


def test_a_real_limit_on_file_size_at_every_tenth_of_the_file(good, tmp_path):
    path, whole = tmp_path / "model.npz", good.read_bytes()
    path.write_bytes(whole)
    run, _ = trained(4)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for tenth in range(10):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (tenth * len(whole) // 10, before[1]))
            with pytest.raises(CheckpointError, match="File too large"):
                checkpoint.save(path, run, ABOUT)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert path.read_bytes() == whole
        assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


def test_a_place_that_cannot_be_written(good, tmp_path):
    run, _, _ = checkpoint.load(good)
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.npz").mkdir()
    for path in (tmp_path / "file" / "a.npz", tmp_path / "folder.npz", tmp_path / ("x" * 300)):
        with pytest.raises(CheckpointError, match="could not be written"):
            checkpoint.save(path, run, ABOUT)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.npz"]


def test_killed_in_the_middle_of_writing(good, tmp_path):
    """A process that dies while the new file is half there leaves the old one, and its remains are not taken for a checkpoint."""
    path = tmp_path / "model.npz"
    path.write_bytes(good.read_bytes())
    program = """
        import os, signal, sys
        import numpy as np
        from tinydiff import checkpoint
        run, _, about = checkpoint.load(sys.argv[1])
        run.theta[:] = 0
        def die_half_way(f, **arrays):
            f.write(open(sys.argv[1], "rb").read()[:100_000])
            f.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        np.savez = die_half_way
        checkpoint.save(sys.argv[1], run, about)
    """
    child = subprocess.run([sys.executable, "-c", textwrap.dedent(program), path])
    assert child.returncode == -signal.SIGKILL
    assert path.read_bytes() == good.read_bytes()
    (remains,) = (p for p in tmp_path.iterdir() if p != path)
    assert remains.name.startswith(".model.npz.") and remains.name.endswith(".part")
    refused(remains, "is damaged or truncated")


# --- models that come with tinydiff ---


def test_an_exported_model_draws_like_the_averaged_one(tmp_path, monkeypatch):
    run, _ = checkpoint.build(ABOUT, 0)
    run.ema += 0.125
    monkeypatch.setattr(checkpoint, "FOLDER", tmp_path)
    checkpoint.export(tmp_path / "models" / "mine.npz", run.ema, ABOUT)
    model, s, about = checkpoint.pretrained("mine")
    assert about == ABOUT and s.T == ABOUT["schedule"]["T"]
    for name, w in checkpoint.averaged(run).params().items():
        np.testing.assert_allclose(model.params()[name], w, rtol=1e-3, atol=1e-6, err_msg=name)
    with pytest.raises(
        checkpoint.CheckpointError,
        match="no trained model 'yours' comes with tinydiff; there are: mine",
    ):
        checkpoint.pretrained("yours")
    (tmp_path / "models" / "mine.npz").write_bytes(b"PK nonsense")
    with pytest.raises(checkpoint.CheckpointError, match="damaged"):
        checkpoint.pretrained("mine")


def test_a_file_that_draws_is_found_by_name_and_by_path(good, tmp_path, monkeypatch):
    run, _, _ = checkpoint.load(good)
    monkeypatch.setattr(checkpoint, "FOLDER", tmp_path)
    checkpoint.export(tmp_path / "models" / "digits.npz", run.ema, ABOUT)
    for path, tolerance in [
        ("digits", 1e-3),
        (tmp_path / "models" / "digits.npz", 1e-3),
        (good, 0),
        (str(good), 0),
    ]:
        model, s, about = checkpoint.ready(path)
        weights = np.concatenate([p.ravel() for p in model.params().values()])
        np.testing.assert_allclose(weights, run.ema, rtol=tolerance, atol=1e-6 if tolerance else 0)
        assert s.T == ABOUT["schedule"]["T"] and about["model"] == ABOUT["model"]
    with pytest.raises(checkpoint.CheckpointError, match="yours cannot be read"):
        checkpoint.ready("yours")
    checkpoint.export(tmp_path / "models" / "digits_judge.npz", run.ema, {"held_out": {}})
    with pytest.raises(checkpoint.CheckpointError, match="holds no model that draws"):
        checkpoint.ready(tmp_path / "models" / "digits_judge.npz")


@pytest.mark.parametrize(
    "name", ["digits", "fashion", "portraits", "patterns", "emoji", "emoji_second", "typefaces"]
)
def test_the_judges_that_come_along_are_as_good_as_they_say(name):
    judge, about = classifier.load(name)
    dataset = (
        data.load(name)
        if name in data.FILES
        else data.load_styles(name.removesuffix("_second")).dataset()
    )
    right = classifier.accuracy(judge, dataset.test, dataset.test_labels)
    assert about["labels"] == dataset.labels and list(about["held_out"]) == list(dataset.labels)
    assert (
        np.abs(right - list(about["held_out"].values())).max() < 0.005
    )  # float16 turns a doubtful answer now and then
