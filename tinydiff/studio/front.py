"""The part of a hand that lives in the browser: an anywidget; its scripts lie beside this file."""

from pathlib import Path

import anywidget
import traitlets

HERE = Path(__file__).parent
SCRIPTS = ("controls.js", "pictures.js", "easel.js", "plane.js", "hands.js")


class Front(anywidget.AnyWidget):
    """Show a Hand: send what its controls say to its `move`, and draw the answer.

    While an answer is computed, the browser keeps only the latest values (ipywidgets sends the next
    message when the kernel is idle again), so no stale work piles up.
    """

    _esm = "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    _css = (HERE / "hands.css").read_text(encoding="utf-8")
    spec = traitlets.Dict().tag(sync=True)
    values = traitlets.Dict().tag(sync=True)
    answer = traitlets.Dict().tag(sync=True)

    def __init__(self, hand):
        """Start from what the hand has drawn."""
        super().__init__(spec=hand.spec, values=hand.values, answer=hand.answer)
        self.hand, self.moves = hand, 0
        self.observe(self._moved, "values")
        self.on_msg(self._asked)

    def _moved(self, change):
        self.moves += 1  # so that an answer is sent even if its picture is the same
        self.answer = self.hand.move(**change["new"]) | {"moves": self.moves}

    def _asked(self, _, message, buffers):
        """Answer the button that saves."""
        self.send(self.hand.save(message["name"], message["replace"]))
