"""The commands for instructors: `handout` gives the course out, `grade` grades a class."""

import re
import shlex
import shutil
import tempfile
from pathlib import Path

from ..course import handout
from ..course.classroom import grade_class, students, summary, tell, write_grades
from ..course.exercises import exercises as all_exercises
from ..course.exercises import in_handout
from ..course.submission import Unreadable, read
from . import interrupt
from .progress import Bar
from .usage import UsageError, require_output, require_writable


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
    """Write the tree for students, or an nbgrader course; the folder appears whole or not at all.

    args: dir, lessons, nbgrader -> None
    """
    if in_handout():
        what = "this is a handout itself, without the answers"
        raise UsageError(f"{what}: hand out from a clone of the repository")
    exercises, folder = chosen_exercises(args.lessons), args.dir.resolve()
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


def cmd_grade(args):
    """Grade a class: a table with one row per student, and a file of feedback for each.

    args: submissions, out, lessons, seconds -> None
    """
    exercises = chosen_exercises(args.lessons)
    try:
        handed_in = students(args.submissions)
    except Unreadable as error:
        raise UsageError(str(error)) from None
    require_output(args.out, [path for paths in handed_in.values() for path in paths])
    feedback = args.out.parent / f"{args.out.stem}_feedback"
    require_writable(feedback, "the folder for feedback,")
    is_new, told = not feedback.exists(), []
    feedback.mkdir(parents=True, exist_ok=True)
    files, problems = {name: [] for name in handed_in}, {name: [] for name in handed_in}
    for name, paths in handed_in.items():
        problems[name] += ["no notebook and no .py"] * (not paths)
        for path in paths:
            try:
                files[name].append(read(path))
            except Unreadable as error:
                problems[name].append(str(error))

    def done(name, own):
        tell(feedback / f"{name}.txt", files[name], own, problems[name])
        told.append(name)

    def kept():
        if is_new and not told:
            shutil.rmtree(feedback, ignore_errors=True)
        what = f"{len(told)} of {len(files)} students are graded, without a table"
        again = "give the same command to start again"
        return f"{what}; their feedback is in {feedback}; {again}" if told else ""

    work = len(files) * len(exercises)
    with interrupt.keeping(kept), Bar(work, "grading", "exercises") as bar:
        results = grade_class(files, exercises, args.seconds, done, bar.tick)
    for name, submissions in files.items():
        broken = {why for submission in submissions for why in submission.broken.values()}
        problems[name] += sorted(broken)
    write_grades(args.out, results, exercises, problems)
    print(summary(results, exercises, problems))
    print(f"{args.out}: one row per student; {feedback}: feedback for each of them")
