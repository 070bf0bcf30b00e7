"""Clips through renderer and encoders, several clips in one batch: the media tokens that the decoder gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from omnidrop_cli.nano.train import batched_encoders, render
from omnidrop_cli.nano.world.scenario import FRAME_CELLS, Scenario

if TYPE_CHECKING:
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    from omnidrop_cli.nano.train.labels import MediaLabels
    from omnidrop_cli.nano.world.voices import VoiceBank
    from omnidrop_cli.prompt.spec import PromptSpec


def perceive(
    model: Qwen2_5OmniThinkerForConditionalGeneration,
    timelines: Sequence[Scenario],
    labels: Sequence[MediaLabels],
    bank: VoiceBank,
    spec: PromptSpec,
) -> list[Tensor]:
    """Per clip (n, d): the embeddings of all its media tokens, in prompt order."""
    thinker = model.model
    media = [render.render(timeline, bank) for timeline in timelines]
    seen: dict[int, Tensor] = {}
    for cells in dict.fromkeys(FRAME_CELLS):
        same = [i for i, timeline in enumerate(timelines) if timeline.has_video and timeline.cells == cells]
        if same:
            tokens = batched_encoders.see(thinker.visual, torch.cat([f for f in (media[i].frames for i in same) if f is not None]), spec)
            parts = tokens.split([timelines[i].grids for i in same])
            seen |= {i: part.flatten(0, 1) for i, part in zip(same, parts, strict=True)}
    sounding = [i for i, clip in enumerate(media) if clip.mel is not None]
    mels = [clip.mel for clip in media if clip.mel is not None]
    heard = dict(zip(sounding, batched_encoders.hear(thinker.audio_tower, mels), strict=True)) if mels else {}
    whole = []
    for i, one in enumerate(labels):
        audio = torch.from_numpy(one.audio)
        both = torch.cat([part for part in (seen.get(i), heard.get(i)) if part is not None])
        # The n-th video token of the prompt is the n-th of the encoder, and likewise for sound: only the interleaving is to be undone.
        order = torch.cat([(~audio).nonzero()[:, 0], audio.nonzero()[:, 0]])
        whole.append(both[order.argsort().to(both.device)])
    return whole
