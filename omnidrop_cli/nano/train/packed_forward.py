"""The training forward: many clips at once, many questions on each, tokens dropped between layers.

Runs the stock decoder layers' own modules over a shared part (system text and media) and question blocks that see the shared part and
themselves. Numerically equal to the stock forward (tested), at a fraction of its cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import apply_rotary_pos_emb

from omnidrop_cli.nano.train.straight_through import through_attention

if TYPE_CHECKING:
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration


@dataclass(frozen=True, slots=True)
class Shared:
    """The part that all questions of a clip see, right-padded. `hidden` (b, s, d), `positions` (3, b, s), `valid`, `media` (b, s).

    `choice` (2, b, s), where given, is a selection in training: which tokens stay (1 or 0), and the scores that learn from it. Those that
    go are there, but nobody looks at them (`nano/train/straight_through.py`).
    """

    hidden: Tensor
    positions: Tensor
    valid: Tensor
    media: Tensor
    choice: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Blocks:
    """Question blocks, flattened: `hidden` (b, q·l, d), `positions` (3, b, q·l), `allowed` (b, q·l, q·l) who sees whom."""

    hidden: Tensor
    positions: Tensor
    allowed: Tensor


def run(model: Qwen2_5OmniThinkerForConditionalGeneration, shared: Shared, blocks: Blocks, keep: Tensor | None = None) -> Tensor:
    """Hidden states of the blocks after the last layer and norm, (b, q·l, d); `keep` as in `climb`."""
    *_, last = climb(model, shared, blocks, keep)
    return model.model.language_model.norm(last)  # type: ignore[no-any-return]


def climb(
    model: Qwen2_5OmniThinkerForConditionalGeneration, shared: Shared, blocks: Blocks, keep: Tensor | None = None
) -> Iterator[Tensor]:
    """Hidden states (b, q·l, d) of the blocks after one layer after the other, before the norm.

    `keep` (layers, b) is the share of media tokens that enters each layer, not increasing; None keeps all.
    """
    text = model.model.language_model
    score = torch.rand(shared.valid.shape, device=shared.valid.device)
    shared_angles = block_angles = masks = None
    choices: tuple[Tensor, Tensor] | tuple[None, None] = (None, None)
    for number, layer in enumerate(text.layers):
        if keep is not None and bool((keep[number] < (keep[number - 1] if number else 1.0)).any()):
            shared, score = _drop(shared, score, keep[number])
            shared_angles = None
        if shared_angles is None:
            shared_angles = text.rotary_emb(shared.hidden, shared.positions)
            masks = _masks(shared.valid, blocks.allowed, shared.hidden.dtype)
            choices = _choices(shared.choice, blocks.hidden)
        if block_angles is None:
            block_angles = text.rotary_emb(blocks.hidden, blocks.positions)
        assert masks is not None
        last = number == len(text.layers) - 1
        top, low = _layer(layer, shared.hidden, blocks.hidden, shared_angles, block_angles, masks, choices, last)
        shared, blocks = replace(shared, hidden=top), replace(blocks, hidden=low)
        yield low


def _layer(
    layer: Any,
    top: Tensor,
    low: Tensor,
    top_angles: tuple[Tensor, Tensor],
    low_angles: tuple[Tensor, Tensor],
    masks: tuple[Tensor, Tensor],
    choices: tuple[Tensor, Tensor] | tuple[None, None],
    last: bool,
) -> tuple[Tensor, Tensor]:
    """One decoder layer over both parts. After the last layer nobody reads the shared part, so it is left as it is."""
    attention = layer.self_attn
    tq, tk, tv = _project(attention, layer.input_layernorm(top), top_angles)
    lq, lk, lv = _project(attention, layer.input_layernorm(low), low_angles)
    keys, values = torch.cat([tk, lk], 2), torch.cat([tv, lv], 2)
    low = low + attention.o_proj(_attend(lq, keys, values, masks[1], choices[1]))
    low = low + layer.mlp(layer.post_attention_layernorm(low))
    if last:
        return top, low
    top = top + attention.o_proj(_attend(tq, tk, tv, masks[0], choices[0]))
    return top + layer.mlp(layer.post_attention_layernorm(top)), low


def _project(attention: Any, hidden: Tensor, angles: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    shape = (*hidden.shape[:2], -1, attention.head_dim)
    query = attention.q_proj(hidden).view(shape).transpose(1, 2)
    key = attention.k_proj(hidden).view(shape).transpose(1, 2)
    value = attention.v_proj(hidden).view(shape).transpose(1, 2)
    query, key = apply_rotary_pos_emb(query, key, *angles)
    return query, key, value


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, choice: Tensor | None) -> Tensor:
    """(b, n, heads·d) of grouped-query attention, written out: on CPUs the fused kernel's bf16 backward takes ten times as long."""
    batch, heads, rows, width = query.shape
    groups = key.shape[1]
    folded = query.reshape(batch, groups, heads // groups * rows, width) * width**-0.5
    scores = (folded @ key.transpose(2, 3)).view(batch, groups, heads // groups, rows, -1) + mask
    weights = scores.softmax(-1)
    if choice is not None:
        weights = through_attention(weights, choice[0], choice[1])
    mixed = weights.view(batch, groups, heads // groups * rows, -1) @ value
    merged: Tensor = mixed.view(batch, heads, rows, width).transpose(1, 2).flatten(2)
    return merged


def _masks(valid: Tensor, allowed: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Additive masks (b, 1, 1, rows, keys) of the shared part over itself and of the blocks over everything."""
    width, rows = valid.shape[1], allowed.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=valid.device).tril()
    visible = torch.cat([valid[:, None, :].expand(-1, rows, -1), allowed], 2)
    return _additive(causal[None], dtype), _additive(visible, dtype)


def _choices(choice: Tensor | None, low: Tensor) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Whom to look at (2, b, 1, 1, 1, keys), of the shared part over itself and of the blocks over everything."""
    if choice is None:
        return None, None
    choice = choice.to(low.dtype)
    both = torch.cat([choice, choice.new_ones(2, *low.shape[:2])], 2)
    return choice[:, :, None, None, None], both[:, :, None, None, None]


def _additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, float("-inf"))[:, None, None]


def _drop(shared: Shared, score: Tensor, share: Tensor) -> tuple[Shared, Tensor]:
    """Keep each clip's best-scored media tokens up to its share of the original ones; order stays, text stays."""
    # Scores are uniform and drawn once, so keeping those under the share nests the layers' choices.
    stays = shared.valid & (~shared.media | (score < share.to(score.device)[:, None]))
    width = min(stays.shape[1], -(-int(stays.sum(1).max()) // 16) * 16)
    rank = torch.where(stays, torch.arange(stays.shape[1], device=stays.device), stays.shape[1])
    index = rank.sort(1).values[:, :width]
    valid = index < stays.shape[1]
    index = index.clamp(max=stays.shape[1] - 1)
    return Shared(
        shared.hidden.gather(1, index[:, :, None].expand(-1, -1, shared.hidden.shape[2])),
        shared.positions.gather(2, index[None].expand(3, -1, -1)),
        valid,
        shared.media.gather(1, index),
        None if shared.choice is None else shared.choice.gather(2, index[None].expand(2, -1, -1)),
    ), score.gather(1, index)
