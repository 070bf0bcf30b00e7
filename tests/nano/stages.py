"""The four stages on a miniature model, at a size that takes a moment."""

from __future__ import annotations

from typing import Any

from omnidrop_cli.nano.train.decoder_stage import DecoderStage
from omnidrop_cli.nano.train.encoder_stage import EncoderStage
from omnidrop_cli.nano.train.joint_stage import JointStage
from omnidrop_cli.nano.train.prefetch import Lengths, Stream
from omnidrop_cli.nano.train.selector_stage import SelectorStage
from omnidrop_cli.nano.world.voices import VoiceBank

SHORT = (Lengths(1.0, 2, 4, 0.0, 2, 2),)
MEDIA_LAYERS = 3
BLOCK_TOKENS = 60


def encoders(model: Any, tokenizer: Any, bank: VoiceBank) -> EncoderStage:
    return EncoderStage(model, tokenizer, bank, (0,), clips=3)


def decoder(model: Any, tokenizer: Any, bank: VoiceBank | None = None) -> DecoderStage:
    """Hears nothing; a bank is taken so that all are built alike."""
    return DecoderStage(model, tokenizer, MEDIA_LAYERS, clips=2, block_tokens=BLOCK_TOKENS)


def joint(model: Any, tokenizer: Any, bank: VoiceBank) -> JointStage:
    return JointStage(model, tokenizer, Stream.of(model, tokenizer, bank, (0,), SHORT), MEDIA_LAYERS, BLOCK_TOKENS)


def selector(model: Any, tokenizer: Any, bank: VoiceBank) -> SelectorStage:
    return SelectorStage(model, tokenizer, Stream.of(model, tokenizer, bank, (0,), SHORT), MEDIA_LAYERS, BLOCK_TOKENS)
