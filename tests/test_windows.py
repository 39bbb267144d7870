"""What Windows lacks, taken away: the grader, checkpoints and the main job go on without it.

Each runs in a process that multiprocessing has spawned, as it starts all of them there.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_worker import RIGHT, WRONG

from tinydiff.course import classroom

ROOT = Path(__file__).resolve().parents[1]
LACKING = ROOT / "tests" / "windows"  # see the sitecustomize.py there
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="plays Windows on Linux")
BEGIN = """
import multiprocessing
from pathlib import Path

def work():
{work}

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        print(pool.apply(work))
"""


def spawned(work, folder):
    """Run the body of a function in a spawned process that plays Windows -> what it returns, str"""
    script = folder / "job.py"
    body = "".join(f"    {line}\n" for line in work.strip().splitlines())
    script.write_text(BEGIN.format(work=body), encoding="utf-8")
    path = os.pathsep.join(map(str, (LACKING, ROOT)))
    around = os.environ | {"PYTHONPATH": path, "PYTHONWARNDEFAULTENCODING": "1"}
    around |= {"TINYDIFF_KERNELS": "reference"}
    run = {"capture_output": True, "text": True, "encoding": "utf-8", "timeout": 200}
    done = subprocess.run([sys.executable, str(script)], cwd=folder, env=around, **run)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def test_our_modules_lack_what_windows_lacks(tmp_path):
    """Else the tests below would say nothing."""
    work = """
from tinydiff.course import arbiter, sandbox, worker
from tinydiff.kernels import processors
lacks = [arbiter.resource is None, worker.FORKS, sandbox._bubblewrap()]
return *lacks, *(hasattr(sandbox.os, name) for name in ("fork", "killpg", "replace"))
"""
    assert spawned(work, tmp_path) == "(True, False, '', False, False, True)"


@pytest.mark.slow
def test_answers_are_graded(tmp_path):
    gone = "def q_sample(s, x0, t, eps):\n    exit(3)\n"
    answers = {"right": RIGHT.format(first="pass"), "wrong": WRONG, "gone": gone}
    for name, text in answers.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    work = """
from tinydiff.course import exercises, submission, worker
q_sample = exercises.find("q_sample")
files = [submission.read(Path(f"{name}.py")) for name in ("right", "wrong", "gone")]
verdicts = [worker.grade_one([file], q_sample).verdict for file in files]
return [v.state for v in verdicts], "called   q_sample(" in str(verdicts[1])
"""
    assert spawned(work, tmp_path) == "(['passed', 'failed', 'failed'], True)"


@pytest.mark.slow
def test_a_checkpoint_is_replaced_by_the_training_that_goes_on_from_it(tmp_path):
    work = """
from tinydiff import checkpoint
from tinydiff.app.cli import main
words = "train digits --save-every 0.001 --out out --steps".split()
first = main([*words, "3", *"--width 8 --depth 1 --batch 4".split()])
again = main([*words, "5", "--resume", "out/digits.npz"])
left = sorted(path.name for path in Path("out").iterdir() if path.suffix != ".png")
return first, again, checkpoint.load(Path("out/digits.npz"))[0].step, left
"""
    assert spawned(work, tmp_path) == "(0, 0, 5, ['.digits.npz.lock', 'digits.npz'])"


@pytest.mark.slow
def test_the_main_job_in_small(tmp_path):
    work = """
from tinydiff.app import cmd_train
from tinydiff.app.cli import main
cmd_train.STEPS, cmd_train.LOOKS, cmd_train.DRAWN = 3, (2,), ("ddim", 1, "even")
cmd_train.MODELS["digits"] = ({"width": 8, "multipliers": [1], "depth": 1}, 4, 1e-3, 0.1)
status = main([])
return status, sorted(path.name for path in Path("out").iterdir() if path.name[0] != ".")
"""
    made = ["chain.gif", "digits.npz", "loss.png", "samples.png", "triptych.png"]
    assert spawned(work, tmp_path) == f"(0, {made})"


def test_feedback_gets_names_that_windows_takes():
    made = classroom._file_names(["a:b", "a?b", "A*b", "<x>", "ada"])
    assert not set(r'/\:*?"<>|') & set("".join(made.values()))
    assert len({name.casefold() for name in made.values()}) == 5 and made["ada"] == "ada.txt"
