"""Whole prompts against transformers' own processor and `get_rope_index`, recorded by `tests/golden/make_golden.py`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from omnidrop_cli.prompt.build import build
from omnidrop_cli.prompt.patches import patchify, resize
from omnidrop_cli.prompt.spec import PromptSpec
from tests.golden.inputs import CASES, Case, clip_of, frames_of, sample, sound_of
from tests.golden.make_golden import digest

FOLDER = Path(__file__).parents[1] / "golden"
FACTS = {facts["name"]: facts for facts in json.loads((FOLDER / "prompts.json").read_text())["prompts"]}


@pytest.fixture(scope="module")
def samples() -> Any:
    with np.load(FOLDER / "prompts.npz") as arrays:
        yield dict(arrays)


def test_every_case_is_recorded() -> None:
    assert set(FACTS) == {case.name for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_prompt_is_the_reference(case: Case, tokenizer: Any, spec: PromptSpec, samples: Any) -> None:
    facts, frames = FACTS[case.name], frames_of(case)
    if frames is not None:
        _, rows, cols = facts["grid_thw"]
        size = rows * spec.patch_size, cols * spec.patch_size
        frames = frames if size == case.size else resize(torch.from_numpy(frames), *size).numpy()
    prompt = build(
        [clip_of(case, frames, sound_of(case))],
        case.question,
        tokenizer,
        replace(spec, max_positions=1 << 20),
        system=case.system,
        media_first=case.media_first,
        history=case.history,
    )
    assert prompt.text == facts["text"]
    assert len(prompt) == facts["tokens"]
    assert digest(prompt.input_ids) == facts["ids"]
    assert digest(prompt.positions) == facts["positions"]
    assert prompt.next_position == facts["next_position"]

    assert (prompt.media[0].frames is None) == ("grid_thw" not in facts)
    if prompt.media[0].frames is not None:
        assert prompt.media[0].grid_thw == tuple(facts["grid_thw"])
        _agree(patchify(torch.from_numpy(prompt.media[0].frames), spec).numpy(), samples[f"{case.name}.patches"], facts["patch_sum"])
    assert (prompt.media[0].mel is None) == ("mel_frames" not in facts)
    if prompt.media[0].mel is not None:
        assert prompt.media[0].mel.shape == (spec.n_mels, facts["mel_frames"])
        _agree(prompt.media[0].mel, samples[f"{case.name}.mel"], facts["mel_sum"])


def _agree(values: Any, sampled: Any, total: float) -> None:
    np.testing.assert_allclose(sample(values), sampled, rtol=0, atol=1e-4)
    assert abs(values.sum(dtype=np.float64) - total) <= 1e-5 * values.size
