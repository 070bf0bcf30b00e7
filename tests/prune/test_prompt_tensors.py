"""The prompt's tokens by kind, as a layer's view reads them."""

from __future__ import annotations

import torch

from omnidrop_cli.outputs import Modality
from omnidrop_cli.prune.state import _PromptTensors
from tests.prune.fakes import SHAPES


def test_late_text_follows_the_first_token_of_the_clip() -> None:
    """Text before the clip cannot attend to it."""
    tokens = SHAPES["long"]
    found = _PromptTensors.of(tokens, torch.device("cpu"))
    media = [at for at, kind in enumerate(tokens.modality) if kind != Modality.TEXT]
    text = [at for at, kind in enumerate(tokens.modality) if kind == Modality.TEXT]
    assert found.late_text.tolist() == [at for at in text if at > media[0]]
    assert 0 < len(found.late_text) < len(found.text)
    assert found.media.tolist() == media
    assert sorted([*found.audio.tolist(), *found.video.tolist()]) == media
