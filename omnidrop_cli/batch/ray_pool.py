"""Workers on a Ray cluster: an actor per GPU, or per CPU slot where the cluster has no GPU.

Input and output are those of `pool.py`. Every node needs this package and sees the clips under the same paths; the answers file stays
with the process that started the run.
"""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from omnidrop_cli.batch.scheduler import Answered, Event, Finished, Lost
from omnidrop_cli.batch.worker import DeviceLost, Worker
from omnidrop_cli.errors import OmnidropError, UsageError

if TYPE_CHECKING:
    from omnidrop_cli.batch.answers_file import Row
    from omnidrop_cli.batch.rows import Work
    from omnidrop_cli.config import ModelConfig


class Cluster:
    """A pool of Ray actors; leave the `with` block to end them."""

    def __init__(self, choice: ModelConfig, address: str, size: int | None = None) -> None:
        """Join the cluster at `address` ("auto": the one this machine is part of; "local": a new one on this machine).

        `size` is the number of workers, by default one per GPU. Raises `UsageError` without Ray or without a cluster.
        """
        self._ray = _import_ray()
        try:
            if address == "local":
                self._ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
            else:
                self._ray.init(address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise UsageError(
                f"no Ray cluster at {address!r}: {reason}", "start one with `ray start --head`, or use `cluster=local`"
            ) from error
        resources = self._ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        self.size = size or gpus or 1
        wanted = {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": 1}
        # The scheduler replaces a worker that ends, with its clip, so Ray must not restart it.
        self._actor = self._ray.remote(**wanted, max_restarts=0, max_task_retries=0)(_Actor)
        # Ray shows an actor its own GPU only, as device 0.
        self._choice = replace(choice, device="cuda" if gpus else "cpu")
        self._actors: dict[int, Any] = {}
        self._answers: dict[Any, int] = {}

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._ray.shutdown()

    def start(self, worker: int) -> None:
        self._actors[worker] = self._actor.remote(self._choice)

    def submit(self, worker: int, work: Work, ahead: Work | None) -> None:
        self._answers[self._actors[worker].rows.remote(work, ahead)] = worker

    def events(self) -> list[Event]:
        ready, _ = self._ray.wait([*self._answers], num_returns=1, timeout=1.0)
        return [event for answer in ready for event in self._events_of(answer)]

    def _events_of(self, answer: Any) -> list[Event]:
        worker = self._answers.pop(answer)
        try:
            outcome = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            self._actors.pop(worker)
            return [Lost(worker, f"{type(error).__name__}: {_reason(error)}")]
        if isinstance(outcome, DeviceLost):
            self._ray.kill(self._actors.pop(worker))
            return [Lost(worker, outcome.message)]
        if isinstance(outcome, OmnidropError):
            return [Lost(worker, outcome.message, outcome)]
        return [*(Answered(worker, row) for row in outcome), Finished(worker)]


class _Actor:
    """One model on one slot of the cluster."""

    def __init__(self, choice: ModelConfig) -> None:
        self._choice = choice
        self._worker: Worker | None = None

    def rows(self, work: Work, ahead: Work | None) -> list[Row] | OmnidropError:
        """The rows of a clip; an error where the model cannot load: it would not elsewhere either, so it travels as a value."""
        try:
            self._worker = self._worker or Worker(self._choice)
            return [*self._worker.rows(work, ahead)]
        except OmnidropError as error:
            return error


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UsageError("`cluster` needs Ray, which is not installed", 'pip install "ray>=2.40"') from error
    return ray
