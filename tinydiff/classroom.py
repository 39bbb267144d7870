"""What the commands for instructors do: hand the course out, grade a class.

A class is a folder: a notebook or a .py for each student, ada.ipynb, or a folder for each, ada/01_forward.ipynb and so on.
"""

import csv
import os
import re
import shlex
import shutil
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from .commands import Bad, require_file, require_writable


def chosen_lessons(text):
    """Read a choice of lessons: "1-5", "3" or "1,4-6"; None = all -> set of int or None; anything else is a Bad"""
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,2}(-\d{1,2})?(,\d{1,2}(-\d{1,2})?)*", text):
        raise Bad(f"--lessons takes numbers and ranges, as 1-5 or 1,3,7-9; got {text!r}")
    ends = [tuple(map(int, part.split("-"))) for part in text.split(",")]
    if any(first > last for first, *rest in ends for last in rest):
        raise Bad(f"--lessons takes ranges that count upwards, as 1-5; got {text!r}")
    return {number for first, *last in ends for number in range(first, (last or [first])[0] + 1)}


def chosen_exercises(text):
    """List the exercises of a choice of lessons: str or None -> list of Exercises; an unknown lesson, or no exercise at all, is a Bad"""
    from . import grade, handout

    numbers, known = chosen_lessons(text), {int(path.name[:2]) for path in handout.lesson_files()}
    if (numbers or set()) - known:
        raise Bad(f"--lessons {text}: there is no lesson {min(numbers - known)}; the lessons here are {', '.join(map(str, sorted(known)))}")
    found = [e for e in grade.exercises() if numbers is None or int(e.lesson[:2]) in numbers]
    if not found:
        raise Bad(f"--lessons {text}: no exercise is in these lessons; those with exercises are {', '.join(_numbers(grade.exercises()))}")
    return found


def _numbers(exercises):
    return list(dict.fromkeys(e.lesson[:2] for e in exercises))


# --- handing out ---


def cmd_handout(args):
    """Write the tree for students, or an nbgrader course. args: dir, lessons, nbgrader -> None; the folder is there whole or not at all"""
    from . import grade, handout

    if grade.in_handout():
        raise Bad("this is a handout itself, without the answers: hand out from a clone of the repository")
    exercises, folder = chosen_exercises(args.lessons), args.dir.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Bad(f"{args.dir} is there already and not empty: give a new folder")
    require_writable(folder.parent)
    made = Path(tempfile.mkdtemp(prefix=".handout", dir=folder.parent))
    try:
        write = handout.write_nbgrader if args.nbgrader else handout.write_tree
        write(made, chosen_lessons(args.lessons))
        if folder.exists():
            folder.rmdir()
        made.chmod(0o755)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    lessons, first = len(list(folder.rglob("[0-9][0-9]_*.ipynb"))), exercises[0].lesson
    print(f"{args.dir}: {lessons} lesson{'s' * (lessons > 1)}, {len(exercises)} exercises")
    if args.nbgrader:
        print(f"next: cd {shlex.quote(str(args.dir))}; nbgrader generate_assignment {first}; later nbgrader autograde {first}")
    else:
        print("next: give students this folder; its README.md tells them how to begin")


# --- grading ---


def students(folder):
    """Find who handed in what: Path -> dict of student to list of Paths, both sorted; a class without any notebook is a Bad"""
    if not folder.is_dir():
        raise Bad(f"{folder} is no folder: give one with a notebook or a folder for each student")
    found = {path.name: [] for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        if path.suffix.lower() in (".ipynb", ".py") and path.is_file() and not any(part.startswith((".", "_")) for part in inside):
            found.setdefault(inside[0] if len(inside) > 1 else path.stem, []).append(path)
    one = next((path.name for path in folder.iterdir() if re.match(r"\d\d_\w+\.ipynb|tinydiff$", path.name)), None)
    if one:
        raise Bad(f"{folder} is no class, since {one} lies in it: give the folder in which each student has a file or a folder")
    if not any(found.values()):
        raise Bad(f"{folder} holds no notebook and no .py: expected ada.ipynb, or ada/01_forward.ipynb, for each student")
    return dict(sorted(found.items()))


def cmd_grade(args):
    """Grade a class, a row a student, with a file of feedback for each. args: submissions, out, lessons, seconds -> None"""
    from .submission import Unreadable, read

    exercises, handed_in = chosen_exercises(args.lessons), students(args.submissions)
    require_file(args.out)
    feedback = args.out.parent / f"{args.out.stem}_feedback"
    feedback.mkdir(exist_ok=True)
    files, problems = {name: [] for name in handed_in}, {name: [] for name in handed_in}
    for name, paths in handed_in.items():
        problems[name] += ["no notebook and no .py"] * (not paths)
        for path in paths:
            try:
                files[name].append(read(path))
            except Unreadable as error:
                problems[name].append(str(error))
    results = grade_class(
        files, exercises, args.seconds, lambda name, own: _tell(feedback / f"{name}.txt", files[name], own, problems[name])
    )
    for name, submissions in files.items():
        problems[name] += sorted({why for submission in submissions for why in submission.broken.values()})
    write_grades(args.out, results, exercises, problems)
    print(summary(results, exercises, problems).encode(errors="replace").decode())
    print(f"{args.out}: a row a student; {feedback}: what to tell each of them")


def grade_class(files, exercises, seconds, done=lambda name, results: None):
    """Grade everybody, as many exercises at a time as there are cores, with a progress bar.

    files: dict of student to list of Submissions; done(student, results) is called when one is graded -> dict of student to Results
    """
    from tqdm import tqdm

    from .submission import grade_one

    results, left = {name: [None] * len(exercises) for name in files}, dict.fromkeys(files, len(exercises))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        jobs = {pool.submit(grade_one, files[n], e, seconds): (n, k) for n in files for k, e in enumerate(exercises)}
        try:
            for job in tqdm(as_completed(jobs), "grading", len(jobs), unit="exercise"):
                name, k = jobs[job]
                results[name][k], left[name] = job.result(), left[name] - 1
                if not left[name]:
                    done(name, results[name])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return results


def _tell(path, submissions, results, problems):
    from .submission import board

    text = [*(f"cannot be graded: {problem}" for problem in problems), board(submissions, results) if submissions else "points: 0"]
    path.write_text("\n".join(text) + "\n", encoding="utf-8", errors="replace")


def write_grades(path, results, exercises, problems):
    """Write the grades: a row a student -> None; whole or not at all

    Points altogether, by lesson, by exercise; there empty = not attempted, ? = cannot be graded.
    """
    lessons = list(dict.fromkeys(e.lesson for e in exercises))
    unfinished = path.with_name(path.name + ".part")
    with open(unfinished, "w", newline="", encoding="utf-8-sig", errors="replace") as file:  # with a mark by which spreadsheets know it
        rows = csv.writer(file)
        rows.writerow(["student", "points", "of", *lessons, *(e.name for e in exercises), "problems"])
        for name, own in results.items():
            by_lesson = [sum(r.points for r in own if r.exercise.lesson == lesson) for lesson in lessons]
            each = [{"not attempted": "", "cannot be graded": "?"}.get(r.verdict.state, r.points) for r in own]
            rows.writerow([name, sum(by_lesson), len(own), *by_lesson, *each, "; ".join(problems[name])])
    os.replace(unfinished, path)


def summary(results, exercises, problems):
    """Say how the class did: everybody's points, then where exercises failed, the most frequent slip of each -> str"""
    width = max(map(len, results))
    lines = [f"{name:{width}s}  {sum(r.points for r in own):3d} of {len(own)}" for name, own in results.items()]
    lines = [line + f"  ({'; '.join(problems[name])})" * bool(problems[name]) for line, name in zip(lines, results, strict=True)]
    for k, exercise in enumerate(exercises):
        verdicts = [own[k].verdict for own in results.values()]
        states = Counter(verdict.state for verdict in verdicts)
        if states["cannot be graded"]:
            why = next(dict(verdict.lines).get("why") for verdict in verdicts if verdict.state == "cannot be graded")
            lines.append(f"{exercise.function}: {states['cannot be graded']} cannot be graded: {why}")
        if states["failed"]:
            slips = Counter(dict(verdict.lines).get("slip") for verdict in verdicts if verdict.state == "failed")
            slips.pop(None, None)
            often = [f"; {n} of these: {slip}" for slip, n in slips.most_common(1)]
            lines.append(f"{exercise.function}: {states['passed']} passed, {states['failed']} failed{''.join(often)}")
    return "\n".join(lines)
