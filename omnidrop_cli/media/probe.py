"""What a media file is, found by opening it: container, tracks, duration. Never by its suffix.

Knows: how to open a file so that every failure is one clear line, which track is the picture and which the sound, and where time
zero lies. Does not know: frames and samples (`video.py`, `sound.py`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidrop_cli.errors import MediaError
from omnidrop_cli.outputs import AudioStream, SourceFacts, VideoStream

if TYPE_CHECKING:
    from av.container import InputContainer

MICROSECOND = 1e-6
_KINDS = "mp4, mkv, webm, mov, avi, gif, mp3, m4a, ogg, wav and flac files can be read"
_NOT_MEDIA = {"tty"}  # FFmpeg's reader of ANSI art accepts any .txt file
_DAMAGED_PACKETS = 64


def probe(path: str | Path, *, hash_content: bool = False) -> SourceFacts:
    """Facts of a file; one picture is decoded, since only a picture tells how it is rotated.

    `hash_content` fills `sha256`. Raises `MediaError` for anything that is not a readable file with a picture or sound track.
    """
    path = Path(path)
    with open_media(path) as container, guarded(path, "it"):
        video, audio = picture_track(container), sound_track(container)
        if video is None and audio is None:
            raise MediaError(f"{path}: no picture and no sound track in this {container.format.name} file", _KINDS)
        facts = SourceFacts(
            path=str(path),
            container=container.format.name,
            size_bytes=path.stat().st_size,
            duration_s=_duration(container),
            video=None if video is None else _video_facts(container, video),
            audio=None if audio is None else _audio_facts(audio),
            sha256=_sha256(path) if hash_content else None,
        )
    if facts.duration_s > 0:
        return facts
    return _with_counted_duration(facts)


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """The file as a PyAV container, closed at the end of the block. Raises `MediaError`."""
    import av

    if path.is_dir():
        raise MediaError(f"{path} is a folder, not a clip", "give one file; `omnidrop batch` takes folders")
    try:
        if path.stat().st_size == 0:
            raise MediaError(f"{path} is empty", "the download or copy may have failed; fetch it again")
        # An absolute path is never taken for an FFmpeg protocol ("take: one.mp4"); broken tags are no reason to fail.
        container = av.open(os.path.abspath(path), metadata_errors="ignore")
    except FileNotFoundError:
        raise MediaError(f"{path}: no such file", "check the path; a URL begins with http:// or https://") from None
    except PermissionError:
        raise MediaError(f"{path}: permission denied", "check who may read the file") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{path} cannot be read as video or sound ({_reason(error)})", f"{_KINDS}; a file cut short may lack its index"
        ) from error
    with container:
        if container.format.name in _NOT_MEDIA:
            raise MediaError(f"{path} is a text file, not a clip", _KINDS)
        yield container


@contextmanager
def guarded(path: Path, what: str) -> Iterator[None]:
    """Turns every error of a decoder into a `MediaError` that names the file and the damaged part, `what`."""
    import av

    try:
        yield
    except (av.FFmpegError, OSError, ValueError, ArithmeticError, RuntimeError, MemoryError) as error:
        raise MediaError(f"{path}: {what} cannot be decoded ({_reason(error)})", "the file may be damaged; try to play it") from error


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__).lower()


def picture_track(container: InputContainer) -> Any | None:
    """The track whose pictures are asked about. A cover image is a picture of the album, not of the clip."""
    import av

    moving = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic and s.codec_context is not None]
    if not moving:
        return None
    best = container.streams.best("video")
    return best if best in moving else moving[0]


def sound_track(container: InputContainer) -> Any | None:
    best = container.streams.best("audio")
    return best if best is not None and best.codec_context is not None else None


def has_cover(container: InputContainer) -> bool:
    import av

    return any(s.disposition & av.stream.Disposition.attached_pic for s in container.streams.video)


def origin_s(container: InputContainer) -> float:
    """The time stamp that counts as second zero: a file's clock may start anywhere (MPEG-TS). What lies before 0 only primes decoders."""
    return max(0, container.start_time or 0) * MICROSECOND


def packets(container: InputContainer, stream: Any) -> Iterator[Any]:
    """The packets of one track in decoding order; damaged stretches are stepped over, and the end is the end."""
    import av

    for _ in range(_DAMAGED_PACKETS):
        try:
            for packet in container.demux(stream):
                if packet.size:  # the last, empty one only tells decoders to drain
                    yield packet
            return
        except av.FFmpegError:
            continue


def _duration(container: InputContainer) -> float:
    """Seconds by the container's word, else by the longest track's; 0 where neither says."""
    if container.duration and container.duration > 0:
        return float(container.duration * MICROSECOND)
    return max((seconds for s in container.streams if (seconds := track_duration(s))), default=0.0)


def track_duration(stream: Any) -> float | None:
    return float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None


def _with_counted_duration(facts: SourceFacts) -> SourceFacts:
    """Streams written live (and single pictures) do not say how long they are: read to the end and look."""
    from dataclasses import replace

    end = 0.0
    with open_media(Path(facts.path)) as container:
        track = picture_track(container) or sound_track(container)
        for packet in packets(container, track):
            if packet.pts is not None and packet.time_base is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base) - origin_s(container))
    return replace(facts, duration_s=end)


def _video_facts(container: InputContainer, stream: Any) -> VideoStream:
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    context = stream.codec_context
    return VideoStream(
        codec=context.name,
        width=context.width,
        height=context.height,
        fps=float(rate),
        duration_s=track_duration(stream),
        rotation_deg=_rotation(container, stream),
        frames=stream.frames or None,
    )


def _rotation(container: InputContainer, stream: Any) -> int:
    """Counter-clockwise degrees that bring the stored picture upright: 0, 90, 180 or 270."""
    import av

    try:
        for packet in packets(container, stream):
            for frame in stream.codec_context.decode(packet):
                return int(round(frame.rotation / 90) * 90 % 360)
    except av.FFmpegError:
        pass  # a damaged first picture; decoding will say so
    return 0


def _audio_facts(stream: Any) -> AudioStream:
    context = stream.codec_context
    return AudioStream(context.name, context.sample_rate or 0, context.layout.nb_channels, track_duration(stream))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
