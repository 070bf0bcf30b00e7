"""Prompt → embeddings of every token.

Knows: that frames of different temporal grids, and sound of different windows, never attend to each other in the towers, so a
clip passes in pieces of bounded size with the same result. Does not know: pruning methods (it hands out what the towers' last
layers attended to, if asked), the decoder, the question's meaning.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from omnidrop_cli.model.attention import capture_audio_attention, capture_video_attention
from omnidrop_cli.observer import SILENT, Observer
from omnidrop_cli.prompt.layout import count_audio_tokens
from omnidrop_cli.prompt.patches import patchify
from omnidrop_cli.records import Modality

if TYPE_CHECKING:
    from omnidrop_cli.model.thinker import Thinker
    from omnidrop_cli.records import Prompt

PATCHES_PER_PIECE = 16_384
"""Patches in one pass of the vision tower: about 28 grids of 252x448. Activations grow with it, speed hardly does beyond."""

WINDOWS_PER_PIECE = 150
"""Two-second windows in one pass of the audio tower: five minutes of sound."""


@dataclass(frozen=True, slots=True, eq=False)
class MediaFeatures:
    """What the towers made of a clip; good for every question about it.

    `audio` (n_a, d) and `video` (n_v, d) in prompt order, on the model's device; the attentions (n_a,), (n_v,) float32 where asked.
    """

    audio: Tensor | None
    video: Tensor | None
    audio_attention: Tensor | None = None
    video_attention: Tensor | None = None


@torch.inference_mode()
def encode_media(thinker: Thinker, prompt: Prompt, needs: frozenset[str] = frozenset(), observer: Observer = SILENT) -> MediaFeatures:
    """Run both towers once. `needs` may hold "audio_attention" and "video_attention" (`Method.needs`)."""
    audio, audio_attention = _encode_audio(thinker, prompt, "audio_attention" in needs)
    video, video_attention = _encode_video(thinker, prompt, "video_attention" in needs, observer)
    return MediaFeatures(audio, video, audio_attention, video_attention)


@torch.inference_mode()
def embed(thinker: Thinker, prompt: Prompt, features: MediaFeatures) -> Tensor:
    """(1, n, d) input embeddings: text rows from the table, media rows from the towers."""
    ids = torch.from_numpy(prompt.input_ids).to(thinker.device)
    embeds: Tensor = thinker.embed_tokens(ids)
    for modality, rows in ((Modality.AUDIO, features.audio), (Modality.VIDEO, features.video)):
        if rows is not None:
            places = torch.from_numpy(prompt.token_map.rows(modality)).to(thinker.device)
            embeds = embeds.index_copy(0, places, rows.to(embeds.dtype))
    return embeds[None]


def _encode_video(thinker: Thinker, prompt: Prompt, attention: bool, observer: Observer) -> tuple[Tensor | None, Tensor | None]:
    if prompt.frames is None or prompt.grid_thw is None:
        return None, None
    grids, height, width = prompt.grid_thw
    # Attention is asked for chunk by chunk (two grids), so pieces hold whole chunks.
    step = max(2, PATCHES_PER_PIECE // (height * width) // 2 * 2)
    frames_per_grid = thinker.spec.temporal_patch_size
    rows = []
    with capture_video_attention(thinker.visual) if attention else nullcontext() as capture:
        for start in range(0, grids, step):
            stop = min(grids, start + step)
            frames = torch.from_numpy(prompt.frames[start * frames_per_grid : stop * frames_per_grid]).to(thinker.device)
            patches = patchify(frames, thinker.spec).to(thinker.dtype)
            grid = torch.tensor([[stop - start, height, width]], device=thinker.device)
            rows.append(thinker.visual(patches, grid_thw=grid).pooler_output)
            observer.advance(stop, grids)
    return torch.cat(rows), None if capture is None else capture.received()


def _encode_audio(thinker: Thinker, prompt: Prompt, attention: bool) -> tuple[Tensor | None, Tensor | None]:
    if prompt.mel is None:
        return None, None
    window = thinker.audio_tower.n_window * 2
    mel = torch.from_numpy(prompt.mel).to(thinker.device, thinker.dtype)
    rows = []
    with capture_audio_attention(thinker.audio_tower) if attention else nullcontext() as capture:
        for piece in mel.split(window * WINDOWS_PER_PIECE, dim=1):
            if count_audio_tokens(piece.shape[1]) == 0:
                break  # a last window too short for a token; the whole clip in one pass gives none for it either
            length = torch.tensor([piece.shape[1]], device=thinker.device)
            encoded = thinker.audio_tower(piece, feature_lens=length, aftercnn_lens=(length - 1) // 2 + 1)
            rows.append(encoded.last_hidden_state)
    return torch.cat(rows), None if capture is None else capture.received()
