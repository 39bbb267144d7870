"""The course is walked in the ways in which a class walks it; see robot.py for the whole table."""

import nbformat
import pytest
import robot

from tinydiff.course import exercises, handout


def ran(*cells):
    """Make a notebook that ran: (source, what it showed) or (source, error) -> notebook"""
    notebook = nbformat.v4.new_notebook()
    for source, came in cells:
        cell = nbformat.v4.new_code_cell(source)
        if isinstance(came, Exception):
            kind, last = type(came).__name__, f"{type(came).__name__}: {came}"
            output = nbformat.v4.new_output(
                "error", ename=kind, evalue=str(came), traceback=["\x1b[31mline 1\x1b[0m", last]
            )
        else:
            output = nbformat.v4.new_output("stream", text=came)
        cell.outputs = [output]
        notebook.cells.append(cell)
    return notebook


NEEDS = "This cell needs {}, an exercise of lesson {} that is not written yet: write it\n"


@pytest.mark.parametrize(
    "came, problems",
    [
        ("all is well", []),
        (NEEDS.format("ops.down", "07_unet"), []),
        (NEEDS.format("ops.down", "12_editing"), []),
        (NEEDS.format("edit.translate", "13_style"), ["cell 0 needs edit.translate of a later"]),
        (KeyError("x"), ["cell 0 raises KeyError: 'x'"]),
        ("NotImplementedError\n", ["cell 0 says no more than NotImplementedError"]),
        (NotImplementedError(), ["cell 0 raises", "cell 0 says no more than NotImpl"]),
    ],
)
def test_the_robot_sees_what_must_never_come(came, problems):
    found = robot.errors(ran(("x", came)), "12_editing")
    pairs = zip(found, problems, strict=True)
    assert all(said.startswith(words) for said, words in pairs), found


def test_the_robot_sees_what_could_not_run_and_what_a_check_did_not_say():
    maker = "name 's' is not defined. Perhaps a cell above, In[3], makes it"
    notebook = ran(("a", "fine"), ("b", NEEDS.format("ops.up", "07_unet")), ("c", maker))
    assert [words.split(":")[0] for words in robot.missed(notebook)] == ["cell 1", "cell 2"]
    own = [exercises.find("q_step"), exercises.find("q_sample")]
    checks = ran(
        ("check(q_step)", "diffusion.q_step: passed"),
        ("check(q_sample)", "diffusion.q_sample: failed"),
    )
    assert robot.unsaid(checks, own, ": passed") == ["check says not 'diffusion.q_sample: passed'"]


@pytest.mark.slow
def test_the_robot_finds_a_lost_fixture(monkeypatch):
    """As it was once in the handout of lesson 12, of which nothing could be graded."""
    monkeypatch.setattr(handout, "_autouse", lambda nodes: set())
    (row,) = robot.walk("12", "a", whole=False)
    assert "inpaint is cannot be graded" in row.problems and row.points[0] != row.points[-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", robot.handouts())
def test_in_every_handout_every_exercise_can_be_answered_and_graded(name):
    """Untouched, answered in the order of the lessons, and with all answers in tinydiff/."""
    rows = list(robot.walk(name, whole=False))
    assert [str(row) for row in rows if row.problems] == []
    assert len(rows) == 3 * len(handout.lesson_files(robot.numbers(name)))


@pytest.mark.slow
def test_two_lessons_that_build_on_each_other_run_from_top_to_bottom():
    """Lesson 12 must not need what lesson 13 asks for."""
    assert [str(row) for row in robot.walk("12-13") if row.problems] == []
