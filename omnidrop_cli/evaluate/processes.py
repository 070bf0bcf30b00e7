"""The same evaluation by several processes, a model in each.

Clips go to the workers, rows come back, and this process alone writes. Rows come in another order than from one process and are otherwise
the same.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from omnidrop_cli.engine import child_process
from omnidrop_cli.errors import ModelError, OmnidropError
from omnidrop_cli.evaluate.evaluation import OnRow, Run, Work, by_clip, check_model, clip_rows, keep, load_session, model_facts

if TYPE_CHECKING:
    from omnidrop_cli.evaluate.results import ResultsFile


@dataclass(frozen=True, slots=True, eq=False)
class _Worker:
    process: BaseProcess
    pipe: Connection
    device: str


def execute(run: Run, work: Sequence[Work], devices: Sequence[str], results: ResultsFile, on_row: OnRow = lambda row: None) -> None:
    """`runner.execute` with one worker on each of `devices`. Raises what a worker raised, `ModelError` where one died."""
    groups = iter(by_clip(work))
    workers = [_hire(run, device, len(devices)) for device in devices]
    try:
        busy = {worker.pipe: worker for worker in workers}
        while busy:
            for pipe in wait([*busy]):
                worker = busy[pipe]  # type: ignore[index]  # only pipes are waited for
                message = _message(worker)
                if isinstance(message, tuple):
                    keep(message, results, on_row)
                    continue
                if message is not None:
                    check_model(results, message)
                group = next(groups, None)
                if group is None:
                    del busy[worker.pipe]
                else:
                    worker.pipe.send(group)
    finally:
        for worker in workers:
            worker.pipe.close()  # the end of its pipe tells a worker to go
        for worker in workers:
            child_process.end(worker.process, child_process.GRACE_S if not busy else 0)


def _hire(run: Run, device: str, workers: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_main, args=(replace(run, model=replace(run.model, device=device)), theirs, workers), daemon=True)
    child_process.start(process)
    theirs.close()  # else a dead worker's pipe would never end
    return _Worker(process, ours, device)


def _message(worker: _Worker) -> Any:
    """What a worker says: the facts of its model when it is ready, the rows of a question, None after a clip."""
    try:
        message = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join(child_process.GRACE_S)
        reason = child_process.cause_of_death(worker.process.exitcode)
        raise ModelError(f"the worker on {worker.device} {reason}", "the same command goes on with what is left") from None
    if isinstance(message, OmnidropError):
        raise message
    return message


def _main(run: Run, pipe: Connection, workers: int) -> None:
    """A worker's life: clips in, rows out, until the pipe ends."""
    child_process.settle()
    try:
        for message in _answers(run, pipe, workers):
            pipe.send(message)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except OmnidropError as error:
        pipe.send(error)


def _answers(run: Run, pipe: Connection, workers: int) -> Iterator[Any]:
    import torch

    if run.model.device == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    session = load_session(run)
    model = model_facts(session)
    yield model
    while True:
        yield from clip_rows(run, pipe.recv(), session, model)
        yield None
