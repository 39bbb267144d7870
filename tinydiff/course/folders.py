"""Folders and zips read as one tree, within limits; nothing is unpacked to disk.

What is in a zip is an Item like what is on disk. A zip may hold zips, those no others. Names in it
that lead elsewhere, links and encrypted members are Items that say why they are not read.
"""

import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from ..files import KINDS
from .submission import Unreadable

BIGGEST = 256 << 20  # bytes of one file; notebooks with many pictures have some 10 MB
MEMBERS = 100_000  # of one zip: environments have some 10,000
RATIO, SMALL = 100, 16 << 20  # what is larger than SMALL must not be packed more tightly
NESTED = 2  # a zip may hold zips

DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)


@dataclass
class Item:
    """A file or a folder, on disk or in a zip.

    path: Path by which people are told of it, in which a zip is like a folder
    load: () -> bytes, None for a folder; open: () -> list of Items, None for a file; both raise
    Unreadable; why: what it is instead, such as "a link to nothing", else ""
    level: in how many zips it is
    """

    path: Path
    load: Callable | None = None
    open: Callable | None = None
    size: int = 0
    why: str = ""
    level: int = 0

    @property
    def name(self):
        """Name it without its folder: -> str"""
        return self.path.name


def on_disk(path, home=None):
    """Make an Item of what lies on disk: Path -> Item

    home: resolved Path of a student's folder: links that lead out of it are not followed
    """
    try:
        if path.is_symlink():
            target = path.resolve()
            if not target.exists():
                return Item(path, why="a link to nothing")
            if home and not target.is_relative_to(home):
                return Item(path, why="a link that leads out of the folder")
            if home and target.is_dir():
                return Item(path, why="a link to another folder")
        kind = path.stat()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        return Item(path, why=getattr(error, "strerror", None) or "a link in a circle")
    if stat.S_ISDIR(kind.st_mode):
        return Item(path, open=lambda: _inside(path, home))
    if what := KINDS.get(stat.S_IFMT(kind.st_mode)):
        return Item(path, why=what)
    return Item(path, load=lambda: _whole(path, kind.st_size), size=kind.st_size)


def _inside(path, home):
    try:
        return [on_disk(inner, home or path.resolve()) for inner in sorted(path.iterdir())]
    except OSError as error:
        raise Unreadable(f"a folder that cannot be read ({error.strerror})") from None


def _whole(path, size):
    """Read a file from disk: Path, its size -> bytes"""
    _require(size)
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(f"a file that cannot be read ({error.strerror})") from None


def _require(size, packed=None):
    if size > BIGGEST:
        raise Unreadable(f"larger than {BIGGEST >> 20} MB")
    if packed is not None and size > max(SMALL, RATIO * packed):
        raise Unreadable(f"packed more tightly than {RATIO}:1")


def unpacked(item):
    """Open a zip as a folder: Item of a file -> Item of a folder with the same path

    Raises Unreadable where it is no zip, is damaged, or holds too much.
    """
    if item.level == NESTED:
        raise Unreadable("a zip in a zip in a zip")
    try:
        archive = zipfile.ZipFile(BytesIO(item.load()) if item.level else item.path)
        members = archive.infolist()
    except DAMAGED:
        raise Unreadable("a damaged zip") from None
    if len(members) > MEMBERS:
        raise Unreadable(f"a zip of more than {MEMBERS:,} files")
    tree = {}
    for member in members:
        parts = PurePosixPath(member.filename.replace("\\", "/")).parts
        if {"/", ".."} & set(parts) or (parts and ":" in parts[0]):
            tree[parts[-1]] = "a name that leads out of the zip"
        else:
            _grow(tree, parts, member)
    return _in_zip(Item(item.path, level=item.level + 1), tree, archive)


def _grow(tree, parts, member):
    """Put a member of a zip into a tree: dict of name to dict, ZipInfo or reason -> None"""
    folders = parts if member.is_dir() else parts[:-1]
    for name in folders:
        below = tree.get(name)
        tree[name] = below if isinstance(below, dict) else {}
        tree = tree[name]
    if parts and not member.is_dir():
        tree[parts[-1]] = member


def _in_zip(item, content, archive):
    """Fill in an Item by what the tree of a zip has in its place: dict, ZipInfo or reason"""
    if isinstance(content, dict):
        inside = sorted(content.items())
        of = lambda name: replace(item, path=item.path / name, open=None)
        item.open = lambda: [_in_zip(of(name), inner, archive) for name, inner in inside]
    elif isinstance(content, str):
        item.why = content
    elif stat.S_ISLNK(content.external_attr >> 16):
        item.why = "a link"
    elif content.flag_bits & 1:
        item.why = "encrypted: hand it in without a password"
    else:
        item.size = content.file_size
        item.load = lambda: _unpack(archive, content)
    return item


def _unpack(archive, member):
    """Read a file of a zip: ZipFile, ZipInfo -> bytes"""
    _require(member.file_size, member.compress_size)
    try:
        with archive.open(member) as file:
            return file.read(member.file_size)
    except DAMAGED:
        raise Unreadable("a damaged zip") from None
