"""Time saved by frame deduplication and by the cache of encoder outputs.

The least cosine between a token's own encoding and the one that serves it shows what deduplication with a tolerance costs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from omnidrop_cli.bench.device import device_name, sample_here
from omnidrop_cli.bench.measurement import BenchReport, Group, Sample, alternate
from omnidrop_cli.bench.subprocess_run import Tell, Work
from omnidrop_cli.engine.encode import MediaFeatures, encode_media
from omnidrop_cli.engine.feature_cache import FeatureStore
from omnidrop_cli.engine.frame_dedup import grid_digests, grid_sources
from omnidrop_cli.errors import UsageError
from omnidrop_cli.events import SILENT, ProgressCallback

if TYPE_CHECKING:
    from omnidrop_cli.engine.session import Session
    from omnidrop_cli.model.thinker import Thinker
    from omnidrop_cli.outputs import Clip, Prompt


def bench_reuse(
    session: Session,
    clips: Sequence[Clip],
    tolerances: Sequence[float] = (0.0, 1.0, 2.0),
    *,
    blocks: int = 0,
    repeats: int = 3,
    progress: ProgressCallback = SILENT,
) -> BenchReport:
    """One group per clip: every pair of frames encoded, equal ones once, nearly equal ones once, and the second question.

    `blocks` > 0 runs that many blocks of the vision encoder: each costs the same, so the ratios hold, and a slow device finishes.
    Raises `UsageError` for a clip without video.
    """
    from omnidrop_cli.prompt.build import build

    thinker, groups = session.thinker, []
    for clip in clips:
        name = Path(clip.source.path).name
        if clip.frames is None:
            raise UsageError(f"{name} has no video", "give a video")
        progress.stage("encode", name)
        prompt = build([clip], "What is shown?", thinker.tokenizer, thinker.spec)
        with _shortened(thinker.adapter.vision_encoder, blocks), tempfile.TemporaryDirectory(prefix="omnidrop-bench-") as folder:
            groups.append(_group(thinker, prompt, name, tolerances, Path(folder), repeats, progress))
    facts = {"model": thinker.loaded.name, "dtype": thinker.loaded.dtype, "blocks": blocks or len(thinker.adapter.vision_encoder.blocks)}
    return BenchReport("reuse", device_name(thinker.device), repeats, groups, ("torch", "transformers"), facts)


def _group(
    thinker: Thinker, prompt: Prompt, name: str, tolerances: Sequence[float], folder: Path, repeats: int, progress: ProgressCallback
) -> Group:
    kept = FeatureStore(folder)
    known = encode_media(thinker, prompt, store=kept)
    plain = encode_media(thinker, prompt, same_within=None)

    def encoded(same_within: float | None) -> Tell:
        made = encode_media(thinker, prompt, same_within=same_within)
        return lambda: {"pairs": _pairs(thinker, prompt, same_within), "least_cosine": _least_cosine(plain, made)}

    def again(store: FeatureStore) -> Tell:
        made = encode_media(thinker, prompt, store=store)
        return lambda: {"pairs": 0 if made.reused else None, "least_cosine": _least_cosine(known, made)}

    works: dict[str, Work] = {"every pair": partial(encoded, None)}
    for tolerance in tolerances:
        works["equal pairs once" if tolerance == 0 else f"within {tolerance:g} levels"] = partial(encoded, tolerance)
    works["second question, memory"] = lambda: again(kept)
    works["second question, disk"] = lambda: again(FeatureStore(folder))
    runs: dict[str, Callable[[], Sample]] = {name: partial(sample_here, thinker.device, work) for name, work in works.items()}
    counts = prompt.token_map.counts()
    grid = prompt.media[0].grid_thw
    return Group(f"{name}: {grid[0] if grid else 0} pairs, {counts.video} video tokens", alternate(runs, repeats, progress))


def _pairs(thinker: Thinker, prompt: Prompt, same_within: float | None) -> int:
    """How many pairs of frames are encoded."""
    (clip,) = prompt.media
    if clip.frames is None or clip.grid_thw is None:
        return 0
    if same_within is None:
        return clip.grid_thw[0]
    depth = thinker.spec.temporal_patch_size
    digests = grid_digests(clip.frames, depth)
    sources = grid_sources(clip.frames, digests, depth=depth, cell=thinker.spec.token_side_px, same_within=same_within)
    return len(np.unique(sources))


def _least_cosine(plain: MediaFeatures, made: MediaFeatures) -> float:
    if plain.video is None or made.video is None:
        return 1.0
    return float(torch.cosine_similarity(plain.video.float(), made.video.float(), dim=-1).min())


@contextmanager
def _shortened(encoder: Any, blocks: int) -> Iterator[None]:
    """Inside the context, the vision encoder has its first `blocks` blocks only; 0 changes nothing."""
    whole = encoder.blocks
    encoder.blocks = whole[:blocks] if blocks else whole
    try:
        yield
    finally:
        encoder.blocks = whole
