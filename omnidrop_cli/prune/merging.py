"""Token merging of audio: of the tokens that are not selected, a few contextual ones stay and merge similar others (OmniZip, Sec. 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from omnidrop_cli.prune import topk
from omnidrop_cli.prune.cosines import Directions

MAX_COSINES = 1 << 24
"""Most cosines held at once (64 MiB in float32), so that memory grows with the clip and not with its square."""


@dataclass(frozen=True, slots=True)
class MergedAudio:
    """Kept audio tokens: `index` (keep,) ascending, and their `embeds` (keep, d) after merging."""

    index: Tensor
    embeds: Tensor


def contextual_count(present: int, keep: int, share: float) -> int:
    """round(share * present) contextual tokens, at most half of `keep`, so that small budgets still hold selected tokens."""
    return min(round(share * present), keep // 2, present)


def select_and_merge(audio: Tensor, scores: Tensor, video: Tensor, keep: int, *, share: float, merge: int) -> MergedAudio:
    """Keep `keep` audio tokens: those with the highest scores, and contextual tokens at an even stride through the rest.

    Every other token is assigned to its most similar contextual token c. Of those assigned to c, the `merge` most similar to any video
    token are merged: (c + sum w_i a_i) / (1 + sum w_i), w the softmax of their similarities. The remaining ones are dropped. Without
    video the similarity is the one to c.

    Args:
        audio: (n, d) embeddings.
        scores: (n,) importance.
        video: (m, d) embeddings.
        keep: tokens kept, contextual ones included.
        share: contextual tokens as a share of n.
        merge: tokens merged into each contextual token (G).
    """
    present = audio.shape[0]
    count = contextual_count(present, keep, share)
    selected = topk.top(scores, keep - count)
    if not count:
        return MergedAudio(selected, audio[selected])
    rest = topk.without(selected, present)
    at = torch.arange(count, device=audio.device) * (rest.shape[0] // count)
    contextual, pool = rest[at], rest[topk.without(at, rest.shape[0])]
    kept = topk.ascending(torch.cat((selected, contextual)), present)
    if not pool.shape[0] or not merge:
        return MergedAudio(kept, audio[kept])
    unit = Directions.of(audio)
    to_contextual, target = unit[pool].nearest(unit[contextual], MAX_COSINES)
    similarity = unit[pool].highest(Directions.of(video), MAX_COSINES) if video.shape[0] else to_contextual
    merged = _merged(audio.float(), contextual, pool, target, similarity, merge)
    return MergedAudio(kept, audio.float().index_copy(0, contextual, merged)[kept].to(audio.dtype))


def _merged(audio: Tensor, contextual: Tensor, pool: Tensor, target: Tensor, similarity: Tensor, merge: int) -> Tensor:
    """(c, d) embeddings of the `contextual` tokens after merging, where `target` (p,) assigns each token of `pool` (p,) to one of them."""
    count = contextual.shape[0]
    rank = topk.ranks_within(similarity, target, count)
    # A table of `merge` places per contextual token; tokens of a higher rank share one spare place at the end, which is dropped.
    place = torch.where(rank < merge, target * merge + rank, count * merge)
    size = count * merge + 1
    scores = torch.full((size,), float("-inf"), device=audio.device).scatter(0, place, similarity)[:-1].view(count, merge)
    token = torch.zeros(size, dtype=torch.int64, device=audio.device).scatter(0, place, pool)[:-1].view(count, merge)
    weights = scores.softmax(dim=1).nan_to_num(0.0)  # no score at all where no token was assigned
    total = (weights[..., None] * audio[token]).sum(dim=1)
    return (audio[contextual] + total) / (1 + weights.sum(dim=1, keepdim=True))
