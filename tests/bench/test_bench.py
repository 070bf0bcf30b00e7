"""What a bench reports: exact ratios, the papers' counts, arms that do the same work when they replay."""

from __future__ import annotations

import json

import pytest
import torch

from omnidrop_cli.bench.replay import Replay
from omnidrop_cli.bench.run import bench_synthetic
from omnidrop_cli.bench.synthetic import noise_features, papers_prompt
from omnidrop_cli.engine.encode import embed
from omnidrop_cli.engine.prefill import prefill
from omnidrop_cli.engine.session import Session
from omnidrop_cli.model.random import tiny_thinker
from omnidrop_cli.prune.methods import create
from omnidrop_cli.records import MethodChoice


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


@pytest.mark.parametrize("choice", [MethodChoice("omnidrop", 0.3), MethodChoice("random", 0.2), MethodChoice("random-input", 0.3)])
def test_a_replay_keeps_the_same_tokens(session: Session, choice: MethodChoice) -> None:
    thinker = session.thinker
    prompt = papers_prompt(thinker, 4)
    features = noise_features(thinker, prompt)
    first = prefill(thinker, prompt, embed(thinker, prompt, features), features, create(choice))
    again = prefill(thinker, prompt, embed(thinker, prompt, features), features, Replay(first.trace, thinker.device))
    assert all((a == b).all() for a, b in zip(first.trace.kept, again.trace.kept, strict=True))
    assert torch.equal(first.logits, again.logits)


def test_a_bench_is_json_with_an_unpruned_arm(session: Session) -> None:
    result = bench_synthetic(session, 4, [MethodChoice("omnidrop", 0.3)], repeats=1, tower_s=2.0)
    body = json.loads(json.dumps(result.to_dict()))
    full, pruned = body["arms"]
    assert (full["method"], full["flops_ratio"], full["speedup"]) == ("none", 1.0, 1.0)
    assert pruned["flops_ratio"] < 0.4
    assert pruned["retention_after"] == pytest.approx(0.3, abs=1e-3)
    assert {tower["tower"] for tower in body["towers"]} == {"video", "audio"}
    assert all(tower["products_s"] > 0 for tower in body["towers"])
