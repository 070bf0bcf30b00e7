"""`omnidrop ask`: one question about one clip; the answer on stdout, what it cost on stderr."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omnidrop_cli.commands._console import Console, check_target, dump, emit
from omnidrop_cli.commands._deprecation import deprecated
from omnidrop_cli.commands._options import INPUT, OUTPUT, PRUNING, ConsoleFlags, MediaOrStdin, OutputFlags, flag, switch
from omnidrop_cli.commands._request import STDIN, RequestFlags, read_question
from omnidrop_cli.config import DisplayConfig, Request
from omnidrop_cli.errors import OmnidropError, UsageError
from omnidrop_cli.report.text import clean

if TYPE_CHECKING:
    from rich.console import RenderableType

    from omnidrop_cli.outputs import Comparison, Report

EXAMPLES = (
    'omnidrop ask demo "What is said?"',
    'omnidrop ask talk.mp4 "How many people are there?" --keep 0.2 --compare',
    'omnidrop ask - "Who speaks?" < talk.mp4',
    'omnidrop ask https://example.org/clip.mp4 "What is this?" --start 1:30 --end 2:00 --json',
)


@dataclass(frozen=True, slots=True)
class AskFlags:
    """What is asked, and how often."""

    question: str | None = flag(None, "The question, in place of the argument.", short="q", panel=INPUT)
    compare: bool = switch("Answer without pruning too, and show both runs side by side.", panel=PRUNING)
    repeat: int = flag(3, "Rounds in which --compare times both prefills; the table shows the spread.", low=1, panel=PRUNING, metavar="N")
    kept: bool = switch("With --json: add which tokens each layer kept, and where they are in the clip.", panel=OUTPUT)


def _list_questions(wanted: bool) -> None:
    if wanted:
        from omnidrop_cli.nano.world.demo_clips import QUESTIONS

        width = max(len(item.clip) for item in QUESTIONS)
        emit("\n".join(f"{item.clip:{width}}  {item.question}" for item in QUESTIONS))
        raise typer.Exit


def ask(
    media: MediaOrStdin,
    asked: AskFlags,
    flags: RequestFlags,
    display: DisplayConfig,
    output: OutputFlags,
    console: ConsoleFlags,
    listed: Annotated[
        bool | None,
        typer.Option("--list", help="List questions about the bundled clips, and exit.", callback=_list_questions, is_eager=True),
    ] = None,
    text: Annotated[str | None, typer.Argument(help="What to ask; - reads it from stdin.", metavar="QUESTION", show_default=False)] = None,
) -> None:
    """Answer a question about a video or audio clip from its frames and its sound.

    The answer alone goes to stdout; one line of what it cost goes to stderr (--table: tokens per layer, times, memory).
    """
    media, question, quiet = _asked(media, text, asked.question)
    if quiet:
        deprecated("-q is the question in every command; --quiet has no short form any more")
        console = ConsoleFlags(True, console.verbose, console.no_color, console.debug, console.profile)
    if media == STDIN and question == STDIN:
        raise UsageError("the clip and the question are both read from stdin", "give one of them as an argument")
    request = flags.request(media, read_question(question))
    answer(request, asked, display, output, console)


def answer(request: Request, asked: AskFlags, display: DisplayConfig, output: OutputFlags, console: ConsoleFlags) -> None:
    """Run a request and show what came out, as the flags say."""
    check_target(output.output)
    from omnidrop_cli.engine import pipeline
    from omnidrop_cli.media.spool import spooled
    from omnidrop_cli.report.json import named

    stream = display.stream and not output.as_json and output.output is None
    with Console(console, stream=stream) as screen, spooled(request.media) as file:
        job = replace(request, media=file)
        result = pipeline.run_comparison(job, screen, asked.repeat) if asked.compare else pipeline.run(job, screen)
    if file != request.media:
        result = named(result, request.all_media)
    _answer(result, screen, output, asked.kept)
    _account(result, screen, display, verbose=console.verbose, as_json=output.as_json)
    if display.history:
        keep_in_history(result, screen)


def _asked(media: str, positional: str | None, flagged: str | None) -> tuple[str, str, bool]:
    """Media, question, and whether -q was meant as the former --quiet, as in `ask -q clip.mp4 QUESTION`.

    Raises `UsageError` for no question and for two.
    """
    if positional is not None and flagged is not None:
        raise UsageError("the question was given twice, as an argument and with --question", "give it once")
    if flagged is not None and _is_clip(flagged) and not _is_clip(media):
        return flagged, media, True
    if positional is None and flagged is None:
        raise UsageError("no question was given", 'for example: omnidrop ask clip.mp4 "What is said?"')
    return media, positional if positional is not None else flagged or "", False


def _is_clip(name: str) -> bool:
    """Whether `name` is a URL, a file that exists, or a bundled clip."""
    from omnidrop_cli.media.source import bundled, is_url

    return is_url(name) or Path(name).exists() or bundled(name) is not None


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
    return f"the answer was cut at {len(report.answer.token_ids)} tokens; raise `max_new_tokens`"


def _table(result: Report | Comparison, screen: Console) -> RenderableType:
    from omnidrop_cli.outputs import Comparison
    from omnidrop_cli.report.compare_table import ComparisonTable
    from omnidrop_cli.report.tables import ReportTable

    said = frozenset(screen.warned)
    return ComparisonTable(result, said) if isinstance(result, Comparison) else ReportTable(result, said)
