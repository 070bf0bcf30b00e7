"""Signals wait for the row in work, and only for that."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from omnidrop_cli.batch.interrupt import Interrupt

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of one's own process")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_waits_for_the_block(number: signal.Signals) -> None:
    said, done = [], []
    with Interrupt(lambda: said.append("finishing")) as stop, pytest.raises(KeyboardInterrupt):  # noqa: PT012, SIM117
        with stop.finishing():
            os.kill(os.getpid(), number)
            done.append("row")
    assert (said, done, stop.requested) == (["finishing"], ["row"], True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_between_blocks_stops_at_once(number: signal.Signals) -> None:
    after = []
    with Interrupt() as stop, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        with stop.finishing():
            pass
        os.kill(os.getpid(), number)
        after.append("not reached")
    assert not after


def test_second_signal_breaks_the_block() -> None:
    reached = []
    with Interrupt() as stop, pytest.raises(KeyboardInterrupt), stop.finishing():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        reached.append(1)
        os.kill(os.getpid(), signal.SIGINT)
        reached.append(2)
    assert reached == [1]


def test_an_error_in_the_block_is_not_hidden() -> None:
    with Interrupt() as stop, pytest.raises(OSError, match="full"), stop.finishing():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        raise OSError("full")


def test_handlers_come_back_and_other_threads_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Interrupt():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    problems: list[BaseException] = []

    def elsewhere() -> None:
        try:
            with Interrupt() as stop, stop.finishing():
                pass
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert not problems
