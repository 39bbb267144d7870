"""Pictures out: sheets of images, chains as frames and as GIF, figures, and their colours.

Images are (N, H, W, C) in [-1, 1], C = 1 or 3. The suffix of a file's name says what it is: PNG,
or for animations GIF, APNG or WebP.
"""

import io
from itertools import takewhile
from pathlib import Path

import numpy as np
from PIL import Image

from .data import to_uint8
from .files import write_whole
from .player import player  # noqa: F401

# Colours that differ also for readers with red-green colour blindness, and from white paper.
BLUE, ORANGE, GREEN, RED = "#2b6cb0", "#dd7a1f", "#17a56b", "#9c1f33"
VIOLET, GREY = "#8a3ffc", "#6b6f76"
CYCLE = [BLUE, ORANGE, GREEN, RED, VIOLET, GREY]  # of matplotlib's C0 .. C5
JUDGED = {"worse": ("#f0a58f", "✗"), "normal": ("#e3f4ea", "✓"), "better": ("#a9c9ef", "▲")}


def style(dpi=90):
    """Set how matplotlib draws: our colours as C0 .. C5, no box, text of 11 pixels or more.

    dpi: pixels per inch of a figure's size, 80 or more -> None
    """
    import matplotlib

    spines = {"axes.spines.top": False, "axes.spines.right": False}
    text = {"font.size": 10, "legend.frameon": False}
    cycle = {"axes.prop_cycle": matplotlib.cycler(color=CYCLE)}
    matplotlib.rcParams.update({"figure.dpi": dpi} | spines | text | cycle)


def judged(axes, box, value, kind):
    """Draw a field of a score board: its colour and a sign say how good a value is.

    axes: of matplotlib; box: left, bottom, width, height, in the axes' data; value: text;
    kind: "worse" ✗, "normal" ✓ or "better" ▲, compared to real images -> None
    """
    from matplotlib.patches import Rectangle

    (left, bottom, width, height), (color, sign) = box, JUDGED[kind]
    axes.add_patch(Rectangle((left, bottom), width, height, color=color, linewidth=0))
    place = left + width / 2, bottom + height / 2
    axes.text(*place, f"{sign} {value}", ha="center", va="center", fontsize=10)


def figure(**options):
    """Make a matplotlib Figure that a notebook shows, also where pyplot has not been imported.

    options: as for matplotlib's Figure, whose size is in inches: figsize, dpi, layout -> Figure
    """
    from matplotlib.figure import Figure

    class Shown(Figure):
        def _repr_png_(self):
            file = io.BytesIO()
            self.savefig(file, format="png", bbox_inches="tight")  # as pyplot's are shown
            return file.getvalue()

    return Shown(**options)


def alt_texts(source):
    """Read what a cell's figures show, for readers who cannot see them, from how its code begins.

    One comment for each figure, over as many lines as it takes: "# Figure: the loss, falling"
    source: code -> list of str, empty where nothing is said
    """
    comments = takewhile(lambda line: line.startswith("#"), source.splitlines())
    words = " ".join(line[1:].strip() for line in comments)
    return [text.strip() for text in words.split("Figure: ")[1:]]


def sheet(images, columns, gap=1, scale=1, paper=255):
    """Lay images out in rows, left to right.

    images: (N, H, W, C) in [-1, 1]; columns: images per row; gap: pixels between images; scale:
    each pixel is drawn scale x scale; paper: 0 .. 255, the grey between -> (height, width, 3) uint8
    """
    N, H, W, _ = images.shape
    rows = -(-N // columns)
    out = np.full((rows, columns, H + gap, W + gap, 3), paper, np.uint8)
    cells = out.reshape(-1, H + gap, W + gap, 3)
    cells[:N, :H, :W] = to_uint8(images)
    out = out.transpose(0, 2, 1, 3, 4).reshape(rows * (H + gap), columns * (W + gap), 3)
    framed = np.pad(out, ((gap, 0), (gap, 0), (0, 0)), constant_values=paper)
    return framed.repeat(scale, 0).repeat(scale, 1)


def labelled(images, columns, labels, title=None, scale=5):
    """Draw a sheet with a label beside each row.

    images: (N, H, W, C); columns: images per row; labels: one string per row; scale: as for sheet
    -> matplotlib Figure
    """
    picture = sheet(images, columns, scale=scale)
    height, width = picture.shape[:2]
    margin, head = 30 + 7 * max(map(len, labels)), 30 if title else 8  # room for the words
    W, H = width + margin + 8, height + head + 8
    drawn = figure(figsize=(W / 100, H / 100), dpi=100)
    axes = drawn.add_axes((margin / W, 8 / H, width / W, height / H))
    axes.imshow(picture, interpolation="nearest", aspect="auto")
    row = height / len(labels)
    axes.set_yticks([row * (i + 0.5) for i in range(len(labels))], labels)
    axes.set_xticks([])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title:
        axes.set_title(title, fontsize=10)
    return drawn


def losses(values, window=50):
    """Draw a loss curve: each step's loss, and its running mean over a window of steps.

    values: (steps,) -> matplotlib Figure
    """
    drawn = figure(figsize=(6, 3.5), dpi=120, layout="constrained")
    loss_curve(drawn.subplots(), values, window)
    return drawn


def loss_curve(axes, values, window=50):
    """Draw a loss curve into axes of matplotlib, as `losses` does: values (steps,) -> None"""
    from matplotlib.ticker import LogLocator

    steps = np.arange(1, len(values) + 1)
    axes.plot(steps, values, color="0.8", linewidth=0.7, label="each step")
    if len(values) >= window:
        means = np.convolve(values, np.full(window, 1 / window), mode="valid")
        axes.plot(steps[window - 1 :], means, color=BLUE, label=f"mean of {window} steps")
    axes.set(xlabel="training step", ylabel="loss (mean squared error)", yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter("{x:g}")  # 0.2, not 2 x 10^-1
    axes.yaxis.set_minor_formatter("")
    axes.legend(frameon=False)


def frames(chain, columns, scale=4, count=40, gap=1):
    """Turn a sampler's steps into the frames of an animation: evenly spaced ones, the last held.

    chain: list of (N, H, W, C), x_T .. x_0; columns, scale, gap: as for sheet; count: frames before
    the last is held -> list of (height, width, 3) uint8
    """
    drawn = [sheet(chain[i], columns, gap, scale) for i in picked(len(chain), count)]
    return drawn + [drawn[-1]] * 15


def picked(steps, count=40):
    """Pick evenly spaced steps, the first and the last among them: which ones `frames` draws.

    steps: how many there are; count: how many to pick, at most -> array of indices
    """
    return np.unique(np.linspace(0, steps - 1, count).round().astype(int))


def save_figure(figure, path):
    """Write a matplotlib Figure as PNG, whole or not at all -> the path

    Raises OSError when it cannot be written, or path has another suffix than .png.
    """
    return _save(path, (".png",), lambda f: figure.savefig(f, format="png"))


def save_png(picture, path):
    """Write a picture as PNG, whole or not at all. picture: (height, width, 3) uint8 -> the path

    Raises OSError when it cannot be written, or path has another suffix than .png.
    """
    return _save(path, (".png",), lambda f: Image.fromarray(picture).save(f, format="PNG"))


def save_picture(picture, path, texts=None):
    """Write a picture of any mode as PNG, whole or not at all.

    picture: PIL.Image.Image of (height, width) pixels; texts: PIL.PngImagePlugin.PngInfo, or None
    -> the path
    Raises OSError when it cannot be written, or path has another suffix than .png.
    """
    return _save(path, (".png",), lambda f: picture.save(f, format="PNG", pnginfo=texts))


def save_gif(pictures, path, seconds=0.06, tick=lambda: None):
    """Write pictures as an endless GIF, whole or not at all.

    A frame of a GIF has at most 256 colours: a picture with that few is kept exactly, of others
    each gets 256 that come close to all of its own.
    pictures: list of (height, width, 3) uint8; seconds: of each frame, 0.02 .. 655, which a GIF
    counts in hundredths; tick: called after each picture, which may take a second -> the path
    Raises OSError when it cannot be written, or path has another suffix than .gif.
    """

    def write(f):
        made = {}
        for picture in pictures:
            if id(picture) not in made:  # it is not held
                made[id(picture)] = _with_palette(picture)
            tick()
        frames = [made[id(picture)] for picture in pictures]
        duration = 10 * max(2, round(100 * seconds))  # Pillow cuts; browsers ignore 0.01
        timing = {"duration": duration, "loop": 0, "optimize": False}
        frames[0].save(f, format="GIF", save_all=True, append_images=frames[1:], **timing)

    return _save(path, (".gif",), write)


def _with_palette(picture):
    """Choose 256 colours for a picture, (height, width, 3) uint8, or keep all of fewer

    -> PIL.Image.Image of mode P
    """
    colours, place, counts = np.unique(_packed(picture), return_inverse=True, return_counts=True)
    colours = np.stack([colours >> 16, colours >> 8, colours], -1).astype(np.uint8)
    chosen, nearest = colours, np.arange(len(colours))
    if len(colours) > 256:
        often = np.argsort(-counts, kind="stable")[:32]  # these stay as they are: paper, above all
        rare = np.delete(nearest, often)
        row, by = Image.fromarray(colours[rare][None]), Image.Quantize.MAXCOVERAGE
        row = row.quantize(256 - len(often), by, kmeans=1, dither=Image.Dither.NONE)
        others = np.reshape(row.getpalette(), (-1, 3))
        nearest[often], nearest[rare] = np.arange(len(often)), len(often) + np.asarray(row)[0]
        chosen = np.concatenate([colours[often], others])
    indexed = Image.fromarray(nearest.astype(np.uint8)[place].reshape(picture.shape[:2]))
    indexed.putpalette(np.asarray(chosen, np.uint8).tobytes())
    return indexed


def _packed(picture):
    """Write the colour of each pixel as one number: (height, width, 3) uint8 -> (height, width)"""
    red, green, blue = np.moveaxis(picture.astype(np.uint32), -1, 0)
    return red << 16 | green << 8 | blue


def fits_gif(pictures):
    """Tell whether a GIF shows pictures exactly: none has more than 256 colours.

    pictures: list of (height, width, 3) uint8 -> bool
    """
    different = {id(picture): picture for picture in pictures}.values()  # once if it is held
    return all(len(np.unique(_packed(picture))) <= 256 for picture in different)


def save_apng(pictures, path, seconds=0.06):
    """Write pictures as an endless animated PNG, with all their colours, whole or not at all.

    pictures: list of (height, width, 3) uint8; seconds: of each frame -> the path
    Raises OSError when it cannot be written, or path has another suffix than .apng or .png.
    """
    frames, timing = [Image.fromarray(p) for p in pictures], {"duration": 1000 * seconds, "loop": 0}
    options = {"format": "PNG", "save_all": True, "append_images": frames[1:]} | timing
    return _save(path, (".apng", ".png"), lambda f: frames[0].save(f, **options))


def save_webp(pictures, path, seconds=0.06):
    """Write pictures as an endless animated WebP, with all their colours, whole or not at all.

    pictures: list of (height, width, 3) uint8; seconds: of each frame -> the path
    Raises OSError when it cannot be written, or path has another suffix than .webp.
    """
    frames, duration = [Image.fromarray(p) for p in pictures], round(1000 * seconds)
    options = {"format": "WEBP", "save_all": True, "append_images": frames[1:], "lossless": True}
    timing = {"duration": duration, "loop": 0}
    return _save(path, (".webp",), lambda f: frames[0].save(f, **options, **timing))


def _save(path, suffixes, write):
    """Let write(file) make the file at path, whose suffix has to say what it is -> the path"""
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        kind = suffixes[0][1:].upper()
        given = path.suffix or "none"
        how = f"give a name that ends in {suffixes[0]}, not {given}"
        raise OSError(f"{path} could not be written (this is a {kind} file): {how}")
    return write_whole(path, write)
