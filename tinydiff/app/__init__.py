"""The command line: what each command of `python -m tinydiff` does."""
