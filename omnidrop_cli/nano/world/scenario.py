"""The timeline of a synthetic clip: scenes, words and beeps with their times and positions, and how to draw one at random.

Frames, audio, labels and questions are all derived from it. Times are seconds from the start of the clip; positions are fractions of the
frame; sizes are in 28-pixel cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from omnidrop_cli.nano.world.vocabulary import WORDS, Item, items

CELL_PX = 28
"""Side of one video token: patch size 14 after the 2x2 merge."""

FRAME_CELLS = ((3, 3), (3, 3), (2, 4), (4, 2))
"""Rows and columns of frames the model is trained on; square ones twice as often."""

MAX_WORDS = 8
MAX_ITEMS = 8
WORD_MARGIN_S = 0.12
BEEP_GAP_S = 0.15

WordTaker = Callable[[np.random.Generator, str, int], float]
"""(rng, word, voice) -> seconds that the voice takes to say the word."""


@dataclass(frozen=True, slots=True)
class Show:
    """An item on the screen from `start_s` to `end_s`, gliding from `begin` to `end` (x, y of its centre). `size` is in cells."""

    item: Item
    start_s: float
    end_s: float
    begin: tuple[float, float]
    end: tuple[float, float]
    size: float

    def centre(self, time_s: float) -> tuple[float, float]:
        share = min(1.0, max(0.0, (time_s - self.start_s) / (self.end_s - self.start_s)))
        return (
            self.begin[0] + share * (self.end[0] - self.begin[0]),
            self.begin[1] + share * (self.end[1] - self.begin[1]),
        )


@dataclass(frozen=True, slots=True)
class Spoken:
    """A word that voice number `voice` says."""

    word: str
    start_s: float
    end_s: float
    voice: int


@dataclass(frozen=True, slots=True)
class Beep:
    start_s: float
    end_s: float
    hz: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """A whole clip. Shows, words and beeps are in order of time; items and words occur once each.

    `look` seeds everything that does not matter to a question: background, jitter of colour, noise. `noise` is the level of the
    background noise against the speech (0 none, 1 as loud).
    """

    duration_s: float
    cells: tuple[int, int]
    has_video: bool
    has_audio: bool
    shows: tuple[Show, ...]
    words: tuple[Spoken, ...]
    beeps: tuple[Beep, ...]
    noise: float
    look: int
    needle: bool

    @property
    def grids(self) -> int:
        """Temporal grids of the picture: two frames, one second each."""
        return max(2, round(self.duration_s)) if self.has_video else 0

    def words_during(self, show: Show) -> tuple[Spoken, ...]:
        return tuple(w for w in self.words if show.start_s <= (w.start_s + w.end_s) / 2 < show.end_s)

    def shows_during(self, word: Spoken) -> tuple[Show, ...]:
        middle = (word.start_s + word.end_s) / 2
        return tuple(s for s in self.shows if s.start_s <= middle < s.end_s)

    def shown_with(self, show: Show) -> tuple[Show, ...]:
        """What else is on the screen: things of one scene come and go together."""
        return tuple(s for s in self.shows if s.start_s == show.start_s and s is not show)


@dataclass(frozen=True, slots=True)
class Profile:
    """What clips to draw. `voices` are the voice numbers allowed; `looks` the range that `look` is drawn from; `kinds` the
    shares of objects, shapes, digits and signs. `pairs` is the share of scenes with two things at once."""

    min_s: int = 2
    max_s: int = 10
    needle: float = 0.0
    silent: float = 0.12
    sound_only: float = 0.12
    voices: Sequence[int] = (0,)
    looks: tuple[int, int] = (0, 1 << 30)
    kinds: tuple[float, float, float, float] = (0.62, 0.2, 0.09, 0.09)
    pairs: float = 0.2


def typical_word_s(rng: np.random.Generator, word: str, voice: int) -> float:
    """A stand-in for real voices: the spread of durations they have."""
    return float(rng.uniform(0.3, 0.7) + 0.02 * len(word))


def sample(rng: np.random.Generator, profile: Profile, word_s: WordTaker = typical_word_s) -> Scenario:
    """Draw one clip. Same generator state, same clip."""
    kind = rng.random()
    has_audio = kind >= profile.silent
    has_video = not has_audio or kind < 1 - profile.sound_only
    needle = bool(rng.random() < profile.needle)
    duration = int(rng.integers(profile.min_s, profile.max_s + 1))
    cells = FRAME_CELLS[int(rng.integers(len(FRAME_CELLS)))]
    scenes = _scenes(rng, duration, needle)
    shows = _shows(rng, scenes, cells, needle, profile) if has_video else ()
    words, beeps = _sounds(rng, scenes, needle, profile, word_s) if has_audio else ((), ())
    noise = float(rng.choice([0.0, rng.uniform(0.02, 0.12), rng.uniform(0.1, 0.3)], p=[0.5, 0.3, 0.2]))
    look = int(rng.integers(*profile.looks))
    return Scenario(float(duration), cells, has_video, has_audio, shows, words, beeps, noise, look, needle)


def _scenes(rng: np.random.Generator, duration: int, needle: bool) -> list[tuple[float, float, bool]]:
    """(start, end, filled) that tile the clip. Needle clips are empty but for one to four single seconds."""
    if needle:
        filled = set(rng.choice(duration, size=min(duration, int(rng.integers(1, 5))), replace=False).tolist())
        scenes: list[tuple[float, float, bool]] = []
        for second in range(duration):
            if second in filled or not scenes or scenes[-1][2]:
                scenes.append((second, second + 1, second in filled))
            else:
                scenes[-1] = (scenes[-1][0], second + 1, False)
        return [(float(a), float(b), f) for a, b, f in scenes]
    longest = 2 if duration <= 4 else 3 if duration <= 10 else max(4, duration // 5)
    scenes, now = [], 0.0
    while now < duration:
        length = float(rng.integers(1, longest + 1)) + (0.5 if rng.random() < 0.2 else 0.0)
        end = min(float(duration), now + length)
        if duration - end < 1:
            end = float(duration)
        scenes.append((now, end, bool(rng.random() < 0.85)))
        now = end
    return scenes


def _shows(
    rng: np.random.Generator,
    scenes: Sequence[tuple[float, float, bool]],
    cells: tuple[int, int],
    needle: bool,
    profile: Profile,
) -> tuple[Show, ...]:
    pool = _draw_items(rng, MAX_ITEMS, profile.kinds)
    shows: list[Show] = []
    for start, end, filled in scenes:
        together = 0 if not filled else 2 if rng.random() < profile.pairs and not needle else 1
        taken: list[tuple[int, int]] = []
        for _ in range(together):
            if not pool:
                break
            item = pool.pop()
            rows, cols = cells
            free = [(r, c) for r in range(rows) for c in range(cols) if all(abs(r - a) + abs(c - b) > 1 for a, b in taken)]
            row, col = free[int(rng.integers(len(free)))]
            taken.append((row, col))
            alone = together == 1 and not needle
            size = float(rng.uniform(0.75, 0.95) if not alone else rng.uniform(0.8, 1.7))
            if item.kind == "sign":
                size = max(size, 1.3)  # letters of eight pixels or more
            begin = _inside((col + 0.5 + rng.uniform(-0.08, 0.08)) / cols, (row + 0.5 + rng.uniform(-0.08, 0.08)) / rows, size, cells)
            target = begin
            if alone and end - start >= 2 and rng.random() < 0.4:
                target = _inside(begin[0] + rng.uniform(-0.3, 0.3), begin[1] + rng.uniform(-0.3, 0.3), size, cells)
            shows.append(Show(item, start, end, begin, target, size))
    return tuple(sorted(shows, key=lambda show: (show.start_s, *_cell(show, cells))))


def _cell(show: Show, cells: tuple[int, int]) -> tuple[int, int]:
    """Row and column of the centre at first. What appears together is listed in reading order: a list has one right wording."""
    return int(show.begin[1] * cells[0]), int(show.begin[0] * cells[1])


def _draw_items(rng: np.random.Generator, count: int, shares: Sequence[float]) -> list[Item]:
    """Items of different names; of shapes no two share a form, so that "which colour is the circle" has one answer."""
    everything = items()
    kinds = rng.choice(["object", "shape", "digit", "sign"], size=count, p=shares)
    drawn: list[Item] = []
    for kind in kinds:
        choices = [i for i in everything if i.kind == kind and all(i.name != d.name for d in drawn)]
        if kind in ("digit", "sign") and any(d.kind == kind for d in drawn):
            continue  # "which number is shown" has one answer
        if choices:
            drawn.append(choices[int(rng.integers(len(choices)))])
    return drawn


def _inside(x: float, y: float, size: float, cells: tuple[int, int]) -> tuple[float, float]:
    half_x, half_y = size / 2 / cells[1], size / 2 / cells[0]
    return float(np.clip(x, half_x, 1 - half_x)), float(np.clip(y, half_y, 1 - half_y))


def _sounds(
    rng: np.random.Generator,
    scenes: Sequence[tuple[float, float, bool]],
    needle: bool,
    profile: Profile,
    word_s: WordTaker,
) -> tuple[tuple[Spoken, ...], tuple[Beep, ...]]:
    """Words and beeps, each inside one scene, so that what is said while something is shown is never in doubt."""
    voice = int(rng.choice(profile.voices))
    pool = list(rng.permutation(len(WORDS))[:MAX_WORDS])
    speaks, beeping = rng.random() < 0.9, rng.random() < 0.35
    words: list[Spoken] = []
    beeps: list[Beep] = []
    most_beeps = int(rng.integers(1, 6))
    for start, end, filled in scenes:
        now = start + WORD_MARGIN_S
        talk = (0.75 if filled else 0.15) if needle else 0.8
        while now < end - WORD_MARGIN_S:
            if beeping and len(beeps) < most_beeps and rng.random() < 0.25:
                length = float(rng.uniform(0.08, 0.2))
                if now + length > end - WORD_MARGIN_S:
                    break
                beeps.append(Beep(now, now + length, float(rng.uniform(500, 2500))))
                now += length + BEEP_GAP_S + float(rng.uniform(0, 0.3))
            elif speaks and pool and rng.random() < talk:
                word = WORDS[pool[-1]]
                length = word_s(rng, word, voice)
                if now + length > end - WORD_MARGIN_S:
                    break
                pool.pop()
                slack = min(end - WORD_MARGIN_S - now - length, 1.0)
                at = now + float(rng.uniform(0, slack))
                words.append(Spoken(word, at, at + length, voice))
                now = at + length + WORD_MARGIN_S + float(rng.uniform(0, 0.4))
            else:
                now += float(rng.uniform(0.4, 1.2 if not needle else 8.0))
    return tuple(words), tuple(beeps)
