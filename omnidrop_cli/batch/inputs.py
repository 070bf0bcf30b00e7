"""What a batch is asked: paths, globs, list files and question files become questions, grouped by clip.

Takes the words of the command line; gives groups of requests about one stretch of one clip. Clips are paths or addresses here and not yet
opened, except that a file with a suffix of TypeScript and of video is looked into.
"""

from __future__ import annotations

import codecs
import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omnidrop_cli.config import MediaConfig, Request
from omnidrop_cli.errors import MediaError, OmnidropError, UsageError
from omnidrop_cli.jsonl import parse_json
from omnidrop_cli.media.address import playlist
from omnidrop_cli.media.source import bundled, irregular, is_url
from omnidrop_cli.stdin import read_stdin

_VIDEO = (".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv")
_SOUND = (".aac", ".aif", ".aiff", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wma")

MEDIA_SUFFIXES = frozenset((*_VIDEO, *_SOUND))
"""Which files of a folder count as clips. A file named on its own is taken whatever it is called."""

_ALSO_SOURCE_CODE = frozenset({".ts", ".mts"})
"""MPEG transport streams, and TypeScript."""

_LARGEST_LIST = 1 << 29
"""Bytes of a list or a question file; reading stops there, since a device may have no end."""

Note = Callable[[str], None]
"""Called with one line about what was left out."""

LIST_SUFFIXES = frozenset({".txt", ".lst", ".m3u"})

_FIELDS = {"media", "question", "id", "system", "start", "end"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One question about one clip; `id` is the user's own name for it, handed through to the row."""

    job: Request
    id: str | None = None


Group = tuple[Asked, ...]
"""The questions about one stretch of one clip, never empty: they share decoding and both encoders."""


def gather(
    paths: Sequence[str], questions: Sequence[str], template: Request, question_file: str | None = None, note: Note = lambda line: None
) -> list[Group]:
    """Everything asked, grouped by clip in the order of first mention; the same question about the same clip counts once.

    Args:
        paths: Files, folders, globs, lists, addresses.
        questions: What to ask of every clip, and of lines of `question_file` without a question of their own.
        template: The settings of every request.
        question_file: JSON lines, "-" for stdin.
        note: Called with what was left out.

    Raises:
        UsageError: The file and line that is wrong.
        MediaError: A path leads to nothing.
    """
    asked = [*_from_file(question_file, questions, template)] if question_file is not None else []
    if paths and not questions:
        raise UsageError("no question was given", "add -q QUESTION (several are allowed), or -i questions.jsonl")
    media = [clip for found in find_media(paths, note) for clip in _clips_at(found, template)]
    asked += [Asked(replace(template, media=clip, question=question)) for clip in media for question in questions]
    if not asked:
        raise UsageError("there is nothing to ask about", "give files, folders or globs, or -i questions.jsonl")
    groups: dict[tuple[str, MediaConfig], dict[tuple[str, str | None, str | None], Asked]] = {}
    for one in asked:
        of_clip = groups.setdefault((one.job.media, one.job.media_options), {})
        of_clip.setdefault((one.job.question, one.job.system, one.id), one)
    return [tuple(of_clip.values()) for of_clip in groups.values()]


def _clips_at(media: str, template: Request) -> list[str]:
    """The clips of a playlist; anything else is one clip. Raises `UsageError` for a playlist of none."""
    if not is_url(media) or template.model.offline:
        return [media]
    clips = playlist(media, template.fetch)
    if clips == []:
        raise UsageError(f"{media} lists no clips", "open the address in a browser; the list may be private")
    return [media] if clips is None else clips


# ---------------------------------------------------------------- clips


def find_media(paths: Iterable[str], note: Note = lambda line: None) -> list[str]:
    """Files behind paths: a folder gives the clips below it, a glob its matches, a list file (or `-`, stdin) its lines.

    Sorted within a folder or glob, each file once. Other files of a folder are left out; `note` is called with those that
    are named like clips but are pipes, devices or text.

    Raises:
        UsageError: A folder, glob or list without a clip.
        MediaError: A path that leads to nothing.
    """
    found: dict[str, None] = {}
    left_out: dict[str, list[str]] = {}
    for path in paths:
        of_path = [*_expand(path, left_out)]
        found.update(dict.fromkeys(of_path))
        if not of_path:
            what = "holds no clips" if os.path.isdir(path) else "matches nothing" if glob.has_magic(path) else "lists no clips"
            raise UsageError(f"{path} {what}", f"clips end in {', '.join(sorted(MEDIA_SUFFIXES))}; other files can be named one by one")
    for reason, files in left_out.items():
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        note(f"left out, {reason}: {', '.join(files[:3])}{more}")
    return [*found]


def _expand(path: str, left_out: dict[str, list[str]]) -> Iterator[str]:
    if path == "-":
        yield from _lines(read_stdin(_LARGEST_LIST).splitlines(), Path())
    elif is_url(path) or bundled(path):
        yield path
    elif os.path.isdir(path):
        yield from _clips(_walk(path), left_out)
    elif os.path.exists(path):
        if Path(path).suffix.lower() in LIST_SUFFIXES:
            yield from _lines(_read(path, errors="surrogateescape").splitlines(), Path(path).parent)
        else:
            yield path
    elif glob.has_magic(path):
        yield from _clips((match for match in sorted(glob.glob(path, recursive=True)) if not os.path.isdir(match)), left_out)
    else:
        raise MediaError(f"{path}: no such file or folder", "check the path; quote a glob that the shell should not expand")


def _walk(folder: str) -> Iterator[str]:
    """Files below a folder that are named like clips, by path; hidden ones are left alone, links to folders are not followed."""
    for root, folders, files in os.walk(folder, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in MEDIA_SUFFIXES:
                yield os.path.join(root, name)


def _clips(files: Iterable[str], left_out: dict[str, list[str]]) -> Iterator[str]:
    """The files that can be clips; the others are added to `left_out` by reason."""
    for file in files:
        if (kind := irregular(file)) is not None:
            left_out.setdefault(f"{kind} is not a clip", []).append(file)
        elif Path(file).suffix.lower() in _ALSO_SOURCE_CODE and _is_text(file):
            left_out.setdefault("text is not a clip", []).append(file)
        else:
            yield file


def _is_text(file: str) -> bool:
    """Whether a file begins with text: UTF-8 without a NUL, which no media container is for long."""
    try:
        with open(file, "rb") as handle:
            start = handle.read(1024)
        return bool(start) and b"\0" not in start and bool(codecs.getincrementaldecoder("utf-8")().decode(start))
    except (OSError, UnicodeDecodeError):
        return False


def _unreadable(error: OSError) -> None:
    raise UsageError(f"{error.filename} cannot be read: {error.strerror}", "change its permissions, or name the other folders one by one")


def _lines(lines: Iterable[str], base: Path) -> Iterator[str]:
    """Entries of a list: one path or URL a line, relative to the list's own folder; empty lines and # comments are skipped."""
    for line in lines:
        entry = line.strip()
        if entry and not entry.startswith("#"):
            yield _relative_to(base, entry)


def _relative_to(base: Path, media: str) -> str:
    """A path of a list or question file, which counts from that file's folder. An address or a bundled clip stays what it is."""
    path = media if is_url(media) else str(base / os.path.expanduser(media))
    return media if bundled(media) and not os.path.exists(path) else path


def _read(path: str, errors: str = "strict") -> str:
    """The text of a list or question file, which may be a pipe (`<(command)`); `errors` is what `bytes.decode` does with other bytes."""
    try:
        with open(path, "rb") as handle:
            content = handle.read(_LARGEST_LIST + 1)
        if len(content) > _LARGEST_LIST:
            raise UsageError(f"{path} is too large for a list ({_LARGEST_LIST / 1e6:.0f} MB at most)", "split it, or check the path")
        if b"\0" in content:
            raise UsageError(f"{path} is not a text file", "a list holds one path or URL a line, in UTF-8")
        return content.decode("utf-8-sig", errors)
    except OSError as error:
        raise OmnidropError(
            f"{path} cannot be read: {(error.strerror or str(error)).lower()}", "check the path and its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not a text file", "a list holds one path or URL a line, in UTF-8") from error


# ---------------------------------------------------------------- question files


def _from_file(path: str, questions: Sequence[str], template: Request) -> Iterator[Asked]:
    text, base = (read_stdin(_LARGEST_LIST), Path()) if path == "-" else (_read(path), Path(path).parent)
    # Not splitlines(): JSON strings may hold U+2028 and its kin unescaped.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = parse_json(line)
        except ValueError as error:
            raise UsageError(f"{where}: not JSON ({error})", 'a line reads {"media": "clip.mp4", "question": "..."}') from error
        yield from _from_row(row, where, base, questions, template)


def _from_row(row: Any, where: str, base: Path, questions: Sequence[str], template: Request) -> Iterator[Asked]:
    hint = f"known fields are {', '.join(sorted(_FIELDS))}"
    if not isinstance(row, dict) or not isinstance(row.get("media"), str) or not row["media"].strip():
        raise UsageError(f'{where}: no "media"', 'a line reads {"media": "clip.mp4", "question": "..."}')
    unknown = sorted(row.keys() - _FIELDS)
    if unknown:
        raise UsageError(f"{where}: unknown field {unknown[0]!r}", hint)
    options = template.media_options
    start, end = _seconds(row, "start", where), _seconds(row, "end", where)
    options = replace(options, start_s=options.start_s if start is None else start, end_s=options.end_s if end is None else end)
    system = _text(row, "system", where)
    own = _text(row, "question", where)
    if own is None and not questions:
        raise UsageError(f"{where}: no question", 'add "question" to the line, or -q QUESTION for every line without one')
    name = row.get("id")
    if name is not None and (isinstance(name, bool) or not isinstance(name, (str, int))):
        raise UsageError(f'{where}: "id" is neither text nor a whole number', hint)
    for clip in _clips_at(_relative_to(base, row["media"]), template):
        for question in [own] if own is not None else questions:
            job = replace(
                template,
                media=clip,
                question=question,
                system=template.system if system is None else system,
                media_options=options,
            )
            yield Asked(job, None if name is None else str(name))


def _text(row: dict[str, Any], field: str, where: str) -> str | None:
    value = row.get(field)
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise UsageError(f"{where}: {field!r} is not text", "write it in quotes, or leave the field out")
    return value


def _seconds(row: dict[str, Any], field: str, where: str) -> float | None:
    value = row.get(field)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= sys.float_info.max):
        raise UsageError(f"{where}: {field!r} is not a number of seconds", "write seconds, such as 12.5")
    return None if value is None else float(value)
