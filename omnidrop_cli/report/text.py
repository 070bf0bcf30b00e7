"""Untrusted text (a model's answer, a file's name) made safe for a terminal.

Characters that steer a terminal or hide what a line says are removed. Rich gets such text as `Text`, never as markup.
"""

from __future__ import annotations

import re

_UNSAFE = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and newline, DEL, C1: escape sequences begin here, also as one byte (CSI is U+009B)
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction marks, overrides and isolates: "Trojan Source", CVE-2021-42574
    "\ufff9-\ufffb"  # interlinear annotation
    "\U000e0000-\U000e007f"  # tag characters: invisible text
)
_STEERING = re.compile(f"[{_UNSAFE}]")
_CREDENTIALS = re.compile(r"(https?://)[^/?#\s]*@", re.IGNORECASE)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """`text` without control characters and direction overrides; newlines and tabs stay. Works piece by piece on a stream.

    Undecodable bytes of a file name (lone surrogates) become U+FFFD, which every terminal can print. An escape sequence loses its
    first character, so its rest shows as the harmless text it is.
    """
    return _LONE_SURROGATE.sub("\ufffd", _STEERING.sub("", text))


def one_line(text: str) -> str:
    """`clean` text with every run of white space a single blank and no password: for messages, names and table cells."""
    return " ".join(without_credentials(clean(text)).split())


def without_credentials(text: str) -> str:
    """`text` whose http(s) addresses have lost user name and password: logs, reports and pages are passed on."""
    return _CREDENTIALS.sub(r"\1", text)


def escape_json(text: str) -> str:
    r"""A JSON document with the same characters as \uXXXX escapes: the same value to a parser, and harmless on a terminal."""
    return re.sub(f"[{_UNSAFE}\ud800-\udfff]", _escaped, text)


def _escaped(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
