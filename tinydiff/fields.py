"""What a file may claim about its network: one table for each kind of file, field by field.

A checkpoint may come from anywhere, so all that it says is checked before anything is built from
it. A field is named by its path, as "train.batch"; one that ends in "?" may be missing. What it
takes is a pair: in words, for the message, and as a test.
"""

import reprlib

from .train import PREDICTIONS

LONGEST = 100  # characters of a name


def _whole(least, most):
    fits = lambda x: type(x) is int and least <= x <= most
    return f"a whole number from {least} to {most}", fits


def _number(least, most):
    fits = lambda x: type(x) in (int, float) and least <= x <= most  # so NaN does not fit
    return f"a number from {least:g} to {most:g}", fits


def _one_of(*names):
    return f"one of {', '.join(names)}", lambda x: x in names


def _list_of(kind, least=0, most=2**24):
    what, fits = kind
    all_fit = lambda x: type(x) is list and least <= len(x) <= most and all(map(fits, x))
    return f"a list, of which each part is {what}", all_fit


def _named(kind):
    what, fits = kind
    named = lambda x: type(x) is dict and all(NAME[1](k) and fits(v) for k, v in x.items())
    return f"names, for each of which there is {what}", named


def _entry(x):
    numbers = type(x) is list and len(x) == 3
    return numbers and STEPS[1](x[0]) and all(FINITE[1](number) for number in x[1:])


def _cell(x):
    if type(x) is not list or len(x) != 5 or not all(type(n) is int and 0 <= n < 2**31 for n in x):
        return False
    H, W, k, top, left = x
    return 0 < k <= min(H, W) and max(top, left) < k


def _hex(x):
    return len(x) == 64 and set(x) <= set("0123456789abcdef")


def _null_or(kind):
    what, fits = kind
    return what, lambda x: x is None or fits(x)


printable = lambda x: type(x) is str and 0 < len(x) <= LONGEST and x.isprintable()
NAME = f"a text of 1 to {LONGEST} characters that can be printed", printable
PATH = "a text of 1 to 4096 characters", lambda x: type(x) is str and 0 < len(x) <= 4096
STEPS, FINITE, CHANNELS = _whole(0, 10**12), _number(-1e39, 1e39), _whole(1, 1024)
LOSS = "a number", lambda x: x != x or FINITE[1](x)  # before the first step it is NaN

KEY = "64 hexadecimal digits", lambda x: type(x) is str and _hex(x)
BOOL = "true or false", lambda x: type(x) is bool
PLAN = {  # of collect/fit.py
    "pixel_art": BOOL,
    "factor": _whole(1, 512),
    "framed": BOOL,
    "whole": BOOL,
    "paper": _whole(0, 255),
    "cells": _list_of(("H, W, k, top, left", _cell), 0, 4096),
}


def _plan(x):
    return type(x) is dict and x.keys() == PLAN.keys() and all(PLAN[k][1](v) for k, v in x.items())


SIZES = ("size", "channels", "out", "width", "multipliers", "depth", "classes", "padding", "told")

MODEL = {  # the meta of checkpoint.py, of a network that draws
    "dataset?": NAME,
    "labels?": _named(_list_of(NAME, 1)),
    "model": (f"a dict of {', '.join(SIZES)}", lambda x: type(x) is dict and x.keys() <= {*SIZES}),
    "model.size": _whole(1, 512),
    "model.channels?": CHANNELS,
    "model.out?": _null_or(CHANNELS),
    "model.width?": _whole(8, 4096),
    "model.multipliers?": _list_of(_whole(1, 64), 1, 12),
    "model.depth?": _whole(1, 1000),
    "model.classes?": _list_of(_whole(1, 10**6), 0, 1000),
    "model.padding?": _one_of("zeros", "circular"),
    "model.told?": _list_of(_whole(1, 1024), 0, 16),
    "schedule.kind": _one_of("linear", "cosine", "sigmoid"),
    "schedule.T": _whole(1, 100_000),
    "train.predict?": _one_of(*PREDICTIONS),
    "train.batch?": _whole(1, 10**6),
    "train.lr?": _number(1e-12, 1e6),
    "train.forget?": _number(0, 1),
    "train.seed?": _whole(0, 2**128),
    "train.memory?": _whole(1, 10**18),
    "train.flip?": BOOL,
    "train.shift?": _whole(0, 256),
    "train.start?": PATH,
    "train.lora?": _whole(1, 1024),
    "history?": _list_of(("[step, seconds, loss]", _entry)),
    "recent?": _list_of(FINITE),
    "steps?": STEPS,
    "pictures.path?": PATH,
    "pictures.key?": KEY,
    "pictures.size?": _whole(4, 512),
    "pictures.grid?": _list_of(_whole(1, 1024), 2, 2),
    "pictures.plan?": (f"a dict of {', '.join(PLAN)}", _plan),
}
TRAINING = {  # beside it, where the training can go on
    "step": STEPS,
    "adam_k": STEPS,
    "loss": LOSS,
    "rng.bit_generator": _one_of("PCG64"),
    "rng.state.state": _whole(0, 2**128 - 1),
    "rng.state.inc": ("an odd number below 2^128", lambda x: _whole(0, 2**128)[1](x) and x % 2),
    "rng.has_uint32": _whole(0, 1),
    "rng.uinteger": _whole(0, 2**32 - 1),
}
CLASSIFIER = {  # the meta of measure/classifier.py
    "dataset?": NAME,
    "labels": _named(_list_of(NAME, 1)),
    "size": _whole(4, 512),
    "channels": CHANNELS,
    "held_out": _named(_number(0, 1)),
    "tasks?": _named(_whole(1, 1000)),  # measure/pretext.py
    "pictures.key?": KEY,
}


def require(fields, header):
    """Check a header, or the meta in it, against a table. header: dict () -> None

    Raises ValueError, with the field, what it is and what it takes, for the first that does not
    fit.
    """
    for path, (wanted, fits) in fields.items():
        *groups, name = path.removesuffix("?").split(".")
        part = _group(header, "the description")
        for group in groups:
            part = _group(part.get(group, {}), group)
        if name in part and not fits(part[name]):
            found = f"{path.removesuffix('?')} is {reprlib.repr(part[name])}"
            raise ValueError(f"{found}, not {wanted}")
        if name not in part and not path.endswith("?"):
            raise ValueError(f"{path} is missing")


def _group(part, name):
    if type(part) is not dict:
        raise ValueError(f"{name} is {reprlib.repr(part)}, not a group of fields")
    return part
