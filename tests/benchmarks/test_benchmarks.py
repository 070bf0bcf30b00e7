"""The developers' measurements on tiny clips and models: they did the same work, and their reports have the benches' shape. No times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from omnidrop_cli.bench.measurement import BenchReport
from omnidrop_cli.bench.media import bench_media
from omnidrop_cli.bench.prefilling import label
from omnidrop_cli.bench.synthetic import noise_features, papers_prompt
from omnidrop_cli.config import MediaConfig, ModelConfig, PruningConfig
from omnidrop_cli.engine.encode import embed
from omnidrop_cli.engine.metrics import Stopwatch
from omnidrop_cli.engine.prefill import prefill
from omnidrop_cli.engine.session import Session
from omnidrop_cli.media.clip import decode_media
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.prune.methods import get_method
from tests.bench.bodies import body_of
from tests.benchmarks import budgets, memory_by_length
from tests.benchmarks.decoders import DECODERS
from tests.benchmarks.encoders import bench_encoders
from tests.benchmarks.feature_reuse import bench_reuse
from tests.benchmarks.loading import bench_load
from tests.benchmarks.memory_by_length import bench_memory, lengths_of
from tests.benchmarks.method_overhead import Clock, Clocked, bench_overhead
from tests.benchmarks.replay import Replay
from tests.clips import Clips
from tests.model.checkpoints import write_plain


@pytest.fixture(scope="module")
def decoded(clips: Clips) -> BenchReport:
    chosen = {name: DECODERS[name] for name in ("omnidrop", "pyav", "ffmpeg")}
    return bench_media([clips["speech_video"]], MediaConfig(), chosen, repeats=1)


def test_decoders_did_the_same_work(decoded: BenchReport) -> None:
    (group,) = body_of(decoded)["groups"]
    ours, plain, ffmpeg = (run["facts"] for run in group["runs"])
    assert ours["digest"] == plain["digest"]
    assert (ffmpeg["frames"], ffmpeg["size"]) == (ours["frames"], ours["size"])
    assert ours["audio_seconds"] == pytest.approx(plain["audio_seconds"], abs=0.1)
    assert ours["audio_seconds"] == pytest.approx(ffmpeg["audio_seconds"], abs=0.1)


@pytest.mark.parametrize("name", ["vfr", "rotated", "webm"])
def test_a_plain_decode_gives_our_frames(name: str, clips: Clips) -> None:
    works = [DECODERS[decoder](clips[name], MediaConfig(use_audio=False, max_frames=8))()() for decoder in ("omnidrop", "pyav")]
    assert works[0] == works[1]


def test_a_tool_that_is_not_there_is_named(clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    chosen = {name: DECODERS[name] for name in ("omnidrop", "ffmpeg")}
    report = bench_media([clips["silent_video"]], MediaConfig(use_audio=False), chosen, repeats=1)
    ours, absent = body_of(report)["groups"][0]["runs"]
    assert (ours["samples"], ours["problem"]) == (1, None)
    assert "no ffmpeg" in absent["problem"]


def test_reuse_counts_what_is_encoded(clips: Clips) -> None:
    session = Session(tiny_thinker())
    still, moving = (decode_media(clips[name], MediaConfig(max_pixels=112 * 112)) for name in ("one_image_gif", "silent_video"))
    body = body_of(bench_reuse(session, [still, moving], (0.0, 255.0), blocks=1, repeats=1))
    assert len(session.thinker.adapter.vision_encoder.blocks) == 2, "the encoder is whole again"
    of_moving = {run["name"]: run["facts"] for run in body["groups"][1]["runs"]}
    assert [facts["pairs"] for facts in of_moving.values()] == [4, 4, 1, 0, 0]
    cosines = [facts["least_cosine"] for facts in of_moving.values()]
    assert cosines[2] < min(cosines[0], cosines[1], *cosines[3:]) == pytest.approx(1.0, abs=1e-4)
    assert [run["facts"]["pairs"] for run in body["groups"][0]["runs"]] == [1, 1, 1, 0, 0]


def test_a_copy_is_the_checkpoint_quantised(tmp_path: Path) -> None:
    directory = write_plain(tiny_thinker(2), tmp_path / "model")
    report = bench_load(ModelConfig(str(directory), quant="nf4"), repeats=1, folder=tmp_path)
    copy, again = body_of(report)["groups"][0]["runs"]
    assert (copy["problem"], again["problem"]) == (None, None)
    assert copy["facts"]["digest"] == again["facts"]["digest"]
    assert report.facts["copy_bytes"] > 0
    assert list(tmp_path.iterdir()) == [directory], "nothing is left behind"


@pytest.mark.parametrize(
    "choice", [PruningConfig("none"), PruningConfig("omnidrop", 0.3), PruningConfig("omnizip", 0.3)], ids=lambda c: c.name
)
def test_lengths_counted_without_data_are_those_of_a_prefill(choice: PruningConfig) -> None:
    thinker = tiny_thinker(6)
    prompt = papers_prompt(thinker, 6)
    features = noise_features(thinker, prompt)
    real = prefill(thinker, prompt, embed(thinker, prompt, features), features, get_method(choice)).cache.lengths
    assert lengths_of(6, 6, choice) == real


def test_memory_has_measured_and_computed_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_by_length, "COMPUTED_S", (4,))
    thinker = tiny_thinker(3)
    directory = write_plain(thinker, tmp_path / "model")
    choices = [PruningConfig("none"), PruningConfig("omnidrop", 0.3)]
    body = body_of(bench_memory(ModelConfig(str(directory), device="cpu"), (4,), choices))
    full, pruned = body["groups"][0]["runs"]
    assert (full["name"], pruned["name"]) == ("none", "omnidrop@0.3")
    assert (full["facts"]["rows"], full["facts"]["tokens"]) == (124 + 676, 124 + 676)
    assert pruned["facts"]["kv_mb"] < full["facts"]["kv_mb"] == pytest.approx(800 * 3 * thinker.sizes.kv_bytes(1, 4) / 1e6)
    assert [(row["model"], row["method"]) for row in body["computed"]] == [(m, a) for m in ("3b", "7b") for a in ("none", "omnidrop@0.3")]
    assert body["computed"][1]["kv_mb"] < body["computed"][0]["kv_mb"]


def test_overhead_clocks_what_methods_do_and_changes_nothing() -> None:
    session = Session(tiny_thinker(3))
    choices = [PruningConfig("random-input", 0.3), PruningConfig("omnidrop", 0.3), PruningConfig("none")]
    body = body_of(bench_overhead(session, 4, choices, depth=6, repeats=1))
    full, at_input, in_llm, nothing = body["groups"][0]["runs"]
    assert [run["name"] for run in body["groups"][0]["runs"]] == ["full prefill", "random-input@0.3", "omnidrop@0.3", "none"]
    assert (full["facts"], body["facts"]["depth"]) == ({}, 6)
    assert at_input["facts"]["in_llm_s"] == 0 < at_input["facts"]["before_s"]
    assert at_input["facts"]["decision_share"] == pytest.approx(at_input["facts"]["before_s"] / (2 * full["seconds"]))
    assert in_llm["facts"]["in_llm_s"] > 0
    assert in_llm["seconds"] < full["seconds"]
    assert nothing["facts"]["in_llm_s"] == 0
    assert all(run["facts"]["replay_share"] >= 0 for run in (at_input, in_llm, nothing))

    thinker = session.thinker
    prompt = papers_prompt(thinker, 4)
    features = noise_features(thinker, prompt)
    for choice in choices:
        kept = [
            prefill(thinker, prompt, embed(thinker, prompt, features), features, method).trace.kept
            for method in (get_method(choice), Clocked(get_method(choice), Clock(Stopwatch(thinker.device))))
        ]
        assert all(map(np.array_equal, *kept))


@pytest.mark.parametrize("choice", [PruningConfig("omnidrop", 0.3), PruningConfig("random", 0.2), PruningConfig("random-input", 0.3)])
def test_a_replay_keeps_the_same_tokens(choice: PruningConfig) -> None:
    thinker = tiny_thinker(6)
    prompt = papers_prompt(thinker, 4)
    features = noise_features(thinker, prompt)
    first = prefill(thinker, prompt, embed(thinker, prompt, features), features, get_method(choice))
    again = prefill(thinker, prompt, embed(thinker, prompt, features), features, Replay(first.trace, thinker.device))
    assert all((a == b).all() for a, b in zip(first.trace.kept, again.trace.kept, strict=True))
    assert torch.equal(first.logits, again.logits)


def test_encoders_are_compared_with_stock_attention() -> None:
    body = body_of(bench_encoders(tiny_thinker(1), 2, repeats=1))
    assert [group["subject"] for group in body["groups"]] == ["vision encoder, 2 s", "audio encoder, 2 s"]
    assert [run["name"] for run in body["groups"][0]["runs"]] == ["ours", "stock attention", "products alone"]


@pytest.mark.parametrize("choice", [PruningConfig("none"), PruningConfig("random-input", 0.3), PruningConfig("fastv", preset="paper-50")])
def test_the_page_of_budgets_has_the_rows_that_its_command_writes(choice: PruningConfig) -> None:
    line = " | ".join(budgets.row(choice))
    assert f"| {line} |" in budgets.PAGE.read_text(), "python -m tests.benchmarks budgets"


def test_the_page_of_budgets_has_every_method_and_preset() -> None:
    page = budgets.PAGE.read_text()
    missing = [name for name in map(label, budgets.choices()) if f"`{name}`" not in page]
    assert missing == [], "python -m tests.benchmarks budgets"
