"""A user's pictures, masks and letters, in whatever form they come, as a network takes them."""

import io
import warnings
import zlib
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from ..data import to_float
from ..files import require_file

LARGEST = 48_000_000  # pixels of a picture: a fifth of a gigabyte once it is read
TOO_LARGE = f"{LARGEST / 1e6:.0f} million pixels, the most that are read"
FAINT = 32  # of 255: what differs less from its background is no letter
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


# --- what a network takes ---


def _square(path, channels, paper, cut=True):
    """Read the middle square of a user's picture, or all of it, opaque, grey or RGB.

    path: see upright; channels: 1 or 3; paper: function of a picture, RGBA, with transparent parts:
    "white" or "black", what it is laid on -> PIL.Image.Image, what was done to it: list of str
    """
    picture, done = upright(path)
    profile = picture.info.get("icc_profile")
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        if picture.getextrema()[3][0] < 255:
            colour = paper(picture)
            opaque = Image.new("RGB", picture.size, colour)
            opaque.paste(picture, mask=picture.getchannel("A"))
            picture = opaque
            done.append(f"transparent parts made {colour}")
    (width, height), side = picture.size, min(picture.size)
    if width != height and cut:
        done.append("cut to its middle square")
        left, top = (width - side) // 2, (height - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
    is_grey = picture.mode in ("1", "L", "LA")
    picture = picture.convert("RGB" if channels == 3 else "L")
    if channels == 3 and profile and not is_grey:
        picture.info["icc_profile"] = profile
    return picture, done


def _paper(picture):
    """Choose what a picture, RGBA, is laid on: -> "white", or "black" under what is itself white"""
    colours, alpha = _thumbnail(picture)
    darkness = np.average(255 - colours.min(-1), weights=alpha) if alpha.any() else 255
    return "black" if darkness < 16 else "white"


def _mask_paper(picture):
    """Choose what a mask, RGBA, is laid on: -> "black", or "white" under what is all dark"""
    colours, alpha = _thumbnail(picture)
    return "black" if (colours.mean(-1)[alpha >= 128] >= 128).any() else "white"


def _thumbnail(picture):
    """Make a picture, RGBA, small: -> colours (height, width, 3), alpha (height, width) to 255"""
    sides = [max(1, side * 256 // max(256, *picture.size)) for side in picture.size]
    pixels = np.asarray(picture.resize(sides, Image.Resampling.BOX), dtype=np.float64)
    return pixels[..., :3], pixels[..., 3]


def open_image(path, size, channels):
    """Read a user's picture and fit it to a model: its middle square, scaled, grey or RGB.

    Transparent parts become white, or black under what is itself white; colours those of sRGB.
    path: see upright; size: pixels per side; channels: 1 or 3
    -> x (1, H, W, C) float32 in [-1, 1], a line that says what was done to it
    Raises OSError as upright does.
    """
    picture, done = _square(path, channels, _paper)
    profile = picture.info.get("icc_profile")
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BOX)
        done.append(f"scaled to {size} x {size}")
    if profile and (converted := in_srgb(picture, profile)):
        picture = converted
        done.append("colours converted to sRGB")
    x = to_float(np.asarray(picture).reshape(1, size, size, channels))
    return x, f"{path}: {', '.join(done)}"


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


def open_mask(path, size, fitted=None):
    """Read a user's mask and fit it to a model: a pixel is drawn anew if there is any white in it.

    White is what is nearer to white than to black; a line thinner than a pixel counts, too.
    Transparent parts are black, or white around what is all dark.
    path: see upright, read as open_image does; size: pixels per side; fitted: function that fits a
    mask, (height, width) bool -> (size, size) bool, as its picture was, None = as open_image does
    -> drawn_anew (1, H, W, 1) bool, a line that says what was done to it
    Raises OSError as upright does, ValueError where nothing, or all, would be drawn anew.
    """
    picture, done = _square(path, 1, _mask_paper, cut=fitted is None)
    white = picture.point(lambda value: 255 if value >= 128 else 0)
    all_white = white.getextrema()[0] == 255
    if fitted:
        anew = fitted(np.asarray(white) > 0)
    else:
        anew = np.asarray(white.convert("F").resize((size, size), Image.Resampling.BOX)) > 0
    if not anew.any():
        lightest = upright(path)[0].convert("L").getextrema()[1]
        found = f"has no white: its lightest is {lightest} of 255" if lightest else "is all black"
        seen = "what the model sees of it" if fitted else "its middle square"
        found = f"has no white in {seen}" if lightest >= 128 else found
    elif anew.all():
        found = "is all white" if all_white else f"has white in all of {size} x {size} pixels"
    else:
        drawn = f"{anew.sum()} of {size} x {size} pixels have white in them and are drawn anew"
        return anew.reshape(1, size, size, 1), f"{path}: {', '.join(done)}; {drawn}"
    raise ValueError(f"{path} {found}: paint white what is to be drawn anew, black the rest")


def open_letter(path, size):
    """Read a user's picture of a letter, in any two colours, as white on black.

    What most of its border is, is the background.
    path: see upright, read as open_image does; size: pixels per side
    -> x (1, H, W, 1) float32 in [-1, 1], a line that says what was done to it
    Raises OSError as upright does, ValueError where nothing stands out.
    """
    picture, done = _square(path, 1, _paper)
    grey = np.asarray(picture, dtype=np.float32)
    low, high = np.percentile(grey, (1, 99)) if grey.size > 1000 else (grey.min(), grey.max())
    if high - low < FAINT:
        low, high = float(grey.min()), float(grey.max())  # perhaps it is small
    if high - low < FAINT:
        raise ValueError(f"{path} shows no letter: all of it is nearly of one grey")
    share = Image.fromarray(np.clip((grey - low) / (high - low), 0, 1))
    share = np.asarray(share.resize((size, size), Image.Resampling.BOX))
    done += [f"scaled to {size} x {size}"] if picture.size != (size, size) else []
    done += [f"greys {low:.0f} to {high:.0f} made 0 to 255"] if (low, high) != (0, 255) else []
    border = np.concatenate([share[0], share[-1], share[1:-1, 0], share[1:-1, -1]])
    if np.median(border) > 0.5:
        share = 1 - share
        done.append("dark on light turned to light on dark")
    return (2 * share - 1).reshape(1, size, size, 1), f"{path}: {', '.join(done)}"
