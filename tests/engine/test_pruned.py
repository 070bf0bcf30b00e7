"""`pruned` round transformers' own generate gives what the engine gives, its token map made from ids and configuration alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import omnidrop_cli
from omnidrop_cli.config import GenerationConfig, MediaConfig, ModelConfig, PruningConfig, Request
from omnidrop_cli.engine.encoded_prompt import EncodedPrompt, PromptSource
from omnidrop_cli.engine.pruned import pruned
from omnidrop_cli.engine.session import Session
from omnidrop_cli.errors import UsageError
from omnidrop_cli.prompt.patches import patchify
from omnidrop_cli.prompt.token_map import token_map_of

Clips = Mapping[str, Path]
METHODS = ["none", "omnidrop", "seats", "fastv", "omnizip", "random"]


@pytest.fixture(scope="module")
def session() -> Session:
    """The built-in model: the tests' byte tokenizer has no token for "user", by which turns are found."""
    session = Session.load(ModelConfig("nano", device="cpu", feature_cache=False))
    session.thinker = replace(session.thinker, eos_ids=())
    return session


def encoded(session: Session, clips: Clips, method: str = "none", **media: object) -> EncodedPrompt:
    request = Request(
        str(clips["speech_video"]),
        "what is said in the clip?",
        media_options=MediaConfig(**media),  # type: ignore[arg-type]
        method=PruningConfig(method, None if method == "none" else 0.4),
        generation=GenerationConfig(max_new_tokens=8),
    )
    needs = frozenset({"audio_attention", "video_attention"})
    return session.encode(PromptSource(request, needs=needs))


@pytest.mark.parametrize("media", [{}, {"use_audio": False}, {"use_video": False}, {"fps": 1.5}])
def test_token_map_from_ids_is_the_prompts_own(session: Session, clips: Clips, media: dict[str, object]) -> None:
    prompt = encoded(session, clips, **media).prompt
    seconds = prompt.media[0].seconds_per_grid or 1.0
    found = token_map_of(prompt.input_ids, session.thinker.model.config, grid_thw=prompt.media[0].grid_thw, seconds_per_grid=seconds)
    for name in ("modality", "chunk", "grid", "row", "col", "is_query"):
        np.testing.assert_array_equal(getattr(found, name), getattr(prompt.token_map, name), err_msg=name)
    np.testing.assert_allclose(found.time_s, prompt.token_map.time_s)


def inputs_of(session: Session, one: EncodedPrompt) -> dict[str, torch.Tensor]:
    """What transformers' processor gives for the same prompt."""
    prompt, spec = one.prompt, session.thinker.spec
    assert prompt.media[0].frames is not None
    assert prompt.media[0].mel is not None
    ids = torch.from_numpy(prompt.input_ids)[None]
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values_videos": patchify(torch.from_numpy(prompt.media[0].frames), spec),
        "video_grid_thw": torch.tensor([prompt.media[0].grid_thw]),
        "video_second_per_grid": torch.tensor([prompt.media[0].seconds_per_grid]),
        "input_features": torch.from_numpy(prompt.media[0].mel)[None],
        "feature_attention_mask": torch.ones(1, prompt.media[0].mel.shape[1], dtype=torch.long),
    }


@pytest.mark.parametrize("method", METHODS)
def test_stock_generate_answers_as_the_session(session: Session, clips: Clips, method: str) -> None:
    one = encoded(session, clips, method)
    report = session.answer(one)
    inputs = inputs_of(session, one)
    keep = None if method == "none" else 0.4
    with torch.inference_mode(), pruned(session.thinker.model, inputs, keep=keep, method=method) as pruning:
        ids = session.thinker.model.generate(
            **inputs, use_audio_in_video=True, max_new_tokens=8, do_sample=False, eos_token_id=-1, pad_token_id=session.thinker.pad_id
        )
    trace = pruning.trace()
    assert trace.kv_lengths == report.trace.kv_lengths
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(trace.kept, report.trace.kept, strict=True))
    assert tuple(ids[0, inputs["input_ids"].shape[1] :].tolist()) == report.answer.token_ids


def test_audio_alone_needs_no_grid(session: Session, clips: Clips) -> None:
    one = encoded(session, clips, "omnidrop", use_video=False)
    report = session.answer(one)
    mel, ids = one.prompt.media[0].mel, torch.from_numpy(one.prompt.input_ids)[None]
    assert mel is not None
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "input_features": torch.from_numpy(mel)[None],
        "feature_attention_mask": torch.ones(1, mel.shape[1], dtype=torch.long),
    }
    for given in (inputs, {**inputs, "video_grid_thw": torch.zeros(0, 3)}):
        with torch.inference_mode(), pruned(session.thinker.model, given, keep=0.4) as pruning:
            session.thinker.model.generate(**inputs, max_new_tokens=2, do_sample=False, pad_token_id=session.thinker.pad_id)
        assert pruning.trace().kv_lengths == report.trace.kv_lengths


def test_two_sounds_are_two_clips(session: Session, clips: Clips) -> None:
    request = Request(str(clips["mp3"]), "which?", more=(str(clips["wav_22k"]),))
    ids = torch.from_numpy(session.encode(PromptSource(request)).prompt.input_ids)[None]
    with pytest.raises(UsageError, match="has 2 clips"), pruned(session.thinker.model, {"input_ids": ids}, keep=0.4):
        pass


def test_what_it_refuses(session: Session, clips: Clips) -> None:
    inputs = inputs_of(session, encoded(session, clips))
    model = session.thinker.model
    twice = {**inputs, "input_ids": inputs["input_ids"].expand(2, -1)}
    for changed, message in (
        (twice, "one prompt"),
        ({**inputs, "video_grid_thw": inputs["video_grid_thw"].expand(2, -1)}, "one video"),
        ({**inputs, "video_grid_thw": inputs["video_grid_thw"] * 2}, "video tokens"),
        ({**inputs, "input_ids": inputs["input_ids"][:, :3]}, "user turn"),
    ):
        with pytest.raises(UsageError, match=message), pruned(model, changed):
            pass
    with pytest.raises(UsageError, match="unknown"), pruned(model, inputs, method="omnidorp"):
        pass


def test_it_is_public() -> None:
    assert omnidrop_cli.pruned is pruned
