"""The pictures that a command is given: files and folders; what cannot be used is left out."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..collect import folder
from ..collect.source import number, some
from ..streams import Alike
from . import own, results
from .usage import UsageError


@dataclass(frozen=True)
class Source:
    """A picture that was given: its path, and the name of what is made of it, without suffix.

    The name of one in a folder has the folders in it, "enemies/bat".
    """

    path: Path
    name: str


def sources(paths):
    """List the pictures that were given, those of folders one by one -> list of Source

    Two that would have one name are told apart, as "bat" and "bat_2".
    """
    found, taken = [], set()
    for path in paths:
        for file in _in_folder(path) if path.is_dir() else [path]:
            name = (file.relative_to(path) if path.is_dir() else Path(file.name)).with_suffix("")
            told = name = name.as_posix()
            for again in range(2, len(found) + 2):
                told = told if told.lower() not in taken else f"{name}_{again}"
            taken.add(told.lower())
            found.append(Source(file, told))
    return found


def _in_folder(path):
    said = []
    listed, others = folder.listed(path, said)
    files = [file for file in listed if not _is_sheet(file)]
    if len(files) < len(listed):  # what `sample --sheet` wrote beside its pictures
        others = [other for other in others if other.suffix != ".json"]
        said.append(f"{path}: left out, as sheets: {number(len(listed) - len(files), 'picture')}")
    if others:
        said.append(f"{path}: left out, as no pictures: {folder.endings(others)}")
    if said:
        print("\n".join(said), file=sys.stderr)
    if not files:
        raise UsageError(f"{path} has no pictures: give PNG or JPEG")
    return files


def _is_sheet(file):
    """Tell whether a JSON beside a picture says where others lie in it -> bool"""
    beside = file.with_suffix(".json")
    try:
        return beside.exists() and b'"frames"' in beside.read_bytes()
    except OSError:
        return False


def chosen(args, given, n):
    """Keep of many pictures the one that `again` asks for: its n results are then counted from 0

    given: list of Source; args.only: [number of the result], see `number_of`, or None -> list
    """
    if args.only is None or len(given) == 1:
        return given
    which, args.only = args.only[0] // n, [args.only[0] % n]
    if which >= len(given):
        raise UsageError("the pictures that it was made of are not all there: put them back")
    return given[which : which + 1]


def number_of(given, source, k, n):
    """Say which result the k-th of n of a picture is, where there are many, for `again` -> dict"""
    return {"number": str(given.index(source) * n + k)} if len(given) > 1 else {}


def require(args, given, names, *inputs):
    """Refuse, before the work starts, an --out that cannot take results, or would be read next time

    given: list of Source; names: of the results, without suffix; inputs: other files that are read
    -> None
    """
    results.require(args, names, *(source.path for source in given), *inputs)
    if results.into_folder(args):
        for path in filter(Path.is_dir, args.images):
            own.require_apart(path, args.out)


def read(given, read_one):
    """Read pictures, and say of each that cannot be used why; where there is only one, refuse it.

    given: list of Source; read_one: function of one -> list of what it gave, list of the others
    """
    if len(given) == 1:
        return [read_one(given[0])], []
    found, left_out = [], []
    for source in given:
        try:
            found.append(read_one(source))
        except (OSError, UsageError) as e:
            print(f"left out: {e}", file=sys.stderr)
            left_out.append(source)
    if not found:
        raise UsageError(f"none of these {number(len(given), 'picture')} can be used: see above")
    return found, left_out


def in_pieces(args, pipe, pictures, n, draw):
    """Draw n images of each picture, as many together as fit into memory: each as if alone.

    pictures: list; draw: function of a part of it, and an rng -> list of (N, H, W, C), x_T .. x_0
    -> the same of all, x_0 alone where no animation is asked for
    """
    together, chains = max(1, len(pipe.pieces(range(len(pictures) * n))[0]) // n), []
    for i in range(0, len(pictures), together):
        part = pictures[i : i + together]
        chain = draw(part, Alike(np.random.default_rng(args.seed), len(part)))
        chains.append(chain if results.animations(args) else chain[-1:])
    return [np.concatenate(x) for x in zip(*chains, strict=True)]


def said(pictures):
    """Count pictures for what an overview shows -> str"""
    return "the picture" if len(pictures) == 1 else f"each of {len(pictures)} pictures"


def columns(pictures, around, size, most=9):
    """Choose how many images an overview has in a row

    around: images that stand together, a picture and what was made of it; size: pixels per side;
    most: for a single picture -> int
    """
    return min(around, most) if len(pictures) == 1 else around * max(1, 256 // size // around)


def finish(given, left_out):
    """Say at the end how many pictures were left out, so that the exit status does, too -> None"""
    if left_out:
        names = some([str(source.path) for source in left_out])
        raise UsageError(f"{len(left_out)} of {len(given)} pictures were left out: {names}")
