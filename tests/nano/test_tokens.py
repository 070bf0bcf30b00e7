"""The nano tokenizer, and that packed samples are what `prompt/` would have built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.nano.train.labels import label
from omnidrop_cli.nano.train.samples import IGNORE, Packer, TrainingSample
from omnidrop_cli.nano.train.train_tokenizer import PHRASES, SPECIAL, SYSTEM, row_ids, save
from omnidrop_cli.nano.world import multiple_choice
from omnidrop_cli.nano.world.questions import WorldQuestion, ask
from omnidrop_cli.nano.world.scenario import Profile, sample
from omnidrop_cli.nano.world.vocabulary import media_classes
from omnidrop_cli.outputs import Clip, SourceFacts
from omnidrop_cli.prompt.build import build as build_prompt
from omnidrop_cli.prompt.chat_template import DEFAULT_SYSTEM
from omnidrop_cli.prompt.spec import PromptSpec


@given(text=st.text(max_size=40))
def test_any_text_comes_back(tokenizer: Any, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text.removeprefix(" ")


def test_every_class_and_phrase_is_one_token(tokenizer: Any) -> None:
    assert list(row_ids(tokenizer)) == media_classes()
    for phrase in PHRASES:
        assert len(tokenizer.encode(phrase, add_special_tokens=False)) == 1, phrase
    for name in SPECIAL:
        assert len(tokenizer.encode(name, add_special_tokens=False)) == 1, name
    assert SYSTEM == DEFAULT_SYSTEM, "the model must be trained with the prompt it will be given"


def test_saved_tokenizer_is_the_same(tokenizer: Any, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    save(tmp_path)
    loaded = AutoTokenizer.from_pretrained(str(tmp_path))
    text = "<|im_start|>user\nWhat is said while the red circle is shown?<|im_end|>\n"
    assert loaded.encode(text) == tokenizer.encode(text)
    assert loaded.eos_token == "<|im_end|>"
    talk = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What is said?"}]}]
    assert loaded.apply_chat_template(talk, tokenize=False, add_generation_prompt=True) == (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n<|vision_bos|><|VIDEO|><|vision_eos|>What is said?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def _prompt(timeline: Any, question: str, tokenizer: Any, spec: PromptSpec) -> Any:
    rows, cols = timeline.cells
    frames = np.zeros((timeline.grids * 2, 3, rows * 28, cols * 28), np.uint8) if timeline.has_video else None
    wave = np.zeros(round(timeline.duration_s * 16_000), np.float32) if timeline.has_audio else None
    facts = SourceFacts("made", "mp4", 0, timeline.duration_s, None, None)
    clip = Clip(facts, frames, None, 2.0 if timeline.has_video else None, wave, 0.0, timeline.duration_s)
    return build_prompt((clip,), question, tokenizer, spec)


def test_packed_samples_are_the_prompts_that_inference_builds(tokenizer: Any, spec: PromptSpec) -> None:
    rng = np.random.default_rng(3)
    packer = Packer(tokenizer)
    profiles = (Profile(3, 9, silent=0.0, sound_only=0.0), Profile(3, 9, silent=1.0), Profile(3, 9, silent=0.0, sound_only=1.0))
    samples = []
    for profile in profiles * 3:
        timeline = sample(rng, profile)
        labels = label(timeline, spec)
        samples.append(TrainingSample(timeline, labels, np.arange(len(labels)), tuple(ask(timeline, rng)[:3])))
    batch = packer.collate(samples)
    for row, one in enumerate(samples):
        for number, question in enumerate(one.questions):
            prompt = _prompt(one.timeline, question.text, tokenizer, spec)
            valid, own = batch.shared_valid[row].numpy(), (batch.block[row] == number).numpy()
            ids = np.concatenate([batch.shared[row].numpy()[valid], batch.ids[row].numpy()[own]])
            media = np.concatenate([batch.media[row].numpy()[valid], np.zeros(own.sum(), bool)])
            places = np.concatenate([batch.shared_positions[:, row].numpy()[:, valid], batch.positions[:, row].numpy()[:, own]], 1)
            length = len(prompt.input_ids)
            assert (ids[:length][~media[:length]] == prompt.input_ids[~media[:length]]).all()
            assert (places[:, :length] == prompt.positions).all()
            assert (places[:, length:] == prompt.next_position + np.arange(places.shape[1] - length)).all()
            wanted = batch.targets[row].numpy()[own]
            assert tokenizer.decode(wanted[wanted != IGNORE][:-1]) == question.answer
            assert (wanted[wanted != IGNORE][:-1] == ids[length:]).all()


def test_a_letter_is_said_and_its_option_known(tokenizer: Any) -> None:
    packer, rng = Packer(tokenizer), np.random.default_rng(0)
    asked = WorldQuestion("said after", "order", "What is said after river?", "mirror", ("ladder", "window", "music", "river"))
    for style in multiple_choice.STYLES:
        lettered = multiple_choice.as_choice(asked, style, rng)
        block = packer.block(lettered)
        at = len(block.ids) - 1
        assert tokenizer.decode(block.targets[at - 1 : at + 1]) == f"{lettered.answer}<|im_end|>"
        assert tokenizer.decode(block.early[at - 1]) == "mirror"
        assert {*block.early[: at - 1], block.early[at]} == {IGNORE}
    block = packer.block(asked)
    assert block.early == block.targets
