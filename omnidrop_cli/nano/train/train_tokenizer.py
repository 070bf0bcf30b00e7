"""The nano model's tokenizer: Qwen's special tokens and chat template, whole words of its world, single bytes for all else.

Any text tokenises and comes back unchanged, but for one leading space, which decoding strips: an answer starts with the same token as the
same word inside a sentence.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omnidrop_cli.nano.world import multiple_choice
from omnidrop_cli.nano.world.questions import WORDINGS
from omnidrop_cli.nano.world.vocabulary import MAX_NUMBER, PLACES, media_classes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SYSTEM = (
    "You are Qwen, a virtual human developed by the Qwen Team, Alibaba Group, capable of perceiving auditory and visual inputs, "
    "as well as generating text and speech."
)
"""Qwen2.5-Omni's own system prompt."""

SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>", "<|box_end|>",
    "<|quad_start|>", "<|quad_end|>", "<|vision_bos|>", "<|vision_eos|>", "<|vision_pad|>", "<|IMAGE|>", "<|VIDEO|>",
)  # fmt: skip
"""Names as in Qwen2.5-Omni's tokenizer."""

PHRASES = (
    SYSTEM, multiple_choice.VIDEOMME_HEAD, multiple_choice.VIDEOMME_TAIL,
    multiple_choice.WORLDSENSE_MIDDLE, multiple_choice.WORLDSENSE_TAIL,
    multiple_choice.DAILYOMNI_HEAD.removesuffix(" "), "\nChoices:", multiple_choice.DAILYOMNI_TAIL,
    "Please analyze the video carefully and select the most appropriate answer from the given options.",
)  # fmt: skip
"""Fixed sentences of prompts, one token each: the small model need not read them word by word."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n" + SYSTEM + "<|im_end|>\n"
    "{% endif %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>"
    "{% elif part['type'] == 'video' %}<|vision_bos|><|VIDEO|><|vision_eos|>{% elif part['type'] == 'image' %}"
    "<|vision_bos|><|IMAGE|><|vision_eos|>{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def words() -> list[str]:
    """Every string that is one token, without special tokens, phrases and bytes, in a fixed order."""
    spoken = " ".join(text.format(a="") for wordings in WORDINGS.values() for text in wordings)
    inner = [word.strip("?.,") for word in spoken.split()]
    things = [name for name in media_classes() if name not in PLACES]
    names = [*things, *(str(n) for n in range(MAX_NUMBER + 1)), "yes", "no", *PLACES, "middle"]
    names += [
        "first",
        "second",
        "half",
        "both",
        "the",
        "number",
        "sign",
        "word",
        "video",
        "clip",
        *multiple_choice.LETTERS,
        "[",
        "'",
        "']",
        "',",
    ]
    starts = [text.split()[0] for wordings in WORDINGS.values() for text in wordings]
    tokens = [" " + name for name in [*names, *inner] if name]
    tokens += [" ['", *starts, "system", "user", "assistant", "\n", ".", ",", "?", ", ", "'", "]", ":", "',", "']"]
    return list(dict.fromkeys(tokens))


def build() -> PreTrainedTokenizerFast:
    """The tokenizer, made from nothing but the lists above."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    vocabulary = {symbol: index for index, symbol in enumerate(alphabet)}
    for word in words():
        pieces = [piece for piece, _ in splitter.pre_tokenize_str(word)]
        if len(pieces) == 1:
            vocabulary.setdefault(pieces[0], len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(content=" ", left=1, right=0)])
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    tokenizer.add_tokens([AddedToken(phrase, special=False, normalized=False) for phrase in PHRASES])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=32768,
        clean_up_tokenization_spaces=False,
    )


def save(directory: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json."""
    build().save_pretrained(str(directory))


def row_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """Media class name to the id of its one token."""
    ids: dict[str, int] = {}
    for name in media_classes():
        encoded = tokenizer.encode(" " + name, add_special_tokens=False)
        if len(encoded) != 1:
            raise ValueError(f"{name!r} is {len(encoded)} tokens, not one")
        ids[name] = encoded[0]
    return ids
