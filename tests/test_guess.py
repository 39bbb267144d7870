"""Guesses: drawn beside the truth, and no more than an empty place without one."""

import pytest
from matplotlib.figure import Figure

from tinydiff.grade import guess


def drawn(g, **at):
    axes = Figure().add_subplot()
    g.draw(axes, **at)
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]


def test_without_a_guess_nothing_is_drawn_and_only_the_truth_said():
    assert drawn(guess()) == [] and not guess()
    assert guess().beside(0.13249) == "0.132" and guess().beside(32768) == "32,768"
    assert repr(guess()) == "no guess yet"


def test_a_number_is_a_line_or_a_star():
    assert drawn(guess(0.8))[0][1] == [0.8, 0.8]
    assert drawn(guess(0.8), x=3) == [([3], [0.8])]
    assert guess(0.8).beside(0.13249) == "0.132; you guessed 0.8"


def test_points_are_a_curve_from_left_to_right():
    assert drawn(guess((4, 0.5), (0, 1))) == [([0, 4], [1, 0.5])]
    assert repr(guess((4, 0.5), (0, 1))) == "your guess: (0, 1), (4, 0.5)"


@pytest.mark.parametrize("wrong", [("wide",), (1, 2), ((1, 2, 3),), (None,), (1, (2, 3)), ([1],)])
def test_anything_else_is_refused_in_one_line(wrong):
    with pytest.raises(ValueError, match="expected guess"):
        guess(*wrong)
