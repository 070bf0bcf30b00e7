"""Qwen2.5-Omni without its weights: a byte-level tokenizer with Qwen's rules and special tokens, and a tiny random thinker.

The tokenizer is transformers' own `Qwen2Tokenizer` class over a handful of merges. Ids are small and not Qwen's, on purpose: nothing
may depend on them. The chat template is the published one.
"""

from __future__ import annotations

from typing import Any

from transformers import (
    Qwen2_5OmniAudioEncoderConfig,
    Qwen2_5OmniTextConfig,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2_5OmniVisionEncoderConfig,
    Qwen2Tokenizer,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

SPECIAL = {
    "audio_token": "<|AUDIO|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
    "image_token": "<|IMAGE|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
}
OTHER_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|box_end|>")
WORDS = ("\u0120the", "\u0120is", "\u0120said", "What", "user", "system", "assistant", "\u010a\u010a", "\u0120\u0120", "<|")
"""Merged words, in the byte alphabet: a blank is U+0120 and a newline U+010A. A double newline and a double blank are among them,
because they are where a tokenizer merges across the border of a question; so is the head of every special token."""

CHAT_TEMPLATE = (
    "{% set audio_count = namespace(value=0) %}{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}"
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}"
    "<|vision_bos|><|IMAGE|><|vision_eos|>"
    "{% elif content['type'] == 'audio' or 'audio' in content or 'audio_url' in content %}"
    "{% set audio_count.value = audio_count.value + 1 %}{% if add_audio_id %}Audio {{ audio_count.value }}: {% endif %}"
    "<|audio_bos|><|AUDIO|><|audio_eos|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set video_count.value = video_count.value + 1 %}{% if add_vision_id %}Video {{ video_count.value }}: {% endif %}"
    "<|vision_bos|><|VIDEO|><|vision_eos|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""`chat_template` of Qwen/Qwen2.5-Omni-7B."""


def make_tokenizer() -> Qwen2Tokenizer:
    """The same ids wherever it is made: nothing is trained."""
    vocab = {byte: index for index, byte in enumerate(bytes_to_unicode().values())}
    merges: list[str] = []
    for word in WORDS:
        for end in range(2, len(word) + 1):
            if word[:end] not in vocab:
                vocab[word[:end]] = len(vocab)
                merges.append(f"{word[: end - 1]} {word[end - 1]}")
    # Unlike the rest of Qwen's added tokens, its tool marks are not special: they stay tokens in user text too.
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=[tuple(m.split(" ")) for m in merges], extra_special_tokens=SPECIAL)
    tokenizer.add_tokens(list(OTHER_SPECIAL), special_tokens=True)
    tokenizer.add_tokens(["<tool_call>"])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def thinker_config(tokenizer: Any) -> Qwen2_5OmniThinkerConfig:
    """A thinker of two layers and sixteen dimensions, with the tokenizer's ids."""
    config = Qwen2_5OmniThinkerConfig(
        audio_config=Qwen2_5OmniAudioEncoderConfig(
            encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=16, d_model=16, output_dim=16
        ),
        vision_config=Qwen2_5OmniVisionEncoderConfig(
            depth=1, hidden_size=16, intermediate_size=16, num_heads=2, out_hidden_size=16, fullatt_block_indexes=[0]
        ),
        text_config=Qwen2_5OmniTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
        ),
        audio_token_index=tokenizer.audio_token_id,
        image_token_index=tokenizer.image_token_id,
        video_token_index=tokenizer.video_token_id,
        audio_start_token_id=tokenizer.audio_bos_token_id,
        audio_end_token_id=tokenizer.audio_eos_token_id,
    )
    config.vision_start_token_id = tokenizer.vision_bos_token_id  # read by get_rope_index, declared nowhere
    return config


def make_thinker(tokenizer: Any) -> Qwen2_5OmniThinkerForConditionalGeneration:
    return Qwen2_5OmniThinkerForConditionalGeneration(thinker_config(tokenizer)).eval()


def conversation(question: str, media: str | None, **kwargs: Any) -> list[dict[str, Any]]:
    """The same chat in transformers' words: `media` is video, audio or None; keywords as for `omnidrop_cli.prompt.chat_template.chat`."""
    from omnidrop_cli.prompt.chat_template import DEFAULT_SYSTEM

    system = kwargs.get("system")
    turns: list[dict[str, Any]] = [{"role": "system", "content": [{"type": "text", "text": DEFAULT_SYSTEM if system is None else system}]}]
    for asked, answer in [*kwargs.get("history", ()), (question, None)]:
        content: list[dict[str, Any]] = [{"type": "text", "text": asked}]
        if media and len(turns) == 1:
            content.insert(0 if kwargs.get("media_first", True) else 1, {"type": media})
        turns.append({"role": "user", "content": content})
        if answer is not None:
            turns.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return turns
