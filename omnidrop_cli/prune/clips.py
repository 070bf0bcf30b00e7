"""A method over several clips: each is planned and pruned as if the prompt had no other.

In: a method and the token map of a prompt. Out: one plan, whose stages run the method's own stages clip by clip. So `keep` is met in every
clip, and no window, pair of grids or segment reaches from one clip into the next. Attention alone is that of the whole prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from omnidrop_cli.outputs import TokenMap
from omnidrop_cli.prune.base import InputView, LayerSelection, LayerView, Method, Plan, PromptInfo, Queries, Selection, method_mistake


def plan_clips(method: Method, prompt: PromptInfo) -> Plan:
    """What a method does to a prompt of any number of clips.

    Raises:
        ValueError: the method cannot work with one of the clips.
        OmnidropError: the method gives no plan.
    """
    count = prompt.tokens.clips
    if count < 2:
        return _plan(method, prompt)
    parts, start = [], _Start()
    for clip in range(count):
        tokens = prompt.tokens.alone(clip)
        parts.append(_Part(tokens, _plan(method, replace(prompt, tokens=tokens)), start))
        start = start.after(tokens)
    stages, plans = ClipStages(parts), [part.plan for part in parts]
    return Plan(
        input_stage=stages.select if any(plan.input_stage is not None for plan in plans) else None,
        in_llm_stage=stages if any(plan.in_llm_stage is not None for plan in plans) else None,
        metadata=_by_clip([plan.metadata or {} for plan in plans]),
    )


def _plan(method: Method, prompt: PromptInfo) -> Plan:
    plan = method.plan(prompt)
    if not isinstance(plan, Plan):
        raise method_mistake(method.name, f"planned {type(plan).__name__}, not a Plan")
    return plan


def _by_clip(facts: Sequence[Mapping[str, float | int | str]]) -> dict[str, float | int | str]:
    """Facts of all clips: a value that they share, or the values in the order of the clips, as in "70 / 65"."""
    found: dict[str, float | int | str] = {}
    for name in dict.fromkeys(name for one in facts for name in one):
        values = [one.get(name, "-") for one in facts]
        found[name] = values[0] if len(set(values)) == 1 else " / ".join(map(str, values))
    return found


@dataclass(frozen=True, slots=True)
class _Start:
    """Audio tokens, video tokens and chunks of the clips before one."""

    audio: int = 0
    video: int = 0
    chunks: int = 0

    def after(self, tokens: TokenMap) -> _Start:
        """The start of the clip after the one that `tokens` describe."""
        counts = tokens.counts()
        return _Start(self.audio + counts.audio, self.video + counts.video, self.chunks + int(tokens.chunk.max(initial=-1)) + 1)


class _Part:
    """One clip: its map, its plan, and its place among the tokens of the prompt."""

    def __init__(self, tokens: TokenMap, plan: Plan, start: _Start) -> None:
        counts = tokens.counts()
        self.plan, self.start, self.media, self._tokens = plan, start, counts.media, tokens
        self.audio, self.video = slice(start.audio, start.audio + counts.audio), slice(start.video, start.video + counts.video)

    def view(self, whole: InputView) -> InputView:
        """What an input stage sees of this clip."""
        return InputView(
            tokens=self._tokens,
            audio=whole.audio[self.audio],
            video=whole.video[self.video],
            query=whole.query,
            audio_attention=None if whole.audio_attention is None else whole.audio_attention[self.audio],
            video_attention=None if whole.video_attention is None else whole.video_attention[self.video],
        )


class ClipStages:
    """The stages of several plans, one per clip, as an input stage (`select`) and as an in-LLM stage.

    The audio and video tokens of a clip lie together in the prompt, and so do its survivors: a clip is a slice of every view. How many
    of them are alive is counted here, on the host.
    """

    def __init__(self, parts: Sequence[_Part]) -> None:
        self._parts = parts
        self._entering = [part.media for part in parts]
        self._before = self._after = self._entering

    def select(self, view: InputView) -> Selection:
        """What enters layer 0, chosen clip by clip."""
        views = [part.view(view) for part in self._parts]
        chosen = [
            Selection(_all(own.audio), _all(own.video)) if part.plan.input_stage is None else part.plan.input_stage(own)
            for part, own in zip(self._parts, views, strict=True)
        ]
        self._entering = [one.audio.shape[0] + one.video.shape[0] for one in chosen]
        return Selection(
            audio=torch.cat([one.audio + part.start.audio for part, one in zip(self._parts, chosen, strict=True)]),
            video=torch.cat([one.video + part.start.video for part, one in zip(self._parts, chosen, strict=True)]),
            audio_embeds=_states([one.audio_embeds for one in chosen], [own.audio for own in views], [one.audio for one in chosen]),
            video_embeds=_states([one.video_embeds for one in chosen], [own.video for own in views], [one.video for one in chosen]),
        )

    def keep_count(self, layer: int, alive: int) -> int:
        """Survivors of `layer`, of all clips together."""
        self._before = self._after if layer else self._entering
        self._after = [
            before if part.plan.in_llm_stage is None else min(before, part.plan.in_llm_stage.keep_count(layer, before))
            for part, before in zip(self._parts, self._before, strict=True)
        ]
        return sum(self._after)

    def __call__(self, view: LayerView, keep: int) -> Tensor | LayerSelection:
        """What leaves the layer, chosen clip by clip."""
        starts = [0, *accumulate(self._before)]
        attention: dict[Queries, Tensor] = {}
        index, merged = [], []
        for part, start, before, after in zip(self._parts, starts, self._before, self._after, strict=False):
            own, stage = _ClipView(view, slice(start, start + before), part.start, attention), part.plan.in_llm_stage
            chosen = _all(own.index) if stage is None or after == before else stage(own, after)
            index.append((chosen.index if isinstance(chosen, LayerSelection) else chosen) + start)
            merged.append(chosen.hidden if isinstance(chosen, LayerSelection) else None)
        hidden = _states(merged, [view.hidden] * len(merged), index) if any(one is not None for one in merged) else None
        return torch.cat(index) if hidden is None else LayerSelection(torch.cat(index), hidden)


class _ClipView:
    """`LayerView` of one clip: a slice of that of the prompt, with indices and chunks as in the clip's own map."""

    def __init__(self, whole: LayerView, part: slice, start: _Start, attention: dict[Queries, Tensor]) -> None:
        """`attention` is shared by the clips of a layer, so that it is computed once."""
        self.layer, self.num_layers = whole.layer, whole.num_layers
        self._whole, self._part, self._start, self._attention = whole, part, start, attention

    @property
    def modality(self) -> Tensor:
        return self._whole.modality[self._part]

    @property
    def chunk(self) -> Tensor:
        return self._whole.chunk[self._part] - self._start.chunks

    @property
    def index(self) -> Tensor:
        return self._whole.index[self._part] - self._start.audio - self._start.video

    @property
    def hidden(self) -> Tensor:
        return self._whole.hidden[self._part]

    @property
    def text_hidden(self) -> Tensor:
        return self._whole.text_hidden

    def attention(self, queries: Queries = "query") -> Tensor:
        if queries not in self._attention:
            self._attention[queries] = self._whole.attention(queries)
        return self._attention[queries][self._part]


def _all(tokens: Tensor) -> Tensor:
    """The indices of all of `tokens` (n, ...)."""
    return torch.arange(tokens.shape[0], device=tokens.device)


def _states(given: Sequence[Tensor | None], features: Sequence[Tensor], chosen: Sequence[Tensor]) -> Tensor | None:
    """The survivors' states end to end where a clip has merged ones: those `given`, else the `chosen` rows of `features` as they are."""
    if all(one is None for one in given):
        return None
    return torch.cat([own[index] if one is None else one for one, own, index in zip(given, features, chosen, strict=True)])
