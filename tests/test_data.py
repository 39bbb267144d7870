"""data.py: the sets are what data/README.md says, and a damaged file is named as such."""

import importlib.util
import io

import numpy as np
import pytest
from test_sample import rejects

from tinydiff import data

FACES = {"hat": 8, "glasses": 3, "hair": 2, "hair-colour": 9, "beard": 2, "mouth": 2, "skin": 8}
FACES |= {"clothes": 12, "background": 6}
SIZES = {  # name -> train, test, (H, W, C), how many values each label has
    "digits": (1500, 297, (8, 8, 1), {"digit": 10}),
    "fashion": (10000, 2000, (16, 16, 1), {"kind": 10}),
    "portraits": (5400, 600, (16, 16, 3), FACES),
    "patterns": (7200, 800, (16, 16, 3), {"kind": 10, "palette": 12}),
    "patterns32": (4320, 480, (32, 32, 3), {"kind": 10, "palette": 12}),
}


@pytest.fixture(scope="module", params=SIZES)
def dataset(request):
    return data.load(request.param)


def test_shapes_types_and_range(dataset):
    N, M, shape, classes = SIZES[dataset.name]
    assert dataset.train.shape == (N, *shape) and dataset.test.shape == (M, *shape)
    assert dataset.train_labels.shape == (N, len(classes))
    assert dataset.test_labels.shape == (M, len(classes))
    assert {label: len(set(values)) for label, values in dataset.labels.items()} == classes
    assert dataset.classes == tuple(classes.values())
    for x in (dataset.train, dataset.test):
        assert x.dtype == np.float32 and x.min() == -1 and x.max() == 1


def test_labels_are_in_range_and_every_class_is_in_both_parts(dataset):
    for labels in (dataset.train_labels, dataset.test_labels):
        assert labels.dtype.kind == "i"
        for column, classes in zip(labels.T, dataset.classes, strict=True):
            assert np.array_equal(np.unique(column), np.arange(classes))


def test_train_and_test_are_disjoint_and_complete(dataset):
    with np.load(data.FOLDER / data.FILES[dataset.name]) as f:
        images, labels, test = f["images"], f["labels"], f["test"]
    assert np.array_equal(data.to_uint8(dataset.train), images[~test])
    assert np.array_equal(data.to_uint8(dataset.test), images[test])
    assert np.array_equal(dataset.train_labels, labels[~test])
    assert np.array_equal(dataset.test_labels, labels[test])


def test_no_held_out_image_was_trained_on(dataset):
    seen = {x.tobytes() for x in dataset.train}
    twice = sum(x.tobytes() in seen for x in dataset.test)
    assert twice == 0


def test_same_label_means_alike():
    digits = data.load("digits")
    means = np.stack([digits.train[digits.train_labels[:, 0] == k].mean(0) for k in range(10)])
    nearest = ((digits.test[:, None] - means) ** 2).sum((2, 3, 4)).argmin(1)
    assert np.mean(nearest == digits.test_labels[:, 0]) > 0.85  # labels that were shuffled give 0.1


def test_labels_of_the_portraits_are_read_off_their_attributes():
    """Spot checks of the table in data/build.py against the attributes beside the labels."""
    faces, drawn = data.load("portraits"), {}
    with np.load(data.FOLDER / data.FILES["portraits"]) as f:
        attributes = f["attributes"][f["test"]].T
        table = zip(f["attribute_names"], f["attribute_values"], attributes, strict=True)
        for name, values, index in table:
            drawn[str(name)] = np.array(values.split("|"))[index]

    def has(label, value):
        """Find the portraits whose label has this value -> (M,) bool"""
        k = list(faces.labels).index(label)
        return faces.test_labels[:, k] == faces.labels[label].index(value)

    hat, brown = drawn["hat"] != "none", ["#603015", "#603a14"]
    assert np.array_equal(has("hat", "none"), ~hat)
    assert np.array_equal(has("hat", "pink"), hat & (drawn["hatColor"] == "#cc6192"))
    assert np.array_equal(has("glasses", "dark"), np.char.startswith(drawn["glasses"], "dark"))
    assert np.array_equal(has("hair-colour", "brown"), np.isin(drawn["hairColor"], brown))
    assert np.array_equal(has("skin", "8"), drawn["skinColor"] == "#ffdbac")
    assert np.array_equal(has("clothes", "navy"), drawn["clothingColor"] == "#03396c")
    white = np.all(faces.test[:, 0, 0] == 1, axis=-1)  # this corner is mostly background
    assert white[has("background", "white")].mean() > 0.95
    assert white[has("background", "blue")].mean() < 0.01


@pytest.fixture(scope="module")
def formulas():
    spec = importlib.util.spec_from_file_location("patterns", data.FOLDER / "patterns.py")
    spec.loader.exec_module(patterns := importlib.util.module_from_spec(spec))
    return patterns


FORMS = {"patterns": {}, "patterns32": {"size": 32, "fine": 2, "scale": 1.6}}


@pytest.mark.parametrize("name, form", FORMS.items(), ids=FORMS)
def test_patterns_are_drawn_again_by_their_formulas(formulas, name, form):
    """The first 240, every kind in every palette twice: to rounding the pixels of the file.

    All are mixtures of their palette's colours, and none is plain.
    """
    images, labels = formulas.draw(240, **form)
    with np.load(data.FOLDER / data.FILES[name]) as f:
        assert np.abs(images.astype(int) - f["images"][:240]).max() <= 1
        assert np.array_equal(labels, f["labels"][:240])
    assert len({tuple(pair) for pair in labels[:120]}) == 120
    palettes = [[list(bytes.fromhex(c)) for c in p.split()] for p in formulas.PALETTES.values()]
    colours = np.array(palettes)[labels[:, 1], None, None]
    assert np.all(images >= colours.min(3)) and np.all(images <= colours.max(3))
    assert np.all(images.std((1, 2)).max(1) > 8)


def test_patterns_are_the_same_at_every_scale(formulas):
    """Twice as large, half as finely drawn, averaged over 2 x 2 pixels: the same, to rounding."""
    x, _ = formulas.draw(60)
    large, _ = formulas.draw(60, size=32, fine=2, scale=2.0)
    again = large.reshape(60, 16, 2, 16, 2, 3).mean((2, 4))
    assert np.abs(x - again).max() <= 1
    assert np.abs(x.astype(float) - formulas.draw(60, scale=1.6)[0]).mean() > 20


def test_pixels_survive_the_round_trip():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    x = data.to_float(pixels)
    assert x.dtype == np.float32 and x.min() == -1 and x.max() == 1
    assert np.array_equal(data.to_uint8(x), pixels)
    assert np.array_equal(data.to_uint8(x.astype(np.float64)), pixels)


def test_what_lies_outside_is_cut_off():
    assert data.to_uint8(np.array([[[[-9.0], [9.0], [0.0]]]])).ravel().tolist() == [0, 255, 128]


def test_another_name_is_refused():
    why = "no data set 'faces'; there are: digits, fashion, portraits, patterns, patterns32"
    with pytest.raises(ValueError, match=why):
        data.load("faces")


def test_a_missing_file_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="digits8.npz is missing: install"):
        data.load("digits")


def damages():
    whole = (data.FOLDER / data.FILES["digits"]).read_bytes()
    arrays = dict(np.load(data.FOLDER / data.FILES["digits"]))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    np.savez(plain := io.BytesIO(), **arrays)
    shifted = bytearray(plain.getvalue())
    # the header's length: pixels are then read 16 bytes too early, never to the end
    shifted[shifted.index(b"\x93NUMPY") + 8] -= 16
    return {
        "empty": b"",
        "text": b"not pixels",
        "half": whole[: len(whole) // 2],
        "no end": whole[:-10],
        "a bit flipped": bytes(flipped),
        "all pixels shifted": bytes(shifted),
        "another npz": {"a": np.zeros(3)},
        "an array alone": np.zeros(3),
        "objects": {**arrays, "images": np.array([None, 1])},
        "too few labels": {**arrays, "labels": arrays["labels"][:5]},
        "float images": {**arrays, "images": arrays["images"] / 255},
        "test as numbers": {**arrays, "test": arrays["test"].astype(int)},
    }


@pytest.mark.parametrize("damage", damages())
def test_a_damaged_or_wrong_file_is_named_as_such(damage, tmp_path, monkeypatch):
    content = damages()[damage]
    monkeypatch.setattr(data, "FOLDER", tmp_path)
    with open(tmp_path / "digits8.npz", "wb") as f:
        if isinstance(content, bytes):
            f.write(content)
        elif isinstance(content, dict):
            np.savez(f, **content)
        else:
            np.save(f, content)
    why = "digits8.npz is damaged .*: install tinydiff again; .* run data/build.py"
    with pytest.raises(OSError, match=why) as e:
        data.load("digits")
    assert "\n" not in str(e.value)


def test_no_flipped_byte_passes_unnoticed(tmp_path, monkeypatch):
    whole, as_written = (data.FOLDER / data.FILES["digits"]).read_bytes(), data.load("digits")
    monkeypatch.setattr(data, "FOLDER", tmp_path)
    rng = np.random.default_rng(0)
    for _ in range(100):
        flipped = bytearray(whole)
        flipped[rng.integers(len(whole))] ^= int(rng.integers(1, 256))
        (tmp_path / "digits8.npz").write_bytes(flipped)
        try:
            dataset = data.load("digits")
        except OSError as e:
            assert "is damaged" in str(e)
        else:  # a byte without meaning, such as a date
            assert np.array_equal(dataset.train, as_written.train)
            assert np.array_equal(dataset.test_labels, as_written.test_labels)


# --- the same subjects in several styles ---


@pytest.mark.parametrize(
    "name, shape", [("emoji", (1363, 5, 16, 16, 3)), ("typefaces", (26, 72, 16, 16, 1))]
)
def test_styles_are_the_pixels_of_the_file(name, shape):
    d = data.load_styles(name)
    with np.load(data.FOLDER / data.STYLES[name]) as f:
        images = f["images"] if name == "emoji" else f["images"].transpose(1, 0, 2, 3, 4)
    assert d.images.shape == shape and d.images.dtype == np.float32
    assert np.array_equal(data.to_uint8(d.images), images)
    assert (len(set(d.names)), len(set(d.styles))) == shape[:2]


def test_emoji_of_the_line_style_are_grey_and_the_others_are_not():
    d = data.load_styles("emoji")
    assert d.styles == ["line", "flat", "shaded", "noto", "twemoji"]
    line, *others = np.ptp(d.images, axis=-1).max((0, 2, 3))
    assert line == 0 < min(others)
    apple = (d.images[d.names.index("red apple"), 1:] + 1).mean((1, 2))
    red, green_and_blue = apple[:, 0], apple[:, 1:].max(1)
    assert np.all(red > 1.1 * green_and_blue), "in every coloured style"


def test_held_out_emoji_have_no_near_duplicate_in_training():
    """RMSE of 0.10 over flat, noto and twemoji together is the limit of data/build.py."""
    d = data.load_styles("emoji")
    assert (d.test.sum(), (~d.test).sum()) == (250, 1113)
    x = (d.images[:, [1, 3, 4]].reshape(len(d.names), -1) + 1) / 2
    a, b = x[d.test], x[~d.test]
    rmse = np.sqrt(((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T) / x.shape[1])
    assert rmse.min() >= 0.0999


def test_held_out_letters_leave_half_of_every_letter_and_face():
    d = data.load_styles("typefaces")
    assert d.test.sum() == 374 == int(0.2 * 26 * 72)
    assert 2 * d.test.sum(1).max() <= 72 and 2 * d.test.sum(0).max() <= 26
    ink = (d.images + 1).mean((1, 2, 3, 4))
    assert d.names[ink.argmin()] == "I" and d.styles[9] == "old-standard-tt"


@pytest.mark.parametrize("name", data.STYLES)
def test_styles_refuse_what_is_not_theirs(name, tmp_path, monkeypatch):
    arrays = dict(np.load(data.FOLDER / data.STYLES[name]))
    with pytest.raises(ValueError, match="no data set 'digits'; there are: emoji, typefaces"):
        data.load_styles("digits")
    monkeypatch.setattr(data, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="16.npz is missing: install"):
        data.load_styles(name)
    images, few = arrays["images"], {"test": arrays["test"][:5]}
    for wrong in (few, {"images": images / 255}, {"images": images[:, :3]}):
        np.savez(tmp_path / data.STYLES[name], **{**arrays, **wrong})
        with pytest.raises(OSError, match="16.npz is damaged .*: install .* run data/build.py"):
            data.load_styles(name)


def check_picture_by_picture(dataset):
    """Each picture keeps the labels of its place in the set of styles, and is held out as there."""
    for name, labels in (("emoji", ["style"]), ("typefaces", ["letter", "face"])):
        styles = data.load_styles(name)
        d = dataset(styles)
        M, S = styles.images.shape[:2]
        held_out = np.broadcast_to(styles.test.reshape(M, -1), (M, S))
        assert d.name == name and list(d.labels) == labels
        assert d.classes == ((S,) if name == "emoji" else (M, S))
        assert (len(d.test), len(d.train)) == (held_out.sum(), (~held_out).sum())
        of_style = [{x.tobytes() for x in images} for images in styles.images.swapaxes(0, 1)]
        for x, labels in ((d.train, d.train_labels), (d.test, d.test_labels)):
            pairs = zip(x[::7], labels[::7, -1], strict=True)
            assert all(image.tobytes() in of_style[style] for image, style in pairs)
        unseen = {x.tobytes() for x in styles.images[held_out]}
        assert {x.tobytes() for x in d.test} == unseen
    letters = styles.images[d.test_labels[:, 0], d.test_labels[:, 1]]
    assert np.array_equal(letters, d.test)
    assert d.labels == {"letter": styles.names, "face": styles.styles}


def labels_exchanged(styles):
    d = styles.dataset()
    d.train_labels, d.test_labels = d.train_labels[:, ::-1], d.test_labels[:, ::-1]
    return d


def subject_after_subject(styles):
    d = styles.dataset()
    d.train_labels = np.sort(d.train_labels, axis=0)
    return d


def nothing_held_out(styles):
    d = styles.dataset()
    d.test, d.test_labels = d.train, d.train_labels
    return d


def test_styles_picture_by_picture():
    check_picture_by_picture(data.Styles.dataset)


@pytest.mark.parametrize("wrong", [labels_exchanged, subject_after_subject, nothing_held_out])
def test_slips_of_dataset(wrong):
    rejects(check_picture_by_picture, wrong)


# --- pictures before and after an edit ---


def test_edits_start_from_held_out_portraits_and_change_one_label():
    """Before is a test portrait with its labels, to the pixel; after differs in one, `changed`."""
    d, faces = data.load_edits(), data.load("portraits")
    with np.load(data.FOLDER / "edits16.npz") as f:
        portrait = f["portrait"]
    with np.load(data.FOLDER / data.FILES["portraits"]) as f:
        place = np.cumsum(f["test"])[portrait] - 1
        assert np.all(f["test"][portrait]) and len(set(portrait)) == len(portrait) == 300
    assert np.array_equal(d.before, faces.test[place])
    assert np.array_equal(d.labels_before, faces.test_labels[place])
    differs = d.labels_before != d.labels_after
    assert np.array_equal(differs, np.arange(9) == d.changed[:, None])
    assert d.labels == faces.labels and np.all(d.labels_after < faces.classes)
    assert d.after.dtype == np.float32
    changed, counts = np.unique(d.changed, return_counts=True)
    names = ["hat", "glasses", "hair-colour", "mouth", "clothes", "background"]
    assert [list(d.labels)[k] for k in changed] == names
    assert np.all(counts == 50)


def test_edits_change_what_they_should_and_where():
    """A new background takes the old one's pixels; clothes are below the chin, mouths are small.

    Hats and glasses come and go.
    """
    d = data.load_edits()
    moved = np.any(d.before != d.after, axis=-1)
    of = {label: d.changed == k for k, label in enumerate(d.labels)}
    assert np.all(moved.any((1, 2)))
    for i in np.flatnonzero(of["background"]):
        for x in (d.before[i], d.after[i]):  # lenses and earrings let it through, the rest is plain
            _, counts = np.unique(x[moved[i]], axis=0, return_counts=True)
            assert counts.max() > 0.9 * moved[i].sum()
    assert not moved[of["clothes"], :11].any() and moved[of["mouth"]].sum((1, 2)).max() < 10
    for k, label in enumerate(("hat", "glasses")):
        assert np.all((d.labels_before[of[label], k] == 0) != (d.labels_after[of[label], k] == 0))


def test_edits_that_do_not_fit_are_refused(tmp_path, monkeypatch):
    arrays = dict(np.load(data.FOLDER / "edits16.npz"))
    monkeypatch.setattr(data, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="edits16.npz is missing: install"):
        data.load_edits()
    few, fewer = {"after": arrays["after"][:5]}, {"labels_after": arrays["labels_after"][:, :3]}
    for wrong in (few, {"before": arrays["before"] / 255}, fewer):
        np.savez(tmp_path / "edits16.npz", **{**arrays, **wrong})
        why = "edits16.npz is damaged .*: install tinydiff again; .* run data/build.py"
        with pytest.raises(OSError, match=why):
            data.load_edits()


def test_a_data_set_is_shown_in_one_line():
    shown = "<Dataset digits: 1,500 training and 297 test images of 8 x 8 x 1; labels: digit>"
    assert repr(data.load("digits")) == shown
    shown = "<Styles emoji: 1,363 subjects in 5 styles, images of 16 x 16 x 3>"
    assert repr(data.load_styles("emoji")) == shown


@pytest.mark.parametrize("side, wide", [(8, 8), (12, 4), (16, 8), (20, 4)])
def test_thumbnails_are_means_of_blocks(side, wide):
    x = np.random.default_rng(0).integers(0, 256, (3, side, side, 2), np.uint8)
    small, k = data.thumbnails(x).reshape(3, wide, wide, 2), side // wide
    assert small.dtype == np.float32
    assert np.allclose(small[1, 2, 3], x[1, 2 * k : 3 * k, 3 * k : 4 * k].mean((0, 1)))
