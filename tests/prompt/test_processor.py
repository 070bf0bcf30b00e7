"""Several real clips through transformers' own `Qwen2_5OmniProcessor`: ids, positions, mel and patches.

Runs where torchvision is installed, which the stock video processor needs and this project does not (`tests/golden/make_golden.py`
says why it is declared by hand):

    python -m pip install --no-deps --target DIR torchvision
    PYTHONPATH=DIR:. python -m tests.prompt.test_processor
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch

from tests.golden.make_golden import declare_operators, make_processor

if __name__ == "__main__":  # transformers imports torchvision with its models, so what that lacks is declared before
    LIBRARY = declare_operators()
    raise SystemExit(pytest.main([__file__, "-q"]))

from omnidrop_cli.media.clip import decode_media
from omnidrop_cli.prompt.build import build
from omnidrop_cli.prompt.patches import patchify
from omnidrop_cli.prompt.spec import PromptSpec
from tests.clips import Clips
from tests.prompt.qwen import conversation
from tests.prompt.test_several_clips import MIXED, QUESTION, SAME_KIND, SMALL, stock_positions

pytestmark = pytest.mark.skipif(find_spec("torchvision") is None, reason="the stock video processor needs torchvision")


@pytest.fixture(scope="module")
def processor(tokenizer: Any) -> Any:
    return make_processor(tokenizer)


@pytest.mark.parametrize("names", SAME_KIND + MIXED)
def test_the_processor_gives_the_same(
    names: tuple[str, ...], clips: Clips, tokenizer: Any, spec: PromptSpec, thinker: Any, processor: Any
) -> None:
    """With one second per pair of frames, the processor's own value: it takes one frame rate for all videos of a call."""
    decoded = [decode_media(clips[name], SMALL) for name in names]
    prompt = build(decoded, QUESTION, tokenizer, replace(spec, seconds_per_grid=1.0))
    chat = conversation(QUESTION, None)
    chat[-1]["content"][:0] = [{"type": "audio" if clip.frames is None else "video"} for clip in decoded]
    videos = [torch.from_numpy(clip.frames) for clip in decoded if clip.frames is not None]
    sounds = [clip.waveform for clip in decoded if clip.waveform is not None]
    numbers = iter(range(len(videos)))
    of_clip = [None if clip.frames is None else next(numbers) for clip in decoded]
    together = {
        "load_audio_from_video": True,
        "audio_from_video_indices": [i for i, c in zip(of_clip, decoded, strict=True) if c.has_audio],
    }
    out = processor(
        text=[processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)],
        videos=videos or None,
        audio=sounds or None,
        videos_kwargs={"do_sample_frames": False, "do_resize": False},
        audio_kwargs={"truncation": False, "sampling_rate": 16_000},
        return_tensors="pt",
        **(together if videos and sounds else {}),
    )
    assert np.array_equal(out["input_ids"][0].numpy(), prompt.input_ids)
    for ours, mel, mask in zip(
        [media.mel for media in prompt.media if media.mel is not None],
        out["input_features"] if sounds else [],
        out["feature_attention_mask"] if sounds else [],
        strict=True,
    ):
        np.testing.assert_allclose(ours, mel[:, mask.bool()].numpy(), rtol=0, atol=1e-4)
    frames = [media.frames for media in prompt.media if media.frames is not None]
    if frames:
        patches = torch.cat([patchify(torch.from_numpy(one), spec) for one in frames])
        assert torch.equal(patches, out["pixel_values_videos"])
        assert out["video_grid_thw"].tolist() == [list(media.grid_thw) for media in prompt.media if media.grid_thw is not None]
    if names in SAME_KIND:  # positions of the others the stock model cannot give
        assert np.array_equal(prompt.positions, stock_positions(prompt, thinker)[0])
