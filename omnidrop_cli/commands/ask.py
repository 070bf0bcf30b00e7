"""`omnidrop ask`: one question about one clip.

Knows: what the user sees of an answer. Does not know how it comes about (`engine/pipeline.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from omnidrop_cli.commands._console import ConsoleFlags, JsonFlag, OutputFlag, Screen, StreamFlag, TableFlag, check_target, dump, emit
from omnidrop_cli.commands._options import PRUNING, GenerationFlags, Media, MediaFlags, MethodFlags, ModelFlags, Question, make_job
from omnidrop_cli.outputs import Comparison, Report
from omnidrop_cli.report.text import clean

EXAMPLES = (
    'omnidrop ask talk.mp4 "What is said at the end?"',
    'omnidrop ask talk.mp4 "How many people are there?" --keep 0.2 --compare',
    'omnidrop ask https://example.org/clip.mp4 "What is this?" --start 1:30 --end 2:00 --json',
)


def _list_questions(wanted: bool) -> None:
    if not wanted:
        return
    from omnidrop_cli.nano.world.demo_clips import QUESTIONS

    width = max(len(item.clip) for item in QUESTIONS)
    emit("\n".join(f"{item.clip:{width}}  {item.question}" for item in QUESTIONS), None)
    raise typer.Exit


def ask(
    media: Media,
    question: Question,
    pruning: MethodFlags,
    part: MediaFlags,
    loading: ModelFlags,
    generation: GenerationFlags,
    console: ConsoleFlags,
    listed: Annotated[
        bool,
        typer.Option("--list", help="List questions about the bundled clips, and exit.", callback=_list_questions, is_eager=True),
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", rich_help_panel=PRUNING, help="Answer unpruned too, and show both side by side.")
    ] = False,
    as_json: JsonFlag = False,
    output: OutputFlag = None,
    stream: StreamFlag = True,
    table: TableFlag = True,
) -> None:
    """Answer a question about a video or audio clip from its pictures and its sound.

    The answer alone goes to stdout; tokens per layer, times and memory go to stderr.
    """
    job = make_job(media, question, part, pruning, loading, generation)
    check_target(output)
    if job.method.preset or job.method.options or "+" in job.method.name:
        from omnidrop_cli.prune.methods import create

        create(job.method)  # reports a wrong preset, option or composition before the model is loaded
    from omnidrop_cli.engine.pipeline import run, run_comparison

    with Screen(console, stream=stream and not as_json and output is None) as screen:
        result = run_comparison(job, screen) if compare else run(job, screen)
    _answer(result, screen, as_json, output)
    if table:
        _table(result, screen)


def _answer(result: Report | Comparison, screen: Screen, as_json: bool, output: Path | None) -> None:
    if as_json:
        from omnidrop_cli.report.json import comparison_to_dict, to_dict

        emit(dump(comparison_to_dict(result) if isinstance(result, Comparison) else to_dict(result)), output)
    elif not screen.streamed:
        report = result.pruned if isinstance(result, Comparison) else result
        emit(clean(report.answer.text), output)


def _table(result: Report | Comparison, screen: Screen) -> None:
    from omnidrop_cli.report.compare_table import ComparisonTable
    from omnidrop_cli.report.tables import ReportTable

    said = frozenset(screen.warned)
    screen.show("", ComparisonTable(result, said) if isinstance(result, Comparison) else ReportTable(result, said))
