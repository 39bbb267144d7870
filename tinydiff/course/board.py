"""The result of grading a student's files, for people and as CSV."""

import csv

MARKS = {"passed": "1 / 1", "failed": "0 / 1", "not attempted": "- / 1"}  # else "? / 1"


def board(submissions, results, left_out=()):
    """Write the result down for people: list of Submissions, list of Results -> str"""
    lines = [f"graded: {submission.path}" for submission in submissions]
    lines += [f"left out: {text}" for text in left_out]
    for lesson in dict.fromkeys(result.exercise.lesson for result in results):
        lines.append(f"\nlesson {lesson}")
        of_lesson = [result for result in results if result.exercise.lesson == lesson]
        if any(result.submission for result in of_lesson):
            lines += [line for result in of_lesson for line in _row(result)]
        else:
            files = "this file" if len(submissions) == 1 else "these files"
            lines.append(f"  none of its {len(of_lesson)} exercises is in {files}")
    broken = sorted({why for submission in submissions for why in submission.broken.values()})
    lines += ["", *(f"cannot be read: {why}" for why in broken)]
    states = [result.verdict.state for result in results]
    count = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    lines.append(f"points: {sum(result.points for result in results)} of {len(results)} ({count})")
    return "\n".join(lines)


def _row(result):
    """Write one exercise down: Result -> list of lines"""
    (where, digest), verdict = result.place, result.verdict
    mark = MARKS.get(verdict.state, "? / 1")
    graded = f"{where} #{digest}" if digest else where
    row = f"  {result.exercise.function:22s}{mark}  {verdict.state:17s}{graded}".rstrip()
    lines = [f"      {head:9s}{text}" for head, text in verdict.lines]
    return [row, *(line.replace("\n", "\n               ") for line in lines)]


COLUMNS = ["file", "lesson", "exercise", "state", "points", "seconds", "where", "hash", "why"]


def write_csv(path, results):
    """Write the result down for machines, one row per exercise: Path, list of Results -> None"""
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for result in results:
            exercise, verdict = result.exercise, result.verdict
            name = result.submission.path.name if result.submission else ""
            seconds = f"{verdict.seconds:.2f}"
            why = "; ".join(f"{head}: {text}" for head, text in verdict.lines)
            came = [verdict.state, result.points, seconds, *result.place, why]
            rows.writerow([name, exercise.lesson, exercise.name, *came])
