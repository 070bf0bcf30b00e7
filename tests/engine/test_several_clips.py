"""Several clips in one question, through the whole pipeline of a tiny random thinker and real files."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from omnidrop_cli.config import GenerationConfig, MediaConfig, PruningConfig, Request
from omnidrop_cli.engine.encode import embed
from omnidrop_cli.engine.encoded_prompt import EncodedPrompt, PromptSource
from omnidrop_cli.engine.oom import less_detail
from omnidrop_cli.engine.prefill import Prefilled, prefill
from omnidrop_cli.engine.session import Session
from omnidrop_cli.errors import MediaError, UsageError
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.outputs import Modality
from omnidrop_cli.prune.methods import names
from tests.clips import Clips
from tests.engine.oracle import DenseRun

NEEDS = frozenset({"audio_attention", "audio_attention_clip", "video_attention"})
METHODS = sorted(set(names()) - {"none"})


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(tiny_thinker(6))


def request_of(clips: Clips, *recipes: str, **media: object) -> Request:
    first, *more = (str(clips[recipe]) for recipe in recipes)
    options = MediaConfig(**{"max_pixels": 112 * 112, "min_pixels": 56 * 56, **media})  # type: ignore[arg-type]
    return Request(
        first, "which one?", more=tuple(more), media_options=options, generation=GenerationConfig(max_new_tokens=6), method=choice("none")
    )


def choice(name: str, keep: float | None = None) -> PruningConfig:
    return PruningConfig(name, keep, options={"selector": "untrained"} if name == "omnisift" else {})


@pytest.fixture(scope="module")
def encoded(session: Session, clips: Clips) -> EncodedPrompt:
    """A video with sound, another of another size, and sound alone."""
    return session.encode(PromptSource(request_of(clips, "speech_video", "portrait", "mp3"), needs=NEEDS))


def run(session: Session, encoded: EncodedPrompt, method: PruningConfig) -> Prefilled:
    one = session.with_method(encoded, method)
    return prefill(session.thinker, one.prompt, embed(session.thinker, one.prompt, one.features), one.features, one.method)


@pytest.mark.parametrize("method", METHODS)
def test_keeping_everything_is_no_pruning_bit_for_bit(session: Session, encoded: EncodedPrompt, method: str) -> None:
    kept, plain = (run(session, encoded, one) for one in (choice(method, 1.0), choice("none")))
    assert torch.equal(kept.logits, plain.logits)
    assert kept.cache.lengths == plain.cache.lengths
    for one, other in zip(kept.cache.layers, plain.cache.layers, strict=True):
        assert torch.equal(one.keys, other.keys)
        assert torch.equal(one.values, other.values)


MERGING = {"dash", "omnipack", "omnizip"}
"""Methods that change the states of survivors, which a mask does not."""


@pytest.mark.parametrize("method", [name for name in METHODS if name not in MERGING])
def test_a_pruned_run_is_a_dense_one_that_masks_the_same_tokens(session: Session, encoded: EncodedPrompt, method: str) -> None:
    pruned = run(session, encoded, choice(method, 0.3))
    dense = DenseRun(session.thinker.adapter, pruned.trace)
    embeds = embed(session.thinker, encoded.prompt, encoded.features)
    hidden = dense.prefill(embeds, torch.from_numpy(encoded.prompt.positions)[:, None])
    torch.testing.assert_close(session.thinker.adapter.lm_head(hidden[-1]), pruned.logits, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_every_clip_keeps_its_share(session: Session, encoded: EncodedPrompt, method: str) -> None:
    report = session.answer(session.with_method(encoded, choice(method, 0.4)))
    tokens = report.token_map
    assert tokens is not None
    depth = report.trace.layers_entered() / report.trace.num_layers
    assert report.trace.retention_after == pytest.approx(0.4, abs=3 / report.prompt.media)
    means = [float(depth[tokens.clip == clip].mean()) for clip in range(3)]
    assert min(means) >= 0.39
    kept = report.kept[0]
    assert {(int(clip), int(modality)) for clip, modality in zip(kept.clip, kept.modality, strict=True)} == {
        (0, Modality.AUDIO),
        (0, Modality.VIDEO),
        (1, Modality.AUDIO),
        (1, Modality.VIDEO),
        (2, Modality.AUDIO),
    }


def test_features_are_those_of_each_clip_alone_and_are_found_again(session: Session, clips: Clips) -> None:
    fresh = Session(session.thinker)
    both = fresh.encode(PromptSource(request_of(clips, "speech_video", "tiny"), needs=NEEDS))
    alone = [fresh.encode(PromptSource(request_of(clips, name), needs=NEEDS)) for name in ("speech_video", "tiny")]
    assert not both.features.reused
    assert all(one.features.reused for one in alone), "each clip has an entry of its own"
    turned = fresh.encode(PromptSource(request_of(clips, "tiny", "speech_video"), needs=NEEDS))
    assert turned.features.reused
    for name in ("video", "video_attention"):
        whole, parts, other = getattr(both.features, name), [getattr(one.features, name) for one in alone], getattr(turned.features, name)
        assert torch.equal(whole, torch.cat(parts))
        assert torch.equal(other, torch.cat(parts[::-1]))


def test_one_clip_in_a_list_is_one_clip(session: Session, clips: Clips) -> None:
    path = clips["tiny"]
    assert session.ask([path], "what?", max_new_tokens=4).answer == session.ask(path, "what?", max_new_tokens=4).answer
    with pytest.raises(UsageError, match="no clip given"):
        session.ask([], "what?")
    for wrong in (None, b"a.mp4", [None], {"a": 1}):
        with pytest.raises(UsageError, match="a clip is a path"):
            session.ask(wrong, "what?")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a question is text, not NoneType"):
        session.ask(path, None)  # type: ignore[arg-type]


def test_options_hold_for_every_clip_and_warnings_name_theirs(session: Session, clips: Clips) -> None:
    report = session.ask([clips["speech_video"], clips["silent_video"]], "which?", start_s=1, end_s=3, max_new_tokens=2)
    assert [(clip.start_s, clip.duration_s) for clip in report.clips] == [(1, 2), (1, 2)]
    assert [clip.audio_s for clip in report.clips] == [2, 0]
    assert any(warning.startswith("silent_video.mp4: ") for warning in report.warnings)


def test_a_conversation_about_two_clips(session: Session, clips: Clips) -> None:
    talk = session.chat([clips["speech_video"], clips["tiny"]], max_new_tokens=2)
    first, second = talk.ask("which?"), talk.ask("why?")
    assert second.features_reused or first.features_reused
    assert len(second.clips) == 2
    assert second.prompt.media == first.prompt.media


def test_the_missing_file_is_found_first(session: Session, clips: Clips) -> None:
    with pytest.raises(MediaError, match=r"gone\.mp4: no such file"):
        session.ask([clips["long_audio"], "gone.mp4"], "which?")


def test_one_file_of_subtitles_is_not_that_of_two_clips(session: Session, clips: Clips) -> None:
    with pytest.raises(UsageError, match="one file of subtitles"):
        session.ask([clips["tiny"], clips["tiny"]], "which?", subtitles="words.srt")


def test_the_largest_clip_gives_up_detail_first(session: Session, clips: Clips) -> None:
    encoded = session.encode(PromptSource(request_of(clips, "tiny", "speech_video", "mp3", max_pixels=224 * 224)))
    options = encoded.request.media_options
    fewer = less_detail(options, encoded.clips)
    assert fewer == less_detail(options, [encoded.clips[1]])
    assert fewer is not None
    assert less_detail(replace(options, min_frames=768), encoded.clips[2:]) is None
