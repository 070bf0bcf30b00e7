"""The measuring commands on tiny clips and models: the shape of the JSON, the arms, and that they did the same work. No times."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omnidrop_cli.bench import memory
from omnidrop_cli.bench.feature_reuse import bench_reuse
from omnidrop_cli.bench.loading import bench_load
from omnidrop_cli.bench.measurement import Sample, Sheet, alternate
from omnidrop_cli.bench.measurement_table import view
from omnidrop_cli.bench.media import ARMS, bench_media
from omnidrop_cli.bench.memory import bench_memory, lengths_of
from omnidrop_cli.bench.method_overhead import Clock, Clocked, bench_choosing
from omnidrop_cli.bench.subprocess_run import in_child
from omnidrop_cli.bench.synthetic import noise_features, papers_prompt
from omnidrop_cli.config import MediaConfig, ModelConfig, PruningConfig
from omnidrop_cli.engine.encode import embed
from omnidrop_cli.engine.metrics import Stopwatch
from omnidrop_cli.engine.prefill import prefill
from omnidrop_cli.engine.session import Session
from omnidrop_cli.errors import MediaError, UsageError
from omnidrop_cli.media.clip import decode
from omnidrop_cli.model.random_weights import tiny_sizes, tiny_thinker
from omnidrop_cli.prune.methods import create
from tests.bench.works import allocating, failing
from tests.clips import Clips
from tests.commands.running import run
from tests.model.checkpoints import write_plain

HEADING = {"schema", "kind", "date", "device", "versions"}
ARM = {"name", "runs", "seconds", "cpu_s", "over_first", "cpu_over_first", "peak_mb", "before_mb", "facts", "problem"}


def body_of(sheet: Sheet) -> dict[str, Any]:
    """As JSON, in the shape every bench shares; it can also be drawn."""
    from rich.console import Console

    Console(file=open(os.devnull, "w")).print(view(sheet))  # noqa: SIM115
    body: dict[str, Any] = json.loads(json.dumps(sheet.to_dict(), allow_nan=False))
    assert body.keys() == HEADING | {"repeats", "groups", "facts", "computed"}
    assert "omnidrop-cli" in body["versions"]
    for group in body["groups"]:
        for arm in group["arms"]:
            assert arm.keys() == ARM
            assert arm["problem"] or (arm["seconds"] > 0 and arm["peak_mb"] > 0)
        first = group["arms"][0]
        assert first["problem"] or (first["over_first"], first["cpu_over_first"]) == (1.0, 1.0)
    return body


# ---------------------------------------------------------------- how arms become figures


def test_arms_alternate_and_medians_count() -> None:
    order: list[str] = []
    times = {"a": iter([1.0, 9.0, 2.0]), "b": iter([4.0, 4.0, 5.0])}

    def arm(name: str) -> Sample:
        order.append(name)
        return Sample(next(times[name]), 0.0, peak_mb=len(order), before_mb=1.0, facts={"run": len(order)})

    a, b = alternate({name: lambda name=name: arm(name) for name in times}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert (a.seconds, b.seconds, b.over_first, b.cpu_over_first) == (2.0, 4.0, 2.0, None)
    assert (a.peak_mb, b.peak_mb, a.facts) == (5, 6, {"run": 1})


def test_a_failed_arm_runs_once_and_has_no_figure() -> None:
    runs: list[int] = []

    def fails() -> Sample:
        runs.append(1)
        return Sample(problem="no such tool")

    fine, failed = alternate({"fine": lambda: Sample(1.0), "failed": fails}, 3)
    assert (len(runs), failed.problem, failed.seconds, failed.over_first) == (1, "no such tool", None, None)
    assert fine.runs == 3


def test_a_child_has_a_memory_of_its_own() -> None:
    sample = in_child(allocating, 60)
    assert sample.problem is None
    assert sample.facts["held"] == 60 * 10**6
    assert sample.facts["pid"] != os.getpid()
    assert 60 <= sample.peak_mb - 1000 - sample.before_mb < 90, "other processes' memory counts, too"
    assert "other_peak_mb" not in sample.facts


@pytest.mark.parametrize(
    ("how", "said"),
    [("absent", "not installed"), ("memory", "free memory"), ("ours", "no clip"), ("other", "ValueError: bad value"), ("killed", "signal")],
)
def test_a_childs_failure_is_told(how: str, said: str) -> None:
    assert said in (in_child(failing, how).problem or "")


# ---------------------------------------------------------------- media


@pytest.fixture(scope="module")
def decoded(clips: Clips) -> Sheet:
    return bench_media([clips["speech_video"]], MediaConfig(), ["omnidrop", "pyav", "ffmpeg"], repeats=1)


def test_media_arms_did_the_same_work(decoded: Sheet, clips: Clips) -> None:
    body = body_of(decoded)
    (group,) = body["groups"]
    ours, plain, ffmpeg = (arm["facts"] for arm in group["arms"])
    clip = decode(clips["speech_video"], MediaConfig())
    assert clip.frames is not None
    assert ours["digest"] == plain["digest"]
    assert (ours["frames"], ours["size"]) == (len(clip.frames), list(clip.frames.shape[2:]))
    assert (ffmpeg["frames"], ffmpeg["size"]) == (ours["frames"], ours["size"])
    assert ours["sound_s"] == pytest.approx(plain["sound_s"], abs=0.1)
    assert ours["sound_s"] == pytest.approx(ffmpeg["sound_s"], abs=0.1)


@pytest.mark.parametrize("name", ["vfr", "rotated", "webm"])
def test_a_plain_decode_gives_our_frames(name: str, clips: Clips) -> None:
    works = [ARMS[arm](clips[name], MediaConfig(use_audio=False, max_frames=8))()() for arm in ("omnidrop", "pyav")]
    assert works[0] == works[1]


def test_a_tool_that_is_not_there_is_named(clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    sheet = bench_media([clips["silent_video"]], MediaConfig(use_audio=False), ["omnidrop", "ffmpeg"], repeats=2)
    ours, absent = body_of(sheet)["groups"][0]["arms"]
    assert (ours["runs"], ours["problem"]) == (2, None)
    assert "no ffmpeg" in absent["problem"]


def test_wrong_media_are_refused(clips: Clips) -> None:
    with pytest.raises(UsageError, match="unknown arm"):
        bench_media([clips["silent_video"]], MediaConfig(), ["decord"])
    with pytest.raises(MediaError, match="no picture track"):
        bench_media([clips["wav"]], MediaConfig())


# ---------------------------------------------------------------- reuse, load, memory


def test_reuse_counts_what_passes_the_tower(clips: Clips) -> None:
    session = Session(tiny_thinker())
    still, moving = (decode(clips[name], MediaConfig(max_pixels=112 * 112)) for name in ("one_image_gif", "silent_video"))
    body = body_of(bench_reuse(session, [still, moving], (0.0, 255.0), blocks=1, repeats=1))
    assert len(session.thinker.visual.blocks) == 2, "the tower is whole again"
    of_moving = {arm["name"]: arm["facts"] for arm in body["groups"][1]["arms"]}
    assert [facts["pairs"] for facts in of_moving.values()] == [4, 4, 1, 0, 0]
    cosines = [facts["least_cosine"] for facts in of_moving.values()]
    assert cosines[2] < min(cosines[0], cosines[1], *cosines[3:]) == pytest.approx(1.0, abs=1e-4)
    assert [arm["facts"]["pairs"] for arm in body["groups"][0]["arms"]] == [1, 1, 1, 0, 0]


def test_a_copy_is_the_checkpoint_quantised(tmp_path: Path) -> None:
    directory = write_plain(tiny_thinker(2), tmp_path / "model")
    sheet = bench_load(ModelConfig(str(directory), quant="nf4"), repeats=1, folder=tmp_path)
    copy, again = body_of(sheet)["groups"][0]["arms"]
    assert (copy["problem"], again["problem"]) == (None, None)
    assert copy["facts"]["digest"] == again["facts"]["digest"]
    assert sheet.facts["copy_bytes"] > 0
    assert list(tmp_path.iterdir()) == [directory], "nothing is left behind"


@pytest.mark.parametrize(
    "choice", [PruningConfig("none"), PruningConfig("omnidrop", 0.3), PruningConfig("omnizip", 0.3)], ids=lambda c: c.name
)
def test_lengths_counted_without_data_are_those_of_a_prefill(choice: PruningConfig) -> None:
    thinker = tiny_thinker(6)
    prompt = papers_prompt(thinker, 6)
    features = noise_features(thinker, prompt)
    real = prefill(thinker, prompt, embed(thinker, prompt, features), features, create(choice)).cache.lengths
    assert lengths_of(6, 6, choice) == real


def test_memory_has_measured_and_computed_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "COMPUTED_S", (4,))
    directory = write_plain(tiny_thinker(3), tmp_path / "model")
    choices = [PruningConfig("none"), PruningConfig("omnidrop", 0.3)]
    body = body_of(bench_memory(ModelConfig(str(directory), device="cpu"), (4,), choices))
    full, pruned = body["groups"][0]["arms"]
    assert (full["name"], pruned["name"]) == ("none", "omnidrop@0.3")
    assert (full["facts"]["rows"], full["facts"]["tokens"]) == (124 + 676, 124 + 676)
    assert pruned["facts"]["kv_mb"] < full["facts"]["kv_mb"] == pytest.approx(800 * 3 * tiny_sizes().decoder.kv_bytes(1, 4) / 1e6)
    assert [(row["model"], row["method"]) for row in body["computed"]] == [(m, a) for m in ("3b", "7b") for a in ("none", "omnidrop@0.3")]
    assert body["computed"][1]["kv_mb"] < body["computed"][0]["kv_mb"]


# ---------------------------------------------------------------- choosing


def test_choosing_clocks_what_methods_do_and_changes_nothing() -> None:
    session = Session(tiny_thinker(3))
    choices = [PruningConfig("random-input", 0.3), PruningConfig("omnidrop", 0.3), PruningConfig("none")]
    sheet = bench_choosing(session, 4, choices, depth=6, repeats=2)
    body = body_of(sheet)
    full, before, inside, nothing = body["groups"][0]["arms"]
    assert [arm["name"] for arm in body["groups"][0]["arms"]] == ["full prefill", "random-input@0.3", "omnidrop@0.3", "none"]
    assert (full["facts"], body["facts"]["depth"]) == ({}, 6)
    assert before["facts"]["inside_s"] == 0 < before["facts"]["before_s"]
    assert before["facts"]["of_whole_depth"] == pytest.approx(before["facts"]["before_s"] / (2 * full["seconds"]))
    assert inside["facts"]["inside_s"] > 0
    assert inside["seconds"] < full["seconds"]
    assert nothing["facts"]["inside_s"] == 0

    thinker = session.thinker
    prompt = papers_prompt(thinker, 4)
    features = noise_features(thinker, prompt)
    for choice in choices:
        kept = [
            prefill(thinker, prompt, embed(thinker, prompt, features), features, method).trace.kept
            for method in (create(choice), Clocked(create(choice), Clock(Stopwatch(thinker.device))))
        ]
        assert all(map(np.array_equal, *kept))


# ---------------------------------------------------------------- the command line


def test_the_commands_share_a_name_and_prefill_needs_none(clips: Clips, tmp_path: Path) -> None:
    target = tmp_path / "media.json"
    done = run("bench", "media", str(clips["silent_video"]), "--no-audio", "--arms", "omnidrop,pyav", "--repeats", "1", "-o", str(target))
    assert done.code == 0, done.err
    assert "silent_video" in done.out
    body = json.loads(target.read_text())
    assert body["kind"] == "media"
    assert body["command"].startswith("omnidrop bench media")
    done = run("bench", "--model", "nano", "--seconds", "2", "--methods", "none", "--repeats", "1", "--json")
    assert done.code == 0, done.err
    assert [arm["method"] for arm in json.loads(done.out)["arms"]] == ["none"]


def test_wrong_numbers_are_refused() -> None:
    done = run("bench", "memory", "--seconds", "ten")
    assert (done.code, "--seconds ten" in done.err) == (2, True)
