"""Pruning round transformers' own `generate`, for code that already has a model and the processor's inputs.

>>> inputs = processor(text=text, videos=videos, audio=audio, return_tensors="pt", use_audio_in_video=True)
>>> with omnidrop_cli.pruned(model, inputs, keep=0.3) as pruning:
...     ids = model.generate(**inputs, use_audio_in_video=True)
>>> pruning.trace().retention_after
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from omnidrop_cli.config import PruningConfig
from omnidrop_cli.errors import UsageError
from omnidrop_cli.model.adapter import QwenOmniAdapter
from omnidrop_cli.prompt.token_map import token_map_of
from omnidrop_cli.prune.base import Scope
from omnidrop_cli.prune.generate_hook import pruning
from omnidrop_cli.prune.methods import get_method

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from omnidrop_cli.prune.state import PruningState


@contextmanager
def pruned(
    model: Any,
    inputs: Mapping[str, Any],
    *,
    keep: float | None = None,
    method: str = "omnidrop",
    preset: str | None = None,
    options: Mapping[str, str] | None = None,
    is_query: NDArray[np.bool_] | None = None,
) -> Iterator[PruningState]:
    """Prune every prefill of `inputs` that `model` runs inside the block.

    Args:
        model: transformers' Qwen2.5-Omni thinker, loaded with SDPA or flash attention.
        inputs: the processor's output for one prompt with at most one clip: `input_ids`, and `video_grid_thw` and
            `video_second_per_grid` where there is a video.
        keep: fraction of audio and video tokens kept, as a mean over the layers.
        method, preset, options: as on the command line; see `omnidrop methods`.
        is_query: (n,) which tokens are the question; None takes the text of the last user turn.

    Yields:
        The state of the prefill. `trace()` says what every layer saw; `tokens` is the token map.

    Raises:
        UsageError: a batch, several clips, or a method that cannot work with this prompt.
        ModelError: a model that cannot be pruned.
    """
    chosen = get_method(PruningConfig(method, keep, preset, dict(options or {})))
    ids = inputs["input_ids"]
    if ids.ndim != 2 or ids.shape[0] != 1:
        raise UsageError(f"pruning runs one prompt at a time, not input_ids of shape {tuple(ids.shape)}")
    grid, seconds = _video(inputs)
    tokens = token_map_of(ids[0].cpu().numpy(), model.config, grid_thw=grid, seconds_per_grid=seconds, is_query=is_query)
    adapter = QwenOmniAdapter(model)
    counts = tokens.counts()
    with ExitStack() as stack:
        audio = video = None
        if counts.audio and chosen.needs & {"audio_attention", "audio_attention_clip"}:
            scope: Scope = "clip" if "audio_attention_clip" in chosen.needs else "window"
            audio = stack.enter_context(adapter.capture_audio_attention(scope)).received
        if "video_attention" in chosen.needs and counts.video:
            video = stack.enter_context(adapter.capture_video_attention()).received
        try:
            state = stack.enter_context(pruning(model, chosen, tokens, audio_attention=audio, video_attention=video))
        except ValueError as error:
            raise UsageError(f"{chosen.name}: {error}") from error
        yield state


def _video(inputs: Mapping[str, Any]) -> tuple[tuple[int, int, int] | None, float]:
    """Grid of the clip's video, and its seconds per temporal grid."""
    grids = inputs.get("video_grid_thw")
    if grids is None or len(grids) == 0:
        return None, 1.0
    if len(grids) > 1:
        raise UsageError(f"pruning around `generate` takes one video per prompt, not {len(grids)}", "`Session.ask` takes several clips")
    time, height, width = (int(value) for value in grids[0])
    seconds = inputs.get("video_second_per_grid")
    return (time, height, width), 1.0 if seconds is None else float(seconds[0])
