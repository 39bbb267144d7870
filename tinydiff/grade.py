"""What lessons and students write: `from tinydiff.grade import check, guess, show, suspects`.

The code behind this door is in course/: grade.py, guess.py and suspects.py.
"""

from .course.grade import check, show
from .course.guess import guess
from .course.suspects import suspects

__all__ = ["check", "guess", "show", "suspects"]
