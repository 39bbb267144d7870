"""`site`: the course as web pages."""

import shutil
import tempfile
from pathlib import Path

from . import interrupt, site
from .progress import Bar
from .usage import UsageError, require_writable


def cmd_site(args):
    """Write the lessons as linked web pages; the folder is whole, or as it was.

    args: dir -> None
    """
    if not site.is_here():
        where = "the course is not here, or not all of it"
        raise UsageError(f"{where}: write the site in a clone of the repository")
    folder = args.dir.resolve()
    if folder.exists() and not (folder.is_dir() and is_site(folder)):
        what = "already exists and is not an earlier site"
        raise UsageError(f"{args.dir} {what}: give a new folder")
    if args.dir.is_symlink() and not folder.exists():
        raise UsageError(f"{args.dir} is a link to nothing: give a new folder")
    require_writable(folder if folder.exists() else folder.parent, "DIR,")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".site", dir=folder.parent))
    try:
        with Bar(len(site.names()), "writing the site", "pages") as bar:
            names = site.write(made, bar.tick)
        made.chmod(0o755)
        put(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    print(f"{args.dir}: {len(names)} pages; open {args.dir / 'index.html'} in a browser")


def is_site(folder):
    """Tell whether a folder is empty, or holds a site that this command wrote: Path -> bool"""
    index = folder / "index.html"
    if not index.is_file():
        return not any(folder.iterdir())
    return site.MARK in index.read_text(encoding="utf-8", errors="replace")


def put(made, folder):
    """Move a finished site to its place, over the files of an earlier one: Path, Path -> None

    What else lies there, as .git or CNAME, stays.
    """
    if not folder.exists():
        made.rename(folder)
        return
    came = []
    with interrupt.noted(came):
        for path in (path for path in sorted(made.rglob("*")) if path.is_file()):
            target = folder / path.relative_to(made)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    if came:
        raise interrupt.Interrupted(came[0], f"{folder} is complete")
