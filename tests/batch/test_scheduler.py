"""Every question gets one row, whatever the workers do."""

from __future__ import annotations

from collections import Counter, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnidrop_cli.batch.rows import Work
from omnidrop_cli.batch.scheduler import Answered, Event, Finished, Lost, distribute
from omnidrop_cli.errors import ModelError
from tests.batch.samples import row, work


class FakePool:
    """Workers that answer in an order drawn by the test, and die when it says so."""

    def __init__(self, data: st.DataObject | None = None, deadly: frozenset[str] = frozenset(), deaths: int = 0) -> None:
        self.data, self.deadly, self.deaths = data, deadly, deaths
        self.queues: dict[int, deque[Event]] = {}
        self.order: list[tuple[int, str, str | None]] = []
        self.started: list[int] = []

    def start(self, worker: int) -> None:
        assert worker not in self.queues
        self.queues[worker] = deque()
        self.started.append(worker)

    def submit(self, worker: int, given: Work, ahead: Work | None) -> None:
        assert not self.queues[worker], "a busy worker was given a clip"
        assert given.tasks
        self.order.append((worker, given.media, None if ahead is None else ahead.media))
        for task in given.tasks:
            if given.media in self.deadly or (self.deaths and self.data is not None and self.data.draw(st.booleans())):
                self.deaths -= given.media not in self.deadly
                self.queues[worker].append(Lost(worker, "killed"))
                return
            answer = row(0)
            answer["batch"]["key"] = task.key
            self.queues[worker].append(Answered(worker, answer))
        self.queues[worker].append(Finished(worker))

    def events(self) -> list[Event]:
        busy = [worker for worker, queue in self.queues.items() if queue]
        assert busy, "the run waits for workers that have nothing to do"
        worker = self.data.draw(st.sampled_from(busy)) if self.data is not None else busy[0]
        event = self.queues[worker].popleft()
        if isinstance(event, Lost):
            del self.queues[worker]
        return [event]


@settings(max_examples=150)
@given(st.data(), st.integers(1, 4), st.lists(st.integers(1, 3), max_size=8), st.integers(0, 2))
def test_every_question_has_one_row(data: st.DataObject, size: int, questions: list[int], deaths: int) -> None:
    works = [work(number, count) for number, count in enumerate(questions)]
    rows = list(distribute(FakePool(data, deaths=deaths), size, iter(works)))
    assert Counter(one["batch"]["key"] for one in rows) == Counter(task.key for one in works for task in one.tasks)


def test_a_clip_that_kills_twice_is_given_up_and_the_rest_goes_on() -> None:
    pool = FakePool(deadly=frozenset({"1.mp4"}))
    rows = list(distribute(pool, 2, iter([work(number, 2) for number in range(4)])))
    failed = {one["batch"]["key"] for one in rows if "error" in one}
    assert failed == {"k1-0", "k1-1"}
    assert len(rows) == 8
    assert Counter(media for _, media, _ in pool.order)["1.mp4"] == 2
    assert "died twice" in next(one for one in rows if "error" in one)["error"]["message"]


def test_deaths_with_rows_between_them_do_not_end_the_run() -> None:
    pool = FakePool(deadly=frozenset({"0.mp4", "2.mp4", "4.mp4"}))
    rows = list(distribute(pool, 1, iter([work(number, 2) for number in range(9)])))
    assert Counter("error" in one for one in rows) == {True: 6, False: 12}
    assert len(pool.started) == 1 + 6


def test_workers_that_all_die_end_the_run() -> None:
    with pytest.raises(ModelError, match="3 workers died"):
        list(distribute(FakePool(deadly=frozenset(f"{n}.mp4" for n in range(9))), 2, iter([work(n) for n in range(9)])))


def test_no_more_workers_than_clips_and_nobody_idles() -> None:
    pool = FakePool()
    list(distribute(pool, 8, iter([work(number) for number in range(3)])))
    assert pool.started == [0, 1, 2]
    assert all(ahead is None for _, _, ahead in pool.order)


def test_the_next_clip_is_announced_early_and_then_submitted() -> None:
    pool = FakePool()
    list(distribute(pool, 1, iter([work(number) for number in range(3)])))
    assert pool.order == [(0, "0.mp4", "1.mp4"), (0, "1.mp4", "2.mp4"), (0, "2.mp4", None)]


def test_an_idle_worker_takes_what_another_was_only_announced() -> None:
    class SecondIsQuick(FakePool):
        def events(self) -> list[Event]:
            worker = max(worker for worker, queue in self.queues.items() if queue)
            return [self.queues[worker].popleft()]

    pool = SecondIsQuick()
    rows = list(distribute(pool, 2, iter([work(number) for number in range(3)])))
    assert pool.order == [(0, "0.mp4", "2.mp4"), (1, "1.mp4", None), (1, "2.mp4", None)]
    assert len(rows) == 3


def test_stopping_finishes_what_is_in_work() -> None:
    rows = []
    for one in distribute(FakePool(), 2, iter([work(number, 2) for number in range(9)]), lambda: len(rows) > 0):
        rows.append(one)
    assert {one["batch"]["key"] for one in rows} == {"k0-0", "k0-1", "k1-0", "k1-1"}


def test_an_error_for_all_is_raised() -> None:
    class Hopeless(FakePool):
        def submit(self, worker: int, given: Work, ahead: Work | None) -> None:
            self.queues[worker].append(Lost(worker, "no weights", ModelError("no weights")))

    with pytest.raises(ModelError, match="no weights"):
        list(distribute(Hopeless(), 2, iter([work(0)])))
