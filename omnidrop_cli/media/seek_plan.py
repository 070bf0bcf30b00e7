"""Which packets of a picture track have to be decoded: arithmetic over one reading of the track without decoding it.

Knows: presentation times, key frames, decoding order. Does not know: decoders (`video.py` runs the plan).

Reading a track's packets costs about a hundredth of decoding them, and tells what no header does: the true times of a track with
a variable rate, where a damaged file ends, and which stretches hold no wanted frame at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Action(IntEnum):
    """What to do with a packet. `REFERENCE`: decode it only if other frames are predicted from it."""

    DROP = 0
    REFERENCE = 1
    SHOW = 2


class Row(NamedTuple):
    """One packet; times in the track's ticks, None where it bears none."""

    pts: int | None
    duration: int | None
    keyframe: bool
    shown: bool


@dataclass(frozen=True, slots=True, eq=False)
class PacketIndex:
    """The packets of a picture track in decoding order; all arrays (n,).

    `pts` is int64 in the track's own ticks and unique; `times_s` are the same moments in seconds of the file; `keyframe` marks where
    decoding may begin; `shown` is False for packets that the container hides (edit lists) or calls corrupt. `frame_s` is the usual
    length of a frame, `end_s` the moment at which the last one leaves. `timed` is False where the packets bear no times: `pts` then
    counts frames.
    """

    pts: NDArray[np.int64]
    times_s: NDArray[np.float64]
    keyframe: NDArray[np.bool_]
    shown: NDArray[np.bool_]
    frame_s: float
    end_s: float
    timed: bool

    def __len__(self) -> int:
        return len(self.pts)

    def within(self, start_s: float, end_s: float) -> NDArray[np.int64]:
        """Packets whose pictures begin in [start_s, end_s) or stand there from before, in order of presentation."""
        order = np.argsort(self.times_s, kind="stable")
        order = order[self.shown[order]]
        times = self.times_s[order]
        standing = max(0, int(np.searchsorted(times, start_s + self.frame_s / 2, side="right")) - 1)
        # A hair over the end belongs to the next second: 2.9999999 s is three seconds.
        return order[standing:][times[standing:] < end_s - 1e-6]


def index_packets(rows: Sequence[Row], seconds_per_tick: float, origin_s: float, fps: float) -> PacketIndex:
    """The index of `rows` in decoding order. `fps` stands in where there are no times."""
    stamps = [row.pts for row in rows if row.pts is not None]
    timed = len(stamps) == len(rows)
    if timed:
        # Two packets of one time are one picture in two fields, or damage: the first stands for both.
        first = np.sort(np.unique(np.array(stamps, np.int64), return_index=True)[1])
        rows = [rows[i] for i in first]
        pts = np.array(stamps, np.int64)[first]
        times = pts.astype(np.float64) * seconds_per_tick - origin_s
    else:
        pts = np.arange(len(rows), dtype=np.int64)
        times = pts.astype(np.float64) / fps
    steps = np.diff(np.sort(times))
    frame_s = float(np.median(steps)) if len(steps) else 1 / fps
    last = int(times.argmax()) if len(rows) else -1
    return PacketIndex(
        pts=pts,
        times_s=times,
        keyframe=np.array([row.keyframe for row in rows], bool),
        shown=np.array([row.shown for row in rows], bool),
        frame_s=frame_s,
        end_s=float(times[last]) + max(frame_s, (rows[last].duration or 0) * seconds_per_tick) if len(rows) else 0.0,
        timed=timed,
    )


def plan(index: PacketIndex, wanted: NDArray[np.int64]) -> NDArray[np.int8]:
    """(n,) `Action` per packet so that the packets `wanted` give the very pictures a full decode gives.

    From the key frame a wanted picture depends on up to the picture itself, and nothing else. A picture shown before the key frame it
    follows in decoding order (a leading picture of an open group) depends on the group before as well.
    """
    actions = np.full(len(index), Action.DROP, np.int8)
    keys = np.flatnonzero(index.keyframe)
    for packet in wanted:
        group = int(np.searchsorted(keys, packet, side="right")) - 1
        if group >= 0 and index.pts[packet] < index.pts[keys[group]]:
            group -= 1
        first = int(keys[group]) if group >= 0 else 0
        actions[first : packet + 1] = np.maximum(actions[first : packet + 1], Action.REFERENCE)
    actions[wanted] = Action.SHOW
    return actions
