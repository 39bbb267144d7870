"""The commands for instructors: `handout` gives the course out, `grade` grades a class."""

import shlex
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from ..course import formats, handout, sandbox
from ..course.board import about, line, tidy
from ..course.classroom import Gradebook, grade_class, summary, unfinished
from ..course.exercises import in_handout
from ..course.handed_in import Student, read_class, read_student
from ..course.submission import Unreadable
from ..course.verdict import Verdict
from ..course.worker import Result, protection
from ..files import write_whole
from . import interrupt, together
from .progress import Bar
from .usage import UsageError, require_output, require_writable

ONE_STUDENT = ("gradescope", "github")  # of the formats, those that are of one student's work


def chosen_exercises(text):
    """List the exercises of a choice of lessons: "1-5", None = all -> list. Raises UsageError."""
    try:
        return handout.chosen_exercises(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


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
            write(made, handout.chosen_lessons(args.lessons), bar.tick)
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
    if args.dir.exists():
        raise UsageError(f"{args.dir} already exists: give a new name")
    require_output(args.dir, option="")
    formats.write_autograder(args.dir, args.lessons)
    count = f"{len(exercises)} exercises, one point each"
    print(f"{args.dir}: {count}; next: upload it as the autograder of a programming assignment")


def cmd_grade(args):
    """Grade a class, or for Gradescope and GitHub Classroom the work of one student.

    args: submissions, out, lessons, seconds, format, jobs, resume -> exit status
    """
    exercises = chosen_exercises(args.lessons)
    sandbox.hide(args.submissions if args.submissions.is_dir() else args.submissions.parent)
    if together.started() != 1 and (args.jobs or args.format in ONE_STUDENT):
        option = "--jobs" if args.jobs else f"--format {args.format}"
        raise UsageError(f"mpiexec grades a class, one student per process: leave out {option}")
    if together.rank():
        return together.work()
    if args.format in ONE_STUDENT:
        return _grade_student(args, exercises)
    return _grade_class(args, exercises)


def _grade_class(args, exercises):
    """Grade a class: a table with one row per student, and a file of feedback for each."""
    out = args.out or Path("grades.csv")
    names = ("feedback", "progress.jsonl", "moodle.csv")
    written = [out, *(out.with_name(f"{out.stem}_{name}") for name in names)]
    try:
        students = read_class(args.submissions, written)
        worksheet = written[-1] if args.format == "moodle" else None
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
            return f"{book}; give the same command to start again"
        with suppress(OSError):
            book.write()
        there = ", ".join(str(path) for path in (out, book.feedback) if path.exists())
        return f"{book}: {there}; --resume goes on with the rest"

    if book.guard.startswith("limits"):
        interrupt.say(f"grading with {book.guard}")
    unknown = [line(s.name, 60) for s in students if not s.id] if worksheet else []
    if unknown:
        who = f"{', '.join(unknown[:3])}{' and others' * (len(unknown) > 3)}"
        why = "Moodle will not know them by their names"
        interrupt.say(f"{len(unknown)} without a number of Moodle's, {who}: {why}")

    def done(student, results):
        book.note(student, results)
        bar.note = str(book)

    try:
        with (
            interrupt.keeping(kept),
            Bar(len(left) * len(exercises), "grading", "exercises") as bar,
            together.workers() as machines,
        ):
            count = lambda _: bar.tick()
            grade_class(left, exercises, args.seconds, args.jobs, done, count, machines)
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
    out, began, graded = args.out or Path("results.json"), time.monotonic(), {}
    require_output(out)
    try:
        student = read_student([args.submissions])
    except Unreadable as error:
        student = Student("", problems=[str(error)])

    def note(result):
        if result.verdict.state != "cannot be graded":  # else perhaps as this is interrupted
            graded[result.exercise] = tidy(result)
        bar.tick()

    try:
        done = lambda _, own: graded.update({r.exercise: tidy(r) for r in own})
        with Bar(len(exercises), "grading", "exercises") as bar:
            if student.submissions:
                grade_class([student], exercises, args.seconds, 1, done, note)
    except KeyboardInterrupt as end:  # Gradescope's time is over: what is graded counts
        _write_one(args, exercises, student, graded, began, out)
        end.kept = f"{out}: {len(graded)} of {len(exercises)} exercises are graded"
        raise
    results = _write_one(args, exercises, student, graded, began, out)
    if not results:
        raise UsageError(line("; ".join(student.problems) or "there is nothing to grade"))
    points = sum(result.points for result in results)
    print(f"{out}: {points} of {len(results)} points")
    return int(args.format == "github" and points < len(results))


def _write_one(args, exercises, student, graded, began, out):
    """Write what is known of one student's work; what is not graded says so -> list of Results

    exercises: list; graded: dict of Exercise to Result; began: when, by time.monotonic; out: Path
    """
    late = (("why", "the time was over before it was graded: is there an endless loop?"),)
    missing = lambda e: Result(e, None, Verdict(e.name, "cannot be graded", late))
    results = [graded.get(e) or missing(e) for e in exercises] if student.submissions else []
    said = [f"cannot be graded: {line(problem)}" for problem in student.problems]
    said.append(about(student.submissions, student.left_out))
    if args.format == "gradescope":
        said.append(f"graded under: {protection()}")
        made = formats.gradescope(results, "\n".join(said), time.monotonic() - began)
    else:
        made = formats.github(results, "\n".join(said))
    write_whole(out, lambda f: f.write(made))
    return results
