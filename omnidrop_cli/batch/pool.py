"""Workers on the devices of one machine: a process each, a pipe to each.

Input: a clip with its questions, per worker. Output: events with rows (`scheduler.py`).
"""

from __future__ import annotations

from dataclasses import replace
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import TYPE_CHECKING

from omnidrop_cli.batch.scheduler import Answered, Event, Finished, Lost
from omnidrop_cli.batch.worker import DeviceLost, Worker
from omnidrop_cli.engine import child_process
from omnidrop_cli.errors import OmnidropError, UsageError

if TYPE_CHECKING:
    from omnidrop_cli.batch.rows import Work
    from omnidrop_cli.config import ModelConfig


class Processes:
    """A pool of one process per device; leave the `with` block to end them."""

    def __init__(self, choice: ModelConfig, devices: list[str]) -> None:
        self._choice, self._devices = choice, devices
        self._members: dict[int, child_process.Child] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for member in self._members.values():
            member.pipe.close()  # all end at the same time
        for member in self._members.values():
            member.end(0 if kind is not None else child_process.GRACE_S)

    def start(self, worker: int) -> None:
        device = self._devices[worker]
        # Not a daemon: those may have no children, and each worker has a decoder.
        arguments = (_main, replace(self._choice, device=device))
        self._members[worker] = child_process.start(*arguments, name=f"omnidrop-{device}", daemon=False)

    def submit(self, worker: int, work: Work, ahead: Work | None) -> None:
        try:
            self._members[worker].pipe.send((work, ahead))
        except OSError:
            return  # it has ended; `events` reports that

    def events(self) -> list[Event]:
        of_pipe = {member.pipe: worker for worker, member in self._members.items()}
        return [self._event(of_pipe[pipe]) for pipe in wait([*of_pipe], timeout=1.0) if isinstance(pipe, Connection)]

    def _event(self, worker: int) -> Event:
        member = self._members[worker]
        try:
            message = member.pipe.recv()
        except (EOFError, OSError):
            message = None
        if message == "finished":
            return Finished(worker)
        if isinstance(message, dict):
            return Answered(worker, message)
        cause = member.cause_of_death()
        del self._members[worker]
        member.pipe.close()
        if isinstance(message, DeviceLost):
            return Lost(worker, message.message)
        if isinstance(message, OmnidropError):
            return Lost(worker, message.message, message)
        return Lost(worker, f"a worker {cause}")


def devices(text: str) -> list[str]:
    """The devices of `--devices`: "0,1" and "cuda:0,cuda:1" name GPUs, "all" every GPU, "cpu,cpu" two workers on the CPU.

    Raises `UsageError`.
    """
    if text.strip() == "all":
        from torch import cuda

        if not cuda.device_count():
            raise UsageError("`devices=all`: no NVIDIA GPU was found", "`devices=cpu,cpu` runs two workers on the CPU")
        return [f"cuda:{index}" for index in range(cuda.device_count())]
    names = [name.strip() for name in text.split(",")]
    named = [f"cuda:{name}" if name.isdecimal() else name for name in names]
    for name in named:
        if name != "cpu" and not (name.startswith("cuda:") and name[5:].isdecimal()):
            raise UsageError(f"`devices`: {name!r} is not a device", "write 0,1 or cuda:0,cuda:1, all, or cpu,cpu")
    return named


def _main(pipe: Connection, choice: ModelConfig) -> None:
    """Run a worker: clips in, rows out, until the pipe ends."""
    child_process.settle()
    try:
        with Worker(choice) as worker:
            while True:
                work, ahead = pipe.recv()
                for row in worker.rows(work, ahead):
                    pipe.send(row)
                pipe.send("finished")
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except OmnidropError as error:
        pipe.send(error)
