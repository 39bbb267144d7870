"""The command `look`: what is in a user's pictures, and how a network would be trained on them."""

from .. import data
from . import own
from .cmd_train import describe
from .usage import UsageError, like, require_picture


def cmd_look(args):
    """Run `look`: args from the parser -> None; prints what it finds, writes a sheet"""
    if not args.path.exists():
        along = str(args.path) in {**data.FILES, **data.STYLES}
        why = ": this set comes with tinydiff, `look` is for your own pictures"
        guess = why if along else like(args.path)
        raise UsageError(f"there is no file or folder {str(args.path)!r}{guess}")
    own.require_apart(args.path, args.out)
    require_picture(args.out, args.path)
    dataset, _ = own.pictures(args.path, args.size, args.grid, not args.no_cache)
    own.show(dataset, args.out)
    own.say_plan(describe(dataset, 0), dataset)
