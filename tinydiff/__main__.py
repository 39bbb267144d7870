"""`python -m tinydiff`: the command line, see app/cli.py."""

import sys

from .app import interrupt


def _command():
    from .app.cli import main  # only here, where a Ctrl-C is heard

    return main()


if __name__ == "__main__":
    sys.exit(interrupt.run(_command))
