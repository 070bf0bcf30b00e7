"""Prompt → embeddings of every token.

Knows: that frames of different temporal grids, and sound of different windows, never attend to each other in the towers, so a
clip passes in pieces of bounded size, and a picture seen before does not pass again, with the same result. Does not know: pruning
methods (it hands out what the towers' last layers attended to, if asked), the decoder, the question's meaning.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from omnidrop_cli.engine.limits import Limits
from omnidrop_cli.engine.reuse import grid_digests, grid_sources
from omnidrop_cli.model.attention import capture_audio_attention, capture_video_attention
from omnidrop_cli.observer import SILENT, Observer
from omnidrop_cli.prompt.layout import count_audio_tokens
from omnidrop_cli.prompt.patches import patchify
from omnidrop_cli.records import Modality

if TYPE_CHECKING:
    from omnidrop_cli.model.thinker import Thinker
    from omnidrop_cli.records import Prompt

GRIDS_PER_CHUNK = 2
"""Temporal grids that attention received in the vision tower looks at together (`capture_video_attention`)."""


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
def encode_media(
    thinker: Thinker,
    prompt: Prompt,
    needs: frozenset[str] = frozenset(),
    observer: Observer = SILENT,
    *,
    limits: Limits | None = None,
    same_within: float = 0.0,
) -> MediaFeatures:
    """Run both towers once. `needs` may hold "audio_attention" and "video_attention" (`Method.needs`).

    `limits` bound what passes a tower at once; `same_within` is `MediaOptions.same_within`. Raises torch's out-of-memory error.
    """
    limits = limits or Limits()
    audio, audio_attention = _encode_audio(thinker, prompt, "audio_attention" in needs, limits)
    video, video_attention = _encode_video(thinker, prompt, "video_attention" in needs, limits, same_within, observer)
    return MediaFeatures(audio, video, audio_attention, video_attention)


@torch.inference_mode()
def embed(thinker: Thinker, prompt: Prompt, features: MediaFeatures) -> Tensor:
    """(1, n, d) input embeddings: text rows from the table, media rows from the towers."""
    ids = torch.from_numpy(prompt.input_ids).to(thinker.device)
    embeds: Tensor = thinker.embed_tokens(ids)
    for modality, rows in ((Modality.AUDIO, features.audio), (Modality.VIDEO, features.video)):
        if rows is not None:
            places = torch.from_numpy(prompt.token_map.rows(modality)).to(thinker.device)
            embeds.index_copy_(0, places, rows.to(embeds.dtype))
    return embeds[None]


def _encode_video(
    thinker: Thinker, prompt: Prompt, attention: bool, limits: Limits, same_within: float, observer: Observer
) -> tuple[Tensor | None, Tensor | None]:
    if prompt.frames is None or prompt.grid_thw is None:
        return None, None
    spec, (grids, height, width) = thinker.spec, prompt.grid_thw
    depth = spec.temporal_patch_size
    # Attention received is read chunk by chunk, so chunks repeat, and pass the tower, as a whole.
    unit = GRIDS_PER_CHUNK if attention else 1
    digests = grid_digests(prompt.frames, depth)
    sources = grid_sources(prompt.frames, digests, depth=depth, cell=spec.token_side_px, unit=unit, same_within=same_within)
    fresh = np.flatnonzero(sources == np.arange(grids))
    step = max(unit, limits.patches // (height * width) // unit * unit)
    rows = []
    with capture_video_attention(thinker.visual, GRIDS_PER_CHUNK) if attention else nullcontext() as capture:
        for start in range(0, len(fresh), step):
            piece = fresh[start : start + step]
            # An incomplete last grid repeats the last frame, as `patchify` does.
            of_piece = (piece[:, None] * depth + np.arange(depth)).clip(max=len(prompt.frames) - 1).ravel()
            frames = torch.from_numpy(prompt.frames[of_piece]).to(thinker.device)
            grid = torch.tensor([[len(piece), height, width]], device=thinker.device)
            rows.append(thinker.visual(patchify(frames, spec).to(thinker.dtype), grid_thw=grid).pooler_output)
            observer.advance(int(piece[-1]) + 1, grids)
    video, received = torch.cat(rows), None if capture is None else capture.received()
    if len(fresh) == grids:
        return video, received
    place = torch.from_numpy(np.searchsorted(fresh, sources)).to(thinker.device)
    video = video.unflatten(0, (len(fresh), -1))[place].flatten(0, 1)
    return video, None if received is None else received.unflatten(0, (len(fresh), -1))[place].flatten()


def _encode_audio(thinker: Thinker, prompt: Prompt, attention: bool, limits: Limits) -> tuple[Tensor | None, Tensor | None]:
    if prompt.mel is None:
        return None, None
    window = thinker.audio_tower.n_window * 2
    mel = torch.from_numpy(prompt.mel).to(thinker.device, thinker.dtype)
    rows = []
    with capture_audio_attention(thinker.audio_tower) if attention else nullcontext() as capture:
        for piece in mel.split(window * limits.windows, dim=1):
            if count_audio_tokens(piece.shape[1]) == 0:
                break  # a last window too short for a token; the whole clip in one pass gives none for it either
            length = torch.tensor([piece.shape[1]], device=thinker.device)
            encoded = thinker.audio_tower(piece, feature_lens=length, aftercnn_lens=(length - 1) // 2 + 1)
            rows.append(encoded.last_hidden_state)
    return torch.cat(rows), None if capture is None else capture.received()
