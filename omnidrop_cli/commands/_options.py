"""The options commands share, by help panel, and the records they become.

Knows: every shared flag, its variable and its bounds (through `settings.KEYS`), and how flags make a `Request`. Does not know: what runs
it. Names are checked here as far as that costs no heavy import; the rooms check the rest.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from omnidrop_cli.config import GenerationConfig, MediaConfig, ModelConfig, PruningConfig, Request
from omnidrop_cli.errors import UsageError
from omnidrop_cli.settings import KEYS, check, variable

MEDIA, PRUNING, MODEL, GENERATION, OUTPUT = "Media", "Pruning", "Model", "Generation", "Output"


def _checked(name: str) -> Callable[..., Any]:
    def callback(context: typer.Context, value: Any) -> Any:
        source = context.get_parameter_source(name.replace("-", "_"))
        return check(name, value, variable(name) if source is not None and source.name == "ENVIRONMENT" else f"--{name}")

    # Typer evaluates a callback's annotations anew for every option of every command: a third of the help's time if they are strings.
    callback.__annotations__ = {"context": typer.Context, "value": Any, "return": Any}
    return callback


def flag(name: str, text: str, panel: str, *spellings: str, complete: Callable[[str], list[str]] | None = None, **more: Any) -> Any:
    """A Typer option for one of `settings.KEYS`, read from its variable and the settings files too, checked against its bounds.

    `complete` returns the values that continue an incomplete one; where the key lists its words, those do and stand in the help.
    """
    key = KEYS[name]
    if key.words:
        complete = complete or _continuing(lambda: key.words)
        more.setdefault("metavar", "|".join(key.words))
    if key.default is None:
        more.setdefault("show_default", False)

    return typer.Option(
        *(spellings or (f"--{name}",)),
        help=text,
        rich_help_panel=panel,
        envvar=variable(name),
        show_envvar=False,
        callback=_checked(name),
        autocompletion=complete,
        **more,
    )


def _continuing(words: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [word for word in words() if word.startswith(incomplete)]

    return complete


def method_words(incomplete: str) -> list[str]:
    """Methods that continue `incomplete`; after a "+", the second method of a composition."""
    from omnidrop_cli.prune.methods import names

    first, plus, second = incomplete.rpartition("+")
    return [f"{first}{plus}{name}" for name in names() if name.startswith(second)]


def _presets() -> Iterable[str]:
    """Of every method: a shell completes a word without knowing the others. Only here, since it imports torch."""
    from omnidrop_cli.prune.methods import find, names

    return sorted({preset for name in names() for preset in find(name).presets})


def _models() -> Iterable[str]:
    from omnidrop_cli.model.names import NAMES

    return NAMES


Media = Annotated[str, typer.Argument(help="A video or audio file, or an http(s) address.", metavar="MEDIA", show_default=False)]
Question = Annotated[str, typer.Argument(help="What to ask; - reads it from stdin.", metavar="QUESTION", show_default=False)]
ModelName = Annotated[
    str, flag("model", "auto, nano, 3b, 7b, a hub repository (owner/name), or a directory.", MODEL, complete=_continuing(_models))
]
OfflineFlag = Annotated[bool, flag("offline", "Never touch the network.", MODEL, "--offline/--no-offline")]


@dataclass(frozen=True, slots=True)
class MediaFlags:
    """Which part of a clip is read, and how densely."""

    start: Annotated[
        str | None, typer.Option("--start", metavar="TIME", rich_help_panel=MEDIA, help="Begin here: 90, 1:30 or 0:01:30.5.")
    ] = None
    end: Annotated[str | None, typer.Option("--end", metavar="TIME", rich_help_panel=MEDIA, help="Stop here.")] = None
    fps: Annotated[float, flag("fps", "Frames read per second.", MEDIA)] = KEYS["fps"].default  # type: ignore[assignment]
    min_frames: Annotated[int, flag("min-frames", "Least frames.", MEDIA)] = KEYS["min-frames"].default  # type: ignore[assignment]
    max_frames: Annotated[int, flag("max-frames", "Most frames.", MEDIA)] = KEYS["max-frames"].default  # type: ignore[assignment]
    min_pixels: Annotated[int | None, flag("min-pixels", "Least pixels of a frame; the model's own if unset.", MEDIA)] = None
    max_pixels: Annotated[int | None, flag("max-pixels", "Most pixels of a frame; the model's own if unset.", MEDIA)] = None
    same_within: Annotated[
        float, flag("same-within", "Encode nearly equal pictures once: mean difference in a token's area, of 255.", MEDIA)
    ] = 0.0
    audio: Annotated[bool, typer.Option("--audio/--no-audio", rich_help_panel=MEDIA, help="Use the sound.")] = True
    video: Annotated[bool, typer.Option("--video/--no-video", rich_help_panel=MEDIA, help="Use the pictures.")] = True

    def record(self) -> MediaConfig:
        """Raises `UsageError` for bounds that contradict each other."""
        start_s, end_s = _seconds("--start", self.start), _seconds("--end", self.end)
        if not self.audio and not self.video:
            raise UsageError("--no-audio and --no-video leave nothing of the clip", "give at most one of them")
        if end_s is not None and end_s <= (start_s or 0):
            raise UsageError(f"--end {self.end} is not after --start {self.start or 0}", "times count from the start of the file")
        for low, high, name in ((self.min_frames, self.max_frames, "frames"), (self.min_pixels, self.max_pixels, "pixels")):
            if low is not None and high is not None and low > high:
                raise UsageError(f"--min-{name} is {low}, more than --max-{name}, which is {high}", "raise the one or lower the other")
        return MediaConfig(
            start_s=start_s or 0.0,
            end_s=end_s,
            fps=self.fps,
            min_frames=self.min_frames,
            max_frames=self.max_frames,
            min_pixels=self.min_pixels,
            max_pixels=self.max_pixels,
            same_within=self.same_within,
            use_audio=self.audio,
            use_video=self.video,
        )


@dataclass(frozen=True, slots=True)
class MethodFlags:
    """Which pruning method runs, and how much it keeps."""

    context: typer.Context
    method: Annotated[str, flag("method", "How tokens are chosen: omnidrop methods.", PRUNING, "--method", "-m", complete=method_words)] = (
        "omnidrop"
    )
    keep: Annotated[
        float | None,
        flag("keep", "Share of audio and video tokens [bold]kept[/], as a mean over the layers, in (0, 1].", PRUNING, "--keep", "-k"),
    ] = None
    preset: Annotated[
        str | None, flag("preset", "Published settings of the method, such as paper-20.", PRUNING, complete=_continuing(_presets))
    ] = None
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", rich_help_panel=PRUNING, help="An option of the method. Repeatable."),
    ] = None
    seed: Annotated[int, flag("seed", "Seed of random methods and of sampling.", PRUNING)] = 0

    def record(self) -> PruningConfig:
        """Raises `UsageError` for an unknown method or a malformed `--option`; imports no method."""
        from omnidrop_cli.prune.methods import parts

        parts(self.method)
        options: dict[str, str] = {}
        for written in self.option or ():
            name, equals, value = written.partition("=")
            if not equals or not name.strip():
                raise UsageError(f"--option {written} is not KEY=VALUE", "for example: --option beta=20")
            options[name.strip()] = value
        keep, preset = self._budget()
        return PruningConfig(name=self.method, keep=keep, preset=preset, options=options, seed=self.seed)

    def _budget(self) -> tuple[float | None, str | None]:
        """keep and preset say the same thing: a flag replaces a variable's, a variable a file's. Of one rank, both are refused."""
        if self.keep is not None and self.preset is not None:
            if (keep := self._rank("keep")) == (preset := self._rank("preset")):
                raise UsageError("--keep and --preset both set the budget", "give one of them")
            return (self.keep, None) if keep > preset else (None, self.preset)
        return self.keep, self.preset

    def _rank(self, name: str) -> int:
        source = self.context.get_parameter_source(name)
        return {"COMMANDLINE": 3, "ENVIRONMENT": 2, "DEFAULT_MAP": 1}.get(source.name if source is not None else "", 0)


@dataclass(frozen=True, slots=True)
class ModelFlags:
    """Which checkpoint runs, and how it is loaded."""

    model: ModelName = "auto"
    quant: Annotated[str, flag("quant", "Quantisation of the decoder's weights.", MODEL)] = "auto"
    device: Annotated[str, flag("device", "auto, cpu, cuda or cuda:N.", MODEL, complete=_continuing(lambda: ("auto", "cpu", "cuda")))] = (
        "auto"
    )
    dtype: Annotated[str, flag("dtype", "Precision of everything not quantised.", MODEL)] = "auto"
    attn: Annotated[str, flag("attn", "Attention kernel.", MODEL)] = "sdpa"
    revision: Annotated[str | None, flag("revision", "Branch, tag or commit of a hub repository.", MODEL)] = None
    offline: OfflineFlag = False
    feature_cache: Annotated[
        bool, flag("feature-cache", "Keep on disk what the encoders make of a clip.", MODEL, "--feature-cache/--no-feature-cache")
    ] = True
    graph: Annotated[bool, flag("graph", "On CUDA, decode longer answers by a captured graph.", MODEL, "--graph/--no-graph")] = True

    def record(self) -> ModelConfig:
        return ModelConfig(
            name=self.model,
            quant=self.quant,
            device=self.device,
            dtype=self.dtype,
            attention=self.attn,
            revision=self.revision,
            offline=self.offline,
            feature_cache=self.feature_cache,
            graph=self.graph,
        )


@dataclass(frozen=True, slots=True)
class GenerationFlags:
    """How the answer is sampled."""

    max_new_tokens: Annotated[int, flag("max-new-tokens", "Longest answer, in tokens.", GENERATION)] = 256
    temperature: Annotated[float, flag("temperature", "0 is greedy.", GENERATION)] = 0.0
    top_p: Annotated[float, flag("top-p", "Sample from the likeliest tokens of this total probability.", GENERATION)] = 1.0
    repetition_penalty: Annotated[float, flag("repetition-penalty", "Above 1, repeats become unlikely.", GENERATION)] = 1.0
    stop: Annotated[
        list[str] | None, typer.Option("--stop", metavar="TEXT", rich_help_panel=GENERATION, help="End before this text. Repeatable.")
    ] = None
    system: Annotated[str | None, flag("system", "System prompt; Qwen's own if unset.", GENERATION)] = None

    def record(self, seed: int) -> GenerationConfig:
        return GenerationConfig(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            repetition_penalty=self.repetition_penalty,
            stop=tuple(self.stop or ()),
            seed=seed,
        )


def make_job(
    media: str, question: str, media_flags: MediaFlags, method: MethodFlags, model: ModelFlags, generation: GenerationFlags
) -> Request:
    """The validated job. Raises `UsageError` before anything heavy is imported."""
    if not media.strip():
        raise UsageError("no clip given", "give a file or an address")
    return Request(
        media=media,
        question=read_question(question),
        system=generation.system,
        media_options=media_flags.record(),
        model=model.record(),
        method=method.record(),
        generation=generation.record(method.seed),
    )


def read_question(question: str) -> str:
    """The question itself, from stdin where it is "-". Raises `UsageError` for an empty one."""
    if question == "-":
        try:
            question = sys.stdin.read()
        except UnicodeDecodeError as error:
            raise UsageError("the question on stdin is not text", "it must be UTF-8") from error
    question = question.strip()
    if not question:
        raise UsageError("the question is empty", 'for example: omnidrop ask clip.mp4 "What is said?"')
    return question


def _seconds(name: str, written: str | None) -> float | None:
    """Seconds of "90", "90.5", "1:30" or "1:02:03.5"."""
    if written is None:
        return None
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", written.strip()):
        raise UsageError(f"{name} {written} is not a time", "write seconds (90), minutes (1:30) or hours (1:02:03.5)")
    seconds = 0.0
    for part in written.strip().split(":"):
        seconds = seconds * 60 + float(part)
    return seconds
