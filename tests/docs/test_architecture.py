"""The numbers of the tour in docs/develop/architecture.md, from the run that it describes."""

from __future__ import annotations

import numpy as np

import omnidrop_cli as omnidrop
from tests.docs.blocks import ROOT

TEXT = (ROOT / "docs" / "develop" / "architecture.md").read_text(encoding="utf-8")
TOKEN = 114


def test_the_tour_follows_a_real_token() -> None:
    report = omnidrop.load("nano").ask("demo", "What is said while the car is shown?", method="omnidrop", preset="paper-30")
    tokens, kept = report.token_map, report.trace.kept
    assert tokens is not None
    media = [indices[tokens.modality[indices] != omnidrop.Modality.TEXT] for indices in kept]

    def place(indices: np.ndarray) -> int:
        return int(np.flatnonzero(indices == TOKEN)[0])

    prompt = report.prompt
    assert f"has {prompt.total} tokens: {prompt.text} of text, {prompt.audio} of audio, {prompt.video} of video" in TEXT
    assert f"an audio token at {tokens.time_s[TOKEN]:.2f} s" in TEXT
    assert f"modality index {place(tokens.rows(omnidrop.Modality.AUDIO))} " in TEXT
    assert f"row {place(kept[0])} | the {len(kept[0])} tokens that enter" in TEXT
    assert f"row {place(kept[7])} | the {len(kept[7])} tokens still alive" in TEXT
    assert f"view index {place(media[7])} " in TEXT
    assert TOKEN not in kept[8]
    assert f"({len(kept[0])} in layer 0, {len(kept[-2])} in the last)" in TEXT
