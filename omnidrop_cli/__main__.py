"""`python -m omnidrop_cli`, and the program `omnidrop`: Ctrl-C ends it without a traceback from its first import to its last line."""

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    try:
        from omnidrop_cli.cli import main as program

        program()
    except KeyboardInterrupt:  # before the commands are imported, or while the process ends; `commands/_exit.py` has all between
        sys.stderr.write("interrupted\n")
        sys.stderr.flush()
        os._exit(130)


if __name__ == "__main__":
    main()
