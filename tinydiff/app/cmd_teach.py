"""The commands for instructors: `handout` gives the course out, `grade` grades a class."""

import re
import shlex
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from ..course import formats, handout, sandbox
from ..course.board import about, line, tidy
from ..course.classroom import Gradebook, grade_class, summary, unfinished
from ..course.exercises import exercises as all_exercises
from ..course.exercises import in_handout
from ..course.handed_in import Student, read_class, read_student
from ..course.submission import Unreadable
from ..course.worker import protection
from ..files import write_whole
from . import interrupt
from .progress import Bar
from .usage import UsageError, require_output, require_writable

ONE_STUDENT = ("gradescope", "github")  # of the formats, those that are of one student's work


def chosen_lessons(text):
    """Read a choice of lessons: "1-5", "3" or "1,4-6"; None = all -> set of int or None

    Raises UsageError for anything else.
    """
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,2}(-\d{1,2})?(,\d{1,2}(-\d{1,2})?)*", text):
        raise UsageError(f"--lessons takes numbers and ranges, as 1-5 or 1,3,7-9; got {text!r}")
    ends = [tuple(map(int, part.split("-"))) for part in text.split(",")]
    if any(first > last for first, *rest in ends for last in rest):
        raise UsageError(f"--lessons takes ranges that count upwards, as 1-5; got {text!r}")
    return {number for first, *last in ends for number in range(first, (last or [first])[0] + 1)}


def chosen_exercises(text):
    """List the exercises of a choice of lessons: str or None -> list of Exercises

    Raises UsageError for a lesson that does not exist, or where there is no exercise at all.
    """
    numbers, known = chosen_lessons(text), {int(path.name[:2]) for path in handout.lesson_files()}
    unknown = (numbers or set()) - known
    if unknown:
        here = ", ".join(map(str, sorted(known)))
        why = f"there is no lesson {min(unknown)}; the lessons here are {here}"
        raise UsageError(f"--lessons {text}: {why}")
    found = [e for e in all_exercises() if numbers is None or int(e.lesson[:2]) in numbers]
    if not found:
        here = ", ".join(dict.fromkeys(e.lesson[:2] for e in all_exercises()))
        why = f"no exercise is in these lessons; those with exercises are {here}"
        raise UsageError(f"--lessons {text}: {why}")
    return found


def cmd_handout(args):
    """Write the tree for students, or an nbgrader course, or the zip for Gradescope.

    It appears whole or not at all. args: dir, lessons, nbgrader, gradescope, github -> None
    """
    if in_handout():
        what = "this is a handout itself, without the answers"
        raise UsageError(f"{what}: hand out from a clone of the repository")
    exercises, folder = chosen_exercises(args.lessons), args.dir.resolve()
    if args.gradescope:
        return _write_autograder(args, exercises)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{args.dir} already exists and is not empty: give a new folder")
    if args.dir.is_symlink() and not folder.exists():
        raise UsageError(f"{args.dir} is a link to nothing: give a new folder")
    require_writable(folder.parent, "DIR, in")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".handout", dir=folder.parent))
    try:
        write = handout.write_nbgrader if args.nbgrader else handout.write_tree
        with Bar(len(exercises), "writing the handout", "exercises") as bar:
            write(made, chosen_lessons(args.lessons), bar.tick)
        if args.github:
            formats.write_workflow(made)
        made.chmod(0o755)
        if folder.exists():  # a shell may stand in it: it is filled, not replaced
            came = []
            with interrupt.noted(came):
                for part in list(made.iterdir()):
                    part.rename(folder / part.name)
            if came:
                raise interrupt.Interrupted(came[0], f"{args.dir} is complete")
        else:
            made.rename(folder)
    except shutil.Error as e:  # of all files that could not be copied; one is enough
        raise UsageError(f"{args.dir} could not be written: {e.args[0][0][2]}") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    lessons, first = len(list(folder.rglob("[0-9][0-9]_*.ipynb"))), exercises[0].lesson
    print(f"{args.dir}: {lessons} lesson{'s' * (lessons > 1)}, {len(exercises)} exercises")
    if args.nbgrader:
        begin = f"cd {shlex.quote(str(args.dir))}; nbgrader generate_assignment {first}"
        print(f"next: {begin}; later nbgrader autograde {first}")
    else:
        print("next: give students this folder; its README.md tells them how to begin")


def _write_autograder(args, exercises):
    """Write the zip with which Gradescope grades: args, list of Exercises -> None"""
    if args.dir.suffix.lower() != ".zip":
        raise UsageError(f"{args.dir}: with --gradescope give the name of a .zip")
    require_output(args.dir, option="")
    formats.write_autograder(args.dir, args.lessons)
    count = f"{len(exercises)} exercises, one point each"
    print(f"{args.dir}: {count}; next: upload it as the autograder of a programming assignment")


def cmd_grade(args):
    """Grade a class, or for Gradescope and GitHub Classroom the work of one student.

    args: submissions, out, lessons, seconds, format, jobs, resume -> exit status
    """
    exercises = chosen_exercises(args.lessons)
    if args.format in ONE_STUDENT:
        return _grade_student(args, exercises)
    return _grade_class(args, exercises)


def _grade_class(args, exercises):
    """Grade a class: a table with one row per student, and a file of feedback for each."""
    out = args.out or Path("grades.csv")
    try:
        students = read_class(args.submissions)
        worksheet = out.with_name(f"{out.stem}_moodle.csv") if args.format == "moodle" else None
        if worksheet:
            formats.participants(students)
    except (Unreadable, ValueError) as error:
        raise UsageError(str(error)) from None
    book = Gradebook(out, students, exercises, args.seconds)
    paths = [submission.path for student in students for submission in student.submissions]
    for path in filter(None, (out, worksheet, book.kept)):
        require_output(path, paths)
    require_writable(book.feedback, "the folder for feedback,")
    earlier = unfinished(out)
    left = book.recall() if args.resume else students
    if earlier and not args.resume:
        how = "--resume goes on with it, this run begins anew"
        interrupt.say(f"{out} is of a run that did not end, {earlier} are graded: {how}")

    def kept():
        if not book.results:
            return ""
        with suppress(OSError):
            book.write()
        there = ", ".join(str(path) for path in (out, book.feedback) if path.exists())
        return f"{book}: {there}; --resume goes on with the rest"

    def done(student, results):
        book.note(student, results)
        bar.note = str(book)

    try:
        with (
            interrupt.keeping(kept),
            Bar(len(left) * len(exercises), "grading", "exercises") as bar,
        ):
            grade_class(left, exercises, args.seconds, args.jobs, done, bar.tick)
            book.close()
            if worksheet:
                table = formats.moodle(students, book.results)
                write_whole(worksheet, lambda f: f.write(table))
    except OSError as error:
        what = kept()
        raise UsageError(f"{error}; {what}" if what else str(error)) from None
    print(summary(students, book.results, exercises, book.problems))
    print(f"graded under: {book.guard}")
    also = f"; {worksheet}: the same points for Moodle" if worksheet else ""
    print(f"{out}: one row per student; {book.feedback}: feedback for each of them{also}")
    if ours := sandbox.changed():
        what = f"{', '.join(ours[:3])} changed while the class was graded, perhaps by its code"
        raise UsageError(f"{what}: restore it (git checkout), and grade again in a container")
    return 0


def _grade_student(args, exercises):
    """Grade one student's work into a file of JSON, which says the reason where that fails."""
    if args.resume or args.jobs:
        option = "--resume" if args.resume else "--jobs"
        raise UsageError(f"{option} goes with a class, --format {args.format} is of one student")
    out, began, results = args.out or Path("results.json"), time.monotonic(), []
    require_output(out)
    try:
        student = read_student([args.submissions])
    except Unreadable as error:
        student = Student("", problems=[str(error)])
    if student.submissions:
        done = lambda _, own: results.extend(map(tidy, own))
        with Bar(len(exercises), "grading", "exercises") as bar:
            grade_class([student], exercises, args.seconds, 1, done, bar.tick)
    said = [f"cannot be graded: {line(problem)}" for problem in student.problems]
    said.append(about(student.submissions, student.left_out))
    if args.format == "gradescope":
        said.append(f"graded under: {protection()}")
        made = formats.gradescope(results, "\n".join(said), time.monotonic() - began)
    else:
        made = formats.github(results, "\n".join(said))
    write_whole(out, lambda f: f.write(made))
    if not results:
        raise UsageError(line("; ".join(student.problems) or "there is nothing to grade"))
    points = sum(result.points for result in results)
    print(f"{out}: {points} of {len(results)} points")
    return int(args.format == "github" and points < len(results))
