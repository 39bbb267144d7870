"""Letters as a font: outlines of pixels, the strip and its table; read by others than ourselves."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tinydiff.app import cli, fonts
from tinydiff.design import font

RING = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)


def area(contour):
    """Give the area of a polygon by the shoelace formula: > 0 anticlockwise, y upwards."""
    x, y = np.transpose(contour)
    return (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2


def alphabet(rng, S=8):
    """Make letters of scattered pixels, standing on row 6, with room at the sides."""
    letters = {c: np.zeros((S, S), np.uint8) for c in "ABCQ"}
    for c, ink in letters.items():
        ink[1 : 8 if c == "Q" else 7, 1:6] = 255 * rng.integers(0, 2, (7 if c == "Q" else 6, 5))
        ink[6, 1:6] = 255
        ink[7, 3] = 255 * (c == "Q")
    return letters


def test_an_outline_runs_round_ink_and_back_round_holes():
    outer, hole = font.outlines(RING)
    assert set(outer) == {(0, 0), (0, 3), (3, 3), (3, 0)} and area(outer) == -9
    assert set(hole) == {(1, 1), (1, 2), (2, 2), (2, 1)} and area(hole) == 1


def test_pixels_that_touch_at_a_corner_are_walked_around_apart():
    contours = font.outlines(np.eye(3, dtype=bool))
    assert [area(c) for c in contours] == [-1, -1, -1] and {len(c) for c in contours} == {4}
    assert (0, 3) in contours[0] and (3, 0) in contours[2]


def test_outlines_hold_as_much_as_there_is_ink_and_turn_at_every_corner(rng):
    for _ in range(20):
        ink = rng.random((7, 5)) < 0.6
        contours = font.outlines(ink)
        assert -sum(map(area, contours)) == ink.sum()
        for contour in contours:
            steps = np.diff([*contour, contour[0]], axis=0)
            assert ((steps == 0).sum(1) == 1).all()  # across or up
            assert (steps * np.roll(steps, 1, 0)).sum() == 0  # never straight on


def test_letters_stand_on_a_line_and_keep_their_own_pixels(rng):
    letters = alphabet(rng)
    letters["B"] = letters["B"].repeat(4, 0).repeat(4, 1)  # given large: 32 pixels a side
    made = font.of_letters("x", letters)
    by_letter = {glyph.letter: glyph for glyph in made.glyphs}
    assert (made.em, made.base, made.gap) == (32, 28, 4)
    assert {c: g.pixel for c, g in by_letter.items()} == {"A": 4, "B": 1, "C": 4, "Q": 4}
    assert {g.bottom for g in made.glyphs if g.letter != "Q"} == {28}
    assert by_letter["Q"].bottom == 32
    assert by_letter["B"].ink.shape[1] == 20 and by_letter["B"].left == by_letter["A"].left == 4


def test_letters_that_no_whole_factor_fits_are_found():
    """45 pixels stay beside 64, 40 are doubled beside them: 0.70 and 1.25 of their size."""
    ink = {c: np.full((S, S), 255, np.uint8) for c, S in {"A": 64, "B": 45, "C": 40}.items()}
    off = font.misfits(ink, 64)
    assert set(off) == {"B", "C"} and np.allclose([off["B"], off["C"]], [45 / 64, 80 / 64])
    made = {g.letter: (g.right - g.left) / 64 for g in font.of_letters("x", ink).glyphs}
    assert made == {"A": 1} | off


def test_greys_stay_where_they_are_asked_for():
    ink = np.zeros((8, 8), np.uint8)
    ink[2:6, 2:6], ink[2, 2] = 255, 100
    (sharp,), (soft,) = (font.of_letters("x", {"A": ink}, None, c).glyphs for c in (True, False))
    assert set(np.unique(sharp.ink)) == {0, 255} and soft.ink[0, 0] == 100
    assert "smooth=1" in font.strip(font.of_letters("x", {"A": ink}, None, False))[1]("x.png")


def test_letters_without_ink_are_left_out_or_refused():
    ink = np.full((8, 8), 255, np.uint8)
    made = font.of_letters("x", {"A": ink, "B": ink * 0})
    assert [glyph.letter for glyph in made.glyphs] == ["A"]
    with pytest.raises(ValueError, match="no letter has any ink"):
        font.of_letters("x", {"B": ink * 0})


def typeset(word, picture, text, size):
    """Draw a word from a strip by its table, as a game does, on paper of the size (H, W)."""
    page, x = np.zeros(size, np.uint8), 0
    rows = [line.split()[1:] for line in text.splitlines() if line.startswith("char ")]
    chars = {int(row[0].partition("=")[2]): dict(f.split("=") for f in row) for row in rows}
    for c in word:
        its = {key: int(value) for key, value in chars[ord(c)].items()}
        ink = picture[its["y"] :, its["x"] :][: its["height"], : its["width"]]
        top, left = its["yoffset"], x + its["xoffset"]
        page[top : top + ink.shape[0], left : left + ink.shape[1]] |= ink
        x += its["xadvance"]
    return page


def test_the_strip_and_the_outlines_set_the_same_word(rng):
    """Pillow's FreeType draws the TrueType font at its own size pixel by pixel like the strip."""
    pytest.importorskip("fontTools")
    made = font.of_letters("x", alphabet(rng))
    picture, table = font.strip(made)
    want = typeset("CAB QA", picture, table("x.png"), (8, 60))
    file = io.BytesIO(font.truetype(made))
    page = Image.new("L", (60, 8), 0)
    drawn = ImageDraw.Draw(page)
    drawn.fontmode = "1"
    drawn.text((0, made.base), "CAB QA", 255, ImageFont.truetype(file, made.em), anchor="ls")
    assert want.any() and np.array_equal(np.asarray(page), want)


def test_a_strip_begins_a_new_row_and_no_letter_lies_on_another(monkeypatch):
    monkeypatch.setattr(font, "WIDEST", 24)
    letters = {c: np.full((8, 8), 255, np.uint8) for c in "ABCDE"}
    picture, table = font.strip(font.of_letters("x", letters))
    assert picture.shape == (28, 19) and (picture == 255).sum() == 5 * 64
    assert "chars count=6" in table("x.png") and 'page id=0 file="x.png"' in table("x.png")


def test_a_font_says_what_it_is_and_is_the_same_file_again(rng):
    ttLib = pytest.importorskip("fontTools.ttLib")
    made = font.of_letters("Old Oak", alphabet(rng))
    file = font.truetype(made)
    assert file == font.truetype(made)
    read = ttLib.TTFont(io.BytesIO(file))
    assert [read["name"].getDebugName(k) for k in (1, 2, 6)] == [
        "Old Oak",
        "Regular",
        "OldOak-Regular",
    ]
    assert "".join(map(chr, read.getBestCmap())) == " ABCQ"
    em, (advance, left) = read["head"].unitsPerEm, read["hmtx"]["A"]
    assert em == 8 * 125 and (advance, left) == (6 * 125, 0) and read["glyf"]["A"].yMin == 0
    assert read["glyf"]["Q"].yMin == -125 and read["hhea"].ascent == 7 * 125


# --- from the command line ---


def run(*argv):
    return cli.main([str(a) for a in argv])


@pytest.fixture
def a(tmp_path):
    """Save a picture of a letter, 48 pixels a side, dark on light: a bar that stands on row 42."""
    picture = Image.new("L", (48, 48), 255)
    ImageDraw.Draw(picture).rectangle((18, 6, 29, 41), fill=0)
    picture.save(tmp_path / "a.png")
    return f"A={tmp_path / 'a.png'}"


def test_an_alphabet_becomes_files_and_a_font(a, tmp_path, capsys):
    """The given letter keeps its 48 pixels, the drawn ones are the model's 16 in their files."""
    pytest.importorskip("fontTools")
    out = tmp_path / "Oak"
    assert run("alphabet", a, "--font", "ttf", "fnt", "--steps", 2, "--out", out) == 0
    assert {p.name for p in out.iterdir()} == {f"{c}.png" for c in font_letters()} | {
        "Oak.ttf",
        "Oak.fnt",
        "Oak.png",
    }
    said = capsys.readouterr().out
    assert "as given, whatever --scale is: A 48 x 48 pixels" in said
    assert "in the font a drawn letter is 3 x 16 pixels a side, 48" in said
    sizes = {p.stem: Image.open(p).size for p in out.glob("?.png")}
    assert sizes.pop("A") == (48, 48) and set(sizes.values()) == {(16, 16)}
    written = np.asarray(Image.open(out / "A.png"))
    assert (written[6:42, 18:30] == 255).all() and (written == 255).sum() == 36 * 12
    table = (out / "Oak.fnt").read_text()
    assert 'face="Oak" size=48' in table and "id=65 x=1 y=1 width=12 height=36 xoffset=3" in table
    strip = Image.open(out / "Oak.png")
    assert strip.mode == "LA" and f"scaleW={strip.width} scaleH={strip.height}" in table
    page = ImageFont.truetype(out / "Oak.ttf", 48)
    assert page.getbbox("A", anchor="ls")[1] == -36 and page.getlength("A") == 12 + 6


def test_a_letter_that_does_not_fit_the_em_is_named(a, tmp_path, capsys):
    Image.open(tmp_path / "a.png").crop((1, 0, 46, 45)).save(tmp_path / "b.png")
    words = ("--font", "fnt", "--steps", 2, "--out", tmp_path / "Oak")
    assert run("alphabet", a, f"B={tmp_path / 'b.png'}", *words) == 0
    said = capsys.readouterr().err
    assert "B 0.94 times" in said and "divides its 48 pixels" in said and "A " not in said


def font_letters():
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def test_letters_of_one_bit(a, tmp_path):
    options = ("--one-bit", "--font", "fnt", "--scale", 2, "--steps", 2, "--out", tmp_path / "B")
    assert run("alphabet", a, *options) == 0
    with Image.open(tmp_path / "B" / "B.png") as b:
        assert (b.mode, b.size) == ("P", (32, 32)) and set(np.unique(b.convert("L"))) <= {0, 255}
    with Image.open(tmp_path / "B" / "B-font.png") as strip:  # not over the letter B
        assert set(np.unique(strip)) == {0, 255}


def test_fonts_that_cannot_be_written_are_refused_before_the_work(a, tmp_path, capsys, monkeypatch):
    def refused(*options):
        assert run("alphabet", a, "--steps", 2, *options) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    assert "give a folder, --out letters" in refused("--font", "fnt", "--out", tmp_path / "x.png")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "new.fnt").touch()
    assert "new.fnt exists" in refused("--font", "fnt", "--out", tmp_path / "new")
    monkeypatch.setattr(fonts, "find_spec", lambda name: None)
    assert "pip install 'tinydiff[font]'" in refused("--font", "ttf", "--out", tmp_path / "f")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["new.fnt"]
