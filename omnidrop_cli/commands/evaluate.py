"""`omnidrop evaluate`: benchmarks, several methods in one run, tables with intervals.

Knows: flags, files, progress and exit codes. Does not know how a question is asked or scored (`evaluate/`).
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omnidrop_cli.errors import EXIT_FAILED, EXIT_PARTIAL, UsageError
from omnidrop_cli.records import GenerationOptions, ModelChoice
from omnidrop_cli.report.plain import one_line

if TYPE_CHECKING:
    from omnidrop_cli.evaluate.records import Question, Row
    from omnidrop_cli.evaluate.rows import Journal
    from omnidrop_cli.evaluate.runner import Run
    from omnidrop_cli.evaluate.summary import Summary

_PRUNING, _MEDIA, _MODEL, _OUTPUT = "Pruning", "Media", "Model", "Output"


def evaluate(
    name: Annotated[str | None, typer.Argument(metavar="BENCHMARK", help="videomme, worldsense, avut, dailyomni or nano.")] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="The benchmark's files, in their published layout.")] = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Download the benchmark from the hub first: tens of gigabytes.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many questions, evenly spaced.")] = None,
    text_first: Annotated[
        bool, typer.Option("--text-first", help="Words before the clip. Query-guided methods then see no query.")
    ] = False,
    paper: Annotated[str | None, typer.Option(metavar="TABLE", help="Print what reproduces a published table: omnidrop-table2.")] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--methods",
            "-m",
            help="Arms, with commas between: NAME, NAME@KEEP or NAME@PRESET, then :KEY=VALUE options.  [default: none,omnidrop@0.3]",
            rich_help_panel=_PRUNING,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random methods.", rich_help_panel=_PRUNING)] = 0,
    fps: Annotated[float | None, typer.Option(min=0.01, max=120, help="Frames per second.", rich_help_panel=_MEDIA)] = None,
    max_frames: Annotated[int | None, typer.Option(min=2, help="Most frames of a clip.", rich_help_panel=_MEDIA)] = None,
    max_pixels: Annotated[int | None, typer.Option(min=784, help="Most pixels of a frame.", rich_help_panel=_MEDIA)] = None,
    model: Annotated[str, typer.Option(help="auto, nano, 3b, 7b, a hub repository or a directory.", rich_help_panel=_MODEL)] = "auto",
    quant: Annotated[str, typer.Option(help="nf4, int8, none or auto.", rich_help_panel=_MODEL)] = "auto",
    device: Annotated[str, typer.Option(help="auto, cuda, cuda:N or cpu.", rich_help_panel=_MODEL)] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, bfloat16, float16 or float32.", rich_help_panel=_MODEL)] = "auto",
    attn: Annotated[str, typer.Option(help="sdpa or flash_attention_2.", rich_help_panel=_MODEL)] = "sdpa",
    revision: Annotated[str | None, typer.Option(help="Revision of a hub repository.", rich_help_panel=_MODEL)] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never touch the network.", rich_help_panel=_MODEL)] = False,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, in tokens.", rich_help_panel=_MODEL)] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Rows, one JSON line each.  [default: BENCHMARK.jsonl]", rich_help_panel=_OUTPUT
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The tables as JSON instead of Markdown.", rich_help_panel=_OUTPUT)] = False,
) -> None:
    """Score methods on a benchmark: accuracy with intervals, paired tests, retention, prefill time, memory.

    Every clip is decoded and encoded once for all methods. The same command resumes a run that was stopped, tries failed questions
    again, and prints the tables at once when nothing is left to do.

    Examples:  omnidrop evaluate nano   ·   omnidrop evaluate worldsense --data DIR -m none,omnidrop@0.3,random@0.3   ·
    omnidrop evaluate --paper omnidrop-table2
    """
    if paper is not None:
        return _paper(paper)
    if name is None:
        raise UsageError("no benchmark named", "for example: omnidrop evaluate nano")
    from omnidrop_cli.evaluate import arms, benchmarks
    from omnidrop_cli.evaluate.fetch import fetch as download
    from omnidrop_cli.evaluate.rows import Journal
    from omnidrop_cli.evaluate.runner import Run

    benchmark = benchmarks.find(name)
    media = benchmark.media_options
    run = Run(
        benchmark=benchmark,
        arms=tuple(arms.parse(methods or ["none,omnidrop@0.3"], seed)),
        model=ModelChoice(model, quant, device, dtype, attn, revision, offline),
        media_options=replace(
            media, fps=fps or media.fps, max_frames=max_frames or media.max_frames, max_pixels=max_pixels or media.max_pixels
        ),
        generation=GenerationOptions(max_new_tokens=max_new_tokens or benchmark.max_new_tokens),
        text_first=text_first,
    )
    questions = benchmarks.questions(benchmark, download(benchmark) if fetch else data, limit)
    with Journal(output or Path(f"{benchmark.name}.jsonl")) as journal:
        _work(run, questions, journal)
        summary = _summary(run, questions, journal)
    _print(summary, as_json)
    if any(arm.errors for arm in summary.arms):
        raise typer.Exit(EXIT_PARTIAL if any(arm.score.n for arm in summary.arms) else EXIT_FAILED)
    return None


def _work(run: Run, questions: list[Question], journal: Journal) -> None:
    """Load the model and answer what is pending; without anything pending, do neither."""
    from omnidrop_cli.evaluate.runner import execute, pending

    work = pending(run, questions, journal)
    if not work:
        return
    from omnidrop_cli.engine.session import Session

    session = Session.load(run.model)
    if session.loaded.notice:
        sys.stderr.write(f"{session.loaded.notice}\n")
    try:
        with _Progress(sum(len(arms) for _, arms in work)) as progress:
            execute(run, work, session, journal, progress)
    except KeyboardInterrupt:
        sys.stderr.write(f"stopped; the same command goes on from {one_line(str(journal.path))}\n")
        raise


def _summary(run: Run, questions: list[Question], journal: Journal) -> Summary:
    from omnidrop_cli.evaluate.summary import summarise

    keys = {arm.label: {question.id: run.key(question, arm) for question in questions} for arm in run.arms}
    answers = {label: {name: journal.rows[key] for name, key in mine.items() if key in journal.rows} for label, mine in keys.items()}
    return summarise(run.benchmark, questions, answers, run.text_first)


def _print(summary: Summary, as_json: bool) -> None:
    from omnidrop_cli.evaluate.tables import markdown

    sys.stdout.write(json.dumps(summary.to_json()) + "\n" if as_json else markdown(summary))


def _paper(name: str) -> None:
    from omnidrop_cli.evaluate import paper
    from omnidrop_cli.evaluate.rows import load
    from omnidrop_cli.prune.methods import names

    sys.stdout.write(paper.markdown(paper.find(name), names(), load))


class _Progress:
    """Counts rows on stderr: a bar on a terminal, else a line per clip."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.fields[clip]}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        self._task = self._bar.add_task("", total=total, clip="") if self._bar else None
        self._total, self._done, self._failed, self._media = total, 0, 0, ""

    def __enter__(self) -> _Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, row: Row) -> None:
        self._done += 1
        self._failed += row.error is not None
        clip = one_line(Path(row.media).name)
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self._done, clip=f"{clip[-40:]}  {self._failed} failed")
        elif row.media != self._media:
            sys.stderr.write(
                f"{self._done}/{self._total} {clip}" + (f": {one_line(str(row.error['message']))}" if row.error else "") + "\n"
            )
        self._media = row.media
