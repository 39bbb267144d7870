"""`python -m tinydiff`: the command line, see app/cli.py."""

import sys

if __name__ == "__main__":
    package = sys.modules[__package__]
    if package.__file__ is None:  # no __init__.py was run: Python found a folder without it first
        left = "is left over from another install and hides this one: delete it"
        sys.exit(f"tinydiff: {next(iter(package.__path__))} {left}")

    from .app.cli import main

    sys.exit(main())
