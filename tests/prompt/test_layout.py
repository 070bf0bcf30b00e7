"""Order, positions and token map against the stock processor's chunking and the stock `get_rope_index`, called live."""

from __future__ import annotations

import itertools
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import Qwen2_5OmniProcessor

from omnidrop_cli.outputs import Modality
from omnidrop_cli.prompt.counts import count_audio_tokens
from omnidrop_cli.prompt.layout import Layout, assemble, lay_out
from omnidrop_cli.prompt.spec import PromptSpec
from tests.prompt.qwen import make_thinker, make_tokenizer, thinker_config

TOKENIZER = make_tokenizer()
SPEC = PromptSpec.from_config(thinker_config(TOKENIZER), TOKENIZER)
THINKER = make_thinker(TOKENIZER).model

Grid = tuple[int, int, int]
rates = st.sampled_from([2.0, 1.0, 0.5, 0.3, 7.0, 1.75, 30_000 / 1001 / 15, 4.0]) | st.floats(0.05, 30.0)
grids = st.tuples(st.integers(1, 14), st.integers(1, 5).map(lambda n: 2 * n), st.integers(1, 9).map(lambda n: 2 * n))


def place(grid: Grid | None, seconds: float | None, mel_frames: int, before: int = 5, after: int = 7) -> Layout:
    block = lay_out(SPEC, grid_thw=grid, seconds_per_grid=seconds, audio_tokens=count_audio_tokens(mel_frames))
    text = np.arange(before + after, dtype=np.int64)
    return assemble(text, text == before, before, [block])


def stock_order(grid: Grid, seconds: float, audio_tokens: int) -> NDArray[np.int64]:
    """Ids between the vision markers, from the processor's own method."""
    this = SimpleNamespace(
        video_processor=SimpleNamespace(merge_size=2), audio_bos_token="(", audio_eos_token=")", video_token="v", audio_token="a"
    )
    this.get_chunked_index = lambda *args: Qwen2_5OmniProcessor.get_chunked_index(this, *args)
    text = Qwen2_5OmniProcessor.replace_video_with_audio_token(
        this,
        {"video_grid_thw": [np.array(grid)], "video_second_per_grid": [seconds]},
        0,
        {"num_audio_tokens": [audio_tokens]},
        0,
        position_id_per_seconds=25,
        seconds_per_chunk=2.0,
    )
    ids = {"(": SPEC.audio_bos, ")": SPEC.audio_eos, "v": SPEC.video, "a": SPEC.audio}
    return np.array([ids[letter] for letter in text])


def stock_positions(ids: NDArray[np.int64], grid: Grid | None, seconds: float | None, mel_frames: int) -> tuple[Any, int]:
    positions, delta = THINKER.get_rope_index(
        torch.from_numpy(ids)[None],
        None,
        None if grid is None else torch.tensor([grid]),
        torch.ones(1, len(ids), dtype=torch.long),
        grid is not None and mel_frames > 0,
        torch.tensor([mel_frames]) if mel_frames else None,
        None if seconds is None else torch.tensor([seconds]),
    )
    return positions[:, 0].numpy(), len(ids) + int(delta)


def chunkings_agree(grids: int, seconds: float) -> bool:
    """The processor chunks in float64, the model in float32: at some rates a grid on a border falls on different sides."""
    wide = np.arange(grids) * seconds * 25 // 50
    narrow = np.arange(grids, dtype=np.float32) * np.float32(seconds) * np.float32(25) // 50
    return bool((wide == narrow).all())


@given(grid=grids, fps=rates, mel_frames=st.integers(3, 1500))
def test_video_with_sound(grid: Grid, fps: float, mel_frames: int) -> None:
    seconds = 2 / fps
    layout = place(grid, seconds, mel_frames)
    inside = layout.input_ids[6:-8]
    assert (layout.input_ids[5], layout.input_ids[-8]) == (SPEC.vision_bos, SPEC.vision_eos)
    assert np.array_equal(inside, stock_order(grid, seconds, count_audio_tokens(mel_frames)))
    if chunkings_agree(grid[0], seconds):
        positions, following = stock_positions(layout.input_ids, grid, seconds, mel_frames)
        assert np.array_equal(layout.positions, positions)
        assert layout.next_position == following


@given(grid=grids, fps=rates)
def test_video_alone(grid: Grid, fps: float) -> None:
    layout = place(grid, 2 / fps, 0)
    positions, following = stock_positions(layout.input_ids, grid, 2 / fps, 0)
    assert np.array_equal(layout.positions, positions)
    assert layout.next_position == following
    assert int((layout.input_ids == SPEC.video).sum()) == np.prod(grid) // 4


@given(mel_frames=st.integers(3, 2000))
def test_sound_alone(mel_frames: int) -> None:
    layout = place(None, None, mel_frames)
    positions, following = stock_positions(layout.input_ids, None, None, mel_frames)
    assert np.array_equal(layout.positions, positions)
    assert layout.next_position == following


def test_every_token_keeps_its_own_time_where_the_stock_code_mixes_them_up() -> None:
    """At 18/11 fps grid 18 begins at 22 s: in the 11th chunk by the stock processor, in the 12th by the stock model."""
    seconds, grid = 2 / (18 / 11), (20, 2, 4)
    assert not chunkings_agree(grid[0], seconds)
    layout = place(grid, seconds, 2400)
    video, audio = (layout.tokens.rows(m) for m in (Modality.VIDEO, Modality.AUDIO))
    ticks = (np.arange(20) * seconds * 25 + 1e-4).astype(int)
    assert np.array_equal(layout.positions[0, video] - 6, np.repeat(ticks, 2))
    assert np.array_equal(layout.positions[:, audio] - 6, np.tile(np.arange(len(audio)), (3, 1)))
    stock, _ = stock_positions(layout.input_ids, grid, seconds, 2400)
    assert not np.array_equal(stock[0, video] - 6, np.repeat(ticks, 2))  # fails when transformers mends it: then drop the exception


@given(grid=grids, fps=rates, mel_frames=st.integers(3, 1500))
def test_token_map_says_what_is_where(grid: Grid, fps: float, mel_frames: int) -> None:
    seconds = 2 / fps
    layout = place(grid, seconds, mel_frames)
    tokens = layout.tokens
    assert len(tokens) == len(layout.input_ids)
    text, audio, video = (tokens.rows(m) for m in (Modality.TEXT, Modality.AUDIO, Modality.VIDEO))
    assert (layout.input_ids[audio] == SPEC.audio).all()
    assert (layout.input_ids[video] == SPEC.video).all()
    assert not np.isin(layout.input_ids[text], [SPEC.audio, SPEC.video]).any()
    cells = itertools.product(range(grid[0]), range(grid[1] // 2), range(grid[2] // 2))
    assert list(zip(tokens.grid[video], tokens.row[video], tokens.col[video], strict=True)) == list(cells)
    np.testing.assert_allclose(tokens.time_s[video], tokens.grid[video] * seconds, rtol=1e-6)
    np.testing.assert_allclose(tokens.time_s[audio], np.arange(len(audio)) / 25, rtol=1e-6)
    near = 1e-3
    for rows in (audio, video):
        assert (tokens.chunk[rows] * 2 <= tokens.time_s[rows] + near).all()
        assert (tokens.time_s[rows] < tokens.chunk[rows] * 2 + 2 + near).all()
    assert (tokens.chunk[text] == -1).all()
    assert (tokens.grid[audio] == -1).all()
    assert (tokens.row[audio] == -1).all()
    assert np.isnan(tokens.time_s[text]).all()
    assert tokens.is_query.nonzero()[0].tolist() == [len(tokens) - 7]


def test_dtypes_are_the_records() -> None:
    layout = place((2, 4, 4), 1.0, 200)
    assert layout.input_ids.dtype == layout.positions.dtype == np.int64
    wanted = {"modality": "i1", "chunk": "i4", "time_s": "f4", "grid": "i4", "row": "i2", "col": "i2", "is_query": "?"}
    for field, dtype in wanted.items():
        assert getattr(layout.tokens, field).dtype == np.dtype(dtype), field


def test_two_second_chunks_video_first() -> None:
    layout = place((3, 2, 2), 1.0, 280)  # three grids of one cell, 70 audio tokens
    letters = "".join({SPEC.video: "v", SPEC.audio: "a"}.get(i, "") for i in layout.input_ids.tolist())
    assert letters == "vv" + "a" * 50 + "v" + "a" * 20


@given(st.integers(0, 100_000))
def test_audio_count_is_the_encoders(mel_frames: int) -> None:
    _, stock = THINKER.audio_tower._get_feat_extract_output_lengths(torch.tensor(mel_frames))
    assert count_audio_tokens(mel_frames) == max(0, int(stock))


@pytest.mark.parametrize("mel_frames", [1, 2, 3, 4, 5, 199, 200, 201, 403])
def test_audio_count_is_what_the_encoder_returns(mel_frames: int) -> None:
    if not count_audio_tokens(mel_frames):
        assert mel_frames < 3
        return
    mask = torch.ones(1, mel_frames, dtype=torch.long)
    with torch.no_grad():
        out = THINKER.get_audio_features(torch.zeros(1, 128, mel_frames), feature_attention_mask=mask, return_dict=True)
    assert len(out.last_hidden_state) == count_audio_tokens(mel_frames)


def test_text_alone() -> None:
    layout = assemble(np.arange(4, dtype=np.int64), np.array([False, True, True, False]))
    assert layout.positions.tolist() == [[0, 1, 2, 3]] * 3
    assert layout.next_position == 4
    assert layout.tokens.counts().text == 4


def test_nothing_to_lay_out() -> None:
    with pytest.raises(ValueError, match="nothing"):
        lay_out(SPEC)
    with pytest.raises(ValueError, match="seconds_per_grid"):
        lay_out(SPEC, grid_thw=(1, 2, 2))


def test_exact_rates_never_split_a_grid() -> None:
    for fps in (Fraction(2), Fraction(30_000, 1001) / 15, Fraction(7, 4)):
        block = lay_out(SPEC, grid_thw=(30, 4, 6), seconds_per_grid=float(2 / fps), audio_tokens=900)
        video = block.tokens.rows(Modality.VIDEO)
        first, last = video[::6], video[5::6]
        assert (last - first == 5).all()
