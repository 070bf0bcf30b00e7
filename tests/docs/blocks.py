"""Code blocks of the documentation, and the shell lines in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LOG = ROOT / "docs" / "develop" / "log.md"
"""The log is history: names in it were right on their day."""

TITLES = {
    "needs a GPU",
    "needs the model hub",
    "needs the network",
    "needs a cluster",
    "takes minutes",
    "takes hours",
    "interactive",
}
"""Why a block does not run in a test."""

_FENCE = re.compile(r'^```(\w+)(?: title="([^"]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its title (empty where it runs), its text and the line it starts at."""

    page: Path
    language: str
    title: str
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """A program with its arguments, and the files or the command that its standard streams are connected to."""

    words: tuple[str, ...]
    stdin: str | None = None
    stdout: str | None = None
    piped: Command | None = None

    @property
    def is_omnidrop(self) -> bool:
        return self.words[0] == "omnidrop" or self.words[:3] == ("python", "-m", "omnidrop_cli")

    @property
    def arguments(self) -> list[str]:
        """What follows the name of the program."""
        return list(self.words[1:] if self.words[0] == "omnidrop" else self.words[3:])


def blocks(page: Path, language: str) -> list[Block]:
    """The page's blocks in a language, in order."""
    text = page.read_text(encoding="utf-8")
    found = (Block(page, m[1], m[2] or "", m[3], text.count("\n", 0, m.start()) + 1) for m in _FENCE.finditer(text))
    return [block for block in found if block.language == language]


def commands(text: str) -> Iterator[Command]:
    """The commands of a console block: one a line, split at `&&`, with pipes and redirections.

    Raises:
        ValueError: a word of the shell's syntax that a page should not use.
    """
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|<>;()")
        lexer.whitespace_split = True
        words = list(lexer)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            yield _pipeline(words[:end])
            words = words[end + 1 :]


def _pipeline(words: list[str]) -> Command:
    piped = None
    while "|" in words:
        end = words.index("|")
        piped = _simple(words[:end], piped)
        words = words[end + 1 :]
    return _simple(words, piped)


def _simple(words: list[str], piped: Command | None) -> Command:
    plain: list[str] = []
    streams: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        if word in ("<", ">"):
            streams[word] = next(rest)
        elif set(word) <= set("&|<>;()"):
            raise ValueError(f"{word} in {words}")
        else:
            plain.append(word)
    return Command(tuple(plain), streams.get("<"), streams.get(">"), piped)
