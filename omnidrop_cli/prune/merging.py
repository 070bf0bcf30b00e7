"""Contextual audio anchors: what is not selected lives on in a few tokens that absorb their likest neighbours (OmniZip 3.2).

Knows: choosing anchors among the remainder, merging candidates into them. Does not know: how the selected tokens were scored.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from omnidrop_cli.prune import topk

MAX_COSINES = 1 << 24
"""Largest block of cosines held at once (64 MiB in float32), so that memory grows with the clip and not with its square."""


@dataclass(frozen=True, slots=True)
class MergedAudio:
    """`index` (keep,) ascending, and the embeddings those tokens carry."""

    index: Tensor
    embeds: Tensor


def contextual_count(present: int, keep: int, share: float) -> int:
    """round(share * present) anchors, at most half of what is kept, so that small budgets still hold selected tokens."""
    return min(round(share * present), keep // 2, present)


def select_and_merge(audio: Tensor, scores: Tensor, video: Tensor, keep: int, *, share: float, merge: int) -> MergedAudio:
    """Keep `keep` of `audio` (n, d): the highest `scores`, and anchors at an even stride through the rest.

    Every other token belongs to its most similar anchor; of an anchor's tokens the `merge` most like any of `video` (m, d) are
    absorbed: (anchor + sum w_i a_i) / (1 + sum w_i), w the softmax of their similarity. The remaining ones vanish. Without pictures
    the similarity is the one to the anchor.
    """
    present = audio.shape[0]
    anchors = contextual_count(present, keep, share)
    selected = topk.top(scores, keep - anchors)
    if not anchors:
        return MergedAudio(selected, audio[selected])
    rest = topk.without(selected, present)
    stride = rest.shape[0] // anchors
    at = torch.arange(anchors, device=audio.device) * stride
    anchor, pool = rest[at], rest[topk.without(at, rest.shape[0])]
    kept = torch.cat((selected, anchor)).sort().values
    if not pool.shape[0] or not merge:
        return MergedAudio(kept, audio[kept])
    unit = normalize(audio.float(), dim=-1)
    to_anchor, owner = _nearest(unit[pool], unit[anchor])
    similarity = _nearest(unit[pool], normalize(video.float(), dim=-1))[0] if video.shape[0] else to_anchor
    merged = audio.float().index_copy(0, anchor, _absorbed(audio.float(), anchor, pool, owner, similarity, merge))
    return MergedAudio(kept, merged[kept].to(audio.dtype))


def _nearest(some: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Highest cosine of each row of `some` with any of `others` (both of unit length), and which."""
    block = max(1, MAX_COSINES // others.shape[0])
    best = [(part @ others.T).max(dim=1) for part in some.split(block)]
    return torch.cat([b.values for b in best]), torch.cat([b.indices for b in best])


def _absorbed(audio: Tensor, anchor: Tensor, pool: Tensor, owner: Tensor, similarity: Tensor, merge: int) -> Tensor:
    """(anchors, d) what the anchors become."""
    anchors = anchor.shape[0]
    rank = topk.ranks_within(similarity, owner, anchors)
    # A table of `merge` places per anchor; tokens ranked beyond it share the spare place at the end, which nobody reads.
    place = torch.where(rank < merge, owner * merge + rank, anchors * merge)
    size = anchors * merge + 1
    scores = torch.full((size,), float("-inf"), device=audio.device).scatter(0, place, similarity)[:-1].view(anchors, merge)
    token = torch.zeros(size, dtype=torch.int64, device=audio.device).scatter(0, place, pool)[:-1].view(anchors, merge)
    weights = scores.softmax(dim=1).nan_to_num(0.0)  # an anchor nobody belongs to has no score at all
    total = (weights[..., None] * audio[token]).sum(dim=1)
    return (audio[anchor] + total) / (1 + weights.sum(dim=1, keepdim=True))
