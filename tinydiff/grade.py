"""What lessons and students write: `from tinydiff.grade import check, guess, progress, show, ...`.

The code behind this door is in course/: grade.py, required.py, guess.py and suspects.py.
"""

from .course import required  # noqa: F401 (so that `check` knows how to require an answer)
from .course.grade import check, progress, show
from .course.guess import guess
from .course.suspects import suspects

__all__ = ["check", "guess", "progress", "show", "suspects"]
