"""For students and instructors: exercises, verdicts on answers, handouts, and the grading of a class."""
