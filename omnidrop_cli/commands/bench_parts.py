"""`omnidrop bench media|load|reuse|memory|choosing`: what each part of the road costs, side by side with what people use instead.

Knows: flags and where results go. Does not know how anything is measured (`bench/`), or the prefill's own bench (`bench.py`).
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omnidrop_cli.commands._console import ConsoleFlags, JsonFlag, OutputFlag, Screen, check_target, dump, emit, stdout_console
from omnidrop_cli.commands._options import PRUNING, MediaFlags, ModelFlags
from omnidrop_cli.config import PruningConfig
from omnidrop_cli.errors import UsageError

if TYPE_CHECKING:
    from omnidrop_cli.bench.measurement import Sheet

DEFAULT_METHODS = "none,omnidrop@0.3"

Clips = Annotated[list[Path], typer.Argument(metavar="CLIP...", help="Video files; each is a table of its own.", show_default=False)]
Repeats = Annotated[int, typer.Option(min=1, max=100, help="Measurements per arm, alternated; the median counts.")]
Lengths = Annotated[str, typer.Option(metavar="LIST", help="Lengths of synthetic clips in seconds, with commas between.")]


def media(
    clips: Clips,
    media_flags: MediaFlags,
    console: ConsoleFlags,
    arms: Annotated[
        str | None, typer.Option(metavar="LIST", help="Some of omnidrop, pyav, ffmpeg, qwen-omni-utils; all that are installed if unset.")
    ] = None,
    repeats: Repeats = 3,
    as_json: JsonFlag = False,
    output: OutputFlag = None,
) -> None:
    """Measure decoding of clips against a plain decode of everything, ffmpeg's own select and scale, and Qwen's tools.

    Every run is a process of its own, so that its memory is its own. The frames of omnidrop and pyav are equal to the bit (digest in the
    JSON); ffmpeg and Qwen's tools choose and shrink by their own rules.
    """
    check_target(output)
    options = media_flags.record()
    with Screen(console) as screen:
        from omnidrop_cli.bench.media import bench_media

        named = [name.strip() for name in (arms or "").split(",") if name.strip()]
        sheet = bench_media(clips, options, named, repeats=repeats, observer=screen)
    _finish(sheet, console, as_json, output)


def load(
    model: ModelFlags,
    console: ConsoleFlags,
    work: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the copies lie while they are needed.")] = None,
    repeats: Repeats = 3,
    as_json: JsonFlag = False,
    output: OutputFlag = None,
) -> None:
    """Measure loading a saved quantised copy against quantising the checkpoint again.

    A random model (--model random:3b@8layers) is written to disk first. Files are warm in the system's cache for both.
    """
    check_target(output)
    choice = model.record()
    if choice.quant == "none":
        raise UsageError("--quant none leaves nothing to measure", "give nf4 or int8")
    with Screen(console) as screen:
        from omnidrop_cli.bench.loading import bench_load

        sheet = bench_load(choice, repeats=repeats, folder=work, observer=screen)
    _finish(sheet, console, as_json, output)


def reuse(
    clips: Clips,
    model: ModelFlags,
    media_flags: MediaFlags,
    console: ConsoleFlags,
    within: Annotated[str, typer.Option(metavar="LIST", help="Values of --same-within to measure, with commas between.")] = "0,1,2",
    blocks: Annotated[
        int, typer.Option(min=0, help="Run only so many blocks of the vision tower: all cost the same; 0 runs them all.")
    ] = 0,
    repeats: Repeats = 3,
    as_json: JsonFlag = False,
    output: OutputFlag = None,
) -> None:
    """Measure what it saves to encode repeated pictures once, and to keep the encoders' output for a second question.

    The least cosine tells how far a picture's tokens lie from those of its own encoding, over all tokens of the clip.
    """
    check_target(output)
    options, tolerances = media_flags.record(), _numbers("--within", within)
    with Screen(console) as screen:
        from omnidrop_cli.bench.feature_reuse import bench_reuse
        from omnidrop_cli.engine.session import Session
        from omnidrop_cli.media.clip import decode

        decoded = [decode(clip, options, screen) for clip in clips]
        screen.stage("load", model.model)
        session = Session.load(model.record(), screen)
        sheet = bench_reuse(session, decoded, tolerances, blocks=blocks, repeats=repeats, observer=screen)
    _finish(sheet, console, as_json, output)


def memory(
    model: ModelFlags,
    console: ConsoleFlags,
    seconds: Lengths = "10,20,40",
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--methods", "-m", metavar="ARMS", rich_help_panel=PRUNING, help=f"As for bench prefill.  [default: {DEFAULT_METHODS}]"
        ),
    ] = None,
    repeats: Repeats = 1,
    as_json: JsonFlag = False,
    output: OutputFlag = None,
) -> None:
    """Measure the memory peak of a prefill against the clip's length, with and without pruning.

    Below it stands the byte account of the published 3B and 7B in NF4 at one and ten minutes: computed, not measured.
    """
    from omnidrop_cli.evaluate import method_specs

    check_target(output)
    lengths = _numbers("--seconds", seconds)
    choices = [arm.choice for arm in method_specs.parse(methods or [DEFAULT_METHODS])]
    with Screen(console) as screen:
        from omnidrop_cli.bench.memory import bench_memory
        from omnidrop_cli.prune.methods import create

        for choice in choices:
            create(choice)  # a wrong name or option fails before gigabytes load
        sheet = bench_memory(model.record(), lengths, choices, repeats=repeats, observer=screen)
    _finish(sheet, console, as_json, output)


def choosing(
    model: ModelFlags,
    console: ConsoleFlags,
    seconds: Annotated[float, typer.Option(min=2, max=36_000, help="Length of the synthetic clip, in the papers' layout.")] = 60,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--methods", "-m", metavar="ARMS", rich_help_panel=PRUNING, help="As for bench prefill.  [default: every method at 0.3]"
        ),
    ] = None,
    depth: Annotated[
        int, typer.Option(min=0, metavar="LAYERS", help="Tell the share of a decoder this deep; 0 for the model's own depth.")
    ] = 0,
    repeats: Repeats = 3,
    as_json: JsonFlag = False,
    output: OutputFlag = None,
) -> None:
    """Measure what the methods' own decisions cost beside a full prefill.

    A few layers of a real geometry are enough: --model random:3b@4layers --depth 36. Cutting the rows and the encoders are not counted.
    """
    from omnidrop_cli.evaluate import method_specs

    check_target(output)
    choices = None if methods is None else [arm.choice for arm in method_specs.parse(methods)]
    with Screen(console) as screen:
        from omnidrop_cli.bench.method_overhead import bench_choosing
        from omnidrop_cli.engine.session import Session
        from omnidrop_cli.prune.methods import create, names

        choices = choices or [PruningConfig(name, keep=0.3) for name in names() if name != "none"]
        for choice in choices:
            create(choice)  # a wrong name or option fails before gigabytes load
        screen.stage("load", model.model)
        sheet = bench_choosing(Session.load(model.record(), screen), seconds, choices, depth=depth, repeats=repeats, observer=screen)
    _finish(sheet, console, as_json, output)


COMMANDS = (
    ("media", media, ("omnidrop bench media talk.mp4", "omnidrop bench media a.mp4 b.webm --no-audio --arms omnidrop,pyav -o media.json")),
    ("load", load, ("omnidrop bench load --model random:3b@8layers", "omnidrop bench load --model 7b --quant nf4")),
    ("reuse", reuse, ("omnidrop bench reuse slides.mp4 scene.mp4 --model random:3b@1layers --blocks 4",)),
    ("memory", memory, ("omnidrop bench memory --model random:3b@2layers --seconds 10,20,40",)),
    ("choosing", choosing, ("omnidrop bench choosing --model random:3b@4layers --depth 36",)),
)
"""Names, functions and examples of the commands beside `bench prefill`."""


def _numbers(flag: str, written: str) -> list[float]:
    """Raises `UsageError` for anything but numbers of 0 or more."""
    try:
        values = [float(part) for part in written.split(",") if part.strip()]
    except ValueError:
        values = []
    if not values or any(not 0 <= value < float("inf") for value in values):
        raise UsageError(f"{flag} {written} is not a list of numbers", f"for example: {flag} 1,2")
    return values


def _finish(sheet: Sheet, console: ConsoleFlags, as_json: bool, output: Path | None) -> None:
    if as_json or output is not None:
        emit(dump({**sheet.to_dict(), "command": shlex.join(["omnidrop", *sys.argv[1:]])}), output)
    if not as_json:
        from omnidrop_cli.bench.measurement_table import view

        stdout_console(console).print(view(sheet))
