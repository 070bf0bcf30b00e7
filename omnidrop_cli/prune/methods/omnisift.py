"""OmniSIFT: salient video, then audio ranked by a trained network that attends to the kept video (arXiv 2602.04804)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from omnidrop_cli.errors import UsageError
from omnidrop_cli.outputs import Modality, TokenMap
from omnidrop_cli.prune import topk
from omnidrop_cli.prune.audio_selector import AudioSelector, has_selector, load_selector, untrained_selector
from omnidrop_cli.prune.base import InputView, Plan, PromptInfo, Selection
from omnidrop_cli.prune.composition import InputMethod, paper_ratios
from omnidrop_cli.prune.groups import GridPairs, MediaLayout, Segments, proportional
from omnidrop_cli.prune.method_options import option

WINDOWS_AT_ONCE = 64
"""Windows that pass the selector together (two minutes in the published layout); memory does not grow beyond that."""

UNTRAINED = "untrained"


@dataclass(frozen=True)
class OmniSift(InputMethod):
    """Windows of two temporal grids. STVP (Sec. 3.2): the first grid keeps the tokens least similar to its mean, the second those least
    similar to the same place of the unpruned first. VGAS (Sec. 3.3): audio is ranked by a small network that attends to the window's
    kept video.

    The network is the one in the model's own checkpoint unless `selector` names another; without one, planning fails. The published
    decoder was trained together with it; on another decoder its scores have no published value. Audio after the last grid belongs to the
    last window, as in the published code. Audio of a clip without video is ranked by itself, where the published code keeps all of it.
    """

    name: ClassVar[str] = "omnisift"
    summary: ClassVar[str] = "salient video, audio chosen by a trained selector, before the language model"
    paper: ClassVar[str] = "arXiv 2602.04804"
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper-35": {"audio_keep": 0.6, "video_keep": 0.33},
        "paper-25": {"audio_keep": 0.5, "video_keep": 0.23},
    }
    ratios = paper_ratios(presets)

    selector: str | None = option(
        None, "checkpoint file or directory with thinker.compressor.* weights, or `untrained`; without, the model's own"
    )

    def plan(self, prompt: PromptInfo) -> Plan:
        plan = super().plan(prompt)
        if plan.input_stage is None:
            return plan
        return Plan(plan.input_stage, None, {**(plan.metadata or {}), "selector": self.selector or "the model's own"})

    def make_input_stage(self, prompt: PromptInfo, layout: MediaLayout, audio: int, video: int) -> Sift:
        """See `InputMethod`.

        Raises:
            ValueError: audio is to be pruned, no trained selector is found, and `untrained` was not given.
        """
        return Sift(audio, video, layout, self._selector(prompt) if audio < layout.audio else None)

    def _selector(self, prompt: PromptInfo) -> AudioSelector | None:
        """The trained selector; None for `untrained`, whose width depends on the embeddings."""
        if self.selector == UNTRAINED:
            return None
        if self.selector is not None:
            return load_selector(self.selector)
        if prompt.checkpoint is None or not has_selector(prompt.checkpoint):
            raise ValueError("this model's checkpoint has no trained audio selector; give selector=PATH, or selector=untrained")
        return load_selector(str(prompt.checkpoint))


@dataclass(frozen=True)
class Sift:
    """Keeps `audio` and `video` tokens, the same share of every window. Its three steps are separate for training, which needs scores."""

    audio: int
    video: int
    layout: MediaLayout
    selector: AudioSelector | None

    @torch.no_grad()
    def __call__(self, view: InputView) -> Selection:
        video = self.salient(view)
        present = view.audio.shape[0]
        if self.audio == present:
            return Selection(torch.arange(present, device=view.audio.device), video)
        return Selection(self.best(view, self.scores(view, video)), video)

    def salient(self, view: InputView) -> Tensor:
        """(video,) ascending indices of the salient video tokens (STVP)."""
        present, size = view.video.shape[0], self.layout.frame_size
        if self.video == present:
            return torch.arange(present, device=view.video.device)
        similarity = topk.similarity_to(view.video, size, saliency_references(GridPairs.of(view.tokens).grid))
        return topk.least_similar(similarity, self._keep_counts())

    def scores(self, view: InputView, video: Tensor) -> Tensor:
        """(n_a,) score of every audio token given the kept `video` (VGAS); gradients reach the selector.

        Raises:
            UsageError: the selector was made for embeddings of another width.
        """
        dim = view.audio.shape[1]
        selector = (self.selector or untrained_selector(dim)).to(view.audio.device)
        if selector.dim != dim:
            raise UsageError(f"the selector reads embeddings of {selector.dim}, and this model has {dim}", "give the model's own selector")
        pairs = GridPairs.of(view.tokens)
        of_video = [pair for pair, count in zip(pairs.grid, self._keep_counts(), strict=True) for _ in range(count)]
        return torch.cat(list(_scores(selector, view.audio, audio_windows(view.tokens), view.video[video], of_video)))

    def best(self, view: InputView, scores: Tensor) -> Tensor:
        """(audio,) ascending indices of the audio tokens with the highest `scores` (n_a,) of every window."""
        groups = Segments.of(audio_windows(view.tokens))
        return topk.top_within(scores, topk.on_device(groups.number, scores), groups.keep_counts(self.audio))

    def _keep_counts(self) -> tuple[int, ...]:
        """Tokens kept of each grid."""
        return proportional((self.layout.frame_size,) * self.layout.frames, self.video)


def audio_windows(tokens: TokenMap) -> Sequence[int]:
    """The window of each audio token: its grid pair, or, without video, its two-second chunk."""
    pairs = GridPairs.of(tokens, trailing=True)
    if pairs.count:
        return pairs.audio
    chunks: list[int] = tokens.chunk[tokens.modality == Modality.AUDIO].tolist()
    return chunks


def saliency_references(windows: Sequence[int]) -> list[int]:
    """The grid each grid is compared with: a window's first with itself (that is, its mean), the others with that first."""
    first: dict[int, int] = {}
    return [first.setdefault(window, grid) for grid, window in enumerate(windows)]


def _scores(selector: AudioSelector, audio: Tensor, of_audio: Sequence[int], video: Tensor, of_video: Sequence[int]) -> Iterator[Tensor]:
    """Scores of all audio tokens in order, a block of windows at a time. `of_audio` and `of_video` are ascending windows."""
    windows = sorted(set(of_audio))
    for start in range(0, len(windows), WINDOWS_AT_ONCE):
        block = windows[start : start + WINDOWS_AT_ONCE]
        audio_block, is_audio = _padded(audio, of_audio, block)
        video_block, is_video = _padded(video, of_video, block)
        flat = selector(audio_block, video_block, is_video).flatten()
        yield flat[topk.true_indices(is_audio.flatten(), sum(bisect_right(of_audio, w) - bisect_left(of_audio, w) for w in block))]


def _padded(features: Tensor, windows: Sequence[int], block: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(w, longest, d) float32 tokens of each window of `block`, zero-padded, and (w, longest) where there is a token."""
    spans = [(bisect_left(windows, window), bisect_right(windows, window)) for window in block]
    longest = max(1, *(end - start for start, end in spans))
    token = [start + i for start, end in spans for i in range(end - start)]
    place = [row * longest + i for row, (start, end) in enumerate(spans) for i in range(end - start)]
    at = topk.on_device(place, features)
    flat = features.new_zeros(len(block) * longest, features.shape[1], dtype=torch.float32)
    present = torch.zeros(len(block) * longest, dtype=torch.bool, device=features.device)
    flat.index_copy_(0, at, features[topk.on_device(token, features)].float())
    return flat.view(len(block), longest, -1), present.index_fill_(0, at, True).view(len(block), longest)
