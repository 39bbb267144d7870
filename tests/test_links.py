"""From lesson to lesson: what a lesson links is there, also for a JupyterLab in lessons/."""

import re
from urllib.parse import unquote

import nbformat
import pytest

import lessons
from lessons import LESSONS, fingerprint, read, shell, write_shell
from tinydiff.app.site import SHELL

TEXTS = [*sorted(LESSONS.glob("*.ipynb")), *sorted(LESSONS.glob("*.md"))]
each_lesson = pytest.mark.parametrize("path", lessons.lessons(), ids=lambda p: p.stem)


def text_of(path):
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    return "\n\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")


def links_of(text):
    """List the links and pictures of a text, but for formulas, code and addresses on the web."""
    plain = re.sub(r"```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$", "", text, flags=re.S)
    found = re.findall(r"\]\(([^)\s]+)\)", plain)
    return [unquote(link) for link in found if not re.match(r"https?://", link)]


def anchors_of(text):
    """List what can be linked in a text, as JupyterLab names its headings."""
    titles = re.findall(r"^#+ +(.+?) *$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    return {re.sub(r"[*`]", "", title).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.name)
def test_each_link_leads_to_what_lies_beside_it(path):
    """JupyterLab shows nothing above the folder that it was started in."""
    for link in links_of(text_of(path)):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.is_relative_to(LESSONS) and target.exists(), link
        assert not anchor or anchor in anchors_of(text_of(target)), link


def test_a_dead_link_is_noticed():
    text = "# A `b` c\n[x](../README.md), [y](#A-b-c) $[z](w)$ `[v](u)` [web](https://e.org)"
    assert links_of(text) == ["../README.md", "#A-b-c"] and anchors_of(text) == {"A-b-c"}


@each_lesson
def test_a_lesson_leads_to_its_neighbours_at_its_head_and_foot(path):
    """Run `python tests/lessons.py --shell` after a change of a title."""
    lines = [line for line in text_of(path).splitlines() if SHELL in line]
    assert lines == [shell(path)] * 2
    head, *_, foot = read(path).cells
    assert head.source.splitlines()[2] == foot.source.splitlines()[-1] == lines[0]


def test_the_shell_is_written_once_and_leaves_the_outputs_fresh(tmp_path, monkeypatch):
    names = "00_a.ipynb", "01_b.ipynb", "02_c.ipynb"
    for name in names:
        texts = f"# {name[:2]} · T\n\nWhat?\n\n## 1. The map", "## Next\n\nMore."
        cells = [nbformat.v4.new_markdown_cell(text) for text in texts]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / name)
    monkeypatch.setattr(lessons, "LESSONS", tmp_path)
    path, untouched = tmp_path / names[1], read(tmp_path / names[1])
    write_shell(path)
    once = path.read_text()
    write_shell(path)
    assert path.read_text() == once and fingerprint(read(path)) == fingerprint(untouched)
    title, _, line, *rest = read(path).cells[0].source.splitlines()
    assert [title, "", *rest] == ["# 01 · T", "", "", "What?", "", "## 1. The map"]
    links = names[0], f"{names[0]}#1.-The-map", "ERRATA.md", "LETTERS.md", names[2]
    assert links_of(line) == [*links]
