"""Options of `omnidrop evaluate`, in two groups: what is asked, and what is printed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from omnidrop_cli.commands._options import MEDIA, OUTPUT, PRUNING, ModelFlags
from omnidrop_cli.config import GenerationConfig
from omnidrop_cli.errors import UsageError
from omnidrop_cli.evaluate.items import Timing

if TYPE_CHECKING:
    from omnidrop_cli.evaluate.items import Benchmark
    from omnidrop_cli.evaluate.runner import Run

DEFAULT_METHODS = "none,omnidrop@0.3"

Format = Literal["auto", "table", "md", "csv", "latex", "json"]


# The protocol's parameters are not named as in `settings.KEYS`: a user's defaults must not change what a benchmark asks.
@dataclass(frozen=True, slots=True)
class ProtocolFlags:
    """What is asked, and how."""

    data: Annotated[Path | None, typer.Option(metavar="DIR", help="The benchmark's files, in their published layout.")] = None
    fetch: Annotated[bool, typer.Option("--fetch", help="Download the benchmark from the hub first: tens of gigabytes.")] = False
    limit: Annotated[int | None, typer.Option(min=1, help="Use N questions, evenly spaced over the set.", metavar="N")] = None
    text_first: Annotated[bool, typer.Option("--text-first", help="Put the question before the clip (disables query-guided scoring).")] = (
        False
    )
    timing: Annotated[
        Timing,
        typer.Option(
            help="Time of the frames in the prompt: the clip's own, or one second per pair of frames as in all published tables.",
            rich_help_panel=MEDIA,
        ),
    ] = "true"
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--methods",
            "-m",
            metavar="LIST",
            help=f"Methods with commas between: NAME, NAME@KEEP or NAME@PRESET, then :KEY=VALUE options. Default: {DEFAULT_METHODS}.",
            rich_help_panel=PRUNING,
        ),
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="Seed of random methods.", rich_help_panel=PRUNING)] = 0
    protocol_fps: Annotated[float | None, typer.Option("--fps", min=0.01, max=120, help="Frames per second.", rich_help_panel=MEDIA)] = None
    protocol_max_frames: Annotated[
        int | None, typer.Option("--max-frames", min=4, help="Maximum number of sampled frames.", rich_help_panel=MEDIA)
    ] = None
    protocol_max_pixels: Annotated[
        int | None, typer.Option("--max-pixels", min=784, help="Maximum number of pixels per frame.", rich_help_panel=MEDIA)
    ] = None
    protocol_max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", min=1, help="Maximum length of an answer, in tokens; the benchmark's own if unset.")
    ] = None

    def run(self, benchmark: Benchmark, model: ModelFlags) -> Run:
        """The evaluation that these options describe. Raises `UsageError` for a method that cannot be made."""
        from omnidrop_cli.evaluate import method_specs
        from omnidrop_cli.evaluate.runner import Run, check

        media, choice = benchmark.media_options, model.record()
        run = Run(
            benchmark=benchmark,
            arms=tuple(method_specs.parse(self.methods or [DEFAULT_METHODS], self.seed)),
            model=replace(choice, name=benchmark.model) if choice.name == "auto" else choice,
            media_options=replace(
                media,
                fps=self.protocol_fps or media.fps,
                max_frames=self.protocol_max_frames or media.max_frames,
                max_pixels=self.protocol_max_pixels,
            ),
            generation=GenerationConfig(max_new_tokens=self.protocol_max_new_tokens or benchmark.max_new_tokens),
            text_first=self.text_first,
            timing=self.timing,
        )
        check(run)
        return run


@dataclass(frozen=True, slots=True)
class ResultFlags:
    """What is written and printed."""

    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Rows, a JSON line each. Default: BENCHMARK.jsonl.", rich_help_panel=OUTPUT),
    ] = None
    format: Annotated[
        Format,
        typer.Option(
            help="Print the results as tables that fit the terminal, Markdown, CSV or LaTeX (one row per method), or one JSON object. "
            "auto: table on a terminal, else md.",
            rich_help_panel=OUTPUT,
        ),
    ] = "auto"
    as_json: Annotated[bool, typer.Option("--json", help="Same as --format json.", rich_help_panel=OUTPUT)] = False
    flips: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Print the questions on which method B is right and A wrong, or the other way round.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also draw accuracy over retention: .png, .svg or .pdf (needs matplotlib).", rich_help_panel=OUTPUT
        ),
    ] = None

    def check(self) -> None:
        """Raise `UsageError` for what could not be printed or drawn; asked before the work is done."""
        if self.as_json and self.format not in ("auto", "json"):
            raise UsageError(f"--json and --format {self.format} are two formats", "give one of them")
        if self.flips is not None:
            self.flipped()
            if self.chosen(is_terminal=False) in ("csv", "latex"):
                raise UsageError(f"--flips cannot be printed as {self.format}", "use --format table, md or json")
        if self.plot is not None:
            from omnidrop_cli.evaluate import plot

            plot.check(self.plot)

    def chosen(self, is_terminal: bool) -> str:
        """The format to print."""
        if self.as_json:
            return "json"
        return ("table" if is_terminal else "md") if self.format == "auto" else self.format

    def flipped(self) -> tuple[str, str]:
        """The two methods of --flips. Raises `UsageError`."""
        names = [name.strip() for name in (self.flips or "").split(",")]
        if len(names) != 2 or not all(names):
            raise UsageError(f"--flips {self.flips}: two methods are needed", "for example: --flips none,omnidrop@0.3")
        return names[0], names[1]
