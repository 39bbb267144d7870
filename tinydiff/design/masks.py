"""Masks as a user paints them, beside a picture or in it: what of it is to be drawn anew."""

import numpy as np
from PIL import Image

from . import alpha
from .upright import seen, upright

ALIKE = 0.9  # share of a mask's pixels that are the picture's: it is the picture, with a hole
ENDS = 16  # of 255: how far from black or white what is painted in black and white may be
WHITE, PAINTED, ERASED = "white", "painted", "erased"  # what counts in a mask
WORDS = {  # of what counts in a mask: what its pixels do, and how to paint one
    WHITE: ("have white in them", "paint white what is to be drawn anew, black the rest"),
    PAINTED: ("are painted", "paint what is to be drawn anew, leave the rest transparent"),
    ERASED: ("are erased", "erase what is to be drawn anew"),
}


def open_mask(path, image, given):
    """Read a user's mask of a picture: a pixel is drawn anew if any of the mask lies in it.

    Of an opaque mask what is nearer to white than to black counts; a line thinner than a pixel
    does, too. Of one with transparency what is painted counts, whatever its colour, unless it is
    painted in black and white: then white does. A copy of the picture with a hole means its hole.
    path, image: of the mask and of the picture, see upright; given: the picture, as
    picture.open_given reads it -> drawn_anew (1, H, W, 1) bool,
    WHITE, PAINTED or ERASED, a line that says so
    Raises OSError as upright does, ValueError where the sizes do not fit, or nothing, or all, would
    be drawn anew.
    """
    _require_fitting(path, image)
    picture, done = upright(path)
    marked, kind = _marked(picture, image)
    if kind == ERASED and not marked.any():  # the picture itself
        return open_hole(image, given)
    anew = given.mask(_resized(marked, given.size))
    if not anew.any() or anew.all():
        raise ValueError(f"{path} {_why(picture, marked, kind, anew, given)}: {WORDS[kind][1]}")
    return _counted(anew, f"{path}: {', '.join(done)}", kind)


def open_hole(image, given):
    """Find what was erased from a picture: this is to be drawn anew.

    Its transparent parts are holes; where most of its border is transparent, and so this is no
    hole but what the picture is cut out of, those that are enclosed.
    image, given: as for open_mask -> drawn_anew (1, H, W, 1) bool, ERASED, a line that says so
    Raises OSError as upright does, ValueError where there is no hole, or nothing else.
    """
    opaque = _opacity(upright(image)[0])
    clear = np.zeros((1, *given.size[::-1]), bool) if opaque is None else opaque[None] < 128
    edge, where = alpha.border(clear.shape), "transparent"
    if 2 * clear[edge].sum() > edge.sum():
        clear, where = clear & ~alpha.reached(clear, edge), "transparent and enclosed"
    anew = given.mask(clear[0])
    if not anew.any() or anew.all():
        found = "nothing but" if anew.all() else "no pixels that are"
        raise ValueError(f"{image} has {found} {where}: {WORDS[ERASED][1]}")
    return _counted(anew, f"{image}: what is {where} is its hole", ERASED)


def shown(x, anew):
    """Show a picture with its hole, grey: x (1, H, W, C), anew (1, H, W, 1) bool -> (1, H, W, C)"""
    return np.where(anew, x.dtype.type(0), x)


def _counted(anew, said, kind):
    size = f"{len(anew)} x {len(anew)}"
    drawn = f"{anew.sum()} of {size} pixels {WORDS[kind][0]} and are drawn anew"
    return anew[None, ..., None], kind, f"{said}; {drawn}"


def _marked(picture, image):
    """Tell what counts in a mask, as read: -> (height, width) bool, its kind: a key of WORDS"""
    opaque = _opacity(picture)
    grey = np.asarray(picture.convert("RGB").convert("L"))
    if opaque is None:
        return grey >= 128, WHITE
    painted = opaque >= max(1, opaque.max() / 2)
    if (hole := _erased(picture, painted, image)) is not None:
        return hole, ERASED
    black, white = grey[painted] <= ENDS, grey[painted] >= 255 - ENDS
    if black.any() and white.any() and (black | white).all():
        return painted & (grey >= 128), WHITE
    return painted, PAINTED


def _opacity(picture):
    """Read how opaque a picture is -> (height, width) uint8, None where all of it is"""
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return None
    opaque = np.asarray(picture.convert("RGBA").getchannel("A"))
    return None if opaque.min() == 255 else opaque


def _erased(mask, painted, image):
    """Find what was erased from a picture, if a mask is a copy of it

    painted: (height, width) bool, what the mask still shows -> the same, or None if it is not
    """
    original = upright(image)[0]
    if original.size != mask.size or not painted.any():
        return None
    opaque = _opacity(original)
    own = np.ones_like(painted) if opaque is None else opaque >= 128
    same = np.asarray(original.convert("RGB"))[painted] == np.asarray(mask.convert("RGB"))[painted]
    is_copy = same.all(-1).mean() >= ALIKE and 2 * painted.sum() > own.sum()
    return own & ~painted if is_copy else None


def _require_fitting(path, image):
    """Refuse a mask whose size is not its picture's, a multiple of it or a fraction."""
    (size, _), (its_size, turned) = seen(path), seen(image)
    if _factor(size, its_size) or _factor(its_size, size):
        return
    give = "give a mask of the picture's size, or of a whole multiple of it"
    if turned and _factor(size[::-1], its_size):
        give = "the picture is turned as it was taken: turn the mask, too"
    sizes = ["{} x {}".format(*each) for each in (size, its_size)]
    raise ValueError(f"is {sizes[0]}, the picture {sizes[1]}: {give}")


def _factor(size, of):
    """Tell by which whole factor a size, (width, height), is a multiple of another -> int or 0"""
    k = size[0] // of[0]
    return k if size == (k * of[0], k * of[1]) else 0


def _resized(marked, size):
    """Bring what is marked to a picture's size, (width, height), of which it is a multiple, or back

    -> (height, width) bool, where any of it was marked
    """
    if marked.shape == size[::-1]:
        return marked
    cells = Image.fromarray(np.float32(marked)).resize(size, Image.Resampling.BOX)
    return np.asarray(cells) > 0


def _why(picture, marked, kind, anew, given):
    """Say why a mask leaves no choice -> "is all black" """
    seen_of_it = "its middle square" if given.box else "what the model sees of it"
    if not anew.any() and marked.any():
        return f"has no white in {seen_of_it}" if kind == WHITE else f"has nothing in {seen_of_it}"
    if kind == WHITE and not anew.any():
        lightest = picture.convert("RGB").convert("L").getextrema()[1]
        return f"has no white: its lightest is {lightest} of 255" if lightest else "is all black"
    if not anew.any():
        return "is all transparent"
    what = {"white": "white", "painted": "something painted", "erased": "something erased"}[kind]
    size = "{0} x {0}".format(len(anew))
    return f"is all {kind}" if marked.all() else f"has {what} in all of {size} pixels"
