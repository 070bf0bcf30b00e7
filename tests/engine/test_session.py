"""A session on a tiny random thinker and real clips: the whole pipeline behind the loaded model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from omnidrop_cli.config import GenerationConfig, MediaConfig, PruningConfig, Request
from omnidrop_cli.engine.encoded_prompt import PromptSource
from omnidrop_cli.engine.metrics import encoder_flops
from omnidrop_cli.engine.prefill import prefill
from omnidrop_cli.engine.session import Session
from omnidrop_cli.errors import OmnidropError, PromptError, UsageError
from omnidrop_cli.events import ProgressCallback
from omnidrop_cli.model.random_weights import tiny_sizes, tiny_thinker
from omnidrop_cli.outputs import Modality
from omnidrop_cli.prune.methods import names

Clips = Mapping[str, Path]


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(tiny_thinker(6))


def job_of(path: Path, method: str = "omnidrop", keep: float | None = 0.3, **media: object) -> Request:
    return Request(
        str(path),
        "what is said?",
        method=PruningConfig(method, keep, options={"selector": "untrained"} if method == "omnisift" else {}),
        media_options=MediaConfig(**media),  # type: ignore[arg-type]
        generation=GenerationConfig(max_new_tokens=6),
    )


def test_report_of_one_question(session: Session, clips: Clips) -> None:
    report = session.run(job_of(clips["speech_video"]))
    assert report.prompt.video > 0
    assert report.prompt.audio > 0
    assert report.trace.prompt == report.prompt
    assert report.trace.retention_after == pytest.approx(0.3, abs=1 / report.prompt.media)
    assert report.flops.pruned < report.flops.full
    prompt = session.encode(PromptSource(job_of(clips["speech_video"]))).prompt
    assert prompt.media[0].mel is not None
    assert report.flops.encoders == encoder_flops(tiny_sizes(6), grid_thw=prompt.media[0].grid_thw, mel_frames=prompt.media[0].mel.shape[1])
    assert report.flops.ratio < report.flops.ratio_with_encoders < 1
    assert report.memory.kv_mb < report.memory.kv_full_mb
    assert report.timings.total_s == pytest.approx(
        sum(getattr(report.timings, f"{stage}_s") for stage in ("fetch", "decode", "build", "encode", "prefill", "generate"))
    )
    assert report.timings.first_token_s < report.timings.total_s
    assert len(report.answer.token_ids) <= 6


def test_the_clip_comes_before_the_question_unless_asked(session: Session, clips: Clips) -> None:
    job = job_of(clips["wav"])
    first, last = session.encode(PromptSource(job)).prompt, session.encode(PromptSource(job, media_first=False)).prompt
    for prompt, before in ((first, True), (last, False)):
        media = (prompt.token_map.modality != Modality.TEXT).nonzero()[0]
        assert (media[-1] < prompt.token_map.is_query.nonzero()[0][0]) == before


def test_keep_one_is_none_bit_for_bit(session: Session, clips: Clips) -> None:
    read = session.encode(PromptSource(job_of(clips["speech_video"], keep=1.0), needs=frozenset({"audio_attention"})))
    both = [read, session.with_method(read, PruningConfig("none"))]
    runs = []
    for one in both:
        from omnidrop_cli.engine.encode import embed

        embeds = embed(session.thinker, one.prompt, one.features)
        runs.append(prefill(session.thinker, one.prompt, embeds, one.features, one.method))
    assert torch.equal(runs[0].logits, runs[1].logits)
    assert runs[0].cache.lengths == runs[1].cache.lengths
    for one, other in zip(runs[0].cache.layers, runs[1].cache.layers, strict=True):
        assert torch.equal(one.keys, other.keys)
        assert torch.equal(one.values, other.values)
    assert session.answer(both[0]).answer == session.answer(both[1]).answer


@pytest.mark.parametrize("method", sorted(set(names()) - {"none"}))
@pytest.mark.parametrize("media", [{}, {"use_audio": False}, {"use_video": False}])
def test_every_method_answers_with_any_tracks(session: Session, clips: Clips, method: str, media: dict[str, object]) -> None:
    needs = frozenset({"audio_attention", "video_attention"})
    read = session.encode(PromptSource(job_of(clips["speech_video"], method, keep=0.4, **media), needs=needs))
    report = session.answer(read)
    assert (report.prompt.audio > 0) == media.get("use_audio", True)
    assert (report.prompt.video > 0) == media.get("use_video", True)
    assert report.trace.leaving[-1].media >= 1
    assert report.trace.leaving[-1].text == report.prompt.text
    assert all(a.total == b for a, b in zip(report.trace.entering, report.trace.kv_lengths, strict=True))


def test_compare_runs_the_encoders_once(session: Session, clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    session = Session(session.thinker)  # one that has seen no clip
    stock = type(session.thinker.adapter.vision_encoder).forward
    monkeypatch.setattr(type(session.thinker.adapter.vision_encoder), "forward", lambda *a, **k: runs.append(1) or stock(*a, **k))
    comparison = session.run_comparison(job_of(clips["speech_video"]))
    assert len(runs) == 1
    assert comparison.full.method == "none"
    assert comparison.full.trace.retention_after == 1.0
    assert comparison.pruned.method == "omnidrop"
    assert 0 <= comparison.agreement <= 1
    assert comparison.first_token_kl >= 0
    assert session.run_comparison(job_of(clips["speech_video"], keep=1.0)).first_token_kl == 0


def test_streamed_text_is_the_answer(session: Session, clips: Clips) -> None:
    class Listener(ProgressCallback):
        def __init__(self) -> None:
            self.pieces: list[str] = []
            self.stages: list[str] = []

        def text(self, piece: str) -> None:
            self.pieces.append(piece)

        def stage(self, name: str, detail: str = "") -> None:
            self.stages.append(name)

    listener = Listener()
    report = session.run(job_of(clips["speech_video"]), listener)
    assert "".join(listener.pieces) == report.answer.text
    assert listener.stages == ["fetch", "decode", "build", "encode", "prefill", "generate"]


def test_sampling_is_seeded_and_greedy_is_the_default(session: Session, clips: Clips) -> None:
    job = job_of(clips["speech_video"], "none", None)

    def tokens(**options: float) -> tuple[int, ...]:
        from dataclasses import replace

        return session.run(replace(job, generation=GenerationConfig(max_new_tokens=12, **options))).answer.token_ids  # type: ignore[arg-type]

    assert tokens() == tokens()
    hot = tokens(temperature=3.0, seed=1)
    assert hot == tokens(temperature=3.0, seed=1)
    assert hot != tokens(temperature=3.0, seed=2)
    assert tokens(temperature=3.0, top_p=1e-6, seed=2) == tokens(), "the smallest nucleus is the likeliest token"


def test_mistakes(session: Session, clips: Clips) -> None:
    with pytest.raises(UsageError, match="unknown method"):
        session.run(job_of(clips["speech_video"], "omnidorp"))
    from dataclasses import replace

    with pytest.raises(PromptError):
        session.run(replace(job_of(clips["speech_video"]), question="  "))


def test_a_fork_of_the_process_is_refused_not_hung(session: Session, clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's threads are not in a fork: what waits for them waits for ever."""
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    with pytest.raises(OmnidropError, match="before this process was forked"):
        session.ask(clips["tiny"], "what?")
