"""Prompt → embeddings of every token.

Frames of different temporal grids, and audio of different windows, never attend to each other in the encoders. So a clip is encoded in
pieces of bounded size, and a repeated frame is encoded once, with the same result. Clips are encoded and stored one by one: each is found
again in another question, whatever clips it stands with there. What the encoders' last layers attended to is returned with the embeddings
where a method needs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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

Grid = tuple[int, int, int]
"""Temporal grids, patch rows and patch columns."""

GRIDS_PER_CHUNK = 2
"""Temporal grids that attention received in the vision encoder looks at together (`capture_video_attention`)."""


@dataclass(frozen=True, slots=True, eq=False)
class MediaFeatures:
    """What the encoders made of a prompt's clips; good for every question about them.

    `audio` (n_a, d) and `video` (n_v, d) in prompt order, on the model's device; the attentions (n_a,), (n_v,) float32 where asked:
    `audio_attention` inside the encoder's windows, `audio_attention_clip` over the whole of a clip. `reused` says that no encoder ran for
    them.
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
        """Whether these are features of `prompt`'s clips, as far as counts tell, with what `needs` names."""
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
    """Run both encoders once per clip.

    Args:
        needs: may hold "audio_attention", "audio_attention_clip" and "video_attention" (`Method.needs`).
        limits: bound what passes an encoder at once.
        same_within: `MediaConfig.dedup_threshold`; None encodes equal pictures again.
        store: an encoder does not run where it has the output, and fills it where not.

    Raises:
        RuntimeError: out of memory, as torch reports it.
    """
    run = _EncoderRun(thinker, needs, progress, limits or Limits(), same_within, store or FeatureStore(memory_bytes=0))
    audio = [run.audio(one.mel) for one in prompt.media if one.mel is not None]
    video = [run.video(one.frames, one.grid_thw) for one in prompt.media if one.frames is not None and one.grid_thw is not None]
    return MediaFeatures(
        audio=_joined([one.rows for one in audio]),
        video=_joined([one.rows for one in video]),
        audio_attention=_joined([one.attention for one in audio]),
        audio_attention_clip=_joined([one.clip_attention for one in audio]),
        video_attention=_joined([one.attention for one in video]),
        reused=bool(audio or video) and not run.ran,
    )


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """The clips' parts end to end; None where there are none, or where they were not asked for."""
    given = [part for part in parts if part is not None]
    if not given:
        return None
    return given[0] if len(given) == 1 else torch.cat(given)


@dataclass(slots=True, eq=False)
class _EncoderRun:
    """Both encoders over the clips of one prompt. `ran` says whether one of them had to; the rest are arguments of `encode_media`."""

    thinker: Thinker
    needs: frozenset[str]
    progress: ProgressCallback
    limits: Limits
    same_within: float | None
    store: FeatureStore
    ran: bool = False

    def audio(self, mel: NDArray[np.float32]) -> EncoderOutput:
        """The audio encoder's output for a clip's mel (n_mels, M)."""
        thinker, clip_wide = self.thinker, "audio_attention_clip" in self.needs
        # Attention inside windows costs little, so it is read along with the other: a second method finds it in the store.
        attention = clip_wide or "audio_attention" in self.needs
        key = self.store.key(thinker.adapter.audio_encoder, [mel.tobytes()])
        shape = self._shape(count_audio_tokens(mel.shape[1]), attention, clip_wide)
        return self._stored(key, shape, lambda: _encode_audio(thinker, mel, attention, clip_wide, self.limits))

    def video(self, frames: NDArray[np.uint8], grid: Grid) -> EncoderOutput:
        """The vision encoder's output for a clip's frames (T, 3, H, W)."""
        thinker, attention = self.thinker, "video_attention" in self.needs
        digests = grid_digests(frames, thinker.spec.temporal_patch_size)
        key = self.store.key(thinker.adapter.vision_encoder, [f"{thinker.spec} {frames.shape} {self.same_within}".encode(), *digests])

        def encode() -> EncoderOutput:
            sources = _sources(frames, digests, thinker.spec, attention, self.same_within)
            return _encode_video(thinker, frames, grid, sources, attention, self.limits, self.progress)

        return self._stored(key, self._shape(math.prod(grid) // thinker.spec.spatial_merge_size**2, attention), encode)

    def _shape(self, tokens: int, attention: bool, clip_wide: bool = False) -> FeatureShape:
        return FeatureShape(tokens, self.thinker.sizes.hidden, self.thinker.dtype, attention, clip_wide)

    def _stored(self, key: str, shape: FeatureShape, encode: Callable[[], EncoderOutput]) -> EncoderOutput:
        """What the store has under `key`; otherwise what `encode` gives, which the store then keeps."""
        output = self.store.get(key, shape, self.thinker.device)
        if output is None:
            self.thinker.adapter.place_encoders(self.thinker.device)
            output, self.ran = encode(), True
            self.store.put(key, output)
        return output


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
    grid_thw: Grid,
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
