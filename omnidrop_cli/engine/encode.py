"""Prompt → embeddings of every token.

Frames of different temporal grids, and audio of different windows, never attend to each other in the encoders. So a clip is encoded in
pieces of bounded size, and a repeated frame is encoded once, with the same result. What the encoders' last layers attended to is returned
with the embeddings where a method needs it.
"""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from omnidrop_cli.engine.feature_cache import EncoderOutput, FeatureShape, FeatureStore
from omnidrop_cli.engine.frame_dedup import grid_digests, grid_sources
from omnidrop_cli.engine.oom import Limits
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.outputs import Modality
from omnidrop_cli.prompt.counts import count_audio_tokens
from omnidrop_cli.prompt.patches import patchify

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from omnidrop_cli.model.thinker import Thinker
    from omnidrop_cli.outputs import Prompt
    from omnidrop_cli.prompt.spec import PromptSpec

GRIDS_PER_CHUNK = 2
"""Temporal grids that attention received in the vision encoder looks at together (`capture_video_attention`)."""


@dataclass(frozen=True, slots=True, eq=False)
class MediaFeatures:
    """What the encoders made of a clip; good for every question about it.

    `audio` (n_a, d) and `video` (n_v, d) in prompt order, on the model's device; the attentions (n_a,), (n_v,) float32 where asked:
    `audio_attention` inside the encoder's windows, `audio_attention_clip` over the whole clip. `reused` says that no encoder ran for them.
    """

    audio: Tensor | None
    video: Tensor | None
    audio_attention: Tensor | None = None
    audio_attention_clip: Tensor | None = None
    video_attention: Tensor | None = None
    reused: bool = False

    def attention_for(self, needs: frozenset[str]) -> tuple[Tensor | None, Tensor | None]:
        """Attention received by audio and by video tokens, of the scope that a method with these `needs` reads."""
        return self.audio_attention_clip if "audio_attention_clip" in needs else self.audio_attention, self.video_attention

    def serve(self, prompt: Prompt, needs: frozenset[str]) -> bool:
        """Whether these are features of `prompt`'s clip, as far as counts tell, with what `needs` names."""
        counts = prompt.token_map.counts()
        return all(
            (0 if rows is None else len(rows)) == count and (not count or name not in needs or attention is not None)
            for rows, count, name, attention in (
                (self.audio, counts.audio, "audio_attention", self.audio_attention),
                (self.audio, counts.audio, "audio_attention_clip", self.audio_attention_clip),
                (self.video, counts.video, "video_attention", self.video_attention),
            )
        )


@torch.inference_mode()
def encode_media(
    thinker: Thinker,
    prompt: Prompt,
    needs: frozenset[str] = frozenset(),
    progress: ProgressCallback = SILENT,
    *,
    limits: Limits | None = None,
    same_within: float | None = 0.0,
    store: FeatureStore | None = None,
) -> MediaFeatures:
    """Run both encoders once. `needs` may hold "audio_attention", "audio_attention_clip" and "video_attention" (`Method.needs`).

    `limits` bound what passes an encoder at once; `same_within` is `MediaConfig.same_within`, None encodes equal pictures again; an encoder
    does not run where `store` has its output, and fills it where not. Raises torch's out-of-memory error.
    """
    limits, store = limits or Limits(), store or FeatureStore(memory_bytes=0)
    counts, depth = prompt.token_map.counts(), thinker.spec.temporal_patch_size
    audio: EncoderOutput | None = None
    video: EncoderOutput | None = None
    ran = False
    if prompt.mel is not None:
        clip_wide = "audio_attention_clip" in needs
        # Attention inside windows costs little, so it is read along with the other: a second method finds it in the store.
        attention = clip_wide or "audio_attention" in needs
        key = store.key(thinker.adapter.audio_encoder, [prompt.mel.tobytes()])
        audio = store.get(key, FeatureShape(counts.audio, thinker.sizes.hidden, thinker.dtype, attention, clip_wide), thinker.device)
        if audio is None:
            thinker.adapter.place_encoders(thinker.device)
            audio, ran = _encode_audio(thinker, prompt.mel, attention, clip_wide, limits), True
            store.put(key, audio)
    if prompt.frames is not None and prompt.grid_thw is not None:
        attention = "video_attention" in needs
        digests = grid_digests(prompt.frames, depth)
        key = store.key(thinker.adapter.vision_encoder, [f"{thinker.spec} {prompt.frames.shape} {same_within}".encode(), *digests])
        video = store.get(key, FeatureShape(counts.video, thinker.sizes.hidden, thinker.dtype, attention), thinker.device)
        if video is None:
            thinker.adapter.place_encoders(thinker.device)
            sources = _sources(prompt.frames, digests, thinker.spec, attention, same_within)
            video, ran = _encode_video(thinker, prompt.frames, prompt.grid_thw, sources, attention, limits, progress), True
            store.put(key, video)
    return MediaFeatures(
        audio=None if audio is None else audio.rows,
        video=None if video is None else video.rows,
        audio_attention=None if audio is None else audio.attention,
        audio_attention_clip=None if audio is None else audio.clip_attention,
        video_attention=None if video is None else video.attention,
        reused=counts.media > 0 and not ran,
    )


def _sources(
    frames: NDArray[np.uint8], digests: list[bytes], spec: PromptSpec, attention: bool, same_within: float | None
) -> NDArray[np.int64]:
    """(grids,) the grid whose encoding each grid takes: its own where `same_within` is None."""
    if same_within is None:
        return np.arange(len(digests))
    unit = GRIDS_PER_CHUNK if attention else 1  # attention received is read chunk by chunk, so chunks repeat as a whole
    return grid_sources(frames, digests, depth=spec.temporal_patch_size, cell=spec.token_side_px, unit=unit, same_within=same_within)


@torch.inference_mode()
def embed(thinker: Thinker, prompt: Prompt, features: MediaFeatures) -> Tensor:
    """(1, n, d) input embeddings: text rows from the table, media rows from the encoders."""
    ids = torch.from_numpy(prompt.input_ids).to(thinker.device)
    embeds = thinker.adapter.embed(ids)
    for modality, rows in ((Modality.AUDIO, features.audio), (Modality.VIDEO, features.video)):
        if rows is not None:
            places = torch.from_numpy(prompt.token_map.rows(modality)).to(thinker.device)
            embeds.index_copy_(0, places, rows.to(embeds.dtype))
    return embeds[None]


def _encode_video(
    thinker: Thinker,
    frames: NDArray[np.uint8],
    grid_thw: tuple[int, int, int],
    sources: NDArray[np.int64],
    attention: bool,
    limits: Limits,
    progress: ProgressCallback,
) -> EncoderOutput:
    """Every grid that is its own source, in pieces; the others take over what their sources gave."""
    spec, (grids, height, width) = thinker.spec, grid_thw
    depth, unit = spec.temporal_patch_size, GRIDS_PER_CHUNK if attention else 1
    fresh = np.flatnonzero(sources == np.arange(grids))
    step = max(unit, limits.patches // (height * width) // unit * unit)
    parts = []
    with thinker.adapter.capture_video_attention(GRIDS_PER_CHUNK) if attention else nullcontext() as capture:
        for start in range(0, len(fresh), step):
            piece = fresh[start : start + step]
            # An incomplete last grid repeats the last frame, as `patchify` does.
            of_piece = (piece[:, None] * depth + np.arange(depth)).clip(max=len(frames) - 1).ravel()
            patches = patchify(torch.from_numpy(frames[of_piece]).to(thinker.device), spec).to(thinker.dtype)
            grid = torch.tensor([[len(piece), height, width]], device=thinker.device)
            parts.append(thinker.adapter.encode_video(patches, grid))
            progress.advance(int(piece[-1]) + 1, grids)
    rows, received = torch.cat(parts), None if capture is None else capture.received()
    if len(fresh) < grids:
        place = torch.from_numpy(np.searchsorted(fresh, sources)).to(thinker.device)
        rows = rows.unflatten(0, (len(fresh), -1))[place].flatten(0, 1)
        received = None if received is None else received.unflatten(0, (len(fresh), -1))[place].flatten()
    return EncoderOutput(rows, received)


def _encode_audio(thinker: Thinker, mel: NDArray[np.float32], attention: bool, clip_wide: bool, limits: Limits) -> EncoderOutput:
    window = thinker.adapter.audio_window
    parts = []
    with ExitStack() as block:
        windowed = block.enter_context(thinker.adapter.capture_audio_attention("window")) if attention else None
        whole = block.enter_context(thinker.adapter.capture_audio_attention("clip")) if clip_wide else None
        for piece in torch.from_numpy(mel).to(thinker.device, thinker.dtype).split(window * limits.windows, dim=1):
            if count_audio_tokens(piece.shape[1]) == 0:
                break  # a last window too short for a token; the whole clip in one pass gives none for it either
            parts.append(thinker.adapter.encode_audio(piece))
    return EncoderOutput(
        torch.cat(parts),
        attention=None if windowed is None else windowed.received(),
        clip_attention=None if whole is None else whole.received(),
    )
