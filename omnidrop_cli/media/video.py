"""A picture track becomes a few small frames: decoded as little as possible, shrunk one by one.

Knows: PyAV's decoder and scaler. Does not know: which moments are wanted, or why (`sampling.py`, `clip.py`).

Three things make it quick, and none changes a pixel: groups of pictures without a wanted frame are not decoded, or leapt over;
frames that nothing is predicted from are skipped inside the others (`skip_frame`); and the decoder's threads keep all cores busy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omnidrop_cli.media.probe import open_media, origin_s, packets, picture_track
from omnidrop_cli.media.seek_plan import Action, PacketIndex, Row, index_packets, plan

if TYPE_CHECKING:
    from av.container import InputContainer
    from numpy.typing import NDArray

_LEAP = 256
"""Packets in a row that are worth a seek rather than reading on."""

_THREADS_PER_CORE, _THREADS_MOST = 4, 16
"""Each thread of the decoder holds one packet. Of a track with B-frames most packets are skipped, so with a thread per core the cores
wait: a minute of 1080p takes a third longer. Sixteen is the decoder's own limit; each thread costs the memory of a few frames."""

_QUALITY = 0x4 | 0x40000 | 0x2000 | 0x4000
"""SWS_BICUBIC, SWS_ACCURATE_RND, SWS_FULL_CHR_H_INT, SWS_FULL_CHR_H_INP (libswscale/swscale.h); PyAV names the last three since 18."""


def read_index(path: Path, fps: float) -> PacketIndex:
    """The index of a file's picture track. Nothing is decoded. May be empty."""
    with open_media(path) as container:
        stream: Any = picture_track(container)  # the facts name one
        rows = [Row(p.pts, p.duration, p.is_keyframe, not (p.is_discard or p.is_corrupt)) for p in packets(container, stream)]
        return index_packets(rows, float(stream.time_base), origin_s(container), fps)


def read_frames(
    path: Path, index: PacketIndex, wanted: NDArray[np.int64], size: tuple[int, int], rotation_deg: int, advance: Callable[[int], None]
) -> tuple[NDArray[np.uint8], int]:
    """The pictures of the packets `wanted` (T,), in that order, as (T, 3, H, W) RGB, upright; and how many could not be decoded.

    A picture that cannot be decoded is replaced by the one before it. `advance` hears how many are done. (0, 3, H, W) if none decodes.
    """
    slots: dict[int, list[int]] = {}
    for slot, packet in enumerate(wanted):
        slots.setdefault(int(index.pts[packet]), []).append(slot)
    frames = np.zeros((len(wanted), 3, *size), np.uint8)
    filled = np.zeros(len(wanted), bool)
    shrink = shrinker(size, rotation_deg)
    economical = plan(index, wanted) if index.timed else None
    everything = np.full(len(index), Action.SHOW, np.int8)
    # The plan trusts time stamps and key frame flags. Where a wanted picture stays away, they lied: decode it all.
    for actions in (economical, everything):
        if actions is None or filled.all():
            continue
        with open_media(path) as container:
            for pts, frame in _decode(container, index, actions):
                for slot in slots.pop(pts, ()):
                    frames[slot], filled[slot] = shrink(frame), True
                if not slots:
                    break
                advance(int(filled.sum()))
    if not filled.any():
        return frames[:0], len(wanted)
    nearest = np.maximum.accumulate(np.where(filled, np.arange(len(wanted)), int(filled.argmax())))
    return frames if filled.all() else frames[nearest], int((~filled).sum())


def _decode(container: InputContainer, index: PacketIndex, actions: NDArray[np.int8]) -> Iterator[tuple[int, Any]]:
    """(pts, frame) for every frame that the plan lets through, in order of presentation."""
    import av

    stream: Any = picture_track(container)  # an index exists, so does the track
    codec = stream.codec_context
    codec.thread_type = "AUTO"
    if codec.has_b_frames:
        codec.thread_count = min(_THREADS_MOST, _THREADS_PER_CORE * (os.cpu_count() or 1))
    codec.open(strict=False)  # dav1d obeys the `skip_frame` it is opened with for ever: that must be to skip nothing
    place = {int(pts): i for i, pts in enumerate(index.pts)}
    needed = np.flatnonzero(actions != Action.DROP)
    count, last, leapt_to = 0, -1, -1

    def decode(packet: Any) -> Iterator[tuple[int, Any]]:
        nonlocal count
        try:
            for frame in codec.decode(packet):
                yield (frame.pts if index.timed else count), frame
                count += 1
        except av.FFmpegError:
            return  # a damaged packet: the frames after it may still be whole

    for packet in packets(container, stream):
        # Packets without times are all decoded, in order; so is the second field of a picture, right after its first.
        here = place.get(packet.pts, last) if index.timed else last + 1
        action = actions[here] if 0 <= here < len(actions) else Action.SHOW
        if action == Action.DROP:
            ahead = int(np.searchsorted(needed, here))
            if ahead == len(needed):
                break
            target = int(needed[ahead])
            if target - here > _LEAP and target != leapt_to:
                leapt_to = target
                yield from decode(None)
                container.seek(int(index.pts[target]), stream=stream)
            continue
        if here > last + 1 and last >= 0:
            yield from decode(None)
            codec.flush_buffers()
        wish = "DEFAULT" if action == Action.SHOW else "NONREF"
        if codec.skip_frame != wish:
            codec.skip_frame = wish
        last = here
        yield from decode(packet)
    yield from decode(None)


def shrinker(size: tuple[int, int], rotation_deg: int) -> Callable[[Any], NDArray[np.uint8]]:
    """Turns a decoded frame into (3, H, W) RGB at the model's size, upright.

    swscale's bicubic filter widens with the ratio, so it antialiases as torch's does, at a fifteenth of its cost. Full chroma is what
    matters: against torch's antialiased bicubic on the full-size RGB frame it gives 37-39 dB, the area filter 36-38 dB, and either
    without it 29 dB.
    """
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()
    height, width = size if rotation_deg % 180 == 0 else size[::-1]

    def shrink(frame: Any) -> NDArray[np.uint8]:
        small = reformatter.reformat(frame, width=width, height=height, format="rgb24", interpolation=_QUALITY).to_ndarray()
        upright: NDArray[np.uint8] = np.rot90(small, rotation_deg // 90)
        return upright.transpose(2, 0, 1)

    return shrink
