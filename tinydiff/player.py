"""A player for notebooks: it moves as soon as it is seen, and is dragged once its script may run.

A notebook from elsewhere is not trusted: Jupyter shows its pictures, animated ones too, but runs no
script in it. So there is an animated picture, and a script that puts the player in its place.
"""

import base64
import html
import io
import json
import os

import numpy as np
from PIL import Image

PAGE = """<div id="{name}">
<img src="{poster}" alt="{alt}" width="{width}" style="max-width:100%">
<div><small>Run this cell to drag.</small></div>
</div>
<script>(() => {{
  const times = {times}, labels = {labels};
  const [width, height, columns] = [{width}, {height}, {columns}];
  const box = document.getElementById("{name}"), grid = new Image();
  grid.onload = () => {{
    box.innerHTML = `<canvas width="${{width}}" height="${{height}}" role="img"
      style="display:block;max-width:100%;image-rendering:pixelated"></canvas>
      <div style="display:flex;align-items:center;gap:8px;margin:4px 0;font:14px sans-serif">
      <button style="width:64px;font:inherit" aria-label="play or pause">Play</button>
      <input type="range" min="0" max="${{times.length - 1}}" aria-label="picture"
        style="flex:0 1 300px;min-width:60px"><output style="white-space:nowrap"></output></div>`;
    const [screen, button, slider, label] =
      ["canvas", "button", "input", "output"].map(tag => box.querySelector(tag));
    screen.setAttribute("aria-label", {alt_text});
    let timer = null;
    const show = i => {{
      const x = i % columns * width, y = Math.floor(i / columns) * height;
      screen.getContext("2d").drawImage(grid, x, y, width, height, 0, 0, width, height);
      slider.value = i;
      label.textContent = labels[i];
      slider.setAttribute("aria-valuetext", labels[i]);
    }};
    const pause = () => {{ timer = clearTimeout(timer); button.textContent = "Play"; }};
    const play = () => {{
      if (!box.isConnected) return pause();
      show((+slider.value + 1) % times.length);
      button.textContent = "Pause";
      timer = setTimeout(play, times[slider.value]);
    }};
    button.onclick = () => timer ? pause() : play();
    slider.onpointerdown = pause;
    slider.oninput = () => {{ pause(); show(+slider.value); }};
    const keep = event => {{
      const shortcut = event.ctrlKey || event.metaKey || event.shiftKey;
      if (box.contains(event.target) && !shortcut) event.stopPropagation();
    }};
    window.addEventListener("keydown", keep, true);  // before Jupyter, which folds sections by it
    show({first});
  }};
  grid.src = "{grid}";
}})();</script>"""


def player(pictures, seconds=0.06, labels=None, alt="an animation", first=-1):
    """Make a player for notebooks: play, pause, and a slider to drag through the pictures.

    It needs no running kernel, so it also works where a notebook is only shown. Where no script may
    run, as before a cell has been run, an animated picture stands in its place. A picture that is
    held, several times in a row, counts as one. At most 256 colours.
    pictures: list of (height, width, 3) uint8; seconds: of each; labels: a text for each, such as
    "t = 640" (those of the last, held one may be one only), None = "3 of 40"; alt: what is seen,
    for who cannot see it; first: the picture shown before anything is touched, as an index of the
    pictures without those held -> IPython.display.HTML
    Raises ValueError when there is not a label for each picture.
    """
    from IPython.display import HTML

    starts = [0]
    starts += [i for i in range(1, len(pictures)) if np.any(pictures[i] != pictures[i - 1])]
    times = 1000 * seconds * np.diff([*starts, len(pictures)])
    if labels is None:
        labels = [f"{k} of {len(starts)}" for k in range(1, len(starts) + 1)]
    elif starts[-1] < len(labels) <= len(pictures):
        labels = [labels[i] for i in starts]
    else:
        raise ValueError(f"{len(pictures)} pictures, but {len(labels)} labels: one for each")
    shown = [pictures[i] for i in starts]
    (height, width, _), columns = shown[0].shape, int(np.ceil(np.sqrt(len(shown))))
    text = {"alt": html.escape(alt), "alt_text": _script(alt), "labels": _script(labels)}
    size = {"width": width, "height": height, "columns": columns}
    order = {"times": times.round().astype(int).tolist(), "first": range(len(shown))[first]}
    images = {"poster": _poster(shown, times), "grid": _webp([_grid(shown, columns)])}
    return HTML(PAGE.format(name="p" + os.urandom(4).hex(), **text, **size, **order, **images))


def _script(text):
    """Write text as a constant of a script inside of a page."""
    return json.dumps(text).replace("<", r"\u003c")


def _grid(pictures, columns):
    """Put all pictures into one, row by row, as one file is smaller: -> (..., ..., 3) uint8"""
    rows = -(-len(pictures) // columns)
    height, width, _ = pictures[0].shape
    out = np.full((rows, columns, height, width, 3), 255, np.uint8)
    out.reshape(-1, height, width, 3)[: len(pictures)] = pictures
    return out.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)


def _poster(pictures, times):
    """Make an animated picture, of many every second one, as slow as the player -> data URI"""
    few = 1 if len(pictures) < 8 else 2
    picked = range((len(pictures) - 1) % few, len(pictures), few)
    return _webp([pictures[i] for i in picked], np.add.reduceat(times, picked).round(), colours=64)


def _webp(pictures, milliseconds=0, colours=256):
    """Write pictures, all with the same few colours, as a WebP without loss -> data URI"""
    together, plain = np.concatenate(pictures), Image.Dither.NONE
    step = 1 + int(np.sqrt(together.size) / 1000)  # a million values are enough to choose by
    few = Image.fromarray(together[::step, ::step]).quantize(colours, kmeans=1, dither=plain)
    together = Image.fromarray(together).quantize(palette=few, dither=plain).convert("RGB")
    first, *others = map(Image.fromarray, np.split(np.asarray(together), len(pictures)))
    options = {"lossless": True, "method": 6, "loop": 0}
    if others:
        timing = {"duration": np.asarray(milliseconds, int).tolist()}
        options |= {"save_all": True, "append_images": others} | timing
    file = io.BytesIO()
    first.save(file, format="WEBP", **options)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
