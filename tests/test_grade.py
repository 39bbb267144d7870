"""The graders graded: for every exercise the reference passes, and every wrong answer in the list fails and is named."""

import copy
import inspect
import itertools
import re

import numpy as np
import pytest

from tinydiff import autodiff, diffusion, kernels, ops
from tinydiff.autodiff import op, value_of
from tinydiff.course import exercises, grade
from tinydiff.kernels import cpu, reference

EXERCISES = exercises.exercises()
QUICK = {
    "diffusion.predict_x0",
    "exact.point",
    "sample.even_times",
    "ops.mul",
    "kernels.reference.silu_grad",
    "metrics.recall",
}  # one of each kind; the others are graded in the slow run
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # wrong answers divide by zero


# --- answers that are wrong for every exercise ---


def changed(f, change):
    """Make a wrong version of f: its result goes through change(result, args)."""
    if not hasattr(f, "forward"):
        return lambda *args, **options: change(f(*args, **options), args)

    def forward(*args, **options):
        value, vjp = f.forward(*args, **options)
        return change(value, args), vjp

    return op(forward)


def constant(f):
    first = []

    def always(result, args):
        first[:] = first or [
            list(itertools.islice(result, 50)) if inspect.isgenerator(result) else result
        ]
        again = copy.deepcopy(first[0])
        return iter(again) if inspect.isgenerator(result) else again

    return changed(f, always)


def its_input(f):
    return changed(
        f,
        lambda result, args: next(
            (value_of(a) for a in args if isinstance(value_of(a), np.ndarray)), 0.0
        ),
    )


def wrong_shape(f):
    def deeper(result, args):
        if isinstance(result, tuple):
            return tuple(np.asarray(part)[None] for part in result)
        return (
            np.asarray(result)[None]
            if isinstance(result, np.ndarray | np.generic | float)
            else [result]
        )

    return changed(f, deeper)


def on_its_input(f):
    """Give the right result, and leave the first array that came in changed."""

    def spoil(result, args):
        for a in map(value_of, itertools.chain(*(a if isinstance(a, list) else [a] for a in args))):
            if isinstance(a, np.ndarray) and a.dtype.kind in "fi" and a.flags.writeable:
                a += 1
                break
        return result

    return changed(f, spoil)


CLUMSY = {
    "constant": constant,
    "its input": its_input,
    "wrong shape": wrong_shape,
    "changes its input": on_its_input,
}
BODIES = {  # of kernels, which return nothing: what the first thread does, x being what they read first and y what they fill
    "constant": "for i in np.ndindex(y.shape):\n            y[i] = ZERO",
    "its input": "for i, k in zip(np.ndindex(y.shape), np.ndindex(x.shape)):\n            y[i] = x[k]",
    "wrong shape": "y[(0,) * (y.ndim + 1)] = ZERO",
    "changes its input": "x[(0,) * x.ndim] += 1",
}


def clumsy(exercise, name):
    """Make an answer that is wrong in the way of this name; of a kernel as a source, for it travels as one."""
    right = exercises.original(exercise)
    if not exercise.on_card:
        return CLUMSY[name](right)
    source = inspect.getsource(right.py_func)
    first, *_, last = inspect.signature(right.py_func).parameters
    body = re.sub(r"\bx\b", first, BODIES[name])
    end = f"    if cuda.grid(1) == 0 and cuda.threadIdx.y == 0 and cuda.blockIdx.y == 0:\n        {body}\n"
    kept = source if name == "changes its input" else source[: source.index(":\n") + 2]
    return exercises.rewritten(
        exercise, f"{kept}    import numpy as np\n{end}" if last == "y" else kept
    )


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(e, id=e.name, marks=() if e.name in QUICK else pytest.mark.slow)
        for e in EXERCISES
    ],
)
def graded(request):
    """Grade, in one go, the reference, every mutant and the clumsy answers -> exercise, its verdict, mutants', clumsy ones'"""
    exercise, right = request.param, exercises.original(request.param)
    mutants = [exercises.mutant(exercise, old, new) for old, new, _ in exercise.mutants]
    verdict, *others = grade.judge_all(
        exercise, [right, *mutants, *(clumsy(exercise, name) for name in CLUMSY)]
    )
    return (
        exercise,
        verdict,
        others[: len(mutants)],
        dict(zip(CLUMSY, others[len(mutants) :], strict=True)),
    )


def test_the_reference_passes(graded):
    _, verdict, _, _ = graded
    assert str(verdict).splitlines()[0] == f"{verdict.exercise}: passed"
    assert dict(verdict.lines).get("ran", "in numba's simulator").startswith("in numba's simulator")


def test_every_mutant_fails_and_most_are_named(graded):
    """A sentence may be missing where a mutant raises an error, but it is never that of another slip."""
    exercise, _, verdicts, _ = graded
    named = [dict(v.lines).get("slip") for v in verdicts]
    sentences = [sentence for _, _, sentence in exercise.mutants]
    assert [v.state for v in verdicts] == ["failed"] * len(sentences)
    assert all(slip in (None, sentence) for slip, sentence in zip(named, sentences, strict=True))
    assert sum(slip is not None for slip in named) >= 0.75 * len(sentences)


def test_clumsy_answers_fail(graded):
    exercise, _, _, verdicts = graded
    passed = {name for name, verdict in verdicts.items() if verdict.state != "failed"}
    assert passed <= ({"changes its input"} if exercise.name in WITHOUT_ARRAYS else set())


WITHOUT_ARRAYS = {
    "schedule.linear",
    "schedule.cosine",
    "sample.even_times",
    "sample.karras_times",
    "optim.warmup_cosine",
    "optim.ema_keep",
}
WITHOUT_ARRAYS |= {
    "guide.classifier_free",
    "guide.by_gradient",
    "guide.threshold",
}  # models in, a model out
WITHOUT_ARRAYS |= {"kernels.ladder.conv_cost"}
WITHOUT_ARRAYS |= {"flow.as_eps_model", "learned.as_schedule"}


def test_there_are_enough_mutants():
    assert len(EXERCISES) >= 30
    assert sum(len(e.mutants) for e in EXERCISES) >= 4 * len(EXERCISES)
    assert all(len(e.mutants) >= 3 for e in EXERCISES)


def test_names_are_unique():
    """Exercises are found by function name."""
    names = [e.function for e in EXERCISES]
    assert len(set(names)) == len(names)


def test_a_mutant_replaces_something_that_is_there_once():
    exercise = exercises.find("q_sample")
    for old in ("no such text", "x0"):
        with pytest.raises(ValueError, match="must occur once"):
            exercises.mutant(exercise, old, "")


# --- check, adopt, show ---


def q_sample(s, x0, t, eps):
    signal, noise = diffusion.rates(s, t, x0)
    return signal * x0 + noise * eps


right = q_sample


def test_check_says_passed(capsys):
    grade.check(right)
    assert capsys.readouterr().out == "diffusion.q_sample: passed\n"
    assert diffusion.q_sample is not right


def test_check_stops_at_a_wrong_answer_and_says_why():
    def q_sample(s, x0, t, eps):
        signal, noise = diffusion.rates(s, t, x0)
        return signal * x0 + noise**2 * eps

    with pytest.raises(grade.WrongAnswer) as error:
        grade.check(q_sample)
    lines = dict(line.split(maxsplit=1) for line in str(error.value).splitlines()[1:])
    assert (
        lines["slip"]
        == "you scaled the noise by 1 - alpha_bar; its square root is the standard deviation"
    )
    assert lines["called"].startswith("q_sample(Schedule, array (")
    assert lines["came"] and lines["expected"] and lines["reread"].startswith("lesson 01_forward, ")
    assert error.value._render_traceback_() == [str(error.value)]


def test_check_of_an_untouched_exercise_goes_on(capsys):
    def q_sample(s, x0, t, eps):
        """Jump."""
        raise NotImplementedError

    grade.check(q_sample)
    assert capsys.readouterr().out == "diffusion.q_sample: not attempted\n"


def test_check_never_grades_the_reference():
    with pytest.raises(ValueError, match="the package's own q_sample"):
        grade.check(diffusion.q_sample)
    with pytest.raises(ValueError, match="no exercise asks for a function 'test_check"):
        grade.check(test_check_never_grades_the_reference)


@pytest.fixture
def leave_as_it_was():
    yield
    for exercise in EXERCISES:
        exercises.put(exercise, None)
    assert diffusion.q_sample is exercises.original(exercises.find("q_sample"))


def test_an_adopted_answer_is_used_by_the_package(leave_as_it_was):
    from tinydiff import train

    ours = diffusion.q_sample
    grade.check(right, adopt=True)
    assert diffusion.q_sample is train.diffusion.q_sample is right
    grade.check(right)  # once more: the original is not forgotten
    assert diffusion.q_sample is right
    with pytest.raises(ValueError, match="the package's own"):
        grade.check(ours)


def test_a_wrong_answer_is_not_adopted(leave_as_it_was):
    def q_sample(s, x0, t, eps):
        return x0

    with pytest.raises(grade.WrongAnswer):
        grade.check(q_sample, adopt=True)
    assert diffusion.q_sample is exercises.original(exercises.find("q_sample"))


def test_an_adopted_kernel_serves_every_kernel_set(leave_as_it_was):
    own = cpu.conv2d
    exercise = exercises.find("conv2d")
    with exercises.in_place(exercise, right):
        assert cpu.conv2d is reference.conv2d is kernels.conv2d is right
    assert cpu.conv2d is own is not reference.conv2d
    assert reference.conv2d is exercises.original(exercise)


def test_an_operation_is_judged_by_its_derivative_too():
    @autodiff.op
    def mul(a, b):
        return a * b, lambda g: (g * a, g * b)

    verdict = grade.judge(exercises.find("mul"), mul)
    assert verdict.state == "failed" and "slip" in dict(verdict.lines)
    assert ops.mul is exercises.original(exercises.find("mul"))


def test_show_prints_the_package(capsys):
    grade.show(diffusion.q_sample)
    shown = capsys.readouterr().out
    assert (
        shown.startswith("# tinydiff/diffusion.py, line ")
        and inspect.getsource(diffusion.q_sample) in shown
    )
    grade.show(ops.silu)
    assert "@op\ndef silu(x):" in capsys.readouterr().out


def test_exercises_and_marks_agree():
    """Every exercise has tests with its mark, every mark an exercise."""
    marked = set()
    for path in (exercises.ROOT / "tests").glob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        marked |= {
            name
            for name in re.findall(r"""mark\.exercise\(\s*f?["']([\w.{}]+)["']""", text)
            if "{" not in name
        }
    listed = {e.name for e in EXERCISES}
    assert marked <= listed
    assert all(e.tests.exists() for e in EXERCISES)
