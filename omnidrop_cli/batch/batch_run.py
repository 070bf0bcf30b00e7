"""The batch itself: what is still open goes to the workers, every row goes to the answers file.

Input: the open questions (`BatchPlan`), one worker or a pool of them, the answers file. Output: an `Outcome` with counts. A question
whose key has an answer in the file is done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from omnidrop_cli.batch.keys import key, model_id, stamp
from omnidrop_cli.batch.rows import Task, Work
from omnidrop_cli.batch.scheduler import distribute
from omnidrop_cli.events import ProgressCallback

if TYPE_CHECKING:
    from omnidrop_cli.batch.answers_file import AnswersFile, Known, Row
    from omnidrop_cli.batch.inputs import Group
    from omnidrop_cli.batch.interrupt import Interrupt
    from omnidrop_cli.batch.scheduler import WorkerPool
    from omnidrop_cli.batch.worker import Worker
    from omnidrop_cli.model.names import ModelSpec

T = TypeVar("T")


class BatchProgress(ProgressCallback):
    """Events of a batch. These methods do nothing; subclasses draw."""

    def skipped(self, media: str, count: int) -> None:
        """`count` questions about a clip were answered (or had failed) in an earlier run."""

    def clip(self, media: str) -> None:
        """Work on a clip begins."""

    def row(self, row: Row) -> None:
        """A row is on the disk."""

    def finishing(self) -> None:
        """A signal came; clips in work are being finished."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the questions asked. `failed` counts those of earlier runs too (`failed_before`), `left` those not reached."""

    total: int
    answered: int
    failed: int
    earlier: int
    interrupted: bool = False
    failed_before: int = 0

    @property
    def left(self) -> int:
        return self.total - self.answered - self.failed - self.earlier


class BatchPlan:
    """Which questions are open, determined clip by clip: a long list starts at once, and finished clips are not opened."""

    def __init__(self, groups: Sequence[Group], spec: ModelSpec, known: Known, *, retry_failed: bool = False) -> None:
        self.total = sum(len(group) for group in groups)
        self.earlier = self.failed = 0
        """Questions so far that an earlier run answered, and those that failed in one."""
        self._groups, self._model = groups, model_id(spec)
        self._known, self._retry = known, retry_failed
        self._seen: Counter[str] = Counter()

    def works(self, progress: BatchProgress, limit: int | None = None) -> Iterator[Work]:
        """The open questions of each clip that has any, `limit` questions at most."""
        remaining = limit
        for group in self._groups:
            tasks = [task for task in self._tasks(group) if self._is_open(task)]
            if len(tasks) < len(group):
                progress.skipped(group[0].job.media, len(group) - len(tasks))
            if remaining is not None:
                tasks = tasks[:remaining]
                remaining -= len(tasks)
            if tasks:
                yield Work(tuple(tasks))
            if remaining == 0:
                return

    def _tasks(self, group: Group) -> Iterator[Task]:
        of_clip = stamp(group[0].job.media, self._known.contents)
        for asked in group:
            name = key(asked.job, of_clip.content, self._model, asked.id)
            self._seen[name] += 1
            copy = self._seen[name]  # the same clip under another path has a row of its own
            yield Task(asked.job, of_clip, name if copy == 1 else f"{name}-{copy}", asked.id)

    def _is_open(self, task: Task) -> bool:
        good = self._known.done.get(task.key)
        if good is None or (self._retry and not good):
            return True
        if good:
            self.earlier += 1
        else:
            self.failed += 1
        return False


class Runner:
    """Takes rows from workers to the answers file and counts them."""

    def __init__(self, plan: BatchPlan, answers: AnswersFile, progress: BatchProgress, stop: Interrupt) -> None:
        self._plan, self._answers, self._progress, self._stop = plan, answers, progress, stop
        self._answered = self._failed = 0

    def run_here(self, worker: Callable[[], Worker], limit: int | None = None) -> Outcome:
        """Answer in this process. The worker is made for the first open clip, so a finished batch loads no model.

        Raises `ModelError` where the model cannot load or the GPU is lost, `OmnidropError` where the disk refuses.
        """

        def answer() -> None:
            with ExitStack() as stack:
                loaded: Worker | None = None
                for work, ahead in _with_next(self._plan.works(self._progress, limit)):
                    loaded = loaded or stack.enter_context(worker())
                    self._progress.clip(work.media)
                    opened = loaded.open(work, ahead)
                    for task in work.tasks:
                        with self._stop.finishing():
                            self._keep(loaded.answer(opened, task, self._progress))

        return self._until_stopped(answer)

    def run_in_pool(self, pool: WorkerPool, size: int, limit: int | None = None) -> Outcome:
        """Answer by `size` workers elsewhere. After a signal the clips in work are finished. Raises as `run_here` does."""

        def answer() -> None:
            works = self._plan.works(self._progress, limit)
            with self._stop.finishing():
                for row in distribute(pool, size, works, lambda: self._stop.requested):
                    self._keep(row)

        return self._until_stopped(answer)

    def _keep(self, row: Row) -> None:
        self._answers.append(row)
        if "error" in row:
            self._failed += 1
        else:
            self._answered += 1
        self._progress.row(row)

    def _until_stopped(self, answer: Callable[[], None]) -> Outcome:
        interrupted = False
        try:
            answer()
        except KeyboardInterrupt:
            interrupted = True
        plan = self._plan
        return Outcome(plan.total, self._answered, self._failed + plan.failed, plan.earlier, interrupted, plan.failed)


def _with_next(items: Iterator[T]) -> Iterator[tuple[T, T | None]]:
    """Every item together with the one after it."""
    current = next(items, None)
    while current is not None:
        following = next(items, None)
        yield current, following
        current = following
