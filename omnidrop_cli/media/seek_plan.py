"""Plans which packets of a video track have to be decoded for the wanted frames: key frames and decoding order, no decoder.

Only what a wanted frame depends on is decoded (`video.py` runs the plan); the frames are those of a full decode.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from omnidrop_cli.media.timeline import VideoTrack


class Action(IntEnum):
    """What to do with a packet. `REFERENCE`: decode it only if other frames are predicted from it."""

    DROP = 0
    REFERENCE = 1
    SHOW = 2


def plan(track: VideoTrack, wanted: NDArray[np.int64]) -> NDArray[np.int8]:
    """(n,) `Action` per packet so that the packets `wanted` give the frames that a full decode gives.

    From the key frame that a wanted frame depends on up to the frame itself, and nothing else. A frame that is shown before the key frame
    it follows in decoding order (a leading picture of an open group) depends on the group before as well. The second field of a frame, a
    packet that shows nothing of its own, is decoded with the first.
    """
    actions = np.full(len(track), Action.DROP, np.int8)
    keys = np.flatnonzero(track.keyframe)
    for packet in wanted:
        group = int(np.searchsorted(keys, packet, side="right")) - 1
        if group > 0 and track.times_s[packet] < track.times_s[keys[group]]:
            group -= 1
        first = int(keys[group]) if group >= 0 else 0
        actions[first : packet + 1] = np.maximum(actions[first : packet + 1], Action.REFERENCE)
        following = int(packet) + 1
        if following < len(track) and not track.shown[following] and track.times_s[following] < track.times_s[packet] + track.frame_s:
            actions[following] = Action.SHOW
    actions[wanted] = Action.SHOW
    return actions
