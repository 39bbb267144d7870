"""The result of grading a file, for people and as CSV."""

import csv


def board(submissions, results):
    """Write the result down for people: list of Submissions, list of Results -> str"""
    lines = [f"graded: {submission.path}" for submission in submissions]
    for lesson in dict.fromkeys(result.exercise.lesson for result in results):
        lines.append(f"\nlesson {lesson}")
        of_lesson = [result for result in results if result.exercise.lesson == lesson]
        if not any(result.submission for result in of_lesson):
            lines.append(
                f"  none of its {len(of_lesson)} exercises is in {'this file' if len(submissions) == 1 else 'these files'}"
            )
            continue
        for result in of_lesson:
            (where, digest), verdict = result.place, result.verdict
            mark = {"passed": "1 / 1", "failed": "0 / 1", "not attempted": "- / 1"}.get(
                verdict.state, "? / 1"
            )
            lines.append(
                f"  {result.exercise.function:22s}{mark}  {verdict.state:15s}{where}{f' #{digest}' if digest else ''}".rstrip()
            )
            lines += [
                f"      {head:9s}{text}".replace("\n", "\n               ")
                for head, text in verdict.lines
            ]
    lines += [
        "",
        *(
            f"cannot be read: {why}"
            for why in sorted({why for s in submissions for why in s.broken.values()})
        ),
    ]
    states = [result.verdict.state for result in results]
    count = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    lines.append(f"points: {sum(result.points for result in results)} of {len(results)} ({count})")
    return "\n".join(lines)


def write_csv(path, results):
    """Write the result down for machines, a row an exercise: Path, list of Results -> None"""
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(
            ["file", "lesson", "exercise", "state", "points", "seconds", "where", "hash", "why"]
        )
        for result in results:
            verdict, name = result.verdict, result.submission.path.name if result.submission else ""
            why = "; ".join(f"{head}: {text}" for head, text in verdict.lines)
            told = [verdict.state, result.points, f"{verdict.seconds:.2f}", *result.place, why]
            rows.writerow([name, result.exercise.lesson, result.exercise.name, *told])
