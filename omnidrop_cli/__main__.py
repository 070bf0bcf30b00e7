"""`python -m omnidrop_cli`, and the program `omnidrop`: Ctrl-C ends it without a traceback from its first import to its last line."""

import os
import sys
from typing import Any, NoReturn


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    sys.unraisablehook = _unraisable
    try:
        from omnidrop_cli.cli import main as program

        program()
    except KeyboardInterrupt:  # before the commands are imported, or while the process ends; `commands/_exit.py` has all between
        sys.stderr.write("interrupted\n")
        sys.stderr.flush()
        os._exit(130)


def _unraisable(what: Any) -> None:
    """Ctrl-C inside a callback of the garbage collector or of an import ends the program like any other, with no traceback."""
    if what.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(what)


if __name__ == "__main__":
    main()
