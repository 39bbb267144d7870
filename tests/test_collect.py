"""A user's pictures, whatever they come as: what is read, what is said, what is refused."""

import csv
import gzip
import json
import os
import pickle
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from tinydiff import data
from tinydiff.collect import alike, cache, collection, fit, network, report
from tinydiff.collect.source import Picture, Unusable, coded, natural


def sprites(n, size=16, seed=0):
    """Draw n pictures of few colours that differ widely -> (n, size, size, 3) uint8"""
    rng = np.random.default_rng(seed)
    palette = np.array([[29, 43, 83], [255, 119, 168], [255, 241, 232], [0, 135, 81]], np.uint8)
    return palette[rng.integers(4, size=(n, size, size))]


def photographs(n, height, width, seed=0, colour=True):
    """Draw n pictures whose detail falls off as a photograph's -> (n, height, width, 3) uint8"""
    rng = np.random.default_rng(seed)
    far = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    far[0, 0] = 1
    noise = rng.standard_normal((n, 3 if colour else 1, height, width))
    x = np.fft.ifft2(np.fft.fft2(noise) / far**1.6).real
    x = (x - x.min((1, 2, 3), keepdims=True)) / np.ptp(x, axis=(1, 2, 3), keepdims=True)
    x = (255 * x).astype(np.uint8).transpose(0, 2, 3, 1)
    return x if colour else x.repeat(3, 3)


def save(x, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(x.squeeze()).save(path, **options)


def enlarged(x, k):
    return x.repeat(k, -3).repeat(k, -2)


def seen(found):
    """Put a Collection's pictures in a row, as bytes, training first -> (M, H, W, C) uint8"""
    return np.concatenate([found.dataset.train.raw, found.dataset.test.raw])


def as_a_set(x):
    return {each.tobytes() for each in x}


def said(found):
    return "\n".join(report.lines(found))


# --- folders ---


def test_a_folder_s_folders_are_labels(tmp_path):
    x = sprites(40)
    for i, each in enumerate(x):
        save(each, tmp_path / "set" / ["red hat", "9", "10"][i % 3] / f"{i}.png")
    found = collection.collect(tmp_path / "set")
    assert found.dataset.labels == {"kind": ["9", "10", "red hat"]}
    assert as_a_set(seen(found)) == as_a_set(x)
    by_bytes = {each.tobytes(): ["red hat", "9", "10"][i % 3] for i, each in enumerate(x)}
    for row, each in zip(found.dataset.train_labels, found.dataset.train.raw, strict=True):
        assert found.dataset.labels["kind"][row[0]] == by_bytes[each.tobytes()]
    text = said(found)
    assert "set: 40 pictures, 16 x 16 pixels, in colour" in text
    assert "label kind: 9 13, 10 13, red hat 14" in text


def test_folders_named_train_and_test_are_a_split_and_others_two_labels(tmp_path):
    for i, x in enumerate(sprites(24)):
        side, kind = ("test" if i % 4 == 0 else "train"), ["cat", "dog"][i % 2]
        save(x, tmp_path / "a" / side / kind / f"{i}.png")
        save(x, tmp_path / "b" / ["day", "night"][i // 12] / kind / f"{i}.png")
    a, b = (collection.collect(tmp_path / name).dataset for name in "ab")
    assert (len(a.train), len(a.test), list(a.labels)) == (18, 6, ["kind"])
    assert b.labels == {"kind": ["day", "night"], "folder-2": ["cat", "dog"]}


@pytest.mark.parametrize("name", ["labels.csv", "metadata.csv", "metadata.jsonl"])
def test_a_table_of_any_number_of_columns_gives_labels(tmp_path, name):
    x = sprites(30)
    rows = [
        {"file_name": f"{i}.png", "hue": "deep red" if i % 2 else "sky", "mood": str(i % 3)}
        | {"caption": f"picture {i}"}
        for i in range(30)
    ]
    for i, each in enumerate(x):
        save(each, tmp_path / "s" / f"{i}.png")
    rows[5] = rows[5] | {"file_name": "gone.png"}
    with open(tmp_path / "s" / name, "w", newline="") as f:
        if name.endswith("jsonl"):
            f.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(f, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    found = collection.collect(tmp_path / "s")
    assert found.dataset.labels == {"hue": ["deep red", "sky"], "mood": ["0", "1", "2"]}
    every = np.concatenate([found.dataset.train_labels, found.dataset.test_labels])
    assert sorted(map(tuple, every)).count((2, 3)) == 1, "the picture that is not named: open"
    text = said(found)
    assert f"{name}: 'caption' has 29 values: no label" in text
    assert f"{name} names 1 file that is not there: gone.png" in text
    assert f"{name} does not name 1 picture, whose labels stay open: 5.png" in text
    assert "label hue: deep red 14, sky 15; open 1" in text


def test_a_folder_with_few_of_the_pictures_is_no_label(tmp_path):
    for i, x in enumerate(sprites(20)):
        save(x, tmp_path / ("more" if i < 3 else "") / f"{i}.png")
    found = collection.collect(tmp_path)
    assert found.dataset.labels == {}
    assert "few pictures lie in more: no label from that" in said(found)


def test_a_table_that_names_no_picture_is_refused(tmp_path):
    save(sprites(1)[0], tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("what,kind\nx,y\n")
    with pytest.raises(Unusable, match="no column names the pictures beside it"):
        collection.find(tmp_path)
    (tmp_path / "labels.csv").rename(tmp_path / "metadata.jsonl")
    with pytest.raises(Unusable, match=r"metadata\.jsonl cannot be read"):
        collection.find(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        ",file_name,label\n" + "".join(f"{i},{i + 1}.png,{i % 2}\n" for i in range(12)),
        ",photo,label\n" + "".join(f"{i},{i + 1}.png,{i % 2}\n" for i in range(12)),
        "id,file,label\n" + "".join(f"{i},{i + 1}.png{'x' * (i > 7)},{i % 2}\n" for i in range(12)),
        "id;image;label\n" + "".join(f"{i};pics\\{i + 1}.png;{i % 2}\n" for i in range(12)),
        "name,label\n" + "".join(f"{i + 1}.png,{i % 2}\n" for i in range(12)),
    ],
    ids=["pandas", "photo", "few gone", "id and backslashes", "name"],
)
def test_the_column_that_names_the_files_is_found(tmp_path, text):
    x = sprites(12)
    for i, each in enumerate(x):
        save(each, tmp_path / ("pics" if "pics" in text else "") / f"{i + 1}.png")
    (tmp_path / "labels.csv").write_text(text)
    found = collection.find(tmp_path)
    assert found.labels["label"] == ["0", "1"]
    rows = found.rows[:8, list(found.labels).index("label")]  # 1.png to 8.png
    assert rows.tolist() == [0, 1] * 4
    assert "label-2" not in found.labels, "pandas' own numbers"


TABLES = {  # text, what it is encoded as, the file
    "no header": ("0.png,ä\n1.png,b\n2.png,ä\n3.png,b\n", "utf-8", "labels.csv"),
    "byte order mark": ("file;kind\n0.png;ä\n1.png;b\n2;ä\n3;b\n", "utf-8-sig", "labels.csv"),
    "quotes": ('file,kind\n"0.png","ä"\n1,"b"\n2,ä\n3,b\n', "utf-8", "Labels.CSV"),
    "bars": ("file|kind\n0.png|ä\n1.png|b\n2|ä\n3|b\n", "utf-8", "metadata.csv"),
    "Windows": ("file;kind\r\n0.png;ä\r\n1.png;b\r\n2;ä\r\n3;b\r\n", "cp1252", "labels.csv"),
    "old Macintosh": ("file\tkind\r0\tä\r1\tb\r2\tä\r3\tb", "utf-8", "labels.tsv"),
    "other folders": ("file,kind\n" + "".join(f"/x/{i}.png,{'äb'[i % 2]}\n" for i in range(4)),)
    + ("utf-8", "labels.csv"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_read_however_it_was_written(tmp_path, name):
    text, encoding, file = TABLES[name]
    for i, each in enumerate(sprites(4)):
        save(each, tmp_path / f"{i}.png")
    (tmp_path / file).write_bytes(text.encode(encoding))
    found = collection.find(tmp_path)
    (values,) = found.labels.values()
    assert [values[k] for (k,) in found.rows] == ["ä", "b", "ä", "b"]


def test_what_is_odd_in_a_table_is_said(tmp_path):
    for i, each in enumerate(sprites(4)):
        save(each, tmp_path / f"{i}.png")
    rows = '0.png,"red\ndog"\n1.png,b\n1.png,c\ngone\x1b[1m.png,b\n'
    (tmp_path / "labels.csv").write_text("file,kind\n" + rows)
    (tmp_path / "metadata.csv").write_text("file,other\n0.png,1\n")
    found = collection.find(tmp_path)
    assert found.labels == {"kind": ["c", "red dog"]}
    for line in (
        "in labels.csv 1 row names a picture once more: the last one counts",
        "labels.csv names 1 file that is not there: gone?[1m.png",
        "labels.csv does not name 2 pictures, whose labels stay open: 2.png, 3.png",
        "metadata.csv is not read, as labels.csv is",
    ):
        assert line in found.said
    (tmp_path / "labels.csv").write_text("file,mood\n" + "".join(f"{i}.x,{i}\n" for i in range(4)))
    with pytest.raises(Unusable, match=r"column file names none of the pictures .*, as '0\.x'"):
        collection.find(tmp_path)


def test_tables_in_the_folders_of_a_split_are_read(tmp_path):
    for side in ("train", "test"):
        for i, each in enumerate(sprites(4)):
            save(each, tmp_path / side / f"{i}.png")
        rows = [f"{i}.png,{'ab'[(i + (side == 'test')) % 2]}\n" for i in range(4)]
        (tmp_path / side / "metadata.csv").write_text("file_name,mood\n" + "".join(rows))
    found = collection.find(tmp_path)
    assert found.labels == {"mood": ["a", "b"]} and found.test.tolist() == [True] * 4 + [False] * 4
    assert found.rows[:, 0].tolist() == [1, 0, 1, 0, 0, 1, 0, 1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes on Windows")
def test_a_pipe_is_not_waited_for(tmp_path):
    for i, each in enumerate(sprites(4)):
        save(each, tmp_path / "s" / f"{i}.png")
    os.mkfifo(tmp_path / "s" / "a.png")
    assert collection.collect(tmp_path / "s").unread[0][0] == "a.png"
    os.mkfifo(tmp_path / "s" / "labels.csv")
    with pytest.raises(Unusable, match=r"labels\.csv cannot be read \(it is a pipe, not a file\)"):
        collection.find(tmp_path / "s")
    for name in ("b.png", "b.npy"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(Unusable, match=f"{name} cannot be read: it is a pipe"):
            collection.find(tmp_path / name)


def test_a_folder_that_cannot_be_opened_is_counted(tmp_path, monkeypatch):
    for i, each in enumerate(sprites(4)):
        save(each, tmp_path / "ab"[i % 2] / f"{i}.png")
    real = os.scandir

    def closed(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", closed)
    found = collection.find(tmp_path)
    assert found.count == 2 and any("1 folder cannot be read: " in line for line in found.said)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_table_that_excel_saved_as_unicode_is_read(tmp_path, encoding):
    for i, each in enumerate(sprites(4)):
        save(each, tmp_path / f"{i}.png")
    text = "\ufefffile\tkind\r\n" + "".join(f"{i}.png\t{'äß'[i % 2]}\r\n" for i in range(4))
    (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
    assert collection.find(tmp_path).labels == {"kind": ["ß", "ä"]}


def test_a_table_s_kind_and_the_folders_are_two_labels_where_they_differ(tmp_path):
    for i, each in enumerate(sprites(8)):
        save(each, tmp_path / "ab"[i % 2] / f"{i}.png")
    for values, labels in (("ab", {"kind": ["a", "b"]}), ("xy", {"kind-2": ["x", "y"]})):
        rows = [f"{i}.png,{values[i % 2]}\n" for i in range(8)]
        (tmp_path / "labels.csv").write_text("file_name,kind\n" + "".join(rows))
        assert collection.find(tmp_path).labels == labels | {"kind": ["a", "b"]}


def test_links_are_followed_once(tmp_path):
    for i, each in enumerate(sprites(8)):
        save(each, tmp_path / "stored" / "ab"[i % 2] / f"{i}.png")
    (tmp_path / "set").mkdir()
    for name in "ab":
        (tmp_path / "set" / name).symlink_to(tmp_path / "stored" / name)
    (tmp_path / "stored" / "a" / "again").symlink_to(tmp_path / "set")
    (tmp_path / "stored" / "0").symlink_to("b")
    (tmp_path / "stored" / "above").symlink_to("..")
    save(sprites(1)[0], tmp_path / "another.png")
    for name in ("set", "stored"):
        found = collection.find(tmp_path / name)
        assert found.count == 8 and found.labels == {"kind": ["a", "b"]}


def test_links_that_lead_nowhere_are_named(tmp_path):
    for i, each in enumerate(sprites(8)):
        save(each, tmp_path / f"{i}.png")
    (tmp_path / "gone.png").symlink_to("nothing.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert cache.key(collection.find(tmp_path), None, None)
    found = collection.collect(tmp_path)
    assert sorted(name for name, _ in found.unread) == ["gone.png", "loop.png"]


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb(side):
    """Write the PNG of a picture that claims to be side x side: a few hundred bytes."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    end = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + end


def test_what_cannot_be_read_is_counted_and_named_and_the_rest_is_used(tmp_path):
    x = photographs(12, 40, 40)
    for i, each in enumerate(x):
        save(each, tmp_path / f"{i}.png")
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "a empty.png").write_bytes(b"")
    (tmp_path / "b cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c text.jpg").write_text("hello")
    (tmp_path / "d bomb.png").write_bytes(bomb(20_000))
    (tmp_path / "e large.png").write_bytes(bomb(9_000))
    (tmp_path / "notes.txt").write_text("x")
    found = collection.collect(tmp_path)
    assert len(seen(found)) == 12
    why = {name: str(e) for name, e in found.unread}
    assert list(why) == ["a empty.png", "b cut.png", "c text.jpg", "d bomb.png", "e large.png"]
    assert "48 million pixels" in why["d bomb.png"] and "48 are read" in why["e large.png"]
    text = said(found)
    assert "5 files cannot be read: a empty.png, b cut.png, c text.jpg and 2 more" in text
    assert "left out, as no pictures: 1 .txt" in text


def test_what_pictures_are_is_counted(tmp_path):
    x = photographs(20, 32, 48)
    for i, each in enumerate(x[:14]):
        save(each, tmp_path / f"{i:02d}.png")
    Image.fromarray(x[14]).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(x[15].swapaxes(0, 1)[:, ::-1]).save(tmp_path / "turned.png", exif=turned)
    deep = x[16, ..., 0].astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "zdeep.png")
    Image.fromarray(x[17]).quantize(64).save(tmp_path / "zpalette.png")
    clear = np.dstack([x[18], np.full((32, 48), 255, np.uint8)])
    clear[:, :20, 3] = 0
    save(clear, tmp_path / "zclear.png")
    save(np.full((32, 48, 3), 90, np.uint8), tmp_path / "zplain.png")
    save(x[0], tmp_path / "zcopy.png")
    found = collection.collect(tmp_path, size=32)
    kinds = {"CMYK": 1, "more than 8 bits": 1, "turned": 1, "transparent": 1}
    assert dict(found.kinds) == kinds
    assert (found.copies, found.plain) == (1, ["zplain.png"])
    text = said(found)
    for line in (
        "1 picture in CMYK, made RGB",
        "1 picture of more than 8 bits per value, made 8",
        "1 picture turned as the camera was held",
        "1 picture with transparent parts: laid on white",
        "1 copy of another",
        "1 picture is of one colour only, and left out: zplain.png",
    ):
        assert line in text


def test_pictures_of_one_colour_leave_the_others_as_they_are(tmp_path):
    x = sprites(9)
    x[1], x[4] = 40, 200
    np.save(tmp_path / "a.npy", x)
    assert as_a_set(seen(collection.collect(tmp_path / "a.npy"))) == as_a_set(
        np.delete(x, [1, 4], 0)
    )


def test_cmyk_and_sixteen_bits_come_out_as_they_look(tmp_path):
    x = photographs(3, 32, 32)
    Image.fromarray(x[0]).convert("CMYK").save(tmp_path / "a.tif")
    Image.fromarray(x[1, ..., 0].astype(np.uint16) * 257).save(tmp_path / "b.png")
    found = list(collection.find(tmp_path).read(np.arange(2)))
    assert np.abs(found[0].pixels.astype(int) - x[0]).max() <= 2
    assert (found[1].pixels[..., 0] == x[1, ..., 0]).all() and found[1].pixels.shape[2] == 1


def test_a_grey_set_stored_in_colour_trains_as_grey(tmp_path):
    for i, x in enumerate(photographs(12, 32, 32, colour=False)):
        save(x, tmp_path / f"{i}.png")
    found = collection.collect(tmp_path)
    assert found.dataset.train.shape[3] == 1
    assert "grey, although stored in colour" in said(found)
    x = photographs(1, 32, 32, colour=False)[0]
    x[3, 4] = 200, 20, 20
    save(x, tmp_path / "coloured.png")
    assert collection.collect(tmp_path).dataset.train.shape[3] == 3


def test_white_on_nothing_is_laid_on_black(tmp_path):
    for i in range(12):
        x = np.zeros((16, 16, 4), np.uint8)
        x[i % 8 : i % 8 + 4, i // 8 : 9] = 255
        save(x, tmp_path / f"{i}.png")
    found = collection.collect(tmp_path)
    assert found.how.paper == 0 and set(np.unique(seen(found))) == {0, 255}
    assert "laid on black" in said(found)


def test_large_jpegs_are_read_at_a_fraction(tmp_path):
    for i, x in enumerate(photographs(3, 200, 200)):
        save(enlarged(x, 8), tmp_path / f"{i}.jpg")
    (first, *_) = collection.find(tmp_path).read(np.arange(1))
    assert first.pixels.shape[0] == 400 and first.size == (1600, 1600)


# --- one file with many pictures ---


def test_a_sheet_is_cut_by_its_grid_and_empty_cells_are_left_out(tmp_path):
    x = sprites(20, 12)
    cells = np.concatenate([x, np.full((4, 12, 12, 3), 7, np.uint8)])
    whole = cells.reshape(4, 6, 12, 12, 3).swapaxes(1, 2).reshape(48, 72, 3)
    save(np.pad(whole, ((0, 5), (0, 3), (0, 0))), tmp_path / "hero.png")
    found = collection.collect(tmp_path / "hero.png", grid=(12, 12))
    assert len(seen(found)) == 20 and found.how.size == 16
    assert as_a_set(seen(found)[:, 2:14, 2:14]) == as_a_set(x)
    text = said(found)
    assert "a sheet of 6 x 4 cells of 12 x 12" in text and "4 of its cells are empty" in text
    assert "no multiple of the cells" in text
    with pytest.raises(Unusable, match="one picture, 75 x 53: .* as --grid 16x16"):
        collection.find(tmp_path / "hero.png")
    with pytest.raises(Unusable, match="smaller than one cell"):
        collection.find(tmp_path / "hero.png", (80, 80))


def test_what_is_transparent_between_the_pictures_of_a_sheet_is_left_out(tmp_path):
    x = np.zeros((12, 10, 10, 4), np.uint8)
    x[:, 1:9, 1:9, :3], x[:, 1:9, 1:9, 3] = sprites(12, 8), 255
    save(x.reshape(3, 4, 10, 10, 4).swapaxes(1, 2).reshape(30, 40, 4), tmp_path / "s.png")
    found = collection.collect(tmp_path / "s.png", grid=(10, 10))
    assert as_a_set(seen(found)) == as_a_set(x[:, 1:9, 1:9, :3])
    assert "the outer 1 pixel of each cell, transparent in all, is left out" in said(found)


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_an_animation_gives_its_frames(tmp_path, kind):
    x = enlarged(sprites(11, 16), 3)
    first, *others = map(Image.fromarray, x)
    options = {"lossless": True} if kind == "webp" else {}
    path = tmp_path / f"walk.{kind}"
    first.save(path, save_all=True, append_images=others, duration=50, **options)
    found = collection.collect(path)
    assert as_a_set(seen(found)) == as_a_set(x[:, ::3, ::3])
    assert "an animation of 11 frames" in said(found)


# --- arrays ---

GREY = sprites(40, 16)[..., :1]


@pytest.mark.parametrize(
    "layout, x",
    [
        ("hw", GREY[..., 0]),
        ("hwc", sprites(40)),
        ("chw", sprites(40).transpose(0, 3, 1, 2)),
        ("flat", GREY.reshape(40, -1)),
        ("fortran", np.asfortranarray(sprites(40))),
        ("bool", GREY[..., 0] > 100),
        ("unit", (sprites(40) / 255).astype(np.float32)),
        ("signed", (sprites(40) / 127.5 - 1).astype(np.float64)),
        ("sixteen bits", GREY[..., 0].astype(np.uint16) * 257),
        ("big-endian", GREY[..., 0].astype(">i4")),
    ],
)
def test_an_array_is_read_in_any_layout_and_range(tmp_path, layout, x):
    np.save(tmp_path / "a.npy", x)
    found = seen(collection.collect(tmp_path / "a.npy"))
    grey = layout in ("hw", "flat", "sixteen bits", "big-endian")
    truth = GREY if grey else sprites(40)
    truth = np.where(GREY > 100, 255, 0).astype(np.uint8) if layout == "bool" else truth
    assert as_a_set(found) == as_a_set(truth)


@pytest.mark.parametrize("order", ["rows", "planes"])
def test_flat_rows_of_colours_are_read_in_the_order_in_which_neighbours_are_alike(tmp_path, order):
    x = photographs(30, 16, 16)
    flat = x if order == "rows" else x.transpose(0, 3, 1, 2)
    np.save(tmp_path / "a.npy", flat.reshape(30, -1))
    assert as_a_set(seen(collection.collect(tmp_path / "a.npy"))) == as_a_set(x)


def test_several_arrays_in_a_folder_are_kinds_as_quick_draw_has_them(tmp_path):
    for name, x in zip(("ice cream", "cat"), (GREY[:25], GREY[25:]), strict=True):
        np.save(tmp_path / f"full_numpy_bitmap_{name}.npy", x.reshape(len(x), -1))
    found = collection.collect(tmp_path)
    assert found.dataset.labels == {"kind": ["cat", "ice cream"]}
    assert "label kind: cat 15, ice cream 25" in said(found)


def idx(x, path):
    head = bytes([0, 0, 8, x.ndim]) + b"".join(struct.pack(">I", n) for n in x.shape)
    path.parent.mkdir(exist_ok=True)
    with (gzip.open if path.suffix == ".gz" else open)(path, "wb") as f:
        f.write(head + np.ascontiguousarray(x).tobytes())


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_files_are_paired_by_name(tmp_path, ending):
    x, y = GREY[..., 0], np.arange(40, dtype=np.uint8) % 5
    folder = tmp_path / "MNIST"
    for name, part in {"train": slice(0, 32), "t10k": slice(32, 40)}.items():
        idx(x[part], folder / f"{name}-images-idx3-ubyte{ending}")
        idx(y[part], folder / f"{name}-labels-idx1-ubyte{ending}")
    for path in (folder, folder / f"train-images-idx3-ubyte{ending}"):
        found = collection.collect(path).dataset
        assert (found.name, len(found.train), len(found.test)) == ("MNIST", 32, 8)
        assert (found.train.raw[..., 0] == x[:32]).all()
        assert (found.train_labels[:, 0] == y[:32]).all()
        assert found.labels == {"class": list("01234")}
    with pytest.raises(Unusable, match="holds the labels of train-images-idx3-ubyte"):
        collection.find(folder / f"train-labels-idx1-ubyte{ending}")
    idx(y[:30], folder / f"train-labels-idx1-ubyte{ending}")
    with pytest.raises(Unusable, match=r"has 32 pictures, .* 30 labels: get the two files"):
        collection.find(folder)


def test_emnist_is_turned_and_its_classes_are_named(tmp_path):
    x, y = GREY[..., 0], np.arange(40, dtype=np.uint8) % 3 + 1
    idx(x.swapaxes(1, 2), tmp_path / "emnist-letters-train-images-idx3-ubyte")
    idx(y, tmp_path / "emnist-letters-train-labels-idx1-ubyte")
    (tmp_path / "emnist-letters-mapping.txt").write_text("1 65 97\n2 66 98\n3 67 99\n")
    found = collection.collect(tmp_path)
    assert as_a_set(seen(found)) == as_a_set(x)
    assert found.dataset.labels == {"class": ["A", "B", "C"]}
    assert "EMNIST is stored transposed: turned" in said(found)


def test_cifar_is_read_from_the_binary_version_and_the_pickle_is_refused(tmp_path):
    x, y = photographs(60, 32, 32), np.arange(60, dtype=np.uint8)[:, None] % 10
    rows = np.concatenate([y, x.transpose(0, 3, 1, 2).reshape(60, -1)], axis=1)
    names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    for k, name in enumerate(("data_batch_1", "data_batch_2", "test_batch")):
        (tmp_path / f"{name}.bin").write_bytes(rows[20 * k : 20 * k + 20].tobytes())
    (tmp_path / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    found = collection.collect(tmp_path).dataset
    assert found.labels == {"class": names} and (len(found.train), len(found.test)) == (40, 20)
    assert (found.train.raw == x[:40]).all() and (found.train_labels == y[:40]).all()
    (tmp_path / "py").mkdir()
    (tmp_path / "py" / "data_batch_1").write_bytes(pickle.dumps({b"data": rows}, protocol=2))
    for path in (tmp_path / "py", tmp_path / "py" / "data_batch_1"):
        with pytest.raises(Unusable, match="is a Python pickle, .* cifar-10-binary.tar.gz"):
            collection.find(path)


def test_cifar_100_has_two_labels(tmp_path):
    x = photographs(30, 32, 32).transpose(0, 3, 1, 2).reshape(30, -1)
    labels = np.stack([np.arange(30) % 3, np.arange(30) % 15], axis=1).astype(np.uint8)
    (tmp_path / "train.bin").write_bytes(np.concatenate([labels, x], axis=1).tobytes())
    found = collection.collect(tmp_path).dataset
    assert list(found.labels) == ["coarse", "class"] and found.classes == (3, 15)


def test_medmnist_keeps_its_split_and_several_labels(tmp_path):
    x, rng = photographs(60, 28, 28), np.random.default_rng(0)
    y = rng.integers(2, size=(60, 3))
    parts = {"train": slice(0, 40), "val": slice(40, 50), "test": slice(50, 60)}
    arrays = {f"{k}_images": x[part] for k, part in parts.items()}
    arrays |= {f"{k}_labels": y[part] for k, part in parts.items()}
    np.savez_compressed(tmp_path / "chestmnist.npz", **arrays)
    found = collection.collect(tmp_path / "chestmnist.npz")
    assert (len(found.dataset.train), len(found.dataset.test)) == (50, 10)
    assert found.dataset.labels == {f"label-{k}": ["0", "1"] for k in (1, 2, 3)}
    assert (found.dataset.train_labels == y[:50]).all()
    assert found.dataset.train.shape[1:] == (32, 32, 3)
    assert "10 held out, as the set has it" in said(found)


def test_kuzushiji_has_images_and_labels_in_two_files(tmp_path):
    for name, part in {"train": slice(0, 30), "test": slice(30, 40)}.items():
        np.savez(tmp_path / f"kmnist-{name}-imgs.npz", GREY[part, ..., 0])
        np.savez(tmp_path / f"kmnist-{name}-labels.npz", np.arange(40)[part] % 4)
    for path in (tmp_path, tmp_path / "kmnist-train-imgs.npz"):
        found = collection.collect(path).dataset
        assert (len(found.train), len(found.test), found.classes) == (30, 10, (4,))


@pytest.mark.parametrize("name", ["digits", "patterns"])
def test_sets_that_come_along_are_read_as_they_are(name):
    ours, found = data.load(name), collection.collect(data.FOLDER / data.FILES[name]).dataset
    assert found.labels == ours.labels and found.train.shape == ours.train.shape
    same = as_a_set(data.to_uint8(ours.train)) == as_a_set(found.train.raw)
    assert same and (found.test_labels == ours.test_labels).all()


@pytest.mark.parametrize(
    "arrays, why",
    [
        ({"a": np.zeros((3, 4, 5, 6, 7))}, "which are pictures"),
        ({"images": np.zeros((3, 16, 2))}, "has the shape"),
        ({"images": np.zeros((0, 16, 16))}, "holds no pictures"),
        ({"images": np.full((3, 16, 16), np.nan)}, "no finite numbers"),
        ({"images": GREY, "labels": np.arange(3)}, "40 pictures, .* 3 labels"),
        ({"images": GREY, "labels": np.arange(40) + 0.5}, "has fractions"),
        ({"a": GREY[..., 0], "b": GREY[..., 0]}, "Name them images"),
        ({"images": np.array([object()])}, "pickled objects"),
        ({"images": GREY, "labels": np.zeros((40, 0), int)}, r"shape \(40, 0\) .* no labels"),
        ({"images": GREY, "labels": np.zeros(0, int)}, r"shape \(0,\) .* no labels"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(tmp_path, arrays, why):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(Unusable, match=why):
        collection.find(tmp_path / "a.npz")


def test_arrays_that_end_early_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", sprites(40))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-5000])
    with pytest.raises(Unusable, match=r"a\.npy ends after 33 of its 40 pictures"):
        collection.collect(tmp_path / "a.npy")
    (tmp_path / "b.npy").write_bytes(whole[:50])
    (tmp_path / "c.npz").write_bytes(b"PK\x03\x04 and so on")
    idx(GREY[..., 0], tmp_path / "d-images-idx3-ubyte.gz")
    packed = (tmp_path / "d-images-idx3-ubyte.gz").read_bytes()
    (tmp_path / "d-images-idx3-ubyte.gz").write_bytes(packed[: len(packed) // 2])
    for name in ("b.npy", "c.npz", "d-images-idx3-ubyte.gz"):
        with pytest.raises(Unusable, match=name):
            collection.collect(tmp_path / name)


@pytest.mark.parametrize("given, other", [(".gz", ""), ("", ".gz")])
def test_an_idx_file_that_is_there_packed_and_unpacked_is_read_once(tmp_path, given, other):
    x, y = GREY[..., 0], np.arange(40, dtype=np.uint8) % 5
    for name, part in {"train": slice(0, 32), "t10k": slice(32, 40)}.items():
        idx(y[part], tmp_path / f"{name}-labels-idx1-ubyte{given}")
        for ending in (given, other):
            idx(x[part], tmp_path / f"{name}-images-idx3-ubyte{ending}")
    for path in (tmp_path, tmp_path / f"train-images-idx3-ubyte{given}"):
        found = collection.collect(path).dataset
        assert (len(found.train), len(found.test), found.classes) == (32, 8, (5,))


def test_one_hot_rows_are_one_label(tmp_path):
    hot = np.eye(3)[[0, 1, 2, 1] * 3]
    np.savez(tmp_path / "a.npz", images=sprites(12), labels=hot)
    found = collection.find(tmp_path / "a.npz")
    assert found.labels == {"class": ["0", "1", "2"]} and found.rows[:4, 0].tolist() == [0, 1, 2, 1]
    hot[0] = 1, 1, 0
    np.savez(tmp_path / "a.npz", images=sprites(12), labels=hot)
    assert len(collection.find(tmp_path / "a.npz").labels) == 3


def test_pictures_that_are_all_the_same_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.repeat(sprites(1), 12, 0))
    with pytest.raises(Unusable, match="its 12 pictures are all the same: give different ones"):
        collection.collect(tmp_path / "a.npy")


def test_labels_without_a_name_are_refused(tmp_path):
    rows = np.zeros((4, 3073), np.uint8)
    rows[:, 0] = 0, 1, 2, 7
    (tmp_path / "data_batch_1.bin").write_bytes(rows.tobytes())
    (tmp_path / "batches.meta.txt").write_text("a\nb\nc\n")
    with pytest.raises(Unusable, match=r"batch_1\.bin has the label 7, where only 0 to 2 have a"):
        collection.find(tmp_path)
    names = {"label_names": np.array(["kind"]), "label_values": np.array(["a|b|c"])}
    np.savez(tmp_path / "a.npz", images=GREY, labels=np.arange(40) % 4, **names)
    with pytest.raises(Unusable, match=r"a\.npz has the label 3, where only 0 to 2 have a name"):
        collection.find(tmp_path / "a.npz")


def test_names_in_an_array_file_are_made_printable(tmp_path):
    names = {"label_names": np.array([" my  kind"]), "label_values": np.array(["a |b\n"])}
    np.savez(tmp_path / "a.npz", images=GREY, labels=np.arange(40) % 2, **names)
    assert collection.find(tmp_path / "a.npz").labels == {"my kind": ["a", "b"]}


def test_a_header_that_claims_much_makes_no_room_for_it(tmp_path):
    """The file is a kilobyte long, and says that it holds a terabyte."""
    np.save(tmp_path / "a.npy", sprites(2))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(
        whole.replace(b"(2, 16, 16, 3), }     ", b"(99999999, 64, 64, 3)}")
    )
    with pytest.raises(Unusable, match="ends after"):
        collection.collect(tmp_path / "a.npy")


@pytest.mark.parametrize("start, why", [(b"PK\x03\x04", "unpack it"), (b"", "empty file")])
def test_files_that_are_nothing_are_refused(tmp_path, start, why):
    (tmp_path / "a.thing").write_bytes(start)
    with pytest.raises(Unusable, match=why):
        collection.find(tmp_path / "a.thing")


def test_folders_without_pictures_are_refused(tmp_path):
    with pytest.raises(Unusable, match="it is empty"):
        collection.find(tmp_path)
    (tmp_path / "logo.svg").write_text("<svg/>")
    with pytest.raises(Unusable, match=r"it has 1 \.svg: give PNG, JPEG"):
        collection.find(tmp_path)
    (tmp_path / "a.png").write_text("no")
    with pytest.raises(Unusable, match="its only picture cannot be read; the first: .*a.png"):
        collection.collect(tmp_path)
    save(sprites(1)[0], tmp_path / "a.png")
    with pytest.raises(Unusable, match="a single picture that can be used"):
        collection.collect(tmp_path)


def test_a_set_is_never_named_as_one_that_comes_along(tmp_path):
    for i, x in enumerate(sprites(3)):
        save(x, tmp_path / "digits" / f"{i}.png")
    assert collection.find(tmp_path / "digits").name == "my-digits"


def test_a_large_set_is_thinned_out_evenly(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", sprites(200))
    monkeypatch.setattr(collection, "MOST_BYTES", 50 * 3 * 16**2)
    found = collection.collect(tmp_path / "a.npy")
    assert as_a_set(seen(found)) == as_a_set(sprites(200)[::4])
    assert "of its 200 pictures 50 are taken, evenly spaced" in said(found)


def test_the_sample_of_large_pictures_is_small(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", sprites(200))
    monkeypatch.setattr(collection, "SAMPLE_BYTES", 20 * 3 * 16**2)
    assert len(collection._sample(collection.find(tmp_path / "a.npy"), "a.npy")) == 20
    monkeypatch.setattr(collection, "SAMPLE_BYTES", 1)
    assert len(collection._sample(collection.find(tmp_path / "a.npy"), "a.npy")) == 1


# --- fitting ---


@pytest.mark.parametrize("k", [2, 3, 4, 5, 7, 8, 16])
@pytest.mark.parametrize("size", [8, 12, 16, 24])
def test_the_true_grid_of_enlarged_pictures_is_found(k, size):
    x = sprites(3, size, seed=k)
    assert fit.grid(list(enlarged(x, k))) == (k, 0, 0)
    assert (fit.reduce(enlarged(x, k)[0], (k, 0, 0)) == x[0]).all()


@pytest.mark.parametrize("top, left", [(1, 0), (2, 3), (3, 1)])
def test_a_grid_is_found_where_the_edge_was_cut_off(top, left):
    x = sprites(4, 20)
    cut = list(enlarged(x, 4)[:, top:, left:])
    k, *first = fit.grid(cut)
    assert (k, *first) == (4, -top % 4, -left % 4)
    y = fit.reduce(cut[0], (k, *first))
    truth = x[0][int(top > 2) :, int(left > 2) :]
    assert (y == truth).all()


def test_a_grid_is_found_through_jpeg(tmp_path):
    x = sprites(6, 16)
    for i, each in enumerate(enlarged(x, 8)):
        save(each, tmp_path / f"{i}.jpg", quality=90, subsampling=0)
    found = collection.collect(tmp_path)
    assert found.how.size == 16 and found.how.pixel_art
    away = np.sort(np.abs(seen(found).astype(int) - x).ravel())
    assert away[int(0.99 * len(away))] < 16


def test_noise_hardly_moves_what_a_block_becomes(rng):
    x = np.full((8, 8, 3), 100, np.uint8)
    noisy = enlarged(x, 5) + rng.integers(-20, 21, size=(40, 40, 3)).astype(np.int8)
    away = fit.reduce(noisy.astype(np.uint8), (5, 0, 0)).astype(int) - 100
    assert np.abs(away).max() < 18 and np.abs(away.mean()) < 2


@pytest.mark.parametrize("seed", range(4))
def test_photographs_and_small_pictures_have_no_grid(seed):
    assert fit.grid(list(photographs(3, 64, 96, seed))) == (1, 0, 0)
    assert fit.grid(list(sprites(3, 16, seed))) == (1, 0, 0)
    smooth = fit._enlarged(photographs(2, 16, 16, seed).astype(float), 64).astype(np.uint8)
    assert fit.grid(list(smooth)) == (1, 0, 0)


@pytest.mark.parametrize("true, size", [(8, 8), (12, 16), (16, 16), (24, 32), (48, 64)])
@pytest.mark.parametrize("k", [1, 3])
def test_pixel_art_is_fitted_pixel_for_pixel(true, size, k):
    x = sprites(20, true)
    how = fit.plan([Picture(each) for each in enlarged(x, k)])
    assert (how.size, how.pixel_art, how.factor) == (size, True, 1)
    pad = (size - true) // 2
    for each in x:
        y = fit.fit(Picture(enlarged(each, k)), how)
        assert y.shape == (size, size, 3)
        assert (y[pad : pad + true, pad : pad + true] == each).all()


def test_pixel_art_is_enlarged_and_reduced_by_whole_factors():
    x = sprites(20, 16)
    how = fit.plan([Picture(each) for each in x], 32)
    assert (fit.fit(Picture(x[0]), how) == enlarged(x[0], 2)).all()
    how = fit.plan([Picture(each) for each in enlarged(x, 4)], 8)
    y = fit.fit(Picture(enlarged(x[0], 4)), how)
    assert y.shape == (8, 8, 3)
    blocks = x[0].reshape(8, 2, 8, 2, 3).swapaxes(1, 2).reshape(64, 4, 3)
    for colour, block in zip(y.reshape(64, 3), blocks, strict=True):
        counts = [(block == each).all(1).sum() for each in block]
        assert (block == colour).all(1).sum() == max(counts), "the block's most common colour"


def test_sprites_of_several_sizes_keep_their_proportions():
    small, large = sprites(1, 5)[0], sprites(1, 16)[0]
    how = fit.plan([Picture(large)] * 9 + [Picture(small)])
    y = fit.fit(Picture(small), how)
    assert (y[5:10, 5:10] == small).all() and y.shape == (16, 16, 3)


def test_photographs_are_cut_to_a_square_and_averaged():
    x = photographs(8, 64, 128)
    how = fit.plan([Picture(each) for each in x], 16)
    assert not how.pixel_art and not how.framed
    y = fit.fit(Picture(x[0]), how)
    truth = x[0, :, 32:96].reshape(16, 4, 16, 4, 3).mean((1, 3))
    assert np.abs(y - truth).max() <= 1


def test_drawings_on_paper_are_padded_not_cut():
    x = np.full((8, 40, 100, 3), 250, np.uint8)
    x[:, 8:32, 5:95] = photographs(8, 24, 90)
    how = fit.plan([Picture(each) for each in x], 32)
    y = fit.fit(Picture(x[0]), how)
    assert how.framed and (y[:9] == 250).all() and (y[15:17, 3:29] != 250).any(axis=2).all()


def test_small_pictures_that_are_no_squares_stay_whole():
    """Flags of 16 x 11: padded with paper, not cut, and nothing is smoothed."""
    x = photographs(20, 11, 16)
    how = fit.plan([Picture(each) for each in x])
    assert (how.size, how.pixel_art, how.framed, how.whole) == (16, False, False, True)
    y = fit.fit(Picture(x[0]), how)
    assert (y[2:13] == x[0]).all() and (y[:2] == 255).all() and (y[13:] == 255).all()
    plain = fit.fit(Picture(np.full((11, 16, 3), 90, np.uint8)), how)
    assert (plain == 90).all(), "it is left out, as of one colour"


def test_a_few_large_pictures_among_sprites_do_not_make_the_others_small():
    x = [Picture(each) for each in sprites(45, 16)] + [Picture(sprites(1, 128)[0])] * 5
    how = fit.plan(x)
    assert (how.size, how.pixel_art) == (16, True)
    assert (fit.fit(x[0], how) == x[0].pixels).all()


def test_digits_of_28_pixels_are_padded_to_32():
    x = np.zeros((20, 28, 28, 1), np.uint8)
    x[:, 4:24, 4:24] = photographs(20, 20, 20)[..., :1]
    how = fit.plan([Picture(each) for each in x])
    assert how.size == 32 and how.framed
    assert (fit.fit(Picture(x[0]), how)[2:30, 2:30, :1] == x[0]).all()


def test_a_thin_picture_among_sprites_is_fitted():
    pictures = [Picture(x) for x in sprites(30)] + [Picture(sprites(1, 300)[0, :, :3])]
    for framed in (False, True):
        how = fit.Plan(16, True, framed=framed)
        assert [fit.fit(p, how).shape for p in pictures] == [(16, 16, 3)] * 31


def test_a_large_picture_among_sprites_takes_little_memory():
    x = enlarged(sprites(1, 16)[0], 60)
    tracemalloc.start()
    small = fit.fit(Picture(x), fit.Plan(16, True, {x.shape[:2]: (1, 0, 0)}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (small == x[::60, ::60]).all() and peak < 40 * x.nbytes


def test_the_smallest_size_that_keeps_what_is_there_is_chosen():
    smooth = [
        Picture(x) for x in fit._enlarged(photographs(9, 8, 8).astype(float), 128).astype("u1")
    ]
    rough = [Picture(x) for x in photographs(9, 128, 128)]
    assert fit.plan(smooth).size < fit.plan(rough).size
    kept = list(fit.plan(rough).kept.values())
    assert kept == sorted(kept) and all(0 < share <= 1 for share in kept)


# --- what is alike ---


def test_copies_and_near_copies_are_found_also_by_way_of_others(tmp_path):
    x = photographs(60, 32, 32)
    x[7] = x[3]
    x[20] = np.clip(x[3].astype(int) + 1, 0, 255)
    x[41] = np.clip(x[20].astype(int) + 1, 0, 255)
    group, copies, near = alike.groups(x)
    assert (copies, near) == (1, 2)
    assert set(group[[3, 7, 20, 41]]) == {3}
    others = np.delete(np.arange(60), [3, 7, 20, 41])
    assert (group[others] == others).all()


def test_a_picture_saved_as_jpeg_is_nearly_the_same(tmp_path):
    x = photographs(20, 64, 64)
    for i, each in enumerate(x):
        save(each, tmp_path / f"{i}.png")
    save(x[4], tmp_path / "again.jpg", quality=60)
    small = Image.fromarray(x[5]).resize((48, 48), Image.Resampling.BOX)
    small.save(tmp_path / "small.png")
    found = collection.collect(tmp_path, 32)
    assert (found.copies, found.near) == (0, 2)


def test_the_pairs_are_those_of_all_comparisons(rng):
    small = rng.standard_normal((300, 5)).astype(np.float32)
    apart = np.sqrt(((small[:, None] - small) ** 2).mean(2)) < 0.45
    reach = apart.copy()
    for _ in range(9):
        reach = reach @ reach
    roots = alike._joined(small, 0.45)
    assert 20 < len(np.unique(roots)) < 290
    assert ((roots[:, None] == roots) == reach).all()


@pytest.mark.parametrize("M", [2, 9, 10, 57, 1000])
def test_a_tenth_is_held_out_in_whole_groups_and_of_every_kind(M, rng):
    group = np.arange(M)
    group[M // 2 : M // 2 + M // 20] = M // 2
    kinds = rng.integers(4, size=M)
    held_out = alike.split(group, kinds)
    assert not (set(group[held_out]) & set(group[~held_out]))
    assert held_out.sum() == 0 if M < 10 else 0.05 * M <= held_out.sum() <= 0.2 * M
    if M == 1000:
        shares = [held_out[kinds == k].mean() for k in range(4)]
        assert min(shares) > 0.05


def test_a_given_split_is_kept_but_for_what_is_in_both(tmp_path):
    x = photographs(40, 16, 16)
    x[35] = x[2]
    np.savez(tmp_path / "a.npz", train_images=x[:30], test_images=x[30:])
    found = collection.collect(tmp_path / "a.npz")
    assert (len(found.dataset.train), len(found.dataset.test), found.moved) == (31, 9, 1)
    assert "1 held-out picture moved to training" in said(found)


# --- words ---


def test_words_become_labels():
    labels, rows = coded({"n": ["10", "9", None, "9"], "a\nb": ["x", "", "y", "x"]})
    assert labels == {"n": ["9", "10"], "a b": ["x", "y"]}
    assert rows.tolist() == [[1, 0], [0, 2], [2, 1], [0, 0]]
    assert sorted(["b10", "b9", "A1"], key=natural) == ["A1", "b9", "b10"]


def test_names_that_print_alike_are_told_apart():
    columns = {"a b": "xy", "a  b": "yx", "": "zz", "a b-2": "ww"}
    labels, rows = coded(columns)
    assert labels == {"a b": ["x", "y"], "a b-2": ["x", "y"], "label": ["z"], "a b-2-2": ["w"]}
    assert rows.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]


# --- the cache ---


def test_a_set_is_kept_until_a_file_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for i, x in enumerate(sprites(12)):
        save(x, tmp_path / "s" / ["a", "b"][i % 2] / f"{i}.png")
    source = collection.find(tmp_path / "s")
    key = cache.key(source, None, None)
    assert cache.load(key) is None
    found = collection.read(source, tmp_path / "s")
    cache.save(key, found.dataset, report.lines(found), fit.as_fields(found.how))
    dataset, lines, plan = cache.load(key)
    assert lines == report.lines(found) and fit.from_fields(plan, 16).cells == found.how.cells
    assert dataset.labels == found.dataset.labels
    assert (dataset.train.raw == found.dataset.train.raw).all()
    assert (dataset.train_labels == found.dataset.train_labels).all()
    assert cache.key(source, 32, None) != key
    save(sprites(1, seed=5)[0], tmp_path / "s" / "a" / "0.png")
    assert cache.key(collection.find(tmp_path / "s"), None, None) != key
    (cache.folder() / f"{key}.npz").write_bytes(b"PK no")
    assert cache.load(key) is None


def test_a_file_of_another_time_is_another_file(tmp_path):
    np.save(tmp_path / "a.npy", sprites(12))
    before = cache.key(collection.find(tmp_path / "a.npy"), None, None)
    assert cache.key(collection.find(tmp_path / "a.npy"), None, None) == before
    os.utime(tmp_path / "a.npy", (1, 1))
    assert cache.key(collection.find(tmp_path / "a.npy"), None, None) != before


def test_no_model_has_a_file_read_outside_the_folder_of_kept_sets(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    x = data.Pixels(sprites(20))
    dataset = data.Dataset("a", x, x, np.zeros((20, 0), int), np.zeros((20, 0), int), {})
    names = ["../../secret", str(tmp_path / "secret"), "../sets/" + "a" * 64, "A" * 64]
    for name in ["a" * 64, *names]:
        cache.save(name, dataset, [], {})
        os.utime(cache.folder() / f"{name}.npz", (1, 1))
    assert cache.load("a" * 64)
    os.utime(cache.folder() / f"{'a' * 64}.npz", (1, 1))
    for name in names:
        assert cache.load(name) is None, name
        assert (cache.folder() / f"{name}.npz").stat().st_mtime == 1
    for name in ("", "a" * 64 + "\n", None, 7, ["a" * 64]):
        assert cache.load(name) is None


def test_the_oldest_sets_make_room(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cache, "MOST", 60_000)
    x = data.Pixels(sprites(20))
    dataset = data.Dataset("a", x, x, np.zeros((20, 0), int), np.zeros((20, 0), int), {})
    for i, key in enumerate("abc"):
        cache.save(key * 64, dataset, [], {})
        os.utime(cache.folder() / f"{key * 64}.npz", (i, i))
    assert sorted(p.stem[0] for p in cache.folder().glob("*.npz")) == ["c"]
    monkeypatch.setattr(cache, "MOST", 90_000)
    cache.save("b" * 64, dataset, [], {})
    os.utime(cache.folder() / f"{'b' * 64}.npz", (3, 3))
    assert cache.load("c" * 64)  # used last, though written first: it stays
    cache.save("a" * 64, dataset, [], {})
    assert sorted(p.stem[0] for p in cache.folder().glob("*.npz")) == ["a", "c"]


# --- the network ---


@pytest.mark.parametrize("size", [8, 12, 16, 20, 24, 28, 32, 36, 48, 60, 64])
def test_the_network_fits_every_size(size, rng):
    from tinydiff.unet import UNet

    model, batch, lr, p_drop = network.network(size, 2)
    UNet(size, channels=1, rng=rng, **model | {"width": 8, "depth": 1})
    assert batch >= 16 and 0 < lr < 0.01 and p_drop == 0.3


def test_pixels_are_bytes_until_they_are_asked_for():
    raw = sprites(6)
    x = data.Pixels(raw)
    assert (len(x), x.shape, x.ndim) == (6, raw.shape, 4)
    for i in (0, slice(2, 5), np.array([3, 1]), raw[:, 0, 0, 0] > 100):
        assert x[i].dtype == np.float32 and (x[i] == data.to_float(raw[i])).all()
    assert (np.asarray(x) == data.to_float(raw)).all()
    assert (x.reshape(6, -1) == data.to_float(raw).reshape(6, -1)).all()
    assert [each.shape for each in x] == [(16, 16, 3)] * 6
    some = data.Pixels(raw, np.array([4, 1, 2]))
    assert len(some) == 3 and some.shape == (3, 16, 16, 3)
    assert (some[1] == x[1]).all() and (some[0] == x[4]).all()
    assert (some.raw == raw[[4, 1, 2]]).all() and (np.asarray(some)[2] == x[2]).all()
