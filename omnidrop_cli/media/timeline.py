"""When every packet of a clip is shown or heard: one clock for both tracks that begins at 0 and never jumps.

In come the packets of the chosen tracks as the container gives them (`probe.py` reads them without decoding); out comes a `Timeline`.
Everything that follows is planned and decoded by it, so that a clip has one length and its tracks stay together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from omnidrop_cli.media.clock import HOLD_S, Holes, TrackClock, clean, find_holes, jumps_among, split_at_breaks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Seconds = NDArray[np.float64]
    Flags = NDArray[np.bool_]

_SNAP_S = 0.005
"""A clip that begins this little before 0 begins at 0: rounded time stamps."""

_NOTICEABLE_S = 0.5
_FEW = 3
"""So few changes of the picture show no steady rate."""

_SPARSE, _SPARSE_S = 30.0, 60.0
"""Largest factor by which an audio track may outlast its packets, and the seconds beyond that (silence that is not transmitted)."""


@dataclass(frozen=True, slots=True, eq=False)
class TrackPackets:
    """The packets of one track in decoding order, as a container gives them. Arrays (n,); times are NaN where missing.

    `order` is the place among the packets of both tracks, `place` the byte in the file, -1 where it is not known;
    `pts` is int64 in ticks (`NO_PTS` where missing) and names a packet together
    with its `size`; `hidden` packets are not shown (damage, or `outside` of what an edit list plays); `skip_s` is cut from the front,
    `trim_s` from the end.
    `usual_s` is the length of a packet that does not say how long it is, `longest_s` what one can hold at most, `held_s` what the first
    decoded one of audio did hold.
    """

    order: NDArray[np.int64]
    place: NDArray[np.int64]
    pts: NDArray[np.int64]
    size: NDArray[np.int64]
    pts_s: Seconds
    dts_s: Seconds
    length_s: Seconds
    keyframe: Flags
    hidden: Flags
    outside: Flags
    skip_s: Seconds
    trim_s: Seconds
    usual_s: float
    longest_s: float
    held_s: float

    def __len__(self) -> int:
        return len(self.pts)

    def clock(self) -> TrackClock:
        """The repaired time stamps. Those of packets outside of an edit list may lie anywhere: their clock is that of what follows."""
        lengths = np.where(self.length_s > 0, self.length_s, self.usual_s)
        lengths = np.where(lengths > self.longest_s, self.usual_s, lengths).clip(max=self.longest_s)
        played = np.flatnonzero(~self.outside)
        if len(played) in (0, len(self)):
            return clean(self.order, self.pts_s, self.dts_s, lengths)
        inside = clean(self.order[played], self.pts_s[played], self.dts_s[played], lengths[played])
        decode = inside.decode_s[np.searchsorted(played, np.arange(len(self))).clip(max=len(played) - 1)]
        shown = np.where(np.isnan(self.pts_s), decode, self.pts_s)
        shown[played] = inside.shown_s
        return TrackClock(self.order, decode, shown, lengths)


NO_PTS = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True, eq=False)
class VideoTrack:
    """The packets of the video track in decoding order. Arrays (n,).

    `times_s` is when a packet's picture appears; `keyframe` marks where decoding may begin; pictures that are not `shown` are hidden by
    the container, damaged, or depend on packets that are missing. `part` is the part of the file, `stretch` the piece of it with a clock
    of its own. `frame_s` is the usual time between pictures; `end_s` the moment at which the last one leaves.
    `timed` is False where packets bear no time stamps: pictures are then counted.
    """

    times_s: Seconds
    keyframe: Flags
    shown: Flags
    part: NDArray[np.int64]
    stretch: NDArray[np.int64]
    pts: NDArray[np.int64]
    size: NDArray[np.int64]
    frame_s: float
    end_s: float
    timed: bool
    held: bool
    """Some pictures stay much longer than usual: slides, a screen recording."""

    def __len__(self) -> int:
        return len(self.times_s)

    def within(self, start_s: float, end_s: float) -> NDArray[np.int64]:
        """Packets whose pictures appear in [start_s, end_s) or stand there from before, in order of presentation."""
        order = np.argsort(self.times_s, kind="stable")
        order = order[self.shown[order]]
        times = self.times_s[order]
        standing = max(0, int(np.searchsorted(times, start_s + self.ahead_s, side="right")) - 1)
        # A hair over the end belongs to the next second: 2.9999999 s is three seconds.
        return order[standing:][times[standing:] < end_s - 1e-6]

    @property
    def ahead_s(self) -> float:
        """How much later than a moment a picture may appear and still stand for it: half a usual frame."""
        return min(self.frame_s, 0.1 if self.held else self.frame_s) / 2


@dataclass(frozen=True, slots=True, eq=False)
class AudioTrack:
    """The packets of the audio track in decoding order. Arrays (n,).

    `times_s` is where a packet's time stamp lies, `heard_s` and `ends_s` when it is heard, `part` the part of the file.
    """

    times_s: Seconds
    heard_s: Seconds
    ends_s: Seconds
    part: NDArray[np.int64]
    pts: NDArray[np.int64]
    size: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.times_s)

    @property
    def end_s(self) -> float:
        """The end of the last sample."""
        return float(self.ends_s.max())

    def samples_within(self, start_s: float, end_s: float, rate_hz: int) -> int:
        """How many samples from `start_s` to the track's end or `end_s`; 0 where no packet is heard in that time."""
        heard = (self.heard_s < end_s - 1e-6) & (self.ends_s > np.maximum(self.heard_s, start_s) + 1e-6)
        if not heard.any():
            return 0
        return max(0, round((min(end_s, float(self.ends_s[heard].max())) - start_s) * rate_hz))

    def held_s(self, start_s: float, end_s: float) -> float:
        """Seconds between `start_s` and `end_s` for which there are packets."""
        return float((np.minimum(self.ends_s, end_s) - np.maximum(self.heard_s, start_s)).clip(0).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Both tracks of a clip on one clock, its length, and what was repaired, one sentence each."""

    video: VideoTrack | None
    audio: AudioTrack | None
    end_s: float
    notes: tuple[str, ...]


@dataclass(slots=True, eq=False)
class _Placed:
    """One track of one part on the clip's clock."""

    packets: TrackPackets
    clock: TrackClock
    stretch: NDArray[np.int64]
    shown: Flags
    times_s: Seconds
    heard_s: Seconds
    ends_s: Seconds
    is_video: bool


@dataclass(slots=True)
class _Joints:
    """Where stretches were joined: moments at which the clock starts again, jumps ahead (and by how much), or nothing was recorded."""

    restarts_s: list[float] = field(default_factory=list)
    jumps_s: list[tuple[float, float]] = field(default_factory=list)
    pauses_s: list[tuple[float, float]] = field(default_factory=list)
    raw_end_s: float | None = None
    """Where the stretch before ends on its own clock; None at the beginning of a part."""

    def begin(self, at_s: float, raw_first_s: float, raw_end_s: float) -> None:
        """A stretch was placed at `at_s` that lasts from `raw_first_s` to `raw_end_s` on its own clock."""
        if self.raw_end_s is not None and raw_first_s < self.raw_end_s:
            self.restarts_s.append(at_s)
        elif self.raw_end_s is not None:
            self.jumps_s.append((at_s, raw_first_s - self.raw_end_s))
        self.raw_end_s = raw_end_s

    def note(self, holes: Holes, jumps: Holes, last_audio_s: float, shift_s: float) -> None:
        """Keeps the jumps within a stretch, and the pauses: shorter holes that audio follows."""
        pauses = holes[~np.isin(holes.at_s, jumps.at_s) & (holes.at_s <= last_audio_s)]
        ends_s = jumps.closed(pauses.at_s) + shift_s
        self.jumps_s += zip((jumps.closed(jumps.at_s) + shift_s).tolist(), jumps.by_s.tolist(), strict=True)
        self.pauses_s += zip((ends_s - pauses.by_s).tolist(), ends_s.tolist(), strict=True)


def build_timeline(parts: Sequence[tuple[TrackPackets | None, TrackPackets | None]], jumping_format: bool) -> Timeline:
    """The timeline of a file. `parts` are its (video, audio) packets; `jumping_format`: see `container.may_jump`."""
    joints = _Joints()
    placed: list[list[_Placed]] = []
    stretches, end_s = 0, 0.0
    for pair in parts:
        joints.raw_end_s = None
        tracks = [_unplaced(packets, which == 0) for which, packets in enumerate(pair) if packets is not None and len(packets)]
        labels = split_at_breaks([track.clock for track in tracks]) if tracks else []
        for track, label in zip(tracks, labels, strict=True):
            track.stretch = label + stretches
        first, stretches = stretches, stretches + 1 + max((int(label.max()) for label in labels), default=-1)
        for stretch in range(first, stretches):
            end_s = _append(tracks, stretch, end_s, jumping_format, joints)
        placed.append(tracks)
    audio, sparse = _audio_track(placed)
    video = _video_track(placed, 0.0 if audio is None else audio.end_s)
    end_s = max((track.end_s for track in (video, audio) if track is not None), default=0.0)
    if sparse:
        joints.pauses_s.clear()  # between packets that now follow each other
    notes = [*_notes(joints), *(["the time stamps of the audio are damaged: its packets are placed one after another"] if sparse else [])]
    return Timeline(video, audio, end_s, tuple(notes))


def _unplaced(packets: TrackPackets, is_video: bool) -> _Placed:
    clock = packets.clock()
    nothing = np.zeros(len(packets))
    return _Placed(packets, clock, nothing.astype(np.int64), ~packets.hidden, nothing, nothing.copy(), nothing.copy(), is_video)


def _append(tracks: Sequence[_Placed], stretch: int, end_s: float, jumping_format: bool, joints: _Joints) -> float:
    """Places the packets of one stretch behind what there is, which ends at `end_s`. Returns the new end."""
    pieces = [(track, np.flatnonzero(track.stretch == stretch)) for track in tracks]
    pieces = [(track, inside) for track, inside in pieces if len(inside)]
    for track, inside in pieces:
        track.shown[inside] = _shown(track, inside)
    played = [(track, _played(track, inside)) for track, inside in pieces]
    starts = np.concatenate([track.clock.shown_s[inside] for track, inside in played])
    lengths = np.concatenate([track.clock.length_s[inside] for track, inside in played])
    last_audio_s = max((float(t.clock.shown_s[i].max()) for t, i in pieces if not t.is_video), default=-np.inf)
    holes = find_holes(starts, lengths, _NOTICEABLE_S)
    jumps = jumps_among(holes, last_audio_s, jumping_format)
    first_s = min(_first_s(track, inside) for track, inside in pieces)
    if stretch == 0 and -_SNAP_S < first_s < 0:
        first_s = 0.0
    shift_s = end_s - float(jumps.closed(np.array([first_s]))[0])
    new_end_s = end_s
    for track, inside in pieces:
        begins = jumps.closed(track.clock.shown_s[inside]) + shift_s
        track.times_s[inside] = begins
        track.heard_s[inside] = begins + _skipped_s(track, inside)
        track.ends_s[inside] = begins + _audible_s(track, inside)
        kept = track.shown[inside]
        new_end_s = max(new_end_s, float(track.ends_s[inside][kept].max(initial=end_s)))
    joints.note(holes, jumps, last_audio_s, shift_s)
    joints.begin(end_s, float(starts.min()), float((starts + lengths).max()))
    return new_end_s


def _first_s(track: _Placed, inside: NDArray[np.int64]) -> float:
    """When the first picture is shown or the first sample heard, on the clock of the stretch."""
    kept = track.shown[inside] if track.shown[inside].any() else np.ones(len(inside), bool)
    return float((track.clock.shown_s[inside] + _skipped_s(track, inside))[kept].min())


def _played(track: _Placed, inside: NDArray[np.int64]) -> NDArray[np.int64]:
    """The packets of a stretch that the file means to be played; all where it means none."""
    played = inside[~track.packets.outside[inside]]
    return played if len(played) else inside


def _skipped_s(track: _Placed, inside: NDArray[np.int64]) -> Seconds:
    """How much of each packet is cut from its front. What is to be skipped may be longer than a packet."""
    begins, skip = track.clock.shown_s[inside], track.packets.skip_s[inside]
    heard_from = np.maximum.accumulate(np.where(skip > 0, begins + skip, -np.inf))
    return np.maximum(begins, heard_from) - begins


def _audible_s(track: _Placed, inside: NDArray[np.int64]) -> Seconds:
    """How long each packet lasts from its time stamp on, without what is trimmed from its end."""
    lengths = np.where(track.packets.hidden[inside], 0.0, track.clock.length_s[inside])
    # Some readers shorten a trimmed packet's length themselves.
    usual = float(np.median(track.clock.length_s))
    trim = track.packets.trim_s[inside]
    return np.where(trim > 0, np.minimum(lengths, np.maximum(usual - trim, 0.0)), lengths)


def _shown(track: _Placed, inside: NDArray[np.int64]) -> Flags:
    """Which packets of a stretch show a picture of their own that can be decoded."""
    packets, shown = track.packets, track.shown[inside]
    if not track.is_video:
        return shown
    if not shown.any():
        shown = np.ones(len(inside), bool)
    times = track.clock.shown_s[inside]
    unstamped = packets.pts[inside] == NO_PTS
    if 0.3 < unstamped.mean() < 0.7 and not (unstamped[1:] & unstamped[:-1]).any():
        shown = shown & ~unstamped  # the second fields of pictures
    # Two packets of one time are one picture in two fields, or damage: the first stands for both.
    visible = np.flatnonzero(shown)
    shown = np.zeros(len(inside), bool)
    shown[visible[np.unique(times[visible], return_index=True)[1]]] = True
    keys = np.flatnonzero(packets.keyframe[inside])
    if len(keys):
        # What is decoded before the first key frame, or shown before it, is predicted from packets that are not there.
        whole = (np.arange(len(inside)) >= keys[0]) & (times >= times[keys[0]])
        shown = shown & whole if (shown & whole).any() else shown
    return shown


def _audio_track(parts: Sequence[Sequence[_Placed]]) -> tuple[AudioTrack | None, bool]:
    """The audio track of all parts; and whether its time stamps had to be ignored."""
    found = [(number, track) for number, tracks in enumerate(parts) for track in tracks if not track.is_video]
    if not found:
        return None, False
    times = np.concatenate([track.times_s for _, track in found])
    ends = np.concatenate([track.ends_s for _, track in found])
    heard = np.concatenate([track.heard_s for _, track in found])
    lengths = (ends - heard).clip(0)
    sparse = bool(ends.max() > _SPARSE * lengths.sum() + _SPARSE_S)
    if sparse:
        ends = np.cumsum(lengths)
        times = heard = ends - lengths
    return AudioTrack(times, heard, ends, *_identity(found)), sparse


def _identity(found: Sequence[tuple[int, _Placed]]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(part, pts, size) of every packet."""
    part = np.concatenate([np.full(len(track.times_s), number) for number, track in found])
    return part, np.concatenate([track.packets.pts for _, track in found]), np.concatenate([track.packets.size for _, track in found])


def _video_track(parts: Sequence[Sequence[_Placed]], audio_end_s: float) -> VideoTrack | None:
    """The video track of all parts. A track of pictures that stay lasts as long as the audio."""
    found = [(number, track) for number, tracks in enumerate(parts) for track in tracks if track.is_video]
    if not found:
        return None
    times = np.concatenate([track.times_s for _, track in found])
    shown = np.concatenate([track.shown for _, track in found])
    declared = np.concatenate([track.packets.length_s for _, track in found])
    keyframe = np.concatenate([track.packets.keyframe for _, track in found])
    stretch = np.concatenate([track.stretch for _, track in found])
    part, pts, size = _identity(found)
    visible = np.flatnonzero(shown)
    order = visible[np.argsort(times[visible], kind="stable")]
    stays = np.diff(times[order])
    frame_s = float(np.median(stays)) if len(stays) else found[0][1].packets.usual_s
    # Lengths that contradict the time stamps are damage, not a picture that stays.
    credible = len(order) == 1 or bool(np.median(declared[order[:-1]] - stays) <= max(3 * frame_s, _NOTICEABLE_S))
    stated_s = float(declared[order[-1]]) if credible else 0.0
    last_s = min(max(frame_s, stated_s), HOLD_S)
    held = len(order) > 1 and _is_held(stays, last_s)
    if held and stated_s > 0:
        last_s = min(max(stated_s, min(frame_s, _NOTICEABLE_S)), HOLD_S)
    end_s = float(times[order[-1]]) + last_s
    return VideoTrack(
        times_s=times,
        keyframe=keyframe,
        shown=shown,
        part=part,
        stretch=stretch,
        pts=pts,
        size=size,
        frame_s=frame_s,
        end_s=max(end_s, audio_end_s) if held else end_s,
        timed=bool((pts != NO_PTS).any()),
        held=held,
    )


def _is_held(stays: Seconds, last_s: float) -> bool:
    """Whether some pictures stay much longer than others, or there are few that stay: slides. (A slow but steady rate is none.)"""
    longest_s = max(float(stays.max()), last_s)
    steady = longest_s <= 2 * float(np.quantile(stays, 0.25))
    return longest_s > _NOTICEABLE_S and not (steady and len(stays) > _FEW)


def _notes(joints: _Joints) -> Iterator[str]:
    """What was repaired, for the user."""

    def more(found: Sequence[object]) -> str:
        return f" (and {len(found) - 1} more times)" if len(found) > 1 else ""

    for at_s, by_s in joints.jumps_s[:1]:
        yield f"the clock of the file jumps ahead by {by_s:.0f} s at {at_s:.1f} s{more(joints.jumps_s)}: that time is left out"
    for at_s in joints.restarts_s[:1]:
        yield f"the clock of the file starts again at {at_s:.1f} s{more(joints.restarts_s)}: what follows is placed after it"
    for from_s, to_s in joints.pauses_s[:1]:
        yield f"nothing was recorded from {from_s:.1f} s to {to_s:.1f} s{more(joints.pauses_s)}"
