"""`omnidrop batch`: many clips, many questions, one file of answers, and a summary with the command that continues."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from omnidrop_cli.commands._complete import COMPLETIONS
from omnidrop_cli.commands._console import Console, check_target, write_stdout
from omnidrop_cli.commands._options import INPUT, OUTPUT, ConsoleFlags, flag, switch
from omnidrop_cli.commands._request import RequestFlags, read_question
from omnidrop_cli.errors import EXIT_INTERRUPTED, EXIT_PARTIAL, UsageError
from omnidrop_cli.fileio import write_text
from omnidrop_cli.report.text import one_line

if TYPE_CHECKING:
    from omnidrop_cli.batch.answers_file import AnswersFile
    from omnidrop_cli.batch.batch_run import BatchPlan, BatchProgress, Outcome
    from omnidrop_cli.batch.export import Writer
    from omnidrop_cli.batch.inputs import Group
    from omnidrop_cli.commands._batch_console import BatchConsole
    from omnidrop_cli.config import Request
    from omnidrop_cli.model.names import ModelSpec

SCALE = "Scale"


@dataclass(frozen=True, slots=True)
class QuestionFlags:
    """What is asked of the clips."""

    PANEL: ClassVar[str] = INPUT

    question: tuple[str, ...] = flag((), "Question to ask about every clip. Repeatable.", short="q", metavar="QUESTION")
    input: str | None = flag(
        None, 'Read questions from FILE, as JSON lines: {"media", "question", "id", "system", "start", "end"}.', short="i", metavar="FILE"
    )
    limit: int | None = flag(None, "Process at most N pending questions.", low=1)


@dataclass(frozen=True, slots=True)
class AnswersFlags:
    """Where answers go, and which of an earlier run count."""

    PANEL: ClassVar[str] = OUTPUT

    output: Path = flag(Path("answers.jsonl"), "Append one JSON line per answer to FILE.", short="o")
    export: tuple[str, ...] = flag((), "Write all answers to FILE (.csv or .md) when the run ends. Repeatable.", metavar="FILE")
    retry_failed: bool = switch("Ask again where an earlier run failed.")
    force: bool = switch("Start over; the existing file is renamed FILE.bak-1.")
    dry_run: bool = switch("List the pending questions on stdout; run nothing.")
    strict: bool = switch("Exit with 3 also where only an earlier run failed.")
    log_file: Path | None = flag(None, "Append every line of the run to FILE, with its date.", metavar="FILE")


@dataclass(frozen=True, slots=True)
class ScaleFlags:
    """How many models answer, and where."""

    PANEL: ClassVar[str] = SCALE

    devices: str | None = flag(None, "Run a model on each of these: 0,1 or all (GPUs), or cpu,cpu.", metavar="LIST")
    cluster: str | None = flag(None, "Run workers on Ray: auto, local, or HOST:PORT. Needs ray (pip install ray).", metavar="ADDRESS")
    workers: int | None = flag(None, "Number of workers on the cluster.", low=1, shown="one per GPU")


EXAMPLES = (
    'omnidrop batch interviews/ -q "Who speaks?" -q "About what?" -o answers.jsonl',
    "omnidrop batch -i questions.jsonl -o answers.jsonl --export answers.csv",
    'omnidrop batch "talks/**/*.mp4" -q "What is said at the end?" --devices 0,1',
)


def batch(
    what: QuestionFlags,
    scale: ScaleFlags,
    flags: RequestFlags,
    keeping: AnswersFlags,
    console: ConsoleFlags,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders (searched recursively), globs, list files (.txt, .m3u; - is stdin), http(s) addresses.",
            metavar="PATH...",
            show_default=False,
            autocompletion=COMPLETIONS["media"],
        ),
    ] = None,
) -> None:
    """Ask many clips many questions; answers are appended to a file, and the same command continues a run that was stopped.

    A clip that cannot be read becomes a row with an error, and the run goes on. Exit code 0: nothing failed in this run; 3:
    something did; 130: interrupted.
    """
    from omnidrop_cli.batch.answers_file import read
    from omnidrop_cli.batch.inputs import gather
    from omnidrop_cli.commands._batch_console import BatchConsole
    from omnidrop_cli.model.names import resolve

    exports = _checked(scale, keeping, [*(paths or []), *([what.input] if what.input is not None else [])])
    flags.check()
    template, notes = flags.template(), list[str]()
    groups = gather(paths or [], [read_question(question) for question in what.question], template, what.input, notes.append)
    spec = resolve(template.model)
    if keeping.dry_run:
        for note in notes:
            Console(console).say(note)
        _dry_run(groups, spec, keeping, what.limit)
        return
    began = time.monotonic()
    with BatchConsole(console, groups, keeping.log_file) as progress:
        outcome = _answer_all(groups, spec, template, what, scale, keeping, notes, progress)
    for path, pieces in exports:
        write_text(path, "".join(pieces(read(keeping.output))))
        progress.summary(f"{path}: all answers of {keeping.output}")
    for line in _summary(outcome, keeping.output, time.monotonic() - began):
        progress.summary(line)
    if progress.cut:
        progress.summary(f"cut at {flags.generation.max_new_tokens} tokens: {progress.cut} of the new answers; raise `max_new_tokens`")
    if outcome.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if outcome.failed > (0 if keeping.strict else outcome.failed_before):
        raise typer.Exit(EXIT_PARTIAL)


def _checked(scale: ScaleFlags, keeping: AnswersFlags, read: Sequence[str]) -> list[tuple[Path, Writer]]:
    """The files to export, each with what writes it; `read` are the inputs. Raises `UsageError` for flags that contradict each other."""
    from omnidrop_cli.batch.export import writer_for

    if scale.devices is not None and scale.cluster is not None:
        raise UsageError("--devices and --cluster both say where the models run", "give one of them")
    if scale.workers is not None and scale.cluster is None:
        raise UsageError("--workers counts the workers of a cluster", "add --cluster, or name the devices: --devices cpu,cpu")
    exports = [(Path(name), writer_for(Path(name))) for name in keeping.export]
    for path, _ in exports:
        check_target(path, "--export", read)
    if keeping.output.suffix.lower() in (".csv", ".md"):
        raise UsageError(f"answers are kept as JSON lines, not in {keeping.output}", f"-o answers.jsonl --export {keeping.output}")
    return exports


def _answer_all(
    groups: list[Group],
    spec: ModelSpec,
    template: Request,
    what: QuestionFlags,
    scale: ScaleFlags,
    keeping: AnswersFlags,
    notes: list[str],
    progress: BatchConsole,
) -> Outcome:
    """Open the answers file, say what is to be said before the first clip, and answer what is open."""
    from omnidrop_cli.batch.answers_file import AnswersFile, backup
    from omnidrop_cli.batch.batch_run import BatchPlan

    old = backup(keeping.output) if keeping.force else None
    with AnswersFile(keeping.output) as answers:
        if old is not None:
            notes.append(f"the earlier answers are in {old}")
        if answers.others:
            notes.append(f"{answers.others} rows of {keeping.output} are of another version of omnidrop and count for nothing")
        for note in (*notes, *([spec.notice] if spec.notice is not None else [])):
            progress.warn(note)
        plan = BatchPlan(groups, spec, answers.known, retry_failed=keeping.retry_failed)
        return _run(plan, answers, progress, template, scale, what.limit)


def _run(
    plan: BatchPlan, answers: AnswersFile, progress: BatchProgress, template: Request, scale: ScaleFlags, limit: int | None
) -> Outcome:
    from omnidrop_cli.batch.batch_run import Runner
    from omnidrop_cli.batch.interrupt import Interrupt
    from omnidrop_cli.batch.worker import Worker

    with ExitStack() as stack:
        stop = stack.enter_context(Interrupt(progress.finishing))
        runner = Runner(plan, answers, progress, stop)
        if scale.devices is not None:
            from omnidrop_cli.batch.pool import Processes, devices

            names = devices(scale.devices)
            return runner.run_in_pool(stack.enter_context(Processes(template.model, names)), len(names), limit)
        if scale.cluster is not None:
            from omnidrop_cli.batch.ray_pool import Cluster

            cluster = stack.enter_context(Cluster(template.model, scale.cluster, scale.workers))
            return runner.run_in_pool(cluster, cluster.size, limit)
        return runner.run_here(lambda: Worker(template.model, progress), limit)


def _dry_run(groups: list[Group], spec: ModelSpec, keeping: AnswersFlags, limit: int | None) -> None:
    from omnidrop_cli.batch.answers_file import Known, look
    from omnidrop_cli.batch.batch_run import BatchPlan, BatchProgress

    plan = BatchPlan(groups, spec, Known() if keeping.force else look(keeping.output), retry_failed=keeping.retry_failed)
    for work in plan.works(BatchProgress(), limit):
        for task in work.tasks:
            write_stdout(f"{one_line(task.job.media)}\t{one_line(task.job.question)}\n")


def _summary(outcome: Outcome, output: Path, seconds: float) -> Iterator[str]:
    """What the run did and how fast, and what to do next."""
    now = outcome.answered + outcome.failed - outcome.failed_before
    parts = [f"{outcome.answered} answered", f"{outcome.failed - outcome.failed_before} failed"]
    parts += [f"{outcome.earlier} answered before"] if outcome.earlier else []
    parts += [f"{outcome.failed_before} failed before"] if outcome.failed_before else []
    parts += [f"{outcome.left} open"] if outcome.left else []
    rate = f" in {seconds:.0f} s ({60 * now / seconds:.1f} a minute)" if now else ""
    yield f"{output}: {', '.join(parts)}{rate}"
    if outcome.left:
        yield "to go on:"
        yield f"  {resume_command(sys.argv[1:])}"
    elif outcome.failed:
        yield "--retry-failed asks the failed ones again"


def resume_command(arguments: list[str]) -> str:
    """The command that goes on: the same one, but not from the beginning again."""
    return shlex.join(["omnidrop", *(word for word in arguments if word != "--force")])
