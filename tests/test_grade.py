"""The graders graded: the reference passes, every wrong answer of the list fails and is named."""

import copy
import inspect
import itertools
import json
import re
import subprocess
import sys
from collections import deque
from importlib import import_module

import numpy as np
import pytest

from tinydiff import autodiff, diffusion, kernels, ops, schedule, unet
from tinydiff.autodiff import op, value_of
from tinydiff.course import calls, diagnosis, exercises, grade
from tinydiff.kernels import cpu, reference

EXERCISES = exercises.exercises()
QUICK = {
    "diffusion.predict_x0",
    "exact.point",
    "sample.even_times",
    "ops.mul",
    "kernels.reference.silu_grad",
    "metrics.coverage",
}  # one of each kind; the others are graded in the slow run
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # wrong answers divide by zero


# --- answers that are wrong for every exercise ---


def changed(f, change):
    """Make a wrong version of f: its result goes through change(result, args)."""
    if not hasattr(f, "forward"):
        return lambda *args, **options: change(f(*args, **options), (*args, *options.values()))

    def forward(*args, **options):
        value, vjp = f.forward(*args, **options)
        return change(value, args), vjp

    return op(forward)


def constant(f):
    first = []

    def always(result, args):
        yields = inspect.isgenerator(result)
        if not first:
            first.append(list(itertools.islice(result, 50)) if yields else result)
        again = copy.deepcopy(first[0])
        return iter(again) if yields else again

    return changed(f, always)


def its_input(f):
    def first_array(result, args):
        return next((a for a in map(value_of, args) if isinstance(a, np.ndarray)), 0.0)

    return changed(f, first_array)


def wrong_shape(f):
    def deeper(result, args):
        if isinstance(result, tuple):
            return tuple(np.asarray(part)[None] for part in result)
        if isinstance(result, np.ndarray | np.generic | float):
            return np.asarray(result)[None]
        return [result]

    return changed(f, deeper)


def on_its_input(f):
    """Give the right result, and leave the first array that came in changed."""

    def spoil(result, args):
        flat = itertools.chain(*(a if isinstance(a, list) else [a] for a in args))
        for a in map(value_of, flat):
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
FOR = "for i, k in zip(np.ndindex(y.shape), np.ndindex(x.shape)):\n            "
BODIES = {  # of kernels, which return nothing: what the first thread does to y, which they fill
    "constant": "for i in np.ndindex(y.shape):\n            y[i] = ZERO",
    "its input": FOR + "y[i] = x[k]",  # x: what they read first
    "wrong shape": "y[(0,) * (y.ndim + 1)] = ZERO",
    "changes its input": "x[(0,) * x.ndim] += 1",
}


def clumsy(exercise, name):
    """Make an answer that is wrong in the way of this name; a kernel from source, as it travels."""
    right = exercises.original(exercise)
    if not exercise.on_gpu:
        return CLUMSY[name](right)
    source = inspect.getsource(right.py_func)
    first, *_, last = inspect.signature(right.py_func).parameters
    body = re.sub(r"\bx\b", first, BODIES[name])
    first_thread = "cuda.grid(1) == 0 and cuda.threadIdx.y == 0 and cuda.blockIdx.y == 0"
    end = f"    import numpy as np\n    if {first_thread}:\n        {body}\n"
    kept = source if name == "changes its input" else source[: source.index(":\n") + 2]
    return exercises.rewritten(exercise, kept + end if last == "y" else kept)


def each(exercise):
    marks = () if exercise.name in QUICK else pytest.mark.slow
    return pytest.param(exercise, id=exercise.name, marks=marks)


@pytest.fixture(scope="module", params=map(each, EXERCISES))
def graded(request):
    """Grade the reference, every mutant and the clumsy answers in one go.

    -> exercise, its verdict, list of the mutants' verdicts, dict of the clumsy ones' verdicts
    """
    exercise, right = request.param, exercises.original(request.param)
    mutants = [exercises.mutant(exercise, old, new) for old, new, _ in exercise.mutants]
    wrong = [clumsy(exercise, name) for name in CLUMSY]
    verdict, *others = grade.judge_all(exercise, [right, *mutants, *wrong])
    of_mutants, of_wrong = others[: len(mutants)], others[len(mutants) :]
    return exercise, verdict, of_mutants, dict(zip(CLUMSY, of_wrong, strict=True))


def test_the_reference_passes(graded):
    _, verdict, _, _ = graded
    assert str(verdict).splitlines()[0] == f"{verdict.exercise}: passed"
    assert dict(verdict.lines).get("ran", "in numba's simulator").startswith("in numba's simulator")


def test_every_mutant_fails_and_most_are_named(graded):
    """A sentence may be missing where a mutant raises an error; it is never another slip's."""
    exercise, _, verdicts, _ = graded
    named = [dict(v.lines).get("slip") for v in verdicts]
    sentences = [sentence for _, _, sentence in exercise.mutants]
    assert [v.state for v in verdicts] == ["failed"] * len(sentences)
    assert all(slip in (None, sentence) for slip, sentence in zip(named, sentences, strict=True))
    assert sum(slip is not None for slip in named) >= 0.75 * len(sentences)


def test_clumsy_answers_fail(graded):
    exercise, _, _, verdicts = graded
    passed = {name for name, verdict in verdicts.items() if verdict.state != "failed"}
    right = {"changes its input"} if exercise.name in WITHOUT_ARRAYS else set()
    if exercise.name == "kernels.reference.adam_step":  # it works in place and returns nothing
        right = {"constant"}
    if exercise.name.startswith("hunts."):  # they take nothing, and the answer is a constant
        right = {"changes its input", "constant"}
    assert passed <= right


WITHOUT_ARRAYS = {
    "schedule.linear",
    "schedule.cosine",
    "exact.gaussian_variance",
    "sample.even_times",
    "sample.karras_times",
    "optim.warmup_cosine",
    "optim.ema_decay",
    "guide.classifier_free",  # models in, a model out, as of the next three
    "guide.by_gradient",
    "guide.negative_prompt",
    "guide.threshold",
    "kernels.ladder.conv_cost",
    "flow.as_eps_model",
    "learned.as_schedule",
}


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


def test_check_says_passed_and_how_to_see_it_at_work(capsys):
    grade.check(right)
    said = capsys.readouterr().out
    assert said.startswith(
        "diffusion.q_sample: passed\n  now      the package's own q_sample stays"
    )
    assert "check(q_sample, adopt=True)" in said and len(said.splitlines()) == 2
    assert diffusion.q_sample is not right


def by_the_variance(s, x0, t, eps):
    signal, noise = diffusion.rates(s, t, x0)
    return signal * x0 + noise**2 * eps


by_the_variance.__name__ = "q_sample"
SLIP = "you scaled the noise by 1 - alpha_bar; its square root is the standard deviation"


def test_check_shows_a_wrong_answer_the_slip_first_and_goes_on(capsys):
    grade.check(by_the_variance)
    first, *lines = capsys.readouterr().out.splitlines()
    said = dict(line.split(maxsplit=1) for line in lines)
    assert first == "diffusion.q_sample: failed"
    assert list(said) == ["slip", "why", "called", "came", "expected", "reread", "test"]
    assert said["slip"] == SLIP
    assert said["called"].startswith("q_sample(Schedule, array (")
    assert said["reread"].startswith("lesson 01_forward, ")


def test_a_required_answer_that_is_wrong_or_missing_stops(capsys):
    with pytest.raises(grade.WrongAnswer) as error:
        grade.check(by_the_variance, required=True)
    assert SLIP in str(error.value) and error.value._render_traceback_() == [str(error.value)]
    with pytest.raises(grade.WrongAnswer, match="not attempted"):
        grade.check(untouched_q_sample(), required=True)
    assert capsys.readouterr().out == ""
    grade.check(right, required=True)
    assert capsys.readouterr().out.startswith("diffusion.q_sample: passed\n")


def untouched_q_sample():
    def q_sample(s, x0, t, eps):
        """Jump."""
        raise NotImplementedError

    return q_sample


def test_check_of_an_untouched_exercise_goes_on(capsys):
    grade.check(untouched_q_sample())
    assert capsys.readouterr().out == "diffusion.q_sample: not attempted\n"


def test_what_a_function_prints_is_kept_apart_and_counted(capsys):
    def q_sample(s, x0, t, eps):
        print(*("t is", t), *range(40), sep="\n")
        return right(s, x0, t, eps)

    verdict = grade.judge(exercises.find("q_sample"), q_sample)
    text, count = verdict.printed
    assert verdict.state == "passed" and capsys.readouterr().out == ""
    assert text.startswith("t is\n") and len(text.splitlines()) == 20 and count % 42 == 0
    assert f"it printed {count} lines while it was tested" in str(verdict)


def test_of_a_flood_without_line_ends_little_is_kept():
    def q_sample(s, x0, t, eps):
        print("a" * 5000, end="")
        return right(s, x0, t, eps)

    assert grade.judge(exercises.find("q_sample"), q_sample).printed == ("a" * 2000, 1)


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


def test_an_adopted_answer_is_used_by_the_package(leave_as_it_was, capsys):
    from tinydiff import train

    ours = diffusion.q_sample
    grade.check(right, adopt=True)
    assert "now      your q_sample now draws the pictures below" in capsys.readouterr().out
    assert diffusion.q_sample is train.diffusion.q_sample is right
    grade.check(right)  # again: the original is not forgotten
    assert diffusion.q_sample is right
    with pytest.raises(ValueError, match="the package's own"):
        grade.check(ours)


def test_a_wrong_answer_is_not_adopted(leave_as_it_was):
    def q_sample(s, x0, t, eps):
        return x0

    grade.check(q_sample, adopt=True)
    assert diffusion.q_sample is exercises.original(exercises.find("q_sample"))


def test_an_adopted_kernel_serves_every_kernel_set(leave_as_it_was):
    own = cpu.conv2d
    exercise = exercises.find("conv2d")
    with exercises.in_place(exercise, right):
        assert cpu.conv2d is reference.conv2d is kernels.conv2d is right
    assert cpu.conv2d is own is not reference.conv2d
    assert reference.conv2d is exercises.original(exercise)


def test_an_adopted_run_block_is_what_a_block_does():
    block, x = unet.Block(8, 8, 4, "zeros", rng=np.random.default_rng(0)), np.zeros((1, 4, 4, 8))
    with exercises.in_place(exercises.find("run_block"), lambda block, x, e: x + 1):
        assert (block(x, np.zeros((1, 4))) == 1).all()
    with exercises.in_place(exercises.find("conv2d"), right):
        assert kernels.together is False
    assert kernels.together is True


def test_an_operation_is_judged_by_its_derivative_too():
    @autodiff.op
    def mul(a, b):
        return a * b, lambda g: (g * a, g * b)

    verdict = grade.judge(exercises.find("mul"), mul)
    assert verdict.state == "failed" and "slip" in dict(verdict.lines)
    assert ops.mul is exercises.original(exercises.find("mul"))


@pytest.mark.parametrize("by_name", [False, True])
def test_a_changed_input_is_noticed_however_it_was_passed(by_name):
    """Samplers get x_T by name: it still belongs to the caller."""

    def ddim(eps_model, s, shape, rng, x_T=None):
        x_T += 1

    watched, x = calls.stand_in(ddim, (), deque()), np.zeros(3)
    with pytest.raises(AssertionError, match="it changes its input x_T in place"):
        watched(None, None, (3,), None, **{"x_T": x}) if by_name else watched(1, 1, (3,), 1, x)
    assert (x == 1).all()
    call = calls.Call((None, None, (3,), None), {"x_T": np.zeros(3)})
    assert [list(a) for a in call.outcome(ddim)] == [[1.0, 1.0, 1.0]]


def test_an_argument_to_be_filled_may_have_any_name():
    ours, theirs = (lambda x, w, y: None), (lambda image, weights, out: None)
    assert calls.renamed({"y"}, ours, theirs) == {"out"}
    assert calls.renamed({"y", "w"}, ours, lambda *arrays: None) == {"arrays"}

    def mul(a, out):
        out += a

    watched, total = calls.stand_in(mul, calls.renamed({"y"}, ours, ours), deque()), np.zeros(2)
    with pytest.raises(AssertionError, match="it changes its input out in place"):
        watched(np.ones(2), total)
    calls.stand_in(mul, {"out"}, deque())(np.ones(2), total)
    assert list(total) == [2, 2]


# --- a slip is named only if it is true ---


def test_a_slip_that_fits_one_call_by_chance_is_not_named(monkeypatch):
    """The mutant's number comes out of another function too, on the test's own data."""
    exercise, came = exercises.find("kernel_distance"), []
    old, new, sentence = exercise.mutants[0]
    wrong = exercises.mutant(exercise, old, new)

    def kernel_distance(real, fake):
        came.append(wrong(real, fake) if not came else came[0])
        return came[0]

    assert "slip" not in dict(grade.judge(exercise, kernel_distance).lines)
    monkeypatch.setattr(calls.Call, "shaken", lambda call: call)
    assert dict(grade.judge(exercise, kernel_distance).lines)["slip"] == sentence


def test_calls_in_two_precisions_are_told_apart():
    """A handout knows what wrong versions give by the call's key: one for each."""
    keys = {calls.Call((np.zeros(3, kind),), {}).key() for kind in (np.float32, np.float64)}
    assert len(keys) == 2


def test_not_a_number_and_foreign_errors_name_no_slip(monkeypatch):
    """NaN comes about in many ways, and so does an error from within NumPy."""

    def frechet(real, fake):
        value = exercises.original(exercise)(real, fake)
        return value if len(real) > 2 else float("nan")

    exercise = exercises.find("frechet")
    lines = dict(grade.judge(exercise, frechet).lines)
    assert "slip" not in lines and "not a number" in lines["why"]
    assert diagnosis.tells([np.array([np.nan, 1.0])]) and diagnosis.tells([])
    assert not diagnosis.tells([np.array([np.nan, np.inf])])
    assert diagnosis.tells(calls.Raised.of(AssertionError("x")))
    assert not diagnosis.tells(calls.Raised.of(raised(np.zeros(2).reshape, 3)))
    assert diagnosis.tells(calls.Raised.of(raised(schedule.linear, -1)))
    monkeypatch.setattr(diagnosis, "tells", lambda outcome: True)
    assert "below 0 is nan" in dict(grade.judge(exercise, frechet).lines)["slip"]


def raised(f, *args):
    with pytest.raises(ValueError) as error:
        f(*args)
    return error.value


def test_what_is_0_up_to_rounding_reads_0():
    assert calls.brief(np.float64(-2.347e-18)) == "0. float64"
    assert calls.brief(np.array([1e-10, 0.5], np.float32)) == "[0. , 0.5] float32"
    assert calls.brief(np.float64(1e-7)) == "1.e-07 float64"
    said = "came 1 x_prev -2.347e-18 eps +3.1e-15 z, expected 0.5; rounding is 1e-13, beta 2.1e-4"
    tidy = "came 1 x_prev 0 eps +0 z, expected 0.5; rounding is 1e-13, beta 2.1e-4"
    assert diagnosis.TINY.sub(diagnosis._no_tiny, said) == tidy


def test_too_few_arrays_are_counted_and_described():
    def v_target(s, x0, t, eps):
        return [ours(s, x0, t, eps), x0]

    exercise = exercises.find("v_target")
    ours = exercises.original(exercise)
    lines = dict(grade.judge(exercise, v_target).lines)
    assert lines["came"].startswith("2 arrays: array (") and lines["expected"].startswith(
        "1 array: "
    )


def test_the_answer_to_a_bug_hunt_is_not_shown():
    def hunt_sampler():
        return {"A": 1, "B": 1, "C": 1}

    tests = exercises.ROOT / "tests" / "test_hunts.py"
    exercise = exercises.Exercise("hunts.hunt_sampler", "03_reverse", (), tests)
    lines = dict(grade.judge(exercise, hunt_sampler).lines)
    assert "of the 3 suspects is misjudged" in lines["why"] and not {"came", "expected"} & set(
        lines
    )


# --- show ---


def test_show_prints_the_package(capsys):
    grade.show(diffusion.q_sample)
    shown = capsys.readouterr().out
    assert shown.startswith("# tinydiff/diffusion.py, line ")
    assert inspect.getsource(diffusion.q_sample) in shown
    grade.show(ops.silu)
    assert "@op\ndef silu(x):" in capsys.readouterr().out


def test_show_of_what_is_not_the_packages_own(capsys, tmp_path, monkeypatch):
    """An adopted answer, or anything else outside the folder, is shown with the place it has."""
    path = tmp_path / "own_work.py"
    path.write_text("# a comment\ndef q_sample(s, x0, t, eps):\n    return x0\n")
    monkeypatch.syspath_prepend(tmp_path)
    exercise = exercises.find("q_sample")
    with exercises.in_place(exercise, import_module("own_work").q_sample):
        grade.show(diffusion.q_sample)
    shown = capsys.readouterr().out
    assert shown.startswith(f"# {path.resolve().as_posix()}, line 2\ndef q_sample")


# --- in the package's place, under every name ---


@pytest.mark.parametrize(
    "former, name, function",
    [
        ("tinydiff.edit", "tinydiff.design.edit", "slerp"),
        ("tinydiff.gram", "tinydiff.design.gatys", "gram"),
        ("tinydiff.kernels.winograd", "tinydiff.kernels.cpu_winograd", "conv2d"),
    ],
)
def test_the_original_stands_again_under_old_and_new_names(former, name, function):
    """A module that has two names is one module: its kernels, too, are put back as they were."""
    old, new = import_module(former), import_module(name)
    assert sys.modules[former] is sys.modules[name] is old is new
    exercise, ours = exercises.find(function), getattr(new, function)
    with exercises.in_place(exercise, right):
        assert getattr(old, function) is getattr(new, function) is right
        with exercises.in_place(exercise, len):
            assert getattr(old, function) is len
        assert getattr(new, function) is right
    assert getattr(old, function) is getattr(new, function) is ours
    assert getattr(exercise.module, function) is exercises.original(exercise)


def test_modules_are_found_in_their_wings_and_names_stay():
    """Grade books know the exercises by the names that they had before there were wings."""
    place = {e.name: e.place for e in EXERCISES}
    assert place["diffusion.q_sample"] == "tinydiff/diffusion.py"
    assert place["edit.inpaint"] == "tinydiff/design/edit.py"
    assert place["metrics.coverage"] == "tinydiff/measure/metrics.py"
    assert place["gram.gram"] == "tinydiff/design/gatys.py"
    assert place["learned.as_schedule"] == "tinydiff/beyond/learned_schedule.py"
    assert place["kernels.reference.softmax"] == "tinydiff/kernels/reference.py"
    assert place["kernels.ladder.conv_blocked"] == "tinydiff/kernels/cpu_ladder.py"
    assert place["kernels.threads.add_noise"] == "tinydiff/kernels/cuda_ladder.py"
    for exercise in EXERCISES:
        assert exercise.module.__file__ == str(exercise.file)
        found = list((exercises.ROOT / "tinydiff").rglob(exercise.file.name))
        assert found == [exercise.file], "two modules of one name: which is meant?"


# --- in a notebook of a student's tree ---

SHELL = """import json, sys
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance(colors="nocolor")
shell.kernel = "a stand-in: this is a notebook"
from tinydiff.course import grade

grade.in_handout = lambda: True
grade.tell_what_is_missing()
for cell in json.loads(sys.stdin.read()):
    print("# next cell")
    shell.run_cell(cell, store_history=True)
"""


def notebook(*cells):
    """Run cells as in a notebook of a student's tree -> what each of them showed, as list of str"""
    done = subprocess.run(
        [sys.executable, "-c", SHELL],
        input=json.dumps(cells),
        cwd=exercises.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [text.strip() for text in done.stdout.split("# next cell\n")[1:]]


def test_a_mistyped_name_keeps_its_traceback():
    """The commonest slip of a beginner: line and function are what helps."""
    define = "def mixed(weight):\n    weight = 2 * weight\n    return wieght + 1"
    unbound, unheard = "def f():\n    print(a)\n    a = 1\nf()", "nowhere = unheard_of + 1"
    _, local, other, late = notebook(define, "mixed(1)", unbound, unheard)
    assert "NameError" in local and "Traceback" in local and "in mixed(weight)" in local
    assert "----> 3     return wieght + 1" in local and "Perhaps a cell above" not in local
    assert "UnboundLocalError" in other and "----> 2     print(a)" in other
    assert "NameError" in late and "----> 1 nowhere = unheard_of + 1" in late


def test_a_name_that_a_cell_above_could_not_make_yet_is_one_line():
    """With the cell that makes it, and the line and the function where it is missing."""
    _, _, _, plain, inside, local = notebook(
        "def q_step(s, x_prev, t, eps):\n    raise NotImplementedError",
        "def scaled(x):\n    return x * scale",
        "scale = q_step(0, 0, 0, 0)\nimport no_such_module",
        "y = 1\nprint(scale)",
        "print(scaled(1))",
        "print(x)",
    )
    again = "and could not run yet: once it can, run the cells from the top again."
    what = "name 'scale' is not defined"
    makes = "Perhaps a cell above, In[3], makes it"
    assert plain == f"{what} (line 2 of cell In[4]). {makes}, {again}"
    assert inside == f"{what} (line 2 of cell In[2], in scaled). {makes}, {again}"
    assert "NameError" in local and "----> 1 print(x)" in local


def test_what_may_follow_from_a_cell_that_could_not_run_is_one_line_until_it_can():
    """An empty list in a figure's cell; but not an error in an exercise, which is the student's."""
    stub = "def q_step(s, x_prev, t, eps):\n    raise NotImplementedError"
    *_, needs, after, own, later = notebook(
        f"from tinydiff.course.exercises import find, put\n{stub}",
        "def q_sample(s, x0, t, eps):\n    return [][1]",
        "def first(items):\n    return items[0]",
        "seen = []\nseen.append(q_step(0, 0, 0, 0))",
        "\nprint(first(seen))",
        "q_sample(0, 0, 0, 0)",
        "put(find('q_step'), len)\nseen[0]",
    )
    assert needs.startswith("This cell needs diffusion.q_step")
    what = "IndexError: list index out of range (line 2 of cell In[3], in first). "
    assert after.startswith(f"{what}Perhaps a cell above") and "Traceback" not in after
    assert "Traceback" in own and "in q_sample(" in own and "Perhaps" not in own
    assert "Traceback" in later and "Perhaps" not in later


def test_a_lesson_that_wants_wrong_answers_says_in_a_line_that_there_are_none():
    """As lesson 15 does, which runs them."""
    (line,) = notebook(
        "from tinydiff.course.exercises import NotHandedOut\nfor slip in NotHandedOut(): pass"
    )
    why = "the wrong answers are not handed out; the picture of them was made before"
    assert line == why


def test_an_exercise_that_is_not_written_yet_is_one_line_and_other_gaps_are_errors():
    _, exercise, other = notebook(
        "def q_step(s, x_prev, t, eps):\n    raise NotImplementedError",
        "q_step(0, 0, 0, 0)",
        "def mine():\n    raise NotImplementedError('soon')\nmine()",
    )
    says = "This cell needs diffusion.q_step, an exercise of lesson 01_forward that is not written"
    assert exercise.startswith(says) and "Traceback" not in exercise
    assert "NotImplementedError: soon" in other and "in mine()" in other


def test_show_of_a_cell_names_the_cell():
    """As after every right answer in a student's tree, where it stands in the package's place."""
    _, _, shown, adopted, package = notebook(
        "from tinydiff import diffusion\nfrom tinydiff.course.exercises import find, put\n"
        "from tinydiff.grade import show",
        "# mine\ndef q_sample(s, x0, t, eps):\n    return x0",
        "show(q_sample)",
        "put(find('q_sample'), q_sample)\nshow(diffusion.q_sample)",
        "show(diffusion.q_step)",
    )
    mine = "def q_sample(s, x0, t, eps):\n    return x0"
    assert shown == adopted == f"# your own, cell In[2], line 2\n{mine}"
    assert package.startswith("# tinydiff/diffusion.py, line ")


def test_exercises_and_marks_agree():
    """Every exercise has tests with its mark, every mark an exercise."""
    marked = set()
    for path in (exercises.ROOT / "tests").glob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        names = re.findall(r"""mark\.exercise\(\s*f?["']([\w.{}]+)["']""", text)
        marked |= {name for name in names if "{" not in name}
    assert marked <= {e.name for e in EXERCISES}
    assert all(e.tests.exists() for e in EXERCISES)
