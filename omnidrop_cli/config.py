"""What a user asks for: which part of a clip, which model, which pruning, how the answer is sampled. Plain values, no heavy import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class MediaConfig:
    """Which part of a clip is read, and how densely. Pixel bounds are per frame; None means the model's own (`ModelSpec`).

    Frame pairs whose cells differ by at most `same_within` levels of 255 on average are encoded once, as are equal ones always.
    """

    start_s: float = 0.0
    end_s: float | None = None
    fps: float = 2.0
    min_frames: int = 4
    max_frames: int = 768
    min_pixels: int | None = None
    max_pixels: int | None = None
    use_audio: bool = True
    use_video: bool = True
    same_within: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which checkpoint runs, and how it is loaded. `quant` is one of nf4, int8, none, auto.

    With `feature_cache`, what its towers make of a clip is kept on disk for the next run. With `graph`, longer answers are decoded by a
    captured CUDA graph.
    """

    name: str = "auto"
    quant: str = "auto"
    device: str = "auto"
    dtype: str = "auto"
    attention: str = "sdpa"
    revision: str | None = None
    offline: bool = False
    feature_cache: bool = True
    graph: bool = True


@dataclass(frozen=True, slots=True)
class PruningConfig:
    """Which pruning method runs. `keep` is the fraction of audio and video tokens kept, as a mean over the layers."""

    name: str = "omnidrop"
    keep: float | None = None
    preset: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """How the answer is sampled. Temperature 0 is greedy, which is how the Qwen team scores the model."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FetchConfig:
    """How clips are fetched from addresses. None of it shapes an answer.

    `refresh` fetches again what is in the cache. `cookies` is a file in Netscape's format, `cookies_from_browser` BROWSER[:PROFILE].
    """

    refresh: bool = False
    cookies: str | None = None
    cookies_from_browser: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One question about one clip, validated."""

    media: str
    question: str
    system: str | None = None
    media_options: MediaConfig = field(default_factory=MediaConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    method: PruningConfig = field(default_factory=PruningConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    fetch: FetchConfig = field(default_factory=FetchConfig)
