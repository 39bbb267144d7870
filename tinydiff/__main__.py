"""`python -m tinydiff`: the command line, see app/cli.py."""

import sys

if sys.modules["tinydiff"].__file__ is None:  # Python found a folder without __init__.py first
    left = "is left over from another install and hides this one: delete it"
    sys.exit(f"tinydiff: {next(iter(sys.modules['tinydiff'].__path__))} {left}")

from .app import interrupt


def main(argv=None):
    """Run the command line, see app/cli.py: strings, None = sys.argv[1:] -> exit status, int ()"""
    from .app import cli  # only here, where a Ctrl-C is heard

    return cli.main(argv)


if __name__ == "__main__":
    sys.exit(interrupt.run(main))
