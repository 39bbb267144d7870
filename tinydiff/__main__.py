"""`python -m tinydiff`: the command line, see app/cli.py."""

import sys

if sys.modules["tinydiff"].__file__ is None:  # Python found a folder without __init__.py first
    left = "is left over from another install and hides this one: delete it"
    sys.exit(f"tinydiff: {next(iter(sys.modules['tinydiff'].__path__))} {left}")

from .app.cli import main

if __name__ == "__main__":
    sys.exit(main())
