"""Decodes the wanted frames of a video track: as few packets as possible, each frame shrunk to the model's size at once.

Three things make it quick, and none changes a pixel: groups of frames without a wanted one are not decoded, or leapt over; frames that
nothing is predicted from are skipped inside the others (`skip_frame`); and the decoder's threads keep all cores busy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from omnidrop_cli.media.container import Source, may_jump, open_media, packets, video_track
from omnidrop_cli.media.packets import DECODER_ERRORS, Numbering
from omnidrop_cli.media.seek_plan import Action, plan

if TYPE_CHECKING:
    from av.container import InputContainer
    from numpy.typing import NDArray

    from omnidrop_cli.media.frame_choice import FrameChoice
    from omnidrop_cli.media.timeline import VideoTrack
    from omnidrop_cli.outputs import VideoStream

_LEAP = 256
"""Packets in a row that are worth a seek rather than reading on."""

_LOST = 64
"""Packets after a seek among which a known one must be, else the track is read without seeks."""

_MARGIN_S = 0.5
_THREADS_PER_CORE, _THREADS_MOST = 4, 16
"""Each thread of the decoder holds one packet. Of a track with B-frames most packets are skipped, so with a thread per core the cores
wait: a minute of 1080p takes a third longer. Sixteen is the decoder's own limit; each thread costs the memory of a few frames."""

_THREADS_PIXELS = 1 << 28
"""Pixels that all threads may hold: 16 threads up to 5K, 8 at 8K."""

_SAME_SHAPE = 0.02
"""Relative difference of two aspect ratios that counts as none."""

_QUALITY = 0x4 | 0x40000 | 0x2000 | 0x4000
"""SWS_BICUBIC, SWS_ACCURATE_RND, SWS_FULL_CHR_H_INT, SWS_FULL_CHR_H_INP (libswscale/swscale.h); PyAV names the last three since 18."""


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """`pixels` uint8 (T, 3, H, W), RGB, upright; `lost` of them could not be decoded and repeat the frame before."""

    pixels: NDArray[np.uint8]
    lost: int


def read_frames(source: Source, track: VideoTrack, choice: FrameChoice, video: VideoStream, advance: Callable[[int], None]) -> Frames:
    """Decodes the frames of `choice`. Without a single one that can be decoded, `pixels` is (0, 3, H, W).

    `advance` is called with the number of frames done.
    """
    slots: dict[int, list[int]] = {}
    for slot, packet in enumerate(choice.packets):
        slots.setdefault(int(packet), []).append(slot)
    frames = np.zeros((len(choice.packets), 3, *choice.size), np.uint8)
    filled = np.zeros(len(frames), bool)
    shrink = shrinker(choice.size, video)
    for actions, leap in _attempts(track, choice.packets):
        if filled.all():
            break
        for number, frame in _decode(source, track, actions, leap):
            for slot in slots.pop(number, ()):
                frames[slot], filled[slot] = shrink(frame), True
            if not slots:
                break
            advance(int(filled.sum()))
    if not filled.any():
        return Frames(frames[:0], len(frames))
    if not filled.all():
        frames = frames[np.maximum.accumulate(np.where(filled, np.arange(len(frames)), int(filled.argmax())))]
    return Frames(frames, int((~filled).sum()))


def _attempts(track: VideoTrack, wanted: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int8], bool]]:
    """(actions, whether to seek), from the most economical. Plans trust time stamps and key frames: where a frame stays away, they lied."""
    if track.timed:
        economical = plan(track, wanted)
        if not track.stretch.any():  # a seek goes by time stamps, which would name several places
            yield economical, True
        yield economical, False
    everything = np.full(len(track), Action.SHOW, np.int8)
    if track.keyframe.any():
        everything[: int(track.keyframe.argmax())] = Action.DROP
    yield everything, False


def _decode(source: Source, track: VideoTrack, actions: NDArray[np.int8], leap: bool) -> Iterator[tuple[int, Any]]:
    """(number of its packet, frame) for every frame that the plan lets through."""
    for part in np.unique(track.part[actions != Action.DROP]):
        with open_media(source, int(part)) as container:
            yield from _PartDecoder(container, track, int(part)).decode(actions, leap)


def _threads(width: int, height: int) -> int:
    """How many threads decode pictures of this size."""
    most = max(1, _THREADS_PIXELS // max(1, width * height))
    return min(_THREADS_MOST, most, _THREADS_PER_CORE * (os.cpu_count() or 1))


class _PartDecoder:
    """Decodes the video track of one part of a file."""

    def __init__(self, container: InputContainer, track: VideoTrack, part: int) -> None:
        self._container, self._track = container, track
        stream: Any = video_track(container)
        self._stream = stream
        self._numbering = Numbering(track, part)
        # MPEG-TS and MPEG-PS are searched by decoding time, which lies before the time stamp.
        self._margin = round(_MARGIN_S / stream.time_base) if may_jump(container) else 0
        self._shown = int(np.flatnonzero(track.part == part)[0])
        """The number of the next frame, where frames are counted."""
        codec: Any = stream.codec_context
        self._codec = codec
        codec.thread_type = "AUTO"
        if codec.has_b_frames:
            codec.thread_count = _threads(codec.width, codec.height)
        codec.open(strict=False)  # dav1d obeys the `skip_frame` it is opened with for ever: that must be to skip nothing

    def decode(self, actions: NDArray[np.int8], leap: bool) -> Iterator[tuple[int, Any]]:
        needed = np.flatnonzero(actions != Action.DROP)
        last, leapt_to, unknown = -1, -1, 0
        for packet in packets(self._container, self._stream):
            here = self._numbering.of(packet)
            if here is None:
                unknown += 1
                if leapt_to >= 0 and unknown > _LOST:
                    return
                continue
            unknown = 0
            if actions[here] == Action.DROP:
                ahead = int(np.searchsorted(needed, here))
                if ahead == len(needed):
                    break
                target = int(needed[ahead])
                if leap and target - here > _LEAP and target != leapt_to:
                    leapt_to = target
                    yield from self._frames(None)
                    self._container.seek(int(self._track.pts[target]) - self._margin, stream=self._stream)
                continue
            if here > last + 1 and last >= 0:
                yield from self._frames(None)
                self._codec.flush_buffers()
            last = here
            wish = "DEFAULT" if actions[here] == Action.SHOW else "NONREF"
            if self._codec.skip_frame != wish:
                self._codec.skip_frame = wish
            if self._track.timed:
                packet.pts = here  # decoders hand a packet's time stamp on to its frame
            yield from self._frames(packet)
        yield from self._frames(None)

    def _frames(self, packet: Any) -> Iterator[tuple[int, Any]]:
        """Decodes a packet, or drains the decoder. Behind a damaged packet the next frames may be whole."""
        import av

        try:
            frames = self._codec.decode(packet)
        except (av.FFmpegError, *DECODER_ERRORS):
            return
        for frame in frames:
            number = frame.pts if self._track.timed else self._shown
            self._shown += 1
            if number is not None:
                yield number, frame


def shrinker(size: tuple[int, int], video: VideoStream) -> Callable[[Any], NDArray[np.uint8]]:
    """Returns what turns a decoded frame into (3, H, W) RGB, upright, at `size`, (H, W).

    A frame of another shape than the track's first (a size that changes in mid-stream) keeps its shape between black bars. What is
    transparent is white, as in qwen-omni-utils (`to_rgb`).

    swscale's bicubic filter widens with the ratio, so it antialiases as torch's does, at a fifteenth of its cost. Full chroma is what
    matters: against torch's antialiased bicubic on the full-size RGB frame it gives 37-39 dB, the area filter 36-38 dB, and either
    without it 29 dB.
    """
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()
    turns, sideways = video.rotation_deg // 90, video.rotation_deg % 180 != 0
    stored = size[::-1] if sideways else size
    shape = video.width / video.height

    def shrink(frame: Any) -> NDArray[np.uint8]:
        height, width = stored
        frame = _on_white(frame)
        relative = frame.width / frame.height / shape
        if abs(relative - 1) > _SAME_SHAPE:
            height, width = (max(1, round(height / relative)), width) if relative > 1 else (height, max(1, round(width * relative)))
        small: NDArray[Any] = reformatter.reformat(frame, width=width, height=height, format="rgb24", interpolation=_QUALITY).to_ndarray()
        if (height, width) != stored:
            small = _between_bars(small, stored)
        mirrored = small[:, ::-1] if video.mirrored else small
        upright: NDArray[np.uint8] = np.rot90(mirrored, turns)
        return upright.transpose(2, 0, 1)

    return shrink


def _on_white(frame: Any) -> Any:
    """A frame with transparent pixels on white, at its own size, so that no hidden colour bleeds into the edges; else the frame."""
    if not (frame.format.has_palette or any(component.is_alpha for component in frame.format.components)):
        return frame
    import av

    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgba")
    alpha = pixels[..., 3:].astype(np.uint16)
    if alpha.min() == 255:
        return frame
    return av.VideoFrame.from_ndarray(((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8), format="rgb24")


def _between_bars(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """`picture` (h, w, 3) in the middle of a black one of `size`."""
    canvas = np.zeros((*size, 3), np.uint8)
    top, left = (size[0] - picture.shape[0]) // 2, (size[1] - picture.shape[1]) // 2
    canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return canvas
