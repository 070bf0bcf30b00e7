"""The same evaluation by several processes, a model in each.

Clips go to the workers, rows come back, and this process alone writes. Rows come in another order than from one process and are otherwise
the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from omnidrop_cli.engine import child_process
from omnidrop_cli.errors import ModelError, OmnidropError
from omnidrop_cli.evaluate.evaluation import OnRow, Run, Work, by_clip, check_model, clip_rows, keep, load_session, model_facts

if TYPE_CHECKING:
    from omnidrop_cli.engine.child_process import Child
    from omnidrop_cli.evaluate.results import ResultsFile


def execute(run: Run, work: Sequence[Work], devices: Sequence[str], results: ResultsFile, on_row: OnRow = lambda row: None) -> None:
    """`evaluation.execute` with one worker on each of `devices`. Raises what a worker raised, `ModelError` where one died."""
    groups = iter(by_clip(work))
    workers = [_start(run, device, len(devices)) for device in devices]
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
            worker.pipe.close()  # all end at the same time
        for worker in workers:
            worker.end(child_process.GRACE_S if not busy else 0)


def _start(run: Run, device: str, workers: int) -> Child:
    # Not a daemon: those may have no children, and each worker has a decoder.
    return child_process.start(_main, replace(run, model=replace(run.model, device=device)), workers, name=device, daemon=False)


def _message(worker: Child) -> Any:
    """What a worker sends: the facts of its model when it is ready, the rows of a question, None after a clip."""
    try:
        message = worker.pipe.recv()
    except (EOFError, OSError):
        reason = f"the worker on {worker.process.name} {worker.cause_of_death()}"
        raise ModelError(reason, "the same command goes on with what is left") from None
    if isinstance(message, OmnidropError):
        raise message
    return message


def _main(pipe: Connection, run: Run, workers: int) -> None:
    """Run a worker: clips in, rows out, until the pipe ends."""
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
