"""design/picture.py: a user's picture comes in as it looks, whatever form it is stored in."""

import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw, ImageFont

from tinydiff import data
from tinydiff.app.cli import main
from tinydiff.design import masks, picture, upright

RED = (200, 20, 20)
RAMP = np.linspace(0, 65535, 1024).reshape(32, 32)  # from black to white


def test_a_picture_is_cut_scaled_and_made_opaque(tmp_path):
    """16 x 8: the middle 8 x 8 is halved by 2 x 2 means; transparent is white; the line says so."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    x, said = picture.open_image(tmp_path / "a.png", 4, 3)
    means = pixels[:, 4:12].reshape(4, 2, 4, 2, 3).mean((1, 3))
    assert x.shape == (1, 4, 4, 3) and x.dtype == np.float32
    assert np.abs((x[0] + 1) * 127.5 - means).max() < 1.01  # Pillow rounds twice
    assert said == f"{tmp_path / 'a.png'}: 16 x 8 RGB, cut to its middle square, scaled to 4 x 4"
    Image.fromarray(np.dstack([pixels[:, :8], np.zeros((8, 8), np.uint8)])).save(tmp_path / "b.png")
    x, said = picture.open_image(tmp_path / "b.png", 8, 1)
    assert np.array_equal(x, np.ones((1, 8, 8, 1)))
    assert "8 x 8 RGBA, transparent parts made white" in said
    exact = pixels[:, :8]
    Image.fromarray(exact).save(tmp_path / "c.png")
    x, said = picture.open_image(tmp_path / "c.png", 8, 3)
    assert np.array_equal(data.to_uint8(x[0]), exact) and said.endswith("8 x 8 RGB")


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_a_picture_of_16_bits_keeps_its_greys(mode, tmp_path):
    grey = np.repeat([0, 16384, 32896, 65535], 4).reshape(4, 4)
    kind = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4"}[mode]
    stored = Image.frombytes(mode, (4, 4), grey.astype(kind).tobytes())
    stored.save(tmp_path / "a.tif")
    for channels in (1, 3):
        x, said = picture.open_image(tmp_path / "a.tif", 4, channels)
        assert x.shape == (1, 4, 4, channels)
        assert np.array_equal(data.to_uint8(x[0, :, 0, 0]), [0, 64, 128, 255])
        assert said.endswith(f"4 x 4 {mode}, values of 0 to 65535 made 0 to 255")


def test_a_picture_is_turned_as_the_camera_was_held(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # orientation: turned by 90 degrees
    pixels = np.arange(8 * 4, dtype=np.uint8).reshape(4, 8) * 8
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    held, done = upright.upright(tmp_path / "a.png")
    assert held.size == (4, 8) and np.array_equal(np.asarray(held), np.rot90(pixels, -1))
    assert done == ["8 x 4 L", "turned as it was taken"]


def tiff(path, sample_format, values, claimed=None, photometric=1):
    """Write the TIFF of a grey picture: sample_format 1 = unsigned, 2 = signed, 3 = float.

    claimed: the height that its header states, None = its own
    """
    pixels, (h, w), bits = values.tobytes(), values.shape, 8 * values.itemsize
    tags = {256: w, 257: claimed or h, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: h}
    tags |= {279: len(pixels), 339: sample_format}
    entries = [struct.pack("<HHII", k, 4, 1, v) for k, v in tags.items()]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory)


@pytest.mark.parametrize(
    "sample_format, values, said",
    {
        "16 bits": (1, RAMP.astype("<u2"), "0 to 65535"),
        "16 bits, signed": (2, (RAMP - 32768).astype("<i2"), "-32768 to 32767"),
        "32 bits": (1, (RAMP * 65537).astype("<u4"), "0 to 4.29497e+09"),
        "32 bits, signed": (2, (RAMP * 32768).astype("<i4"), "0 to 2.14745e+09"),
        "32 bits that use 16": (2, RAMP.astype("<i4"), "0 to 65535"),
        "32 bits that use 8": (2, (RAMP / 257).astype("<i4"), "0 to 255"),
        "float, 0 to 1": (3, (RAMP / 65535).astype("<f4"), "0 to 1"),
        "float, 0 to 255": (3, (RAMP / 257).astype("<f4"), "0 to 255"),
        "float, below 0": (3, (RAMP / 65535 - 0.5).astype("<f4"), "-0.5 to 0.5"),
    }.values(),
)
def test_greys_are_scaled_by_the_range_of_their_type(sample_format, values, said, tmp_path):
    """Pillow's own conversion cuts all above 255, and makes black of 0 to 1."""
    tiff(tmp_path / "ramp.tif", sample_format, values)
    x, how = picture.open_image(tmp_path / "ramp.tif", 32, 1)
    assert np.abs((x[0, ..., 0] + 1) * 127.5 - RAMP / 257).max() < 1.01
    assert f"values of {said} made 0 to 255" in how


def test_floats_that_are_no_numbers_are_refused(tmp_path):
    tiff(tmp_path / "a.tif", 3, np.array([[0.5, np.nan]], "<f4"))
    with pytest.raises(OSError, match="values that are no numbers"):
        picture.open_image(tmp_path / "a.tif", 8, 1)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"])
def test_every_mode_that_a_file_has_keeps_its_greys(mode, tmp_path):
    grey = Image.fromarray((RAMP / 257).astype(np.uint8)).convert("RGB").convert(mode)
    grey.save(tmp_path / "a.tif")
    x, _ = picture.open_image(tmp_path / "a.tif", 8, 3)
    means = RAMP.reshape(8, 4, 8, 4).mean((1, 3)) / 32767.5 - 1
    dithered = 1.1 if mode == "1" else 0.06
    assert np.abs(x[0] - means[..., None]).max() < dithered
    assert abs(x.mean()) < 0.02


@pytest.mark.parametrize("colour, paper", [(255, "black"), (250, "black"), (0, "white")])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_what_is_transparent_lets_what_is_drawn_be_seen(mode, colour, paper, tmp_path):
    """White ink on nothing stays visible, as black ink does."""
    alpha = np.zeros((8, 8), np.uint8)
    alpha[2:6, 2:6] = 255
    ink = np.full((8, 8), colour, np.uint8)
    drawn = np.dstack([*[ink] * (len(mode) - 1), alpha])
    Image.fromarray(drawn, mode).save(tmp_path / "a.png")
    x, said = picture.open_image(tmp_path / "a.png", 8, 1)
    ground = 0 if paper == "black" else 255
    assert np.array_equal(data.to_uint8(x[0, ..., 0]), np.where(alpha, colour, ground))
    assert f"transparent parts made {paper}" in said


def test_a_palette_may_have_a_transparent_colour(tmp_path):
    stored = Image.fromarray(np.eye(8, dtype=np.uint8), "P")
    stored.putpalette([255, 0, 255, 0, 0, 0])
    stored.save(tmp_path / "a.png", transparency=0)
    x, said = picture.open_image(tmp_path / "a.png", 8, 1)
    assert np.array_equal(x[0, ..., 0], 1 - 2 * np.eye(8)) and "made white" in said


def test_nothing_is_said_of_transparency_where_all_is_opaque(tmp_path):
    Image.new("RGBA", (8, 8), (0, 0, 0, 255)).save(tmp_path / "a.png")
    assert picture.open_image(tmp_path / "a.png", 8, 1)[1].endswith("8 x 8 RGBA")


def test_of_an_animation_the_first_frame_is_taken(tmp_path):
    black, white = Image.new("L", (8, 8), 0), Image.new("L", (8, 8), 255)
    black.save(tmp_path / "a.gif", save_all=True, append_images=[white])
    x, said = picture.open_image(tmp_path / "a.gif", 8, 1)
    assert (x == -1).all() and "the first of its frames" in said


# --- what a file claims, and what is there ---


def png(path, width, height, rows):
    """Write a PNG, 8 bits, grey, that claims width x height and holds so many rows."""

    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(width + 1) * rows)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_a_palette_or_a_grey_of_16_bits_may_be_transparent(tmp_path):
    grey = Image.fromarray(np.array([[0, 65535], [40000, 0]], np.uint16))
    grey.save(tmp_path / "a.png", transparency=40000)
    x, said = picture.open_image(tmp_path / "a.png", 2, 1)
    assert np.array_equal(x[0, ..., 0], [[-1, 1], [1, -1]]) and "parts made white" in said


@pytest.mark.parametrize("dtype", ["<u2", "<f4"])
def test_a_tiff_may_count_from_white(dtype, tmp_path):
    values = (RAMP / (65535 if dtype == "<f4" else 1)).astype(dtype)
    tiff(tmp_path / "a.tif", 3 if dtype == "<f4" else 1, values, photometric=0)
    x, _ = picture.open_image(tmp_path / "a.tif", 32, 1)
    assert np.abs((1 - x[0, ..., 0]) * 127.5 - RAMP / 257).max() < 1.01


@pytest.mark.parametrize("stray", [1.02, -0.01])
def test_a_few_floats_beyond_the_range_change_nothing_else(stray, tmp_path):
    values = (RAMP / 65535).astype("<f4")
    values[5, 5] = stray
    tiff(tmp_path / "a.tif", 3, values)
    x, how = picture.open_image(tmp_path / "a.tif", 32, 1)
    off = np.abs((x[0, ..., 0] + 1) * 127.5 - RAMP / 257)
    off[5, 5] = 0
    assert off.max() < 1.01 and "values of 0 to 1 made" in how
    assert x[0, 5, 5, 0] == np.sign(stray)


def test_a_float_map_and_light_above_white(tmp_path):
    Image.fromarray((RAMP / 65535).astype(np.float32)).save(tmp_path / "a.pfm")
    assert abs(picture.open_image(tmp_path / "a.pfm", 8, 1)[0].mean()) < 0.02
    tiff(tmp_path / "a.tif", 3, (RAMP / 20000).astype("<f4"))
    assert abs(picture.open_image(tmp_path / "a.tif", 8, 1)[0].mean()) < 0.02


def test_colours_are_converted_from_their_profile(tmp_path):
    """L*a*b* to sRGB by hand is long: a profile whose red and blue are exchanged shows the use."""
    stored = Image.new("RGB", (8, 8), (200, 60, 20))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    stored.save(tmp_path / "a.png", icc_profile=srgb)
    x, said = picture.open_image(tmp_path / "a.png", 8, 3)
    assert data.to_uint8(x[0, 0, 0]).tolist() == [200, 60, 20] and "sRGB" not in said
    table = {srgb[i : i + 4]: i for i in range(132, 132 + 12 * srgb[131], 12)}
    red, blue = (srgb[table[k] + 4 : table[k] + 12] for k in (b"rXYZ", b"bXYZ"))
    other = bytearray(srgb.replace(b"sRGB", b"eRGB").replace(b"s\0R\0G\0B", b"e\0R\0G\0B"))
    other = other.replace(b"\0s\0R\0G\0B", b"\0e\0R\0G\0B")
    for name, place in ((b"rXYZ", blue), (b"bXYZ", red)):
        other[table[name] + 4 : table[name] + 12] = place
    stored.save(tmp_path / "a.png", icc_profile=bytes(other))
    x, said = picture.open_image(tmp_path / "a.png", 8, 3)
    assert np.abs(data.to_uint8(x[0, 0, 0]).astype(int) - [20, 60, 200]).max() <= 2
    assert said.endswith("colours converted to sRGB")
    stored.save(tmp_path / "a.png", icc_profile=b"no profile")
    assert "sRGB" not in picture.open_image(tmp_path / "a.png", 8, 3)[1]


def test_a_picture_is_refused_whose_pixels_are_not_all_there(tmp_path):
    png(tmp_path / "whole.png", 100, 100, 100)
    picture.open_image(tmp_path / "whole.png", 8, 1)
    png(tmp_path / "cut.png", 100, 100, 90)
    with pytest.raises(OSError, match="ends before its last pixel"):
        picture.open_image(tmp_path / "cut.png", 8, 1)
    png(tmp_path / "few.png", 2, 300, 299)  # a row of two pixels has a byte of its own, too
    with pytest.raises(OSError, match="ends before its last pixel.: get the file anew"):
        picture.open_image(tmp_path / "few.png", 8, 1)


def test_a_picture_that_is_a_program_is_not_run(tmp_path):
    (tmp_path / "a.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n")
    with pytest.raises(OSError, match="is not a picture that can be read: give a PNG or JPEG"):
        picture.open_image(tmp_path / "a.eps", 8, 1)


def test_a_tiff_is_refused_whose_strips_do_not_cover_it(tmp_path):
    tiff(tmp_path / "a.tif", 1, np.zeros((8, 8), "<u2"), claimed=20)
    with pytest.raises(OSError, match="ends before its last pixel"):
        picture.open_image(tmp_path / "a.tif", 8, 1)


def test_a_picture_that_is_too_large_is_refused_by_its_header(tmp_path, monkeypatch):
    png(tmp_path / "a.png", 9000, 9000, 1)
    with pytest.raises(
        OSError, match="81 million pixels; at most 48 are read.: scale it down"
    ) as e:
        picture.open_image(tmp_path / "a.png", 8, 1)
    assert "\n" not in str(e.value)
    Image.new("RGB", (1200, 600), "white").save(tmp_path / "a.jpg")
    monkeypatch.setattr(upright, "LARGEST", 200_000)
    x, said = picture.open_image(tmp_path / "a.jpg", 8, 3)  # a JPEG is read at a fraction
    assert (x == 1).all() and said.startswith(
        f"{tmp_path / 'a.jpg'}: 1200 x 600 RGB, read as 600 x 300"
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes")
def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path, kind in (
        (tmp_path / "pipe.png", "a pipe"),
        ("/dev/zero", "a device"),
        (".", "a folder"),
    ):
        with pytest.raises(OSError, match=f"it is {kind}, not a file"):
            picture.open_image(path, 8, 1)


def test_broken_exif_data_do_not_matter(tmp_path):
    Image.new("L", (16, 8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\xff")
    x, said = picture.open_image(tmp_path / "a.jpg", 8, 1)
    assert said.endswith("16 x 8 L, cut to its middle square")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux tells the memory used")
def test_the_largest_picture_takes_less_than_a_gigabyte(tmp_path):
    """All steps at once: 48 million pixels, transparent, to be turned."""
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGBA", (8000, 6000), (9, 9, 9, 128)).save(tmp_path / "a.png", exif=exif)
    code = "import sys; from tinydiff.design import picture; picture.open_image(sys.argv[1], 8, 3)"
    code += "; print(open('/proc/self/status').read())"
    words = [sys.executable, "-W", "error", "-c", code, tmp_path / "a.png"]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    (line,) = (line for line in said.splitlines() if line.startswith("VmHWM:"))
    kilobytes = int(line.split()[1])  # of this process alone, unlike getrusage's
    assert 2e5 < kilobytes < 1e6


# --- masks ---


def mask(path, draw, size=(512, 512)):
    """Write a mask: draw(pixels) paints on black."""
    pixels = np.zeros(size, np.uint8)
    draw(pixels)
    Image.fromarray(pixels).save(path)
    return path


def open_mask(path, size):
    """Read a mask of a picture that is as large -> what it marks, what is said"""
    beside = path.with_name("picture.png")
    Image.new("RGB", Image.open(path).size, RED).save(beside)
    anew, _, said = masks.open_mask(path, beside, picture.open_given(beside, size, 1))
    return anew, said


@pytest.mark.parametrize("width", [1, 2, 10])
def test_any_white_in_a_pixel_counts(width, tmp_path):
    """512 to 16: 32 pixels become one. A line of 1 is lost in their mean, not in their largest."""

    def draw(pixels):
        pixels[100 : 100 + width] = 255

    anew, said = open_mask(mask(tmp_path / "m.png", draw), 16)
    wanted = np.zeros((1, 16, 16, 1), bool)
    wanted[:, 100 // 32 : -(-(100 + width) // 32)] = True
    assert np.array_equal(anew, wanted)
    assert said.endswith("16 of 16 x 16 pixels have white in them and are drawn anew")


@pytest.mark.parametrize("side", [100, 37, 16, 5])
def test_every_white_pixel_lies_in_one_pixel_of_the_model(side, tmp_path):
    for k in range(0, side, 7):
        anew, _ = open_mask(
            mask(
                tmp_path / "m.png",
                lambda p, k=k: p.__setitem__((k, side - 1 - k), 255),
                (side, side),
            ),
            16,
        )
        rows, columns = np.nonzero(anew[0, ..., 0])
        inside = lambda i, k: k * 16 / side - 1 <= i <= (k + 1) * 16 / side
        assert len(rows) == 1 or side < 16
        assert all(inside(i, k) for i in rows) and all(inside(i, side - 1 - k) for i in columns)


@pytest.mark.parametrize(
    "draw, why",
    {
        "black": (lambda p: None, "is all black"),
        "white": (lambda p: p.fill(255), "is all white"),
        "grey": (lambda p: p.fill(100), "has no white: its lightest is 100 of 255"),
        "thin black": (
            lambda p: (p.fill(255), p[::40].fill(0)),
            "has white in all of 16 x 16 pixels",
        ),
        "outside": (lambda p: p[:, :60].fill(255), "has no white in its middle square"),
    }.values(),
)
def test_a_mask_that_leaves_no_choice_says_why(draw, why, tmp_path):
    path = mask(tmp_path / "m.png", draw, (512, 700))
    with pytest.raises(ValueError, match=f"{why}: paint white what is to be drawn anew"):
        open_mask(path, 16)


def test_white_strokes_on_nothing_are_a_mask(tmp_path):
    strokes = np.zeros((64, 64, 4), np.uint8)
    strokes[8:12] = 255
    Image.fromarray(strokes).save(tmp_path / "m.png")
    anew, _ = open_mask(tmp_path / "m.png", 16)
    assert np.flatnonzero(anew[0, :, 0, 0]).tolist() == [2] and anew.sum() == 16


def test_a_mask_in_white_and_black_on_nothing(tmp_path):
    """White counts; black alone is paint as any other."""
    strokes = np.zeros((64, 64, 4), np.uint8)
    strokes[8:12] = 255
    strokes[40:44, :, 3] = 255
    Image.fromarray(strokes).save(tmp_path / "m.png")
    anew, _ = open_mask(tmp_path / "m.png", 16)
    assert np.flatnonzero(anew[0, :, 0, 0]).tolist() == [2] and anew.sum() == 16
    strokes[8:12] = 0
    Image.fromarray(strokes).save(tmp_path / "m.png")
    anew, _ = open_mask(tmp_path / "m.png", 16)
    assert np.flatnonzero(anew[0, :, 0, 0]).tolist() == [10] and anew.sum() == 16


# --- letters ---


COLOURS = [("black", "white"), ("white", "black"), ("white", "#3498db"), ("white", "#f1c40f")]
COLOURS += [("black", "#2ecc71"), ("#222222", "#555555"), ("#e74c3c", "white")]


@pytest.mark.parametrize("ink, ground", COLOURS)
@pytest.mark.parametrize("letter", "AIMW")
def test_a_letter_in_any_two_colours_is_white_on_black(letter, ink, ground, tmp_path):
    font = ImageFont.load_default(100)
    stored = Image.new("RGB", (140, 140), ground)
    ImageDraw.Draw(stored).text((30, 10), letter, font=font, fill=ink)
    stored.save(tmp_path / "a.png")
    plain = Image.new("L", (140, 140), 0)
    ImageDraw.Draw(plain).text((30, 10), letter, font=font, fill=255)
    plain.save(tmp_path / "b.png")
    x, said = picture.open_letter(tmp_path / "a.png", 16)
    assert np.abs(x - picture.open_image(tmp_path / "b.png", 16, 1)[0]).max() < 0.06
    dark_on_light = sum(stored.getpixel((0, 0))) > sum(
        Image.new("RGB", (1, 1), ink).getpixel((0, 0))
    )
    assert ("dark on light turned to light on dark" in said) == dark_on_light


@pytest.mark.parametrize("colour", ["white", "black", "#777777"])
def test_a_picture_without_a_letter_is_refused(colour, tmp_path):
    stored = Image.new("RGB", (64, 64), colour)
    stored.putpixel((3, 3), tuple(v + 9 if v < 99 else v - 9 for v in stored.getpixel((0, 0))))
    stored.save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="shows no letter: all of it is nearly of one grey"):
        picture.open_letter(tmp_path / "a.png", 16)


def photo(tmp_path, orientation=6):
    """Write a photo, stored 64 x 48, seen 48 x 64, dark at what is seen as its top."""
    exif = Image.Exif()
    exif[274] = orientation
    pixels = np.full((48, 64, 3), 200, np.uint8)
    pixels[:, :20] = 10  # turned clockwise, the left side is the top
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", exif=exif)
    return str(tmp_path / "photo.jpg")


def test_a_mask_as_stored_is_told_from_one_as_seen(tmp_path, capsys):
    words = ["edit", "portraits", photo(tmp_path), "--n", "1", "--steps", "1", "--rounds", "1"]
    words += ["--out", str(tmp_path / "out.png"), "--mask"]
    as_stored = mask(tmp_path / "m.png", lambda p: p[:9].fill(255), (48, 64))
    assert main([*words, str(as_stored)]) == 2
    line = capsys.readouterr().err
    assert "--mask is 64 x 48, the picture 48 x 64" in line
    assert "the picture is turned as it was taken: turn the mask, too" in line
    assert line.count("\n") == 1 and not (tmp_path / "out.png").exists()
    as_seen = mask(tmp_path / "m.png", lambda p: p[:20].fill(255), (64, 48))
    assert main([*words, str(as_seen)]) == 0
    assert "the mask is of the picture as turned" in capsys.readouterr().out
    exif = Image.Exif()
    exif[274] = 6
    Image.open(as_stored).save(tmp_path / "m.jpg")
    Image.fromarray(np.rot90(np.asarray(Image.open(as_seen)))).save(tmp_path / "m.jpg", exif=exif)
    assert main([*words, str(tmp_path / "m.jpg")]) == 0  # a mask that says how it is to be turned
