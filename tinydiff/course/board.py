"""The result of grading a student's files, for people and as CSV: only what does no harm."""

import csv
import io
import os
import re
import tempfile
import unicodedata
from dataclasses import replace
from pathlib import Path

from ..files import write_whole
from .exercises import ROOT

MARKS = {"passed": "1 / 1", "failed": "0 / 1", "not attempted": "- / 1"}  # else "? / 1"
WIDEST, LONGEST = 1000, 40  # letters of a line, lines of an exercise
JOINERS = "\u200c\u200d"  # within words of some scripts
FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20'")  # a spreadsheet calculates what begins with these
PLACE = re.compile(r"(?<![\w/\\:.])(?:[A-Za-z]:\\|/)(?:[^\s'\"<>|:/\\]+[/\\])+([^\s'\"<>|:/\\]+)")


# --- what may stand in a file or on a terminal ---


def printable(text):
    r"""Write what a terminal would obey as its number, on one line: ESC -> \x1b

    text: str, also with what is no letter at all, as names of files may have -> str
    """
    plain = lambda c: c.isprintable() or c in JOINERS or unicodedata.category(c) == "Zs"
    number = lambda c: c.encode("unicode_escape", "surrogatepass").decode()
    return "".join(c if plain(c) else number(c) for c in text)


def line(text, most=WIDEST):
    """Write a line as it may be given to a student: cut, printable, of paths only the file's name.

    text: str; most: letters -> str, which says how many more there were
    """
    shown = text[: 3 * most]
    for folder in (ROOT, Path.home(), tempfile.gettempdir()):
        shown = shown.replace(f"{folder}{os.sep}", "")
    shown = printable(PLACE.sub(r"\1", shown))
    if len(shown) <= most >= len(text):
        return shown
    kept = most - 40
    return f"{shown[:kept]}... ({max(len(text), len(shown)) - kept} letters more)"


def tidy(result):
    """Write what a Result says as it may be given to a student: Result -> Result

    Where that has more than LONGEST lines, each heading keeps its share of them.
    """
    said = [(head, text.splitlines() or [""]) for head, text in result.verdict.lines]
    if sum(len(lines) for _, lines in said) > LONGEST:
        said = [(head, _first(lines, max(1, LONGEST // len(said)))) for head, lines in said]
    lines = tuple((head, "\n".join(map(line, lines))) for head, lines in said)
    return replace(result, verdict=replace(result.verdict, lines=lines))


def _first(lines, count):
    """Keep the first lines of many, `count` with the one that says how many more there were."""
    more = f"... ({len(lines) - count + 1} lines more)"
    return lines if len(lines) <= count else [*lines[: count - 1], more]


def cell(text):
    """Write a text as a cell of a table that no spreadsheet calculates: str -> str

    One that begins as a formula does gets an apostrophe in front; so does one with an apostrophe.
    """
    text = line(text)
    return f"'{text}" if text.startswith(FORMULA) else text


# --- the board ---


def board(submissions, results, left_out=(), guard=""):
    """Write the result down for people.

    submissions: list of Submissions; results: list of Results; left_out: what was not graded and
    why, list of str; guard: what guarded the machine meanwhile, see worker.protection -> str
    """
    lines = [about(submissions, left_out)]
    for lesson in dict.fromkeys(result.exercise.lesson for result in results):
        lines.append(f"\nlesson {lesson}")
        of_lesson = [tidy(result) for result in results if result.exercise.lesson == lesson]
        if any(result.submission for result in of_lesson):
            lines += [line for result in of_lesson for line in _row(result, submissions)]
        else:
            files = "this file" if len(submissions) == 1 else "these files"
            lines.append(f"  none of its {len(of_lesson)} exercises is in {files}")
    broken = sorted({why for submission in submissions for why in submission.broken.values()})
    lines += ["", *(f"cannot be read: {line(why)}" for why in broken)]
    lines += [f"graded under: {guard}"] * bool(guard)
    states = [result.verdict.state for result in results]
    count = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    lines.append(f"points: {sum(result.points for result in results)} of {len(results)} ({count})")
    return "\n".join(lines)


def about(submissions, left_out):
    """Say which files were graded, and which were not: list of Submissions, list of str -> str"""
    lines = [f"graded: {name}" for name in _names(submissions).values()]
    return "\n".join([*lines, *(f"left out: {line(text)}" for text in left_out)])


def _names(submissions):
    """Name a student's files as seen from the folder of them all -> dict of Path to str"""
    paths = {s.path: s.path.absolute() for s in submissions}
    common = os.path.commonpath([p.parent for p in paths.values()]) if paths else ""
    return {path: printable(whole.relative_to(common).as_posix()) for path, whole in paths.items()}


def _row(result, submissions):
    """Write one exercise down: Result, list of Submissions -> list of lines"""
    (where, digest), verdict = result.place, result.verdict
    mark = MARKS.get(verdict.state, "? / 1")
    graded = printable(f"{where} #{digest}" if digest else where)
    row = f"  {result.exercise.function:22s}{mark}  {verdict.state:17s}{graded}".rstrip()
    said = list(verdict.lines)
    if others := _others(result, submissions):
        said.insert(0, ("also", f"attempted in {', '.join(others)}; what counts is {where}"))
    lines = [f"      {head:9s}{text}" for head, text in said]
    return [row, *(line.replace("\n", "\n               ") for line in lines)]


def _others(result, submissions):
    """Name the files that attempt the same exercise and do not count -> list of str"""
    name, counts = result.exercise.function, result.submission
    others = [s for s in submissions if counts and s is not counts and s.attempts(name)]
    names = _names(submissions)
    return [names[s.path] for s in others]


COLUMNS = ["file", "lesson", "exercise", "state", "points", "seconds", "where", "hash", "why"]


def write_csv(path, results):
    """Write the result down for machines, one row per exercise: Path, list of Results -> None

    The file appears whole or not at all; raises OSError where it cannot be written.
    """
    file = io.StringIO(newline="")
    rows = csv.writer(file)
    rows.writerow(COLUMNS)
    for result in map(tidy, results):
        exercise, verdict = result.exercise, result.verdict
        name = cell(result.submission.path.name if result.submission else "")
        (where, digest), seconds = result.place, f"{verdict.seconds:.2f}"
        why = cell("; ".join(f"{head}: {text}" for head, text in verdict.lines))
        came = [verdict.state, result.points, seconds, cell(where), digest, why]
        rows.writerow([name, exercise.lesson, exercise.name, *came])
    write_whole(path, lambda f: f.write(file.getvalue().encode(errors="replace")))
