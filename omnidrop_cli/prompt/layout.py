"""Where every token of a prompt sits: placeholder order, TMRoPE positions, and the map that pruning and reports read.

Input: counts (grids, seconds per grid, audio tokens) and the clock of the model's positions. No pixels, audio or tokenizer is needed.
Several clips follow one another without text between them, each laid out as it would be alone.

Audio and video interleave in chunks of two seconds, the video of a chunk before its audio. Temporal positions count 1/25 s on both
tracks, height and width count merged cells, text counts on from where the clip ended. Held against transformers 5.23:
`Qwen2_5OmniProcessor.replace_video_with_audio_token` (order) and `get_rope_index` (positions), whose peculiarities are kept:

- both opening markers share one position, so do both closing ones;
- the closing markers follow the last *run* of tokens in the sequence, not the highest position: a sound shorter than the picture's
  grid is high or wide leaves them, and the text after them, below the picture's last position;
- a chunk boundary crossed more than once between two video tokens (grids over two seconds apart) counts once, so the picture runs
  ahead of the sound in the sequence. Positions and `TokenMap.chunk` stay true to time.

One is not kept. The processor chunks in float64 and the model in float32, so at some rates (18 frames in 11 s) a grid on a border falls
on different sides, and the stock model then hands tokens of one track the positions of the other. Here the order is the processor's and
every token has its own position.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from omnidrop_cli.outputs import Modality, TokenMap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from omnidrop_cli.prompt.spec import PromptSpec


@dataclass(frozen=True, slots=True, eq=False)
class MediaBlock:
    """A clip's tokens between and with their markers, before they have a place in a prompt.

    `ids` int64 (n,); `positions` int64 (3, n), counted from the first marker; `end` is the position after the last marker.
    `tokens` has `is_query` False throughout, and the numbers of a first clip.
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    end: int
    tokens: TokenMap


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """A whole prompt in place: `input_ids` int64 (n,), `positions` int64 (3, n), `next_position` of the first answer token."""

    input_ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    next_position: int
    tokens: TokenMap


def lay_out(
    spec: PromptSpec,
    *,
    grid_thw: tuple[int, int, int] | None = None,
    seconds_per_grid: float | None = None,
    audio_tokens: int = 0,
) -> MediaBlock:
    """Place the tokens of one clip: video with sound, video alone, or sound alone.

    `grid_thw` counts temporal grids and patches; `seconds_per_grid` is `temporal_patch_size` over the effective fps.
    Raises `ValueError` where there is neither a grid nor an audio token, or a grid without its seconds.
    """
    if grid_thw is None:
        if audio_tokens < 1:
            raise ValueError("nothing to lay out: no video grid and no audio token")
        return _enclose([spec.audio_bos], audio_track(spec, audio_tokens), [spec.audio_eos])
    if seconds_per_grid is None:
        raise ValueError("a video grid needs seconds_per_grid")
    video = video_track(spec, grid_thw, seconds_per_grid)
    if audio_tokens < 1:
        return _enclose([spec.vision_bos], video, [spec.vision_eos])
    return _enclose(
        [spec.vision_bos, spec.audio_bos],
        _interleave(video, audio_track(spec, audio_tokens)),
        [spec.audio_eos, spec.vision_eos],
    )


def assemble(ids: NDArray[np.int64], is_query: NDArray[np.bool_], media_at: int | None = None, blocks: Sequence[MediaBlock] = ()) -> Layout:
    """Put the blocks of all clips, one after the other, in front of text token `media_at`.

    Each block, and the text after the last, counts its positions on from the end of the one before.

    Args:
        ids: (n,) text tokens.
        is_query: (n,) which of them are the question.
        media_at: place of the clips; None where there are none.
        blocks: one per clip, in the order of the clips.
    """
    n = len(ids)
    split = n if media_at is None else media_at
    parts = [(ids[:split], _run(split), _text_map(split, is_query[:split]))]
    end, chunks = split, 0
    for number, block in enumerate(blocks):
        parts.append((block.ids, block.positions + end, _numbered(block.tokens, number, chunks)))
        end, chunks = end + block.end, chunks + int(block.tokens.chunk.max()) + 1
    parts.append((ids[split:], _run(n - split) + end, _text_map(n - split, is_query[split:])))
    ids_of, positions_of, maps = zip(*parts, strict=True)
    positions = np.concatenate(positions_of, axis=1)
    # Generation counts on from the highest position anywhere, which need not be the last token's (module docstring).
    following = int(positions.max(initial=-1)) + 1
    return Layout(np.concatenate(ids_of), positions, following, TokenMap(*_columns(*maps)))


def _run(n: int) -> NDArray[np.int64]:
    """(3, n) positions of text, from 0."""
    return np.broadcast_to(np.arange(n), (3, n))


def _numbered(tokens: TokenMap, clip: int, chunks: int) -> TokenMap:
    """The map of a clip's block as that of clip number `clip`, its chunks counted on from `chunks`."""
    media = tokens.modality != Modality.TEXT
    return replace(tokens, clip=np.where(media, clip, -1).astype(np.int16), chunk=tokens.chunk + chunks * media.astype(np.int32))


@dataclass(frozen=True, slots=True, eq=False)
class _Track:
    """Tokens without markers; `positions` (3, n) count from the first token, `last_run` is how many the closing markers follow."""

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    tokens: TokenMap
    last_run: int


def video_track(spec: PromptSpec, grid_thw: tuple[int, int, int], seconds_per_grid: float) -> _Track:
    """Video tokens in raster order."""
    grids, rows, cols = grid_thw[0], grid_thw[1] // spec.spatial_merge_size, grid_thw[2] // spec.spatial_merge_size
    cells = rows * cols
    n = grids * cells
    seconds = np.arange(grids) * seconds_per_grid
    # The stock model multiplies in float32 and cuts the fraction off, so the positions must; the processor chunks in float64.
    ticks = np.arange(grids, dtype=np.float32) * np.float32(seconds_per_grid) * np.float32(spec.position_id_per_seconds)
    row = np.tile(np.repeat(np.arange(rows), cols), grids)
    col = np.tile(np.arange(cols), grids * rows)
    tokens = TokenMap(
        modality=np.full(n, Modality.VIDEO, dtype=np.int8),
        chunk=np.repeat((seconds * spec.position_id_per_seconds // spec.positions_per_chunk).astype(np.int32), cells),
        time_s=np.repeat(seconds.astype(np.float32), cells),
        grid=np.repeat(np.arange(grids, dtype=np.int32), cells),
        row=row.astype(np.int16),
        col=col.astype(np.int16),
        is_query=np.zeros(n, dtype=np.bool_),
        clip=np.zeros(n, dtype=np.int16),
    )
    return _Track(np.full(n, spec.video), np.stack([np.repeat(ticks.astype(np.int64), cells), row, col]), tokens, n)


def audio_track(spec: PromptSpec, n: int) -> _Track:
    """Audio tokens, one temporal position each."""
    ticks = np.arange(n)
    nowhere = np.full(n, -1, dtype=np.int16)
    tokens = TokenMap(
        modality=np.full(n, Modality.AUDIO, dtype=np.int8),
        chunk=(ticks // spec.positions_per_chunk).astype(np.int32),
        time_s=(ticks / spec.position_id_per_seconds).astype(np.float32),
        grid=np.full(n, -1, dtype=np.int32),
        row=nowhere,
        col=nowhere,
        is_query=np.zeros(n, dtype=np.bool_),
        clip=np.zeros(n, dtype=np.int16),
    )
    return _Track(np.full(n, spec.audio), np.broadcast_to(ticks, (3, n)), tokens, n)


def _interleave(video: _Track, audio: _Track) -> _Track:
    """Chunk by chunk, video before audio."""
    # The processor opens at most one chunk per token: video token i sits in min over j <= i of chunk[j] + (i - j).
    steps = np.arange(len(video.ids))
    opened = np.minimum.accumulate(video.tokens.chunk - steps) + steps
    runs = np.concatenate([2 * opened, 2 * audio.tokens.chunk + 1])
    order = np.argsort(runs, kind="stable")
    return _Track(
        ids=np.concatenate([video.ids, audio.ids])[order],
        positions=np.concatenate([video.positions, audio.positions], axis=1)[:, order],
        tokens=TokenMap(*(column[order] for column in _columns(video.tokens, audio.tokens))),
        last_run=int((runs == runs[order[-1]]).sum()),
    )


def _enclose(bos: list[int], track: _Track, eos: list[int]) -> MediaBlock:
    """Add the markers; the content starts one position after the opening ones."""
    content = track.positions + 1
    closing = int(content[:, -track.last_run :].max()) + 1
    opening_positions, closing_positions = np.zeros((3, len(bos)), np.int64), np.full((3, len(eos)), closing, np.int64)
    return MediaBlock(
        ids=np.concatenate([bos, track.ids, eos]),
        positions=np.concatenate([opening_positions, content, closing_positions], axis=1),
        end=closing + 1,
        tokens=TokenMap(*_columns(_text_map(len(bos)), track.tokens, _text_map(len(eos)))),
    )


def _text_map(n: int, is_query: NDArray[np.bool_] | None = None) -> TokenMap:
    nowhere = np.full(n, -1, dtype=np.int32)
    return TokenMap(
        modality=np.full(n, Modality.TEXT, dtype=np.int8),
        chunk=nowhere,
        time_s=np.full(n, np.nan, dtype=np.float32),
        grid=nowhere,
        row=nowhere.astype(np.int16),
        col=nowhere.astype(np.int16),
        is_query=np.zeros(n, dtype=np.bool_) if is_query is None else is_query,
        clip=nowhere.astype(np.int16),
    )


def _columns(*maps: TokenMap) -> Iterator[NDArray[Any]]:
    """The maps' fields end to end, in the order `TokenMap` takes them."""
    for field in fields(TokenMap):
        yield np.concatenate([getattr(one, field.name) for one in maps])
