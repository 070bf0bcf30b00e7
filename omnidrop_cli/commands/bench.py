"""`omnidrop bench`: what a user measures on their own machine. `bench prefill` measures pruning, `bench media` decoding."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omnidrop_cli.commands._console import ConsoleFlags, JsonFlag, OutputFlag, Screen, check_target, dump, emit, stdout_console
from omnidrop_cli.commands._options import PRUNING, MediaFlags, ModelFlags
from omnidrop_cli.config import Request

if TYPE_CHECKING:
    from omnidrop_cli.bench.measurement import BenchReport

DEFAULT_METHODS = "none,omnidrop@0.3,omnidrop@0.2,omnidrop@0.1"
QUESTION = "What is said, and what is shown?"

Repeats = Annotated[int, typer.Option(min=1, max=100, help="Measurements per run behind the cold one; runs alternate.")]


def bench(
    model: ModelFlags,
    media_flags: MediaFlags,
    console: ConsoleFlags,
    media: Annotated[str | None, typer.Argument(metavar="MEDIA", help="A clip; without one, a synthetic prompt of --seconds.")] = None,
    seconds: Annotated[float, typer.Option(min=2, max=36_000, help="Length of the synthetic clip, in the papers' layout.")] = 60,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--methods",
            "-m",
            metavar="LIST",
            help=f"Methods with commas between: NAME, NAME@KEEP or NAME@PRESET.  [default: {DEFAULT_METHODS}]",
            rich_help_panel=PRUNING,
        ),
    ] = None,
    repeats: Repeats = 3,
    encoders: Annotated[
        float, typer.Option("--encoders", "--towers", min=0, metavar="SECONDS", help="Also measure both encoders on that much noise.")
    ] = 0,
    decode: Annotated[
        int,
        typer.Option(min=0, metavar="TOKENS", help="Also decode that many tokens with every backend: stock generate, eager, CUDA graph."),
    ] = 0,
    as_json: JsonFlag = False,
    output: OutputFlag = None,
) -> None:
    """Measure prefill, decoding and memory of pruning methods against no pruning.

    "floor" is the time over that of the prefill's FLOPs at the rate of matrix products measured here.
    With --model random:7b (or random:3b, random:7b@4layers) no weights are needed: time and memory do not depend on them.
    """
    from omnidrop_cli.evaluate import method_specs

    check_target(output)
    choices = [method.choice for method in method_specs.parse(methods or [DEFAULT_METHODS])]
    request = None if media is None else Request(media, QUESTION, media_options=media_flags.record(), model=model.record())
    with Screen(console) as screen:
        from omnidrop_cli.bench.run import BenchPlan, bench_clip, bench_synthetic
        from omnidrop_cli.engine.session import Session
        from omnidrop_cli.prune.methods import create

        for choice in choices:
            create(choice)  # a wrong name or option fails before gigabytes load
        screen.stage("load", model.model)
        session = Session.load(model.record(), screen)
        plan = BenchPlan(choices, repeats, encoders, decode)
        report = bench_synthetic(session, seconds, plan, screen) if request is None else bench_clip(session, request, plan, screen)
    _finish(report, console, as_json, output)


def media(
    clips: Annotated[list[Path], typer.Argument(metavar="CLIP...", help="Media files; each is a table of its own.", show_default=False)],
    media_flags: MediaFlags,
    console: ConsoleFlags,
    repeats: Repeats = 3,
    as_json: JsonFlag = False,
    output: OutputFlag = None,
) -> None:
    """Measure time and memory of decoding clips. Every measurement is a process of its own, so that its memory is its own."""
    check_target(output)
    options = media_flags.record()
    with Screen(console) as screen:
        from omnidrop_cli.bench.media import bench_media

        report = bench_media(clips, options, repeats=repeats, observer=screen)
    _finish(report, console, as_json, output)


COMMANDS = (
    (
        "prefill",
        bench,
        (
            "omnidrop bench --model random:7b --quant nf4",
            "omnidrop bench --model random:7b@4layers --seconds 20 --encoders 4 -o bench.json",
            "omnidrop bench --model random:7b --quant nf4 --decode 128",
            "omnidrop bench talk.mp4 --model nano -m none,omnidrop@0.3,random@0.3",
        ),
    ),
    ("media", media, ("omnidrop bench media talk.mp4", "omnidrop bench media a.mp4 b.webm --no-audio --fps 1 -o media.json")),
)
"""Names, functions and examples of what `bench` measures; without a name, the first."""


def _finish(report: BenchReport, console: ConsoleFlags, as_json: bool, output: Path | None) -> None:
    if as_json or output is not None:
        emit(dump({**report.to_dict(), "command": shlex.join(["omnidrop", *sys.argv[1:]])}), output)
    if not as_json:
        from omnidrop_cli.bench.table import render

        stdout_console(console).print(render(report))
