"""A user's pictures and masks, in whatever form they come, as a network takes them."""

import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..data import to_float
from ..files import require_file

CUT = "the file ends before its last pixel"
LARGEST = 64_000_000  # pixels of a picture: a quarter of a gigabyte once it is read


def upright(path):
    """Read a user's picture, of an animation its first frame, and turn it as the camera was held.

    16 or 32 bits per value become 8: what the file calls white stays white.
    path: PNG, JPEG or whatever else Pillow reads
    -> PIL.Image.Image of (height, width) pixels, what was done to it: list of str
    Raises OSError when there is no such file, or it is not a picture, damaged, or larger than
    LARGEST pixels; of a JPEG that large every second, fourth or eighth pixel is read.
    """
    try:
        require_file(path)
        with warnings.catch_warnings(action="ignore"), Image.open(path) as picture:
            done = [f"{picture.width} x {picture.height} {picture.mode}"]
            _require_bounded(path, picture, done)
            if getattr(picture, "is_animated", False):
                done.append("the first of its frames")
            picture.load()
            picture, seen = _eight_bits(picture, done), _orientation(picture)
            if seen in range(2, 9):
                done.append("turned as it was taken")
                picture.getexif()[0x0112] = seen
                picture = ImageOps.exif_transpose(picture)
            return picture, done
    except UnidentifiedImageError:
        raise OSError(f"{path} is not a picture that can be read: give a PNG or JPEG") from None
    except Exception as e:  # what damaged bytes make of Pillow's decoders: a dozen different errors
        why = " ".join(str(getattr(e, "strerror", None) or e or type(e).__name__).split())
        raise OSError(f"{path} cannot be read ({why}): give a PNG or JPEG") from None


def _require_bounded(path, picture, done):
    """Refuse a picture that would take too much memory, or has fewer pixels than its header says.

    A JPEG can be read at a fraction of its size; `done` then says so.
    """
    if picture.width * picture.height > LARGEST:
        picture.draft(picture.mode, (256, 256))
        done.append(f"read as {picture.width} x {picture.height}")
    if (pixels := picture.width * picture.height) > LARGEST:
        raise ValueError(f"{pixels / 1e6:.0f} million pixels; at most {LARGEST / 1e6:.0f} are read")
    boxes = [extents for _, extents, *_ in picture.tile] if picture.format == "TIFF" else []
    if boxes and sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes) < pixels:
        raise ValueError(CUT)
    if picture.format == "PNG" and picture.tile:
        _require_whole_png(path, pixels)


def _require_whole_png(path, pixels):
    """Refuse a PNG whose data are fewer than its pixels; Pillow would leave the rest black."""
    with open(path, "rb") as f:
        f.seek(24)  # behind the header's width and height
        depth, kind = f.read(2)
        needed = pixels * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind] // 8
        f.seek(8)
        found, inflate = 0, zlib.decompressobj()
        while found < needed and len(head := f.read(8)) == 8:
            end = f.tell() + int.from_bytes(head[:4])
            more = lambda: inflate.unconsumed_tail or f.read(min(1 << 20, end - f.tell()))
            while head[4:] == b"IDAT" and found < needed and (piece := more()):
                found += len(inflate.decompress(piece, 1 << 24))
            f.seek(end + 4)
    if found < needed:
        raise ValueError(CUT)


def _eight_bits(picture, done):
    """Bring values of 16 or 32 bits, whole or floating-point, to 8 -> PIL.Image.Image

    Pillow's own conversion makes all above 255 white. Whole numbers of 16 bits count from 0 to
    65535. Others count from 0 to the first of 1 (only floating-point), 255 and 65535 that none
    exceeds, or from the smallest to the largest.
    """
    if picture.mode[0] not in "IF":
        return picture
    ends = [(rows.min(), rows.max()) for rows in _strips(picture)]
    lows, highs = zip(*ends, strict=True)
    least, most = float(np.min(lows)), float(np.max(highs))
    if not np.isfinite([least, most]).all():
        raise ValueError("it has values that are no numbers")
    if picture.mode.startswith("I;16") or picture.format in ("PNG", "PPM"):
        tops = (65535,)
    else:
        tops = (255, 65535) if picture.mode == "I" else (1, 255, 65535)
    top = next((top for top in tops if 0 <= least and most <= top), None)
    low, high = (0, top) if top else (least, most)
    done.append(f"values of {low:g} to {high:g} made 0 to 255")
    scale = 255 / max(high - low, 1e-30)
    grey = [((rows - low) * scale).round().astype(np.uint8) for rows in _strips(picture)]
    return Image.fromarray(np.concatenate(grey))


def _strips(picture):
    """Give the values of a picture, a million at a time -> yields (rows, width) float64"""
    # SampleFormat of a TIFF, which Pillow passes over: 1 = unsigned
    unsigned = picture.mode == "I" and getattr(picture, "tag_v2", {}).get(339, (0,))[0] == 1
    rows = max(1, 1_000_000 // picture.width)
    for top in range(0, picture.height, rows):
        bottom = min(top + rows, picture.height)
        values = np.asarray(picture.crop((0, top, picture.width, bottom)))
        yield (values.view(np.uint32) if unsigned else values).astype(np.float64)


def _orientation(picture):
    """Read how the camera was held from EXIF data: -> int, 1 = upright, or data that are damaged"""
    try:
        return picture.getexif().get(0x0112, 1)
    except Exception:
        return 1


def _square(path, channels):
    """Read the middle square of a user's picture, opaque, grey or RGB.

    Transparent parts become white, or black where all that is drawn is white and would be lost.
    path: see upright; channels: 1 or 3 -> PIL.Image.Image, what was done to it: list of str
    """
    picture, done = upright(path)
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        if picture.getextrema()[3][0] < 255:
            paper = _paper(picture)
            opaque = Image.new("RGB", picture.size, paper)
            opaque.paste(picture, mask=picture.getchannel("A"))
            picture = opaque
            done.append(f"transparent parts made {paper}")
    (width, height), side = picture.size, min(picture.size)
    if width != height:
        done.append("cut to its middle square")
        left, top = (width - side) // 2, (height - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
    return picture.convert("RGB" if channels == 3 else "L"), done


def _paper(picture):
    """Choose what a picture, RGBA, is laid on: -> "white", or "black" under what is itself white"""
    small = picture.copy()
    small.thumbnail((256, 256), Image.Resampling.BOX)
    pixels = np.asarray(small, dtype=np.float64)
    alpha = pixels[..., 3]
    darkness = np.average(255 - pixels[..., :3].min(-1), weights=alpha) if alpha.any() else 255
    return "black" if darkness < 16 else "white"


def open_image(path, size, channels):
    """Read a user's picture and fit it to a model: its middle square, scaled, grey or RGB.

    Transparent parts become white, or black under what is itself white.
    path: see upright; size: pixels per side; channels: 1 or 3
    -> x (1, H, W, C) float32 in [-1, 1], a line that says what was done to it
    Raises OSError as upright does.
    """
    picture, done = _square(path, channels)
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BOX)
        done.append(f"scaled to {size} x {size}")
    x = to_float(np.asarray(picture).reshape(1, size, size, channels))
    return x, f"{path}: {', '.join(done)}"


def open_mask(path, size):
    """Read a user's mask and fit it to a model: a pixel is drawn anew if there is any white in it.

    White is what is nearer to white than to black; a line thinner than a pixel counts, too.
    path: see upright, read as open_image does; size: pixels per side
    -> drawn_anew (1, H, W, 1) bool, a line that says what was done to it
    Raises OSError as upright does, ValueError where nothing, or all, would be drawn anew.
    """
    picture, done = _square(path, 1)
    white = np.asarray(picture) >= 128
    share = Image.fromarray(white.astype(np.float32))
    anew = np.asarray(share.resize((size, size), Image.Resampling.BOX)) > 0
    if not anew.any():
        outside = upright(path)[0].convert("L").getextrema()[1] >= 128
        found = "has no white in its middle square" if outside else "is all black"
    elif anew.all():
        found = "is all white" if white.all() else f"has white in all of {size} x {size} pixels"
    else:
        drawn = f"{anew.sum()} of {size} x {size} pixels have white in them and are drawn anew"
        return anew.reshape(1, size, size, 1), f"{path}: {', '.join(done)}; {drawn}"
    raise ValueError(f"{path} {found}: paint white what is to be drawn anew, black the rest")
