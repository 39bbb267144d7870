"""Ctrl-C, SIGTERM, a closed terminal or pipe: a command ends in order, with a line and a status.

An exit status as a shell gives it: 128 + the number of the signal. This file loads nothing heavy:
it is at work before anything else is imported.
"""

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress

NAMES = {"SIGINT": "Ctrl-C", "SIGTERM": "SIGTERM", "SIGHUP": "SIGHUP: the terminal was closed"}
NAMES["SIGBREAK"] = "Ctrl-Break"  # of Windows
SIGNALS = {getattr(signal, name): says for name, says in NAMES.items() if hasattr(signal, name)}
PATIENCE = 2.0  # seconds in which no further signal disturbs the tidying up after one
NOTHING = "nothing was written; give the same command to start again"

_calm = 0.0  # until then, on the clock of time.monotonic


class Interrupted(KeyboardInterrupt):
    """A signal asks the whole command to end.

    number: of the signal; kept: what is left of the work and how to go on, "" where nobody knows
    """

    def __init__(self, number, kept=""):
        super().__init__(number)
        self.number, self.kept = number, kept


@contextmanager
def heard():
    """Turn signals into Interrupted for the length of a `with` block.

    Those within PATIENCE after another are passed over. An Interrupted that Python must ignore, as
    it does in what LLVM calls back while it compiles, is raised again a moment later.
    """
    global _calm
    came, _calm, unraisable = [], 0.0, sys.unraisablehook

    def stop(number, frame):
        came.append(number)
        if time.monotonic() >= _calm:
            _be_calm()
            raise Interrupted(number)

    def again(ignored):
        global _calm
        if not isinstance(ignored.exc_value, Interrupted):
            return unraisable(ignored)
        _calm = 0.0
        threading.Timer(0.05, send, [ignored.exc_value.number]).start()

    def send(number):
        if signal.getsignal(number) is stop:
            signal.raise_signal(number)  # the main thread hears it

    with _handled(stop):
        sys.unraisablehook = again
        try:
            yield
        except Exception:
            if came:  # an import or a compilation, cut short, has failed in a way of its own
                raise Interrupted(came[0]) from None
            raise
        finally:
            sys.unraisablehook = unraisable


@contextmanager
def noted(came):
    """Note signals in a list instead, so that nothing in a `with` block is cut in two."""

    def note(number, frame):
        came.append(number)
        _be_calm()

    with _handled(note):
        yield


def _be_calm():
    global _calm
    _calm = time.monotonic() + PATIENCE


@contextmanager
def _handled(handler):
    """Install a handler, in the main thread only; what nohup ignores stays ignored."""
    before = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


# --- what is left of the work ---


@contextmanager
def keeping(kept):
    """Say what is kept where a `with` block is cut short. kept: () -> str, "" where nothing is"""
    try:
        yield
    except KeyboardInterrupt as e:
        e.kept = getattr(e, "kept", "") or kept()
        raise


@contextmanager
def watching(paths):
    """Say which of these files a `with` block has written before it was cut short: list of Paths

    Folders that were made for them, and are still empty when it fails, go again.
    """
    paths = [path.absolute() for path in paths]
    before = {path: _inode(path) for path in paths}
    made = [folder for path in paths for folder in (path, *path.parents) if not folder.exists()]

    def tidy():
        for folder in made:
            with suppress(OSError):
                folder.rmdir()

    def written():
        tidy()
        new = [str(path) for path, inode in before.items() if _inode(path) != inode]
        return f"{', '.join(new)} is complete; the rest was not written" if new else ""

    try:
        with keeping(written):
            yield
    except BaseException:
        tidy()
        raise


def _inode(path):
    """Identify what lies at a path, a file or a folder: its number, or None"""
    with suppress(OSError):
        return path.stat().st_ino
    return None


def told(e):
    """Say in one line what a KeyboardInterrupt has left -> exit status"""
    number, kept = getattr(e, "number", signal.SIGINT), getattr(e, "kept", "") or NOTHING
    say(f"interrupted ({SIGNALS[number]}): {kept}")
    return 128 + number


def say(line):
    """Say why a command ended: str -> None; nothing happens where nobody reads, as after SIGHUP"""
    line = "".join(c if c.isprintable() else " " for c in str(line))  # a file's name may have any
    with suppress(OSError, ValueError):
        print(f"tinydiff: {line}", file=sys.stderr, flush=True)


# --- streams that are closed ---

PIPE_CLOSED = 128 + getattr(signal, "SIGPIPE", 13)


def open_streams():
    """Let what was started without stdout or stderr (>&-) write into the void: () -> None

    And let stdout write names that it has no letters for, as stderr does.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))
    with suppress(AttributeError, ValueError):  # it is another's
        sys.stdout.reconfigure(errors="backslashreplace")


def run(command):
    """Run the whole program: command, a function that gives its exit status -> exit status

    Nothing of what Python does at its end makes noise: no signal, and no pipe that is closed.
    """
    open_streams()
    try:
        with heard():
            status = command()
    except KeyboardInterrupt as e:
        status = told(e)
    except SystemExit as e:  # of --help
        status = e.code or 0
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    status = _flushed(sys.stderr, _flushed(sys.stdout, status))
    if status - 128 in SIGNALS:
        os._exit(status)  # LLVM, cut short while it compiles, may crash when it is taken down
    return status


def _flushed(stream, status):
    """Write out what a stream still holds: stream, exit status so far -> exit status"""
    try:
        stream.flush()
    except OSError as e:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if isinstance(e, BrokenPipeError):
            return status or PIPE_CLOSED
        say(f"the output could not be written ({e.strerror})")
        return status or 2
    return status
