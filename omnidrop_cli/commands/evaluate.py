"""`omnidrop evaluate`: benchmarks, several methods in one run, tables with intervals.

Knows: flags, files, progress and exit codes. Does not know how a question is asked or scored (`evaluate/`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omnidrop_cli.commands._console import ConsoleFlags, Screen, emit, stderr_console
from omnidrop_cli.commands._console import dump as to_json
from omnidrop_cli.commands._options import MEDIA, OUTPUT, PRUNING, ModelFlags
from omnidrop_cli.config import GenerationConfig
from omnidrop_cli.errors import EXIT_FAILED, EXIT_PARTIAL, UsageError
from omnidrop_cli.evaluate.items import Timing
from omnidrop_cli.report.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omnidrop_cli.config import ModelConfig
    from omnidrop_cli.evaluate.items import Question, Row
    from omnidrop_cli.evaluate.results import Journal
    from omnidrop_cli.evaluate.runner import Run
    from omnidrop_cli.evaluate.summary import Summary

DEFAULT_METHODS = "none,omnidrop@0.3"

EXAMPLES = (
    "omnidrop evaluate nano",
    "omnidrop evaluate worldsense --data WorldSense/ --model 7b -m none,omnidrop@0.3,random@0.3",
    "omnidrop evaluate --paper omnidrop-table2",
)

Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--methods",
        "-m",
        metavar="ARMS",
        help=f"Arms with commas between: NAME, NAME@KEEP or NAME@PRESET, then :KEY=VALUE options. Default: {DEFAULT_METHODS}.",
        rich_help_panel=PRUNING,
    ),
]


# The protocol's parameters are not named as in `settings.KEYS`: a user's defaults must not change what a benchmark asks.
def evaluate(
    model: ModelFlags,
    console: ConsoleFlags,
    name: Annotated[str | None, typer.Argument(metavar="BENCHMARK", help="videomme, worldsense, avut, dailyomni or nano.")] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="The benchmark's files, in their published layout.")] = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Download the benchmark from the hub first: tens of gigabytes.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many questions, evenly spaced.")] = None,
    text_first: Annotated[bool, typer.Option("--text-first", help="Words before the clip: no query can guide the pruning then.")] = False,
    timing: Annotated[
        Timing,
        typer.Option(
            help="Time of the frames in the prompt: the clip's own, or one second per pair of frames as in all published tables.",
            rich_help_panel=MEDIA,
        ),
    ] = "true",
    paper: Annotated[
        str | None,
        typer.Option(metavar="TABLE", help="Print the commands that reproduce a published table: omnidrop-table2, seats-table1."),
    ] = None,
    methods: Methods = None,
    devices: Annotated[
        str | None, typer.Option("--devices", metavar="LIST", help="A model on each: 0,1 or all (GPUs), or cpu,cpu.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random methods.", rich_help_panel=PRUNING)] = 0,
    protocol_fps: Annotated[
        float | None, typer.Option("--fps", min=0.01, max=120, help="Frames per second.", rich_help_panel=MEDIA)
    ] = None,
    protocol_max_frames: Annotated[
        int | None, typer.Option("--max-frames", min=4, help="Most frames of a clip.", rich_help_panel=MEDIA)
    ] = None,
    protocol_max_pixels: Annotated[
        int | None, typer.Option("--max-pixels", min=784, help="Most pixels of a frame.", rich_help_panel=MEDIA)
    ] = None,
    protocol_max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens; the benchmark's own if unset.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Rows, a JSON line each. Default: BENCHMARK.jsonl.", rich_help_panel=OUTPUT),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The tables as one JSON object.", rich_help_panel=OUTPUT)] = False,
) -> None:
    """Score pruning methods on a benchmark: accuracy with intervals, paired tests, retention, prefill time, memory.

    Every clip is decoded and encoded once for all methods.
    The same command goes on with a run that was stopped, and tries failed questions again.
    When nothing is left to do it prints the tables at once.
    """
    if paper is not None:
        return _paper(paper)
    if fetch and data is not None:
        raise UsageError("--fetch and --data both say where the files are", "give one of them")
    if name is None:
        raise UsageError("no benchmark named", "for example: omnidrop evaluate nano")
    from omnidrop_cli.evaluate import benchmarks, method_specs
    from omnidrop_cli.evaluate.download import fetch as download
    from omnidrop_cli.evaluate.results import Journal
    from omnidrop_cli.evaluate.runner import Run, check

    benchmark = benchmarks.find(name)
    media = benchmark.media_options
    choice = model.record()
    run = Run(
        benchmark=benchmark,
        arms=tuple(method_specs.parse(methods or [DEFAULT_METHODS], seed)),
        model=replace(choice, name=benchmark.model) if choice.name == "auto" else choice,
        media_options=replace(
            media, fps=protocol_fps or media.fps, max_frames=protocol_max_frames or media.max_frames, max_pixels=protocol_max_pixels
        ),
        generation=GenerationConfig(max_new_tokens=protocol_max_new_tokens or benchmark.max_new_tokens),
        text_first=text_first,
        timing=timing,
    )
    check(run)
    places = _devices(devices, choice)
    if fetch:
        with Screen(console) as screen:
            data = download(benchmark, screen)
    questions = benchmarks.questions(benchmark, data, limit)
    with Journal(output or Path(f"{benchmark.name}.jsonl")) as journal:
        _work(run, questions, journal, console, places)
        summary = _summary(run, questions, journal)
    _print(summary, as_json)
    if any(arm.errors for arm in summary.arms):
        raise typer.Exit(EXIT_PARTIAL if any(arm.score.n for arm in summary.arms) else EXIT_FAILED)
    return None


def _devices(text: str | None, choice: ModelConfig) -> list[str]:
    """Where workers run; none: in this process."""
    if text is None:
        return []
    from omnidrop_cli.batch.pool import devices

    if choice.device != "auto":
        raise UsageError("--device and --devices both say where the model runs", "give one of them")
    return devices(text)


def _work(run: Run, questions: Sequence[Question], journal: Journal, flags: ConsoleFlags, devices: Sequence[str]) -> None:
    """Load the model and answer what is pending; without anything pending, do neither."""
    from omnidrop_cli.evaluate import processes
    from omnidrop_cli.evaluate.runner import execute, load_session, pending
    from omnidrop_cli.model.names import resolve

    work = pending(run, questions, journal)
    if not work:
        return
    session = None
    if not devices:
        with Screen(flags) as screen:
            session = load_session(run, screen)
    with _Progress(sum(len(arms) for _, arms in work), flags) as progress:
        if notice := resolve(run.model).notice:
            progress.say(notice)
        try:
            if session is None:
                processes.execute(run, work, devices, journal, progress)
            else:
                execute(run, work, session, journal, progress)
        except KeyboardInterrupt:
            progress.say(f"the same command goes on from {journal.path}")
            raise


def _summary(run: Run, questions: Sequence[Question], journal: Journal) -> Summary:
    from omnidrop_cli.evaluate.summary import summarise

    keys = {arm.label: {question.id: run.key(question, arm) for question in questions} for arm in run.arms}
    answers = {label: {name: journal.rows[key] for name, key in mine.items() if key in journal.rows} for label, mine in keys.items()}
    return summarise(run.benchmark, questions, answers, run.media_options, text_first=run.text_first, timing=run.timing)


def _print(summary: Summary, as_json: bool) -> None:
    from omnidrop_cli.evaluate.tables import markdown

    emit(to_json(summary.to_json()) if as_json else markdown(summary), None)


def _paper(name: str) -> None:
    from omnidrop_cli.evaluate import paper, paper_tables
    from omnidrop_cli.evaluate.results import load
    from omnidrop_cli.prune.methods import names

    emit(paper.markdown(paper_tables.find(name), names(), load), None)


class _Progress:
    """Counts rows on stderr: a bar on a terminal, elsewhere a line per clip, nothing when quiet."""

    def __init__(self, total: int, flags: ConsoleFlags) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console, self._quiet = stderr_console(flags), flags.quiet
        columns = (TextColumn("{task.description}", markup=False), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal or flags.quiet)
        self._task = self._bar.add_task("", total=total)
        self._total, self._done, self._failed, self._media = total, 0, 0, ""

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, row: Row) -> None:
        self._done += 1
        self._failed += row.error is not None
        clip = one_line(Path(row.media).name)
        self._bar.update(self._task, completed=self._done, description=f"{clip[-40:]}, {self._failed} failed")
        if row.media != self._media and not self._console.is_terminal:
            self.say(f"{self._done}/{self._total} {clip}" + (f": {row.error['message']}" if row.error else ""))
        self._media = row.media

    def say(self, line: str) -> None:
        """A line on stderr, unless quiet."""
        if not self._quiet:
            self._console.print(one_line(line), soft_wrap=True)
