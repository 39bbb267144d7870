"""The course as web pages: one for each lesson, to read without Python, Jupyter or a network.

A lesson is shown as it was last run, with its players alive; formulas are set by a copy of MathJax
that lies beside the pages. What only a running notebook can do is left out.
"""

import base64
import html
import re
import shutil
import struct
from importlib.resources import files
from pathlib import Path

from ..course.exercises import ROOT
from ..plot import alt_texts

LESSONS = ROOT / "lessons"
NOTES = ("ERRATA", "LETTERS", "INSTRUCTORS")  # lessons/*.md that are pages too
MARK = '<meta name="generator" content="tinydiff site">'
SHELL = "<!-- shell -->"  # marks the lessons' own lines of navigation: the pages have theirs
FORMS = ("text/html", "image/png", "text/markdown", "text/plain")  # of an output, best first
WIDGET = "application/vnd.jupyter.widget-view+json"


def write(folder, tick=lambda: None):
    """Write all pages into an empty folder, with what they need: Path -> list of pages' names

    tick() is called after each page. Raises ModuleNotFoundError where nbconvert or MathJax is
    missing, OSError where the lessons are, or a page can't be written.
    """
    fetch_mathjax(folder / "mathjax")
    shutil.copytree(LESSONS / "pictures", folder / "pictures")
    (folder / "site.css").write_text(styles(), encoding="utf-8")
    lessons = {path.stem: notebook(path) for path in lesson_files()}
    notes = {name: (LESSONS / f"{name}.md").read_text(encoding="utf-8") for name in NOTES}
    titles = {name: title_of(lesson) for name, lesson in lessons.items()}
    titles |= {name: headings(text)[0] for name, text in notes.items()}
    titles |= {"gallery": "Gallery", "index": "tinydiff"}
    for name in titles:
        if name in lessons:
            body = lesson(name, lessons[name])
        elif name in notes:
            body = markdown(notes[name])
        else:
            body = contents(titles) if name == "index" else gallery()
        (folder / f"{name}.html").write_text(page(name, titles, body), encoding="utf-8")
        tick()
    return list(titles)


def lesson_files():
    """List the lessons in their order: () -> list of Path"""
    return sorted(LESSONS.glob("[0-9][0-9]_*.ipynb"))


def is_here():
    """Tell whether the course is here: it is not in an installed package, nor whole in a handout

    () -> bool
    """
    return bool(lesson_files()) and all((LESSONS / f"{name}.md").exists() for name in NOTES)


def names():
    """List the pages: () -> list of str"""
    return [*(path.stem for path in lesson_files()), *NOTES, "gallery", "index"]


def fetch_mathjax(folder):
    """Copy MathJax out of django-static-mathjax, which does not need Django: Path -> None"""
    source = files("mathjax") / "static" / "mathjax"
    parts = "es5/tex-chtml.js", "es5/output/chtml/fonts/woff-v2", "LICENSE"
    for part in parts:
        target = folder / part.removeprefix("es5/")
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (source / part).is_dir() else shutil.copy)(source / part, target)


# --- a lesson ---


def notebook(path):
    """Read a notebook: Path -> nbformat's NotebookNode"""
    import nbformat

    return nbformat.read(path, as_version=4)


def headings(text):
    """List the headings of a text in Markdown, without their signs: str -> list of str"""
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    return [re.sub(r"[*`$]", "", each).strip() for each in re.findall(r"^#+ +(.+)$", prose, re.M)]


def title_of(notebook):
    """Name a lesson by its first heading: notebook -> str"""
    return next(headings(c.source)[0] for c in notebook.cells if c.cell_type == "markdown")


def lesson(name, notebook):
    """Show a lesson as it was last run: its name, notebook -> HTML"""
    parts, section = [], ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            section = [section, *headings(cell.source)][-1]
            parts.append(markdown(without_shell(cell.source)))
        elif cell.cell_type == "code":
            parts.append(code(cell))
            words = alt_texts(cell.source)
            for each in joined(cell.outputs):
                said = words.pop(0) if words and "image/png" in each.get("data", {}) else ""
                shown = output(each, said or f"Figure of the section: {section}")
                parts.append(f'<div class="output">{shown}</div>' if shown else "")
    return "\n".join(parts).replace("</h1>", "</h1>" + RUN.format(name=name), 1)


def without_shell(text):
    """Leave out the lines of navigation that a lesson has for JupyterLab: str -> str"""
    return re.sub(rf"\n\n[^\n]*{SHELL}", "", text)


def code(cell):
    """Show a code cell, folded if Jupyter folds it: cell -> HTML"""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    hidden = cell.metadata.get("jupyter", {}).get("source_hidden", False)
    what, shown = ("code of this figure", "") if hidden else ("code", " open")
    text = highlight(cell.source, PythonLexer(), HtmlFormatter())
    return f'<details class="code"{shown}><summary>{what}</summary>{text}</details>'


def joined(outputs):
    """Join what was printed in pieces: list of outputs -> list of outputs"""
    found = []
    for each in outputs:
        if each.output_type == "stream" and found and found[-1].output_type == "stream":
            found[-1].text += each.text
        else:
            found.append(each.copy())
    return found


def output(output, alt):
    """Show what a cell gave, in its best form; a widget is nothing without a kernel -> HTML"""
    from nbconvert.filters.ansi import ansi2html

    if output.output_type == "stream":
        return f"<pre>{ansi2html(output.text)}</pre>"
    if output.output_type == "error":
        return f"<pre>{ansi2html(chr(10).join(output.traceback))}</pre>"
    form = next((form for form in FORMS if form in output.data), None)
    data = output.data.get(form, "")
    if form == "text/html":
        return own_html(data, alt)
    if form == "image/png":
        width, height = struct.unpack(">II", base64.b64decode(data)[16:24])
        size = f'width="{width}" height="{height}"'
        source = f"data:image/png;base64,{data.strip()}"
        return f'<img src="{source}" {size} alt="{html.escape(alt)}">'
    if form == "text/markdown":
        return markdown(data)
    return f"<pre>{html.escape(data)}</pre>" if form and WIDGET not in output.data else ""


def own_html(text, alt):
    """Take in HTML that a cell gave, without the styles of `show`, pictures with words -> HTML"""
    text = re.sub(r"<style>pre \{.*?</style>", "", text, flags=re.S)
    text = re.sub(r"<img(?![^>]*\balt=)", f'<img alt="{html.escape(alt)}"', text)
    text = text.replace("Run this cell to move the controls.", "In JupyterLab it has controls.")
    return f'<div class="mathjax_ignore">{text}</div>'


# --- text ---


def markdown(text):
    """Turn Markdown with formulas into HTML, its links pointing at pages: str -> HTML"""
    from nbconvert.filters.markdown_mistune import markdown2html_mistune

    text = linked(markdown2html_mistune(text))
    text = re.sub(r"\$\$.*?\$\$|\$[^$]+\$[.,;:?!)]*", unbroken, text, flags=re.S)
    return re.sub(r"(<table.*?</table>)", r'<div class="wide">\1</div>', text, flags=re.S)


def unbroken(found):
    """Keep a short formula and the sign behind it on one line: match -> HTML"""
    text = found[0]
    return text if text[0] == text[1] == "$" or text[-1] == "$" else WHOLE.format(text)


def linked(text):
    """Point links at the pages; a link to what is no page becomes plain text: HTML -> HTML"""

    def point(found):
        target, words = html.unescape(found[1]), found[2]
        if re.match(r"https?://|#", target):
            return found[0]
        path, _, anchor = target.partition("#")
        name = Path(path).stem.replace("README", "index")
        if name not in names():
            return words
        anchor = f"#{anchor}" if anchor and name != "index" else ""
        return f'<a href="{name}.html{anchor}">{words}</a>'

    text = re.sub(r'<a href="([^"]*)">(.*?)</a>', point, text, flags=re.S)
    return text.replace('<img src="lessons/', '<img src="')


def readme():
    """Read README's sections: () -> dict of heading ("" = what stands above) to Markdown"""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)\n", text, flags=re.M)
    return {"": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


def contents(titles):
    """Make the first page: what this is, and the lessons with their questions -> HTML

    titles: dict of page's name to its title
    """
    sections = readme()
    about, students = sections[""], sections.get("For students", "")
    row = r"^\| \[.+?\]\(lessons/(\w+)\.ipynb\) \| (.*?) \|"
    questions = dict(re.findall(row, students, re.M))
    items = []
    for name in (name for name in titles if name[:2].isdigit()):
        number, _, words = titles[name].partition(" · ")
        asked = questions.get(name, words)
        asked = "" if asked == words else f"<span>{html.escape(asked)}</span>"
        words = f"<b>{number}</b> {html.escape(words)}"
        items.append(f'<li><a href="{name}.html">{words}{asked}</a></li>')
    notes = [f'<li><a href="{name}.html">{html.escape(titles[name])}</a></li>' for name in NOTES]
    way = students.partition("\n| lesson")[0]
    about = re.sub(r"(<img[^>]*gallery[^>]*>)", r'<a href="gallery.html">\1</a>', markdown(about))
    return "\n".join(
        [
            about,
            '<h2 id="lessons">Lessons</h2>',
            markdown(way),
            f'<ol class="lessons">{"".join(items)}</ol>',
            '<h2 id="more">More</h2>',
            f'<ul>{"".join(notes)}<li><a href="gallery.html">Gallery</a></li></ul>',
        ]
    )


def gallery():
    """Make the page of pictures: () -> HTML"""
    rows = "Portraits on request, holes filled in, one thing changed, ways between two portraits, "
    rows += "given colours, seamless tiles, emoji in other styles, alphabets, restored pictures."
    words = "What the small models of this course draw; `python -m tinydiff gallery` draws it anew."
    picture = f'<img src="pictures/gallery.png" alt="{rows}">'
    return f"{markdown('# Gallery')}{markdown(words)}<div class='wide'>{picture}</div>"


# --- around it ---


def styles():
    """Write the style sheet, with the colours of code by day and by night: () -> CSS"""
    from pygments.formatters import HtmlFormatter

    own = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    day, night = (
        HtmlFormatter(style=style, nobackground=True).get_style_defs(".highlight")
        for style in ("default", "github-dark")
    )
    return f"{own}\n{day}\n@media (prefers-color-scheme: dark) {{\n{night}\n}}\n"


def page(name, titles, body):
    """Put head, navigation and foot around a page: its name, all titles, its body -> HTML"""
    title = titles[name] if name == "index" else f"{titles[name]} · tinydiff"
    around = navigation(name, titles)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{MARK}
<title>{html.escape(title)}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="site.css">
{SCRIPTS if "$" in body or "<details" in body else ""}
</head>
<body class="{"lesson" if name[:2].isdigit() else name}">
<header>{around}</header>
{sections_of(name, body)}
<main>
{body}
</main>
<footer>{around}</footer>
</body>
</html>
"""


def navigation(name, titles):
    """Link the lesson before, the contents and the lesson after -> HTML"""
    lessons = [each for each in titles if each[:2].isdigit()]
    k = lessons.index(name) if name in lessons else None
    before = lessons[k - 1] if k else None
    after = lessons[k + 1] if k is not None and k + 1 < len(lessons) else None
    link = lambda to, rel, words: f'<a rel="{rel}" href="{to}.html">{html.escape(words)}</a>'
    parts = [
        link(before, "prev", f"← {titles[before]}") if before else "<span></span>",
        link("index", "home", "tinydiff"),
        link(after, "next", f"{titles[after]} →") if after else "<span></span>",
    ]
    return f"<nav>{''.join(parts)}</nav>"


def sections_of(name, body):
    """List the sections of a lesson, to stand beside it -> HTML"""
    found = re.findall(r'<h2 id="([^"]+)">(.*?)<a class="anchor-link"', body)
    if not name[:2].isdigit() or not found:
        return ""
    items = "".join(f'<li><a href="#{to}">{words}</a></li>' for to, words in found)
    return f'<aside><nav aria-label="sections"><ol>{items}</ol></nav></aside>'


WHOLE = '<span class="whole">{}</span>'
RUN = """<p class="run">To run this lesson, and to check what you write in it, open
<code>lessons/{name}.ipynb</code> in JupyterLab.</p>"""
SCRIPTS = """<script>
MathJax = {
  tex: {inlineMath: [["$", "$"]], processEscapes: true},
  options: {enableMenu: false},
  startup: {pageReady: () => MathJax.startup.defaultPageReady().then(() => {
    const fit = () => document.querySelectorAll("mjx-container").forEach(box => {
      const block = box.closest("p, li, td, main");
      if (box.matches("[display]")) {
        block.classList.remove("beyond-measure");
        block.classList.toggle("beyond-measure", block.scrollWidth > block.clientWidth);
      } else {
        box.classList.remove("wide-formula");
        box.classList.toggle("wide-formula", box.offsetWidth > block.clientWidth);
      }
    });
    addEventListener("resize", fit);
    fit();
  })},
};
</script>
<script defer src="mathjax/tex-chtml.js"></script>"""
