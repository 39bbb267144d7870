"""Who handed in what, and which file counts: a class as it really comes."""

from dataclasses import dataclass, field


@dataclass
class Student:
    """One row of the table, and what stands behind it.

    submissions: Submissions that may count; left_out: lines, what was not graded, and why
    problems: lines, what cannot be graded at all; beside: relative name -> bytes, for imports
    id: the number that a learning platform gave, "" without one
    """

    name: str
    submissions: list = field(default_factory=list)
    left_out: list = field(default_factory=list)
    problems: list = field(default_factory=list)
    beside: dict = field(default_factory=dict)
    id: str = ""


def counts(submissions, exercise):
    """Choose the file that counts for an exercise: list of Submissions, Exercise -> one, or None"""
    name = exercise.function
    having = [s for s in submissions if s.has(name)]
    tried = [s for s in having if name in s.broken or s.attempts(name)]
    return (tried or having or [None])[-1]


def read_class(folder):
    """Read what a class handed in: Path of a folder or zip -> list of Students, by name

    Raises Unreadable where it is no class.
    """
    raise NotImplementedError


def read_student(paths):
    """Read what one student handed in: files, folders, zips -> Student"""
    raise NotImplementedError
