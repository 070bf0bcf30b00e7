"""A loaded model that answers clip after clip, and has the next clip decoded by the time it needs it.

Takes a clip with its questions and the clip that will follow; gives a row per question, also where the clip or the question failed. Clips
decode in a process of their own (`engine/decode_process.py`). torch is imported where the model loads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from omnidrop_cli.batch.rows import Task, Work, answered, failed
from omnidrop_cli.engine.background import Background
from omnidrop_cli.engine.decode_process import DecodeProcess, DecoderLost
from omnidrop_cli.engine.encoded_prompt import PromptSource
from omnidrop_cli.errors import ModelError, OmnidropError
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.media.open import open_clip
from omnidrop_cli.model.names import resolve

if TYPE_CHECKING:
    from typing_extensions import Self

    from omnidrop_cli.batch.answers_file import Row
    from omnidrop_cli.config import ModelConfig
    from omnidrop_cli.engine.encode import MediaFeatures
    from omnidrop_cli.engine.session import Session
    from omnidrop_cli.outputs import Clip


class DeviceLost(ModelError):
    """The device cannot be used by this process any more; a new process may be able to."""


@dataclass(slots=True, eq=False)
class Opened:
    """A decoded clip, or why there is none. `features` are what the encoders made of it, once a question went through them."""

    work: Work
    clip: Clip | None = None
    error: Exception | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    features: MediaFeatures | None = None


class Worker:
    """One model in one process. The model starts to load and the decoder to start at once. Not thread-safe; `close` when done."""

    def __init__(self, choice: ModelConfig, progress: ProgressCallback = SILENT) -> None:
        self._bounds = resolve(choice).frame_bounds
        self._decoder = DecodeProcess()
        self._decoder.start()
        self._loading = Background(lambda: _load(choice, progress))
        self._ahead: tuple[Work, Background[Opened]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the decoder and cancel the clip in it."""
        self._decoder.close()

    def open(self, work: Work, ahead: Work | None = None) -> Opened:
        """Wait for the model and the clip, then begin decoding the clip of `ahead`.

        Raises:
            ModelError: The model cannot be loaded.
            UsageError: The pruning method cannot be made.
            DecoderLost: The decoder cannot be started. No clip would fare better, in all three cases.
        """
        from omnidrop_cli.prune.methods import get_method

        if self._ahead is not None and self._ahead[0] == work:
            decoding = self._ahead[1]
        else:
            self._decoder.cancel()  # the announced clip went to another worker
            decoding = self._begin(work)
        self._loading.result()
        get_method(work.tasks[0].job.method)  # the same for every clip of a run
        opened = decoding.result()
        # Only now: two clips decoding at once would slow the one that is waited for, and three in memory are one too many.
        self._ahead = None if ahead is None else (ahead, self._begin(ahead))
        return opened

    def answer(self, opened: Opened, task: Task, progress: ProgressCallback = SILENT) -> Row:
        """The row of one question, also where it failed. Raises `DeviceLost` where no later question could be answered."""
        from torch import AcceleratorError

        try:
            return self._answer(opened, task, progress)
        except AcceleratorError as error:  # the CUDA context is gone: every later call in this process fails too
            raise DeviceLost(
                f"the GPU failed: {_first_line(error)}", "run the same command again; it goes on where this one stopped"
            ) from error
        except Exception as error:
            return failed(task, error)

    def rows(self, work: Work, ahead: Work | None = None) -> Iterator[Row]:
        """Every row of a clip, one by one."""
        opened = self.open(work, ahead)
        for task in work.tasks:
            yield self.answer(opened, task)

    def _answer(self, opened: Opened, task: Task, progress: ProgressCallback) -> Row:
        session = self._loading.result()
        if opened.clip is None:
            raise opened.error or OmnidropError(f"{task.job.media} was not decoded")
        seconds, opened.seconds = opened.seconds, {}  # the first question carries what fetching and decoding took
        encoded = session.encode(PromptSource(task.job, (opened.clip,), opened.features, seconds=seconds), progress)
        # The clip too: where memory did not suffice, it was decoded again with less detail.
        (opened.clip,), opened.features = encoded.clips, encoded.features
        return answered(task, session.answer(encoded, progress))

    def _begin(self, work: Work) -> Background[Opened]:
        return Background(lambda: self._decode(work))

    def _decode(self, work: Work) -> Opened:
        opened = Opened(work)
        try:
            job = work.tasks[0].job
            opened.clip, opened.seconds = self._decoder.run(job.media, open_clip, job, self._bounds, progress=SILENT)
        except DecoderLost:
            raise
        except Exception as error:  # one bad clip is a row; the run continues
            opened.error = error
        return opened


def _load(choice: ModelConfig, progress: ProgressCallback) -> Session:
    from omnidrop_cli.engine import pipeline

    return pipeline.load(choice, progress)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
