"""`omnidrop evaluate`: benchmarks, several methods in one run, tables with intervals."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omnidrop_cli.commands._complete import COMPLETIONS
from omnidrop_cli.commands._console import Console, emit
from omnidrop_cli.commands._console import dump as to_json
from omnidrop_cli.commands._evaluate_options import EvaluationOutputFlags, ProtocolFlags, WhereFlags
from omnidrop_cli.commands._options import ConsoleFlags
from omnidrop_cli.config import ModelConfig
from omnidrop_cli.errors import EXIT_FAILED, EXIT_PARTIAL, UsageError
from omnidrop_cli.report.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omnidrop_cli.evaluate.evaluation import Run
    from omnidrop_cli.evaluate.items import Question, Row
    from omnidrop_cli.evaluate.results import ResultsFile
    from omnidrop_cli.evaluate.score_tables import Section
    from omnidrop_cli.evaluate.summary import Answers, Summary

EXAMPLES = (
    "omnidrop evaluate nano",
    "omnidrop evaluate worldsense --data WorldSense/ --model 7b -m none,omnidrop@0.3,random@0.3 --plot worldsense.png",
    "omnidrop evaluate nano -m none,omnidrop@0.3 --flips none,omnidrop@0.3",
    "omnidrop evaluate --paper omnidrop-table2",
)


def evaluate(
    protocol: ProtocolFlags,
    where: WhereFlags,
    model: ModelConfig,
    results: EvaluationOutputFlags,
    console: ConsoleFlags,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="BENCHMARK",
            help="videomme, worldsense, avut, dailyomni or nano.",
            show_default=False,
            autocompletion=COMPLETIONS["benchmarks"],
        ),
    ] = None,
) -> None:
    """Score pruning methods on a benchmark: accuracy with intervals, paired tests, retention, prefill time, memory.

    Every clip is decoded and encoded once for all methods. The same command continues a run that was stopped and repeats failed
    questions; when nothing is left to do, it prints the tables at once.
    """
    if where.paper is not None:
        return _paper(where.paper)
    if protocol.fetch and protocol.data is not None:
        raise UsageError("--fetch and --data both say where the files are", "give one of them")
    if name is None:
        raise UsageError("no benchmark named", "for example: omnidrop evaluate nano")
    results.check()
    from omnidrop_cli.evaluate import benchmarks
    from omnidrop_cli.evaluate.results import ResultsFile

    benchmark = benchmarks.find(name)
    run = protocol.run(benchmark, model)
    places = _devices(where.devices, model)
    data = protocol.data
    if protocol.fetch:
        from omnidrop_cli.evaluate.dataset_download import fetch

        with Console(console) as screen:
            data = fetch(benchmark, screen)
    questions = benchmarks.questions(benchmark, data, protocol.limit)
    results.check_label(questions)
    with ResultsFile(results.output or Path(f"{benchmark.name}.jsonl")) as file:
        _work(run, questions, file, console, places)
        answers = _answers(run, questions, file)
    summary = _show(run, questions, answers, results, console)
    if any(entry.errors for entry in summary.methods):
        raise typer.Exit(EXIT_PARTIAL if any(entry.score.n for entry in summary.methods) else EXIT_FAILED)
    return None


def _devices(text: str | None, choice: ModelConfig) -> list[str]:
    """Where workers run; none: in this process."""
    if text is None:
        return []
    from omnidrop_cli.batch.pool import devices

    if choice.device != "auto":
        raise UsageError("--device and --devices both say where the model runs", "give one of them")
    return devices(text)


def _work(run: Run, questions: Sequence[Question], results: ResultsFile, flags: ConsoleFlags, devices: Sequence[str]) -> None:
    """Load the model and answer what is pending; without anything pending, do neither."""
    from omnidrop_cli.evaluate import processes
    from omnidrop_cli.evaluate.evaluation import execute, load_session, pending
    from omnidrop_cli.model.names import resolve

    work = pending(run, questions, results)
    if not work:
        return
    session = None
    if not devices:
        with Console(flags) as screen:
            session = load_session(run, screen)
    with _Progress(sum(len(methods) for _, methods in work), flags) as progress:
        if notice := resolve(run.model).notice:
            progress.say(notice)
        try:
            if session is None:
                processes.execute(run, work, devices, results, progress)
            else:
                execute(run, work, session, results, progress)
        except KeyboardInterrupt:
            progress.say(f"the same command goes on from {results.path}")
            raise


def _answers(run: Run, questions: Sequence[Question], results: ResultsFile) -> Answers:
    keys = {method.label: {question.id: run.key(question, method) for question in questions} for method in run.methods}
    return {label: {name: results.rows[key] for name, key in mine.items() if key in results.rows} for label, mine in keys.items()}


def _show(run: Run, questions: Sequence[Question], answers: Answers, results: EvaluationOutputFlags, console: ConsoleFlags) -> Summary:
    """Print the tables or the flips, and draw what was asked for."""
    from omnidrop_cli.evaluate import flips, plot
    from omnidrop_cli.evaluate.summary import summarise

    chosen = results.chosen(sys.stdout.isatty())
    found = None if results.flips is None else flips.flips(questions, answers, *results.flipped())
    summary = summarise(run.benchmark, questions, answers, run.media_options, text_first=run.text_first, timing=run.timing)
    if results.plot is not None:
        plot.draw(summary, results.plot, results.plot_by)
    if found is None:
        _print_summary(summary, chosen, console)
    elif chosen == "json":
        emit(to_json(flips.to_json(found, *results.flipped())))
    else:
        _print_flips(flips.section(found, *results.flipped()), chosen, console)
    return summary


def _print_summary(summary: Summary, chosen: str, console: ConsoleFlags) -> None:
    from omnidrop_cli.evaluate import score_tables

    if chosen == "table":
        Console(console).print(score_tables.terminal(summary))
    elif chosen == "json":
        emit(to_json(summary.to_json()))
    else:
        emit({"md": score_tables.markdown, "csv": score_tables.comma_separated, "latex": score_tables.latex}[chosen](summary))


def _print_flips(section: Section, chosen: str, console: ConsoleFlags) -> None:
    from omnidrop_cli.evaluate import score_tables

    if chosen == "table":
        Console(console).print(score_tables.fitted(section))
    else:
        emit(f"## {section.title}\n\n{score_tables.table(section.header, section.rows)}")


def _paper(name: str) -> None:
    from omnidrop_cli.evaluate import paper, paper_tables
    from omnidrop_cli.evaluate.results import load
    from omnidrop_cli.prune.methods import names

    emit(paper.markdown(paper_tables.find(name), names(), load))


class _Progress:
    """Counts rows on stderr: a bar on a terminal, elsewhere a line per clip, nothing when quiet."""

    def __init__(self, total: int, flags: ConsoleFlags) -> None:
        self._console = Console(flags)
        self._total, self._done, self._failed, self._media = total, 0, 0, ""

    def __enter__(self) -> _Progress:
        self._console.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._console.__exit__(*error)

    def __call__(self, row: Row) -> None:
        self._done += 1
        self._failed += row.error is not None
        clip = one_line(Path(row.media).name)
        self._console.count(self._done, self._total, self._failed, clip[-40:])
        if row.media != self._media and not self._console.live:
            self.say(f"{self._done}/{self._total} {clip}" + (f": {row.error['message']}" if row.error else ""))
        self._media = row.media

    def say(self, line: str) -> None:
        """A line on stderr, unless quiet."""
        self._console.say(line)
