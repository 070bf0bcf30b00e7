"""Whole answers by a graph: real methods' ragged caches, the built-in model, a conversation, and what the report says of a failure.

A tape stands in for the CUDA graph (`test_graph.py` says what it can and cannot show).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from omnidrop_cli.config import GenerationConfig, ModelConfig, PruningConfig, Request
from omnidrop_cli.engine import cuda_graph
from omnidrop_cli.engine.chat import Conversation
from omnidrop_cli.engine.cuda_graph import CudaGraphRunner
from omnidrop_cli.engine.encoded_prompt import PromptSource
from omnidrop_cli.engine.session import Session
from omnidrop_cli.events import ProgressCallback
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.outputs import Report
from tests.engine.tape import capture_on_tape

Clips = Mapping[str, Path]


@pytest.fixture(autouse=True)
def _early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "WARMUP_TOKENS", 2)
    monkeypatch.setattr(cuda_graph, "MIN_TOKENS", 3)


@pytest.fixture
def replays() -> list[int]:
    return []


@pytest.fixture
def capture(replays: list[int]) -> cuda_graph.Capture:
    def counting(step: Callable[[], None]) -> Callable[[], None]:
        replay = capture_on_tape(step)
        return lambda: (replays.append(1), replay())[1]

    return counting


@pytest.mark.parametrize("choice", [PruningConfig("none"), PruningConfig("omnidrop", 0.3)])
def test_the_built_in_model(choice: PruningConfig, capture: cuda_graph.Capture, replays: list[int]) -> None:
    session = Session.load(ModelConfig("nano"))
    session.thinker = replace(session.thinker, eos_ids=())  # its answers are a few words; what follows them is as good here
    job = Request("demo", "What is said?", method=choice, generation=GenerationConfig(max_new_tokens=20))
    expected = session.run(job)
    session.runner = CudaGraphRunner(capture)
    assert session.run(job).answer == expected.answer
    assert len(replays) == 17


def test_every_turn_of_a_conversation(clips: Clips, capture: cuda_graph.Capture, replays: list[int]) -> None:
    thinker = replace(tiny_thinker(5), eos_ids=())
    template = Request(
        str(clips["speech_video"]), "?", method=PruningConfig("omnidrop", 0.3), generation=GenerationConfig(max_new_tokens=12)
    )

    def talk(session: Session) -> list[Report]:
        clips = session.encode(PromptSource(replace(template, question="what?"))).clips
        conversation = Conversation(session, template, clips)
        reports = [conversation.ask("what is said?"), conversation.ask("and then?")]
        compared = conversation.compare()
        return [*reports, compared.full, compared.pruned]

    plain = talk(Session(thinker))
    assert not replays
    graphed = talk(Session(thinker, runner=CudaGraphRunner(capture)))
    assert len(replays) == 9 + 3 * 8, "only a session's first captured step is run again, to be held against an eager one"
    for mine, theirs in zip(graphed, plain, strict=True):
        assert mine.answer == theirs.answer
        assert mine.trace.kv_lengths == theirs.trace.kv_lengths


def test_a_failure_is_one_line_for_the_callback_and_in_the_report(clips: Clips) -> None:
    class Listener(ProgressCallback):
        def __init__(self) -> None:
            self.warnings: list[str] = []

        def warn(self, message: str) -> None:
            self.warnings.append(message)

    def no_capture(step: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("this kernel cannot be captured")

    session = Session(replace(tiny_thinker(4), eos_ids=()), runner=CudaGraphRunner(no_capture))
    job = Request(str(clips["speech_video"]), "what?", generation=GenerationConfig(max_new_tokens=9))
    listener = Listener()
    first, second = session.run(job, listener), session.run(job, listener)
    said = [line for line in listener.warnings if "graph" in line]
    assert len(said) == 1
    assert "this kernel cannot be captured" in said[0]
    assert [said[0] in report.warnings for report in (first, second)] == [True, False]
    assert first.answer == second.answer
