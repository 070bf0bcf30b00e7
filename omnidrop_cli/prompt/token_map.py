"""The token map of a prompt that transformers' processor made, from its ids and the model's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omnidrop_cli.errors import UsageError
from omnidrop_cli.outputs import Modality, TokenMap
from omnidrop_cli.prompt.layout import audio_track, video_track
from omnidrop_cli.prompt.spec import PromptSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

TURN_HEADER, TURN_END = 3, 2
"""Tokens of a chat turn before and after its content: <|im_start|> user newline, and <|im_end|> newline."""


def token_map_of(
    input_ids: NDArray[np.int64],
    config: Any,
    *,
    grid_thw: tuple[int, int, int] | None = None,
    seconds_per_grid: float = 1.0,
    is_query: NDArray[np.bool_] | None = None,
) -> TokenMap:
    """What every token of a prompt is.

    Args:
        input_ids: (n,) ids of one prompt with at most one clip.
        config: the thinker's configuration.
        grid_thw: temporal grids, patch rows and patch columns of the clip's video.
        seconds_per_grid: as given to the model (`video_second_per_grid`); transformers' default is 1.0.
        is_query: (n,) tokens of the question; None takes the text of the last user turn.

    Raises:
        UsageError: several clips, ids that do not fit `grid_thw`, or no user turn.
    """
    spec = _spec(config)
    n = len(input_ids)
    modality = np.full(n, Modality.TEXT, dtype=np.int8)
    for tokens, kind in ((spec.audio, Modality.AUDIO), (spec.video, Modality.VIDEO)):
        modality[input_ids == tokens] = kind
    found = TokenMap(
        modality=modality,
        chunk=np.full(n, -1, dtype=np.int32),
        time_s=np.full(n, np.nan, dtype=np.float32),
        grid=np.full(n, -1, dtype=np.int32),
        row=np.full(n, -1, dtype=np.int16),
        col=np.full(n, -1, dtype=np.int16),
        clip=np.where(modality == Modality.TEXT, -1, 0).astype(np.int16),
        is_query=_last_user_text(input_ids, modality, config) if is_query is None else np.asarray(is_query, dtype=bool),
    )
    _check_one_clip(modality)
    counts = found.counts()
    expected = 0 if grid_thw is None else int(np.prod(grid_thw)) // spec.spatial_merge_size**2
    if counts.video != expected:
        raise UsageError(f"the prompt has {counts.video} video tokens, and its video of {grid_thw} patches makes {expected}")
    tracks = []
    if grid_thw is not None:
        tracks.append((Modality.VIDEO, video_track(spec, grid_thw, seconds_per_grid)))
    if counts.audio:
        tracks.append((Modality.AUDIO, audio_track(spec, counts.audio)))
    for kind, track in tracks:
        places = found.rows(kind)
        for name in ("chunk", "time_s", "grid", "row", "col"):
            getattr(found, name)[places] = getattr(track.tokens, name)
    return found


def _check_one_clip(modality: NDArray[np.int8]) -> None:
    """Raises `UsageError` where text, that is markers, parts the tokens of several clips."""
    runs = int(np.diff(modality != Modality.TEXT, prepend=False, append=False).sum()) // 2
    if runs > 1:
        raise UsageError(f"the prompt has {runs} clips, and pruning around `generate` takes one", "`Session.ask` takes several")


def _spec(config: Any) -> PromptSpec:
    """The constants of the layout; the ids of the chat format play no part in it."""
    return PromptSpec(
        im_start=-1,
        im_end=-1,
        endoftext=-1,
        vision_bos=-1,
        vision_eos=-1,
        video=int(config.video_token_id),
        audio_bos=-1,
        audio_eos=-1,
        audio=int(config.audio_token_id),
        spatial_merge_size=int(config.vision_config.spatial_merge_size),
        position_id_per_seconds=int(config.position_id_per_seconds),
        seconds_per_chunk=float(config.seconds_per_chunk),
    )


def _last_user_text(input_ids: NDArray[np.int64], modality: NDArray[np.int8], config: Any) -> NDArray[np.bool_]:
    """Text of the last user turn. A chat prompt begins with <|im_start|>, so its first id marks every turn."""
    starts = np.flatnonzero(input_ids == input_ids[0])
    user = int(config.user_token_id)
    turns = [at for at in starts if at + 1 < len(input_ids) and input_ids[at + 1] == user]
    if not turns:
        raise UsageError("the prompt has no user turn in Qwen's chat format", "pass `is_query`, which tokens are the question")
    later = starts[starts > turns[-1]]
    stop = int(later[0]) if len(later) else len(input_ids)
    query = np.zeros(len(input_ids), dtype=bool)
    query[turns[-1] + TURN_HEADER : stop - TURN_END] = True
    media = np.flatnonzero(modality != Modality.TEXT)
    if len(media):  # the markers around a clip are no words of the question
        first = media[0] - _markers(input_ids, int(media[0]), -1, config)
        last = media[-1] + _markers(input_ids, int(media[-1]), 1, config)
        query[first : last + 1] = False
    return query


def _markers(input_ids: NDArray[np.int64], at: int, step: int, config: Any) -> int:
    """How many begin or end markers of media stand next to the token `at`, in the direction of `step`."""
    vision = int(config.vision_start_token_id)
    # Published thinker configurations lack the end of vision; its id follows that of the start.
    marks = {int(config.audio_start_token_id), int(config.audio_end_token_id), vision, vision + 1}
    count = 0
    while 0 <= at + step * (count + 1) < len(input_ids) and int(input_ids[at + step * (count + 1)]) in marks:
        count += 1
    return count
