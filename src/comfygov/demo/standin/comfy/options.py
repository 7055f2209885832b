"""Whether the command line is parsed: only when main.py is the program, not when a node imports us."""

args_parsing = False


def enable_args_parsing() -> None:
    """Say that the process was started through main.py."""
    global args_parsing  # noqa: PLW0603 - the real program keeps this as a module flag too
    args_parsing = True
