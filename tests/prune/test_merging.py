"""Audio anchors against OmniZip's rule written as loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from omnidrop_cli.prune import distances, merging
from omnidrop_cli.prune.merging import select_and_merge


def merged_slowly(audio: Tensor, scores: Tensor, video: Tensor, keep: int, share: float, merge: int) -> dict[int, Tensor]:
    """Kept index -> embedding, one token at a time."""
    n = len(audio)

    def cosine(a: Tensor, b: Tensor) -> float:
        return torch.cosine_similarity(a.double(), b.double(), dim=0).item()

    count = min(round(share * n), keep // 2, n)
    order = sorted(range(n), key=lambda i: (scores[i].item(), i), reverse=True)
    selected = order[: keep - count]
    rest = [i for i in range(n) if i not in selected]
    places = [i * (len(rest) // count) for i in range(count)] if count else []
    chosen = [rest[i] for i in places]
    pool = [i for i in rest if i not in chosen]
    owner = {i: max(chosen, key=lambda a: cosine(audio[i], audio[a])) for i in pool} if chosen else {}
    like = {i: max(cosine(audio[i], v) for v in video) if len(video) else cosine(audio[i], audio[owner[i]]) for i in pool if i in owner}
    kept = {i: audio[i] for i in selected}
    for a in chosen:
        mine = sorted((i for i in pool if owner[i] == a), key=lambda i: like[i], reverse=True)[:merge]
        weights = [math.exp(like[i]) for i in mine]
        total = sum(weights)
        new = audio[a].double()
        for i, w in zip(mine, weights, strict=True):
            new = new + w / total * audio[i].double()
        kept[a] = (new / (2 if mine else 1)).float()
    return kept


@settings(max_examples=60)
@given(
    n=st.integers(1, 40), seen=st.integers(0, 6), share=st.floats(0, 0.5), merge=st.integers(0, 4), seed=st.integers(0, 999), data=st.data()
)
def test_anchors_absorb_what_the_rule_says(n: int, seen: int, share: float, merge: int, seed: int, data: st.DataObject) -> None:
    generator = torch.Generator().manual_seed(seed)
    audio, video = torch.randn(n, 6, generator=generator), torch.randn(seen, 6, generator=generator)
    scores = torch.rand(n, generator=generator)
    keep = data.draw(st.integers(1, n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "MAX_COSINES", data.draw(st.sampled_from([1, 20, 1 << 24])))
        patch.setattr(distances, "BLOCK", data.draw(st.sampled_from([1, 20, 1 << 24])))
        got = select_and_merge(audio, scores, video, keep, share=share, merge=merge)
    expected = merged_slowly(audio, scores, video, keep, share, merge)
    assert got.index.tolist() == sorted(expected)
    torch.testing.assert_close(got.embeds, torch.stack([expected[i] for i in sorted(expected)]))


def test_half_precision_stays() -> None:
    got = select_and_merge(torch.randn(40, 8).bfloat16(), torch.rand(40), torch.randn(9, 8).bfloat16(), 20, share=0.1, merge=3)
    assert got.embeds.dtype == torch.bfloat16
    assert len(got.index) == 20


@pytest.mark.parametrize(("present", "keep", "expected"), [(100, 75, 5), (100, 6, 3), (100, 1, 0), (8, 4, 0)])
def test_anchors_take_at_most_half_of_the_budget(present: int, keep: int, expected: int) -> None:
    assert merging.contextual_count(present, keep, 0.05) == expected
