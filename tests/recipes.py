"""Run the commands of the designers' page, and draw its pictures anew.

    python tests/recipes.py

Runs in a new folder, from the clone's lessons/ alone, and prints how long each recipe takes.
"""

import contextlib
import io
import os
import re
import shlex
import tempfile
import time
from pathlib import Path

from PIL import Image

from tinydiff.app import cli

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURES = ROOT / "lessons" / "DESIGNERS.md", ROOT / "lessons" / "designers"
WIDTH, GAP = 640, 8  # of a picture of the page, and between those that it shows, in pixels


def recipes(text):
    """Cut the page into its recipes -> list of (title, commands, files that the picture shows)"""
    found = []
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        commands = re.findall(r"^    python -m tinydiff (.*)$", part, flags=re.MULTILINE)
        shown = re.search(r"!\[.*?\]\(designers/(\S+)\)<!-- (.*?) -->", part)
        if commands and shown:
            found.append((part.splitlines()[0], commands, shown[1], shown[2].split()))
    return found


def run(commands):
    """Run lines of the command line in this folder -> what they printed, seconds"""
    began, said = time.perf_counter(), io.StringIO()
    with contextlib.redirect_stdout(said):
        for line in commands:
            status = cli.main(shlex.split(line, comments=True))
            assert status == 0, f"{line}: status {status}"
    return said.getvalue(), time.perf_counter() - began


def composed(patterns, folder):
    """Lay pictures of one size out, in rows of eight, enlarged by a whole factor -> RGB picture"""
    paths = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    assert paths, f"no file is called {' or '.join(patterns)}"
    pictures = [on_paper(path) for path in paths]
    (w, h), columns = pictures[0].size, min(8, len(pictures))
    scale = max(1, WIDTH // (columns * (w + 1)))
    size = columns * (w * scale + GAP) - GAP, -(-len(pictures) // columns) * (h * scale + GAP) - GAP
    page = Image.new("RGB", size, "white")
    for k, picture in enumerate(pictures):
        large = picture.resize((w * scale, h * scale), Image.Resampling.NEAREST)
        page.paste(large, (k % columns * (w * scale + GAP), k // columns * (h * scale + GAP)))
    return page


def on_paper(path):
    """Lay a picture on paper, as a page shows it -> RGB picture"""
    with Image.open(path) as picture:
        picture = picture.convert("RGBA")
        paper = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(paper, picture).convert("RGB")


def folder_of_its_own(work):
    """Go to a new folder that has the page's inputs, and nothing else -> the folder"""
    folder = Path(work)
    (folder / "lessons").mkdir()
    (folder / "lessons" / "designers").symlink_to(PICTURES)
    os.chdir(folder)
    return folder


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as work:
        folder = folder_of_its_own(work)
        for title, commands, name, shown in recipes(page):
            said, seconds = run(commands)
            composed(shown, folder).save(PICTURES / name, optimize=True)
            print(f"{title}: {seconds:.1f} s\n{said}")
        os.chdir(ROOT)
