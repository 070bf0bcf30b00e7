"""What travels between the planner, the workers and the answers file: clips with their questions, and rows.

A row is the report's own JSON and a "batch" part that says which question it answers. Everything here can be pickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from omnidrop_cli.report.json import error_to_dict, to_dict

if TYPE_CHECKING:
    from omnidrop_cli.batch.answers_file import Row
    from omnidrop_cli.batch.keys import Stamp
    from omnidrop_cli.config import Request
    from omnidrop_cli.outputs import Report


@dataclass(frozen=True, slots=True)
class Task:
    """One question about one clip, with the key its row is found by."""

    job: Request
    stamp: Stamp
    key: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """The open questions about one stretch of one clip, at least one."""

    tasks: tuple[Task, ...]

    @property
    def media(self) -> str:
        return self.tasks[0].job.media


def answered(task: Task, report: Report) -> Row:
    """The row of an answer: the object that `ask --json` prints, and the batch part."""
    return {**to_dict(report), "batch": _batch(task)}


def failed(task: Task, error: BaseException) -> Row:
    """The row of a failure, whatever failed."""
    return {**error_to_dict(task.job.all_media, task.job.question, error), "batch": _batch(task)}


def _batch(task: Task) -> dict[str, str | int | None]:
    stamp = task.stamp
    return {
        "key": task.key,
        "id": task.id,
        "path": stamp.path,
        "size": stamp.size,
        "mtime_ns": stamp.mtime_ns,
        "content": stamp.content,
    }
