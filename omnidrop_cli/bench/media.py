"""Seconds and memory of decoding clips to frames and sound, each in a process of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidrop_cli.bench.device import processor
from omnidrop_cli.bench.measurement import BenchReport, Group, Sample, alternate
from omnidrop_cli.bench.subprocess_run import Tell, Work, in_child
from omnidrop_cli.config import MediaConfig
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.outputs import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Prepare = Callable[[Path, MediaConfig], Work]
"""Loads libraries and chooses frames; what it returns is measured. An importable function."""


def bench_media(
    clips: Sequence[Path],
    options: MediaConfig,
    decoders: Mapping[str, Prepare] | None = None,
    *,
    repeats: int = 3,
    progress: ProgressCallback = SILENT,
) -> BenchReport:
    """One group per clip, one run per decoder (ours alone unless given). Raises `MediaError` for a clip that cannot be probed."""
    chosen = decoders or {"omnidrop": ours}
    groups = []
    for clip in clips:
        subject = _subject(clip)
        progress.stage("decode", clip.name)
        runs: dict[str, Callable[[], Sample]] = {name: partial(in_child, prepare, clip, options) for name, prepare in chosen.items()}
        groups.append(Group(subject, alternate(runs, repeats, progress)))
    facts = {"audio": options.use_audio, "fps": options.fps, "max_frames": options.max_frames}
    return BenchReport("media", processor(), repeats, groups, ("av", "numpy"), facts)


def ours(clip: Path, options: MediaConfig) -> Work:
    """The decoder that `ask` uses."""
    import av  # noqa: F401  # loaded before the clock runs

    from omnidrop_cli.media.clip import decode_media

    def work() -> Tell:
        made = decode_media(clip, options)
        return partial(facts_of, made.frames, made.waveform)

    return work


def facts_of(frames: NDArray[np.uint8] | None, waveform: NDArray[np.float32] | None, **more: Any) -> dict[str, Any]:
    """What was decoded: runs with the same digest gave the same frames to the bit."""
    import numpy as np

    return {
        "frames": 0 if frames is None else len(frames),
        "size": None if frames is None else list(frames.shape[2:]),
        "digest": None if frames is None else hashlib.sha256(np.ascontiguousarray(frames).data).hexdigest()[:16],
        "audio_seconds": 0.0 if waveform is None else len(waveform) / SAMPLE_RATE_HZ,
        **more,
    }


def _subject(clip: Path) -> str:
    from omnidrop_cli.engine.pipeline import facts_of_file

    facts = facts_of_file(clip)
    track = f"{facts.video.codec}, {facts.video.width}x{facts.video.height}" if facts.video else "audio alone"
    return f"{clip.name}: {track}, {facts.duration_s:.0f} s"
