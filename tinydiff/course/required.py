"""Grade an answer that a notebook requires as `grade` does it: its cells, in a process of its own.

nbgrader runs a whole notebook in one kernel, and compiled code that never ends does not answer its
interrupt: every exercise of the notebook would be lost, not only this one.
"""

import json
from pathlib import Path

from . import grade


def judge_cells(exercise, f):
    """Grade the cells that were run so far: Exercise, function -> Verdict

    f is graded itself where there are no cells.
    """
    shell = grade._shell()
    if getattr(shell, "kernel", None) is None:
        return grade.judge(exercise, f)
    from .handed_in import BESIDE
    from .submission import read
    from .worker import grade_one

    texts = shell.history_manager.input_hist_raw[1:]
    cells = [{"cell_type": "code", "source": text} for text in texts]
    submission = read(Path.cwd() / "In.ipynb", json.dumps({"cells": cells}).encode())
    near = [path for path in Path.cwd().glob("*.py") if path.stat().st_size <= BESIDE]
    beside = {path.name: path.read_bytes() for path in near}
    return grade_one([submission.with_beside(beside)], exercise, beside=beside).verdict


grade.judge_required = judge_cells
