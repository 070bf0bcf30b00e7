"""Clips over several workers: who does what next, and what happens when a worker dies.

Each worker gets its next clip early, so that it can decode it; a worker without a clip takes the next one of another; a clip whose worker
died is tried once more and then given up. Input: clips and a `WorkerPool`. Output: rows.
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
"""How often a clip is given to a worker: a worker can die for another's reasons, a clip that takes two with it is the reason."""

DEATHS_IN_A_ROW = 3
"""Workers lost with no row between them after which the run ends: it is not the clips then."""


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
    """`worker` is dead. `error` is set where it said why and no other worker would fare better (the model cannot load)."""

    worker: int
    reason: str
    error: OmnidropError | None = None


Event = Answered | Finished | Lost


class WorkerPool(Protocol):
    """Workers in other processes, by number."""

    def start(self, worker: int) -> None:
        """Start a worker under this number; it may take its time."""

    def submit(self, worker: int, work: Work, ahead: Work | None) -> None:
        """Hand over a clip, and the one that will come after it."""

    def events(self) -> list[Event]:
        """What happened since; waits until something did, a second at most."""


def distribute(pool: WorkerPool, size: int, works: Iterator[Work], stopping: Callable[[], bool] = lambda: False) -> Iterator[Row]:
    """Every row of `works`, as they come. Once `stopping` says so, clips in work are finished and no new ones begun.

    Raises `ModelError` where workers cannot be kept alive, and whatever a worker says ends the run.
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
    """Which worker has which clip in work and in sight."""

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
        """The clip in work and the one in sight."""
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
        """Take the dead worker's clip back, or give it up: its rows then."""
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
