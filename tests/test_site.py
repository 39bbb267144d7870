"""The course as web pages: whole, linked, with words for each picture, and nothing from outside."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote

import nbformat
import pytest

from lessons import lessons, read
from tinydiff.app import cli, site

LOADS = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """What a page links, loads and shows."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.ids, self.pictures = [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids.add(given.get("id"))
        if tag == "a":
            self.links.append(given.get("href", ""))
        if tag in LOADS and given.get(LOADS[tag]):
            self.loads.append(given[LOADS[tag]])
        if tag == "img":
            self.pictures.append(given)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("site") / "web"
    assert cli.main(["site", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def pages(folder):
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.html")}
    return {name: (text, Page(text)) for name, text in found.items()}


def refused(capsys, *argv):
    """Run the command, which must end with one line -> it"""
    capsys.readouterr()
    assert cli.main([*map(str, argv)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_there_is_a_page_for_each_lesson_and_for_what_belongs_to_it(pages):
    names = [*(path.stem for path in lessons()), *site.NOTES, "gallery", "index"]
    assert set(pages) == {f"{name}.html" for name in names}
    _, index = pages["index.html"]
    assert set(pages) - {"index.html"} <= {link for link in index.links}


def test_each_link_leads_somewhere(folder, pages):
    for name, (_, page) in pages.items():
        for link in (link for link in page.links if not link.startswith(("http://", "https://"))):
            target, _, anchor = link.partition("#")
            assert (folder / target).exists(), f"{name}: {link}"
            ids = pages[target or name][1].ids
            assert not anchor or {anchor, unquote(anchor)} & ids, f"{name}: {link}"


def test_nothing_is_loaded_from_outside(folder, pages):
    for name, (text, page) in pages.items():
        for source in page.loads:
            inside = source.startswith("data:") or (folder / source).is_file()
            assert inside, f"{name}: {source[:80]}"
        assert not re.search(r"@import|url\(|cdn\.", re.sub(r"base64,[\w+/=]+", "", text)), name
    assert not re.search(r"@import|url\(", (folder / "site.css").read_text(encoding="utf-8"))
    assert len(list((folder / "mathjax" / "output").rglob("*.woff"))) > 20


def test_each_picture_has_words(pages):
    pictures = [picture for _, page in pages.values() for picture in page.pictures]
    assert len(pictures) > 150
    assert all(len(picture.get("alt") or "") > 5 for picture in pictures)


def test_lessons_lead_to_their_neighbours(pages):
    stems = [path.stem for path in lessons()]
    for k, stem in enumerate(stems):
        around = [*stems[max(k - 1, 0) : k], "index", *stems[k + 1 : k + 2]]
        (head,) = re.findall(r"<header>(.*?)</header>", pages[f"{stem}.html"][0], re.S)
        assert re.findall(r'href="(\w+)\.html"', head) == around
        assert f"<footer>{head}</footer>" in pages[f"{stem}.html"][0]


def test_players_and_verdicts_are_there(pages):
    text = pages["00_first_pictures.html"][0]
    assert 'type="range"' in text and "<script>" in text
    assert "not attempted" in pages["01_forward.html"][0]


# --- a cell, an output, a link ---


def cell(source="x", **metadata):
    return nbformat.v4.new_code_cell(source, metadata=metadata)


def data(**forms):
    named = {name.replace("_", "/", 1): value for name, value in forms.items()}
    return nbformat.v4.new_output("display_data", named)


PNG = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAADCAIAAAA2iEnWAAAAEElEQVR4nGP4DwcMcBYAN7gL9e2cQzgAAAAASUVORK5C"


def test_a_widget_gives_way_to_what_stands_for_it():
    widget = {site.WIDGET: {"model_id": "1"}, "text/plain": "interactive(...)"}
    assert site.output(nbformat.v4.new_output("display_data", widget), "") == ""
    both = nbformat.v4.new_output("display_data", widget | {"image/png": PNG})
    assert 'width="2" height="3" alt="a &lt; b"' in site.output(both, "a < b")


def test_outputs_are_shown_in_their_best_form():
    assert "**" not in site.output(data(text_markdown="**b**", text_plain="no"), "")
    assert site.output(data(text_plain="a < b"), "") == "<pre>a &lt; b</pre>"
    html = '<style>pre { color: red } td.linenos {} </style><p><img src="data:,"></p>'
    shown = site.output(data(text_html=html, text_plain="no"), "words")
    assert "<style>" not in shown and 'alt="words"' in shown
    printed = [nbformat.v4.new_output("stream", text=text) for text in ("<a", ">\n")]
    (one,) = site.joined(printed)
    assert "&lt;a&gt;" in site.output(one, "")


def test_code_that_jupyter_folds_is_folded():
    assert "<details open" in site.code(cell()).replace(' class="code"', "")
    assert "open" not in site.code(cell(jupyter={"source_hidden": True})).partition("<summary>")[0]


def test_the_lines_that_lead_on_in_jupyterlab_are_left_out():
    text = f"# 01 · T\n\n[next](02_b.ipynb) {site.SHELL}\n\nText."
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    shown = site.lesson("01_t", notebook)
    assert "Text." in shown and "next" not in shown and site.SHELL not in shown


def test_pictures_are_described_by_their_cell_or_by_their_section():
    picture, heading = data(image_png=PNG), nbformat.v4.new_markdown_cell("# 00 · T\n## 3. Steps")
    drawn = cell("# Figure: noise\n# over time\n# Figure: a < b\nplot(x)")
    drawn.outputs = [picture, nbformat.v4.new_output("stream", text="x"), picture, picture]
    shown = site.lesson("00_t", nbformat.v4.new_notebook(cells=[heading, drawn]))
    words = re.findall('alt="(.*?)"', shown)
    assert words[:2] == ["noise over time", "a &lt; b"] and words[2].endswith("3. Steps")


def test_links_lead_to_pages_or_are_text():
    text = "[a](03_reverse.ipynb#x) [b](ERRATA.md) [c](../tinydiff/nn.py) [d](https://e.org)"
    shown = site.markdown(text)
    assert 'href="03_reverse.html#x"' in shown and 'href="ERRATA.html"' in shown
    assert "nn.py" not in shown and 'href="https://e.org"' in shown and "c" in shown


def test_a_table_scrolls_in_its_box_and_formulas_reach_mathjax():
    shown = site.markdown("| a | b |\n| --- | --- |\n| $x_1*y*$ | c |\n")
    assert '<div class="wide"><table>' in shown and "$x_1*y*$" in shown


# --- where it is written ---


def test_a_folder_with_other_things_is_left_alone(tmp_path, capsys):
    (tmp_path / "index.html").write_text("<p>mine</p>")
    assert "give a new folder" in refused(capsys, "site", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert "give a new folder" in refused(capsys, "site", tmp_path / "index.html")
    (tmp_path / "index.html").rename(tmp_path / "notes.html")
    assert "give a new folder" in refused(capsys, "site", tmp_path)


def test_an_earlier_site_is_replaced_and_what_else_lies_there_stays(tmp_path, folder, monkeypatch):
    written = []
    monkeypatch.setattr(site, "write", lambda made, tick: copy(folder, made, written))
    (tmp_path / "index.html").write_text(site.MARK)
    (tmp_path / "CNAME").write_text("example.org")
    assert cli.main(["site", str(tmp_path)]) == 0 and written
    assert (tmp_path / "index.html").read_text() == (folder / "index.html").read_text()
    assert (tmp_path / "CNAME").exists() and (tmp_path / "mathjax" / "LICENSE").exists()
    assert not [path for path in tmp_path.parent.iterdir() if path.name.startswith(".site")]


def copy(source, made, written):
    for path in (path for path in source.rglob("*") if path.is_file()):
        target = made / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        written.append(path.name)
    return written


def test_a_site_that_fails_on_the_way_leaves_nothing(tmp_path, monkeypatch, capsys):
    def full(*args):
        raise OSError(28, "No space left on device", "x.html")

    monkeypatch.setattr(site, "contents", full)
    monkeypatch.setattr(site, "lesson_files", lambda: lessons()[:1])
    assert "No space left" in refused(capsys, "site", tmp_path / "web")
    assert list(tmp_path.iterdir()) == []


def test_without_the_whole_course_it_says_where_that_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(site, "LESSONS", tmp_path)  # as in an installed package
    assert "clone of the repository" in refused(capsys, "site", tmp_path / "web")
    (tmp_path / "01_forward.ipynb").write_text("{}")  # as in a handout
    assert "clone of the repository" in refused(capsys, "site", tmp_path / "web")


def test_each_lesson_has_a_title():
    titles = [site.title_of(read(path)) for path in lessons()]
    assert all(re.fullmatch(r"\d\d · \S.*", title) for title in titles), titles
