"""Writes weights in training as a checkpoint that transformers and this package load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.model.checkpoint import TRAINED_PARTS_FILE
from omnidrop_cli.nano.train.model_shape import MAX_PIXELS, MIN_PIXELS
from omnidrop_cli.prune.audio_selector import save_selector

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2_5OmniThinkerForConditionalGeneration

    from omnidrop_cli.prune.audio_selector import AudioSelector

PREPROCESSOR = {
    "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": 128,
    "hop_length": 160,
    "n_fft": 400,
    "sampling_rate": 16000,
    "return_attention_mask": True,
    "min_pixels": MIN_PIXELS,
    "max_pixels": MAX_PIXELS,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
"""Qwen2.5-Omni's own, but for the pixel bounds."""


def export(
    model: Qwen2_5OmniThinkerForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    directory: Path,
    selector: AudioSelector | None = None,
) -> None:
    """Write config, bf16 weights, tokenizer, generation and preprocessor configs, and OmniSIFT's selector next to the weights.

    Without a selector none is left there: an earlier one was trained for other weights. Raises `OmnidropError` where they cannot be
    written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        model.to(torch.bfloat16).save_pretrained(str(directory))
        tokenizer.save_pretrained(str(directory))
        if selector is None:
            (directory / TRAINED_PARTS_FILE).unlink(missing_ok=True)
        else:
            save_selector(selector, directory / TRAINED_PARTS_FILE)
        (directory / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OmnidropError(f"{directory}: cannot write the checkpoint ({error})", "check the directory and the free space") from error
