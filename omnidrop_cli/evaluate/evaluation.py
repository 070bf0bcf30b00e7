"""Questions and methods in, rows out.

A clip is decoded and encoded once for all its questions and all methods; every question is then prefilled once per method. A clip or a
question that fails becomes a row with an error for each method, and the run goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from omnidrop_cli.config import GenerationConfig, MediaConfig, ModelConfig, PruningConfig, Request, Timing
from omnidrop_cli.engine.encoded_prompt import PromptSource
from omnidrop_cli.errors import MediaError, OmnidropError, UsageError
from omnidrop_cli.evaluate.items import Benchmark, Measured, MethodSpec, Question, Row
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.prune.methods import get_method

if TYPE_CHECKING:
    from omnidrop_cli.engine.encoded_prompt import EncodedPrompt
    from omnidrop_cli.engine.session import Session
    from omnidrop_cli.evaluate.results import ResultsFile
    from omnidrop_cli.model.thinker import Thinker
    from omnidrop_cli.outputs import Report

OnRow = Callable[[Row], None]

PUBLISHED_SECONDS_PER_GRID = 1.0
"""How long a pair of frames lasts in the layouts of lmms-eval, SEATS, DASH, OmniZip, OmniSIFT and Daily-Omni: they call the processor
without a frame rate, and its default is 2 frames per second."""

Work = tuple[Question, tuple[MethodSpec, ...]]
"""A question and the methods that have no answer to it yet."""

_SHOWN = ("quant", "dtype", "device", "weights")

NO_PRUNING = PruningConfig(name="none")
"""What a clip is read under: a method that cannot work with a prompt must not take the other methods with it."""


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that determines the content of a row.

    Args:
        text_first: Put the words before the clip.
        timing: "true" lays a prompt out by the clip's own time; "published" takes one second per pair of frames for every clip, as the
            pipelines behind the published tables do.
    """

    benchmark: Benchmark
    methods: tuple[MethodSpec, ...]
    model: ModelConfig
    media_options: MediaConfig
    generation: GenerationConfig
    text_first: bool = False
    timing: Timing = "true"

    def job(self, question: Question, method: MethodSpec) -> Request:
        """The job of one question under one method."""
        return Request(
            media=question.media,
            question=self.benchmark.prompt(question),
            system=self.benchmark.system,
            media_options=self.media_options,
            model=self.model,
            method=method.choice,
            generation=self.generation,
        )

    def key(self, question: Question, method: MethodSpec) -> str:
        """Names a row: equal for runs that would give the same one. The directory of the data does not count, nor the method's spelling."""
        job = asdict(replace(self.job(question, method), media="", model=replace(self.model, offline=False, graph=True, device="auto")))
        facts = [self.benchmark.name, question.id, self.text_first, job]
        if self.timing != "true":  # keys of files from before there was a choice stay valid
            facts.append({"timing": self.timing})
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def load_session(run: Run, progress: ProgressCallback = SILENT) -> Session:
    """Load the run's model, with its layout. Raises `ModelError`."""
    from omnidrop_cli.engine import pipeline

    return with_timing(pipeline.load(run.model, progress), run.timing)


def with_timing(session: Session, timing: Timing) -> Session:
    """`session`, laying out its prompts by `timing`."""
    seconds = PUBLISHED_SECONDS_PER_GRID if timing == "published" else None
    session.thinker = replace(session.thinker, spec=replace(session.thinker.spec, seconds_per_grid=seconds))
    return session


def check(run: Run) -> None:
    """Raise `UsageError` for a method whose name, preset or options do not exist."""
    for method in run.methods:
        get_method(method.choice)


def pending(run: Run, questions: Sequence[Question], results: ResultsFile) -> list[Work]:
    """Questions with the methods that have no answer yet, the questions of one clip together."""
    order = {media: at for at, media in reversed(list(enumerate(question.media for question in questions)))}
    work = []
    for number, question in enumerate(sorted(questions, key=lambda question: order[question.media])):
        turn = number % len(run.methods)
        # The first method differs from question to question, so that none always runs with warm or cold caches.
        methods = tuple(method for method in run.methods[turn:] + run.methods[:turn] if not results.done(run.key(question, method)))
        if methods:
            work.append((question, methods))
    return work


def execute(
    run: Run,
    work: Sequence[Work],
    session: Session,
    results: ResultsFile,
    on_row: OnRow = lambda row: None,
    progress: ProgressCallback = SILENT,
) -> None:
    """Answer what is pending and append the rows. Raises `UsageError` if the file holds rows of another model."""
    model = model_facts(session)
    check_model(results, model)
    for group in by_clip(work):
        for rows in clip_rows(run, group, session, model, progress):
            keep(rows, results, on_row)


def keep(rows: Sequence[Row], results: ResultsFile, on_row: OnRow) -> None:
    """Write the rows of one question, then call `on_row` with each."""
    results.add(*rows)
    for row in rows:
        on_row(row)


def by_clip(work: Sequence[Work]) -> list[list[Work]]:
    """The work of each clip together, in order."""
    return [list(group) for _, group in groupby(work, key=lambda item: item[0].media)]


def check_model(results: ResultsFile, model: Mapping[str, Any]) -> None:
    """Raise `UsageError` if the file holds rows of another model."""
    for row in results.rows.values():
        if row.error is None and row.model != model:
            theirs, ours = (f"{facts.get('name')} ({', '.join(str(facts.get(name)) for name in _SHOWN)})" for facts in (row.model, model))
            raise UsageError(f"{results.path} holds rows of {theirs}, this run has {ours}", "choose another file with -o")


def model_facts(session: Session) -> dict[str, Any]:
    """Facts of the model for its rows. They are equal in all rows of one file."""
    loaded = session.loaded
    names = ("name", "source", "quant", "dtype", "attention", "revision")
    weights = _weights(session.thinker)
    head = {} if loaded.quant_head == "none" else {"quant_head": loaded.quant_head}  # rows of earlier versions still match
    return {**{name: getattr(loaded, name) for name in names}, **head, "device": loaded.device.partition(":")[0], "weights": weights}


def _weights(thinker: Thinker) -> str:
    """12 hex digits that change with the thinker's weights, and with those of the selector in its checkpoint, if there is one."""
    from omnidrop_cli.engine.feature_cache import fingerprint
    from omnidrop_cli.prune.audio_selector import has_selector, load_selector

    digest = fingerprint(thinker.model)
    if thinker.directory is not None and has_selector(thinker.directory):
        digest = hashlib.sha256(digest + fingerprint(load_selector(str(thinker.directory)))).digest()
    return digest.hex()[:12]


def clip_rows(
    run: Run, group: Sequence[Work], session: Session, model: Mapping[str, Any], progress: ProgressCallback = SILENT
) -> Iterator[tuple[Row, ...]]:
    """The rows of one clip, question by question. `model` is `model_facts(session)`."""
    needs = frozenset[str]().union(*(get_method(method.choice).needs for _, methods in group for method in methods))
    # A clip that cannot be made ends the run: a program is missing, whatever the clip shows.
    media = run.benchmark.prepare(group[0][0]) if run.benchmark.prepare else group[0][0].media
    read: EncodedPrompt | None = None
    broken: MediaError | None = None
    for question, methods in group:
        try:
            if broken is not None:
                raise broken
            request = replace(run.job(question, methods[0]), media=media, method=NO_PRUNING)
            source = PromptSource(request, needs=needs, media_first=not run.text_first)
            if read is not None:
                source = replace(source, clips=read.clips, features=read.features)
            read = session.encode(source, progress)
        except OmnidropError as error:
            broken = error if isinstance(error, MediaError) else None
            rows = [_failed(run, question, method, error) for method in methods]
        else:
            rows = [_row_of(run, question, method, read, session, progress) for method in methods]
        yield tuple(replace(row, model=model) for row in rows)


def _row_of(run: Run, question: Question, method: MethodSpec, read: EncodedPrompt, session: Session, progress: ProgressCallback) -> Row:
    try:
        report = session.answer(session.with_method(read, method.choice), progress)
    except OmnidropError as error:
        return _failed(run, question, method, error)
    return _answered(run, question, method, report)


def _answered(run: Run, question: Question, method: MethodSpec, report: Report) -> Row:
    text = report.answer.text
    chosen, correct = run.benchmark.judge(question, text)
    measured = Measured(
        tokens=report.prompt.total,
        media_tokens=report.prompt.media,
        retention_entering=report.trace.retention_entering,
        retention_after=report.trace.retention_after,
        encode_s=report.timings.encode_s,
        prefill_s=report.timings.prefill_s,
        generate_s=report.timings.generate_s,
        peak_mb=report.memory.peak_mb,
        kv_mb=report.memory.kv_mb,
        flops_full=report.flops.full,
        flops_pruned=report.flops.pruned,
        flops_encoders=report.flops.encoders,
    )
    row = _row(run, question, method)
    return replace(row, answer=text, prediction=chosen, correct=correct, measured=measured, warnings=report.warnings)


def _failed(run: Run, question: Question, method: MethodSpec, error: OmnidropError) -> Row:
    return replace(_row(run, question, method), error={"type": type(error).__name__, "message": error.message, "hint": error.hint})


def _row(run: Run, question: Question, method: MethodSpec) -> Row:
    return Row(
        key=run.key(question, method),
        benchmark=run.benchmark.name,
        question=question.id,
        media=question.media,
        method=method.label,
        labels=dict(question.labels),
        gold=question.answer,
        settings={"timing": run.timing},
    )
