"""Who handed in what, and which file counts: a class as it really comes.

A class is a folder (or a zip) with a file, a folder or a zip for each student: ada.ipynb, ada/,
ada.zip, or what Moodle and Canvas make of them. Copies that a browser or Jupyter made, `ada (1)`,
and the lessons of one student, `ada_01_forward.ipynb`, are one student's. A folder is a group of
several, groupA/ada.py, where its name says so, no file of it is named as a lesson, and two in it
answer the same exercise; in doubt it is one student.

Of several files that attempt an exercise, one counts:

1. the notebook with the lesson's own name, 01_forward.ipynb;
2. a copy of it, 01_forward-Copy1, 01_forward (1), 01_forward_v2; then 01_forward_old;
3. any other notebook;
4. a .py with the lesson's name, then any other .py.

Within each of these the one that lies less deep, then the last by name (work2 before work1). Files
in folders such as backup/ and old/ come after all others. A file that holds only the stub counts
where no other attempts the exercise. Never graded are the package itself, the tests of a handout,
environments, hidden files and folders.
"""

import ast
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from .exercises import HANDOUT, ROOT, exercises, is_stub
from .folders import Item, on_disk, unpacked
from .submission import TOO_MUCH, Unreadable, read

BESIDE, ALL_BESIDE = 1 << 20, 16 << 20  # bytes of one file that answers may import, of all
UNPACKED = 512 << 20  # bytes that are read of one student's zips
NOTHING = "no notebook and no .py"
NAMED = 5  # files that are named one by one; more are counted


@dataclass
class Student:
    """One row of the table, and what stands behind it.

    submissions: Submissions that may count; left_out: lines, what was not graded, and why
    problems: lines, what cannot be graded at all; beside: relative name -> bytes, for imports
    id: the number that Moodle or Canvas gave, "" without one
    """

    name: str
    submissions: list = field(default_factory=list)
    left_out: list = field(default_factory=list)
    problems: list = field(default_factory=list)
    beside: dict = field(default_factory=dict)
    id: str = ""


# --- which file counts ---

BACKUP = re.compile(r"old|older|alt|backups?|bak|archived?|previous|copies|trash", re.I)
WORD = r"(?<![^\W_])({})(?![^\W_])"  # set apart by blanks, dots, dashes, lines, brackets
OLD = re.compile(WORD.format("old|older|alt|bak|backup|previous"), re.I)


def counts(submissions, exercise):
    """Choose the file that counts, by the order above: Submissions, Exercise -> one, or None"""
    name = exercise.function
    tried = [s for s in submissions if s.attempts(name) or name in s.broken]
    having = tried or [s for s in submissions if s.has(name)]
    last_first = sorted(having, key=lambda s: _natural(s.path), reverse=True)
    return min(last_first, key=lambda s: _rank(s.path, exercise.lesson), default=None)


def _rank(path, lesson):
    """Place a file among those that attempt an exercise: the lowest counts -> tuple of int"""
    backups = sum(bool(BACKUP.fullmatch(part)) for part in path.parts[:-1])
    name = re.sub(r"[\s-]", "_", _stem(path.name).lower())
    is_of_lesson = re.search(WORD.format(lesson), name)
    if not _is_notebook(path.name):
        kind = 4 if is_of_lesson else 5
    elif not is_of_lesson:
        kind = 3
    else:
        kind = 2 if OLD.search(name) else int(name != lesson)
    return backups, kind, len(path.parts)


def _natural(path):
    """Sort names as people count: work2 before work10 -> list"""
    parts = re.split(r"([0-9]+)", str(path))
    return [(len(p.lstrip("0")), p.lstrip("0")) if k % 2 else p for k, p in enumerate(parts)]


KINDS = re.compile(r"\.(ipynb|py)(\.(txt|json))?$", re.I)  # what browsers make of .ipynb, too


def _is_work(name):
    return bool(KINDS.search(name))


def _is_notebook(name):
    return _is_work(name) and ".ipynb" in name.lower()


def _is_zip(name):
    return name.lower().endswith(".zip")


PACKED = re.compile(r"\.(zip|tgz|(tar\.)?(gz|xz|bz2))$", re.I)


def _stem(name):
    """Take the endings off a file's name: "01_forward.ipynb.zip" -> "01_forward" """
    bare = PACKED.sub("", name)
    return KINDS.sub("", bare) if bare != name or _is_work(bare) else Path(name).stem


# --- one student's files ---

JUNK = re.compile(
    r"\..*|__MACOSX|Thumbs\.db|desktop\.ini|~\$.*|Icon\r", re.I
)  # hidden, or of systems
INSTALLED = {"site-packages", "dist-packages", "node_modules", "__pycache__"}
IN_ENVIRONMENT = {"pyvenv.cfg", "conda-meta"}
PACKAGE = "the package"
CORE = {"schedule.py", "diffusion.py", "sample.py", "autodiff.py", "unet.py", "train.py"}
INSTEAD = {  # what people hand in instead of a notebook
    ".pdf": "a PDF",
    ".htm": "a web page",
    ".html": "a web page",
    **dict.fromkeys((".doc", ".docx", ".odt", ".rtf", ".pages"), "a text for a word processor"),
    **dict.fromkeys((".rar", ".7z", ".tar", ".gz", ".tgz", ".xz", ".bz2"), "packed, but no zip"),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".heic", ".gif", ".webp"), "a picture"),
    **dict.fromkeys((".lnk", ".url", ".webloc"), "a link to something on another computer"),
}
DEEPEST = 40  # folders in folders


def _never(name, inside, is_inner):
    """Say why a folder is not graded, but for notebooks in it: its name, names in it -> str or ""

    is_inner: whether it lies in a student's folder, which itself may have any name
    """
    if inside & IN_ENVIRONMENT or (is_inner and name in INSTALLED):
        return "an environment"
    if inside >= CORE or (name == "tinydiff" and "__init__.py" in inside):
        return f"{PACKAGE}; answers belong into the notebooks"
    if is_inner and name == "tests" and inside & {HANDOUT, "conftest.py"}:
        return "the tests"
    if is_inner and name == "data" and "packing.py" in inside:
        return "the data"
    return ""


def _counted(items, but):
    """Count files, those in folders included: list of Items, those not to count -> "2 files" """
    count, left = -len(but), list(items)
    while left:
        item = left.pop()
        count += not item.open
        with suppress(Unreadable):
            left += item.open() if item.open else []
    return f"{count} file{'s' * (count != 1)}"


def _few(names):
    """Name a few, and count the others: list of str -> str"""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"


class _Reader:
    """Reads what one student handed in, file by file.

    places: relative name -> Item; hidden: relative names; texts: relative name -> bytes, for
    imports; homes: folders with submissions; packages: relative name -> Item of a package's folder
    handout: Item of the file that a handout's tests have; is_alone: whether all is in one file,
    folder or zip; room: bytes that may still be read of zips
    """

    def __init__(self, name, items, id=""):
        self.student = Student(name, id=id)
        self.places, self.hidden, self.texts, self.homes = {}, [], {}, set()
        self.packages, self.handout = {}, None
        self.is_alone, self.room = len(items) == 1, UNPACKED
        for item in items:
            self._add(item, item.name)

    def _add(self, item, place, above=()):
        """Go through a file, a folder or a zip: Item, its relative name, names of folders."""
        if item.why:
            self._leave(place, item.why)
        elif above and JUNK.fullmatch(item.name):
            self.hidden.append(place)
        elif not item.open and not _is_zip(item.name):
            self.places[place] = item
        else:
            try:
                if not item.open:
                    self._spend(item)
                self._add_folder(item if item.open else unpacked(item), place, above)
            except Unreadable as why:
                self._leave(place, why)

    def _add_folder(self, item, place, above):
        if len(above) == DEEPEST:
            raise Unreadable("folders nested too deeply")
        inside = item.open()
        names = {inner.name for inner in inside}
        self.handout = next((i for i in inside if i.name == HANDOUT), self.handout)
        if why := _never(item.name, names, bool(above)):
            work = [inner for inner in inside if _is_notebook(inner.name)]
            if why.startswith(PACKAGE):
                self.packages[place] = item
            self._leave(f"{place}/", f"{why}: {_counted(inside, work)}")
            inside = work
        for inner in inside:
            is_named = above or not self.is_alone  # the folder itself is the row's name
            of = f"{place}/{inner.name}" if is_named else inner.name
            self._add(inner, of, (*above, item.name))

    def _spend(self, item):
        """Count what is read of zips: Item. Raises Unreadable where that is too much."""
        size = item.size if item.level else 0
        if size > self.room:
            raise Unreadable(f"more than {UNPACKED >> 20} MB in a student's zips")
        self.room -= size

    def _load(self, item):
        self._spend(item)
        return item.load()

    def _leave(self, place, why):
        self.student.left_out.append(f"{place} ({why})")

    def read(self):
        """Read the files that were found: () -> Student"""
        student, package = self.student, _modules() if self.handout else ()
        notebooks_first = lambda place: (not _is_notebook(place), _natural(place))
        for place in sorted(self.places, key=notebooks_first):
            item = self.places[place]
            if item.name in package:
                self._leave(place, "a file of the package")
            elif why := INSTEAD.get(Path(item.name).suffix.lower()):
                self._leave(place, f"{why}: hand in the notebook itself")
            else:
                self._read_file(place, item)
        student.beside = self._beside()
        student.submissions = [s.with_beside(student.beside) for s in student.submissions]
        if self.hidden:
            self._leave(_few(self.hidden), "hidden")
        if not student.submissions and not student.problems:
            there = student.left_out or sorted(self.places)
            student.problems.append(f"{NOTHING}{f': {_few(there)}' if there else ''}")
        self._ask(student)
        return student

    def _ask(self, student):
        """Note what looks as if points were lost by a mistake: Student -> None"""
        if lost := self._only_in_package():
            where = ", ".join(f"{place}/" for place in self.packages)
            what = f"{where} holds answers that no notebook has: {_few(lost)}"
            student.problems.append(f"{what}; only notebooks and .py files beside it are graded")
        if several := _several(student.submissions):
            what = f"{_few(several)} attempt the same exercise"
            student.problems.append(f"{what}: are these several students?")

    def _only_in_package(self):
        """List what is answered in the package that was handed in, and nowhere else: -> names

        In a folder that the handout wrote that is what it asks for; in another, what is still a
        stub in the notebooks and not as it is in the package here.
        """
        submissions, found, asked = self.student.submissions, [], self._handed_out()
        for e in exercises() if self.packages else ():
            name = e.function
            if any(s.attempts(name) or name in s.broken for s in submissions):
                continue
            if e.name in asked if self.handout else any(s.has(name) for s in submissions):
                nodes = [_function(self._text(item, e), name) for item in self.packages.values()]
                ours = None if self.handout else _function(e.file.read_bytes(), name)
                if any(n and not is_stub(n) and not _are_alike(n, ours) for n in nodes):
                    found.append(name)
        return found

    def _handed_out(self):
        """Name the exercises that the handed-in handout asks for: -> set of str"""
        try:
            return {e["name"] for e in json.loads(self._load(self.handout))}
        except (AttributeError, Unreadable, ValueError, TypeError, KeyError, RecursionError):
            return set()

    def _text(self, folder, exercise):
        """Read the file of a package in which an exercise stands: Item, Exercise -> bytes"""
        with suppress(Unreadable, StopIteration):
            for name in Path(exercise.place).parts[1:]:
                folder = next(item for item in folder.open() if item.name == name)
            return self._load(folder)
        return b""

    def _read_file(self, place, item):
        is_small, is_work = item.size <= BESIDE, _is_work(item.name)
        if not is_small and not is_work:
            return self._leave(place, f"larger than {BESIDE >> 20} MB")
        try:
            data = self._load(item)
            if is_small and not _is_notebook(item.name):
                self.texts[place] = data
            if is_work:
                self.student.submissions.append(read(item.path, data))
                self.homes.add(place.rpartition("/")[0])
        except Unreadable as error:
            why = str(error)
            named = why if item.name in why else f"{place} ({why})"
            (self.student.problems if is_work else self.student.left_out).append(named)

    def _beside(self):
        """Choose the files that answers may import, by their names as seen from the submissions.

        -> dict of relative name to bytes
        """
        found, room = {}, ALL_BESIDE
        for home in sorted(self.homes, key=lambda home: (home.count("/"), home)):
            for place, data in self.texts.items():
                name = place.removeprefix(f"{home}/")
                if not place.startswith(f"{home}/" * bool(home)) or name in found:
                    continue
                is_ours = name.split("/")[0] in ("tinydiff", "tinydiff.py")
                if len(data) <= room and name.isprintable() and not is_ours:
                    found[name] = data
                    room -= len(data)
        return found


def _modules():
    """Name the files of the package: () -> set of str, as "diffusion.py" """
    return {path.name for path in (ROOT / "tinydiff").rglob("*.py")}


def _function(source, name):
    """Find a function in a file: bytes, str -> ast node, None where it is not there"""
    with suppress(*TOO_MUCH):
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef) and node.name == name:
                return node
    return None


def _are_alike(node, other):
    return other is not None and ast.dump(node) == ast.dump(other)


def _several(submissions):
    """Name notebooks side by side that seem to be different people's: Submissions -> list of str

    They attempt the same exercise, and are named neither as a lesson nor as versions of one file.
    """
    people = {}
    for s in submissions:
        stem = _stem(s.path.name).lower()
        if _is_notebook(s.path.name) and not re.search(_lessons(), stem) and not OLD.search(stem):
            bare = re.sub(r"[\W\d_]+|copy|kopie|copie|final|new|draft|v(?=\d)", "", stem)
            people.setdefault(s.path.parent, {}).setdefault(bare, s)
    for side in map(dict.values, people.values()):
        for e in exercises() if len(side) > 1 else ():
            trying = [s.path.name for s in side if s.attempts(e.function)]
            if len(trying) > 1:
                return trying
    return []


# --- who is who ---

MOODLE = re.compile(r"(.+?)_(\d+)_assignsubmission_(?:file|onlinetext)_?.*", re.S)
CANVAS = re.compile(r"([^_]+)(?:_LATE)?_(\d{2,})_(\d{3,})_.+", re.S)  # person, number, file, name
COPY = re.compile(r"[\s_-]*(\(\d+\)|[\s_-](copy|kopie|copie)[\s_-]?\d*)$", re.I)  # made by systems
GROUP = re.compile(
    r"(?i:groups?|gruppen?|groupe|grupo|teams?|sections?|class(?:es)?|klasse|kurs|courses?|cohort"
    r"|tutorials?|tutorium|seminar|lab|submissions?|submitted|abgaben?|students?)"
    r"(?:[\W_]+.*|\d+|[A-Z])?",
    re.S,
)
VERSION = re.compile(
    r"(v|version|try|attempt|week|lessons?|draft|final|new|hw|part)[\W_]*\d*", re.I
)
OURS = {"grades.csv", "grades_feedback", "grades_progress.jsonl", "grades_moodle.csv"}


def _lessons():
    return "|".join({"00_first_pictures", *(e.lesson for e in exercises())})


def _who(item):
    """Say whose a file or folder is, by its name: Item -> (name of the row, number or "")"""
    for pattern in (MOODLE, CANVAS):
        if found := pattern.fullmatch(item.name):
            return f"{found[1]}_{found[2]}", found[2]
    stem = item.name if item.open else _stem(item.name)
    found = re.match(rf"(.+?)[\s_-]+(?:{_lessons()})(?![^\W_])", stem, re.S)
    return (found[1] if found else stem), ""


def _readers(items):
    """Give each student what is theirs: list of Items -> list of _Readers"""
    theirs, known = {}, {_who(item)[0] for item in items}
    for item in items:
        name, number = _who(item)
        bare = COPY.sub("", name)
        theirs.setdefault((bare if bare in known else name, number), []).append(item)
    return [_Reader(name, own, number) for (name, number), own in theirs.items()]


def _entry(path):
    """Make an Item of what is to be one student's: Path. A link may lead to another's work."""
    item = on_disk(path)
    if not item.why and os.path.islink(path):
        return Item(path, why="a link to something else: put that itself here")
    return item


def _folder(item):
    """List what is in a folder or a zip, as of students: Item -> list of Items, [] of others"""
    with suppress(Unreadable):
        if item.open or (_is_zip(item.name) and not item.why):
            return _inside(item)
    return []


def _inside(item):
    inside = (item if item.open else unpacked(item)).open()
    theirs = [inner for inner in inside if not _is_junk(inner.name)]
    return [inner if inner.level else _entry(inner.path) for inner in theirs]


def _is_junk(name):
    return bool(JUNK.fullmatch(name)) and not (_is_work(name) and name[:2] != "._")


def _is_of_one(items):
    """Say whether what is in a folder is one student's: a lesson, the handout -> bool"""
    names = {_stem(item.name).lower() for item in items if not item.open}
    lesson = any(re.match(_lessons(), name) for name in names)
    return lesson or bool({item.name for item in items} & {"tinydiff", "tests", "lessons"})


def _do_the_same(items):
    """Say whether at least two of several possible students hand in the same exercise -> bool"""
    if sum(bool(MOODLE.fullmatch(item.name)) for item in items) > 1:
        return True
    asked = set()
    for reader in _readers(items):
        submissions = reader.read().submissions
        own = {e.function for e in exercises() if any(s.has(e.function) for s in submissions)}
        if asked & own:
            return True
        asked |= own
    return False


def _class_within(entries):
    """Where all lies in one folder or zip, look into that: list of Items -> list of Items"""
    inner, name = entries, ""
    while len(inner) == 1 and not _is_of_one(inner) and not MOODLE.fullmatch(inner[0].name):
        name, inner = inner[0].name, _folder(inner[0])
    if inner is entries or len(inner) < 2 or _is_of_one(inner):
        return entries
    folders = [i for i in inner if (i.open or _is_zip(i.name)) and not _is_version(i.name)]
    people = inner if GROUP.fullmatch(_stem(name)) else folders
    return inner if _do_the_same(people) else entries


def _is_version(name):
    return bool(BACKUP.fullmatch(name) or VERSION.fullmatch(name))


def _groups(entries):
    """Find the folders that hold several students each: list of Items -> dict of name to Items"""
    found = {}
    for item in entries:
        if MOODLE.fullmatch(item.name) or CANVAS.fullmatch(item.name):
            continue  # one student's, whatever is in it
        inside = _folder(item)
        is_named = GROUP.fullmatch(_stem(item.name)) or any(
            MOODLE.fullmatch(i.name) for i in inside
        )
        if inside and is_named and not _is_of_one(inside):
            found[item.name] = inside
    return found if any(map(_do_the_same, found.values())) else {}


def read_class(folder, written=()):
    """Read what a class handed in: Path of a folder or zip -> list of Students, by name

    written: Paths of what the grading itself writes, which is nobody's work
    Raises Unreadable where it is no class.
    """
    item = on_disk(folder)
    if not item.open and not (_is_zip(folder.name) and folder.is_file()):
        hint = "give one with a notebook or a folder for each student"
        raise Unreadable(f"{folder} is not a folder: {hint}")
    ours = OURS | {p.name for p in written if p.absolute().parent.resolve() == folder.resolve()}
    try:
        entries = [inner for inner in _inside(item) if inner.name not in ours]
    except Unreadable as why:
        raise Unreadable(f"{folder} cannot be read ({why})") from None
    for own in entries:
        stem = _stem(own.name) if _is_notebook(own.name) else own.name
        if re.fullmatch(rf"{_lessons()}|tinydiff", stem):
            hint = "give the folder in which each student has a file or a folder"
            raise Unreadable(f"{folder} is not a class folder: it contains {own.name}; {hint}")
    entries = _class_within(entries)
    groups = _groups(entries)
    students = [r.read() for r in _readers([i for i in entries if i.name not in groups])]
    for name, inside in groups.items():
        for student in [r.read() for r in _readers(inside)]:
            student.name = f"{name}/{student.name}"
            students.append(student)
    said = [why for s in students for why in s.problems if not why.startswith(NOTHING)]
    if not said and not any(s.submissions or s.left_out for s in students):
        hint = "expected ada.ipynb, or ada/01_forward.ipynb, for each student"
        raise Unreadable(f"{folder} holds no notebook and no .py: {hint}")
    return sorted(students, key=lambda s: s.name)


def read_student(paths):
    """Read what one student handed in: names of files, folders, zips -> Student

    Raises Unreadable where nothing of it can be graded.
    """
    items = [on_disk(path) for path in map(Path, paths)]
    for item in items:
        if item.why:
            hint = "give a notebook or a .py"
            raise Unreadable(f"{item.path} cannot be read ({item.why}): {hint}")
    student = _Reader(items[0].name, items).read()
    if not student.submissions:
        problem = student.problems[0]
        of = f"{items[0].path} holds " if problem.startswith(NOTHING) else ""
        raise Unreadable(of + problem)
    return student
