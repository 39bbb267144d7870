"""A hand: controls, and what is drawn for their values; live in a notebook, else a still picture.

    hand = Hand(controls, draw)         # as a cell's last expression it shows itself
    hand.move(w=3.0)                    # what a dragged slider does -> the new answer

In a saved notebook the still picture stays: it needs neither a kernel nor scripts.
"""

import base64
import html
import io
import traceback
from pathlib import Path

import numpy as np
from PIL import Image

from .. import plot
from ..data import to_uint8

PACKAGE = Path(__file__).resolve().parents[1]
MISSING = "To move the controls: pip install anywidget, then restart the kernel."
# Hidden while the live widget is there; the second rule hides what JupyterLab says of a widget
# whose kernel has gone.
STYLE = """<style>
.jp-OutputArea:has(.td-hand) .td-still { display: none; }
.jp-OutputArea:has(.td-still) .jupyter-widgets:not(:has(*)) { display: none; }
</style>"""


class Hand:
    """Controls, and what is drawn for their values.

    controls: list of dicts made by `slider`, `choice`, `dice` and their like, in order
    draw: one keyword per control -> answer, a dict that holds "rows", a list of `row`; "note", a
    line below them; "given", a row for the still picture alone; or what the plane draws
    title: what is seen, for those who can't see it
    easel: a dict, see paint.py, or None; kind: "hand" or "plane"
    still: (answer, title) -> HTML, what stays without a kernel
    saves: {"png": () -> picture, "gif": () -> list of pictures}, (height, width, 3) uint8, or some
    """

    def __init__(self, controls, draw, title, easel=None, kind="hand", still=None, saves=None):
        """Take the controls' first values; nothing is drawn before it is shown or moved."""
        self.controls, self.draw, self.title, self.saves = controls, draw, title, saves or {}
        self.spec = {"controls": controls, "kind": kind, "title": title, "easel": easel}
        self.spec["saves"] = list(self.saves)
        self.values = {c["name"]: c["value"] for c in [*controls, *([easel] if easel else [])]}
        self.answer, self.still = {}, still or still_rows

    def move(self, **values):
        """Move controls and draw -> answer; an error of the code that draws is one line in it."""
        self.values = self.values | values
        try:
            self.answer = {"rows": [], "note": "", "error": ""} | self.draw(**self.values)
        except Exception as e:
            self.answer = {"rows": [], "note": ""} | self.answer | {"error": one_line(e)}
        return self.answer

    def save(self, name, replace=False, folder="."):
        """Save what is seen beside the notebook; a file that is there is replaced only if asked.

        name: "leaves.png"; replace: bool
        -> {"text": what was done or why not, "name", "asks": whether to ask for `replace`}
        """
        path, said = Path(folder, name), {"name": name, "asks": False}
        content = self.saves.get(Path(name).suffix[1:])
        if Path(name).name != name or name.startswith(".") or content is None:
            return said | {"text": f"give a name that ends in .{' or .'.join(self.saves)}"}
        if path.exists() and not replace:
            return said | {"text": f"{name} exists: press again to replace it", "asks": True}
        if not self.answer.get("rows"):
            return said | {"text": "nothing is drawn yet"}
        try:
            write = plot.save_gif if path.suffix == ".gif" else plot.save_png
            write(content(), path)
        except OSError as e:
            return said | {"text": one_line(e)}
        return said | {"text": f"saved {name}"}

    def seen(self, scale=16):
        """Lay out the last row of the answer: pixels, enlarged -> (height, width, 3) uint8"""
        made = self.answer["rows"][-1]
        images = pictures(made).astype(np.float32) / 127.5 - 1
        return plot.sheet(images, made["columns"], scale=scale)

    def _ipython_display_(self):
        """Show the still picture, and over it, where there is anywidget, the live one."""
        from IPython.display import HTML, display

        answer = self.answer or self.move()
        try:
            from .front import Front
        except ImportError:
            Front = None
        invitation = "Run this cell to move the controls." if Front else MISSING
        picture = self.still(answer, self.title)
        words = html.escape(answer["error"] or answer["note"])
        below = f"<p>{words}</p><p><em>{invitation}</em></p>"
        display(HTML(f'{STYLE}<div class="td-still">{picture}{below}</div>'))
        if Front:
            display(Front(self))


# --- what an answer is made of ---


def row(images, label="", captions=(), scale=6, repeat=1, columns=0):
    """Make one row of pictures for an answer.

    images: (N, H, W, C) in [-1, 1]; label: a line above; captions: N lines below, or none; scale:
    pixels on the screen for one of the picture; repeat: each picture is laid so often side by side
    and below; columns: pictures per line, 0 = as many as fit -> dict
    Raises ValueError for another shape, and for values that are no numbers.
    """
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(f"pictures have shape (N, H, W, C); got {images.shape}")
    if not np.isfinite(images).all():
        raise ValueError("the picture holds values that are no numbers (NaN or infinite)")
    pixels = np.tile(to_uint8(images), (1, repeat, repeat, 1))
    pixels = np.broadcast_to(pixels, (*pixels.shape[:3], 3))
    made = {"label": label, "captions": list(captions), "scale": scale}
    fitting = max(1, 700 // (pixels.shape[2] * scale))
    made["columns"] = columns or min(len(pixels), fitting)
    return made | {"shape": list(pixels.shape), "pixels": pixels.tobytes()}


def pictures(made):
    """Take the pictures out of a row: dict -> (N, H, W, 3) uint8"""
    return np.frombuffer(made["pixels"], np.uint8).reshape(made["shape"])


def one_line(error):
    """Say in one line what went wrong and where in the reader's own code: exception -> str"""
    message = (str(error).strip().splitlines() or [""])[0]
    inside = (str(PACKAGE), "site-packages", "dist-packages", "<frozen", "/lib/python")
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not any(place in f.filename for place in inside)]
    where = f"{own[-1].name}, line {own[-1].lineno}: " if own else ""
    if isinstance(error, NotImplementedError):
        return message or f"{own[-1].name if own else 'a function'} is not written yet"
    return f"{where}{type(error).__name__}: {message}"


# --- what stays without a kernel ---


def image_tag(picture, alt, colours=128):
    """Put a picture into HTML, with so many colours at most.

    picture: (height, width, 3) uint8; alt: what it shows -> str
    """
    f, image = io.BytesIO(), Image.fromarray(picture)
    if image.getcolors(colours) is None:
        image = image.quantize(colours, kmeans=1, dither=Image.Dither.NONE)
    image.save(f, format="PNG", optimize=True)
    source = base64.b64encode(f.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{source}">'


def still_rows(answer, title):
    """Lay an answer's rows out as pictures: dict, what is seen -> HTML"""
    tags, given = [], [answer["given"]] if "given" in answer else []
    for made in [*given, *answer["rows"]]:
        images = pictures(made).astype(np.float32) / 127.5 - 1
        picture = plot.sheet(images, made["columns"], scale=max(1, min(made["scale"], 6)))
        label = made["label"] or title
        tags.append(f"<p>{html.escape(made['label'])}</p>" if made["label"] else "")
        tags.append(image_tag(picture, f"{title}: {label}" if label != title else title))
    return "".join(tags)


# --- controls ---


def slider(name, label, value, low, high, step=1, hint=""):
    """Make a slider: name of the keyword, its label, first value, ends and step -> dict"""
    ends = {"low": low, "high": high, "step": step}
    return {"kind": "slider", "name": name, "label": label, "value": value, "hint": hint} | ends


def choice(name, label, value, options, hint=""):
    """Make a list to choose from: options: list of str, or {shown: value} -> dict"""
    options = options if isinstance(options, dict) else {str(o): o for o in options}
    known = {"options": [[shown, v] for shown, v in options.items()], "hint": hint}
    return {"kind": "choice", "name": name, "label": label, "value": value} | known


def dice(name="seed", label="other noise", value=0):
    """Make a button that adds 1 to a number, such as the seed of the noise -> dict"""
    return {"kind": "dice", "name": name, "label": label, "value": value}


def colours(name, label, value, most=4):
    """Make a row of colour pickers: value: list of "#rrggbb"; most: so many at most -> dict"""
    return {"kind": "colours", "name": name, "label": label, "value": value, "most": most}
