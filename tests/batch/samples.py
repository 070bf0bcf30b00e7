"""Rows and works for the tests of this package. Imports little: the kill tests start many processes with it."""

from __future__ import annotations

from typing import Any

from omnidrop_cli.batch.keys import Stamp
from omnidrop_cli.batch.rows import Task, Work
from omnidrop_cli.config import Request


def row(number: int, **fields: Any) -> dict[str, Any]:
    batch = {"key": f"k{number}", "id": None, "path": f"{number}.mp4", "size": number, "mtime_ns": 1, "content": f"c{number}"}
    return {"schema": 1, "batch": batch, "media": {"asked": f"{number}.mp4"}, "question": "who?", "answer": "ü\u2028\n", **fields}


def work(number: int, questions: int = 1) -> Work:
    of_clip = Stamp(f"{number}.mp4", number, 1, f"c{number}")
    return Work(tuple(Task(Request(of_clip.path, f"{q}?"), of_clip, f"k{number}-{q}") for q in range(questions)))
