"""A Python shut in with a private copy of the package: what an answer does there, ends there.

Where bubblewrap (`bwrap`) is installed and works, each student's answers run without a network, in
a process space of their own, with a /tmp of their own, and see nothing else that could be written
to, nor the class, the clone, or anybody's home. Without it, limits remain: on time, memory, the
size of files, processes. In both, nothing of the environment comes along that could change a
verdict.
"""

import json
import os
import pickle
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from .arbiter import KILL, REPORT, prctl
from .exercises import ROOT, exercises
from .handout import blank

KEPT = {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "SYSTEMROOT", "LD_LIBRARY_PATH", "VIRTUAL_ENV"}
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
HIDDEN = ("/home", "/root", "/tmp", "/var/tmp", "/run", "/media", "/mnt", "/srv")
DISK = 256 << 20  # bytes that a student's answers may leave in their /tmp
MARK = "TINYDIFF_SANDBOX"  # in the environment of all that runs in one

# The first lines of the Python in there: unpack the copy, import from it.
BEGIN = """
import os, pickle, shutil, sys
from pathlib import Path
job = pickle.load(sys.stdin.buffer)
home = Path.cwd()
for name, (content, time) in job.pop("tree").items():
    (home / name).parent.mkdir(parents=True, exist_ok=True)
    (home / name).write_bytes(content)
    os.utime(home / name, (time, time))
for tree in ("full", "bare"):
    try:
        (home / tree / "data").symlink_to(job["data"])
    except OSError:  # Windows lets few users make links
        shutil.copytree(job["data"], home / tree / "data")
sys.path.insert(0, str(home / "full"))
sys.path.insert(1, str(home / "full/tests"))
def forget():
    full, bare = str(home / "full"), str(home / "bare")
    for module in list(sys.modules.values()):
        if module.__name__.split(".")[0] == "tinydiff" and hasattr(module, "__path__"):
            module.__path__[:] = [path.replace(full, bare) for path in module.__path__]
    sys.path[:2] = [bare]
    shutil.rmtree(home / "full/tinydiff")
    shutil.rmtree(home / "full/tests")
os.umask(0o077)
from tinydiff.course import arbiter
arbiter.serve(job, forget)
"""


# --- the private copy ---


@cache
def _tree():
    """Read what is copied: () -> {name: (bytes, time of the last change)}

    full/: the package and its tests; bare/: the package without the exercises' bodies
    """
    tree = {}
    tests = [p for p in (ROOT / "tests").rglob("*") if "bench" not in p.parts]
    for path in [*(ROOT / "tinydiff").rglob("*"), *tests, ROOT / "pyproject.toml"]:
        wanted = path.suffix in (".py", ".json", ".toml", ".pyc", ".css", ".js")
        if wanted and path.is_file() and "fixtures" not in path.parts:
            name = path.relative_to(ROOT).as_posix()
            tree[f"full/{name}"] = path.read_bytes(), int(path.stat().st_mtime)
    bodies = {}
    for e in exercises():
        bodies.setdefault(e.place, set()).add(e.function)
    for name in [name for name in tree if name.startswith("full/tinydiff/")]:
        place, (content, changed) = name.removeprefix("full/"), tree[name]
        if place in bodies:
            content = blank(content.decode(), bodies[place]).encode()
        if not place.endswith(".pyc"):
            tree[f"bare/{place}"] = content, changed
    return tree


def changed():
    """List which files of the package and its tests are not what they were when they were copied.

    Without walls a student's code can write where the instructor can. () -> list of names
    """
    found = []
    for name, (content, _) in _tree().items():
        place = name.removeprefix("full/")
        if place != name and place.endswith(".py"):
            with suppress(OSError):
                if (ROOT / place).read_bytes() == content:
                    continue
            found.append(place)
    return found


# --- what shuts it in ---


@cache
def _bubblewrap():
    """Find out whether bubblewrap works here: () -> the path of bwrap, "" if it does not"""
    path = shutil.which("bwrap")
    if not path or sys.platform != "linux":
        return ""
    with suppress(OSError, subprocess.TimeoutExpired):
        words = [*_walls(path, []), sys.executable, "-c", "import numpy"]
        done = subprocess.run(words, capture_output=True, timeout=60, env=_environment({}))
        return path if done.returncode == 0 else ""
    return ""


def protection():
    """Say in a line what guards the instructor's machine: () -> str"""
    if _bubblewrap():
        return "in bubblewrap: no network, own /tmp and processes, all else read-only or hidden"
    limits = "limits on time, memory and processes only, since bubblewrap (bwrap) is"
    why = "not installed" if not shutil.which("bwrap") else "not allowed to work here"
    return f"{limits} {why}: grade untrusted work in a container"


def _walls(bwrap, hidden):
    """Write the command that shuts a process in: path of bwrap, folders to hide -> list of words"""
    words = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    words += ["--as-pid-1"]  # no process of bwrap's in there, whose files could be written to
    words += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    words += ["--size", str(DISK), "--tmpfs", "/dev/shm"]
    if Path("/etc/shadow").exists():
        words += ["--ro-bind", "/dev/null", "/etc/shadow"]
    if Path("/dev/nvidiactl").exists():
        devices = sorted(map(str, Path("/dev").glob("nvidia*")))
        words += [w for device in devices for w in ("--dev-bind-try", device, device)]
    folders = [*HIDDEN, ROOT, Path.cwd(), Path.home(), *_hidden, *hidden]
    there = {Path(f).resolve() for f in folders if Path(f).is_dir()} - {Path("/")}
    outer = [str(f) for f in there if not there & set(f.parents)]
    for folder in sorted(outer):
        size = ["--size", str(DISK)] if folder == "/tmp" else []
        words += [*size, "--tmpfs", folder]
    seen = [sys.prefix, sys.base_prefix, *_paths(), str(ROOT / "data")]
    for path in dict.fromkeys(map(Path.resolve, map(Path, seen))):
        if not any(folder.is_relative_to(path) for folder in there):  # that would show it again
            words += ["--ro-bind", str(path), str(path)]
    words += [w for f in sorted(outer) if f != "/tmp" for w in ("--remount-ro", f)]
    return [*words, "--chdir", "/tmp"]


def _paths():
    """List where this Python finds its packages, the clone's own folder excepted: -> list"""
    found = [os.path.realpath(p) for p in sys.path if p and os.path.isdir(p)]
    ours = {os.path.realpath(p) for p in (ROOT, ROOT / "tests", Path.cwd())}
    return [p for p in found if p not in ours and not (Path(p) / "tinydiff/course").is_dir()]


def _environment(more):
    """Make the environment of a process in there: dict of what is added -> dict"""
    kept = {name: value for name, value in os.environ.items() if name in KEPT}
    ours = {"HOME": "/tmp", "TMPDIR": "/tmp", "PYTHONPATH": os.pathsep.join(_paths())}
    ours |= {
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "NUMBA_CACHE_DIR": "/tmp/numba",
    }
    return kept | ours | dict.fromkeys(THREADS, "1") | more


class Ended(Exception):
    """The process in the sandbox has ended, or was silent for too long. late: the latter"""

    def __init__(self, late, code):
        super().__init__(late, code)
        self.late, self.code = late, code


_hidden = set()  # folders besides


def hide(folder):
    """Let no sandbox see a folder: Path -> None"""
    _hidden.add(folder.absolute())


_running = set()  # the sandboxes of this process
_lock = threading.Lock()


class Sandbox:
    """One sandbox, for one student. Use it in a `with` block."""

    def __init__(self, surroundings, hidden=()):
        """surroundings: dict, added to its environment; hidden: folders that it must not see"""
        self.mark = os.urandom(8).hex()
        self.folder = Path(tempfile.mkdtemp(prefix="tinydiff"))
        wrap, more = _bubblewrap(), surroundings | {MARK: self.mark}
        more.pop("PYTHONPATH", None)  # see _paths
        if not wrap:
            prctl("DUMPABLE", 0)  # see arbiter.serve
            home = str(self.folder)
            more |= {"HOME": home, "USERPROFILE": home, "TMPDIR": home}
            more |= {"NUMBA_CACHE_DIR": f"{home}/numba"}
        words = [sys.executable, "-P", "-c", BEGIN]
        self.process = subprocess.Popen(
            [*_walls(wrap, hidden), *words] if wrap else words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            env=_environment(more),
            start_new_session=True,
        )
        self.lines = queue.SimpleQueue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        with _lock:
            _running.add(self)

    def _read(self):
        """Put each line that it says into a queue, up to REPORT bytes, and an empty one at the end.

        In a thread, since nobody can wait for a pipe for so many seconds on Windows.
        """
        left = REPORT
        with suppress(OSError):
            while line := self.process.stdout.readline(left):
                left -= len(line)
                self.lines.put(line)
        self.lines.put(b"")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.end()
        self.process.wait()
        self.reader.join(1.0)
        with suppress(OSError):
            self.process.stdin.close()
        if not self.reader.is_alive():  # where marks cannot be read, what it started may hold on
            self.process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        with _lock:
            _running.discard(self)

    def end(self):
        """End all that runs in the sandbox, at once."""
        with suppress(ProcessLookupError, PermissionError, AttributeError):
            os.killpg(self.process.pid, KILL)
        self.process.kill()
        while any([_kill(pid) for pid in _marked(self.mark)]):
            time.sleep(0.01)

    def send(self, names, submissions, beside, seconds, forks, compiles=False):
        """Give it its work: names of exercises, Submissions, other files, limit for each.

        forks: have an arbiter and a candidate for each; compiles: see compiled.py, no test is run
        """
        parts = [(str(s.path.name), s.cells, getattr(s, "beside", {})) for s in submissions]
        job = {"exercises": names, "submissions": parts, "beside": beside, "seconds": seconds}
        job |= {"tree": _tree(), "data": str(ROOT / "data"), "forks": forks}
        job |= {"compiles": compiles}
        with suppress(BrokenPipeError):
            pickle.dump(job, self.process.stdin)
            self.process.stdin.close()

    def line(self, seconds):
        """Wait for what it says of one exercise: limit -> dict. Raises Ended."""
        try:
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            raise Ended(True, 0) from None
        if not line.endswith(b"\n"):
            self.end()
            raise Ended(False, self.process.wait())
        return json.loads(line)


def end_all():
    """End every sandbox of this process."""
    with _lock:
        still = list(_running)
    for sandbox in still:
        sandbox.end()


def _marked(mark):
    """List the processes that carry a mark in their environment: str -> list of numbers"""
    found, wanted = [], f"{MARK}={mark}".encode()
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (path / "environ").read_bytes():
                found.append(int(path.name))
    return found


def _kill(pid):
    with suppress(OSError):
        os.kill(pid, KILL)
        return True
    return False
