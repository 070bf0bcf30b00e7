"""A device that runs out of memory is met by smaller pieces first, then by less detail, and the report says so."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.config import GenerationConfig, MediaConfig, PruningConfig, Request
from omnidrop_cli.engine import oom
from omnidrop_cli.engine.oom import Limits, less_detail, out_of_memory
from omnidrop_cli.engine.session import Session
from omnidrop_cli.errors import OutOfMemory
from omnidrop_cli.events import ProgressCallback
from omnidrop_cli.media.frame_choice import frame_count, frame_size
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.outputs import Clip, SourceFacts
from omnidrop_cli.tokens import Counts

Clips = Mapping[str, Path]


class Warned(ProgressCallback):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.mark.parametrize(("device", "on_host"), [("cpu", True), ("cuda", False)])
def test_only_a_gpu_has_encoders_to_move_to_the_host(device: str, on_host: bool) -> None:
    assert Limits.of(torch.device(device)).encoders_on_host is on_host


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setattr(oom, "MIN_PATCHES", 40)
    monkeypatch.setattr(oom, "MIN_WINDOWS", 1)
    monkeypatch.setattr(oom, "MIN_ROWS", 16)
    monkeypatch.setattr(oom, "MIN_PIXELS", 28 * 28)
    session = Session(tiny_thinker(3))
    session.limits = Limits(patches=320, windows=4, rows=64)
    return session


@pytest.fixture
def job(clips: Clips) -> Request:
    return Request(str(clips["speech_video"]), "what is said?", generation=GenerationConfig(max_new_tokens=3))


@contextmanager
def short_of_memory(module: torch.nn.Module, fails: Callable[[tuple[Any, ...], dict[str, Any]], bool]) -> Iterator[None]:
    """`module` cannot allocate where `fails(args, kwargs)`."""

    def hook(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if fails(args, kwargs):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 PiB")

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def test_encoders_take_smaller_pieces(session: Session, job: Request) -> None:
    plain = Session(session.thinker).run(job)
    said = Warned()
    with short_of_memory(session.thinker.adapter.vision_encoder, lambda args, _: len(args[0]) > 100):
        report = session.run(job, said)
    assert report.answer == plain.answer
    assert report.prompt == plain.prompt
    assert session.limits.patches < 320
    assert report.warnings == tuple(said.warnings) == (said.warnings[0],) * 2
    assert "smaller pieces" in said.warnings[0]


def test_encoders_leave_a_gpu_before_anything_is_lowered(session: Session, job: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this CPU the move is recorded only."""
    moves: list[str] = []
    monkeypatch.setattr(type(session.thinker.adapter), "place_encoders", lambda _, device: moves.append(device.type))
    session.limits = replace(session.limits, encoders_on_host=False)
    plain = Session(session.thinker).run(job)
    moves.clear()
    failures = iter([True])
    with short_of_memory(session.thinker.adapter.linears(0)["gate"], lambda _, __: next(failures, False)):
        report = session.run(job)
    assert report.answer.token_ids == plain.answer.token_ids
    assert report.warnings == ("the memory does not suffice: the encoders leave the GPU while the decoder runs",)
    assert moves == ["cpu", "cpu", "cpu"], "fetched for either encoder, sent away once"
    assert session.run(replace(job, question="and then?")).warnings == ()


def test_decoder_takes_fewer_rows(session: Session, job: Request) -> None:
    plain = Session(session.thinker).run(job)
    with short_of_memory(session.thinker.adapter.linears(1)["gate"], lambda args, _: args[0].shape[-2] > 20):
        report = session.run(job)
        again = session.run(job)
    assert report.answer.token_ids == plain.answer.token_ids
    assert report.prompt == plain.prompt
    assert session.limits.rows == 16
    assert [("16 tokens at a time" in warning) for warning in report.warnings] == [True]
    assert again.warnings == (), "the limits stay as low as they had to become"


def tokens_over(limit: int) -> Callable[[tuple[Any, ...], dict[str, Any]], bool]:
    """Too long a prompt for the embedding table, which sees all of it at once."""
    return lambda args, _: args[0].shape[-1] > limit


def test_prefill_reads_the_clip_with_less_detail(session: Session, job: Request) -> None:
    job = replace(job, method=PruningConfig("none"))
    plain = Session(session.thinker).run(job)
    wanted = plain.prompt.total - plain.prompt.video // 2
    said = Warned()
    with short_of_memory(session.thinker.model.get_input_embeddings(), tokens_over(wanted)):
        report = session.run(job, said)
    assert report.prompt.total <= wanted
    assert report.prompt.audio == plain.prompt.audio
    assert report.clip.frames < plain.clip.frames
    assert report.job.media_options.max_frames == report.clip.frames
    assert set(said.warnings) <= set(report.warnings)
    assert "at most" in report.warnings[-1]


def test_encoders_read_the_clip_with_less_detail(session: Session, job: Request) -> None:
    plain = Session(session.thinker).run(job)
    grid = math.prod(plain.clip.frame_size) // 14**2 if plain.clip.frame_size else 0
    with short_of_memory(session.thinker.adapter.vision_encoder, lambda args, _: len(args[0]) > grid // 2):
        report = session.run(job)
    assert report.clip.frame_size is not None
    assert plain.clip.frame_size is not None
    assert math.prod(report.clip.frame_size) <= math.prod(plain.clip.frame_size) // 2


def test_both_runs_of_a_comparison_read_the_same(session: Session, job: Request) -> None:
    plain = Session(session.thinker).run(job)
    with short_of_memory(session.thinker.model.get_input_embeddings(), tokens_over(plain.prompt.total - 1)):
        comparison = session.run_comparison(replace(job, method=PruningConfig("omnidrop", 1.0)))
    assert comparison.full.prompt == comparison.pruned.prompt
    assert comparison.full.prompt.video < plain.prompt.video
    assert comparison.agreement == 1
    assert comparison.full.warnings == comparison.pruned.warnings
    assert comparison.full.warnings


@pytest.mark.parametrize("where", ["vision_encoder", "norm", "audio_encoder"])
def test_giving_up_says_how_much_it_was(session: Session, job: Request, where: str) -> None:
    with (
        short_of_memory(getattr(session.thinker.adapter, where), lambda *_: True),
        pytest.raises(OutOfMemory, match=r"\d+ video") as caught,
    ):
        session.run(job)
    hint = caught.value.hint or ""
    assert hint.startswith("most of it is audio: ask about a part"), "fewer frames were tried before"
    assert ("`keep`" in hint) == (where == "norm"), "pruning comes after the encoders"


def test_frames_are_not_blamed_for_audio(session: Session, job: Request, clips: Clips) -> None:
    for where in ("audio_encoder", "norm"):
        with short_of_memory(getattr(session.thinker.adapter, where), lambda *_: True), pytest.raises(OutOfMemory) as caught:
            session.run(replace(job, media=str(clips["wav"])))
        hint = caught.value.hint or ""
        assert hint.startswith("most of it is audio: ask about a part")
        assert "frames" not in hint


def test_a_quarter_of_the_rows_comes_next() -> None:
    fewer = Limits(rows=4_096).fewer_rows()
    assert fewer is not None
    assert fewer.rows == 1_024
    assert Limits(rows=oom.MIN_ROWS).fewer_rows() is None


def test_frames_are_blamed_where_most_tokens_are_video() -> None:
    counts = Counts(text=20, audio=50, video=51)
    assert oom.advice(counts, "encode").startswith("lower `max_frames` or `max_pixels`, or ask about a part")
    assert oom.advice(counts, "prefill").startswith("lower `keep`, `max_frames` or `max_pixels`")


def test_a_decoding_step_is_not_repeated(session: Session, job: Request) -> None:
    """Text may be on the screen already."""
    said = Warned()
    with short_of_memory(session.thinker.adapter.linears(0)["q"], lambda args, _: args[0].shape[-2] == 1), pytest.raises(OutOfMemory):
        session.run(job, said)
    assert said.warnings == []


def test_the_last_halving_leaves_two_frames() -> None:
    def read(frames: int, least: int) -> MediaConfig | None:
        pictures = np.zeros((frames, 3, 56, 112), np.uint8)  # eight tokens: no detail to spare
        clip = Clip(SourceFacts("x", "mp4", 1, float(frames), None, None), pictures, np.zeros(frames), 1.0, None, 0.0, float(frames))
        return less_detail(MediaConfig(min_frames=least), (clip,))

    assert read(8, 2) == MediaConfig(min_frames=2, max_frames=4)
    assert read(4, 2) == MediaConfig(min_frames=2, max_frames=2)
    assert read(2, 2) is None
    assert read(8, 6) is None


def test_other_errors_pass(session: Session, job: Request) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    handle = session.thinker.adapter.linears(0)["q"].register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="illegal"):
        session.run(job)
    handle.remove()


def test_what_counts_as_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert out_of_memory(caught.value)
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert out_of_memory(MemoryError())
    for text in ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "CUDA error: out of memory"):
        assert out_of_memory(RuntimeError(text))
        assert out_of_memory(torch.AcceleratorError(text, 2))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@given(st.integers(20, 2000), st.integers(20, 2000), st.floats(1, 3000), st.sampled_from([1.0, 2.0, 8.0]), st.sampled_from([2, 4, 16, 768]))
def test_less_detail_is_less_and_comes_to_an_end(height: int, width: int, seconds: float, fps: float, least: int) -> None:
    options: MediaConfig | None = MediaConfig(fps=fps, min_frames=least)
    tokens, steps = float("inf"), 0
    while options is not None:
        count = frame_count(seconds, 30.0, options)
        size = frame_size(height, width, count, options)
        assert count * size[0] * size[1] <= tokens
        tokens, steps = count * size[0] * size[1], steps + 1
        frames = np.broadcast_to(np.uint8(0), (count, 3, *size))
        clip = Clip(SourceFacts("x", "mp4", 1, seconds, None, None), frames, np.zeros(count), count / seconds, None, 0.0, seconds)
        options = less_detail(options, [clip])
    assert steps < 40
    assert tokens <= max(least, 8) * max(2 * 28 * max(height, width), 4 * 16 * 28**2)


def test_sound_alone_has_no_detail_to_spare() -> None:
    clip = Clip(SourceFacts("x", "wav", 1, 1.0, None, None), None, None, None, np.zeros(16000, np.float32), 0.0, 1.0)
    assert less_detail(MediaConfig(), [clip]) is None
