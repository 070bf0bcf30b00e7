"""The program with a pipeline that answers from the command line's own words, for tests of what surrounds it.

`python -m tests.commands.fake_pipeline PLAN ask clip.mp4 question ...`: PLAN is JSON with `pieces` (the answer), `pause_s` between them,
`stuck` (a stage to stay in: "python" sleeps in Python, "c" in a C call that holds no lock and hears no signal), `fail` (an exception).
"""

from __future__ import annotations

import ctypes
import json
import sys
import threading
import time
from dataclasses import replace
from typing import Any, Literal

from omnidrop_cli.config import Request
from omnidrop_cli.errors import MediaError
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.outputs import Answer, Choice, Comparison, Report
from tests.report import samples

FAILURES: dict[str, BaseException] = {
    "media": MediaError("x.mp4: no such file", "check the path"),
    "bug": TypeError("boom"),
    "memory": MemoryError(),
    "disk": OSError(28, "No space left on device", "/full/disk"),
}


class FakePipeline:
    """Stands in for `engine.pipeline.run` and `run_comparison`; `jobs` are what was asked of it."""

    def __init__(self, pieces: list[str], pause_s: float = 0.0, stuck: str | None = None, fail: str | None = None) -> None:
        self.pieces, self.pause_s, self.stuck, self.fail = pieces, pause_s, stuck, fail
        self.reason: Literal["eos", "length"] = "eos"
        self.choices: tuple[Choice, ...] = ()
        self.jobs: list[Request] = []

    def run(self, job: Request, progress: ProgressCallback = SILENT) -> Report:
        self.jobs.append(job)
        for stage in ("fetch", "decode", "load", "build", "encode", "prefill"):
            progress.stage(stage, job.media if stage == "fetch" else "")
            progress.advance(1, 2)
        progress.warn("the clip has [bold]no[/] sound\x1b[31m")
        if self.stuck:
            self._stay()
        if self.fail:
            raise FAILURES[self.fail]
        progress.stage("generate")
        for piece in self.pieces:
            progress.text(piece)
            time.sleep(self.pause_s)
        clips = tuple(samples.clip(name) for name in job.all_media)
        return replace(samples.report(job=job, clips=clips), answer=Answer("".join(self.pieces), (1, 2), self.reason, self.choices))

    def run_comparison(self, job: Request, progress: ProgressCallback = SILENT, rounds: int = 1) -> Comparison:
        return replace(samples.comparison(), pruned=self.run(job, progress))

    def _stay(self) -> None:
        sys.stderr.write("stuck\n")
        sys.stderr.flush()
        if self.stuck == "c":
            pause = ctypes.CDLL(None).usleep  # begins again after a signal is impossible to see: Python gets no turn for 5 s
            until = time.monotonic() + 5
            while time.monotonic() < until:
                pause(5_000_000)
        elif self.stuck == "swallow":
            self._swallow()
        elif self.stuck == "thread":
            threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
            time.sleep(30)
        else:
            time.sleep(30)

    def _swallow(self) -> None:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            try:
                time.sleep(10)
            except KeyboardInterrupt:
                continue


def install(pipeline: FakePipeline) -> None:
    """Put the pipeline in place of the real one."""
    from omnidrop_cli.engine import pipeline as real

    setattr(real, "run", pipeline.run)  # noqa: B010  # a plain assignment is refused by the type checker
    setattr(real, "run_comparison", pipeline.run_comparison)  # noqa: B010


def main() -> None:
    from omnidrop_cli.cli import main as program

    plan: dict[str, Any] = json.loads(sys.argv.pop(1))
    install(FakePipeline(**plan))
    program()


if __name__ == "__main__":
    main()
