"""Exact palettes: the choice of colours against Bayes' rule, files of colours, and the commands."""

import struct
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from test_cli import run

from tinydiff import exact, sample, schedule
from tinydiff.app import colours
from tinydiff.app.usage import UsageError
from tinydiff.data import to_float, to_uint8
from tinydiff.design import palette, swatches
from tinydiff.design.pipeline import Pipeline
from tinydiff.diffusion import predict_x0

S = schedule.cosine(40)
THREE = np.array([[0.9, -0.5, 0.1], [-0.8, -0.7, 0.6], [0.2, 0.8, -0.4]], np.float32)
BRAND = ("#14213d", "#fca311", "#e5e5e5")
X = np.random.default_rng(5).normal(0.1, 0.7, (2, 6, 5, 3)).astype(np.float32)


# --- which colour? ---


def test_posterior_is_bayes_rule(monkeypatch):
    monkeypatch.setattr(palette, "AGREE", 0.0)
    r = palette.posterior(X, THREE, 0.3)
    for at in np.ndindex(X.shape[:3]):
        likely = [np.exp(-((X[at] - colour) ** 2).sum() / 0.6) for colour in THREE]
        assert np.allclose(r[at], likely / np.sum(likely), atol=1e-5)


def test_posterior_meets_shares_and_the_least():
    r = palette.posterior(X, THREE, 0.1, shares=np.array([0.6, 0.3, 0.1]))
    assert np.abs(r.mean((1, 2)) - [0.6, 0.3, 0.1]).max() < 0.01
    far = np.full((1, 8, 8, 3), 0.9, np.float32) * np.linspace(0.9, 1, 8)[:, None, None]
    far = far.astype(np.float32)
    alone, asked = palette.posterior(far, THREE, 0.1), palette.posterior(far, THREE, 0.1, least=0.2)
    assert alone.mean((1, 2)).min() < 0.1 and asked.mean((1, 2)).min() > 0.18
    plenty = palette.posterior(X, THREE, 0.1, least=0.01)
    assert np.array_equal(plenty, palette.posterior(X, THREE, 0.1))  # nobody pays


def test_a_doubtful_pixel_follows_its_neighbours():
    x = np.broadcast_to(THREE[0], (1, 5, 5, 3)).copy()
    x[0, 2, 2] = 0.49 * THREE[0] + 0.51 * THREE[1]
    x[0, 0, 4] = THREE[2]  # sure, though at the edge
    index = palette.posterior(x, THREE, 0.05).argmax(-1)
    assert palette.nearest(x, THREE)[0, 2, 2] == 1 and index[0, 2, 2] == 0 and index[0, 0, 4] == 2
    assert (np.delete(index.ravel(), [4, 12]) == 0).all()


def test_nearest_is_snap():
    index = palette.nearest(X, THREE)
    away = ((X[..., None, :] - THREE) ** 2).sum(-1)
    assert index.dtype == np.uint8 and np.array_equal(index, away.argmin(-1))


@pytest.mark.parametrize("sampler", [sample.ddim, sample.dpmpp_2m])
def test_what_a_sampler_draws_has_exactly_these_colours(sampler):
    """Data that fills the cube; early steps are as without a palette, the last image is on it."""
    free, rng = exact.gaussian(S, 0.0, 0.3), np.random.default_rng(1)
    asked = []

    def heard(x_t, t):
        asked.append((t, x_t, free(x_t, t)))
        return asked[-1][-1]

    model = palette.exact(heard, S, THREE)
    x_T = rng.normal(size=(6, 8, 8, 3)).astype(np.float32)
    *_, x = sampler(model, S, x_T.shape, rng, x_T=x_T)
    index = palette.nearest(x, THREE)
    assert np.abs(x - THREE[index]).max() < 1e-5
    assert not palette.lacking(index, 3).any()
    early, late = asked[0], asked[-3]
    assert np.array_equal(model(early[1], early[0]), early[2])
    assert not np.array_equal(model(late[1], late[0]), late[2])


def test_at_the_end_no_pixel_is_a_mixture():
    between = np.full((1, 4, 4, 3), 0.5, np.float32) * (THREE[0] + THREE[1])
    between += np.float32(0.01) * (THREE[0] - THREE[1])
    model = palette.exact(lambda x_t, t: np.zeros_like(x_t), S, THREE)
    x0 = predict_x0(S, between, 1, model(between, 1))
    assert np.abs(x0 - THREE[palette.nearest(x0, THREE)]).max() < 1e-4


def test_shares_of_what_is_drawn():
    rng, wanted = np.random.default_rng(1), np.array([0.6, 0.3, 0.1])
    model = palette.exact(exact.gaussian(S, 0.0, 0.3), S, THREE, wanted)
    *_, x = sample.ddim(model, S, (8, 12, 12, 3), rng)
    have = palette.shares_of(palette.nearest(x, THREE), 3)
    assert np.allclose(have.sum(1), 1) and np.abs(have - wanted).max() < 0.07


def test_lacking():
    index = np.zeros((4, 10, 10), int)
    index[1, 0, :2], index[2, 0, 0], index[3, 0, 0], index[3, 0, 1] = 1, 1, 1, 2
    assert palette.lacking(index, 2).tolist() == [True, False, False, False]
    assert palette.lacking(index, 3).tolist() == [True, True, True, False]
    assert palette.lacking(index, 9).tolist() == [True, False, False, False]
    rare = np.array([0.99, 0.005, 0.005])
    big = np.zeros((1, 20, 20), int)
    big[0, 0, 0], big[0, 0, 1] = 1, 2
    assert not palette.lacking(big, 3, rare) and palette.lacking(big, 3)


def test_found():
    """A sprite of five colours, one of them a single pixel: all are found, the commonest first."""
    flat = np.array([[20, 30, 60], [250, 160, 20], [230, 230, 230], [10, 120, 60], [255, 0, 0]])
    index = np.repeat([0, 1, 2, 3], [120, 80, 40, 16]).reshape(1, 16, 16)
    index[0, 0, 5] = 4
    got = palette.found(to_float(flat[index]), 8)
    assert got.dtype == np.uint8 and got.tolist() == flat.tolist()
    assert len(palette.found(to_float(flat[index]), 3)) == 3
    assert palette.found(to_float(flat[index][..., :1]), 2).shape == (2, 1)


def test_dithered():
    grey = np.full((1, 16, 16, 3), 0.0, np.float32)
    index = palette.dithered(grey, np.array([[-1.0] * 3, [1.0] * 3]))
    assert set(np.unique(index)) == {0, 1} and abs(index.mean() - 0.5) < 0.03
    assert np.array_equal(
        palette.dithered(THREE[palette.nearest(X, THREE)], THREE), palette.nearest(X, THREE)
    )


# --- files of colours ---


def chunk(kind, data):
    return struct.pack("<IH", len(data) + 6, kind) + data


def sprite(*chunks):
    """Write an Aseprite file of one frame, of these chunks only -> bytes"""
    body = b"".join(chunks)
    frame = struct.pack("<IHHH2xI", len(body) + 16, 0xF1FA, len(chunks), 100, len(chunks)) + body
    return struct.pack("<IHHHHH114x", len(frame) + 128, 0xA5E0, 1, 8, 8, 8) + frame


def adobe(*swatch):
    """Write an Adobe Swatch Exchange file of (space, values) -> bytes"""
    data = b"ASEF" + struct.pack(">HHI", 1, 0, len(swatch))
    for space, values in swatch:
        name = "ab\0".encode("utf-16-be")
        block = struct.pack(">H", 3) + name + space + struct.pack(f">{len(values)}fH", *values, 0)
        data += struct.pack(">HI", 1, len(block)) + block
    return data


PALETTE_CHUNK = struct.pack("<III8x", 4, 0, 3) + struct.pack("<HBBBB", 0, 1, 2, 3, 0)
PALETTE_CHUNK += struct.pack("<HBBBBH3s", 1, 20, 33, 61, 255, 3, b"ink")
PALETTE_CHUNK += struct.pack("<HBBBB", 0, 252, 163, 17, 255) + struct.pack("<HBBBB", 0, 0, 0, 0, 9)
OLD_CHUNK = struct.pack("<HBBBBBBBB", 1, 0, 2, 20, 33, 61, 252, 163, 17)
HUGE_CHUNK = struct.pack("<III8x", 1, 0, 65_536) + struct.pack("<HBBBB", 0, 1, 2, 3, 255) * 65_537
LAYER = chunk(0x2004, b"\0" * 18)
GPL = "GIMP Palette\nName: x\nColumns: 2\n#\n 20  33  61\tink\n252 163  17\n 20 33 61 again\n"
TWO = [[20, 33, 61], [252, 163, 17]]
FILES = {
    "a.gpl": (GPL.encode(), TWO),
    "alpha.gpl": (b"GIMP Palette\nChannels: RGBA\n1 2 3 0 clear\n20 33 61 255 ink\n", TWO[:1]),
    "bom.gpl": (b"\xef\xbb\xbf" + GPL.encode(), TWO),
    "bom.hex": (b"\xef\xbb\xbf14213d\nFCA311\n", TWO),
    "a.hex": (b"14213d\r\nFCA311\r\n", TWO),
    "sprite.ase": (sprite(LAYER, chunk(0x2019, PALETTE_CHUNK)), [*TWO, [0, 0, 0]]),
    "old.aseprite": (sprite(chunk(4, OLD_CHUNK)), TWO),
    "swatches.ase": (
        adobe((b"RGB ", [20 / 255, 33 / 255, 61 / 255]), (b"Gray", [1.0])),
        [TWO[0], [255] * 3],
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_colours(name, tmp_path):
    data, expected = FILES[name]
    (tmp_path / name).write_bytes(data)
    assert swatches.read(tmp_path / name).tolist() == expected


def test_the_colours_of_a_picture(tmp_path):
    pixels = np.array([[[20, 33, 61, 255], [9, 9, 9, 0]], [[252, 163, 17, 255], [20, 33, 61, 255]]])
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "a.png")
    assert swatches.read(tmp_path / "a.png").tolist() == TWO


BAD = {
    "cmyk.ase": (adobe((b"CMYK", [0, 0, 0, 1])), "holds CMYK colours: save them as RGB"),
    "cut.ase": (adobe((b"RGB ", [1, 1, 1]))[:-8], "is damaged: it ends before its last colour"),
    "cut.aseprite": (sprite(chunk(0x2019, PALETTE_CHUNK))[:-3], "is damaged"),
    "short.aseprite": (
        sprite(struct.pack("<IH", 26, 0x2019) + PALETTE_CHUNK, LAYER),
        "is damaged: it ends before its last colour",
    ),
    "shorter.aseprite": (sprite(struct.pack("<IH", 9, 4) + OLD_CHUNK), "is damaged: it ends"),
    "huge.aseprite": (sprite(chunk(0x2019, HUGE_CHUNK)), "is damaged: a palette of 65,537 colours"),
    "nan.ase": (
        adobe((b"RGB ", [0, float("nan"), 1])),
        "is damaged: a colour is not a finite number",
    ),
    "none.gpl": (b"GIMP Palette\n# 1 2 3\n", "holds no colours"),
    "bad.gpl": (b"GIMP Palette\n 1 2 300\n", r"has a colour \(1, 2, 300\)"),
    "bad.hex": (b"14213d\nhello\n", "has a line 'hello': each is six hexadecimal digits"),
    "many.hex": (b"".join(b"%06x\n" % i for i in range(257)), "holds 257 colours; a palette has 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_of_colours(name, tmp_path, capsys):
    data, why = BAD[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=f"^{why}"):
        swatches.read(tmp_path / name)
    out = tmp_path / "o"
    assert run("sample", "patterns", "--palette", tmp_path / name, "--out", out) == 2
    err = capsys.readouterr().err
    assert f"--palette: {tmp_path / name} " in err and err.count("\n") == 1 and not out.exists()


def test_no_byte_of_a_file_is_trusted(tmp_path):
    """Any byte changed, or all after it gone: colours, or a line that says what is wrong."""
    rng = np.random.default_rng(0)
    for name, (data, _) in FILES.items():
        for i in range(0, len(data), 5):
            broken = bytearray(data)
            broken[i] ^= int(rng.integers(1, 256))
            for content in (bytes(broken), data[:i]):
                (tmp_path / name).write_bytes(content)
                try:
                    assert swatches.read(tmp_path / name).shape[1] == 3
                except (ValueError, OSError) as e:
                    assert len(str(e)) > 10


# --- the commands ---


def colours_in(path):
    """Open an indexed picture -> the set of its pixels' colours, "#rrggbb", the palette's length"""
    with Image.open(path) as picture:
        assert picture.mode == "P"
        used = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)
        return {"#" + bytes(rgb).hex() for rgb in used.tolist()}, len(picture.getpalette()) // 3


@pytest.mark.parametrize("also", ["", "--tile --size 16x24", "--dither", "--shares 60 30 10"])
def test_sample_in_exact_colours(also, tmp_path, capsys):
    words = ("--palette", *BRAND, "--n", 2, "--steps", 6, "--out", tmp_path / "o")
    assert run("sample", "patterns", *also.split(), *words) == 0
    for k in range(2):
        used, K = colours_in(tmp_path / "o" / f"patterns_0-00{k}.png")
        assert used == set(BRAND) and K == 3
    assert ("shares reached" in capsys.readouterr().out) == ("shares" in also)


def test_sample_finds_colours(tmp_path):
    words = ("--n", 2, "--steps", 5, "--colours", 5, "--out", tmp_path / "o")
    assert run("sample", "portraits", *words) == 0
    used = [colours_in(tmp_path / "o" / f"portraits_0-00{k}.png") for k in range(2)]
    assert 2 <= len(used[0][0] | used[1][0]) <= 5 and used[0][1] == 5


def test_an_edit_keeps_to_the_colours_of_its_picture(tmp_path):
    """With its own colours what the mask keeps is untouched, and the rest has no others."""
    flat = np.array([[239, 201, 160], [192, 32, 32], [20, 33, 61], [224, 224, 255]], np.uint8)
    pixels = flat[np.random.default_rng(0).integers(4, size=(4, 4))].repeat(4, 0).repeat(4, 1)
    mask = np.zeros((16, 16), np.uint8)
    mask[:6] = 255
    Image.fromarray(pixels).save(tmp_path / "p.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    words = ("--palette", tmp_path / "p.png", "--out", tmp_path / "o", "--n", 1, "--steps", 4)
    assert run("edit", "portraits", tmp_path / "p.png", "--mask", tmp_path / "m.png", *words) == 0
    after = np.asarray(Image.open(tmp_path / "o" / "p.png").convert("RGB"))
    assert np.array_equal(after[6:], pixels[6:]) and not np.array_equal(after[:6], pixels[:6])
    assert colours_in(tmp_path / "o" / "p.png")[0] <= {"#" + bytes(c).hex() for c in flat.tolist()}


@pytest.mark.parametrize("k", [1, 3])
def test_a_transparent_picture_stays_transparent(k, tmp_path):
    """What is clear is drawn on paper, which is not in the palette; with --paste k x k a pixel."""
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[3:13, 4:12] = [20, 33, 61, 255]
    pixels[6:9, 6:10] = [252, 163, 17, 255]
    Image.fromarray(pixels.repeat(k, 0).repeat(k, 1)).save(tmp_path / "p.png")
    words = ("--strength", 0.3, "--palette", tmp_path / "p.png", "--n", 1, "--steps", 4)
    paste = ["--paste"] * (k > 1)
    assert (
        run("edit", "portraits", tmp_path / "p.png", *words, *paste, "--out", tmp_path / "o") == 0
    )
    with Image.open(tmp_path / "o" / "p.png") as picture:
        assert picture.mode == "P" and picture.size == (16 * k, 16 * k)
        after = np.asarray(picture.convert("RGBA"))
    assert (after[0, :, 3] == 0).all() and (after[8 * k, 8 * k] == pixels[8, 8]).all()
    assert set(map(tuple, after[after[..., 3] > 0])) <= {(20, 33, 61, 255), (252, 163, 17, 255)}


def test_restyle_in_exact_colours(tmp_path):
    Image.new("RGB", (16, 16), BRAND[0]).save(tmp_path / "p.png")
    words = ("--palette", *BRAND, "--n", 1, "--steps", 4, "--out", tmp_path / "o")
    assert run("restyle", tmp_path / "p.png", "--to", "noto", *words) == 0
    assert colours_in(tmp_path / "o" / "p.png")[0] <= set(BRAND)


def test_about_and_pull_are_the_softer_way(tmp_path):
    """--about is --pull 1; both leave colours that are no palette's."""
    files = [tmp_path / f"{name}.png" for name in "ab"]
    words = ("sample", "patterns", "--n", 1, "--steps", 3, "--palette", *BRAND)
    assert run(*words, "--about", "--out", files[0]) == 0
    assert run(*words, "--pull", 1, "--out", files[1]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(np.unique(np.asarray(Image.open(files[0])).reshape(-1, 3), axis=0)) > 20


@pytest.mark.parametrize("dither", [False, True])
def test_all_is_drawn_on_the_way_and_settled_at_the_end(dither):
    """With --dither freely; with --colours twice, first freely; the last image has the colours."""
    asked, pipe = [], SimpleNamespace(s=S)

    def ours(also):
        asked.append(also)
        return [X, X]

    for K, given in ((None, to_uint8(THREE)), (3, None)):
        args = SimpleNamespace(colours=K, dither=dither, shares=None, model="m")
        chain, chosen, told = colours.draw(args, pipe, given, ours)
        own = to_float(chosen)
        choose = palette.dithered if dither else palette.nearest
        assert np.array_equal(chain[-1], own[choose(X, own)]) and chain[0] is X and not told
    assert [also is None for also in asked] == [dither, True, dither]
    args = SimpleNamespace(colours=None, dither=dither, shares=None, model="m")
    with pytest.raises(UsageError, match="is not finite"):
        colours.draw(args, pipe, to_uint8(THREE), lambda also: [X, X * np.float32(np.nan)])


WAYS = {  # command: how often it asks which colour a pixel has, in three steps
    "sample patterns --tile": 1,
    "edit portraits P --strength 0.5": 2,
    "edit portraits P --mask M": 1,
    "edit portraits P --change hat=red": 1,
    "restyle P --to noto": 1,
    "restyle P --to noto --way noise": 1,
}


@pytest.mark.parametrize("words", WAYS)
def test_each_command_chooses_colours_while_it_draws(words, tmp_path, monkeypatch):
    Image.new("RGB", (16, 16), BRAND[0]).save(tmp_path / "P.png")
    Image.fromarray(np.eye(16, dtype=np.uint8) * 255).save(tmp_path / "M.png")
    chosen, asked = palette.posterior, []

    def counted(x0_hat, *rest):
        asked.append(len(x0_hat))
        return chosen(x0_hat, *rest)

    monkeypatch.setattr(palette, "posterior", counted)
    expected = WAYS[words]
    words = words.replace(" P", f" {tmp_path / 'P.png'}").replace(" M", f" {tmp_path / 'M.png'}")
    how = ("--palette", *BRAND, "--n", 1, "--steps", 3, "--out", tmp_path / "o.png")
    assert run(words, *how) == 0
    assert len(asked) == expected


def test_draws_that_lack_a_colour_are_drawn_anew():
    """Picture 1 is blank twice, picture 3 always: the others stay as they are."""
    colour, asked = to_uint8(THREE[:2]), []
    whole = np.tile(to_float(colour)[[0, 1]], (2, 8, 1)).reshape(1, 2, 16, 3)
    blank = np.full_like(whole, whole[0, 0, 0])
    chain = [np.zeros((4, 2, 16, 3), np.float32), np.concatenate([whole, blank, whole, blank])]

    def again(lost, attempt):
        asked.append((attempt, lost.tolist()))
        new = np.concatenate([whole if k == 1 and attempt == 2 else blank for k in lost])
        return [np.full_like(new, attempt), new]

    told = colours._anew(chain, colour, None, again)
    assert asked == [(1, [1, 3]), (2, [1, 3]), *((k, [3]) for k in range(3, colours.TRIES))]
    assert np.array_equal(chain[-1][1], whole[0]) and np.array_equal(chain[-1][2], whole[0])
    assert chain[0][:, 0, 0, 0].tolist() == [0, 2, 0, colours.TRIES - 1]
    assert told[0].startswith("2 draws lacked a colour") and "1 picture after 8 tries" in told[1]


def test_sample_draws_anew_from_other_streams(tmp_path, monkeypatch, capsys):
    """Each picture's noise is another one at each try, also where --tries draws several of each."""
    numbers = []
    monkeypatch.setattr(palette, "lacking", lambda *a: np.full(len(a[0]), len(numbers) < 6))

    def in_pieces(pipe, draw, pictures, *rest):
        numbers.extend(pictures)
        return [np.tile(to_float(np.array([[20, 33, 61]])), (len(pictures), 16, 16, 1))]

    monkeypatch.setattr(Pipeline, "in_pieces", in_pieces)
    words = ("--palette", "#14213d", "--n", 2, "--out", tmp_path / "o.png")
    assert run("sample", "patterns", *words) == 0
    assert numbers == [0, 1, 10_000, 10_001, 20_000, 20_001]
    assert capsys.readouterr().out.startswith("2 draws lacked a colour: drawn anew")


REFUSED = {
    "sample patterns --palette #ff0000 --colours 3": "--colours finds a palette, --palette gives",
    "sample patterns --about": "--about is for --palette: name colours",
    "sample patterns --shares 50 50": "--shares is for --palette or --colours",
    "sample patterns --dither": "--dither is for --palette or --colours",
    "sample patterns --palette #ff0000 --about --dither": "leave out --about and --pull",
    "sample patterns --palette #ff0000 #00ff00 --shares 50 30": "add up to 100; got 80",
    "sample patterns --palette #ff0000 #00ff00 --shares 50 30 20": "one percentage for each of 2",
    "sample patterns --palette #ff0000 #00ff00 --shares 50 50 --dither": "choose one",
    "sample digits --palette #ff0000": "digits draws in grey",
    "sample patterns --palette no/such.gpl": "there is no file no/such.gpl",
    "sample patterns --palette #ff0000 --about --tile": "leave out --tile and --size",
    "sample patterns --colours 257": "--colours: takes a whole number from 1 to 256",
}


@pytest.mark.parametrize("words", REFUSED)
def test_refused_in_one_line(words, tmp_path, capsys):
    assert run(words, "--n", 1, "--steps", 1, "--out", tmp_path / "o.png") == 2
    err = capsys.readouterr().err
    assert REFUSED[words] in err and err.count("\n") == 1 and not list(tmp_path.iterdir())
