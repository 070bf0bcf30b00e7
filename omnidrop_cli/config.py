"""The options of a question: which part of a clip is read, which model and pruning method run, how the answer is sampled.

Every option is declared here, once: its type, bounds, choices and help, and what it is called on the command line, in environment
variables and in settings files. Creating a config checks it and raises `UsageError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from omnidrop_cli.errors import UsageError
from omnidrop_cli.json_schema import schema_text
from omnidrop_cli.options import check_options, option, seconds

TOKEN_PIXELS = 28 * 28
"""Pixels of a frame that become one token; a frame has at least one."""

MOST_PIXELS = 1 << 27
"""Pixels of a frame that FFmpeg scales to without an error."""

_TIME = "a time: seconds (90), minutes (1:30) or hours (1:02:03.5)"


Timing = Literal["true", "published"]
"""Time of the frames in a benchmark's prompts: the clip's own, or one second per pair of frames for every clip."""


@dataclass(frozen=True, slots=True)
class MediaConfig:
    """Which part of a clip is read, and how densely. Pixel bounds are per frame; None means the model's own (`ModelSpec`).

    Pairs of frames whose cells differ by at most `dedup_threshold` levels of 255 on average are encoded once, and equal ones always.
    """

    PANEL: ClassVar[str] = "Media"

    start_s: float = option(
        0.0,
        "Start of the part to read: 90, 1:30 or 0:01:30.5.",
        low=0,
        flag="start",
        metavar="TIME",
        noun=_TIME,
        read=seconds,
        settable=False,
        shown="the start of the clip",
    )
    end_s: float | None = option(
        None,
        "End of the part to read.",
        above=0,
        flag="end",
        metavar="TIME",
        noun=_TIME,
        read=seconds,
        settable=False,
        shown="the end of the clip",
    )
    fps: float = option(2.0, "Sampled frames per second.", above=0, high=120)
    min_frames: int = option(4, "Minimum number of sampled frames.", low=2)
    max_frames: int = option(768, "Maximum number of sampled frames.", low=2)
    min_pixels: int | None = option(
        None, "Minimum number of pixels per frame.", low=TOKEN_PIXELS, high=MOST_PIXELS, shown="the model's own"
    )
    max_pixels: int | None = option(
        None, "Maximum number of pixels per frame.", low=TOKEN_PIXELS, high=MOST_PIXELS, shown="the model's own"
    )
    use_audio: bool = option(True, "Use the audio track.", flag="audio", settable=False)
    use_video: bool = option(True, "Use the video track.", flag="video", settable=False)
    subtitles: str | None = option(
        None,
        "Give the model the subtitles as text: auto, a language (en), or a file (.srt, .vtt, .ass).",
        metavar="auto|LANG|FILE",
        complete="files",
    )
    dedup_threshold: float = option(
        0.0,
        "Encode a pair of frames once if its tokens' areas differ by at most this, on average, in levels of 255. 0: only equal frames.",
        low=0,
        high=255,
        old=("same-within",),
    )

    def __post_init__(self) -> None:
        check_options(self)
        if not self.use_audio and not self.use_video:
            raise UsageError("`use_audio=False` and `use_video=False` leave nothing of the clip", "give at most one of them")
        if self.subtitles is not None and not self.subtitles.strip():
            raise UsageError("`subtitles` is empty", "give auto, a language such as en, or a file")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise UsageError(
                f"`end_s` is {self.end_s:g} s, which is not after `start_s` at {self.start_s:g} s", "times count from the start of the file"
            )
        if self.min_frames > self.max_frames:
            raise _crossed("frames", self.min_frames, self.max_frames)
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise _crossed("pixels", self.min_pixels, self.max_pixels)

    def with_bounds(self, min_pixels: int, max_pixels: int) -> MediaConfig:
        """The config with the model's bounds in pixels per frame where none were given; a given bound moves the other one along.

        A lower bound is moved to a quarter of a smaller upper one: the stock pipeline scales a frame that ends below the lower bound up
        again, beyond the upper one.
        """
        high = self.max_pixels or max(max_pixels, self.min_pixels or 0)
        low = min_pixels if min_pixels <= high else max(TOKEN_PIXELS, high // 4)
        return replace(self, min_pixels=self.min_pixels or low, max_pixels=high)


def _crossed(unit: str, low: int, high: int) -> UsageError:
    return UsageError(f"`min_{unit}` is {low}, more than `max_{unit}`, which is {high}", "raise the one or lower the other")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which checkpoint runs, and how it is loaded.

    With `feature_cache`, the encoders' output of a clip is kept on disk for the next run. With `graph`, longer answers are decoded by
    a captured CUDA graph.
    """

    PANEL: ClassVar[str] = "Model"

    name: str = option(
        "auto",
        "auto, nano, 3b, 7b, a hub repository (OWNER/NAME), a directory or a quantized copy.",
        keyword="model",
        flag="model",
        metavar="NAME",
        complete="models",
    )
    quant: str = option("auto", "Quantization of the decoder's weights.", choices=("auto", "nf4", "int8", "none"))
    device: str = option("auto", "auto, cpu, cuda or cuda:N.", complete="devices", metavar="DEVICE")
    dtype: str = option("auto", "Data type of all that is not quantized.", choices=("auto", "bfloat16", "float16", "float32"))
    # Eager attention sizes its mask from layer 0 and cannot run on layers of different lengths, so it is not offered.
    attention: str = option("sdpa", "Attention implementation.", choices=("sdpa", "flash_attention_2"), flag="attn")
    revision: str | None = option(None, "Branch, tag or commit of a hub repository.", metavar="REV")
    offline: bool = option(False, "Do not use the network.")
    feature_cache: bool = option(True, "Cache encoder outputs on disk.")
    graph: bool = option(True, "Use CUDA graphs for decoding.")
    quant_head: str = option("none", "Quantization of the output matrix, done while loading.", choices=("nf4", "int8", "none"))

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, slots=True)
class PruningConfig:
    """Which pruning method runs. `keep` is the fraction of audio and video tokens kept, as a mean over the layers."""

    PANEL: ClassVar[str] = "Pruning"

    name: str = option(
        "omnidrop",
        "Pruning method, or A+B for two combined. See `omnidrop methods`.",
        keyword="method",
        flag="method",
        short="m",
        metavar="NAME",
        complete="methods",
    )
    keep: float | None = option(
        None,
        "Fraction of audio and video tokens kept, averaged over the layers.",
        above=0,
        high=1,
        short="k",
        metavar="FRACTION",
        shown="0.3",
    )
    preset: str | None = option(None, "Published settings of the method, such as paper-20.", metavar="NAME", complete="presets")
    options: Mapping[str, str] = option(
        dict,
        "Option of the method, as `omnidrop methods NAME` lists them. Repeatable.",
        keyword="method_options",
        flag="option",
        metavar="KEY=VALUE",
        settable=False,
        complete="method-options",
    )
    seed: int = option(0, "Seed of random methods and of sampling.", low=0, high=2**63 - 1)

    def __post_init__(self) -> None:
        check_options(self)
        if self.keep is not None and self.preset is not None:
            raise UsageError("`keep` and `preset` both set the budget", "give one of them")


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """How the answer is sampled. Temperature 0 is greedy, which is how the Qwen team scores the model.

    With `choices` nothing is sampled: the answer is the most probable of them, whatever the other options say. With `schema` (JSON, the
    path of a file, or a mapping; kept as JSON) only tokens are chosen that lead to JSON of that schema. `prompt_lookup` reads up to
    that many drafted tokens in the same step as the last one; the answer stays that of greedy decoding.
    """

    PANEL: ClassVar[str] = "Generation"

    max_new_tokens: int = option(512, "Maximum length of the answer in tokens.", low=1)
    temperature: float = option(0.0, "Sampling temperature; 0 is greedy decoding.", low=0, high=5, gap=0.01)
    top_p: float = option(1.0, "Sample from the most probable tokens that add up to this probability.", above=0, high=1)
    repetition_penalty: float = option(1.0, "Penalty on tokens that occurred before; 1 is none.", above=0, high=5)
    stop: tuple[str, ...] = option((), "End the answer before this text. Repeatable.", metavar="TEXT", settable=False, words=True)
    seed: int = option(0, "Seed of random methods and of sampling.", low=0, high=2**63 - 1)
    choices: tuple[str, ...] = option(
        (),
        "Answer with the most probable of these texts, and show each one's probability.",
        metavar="A,B,...",
        settable=False,
        separator=",",
        words=True,
    )
    schema: str | None = option(
        None,
        "Answer with JSON of this JSON schema. Needs llguidance.",
        metavar="FILE|JSON",
        settable=False,
        read=schema_text,
        complete="files",
    )
    prompt_lookup: int = option(
        0,
        "Draft up to N tokens per step from the text of the conversation; greedy decoding only, with the same answer. 0 is off.",
        low=0,
        high=7,
        metavar="N",
    )

    def __post_init__(self) -> None:
        if self.schema is not None:
            object.__setattr__(self, "schema", schema_text(self.schema))
        check_options(self)
        for name in ("choices", "stop"):
            if self.schema is not None and getattr(self, name):
                raise UsageError(f"`schema` and `{name}` both say where an answer ends", "give one of them")
        if self.prompt_lookup and self.temperature:
            raise UsageError(
                f"`prompt_lookup` is {self.prompt_lookup} and `temperature` {self.temperature:g}; drafts serve greedy decoding only",
                "leave one of them out",
            )
        if self.choices and (len(set(self.choices)) < max(2, len(self.choices)) or not all(text.strip() for text in self.choices)):
            raise UsageError(f"`choices` are {', '.join(self.choices)}; at least two are needed, all different", "for example: yes,no")


@dataclass(frozen=True, slots=True)
class DisplayConfig:
    """What the command line shows of an answer while it is generated and after it, and whether it keeps it."""

    PANEL: ClassVar[str] = "Output"

    stream: bool = option(True, "Print the answer while it is generated.")
    table: bool | None = option(
        None, "Show tokens, times and memory in full; --no-table shows none of it.", shown="one line; the table with --compare"
    )
    history: bool = option(False, "Keep the question and its answer on this disk; see `omnidrop history`.")


@dataclass(frozen=True, slots=True)
class FetchConfig:
    """How clips are fetched from addresses. None of it shapes an answer.

    `refresh` fetches again what is in the cache. `cookies` is a file in Netscape's format, `cookies_from_browser` BROWSER[:PROFILE].
    """

    PANEL: ClassVar[str] = "Media"

    refresh: bool = option(False, "Download again what is in the cache.", settable=False, negatable=False)
    cookies: str | None = option(None, "Send the site the cookies in FILE (Netscape's format).", metavar="FILE")
    cookies_from_browser: str | None = option(
        None, "Send the site the cookies of a browser.", metavar="BROWSER[:PROFILE]", complete="browsers"
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, slots=True)
class Request:
    """One question about a clip or a picture, or about several: `media` is the first, `more` are the others in their order."""

    media: str
    question: str
    system: str | None = option(None, "System prompt.", panel="Generation", metavar="TEXT", shown="Qwen's own", words=True)
    media_options: MediaConfig = field(default_factory=MediaConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    method: PruningConfig = field(default_factory=PruningConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    fetch: FetchConfig = field(default_factory=FetchConfig)
    more: tuple[str, ...] = ()

    @property
    def all_media(self) -> tuple[str, ...]:
        """What the question is about, in order."""
        return (self.media, *self.more)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What is read, as the user named it: media, subtitles, cookies. Some may be no file, such as an address or "auto"."""
        return (*self.all_media, *filter(None, (self.media_options.subtitles, self.fetch.cookies)))
