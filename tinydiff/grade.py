"""What lessons and students write: `from tinydiff.grade import check, show`.

The code behind this door is in course/grade.py.
"""

from .course.grade import check, show

__all__ = ["check", "show"]
