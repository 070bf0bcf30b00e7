"""Subtitles of a clip as text: from a file next to it, or from a text track inside it.

Input: the clip's path, which subtitles are wanted, and the part of the clip. Output: lines with the second of that part at which each
appears, without markup. FFmpeg reads every format; subtitles that are pictures have no text.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidrop_cli.errors import MediaError
from omnidrop_cli.media.container import find_source, may_jump, open_media
from omnidrop_cli.outputs import Subtitles

if TYPE_CHECKING:
    from av.container import InputContainer

FORMATS = {".srt": "srt", ".vtt": "webvtt", ".ass": "ass", ".ssa": "ass"}
"""Suffixes of subtitle files, and FFmpeg's readers of them."""

TAG = r"[A-Za-z]{2,3}([-_]\w+)*"
"""A language in a file's name: en, eng or pt-BR."""

MAX_CHARACTERS = 60_000
"""About 15,000 tokens, more than an hour of speech; text is never pruned."""

_MAX_BYTES = 20 * 10**6
_RUN_UP_S = 60.0
"""A line that began this long before the part may still be shown in it."""

# fmt: off
_BIBLIOGRAPHIC = {
    "alb": "sq", "arm": "hy", "baq": "eu", "bur": "my", "chi": "zh", "cze": "cs", "dut": "nl",
    "fre": "fr", "geo": "ka", "ger": "de", "gre": "el", "ice": "is", "mac": "mk", "mao": "mi",
    "may": "ms", "per": "fa", "rum": "ro", "slo": "sk", "tib": "bo", "wel": "cy",
}
# fmt: on
"""ISO 639-2/B, which Matroska uses: yt-dlp's table has the other three-letter codes."""


@dataclass(slots=True)
class _Lines:
    """Lines of a part of a clip as they are collected, in seconds of that part."""

    start_s: float
    end_s: float
    found: list[tuple[float, str]] = field(default_factory=list)
    characters: int = 0
    seen: int = 0
    damaged: int = 0
    cut_at_s: float | None = None

    def add(self, begin_s: float, end_s: float, text: str) -> bool:
        """Take a line by the clip's clock; False where no later one can matter. What the line before it showed already is left out."""
        if begin_s >= self.end_s:
            return False
        if end_s <= self.start_s:
            return True
        before = self.found[-1][1].split("\n") if self.found else []
        fresh = "\n".join(line for line in text.split("\n") if line and line not in before)
        if self.characters + len(fresh) > MAX_CHARACTERS:
            self.cut_at_s = begin_s
            return False
        if fresh:
            self.characters += len(fresh)
            self.found.append((max(0.0, begin_s - self.start_s), fresh))
        return True

    def warnings(self, source: str) -> Iterator[str]:
        """What is missing of `source`."""
        if self.damaged:
            yield f"{self.damaged} line{'s' * (self.damaged != 1)} of the subtitles ({source}) are damaged and left out"
        if self.cut_at_s is not None:
            yield f"the subtitles ({source}) are too long: what comes after {self.cut_at_s:.0f} s is left out ({MAX_CHARACTERS} characters)"


def read_subtitles(clip: Path, wanted: str, start_s: float, end_s: float | None) -> tuple[Subtitles | None, tuple[str, ...]]:
    """The subtitles of a part of a clip, and what the user should know of them.

    Args:
        wanted: "auto" (a file next to the clip, else the track inside it that a player would show), a language, or a subtitle file.

    Returns:
        None and a warning for "auto" where there are none.

    Raises:
        MediaError: what was named does not exist, or has no text.
    """
    lines = _Lines(start_s, math.inf if end_s is None else end_s)
    path = subtitle_file(clip, wanted)
    if path is not None:
        notes = _read_file(path, lines)
        source, language = path.name, _language_of(path, clip)
    else:
        found, notes = _read_track(clip, wanted, lines)
        if found is None:
            return None, notes
        source, language = found
    return Subtitles(source, language, tuple(lines.found)), (*notes, *lines.warnings(source))


def subtitle_file(clip: Path, wanted: str) -> Path | None:
    """The file of its own that the subtitles would be read from; None for a track inside the clip."""
    return named_file(wanted) or _next_to(clip, wanted)


# ---------------------------------------------------------------- files


def named_file(wanted: str) -> Path | None:
    """The file that is wanted, where it is not "auto" or a language."""
    path = Path(wanted)
    return path if path.suffix.lower() in FORMATS or len(path.parts) > 1 else None


def _next_to(clip: Path, wanted: str) -> Path | None:
    """A subtitle file with the clip's name: talk.srt or talk.en.srt next to talk.mp4, as players find them."""
    try:
        files = sorted(path for path in clip.parent.iterdir() if path.suffix.lower() in FORMATS and path.is_file())
    except OSError:
        return None
    order = list(FORMATS)
    plain = [path for path in files if path.stem == clip.stem]
    tagged = [path for path in files if path.stem.startswith(f"{clip.stem}.") and _language_of(path, clip) is not None]
    fitting = plain + tagged if wanted == "auto" else [path for path in tagged if same_language(_language_of(path, clip), wanted)]
    return min(fitting, key=lambda path: (path.stem != clip.stem, order.index(path.suffix.lower()), path.name), default=None)


def _language_of(path: Path, clip: Path) -> str | None:
    """The language in a name such as talk.en.srt."""
    tag = path.stem.removeprefix(f"{clip.stem}.")
    return tag if tag != path.stem and re.fullmatch(TAG, tag) else None


def _read_file(path: Path, lines: _Lines) -> tuple[str, ...]:
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise MediaError(f"{path} is no subtitle file", f"its name must end in {', '.join(FORMATS)}")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise MediaError(f"{path} has {path.stat().st_size / 1e6:.0f} MB, too much for subtitles", "check the file")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(f"{path}: the subtitles cannot be read ({reason.lower()})", "check the path") from error
    text, notes = _decoded(content, path)
    import av

    with suppress(av.FFmpegError, ValueError, LookupError), av.open(io.BytesIO(text.encode()), format=form) as container:
        _collect(container, container.streams.subtitles[0], lines, 0.0)
    if not lines.seen:
        raise MediaError(f"{path} holds no subtitles that can be read", f"it must be {form} text, as its name says")
    return notes


def _decoded(content: bytes, path: Path) -> tuple[str, tuple[str, ...]]:
    """The text of a file in UTF-8 or UTF-16; in Windows-1252 where it is neither, which old subtitles often are, with a word."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace"), ()
    try:
        return content.decode("utf-8-sig"), ()
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace"), (f"{path.name} is not UTF-8: it was read as Windows-1252",)


# ---------------------------------------------------------------- tracks


def _read_track(clip: Path, wanted: str, lines: _Lines) -> tuple[tuple[str, str | None] | None, tuple[str, ...]]:
    """Collect the lines of a track; its name and language. None with a warning for "auto" where there is none with text."""
    with open_media(find_source(clip)) as container:
        tracks = list(container.streams.subtitles)
        fitting = tracks if wanted == "auto" else [track for track in tracks if same_language(track.language, wanted)]
        with_text = [track for track in fitting if _has_text(track)]
        if not with_text:
            problem = _problem(clip, wanted, tracks, bool(fitting))
            if wanted == "auto":
                return None, (problem,)
            raise MediaError(problem, "`subtitles=FILE` takes a file")
        track = min(with_text, key=_rank)
        found = f"track {track.index}", track.language
        shift_s = (container.start_time or 0) / 1e6
        _leave_out_others(container, track)
        if lines.start_s > _RUN_UP_S and not may_jump(container):
            _seek(container, shift_s + lines.start_s - _RUN_UP_S)
        _collect(container, track, lines, shift_s)
    return found, ()


def _has_text(track: Any) -> bool:
    """Whether FFmpeg turns the track into text; pictures (DVD, Blu-ray, DVB) have none."""
    return track.codec_context is not None and bool(track.codec_context.codec.text_sub)


def _rank(track: Any) -> tuple[bool, bool, int]:
    """Tracks of a few forced lines come last, then those that are not marked as default."""
    import av

    kinds = av.stream.Disposition
    return bool(track.disposition & (kinds.forced | kinds.comment)), not track.disposition & kinds.default, track.index


def _problem(clip: Path, wanted: str, tracks: list[Any], fitting: bool) -> str:
    names = [f"{track.language or 'no language'} ({track.codec_context.name if track.codec_context else 'unknown'})" for track in tracks]
    inside = f"; it has {', '.join(names)}" if names else ""
    if wanted == "auto" and not tracks:
        return "there are no subtitles: none in the clip, and no file of its name next to it"
    if fitting:
        return f"the subtitles of {clip.name} are pictures, not text{inside}"
    return f"{clip.name} has no subtitles in '{wanted}'{inside}"


def _leave_out_others(container: InputContainer, track: Any) -> None:
    """Spare reading video and audio where the container has an index."""
    import av

    discard = getattr(av.stream, "Discard", None)  # PyAV 17 has none
    for stream in container.streams:
        if discard is not None and stream is not track:
            stream.discard = discard.all


def _seek(container: InputContainer, at_s: float) -> None:
    import av

    with suppress(av.FFmpegError, OverflowError):  # it is read from its beginning then
        container.seek(int(at_s * 1e6))


def _collect(container: InputContainer, track: Any, lines: _Lines, shift_s: float) -> None:
    """Add the lines of a track whose clock is `shift_s` ahead of the clip's."""
    import av

    try:
        for packet in container.demux(track):
            if packet.pts is None or not packet.size:
                continue
            lines.seen += 1
            begin_s = float(packet.pts * packet.time_base) - shift_s
            end_s = begin_s + float((packet.duration or 0) * packet.time_base)
            try:
                text = "\n".join(_plain(subtitle.ass) for subtitle in packet.decode() if hasattr(subtitle, "ass"))
            except (av.FFmpegError, ValueError):
                lines.damaged += 1
                continue
            if not lines.add(begin_s, max(end_s, begin_s + 1e-3), text):
                return
    except av.FFmpegError:
        lines.damaged += 1  # what comes after it cannot be read


def _plain(event: bytes) -> str:
    """The words of an ASS event, line by line: without its fields, override blocks, drawings and what is left of HTML."""
    text = event.decode("utf-8", errors="replace").split(",", 8)[-1]
    if re.search(r"{[^}]*\\p[1-9]", text):
        return ""
    text = re.sub(r"{[^}]*}", "", text)
    text = re.sub(r"\\[Nn]", "\n", text).replace("\\h", " ")
    text = re.sub(r"</?[A-Za-z][^<>]*>", "", text)
    text = re.sub(r"&(amp|lt|gt|nbsp|quot|apos|#39|lrm|rlm);", lambda match: _ENTITIES[match[1]], text)
    lines = (" ".join("".join(sign if sign.isprintable() else " " for sign in line).split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "nbsp": " ", "quot": '"', "apos": "'", "#39": "'", "lrm": "", "rlm": ""}


def same_language(one: str | None, other: str) -> bool:
    """Whether two names of a language mean the same: en, eng and en-US do; a region counts where both have one."""
    if one is None:
        return False
    (a, *a_more), (b, *b_more) = (re.split("[-_]", name.lower(), maxsplit=1) for name in (one, other))
    return _short(a) == _short(b) and (not a_more or not b_more or a_more == b_more)


def _short(code: str) -> str:
    if len(code) != 3:
        return code
    from yt_dlp.utils import ISO639Utils

    return _BIBLIOGRAPHIC.get(code) or ISO639Utils.long2short(code) or code
