"""A verdict in a notebook: legible in every theme, the strip that came beside the right one."""

import json
import re

import pytest

from tinydiff.course import drawn, exercises, grade, record
from tinydiff.course.verdict import COLOURS, GREY, INK, PAPER, Verdict, in_order

LINES = [("test", "test_x[a]"), ("why", "x < 1 & y"), ("slip", "you forgot the <root>")]
FAILED = Verdict("diffusion.q_sample", "failed", in_order(LINES))


def luminance(colour):
    """Take "#rrggbb" -> relative luminance (WCAG 2)"""
    parts = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a, b):
    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def test_every_text_stands_out_from_the_card_whatever_the_theme():
    """No colour has a contrast of 4.5 with white and with #111: so the card has its own paper."""
    assert all(contrast(c, PAPER) >= 4.5 for c in (INK, GREY, *COLOURS.values()))
    for state in ("passed", "failed", "not attempted", "cannot be graded"):
        html = Verdict("ops.up", state, FAILED.lines)._repr_html_()
        card = html[: html.index(">")]
        assert f"background-color:{PAPER}" in card and f"color:{INK}" in card
        assert set(re.findall(r"[;']color:(#\w+)", html)) <= {INK, GREY, *COLOURS.values()}
        rows = re.findall(r"<t[rd] style='([^']*)'", html)  # themes colour every second row
        assert len(rows) == 9 and all(f"background-color:{PAPER}" in style for style in rows)


def test_the_slip_comes_first_and_bold_the_test_last():
    html = FAILED._repr_html_()
    assert [head for head, _ in FAILED.lines] == ["slip", "why", "test"]
    assert "<b>you forgot the &lt;root&gt;</b>" in html and "x &lt; 1 &amp; y" in html
    assert html.index("slip") < html.index("why") < html.index("test_x")


def test_states_differ_by_more_than_colour_and_nothing_is_left_empty():
    passed = Verdict("ops.up", "passed")._repr_html_()
    assert "\u2713 ops.up: passed" in passed and "\u2717 diffusion" in FAILED._repr_html_()
    assert not re.search("<table|<details|<img", passed)


def test_prints_are_folded_and_pictures_have_words():
    drawing = (("yours: <six>", "AAAA"), ("as it should be: six", ""))
    html = Verdict("ops.up", "failed", (), 0.0, ("a<b\n", 30), drawing)._repr_html_()
    assert "<details><summary>it printed 30 lines while it was tested</summary>" in html
    assert "a&lt;b" in html and html.count("<img") == 1
    assert 'alt="yours: &lt;six&gt;" src="data:image/png;base64,AAAA"' in html


# --- strips ---

DRAWING = [e for e in exercises.exercises() if drawn.draws(e)]


def test_what_is_shown_at_work_is_an_exercise():
    assert set(drawn.demonstrations()) == {e.name for e in DRAWING} and len(DRAWING) >= 15


@pytest.mark.parametrize("exercise", DRAWING, ids=lambda e: e.name)
def test_a_slip_is_seen_and_a_right_answer_draws_what_it_should(exercise):
    assert drawn.right(exercise)
    assert drawn.strips(exercise, exercises.original(exercise)) == ()
    seen = [
        drawn.strips(exercise, exercises.mutant(exercise, o, n)) for o, n, _ in exercise.mutants
    ]
    shown = [strips for strips in seen if strips and strips[0][1]]
    assert shown, "no slip of this exercise shows"
    for (yours, mine), (right, should) in shown:
        assert yours.startswith("yours: ") and right.startswith("as it should be: ")
        assert mine != should


def test_a_function_that_raises_is_shown_what_should_come():
    def q_sample(s, x0, t, eps):
        raise KeyError("oh")

    yours, right = drawn.strips(exercises.find("q_sample"), q_sample)
    assert yours == ("yours drew nothing (KeyError: 'oh')", "") and right[1]


def test_what_still_needs_another_exercise_draws_nothing():
    def q_sample(s, x0, t, eps):
        raise NotImplementedError("schedule.linear is an exercise of lesson 01")

    assert drawn.strips(exercises.find("q_sample"), q_sample) == ()


def test_other_results_than_pictures_are_named():
    yours, _ = drawn.strips(exercises.find("q_sample"), lambda s, x0, t, eps: x0[..., None])
    assert "an array of shape (6, 16, 16, 3, 1) is no row of images" in yours[0]


# --- progress ---


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Be in a notebook, in an empty folder -> list of what is displayed"""
    shown = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(record.ELSEWHERE, raising=False)
    monkeypatch.setattr(grade, "_in_notebook", lambda: True)
    monkeypatch.setattr(grade, "_display", shown.append)
    return shown


def wrong_and_right():
    exercise = exercises.find("q_sample")
    old, new, _ = exercise.mutants[0]
    same = exercises.rewritten(exercise, grade.inspect.getsource(exercises.original(exercise)))
    return exercises.mutant(exercise, old, new), same


def test_a_notebook_shows_the_strips_and_how_many_passed(notebook, tmp_path):
    wrong, right = wrong_and_right()
    for f in (right, wrong, right):
        grade.check(f)
    lines = [dict(verdict.lines)["lesson"] for verdict in notebook]
    assert lines == [f"{n} of 4 exercises of this lesson passed" for n in (1, 0, 1)]
    assert [len(verdict.drawn) for verdict in notebook] == [0, 2, 0]
    (kept,) = tmp_path.iterdir()
    assert json.loads(kept.read_text()) == {"passed": ["diffusion.q_sample"]}
    grade.progress()
    assert "01_forward            1 of 4" in str(notebook[-1]).splitlines()
    assert "<td" in notebook[-1]._repr_html_()


def test_required_answers_and_untouched_ones_are_not_kept(notebook, tmp_path):
    def q_sample(s, x0, t, eps):
        raise NotImplementedError

    grade.check(wrong_and_right()[1], required=True)
    grade.check(q_sample)
    assert list(tmp_path.iterdir()) == [] and "lesson" not in dict(notebook[0].lines)


def test_a_script_keeps_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    grade.check(wrong_and_right()[0])
    assert list(tmp_path.iterdir()) == [] and "of this lesson" not in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "[]", '{"passed": 3}', '{"passed": [1]}', "\x00", None])
def test_a_record_that_cannot_be_read_is_none(notebook, tmp_path, content):
    path = tmp_path / record.NAME
    path.mkdir() if content is None else path.write_text(content)
    assert record.read() == set()


def test_where_nothing_can_be_kept_nothing_is_said(notebook, tmp_path, monkeypatch):
    exercise = exercises.find("q_sample")
    monkeypatch.setenv(record.ELSEWHERE, "")
    assert record.note(exercise, True) is None
    monkeypatch.setenv(record.ELSEWHERE, str(tmp_path / "here.json"))
    assert record.note(exercise, True) == "1 of 4 exercises of this lesson passed"
    monkeypatch.setenv(record.ELSEWHERE, str(tmp_path))
    assert record.note(exercise, True) is None
