"""`omnidrop batch`: many clips, many questions, one file of answers that survives anything.

Knows: flags, progress, exit codes, the command that resumes. Does not know how rows are made or kept (`batch/`).
"""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omnidrop_cli.commands._console import ConsoleFlags, check_target, stderr_console, write_stdout
from omnidrop_cli.commands._options import OUTPUT, GenerationFlags, MediaFlags, MethodFlags, ModelFlags, read_question
from omnidrop_cli.config import Request
from omnidrop_cli.errors import EXIT_INTERRUPTED, EXIT_PARTIAL, UsageError
from omnidrop_cli.fileio import write_text
from omnidrop_cli.report.text import clean, one_line

if TYPE_CHECKING:
    from omnidrop_cli.batch.answers_file import AnswersFile
    from omnidrop_cli.batch.inputs import Group
    from omnidrop_cli.batch.runner import Outcome, Plan, Watcher
    from omnidrop_cli.model.names import ModelSpec

SCALE, INPUT = "Scale", "Input"


@dataclass(frozen=True, slots=True)
class BatchConsoleFlags(ConsoleFlags):
    """Here -q is a question, as in `-q QUESTION`; quietness has its long name only."""

    quiet: Annotated[bool, typer.Option("--quiet", rich_help_panel=OUTPUT, help="Errors and the summary only.")] = False


@dataclass(frozen=True, slots=True)
class InputFlags:
    """What is asked, about which clips."""

    paths: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders (searched recursively), globs, list files (.txt, .m3u; - is stdin), http(s) addresses.",
            metavar="PATH",
            show_default=False,
        ),
    ] = None
    question: Annotated[
        list[str] | None,
        typer.Option("--question", "-q", metavar="QUESTION", rich_help_panel=INPUT, help="What to ask of every clip. Repeatable."),
    ] = None
    input: Annotated[
        str | None,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE",
            rich_help_panel=INPUT,
            help='JSON lines: {"media", "question", "id", "system", "start", "end"}.',
        ),
    ] = None
    limit: Annotated[int | None, typer.Option("--limit", min=1, rich_help_panel=INPUT, help="Ask so many open questions, then stop.")] = (
        None
    )


@dataclass(frozen=True, slots=True)
class KeepingFlags:
    """Where answers go, and which of an earlier run count."""

    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", rich_help_panel=OUTPUT, help="JSON lines, one per question, appended as they come."),
    ] = Path("answers.jsonl")
    export: Annotated[
        list[Path] | None,
        typer.Option("--export", metavar="FILE", rich_help_panel=OUTPUT, help="At the end, write all answers as .csv or .md. Repeatable."),
    ] = None
    retry_failed: Annotated[bool, typer.Option("--retry-failed", rich_help_panel=OUTPUT, help="Ask again where an earlier run failed.")] = (
        False
    )
    force: Annotated[bool, typer.Option("--force", rich_help_panel=OUTPUT, help="Start over; the existing file is renamed FILE.bak-1.")] = (
        False
    )
    dry_run: Annotated[bool, typer.Option("--dry-run", rich_help_panel=OUTPUT, help="List the open questions on stdout; run nothing.")] = (
        False
    )


@dataclass(frozen=True, slots=True)
class ScaleFlags:
    """How many models answer, and where."""

    devices: Annotated[
        str | None,
        typer.Option("--devices", metavar="LIST", rich_help_panel=SCALE, help="A model on each: 0,1 or all (GPUs), or cpu,cpu."),
    ] = None
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="ADDRESS",
            rich_help_panel=SCALE,
            help='Workers on Ray: auto, local, or host:port. Needs Ray: pip install "ray>=2.40".',
        ),
    ] = None
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, rich_help_panel=SCALE, help="Workers on the cluster; one per GPU if unset.")
    ] = None


EXAMPLES = (
    'omnidrop batch interviews/ -q "Who speaks?" -q "About what?" -o answers.jsonl',
    "omnidrop batch -i questions.jsonl -o answers.jsonl --export answers.csv",
    'omnidrop batch "talks/**/*.mp4" -q "What is said at the end?" --devices 0,1',
)


def batch(
    what: InputFlags,
    keeping: KeepingFlags,
    scale: ScaleFlags,
    part: MediaFlags,
    pruning: MethodFlags,
    loading: ModelFlags,
    generation: GenerationFlags,
    console: BatchConsoleFlags,
) -> None:
    """Ask many clips many questions; answers are appended to a file, and the same command resumes.

    A clip that cannot be read becomes a row with an error, and the run goes on. Exit code 0: every question has an answer; 3: some
    failed; 130: interrupted.
    """
    from omnidrop_cli.batch.answers_file import AnswersFile, read, set_aside
    from omnidrop_cli.batch.export import writer_for
    from omnidrop_cli.batch.inputs import gather
    from omnidrop_cli.batch.runner import Plan
    from omnidrop_cli.commands._batch_console import BatchScreen
    from omnidrop_cli.model.names import resolve

    if scale.devices is not None and scale.cluster is not None:
        raise UsageError("--devices and --cluster both say where the models run", "give one of them")
    if scale.workers is not None and scale.cluster is None:
        raise UsageError("--workers counts the workers of a cluster", "add --cluster, or name the devices: --devices cpu,cpu")
    exports = [(path, writer_for(path)) for path in keeping.export or ()]
    for path, _ in exports:
        check_target(path)
    if keeping.output.suffix.lower() in (".csv", ".md"):
        raise UsageError(f"answers are kept as JSON lines, not in {keeping.output}", f"-o answers.jsonl --export {keeping.output}")
    template = Request("", "", generation.system, part.record(), loading.record(), pruning.record(), generation.record(pruning.seed))
    notes: list[str] = []
    questions = [read_question(question) for question in what.question or ()]
    groups = gather(what.paths or [], questions, template, what.input, notes.append)
    spec = resolve(template.model)
    if keeping.dry_run:
        for note in notes:
            stderr_console(console).print(clean(note), soft_wrap=True)
        _dry_run(groups, spec, keeping, what.limit)
        return
    old = set_aside(keeping.output) if keeping.force else None
    with AnswersFile(keeping.output) as journal, BatchScreen(console, groups) as watcher:
        if old is not None:
            notes.append(f"the earlier answers are in {old}")
        if journal.others:
            notes.append(f"{journal.others} rows of {keeping.output} are of another version of omnidrop and count for nothing")
        for note in (*notes, *([spec.notice] if spec.notice is not None else [])):
            watcher.warn(note)
        plan = Plan(groups, spec, journal.known, retry_failed=keeping.retry_failed)
        outcome = _run(plan, journal, watcher, template, scale, what.limit)
    for path, pieces in exports:
        write_text(path, "".join(pieces(read(keeping.output))))
    _finish(outcome, keeping, console)


def _run(plan: Plan, journal: AnswersFile, watcher: Watcher, template: Request, scale: ScaleFlags, limit: int | None) -> Outcome:
    from omnidrop_cli.batch.interrupt import Interrupt
    from omnidrop_cli.batch.runner import Runner
    from omnidrop_cli.batch.worker import Worker

    with ExitStack() as stack:
        stop = stack.enter_context(Interrupt(watcher.finishing))
        runner = Runner(plan, journal, watcher, stop)
        if scale.devices is not None:
            from omnidrop_cli.batch.pool import Processes, devices

            names = devices(scale.devices)
            return runner.apart(stack.enter_context(Processes(template.model, names)), len(names), limit)
        if scale.cluster is not None:
            from omnidrop_cli.batch.ray_pool import Cluster

            cluster = stack.enter_context(Cluster(template.model, scale.cluster, scale.workers))
            return runner.apart(cluster, cluster.size, limit)
        return runner.here(lambda: Worker(template.model, watcher), limit)


def _dry_run(groups: list[Group], spec: ModelSpec, keeping: KeepingFlags, limit: int | None) -> None:
    from omnidrop_cli.batch.answers_file import Known, look
    from omnidrop_cli.batch.runner import Plan, Watcher

    plan = Plan(groups, spec, Known() if keeping.force else look(keeping.output), retry_failed=keeping.retry_failed)
    for work in plan.works(Watcher(), limit):
        for task in work.tasks:
            write_stdout(f"{one_line(task.job.media)}\t{one_line(task.job.question)}\n")


def _finish(outcome: Outcome, keeping: KeepingFlags, console: BatchConsoleFlags) -> None:
    """The summary, what to do next, and the exit code."""
    done = f"{outcome.answered} answered, {outcome.failed} failed"
    earlier = f", {outcome.earlier} answered before" if outcome.earlier else ""
    left = f", {outcome.left} open" if outcome.left else ""
    lines = [f"{keeping.output}: {done}{earlier}{left}"]
    if outcome.left:
        lines += ["to go on:", f"  {resume_command(sys.argv[1:])}"]
    elif outcome.failed:
        lines.append("--retry-failed asks the failed ones again")
    for line in lines:
        stderr_console(console).print(clean(line), soft_wrap=True)
    if outcome.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if outcome.failed:
        raise typer.Exit(EXIT_PARTIAL)


def resume_command(arguments: list[str]) -> str:
    """The command that goes on: the same one, but not from the beginning again."""
    return shlex.join(["omnidrop", *(word for word in arguments if word != "--force")])
