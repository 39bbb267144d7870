"""Takes from our modules, in every Python that starts with this folder in PYTHONPATH, what Windows
does not have; files are replaced and removed as there: not while anybody has them open.

Others' modules keep what they were written for. What this cannot show, only Windows can.
"""

import builtins
import os
import select
import socket
import warnings
from pathlib import Path

OURS = ("tinydiff", "data.packing")
MISSING = {"resource", "fcntl", "pwd", "grp", "termios"}
LACKS = {
    "os": "fork killpg setsid getuid geteuid getpgid register_at_fork sched_getaffinity"
    " pidfd_open mkfifo sched_yield statvfs O_NOFOLLOW O_NONBLOCK RTLD_NOLOAD WNOHANG",
    "signal": "SIGKILL SIGHUP SIGPIPE SIGALRM SIGUSR1 SIGUSR2 SIGSTOP SIGCHLD SIGQUIT alarm"
    " setitimer pause pthread_kill pthread_sigmask sigwait",
}
real_import = builtins.__import__


class Lacking:
    """A module of the standard library as Windows has it."""

    def __init__(self, module, instead):
        lacks = LACKS.get(module.__name__, "").split()
        vars(self).update(_module=module, _instead=instead, _lacks=lacks)

    def __getattr__(self, name):
        if name in self._lacks:
            raise AttributeError(f"module {self._module.__name__!r} has no attribute {name!r}")
        return self._instead.get(name, getattr(self._module, name))

    def __setattr__(self, name, value):
        setattr(self._module, name, value)


def sockets_only(read, write, error, seconds=None):
    """select.select: pipes are refused, as WinError 10038"""
    if not all(isinstance(each, socket.socket) for each in (*read, *write, *error)):
        raise OSError("an operation was attempted on something that is not a socket")
    return select.select(read, write, error, seconds)


def named_library(real):
    """ctypes.CDLL: None, the process itself, is refused"""

    def load(name, *args, **options):
        if name is None:
            raise TypeError("argument of type 'NoneType' is not iterable")
        return real(name, *args, **options)

    return load


INSTEAD = {
    "os": {"name": "nt"},
    "sys": {"platform": "win32"},
    "signal": {},
    "select": {"select": sockets_only},
    "ctypes": {},
}


def import_as_windows(name, globals=None, locals=None, fromlist=(), level=0):
    """Import for our modules what Windows has: as __import__"""
    importer = (globals or {}).get("__name__", "")
    if level or not importer.startswith(OURS):
        return real_import(name, globals, locals, fromlist, level)
    if name in MISSING:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    module = real_import(name, globals, locals, fromlist, level)
    if name not in INSTEAD:
        return module
    instead = INSTEAD[name]
    if name == "ctypes":
        instead = {"CDLL": named_library(module.CDLL)}
    return Lacking(module, instead)


def is_open(path):
    """Tell whether this process has a file open, or mapped: str or Path -> bool"""
    place = os.path.realpath(path)
    held = []
    for number in Path("/proc/self/fd").iterdir():
        try:
            held.append(os.readlink(number))
        except OSError:  # it was opened to list them
            pass
    return place in held or place in Path("/proc/self/maps").read_text(encoding="utf-8")


def unless_open(real):
    """Refuse to move or remove what is open, as WinError 32"""

    def change(path, *args, **options):
        for each in (path, *args[:1]):
            if isinstance(each, str | os.PathLike) and is_open(each):
                raise PermissionError(13, "used by another process", os.fspath(each))
        return real(path, *args, **options)

    return change


def no_links(*args, **options):
    """os.symlink: a right that users do not have, WinError 1314"""
    raise OSError("a required privilege is not held by the client")


builtins.__import__ = import_as_windows
os.symlink = no_links
os.replace, os.rename, os.remove = map(unless_open, (os.replace, os.rename, os.remove))
os.unlink = os.remove
warnings.filterwarnings("error", "", EncodingWarning, r"tinydiff\.")
