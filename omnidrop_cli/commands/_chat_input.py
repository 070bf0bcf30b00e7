"""What is typed or piped into `omnidrop chat`: lines, and blocks of several lines between triple quotes or from a paste."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from omnidrop_cli import paths
from omnidrop_cli.errors import UsageError
from omnidrop_cli.stdin import read_line

PROMPT, CONTINUED = "> ", "... "
LONGEST = 1 << 24
"""Characters of a question."""
QUOTES = '"""'

Read = Callable[[str], str | None]
"""Gives the next line after showing a prompt; None at the end of the input."""

Complete = Callable[[str, int], str | None]


def entries(read: Read, *, person: bool) -> Iterator[tuple[str, bool]]:
    """Each line without blanks around it, and whether it is a block, which is a question whatever it begins with.

    A block begins with triple quotes and ends with them, on the same line or a later one. Ctrl-C drops what a person has typed so far.

    Raises:
        UsageError: The input ends inside a block.
    """
    while True:
        try:
            line = read(PROMPT)
            if line is None:
                return
            text = line.strip()
            entry = (_block(text[len(QUOTES) :], read), True) if text.startswith(QUOTES) else (text, False)
        except KeyboardInterrupt:
            if not person:
                raise
            sys.stderr.write("\n")
            continue
        yield entry


def _block(first: str, read: Read) -> str:
    lines = [first]
    while not lines[-1].rstrip().endswith(QUOTES):
        line = read(CONTINUED)
        if line is None:
            raise UsageError('the question that begins with """ has no end', 'end it with """')
        lines.append(line.rstrip("\r\n"))
        if sum(map(len, lines)) > LONGEST:
            raise UsageError('the question that begins with """ is too long', 'end it with """')
    lines[-1] = lines[-1].rstrip()[: -len(QUOTES)]
    return "\n".join(lines).strip()


def from_script(_: str) -> str | None:
    """The next line of stdin. Raises `UsageError` for one without an end."""
    return read_line(LONGEST)


def from_person(prompt: str) -> str | None:
    """A line of a person; what was pasted is one line with all its newlines."""
    try:
        if sys.stdout.isatty():
            return input(prompt)
    except EOFError:
        sys.stderr.write("\n")
        return None
    sys.stderr.write(prompt)  # the prompt is no answer
    sys.stderr.flush()
    return read_line(LONGEST)


@contextmanager
def line_editing(complete: Complete) -> Iterator[None]:
    """A block with line editing, completion and the lines of earlier chats, where this Python has readline."""
    try:
        import readline
    except ImportError:
        yield
        return
    path = paths.chat_history()
    readline.set_completer_delims(" ")
    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")
    readline.parse_and_bind("set enable-bracketed-paste on")  # Python switches it off
    with suppress(OSError):
        readline.read_history_file(path)
    try:
        yield
    finally:
        readline.set_history_length(1000)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
            readline.write_history_file(path)
