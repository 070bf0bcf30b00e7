"""`omnidrop bench`: what a user measures on their own machine. `bench prefill` measures pruning, `bench media` decoding."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omnidrop_cli.commands._complete import COMPLETIONS
from omnidrop_cli.commands._console import Console, check_target, dump, emit
from omnidrop_cli.commands._options import OUTPUT, PRUNING, ConsoleFlags, OutputFlags, flag
from omnidrop_cli.config import FetchConfig, MediaConfig, ModelConfig, Request

if TYPE_CHECKING:
    from omnidrop_cli.bench.measurement import BenchReport

DEFAULT_METHODS = "none,omnidrop@0.3,omnidrop@0.2,omnidrop@0.1"
QUESTION = "What is said, and what is shown?"


@dataclass(frozen=True, slots=True)
class RepeatFlags:
    """How often everything is measured, and whether it is drawn."""

    repeats: int = flag(3, "Measurements per run after the cold one; runs alternate.", low=1, high=100)
    plot: Path | None = flag(None, "Also draw seconds and memory: .png, .svg or .pdf (needs matplotlib).", panel=OUTPUT)

    def check(self, clips: Sequence[str | Path]) -> None:
        """Raise `UsageError` where the plot cannot be drawn, or would replace a clip; asked before anything is measured."""
        if self.plot is not None:
            from omnidrop_cli import figure

            figure.check(self.plot)
            check_target(self.plot, "--plot", clips)


@dataclass(frozen=True, slots=True)
class BenchFlags(RepeatFlags):
    """What is measured."""

    seconds: float = flag(60.0, "Length of the synthetic clip in seconds, in the papers' layout.", low=2, high=36_000)
    methods: tuple[str, ...] = flag(
        (),
        "Methods with commas between them: NAME, NAME@KEEP or NAME@PRESET.",
        short="m",
        metavar="LIST",
        shown=DEFAULT_METHODS,
        panel=PRUNING,
    )
    encoders: float = flag(0.0, "Also measure both encoders on that many seconds of noise.", low=0, metavar="SECONDS", old=("towers",))
    decode: int = flag(0, "Also decode that many tokens with every backend: stock generate, eager, CUDA graph.", low=0)


def bench(
    measured: BenchFlags,
    part: MediaConfig,
    fetch: FetchConfig,
    model: ModelConfig,
    result: OutputFlags,
    console: ConsoleFlags,
    media: Annotated[
        str | None,
        typer.Argument(
            metavar="MEDIA",
            help="A clip; without one, a synthetic prompt of --seconds.",
            show_default=False,
            autocompletion=COMPLETIONS["media"],
        ),
    ] = None,
) -> None:
    """Measure prefill, decoding and memory of pruning methods against no pruning.

    "floor" is the time over that of the prefill's FLOPs at the rate of matrix products measured here.
    With --model random:7b (or random:3b, random:7b@4layers) no weights are needed: time and memory do not depend on them.
    """
    from omnidrop_cli.evaluate import method_specs

    clips = [] if media is None else [media]
    check_target(result.output, inputs=clips)
    measured.check(clips)
    choices = [method.choice for method in method_specs.parse(measured.methods or [DEFAULT_METHODS])]
    request = None if media is None else Request(media, QUESTION, media_options=part, model=model, fetch=fetch)
    with Console(console) as screen:
        from omnidrop_cli.bench.run import BenchPlan, bench_clip, bench_synthetic
        from omnidrop_cli.engine import pipeline
        from omnidrop_cli.prune.methods import get_method

        for choice in choices:
            get_method(choice)  # a wrong name or option fails before gigabytes load
        screen.stage("load", model.name)
        session = pipeline.load(model, screen)
        plan = BenchPlan(choices, measured.repeats, measured.encoders, measured.decode)
        report = bench_synthetic(session, measured.seconds, plan, screen) if request is None else bench_clip(session, request, plan, screen)
    _finish(report, screen, result, measured.plot)


def media(
    clips: Annotated[list[Path], typer.Argument(metavar="CLIP...", help="Media files; each is a table of its own.", show_default=False)],
    measured: RepeatFlags,
    part: MediaConfig,
    result: OutputFlags,
    console: ConsoleFlags,
) -> None:
    """Measure time and memory of decoding clips. Every measurement is a process of its own, so that its memory is its own."""
    check_target(result.output, inputs=clips)
    measured.check(clips)
    with Console(console) as screen:
        from omnidrop_cli.bench.media import bench_media

        report = bench_media(clips, part, repeats=measured.repeats, progress=screen)
    _finish(report, screen, result, measured.plot)


COMMANDS = (
    (
        "prefill",
        bench,
        (
            "omnidrop bench --model random:7b --quant nf4",
            "omnidrop bench --model random:7b@4layers --seconds 20 --encoders 4 -o bench.json",
            "omnidrop bench --model random:7b --quant nf4 --decode 128",
            "omnidrop bench talk.mp4 --model nano -m none,omnidrop@0.3,random@0.3 --plot bench.svg",
        ),
    ),
    ("media", media, ("omnidrop bench media talk.mp4", "omnidrop bench media a.mp4 b.webm --no-audio --fps 1 -o media.json")),
)
"""Names, functions and examples of what `bench` measures; without a name, the first."""


def _finish(report: BenchReport, screen: Console, result: OutputFlags, plot: Path | None) -> None:
    if plot is not None:
        from omnidrop_cli.bench.bars import draw

        draw(report, plot)
    if result.as_json or result.output is not None:
        emit(dump({**report.to_dict(), "command": shlex.join(["omnidrop", *sys.argv[1:]])}), result.output)
    if not result.as_json:
        from omnidrop_cli.bench.table import render

        screen.print(render(report))
