"""How many audio and video tokens enter the decoder and leave each layer, for a target mean retention.

The budget of OmniDrop has two parts, a selection by modality at the input and a progressive drop inside the decoder; both follow from one
number. Host arithmetic on counts.

The number F is the mean over layers of the audio and video tokens left after each layer's cut, over those of the prompt. It is met
like this:

1. Input share r_0. The paper keeps 70 % of the audio and 40 % of the video (44.4 % of a 50 + 288 token chunk). That holds while
   1.5 F is below it; above, r_0 = min(1, 1.5 F), so that a third of the work is left to the query-guided part at any F. Rates move
   towards 1 together: rate(t) = base + t (1 - base), one t for both modalities.
2. `p_init` is 0.02 for F <= 0.2 and falls to 0 at F = 0.3, so that F = 0.2 and 0.3 fall on the paper's two settings. Decoders
   deeper than 36 layers take 0.02 * 36 / L, or the early layers alone would drop too much.
3. `p_final` is solved, at most 0.5. Where that is not enough, r_0 shrinks, both rates in proportion, until 0.5 is.
4. A last step of single tokens meets F to within one token of one layer (`schedule.blend`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from omnidrop_cli.prune.groups import InputBudget, MediaLayout
from omnidrop_cli.prune.schedule import MAX_RATE, Schedule, blend, fit

DEFAULT_KEEP = 0.3
AUDIO_KEEP = 0.7
VIDEO_KEEP = 0.4
INPUT_SHARE_PER_KEEP = 1.5


@dataclass(frozen=True, slots=True)
class Budget:
    """The whole plan in counts: what enters layer 0, what leaves each layer, and the schedule and rates behind it."""

    input: InputBudget
    keep_counts: tuple[int, ...]
    schedule: Schedule
    audio_ratio: float
    video_ratio: float

    def metadata(self, layout: MediaLayout) -> dict[str, float | int | str]:
        """Solved parameters and the mean retention in both conventions, for the report."""
        entering = (self.input.total, *self.keep_counts[:-1])
        scale = len(self.keep_counts) * layout.total
        return {
            "audio_keep": round(self.audio_ratio, 4),
            "video_keep": round(self.video_ratio, 4),
            "p_init": round(self.schedule.p_init, 4),
            "p_final": round(self.schedule.p_final, 4),
            "retention_after": round(sum(self.keep_counts) / scale, 4),
            "retention_entering": round(sum(entering) / scale, 4),
        }


@lru_cache(maxsize=256)  # a prompt is planned when it is checked and when it is read, and a clip has many questions
def solve(
    layout: MediaLayout,
    schedule: Schedule,
    keep: float,
    *,
    p_init: float | None = None,
    p_final: float | None = None,
    audio_keep: float | None = None,
    video_keep: float | None = None,
) -> Budget:
    """The budget whose mean retention after the cut is `keep`, by the rule of this module.

    `schedule` gives depth, shape, beta and t_mid. A given `p_final` is held and the input share solved instead; a given
    `audio_keep` or `video_keep` is held, and only `p_final` moves. Raises `ValueError` where what is held cannot meet `keep`.
    """
    layers = schedule.layers
    target = max(layers, round(keep * layers * layout.total))
    schedule = replace(schedule, p_init=default_p_init(keep, schedule) if p_init is None else p_init)
    bases = (AUDIO_KEEP if audio_keep is None else audio_keep, VIDEO_KEEP if video_keep is None else video_keep)
    held = audio_keep is not None or video_keep is not None
    if layers == 1 and p_final is None and not held:  # the only layer drops nothing
        return input_only(layout, layers, keep)
    opening = 1.0 if held else _opening(layout, keep, bases)

    def budget(scale: float) -> InputBudget:
        return InputBudget.of_ratios(layout, *_scaled(bases, scale))

    def least(scale: float) -> int:
        return sum(replace(schedule, p_final=MAX_RATE if p_final is None else p_final).keep_counts(budget(scale).total))

    if p_final is not None:
        schedule = replace(schedule, p_final=p_final)
        scale, below = (1.0, 1.0) if held else _around(least, target, 2.0)
        if least(scale) < target - layers or (held and least(scale) > target + layers):
            raise ValueError(f"p_final={p_final:g} gives a mean of {least(scale) / (layers * layout.total):.3f}, not {keep:g}")
        lower = schedule.keep_counts(budget(below).total)
        return Budget(budget(scale), blend(schedule.keep_counts(budget(scale).total), lower, target), schedule, *_scaled(bases, scale))
    scale = opening
    if least(opening) > target:
        if held:
            raise ValueError(f"the input shares keep too much for a mean of {keep:g}, whatever is dropped inside; lower them")
        above, scale = _around(least, target, opening)
        if budget(scale).total * layers < target:
            scale = above
    if held and budget(scale).total * layers < target - layers:
        raise ValueError(f"the input shares keep less than a mean of {keep:g}; raise them")
    entering = budget(scale)
    schedule, counts = fit(schedule, entering.total, target)
    return Budget(entering, counts, schedule, *_scaled(bases, scale))


def from_schedule(layout: MediaLayout, schedule: Schedule, audio_keep: float | None = None, video_keep: float | None = None) -> Budget:
    """The schedule as it stands, nothing solved: how the paper runs its presets."""
    rates = (AUDIO_KEEP if audio_keep is None else audio_keep, VIDEO_KEEP if video_keep is None else video_keep)
    entering = InputBudget.of_ratios(layout, *rates)
    return Budget(entering, schedule.keep_counts(entering.total), schedule, *rates)


def input_only(layout: MediaLayout, layers: int, keep: float, audio_keep: float | None = None, video_keep: float | None = None) -> Budget:
    """No drop inside: `round(keep * n)` tokens enter layer 0 and stay, split between the modalities as `solve` would."""
    bases = (AUDIO_KEEP if audio_keep is None else audio_keep, VIDEO_KEEP if video_keep is None else video_keep)
    target = max(1, round(keep * layout.total))
    scale, _ = _around(lambda s: InputBudget.of_ratios(layout, *_scaled(bases, s)).total, target, 2.0)
    rates = _scaled(bases, scale)
    entering = InputBudget.of_total(layout, target, InputBudget.of_ratios(layout, *rates).audio)
    return Budget(entering, (target,) * layers, Schedule(layers), *rates)


def uniform(layout: MediaLayout, keep: float) -> tuple[int, int]:
    """Audio and video tokens kept when both modalities keep the share `keep`; their sum is exact, and at least one."""
    total = max(1, round(keep * layout.total))
    audio = InputBudget.of_total(layout, total, round(keep * layout.audio)).audio
    return audio, total - audio


def default_p_init(keep: float, schedule: Schedule) -> float:
    """0.02 up to F = 0.2, falling to 0 at 0.3; the exponential shape, which cannot start at 0, has at least 0.001."""
    p_init = 0.02 * min(1.0, max(0.0, (0.3 - keep) / 0.1)) * min(1.0, 36 / schedule.layers)
    return max(p_init, 0.001) if schedule.shape == "exponential" else p_init


def _opening(layout: MediaLayout, keep: float, bases: tuple[float, float]) -> float:
    base = (bases[0] * layout.audio + bases[1] * layout.video) / layout.total
    share = min(1.0, max(base, INPUT_SHARE_PER_KEEP * keep))
    return 1.0 + (share - base) / (1 - base)


def _scaled(bases: tuple[float, float], scale: float) -> tuple[float, float]:
    """Both rates at `scale`: in proportion below 1, towards 1 together from 1 to 2."""
    audio, video = (base * scale if scale <= 1 else base + (scale - 1) * (1 - base) for base in bases)
    return audio, video


def _around(value: Callable[[float], int], target: int, high: float) -> tuple[float, float]:
    """Neighbouring scales in [0, high]: the first gives at least `target` (or is `high`), the second at most (or is 0)."""
    low = 0.0
    if value(high) <= target:
        return high, high
    for _ in range(50):
        middle = (low + high) / 2
        if value(middle) > target:
            high = middle
        else:
            low = middle
    return high, low
