"""restyle and alphabet, from the command line to the network: what goes in, stays, is refused."""

import numpy as np
import pytest
from PIL import Image

from tinydiff import data, sample
from tinydiff.app import cli
from tinydiff.design import edit
from tinydiff.design.pipeline import WAYS, Pipeline

TINY = ("--width", "8", "--depth", "1", "--batch", "4")


def run(*argv):
    return cli.main([str(a) for a in argv])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train tiny models for two steps -> the folder of emoji.npz and typefaces.npz."""
    out = tmp_path_factory.mktemp("trained")
    for name in data.STYLES:
        assert run("train", name, *TINY, "--steps", 2, "--out", out) == 0
        assert (out / f"{name}_000002.png").exists()
    return out


@pytest.fixture(scope="module")
def emoji(trained):
    """Load the tiny network of emoji, with weights large enough to see its source -> Pipeline"""
    pipe = Pipeline.load(trained / "emoji.npz")
    theta = pipe.model.flatten()
    theta[:] = 0.2 * np.random.default_rng(0).standard_normal(len(theta), dtype=np.float32)
    return pipe


def in_style(pipe, name, source=None, w=1.0, N=3):
    labels = np.full((N, 1), ["line", "flat", "shaded", "noto", "twemoji"].index(name))
    return pipe.eps_model(labels, w, source=source)


@pytest.mark.parametrize("way", WAYS)
def test_the_three_ways_are_what_they_say(emoji, rng, way):
    images, s = rng.uniform(-1, 1, (3, 16, 16, 3)).astype(np.float32), emoji.s
    draws, how = np.random.default_rng, {"way": way, "of": "line", "steps": 4}
    found = emoji.restyle(images, "noto", draws(1), **how, w=2.0, strength=0.6)
    times, rng = sample.even_times(s, 4), draws(1)
    noto = in_style(emoji, "noto", images if way == "source" else None, w=2.0)
    if way == "source":
        *_, want = sample.ddim(noto, s, images.shape, rng, times, clip=1.0)
    elif way == "inversion":
        times = [150, 125, 62, 0]
        *_, x_T = sample.ddim_invert(in_style(emoji, "line"), s, images, times, 2)
        *_, want = sample.ddim(noto, s, images.shape, None, times, x_T=x_T, clip=1.0)
    else:
        *_, want = edit.image_to_image(noto, s, images, 0.6, rng, times, clip=1.0)
    assert np.allclose(found, want, atol=1e-4)
    others = [emoji.restyle(images, to, draws(1), **how) for to in ("noto", "flat")]
    assert np.abs(others[0] - others[1]).max() > 0.01 and np.abs(others[0] - found).max() > 0.01


def test_an_alphabet_keeps_what_is_given_and_looks_at_nothing_else(trained, rng, monkeypatch):
    known = {c: rng.uniform(-1, 1, (16, 16, 1)).astype(np.float32) for c in "QB"}
    seen, draw = [], Pipeline.draw

    def noted(pipe, labels, rng, source, **how):
        seen.append((labels, source))
        return draw(pipe, labels, rng, source=source, **how)

    monkeypatch.setattr(Pipeline, "draw", noted)
    x = Pipeline.load(trained / "typefaces.npz").alphabet(known, rng, steps=2)
    ((labels, source),) = seen
    assert x.shape == (26, 16, 16, 1) and np.array_equal(labels, np.arange(26)[:, None])
    assert np.array_equal(x[1], known["B"]) and np.array_equal(x[16], known["Q"])
    assert np.array_equal(source[0, :, :, 1], known["B"][..., 0])
    assert np.array_equal(source[0, :, :, 16], known["Q"][..., 0])
    assert source.any((0, 1, 2)).sum() == 2


@pytest.mark.parametrize(
    "name, label, before, wanted",
    [("typefaces", "letter", "A", "B"), ("emoji", "style", "line", "flat")],
)
def test_edit_takes_models_that_look_at_a_source(
    name, label, before, wanted, trained, tmp_path, capsys
):
    """Their classifiers may read more labels than they take (letter and face); sets have styles."""
    x = data.load_styles(name).images[7, 2]
    Image.fromarray(data.to_uint8(x).squeeze()).save(tmp_path / "x.png")
    argv = (trained / f"{name}.npz", tmp_path / "x.png", "--out", tmp_path / "e.png", "--steps", 2)
    assert run("edit", *argv, "--change", wanted, "--label", before) == 0
    assert f"wanted: {label}={wanted}" in capsys.readouterr().out
    # 2: the classifier reads what is requested already
    assert run("edit", *argv, "--change", wanted) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err
    assert run("edit", *argv, "--restore", "blur", "--n", 1) == 0


@pytest.fixture
def apple(tmp_path):
    """Save an emoji of the set as a file."""
    image = data.to_uint8(data.load_styles("emoji").images[5, 4])
    Image.fromarray(image).save(tmp_path / "apple.png")
    return tmp_path / "apple.png"


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--way inversion --from twemoji",
        "--way noise --strength 0.3",
        "--way inversion --from line --steps 1",
        "--way inversion --from line --strength 0.001",
    ],
)
def test_restyle_shows_the_picture_and_its_new_versions(trained, apple, tmp_path, capsys, options):
    argv = f"--to line --n 3 --steps 2 --out {tmp_path}/r.png --model {trained}/emoji.npz".split()
    assert run("restyle", apple, *argv, *options.split()) == 0
    out = capsys.readouterr().out
    assert f"{apple}: 16 x 16 RGB" in out
    assert f"{tmp_path / 'r.png'}: the picture, then 3 times in the style line" in out
    shown = np.asarray(Image.open(tmp_path / "r.png"))
    assert shown.shape == (108, 6 * (4 * 17 + 1), 3)
    assert np.array_equal(shown[6:102:6, 6:102:6], np.asarray(Image.open(apple)))


def test_alphabet_takes_pictures_and_typefaces(trained, tmp_path, capsys):
    """Black on white is turned round; a typeface gives the chosen letters, or all known."""
    faces = data.load_styles("typefaces")
    f = faces.styles.index("lobster")
    letter = data.to_uint8(faces.images[0, f, ..., 0])
    Image.fromarray(255 - letter).save(tmp_path / "a.png")
    argv = f"--steps 2 --n 2 --out {tmp_path}/x.png --model {trained}/typefaces.npz".split()
    assert run("alphabet", f"A={tmp_path / 'a.png'}", *argv) == 0
    assert "a.png: 16 x 16 L, dark on light turned to light on dark" in capsys.readouterr().out

    def rows():
        pixels = np.asarray(Image.open(tmp_path / "x.png"))[3:, 3:, 0]
        shown = pixels.reshape(3, 17, 3, 26, 17, 3)[:, :16, 0, :, :16, 0]
        return shown.swapaxes(1, 2)  # (3, 26, 16, 16)

    assert (rows()[:, 0] == letter).all() and (rows()[0, 1:] == 128).all()
    assert rows()[1:, 1:].std() > 1
    assert run("alphabet", "lobster", "--letters", "QB", *argv) == 0
    assert "what was given (BQ)" in capsys.readouterr().out
    for i in (1, 16):
        assert (rows()[:, i] == data.to_uint8(faces.images[i, f, ..., 0])).all()
    assert run("alphabet", "lobster", *argv) == 0
    assert [(r == 128).all() for r in rows()[0]] == faces.test[:, f].tolist()


STYLES = "there are: line, flat, shaded, noto, twemoji"
STRENGTH = "--strength is for --way inversion or noise"
UNREADABLE = "cannot be read (No such file or directory): give a PNG or JPEG"
FACES = "no typeface 'comic'; give pictures, as A=a.png, or one of: eb-garamond"
BAD = {
    "restyle IMAGE": "the following arguments are required: --to",
    "restyle IMAGE --to cubist EMOJI": f"--to: no style 'cubist'; {STYLES}",
    "restyle IMAGE --to flat --from line EMOJI": "--from is for --way inversion",
    "restyle IMAGE --to flat --from cubist EMOJI": "--from: no style 'cubist'; there are",
    "restyle IMAGE --to flat --way inversion EMOJI": "needs --from, the style of the picture",
    "restyle IMAGE --to flat --strength 0.5 EMOJI": STRENGTH,
    "restyle IMAGE --to flat --way noise --strength 1.5 EMOJI": "above 0 up to 1, got '1.5'",
    "restyle IMAGE --to flat --way magic EMOJI": "invalid choice: 'magic'",
    "restyle IMAGE --to flat --steps 500 EMOJI": "--steps takes at most 250",
    "restyle IMAGE --to flat FACES": "was trained on typefaces: give one of `train emoji`",
    "restyle IMAGE --to flat --model digits": "was trained on digits: give one of `train emoji`",
    "restyle none.png --to flat EMOJI": f"none.png {UNREADABLE}",
    "restyle FILE --to flat EMOJI": "FILE is not a picture that can be read",
    "restyle IMAGE --to flat --out a.jpg EMOJI": "--out a.jpg: pictures are PNG files",
    "alphabet": "the following arguments are required: LETTERS",
    "alphabet lobster EMOJI": "was trained on emoji: give one of `train typefaces`",
    "alphabet comic FACES": FACES,
    "alphabet lobster --letters Ab FACES": "--letters takes capitals from A to Z; got 'b'",
    "alphabet A=IMAGE --letters A FACES": "--letters chooses among the letters of a typeface",
    "alphabet a=IMAGE FACES": "'a=IMAGE' is not LETTER=PICTURE with a capital from A to Z",
    "alphabet A= FACES": "'A=' is not LETTER=PICTURE",
    "alphabet A=IMAGE A=IMAGE FACES": "A is given twice: one picture per letter",
    "alphabet A=none.png FACES": "none.png cannot be read",
    "alphabet lobster anton FACES": "'lobster' is not LETTER=PICTURE",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_gets_one_clear_line(line, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("x")
    (tmp_path / "FOLDER").mkdir()
    Image.fromarray(np.eye(9, dtype=np.uint8) * 255).save("IMAGE", "PNG")
    words = line.replace("EMOJI", f"--model {trained}/emoji.npz")
    words = words.replace("FACES", f"--model {trained}/typefaces.npz")
    capsys.readouterr()
    assert run(*words.split()) == 2
    out, err = capsys.readouterr()
    assert err.startswith("tinydiff: ") and len(err.splitlines()) == 1 and BAD[line] in err
    assert {p.name for p in tmp_path.iterdir()} == {"FILE", "FOLDER", "IMAGE"}
    assert not any((tmp_path / "FOLDER").iterdir())
