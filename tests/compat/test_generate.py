"""transformers' own `generate` under pruning hooks gives what the engine's own loop gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from omnidrop_cli.config import GenerationConfig, PruningConfig, Request
from omnidrop_cli.engine.encode import embed
from omnidrop_cli.engine.encoded_prompt import PromptSource
from omnidrop_cli.engine.session import Session
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.model.thinker import Thinker
from omnidrop_cli.prune.generate_hook import pruning
from omnidrop_cli.prune.methods import get_method
from tests.clips import Clips

TOKENS = 12
METHODS = [PruningConfig("none"), *(PruningConfig(name, 0.3) for name in ("omnidrop", "seats", "fastv", "divprune", "omnizip"))]


@pytest.fixture(scope="module")
def thinker() -> Thinker:
    return tiny_thinker(5)


@pytest.fixture(scope="module")
def clip(clips: Clips) -> Path:
    return clips["speech_video"]


@pytest.mark.parametrize("choice", METHODS, ids=lambda choice: choice.name)
def test_stock_generate_equals_the_own_loop(choice: PruningConfig, thinker: Thinker, clip: Path) -> None:
    session = Session(thinker)
    request = Request(str(clip), "What is said?", method=choice, generation=GenerationConfig(max_new_tokens=TOKENS))
    encoded = session.encode(PromptSource(request))
    report = session.answer(encoded)

    prompt, features = encoded.prompt, encoded.features
    ids = torch.from_numpy(prompt.input_ids)[None]
    method = get_method(choice)
    audio, video = features.attention_for(method.needs)
    hooked = pruning(thinker.model, method, prompt.token_map, audio_attention=audio, video_attention=video)
    with torch.inference_mode(), hooked as state:
        tokens = thinker.model.generate(
            inputs_embeds=embed(thinker, prompt, features),
            attention_mask=torch.ones_like(ids),
            position_ids=torch.from_numpy(prompt.positions)[:, None],
            max_new_tokens=TOKENS,
            do_sample=False,
            eos_token_id=list(thinker.eos_ids),
            pad_token_id=thinker.pad_id,
        )[0].tolist()
    assert state.trace().kv_lengths == report.trace.kv_lengths
    assert all((mine == theirs).all() for mine, theirs in zip(state.trace().kept, report.trace.kept, strict=True))
    assert tokens[: len(report.answer.token_ids)] == list(report.answer.token_ids)
