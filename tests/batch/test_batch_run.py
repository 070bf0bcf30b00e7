"""A batch on a tiny random thinker and real clips: shared encoders, error rows, resume, signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli.batch import worker as worker_module
from omnidrop_cli.batch.answers_file import AnswersFile, Row, read
from omnidrop_cli.batch.batch_run import BatchPlan, BatchProgress, Outcome, Runner
from omnidrop_cli.batch.inputs import gather
from omnidrop_cli.batch.interrupt import Interrupt
from omnidrop_cli.batch.keys import content_id, key, model_id
from omnidrop_cli.batch.worker import DeviceLost, Worker
from omnidrop_cli.config import GenerationConfig, ModelConfig, Request
from omnidrop_cli.engine import session as session_module
from omnidrop_cli.errors import EXIT_FAILED, ModelError
from omnidrop_cli.model.names import resolve
from omnidrop_cli.report.json import from_dict


class Setup:
    """One batch that can be run again and again."""

    def __init__(self, checkpoint: Path, folder: Path, output: Path) -> None:
        self.template = Request("", "", model=ModelConfig(str(checkpoint)), generation=GenerationConfig(max_new_tokens=3))
        self.folder, self.output = folder, output

    def run(
        self, *questions: str, progress: BatchProgress | None = None, limit: int | None = None, retry_failed: bool = False, **changes: Any
    ) -> Outcome:
        template = replace(self.template, **changes)
        groups = gather([str(self.folder)], questions or ("who?",), template)
        with AnswersFile(self.output) as answers, Interrupt() as stop:
            plan = BatchPlan(groups, resolve(template.model), answers.known, retry_failed=retry_failed)
            return Runner(plan, answers, progress or BatchProgress(), stop).run_here(lambda: Worker(template.model), limit)

    @property
    def rows(self) -> list[Row]:
        return [json.loads(line) for line in self.output.read_text().splitlines()]


@pytest.fixture
def batch(checkpoint: Path, folder: Path, tmp_path: Path) -> Setup:
    return Setup(checkpoint, folder, tmp_path / "answers.jsonl")


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever the encoders run."""
    runs: list[int] = []
    encoders = session_module.encode_media
    monkeypatch.setattr(session_module, "encode_media", lambda *a, **k: runs.append(1) or encoders(*a, **k))
    return runs


def test_questions_share_encoders_and_a_bad_clip_is_a_row(batch: Setup, encoded: list[int]) -> None:
    outcome = batch.run("who?", "what?")
    assert outcome == Outcome(total=6, answered=4, failed=2, earlier=0)
    assert len(encoded) == 2
    bad = [row for row in batch.rows if "error" in row]
    assert [row["error"]["type"] for row in bad] == ["MediaError"] * 2
    good = [row for row in batch.rows if "error" not in row]
    assert [from_dict(row).job.question for row in good] == ["who?", "what?"] * 2
    assert good[0]["timing_s"]["decode"] > 0
    assert good[1]["timing_s"]["decode"] == good[1]["timing_s"]["encode"] == 0


def test_answers_equal_those_of_ask(batch: Setup) -> None:
    from omnidrop_cli.engine.session import Session

    batch.run("who?", "what?")
    session = Session.load(batch.template.model)
    for row in read(batch.output):
        if "error" not in row:
            report = session.run(replace(batch.template, media=row["media"]["asked"], question=row["question"]))
            assert list(report.answer.token_ids) == row["answer_token_ids"]


def test_same_command_does_nothing_and_loads_nothing(batch: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    batch.run()
    before = batch.output.read_bytes()
    monkeypatch.setattr(worker_module, "_load", lambda *_: pytest.fail("the model was loaded"))
    assert batch.run() == Outcome(total=3, answered=0, failed=1, earlier=2, failed_before=1)
    assert batch.output.read_bytes() == before


def test_settings_questions_and_content_make_new_rows(batch: Setup) -> None:
    batch.run()
    assert batch.run("who?", "new?").answered == 2
    assert batch.run(generation=GenerationConfig(max_new_tokens=2)).answered == 2
    assert batch.run().answered == 0
    shutil.copy(batch.folder / "c.wav", batch.folder / "b.mp4")
    assert batch.run() == Outcome(total=3, answered=1, failed=0, earlier=2)


def test_moved_clips_stay_answered_and_copies_are_asked(batch: Setup, tmp_path: Path) -> None:
    batch.run()
    batch.folder = batch.folder.rename(tmp_path / "elsewhere")
    (batch.folder / "a.mp4").rename(batch.folder / "renamed.mp4")
    assert batch.run().answered == 0
    shutil.copy(batch.folder / "c.wav", batch.folder / "d.wav")
    assert batch.run().answered == 1
    assert batch.run().answered == 0
    assert {Path(row["media"]["asked"]).name for row in batch.rows} == {"a.mp4", "b.mp4", "c.wav", "d.wav"}


def test_rows_have_the_key_of_their_question_and_copies_a_number(batch: Setup) -> None:
    """Files of earlier versions are found by it."""
    for name in ("a.mp4", "b.mp4"):
        (batch.folder / name).unlink()
    for name in ("d.wav", "e.wav"):
        shutil.copy(batch.folder / "c.wav", batch.folder / name)
    batch.run()
    own = key(replace(batch.template, question="who?"), content_id(batch.folder / "c.wav"), model_id(resolve(batch.template.model)))
    assert [row["batch"]["key"] for row in batch.rows] == [own, f"{own}-2", f"{own}-3"]


def test_retry_asks_the_failed_alone(batch: Setup) -> None:
    batch.run()
    assert batch.run(retry_failed=True) == Outcome(total=3, answered=0, failed=1, earlier=2)
    assert len(batch.rows) == 4
    assert len([*read(batch.output)]) == 3


def test_limit_counts_open_questions(batch: Setup) -> None:
    assert batch.run("who?", "what?", limit=1) == Outcome(total=6, answered=1, failed=0, earlier=0)
    assert batch.run("who?", "what?", limit=2).failed == 1
    assert batch.run("who?", "what?").left == 0
    assert len({row["batch"]["key"] for row in batch.rows}) == len(batch.rows) == 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_keeps_the_row_in_work(number: signal.Signals, batch: Setup) -> None:
    class Impatient(BatchProgress):
        def stage(self, name: str, detail: str = "") -> None:
            if name == "prefill":
                os.kill(os.getpid(), number)

    outcome = batch.run("who?", "what?", progress=Impatient())
    assert (outcome.interrupted, outcome.answered, outcome.left) == (True, 1, 5)
    assert len(batch.rows) == 1
    assert batch.run("who?", "what?").left == 0
    assert len(batch.rows) == 6


def test_a_model_that_cannot_load_ends_the_run(batch: Setup, checkpoint: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    (broken / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError):
        batch.run(model=ModelConfig(str(broken)))
    assert not batch.rows


def test_a_lost_gpu_ends_the_run_without_a_row(batch: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def lost(*_: Any, **__: Any) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore")

    monkeypatch.setattr(session_module, "prefill", lost)
    with pytest.raises(DeviceLost, match="illegal memory access") as raised:
        batch.run()
    assert raised.value.exit_code == EXIT_FAILED
    assert not batch.rows


def test_an_odd_error_is_a_row_too(batch: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = session_module.prefill, []

    def first_fails(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("odd")
        return real(*args, **options)

    monkeypatch.setattr(session_module, "prefill", first_fails)
    outcome = batch.run("who?", "what?")
    assert (outcome.answered, outcome.failed) == (3, 3)
    assert batch.rows[0]["error"] == {"type": "RuntimeError", "message": "odd", "hint": None}
