"""`omnidrop bench`: time and memory of every method, side by side, beside what the hardware could do.

Knows: flags and where results go. Does not know how anything is measured (`bench/`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from omnidrop_cli.commands._console import ConsoleFlags, JsonFlag, OutputFlag, Screen, check_target, dump, emit, stdout_console
from omnidrop_cli.commands._options import PRUNING, MediaFlags, ModelFlags
from omnidrop_cli.config import Request

DEFAULT_ARMS = "none,omnidrop@0.3,omnidrop@0.2,omnidrop@0.1"
EXAMPLES = (
    "omnidrop bench --model random:7b --quant nf4",
    "omnidrop bench --model random:7b@4layers --seconds 20 --towers 4 -o bench.json",
    "omnidrop bench --model random:7b --quant nf4 --decode 128",
    "omnidrop bench talk.mp4 --model nano -m none,omnidrop@0.3,random@0.3",
)
QUESTION = "What is said, and what is shown?"


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
            metavar="ARMS",
            help=f"Arms with commas between: NAME, NAME@KEEP or NAME@PRESET.  [default: {DEFAULT_ARMS}]",
            rich_help_panel=PRUNING,
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Measurements per arm, alternated; the median counts.")] = 3,
    towers: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Also measure both encoders on so much noise; 0 does not.")] = 0,
    decode: Annotated[
        int, typer.Option(min=0, metavar="TOKENS", help="Also decode so many on every road: stock generate, eager, graph; 0 does not.")
    ] = 0,
    as_json: JsonFlag = False,
    output: OutputFlag = None,
) -> None:
    """Measure prefill, decoding and memory of pruning methods against no pruning, in one run.

    The floor is the FLOPs over the matrix products per second measured here; choosing is what the method's decisions cost. With
    --model random:7b (or random:3b, random:7b@4layers) no weights are needed: time and memory do not depend on them.
    """
    from omnidrop_cli.evaluate import method_specs

    check_target(output)
    choices = [arm.choice for arm in method_specs.parse(methods or [DEFAULT_ARMS])]
    job = None if media is None else Request(media, QUESTION, media_options=media_flags.record(), model=model.record())
    with Screen(console) as screen:
        from omnidrop_cli.bench.run import BenchPlan, bench_clip, bench_synthetic
        from omnidrop_cli.bench.table import render
        from omnidrop_cli.engine.session import Session
        from omnidrop_cli.prune.methods import create

        for choice in choices:
            create(choice)  # a wrong name or option fails before gigabytes load
        screen.stage("load", model.model)
        session = Session.load(model.record(), screen)
        plan = BenchPlan(choices, repeats, towers, decode)
        result = bench_synthetic(session, seconds, plan, screen) if job is None else bench_clip(session, job, plan, screen)
    if as_json or output is not None:
        emit(dump(result.to_dict()), output)
    if not as_json:
        stdout_console(console).print(render(result))
