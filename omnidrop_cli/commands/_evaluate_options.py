"""Options of `omnidrop evaluate`, in two groups: what is asked, and what is printed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from omnidrop_cli.commands._options import MEDIA, OUTPUT, PRUNING, flag, same, switch
from omnidrop_cli.config import GenerationConfig, MediaConfig, ModelConfig, PruningConfig, Timing
from omnidrop_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omnidrop_cli.evaluate.evaluation import Run
    from omnidrop_cli.evaluate.items import Benchmark, Question

DEFAULT_METHODS = "none,omnidrop@0.3"
THE_BENCHMARKS = "the benchmark's own"

Format = Literal["auto", "table", "md", "csv", "latex", "json"]


@dataclass(frozen=True, slots=True)
class ProtocolFlags:
    """What is asked, and how. No variable and no settings file changes what a benchmark asks."""

    data: Path | None = flag(None, "Directory with the benchmark's files, in their published layout.", metavar="DIR")
    fetch: bool = switch("Download the benchmark from the hub first (tens of gigabytes).")
    limit: int | None = flag(None, "Use N questions, evenly spaced over the set.", low=1)
    text_first: bool = switch("Put the question before the clip (disables query-guided scoring).")
    timing: Timing = flag(
        "true", "Time of the frames in the prompt: the clip's own, or one second per pair of frames as in published tables.", panel=MEDIA
    )
    methods: tuple[str, ...] = flag(
        (),
        "Methods with commas between them: NAME, NAME@KEEP or NAME@PRESET, then :KEY=VALUE options.",
        short="m",
        metavar="LIST",
        shown=DEFAULT_METHODS,
        panel=PRUNING,
    )
    seed: int = same(PruningConfig, "seed", settable=False, help="Seed of random methods.", panel=PRUNING)
    fps: float | None = same(MediaConfig, "fps", default=None, settable=False, shown=THE_BENCHMARKS, panel=MEDIA)
    max_frames: int | None = same(MediaConfig, "max_frames", default=None, low=4, settable=False, shown=THE_BENCHMARKS, panel=MEDIA)
    max_pixels: int | None = same(MediaConfig, "max_pixels", settable=False, panel=MEDIA)
    max_new_tokens: int | None = same(GenerationConfig, "max_new_tokens", default=None, settable=False, shown=THE_BENCHMARKS)

    def run(self, benchmark: Benchmark, model: ModelConfig) -> Run:
        """The evaluation that these options describe. Raises `UsageError` for a method that cannot be made."""
        from omnidrop_cli.evaluate import method_specs
        from omnidrop_cli.evaluate.evaluation import Run, check

        media = benchmark.media_options
        run = Run(
            benchmark=benchmark,
            methods=tuple(method_specs.parse(self.methods or [DEFAULT_METHODS], self.seed)),
            model=replace(model, name=benchmark.model) if model.name == "auto" else model,
            media_options=replace(
                media,
                fps=self.fps or media.fps,
                max_frames=self.max_frames or media.max_frames,
                max_pixels=self.max_pixels or media.max_pixels,
            ),
            generation=GenerationConfig(max_new_tokens=self.max_new_tokens or benchmark.max_new_tokens),
            text_first=self.text_first,
            timing=self.timing,
        )
        check(run)
        return run


@dataclass(frozen=True, slots=True)
class WhereFlags:
    """What is run instead of a benchmark, and where the models run."""

    paper: str | None = flag(None, "Print the commands that reproduce a published table: omnidrop-table2, seats-table1.", metavar="TABLE")
    devices: str | None = flag(None, "Run a model on each of these: 0,1 or all (GPUs), or cpu,cpu.", metavar="LIST")


@dataclass(frozen=True, slots=True)
class EvaluationOutputFlags:
    """What is written and printed."""

    PANEL: ClassVar[str] = OUTPUT

    output: Path | None = flag(None, "Write one JSON line per answer to FILE.", short="o", shown="BENCHMARK.jsonl")
    format: Format = flag(
        "auto",
        "Print the results as tables that fit the terminal, Markdown, CSV or LaTeX (one row per method), or one JSON object.",
        shown="table on a terminal, else md",
    )
    as_json: bool = switch("Same as --format json.", flag="json")
    flips: str | None = flag(None, "Print the questions on which method B is right and A wrong, or the other way round.", metavar="A,B")
    plot: Path | None = flag(None, "Also draw accuracy over retention and FLOPs: .png, .svg or .pdf (needs matplotlib).")
    plot_by: str | None = flag(None, "With --plot: one panel for each value of a label, such as category.", metavar="LABEL")

    def check(self) -> None:
        """Raise `UsageError` for what could not be printed or drawn; asked before the work is done."""
        if self.as_json and self.format not in ("auto", "json"):
            raise UsageError(f"--json and --format {self.format} are two formats", "give one of them")
        if self.flips is not None:
            self.flipped()
            if self.chosen(is_terminal=False) in ("csv", "latex"):
                raise UsageError(f"--flips cannot be printed as {self.format}", "use --format table, md or json")
        if self.plot_by is not None and self.plot is None:
            raise UsageError("--plot-by says how to draw, and nothing is drawn", "add --plot FILE")
        if self.plot is not None:
            from omnidrop_cli import figure

            figure.check(self.plot)

    def check_label(self, questions: Sequence[Question]) -> None:
        """Raise `UsageError` for a label of --plot-by that no question has; asked before the work is done."""
        if self.plot_by is not None:
            from omnidrop_cli.evaluate import plot

            plot.check_label(questions, self.plot_by)

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
