"""`bench prefill`: exact ratios, the papers' counts, every backend of decoding, both encoders."""

from __future__ import annotations

import pytest
import torch

from omnidrop_cli.bench import decoding
from omnidrop_cli.bench.decoding import FEWEST
from omnidrop_cli.bench.run import BenchPlan, bench_synthetic
from omnidrop_cli.bench.synthetic import noise_features, papers_prompt, with_noise_media
from omnidrop_cli.config import PruningConfig
from omnidrop_cli.engine.session import Session
from omnidrop_cli.model.random_weights import tiny_thinker
from tests.bench.bodies import body_of, drawn


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(tiny_thinker(6))


def test_synthetic_prompt_has_the_papers_counts(session: Session) -> None:
    prompt = papers_prompt(session.thinker, 12)
    counts = prompt.token_map.counts()
    assert (counts.audio, counts.video) == (6 * 50, 6 * 288)
    assert counts.text == 120 + 4, "two opening and two closing markers"
    assert int(prompt.token_map.is_query.sum()) == 72
    assert prompt.token_map.chunk.max() == 5
    media = with_noise_media(session.thinker, prompt)
    (clip,) = media.media
    assert clip.frames is not None
    assert clip.frames.shape == (24, 3, 252, 448)
    assert clip.mel is not None
    assert clip.mel.shape[1] == 1200


def test_a_bench_is_relative_to_no_pruning(session: Session) -> None:
    report = bench_synthetic(
        session, 4, BenchPlan([PruningConfig("omnidrop", 0.3), PruningConfig("omnidrop", 0.2)], repeats=1, encoder_s=2.0)
    )
    body = body_of(report)
    prefill, vision, audio = body["groups"]
    full, pruned, harder = prefill["runs"]
    assert [run["name"] for run in prefill["runs"]] == ["none", "omnidrop@0.3", "omnidrop@0.2"]
    assert (full["facts"]["flops_ratio"], full["facts"]["retention_after"]) == (1.0, 1.0)
    assert harder["facts"]["flops_ratio"] < pruned["facts"]["flops_ratio"] < 0.4
    assert pruned["facts"]["retention_after"] == pytest.approx(0.3, abs=1e-3)
    assert full["facts"]["kv_mb"] > pruned["facts"]["kv_mb"] > 0
    assert full["facts"]["over_floor"] == pytest.approx(
        full["seconds"] * body["facts"]["matmul_tflop_per_s"] * 1e12 / full["facts"]["flops"]
    )
    assert (vision["subject"], audio["subject"]) == ("vision encoder, 288 tokens", "audio encoder, 50 tokens")
    assert body["facts"]["tokens"] == 2 * 338 + 124


def test_columns_go_before_cells_are_cut(session: Session) -> None:
    report = bench_synthetic(session, 2, BenchPlan([PruningConfig("omnidrop", 0.3)], repeats=1))
    for width in (160, 80, 60):
        text = drawn(report, width)
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text
        assert all(word in text for word in ("omnidrop@0.3", "time", "speed", "kept")), width
    assert "peak" in drawn(report, 160)
    assert "cold " in drawn(report, 80)


def test_decoding_is_measured_with_every_backend(session: Session) -> None:
    plan = BenchPlan([PruningConfig("none"), PruningConfig("omnidrop", 0.3)], repeats=1, decode=1)
    body = body_of(bench_synthetic(session, 2, plan))
    group = body["groups"][1]
    names = [f"{method}, {backend}" for method in ("none", "omnidrop@0.3") for backend in ("eager", "static")]
    assert [run["name"] for run in group["runs"]] == ["none, stock", *names]
    assert group["subject"] == f"decoding, {FEWEST} tokens"
    for run in group["runs"]:
        assert run["problem"] is None
        assert 0 < run["seconds"] < run["facts"]["answer_s"]


def test_a_backend_that_fails_says_why(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(decoding, "_stock", full)
    thinker = session.thinker
    prompt = papers_prompt(thinker, 2)
    group = decoding.measure_decoding(thinker, prompt, noise_features(thinker, prompt), [PruningConfig("none")], tokens=1, repeats=1)
    stock, eager, _ = group.runs
    assert (stock.problem, stock.seconds) == ("out of memory", None)
    assert eager.seconds
    assert eager.speed is None
