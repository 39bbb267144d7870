"""A user's picture read from its file: upright, at 8 bits per value, bounded, whole."""

import io
import warnings
import zlib
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from ..files import require_file

LARGEST = 48_000_000  # pixels of a picture: a fifth of a gigabyte once it is read
TOO_LARGE = f"{LARGEST / 1e6:.0f} million pixels, the most that are read"
READ = "give a PNG or JPEG"


class _Unfit(Exception):
    """Say what is wrong with a picture, and what to do: two texts."""


@contextmanager
def opened(path):
    """Open a user's picture for the length of a `with` block; what is wrong with it: an OSError.

    path: Path or str -> context manager of a PIL.Image.Image of (height, width) pixels
    """
    try:
        require_file(path)
        with warnings.catch_warnings(action="ignore"), Image.open(path) as picture:
            if picture.format in ("EPS", "WMF"):  # these are programs, and run others
                raise UnidentifiedImageError
            yield picture
    except UnidentifiedImageError:
        raise OSError(f"{path} is not a picture that can be read: {READ}") from None
    except Exception as e:  # what damaged bytes make of Pillow's decoders: a dozen different errors
        if isinstance(e, Image.DecompressionBombError):  # Pillow's own limit, whatever the format
            e = _Unfit(f"more than {TOO_LARGE}", "scale it down")
        why, advice = e.args if isinstance(e, _Unfit) else (getattr(e, "strerror", None) or e, READ)
        why = " ".join(str(why).split()) or type(e).__name__
        raise OSError(f"{path} cannot be read ({why}): {advice}") from None


def seen(path):
    """Look up how large a user's picture is as it is seen, without reading its pixels.

    path: see upright -> (width, height), whether it is stored in another orientation: bool
    Raises OSError when there is no such file, or it is not a picture.
    """
    with opened(path) as picture:
        orientation = _orientation(picture)
        swapped = orientation in (5, 6, 7, 8)
        return picture.size[::-1] if swapped else picture.size, orientation != 1


def upright(path, least=None):
    """Read a user's picture, of an animation its first frame, and turn it as the camera was held.

    16 or 32 bits per value become 8: what the file calls white stays white.
    path: PNG, JPEG or whatever else Pillow reads; least: pixels per side that are enough, for a
    large JPEG, which is then read at a fraction, None = all
    -> PIL.Image.Image of (height, width) pixels, what was done to it: list of str
    Raises OSError when there is no such file, or it is not a picture, damaged, or larger than
    LARGEST pixels; a JPEG larger than that, up to Pillow's own limit, is read at a fraction.
    """
    with opened(path) as picture:
        done = [f"{picture.width} x {picture.height} {picture.mode}"]
        require_bounded(path, picture, done)
        if getattr(picture, "is_animated", False):
            done.append("the first of its frames")
        if least:
            picture.draft(picture.mode, (least, least))
        picture.load()
        picture, orientation = _eight_bits(picture, done), _orientation(picture)
        if orientation != 1:
            done.append("turned as it was taken")
            picture.getexif()[0x0112] = orientation
            picture = ImageOps.exif_transpose(picture)
        return picture, done


def require_bounded(path, picture, done):
    """Refuse a picture that would take too much memory, or has fewer pixels than its header says.

    A JPEG can be read at a fraction of its size; `done`, a list of str, then says so.
    path; picture: as `opened` gives it, (height, width) pixels -> None
    """
    if picture.width * picture.height > LARGEST:
        picture.draft(picture.mode, (256, 256))
        done.append(f"read as {picture.width} x {picture.height}")
    if (pixels := picture.width * picture.height) > LARGEST:
        most = f"at most {LARGEST / 1e6:.0f} are read"
        raise _Unfit(f"{pixels / 1e6:.0f} million pixels; {most}", "scale it down")
    boxes = [extents for _, extents, *_ in picture.tile] if picture.format == "TIFF" else []
    covered = not boxes or sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes) >= pixels
    if not covered or (picture.format == "PNG" and picture.tile and not _whole_png(path)):
        raise _Unfit("it ends before its last pixel", "get the file anew")


def _whole_png(path):
    """Tell whether a PNG has as many data as pixels; Pillow would leave the rest black -> bool"""
    with open(path, "rb") as f:
        f.seek(16)
        width, height = int.from_bytes(f.read(4)), int.from_bytes(f.read(4))
        depth, kind, _, _, interlaced = f.read(5)
        bits = width * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
        needed = height * bits // 8 if interlaced else height * (1 + -(-bits // 8))
        f.seek(8)
        found, inflate = 0, zlib.decompressobj()
        while found < needed and len(head := f.read(8)) == 8:
            end = f.tell() + int.from_bytes(head[:4])
            more = lambda: inflate.unconsumed_tail or f.read(min(1 << 20, end - f.tell()))
            while head[4:] == b"IDAT" and found < needed and (piece := more()):
                found += len(inflate.decompress(piece, 1 << 24))
            f.seek(end + 4)
    return found >= needed


# --- values of more than 8 bits ---


def _eight_bits(picture, done):
    """Bring values of 16 or 32 bits, whole or floating-point, to 8 -> PIL.Image.Image

    Pillow's own conversion makes all above 255 white. The range is that of _range.
    """
    if picture.mode[0] not in "IF":
        return picture
    low, high = _range(picture)
    done.append(f"values of {low:g} to {high:g} made 0 to 255")
    scale, grey = 255 / (high - low), []
    for values in _strips(picture):
        grey.append(np.clip((values - low) * scale, 0, 255).round().astype(np.uint8))
    clear = picture.info.get("transparency")
    tags = getattr(picture, "tag_v2", {})
    whole = np.concatenate(grey)
    whole = 255 - whole if tags.get(262) == 0 else whole  # a TIFF in which 0 is white
    if not isinstance(clear, int):
        return Image.fromarray(whole)
    alpha = np.concatenate([np.where(values == clear, 0, 255) for values in _strips(picture)])
    return Image.fromarray(np.dstack([whole, alpha.astype(np.uint8)]))


def _range(picture):
    """Find what stands for black and white where values have 16 or 32 bits -> low, high

    Whole numbers of 16 bits count from 0 to 65535. Others count from 0 to the first of 1 (only
    floating-point), 255 and 65535 that holds 99 of 100 values, or from the smallest to the largest.
    """
    is_float, ends = picture.mode == "F", []
    if picture.mode.startswith("I;16") or (not is_float and picture.format in ("PNG", "PPM")):
        return 0.0, 65535.0
    tops, held = ((1, 255, 65535) if is_float else (255, 65535)), 0
    for values in _strips(picture):
        ends.append((values.min(), values.max()))
        held = held + np.array([((values >= 0) & (values <= top)).sum() for top in tops])
    lows, highs = zip(*ends, strict=True)
    least, most = float(np.min(lows)), float(np.max(highs))
    if not np.isfinite([least, most]).all():
        raise _Unfit("it has values that are no numbers", READ)
    for top, count in zip(tops, held, strict=True):
        light = is_float and 1 < most < 16  # brighter than white, not eight bits and dark
        if count >= 0.99 * picture.width * picture.height and (top == 1 or not light):
            return 0.0, float(top)
    return (least, most) if least < most else (least, least + 1)


def _strips(picture):
    """Give the values of a picture, a million at a time -> yields (rows, width) float64"""
    tags = getattr(picture, "tag_v2", None)  # SampleFormat of a TIFF: 1, or none, = unsigned
    unsigned = picture.mode == "I" and tags is not None and tags.get(339, (1,))[0] == 1
    rows = max(1, 1_000_000 // picture.width)
    for top in range(0, picture.height, rows):
        bottom = min(top + rows, picture.height)
        values = np.asarray(picture.crop((0, top, picture.width, bottom)))
        yield (values.view(np.uint32) if unsigned else values).astype(np.float64)


def _orientation(picture):
    """Read how the camera was held from EXIF data: -> 1 .. 8, 1 = upright, or data are damaged"""
    try:
        found = picture.getexif().get(0x0112, 1)
        return found if found in range(1, 9) else 1
    except Exception:
        return 1


def in_srgb(picture, profile):
    """Convert a picture (height, width), RGB, from its profile: bytes -> PIL.Image.Image

    None where that is sRGB already, is not for RGB, or damaged.
    """
    try:
        own = ImageCms.getOpenProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(own):
            return None
        return ImageCms.profileToProfile(picture, own, ImageCms.createProfile("sRGB"))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
