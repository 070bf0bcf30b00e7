"""Repairs the clock of a file: arithmetic over the time stamps of its packets, in seconds; nothing is decoded.

Time stamps may be missing, wrong on single packets, start again (joined recordings), or jump ahead. Out come stretches in which all tracks
share one clock that runs forward, and the moments at which nothing was recorded and the clock is set back to where it stood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Seconds = NDArray[np.float64]
    Indices = NDArray[np.int64]

HOLE_S = 5.0
"""A longer time without a packet of any track is a jump of the clock, not a pause. (ffmpeg's `dts_delta_threshold` is 10 s.)"""

HOLD_S = 1800.0
"""A picture in a file without audio may stay this long; after that it is a jump as well."""

_BACK_S = 0.3
"""A clock that runs back by more starts again; less is jitter."""

_SKEW_S = 1.0
"""How far two tracks may lie apart at one place of a file."""

_DEPTH = 17
"""Packets after which a picture has left the decoder: no codec reorders more than sixteen."""

_SHORT_RUN = 8
"""Up to this many packets in a row may bear a damaged time stamp."""


@dataclass(slots=True, eq=False)
class TrackClock:
    """The time stamps of one track in decoding order. All arrays (n,).

    `order` is a packet's place among the packets of all tracks; `decode_s` runs forward but where the clock starts again; `shown_s` is
    the presentation time; `length_s` how long a packet lasts. No value is missing.
    """

    order: Indices
    decode_s: Seconds
    shown_s: Seconds
    length_s: Seconds


def clean(order: Indices, pts_s: Seconds, dts_s: Seconds, length_s: Seconds) -> TrackClock:
    """Fills in time stamps that are missing (NaN) and replaces damaged ones."""
    given = pts_s if np.isnan(dts_s).all() else dts_s
    dts = _without_outliers(given)
    decode = _filled(dts, length_s)
    ahead = pts_s - decode
    usual = float(np.nanmedian(ahead)) if not np.isnan(ahead).all() else 0.0
    # What damages a packet's decoding time mostly moves its presentation time by as much.
    moved = np.where(np.isnan(dts) & ~np.isnan(given), decode - given, 0.0)
    pts = np.where(np.abs(ahead + moved - usual) < np.abs(ahead - usual), pts_s + moved, pts_s)
    # A picture is shown when or after it is decoded, and before the decoder could forget it. The clock may start again before that.
    forgotten = np.maximum(np.append(decode, np.full(_DEPTH, np.inf))[_DEPTH:], decode) + HOLE_S
    wrong = np.isnan(pts) | (pts < decode - _SKEW_S) | (pts > forgotten)
    shown = np.where(wrong, decode + usual, pts)
    _follow_jumps(decode, shown)
    return TrackClock(order, decode, shown, length_s)


def _follow_jumps(decode: Seconds, shown: Seconds) -> None:
    """Moves the decoding times (in place) of pictures from behind a jump ahead which a reader still placed before it."""
    for jump in np.flatnonzero(np.diff(decode) > HOLE_S) + 1:
        first = int(jump)
        while first > 0 and jump - first < _DEPTH and shown[first - 1] >= decode[jump] - _SKEW_S:
            first -= 1
        decode[first:jump] = decode[jump]


def _without_outliers(times: Seconds) -> Seconds:
    """`times` with NaN in place of short runs that jump away and come back."""
    known = np.flatnonzero(~np.isnan(times))
    values = times[known]
    steps = np.diff(values)
    jumps = np.flatnonzero(np.abs(steps) > _BACK_S)
    if len(jumps) < 2:
        return times
    first, behind = jumps[:-1] + 1, jumps[1:] + 1
    back_s = values[behind] - values[first - 1]
    wrong = (behind - first <= _SHORT_RUN) & (steps[jumps[:-1]] * steps[jumps[1:]] < 0) & (back_s > -_BACK_S) & (back_s <= HOLE_S)
    repaired = times.copy()
    for a, b in zip(first[wrong], behind[wrong], strict=True):
        repaired[known[a:b]] = np.nan
    return repaired


def _filled(times: Seconds, length_s: Seconds) -> Seconds:
    """`times` where known; elsewhere each packet follows the one before."""
    passed = np.cumsum(length_s) - length_s
    known = np.flatnonzero(~np.isnan(times))
    if not len(known):
        return passed
    anchor = known[np.clip(np.searchsorted(known, np.arange(len(times)), side="right") - 1, 0, None)]
    filled: Seconds = times[anchor] + passed - passed[anchor]
    return filled


def split_at_breaks(clocks: Sequence[TrackClock]) -> list[Indices]:
    """For each of at most two tracks, the stretch (0, 1, ...) that every packet belongs to; within one, the tracks share a clock.

    Where both tracks start again or jump ahead at about the same place of the file, or one starts again where the other shows the same
    time, a new stretch begins for both. A track that leaves the other one's time alone is moved back to it: its times change in place.
    """
    breaks = [_breaks(clock) for clock in clocks]
    starts: list[list[tuple[int, int]]] = [[(0, 0)] for _ in clocks]
    events = sorted((int(clock.order[i]), which, int(i)) for which, clock in enumerate(clocks) for i in breaks[which])
    for place, which, i in events:
        mine, latest = clocks[which], max(s[-1][1] for s in starts)
        back = bool(mine.decode_s[i] < mine.decode_s[i - 1])
        behind = starts[which][-1][1] < latest  # the other track was first
        k = int(np.searchsorted(clocks[1 - which].order, place)) if len(clocks) > 1 else 0
        if len(clocks) == 1 or k == len(clocks[1 - which].order):
            if back or behind:
                starts[which].append((i, latest + (not behind)))
            continue  # a jump ahead of one track is judged by `jumps_among`
        other = clocks[1 - which]
        apart_s = float(other.decode_s[k] - mine.decode_s[i])
        if behind and (back or abs(apart_s) <= HOLE_S):
            starts[which].append((i, starts[which][-1][1] + 1))
        elif not back and abs(apart_s) <= HOLE_S:
            continue  # a pause of one track
        elif _follows(mine, other, breaks[1 - which], k):
            starts[which].append((i, latest + 1))
        elif back and abs(apart_s) <= _SKEW_S:
            starts[which].append((i, latest + 1))
            starts[1 - which].append((k, latest + 1))
        elif back or -_SKEW_S <= float(other.decode_s[k] - mine.decode_s[i - 1]) <= max(HOLE_S, float(mine.length_s[i - 1])):
            end = int(min((b for b in breaks[which] if b > i), default=len(mine.order)))
            mine.decode_s[i:end] += apart_s
            mine.shown_s[i:end] += apart_s
    return [_labels(s, len(clock.order)) for s, clock in zip(starts, clocks, strict=True)]


def _breaks(clock: TrackClock) -> Indices:
    """Packets before which the clock starts again or jumps ahead."""
    steps = np.diff(clock.decode_s)
    found: Indices = np.flatnonzero((steps < -_BACK_S) | (steps - clock.length_s[:-1] > HOLE_S)) + 1
    return found


def _follows(mine: TrackClock, other: TrackClock, breaks: Indices, k: int) -> bool:
    """Whether track `other` breaks soon after its packet `k`, to the time that track `mine` shows at that place of the file."""
    following = breaks[breaks >= k]
    if not len(following):
        return False
    there = int(following[0])
    at = int(np.searchsorted(mine.order, other.order[there])) - 1
    return at >= 0 and abs(float(other.decode_s[there] - mine.decode_s[at])) <= HOLE_S


def _labels(starts: list[tuple[int, int]], count: int) -> Indices:
    labels = np.zeros(count, np.int64)
    for index, label in starts:
        labels[index:] = label
    return labels


@dataclass(frozen=True, slots=True, eq=False)
class Holes:
    """Times without a packet of any track: `at_s` (k,) ascending, the first moment after each, and how long it was, `by_s` (k,)."""

    at_s: Seconds
    by_s: Seconds

    def __getitem__(self, which: NDArray[np.bool_]) -> Holes:
        return Holes(self.at_s[which], self.by_s[which])

    def closed(self, times: Seconds) -> Seconds:
        """`times` with the holes taken out."""
        total = np.concatenate([[0.0], np.cumsum(self.by_s)])
        moved: Seconds = times - total[np.searchsorted(self.at_s, times + 1e-9, side="right")]
        return moved


def find_holes(starts_s: Seconds, lengths_s: Seconds, least_s: float) -> Holes:
    """The holes longer than `least_s` between the packets of all tracks of a stretch, in any order."""
    by_time = np.argsort(starts_s, kind="stable")
    starts, ends = starts_s[by_time], np.maximum.accumulate((starts_s + lengths_s)[by_time])
    holes_s = starts[1:] - ends[:-1]
    found = np.flatnonzero(holes_s > least_s)
    return Holes(starts[found + 1], holes_s[found])


def jumps_among(holes: Holes, last_audio_s: float, jumping_format: bool) -> Holes:
    """The holes that are jumps of the clock.

    A long hole is a picture that stays where no audio follows (`last_audio_s` is the start of the last audio packet, -inf without any) and
    time stamps of this format do not jump.
    """
    limit_s = np.where((holes.at_s > last_audio_s) & (not jumping_format), HOLD_S, HOLE_S)
    return holes[holes.by_s > limit_s]
