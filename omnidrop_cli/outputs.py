"""The frozen records of the pipeline, from a question to a report.

What each step hands to the next, in plain values and NumPy arrays, and what can be derived from one record alone. Imports neither torch
nor transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from omnidrop_cli.config import MediaConfig, Request
from omnidrop_cli.tokens import FRAMES_PER_GRID as FRAMES_PER_GRID
from omnidrop_cli.tokens import AttentionTrace as AttentionTrace
from omnidrop_cli.tokens import Counts as Counts
from omnidrop_cli.tokens import KeptTokens as KeptTokens
from omnidrop_cli.tokens import Modality as Modality
from omnidrop_cli.tokens import TokenMap as TokenMap
from omnidrop_cli.tokens import Trace as Trace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SECONDS_PER_CHUNK = 2.0
"""Audio and video interleave in chunks of two seconds (Qwen2.5-Omni processor, `seconds_per_chunk`)."""

SAMPLE_RATE_HZ = 16_000
"""Rate of every waveform after decoding (Whisper feature extractor)."""


# ---------------------------------------------------------------- the clip


class FrameBounds(NamedTuple):
    """Least and most pixels of one frame."""

    min_pixels: int
    max_pixels: int

    def fill(self, options: MediaConfig) -> MediaConfig:
        """`options` with these bounds where it leaves them open."""
        return options.with_bounds(*self)


@dataclass(frozen=True, slots=True)
class VideoStream:
    """The video track as stored, before it is turned upright and sampled.

    Upright means mirrored left to right if `mirrored`, then turned counter-clockwise by `rotation_deg`. `pixel_aspect` is the width of a
    pixel over its height. `frames` counts the frames that can be shown.
    """

    codec: str
    width: int
    height: int
    fps: float
    duration_s: float | None
    rotation_deg: int = 0
    frames: int | None = None
    mirrored: bool = False
    pixel_aspect: float = 1.0

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) in square pixels as the picture is meant to be seen."""
        height, width = self.height, max(1, round(self.width * self.pixel_aspect))
        return (height, width) if self.rotation_deg % 180 == 0 else (width, height)


@dataclass(frozen=True, slots=True)
class AudioStream:
    """Facts of the sound track as stored."""

    codec: str
    sample_rate_hz: int
    channels: int
    duration_s: float | None


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """Facts of a file, found without decoding it.

    `sha256` covers the whole content and is filled only where asked for. `fetched_at` is when the copy of an address was fetched, ISO 8601
    in UTC. `subtitles` says which of them the model was given.
    """

    path: str
    container: str
    size_bytes: int
    duration_s: float
    video: VideoStream | None
    audio: AudioStream | None
    sha256: str | None = None
    fetched_at: str | None = None
    subtitles: str | None = None


@dataclass(frozen=True, slots=True)
class Subtitles:
    """Text shown with a clip. `source` is a file's name or "track N", `lines` are seconds from the start of the part, and words."""

    source: str
    language: str | None
    lines: tuple[tuple[float, str], ...]

    @property
    def about(self) -> str:
        """Where they come from and how much there is: "talk.srt, en, 12 lines"."""
        return ", ".join(filter(None, (self.source, self.language, f"{len(self.lines)} line{'s' * (len(self.lines) != 1)}")))

    @property
    def characters(self) -> int:
        return sum(len(words) for _, words in self.lines)


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A decoded clip: frames at model size and 16 kHz mono sound, both counted from `start_s` of the file.

    `frames` is uint8 (T, 3, H, W), RGB, T even, H and W multiples of 28. `frame_times_s` is (T,), seconds in the file.
    `fps` is the effective rate (frames over the seconds they cover), never the requested one.
    `waveform` is float32 (N,) in [-1, 1]; sample 0 is at `start_s`.
    """

    source: SourceFacts
    frames: NDArray[np.uint8] | None
    frame_times_s: NDArray[np.float64] | None
    fps: float | None
    waveform: NDArray[np.float32] | None
    start_s: float
    duration_s: float
    warnings: tuple[str, ...] = ()
    subtitles: Subtitles | None = None

    @property
    def has_video(self) -> bool:
        return self.frames is not None

    @property
    def has_audio(self) -> bool:
        return self.waveform is not None


# ---------------------------------------------------------------- the prompt


@dataclass(frozen=True, slots=True, eq=False)
class EncoderInput:
    """What the encoders read of one clip.

    `frames` uint8 (T, 3, H, W) become patches piece by piece in the encoder, since patches take five times the memory; `grid_thw` counts
    temporal grids and 14-pixel patches, `seconds_per_grid` is how long one lasts in the layout. `mel` float32 (128, M), nothing cut.
    """

    frames: NDArray[np.uint8] | None = None
    grid_thw: tuple[int, int, int] | None = None
    seconds_per_grid: float | None = None
    mel: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A model input of batch one: token ids, the media behind the placeholder ids, and where each token sits.

    `input_ids` int64 (n,); `positions` int64 (3, n), TMRoPE temporal, height, width; `next_position` is the position of the first
    generated token. `media` are the clips in the order of the prompt. `warnings` are worth telling the user.
    """

    input_ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    next_position: int
    token_map: TokenMap
    media: tuple[EncoderInput, ...]
    text: str
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.input_ids)


# ---------------------------------------------------------------- what came out


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers a question allowed. `probability` is among all of them; `log_probability` (nats) is the model's own."""

    text: str
    probability: float
    log_probability: float


@dataclass(frozen=True, slots=True)
class DraftCounts:
    """Prompt lookup's part in an answer: decoder steps after the prefill, tokens drafted, and those of them that the answer took."""

    steps: int
    drafted: int
    accepted: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The generated text. `finish_reason` is eos, stop, length or choice; `choices` are in the order they were given.

    `parsed` is the value of the text where a schema was given. `drafts` is None where prompt lookup was off.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    choices: tuple[Choice, ...] = ()
    parsed: Any = None
    drafts: DraftCounts | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds of each stage, the device synchronised at both ends. A stage that did not run is 0."""

    fetch_s: float = 0.0
    decode_s: float = 0.0
    build_s: float = 0.0
    load_s: float = 0.0
    encode_s: float = 0.0
    prefill_s: float = 0.0
    generate_s: float = 0.0
    first_token_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes (1e6 bytes). `peak_mb` is the device's peak on CUDA and the process's resident peak on the CPU."""

    weights_mb: float
    kv_mb: float
    kv_full_mb: float
    peak_mb: float
    kind: str


@dataclass(frozen=True, slots=True)
class Flops:
    """Exact FLOPs of the language model's prefill (projections, attention, MLP, last-row logits), and of the encoders on the same clip.

    `encoders` is what they cost where no frame repeats and nothing is cached; pruning does not change it.
    """

    full: int
    pruned: int
    encoders: int = 0

    @property
    def ratio(self) -> float:
        """The pruned prefill's share of the full one."""
        return self.pruned / self.full if self.full else 1.0

    @property
    def ratio_with_encoders(self) -> float:
        """The same with the encoders in both."""
        total = self.full + self.encoders
        return (self.pruned + self.encoders) / total if total else 1.0


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What actually runs, after every `auto` was resolved; `reasons` say why."""

    name: str
    source: str
    quant: str
    device: str
    dtype: str
    attention: str
    num_layers: int
    revision: str | None = None
    reasons: tuple[str, ...] = ()
    notice: str | None = None
    quant_head: str = "none"


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """What was used of a clip: `duration_s` seconds from `start_s` of the file, `frames` frames of `frame_size` (height, width) at `fps`.

    `fps` is the effective rate. `audio_s` is 0 without audio.
    """

    source: SourceFacts
    start_s: float
    duration_s: float
    frames: int
    frame_size: tuple[int, int] | None
    fps: float | None
    audio_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """Everything one question produced; `report/json.py` gives it its versioned shape.

    `clips` are in the order of the question. `features_reused`: the encoders did not run, their output for these clips was cached.
    `token_map` describes the prompt's tokens; it is None in a report that was saved without its kept tokens.
    """

    job: Request
    model: LoadedModel
    clips: tuple[ClipFacts, ...]
    prompt: Counts
    method: str
    method_options: Mapping[str, object]
    trace: Trace
    answer: Answer
    timings: Timings
    memory: Memory
    flops: Flops
    warnings: tuple[str, ...] = ()
    features_reused: bool = False
    token_map: TokenMap | None = None

    @property
    def clip(self) -> ClipFacts:
        """The first clip; most questions have no other."""
        return self.clips[0]

    @property
    def kept(self) -> tuple[KeptTokens, ...]:
        """The surviving audio and video tokens, one entry per run of layers that see the same ones; empty without `token_map`."""
        return () if self.token_map is None else self.trace.kept_tokens(self.token_map)

    def show(self, kind: str = "page") -> Any:
        """Draw what each layer kept: the interactive "page", the contact "sheet" or the "overlay" video (`explain.show.show`)."""
        return _explain().show(self, kind)

    def _repr_html_(self) -> str:
        html: str = _explain().summary_html(self)
        return html

    def __repr__(self) -> str:
        kept = f"kept {self.trace.retention_after:.3g}" if self.prompt.media else "no media"
        answer = self.answer.text if len(self.answer.text) <= 60 else f"{self.answer.text[:57]}..."
        return f"<Report {self.model.name} {self.method} {kept} first_token {self.timings.first_token_s:.3g} s answer {answer!r}>"


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The same prompt run full and pruned.

    `agreement` is the share of generated tokens before the first difference, `first_difference` that token's index (None: the answers
    are equal); `report.alignment` compares the words. `full_repeats` and `pruned_repeats` are the timings of every measured round of
    the same prompt, the reports' own included, round i of one next to round i of the other. A stage that was not repeated is 0; without
    repeats both are empty.
    """

    full: Report
    pruned: Report
    agreement: float
    first_difference: int | None
    first_token_kl: float
    full_repeats: tuple[Timings, ...] = ()
    pruned_repeats: tuple[Timings, ...] = ()

    def show(self, kind: str = "page") -> Any:
        """As `Report.show`, of the pruned run; the page has both answers."""
        return _explain().show(self, kind)


def _explain() -> Any:
    """The module that draws records. Found by name when it is needed: records are below it in the order of imports."""
    return import_module("omnidrop_cli.explain.show")
