"""What a bench reports: exact ratios, the papers' counts, arms that do the same work when they replay."""

from __future__ import annotations

import io
import json

import pytest
import torch
from rich.console import Console

from omnidrop_cli.bench import decoding as bench_decode
from omnidrop_cli.bench.decoding import FEWEST
from omnidrop_cli.bench.replay import Replay
from omnidrop_cli.bench.run import BenchPlan, bench_synthetic
from omnidrop_cli.bench.synthetic import noise_features, papers_prompt
from omnidrop_cli.bench.table import render
from omnidrop_cli.config import PruningConfig
from omnidrop_cli.engine.encode import embed
from omnidrop_cli.engine.prefill import prefill
from omnidrop_cli.engine.session import Session
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.prune.methods import create


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


@pytest.mark.parametrize("choice", [PruningConfig("omnidrop", 0.3), PruningConfig("random", 0.2), PruningConfig("random-input", 0.3)])
def test_a_replay_keeps_the_same_tokens(session: Session, choice: PruningConfig) -> None:
    thinker = session.thinker
    prompt = papers_prompt(thinker, 4)
    features = noise_features(thinker, prompt)
    first = prefill(thinker, prompt, embed(thinker, prompt, features), features, create(choice))
    again = prefill(thinker, prompt, embed(thinker, prompt, features), features, Replay(first.trace, thinker.device))
    assert all((a == b).all() for a, b in zip(first.trace.kept, again.trace.kept, strict=True))
    assert torch.equal(first.logits, again.logits)


def test_a_bench_is_json_with_an_unpruned_arm(session: Session) -> None:
    result = bench_synthetic(session, 4, BenchPlan([PruningConfig("omnidrop", 0.3)], repeats=1, tower_s=2.0))
    body = json.loads(json.dumps(result.to_dict()))
    full, pruned = body["arms"]
    assert (full["method"], full["flops_ratio"], full["speedup"]) == ("none", 1.0, 1.0)
    assert pruned["flops_ratio"] < 0.4
    assert pruned["retention_after"] == pytest.approx(0.3, abs=1e-3)
    assert {tower["tower"] for tower in body["towers"]} == {"video", "audio"}
    assert all(tower["products_s"] > 0 for tower in body["towers"])


def test_decoding_is_measured_on_every_road(session: Session) -> None:
    result = bench_synthetic(session, 2, BenchPlan([PruningConfig("none"), PruningConfig("omnidrop", 0.3)], repeats=1, decode=1))
    roads = json.loads(json.dumps(result.to_dict()))["decoding"]
    assert [(road["method"], road["road"]) for road in roads] == [
        ("none", "stock"),
        *((method, road) for method in ("none", "omnidrop") for road in ("eager", "static")),
    ]
    assert roads[0]["token_speedup"] == 1
    for road in roads:
        assert road["note"] is None
        assert road["tokens"] == FEWEST
        assert 0 < road["token_s"] < road["answer_s"]
        assert road["token_s"] * road["token_speedup"] == pytest.approx(roads[0]["token_s"])
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render(result))
    assert "static" in console.export_text()


def test_a_road_that_fails_says_why(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(bench_decode, "_stock", full)
    thinker = session.thinker
    prompt = papers_prompt(thinker, 2)
    stock, eager, _ = bench_decode.measure_decoding(
        thinker, prompt, noise_features(thinker, prompt), [PruningConfig("none")], tokens=1, repeats=1
    )
    assert (stock.note, stock.token_s) == ("out of memory", None)
    assert eager.token_s
    assert eager.token_speedup is None
