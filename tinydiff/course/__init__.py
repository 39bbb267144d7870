"""For students and instructors: exercises, verdicts on answers, handouts, a class graded."""
