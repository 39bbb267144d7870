"""However a command is ended, it ends at once, says one line, and leaves nothing half done."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_cli import PYTHON, TINY, finish, start, state, wait_for  # noqa: F401 (a fixture)

from tinydiff import checkpoint
from tinydiff.app import cli, cmd_train, interrupt
from tinydiff.course import calls, exercises, grade, judge

INT, TERM = signal.SIGINT, signal.SIGTERM
HUP = getattr(signal, "SIGHUP", None)
pytestmark = pytest.mark.skipif(HUP is None, reason="Windows has other signals")
REFERENCE = ("--kernels", "reference")
TRAINING = (*REFERENCE, "train", "digits", *TINY, "--steps", 400, "--out")
ENDLESS = "def q_sample(s, x0, t, eps):\n    while True:\n        pass\n"


def in_one_line(err):
    """Check that only bars stand before the last line of stderr -> that line"""
    *before, line = err.splitlines()
    assert line.startswith("tinydiff: interrupted (") and "Traceback" not in err
    assert all("left" in bar for bar in before)
    return line


# --- within a process ---


def test_the_first_signal_is_raised_and_others_let_it_tidy_up():
    tidy = []
    with pytest.raises(interrupt.Interrupted) as raised, interrupt.heard():
        try:
            signal.raise_signal(TERM)
        finally:
            for number in (INT, TERM, HUP, INT):
                signal.raise_signal(number)
            tidy.append(True)
    assert raised.value.number == TERM and tidy == [True]


def test_after_a_while_a_signal_is_raised_again(monkeypatch):
    """Whoever catches the first one cannot make the command deaf."""
    monkeypatch.setattr(interrupt, "PATIENCE", 0.01)
    with pytest.raises(interrupt.Interrupted), interrupt.heard():
        try:
            signal.raise_signal(INT)
        except KeyboardInterrupt:
            time.sleep(0.05)
        signal.raise_signal(INT)


def test_a_signal_that_python_must_ignore_is_raised_once_more(capsys):
    """As in compilers' callbacks: there nothing can be raised, Python prints it and goes on."""

    class Deaf:
        def __del__(self):
            signal.raise_signal(TERM)

    with pytest.raises(interrupt.Interrupted), interrupt.heard():
        Deaf()
        time.sleep(2)
        pytest.fail("it was not raised again")
    assert capsys.readouterr().err == ""


def test_what_a_signal_cut_short_may_fail_in_its_own_way():
    with pytest.raises(interrupt.Interrupted), interrupt.heard():
        try:
            signal.raise_signal(INT)
        except KeyboardInterrupt:
            raise ImportError("numpy.core.multiarray failed to import") from None


def test_handlers_are_put_back_and_what_is_ignored_stays_ignored():
    before = [signal.getsignal(number) for number in (INT, TERM)]
    hup = signal.signal(HUP, signal.SIG_IGN)
    try:
        with interrupt.heard(), interrupt.noted([]):
            assert signal.getsignal(HUP) is signal.SIG_IGN
            assert signal.getsignal(TERM) not in before
            signal.raise_signal(HUP)
        assert signal.getsignal(HUP) is signal.SIG_IGN
    finally:
        signal.signal(HUP, hup)
    assert [signal.getsignal(number) for number in (INT, TERM)] == before


@pytest.mark.parametrize("number", [INT, TERM, HUP])
def test_what_is_whole_is_said_and_empty_folders_go(tmp_path, monkeypatch, capsys, number):
    from tinydiff.app import cmd_sample

    out, writes = tmp_path / "new" / "deep" / "a.png", []

    def cut_short(args):
        out.parent.mkdir(parents=True)
        for _ in writes:
            out.write_bytes(b"whole")
        signal.raise_signal(number)

    monkeypatch.setattr(cmd_sample, "cmd_sample", cut_short)
    words = ["sample", "digits", "--out", str(out)]
    assert cli.main(words) == 128 + number
    assert "nothing was written" in in_one_line(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []
    writes.append(out)
    assert cli.main(words) == 128 + number
    assert f"{out} is complete; the rest was not written" in in_one_line(capsys.readouterr().err)


def test_a_command_runs_in_a_thread(tmp_path):
    """Signals are the main thread's: there Python allows no handlers."""
    found = []
    words = [str(word) for word in (*TRAINING, tmp_path)]
    words[words.index("400")] = "2"
    thread = threading.Thread(target=lambda: found.append(cli.main(words)))
    thread.start()
    thread.join(60)
    assert found == [0] and checkpoint.load(tmp_path / "digits.npz")[0].step == 2


def test_commands_to_go_on_with_are_quoted(tmp_path, monkeypatch):
    path = tmp_path / "it's a run; rm" / "digits.npz"
    monkeypatch.setenv("TINYDIFF_KERNELS", "cpu")
    cli.choose_kernels("reference")
    command = cmd_train._go_on("digits", None, 90.0, 5.0, path)
    words = shlex.split(command)
    assert words[:5] == ["python", "-m", "tinydiff", *REFERENCE]
    args = cli.parser().parse_args(words[3:])
    assert (args.resume, args.out, args.minutes, args.save_every) == (path, path.parent, 1.5, 5.0)
    assert shlex.split(cmd_train._try(path))[-1] == str(path)


# --- a hand-out: what answers and pytest catch ends the command all the same ---

Q_SAMPLE = exercises.find("q_sample")


def signalled(*args):
    signal.raise_signal(TERM)


def test_tests_and_calls_that_are_cut_short_are_no_answers():
    with pytest.raises(interrupt.Interrupted), interrupt.heard():
        calls.attempt(calls.Call((), {}), signalled)
    with pytest.raises(interrupt.Interrupted), interrupt.heard():
        judge.run_tests(Q_SAMPLE, [signalled])


def test_ctrl_c_without_a_command_is_the_student_s():
    """In a notebook it is the way out of an endless loop, and costs only this answer."""

    def endless(s, x0, t, eps):
        raise KeyboardInterrupt

    assert calls.attempt(calls.Call((0, 0, 0, 0), {}), endless).kind == "KeyboardInterrupt"
    (verdict,) = judge.run_tests(Q_SAMPLE, [endless])
    assert verdict.state == "failed" and "KeyboardInterrupt" in str(verdict)


def test_a_collection_that_is_cut_short_is_none(monkeypatch):
    class Plugin:
        def pytest_collection_modifyitems(self, items):
            signalled()

    with pytest.raises(interrupt.Interrupted), interrupt.heard():
        judge.run_pytest(["-p", "no:terminal", "--collect-only", str(Q_SAMPLE.tests)], Plugin())


def test_an_interrupted_handout_is_no_handout(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(grade, "known", signalled)
    assert cli.main(["handout", str(tmp_path / "hw"), "--lessons", "1"]) == 143
    assert "nothing was written" in in_one_line(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


# --- a process of its own ---


@pytest.mark.parametrize("number", [TERM, HUP])
def test_a_training_goes_on_after_each_signal(start, tmp_path, number):  # noqa: F811
    """The command is named that makes of it, and of the rest, the whole training."""
    stopped = start(*TRAINING, tmp_path / "it's")
    wait_for(stopped, "step 5")
    began = time.perf_counter()
    stopped.send_signal(number)
    status, out, err = finish(stopped)
    assert status == 128 + number and out == "" and time.perf_counter() - began < 2
    path = tmp_path / "it's" / "digits.npz"
    step = checkpoint.load(path)[0].step
    said, _, command = in_one_line(err).partition("go on with: python ")
    assert f"stopped at step {step}; " in said and 5 <= step < 400
    assert [p.name for p in path.parent.iterdir()] == ["digits.npz"]
    words = shlex.split(command)[2:]
    words[words.index("400")] = str(step + 2)
    assert cli.main(words) == 0
    assert checkpoint.load(path)[0].step == step + 2


def test_nohup_is_kept_to(tmp_path):
    """What was started deaf to SIGHUP stays deaf, and works on when nobody reads any more."""
    words = [sys.executable, "-m", "tinydiff", *TRAINING, tmp_path]
    words = [str({400: 9}.get(word, word)) for word in words]
    deaf = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    process = subprocess.Popen(words, env=PYTHON, stderr=subprocess.PIPE, preexec_fn=deaf)
    wait_for(process, "training on digits")
    process.stderr.close()
    process.send_signal(HUP)
    assert process.wait(60) == 0
    assert checkpoint.load(tmp_path / "digits.npz")[0].step == 9


def started_by(pid):
    """List the processes that a process has started, and those that these have: pid -> set"""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True).stdout
    pairs, found = [tuple(map(int, line.split())) for line in listed.splitlines()], {pid}
    while more := {child for child, parent in pairs if parent in found} - found:
        found |= more
    return found - {pid}


def is_at_work(pid):
    """Say whether a process has not ended; that nobody has asked how it ended does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("number", [INT, TERM])
def test_grading_ends_its_workers(tmp_path, number):
    (tmp_path / "class").mkdir()
    (tmp_path / "tmp").mkdir()
    for name in "ab":
        (tmp_path / "class" / f"{name}.py").write_text(ENDLESS)
    grade = ["grade", tmp_path / "class", "--lessons", "1", "--out", tmp_path / "g.csv"]
    words = [sys.executable, "-m", "tinydiff", *map(str, grade)]
    home = PYTHON | {"TMPDIR": str(tmp_path / "tmp")}
    process = subprocess.Popen(words, env=home, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    until = time.monotonic() + 30
    while len(workers := started_by(process.pid)) < 4 and time.monotonic() < until:
        time.sleep(0.05)
    assert len(workers) >= 4
    began = time.monotonic()
    for _ in range(3):
        process.send_signal(number)
        time.sleep(0.1)
    status, _, err = finish(process)
    assert status == 128 + number and time.monotonic() - began < 2.5
    assert "0 of 2 students are graded; give the same command" in in_one_line(err)
    assert not any(map(is_at_work, workers))
    assert list((tmp_path / "tmp").iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["class", "tmp"]


AT_START = """import runpy, signal, sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name == "tinydiff.app.cli":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Finder())
runpy.run_module("tinydiff", run_name="__main__")"""


def test_ctrl_c_while_it_starts():
    words = [sys.executable, "-c", AT_START]
    done = subprocess.run(words, env=PYTHON, capture_output=True, text=True)
    assert done.returncode == 130 and "nothing was written" in in_one_line(done.stderr)


@pytest.mark.parametrize(
    "redirected, want",
    [
        ("--help | head -1", "0"),
        ("evaluate --help | true", "0"),
        ("evaluate nothing 2>&1 | true", "2"),
        ("--help >&- 2>&-", "0"),
        ("--help <&- >&-", "0"),
        ("nothing >&- 2>&-", "2"),
    ],
)
def test_closed_pipes_and_streams_make_no_noise(redirected, want, tmp_path):
    """bash's PIPESTATUS is what the command itself returned: 141 where its output was cut."""
    line = f"{shlex.quote(sys.executable)} -m tinydiff {redirected}; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], env=PYTHON, capture_output=True, text=True)
    *_, status = done.stdout.splitlines()
    assert done.stderr == "" and status in (want, "141")


def test_a_picture_is_drawn_without_any_stream(tmp_path):
    out = tmp_path / "a.png"
    words = [*REFERENCE, "sample", "digits", "--n", "1", "--steps", "1", "--out", str(out)]
    line = f"{shlex.join([sys.executable, '-m', 'tinydiff', *words])} <&- >&- 2>&-"
    assert subprocess.run(["bash", "-c", line], env=PYTHON).returncode == 0
    with Image.open(out) as picture:
        picture.load()


def test_an_output_that_is_cut_off_is_no_error(monkeypatch):
    class Closed:
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

        def flush(self):
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Closed())
    monkeypatch.setattr(cli, "choose_kernels", lambda name: print("a line"))
    assert cli.main(["doctor"]) == 141


COMMANDS = {  # each works for 10 seconds and more
    "main": (*REFERENCE, "--out", "o/p"),
    "sample": (*REFERENCE, "sample", "digits", "--sampler", "ddpm", "--out", "o/a.png"),
    "edit": (*REFERENCE, *"edit portraits p.png --restore noise --n 256 --out o/a.png".split()),
    "restyle": (*REFERENCE, *"restyle p.png --to noto --steps 250 --out o/a.png".split()),
    "alphabet": (*REFERENCE, *"alphabet lobster --steps 50 --out o/a.png".split()),
    "gallery": (*REFERENCE, "gallery", "--out", "o/a.png"),
    "evaluate": (*REFERENCE, "evaluate", "digits", "--out", "o/a.png"),
    "judge": (*REFERENCE, "judge", "digits", "--out", "o"),
    "handout": ("handout", "o"),
}


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("number", [INT, TERM, HUP])
def test_every_command_ends_at_once(words, number, tmp_path):
    """At some moment, while it works: nobody knows what it is doing then."""
    Image.fromarray(np.full((32, 32, 3), 200, np.uint8)).save(tmp_path / "p.png")
    (tmp_path / "tmp").mkdir()
    home = PYTHON | {"TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, "-m", "tinydiff", *words]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=tmp_path, env=home, **streams)
    time.sleep(np.random.default_rng().uniform(0.5, 4))
    began = time.monotonic()
    process.send_signal(number)
    status, _, err = finish(process)
    assert status == 128 + number and time.monotonic() - began < 2
    line, left = in_one_line(err), {p.name for p in tmp_path.rglob("*")} - {"p.png", "tmp"}
    if "digits.npz" in left:
        assert "go on with: python -m tinydiff" in line
        assert left - {"samples.png"} == {"o", "p", "digits.npz"}  # what it draws by now
    else:
        assert "nothing was written" in line and left == set()


@pytest.mark.slow
def test_a_signal_while_it_compiles(tmp_path):
    """LLVM calls Python back, and there no exception is raised: it must come again."""
    for k, seconds in enumerate((2, 4, 6)):
        home = PYTHON | {"NUMBA_CACHE_DIR": str(tmp_path / str(k)), "TINYDIFF_KERNELS": "cpu"}
        words = [sys.executable, "-m", "tinydiff", "sample", "digits", "--out", "o/a.png"]
        process = subprocess.Popen(words, cwd=tmp_path, env=home, stderr=subprocess.PIPE)
        time.sleep(seconds)
        began = time.monotonic()
        process.send_signal(TERM)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 143 and time.monotonic() - began < 2.5
        assert "nothing was written" in in_one_line(err.decode())
    assert not Path(tmp_path / "o").exists() and os.path.isdir(tmp_path)
