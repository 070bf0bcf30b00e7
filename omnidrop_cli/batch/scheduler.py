"""Clips over several workers: which worker takes which clip, and what follows the end of a worker process.

Each worker gets its next clip early, so that it can decode it; a worker without a clip takes the next one of another; a clip whose worker
ended is tried once more and then fails. Input: clips and a `WorkerPool`. Output: rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from omnidrop_cli.batch.answers_file import Row
from omnidrop_cli.batch.rows import Work, failed
from omnidrop_cli.errors import ModelError, OmnidropError

ATTEMPTS = 2
"""How often a clip is given to a worker: one crash may have another cause, two on the same clip are due to the clip."""

DEATHS_IN_A_ROW = 3
"""Workers lost with no row between them after which the run ends: the clips are not the cause then."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A row arrived from `worker`."""

    worker: int
    row: Row


@dataclass(frozen=True, slots=True)
class Finished:
    """`worker` has done its clip."""

    worker: int


@dataclass(frozen=True, slots=True)
class Lost:
    """`worker` has ended. `error` is set where it reported why and any other would fail too (the model cannot load)."""

    worker: int
    reason: str
    error: OmnidropError | None = None


Event = Answered | Finished | Lost


class WorkerPool(Protocol):
    """Workers in other processes, by number."""

    def start(self, worker: int) -> None:
        """Start a worker under this number; returns before it is ready."""

    def submit(self, worker: int, work: Work, ahead: Work | None) -> None:
        """Hand over a clip, and the one that will come after it."""

    def events(self) -> list[Event]:
        """Events since the last call; waits for one, a second at most."""


def distribute(pool: WorkerPool, size: int, works: Iterator[Work], stopping: Callable[[], bool] = lambda: False) -> Iterator[Row]:
    """Every row of `works`, as they arrive. Once `stopping()` is true, clips in work are finished and no new ones begun.

    Raises `ModelError` after `DEATHS_IN_A_ROW`, and the error of a worker that reported one.
    """
    schedule = _Schedule(works)
    alive: set[int] = set()
    deaths = 0
    for worker in range(size):
        if not schedule.assign(worker):
            break
        pool.start(worker)
        alive.add(worker)
    for worker in alive:
        pool.submit(worker, *schedule.orders(worker))
    while schedule.busy:
        for event in pool.events():
            worker = event.worker
            if isinstance(event, Answered):
                deaths = 0
                schedule.answered(worker, event.row["batch"]["key"])
                yield event.row
                continue
            if isinstance(event, Lost):
                if event.error is not None:
                    raise event.error
                deaths += 1
                yield from schedule.lost(worker, event.reason)
                if deaths >= DEATHS_IN_A_ROW:
                    raise ModelError(f"{deaths} workers died one after another: {event.reason}", "try one of the clips with `omnidrop ask`")
            else:
                schedule.finished(worker)
            if not stopping() and schedule.assign(worker):
                if isinstance(event, Lost):
                    pool.start(worker)
                pool.submit(worker, *schedule.orders(worker))


class _Schedule:
    """Which worker has which clip in work, and which one next."""

    def __init__(self, works: Iterator[Work]) -> None:
        self._works = works
        self._again: deque[Work] = deque()
        self._current: dict[int, Work] = {}
        self._next: dict[int, Work] = {}
        self._attempts: dict[str, int] = {}

    @property
    def busy(self) -> bool:
        return bool(self._current)

    def assign(self, worker: int) -> bool:
        """Give `worker` a clip: its own next one, a new one, or at the end another's next one. False where none is left."""
        work = self._next.pop(worker, None) or self._take()
        if work is None and self._next:
            work = self._next.pop(next(iter(self._next)))
        if work is None:
            return False
        self._current[worker] = work
        return True

    def orders(self, worker: int) -> tuple[Work, Work | None]:
        """The clip in work and the next one."""
        ahead = self._take()
        if ahead is not None:
            self._next[worker] = ahead
        return self._current[worker], ahead

    def answered(self, worker: int, key: str) -> None:
        work = self._current[worker]
        self._current[worker] = Work(tuple(task for task in work.tasks if task.key != key))

    def finished(self, worker: int) -> None:
        del self._current[worker]

    def lost(self, worker: int, reason: str) -> Iterator[Row]:
        """Queue the lost worker's clip again, or, after `ATTEMPTS`, give the rows of its failure."""
        work = self._current.pop(worker, None)
        if work is None or not work.tasks:
            return
        first = work.tasks[-1].key
        self._attempts[first] = self._attempts.get(first, 0) + 1
        if self._attempts[first] < ATTEMPTS:
            self._again.append(work)
            return
        error = ModelError(f"the worker died twice on this clip: {reason}", "try it alone with `omnidrop ask`")
        for task in work.tasks:
            yield failed(task, error)

    def _take(self) -> Work | None:
        return self._again.popleft() if self._again else next(self._works, None)
