"""Writes `prompts.json` and `prompts.npz`: what transformers' own processor makes of the clips in `inputs.py`.

    python -m tests.golden.make_golden

Needs torchvision next to this project's torch and transformers, and the project's root as working directory. Where torchvision has no
build for the installed torch (CPU-only machines), install its wheel of the matching release without dependencies, in an environment of
its own; the two operators it fails to declare without its compiled part are declared below and never called.

Per clip: SHA-256 and length of ids and of positions, the grid, and a sample of the patches and of the valid mel frames with the sums of
all. Positions come from the stock `get_rope_index` on a tiny random thinker; ids from the stock processor on the published chat template.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from tests.golden.inputs import CASES, Case, frames_of, sample, sound_of

FOLDER = Path(__file__).parent


def declare_operators() -> torch.library.Library:
    """What torchvision registers fakes for on import. The declarations live as long as the returned library."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def make_processor(tokenizer: Any) -> Any:
    from transformers import Qwen2_5OmniProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor, WhisperFeatureExtractor

    return Qwen2_5OmniProcessor(
        image_processor=Qwen2VLImageProcessor(),
        video_processor=Qwen2VLVideoProcessor(cap_pixels_per_frame=False),
        # Qwen/Qwen2.5-Omni-7B, preprocessor_config.json
        feature_extractor=WhisperFeatureExtractor(feature_size=128, chunk_length=300, n_fft=400, hop_length=160, sampling_rate=16_000),
        tokenizer=tokenizer,
        chat_template=tokenizer.chat_template,
    )


def digest(values: Any) -> str:
    return sha256(np.ascontiguousarray(values, dtype="<i8").tobytes()).hexdigest()


def reference(case: Case, processor: Any, thinker: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    from tests.prompt.qwen import conversation

    frames, sound = frames_of(case), sound_of(case)
    chat = conversation(
        case.question, "audio" if frames is None else "video", system=case.system, media_first=case.media_first, history=case.history
    )
    text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    video: dict[str, Any] = {"fps": case.fps, "do_sample_frames": False}
    if case.pixels:
        video["size"] = {"shortest_edge": case.pixels[0], "longest_edge": case.pixels[1]}
    together = frames is not None and sound is not None
    out = processor(
        text=[text],
        videos=None if frames is None else [torch.from_numpy(frames)],
        audio=None if sound is None else [sound],
        videos_kwargs=video,
        audio_kwargs={"truncation": False, "sampling_rate": 16_000},  # the stock default cuts at 300 s
        return_tensors="pt",
        **({"load_audio_from_video": True, "audio_from_video_indices": [0]} if together else {}),
    )
    heard = out["feature_attention_mask"][0].bool() if sound is not None else None
    positions, delta = thinker.get_rope_index(
        out["input_ids"],
        None,
        out.get("video_grid_thw"),
        out["attention_mask"],
        together,
        None if heard is None else heard.sum()[None],
        None if frames is None else torch.as_tensor(out["video_second_per_grid"]),
    )
    ids = out["input_ids"][0].numpy()
    facts: dict[str, Any] = {
        "name": case.name,
        "text": text,
        "tokens": len(ids),
        "ids": digest(ids),
        "positions": digest(positions[:, 0].numpy()),
        "next_position": len(ids) + int(delta[0]),
    }
    arrays = {}
    if frames is not None:
        patches = out["pixel_values_videos"].numpy()
        facts["grid_thw"] = out["video_grid_thw"][0].tolist()
        facts["patch_sum"] = float(patches.sum(dtype=np.float64))
        arrays[f"{case.name}.patches"] = sample(patches)
    if heard is not None:
        mel = out["input_features"][0][:, heard].numpy()
        facts["mel_frames"] = mel.shape[1]
        facts["mel_sum"] = float(mel.sum(dtype=np.float64))
        arrays[f"{case.name}.mel"] = sample(mel)
    return facts, arrays


def main() -> None:
    library = declare_operators()  # before anything imports torchvision, and transformers' models do
    from tests.prompt.qwen import make_thinker, make_tokenizer

    tokenizer = make_tokenizer()
    processor, thinker = make_processor(tokenizer), make_thinker(tokenizer)
    facts, arrays = [], {}
    for case in CASES:
        fact, array = reference(case, processor, thinker.model)
        facts.append(fact)
        arrays |= array
    made_with = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
    (FOLDER / "prompts.json").write_text(json.dumps({"made_with": made_with, "prompts": facts}, indent=1, ensure_ascii=False) + "\n")
    np.savez_compressed(FOLDER / "prompts.npz", **arrays)
    del library


if __name__ == "__main__":
    main()
