"""Grade a whole file: `python -m pytest --grade FILE [--grade-csv grades.csv]`, FILE being a notebook or a .py.

The functions of FILE that are exercises are found by name; of two with one name the last counts. Each is graded in a process of its
own, with limits on time and memory, so that a submission that loops, exits or floods costs only its own points. Of FILE only what
the function needs is run: imports, functions, classes, and names for literals. Never run: the rest, calls of `check` among it.

As a pytest plugin (an entry point in pyproject.toml) this module adds the options; what a test run means without them is untouched.
It is no prison: code of people whom you don't trust at all belongs into an account or container that you can lose.
"""

import ast
import csv
import hashlib
import json
import linecache
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from . import grade
from .exercises import Exercise, put

SECONDS = 60.0  # for one exercise
MEMORY = 4 << 30  # bytes of address space for one exercise


class Unreadable(Exception):
    """A file cannot be graded at all; the message is the one line that says why."""


@dataclass
class Submission:
    """What a file defines. places: name -> (where, node) of the last definition; broken: name -> why its cell cannot be read."""

    path: Path
    places: dict = field(default_factory=dict)
    stars: list = field(default_factory=list)
    broken: dict = field(default_factory=dict)
    sources: dict = field(default_factory=dict)

    def needs(self, function):
        """List what a function needs from the file: imports, then the rest in the order of the file -> list of (where, node)"""
        wanted, found = [function], {}
        while wanted:
            name = wanted.pop()
            if name in self.places and name not in found:
                found[name] = self.places[name]
                wanted += [node.id for node in ast.walk(found[name][1]) if isinstance(node, ast.Name)]
        unique = {id(node): (where, node) for where, node in found.values()}
        order, imports = list(self.sources), (ast.Import, ast.ImportFrom)
        places = [*self.stars, *unique.values()]
        return sorted(places, key=lambda place: (not isinstance(place[1], imports), order.index(place[0]), place[1].lineno))

    def source(self, function):
        where, node = self.places[function]
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        return "\n".join(self.sources[where].splitlines()[first - 1 : node.end_lineno])

    def digest(self, function):
        """Hash all that was graded: str -> 12 hex digits"""
        try:
            text = "\n".join(ast.unparse(node) for _, node in self.needs(function))
        except RecursionError:  # nested too deeply to be written down anew
            text = self.source(function)
        return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:12]

    def build(self, function):
        """Run what a function needs -> the function. Raises what the file raises, its place in the message."""
        scope = {"__name__": "submission", "__package__": grade.find(function).module.__package__}  # a file of the package imports from it
        for where, node in self.needs(function):
            linecache.cache[where] = (len(self.sources[where]), None, self.sources[where].splitlines(True), where)
            try:
                exec(compile(ast.Module([node], []), where, "exec"), scope)
            except Exception as error:
                raise Unreadable(f"{where}, line {node.lineno}: {type(error).__name__}: {error}") from None
        return scope[function]


def read(path):
    """Read a notebook or a .py: Path -> Submission. Raises Unreadable where it is neither."""
    found = Submission(path)
    for where, text in _cells(path):
        text = "\n".join(text.splitlines())  # Python counts fewer kinds of line ends than str does
        try:
            try:
                nodes = ast.parse(text).body
            except SyntaxError:  # perhaps lines that only a notebook understands: %time, !pip, ?help
                text = re.sub(r"^([ \t]*)[%!?].*$", r"\1pass", text, flags=re.M)
                nodes = ast.parse(text).body
            found.sources[where] = text
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            why = f"{where}, line {getattr(error, 'lineno', '?')}: {type(error).__name__}: {getattr(error, 'msg', error)}"
            for name in re.findall(r"^\s*(?:def|class)\s+(\w+)", text, re.M) or [""]:
                found.places.pop(name, None)
                found.broken[name] = why
            continue
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                found.stars.append((where, node))
            for name in _defines(node):
                if isinstance(node, ast.FunctionDef) or not isinstance(found.places.get(name, (0, 0))[1], ast.FunctionDef):
                    found.places[name] = (where, node)  # a later import does not replace a function
                found.broken.pop(name, None)
    return found


def _cells(path):
    """Give the pieces of a file -> list of (where, text)"""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() != ".ipynb":
            return [(path.name, text)]
        cells = json.loads(text)["cells"]
        return [(f"{path.name} cell {k}", "".join(c["source"])) for k, c in enumerate(cells, 1) if c["cell_type"] == "code"]
    except OSError as error:
        raise Unreadable(f"{path} cannot be read ({error.strerror}): give a notebook or a .py") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        kind = "notebook" if path.suffix.lower() == ".ipynb" else "text"
        why = {KeyError: "it has no cells", json.JSONDecodeError: "it is no JSON", UnicodeDecodeError: "it is not UTF-8"}
        raise Unreadable(f"{path} is no {kind} ({why.get(type(error), error)}): give a notebook or a .py") from None


def _defines(node):
    """List the names that a statement gives a meaning, if it is of a kind that is run -> list of str"""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(a.asname or a.name).split(".")[0] for a in node.names]
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.Assign):
        try:
            ast.literal_eval(node.value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return []
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


# --- one exercise, in a process of its own ---


def judge_apart(path, submission, exercise, seconds=SECONDS):
    """Grade one exercise of a file: Path, Submission, Exercise, seconds -> Verdict."""
    name = exercise.function
    if name in submission.broken:
        return grade.Verdict(exercise.name, "failed", (("why", submission.broken[name]),))
    if name not in submission.places or not isinstance(submission.places[name][1], ast.FunctionDef):
        return grade.Verdict(exercise.name, "not attempted", (("why", f"no function {name} in {path.name}"),))
    if grade.untouched(submission.source(name)):
        return grade.Verdict(exercise.name, "not attempted")
    if exercise.on_card:
        return grade.twice(lambda simulate: _judge(path, exercise, seconds, grade.surroundings(simulate)))
    return _judge(path, exercise, seconds, {})


def _judge(path, exercise, seconds, surroundings):
    """Start the worker, and wait for its report -> Verdict"""
    secret = secrets.token_hex()  # only this process and the worker's first lines know it: who exits early cannot have reported
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "tinydiff.submission", str(path), exercise.name, str(report)]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
        worker = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=os.environ | threads | {"TINYDIFF_KERNELS": "reference", "PYTHONPATH": str(grade.ROOT), "MPLBACKEND": "agg"} | surroundings,
            start_new_session=True,
        )
        try:
            worker.communicate(secret.encode(), timeout=seconds)
            names = {s.value: s.name for s in signal.Signals}
            why = "it ended the process"
            why += f" ({names.get(-worker.returncode, f'signal {-worker.returncode}')})" if worker.returncode < 0 else ""
        except subprocess.TimeoutExpired:
            why = f"it did not finish within {seconds:g} seconds: is there a loop without an end?"
        finally:
            _kill(worker)
        try:
            said = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}
            if said.pop("secret") == secret:
                return grade.Verdict(exercise.name, said["state"], tuple(map(tuple, said["lines"])), said["seconds"])
        except Exception:
            pass  # whatever it wrote in the report's place
    return grade.Verdict(exercise.name, "failed", (("why", why),))


def _kill(worker):
    """End the worker and whatever it started."""
    try:
        os.killpg(worker.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError, AttributeError):  # it is gone already; or this is Windows
        worker.kill()
    worker.wait()


def _work(path, name, report):
    """Do the worker's part: the function takes the package's place before the first line of the file is run."""
    secret = sys.stdin.read()
    exercise = next(e for e in grade.exercises() if e.name == name)
    if not exercise.on_card or os.environ["NUMBA_ENABLE_CUDASIM"] == "1":  # the driver of a card reserves more than any limit
        _limit_memory()
    why = grade.missing() if exercise.on_card else None
    if why:
        return _report(report, secret, grade.Verdict(name, "cannot be graded", (("why", why),)))
    submission, scope = read(Path(path)), {}
    if name.startswith("kernels."):  # the package's other versions of this function are out of reach too
        others = {"cpu", "direct", "winograd", "cuda", "ladder"} - {name.split(".")[1]}
        sys.modules |= dict.fromkeys(f"tinydiff.kernels.{k}" for k in others)
    with grade.in_place(exercise, lambda *args, **options: scope["f"](*args, **options)):
        try:
            for other in grade.exercises() if grade.in_handout() else ():  # what the package lacks there, the tests may need
                if other is exercise or other.function in submission.broken or not counts([submission], other):
                    continue
                if not grade.untouched(submission.source(other.function)):
                    with suppress(Unreadable):  # that costs the other's point
                        put(other, submission.build(other.function))
            scope["f"] = submission.build(exercise.function)
            verdict = grade.judge(exercise, scope["f"], here=True)
        except Unreadable as error:
            verdict = grade.Verdict(name, "failed", (("why", str(error)),))
    _report(report, secret, verdict)


def _report(report, secret, verdict):
    said = {"secret": secret, "state": verdict.state, "lines": verdict.lines, "seconds": verdict.seconds}
    Path(report).write_text(json.dumps(said), encoding="utf-8")


def _limit_memory():
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, 64 << 20))
    except (ImportError, ValueError, OSError):
        pass  # not on this system: the limit on time remains


# --- the board ---


@dataclass(frozen=True)
class Result:
    """One line of a board. submission: the file whose function was graded, None where no file has one."""

    exercise: Exercise
    submission: Submission | None
    verdict: grade.Verdict

    @property
    def points(self):
        return int(self.verdict.state == "passed")

    @property
    def place(self):
        """Say what was graded -> (where, 12 hex digits), both "" where nothing was"""
        name = self.exercise.function
        if self.submission is None or name not in self.submission.places:
            return "", ""
        return self.submission.places[name][0], self.submission.digest(name)


def counts(submissions, exercise):
    """Choose the file that counts: the last that attempts the exercise, else the last that has it -> Submission or None"""
    name = exercise.function
    having = [s for s in submissions if name in s.broken or isinstance(s.places.get(name, (0, 0))[1], ast.FunctionDef)]
    tried = [s for s in having if name in s.broken or not grade.untouched(s.source(name))]
    return (tried or having or [None])[-1]


def grade_one(submissions, exercise, seconds=SECONDS):
    """Grade one exercise of the files of one student: list of Submissions, Exercise, seconds -> Result."""
    try:
        submission = counts(submissions, exercise)
        if submission is None:
            return Result(exercise, None, grade.Verdict(exercise.name, "not attempted"))
        return Result(exercise, submission, judge_apart(submission.path.resolve(), submission, exercise, seconds))
    except Exception as error:  # one file must not end the grading of a class
        return Result(exercise, None, grade.Verdict(exercise.name, "cannot be graded", (("why", f"{type(error).__name__}: {error}"),)))


def grade_all(submissions, exercises=None, seconds=SECONDS):
    """Grade the files of one student: list of Submissions, Exercises (None = all) -> list of Results in the order of the lessons."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(lambda exercise: grade_one(submissions, exercise, seconds), exercises or grade.exercises()))


def grade_package():
    """Grade what stands in the package itself, in a student's tree: () -> list of Submissions (its files), list of Results"""
    files = {e.module.__file__: read(Path(e.module.__file__)) for e in grade.exercises()}
    results = [Result(e, files[e.module.__file__], grade.judge(e, grade.original(e))) for e in grade.exercises()]
    return list(files.values()), results


def board(submissions, results):
    """Write the result down for people: list of Submissions, list of Results -> str"""
    lines = [f"graded: {submission.path}" for submission in submissions]
    for lesson in dict.fromkeys(result.exercise.lesson for result in results):
        lines.append(f"\nlesson {lesson}")
        of_lesson = [result for result in results if result.exercise.lesson == lesson]
        if not any(result.submission for result in of_lesson):
            lines.append(f"  none of its {len(of_lesson)} exercises is in {'this file' if len(submissions) == 1 else 'these files'}")
            continue
        for result in of_lesson:
            (where, digest), verdict = result.place, result.verdict
            mark = {"passed": "1 / 1", "failed": "0 / 1", "not attempted": "- / 1"}.get(verdict.state, "? / 1")
            lines.append(f"  {result.exercise.function:22s}{mark}  {verdict.state:15s}{where}{f' #{digest}' if digest else ''}".rstrip())
            lines += [f"      {head:9s}{text}".replace("\n", "\n               ") for head, text in verdict.lines]
    lines += ["", *(f"cannot be read: {why}" for why in sorted({why for s in submissions for why in s.broken.values()}))]
    states = [result.verdict.state for result in results]
    count = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    lines.append(f"points: {sum(result.points for result in results)} of {len(results)} ({count})")
    return "\n".join(lines)


def write_csv(path, results):
    """Write the result down for machines, a row an exercise: Path, list of Results -> None"""
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "lesson", "exercise", "state", "points", "seconds", "where", "hash", "why"])
        for result in results:
            verdict, name = result.verdict, result.submission.path.name if result.submission else ""
            why = "; ".join(f"{head}: {text}" for head, text in verdict.lines)
            told = [verdict.state, result.points, f"{verdict.seconds:.2f}", *result.place, why]
            rows.writerow([name, result.exercise.lesson, result.exercise.name, *told])


# --- pytest ---


def pytest_addoption(parser):
    """Add the options of grading to pytest's command line."""
    group = parser.getgroup("grading")
    group.addoption("--grade", metavar="FILE", help="grade the exercises found in a notebook or .py instead of testing the package")
    group.addoption("--grade-csv", metavar="FILE", help="with --grade: also write the result as CSV, a row an exercise")
    group.addoption("--grade-seconds", type=float, default=SECONDS, help=f"with --grade: limit for one exercise (default: {SECONDS:g})")


def pytest_configure(config):
    """Tell pytest the mark by which a test says which exercise it grades."""
    config.addinivalue_line("markers", "exercise(name, changes=()): the test grades this function of the package")


def pytest_cmdline_main(config):
    """Grade instead of testing when --grade is given -> exit status: 0 graded and nothing failed, 1 something failed, 2 not gradable

    In a student's tree a run without a file grades the package.
    """
    own = not config.invocation_params.args and grade.in_handout()
    if not (config.option.grade or own):
        return None
    try:
        if own:
            submissions, results = grade_package()
        else:
            submissions = [read(Path(config.option.grade))]
            results = grade_all(submissions, seconds=config.option.grade_seconds)
        if config.option.grade_csv:
            write_csv(Path(config.option.grade_csv), results)
    except (Unreadable, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(board(submissions, results))
    return int(any(result.verdict.state in ("failed", "cannot be graded") for result in results))


if __name__ == "__main__":
    _work(*sys.argv[1:])
