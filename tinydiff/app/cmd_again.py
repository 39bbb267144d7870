"""The command `again`: draw once more what a picture says of itself."""

import os
import re
import shlex
import sys
from importlib import import_module

from ..design.upright import opened
from .cli import COMMANDS, parser
from .usage import UsageError, require_picture

DRAWS = ("sample", "edit", "restyle", "alphabet", "between")  # a file may name any command
WRITES = ("out", "frames", "sheet", "force", "gif", "apng")  # where to: asked for anew


def cmd_again(args):
    """Run `again`: args from the parser -> None; writes the picture, as it was drawn"""
    said = _texts(args.file)
    require_picture(args.out, args.file)
    again = _as_typed(args.file, said["Command"])
    usual = vars(parser().parse_args(["sample", "digits"]))
    for name in WRITES:
        setattr(again, name, usual[name])
    again.out, again.kernels = args.out, args.kernels
    again.sheet = "Number" not in said
    again.only = [int(said["Number"])] if "Number" in said else None
    again.was_of = said.get("Source")
    if getattr(again, "font", None):
        again.font, again.n = None, again.n or 1  # one alphabet, without its font
    print("".join(c if c.isprintable() else "?" for c in said["Command"]), file=sys.stderr)
    module = import_module(f".{COMMANDS[again.command]}", __package__)
    return getattr(module, f"cmd_{again.command}")(again)


def _texts(path):
    """Read what a picture says of how it was drawn -> {keyword: text}"""
    with opened(path) as picture:
        picture.load()
        texts = dict(getattr(picture, "text", {}))
    if "Command" not in texts or not re.fullmatch("[0-9]{1,7}", texts.get("Number", "0")):
        has = "only what is written into a folder, with --sheet, or alone with --scale says that"
        raise UsageError(f"{path} does not say how it was drawn: {has}")
    return texts


def _as_typed(path, command):
    """Read the command line of a picture that may come from anyone -> args, of a drawing command"""
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    draws = words[:3] == ["python", "-m", "tinydiff"] and words[3:4] in [[name] for name in DRAWS]
    if not draws or {"-h", "--help"} & set(words):
        known = f"python -m tinydiff, then {', '.join(DRAWS)}"
        raise UsageError(f"{path} was drawn by {command[:80]!r}; `again` takes {known}")
    home = os.path.expanduser("~")
    words = [re.sub("(^|=)~/", lambda m: f"{m[1]}{home}/", word) for word in words[3:]]
    args = parser().parse_args(words)
    args.typed = words
    return args
