"""What comes in from outside: numbers on the command line, and whatever calls itself a checkpoint.

All of it is read right, or refused in one line before any work starts.
"""

import argparse
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tinydiff import checkpoint, data, fields, kernels
from tinydiff.app import cli, cmd_train, usage
from tinydiff.checkpoint import CheckpointError
from tinydiff.design.pipeline import Pipeline, parse_labels
from tinydiff.measure import classifier


@pytest.fixture
def refused(capsys):
    """Run the command line; it must end with status 2 and one line that can be shown -> it"""

    def check(*argv):
        capsys.readouterr()
        assert cli.main([str(word) for word in argv]) == 2
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if not line.startswith("training on digits: ")]
        assert len(lines) == 1 and lines[0].startswith("tinydiff: ") and lines[0].isprintable()
        return lines[0]

    return check


# --- numbers ---

COMMANDS = cli.parser()._subparsers._group_actions[0].choices
ALL = {"": cli.parser(), **COMMANDS}
NUMBERS = {  # (command, option) -> its name in RANGES
    (command, action.option_strings[0]): action.option_strings[0]
    for command, its in ALL.items()
    for action in its._actions
    if action.option_strings and action.option_strings[0] in cli.RANGES
} | {
    ("evaluate", "--n"): "evaluate --n",
    ("train", "--size"): "train --size",
    ("look", "--size"): "train --size",
    ("judge", "--size"): "train --size",
}
PAIRS = {("sample", "--size"), *((who, "--grid") for who in ("train", "look", "judge"))}  # as 16x64
NO_NUMBERS = ("", " 5", "5 ", "1_000", "٣", "²", "nan", "inf", "-inf", "1e", "0x10", "1,5", "5\n")
TOO_LARGE = ("1e20", "9" * 20, "9" * 5000, "1e300", "1e999999999", "-1", "-5.5")


def parsed(command, option, text):
    """Read one number as the command line does -> it"""
    (action,) = (a for a in ALL[command]._actions if option in a.option_strings)
    return ALL[command]._get_value(action, text)


@pytest.mark.parametrize("command, option", NUMBERS, ids=lambda word: word or "main")
def test_what_is_no_number_or_too_large_is_refused_with_its_range(command, option):
    kind, least, most = cli.RANGES[NUMBERS[command, option]]
    for text in NO_NUMBERS + TOO_LARGE + (("1e3", "5.0") if kind is int else ("0", "-0", "-0.0")):
        with pytest.raises(argparse.ArgumentError) as e:
            parsed(command, option, "9x" + text if (command, option) in PAIRS else text)
        line = str(e.value)
        assert f"argument {option}: takes " in line and ", got " in line and line.isprintable()
        assert (command, option) in PAIRS or f" {most}, got" in line
        assert len(line) < 200


@pytest.mark.parametrize("command, option", NUMBERS, ids=lambda word: word or "main")
def test_the_ends_of_each_range_are_read_right(command, option):
    kind, least, most = cli.RANGES[NUMBERS[command, option]]
    ends = [least, most] if kind is int else [least + (most - least) / 1000, most]
    for number in ends:
        text = repr(number)
        for written in (text, f"+{text}", f"00{text}"):
            if (command, option) in PAIRS:
                assert parsed(command, option, f"{text}x{written}") == (number, number)
            else:
                got = parsed(command, option, written)
                got = got[0] if isinstance(got, tuple) else got  # 7 of --seed 7:3
                assert got == number and type(got) is kind


def test_fractions_are_read_as_python_writes_them():
    for text in (".5", "5e-1", "5E-1", "0.50"):
        assert parsed("sample", "--guidance", text) == 0.5
    assert parsed("sample", "--guidance", "5.") == 5


@pytest.mark.parametrize(
    "command, option", [("sample", "--pull"), ("edit", "--sigma"), ("train", "--lr")]
)
def test_what_would_vanish_in_arithmetic_is_refused(command, option):
    """Its square is 0, or its share of a weight."""
    with pytest.raises(argparse.ArgumentError, match=f"{option}: takes a number above .* up to"):
        parsed(command, option, "1e-300")


def test_every_option_that_takes_a_number_is_in_the_table():
    made = cli._in_range("--n").__qualname__
    for command, its in ALL.items():
        for action in its._actions:
            if action.type in (None, cli._path, cli._file, cli._memory):
                continue
            (option,) = action.option_strings
            assert (command, option) in NUMBERS
            is_pair = action.type in (cli._size, cli._grid)
            assert is_pair == ((command, option) in PAIRS)
            assert is_pair or action.type is cli._seed or action.type.__qualname__ == made


@pytest.mark.parametrize(
    "words",
    [
        "restyle x.png --to=",
        "restyle x.png --to noto --way inversion --from=",
        "edit digits x --mask=",
    ]
    + ["sample portraits --main-colour=", "alphabet lobster --letters=", "handout x --lessons="],
)
def test_an_empty_text_is_refused(words, refused):
    option = words.split("--")[-1].rstrip("=")
    assert f"the text given for {option} is empty" in refused(*words.split())


def test_too_little_memory_is_said_before_the_work(monkeypatch, refused, tmp_path):
    monkeypatch.setattr(usage, "memory", lambda: 1e6)
    monkeypatch.setattr(cmd_train, "memory", lambda: 1e8)
    small = "this machine has 0.0: take a smaller --n or --size"
    assert small in refused("sample", "digits", "--n", 1000, "--out", tmp_path / "a.png")
    assert small in refused("sample", "patterns", "--size=320x320", "--out", tmp_path / "a.png")
    small = "take a smaller --width, --depth or --batch"
    assert small in refused("train", "digits", "--batch", 65536, "--out", tmp_path)
    assert small in refused("train", "digits", "--width", 1024, "--depth", 16, "--out", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_memory_that_ends_on_the_way_gets_one_line(monkeypatch, refused, tmp_path):
    def full(*_, **__):
        raise MemoryError("Unable to allocate 1. TiB")

    monkeypatch.setattr(Pipeline, "draw", full)
    line = refused("sample", "digits", "--n", 1, "--out", tmp_path / "a.png")
    assert "not enough memory (Unable to allocate 1. TiB): take a smaller" in line


@pytest.mark.slow
def test_ten_thousand_images_on_a_sheet(tmp_path, capsys):
    words = "sample digits --n 10000 --steps 1 --out".split()
    assert cli.main([*words, str(tmp_path / "a.png")]) == 0
    assert "10,000 images" in capsys.readouterr().out


def test_a_model_without_labels_says_so():
    with pytest.raises(ValueError, match="the model takes no labels; got '7'"):
        parse_labels({}, ["7"])


# --- variables of the environment ---


@pytest.mark.parametrize("threads", ["0", "x", "-3", "1.5", "100000", "9" * 5000])
def test_a_wrong_variable_is_named_and_no_file_is_blamed(threads, monkeypatch, refused):
    monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
    why = r"\$NUMBA_NUM_THREADS is '.*: set it to a whole number from 1 to 1024, or unset it"
    for load in (Pipeline.load, checkpoint.pretrained, classifier.load):
        monkeypatch.setattr(kernels, "_active", None)
        with pytest.raises(ValueError, match=why):
            load("digits")
    assert "$NUMBA_NUM_THREADS is " in refused("sample", "digits")


def test_another_wrong_variable_is_named(monkeypatch, refused):
    monkeypatch.setattr(kernels, "_active", None)
    monkeypatch.setenv("NUMBA_THREADING_LAYER", "threads")
    with pytest.raises(
        ValueError, match="NUMBA_THREADING_LAYER is 'threads': set it to one of def"
    ):
        checkpoint.pretrained("digits")
    monkeypatch.setenv("TINYDIFF_KERNELS", "gpu")
    with pytest.raises(ValueError, match="TINYDIFF_KERNELS is 'gpu'; it can be: reference, cpu"):
        checkpoint.pretrained("digits")
    assert "$TINYDIFF_KERNELS is 'gpu'" in refused("sample", "digits")


# --- checkpoints ---


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Write a training at step 2, and what is exported of it -> two paths"""
    folder = tmp_path_factory.mktemp("files")
    tiny = "--width 8 --depth 1 --batch 4 --steps 2 --out".split()
    assert cli.main(["train", "digits", *tiny, str(folder)]) == 0
    training, small = folder / "digits.npz", folder / "small.npz"
    assert cli.main(["export", str(training), str(small)]) == 0
    return training, small


def rewritten(file, path, change=lambda header: None, **arrays):
    """Write a checkpoint again, with a changed header and other arrays -> path"""
    with np.load(file) as f:
        parts = {name: f[name] for name in f.files}
    header = json.loads(str(parts["meta"]))
    change(header)
    np.savez(path, **parts | {"meta": np.array(json.dumps(header))} | arrays)
    return path


MISSING = object()


def placed(where, value):
    """Make a change of a header: at "about.model.size" put a value, or take it out"""

    def change(header):
        *groups, last = where.split(".")
        for group in groups:
            header = header[group]
        if value is MISSING:
            del header[last]
        else:
            header[last] = value

    return change


WRONG = [
    *[("about", x) for x in (None, [], "x", {}, MISSING)],
    *[("about.model", x) for x in (None, [1], {}, MISSING)],
    *[("about.model.size", x) for x in (0, -8, 7, 8.0, "8", None, True, 10**9, 10**400)],
    *[("about.model.channels", x) for x in (0, "1", 10**9)],
    *[("about.model.width", x) for x in (0, 12, 16, "8", 1e300, 10**12)],
    *[("about.model.depth", x) for x in (0, 2, 4000, 10**7, None)],
    *[("about.model.multipliers", x) for x in ([], 2, [0], [1, 10**9], [1] * 13, ["1", 2])],
    *[("about.model.classes", x) for x in (10, [0], [11], [10, 10], [10**9], ["10"], None)],
    *[("about.model.padding", x) for x in ("reflect", 1, None)],
    *[("about.model.out", x) for x in (0, 2, "1")],
    *[("about.model.sides", 3), ("about.model.rng", 0)],
    *[("about.labels", x) for x in ([1], None, {"digit": 10}, {"digit": []}, {"digit": [1] * 10})],
    *[("about.labels", {name: list("0123456789")}) for name in ("", "a\nb", "\ud800", "x" * 101)],
    *[("about.labels", {"digit": list("012")}), ("about.labels", {"a": ["b"], "c": ["d"]})],
    *[("about.dataset", x) for x in (None, 7, "", "di\x1b[31m")],
    *[("about.schedule", x) for x in (None, [], {}, MISSING)],
    *[("about.schedule.kind", x) for x in ("quadratic", None, [], MISSING)],
    *[("about.schedule.T", x) for x in (0, -1, 10**9, 10**400, "250", 2.5, None, True, MISSING)],
    *[("about.train", x) for x in (None, [], "v")],
    *[("about.train.predict", x) for x in ("x", None, 1)],
    *[("about.train.batch", x) for x in (0, -4, "x", 4.5, None, 10**30)],
    *[("about.train.lr", x) for x in (0, -1, "x", "nan", float("nan"), float("inf"), 1e300, None)],
    *[("about.train.forget", x) for x in (-0.1, 2, "x", float("nan"))],
    *[("about.train.seed", x) for x in (-1, 1.5, "x", None)],
    *[
        ("about.history", x)
        for x in (None, {}, [1], [[1, 2]], [[1, "2", 3]], [[1, 2, float("nan")]])
    ],
    *[("about.recent", x) for x in (None, [None], ["x"], [float("inf")], 0.5)],
]
GOES_ON = [  # what only a training has
    *[("step", x) for x in (-1, 2.0, "2", None, 10**400, True, MISSING)],
    *[("adam_k", x) for x in (-1, 1e300, "x", None, 10**30, MISSING)],
    *[("loss", x) for x in ("x", None, float("inf"), [], MISSING)],
    *[("rng", x) for x in (7, None, {}, {"bit_generator": "MT19937"}, MISSING)],
    *[("rng.state", x) for x in ({}, None, {"state": 1}, {"state": 1, "inc": 2})],
    *[("rng.state.state", x) for x in (-1, 2**128, 1.5, "x", None)],
    *[("rng.has_uint32", x) for x in (2, -1, "x", 10**30)],
    *[("rng.uinteger", x) for x in (-1, 2**32, 0.5, None)],
]


@pytest.mark.parametrize("where", sorted({where for where, _ in WRONG + GOES_ON}))
def test_each_field_is_checked_before_anything_is_built(files, tmp_path, where):
    training, small = files
    for path, value in WRONG + GOES_ON:
        if path != where:
            continue
        wrong = rewritten(training, tmp_path / "a.npz", placed(where, value))
        for load in (checkpoint.load, Pipeline.load):
            with pytest.raises(CheckpointError, match="a.npz does not fit this version") as e:
                load(wrong)
            assert str(e.value).isprintable() and len(str(e.value)) < 400, value
        if where.startswith("about"):
            wrong = rewritten(small, tmp_path / "a.npz", placed(where, value))
            with pytest.raises(CheckpointError, match="a.npz holds no model that draws") as e:
                Pipeline.load(wrong)
            assert str(e.value).isprintable() and len(str(e.value)) < 400, value


@pytest.mark.parametrize("where", ["dataset", "labels", "train", "history", "recent"])
def test_what_drawing_does_not_need_may_be_missing(files, tmp_path, where):
    training, _ = files
    bare = rewritten(training, tmp_path / "a.npz", placed(f"about.{where}", MISSING))
    assert checkpoint.load(bare)[0].step == 2 and Pipeline.load(bare).model.size == 8


def test_a_training_that_cannot_go_on_is_refused(files, tmp_path, refused):
    """On the command line, which needs more of a file than checkpoint.load does."""
    training, _ = files
    resume = ("train", "digits", "--steps", 3, "--out", tmp_path, "--resume", tmp_path / "a.npz")
    for settings in ({}, {"predict": "v", "batch": 4, "lr": 1e-3}):
        rewritten(training, tmp_path / "a.npz", placed("about.train", settings))
        missing = "forget" if settings else "predict"
        assert f"does not say its train.{missing}" in refused(*resume)
    rewritten(training, tmp_path / "a.npz", placed("about.model.size", 16))
    assert "a.npz was trained on other images than digits has" in refused(*resume)
    rewritten(training, tmp_path / "a.npz", placed("about.dataset", "fashion"))
    assert "a.npz was trained on fashion, not on digits" in refused(*resume)
    few = ("--n", 64, "--samplers", "ddim:1", "--out", tmp_path / "a.png")
    line = refused("evaluate", tmp_path / "a.npz", *few)
    assert "a.npz draws 8 x 8 x 1, the images of fashion are 16 x 16 x 1" in line
    rewritten(training, tmp_path / "a.npz", placed("about.labels", {"cipher": list("0123456789")}))
    line = refused("evaluate", tmp_path / "a.npz", *few)
    assert "a.npz has other labels than the images of digits" in line
    rewritten(training, tmp_path / "a.npz", placed("about.labels", MISSING))
    line = refused("sample", tmp_path / "a.npz", "--n", 1, "--out", tmp_path / "a.png")
    assert "the model's file does not name its labels" in line
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def spoilt(a, value):
    a = a.copy()
    a[len(a) // 2] = value
    return a


BAD_ARRAYS = {
    "NaN": lambda a: spoilt(a, np.nan),
    "inf": lambda a: spoilt(a, -np.inf),
    "one number": lambda a: a[:1],
    "one too few": lambda a: a[1:],
    "one too many": lambda a: np.append(a, a[:1]),
    "0-d": lambda a: a[0],
    "two axes": lambda a: a[None],
    "text": lambda a: a.astype(str),
    "float64": lambda a: a.astype(np.float64),
    "complex": lambda a: a.astype(np.complex64),
    "whole numbers": lambda a: a.astype(np.int32),
    "records": lambda a: a.view([("x", a.dtype)]),
    "none": lambda a: a[:0],
}


@pytest.mark.parametrize("how", BAD_ARRAYS)
def test_weights_that_are_no_weights(files, tmp_path, how):
    training, small = files
    for file, names in ((training, ("theta", "ema", "m", "v")), (small, ("weights",))):
        for name in names:
            with np.load(file) as f:
                array = BAD_ARRAYS[how](f[name])
            wrong = rewritten(file, tmp_path / "a.npz", **{name: array})
            with pytest.raises(CheckpointError, match="a.npz ") as e:
                Pipeline.load(wrong)
            assert str(e.value).isprintable()


def test_an_average_of_squares_is_not_negative(files, tmp_path):
    with np.load(files[0]) as f:
        wrong = rewritten(files[0], tmp_path / "a.npz", v=spoilt(f["v"], -1))
    with pytest.raises(CheckpointError, match="v, an average of squares, is negative"):
        checkpoint.load(wrong)


def test_weights_may_be_exported_in_float32_too(files, tmp_path):
    with np.load(files[1]) as f:
        whole = rewritten(files[1], tmp_path / "a.npz", weights=f["weights"].astype(np.float32))
    assert np.array_equal(
        Pipeline.load(whole).model.conv_in.w, Pipeline.load(files[1]).model.conv_in.w
    )


def test_weights_too_large_to_draw_with_make_no_picture(files, tmp_path, refused):
    with np.load(files[1]) as f:
        weights = np.full(f["weights"].shape, 3e38, np.float32)
    wrong = rewritten(files[1], tmp_path / "a.npz", weights=weights)
    line = refused("sample", wrong, "--n", 1, "--steps", 1, "--out", tmp_path / "a.png")
    assert "a.npz draws is not finite" in line and not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "{" + '"a":[' * 20 + "]" * 20 + "}", "9" * 5000]
    + ["", "null", "[]", '"x"', "{}", '{"format": NaN}', "\udfff", "{'format': 1}"],
    ids=range(12),
)
def test_a_header_that_is_no_header(files, tmp_path, text):
    with np.load(files[1]) as f:
        np.savez(tmp_path / "a.npz", meta=np.array(text), weights=f["weights"])
    with pytest.raises(CheckpointError, match="a.npz is not a tinydiff checkpoint"):
        Pipeline.load(tmp_path / "a.npz")


def test_a_header_of_numbers_bytes_or_many_texts(files, tmp_path):
    with np.load(files[1]) as f:
        text, weights = str(f["meta"]), f["weights"]
    for meta in (np.array(text.encode()), np.array([text]), np.array(7), np.zeros(3, "<M8[s]")):
        np.savez(tmp_path / "a.npz", meta=meta, weights=weights)
        with pytest.raises(CheckpointError, match="a.npz is not a tinydiff checkpoint"):
            Pipeline.load(tmp_path / "a.npz")


def test_a_header_that_is_too_long(files, monkeypatch):
    monkeypatch.setattr(checkpoint, "_UNPACKED", 1000)
    for file in files:
        with pytest.raises(CheckpointError, match="npz is not a tinydiff checkpoint"):
            Pipeline.load(file)


def test_a_header_of_what_are_no_characters(files, tmp_path):
    with np.load(files[1]) as f:
        codes, weights = np.atleast_1d(f["meta"]).view(np.uint32), f["weights"]
    for code in (0x110000, 0xFFFFFFFF, 0xD800):
        codes[12] = code
        content = codes.tobytes()
        meta = npy("()", content, f"<U{len(codes)}")
        parts = {
            "meta.npy": meta,
            "weights.npy": npy(f"({weights.size},)", weights.tobytes(), "<f2"),
        }
        with pytest.raises(CheckpointError, match="a.npz is not a tinydiff checkpoint"):
            Pipeline.load(zipped(tmp_path / "a.npz", parts.items()))


def members(file):
    with zipfile.ZipFile(file) as f:
        return {name: f.read(name) for name in f.namelist()}


def zipped(path, parts, how=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", how) as f:
        for name, content in parts:
            f.writestr(name, content)
    return path


def npy(shape, content, descr="<f4"):
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + content


def test_a_small_file_that_unpacks_to_a_large_one_is_refused_unread(files, tmp_path, monkeypatch):
    large = npy("(10000000,)", bytes(40_000_000))
    parts = members(files[1]) | {"weights.npy": large}
    bomb = zipped(tmp_path / "a.npz", parts.items())
    monkeypatch.setattr(zipfile.ZipFile, "read", None)
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    with pytest.raises(CheckpointError, match=r"its \d+ bytes claim to be 400\d+ unpacked"):
        Pipeline.load(bomb)


def test_one_that_was_compressed_in_earnest_is_read(files, tmp_path):
    for file in files:
        small = zipped(tmp_path / "a.npz", members(file).items())
        assert small.stat().st_size < file.stat().st_size
        assert Pipeline.load(small).model.size == 8


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_with_two_parts_of_one_name_or_compressed_oddly(files, tmp_path):
    parts = [*members(files[1]).items()]
    twice = zipped(tmp_path / "a.npz", [*parts, parts[-1]])
    with pytest.raises(CheckpointError, match="two of its parts have one name"):
        Pipeline.load(twice)
    for how in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with pytest.raises(CheckpointError, match="compressed in a way that NumPy does not use"):
            Pipeline.load(zipped(tmp_path / "a.npz", parts, how))


@pytest.mark.parametrize(
    "array",
    [npy("(1000000000000,)", bytes(8)), npy("(3,)", bytes(8)), npy("(1,)", bytes(8))]
    + [npy("(99999999999999999999,)", bytes(8)), npy("(-1,)", bytes(8)), npy("(2, 1)", bytes(8))]
    + [npy("(2,)", bytes(8), "<q9"), npy("(2,)", bytes(8), "<f3"), npy("()", b"", "<U0")]
    + [npy("(" * 4000, b""), b"", b"\x93NUMPY", b"\x93NUMPY\x03\x00", npy("(2,)", bytes(8), "|V4")],
    ids=range(14),
)
def test_arrays_that_are_not_what_they_claim(files, tmp_path, array):
    for name in ("weights.npy", "meta.npy"):
        parts = members(files[1]) | {name: array}
        with pytest.raises(CheckpointError, match="a.npz (is|holds) ") as e:
            Pipeline.load(zipped(tmp_path / "a.npz", parts.items()))
        assert str(e.value).isprintable()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_or_a_device_is_not_waited_for(tmp_path, refused):
    os.mkfifo(tmp_path / "pipe.npz")
    writer = os.open(tmp_path / "pipe.npz", os.O_RDWR)  # so that no mistake makes the test wait
    os.write(writer, b"PK")
    try:
        for path in (tmp_path / "pipe.npz", "/dev/null"):
            with pytest.raises(
                CheckpointError, match="cannot be read .it is a (pipe|device), not a file"
            ):
                Pipeline.load(path)
            assert "not a file" in refused("sample", path)
    finally:
        os.close(writer)


def test_random_headers_are_read_or_refused(files, tmp_path):
    """Any other end than a network or a CheckpointError would fail the test."""
    rng, refusals = np.random.default_rng(0), 0
    values = [
        None,
        True,
        0,
        -1,
        3,
        10**30,
        0.5,
        1e300,
        float("nan"),
        "",
        "x",
        [],
        {},
        [1],
        {"a": 1},
    ]
    for k in range(200):
        file = files[k % 2]

        def change(header):
            paths = [*_paths(header)]
            for i in rng.integers(len(paths), size=1 + k % 3):
                *groups, last = paths[i]
                part = header
                for group in groups:
                    part = part.get(group, {}) if type(part) is dict else {}
                if type(part) is dict:
                    part[last] = values[rng.integers(len(values))]

        try:
            Pipeline.load(rewritten(file, tmp_path / "a.npz", change))
        except CheckpointError as e:
            refusals += 1
            assert str(e).isprintable()
    assert refusals > 100


def _paths(header):
    for name, part in header.items():
        yield (name,)
        if type(part) is dict:
            yield from ((name, *inner) for inner in _paths(part))


def test_a_classifier_is_checked_too(tmp_path, monkeypatch):
    good = data.FOLDER / "models" / "digits_judge.npz"
    monkeypatch.setattr(checkpoint, "FOLDER", tmp_path)
    (tmp_path / "models").mkdir()
    file = tmp_path / "models" / "digits_judge.npz"
    wrong = [("size", 0), ("size", "8"), ("size", 12), ("channels", None), ("channels", 3)]
    wrong += [("labels", [1]), ("labels", MISSING), ("labels", {})]
    wrong += [("held_out", None), ("held_out", {"a": 2})]
    for where, value in wrong:
        rewritten(good, file, placed(f"about.{where}", value))
        with pytest.raises(
            CheckpointError, match="digits_judge.npz holds no classifier, or one of"
        ):
            classifier.load("digits")
    rewritten(good, file, weights=np.full(81994, np.nan, np.float16))
    with pytest.raises(CheckpointError, match="not every number in weights is finite"):
        classifier.load("digits")
    rewritten(good, file)
    assert classifier.load("digits")[1]["size"] == 8


def test_all_files_that_tinydiff_ever_wrote_are_read():
    models = sorted((data.FOLDER / "models").glob("*.npz"))
    assert len(models) == 15
    for path in models:
        name = path.stem.removesuffix("_judge")
        classifier.load(name) if path.stem.endswith("_judge") else Pipeline.load(path)
    old = Path(__file__).parent / "fixtures" / "digits_v0.1.npz"
    assert checkpoint.load(old)[0].step == 3 and Pipeline.load(old).labels["digit"][7] == "7"


# --- what is not finite, or could not be read again, is not written ---


def test_weights_that_are_not_finite_are_not_saved(files, tmp_path, monkeypatch, refused):
    path = tmp_path / "digits.npz"
    path.write_bytes(files[0].read_bytes())
    monkeypatch.setattr(cmd_train, "warmup_cosine", lambda done: 1e300)
    line = refused("train", "digits", "--resume", path, "--steps", 3, "--out", tmp_path)
    said = "after step 3 the weights are not finite numbers any more: lower the learning rate"
    assert f"{said}; the last checkpoint stays in {path}" in line
    assert path.read_bytes() == files[0].read_bytes()
    run, _, meta = checkpoint.load(path)
    for array in (run.theta, run.ema, run.adam.m, run.adam.v):
        kept, array[5] = array[5], np.nan
        with pytest.raises(FloatingPointError, match="after step 2 the weights are not finite"):
            checkpoint.save(path, run, meta)
        array[5] = kept
    checkpoint.save(path, run, meta)


def test_weights_too_large_for_float16_are_not_exported(files, tmp_path):
    run, _, meta = checkpoint.load(files[0])
    for value in (7e4, np.nan):
        run.ema[3] = value
        with pytest.raises(FloatingPointError, match="a weight is not finite, or above 65504"):
            checkpoint.export(tmp_path / "a.npz", run.ema, meta)
    assert not list(tmp_path.iterdir())


def test_a_description_that_could_not_be_read_again_is_not_saved(files, tmp_path):
    run, _, meta = checkpoint.load(files[0])
    with pytest.raises(ValueError, match="labels is {'digit': .*, not names, for each of which"):
        checkpoint.save(tmp_path / "a.npz", run, meta | {"labels": {"digit": list(range(10))}})
    with pytest.raises(ValueError, match="labels of .3. values are named, the network has .10."):
        checkpoint.build(meta | {"labels": {"digit": list("abc")}}, seed=0)
    assert not list(tmp_path.iterdir())


def test_the_table_names_the_field_and_what_it_takes():
    table = {"a": fields.NAME, "b.c?": fields.CHANNELS}
    fields.require(table, {"a": "x"})
    for header, why in [
        ({}, "a is missing"),
        ({"a": 1}, "a is 1, not a text of 1 to 100 characters that can be printed"),
        ({"a": "x", "b": 3}, "b is 3, not a group of fields"),
        ({"a": "x", "b": {"c": 0}}, "b.c is 0, not a whole number from 1 to 1024"),
        (None, "the description is None, not a group of fields"),
    ]:
        with pytest.raises(ValueError) as e:
            fields.require(table, header)
        assert str(e.value) == why
