"""What a command has drawn, as files that other programs take: pictures, a sheet, an animation.

--out x.png alone gives an overview to look at, with paper between the pictures. All else is made to
be used: single pictures in a folder, a sheet without gaps and where each picture lies in it, pixel
for pixel or enlarged by a whole factor. How they were drawn stands in each.
"""

import json
import math
import shlex
import stat
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from .. import __version__, plot
from ..collect.source import number
from ..data import to_uint8
from ..design.palette import nearest
from ..files import KINDS, write_whole
from . import own
from .progress import Bar
from .usage import UsageError, require_output, require_picture

ANIMATIONS = {"gif": plot.save_gif, "apng": plot.save_apng, "webp": plot.save_webp}
HELD = 8  # frames for which the ends of a film stand still
LONGEST = 16_384  # pixels: longer sides of an image no program likes to open


@dataclass(frozen=True, eq=False)
class Result:
    """What a command has drawn.

    images: (N, H, W, C) in [-1, 1]; names: of their files, without suffix; says: for each what
    else is known of it, {"seed": "0", "labels": "hat=red"}; words: what the overview shows
    columns, zoom: of the overview; before: {name: (H, W, C)}, the originals, which it and the sheet
    show first; after: (M, H, W, C), which the overview shows last, or None; groups: how many
    originals, each of which it shows with what was made of it; chain: list of (N, H, W, C),
    x_T .. x_0, what an animation shows, None = there is none
    alpha: (N, H, W) uint8, 255 = opaque, None = all is; bare: (N, H, W, C), the colours that go
    with it, where images lie on paper, or None; palette: (K, 3) uint8, the only colours that there
    are, None = any; film: name of one animation that shows the images one by one, "" = of each its
    chain
    as_given: {k: (h, w, C) and alpha (h, w) uint8 or None}, what stands for image k among single
    pictures, whatever --scale is: it was not drawn, and has a size of its own
    """

    images: np.ndarray
    names: list
    says: list
    words: str
    columns: int
    zoom: int = 4
    before: dict = field(default_factory=dict)
    after: np.ndarray | None = None
    chain: list | None = None
    groups: int = 1
    alpha: np.ndarray | None = None
    bare: np.ndarray | None = None
    palette: np.ndarray | None = None
    film: str = ""
    as_given: dict = field(default_factory=dict)


def into_folder(args):
    """Tell whether --out names a folder for single pictures, not one picture -> bool"""
    return args.out.suffix.lower() != ".png" and (not args.out.suffix or args.out.is_dir())


def animations(args):
    """List the kinds of animation that were asked for, by --frames or by their older names"""
    older = [kind for kind in ("gif", "apng") if getattr(args, kind, False)]
    return [kind for kind in ANIMATIONS if kind in [*(args.frames or []), *older]]


def require(args, names, *inputs, film=""):
    """Refuse, before the work starts, an --out where results cannot be written.

    names: of the pictures to come; inputs: files that the command reads, and must not replace;
    film: see Result
    Raises UsageError; what lies in a folder already is only replaced as --force asks.
    """
    if not into_folder(args):
        require_picture(args.out, *inputs)
        beside = [args.out.with_suffix(f".{kind}") for kind in animations(args)]
        beside += [args.out.with_suffix(".json")] * args.sheet
        for path in beside:
            require_output(path, inputs)
        return
    if args.out.exists() and not args.out.is_dir():
        kind = KINDS.get(stat.S_IFMT(args.out.lstat().st_mode), "a file")
        instead = "give a folder, or for one picture a name that ends in .png"
        raise UsageError(f"--out {args.out} is {kind}: {instead}")
    paths = [path for _, path in _files(args, names, film)]
    if twice := next((path for k, path in enumerate(paths) if path in paths[:k]), None):
        raise UsageError(f"two results would be called {twice}: leave out --sheet, or rename one")
    for path in paths:
        require_output(path, inputs)
    if not args.force and (there := next((path for path in paths if path.exists()), None)):
        raise UsageError(f"{there} exists: give another --out, or replace it with --force")


def write(args, result):
    """Write what was drawn, as --out, --sheet, --scale and --frames ask, and say so -> None"""
    chosen = range(len(result.names)) if args.only is None else args.only
    if missing := [k for k in chosen if k >= len(result.names)]:
        raise UsageError(f"that command has no picture {missing[0]}")
    was = getattr(args, "was_of", None)  # of `again`
    if was and (now := result.says[chosen[0]].get("source")) != was:
        raise UsageError(f"this was made of {was}, in whose place there is {now} now: put it back")
    if into_folder(args):
        _write_folder(args, result, chosen)
    elif args.sheet:
        _write_sheet(args, result, args.out)
        _write_chain(args, result, result.chain, args.scale or 1)
    elif args.only is not None or (args.scale and len(result.names) == 1):
        (k,), scale = chosen, args.scale or 1
        path = _save(_picture(result, k, scale), args.out, _texts(args, result, k))
        print(f"{path}: {result.names[k]}")
        _write_chain(args, result, [x[k : k + 1] for x in result.chain or []], scale, gap=0)
    else:
        _write_overview(args, result)


def _files(args, names, film):
    """List the files that go into a folder: kind ("picture", "sheet", ...), Path"""
    files = [("picture", args.out / f"{name}.png") for name in names]
    files += [("sheet", args.out / f"sheet.{suffix}") for suffix in ("png", "json") if args.sheet]
    moving = [film] if film else names
    return files + [(k, args.out / f"{name}.{k}") for name in moving for k in animations(args)]


def _write_folder(args, result, chosen):
    names = [result.names[k] for k in chosen]
    for k, name in zip(chosen, names, strict=True):
        _save(
            _picture(result, k, args.scale or 1), args.out / f"{name}.png", _texts(args, result, k)
        )
    last = f" to {names[-1]}.png" if len(names) > 1 else ""
    print(f"{args.out}: {names[0]}.png{last}")
    if args.sheet:
        _write_sheet(args, result, args.out / "sheet.png")
    if result.film:
        return _write_film(args, result, args.out / f"{result.film}.png", args.scale or 1)
    for kind in animations(args):
        for k, name in zip(chosen, names, strict=True):
            steps = [x[k : k + 1] for x in result.chain]
            pictures = plot.frames(steps, 1, scale=args.scale or 1, gap=0)
            ANIMATIONS[kind](pictures, args.out / f"{name}.{kind}")
        print(f"{args.out}: the chain of each as .{kind}")


def _write_overview(args, result):
    """Write the sheet that is to be looked at, with paper between the pictures."""
    first, after = list(result.before.values()), [] if result.after is None else result.after
    columns, zoom = result.columns, args.scale or result.zoom
    sheet = plot.sheet(_grouped(result, first, result.images, after), columns, scale=zoom)
    if getattr(args, "transparent", None) and result.alpha is not None:
        sheet = _clear_overview(result, first, after, columns, zoom)
    print(f"{plot.save_png(sheet, args.out)}: {result.words}")
    _write_chain(args, result, [_grouped(result, first, x) for x in result.chain or []], zoom)


def _write_chain(args, result, steps, zoom, gap=1):
    """Write the steps of a sampler, list of (N, H, W, C), as animations beside --out x.png"""
    if result.film:
        return _write_film(args, result, args.out, zoom)
    for kind in animations(args):
        frames, less = plot.frames(steps, result.columns, zoom, gap=gap), ""
        path = args.out.with_suffix(f".{kind}")
        with Bar(len(frames), "writing the animation", "pictures") as bar:
            ANIMATIONS[kind](frames, path, **({"tick": bar.tick} if kind == "gif" else {}))
        if kind == "gif" and not plot.fits_gif(frames):
            less = " in 256 colours each; --frames apng keeps them all"
        print(f"{path}: the chain, {len(steps) - 1:,} steps{less}")


def _clear_overview(result, first, after, columns, zoom):
    """Draw the overview where --transparent asks for alpha, which there is between pictures, too

    -> (height, width, 4) uint8
    """
    opaque = lambda images: [np.ones((*x.shape[:2], 1), np.float32) for x in images]
    alphas = opaque(first), result.alpha[..., None] / np.float32(127.5) - 1, opaque(after)
    colours = plot.sheet(_grouped(result, first, result.bare, after), columns, scale=zoom)
    return np.dstack(
        [colours, plot.sheet(_grouped(result, *alphas), columns, scale=zoom, paper=0)[..., :1]]
    )


def _grouped(result, *parts):
    """Put each original beside what was made of it: lists of images -> (N, H, W, C)"""
    size = lambda part: len(part) // result.groups
    groups = range(result.groups)
    return np.stack([x for g in groups for p in parts for x in p[g * size(p) : (g + 1) * size(p)]])


def _write_film(args, result, path, zoom):
    """Write the images one by one as one animation, there and back: path, but for its suffix."""
    pictures = [plot.sheet(x[None], 1, gap=0, scale=zoom) for x in result.images]
    there = pictures[:1] * HELD + pictures + pictures[-1:] * HELD
    for kind in animations(args):
        ANIMATIONS[kind](there + pictures[::-1], path.with_suffix(f".{kind}"))
        print(f"{path.with_suffix(f'.{kind}')}: {number(len(pictures), 'picture')}, there and back")


def _write_sheet(args, result, path):
    """Write all pictures as one, without gaps, and beside it a JSON that says where each lies."""
    scale = args.scale or 1
    holes = {name: x for name, x in result.before.items() if _is_hole(name)}
    pictures = [_as_picture(x, None, None, scale) for x in holes.values()]
    pictures += [_picture(result, k, scale) for k in range(len(result.names))]
    w, h = (max(sides) for sides in zip(*(p.size for p in pictures), strict=True))
    columns = math.ceil(math.sqrt(len(pictures)))
    size = columns * w, -(-len(pictures) // columns) * h
    if max(size) > LONGEST:
        needs = f"{size[0]} x {size[1]} pixels, and {LONGEST} is the most"
        raise UsageError(f"--sheet needs {needs}: take a smaller --scale or --n")
    sheet, places = _blank(result, size), []
    for k, picture in enumerate(pictures):
        places.append((k % columns * w, k // columns * h, *picture.size))
        sheet.paste(picture.convert(sheet.mode) if sheet.mode != "P" else picture, places[-1][:2])
    _save(sheet, path, _texts(args, result))
    names, says = [*holes, *result.names], [{}] * len(holes) + result.says
    frames = [_frame(*each) for each in zip(names, places, says, strict=True)]
    text = json.dumps({"frames": frames, "meta": _meta(path.name, sheet, scale)}, indent=1)
    beside = write_whole(path.with_suffix(".json"), lambda f: f.write(text.encode() + b"\n"))
    print(f"{path}, {beside.name}: {number(len(frames), 'frame')} of {w} x {h}")


def _is_hole(name):
    """Tell originals with a hole, which a sheet shows, from whole ones, by their names -> bool"""
    return name.startswith("hole of ")


def _blank(result, size):
    """Make the paper of a sheet, for pictures of given colours alone with these -> PIL.Image.Image

    size: width, height
    """
    clear = result.alpha is not None
    if result.palette is None or any(map(_is_hole, result.before)):
        return Image.new("RGBA" if clear else "RGB", size, (0, 0, 0, 0) if clear else "white")
    sheet = Image.new("P", size, len(result.palette) if clear else 0)
    _colour(sheet, result.palette, clear)
    return sheet


def _frame(name, place, says):
    """Say where a picture lies in a sheet, as Aseprite does with --format json-array -> dict"""
    x, y, w, h = place
    said = " ".join(f"{key}: {text}" for key, text in says.items() if text)
    return {
        "filename": name,
        "frame": {"x": x, "y": y, "w": w, "h": h},
        "rotated": False,
        "trimmed": False,
        "spriteSourceSize": {"x": 0, "y": 0, "w": w, "h": h},
        "sourceSize": {"w": w, "h": h},
        "duration": 100,
        **({"data": said} if said else {}),
    }


def _meta(name, sheet, scale):
    """Say what a sheet is, as Aseprite does -> dict"""
    return {
        "app": "tinydiff",
        "version": __version__,
        "image": name,
        "format": "I8" if sheet.mode == "P" else "RGBA8888",
        "size": {"w": sheet.width, "h": sheet.height},
        "scale": str(scale),
        "frameTags": [],
        "layers": [],
        "slices": [],
    }


# --- one picture ---


def _picture(result, k, scale):
    if k in result.as_given:
        return _as_picture(*result.as_given[k], result.palette, 1)
    alpha = None if result.alpha is None else result.alpha[k]
    images = result.images if result.bare is None else result.bare
    return _as_picture(images[k], alpha, result.palette, scale)


def _as_picture(image, alpha, palette, scale):
    """Make a picture of a (H, W, C) image in [-1, 1], each pixel scale x scale -> PIL.Image.Image

    alpha: (H, W) uint8 or None; palette: (K, 3) uint8 or None
    """
    large = lambda a: a.repeat(scale, 0).repeat(scale, 1)
    pixels = to_uint8(image)
    if palette is not None:
        rgb = pixels.repeat(3 // pixels.shape[-1], -1)
        index = nearest(rgb[None].astype(np.float32), palette)[0]  # of whole numbers: exact
        if alpha is not None:
            index = np.where(alpha >= 128, index, len(palette))
        picture = Image.fromarray(large(index.astype(np.uint8)))
        _colour(picture, palette, alpha is not None)
        return picture
    if alpha is not None:
        pixels = np.dstack([pixels.repeat(3 // pixels.shape[-1], -1), alpha])
    return Image.fromarray(large(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels))


def _colour(picture, palette, clear):
    """Give a picture of indices its colours; clear: one more index, the last, is transparent."""
    if len(palette) + clear > 256:
        full = f"{len(palette)} colours fill an indexed picture"
        raise UsageError(f"{full}; with transparency there is room for 255")
    picture.putpalette(np.asarray(palette, np.uint8).tobytes() + bytes(3 * clear))
    if clear:
        picture.info["transparency"] = len(palette)


def _save(picture, path, texts):
    """Write a picture as PNG with texts in it, {keyword: text} -> the path"""
    about = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        about.add_itxt(key, text) if not text.isascii() else about.add_text(key, text)
    return plot.save_picture(picture, path, about)


# --- how it was drawn ---


def _texts(args, result, k=None):
    """Say how a picture, or with k = None a sheet, was drawn: {keyword of a PNG text: text}"""
    model = _placed(getattr(args, "model", ""))
    texts = {"Software": f"tinydiff {__version__}", "Command": command(args.typed), "Model": model}
    if k is None:
        return texts | {"Seed": str(args.seed)}
    return texts | {"Number": str(k)} | {key.capitalize(): v for key, v in result.says[k].items()}


def command(words):
    """Write a command line down, for a file that may be shared: no one's home folder is in it."""
    return shlex.join(["python", "-m", "tinydiff", *map(_placed, words)])


def _placed(word):
    """Write ~ for the home folder where a word is a path, or ends in one, as A=/home/me/a.png"""
    before, sign, path = word.rpartition("=")
    home = Path(path).is_absolute() and own.place(path).startswith("~/")
    return before + sign + own.place(path) if home else word
