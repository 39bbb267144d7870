"""What came of grading one function, as text and as HTML for a notebook."""

from dataclasses import dataclass
from html import escape

# what helps most comes first
ORDER = "slip why called came expected reread now lesson ran gpu test".split()
PAPER, INK, GREY = "#fafafa", "#1f1f1f", "#595959"  # a card of its own: read in every theme
COLOURS = {"passed": "#1b6e33", "failed": "#b3261e"}  # others: GREY
MARKS = {"passed": "\u2713 ", "failed": "\u2717 "}  # never by colour alone


@dataclass(frozen=True, repr=False)
class Verdict:
    """What came out of grading one function.

    state: "passed", "failed", "not attempted" or "cannot be graded"
    lines: (heading, text) that say why; printed: (its first lines, how many lines in all), what the
    function printed meanwhile; drawn: (caption, PNG in base64, or "" for none), see drawn.py
    used: names of the exercises whose answers its tests called, in a student's tree
    """

    exercise: str
    state: str
    lines: tuple = ()
    seconds: float = 0.0
    printed: tuple = ("", 0)
    drawn: tuple = ()
    used: tuple = ()

    def __repr__(self):
        lines = [f"  {head:9s}{text}" for head, text in self.lines]
        text, count = self.printed
        if count:
            indented = text.rstrip("\n").replace("\n", "\n    ")
            lines.append(f"  {_printed(count)}\n    {indented}")
        return "\n".join([f"{self.exercise}: {self.state}", *lines])

    def _repr_html_(self):
        colour = COLOURS.get(self.state, GREY)
        title = f"{MARKS.get(self.state, '')}{escape(self.exercise)}: {self.state}"
        box = f"border-left:4px solid {colour};padding:.3em 1em;color:{INK}"
        parts = [f"<b style='color:{colour}'>{title}</b>", self._table(), self._pictures()]
        text, count = self.printed
        if count:
            shown = f"<div style='white-space:pre-wrap;font-family:monospace'>{escape(text)}</div>"
            parts.append(f"<details><summary>{_printed(count)}</summary>{shown}</details>")
        return f"<div style='{box};background-color:{PAPER}'>{''.join(parts)}</div>"

    def _table(self):
        if not self.lines:
            return ""
        rows = "".join(_row(head, text) for head, text in self.lines)
        return f"<table style='margin:0;border:0;color:{INK}'>{rows}</table>"

    def _pictures(self):
        figures = "".join(_figure(caption, png) for caption, png in self.drawn)
        return f"<div style='padding-top:.3em'>{figures}</div>" if figures else ""


def _row(head, text):
    cell = f"text-align:left;vertical-align:top;border:0;background-color:{PAPER}"
    wide = f"{cell};white-space:pre-wrap;max-width:60em;color:{INK}"
    text = f"<b>{escape(text)}</b>" if head == "slip" else escape(text)
    said = f"<td style='{cell};color:{GREY}'>{escape(head)}</td><td style='{wide}'>{text}</td>"
    return f"<tr style='background-color:{PAPER}'>{said}</tr>"


def _figure(caption, png):
    alt = escape(caption, quote=True)
    look = "display:block;max-width:100%;image-rendering:pixelated;margin:0"
    picture = f'<img alt="{alt}" src="data:image/png;base64,{png}" style="{look}">' if png else ""
    return f"<div style='padding:.2em 0;color:{INK}'>{picture}{escape(caption)}</div>"


def _printed(count):
    return f"it printed {count} line{'s' * (count != 1)} while it was tested"


def in_order(lines):
    """Sort the lines of a Verdict: iterable of (heading, text) -> tuple, the slip first"""
    place = lambda line: ORDER.index(line[0])
    return tuple(sorted(lines, key=place))
