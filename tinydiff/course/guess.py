"""Guess first: what a student expects of a figure, drawn into it beside what comes."""

from numbers import Real


class Guess:
    """What somebody expects: nothing, one number, or a curve through points. Made by `guess`.

    points: tuple of (x, y), where x is None for a single number; empty = no guess
    """

    def __init__(self, points):
        self.points = points

    def __bool__(self):
        return bool(self.points)

    def __repr__(self):
        return "no guess yet" if not self else f"your guess: {self._words()}"

    def _words(self):
        return ", ".join(f"{y:g}" if x is None else f"({x:g}, {y:g})" for x, y in self.points)

    def draw(self, axes, x=None):
        """Draw it, in black and dashed, with the label "your guess"; nothing where none was made.

        A curve goes through its points. A number becomes a star at x, or without x a level line.
        axes: matplotlib's -> None
        """
        look = {"color": "black", "linestyle": "--", "label": "your guess", "zorder": 9}
        if not self:
            return
        if self.points[0][0] is not None:
            axes.plot(*zip(*self.points, strict=True), marker="o", **look)
        elif x is None:
            axes.axhline(self.points[0][1], **look)
        else:
            axes.plot([x], [self.points[0][1]], marker="*", markersize=14, **look)

    def beside(self, truth):
        """Set the guess beside what came: number -> str

        "0.132; you guessed 0.5" or, without a guess, "0.132"
        """
        came = f"{truth:.3g}" if abs(truth) < 1000 else f"{truth:,.0f}"
        return f"{came}; you guessed {self._words()}" if self else came


def guess(*expected):
    """Note what you expect, before you look: nothing, a number, or points of a curve.

    guess()                       no guess: figures show only what came
    guess(0.8)                    a number
    guess((0, 1), (500, 0.5))     a curve, by points (x, y) in any order
    -> Guess; its draw(axes) and beside(truth) set it beside the truth
    Raises ValueError for anything else.
    """
    if len(expected) == 1 and isinstance(expected[0], Real):
        return Guess(((None, expected[0]),))
    is_pair = [isinstance(p, tuple | list) and len(p) == 2 for p in expected]
    if not all(is_pair) or not all(isinstance(v, Real) for p in expected for v in p):
        how = "guess(), one number as in guess(0.8), or points as in guess((0, 1), (500, 0.5))"
        raise ValueError(f"came guess{expected!r}; expected {how}")
    return Guess(tuple(sorted(tuple(p) for p in expected)))
