"""Live hands: they draw with what stands in the package's place, and say in one line what is wrong.

How they look and answer in a browser is not tested here.
"""

import re
import sys

import numpy as np
import pytest

from lessons import LARGEST, LESSONS, fingerprint, is_live, read, run
from tinydiff import data, exact, guide, sample
from tinydiff.design import edit
from tinydiff.studio import hands, live, paint, plane


def sampling():
    return hands.sampling(n=1, reference=10)


# a function of the package, the hand that should call it, and what is moved for that
CALLED = [
    (guide, "classifier_free", hands.guidance, {"w": 3.0}),
    (sample, "ddim", hands.guidance, {"steps": 3}),
    (sample, "heun", sampling, {"sampler": "heun"}),
    (sample, "dpmpp_2m", sampling, {"sampler": "dpmpp_2m"}),
    (sample, "karras_times", sampling, {"times": "karras"}),
    (edit, "image_to_image", hands.strength, {"strength": 0.3}),
    (edit, "inpaint", paint.mask, {"seed": 1}),
    (edit, "tile", paint.pattern, {"seed": 1}),
    (exact, "dataset", plane.playground, {"points": [[0, 0], [1, 1]]}),
    (exact, "point", plane.playground, {"points": [[0, 0]]}),
    (exact, "gaussian", plane.playground, {"points": []}),
    (sample, "ddpm", plane.playground, {"sampler": "ddpm"}),
    (sample, "heun", plane.playground, {"sampler": "heun"}),
]


@pytest.mark.parametrize(
    "module, name, make, moved", CALLED, ids=[f"{c[2].__name__}-{c[1]}" for c in CALLED]
)
def test_what_stands_in_the_package_s_place_draws(module, name, make, moved, monkeypatch):
    """The hand is made before a notebook adopts another function, and still calls that one."""
    hand, package_s_own, calls = make(), getattr(module, name), []

    def adopted(*args, **options):
        calls.append(name)
        return package_s_own(*args, **options)

    monkeypatch.setattr(module, name, adopted)
    assert hand.move(**moved)["error"] == ""
    assert calls


def broken(cond, uncond, w, interval=None):
    raise ValueError("w is upside down\nsecond line")


def unwritten(cond, uncond, w, interval=None):
    raise NotImplementedError


def not_a_number(cond, uncond, w, interval=None):
    return lambda x_t, t: x_t * np.nan


WRONG = {
    broken: r"broken, line \d+: ValueError: w is upside down",
    unwritten: "unwritten is not written yet",
    not_a_number: ".*no numbers.*",
}


@pytest.mark.parametrize("function", WRONG, ids=lambda f: f.__name__)
def test_an_error_is_one_line_and_the_last_picture_stays(function, monkeypatch):
    hand = hands.guidance(steps=2)
    before = hand.move()
    with monkeypatch.context() as wrong:
        wrong.setattr(guide, "classifier_free", function)
        after = hand.move(w=4.0)
    assert re.fullmatch(WRONG[function], after["error"])
    assert after["rows"] == before["rows"] != []
    assert hand.move(w=4.0)["error"] == ""


def test_guidance_asks_for_what_is_chosen():
    pipe = hands.Pipeline.load("portraits")
    row = hands.asked(pipe, {"hat": "red", "glasses": hands.ANY})
    names = list(pipe.labels)
    assert row[names.index("hat")] == pipe.labels["hat"].index("red")
    others = [i for i, name in enumerate(names) if name != "hat"]
    assert [row[i] for i in others] == [len(pipe.labels[names[i]]) for i in others]
    hand = hands.guidance(pipe, n=2, steps=4, interval=True)
    whole, part = hand.move(), hand.move(high=150, low=50)
    assert whole["rows"] != part["rows"] and whole["note"] != part["note"]


def test_the_reference_is_at_distance_0_from_itself():
    hand = hands.sampling(n=2, reference=10)
    note = hand.move(sampler="heun", calls=19, times="even")["note"]
    assert note == "mean distance 0.000"
    assert hand.move(calls=3)["note"] != note


# --- the plane ---


@pytest.mark.parametrize("sampler", plane.SAMPLERS)
def test_particles_end_on_the_data(sampler):
    hand = plane.playground("three points", sampler, n=50)
    answer = hand.move()
    paths = np.frombuffer(answer["paths"], "<i2").reshape(len(answer["times"]), 50, 2) / 4096
    away = np.linalg.norm(paths[-1][:, None] - np.array(answer["points"]), axis=-1).min(1)
    assert away.max() < 1e-3
    assert np.abs(paths[0]).max() > 1.5  # they began as noise


def test_the_field_is_the_score_times_the_noise_s_deviation():
    answer = plane.playground("one point").move()
    shape = (len(answer["moments"]), plane.FIELD, plane.FIELD, 2)
    arrows = np.frombuffer(answer["field"], "<i2").reshape(shape) / 4096
    along = np.linspace(-3, 3, plane.FIELD + 2)[1:-1]
    m, i, j = 20, 4, 15
    ab, x = answer["alpha_bar"][answer["moments"][m]], np.array([along[j], along[i]])
    expected = (np.sqrt(ab) * np.array(answer["points"][0]) - x) / np.sqrt(1 - ab)
    assert arrows[m, i, j] == pytest.approx(expected, abs=1e-3)


def test_a_sampler_that_stops_early_is_told_so(monkeypatch):
    monkeypatch.setattr(sample, "ddim", lambda *args, **options: iter([np.zeros((300, 2))]))
    assert "ddim gave 1 arrays, 21 were expected" in plane.playground().move()["error"]


def test_unknown_data_is_told_what_is_known():
    with pytest.raises(ValueError, match="no data 'moons'; there are: two moons, ring"):
        plane.playground("moons")


# --- paint ---


def test_what_is_painted_is_read_as_it_was_written():
    image = data.load("portraits").test[0]
    assert np.array_equal(paint.painted(paint.as_painted(image), 16)[0], image)


def test_what_is_not_painted_stays_as_it_is():
    photos = data.load("portraits").test[:2]
    hand = paint.mask(photos, steps=3)
    hole = np.zeros((16, 16, 1))
    hole[3:5, 7] = 1
    answer = hand.move(photo=1, drawing=paint.as_painted(2 * hole - 1))
    same = (live.pictures(answer["rows"][0]) == data.to_uint8(photos[1])).all(-1)
    assert same[:, hole[..., 0] == 0].all() and not same.all()
    assert answer["note"] == "2 of 256 pixels are drawn anew"


def test_letters_that_are_given_stay():
    hand = paint.alphabet(steps=2)
    answer = hand.move(drawings={"B": "ffffff" * 256})
    letters = live.pictures(answer["rows"][0])
    assert (letters[1] == 255).all() and not (letters[0] == 255).all()
    assert answer["rows"][0]["captions"][:2] == ["A", "yours"]


def test_a_pattern_has_only_its_colours():
    hand = paint.pattern(steps=3)
    colours = ["#102030", "#f0e0d0"]
    tile = live.pictures(hand.move(colours=colours)["rows"][0])[0]
    found = {"#" + bytes(c).hex() for c in np.unique(tile.reshape(-1, 3), axis=0)}
    assert tile.shape == (48, 48, 3) and found <= set(colours)


def test_what_is_painted_on_a_tile_stays_until_it_is_free():
    hand = paint.pattern(steps=4)
    drawing = "f0e0d0102030" * 8 + paint.FREE * 240

    def first_row(freedom):
        answer = hand.move(colours=["#102030", "#f0e0d0"], drawing=drawing, freedom=freedom)
        return live.pictures(answer["rows"][0])[0, 0]

    painted = [[0xF0, 0xE0, 0xD0], [0x10, 0x20, 0x30]] * 8
    assert (first_row(0)[:16] == painted).all()
    assert not (first_row(1)[:16] == painted).all()
    assert hand.answer["note"] == ""
    assert "nothing is painted" in hand.move(drawing="")["note"]


def test_a_file_is_never_replaced_unasked(tmp_path):
    hand = paint.pattern(steps=2)
    assert hand.save("a.png", folder=tmp_path)["text"] == "nothing is drawn yet"
    hand.move()
    for name in ("a.png", "a.gif"):
        assert hand.save(name, folder=tmp_path)["text"] == f"saved {name}"
        (tmp_path / name).write_text("mine")
        assert hand.save(name, folder=tmp_path)["asks"]
        assert (tmp_path / name).read_text() == "mine"
        assert hand.save(name, True, tmp_path)["text"] == f"saved {name}"
        assert (tmp_path / name).read_bytes() != b"mine"
    for name in ("../a.png", ".png", "", "/a.png", "a.txt"):
        assert hand.save(name, folder=tmp_path)["text"] == "give a name that ends in .png or .gif"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gif", "a.png"]


# --- in a notebook ---


@pytest.fixture
def displayed(monkeypatch):
    IPython_display = pytest.importorskip("IPython.display")
    found = []
    monkeypatch.setattr(IPython_display, "display", found.append)
    return found


@pytest.mark.parametrize("make", [hands.guidance, paint.sketch, plane.playground])
def test_a_still_picture_stays_with_its_description(make, displayed):
    make()._ipython_display_()
    text = displayed[0].data
    assert re.search(r'<img alt="[^"]{10,}" src="data:image/png;base64,', text)
    assert "<script" not in text and len(text) < 40_000


def test_without_anywidget_it_says_what_is_missing(displayed, monkeypatch):
    monkeypatch.setitem(sys.modules, "tinydiff.studio.front", None)
    hands.strength()._ipython_display_()
    assert len(displayed) == 1 and "pip install anywidget" in displayed[0].data


def test_a_move_in_the_browser_comes_back_as_a_picture():
    pytest.importorskip("anywidget")
    from tinydiff.studio.front import Front

    hand = plane.playground(n=5)
    hand.move()
    front = Front(hand)
    before = front.answer["paths"]
    front.values = front.values | {"seed": 7}
    assert front.answer["paths"] != before


def test_each_move_is_answered_even_if_the_picture_stays():
    """The browser tells by the answer whether the kernel is still there."""
    pytest.importorskip("anywidget")
    from tinydiff.studio.front import Front

    hand = live.Hand([live.slider("x", "x", 0, 0, 9)], lambda x: {"note": "the same"}, "nothing")
    front, answers = Front(hand), []
    front.observe(lambda change: answers.append(change["new"]["note"]), "answer")
    for x in (3, 4):
        front.values = {"x": x}
    assert answers == ["the same"] * 2


# --- lessons/studio.ipynb ---

STUDIO = LESSONS / "studio.ipynb"


def test_the_studio_s_outputs_are_fresh_and_need_no_kernel():
    notebook = read(STUDIO)
    assert notebook.metadata["tinydiff"]["fingerprint"] == fingerprint(notebook)
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    assert outputs and not any(is_live(o) or o.output_type == "error" for o in outputs)
    assert STUDIO.stat().st_size <= LARGEST
    words = " ".join(c.source for c in notebook.cells if c.cell_type == "markdown").split()
    assert len(words) <= 300


@pytest.mark.slow
def test_the_studio_runs_through():
    ran = run(read(STUDIO), 120)
    models = ran.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"].values()
    answers = [m["state"]["answer"] for m in models if "answer" in m["state"]]
    assert [answer["error"] for answer in answers] == [""] * 5
    assert sum(is_live(o) for cell in ran.cells for o in cell.get("outputs", ())) == 5
