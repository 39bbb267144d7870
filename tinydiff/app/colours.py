"""What --palette, --colours, --shares and --dither ask for: pictures of exactly these colours."""

from pathlib import Path

import numpy as np

from ..collect.source import number
from ..data import to_float
from ..design import colour, palette, swatches
from . import drawing
from .usage import UsageError

TRIES = 8  # of a picture that lacks a colour


def require_fitting(args):
    """Refuse options of colours that do not go together."""
    shares, about = getattr(args, "shares", None), getattr(args, "about", False)
    if args.palette and args.colours:
        raise UsageError("--colours finds a palette, --palette gives one: leave out one of them")
    if about and not args.palette:
        raise UsageError("--about is for --palette: name colours")
    for option, asked in (("--shares", shares), ("--dither", args.dither)):
        if asked and not (args.palette or args.colours):
            raise UsageError(f"{option} is for --palette or --colours: say which colours")
        if asked and loosely(args):
            raise UsageError(f"{option} is for exact colours: leave out --about and --pull")
    if shares and args.dither:
        raise UsageError("--shares is met by choosing colours, --dither by mixing them: choose one")
    if args.colours and args.transparent is not None:
        _require_room(args.colours, 1)
    if shares and abs(sum(shares) - 100) > 1:
        raise UsageError(f"--shares takes percentages that add up to 100; got {sum(shares):g}")


def require_coloured(args, channels):
    """Refuse to draw in given colours with a model of so many channels, if that draws in grey."""
    if channels != 3:
        suited = "--palette and --main-colour are for models of colour pictures"
        raise UsageError(f"{args.model} draws in grey: {suited}")


def loosely(args):
    """Tell whether --palette is to be kept to about, as --about and --pull ask -> bool"""
    about = getattr(args, "about", False) or getattr(args, "pull", None) is not None
    return bool(args.palette) and about


def given(args, channels):
    """Read --palette -> (K, channels) uint8, None where no exact colours are given

    Raises UsageError where a colour cannot be read, OSError for a file.
    """
    if not args.palette or loosely(args):
        return None
    require_coloured(args, channels)
    colours = read(args.palette)
    _require_room(len(colours), int(args.transparent is not None))
    return colours


def files(args):
    """Name the files among the words of --palette, which are read -> list of str"""
    return [word for word in args.palette or [] if Path(word).is_file()]


def read(words):
    """Read colours, and files of colours -> (K, 3) uint8, in order, all different"""
    found = np.concatenate([_read(word) for word in words])
    found = found[np.sort(np.unique(found, axis=0, return_index=True)[1])]
    if len(found) > swatches.MOST:
        raise UsageError(f"--palette has {len(found)} colours; it takes at most {swatches.MOST}")
    return found


def _require_room(K, more):
    """Refuse K colours where as many more, of what is transparent, do not fit beside them."""
    if K + more > swatches.MOST:
        most = f"with transparency there is room for {swatches.MOST - more}"
        raise UsageError(f"{number(K, 'colour')} fill an indexed picture; {most}: give fewer")


def _read(word):
    try:
        if Path(word).is_file():
            return swatches.read(word)
        return np.round((colour.parse(word)[None] + 1) * 127.5).astype(np.uint8)
    except ValueError as e:
        if Path(word).is_file():
            raise UsageError(f"--palette: {word} {e}") from None
        here = f"; there is no file {word}" if Path(word).suffix else ""
        raise UsageError(f"{e}{here}") from None


def passes(args):
    """Count how often all is drawn: --colours looks at what is drawn freely first -> int"""
    return 2 if args.colours else 1


def papers(given):
    """List the papers that transparent pictures are laid on: list of Given -> numbers in [-1, 1]

    Where a picture has its paper's colour, it stays transparent.
    """
    return {one.paper for one in given if one.alpha is not None and (one.alpha < 255).any()}


def draw(args, pipe, colours, ours, again=None, papers=()):
    """Draw in exactly these colours, or in those that --colours finds in what is drawn freely.

    With --dither all is drawn freely, and mixed of the colours at the end.
    colours: (K, C) uint8 or None; ours: function of `also`, see Pipeline.draw, that draws all
    pictures, from the same noise each time; again: function of the places of those that lack a
    colour, of the number of the try, 1 .. TRIES - 1, and `also`, that draws them anew, None = they
    stay; papers: greys that may be drawn, too
    -> list of (N, H, W, C), x_T .. x_0; the colours, as an indexed picture has them; what to say
    """
    _require_room(args.colours or (0 if colours is None else len(colours)), len(papers))
    if args.colours:
        free = ours(None)[-1]
        drawing.require_finite(args.model, free)
        colours = palette.found(free, args.colours)
    if colours is None:
        return ours(None), None, []
    shares, C = _shares(args, len(colours)), colours.shape[1]
    if papers and shares is not None:
        raise UsageError("--shares counts all pixels: give pictures without transparency")
    drawn_in = np.concatenate([to_float(colours), *(np.full((1, C), p, "f") for p in papers)])
    also = lambda eps_model: palette.exact(eps_model, pipe.s, drawn_in, shares)
    also = None if args.dither else also
    settle = lambda chain: [*chain[:-1], settled(args, chain[-1], drawn_in)]
    chain, told = settle(ours(also)), []
    if again:
        told = _anew(chain, colours, shares, lambda *lost: settle(again(*lost, also)))
    if shares is not None:
        told.append(_reached(chain[-1], colours, shares))
    return chain, colours.repeat(3 // colours.shape[1], 1), told


def settled(args, images, own):
    """Bring images (N, H, W, C) to exactly these colours, (K, C) in [-1, 1] -> (N, H, W, C)"""
    drawing.require_finite(args.model, images)
    choose = palette.dithered if args.dither else palette.nearest
    return own[choose(images, own)]


def nearest(images, colours):
    """Bring images (N, H, W, C) to the nearest of colours (K, 3) uint8 -> (N, H, W, C)"""
    return to_float(colours)[palette.nearest(images, to_float(colours))]


def _anew(chain, colours, shares, again):
    """Draw pictures that lack a colour anew, in their places in the chain -> what to say"""
    anew = np.zeros(len(chain[-1]), bool)
    for attempt in range(1, TRIES + 1):
        index = palette.nearest(chain[-1], to_float(colours))
        lost = np.flatnonzero(palette.lacking(index, len(colours), shares))
        if len(lost) == 0 or attempt == TRIES:
            break
        anew[lost] = True
        for x, new in zip(chain, again(lost, attempt), strict=True):
            x[lost] = new
    told = []
    if anew.any():
        told.append(f"{number(anew.sum(), 'draw')} lacked a colour: drawn anew with other noise")
    if len(lost):
        left = f"{number(len(lost), 'picture')} after {TRIES} tries: give other colours or labels"
        told.append(f"a colour is still lacking in {left}")
    return told


def _shares(args, K):
    """Read --shares for K colours -> (K,) floats that add up to 1, or None"""
    if not getattr(args, "shares", None):
        return None
    if len(args.shares) != K:
        why = f"one percentage for each of {number(K, 'colour')}"
        raise UsageError(f"--shares takes {why}; got {len(args.shares)}")
    return np.array(args.shares) / sum(args.shares)


def _reached(images, colours, shares):
    have = palette.shares_of(palette.nearest(images, to_float(colours)), len(colours))
    each, far = (
        " ".join(f"{100 * share:.0f}" for share in have.mean(0)),
        np.abs(have - shares).max(),
    )
    return f"shares reached: {each} percent; at most {100 * far:.0f} beside what was asked for"
