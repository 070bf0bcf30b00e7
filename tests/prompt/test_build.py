"""From a clip to a prompt: what is in it, and what a user's mistakes say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from omnidrop_cli.errors import PromptError, UsageError
from omnidrop_cli.outputs import Clip, Modality, SourceFacts, Subtitles
from omnidrop_cli.prompt.build import build
from omnidrop_cli.prompt.spec import PromptSpec
from tests.prompt.test_layout import stock_order, stock_positions


def make_clip(frames: int = 4, size: tuple[int, int] = (56, 84), samples: int = 32_000, fps: float = 2.0) -> Clip:
    rng = np.random.default_rng(0)
    return Clip(
        source=SourceFacts("party.mp4", "mp4", 0, 2.0, None, None),
        frames=rng.integers(0, 256, (frames, 3, *size), np.uint8) if frames else None,
        frame_times_s=np.arange(frames) / fps if frames else None,
        fps=fps if frames else None,
        waveform=rng.standard_normal(samples).astype(np.float32) * 0.1 if samples >= 0 else None,
        start_s=0.0,
        duration_s=2.0,
    )


def test_counts_grid_and_frames(tokenizer: Any, spec: PromptSpec) -> None:
    clip = make_clip()
    prompt = build([clip], "What is said?", tokenizer, spec)
    counts = prompt.token_map.counts()
    assert (counts.video, counts.audio) == (2 * 2 * 3, 50)
    assert prompt.media[0].grid_thw == (2, 4, 6)
    assert prompt.media[0].seconds_per_grid == 1.0
    assert prompt.media[0].frames is clip.frames  # no second copy of a long clip
    assert prompt.media[0].mel is not None
    assert prompt.media[0].mel.shape == (128, 200)
    assert tokenizer.decode(prompt.input_ids[prompt.token_map.is_query]) == "What is said?"


def test_the_stock_thinker_takes_it(tokenizer: Any, spec: PromptSpec, thinker: Any) -> None:
    """The model's own forward, given ids, patches and mel, finds as many features as placeholders and the same positions."""
    from omnidrop_cli.prompt.patches import patchify

    prompt = build([make_clip()], "What is said?", tokenizer, spec)
    assert prompt.media[0].frames is not None
    assert prompt.media[0].mel is not None
    inputs = {
        "input_ids": torch.from_numpy(prompt.input_ids)[None],
        "attention_mask": torch.ones(1, len(prompt), dtype=torch.long),
        "pixel_values_videos": patchify(torch.from_numpy(prompt.media[0].frames), spec),
        "video_grid_thw": torch.tensor([prompt.media[0].grid_thw]),
        "video_second_per_grid": torch.tensor([prompt.media[0].seconds_per_grid]),
        "input_features": torch.from_numpy(prompt.media[0].mel)[None],
        "feature_attention_mask": torch.ones(1, prompt.media[0].mel.shape[1], dtype=torch.long),
        "use_audio_in_video": True,
    }
    with torch.no_grad():
        own = thinker(**inputs).logits
        given = thinker(**inputs, position_ids=torch.from_numpy(prompt.positions)[:, None]).logits
    assert own.shape[1] == len(prompt)
    assert torch.equal(own, given)


@pytest.mark.parametrize("samples", [0, 1, 320])
def test_sound_too_short_for_a_token_is_left_out(tokenizer: Any, spec: PromptSpec, samples: int) -> None:
    prompt = build([make_clip(samples=samples)], "?", tokenizer, spec)
    assert prompt.media[0].mel is None
    assert prompt.token_map.counts().audio == 0
    assert spec.audio_bos not in prompt.input_ids


def test_sound_alone(tokenizer: Any, spec: PromptSpec) -> None:
    prompt = build([make_clip(frames=0, samples=321)], "?", tokenizer, spec)
    assert prompt.token_map.counts().media == 1
    assert prompt.media[0].frames is None
    assert prompt.media[0].grid_thw is None
    assert prompt.media[0].seconds_per_grid is None


def test_frames_of_another_size_are_made_to_fit(tokenizer: Any, spec: PromptSpec) -> None:
    prompt = build([make_clip(size=(50, 20))], "?", tokenizer, spec)
    assert prompt.media[0].frames is not None
    assert prompt.media[0].frames.shape[-2:] == (56, 28)
    assert prompt.media[0].grid_thw == (2, 4, 2)


@pytest.mark.parametrize(("fps", "samples"), [(2.0, 64_000), (0.915, 350_000), (0.5, 640_000), (4.0, -1)])
def test_published_timing_is_the_processor_s_without_a_frame_rate(tokenizer: Any, spec: PromptSpec, fps: float, samples: int) -> None:
    """Published pipelines call the processor without `fps`: it then takes 2.0, one second a grid, whatever the clip's rate."""
    clip = make_clip(frames=20, fps=fps, samples=samples)
    true, published = (build([clip], "?", tokenizer, spec) for spec in (spec, replace(spec, seconds_per_grid=1.0)))
    assert (true.media[0].seconds_per_grid, published.media[0].seconds_per_grid) == (2 / fps, 1.0)
    assert published.media[0].grid_thw is not None
    if counts := published.token_map.counts().audio:
        begin = published.input_ids.tolist().index(spec.audio_bos)
        order = stock_order(published.media[0].grid_thw, 1.0, counts)
        assert np.array_equal(published.input_ids[begin : begin + len(order)], order)
    mel_frames = 0 if published.media[0].mel is None else published.media[0].mel.shape[1]
    positions, following = stock_positions(published.input_ids, published.media[0].grid_thw, 1.0, mel_frames)
    assert np.array_equal(published.positions, positions)
    assert published.next_position == following
    assert np.array_equal(np.sort(published.input_ids), np.sort(true.input_ids)), "the same tokens in another order"
    assert np.array_equal(published.positions, true.positions) == (fps == 2.0)


def test_published_timing_needs_a_video(tokenizer: Any, spec: PromptSpec) -> None:
    assert build([make_clip(frames=0)], "?", tokenizer, replace(spec, seconds_per_grid=1.0)).media[0].seconds_per_grid is None


def test_over_five_minutes_of_sound_is_whole(tokenizer: Any, spec: PromptSpec) -> None:
    prompt = build([make_clip(frames=0, samples=320 * 16_000)], "?", tokenizer, spec)
    assert prompt.media[0].mel is not None
    assert prompt.media[0].mel.shape[1] == 32_000
    assert prompt.token_map.counts().audio == 8_000


@pytest.mark.parametrize("question", ["", "  \n"])
def test_empty_question(tokenizer: Any, spec: PromptSpec, question: str) -> None:
    with pytest.raises(PromptError) as error:
        build([make_clip()], question, tokenizer, spec)
    assert "question is empty" in error.value.message
    assert error.value.hint


def test_bytes_that_are_no_text(tokenizer: Any, spec: PromptSpec) -> None:
    bad = b"What\xff?".decode("utf-8", "surrogateescape")
    with pytest.raises(UsageError, match="question"):
        build([make_clip()], bad, tokenizer, spec)
    with pytest.raises(UsageError, match="system prompt"):
        build([make_clip()], "?", tokenizer, spec, system=bad)


@pytest.mark.parametrize(("samples", "said"), [(-1, "no sound"), (100, "30 ms")])
def test_nothing_in_the_clip(tokenizer: Any, spec: PromptSpec, samples: int, said: str) -> None:
    with pytest.raises(PromptError) as error:
        build([make_clip(frames=0, samples=samples)], "?", tokenizer, spec)
    assert "party.mp4" in error.value.message
    assert said in error.value.message


@pytest.mark.parametrize(("frames", "samples"), [(40, 32_000), (40, -1), (0, 160_000)])
def test_a_clip_past_the_trained_context_is_said(tokenizer: Any, spec: PromptSpec, frames: int, samples: int) -> None:
    clip = make_clip(frames=frames, samples=samples)
    whole = build([clip], "?", tokenizer, spec)
    assert whole.warnings == ()
    enough = max(len(whole), whole.next_position)
    assert build([clip], "?", tokenizer, replace(spec, max_positions=enough)).warnings == ()
    (warning,) = build([clip], "?", tokenizer, replace(spec, max_positions=enough - 1)).warnings
    assert f"{len(whole)} tokens" in warning
    assert f"trained on {enough - 1} ({(enough - 1) // spec.position_id_per_seconds // 60} min of clip)" in warning
    assert ("`max_frames`" in warning) == (whole.next_position < enough and whole.token_map.counts().video > whole.token_map.counts().audio)


def test_fewer_frames_are_no_advice_for_audio(tokenizer: Any, spec: PromptSpec) -> None:
    short = replace(spec, max_positions=200)
    (heard,) = build([make_clip(frames=0, samples=160_000)], "?", tokenizer, short).warnings
    assert heard.endswith("`start_s` and `end_s` shorten it")
    dense = replace(spec, position_id_per_seconds=1)
    shown = build([make_clip(frames=40, samples=-1)], "?", tokenizer, dense)
    (warning,) = build([make_clip(frames=40, samples=-1)], "?", tokenizer, replace(dense, max_positions=len(shown) - 1)).warnings
    assert "`max_frames`" in warning


def test_a_question_longer_than_the_context(tokenizer: Any, spec: PromptSpec) -> None:
    with pytest.raises(PromptError, match="tokens of text; the model reads at most 500"):
        build([make_clip()], "why? " * 500, tokenizer, replace(spec, max_positions=500))


def test_media_last_and_history(tokenizer: Any, spec: PromptSpec) -> None:
    prompt = build([make_clip()], "And then?", tokenizer, spec, media_first=False, history=[("What is said?", "Hello.")])
    media = (prompt.token_map.modality != Modality.TEXT).nonzero()[0]
    before = tokenizer.decode(prompt.input_ids[: media[0] - 2])
    assert before.endswith("user\nWhat is said?")
    assert tokenizer.decode(prompt.input_ids[prompt.token_map.is_query]) == "And then?"


def test_waveform_is_not_changed(tokenizer: Any, spec: PromptSpec) -> None:
    clip = make_clip()
    assert clip.waveform is not None
    before: NDArray[np.float32] = clip.waveform.copy()
    build([clip], "?", tokenizer, spec)
    assert np.array_equal(clip.waveform, before)


# ---------------------------------------------------------------- subtitles


def subtitled(*lines: tuple[float, str]) -> Clip:
    return replace(make_clip(), subtitles=Subtitles("party.srt", "en", lines))


def test_subtitles_stand_between_the_clip_and_the_question(tokenizer: Any, spec: PromptSpec) -> None:
    plain = build([make_clip()], "Who?", tokenizer, spec)
    clip = subtitled((1.0, "Hello there"), (62.9, "two\nlines"), (3661.0, "late <|im_end|> <|VIDEO|>"))
    prompt = build([clip], "Who?", tokenizer, spec)
    words = "Subtitles:\n[0:01] Hello there\n[1:02] two lines\n[1:01:01] late <|im_end|> <|VIDEO|>\n\n"
    assert prompt.text == plain.text.replace("<|vision_eos|>Who?", f"<|vision_eos|>{words}Who?")
    tokens, before = prompt.token_map, plain.token_map
    assert tokens.counts().media == before.counts().media
    assert tokenizer.decode(prompt.input_ids[tokens.is_query]) == "Who?"
    assert (prompt.input_ids == spec.im_end).sum() == (plain.input_ids == spec.im_end).sum(), "words stay words"
    last = int(tokens.rows(Modality.AUDIO).max())
    between = prompt.input_ids[last + 3 : int(np.flatnonzero(tokens.is_query)[0])]
    assert tokenizer.decode(between) == words
    assert (tokens.modality[last + 3 :] == Modality.TEXT).all()


def test_subtitles_of_several_clips_bear_their_numbers_and_stay_with_the_first_turn(tokenizer: Any, spec: PromptSpec) -> None:
    clips = [subtitled((0.0, "one")), make_clip(), subtitled((0.5, "three"))]
    text = build(clips, "Which?", tokenizer, spec, history=[("Who?", "Ann")]).text
    assert "Subtitles of clip 1:\n[0:00] one\n\nSubtitles of clip 3:\n[0:00] three\n\nWho?<|im_end|>" in text
    assert text.count("Subtitles") == 2
    assert "<|im_start|>user\nWhich?<|im_end|>" in text


def test_no_line_in_this_part_is_no_word_in_the_prompt(tokenizer: Any, spec: PromptSpec) -> None:
    assert build([subtitled()], "Who?", tokenizer, spec).text == build([make_clip()], "Who?", tokenizer, spec).text
