"""`python -m tinydiff`: the command line, see app/cli.py."""

import sys

from .app import interrupt


def main(argv=None):
    """Run the command line: list of strings, None = sys.argv[1:] -> exit status, see app/cli.py"""
    from .app import cli  # only here, where a Ctrl-C is heard

    return cli.main(argv)


if __name__ == "__main__":
    sys.exit(interrupt.run(main))
