"""Bug hunts: each suspect does what is said of it, and the right answers are known as right."""

import inspect
import json
import re
import runpy
from pathlib import Path

import pytest

from tinydiff.course import exercises, grade, hunts, suspects

FILES = sorted((Path(__file__).parent / "hunts").glob("*.py"))
LINEUPS = {k: v for path in FILES for k, v in runpy.run_path(str(path))["HUNTS"].items()}
each_hunt = pytest.mark.parametrize("hunt", LINEUPS)


asked = [
    pytest.param(hunt, marks=pytest.mark.exercise(f"hunts.{hunt}"))
    for hunt in dir(hunts)
    if hunt.startswith("hunt_")
]


@pytest.mark.parametrize("hunt", asked)
def test_the_suspects_are_judged_rightly(hunt):
    suspects.assert_named(hunt, getattr(hunts, hunt)())


@each_hunt
def test_the_package_s_answer_is_what_the_file_says(hunt):
    assert getattr(hunts, hunt)() == {k: step for k, (*_, step) in LINEUPS[hunt].items()}


@each_hunt
def test_a_wrong_step_is_not_taken(hunt):
    right = getattr(hunts, hunt)()
    for letter in right:
        other = 0 if right[letter] else 1
        with pytest.raises(AssertionError, match=f"one of the {len(right)} suspects is misjudged"):
            suspects.assert_named(hunt, right | {letter: other})
        with pytest.raises(AssertionError, match=f"{letter}: 99 is no step"):
            suspects.assert_named(hunt, right | {letter: 99})


@each_hunt
def test_the_steps_are_numbered_in_the_docstring(hunt):
    steps = re.findall(r"^(\d)  ", inspect.getdoc(getattr(hunts, hunt)), re.M)
    assert [int(step) for step in steps] == list(range(1, len(steps) + 1)) and len(steps) >= 4
    found = {step for *_, step in LINEUPS[hunt].values()}
    assert found - {0} <= set(map(int, steps)) and 3 <= len(LINEUPS[hunt]) <= 5


@each_hunt
def test_a_suspect_is_what_its_file_says(hunt):
    """A slip changes the source; those who have one fail the tests where there are some."""
    lineup = suspects.suspects(hunt)
    by_name = {e.name: e for e in exercises.exercises()}
    for letter, (of, old, new, step) in LINEUPS[hunt].items():
        assert (old == new) == (old is None) == (step == 0)
        exercise = by_name.get(".".join(of.split(".")[-2:]))  # design.edit.inpaint -> edit.inpaint
        if exercise:
            (verdict,) = grade.judge_all(exercise, [lineup[letter]])
            assert verdict.state == ("failed" if step else "passed"), letter


def test_suspects_are_the_package_s_also_where_an_answer_has_taken_its_place(monkeypatch):
    """As after check(ddpm, adopt=True), earlier in the same lesson."""

    def ddpm(eps_model, s, shape, rng, x_T=None):
        yield x_T

    before = suspects._hunts()
    monkeypatch.setattr(suspects, "_hunts", suspects._hunts.__wrapped__)
    with exercises.in_place(exercises.find("ddpm"), ddpm):
        assert suspects._hunts() == before


def test_a_handout_keeps_what_is_asked_for_unread(tmp_path, monkeypatch):
    packed = suspects.packed(["hunt_sampler"])
    assert "noise" not in json.dumps(packed)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / suspects.HUNTS).write_text(json.dumps(packed), encoding="utf-8")
    monkeypatch.setattr(suspects, "ROOT", tmp_path)
    monkeypatch.setattr(suspects, "in_handout", lambda: True)
    monkeypatch.setattr(suspects, "_hunts", suspects._hunts.__wrapped__)
    suspects.assert_named("hunt_sampler", hunts.hunt_sampler())
    assert set(suspects.suspects("hunt_sampler")) == {"A", "B", "C"}


FORMS = [None, 3, {"A": 4}, {"A": 4, "B": 0, "C": 5, "D": 1}, {"A": 4.0, "B": 0, "C": 5}]


@pytest.mark.parametrize("answer", FORMS)
def test_an_answer_of_another_form_is_told_the_form(answer):
    with pytest.raises(AssertionError, match="return a dict with a step for each of A, B, C"):
        suspects.assert_named("hunt_sampler", answer)


def test_an_unknown_hunt_is_named():
    with pytest.raises(ValueError, match="there is no hunt 'hunt_fox'; there are: "):
        suspects.suspects("hunt_fox")
