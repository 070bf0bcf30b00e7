"""`omnidrop ask`: one question about one or several clips; the answer on stdout, what it cost on stderr."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from omnidrop_cli.commands._console import Console, check_target, dump, emit
from omnidrop_cli.commands._deprecation import deprecated
from omnidrop_cli.commands._options import INPUT, OUTPUT, PRUNING, ConsoleFlags, MediaAndQuestion, OutputFlags, flag, switch
from omnidrop_cli.commands._request import RequestFlags, read_question
from omnidrop_cli.commands._words import parse_words
from omnidrop_cli.config import DisplayConfig, Request
from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.report.text import clean

if TYPE_CHECKING:
    from rich.console import RenderableType

    from omnidrop_cli.outputs import Comparison, Report

EXAMPLES = (
    'omnidrop ask demo "What is said?"',
    'omnidrop ask talk.mp4 "How many people are there?" --keep 0.2 --compare',
    'omnidrop ask a.mp4 b.mp4 "Which of them is louder?"',
    'omnidrop ask - "Who speaks?" < talk.mp4',
    'omnidrop ask https://example.org/clip.mp4 "What is this?" --start 1:30 --end 2:00 --json',
)


@dataclass(frozen=True, slots=True)
class AskFlags:
    """What is asked, and how often."""

    question: str | None = flag(None, "The question, in place of the argument.", short="q", panel=INPUT)
    compare: bool = switch("Answer without pruning too, and show both runs side by side.", panel=PRUNING)
    repeat: int = flag(3, "Rounds in which --compare times both prefills; the table shows the spread.", low=1, panel=PRUNING, metavar="N")
    kept: bool = switch("With --json: add which tokens each layer kept, and where they are in which clip.", panel=OUTPUT)


def _list_questions(wanted: bool) -> None:
    if wanted:
        from omnidrop_cli.nano.world.demo_clips import QUESTIONS

        width = max(len(item.clip) for item in QUESTIONS)
        emit("\n".join(f"{item.clip:{width}}  {item.question}" for item in QUESTIONS))
        raise typer.Exit


def ask(
    words: MediaAndQuestion,
    asked: AskFlags,
    flags: RequestFlags,
    display: DisplayConfig,
    output: OutputFlags,
    console: ConsoleFlags,
    listed: Annotated[
        bool | None,
        typer.Option("--list", help="List questions about the bundled clips, and exit.", callback=_list_questions, is_eager=True),
    ] = None,
) -> None:
    """Answer a question about a video or audio clip from its frames and its sound, or about several clips and pictures together.

    The answer alone goes to stdout; one line of what it cost goes to stderr (--table: tokens per layer, times, memory).
    """
    found = parse_words(words, asked.question)
    if found.meant_quiet:
        deprecated("-q is the question in every command; --quiet has no short form any more")
        console = ConsoleFlags(True, console.verbose, console.no_color, console.debug, console.profile)
    first, *more = found.media
    answer(flags.request(first, read_question(found.question), more), asked, display, output, console)


def answer(request: Request, asked: AskFlags, display: DisplayConfig, output: OutputFlags, console: ConsoleFlags) -> None:
    """Run a request and show what came out, as the flags say."""
    check_target(output.output, inputs=request.inputs)
    from omnidrop_cli.engine import pipeline
    from omnidrop_cli.media.spool import spooled
    from omnidrop_cli.report.json import named

    stream = display.stream and not output.as_json and output.output is None
    with Console(console, stream=stream) as screen, ExitStack() as stack:
        files = tuple(stack.enter_context(spooled(media)) for media in request.all_media)
        job = replace(request, media=files[0], more=files[1:])
        result = pipeline.run_comparison(job, screen, asked.repeat) if asked.compare else pipeline.run(job, screen)
    if files != request.all_media:
        result = named(result, request.all_media)
    _answer(result, screen, output, asked.kept)
    _account(result, screen, display, verbose=console.verbose, as_json=output.as_json)
    if display.history:
        keep_in_history(result, screen)


def _answer(result: Report | Comparison, screen: Console, flags: OutputFlags, kept: bool) -> None:
    from omnidrop_cli.outputs import Comparison

    if flags.as_json:
        from omnidrop_cli.report.json import comparison_to_dict, to_dict

        emit(dump(comparison_to_dict(result, kept=kept) if isinstance(result, Comparison) else to_dict(result, kept=kept)), flags.output)
    elif not screen.streamed:
        report = result.pruned if isinstance(result, Comparison) else result
        emit(clean(report.answer.text), flags.output)


def _account(result: Report | Comparison, screen: Console, display: DisplayConfig, *, verbose: bool, as_json: bool) -> None:
    """The table or its one line; the unpruned answer where no table shows it; a warning where an answer was cut."""
    from rich.text import Text

    from omnidrop_cli.outputs import Comparison
    from omnidrop_cli.report.tables import ChoicesLine, SummaryLine

    full = display.table if display.table is not None else verbose or isinstance(result, Comparison)
    if full:
        screen.show(_table(result, screen))
    elif display.table is None:
        screen.show(SummaryLine(result.pruned if isinstance(result, Comparison) else result))
    for report in (result.full, result.pruned) if isinstance(result, Comparison) else (result,):
        if report.answer.choices:
            screen.show(ChoicesLine(report))
    if isinstance(result, Comparison) and not as_json and not (full and not screen.quiet):
        screen.show_always(Text(f"unpruned: {clean(result.full.answer.text).strip()}"))
    for report in (result.full, result.pruned) if isinstance(result, Comparison) else (result,):
        if report.answer.finish_reason == "length":
            screen.warn(cut_warning(report), always=True)


def keep_in_history(result: Report | Comparison, screen: Console, earlier_turns: int = 0) -> None:
    """Keep an answer, of a comparison the pruned one. Where that fails, a warning says so: the answer itself is out already."""
    from omnidrop_cli import history
    from omnidrop_cli.outputs import Comparison
    from omnidrop_cli.report.json import to_dict

    try:
        history.add(to_dict(result.pruned if isinstance(result, Comparison) else result), earlier_turns)
    except OmnidropError as error:
        screen.warn(f"this answer is not in the history: {error.message}", always=True)


def cut_warning(report: Report) -> str:
    """What to say of an answer that reached its maximum length."""
    tokens = len(report.answer.token_ids)
    return f"the answer was cut at {tokens} token{'s' * (tokens != 1)}; raise `max_new_tokens`"


def _table(result: Report | Comparison, screen: Console) -> RenderableType:
    from omnidrop_cli.outputs import Comparison
    from omnidrop_cli.report.compare_table import ComparisonTable
    from omnidrop_cli.report.tables import ReportTable

    said = frozenset(screen.warned)
    return ComparisonTable(result, said) if isinstance(result, Comparison) else ReportTable(result, said)
