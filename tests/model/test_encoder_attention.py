"""Batched windows against transformers' own loop, and received attention against the formula written out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.vision_utils import get_vision_window_index

from omnidrop_cli.model import encoder_attention
from omnidrop_cli.model.adapter import PACKED
from omnidrop_cli.model.encoder_attention import attend_windows, group_windows
from omnidrop_cli.model.random_weights import random_thinker, tiny_sizes, tiny_thinker
from omnidrop_cli.model.thinker import Thinker

GRIDS = [(1, 16, 16), (2, 8, 8), (3, 18, 32), (5, 6, 10), (2, 2, 2), (1, 34, 4)]
"""Whole windows only, ragged on one side, on both, smaller than a window, one long edge."""

MELS = [3, 4, 199, 200, 201, 400, 503, 1402]


def see(thinker: Thinker, grid: Sequence[int], seed: int = 0) -> Tensor:
    patches = torch.randn(grid[0] * grid[1] * grid[2], 1176, generator=torch.Generator().manual_seed(seed)).to(thinker.dtype)
    with torch.inference_mode():
        output: Tensor = thinker.adapter.encode_video(patches, torch.tensor([grid]))
    return output


def hear(thinker: Thinker, frames: int, seed: int = 0) -> Tensor:
    mel = torch.randn(128, frames, generator=torch.Generator().manual_seed(seed)).to(thinker.dtype)
    length = torch.tensor([frames])
    with torch.inference_mode():
        output: Tensor = thinker.adapter.audio_encoder(mel, feature_lens=length, aftercnn_lens=(length - 1) // 2 + 1).last_hidden_state
    return output


@pytest.fixture(scope="module")
def stock() -> Thinker:
    """The same weights, with transformers' own SDPA in the encoders."""
    made = tiny_thinker()
    for encoder in (made.adapter.vision_encoder, made.adapter.audio_encoder):
        encoder.config._attn_implementation = "sdpa"
    return made


@pytest.mark.parametrize("grid", GRIDS)
def test_pictures_equal_stock(grid: tuple[int, int, int], thinker: Thinker, stock: Thinker) -> None:
    torch.testing.assert_close(see(thinker, grid), see(stock, grid), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frames", MELS)
def test_sound_equals_stock(frames: int, thinker: Thinker, stock: Thinker) -> None:
    torch.testing.assert_close(hear(thinker, frames), hear(stock, frames), rtol=1e-5, atol=1e-5)


def test_several_pictures_of_different_sizes_equal_stock(thinker: Thinker, stock: Thinker) -> None:
    grids = torch.tensor([[2, 18, 32], [1, 10, 6]])
    patches = torch.randn(2 * 18 * 32 + 60, 1176)
    with torch.inference_mode():
        ours, theirs = (each.adapter.encode_video(patches, grids) for each in (thinker, stock))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_one_call_per_window_length(thinker: Thinker, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.Size] = []

    def counted(query: Tensor, *rest: Any, **options: Any) -> Tensor:
        calls.append(query.shape)
        return nn.functional.scaled_dot_product_attention(query, *rest, **options)

    monkeypatch.setattr(encoder_attention, "scaled_dot_product_attention", counted)
    assert thinker.adapter.vision_encoder.config._attn_implementation == PACKED
    see(thinker, (5, 18, 32))  # a windowed block (8x8 and 2x8 patches) and a full one
    assert [(shape[0], shape[2]) for shape in calls] == [(5 * 8, 64), (5 * 4, 16), (5, 576)]
    calls.clear()
    hear(thinker, 1000)
    assert [(shape[0], shape[2]) for shape in calls] == [(5, 100)] * 2


def test_decoder_keeps_its_own_attention(thinker: Thinker) -> None:
    assert thinker.adapter.text_model.config._attn_implementation == "sdpa"


@settings(max_examples=60)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12), seed=st.integers(0, 2**16))
def test_any_windows(lengths: list[int], seed: int) -> None:
    ends = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    q, k, v = torch.randn(3, int(ends[-1]), 2, 4, generator=torch.Generator().manual_seed(seed))
    ours = attend_windows(q, k, v, ends, max(lengths), 0.5)
    windows = zip(*(t.transpose(0, 1).split(lengths, dim=1) for t in (q, k, v)), strict=True)
    slow = torch.cat([torch.softmax(a @ b.transpose(1, 2) * 0.5, -1) @ c for a, b, c in windows], dim=1)
    torch.testing.assert_close(ours, slow.transpose(0, 1), rtol=1e-5, atol=1e-6)


@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=10))
def test_groups_cover_every_row_once(lengths: list[int]) -> None:
    ends = [0, *torch.tensor(lengths).cumsum(0).tolist()]
    groups = group_windows(ends)
    rows = [r for g in groups for r in (range(g.start, g.start + g.count * g.length) if g.rows is None else g.rows.tolist())]
    assert sorted(rows) == list(range(ends[-1]))
    assert len({group.length for group in groups}) == len(groups)


# ---------------------------------------------------------------- received attention


def slow_received(q: Tensor, k: Tensor, ends: Sequence[int], scaling: float) -> Tensor:
    """q, k (n, heads, dh): one window after the other, one head after the other."""
    parts = []
    for start, stop in pairwise(ends):
        weights = [torch.softmax(q[start:stop, h] @ k[start:stop, h].T * scaling, dim=-1) for h in range(q.shape[1])]
        parts.append(torch.stack(weights).mean(0).sum(0))
    return torch.cat(parts)


class Spy:
    """Keeps what enters an encoder's last attention module."""

    def __init__(self, module: nn.Module) -> None:
        self.kwargs: dict[str, Any] = {}
        self.hidden: Tensor | None = None
        self.handle = module.register_forward_pre_hook(self._keep, with_kwargs=True)

    def _keep(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.hidden = args[0] if args else kwargs["hidden_states"]
        self.kwargs = kwargs


@pytest.mark.parametrize("scope", ["window", "clip"])
@pytest.mark.parametrize("frames", [*MELS, 402, 405])
def test_sound_received(scope: Any, frames: int, thinker: Thinker) -> None:
    module = thinker.adapter.audio_encoder.layers[-1].self_attn
    spy = Spy(module)
    with thinker.adapter.capture_audio_attention(scope) as capture:
        tokens = hear(thinker, frames)
    spy.handle.remove()
    assert spy.hidden is not None
    with torch.inference_mode():
        q, k = (part(spy.hidden).unflatten(-1, (module.num_heads, -1)) for part in (module.q_proj, module.k_proj))
    ends = [0, len(q)] if scope == "clip" else [*range(0, len(q), 100), len(q)]
    per_frame = slow_received(q, k, ends, module.head_dim**-0.5)
    pairs = len(per_frame) // 2
    expected = torch.stack([per_frame[2 * token : 2 * token + 2].mean() for token in range(pairs)]) if pairs else per_frame[:0]
    found = capture.received()
    assert found.shape == (len(tokens),)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grids_per_window", [1, 2])
@pytest.mark.parametrize("grid", GRIDS)
def test_pictures_received(grid: tuple[int, int, int], grids_per_window: int, thinker: Thinker) -> None:
    module = thinker.adapter.vision_encoder.blocks[-1].attn
    spy = Spy(module)
    with thinker.adapter.capture_video_attention(grids_per_window) as capture:
        tokens = see(thinker, grid)
    spy.handle.remove()
    assert spy.hidden is not None
    cos, sin = spy.kwargs["position_embeddings"]
    with torch.inference_mode():
        q, k = (part(spy.hidden).unflatten(-1, (module.num_heads, -1)) for part in (module.q, module.k))
    half = q.shape[-1] // 2
    q, k = (x * cos[:, None] + torch.cat((-x[..., half:], x[..., :half]), -1) * sin[:, None] for x in (q, k))
    patches = grid[1] * grid[2]
    ends = [*range(0, grid[0] * patches, grids_per_window * patches), grid[0] * patches]
    per_token = slow_received(q, k, ends, module.head_dim**-0.5).view(-1, 4).mean(1)
    order, _ = get_vision_window_index(torch.tensor([grid]), 2, 112, 14)
    expected = torch.empty_like(per_token)
    expected[order] = per_token  # row i of the encoder's order is token order[i] of the prompt
    found = capture.received()
    assert found.shape == (len(tokens),)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_received_tokens_sit_where_their_embeddings_sit(thinker: Thinker) -> None:
    """One token's patches change; the embedding and the attention that change most are both that token's."""
    loud, runs = 77, []
    patches = torch.randn(2 * 18 * 32, 1176, generator=torch.Generator().manual_seed(3))
    changed = patches.clone()
    changed[4 * loud : 4 * loud + 4] *= 30
    for each in (patches, changed):
        with thinker.adapter.capture_video_attention(1) as capture, torch.inference_mode():
            embeds = thinker.adapter.encode_video(each, torch.tensor([[2, 18, 32]]))
        runs.append((embeds, capture.received()))
    assert int((runs[0][0] - runs[1][0]).norm(dim=1).argmax()) == loud
    assert int((runs[0][1] - runs[1][1]).abs().argmax()) == loud


def test_bounded_memory_gives_the_same(thinker: Thinker, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for limit in (2**23, 700, 3):
        monkeypatch.setattr(encoder_attention, "MAX_SCORES", limit)
        with thinker.adapter.capture_video_attention() as pictures, thinker.adapter.capture_audio_attention("clip") as sound:
            see(thinker, (3, 4, 6))
            hear(thinker, 250)
        found.append(torch.cat((pictures.received(), sound.received())))
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])


def test_even_attention_is_one(thinker: Thinker) -> None:
    with thinker.adapter.capture_audio_attention() as capture:
        hear(thinker, 1000)
    assert float(capture.received().mean()) == pytest.approx(1.0, abs=1e-4)


def test_pieces_follow_each_other(thinker: Thinker) -> None:
    with thinker.adapter.capture_audio_attention() as both:
        hear(thinker, 400, seed=1)
        hear(thinker, 300, seed=2)
    with thinker.adapter.capture_audio_attention() as second:
        hear(thinker, 300, seed=2)
    assert both.received().shape == (100 + 75,)
    torch.testing.assert_close(both.received()[100:], second.received())


def test_watching_changes_nothing_and_leaves_no_hooks(thinker: Thinker) -> None:
    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in thinker.model.modules())

    before, quiet = hooks(), (see(thinker, (2, 8, 8)), hear(thinker, 300))
    with thinker.adapter.capture_video_attention(), thinker.adapter.capture_audio_attention():
        assert hooks() > before
        assert torch.equal(see(thinker, (2, 8, 8)), quiet[0])
        assert torch.equal(hear(thinker, 300), quiet[1])
    assert hooks() == before


def test_an_exception_leaves_no_hooks(thinker: Thinker) -> None:
    with pytest.raises(ValueError, match="stop"), thinker.adapter.capture_video_attention():
        raise ValueError("stop")
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in thinker.adapter.vision_encoder.modules())


def test_asking_before_the_encoder_ran(thinker: Thinker) -> None:
    with thinker.adapter.capture_audio_attention() as capture, pytest.raises(RuntimeError, match="has not run"):
        capture.received()


def test_bfloat16_encoders_are_scored_in_float32() -> None:
    made = random_thinker(tiny_sizes(layers=1), dtype=torch.bfloat16)
    with made.adapter.capture_audio_attention() as sound, made.adapter.capture_video_attention() as pictures:
        hear(made, 300)
        see(made, (2, 8, 8))
    assert sound.received().dtype == pictures.received().dtype == torch.float32
