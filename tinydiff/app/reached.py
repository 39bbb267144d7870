"""Does a picture show what was asked for? A judge reads it, and of several tries the best stays.

What is asked for is a row of labels, as parse_labels gives it: the index of a value, or the number
of values, "any", where a label is left open. A reading is a list of log-probabilities, one array
(N, number of values) for each label.
"""

from dataclasses import dataclass

import numpy as np

from .. import checkpoint
from . import judges
from .usage import UsageError

MOST_NAMED = 4  # pictures that one line lists
STRONG = 3.0  # guidance, beyond which more of it spoils more than it helps


@dataclass(frozen=True, eq=False)
class Asked:
    """What pictures are to show, and what not: labels {"hat": ["none", ...], ...}, two rows."""

    labels: dict
    wished: np.ndarray
    avoided: np.ndarray

    def __bool__(self):
        return bool(self._named(self.wished) or self._named(self.avoided))

    def __str__(self):
        say = lambda row: [f"{name}={values[v]}" for _, name, values, v in self._named(row)]
        without = [f"not {words}" for words in say(self.avoided)]
        return ", ".join(filter(None, [" ".join(say(self.wished)), *without]))

    def _named(self, row):
        """List what a row asks for -> [(number of the label, its name, its values, value), ...]"""
        each = zip(self.labels.items(), row, strict=True)
        return [
            (k, name, values, v) for k, ((name, values), v) in enumerate(each) if v < len(values)
        ]

    def log_p(self, reading):
        """Rate pictures: log p(all that is wished, and nothing that is to be avoided) -> (N,)

        sum over wished labels of log p(value) + sum over avoided ones of log(1 - p(value)), as if
        the labels of one picture were independent
        """
        wished = [reading[k][:, v] for k, *_, v in self._named(self.wished)]
        others = [np.delete(reading[k], v, 1) for k, *_, v in self._named(self.avoided)]
        return sum(wished) + sum(np.logaddexp.reduce(log_p, 1) for log_p in others)

    def met(self, reading):
        """Tell which pictures are read as asked for: the likeliest values are -> (N,) bool"""
        return np.array([not words for words in self.missed(reading)])

    def missed(self, reading):
        """Say what pictures are read as where that is not what is asked for -> N str, "" = it is"""
        missed = [[] for _ in reading[0]]
        for row, wrong in ((self.wished, np.not_equal), (self.avoided, np.equal)):
            for k, name, values, v in self._named(row):
                for words, read in zip(missed, reading[k].argmax(1), strict=True):
                    words += [f"{name}={values[read]}"] * bool(wrong(read, v))
        return [" ".join(words) for words in missed]

    def shown(self, reading):
        """Say what pictures are read as, of the labels that are asked for -> N str"""
        named = {
            k: (n, v) for row in (self.wished, self.avoided) for k, n, v, _ in self._named(row)
        }
        columns = [[f"{n}={v[i]}" for i in reading[k].argmax(1)] for k, (n, v) in named.items()]
        return [" ".join(words) for words in zip(*columns, strict=True)]


def wished(pipe, row):
    """Ask for a row of labels of a model, and to avoid nothing -> Asked"""
    return Asked(pipe.labels, row, np.array([len(values) for values in pipe.labels.values()]))


def reader(args, pipe, asked, size=None):
    """Find who reads what a command draws, where something is asked for -> see judges.reader

    None where there is no such judge, or pictures have another size; --tries then is refused.
    """
    own = (pipe.model.size, pipe.model.size)
    why = "" if asked else "name it with --label, --avoid or --change"
    if not why and size not in (None, own):
        why = "it reads pictures of the model's own size: leave out --size"
    try:
        return judges.reader(args.model, pipe) if not why else _refused(args, why)
    except checkpoint.CheckpointError as e:
        return _refused(args, e)


def _refused(args, why):
    if args.tries > 1:
        raise UsageError(f"--tries keeps what the judge reads as asked for: {why}")


def kept(args, read, asked, images, names, advice=()):
    """Choose the best of each args.tries images, and say how many show what was asked for

    read: see `reader`; images: (N tries, H, W, C); names: N str; advice: list of what else may help
    -> indices (N,) of images, and what each was read as: {"read": ...}, or {}
    """
    if read is None:
        return np.arange(len(images)), [{}] * len(names)
    reading = read(images)
    found = best(asked.log_p(reading), args.tries)
    reading = [log_p[found] for log_p in reading]
    ways = [] if args.tries > 1 else ["--tries 8"]
    stronger = (args.guidance or 1) < STRONG and not getattr(args, "change", None)
    ways += ["more --guidance"] * stronger  # a change becomes no likelier by it: RESULTS.md
    print(line(asked, reading, names, f"try {', '.join([*ways, *advice])} or another --seed"))
    return found, [{"read": shown} for shown in asked.shown(reading)]


def best(log_p, tries):
    """Find the best of each so many pictures that follow each other, the first where two are.

    log_p: (N tries,) -> (N,) indices
    """
    rows = np.asarray(log_p).reshape(-1, tries)
    return np.arange(len(rows)) * tries + rows.argmax(1)


def line(asked, reading, names, advice):
    """Say how many pictures show what was asked for, which do not, and what may help -> str

    names: N str; advice: str
    """
    missed = zip(names, asked.missed(reading), strict=True)
    failed = [f"{name} ({words})" for name, words in missed if words]
    said = (
        f"{asked}: reached in {len(names) - len(failed)} of {len(names)}, as the judge reads them"
    )
    if not failed:
        return said
    more = f" and {len(failed) - MOST_NAMED} more" if len(failed) > MOST_NAMED else ""
    return f"{said}; not in {', '.join(failed[:MOST_NAMED])}{more}: {advice}"
