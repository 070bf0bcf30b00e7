"""Attention of a prefill, summed per modality and chunk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from omnidrop_cli.config import ModelConfig, PruningConfig, Request
from omnidrop_cli.engine.session import Session
from omnidrop_cli.media.source import BUNDLED
from omnidrop_cli.outputs import Modality, Report
from omnidrop_cli.prune.attention_trace import summarise
from tests.report.samples import nested_trace, token_map

DEMO = Path(BUNDLED) / "demo.mp4"


@pytest.fixture(scope="module")
def session() -> Session:
    return Session.load(ModelConfig("nano", feature_cache=False))


def asked(session: Session, method: str) -> Report:
    return session.run(Request(str(DEMO), "What is said?", model=ModelConfig("nano"), method=PruningConfig(method)))


def test_every_token_counts_in_its_own_chunk_and_modality() -> None:
    tokens = token_map(grids=4, rows=2, columns=2, audio=100)
    trace = nested_trace(tokens, [1.0, 0.5, 0.5])
    media = trace.kept[1][tokens.modality[trace.kept[1]] != Modality.TEXT]
    received = torch.rand(len(media), generator=torch.Generator().manual_seed(1))
    found = summarise({1: ("last", received)}, trace.kept, tokens)
    assert found is not None
    expected = np.zeros((2, 2))
    for token, value in zip(media, received.tolist(), strict=True):
        expected[int(tokens.modality[token] == Modality.VIDEO), tokens.chunk[token]] += value
    np.testing.assert_allclose(found.mass[0], expected, rtol=1e-5)
    assert (found.layers, found.queries, found.peak) == ((1,), ("last",), (int(media[received.argmax()]),))


def test_a_method_that_reads_attention_leaves_it_in_the_trace(session: Session) -> None:
    trace = asked(session, "omnidrop").trace
    assert trace.attention is not None
    dropping = [layer for layer in range(trace.num_layers) if trace.leaving[layer].media < trace.entering[layer].media]
    assert list(trace.attention.layers) == dropping
    assert set(trace.attention.queries) == {"query"}
    share = trace.attention.mass.sum(axis=(1, 2))
    assert ((share > 0) & (share < 1)).all()  # text has the rest
    for layer, peak in zip(trace.attention.layers, trace.attention.peak, strict=True):
        assert peak in trace.kept[layer]


def test_one_that_does_not_leaves_none(session: Session) -> None:
    assert asked(session, "none").trace.attention is None
    assert asked(session, "random").trace.attention is None
