"""files.py: a file appears whole or not at all, and never in place of what is no ordinary file."""

import os
import socket
import stat

import pytest

from tinydiff import files


def write(path, text=b"new"):
    return files.write_whole(path, lambda f: f.write(text))


def test_a_file_is_made_with_its_folder_and_replaces_an_older_one(tmp_path):
    path = tmp_path / "a" / "b" / "c"
    assert write(path) == path and path.read_bytes() == b"new"
    path.chmod(0o640)
    write(path, b"newer")
    assert path.read_bytes() == b"newer"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640  # who may read it, may go on to
    assert [p.name for p in path.parent.iterdir()] == ["c"]


def test_what_was_there_stays_when_writing_fails(tmp_path):
    (tmp_path / "a").write_bytes(b"old")

    def broken(f):
        f.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_whole(tmp_path / "a", broken)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def no_files(folder):
    """Make what is no ordinary file, of each kind that can be made here -> {kind: path}"""
    (folder / "target").write_bytes(b"old")
    made = {"a folder": folder / "folder", "a link": folder / "link", "a pipe": folder / "pipe"}
    made["a folder"].mkdir()
    made["a link"].symlink_to(folder / "target")
    os.mkfifo(made["a pipe"])
    made["a socket"] = folder / "socket"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(made["a socket"]))
    try:  # a device of our own: as root only
        os.mknod(folder / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        made["a device"] = folder / "device"
    except OSError:
        pass
    return made


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes")
def test_what_is_no_ordinary_file_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's name may not be long
    made = no_files(tmp_path.relative_to(tmp_path))
    before = {path: path.lstat().st_mode for path in made.values()}
    for kind, path in made.items():
        with pytest.raises(OSError, match=f"could not be written .it is {kind}") as e:
            write(path)
        assert "\n" not in str(e.value)
        with pytest.raises(OSError, match=f"it is {kind}"):
            files.require_replaceable(path)
    assert {path: path.lstat().st_mode for path in made.values()} == before
    assert (tmp_path / "target").read_bytes() == b"old"
    (tmp_path / "target").unlink()
    with pytest.raises(OSError, match="it is a link to target"):
        write(made["a link"])
    assert not (tmp_path / "target").exists()


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may write anything")
def test_a_write_protected_file_is_not_replaced(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "a").chmod(0o444)
    with pytest.raises(OSError, match="write-protected"):
        write(tmp_path / "a")


def test_trying_whether_a_place_can_be_written_leaves_nothing_behind(tmp_path):
    files.require_replaceable(tmp_path / "a" / "b" / "c")
    files.require_folder(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_bytes(b"x")
    for path in (tmp_path / "file" / "a", tmp_path / "file" / "a" / "b", tmp_path / ("n" * 300)):
        with pytest.raises(OSError):
            files.require_replaceable(path)
    with pytest.raises(OSError):
        files.require_folder(tmp_path / "file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes")
def test_only_files_are_read_and_links_to_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = no_files(tmp_path.relative_to(tmp_path))
    files.require_file(made.pop("a link"))
    for kind, path in made.items():
        with pytest.raises(OSError, match=f"it is {kind}, not a file"):
            files.require_file(path)
    with pytest.raises(FileNotFoundError):
        files.require_file(tmp_path / "none")
