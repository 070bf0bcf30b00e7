"""Choosing tokens on the device when every count is already known on the host.

Stable top-k, keep counts and shares per segment, temporal diversity (OmniDrop Alg. 1), temporal merging (DyCoke TTM). Nothing here waits
for the device, and equal scores are settled by the lowest index, so the same scores give the same tokens everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BLOCK = 16
"""Video frames compared at once; bounds the float32 copy that a comparison needs."""


def highest(scores: Tensor, keep: int) -> Tensor:
    """Indices of the `keep` highest of `scores` (m,), in any order. Among equals the lowest index is dropped first."""
    return scores.sort(stable=True).indices[scores.shape[0] - keep :]


def top(scores: Tensor, keep: int) -> Tensor:
    """`highest`, ascending."""
    return ascending(highest(scores, keep), scores.shape[0])


def lowest(scores: Tensor, count: int) -> Tensor:
    """Indices of the `count` lowest of `scores` (m,), lowest first; among equals the lowest index first."""
    return scores.sort(stable=True).indices[:count]


def true_indices(mask: Tensor, count: int) -> Tensor:
    """Ascending indices of the `count` true entries of `mask`: `nonzero` without asking the device how many there are."""
    return zeros_first(mask.logical_not().view(torch.uint8), count)


def zeros_first(kinds: Tensor, count: int) -> Tensor:
    """The first `count` indices of `kinds` (m,) uint8 where 0 comes before 1, each in ascending order.

    A GPU sorts by a byte at a time: bytes pass once where int64 indices pass eight times.
    """
    return kinds.sort(stable=True).indices[:count]


def ascending(chosen: Tensor, present: int) -> Tensor:
    """`chosen` indices into `present` tokens (no repeats), in ascending order."""
    others = torch.ones(present, dtype=torch.uint8, device=chosen.device).index_fill_(0, chosen, 0)
    return zeros_first(others, chosen.shape[0])


def without(dropped: Tensor, alive: int) -> Tensor:
    """Ascending indices into `alive` tokens that are not in `dropped` (no repeats)."""
    gone = torch.zeros(alive, dtype=torch.uint8, device=dropped.device).index_fill_(0, dropped, 1)
    return zeros_first(gone, alive - dropped.shape[0])


def on_device(numbers: Sequence[int], like: Tensor) -> Tensor:
    """Host counts as an int64 tensor on the device of `like`."""
    return torch.tensor(numbers, dtype=torch.int64).to(like.device, non_blocking=True)


def segment_sizes(segment: Tensor, segments: int) -> Tensor:
    """(segments,) int64: how many tokens each segment has."""
    ones = torch.ones_like(segment, dtype=torch.int64)
    return torch.zeros(segments, dtype=torch.int64, device=segment.device).scatter_add_(0, segment, ones)


def ranks_within(scores: Tensor, segment: Tensor, segments: int) -> Tensor:
    """(m,) rank of each token in its segment, 0 the highest score; among equals the highest index ranks first, as in `top`.

    `segment` (m,) numbers the segments from 0.
    """
    order = scores.sort(stable=True).indices.flip(0)
    order = order[segment[order].sort(stable=True).indices]
    sizes = segment_sizes(segment, segments)
    starts = sizes.cumsum(0) - sizes
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(order.shape[0], device=order.device) - starts[segment[order]]
    return ranks


def top_within(scores: Tensor, segment: Tensor, keep_counts: Sequence[int]) -> Tensor:
    """Ascending indices of the `keep_counts[i]` highest scores of every segment i, none of them larger than its segment."""
    kept = ranks_within(scores, segment, len(keep_counts)) < on_device(keep_counts, segment)[segment]
    return true_indices(kept, sum(keep_counts))


def top_by_share(scores: Tensor, segment: Tensor, shares: Tensor, keep: int) -> Tensor:
    """Ascending indices of exactly `keep` tokens, split over segments in proportion to `shares` (segments,), best scores first.

    Where budgets depend on scores they are on the device, and rounding them there to a known sum is what published code does in
    host loops. Sainte-Lague's rule does it by sorting: a segment's r-th best token (from 0) has priority share / (r + 1/2), and
    the `keep` highest go. A segment that runs out of tokens leaves the rest to the others.
    """
    ranks = ranks_within(scores, segment, shares.shape[0])
    cost = (ranks + 0.5) / shares.float().clamp(min=torch.finfo(torch.float32).tiny)[segment]
    return ascending(lowest(cost, keep), cost.shape[0])


def diverse(scores: Tensor, chunk: Tensor, keep: int, *, weight: float, normalise: bool) -> Tensor:
    """Indices, in any order, of the `keep` survivors of Algorithm 1 (temporal diversity score).

    Of `scores` (m,), the 2k lowest are candidates (k = m - keep); their distance in chunks to the best-attended token's chunk, over
    the largest chunk, is added with `weight`, and the k lowest sums go. `normalise` first divides the scores by their maximum: raw
    softmax mass (1e-5 to 1e-3) is far smaller than the distance term, which then decides alone.
    """
    dropped = scores.shape[0] - keep
    key_chunk = chunk.gather(0, scores.argmax(dim=0, keepdim=True))  # indexing with a scalar tensor would wait for the device
    distance = (key_chunk - chunk).abs_() / chunk.max().clamp(min=1)
    base = scores / scores.max().clamp(min=torch.finfo(scores.dtype).tiny) if normalise else scores
    sums = torch.add(base, distance, alpha=weight)
    if 2 * dropped < scores.shape[0]:
        sums.index_fill_(0, scores.sort(stable=True).indices[2 * dropped :], float("inf"))
    return sums.sort(stable=True).indices[dropped:]


def merge_references(frames: int) -> list[int]:
    """The frame each frame is compared with (DyCoke TTM): in a group of 4, 1 and 2 with 0, 3 with 2; an anchor with the one before.

    The first anchor has none, which is written as itself; DyCoke's code leaves the last group's frame 2 whole and discards an odd
    last frame, neither of which follows from its paper and neither of which is done here.
    """
    return [max(0, frame - 4) if frame % 4 == 0 else frame - (2 - frame % 2) for frame in range(frames)]


def similarity_to(video: Tensor, frame_size: int, references: Sequence[int]) -> Tensor:
    """(frames, frame_size) float32 cosine of each token of `video` (frames * frame_size, d) with the same place of another frame.

    A frame that refers to itself is compared with its own mean.
    """
    frames = video.view(-1, frame_size, video.shape[-1])
    other = on_device(references, video)
    parts = []
    for start in range(0, frames.shape[0], BLOCK):
        these = frames[start : start + BLOCK].float()
        those = other[start : start + BLOCK]
        theirs = frames[those].float()
        itself = those == torch.arange(start, start + these.shape[0], device=video.device)
        theirs = torch.where(itself[:, None, None], these.mean(dim=1, keepdim=True), theirs)
        parts.append(torch.cosine_similarity(these, theirs, dim=-1))
    return torch.cat(parts)


def least_similar(similarity: Tensor, keep: Sequence[int]) -> Tensor:
    """Ascending indices into the frames' tokens: of each row of `similarity` (frames, size) the `keep[i]` lowest."""
    order = similarity.sort(dim=1, stable=True).indices
    ranks = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
    return true_indices((ranks < on_device(keep, order)[:, None]).flatten(), sum(keep))


def temporally_merged(video: Tensor, frame_size: int, keep: Sequence[int]) -> Tensor:
    """Ascending indices of the `keep[i]` tokens of every frame i least like their reference frame: DyCoke's temporal merging.

    Nothing is averaged, despite the name. An anchor kept only in part (video rates below 25 %) is ranked against the anchor of the
    group before, the first against its own mean.
    """
    return least_similar(similarity_to(video, frame_size, merge_references(len(keep))), keep)
