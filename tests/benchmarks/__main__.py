"""Developers' measurements: `python -m tests.benchmarks NAME …`. Reports have the shape and the tables of `omnidrop bench`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from omnidrop_cli.bench.table import render
from omnidrop_cli.config import MediaConfig, ModelConfig, PruningConfig

if TYPE_CHECKING:
    from omnidrop_cli.bench.measurement import BenchReport
    from omnidrop_cli.engine.session import Session

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

Clips = Annotated[list[Path], typer.Argument(metavar="CLIP...")]
Model = Annotated[str, typer.Option(help="A checkpoint, or random weights: random:3b@4layers.")]
Dtype = Annotated[str, typer.Option()]
Quant = Annotated[str, typer.Option()]
Repeats = Annotated[int, typer.Option(min=1)]
Seconds = Annotated[float, typer.Option(min=2, help="Length of the synthetic clip, in the papers' layout.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Also write the JSON report.")]


@app.command()
def decoders(
    clips: Clips,
    only: Annotated[str, typer.Option(metavar="LIST", help="Some of omnidrop, pyav, ffmpeg, qwen-omni-utils.")] = "",
    audio: bool = True,
    max_frames: int = 768,
    repeats: Repeats = 3,
    output: Output = None,
) -> None:
    """Decoding of clips, ours and other tools'."""
    from omnidrop_cli.bench.media import bench_media
    from tests.benchmarks.decoders import DECODERS

    chosen = {name: DECODERS[name] for name in only.split(",")} if only else DECODERS
    finish(bench_media(clips, MediaConfig(use_audio=audio, max_frames=max_frames), chosen, repeats=repeats), output)


@app.command()
def loading(model: Model = "random:3b@4layers", quant: Quant = "nf4", repeats: Repeats = 3, output: Output = None) -> None:
    """Loading a saved quantised copy against quantising again."""
    from tests.benchmarks.loading import bench_load

    finish(bench_load(ModelConfig(model, quant=quant), repeats=repeats), output)


@app.command()
def reuse(
    clips: Clips,
    model: Model = "random:3b@1layers",
    dtype: Dtype = "auto",
    tolerances: str = "0,1,2",
    blocks: Annotated[int, typer.Option(help="Blocks of the vision encoder to run; 0 runs all.")] = 0,
    audio: bool = True,
    repeats: Repeats = 3,
    output: Output = None,
) -> None:
    """Frame deduplication and the cache of encoder outputs."""
    from omnidrop_cli.media.clip import decode_media
    from tests.benchmarks.feature_reuse import bench_reuse

    decoded = [decode_media(clip, MediaConfig(use_audio=audio)) for clip in clips]
    limits = [float(value) for value in tolerances.split(",")]
    finish(bench_reuse(session(ModelConfig(model, dtype=dtype)), decoded, limits, blocks=blocks, repeats=repeats), output)


@app.command()
def memory(
    model: Model = "random:3b@2layers",
    quant: Quant = "auto",
    dtype: Dtype = "auto",
    lengths: str = "10,20,40",
    methods: str = "none,omnidrop@0.3",
    repeats: Repeats = 1,
    output: Output = None,
) -> None:
    """Memory peak of a prefill against the clip's length; below it the estimate for the published 3B and 7B."""
    from tests.benchmarks.memory_by_length import bench_memory

    choice = ModelConfig(model, quant=quant, dtype=dtype)
    finish(bench_memory(choice, [float(value) for value in lengths.split(",")], choices_of(methods), repeats=repeats), output)


@app.command()
def overhead(
    model: Model = "random:3b@4layers",
    dtype: Dtype = "auto",
    seconds: Seconds = 60,
    methods: Annotated[str, typer.Option(help="Every method at 0.3 if empty.")] = "",
    depth: Annotated[int, typer.Option(help="Layers of the decoder that the share is for; 0: the model's own.")] = 0,
    repeats: Repeats = 3,
    output: Output = None,
) -> None:
    """Time of the methods' decisions, relative to a full prefill."""
    from omnidrop_cli.prune.methods import names
    from tests.benchmarks.method_overhead import bench_overhead

    choices = choices_of(methods) if methods else [_default(name) for name in names() if name != "none"]
    finish(bench_overhead(session(ModelConfig(model, dtype=dtype)), seconds, choices, depth=depth, repeats=repeats), output)


@app.command()
def encoders(
    model: Model = "random:3b@1layers", dtype: Dtype = "auto", seconds: Seconds = 4, repeats: Repeats = 3, output: Output = None
) -> None:
    """The encoders against transformers' own attention and their matrix products alone."""
    from tests.benchmarks.encoders import bench_encoders

    finish(bench_encoders(session(ModelConfig(model, dtype=dtype)).thinker, seconds, repeats=repeats), output)


@app.command()
def budgets() -> None:
    """Write docs/results/budgets.md."""
    from tests.benchmarks.budgets import write

    write()


def session(choice: ModelConfig) -> Session:
    from omnidrop_cli.engine.session import Session

    return Session.load(choice)


def _default(name: str) -> PruningConfig:
    """`name` at 0.3; a model with random weights has no trained selector for OmniSIFT."""
    return PruningConfig(name, keep=0.3, options={"selector": "untrained"} if name == "omnisift" else {})


def choices_of(methods: str) -> list[PruningConfig]:
    from omnidrop_cli.evaluate import method_specs

    return [method.choice for method in method_specs.parse([methods])]


def finish(report: BenchReport, output: Path | None) -> None:
    Console(markup=False, highlight=False, emoji=False).print(render(report))
    if output is not None:
        command = shlex.join(["python", "-m", "tests.benchmarks", *sys.argv[1:]])
        output.write_text(json.dumps({**report.to_dict(), "command": command}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()
