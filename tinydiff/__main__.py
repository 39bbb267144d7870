"""`python -m tinydiff`: the command line, see app/cli.py."""

import sys

from .app import interrupt


def main(argv=None):
    """Run the command line, see app/cli.py: strings, None = sys.argv[1:] -> exit status, int ()"""
    from .app import cli  # only here, where a Ctrl-C is heard

    return cli.main(argv)


if __name__ == "__main__":
    sys.exit(interrupt.run(main))
