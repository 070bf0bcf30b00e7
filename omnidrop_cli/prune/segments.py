"""Segments of a clip that follow its audio, and the video frames in each (DASH, arXiv 2603.15685).

Cosines between neighbouring audio tokens go in, segment and frame numbers of every token come out, without a device synchronisation: the
number of segments is bounded on the host, and everything that depends on values stays in tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from omnidrop_cli.prune import diversity, topk
from omnidrop_cli.prune.groups import MediaLayout


def audio_segments(cosine: Tensor, threshold: float, min_segment: int) -> Tensor:
    """(n,) segment of each audio token, from the n - 1 cosines between neighbours, without asking the device.

    A segment begins at a token whose cosine with the one before is below `threshold`, at least `min_segment` tokens after the last
    beginning. Where the next segment begins is a function of where one begins, so doubling the step of that function finds all of them.
    """
    n = cosine.shape[0] + 1
    place = torch.arange(n + 1, device=cosine.device)
    begins = torch.zeros(n + 1, dtype=torch.bool, device=cosine.device)
    begins[1:n] = cosine < threshold
    nearest = torch.where(begins, place, n).flip(0).cummin(0).values.flip(0)
    after = nearest[(place + min_segment).clamp(max=n)]
    reached = (place == 0).long()
    for _ in range((n // min_segment).bit_length()):
        reached = reached | torch.zeros_like(reached).index_add(0, after, reached).clamp(max=1)
        after = after[after]
    return reached[:n].cumsum(0) - 1


def video_segments(of_audio: Tensor, layout: MediaLayout, *, whole: bool) -> Tensor:
    """(m,) segment of each video token: the beginnings of `of_audio` (n,) mapped linearly, `whole` to the nearest frame.

    Of segments that begin at the same video token, the last one has it.
    """
    n, video = of_audio.shape[0], layout.video
    place = torch.arange(n, device=of_audio.device)
    place = (2 * place * layout.frames + n) // (2 * n) * layout.frame_size if whole else place * video // n
    begins = torch.cat((of_audio.new_ones(1), of_audio.diff()))
    first = torch.zeros(video + 1, dtype=torch.int64, device=of_audio.device).scatter_reduce(0, place, of_audio * begins, "amax")
    return first[:video].cummax(0).values


@dataclass(frozen=True)
class SegmentFrames:
    """Video tokens cut into frames that start where their segment starts; all (m,).

    Attributes:
        segment: segment of each token, ascending.
        group: number of the token's frame; tokens outside every whole frame form one group per segment, numbered after the frames.
        cell: place in the frame.
        even: whether the token is in a frame with an even number in its segment (and in a whole one).
        even_frame: number of that frame among all even ones.
        framed: whether the token is in a whole frame.
        kept_whole: whether the token's segment is too short for selection.
        size: tokens of a frame.
        segments: upper bound of the number of segments.
    """

    segment: Tensor
    group: Tensor
    cell: Tensor
    even: Tensor
    even_frame: Tensor
    framed: Tensor
    kept_whole: Tensor
    size: int
    segments: int

    @classmethod
    def of(cls, segment: Tensor, segments: int, size: int, shortest: int) -> SegmentFrames:
        """Frames of `size` tokens; segments of less than `shortest` tokens are kept whole and have none."""
        lengths = topk.segment_sizes(segment, segments)
        short = lengths < shortest
        frames = torch.where(short, 0, lengths // size)
        evens = (frames + 1) // 2
        offset = torch.arange(segment.shape[0], device=segment.device) - (lengths.cumsum(0) - lengths)[segment]
        frame = offset // size
        framed = frame < frames[segment]
        number = torch.where(framed, (frames.cumsum(0) - frames)[segment] + frame, segment.shape[0] // size + segment)
        even_frame = (evens.cumsum(0) - evens)[segment] + frame // 2
        return cls(segment, number, offset % size, framed & (frame % 2 == 0), even_frame, framed, short[segment], size, segments)

    def shares(self, rates: Tensor) -> Tensor:
        """(groups,) tokens due to each group, for the drop rate of each segment. Tokens after a segment's last whole frame get none."""
        lengths = topk.segment_sizes(self.segment, self.segments).float()
        rest = torch.where(self.kept_whole, lengths[self.segment], 0.0)
        due = torch.where(self.framed, ((1 - rates) * self.size)[self.segment], rest)
        groups = self.segment.shape[0] // self.size + self.segments
        return torch.zeros(groups, device=rates.device).scatter(0, self.group, due)

    def scores(self, video: Tensor, spatial: diversity.Peaks) -> Tensor:
        """(m,) score of each token of `video` (m, d): even frames by spatial selection, odd ones by change since the frame before."""
        frames = self.segment.shape[0] // self.size
        most = max(1, min(frames, (frames + self.segments) // 2))
        place = torch.where(self.even, self.even_frame * self.size + self.cell, most * self.size)
        token = torch.arange(video.shape[0], device=video.device)
        table = torch.zeros(most * self.size + 1, dtype=torch.int64, device=video.device).scatter(0, place, token)
        centres = diversity.density_peaks(video[table[:-1]].view(most, self.size, -1), spatial).flatten()
        return torch.where(self.even, centres[place.clamp(max=most * self.size - 1)], change_since(video, self.size))


def change_since(video: Tensor, lag: int) -> Tensor:
    """(m,) minus the cosine of each token of `video` (m, d) with the one `lag` tokens before; 0 for the first ones."""
    block = topk.BLOCK * lag
    pairs = zip(video[lag:].split(block), video[:-lag].split(block), strict=True)
    parts = [-torch.cosine_similarity(now.float(), before.float(), dim=-1) for now, before in pairs]
    return torch.cat((torch.zeros(min(lag, video.shape[0]), device=video.device), *parts))
