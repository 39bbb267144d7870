"""Files that appear whole or not at all, and never in place of what is no ordinary file."""

import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def require_file(path):
    """Refuse to read anything but an ordinary file: a pipe may hang, a device may have no end.

    path: file name, also of a link to a file -> None
    Raises OSError when there is no such file, or it is another thing.
    """
    if kind := KINDS.get(stat.S_IFMT(os.stat(path).st_mode)):
        raise OSError(f"it is {kind}, not a file")


def require_replaceable(path):
    """Refuse to write where a file could not be, or where it would replace anything but a file.

    path: Path -> None. Raises OSError where a folder, link, pipe, device or write-protected file
    lies, and where the nearest folder above it that exists cannot be written to.
    """
    try:
        kind = KINDS.get(stat.S_IFMT(os.lstat(path).st_mode))
    except FileNotFoundError:
        pass
    else:
        to = f" to {os.readlink(path)}" if path.is_symlink() else ""
        why = f"it is {kind}{to}, which is not replaced" if kind else "it is write-protected"
        if kind or not os.access(path, os.W_OK):
            raise OSError(f"{path} could not be written ({why}): give another name")
    require_folder(path.parent)


def require_folder(folder):
    """Refuse a folder that cannot take files: it, or the nearest above it that exists, is tried.

    folder: Path; nothing is made, so that a command that fails leaves no empty folder behind
    -> None. Raises OSError.
    """
    folder = Path(os.path.abspath(folder))
    there = next((each for each in (folder, *folder.parents) if os.path.lexists(each)), folder)
    tempfile.TemporaryFile(dir=there).close()


def write_whole(path, write):
    """Let write(file) make a file, which appears under its name only when it is finished.

    It is written beside its place and moved there in one step: after a crash there is either the
    old file or the new one. A file that is replaced passes its permissions on.
    path: Path, whose folder is made if it is missing; write: function of a binary file -> the path
    Raises OSError when it cannot be written, or as require_replaceable does.
    """
    unfinished = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")
    try:
        require_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(unfinished, "wb") as f:
                write(f)
                f.flush()
                os.fsync(f.fileno())
            if path.exists():
                shutil.copymode(path, unfinished)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as e:
        if not e.strerror:
            raise
        raise OSError(f"{path} could not be written ({e.strerror})") from None
    return path
