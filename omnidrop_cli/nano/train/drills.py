"""Training-only questions that practise single links of the benchmark's questions.

"What is said while X is shown" takes three: X found in the clip, the word found next to it, X found by the answer. Nothing is learnt of a
link while the others are missing, so the last ones are taught where they need no clip: say what a question is about, name an option by
its letter. A list with two things at once takes another: from one of them to the other, at the same time.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omnidrop_cli.nano.world.multiple_choice import LETTERS, STYLES, as_choice
from omnidrop_cli.nano.world.questions import WorldQuestion
from omnidrop_cli.nano.world.scenario import Scenario
from omnidrop_cli.nano.world.vocabulary import WORDS, items

ECHOES = ("Which word is {a}?", "What is {a}?", "Is it {a}?")
NUMBERS = tuple(str(number) for number in range(13))
CHOICES = ("Which is {a}?", "What is {a}?")
PARTNERS = ("What is shown with {a}?", "What can be seen with {a}?", "What is on the screen with {a}?")
ALONE = 0.3
"""Chance that a thing alone on the screen is asked about: the answer is always the same."""


def draw(timeline: Scenario, rng: np.random.Generator) -> tuple[WorldQuestion, ...]:
    """One of each sort: two about random things, one about the clip if it shows any."""
    return echo(rng), pick(rng), *partner(timeline, rng)


def echo(rng: np.random.Generator) -> WorldQuestion:
    """What is the red circle? red circle."""
    words = rng.random() < 0.4
    pool = [(word, word) for word in WORDS] if words else [(item.phrase, item.text) for item in items()]
    about, answer = pool[int(rng.integers(len(pool)))]
    return WorldQuestion("echo", "drill", _one(ECHOES, rng).format(a=about), answer)


def pick(rng: np.random.Generator) -> WorldQuestion:
    """Which is the fork? A. boat B. fork C. five D. lamp, in one of the benchmarks' wordings."""
    lot = rng.random()
    pool = WORDS if lot < 0.4 else tuple(item.text for item in items()) if lot < 0.7 else NUMBERS
    right, *wrong = (pool[i] for i in rng.permutation(len(pool))[: len(LETTERS)])
    asked = WorldQuestion("pick", "drill", _one(CHOICES, rng).format(a=right), right, tuple(wrong))
    return replace(as_choice(asked, _one(STYLES, rng), rng), category="drill")


def partner(timeline: Scenario, rng: np.random.Generator) -> tuple[WorldQuestion, ...]:
    """What is shown with the dog? red circle."""
    asked = [show for show in timeline.shows if timeline.shown_with(show) or rng.random() < ALONE]
    if not asked:
        return ()
    one = asked[int(rng.integers(len(asked)))]
    answer = ", ".join(other.item.text for other in timeline.shown_with(one)) or "nothing"
    return (WorldQuestion("shown with", "drill", _one(PARTNERS, rng).format(a=one.item.phrase), answer),)


def _one(listed: tuple[str, ...], rng: np.random.Generator) -> str:
    return listed[int(rng.integers(len(listed)))]
